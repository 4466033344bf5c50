/* The health monitor: once a minute it compares what the log defines with the pools that are there, and mends
 * what is missing, orphaned or stuck. A healthy pool is only looked at. What it did is published. */
#include "emitter/room.h"

/* Consumers wait, nothing is in its hands, and nothing will wake it: that is a bug somewhere, and costs
 * events their time until it is found. */
static bool is_stuck(const struct pool *p)
{
        if (!p->consumer_count || p->extra.is_paused || p->wait.is_waiting || !list_is_empty(&p->busy_link))
                return false;
        if (p->state == POOL_IDLE)
                return true;
        if (p->state != POOL_ACTIVE)
                return false;
        return delivery_is_empty(&p->work->delivery) && !p->work->reader_waits;
}

/* True: it needed something. */
static bool mend(struct pool *p)
{
        bool needs_workers = worker_kind_of(p->definition.d.target) != NULL;

        if (p->state == POOL_DOWN) {
                pool_up(p);
                return true;
        }
        LIST_EACH (at, &p->workers)
                if (!CONTAINER_OF(at, struct worker, link)->consumer)
                        workers_start(p);
        if (needs_workers && list_is_empty(&p->workers) && p->state != POOL_LOADING) {
                workers_start(p);
                return true;
        }
        if (!is_stuck(p))
                return false;
        pool_reset(p);
        return true;
}

/* Events behind what this room has written and read: somebody else wrote definitions. */
static void look_at_log(struct emitter *e)
{
        struct store_stream_info info;

        if (e->definitions || e->mutations_under_way || e->is_compacting)
                return;
        if (store_stream_info(e->store, DEFINITIONS_STREAM, &info) || !info.has_events)
                return;
        if (info.last_revision < e->definitions_next)
                return;
        e->is_catching_up = true;
        e->has_definitions_work = true;
        emitter_again(e);
}

void monitor_look(struct emitter *e)
{
        unsigned mended = 0;

        look_at_log(e);
        for (unsigned i = 0; i < e->pool_count; i++) {
                struct pool *p = e->pools[i];

                if (!p->is_defined || !mend(p))
                        continue;
                mended++;
                emitter_publish(e, FACT_emitter_pool_repaired, p->key, p->cursor, 1, "a pool was begun anew");
        }
        emitter_publish(e, FACT_emitters_checked, BYTES_EMPTY, e->definitions_next, mended, "");
}

static void on_timer(struct os_timer *timer)
{
        struct emitter *e = timer->arg;

        monitor_look(e);
        os_timer_start(e->os, &e->monitor, MONITOR_US);
}

static void on_sweep(struct os_timer *timer)
{
        struct emitter *e = timer->arg;

        info_sweep(e);
        os_timer_start(e->os, &e->sweep, SWEEP_US);
}

void monitor_start(struct emitter *e)
{
        e->sweep = (struct os_timer){.fn = on_sweep, .arg = e};
        os_timer_start(e->os, &e->sweep, SWEEP_US);
        e->monitor = (struct os_timer){.fn = on_timer, .arg = e};
        os_timer_start(e->os, &e->monitor, MONITOR_US);
}

void monitor_stop(struct emitter *e)
{
        os_timer_stop(&e->monitor);
        os_timer_stop(&e->sweep);
}
