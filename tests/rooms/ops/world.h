/* A server of one test: everything below ops on the real machine with its disk in memory, its loop in a thread of its own, so
 * that the test can ask over HTTP. */
#ifndef TESTS_ROOMS_OPS_WORLD_H
#define TESTS_ROOMS_OPS_WORLD_H

#include <pthread.h>
#include <semaphore.h>

#include "base/memory.h"
#include "http_client.h"
#include "ops/ops.h"

struct world {
        bool is_never_ready; /* the store does not open */
        _Atomic uint64_t resident_bytes; /* of 5005 that the machine has; 0: 1001 */
        uint16_t port;
        pthread_t thread;
        sem_t is_up;
        sem_t is_done; /* of world_do */
        void (*todo)(struct world *w);
        /* the loop's */
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        struct ops *ops;
        struct supervisor *supervisor;
};

static void world_config(void *arg, struct json_out *j)
{
        (void)arg;
        json_object_begin(j);
        json_key(j, "port");
        json_object_begin(j);
        json_field_u64(j, "value", 7);
        json_field_string(j, "origin", "flag");
        json_field_string(j, "text", "the port");
        json_object_end(j);
        json_object_end(j);
}

static void world_process(void *arg, struct ops_process *ret)
{
        const struct world *w = arg;

        *ret = (struct ops_process){
                .cpu_seconds = 1.5,
                .load_average = {0.25, 0.5, 0.75},
                .resident_bytes = w->resident_bytes ? w->resident_bytes : 1001,
                .threads = 3,
                .machine_memory_bytes = 5005,
                .machine_memory_free_bytes = 4004,
        };
}

static void world_on_phase(void *arg, enum subsystem phase)
{
        control_ready(((struct world *)arg)->control, phase);
}

static void world_on_open(void *arg, int result, const char *problem)
{
        struct world *w = arg;
        struct notification_options options = {.os = w->os, .control = w->control, .store = w->store};
        struct emitter_options emitter = {.os = w->os, .control = w->control, .store = w->store};

        (void)problem;
        if (result || notification_open(&options, &w->notification))
                abort();
        emitter.notification = w->notification;
        if (emitter_open(&emitter, &w->emitter))
                abort();
        ops_serve(w->ops, w->emitter);
        gateway_serve(w->gateway, w->store, w->notification);
}

static void world_start_store(void *arg)
{
        struct world *w = arg;
        struct store_options options = {
                .os = w->os,
                .control = w->control,
                .name = "default",
                .segment_size = 4 * MIB,
                .on_phase = world_on_phase,
                .on_open = world_on_open,
                .arg = w,
        };

        if (w->is_never_ready)
                return;
        if (persistence_node_open(w->os, "memory", false, &w->node))
                abort();
        options.node = w->node;
        if (store_open(&options, &w->store))
                abort();
}

static void world_start_nothing(void *arg)
{
        (void)arg;
}

static void world_on_started(void *arg, bool is_ready)
{
        (void)is_ready;
        sem_post(&((struct world *)arg)->is_up);
}

static void *world_run(void *arg)
{
        struct world *w = arg;
        struct control_options control = {.node_name = "node-1", .log_fd = -1, .ring_facts = 256, .log_level = LEVEL_INFO};
        struct gateway_options gateway = {.address = "127.0.0.1"};
        struct ops_options ops = {
                .host = "127.0.0.1",
                .node_name = "node-1",
                .node_uuid = {0xab, 0xcd},
                .is_memory_only = true,
                .config_to_json = world_config,
                .process = world_process,
                .arg = w,
        };
        const struct control_subsystem subsystems[] = {
                {SUBSYSTEM_PERSISTENCE, world_start_store, w},
                {SUBSYSTEM_CLUSTER, world_start_nothing, w},
                {SUBSYSTEM_STORE, world_start_nothing, w},
        };
        const char *why;

        if (os_real_new(&w->os))
                abort();
        os_memory_disk(w->os);
        control.os = gateway.os = ops.os = w->os;
        if (control_open(&control, &w->control))
                abort();
        gateway.control = ops.control = w->control;
        if (gateway_open(&gateway, &w->gateway, &why))
                abort();
        w->port = gateway_port(w->gateway);
        ops.gateway = w->gateway;
        ops_open(&ops, &w->ops);
        control_start(w->control, subsystems, COUNT_OF(subsystems), world_on_started, w);
        if (w->is_never_ready)
                sem_post(&w->is_up);
        if (os_run(w->os))
                abort();
        control_close(&w->control);
        os_free(&w->os);
        return NULL;
}

static inline void world_open(struct world *w)
{
        sem_init(&w->is_up, 0, 0);
        sem_init(&w->is_done, 0, 0);
        if (pthread_create(&w->thread, NULL, world_run, w))
                abort();
        sem_wait(&w->is_up);
}

static void world_done(void *arg)
{
        struct world *w = arg;

        w->todo(w);
        sem_post(&w->is_done);
}

/* Runs `todo` on the loop and waits for it. */
static inline void world_do(struct world *w, void (*todo)(struct world *w))
{
        w->todo = todo;
        os_post(w->os, world_done, w);
        sem_wait(&w->is_done);
}

static void world_on_store_closed(void *arg)
{
        struct world *w = arg;

        persistence_node_close(&w->node);
        os_stop(w->os);
}

static void world_on_gateway_closed(void *arg)
{
        struct world *w = arg;

        ops_close(&w->ops);
        supervisor_stop(&w->supervisor);
        emitter_free(&w->emitter);
        notification_free(&w->notification);
        if (w->store)
                store_close(&w->store, world_on_store_closed, w);
        else
                world_on_store_closed(w);
}

static void world_on_emitter_stopped(void *arg)
{
        struct world *w = arg;

        if (w->notification)
                notification_stop(w->notification);
        gateway_close(&w->gateway, world_on_gateway_closed, w);
}

static void world_stop(struct world *w)
{
        ops_stop(w->ops);
        ops_serve(w->ops, NULL);
        if (w->emitter)
                emitter_stop(w->emitter, world_on_emitter_stopped, w);
        else
                world_on_emitter_stopped(w);
}

static inline void world_close(struct world *w)
{
        world_do(w, world_stop);
        pthread_join(w->thread, NULL);
        sem_destroy(&w->is_up);
        sem_destroy(&w->is_done);
}

#endif
