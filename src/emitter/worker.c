/* Consumers inside the server, as many as the pool's size says, for targets that nobody connects to. A worker
 * that was dropped closes its consumer and is opened again by whoever has brought its pool up, or by the
 * monitor. */
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

static const struct worker_kind *const worker_kinds[] = {
        [TARGET_CLIENT] = NULL,
        [TARGET_TOPIC] = &topic_worker,
        [TARGET_WEBHOOK] = &webhook_worker,
};

const struct worker_kind *worker_kind_of(enum emitter_target target)
{
        return worker_kinds[target];
}

static void on_readable(void *arg)
{
        struct worker *w = arg;

        w->kind->run(w);
}

static void close_consumer(struct worker *w)
{
        if (!w->consumer)
                return;
        if (w->kind->end)
                w->kind->end(w);
        consumer_close(&w->consumer);
}

static void worker_open(struct worker *w)
{
        struct pool *p = w->pool;
        struct consumer_options options = {
                .stream = p->stream,
                .group = p->definition.d.group,
                .window = w->kind->window,
                .name = BYTES_LITERAL("worker"),
                .peer = BYTES_LITERAL("server"),
                .on_readable = on_readable,
                .arg = w,
        };

        if (consumer_open(p->emitter, &options, &w->consumer) != EMITTER_OK)
                return;
        emitter_publish(p->emitter, FACT_emitter_worker_up, p->key, p->cursor, w->number, "");
        if (w->kind->begin)
                w->kind->begin(w);
        /* Its first look is its own, at the end of this turn. */
        w->consumer->slot.is_asking = true;
        consumer_wake(w->consumer);
}

void workers_start(struct pool *p)
{
        const struct worker_kind *kind = worker_kind_of(p->definition.d.target);
        unsigned count = 0;

        if (!kind || p->emitter->is_stopping)
                return;
        LIST_EACH (at, &p->workers)
                count++;
        while (count < p->definition.d.settings.pool_size) {
                struct worker *w = MEMORY_NEW(struct worker);

                w->pool = p;
                w->number = count++;
                w->kind = kind;
                list_add_last(&p->workers, &w->link);
        }
        LIST_EACH (at, &p->workers) {
                struct worker *w = CONTAINER_OF(at, struct worker, link);

                if (!w->consumer)
                        worker_open(w);
        }
}

void workers_stop(struct pool *p)
{
        LIST_EACH_SAFE (at, &p->workers) {
                struct worker *w = CONTAINER_OF(at, struct worker, link);

                close_consumer(w);
                list_remove(&w->link);
                free(w);
        }
}

void worker_lost(struct worker *w)
{
        close_consumer(w);
}
