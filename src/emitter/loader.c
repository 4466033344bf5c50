/* Reads single events again: those that are given once more, and those whose bytes were let go while they
 * waited. One at a time for each pool, the oldest assignment first. */
#include <stdlib.h>

#include "emitter/room.h"

static void on_ready(void *arg)
{
        struct pool *p = arg;

        p->work->load_waits = false;
        pool_touch(p);
}

void loader_end(struct pool *p)
{
        struct work *w = p->work;

        store_reader_close(&w->load_reader);
        w->is_loading = false;
        w->load_waits = false;
}

/* By position or revision: both are exact. A parked event of a stream subscription was read from the stream
 * as well. */
static int open_reader(struct pool *p, const struct message *m)
{
        struct store_read_options options = {
                .stream = p->source,
                .from = FROM_NUMBER,
                .number = m->number,
                .limit = 1,
                .resolve_links = p->definition.d.settings.resolve_links,
                .on_ready = on_ready,
                .arg = p,
        };

        return store_reader_open(p->emitter->store, &options, &p->work->load_reader);
}

/* False: the pool has failed, or waits. */
static bool load_one(struct pool *p, struct message *m)
{
        struct work *w = p->work;
        struct store_read_item item;
        int r = 0;

        if (!w->load_reader)
                r = open_reader(p, m);
        if (!r)
                r = store_reader_next(w->load_reader, &item);
        if (r == STORE_READ_WAIT) {
                w->load_waits = true;
                return false;
        }
        if (r == STORE_READ_YIELD) {
                pool_touch(p);
                return false;
        }
        if (r < 0 || r == STORE_READ_CORRUPT) {
                pool_fail(p, "the event at %llu cannot be read again: the log is damaged",
                        (unsigned long long)m->number);
                return false;
        }
        list_remove(&m->load_link);
        if (!r && item_source(&item)->id.bytes[0] == m->id.bytes[0] &&
                event_id_equal(&item_source(&item)->id, &m->id)) {
                m->payload = payload_new(&w->delivery.payloads, &item);
                m->is_awaited = m->slot && m == delivery_peek(m->slot);
                if (m->slot)
                        consumer_wake(CONTAINER_OF(m->slot, struct consumer, slot));
                else
                        pool_touch(p); /* it is to be parked, and its stream is known now */
                loader_end(p);
                return true;
        }
        /* Truncated or deleted since it was read: nobody can have it any more. */
        emitter_publish(
                p->emitter, FACT_event_skipped, p->key, m->number, 1, "the event is gone from its stream");
        loader_end(p);
        delivery_gone(&w->delivery, m);
        return true;
}

void loader_run(struct pool *p)
{
        struct work *w = p->work;
        unsigned most = 64;

        while (w == p->work && !list_is_empty(&w->delivery.loads)) {
                struct message *m = CONTAINER_OF(w->delivery.loads.next, struct message, load_link);

                /* What was being read may have come back meanwhile, or been finished. */
                if (w->is_loading && w->loading != m->number)
                        loader_end(p);
                if (w->load_waits)
                        return;
                /* Only what its consumer asks for next is read in every case. */
                if (w->delivery.payloads.size >= BUFFER_SIZE_MAX && m->slot && m != delivery_peek(m->slot)) {
                        list_remove(&m->load_link);
                        continue;
                }
                if (!most--) {
                        pool_touch(p);
                        return;
                }
                w->is_loading = true;
                w->loading = m->number;
                if (!load_one(p, m))
                        return;
                emitter_make_room(p->emitter, p);
                pool_count_memory(p);
        }
        if (w == p->work && w->is_loading)
                loader_end(p);
}
