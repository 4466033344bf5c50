/* A gateway on the real machine's loop in a thread of its own, and blocking clients for the test's thread: plain sockets
 * for HTTP/1.1, and a small HTTP/2 client on nghttp2. What runs in the server's thread checks with assert, the test with
 * cmocka. */
#ifndef TESTS_GATEWAY_SUPPORT_H
#define TESTS_GATEWAY_SUPPORT_H

#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/memory.h"
#include "gateway/gateway.h"

enum { WAIT_MS = 8000, STREAMS_MAX = 64 };

/* ---- server ---- */

struct server {
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        uint16_t port;
        pthread_t thread;
        int stores; /* its address stands for a store and its notification: the gateway only hands them on */
        bool is_closed;
};

struct errand {
        void (*fn)(void *arg);
        void *arg;
        sem_t done;
};

static inline void errand_run(void *arg)
{
        struct errand *e = arg;

        e->fn(e->arg);
        sem_post(&e->done);
}

/* Runs `fn` on the loop and waits for it. */
static inline void server_run(struct server *s, void (*fn)(void *arg), void *arg)
{
        struct errand e = {.fn = fn, .arg = arg};

        sem_init(&e.done, 0, 0);
        os_post(s->os, errand_run, &e);
        while (sem_wait(&e.done))
                ;
        sem_destroy(&e.done);
}

static inline void *server_thread(void *arg)
{
        struct server *s = arg;

        assert(os_run(s->os) == 0);
        return NULL;
}

static inline void server_open(struct server *s, const struct gateway_options *wish)
{
        struct gateway_options options = wish ? *wish : (struct gateway_options){0};
        struct control_options control = {.node_name = "test", .log_fd = -1};
        const char *why = "";

        memset(s, 0, sizeof *s);
        assert_int_equal(os_real_new(&s->os), 0);
        control.os = s->os;
        assert_int_equal(control_open(&control, &s->control), 0);
        options.os = s->os;
        options.control = s->control;
        options.address = "127.0.0.1";
        assert_int_equal(gateway_open(&options, &s->gateway, &why), 0);
        s->port = gateway_port(s->gateway);
        assert_true(s->port > 0);
}

static inline void serve(struct server *s)
{
        gateway_serve(s->gateway, (struct store *)&s->stores, (struct notification *)&s->stores);
}

static inline void server_start(struct server *s)
{
        assert_int_equal(pthread_create(&s->thread, NULL, server_thread, s), 0);
}

static inline void server_closed(void *arg)
{
        struct server *s = arg;

        s->is_closed = true;
        os_stop(s->os);
}

static inline void server_close(void *arg)
{
        struct server *s = arg;

        if (s->gateway)
                gateway_close(&s->gateway, server_closed, s);
}

/* Stops the gateway in an orderly way and frees everything. */
static inline void server_stop(struct server *s)
{
        os_post(s->os, server_close, s);
        pthread_join(s->thread, NULL);
        assert_true(s->is_closed);
        control_close(&s->control);
        os_free(&s->os);
}

struct stats_errand {
        struct server *server;
        struct gateway_stats stats;
};

static inline void take_stats(void *arg)
{
        struct stats_errand *e = arg;

        gateway_stats(e->server->gateway, &e->stats);
}

static inline struct gateway_stats server_stats(struct server *s)
{
        struct stats_errand e = {.server = s};

        server_run(s, take_stats, &e);
        return e.stats;
}

static inline uint64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline unsigned look(const unsigned *number)
{
        return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}

/* Waits until a number that the server's thread changes has a value. */
static inline void wait_for(const unsigned *number, unsigned value)
{
        uint64_t until = now_ms() + WAIT_MS;

        while (look(number) != value && now_ms() < until)
                usleep(1000);
        assert_int_equal(look(number), value);
}

static inline void count_up(unsigned *number)
{
        __atomic_add_fetch(number, 1, __ATOMIC_RELEASE);
}

/* ---- sockets ---- */

static inline int dial(const struct server *s)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(s->port)};
        struct timeval wait = {.tv_sec = WAIT_MS / 1000};
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        return fd;
}

/* Receives although the kernel interrupts: it does so to a thread that closed a loop of libuv with an io_uring (Debian
 * 13), and a socket with a time limit does not begin again by itself. */
static inline ssize_t receive(int fd, void *data, size_t size)
{
        ssize_t n;

        do
                n = recv(fd, data, size, 0);
        while (n < 0 && errno == EINTR);
        return n;
}

/* False: the peer has gone. */
static inline bool send_bytes(int fd, const void *data, size_t size)
{
        const uint8_t *at = data;

        while (size) {
                ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

                if (n <= 0)
                        return false;
                at += n;
                size -= (size_t)n;
        }
        return true;
}

static inline void send_text(int fd, const char *text)
{
        assert_true(send_bytes(fd, text, strlen(text)));
}

/* Reads until the server closes; bytes that came, also when it was closed by a reset. */
static inline size_t read_to_end(int fd, struct buffer *ret)
{
        uint8_t chunk[65536];
        ssize_t n;

        while ((n = receive(fd, chunk, sizeof chunk)) > 0)
                buffer_add(ret, chunk, (size_t)n);
        return ret->size;
}

/* ---- HTTP/1.1 ---- */

struct answer {
        int status;
        char *head; /* lines, with NUL */
        struct buffer body;
};

static inline void answer_fini(struct answer *a)
{
        free(a->head);
        buffer_fini(&a->body);
        memset(a, 0, sizeof *a);
}

static inline char read_byte(int fd)
{
        char c = 0;

        assert_int_equal(receive(fd, &c, 1), 1);
        return c;
}

static inline void read_exactly(int fd, struct buffer *to, size_t size)
{
        buffer_reserve(to, size + 1);
        while (size) {
                ssize_t n = receive(fd, to->data + to->size, size);

                assert_true(n > 0);
                to->size += (size_t)n;
                size -= (size_t)n;
        }
}

static inline void read_line(int fd, struct buffer *to)
{
        do
                buffer_add_u8(to, (uint8_t)read_byte(fd));
        while (to->data[to->size - 1] != '\n');
}

/* The value of a header, or NULL; valid until the next call. */
static inline const char *answer_header(const struct answer *a, const char *name)
{
        static char value[512];
        char want[64];
        const char *at, *end;

        snprintf(want, sizeof want, "\n%s: ", name);
        at = strstr(a->head, want);
        if (!at)
                return NULL;
        at += strlen(want);
        end = strchr(at, '\r');
        snprintf(value, sizeof value, "%.*s", (int)(end - at), at);
        return value;
}

static inline void read_head(int fd, struct answer *a)
{
        struct buffer head = {0};
        size_t line;

        answer_fini(a);
        do {
                line = head.size;
                read_line(fd, &head);
        } while (head.size - line > 2);
        a->head = bytes_to_string(buffer_bytes(&head));
        buffer_fini(&head);
        assert_int_equal(sscanf(a->head, "HTTP/1.1 %d", &a->status), 1);
}

/* One answer with its body, whole or in chunks. */
static inline void read_answer(int fd, struct answer *a, bool is_head)
{
        const char *size;

        read_head(fd, a);
        if (is_head || a->status < 200 || a->status == 204)
                return;
        size = answer_header(a, "content-length");
        if (size) {
                read_exactly(fd, &a->body, strtoul(size, NULL, 10));
                return;
        }
        assert_string_equal(answer_header(a, "transfer-encoding"), "chunked");
        for (;;) {
                struct buffer line = {0};
                size_t chunk;

                read_line(fd, &line);
                buffer_add_u8(&line, 0);
                chunk = strtoul((char *)line.data, NULL, 16);
                read_exactly(fd, &a->body, chunk);
                buffer_clear(&line);
                read_line(fd, &line);
                assert_int_equal(line.size, 2);
                buffer_fini(&line);
                if (!chunk)
                        return;
        }
}

static inline bool body_has(const struct buffer *body, const char *text)
{
        return body->size && memmem(body->data, body->size, text, strlen(text));
}

static inline bool is_closed_by_peer(int fd)
{
        char c;

        return receive(fd, &c, 1) <= 0;
}

/* ---- HTTP/2 ---- */

struct h2_stream {
        int32_t id;
        struct buffer head;     /* "name: value\n" */
        struct buffer trailers; /* the same */
        struct buffer body;
        struct buffer out; /* not yet sent from out_at on */
        size_t out_at;
        bool is_out_ended;
        bool is_slow; /* its window is not given back */
        bool is_closed;
        unsigned header_blocks;
        uint32_t error;
};

struct h2_client {
        int fd;
        nghttp2_session *session;
        struct h2_stream streams[STREAMS_MAX];
        unsigned count;
        bool has_goaway;
        uint32_t goaway_error;
        bool is_broken; /* the server closed the connection */
        unsigned ping_acks;
        unsigned pings;
        uint64_t window_granted; /* by the server, for streams */
        size_t largest_data;     /* frame */
};

static inline struct h2_stream *h2_find(struct h2_client *c, int32_t id)
{
        for (unsigned i = 0; i < c->count; i++)
                if (c->streams[i].id == id)
                        return &c->streams[i];
        return NULL;
}

static inline int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
        const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
        struct h2_stream *s = h2_find(user, frame->hd.stream_id);

        (void)session;
        (void)flags;
        if (s) {
                struct buffer *to = s->header_blocks ? &s->trailers : &s->head;

                buffer_format(to, "%.*s: %.*s\n", (int)name_size, (const char *)name, (int)value_size, (const char *)value);
        }
        return 0;
}

static inline int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
        struct h2_client *c = user;
        struct h2_stream *s = h2_find(c, frame->hd.stream_id);

        (void)session;
        if (frame->hd.type == NGHTTP2_HEADERS && s)
                s->header_blocks++;
        if (frame->hd.type == NGHTTP2_GOAWAY) {
                c->has_goaway = true;
                c->goaway_error = frame->goaway.error_code;
        }
        if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK)
                c->ping_acks++;
        else if (frame->hd.type == NGHTTP2_PING)
                c->pings++;
        if (frame->hd.type == NGHTTP2_WINDOW_UPDATE && frame->hd.stream_id)
                c->window_granted += (uint64_t)frame->window_update.window_size_increment;
        if (frame->hd.type == NGHTTP2_DATA)
                c->largest_data = MAX(c->largest_data, frame->hd.length);
        return 0;
}

static inline int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *user)
{
        struct h2_stream *s = h2_find(user, id);

        (void)flags;
        nghttp2_session_consume_connection(session, size);
        if (s) {
                buffer_add(&s->body, data, size);
                if (!s->is_slow)
                        nghttp2_session_consume_stream(session, id, size);
        }
        return 0;
}

static inline int h2_on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
        struct h2_stream *s = h2_find(user, id);

        (void)session;
        if (s) {
                s->is_closed = true;
                s->error = error;
        }
        return 0;
}

static inline ssize_t h2_read_out(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size, uint32_t *flags,
        nghttp2_data_source *source, void *user)
{
        struct h2_stream *s = source->ptr;
        size_t n = MIN(size, s->out.size - s->out_at);

        (void)session;
        (void)id;
        (void)user;
        if (!n && !s->is_out_ended)
                return NGHTTP2_ERR_DEFERRED;
        if (n)
                memcpy(buffer, s->out.data + s->out_at, n);
        s->out_at += n;
        if (s->is_out_ended && s->out_at == s->out.size)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

/* One round: sends what is due, waits at most `ms` for something to come, takes it. */
static inline void h2_turn(struct h2_client *c, int ms)
{
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        static uint8_t chunk[256 * 1024];
        const uint8_t *data;
        ssize_t n;

        while ((n = nghttp2_session_mem_send(c->session, &data)) > 0)
                if (!send_bytes(c->fd, data, (size_t)n)) {
                        c->is_broken = true;
                        return;
                }
        if (poll(&p, 1, ms) <= 0)
                return;
        n = receive(c->fd, chunk, sizeof chunk);
        if (n <= 0) {
                c->is_broken = true;
                return;
        }
        assert_true(nghttp2_session_mem_recv(c->session, chunk, (size_t)n) == n);
}

/* Goes on until `holds` is true; false if it did not become so in time. A macro, so that it can be any expression. */
#define H2_UNTIL(c, holds)                                                                                             \
        do {                                                                                                           \
                uint64_t until_ = now_ms() + WAIT_MS;                                                                  \
                while (!(holds) && !(c)->is_broken && now_ms() < until_)                                               \
                        h2_turn((c), 20);                                                                              \
                assert_true(holds);                                                                                    \
        } while (0)

/* Lets things happen that a test waits for only to see that they do not. */
static inline void h2_idle(struct h2_client *c, unsigned ms)
{
        uint64_t until = now_ms() + ms;

        while (now_ms() < until && !c->is_broken)
                h2_turn(c, 10);
}

/* On a socket that is connected; it becomes the client's. */
static inline void h2_begin(struct h2_client *c, int fd, const nghttp2_settings_entry *settings, size_t count)
{
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;

        memset(c, 0, sizeof *c);
        c->fd = fd;
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, h2_on_stream_close);
        nghttp2_option_new(&option);
        nghttp2_option_set_no_auto_window_update(option, 1);
        assert_int_equal(nghttp2_session_client_new2(&c->session, callbacks, c, option), 0);
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        assert_int_equal(nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, count), 0);
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 16 * 1024 * 1024);
}

static inline void h2_dial(struct h2_client *c, const struct server *s, const nghttp2_settings_entry *settings, size_t count)
{
        h2_begin(c, dial(s), settings, count);
}

static inline void h2_hang_up(struct h2_client *c)
{
        nghttp2_session_del(c->session);
        close(c->fd);
        for (unsigned i = 0; i < c->count; i++) {
                buffer_fini(&c->streams[i].head);
                buffer_fini(&c->streams[i].trailers);
                buffer_fini(&c->streams[i].body);
                buffer_fini(&c->streams[i].out);
        }
        memset(c, 0, sizeof *c);
}

static inline nghttp2_nv h2_field(const char *name, const char *value)
{
        return (nghttp2_nv){.name = (uint8_t *)name, .namelen = strlen(name), .value = (uint8_t *)value, .valuelen = strlen(value)};
}

/* `fields`: name, value, ..., NULL. */
static inline struct h2_stream *h2_request(struct h2_client *c, const char *method, const char *path, const char *const *fields,
        bool has_body)
{
        struct h2_stream *s = &c->streams[c->count];
        nghttp2_data_provider provider = {.source.ptr = s, .read_callback = h2_read_out};
        nghttp2_nv nv[24];
        size_t n = 0;

        assert_true(c->count < STREAMS_MAX);
        nv[n++] = h2_field(":method", method);
        nv[n++] = h2_field(":scheme", "http");
        nv[n++] = h2_field(":authority", "localhost");
        nv[n++] = h2_field(":path", path);
        for (; fields && *fields; fields += 2)
                nv[n++] = h2_field(fields[0], fields[1]);
        s->id = nghttp2_submit_request(c->session, NULL, nv, n, has_body ? &provider : NULL, NULL);
        assert_true(s->id > 0);
        c->count++;
        return s;
}

static inline bool h2_head_has(const struct h2_stream *s, const char *line)
{
        return s->head.size && memmem(s->head.data, s->head.size, line, strlen(line));
}

/* ---- gRPC ---- */

static inline struct h2_stream *grpc_call_with(struct h2_client *c, const char *path, const char *const *more)
{
        const char *fields[16] = {"content-type", "application/grpc", "te", "trailers"};
        unsigned n = 4;

        for (; more && *more; more++)
                fields[n++] = *more;
        fields[n] = NULL;
        return h2_request(c, "POST", path, fields, true);
}

static inline struct h2_stream *grpc_call(struct h2_client *c, const char *path)
{
        return grpc_call_with(c, path, NULL);
}

static inline void grpc_send_flagged(struct h2_client *c, struct h2_stream *s, uint8_t flag, const void *data, size_t size)
{
        uint8_t prefix[5] = {flag, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size};

        buffer_add(&s->out, prefix, sizeof prefix);
        buffer_add(&s->out, data, size);
        nghttp2_session_resume_data(c->session, s->id);
}

static inline void grpc_send(struct h2_client *c, struct h2_stream *s, const void *data, size_t size)
{
        grpc_send_flagged(c, s, 0, data, size);
}

static inline void grpc_half_close(struct h2_client *c, struct h2_stream *s)
{
        s->is_out_ended = true;
        nghttp2_session_resume_data(c->session, s->id);
}

/* A call with one message. */
static inline struct h2_stream *grpc_unary(struct h2_client *c, const char *path, const char *message)
{
        struct h2_stream *s = grpc_call(c, path);

        grpc_send(c, s, message, strlen(message));
        grpc_half_close(c, s);
        return s;
}

/* The value of a field of the trailers (or of a head that is all there is); NULL if it is absent. */
static inline const char *grpc_trailer(const struct h2_stream *s, const char *name)
{
        static char value[16384];
        const struct buffer *in = s->trailers.size ? &s->trailers : &s->head;
        char *text = bytes_to_string(buffer_bytes(in)), *at = text, *end;
        size_t size = strlen(name);
        const char *found = NULL;

        for (; *at; at = end + 1) {
                end = strchr(at, '\n');
                *end = 0;
                if (strncmp(at, name, size) == 0 && strncmp(at + size, ": ", 2) == 0) {
                        snprintf(value, sizeof value, "%s", at + size + 2);
                        found = value;
                        break;
                }
        }
        free(text);
        return found;
}

static inline int grpc_status_of(const struct h2_stream *s)
{
        const char *status = grpc_trailer(s, "grpc-status");

        return status ? atoi(status) : -1;
}

/* The i-th message that has come whole; false: not there. */
static inline bool grpc_message(const struct h2_stream *s, unsigned i, struct bytes *ret)
{
        size_t at = 0;

        while (s->body.size - at >= 5) {
                const uint8_t *p = s->body.data + at;
                size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

                if (p[0] || s->body.size - at - 5 < size)
                        return false;
                if (!i--) {
                        *ret = bytes_of(p + 5, size);
                        return true;
                }
                at += 5 + size;
        }
        return false;
}

static inline unsigned grpc_message_count(const struct h2_stream *s)
{
        unsigned n = 0;
        size_t at = 0;

        while (s->body.size - at >= 5) {
                const uint8_t *p = s->body.data + at;
                size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

                if (s->body.size - at - 5 < size)
                        break;
                at += 5 + size;
                n++;
        }
        return n;
}

#endif
