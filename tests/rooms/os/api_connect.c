/* Outgoing connections, names and datagrams of the real machine, on loopback: both ends on one loop, or a
 * plain blocking server in a thread of its own. */
#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os.h"

enum { BIG_SIZE = 16 * 1024 * 1024, CHUNK = 64 * 1024, FEED_MAX = 256 * 1024 };

/* One end: sends and expects bytes whose values tell their place. */
struct end {
        struct fixture *f;
        struct os_conn *conn;
        unsigned opened;
        unsigned closed;
        unsigned drained;
        uint64_t to_send;
        uint64_t sent;
        uint64_t to_receive; /* then it stops the loop, when both have all */
        uint64_t received;
        bool must_close; /* when all has come */
        char problem[64];
};

struct fixture {
        struct os *os;
        struct os_listener *listener;
        uint16_t port;
        struct end client;
        struct end server;
        struct os_timer timer;
        /* plain server */
        int fd;
        pthread_t thread;
        void (*serve)(int fd);
};

static uint8_t pattern(uint64_t at)
{
        return (uint8_t)(at * 131 + (at >> 13));
}

static void feed(struct end *e)
{
        static uint8_t chunk[CHUNK];
        struct bytes piece;
        size_t i;

        while (e->conn && e->sent < e->to_send && os_conn_queued(e->conn) < FEED_MAX) {
                piece = bytes_of(chunk, MIN((uint64_t)sizeof chunk, e->to_send - e->sent));
                for (i = 0; i < piece.size; i++)
                        chunk[i] = pattern(e->sent + i);
                os_conn_send(e->conn, &piece, 1);
                e->sent += piece.size;
        }
}

static bool has_all(const struct end *e)
{
        return e->to_receive && e->received == e->to_receive && e->sent == e->to_send;
}

static void on_data(void *arg, struct bytes data)
{
        struct end *e = arg;
        size_t i;

        assert_int_equal(e->closed, 0);
        for (i = 0; i < data.size; i++)
                assert_int_equal(data.data[i], pattern(e->received + i));
        e->received += data.size;
        if (e->must_close && e->received == e->to_receive)
                os_conn_close(e->conn);
        else if (has_all(&e->f->client) && has_all(&e->f->server))
                os_stop(e->f->os);
}

static void on_drained(void *arg)
{
        struct end *e = arg;

        assert_int_equal(os_conn_queued(e->conn), 0);
        e->drained++;
        feed(e);
}

static void on_close(void *arg)
{
        struct end *e = arg;
        const char *problem = os_conn_problem(e->conn);

        assert_int_equal(e->closed, 0);
        e->closed++;
        snprintf(e->problem, sizeof e->problem, "%s", problem ? problem : "");
        e->conn = NULL;
        os_stop(e->f->os);
}

static void on_open(void *arg)
{
        struct end *e = arg;

        assert_int_equal(e->opened + e->closed, 0);
        assert_int_equal(e->received, 0);
        e->opened++;
}

static const struct os_conn_handler handler = {
        .on_data = on_data, .on_drained = on_drained, .on_close = on_close, .on_open = on_open};

static void on_accept(void *arg, struct os_conn *conn)
{
        struct fixture *f = arg;

        f->server.conn = conn;
        os_conn_accept(conn, &handler, &f->server);
        feed(&f->server);
}

static void set_up(struct fixture *f)
{
        *f = (struct fixture){.fd = -1};
        f->client.f = f->server.f = f;
        assert_int_equal(os_real_new(&f->os), 0);
        assert_int_equal(os_listen(f->os, "127.0.0.1", 0, on_accept, f, &f->listener, &f->port), 0);
}

static void tear_down(struct fixture *f)
{
        os_timer_stop(&f->timer);
        os_listener_close(&f->listener);
        os_free(&f->os);
}

static void connect_to(struct fixture *f, const char *address, uint16_t port)
{
        assert_int_equal(os_connect(f->os, address, port, &handler, &f->client, &f->client.conn), 0);
        assert_int_equal(f->client.opened + f->client.closed, 0);
}

static void run(struct fixture *f)
{
        assert_int_equal(os_run(f->os), 0);
}

/* ---- both ends on one loop ---- */

TEST(connect, carries_what_was_queued_before_it_was_established_and_much_more_both_ways)
{
        struct fixture f;
        char peer[32];

        set_up(&f);
        f.client.to_send = f.server.to_receive = BIG_SIZE;
        f.server.to_send = f.client.to_receive = BIG_SIZE / 2;
        connect_to(&f, "127.0.0.1", f.port);
        feed(&f.client);
        assert_true(os_conn_queued(f.client.conn) >= FEED_MAX);
        run(&f);
        assert_int_equal(f.client.opened, 1);
        assert_int_equal(f.client.closed + f.server.closed, 0);
        assert_int_equal(f.server.received, BIG_SIZE);
        assert_int_equal(f.client.received, BIG_SIZE / 2);
        assert_true(f.client.drained > 0);
        snprintf(peer, sizeof peer, "127.0.0.1:%u", f.port);
        assert_string_equal(os_conn_peer(f.client.conn), peer);
        tear_down(&f);
        assert_int_equal(f.client.closed, 1);
        assert_string_equal(f.client.problem, "");
}

TEST(connect, an_end_in_order_has_no_problem_and_sends_what_is_queued)
{
        struct fixture f;

        set_up(&f);
        f.client.to_send = f.server.to_receive = 100000;
        f.server.to_send = FEED_MAX;
        f.server.must_close = true;
        connect_to(&f, "127.0.0.1", f.port);
        feed(&f.client);
        while (!f.client.closed || !f.server.closed)
                run(&f);
        assert_string_equal(f.client.problem, "");
        assert_string_equal(f.server.problem, "");
        assert_int_equal(f.client.received, FEED_MAX);
        tear_down(&f);
}

static void start_reading(struct os_timer *timer)
{
        struct fixture *f = timer->arg;

        assert_int_equal(f->client.received, 0);
        os_conn_read_start(f->client.conn);
}

TEST(connect, may_stop_reading_before_it_is_established)
{
        struct fixture f;

        set_up(&f);
        f.server.to_send = f.client.to_receive = 1000;
        f.client.to_send = f.server.to_receive = 1;
        connect_to(&f, "127.0.0.1", f.port);
        os_conn_read_stop(f.client.conn);
        feed(&f.client);
        f.timer = (struct os_timer){.fn = start_reading, .arg = &f};
        os_timer_start(f.os, &f.timer, 50000);
        run(&f);
        assert_int_equal(f.client.received, 1000);
        tear_down(&f);
}

/* Sockets of this process with the time-out that ends the connection to a silent peer. */
static unsigned watched_sockets(void)
{
        unsigned count = 0;
        int fd;

        for (fd = 3; fd < 64; fd++) {
                int timeout = 0, keep_alive = 0, no_delay = 0;
                socklen_t size = sizeof timeout;

                (void)getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &size);
                (void)getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keep_alive, &size);
                (void)getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size);
                count += timeout == 10000 && keep_alive == 1 && no_delay == 1;
        }
        return count;
}

TEST(connect, is_watched_and_what_was_accepted_is_on_order)
{
        struct fixture f;

        set_up(&f);
        f.client.to_send = f.server.to_receive = f.server.to_send = f.client.to_receive = 1;
        connect_to(&f, "127.0.0.1", f.port);
        feed(&f.client);
        run(&f);
        assert_int_equal(watched_sockets(), 1);
        os_conn_watch(f.server.conn);
        assert_int_equal(watched_sockets(), 2);
        tear_down(&f);
}

/* ---- failures ---- */

TEST(connect, is_refused_by_a_port_without_a_listener)
{
        struct fixture f;

        set_up(&f);
        os_listener_close(&f.listener);
        connect_to(&f, "127.0.0.1", f.port);
        feed(&f.client);
        run(&f);
        assert_int_equal(f.client.closed, 1);
        assert_int_equal(f.client.opened, 0);
        assert_string_equal(f.client.problem, "connection refused");
        tear_down(&f);
}

TEST(connect, tells_what_the_kernel_refuses_at_once_as_it_tells_the_rest)
{
        struct fixture f;

        set_up(&f);
        connect_to(&f, "224.0.0.1", 1);
        run(&f);
        assert_int_equal(f.client.closed, 1);
        assert_string_equal(f.client.problem, "network is unreachable");
        tear_down(&f);
}

TEST(connect, wants_an_IP_literal)
{
        struct fixture f;

        set_up(&f);
        assert_int_equal(os_connect(f.os, "localhost", f.port, &handler, &f.client, &f.client.conn),
                OS_ADDRESS_INVALID);
        assert_int_equal(
                os_connect(f.os, "", f.port, &handler, &f.client, &f.client.conn), OS_ADDRESS_INVALID);
        assert_null(f.client.conn);
        tear_down(&f);
}

TEST(connect, that_is_closed_before_it_is_established_just_ends)
{
        struct fixture f;

        set_up(&f);
        f.client.to_send = 10;
        connect_to(&f, "127.0.0.1", f.port);
        feed(&f.client);
        os_conn_close(f.client.conn);
        assert_int_equal(f.client.closed, 0); /* never from inside */
        run(&f);
        assert_int_equal(f.client.closed, 1);
        assert_int_equal(f.client.opened, 0);
        assert_string_equal(f.client.problem, "");
        tear_down(&f);
}

TEST(connect, ends_with_its_machine_while_it_is_being_established)
{
        struct fixture f;

        set_up(&f);
        connect_to(&f, "127.0.0.1", f.port);
        tear_down(&f);
        assert_int_equal(f.client.closed, 1);
}

/* A plain listening socket; its backlog takes one connection more than `backlog`. */
static uint16_t plain_listen(struct fixture *f, int backlog)
{
        struct sockaddr_in at = {.sin_family = AF_INET};
        socklen_t size = sizeof at;

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(f->fd >= 0);
        assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof at), 0);
        assert_int_equal(listen(f->fd, backlog), 0);
        assert_int_equal(getsockname(f->fd, (struct sockaddr *)&at, &size), 0);
        return ntohs(at.sin_port);
}

TEST(connect, to_a_peer_that_does_not_answer_is_given_up_in_time)
{
        struct sockaddr_in at = {.sin_family = AF_INET};
        struct fixture f;
        uint64_t began;
        int filler;

        set_up(&f);
        at.sin_port = htons(plain_listen(&f, 0));
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(filler, (struct sockaddr *)&at, sizeof at), 0);
        began = os_monotonic_us(f.os);
        connect_to(&f, "127.0.0.1", ntohs(at.sin_port));
        run(&f);
        assert_int_equal(f.client.closed, 1);
        assert_int_equal(f.client.opened, 0);
        assert_string_equal(f.client.problem, "connection timed out");
        assert_true(os_monotonic_us(f.os) - began >= OS_CONNECT_US_MAX);
        assert_true(os_monotonic_us(f.os) - began < OS_CONNECT_US_MAX + 2000000);
        close(filler);
        close(f.fd);
        tear_down(&f);
}

/* ---- a plain server ---- */

static void *server_run(void *arg)
{
        struct fixture *f = arg;
        int fd = accept(f->fd, NULL, NULL);

        assert(fd >= 0);
        f->serve(fd);
        close(fd);
        return NULL;
}

/* Sends `more` at once behind what the client feeds. */
static void talk_to_plain(struct fixture *f, void (*serve)(int fd), struct bytes more)
{
        uint16_t port = plain_listen(f, 5);

        f->serve = serve;
        assert_int_equal(pthread_create(&f->thread, NULL, server_run, f), 0);
        connect_to(f, "127.0.0.1", port);
        feed(&f->client);
        os_conn_send(f->client.conn, &more, 1);
        run(f);
        pthread_join(f->thread, NULL);
        close(f->fd);
        assert_int_equal(f->client.closed, 1);
}

/* Shuts its half first; then everything that the other had queued must still come. */
static void serve_half_close(int fd)
{
        static uint8_t data[CHUNK];
        uint64_t at = 0;
        ssize_t n, i;

        for (i = 0; i < 1000; i++)
                data[i] = pattern((uint64_t)i);
        assert(send(fd, data, 1000, 0) == 1000);
        assert(shutdown(fd, SHUT_WR) == 0);
        usleep(50000);
        while ((n = recv(fd, data, sizeof data, 0)) > 0) {
                for (i = 0; i < n; i++)
                        assert(data[i] == pattern(at + (uint64_t)i));
                at += (uint64_t)n;
        }
        assert(n == 0);
        assert(at == BIG_SIZE);
}

TEST(connect, ends_when_the_peer_closes_its_half_after_all_that_is_queued)
{
        static uint8_t big[BIG_SIZE];
        struct fixture f;
        uint64_t i;

        set_up(&f);
        for (i = 0; i < sizeof big; i++)
                big[i] = pattern(i);
        talk_to_plain(&f, serve_half_close, bytes_of(big, sizeof big));
        assert_string_equal(f.client.problem, "");
        assert_int_equal(f.client.received, 1000);
        tear_down(&f);
}

static void serve_reset(int fd)
{
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        char byte;

        assert(recv(fd, &byte, 1, 0) == 1);
        assert(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
}

TEST(connect, tells_a_reset_from_an_end)
{
        struct fixture f;

        set_up(&f);
        talk_to_plain(&f, serve_reset, BYTES_LITERAL("x"));
        assert_int_equal(f.client.opened, 1);
        assert_string_equal(f.client.problem, "connection reset by peer");
        tear_down(&f);
}

/* ---- names ---- */

struct found {
        struct os *os;
        struct os_addresses addresses;
        char problem[64];
        unsigned calls;
};

static void on_found(void *arg, const struct os_addresses *addresses, const char *problem)
{
        struct found *f = arg;

        f->calls++;
        f->addresses = *addresses;
        snprintf(f->problem, sizeof f->problem, "%s", problem ? problem : "");
        os_stop(f->os);
}

static struct found look_up(struct os *os, const char *host)
{
        struct found f = {.os = os};
        struct os_lookup *lookup = NULL;

        assert_int_equal(os_resolve(os, host, on_found, &f, &lookup), 0);
        assert_non_null(lookup);
        assert_int_equal(f.calls, 0);
        assert_int_equal(os_run(os), 0);
        assert_int_equal(f.calls, 1);
        return f;
}

TEST(resolve, finds_addresses_or_says_why_not)
{
        struct os *os;
        struct found f;
        bool has_loopback = false;
        unsigned i;

        assert_int_equal(os_real_new(&os), 0);
        f = look_up(os, "localhost");
        for (i = 0; i < f.addresses.count; i++)
                has_loopback |= strcmp(f.addresses.text[i], "127.0.0.1") == 0 ||
                                strcmp(f.addresses.text[i], "::1") == 0;
        assert_true(has_loopback);
        assert_string_equal(f.problem, "");
        f = look_up(os, "192.0.2.77");
        assert_int_equal(f.addresses.count, 1);
        assert_string_equal(f.addresses.text[0], "192.0.2.77");
        f = look_up(os, "fd00::77");
        assert_string_equal(f.addresses.text[0], "fd00::77");
        f = look_up(os, "nonsense..name"); /* refused without asking anybody */
        assert_int_equal(f.addresses.count, 0);
        assert_string_equal(f.problem, "Name or service not known");
        os_free(&os);
}

TEST(resolve, that_is_dropped_is_never_heard_of)
{
        char long_name[300];
        struct os_lookup *lookup, *none = NULL;
        struct found f = {0}, late = {0};

        assert_int_equal(os_real_new(&f.os), 0);
        assert_int_equal(os_resolve(f.os, "localhost", on_found, &late, &lookup), 0);
        os_lookup_drop(&lookup);
        assert_null(lookup);
        os_lookup_drop(&lookup); /* harmless */
        f = look_up(f.os, "localhost");
        assert_true(f.addresses.count > 0);
        assert_int_equal(late.calls, 0);
        memset(long_name, 'a', sizeof long_name);
        long_name[299] = '\0';
        assert_int_equal(os_resolve(f.os, long_name, on_found, &f, &none), OS_ADDRESS_INVALID);
        assert_int_equal(os_resolve(f.os, "", on_found, &f, &none), OS_ADDRESS_INVALID);
        assert_null(none);
        assert_int_equal(os_resolve(f.os, "localhost", on_found, &late, &lookup), 0);
        os_lookup_drop(&lookup);
        os_free(&f.os); /* while it may be under way */
        assert_int_equal(late.calls, 0);
}

/* ---- datagrams ---- */

struct mailbox {
        struct os *os;
        struct os_udp *udp;
        uint16_t port;
        unsigned count;
        size_t size;
        uint8_t data[OS_DATAGRAM_SIZE_MAX];
        char from[OS_ADDRESS_SIZE];
        uint16_t from_port;
};

static void on_datagram(void *arg, struct bytes datagram, const char *address, uint16_t port)
{
        struct mailbox *m = arg;

        m->count++;
        m->size = datagram.size;
        memcpy(m->data, datagram.data, datagram.size);
        snprintf(m->from, sizeof m->from, "%s", address);
        m->from_port = port;
        os_stop(m->os);
}

static void open_mailbox(struct mailbox *m, struct os *os, struct os_udp_options options)
{
        *m = (struct mailbox){.os = os};
        assert_int_equal(os_udp_open(os, &options, on_datagram, m, &m->udp, &m->port), 0);
        assert_true(m->port != 0);
}

TEST(udp, carries_a_datagram_with_its_senders_address)
{
        static const char *const addresses[] = {"127.0.0.1", "::1"};
        uint8_t data[OS_DATAGRAM_SIZE_MAX];
        struct mailbox a, b;
        struct os *os;
        unsigned i;

        assert_int_equal(os_real_new(&os), 0);
        memset(data, 7, sizeof data);
        for (i = 0; i < COUNT_OF(addresses); i++) {
                struct os_udp_options options = {.address = addresses[i]};

                open_mailbox(&a, os, options);
                open_mailbox(&b, os, options);
                assert_int_equal(os_udp_send(a.udp, addresses[i], b.port, bytes_of(data, sizeof data)), 0);
                assert_int_equal(os_run(os), 0);
                assert_int_equal(b.count, 1);
                assert_int_equal(b.size, sizeof data);
                assert_memory_equal(b.data, data, sizeof data);
                assert_string_equal(b.from, addresses[i]);
                assert_int_equal(b.from_port, a.port);
                assert_int_equal(os_udp_send(b.udp, b.from, b.from_port, BYTES_LITERAL("back")), 0);
                assert_int_equal(os_run(os), 0);
                assert_int_equal(a.size, 4);
                os_udp_close(&a.udp);
                os_udp_close(&b.udp);
                assert_null(b.udp);
        }
        os_free(&os);
}

static void send_plain(uint16_t port, size_t size)
{
        static uint8_t data[4096];
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(sendto(fd, data, size, 0, (struct sockaddr *)&at, sizeof at), size);
        close(fd);
}

TEST(udp, drops_what_is_too_large_and_nothing_else_G17)
{
        struct mailbox m;
        struct os *os;

        assert_int_equal(os_real_new(&os), 0);
        open_mailbox(&m, os, (struct os_udp_options){.address = "127.0.0.1"});
        send_plain(m.port, OS_DATAGRAM_SIZE_MAX + 1);
        send_plain(m.port, 4096);
        send_plain(m.port, 0);
        assert_int_equal(os_run(os), 0);
        assert_int_equal(m.count, 1);
        assert_int_equal(m.size, 0);
        send_plain(m.port, OS_DATAGRAM_SIZE_MAX);
        assert_int_equal(os_run(os), 0);
        assert_int_equal(m.count, 2);
        assert_int_equal(m.size, OS_DATAGRAM_SIZE_MAX);
        os_udp_close(&m.udp);
        os_free(&os);
}

TEST(udp, of_a_group_reaches_sockets_that_share_its_port)
{
        struct os_udp_options options = {
                .address = "0.0.0.0", .group = "239.255.77.1", .interface = "127.0.0.1"};
        struct mailbox a, b;
        struct os *os;

        assert_int_equal(os_real_new(&os), 0);
        open_mailbox(&a, os, options);
        options.port = a.port;
        open_mailbox(&b, os, options);
        assert_int_equal(os_udp_send(a.udp, options.group, options.port, BYTES_LITERAL("here")), 0);
        while (!a.count || !b.count)
                assert_int_equal(os_run(os), 0);
        assert_string_equal(b.from, "127.0.0.1");
        assert_int_equal(b.size, 4);
        os_udp_close(&a.udp);
        os_udp_close(&b.udp);
        os_free(&os);
}

/* An address of IPv6 of a network with multicast; false: this machine has none. */
static bool find_network(char ret[OS_ADDRESS_SIZE])
{
        struct ifaddrs *all;
        bool is_found = false;

        assert_int_equal(getifaddrs(&all), 0);
        for (const struct ifaddrs *at = all; at && !is_found; at = at->ifa_next) {
                const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)at->ifa_addr;

                if (v6 && v6->sin6_family == AF_INET6 && (at->ifa_flags & IFF_MULTICAST) &&
                        (at->ifa_flags & IFF_UP) && !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
                        is_found = inet_ntop(AF_INET6, &v6->sin6_addr, ret, OS_ADDRESS_SIZE) != NULL;
        }
        freeifaddrs(all);
        return is_found;
}

TEST(udp, of_a_group_of_ipv6_stays_on_its_interface)
{
        char address[OS_ADDRESS_SIZE];
        struct os_udp_options options = {.address = "::", .group = "ff05::77:1", .interface = address};
        struct mailbox a, b;
        struct os *os;

        if (!find_network(address))
                skip();
        assert_int_equal(os_real_new(&os), 0);
        open_mailbox(&a, os, options);
        options.port = a.port;
        open_mailbox(&b, os, options);
        assert_int_equal(os_udp_send(a.udp, options.group, options.port, BYTES_LITERAL("here")), 0);
        while (!a.count || !b.count)
                assert_int_equal(os_run(os), 0);
        assert_string_equal(b.from, address);
        assert_int_equal(b.size, 4);
        os_udp_close(&a.udp);
        os_udp_close(&b.udp);
        os_free(&os);
}

TEST(udp, refuses_addresses_that_are_none_and_a_port_in_use)
{
        struct os_udp_options options = {.address = "127.0.0.1"};
        struct mailbox m;
        struct os_udp *udp = NULL;
        struct os *os;
        uint16_t port;

        assert_int_equal(os_real_new(&os), 0);
        open_mailbox(&m, os, options);
        options.port = m.port;
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_IN_USE);
        options = (struct os_udp_options){.address = "localhost"};
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_INVALID);
        options = (struct os_udp_options){.address = "0.0.0.0", .group = "10.0.0.1"};
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_INVALID);
        options = (struct os_udp_options){
                .address = "0.0.0.0", .group = "239.1.1.1", .interface = "203.0.113.9"};
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_INVALID);
        options = (struct os_udp_options){.address = "::", .group = "ff05::1", .interface = "2001:db8::9"};
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_INVALID);
        options = (struct os_udp_options){.address = "::", .group = "fd05::1"};
        assert_int_equal(os_udp_open(os, &options, on_datagram, &m, &udp, &port), OS_ADDRESS_INVALID);
        assert_null(udp);
        assert_int_equal(os_udp_send(m.udp, "somewhere", 1, BYTES_LITERAL("x")), OS_ADDRESS_INVALID);
        os_udp_close(&m.udp);
        os_udp_close(&m.udp); /* harmless */
        os_free(&os);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(connect, carries_what_was_queued_before_it_was_established_and_much_more_both_ways),
                TEST_ROW(connect, an_end_in_order_has_no_problem_and_sends_what_is_queued),
                TEST_ROW(connect, may_stop_reading_before_it_is_established),
                TEST_ROW(connect, is_watched_and_what_was_accepted_is_on_order),
                TEST_ROW(connect, is_refused_by_a_port_without_a_listener),
                TEST_ROW(connect, tells_what_the_kernel_refuses_at_once_as_it_tells_the_rest),
                TEST_ROW(connect, wants_an_IP_literal),
                TEST_ROW(connect, that_is_closed_before_it_is_established_just_ends),
                TEST_ROW(connect, ends_with_its_machine_while_it_is_being_established),
                TEST_ROW(connect, to_a_peer_that_does_not_answer_is_given_up_in_time),
                TEST_ROW(connect, ends_when_the_peer_closes_its_half_after_all_that_is_queued),
                TEST_ROW(connect, tells_a_reset_from_an_end),
                TEST_ROW(resolve, finds_addresses_or_says_why_not),
                TEST_ROW(resolve, that_is_dropped_is_never_heard_of),
                TEST_ROW(udp, carries_a_datagram_with_its_senders_address),
                TEST_ROW(udp, drops_what_is_too_large_and_nothing_else_G17),
                TEST_ROW(udp, of_a_group_reaches_sockets_that_share_its_port),
                TEST_ROW(udp, of_a_group_of_ipv6_stays_on_its_interface),
                TEST_ROW(udp, refuses_addresses_that_are_none_and_a_port_in_use),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
