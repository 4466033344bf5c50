/* Streams of facts: one watcher of the bus each, pulled by the room of its connection. A slow reader misses
 * facts and is told how many; it costs the server its cursor and nothing else (G18). */
#include "ops/room.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEEP_ALIVE_US = 15 * 1000 * 1000 };

struct fact_stream {
        struct control_watcher watcher;
        struct ops *ops;
        struct gateway_request *request;
        struct list link;
        uint64_t after; /* facts before this sequence were seen by the client before it came back */
        bool is_sse;
        bool is_quiet; /* nothing was sent since the last keep-alive */
};

static void fact_stream_free(struct fact_stream *s)
{
        control_unwatch(&s->watcher);
        list_remove(&s->link);
        s->ops->facts.count--;
        free(s);
}

static void add_line(
        struct fact_stream *s, struct buffer *out, const char *event, const char *id, struct bytes json)
{
        if (s->is_sse) {
                buffer_format(out, "event: %s\n", event);
                if (id)
                        buffer_format(out, "id: %s\n", id);
                buffer_add_string(out, "data: ");
        }
        buffer_add_bytes(out, json);
        buffer_add_string(out, s->is_sse ? "\n\n" : "\n");
}

static void add_missed(struct fact_stream *s, struct buffer *out, uint64_t missed)
{
        struct buffer json = {0};

        buffer_format(&json, "{\"missed\":%" PRIu64 "}", missed);
        add_line(s, out, "missed", NULL, buffer_bytes(&json));
        buffer_fini(&json);
}

static void add_fact(struct fact_stream *s, struct buffer *out, const struct fact *fact)
{
        struct buffer json = {0};
        struct json_out j = {.out = &json};
        char id[64];

        fact_to_json(s->ops->control, fact, &j);
        snprintf(id, sizeof id, "%016" PRIx64 "-%" PRIu64, control_boot_id(s->ops->control), fact->sequence);
        add_line(s, out, fact_describe((enum fact_type)fact->type)->name, id, buffer_bytes(&json));
        buffer_fini(&json);
}

/* Sends what there is while there is room; false when the bus has no more for now. */
static bool send_facts(struct fact_stream *s, bool without_limit)
{
        struct buffer out = {0};
        struct fact fact;
        uint64_t missed;
        bool has_more = true;

        while (has_more && (without_limit || gateway_stream_room(s->request))) {
                buffer_clear(&out);
                has_more = control_take(&s->watcher, &fact, &missed);
                if (!has_more)
                        break;
                if (missed)
                        add_missed(s, &out, missed);
                if (fact.sequence >= s->after)
                        add_fact(s, &out, &fact);
                gateway_stream_send(s->request, buffer_bytes(&out));
                s->is_quiet = false;
        }
        buffer_fini(&out);
        return has_more;
}

static void on_writable(void *arg, struct gateway_request *r)
{
        (void)r;
        send_facts(arg, false);
}

static void on_close(void *arg, struct gateway_request *r)
{
        (void)r;
        fact_stream_free(arg);
}

static void on_facts(struct control_watcher *watcher)
{
        gateway_stream_wake(CONTAINER_OF(watcher, struct fact_stream, watcher)->request);
}

/* A comment now and then shows proxies that the stream lives, and us that the client is gone. NDJSON has no
 * comments. */
static void on_keep_alive(struct os_timer *timer)
{
        struct ops *ops = timer->arg;

        LIST_EACH_SAFE (at, &ops->facts.streams) {
                struct fact_stream *s = CONTAINER_OF(at, struct fact_stream, link);

                if (s->is_sse && s->is_quiet)
                        gateway_stream_send(s->request, BYTES_LITERAL(": keep-alive\n\n"));
                s->is_quiet = true;
        }
        os_timer_start(ops->os, &ops->facts.keep_alive, KEEP_ALIVE_US);
}

/* ---- the request ---- */

static void refuse(struct gateway_request *r, const char *what, struct bytes value, const char *names)
{
        gateway_reply_problem(r,
                &(struct gateway_problem){
                        .status = 400, .code = "invalid", .title = "The query makes no sense"},
                "%s: \"%.*s\" is none of %s", what, (int)MIN(value.size, (size_t)64),
                (const char *)value.data, names);
}

/* Adds the categories of a comma-separated list. */
static bool add_categories(struct bytes list, uint32_t *categories)
{
        while (list.size) {
                const uint8_t *comma = memchr(list.data, ',', list.size);
                size_t size = comma ? (size_t)(comma - list.data) : list.size;
                enum fact_category category;
                char name[32];

                snprintf(name, sizeof name, "%.*s", (int)MIN(size, sizeof name), (const char *)list.data);
                if (!fact_category_parse(name, &category))
                        return false;
                *categories |= 1u << category;
                size += comma != NULL;
                list = bytes_of(list.data + size, list.size - size);
        }
        return true;
}

static bool read_query(struct gateway_request *r, struct fact_stream *s, bool *ret_from_oldest)
{
        struct bytes name;
        struct bytes value;

        for (unsigned i = 0; gateway_query_at(r, i, &name, &value); i++) {
                char text[32];

                snprintf(text, sizeof text, "%.*s", (int)MIN(value.size, sizeof text),
                        (const char *)value.data);
                if (bytes_equal_string(name, "category")) {
                        if (!add_categories(value, &s->watcher.categories)) {
                                refuse(r, "category", value,
                                        "system, cluster, leadership, persistence, gateway, coordination, "
                                        "subscriptions");
                                return false;
                        }
                } else if (bytes_equal_string(name, "level")) {
                        if (!log_level_parse(text, &s->watcher.level)) {
                                refuse(r, "level", value, "error, warning, info, debug, trace");
                                return false;
                        }
                } else if (bytes_equal_string(name, "from")) {
                        *ret_from_oldest = bytes_equal_string(value, "oldest");
                        if (!*ret_from_oldest && !bytes_equal_string(value, "now")) {
                                refuse(r, "from", value, "oldest, now");
                                return false;
                        }
                } else {
                        refuse(r, "parameter", name, "category, level, from");
                        return false;
                }
        }
        if (!s->watcher.categories)
                s->watcher.categories = (1u << CATEGORIES) - 1;
        return true;
}

/* A client that comes back names the last fact it saw. If that was of this life of the server it goes on
 * behind it, else with whatever the bus still holds. */
static void resume(struct gateway_request *r, struct fact_stream *s, bool *ret_from_oldest)
{
        struct bytes value;
        char text[64];
        uint64_t boot_id;
        uint64_t sequence;

        if (!gateway_header(r, "last-event-id", &value) || !value.size)
                return;
        *ret_from_oldest = true;
        snprintf(text, sizeof text, "%.*s", (int)MIN(value.size, sizeof text), (const char *)value.data);
        if (sscanf(text, "%16" SCNx64 "-%20" SCNu64, &boot_id, &sequence) == 2 &&
                boot_id == control_boot_id(s->ops->control) && sequence < UINT64_MAX)
                s->after = sequence + 1;
}

static bool wants_ndjson(struct gateway_request *r)
{
        struct bytes accept;

        return gateway_header(r, "accept", &accept) &&
               memmem(accept.data, accept.size, "application/x-ndjson", strlen("application/x-ndjson"));
}

void facts_get(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler handler = {on_writable, on_close};
        static const struct gateway_header_field headers[] = {{"cache-control", "no-store"}};
        struct ops *ops = arg;
        struct fact_stream *s = MEMORY_NEW(struct fact_stream);
        const char *content_type;
        bool from_oldest = false;

        s->ops = ops;
        s->request = r;
        s->is_sse = !wants_ndjson(r);
        s->watcher = (struct control_watcher){.on_facts = on_facts, .level = LEVEL_TRACE};
        content_type = s->is_sse ? "text/event-stream" : "application/x-ndjson";
        if (!read_query(r, s, &from_oldest)) {
                free(s);
                return;
        }
        if (ops->facts.is_stopping || ops->facts.count == OPS_FACT_STREAMS_MAX) {
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 503,
                                .code = "busy",
                                .title = "No more watchers are taken",
                                .next = "close another stream of facts, or try again in a second",
                        },
                        ops->facts.is_stopping ? "the server is stopping"
                                               : "at most %d streams of facts are open at one time",
                        OPS_FACT_STREAMS_MAX);
                free(s);
                return;
        }
        if (bytes_equal_string(gateway_method(r), "HEAD")) {
                gateway_reply(r, 200, content_type, BYTES_EMPTY, headers, COUNT_OF(headers));
                free(s);
                return;
        }
        resume(r, s, &from_oldest);
        list_add_last(&ops->facts.streams, &s->link);
        ops->facts.count++;
        gateway_stream_begin(r, 200, content_type, headers, COUNT_OF(headers), &handler, s);
        control_watch(ops->control, &s->watcher, from_oldest);
}

/* ---- life ---- */

void facts_open(struct ops *ops)
{
        list_init(&ops->facts.streams);
        ops->facts.keep_alive = (struct os_timer){.fn = on_keep_alive, .arg = ops};
        os_timer_start(ops->os, &ops->facts.keep_alive, KEEP_ALIVE_US);
}

void facts_stop(struct ops *ops)
{
        ops->facts.is_stopping = true;
        os_timer_stop(&ops->facts.keep_alive);
        LIST_EACH_SAFE (at, &ops->facts.streams) {
                struct fact_stream *s = CONTAINER_OF(at, struct fact_stream, link);
                struct gateway_request *r = s->request;

                send_facts(s, true);
                fact_stream_free(s);
                gateway_stream_end(r);
        }
}

void facts_close(struct ops *ops)
{
        assert(list_is_empty(&ops->facts.streams));
        os_timer_stop(&ops->facts.keep_alive);
}
