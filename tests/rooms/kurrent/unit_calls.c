/* The services over a real connection: what clients rely on but the official one for Node.js cannot be made
 * to ask, and what no decent client sends. The rest of the protocol is held by tests/interop. */
#include "kurrent/gossip.pb-c.h"
#include "kurrent/server_features.pb-c.h"
#include "messages.h"

typedef EventStore__Client__Streams__ReadResp read_resp;
typedef EventStore__Client__Streams__BatchAppendReq batch_req;
typedef EventStore__Client__Streams__BatchAppendResp batch_resp;

TEST(append, tells_the_last_revision_and_its_position)
{
        struct world w = {0};
        struct client c;
        EventStore__Client__Streams__AppendResp *answer;
        uint64_t position;

        world_open(&w);
        client_open(&c, w.port);
        answer = append(&c, "a-1", none, 1, 3);
        assert_int_equal(answer->result_case, EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__RESULT_SUCCESS);
        assert_int_equal(answer->success->current_revision, 2);
        position = answer->success->position->commit_position;
        assert_int_equal(answer->success->position->prepare_position, position);
        answer = append(&c, "a-1", (struct expected){EXPECTED_EXACT, 2}, 4, 1);
        assert_int_equal(answer->success->current_revision, 3);
        assert_int_equal(answer->success->position->commit_position, position + 1);
        /* Nothing to write: nothing has a position. */
        answer = append(&c, "a-1", any, 0, 0);
        assert_int_equal(answer->success->current_revision, 3);
        assert_int_equal(answer->success->position_option_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__POSITION_OPTION_NO_POSITION);
        answer = append(&c, "a-absent", any, 0, 0);
        assert_int_equal(answer->success->current_revision_option_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__SUCCESS__CURRENT_REVISION_OPTION_NO_STREAM);
        client_close(&c);
        world_close(&w);
}

TEST(append, a_conflict_fills_the_old_and_the_new_half)
{
        struct world w = {0};
        struct client c;
        EventStore__Client__Streams__AppendResp__WrongExpectedVersion *conflict;
        EventStore__Client__Streams__AppendResp *answer;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "a-1", none, 1, 3);
        answer = append(&c, "a-1", none, 9, 1);
        assert_int_equal(answer->result_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__RESULT_WRONG_EXPECTED_VERSION);
        conflict = answer->wrong_expected_version;
        assert_int_equal(conflict->current_revision, 2);
        assert_int_equal(conflict->current_revision_20_6_0, 2);
        assert_true(conflict->expected_revision_20_6_0 == UINT64_MAX);
        assert_int_equal(conflict->expected_revision_option_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_EXPECTED_NO_STREAM);
        conflict = append(&c, "a-2", (struct expected){EXPECTED_EXACT, 7}, 9, 1)->wrong_expected_version;
        assert_int_equal(conflict->expected_revision, 7);
        assert_int_equal(conflict->expected_revision_20_6_0, 7);
        assert_int_equal(conflict->current_revision_option_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_CURRENT_NO_STREAM);
        assert_int_equal(conflict->current_revision_option_20_6_0_case,
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_20_6_0_NO_STREAM_20_6_0);
        client_close(&c);
        world_close(&w);
}

/* G17: each is refused by itself, with words, and the connection goes on. */
TEST(append, what_is_wrong_with_it_is_said)
{
        enum {
                NO_OPTIONS,
                OPTIONS_TWICE,
                REVISION_TOO_HIGH,
                GARBAGE,
                NOTHING,
                NO_ID,
                NO_TYPE,
                NO_CONTENT_TYPE,
                CASES
        };
        static const char *const words[CASES] = {
                "options", "twice", "2^63", "malformed", "options", "UUID", "'type'", "'content-type'"};
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < CASES; i++) {
                struct rpc r;

                rpc_open(&r, &c, STREAMS "Append");
                if (i != NO_OPTIONS && i != NOTHING)
                        send_options(&r, "a-1",
                                i == REVISION_TOO_HIGH ? (struct expected){EXPECTED_EXACT, UINT64_MAX} : any);
                if (i == NO_OPTIONS)
                        send_event(&r, 1, LACK_NOTHING);
                else if (i == OPTIONS_TWICE)
                        send_options(&r, "a-1", any);
                else if (i == GARBAGE)
                        rpc_send(&r, BYTES_LITERAL("\x12\x7f"));
                else if (i >= NO_ID)
                        send_event(&r, 1, (enum lack)(LACK_ID + (i - NO_ID)));
                rpc_half_close(&r);
                rpc_wait_end(&r);
                assert_int_equal(r.status, GRPC_INVALID_ARGUMENT);
                if (!strstr(r.message, words[i]))
                        fail_msg("case %u says: %s", i, r.message);
                if (i >= NO_TYPE) {
                        assert_string_equal(
                                rpc_trailer(&r, "exception"), "missing-required-metadata-property");
                        assert_string_equal(
                                rpc_trailer(&r, "required-metadata-properties"), "type,content-type");
                }
                rpc_close(&r);
        }
        assert_int_equal(
                append(&c, "a-1", none, 1, 1)->success->current_revision, 0); /* nothing was written */
        client_close(&c);
        world_close(&w);
}

/* ---- BatchAppend ---- */

static batch_req *batch_of(uint64_t correlation, bool is_final)
{
        batch_req *m = MESSAGE(streams__batch_append_req);

        m->correlation_id = uuid_of(correlation);
        m->is_final = is_final;
        return m;
}

static batch_req *with_options(batch_req *m, const char *stream)
{
        m->options = MESSAGE(streams__batch_append_req__options);
        m->options->stream_identifier = stream_of(stream);
        m->options->expected_stream_position_case =
                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__EXPECTED_STREAM_POSITION_NO_STREAM;
        m->options->no_stream = &empty;
        return m;
}

static batch_req *with_event(batch_req *m, uint64_t id, enum lack lack)
{
        m->n_proposed_messages = 1;
        m->proposed_messages = arena_get(&memory, sizeof(*m->proposed_messages));
        m->proposed_messages[0] = proposed_of(id, "{}", lack);
        return m;
}

static batch_resp *batch_answer(struct rpc *r, unsigned n, uint64_t correlation)
{
        batch_resp *m;

        rpc_wait(r, n + 1);
        assert_true(r->count > n);
        m = ANSWER(streams__batch_append_resp, r, n);
        assert_int_equal(m->correlation_id->structured->least_significant_bits, correlation);
        assert_non_null(m->stream_identifier);
        return m;
}

static void assert_error(const batch_resp *m, int code, const char *type)
{
        char url[100];

        snprintf(url, sizeof url, "type.googleapis.com/event_store.client.%s", type);
        assert_int_equal(m->result_case, EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__RESULT_ERROR);
        assert_int_equal(m->error->code, code);
        assert_string_equal(m->error->message, type);
        assert_string_equal(m->error->details->type_url, url);
}

TEST(batch_append, messages_of_several_appends_may_be_mixed)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        batch_resp *m;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open(&r, &c, STREAMS "BatchAppend");
        send_message(&r, with_event(with_options(batch_of(1, false), "b-1"), 11, LACK_NOTHING));
        send_message(&r, with_event(with_options(batch_of(2, false), "b-2"), 21, LACK_NOTHING));
        send_message(&r, with_event(with_options(batch_of(3, true), "b-3"), 31, LACK_NOTHING));
        send_message(&r, with_event(batch_of(2, false), 22, LACK_NOTHING));
        send_message(&r, with_event(batch_of(1, true), 12, LACK_NOTHING));
        send_message(&r, batch_of(2, true));
        m = batch_answer(&r, 0, 3);
        assert_int_equal(m->success->current_revision, 0);
        assert_string_equal(text_of(m->stream_identifier->stream_name), "b-3");
        assert_int_equal(m->expected_stream_position_case,
                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_NO_STREAM);
        m = batch_answer(&r, 1, 1);
        assert_int_equal(m->success->current_revision, 1);
        m = batch_answer(&r, 2, 2);
        assert_int_equal(m->success->current_revision, 1);
        assert_string_equal(text_of(m->stream_identifier->stream_name), "b-2");
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        assert_int_equal(r.count, 3);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* Errors are answers; each append gets one, and what still comes of a refused one is not taken for another.
 */
TEST(batch_append, an_error_is_one_answer_and_the_rest_goes_on)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        batch_resp *m;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "b-1", none, 1, 3);
        rpc_open(&r, &c, STREAMS "BatchAppend");
        send_message(&r, with_event(with_options(batch_of(1, true), "b-1"), 11, LACK_NOTHING));
        m = batch_answer(&r, 0, 1);
        assert_error(m, 6, "WrongExpectedVersion");
        assert_string_equal(text_of(m->stream_identifier->stream_name), "b-1");
        send_message(&r, with_event(with_options(batch_of(2, false), "b-2"), 21, LACK_TYPE));
        assert_error(batch_answer(&r, 1, 2), 3, "BadRequest");
        send_message(&r, with_event(batch_of(2, false), 22, LACK_NOTHING));
        send_message(&r, with_event(batch_of(2, true), 23, LACK_NOTHING));
        send_message(&r, with_event(batch_of(3, false), 31, LACK_NOTHING));
        assert_error(batch_answer(&r, 2, 3), 3, "BadRequest");
        send_message(&r, batch_of(3, true));
        send_message(&r, with_event(with_options(batch_of(4, true), ""), 41, LACK_NOTHING));
        assert_error(batch_answer(&r, 3, 4), 3, "BadRequest");
        send_message(&r, with_event(with_options(batch_of(5, false), "b-5"), 51, LACK_NOTHING));
        send_message(&r, with_options(batch_of(5, true), "b-5"));
        assert_error(batch_answer(&r, 4, 5), 3, "BadRequest");
        /* The ids are free again. */
        send_message(&r, with_event(with_options(batch_of(2, true), "b-2"), 21, LACK_NOTHING));
        assert_int_equal(batch_answer(&r, 5, 2)->success->current_revision, 0);
        send_message(&r, with_event(with_options(batch_of(6, false), "b-6"), 61, LACK_NOTHING));
        rpc_half_close(&r);
        assert_error(batch_answer(&r, 6, 6), 3, "BadRequest");
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        assert_int_equal(r.count, 7);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* What clients send as deadlines: clamped, not overflowed; what has passed is answered at once and not
 * written. */
TEST(batch_append, deadlines_of_every_kind)
{
        enum {
                YEAR_9999 = 0,
                TEN_THOUSAND_YEARS,
                SINCE_EPOCH,
                LARGEST,
                SOON,
                PASSED,
                NEGATIVE,
                NO_TIME,
                CASES
        };
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open(&r, &c, STREAMS "BatchAppend");
        for (unsigned i = 0; i < CASES; i++) {
                char stream[16];
                batch_req *m;
                int64_t seconds[CASES] = {
                        253402300799, 315576000000, time(NULL) + 10, INT64_MAX, 5, time(NULL) - 1, -1, 0};
                bool is_at = i == YEAR_9999 || i == PASSED;

                snprintf(stream, sizeof stream, "b-%u", i);
                m = with_event(with_options(batch_of(i + 1, true), stream), i, LACK_NOTHING);
                if (is_at) {
                        m->options->deadline_option_case =
                                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__DEADLINE_OPTION_DEADLINE_21_10_0;
                        m->options->deadline_21_10_0 = MESSAGE(timestamp);
                        m->options->deadline_21_10_0->seconds = seconds[i];
                } else {
                        m->options->deadline_option_case =
                                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__OPTIONS__DEADLINE_OPTION_DEADLINE;
                        m->options->deadline = MESSAGE(duration);
                        m->options->deadline->seconds = seconds[i];
                }
                send_message(&r, m);
                if (i < PASSED)
                        assert_int_equal(batch_answer(&r, i, i + 1)->result_case,
                                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__RESULT_SUCCESS);
                else
                        assert_error(batch_answer(&r, i, i + 1), 4, "Timeout");
        }
        rpc_close(&r);
        assert_int_equal(append(&c, "b-5", none, 1, 1)->success->current_revision, 0);
        client_close(&c);
        world_close(&w);
}

TEST(batch_append, what_cannot_be_answered_ends_the_call)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        batch_req *m;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open(&r, &c, STREAMS "BatchAppend");
        send_message(&r, with_event(with_options(batch_of(1, false), "b-1"), 1, LACK_NOTHING));
        m = with_options(batch_of(0, true), "b-1");
        m->correlation_id = NULL;
        send_message(&r, m);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_INVALID_ARGUMENT);
        rpc_close(&r);

        /* Begun and never ended: bounded. */
        rpc_open(&r, &c, STREAMS "BatchAppend");
        for (unsigned i = 0; i < 1001; i++)
                send_message(&r, with_event(with_options(batch_of(i + 1, false), "b-1"), i, LACK_NOTHING));
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_RESOURCE_EXHAUSTED);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* ---- Read ---- */

static EventStore__Client__Streams__ReadReq__Options__FilterOptions *with_filter(
        read_options *o, const char *prefix)
{
        o->filter_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTION_FILTER;
        o->filter = MESSAGE(streams__read_req__options__filter_options);
        o->filter->filter_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__FILTER_STREAM_IDENTIFIER;
        o->filter->stream_identifier = MESSAGE(streams__read_req__options__filter_options__expression);
        o->filter->stream_identifier->n_prefix = 1;
        o->filter->stream_identifier->prefix = arena_get(&memory, sizeof(ProtobufCBinaryData));
        o->filter->stream_identifier->prefix[0] = binary(prefix);
        o->filter->window_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__WINDOW_COUNT;
        o->filter->count = &empty;
        o->filter->checkpointintervalmultiplier = 1;
        return o->filter;
}

static void set_compatible(read_options *o)
{
        o->control_option = MESSAGE(streams__read_req__options__control_option);
        o->control_option->compatibility = 1;
}

TEST(read, an_event_as_it_was_written_with_either_form_of_id)
{
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "r-1", none, 0x99, 1);
        for (unsigned is_text = 0; is_text < 2; is_text++) {
                EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent *e;
                read_options *o = read_of("r-1", 10);
                read_resp *m;
                struct rpc r;

                if (!is_text)
                        o->uuid_option->content_case =
                                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRUCTURED;
                begin_read(&r, &c, o);
                rpc_wait_end(&r);
                assert_int_equal(r.status, 0);
                assert_int_equal(r.count, 1); /* no numbers of ends for who does not know them */
                m = ANSWER(streams__read_resp, &r, 0);
                assert_int_equal(m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT);
                assert_null(m->event->link);
                e = m->event->event;
                assert_int_equal(m->event->commit_position, e->commit_position);
                if (is_text)
                        assert_string_equal(text_of(e->id->string), "11223344-5566-7788-0000-000000000099");
                else
                        assert_int_equal(e->id->structured->least_significant_bits, 0x99);
                assert_string_equal(text_of(e->stream_identifier->stream_name), "r-1");
                assert_string_equal(text_of(e->data), "{\"n\":1}");
                assert_int_equal(e->n_metadata, 3);
                assert_string_equal(e->metadata[0]->key, "type");
                assert_string_equal(e->metadata[0]->value, "Happened");
                assert_string_equal(e->metadata[1]->value, "application/json");
                assert_string_equal(e->metadata[2]->key, "created");
                assert_true(llabs(strtoll(e->metadata[2]->value, NULL, 10) / 10000000 -
                                    (long long)time(NULL)) < 60);
                rpc_close(&r);
        }
        client_close(&c);
        world_close(&w);
}

TEST(read, the_ends_of_a_stream_for_those_who_know_them)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        read_options *o = read_of("r-1", 10);
        read_resp *m;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "r-1", none, 1, 3);
        set_compatible(o);
        begin_read(&r, &c, o);
        rpc_wait_end(&r);
        assert_int_equal(r.count, 4);
        m = ANSWER(streams__read_resp, &r, 3);
        assert_int_equal(
                m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_LAST_STREAM_POSITION);
        assert_int_equal(m->last_stream_position, 2);
        rpc_close(&r);

        o->stream->revision_option_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_REVISION;
        o->stream->revision = 7;
        begin_read(&r, &c, o);
        rpc_wait_end(&r);
        assert_int_equal(r.count, 2);
        m = ANSWER(streams__read_resp, &r, 0);
        assert_int_equal(
                m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_FIRST_STREAM_POSITION);
        assert_int_equal(m->first_stream_position, 0);
        rpc_close(&r);

        o = read_of("r-absent", 10);
        set_compatible(o);
        begin_read(&r, &c, o);
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        assert_int_equal(r.count, 1);
        m = ANSWER(streams__read_resp, &r, 0);
        assert_int_equal(m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_STREAM_NOT_FOUND);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

static read_options *without_uuid(void)
{
        read_options *o = read_of(NULL, 1);

        o->uuid_option = NULL;
        return o;
}

static read_options *without_window(void)
{
        read_options *o = read_of(NULL, 1);

        with_filter(o, "x")->window_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__WINDOW__NOT_SET;
        return o;
}

static read_options *without_interval(void)
{
        read_options *o = read_of(NULL, 0);

        with_filter(o, "x")->checkpointintervalmultiplier = 0;
        return o;
}

static read_options *backward_subscription(void)
{
        read_options *o = read_of("r-1", 0);

        o->read_direction = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__READ_DIRECTION__Backwards;
        return o;
}

static read_options *sideways(void)
{
        read_options *o = read_of("r-1", 1);

        o->read_direction = (EventStore__Client__Streams__ReadReq__Options__ReadDirection)2;
        return o;
}

static read_options *filtered_stream(void)
{
        read_options *o = read_of("r-1", 1);

        with_filter(o, "x");
        return o;
}

static read_options *of_no_name(void)
{
        return read_of("", 1);
}

static read_options *of_all_by_name(void)
{
        return read_of("$all", 1);
}

static read_options *from_beyond(void)
{
        read_options *o = read_of("r-1", 1);

        o->stream->revision_option_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTIONS__REVISION_OPTION_REVISION;
        o->stream->revision = UINT64_MAX - 1;
        return o;
}

static read_options *behind_the_log(void)
{
        read_options *o = read_of(NULL, 0);

        o->all->all_option_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_POSITION;
        o->all->position = MESSAGE(streams__read_req__options__position);
        o->all->position->commit_position = 1000000;
        return o;
}

static read_options *no_count(void)
{
        read_options *o = read_of("r-1", 1);

        o->count_option_case = EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION__NOT_SET;
        return o;
}

TEST(read, what_is_wrong_with_it_is_said)
{
        static const struct {
                read_options *(*make)(void);
                const char *word;
        } cases[] = {
                {without_uuid, "uuid_option"},
                {without_window, "window"},
                {without_interval, "checkpointIntervalMultiplier"},
                {backward_subscription, "forwards"},
                {sideways, "read_direction"},
                {filtered_stream, "filtered"},
                {of_no_name, "name"},
                {of_all_by_name, "name"},
                {from_beyond, "2^63"},
                {behind_the_log, "position"},
                {no_count, "count_option"},
        };
        struct world w = {0};
        struct client c;
        struct rpc r;
        read_options *o;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                begin_read(&r, &c, cases[i].make());
                rpc_wait_end(&r);
                if (r.status != GRPC_INVALID_ARGUMENT || !strstr(r.message, cases[i].word) || r.count)
                        fail_msg("case %u: %d %s", i, r.status, r.message);
                rpc_close(&r);
        }
        o = read_of(NULL, 1);
        with_filter(o, "$idx-ce-order");
        begin_read(&r, &c, o);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_NOT_FOUND);
        assert_string_equal(rpc_trailer(&r, "exception"), "index-not-found");
        assert_string_equal(rpc_trailer(&r, "index-name"), "$idx-ce-order");
        rpc_close(&r);
        rpc_open(&r, &c, STREAMS "Read");
        rpc_send(&r, BYTES_LITERAL("\x0a\x7f"));
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_INVALID_ARGUMENT);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* G10. A stop of the server says so, so that clients come again. */
TEST(read, a_subscription_is_confirmed_first_then_told_and_ended_by_a_stop)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        read_resp *m;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "r-1", none, 1, 1);
        begin_read(&r, &c, read_of("r-1", 0));
        rpc_wait(&r, 3);
        m = ANSWER(streams__read_resp, &r, 0);
        assert_int_equal(m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_CONFIRMATION);
        assert_int_equal(strlen(m->confirmation->subscription_id), EVENT_ID_TEXT_SIZE);
        m = ANSWER(streams__read_resp, &r, 1);
        assert_int_equal(m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT);
        m = ANSWER(streams__read_resp, &r, 2);
        assert_int_equal(m->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_CAUGHT_UP);
        assert_int_equal(m->caught_up->stream_revision, 0);
        assert_null(m->caught_up->position);
        append(&c, "r-1", any, 2, 1);
        rpc_wait(&r, 4);
        m = ANSWER(streams__read_resp, &r, 3);
        assert_int_equal(m->event->event->stream_revision, 1);
        os_post(w.os, world_stop, &w);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_UNAVAILABLE);
        assert_int_equal(r.count, 4);
        rpc_close(&r);
        client_close(&c);
        pthread_join(w.thread, NULL);
        sem_destroy(&w.is_up);
}

/* Protocol 3.7: of all streams nobody sees the bookkeeping of persistent subscriptions to all streams,
 * whichever way he reads; by its name, and of other subscriptions, it is there. */
TEST(read, of_all_streams_hides_what_persistent_subscriptions_to_all_keep)
{
        static const char *const streams[] = {
                "$persistentsubscription-$all::g-checkpoint",
                "r-1",
                "$persistentsubscription-$all::g-parked",
                "$persistentsubscription-r-1::g-checkpoint",
                "$epoch-information",
                "$persistentsubscription-$all::g-other",
        };
        static const char *const shown[] = {
                "r-1", "$persistentsubscription-r-1::g-checkpoint", "$persistentsubscription-$all::g-other"};
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < COUNT_OF(streams); i++)
                append(&c, streams[i], any, i + 1, 2);
        for (unsigned way = 0; way < 3; way++) { /* forwards, backwards, as a subscription */
                read_options *o = read_of(NULL, way == 2 ? 0 : 5); /* what is hidden does not count */
                EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent *e;
                struct rpc r;

                if (way == 1) {
                        o->read_direction =
                                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__READ_DIRECTION__Backwards;
                        o->all->all_option_case =
                                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_END;
                        o->all->end = &empty;
                }
                with_filter(o, "r-");
                o->filter->stream_identifier->n_prefix = 0;
                o->filter->stream_identifier->regex = binary("-1$|^[$](persist|epoch)");
                begin_read(&r, &c, o);
                rpc_wait(&r, way == 2 ? 8 : 5);
                if (way < 2) {
                        rpc_wait_end(&r);
                        assert_int_equal(r.count, 5);
                }
                for (unsigned i = 0, n = 0; i < r.count; i++) {
                        read_resp *m = ANSWER(streams__read_resp, &r, i);

                        if (m->content_case != EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT)
                                continue;
                        e = m->event->event;
                        assert_true(n < 2 * COUNT_OF(shown));
                        assert_string_equal(text_of(e->stream_identifier->stream_name),
                                shown[way == 1 ? 2 - n / 2 : n / 2]);
                        n++;
                }
                rpc_close(&r);
        }
        for (unsigned i = 0; i < COUNT_OF(streams); i++) {
                struct rpc r;

                begin_read(&r, &c, read_of(streams[i], 10));
                rpc_wait_end(&r);
                assert_int_equal(r.count, 2);
                rpc_close(&r);
        }
        client_close(&c);
        world_close(&w);
}

struct look {
        struct world *world;
        sem_t is_done;
        unsigned count;
        char name[64], peer[64];
};

static bool note_reader(void *arg, const struct subscription_info *info)
{
        struct look *l = arg;

        snprintf(l->name, sizeof l->name, "%.*s", (int)info->name.size, (const char *)info->name.data);
        snprintf(l->peer, sizeof l->peer, "%.*s", (int)info->peer.size, (const char *)info->peer.data);
        l->count++;
        return true;
}

static void look_at_readers(void *arg)
{
        struct look *l = arg;

        notification_each_subscription(l->world->notification, 0, note_reader, l);
        sem_post(&l->is_done);
}

TEST(read, a_subscription_says_who_reads)
{
        EventStore__Client__Streams__ReadReq *m = MESSAGE(streams__read_req);
        struct world w = {0};
        struct look look = {.world = &w};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        m->options = read_of("r-1", 0);
        rpc_open_with(&r, &c, STREAMS "Read", "connection-name", "billing");
        send_message(&r, m);
        rpc_half_close(&r);
        rpc_wait(&r, 2);
        sem_init(&look.is_done, 0, 0);
        os_post(w.os, look_at_readers, &look);
        sem_wait(&look.is_done);
        sem_destroy(&look.is_done);
        assert_int_equal(look.count, 1);
        assert_string_equal(look.name, "billing");
        assert_non_null(strstr(look.peer, "127.0.0.1"));
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* ---- Delete and Tombstone ---- */

static void begin_delete(
        struct rpc *r, struct client *c, const char *method, const char *stream, bool with_revision)
{
        EventStore__Client__Streams__DeleteReq *m = MESSAGE(streams__delete_req);

        m->options = MESSAGE(streams__delete_req__options);
        m->options->stream_identifier = stream_of(stream);
        m->options->expected_stream_revision_case =
                with_revision
                        ? EVENT_STORE__CLIENT__STREAMS__DELETE_REQ__OPTIONS__EXPECTED_STREAM_REVISION_REVISION
                        : EVENT_STORE__CLIENT__STREAMS__DELETE_REQ__OPTIONS__EXPECTED_STREAM_REVISION_ANY;
        if (with_revision)
                m->options->revision = 7;
        else
                m->options->any = &empty;
        rpc_open(r, c, method);
        send_message(r, m);
        rpc_half_close(r);
        rpc_wait_end(r);
}

TEST(delete, errors_carry_what_clients_look_for)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        EventStore__Client__Streams__DeleteResp *answer;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "d-1", none, 1, 3);
        begin_delete(&r, &c, STREAMS "Delete", "d-1", true);
        assert_int_equal(r.status, GRPC_FAILED_PRECONDITION);
        assert_string_equal(rpc_trailer(&r, "exception"), "wrong-expected-version");
        assert_string_equal(rpc_trailer(&r, "stream-name"), "d-1");
        assert_string_equal(rpc_trailer(&r, "expected-version"), "7");
        assert_string_equal(rpc_trailer(&r, "actual-version"), "2");
        assert_string_equal(
                r.message, "WrongExpectedVersion. Stream: d-1, Expected version: 7, Actual version: 2");
        rpc_close(&r);
        begin_delete(&r, &c, STREAMS "Delete", "d-absent", false);
        assert_string_equal(rpc_trailer(&r, "expected-version"), "-2");
        assert_non_null(strstr(r.message, "Actual version: -1"));
        rpc_close(&r);
        begin_delete(&r, &c, STREAMS "Tombstone", "d-1", false);
        assert_int_equal(r.status, 0);
        answer = ANSWER(streams__delete_resp, &r, 0);
        assert_int_equal(answer->position_option_case,
                EVENT_STORE__CLIENT__STREAMS__DELETE_RESP__POSITION_OPTION_POSITION);
        rpc_close(&r);
        begin_delete(&r, &c, STREAMS "Delete", "d-1", false);
        assert_int_equal(r.status, GRPC_FAILED_PRECONDITION);
        assert_string_equal(rpc_trailer(&r, "exception"), "stream-deleted");
        assert_string_equal(rpc_trailer(&r, "stream-name"), "d-1");
        assert_non_null(strstr(r.message, "is deleted"));
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* ---- ServerFeatures and Gossip ---- */

TEST(features, are_what_is_registered_in_lower_case)
{
        static const char *const expected[][3] = {
                {"event_store.client.streams.streams", "append", ""},
                {"event_store.client.streams.streams", "batchappend", "deadline_duration"},
                {"event_store.client.streams.streams", "read", "position"},
                {"event_store.client.streams.streams", "delete", ""},
                {"event_store.client.streams.streams", "tombstone", ""},
                {"event_store.client.server_features.serverfeatures", "getsupportedmethods", ""},
                {"event_store.client.gossip.gossip", "read", ""},
        };
        struct world w = {0};
        struct client c;
        struct rpc r;
        EventStore__Client__ServerFeatures__SupportedMethods *m;
        int major, minor, patch, end = 0;

        world_open(&w);
        client_open(&c, w.port);
        ask(&r, &c, "/event_store.client.server_features.ServerFeatures/GetSupportedMethods");
        m = ANSWER(server_features__supported_methods, &r, 0);
        assert_true(m->n_methods >= COUNT_OF(expected));
        for (unsigned i = 0; i < COUNT_OF(expected); i++) {
                assert_string_equal(m->methods[i]->service_name, expected[i][0]);
                assert_string_equal(m->methods[i]->method_name, expected[i][1]);
                if (expected[i][2][0])
                        assert_string_equal(m->methods[i]->features[0], expected[i][2]);
                else
                        assert_int_equal(m->methods[i]->n_features, 0);
        }
        assert_int_equal(
                sscanf(m->event_store_server_version, "%d.%d.%d%n", &major, &minor, &patch, &end), 3);
        assert_int_equal(m->event_store_server_version[end], 0);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* A client may ask before the store is open: some take any other answer than these for a broken server. */
TEST(features, and_gossip_answer_before_the_store_is_open)
{
        struct world ready = {0}, opening = {.is_never_ready = true};
        struct world *worlds[] = {&opening, &ready};

        for (unsigned i = 0; i < 2; i++) {
                EventStore__Client__Gossip__ClusterInfo *m;
                struct client c;
                struct rpc r;

                world_open(worlds[i]);
                client_open(&c, worlds[i]->port);
                ask(&r, &c, "/event_store.client.server_features.ServerFeatures/GetSupportedMethods");
                rpc_close(&r);
                ask(&r, &c, "/event_store.client.gossip.Gossip/Read");
                m = ANSWER(gossip__cluster_info, &r, 0);
                assert_int_equal(m->n_members, 1);
                assert_int_equal(m->members[0]->state, i ? 8 : 0);
                assert_true(m->members[0]->is_alive);
                assert_string_equal(m->members[0]->http_end_point->address, "127.0.0.1");
                assert_int_equal(m->members[0]->http_end_point->port, worlds[i]->port);
                assert_true((uint64_t)m->members[0]->instance_id->structured->most_significant_bits ==
                            0xabcd000000000000);
                assert_true(llabs(m->members[0]->time_stamp / 10000000 - (long long)time(NULL)) < 60);
                rpc_close(&r);
                if (!i) {
                        begin_read(&r, &c, read_of(NULL, 1));
                        rpc_wait_end(&r);
                        assert_int_equal(r.status, GRPC_UNAVAILABLE);
                        rpc_close(&r);
                }
                client_close(&c);
                world_close(worlds[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(append, tells_the_last_revision_and_its_position),
                ROW(append, a_conflict_fills_the_old_and_the_new_half),
                ROW(append, what_is_wrong_with_it_is_said),
                ROW(batch_append, messages_of_several_appends_may_be_mixed),
                ROW(batch_append, an_error_is_one_answer_and_the_rest_goes_on),
                ROW(batch_append, deadlines_of_every_kind),
                ROW(batch_append, what_cannot_be_answered_ends_the_call),
                ROW(read, an_event_as_it_was_written_with_either_form_of_id),
                ROW(read, the_ends_of_a_stream_for_those_who_know_them),
                ROW(read, what_is_wrong_with_it_is_said),
                ROW(read, of_all_streams_hides_what_persistent_subscriptions_to_all_keep),
                ROW(read, a_subscription_says_who_reads),
                ROW(read, a_subscription_is_confirmed_first_then_told_and_ended_by_a_stop),
                ROW(delete, errors_carry_what_clients_look_for),
                ROW(features, are_what_is_registered_in_lower_case),
                ROW(features, and_gossip_answer_before_the_store_is_open),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
