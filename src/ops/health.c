/* Is it up, is it ready, is it well.
 *
 * The verdict of /v1/health is the worst of its checks. Memory is judged by ExESDB's thresholds: from 75 % of
 * the machine's it is degraded, from 90 % unhealthy. */
#include "ops/room.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum verdict { HEALTHY, DEGRADED, UNHEALTHY };

enum { MEMORY_DEGRADED_PERCENT = 75, MEMORY_UNHEALTHY_PERCENT = 90, DISK_DEGRADED_PERCENT = 90 };

static const char *const verdict_names[] = {"healthy", "degraded", "unhealthy"};

static void reply_not_ready(struct ops *ops, struct gateway_request *r)
{
        gateway_reply_problem(r,
                &(struct gateway_problem){
                        .status = 503,
                        .code = "not-ready",
                        .title = "The server is not ready",
                        .next = "try again in a second",
                },
                "pending: %s", ops_pending(ops));
}

void health_get_live(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct bytes text;
        int status = 204;

        if (gateway_query(r, "liveCode", &text)) {
                status = 0;
                for (size_t i = 0; i < text.size && i < 4; i++)
                        status = text.data[i] >= '0' && text.data[i] <= '9' ? status * 10 + text.data[i] - '0'
                                                                            : 1000;
                if (status < 200 || status > 599) {
                        gateway_reply_problem(r,
                                &(struct gateway_problem){.status = 400,
                                        .code = "invalid",
                                        .title = "liveCode is no HTTP status"},
                                "liveCode must be a number from 200 to 599");
                        return;
                }
        }
        if (!ops_is_ready(ops))
                reply_not_ready(ops, r);
        else
                gateway_reply(r, status, NULL, BYTES_EMPTY, NULL, 0);
}

void health_get_ready(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;

        if (!ops_is_ready(ops))
                reply_not_ready(ops, r);
        else
                gateway_reply(r, 200, "application/json", BYTES_LITERAL("{\"status\":\"ready\"}"), NULL, 0);
}

/* ---- the verdict ---- */

struct checks {
        struct json_out *j;
        enum verdict worst;
};

static void add_check(struct checks *c, const char *name, enum verdict verdict, const char *format, ...)
        PRINTF_LIKE(4, 5);

static void add_check(struct checks *c, const char *name, enum verdict verdict, const char *format, ...)
{
        char text[256];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        json_object_begin(c->j);
        json_field_string(c->j, "name", name);
        json_field_string(c->j, "status", verdict_names[verdict]);
        json_field_string(c->j, "detail", text);
        json_object_end(c->j);
        c->worst = MAX(c->worst, verdict);
}

static void check_subsystems(struct ops *ops, struct checks *c)
{
        const char *pending = ops_pending(ops);

        if (*pending)
                add_check(c, "subsystems", UNHEALTHY, "pending: %s", pending);
        else
                add_check(c, "subsystems", HEALTHY, "every subsystem is ready");
}

static void check_workers(const struct ops *ops, struct checks *c)
{
        unsigned failed = 0;
        uint64_t restarts = 0;
        enum verdict verdict = HEALTHY;

        for (unsigned i = 0; i < ops->workers.count; i++) {
                const struct ops_worker *w = &ops->workers.all[i];

                failed += !w->is_running;
                restarts += w->restarts;
                if (!w->is_running)
                        verdict = MAX(verdict, w->is_given_up ? UNHEALTHY : DEGRADED);
        }
        add_check(c, "workers", verdict, "%u of %u do not run; %" PRIu64 " restarts since the start", failed,
                ops->workers.count, restarts);
}

static void check_memory(struct ops *ops, struct checks *c)
{
        struct ops_process process;
        uint64_t percent;

        ops->process(ops->arg, &process);
        percent = process.machine_memory_bytes ? process.resident_bytes * 100 / process.machine_memory_bytes
                                               : 0;
        add_check(c, "memory",
                percent >= MEMORY_UNHEALTHY_PERCENT  ? UNHEALTHY
                : percent >= MEMORY_DEGRADED_PERCENT ? DEGRADED
                                                     : HEALTHY,
                "%" PRIu64 " %% of the machine's memory", percent);
}

static void check_disk(struct ops *ops, struct checks *c)
{
        struct store *store = gateway_store(ops->gateway);
        struct store_stats stats;
        struct os_space space;
        uint64_t used_percent;

        if (!store)
                return;
        store_stats(store, &stats);
        if (stats.persistence.is_full) {
                add_check(c, "disk", UNHEALTHY, "full: writes are refused, reads go on");
                return;
        }
        if (os_space(ops->os, persistence_store_path(store_persistence(store)), &space) ||
                !space.total_bytes) {
                add_check(c, "disk", DEGRADED, "its space cannot be asked for: %s", fault_last());
                return;
        }
        used_percent = 100 - space.free_bytes * 100 / space.total_bytes;
        add_check(c, "disk", used_percent >= DISK_DEGRADED_PERCENT ? DEGRADED : HEALTHY,
                "%" PRIu64 " %% used, %" PRIu64 " bytes free", used_percent, space.free_bytes);
}

void health_get(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        struct checks checks = {.j = &j};

        json_object_begin(&j);
        json_key(&j, "checks");
        json_array_begin(&j);
        check_subsystems(ops, &checks);
        check_workers(ops, &checks);
        check_memory(ops, &checks);
        check_disk(ops, &checks);
        json_array_end(&j);
        json_field_string(&j, "status", verdict_names[checks.worst]);
        json_object_end(&j);
        ops_reply_json(r, checks.worst == UNHEALTHY ? 503 : 200, &out);
}
