/* HTTP/2 over a connection: a server session of nghttp2, fed from memory and drained into memory.
 *
 * The bytes of an answer wait in the request's own buffer until flow control lets them go; they are copied
 * once, into the connection's output of this turn. A producer is asked for more when its buffer has run low,
 * so each stream of a connection gets its share of a turn.
 *
 * Against abuse nghttp2 bounds CONTINUATION frames, SETTINGS entries and unsent acknowledgements; we bound
 * header lists, streams, bodies, unread answers, the rate of resets, be they the client's or what its
 * mistakes make us send, and the rate of frames that move nothing. */
#include "gateway/room.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

enum {
        ANSWER_FIELDS_MAX = 32,
        /* Window updates that a frame of ours is worth: of its stream and of the connection, in two halves.
         */
        UPDATES_OF_FRAME = 4,
        UPDATES_DUE_MAX = 100000,
};

struct h2 {
        nghttp2_session *session;
        bool is_over_max; /* the turn's output is full; nghttp2 has more */
        uint64_t pinged_us;
        uint64_t moved_us;            /* when an answer last went on, or little was held */
        struct gateway_request *head; /* its header block is coming; NULL: none */
        uint64_t head_since_us;
        size_t fields_size;   /* what the block has unpacked to */
        unsigned updates_due; /* window updates that the client owes for what it was sent */
        struct bucket resets, idle_frames;
};

/* ---- answers out ---- */

static nghttp2_nv field(const char *name, struct bytes value)
{
        return (nghttp2_nv){
                .name = (uint8_t *)name,
                .namelen = strlen(name),
                .value = (uint8_t *)value.data,
                .valuelen = value.size,
        };
}

static void submit_trailers(nghttp2_session *session, struct gateway_request *r)
{
        nghttp2_nv fields[ANSWER_FIELDS_MAX];
        unsigned n = MIN(r->trailer_count, ANSWER_FIELDS_MAX);

        for (unsigned i = 0; i < n; i++)
                fields[i] = (nghttp2_nv){
                        .name = (uint8_t *)r->trailers[i].name.data,
                        .namelen = r->trailers[i].name.size,
                        .value = (uint8_t *)r->trailers[i].value.data,
                        .valuelen = r->trailers[i].value.size,
                };
        nghttp2_submit_trailer(session, r->stream_id, fields, n);
}

/* nghttp2 asks how many bytes there are; send_data copies them. */
static ssize_t read_data(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t size,
        uint32_t *flags, nghttp2_data_source *source, void *user)
{
        struct gateway_request *r = source->ptr;
        size_t pending = request_out_pending(r);

        (void)stream_id;
        (void)buffer;
        (void)user;
        if (!pending && !r->is_out_ended) {
                r->is_deferred = true;
                return NGHTTP2_ERR_DEFERRED;
        }
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        if (pending <= size && r->is_out_ended) {
                *flags |= NGHTTP2_DATA_FLAG_EOF;
                if (r->trailer_count) {
                        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                        submit_trailers(session, r);
                }
        }
        return (ssize_t)MIN(pending, size);
}

/* As much as the client takes in one frame. */
static ssize_t frame_size(nghttp2_session *session, uint8_t type, int32_t stream_id,
        int32_t connection_window, int32_t stream_window, uint32_t frame_size_max, void *user)
{
        (void)session;
        (void)type;
        (void)stream_id;
        (void)user;
        return MIN(MIN(connection_window, stream_window),
                (int32_t)MIN(frame_size_max, (uint32_t)STREAM_OUT_MAX));
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
        nghttp2_data_source *source, void *user)
{
        struct connection *c = user;
        struct gateway_request *r = source->ptr;

        (void)session;
        assert(frame->data.padlen == 0);
        assert(size <= request_out_pending(r));
        if (c->out.size >= TURN_OUT_MAX) {
                c->h2->is_over_max = true;
                return NGHTTP2_ERR_WOULDBLOCK;
        }
        buffer_reserve(&c->out, 9 + size);
        buffer_add(&c->out, head, 9);
        if (size)
                buffer_add(&c->out, r->out.data + r->out_at, size);
        r->out_at += size;
        r->taken_us = c->h2->moved_us = os_turn_time(r->gateway->os).monotonic_us;
        c->h2->updates_due = MIN(c->h2->updates_due + UPDATES_OF_FRAME, (unsigned)UPDATES_DUE_MAX);
        if (r->out_at == r->out.size) {
                buffer_clear(&r->out);
                r->out_at = 0;
        }
        request_account(r);
        if (r->is_waiting_for_room && request_out_pending(r) <= STREAM_OUT_LOW) {
                r->is_waiting_for_room = false;
                request_wake(r);
        }
        return 0;
}

void h2_pull(struct connection *c)
{
        c->h2->is_over_max = false;
        while (c->out.size < TURN_OUT_MAX) {
                const uint8_t *data;
                ssize_t n = nghttp2_session_mem_send(c->h2->session, &data);

                if (n < 0) {
                        c->is_doomed = true;
                        return;
                }
                if (n == 0)
                        return;
                buffer_add(&c->out, data, (size_t)n);
        }
        c->h2->is_over_max = true;
}

bool h2_wants_more(const struct connection *c)
{
        return c->h2->is_over_max;
}

bool h2_is_over(const struct connection *c)
{
        return !nghttp2_session_want_read(c->h2->session) && !nghttp2_session_want_write(c->h2->session);
}

void h2_resume(struct gateway_request *r)
{
        if (!r->is_deferred)
                return;
        r->is_deferred = false;
        nghttp2_session_resume_data(r->connection->h2->session, r->stream_id);
}

static void submit_answer(struct gateway_request *r, const nghttp2_nv *fields, unsigned n, bool has_body)
{
        nghttp2_data_provider provider = {.source.ptr = r, .read_callback = read_data};
        int e = nghttp2_submit_response(
                r->connection->h2->session, r->stream_id, fields, n, has_body ? &provider : NULL);

        if (e)
                r->connection->is_doomed = true; /* out of memory inside the library, or a bug here */
        connection_touch(r->connection);
}

/* As for HTTP/1.1: what a handler made from a client's bytes is no second header. */
static struct bytes clean_value(struct gateway_request *r, const char *value)
{
        uint8_t *copy = (uint8_t *)arena_string(&r->arena, bytes_of_string(value));

        for (uint8_t *at = copy; *at; at++)
                if (*at < 0x20 || *at == 0x7f)
                        *at = '_';
        return bytes_of(copy, strlen(value));
}

void h2_send_head(struct gateway_request *r, int status, const char *content_type,
        const struct gateway_header_field *headers, unsigned header_count, bool has_body)
{
        nghttp2_nv fields[ANSWER_FIELDS_MAX];
        unsigned n = 0;
        char status_text[12], size_text[24];

        snprintf(status_text, sizeof status_text, "%d", status);
        fields[n++] = field(":status", bytes_of_string(status_text));
        if (content_type) {
                fields[n++] = field("content-type", clean_value(r, content_type));
                /* Events are anybody's bytes: a browser must not find markup in what is none. */
                fields[n++] = field("x-content-type-options", BYTES_LITERAL("nosniff"));
        }
        if (r->is_out_ended && has_body) {
                snprintf(size_text, sizeof size_text, "%zu", r->out.size);
                fields[n++] = field("content-length", bytes_of_string(size_text));
        }
        fields[n++] = field("date", bytes_of_string(gateway_date(r->gateway)));
        for (unsigned i = 0; i < header_count && n < ANSWER_FIELDS_MAX; i++)
                fields[n++] = field(headers[i].name, clean_value(r, headers[i].value));
        if (r->answer_header.name && n < ANSWER_FIELDS_MAX)
                fields[n++] = field(r->answer_header.name, clean_value(r, r->answer_header.value));
        submit_answer(r, fields, n, has_body);
}

void h2_send_grpc_head(struct gateway_request *r)
{
        static const char status[] = ":status", ok[] = "200", type[] = "content-type",
                          grpc[] = "application/grpc";
        static const uint8_t flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
        static const nghttp2_nv fields[] = {
                {(uint8_t *)status, (uint8_t *)ok, sizeof status - 1, sizeof ok - 1, flags},
                {(uint8_t *)type, (uint8_t *)grpc, sizeof type - 1, sizeof grpc - 1, flags},
        };

        submit_answer(r, fields, COUNT_OF(fields), true);
}

void h2_send_trailers_only(struct gateway_request *r)
{
        nghttp2_nv fields[ANSWER_FIELDS_MAX];
        unsigned n = 0;

        fields[n++] = field(":status", BYTES_LITERAL("200"));
        fields[n++] = field("content-type", BYTES_LITERAL("application/grpc"));
        for (unsigned i = 0; i < r->trailer_count && n < ANSWER_FIELDS_MAX; i++)
                fields[n++] = (nghttp2_nv){
                        .name = (uint8_t *)r->trailers[i].name.data,
                        .namelen = r->trailers[i].name.size,
                        .value = (uint8_t *)r->trailers[i].value.data,
                        .valuelen = r->trailers[i].value.size,
                };
        submit_answer(r, fields, n, false);
}

/* ---- requests in ---- */

static struct gateway_request *request_of(nghttp2_session *session, int32_t stream_id)
{
        return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
        struct connection *c = user;
        struct gateway_request *r;

        c->h2->fields_size = 0;
        if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
                return 0;
        r = request_new(c);
        r->stream_id = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, r->stream_id, r);
        c->h2->head = r;
        c->h2->head_since_us = os_turn_time(c->gateway->os).monotonic_us;
        return 0;
}

/* The connection has gone too far: it is told why, and ends. */
static int end_connection(struct connection *c, uint32_t error)
{
        nghttp2_session_terminate_session(c->h2->session, error);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
        size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
        struct bytes n = bytes_of(name, name_size);
        struct bytes v = bytes_of(value, value_size);
        struct connection *c = user;
        struct gateway_request *r;

        (void)flags;
        c->h2->fields_size += name_size + value_size + 32;
        if (c->h2->fields_size > FIELDS_SIZE_MAX)
                return end_connection(
                        c, NGHTTP2_ENHANCE_YOUR_CALM); /* a few bytes can stand for many (HPACK) */
        if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
                return 0; /* a trailer: nobody asks for one */
        r = request_of(session, frame->hd.stream_id);
        if (!r || r->is_head_too_large)
                return 0;
        if (name[0] != ':') {
                r->is_head_too_large = !request_add_header(r, n, v);
                return 0;
        }
        r->head_size += name_size + value_size + 32;
        if (r->head_size > HEAD_SIZE_MAX) {
                r->is_head_too_large = true;
        } else if (bytes_equal_string(n, ":path")) {
                if (!request_set_target(r, arena_copy(&r->arena, v)))
                        request_set_target(r, BYTES_LITERAL("/*"));
        } else if (bytes_equal_string(n, ":method")) {
                r->method = arena_copy(&r->arena, v);
        } else if (bytes_equal_string(n, ":authority")) {
                r->authority = arena_copy(&r->arena, v);
        }
        return 0;
}

/* Two readers could take it for requests to different hosts (RFC 9113 section 8.3.1). */
static void refuse_host(struct gateway_request *r, struct bytes host)
{
        r->gateway->stats.http_requests++;
        r->is_refused = true;
        r->is_head = bytes_equal_string(r->method, "HEAD");
        gateway_reply_problem(r,
                &(struct gateway_problem){
                        .status = 400, .code = "bad-request", .title = "The request names two hosts"},
                "the host header says '%.*s', and :authority another", (int)MIN(host.size, 256), host.data);
}

/* Its answers are left unread: it gets no more of them, and may ask again when it has read some. */
static void refuse_more(struct gateway_request *r)
{
        r->is_refused = true;
        h2_reset(r, NGHTTP2_REFUSED_STREAM);
}

static void begin(struct gateway_request *r)
{
        struct bytes host = BYTES_EMPTY;

        r->connection->h2->head = NULL;
        r->body_by_us = os_turn_time(r->gateway->os).monotonic_us + BODY_TIMEOUT_US;
        if (!r->path.size)
                request_set_target(r, BYTES_LITERAL("/*"));
        if (!gateway_header(r, "host", &host))
                host = r->authority;
        if (!r->authority.size)
                r->authority = host;
        if (!bytes_equal(host, r->authority))
                refuse_host(r, host);
        else if (r->connection->out_held >= r->gateway->connection_out_max)
                refuse_more(r);
        else if (grpc_is_call(r))
                grpc_begin(r);
        else
                request_begin(r);
}

static void received(struct gateway_request *r)
{
        if (r->is_received)
                return;
        if (r->is_call) {
                r->is_received = true;
                grpc_received(r);
        } else {
                request_received(r);
        }
}

/* Does it move nothing? DATA is asked when it has come, since padding is nothing either. */
static bool is_idle_frame(struct h2 *h, const nghttp2_frame_hd *head)
{
        switch (head->type) {
        case NGHTTP2_HEADERS:
        case NGHTTP2_CONTINUATION: /* which nghttp2 counts */
        case NGHTTP2_RST_STREAM:
        case NGHTTP2_DATA:
                return false;
        case NGHTTP2_WINDOW_UPDATE:
                if (!h->updates_due)
                        return true;
                h->updates_due--;
                return false;
        default:
                return true;
        }
}

/* What nghttp2 lets pass, though it is refused by RFC 9113; NGHTTP2_NO_ERROR: nothing is wrong. */
static uint32_t error_of_frame(const nghttp2_frame_hd *head)
{
        size_t size = head->flags & NGHTTP2_FLAG_PADDED ? 1 : 0;

        switch (head->type) {
        case NGHTTP2_PRIORITY: /* section 6.3 */
                return head->stream_id ? NGHTTP2_NO_ERROR : NGHTTP2_PROTOCOL_ERROR;
        case NGHTTP2_HEADERS: /* section 4.2 */
                size += head->flags & NGHTTP2_FLAG_PRIORITY ? 5 : 0;
                return head->length >= size ? NGHTTP2_NO_ERROR : NGHTTP2_FRAME_SIZE_ERROR;
        default:
                return NGHTTP2_NO_ERROR;
        }
}

static bool count_idle_frame(struct connection *c)
{
        return bucket_add(&c->h2->idle_frames, os_turn_time(c->gateway->os).monotonic_us, IDLE_FRAMES_BURST,
                IDLE_FRAMES_PER_SECOND);
}

/* Resets are how a client makes work without waiting for its answers (CVE-2023-44487), its own as well as
 * those that its mistakes make us send (CVE-2025-8671). */
static bool count_reset(struct connection *c)
{
        return bucket_add(
                &c->h2->resets, os_turn_time(c->gateway->os).monotonic_us, RESETS_BURST, RESETS_PER_SECOND);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *user)
{
        struct connection *c = user;
        uint32_t error = error_of_frame(head);

        (void)session;
        if (error != NGHTTP2_NO_ERROR)
                return end_connection(c, error);
        if (is_idle_frame(c->h2, head) && !count_idle_frame(c))
                return end_connection(c, NGHTTP2_ENHANCE_YOUR_CALM);
        if (head->type == NGHTTP2_RST_STREAM && !count_reset(c))
                return end_connection(c, NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
}

/* A frame of a type that nobody knows has come; it is passed over (RFC 9113 section 4.1). */
static int on_unknown_frame(
        nghttp2_session *session, void **payload, const nghttp2_frame_hd *head, void *user)
{
        (void)session;
        (void)payload;
        (void)head;
        if (count_idle_frame(user))
                return NGHTTP2_ERR_CANCEL;
        return end_connection(user, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
        struct gateway_request *r;
        struct connection *c = user;

        if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
                return 0;
        if (frame->hd.type == NGHTTP2_DATA && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
                frame->hd.length <= frame->data.padlen && !count_idle_frame(c))
                return end_connection(c, NGHTTP2_ENHANCE_YOUR_CALM);
        r = request_of(session, frame->hd.stream_id);
        if (!r)
                return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                begin(r);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
                received(r);
        return 0;
}

/* An answer that ended before its request did. The rest of a body may still come and is thrown away; of a
 * large one no more is asked for, and some time after the answer, when it does not come to an end, the client
 * is told to stop (RFC 9113 section 8.1): clients that are told so at once lose the answer. */
static bool may_skip_rest(const struct gateway_request *r)
{
        struct bytes text;
        uint64_t size;

        if (r->is_call || r->skipped_size > SKIP_SIZE_MAX)
                return false;
        return !gateway_header(r, "content-length", &text) ||
               (bytes_to_number(text, &size) && size <= SKIP_SIZE_MAX);
}

static void stop_soon(struct gateway_request *r)
{
        r->body_by_us = os_turn_time(r->gateway->os).monotonic_us + SECOND_US;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
        size_t size, void *user)
{
        struct gateway_request *r = request_of(session, stream_id);

        (void)flags;
        (void)user;
        if (!r) {
                nghttp2_session_consume(session, stream_id, size);
                return 0;
        }
        if (r->is_call) {
                grpc_data(r, bytes_of(data, size));
                return 0;
        }
        if (r->state == REQUEST_ENDED) {
                bool was_skipped = may_skip_rest(r);

                r->skipped_size += size;
                if (!may_skip_rest(r)) {
                        if (was_skipped)
                                stop_soon(r);
                        nghttp2_session_consume_connection(session, size);
                        return 0;
                }
        }
        nghttp2_session_consume(session, stream_id, size);
        request_body(r, bytes_of(data, size));
        return 0;
}

void h2_consume_connection(struct gateway_request *r, size_t size)
{
        nghttp2_session_consume_connection(r->connection->h2->session, size);
}

void h2_consume_stream(struct gateway_request *r, size_t size)
{
        nghttp2_session_consume_stream(r->connection->h2->session, r->stream_id, size);
        connection_touch(r->connection);
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
        struct gateway_request *r;
        struct connection *c = user;

        if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
                !count_reset(c))
                nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
        if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
                return 0;
        if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
                return 0;
        r = request_of(session, frame->hd.stream_id);
        if (r && !r->is_received && r->is_call)
                nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
        else if (r && !r->is_received && !may_skip_rest(r))
                stop_soon(r);
        return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
        struct gateway_request *r = request_of(session, stream_id);

        struct connection *c = user;

        (void)error;
        if (!r)
                return 0;
        if (c->h2->head == r)
                c->h2->head = NULL;
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        request_close(r);
        return 0;
}

bool h2_receive(struct connection *c, struct bytes data)
{
        ssize_t n = nghttp2_session_mem_recv(c->h2->session, data.data, data.size);

        if (n < 0) {
                if (limits_may_tell(c->gateway))
                        gateway_fact(c->gateway, FACT_connection_failed, "%s: %s", c->peer,
                                nghttp2_strerror((int)n));
                /* Too much of something, unless we have already said what it is. */
                nghttp2_session_terminate_session(c->h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
                return false;
        }
        return true;
}

/* ---- life ---- */

static int new_session(struct connection *c, nghttp2_session **ret)
{
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;
        int e;

        if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&option))
                fault_exit(EXIT_CODE_BUG, "out of memory");
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, on_unknown_frame);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
        nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, frame_size);
        for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
                nghttp2_option_set_user_recv_extension_type(option, (uint8_t)type);
        nghttp2_option_set_max_outbound_ack(option, UNSENT_ACKNOWLEDGEMENTS_MAX);
        nghttp2_option_set_max_settings(option, SETTINGS_MAX);
        nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX); /* we count them */
        nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_no_auto_window_update(option, 1);
        e = nghttp2_session_server_new2(ret, callbacks, c, option);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_option_del(option);
        return e;
}

void h2_new(struct connection *c)
{
        struct h2 *h = MEMORY_NEW(struct h2);
        nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->gateway->streams_max},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_STREAM},
                {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_SIZE_MAX},
                {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        };

        if (new_session(c, &h->session))
                fault_exit(EXIT_CODE_BUG, "out of memory");
        h->moved_us = os_turn_time(c->gateway->os).monotonic_us;
        c->h2 = h;
        nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, COUNT_OF(settings));
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW_CONNECTION);
}

void h2_free(struct connection *c)
{
        if (!c->h2)
                return;
        nghttp2_session_del(c->h2->session);
        free(c->h2);
        c->h2 = NULL;
}

void h2_goaway(struct connection *c)
{
        nghttp2_submit_goaway(c->h2->session, NGHTTP2_FLAG_NONE,
                nghttp2_session_get_last_proc_stream_id(c->h2->session), NGHTTP2_NO_ERROR, NULL, 0);
        connection_touch(c);
}

void h2_reset(struct gateway_request *r, uint32_t error)
{
        nghttp2_submit_rst_stream(r->connection->h2->session, NGHTTP2_FLAG_NONE, r->stream_id, error);
        connection_touch(r->connection);
}

static void tick_request(struct gateway_request *r, uint64_t now_us)
{
        bool is_body_missing = r->state == REQUEST_RECEIVING && !r->is_received && now_us >= r->body_by_us &&
                               r != r->connection->h2->head;

        if (gateway_is_short_of_memory(r->gateway) && request_out_pending(r) &&
                now_us - r->taken_us >= STUCK_TIMEOUT_US) {
                h2_reset(r, NGHTTP2_ENHANCE_YOUR_CALM);
        } else if (r->state == REQUEST_ENDED && !r->is_received && !request_out_pending(r) &&
                   now_us >= r->body_by_us) {
                h2_reset(r, NGHTTP2_NO_ERROR);
        } else if (is_body_missing && r->is_call) {
                grpc_timeout(r);
        } else if (is_body_missing) {
                r->is_refused = true;
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 408, .code = "timeout", .title = "The request took too long"},
                        "the body comes too slowly: at least %d bytes in a second are expected",
                        BODY_RATE_MIN);
        }
}

/* The client is told before the connection is closed. */
static void end_slowly(struct connection *c, const char *why)
{
        if (limits_may_tell(c->gateway))
                gateway_fact(c->gateway, FACT_connection_failed, "%s: %s", c->peer, why);
        nghttp2_session_terminate_session(c->h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
        c->is_doomed = true;
        connection_touch(c);
}

void h2_tick(struct connection *c, uint64_t now_us)
{
        uint64_t silent_us = now_us - c->received_us;

        if (list_is_empty(&c->requests)) {
                if (silent_us >= IDLE_TIMEOUT_US) {
                        h2_goaway(c);
                        c->is_doomed = true;
                }
                return;
        }
        if (c->h2->head && now_us - c->h2->head_since_us >= HEAD_TIMEOUT_US) {
                end_slowly(c, "the head of a request did not come in time");
                return;
        }
        if (c->out_held < c->gateway->connection_out_max)
                c->h2->moved_us = now_us;
        if (now_us >= c->h2->moved_us + HELD_TIMEOUT_US) {
                end_slowly(c, "the client takes nothing of what it asked for");
                return;
        }
        if (silent_us >= PING_AFTER_US + PING_TIMEOUT_US) {
                connection_close(c, "the client does not answer a ping");
                return;
        }
        if (silent_us >= PING_AFTER_US && c->h2->pinged_us <= c->received_us) {
                nghttp2_submit_ping(c->h2->session, NGHTTP2_FLAG_NONE, NULL);
                c->h2->pinged_us = now_us;
                connection_touch(c);
        }
        LIST_EACH_SAFE (at, &c->requests)
                tick_request(CONTAINER_OF(at, struct gateway_request, link), now_us);
}
