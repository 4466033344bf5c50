/* Sockets. A connection's bytes go straight to the socket as long as that takes them; what it leaves is
 * copied into a queue, and one write at a time is with libuv, borrowed from a second buffer, so that the
 * queue can grow meanwhile.
 *
 * Closing has three parts. The queue is sent; then our half is shut, and what the peer still sends is read
 * and dropped for a moment: a socket that is closed with unread bytes resets the connection, and the peer
 * would lose the answer it has not read yet. Then the socket goes, and on_close is called. */
#include "os/real.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/sm.h"

enum { NET_WATCH_IDLE_S = 5, NET_WATCH_PROBE_S = 2 };
enum { NET_BACKLOG = 511, NET_PEER_SIZE = 64, NET_PIECES_AT_ONCE = 16, NET_BUFFER_KEPT_MAX = 256 * 1024 };
/* A peer that takes nothing while its queue grows beyond this is given up. The owners of connections stop
 * long before. */
#define NET_QUEUE_SIZE_MAX GIB
#define NET_FLUSH_US_MAX   ((uint64_t)5000000)
#define NET_LINGER_US_MAX  ((uint64_t)500000)

enum conn_state { CONN_OFFERED, CONN_CONNECTING, CONN_OPEN, CONN_FLUSHING, CONN_LINGERING, CONN_CLOSED };

static const struct sm_state conn_states[] = {
        [CONN_OFFERED] = {"offered", TO(CONN_CONNECTING) | TO(CONN_OPEN) | TO(CONN_CLOSED)},
        [CONN_CONNECTING] = {"connecting", TO(CONN_OPEN) | TO(CONN_CLOSED)},
        [CONN_OPEN] = {"open", TO(CONN_FLUSHING) | TO(CONN_CLOSED)},
        [CONN_FLUSHING] = {"flushing", TO(CONN_LINGERING) | TO(CONN_CLOSED)},
        [CONN_LINGERING] = {"lingering", TO(CONN_CLOSED)},
        [CONN_CLOSED] = {"closed", 0},
};

struct real_conn {
        struct os_conn conn;
        struct real *real;
        struct list link;
        uv_tcp_t tcp;
        enum conn_state state;
        struct os_conn_handler handler;
        void *arg;
        struct buffer queue;   /* not yet with libuv */
        struct buffer sending; /* with libuv */
        bool is_sending;
        bool has_ended; /* the peer sends no more */
        bool is_read_stopped;
        int problem; /* of libuv; 0: none */
        uv_connect_t connect;
        uv_write_t write;
        uv_shutdown_t shutdown;
        struct os_timer timer; /* bounds connecting, flushing and lingering */
        char peer[NET_PEER_SIZE];
};

struct real_listener {
        struct os_listener listener;
        struct real *real;
        uv_tcp_t tcp;
        os_listener_accept *on_accept;
        void *arg;
};

static void start_reading(struct real_conn *c);
static size_t conn_queued(const struct os_conn *conn);

static struct real_conn *real_conn_of(const struct os_conn *conn)
{
        return CONTAINER_OF((struct os_conn *)(uintptr_t)conn, struct real_conn, conn);
}

static uv_stream_t *stream_of(struct real_conn *c)
{
        return (uv_stream_t *)&c->tcp;
}

/* ---- end of a connection ---- */

static void on_closed(uv_handle_t *handle)
{
        struct real_conn *c = handle->data;

        assert(c->state == CONN_CLOSED);
        c->real->has_run = true;
        if (c->handler.on_close)
                c->handler.on_close(c->arg);
        list_remove(&c->link);
        buffer_fini(&c->queue);
        buffer_fini(&c->sending);
        free(c);
}

/* Whatever is queued is lost. `problem` is libuv's, 0 for an end in order. */
static void conn_end(struct real_conn *c, int problem)
{
        assert(problem <= 0);
        if (c->state == CONN_CLOSED)
                return;
        c->problem = problem;
        sm_move(conn_states, &c->state, CONN_CLOSED);
        os_timer_stop(&c->timer);
        uv_close((uv_handle_t *)&c->tcp, on_closed);
}

/* That the peer goes on sending after an answer is no failure of ours. */
static void on_late(struct os_timer *timer)
{
        struct real_conn *c = timer->arg;

        conn_end(c, c->state == CONN_LINGERING ? 0 : UV_ETIMEDOUT);
}

static void on_shut(uv_shutdown_t *request, int status)
{
        struct real_conn *c = request->data;

        if (status < 0)
                conn_end(c, status);
}

/* The queue is sent. */
static void linger(struct real_conn *c)
{
        assert(conn_queued(&c->conn) == 0);
        if (c->has_ended) { /* nothing can be unread */
                conn_end(c, 0);
                return;
        }
        sm_move(conn_states, &c->state, CONN_LINGERING);
        c->shutdown.data = c;
        if (uv_shutdown(&c->shutdown, stream_of(c), on_shut)) {
                conn_end(c, UV_ENOTCONN);
                return;
        }
        os_timer_start(&c->real->os, &c->timer, NET_LINGER_US_MAX);
        start_reading(c);
}

static void close_conn(struct real_conn *c)
{
        if (c->state == CONN_OFFERED || c->state == CONN_CONNECTING) { /* nobody takes it, or gives it */
                conn_end(c, 0);
                return;
        }
        if (c->state != CONN_OPEN)
                return;
        sm_move(conn_states, &c->state, CONN_FLUSHING);
        uv_read_stop(stream_of(c));
        if (c->is_sending)
                os_timer_start(&c->real->os, &c->timer, NET_FLUSH_US_MAX);
        else
                linger(c);
}

static void conn_close(struct os_conn *conn)
{
        close_conn(real_conn_of(conn));
}

/* ---- sending ---- */

static void on_sent(uv_write_t *request, int status);

/* Hands what has gathered to libuv. */
static void send_queue(struct real_conn *c)
{
        struct buffer empty = c->sending;
        uv_buf_t piece;
        int r;

        assert(!c->is_sending);
        assert(c->queue.size > 0);
        buffer_clear(&empty);
        c->sending = c->queue;
        c->queue = empty;
        piece = uv_buf_init((char *)c->sending.data, (unsigned)c->sending.size);
        c->write.data = c;
        r = uv_write(&c->write, stream_of(c), &piece, 1, on_sent);
        if (r) {
                conn_end(c, r);
                return;
        }
        c->is_sending = true;
}

static void on_sent(uv_write_t *request, int status)
{
        struct real_conn *c = request->data;

        c->is_sending = false;
        if (c->state == CONN_CLOSED)
                return;
        if (status < 0) {
                conn_end(c, status);
                return;
        }
        if (c->sending.capacity > NET_BUFFER_KEPT_MAX)
                buffer_fini(&c->sending);
        if (c->queue.size) {
                send_queue(c);
                return;
        }
        if (c->state == CONN_FLUSHING) {
                linger(c);
                return;
        }
        c->real->has_run = true;
        if (c->handler.on_drained)
                c->handler.on_drained(c->arg);
}

/* What the socket takes at once. 0, or libuv's problem when the connection is broken. */
static int send_now(struct real_conn *c, const struct bytes *pieces, unsigned n, size_t *ret_sent)
{
        uv_buf_t bufs[NET_PIECES_AT_ONCE];
        size_t size;
        unsigned i, count;
        int r;

        *ret_sent = 0;
        while (n) {
                size = 0;
                count = MIN(n, (unsigned)NET_PIECES_AT_ONCE);
                for (i = 0; i < count; i++) {
                        bufs[i] = uv_buf_init((char *)(uintptr_t)pieces[i].data, (unsigned)pieces[i].size);
                        size += pieces[i].size;
                }
                r = size ? uv_try_write(stream_of(c), bufs, count) : 0;
                if (r == UV_EAGAIN)
                        return 0;
                if (r < 0)
                        return r;
                *ret_sent += (size_t)r;
                if ((size_t)r < size)
                        return 0;
                pieces += count;
                n -= count;
        }
        return 0;
}

static void conn_send(struct os_conn *conn, const struct bytes *pieces, unsigned n)
{
        struct real_conn *c = real_conn_of(conn);
        size_t sent = 0, part;
        unsigned i;
        int r;

        assert(c->state != CONN_OFFERED);
        if (c->state != CONN_OPEN && c->state != CONN_CONNECTING)
                return;
        if (c->state == CONN_OPEN && !c->is_sending) {
                r = send_now(c, pieces, n, &sent);
                if (r) {
                        conn_end(c, r);
                        return;
                }
        }
        for (i = 0; i < n; i++) {
                part = MIN(sent, pieces[i].size);
                sent -= part;
                if (pieces[i].size > part)
                        buffer_add(&c->queue, pieces[i].data + part, pieces[i].size - part);
        }
        if (c->queue.size > NET_QUEUE_SIZE_MAX)
                conn_end(c, UV_ENOBUFS);
        else if (c->queue.size && !c->is_sending && c->state == CONN_OPEN)
                send_queue(c);
}

static size_t conn_queued(const struct os_conn *conn)
{
        const struct real_conn *c = real_conn_of(conn);

        return c->queue.size + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

/* ---- reading ---- */

/* One buffer serves all: it is borrowed by one callback at a time. */
static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
        struct real_conn *c = handle->data;

        (void)size;
        *ret = uv_buf_init(c->real->read_buffer, REAL_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
        struct real_conn *c = stream->data;

        if (size == 0) /* the kernel had nothing after all */
                return;
        if (c->state == CONN_LINGERING) {
                if (size < 0)
                        conn_end(c, 0);
                return;
        }
        assert(c->state == CONN_OPEN);
        if (size == UV_EOF) {
                c->has_ended = true;
                close_conn(c);
                return;
        }
        if (size < 0) {
                conn_end(c, (int)size);
                return;
        }
        c->real->has_run = true;
        c->handler.on_data(c->arg, bytes_of(buf->base, (size_t)size));
}

static void start_reading(struct real_conn *c)
{
        int r = uv_read_start(stream_of(c), on_alloc, on_read);

        if (r && r != UV_EALREADY)
                conn_end(c, r);
}

/* Before a connection is established its handle has no place for this but our own. */
static void conn_read_stop(struct os_conn *conn)
{
        struct real_conn *c = real_conn_of(conn);

        c->is_read_stopped = true;
        if (c->state == CONN_OPEN)
                uv_read_stop(stream_of(c));
}

static void conn_read_start(struct os_conn *conn)
{
        struct real_conn *c = real_conn_of(conn);

        c->is_read_stopped = false;
        if (c->state == CONN_OPEN)
                start_reading(c);
}

/* ---- birth of a connection ---- */

static void conn_accept(struct os_conn *conn, const struct os_conn_handler *handler, void *arg)
{
        struct real_conn *c = real_conn_of(conn);

        assert(c->state == CONN_OFFERED);
        c->handler = *handler;
        c->arg = arg;
        sm_move(conn_states, &c->state, CONN_OPEN);
        start_reading(c);
}

static const char *conn_peer(const struct os_conn *conn)
{
        return real_conn_of(conn)->peer;
}

static const char *conn_problem(const struct os_conn *conn)
{
        int problem = real_conn_of(conn)->problem;

        return problem ? uv_strerror(problem) : NULL;
}

/* An option that cannot be set is one of a socket that is gone: that shows at the first read. */
static void set_option(int fd, int level, int option, int value)
{
        (void)setsockopt(fd, level, option, &value, sizeof value);
}

/* An idle connection is probed by the kernel after WATCH_IDLE_S, then each WATCH_PROBE_S; with the user
 * time-out set, it is that and not a count of probes which ends the connection. */
static void conn_watch(struct os_conn *conn)
{
        struct real_conn *c = real_conn_of(conn);
        uv_os_fd_t fd;

        if (c->state == CONN_CLOSED || uv_fileno((uv_handle_t *)&c->tcp, &fd))
                return;
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, NET_WATCH_IDLE_S);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, NET_WATCH_PROBE_S);
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(OS_SILENCE_US_MAX / 1000));
}

static void note_peer(struct real_conn *c, const struct sockaddr_storage *address)
{
        char text[OS_ADDRESS_SIZE];
        uint16_t port = real_address_text(address, text);

        snprintf(c->peer, sizeof c->peer, address->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, port);
}

static struct real_conn *conn_new(struct real *real)
{
        struct real_conn *c = MEMORY_NEW(struct real_conn);

        c->conn.os = &real->os;
        c->real = real;
        c->timer = (struct os_timer){.fn = on_late, .arg = c};
        list_add_last(&real->conns, &c->link);
        if (uv_tcp_init(&real->loop, &c->tcp))
                fault_exit(EXIT_CODE_BUG, "the loop takes no more handles");
        c->tcp.data = c;
        return c;
}

static void on_connected(uv_connect_t *request, int status)
{
        struct real_conn *c = request->data;

        if (c->state == CONN_CLOSED)
                return;
        if (status < 0) {
                conn_end(c, status);
                return;
        }
        c->real->has_run = true;
        os_timer_stop(&c->timer);
        sm_move(conn_states, &c->state, CONN_OPEN);
        if (!c->is_read_stopped)
                start_reading(c);
        if (c->queue.size && c->state == CONN_OPEN)
                send_queue(c);
        if (c->state == CONN_OPEN && c->handler.on_open)
                c->handler.on_open(c->arg);
}

/* What the kernel refuses at once is told later, like what it refuses later. */
static int real_connect(struct os *os, const char *address, uint16_t port,
        const struct os_conn_handler *handler, void *arg, struct os_conn **ret)
{
        struct sockaddr_storage at;
        struct real_conn *c;
        int r;

        if (!real_address_parse(address, port, &at))
                return OS_ADDRESS_INVALID;
        c = conn_new(real_of(os));
        note_peer(c, &at);
        c->handler = *handler;
        c->arg = arg;
        sm_move(conn_states, &c->state, CONN_CONNECTING);
        c->connect.data = c;
        r = uv_tcp_connect(&c->connect, &c->tcp, (const struct sockaddr *)&at, on_connected);
        if (r) {
                conn_end(c, r);
        } else {
                (void)uv_tcp_nodelay(&c->tcp, 1);
                conn_watch(&c->conn);
                os_timer_start(os, &c->timer, OS_CONNECT_US_MAX);
        }
        *ret = &c->conn;
        return 0;
}

static void on_connection(uv_stream_t *server, int status)
{
        struct real_listener *l = server->data;
        struct sockaddr_storage peer;
        int size = sizeof peer;
        struct real_conn *c;

        if (status < 0) /* one that could not be accepted; libuv goes on listening */
                return;
        l->real->has_run = true;
        c = conn_new(l->real);
        if (uv_accept(server, stream_of(c))) {
                conn_end(c, 0);
                return;
        }
        /* Answers are whole when they are sent: waiting for more only delays them. That it cannot be set on a
         * socket that is gone already will show at the first read. */
        (void)uv_tcp_nodelay(&c->tcp, 1);
        if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&peer, &size))
                snprintf(c->peer, sizeof c->peer, "gone"); /* before it was accepted */
        else
                note_peer(c, &peer);
        l->on_accept(l->arg, &c->conn);
}

/* ---- listening ---- */

static void on_listener_closed(uv_handle_t *handle)
{
        free(handle->data);
}

static int listener_open(struct real_listener *l, const char *address, uint16_t port, uint16_t *ret_port)
{
        struct sockaddr_storage at;
        char text[OS_ADDRESS_SIZE];
        int size = sizeof at, r;

        if (!real_address_parse(address, port, &at))
                return OS_ADDRESS_INVALID;
        r = uv_tcp_bind(&l->tcp, (const struct sockaddr *)&at, 0);
        if (!r)
                r = uv_listen((uv_stream_t *)&l->tcp, NET_BACKLOG, on_connection);
        if (!r)
                r = uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&at, &size);
        if (r)
                return real_bind_result(r);
        *ret_port = real_address_text(&at, text);
        return 0;
}

static int real_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept,
        void *arg, struct os_listener **ret, uint16_t *ret_port)
{
        struct real *real = real_of(os);
        struct real_listener *l = MEMORY_NEW(struct real_listener);
        int r;

        l->listener.os = os;
        l->real = real;
        l->on_accept = on_accept;
        l->arg = arg;
        r = uv_tcp_init(&real->loop, &l->tcp);
        if (r) {
                free(l);
                return fault_raise(r);
        }
        l->tcp.data = l;
        r = listener_open(l, address, port, ret_port);
        if (r) {
                uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
                return r;
        }
        *ret = &l->listener;
        return 0;
}

static void listener_close(struct os_listener *listener)
{
        struct real_listener *l = CONTAINER_OF(listener, struct real_listener, listener);

        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
}

const struct os_net_table real_net_table = {
        .listen = real_listen,
        .listener_close = listener_close,
        .connect = real_connect,
        .conn_accept = conn_accept,
        .conn_watch = conn_watch,
        .conn_send = conn_send,
        .conn_queued = conn_queued,
        .conn_read_stop = conn_read_stop,
        .conn_read_start = conn_read_start,
        .conn_close = conn_close,
        .conn_peer = conn_peer,
        .conn_problem = conn_problem,
        .look_up = real_look_up,
        .udp_open = real_udp_open,
        .udp_send = real_udp_send,
        .udp_close = real_udp_close,
};

void real_net_fini(struct real *real)
{
        LIST_EACH (at, &real->conns)
                conn_end(CONTAINER_OF(at, struct real_conn, link), 0);
        while (!list_is_empty(&real->conns))
                uv_run(&real->loop, UV_RUN_NOWAIT);
}
