#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW_SIZE = 64 << 20, OUT_SIZE = 1 << 20, BATCH_HEAD_MAX = 512 };

/* ---- protobuf ---- */

size_t put_varint(uint8_t *p, uint64_t n)
{
        size_t i = 0;

        for (; n >= 0x80; n >>= 7)
                p[i++] = (uint8_t)(n | 0x80);
        p[i++] = (uint8_t)n;
        return i;
}

size_t put_field(uint8_t *p, unsigned field, const void *data, size_t size)
{
        size_t n = put_varint(p, field << 3 | 2);

        n += put_varint(p + n, size);
        memcpy(p + n, data, size);
        return n + size;
}

size_t put_frame(uint8_t *p, const uint8_t *message, size_t size)
{
        p[0] = 0;
        for (int i = 0; i < 4; i++)
                p[1 + i] = (uint8_t)(size >> (24 - 8 * i));
        memcpy(p + 5, message, size);
        return size + 5;
}

static uint64_t take_varint(const uint8_t **at, const uint8_t *end)
{
        uint64_t n = 0;

        for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
                uint8_t byte = *(*at)++;

                n |= (uint64_t)(byte & 0x7f) << shift;
                if (byte < 0x80)
                        return n;
        }
        fprintf(stderr, "a message is malformed\n");
        exit(1);
}

/* A field: its number, and its value or its bytes. */
static unsigned take_field(const uint8_t **at, const uint8_t *end, const uint8_t **ret_data, uint64_t *ret)
{
        uint64_t tag = take_varint(at, end);

        *ret = take_varint(at, end);
        *ret_data = *at;
        if ((tag & 7) == 2) {
                if (*ret > (uint64_t)(end - *at)) {
                        fprintf(stderr, "a message is malformed\n");
                        exit(1);
                }
                *at += *ret;
        } else if ((tag & 7) != 0) {
                fprintf(stderr, "a message has a field of an unknown kind\n");
                exit(1);
        }
        return (unsigned)(tag >> 3);
}

bool client_parse_event(const uint8_t *message, size_t size, bool wants_data, struct client_event *ret)
{
        const uint8_t *at = message;
        const uint8_t *end = message + size;
        const uint8_t *data;
        uint64_t n;

        if (!size || *at != 0x0a)
                return false;
        for (int depth = 0; depth < 2; depth++) { /* ReadResp.event, ReadEvent.event */
                if (take_field(&at, end, &data, &n) != 1)
                        return false;
                at = data;
                end = data + n;
        }
        *ret = (struct client_event){0};
        while (at < end) {
                unsigned field = take_field(&at, end, &data, &n);

                if (field == 1) {
                        ret->id = data;
                        ret->id_size = n;
                } else if (field == 2) {
                        const uint8_t *in = data;

                        take_field(&in, data + n, &ret->stream, &n);
                        ret->stream_size = n;
                } else if (field == 3) {
                        ret->revision = n;
                } else if (field == 8) {
                        ret->data = data;
                        ret->data_size = n;
                } else if (!wants_data) {
                        break; /* the ids and numbers come first */
                }
        }
        return true;
}

/* ---- what is sent, of one connection at a time ---- */

static uint8_t gathered[OUT_SIZE];
static size_t gathered_size;

static void write_gathered(struct client *k)
{
        for (size_t done = 0; done < gathered_size;) {
                ssize_t n;

                if (k->tls) {
                        n = SSL_write(k->tls, gathered + done, (int)(gathered_size - done));
                        if (n <= 0 && SSL_get_error(k->tls, (int)n) != SSL_ERROR_WANT_WRITE)
                                load_die("SSL_write");
                } else {
                        n = write(k->fd, gathered + done, gathered_size - done);
                        if (n < 0 && errno != EAGAIN)
                                load_die("write");
                }
                done += n > 0 ? (size_t)n : 0;
        }
        gathered_size = 0;
}

static void gather(struct client *k, const uint8_t *data, size_t size)
{
        if (gathered_size + size > sizeof gathered)
                write_gathered(k);
        memcpy(gathered + gathered_size, data, size);
        gathered_size += size;
}

/* ---- calls ---- */

static void reserve(uint8_t **data, size_t *capacity, size_t size)
{
        if (size <= *capacity)
                return;
        *capacity = size * 2;
        *data = realloc(*data, *capacity);
        if (!*data)
                load_die("realloc");
}

void call_add_framed(struct client_call *c, const uint8_t *frames, size_t size)
{
        reserve(&c->out, &c->out_capacity, c->out_size + size);
        memcpy(c->out + c->out_size, frames, size);
        c->out_size += size;
        if (c->is_deferred) {
                c->is_deferred = false;
                nghttp2_session_resume_data(c->client->session, c->id);
        }
}

void call_add(struct client_call *c, const uint8_t *message, size_t size)
{
        reserve(&c->out, &c->out_capacity, c->out_size + size + 5);
        put_frame(c->out + c->out_size, message, size);
        c->out_size += size + 5;
        call_add_framed(c, message, 0);
}

void call_half_close(struct client_call *c)
{
        c->is_half_closed = true;
        call_add_framed(c, c->out, 0);
}

void call_cancel(struct client_call *c)
{
        if (!c->is_cancelled)
                nghttp2_submit_rst_stream(c->client->session, NGHTTP2_FLAG_NONE, c->id, NGHTTP2_CANCEL);
        c->is_cancelled = true;
}

/* Says how many bytes there are; on_send copies them. */
static ssize_t on_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
        nghttp2_data_source *source, void *arg)
{
        struct client_call *c = source->ptr;
        size_t n = c->out_size - c->out_sent;

        (void)session;
        (void)id;
        (void)to;
        (void)arg;
        if (!n && !c->is_half_closed) {
                c->is_deferred = true;
                return NGHTTP2_ERR_DEFERRED;
        }
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        if (n <= size && c->is_half_closed)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)(n < size ? n : size);
}

static int on_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
        nghttp2_data_source *source, void *arg)
{
        struct client_call *c = source->ptr;

        (void)session;
        (void)frame;
        (void)arg;
        gather(c->client, head, 9);
        gather(c->client, c->out + c->out_sent, size);
        c->out_sent += size;
        if (c->out_sent == c->out_size) {
                c->out_sent = 0;
                c->out_size = 0;
        }
        return 0;
}

#define HEADER(name, value)                                                                                  \
        {                                                                                                    \
                (uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE   \
        }

void call_start(struct client_call *c)
{
        char path[128];
        nghttp2_nv headers[] = {HEADER(":method", "POST"), HEADER(":scheme", "http"),
                HEADER(":authority", "localhost"), HEADER(":path", ""),
                HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
        nghttp2_data_provider body = {.source.ptr = c, .read_callback = on_body};

        headers[3].value = (uint8_t *)path;
        headers[3].valuelen = (size_t)snprintf(path, sizeof path, "/event_store.client.%s", c->method);
        c->in_size = 0;
        c->is_deferred = false;
        c->is_cancelled = false;
        c->is_open = true;
        c->client->open_calls++;
        c->id = nghttp2_submit_request(
                c->client->session, NULL, headers, sizeof headers / sizeof *headers, &body, c);
        if (c->id < 0)
                load_die("nghttp2_submit_request");
}

static size_t message_size(const uint8_t *head)
{
        return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}

/* What is whole is told where it stands; the rest is kept. */
static void take(struct client_call *c, const uint8_t *data, size_t size)
{
        while (size && !c->is_cancelled) {
                size_t wanted = c->in_size < 5 ? 5 : 5 + message_size(c->in);
                size_t n;

                if (!c->in_size && size >= 5 && size - 5 >= message_size(data)) {
                        n = message_size(data);
                        c->on_message(c, data + 5, n);
                        data += n + 5;
                        size -= n + 5;
                        continue;
                }
                n = wanted - c->in_size < size ? wanted - c->in_size : size;
                reserve(&c->in, &c->in_capacity, c->in_size + n);
                memcpy(c->in + c->in_size, data, n);
                c->in_size += n;
                data += n;
                size -= n;
                if (c->in_size >= 5 && c->in_size == 5 + message_size(c->in)) {
                        c->on_message(c, c->in + 5, c->in_size - 5);
                        c->in_size = 0;
                }
        }
}

static int on_data(
        nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *arg)
{
        struct client_call *c = nghttp2_session_get_stream_user_data(session, id);

        (void)flags;
        (void)arg;
        if (c)
                take(c, data, size);
        return 0;
}

/* A refusal has no message, only these. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
        size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags, void *arg)
{
        (void)session;
        (void)frame;
        (void)flags;
        (void)arg;
        if (name_size == 11 && memcmp(name, "grpc-status", 11) == 0 && (value_size != 1 || *value != '0')) {
                fprintf(stderr, "a call ended with status %.*s\n", (int)value_size, value);
                exit(1);
        }
        return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
        struct client_call *c = nghttp2_session_get_stream_user_data(session, id);

        (void)arg;
        if (error && !c->is_cancelled) {
                fprintf(stderr, "a call failed: HTTP/2 error %u\n", error);
                exit(1);
        }
        c->client->open_calls--;
        c->is_open = false;
        c->out_size = 0;
        c->out_sent = 0;
        c->on_end(c);
        return 0;
}

/* ---- connections ---- */

static void secure(struct client *k)
{
        static const uint8_t alpn[] = "\2h2";
        static SSL_CTX *context;

        if (!context) {
                context = SSL_CTX_new(TLS_client_method());
                SSL_CTX_set_mode(
                        context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
                SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn - 1);
        }
        k->tls = SSL_new(context);
        SSL_set_fd(k->tls, k->fd);
        if (SSL_connect(k->tls) != 1)
                load_die("SSL_connect");
}

static void connect_to(struct client *k, const struct load_options *o)
{
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_port = htons(o->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_SIZE},
                {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20}};
        nghttp2_session_callbacks *callbacks;
        int one = 1;

        k->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(k->fd, (struct sockaddr *)&address, sizeof address))
                load_die("connect");
        setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (o->is_tls)
                secure(k);
        fcntl(k->fd, F_SETFL, O_NONBLOCK);
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send);
        nghttp2_session_client_new(&k->session, callbacks, k);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_submit_settings(k->session, NGHTTP2_FLAG_NONE, settings, 2);
        nghttp2_session_set_local_window_size(k->session, NGHTTP2_FLAG_NONE, 0, WINDOW_SIZE);
}

struct client *client_connect(const struct load_options *o)
{
        struct client *clients = calloc(o->connections, sizeof *clients);

        for (unsigned i = 0; i < o->connections; i++)
                connect_to(&clients[i], o);
        return clients;
}

/* Everything that is to be sent, gathered into few writes. */
static void flush(struct client *k)
{
        for (;;) {
                const uint8_t *piece;
                ssize_t n = nghttp2_session_mem_send(k->session, &piece);

                if (n < 0)
                        load_die("nghttp2_session_mem_send");
                if (n == 0)
                        break;
                gather(k, piece, (size_t)n);
        }
        write_gathered(k);
}

static uint8_t in[1 << 20];

/* Until nothing is left: what the engine holds back wakes nobody. */
static void receive_secure(struct client *k)
{
        int got;

        while ((got = SSL_read(k->tls, in, sizeof in)) > 0)
                if (nghttp2_session_mem_recv(k->session, in, (size_t)got) < 0)
                        load_die("nghttp2_session_mem_recv");
        if (SSL_get_error(k->tls, got) != SSL_ERROR_WANT_READ)
                load_die("the server closed the connection");
}

static void receive(struct client *k)
{
        ssize_t got;

        if (k->tls) {
                receive_secure(k);
                return;
        }
        got = read(k->fd, in, sizeof in);
        if (got == 0 || (got < 0 && errno != EAGAIN))
                load_die("the server closed the connection");
        if (got > 0 && nghttp2_session_mem_recv(k->session, in, (size_t)got) < 0)
                load_die("nghttp2_session_mem_recv");
}

static unsigned flush_all(struct client *clients, unsigned count)
{
        unsigned open_calls = 0;

        for (unsigned i = 0; i < count; i++) {
                if (nghttp2_session_want_write(clients[i].session))
                        flush(&clients[i]);
                open_calls += clients[i].open_calls;
        }
        return open_calls;
}

void client_run(struct client *clients, unsigned count, uint64_t (*on_turn)(void *arg), void *arg)
{
        struct epoll_event events[256];
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        uint64_t heard_us = load_now_us();

        for (unsigned i = 0; i < count; i++) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

                epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
        }
        for (;;) {
                uint64_t wait_us = on_turn ? on_turn(arg) : CLIENT_IDLE;
                struct timespec wait = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000) * 1000};
                int n;

                if (!flush_all(clients, count) && wait_us == CLIENT_IDLE)
                        break;
                n = epoll_pwait2(epoll, events, 256, &wait, NULL);
                for (int i = 0; i < n; i++)
                        receive(&clients[events[i].data.u32]);
                if (n > 0) {
                        heard_us = load_now_us();
                } else if (load_now_us() - heard_us > CLIENT_IDLE) {
                        fprintf(stderr, "no answer for five seconds\n");
                        exit(1);
                }
        }
        close(epoll);
}

/* ---- appends ---- */

static void make_data(uint8_t *data, const struct load_options *o)
{
        static const char begin[] = "{\"number\":1,\"text\":\"";

        memset(data, 'x', o->size);
        if (!o->is_json)
                return;
        if (o->size < sizeof begin + 2) {
                fprintf(stderr, "JSON needs more bytes\n");
                exit(2);
        }
        memcpy(data, begin, sizeof begin - 1);
        memcpy(data + o->size - 2, "\"}", 2);
}

static size_t put_metadata(uint8_t *p, const char *key, const char *value)
{
        uint8_t pair[64];
        size_t size = put_field(pair, 1, key, strlen(key));

        size += put_field(pair + size, 2, value, strlen(value));
        return put_field(p, 2, pair, size);
}

/* In a batch the events are fields of one message, behind place for what stands before them; else each is a
 * message. */
static void make_events(struct appender *a)
{
        const struct load_options *o = a->options;
        uint8_t *data = malloc(o->size);
        uint8_t *inner = malloc(o->size + 256);
        uint8_t *outer = malloc(o->size + 256);
        uint8_t id[64];

        make_data(data, o);
        a->events = malloc(BATCH_HEAD_MAX + (size_t)(o->size + 256) * o->batch);
        a->events_size = a->is_batch ? BATCH_HEAD_MAX : 0;
        a->id_at = malloc(sizeof *a->id_at * o->batch);
        a->data_at = malloc(sizeof *a->data_at * o->batch);
        for (unsigned i = 0; i < o->batch; i++) {
                size_t id_size = put_field(id, 2, "00000000-0000-4000-8000-000000000000", 36);
                size_t n = put_field(inner, 1, id, id_size);
                uint8_t *at = a->events + a->events_size;

                n += put_metadata(inner + n, "type", "BenchHappened");
                n += put_metadata(inner + n, "content-type",
                        o->is_json ? "application/json" : "application/octet-stream");
                n += put_field(inner + n, 4, data, o->size);
                if (a->is_batch)
                        n = put_field(at, 3, inner, n);
                else
                        n = put_frame(at, outer, put_field(outer, 2, inner, n));
                a->id_at[i] = (size_t)((uint8_t *)memmem(at, n, "00000000-", 9) - a->events);
                a->events_size += n;
                a->data_at[i] = a->events_size - o->size;
        }
        if (a->is_batch) {
                a->events[a->events_size++] = 4 << 3; /* is_final */
                a->events[a->events_size++] = 1;
        }
        free(data);
        free(inner);
        free(outer);
}

static void stamp(struct appender *a)
{
        static uint64_t next;
        static const char digits[] = "0123456789abcdef";

        for (unsigned i = 0; i < a->options->batch; i++) {
                uint64_t n = next++ * 0x9e3779b97f4a7c15ull;
                uint8_t *id = a->events + a->id_at[i];

                for (int k = 0; k < 8; k++)
                        id[k] = (uint8_t)digits[(n >> (4 * k)) & 15];
                for (int k = 0; k < 8; k++)
                        id[24 + k] = (uint8_t)digits[(n >> (32 + 4 * k)) & 15];
                if (!a->options->is_json && a->options->size >= 8)
                        memcpy(a->events + a->data_at[i], &a->started_us, 8);
        }
}

static void on_append_message(struct client_call *c, const uint8_t *message, size_t size)
{
        struct appender *a = c->arg;

        a->is_ok = size && *message == 0x0a; /* AppendResp.success */
}

static void on_append_end(struct client_call *c)
{
        struct appender *a = c->arg;

        if (!a->is_batch)
                a->on_appended(c);
        else if (a->is_waiting)
                appender_finish(a);
}

/* BatchAppendResp: one for each message of the call. */
static void on_batch_message(struct client_call *c, const uint8_t *message, size_t size)
{
        struct appender *a = c->arg;
        const uint8_t *end = message + size;
        const uint8_t *data;
        uint64_t n;

        while (message < end)
                if (take_field(&message, end, &data, &n) == 3) /* success */
                        a->is_ok = true;
        a->on_appended(c);
}

static void init(struct appender *a, struct client *client, const struct load_options *o, bool is_batch,
        void (*on_appended)(struct client_call *c))
{
        *a = (struct appender){
                .call = {.client = client,
                        .method = is_batch ? "streams.Streams/BatchAppend" : "streams.Streams/Append",
                        .on_message = is_batch ? on_batch_message : on_append_message,
                        .on_end = on_append_end,
                        .arg = a,
                        .is_half_closed = !is_batch},
                .options = o,
                .on_appended = on_appended,
                .is_batch = is_batch,
        };
        make_events(a);
}

void appender_init(struct appender *a, struct client *client, const struct load_options *o,
        void (*on_appended)(struct client_call *c))
{
        init(a, client, o, false, on_appended);
}

void batch_appender_init(struct appender *a, struct client *client, const struct load_options *o,
        void (*on_appended)(struct client_call *c))
{
        init(a, client, o, true, on_appended);
}

/* Which stream, and what is expected of it: the same fields in both calls. */
static size_t put_options(const struct appender *a, uint8_t *options)
{
        uint8_t name[160];
        size_t n = put_field(options, 1, name, put_field(name, 3, a->stream, strlen(a->stream)));

        if (a->takes_any_revision) {
                n += put_field(options + n, 4, "", 0);
        } else if (a->has_revision) {
                options[n++] = 2 << 3;
                n += put_varint(options + n, a->revision);
        } else {
                n += put_field(options + n, 3, "", 0);
        }
        return n;
}

static void add_batch(struct appender *a, const uint8_t *options, size_t options_size)
{
        static const char correlation[] = "\x12\x24"
                                          "0000000b-0000-4000-8000-00000000000b";
        uint8_t head[BATCH_HEAD_MAX];
        uint8_t *at = a->events + BATCH_HEAD_MAX;
        size_t size = put_field(head, 1, correlation, sizeof correlation - 1);

        size += put_field(head + size, 2, options, options_size);
        at -= size;
        memcpy(at, head, size);
        call_add(&a->call, at, (size_t)(a->events + a->events_size - at));
        if (!a->call.is_open)
                call_start(&a->call);
}

void appender_start(struct appender *a)
{
        uint8_t options[256];
        uint8_t message[300];
        size_t n = put_options(a, options);

        a->is_ok = false;
        a->is_waiting = true;
        a->started_us = load_now_us();
        stamp(a);
        if (a->is_batch) {
                add_batch(a, options, n);
                return;
        }
        call_add(&a->call, message, put_field(message, 1, options, n));
        call_add_framed(&a->call, a->events, a->events_size);
        call_start(&a->call);
}

uint64_t appender_finish(struct appender *a)
{
        uint64_t took = load_now_us() - a->started_us;

        if (!a->is_ok) {
                fprintf(stderr, "an append failed\n");
                exit(1);
        }
        a->is_waiting = false;
        a->revision = a->has_revision ? a->revision + a->options->batch : a->options->batch - 1;
        a->has_revision = true;
        return took;
}

void appender_stop(struct appender *a)
{
        if (a->call.is_open && !a->is_waiting && !a->call.is_half_closed)
                call_half_close(&a->call);
}
