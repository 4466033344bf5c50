/* The table of routes, and what every call checks before its handler: the store, the stream's name, the
 * parameters. */
#include "api/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FRESH_QUERIES  "consistency after timeout-ms"
#define READ_QUERIES   "from direction limit resolve-links wait-ms last-event-id name " FRESH_QUERIES
#define FILTER_QUERIES "stream-prefix stream-regex type-prefix type-regex"
#define WRITE_QUERIES  "expect timeout-ms"
#define NAMES_QUERIES  "prefix after limit system consistency timeout-ms"
#define SUBSCRIPTION   "/subscriptions/{stream}/{group}"

static const struct api_route api_routes[] = {
        {"POST", "/streams/{stream}/events", "append events to a stream", WRITE_QUERIES, API_BODY_SIZE_MAX,
                handle_append_stream, READS_NOTHING, .access = ACCESS_STREAM, .right = ACCESS_WRITE,
                .stream = "stream"},
        {"POST", "/append", "append to several streams, all or nothing", "timeout-ms", API_BODY_SIZE_MAX,
                handle_append_atomic, READS_NOTHING, .access = ACCESS_STREAM},
        {"GET", "/streams/{stream}/events", "read or follow a stream", READ_QUERIES, 0, handle_read,
                READS_EVENTS, .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "stream"},
        {"GET", "/all/events", "read or follow all streams", READ_QUERIES " " FILTER_QUERIES, 0, handle_read,
                READS_EVENTS, .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "$all"},
        {"GET", "/streams/{stream}/events/{revision}", "one event of a stream",
                "resolve-links " FRESH_QUERIES, 0, handle_event_of_stream, READS_EVENTS,
                .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "stream"},
        {"GET", "/all/events/{position}", "the event at a position", "resolve-links " FRESH_QUERIES, 0,
                handle_event_at_position, READS_EVENTS, .access = ACCESS_STREAM, .right = ACCESS_READ,
                .stream = "$all"},
        {"GET", "/streams/{stream}", "the state of a stream", FRESH_QUERIES, 0, handle_stream, READS_EVENTS,
                .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "stream"},
        {"DELETE", "/streams/{stream}", "delete a stream", WRITE_QUERIES " tombstone", SMALL_BODY_SIZE_MAX,
                handle_delete, READS_NOTHING, .access = ACCESS_STREAM, .right = ACCESS_DELETE,
                .stream = "stream"},
        {"GET", "/streams/{stream}/metadata", "the metadata of a stream", FRESH_QUERIES, 0,
                handle_metadata_get, READS_EVENTS, .access = ACCESS_STREAM, .right = ACCESS_META_READ,
                .stream = "stream"},
        {"PUT", "/streams/{stream}/metadata", "set the metadata of a stream", WRITE_QUERIES,
                LIMIT_EVENT_SIZE_MAX, handle_metadata_put, READS_NOTHING, .access = ACCESS_STREAM,
                .right = ACCESS_META_WRITE, .stream = "stream"},
        {"POST", "/streams/{stream}/truncate", "hide the events before a revision", "before timeout-ms",
                SMALL_BODY_SIZE_MAX, handle_truncate, READS_TO_CHANGE, .access = ACCESS_STREAM,
                .right = ACCESS_META_WRITE, .stream = "stream"},
        {"GET", "/streams", "the names of streams", NAMES_QUERIES, 0, handle_streams, READS_NAMES,
                .access = ACCESS_STREAM},
        {"GET", "/categories", "the names of categories", NAMES_QUERIES, 0, handle_categories, READS_NAMES,
                .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "$all"},
        {"GET", "/types", "the names of event types", NAMES_QUERIES, 0, handle_types, READS_NAMES,
                .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "$all"},
        {"GET", "/readers", "who follows the log now, with the lag", "skip limit", 0, handle_readers,
                READS_NOTHING, .access = ACCESS_OPS},
        {"GET", "/subscriptions", "durable subscriptions, with their lag", "stream after limit", 0,
                handle_subscriptions, READS_NOTHING, .access = ACCESS_USER},
        {"GET", SUBSCRIPTION, "a durable subscription: definition, state, lag, consumers", "", 0,
                handle_subscription, READS_NOTHING, .access = ACCESS_USER},
        {"PUT", SUBSCRIPTION, "create a durable subscription, or change its settings", "replace",
                SMALL_BODY_SIZE_MAX, handle_subscription_put, READS_NOTHING, .access = ACCESS_OPS},
        {"DELETE", SUBSCRIPTION, "delete a durable subscription with its checkpoint and parked events", "",
                SMALL_BODY_SIZE_MAX, handle_subscription_delete, READS_NOTHING, .access = ACCESS_OPS},
        {"POST", SUBSCRIPTION "/pause", "give out no more events", "", SMALL_BODY_SIZE_MAX,
                handle_subscription_pause, READS_NOTHING, .access = ACCESS_OPS},
        {"POST", SUBSCRIPTION "/resume", "undo a pause", "", SMALL_BODY_SIZE_MAX, handle_subscription_resume,
                READS_NOTHING, .access = ACCESS_OPS},
        {"POST", SUBSCRIPTION "/seek", "go on from another place", "to", SMALL_BODY_SIZE_MAX,
                handle_subscription_seek, READS_NOTHING, .access = ACCESS_OPS},
        {"POST", SUBSCRIPTION "/replay", "deliver parked events again", "stop-at only", SMALL_BODY_SIZE_MAX,
                handle_subscription_replay, READS_NOTHING, .access = ACCESS_OPS},
        {"GET", SUBSCRIPTION "/parked", "parked events, with the reasons", "from limit", 0, handle_parked,
                READS_NOTHING, .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "stream"},
        {"GET", SUBSCRIPTION "/events", "consume: events that wait for acknowledgement", "window limit name",
                0, handle_consume, READS_NOTHING, .access = ACCESS_STREAM, .right = ACCESS_READ,
                .stream = "stream"},
        {"POST", SUBSCRIPTION "/ack", "acknowledge events", "", ACK_BODY_SIZE_MAX, handle_ack, READS_NOTHING,
                .access = ACCESS_STREAM, .right = ACCESS_READ, .stream = "stream"},
        {"POST", SUBSCRIPTION "/nack", "refuse events: retry, park, skip or stop", "", ACK_BODY_SIZE_MAX,
                handle_nack, READS_NOTHING, .access = ACCESS_STREAM, .right = ACCESS_READ,
                .stream = "stream"},
};

static const char *const prefixes[] = {"/v1", "/v1/stores/{store}"};
enum { ROUTES = COUNT_OF(api_routes) * COUNT_OF(prefixes) };

/* They need the emitter, and their {stream} may be "$all". */
static bool is_of_subscriptions(const struct api_route *route)
{
        return strncmp(route->path, "/subscriptions", strlen("/subscriptions")) == 0;
}

/* All streams have metadata of their own, which says who may read them all. */
static bool may_be_all(const struct api_route *route)
{
        return is_of_subscriptions(route) || strstr(route->path, "/metadata");
}

struct bound_route {
        struct api *api;
        const struct api_route *route;
        char *path;
};

/* ---- refusals ---- */

void call_refuse(struct call *c, int status, const char *code, const char *title, const char *next,
        const char *format, ...)
{
        struct gateway_problem problem = {.status = status, .code = code, .title = title, .next = next};
        char detail[DETAIL_SIZE];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        gateway_reply_problem(c->request, &problem, "%s", detail);
}

void call_refuse_bad(struct call *c, const char *next, const char *format, ...)
{
        char detail[DETAIL_SIZE];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        call_refuse(c, 400, "invalid", "The request cannot be understood", next, "%s", detail);
}

void call_reply_exactly(struct call *c, int status, struct buffer *body,
        const struct gateway_header_field *headers, unsigned header_count)
{
        struct buffer taken =
                *body; /* its struct may lie in the request's memory, which goes with the reply */

        *body = (struct buffer){0};
        if (*c->position)
                freshness_tell(c); /* a page may show more than was there when it began */
        gateway_reply(c->request, status, "application/json", buffer_bytes(&taken), headers, header_count);
        buffer_fini(&taken);
}

void call_reply_json(struct call *c, int status, struct buffer *body,
        const struct gateway_header_field *headers, unsigned header_count)
{
        buffer_add_u8(body, '\n'); /* for terminals */
        call_reply_exactly(c, status, body, headers, header_count);
}

void call_send_piece(struct call *c, struct buffer *piece)
{
        if (piece->size)
                gateway_stream_send(c->request, buffer_bytes(piece));
        buffer_clear(piece);
        if (piece->capacity > 4 * PIECE_SIZE)
                buffer_fini(piece);
}

bool call_is_head(const struct call *c)
{
        return bytes_equal_string(gateway_method(c->request), "HEAD");
}

/* ---- what every call checks ---- */

static bool check_store(struct call *c)
{
        struct bytes name = gateway_path_parameter(c->request, "store");

        if (!name.size || bytes_equal_string(name, store_name(c->store)))
                return true;
        call_refuse(c, 404, "no-such-store", "There is no such store",
                "use /v1/... or /v1/stores/default/...", "there is no store '%.*s': this server has '%s'",
                SHOWN(name), store_name(c->store));
        return false;
}

static bool check_stream(struct call *c)
{
        uint64_t limit = LIMIT_STREAM_NAME_SIZE_MAX + (stream_is_meta(c->stream) ? 2 : 0);

        if (bytes_equal_string(c->stream, "$all")) {
                if (may_be_all(c->route))
                        return true;
                call_refuse_bad(c, "use /v1/all/events", "'$all' is no stream of its own");
                return false;
        }
        if (c->stream.size > limit) {
                call_refuse(c, 413, "too-large", "The name is too long", "choose a shorter name",
                        "the stream name has %zu bytes, at most %llu are allowed", c->stream.size,
                        (unsigned long long)limit);
                return false;
        }
        if (!stream_name_is_valid(c->stream)) {
                call_refuse_bad(c, "use UTF-8 without NUL, percent-encoded",
                        "'%.*s' is no valid name of a stream", SHOWN(c->stream));
                return false;
        }
        return true;
}

static bool check_group(struct call *c)
{
        if (!c->group.size || c->group.size > GROUP_SIZE_MAX || !bytes_is_utf8(c->group) ||
                memchr(c->group.data, 0, c->group.size)) {
                call_refuse_bad(c, NULL, "the name of a group has 1 to %d bytes of UTF-8 without NUL",
                        GROUP_SIZE_MAX);
                return false;
        }
        return true;
}

static bool check_emitter(struct call *c)
{
        if (c->api->emitter)
                return true;
        call_refuse(c, 503, "not-ready", "Subscriptions are not ready yet", "try again in a second",
                "the server is starting or stopping");
        return false;
}

static bool check_timeout(struct call *c)
{
        uint64_t ms;

        if (!query_number(c, "timeout-ms", 1, TIMEOUT_MS_MAX, TIMEOUT_MS_DEFAULT, &ms))
                return false;
        c->deadline_us = os_turn_time(c->api->os).monotonic_us + ms * 1000;
        return true;
}

static void dispatch(void *arg, struct gateway_request *request)
{
        const struct bound_route *bound = arg;
        const struct api_route *route = bound->route;
        struct call *c = arena_get(gateway_arena(request), sizeof *c);

        *c = (struct call){
                .api = bound->api,
                .route = route,
                .request = request,
                .store = gateway_store(bound->api->gateway),
                .stream = gateway_path_parameter(request, "stream"),
                .group = gateway_path_parameter(request, "group"),
                .has_rights = gateway_access(bound->api->gateway) != NULL,
        };

        if (!c->store) {
                call_refuse(c, 503, "not-ready", "The store is not open yet", "try again in a second",
                        "the server is starting");
                return;
        }
        if (!check_store(c) ||
                (is_of_subscriptions(route) &&
                        (!cluster_check_leader(c->api, request) || !check_emitter(c))) ||
                (strstr(route->path, "{stream}") && !check_stream(c)) ||
                (strstr(route->path, "{group}") && !check_group(c)) || !query_known(c, route->queries) ||
                !check_timeout(c))
                return;
        if (route->reads)
                freshness_begin(c);
        else
                route->handler(c);
}

/* ---- the room ---- */

void api_open(const struct api_options *options, struct api **ret)
{
        struct api *api = MEMORY_NEW(struct api);
        unsigned n = 0;

        api->gateway = options->gateway;
        api->control = options->control;
        api->os = options->os;
        api->shut_down = options->shut_down;
        api->arg = options->arg;
        api->access = options->access;
        api->routes = memory_new_array(ROUTES, sizeof *api->routes);
        api->bound = memory_new_array(ROUTES, sizeof *api->bound);
        for (unsigned p = 0; p < COUNT_OF(prefixes); p++) {
                for (unsigned i = 0; i < COUNT_OF(api_routes); i++, n++) {
                        struct buffer path = {0};

                        buffer_format(&path, "%s%s", prefixes[p], api_routes[i].path);
                        buffer_add_u8(&path, 0);
                        api->bound[n] = (struct bound_route){api, &api_routes[i], (char *)path.data};
                        api->routes[n] = (struct gateway_route){
                                .method = api_routes[i].method,
                                .path = api->bound[n].path,
                                .summary = api_routes[i].summary,
                                .handler = dispatch,
                                .arg = &api->bound[n],
                                .body_size_max = api_routes[i].body_size_max,
                                .access = api_routes[i].access,
                                .right = api_routes[i].right,
                                .stream = api_routes[i].stream,
                                .queries = api_routes[i].queries,
                        };
                }
        }
        gateway_add_routes(options->gateway, api->routes, ROUTES);
        cluster_open(api);
        users_open(api);
        operations_open(api);
        openapi_open(api);
        *ret = api;
}

void api_serve(struct api *api, struct emitter *emitter)
{
        api->emitter = emitter;
        if (!emitter)
                consumers_stop(api);
}

void api_join(struct api *api, struct membership *membership)
{
        api->membership = membership;
}

void api_close(struct api **api)
{
        struct api *a = *api;

        if (!a)
                return;
        *api = NULL;
        for (unsigned i = 0; i < ROUTES; i++)
                free(a->bound[i].path);
        assert(!a->consumer_count);
        cluster_close(a);
        users_close(a);
        operations_close(a);
        free(a->consumers);
        free(a->bound);
        free(a->routes);
        free(a);
}
