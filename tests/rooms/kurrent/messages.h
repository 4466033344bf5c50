/* Messages as the tests of services make and read them, in an arena that lives as long as the test. */
#ifndef TESTS_ROOMS_KURRENT_MESSAGES_H
#define TESTS_ROOMS_KURRENT_MESSAGES_H

#include "base/arena.h"
#include "kurrent/shared.pb-c.h"
#include "kurrent/streams.pb-c.h"
#include "world.h"

#define STREAMS "/event_store.client.streams.Streams/"

/* ---- messages ---- */

static struct arena memory; /* of the test that runs */
static EventStore__Client__Empty empty = EVENT_STORE__CLIENT__EMPTY__INIT;

static inline void *message_of(const ProtobufCMessageDescriptor *d)
{
        ProtobufCMessage *m = arena_get(&memory, d->sizeof_message);

        protobuf_c_message_init(d, m);
        return m;
}
#define MESSAGE(name) message_of(&event_store__client__##name##__descriptor)

static inline void *take(void *arena, size_t size)
{
        return arena_get(arena, size);
}

static inline void keep(void *arena, void *pointer)
{
        (void)arena;
        (void)pointer;
}

static inline void *unpack(const ProtobufCMessageDescriptor *d, struct bytes bytes)
{
        ProtobufCAllocator allocator = {.alloc = take, .free = keep, .allocator_data = &memory};
        void *m = protobuf_c_message_unpack(d, &allocator, bytes.size, bytes.data);

        assert_non_null(m);
        return m;
}
#define ANSWER(name, rpc, n) unpack(&event_store__client__##name##__descriptor, (rpc)->answers[n])

static inline void send_message(struct rpc *r, const void *message)
{
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *data = arena_get(&memory, size);

        protobuf_c_message_pack(message, data);
        rpc_send(r, bytes_of(data, size));
}

static inline ProtobufCBinaryData binary(const char *text)
{
        return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static inline char *text_of(ProtobufCBinaryData b)
{
        return arena_string(&memory, bytes_of(b.data, b.len));
}

static inline EventStore__Client__StreamIdentifier *stream_of(const char *name)
{
        EventStore__Client__StreamIdentifier *m = MESSAGE(stream_identifier);

        m->stream_name = binary(name);
        return m;
}

static inline EventStore__Client__UUID *uuid_of(uint64_t n)
{
        EventStore__Client__UUID *m = MESSAGE(uuid);

        m->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED;
        m->structured = MESSAGE(uuid__structured);
        m->structured->most_significant_bits = 0x1122334455667788;
        m->structured->least_significant_bits = (int64_t)n;
        return m;
}

enum lack { LACK_NOTHING, LACK_ID, LACK_TYPE, LACK_CONTENT_TYPE };

static inline void add_entry(
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage *m, const char *key, const char *value)
{
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage__MetadataEntry *entry =
                MESSAGE(streams__batch_append_req__proposed_message__metadata_entry);

        entry->key = arena_string(&memory, bytes_of_string(key));
        entry->value = arena_string(&memory, bytes_of_string(value));
        m->metadata[m->n_metadata++] = entry;
}

/* ProposedMessage of Append and of BatchAppend: the same bytes, another descriptor. */
static inline EventStore__Client__Streams__BatchAppendReq__ProposedMessage *proposed_of(
        uint64_t id, const char *data, enum lack lack)
{
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage *m =
                MESSAGE(streams__batch_append_req__proposed_message);

        if (lack != LACK_ID)
                m->id = uuid_of(id);
        m->metadata = arena_get(&memory, 2 * sizeof(*m->metadata));
        if (lack != LACK_TYPE)
                add_entry(m, "type", "Happened");
        if (lack != LACK_CONTENT_TYPE)
                add_entry(m, "content-type", "application/json");
        m->data = binary(data);
        return m;
}

/* ---- Append ---- */

static inline void send_options(struct rpc *r, const char *stream, struct expected expected)
{
        EventStore__Client__Streams__AppendReq *m = MESSAGE(streams__append_req);

        m->content_case = EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__CONTENT_OPTIONS;
        m->options = MESSAGE(streams__append_req__options);
        m->options->stream_identifier = stream_of(stream);
        if (expected.kind == EXPECTED_EXACT) {
                m->options->expected_stream_revision_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__OPTIONS__EXPECTED_STREAM_REVISION_REVISION;
                m->options->revision = expected.revision;
        } else {
                m->options->expected_stream_revision_case =
                        expected.kind == EXPECTED_NONE
                                ? EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__OPTIONS__EXPECTED_STREAM_REVISION_NO_STREAM
                                : EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__OPTIONS__EXPECTED_STREAM_REVISION_ANY;
                m->options->any = &empty;
        }
        send_message(r, m);
}

static inline void send_event(struct rpc *r, uint64_t id, enum lack lack)
{
        EventStore__Client__Streams__AppendReq *m = MESSAGE(streams__append_req);
        EventStore__Client__Streams__AppendReq__ProposedMessage *event =
                (void *)proposed_of(id, "{\"n\":1}", lack);

        event->base.descriptor = &event_store__client__streams__append_req__proposed_message__descriptor;
        for (size_t i = 0; i < event->n_metadata; i++)
                event->metadata[i]->base.descriptor =
                        &event_store__client__streams__append_req__proposed_message__metadata_entry__descriptor;
        m->content_case = EVENT_STORE__CLIENT__STREAMS__APPEND_REQ__CONTENT_PROPOSED_MESSAGE;
        m->proposed_message = event;
        send_message(r, m);
}

static const struct expected any = {.kind = EXPECTED_ANY};
static const struct expected none = {.kind = EXPECTED_NONE};

/* Appends `count` events with ids from `id` on; gives the call's only answer. */
static inline EventStore__Client__Streams__AppendResp *append(
        struct client *c, const char *stream, struct expected expected, uint64_t id, unsigned count)
{
        EventStore__Client__Streams__AppendResp *answer;
        struct rpc r;

        rpc_open(&r, c, STREAMS "Append");
        send_options(&r, stream, expected);
        for (unsigned i = 0; i < count; i++)
                send_event(&r, id + i, LACK_NOTHING);
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        assert_int_equal(r.count, 1);
        answer = ANSWER(streams__append_resp, &r, 0);
        rpc_close(&r);
        return answer;
}

static inline void ask(struct rpc *r, struct client *c, const char *path)
{
        rpc_open(r, c, path);
        rpc_send(r, BYTES_EMPTY);
        rpc_half_close(r);
        rpc_wait_end(r);
        assert_int_equal(r->status, 0);
        assert_int_equal(r->count, 1);
}

static inline int forget(void **state)
{
        (void)state;
        arena_fini(&memory);
        return 0;
}

#define ROW(noun, story) cmocka_unit_test_teardown(test_##noun##_##story, forget)

/* ---- Read ---- */

typedef EventStore__Client__Streams__ReadReq__Options read_options;

/* From the start; NULL: of all streams; count 0: a subscription. */
static inline read_options *read_of(const char *stream, uint64_t count)
{
        read_options *o = MESSAGE(streams__read_req__options);

        if (stream) {
                o->stream_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTION_STREAM;
                o->stream = MESSAGE(streams__read_req__options__stream_options);
                o->stream->stream_identifier = stream_of(stream);
                o->stream->revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_START;
                o->stream->start = &empty;
        } else {
                o->stream_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTION_ALL;
                o->all = MESSAGE(streams__read_req__options__all_options);
                o->all->all_option_case =
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_START;
                o->all->start = &empty;
        }
        if (count) {
                o->count_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION_COUNT;
                o->count = count;
        } else {
                o->count_option_case =
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION_SUBSCRIPTION;
                o->subscription = MESSAGE(streams__read_req__options__subscription_options);
        }
        o->uuid_option = MESSAGE(streams__read_req__options__uuidoption);
        o->uuid_option->content_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRING;
        o->uuid_option->string = &empty;
        return o;
}

static inline void begin_read_with(struct rpc *r, struct client *c, read_options *o, const char *header, const char *value)
{
        EventStore__Client__Streams__ReadReq *m = MESSAGE(streams__read_req);

        m->options = o;
        rpc_open_with(r, c, STREAMS "Read", header, value);
        r->has_no_more = true;
        send_message(r, m);
}

static inline void begin_read(struct rpc *r, struct client *c, read_options *o)
{
        begin_read_with(r, c, o, "", "");
}

#endif
