/* gRPC calls over HTTP/2: which method, framing of messages, deadlines, status and trailers.
 *
 * A message is five bytes (compressed flag, size in big endian) and its content. Of a client stream each
 * message is handed over from where it was received, and copied only when it did not come in one piece. The
 * one message of a unary call is handed over when the client has said that nothing follows: a call that is
 * refused for a second message has then done nothing.
 *
 * The client gets the window of a stream back when the method has taken the bytes, so a paused call makes it
 * wait; the window of the connection it gets back at once, so that its other calls go on.
 *
 * Names in the authority are not checked as for HTTP: browsers, which can be led here by foreign pages, do
 * not speak HTTP/2 in clear. */
#include "gateway/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"

enum {
        PREFIX_SIZE = 5,
        TRAILERS_MAX = 16,
        TRAILERS_SIZE_MAX = 7 * 1024, /* clients take 8 KiB of headers */
        STATUS_MESSAGE_SIZE_MAX = 1024,
        UNWANTED_KEPT_MAX = 64 * 1024,
};

/* ---- methods ---- */

void gateway_add_methods(struct gateway *g, const struct gateway_method *methods, unsigned count)
{
        struct method_block *block = MEMORY_NEW(struct method_block);
        struct method_block **at = &g->methods;

        block->methods = methods;
        block->count = count;
        block->paths = arena_get(&g->arena, count * sizeof *block->paths);
        for (unsigned i = 0; i < count; i++) {
                struct buffer path = {0};

                assert(methods[i].on_message);
                assert(methods[i].message_size_max > 0);
                assert(methods[i].access != ACCESS_UNRULED);
                buffer_format(&path, "/%s/%s", methods[i].service, methods[i].name);
                block->paths[i] = arena_copy(&g->arena, buffer_bytes(&path));
                buffer_fini(&path);
        }
        while (*at)
                at = &(*at)->next;
        *at = block;
}

void gateway_each_method(
        const struct gateway *g, void (*each)(void *arg, const struct gateway_method *method), void *arg)
{
        for (const struct method_block *b = g->methods; b; b = b->next)
                for (unsigned i = 0; i < b->count; i++)
                        each(arg, &b->methods[i]);
}

static const struct gateway_method *find(const struct gateway *g, struct bytes path)
{
        for (const struct method_block *b = g->methods; b; b = b->next)
                for (unsigned i = 0; i < b->count; i++)
                        if (bytes_equal(b->paths[i], path))
                                return &b->methods[i];
        return NULL;
}

bool grpc_is_method(const struct gateway *g, struct bytes path)
{
        return find(g, path);
}

void grpc_fini(struct gateway *g)
{
        while (g->methods) {
                struct method_block *next = g->methods->next;

                free(g->methods);
                g->methods = next;
        }
        buffer_fini(&g->unwanted);
        arena_fini(&g->arena);
}

/* POST with "application/grpc" and "application/grpc+proto", with parameters or without. */
bool grpc_is_call(const struct gateway_request *r)
{
        static const struct bytes grpc = {(const uint8_t *)"application/grpc", 16};
        static const struct bytes proto = {(const uint8_t *)"+proto", 6};
        struct bytes type;

        if (!bytes_equal_string(r->method, "POST") || !gateway_header(r, "content-type", &type) ||
                !bytes_starts_with(type, grpc))
                return false;
        type = bytes_of(type.data + grpc.size, type.size - grpc.size);
        if (bytes_starts_with(type, proto))
                type = bytes_of(type.data + proto.size, type.size - proto.size);
        return !type.size || type.data[0] == ';' || type.data[0] == ' ';
}

/* ---- the end of a call ---- */

bool gateway_call_is_over(const struct gateway_request *call)
{
        return call->state == REQUEST_ENDED;
}

static void add_trailer(struct gateway_request *r, struct bytes name, struct bytes value)
{
        size_t size = name.size + value.size + 32; /* as HTTP/2 counts (RFC 9113 section 6.5.2) */

        if (r->trailer_count == TRAILERS_MAX || r->trailers_size + size > TRAILERS_SIZE_MAX)
                return;
        if (!r->trailers)
                r->trailers = arena_get(&r->arena, TRAILERS_MAX * sizeof *r->trailers);
        r->trailers[r->trailer_count++] = (struct header){.name = name, .value = value};
        r->trailers_size += size;
}

/* A space at either end would be lost on the way, or make the header invalid. */
static bool is_plain(struct bytes text, size_t i)
{
        uint8_t c = text.data[i];

        if (c == ' ')
                return i > 0 && i + 1 < text.size;
        return c > ' ' && c < 0x7f && c != '%';
}

static struct bytes percent_encode(struct arena *arena, struct bytes text)
{
        static const char digits[] = "0123456789ABCDEF";
        size_t size = text.size, n = 0;
        uint8_t *out;

        for (size_t i = 0; i < text.size; i++)
                size += is_plain(text, i) ? 0 : 2;
        out = arena_get(arena, size);
        for (size_t i = 0; i < text.size; i++) {
                if (is_plain(text, i)) {
                        out[n++] = text.data[i];
                        continue;
                }
                out[n++] = '%';
                out[n++] = (uint8_t)digits[text.data[i] >> 4];
                out[n++] = (uint8_t)digits[text.data[i] & 15];
        }
        return bytes_of(out, n);
}

void gateway_call_trailer(struct gateway_request *call, const char *name, struct bytes value)
{
        size_t size = strlen(name);

        if (gateway_call_is_over(call))
                return;
        if (size > 4 && strcmp(name + size - 4, "-bin") == 0) {
                struct buffer text = {0};

                base64_encode(&text, value);
                value = arena_copy(&call->arena, buffer_bytes(&text));
                buffer_fini(&text);
        } else {
                value = percent_encode(&call->arena, value);
        }
        add_trailer(call, arena_copy(&call->arena, bytes_of(name, size)), value);
}

/* The longest beginning that is small enough and ends with a whole character. */
static struct bytes cut(const char *message)
{
        struct bytes text = bytes_of_string(message);

        if (text.size <= STATUS_MESSAGE_SIZE_MAX)
                return text;
        text.size = STATUS_MESSAGE_SIZE_MAX;
        while (text.size && (text.data[text.size] & 0xc0) == 0x80)
                text.size--;
        return text;
}

/* Status and message are the last trailers to be added and the first that must fit. */
static_assert(TRAILERS_SIZE_MAX + 3 * STATUS_MESSAGE_SIZE_MAX + 128 < 12 * 1024,
        "the end of a call fits into a frame");

static void add_status(struct gateway_request *r, enum grpc_status status, const char *message)
{
        static const char texts[][3] = {
                "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};
        struct header all[TRAILERS_MAX + 2];
        unsigned n = 0;

        assert((unsigned)status < COUNT_OF(texts));
        all[n++] = (struct header){
                .name = BYTES_LITERAL("grpc-status"), .value = bytes_of_string(texts[status])};
        if (message && message[0])
                all[n++] = (struct header){.name = BYTES_LITERAL("grpc-message"),
                        .value = percent_encode(&r->arena, cut(message))};
        for (unsigned i = 0; i < r->trailer_count; i++)
                all[n++] = r->trailers[i];
        r->trailers = arena_get(&r->arena, n * sizeof *all);
        memcpy(r->trailers, all, n * sizeof *all);
        r->trailer_count = n;
}

void gateway_call_end(struct gateway_request *call, enum grpc_status status, const char *message)
{
        struct gateway *g = call->gateway;

        if (gateway_call_is_over(call))
                return;
        assert(call->connection);
        add_status(call, status, message);
        request_move(call, REQUEST_ENDED);
        call->on_writable = NULL;
        call->is_out_ended = true;
        list_remove(&call->deadline);
        g->stats.grpc_failed += status != GRPC_OK;
        if (call->call_method)
                g->stats.grpc_calls_open--;
        if (call->has_response_head)
                h2_resume(call);
        else
                h2_send_trailers_only(call);
        connection_touch(call->connection);
}

static void tell_gone(struct gateway_request *r)
{
        if (r->call_method->on_gone)
                r->call_method->on_gone(r->call_method->arg, r);
}

void grpc_fail(struct gateway_request *r, enum grpc_status status, const char *format, ...)
{
        char text[STATUS_MESSAGE_SIZE_MAX];
        va_list arguments;

        assert(!gateway_call_is_over(r));
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        gateway_call_end(r, status, text);
        if (r->call_method)
                tell_gone(r);
}

void grpc_gone(struct gateway_request *r)
{
        assert(gateway_call_is_over(r));
        r->gateway->stats.grpc_calls_open--;
        tell_gone(r);
}

void grpc_deadline(struct gateway_request *r)
{
        r->gateway->stats.grpc_deadline_exceeded++;
        grpc_fail(r, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
}

void grpc_timeout(struct gateway_request *r)
{
        if (!r->call_method->is_client_stream)
                grpc_fail(r, GRPC_DEADLINE_EXCEEDED, "the message comes too slowly");
}

void grpc_stop(struct gateway_request *r, bool must)
{
        if (gateway_call_is_over(r))
                return;
        if (r->holds && !must)
                r->is_call_paused = true; /* it gets its answer, but no further message is begun */
        else
                grpc_fail(r, GRPC_UNAVAILABLE, "the server is stopping: connect again in a second");
}

/* ---- messages in ---- */

/* Size with prefix of the message at the beginning of `data`; 0: too few bytes to tell, or it was refused and
 * the call is over. */
static uint64_t message_size(struct gateway_request *r, struct bytes data)
{
        uint64_t size;

        if (data.size < PREFIX_SIZE)
                return 0;
        size = (uint64_t)data.data[1] << 24 | (uint64_t)data.data[2] << 16 | (uint64_t)data.data[3] << 8 |
               data.data[4];
        if (data.data[0] == 1) {
                gateway_call_trailer(r, "grpc-accept-encoding", BYTES_LITERAL("identity"));
                grpc_fail(r, GRPC_UNIMPLEMENTED,
                        "compressed messages are not taken: send them as they are (identity)");
                return 0;
        }
        if (data.data[0]) {
                grpc_fail(r, GRPC_INVALID_ARGUMENT,
                        "a message begins with a compressed flag of %u, which must be 0 or 1", data.data[0]);
                return 0;
        }
        if (size > r->call_method->message_size_max) {
                grpc_fail(r, GRPC_RESOURCE_EXHAUSTED,
                        "a message of %llu bytes is too large: at most %llu are taken here",
                        (unsigned long long)size, (unsigned long long)r->call_method->message_size_max);
                return 0;
        }
        return PREFIX_SIZE + size;
}

/* Not while the client leaves so many answers of the call unread that no more should be made. */
static bool can_deliver(const struct gateway_request *r)
{
        if (gateway_call_is_over(r) || r->is_call_paused || r->is_login_pending)
                return false;
        return !r->call_method->is_client_stream || request_out_pending(r) < STREAM_OUT_MAX;
}

/* Input that cannot be handed over for the lack of room goes on when there is some again. */
static void wait_for_room(struct gateway_request *r)
{
        if (gateway_call_is_over(r) || r->is_call_paused || r->is_login_pending || can_deliver(r))
                return;
        r->is_input_due = true;
        r->is_waiting_for_room = true;
}

/* Hands over the whole messages at the beginning of `data`; gives their bytes. */
static size_t deliver(struct gateway_request *r, struct bytes data)
{
        size_t at = 0;

        while (can_deliver(r)) {
                struct bytes rest = bytes_of(data.data + at, data.size - at);
                uint64_t size = message_size(r, rest);

                if (!size || size > rest.size)
                        break;
                at += size;
                r->call_method->on_message(
                        r->call_method->arg, r, bytes_of(rest.data + PREFIX_SIZE, size - PREFIX_SIZE));
        }
        return at;
}

/* Keeps bytes for later; false: there is no memory for them and the call is over. */
static bool keep(struct gateway_request *r, struct bytes data)
{
        if (!data.size)
                return true;
        if (request_must_yield(r)) {
                grpc_fail(r, GRPC_RESOURCE_EXHAUSTED,
                        "the buffers of all sessions are full (%llu bytes): try again in a second",
                        (unsigned long long)r->gateway->memory_size);
                return false;
        }
        buffer_add_bytes(&r->body, data);
        request_account(r);
        return true;
}

static void forget_input(struct gateway_request *r)
{
        buffer_clear(&r->body);
        r->message_at = 0;
        request_account(r);
}

/* Completes the message in `body` by bytes from the beginning of *data. False: the call is over, or more must
 * come. */
static bool complete(struct gateway_request *r, struct bytes *data)
{
        uint64_t want = PREFIX_SIZE;

        assert(r->message_at == 0);
        for (;;) {
                size_t more = MIN(want > r->body.size ? want - r->body.size : 0, data->size);

                if (!keep(r, bytes_of(data->data, more)))
                        return false;
                *data = bytes_of(data->data + more, data->size - more);
                if (r->body.size < want)
                        return false;
                if (want > PREFIX_SIZE)
                        return true;
                want = message_size(r, buffer_bytes(&r->body));
                if (want <= r->body.size)
                        return want > 0;
        }
}

static void take_client_stream(struct gateway_request *r, struct bytes data)
{
        size_t used;

        if (r->is_input_due || !can_deliver(r)) {
                (void)keep(r, data);
                return;
        }
        if (r->body.size) {
                if (!complete(r, &data))
                        return;
                (void)deliver(r, buffer_bytes(&r->body));
                forget_input(r);
        }
        used = deliver(r, data);
        if (!gateway_call_is_over(r))
                (void)keep(r, bytes_of(data.data + used, data.size - used));
}

static void take_unary(struct gateway_request *r, struct bytes data)
{
        if (complete(r, &data) && data.size)
                grpc_fail(r, GRPC_INVALID_ARGUMENT, "this method takes exactly one message, more came");
}

static void give_window_back(struct gateway_request *r)
{
        if (!can_deliver(r) || !r->unconsumed)
                return;
        h2_consume_stream(r, r->unconsumed);
        r->unconsumed = 0;
}

void grpc_data(struct gateway_request *r, struct bytes data)
{
        h2_consume_connection(r, data.size);
        if (gateway_call_is_over(r))
                return;
        r->unconsumed += data.size;
        request_note_body(r, data.size);
        if (r->call_method->is_client_stream)
                take_client_stream(r, data);
        else
                take_unary(r, data);
        if (gateway_call_is_over(r)) {
                forget_input(r);
                return;
        }
        give_window_back(r);
        wait_for_room(r);
}

/* Hands over the one message of a unary call. One that is cut short stays, and is refused as one of a stream
 * is. */
static void deliver_unary(struct gateway_request *r)
{
        uint64_t size;

        if (!r->body.size) {
                grpc_fail(r, GRPC_INVALID_ARGUMENT, "this method takes exactly one message, none came");
                return;
        }
        size = message_size(r, buffer_bytes(&r->body));
        if (!size || size > r->body.size)
                return;
        assert(size == r->body.size);
        r->has_message = true;
        r->call_method->on_message(
                r->call_method->arg, r, bytes_of(r->body.data + PREFIX_SIZE, size - PREFIX_SIZE));
        forget_input(r);
}

/* What came while the call was paused. */
static void deliver_kept(struct gateway_request *r)
{
        if (!r->body.size)
                return;
        r->message_at += deliver(r, bytes_of(r->body.data + r->message_at, r->body.size - r->message_at));
        if (gateway_call_is_over(r) || r->message_at == r->body.size) {
                forget_input(r);
        } else if (can_deliver(r) || r->message_at >= r->body.size - r->message_at) {
                /* While it is paused again and again, each byte is moved at most once. */
                buffer_consume(&r->body, r->message_at);
                r->message_at = 0;
                request_account(r);
        }
}

/* All that can be handed over now: what was kept, and the client's end. */
static void go_on(struct gateway_request *r)
{
        r->is_input_due = false;
        if (r->call_method->is_client_stream)
                deliver_kept(r);
        else if (r->is_received && !r->has_message)
                deliver_unary(r);
        give_window_back(r);
        wait_for_room(r);
        if (!can_deliver(r) || !r->is_received || r->has_half_closed)
                return;
        r->has_half_closed = true;
        if (r->body.size)
                grpc_fail(r, GRPC_INVALID_ARGUMENT, "the request ends inside a message");
        else if (r->call_method->on_half_close)
                r->call_method->on_half_close(r->call_method->arg, r);
}

void grpc_received(struct gateway_request *r)
{
        r->is_received = true;
        if (can_deliver(r))
                go_on(r);
        else
                wait_for_room(r);
}

/* ---- the beginning of a call ---- */

/* At most eight digits and a unit. */
static bool parse_timeout(struct bytes text, uint64_t *ret_us)
{
        uint64_t n = 0;

        if (text.size < 2 || text.size > 9)
                return false;
        for (size_t i = 0; i + 1 < text.size; i++) {
                if (text.data[i] < '0' || text.data[i] > '9')
                        return false;
                n = n * 10 + (text.data[i] - '0');
        }
        switch (text.data[text.size - 1]) {
        case 'H':
                *ret_us = n * 3600 * SECOND_US;
                return true;
        case 'M':
                *ret_us = n * 60 * SECOND_US;
                return true;
        case 'S':
                *ret_us = n * SECOND_US;
                return true;
        case 'm':
                *ret_us = n * 1000;
                return true;
        case 'u':
                *ret_us = n;
                return true;
        case 'n':
                *ret_us = (n + 999) / 1000;
                return true;
        default:
                return false;
        }
}

/* Without a method, so that nobody is told. */
static void refuse_unknown(struct gateway_request *r)
{
        const uint8_t *slash = r->path.size ? memchr(r->path.data + 1, '/', r->path.size - 1) : NULL;
        bool is_service_known = false;

        if (slash) {
                struct bytes service = bytes_of(r->path.data, (size_t)(slash - r->path.data) + 1);

                for (const struct method_block *b = r->gateway->methods; b; b = b->next)
                        for (unsigned i = 0; i < b->count; i++)
                                is_service_known =
                                        is_service_known || bytes_starts_with(b->paths[i], service);
        }
        r->gateway->stats.grpc_unimplemented++;
        grpc_fail(r, GRPC_UNIMPLEMENTED, "%s: %.*s",
                is_service_known ? "the service has no such method" : "unknown service",
                (int)MIN(r->path.size, 256), r->path.data);
}

static void on_wake(struct gateway_request *r)
{
        const struct gateway_method *method = r->call_method;

        if (r->is_input_due && can_deliver(r))
                go_on(r);
        else if (r->is_input_due)
                wait_for_room(r);
        if (gateway_call_is_over(r) || !method->on_writable)
                return;
        r->is_waiting_for_room = request_room(r) == 0;
        if (r->is_waiting_for_room)
                return;
        method->on_writable(method->arg, r);
        if (!gateway_call_is_over(r))
                r->is_waiting_for_room = request_room(r) == 0;
}

void grpc_begin(struct gateway_request *r)
{
        struct gateway *g = r->gateway;
        const struct gateway_method *method;
        struct bytes timeout = BYTES_EMPTY;
        uint64_t timeout_us = 0;

        r->is_call = true;
        g->stats.grpc_calls++;
        request_account(r);
        if (r->is_head_too_large) {
                grpc_fail(r, GRPC_RESOURCE_EXHAUSTED,
                        "the headers are too large: at most %d bytes in %d headers are taken", HEAD_SIZE_MAX,
                        HEADERS_MAX);
                return;
        }
        method = find(g, r->path);
        if (!method) {
                refuse_unknown(r);
                return;
        }
        if (g->is_closing) {
                grpc_fail(r, GRPC_UNAVAILABLE, "the server is stopping: connect again in a second");
                return;
        }
        if (!g->store && !method->when_not_ready) {
                grpc_fail(r, GRPC_UNAVAILABLE, "the store is not open yet: try again in a second");
                return;
        }
        if (connection_must_yield(r->connection)) {
                grpc_fail(r, GRPC_RESOURCE_EXHAUSTED,
                        "the buffers of all sessions are full (%llu bytes): try again in a second",
                        (unsigned long long)g->memory_size);
                return;
        }
        if (gateway_header(r, "grpc-timeout", &timeout) && !parse_timeout(timeout, &timeout_us)) {
                grpc_fail(r, GRPC_INVALID_ARGUMENT,
                        "grpc-timeout is not at most eight digits and one of H M S m u n");
                return;
        }
        r->call_method = method;
        r->on_writable = on_wake;
        g->stats.grpc_calls_open++;
        if (timeout.size) {
                r->deadline_us = os_turn_time(g->os).monotonic_us + timeout_us;
                gateway_add_deadline(r);
        }
        (void)rights_begin(r); /* who is refused has been told */
}

void grpc_admit(struct gateway_request *r)
{
        assert(!r->is_login_pending);
        r->is_input_due = true;
        request_wake(r);
}

/* ---- what methods call ---- */

void gateway_call_set_state(struct gateway_request *call, void *state)
{
        call->call_state = state;
}

void *gateway_call_state(const struct gateway_request *call)
{
        return call->call_state;
}

uint64_t gateway_call_deadline_us(const struct gateway_request *call)
{
        return call->deadline_us;
}

void gateway_call_hold(struct gateway_request *call)
{
        assert(call->is_call);
        request_hold(call);
}

void gateway_call_release(struct gateway_request *call)
{
        assert(call->is_call);
        request_release(call);
}

struct buffer *gateway_message_begin(struct gateway_request *call)
{
        struct buffer *out = &call->out;

        if (gateway_call_is_over(call)) {
                buffer_clear(&call->gateway->unwanted);
                return &call->gateway->unwanted;
        }
        if (!call->has_response_head) {
                call->has_response_head = true;
                request_move(call, REQUEST_STREAMING);
                h2_send_grpc_head(call);
        }
        request_compact_out(call);
        call->message_out_at = out->size;
        buffer_reserve(out, PREFIX_SIZE);
        out->size += PREFIX_SIZE;
        return out;
}

void gateway_message_end(struct gateway_request *call)
{
        uint8_t *prefix;
        size_t size;

        if (gateway_call_is_over(call)) {
                if (call->gateway->unwanted.capacity > UNWANTED_KEPT_MAX)
                        buffer_fini(&call->gateway->unwanted);
                return;
        }
        assert(call->out.size >= call->message_out_at + PREFIX_SIZE);
        size = call->out.size - call->message_out_at - PREFIX_SIZE;
        assert(size <= UINT32_MAX);
        prefix = call->out.data + call->message_out_at;
        prefix[0] = 0;
        prefix[1] = (uint8_t)(size >> 24);
        prefix[2] = (uint8_t)(size >> 16);
        prefix[3] = (uint8_t)(size >> 8);
        prefix[4] = (uint8_t)size;
        request_has_out(call);
}

void gateway_call_wake(struct gateway_request *call)
{
        if (!gateway_call_is_over(call))
                request_wake(call);
}

void gateway_call_pause(struct gateway_request *call, bool is_paused)
{
        if (gateway_call_is_over(call) || call->gateway->is_closing)
                return; /* a server that stops begins nothing more */
        if (call->is_call_paused && !is_paused) {
                call->is_input_due = true;
                request_wake(call);
        }
        call->is_call_paused = is_paused;
}
