/* HTTP/1.1 over a connection: one request at a time, strictly in order; what a client pipelines waits in the
 * connection's input (bounded) until the answer before it is complete.
 *
 * A request that is answered before its body has come keeps the connection if the rest is small enough to be
 * read and thrown away; else the answer says "connection: close" and the input is thrown away for a moment,
 * so that the answer is not lost to a reset. */
#include "gateway/h1_body.h"
#include "gateway/h1_head.h"
#include "gateway/room.h"

#include <stdlib.h>

static_assert((int)H1_HEAD_SIZE_MAX == (int)HEAD_SIZE_MAX, "one limit");
static_assert((int)H1_HEADERS_MAX == (int)HEADERS_MAX, "one limit");
static_assert((int)H1_LINE_SIZE_MAX == (int)REQUEST_LINE_SIZE_MAX, "one limit");

struct h1 {
        struct h1_head head; /* of the request under way */
        struct h1_body body;
        struct gateway_request *request;
        size_t at;              /* first unused byte of the connection's input */
        uint64_t head_since_us; /* 0: no byte of the next head has come */
        uint64_t skipped;
        bool is_body_done;
        bool is_keep_alive;
        bool is_chunked_out;
        bool is_processing;
        bool is_held_back; /* there is input, but too much output waits */
};

void h1_new(struct connection *c)
{
        c->h1 = MEMORY_NEW(struct h1);
        c->h1->head_since_us = c->began_us;
}

void h1_free(struct connection *c)
{
        free(c->h1);
        c->h1 = NULL;
}

static uint64_t now_us(const struct connection *c)
{
        return os_turn_time(c->gateway->os).monotonic_us;
}

/* The last answer of this connection has been given. A client that is still sending its body does not look
 * for answers yet, and a close would lose this one by a reset: so what it sends is thrown away for a while.
 */
static void end(struct connection *c)
{
        struct h1 *h = c->h1;

        if (h->is_body_done || h->head.expects_continue) {
                c->is_doomed = true;
                connection_touch(c);
                return;
        }
        c->linger_by_us = now_us(c) + LINGER_TIMEOUT_US;
        buffer_clear(&c->in);
        h->at = 0;
        connection_pause(c, false);
}

/* ---- heads ---- */

/* Answers what is no request, and ends the connection: nobody knows where the next one would begin. */
static void refuse_head(struct connection *c, int status, const char *problem)
{
        struct h1 *h = c->h1;

        h->request = request_new(c);
        h->request->method = BYTES_LITERAL("GET");
        h->is_body_done = true;
        h->is_keep_alive = false;
        h->head.is_http10 = false;
        h->head.expects_continue = false;
        c->gateway->stats.http_requests++;
        gateway_reply_problem(h->request,
                &(struct gateway_problem){
                        .status = status, .code = "bad-request", .title = http_reason(status)},
                "%s", problem);
}

static const char *problem_of_status(int status)
{
        switch (status) {
        case 414:
                return "the request line is longer than 8192 bytes";
        case 431:
                return "the head is larger than 16384 bytes";
        default:
                return "a line does not end with CR LF";
        }
}

static void begin_request(struct connection *c)
{
        struct h1 *h = c->h1;
        struct gateway_request *r = request_new(c);

        h->request = r;
        h->is_body_done = !h->head.has_body;
        h->is_keep_alive = h->head.is_keep_alive && !c->gateway->is_closing;
        h->skipped = 0;
        h1_body_begin(&h->body, h->head.is_chunked, h->head.body_size);
        r->method = arena_copy(&r->arena, h->head.method);
        r->authority = arena_copy(&r->arena, h->head.host);
        for (unsigned i = 0; i < h->head.field_count; i++) {
                if (!request_add_header(r, h->head.fields[i].name, h->head.fields[i].value))
                        r->is_head_too_large = true;
        }
        /* "*" is no path that anybody registers. */
        if (!request_set_target(r, arena_copy(&r->arena, h->head.target)))
                request_set_target(r, BYTES_LITERAL("/*"));
        if (!request_begin(r))
                return;
        if (h->head.body_size > r->route->body_size_max) {
                r->is_refused = true;
                gateway_reply_problem(r,
                        &(struct gateway_problem){.status = 413,
                                .code = "body-too-large",
                                .title = "The request body is too large"},
                        "it has %llu bytes, at most %llu are taken here",
                        (unsigned long long)h->head.body_size, (unsigned long long)r->route->body_size_max);
                return;
        }
        if (h->is_body_done) {
                request_received(r);
        } else if (h->head.expects_continue) {
                h->head.expects_continue = false;
                buffer_add_string(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
                connection_touch(c);
        }
}

/* True if there was a head. */
static bool take_head(struct connection *c)
{
        struct h1 *h = c->h1;
        struct bytes rest;
        size_t size;
        int status;

        /* An empty line before a request is an old client's habit (RFC 9112 section 2.2). */
        while (c->in.size - h->at >= 2 && memcmp(c->in.data + h->at, "\r\n", 2) == 0)
                h->at += 2;
        if (h->at == c->in.size) {
                h->head_since_us = 0;
                return false;
        }
        rest = bytes_of(c->in.data + h->at, c->in.size - h->at);
        if (!h->head_since_us)
                h->head_since_us = now_us(c);
        size = h1_head_end(rest, &status);
        if (!size)
                return false;
        h->head_since_us = 0;
        if (status) {
                refuse_head(c, status, problem_of_status(status));
                return true;
        }
        if (!h1_head_parse(c->in.data + h->at, size, &h->head)) {
                refuse_head(c, h->head.status, h->head.problem);
                return true;
        }
        h->at += size;
        begin_request(c);
        return true;
}

/* ---- bodies ---- */

static void on_body(void *arg, struct bytes piece)
{
        struct connection *c = arg;
        struct gateway_request *r = c->h1->request;

        if (r->is_refused || r->state == REQUEST_ENDED) {
                c->h1->skipped += piece.size;
                request_note_body(r, piece.size);
        } else {
                request_body(r, piece);
        }
}

/* True if something was used. */
static bool take_body(struct connection *c)
{
        struct h1 *h = c->h1;
        struct gateway_request *r = h->request;
        struct bytes rest;
        bool is_done;
        size_t used;

        if (h->at == c->in.size)
                return false;
        rest = bytes_of(c->in.data + h->at, c->in.size - h->at);
        if (!h1_body_take(&h->body, rest, on_body, c, &used, &is_done)) {
                h->is_body_done = true;
                h->is_keep_alive = false;
                if (r->state == REQUEST_RECEIVING) {
                        r->is_refused = true;
                        gateway_reply_problem(r,
                                &(struct gateway_problem){.status = 400,
                                        .code = "bad-request",
                                        .title = "The body is malformed"},
                                "its chunks are not well-formed");
                }
                return true;
        }
        h->at += used;
        if (is_done) {
                h->is_body_done = true;
                request_received(r);
        }
        return true;
}

/* May the rest of a refused body be read and thrown away? */
static bool can_skip(const struct h1 *h)
{
        if (h->is_body_done)
                return true;
        return !h->head.expects_continue && h->head.body_size <= SKIP_SIZE_MAX && h->skipped <= SKIP_SIZE_MAX;
}

/* ---- the loop ---- */

/* One step; false: nothing can be done before more comes. */
static bool step(struct connection *c)
{
        struct h1 *h = c->h1;
        struct gateway_request *r = h->request;

        if (c->state == CONNECTION_CLOSING || c->is_doomed || c->linger_by_us)
                return false;
        if (!r) {
                /* Pipelined requests are small, their answers may not be. */
                h->is_held_back = c->is_clogged || c->out.size >= TURN_OUT_MAX;
                return !h->is_held_back && take_head(c);
        }
        if (r->state == REQUEST_ENDED && (h->is_body_done || !h->is_keep_alive || !can_skip(h))) {
                bool is_last = !h->is_keep_alive || !h->is_body_done;

                h->request = NULL;
                request_close(r);
                if (is_last)
                        end(c);
                return !is_last;
        }
        if (!h->is_body_done)
                return take_body(c);
        return false;
}

void h1_receive(struct connection *c)
{
        struct h1 *h = c->h1;

        if (h->is_processing)
                return; /* a handler answered from inside */
        h->is_processing = true;
        h->is_held_back = false;
        while (step(c))
                ;
        h->is_processing = false;
        if (h->at) {
                buffer_consume(&c->in, h->at);
                h->at = 0;
        }
        if (!c->in.size && c->in.capacity > BUFFER_KEPT_MAX)
                buffer_fini(&c->in);
        connection_pause(c, c->in.size > PIPELINE_SIZE_MAX);
}

bool h1_wants_more(const struct connection *c)
{
        return c->h1->is_held_back;
}

void h1_tick(struct connection *c, uint64_t now)
{
        struct h1 *h = c->h1;
        struct gateway_request *r = h->request;

        if (c->linger_by_us)
                return;
        if (!r && h->head_since_us && now - h->head_since_us >= HEAD_TIMEOUT_US) {
                refuse_head(c, 408, "the head did not come within 10 s");
        } else if (!r && now - c->received_us >= IDLE_TIMEOUT_US) {
                connection_close(c, NULL);
        } else if (r && !h->is_body_done && now >= r->body_by_us) {
                h->is_keep_alive = false;
                if (r->state != REQUEST_RECEIVING) {
                        connection_touch(c);
                        return;
                }
                r->is_refused = true;
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 408, .code = "timeout", .title = "The request took too long"},
                        "the body comes too slowly: at least %d bytes in a second are expected",
                        BODY_RATE_MIN);
        }
}

/* ---- answers ---- */

/* A header that a handler made from what a client sent must not become two. */
static void add_value(struct buffer *out, const char *value)
{
        for (; *value; value++)
                buffer_add_u8(out, (uint8_t)*value < 0x20 || *value == 0x7f ? '_' : (uint8_t)*value);
}

static void add_field(struct buffer *out, const struct gateway_header_field *field)
{
        buffer_add_string(out, field->name);
        buffer_add_string(out, ": ");
        add_value(out, field->value);
        buffer_add_string(out, "\r\n");
}

void h1_send_head(struct gateway_request *r, int status, const char *content_type,
        const struct gateway_header_field *headers, unsigned header_count, const uint64_t *body_size)
{
        struct connection *c = r->connection;
        struct h1 *h = c->h1;
        struct buffer *out = &c->out;

        assert(h->request == r);
        if (!can_skip(h) || c->gateway->is_closing)
                h->is_keep_alive = false;
        buffer_format(
                out, "HTTP/1.1 %d %s\r\ndate: %s\r\n", status, http_reason(status), gateway_date(c->gateway));
        if (content_type) {
                /* Events are anybody's bytes: a browser must not find markup in what is none. */
                buffer_add_string(out, "x-content-type-options: nosniff\r\ncontent-type: ");
                add_value(out, content_type);
                buffer_add_string(out, "\r\n");
        }
        for (unsigned i = 0; i < header_count; i++)
                add_field(out, &headers[i]);
        if (r->answer_header.name)
                add_field(out, &r->answer_header);
        h->is_chunked_out = false;
        if (!body_size && h->head.is_http10)
                h->is_keep_alive = false; /* its end is the end of the body */
        else if (!body_size)
                h->is_chunked_out = true;
        if (h->is_chunked_out)
                buffer_add_string(out, "transfer-encoding: chunked\r\n");
        else if (body_size && status != 204 && status != 304)
                buffer_format(out, "content-length: %llu\r\n", (unsigned long long)*body_size);
        if (!h->is_keep_alive)
                buffer_add_string(out, "connection: close\r\n");
        else if (h->head.is_http10)
                buffer_add_string(out, "connection: keep-alive\r\n");
        buffer_add_string(out, "\r\n");
}

void h1_send_body(struct gateway_request *r, struct bytes piece)
{
        struct connection *c = r->connection;

        if (!c->h1->is_chunked_out) {
                buffer_add_bytes(&c->out, piece);
                return;
        }
        buffer_format(&c->out, "%zx\r\n", piece.size);
        buffer_add_bytes(&c->out, piece);
        buffer_add_string(&c->out, "\r\n");
}

void h1_end(struct gateway_request *r)
{
        if (r->connection->h1->is_chunked_out && !r->is_head)
                buffer_add_string(&r->connection->out, "0\r\n\r\n");
}

size_t h1_room(const struct gateway_request *r)
{
        const struct connection *c = r->connection;
        size_t pending = c->out.size + os_conn_queued(c->conn);
        size_t max = gateway_is_short_of_memory(r->gateway) ? 1 : STREAM_OUT_MAX;

        return pending >= max ? 0 : max - pending;
}
