/* What the tests over HTTP share: a whole server (machine with a disk in memory, store, subscriptions, gateway, routes) on a
 * thread of its own, and a small blocking HTTP/1.1 client on the test's thread. */
#ifndef TESTS_API_SUPPORT_H
#define TESTS_API_SUPPORT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <jansson.h>

#include "api/api.h"
#include "base/memory.h"
#include "test.h"
#include "three.h"

enum { REPLY_TIMEOUT_S = 8 };

/* ---- the server ---- */

struct server_options {
        uint64_t space_left; /* above the reserve, when the store opens; 0: all of it */
        uint64_t in_flight_size_max;
        unsigned subscriptions_max;
        enum store_sync sync;
        bool is_never_ready; /* the gateway listens, the store never opens */
        enum seat seat;      /* alone, or among three nodes, then without durable subscriptions */
        struct membership *membership; /* what the routes are told; NULL: nothing */
        bool has_users; /* rights count; "admin" and "ops" have the password "changeit" */
};

struct server {
        struct server_options options;
        pthread_t thread;
        sem_t is_up;
        uint16_t port;
        /* the server's thread */
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        struct access *access;
        struct gateway *gateway;
        struct api *api;
        struct three three;
        struct os_turn_hook turn_hook;
        unsigned open_turns; /* after whose events a request was not answered, before the store's own work at their end */
};

static inline void on_store_closed(void *arg)
{
        struct server *s = arg;

        persistence_node_close(&s->node);
        os_stop(s->os);
}

static inline void on_three_closed(void *arg)
{
        os_stop(((struct server *)arg)->os);
}

static inline void on_gateway_closed(void *arg)
{
        struct server *s = arg;

        api_close(&s->api);
        access_close(&s->access);
        emitter_free(&s->emitter);
        notification_free(&s->notification);
        if (s->options.seat)
                three_close(&s->three, on_three_closed);
        else if (s->store)
                store_close(&s->store, on_store_closed, s);
        else
                on_store_closed(s);
}

static inline void on_emitter_stopped(void *arg)
{
        struct server *s = arg;

        if (s->access)
                access_stop(s->access);
        if (s->notification)
                notification_stop(s->notification);
        gateway_close(&s->gateway, on_gateway_closed, s);
}

static inline void stop_on_loop(void *arg)
{
        struct server *s = arg;

        api_serve(s->api, NULL);
        if (s->emitter)
                emitter_stop(s->emitter, on_emitter_stopped, s);
        else
                on_emitter_stopped(s);
}

static inline void on_first_users(void *arg, const char *new_password)
{
        struct server *s = arg;

        (void)new_password;
        sem_post(&s->is_up);
}

static inline void on_store_open(void *arg, int result, const char *problem)
{
        struct server *s = arg;
        struct notification_options options = {
                .os = s->os,
                .control = s->control,
                .store = s->store,
                .subscriptions_max = s->options.subscriptions_max,
        };
        struct emitter_options emitter = {.os = s->os, .control = s->control, .store = s->store};

        if (result) {
                fprintf(stderr, "the store did not open: %d %s\n", result, problem);
                abort();
        }
        if (notification_open(&options, &s->notification))
                abort();
        emitter.notification = s->notification;
        if (emitter_open(&emitter, &s->emitter))
                abort();
        gateway_serve(s->gateway, s->store, s->notification);
        api_serve(s->api, s->emitter);
        if (!s->access) {
                sem_post(&s->is_up);
                return;
        }
        if (access_serve(s->access, s->store, s->notification))
                abort();
        access_make_first_users(s->access, true, on_first_users, s);
}

static inline void on_three_up(void *arg)
{
        struct server *s = arg;
        struct notification_options options = {.os = s->os, .control = s->control};

        s->store = options.store = three_seat(&s->three, s->options.seat)->store;
        if (notification_open(&options, &s->notification))
                abort();
        gateway_serve(s->gateway, s->store, s->notification);
        sem_post(&s->is_up);
}

static inline void open_store(struct server *s)
{
        struct store_options options = {
                .os = s->os,
                .control = s->control,
                .name = "default",
                .segment_size = 8 * MIB,
                .in_flight_size_max = s->options.in_flight_size_max,
                .sync = s->options.sync,
                .on_open = on_store_open,
                .arg = s,
        };

        if (persistence_node_open(s->os, "data", false, &s->node))
                abort();
        if (s->options.space_left) {
                struct os_space space;

                if (os_space(s->os, "data", &space))
                        abort();
                options.space_reserve = space.free_bytes - s->options.space_left;
        }
        options.node = s->node;
        if (store_open(&options, &s->store))
                abort();
}

static inline void on_turn_end(struct os_turn_hook *hook)
{
        struct server *s = hook->arg;
        struct gateway_stats stats = {0};
        uint64_t answered = 0;

        if (s->gateway)
                gateway_stats(s->gateway, &stats);
        for (unsigned i = 0; i < COUNT_OF(stats.http_requests_by_class); i++)
                answered += stats.http_requests_by_class[i];
        s->open_turns += stats.http_requests > answered;
}

static inline void *server_thread(void *arg)
{
        struct server *s = arg;
        struct control_options control = {.node_name = "test", .log_fd = -1};
        struct gateway_options gateway = {.address = "127.0.0.1"};
        struct api_options api;
        const char *why;

        if (os_real_new(&s->os))
                abort();
        os_memory_disk(s->os);
        s->turn_hook = (struct os_turn_hook){.fn = on_turn_end, .arg = s};
        os_turn_hook_add(s->os, &s->turn_hook); /* before the store's */
        control.os = s->os;
        if (control_open(&control, &s->control))
                abort();
        if (s->options.has_users) {
                struct access_options access = {.os = s->os, .control = s->control, .is_enforced = true};

                if (access_open(&access, &s->access))
                        abort();
        }
        gateway.os = s->os;
        gateway.control = s->control;
        gateway.access = s->access;
        if (gateway_open(&gateway, &s->gateway, &why))
                abort();
        s->port = gateway_port(s->gateway);
        api = (struct api_options){.os = s->os, .control = s->control, .gateway = s->gateway, .access = s->access};
        api_open(&api, &s->api);
        if (s->options.membership)
                api_join(s->api, s->options.membership);
        if (s->options.is_never_ready)
                sem_post(&s->is_up);
        else if (s->options.seat)
                three_open(&s->three, s->os, s->control, on_three_up, s);
        else
                open_store(s);
        if (os_run(s->os))
                abort();
        control_close(&s->control);
        os_free(&s->os);
        return NULL;
}

static inline struct server *server_start(const struct server_options *options)
{
        struct server *s = MEMORY_NEW(struct server);

        if (options)
                s->options = *options;
        assert_int_equal(sem_init(&s->is_up, 0, 0), 0);
        assert_int_equal(pthread_create(&s->thread, NULL, server_thread, s), 0);
        while (sem_wait(&s->is_up)) {
        }
        return s;
}

static inline void server_stop(struct server *s)
{
        os_post(s->os, stop_on_loop, s);
        assert_int_equal(pthread_join(s->thread, NULL), 0);
        sem_destroy(&s->is_up);
        free(s);
}

/* Runs `fn` on the server's thread and waits for it. */
struct on_loop {
        void (*fn)(struct server *s, void *arg);
        struct server *s;
        void *arg;
        sem_t is_done;
};

static inline void run_on_loop(void *arg)
{
        struct on_loop *o = arg;

        o->fn(o->s, o->arg);
        sem_post(&o->is_done);
}

static inline void on_server(struct server *s, void (*fn)(struct server *s, void *arg), void *arg)
{
        struct on_loop o = {.fn = fn, .s = s, .arg = arg};

        assert_int_equal(sem_init(&o.is_done, 0, 0), 0);
        os_post(s->os, run_on_loop, &o);
        while (sem_wait(&o.is_done)) {
        }
        sem_destroy(&o.is_done);
}

/* ---- the client ---- */

struct reply {
        int status;
        struct buffer head; /* NUL-terminated */
        struct buffer body; /* NUL-terminated; `size` is without the NUL */
};

static inline int client_connect(const struct server *s)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(s->port)};
        struct timeval limit = {.tv_sec = REPLY_TIMEOUT_S};
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        return fd;
}

static inline void client_send(int fd, const void *data, size_t size)
{
        const char *at = data;

        while (size) {
                ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

                if (n <= 0)
                        return; /* the server refused before it had everything; its answer says why */
                at += n;
                size -= (size_t)n;
        }
}

/* `headers`: lines, each with its "\r\n". */
static inline void client_request(
        int fd, const char *line, const char *headers, struct bytes body, bool is_last)
{
        struct buffer out = {0};

        buffer_format(&out, "%s HTTP/1.1\r\nHost: localhost\r\n%s%s", line, is_last ? "Connection: close\r\n" : "",
                headers);
        if (body.size || strncmp(line, "P", 1) == 0)
                buffer_format(&out, "Content-Length: %zu\r\n", body.size);
        buffer_add_string(&out, "\r\n");
        buffer_add_bytes(&out, body);
        client_send(fd, out.data, out.size);
        buffer_fini(&out);
}

static inline void unchunk(struct buffer *raw, struct buffer *to)
{
        size_t at = 0;

        for (;;) {
                const uint8_t *end = memmem(raw->data + at, raw->size - at, "\r\n", 2);
                size_t size;

                assert_non_null(end);
                size = strtoul((const char *)raw->data + at, NULL, 16);
                at = (size_t)(end - raw->data) + 2;
                if (!size)
                        return;
                assert_true(at + size + 2 <= raw->size);
                buffer_add(to, raw->data + at, size);
                at += size + 2;
        }
}

/* All of an answer whose length was said. One that came before its request was read is followed by a connection that
 * lingers, so its end is not waited for. */
static inline bool has_all(const struct buffer *all)
{
        const uint8_t *end = all->size ? memmem(all->data, all->size, "\r\n\r\n", 4) : NULL;
        const char *length = end ? memmem(all->data, (size_t)(end - all->data), "\r\ncontent-length: ", 18) : NULL;

        return length && all->size - (size_t)(end + 4 - all->data) >= strtoul(length + 18, NULL, 10);
}

/* Reads to the end of the answer. */
static inline void client_receive(int fd, struct reply *ret)
{
        struct buffer all = {0};
        struct buffer raw = {0};
        const uint8_t *end;

        *ret = (struct reply){0};
        for (;;) {
                ssize_t n;

                buffer_reserve(&all, 65536);
                n = recv(fd, all.data + all.size, 65536, 0);
                if (n <= 0)
                        break;
                all.size += (size_t)n;
                if (has_all(&all))
                        break;
        }
        end = memmem(all.data, all.size, "\r\n\r\n", 4);
        assert_non_null(end);
        buffer_add(&ret->head, all.data, (size_t)(end - all.data) + 2);
        buffer_add_u8(&ret->head, 0);
        ret->status = atoi((const char *)ret->head.data + 9);
        buffer_add(&raw, end + 4, all.size - (size_t)(end + 4 - all.data));
        if (strcasestr((char *)ret->head.data, "transfer-encoding: chunked") && raw.size)
                unchunk(&raw, &ret->body);
        else
                buffer_add_bytes(&ret->body, buffer_bytes(&raw));
        buffer_add_u8(&ret->body, 0);
        ret->body.size--;
        buffer_fini(&raw);
        buffer_fini(&all);
}

static inline void call_bytes(
        struct server *s, const char *line, const char *headers, struct bytes body, struct reply *ret)
{
        int fd = client_connect(s);

        client_request(fd, line, headers, body, true);
        client_receive(fd, ret);
        close(fd);
}

static inline void reply_free(struct reply *r)
{
        buffer_fini(&r->head);
        buffer_fini(&r->body);
}

static inline const char *body_of(const struct reply *r)
{
        return (const char *)r->body.data;
}

#define JSON_BODY   "Content-Type: application/json\r\n"
#define AS_LINES    "Accept: application/x-ndjson\r\n"
#define AS_EVENTS   "Accept: text/event-stream\r\n"

/* One call that must be answered with the status; gives the JSON of the answer (NULL: it has none). */
static inline json_t *call(struct server *s, int status, const char *line, const char *headers, const char *body)
{
        struct reply r;
        json_t *json;

        call_bytes(s, line, headers, body ? bytes_of_string(body) : BYTES_EMPTY, &r);
        if (r.status != status)
                fprintf(stderr, "%s\n%s%s\n", line, (char *)r.head.data, body_of(&r));
        assert_int_equal(r.status, status);
        json = json_loads(body_of(&r), JSON_DECODE_ANY, NULL);
        reply_free(&r);
        return json;
}

/* A call that must be refused: a problem with this code, with a detail that contains `detail`, and a next step. */
static inline json_t *refused(struct server *s, int status, const char *code, const char *detail, const char *line,
        const char *headers, const char *body)
{
        json_t *json = call(s, status, line, headers, body);
        const char *type = json_string_value(json_object_get(json, "type"));
        const char *text = json_string_value(json_object_get(json, "detail"));

        assert_non_null(type);
        assert_non_null(text);
        if (strncmp(type, "urn:nilo:", 9) != 0 || strcmp(type + 9, code) != 0 || !strstr(text, detail))
                fprintf(stderr, "%s\n%s: %s\n", line, type, text);
        assert_string_equal(type + 9, code);
        assert_non_null(strstr(text, detail));
        assert_int_equal(json_integer_value(json_object_get(json, "status")), status);
        assert_true(json_string_length(json_object_get(json, "title")) > 0);
        return json;
}

/* As above, where the fields do not matter. */
static inline void refuse(struct server *s, int status, const char *code, const char *detail, const char *line,
        const char *headers, const char *body)
{
        json_decref(refused(s, status, code, detail, line, headers, body));
}

static inline int64_t number(const json_t *json, const char *key)
{
        const json_t *value = json_object_get(json, key);

        assert_true(json_is_integer(value));
        return json_integer_value(value);
}

static inline const char *text(const json_t *json, const char *key)
{
        const char *value = json_string_value(json_object_get(json, key));

        assert_non_null(value);
        return value;
}

/* Appends `count` events {"n":first}, {"n":first+1}, ... to the stream. */
static inline void append_many(struct server *s, const char *stream, const char *type, unsigned first, unsigned count)
{
        struct buffer body = {0};
        char line[256];

        for (unsigned i = first; i < first + count; i++)
                buffer_format(&body, "{\"type\":\"%s\",\"data\":{\"n\":%u}}\n", type, i);
        buffer_add_u8(&body, 0);
        snprintf(line, sizeof line, "POST /v1/streams/%s/events", stream);
        json_decref(call(s, 201, line, "Content-Type: application/x-ndjson\r\n", (char *)body.data));
        buffer_fini(&body);
}

/* ---- server-sent events ---- */

struct frames {
        int fd;
        struct buffer raw; /* of the connection, chunks and all */
        size_t at;
        bool has_head;
};

struct frame {
        char event[32];
        char id[32];
        char data[2048];
};

static inline void frames_open(struct server *s, struct frames *f, const char *line, const char *headers)
{
        char all[512];

        *f = (struct frames){.fd = client_connect(s)};
        snprintf(all, sizeof all, AS_EVENTS "%s", headers);
        client_request(f->fd, line, all, BYTES_EMPTY, true);
}

static inline void frames_close(struct frames *f)
{
        close(f->fd);
        buffer_fini(&f->raw);
}

/* The next line of the stream; false at the end. Lines that are sizes of chunks are told by their form: no line of ours
 * is a bare hexadecimal number followed by a carriage return. */
static inline bool frames_line(struct frames *f, char *to, size_t size)
{
        for (;;) {
                const uint8_t *end = f->raw.size > f->at ? memchr(f->raw.data + f->at, '\n', f->raw.size - f->at) : NULL;
                size_t n;

                if (!end) {
                        ssize_t got;

                        buffer_reserve(&f->raw, 65536);
                        got = recv(f->fd, f->raw.data + f->raw.size, 65536, 0);
                        if (got <= 0)
                                return false;
                        f->raw.size += (size_t)got;
                        continue;
                }
                n = (size_t)(end - f->raw.data) - f->at;
                assert_true(n < size);
                memcpy(to, f->raw.data + f->at, n);
                to[n] = 0;
                f->at += n + 1;
                if (!f->has_head) {
                        if (strncmp(to, "HTTP/1.1 ", 9) == 0)
                                assert_int_equal(atoi(to + 9), 200);
                        f->has_head = strcmp(to, "\r") == 0;
                        continue;
                }
                if (n && to[n - 1] == '\r')
                        continue; /* of a chunk */
                return true;
        }
}

static inline void frame_take(char *to, size_t size, const char *from)
{
        assert_true(strlen(from) < size);
        memcpy(to, from, strlen(from) + 1);
}

/* The next frame that has data; false at the end of the stream. */
static inline bool frames_next(struct frames *f, struct frame *ret)
{
        char line[4096];

        *ret = (struct frame){0};
        while (frames_line(f, line, sizeof line)) {
                if (strncmp(line, "event: ", 7) == 0)
                        frame_take(ret->event, sizeof ret->event, line + 7);
                else if (strncmp(line, "id: ", 4) == 0)
                        frame_take(ret->id, sizeof ret->id, line + 4);
                else if (strncmp(line, "data: ", 6) == 0)
                        frame_take(ret->data, sizeof ret->data, line + 6);
                else if (!*line && *ret->data)
                        return true;
                else if (!*line)
                        *ret = (struct frame){0};
        }
        return false;
}

/* The next frame must be an event of the log with this id and number. */
static inline void expect_event(struct frames *f, uint64_t id, int64_t n)
{
        struct frame frame;
        json_t *json;

        assert_true(frames_next(f, &frame));
        assert_string_equal(frame.event, "");
        assert_int_equal(strtoull(frame.id, NULL, 10), id);
        json = json_loads(frame.data, 0, NULL);
        assert_int_equal(number(json_object_get(json, "data"), "n"), n);
        json_decref(json);
}

static inline void expect_mark(struct frames *f, const char *name)
{
        struct frame frame;

        assert_true(frames_next(f, &frame));
        assert_string_equal(frame.event, name);
        assert_string_equal(frame.id, "");
}

#endif
