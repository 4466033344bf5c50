/* PersistentSubscriptions over a real connection: what the official client for Node.js cannot be made to ask:
 * older and other clients' forms, the exact trailers, and what no decent client sends (G11, G17). The rest is
 * held by tests/interop. */
#include "kurrent/persistent_subscriptions.pb-c.h"
#include "kurrent/server_features.pb-c.h"
#include "messages.h"

#define GROUPS "/event_store.client.persistent_subscriptions.PersistentSubscriptions/"

typedef EventStore__Client__PersistentSubscriptions__CreateReq create_req;
typedef EventStore__Client__PersistentSubscriptions__CreateReq__Settings settings_message;
typedef EventStore__Client__PersistentSubscriptions__ReadReq read_req;
typedef EventStore__Client__PersistentSubscriptions__ReadResp read_resp;
typedef EventStore__Client__PersistentSubscriptions__SubscriptionInfo info_message;

#define STREAM_OPTION_STREAM                                                                                 \
        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_STREAM
#define STREAM_OPTION_ALL                                                                                    \
        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_ALL

/* ---- a server and a client, for each test ---- */

struct fixture {
        struct world world;
        struct client client;
};

static struct fixture *begin(void)
{
        struct fixture *f = MEMORY_NEW(struct fixture);

        world_open(&f->world);
        client_open(&f->client, f->world.port);
        return f;
}

static void end(struct fixture *f)
{
        client_close(&f->client);
        world_close(&f->world);
        free(f);
}

/* ---- calls with one answer ---- */

static void call(struct rpc *r, struct fixture *f, const char *path, const void *message)
{
        rpc_open(r, &f->client, path);
        send_message(r, message);
        rpc_half_close(r);
        rpc_wait_end(r);
}

/* Fails unless the call ends so, and with these trailers where they are not NULL. */
static void expect_end(
        struct rpc *r, int status, const char *exception, const char *stream, const char *group)
{
        if (r->status != status)
                fail_msg("status %d, %s", r->status, r->message);
        assert_string_equal(rpc_trailer(r, "exception"), exception ? exception : "");
        if (stream)
                assert_string_equal(rpc_trailer(r, "stream-name"), stream);
        if (group)
                assert_string_equal(rpc_trailer(r, "group-name"), group);
}

static create_req *create_of(const char *stream, const char *group)
{
        create_req *m = MESSAGE(persistent_subscriptions__create_req);

        m->options = MESSAGE(persistent_subscriptions__create_req__options);
        m->options->group_name = binary(group);
        m->options->settings = MESSAGE(persistent_subscriptions__create_req__settings);
        m->options->settings->max_retry_count = 10;
        m->options->settings->live_buffer_size = 500;
        m->options->settings->read_batch_size = 20;
        m->options->settings->history_buffer_size = 500;
        if (stream) {
                m->options->stream_option_case = STREAM_OPTION_STREAM;
                m->options->stream = MESSAGE(streams__read_req__options__stream_options);
                m->options->stream->stream_identifier = stream_of(stream);
                m->options->stream->revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_START;
                m->options->stream->start = &empty;
        } else {
                m->options->stream_option_case = STREAM_OPTION_ALL;
                m->options->all = MESSAGE(persistent_subscriptions__create_req__all_options);
                m->options->all->all_option_case =
                        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__ALL_OPTION_START;
                m->options->all->start = &empty;
                m->options->all->filter_option_case =
                        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__FILTER_OPTION_NO_FILTER;
                m->options->all->no_filter = &empty;
        }
        return m;
}

static void create(struct fixture *f, const create_req *m)
{
        struct rpc r;

        call(&r, f, GROUPS "Create", m);
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        assert_int_equal(r.count, 1);
        assert_int_equal(r.answers[0].size, 0);
        rpc_close(&r);
}

static EventStore__Client__PersistentSubscriptions__GetInfoReq *info_of(const char *stream, const char *group)
{
        EventStore__Client__PersistentSubscriptions__GetInfoReq *m =
                MESSAGE(persistent_subscriptions__get_info_req);

        m->options = MESSAGE(persistent_subscriptions__get_info_req__options);
        m->options->group_name = binary(group);
        m->options->stream_option_case =
                stream ? EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__GET_INFO_REQ__OPTIONS__STREAM_OPTION_STREAM_IDENTIFIER
                       : EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__GET_INFO_REQ__OPTIONS__STREAM_OPTION_ALL;
        if (stream)
                m->options->stream_identifier = stream_of(stream);
        else
                m->options->all = &empty;
        return m;
}

static info_message *info(struct fixture *f, const char *stream, const char *group)
{
        EventStore__Client__PersistentSubscriptions__GetInfoResp *answer;
        struct rpc r;

        call(&r, f, GROUPS "GetInfo", info_of(stream, group));
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        answer = ANSWER(persistent_subscriptions__get_info_resp, &r, 0);
        rpc_close(&r);
        return answer->subscription_info;
}

/* ---- consumers ---- */

static read_req *options_of(const char *stream, const char *group, int32_t buffer_size, bool is_uuid_text)
{
        read_req *m = MESSAGE(persistent_subscriptions__read_req);

        m->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__CONTENT_OPTIONS;
        m->options = MESSAGE(persistent_subscriptions__read_req__options);
        m->options->group_name = binary(group);
        m->options->buffer_size = buffer_size;
        m->options->uuid_option = MESSAGE(streams__read_req__options__uuidoption);
        m->options->uuid_option->content_case =
                is_uuid_text
                        ? EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRING
                        : EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRUCTURED;
        m->options->uuid_option->structured = &empty;
        m->options->stream_option_case =
                stream ? EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__OPTIONS__STREAM_OPTION_STREAM_IDENTIFIER
                       : EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__OPTIONS__STREAM_OPTION_ALL;
        if (stream)
                m->options->stream_identifier = stream_of(stream);
        else
                m->options->all = &empty;
        return m;
}

static void join(struct rpc *r, struct fixture *f, const char *stream, const char *group, int32_t buffer_size)
{
        read_resp *first;

        rpc_open(r, &f->client, GROUPS "Read");
        send_message(r, options_of(stream, group, buffer_size, false));
        rpc_wait(r, 1);
        if (r->is_closed)
                fail_msg("status %d, %s", r->status, r->message);
        first = ANSWER(persistent_subscriptions__read_resp, r, 0);
        assert_int_equal(first->content_case,
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__CONTENT_SUBSCRIPTION_CONFIRMATION);
}

static EventStore__Client__PersistentSubscriptions__ReadResp__ReadEvent *event_of(struct rpc *r, unsigned n)
{
        read_resp *m = ANSWER(persistent_subscriptions__read_resp, r, n);

        assert_int_equal(
                m->content_case, EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__CONTENT_EVENT);
        return m->event;
}

static void acknowledge(struct rpc *r, EventStore__Client__UUID **ids, size_t count)
{
        read_req *m = MESSAGE(persistent_subscriptions__read_req);

        m->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__CONTENT_ACK;
        m->ack = MESSAGE(persistent_subscriptions__read_req__ack);
        m->ack->ids = ids;
        m->ack->n_ids = count;
        send_message(r, m);
}

/* ---- definitions ---- */

TEST(groups, forms_of_older_and_other_clients)
{
        struct fixture *f = begin();
        create_req *m = create_of("s", "ticks");
        info_message *i;

        /* Times in ticks of 100 ns; the strategy by its number. */
        m->options->settings->message_timeout_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__MESSAGE_TIMEOUT_MESSAGE_TIMEOUT_TICKS;
        m->options->settings->message_timeout_ticks = 12340000;
        m->options->settings->checkpoint_after_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__CHECKPOINT_AFTER_CHECKPOINT_AFTER_TICKS;
        m->options->settings->checkpoint_after_ticks = 50000000;
        m->options->settings->named_consumer_strategy =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__CONSUMER_STRATEGY__Pinned;
        m->options->settings->max_retry_count = 7;
        create(f, m);
        i = info(f, "s", "ticks");
        assert_int_equal(i->message_timeout_milliseconds, 1234);
        assert_int_equal(i->check_point_after_milliseconds, 5000);
        assert_int_equal(i->max_retry_count, 7);
        assert_string_equal(text_of(i->named_consumer_strategy), "Pinned");
        assert_string_equal(i->start_from, "0");
        /* The stream outside of stream_option, the start in the settings; the end as all ones. */
        for (unsigned n = 0; n < 2; n++) {
                m = create_of("s", n ? "old-end" : "old-5");
                m->options->stream_identifier = m->options->stream->stream_identifier;
                m->options->stream_option_case = 0;
                m->options->stream = NULL;
                m->options->settings->revision = n ? UINT64_MAX : 5;
                create(f, m);
        }
        assert_string_equal(info(f, "s", "old-5")->start_from, "5");
        assert_string_equal(info(f, "s", "old-end")->start_from, "-1");
        end(f);
}

TEST(groups, what_is_not_said_is_the_default)
{
        struct fixture *f = begin();
        create_req *m = create_of(NULL, "g");
        info_message *i;

        m->options->settings = MESSAGE(persistent_subscriptions__create_req__settings);
        create(f, m);
        i = info(f, NULL, "g");
        assert_string_equal(text_of(i->event_source), "$all");
        assert_int_equal(i->message_timeout_milliseconds, 30000);
        assert_int_equal(i->check_point_after_milliseconds, 2000);
        assert_int_equal(i->max_check_point_count, 1000);
        assert_int_equal(i->live_buffer_size, 500);
        assert_int_equal(i->read_batch_size, 20);
        assert_int_equal(i->buffer_size, 500);
        assert_int_equal(i->max_subscriber_count, 0);
        assert_string_equal(text_of(i->named_consumer_strategy), "DispatchToSingle"); /* number 0 */
        assert_string_equal(i->start_from, "C:0/P:0");
        assert_string_equal(i->last_known_event_position, "");
        assert_string_equal(i->last_checkpointed_event_position, "");
        end(f);
}

TEST(groups, strategies_by_name_ordered_ones_among_them)
{
        static const char *const names[] = {"RoundRobin", "DispatchToSingle", "Pinned", "PinnedByCorrelation",
                "PerStream", "PerStream:tag:customer"};
        struct fixture *f = begin();
        create_req *m;
        struct rpc r;

        for (unsigned i = 0; i < COUNT_OF(names); i++) {
                m = create_of("s", names[i]);
                m->options->settings->consumer_strategy = binary(names[i]);
                create(f, m);
                assert_string_equal(text_of(info(f, "s", names[i])->named_consumer_strategy), names[i]);
        }
        m = create_of("s", "g");
        m->options->settings->consumer_strategy = binary("Fairest");
        call(&r, f, GROUPS "Create", m);
        expect_end(&r, GRPC_INTERNAL, "persistent-subscription-failed", "s", "g");
        assert_non_null(strstr(rpc_trailer(&r, "reason"), "RoundRobin"));
        rpc_close(&r);
        end(f);
}

TEST(groups, what_is_wrong_with_a_definition_is_said)
{
        struct fixture *f = begin();
        create_req *cases[12];
        unsigned count = 0;
        struct rpc r;

        cases[count] = create_of("$all", "g");
        count++;
        cases[count++] = create_of("", "g");
        cases[count++] = create_of("s", "");
        cases[count] = create_of("s", "g");
        cases[count++]->options->settings->max_retry_count = -1;
        cases[count] = create_of("s", "g");
        cases[count++]->options->settings->history_buffer_size = -1;
        cases[count] = create_of("s", "g");
        cases[count]->options->settings->message_timeout_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__MESSAGE_TIMEOUT_MESSAGE_TIMEOUT_MS;
        cases[count++]->options->settings->message_timeout_ms = -1;
        cases[count] = create_of("s", "g");
        cases[count]->options->settings->checkpoint_after_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__CHECKPOINT_AFTER_CHECKPOINT_AFTER_TICKS;
        cases[count++]->options->settings->checkpoint_after_ticks = INT64_MAX;
        cases[count] = create_of("s", "g");
        cases[count++]->options->settings = NULL;
        cases[count] = create_of("s", "g");
        cases[count++]->options->stream->revision_option_case = 0;
        cases[count] = create_of(NULL, "g");
        cases[count++]->options->all->all_option_case = 0;
        cases[count] = MESSAGE(persistent_subscriptions__create_req);
        count++;
        for (unsigned i = 0; i < count; i++) {
                call(&r, f, GROUPS "Create", cases[i]);
                if (r.status != GRPC_INVALID_ARGUMENT)
                        fail_msg("case %u: status %d, %s", i, r.status, r.message);
                assert_true(strlen(r.message) > 5);
                rpc_close(&r);
        }
        end(f);
}

TEST(groups, every_refusal_names_stream_and_group)
{
        struct fixture *f = begin();
        EventStore__Client__PersistentSubscriptions__DeleteReq *del =
                MESSAGE(persistent_subscriptions__delete_req);
        EventStore__Client__PersistentSubscriptions__ReplayParkedReq *replay =
                MESSAGE(persistent_subscriptions__replay_parked_req);
        create_req *m = create_of("s", "g");
        struct rpc r, consumer;

        m->options->settings->max_subscriber_count = 1;
        create(f, m);
        call(&r, f, GROUPS "Create", create_of("s", "g"));
        expect_end(&r, GRPC_ALREADY_EXISTS, "persistent-subscription-exists", "s", "g");
        rpc_close(&r);
        call(&r, f, GROUPS "GetInfo", info_of("s", "none"));
        expect_end(&r, GRPC_NOT_FOUND, "persistent-subscription-does-not-exist", "s", "none");
        assert_string_equal(r.message, "Subscription group none on stream s does not exist.");
        rpc_close(&r);
        call(&r, f, GROUPS "Update", create_of(NULL, "none"));
        expect_end(&r, GRPC_NOT_FOUND, "persistent-subscription-does-not-exist", "$all", "none");
        rpc_close(&r);
        join(&consumer, f, "s", "g", 10);
        call(&r, f, GROUPS "Read", options_of("s", "g", 10, true));
        expect_end(&r, GRPC_FAILED_PRECONDITION, "maximum-subscribers-reached", "s", "g");
        assert_memory_equal(r.message, "Maximum subscriptions reached", 29);
        rpc_close(&r);
        replay->options = MESSAGE(persistent_subscriptions__replay_parked_req__options);
        replay->options->group_name = binary("g");
        replay->options->stream_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__REPLAY_PARKED_REQ__OPTIONS__STREAM_OPTION_STREAM_IDENTIFIER;
        replay->options->stream_identifier = stream_of("s");
        call(&r, f, GROUPS "ReplayParked", replay);
        expect_end(&r, GRPC_INVALID_ARGUMENT, NULL, NULL, NULL);
        rpc_close(&r);
        replay->options->stop_at_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__REPLAY_PARKED_REQ__OPTIONS__STOP_AT_OPTION_STOP_AT;
        replay->options->stop_at = -1;
        call(&r, f, GROUPS "ReplayParked", replay);
        expect_end(&r, GRPC_INTERNAL, "persistent-subscription-failed", "s", "g");
        rpc_close(&r);
        del->options = MESSAGE(persistent_subscriptions__delete_req__options);
        del->options->group_name = binary("g");
        del->options->stream_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__DELETE_REQ__OPTIONS__STREAM_OPTION_STREAM_IDENTIFIER;
        del->options->stream_identifier = stream_of("s");
        call(&r, f, GROUPS "Delete", del);
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        rpc_close(&r);
        rpc_wait_end(&consumer);
        expect_end(&consumer, GRPC_CANCELLED, "persistent-subscription-dropped", "s", "g");
        rpc_close(&consumer);
        end(f);
}

/* ---- consumers ---- */

TEST(groups, ids_of_either_form_are_acknowledged)
{
        struct fixture *f = begin();
        EventStore__Client__UUID *ids[10];
        char texts[10][EVENT_ID_TEXT_SIZE + 1];
        struct rpc r;

        append(&f->client, "s", any, 1, 15);
        create(f, create_of("s", "g"));
        join(&r, f, "s", "g", 10);
        rpc_wait(&r, 11);
        for (unsigned i = 0; i < 10; i++) {
                EventStore__Client__PersistentSubscriptions__ReadResp__ReadEvent *e = event_of(&r, 1 + i);
                struct event_id id;

                assert_int_equal(e->event->stream_revision, i);
                assert_int_equal(e->count_case,
                        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__READ_EVENT__COUNT_RETRY_COUNT);
                assert_int_equal(e->retry_count, 0);
                ids[i] = e->event->id;
                assert_int_equal(ids[i]->value_case, EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED);
                if (i % 2)
                        continue;
                event_id_from_halves(ids[i]->structured->most_significant_bits,
                        ids[i]->structured->least_significant_bits, &id);
                event_id_format(&id, texts[i]);
                ids[i] = MESSAGE(uuid);
                ids[i]->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRING;
                ids[i]->string = binary(texts[i]);
        }
        acknowledge(&r, ids, 10);
        rpc_wait(&r, 16);
        assert_int_equal(event_of(&r, 15)->event->stream_revision, 14);
        assert_int_equal(info(f, "s", "g")->total_in_flight_messages, 5);
        rpc_close(&r);
        end(f);
}

/* The metadata of the first parked event of s::g. */
static struct bytes parked_metadata(struct fixture *f)
{
        EventStore__Client__Streams__ReadReq *m = MESSAGE(streams__read_req);
        EventStore__Client__Streams__ReadReq__Options *o = MESSAGE(streams__read_req__options);
        EventStore__Client__Streams__ReadResp *answer;
        struct rpc r;

        m->options = o;
        o->stream_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTION_STREAM;
        o->stream = MESSAGE(streams__read_req__options__stream_options);
        o->stream->stream_identifier = stream_of("$persistentsubscription-s::g-parked");
        o->stream->revision_option_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_START;
        o->stream->start = &empty;
        o->count_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION_COUNT;
        o->count = 1;
        o->uuid_option = MESSAGE(streams__read_req__options__uuidoption);
        o->uuid_option->content_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRUCTURED;
        o->uuid_option->structured = &empty;
        call(&r, f, STREAMS "Read", m);
        assert_int_equal(r.status, GRPC_OK);
        answer = ANSWER(streams__read_resp, &r, 0);
        assert_int_equal(answer->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT);
        rpc_close(&r);
        return bytes_of(
                answer->event->event->custom_metadata.data, answer->event->event->custom_metadata.len);
}

TEST(groups, any_reason_is_kept_as_far_as_it_is_text)
{
        enum { REASON_SIZE = 300 * 1000 };
        struct fixture *f = begin();
        read_req *m = MESSAGE(persistent_subscriptions__read_req);
        uint8_t *reason = arena_get(&memory, REASON_SIZE);
        EventStore__Client__UUID *ids[1];
        struct bytes metadata;
        struct rpc r;

        append(&f->client, "s", any, 1, 1);
        create(f, create_of("s", "g"));
        join(&r, f, "s", "g", 1);
        rpc_wait(&r, 2);
        ids[0] = event_of(&r, 1)->event->id;
        memset(reason, 0xc3, REASON_SIZE); /* halves of letters */
        memcpy(reason, "quote \" and \n", 13);
        m->content_case = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__CONTENT_NACK;
        m->nack = MESSAGE(persistent_subscriptions__read_req__nack);
        m->nack->ids = ids;
        m->nack->n_ids = 1;
        m->nack->action = EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__NACK__ACTION__Park;
        m->nack->reason = (ProtobufCBinaryData){REASON_SIZE, reason};
        send_message(&r, m);
        for (unsigned i = 0; i < 10000 && info(f, "s", "g")->parked_message_count == 0; i++)
                assert_false(r.is_closed);
        assert_int_equal(info(f, "s", "g")->parked_message_count, 1);
        metadata = parked_metadata(f);
        assert_true(metadata.size > 100 && metadata.size < 64 * 1024);
        assert_true(bytes_is_utf8(metadata));
        assert_non_null(memmem(metadata.data, metadata.size, "quote \\\" and \\n", 15));
        rpc_close(&r);
        end(f);
}

TEST(groups, half_closing_is_unsubscribing)
{
        struct fixture *f = begin();
        struct rpc r, other;

        append(&f->client, "s", any, 1, 3);
        create(f, create_of("s", "g"));
        join(&r, f, "s", "g", 10);
        rpc_wait(&r, 4);
        assert_int_equal(info(f, "s", "g")->n_connections, 1);
        rpc_half_close(&r);
        rpc_wait_end(&r);
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        rpc_close(&r);
        assert_int_equal(info(f, "s", "g")->n_connections, 0);
        join(&other, f, "s", "g", 10);
        rpc_wait(&other, 4);
        assert_int_equal(event_of(&other, 1)->retry_count, 1);
        rpc_close(&other);
        end(f);
}

TEST(groups, a_huge_buffer_is_cut_to_what_the_server_gives)
{
        struct fixture *f = begin();
        info_message *i;
        struct rpc r;

        create(f, create_of("s", "g"));
        join(&r, f, "s", "g", INT32_MAX);
        i = info(f, "s", "g");
        assert_int_equal(i->connections[0]->available_slots, 10000);
        assert_string_equal(text_of(i->connections[0]->connection_name), "<unknown>");
        assert_string_equal(text_of(i->connections[0]->username), "anonymous");
        rpc_close(&r);
        end(f);
}

TEST(groups, what_no_client_sends_ends_the_call_and_nothing_else)
{
        struct fixture *f = begin();
        static const struct {
                const char *what;
                bool comes_first;
                struct bytes bytes;
        } cases[] = {
                {"nothing", true, BYTES_LITERAL("")},
                {"an ack first", true, BYTES_LITERAL("\x12\x00")},
                {"options cut off", true, BYTES_LITERAL("\x0a\x05\x0a")},
                {"empty options", true, BYTES_LITERAL("\x0a\x00")},
                {"options twice", false, BYTES_LITERAL("\x0a\x00")},
                {"an id cut off", false, BYTES_LITERAL("\x12\x04\x12\x07zz")},
                {"an id that is a number", false, BYTES_LITERAL("\x12\x02\x10\x01")},
                {"an action that is text", false, BYTES_LITERAL("\x1a\x03\x1a\x01x")},
        };
        struct rpc r, decent;

        append(&f->client, "s", any, 1, 2);
        create(f, create_of("s", "g"));
        join(&decent, f, "s", "g", 1);
        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                if (cases[i].comes_first)
                        rpc_open(&r, &f->client, GROUPS "Read");
                else
                        join(&r, f, "s", "g", 1);
                rpc_send(&r, cases[i].bytes);
                rpc_wait_end(&r);
                if (r.status != GRPC_INVALID_ARGUMENT)
                        fail_msg("%s: status %d, %s", cases[i].what, r.status, r.message);
                rpc_close(&r);
        }
        assert_int_equal(info(f, "s", "g")->n_connections, 1);
        assert_false(decent.is_closed);
        rpc_close(&decent);
        /* What its options may not be. */
        for (unsigned i = 0; i < 4; i++) {
                read_req *m = options_of("s", "g", 10, true);

                if (i == 0)
                        m->options->buffer_size = 0;
                else if (i == 1)
                        m->options->uuid_option = NULL;
                else if (i == 2)
                        m->options->stream_identifier = stream_of("$all");
                else
                        m->options->group_name = binary("");
                call(&r, f, GROUPS "Read", m);
                assert_int_equal(r.status, GRPC_INVALID_ARGUMENT);
                rpc_close(&r);
        }
        end(f);
}

TEST(groups, a_stop_of_the_server_ends_its_consumers)
{
        struct world w = {0};
        struct fixture f;
        struct rpc r;

        world_open(&w);
        client_open(&f.client, w.port);
        create(&f, create_of("s", "g"));
        join(&r, &f, "s", "g", 10);
        os_post(w.os, world_stop, &w);
        rpc_wait_end(&r);
        assert_true(r.status == GRPC_CANCELLED || r.status == GRPC_UNAVAILABLE);
        rpc_close(&r);
        client_close(&f.client);
        pthread_join(w.thread, NULL);
        sem_destroy(&w.is_up);
}

/* ---- the list ---- */

TEST(groups, are_listed_whole_by_stream_and_of_all)
{
        struct fixture *f = begin();
        EventStore__Client__PersistentSubscriptions__ListReq *m = MESSAGE(persistent_subscriptions__list_req);
        EventStore__Client__PersistentSubscriptions__ListResp *answer;
        struct rpc r;

        m->options = MESSAGE(persistent_subscriptions__list_req__options);
        m->options->list_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__OPTIONS__LIST_OPTION_LIST_ALL_SUBSCRIPTIONS;
        m->options->list_all_subscriptions = &empty;
        call(&r, f, GROUPS "List", m);
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        assert_int_equal(r.answers[0].size, 0);
        rpc_close(&r);
        create(f, create_of("s", "a"));
        create(f, create_of("s", "b"));
        create(f, create_of(NULL, "a"));
        call(&r, f, GROUPS "List", m);
        answer = ANSWER(persistent_subscriptions__list_resp, &r, 0);
        assert_int_equal(answer->n_subscriptions, 3);
        rpc_close(&r);
        m->options->list_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__OPTIONS__LIST_OPTION_LIST_FOR_STREAM;
        m->options->list_for_stream = MESSAGE(persistent_subscriptions__list_req__stream_option);
        for (unsigned i = 0; i < 3; i++) {
                m->options->list_for_stream->stream_option_case =
                        i == 2 ? EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__STREAM_OPTION__STREAM_OPTION_ALL
                               : EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__STREAM_OPTION__STREAM_OPTION_STREAM;
                if (i == 2)
                        m->options->list_for_stream->all = &empty;
                else
                        m->options->list_for_stream->stream = stream_of(i ? "none" : "s");
                call(&r, f, GROUPS "List", m);
                if (i == 1) {
                        expect_end(&r, GRPC_NOT_FOUND, "persistent-subscription-does-not-exist", "none", "");
                } else {
                        answer = ANSWER(persistent_subscriptions__list_resp, &r, 0);
                        assert_int_equal(answer->n_subscriptions, i ? 1 : 2);
                }
                rpc_close(&r);
        }
        end(f);
}

TEST(groups, a_long_list_is_made_over_several_turns_and_whole)
{
        enum { GROUPS_MADE = 600 };
        struct fixture *f = begin();
        EventStore__Client__PersistentSubscriptions__ListReq *m = MESSAGE(persistent_subscriptions__list_req);
        EventStore__Client__PersistentSubscriptions__ListResp *answer;
        char name[8];
        struct rpc r, left;

        for (unsigned i = 0; i < GROUPS_MADE; i++) {
                snprintf(name, sizeof(name), "g-%03u", i);
                create(f, create_of("s", name));
        }
        m->options = MESSAGE(persistent_subscriptions__list_req__options);
        m->options->list_option_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__OPTIONS__LIST_OPTION_LIST_ALL_SUBSCRIPTIONS;
        m->options->list_all_subscriptions = &empty;
        /* One that goes away at once leaves nothing behind. */
        rpc_open(&left, &f->client, GROUPS "List");
        send_message(&left, m);
        rpc_half_close(&left);
        client_step(&f->client, 0);
        rpc_close(&left);
        call(&r, f, GROUPS "List", m);
        expect_end(&r, GRPC_OK, NULL, NULL, NULL);
        answer = ANSWER(persistent_subscriptions__list_resp, &r, 0);
        assert_int_equal(answer->n_subscriptions, GROUPS_MADE);
        for (unsigned i = 0; i < GROUPS_MADE; i++) {
                snprintf(name, sizeof(name), "g-%03u", i);
                assert_string_equal(text_of(answer->subscriptions[i]->group_name), name);
        }
        rpc_close(&r);
        end(f);
}

/* ---- what is announced ---- */

TEST(groups, are_announced_for_streams_and_for_all)
{
        static const char *const names[] = {
                "create", "update", "delete", "read", "getinfo", "list", "replayparked", "restartsubsystem"};
        struct fixture *f = begin();
        EventStore__Client__ServerFeatures__SupportedMethods *m;
        unsigned found = 0;
        struct rpc r;

        ask(&r, &f->client, "/event_store.client.server_features.ServerFeatures/GetSupportedMethods");
        m = ANSWER(server_features__supported_methods, &r, 0);
        for (size_t i = 0; i < m->n_methods; i++) {
                if (strcmp(m->methods[i]->service_name,
                            "event_store.client.persistent_subscriptions.persistentsubscriptions") != 0)
                        continue;
                for (unsigned n = 0; n < COUNT_OF(names); n++)
                        found += strcmp(m->methods[i]->method_name, names[n]) == 0;
                assert_int_equal(m->methods[i]->n_features, 2);
                assert_string_equal(m->methods[i]->features[0], "stream");
                assert_string_equal(m->methods[i]->features[1], "all");
        }
        assert_int_equal(found, COUNT_OF(names));
        rpc_close(&r);
        end(f);
}

TEST(groups, wait_for_the_store)
{
        struct world w = {.is_never_ready = true};
        struct fixture f;
        struct rpc r;

        world_open(&w);
        client_open(&f.client, w.port);
        call(&r, &f, GROUPS "GetInfo", info_of("s", "g"));
        assert_int_equal(r.status, GRPC_UNAVAILABLE);
        rpc_close(&r);
        client_close(&f.client);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(groups, forms_of_older_and_other_clients),
                ROW(groups, what_is_not_said_is_the_default),
                ROW(groups, strategies_by_name_ordered_ones_among_them),
                ROW(groups, what_is_wrong_with_a_definition_is_said),
                ROW(groups, every_refusal_names_stream_and_group),
                ROW(groups, ids_of_either_form_are_acknowledged),
                ROW(groups, any_reason_is_kept_as_far_as_it_is_text),
                ROW(groups, half_closing_is_unsubscribing),
                ROW(groups, a_huge_buffer_is_cut_to_what_the_server_gives),
                ROW(groups, what_no_client_sends_ends_the_call_and_nothing_else),
                ROW(groups, a_stop_of_the_server_ends_its_consumers),
                ROW(groups, are_listed_whole_by_stream_and_of_all),
                ROW(groups, a_long_list_is_made_over_several_turns_and_whole),
                ROW(groups, are_announced_for_streams_and_for_all),
                ROW(groups, wait_for_the_store),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
