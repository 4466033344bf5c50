/* TLS between the socket and what a connection says (G17, G18).
 *
 * What comes is decrypted into memory that all connections share, and handed on in the same call; what a turn
 * has produced is encrypted in one go at its end. A handshake costs an unknown peer nothing and this side a
 * third of a millisecond and some memory, so it has a time limit and their number has one: when that is
 * reached, the oldest of those that dawdle makes room.
 *
 * Who speaks HTTP where TLS is spoken, or TLS where it is not, gets an answer that HTTP clients show: TLS
 * clients of all languages know what it means to see one where a handshake was due. */
#include "gateway/room.h"

#include <stdio.h>

enum { HANDSHAKE_RECORD = 0x16, RESPONSE_SIZE_MAX = 1024 };

static uint64_t now_us(const struct gateway *g)
{
        return os_turn_time(g->os).monotonic_us;
}

/* ---- the wrong protocol ---- */

static void answer_wrong_protocol(
        struct connection *c, const char *code, const char *title, const char *detail)
{
        char body[RESPONSE_SIZE_MAX];
        char head[RESPONSE_SIZE_MAX];
        int body_size = snprintf(body, sizeof body,
                "{\"type\":\"urn:nilo:%s\",\"title\":\"%s\",\"status\":400,\"detail\":\"%s\"}\n", code, title,
                detail);
        int head_size = snprintf(head, sizeof head,
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
                "content-length: %d\r\nconnection: close\r\n\r\n",
                body_size);
        struct bytes pieces[] = {bytes_of(head, (size_t)head_size), bytes_of(body, (size_t)body_size)};

        assert(body_size > 0 && body_size < RESPONSE_SIZE_MAX);
        assert(head_size > 0 && head_size < RESPONSE_SIZE_MAX);
        c->gateway->stats.sent_bytes += pieces[0].size + pieces[1].size;
        os_conn_send(c->conn, pieces, COUNT_OF(pieces));
        connection_close(c, title);
}

bool secure_refuse_tls(struct connection *c)
{
        if (c->in.data[0] != HANDSHAKE_RECORD)
                return false;
        answer_wrong_protocol(c, "tls-not-spoken", "this port does not speak TLS",
                "use http:// (in a connection string: tls=false), or start the server with --tls on");
        return true;
}

/* Methods of HTTP, and its preface, begin with a letter. */
static bool is_clear_text(struct bytes data)
{
        return data.data[0] >= 'A' && data.data[0] <= 'Z';
}

/* ---- handshakes ---- */

/* It is no handshake any more, whatever became of it. */
void secure_leave(struct connection *c)
{
        if (list_is_empty(&c->handshake))
                return;
        list_remove(&c->handshake);
        list_remove(&c->hello);
        assert(c->gateway->stats.tls_handshakes > 0);
        c->gateway->stats.tls_handshakes--;
}

bool secure_has_room(struct gateway *g)
{
        struct connection *oldest;

        if (!g->speaks_tls || g->stats.tls_handshakes < g->handshakes_max)
                return true;
        oldest = CONTAINER_OF(g->handshaking.next, struct connection, handshake);
        if (now_us(g) < oldest->began_us + HANDSHAKE_DAWDLE_US)
                return false;
        g->stats.tls_handshakes_failed++;
        connection_close(oldest, "its TLS handshake was slow, and others wait");
        return true;
}

static void begin_session(struct connection *c)
{
        if (tls_session_new(c->gateway->tls, true, &c->tls))
                connection_close(c, fault_last());
}

void secure_begin(struct connection *c)
{
        struct gateway *g = c->gateway;

        list_add_last(&g->handshaking, &c->handshake);
        g->stats.tls_handshakes++;
        g->stats.tls_handshakes_total++;
        if (g->tls)
                begin_session(c);
        else
                connection_pause(c, true);
}

void gateway_set_tls(struct gateway *g, struct tls_context *tls)
{
        assert(g->speaks_tls);
        assert(!g->tls);
        g->tls = tls;
        LIST_EACH_SAFE (at, &g->handshaking) {
                struct connection *c = CONTAINER_OF(at, struct connection, handshake);

                begin_session(c);
                connection_pause(c, false);
        }
        reload_begin(g);
}

bool gateway_speaks_tls(const struct gateway *g)
{
        return g->speaks_tls;
}

/* ---- bytes in ---- */

static void finish_handshake(struct connection *c)
{
        secure_leave(c);
        snprintf(c->login, sizeof c->login, "%s", tls_session_peer_login(c->tls));
        connection_begin(c, tls_session_alpn(c->tls));
}

static void take_plain(struct connection *c)
{
        struct gateway *g = c->gateway;

        if (g->plain.size && c->state != CONNECTION_CLOSING)
                connection_receive(c, buffer_bytes(&g->plain));
        if (g->plain.capacity > PLAIN_KEPT_MAX)
                buffer_fini(&g->plain);
        else
                buffer_clear(&g->plain);
}

static void feed(struct connection *c, struct bytes data)
{
        struct gateway *g = c->gateway;
        enum tls_state state;

        assert(g->plain.size == 0);
        state = tls_session_feed(c->tls, data, &g->plain);
        if (c->state == CONNECTION_HANDSHAKING && (state == TLS_OPEN || state == TLS_ENDED))
                finish_handshake(c);
        take_plain(c);
        if (state == TLS_FAILED) {
                if (c->state == CONNECTION_HANDSHAKING)
                        g->stats.tls_handshakes_failed++;
                connection_close(c, tls_session_problem(c->tls));
        } else if (tls_session_output(c->tls).size > UNASKED_OUT_MAX) {
                connection_close(c, "it makes this side send, and reads nothing");
        } else {
                if (state == TLS_ENDED)
                        c->is_doomed = true; /* what was asked for in the same breath is answered first */
                connection_touch(c);
        }
}

void secure_receive(struct connection *c, struct bytes data)
{
        bool is_first = !c->has_said_hello;

        assert(data.size > 0);
        c->has_said_hello = true;
        if (c->state != CONNECTION_HANDSHAKING) {
                feed(c, data);
        } else if (is_first && is_clear_text(data)) {
                c->gateway->stats.tls_handshakes_failed++;
                answer_wrong_protocol(c, "tls-spoken", "this port speaks TLS",
                        "use https:// (in a connection string: tls=true)");
        } else {
                /* The turn's end goes on with it; until then no more is taken. */
                buffer_add_bytes(&c->in, data);
                connection_pause(c, true);
                list_add_last(&c->gateway->hellos, &c->hello);
        }
}

void secure_shake_hands(struct gateway *g)
{
        uint64_t until_us = os_monotonic_us(g->os) + HANDSHAKE_TURN_US;

        while (!list_is_empty(&g->hellos)) {
                struct connection *c = CONTAINER_OF(g->hellos.next, struct connection, hello);
                struct buffer said = c->in;

                list_remove(&c->hello);
                c->in = (struct buffer){0};
                connection_pause(c, false);
                feed(c, buffer_bytes(&said));
                buffer_fini(&said);
                if (os_monotonic_us(g->os) >= until_us)
                        break;
        }
        if (!list_is_empty(&g->hellos))
                os_turn_again(g->os);
}

/* ---- bytes out ---- */

static void send_output(struct connection *c)
{
        struct bytes output = tls_session_output(c->tls);

        if (!output.size)
                return;
        c->gateway->stats.sent_bytes += output.size;
        os_conn_send(c->conn, &output, 1);
        tls_session_sent(c->tls);
}

/* In slices, so that a large answer is not held three times. */
void secure_send(struct connection *c)
{
        struct bytes plain = buffer_bytes(&c->out);

        if (!c->tls)
                return;
        while (plain.size && tls_session_state(c->tls) != TLS_FAILED) {
                size_t size = MIN(plain.size, (size_t)ENCRYPT_SIZE);

                tls_session_write(c->tls, bytes_of(plain.data, size));
                plain = bytes_of(plain.data + size, plain.size - size);
                if (plain.size)
                        send_output(c);
        }
        send_output(c);
        buffer_clear(&c->out);
        if (tls_session_state(c->tls) == TLS_FAILED && !c->is_doomed) {
                c->is_doomed = true;
                connection_touch(c); /* nothing else may come that would end it */
        }
}

void secure_end(struct connection *c)
{
        secure_leave(c);
        if (!c->tls)
                return;
        tls_session_end(c->tls);
        send_output(c);
}
