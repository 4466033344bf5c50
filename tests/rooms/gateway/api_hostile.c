/* Clients that mean harm, in raw frames: the offender is cut off or bounded, and an honest client is served
 * all the while (G17, G18). */
#include "support.h"

enum { PIECE = 8 * 1024 };

static struct server server;
static unsigned requests;

static void on_literal(void *arg, struct gateway_request *r)
{
        (void)arg;
        count_up(&requests);
        gateway_reply(r, 200, "text/plain", BYTES_LITERAL("literal"), NULL, 0);
}

static void on_endless_writable(void *arg, struct gateway_request *r)
{
        static const uint8_t piece[PIECE];

        (void)arg;
        while (gateway_stream_room(r) > 0)
                gateway_stream_send(r, bytes_of(piece, sizeof piece));
}

static void on_endless_close(void *arg, struct gateway_request *r)
{
        (void)arg;
        (void)r;
}

static void on_endless(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_endless_writable, .on_close = on_endless_close};

        (void)arg;
        gateway_stream_begin(r, 200, "text/plain", NULL, 0, &handler, NULL);
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        (void)message;
        gateway_call_end(call, GRPC_OK, NULL);
}

static const struct gateway_route routes[] = {
        {.method = "GET", .path = "/v1/literal", .handler = on_literal, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/v1/endless", .handler = on_endless, .access = ACCESS_ANYONE},
};
static const struct gateway_method methods[] = {
        {.service = "test.Test",
                .name = "Call",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_ANYONE,
                .on_message = on_message},
};

static void open_with(const struct gateway_options *options)
{
        requests = 0;
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

/* ---- raw frames ---- */

enum {
        DATA = 0,
        HEADERS = 1,
        PRIORITY = 2,
        RST_STREAM = 3,
        SETTINGS = 4,
        PUSH_PROMISE = 5,
        PING = 6,
        GOAWAY = 7,
        WINDOW_UPDATE = 8,
        CONTINUATION = 9
};
enum { END_STREAM = 1, END_HEADERS = 4 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void add_frame(
        struct buffer *to, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t size)
{
        uint8_t head[9] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags,
                (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};

        buffer_add(to, head, sizeof head);
        buffer_add(to, payload, size);
}

/* A header block without compression (HPACK: literal, never indexed, new name). */
static void add_literal(struct buffer *to, const char *name, const char *value)
{
        buffer_add_u8(to, 0x10);
        assert_true(strlen(name) < 127 && strlen(value) < 127);
        buffer_add_u8(to, (uint8_t)strlen(name));
        buffer_add_string(to, name);
        buffer_add_u8(to, (uint8_t)strlen(value));
        buffer_add_string(to, value);
}

static void add_get(struct buffer *to, uint32_t id, const char *path, uint8_t flags)
{
        struct buffer block = {0};

        add_literal(&block, ":method", "GET");
        add_literal(&block, ":scheme", "http");
        add_literal(&block, ":path", path);
        add_literal(&block, ":authority", "localhost");
        add_frame(to, HEADERS, flags, id, block.data, block.size);
        buffer_fini(&block);
}

static void begin(struct buffer *to)
{
        buffer_add(to, preface, sizeof preface - 1);
        add_frame(to, SETTINGS, 0, 0, NULL, 0);
}

/* The error code of the GOAWAY among the server's frames; -1: there is none. */
static int goaway_of(const struct buffer *in)
{
        size_t at = 0;

        while (in->size - at >= 9) {
                const uint8_t *p = in->data + at;
                size_t size = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

                if (in->size - at - 9 < size)
                        break;
                if (p[3] == GOAWAY && size >= 8)
                        return p[9 + 7];
                at += 9 + size;
        }
        return -1;
}

static void assert_honest_is_served(void)
{
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *s;
        uint64_t began = now_ms();
        int fd = dial(&server);

        send_text(fd, "GET /v1/literal HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 200);
        answer_fini(&a);
        close(fd);
        h2_dial(&c, &server, NULL, 0);
        s = grpc_unary(&c, "/test.Test/Call", "x");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), 0);
        h2_hang_up(&c);
        assert_true(now_ms() - began < 2000);
}

/* Sends all, reads what comes meanwhile and afterwards until the server says GOAWAY or ends the connection;
 * the code of the GOAWAY, -1 if there was none. */
static int attack(const struct buffer *wire)
{
        struct buffer in = {0};
        int fd = dial(&server), code;
        size_t at = 0;
        static uint8_t chunk[65536];

        while (at < wire->size) {
                struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
                ssize_t n;

                assert_true(poll(&p, 1, WAIT_MS) > 0);
                if (p.revents & POLLIN) {
                        n = receive(fd, chunk, sizeof chunk);
                        if (n <= 0)
                                break;
                        buffer_add(&in, chunk, (size_t)n);
                }
                if (p.revents & POLLOUT) {
                        n = send(fd, wire->data + at, MIN(wire->size - at, sizeof chunk),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
                        if (n <= 0)
                                break;
                        at += (size_t)n;
                }
        }
        while (goaway_of(&in) < 0) {
                ssize_t n = receive(fd, chunk, sizeof chunk);

                if (n <= 0)
                        break;
                buffer_add(&in, chunk, (size_t)n);
        }
        close(fd);
        code = goaway_of(&in);
        buffer_fini(&in);
        return code;
}

/* ---- floods ---- */

static void add_pings(struct buffer *to, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                add_frame(to, PING, 0, 0, &(uint64_t){i}, 8);
}

TEST(hostile, pings_beyond_reason_end_the_connection)
{
        struct buffer wire = {0};

        begin(&wire);
        add_pings(&wire, 60000);
        assert_int_equal(attack(&wire), NGHTTP2_ENHANCE_YOUR_CALM);
        assert_honest_is_served();
        buffer_fini(&wire);
}

TEST(hostile, pings_of_clients_that_keep_alive_are_all_answered)
{
        struct h2_client c;

        h2_dial(&c, &server, NULL, 0);
        for (unsigned i = 0; i < 1000; i++)
                nghttp2_submit_ping(c.session, NGHTTP2_FLAG_NONE, NULL);
        H2_UNTIL(&c, c.ping_acks == 1000);
        assert_false(c.has_goaway);
        h2_hang_up(&c);
}

TEST(hostile, settings_beyond_reason_end_the_connection)
{
        static const uint8_t entry[6] = {0, 4, 0, 1, 0, 0};
        struct buffer wire = {0};

        begin(&wire);
        for (unsigned i = 0; i < 60000; i++)
                add_frame(&wire, SETTINGS, 0, 0, entry, sizeof entry);
        assert_int_equal(attack(&wire), NGHTTP2_ENHANCE_YOUR_CALM);
        assert_honest_is_served();
        buffer_fini(&wire);
}

/* Answers that nobody reads pile up; they are bounded too. */
TEST(hostile, pings_of_one_who_does_not_read_take_no_memory)
{
        struct buffer wire = {0};
        int fd = dial(&server);

        begin(&wire);
        add_pings(&wire, 900);
        for (unsigned i = 0; i < 5; i++)
                if (!send_bytes(fd, wire.data, wire.size))
                        break;
        assert_honest_is_served();
        assert_true(server_stats(&server).buffered_bytes < 4 * MIB);
        close(fd);
        buffer_fini(&wire);
}

TEST(hostile, priorities_and_empty_data_beyond_reason_end_the_connection)
{
        static const uint8_t priority[5] = {0, 0, 0, 0, 1};
        struct buffer wire = {0};

        begin(&wire);
        for (unsigned i = 0; i < 60000; i++)
                add_frame(&wire, PRIORITY, 0, 3, priority, sizeof priority);
        assert_int_equal(attack(&wire), NGHTTP2_ENHANCE_YOUR_CALM);
        buffer_clear(&wire);
        begin(&wire);
        add_get(&wire, 1, "/v1/literal", END_HEADERS);
        for (unsigned i = 0; i < 60000; i++)
                add_frame(&wire, DATA, 0, 1, NULL, 0);
        assert_int_equal(attack(&wire), NGHTTP2_ENHANCE_YOUR_CALM);
        assert_honest_is_served();
        buffer_fini(&wire);
}

/* CVE-2023-44487 */
TEST(hostile, rapid_resets_end_the_connection)
{
        static const uint8_t cancel[4] = {0, 0, 0, NGHTTP2_CANCEL};
        struct buffer wire = {0};
        int code;

        begin(&wire);
        for (uint32_t i = 0; i < 60000; i++) {
                add_get(&wire, 2 * i + 1, "/v1/endless", END_HEADERS | END_STREAM);
                add_frame(&wire, RST_STREAM, 0, 2 * i + 1, cancel, sizeof cancel);
        }
        code = attack(&wire);
        assert_true(code > 0);
        assert_honest_is_served();
        buffer_fini(&wire);
}

/* CVE-2024-28182 */
TEST(hostile, continuations_without_end_end_the_connection)
{
        static const uint8_t nothing[100];
        struct buffer wire = {0};

        begin(&wire);
        add_get(&wire, 1, "/v1/literal", 0);
        for (unsigned i = 0; i < 1000; i++)
                add_frame(&wire, CONTINUATION, 0, 1, nothing, 0);
        assert_true(attack(&wire) > 0);
        assert_int_equal(look(&requests), 0);
        assert_honest_is_served();
        buffer_fini(&wire);
}

TEST(hostile, header_lists_are_bounded)
{
        static char value[5000];
        const char *fields[] = {"a", value, "b", value, "c", value, "d", value, NULL};
        struct h2_client c;
        struct h2_stream *s, *call, *after;
        const char *more[] = {"a", value, "b", value, "c", value, "d", value, NULL};

        memset(value, 'v', sizeof value - 1);
        h2_dial(&c, &server, NULL, 0);
        s = h2_request(&c, "GET", "/v1/literal", fields, false);
        call = grpc_call_with(&c, "/test.Test/Call", more);
        after = h2_request(&c, "GET", "/v1/literal", NULL, false);
        H2_UNTIL(&c, s->is_closed && call->is_closed && after->is_closed);
        assert_true(h2_head_has(s, ":status: 431\n"));
        assert_int_equal(grpc_status_of(call), GRPC_RESOURCE_EXHAUSTED);
        assert_true(h2_head_has(after, ":status: 200\n"));
        h2_hang_up(&c);
}

TEST(hostile, breaches_of_the_protocol_end_the_connection)
{
        static const uint8_t overflow[4] = {0x7f, 0xff, 0xff, 0xff}, zero[4],
                             big_settings[6] = {0, 4, 0xff, 0xff, 0xff, 0xff};
        static const uint8_t bad_hpack[3] = {0xff, 0xff, 0xff};
        struct buffer wire = {0};

        for (unsigned i = 0; i < 7; i++) {
                buffer_clear(&wire);
                begin(&wire);
                switch (i) {
                case 0:
                        add_frame(&wire, WINDOW_UPDATE, 0, 0, overflow, sizeof overflow);
                        add_frame(&wire, WINDOW_UPDATE, 0, 0, overflow, sizeof overflow);
                        break;
                case 1:
                        add_frame(&wire, WINDOW_UPDATE, 0, 0, zero, sizeof zero);
                        break;
                case 2:
                        add_frame(&wire, SETTINGS, 0, 0, big_settings, sizeof big_settings);
                        break;
                case 3:
                        add_frame(&wire, HEADERS, END_HEADERS | END_STREAM, 1, bad_hpack, sizeof bad_hpack);
                        break;
                case 4:
                        add_frame(&wire, DATA, 0, 5, zero, sizeof zero); /* of a stream that never was */
                        break;
                case 5:
                        add_get(&wire, 2, "/v1/literal", END_HEADERS | END_STREAM); /* an even number */
                        break;
                default:
                        add_frame(&wire, PUSH_PROMISE, END_HEADERS, 1, zero, sizeof zero);
                        break;
                }
                assert_true(attack(&wire) > 0);
        }
        assert_int_equal(look(&requests), 0);
        assert_honest_is_served();
        buffer_fini(&wire);
}

TEST(hostile, streams_over_the_limit_are_refused_and_the_others_served)
{
        struct gateway_options options = {.streams_max = 5};
        struct h2_client c;
        unsigned refused = 0, open = 0;

        server_stop(&server);
        open_with(&options);
        h2_dial(&c, &server, NULL, 0);
        for (unsigned i = 0; i < 20; i++)
                h2_request(&c, "GET", "/v1/endless", NULL, false)->is_slow = true;
        h2_idle(&c, 200);
        for (unsigned i = 0; i < c.count; i++) {
                refused += c.streams[i].is_closed && c.streams[i].error == NGHTTP2_REFUSED_STREAM;
                open += c.streams[i].body.size > 0;
        }
        assert_true(open <= 5);
        assert_true(open + refused <= 20);
        assert_int_equal(server_stats(&server).http_requests, 5);
        assert_honest_is_served();
        h2_hang_up(&c);
}

/* ---- garbage ---- */

static uint64_t next(uint64_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed;
}

TEST(hostile, garbage_is_answered_or_dropped_and_never_more)
{
        uint64_t seed = 0x9e3779b97f4a7c15;

        for (unsigned i = 0; i < 300; i++) {
                struct buffer wire = {0};
                size_t size = next(&seed) % 3000;
                int fd = dial(&server);

                if (i % 3 == 1)
                        begin(&wire);
                if (i % 3 == 2)
                        buffer_add_string(&wire, "POST /v1/literal HTTP/1.1\r\nHost: localhost\r\n");
                for (size_t k = 0; k < size; k++)
                        buffer_add_u8(&wire, (uint8_t)next(&seed));
                send_bytes(fd, wire.data, wire.size);
                close(fd);
                buffer_fini(&wire);
        }
        assert_honest_is_served();
        while (server_stats(&server).connections)
                usleep(1000);
        assert_int_equal(server_stats(&server).buffered_bytes, 0);
}

TEST(hostile, preface_in_pieces_is_http2_and_half_of_it_is_not)
{
        struct buffer wire = {0}, in = {0};
        int fd = dial(&server);

        begin(&wire);
        add_get(&wire, 1, "/v1/literal", END_HEADERS | END_STREAM);
        for (size_t i = 0; i < wire.size; i++) {
                assert_true(send_bytes(fd, wire.data + i, 1));
                if (i < 30)
                        usleep(500);
        }
        while (!body_has(&in, "literal")) {
                uint8_t chunk[1000];
                ssize_t n = receive(fd, chunk, sizeof chunk);

                assert_true(n > 0);
                buffer_add(&in, chunk, (size_t)n);
        }
        close(fd);
        fd = dial(&server);
        buffer_clear(&in);
        send_text(fd, "PRI * HTTP/2.0\r\n\r\nS");
        usleep(1000);
        send_text(fd, "O\r\n\r\n");
        read_to_end(fd, &in);
        assert_true(body_has(&in, "HTTP/1.1 501"));
        close(fd);
        assert_int_equal(look(&requests), 1);
        buffer_fini(&in);
        buffer_fini(&wire);
}

TEST(hostile, many_silent_connections_do_not_stop_the_others)
{
        enum { COUNT = 400 };
        int fds[COUNT];

        for (unsigned i = 0; i < COUNT; i++) {
                fds[i] = dial(&server);
                send_text(fds[i], i % 2 ? "GET / HT" : "PRI");
        }
        assert_honest_is_served();
        for (unsigned i = 0; i < COUNT; i++)
                close(fds[i]);
}

#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(hostile, pings_beyond_reason_end_the_connection),
                ROW(hostile, pings_of_clients_that_keep_alive_are_all_answered),
                ROW(hostile, settings_beyond_reason_end_the_connection),
                ROW(hostile, pings_of_one_who_does_not_read_take_no_memory),
                ROW(hostile, priorities_and_empty_data_beyond_reason_end_the_connection),
                ROW(hostile, rapid_resets_end_the_connection),
                ROW(hostile, continuations_without_end_end_the_connection),
                ROW(hostile, header_lists_are_bounded),
                ROW(hostile, breaches_of_the_protocol_end_the_connection),
                ROW(hostile, streams_over_the_limit_are_refused_and_the_others_served),
                ROW(hostile, garbage_is_answered_or_dropped_and_never_more),
                ROW(hostile, preface_in_pieces_is_http2_and_half_of_it_is_not),
                ROW(hostile, many_silent_connections_do_not_stop_the_others),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
