/* Routes over real sockets, by HTTP/1.1 and HTTP/2: what a handler sees of a request, what a client sees of
 * an answer, and what both see when the other misbehaves (G17, G18). */
#include "support.h"

enum { BODY_MAX = 100 * 1024, STREAM_SIZE = 20 * 1024 * 1024, PIECE = 10 * 1000 };

static struct {
        unsigned closed; /* on_close of a stream */
        unsigned gone;   /* on_gone of a request */
        unsigned held;   /* requests that wait for the test */
        struct gateway_request *request;
        uint64_t produced;
        size_t most_room;
} seen;

/* ---- handlers; on the server's thread ---- */

static void on_echo(void *arg, struct gateway_request *r)
{
        struct gateway_header_field headers[] = {{"x-split", "a\r\nset-cookie: b"}};
        struct buffer out = {0};
        struct bytes name, value;

        (void)arg;
        value = gateway_path_parameter(r, "a");
        buffer_format(&out, "a=%.*s;", (int)value.size, value.data);
        value = gateway_path_parameter(r, "b");
        buffer_format(&out, "b=%.*s;", (int)value.size, value.data);
        assert(gateway_path_parameter(r, "absent").size == 0);
        for (unsigned i = 0; gateway_query_at(r, i, &name, &value); i++)
                buffer_format(&out, "%.*s:%.*s;", (int)name.size, name.data, (int)value.size, value.data);
        assert(gateway_query(r, "q", &value) == gateway_query(r, "q", &name));
        if (gateway_header(r, "nilo-expect", &value))
                buffer_format(&out, "expect %.*s;", (int)value.size, value.data);
        assert(strncmp(gateway_peer(r), "127.0.0.1:", 10) == 0);
        buffer_format(&out, "%.*s %.*s", (int)gateway_method(r).size, gateway_method(r).data,
                (int)gateway_path(r).size, gateway_path(r).data);
        gateway_reply(r, 200, "text/plain", buffer_bytes(&out), headers, 1);
        buffer_fini(&out);
}

static void on_literal(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "text/plain", BYTES_LITERAL("literal"), NULL, 0);
}

static void on_body(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 201, "application/octet-stream", gateway_body(r), NULL, 0);
}

static void on_nothing(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 204, NULL, BYTES_EMPTY, NULL, 0);
}

static void on_big(void *arg, struct gateway_request *r)
{
        uint8_t *big = memory_new(1000 * 1000);

        (void)arg;
        gateway_reply(r, 200, "application/octet-stream", bytes_of(big, 1000 * 1000), NULL, 0);
        free(big);
}

static void add_details(void *arg, struct json_out *j)
{
        json_field_u64(j, "actual", *(uint64_t *)arg);
}

static void on_problem(void *arg, struct gateway_request *r)
{
        uint64_t actual = 5;

        (void)arg;
        gateway_reply_problem(r,
                &(struct gateway_problem){.status = 409,
                        .code = "conflict",
                        .title = "Conflict",
                        .next = "read from 4",
                        .extra = add_details,
                        .arg = &actual},
                "%s is at revision %d", "order-42", 5);
}

/* Waits for the test to answer. */
static void on_held(void *arg, struct gateway_request *r)
{
        (void)arg;
        seen.request = r;
        count_up(&seen.held);
}

static void note_gone(void *arg, struct gateway_request *r)
{
        assert(arg == &seen);
        assert(r == seen.request);
        count_up(&seen.gone);
}

static void on_watched(void *arg, struct gateway_request *r)
{
        gateway_on_gone(r, note_gone, &seen);
        on_held(arg, r);
}

static void answer_held(void *arg)
{
        (void)arg;
        gateway_reply(seen.request, 200, "text/plain", BYTES_LITERAL("late"), NULL, 0);
}

static uint8_t pattern(uint64_t at)
{
        return (uint8_t)(at * 131 + (at >> 13));
}

static void on_stream_writable(void *arg, struct gateway_request *r)
{
        uint64_t *at = arg;
        uint8_t piece[PIECE];

        seen.most_room = MAX(seen.most_room, gateway_stream_room(r));
        while (*at < STREAM_SIZE && gateway_stream_room(r) > 0) {
                size_t size = MIN((uint64_t)PIECE, STREAM_SIZE - *at);

                for (size_t i = 0; i < size; i++)
                        piece[i] = pattern(*at + i);
                gateway_stream_send(r, bytes_of(piece, size));
                *at += size;
                __atomic_store_n(&seen.produced, *at, __ATOMIC_RELEASE);
        }
        if (*at == STREAM_SIZE)
                gateway_stream_end(r);
}

static void on_stream_close(void *arg, struct gateway_request *r)
{
        (void)arg;
        assert(gateway_stream_room(r) == 0);
        count_up(&seen.closed);
}

static const struct gateway_stream_handler stream_handler = {
        .on_writable = on_stream_writable, .on_close = on_stream_close};

static void on_stream(void *arg, struct gateway_request *r)
{
        uint64_t *at = arena_get(gateway_arena(r), sizeof *at);

        (void)arg;
        *at = 0;
        gateway_stream_begin(r, 200, "application/octet-stream", NULL, 0, &stream_handler, at);
}

/* Each piece is work, as reading and formatting events is. */
static void on_labour_writable(void *arg, struct gateway_request *r)
{
        uint8_t piece[PIECE] = {0};

        (void)arg;
        while (gateway_stream_room(r) > 0) {
                usleep(2000);
                gateway_stream_send(r, bytes_of(piece, sizeof piece));
        }
}

static void on_labour(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler labour_handler = {
                .on_writable = on_labour_writable, .on_close = on_stream_close};

        (void)arg;
        gateway_stream_begin(r, 200, "application/octet-stream", NULL, 0, &labour_handler, NULL);
}

/* An event at once, then one each time the test says so. */
static void on_live_writable(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_stream_send(r, BYTES_LITERAL("data: x\n\n"));
}

static const struct gateway_stream_handler live_handler = {
        .on_writable = on_live_writable, .on_close = on_stream_close};

static void on_live(void *arg, struct gateway_request *r)
{
        (void)arg;
        seen.request = r;
        gateway_stream_begin(r, 200, "text/event-stream", NULL, 0, &live_handler, NULL);
        count_up(&seen.held);
}

static void wake_live(void *arg)
{
        (void)arg;
        gateway_stream_wake(seen.request);
}

static const struct gateway_route routes[] = {
        {.method = "GET", .path = "/v1/echo/{a}/x/{b}", .handler = on_echo, .access = ACCESS_ANYONE},
        {.method = "DELETE", .path = "/v1/echo/{a}/x/{b}", .handler = on_echo, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/{any}", .handler = on_echo, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/literal", .handler = on_literal, .access = ACCESS_ANYONE},
        {.method = "POST",
                .path = "/v1/body",
                .handler = on_body,
                .body_size_max = BODY_MAX,
                .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/nothing", .handler = on_nothing, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/big", .handler = on_big, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/problem", .handler = on_problem, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/held", .handler = on_held, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/watched", .handler = on_watched, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/stream", .handler = on_stream, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/live", .handler = on_live, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/labour", .handler = on_labour, .access = ACCESS_ANYONE},
        {.method = "GET",
                .path = "/ready",
                .handler = on_literal,
                .when_not_ready = true,
                .access = ACCESS_ANYONE},
};

static struct server server;

static int setup(void **state)
{
        (void)state;
        memset(&seen, 0, sizeof seen);
        server_open(&server, NULL);
        gateway_add_routes(server.gateway, routes, 4);
        gateway_add_routes(server.gateway, routes + 4, COUNT_OF(routes) - 4);
        serve(&server);
        server_start(&server);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        server_stop(&server);
        return 0;
}

static void ask(int fd, struct answer *a, const char *method, const char *target, const char *more)
{
        char head[4096];

        snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, target, more);
        send_text(fd, head);
        read_answer(fd, a, strcmp(method, "HEAD") == 0);
}

/* One request on a connection of its own. */
static int ask_once(struct answer *a, const char *method, const char *target, const char *more)
{
        int fd = dial(&server);

        ask(fd, a, method, target, more);
        close(fd);
        return a->status;
}

static void assert_body(const struct answer *a, const char *text)
{
        assert_int_equal(a->body.size, strlen(text));
        assert_memory_equal(a->body.data, text, a->body.size);
}

/* ---- requests and answers ---- */

TEST(route, sees_decoded_parameters_and_query)
{
        struct answer a = {0};

        ask_once(&a, "GET", "/v1/echo/a%2Fb+c/x/%C3%A9?q=1+2&q=3&r=%26&empty=&flag&&bad=%zz",
                "Nilo-Expect: none\r\n");
        assert_int_equal(a.status, 200);
        assert_body(&a, "a=a/b+c;b=\xc3\xa9;q:1 2;q:3;r:&;empty:;flag:;bad:%zz;expect none;GET "
                        "/v1/echo/a%2Fb+c/x/%C3%A9");
        assert_string_equal(answer_header(&a, "content-type"), "text/plain");
        assert_non_null(answer_header(&a, "date"));
        /* What a handler made from a client's bytes is no second header. */
        assert_string_equal(answer_header(&a, "x-split"), "a__set-cookie: b");
        ask_once(&a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        ask_once(&a, "GET", "/v1/other", "");
        assert_body(&a, "a=;b=;GET /v1/other");
        ask_once(&a, "GET", "/v1/nothing", "");
        assert_int_equal(a.status, 204);
        assert_null(answer_header(&a, "content-length"));
        answer_fini(&a);
}

TEST(route, head_has_the_headers_of_get_and_no_body)
{
        struct answer a = {0};
        int fd = dial(&server);

        ask(fd, &a, "HEAD", "/v1/big", "");
        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "content-length"), "1000000");
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        /* Also of a stream that would never end: it is closed, and the connection goes on. */
        ask(fd, &a, "HEAD", "/v1/live", "");
        assert_int_equal(a.status, 200);
        wait_for(&seen.closed, 1);
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        answer_fini(&a);
        close(fd);
}

TEST(route, refusals_say_why)
{
        struct answer a = {0};

        assert_int_equal(ask_once(&a, "GET", "/v2/nope", ""), 404);
        assert_string_equal(answer_header(&a, "content-type"), "application/problem+json");
        assert_true(body_has(&a.body, "urn:nilo:no-such-path"));
        assert_true(body_has(&a.body, "/v2/nope"));
        assert_int_equal(ask_once(&a, "POST", "/v1/echo/a/x/b", ""), 405);
        assert_string_equal(answer_header(&a, "allow"), "GET, HEAD, DELETE");
        assert_int_equal(ask_once(&a, "GET", "/v1/echo/%zz/x/b", ""), 400);
        assert_int_equal(ask_once(&a, "GET", "/v1/echo//x/b", ""), 404);
        assert_int_equal(ask_once(&a, "OPTIONS", "*", ""), 404);
        assert_int_equal(ask_once(&a, "GET", "/v1/problem", ""), 409);
        assert_true(body_has(&a.body, "\"detail\":\"order-42 is at revision 5\""));
        assert_true(body_has(&a.body, "\"next\":\"read from 4\""));
        assert_true(body_has(&a.body, "\"actual\":5"));
        answer_fini(&a);
}

/* A web page of somebody else cannot use this server through its reader's browser. */
TEST(route, refuses_names_and_pages_of_others)
{
        static const char *const origins[] = {"https://evil.example", "http://localhost.evil.example",
                "http://127.evil", "null", "http://[::1].evil", "http://[::2]"};
        static const char *const ours[] = {
                "http://localhost:3000", "http://127.0.0.1", "http://[::1]:80", "http://a.localhost"};
        struct answer a = {0};
        char more[256];
        int fd = dial(&server);

        for (size_t i = 0; i < COUNT_OF(origins); i++) {
                snprintf(more, sizeof more, "Origin: %s\r\n", origins[i]);
                ask(fd, &a, "GET", "/v1/literal", more);
                assert_int_equal(a.status, 403);
        }
        for (size_t i = 0; i < COUNT_OF(ours); i++) {
                snprintf(more, sizeof more, "Origin: %s\r\n", ours[i]);
                ask(fd, &a, "GET", "/v1/literal", more);
                assert_int_equal(a.status, 200);
        }
        send_text(fd, "GET /v1/literal HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 421);
        answer_fini(&a);
        close(fd);
}

TEST(connection, serves_pipelined_requests_in_order)
{
        struct answer a = {0};
        int fd = dial(&server);

        send_text(fd, "GET /v1/held HTTP/1.1\r\nHost: localhost\r\n\r\n"
                      "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello\r\n"
                      "GET /v1/literal HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        wait_for(&seen.held, 1);
        server_run(&server, answer_held, NULL);
        read_answer(fd, &a, false);
        assert_body(&a, "late");
        read_answer(fd, &a, false);
        assert_body(&a, "hello");
        read_answer(fd, &a, false);
        assert_body(&a, "literal");
        assert_string_equal(answer_header(&a, "connection"), "close");
        assert_true(is_closed_by_peer(fd));
        answer_fini(&a);
        close(fd);
}

static void *send_many(void *arg)
{
        const char *text = "GET /v1/big HTTP/1.1\r\nHost: localhost\r\n\r\n";

        for (int i = 0; i < 300; i++)
                if (!send_bytes(*(int *)arg, text, strlen(text)))
                        break;
        return NULL;
}

/* 300 MB of answers are asked for by 12 KB; the server makes only what the client takes. */
TEST(connection, pipelined_answers_wait_for_the_client)
{
        struct answer a = {0};
        int fd = dial(&server);
        pthread_t sender;
        uint64_t until = now_ms() + 300, most = 0;

        assert_int_equal(pthread_create(&sender, NULL, send_many, &fd), 0);
        while (now_ms() < until)
                most = MAX(most, server_stats(&server).buffered_bytes);
        assert_true(most > 0);
        assert_true(most < 8 * MIB);
        for (int i = 0; i < 300; i++) {
                read_answer(fd, &a, false);
                assert_int_equal(a.body.size, 1000 * 1000);
        }
        pthread_join(sender, NULL);
        answer_fini(&a);
        close(fd);
}

TEST(connection, takes_bodies_whole_chunked_and_after_continue)
{
        static char big[BODY_MAX];
        struct answer a = {0};
        int fd = dial(&server);
        char more[100];

        send_text(fd,
                "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
        usleep(10000);
        send_text(fd, "lo\r\n6\r\n world\r\n0\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 201);
        assert_body(&a, "hello world");
        send_text(fd, "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: "
                      "100-continue\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 100);
        send_text(fd, "hello");
        read_answer(fd, &a, false);
        assert_body(&a, "hello");
        memset(big, 'b', sizeof big);
        snprintf(more, sizeof more, "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
                BODY_MAX);
        send_text(fd, more);
        assert_true(send_bytes(fd, big, sizeof big));
        read_answer(fd, &a, false);
        assert_int_equal(a.body.size, BODY_MAX);
        answer_fini(&a);
        close(fd);
}

TEST(connection, survives_a_body_that_is_a_little_too_large)
{
        static char big[BODY_MAX + 1];
        struct answer a = {0};
        char head[200];
        int fd = dial(&server);

        snprintf(head, sizeof head, "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
                BODY_MAX + 1);
        send_text(fd, head);
        assert_true(send_bytes(fd, big, sizeof big));
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 413);
        assert_true(body_has(&a.body, "102400"));
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        /* In chunks the size is not known before. */
        send_text(fd,
                "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n19001\r\n");
        assert_true(send_bytes(fd, big, sizeof big));
        send_text(fd, "\r\n0\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 413);
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        /* A body that nobody could want is not read to its end. */
        ask(fd, &a, "POST", "/v1/body", "Content-Length: 100000000000\r\n");
        assert_int_equal(a.status, 413);
        assert_string_equal(answer_header(&a, "connection"), "close");
        answer_fini(&a);
        close(fd);
        fd = dial(&server);
        ask(fd, &a, "POST", "/v1/body", "Content-Length: 200000\r\nExpect: 100-continue\r\n");
        assert_int_equal(a.status, 413);
        assert_true(is_closed_by_peer(fd));
        answer_fini(&a);
        close(fd);
}

TEST(connection, ends_after_what_is_no_request)
{
        static const struct {
                const char *text;
                int status;
        } cases[] = {
                {"garbage\r\n\r\n", 501},
                {"\x16\x03\x01\x02\r\n\r\n", 400},
                {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 501},
                {"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n",
                        400},
                {"POST /v1/body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
                        400},
                {"GET / HTTP/1.1\r\n\r\n", 400},
        };
        struct answer a = {0};

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                int fd = dial(&server);

                send_text(fd, cases[i].text);
                read_answer(fd, &a, false);
                assert_int_equal(a.status, cases[i].status);
                assert_string_equal(answer_header(&a, "connection"), "close");
                close(fd);
        }
        answer_fini(&a);
        assert_int_equal(ask_once(&a, "GET", "/v1/literal", ""), 200);
        answer_fini(&a);
}

TEST(connection, http10_gets_a_length_or_the_end)
{
        struct buffer all = {0};
        int fd = dial(&server);

        send_text(fd, "GET /v1/stream HTTP/1.0\r\n\r\n");
        read_to_end(fd, &all);
        assert_false(body_has(&all, "transfer-encoding"));
        assert_true(all.size > STREAM_SIZE);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(all.data[all.size - 1 - i], pattern(STREAM_SIZE - 1 - i));
        buffer_fini(&all);
        close(fd);
}

/* ---- streams ---- */

static void assert_pattern(const struct buffer *body)
{
        assert_int_equal(body->size, STREAM_SIZE);
        for (size_t i = 0; i < body->size; i++)
                if (body->data[i] != pattern(i))
                        fail_msg("byte %zu is wrong", i);
}

TEST(stream, comes_whole_and_waits_for_its_reader)
{
        struct answer a = {0};
        int fd = dial(&server);
        uint64_t produced;

        send_text(fd, "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        usleep(200 * 1000);
        produced = __atomic_load_n(&seen.produced, __ATOMIC_ACQUIRE);
        assert_true(produced > 0);
        assert_true(produced < STREAM_SIZE - 4 * MIB); /* the kernel's buffers and ours */
        assert_true(server_stats(&server).buffered_bytes < 2 * MIB);
        read_answer(fd, &a, false);
        assert_pattern(&a.body);
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_body(&a, "literal");
        assert_true(seen.most_room <= 256 * KIB);
        assert_int_equal(look(&seen.closed), 0);
        answer_fini(&a);
        close(fd);
}

/* G18: together they ask for seconds of work, and read nothing of it. */
TEST(stream, of_many_readers_lets_others_be_answered_in_between)
{
        enum { COUNT = 100 };
        struct answer a = {0};
        uint64_t began_ms;
        int fds[COUNT];

        for (unsigned i = 0; i < COUNT; i++) {
                fds[i] = dial(&server);
                send_text(fds[i], "GET /v1/labour HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        usleep(50 * 1000);
        began_ms = now_ms();
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(ask_once(&a, "GET", "/v1/literal", ""), 200);
                answer_fini(&a);
        }
        assert_true(now_ms() - began_ms < 1500);
        for (unsigned i = 0; i < COUNT; i++)
                close(fds[i]);
        wait_for(&seen.closed, COUNT);
}

TEST(stream, of_events_tells_when_the_client_has_gone)
{
        struct answer a = {0};
        struct buffer some = {0};
        int fd = dial(&server);

        send_text(fd, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_head(fd, &a);
        assert_string_equal(answer_header(&a, "content-type"), "text/event-stream");
        read_exactly(fd, &some, strlen("9\r\ndata: x\n\n\r\n"));
        wait_for(&seen.held, 1);
        server_run(&server, wake_live, NULL);
        read_exactly(fd, &some, strlen("9\r\ndata: x\n\n\r\n"));
        assert_int_equal(look(&seen.closed), 0);
        close(fd);
        wait_for(&seen.closed, 1);
        buffer_fini(&some);
        answer_fini(&a);
}

TEST(request, client_that_goes_away_is_told_or_answered_into_the_void)
{
        int fd = dial(&server);

        send_text(fd, "GET /v1/watched HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wait_for(&seen.held, 1);
        close(fd);
        wait_for(&seen.gone, 1);
        fd = dial(&server);
        send_text(fd, "GET /v1/held HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wait_for(&seen.held, 2);
        close(fd);
        while (server_stats(&server).connections)
                usleep(1000);
        server_run(&server, answer_held, NULL);
        assert_int_equal(look(&seen.gone), 1);
        assert_int_equal(server_stats(&server).buffered_bytes, 0);
}

/* ---- the same over HTTP/2 ---- */

TEST(http2, serves_the_same_routes)
{
        static const char *const fields[] = {"nilo-expect", "none", NULL};
        struct h2_client c;
        struct h2_stream *echo, *head, *post, *wrong, *literal;

        h2_dial(&c, &server, NULL, 0);
        echo = h2_request(&c, "GET", "/v1/echo/a%2Fb/x/b?q=1", fields, false);
        head = h2_request(&c, "HEAD", "/v1/big", NULL, false);
        post = h2_request(&c, "POST", "/v1/body", NULL, true);
        buffer_add_string(&post->out, "hello");
        post->is_out_ended = true;
        wrong = h2_request(&c, "PUT", "/v1/body", NULL, false);
        literal = h2_request(&c, "GET", "/v1/literal", NULL, false);
        H2_UNTIL(&c, echo->is_closed && head->is_closed && post->is_closed && wrong->is_closed &&
                             literal->is_closed);
        assert_true(h2_head_has(echo, ":status: 200\n"));
        assert_true(h2_head_has(echo, "x-split: a__set-cookie: b\n"));
        assert_true(body_has(&echo->body, "a=a/b;b=b;q:1;expect none;GET /v1/echo/a%2Fb/x/b"));
        assert_true(h2_head_has(head, ":status: 200\n"));
        assert_int_equal(head->body.size, 0);
        assert_true(h2_head_has(post, ":status: 201\n"));
        assert_true(body_has(&post->body, "hello"));
        assert_true(h2_head_has(wrong, ":status: 405\n"));
        assert_true(h2_head_has(wrong, "allow: GET, HEAD, POST\n"));
        assert_true(body_has(&literal->body, "literal"));
        h2_hang_up(&c);
}

TEST(http2, refuses_a_body_too_large_and_stays)
{
        struct h2_client c;
        struct h2_stream *post, *literal;

        h2_dial(&c, &server, NULL, 0);
        post = h2_request(&c, "POST", "/v1/body", NULL, true);
        buffer_reserve(&post->out, 10 * MIB);
        memset(post->out.data, 'x', 10 * MIB);
        post->out.size = 10 * MIB;
        post->is_out_ended = true;
        H2_UNTIL(&c, post->is_closed);
        assert_true(h2_head_has(post, ":status: 413\n"));
        literal = h2_request(&c, "GET", "/v1/literal", NULL, false);
        H2_UNTIL(&c, literal->is_closed);
        assert_true(body_has(&literal->body, "literal"));
        h2_hang_up(&c);
}

TEST(http2, slow_reader_of_one_stream_does_not_stall_another)
{
        nghttp2_settings_entry big_frames = {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 64 * 1024};
        struct h2_client c;
        struct h2_stream *slow, *fast;

        h2_dial(&c, &server, &big_frames, 1);
        slow = h2_request(&c, "GET", "/v1/stream", NULL, false);
        slow->is_slow = true;
        H2_UNTIL(&c, slow->body.size >= 65535);
        h2_idle(&c, 50);
        assert_int_equal(slow->body.size, 65535); /* its whole window */
        fast = h2_request(&c, "GET", "/v1/stream", NULL, false);
        H2_UNTIL(&c, fast->is_closed);
        assert_pattern(&fast->body);
        assert_true(server_stats(&server).buffered_bytes < MIB);
        assert_int_equal(slow->body.size, 65535);
        slow->is_slow = false;
        nghttp2_session_consume_stream(c.session, slow->id, slow->body.size);
        H2_UNTIL(&c, slow->is_closed);
        assert_pattern(&slow->body);
        assert_true(c.largest_data > 16 * 1024); /* as large as the client allows */
        h2_hang_up(&c);
}

TEST(http2, reset_of_a_stream_is_told)
{
        struct h2_client c;
        struct h2_stream *live, *literal;

        h2_dial(&c, &server, NULL, 0);
        live = h2_request(&c, "GET", "/v1/live", NULL, false);
        H2_UNTIL(&c, body_has(&live->body, "data: x"));
        nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, live->id, NGHTTP2_CANCEL);
        literal = h2_request(&c, "GET", "/v1/literal", NULL, false);
        H2_UNTIL(&c, literal->is_closed);
        wait_for(&seen.closed, 1);
        h2_hang_up(&c);
}

/* ---- not ready, limits, the end ---- */

TEST(gateway, answers_not_ready_before_it_serves)
{
        struct server s;
        struct answer a = {0};
        int fd;

        server_open(&s, NULL);
        gateway_add_routes(s.gateway, routes, COUNT_OF(routes));
        server_start(&s);
        fd = dial(&s);
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_int_equal(a.status, 503);
        assert_string_equal(answer_header(&a, "retry-after"), "1");
        assert_true(body_has(&a.body, "urn:nilo:not-ready"));
        ask(fd, &a, "GET", "/ready", "");
        assert_int_equal(a.status, 200);
        answer_fini(&a);
        close(fd);
        server_stop(&s);
}

TEST(gateway, listens_on_this_machine_only)
{
        static const struct {
                const char *address;
                int outcome;
        } cases[] = {
                {"0.0.0.0", GATEWAY_ADDRESS_REFUSED},
                {"::", GATEWAY_ADDRESS_REFUSED},
                {"192.168.1.1", GATEWAY_ADDRESS_REFUSED},
                {"::ffff:10.0.0.1", GATEWAY_ADDRESS_REFUSED},
                {"example.com", GATEWAY_ADDRESS_INVALID},
                {"", GATEWAY_ADDRESS_INVALID},
                {"127.0.0.1", GATEWAY_ADDRESS_IN_USE},
                {"127.8.8.8", 0},
                {"localhost", GATEWAY_ADDRESS_IN_USE},
        };
        struct server s;

        server_open(&s, NULL);
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct gateway_options options = {
                        .os = s.os, .control = s.control, .address = cases[i].address, .port = s.port};
                struct gateway *g = NULL;
                const char *why = NULL;

                assert_int_equal(gateway_open(&options, &g, &why), cases[i].outcome);
                assert_true(cases[i].outcome ? !g && strlen(why) > 10 : g != NULL);
                if (g)
                        gateway_close(&g, NULL, NULL);
        }
        server_start(&s);
        server_stop(&s);
}

TEST(gateway, refuses_connections_over_its_limit)
{
        struct gateway_options options = {.connections_max = 3};
        struct server s;
        struct answer a = {0};
        int fds[3], fd;

        server_open(&s, &options);
        gateway_add_routes(s.gateway, routes, COUNT_OF(routes));
        server_start(&s);
        for (int i = 0; i < 3; i++) {
                fds[i] = dial(&s);
                ask(fds[i], &a, "GET", "/ready", "");
        }
        fd = dial(&s);
        assert_true(is_closed_by_peer(fd));
        close(fd);
        assert_int_equal(server_stats(&s).connections_refused, 1);
        close(fds[0]);
        while (server_stats(&s).connections == 3)
                usleep(1000);
        fd = dial(&s);
        ask(fd, &a, "GET", "/ready", "");
        assert_int_equal(a.status, 200);
        close(fd);
        close(fds[1]);
        close(fds[2]);
        answer_fini(&a);
        server_stop(&s);
}

/* Who has much in the buffers is refused more; who has little is served (G18). */
TEST(gateway, short_of_memory_refuses_what_is_large_and_recovers)
{
        static char big[BODY_MAX];
        struct gateway_options options = {.memory_size = 256 * 1024};
        struct server s;
        struct answer a = {0};
        char head[200];
        int fds[4], fd, large;

        server_open(&s, &options);
        gateway_add_routes(s.gateway, routes, COUNT_OF(routes));
        serve(&s);
        server_start(&s);
        snprintf(head, sizeof head, "POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
                BODY_MAX);
        for (int i = 0; i < 4; i++) {
                fds[i] = dial(&s);
                send_text(fds[i], head);
                assert_true(send_bytes(fds[i], big, sizeof big - 1)); /* the last byte is missing */
        }
        usleep(100 * 1000);
        fd = dial(&s);
        ask(fd, &a, "GET", "/v1/literal", "");
        assert_int_equal(a.status, 200);
        large = dial(&s);
        send_text(large, head);
        assert_true(send_bytes(large, big, sizeof big));
        read_answer(large, &a, false);
        assert_int_equal(a.status, 503);
        assert_true(body_has(&a.body, "urn:nilo:busy"));
        close(large);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        while (server_stats(&s).connections > 1)
                usleep(1000);
        large = dial(&s);
        send_text(large, head);
        assert_true(send_bytes(large, big, sizeof big));
        read_answer(large, &a, false);
        assert_int_equal(a.status, 201);
        close(large);
        close(fd);
        answer_fini(&a);
        server_stop(&s);
}

TEST(gateway, stop_lets_requests_under_way_finish)
{
        struct server s;
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *live;
        int fd, idle;

        server_open(&s, NULL);
        gateway_add_routes(s.gateway, routes, COUNT_OF(routes));
        serve(&s);
        server_start(&s);
        idle = dial(&s);
        ask(idle, &a, "GET", "/v1/literal", "");
        h2_dial(&c, &s, NULL, 0);
        live = h2_request(&c, "GET", "/v1/live", NULL, false);
        H2_UNTIL(&c, live->body.size > 0);
        wait_for(&seen.held, 1);
        fd = dial(&s);
        send_text(fd, "GET /v1/held HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wait_for(&seen.held, 2);
        os_post(s.os, server_close, &s);
        assert_true(is_closed_by_peer(idle));
        H2_UNTIL(&c, c.has_goaway);
        assert_int_equal(c.goaway_error, 0);
        os_post(s.os, answer_held, NULL);
        read_answer(fd, &a, false);
        assert_body(&a, "late");
        assert_string_equal(answer_header(&a, "connection"), "close");
        H2_UNTIL(&c, live->is_closed); /* has no end, so it gets one */
        wait_for(&seen.closed, 1);
        pthread_join(s.thread, NULL);
        assert_true(s.is_closed);
        control_close(&s.control);
        os_free(&s.os);
        h2_hang_up(&c);
        close(fd);
        close(idle);
        answer_fini(&a);
}

static void count_route(void *arg, const struct gateway_route *route)
{
        assert_non_null(route->handler);
        ++*(unsigned *)arg;
}

TEST(gateway, counts_what_it_does)
{
        struct gateway_stats stats;
        struct answer a = {0};
        unsigned n = 0;

        gateway_each_route(server.gateway, count_route, &n);
        assert_int_equal(n, COUNT_OF(routes));
        ask_once(&a, "GET", "/v1/literal", "");
        ask_once(&a, "GET", "/v2/nope", "");
        while (server_stats(&server).connections)
                usleep(1000);
        stats = server_stats(&server);
        assert_int_equal(stats.connections_total, 2);
        assert_int_equal(stats.http_requests, 2);
        assert_int_equal(stats.http_requests_by_class[2], 1);
        assert_int_equal(stats.http_requests_by_class[4], 1);
        assert_int_equal(stats.buffered_bytes, 0);
        assert_true(stats.received_bytes > 50);
        assert_true(stats.sent_bytes > 100);
        answer_fini(&a);
}

#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(route, sees_decoded_parameters_and_query),
                ROW(route, head_has_the_headers_of_get_and_no_body),
                ROW(route, refusals_say_why),
                ROW(route, refuses_names_and_pages_of_others),
                ROW(connection, serves_pipelined_requests_in_order),
                ROW(connection, pipelined_answers_wait_for_the_client),
                ROW(connection, takes_bodies_whole_chunked_and_after_continue),
                ROW(connection, survives_a_body_that_is_a_little_too_large),
                ROW(connection, ends_after_what_is_no_request),
                ROW(connection, http10_gets_a_length_or_the_end),
                ROW(stream, comes_whole_and_waits_for_its_reader),
                ROW(stream, of_many_readers_lets_others_be_answered_in_between),
                ROW(stream, of_events_tells_when_the_client_has_gone),
                ROW(request, client_that_goes_away_is_told_or_answered_into_the_void),
                ROW(http2, serves_the_same_routes),
                ROW(http2, refuses_a_body_too_large_and_stays),
                ROW(http2, slow_reader_of_one_stream_does_not_stall_another),
                ROW(http2, reset_of_a_stream_is_told),
                ROW(gateway, answers_not_ready_before_it_serves),
                ROW(gateway, listens_on_this_machine_only),
                ROW(gateway, refuses_connections_over_its_limit),
                ROW(gateway, short_of_memory_refuses_what_is_large_and_recovers),
                ROW(gateway, stop_lets_requests_under_way_finish),
                ROW(gateway, counts_what_it_does),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
