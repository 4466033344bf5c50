/* One request, over either protocol: its headers, its body, its reply in one piece or as a stream.
 *
 *   receiving -> handling -> ended                 gateway_reply
 *                handling -> streaming -> ended    gateway_stream_begin .. end
 *   receiving -> ended                             refused before the body was complete
 *
 * A request ends for its handler with the reply, for the protocol when the reply has been sent; the memory
 * goes when both are done and no completion points at it any more. */
#include "gateway/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const struct sm_state request_states[] = {
        [REQUEST_RECEIVING] = {"receiving", TO(REQUEST_HANDLING) | TO(REQUEST_STREAMING) | TO(REQUEST_ENDED)},
        [REQUEST_HANDLING] = {"handling", TO(REQUEST_STREAMING) | TO(REQUEST_ENDED)},
        [REQUEST_STREAMING] = {"streaming", TO(REQUEST_ENDED)},
        [REQUEST_ENDED] = {"ended", 0},
};

void request_move(struct gateway_request *r, enum request_state to)
{
        sm_move(request_states, &r->state, to);
}

static bool is_http2(const struct gateway_request *r)
{
        return r->connection->state == CONNECTION_HTTP2;
}

/* ---- life ---- */

struct gateway_request *request_new(struct connection *c)
{
        struct gateway *g = c->gateway;
        struct gateway_request *r;

        if (list_is_empty(&g->requests_free)) {
                r = MEMORY_NEW(struct gateway_request);
        } else {
                r = CONTAINER_OF(g->requests_free.next, struct gateway_request, link);
                list_remove(&r->link);
                g->requests_free_count--;
        }
        r->gateway = g;
        r->connection = c;
        list_add_last(&c->requests, &r->link);
        list_init(&r->wake);
        list_init(&r->deadline);
        r->taken_us = os_turn_time(g->os).monotonic_us;
        r->body_by_us = r->taken_us + BODY_TIMEOUT_US;
        return r;
}

void request_account(struct gateway_request *r)
{
        uint64_t size = REQUEST_COST + r->arena.used + r->body.size + request_out_pending(r);

        r->gateway->stats.buffered_bytes += size - r->accounted;
        r->accounted = size;
        if (!r->gateway->heavy && size > r->gateway->memory_size / HEAVY_PART)
                r->gateway->heavy = r;
        if (r->gateway->heavy == r)
                r->gateway->heavy_bytes = size;
        if (r->connection) {
                r->connection->out_held += request_out_pending(r) - r->out_held;
                r->out_held = request_out_pending(r);
        }
}

/* Gives the object back, clean but with its first blocks of memory, which the next request will want. */
static void recycle(struct gateway_request *r)
{
        struct gateway *g = r->gateway;
        struct arena arena;
        struct buffer body, out;

        assert(r->state == REQUEST_ENDED);
        assert(r->holds == 0);
        assert(!r->is_login_pending);
        principal_release(&r->principal);
        buffer_clear(&r->body);
        buffer_clear(&r->out);
        g->stats.buffered_bytes -= r->accounted;
        if (g->heavy == r) {
                g->heavy = NULL;
                g->heavy_bytes = 0;
        }
        list_remove(&r->wake);
        list_remove(&r->deadline);
        if (g->requests_free_count >= REQUESTS_KEPT_MAX) {
                arena_fini(&r->arena);
                buffer_fini(&r->body);
                buffer_fini(&r->out);
                free(r);
                return;
        }
        if (r->body.capacity > BUFFER_KEPT_MAX)
                buffer_fini(&r->body);
        if (r->out.capacity > BUFFER_KEPT_MAX)
                buffer_fini(&r->out);
        arena_reset(&r->arena);
        arena = r->arena;
        body = r->body;
        out = r->out;
        *r = (struct gateway_request){.arena = arena, .body = body, .out = out};
        list_add_first(&g->requests_free, &r->link);
        g->requests_free_count++;
}

void request_release(struct gateway_request *r)
{
        struct gateway *g = r->gateway;

        assert(r->holds > 0);
        r->holds--;
        if (!r->is_closed || r->state != REQUEST_ENDED || r->holds)
                return;
        g->requests_detached--;
        recycle(r);
        gateway_check_closed(g);
}

/* Tells whoever works on the request that the client is gone. */
static void abandon(struct gateway_request *r)
{
        int state = r->state;

        if (r->is_call) {
                sm_move(request_states, &r->state, REQUEST_ENDED);
                grpc_gone(r);
                return;
        }
        if (state == REQUEST_HANDLING && !r->on_gone)
                return; /* its handler still may answer, into the void */
        sm_move(request_states, &r->state, REQUEST_ENDED);
        if (state == REQUEST_STREAMING)
                r->stream_handler.on_close(r->stream_arg, r);
        else if (state == REQUEST_HANDLING)
                r->on_gone(r->on_gone_arg, r);
}

void request_close(struct gateway_request *r)
{
        struct gateway *g = r->gateway;

        assert(!r->is_closed);
        list_remove(&r->link);
        list_remove(&r->wake);
        list_remove(&r->deadline);
        rights_end(r);
        r->is_in_wake = false;
        r->connection->out_held -= r->out_held;
        r->out_held = 0;
        r->connection = NULL;
        r->on_writable = NULL;
        r->holds++; /* while it is told */
        if (r->state != REQUEST_ENDED)
                abandon(r);
        r->is_closed = true;
        g->requests_detached++;
        r->holds--;
        if (r->state != REQUEST_ENDED || r->holds)
                return;
        g->requests_detached--;
        recycle(r);
}

/* A handler answered after the client had gone. */
static void end_detached(struct gateway_request *r)
{
        assert(r->is_closed);
        sm_move(request_states, &r->state, REQUEST_ENDED);
        r->holds++;
        request_release(r);
}

/* ---- head and body ---- */

bool request_add_header(struct gateway_request *r, struct bytes name, struct bytes value)
{
        struct header *to;

        r->head_size += name.size + value.size + 32; /* as HTTP/2 counts (RFC 9113 section 6.5.2) */
        if (r->head_size > HEAD_SIZE_MAX || r->header_count >= HEADERS_MAX)
                return false;
        if (r->header_count == r->header_capacity) {
                unsigned capacity = r->header_capacity ? r->header_capacity * 2 : 16;
                struct header *grown = arena_get(&r->arena, capacity * sizeof *grown);

                if (r->header_count)
                        memcpy(grown, r->headers, r->header_count * sizeof *grown);
                r->headers = grown;
                r->header_capacity = capacity;
        }
        to = &r->headers[r->header_count++];
        to->name = arena_copy(&r->arena, name);
        to->value = arena_copy(&r->arena, value);
        return true;
}

bool request_set_target(struct gateway_request *r, struct bytes target)
{
        const uint8_t *question;

        if (!target.size || target.data[0] != '/')
                return false;
        r->target = target;
        question = memchr(target.data, '?', target.size);
        r->path = bytes_of(target.data, question ? (size_t)(question - target.data) : target.size);
        return true;
}

static bool is_local_v6(struct bytes name)
{
        const uint8_t *end = memchr(name.data, ']', name.size);
        struct bytes literal;

        if (!end)
                return false;
        literal = bytes_of(name.data, (size_t)(end - name.data) + 1);
        if (literal.size < name.size && end[1] != ':')
                return false;
        return bytes_equal_string(literal, "[::1]") ||
               bytes_starts_with(literal, BYTES_LITERAL("[::ffff:127."));
}

/* A web page can make a browser send requests here, with a name of its own that leads to this machine, or by
 * a form. Where no users keep it out, names that are not this machine's are refused. */
static bool is_local_name(struct bytes host)
{
        struct bytes name = host;
        const uint8_t *colon;

        if (name.size && name.data[0] == '[')
                return is_local_v6(name);
        colon = memchr(name.data, ':', name.size);
        if (colon)
                name.size = (size_t)(colon - name.data);
        if (name.size >= 4 && memcmp(name.data, "127.", 4) == 0) {
                for (size_t i = 4; i < name.size; i++)
                        if (name.data[i] != '.' && (name.data[i] < '0' || name.data[i] > '9'))
                                return false;
                return true;
        }
        if (name.size == 9 && strncasecmp((const char *)name.data, "localhost", 9) == 0)
                return true;
        return name.size > 10 && strncasecmp((const char *)name.data + name.size - 10, ".localhost", 10) == 0;
}

static bool refuse_strangers(struct gateway_request *r)
{
        struct bytes origin;

        if (r->gateway->is_local_only && r->authority.size && !is_local_name(r->authority)) {
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 421,
                                .code = "misdirected",
                                .title = "This server does not answer to that name",
                                .next = "use localhost, 127.0.0.1 or [::1] in the URL",
                        },
                        "the request is for the host '%.*s'", (int)MIN(r->authority.size, 256),
                        r->authority.data);
                return true;
        }
        if (!gateway_header(r, "origin", &origin))
                return false;
        for (size_t i = 0; i + 3 <= origin.size; i++) {
                if (memcmp(origin.data + i, "://", 3) == 0) {
                        struct bytes host = bytes_of(origin.data + i + 3, origin.size - i - 3);

                        if (r->gateway->is_local_only ? is_local_name(host) : bytes_equal(host, r->authority))
                                return false;
                        break;
                }
        }
        gateway_reply_problem(r,
                &(struct gateway_problem){.status = 403,
                        .code = "foreign-origin",
                        .title = "Pages of other sites may not use this server"},
                "the request comes from the origin '%.*s'", (int)MIN(origin.size, 256), origin.data);
        return true;
}

static void refuse_for_memory(struct gateway_request *r)
{
        gateway_reply_problem(r,
                &(struct gateway_problem){.status = 503,
                        .code = "busy",
                        .title = "The server is short of memory",
                        .next = "try again in a second"},
                "the buffers of all sessions are full (%llu bytes)",
                (unsigned long long)r->gateway->memory_size);
}

static bool begin_http(struct gateway_request *r)
{
        r->gateway->stats.http_requests++;
        if (r->is_head_too_large) {
                gateway_reply_problem(r,
                        &(struct gateway_problem){.status = 431,
                                .code = "head-too-large",
                                .title = "The headers are too large"},
                        "at most %d bytes in %d headers are taken", HEAD_SIZE_MAX, HEADERS_MAX);
                return false;
        }
        if (refuse_strangers(r) || !route_find(r))
                return false;
        if (connection_must_yield(r->connection)) {
                refuse_for_memory(r);
                return false;
        }
        if ((r->gateway->is_closing || !r->gateway->store) && !r->route->when_not_ready) {
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 503,
                                .code = "not-ready",
                                .title = r->gateway->is_closing ? "The server is stopping"
                                                                : "The store is not open yet",
                                .next = "try again in a second",
                        },
                        "%s",
                        r->gateway->is_closing ? "no new requests are taken" : "the server is starting");
                return false;
        }
        return rights_begin(r);
}

bool request_begin(struct gateway_request *r)
{
        request_account(r);
        r->is_head = bytes_equal_string(r->method, "HEAD");
        if (!begin_http(r)) {
                r->is_refused = true;
                return false;
        }
        return true;
}

static void refuse_body(struct gateway_request *r)
{
        r->is_refused = true;
        buffer_clear(&r->body);
        request_account(r);
        gateway_reply_problem(r,
                &(struct gateway_problem){
                        .status = 413, .code = "body-too-large", .title = "The request body is too large"},
                "at most %llu bytes are taken here", (unsigned long long)r->route->body_size_max);
}

void request_body(struct gateway_request *r, struct bytes data)
{
        request_note_body(r, data.size);
        if (r->is_refused)
                return;
        if (r->body.size + data.size > r->route->body_size_max) {
                refuse_body(r);
                return;
        }
        if (request_must_yield(r)) {
                r->is_refused = true;
                refuse_for_memory(r);
                return;
        }
        buffer_add_bytes(&r->body, data);
        request_account(r);
}

void request_received(struct gateway_request *r)
{
        r->is_received = true;
        if (r->is_refused || r->is_login_pending)
                return;
        sm_move(request_states, &r->state, REQUEST_HANDLING);
        r->route->handler(r->route->arg, r);
}

void request_admit(struct gateway_request *r, bool is_allowed)
{
        assert(!r->is_login_pending);
        if (!is_allowed) {
                r->is_refused = true;
                buffer_clear(&r->body);
                request_account(r);
        } else if (r->is_received) {
                request_received(r);
        }
}

void request_break(struct gateway_request *r)
{
        assert(r->state == REQUEST_STREAMING);
        if (is_http2(r))
                h2_reset(r, 0);
        else
                connection_close(r->connection, "the client may not see any more what it was given");
}

struct gateway *gateway_of(struct gateway_request *r)
{
        return r->gateway;
}

struct bytes gateway_method(const struct gateway_request *r)
{
        return r->method;
}

struct bytes gateway_path(const struct gateway_request *r)
{
        return r->path;
}

bool gateway_header(const struct gateway_request *r, const char *name, struct bytes *ret)
{
        size_t size = strlen(name);

        for (unsigned i = 0; i < r->header_count; i++) {
                if (r->headers[i].name.size == size && memcmp(r->headers[i].name.data, name, size) == 0) {
                        *ret = r->headers[i].value;
                        return true;
                }
        }
        return false;
}

struct bytes gateway_body(const struct gateway_request *r)
{
        return buffer_bytes(&r->body);
}

struct arena *gateway_arena(struct gateway_request *r)
{
        return &r->arena;
}

const char *gateway_peer(const struct gateway_request *r)
{
        return r->connection ? r->connection->peer : "gone";
}

void gateway_on_gone(
        struct gateway_request *r, void (*on_gone)(void *arg, struct gateway_request *r), void *arg)
{
        r->on_gone = on_gone;
        r->on_gone_arg = arg;
}

/* ---- reply ---- */

void gateway_answer_header(struct gateway_request *r, struct gateway_header_field field)
{
        r->answer_header = field;
}

static void count_status(struct gateway_request *r, int status)
{
        assert(status >= 200);
        assert(status < 600);
        r->status = status;
        r->gateway->stats.http_requests_by_class[status / 100]++;
        if (status >= 500 && status != 503)
                gateway_fact(r->gateway, FACT_request_failed, "%d %.*s", status, (int)MIN(r->path.size, 48),
                        r->path.data);
}

void gateway_reply(struct gateway_request *r, int status, const char *content_type, struct bytes body,
        const struct gateway_header_field *headers, unsigned header_count)
{
        uint64_t size = body.size;
        bool has_body = !r->is_head && status != 204 && status != 304;

        assert(r->state == REQUEST_HANDLING || r->state == REQUEST_RECEIVING);
        count_status(r, status);
        if (request_is_gone(r)) {
                end_detached(r);
                return;
        }
        if (is_http2(r)) {
                sm_move(request_states, &r->state, REQUEST_ENDED);
                r->is_out_ended = true;
                if (has_body)
                        buffer_add_bytes(&r->out, body);
                h2_send_head(r, status, content_type, headers, header_count, has_body && body.size);
                request_account(r);
                connection_touch(r->connection);
                return;
        }
        h1_send_head(r, status, content_type, headers, header_count, &size);
        if (has_body)
                buffer_add_bytes(&r->connection->out, body);
        sm_move(request_states, &r->state, REQUEST_ENDED);
        connection_touch(r->connection);
}

void gateway_reply_problem(
        struct gateway_request *r, const struct gateway_problem *problem, const char *detail_format, ...)
{
        struct buffer out = {0}, text = {0};
        struct json_out j = {.out = &out};
        struct gateway_header_field retry = {"retry-after", "1"};
        char detail[1024];
        va_list arguments;

        va_start(arguments, detail_format);
        vsnprintf(detail, sizeof detail, detail_format, arguments);
        va_end(arguments);
        buffer_format(&text, "urn:nilo:%s", problem->code);
        json_object_begin(&j);
        json_key(&j, "type");
        json_bytes(&j, buffer_bytes(&text));
        json_field_string(&j, "title", problem->title);
        json_field_u64(&j, "status", (uint64_t)problem->status);
        json_field_string(&j, "detail", detail);
        if (problem->next)
                json_field_string(&j, "next", problem->next);
        if (problem->extra)
                problem->extra(problem->arg, &j);
        json_object_end(&j);
        gateway_reply(r, problem->status, "application/problem+json", buffer_bytes(&out), &retry,
                problem->status == 503);
        buffer_fini(&text);
        buffer_fini(&out);
}

/* ---- streams ---- */

static void produce(struct gateway_request *r)
{
        assert(r->state == REQUEST_STREAMING);
        if (request_room(r) == 0) {
                r->is_waiting_for_room = true;
                return;
        }
        r->is_waiting_for_room = false;
        r->stream_handler.on_writable(r->stream_arg, r);
        if (r->state == REQUEST_STREAMING && request_room(r) == 0)
                r->is_waiting_for_room = true;
}

/* Nobody wants the body: the client was gone before it began, or has asked for the head only. */
static void close_unwanted_stream(void *arg)
{
        struct gateway_request *r = arg;

        if (r->state == REQUEST_STREAMING) {
                sm_move(request_states, &r->state, REQUEST_ENDED);
                r->on_writable = NULL;
                r->stream_handler.on_close(r->stream_arg, r);
                if (r->connection)
                        connection_touch(r->connection);
        }
        request_release(r);
}

void gateway_stream_begin(struct gateway_request *r, int status, const char *content_type,
        const struct gateway_header_field *headers, unsigned header_count,
        const struct gateway_stream_handler *handler, void *arg)
{
        assert(r->state == REQUEST_HANDLING);
        assert(handler->on_writable);
        assert(handler->on_close);
        count_status(r, status);
        r->stream_handler = *handler;
        r->stream_arg = arg;
        sm_move(request_states, &r->state, REQUEST_STREAMING);
        if (!request_is_gone(r) && is_http2(r))
                h2_send_head(r, status, content_type, headers, header_count, !r->is_head);
        else if (!request_is_gone(r))
                h1_send_head(r, status, content_type, headers, header_count, NULL);
        if (request_is_gone(r) || r->is_head) {
                request_hold(r);
                os_post(r->gateway->os, close_unwanted_stream, r);
                return;
        }
        r->on_writable = produce;
        request_wake(r);
}

size_t gateway_stream_room(const struct gateway_request *r)
{
        return request_is_gone(r) || r->is_head ? 0 : request_room(r);
}

size_t request_room(const struct gateway_request *r)
{
        size_t pending;
        size_t max = STREAM_OUT_MAX;

        assert(r->connection);
        if (gateway_is_out_of_memory(r->gateway))
                return 0;
        if (!is_http2(r))
                return h1_room(r);
        pending = request_out_pending(r);
        /* Short of memory, or much is unread on this connection: every stream keeps going, one piece at a
         * time. */
        if (gateway_is_short_of_memory(r->gateway) ||
                r->connection->out_held >= r->gateway->connection_out_max)
                max = pending ? 0 : 1;
        return pending >= max ? 0 : max - pending;
}

void gateway_stream_send(struct gateway_request *r, struct bytes piece)
{
        assert(r->state == REQUEST_STREAMING);
        if (request_is_gone(r) || r->is_head || !piece.size)
                return;
        if (is_http2(r)) {
                request_compact_out(r);
                buffer_add_bytes(&r->out, piece);
        } else {
                h1_send_body(r, piece);
        }
        request_has_out(r);
}

void request_has_out(struct gateway_request *r)
{
        if (is_http2(r)) {
                request_account(r);
                h2_resume(r);
        }
        if (request_room(r) == 0)
                r->is_waiting_for_room = true;
        connection_touch(r->connection);
}

void request_wake(struct gateway_request *r)
{
        if (request_is_gone(r) || r->is_in_wake)
                return;
        r->is_in_wake = true;
        list_add_last(&r->connection->wake, &r->wake);
        connection_touch(r->connection);
}

void gateway_stream_wake(struct gateway_request *r)
{
        assert(r->state == REQUEST_STREAMING);
        if (r->on_writable)
                request_wake(r);
}

void gateway_stream_end(struct gateway_request *r)
{
        assert(r->state == REQUEST_STREAMING);
        if (request_is_gone(r)) {
                end_detached(r);
                return;
        }
        sm_move(request_states, &r->state, REQUEST_ENDED);
        r->on_writable = NULL;
        r->is_out_ended = true;
        if (is_http2(r))
                h2_resume(r);
        else
                h1_end(r);
        connection_touch(r->connection);
}
