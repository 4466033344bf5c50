/* KurrentDB's gRPC protocol under load: a client of one thread over nghttp2, as thin as it can be, so that
 * the server is what is measured. Append is the client-streaming call of one options message and `batch`
 * events. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { BODY_SIZE_MAX = 4 << 20, WINDOW_SIZE = 64 << 20, OUT_SIZE = 1 << 20 };

struct connection;

struct call {
        struct connection *connection;
        uint8_t *body;
        size_t body_size;
        size_t body_sent;
        uint8_t *events; /* the messages of the events: the same in each append but for the ids */
        size_t events_size;
        size_t *id_at; /* where the ids stand in it */
        char stream[128];
        uint64_t revision;
        bool has_revision;
        bool is_ok;
        uint64_t started_us;
        /* of a read: the frame that is under way */
        uint8_t head[5];
        size_t head_size;
        size_t message_left;
        bool is_first_byte;
        uint64_t events_read;
};

struct connection {
        int fd;
        nghttp2_session *session;
        const struct load_options *options;
        struct load_samples *samples;
        uint64_t end_us;
        unsigned open_calls;
        bool is_read;
};

static size_t put_varint(uint8_t *p, uint64_t n)
{
        size_t i = 0;

        for (; n >= 0x80; n >>= 7)
                p[i++] = (uint8_t)(n | 0x80);
        p[i++] = (uint8_t)n;
        return i;
}

/* A length-delimited field. */
static size_t put_field(uint8_t *p, unsigned field, const void *data, size_t size)
{
        size_t n = put_varint(p, field << 3 | 2);

        n += put_varint(p + n, size);
        memcpy(p + n, data, size);
        return n + size;
}

static size_t put_frame(uint8_t *p, const uint8_t *message, size_t size)
{
        p[0] = 0;
        for (int i = 0; i < 4; i++)
                p[1 + i] = (uint8_t)(size >> (24 - 8 * i));
        memcpy(p + 5, message, size);
        return size + 5;
}

/* The events' messages, once for each call. */
static void make_events(struct call *c, const struct load_options *o)
{
        uint8_t *data = malloc(o->size);
        uint8_t *inner = malloc(o->size + 256);
        uint8_t *outer = malloc(o->size + 256);
        uint8_t pair[64];
        uint8_t id[64];

        memset(data, 'x', o->size);
        c->events = malloc((size_t)(o->size + 256) * o->batch);
        c->id_at = malloc(sizeof *c->id_at * o->batch);
        c->events_size = 0;
        for (unsigned i = 0; i < o->batch; i++) {
                size_t n = 0;
                size_t pair_size;
                size_t id_size = put_field(id, 2, "00000000-0000-4000-8000-000000000000", 36);

                n += put_field(inner, 1, id, id_size);
                pair_size = put_field(pair, 1, "type", 4);
                pair_size += put_field(pair + pair_size, 2, "BenchHappened", 13);
                n += put_field(inner + n, 2, pair, pair_size);
                pair_size = put_field(pair, 1, "content-type", 12);
                pair_size += put_field(pair + pair_size, 2, "application/octet-stream", 24);
                n += put_field(inner + n, 2, pair, pair_size);
                n += put_field(inner + n, 4, data, o->size);
                n = put_field(outer, 2, inner, n);
                c->id_at[i] =
                        c->events_size + 5 + (size_t)((uint8_t *)memmem(outer, n, "00000000-", 9) - outer);
                c->events_size += put_frame(c->events + c->events_size, outer, n);
        }
        free(data);
        free(inner);
        free(outer);
}

static void stamp_ids(struct call *c, unsigned batch)
{
        static uint64_t next;
        static const char digits[] = "0123456789abcdef";

        for (unsigned i = 0; i < batch; i++) {
                uint64_t n = next++ * 0x9e3779b97f4a7c15ull;
                uint8_t *id = c->events + c->id_at[i];

                for (int k = 0; k < 8; k++)
                        id[k] = (uint8_t)digits[(n >> (4 * k)) & 15];
                for (int k = 0; k < 8; k++)
                        id[24 + k] = (uint8_t)digits[(n >> (32 + 4 * k)) & 15];
        }
}

static void make_append(struct call *c, const struct load_options *o)
{
        uint8_t name[160];
        uint8_t options[256];
        uint8_t message[300];
        size_t n = put_field(options, 1, name, put_field(name, 3, c->stream, strlen(c->stream)));

        if (c->has_revision) {
                options[n++] = 2 << 3;
                n += put_varint(options + n, c->revision);
        } else {
                n += put_field(options + n, 3, "", 0);
        }
        n = put_field(message, 1, options, n);
        c->body_size = put_frame(c->body, message, n);
        stamp_ids(c, o->batch);
        memcpy(c->body + c->body_size, c->events, c->events_size);
        c->body_size += c->events_size;
}

static void make_read(struct call *c, const struct load_options *o)
{
        uint8_t name[160];
        uint8_t stream[256];
        uint8_t options[512];
        uint8_t message[600];
        size_t n = put_field(stream, 1, name, put_field(name, 3, o->stream, strlen(o->stream)));
        size_t size;

        n += put_field(stream + n, 3, "", 0); /* from the start */
        size = put_field(options, 1, stream, n);
        options[size++] = 5 << 3; /* count */
        size += put_varint(options + size, INT64_MAX);
        size += put_field(options + size, 8, "", 0);         /* no filter */
        size += put_field(options + size, 9, "\x12\x00", 2); /* ids as text */
        size = put_field(message, 1, options, size);
        c->body_size = put_frame(c->body, message, size);
}

static ssize_t on_body(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t size, uint32_t *flags,
        nghttp2_data_source *source, void *arg)
{
        struct call *c = source->ptr;
        size_t n = c->body_size - c->body_sent;

        (void)session;
        (void)stream_id;
        (void)arg;
        n = n < size ? n : size;
        memcpy(to, c->body + c->body_sent, n);
        c->body_sent += n;
        if (c->body_sent == c->body_size)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

#define HEADER(name, value)                                                                                  \
        {                                                                                                    \
                (uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE   \
        }

static void start_call(struct call *c)
{
        static const nghttp2_nv append[] = {HEADER(":method", "POST"), HEADER(":scheme", "http"),
                HEADER(":authority", "localhost"),
                HEADER(":path", "/event_store.client.streams.Streams/Append"),
                HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
        static const nghttp2_nv read[] = {HEADER(":method", "POST"), HEADER(":scheme", "http"),
                HEADER(":authority", "localhost"),
                HEADER(":path", "/event_store.client.streams.Streams/Read"),
                HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
        nghttp2_data_provider body = {.source.ptr = c, .read_callback = on_body};
        struct connection *k = c->connection;

        if (k->is_read)
                make_read(c, k->options);
        else
                make_append(c, k->options);
        c->body_sent = 0;
        c->is_ok = false;
        c->started_us = load_now_us();
        k->open_calls++;
        if (nghttp2_submit_request(k->session, NULL, k->is_read ? read : append, 6, &body, c) < 0)
                load_die("nghttp2_submit_request");
}

/* Walks the length-prefixed messages of a read: the first byte of each says what it is. */
static void walk(struct call *c, const uint8_t *data, size_t size)
{
        while (size) {
                size_t n;

                if (!c->message_left) {
                        n = 5 - c->head_size < size ? 5 - c->head_size : size;
                        memcpy(c->head + c->head_size, data, n);
                        c->head_size += n;
                        data += n;
                        size -= n;
                        if (c->head_size < 5)
                                return;
                        c->message_left = (size_t)c->head[1] << 24 | (size_t)c->head[2] << 16 |
                                          (size_t)c->head[3] << 8 | c->head[4];
                        c->head_size = 0;
                        c->is_first_byte = true;
                        continue;
                }
                c->events_read += c->is_first_byte && *data == 0x0a;
                c->is_first_byte = false;
                n = c->message_left < size ? c->message_left : size;
                c->message_left -= n;
                data += n;
                size -= n;
        }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
        size_t size, void *arg)
{
        struct connection *k = arg;
        struct call *c = nghttp2_session_get_stream_user_data(session, stream_id);

        (void)flags;
        if (k->is_read)
                walk(c, data, size);
        else if (size > 5)
                c->is_ok = data[5] == 0x0a; /* AppendResp.success */
        return 0;
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *arg)
{
        struct connection *k = arg;
        struct call *c = nghttp2_session_get_stream_user_data(session, stream_id);
        uint64_t now = load_now_us();

        k->open_calls--;
        if (error || (!k->is_read && !c->is_ok)) {
                fprintf(stderr, "a call failed: HTTP/2 error %u\n", error);
                exit(1);
        }
        if (k->is_read) {
                if (c->events_read % k->options->count) {
                        fprintf(stderr, "read %llu events\n", (unsigned long long)c->events_read);
                        exit(1);
                }
        } else {
                load_sample(k->samples, now - c->started_us);
                c->revision = c->has_revision ? c->revision + k->options->batch : k->options->batch - 1;
                c->has_revision = true;
        }
        if (now < k->end_us)
                start_call(c);
        return 0;
}

static void connect_to(struct connection *k)
{
        struct sockaddr_in address = {.sin_family = AF_INET,
                .sin_port = htons(k->options->port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_SIZE},
                {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20}};
        nghttp2_session_callbacks *callbacks;
        int one = 1;

        k->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(k->fd, (struct sockaddr *)&address, sizeof address))
                load_die("connect");
        setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(k->fd, F_SETFL, O_NONBLOCK);
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_session_client_new(&k->session, callbacks, k);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_submit_settings(k->session, NGHTTP2_FLAG_NONE, settings, 2);
        nghttp2_session_set_local_window_size(k->session, NGHTTP2_FLAG_NONE, 0, WINDOW_SIZE);
}

/* Everything that is to be sent, gathered into few writes. */
static void flush(struct connection *k)
{
        static uint8_t out[OUT_SIZE];
        size_t size = 0;
        size_t sent = 0;

        for (;;) {
                const uint8_t *piece;
                ssize_t n = nghttp2_session_mem_send(k->session, &piece);

                if (n <= 0)
                        break;
                if (size + (size_t)n > sizeof out)
                        load_die("the output of a turn is too large");
                memcpy(out + size, piece, (size_t)n);
                size += (size_t)n;
        }
        while (sent < size) {
                ssize_t n = write(k->fd, out + sent, size - sent);

                if (n < 0 && errno != EAGAIN)
                        load_die("write");
                sent += n > 0 ? (size_t)n : 0;
        }
}

static void run(struct connection *connections, const struct load_options *o)
{
        static uint8_t in[1 << 20];
        struct epoll_event events[256];
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        unsigned open_calls = 1;

        for (unsigned i = 0; i < o->connections; i++) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

                epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event);
                flush(&connections[i]);
        }
        while (open_calls) {
                int n = epoll_wait(epoll, events, 256, 5000);

                if (n == 0) {
                        fprintf(stderr, "no answer for five seconds\n");
                        exit(1);
                }
                for (int i = 0; i < n; i++) {
                        struct connection *k = &connections[events[i].data.u32];
                        ssize_t got = read(k->fd, in, sizeof in);

                        if (got == 0 || (got < 0 && errno != EAGAIN))
                                load_die("the server closed the connection");
                        if (got > 0 && nghttp2_session_mem_recv(k->session, in, (size_t)got) < 0)
                                load_die("nghttp2_session_mem_recv");
                        flush(k);
                }
                open_calls = 0;
                for (unsigned i = 0; i < o->connections; i++)
                        open_calls += connections[i].open_calls;
        }
}

static int load_grpc(const struct load_options *o, bool is_read)
{
        struct connection *connections = calloc(o->connections, sizeof *connections);
        struct call *calls = calloc(o->writers, sizeof *calls);
        struct load_samples samples = {0};
        uint64_t start = load_now_us();
        uint64_t events = 0;

        for (unsigned i = 0; i < o->connections; i++) {
                connections[i] = (struct connection){
                        .options = o,
                        .samples = &samples,
                        .end_us = start + (uint64_t)(o->seconds * 1e6),
                        .is_read = is_read,
                };
                connect_to(&connections[i]);
        }
        for (unsigned i = 0; i < o->writers; i++) {
                struct call *c = &calls[i];

                c->connection = &connections[i % o->connections];
                c->body = malloc(BODY_SIZE_MAX);
                snprintf(c->stream, sizeof c->stream, "%s-%u-%llu", o->stream, i, (unsigned long long)start);
                make_events(c, o);
                start_call(c);
        }
        run(connections, o);
        if (is_read) {
                for (unsigned i = 0; i < o->writers; i++)
                        events += calls[i].events_read;
        } else {
                events = samples.count * o->batch;
        }
        load_print(samples.count, events, (double)(load_now_us() - start) / 1e6, &samples);
        return 0;
}

int load_grpc_append(const struct load_options *o)
{
        return load_grpc(o, false);
}

int load_grpc_read(const struct load_options *o)
{
        return load_grpc(o, true);
}
