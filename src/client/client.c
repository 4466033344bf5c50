/* What the client does with streams: appends that are tried again, reads, and following across lost
 * connections. */
#include "nilo/client.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/json_out.h"
#include "client/exchange.h"
#include "client/problem.h"
#include "client/sse.h"

enum {
        RETRY_AFTER_MS_MIN = 100,
        RETRY_AFTER_MS_MAX = 5000,
        APPEND_TRIES_MS_MAX = 8000, /* after which an append is not tried again */
};

/* ---- append and delete ---- */

static void expect_header(int64_t expected, char *to, size_t size)
{
        if (expected >= 0)
                snprintf(to, size, "Nilo-Expect: %" PRId64, expected);
        else
                snprintf(to, size, "Nilo-Expect: %s",
                        expected == NILO_NONE ? "none" : (expected == NILO_EXISTS ? "exists" : "any"));
}

enum { ID_SIZE = 16, ID_TEXT_SIZE = 37 };

static void id_format(const uint8_t *id, char text[ID_TEXT_SIZE])
{
        static const char hex[] = "0123456789abcdef";
        char *at = text;

        for (unsigned i = 0; i < ID_SIZE; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        *at++ = '-';
                *at++ = hex[id[i] >> 4];
                *at++ = hex[id[i] & 15];
        }
        *at = 0;
}

/* A version 4 UUID. False when the machine has no random bytes. */
static bool id_make(uint8_t id[ID_SIZE])
{
        if (getrandom(id, ID_SIZE, 0) != ID_SIZE)
                return false;
        id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
        id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
        return true;
}

/* Data goes into the request as it is, so it must be one value: else it could close the request's own
 * brackets. */
static bool event_is_valid(const struct nilo_event *e)
{
        return e->is_binary || !e->data_size || nilo_json_is_valid(e->data, e->data_size);
}

static bool event_to_json(const struct nilo_event *e, struct json_out *j)
{
        uint8_t made[ID_SIZE];
        char id[ID_TEXT_SIZE];

        if (!e->id && !id_make(made))
                return false;
        id_format(e->id ? e->id : made, id);
        json_object_begin(j);
        json_field_string(j, "id", id);
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
        return true;
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

static uint64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void read_appended(const struct reply *r, struct nilo_appended *ret)
{
        json_t *json = json_loadb((const char *)r->body.data, r->body.size, 0, NULL);
        const json_t *revision = json_object_get(json, "last_revision");

        *ret = (struct nilo_appended){
                .last_revision = json_is_integer(revision) ? json_integer_value(revision) : -1,
                .position = (uint64_t)json_integer_value(json_object_get(json, "position")),
                .is_duplicate = json_is_true(json_object_get(json, "duplicate")),
                .actual_revision = -1,
        };
        json_decref(json);
}

/* Sends until there is an answer. Every event has an id, so an attempt whose answer was lost may be repeated
 * (G6); when it went unanswered, a refused connection does not make it certain that nothing was written. */
static enum nilo_result send_until_known(struct nilo_client *c, const char *path, const char *const *headers,
        struct bytes body, struct reply *r)
{
        uint64_t until_ms = now_ms() + APPEND_TRIES_MS_MAX;
        unsigned wait_ms = RETRY_AFTER_MS_MIN;
        bool may_be_written = false;
        enum nilo_result result;

        for (;;) {
                bool is_open;

                buffer_clear(&r->body);
                result = exchange_run(c, "POST", path, headers, body.data, body.size, r);
                may_be_written |= result == NILO_UNKNOWN;
                is_open = result == NILO_UNKNOWN || result == NILO_BUSY ||
                          (result == NILO_UNAVAILABLE && may_be_written);
                if (!is_open || c->is_interrupted || now_ms() + wait_ms > until_ms)
                        break;
                usleep(wait_ms * 1000);
                wait_ms = MIN(wait_ms * 2, (unsigned)RETRY_AFTER_MS_MAX);
        }
        if (may_be_written && (result == NILO_UNAVAILABLE || result == NILO_BUSY))
                result = NILO_UNKNOWN;
        return result;
}

enum nilo_result nilo_client_append(struct nilo_client *c, const char *stream, int64_t expected,
        const struct nilo_event *events, unsigned count, struct nilo_appended *ret)
{
        char expect[64];
        const char *const headers[] = {"Content-Type: application/json", expect, NULL};
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        struct reply r = {.silence_seconds_max = REPLY_SILENCE_SECONDS_MAX};
        char *path = stream_path(stream, "/events");
        enum nilo_result result = NILO_OK;

        expect_header(expected, expect, sizeof expect);
        json_array_begin(&j);
        for (unsigned i = 0; i < count && !result; i++) {
                if (!event_is_valid(&events[i])) {
                        result = NILO_INVALID;
                        problem_text(&c->problem, "the data of event %u (%s) is no JSON", i, events[i].type);
                        problem_text(&c->next_step, "Correct it, or append it as binary.");
                } else if (!event_to_json(&events[i], &j)) {
                        result = NILO_ERROR;
                        problem_text(&c->problem, "no random bytes for event ids: %s", strerror(errno));
                        problem_text(&c->next_step, "%s", "");
                }
        }
        if (!result) {
                json_array_end(&j);
                result = send_until_known(c, path, headers, buffer_bytes(&body), &r);
        }
        if (result == NILO_CONFLICT && ret)
                ret->actual_revision = c->actual_revision;
        if (!result && ret)
                read_appended(&r, ret);
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

/* Where a read begins, as a parameter. */
static void from_text(const struct nilo_read_options *o, char *to, size_t size)
{
        snprintf(to, size, "%" PRIu64, o->from);
        if (o->from_end)
                snprintf(to, size, "end");
}

static char *read_path(const struct nilo_read_options *o, const char *from)
{
        static const char *const consistencies[] = {
                [NILO_STALE] = "stale", [NILO_LINEARIZABLE] = "linearizable", [NILO_LEADER] = "leader"};
        struct buffer path = {0};
        char number[32];

        if (o->stream) {
                char *stream = stream_path(o->stream, "/events");

                buffer_add_string(&path, stream);
                free(stream);
        } else {
                buffer_add_string(&path, "/v1/all/events");
        }
        add_query(&path, "from", from);
        if (o->is_backward)
                add_query(&path, "direction", "backward");
        snprintf(number, sizeof number, "%" PRIu64, o->limit);
        if (o->limit)
                add_query(&path, "limit", number);
        add_query(&path, "stream-prefix", o->stream_prefix);
        add_query(&path, "type-prefix", o->type_prefix);
        add_query(&path, "stream-regex", o->stream_regex);
        add_query(&path, "type-regex", o->type_regex);
        if (o->consistency)
                add_query(&path, "consistency", consistencies[o->consistency]);
        snprintf(number, sizeof number, "%" PRIu64, o->after);
        if (o->has_after)
                add_query(&path, "after", number);
        snprintf(number, sizeof number, "%" PRIu32, o->wait_ms_max);
        if (o->wait_ms_max)
                add_query(&path, "timeout-ms", number);
        buffer_add_u8(&path, 0);
        return (char *)path.data;
}

enum nilo_result nilo_client_read(struct nilo_client *c, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), void *arg)
{
        char from[32];
        char *path;
        enum nilo_result result;

        from_text(options, from, sizeof from);
        path = read_path(options, from);
        result = exchange_lines(c, path, STREAM_SILENCE_SECONDS_MAX, each, arg);
        free(path);
        return result;
}

/* One connection of server-sent events after another; the id of the last event says where the next begins. */
struct follow {
        struct nilo_client *client;
        bool (*each)(void *arg, const char *json, size_t size);
        void *arg;
        struct sse sse;
        uint64_t next; /* revision or position of the first event that was not given */
        uint64_t given;
        enum nilo_result end; /* what a mark before the end said; NILO_OK: nothing */
};

/* Only what has an id and data is an event. An id alone says that all up to it was looked at. `deleted` and
 * `problem` come before an end that coming back does not mend; other marks are news without meaning here. */
static bool on_frame(struct follow *f)
{
        struct bytes data = buffer_bytes(&f->sse.data);
        char *end = f->sse.id;
        uint64_t number = strtoull(f->sse.id, &end, 10);

        if (strcmp(f->sse.event, "deleted") == 0 || strcmp(f->sse.event, "problem") == 0) {
                uint64_t status = 500;

                nilo_json_number((const char *)data.data, data.size, "status", &status);
                f->end = problem_read((long)status, data, &f->client->problem, &f->client->next_step,
                        &f->client->actual_revision);
                return false;
        }
        if (!*f->sse.id || *end || *f->sse.event)
                return true;
        f->next = number + 1;
        f->given++;
        return !data.size || f->each(f->arg, (const char *)data.data, data.size);
}

static bool on_follow_line(void *arg, const char *line, size_t size)
{
        struct follow *f = arg;
        enum sse_outcome outcome = sse_line(&f->sse, line, size);
        bool goes_on = true;

        if (outcome == SSE_TOO_LARGE) {
                f->end = NILO_TOO_LARGE;
                problem_text(&f->client->problem, "%s: an event is larger than %d MiB",
                        nilo_client_url(f->client), SSE_DATA_SIZE_MAX >> 20);
                return false;
        }
        if (outcome == SSE_EVENT) {
                goes_on = on_frame(f);
                sse_next(&f->sse);
        }
        return goes_on;
}

struct newest {
        const char *key;
        uint64_t number;
        bool is_there;
};

static bool on_newest(void *arg, const char *line, size_t size)
{
        struct newest *n = arg;
        json_t *json = json_loadb(line, size, 0, NULL);
        const json_t *number = json_object_get(json, n->key);

        n->is_there = json_is_integer(number);
        n->number = (uint64_t)json_integer_value(number);
        json_decref(json);
        return false;
}

/* The number behind the newest event: "from the end" must stay one place, also when the first connection is
 * lost before anything came. */
static enum nilo_result find_end(
        struct nilo_client *c, const struct nilo_read_options *options, uint64_t *ret)
{
        struct nilo_read_options newest = {
                .stream = options->stream, .is_backward = true, .from_end = true, .limit = 1};
        struct newest n = {.key = options->stream ? "revision" : "position"};
        enum nilo_result result = nilo_client_read(c, &newest, on_newest, &n);

        *ret = n.is_there ? n.number + 1 : 0;
        return result == NILO_NOT_FOUND ? NILO_OK : result;
}

static enum nilo_result follow_once(struct nilo_client *c, const struct nilo_read_options *options,
        struct follow *f, bool *ret_is_stopped)
{
        static const char *const headers[] = {"Accept: text/event-stream", NULL};
        struct reply r = {.each = on_follow_line,
                .arg = f,
                .has_lines = true,
                .silence_seconds_max = STREAM_SILENCE_SECONDS_MAX};
        char from[32];
        char *path;
        enum nilo_result result;

        snprintf(from, sizeof from, "%" PRIu64, f->next);
        path = read_path(options, from);
        result = exchange_run(c, "GET", path, headers, NULL, 0, &r);
        *ret_is_stopped = r.is_stopped;
        sse_next(&f->sse); /* what the connection cut off comes again */
        buffer_fini(&r.body);
        free(path);
        return result;
}

enum nilo_result nilo_client_follow(struct nilo_client *c, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), bool (*on_wait)(void *arg, const char *why),
        void *arg)
{
        struct follow f = {.client = c, .each = each, .arg = arg, .next = options->from};
        struct nilo_read_options forward = *options;
        unsigned wait_ms = RETRY_AFTER_MS_MIN;
        bool knows_place = !options->from_end;
        enum nilo_result result;

        forward.limit = 0;
        for (;;) {
                uint64_t given_before = f.given;
                bool is_stopped = false;

                result = knows_place ? NILO_OK : find_end(c, options, &f.next);
                knows_place |= !result;
                if (!result)
                        result = follow_once(c, &forward, &f, &is_stopped);
                if (is_stopped || c->is_interrupted) {
                        result = f.end;
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
        sse_fini(&f.sse);
        return result;
}
