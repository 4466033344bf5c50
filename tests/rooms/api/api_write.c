/* Writing over HTTP: every form of a body, every expectation, every refusal with what it says (G3, G5, G6,
 * G16, G17). */
#include "support.h"

static struct server *server;

static int start(void **state)
{
        (void)state;
        server = server_start(NULL);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

#define EVENT "{\"type\":\"OrderPlaced\",\"data\":{\"total\":7}}"

/* ---- append ---- */

TEST(append, the_line_of_the_readme_works_and_tells_where_the_event_is)
{
        json_t *json = call(
                server, 201, "POST /v1/streams/order-43/events", "Nilo-Expect: none\r\n" JSON_BODY, EVENT);

        assert_string_equal(text(json, "stream"), "order-43");
        assert_int_equal(number(json, "first_revision"), 0);
        assert_int_equal(number(json, "last_revision"), 0);
        assert_true(number(json, "position") >= 0);
        assert_int_equal(number(json, "first_position"), number(json, "position"));
        assert_true(json_is_false(json_object_get(json, "duplicate")));
        assert_int_equal(json_array_size(json_object_get(json, "ids")), 1);
        json_decref(json);
}

/* Also where nobody is asked for his name: one wrong event there could let somebody in, or stop every node.
 */
TEST(append, the_servers_own_streams_are_written_by_nobody_else)
{
        static const char *const names[] = {
                "$user-ann", "$$$user-ann", "$nilo-cluster", "$nilo-access", "$$$nilo-cluster"};
        char line[128];

        for (unsigned i = 0; i < COUNT_OF(names); i++) {
                snprintf(line, sizeof line, "POST /v1/streams/%s/events", names[i]);
                json_decref(call(server, 403, line, JSON_BODY, EVENT));
                snprintf(line, sizeof line, "DELETE /v1/streams/%s", names[i]);
                json_decref(call(server, 403, line, "", ""));
        }
        json_decref(call(server, 403, "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"free-1\",\"events\":[" EVENT
                "]},{\"stream\":\"$nilo-cluster\",\"events\":[" EVENT "]}]}"));
        json_decref(call(server, 404, "GET /v1/streams/free-1/events", "", ""));
}
TEST(append, arrays_and_lines_are_one_append_with_dense_revisions)
{
        json_t *json = call(
                server, 201, "POST /v1/streams/many/events", JSON_BODY, "[" EVENT ",\n" EVENT "," EVENT "]");

        assert_int_equal(number(json, "first_revision"), 0);
        assert_int_equal(number(json, "last_revision"), 2);
        assert_int_equal(number(json, "position") - number(json, "first_position"), 2);
        json_decref(json);
        json = call(server, 201, "POST /v1/streams/many/events?expect=2",
                "Content-Type: application/x-ndjson\r\n", EVENT "\n\r\n" EVENT "\r\n" EVENT);
        assert_int_equal(number(json, "first_revision"), 3);
        assert_int_equal(number(json, "last_revision"), 5);
        json_decref(json);
}

TEST(append, data_is_kept_byte_for_byte)
{
        static const char data[] =
                "{\"n\": 1.10, \"big\":18446744073709551616,\n \"a\":1,\"a\":2, \"s\":\"\\u00e9\\/\"}";
        struct buffer body = {0};
        struct reply r;

        buffer_format(&body, "{\"type\":\"T\",\"metadata\" :[1.0 , null],\"data\": %s }", data);
        buffer_add_u8(&body, 0);
        json_decref(call(server, 201, "POST /v1/streams/exact/events", JSON_BODY, (char *)body.data));
        call_bytes(server, "GET /v1/streams/exact/events/0", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(body_of(&r), data));
        assert_non_null(strstr(body_of(&r), "\"metadata\":[1.0 , null]"));
        assert_non_null(strstr(body_of(&r), "\"content_type\":\"application/json\""));
        reply_free(&r);
        buffer_fini(&body);
}

TEST(append, binary_comes_in_base64_or_raw_and_goes_out_in_base64)
{
        json_t *json;
        struct reply r;

        json_decref(call(server, 201, "POST /v1/streams/bin/events", JSON_BODY,
                "{\"type\":\"B\",\"data_base64\":\"AAH/\",\"metadata_base64\":\"/w==\"}"));
        json = call(server, 200, "GET /v1/streams/bin/events/0", "", NULL);
        assert_string_equal(text(json, "data_base64"), "AAH/");
        assert_string_equal(text(json, "metadata_base64"), "/w==");
        assert_string_equal(text(json, "content_type"), "application/octet-stream");
        assert_null(json_object_get(json, "data"));
        json_decref(json);

        call_bytes(server, "POST /v1/streams/bin/events",
                "Content-Type: image/png\r\nNilo-Event-Type: Photo\r\n"
                "Nilo-Event-Id: 6f1c2a4e-0000-4000-8000-000000000001\r\nNilo-Event-Metadata: "
                "{\"by\":\"me\"}\r\n",
                bytes_of("\0\1\2\n\xff", 5), &r);
        assert_int_equal(r.status, 201);
        assert_null(strstr(body_of(&r), "ids"));
        reply_free(&r);
        json = call(server, 200, "GET /v1/streams/bin/events/1", "", NULL);
        assert_string_equal(text(json, "data_base64"), "AAECCv8=");
        assert_string_equal(text(json, "id"), "6f1c2a4e-0000-4000-8000-000000000001");
        assert_string_equal(text(json_object_get(json, "metadata"), "by"), "me");
        json_decref(json);
}

TEST(append, tags_are_kept_in_order)
{
        json_t *json, *tags;

        json_decref(call(server, 201, "POST /v1/streams/tagged/events", JSON_BODY,
                "{\"type\":\"T\",\"tags\":[\"customer=7\",\"b\",\"b\"]}"));
        json = call(server, 200, "GET /v1/streams/tagged/events/0", "", NULL);
        tags = json_object_get(json, "tags");
        assert_int_equal(json_array_size(tags), 3);
        assert_string_equal(json_string_value(json_array_get(tags, 0)), "customer=7");
        assert_string_equal(json_string_value(json_array_get(tags, 2)), "b");
        assert_null(json_object_get(json, "data"));
        json_decref(json);
}

TEST(append, the_same_ids_again_are_written_once)
{
        static const char event[] =
                "{\"type\":\"T\",\"id\":\"00000000-0000-4000-8000-0000000000aa\",\"data\":1}";
        json_t *first =
                call(server, 201, "POST /v1/streams/retry/events", "Nilo-Expect: none\r\n" JSON_BODY, event);
        json_t *again =
                call(server, 200, "POST /v1/streams/retry/events", "Nilo-Expect: none\r\n" JSON_BODY, event);

        assert_true(json_is_true(json_object_get(again, "duplicate")));
        assert_int_equal(number(again, "position"), number(first, "position"));
        assert_int_equal(number(again, "first_revision"), 0);
        assert_int_equal(number(again, "last_revision"), 0);
        json_decref(first);
        json_decref(again);
}

TEST(append, what_was_read_can_be_appended_as_it_is)
{
        struct reply r;
        json_t *json;

        append_many(server, "copied", "T", 0, 3);
        call_bytes(server, "GET /v1/streams/copied/events", AS_LINES, BYTES_EMPTY, &r);
        json = call(server, 201, "POST /v1/streams/copy/events", "Content-Type: application/x-ndjson\r\n",
                body_of(&r));
        assert_int_equal(number(json, "last_revision"), 2);
        assert_null(json_object_get(json, "ids"));
        json_decref(json);
        reply_free(&r);
}

/* ---- expectations ---- */

TEST(conflict, says_where_the_stream_is_what_was_expected_who_came_last_and_what_to_do)
{
        json_t *json, *newest;
        char want[200];

        append_many(server, "order-42", "OrderPlaced", 0, 5);
        append_many(server, "order-42", "OrderPaid", 5, 1);
        json = refused(server, 409, "conflict",
                "order-42 is at revision 5, you expected 3. Newest: OrderPaid 0.",
                "POST /v1/streams/order-42/events", "Nilo-Expect: 3\r\n" JSON_BODY, EVENT);
        newest = json_object_get(json, "newest");
        snprintf(want, sizeof want, " s ago at position %lld.", (long long)number(newest, "position"));
        assert_non_null(strstr(text(json, "detail"), want));
        assert_string_equal(text(json, "next"), "Read from 4 and retry");
        assert_string_equal(text(json, "stream"), "order-42");
        assert_int_equal(number(json, "expected"), 3);
        assert_int_equal(number(json, "actual"), 5);
        assert_string_equal(text(newest, "type"), "OrderPaid");
        assert_int_equal(number(newest, "revision"), 5);
        json_decref(json);

        json = refused(server, 409, "conflict", "order-42 is at revision 5, you expected no stream.",
                "POST /v1/streams/order-42/events?expect=none", JSON_BODY, EVENT);
        assert_string_equal(text(json, "expected"), "none");
        assert_string_equal(text(json, "next"), "Read from 0 and retry");
        json_decref(json);
        json = call(server, 200, "GET /v1/streams/order-42", "", NULL);
        assert_int_equal(number(json, "last_revision"), 5); /* nothing was written */
        json_decref(json);
}

TEST(conflict, of_a_stream_that_is_not_there_names_no_revision)
{
        json_t *json = refused(server, 409, "conflict", "ghost does not exist, you expected revision 7.",
                "POST /v1/streams/ghost/events", "Nilo-Expect: 7\r\n" JSON_BODY, EVENT);

        assert_int_equal(number(json, "actual"), -1);
        assert_string_equal(text(json, "state"), "absent");
        json_decref(json);
        refuse(server, 409, "conflict", "ghost does not exist, you expected it to exist.",
                "POST /v1/streams/ghost/events", "Nilo-Expect: exists\r\n" JSON_BODY, EVENT);
        refuse(server, 404, "not-found", "ghost", "GET /v1/streams/ghost", "", NULL);
}

/* ---- several streams ---- */

TEST(atomic, all_streams_are_written_or_none)
{
        json_t *json, *streams;

        json = call(server, 201, "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"a-1\",\"expect\":\"none\",\"events\":[" EVENT "," EVENT "]},"
                "{\"events\":[" EVENT "],\"expect\":\"any\",\"stream\":\"b-1\"}]}");
        streams = json_object_get(json, "streams");
        assert_int_equal(json_array_size(streams), 2);
        assert_int_equal(number(json_array_get(streams, 0), "last_revision"), 1);
        assert_int_equal(number(json_array_get(streams, 1), "first_revision"), 0);
        assert_int_equal(number(json, "position") - number(json, "first_position"), 2);
        json_decref(json);

        /* The second stream fails: nothing of the first is written, and the answer names the second. */
        json = refused(server, 409, "conflict", "b-1 is at revision 0, you expected 9.", "POST /v1/append",
                JSON_BODY,
                "{\"streams\":[{\"stream\":\"a-1\",\"expect\":1,\"events\":[" EVENT "]},"
                "{\"stream\":\"b-1\",\"expect\":9,\"events\":[" EVENT "]}]}");
        assert_int_equal(number(json, "stream_index"), 1);
        json_decref(json);
        json = call(server, 200, "GET /v1/streams/a-1", "", NULL);
        assert_int_equal(number(json, "last_revision"), 1);
        json_decref(json);

        /* A stream without events is only checked. */
        json = call(server, 201, "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"a-1\",\"expect\":1},{\"stream\":\"b-1\",\"events\":[" EVENT
                "]}]}");
        json_decref(json);
        json = call(server, 200, "GET /v1/streams/a-1", "", NULL);
        assert_int_equal(number(json, "last_revision"), 1);
        json_decref(json);
}

/* G5: whoever corrects one expectation at a time would be refused as often as there are streams. */
TEST(atomic, a_conflict_names_every_stream_that_failed)
{
        json_t *json, *failed;

        append_many(server, "f-1", "T", 0, 2);
        append_many(server, "f-2", "T", 0, 3);
        append_many(server, "f-3", "T", 0, 1);
        json_decref(call(server, 200, "DELETE /v1/streams/f-3", "", NULL));
        json = refused(server, 409, "conflict", "f-1 is at revision 1, you expected 7.", "POST /v1/append",
                JSON_BODY,
                "{\"streams\":[{\"stream\":\"f-0\",\"expect\":\"none\",\"events\":[" EVENT "]},"
                "{\"stream\":\"f-1\",\"expect\":7,\"events\":[" EVENT "]},"
                "{\"stream\":\"f-2\",\"expect\":\"none\"},"
                "{\"stream\":\"f-3\",\"expect\":9,\"events\":[" EVENT "]}]}");
        assert_string_equal(text(json, "stream"), "f-1");
        failed = json_object_get(json, "failed");
        assert_int_equal(json_array_size(failed), 3);
        assert_string_equal(text(json_array_get(failed, 0), "stream"), "f-1");
        assert_int_equal(number(json_array_get(failed, 0), "actual"), 1);
        assert_int_equal(number(json_array_get(failed, 0), "expected"), 7);
        assert_int_equal(number(json_array_get(failed, 1), "stream_index"), 2);
        assert_string_equal(text(json_array_get(failed, 1), "expected"), "none");
        assert_int_equal(number(json_array_get(failed, 1), "actual"), 2);
        assert_string_equal(text(json_array_get(failed, 2), "state"), "soft-deleted");
        json_decref(json);
        refuse(server, 404, "not-found", "f-0", "GET /v1/streams/f-0", "", NULL);
}

/* What is wrong with an event is told with the stream that it is for. */
TEST(atomic, what_is_too_large_is_told_with_its_stream)
{
        char body[2600];
        json_t *json;

        snprintf(body, sizeof body,
                "{\"streams\":[{\"stream\":\"g-1\",\"events\":[" EVENT
                "]},{\"stream\":\"g-2\",\"events\":[{\"type\":\"%01025d\"}]}]}",
                0);
        json = refused(server, 413, "too-large", "g-2: ", "POST /v1/append", JSON_BODY, body);
        assert_string_equal(text(json, "stream"), "g-2");
        assert_int_equal(number(json, "event_index"), 1);
        json_decref(json);
        append_many(server, "g-3", "T", 0, 1);
        json_decref(call(server, 200, "DELETE /v1/streams/g-3?tombstone=true", "", NULL));
        json = refused(server, 410, "stream-deleted", "g-3", "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"g-1\",\"events\":[" EVENT
                "]},{\"stream\":\"g-3\",\"events\":[" EVENT "]}]}");
        assert_string_equal(text(json, "stream"), "g-3");
        assert_string_equal(text(json, "state"), "tombstoned");
        json_decref(json);
}

TEST(atomic, bad_bodies_are_refused)
{
        static const struct {
                const char *body;
                const char *detail;
        } cases[] = {
                {"{\"streams\":[]}", "names no stream"},
                {"{}", "\"streams\" is expected"},
                {"{\"stream\":[]}", "'stream' is no field: did you mean 'streams'?"},
                {"{\"streams\":[{\"events\":[]}]}", "needs the name of its stream"},
                {"{\"streams\":[{\"stream\":\"a\",\"stream\":\"b\"}]}", "stands twice"},
                {"{\"streams\":[{\"stream\":\"a\",\"expct\":1}]}", "did you mean 'expect'?"},
                {"{\"streams\":[{\"stream\":\"a\",\"expect\":-3}]}", "'-3' is no expectation"},
                {"{\"streams\":[{\"stream\":\"a\"},{\"stream\":\"a\"}]}", "named twice"},
                {"{\"streams\":[{\"stream\":\"a\"}]} 1", "something follows"},
                {"{\"streams\":[{\"stream\":\"a\"}],\"x\":1}", "only field"},
        };

        for (unsigned i = 0; i < COUNT_OF(cases); i++)
                refuse(server, 400, "invalid", cases[i].detail, "POST /v1/append", JSON_BODY, cases[i].body);
        refuse(server, 415, "unsupported-media-type", "text/plain", "POST /v1/append",
                "Content-Type: text/plain\r\n", "x");
}

#define AS_NDJSON "Content-Type: application/x-ndjson\r\n"

TEST(atomic, lines_that_name_their_streams_keep_their_order_over_all_of_them)
{
        json_t *json, *streams;
        int64_t first;
        char line[100];

        json = call(server, 201, "POST /v1/append", AS_NDJSON,
                "{\"stream\":\"l-1\",\"expect\":\"none\",\"type\":\"A\"}\n{\"stream\":\"l-2\",\"type\":\"B\"}"
                "\n"
                "{\"type\":\"C\",\"stream\":\"l-1\"}\n");
        streams = json_object_get(json, "streams");
        assert_int_equal(json_array_size(streams), 2);
        assert_string_equal(text(json_array_get(streams, 0), "stream"), "l-1");
        assert_int_equal(number(json_array_get(streams, 0), "last_revision"), 1);
        assert_int_equal(number(json_array_get(streams, 1), "last_revision"), 0);
        first = number(json, "first_position");
        json_decref(json);
        for (unsigned i = 0; i < 3; i++) {
                snprintf(line, sizeof line, "GET /v1/all/events/%lld", (long long)first + i);
                json = call(server, 200, line, "", NULL);
                assert_string_equal(text(json, "type"), i == 0 ? "A" : i == 1 ? "B" : "C");
                json_decref(json);
        }
        refuse(server, 409, "conflict", "l-2 is at revision 0, you expected 7.", "POST /v1/append", AS_NDJSON,
                "{\"stream\":\"l-1\",\"type\":\"A\"}\n{\"stream\":\"l-2\",\"expect\":7,\"type\":\"A\"}\n");
        refuse(server, 400, "invalid", "line 2, column 1: a line needs the name of its stream",
                "POST /v1/append", AS_NDJSON, "{\"stream\":\"l-1\",\"type\":\"A\"}\n{\"type\":\"A\"}\n");
        refuse(server, 400, "invalid", "first event of its stream only", "POST /v1/append", AS_NDJSON,
                "{\"stream\":\"l-1\",\"type\":\"A\"}\n{\"stream\":\"l-1\",\"expect\":1,\"type\":\"A\"}\n");
        refuse(server, 400, "invalid", "'stream' stands twice", "POST /v1/append", AS_NDJSON,
                "{\"stream\":\"l-1\",\"stream\":\"l-2\",\"type\":\"A\"}\n");
        json = call(server, 200, "GET /v1/streams/l-1", "", NULL);
        assert_int_equal(number(json, "last_revision"), 1);
        json_decref(json);
}

TEST(atomic, more_streams_than_fit_are_refused)
{
        struct buffer body = {0};

        for (unsigned i = 0; i <= LIMIT_APPEND_STREAMS_MAX; i++)
                buffer_format(&body, "{\"stream\":\"wide-%u\",\"type\":\"T\"}\n", i);
        buffer_add_u8(&body, 0);
        refuse(server, 413, "too-large", "at most 1000 streams", "POST /v1/append", AS_NDJSON,
                (char *)body.data);
        *strstr((char *)body.data, "{\"stream\":\"wide-1000\"") = 0;
        json_decref(call(server, 201, "POST /v1/append", AS_NDJSON, (char *)body.data));
        buffer_fini(&body);
}

/* ---- refusals ---- */

TEST(refusal, bad_events_are_told_with_line_and_column)
{
        static const struct {
                const char *body;
                const char *detail;
        } cases[] = {
                {"{\"data\":1}", "line 1, column 1: an event needs a type"},
                {"{\"type\":\"\"}", "needs a type"},
                {"[" EVENT ",\n {\"typ\":\"A\"}]",
                        "line 2, column 9: 'typ' is no field: did you mean 'type'?"},
                {"{\"type\":\"A\",\"type\":\"B\"}", "'type' stands twice"},
                {"{\"type\":\"A\",\"id\":\"7\"}", "'7' is no UUID"},
                {"{\"type\":\"A\",\"data_base64\":\"?\"}", "no base64"},
                {"{\"type\":\"A\",\"data\":1,\"data_base64\":\"\"}", "one form only"},
                {"{\"type\":\"A\",\"data\":01}", "',' or '}' is expected"},
                {"{\"type\":\"A\",\"data\":[1,]}", "a value is expected"},
                {"{\"type\":\"A\"", "',' or '}' is expected"},
                {"{\"type\":\"A\"} x", "something follows behind the value"},
                {"{\"type\":\"A\",\"tags\":[1]}", "a string is expected"},
                {"7", "an event or an array of events is expected"},
                {"", "the body is empty"},
                {"{\"type\":\"\xff\"}", "no UTF-8"},
        };

        for (unsigned i = 0; i < COUNT_OF(cases); i++)
                refuse(server, 400, "invalid", cases[i].detail, "POST /v1/streams/bad/events", JSON_BODY,
                        cases[i].body);
        refuse(server, 400, "invalid", "line 3, column 1", "POST /v1/streams/bad/events",
                "Content-Type: application/x-ndjson\r\n", EVENT "\n\n{}");
        refuse(server, 404, "not-found", "bad", "GET /v1/streams/bad", "", NULL); /* no state change */
}

TEST(refusal, bad_requests_are_told_with_the_next_step)
{
        struct reply r;
        json_t *json;

        json = refused(server, 415, "unsupported-media-type", "application/x-www-form-urlencoded",
                "POST /v1/streams/bad/events", "Content-Type: application/x-www-form-urlencoded\r\n", EVENT);
        assert_string_equal(text(json, "next"), "send -H 'Content-Type: application/json'");
        json_decref(json);
        json = refused(server, 415, "unsupported-media-type", "gzip", "POST /v1/streams/bad/events",
                JSON_BODY "Content-Encoding: gzip\r\n", EVENT);
        json_decref(json);
        refuse(server, 415, "unsupported-media-type", "form", "POST /v1/streams/bad/events",
                "Nilo-Event-Type: T\r\nContent-Type: application/x-www-form-urlencoded\r\n", "x");
        refuse(server, 400, "invalid", "says that it is JSON", "POST /v1/streams/bad/events",
                "Nilo-Event-Type: T\r\n" JSON_BODY, "{");
        refuse(server, 400, "invalid", "'maybe' is no expected revision", "POST /v1/streams/bad/events",
                "Nilo-Expect: maybe\r\n" JSON_BODY, EVENT);
        refuse(server, 400, "invalid", "differ", "POST /v1/streams/bad/events?expect=any",
                "Nilo-Expect: none\r\n" JSON_BODY, EVENT);
        json = refused(server, 400, "unknown-parameter", "'expct'", "POST /v1/streams/bad/events?expct=none",
                JSON_BODY, EVENT);
        assert_non_null(strstr(text(json, "next"), "did you mean 'expect'?"));
        json_decref(json);
        refuse(server, 400, "invalid", "from 1 to 600000", "POST /v1/streams/bad/events?timeout-ms=0",
                JSON_BODY, EVENT);
        refuse(server, 400, "invalid", "'$all'", "POST /v1/streams/$all/events", JSON_BODY, EVENT);
        refuse(server, 400, "invalid", "no valid name", "POST /v1/streams/%ff/events", JSON_BODY, EVENT);
        refuse(server, 404, "no-such-store", "no store 'other'", "POST /v1/stores/other/streams/x/events",
                JSON_BODY, EVENT);
        json_decref(call(server, 405, "PATCH /v1/streams/x/events", "", NULL));
        json_decref(call(server, 201, "POST /v1/stores/default/streams/x/events", JSON_BODY, EVENT));

        /* The connection survives a refusal. */
        {
                int fd = client_connect(server);

                client_request(fd, "POST /v1/streams/bad/events", JSON_BODY, BYTES_LITERAL("{}"), false);
                client_request(fd, "GET /v1/streams/x", "", BYTES_EMPTY, true);
                client_receive(fd, &r);
                assert_int_equal(r.status, 400);
                assert_non_null(strstr(body_of(&r), "HTTP/1.1 200"));
                reply_free(&r);
                close(fd);
        }
}

TEST(refusal, what_is_too_large_is_told_with_the_limit)
{
        struct buffer body = {0};
        char name[1200];
        char line[1300];
        json_t *json;

        memset(name, 'n', sizeof name);
        name[1025] = 0;
        snprintf(line, sizeof line, "POST /v1/streams/%s/events", name);
        refuse(server, 413, "too-large", "at most 1024", line, JSON_BODY, EVENT);
        buffer_format(&body, "[" EVENT ",{\"type\":\"%s\"}]", name);
        buffer_add_u8(&body, 0);
        json = refused(server, 413, "too-large", "1025, at most 1024", "POST /v1/streams/big/events",
                JSON_BODY, (char *)body.data);
        assert_int_equal(number(json, "limit"), 1024);
        assert_int_equal(number(json, "size"), 1025);
        assert_int_equal(number(json, "event_index"), 1);
        json_decref(json);

        buffer_clear(&body);
        buffer_add_string(&body, "{\"type\":\"T\",\"data\":\"");
        for (unsigned i = 0; i < 17 * 1024; i++) {
                uint8_t kib[1024];

                memset(kib, 'x', sizeof kib);
                buffer_add(&body, kib, sizeof kib);
        }
        buffer_add_string(&body, "\"}");
        buffer_add_u8(&body, 0);
        refuse(server, 413, "too-large", "16767216", "POST /v1/streams/big/events", JSON_BODY,
                (char *)body.data);
        buffer_fini(&body);
}

TEST(refusal, more_events_than_fit_are_refused_before_the_store)
{
        struct buffer body = {0};

        for (unsigned i = 0; i < LIMIT_APPEND_EVENTS_MAX + 1; i++)
                buffer_add_string(&body, "{\"type\":\"T\"}\n");
        buffer_add_u8(&body, 0);
        refuse(server, 413, "too-large", "100000 events", "POST /v1/streams/big/events",
                "Content-Type: application/x-ndjson\r\n", (char *)body.data);
        refuse(server, 404, "not-found", "big", "GET /v1/streams/big", "", NULL);
        buffer_fini(&body);
}

/* ---- delete, metadata, truncate ---- */

TEST(remove, soft_delete_hides_and_the_next_append_goes_on)
{
        json_t *json;

        append_many(server, "gone", "T", 0, 3);
        refuse(server, 409, "conflict", "gone is at revision 2, you expected 7.", "DELETE /v1/streams/gone",
                "Nilo-Expect: 7\r\n", NULL);
        json = call(server, 200, "DELETE /v1/streams/gone", "Nilo-Expect: 2\r\n", NULL);
        assert_string_equal(text(json, "state"), "soft-deleted");
        assert_true(number(json, "position") > 0);
        json_decref(json);
        refuse(server, 404, "soft-deleted", "its next event gets revision 3", "GET /v1/streams/gone/events",
                "", NULL);
        json = refused(server, 404, "soft-deleted", "gone", "GET /v1/streams/gone", "", NULL);
        assert_string_equal(text(json, "state"), "soft-deleted");
        assert_int_equal(number(json, "last_revision"), 2);
        json_decref(json);
        append_many(server, "gone", "T", 3, 1);
        json = call(server, 200, "GET /v1/streams/gone/events", "", NULL);
        assert_int_equal(json_array_size(json_object_get(json, "events")), 1);
        json_decref(json);
        refuse(server, 404, "not-found", "never", "DELETE /v1/streams/never", "", NULL);
}

TEST(remove, a_tombstone_is_for_good)
{
        json_t *json;

        append_many(server, "dead", "T", 0, 2);
        json = call(server, 200, "DELETE /v1/streams/dead?tombstone=true", "", NULL);
        assert_string_equal(text(json, "state"), "tombstoned");
        json_decref(json);
        refuse(server, 410, "stream-deleted", "dead was tombstoned", "POST /v1/streams/dead/events",
                JSON_BODY, EVENT);
        refuse(server, 410, "stream-deleted", "dead was tombstoned", "GET /v1/streams/dead/events", AS_LINES,
                NULL);
        refuse(server, 410, "stream-deleted", "dead was tombstoned", "GET /v1/streams/dead/events", AS_EVENTS,
                NULL);
        refuse(server, 410, "stream-deleted", "dead", "GET /v1/streams/dead", "", NULL);
        refuse(server, 410, "stream-deleted", "dead", "DELETE /v1/streams/dead", "", NULL);
        refuse(server, 410, "stream-deleted", "dead", "GET /v1/streams/dead/metadata", "", NULL);
        refuse(server, 400, "invalid", "true or false", "DELETE /v1/streams/dead?tombstone=yes", "", NULL);
}

TEST(metadata, is_read_as_it_was_written_and_has_revisions)
{
        struct reply r;
        json_t *json;

        append_many(server, "meta", "T", 0, 5);
        call_bytes(server, "GET /v1/streams/meta/metadata", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        assert_string_equal(body_of(&r), "{}");
        assert_non_null(strcasestr((char *)r.head.data, "nilo-revision: none"));
        reply_free(&r);
        json = call(server, 200, "PUT /v1/streams/meta/metadata", "Nilo-Expect: none\r\n" JSON_BODY,
                "{\"$maxCount\": 2, \"own\":1.50}");
        assert_int_equal(number(json, "metadata_revision"), 0);
        json_decref(json);
        call_bytes(server, "GET /v1/streams/meta/metadata", "", BYTES_EMPTY, &r);
        assert_string_equal(body_of(&r), "{\"$maxCount\": 2, \"own\":1.50}");
        assert_non_null(strcasestr((char *)r.head.data, "nilo-revision: 0"));
        reply_free(&r);
        json = call(server, 200, "GET /v1/streams/meta", "", NULL);
        assert_int_equal(number(json, "first_revision"), 3);
        assert_int_equal(number(json, "max_count"), 2);
        json_decref(json);
        refuse(server, 409, "conflict", "$$meta is at revision 0, you expected no stream.",
                "PUT /v1/streams/meta/metadata", "Nilo-Expect: none\r\n" JSON_BODY, "{}");
        refuse(server, 400, "invalid", "no JSON object", "PUT /v1/streams/meta/metadata", JSON_BODY, "[]");
        refuse(server, 400, "invalid", "$maxCount", "PUT /v1/streams/meta/metadata", JSON_BODY,
                "{\"$maxCount\":-1}");
        refuse(server, 415, "unsupported-media-type", "text/plain", "PUT /v1/streams/meta/metadata",
                "Content-Type: text/plain\r\n", "{}");
        refuse(server, 400, "invalid", "metastream", "GET /v1/streams/$$meta/metadata", "", NULL);
        refuse(server, 404, "not-found", "no stream 'none-such'", "GET /v1/streams/none-such/metadata", "",
                NULL);
}

TEST(truncate, hides_what_is_before_and_keeps_the_rest_of_the_metadata)
{
        struct reply r;
        json_t *json;

        append_many(server, "cut", "T", 0, 5);
        json_decref(call(server, 200, "PUT /v1/streams/cut/metadata", JSON_BODY, "{\"own\":1.50}"));
        json = call(server, 200, "POST /v1/streams/cut/truncate?before=3", "", NULL);
        assert_int_equal(number(json, "truncate_before"), 3);
        assert_int_equal(number(json, "first_revision"), 3);
        json_decref(json);
        call_bytes(server, "GET /v1/streams/cut/metadata", "", BYTES_EMPTY, &r);
        assert_non_null(strstr(body_of(&r), "\"own\":1.50"));
        reply_free(&r);
        json = call(server, 200, "GET /v1/streams/cut/events", "", NULL);
        assert_int_equal(json_array_size(json_object_get(json, "events")), 2);
        json_decref(json);
        refuse(server, 404, "not-found", "no event 2, or it is truncated", "GET /v1/streams/cut/events/2", "",
                NULL);
        json_decref(call(server, 200, "GET /v1/streams/cut/events/3", "", NULL));
        json_decref(call(server, 200, "POST /v1/streams/cut/truncate?before=end", "", NULL));
        json = call(server, 200, "GET /v1/streams/cut/events", "", NULL);
        assert_int_equal(json_array_size(json_object_get(json, "events")), 0);
        json_decref(json);
        refuse(server, 400, "invalid", "lies behind the end", "POST /v1/streams/cut/truncate?before=6", "",
                NULL);
        refuse(server, 400, "invalid", "before is missing", "POST /v1/streams/cut/truncate", "", NULL);
        refuse(server, 404, "not-found", "none-such", "POST /v1/streams/none-such/truncate?before=0", "",
                NULL);
}

/* Metadata is written by others while a truncation reads and writes it: it is done on what is there, or
 * refused. */
static void *put_metadata(void *arg)
{
        for (unsigned i = 0; i < 200; i++) {
                char body[64];

                snprintf(body, sizeof body, "{\"turn\":%u}", i);
                json_decref(call(server, 200, "PUT /v1/streams/raced/metadata", JSON_BODY, body));
        }
        return arg;
}

TEST(truncate, loses_nothing_that_others_write_meanwhile)
{
        pthread_t thread;
        struct reply r;

        append_many(server, "raced", "T", 0, 5);
        json_decref(call(server, 200, "PUT /v1/streams/raced/metadata", JSON_BODY, "{\"turn\":0}"));
        assert_int_equal(pthread_create(&thread, NULL, put_metadata, NULL), 0);
        for (unsigned i = 0; i < 200; i++) {
                call_bytes(server, "POST /v1/streams/raced/truncate?before=2", "", BYTES_EMPTY, &r);
                assert_true(r.status == 200 || r.status == 409);
                reply_free(&r);
        }
        pthread_join(thread, NULL);
        json_decref(call(server, 200, "POST /v1/streams/raced/truncate?before=3", "", NULL));
        call_bytes(server, "GET /v1/streams/raced/metadata", "", BYTES_EMPTY, &r);
        assert_non_null(strstr(body_of(&r), "\"turn\":199"));
        assert_non_null(strstr(body_of(&r), "\"$tb\":3"));
        reply_free(&r);
}

/* ---- states of the server ---- */

TEST(state, a_server_that_is_not_ready_says_so_at_once)
{
        struct server *s = server_start(&(struct server_options){.is_never_ready = true});
        struct reply r;

        call_bytes(s, "GET /v1/streams/x/events", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 503);
        assert_non_null(strcasestr((char *)r.head.data, "retry-after: 1"));
        assert_non_null(strstr(body_of(&r), "urn:nilo:not-ready"));
        reply_free(&r);
        server_stop(s);
}

TEST(state, a_full_disk_refuses_writes_and_serves_reads)
{
        struct server *s = server_start(&(struct server_options){.space_left = 4 * MIB});
        struct buffer data = {0};
        struct reply r = {0};
        uint64_t written = 0;
        json_t *json;

        buffer_reserve(&data, 512 * KIB);
        memset(data.data, 7, 512 * KIB);
        data.size = 512 * KIB;
        for (unsigned i = 0; i < 40 && r.status != 507; i++) {
                reply_free(&r);
                call_bytes(s, "POST /v1/streams/x/events",
                        "Nilo-Event-Type: T\r\nContent-Type: application/octet-stream\r\n",
                        buffer_bytes(&data), &r);
                written += r.status == 201;
        }
        assert_int_equal(r.status, 507);
        assert_true(written > 0);
        assert_non_null(strstr(body_of(&r), "urn:nilo:disk-full"));
        assert_non_null(strstr(body_of(&r), "nothing was written"));
        json = call(s, 200, "GET /v1/streams/x", "", NULL);
        assert_int_equal(number(json, "last_revision"), written - 1);
        json_decref(json);
        json_decref(call(s, 200, "GET /v1/streams/x/events/0", "", NULL));
        reply_free(&r);
        buffer_fini(&data);
        server_stop(s);
}

/* A sync that takes long: work of the test on the lane of the log. */
static sem_t lane_may_go;

static void hold_lane(struct os_work *work)
{
        (void)work;
        while (sem_wait(&lane_may_go)) {
        }
}

static void lane_went(struct os_work *work)
{
        (void)work;
}

static void block_lane(struct server *s, void *arg)
{
        os_work_submit(s->os, OS_LANE_LOG, arg);
}

TEST(state, a_busy_store_says_so_with_retry_after)
{
        struct server *s =
                server_start(&(struct server_options){.in_flight_size_max = 8192, .sync = STORE_SYNC_LANE});
        struct os_work work = {.work = hold_lane, .done = lane_went};
        struct buffer body = {0};
        struct reply r;
        int first;

        for (unsigned i = 0; i < 50; i++)
                buffer_add_string(
                        &body, "{\"type\":\"T\",\"data\":\"0123456789012345678901234567890123456789\"}\n");
        sem_init(&lane_may_go, 0, 0);
        on_server(s, block_lane, &work);
        first = client_connect(s);
        client_request(first, "POST /v1/streams/x/events", "Content-Type: application/x-ndjson\r\n",
                buffer_bytes(&body), true);
        do { /* until the first one is in flight */
                call_bytes(s, "POST /v1/streams/y/events?timeout-ms=50",
                        "Content-Type: application/x-ndjson\r\n", buffer_bytes(&body), &r);
                if (r.status != 503)
                        reply_free(&r);
        } while (r.status == 504);
        assert_int_equal(r.status, 503);
        assert_non_null(strcasestr((char *)r.head.data, "retry-after: 1"));
        assert_non_null(strstr(body_of(&r), "urn:nilo:busy"));
        reply_free(&r);
        sem_post(&lane_may_go);
        client_receive(first, &r);
        assert_int_equal(r.status, 201);
        reply_free(&r);
        close(first);
        buffer_fini(&body);
        server_stop(s);
        sem_destroy(&lane_may_go);
}

TEST(state, a_deadline_that_passes_is_an_unknown_outcome_and_a_retry_settles_it)
{
        static const char event[] =
                "{\"type\":\"T\",\"id\":\"00000000-0000-4000-8000-0000000000bb\",\"data\":1}";
        struct server *s = server_start(&(struct server_options){.sync = STORE_SYNC_LANE});
        struct os_work work = {.work = hold_lane, .done = lane_went};
        json_t *json;

        sem_init(&lane_may_go, 0, 0);
        on_server(s, block_lane, &work);
        json = refused(s, 504, "unknown", "may or may not be in the log",
                "POST /v1/streams/x/events?timeout-ms=20", JSON_BODY, event);
        assert_non_null(strstr(text(json, "next"), "same ids"));
        json_decref(json);
        json = refused(s, 504, "unknown", "may or may not", "POST /v1/streams/y/events?timeout-ms=20",
                JSON_BODY, EVENT);
        assert_non_null(strstr(text(json, "next"), "send ids"));
        json_decref(json);
        sem_post(&lane_may_go);
        json = call(s, 200, "POST /v1/streams/x/events", JSON_BODY, event);
        assert_true(json_is_true(json_object_get(json, "duplicate")));
        json_decref(json);
        server_stop(s);
        sem_destroy(&lane_may_go);
}

/* Clients that leave while their write is on its way, and while a refusal waits for another write to commit.
 */
TEST(state, a_client_that_leaves_early_changes_nothing_for_its_write)
{
        struct server *s = server_start(&(struct server_options){.sync = STORE_SYNC_LANE});
        struct os_work work = {.work = hold_lane, .done = lane_went};
        json_t *json;

        sem_init(&lane_may_go, 0, 0);
        on_server(s, block_lane, &work);
        for (unsigned i = 0; i < 8; i++) {
                int fd = client_connect(s);

                client_request(fd, "POST /v1/streams/left/events",
                        i ? "Nilo-Expect: 7\r\n" JSON_BODY : JSON_BODY, bytes_of_string(EVENT), false);
                usleep(5000); /* so that it is there before its end */
                close(fd);
        }
        sem_post(&lane_may_go);
        json = call(s, 201, "POST /v1/streams/left/events", "Nilo-Expect: 0\r\n" JSON_BODY, EVENT);
        assert_int_equal(number(json, "last_revision"), 1);
        json_decref(json);
        server_stop(s);
        sem_destroy(&lane_may_go);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(append, the_line_of_the_readme_works_and_tells_where_the_event_is),
                TEST_ROW(append, the_servers_own_streams_are_written_by_nobody_else),
                TEST_ROW(append, arrays_and_lines_are_one_append_with_dense_revisions),
                TEST_ROW(append, data_is_kept_byte_for_byte),
                TEST_ROW(append, binary_comes_in_base64_or_raw_and_goes_out_in_base64),
                TEST_ROW(append, tags_are_kept_in_order),
                TEST_ROW(append, the_same_ids_again_are_written_once),
                TEST_ROW(append, what_was_read_can_be_appended_as_it_is),
                TEST_ROW(conflict, says_where_the_stream_is_what_was_expected_who_came_last_and_what_to_do),
                TEST_ROW(conflict, of_a_stream_that_is_not_there_names_no_revision),
                TEST_ROW(atomic, all_streams_are_written_or_none),
                TEST_ROW(atomic, lines_that_name_their_streams_keep_their_order_over_all_of_them),
                TEST_ROW(atomic, more_streams_than_fit_are_refused),
                TEST_ROW(atomic, a_conflict_names_every_stream_that_failed),
                TEST_ROW(atomic, what_is_too_large_is_told_with_its_stream),
                TEST_ROW(atomic, bad_bodies_are_refused),
                TEST_ROW(refusal, bad_events_are_told_with_line_and_column),
                TEST_ROW(refusal, bad_requests_are_told_with_the_next_step),
                TEST_ROW(refusal, what_is_too_large_is_told_with_the_limit),
                TEST_ROW(refusal, more_events_than_fit_are_refused_before_the_store),
                TEST_ROW(remove, soft_delete_hides_and_the_next_append_goes_on),
                TEST_ROW(remove, a_tombstone_is_for_good),
                TEST_ROW(metadata, is_read_as_it_was_written_and_has_revisions),
                TEST_ROW(truncate, hides_what_is_before_and_keeps_the_rest_of_the_metadata),
                TEST_ROW(truncate, loses_nothing_that_others_write_meanwhile),
                TEST_ROW(state, a_server_that_is_not_ready_says_so_at_once),
                TEST_ROW(state, a_full_disk_refuses_writes_and_serves_reads),
                TEST_ROW(state, a_busy_store_says_so_with_retry_after),
                TEST_ROW(state, a_deadline_that_passes_is_an_unknown_outcome_and_a_retry_settles_it),
                TEST_ROW(state, a_client_that_leaves_early_changes_nothing_for_its_write),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
