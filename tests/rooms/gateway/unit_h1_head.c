/* Heads and bodies of HTTP/1.1 from strangers: what is taken, and that nothing is taken that two readers
 * could read in two ways (G17). */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/h1_body.h"
#include "gateway/h1_head.h"

static struct h1_head head;

/* The status of the refusal, 0 if it is taken. */
static int parse(const char *text)
{
        static uint8_t copy[2 * H1_HEAD_SIZE_MAX];
        size_t size = strlen(text), end;
        int status;

        memcpy(copy, text, size);
        end = h1_head_end(bytes_of(copy, size), &status);
        assert_true(end > 0);
        if (status)
                return status;
        if (h1_head_parse(copy, end, &head))
                return 0;
        assert_non_null(head.problem);
        assert_true(head.status >= 400);
        return head.status;
}

static void assert_text(struct bytes b, const char *text)
{
        assert_int_equal(b.size, strlen(text));
        assert_memory_equal(b.data, text, b.size);
}

TEST(h1_head, takes_a_request_apart)
{
        assert_int_equal(parse("POST /a%20b?x=1 HTTP/1.1\r\nHost: localhost:2113\r\nContent-Length: "
                               "5\r\nNilo-Expect:  none \t\r\n\r\nhello"),
                0);
        assert_text(head.method, "POST");
        assert_text(head.target, "/a%20b?x=1");
        assert_text(head.host, "localhost:2113");
        assert_int_equal(head.field_count, 3);
        assert_text(head.fields[2].name, "nilo-expect");
        assert_text(head.fields[2].value, "none");
        assert_true(head.has_body);
        assert_true(head.is_keep_alive);
        assert_int_equal(head.body_size, 5);
        assert_int_equal(parse("GET http://localhost:2113/a HTTP/1.1\r\nHost: other\r\n\r\n"), 0);
        assert_text(head.target, "/a");
        assert_text(head.host, "localhost:2113");
        assert_false(head.has_body);
        assert_int_equal(parse("GET https://db.example/a HTTP/1.1\r\nHost: other\r\n\r\n"), 0);
        assert_text(head.target, "/a");
        assert_text(head.host, "db.example");
        assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n"), 0);
        assert_false(head.is_keep_alive);
        assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), 0);
        assert_false(head.is_keep_alive);
        assert_int_equal(
                parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), 0);
}

TEST(h1_head, waits_for_the_empty_line)
{
        const char *text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        int status;

        for (size_t i = 0; i < strlen(text); i++) {
                assert_int_equal(h1_head_end(bytes_of(text, i), &status), 0);
                assert_int_equal(status, 0);
        }
        assert_int_equal(h1_head_end(bytes_of_string(text), &status), strlen(text));
}

TEST(h1_head, refuses_what_two_readers_could_read_in_two_ways)
{
#define GET  "GET / HTTP/1.1\r\n"
#define HOST "Host: localhost\r\n"
        static const struct {
                const char *text;
                int status;
        } cases[] = {
                {GET HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
                {GET HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
                {GET HOST "Content-Length: 5, 5\r\n\r\n", 400},
                {GET HOST "Content-Length: +5\r\n\r\n", 400},
                {GET HOST "Content-Length: -5\r\n\r\n", 400},
                {GET HOST "Content-Length: 0x5\r\n\r\n", 400},
                {GET HOST "Content-Length: 5 5\r\n\r\n", 400},
                {GET HOST "Content-Length:\r\n\r\n", 400},
                {GET HOST "Content-Length: 99999999999999999999999\r\n\r\n", 400},
                {GET HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
                {GET HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
                {GET HOST "Transfer-Encoding: identity\r\n\r\n", 400},
                {GET HOST "Transfer-Encoding: chunked, identity\r\n\r\n", 400},
                {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
                {GET HOST "Content-Length : 5\r\n\r\n", 400},
                {GET HOST "Transfer-Encoding : chunked\r\n\r\n", 400},
                {GET HOST "A b: c\r\n\r\n", 400},
                {GET HOST ": c\r\n\r\n", 400},
                {GET HOST "no colon\r\n\r\n", 400},
                {GET HOST "A: b\r\n folded\r\n\r\n", 400},
                {GET HOST "A: b\nC: d\r\n\r\n", 400},
                {GET HOST "A: b\rC: d\r\n\r\n", 400},
                {GET HOST "A: \001\r\n\r\n", 400},
                {GET HOST "A: \177\r\n\r\n", 400},
                {GET "\r\n", 400},
                {GET HOST HOST "\r\n", 400},
                {GET "Host: a b\r\n\r\n", 400},
                {GET "Host: a/b\r\n\r\n", 400},
                {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
                {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400},
                {"GET / x HTTP/1.1\r\n" HOST "\r\n", 400},
                {"GET / HTTP/1.1 \r\n" HOST "\r\n", 505},
                {"GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 400},
                {"GET a HTTP/1.1\r\n" HOST "\r\n", 400},
                {"GET /\r\n" HOST "\r\n", 505},
                {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
                {"GET / HTTP/1.2\r\n" HOST "\r\n", 505},
                {"GET / HTTP/0.9\r\n" HOST "\r\n", 505},
                {"FETCH / HTTP/1.1\r\n" HOST "\r\n", 501},
                {"CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", 501},
                {GET HOST "Expect: tea\r\n\r\n", 417},
        };

        unsigned failed = 0;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                int status = parse(cases[i].text);

                if (status != cases[i].status)
                        print_error("case %zu: %d for\n%s", i, status, cases[i].text);
                failed += status != cases[i].status;
        }
        assert_int_equal(failed, 0);
}

TEST(h1_head, is_bounded)
{
        static char text[64 * 1024];
        int status, n;

        n = snprintf(text, sizeof text, "GET /%0*d", H1_LINE_SIZE_MAX, 0);
        assert_true(h1_head_end(bytes_of(text, (size_t)n), &status) > 0);
        assert_int_equal(status, 414);
        n = snprintf(text, sizeof text, GET HOST "A: %0*d", H1_HEAD_SIZE_MAX, 0);
        assert_true(h1_head_end(bytes_of(text, (size_t)n), &status) > 0);
        assert_int_equal(status, 431);
        n = snprintf(text, sizeof text, GET HOST);
        for (int i = 0; i < H1_HEADERS_MAX - 1; i++)
                n += snprintf(text + n, sizeof text - (size_t)n, "A%d: b\r\n", i);
        snprintf(text + n, sizeof text - (size_t)n, "\r\n");
        assert_int_equal(parse(text), 0);
        snprintf(text + n, sizeof text - (size_t)n, "One: more\r\n\r\n");
        assert_int_equal(parse(text), 431);
}

static void collect(void *arg, struct bytes piece)
{
        buffer_add_bytes(arg, piece);
}

/* Content of a body that comes in pieces of `step`; false: refused. */
static bool take(struct h1_body body, const char *text, size_t step, struct buffer *content, size_t *ret_used,
        bool *ret_done)
{
        size_t size = strlen(text), used;

        *ret_used = 0;
        *ret_done = false;
        while (*ret_used < size && !*ret_done) {
                if (!h1_body_take(&body, bytes_of(text + *ret_used, MIN(step, size - *ret_used)), collect,
                            content, &used, ret_done))
                        return false;
                *ret_used += used;
        }
        return true;
}

TEST(h1_body, is_the_same_in_any_pieces)
{
        const char *text = "5;a=\"b\"\r\nhello\r\n0010\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\nGET /";
        struct h1_body body;

        h1_body_begin(&body, true, 0);
        for (size_t step = 1; step <= strlen(text); step++) {
                struct buffer content = {0};
                size_t used;
                bool is_done;

                assert_true(take(body, text, step, &content, &used, &is_done));
                assert_true(is_done);
                assert_int_equal(used, strlen(text) - 5);
                assert_text(buffer_bytes(&content), "hello0123456789abcdef");
                buffer_fini(&content);
        }
}

TEST(h1_body, of_a_given_size_ends_there)
{
        struct buffer content = {0};
        struct h1_body body;
        size_t used;
        bool is_done;

        h1_body_begin(&body, false, 5);
        assert_true(take(body, "hellGET /", 100, &content, &used, &is_done));
        assert_true(is_done);
        assert_int_equal(used, 5);
        assert_text(buffer_bytes(&content), "hellG");
        buffer_fini(&content);
}

TEST(h1_body, refuses_chunks_that_two_readers_could_read_in_two_ways)
{
        static const char *const bad[] = {
                "5\rXhello\r\n0\r\n\r\n",
                "5\nhello\r\n0\r\n\r\n",
                "5\r\nhelloXX0\r\n\r\n",
                "5\r\nhello\n0\r\n\r\n",
                "5;a=\nb\r\nhello\r\n0\r\n\r\n",
                "5;\001\r\nhello\r\n0\r\n\r\n",
                "5 \r\nhello\r\n0\r\n\r\n",
                " 5\r\nhello\r\n0\r\n\r\n",
                "0x5\r\nhello\r\n0\r\n\r\n",
                "+5\r\nhello\r\n0\r\n\r\n",
                "-5\r\nhello\r\n0\r\n\r\n",
                "\r\nhello\r\n0\r\n\r\n",
                ";a\r\nhello\r\n0\r\n\r\n",
                "ffffffffffffffff\r\n",
                "0000000000000005\r\nhello\r\n0\r\n\r\n",
                "0\r\n\rX",
                "0\r\nA: b\n\r\n\r\n",
        };

        for (size_t i = 0; i < COUNT_OF(bad); i++) {
                struct buffer content = {0};
                struct h1_body body;
                size_t used;
                bool is_done;

                h1_body_begin(&body, true, 0);
                if (take(body, bad[i], 1000, &content, &used, &is_done))
                        print_error("case %zu was taken\n", i);
                assert_false(take(body, bad[i], 1000, &content, &used, &is_done));
                assert_false(take(body, bad[i], 1, &content, &used, &is_done));
                buffer_fini(&content);
        }
}

TEST(h1_body, bounds_what_nobody_asked_for)
{
        static char text[2 * H1_BODY_LINES_SIZE_MAX];
        struct buffer content = {0};
        struct h1_body body;
        size_t used;
        bool is_done;

        h1_body_begin(&body, true, 0);
        snprintf(text, sizeof text, "0\r\nA: %0*d\r\n\r\n", H1_BODY_LINES_SIZE_MAX, 0);
        assert_false(take(body, text, 1000, &content, &used, &is_done));
        snprintf(text, sizeof text, "5;%0*d\r\nhello\r\n0\r\n\r\n", H1_BODY_LINES_SIZE_MAX + 1, 0);
        assert_false(take(body, text, 1000, &content, &used, &is_done));
        buffer_fini(&content);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(h1_head, takes_a_request_apart),
                TEST_ROW(h1_head, waits_for_the_empty_line),
                TEST_ROW(h1_head, refuses_what_two_readers_could_read_in_two_ways),
                TEST_ROW(h1_head, is_bounded),
                TEST_ROW(h1_body, is_the_same_in_any_pieces),
                TEST_ROW(h1_body, of_a_given_size_ends_there),
                TEST_ROW(h1_body, refuses_chunks_that_two_readers_could_read_in_two_ways),
                TEST_ROW(h1_body, bounds_what_nobody_asked_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
