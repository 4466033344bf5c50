/* The client over HTTP/1.1 with libcurl: one connection, reused. */
#include "nilo/client.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/json_out.h"
#include "base/memory.h"

enum {
        REPLY_SIZE_MAX = 64 << 20, /* of a body that is kept whole */
        LINE_SIZE_MAX = 64 << 20,  /* of one line */
        CONNECT_TIMEOUT_MS = 3000,
        RETRY_AFTER_MS_MIN = 100,
        RETRY_AFTER_MS_MAX = 5000,
};

struct nilo_client {
        CURL *curl;
        char *url;
        char error[CURL_ERROR_SIZE];
        struct buffer problem; /* NUL-terminated */
        struct buffer next_step;
};

/* One reply as it comes in. */
struct reply {
        struct nilo_client *client;
        struct buffer body; /* the whole body, or the line under way */
        bool (*each)(void *arg, const char *line, size_t size);
        void *arg;
        bool is_stopped;
        bool is_too_large;
        bool has_lines;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void)
{
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void text_set(struct buffer *b, const char *s)
{
        buffer_clear(b);
        buffer_add_string(b, s);
        buffer_add_u8(b, 0);
}

const char *nilo_client_problem(const struct nilo_client *client)
{
        return (const char *)client->problem.data;
}

const char *nilo_client_next_step(const struct nilo_client *client)
{
        return (const char *)client->next_step.data;
}

enum nilo_result nilo_client_open(const char *url, struct nilo_client **ret)
{
        struct nilo_client *c;
        size_t size = strlen(url);

        if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
                return NILO_INVALID;
        pthread_once(&curl_once, curl_start);
        c = MEMORY_NEW(struct nilo_client);
        while (size && url[size - 1] == '/')
                size--;
        c->url = bytes_to_string(bytes_of(url, size));
        c->curl = curl_easy_init();
        text_set(&c->problem, "");
        text_set(&c->next_step, "");
        if (!c->curl || !c->url) {
                nilo_client_close(&c);
                return NILO_ERROR;
        }
        *ret = c;
        return NILO_OK;
}

void nilo_client_close(struct nilo_client **client)
{
        struct nilo_client *c = *client;

        if (!c)
                return;
        *client = NULL;
        curl_easy_cleanup(c->curl);
        buffer_fini(&c->problem);
        buffer_fini(&c->next_step);
        free(c->url);
        free(c);
}

char *nilo_client_escape(const char *text)
{
        static const char hex[] = "0123456789ABCDEF";
        struct buffer out = {0};

        for (; *text; text++) {
                uint8_t c = (uint8_t)*text;

                if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        strchr("-._~", c)) {
                        buffer_add_u8(&out, c);
                } else {
                        buffer_add_u8(&out, '%');
                        buffer_add_u8(&out, (uint8_t)hex[c >> 4]);
                        buffer_add_u8(&out, (uint8_t)hex[c & 15]);
                }
        }
        buffer_add_u8(&out, 0);
        return (char *)out.data;
}

/* ---- one exchange ---- */

/* Gives the complete lines that have come; false when the user has had enough. */
static bool give_lines(struct reply *r)
{
        size_t from = 0;

        for (;;) {
                const uint8_t *end = memchr(r->body.data + from, '\n', r->body.size - from);
                size_t size;

                if (!end)
                        break;
                size = (size_t)(end - r->body.data) - from;
                if (size && r->body.data[from + size - 1] == '\r')
                        size--;
                if (!r->each(r->arg, (const char *)r->body.data + from, size)) {
                        r->is_stopped = true;
                        return false;
                }
                from = (size_t)(end - r->body.data) + 1;
        }
        buffer_consume(&r->body, from);
        return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
        struct reply *r = arg;
        long status = 0;

        size *= count;
        if (!size)
                return 0;
        buffer_add(&r->body, data, size);
        curl_easy_getinfo(r->client->curl, CURLINFO_RESPONSE_CODE, &status);
        if (r->has_lines && status / 100 == 2) {
                if (!give_lines(r))
                        return 0;
                r->is_too_large = r->body.size > LINE_SIZE_MAX;
        } else {
                r->is_too_large = r->body.size > REPLY_SIZE_MAX;
        }
        return r->is_too_large ? 0 : size;
}

static enum nilo_result result_of_status(long status)
{
        switch (status) {
        case 400:
        case 405:
        case 415:
        case 422:
                return NILO_INVALID;
        case 404:
                return NILO_NOT_FOUND;
        case 409:
        case 412:
                return NILO_CONFLICT;
        case 410:
                return NILO_DELETED;
        case 413:
        case 414:
        case 431:
                return NILO_TOO_LARGE;
        case 429:
                return NILO_BUSY;
        case 503:
                return NILO_UNAVAILABLE;
        case 504:
                return NILO_UNKNOWN;
        case 507:
                return NILO_FULL;
        default:
                return NILO_ERROR;
        }
}

/* Takes detail and next step out of a problem+json body (RFC 9457). */
static enum nilo_result refused(struct nilo_client *c, long status, struct bytes body)
{
        json_t *json = json_loadb((const char *)body.data, body.size, 0, NULL);
        const char *detail = json_string_value(json_object_get(json, "detail"));
        const char *next = json_string_value(json_object_get(json, "next"));
        const char *type = json_string_value(json_object_get(json, "type"));
        enum nilo_result result = result_of_status(status);

        if (type && strcmp(type, "urn:nilo:corrupt") == 0)
                result = NILO_CORRUPT;
        if (type && strcmp(type, "urn:nilo:busy") == 0)
                result = NILO_BUSY;
        if (detail) {
                text_set(&c->problem, detail);
        } else {
                buffer_clear(&c->problem);
                buffer_format(&c->problem, "the server answered with status %ld", status);
                buffer_add_u8(&c->problem, 0);
        }
        text_set(&c->next_step, next ? next : "");
        json_decref(json);
        return result;
}

static enum nilo_result unreachable(struct nilo_client *c, CURLcode code, bool was_sent)
{
        buffer_clear(&c->problem);
        buffer_format(&c->problem, "%s: %s", c->url, *c->error ? c->error : curl_easy_strerror(code));
        buffer_add_u8(&c->problem, 0);
        text_set(&c->next_step,
                was_sent ? "Retry with the same event ids: what was written is not written again."
                         : "Start a server with `nilo`, or name another with --url or NILO_URL.");
        return was_sent ? NILO_UNKNOWN : NILO_UNAVAILABLE;
}

static enum nilo_result exchange(struct nilo_client *c, const char *method, const char *path,
        const char *const *headers, const void *body, size_t body_size, struct reply *r)
{
        struct curl_slist *list = NULL;
        struct buffer url = {0};
        enum nilo_result result = NILO_OK;
        CURLcode code;
        long status = 0;

        buffer_format(&url, "%s%s", c->url, path);
        for (; headers && *headers; headers++)
                list = curl_slist_append(list, *headers);
        list = curl_slist_append(list, "Expect:");
        curl_easy_reset(c->curl);
        *c->error = 0;
        text_set(&c->problem, "");
        text_set(&c->next_step, "");
        r->client = c;
        curl_easy_setopt(c->curl, CURLOPT_URL, url.data);
        curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->error);
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
        curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
        curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c->curl, CURLOPT_TCP_NODELAY, 1L);
        curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
        curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, r);
        if (body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body ? body : "");
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_size);
        }
        if (strcmp(method, "HEAD") == 0)
                curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
        code = curl_easy_perform(c->curl);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (code && !r->is_stopped) {
                /* Only a request that was never sent was certainly not carried out. */
                bool was_sent = body && code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST;

                result = unreachable(c, code, was_sent);
        } else if (status / 100 != 2 && !r->is_stopped) {
                result = refused(c, status, buffer_bytes(&r->body));
        }
        curl_slist_free_all(list);
        buffer_fini(&url);
        return result;
}

enum nilo_result nilo_client_send(struct nilo_client *c, const char *method, const char *path,
        const char *const *headers, const void *body, size_t body_size, char **ret_body)
{
        struct reply r = {0};
        enum nilo_result result = exchange(c, method, path, headers, body, body_size, &r);

        if (!result && ret_body) {
                buffer_add_u8(&r.body, 0);
                *ret_body = (char *)r.body.data;
                return result;
        }
        buffer_fini(&r.body);
        return result;
}

enum nilo_result nilo_client_lines(struct nilo_client *c, const char *path,
        bool (*each)(void *arg, const char *line, size_t size), void *arg)
{
        static const char *const headers[] = {"Accept: application/x-ndjson", NULL};
        struct reply r = {.each = each, .arg = arg, .has_lines = true};
        enum nilo_result result = exchange(c, "GET", path, headers, NULL, 0, &r);

        buffer_fini(&r.body);
        return result;
}

/* ---- append and delete ---- */

static void expect_header(int64_t expected, char *to, size_t size)
{
        if (expected >= 0)
                snprintf(to, size, "Nilo-Expect: %" PRId64, expected);
        else
                snprintf(to, size, "Nilo-Expect: %s",
                        expected == NILO_NONE ? "none" : (expected == NILO_EXISTS ? "exists" : "any"));
}

static void event_to_json(const struct nilo_event *e, struct json_out *j)
{
        json_object_begin(j);
        if (e->id) {
                char id[37];

                snprintf(id, sizeof id,
                        "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", e->id[0],
                        e->id[1], e->id[2], e->id[3], e->id[4], e->id[5], e->id[6], e->id[7], e->id[8],
                        e->id[9], e->id[10], e->id[11], e->id[12], e->id[13], e->id[14], e->id[15]);
                json_field_string(j, "id", id);
        }
        json_field_string(j, "type", e->type);
        if (e->is_binary) {
                json_key(j, "data_base64");
                json_base64(j, bytes_of(e->data, e->data_size));
        } else if (e->data_size) {
                json_key(j, "data");
                json_raw(j, bytes_of(e->data, e->data_size));
        }
        if (e->metadata && e->metadata_size) {
                json_t *is_json = json_loadb(e->metadata, e->metadata_size, JSON_DECODE_ANY, NULL);

                json_key(j, is_json ? "metadata" : "metadata_base64");
                if (is_json)
                        json_raw(j, bytes_of(e->metadata, e->metadata_size));
                else
                        json_base64(j, bytes_of(e->metadata, e->metadata_size));
                json_decref(is_json);
        }
        json_object_end(j);
}

static char *stream_path(const char *stream, const char *rest)
{
        char *name = nilo_client_escape(stream);
        struct buffer path = {0};

        buffer_format(&path, "/v1/streams/%s%s", name, rest);
        buffer_add_u8(&path, 0);
        free(name);
        return (char *)path.data;
}

static void read_conflict(struct reply *r, struct nilo_appended *ret)
{
        json_t *json = json_loadb((const char *)r->body.data, r->body.size, 0, NULL);
        const json_t *actual = json_object_get(json, "actual");

        ret->actual_revision = json_is_integer(actual) ? json_integer_value(actual) : -1;
        json_decref(json);
}

enum nilo_result nilo_client_append(struct nilo_client *c, const char *stream, int64_t expected,
        const struct nilo_event *events, unsigned count, struct nilo_appended *ret)
{
        char expect[64];
        const char *const headers[] = {"Content-Type: application/json", expect, NULL};
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        struct reply r = {0};
        char *path = stream_path(stream, "/events");
        enum nilo_result result;

        expect_header(expected, expect, sizeof expect);
        json_array_begin(&j);
        for (unsigned i = 0; i < count; i++)
                event_to_json(&events[i], &j);
        json_array_end(&j);
        result = exchange(c, "POST", path, headers, body.data, body.size, &r);
        if (result == NILO_CONFLICT && ret)
                read_conflict(&r, ret);
        if (!result && ret) {
                json_t *json = json_loadb((const char *)r.body.data, r.body.size, 0, NULL);

                *ret = (struct nilo_appended){
                        .last_revision = json_integer_value(json_object_get(json, "last_revision")),
                        .position = (uint64_t)json_integer_value(json_object_get(json, "position")),
                        .is_duplicate = json_is_true(json_object_get(json, "duplicate")),
                };
                json_decref(json);
        }
        buffer_fini(&r.body);
        buffer_fini(&body);
        free(path);
        return result;
}

enum nilo_result nilo_client_delete(struct nilo_client *c, const char *stream, int64_t expected,
        bool is_tombstone, uint64_t *ret_position)
{
        char expect[64];
        const char *const headers[] = {expect, NULL};
        char *path = stream_path(stream, is_tombstone ? "?tombstone=true" : "");
        char *body = NULL;
        enum nilo_result result;

        expect_header(expected, expect, sizeof expect);
        result = nilo_client_send(c, "DELETE", path, headers, NULL, 0, &body);
        if (!result && ret_position) {
                json_t *json = json_loads(body, 0, NULL);

                *ret_position = (uint64_t)json_integer_value(json_object_get(json, "position"));
                json_decref(json);
        }
        free(body);
        free(path);
        return result;
}

/* ---- read and follow ---- */

static void add_query(struct buffer *path, const char *name, const char *value)
{
        char *escaped;

        if (!value)
                return;
        escaped = nilo_client_escape(value);
        buffer_format(path, "%c%s=%s", memchr(path->data, '?', path->size) ? '&' : '?', name, escaped);
        free(escaped);
}

static char *read_path(const struct nilo_read_options *o)
{
        struct buffer path = {0};
        char number[32];

        if (o->stream) {
                char *stream = stream_path(o->stream, "/events");

                buffer_add_string(&path, stream);
                free(stream);
        } else {
                buffer_add_string(&path, "/v1/all/events");
        }
        snprintf(number, sizeof number, "%" PRIu64, o->from);
        add_query(&path, "from", o->from_end ? "end" : number);
        if (o->is_backward)
                add_query(&path, "direction", "backward");
        snprintf(number, sizeof number, "%" PRIu64, o->limit);
        if (o->limit)
                add_query(&path, "limit", number);
        add_query(&path, "stream-prefix", o->stream_prefix);
        add_query(&path, "type-prefix", o->type_prefix);
        add_query(&path, "stream-regex", o->stream_regex);
        add_query(&path, "type-regex", o->type_regex);
        buffer_add_u8(&path, 0);
        return (char *)path.data;
}

enum nilo_result nilo_client_read(struct nilo_client *c, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), void *arg)
{
        char *path = read_path(options);
        enum nilo_result result = nilo_client_lines(c, path, each, arg);

        free(path);
        return result;
}

/* One connection of server-sent events after another; the id of the last event says where the next begins. */
struct follow {
        bool (*each)(void *arg, const char *json, size_t size);
        void *arg;
        struct buffer data;
        char last_id[32];
        char id[32];
        uint64_t given;
};

static bool field_is(
        const char *line, size_t size, const char *name, const char **ret_value, size_t *ret_size)
{
        size_t n = strlen(name);

        if (size < n + 1 || memcmp(line, name, n) != 0 || line[n] != ':')
                return false;
        n += 1 + (size > n + 1 && line[n + 1] == ' ');
        *ret_value = line + n;
        *ret_size = size - n;
        return true;
}

static bool on_sse_line(void *arg, const char *line, size_t size)
{
        struct follow *f = arg;
        const char *value;
        size_t value_size;
        bool goes_on = true;

        if (field_is(line, size, "data", &value, &value_size)) {
                buffer_add(&f->data, value, value_size);
        } else if (field_is(line, size, "id", &value, &value_size)) {
                snprintf(f->id, sizeof f->id, "%.*s", (int)value_size, value);
        } else if (size == 0) {
                /* Only what has an id is an event of the log; caught-up marks and comments have none. */
                if (f->data.size && *f->id) {
                        memcpy(f->last_id, f->id, sizeof f->last_id);
                        f->given++;
                        goes_on = f->each(f->arg, (const char *)f->data.data, f->data.size);
                }
                buffer_clear(&f->data);
                *f->id = 0;
        }
        return goes_on;
}

enum nilo_result nilo_client_follow(struct nilo_client *c, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), bool (*on_wait)(void *arg, const char *why),
        void *arg)
{
        struct follow f = {.each = each, .arg = arg};
        char *path = read_path(options);
        unsigned wait_ms = RETRY_AFTER_MS_MIN;
        enum nilo_result result;

        for (;;) {
                char last[64];
                const char *const headers[] = {"Accept: text/event-stream", *f.last_id ? last : NULL, NULL};
                struct reply r = {.each = on_sse_line, .arg = &f, .has_lines = true};
                uint64_t given_before = f.given;

                snprintf(last, sizeof last, "Last-Event-ID: %s", f.last_id);
                result = exchange(c, "GET", path, headers, NULL, 0, &r);
                buffer_fini(&r.body);
                buffer_clear(&f.data);
                *f.id = 0;
                if (r.is_stopped) {
                        result = NILO_OK;
                        break;
                }
                if (result != NILO_OK && result != NILO_UNAVAILABLE && result != NILO_BUSY)
                        break;
                if (f.given > given_before)
                        wait_ms = RETRY_AFTER_MS_MIN;
                if (on_wait &&
                        !on_wait(arg, result ? nilo_client_problem(c) : "the server ended the stream")) {
                        result = NILO_UNAVAILABLE;
                        break;
                }
                usleep(wait_ms * 1000);
                wait_ms = MIN(wait_ms * 2, (unsigned)RETRY_AFTER_MS_MAX);
        }
        buffer_fini(&f.data);
        free(path);
        return result;
}
