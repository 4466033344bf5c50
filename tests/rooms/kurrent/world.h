/* A server of one test: everything that kurrent needs on the real machine with its disk in memory, its loop in a thread of its
 * own; and a gRPC client on nghttp2 that can say what no decent client says. */
#ifndef TESTS_ROOMS_KURRENT_WORLD_H
#define TESTS_ROOMS_KURRENT_WORLD_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "kurrent/kurrent.h"
#include "test.h"
#include "three.h"

/* ---- the server ---- */

struct world {
        bool is_never_ready; /* the store does not open */
        enum seat seat;      /* alone, or among three nodes, then without persistent subscriptions */
        bool has_users;      /* "admin" and "ops", both with the password "changeit", and everybody is asked */
        struct membership *membership; /* what the methods are told; NULL: nothing */
        uint16_t port;
        pthread_t thread;
        sem_t is_up;
        /* the loop's */
        struct os *os;
        struct control *control;
        struct access *access;
        struct gateway *gateway;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        struct kurrent *kurrent;
        struct three three;
        struct os_turn_hook turn_hook;
        unsigned stats_written;
        unsigned shut_downs;
        unsigned open_turns; /* after whose events a call was open, before the store's own work at their end */
};

static void world_on_first_users(void *arg, const char *new_password)
{
        (void)new_password;
        sem_post(&((struct world *)arg)->is_up);
}

static void world_on_serving(void *arg)
{
        struct world *w = arg;

        if (w->has_users)
                access_make_first_users(w->access, true, world_on_first_users, w);
        else
                sem_post(&w->is_up);
}

static void world_on_open(void *arg, int result, const char *problem)
{
        struct world *w = arg;
        struct notification_options options = {.os = w->os, .control = w->control, .store = w->store};
        struct emitter_options emitter = {
                .os = w->os, .control = w->control, .store = w->store, .on_serving = world_on_serving, .arg = w};

        (void)problem;
        if (result || notification_open(&options, &w->notification))
                abort();
        if (w->has_users && access_serve(w->access, w->store, w->notification))
                abort();
        emitter.notification = w->notification;
        if (emitter_open(&emitter, &w->emitter))
                abort();
        kurrent_serve(w->kurrent, w->emitter);
        gateway_serve(w->gateway, w->store, w->notification);
}

static void world_open_store(struct world *w)
{
        struct store_options options = {
                .os = w->os,
                .control = w->control,
                .name = "default",
                .segment_size = 4 * MIB,
                .on_open = world_on_open,
                .arg = w,
        };

        if (persistence_node_open(w->os, "memory", false, &w->node))
                abort();
        options.node = w->node;
        if (store_open(&options, &w->store))
                abort();
}

static void world_on_three_up(void *arg)
{
        struct world *w = arg;
        struct notification_options options = {.os = w->os, .control = w->control};

        w->store = options.store = three_seat(&w->three, w->seat)->store;
        if (notification_open(&options, &w->notification))
                abort();
        gateway_serve(w->gateway, w->store, w->notification);
        sem_post(&w->is_up);
}

static void world_on_turn_end(struct os_turn_hook *hook)
{
        struct world *w = hook->arg;
        struct gateway_stats stats = {0};

        if (w->gateway)
                gateway_stats(w->gateway, &stats);
        w->open_turns += stats.grpc_calls_open > 0;
}

static void world_write_stats(void *arg, struct json_out *j)
{
        struct world *w = arg;

        json_object_begin(j);
        json_key(j, "proc");
        json_object_begin(j);
        json_field_u64(j, "mem", ++w->stats_written);
        json_field_string(j, "name", "caf\u00e9 \"x\"");
        json_object_end(j);
        json_key(j, "sys");
        json_object_begin(j);
        json_key(j, "loadavg");
        json_object_begin(j);
        json_key(j, "1m");
        json_double(j, 0.5);
        json_object_end(j);
        json_key(j, "empty");
        json_object_begin(j);
        json_object_end(j);
        json_key(j, "unknown");
        json_out_null(j);
        json_object_end(j);
        json_object_end(j);
}

static void world_on_shut_down(void *arg)
{
        ((struct world *)arg)->shut_downs++;
}

static void *world_run(void *arg)
{
        struct world *w = arg;
        struct control_options control = {.node_name = "node-1", .log_fd = -1, .ring_facts = 256};
        struct access_options access = {.is_enforced = true};
        struct gateway_options gateway = {.address = "127.0.0.1"};
        struct kurrent_options kurrent = {.host = "127.0.0.1", .node_uuid = {0xab, 0xcd},
                .stats_to_json = world_write_stats,
                .shut_down = world_on_shut_down,
                .arg = w};
        const char *why;

        if (os_real_new(&w->os))
                abort();
        os_memory_disk(w->os);
        w->turn_hook = (struct os_turn_hook){.fn = world_on_turn_end, .arg = w};
        os_turn_hook_add(w->os, &w->turn_hook); /* before the store's */
        control.os = access.os = gateway.os = kurrent.os = w->os;
        if (control_open(&control, &w->control))
                abort();
        access.control = gateway.control = kurrent.control = w->control;
        if (w->has_users && access_open(&access, &w->access))
                abort();
        gateway.access = w->access;
        if (gateway_open(&gateway, &w->gateway, &why))
                abort();
        w->port = gateway_port(w->gateway);
        kurrent.gateway = w->gateway;
        kurrent_open(&kurrent, &w->kurrent);
        if (w->membership)
                kurrent_join(w->kurrent, w->membership);
        if (w->is_never_ready)
                sem_post(&w->is_up);
        else if (w->seat)
                three_open(&w->three, w->os, w->control, world_on_three_up, w);
        else
                world_open_store(w);
        if (os_run(w->os))
                abort();
        control_close(&w->control);
        os_free(&w->os);
        return NULL;
}

static inline void world_open(struct world *w)
{
        sem_init(&w->is_up, 0, 0);
        if (pthread_create(&w->thread, NULL, world_run, w))
                abort();
        sem_wait(&w->is_up);
}

static void world_on_store_closed(void *arg)
{
        struct world *w = arg;

        persistence_node_close(&w->node);
        os_stop(w->os);
}

static void world_on_three_closed(void *arg)
{
        os_stop(((struct world *)arg)->os);
}

static void world_on_gateway_closed(void *arg)
{
        struct world *w = arg;

        kurrent_close(&w->kurrent);
        access_close(&w->access);
        emitter_free(&w->emitter);
        notification_free(&w->notification);
        if (w->seat)
                three_close(&w->three, world_on_three_closed);
        else if (w->store)
                store_close(&w->store, world_on_store_closed, w);
        else
                os_stop(w->os);
}

static void world_on_emitter_stopped(void *arg)
{
        struct world *w = arg;

        if (w->has_users)
                access_stop(w->access);
        if (w->notification)
                notification_stop(w->notification);
        gateway_close(&w->gateway, world_on_gateway_closed, w);
}

static void world_stop(void *arg)
{
        struct world *w = arg;

        if (w->emitter)
                emitter_stop(w->emitter, world_on_emitter_stopped, w);
        else
                world_on_emitter_stopped(w);
}

static inline void world_close(struct world *w)
{
        os_post(w->os, world_stop, w);
        pthread_join(w->thread, NULL);
        sem_destroy(&w->is_up);
}

/* ---- the client ---- */

enum { ANSWERS_MAX = 4096, TRAILERS_MAX = 16, CALL_WAIT_MS = 9000 };

struct client {
        int fd;
        nghttp2_session *session;
};

struct rpc {
        struct client *client;
        int32_t stream;
        struct buffer out;
        size_t out_at;
        bool has_no_more; /* half-closed once `out` is sent */
        struct buffer in;
        struct bytes answers[ANSWERS_MAX]; /* copies */
        unsigned count;
        int status; /* -1: not yet */
        char message[2048];
        struct {
                char name[64];
                char value[8192];
        } trailers[TRAILERS_MAX];
        unsigned trailer_count;
        bool is_closed;
};

static ssize_t client_out(nghttp2_session *session, const uint8_t *data, size_t size, int flags, void *arg)
{
        struct client *c = arg;
        ssize_t n;

        (void)session;
        (void)flags;
        n = send(c->fd, data, size, MSG_NOSIGNAL);
        return n < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : n;
}

static int client_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
        const uint8_t *value, size_t value_size, uint8_t flags, void *arg)
{
        struct rpc *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

        (void)name_size;
        (void)flags;
        (void)arg;
        if (!r || name[0] == ':')
                return 0;
        if (strcmp((const char *)name, "grpc-status") == 0)
                r->status = (int)strtol((const char *)value, NULL, 10);
        else if (strcmp((const char *)name, "grpc-message") == 0)
                snprintf(r->message, sizeof r->message, "%.*s", (int)value_size, (const char *)value);
        else if (r->trailer_count < TRAILERS_MAX) {
                snprintf(r->trailers[r->trailer_count].name, 64, "%s", (const char *)name);
                snprintf(r->trailers[r->trailer_count++].value, sizeof r->trailers[0].value, "%.*s", (int)value_size, (const char *)value);
        }
        return 0;
}

static int client_on_data(
        nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t size, void *arg)
{
        struct rpc *r = nghttp2_session_get_stream_user_data(session, stream);

        (void)flags;
        (void)arg;
        if (!r)
                return 0;
        buffer_add(&r->in, data, size);
        while (r->in.size >= 5) {
                size_t n = (size_t)r->in.data[1] << 24 | (size_t)r->in.data[2] << 16 | (size_t)r->in.data[3] << 8 |
                           r->in.data[4];
                uint8_t *copy;

                if (r->in.size < 5 + n)
                        break;
                assert_true(r->count < ANSWERS_MAX);
                copy = memory_new(n + 1);
                memcpy(copy, r->in.data + 5, n);
                r->answers[r->count++] = bytes_of(copy, n);
                buffer_consume(&r->in, 5 + n);
        }
        return 0;
}

static int client_on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *arg)
{
        struct rpc *r = nghttp2_session_get_stream_user_data(session, stream);

        (void)code;
        (void)arg;
        if (r)
                r->is_closed = true;
        return 0;
}

static inline void client_open(struct client *c, uint16_t port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20}};
        nghttp2_session_callbacks *callbacks;

        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof to), 0);
        assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_send_callback(callbacks, client_out);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, client_on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, client_on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, client_on_close);
        nghttp2_session_client_new(&c->session, callbacks, c);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 1);
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 16 << 20);
}

static inline void client_close(struct client *c)
{
        nghttp2_session_del(c->session);
        close(c->fd);
}

static uint64_t client_now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Sends what is to be sent and takes what comes within `wait_ms`; false: nothing came. */
static inline bool client_step(struct client *c, int wait_ms)
{
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        uint8_t data[65536];
        ssize_t n;

        assert_int_equal(nghttp2_session_send(c->session), 0);
        if (poll(&p, 1, wait_ms) <= 0)
                return false;
        n = recv(c->fd, data, sizeof data, 0);
        assert_true(n > 0);
        assert_true(nghttp2_session_mem_recv(c->session, data, (size_t)n) == n);
        assert_int_equal(nghttp2_session_send(c->session), 0);
        return true;
}

static ssize_t rpc_read(nghttp2_session *session, int32_t stream, uint8_t *data, size_t size, uint32_t *flags,
        nghttp2_data_source *source, void *arg)
{
        struct rpc *r = source->ptr;
        size_t n = MIN(size, r->out.size - r->out_at);

        (void)session;
        (void)stream;
        (void)arg;
        if (n)
                memcpy(data, r->out.data + r->out_at, n);
        r->out_at += n;
        if (r->out_at < r->out.size)
                return (ssize_t)n;
        if (r->has_no_more)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        else if (!n)
                return NGHTTP2_ERR_DEFERRED;
        return (ssize_t)n;
}

#define FIELD(name, value)                                                                                                         \
        {                                                                                                                          \
                (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE     \
        }

/* With one more header, if its name is not empty. */
static inline void rpc_open_with(struct rpc *r, struct client *c, const char *path, const char *name, const char *value)
{
        const nghttp2_nv fields[] = {
                FIELD(":method", "POST"),
                FIELD(":scheme", "http"),
                FIELD(":path", path),
                FIELD(":authority", "localhost"),
                FIELD("content-type", "application/grpc"),
                FIELD("te", "trailers"),
                FIELD(name, value),
        };
        nghttp2_data_provider provider = {.source.ptr = r, .read_callback = rpc_read};

        memset(r, 0, sizeof *r);
        r->client = c;
        r->status = -1;
        r->stream = nghttp2_submit_request(c->session, NULL, fields, COUNT_OF(fields) - !*name, &provider, r);
        assert_true(r->stream > 0);
}

static inline void rpc_open(struct rpc *r, struct client *c, const char *path)
{
        rpc_open_with(r, c, path, "", "");
}

static inline void rpc_send(struct rpc *r, struct bytes message)
{
        uint8_t prefix[5] = {0, (uint8_t)(message.size >> 24), (uint8_t)(message.size >> 16), (uint8_t)(message.size >> 8),
                (uint8_t)message.size};

        buffer_add(&r->out, prefix, sizeof prefix);
        buffer_add_bytes(&r->out, message);
        nghttp2_session_resume_data(r->client->session, r->stream);
        assert_int_equal(nghttp2_session_send(r->client->session), 0);
}

static inline void rpc_half_close(struct rpc *r)
{
        r->has_no_more = true;
        nghttp2_session_resume_data(r->client->session, r->stream);
}

/* Until there are so many answers, or the call has ended. */
static inline void rpc_wait(struct rpc *r, unsigned count)
{
        uint64_t end = client_now_ms() + CALL_WAIT_MS;

        while (r->count < count && !r->is_closed) {
                client_step(r->client, 100);
                if (client_now_ms() > end)
                        fail_msg("%u answers and no end, %u were waited for", r->count, count);
        }
}

static inline void rpc_wait_end(struct rpc *r)
{
        rpc_wait(r, UINT32_MAX);
}

static inline const char *rpc_trailer(const struct rpc *r, const char *name)
{
        for (unsigned i = 0; i < r->trailer_count; i++)
                if (strcmp(r->trailers[i].name, name) == 0)
                        return r->trailers[i].value;
        return "";
}

static inline void rpc_close(struct rpc *r)
{
        if (!r->is_closed) {
                nghttp2_submit_rst_stream(r->client->session, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_CANCEL);
                nghttp2_session_set_stream_user_data(r->client->session, r->stream, NULL);
                nghttp2_session_send(r->client->session);
        }
        for (unsigned i = 0; i < r->count; i++)
                free((void *)(uintptr_t)r->answers[i].data);
        buffer_fini(&r->out);
        buffer_fini(&r->in);
}

#endif
