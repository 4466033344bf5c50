/* Sockets. A connection's bytes go straight to the socket as long as that takes them; what it leaves is
 * copied into a queue, and one write at a time is with libuv, borrowed from a second buffer, so that the
 * queue can grow meanwhile.
 *
 * Closing has three parts. The queue is sent; then our half is shut, and what the peer still sends is read
 * and dropped for a moment: a socket that is closed with unread bytes resets the connection, and the peer
 * would lose the answer it has not read yet. Then the socket goes, and on_close is called. */
#include "os/real.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/sm.h"

enum { NET_BACKLOG = 511, NET_PEER_SIZE = 64, NET_PIECES_AT_ONCE = 16, NET_BUFFER_KEPT_MAX = 256 * 1024 };
/* A peer that takes nothing while its queue grows beyond this is given up. The owners of connections stop
 * long before. */
#define NET_QUEUE_SIZE_MAX GIB
#define NET_FLUSH_US_MAX   ((uint64_t)5000000)
#define NET_LINGER_US_MAX  ((uint64_t)500000)

enum conn_state { CONN_OFFERED, CONN_OPEN, CONN_FLUSHING, CONN_LINGERING, CONN_CLOSED };

static const struct sm_state conn_states[] = {
        [CONN_OFFERED] = {"offered", TO(CONN_OPEN) | TO(CONN_CLOSED)},
        [CONN_OPEN] = {"open", TO(CONN_FLUSHING) | TO(CONN_CLOSED)},
        [CONN_FLUSHING] = {"flushing", TO(CONN_LINGERING) | TO(CONN_CLOSED)},
        [CONN_LINGERING] = {"lingering", TO(CONN_CLOSED)},
        [CONN_CLOSED] = {"closed", 0},
};

struct os_conn {
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
        uv_write_t write;
        uv_shutdown_t shutdown;
        struct os_timer timer; /* bounds flushing and lingering */
        char peer[NET_PEER_SIZE];
};

struct os_listener {
        struct real *real;
        uv_tcp_t tcp;
        os_listener_accept *on_accept;
        void *arg;
};

static void start_reading(struct os_conn *c);

static uv_stream_t *stream_of(struct os_conn *c)
{
        return (uv_stream_t *)&c->tcp;
}

/* ---- end of a connection ---- */

static void on_closed(uv_handle_t *handle)
{
        struct os_conn *c = handle->data;

        assert(c->state == CONN_CLOSED);
        c->real->has_run = true;
        if (c->handler.on_close)
                c->handler.on_close(c->arg);
        list_remove(&c->link);
        buffer_fini(&c->queue);
        buffer_fini(&c->sending);
        free(c);
}

/* Whatever is queued is lost. */
static void conn_end(struct os_conn *c)
{
        if (c->state == CONN_CLOSED)
                return;
        sm_move(conn_states, &c->state, CONN_CLOSED);
        os_timer_stop(&c->timer);
        uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_late(struct os_timer *timer)
{
        conn_end(timer->arg);
}

static void on_shut(uv_shutdown_t *request, int status)
{
        struct os_conn *c = request->data;

        if (status < 0)
                conn_end(c);
}

/* The queue is sent. */
static void linger(struct os_conn *c)
{
        assert(os_conn_queued(c) == 0);
        if (c->has_ended) { /* nothing can be unread */
                conn_end(c);
                return;
        }
        sm_move(conn_states, &c->state, CONN_LINGERING);
        c->shutdown.data = c;
        if (uv_shutdown(&c->shutdown, stream_of(c), on_shut)) {
                conn_end(c);
                return;
        }
        os_timer_start(&c->real->os, &c->timer, NET_LINGER_US_MAX);
        start_reading(c);
}

void os_conn_close(struct os_conn *c)
{
        if (c->state == CONN_OFFERED) { /* nobody takes it */
                conn_end(c);
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

/* ---- sending ---- */

static void on_sent(uv_write_t *request, int status);

/* Hands what has gathered to libuv. */
static void send_queue(struct os_conn *c)
{
        struct buffer empty = c->sending;
        uv_buf_t piece;

        assert(!c->is_sending);
        assert(c->queue.size > 0);
        buffer_clear(&empty);
        c->sending = c->queue;
        c->queue = empty;
        piece = uv_buf_init((char *)c->sending.data, (unsigned)c->sending.size);
        c->write.data = c;
        if (uv_write(&c->write, stream_of(c), &piece, 1, on_sent)) {
                conn_end(c);
                return;
        }
        c->is_sending = true;
}

static void on_sent(uv_write_t *request, int status)
{
        struct os_conn *c = request->data;

        c->is_sending = false;
        if (c->state == CONN_CLOSED)
                return;
        if (status < 0) {
                conn_end(c);
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

/* What the socket takes at once; the rest in *ret_left. False when the connection is broken. */
static bool send_now(struct os_conn *c, const struct bytes *pieces, unsigned n, size_t *ret_sent)
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
                        return true;
                if (r < 0)
                        return false;
                *ret_sent += (size_t)r;
                if ((size_t)r < size)
                        return true;
                pieces += count;
                n -= count;
        }
        return true;
}

void os_conn_send(struct os_conn *c, const struct bytes *pieces, unsigned n)
{
        size_t sent = 0, part;
        unsigned i;

        assert(c->state != CONN_OFFERED);
        if (c->state != CONN_OPEN)
                return;
        if (!c->is_sending && !send_now(c, pieces, n, &sent)) {
                conn_end(c);
                return;
        }
        for (i = 0; i < n; i++) {
                part = MIN(sent, pieces[i].size);
                sent -= part;
                if (pieces[i].size > part)
                        buffer_add(&c->queue, pieces[i].data + part, pieces[i].size - part);
        }
        if (c->queue.size > NET_QUEUE_SIZE_MAX)
                conn_end(c);
        else if (c->queue.size && !c->is_sending)
                send_queue(c);
}

size_t os_conn_queued(const struct os_conn *c)
{
        return c->queue.size + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

/* ---- reading ---- */

/* One buffer serves all: it is borrowed by one callback at a time. */
static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
        struct os_conn *c = handle->data;

        (void)size;
        *ret = uv_buf_init(c->real->read_buffer, REAL_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
        struct os_conn *c = stream->data;

        if (size == 0) /* the kernel had nothing after all */
                return;
        if (c->state == CONN_LINGERING) {
                if (size < 0)
                        conn_end(c);
                return;
        }
        assert(c->state == CONN_OPEN);
        if (size == UV_EOF) {
                c->has_ended = true;
                os_conn_close(c);
                return;
        }
        if (size < 0) {
                conn_end(c);
                return;
        }
        c->real->has_run = true;
        c->handler.on_data(c->arg, bytes_of(buf->base, (size_t)size));
}

static void start_reading(struct os_conn *c)
{
        int r = uv_read_start(stream_of(c), on_alloc, on_read);

        if (r && r != UV_EALREADY)
                conn_end(c);
}

void os_conn_read_stop(struct os_conn *c)
{
        if (c->state == CONN_OPEN)
                uv_read_stop(stream_of(c));
}

void os_conn_read_start(struct os_conn *c)
{
        if (c->state == CONN_OPEN)
                start_reading(c);
}

/* ---- birth of a connection ---- */

void os_conn_accept(struct os_conn *c, const struct os_conn_handler *handler, void *arg)
{
        assert(handler->on_data);
        assert(c->state == CONN_OFFERED);
        c->handler = *handler;
        c->arg = arg;
        sm_move(conn_states, &c->state, CONN_OPEN);
        start_reading(c);
}

const char *os_conn_peer(const struct os_conn *c)
{
        return c->peer;
}

static void note_peer(struct os_conn *c)
{
        struct sockaddr_storage address;
        char text[INET6_ADDRSTRLEN] = "?";
        int size = sizeof address;
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;

        if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&address, &size)) {
                snprintf(c->peer, sizeof c->peer, "gone"); /* before it was accepted */
                return;
        }
        if (address.ss_family == AF_INET6) {
                inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
                snprintf(c->peer, sizeof c->peer, "[%s]:%u", text, ntohs(v6->sin6_port));
        } else {
                inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
                snprintf(c->peer, sizeof c->peer, "%s:%u", text, ntohs(v4->sin_port));
        }
}

static void on_connection(uv_stream_t *server, int status)
{
        struct os_listener *l = server->data;
        struct os_conn *c;

        if (status < 0) /* one that could not be accepted; libuv goes on listening */
                return;
        l->real->has_run = true;
        c = MEMORY_NEW(struct os_conn);
        c->real = l->real;
        c->timer = (struct os_timer){.fn = on_late, .arg = c};
        list_add_last(&l->real->conns, &c->link);
        if (uv_tcp_init(&l->real->loop, &c->tcp))
                fault_exit(EXIT_CODE_BUG, "the loop takes no more handles");
        c->tcp.data = c;
        if (uv_accept(server, stream_of(c))) {
                conn_end(c);
                return;
        }
        /* Answers are whole when they are sent: waiting for more only delays them. That it cannot be set on a
         * socket that is gone already will show at the first read. */
        (void)uv_tcp_nodelay(&c->tcp, 1);
        note_peer(c);
        l->on_accept(l->arg, c);
}

/* ---- listening ---- */

static void on_listener_closed(uv_handle_t *handle)
{
        free(handle->data);
}

static int listener_open(struct os_listener *l, const char *address, uint16_t port, uint16_t *ret_port)
{
        struct sockaddr_storage at;
        int size = sizeof at, r;

        if (uv_ip4_addr(address, port, (struct sockaddr_in *)&at) &&
                uv_ip6_addr(address, port, (struct sockaddr_in6 *)&at))
                return OS_ADDRESS_INVALID;
        r = uv_tcp_bind(&l->tcp, (const struct sockaddr *)&at, 0);
        if (!r)
                r = uv_listen((uv_stream_t *)&l->tcp, NET_BACKLOG, on_connection);
        if (!r)
                r = uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&at, &size);
        if (r == UV_EADDRINUSE)
                return OS_ADDRESS_IN_USE;
        if (r == UV_EADDRNOTAVAIL || r == UV_EAFNOSUPPORT)
                return OS_ADDRESS_INVALID;
        if (r)
                return fault_raise(r);
        *ret_port = ntohs(at.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&at)->sin6_port
                                                   : ((const struct sockaddr_in *)&at)->sin_port);
        return 0;
}

static int real_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept,
        void *arg, struct os_listener **ret, uint16_t *ret_port)
{
        struct real *real = real_of(os);
        struct os_listener *l = MEMORY_NEW(struct os_listener);
        int r;

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
                os_listener_close(&l);
                return r;
        }
        *ret = l;
        return 0;
}

void os_listener_close(struct os_listener **listener)
{
        if (*listener)
                uv_close((uv_handle_t *)&(*listener)->tcp, on_listener_closed);
        *listener = NULL;
}

const struct os_net_table real_net_table = {.listen = real_listen};

void real_net_fini(struct real *real)
{
        LIST_EACH (at, &real->conns)
                conn_end(CONTAINER_OF(at, struct os_conn, link));
        while (!list_is_empty(&real->conns))
                uv_run(&real->loop, UV_RUN_NOWAIT);
}
