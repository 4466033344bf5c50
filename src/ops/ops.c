/* The life of the room; ping, the list of routes. */
#include "ops/room.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void ops_reply_json(struct gateway_request *r, int status, struct buffer *out)
{
        gateway_reply(r, status, "application/json", buffer_bytes(out), NULL, 0);
        buffer_fini(out);
}

void ops_time(uint64_t wall_us, char ret[OPS_TIME_SIZE])
{
        time_t seconds = (time_t)(wall_us / 1000000);
        struct tm tm;
        size_t n;

        gmtime_r(&seconds, &tm);
        n = strftime(ret, OPS_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(ret + n, OPS_TIME_SIZE - n, ".%06uZ", (unsigned)(wall_us % 1000000));
}

bool ops_is_ready(const struct ops *ops)
{
        return control_is_ready(ops->control) && gateway_store(ops->gateway) && !ops->facts.is_stopping;
}

const char *ops_pending(struct ops *ops)
{
        const char *pending = control_pending(ops->control);

        if (ops->facts.is_stopping)
                return "the server is stopping";
        return *pending || ops_is_ready(ops) ? pending : "gateway";
}

/* ---- ping ---- */

static void get_ping(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "application/json",
                BYTES_LITERAL("{\"text\":\"Ping request successfully handled\"}"), NULL, 0);
}

/* ---- the list of routes ---- */

static void add_rule(struct json_out *j, enum access_rule rule)
{
        static const char *const names[] = {
                [ACCESS_ANYONE] = "anyone",
                [ACCESS_USER] = "user",
                [ACCESS_OPS] = "ops",
                [ACCESS_ADMINS] = "admins",
                [ACCESS_STREAM] = "stream",
        };

        json_field_string(j, "access", names[rule]);
}

static void add_route(void *arg, const struct gateway_route *route)
{
        struct json_out *j = arg;

        json_object_begin(j);
        json_field_string(j, "method", route->method);
        json_field_string(j, "path", route->path);
        json_field_string(j, "summary", route->summary);
        if (route->body_size_max)
                json_field_u64(j, "body_size_max", route->body_size_max);
        add_rule(j, route->access);
        if (route->stream) {
                json_field_string(j, "right", access_right_name(route->right));
                json_field_string(j, "of", route->stream);
        }
        json_object_end(j);
}

static void add_method(void *arg, const struct gateway_method *method)
{
        struct json_out *j = arg;

        json_object_begin(j);
        json_field_string(j, "service", method->service);
        json_field_string(j, "name", method->name);
        json_field_u64(j, "message_size_max", method->message_size_max);
        add_rule(j, method->access);
        json_object_end(j);
}

static void get_index(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "name", "Nilometer");
        json_field_string(&j, "version", NILO_VERSION);
        json_key(&j, "routes");
        json_array_begin(&j);
        gateway_each_route(ops->gateway, add_route, &j);
        json_array_end(&j);
        json_key(&j, "grpc");
        json_array_begin(&j);
        gateway_each_method(ops->gateway, add_method, &j);
        json_array_end(&j);
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}

/* ---- life ---- */

void ops_open(const struct ops_options *options, struct ops **ret)
{
        static const struct gateway_route routes[] = {
                {"GET", "/", "this list", get_index, .when_not_ready = true, .access = ACCESS_ANYONE},
                {"GET", "/health/live", "204 when ready, else 503; ?liveCode= chooses another status",
                        health_get_live, .when_not_ready = true, .access = ACCESS_ANYONE,
                        .queries = "liveCode"},
                {"GET", "/health/ready", "200 when ready, else 503 with what is pending", health_get_ready,
                        .when_not_ready = true, .access = ACCESS_ANYONE},
                {"GET", "/v1/health", "healthy, degraded or unhealthy, and why", health_get,
                        .when_not_ready = true, .access = ACCESS_USER},
                {"GET", "/ping", "whether anybody is there", get_ping, .when_not_ready = true,
                        .access = ACCESS_ANYONE},
                {"GET", "/info", "version, state and limits", info_get, .when_not_ready = true,
                        .access = ACCESS_ANYONE},
                {"GET", "/v1/info", "the same, and options with their origin and the store", info_get_whole,
                        .when_not_ready = true, .access = ACCESS_OPS},
                {"GET", "/info/options", "options as KurrentDB lists them", info_get_options,
                        .when_not_ready = true, .access = ACCESS_OPS},
                {"GET", "/gossip", "the members of the cluster, as KurrentDB lists them", info_get_gossip,
                        .when_not_ready = true, .access = ACCESS_ANYONE},
                {"GET", "/metrics", "metrics for Prometheus", metrics_get, .when_not_ready = true,
                        .access = ACCESS_USER},
                {"GET", "/stats", "process, machine, store and subscriptions, as KurrentDB groups them",
                        stats_get, .when_not_ready = true, .access = ACCESS_USER},
                {"GET", "/v1/subsystems", "readiness, log level and workers of every subsystem",
                        levels_get_subsystems, .when_not_ready = true, .access = ACCESS_USER},
                {"GET", "/v1/facts",
                        "what the server does, live (SSE or NDJSON; ?category= ?level= ?from=oldest)",
                        facts_get, .when_not_ready = true, .access = ACCESS_OPS,
                        .queries = "category level from"},
                {"GET", "/v1/log/levels", "what the loggers show", levels_get_all, .when_not_ready = true,
                        .access = ACCESS_OPS},
                {"GET", "/v1/log/levels/{subsystem}", "what one logger shows", levels_get,
                        .when_not_ready = true, .access = ACCESS_OPS},
                {"PUT", "/v1/log/levels/{subsystem}", "changes what a logger shows: {\"level\": \"debug\"}",
                        levels_put, .when_not_ready = true, .access = ACCESS_OPS,
                        .body_size_max = OPS_BODY_SIZE_MAX},
        };
        struct ops *ops = MEMORY_NEW(struct ops);

        ops->os = options->os;
        ops->control = options->control;
        ops->gateway = options->gateway;
        ops->host = memory_copy_string(options->host);
        ops->node_name = memory_copy_string(options->node_name);
        memcpy(ops->node_uuid, options->node_uuid, sizeof ops->node_uuid);
        ops->is_memory_only = options->is_memory_only;
        ops->config_to_json = options->config_to_json;
        ops->process = options->process;
        ops->arg = options->arg;
        ops->started_us = os_monotonic_us(ops->os);
        ops->started_wall_us = os_wall_us(ops->os);
        levels_open(ops);
        facts_open(ops);
        ops->route_count = COUNT_OF(routes);
        ops->routes = memory_new_array(COUNT_OF(routes), sizeof *ops->routes);
        for (unsigned i = 0; i < ops->route_count; i++) {
                ops->routes[i] = routes[i];
                ops->routes[i].arg = ops;
        }
        gateway_add_routes(ops->gateway, ops->routes, ops->route_count);
        *ret = ops;
}

void ops_join(struct ops *ops, struct membership *membership)
{
        ops->membership = membership;
}

void ops_serve(struct ops *ops, struct emitter *emitter)
{
        ops->emitter = emitter;
}

void ops_stop(struct ops *ops)
{
        if (ops)
                facts_stop(ops);
}

void ops_close(struct ops **pointer)
{
        struct ops *ops = *pointer;

        if (!ops)
                return;
        *pointer = NULL;
        facts_close(ops);
        levels_close(ops);
        subscriptions_close(ops);
        free(ops->routes);
        free(ops->host);
        free(ops->node_name);
        free(ops);
}
