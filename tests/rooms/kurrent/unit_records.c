/* AppendSession and AppendRecords over a real connection (protocol 3.10): every outcome of a check, what is
 * told of failures, what older readers see, limits and what no decent client sends. What the official client
 * for Node.js makes of it is held by tests/interop. */
#include "record_messages.h"

#define NO_STREAM    (-1)
#define ANY          (-2)
#define EXISTS       (-4)
#define SOFT_DELETED (-5)
#define TOMBSTONED   (-6)

typedef Kurrentdb__Protocol__V2__Streams__AppendSessionResponse session_answer;
typedef Kurrentdb__Protocol__V2__Streams__AppendRecordsResponse records_answer;
typedef Kurrentdb__Protocol__V2__Streams__Errors__AppendConsistencyViolationErrorDetails violations;
typedef Kurrentdb__Protocol__V2__Streams__Errors__StreamRevisionConflictErrorDetails conflict;

/* ---- helpers ---- */

static void end_stream(struct client *c, const char *stream, const char *method)
{
        EventStore__Client__Streams__DeleteReq *m = MESSAGE(streams__delete_req);
        char path[80];
        struct rpc r;

        m->options = MESSAGE(streams__delete_req__options);
        m->options->stream_identifier = stream_of(stream);
        m->options->expected_stream_revision_case =
                EVENT_STORE__CLIENT__STREAMS__DELETE_REQ__OPTIONS__EXPECTED_STREAM_REVISION_ANY;
        m->options->any = &empty;
        snprintf(path, sizeof path, STREAMS "%s", method);
        rpc_open(&r, c, path);
        send_message(&r, m);
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        rpc_close(&r);
}

/* Events of a stream, as older readers see them. */
static EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent *event_at(
        struct client *c, const char *stream, unsigned n)
{
        EventStore__Client__Streams__ReadResp *answer;
        struct rpc r;

        begin_read(&r, c, read_of(stream, 100));
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        if (r.count <= n)
                fail_msg("%s has %u events", stream, r.count);
        answer = ANSWER(streams__read_resp, &r, n);
        rpc_close(&r);
        assert_int_equal(answer->content_case, EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT);
        return answer->event->event;
}

static unsigned events_in(struct client *c, const char *stream)
{
        EventStore__Client__Streams__ReadResp *answer;
        unsigned count;
        struct rpc r;

        begin_read(&r, c, read_of(stream, 4000));
        rpc_wait_end(&r);
        assert_int_equal(r.status, 0);
        answer = r.count ? ANSWER(streams__read_resp, &r, 0) : NULL;
        count = answer && answer->content_case == EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_EVENT
                        ? r.count
                        : 0;
        rpc_close(&r);
        return count;
}

static const char *metadata_at(struct client *c, const char *stream, unsigned n)
{
        return text_of(event_at(c, stream, n)->custom_metadata);
}

static const char *word_of(
        const EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent *e, const char *key)
{
        for (size_t i = 0; i < e->n_metadata; i++)
                if (strcmp(e->metadata[i]->key, key) == 0)
                        return e->metadata[i]->value;
        return "";
}

/* ---- sessions ---- */

TEST(session, writes_several_streams_as_one_and_tells_their_revisions_G5)
{
        struct world w = {0};
        struct client c;
        session_answer *answer;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "b", none, 100, 2);
        RUN_SESSION(&r, &c, with_records(session_of("a", NO_STREAM), 1, 3),
                with_records(session_of("b", 1), 4, 1), with_records(session_of("c", ANY), 5, 2));
        assert_int_equal(r.status, 0);
        answer = RECORD_ANSWER(append_session_response, &r);
        assert_int_equal(answer->n_output, 3);
        assert_string_equal(text_of(answer->output[0]->stream), "a");
        assert_int_equal(answer->output[0]->stream_revision, 2);
        assert_string_equal(text_of(answer->output[1]->stream), "b");
        assert_int_equal(answer->output[1]->stream_revision, 2);
        assert_int_equal(answer->output[2]->stream_revision, 1);
        assert_int_equal(answer->position, event_at(&c, "c", 1)->commit_position);
        assert_int_equal(answer->position, event_at(&c, "a", 0)->commit_position + 5);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* The first stream that fails, and where it is. */
TEST(session, is_refused_as_a_whole_with_the_first_conflict_G5)
{
        static const struct {
                int64_t expected;
                int64_t actual;
                const char *stream;
        } cases[] = {
                {NO_STREAM, 1, "live"},
                {0, 1, "live"},
                {7, 1, "live"},
                {EXISTS, NO_STREAM, "absent"},
                {5, NO_STREAM, "absent"},
                {EXISTS, SOFT_DELETED, "deleted"},
                {0, 1, "deleted"},
        };
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "live", none, 100, 2);
        append(&c, "deleted", none, 110, 2);
        end_stream(&c, "deleted", "Delete");
        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                conflict *told;
                struct rpc r;

                RUN_SESSION(&r, &c, with_records(session_of("good", ANY), 1, 1),
                        with_records(session_of(cases[i].stream, cases[i].expected), 2, 1),
                        with_records(session_of("also-wrong", 3), 3, 1));
                told = REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "STREAM_REVISION_CONFLICT",
                        stream_revision_conflict_error_details);
                assert_string_equal(text_of(told->stream), cases[i].stream);
                assert_int_equal(told->expected_revision, cases[i].expected);
                assert_int_equal(told->actual_revision, cases[i].actual);
                rpc_close(&r);
        }
        assert_int_equal(events_in(&c, "good"), 0);
        client_close(&c);
        world_close(&w);
}

TEST(session, to_a_tombstoned_stream_says_so)
{
        Kurrentdb__Protocol__V2__Streams__Errors__StreamTombstonedErrorDetails *told;
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        append(&c, "gone", none, 100, 2);
        end_stream(&c, "gone", "Tombstone");
        for (int64_t expected = EXISTS; expected <= 1; expected++) {
                if (expected == -3)
                        continue;
                RUN_SESSION(&r, &c, with_records(session_of("good", ANY), 1, 1),
                        with_records(session_of("gone", expected), 2, 1));
                told = REFUSED_AS(
                        &r, GRPC_FAILED_PRECONDITION, "STREAM_TOMBSTONED", stream_tombstoned_error_details);
                assert_string_equal(text_of(told->stream), "gone");
                rpc_close(&r);
        }
        client_close(&c);
        world_close(&w);
}

TEST(session, names_each_stream_once_in_any_case_of_letters)
{
        Kurrentdb__Protocol__V2__Streams__Errors__StreamAlreadyInAppendSessionErrorDetails *told;
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        RUN_SESSION(&r, &c, with_records(session_of("Order-1", ANY), 1, 1),
                with_records(session_of("oRDER-1", ANY), 2, 1));
        told = REFUSED_AS(&r, GRPC_ABORTED, "STREAM_ALREADY_IN_APPEND_SESSION",
                stream_already_in_append_session_error_details);
        assert_string_equal(text_of(told->stream), "oRDER-1");
        rpc_close(&r);
        assert_int_equal(events_in(&c, "Order-1"), 0);
        client_close(&c);
        world_close(&w);
}

/* G6: what was written is not written again, whichever expectation; the answer is the same. */
TEST(session, of_the_same_ids_is_written_once_G6)
{
        struct world w = {0};
        struct client c;
        session_answer *first = NULL;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < 3; i++) {
                session_answer *answer;
                struct rpc r;

                RUN_SESSION(&r, &c, with_records(session_of("a", NO_STREAM), 1, 2),
                        with_records(session_of("b", ANY), 3, 2));
                assert_int_equal(r.status, 0);
                answer = RECORD_ANSWER(append_session_response, &r);
                first = first ? first : answer;
                assert_int_equal(answer->position, first->position);
                assert_int_equal(answer->output[1]->stream_revision, 1);
                rpc_close(&r);
        }
        assert_int_equal(events_in(&c, "a"), 2);
        assert_int_equal(events_in(&c, "b"), 2);
        client_close(&c);
        world_close(&w);
}

/* A client that goes away in the middle leaves nothing behind, in the log and in memory. */
TEST(session, that_is_cancelled_writes_nothing)
{
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open(&r, &c, RECORDS "AppendSession");
        send_message(&r, with_records(session_of("a", ANY), 1, 2));
        client_step(&c, 50);
        rpc_close(&r);
        RUN_SESSION(&r, &c, with_records(session_of("b", NO_STREAM), 5, 1));
        assert_int_equal(r.status, 0);
        rpc_close(&r);
        assert_int_equal(events_in(&c, "a"), 0);
        client_close(&c);
        world_close(&w); /* asserts that no draft is left */
}

TEST(session, that_does_not_end_in_time_is_given_up)
{
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open_with(&r, &c, RECORDS "AppendSession", "grpc-timeout", "100m");
        send_message(&r, with_records(session_of("a", ANY), 1, 2));
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_DEADLINE_EXCEEDED);
        rpc_close(&r);
        assert_int_equal(events_in(&c, "a"), 0);
        client_close(&c);
        world_close(&w);
}

/* ---- records and checks ---- */

enum state { ABSENT, LIVE, SOFT, TOMB, STATES };

static void bring_into(struct client *c, const char *stream, enum state state, uint64_t id)
{
        if (state == ABSENT)
                return;
        append(c, stream, none, id, 3);
        if (state == SOFT)
                end_stream(c, stream, "Delete");
        if (state == TOMB)
                end_stream(c, stream, "Tombstone");
}

/* protocol 3.10, as numbers: 9 is "holds", else what is told of the stream. */
enum { HOLDS = 9 };
#define CHECKS 8
static const int64_t expectations[CHECKS] = {0, 2, 7, NO_STREAM, EXISTS, SOFT_DELETED, TOMBSTONED, ANY};
static const int64_t outcomes[2][CHECKS][STATES] = {
        /* only checked: absent, live (2), soft-deleted (2), tombstoned */
        {
                {NO_STREAM, 2, 2, TOMBSTONED}, {NO_STREAM, HOLDS, HOLDS, TOMBSTONED},
                {NO_STREAM, 2, 2, TOMBSTONED}, {HOLDS, 2, HOLDS, HOLDS},
                {NO_STREAM, HOLDS, SOFT_DELETED, TOMBSTONED}, {NO_STREAM, 2, HOLDS, TOMBSTONED},
                {NO_STREAM, 2, 2, HOLDS}, {HOLDS, HOLDS, HOLDS, HOLDS}, /* without a check there is nothing */
        },
        /* also written */
        {
                {NO_STREAM, 2, 2, TOMBSTONED},
                {NO_STREAM, HOLDS, HOLDS, TOMBSTONED},
                {NO_STREAM, 2, 2, TOMBSTONED},
                {HOLDS, 2, HOLDS, TOMBSTONED},
                {NO_STREAM, HOLDS, SOFT_DELETED, TOMBSTONED},
                {NO_STREAM, 2, HOLDS, TOMBSTONED},
                {NO_STREAM, 2, 2, TOMBSTONED},
                {HOLDS, HOLDS, HOLDS, TOMBSTONED},
        },
};

static void check_one(struct client *c, unsigned e, enum state s, bool is_written)
{
        int64_t outcome = outcomes[is_written][e][s];
        int64_t expected = expectations[e];
        uint64_t id = 1000 * (1 + e * STATES * 2 + s * 2 + is_written);
        records_request *m = RECORD_MESSAGE(append_records_request);
        records_answer *answer;
        violations *told;
        char *stream;
        char name[32];
        struct rpc r;

        snprintf(name, sizeof name, "s-%u-%u-%u", e, s, is_written);
        stream = arena_string(&memory, bytes_of_string(name));
        bring_into(c, stream, s, id);
        add_record(m, record_of("beside", id + 10));
        if (is_written)
                add_record(m, record_of(stream, id + 11));
        if (expected != ANY)
                add_check(m, stream, expected);
        run_records(&r, c, m);
        if (outcome == HOLDS) {
                if (r.status)
                        fail_msg("%s: %s", name, r.message);
                answer = RECORD_ANSWER(append_records_response, &r);
                assert_int_equal(answer->n_revisions, 1 + is_written);
                rpc_close(&r);
                return;
        }
        told = REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION",
                append_consistency_violation_error_details);
        assert_int_equal(told->n_violations, 1);
        /* Beyond the checks stand the streams that are only written. */
        assert_int_equal(told->violations[0]->check_index, expected == ANY ? 1 : 0);
        assert_string_equal(text_of(told->violations[0]->stream_state->stream), name);
        assert_int_equal(told->violations[0]->stream_state->expected_state, expected);
        if (told->violations[0]->stream_state->actual_state != outcome)
                fail_msg("%s: expected %lld, told %lld", name, (long long)outcome,
                        (long long)told->violations[0]->stream_state->actual_state);
        rpc_close(&r);
}

TEST(checks, of_every_kind_in_every_state_of_the_stream_G5)
{
        struct world w = {0};
        struct client c;
        unsigned held = 0;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned e = 0; e < CHECKS; e++)
                for (enum state s = ABSENT; s < STATES; s++)
                        for (unsigned written = 0; written < 2; written++) {
                                check_one(&c, e, s, written);
                                held += outcomes[written][e][s] == HOLDS;
                        }
        assert_int_equal(events_in(&c, "beside"), held);
        client_close(&c);
        world_close(&w);
}

TEST(checks, that_fail_are_all_told_with_their_place)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        violations *told;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        bring_into(&c, "live", LIVE, 100);
        bring_into(&c, "gone", TOMB, 200);
        add_record(m, record_of("live", 1));
        add_record(m, record_of("gone", 2));
        add_check(m, "absent", EXISTS);
        add_check(m, "live", 2);
        add_check(m, "other", NO_STREAM);
        add_check(m, "absent-2", 4);
        run_records(&r, &c, m);
        told = REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION",
                append_consistency_violation_error_details);
        assert_int_equal(told->n_violations, 3);
        assert_int_equal(told->violations[0]->check_index, 0);
        assert_int_equal(told->violations[1]->check_index, 3);
        assert_int_equal(told->violations[1]->stream_state->expected_state, 4);
        assert_true(told->violations[2]->check_index >= 4);
        assert_string_equal(text_of(told->violations[2]->stream_state->stream), "gone");
        assert_int_equal(told->violations[2]->stream_state->expected_state, ANY);
        assert_int_equal(told->violations[2]->stream_state->actual_state, TOMBSTONED);
        assert_non_null(strstr(r.message, "3 failed"));
        rpc_close(&r);
        assert_int_equal(events_in(&c, "live"), 3);
        client_close(&c);
        world_close(&w);
}

/* Trailers have little room: as many as fit are told, and how many there are. */
TEST(checks, that_fail_in_great_number_are_told_as_far_as_there_is_room_G17)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        violations *told;
        char name[1000];
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        add_record(m, record_of("a", 1));
        for (unsigned i = 0; i < 999; i++) {
                memset(name, 'x', sizeof name);
                snprintf(name, sizeof name, "s-%u", i);
                name[strlen(name)] = i % 2 ? 'x' : '\0';
                name[sizeof name - 1] = '\0';
                add_check(m, arena_string(&memory, bytes_of_string(name)), EXISTS);
        }
        run_records(&r, &c, m);
        told = REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION",
                append_consistency_violation_error_details);
        assert_true(told->n_violations >= 3 && told->n_violations < 999);
        assert_non_null(strstr(r.message, "999 failed"));
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(records, of_several_streams_get_into_the_log_in_their_order_G4)
{
        static const char *const order[] = {"x", "y", "x", "z", "y", "x"};
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        records_answer *answer;
        uint64_t first;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < COUNT_OF(order); i++)
                add_record(m, record_of(order[i], 1 + i));
        run_records(&r, &c, m);
        assert_int_equal(r.status, 0);
        answer = RECORD_ANSWER(append_records_response, &r);
        assert_int_equal(answer->n_revisions, 3);
        assert_string_equal(text_of(answer->revisions[0]->stream), "x");
        assert_int_equal(answer->revisions[0]->revision, 2);
        assert_int_equal(answer->revisions[2]->revision, 0);
        first = (uint64_t)answer->position - 5;
        assert_int_equal(event_at(&c, "x", 0)->commit_position, first);
        assert_int_equal(event_at(&c, "y", 0)->commit_position, first + 1);
        assert_int_equal(event_at(&c, "x", 1)->commit_position, first + 2);
        assert_int_equal(event_at(&c, "z", 0)->commit_position, first + 3);
        assert_int_equal(event_at(&c, "x", 2)->commit_position, first + 5);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* G6: all of it was written: the same answer, even where a check of another stream would fail now. A part of
 * it: nothing is written. */
TEST(records, that_were_written_are_not_written_again_G6)
{
        struct world w = {0};
        struct client c;
        int64_t position = 0;
        violations *told;
        records_request *m;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < 2; i++) {
                m = RECORD_MESSAGE(append_records_request);
                add_record(m, record_of("a", 1));
                add_record(m, record_of("b", 2));
                add_check(m, "checked", NO_STREAM);
                run_records(&r, &c, m);
                assert_int_equal(r.status, 0);
                if (!i)
                        position = ((records_answer *)RECORD_ANSWER(append_records_response, &r))->position;
                assert_int_equal(
                        ((records_answer *)RECORD_ANSWER(append_records_response, &r))->position, position);
                rpc_close(&r);
                append(&c, "checked", any, 100 + i, 1);
        }
        m = RECORD_MESSAGE(append_records_request);
        add_record(m, record_of("a", 1));
        add_record(m, record_of("new", 3));
        run_records(&r, &c, m);
        told = REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION",
                append_consistency_violation_error_details);
        assert_int_equal(told->n_violations, 1);
        assert_string_equal(text_of(told->violations[0]->stream_state->stream), "a");
        assert_int_equal(told->violations[0]->stream_state->actual_state, 0);
        rpc_close(&r);
        assert_int_equal(events_in(&c, "new"), 0);
        client_close(&c);
        world_close(&w);
}

/* ---- what older readers see ---- */

TEST(records, are_events_with_their_schema_and_properties_as_metadata)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        record *with_all = record_of("s", 1);
        record *as_bytes = record_of("s", 0);
        value *nested = RECORD_MESSAGE(value);
        value *list = RECORD_MESSAGE(value);
        value *nothing = RECORD_MESSAGE(value);
        value *yes = RECORD_MESSAGE(value);
        Kurrentdb__Protocol__V2__Streams__Struct__FieldsEntry *field = RECORD_MESSAGE(struct__fields_entry);
        EventStore__Client__Streams__ReadResp__ReadEvent__RecordedEvent *e;
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        nothing->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_NULL_VALUE;
        yes->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_BOOL_VALUE;
        yes->bool_value = 1;
        list->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_LIST_VALUE;
        list->list_value = RECORD_MESSAGE(list_value);
        ADD(list->list_value->values, list->list_value->n_values, number_value(0.1));
        ADD(list->list_value->values, list->list_value->n_values, nothing);
        field->key = (char *)(uintptr_t) "in";
        field->value = list;
        nested->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_STRUCT_VALUE;
        nested->struct_value = RECORD_MESSAGE(struct);
        ADD(nested->struct_value->fields, nested->struct_value->n_fields, field);
        add_property(with_all, "tenant", text_value("caf\u00e9 \"x\"\n"));
        add_property(with_all, "count", number_value(1e15 + 1));
        add_property(with_all, "below", number_value(-12.75));
        add_property(with_all, "third", number_value(1.0 / 3));
        add_property(with_all, "minus", number_value(-0.0));
        add_property(with_all, "large", number_value(1e300));
        add_property(with_all, "yes", yes);
        add_property(with_all, "$schema.name", text_value("is not taken"));
        add_property(with_all, "deep", nested);
        add_property(with_all, "tenant", text_value("the last counts"));
        with_all->schema->id = binary("aaaaaaaa-0000-4000-8000-000000000001");
        add_record(m, with_all);
        as_bytes->schema->format = KURRENTDB__PROTOCOL__V2__STREAMS__SCHEMA_FORMAT__SCHEMA_FORMAT_PROTOBUF;
        as_bytes->schema->name = binary("my.Type-2:x_$");
        add_record(m, as_bytes);
        add_record(m, record_of("s", 3));
        add_record(m, record_of("s", 4)); /* shares its metadata with the one before */
        run_records(&r, &c, m);
        if (r.status)
                fail_msg("%s", r.message);
        rpc_close(&r);
        assert_string_equal(metadata_at(&c, "s", 0),
                "{\"tenant\":\"the last "
                "counts\",\"count\":1000000000000001,\"below\":-12.75,\"third\":0.33333333333333331,"
                "\"minus\":-0,"
                "\"large\":1e+300,\"yes\":true,\"deep\":{\"in\":[0.1,null]},"
                "\"$schema.name\":\"Happened\",\"$schema.format\":\"Json\","
                "\"$schema.id\":\"aaaaaaaa-0000-4000-8000-000000000001\"}");
        e = event_at(&c, "s", 0);
        assert_string_equal(word_of(e, "type"), "Happened");
        assert_string_equal(word_of(e, "content-type"), "application/json");
        assert_string_equal(text_of(e->id->string), id_text(1));
        assert_string_equal(text_of(e->data), "{\"n\":1}");
        e = event_at(&c, "s", 1);
        assert_string_equal(word_of(e, "type"), "my.Type-2:x_$");
        assert_string_equal(word_of(e, "content-type"), "application/octet-stream");
        assert_string_equal(text_of(e->custom_metadata),
                "{\"$schema.name\":\"my.Type-2:x_$\",\"$schema.format\":\"Protobuf\"}");
        assert_true(e->id->string.len == EVENT_ID_TEXT_SIZE && e->id->string.data[14] == '4');
        for (unsigned i = 2; i < 4; i++)
                assert_string_equal(metadata_at(&c, "s", i),
                        "{\"$schema.name\":\"Happened\",\"$schema.format\":\"Json\"}");
        client_close(&c);
        world_close(&w);
}

/* ---- bad input (G17) ---- */

static value *nested_value(unsigned depth)
{
        value *v = text_value("in the middle");

        while (depth--) {
                value *around = RECORD_MESSAGE(value);

                around->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_LIST_VALUE;
                around->list_value = RECORD_MESSAGE(list_value);
                ADD(around->list_value->values, around->list_value->n_values, v);
                v = around;
        }
        return v;
}

enum spoil {
        NO_RECORDS,
        NO_STREAM_NAME,
        ALL_STREAM,
        LONG_NAME,
        ID_NO_UUID,
        ID_NIL,
        NO_SCHEMA,
        NO_FORMAT,
        UNKNOWN_FORMAT,
        NO_TYPE,
        TYPE_WITH_SPACE,
        TYPE_TOO_LONG,
        SCHEMA_ID_NO_UUID,
        PROPERTY_WITHOUT_NAME,
        PROPERTY_WITHOUT_KIND,
        PROPERTY_NOT_A_NUMBER,
        PROPERTY_NO_UTF8,
        PROPERTY_TOO_DEEP,
        PROPERTIES_TOO_LARGE,
        CHECK_OF_NO_TYPE,
        CHECK_ANY,
        CHECK_UNKNOWN,
        CHECK_TWICE,
        CHECK_NO_STREAM,
        SPOILS,
};
static const char *const spoilt_fields[SPOILS] = {
        [NO_RECORDS] = "records",
        [NO_STREAM_NAME] = "records[1].stream",
        [ALL_STREAM] = "records[1].stream",
        [LONG_NAME] = "records[1].stream",
        [ID_NO_UUID] = "records[1].record_id",
        [ID_NIL] = "records[1].record_id",
        [NO_SCHEMA] = "records[1].schema.format",
        [NO_FORMAT] = "records[1].schema.format",
        [UNKNOWN_FORMAT] = "records[1].schema.format",
        [NO_TYPE] = "records[1].schema.name",
        [TYPE_WITH_SPACE] = "records[1].schema.name",
        [TYPE_TOO_LONG] = "records[1].schema.name",
        [SCHEMA_ID_NO_UUID] = "records[1].schema.id",
        [PROPERTY_WITHOUT_NAME] = "records[1].properties",
        [PROPERTY_WITHOUT_KIND] = "records[1].properties",
        [PROPERTY_NOT_A_NUMBER] = "records[1].properties",
        [PROPERTY_NO_UTF8] = "records[1].properties",
        [PROPERTY_TOO_DEEP] = "records[1].properties",
        [PROPERTIES_TOO_LARGE] = "records[1].properties",
        [CHECK_OF_NO_TYPE] = "checks[0].type",
        [CHECK_ANY] = "checks[0].stream_state.expected_state",
        [CHECK_UNKNOWN] = "checks[0].stream_state.expected_state",
        [CHECK_TWICE] = "checks[1].stream_state.stream",
        [CHECK_NO_STREAM] = "checks[0].stream_state.stream",
};

static char *long_text(size_t size)
{
        char *text = arena_get(&memory, size + 1);

        memset(text, 'x', size);
        text[size] = '\0';
        return text;
}

static void spoil_record(record *m, enum spoil how)
{
        switch (how) {
        case NO_STREAM_NAME:
                m->stream = binary("");
                break;
        case ALL_STREAM:
                m->stream = binary("$all");
                break;
        case LONG_NAME:
                m->stream = binary(long_text(1025));
                break;
        case ID_NO_UUID:
                m->record_id = binary("11223344-5566-4788-8000-00000000000g");
                break;
        case ID_NIL:
                m->record_id = binary("00000000-0000-0000-0000-000000000000");
                break;
        case NO_SCHEMA:
                m->schema = NULL;
                break;
        case NO_FORMAT:
                m->schema->format =
                        KURRENTDB__PROTOCOL__V2__STREAMS__SCHEMA_FORMAT__SCHEMA_FORMAT_UNSPECIFIED;
                break;
        case UNKNOWN_FORMAT:
                m->schema->format = 5;
                break;
        case NO_TYPE:
                m->schema->name = binary("");
                break;
        case TYPE_WITH_SPACE:
                m->schema->name = binary("It Happened");
                break;
        case TYPE_TOO_LONG:
                m->schema->name = binary(long_text(1025));
                break;
        case SCHEMA_ID_NO_UUID:
                m->schema->id = binary("7");
                break;
        case PROPERTY_WITHOUT_NAME:
                add_property(m, "", text_value("x"));
                break;
        case PROPERTY_WITHOUT_KIND:
                add_property(m, "x", RECORD_MESSAGE(value));
                break;
        case PROPERTY_NOT_A_NUMBER:
                add_property(m, "x", number_value(1.0 / 0.0));
                break;
        case PROPERTY_NO_UTF8:
                add_property(m, "x", text_value("\xc3("));
                break;
        case PROPERTY_TOO_DEEP:
                add_property(m, "x", nested_value(30));
                break;
        case PROPERTIES_TOO_LARGE:
                add_property(m, "x", text_value(long_text(600000)));
                add_property(m, "y", text_value(long_text(600000)));
                break;
        default:
                break;
        }
}

static records_request *spoilt_request(enum spoil how)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        record *second = record_of("s", 2);

        if (how == NO_RECORDS)
                return m;
        spoil_record(second, how);
        add_record(m, record_of("s", 1));
        add_record(m, second);
        if (how == CHECK_OF_NO_TYPE)
                ADD(m->checks, m->n_checks, RECORD_MESSAGE(consistency_check));
        if (how == CHECK_ANY || how == CHECK_UNKNOWN)
                add_check(m, "s", how == CHECK_ANY ? ANY : -3);
        if (how == CHECK_NO_STREAM)
                add_check(m, "", NO_STREAM);
        if (how == CHECK_TWICE)
                for (unsigned i = 0; i < 2; i++)
                        add_check(m, "s", NO_STREAM);
        return m;
}

TEST(records, that_are_not_valid_are_refused_with_the_field_G17)
{
        struct world w = {0};
        struct client c;
        records_request *good = RECORD_MESSAGE(append_records_request);
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        for (enum spoil how = 0; how < SPOILS; how++) {
                const char *field;

                run_records(&r, &c, spoilt_request(how));
                field = bad_field(&r);
                if (strcmp(field, spoilt_fields[how]) != 0)
                        fail_msg("case %u names %s: %s", how, field, r.message);
                rpc_close(&r);
        }
        /* Just within the bounds, on the same connection; nothing was written before. */
        add_record(good, record_of("s", 1));
        add_property(good->records[0], "x", nested_value(29));
        good->records[0]->schema->name = binary(long_text(1024));
        add_check(good, "s", NO_STREAM);
        run_records(&r, &c, good);
        if (r.status)
                fail_msg("%s", r.message);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* One record tells of all its fields that are wrong. */
TEST(records, tell_of_every_field_that_is_wrong)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        record *bad = record_of("s", 0);
        Google__Rpc__BadRequest *told;
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        bad->record_id = binary("x");
        bad->schema->format = 0;
        bad->schema->name = binary("no spaces");
        bad->schema->id = binary("x");
        add_record(m, bad);
        run_records(&r, &c, m);
        told = refused_as(&r, GRPC_INVALID_ARGUMENT, "BAD_REQUEST", &google__rpc__bad_request__descriptor);
        assert_int_equal(told->n_field_violations, 4);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(session, that_is_not_valid_is_refused_with_the_field_G17)
{
        struct world w = {0};
        struct client c;
        session_request *const cases[] = {
                with_records(session_of("", ANY), 1, 1),
                session_of("s", ANY),
                with_records(session_of("s", SOFT_DELETED), 1, 1),
                with_records(session_of("s", -3), 1, 1),
                with_records(session_of("s", INT64_MAX), 1, 1),
                with_records(session_of("s", INT64_MIN), 1, 1),
                with_records(session_of("s", ANY), 1, 3),
        };
        static const char *const fields[] = {"stream", "records", "expected_revision", "expected_revision",
                "expected_revision", "expected_revision", "records[2].schema.name"};
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        cases[6]->records[2]->schema->name = binary("");
        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                RUN_SESSION(&r, &c, with_records(session_of("before", ANY), 10, 1), cases[i]);
                assert_string_equal(bad_field(&r), fields[i]);
                rpc_close(&r);
        }
        rpc_open(&r, &c, RECORDS "AppendSession");
        rpc_half_close(&r);
        rpc_wait_end(&r);
        refused_as(&r, GRPC_FAILED_PRECONDITION, "APPEND_SESSION_NO_REQUESTS", NULL);
        rpc_close(&r);
        assert_int_equal(events_in(&c, "before"), 0);
        client_close(&c);
        world_close(&w);
}

/* Bytes that are no messages; the connection goes on. */
TEST(bytes, that_are_no_message_are_refused_G17)
{
        static const struct bytes cases[] = {
                {(const uint8_t *)"\x0a", 1},     /* cut off */
                {(const uint8_t *)"\x0a\x7f", 2}, /* longer than it is */
                {(const uint8_t *)"\x08\x01", 2}, /* another wire type */
                {(const uint8_t *)"\x0a\x02\x1a\x05",
                        4}, /* within a record (AppendRecords), a name (AppendSession) */
                {(const uint8_t *)"\x12\x03\x1a\x01\x08", 5}, /* within a schema, a check */
                {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        };
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < COUNT_OF(cases); i++)
                for (unsigned is_session = 0; is_session < 2; is_session++) {
                        struct rpc r;

                        rpc_open(&r, &c, is_session ? RECORDS "AppendSession" : RECORDS "AppendRecords");
                        rpc_send(&r, cases[i]);
                        rpc_half_close(&r);
                        rpc_wait_end(&r);
                        bad_field(&r);
                        rpc_close(&r);
                }
        assert_int_equal(append(&c, "s", none, 1, 1)->success->current_revision, 0);
        client_close(&c);
        world_close(&w);
}

/* ---- limits ---- */

TEST(limit, of_a_record_is_told_with_its_size_G17)
{
        Kurrentdb__Protocol__V2__Streams__Errors__AppendRecordSizeExceededErrorDetails *told;
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        add_record(m, record_of("s", 1));
        m->records[0]->data.data = (uint8_t *)long_text(LIMIT_EVENT_SIZE_MAX);
        m->records[0]->data.len = LIMIT_EVENT_SIZE_MAX;
        run_records(&r, &c, m);
        told = REFUSED_AS(&r, GRPC_INVALID_ARGUMENT, "APPEND_RECORD_SIZE_EXCEEDED",
                append_record_size_exceeded_error_details);
        assert_string_equal(text_of(told->stream), "s");
        assert_string_equal(told->record_id, id_text(1));
        assert_int_equal(told->size, LIMIT_EVENT_SIZE_MAX + strlen("Happened"));
        assert_int_equal(told->max_size, LIMIT_EVENT_SIZE_MAX);
        rpc_close(&r);
        /* With what is kept beside it, it must fit as well. */
        m->records[0]->data.len -= strlen("Happened");
        run_records(&r, &c, m);
        REFUSED_AS(&r, GRPC_INVALID_ARGUMENT, "APPEND_RECORD_SIZE_EXCEEDED",
                append_record_size_exceeded_error_details);
        rpc_close(&r);
        m->records[0]->data.len -= strlen("Happened{'$schema.name':'Happened','$schema.format':'Json'}");
        run_records(&r, &c, m);
        if (r.status)
                fail_msg("%s", r.message);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(limit, of_an_append_is_told_with_its_size_G17)
{
        Kurrentdb__Protocol__V2__Streams__Errors__AppendTransactionSizeExceededErrorDetails *told;
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        rpc_open(&r, &c, RECORDS "AppendSession");
        for (unsigned i = 0; i < 5; i++) {
                session_request *m = with_records(session_of(id_text(i), ANY), i + 1, 1);

                m->records[0]->data.len = 15 * 1024 * 1024;
                m->records[0]->data.data = (uint8_t *)long_text(m->records[0]->data.len);
                send_message(&r, m);
        }
        rpc_half_close(&r);
        rpc_wait_end(&r);
        told = REFUSED_AS(&r, GRPC_ABORTED, "APPEND_TRANSACTION_SIZE_EXCEEDED",
                append_transaction_size_exceeded_error_details);
        assert_int_equal(told->max_size, LIMIT_APPEND_SIZE_MAX);
        assert_true(told->size > told->max_size);
        rpc_close(&r);
        assert_int_equal(events_in(&c, id_text(0)), 0);
        client_close(&c);
        world_close(&w);
}

/* What takes long to write down is bounded for the append, so that one message does not hold up all others.
 */
TEST(limit, of_numbers_in_the_properties_of_one_append_G18)
{
        static const char *const keys[] = {"a", "b", "c", "d"};
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        m->records = arena_get(&memory, 25001 * sizeof(*m->records));
        for (unsigned i = 0; i < 25000; i++) {
                record *each = record_of("s", 1 + i);

                for (unsigned k = 0; k < COUNT_OF(keys); k++)
                        add_property(each, keys[k], number_value(i + 0.5));
                m->records[m->n_records++] = each;
        }
        run_records(&r, &c, m);
        if (r.status)
                fail_msg("%s", r.message);
        rpc_close(&r);
        m->records[m->n_records++] = record_of("s", 100000);
        add_property(m->records[25000], "n", number_value(-7)); /* integers do not count */
        run_records(&r, &c, m);
        REFUSED_AS(&r, GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION",
                append_consistency_violation_error_details); /* the others were written before */
        rpc_close(&r);
        add_property(m->records[25000], "x", number_value(0.1));
        run_records(&r, &c, m);
        assert_string_equal(bad_field(&r), "records[25000].properties");
        assert_non_null(strstr(r.message, "100000 numbers"));
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(limit, of_streams_in_one_append_G17)
{
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < LIMIT_APPEND_STREAMS_MAX; i++)
                add_record(m, record_of(id_text(i), 1 + i));
        run_records(&r, &c, m);
        if (r.status)
                fail_msg("%s", r.message);
        rpc_close(&r);
        add_record(m, record_of("one-more", 5000));
        run_records(&r, &c, m);
        assert_string_equal(bad_field(&r), "records[1000].stream");
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(session, writes_several_streams_as_one_and_tells_their_revisions_G5),
                ROW(session, is_refused_as_a_whole_with_the_first_conflict_G5),
                ROW(session, to_a_tombstoned_stream_says_so),
                ROW(session, names_each_stream_once_in_any_case_of_letters),
                ROW(session, of_the_same_ids_is_written_once_G6),
                ROW(session, that_is_cancelled_writes_nothing),
                ROW(session, that_does_not_end_in_time_is_given_up),
                ROW(checks, of_every_kind_in_every_state_of_the_stream_G5),
                ROW(checks, that_fail_are_all_told_with_their_place),
                ROW(checks, that_fail_in_great_number_are_told_as_far_as_there_is_room_G17),
                ROW(records, of_several_streams_get_into_the_log_in_their_order_G4),
                ROW(records, that_were_written_are_not_written_again_G6),
                ROW(records, are_events_with_their_schema_and_properties_as_metadata),
                ROW(records, that_are_not_valid_are_refused_with_the_field_G17),
                ROW(records, tell_of_every_field_that_is_wrong),
                ROW(session, that_is_not_valid_is_refused_with_the_field_G17),
                ROW(bytes, that_are_no_message_are_refused_G17),
                ROW(limit, of_a_record_is_told_with_its_size_G17),
                ROW(limit, of_an_append_is_told_with_its_size_G17),
                ROW(limit, of_numbers_in_the_properties_of_one_append_G18),
                ROW(limit, of_streams_in_one_append_G17),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
