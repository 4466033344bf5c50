/* What may be kept of an answer, conditions of HTTP, and reads that wait for an event (G4, G5, G9, G10). */
#include <time.h>

#include "support.h"

static struct server *server;

static int start(void **state)
{
        (void)state;
        server = server_start(NULL);
        append_many(server, "order-1", "Placed", 0, 6);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

/* The value of a header; empty: it is absent. */
static void header_of(const struct reply *r, const char *name, char *to, size_t size)
{
        const char *at = (const char *)r->head.data;
        size_t n = strlen(name);

        *to = 0;
        while ((at = strstr(at, "\r\n"))) {
                at += 2;
                if (strncasecmp(at, name, n) == 0 && at[n] == ':') {
                        const char *value = at + n + 1 + strspn(at + n + 1, " ");

                        snprintf(to, size, "%.*s", (int)strcspn(value, "\r"), value);
                        return;
                }
        }
}

static void get_headers(
        const char *line, const char *headers, int status, char *tag, char *control, size_t size)
{
        struct reply r;

        call_bytes(server, line, headers, BYTES_EMPTY, &r);
        assert_int_equal(r.status, status);
        header_of(&r, "etag", tag, size);
        header_of(&r, "cache-control", control, size);
        if (status == 304)
                assert_int_equal(r.body.size, 0);
        reply_free(&r);
}

static void expect_headers(const char *line, const char *tag, const char *control)
{
        char got_tag[64], got_control[64];

        get_headers(line, "", 200, got_tag, got_control, sizeof got_tag);
        if (tag)
                assert_string_equal(got_tag, tag);
        assert_string_equal(got_control, control);
}

/* Whoever comes back with the tag is told that nothing changed. */
static void expect_unchanged(const char *line)
{
        char tag[64], again[64], control[64], header[128];

        get_headers(line, "", 200, tag, control, sizeof tag);
        assert_true(strlen(tag) > 2);
        snprintf(header, sizeof header, "If-None-Match: \"other\", W/%s\r\n", tag);
        get_headers(line, header, 304, again, control, sizeof again);
        assert_string_equal(again, tag);
        get_headers(line, "If-None-Match: \"other\"\r\n", 200, again, control, sizeof again);
}

#define FOR_GOOD "public, max-age=31536000, immutable"

TEST(kept, a_full_page_of_all_streams_may_be_kept_for_good)
{
        expect_headers("GET /v1/all/events?from=1&limit=3", NULL, FOR_GOOD);
        expect_headers("GET /v1/all/events?limit=3", NULL, FOR_GOOD);
        expect_headers("GET /v1/all/events?from=1&limit=2&stream-prefix=order-", NULL, FOR_GOOD);
        expect_headers("GET /v1/all/events/2", NULL, FOR_GOOD);
        expect_headers("HEAD /v1/all/events/2", NULL, FOR_GOOD);
}

TEST(kept, what_can_change_is_asked_for_again)
{
        expect_headers("GET /v1/all/events?from=1&limit=1000", NULL, "no-cache"); /* there will be more */
        expect_headers("GET /v1/all/events?from=1&limit=3&resolve-links=true", NULL, "no-cache");
        expect_headers("GET /v1/all/events?direction=backward&limit=3", NULL, "no-cache");
        expect_headers("GET /v1/all/events?from=end&limit=3", NULL, "no-cache");
        expect_headers("GET /v1/streams/order-1/events?from=0&limit=3", NULL, "no-cache"); /* truncation */
        expect_headers("GET /v1/streams/order-1/events/2", NULL, "no-cache");
        expect_headers("GET /v1/streams/order-1", "\"5\"", "no-cache");
}

TEST(kept, who_has_it_already_is_told_so)
{
        expect_unchanged("GET /v1/all/events?from=1&limit=3");
        expect_unchanged("GET /v1/all/events/2");
        expect_unchanged("GET /v1/streams/order-1/events");
        expect_unchanged("GET /v1/streams/order-1/events/2");
        expect_unchanged("GET /v1/streams/order-1");
        expect_unchanged("GET /v1/streams/order-1/metadata");
        expect_unchanged("GET /v1/streams?prefix=order-");
        expect_unchanged("GET /v1/types");
}

TEST(kept, a_tag_changes_with_what_it_is_of)
{
        char before[64], after[64], control[64], header[128];

        append_many(server, "grows", "T", 0, 1);
        get_headers("GET /v1/streams/grows/events", "", 200, before, control, sizeof before);
        append_many(server, "grows", "T", 1, 1);
        snprintf(header, sizeof header, "If-None-Match: %s\r\n", before);
        get_headers("GET /v1/streams/grows/events", header, 200, after, control, sizeof after);
        assert_string_not_equal(after, before);
        expect_headers("GET /v1/streams/grows", "\"1\"", "no-cache");
        json_decref(call(server, 200, "PUT /v1/streams/grows/metadata", JSON_BODY, "{\"$maxCount\":1}"));
        expect_headers("GET /v1/streams/grows", "\"1;0\"", "no-cache");
        expect_headers("GET /v1/streams/grows/metadata", "\"0\"", "no-cache");
        snprintf(header, sizeof header, "If-None-Match: %s\r\n", after);
        get_headers("GET /v1/streams/grows/events", header, 200, before, control, sizeof before);
        assert_string_not_equal(after, before);
}

#define EVENT "{\"type\":\"T\",\"data\":{\"n\":1}}"

TEST(condition, the_tag_of_a_stream_makes_a_write_conditional)
{
        json_t *json;

        json_decref(call(server, 201, "POST /v1/streams/if/events", JSON_BODY "If-None-Match: *\r\n", EVENT));
        refuse(server, 412, "conflict", "if is at revision 0, you expected no stream",
                "POST /v1/streams/if/events", JSON_BODY "If-None-Match: *\r\n", EVENT);
        json_decref(call(server, 201, "POST /v1/streams/if/events", JSON_BODY "If-Match: \"0\"\r\n", EVENT));
        json_decref(call(server, 201, "POST /v1/streams/if/events", JSON_BODY "If-Match: *\r\n", EVENT));
        json = refused(server, 412, "conflict", "if is at revision 2, you expected 0",
                "POST /v1/streams/if/events", JSON_BODY "If-Match: \"0\"\r\n", EVENT);
        assert_int_equal(number(json, "actual"), 2);
        json_decref(json);
        refuse(server, 412, "conflict", "absent does not exist", "POST /v1/streams/absent/events",
                JSON_BODY "If-Match: *\r\n", EVENT);
        json_decref(call(server, 200, "PUT /v1/streams/if/metadata", JSON_BODY "If-None-Match: *\r\n", "{}"));
        json_decref(call(server, 200, "PUT /v1/streams/if/metadata", JSON_BODY "If-Match: \"0\"\r\n", "{}"));
        refuse(server, 412, "conflict", "$$if is at revision 1", "PUT /v1/streams/if/metadata",
                JSON_BODY "If-Match: \"0\"\r\n", "{}");
        json_decref(
                call(server, 201, "POST /v1/streams/if/events", JSON_BODY "If-Match: \"2;1\"\r\n", EVENT));
        refuse(server, 412, "conflict", "if is at revision 3", "DELETE /v1/streams/if",
                "If-Match: \"2;1\"\r\n", NULL);
        json_decref(call(server, 200, "DELETE /v1/streams/if", "If-Match: \"3;1\"\r\n", NULL));
}

TEST(condition, what_is_no_condition_is_refused)
{
        refuse(server, 400, "invalid", "more than one", "POST /v1/streams/if-2/events",
                JSON_BODY "If-Match: \"0\"\r\nNilo-Expect: 0\r\n", EVENT);
        refuse(server, 400, "invalid", "more than one", "POST /v1/streams/if-2/events",
                JSON_BODY "If-Match: \"0\"\r\nIf-None-Match: *\r\n", EVENT);
        refuse(server, 400, "invalid", "no condition", "POST /v1/streams/if-2/events",
                JSON_BODY "If-Match: \"p-0123\"\r\n", EVENT);
        refuse(server, 400, "invalid", "no condition", "POST /v1/streams/if-2/events",
                JSON_BODY "If-Match: \"1\", \"2\"\r\n", EVENT);
        refuse(server, 400, "invalid", "no condition", "POST /v1/streams/if-2/events",
                JSON_BODY "If-None-Match: \"1\"\r\n", EVENT);
}

/* ---- reads that wait ---- */

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct asked {
        int fd;
        double since;
};

static struct asked ask(const char *line, const char *headers)
{
        struct asked a = {.fd = client_connect(server), .since = now_s()};

        client_request(a.fd, line, headers, BYTES_EMPTY, true);
        return a;
}

static json_t *answer(struct asked *a, int status, double *ret_took)
{
        struct reply r;
        json_t *json;

        client_receive(a->fd, &r);
        close(a->fd);
        *ret_took = now_s() - a->since;
        assert_int_equal(r.status, status);
        json = json_loads(body_of(&r), 0, NULL);
        reply_free(&r);
        return json;
}

static void let_it_begin(void)
{
        usleep(50 * 1000);
}

static void expect_first(json_t *page, const char *stream, int64_t revision, size_t count)
{
        json_t *events = json_object_get(page, "events");
        const json_t *first = json_array_get(events, 0);

        assert_int_equal(json_array_size(events), count);
        assert_string_equal(text(first, "stream"), stream);
        assert_int_equal(number(first, "revision"), revision);
        json_decref(page);
}

TEST(wait, a_page_at_the_end_waits_for_the_first_event)
{
        struct asked a;
        double took;

        append_many(server, "poll", "T", 0, 2);
        a = ask("GET /v1/streams/poll/events?from=2&wait-ms=5000", "");
        let_it_begin();
        append_many(server, "other", "T", 0, 1);
        let_it_begin();
        append_many(server, "poll", "T", 2, 2);
        expect_first(answer(&a, 200, &took), "poll", 2, 2);
        assert_true(took < 3);
        assert_true(took >= 0.09);
}

TEST(wait, what_is_there_comes_at_once)
{
        struct asked a = ask("GET /v1/streams/order-1/events?from=3&wait-ms=5000", "");
        double took;

        expect_first(answer(&a, 200, &took), "order-1", 3, 3);
        assert_true(took < 3);
}

TEST(wait, a_filter_and_the_end_of_all_streams_wait_too)
{
        struct asked all = ask("GET /v1/all/events?from=end&wait-ms=5000", "");
        struct asked filtered = ask("GET /v1/all/events?stream-prefix=filtered-&wait-ms=5000", "");
        struct asked preferred =
                ask("GET /v1/streams/filtered-1/events", "Prefer: respond-async, wait=5\r\n");
        double took;

        let_it_begin();
        append_many(server, "filtered-1", "T", 0, 1);
        expect_first(answer(&all, 200, &took), "filtered-1", 0, 1);
        expect_first(answer(&filtered, 200, &took), "filtered-1", 0, 1);
        expect_first(
                answer(&preferred, 200, &took), "filtered-1", 0, 1); /* a stream that was not there yet */
        assert_true(took < 3);
}

TEST(wait, lines_wait_as_pages_do)
{
        struct asked a = ask("GET /v1/streams/lines/events?wait-ms=5000", AS_LINES);
        json_t *event;
        double took;

        let_it_begin();
        append_many(server, "lines", "T", 7, 1);
        event = answer(&a, 200, &took);
        assert_int_equal(number(json_object_get(event, "data"), "n"), 7);
        json_decref(event);
        assert_true(took < 3);
}

TEST(wait, in_vain_gives_what_was_there_at_once)
{
        struct asked page = ask("GET /v1/streams/order-1/events?from=6&wait-ms=150", "");
        struct asked absent = ask("GET /v1/streams/never/events?wait-ms=150", "");
        json_t *json;
        double took;

        json = answer(&page, 200, &took);
        assert_true(took >= 0.14);
        assert_int_equal(json_array_size(json_object_get(json, "events")), 0);
        assert_true(json_is_true(json_object_get(json, "at_end")));
        assert_non_null(strstr(text(json, "next"), "from=6"));
        json_decref(json);
        json_decref(answer(&absent, 404, &took));
        assert_true(took >= 0.14);
}

TEST(wait, makes_no_sense_backward)
{
        refuse(server, 400, "invalid", "nothing to wait for",
                "GET /v1/streams/order-1/events?direction=backward&wait-ms=100", "", NULL);
        refuse(server, 400, "invalid", "wait-ms=x", "GET /v1/streams/order-1/events?wait-ms=x", "", NULL);
}

TEST(wait, ends_with_the_server)
{
        struct server *own = server_start(NULL);
        int fd = client_connect(own);
        struct reply r;

        client_request(fd, "GET /v1/streams/never/events?wait-ms=60000", "", BYTES_EMPTY, true);
        let_it_begin();
        server_stop(own);
        client_receive(fd, &r);
        assert_true(r.status == 404 || r.status == 503);
        reply_free(&r);
        close(fd);
}

TEST(wait, a_client_that_leaves_is_forgotten)
{
        for (unsigned i = 0; i < 20; i++) {
                struct asked a = ask("GET /v1/streams/left/events?wait-ms=60000", i % 2 ? AS_LINES : "");

                close(a.fd);
        }
        append_many(server, "left", "T", 0, 1);
        json_decref(call(server, 200, "GET /v1/streams/left/events", "", NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(kept, a_full_page_of_all_streams_may_be_kept_for_good),
                TEST_ROW(kept, what_can_change_is_asked_for_again),
                TEST_ROW(kept, who_has_it_already_is_told_so),
                TEST_ROW(kept, a_tag_changes_with_what_it_is_of),
                TEST_ROW(condition, the_tag_of_a_stream_makes_a_write_conditional),
                TEST_ROW(condition, what_is_no_condition_is_refused),
                TEST_ROW(wait, a_page_at_the_end_waits_for_the_first_event),
                TEST_ROW(wait, what_is_there_comes_at_once),
                TEST_ROW(wait, a_filter_and_the_end_of_all_streams_wait_too),
                TEST_ROW(wait, lines_wait_as_pages_do),
                TEST_ROW(wait, in_vain_gives_what_was_there_at_once),
                TEST_ROW(wait, makes_no_sense_backward),
                TEST_ROW(wait, ends_with_the_server),
                TEST_ROW(wait, a_client_that_leaves_is_forgotten),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
