/* TLS below HTTP: both protocols through it, what is wrong on the way, limits, and certificates that change.
 * Clients are blocking sockets with a session of tls; whoever wants to speak plain text goes through a
 * tunnel. */
#include "support.h"

#include <sys/stat.h>

#include "gateway/room.h"

enum { BIG = 3 * 1024 * 1024 };

static struct server server;
static struct tls_context *context;
static char directory[64];
static unsigned closed;
static uint8_t *big;

static void on_hello(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "text/plain", BYTES_LITERAL("hello"), NULL, 0);
}

static void on_big(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "application/octet-stream", bytes_of(big, BIG), NULL, 0);
}

static void on_echo(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "application/octet-stream", gateway_body(r), NULL, 0);
}

static void on_writable(void *arg, struct gateway_request *r)
{
        static const uint8_t piece[10000];

        (void)arg;
        while (gateway_stream_room(r) > 0)
                gateway_stream_send(r, bytes_of(piece, sizeof piece));
}

static void on_close(void *arg, struct gateway_request *r)
{
        (void)arg;
        (void)r;
        count_up(&closed);
}

static void on_endless(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};

        (void)arg;
        gateway_stream_begin(r, 200, "text/plain", NULL, 0, &handler, NULL);
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        buffer_add_bytes(gateway_message_begin(call), message);
        gateway_message_end(call);
        gateway_call_end(call, GRPC_OK, NULL);
}

static const struct gateway_route routes[] = {
        {.method = "GET", .path = "/hello", .handler = on_hello, .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/big", .handler = on_big, .access = ACCESS_ANYONE},
        {.method = "POST",
                .path = "/echo",
                .handler = on_echo,
                .access = ACCESS_ANYONE,
                .body_size_max = BIG},
        {.method = "GET", .path = "/endless", .handler = on_endless, .access = ACCESS_ANYONE},
};
static const struct gateway_method methods[] = {
        {.service = "test.Test",
                .name = "Echo",
                .features = "",
                .message_size_max = BIG,
                .access = ACCESS_ANYONE,
                .on_message = on_message},
};

/* ---- a server with a certificate ---- */

static void make_certificate(struct os *os, const char *const *names, unsigned count)
{
        static const uint8_t cluster[16] = {1};
        struct tls_problem problem;
        int r = tls_authority_make(os, directory, cluster, &problem);

        assert_true(r == 0 || r == TLS_EXISTS);
        assert_int_equal(tls_node_certificate_make(os, directory, 1, names, count, &problem), 0);
}

static struct tls_context *open_context(void)
{
        struct tls_server_options options = {.os = server.os, .directory = directory, .alpn = "h2,http/1.1"};
        struct tls_context *ret;
        struct tls_problem problem;

        assert_int_equal(tls_server_open(&options, &ret, &problem), 0);
        return ret;
}

static void open_with(const struct gateway_options *wish, bool has_context)
{
        static const char *const names[] = {"localhost", "127.0.0.1"};
        struct gateway_options options = wish ? *wish : (struct gateway_options){0};
        struct control_options control = {.node_name = "test", .log_fd = -1};
        const char *why = "";

        closed = 0;
        memset(&server, 0, sizeof server);
        assert_int_equal(os_real_new(&server.os), 0);
        control.os = options.os = server.os;
        assert_int_equal(control_open(&control, &server.control), 0);
        make_certificate(server.os, names, 2);
        context = open_context();
        options.control = server.control;
        options.address = "127.0.0.1";
        options.speaks_tls = true;
        options.tls = has_context ? context : NULL;
        assert_int_equal(gateway_open(&options, &server.gateway, &why), 0);
        server.port = gateway_port(server.gateway);
        gateway_add_routes(server.gateway, routes, COUNT_OF(routes));
        gateway_add_methods(server.gateway, methods, COUNT_OF(methods));
        serve(&server);
        server_start(&server);
}

static void reopen_with(const struct gateway_options *wish, bool has_context)
{
        os_post(server.os, server_close, &server);
        pthread_join(server.thread, NULL);
        assert_true(server.is_closed);
        tls_context_close(&context);
        control_close(&server.control);
        os_free(&server.os);
        if (wish || has_context)
                open_with(wish, has_context);
}

static int setup(void **state)
{
        (void)state;
        snprintf(directory, sizeof directory, "/tmp/nilo-gateway-tls-XXXXXX");
        assert_non_null(mkdtemp(directory));
        big = memory_new(BIG);
        for (unsigned i = 0; i < BIG; i++)
                big[i] = (uint8_t)(i * 2654435761u >> 11);
        open_with(NULL, true);
        return 0;
}

static int teardown(void **state)
{
        static const char *const files[] = {"ca.pem", "ca.key", "node.pem", "node.key"};
        char path[128];

        (void)state;
        reopen_with(NULL, false);
        for (unsigned i = 0; i < COUNT_OF(files); i++) {
                snprintf(path, sizeof path, "%s/%s", directory, files[i]);
                unlink(path);
        }
        rmdir(directory);
        free(big);
        return 0;
}

/* ---- clients ---- */

struct secure {
        int fd;
        struct tls_session *session;
        struct buffer plain;
};

static struct tls_session *session_new(const char *host, const char *alpn)
{
        char ca[128];
        struct tls_client_options options = {.os = server.os, .ca_file = ca, .alpn = alpn};
        struct tls_context *client;
        struct tls_session *session;
        struct tls_problem problem;

        snprintf(ca, sizeof ca, "%s/ca.pem", directory);
        assert_int_equal(tls_client_open(&options, &client, &problem), 0);
        assert_int_equal(tls_session_new_client(client, host, &session), 0);
        tls_context_close(&client);
        return session;
}

static bool secure_flush(struct secure *c)
{
        struct bytes output = tls_session_output(c->session);
        bool is_sent = send_bytes(c->fd, output.data, output.size);

        tls_session_sent(c->session);
        return is_sent;
}

/* False: the server has closed. */
static bool secure_pump(struct secure *c)
{
        uint8_t chunk[65536];
        ssize_t n;

        if (!secure_flush(c))
                return false;
        n = receive(c->fd, chunk, sizeof chunk);
        if (n <= 0)
                return false;
        tls_session_feed(c->session, bytes_of(chunk, (size_t)n), &c->plain);
        return true;
}

/* False: no handshake came about. */
static bool secure_dial_as(struct secure *c, const char *host, const char *alpn)
{
        *c = (struct secure){.fd = dial(&server), .session = session_new(host, alpn)};
        while (tls_session_state(c->session) == TLS_HANDSHAKING && secure_pump(c))
                ;
        return tls_session_state(c->session) == TLS_OPEN && secure_flush(c);
}

static void secure_dial(struct secure *c, const char *alpn)
{
        assert_true(secure_dial_as(c, "localhost", alpn));
}

static void secure_hang_up(struct secure *c)
{
        close(c->fd);
        tls_session_free(&c->session);
        buffer_fini(&c->plain);
}

static void secure_send_text(struct secure *c, const char *text)
{
        tls_session_write(c->session, bytes_of_string(text));
        assert_true(secure_flush(c));
}

static void secure_read_to_end(struct secure *c)
{
        while (secure_pump(c) && tls_session_state(c->session) == TLS_OPEN)
                ;
}

/* Between a plain socket of the test and TLS to the server. */
struct tunnel {
        int plain;
        struct secure secure;
};

static void *tunnel_run(void *arg)
{
        struct tunnel *t = arg;
        struct pollfd p[] = {{.fd = t->plain, .events = POLLIN}, {.fd = t->secure.fd, .events = POLLIN}};
        uint8_t chunk[65536];
        bool is_open = true;

        while (is_open && poll(p, 2, WAIT_MS) > 0) {
                if (p[0].revents) {
                        ssize_t n = receive(t->plain, chunk, sizeof chunk);

                        is_open = n > 0;
                        if (is_open) {
                                tls_session_write(t->secure.session, bytes_of(chunk, (size_t)n));
                                is_open = secure_flush(&t->secure);
                        }
                }
                if (is_open && p[1].revents) {
                        is_open = secure_pump(&t->secure) && tls_session_state(t->secure.session) == TLS_OPEN;
                        if (t->secure.plain.size)
                                is_open = send_bytes(t->plain, t->secure.plain.data, t->secure.plain.size) &&
                                          is_open;
                        buffer_clear(&t->secure.plain);
                }
        }
        close(t->plain);
        secure_hang_up(&t->secure);
        free(t);
        return NULL;
}

/* The plain end; closing it ends the tunnel, whose thread *ret_thread is. */
static int tunnel_dial(const char *alpn, pthread_t *ret_thread)
{
        struct tunnel *t = memory_new(sizeof *t);
        struct timeval wait = {.tv_sec = WAIT_MS / 1000};
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        secure_dial(&t->secure, alpn);
        t->plain = ends[1];
        assert_int_equal(pthread_create(ret_thread, NULL, tunnel_run, t), 0);
        return ends[0];
}

static void tick_on_loop(void *arg)
{
        struct gateway *g = server.gateway;
        uint64_t later_us = os_turn_time(g->os).monotonic_us + *(unsigned *)arg * SECOND_US;

        LIST_EACH_SAFE (at, &g->connections)
                connection_tick(CONTAINER_OF(at, struct connection, link), later_us);
}

/* What would happen if nothing came for so long. */
static void after_seconds(unsigned seconds)
{
        server_run(&server, tick_on_loop, &seconds);
}

static void wait_for_handshakes(uint64_t under_way)
{
        uint64_t until = now_ms() + WAIT_MS;

        while (server_stats(&server).tls_handshakes != under_way && now_ms() < until)
                usleep(500);
        assert_int_equal(server_stats(&server).tls_handshakes, under_way);
}

static bool is_open(int fd)
{
        char c;

        usleep(10000);
        return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void assert_served(void)
{
        struct secure c;

        secure_dial(&c, "http/1.1");
        secure_send_text(&c, "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        secure_read_to_end(&c);
        assert_true(body_has(&c.plain, "HTTP/1.1 200"));
        assert_true(body_has(&c.plain, "hello"));
        assert_int_equal(tls_session_state(c.session), TLS_ENDED); /* nothing was cut off on the way */
        secure_hang_up(&c);
}

/* ---- the tests ---- */

TEST(tls, carries_both_protocols_as_alpn_or_the_first_bytes_say)
{
        static const char *const http1[] = {"http/1.1", "http/1.1,h2x", NULL};
        static const char *const http2[] = {"h2", "http/1.1,h2", NULL};
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *s;
        struct bytes message = BYTES_EMPTY;
        pthread_t thread;

        for (unsigned i = 0; i < COUNT_OF(http1); i++) {
                int fd = tunnel_dial(http1[i], &thread);

                for (unsigned n = 0; n < 3; n++) {
                        send_text(fd, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
                        read_answer(fd, &a, false);
                        assert_int_equal(a.status, 200);
                        assert_true(body_has(&a.body, "hello"));
                }
                close(fd);
                pthread_join(thread, NULL);
        }
        for (unsigned i = 0; i < COUNT_OF(http2); i++) {
                h2_begin(&c, tunnel_dial(http2[i], &thread), NULL, 0);
                s = grpc_unary(&c, "/test.Test/Echo", "x");
                H2_UNTIL(&c, s->is_closed);
                assert_int_equal(grpc_status_of(s), GRPC_OK);
                assert_true(grpc_message(s, 0, &message));
                assert_true(bytes_equal_string(message, "x"));
                h2_hang_up(&c);
                pthread_join(thread, NULL);
        }
        assert_int_equal(server_stats(&server).tls_handshakes, 0);
        assert_int_equal(server_stats(&server).tls_handshakes_total, 6);
        assert_int_equal(server_stats(&server).tls_handshakes_failed, 0);
        answer_fini(&a);
}

TEST(tls, carries_large_bodies_whole_in_both_directions)
{
        struct answer a = {0};
        char head[128];
        pthread_t thread;
        int fd = tunnel_dial("http/1.1", &thread);

        send_text(fd, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.body.size, BIG);
        assert_memory_equal(a.body.data, big, BIG);
        snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
                BIG);
        send_text(fd, head);
        assert_true(send_bytes(fd, big, BIG));
        read_answer(fd, &a, false);
        assert_int_equal(a.body.size, BIG);
        assert_memory_equal(a.body.data, big, BIG);
        answer_fini(&a);
        close(fd);
        pthread_join(thread, NULL);
}

TEST(tls, is_refused_by_the_client_for_another_name)
{
        struct secure c;

        assert_false(secure_dial_as(&c, "db.example", NULL));
        assert_non_null(strstr(tls_session_problem(c.session), "is not for db.example"));
        secure_hang_up(&c);
        assert_served();
}

TEST(tls, of_alpn_means_what_it_says)
{
        struct secure c;

        assert_false(secure_dial_as(&c, "localhost", "h3"));
        secure_hang_up(&c);
        secure_dial(&c, "h2");
        secure_send_text(&c, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        secure_read_to_end(&c);
        assert_int_equal(c.plain.size, 0);
        secure_hang_up(&c);
        secure_dial(&c, "http/1.1"); /* a preface is no request */
        secure_send_text(&c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        secure_read_to_end(&c);
        assert_true(body_has(&c.plain, "HTTP/1.1 5") || body_has(&c.plain, "HTTP/1.1 4"));
        secure_hang_up(&c);
        assert_served();
}

/* People forget the s. */
TEST(tls, port_answers_http_with_the_way_to_go)
{
        static const char *const said[] = {
                "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "P"};

        for (unsigned i = 0; i < COUNT_OF(said); i++) {
                struct buffer all = {0};
                int fd = dial(&server);

                send_text(fd, said[i]);
                read_to_end(fd, &all);
                assert_true(body_has(&all, "HTTP/1.1 400 Bad Request\r\n"));
                assert_true(body_has(&all, "application/problem+json"));
                assert_true(body_has(&all, "this port speaks TLS"));
                assert_true(body_has(&all, "https://"));
                buffer_fini(&all);
                close(fd);
        }
        assert_int_equal(server_stats(&server).tls_handshakes_failed, COUNT_OF(said));
        assert_served();
}

TEST(tls, is_told_where_it_is_not_spoken)
{
        struct server clear;
        struct tls_session *session = session_new("localhost", NULL);
        struct bytes hello = tls_session_output(session);
        struct buffer all = {0};
        int fd;

        server_open(&clear, NULL);
        server_start(&clear);
        fd = dial(&clear);
        assert_true(send_bytes(fd, hello.data, hello.size));
        read_to_end(fd, &all);
        assert_true(body_has(&all, "HTTP/1.1 400 Bad Request\r\n"));
        assert_true(body_has(&all, "this port does not speak TLS"));
        close(fd);
        server_stop(&clear);
        buffer_fini(&all);
        tls_session_free(&session);
}

/* G17: whatever comes, that connection ends, and others are served. */
TEST(tls, ends_with_garbage)
{
        struct bytes hello;
        struct tls_session *session;

        for (unsigned i = 0; i < 60; i++) {
                struct buffer all = {0};
                uint8_t *changed;
                int fd = dial(&server);

                session = session_new("localhost", "h2");
                hello = tls_session_output(session);
                changed = memory_new(hello.size);
                memcpy(changed, hello.data, hello.size);
                changed[i % hello.size] ^= (uint8_t)(1 + i * 37);
                if (changed[0] < 'A' || changed[0] > 'Z') {
                        assert_true(send_bytes(fd, changed, hello.size));
                        shutdown(fd, SHUT_WR);
                        read_to_end(fd, &all);
                        assert_false(body_has(&all, "HTTP/1.1 200"));
                }
                close(fd);
                free(changed);
                buffer_fini(&all);
                tls_session_free(&session);
        }
        wait_for_handshakes(0);
        assert_served();
}

TEST(tls, ends_what_was_changed_on_the_way)
{
        struct secure c;
        struct bytes output;
        struct buffer all = {0};
        uint8_t record[1024];

        secure_dial(&c, "http/1.1");
        tls_session_write(c.session, BYTES_LITERAL("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        output = tls_session_output(c.session);
        assert_true(output.size < sizeof record);
        memcpy(record, output.data, output.size);
        record[output.size - 1] ^= 1;
        assert_true(send_bytes(c.fd, record, output.size));
        secure_read_to_end(&c);
        assert_int_equal(c.plain.size, 0);
        assert_int_equal(tls_session_state(c.session), TLS_FAILED); /* by an alert */
        secure_hang_up(&c);
        buffer_fini(&all);
        assert_served();
}

TEST(tls, handshake_has_ten_seconds)
{
        struct tls_session *session = session_new("localhost", NULL);
        struct bytes hello = tls_session_output(session);
        int silent = dial(&server), half = dial(&server);

        assert_true(send_bytes(half, hello.data, hello.size / 2));
        wait_for_handshakes(2);
        after_seconds(9);
        assert_true(is_open(silent) && is_open(half));
        after_seconds(11);
        assert_true(is_closed_by_peer(silent));
        assert_true(is_closed_by_peer(half));
        wait_for_handshakes(0);
        close(silent);
        close(half);
        tls_session_free(&session);
}

/* The time for the first request begins when the handshake has ended. */
TEST(tls, of_who_then_says_nothing_ends)
{
        struct secure c;

        secure_dial(&c, "h2");
        wait_for_handshakes(0);
        after_seconds(9);
        assert_int_equal(server_stats(&server).connections, 1);
        after_seconds(11);
        secure_read_to_end(&c);
        assert_int_equal(tls_session_state(c.session), TLS_ENDED);
        secure_hang_up(&c);
}

/* As if those under way had begun so much later, or (below zero) earlier. */
static void shift_on_loop(void *arg)
{
        LIST_EACH (at, &server.gateway->handshaking)
                CONTAINER_OF(at, struct connection, handshake)->began_us +=
                        (uint64_t)(*(int *)arg * (int64_t)SECOND_US);
}

/* G18: their number is bounded, and those who dawdle make room for those who do not. */
TEST(tls, handshakes_at_one_time_are_bounded)
{
        struct gateway_options options = {.handshakes_max = 4};
        struct buffer all = {0};
        int slow[4], fd, later = 60, earlier = -120;

        reopen_with(&options, true);
        for (unsigned i = 0; i < COUNT_OF(slow); i++)
                slow[i] = dial(&server);
        wait_for_handshakes(4);
        server_run(&server, shift_on_loop, &later);
        fd = dial(&server);
        assert_true(is_closed_by_peer(fd)); /* nobody has been slow yet */
        close(fd);
        assert_int_equal(server_stats(&server).connections_refused, 1);
        server_run(&server, shift_on_loop, &earlier);
        assert_served();
        assert_true(is_closed_by_peer(slow[0])); /* the oldest, and no other */
        assert_true(is_open(slow[1]) && is_open(slow[2]) && is_open(slow[3]));
        for (unsigned i = 0; i < COUNT_OF(slow); i++)
                close(slow[i]);
        wait_for_handshakes(0);
        buffer_fini(&all);
}

/* G18: they have a part of each turn, so a burst takes several; each gets its own. */
TEST(tls, handshakes_in_a_burst_all_come_about)
{
        enum { COUNT = 100 };
        struct secure c[COUNT];

        for (unsigned i = 0; i < COUNT; i++)
                c[i] = (struct secure){.fd = dial(&server), .session = session_new("localhost", "http/1.1")};
        for (unsigned i = 0; i < COUNT; i++)
                assert_true(secure_flush(&c[i]));
        for (unsigned i = 0; i < COUNT; i++) {
                while (tls_session_state(c[i].session) == TLS_HANDSHAKING && secure_pump(&c[i]))
                        ;
                assert_int_equal(tls_session_state(c[i].session), TLS_OPEN);
                secure_send_text(
                        &c[i], "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        }
        for (unsigned i = 0; i < COUNT; i++) {
                secure_read_to_end(&c[i]);
                assert_true(body_has(&c[i].plain, "hello"));
                secure_hang_up(&c[i]);
        }
        assert_int_equal(server_stats(&server).tls_handshakes_failed, 0);
}

/* A slow one is fine, one that takes nothing at all is not; what is kept for it is bounded and counted. */
TEST(tls, of_a_client_that_never_reads_ends)
{
        struct secure c;
        uint64_t until = now_ms() + WAIT_MS;

        secure_dial(&c, "http/1.1");
        secure_send_text(&c, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
        while (server_stats(&server).buffered_bytes < 256 * KIB && now_ms() < until)
                usleep(500);
        usleep(100000);
        assert_true(server_stats(&server).buffered_bytes >= 256 * KIB);
        assert_true(server_stats(&server).buffered_bytes < 3 * MIB);
        assert_served();
        after_seconds(1);
        after_seconds(62);
        secure_hang_up(&c); /* what is on its way is given some seconds otherwise */
        wait_for(&closed, 1);
        until = now_ms() + WAIT_MS;
        while (server_stats(&server).buffered_bytes && now_ms() < until)
                usleep(500);
        assert_int_equal(server_stats(&server).buffered_bytes, 0);
}

/* 10 000 idle connections must not be worth a gigabyte. */
TEST(tls, memory_of_a_session_at_rest_is_small)
{
        struct answer a = {0};
        pthread_t thread;
        int fd = tunnel_dial("http/1.1", &thread);

        send_text(fd, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_answer(fd, &a, false);
        usleep(50000);
        assert_true(server_stats(&server).buffered_bytes > 0);
        assert_true(server_stats(&server).buffered_bytes < 64 * KIB);
        answer_fini(&a);
        close(fd);
        pthread_join(thread, NULL);
        wait_for_handshakes(0);
        for (unsigned i = 0; i < 1000 && server_stats(&server).connections; i++)
                usleep(1000);
        assert_int_equal(server_stats(&server).buffered_bytes, 0);
}

/* ---- certificates that come and change ---- */

static void set_tls_on_loop(void *arg)
{
        (void)arg;
        gateway_set_tls(server.gateway, context);
}

/* A node that starts listens before it has its certificate. */
TEST(certificate, is_waited_for)
{
        struct secure c = {0};

        reopen_with(&(struct gateway_options){0}, false);
        c.fd = dial(&server);
        c.session = session_new("localhost", "http/1.1");
        assert_true(secure_flush(&c));
        wait_for_handshakes(1);
        assert_true(is_open(c.fd));
        server_run(&server, set_tls_on_loop, NULL);
        while (tls_session_state(c.session) == TLS_HANDSHAKING && secure_pump(&c))
                ;
        assert_int_equal(tls_session_state(c.session), TLS_OPEN);
        secure_hang_up(&c);
        assert_served();
}

static void reload_on_loop(void *arg)
{
        (void)arg;
        gateway_reload_tls(server.gateway);
}

static bool is_shown_for(const char *host)
{
        struct secure c;
        bool is_shown = secure_dial_as(&c, host, "http/1.1");

        secure_hang_up(&c);
        return is_shown;
}

TEST(certificate, is_read_again_when_asked_to_and_stays_if_the_new_one_is_broken)
{
        static const char *const next[] = {"next.example"};
        char path[128];
        struct secure old;

        secure_dial(&old, "http/1.1");
        make_certificate(server.os, next, 1);
        assert_true(is_shown_for("localhost"));
        server_run(&server, reload_on_loop, NULL);
        assert_true(is_shown_for("next.example"));
        assert_false(is_shown_for("localhost"));
        /* Who is connected stays so. */
        secure_send_text(&old, "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        secure_read_to_end(&old);
        assert_true(body_has(&old.plain, "hello"));
        secure_hang_up(&old);
        snprintf(path, sizeof path, "%s/node.pem", directory);
        assert_int_equal(os_replace_whole(server.os, path, BYTES_LITERAL("broken")), 0);
        server_run(&server, reload_on_loop, NULL);
        assert_true(is_shown_for("next.example"));
}

TEST(certificate, that_has_changed_is_seen)
{
        static const char *const next[] = {"next.example"};
        uint64_t until;

        make_certificate(server.os, next, 1);
        for (until = now_ms() + WAIT_MS; now_ms() < until && !is_shown_for("next.example");)
                usleep(100000);
        assert_true(is_shown_for("next.example"));
}

/* ---- addresses ---- */

static int try_address(const char *address, bool speaks_tls, bool is_insecure, const char **ret_why)
{
        struct gateway_options options = {.os = server.os,
                .control = server.control,
                .address = address,
                .speaks_tls = speaks_tls,
                .tls = speaks_tls ? context : NULL,
                .is_insecure = is_insecure};
        struct gateway *gateway = NULL;
        int r = gateway_open(&options, &gateway, ret_why);

        if (!r)
                gateway_close(&gateway, NULL, NULL);
        return r;
}

static void try_addresses(void *arg)
{
        const char *why;

        (void)arg;
        assert(try_address("0.0.0.0", false, false, &why) == GATEWAY_ADDRESS_REFUSED);
        assert(strstr(why, "without TLS") && strstr(why, "--insecure"));
        /* TLS alone lets everybody in. */
        assert(try_address("0.0.0.0", true, false, &why) == GATEWAY_ADDRESS_REFUSED);
        assert(strstr(why, "who he is") && strstr(why, "--insecure"));
        assert(try_address("::", true, false, &why) == GATEWAY_ADDRESS_REFUSED);
        assert(try_address("0.0.0.0", false, true, &why) == 0);
        assert(try_address("0.0.0.0", true, true, &why) == 0);
        assert(try_address("::", true, true, &why) == 0);
        assert(try_address("::1", true, false, &why) == 0);
        assert(try_address("127.0.0.1", true, false, &why) == 0);
        assert(try_address("db.example", true, true, &why) == GATEWAY_ADDRESS_INVALID);
}

TEST(address, that_others_reach_needs_tls_and_users_or_the_word)
{
        server_run(&server, try_addresses, NULL);
}

#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(tls, carries_both_protocols_as_alpn_or_the_first_bytes_say),
                ROW(tls, carries_large_bodies_whole_in_both_directions),
                ROW(tls, is_refused_by_the_client_for_another_name),
                ROW(tls, of_alpn_means_what_it_says),
                ROW(tls, port_answers_http_with_the_way_to_go),
                ROW(tls, is_told_where_it_is_not_spoken),
                ROW(tls, ends_with_garbage),
                ROW(tls, ends_what_was_changed_on_the_way),
                ROW(tls, handshake_has_ten_seconds),
                ROW(tls, of_who_then_says_nothing_ends),
                ROW(tls, handshakes_at_one_time_are_bounded),
                ROW(tls, handshakes_in_a_burst_all_come_about),
                ROW(tls, of_a_client_that_never_reads_ends),
                ROW(tls, memory_of_a_session_at_rest_is_small),
                ROW(certificate, is_waited_for),
                ROW(certificate, is_read_again_when_asked_to_and_stays_if_the_new_one_is_broken),
                ROW(certificate, that_has_changed_is_seen),
                ROW(address, that_others_reach_needs_tls_and_users_or_the_word),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
