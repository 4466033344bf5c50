/* Bytes come decrypted into `in`, frames leave from there in place; what is to be sent gathers in `out` and
 * goes to the socket in one piece when the turn ends. The hook for that is added anew whenever there is
 * something to send: so it is the last of the turn and takes along what other rooms' hooks have sent. */
#include "peers/wire.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

struct wire {
        struct os *os;
        struct os_conn *conn;
        struct tls_session *tls; /* NULL: none */
        const struct wire_handler *handler;
        void *arg;
        struct os_turn_hook hook;
        bool is_hooked;
        bool is_ready;
        bool is_closing;
        bool must_tell_sent;
        size_t stranger_left; /* bytes; SIZE_MAX: it is trusted */
        size_t body_size_max;
        struct buffer in;  /* plaintext: the beginning of a frame */
        struct buffer out; /* frames */
        uint64_t heard_us;
        uint64_t said_us;
        uint64_t sent_bytes;
        uint64_t received_bytes;
        char why[WHY_SIZE];
};

/* ---- out ---- */

static void send_bytes(struct wire *w, struct bytes piece)
{
        if (piece.size == 0)
                return;
        w->sent_bytes += piece.size;
        os_conn_send(w->conn, &piece, 1);
}

static void send_output(struct wire *w)
{
        send_bytes(w, tls_session_output(w->tls));
        tls_session_sent(w->tls);
}

/* In slices, so that a large message is not held three times. */
static void send_encrypted(struct wire *w)
{
        size_t at = 0, size;

        send_output(w);
        while (at < w->out.size && tls_session_state(w->tls) == TLS_OPEN) {
                size = MIN(w->out.size - at, (size_t)WIRE_CORK_SIZE);
                tls_session_write(w->tls, bytes_of(w->out.data + at, size));
                send_output(w);
                at += size;
        }
}

static void flush(struct wire *w)
{
        if (!w->is_ready) { /* only the handshake's own bytes; frames wait */
                if (w->tls)
                        send_output(w);
                return;
        }
        if (w->tls)
                send_encrypted(w);
        else
                send_bytes(w, buffer_bytes(&w->out));
        if (w->out.capacity > WIRE_BUFFER_KEPT_MAX)
                buffer_fini(&w->out);
        else
                buffer_clear(&w->out);
}

static void unhook(struct wire *w)
{
        if (w->is_hooked)
                os_turn_hook_remove(&w->hook);
        w->is_hooked = false;
}

static void tell_sent(struct wire *w)
{
        w->must_tell_sent = false;
        if (w->handler->on_sent && w->is_ready && !w->is_closing)
                w->handler->on_sent(w->arg);
}

static void on_turn_end(struct os_turn_hook *hook)
{
        struct wire *w = hook->arg;

        unhook(w);
        if (w->is_closing)
                return;
        flush(w);
        if (w->must_tell_sent)
                tell_sent(w);
}

static void hook_in(struct wire *w)
{
        if (!w->is_hooked)
                os_turn_hook_add(w->os, &w->hook);
        w->is_hooked = true;
}

struct buffer *wire_out(struct wire *w)
{
        return &w->out;
}

void wire_push(struct wire *w)
{
        assert(w->is_ready || w->is_closing);
        w->said_us = os_turn_time(w->os).monotonic_us;
        if (w->is_closing)
                buffer_clear(&w->out);
        else if (w->out.size >= WIRE_CORK_SIZE)
                flush(w);
        else
                hook_in(w);
}

void wire_flush(struct wire *w)
{
        if (w->is_hooked && !w->is_closing)
                flush(w);
}

void wire_ask_sent(struct wire *w)
{
        w->must_tell_sent = true;
        hook_in(w);
}

size_t wire_queued(const struct wire *w)
{
        return w->is_closing ? 0 : w->out.size + os_conn_queued(w->conn);
}

/* ---- end ---- */

void wire_close(struct wire *w, const char *why)
{
        if (w->is_closing)
                return;
        snprintf(w->why, sizeof w->why, "%s", why);
        flush(w);
        if (w->tls) {
                tls_session_end(w->tls);
                send_output(w);
        }
        w->is_closing = true;
        unhook(w);
        os_conn_close(w->conn);
}

bool wire_is_closing(const struct wire *w)
{
        return w->is_closing;
}

static void wire_free(struct wire *w)
{
        unhook(w);
        tls_session_free(&w->tls);
        buffer_fini(&w->in);
        buffer_fini(&w->out);
        free(w);
}

static void on_close(void *arg)
{
        struct wire *w = arg;
        const char *problem = os_conn_problem(w->conn);

        if (!w->is_closing)
                snprintf(w->why, sizeof w->why, "%s",
                        problem ? problem : "the other side closed the connection");
        w->is_closing = true;
        w->handler->on_end(w->arg, w->why);
        wire_free(w);
}

/* ---- in ---- */

static void wire_break(struct wire *w, const char *why)
{
        if (w->is_closing)
                return;
        wire_close(w, why);
        w->handler->on_broken(w->arg, w->why);
}

/* Every whole frame of `in`; gives the number of bytes taken. */
static size_t take_frames(struct wire *w, struct bytes in)
{
        struct frame frame;
        size_t at = 0, size;
        const char *why;

        while (!w->is_closing) {
                switch (frame_parse(
                        bytes_of(in.data + at, in.size - at), w->body_size_max, &frame, &size, &why)) {
                case FRAME_PART:
                        return at;
                case FRAME_BAD:
                        wire_break(w, why);
                        return at;
                case FRAME_WHOLE:
                        at += size;
                        w->handler->on_frame(w->arg, &frame);
                        break;
                }
        }
        return at;
}

static void take_gathered(struct wire *w)
{
        if (w->in.size == 0)
                return;
        buffer_consume(&w->in, take_frames(w, buffer_bytes(&w->in)));
        if (w->in.size == 0 && w->in.capacity > WIRE_BUFFER_KEPT_MAX)
                buffer_fini(&w->in);
}

static void become_ready(struct wire *w)
{
        w->is_ready = true;
        w->handler->on_ready(w->arg);
}

static void take_encrypted(struct wire *w, struct bytes data)
{
        enum tls_state state = tls_session_feed(w->tls, data, &w->in);

        if (tls_session_output(w->tls).size)
                hook_in(w);
        if (state == TLS_FAILED) {
                wire_break(w, tls_session_problem(w->tls));
                return;
        }
        if (state != TLS_HANDSHAKING && !w->is_ready)
                become_ready(w);
        take_gathered(w);
        if (state == TLS_ENDED)
                wire_break(w, "the other side closed the connection");
}

static void on_data(void *arg, struct bytes data)
{
        struct wire *w = arg;

        if (w->is_closing)
                return;
        w->heard_us = os_turn_time(w->os).monotonic_us;
        w->received_bytes += data.size;
        if (data.size > w->stranger_left) {
                wire_break(w, "it sent too much before it said who it is");
                return;
        }
        if (w->stranger_left != SIZE_MAX)
                w->stranger_left -= data.size;
        if (w->tls) {
                take_encrypted(w, data);
        } else if (w->in.size == 0) {
                size_t taken = take_frames(w, data);

                buffer_add(&w->in, data.data + taken, data.size - taken);
        } else {
                buffer_add_bytes(&w->in, data);
                take_gathered(w);
        }
}

static void on_drained(void *arg)
{
        tell_sent(arg);
}

static void on_open(void *arg)
{
        struct wire *w = arg;

        w->heard_us = os_turn_time(w->os).monotonic_us;
        if (w->is_closing)
                return;
        if (w->tls)
                flush(w);
        else
                become_ready(w);
}

/* ---- birth ---- */

static const struct os_conn_handler conn_handler = {
        .on_data = on_data, .on_drained = on_drained, .on_close = on_close, .on_open = on_open};

static int wire_new(struct os *os, struct tls_context *tls, bool is_server,
        const struct wire_handler *handler, void *arg, struct wire **ret)
{
        struct wire *w = MEMORY_NEW(struct wire);
        int r;

        w->os = os;
        w->handler = handler;
        w->arg = arg;
        w->hook = (struct os_turn_hook){.fn = on_turn_end, .arg = w};
        w->stranger_left = WIRE_STRANGER_SIZE_MAX;
        w->body_size_max = GREETING_BODY_SIZE_MAX;
        w->heard_us = w->said_us = os_turn_time(os).monotonic_us;
        r = tls ? tls_session_new(tls, is_server, &w->tls) : 0;
        if (r) {
                wire_free(w);
                return fault_fold(r);
        }
        *ret = w;
        return 0;
}

int wire_connect(struct os *os, const char *address, uint16_t port, struct tls_context *tls,
        const struct wire_handler *handler, void *arg, struct wire **ret)
{
        struct wire *w;
        int r = wire_new(os, tls, false, handler, arg, &w);

        if (r)
                return r;
        r = os_connect(os, address, port, &conn_handler, w, &w->conn);
        if (r) {
                wire_free(w);
                return r;
        }
        *ret = w;
        return 0;
}

int wire_accept(struct os *os, struct os_conn *conn, struct tls_context *tls,
        const struct wire_handler *handler, void *arg, struct wire **ret)
{
        struct wire *w;
        int r = wire_new(os, tls, true, handler, arg, &w);

        if (r) {
                os_conn_close(conn);
                return r;
        }
        w->conn = conn;
        os_conn_accept(conn, &conn_handler, w);
        os_conn_watch(conn);
        w->is_ready = !tls;
        *ret = w;
        return 0;
}

/* ---- what is known of it ---- */

void wire_trust(struct wire *w, size_t body_size_max)
{
        w->stranger_left = SIZE_MAX;
        w->body_size_max = body_size_max;
}

bool wire_peer(const struct wire *w, struct tls_identity *ret)
{
        return w->tls && tls_session_peer(w->tls, ret);
}

const char *wire_address(const struct wire *w)
{
        return os_conn_peer(w->conn);
}

uint64_t wire_heard_us(const struct wire *w)
{
        return w->heard_us;
}

uint64_t wire_said_us(const struct wire *w)
{
        return w->said_us;
}

uint64_t wire_sent_bytes(const struct wire *w)
{
        return w->sent_bytes;
}

uint64_t wire_received_bytes(const struct wire *w)
{
        return w->received_bytes;
}
