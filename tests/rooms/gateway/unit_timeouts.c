/* Time-outs of connections and requests. Nobody waits: the tick of a connection is told a later time than it
 * is. */
#include "support.h"

#include "gateway/room.h"

static struct server server;
static unsigned closed;

static void on_body(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "text/plain", gateway_body(r), NULL, 0);
}

static void on_writable(void *arg, struct gateway_request *r)
{
        static const uint8_t piece[10000];

        while (arg && gateway_stream_room(r) > 0)
                gateway_stream_send(r, bytes_of(piece, sizeof piece));
}

static void on_close(void *arg, struct gateway_request *r)
{
        (void)arg;
        (void)r;
        count_up(&closed);
}

/* `arg` says whether there is anything to send. */
static void on_stream(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};

        gateway_stream_begin(r, 200, "text/plain", NULL, 0, &handler, arg);
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        (void)message;
        gateway_call_end(call, GRPC_OK, NULL);
}

static const struct gateway_route routes[] = {
        {.method = "POST",
                .path = "/body",
                .handler = on_body,
                .body_size_max = 1000,
                .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/endless", .handler = on_stream, .arg = &server, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/silent", .handler = on_stream, .access = ACCESS_ANYONE},
};
static const struct gateway_method methods[] = {
        {.service = "test.Test",
                .name = "One",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_ANYONE,
                .on_message = on_message},
        {.service = "test.Test",
                .name = "Many",
                .features = "",
                .message_size_max = 1000,
                .is_client_stream = true,
                .access = ACCESS_ANYONE,
                .on_message = on_message},
};

static void open_with(const struct gateway_options *options)
{
        closed = 0;
        server_open(&server, options);
        gateway_add_routes(server.gateway, routes, COUNT_OF(routes));
        gateway_add_methods(server.gateway, methods, COUNT_OF(methods));
        serve(&server);
        server_start(&server);
}

static int setup(void **state)
{
        (void)state;
        open_with(NULL);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        server_stop(&server);
        return 0;
}

static void tick_on_loop(void *arg)
{
        struct gateway *g = server.gateway;
        uint64_t later_us = os_turn_time(g->os).monotonic_us + *(unsigned *)arg * SECOND_US;

        assert(!list_is_empty(&g->connections));
        LIST_EACH_SAFE (at, &g->connections)
                connection_tick(CONTAINER_OF(at, struct connection, link), later_us);
}

/* What would happen if nothing came for so long. */
static void after_seconds(unsigned seconds)
{
        server_run(&server, tick_on_loop, &seconds);
}

static void wait_for_bytes(uint64_t received)
{
        uint64_t until = now_ms() + WAIT_MS;

        while (server_stats(&server).received_bytes < received && now_ms() < until)
                usleep(500);
        assert_true(server_stats(&server).received_bytes >= received);
}

static int send_and_wait(const char *text)
{
        uint64_t before = server_stats(&server).received_bytes;
        int fd = dial(&server);

        send_text(fd, text);
        wait_for_bytes(before + strlen(text));
        return fd;
}

static void assert_ends_with(int fd, const char *text)
{
        struct buffer all = {0};

        read_to_end(fd, &all);
        if (text)
                assert_true(body_has(&all, text));
        else
                assert_int_equal(all.size, 0);
        buffer_fini(&all);
        close(fd);
}

static bool is_open(int fd)
{
        char c;

        usleep(10000);
        return recv(fd, &c, 1, MSG_DONTWAIT) < 0;
}

TEST(timeout, of_a_connection_that_says_nothing)
{
        int fd = dial(&server), half;

        while (!server_stats(&server).connections)
                usleep(500);
        half = send_and_wait("PRI * HTTP/2.0\r\n");
        after_seconds(9);
        assert_true(is_open(fd));
        after_seconds(11);
        assert_ends_with(fd, NULL);
        assert_ends_with(half, NULL);
}

TEST(timeout, of_a_head_is_told)
{
        int fd = send_and_wait("POST /body HTTP/1.1\r\nHost: local");

        after_seconds(9);
        assert_true(is_open(fd));
        after_seconds(11);
        assert_ends_with(fd, "HTTP/1.1 408");
}

TEST(timeout, of_a_body_is_told)
{
        struct answer a = {0};
        int fd = send_and_wait("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello");

        after_seconds(29);
        assert_true(is_open(fd));
        after_seconds(31);
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 408);
        assert_string_equal(answer_header(&a, "connection"), "close");
        answer_fini(&a);
        close(fd);
}

TEST(timeout, of_an_idle_connection_is_long)
{
        struct answer a = {0};
        int fd = dial(&server);

        send_text(fd, "POST /body HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 200);
        after_seconds(299);
        assert_true(is_open(fd));
        after_seconds(301);
        assert_ends_with(fd, NULL);
        answer_fini(&a);
}

TEST(timeout, of_a_body_that_is_thrown_away_is_short)
{
        struct answer a = {0};
        int fd = dial(&server);

        send_text(fd, "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 413);
        after_seconds(1);
        send_text(fd, "still there");
        assert_true(is_open(fd));
        after_seconds(3);
        assert_ends_with(fd, NULL);
        answer_fini(&a);
}

static void note_state(void *arg)
{
        *(int *)arg = CONTAINER_OF(server.gateway->connections.next, struct connection, link)->state;
}

/* A slow one is fine, one that takes nothing at all is not (G18). */
TEST(timeout, of_a_client_that_takes_nothing)
{
        char some[100000];
        int fd = dial(&server), connection_state = -1;

        send_text(fd, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
        while (server_stats(&server).buffered_bytes < 256 * KIB)
                usleep(500);
        after_seconds(1);
        after_seconds(59);
        assert_int_equal(server_stats(&server).connections, 1);
        assert_true(receive(fd, some, sizeof some) > 0);
        server_run(&server, note_state, &connection_state);
        assert_int_equal(connection_state, CONNECTION_HTTP1);
        after_seconds(61);
        server_run(&server, note_state, &connection_state);
        assert_int_equal(connection_state, CONNECTION_CLOSING);
        close(fd);
        wait_for(&closed, 1);
}

/* Readers that read nothing: their output is bounded together, others are served, and after a few seconds the
 * memory is taken from those who do not move (G18). */
TEST(timeout, of_streams_that_do_not_move_while_memory_is_short)
{
        enum { COUNT = 20, CONNECTIONS = 8, MEMORY = 2 * 1024 * 1024 };
        struct gateway_options options = {.memory_size = MEMORY};
        nghttp2_settings_entry no_window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
        static struct h2_client slow[CONNECTIONS];
        struct h2_client honest;
        struct h2_stream *s;

        server_stop(&server);
        open_with(&options);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
                h2_dial(&slow[i], &server, &no_window, 1);
                for (unsigned k = 0; k < COUNT; k++)
                        h2_request(&slow[i], "GET", "/endless", NULL, false);
                h2_idle(&slow[i], 20);
        }
        h2_idle(&slow[0], 200);
        assert_true(server_stats(&server).buffered_bytes > MEMORY);
        assert_true(server_stats(&server).buffered_bytes < 2 * MEMORY);
        s = grpc_unary(&slow[0], "/test.Test/One", "x");
        H2_UNTIL(&slow[0], s->is_closed);
        assert_int_not_equal(grpc_status_of(s), GRPC_OK);
        h2_dial(&honest, &server, NULL, 0);
        s = grpc_unary(&honest, "/test.Test/One", "x");
        H2_UNTIL(&honest, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_OK);
        after_seconds(4);
        assert_int_equal(look(&closed), 0);
        after_seconds(6);
        H2_UNTIL(&slow[0], slow[0].streams[0].is_closed);
        assert_int_equal(slow[0].streams[0].error, NGHTTP2_ENHANCE_YOUR_CALM);
        s = grpc_unary(&honest, "/test.Test/One", "x");
        H2_UNTIL(&honest, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_OK);
        assert_true(server_stats(&server).buffered_bytes < MEMORY);
        h2_hang_up(&honest);
        for (unsigned i = 0; i < CONNECTIONS; i++)
                h2_hang_up(&slow[i]);
}

TEST(timeout, of_an_idle_http2_connection_says_goodbye)
{
        struct h2_client c;
        struct h2_stream *s;

        h2_dial(&c, &server, NULL, 0);
        s = grpc_unary(&c, "/test.Test/One", "x");
        H2_UNTIL(&c, s->is_closed);
        after_seconds(299);
        h2_idle(&c, 20);
        assert_false(c.has_goaway);
        after_seconds(301);
        H2_UNTIL(&c, c.has_goaway);
        assert_int_equal(c.goaway_error, 0);
        h2_hang_up(&c);
}

/* A client that has vanished without a word is found by a ping. */
TEST(timeout, of_a_vanished_client)
{
        struct h2_client c;
        struct h2_stream *s;
        unsigned pings;

        h2_dial(&c, &server, NULL, 0);
        s = h2_request(&c, "GET", "/silent", NULL, false);
        H2_UNTIL(&c, s->head.size > 0);
        h2_idle(&c, 50);
        pings = c.pings;
        after_seconds(9);
        h2_idle(&c, 50);
        assert_int_equal(c.pings, pings);
        after_seconds(11);
        H2_UNTIL(&c, c.pings == pings + 1);
        h2_idle(&c, 50); /* our answer */
        after_seconds(39);
        assert_int_equal(look(&closed), 0);
        after_seconds(41);
        wait_for(&closed, 1);
        h2_hang_up(&c);
}

TEST(timeout, of_http2_bodies_and_unary_messages_but_not_of_streams)
{
        struct h2_client c;
        struct h2_stream *body, *one, *many;

        h2_dial(&c, &server, NULL, 0);
        many = grpc_call(&c, "/test.Test/Many");
        body = h2_request(&c, "POST", "/body", NULL, true);
        buffer_add_string(&body->out, "hello");
        one = grpc_call(&c, "/test.Test/One");
        buffer_add_string(&one->out, "abc");
        h2_idle(&c, 100);
        after_seconds(29);
        h2_idle(&c, 20);
        assert_false(body->is_closed || one->is_closed);
        after_seconds(31);
        H2_UNTIL(&c, body->head.size && one->is_closed);
        after_seconds(33); /* the answer was there first; then the client is told to stop */
        H2_UNTIL(&c, body->is_closed);
        assert_true(h2_head_has(body, ":status: 408\n"));
        assert_int_equal(grpc_status_of(one), GRPC_DEADLINE_EXCEEDED);
        assert_false(many->is_closed);
        h2_hang_up(&c);
}

/* Answers of which nothing is taken wait long, but not when they are as many as a connection may have. */
TEST(timeout, of_unread_answers_at_their_limit)
{
        enum { COUNT = 20 };
        nghttp2_settings_entry no_window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
        struct h2_client few, many;

        h2_dial(&few, &server, &no_window, 1);
        h2_request(&few, "GET", "/endless", NULL, false);
        h2_idle(&few, 50);
        h2_dial(&many, &server, &no_window, 1);
        for (unsigned i = 0; i < COUNT; i++)
                h2_request(&many, "GET", "/endless", NULL, false);
        h2_idle(&many, 200);
        assert_true(server_stats(&server).buffered_bytes < 6 * MIB);
        after_seconds(29);
        h2_idle(&many, 50);
        assert_false(many.has_goaway);
        after_seconds(31);
        H2_UNTIL(&many, many.has_goaway);
        assert_int_equal(many.goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
        h2_idle(&few, 50);
        assert_false(few.has_goaway);
        h2_hang_up(&few);
        h2_hang_up(&many);
}

/* A block of headers that does not end is ended as a whole; what comes of it later finds no request. */
TEST(timeout, of_an_http2_head_is_that_of_any_head)
{
        static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        static const uint8_t settings[9] = {0, 0, 0, 4};
        static const uint8_t head[9 + 3] = {0, 0, 3, 1, 1, 0, 0, 0, 1, 0x82, 0x84, 0x86}; /* no END_HEADERS */
        static const uint8_t rest[9] = {0, 0, 0, 9, 4, 0, 0, 0, 1};
        static const uint8_t goaway[4] = {0, 0, 0, NGHTTP2_ENHANCE_YOUR_CALM};
        struct buffer all = {0};
        uint64_t before = server_stats(&server).received_bytes;
        int fd = dial(&server);

        assert_true(send_bytes(fd, preface, sizeof preface - 1));
        assert_true(send_bytes(fd, settings, sizeof settings));
        assert_true(send_bytes(fd, head, sizeof head));
        wait_for_bytes(before + sizeof preface - 1 + sizeof settings + sizeof head);
        after_seconds(9);
        assert_int_equal(server_stats(&server).connections, 1);
        after_seconds(31);
        (void)send_bytes(fd, rest, sizeof rest);
        read_to_end(fd, &all);
        assert_true(all.size > sizeof goaway);
        assert_memory_equal(all.data + all.size - sizeof goaway, goaway, sizeof goaway);
        buffer_fini(&all);
        close(fd);
}

/* What is left until more must have come: before, after a second's worth, one byte, and very much. */
static void note_bodies(void *arg)
{
        struct gateway_request r = {.gateway = server.gateway};
        uint64_t now_us = os_turn_time(server.os).monotonic_us;
        uint64_t *left_us = arg;

        r.body_by_us = now_us + BODY_TIMEOUT_US - 5 * SECOND_US;
        request_note_body(&r, BODY_RATE_MIN);
        left_us[0] = r.body_by_us - now_us;
        request_note_body(&r, 1);
        left_us[1] = r.body_by_us - now_us;
        request_note_body(&r, 16 * MIB);
        left_us[2] = r.body_by_us - now_us;
}

/* Bytes buy time at a least rate, and none in advance. */
TEST(timeout, of_a_body_is_not_put_off_by_a_drop_now_and_then)
{
        uint64_t left_us[3];

        server_run(&server, note_bodies, left_us);
        assert_int_equal(left_us[0], BODY_TIMEOUT_US - 4 * SECOND_US);
        assert_true(left_us[1] < BODY_TIMEOUT_US - 3 * SECOND_US);
        assert_true(left_us[2] >= BODY_TIMEOUT_US);
        assert_true(left_us[2] < BODY_TIMEOUT_US + 5 * SECOND_US);
}

#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(timeout, of_a_connection_that_says_nothing),
                ROW(timeout, of_a_head_is_told),
                ROW(timeout, of_a_body_is_told),
                ROW(timeout, of_an_idle_connection_is_long),
                ROW(timeout, of_a_body_that_is_thrown_away_is_short),
                ROW(timeout, of_a_client_that_takes_nothing),
                ROW(timeout, of_streams_that_do_not_move_while_memory_is_short),
                ROW(timeout, of_an_idle_http2_connection_says_goodbye),
                ROW(timeout, of_a_vanished_client),
                ROW(timeout, of_http2_bodies_and_unary_messages_but_not_of_streams),
                ROW(timeout, of_unread_answers_at_their_limit),
                ROW(timeout, of_an_http2_head_is_that_of_any_head),
                ROW(timeout, of_a_body_is_not_put_off_by_a_drop_now_and_then),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
