/* One connection: bytes in, bytes out, and which protocol they are.
 *
 * Everything below `connection_receive` and `send_out` is the wire, everything above is plain bytes; TLS is
 * in between, and ALPN chooses what else `sniff` does. */
#include "gateway/room.h"

#include <stdio.h>
#include <stdlib.h>

static const struct bytes h2_preface = {(const uint8_t *)"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24};

static const struct sm_state connection_states[] = {
        [CONNECTION_HANDSHAKING] = {"handshaking", TO(CONNECTION_SNIFFING) | TO(CONNECTION_CLOSING)},
        [CONNECTION_SNIFFING] = {"sniffing",
                TO(CONNECTION_HTTP1) | TO(CONNECTION_HTTP2) | TO(CONNECTION_CLOSING)},
        [CONNECTION_HTTP1] = {"http1", TO(CONNECTION_CLOSING)},
        [CONNECTION_HTTP2] = {"http2", TO(CONNECTION_CLOSING)},
        [CONNECTION_CLOSING] = {"closing", 0},
};

static uint64_t now_us(const struct connection *c)
{
        return os_turn_time(c->gateway->os).monotonic_us;
}

/* Books the bytes of the connection itself; its requests book their own. */
static void account(struct connection *c)
{
        uint64_t size =
                c->in.size + c->out.size + (c->state == CONNECTION_CLOSING ? 0 : os_conn_queued(c->conn));

        if (c->tls)
                size += tls_session_memory(c->tls);

        c->gateway->stats.buffered_bytes += size - c->accounted;
        c->accounted = size;
}

void connection_touch(struct connection *c)
{
        if (c->is_dirty)
                return;
        c->is_dirty = true;
        list_add_last(c->is_bulk ? &c->gateway->bulk : &c->gateway->dirty, &c->dirty);
        os_turn_again(c->gateway->os);
}

void connection_close(struct connection *c, const char *why)
{
        if (c->state == CONNECTION_CLOSING)
                return;
        if (why && limits_may_tell(c->gateway))
                gateway_fact(c->gateway, FACT_connection_failed, "%s: %s", c->peer, why);
        sm_move(connection_states, &c->state, CONNECTION_CLOSING);
        buffer_clear(&c->out);
        secure_end(c);
        os_conn_close(c->conn);
}

void connection_pause(struct connection *c, bool is_paused)
{
        if (c->is_paused == is_paused || c->state == CONNECTION_CLOSING)
                return;
        c->is_paused = is_paused;
        if (is_paused)
                os_conn_read_stop(c->conn);
        else
                os_conn_read_start(c->conn);
}

/* ---- bytes in ---- */

/* True when the protocol is known. A beginning of the preface that could still become either waits for more.
 */
static bool sniff(struct connection *c)
{
        size_t size = MIN(c->in.size, h2_preface.size);

        if (!c->tls && secure_refuse_tls(c))
                return false;
        if (memcmp(c->in.data, h2_preface.data, size) != 0) {
                if (c->must_be_h2) {
                        connection_close(c, "ALPN said HTTP/2, and something else came");
                        return false;
                }
                sm_move(connection_states, &c->state, CONNECTION_HTTP1);
                h1_new(c);
                return true;
        }
        if (size < h2_preface.size)
                return false;
        sm_move(connection_states, &c->state, CONNECTION_HTTP2);
        h2_new(c);
        return true;
}

static void receive_h2(struct connection *c, struct bytes data)
{
        if (!h2_receive(c, data))
                c->is_doomed = true; /* what explains the end goes out first */
        connection_touch(c);
}

void connection_begin(struct connection *c, const char *alpn)
{
        sm_move(connection_states, &c->state, CONNECTION_SNIFFING);
        c->began_us = now_us(c);
        c->must_be_h2 = strcmp(alpn, "h2") == 0;
        if (strcmp(alpn, "http/1.1") == 0) {
                sm_move(connection_states, &c->state, CONNECTION_HTTP1);
                h1_new(c);
        }
}

void connection_receive(struct connection *c, struct bytes data)
{
        c->received_us = now_us(c);
        if (c->state == CONNECTION_SNIFFING) {
                buffer_add_bytes(&c->in, data);
                if (!sniff(c))
                        return;
                if (c->state == CONNECTION_HTTP2) {
                        receive_h2(c, buffer_bytes(&c->in));
                        buffer_fini(&c->in);
                        return;
                }
        } else if (c->state == CONNECTION_HTTP2) {
                receive_h2(c, data);
                return;
        } else {
                buffer_add_bytes(&c->in, data);
        }
        gateway_lend_out(c->gateway, &c->out);
        h1_receive(c);
        account(c);
        connection_touch(c);
}

static void on_data(void *arg, struct bytes data)
{
        struct connection *c = arg;

        c->gateway->stats.received_bytes += data.size;
        if (c->state == CONNECTION_CLOSING || c->is_doomed || c->linger_by_us)
                return;
        if (c->gateway->speaks_tls)
                secure_receive(c, data);
        else
                connection_receive(c, data);
        if (c->state == CONNECTION_HANDSHAKING)
                account(c);
}

/* ---- bytes out ---- */

static void send_out(struct connection *c)
{
        struct bytes piece = buffer_bytes(&c->out);

        if (c->gateway->speaks_tls) {
                secure_send(c);
        } else if (piece.size) {
                c->gateway->stats.sent_bytes += piece.size;
                os_conn_send(c->conn, &piece, 1);
                buffer_clear(&c->out);
        }
        c->is_clogged = os_conn_queued(c->conn) > CLOGGED_SIZE;
        gateway_take_back_out(c->gateway, &c->out);
}

/* Lets each producer that asked for it run once. Those that ask again wait for the next turn. */
static void produce(struct connection *c)
{
        struct list now;

        if (list_is_empty(&c->wake))
                return;
        list_init(&now);
        list_add_last(&c->wake, &now); /* everything before this mark is ours */
        while (c->wake.next != &now) {
                struct gateway_request *r = CONTAINER_OF(c->wake.next, struct gateway_request, wake);

                list_remove(&r->wake);
                r->is_in_wake = false;
                if (r->on_writable)
                        r->on_writable(r);
        }
        list_remove(&now);
}

/* HTTP/1.1 has no flow control of its own: there is room when the socket has some. */
void connection_wake_waiting(struct connection *c)
{
        if (c->state == CONNECTION_CLOSING)
                return;
        LIST_EACH (at, &c->requests) {
                struct gateway_request *r = CONTAINER_OF(at, struct gateway_request, link);

                if (r->is_waiting_for_room && request_room(r) > 0)
                        request_wake(r);
        }
}

/* Nothing more will be produced after what there is now. */
static bool is_over(const struct connection *c)
{
        if (c->is_doomed || (c->state == CONNECTION_HTTP2 && h2_is_over(c)))
                return true;
        return c->gateway->is_closing && list_is_empty(&c->requests) && !c->linger_by_us;
}

static bool wants_more(const struct connection *c)
{
        if (!list_is_empty(&c->wake))
                return true;
        return c->state == CONNECTION_HTTP2 ? h2_wants_more(c)
                                            : c->state == CONNECTION_HTTP1 && h1_wants_more(c);
}

void connection_flush(struct connection *c)
{
        bool is_last;

        if (c->state == CONNECTION_CLOSING)
                return;
        gateway_lend_out(c->gateway, &c->out);
        if (c->state == CONNECTION_HTTP1)
                h1_receive(c);
        if (!c->is_clogged && !c->is_bulk && !list_is_empty(&c->wake)) {
                /* What producers make may be much: they run behind everybody who only waits for an answer,
                 * mostly in this turn. */
                c->is_bulk = true;
                account(c);
                connection_touch(c);
                return;
        }
        if (!c->is_clogged) {
                produce(c);
                if (c->state == CONNECTION_HTTP2)
                        h2_pull(c);
        }
        c->is_bulk = c->out.size >= STREAM_OUT_LOW;
        is_last = is_over(c);
        if (!c->is_clogged || is_last)
                send_out(c);
        account(c);
        if (is_last)
                connection_close(c, NULL);
        if (c->state == CONNECTION_CLOSING)
                return;
        if (c->state == CONNECTION_HTTP1)
                connection_wake_waiting(c);
        if (!c->is_clogged && wants_more(c))
                connection_touch(c);
}

static void on_drained(void *arg)
{
        struct connection *c = arg;

        c->is_clogged = false;
        c->progress_us = now_us(c);
        connection_touch(c);
}

/* ---- life ---- */

static void on_close(void *arg)
{
        struct connection *c = arg;
        struct gateway *g = c->gateway;

        if (c->state != CONNECTION_CLOSING)
                sm_move(connection_states, &c->state, CONNECTION_CLOSING);
        secure_leave(c);
        if (c->is_dirty)
                list_remove(&c->dirty);
        c->is_dirty = true; /* never again on the list */
        while (!list_is_empty(&c->requests)) {
                struct gateway_request *r = CONTAINER_OF(c->requests.next, struct gateway_request, link);

                request_close(r);
        }
        h1_free(c);
        h2_free(c);
        list_remove(&c->link);
        crowd_leave(&c->crowd);
        g->stats.connections--;
        g->stats.buffered_bytes -= c->accounted;
        tls_session_free(&c->tls);
        buffer_fini(&c->in);
        buffer_fini(&c->out);
        free(c);
        gateway_check_closed(g);
}

static const struct os_conn_handler handler = {
        .on_data = on_data, .on_drained = on_drained, .on_close = on_close};

void connection_new(struct gateway *g, struct os_conn *conn, struct crowd *crowd)
{
        struct connection *c = MEMORY_NEW(struct connection);

        c->gateway = g;
        c->conn = conn;
        c->crowd = crowd;
        list_init(&c->requests);
        list_init(&c->wake);
        list_init(&c->dirty);
        list_init(&c->handshake);
        list_init(&c->hello);
        c->state = g->speaks_tls ? CONNECTION_HANDSHAKING : CONNECTION_SNIFFING;
        list_add_last(&g->connections, &c->link);
        snprintf(c->peer, sizeof c->peer, "%s", os_conn_peer(conn));
        c->began_us = c->received_us = c->progress_us = now_us(c);
        g->stats.connections++;
        g->stats.connections_total++;
        os_conn_accept(conn, &handler, c);
        if (g->speaks_tls)
                secure_begin(c);
        account(c);
}

static void tick_closing(struct connection *c, uint64_t now)
{
        uint64_t since_us = now - (c->gateway->close_by_us - CLOSE_TIMEOUT_US);

        if (since_us >= CLOSE_TIMEOUT_US) {
                connection_close(c, NULL);
                return;
        }
        LIST_EACH_SAFE (at, &c->requests) {
                struct gateway_request *r = CONTAINER_OF(at, struct gateway_request, link);

                if (r->is_call) {
                        grpc_stop(r, since_us >= STOP_GRACE_US);
                } else if (r->state == REQUEST_STREAMING && since_us >= STREAM_STOP_US) {
                        if (c->state == CONNECTION_HTTP1) {
                                connection_close(c, NULL);
                                return;
                        }
                        h2_reset(r, 0);
                }
        }
        connection_touch(c);
}

/* A queue that is filled while it is drained is seen as progress when it is ever smaller than before. */
static void note_progress(struct connection *c, uint64_t now)
{
        size_t queued = os_conn_queued(c->conn);

        if (queued == 0 || queued < c->queued_seen)
                c->progress_us = now;
        c->queued_seen = queued;
}

void connection_tick(struct connection *c, uint64_t now)
{
        uint64_t stuck_us;

        if (c->state == CONNECTION_CLOSING)
                return;
        note_progress(c, now);
        if (c->linger_by_us) {
                if (now >= c->linger_by_us)
                        connection_close(c, NULL);
                return;
        }
        if (c->gateway->is_closing) {
                tick_closing(c, now);
                return;
        }
        /* Memory is short: whoever takes nothing gives back soon what is kept for it (G18). */
        stuck_us = gateway_is_short_of_memory(c->gateway) ? STUCK_TIMEOUT_US : TAKE_NOTHING_US;
        if (now - c->progress_us >= stuck_us)
                connection_close(c, "the client takes nothing of what it asked for");
        else if (c->state == CONNECTION_HANDSHAKING && now - c->began_us >= HANDSHAKE_TIMEOUT_US)
                connection_close(c, "no TLS handshake within 10 s");
        else if (c->state == CONNECTION_SNIFFING && now - c->began_us >= HEAD_TIMEOUT_US)
                connection_close(c, "no request within 10 s");
        else if (c->state == CONNECTION_HTTP1)
                h1_tick(c, now);
        else if (c->state == CONNECTION_HTTP2)
                h2_tick(c, now);
}
