/* Consumers: who takes messages of a pool, by pulling them. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"
#include "emitter/room.h"

enum { CURRENT_KEPT_MAX = 64 * 1024 };

static const struct sm_state consumer_states[] = {
        [CONSUMER_STATE_OPEN] = {"open", TO(CONSUMER_STATE_DROPPED) | TO(CONSUMER_STATE_GONE)},
        [CONSUMER_STATE_DROPPED] = {"dropped", 0},
        [CONSUMER_STATE_GONE] = {"gone", 0},
};

static void on_measure(struct slot *slot, uint64_t us)
{
        struct consumer *c = CONTAINER_OF(slot, struct consumer, slot);

        c->measures[c->measure_count++ % MEASURES_MAX] = (uint32_t)MIN(us, (uint64_t)UINT32_MAX);
}

static void keep_texts(struct consumer *c, const struct consumer_options *o)
{
        struct bytes *to[] = {&c->name, &c->peer, &c->user};
        struct bytes from[] = {o->name, o->peer, o->user};
        char *at = memory_new(o->name.size + o->peer.size + o->user.size + 1);

        c->text = at;
        for (unsigned i = 0; i < COUNT_OF(to); i++) {
                if (from[i].size)
                        memcpy(at, from[i].data, from[i].size);
                *to[i] = bytes_of(at, from[i].size);
                at += from[i].size;
        }
}

enum emitter_verdict consumer_open(
        struct emitter *e, const struct consumer_options *options, struct consumer **ret)
{
        struct consumer *c;
        struct pool *p;
        const struct emitter_settings *s;

        if (e->state != EMITTER_SERVING || e->is_stopping)
                return EMITTER_NOT_LEADER;
        p = emitter_find(e, options->stream, options->group);
        if (!p)
                return EMITTER_NOT_FOUND;
        if (p->is_gone)
                return EMITTER_GONE;
        s = &p->definition.d.settings;
        if (s->max_subscriber_count && p->consumer_count >= s->max_subscriber_count)
                return EMITTER_LIMIT;
        if (p->state == POOL_FAILED)
                pool_reset(p); /* it tries again */
        c = MEMORY_NEW(struct consumer);
        c->emitter = e;
        c->pool = p;
        c->on_readable = options->on_readable;
        c->arg = options->arg;
        c->slot.seed = ++e->next_seed;
        c->slot.window = MIN(MAX(options->window, 1u), (uint32_t)WINDOW_MAX);
        list_init(&c->wake_link);
        list_init(&c->slot.link);
        list_init(&c->slot.open_link);
        list_init(&c->slot.assigned);
        list_init(&c->slot.given);
        keep_texts(c, options);
        if (s->extra_statistics) {
                c->measures = memory_new_array(MEASURES_MAX, sizeof *c->measures);
                c->slot.on_measure = on_measure;
        }
        list_add_last(&p->consumers, &c->link);
        p->consumer_count++;
        p->had_consumers = true;
        e->consumer_count++;
        c->measured_at_us = emitter_now(e);
        if (p->work)
                delivery_join(&p->work->delivery, &c->slot);
        pool_touch(p);
        *ret = c;
        return EMITTER_OK;
}

/* Leaves its pool. */
static void leave(struct consumer *c, bool is_retry)
{
        struct pool *p = c->pool;

        if (c->slot.is_joined)
                delivery_leave(&p->work->delivery, &c->slot, is_retry);
        list_remove(&c->link);
        p->consumer_count--;
        if (!p->consumer_count)
                p->wants_checkpoint = true;
        c->pool = NULL;
        pool_touch(p);
}

void consumer_wake(struct consumer *c)
{
        if (!c->slot.is_asking || !list_is_empty(&c->wake_link))
                return;
        list_add_last(&c->emitter->wakes, &c->wake_link);
        emitter_again(c->emitter);
}

void consumer_drop(struct consumer *c, const char *why, bool is_gone)
{
        sm_move(consumer_states, &c->state, is_gone ? CONSUMER_STATE_GONE : CONSUMER_STATE_DROPPED);
        c->problem = why;
        leave(c, false);
        consumer_wake(c);
}

void consumer_close(struct consumer **consumer)
{
        struct consumer *c = *consumer;

        if (!c)
                return;
        *consumer = NULL;
        if (c->pool)
                leave(c, true);
        list_remove(&c->wake_link);
        assert(c->emitter->consumer_count > 0);
        c->emitter->consumer_count--;
        free(c->current);
        free(c->measures);
        free(c->text);
        free(c);
}

/* The bytes of what was given last are valid no more. */
static int wait(struct consumer *c)
{
        free(c->current);
        c->current = NULL;
        c->current_capacity = 0;
        c->slot.is_asking = true;
        return CONSUMER_WAIT;
}

static const struct store_read_item *keep_current(struct consumer *c, const struct payload *payload)
{
        if (payload->size > c->current_capacity ||
                (c->current_capacity > CURRENT_KEPT_MAX && payload->size <= CURRENT_KEPT_MAX)) {
                free(c->current);
                c->current_capacity = MAX(payload->size, 1024u);
                c->current = memory_new(c->current_capacity);
        }
        return payload_copy(payload, c->current);
}

int consumer_next(struct consumer *c, struct consumer_message *ret)
{
        struct pool *p = c->pool;
        struct message *m;

        if (!p)
                return c->state == CONSUMER_STATE_GONE ? CONSUMER_GONE : CONSUMER_DROPPED;
        if (!c->slot.is_joined || p->extra.is_paused)
                return wait(c);
        if (c->slot.is_stalled) {
                delivery_ask(&p->work->delivery, &c->slot);
                pool_touch(p);
        }
        m = delivery_peek(&c->slot);
        if (!m)
                return wait(c);
        if (!m->payload) {
                delivery_want(&p->work->delivery, &c->slot);
                pool_touch(p);
                return wait(c);
        }
        ret->item = *keep_current(c, m->payload);
        ret->retry_count = m->retry_count;
        delivery_give(&p->work->delivery, m, emitter_now(c->emitter));
        p->total++;
        c->emitter->stats.delivered++;
        return 0;
}

void consumer_ack(struct consumer *c, const struct event_id *ids, unsigned count)
{
        struct pool *p = c->pool;
        uint64_t now = emitter_now(c->emitter);

        if (!p || !c->slot.is_joined)
                return;
        for (unsigned i = 0; i < count; i++)
                delivery_ack(&p->work->delivery, &c->slot, &ids[i], now);
        pool_touch(p);
}

void consumer_nack(struct consumer *c, const struct event_id *ids, unsigned count, enum nack_action action,
        struct bytes reason)
{
        struct pool *p = c->pool;

        if (!p || !c->slot.is_joined)
                return;
        for (unsigned i = 0; i < count; i++)
                delivery_nack(&p->work->delivery, &c->slot, &ids[i], action, reason);
        pool_touch(p);
}

const char *consumer_problem(const struct consumer *c)
{
        return c->problem ? c->problem : "";
}
