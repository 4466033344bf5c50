/* Log levels at run time; subsystems and their workers.
 *
 * Supervisors are had only where they were made, but what happens to a worker is a fact, so the table of
 * workers is kept from the facts. */
#include "ops/room.h"

#include <jansson.h>
#include <stdio.h>

/* ---- workers ---- */

static struct ops_worker *worker_of(struct ops_workers *w, enum subsystem subsystem, struct bytes name)
{
        struct ops_worker *worker;

        for (unsigned i = 0; i < w->count; i++)
                if (w->all[i].subsystem == subsystem && bytes_equal_string(name, w->all[i].name))
                        return &w->all[i];
        if (w->count == OPS_WORKERS_MAX)
                return NULL;
        worker = &w->all[w->count++];
        worker->subsystem = subsystem;
        snprintf(worker->name, sizeof worker->name, "%.*s", (int)name.size, (const char *)name.data);
        return worker;
}

static void note(struct ops_workers *w, const struct fact *fact)
{
        struct bytes text = bytes_of(fact->payload.text, fact->payload.text_size);
        const char *colon = memmem(text.data, text.size, ": ", 2);
        struct bytes name = bytes_of(text.data, colon ? (size_t)(colon - fact->payload.text) : text.size);
        struct ops_worker *worker = worker_of(w, (enum subsystem)fact->payload.subsystem, name);

        if (!worker)
                return;
        worker->is_running = fact->type == FACT_worker_started || fact->type == FACT_worker_restarted;
        if (fact->type == FACT_worker_restarted)
                worker->restarts = fact->payload.count;
        if (fact->type == FACT_restarts_exhausted)
                worker->is_given_up = true;
        if (fact->type == FACT_worker_failed) {
                worker->failures++;
                snprintf(worker->reason, sizeof worker->reason, "%.*s",
                        colon ? (int)(fact->payload.text + fact->payload.text_size - colon - 2) : 0,
                        colon ? colon + 2 : "");
        }
}

static void on_facts(struct control_watcher *watcher)
{
        struct ops *ops = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed)) {
                if (fact.type == FACT_worker_started || fact.type == FACT_worker_failed ||
                        fact.type == FACT_worker_restarted || fact.type == FACT_restarts_exhausted)
                        note(&ops->workers, &fact);
                if (fact.type == FACT_system_ready)
                        ops->ready_wall_us = fact.wall_us;
        }
}

void levels_open(struct ops *ops)
{
        ops->workers.watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = ops,
                .categories = 1u << CATEGORY_SYSTEM,
                .level = LEVEL_DEBUG,
        };
        control_watch(ops->control, &ops->workers.watcher, true);
}

void levels_close(struct ops *ops)
{
        control_unwatch(&ops->workers.watcher);
}

static void add_workers(const struct ops *ops, enum subsystem subsystem, struct json_out *j)
{
        json_key(j, "workers");
        json_array_begin(j);
        for (unsigned i = 0; i < ops->workers.count; i++) {
                const struct ops_worker *w = &ops->workers.all[i];

                if (w->subsystem != subsystem)
                        continue;
                json_object_begin(j);
                json_field_string(j, "name", w->name);
                json_field_string(j, "state",
                        w->is_given_up  ? "given up"
                        : w->is_running ? "running"
                                        : "failed");
                json_field_u64(j, "failures", w->failures);
                json_field_u64(j, "restarts", w->restarts);
                if (*w->reason)
                        json_field_string(j, "last_failure", w->reason);
                json_object_end(j);
        }
        json_array_end(j);
}

void levels_get_subsystems(void *arg, struct gateway_request *r)
{
        static const char *const names[] = {"absent", "starting", "ready", "failed"};
        struct ops *ops = arg;
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_bool(&j, "ready", ops_is_ready(ops));
        json_field_string(&j, "pending", ops_pending(ops));
        json_key(&j, "subsystems");
        json_array_begin(&j);
        for (enum subsystem s = 0; s < SUBSYSTEMS; s++) {
                json_object_begin(&j);
                json_field_string(&j, "name", subsystem_name(s));
                json_field_string(&j, "readiness", names[control_readiness(ops->control, s)]);
                json_field_string(&j, "log_level", log_level_name(control_log_level(ops->control, s)));
                add_workers(ops, s, &j);
                json_object_end(&j);
        }
        json_array_end(&j);
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}

/* ---- levels ---- */

static void reply_level(struct gateway_request *r, const char *subsystem, enum log_level level)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "subsystem", subsystem);
        json_field_string(&j, "level", log_level_name(level));
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}

/* The subsystem of the path; SUBSYSTEMS for "all" where that is allowed. False: it has been answered. */
static bool read_subsystem(struct gateway_request *r, bool allows_all, enum subsystem *ret)
{
        struct bytes name = gateway_path_parameter(r, "subsystem");
        struct buffer names = {0};
        char text[32];

        snprintf(text, sizeof text, "%.*s", (int)MIN(name.size, sizeof text), (const char *)name.data);
        if (subsystem_parse(text, ret))
                return true;
        *ret = SUBSYSTEMS;
        if (allows_all && bytes_equal_string(name, "all"))
                return true;
        for (enum subsystem s = 0; s < SUBSYSTEMS; s++)
                buffer_format(&names, "%s%s", s ? ", " : "", subsystem_name(s));
        gateway_reply_problem(r,
                &(struct gateway_problem){
                        .status = 404, .code = "not-found", .title = "There is no such subsystem"},
                "\"%.*s\" is none of %.*s%s", (int)MIN(name.size, (size_t)64), (const char *)name.data,
                (int)names.size, (const char *)names.data, allows_all ? ", all" : "");
        buffer_fini(&names);
        return false;
}

void levels_get_all(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        for (enum subsystem s = 0; s < SUBSYSTEMS; s++)
                json_field_string(&j, subsystem_name(s), log_level_name(control_log_level(ops->control, s)));
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}

void levels_get(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        enum subsystem s;

        if (read_subsystem(r, false, &s))
                reply_level(r, subsystem_name(s), control_log_level(ops->control, s));
}

/* {"level": "debug"}, "debug" in quotes, or the bare word. */
static bool read_level(struct bytes body, enum log_level *ret)
{
        json_t *root = json_loadb((const char *)body.data, body.size, JSON_DECODE_ANY, NULL);
        const json_t *value = json_is_object(root) ? json_object_get(root, "level") : root;
        char text[32];
        bool is_known;

        while (body.size && strchr(" \t\r\n", body.data[body.size - 1]))
                body.size--;
        if (json_is_string(value))
                snprintf(text, sizeof text, "%s", json_string_value(value));
        else
                snprintf(
                        text, sizeof text, "%.*s", (int)MIN(body.size, sizeof text), (const char *)body.data);
        is_known = log_level_parse(text, ret);
        json_decref(root);
        return is_known;
}

void levels_put(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        enum log_level level;
        enum subsystem only;

        if (!read_subsystem(r, true, &only))
                return;
        if (!read_level(gateway_body(r), &level)) {
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 400,
                                .code = "invalid",
                                .title = "The body names no level",
                                .next = "send {\"level\": \"debug\"}",
                        },
                        "the level must be one of error, warning, info, debug, trace");
                return;
        }
        for (enum subsystem s = 0; s < SUBSYSTEMS; s++)
                if (only == SUBSYSTEMS || only == s)
                        control_set_log_level(ops->control, s, level);
        reply_level(r, only == SUBSYSTEMS ? "all" : subsystem_name(only), level);
}
