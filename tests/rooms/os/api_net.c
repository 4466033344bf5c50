/* Sockets of the real machine, with a plain blocking client in a thread of its own. */
#include "test.h"

#include <stdatomic.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os.h"

enum { ECHO_SIZE = 8 * 1024 * 1024, BIG_SIZE = 32 * 1024 * 1024, ROUND_TRIPS = 5000, QUEUE_MAX = 256 * 1024 };

struct server {
        struct os *os;
        struct os_listener *listener;
        uint16_t port;
        struct os_conn *conn;
        unsigned accepted;
        unsigned closed;
        unsigned drained;
        unsigned turns;
        uint64_t received;
        size_t most_queued;
        bool is_paused;
        atomic_bool has_paused; /* once; for the client's thread */
        bool must_drop;         /* refuse what connects */
        struct buffer answer;
        struct os_timer timer;
        struct os_turn_hook hook;
        void (*on_data)(struct server *s, struct bytes data);
        /* client */
        pthread_t thread;
        void (*client)(struct server *s, int fd);
};

static void on_data(void *arg, struct bytes data)
{
        struct server *s = arg;

        assert_int_equal(s->closed, 0);
        assert_true(data.size > 0);
        s->received += data.size;
        s->on_data(s, data);
}

static void on_drained(void *arg)
{
        struct server *s = arg;

        assert_int_equal(s->closed, 0);
        assert_int_equal(os_conn_queued(s->conn), 0);
        s->drained++;
        if (s->is_paused) {
                s->is_paused = false;
                os_conn_read_start(s->conn);
        }
}

static void on_close(void *arg)
{
        struct server *s = arg;

        assert_int_equal(s->closed, 0);
        assert_non_null(os_conn_peer(s->conn));              /* lives until here */
        __atomic_add_fetch(&s->closed, 1, __ATOMIC_RELEASE); /* a client watches it */
        s->conn = NULL;
        os_stop(s->os);
}

static const struct os_conn_handler handler = {
        .on_data = on_data, .on_drained = on_drained, .on_close = on_close};

static void on_accept(void *arg, struct os_conn *conn)
{
        struct server *s = arg;

        s->accepted++;
        if (s->must_drop) {
                os_conn_close(conn);
                return;
        }
        s->conn = conn;
        assert_int_equal(strncmp(os_conn_peer(conn), "127.0.0.1:", 10), 0);
        os_conn_accept(conn, &handler, s);
}

static void on_hook(struct os_turn_hook *hook)
{
        struct server *s = hook->arg;

        s->turns++;
}

static void server_init(struct server *s)
{
        *s = (struct server){0};
        assert_int_equal(os_real_new(&s->os), 0);
        assert_int_equal(os_listen(s->os, "127.0.0.1", 0, on_accept, s, &s->listener, &s->port), 0);
        assert_true(s->port != 0);
        s->hook = (struct os_turn_hook){.fn = on_hook, .arg = s};
        os_turn_hook_add(s->os, &s->hook);
}

static void *client_run(void *arg)
{
        struct server *s = arg;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(s->port)};
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert(fd >= 0);
        assert(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
        assert(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
        s->client(s, fd);
        close(fd);
        return NULL;
}

/* Runs the server until its one connection is closed, against the client. */
static void serve(struct server *s)
{
        assert_int_equal(pthread_create(&s->thread, NULL, client_run, s), 0);
        assert_int_equal(os_run(s->os), 0);
        pthread_join(s->thread, NULL);
        assert_int_equal(s->closed, 1);
}

static void server_fini(struct server *s)
{
        os_timer_stop(&s->timer);
        os_turn_hook_remove(&s->hook);
        os_listener_close(&s->listener);
        assert_null(s->listener);
        buffer_fini(&s->answer);
        os_free(&s->os);
}

static uint8_t pattern(uint64_t at)
{
        return (uint8_t)(at * 131 + (at >> 13));
}

static size_t read_all(int fd, uint8_t *data, size_t size)
{
        size_t done = 0;

        while (done < size) {
                ssize_t n = recv(fd, data + done, size - done, 0);

                if (n <= 0)
                        break;
                done += (size_t)n;
        }
        return done;
}

/* ---- echo ---- */

static void echo(struct server *s, struct bytes data)
{
        size_t before = os_conn_queued(s->conn);

        os_conn_send(s->conn, &data, 1);
        assert_true(os_conn_queued(s->conn) <= before + data.size);
        s->most_queued = MAX(s->most_queued, os_conn_queued(s->conn));
        if (os_conn_queued(s->conn) > QUEUE_MAX && !s->is_paused) {
                s->is_paused = true;
                atomic_store(&s->has_paused, true);
                os_conn_read_stop(s->conn);
        }
}

static void *send_pattern(void *arg)
{
        static uint8_t chunk[65536];
        uint64_t at = 0;
        int fd = *(int *)arg;
        size_t i;

        while (at < ECHO_SIZE) {
                for (i = 0; i < sizeof chunk; i++)
                        chunk[i] = pattern(at + i);
                assert(send(fd, chunk, sizeof chunk, 0) == sizeof chunk);
                at += sizeof chunk;
        }
        return NULL;
}

enum { FULL_US_MAX = 20 * 1000 * 1000, NAP_US = 1000 };

/* Sends without reading at first, so that everything between the two fills up and the server stops to read.
 */
static void client_echo(struct server *s, int fd)
{
        uint8_t chunk[10000];
        uint64_t at = 0;
        pthread_t sender;
        size_t n, i;

        assert(pthread_create(&sender, NULL, send_pattern, &fd) == 0);
        for (i = 0; i < FULL_US_MAX / NAP_US && !atomic_load(&s->has_paused); i++)
                usleep(NAP_US);
        while (at < ECHO_SIZE) {
                n = read_all(fd, chunk, MIN(sizeof chunk, ECHO_SIZE - at));
                assert(n > 0);
                for (i = 0; i < n; i++)
                        assert(chunk[i] == pattern(at + i));
                at += n;
        }
        pthread_join(sender, NULL);
}

TEST(conn, echoes_in_order_with_a_bounded_queue_when_the_peer_does_not_read_G18)
{
        struct server s;

        server_init(&s);
        s.on_data = echo;
        s.client = client_echo;
        serve(&s);
        assert_int_equal(s.received, ECHO_SIZE);
        assert_true(s.most_queued > QUEUE_MAX); /* so reading was stopped */
        assert_true(s.most_queued <= QUEUE_MAX + 65536);
        assert_true(s.drained > 0);
        assert_false(s.is_paused);
        assert_true(s.turns > 1);
        server_fini(&s);
}

static void client_round_trips(struct server *s, int fd)
{
        uint64_t began = os_monotonic_us(s->os);
        char byte = 'x';
        unsigned i;

        for (i = 0; i < ROUND_TRIPS; i++) {
                assert(send(fd, &byte, 1, 0) == 1);
                assert(recv(fd, &byte, 1, 0) == 1);
        }
        print_message("echo round trip: %.1f us\n", (double)(os_monotonic_us(s->os) - began) / ROUND_TRIPS);
}

TEST(conn, what_the_socket_takes_at_once_is_never_queued)
{
        struct server s;

        server_init(&s);
        s.on_data = echo;
        s.client = client_round_trips;
        serve(&s);
        assert_int_equal(s.received, ROUND_TRIPS);
        assert_int_equal(s.most_queued, 0);
        assert_int_equal(s.drained, 0);
        assert_true(s.turns >= ROUND_TRIPS);
        server_fini(&s);
}

/* ---- big answers, closing ---- */

static void fill_answer(struct server *s, size_t size)
{
        size_t i;

        buffer_reserve(&s->answer, size);
        s->answer.size = size;
        for (i = 0; i < size; i++)
                s->answer.data[i] = pattern(i);
}

static void answer_and_close(struct server *s, struct bytes data)
{
        struct bytes pieces[40];
        size_t part = s->answer.size / COUNT_OF(pieces), i;

        (void)data;
        for (i = 0; i < COUNT_OF(pieces); i++)
                pieces[i] = bytes_of(s->answer.data + i * part, part);
        pieces[i - 1].size += s->answer.size % COUNT_OF(pieces);
        os_conn_send(s->conn, pieces, COUNT_OF(pieces));
        assert_true(os_conn_queued(s->conn) > 0);
        os_conn_close(s->conn);
        assert_int_equal(s->closed, 0); /* never from inside */
        os_conn_close(s->conn);         /* harmless */
        os_conn_send(s->conn, pieces, 1);
        os_conn_read_start(s->conn);
        os_conn_read_stop(s->conn);
}

static void client_reads_big(struct server *s, int fd)
{
        static uint8_t big[BIG_SIZE + 64];
        size_t n, i;

        assert(send(fd, "go", 2, 0) == 2);
        usleep(20000);
        n = read_all(fd, big, sizeof big);
        assert(n == s->answer.size); /* all of it, then the end */
        for (i = 0; i < n; i++)
                assert(big[i] == pattern(i));
}

TEST(conn, close_sends_what_is_queued_first)
{
        struct server s;

        server_init(&s);
        fill_answer(&s, BIG_SIZE + 13);
        s.on_data = answer_and_close;
        s.client = client_reads_big;
        serve(&s);
        assert_int_equal(s.drained, 0);
        server_fini(&s);
}

static void refuse(struct server *s, struct bytes data)
{
        struct bytes no = BYTES_LITERAL("no");

        (void)data;
        os_conn_send(s->conn, &no, 1);
        assert_int_equal(os_conn_queued(s->conn), 0);
        os_conn_close(s->conn);
}

static void client_sends_too_much(struct server *s, int fd)
{
        static char rubbish[100000];
        char answer[8];
        unsigned i;

        (void)s;
        for (i = 0; i < 20; i++) {
                ssize_t n = send(fd, rubbish, sizeof rubbish, MSG_NOSIGNAL);

                assert(n > 0);
                usleep(1000);
        }
        assert(read_all(fd, (uint8_t *)answer, sizeof answer) == 2);
        assert(memcmp(answer, "no", 2) == 0);
}

TEST(conn, an_answer_before_close_reaches_a_peer_that_still_sends)
{
        struct server s;

        server_init(&s);
        s.on_data = refuse;
        s.client = client_sends_too_much;
        serve(&s);
        server_fini(&s);
}

static void client_never_reads(struct server *s, int fd)
{
        assert(send(fd, "go", 2, 0) == 2);
        while (!__atomic_load_n(&s->closed, __ATOMIC_ACQUIRE))
                usleep(10000);
        (void)fd;
}

TEST(conn, close_does_not_wait_for_ever_for_a_peer_that_does_not_read)
{
        struct server s;
        uint64_t began;

        server_init(&s);
        fill_answer(&s, BIG_SIZE);
        s.on_data = answer_and_close;
        s.client = client_never_reads;
        began = os_monotonic_us(s.os);
        serve(&s);
        assert_true(os_monotonic_us(s.os) - began > 4000000);
        assert_true(os_monotonic_us(s.os) - began < 7000000);
        server_fini(&s);
}

/* ---- the peer goes ---- */

static void ignore(struct server *s, struct bytes data)
{
        (void)s;
        (void)data;
}

static void client_half_closes(struct server *s, int fd)
{
        uint8_t byte;

        (void)s;
        assert(send(fd, "bye", 3, 0) == 3);
        assert(shutdown(fd, SHUT_WR) == 0);
        assert(recv(fd, &byte, 1, 0) == 0);
}

TEST(conn, ends_when_the_peer_closes_its_half)
{
        struct server s;

        server_init(&s);
        s.on_data = ignore;
        s.client = client_half_closes;
        serve(&s);
        assert_int_equal(s.received, 3);
        server_fini(&s);
}

static void client_resets(struct server *s, int fd)
{
        struct linger now = {.l_onoff = 1, .l_linger = 0};

        (void)s;
        assert(send(fd, "go", 2, 0) == 2);
        usleep(30000);
        assert(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
}

static void answer_big(struct server *s, struct bytes data)
{
        struct bytes answer = buffer_bytes(&s->answer);

        (void)data;
        os_conn_send(s->conn, &answer, 1);
        assert_true(os_conn_queued(s->conn) > 0);
        assert_true(os_conn_queued(s->conn) < answer.size);
}

TEST(conn, ends_once_when_the_peer_resets_it_with_bytes_queued)
{
        struct server s;

        server_init(&s);
        fill_answer(&s, BIG_SIZE);
        s.on_data = answer_big;
        s.client = client_resets;
        serve(&s);
        assert_int_equal(s.drained, 0);
        server_fini(&s);
}

static void send_late(struct os_timer *timer)
{
        struct server *s = timer->arg;
        struct bytes late = BYTES_LITERAL("late");

        if (!s->conn)
                return;
        os_conn_send(
                s->conn, &late, 1); /* the first meets a reset, the second a broken connection: no signal */
        if (s->conn)
                os_conn_send(s->conn, &late, 1);
        os_timer_start(s->os, timer, 1000);
}

static void pause_and_send_late(struct server *s, struct bytes data)
{
        (void)data;
        os_conn_read_stop(s->conn);
        s->timer = (struct os_timer){.fn = send_late, .arg = s};
        os_timer_start(s->os, &s->timer, 1000);
}

TEST(conn, a_send_to_a_broken_connection_ends_it_and_not_the_process)
{
        struct server s;

        server_init(&s);
        s.on_data = pause_and_send_late;
        s.client = client_resets;
        serve(&s);
        server_fini(&s);
}

static void client_expects_the_end(struct server *s, int fd)
{
        uint8_t byte;

        assert(recv(fd, &byte, 1, 0) == 0);
        os_stop(s->os);
}

TEST(listener, may_drop_what_connects)
{
        struct server s;

        server_init(&s);
        s.must_drop = true;
        s.client = client_expects_the_end;
        assert_int_equal(pthread_create(&s.thread, NULL, client_run, &s), 0);
        assert_int_equal(os_run(s.os), 0);
        pthread_join(s.thread, NULL);
        assert_int_equal(s.accepted, 1);
        assert_int_equal(s.closed, 0);
        server_fini(&s);
}

static void stop_when_open(struct server *s, struct bytes data)
{
        (void)data;
        os_stop(s->os);
}

static void client_waits(struct server *s, int fd)
{
        uint8_t byte;

        (void)s;
        assert(send(fd, "go", 2, 0) == 2);
        assert(recv(fd, &byte, 1, 0) <= 0);
}

TEST(conn, ends_with_its_machine)
{
        struct server s;

        server_init(&s);
        s.on_data = stop_when_open;
        s.client = client_waits;
        assert_int_equal(pthread_create(&s.thread, NULL, client_run, &s), 0);
        assert_int_equal(os_run(s.os), 0);
        assert_int_equal(s.closed, 0);
        os_turn_hook_remove(&s.hook);
        os_listener_close(&s.listener);
        os_conn_close(s.conn);
        os_free(&s.os);
        assert_int_equal(s.closed, 1);
        pthread_join(s.thread, NULL);
}

/* ---- listening ---- */

TEST(listener, tells_an_address_in_use_from_one_that_is_none)
{
        struct server s;
        struct os_listener *second = NULL;
        uint16_t port = 1;

        server_init(&s);
        assert_int_equal(
                os_listen(s.os, "127.0.0.1", s.port, on_accept, &s, &second, &port), OS_ADDRESS_IN_USE);
        assert_int_equal(os_listen(s.os, "no address", 0, on_accept, &s, &second, &port), OS_ADDRESS_INVALID);
        assert_int_equal(os_listen(s.os, "localhost", 0, on_accept, &s, &second, &port), OS_ADDRESS_INVALID);
        assert_int_equal(os_listen(s.os, "192.0.2.1", 0, on_accept, &s, &second, &port), OS_ADDRESS_INVALID);
        assert_null(second);
        assert_int_equal(port, 1);
        os_listener_close(&second); /* harmless */
        os_listener_close(&s.listener);
        /* Free again at once: a server that restarts gets its port back. */
        assert_int_equal(os_listen(s.os, "127.0.0.1", s.port, on_accept, &s, &s.listener, &port), 0);
        assert_int_equal(port, s.port);
        server_fini(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(conn, echoes_in_order_with_a_bounded_queue_when_the_peer_does_not_read_G18),
                TEST_ROW(conn, what_the_socket_takes_at_once_is_never_queued),
                TEST_ROW(conn, close_sends_what_is_queued_first),
                TEST_ROW(conn, an_answer_before_close_reaches_a_peer_that_still_sends),
                TEST_ROW(conn, close_does_not_wait_for_ever_for_a_peer_that_does_not_read),
                TEST_ROW(conn, ends_when_the_peer_closes_its_half),
                TEST_ROW(conn, ends_once_when_the_peer_resets_it_with_bytes_queued),
                TEST_ROW(conn, a_send_to_a_broken_connection_ends_it_and_not_the_process),
                TEST_ROW(listener, may_drop_what_connects),
                TEST_ROW(conn, ends_with_its_machine),
                TEST_ROW(listener, tells_an_address_in_use_from_one_that_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
