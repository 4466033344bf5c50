/* The messages that are read and written by hand, against the code that protoc generates from the same
 * definitions: the same bytes out, the same values in, by a seeded generator; and whatever is no message is
 * refused within its bounds (G17). */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "kurrent/persistent_subscriptions.pb-c.h"
#include "kurrent/shared.pb-c.h"
#include "kurrent/streams.pb-c.h"
#include "kurrent/wire_in.h"
#include "kurrent/wire_out.h"
#include "test.h"

typedef EventStore__Client__UUID uuid_message;
typedef EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent recorded_message;
typedef EventStore__Client__Streams__BatchAppendReq__ProposedMessage proposed_message;

enum { ROUNDS = 3000, TEXT_SIZE_MAX = 300 };

/* ---- chance ---- */

static uint64_t seed;

static uint64_t draw(void)
{
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed;
}

static uint64_t draw_below(uint64_t n)
{
        return draw() % n;
}

/* Numbers of every length, zero and the largest among them. */
static uint64_t draw_number(void)
{
        switch (draw_below(8)) {
        case 0:
                return 0;
        case 1:
                return UINT64_MAX;
        default:
                return draw() >> draw_below(64);
        }
}

static struct bytes draw_bytes(struct arena *a, size_t size_max, bool is_text)
{
        size_t size = draw_below(4) ? draw_below(size_max + 1) : draw_below(3);
        uint8_t *data = arena_get(a, size);

        for (size_t i = 0; i < size; i++)
                data[i] = (uint8_t)(is_text ? 'a' + draw_below(26) : draw());
        return bytes_of(data, size);
}

static struct bytes draw_name(struct arena *a)
{
        struct bytes name = draw_bytes(a, TEXT_SIZE_MAX, true);

        return name.size ? name : BYTES_LITERAL("n");
}

static struct event_id draw_id(void)
{
        struct event_id id;

        for (unsigned i = 0; i < sizeof(id.bytes); i++)
                id.bytes[i] = (uint8_t)draw();
        if (!draw_below(4)) /* a half of zero is not written at all */
                memset(id.bytes + 8 * draw_below(2), 0, 8);
        id.bytes[3] |= 1;
        return id;
}

/* ---- the same in the generated code ---- */

static ProtobufCBinaryData binary(struct bytes b)
{
        return (ProtobufCBinaryData){.len = b.size, .data = (uint8_t *)(uintptr_t)b.data};
}

static void *message_of(struct arena *a, const ProtobufCMessageDescriptor *d)
{
        ProtobufCMessage *m = arena_get(a, d->sizeof_message);

        protobuf_c_message_init(d, m);
        return m;
}
#define MESSAGE(name) message_of(a, &event_store__client__##name##__descriptor)

static EventStore__Client__Empty *empty_of(struct arena *a)
{
        return MESSAGE(empty);
}

static uuid_message *uuid_of(struct arena *a, const struct event_id *id, bool is_text)
{
        uuid_message *m = MESSAGE(uuid);
        char text[EVENT_ID_TEXT_SIZE + 1];

        if (is_text) {
                event_id_format(id, text);
                m->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRING;
                m->string = binary(arena_copy(a, bytes_of(text, EVENT_ID_TEXT_SIZE)));
        } else {
                m->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED;
                m->structured = MESSAGE(uuid__structured);
                event_id_to_halves(
                        id, &m->structured->most_significant_bits, &m->structured->least_significant_bits);
        }
        return m;
}

static EventStore__Client__StreamIdentifier *stream_of(struct arena *a, struct bytes name)
{
        EventStore__Client__StreamIdentifier *m = MESSAGE(stream_identifier);

        m->stream_name = binary(name);
        return m;
}

static struct bytes packed(struct arena *a, const void *message)
{
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *data = arena_get(a, size);

        protobuf_c_message_pack(message, data);
        return bytes_of(data, size);
}

static void assert_bytes(struct bytes got, struct bytes expected)
{
        assert_int_equal(got.size, expected.size);
        assert_memory_equal(got.data, expected.data, expected.size);
}

/* ---- events out ---- */

static struct event_view draw_event(struct arena *a)
{
        return (struct event_view){
                .id = draw_id(),
                .stream = draw_name(a),
                .type = draw_name(a),
                .data = draw_bytes(a, 2000, false),
                .metadata = draw_bytes(a, 300, false),
                .content_type = draw_below(2) ? CONTENT_JSON : CONTENT_BINARY,
                .revision = draw_number() & INT64_MAX,
                .position = draw_number() & INT64_MAX,
                .time_us = draw_number() >> 8,
        };
}

static void add_entry(struct arena *a, recorded_message *m, const char *key, struct bytes value)
{
        EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent__MetadataEntry *entry =
                MESSAGE(streams__read_resp__read_event__recorded_event__metadata_entry);

        entry->key = arena_string(a, bytes_of_string(key));
        entry->value = arena_string(a, value);
        m->metadata[m->n_metadata++] = entry;
}

static recorded_message *recorded_of(struct arena *a, const struct event_view *e, bool is_text)
{
        recorded_message *m = MESSAGE(streams__read_resp__read_event__recorded_event);
        char created[32];

        m->id = uuid_of(a, &e->id, is_text);
        m->stream_identifier = stream_of(a, e->stream);
        m->stream_revision = e->revision;
        m->prepare_position = e->position;
        m->commit_position = e->position;
        m->metadata = arena_get(a, 3 * sizeof(*m->metadata));
        snprintf(created, sizeof(created), "%llu", (unsigned long long)e->time_us * 10);
        add_entry(a, m, "type", e->type);
        add_entry(a, m, "content-type",
                bytes_of_string(
                        e->content_type == CONTENT_JSON ? "application/json" : "application/octet-stream"));
        add_entry(a, m, "created", bytes_of_string(created));
        m->custom_metadata = binary(e->metadata);
        m->data = binary(e->data);
        return m;
}

static struct bytes read_resp_of(struct arena *a, const struct store_read_item *item, bool is_text)
{
        EventStore__Client__Streams__ReadResp *answer = MESSAGE(streams__read_resp);
        EventStore__Client__Streams__ReadResp__ReadEvent *m = MESSAGE(streams__read_resp__read_event);

        if (item->has_event)
                m->event = recorded_of(a, &item->event, is_text);
        if (item->has_link)
                m->link = recorded_of(a, &item->link, is_text);
        m->position_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__READ_EVENT__POSITION_COMMIT_POSITION;
        m->commit_position = item->has_link ? item->link.position : item->event.position;
        answer->content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT;
        answer->event = m;
        return packed(a, answer);
}

TEST(wire_out, events_are_the_bytes_of_the_generated_code)
{
        struct buffer out = {0};
        struct wire_events w = {0};
        struct arena a = {0};

        seed = 4711;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct store_read_item item = {.has_event = draw_below(4) > 0};
                size_t before = out.size;

                item.has_link = !item.has_event || draw_below(3) == 0;
                item.event = draw_event(&a);
                item.link = draw_event(&a);
                if (draw_below(2)) /* as events of one append */
                        item.link.time_us = item.event.time_us;
                w.is_uuid_text = draw_below(2);
                wire_out_event(&w, &item, &out);
                assert_bytes(bytes_of(out.data + before, out.size - before),
                        read_resp_of(&a, &item, w.is_uuid_text));
                if (out.size > 1000000)
                        buffer_clear(&out);
                arena_reset(&a);
        }
        buffer_fini(&out);
        arena_fini(&a);
}

TEST(wire_out, an_event_without_anything_is_written_too)
{
        struct store_read_item item = {.has_event = true};
        struct buffer out = {0};
        struct wire_events w = {0};
        struct arena a = {0};

        item.event.id.bytes[0] = 1;
        item.event.stream = BYTES_LITERAL("s");
        item.event.type = BYTES_LITERAL("t");
        wire_out_event(&w, &item, &out);
        assert_bytes(buffer_bytes(&out), read_resp_of(&a, &item, false));
        buffer_fini(&out);
        arena_fini(&a);
}

/* ---- events of persistent subscriptions out ---- */

static struct bytes group_resp_of(
        struct arena *a, const struct store_read_item *item, uint32_t retry_count, bool is_text)
{
        EventStore__Client__PersistentSubscriptions__ReadResp *answer =
                MESSAGE(persistent_subscriptions__read_resp);
        EventStore__Client__PersistentSubscriptions__ReadResp__ReadEvent *m =
                MESSAGE(persistent_subscriptions__read_resp__read_event);

        if (item->has_event)
                m->event = recorded_of(a, &item->event, is_text);
        if (item->has_link)
                m->link = recorded_of(a, &item->link, is_text);
        m->position_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__READ_EVENT__POSITION_COMMIT_POSITION;
        m->commit_position = item->has_link ? item->link.position : item->event.position;
        m->count_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__READ_EVENT__COUNT_RETRY_COUNT;
        m->retry_count = (int32_t)retry_count;
        answer->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__CONTENT_EVENT;
        answer->event = m;
        return packed(a, answer);
}

TEST(wire_out, events_of_groups_are_the_bytes_of_the_generated_code)
{
        struct buffer out = {0};
        struct wire_events w = {0};
        struct arena a = {0};

        seed = 4712;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct store_read_item item = {.has_event = draw_below(4) > 0};
                uint32_t retry_count = (uint32_t)draw_number() & INT32_MAX;

                item.has_link = !item.has_event || draw_below(3) == 0;
                item.event = draw_event(&a);
                item.link = draw_event(&a);
                w.is_uuid_text = draw_below(2);
                buffer_clear(&out);
                wire_out_group_event(&w, &item, retry_count, &out);
                assert_bytes(buffer_bytes(&out), group_resp_of(&a, &item, retry_count, w.is_uuid_text));
                arena_reset(&a);
        }
        buffer_fini(&out);
        arena_fini(&a);
}

/* ---- appends out ---- */

static struct wire_success draw_success(void)
{
        struct wire_success s = {
                .outcome = {.has_revision = draw_below(4) > 0}, .has_position = draw_below(4) > 0};

        if (s.outcome.has_revision)
                s.outcome.revision = draw_number();
        if (s.has_position)
                s.position = draw_number();
        return s;
}

TEST(wire_out, answers_of_append_are_the_bytes_of_the_generated_code)
{
        struct arena a_of_test = {0}, *a = &a_of_test;

        seed = 99;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct wire_success s = draw_success();
                EventStore__Client__Streams__AppendResp *answer = MESSAGE(streams__append_resp);
                EventStore__Client__Streams__AppendResp__Success *m = MESSAGE(streams__append_resp__success);
                struct buffer out = {0};

                if (s.outcome.has_revision) {
                        m->current_revision_option_case =
                                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__CURRENT_REVISION_OPTION_CURRENT_REVISION;
                        m->current_revision = s.outcome.revision;
                } else {
                        m->current_revision_option_case =
                                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__CURRENT_REVISION_OPTION_NO_STREAM;
                        m->no_stream = empty_of(a);
                }
                if (s.has_position) {
                        m->position_option_case =
                                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__POSITION_OPTION_POSITION;
                        m->position = MESSAGE(streams__append_resp__position);
                        m->position->commit_position = s.position;
                        m->position->prepare_position = s.position;
                } else {
                        m->position_option_case =
                                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__POSITION_OPTION_NO_POSITION;
                        m->no_position = empty_of(a);
                }
                answer->result_case = EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__RESULT_SUCCESS;
                answer->success = m;
                wire_out_append(&s, &out);
                assert_bytes(buffer_bytes(&out), packed(a, answer));
                buffer_fini(&out);
                arena_reset(a);
        }
        arena_fini(a);
}

static void set_batch_expected(
        struct arena *a, EventStore__Client__Streams__BatchAppendResp *answer, struct expected expected)
{
        switch (expected.kind) {
        case EXPECTED_EXACT:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_STREAM_POSITION;
                answer->stream_position = expected.revision;
                break;
        case EXPECTED_NONE:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_NO_STREAM;
                answer->no_stream = empty_of(a);
                break;
        case EXPECTED_EXISTS:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_STREAM_EXISTS;
                answer->stream_exists = empty_of(a);
                break;
        default:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_ANY;
                answer->any = empty_of(a);
        }
}

TEST(wire_out, answers_of_batch_append_are_the_bytes_of_the_generated_code)
{
        struct arena a_of_test = {0}, *a = &a_of_test;

        seed = 100;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct wire_success s = draw_success();
                struct wire_asked asked = {
                        .correlation = {.id = draw_id(), .is_text = draw_below(2)},
                        .stream = draw_bytes(a, TEXT_SIZE_MAX, true),
                        .has_expected = draw_below(4) > 0,
                        .expected = {.kind = (enum expected_kind)draw_below(4), .revision = draw_number()},
                };
                EventStore__Client__Streams__BatchAppendResp *answer = MESSAGE(streams__batch_append_resp);
                EventStore__Client__Streams__BatchAppendResp__Success *m =
                        MESSAGE(streams__batch_append_resp__success);
                struct buffer out = {0};

                m->current_revision_option_case =
                        s.outcome.has_revision
                                ? EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__SUCCESS__CURRENT_REVISION_OPTION_CURRENT_REVISION
                                : EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__SUCCESS__CURRENT_REVISION_OPTION_NO_STREAM;
                if (s.outcome.has_revision)
                        m->current_revision = s.outcome.revision;
                else
                        m->no_stream = empty_of(a);
                if (s.has_position) {
                        m->position_option_case =
                                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__SUCCESS__POSITION_OPTION_POSITION;
                        m->position = MESSAGE(all_stream_position);
                        m->position->commit_position = s.position;
                        m->position->prepare_position = s.position;
                } else {
                        m->position_option_case =
                                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__SUCCESS__POSITION_OPTION_NO_POSITION;
                        m->no_position = empty_of(a);
                }
                answer->correlation_id = uuid_of(a, &asked.correlation.id, asked.correlation.is_text);
                answer->result_case = EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__RESULT_SUCCESS;
                answer->success = m;
                answer->stream_identifier = stream_of(a, asked.stream);
                if (asked.has_expected)
                        set_batch_expected(a, answer, asked.expected);
                wire_out_batch(&asked, &s, &out);
                assert_bytes(buffer_bytes(&out), packed(a, answer));
                buffer_fini(&out);
                arena_reset(a);
        }
        arena_fini(a);
}

/* ---- requests in ---- */

/* What a proposed message was made from. */
struct proposed {
        struct event_draft draft;
        unsigned seen;
};

static void add_proposed_entry(struct arena *a, proposed_message *m, const char *key, struct bytes value)
{
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage__MetadataEntry *entry =
                MESSAGE(streams__batch_append_req__proposed_message__metadata_entry);

        entry->key = arena_string(a, bytes_of_string(key));
        entry->value = arena_string(a, value);
        m->metadata[m->n_metadata++] = entry;
}

static proposed_message *draw_proposed(struct arena *a, struct proposed *ret)
{
        proposed_message *m = MESSAGE(streams__batch_append_req__proposed_message);

        *ret = (struct proposed){.draft = {
                                         .id = draw_id(),
                                         .data = draw_bytes(a, 500, false),
                                         .metadata = draw_bytes(a, 100, false),
                                 }};
        m->metadata = arena_get(a, 3 * sizeof(*m->metadata));
        if (draw_below(8)) {
                ret->seen |= SEEN_ID;
                m->id = uuid_of(a, &ret->draft.id, draw_below(2));
        }
        if (draw_below(3) == 0)
                add_proposed_entry(a, m, "something else", draw_bytes(a, 20, true));
        if (draw_below(8)) {
                ret->seen |= SEEN_TYPE;
                ret->draft.type = draw_name(a);
                add_proposed_entry(a, m, "type", ret->draft.type);
        }
        if (draw_below(8)) {
                ret->seen |= SEEN_CONTENT_TYPE;
                ret->draft.content_type = draw_below(2) ? CONTENT_JSON : CONTENT_BINARY;
                add_proposed_entry(a, m, "content-type",
                        bytes_of_string(ret->draft.content_type == CONTENT_JSON ? "application/json"
                                                                                : "application/jsonx"));
        }
        m->custom_metadata = binary(ret->draft.metadata);
        m->data = binary(ret->draft.data);
        return m;
}

static void assert_proposed(struct bytes message, const struct proposed *expected)
{
        struct event_draft draft;
        unsigned seen;

        assert_int_equal(wire_in_proposed(message, &draft, &seen), 0);
        assert_int_equal(seen, expected->seen);
        if (seen & SEEN_ID)
                assert_memory_equal(draft.id.bytes, expected->draft.id.bytes, 16);
        assert_bytes(draft.type, expected->draft.type);
        assert_bytes(draft.data, expected->draft.data);
        assert_bytes(draft.metadata, expected->draft.metadata);
        assert_int_equal(draft.content_type, expected->draft.content_type);
}

static void assert_options(const struct wire_options *got, const struct wire_options *expected)
{
        assert_int_equal(got->has_stream, expected->has_stream);
        assert_bytes(got->stream, expected->stream);
        assert_int_equal(got->has_expected, expected->has_expected);
        assert_int_equal(got->expected.kind, expected->expected.kind);
        assert_true(got->expected.revision == expected->expected.revision);
        assert_int_equal(got->deadline, expected->deadline);
        assert_true(got->deadline_seconds == expected->deadline_seconds);
        assert_int_equal(got->deadline_nanos, expected->deadline_nanos);
}

static EventStore__Client__Streams__BatchAppendReq__Options *draw_options(
        struct arena *a, struct wire_options *ret)
{
        EventStore__Client__Streams__BatchAppendReq__Options *m = MESSAGE(streams__batch_append_req__options);

        *ret = (struct wire_options){.has_stream = draw_below(8) > 0, .has_expected = true};
        if (ret->has_stream) {
                ret->stream = draw_bytes(a, TEXT_SIZE_MAX, false);
                m->stream_identifier = stream_of(a, ret->stream);
        }
        switch (draw_below(5)) {
        case 0:
                ret->expected = (struct expected){.kind = EXPECTED_EXACT, .revision = draw_number()};
                m->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__EXPECTED_STREAM_POSITION_STREAM_POSITION;
                m->stream_position = ret->expected.revision;
                break;
        case 1:
                ret->expected.kind = EXPECTED_NONE;
                m->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__EXPECTED_STREAM_POSITION_NO_STREAM;
                m->no_stream = empty_of(a);
                break;
        case 2:
                ret->expected.kind = EXPECTED_ANY;
                m->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__EXPECTED_STREAM_POSITION_ANY;
                m->any = empty_of(a);
                break;
        case 3:
                ret->expected.kind = EXPECTED_EXISTS;
                m->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__EXPECTED_STREAM_POSITION_STREAM_EXISTS;
                m->stream_exists = empty_of(a);
                break;
        default:
                ret->has_expected = false;
        }
        if (draw_below(3) == 0) {
                ret->deadline = WIRE_DEADLINE_AT;
                m->deadline_option_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__DEADLINE_OPTION_DEADLINE_21_10_0;
                m->deadline_21_10_0 = MESSAGE(timestamp);
                m->deadline_21_10_0->seconds = ret->deadline_seconds = (int64_t)draw_number();
                m->deadline_21_10_0->nanos = ret->deadline_nanos = (int32_t)draw();
        } else if (draw_below(2)) {
                ret->deadline = WIRE_DEADLINE_AFTER;
                m->deadline_option_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__DEADLINE_OPTION_DEADLINE;
                m->deadline = MESSAGE(duration);
                m->deadline->seconds = ret->deadline_seconds = (int64_t)draw_number();
                m->deadline->nanos = ret->deadline_nanos = (int32_t)draw();
        }
        return m;
}

enum { PROPOSED_MAX = 5 };

/* A request of BatchAppend, and what it was made from. */
struct batch {
        struct wire_batch head;
        struct proposed proposed[PROPOSED_MAX];
};

static struct bytes draw_batch(struct arena *a, struct batch *ret)
{
        EventStore__Client__Streams__BatchAppendReq *m = MESSAGE(streams__batch_append_req);

        *ret = (struct batch){.head = {.has_correlation = draw_below(8) > 0, .is_final = draw_below(2)}};
        if (ret->head.has_correlation) {
                ret->head.correlation = (struct wire_uuid){.id = draw_id(), .is_text = draw_below(2)};
                m->correlation_id = uuid_of(a, &ret->head.correlation.id, ret->head.correlation.is_text);
        }
        if (draw_below(3)) {
                ret->head.has_options = true;
                m->options = draw_options(a, &ret->head.options);
        }
        m->proposed_messages = arena_get(a, PROPOSED_MAX * sizeof(*m->proposed_messages));
        m->n_proposed_messages = ret->head.proposed_count = (unsigned)draw_below(PROPOSED_MAX + 1);
        for (unsigned i = 0; i < ret->head.proposed_count; i++)
                m->proposed_messages[i] = draw_proposed(a, &ret->proposed[i]);
        m->is_final = ret->head.is_final;
        return packed(a, m);
}

TEST(wire_in, batches_are_read_as_they_were_made)
{
        struct arena a = {0};

        seed = 31;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct batch made;
                struct bytes message = draw_batch(&a, &made);
                struct wire_batch got;
                struct wire_in in = wire_in(message);
                struct bytes proposed;

                assert_int_equal(wire_in_batch(message, &got), 0);
                assert_int_equal(got.has_correlation, made.head.has_correlation);
                assert_int_equal(got.has_options, made.head.has_options);
                assert_int_equal(got.is_final, made.head.is_final);
                assert_int_equal(got.proposed_count, made.head.proposed_count);
                if (got.has_correlation) {
                        assert_memory_equal(got.correlation.id.bytes, made.head.correlation.id.bytes, 16);
                        assert_int_equal(got.correlation.is_text, made.head.correlation.is_text);
                }
                assert_options(&got.options, &made.head.options);
                for (unsigned n = 0; n < got.proposed_count; n++) {
                        assert_true(wire_next_proposed(&in, &proposed));
                        assert_proposed(proposed, &made.proposed[n]);
                }
                assert_false(wire_next_proposed(&in, &proposed));
                arena_reset(&a);
        }
        arena_fini(&a);
}

TEST(wire_in, messages_of_append_and_delete_are_read_as_they_were_made)
{
        struct arena a_of_test = {0}, *a = &a_of_test;

        seed = 32;
        for (unsigned i = 0; i < ROUNDS; i++) {
                EventStore__Client__Streams__BatchAppendReq__Options *options;
                EventStore__Client__Streams__AppendReq *append = MESSAGE(streams__append_req);
                EventStore__Client__Streams__DeleteReq *delete = MESSAGE(streams__delete_req);
                struct wire_options made, got_options;
                struct wire_append got;
                struct proposed proposed;

                /* The options of all four requests are the same bytes, but for the deadline. */
                options = draw_options(a, &made);
                append->content_case = EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__CONTENT_OPTIONS;
                append->options = (void *)protobuf_c_message_unpack(
                        &event_store__client__streams__append_req__options__descriptor, NULL,
                        packed(a, options).size, packed(a, options).data);
                assert_int_equal(wire_in_append(packed(a, append), &got), 0);
                assert_true(got.is_options);
                assert_options(&got.options, &made);
                delete->options = (void *)protobuf_c_message_unpack(
                        &event_store__client__streams__delete_req__options__descriptor, NULL,
                        packed(a, options).size, packed(a, options).data);
                assert_int_equal(wire_in_delete(packed(a, delete), &got_options), 0);
                assert_options(&got_options, &made);
                protobuf_c_message_free_unpacked(&append->options->base, NULL);
                protobuf_c_message_free_unpacked(&delete->options->base, NULL);

                append->content_case = EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__CONTENT_PROPOSED_MESSAGE;
                append->proposed_message = (void *)draw_proposed(a, &proposed);
                append->proposed_message->base.descriptor =
                        &event_store__client__streams__append_req__proposed_message__descriptor;
                for (size_t n = 0; n < append->proposed_message->n_metadata; n++)
                        append->proposed_message->metadata[n]->base.descriptor =
                                &event_store__client__streams__append_req__proposed_message__metadata_entry__descriptor;
                assert_int_equal(wire_in_append(packed(a, append), &got), 0);
                assert_false(got.is_options);
                assert_proposed(got.proposed, &proposed);
                arena_reset(a);
        }
        arena_fini(a);
}

TEST(wire_in, an_id_of_zeros_or_of_no_digits_is_none)
{
        static const uint8_t structured_zero[] = {0x0a, 0x02, 0x0a, 0x00};
        static const uint8_t no_digits[] = {0x0a, 0x04, 0x12, 0x02, 'x', 'y'};
        struct event_draft draft;
        unsigned seen;

        assert_int_equal(
                wire_in_proposed(bytes_of(structured_zero, sizeof(structured_zero)), &draft, &seen), 0);
        assert_int_equal(seen & SEEN_ID, 0);
        assert_int_equal(wire_in_proposed(bytes_of(no_digits, sizeof(no_digits)), &draft, &seen), 0);
        assert_int_equal(seen & SEEN_ID, 0);
}

/* ---- what is no message (G17) ---- */

/* Reads a copy that ends where its memory ends, so that a sanitizer sees a byte too far. True: it was taken.
 */
static bool is_taken(struct bytes message)
{
        uint8_t *copy = malloc(message.size ? message.size : 1);
        struct bytes exact = bytes_of(copy, message.size);
        struct wire_in in = wire_in(exact);
        struct wire_batch batch;
        struct wire_append append;
        struct wire_options options;
        struct event_draft draft;
        struct bytes proposed;
        unsigned seen;
        bool taken;

        if (message.size)
                memcpy(copy, message.data, message.size);
        assert_true(wire_in_append(exact, &append) <= WIRE_MALFORMED);
        assert_true(wire_in_delete(exact, &options) <= WIRE_MALFORMED);
        taken = !wire_in_batch(exact, &batch);
        while (taken && wire_next_proposed(&in, &proposed)) {
                assert_true(proposed.data >= copy && proposed.data + proposed.size <= copy + message.size);
                taken = !wire_in_proposed(proposed, &draft, &seen);
        }
        free(copy);
        return taken;
}

static bool is_taken_by_generated(struct bytes message)
{
        EventStore__Client__Streams__BatchAppendReq *m =
                event_store__client__streams__batch_append_req__unpack(NULL, message.size, message.data);

        if (!m)
                return false;
        event_store__client__streams__batch_append_req__free_unpacked(m, NULL);
        return true;
}

TEST(wire_in, cut_at_any_byte_it_is_refused_unless_a_shorter_message_is_left)
{
        struct arena a = {0};
        unsigned refused = 0;

        seed = 33;
        for (unsigned i = 0; i < 60; i++) {
                struct batch made;
                struct bytes message = draw_batch(&a, &made);

                for (size_t size = 0; size < message.size; size++) {
                        struct bytes part = bytes_of(message.data, size);

                        assert_int_equal(is_taken(part), is_taken_by_generated(part));
                        refused += !is_taken(part);
                }
                arena_reset(&a);
        }
        assert_true(refused > 1000);
        arena_fini(&a);
}

TEST(wire_in, with_any_bytes_changed_it_stays_within_the_message)
{
        struct arena a = {0};

        seed = 34;
        for (unsigned i = 0; i < 20000; i++) {
                struct batch made;
                struct bytes message = draw_batch(&a, &made);
                uint8_t *data = (uint8_t *)(uintptr_t)message.data;

                for (unsigned n = (unsigned)draw_below(4) + 1; n && message.size; n--)
                        data[draw_below(message.size)] = (uint8_t)draw();
                (void)is_taken(message);
                arena_reset(&a);
        }
        arena_fini(&a);
}

TEST(wire_in, what_no_client_writes_is_refused)
{
        static const struct {
                const char *what;
                struct bytes bytes;
        } cases[] = {
                {"field number 0", BYTES_LITERAL("\x02\x01x")},
                {"a group", BYTES_LITERAL("\x0b\x0c")},
                {"wire type 7", BYTES_LITERAL("\x0f")},
                {"a length behind the end", BYTES_LITERAL("\x1a\x05"
                                                          "abc")},
                {"a length of 2^63", BYTES_LITERAL("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")},
                {"a number of 11 bytes", BYTES_LITERAL("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
                {"a tag without its field", BYTES_LITERAL("\x20")},
                {"options that are a number", BYTES_LITERAL("\x10\x01")},
                {"half a fixed64", BYTES_LITERAL("\x79\x01\x02")},
        };
        struct wire_batch batch;

        for (unsigned i = 0; i < COUNT_OF(cases); i++)
                if (wire_in_batch(cases[i].bytes, &batch) != WIRE_MALFORMED)
                        fail_msg("taken: %s", cases[i].what);
        assert_int_equal(wire_in_batch(BYTES_LITERAL("\x79"
                                                     "12345678"
                                                     "\x7d"
                                                     "1234"
                                                     "\xa2\x06\x01x"),
                                 &batch),
                0);
}

/* ---- acknowledgements in ---- */

enum { IDS_DRAWN_MAX = 40 };

struct finished {
        bool is_ack;
        int action;
        struct bytes reason;
        unsigned count;
        struct event_id ids[IDS_DRAWN_MAX];
};

static struct bytes draw_finished(struct arena *a, struct finished *ret)
{
        EventStore__Client__PersistentSubscriptions__ReadReq *m = MESSAGE(persistent_subscriptions__read_req);
        EventStore__Client__PersistentSubscriptions__ReadReq__Ack *ack =
                MESSAGE(persistent_subscriptions__read_req__ack);
        EventStore__Client__PersistentSubscriptions__ReadReq__Nack *nack =
                MESSAGE(persistent_subscriptions__read_req__nack);
        uuid_message **ids = arena_get(a, IDS_DRAWN_MAX * sizeof(*ids));

        *ret = (struct finished){.is_ack = draw_below(2), .count = (unsigned)draw_below(IDS_DRAWN_MAX)};
        for (unsigned i = 0; i < ret->count; i++) {
                ret->ids[i] = draw_id();
                ids[i] = uuid_of(a, &ret->ids[i], draw_below(2));
        }
        if (ret->is_ack) {
                m->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__CONTENT_ACK;
                m->ack = ack;
                ack->id = binary(draw_bytes(a, 30, true));
                ack->ids = ids;
                ack->n_ids = ret->count;
        } else {
                ret->action = (int)draw_below(5);
                ret->reason = draw_bytes(a, 100, true);
                m->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__CONTENT_NACK;
                m->nack = nack;
                nack->action = ret->action;
                nack->reason = binary(ret->reason);
                nack->ids = ids;
                nack->n_ids = ret->count;
        }
        return packed(a, m);
}

TEST(wire_in, acknowledgements_are_read_as_they_were_made)
{
        struct arena a = {0};

        seed = 35;
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct finished made;
                struct bytes message = draw_finished(&a, &made);
                struct wire_group w;
                struct wire_in in;
                struct event_id id;

                assert_int_equal(wire_in_group(message, &w), 0);
                assert_int_equal(w.kind, made.is_ack ? WIRE_GROUP_ACK : WIRE_GROUP_NACK);
                assert_int_equal(w.action, made.action);
                assert_bytes(w.reason, made.reason);
                in = wire_in(w.body);
                for (unsigned n = 0; n < made.count; n++) {
                        assert_int_equal(wire_next_id(&in, &id), 0);
                        assert_memory_equal(id.bytes, made.ids[n].bytes, sizeof(id.bytes));
                }
                assert_int_equal(wire_next_id(&in, &id), WIRE_END);
                arena_reset(&a);
        }
        arena_fini(&a);
}

static bool is_finish_taken(struct bytes message)
{
        uint8_t *copy = malloc(message.size ? message.size : 1);
        struct wire_group w;
        struct event_id id;
        int result;

        if (message.size)
                memcpy(copy, message.data, message.size);
        result = wire_in_group(bytes_of(copy, message.size), &w);
        if (!result) {
                struct wire_in in = wire_in(w.body);

                while (!(result = wire_next_id(&in, &id)))
                        ;
        }
        free(copy);
        return result == WIRE_END;
}

TEST(wire_in, acknowledgements_cut_at_any_byte_are_refused_as_by_the_generated_code)
{
        struct arena a = {0};
        unsigned refused = 0;

        seed = 36;
        for (unsigned i = 0; i < 300; i++) {
                struct finished made;
                struct bytes message = draw_finished(&a, &made);

                for (size_t size = 1; size < message.size; size++) {
                        struct bytes part = bytes_of(message.data, size);
                        EventStore__Client__PersistentSubscriptions__ReadReq *m =
                                event_store__client__persistent_subscriptions__read_req__unpack(
                                        NULL, part.size, part.data);

                        assert_int_equal(is_finish_taken(part), m != NULL);
                        refused += !m;
                        if (m)
                                event_store__client__persistent_subscriptions__read_req__free_unpacked(
                                        m, NULL);
                }
                arena_reset(&a);
        }
        assert_true(refused > 1000);
        assert_false(is_finish_taken(BYTES_EMPTY)); /* none of its three contents */
        arena_fini(&a);
}

TEST(wire_in, acknowledgements_with_any_bytes_changed_stay_within_the_message)
{
        struct arena a = {0};

        seed = 37;
        for (unsigned i = 0; i < 20000; i++) {
                struct finished made;
                struct bytes message = draw_finished(&a, &made);
                uint8_t *data = (uint8_t *)(uintptr_t)message.data;

                for (unsigned n = (unsigned)draw_below(4) + 1; n && message.size; n--)
                        data[draw_below(message.size)] = (uint8_t)draw();
                (void)is_finish_taken(message);
                arena_reset(&a);
        }
        arena_fini(&a);
}

TEST(wire_in, what_is_no_id_is_acknowledged_by_nobody)
{
        /* Nil, a text that is no UUID, none of both; then one that is. */
        struct bytes body = BYTES_LITERAL("\x12\x02\x0a\x00"
                                          "\x12\x06\x12\x04zzzz"
                                          "\x12\x00"
                                          "\x12\x04\x0a\x02\x10\x07");
        struct wire_in in = wire_in(body);
        struct event_id id;

        assert_int_equal(wire_next_id(&in, &id), 0);
        assert_int_equal(id.bytes[15], 7);
        assert_int_equal(wire_next_id(&in, &id), WIRE_END);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(wire_out, events_are_the_bytes_of_the_generated_code),
                TEST_ROW(wire_out, an_event_without_anything_is_written_too),
                TEST_ROW(wire_out, events_of_groups_are_the_bytes_of_the_generated_code),
                TEST_ROW(wire_out, answers_of_append_are_the_bytes_of_the_generated_code),
                TEST_ROW(wire_out, answers_of_batch_append_are_the_bytes_of_the_generated_code),
                TEST_ROW(wire_in, batches_are_read_as_they_were_made),
                TEST_ROW(wire_in, messages_of_append_and_delete_are_read_as_they_were_made),
                TEST_ROW(wire_in, an_id_of_zeros_or_of_no_digits_is_none),
                TEST_ROW(wire_in, cut_at_any_byte_it_is_refused_unless_a_shorter_message_is_left),
                TEST_ROW(wire_in, with_any_bytes_changed_it_stays_within_the_message),
                TEST_ROW(wire_in, what_no_client_writes_is_refused),
                TEST_ROW(wire_in, acknowledgements_are_read_as_they_were_made),
                TEST_ROW(wire_in, acknowledgements_cut_at_any_byte_are_refused_as_by_the_generated_code),
                TEST_ROW(wire_in, acknowledgements_with_any_bytes_changed_stay_within_the_message),
                TEST_ROW(wire_in, what_is_no_id_is_acknowledged_by_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
