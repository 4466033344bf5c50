/* Reading over HTTP: pages, lines, single events, lists (G4, G9, G17, G18). */
#include "support.h"

static struct server *server;

static int start(void **state)
{
        (void)state;
        server = server_start(NULL);
        append_many(server, "order-1", "Placed", 0, 25);
        append_many(server, "order-2", "Paid", 0, 10);
        append_many(server, "cart-1", "Placed", 0, 5);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

static int64_t n_of(const json_t *event)
{
        return number(json_object_get(event, "data"), "n");
}

static void get(struct server *s, const char *path, const char *headers, struct reply *ret)
{
        char line[1024];

        snprintf(line, sizeof line, "GET %s", path);
        call_bytes(s, line, headers, BYTES_EMPTY, ret);
}

/* Follows `next` from page to page; checks that n counts up (or down) from `first`. Gives the number of
 * events. */
static unsigned walk(const char *path, int64_t first, int step, unsigned page_max)
{
        char at[1024];
        unsigned count = 0;
        bool is_over = false;

        snprintf(at, sizeof at, "%s", path);
        while (!is_over) {
                char line[1100];
                json_t *page, *events;

                snprintf(line, sizeof line, "GET %s", at);
                page = call(server, 200, line, "", NULL);
                events = json_object_get(page, "events");
                assert_true(json_array_size(events) <= page_max);
                for (size_t i = 0; i < json_array_size(events); i++, count++)
                        assert_int_equal(n_of(json_array_get(events, i)), first + step * (int64_t)count);
                is_over = json_is_true(json_object_get(page, "at_end"));
                if (!is_over)
                        snprintf(at, sizeof at, "%s", text(page, "next"));
                json_decref(page);
        }
        return count;
}

/* ---- pages ---- */

TEST(page, pages_lead_on_in_both_directions_without_gap_or_repeat)
{
        assert_int_equal(walk("/v1/streams/order-1/events?limit=10", 0, 1, 10), 25);
        assert_int_equal(walk("/v1/streams/order-1/events?limit=25", 0, 1, 25), 25);
        assert_int_equal(walk("/v1/streams/order-1/events?limit=1", 0, 1, 1), 25);
        assert_int_equal(walk("/v1/streams/order-1/events?from=20&limit=2", 20, 1, 2), 5);
        assert_int_equal(walk("/v1/streams/order-1/events?direction=backward&limit=10", 24, -1, 10), 25);
        assert_int_equal(walk("/v1/streams/order-1/events?direction=backward&limit=5&from=7", 7, -1, 5), 8);
        assert_int_equal(walk("/v1/streams/order-1/events?direction=backward&from=start", 0, -1, 100), 1);
        assert_int_equal(walk("/v1/streams/order-1/events?from=end", 0, 1, 100), 0);
        assert_int_equal(walk("/v1/streams/order-1/events?from=18446744073709551615", 0, 1, 100), 0);
        assert_int_equal(walk("/v1/stores/default/streams/order-1/events?limit=10", 0, 1, 10), 25);
}

TEST(page, filters_of_all_streams_page_without_gap_or_repeat)
{
        assert_int_equal(walk("/v1/all/events?stream-prefix=order-1&limit=4", 0, 1, 4), 25);
        assert_int_equal(walk("/v1/all/events?stream-regex=%5Eorder-2%24&limit=4", 0, 1, 4), 10);
        assert_int_equal(walk("/v1/all/events?type-prefix=Pa&limit=4", 0, 1, 4), 10);
        assert_int_equal(walk("/v1/all/events?type-regex=aid&limit=100", 0, 1, 100), 10);
        assert_int_equal(
                walk("/v1/all/events?stream-prefix=order-2&direction=backward&limit=3", 9, -1, 3), 10);
        assert_int_equal(walk("/v1/all/events?stream-prefix=none&stream-prefix=cart-&limit=2", 0, 1, 2), 5);
        assert_int_equal(walk("/v1/all/events?stream-prefix=nothing", 0, 1, 100), 0);
}

TEST(page, positions_of_all_streams_are_gapless_and_inclusive_both_ways)
{
        json_t *forward = call(server, 200, "GET /v1/all/events?from=7&limit=3", "", NULL);
        json_t *backward =
                call(server, 200, "GET /v1/all/events?from=7&direction=backward&limit=3", "", NULL);
        json_t *newest = call(server, 200, "GET /v1/all/events?direction=backward&limit=1", "", NULL);
        json_t *events = json_object_get(forward, "events");
        char line[100];
        json_t *one;

        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(number(json_array_get(events, i), "position"), 7 + i);
                assert_int_equal(
                        number(json_array_get(json_object_get(backward, "events"), i), "position"), 7 - i);
        }
        snprintf(line, sizeof line, "GET /v1/all/events/%lld",
                (long long)number(json_array_get(json_object_get(newest, "events"), 0), "position"));
        one = call(server, 200, line, "", NULL);
        assert_true(json_equal(one, json_array_get(json_object_get(newest, "events"), 0)));
        json_decref(one);
        json_decref(forward);
        json_decref(backward);
        json_decref(newest);
}

TEST(page, an_event_tells_everything_about_itself)
{
        json_t *page = call(server, 200, "GET /v1/streams/order-2/events?from=3&limit=1", "", NULL);
        json_t *event = json_array_get(json_object_get(page, "events"), 0);
        const char *time = text(event, "time");

        assert_string_equal(text(page, "stream"), "order-2");
        assert_string_equal(text(page, "direction"), "forward");
        assert_string_equal(text(event, "stream"), "order-2");
        assert_string_equal(text(event, "type"), "Paid");
        assert_int_equal(number(event, "revision"), 3);
        assert_int_equal(strlen(text(event, "id")), 36);
        assert_int_equal(strlen(time), 27);
        assert_int_equal(time[10], 'T');
        assert_string_equal(time + 26, "Z");
        assert_string_equal(text(event, "content_type"), "application/json");
        json_decref(page);
}

TEST(page, is_bounded_in_bytes_and_the_next_one_goes_on)
{
        struct buffer body = {0};
        json_t *page;
        size_t first;

        buffer_add_string(&body, "[");
        for (unsigned i = 0; i < 12; i++) {
                buffer_format(&body, "%s{\"type\":\"Big\",\"data\":\"", i ? "," : "");
                for (unsigned k = 0; k < 1024; k++) {
                        uint8_t kib[1024];

                        memset(kib, 'x', sizeof kib);
                        buffer_add(&body, kib, sizeof kib);
                }
                buffer_add_string(&body, "\"}");
        }
        buffer_add_string(&body, "]");
        buffer_add_u8(&body, 0);
        json_decref(call(server, 201, "POST /v1/streams/big/events", JSON_BODY, (char *)body.data));
        page = call(server, 200, "GET /v1/streams/big/events", "", NULL);
        first = json_array_size(json_object_get(page, "events"));
        assert_true(first >= 7 && first <= 9);
        assert_true(json_is_false(json_object_get(page, "at_end")));
        snprintf((char *)body.data, 200, "GET %s", text(page, "next"));
        json_decref(page);
        page = call(server, 200, (char *)body.data, "", NULL);
        assert_int_equal(json_array_size(json_object_get(page, "events")), 12 - first);
        assert_int_equal(number(json_array_get(json_object_get(page, "events"), 0), "revision"), first);
        json_decref(page);
        buffer_fini(&body);
}

/* ---- lines ---- */

static unsigned count_lines(const struct reply *r)
{
        unsigned count = 0;

        for (size_t i = 0; i < r->body.size; i++)
                count += r->body.data[i] == '\n';
        return count;
}

TEST(lines, one_event_stands_in_each_line)
{
        struct reply r;
        char *at;
        unsigned n = 0;

        get(server, "/v1/streams/order-1/events", AS_LINES, &r);
        assert_int_equal(r.status, 200);
        assert_non_null(strcasestr((char *)r.head.data, "content-type: application/x-ndjson"));
        assert_int_equal(count_lines(&r), 25);
        for (at = (char *)r.body.data; *at; at = strchr(at, '\n') + 1, n++) {
                json_t *event = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);

                assert_int_equal(n_of(event), n);
                json_decref(event);
        }
        reply_free(&r);
        get(server, "/v1/all/events?limit=2", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 2);
        reply_free(&r);
        get(server, "/v1/streams/order-1/events?direction=backward&limit=1", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 1);
        assert_non_null(strstr(body_of(&r), "\"revision\":24"));
        reply_free(&r);
}

TEST(lines, line_ends_inside_of_data_become_spaces)
{
        struct reply r;

        json_decref(call(server, 201, "POST /v1/streams/ends/events", JSON_BODY,
                "{\"type\":\"T\",\"data\":{\r\n\"a\":\n\"x\\ny\"},\"metadata\":[1,\n2]}"));
        get(server, "/v1/streams/ends/events", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 1);
        assert_non_null(strstr(body_of(&r), "\"data\":{  \"a\": \"x\\ny\"}"));
        assert_non_null(strstr(body_of(&r), "\"metadata\":[1, 2]"));
        reply_free(&r);
}

TEST(lines, a_long_read_is_whole)
{
        struct reply r;

        for (unsigned i = 0; i < 20; i++)
                append_many(server, "long", "T", i * 1000, 1000);
        get(server, "/v1/streams/long/events", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 20000);
        assert_non_null(strstr(body_of(&r), "{\"n\":19999}"));
        reply_free(&r);
}

TEST(page, that_takes_too_long_is_given_as_it_is_and_the_next_goes_on)
{
        json_t *page =
                call(server, 200, "GET /v1/all/events?stream-regex=%5Enobody%24&timeout-ms=1", "", NULL);

        assert_int_equal(json_array_size(json_object_get(page, "events")), 0);
        json_decref(page);
        assert_int_equal(walk("/v1/all/events?stream-regex=%5Eorder-1%24&timeout-ms=1", 0, 1, 100), 25);
        assert_int_equal(walk("/v1/all/events?stream-regex=%5Eorder-1%24&timeout-ms=1&direction=backward", 24,
                                 -1, 100),
                25);
}

/* The same path again and again, with the client going away while the server still has much to send (G18). */
TEST(lines, clients_that_go_away_leave_nothing_behind)
{
        json_t *json;

        for (unsigned i = 0; i < 20; i++) {
                int fd = client_connect(server);
                char some[100];

                client_request(fd, "GET /v1/streams/long/events", i % 2 ? AS_LINES : "", BYTES_EMPTY, false);
                if (i % 4 < 2)
                        assert_true(recv(fd, some, sizeof some, 0) > 0);
                close(fd);
        }
        json = call(server, 200, "GET /v1/streams/long", "", NULL);
        assert_int_equal(number(json, "last_revision"), 19999);
        json_decref(json);
}

/* ---- one event, one stream ---- */

TEST(one, event_by_revision_and_by_position)
{
        json_t *event = call(server, 200, "GET /v1/streams/order-2/events/4", "", NULL);
        json_t *again;
        char line[100];

        assert_int_equal(n_of(event), 4);
        snprintf(line, sizeof line, "GET /v1/all/events/%lld", (long long)number(event, "position"));
        again = call(server, 200, line, "", NULL);
        assert_true(json_equal(event, again));
        json_decref(event);
        json_decref(again);
        refuse(server, 404, "not-found", "order-2 has no event 10", "GET /v1/streams/order-2/events/10", "",
                NULL);
        refuse(server, 404, "not-found", "no position 99999999", "GET /v1/all/events/99999999", "", NULL);
        refuse(server, 404, "not-found", "no stream 'nobody'", "GET /v1/streams/nobody/events/0", "", NULL);
        refuse(server, 400, "invalid", "'x' is no revision", "GET /v1/streams/order-2/events/x", "", NULL);
        refuse(server, 400, "invalid", "'-1' is no position", "GET /v1/all/events/-1", "", NULL);
}

TEST(one, head_answers_with_headers_and_no_body)
{
        static const char *const paths[] = {"/v1/streams/order-1/events", "/v1/all/events", "/v1/streams",
                "/v1/streams/order-1/events/3", "/v1/streams/order-1/metadata"};
        struct reply r;

        call_bytes(server, "HEAD /v1/streams/order-1", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        assert_int_equal(r.body.size, 0);
        assert_non_null(strcasestr((char *)r.head.data, "nilo-revision: 24"));
        assert_non_null(strcasestr((char *)r.head.data, "nilo-state: live"));
        assert_non_null(strcasestr((char *)r.head.data, "nilo-last-position: "));
        assert_non_null(strcasestr((char *)r.head.data, "nilo-position: "));
        reply_free(&r);
        call_bytes(server, "HEAD /v1/streams/nobody", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 404);
        assert_non_null(strcasestr((char *)r.head.data, "nilo-position: "));
        assert_int_equal(r.body.size, 0);
        reply_free(&r);
        for (unsigned i = 0; i < COUNT_OF(paths); i++) {
                static const char *const forms[] = {"", AS_LINES, AS_EVENTS};
                char line[200];

                snprintf(line, sizeof line, "HEAD %s", paths[i]);
                for (unsigned k = 0; k < COUNT_OF(forms); k++) {
                        call_bytes(server, line, forms[k], BYTES_EMPTY, &r);
                        assert_int_equal(r.status, 200);
                        assert_int_equal(r.body.size, 0);
                        reply_free(&r);
                }
        }
}

TEST(one, links_are_resolved_when_asked)
{
        json_t *event;

        json_decref(call(server, 201, "POST /v1/streams/links/events",
                "Nilo-Event-Type: $>\r\nContent-Type: application/octet-stream\r\n", "4@order-2"));
        json_decref(call(server, 201, "POST /v1/streams/links/events",
                "Nilo-Event-Type: $>\r\nContent-Type: application/octet-stream\r\n", "4@nobody"));
        event = call(server, 200, "GET /v1/streams/links/events/0?resolve-links", "", NULL);
        assert_string_equal(text(event, "stream"), "order-2");
        assert_int_equal(n_of(event), 4);
        assert_string_equal(text(json_object_get(event, "link"), "stream"), "links");
        assert_int_equal(number(json_object_get(event, "link"), "revision"), 0);
        json_decref(event);
        event = call(server, 200, "GET /v1/streams/links/events/1?resolve-links=true", "", NULL);
        assert_string_equal(text(event, "type"), "$>");
        assert_true(json_is_false(json_object_get(event, "resolved")));
        json_decref(event);
        event = call(server, 200, "GET /v1/streams/links/events/0", "", NULL);
        assert_string_equal(text(event, "type"), "$>");
        json_decref(event);
}

/* ---- refusals ---- */

TEST(refusal, of_reads_name_the_mistake)
{
        json_t *json;

        refuse(server, 404, "not-found", "no stream 'nobody'", "GET /v1/streams/nobody/events", "", NULL);
        refuse(server, 404, "not-found", "no stream 'nobody'", "GET /v1/streams/nobody/events", AS_LINES,
                NULL);
        refuse(server, 400, "invalid", "from=x is no revision", "GET /v1/streams/order-1/events?from=x", "",
                NULL);
        refuse(server, 400, "invalid", "from=-1 is no position", "GET /v1/all/events?from=-1", "", NULL);
        refuse(server, 400, "invalid", "direction=up", "GET /v1/all/events?direction=up", "", NULL);
        refuse(server, 400, "invalid", "limit=0", "GET /v1/all/events?limit=0", "", NULL);
        refuse(server, 400, "invalid", "at most 10000 events", "GET /v1/all/events?limit=10001", "", NULL);
        refuse(server, 400, "invalid", "is given twice", "GET /v1/all/events?limit=1&limit=2", "", NULL);
        refuse(server, 400, "invalid", "both given", "GET /v1/all/events?stream-prefix=a&type-prefix=b", "",
                NULL);
        refuse(server, 400, "invalid", "stream-regex: ", "GET /v1/all/events?stream-regex=(", "", NULL);
        refuse(server, 400, "invalid", "is empty", "GET /v1/all/events?stream-regex=", "", NULL);
        json = refused(server, 400, "unknown-parameter", "'stream_prefix'",
                "GET /v1/all/events?stream_prefix=a", "", NULL);
        assert_non_null(strstr(text(json, "next"), "did you mean 'stream-prefix'?"));
        json_decref(json);
        json = refused(server, 400, "unknown-parameter", "'form'", "GET /v1/streams/order-1/events?form=3",
                "", NULL);
        assert_non_null(strstr(text(json, "next"), "did you mean 'from'?"));
        json_decref(json);
        json = refused(server, 400, "unknown-parameter", "'x'", "GET /v1/subscriptions/a/b?x", "", NULL);
        assert_non_null(strstr(text(json, "next"), "takes no parameters"));
        json_decref(json);
}

TEST(refusal, a_costly_pattern_ends_the_read_and_is_told)
{
        struct buffer name = {0};
        struct buffer line = {0};

        for (unsigned i = 0; i < 60; i++)
                buffer_add_string(&name, "aaaaaaaaaa");
        buffer_add_string(&name, "c");
        buffer_add_u8(&name, 0);
        buffer_format(&line, "POST /v1/streams/%s/events", (char *)name.data);
        buffer_add_u8(&line, 0);
        json_decref(call(server, 201, (char *)line.data, JSON_BODY, "{\"type\":\"T\"}"));
        refuse(server, 422, "filter-too-costly", "match limit",
                "GET /v1/all/events?direction=backward&stream-regex=%5E(a%2Ba%2B)%2B%5Bbd%5D", AS_LINES,
                NULL);
        refuse(server, 422, "filter-too-costly", "match limit",
                "GET /v1/all/events?stream-regex=%5E(a%2Ba%2B)%2B%5Bbd%5D", "", NULL);
        { /* far behind the beginning: the status has been sent, so the last line tells */
                struct reply r;

                get(server, "/v1/all/events?stream-regex=%5E(a%2Ba%2B)%2B%5Bbd%5D", AS_LINES, &r);
                assert_non_null(strstr(body_of(&r), "{\"problem\":{\"type\":\"urn:nilo:filter-too-costly\""));
                assert_non_null(
                        strstr(body_of(&r), "\"detail\":\"the regular expression exceeds the match limit"));
                reply_free(&r);
        }
        buffer_fini(&name);
        buffer_fini(&line);
}

/* ---- lists ---- */

static void expect_names(const char *line, const char *key, const char *want)
{
        json_t *json = call(server, 200, line, "", NULL);
        json_t *names = json_object_get(json, key);
        struct buffer got = {0};

        for (size_t i = 0; i < json_array_size(names); i++)
                buffer_format(&got, "%s:%lld ", text(json_array_get(names, i), "name"),
                        (long long)number(json_array_get(names, i), "events"));
        buffer_add_u8(&got, 0);
        assert_string_equal((char *)got.data, want);
        buffer_fini(&got);
        json_decref(json);
}

TEST(names, streams_categories_and_types_are_listed_by_prefix)
{
        expect_names("GET /v1/streams?prefix=order-", "streams", "order-1:25 order-2:10 ");
        expect_names("GET /v1/streams?prefix=order-&after=order-1", "streams", "order-2:10 ");
        expect_names("GET /v1/streams?prefix=nothing", "streams", "");
        expect_names("GET /v1/categories?prefix=", "categories", "cart:5 order:35 ");
        expect_names("GET /v1/types?prefix=P", "types", "Paid:10 Placed:30 ");
        refuse(server, 400, "invalid", "from 1 to 10000", "GET /v1/streams?limit=10001", "", NULL);
        refuse(server, 400, "unknown-parameter", "'from'", "GET /v1/streams?from=1", "", NULL);
}

TEST(names, system_names_are_shown_when_asked_for)
{
        json_t *json;
        struct reply r;

        json_decref(call(server, 200, "PUT /v1/streams/order-1/metadata", JSON_BODY, "{\"a\":1}"));
        get(server, "/v1/streams", AS_LINES, &r);
        assert_null(strstr(body_of(&r), "\"$"));
        reply_free(&r);
        get(server, "/v1/streams?system", AS_LINES, &r);
        assert_non_null(strstr(body_of(&r), "\"name\":\"$$order-1\""));
        assert_non_null(strstr(body_of(&r), "\"name\":\"order-1\""));
        reply_free(&r);
        json = call(server, 200, "GET /v1/streams?prefix=$$", "", NULL);
        assert_int_equal(json_array_size(json_object_get(json, "streams")), 1);
        json_decref(json);
}

TEST(names, pages_and_lines_give_every_name_once)
{
        struct buffer body = {0};
        char at[300] = "/v1/streams?prefix=page-&limit=100";
        struct reply r;
        unsigned count = 0;

        buffer_add_string(&body, "{\"streams\":[");
        for (unsigned i = 0; i < 777; i++)
                buffer_format(
                        &body, "%s{\"stream\":\"page-%04u\",\"events\":[{\"type\":\"P\"}]}", i ? "," : "", i);
        buffer_add_string(&body, "]}");
        buffer_add_u8(&body, 0);
        json_decref(call(server, 201, "POST /v1/append", JSON_BODY, (char *)body.data));
        for (bool is_over = false; !is_over;) {
                char line[400];
                json_t *json;

                snprintf(line, sizeof line, "GET %s", at);
                json = call(server, 200, line, "", NULL);
                for (size_t i = 0; i < json_array_size(json_object_get(json, "streams")); i++) {
                        char want[20];

                        snprintf(want, sizeof want, "page-%04u", count++);
                        assert_string_equal(
                                text(json_array_get(json_object_get(json, "streams"), i), "name"), want);
                }
                is_over = json_is_true(json_object_get(json, "at_end"));
                if (!is_over)
                        snprintf(at, sizeof at, "%s", text(json, "next"));
                json_decref(json);
        }
        assert_int_equal(count, 777);
        get(server, "/v1/streams?prefix=page-", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 777);
        reply_free(&r);
        get(server, "/v1/streams?prefix=page-&limit=501", AS_LINES, &r);
        assert_int_equal(count_lines(&r), 501);
        reply_free(&r);
        buffer_fini(&body);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(page, pages_lead_on_in_both_directions_without_gap_or_repeat),
                TEST_ROW(page, filters_of_all_streams_page_without_gap_or_repeat),
                TEST_ROW(page, positions_of_all_streams_are_gapless_and_inclusive_both_ways),
                TEST_ROW(page, an_event_tells_everything_about_itself),
                TEST_ROW(one, event_by_revision_and_by_position),
                TEST_ROW(one, head_answers_with_headers_and_no_body),
                TEST_ROW(names, streams_categories_and_types_are_listed_by_prefix),
                TEST_ROW(names, system_names_are_shown_when_asked_for),
                TEST_ROW(names, pages_and_lines_give_every_name_once),
                TEST_ROW(one, links_are_resolved_when_asked),
                TEST_ROW(page, is_bounded_in_bytes_and_the_next_one_goes_on),
                TEST_ROW(lines, one_event_stands_in_each_line),
                TEST_ROW(lines, line_ends_inside_of_data_become_spaces),
                TEST_ROW(lines, a_long_read_is_whole),
                TEST_ROW(page, that_takes_too_long_is_given_as_it_is_and_the_next_goes_on),
                TEST_ROW(lines, clients_that_go_away_leave_nothing_behind),
                TEST_ROW(refusal, of_reads_name_the_mistake),
                TEST_ROW(refusal, a_costly_pattern_ends_the_read_and_is_told),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
