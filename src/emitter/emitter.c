/* The room: its duties while this node leads, its turns, its pools by key, its appends.
 *
 * What has something to do is on a list; the end of a turn works the lists off, a bounded number of steps,
 * and asks for another turn when something is left. So ten thousand pools start, and any number of them read,
 * without holding up the loop; and no consumer is called from inside a call of its own. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"
#include "emitter/room.h"

enum { SUBSCRIPTIONS_MAX_DEFAULT = 20000 };
#define MEMORY_DEFAULT (64 * MIB)

static const struct sm_state emitter_states[] = {
        [EMITTER_OFF] = {"off", TO(EMITTER_LOADING)},
        [EMITTER_LOADING] = {"loading", TO(EMITTER_LOADED) | TO(EMITTER_OFF)},
        [EMITTER_LOADED] = {"loaded", TO(EMITTER_STARTING) | TO(EMITTER_OFF)},
        [EMITTER_STARTING] = {"starting", TO(EMITTER_SERVING) | TO(EMITTER_OFF)},
        [EMITTER_SERVING] = {"serving", TO(EMITTER_OFF)},
};

/* ---- pools by key ---- */

void key_write(struct bytes stream, struct bytes group, struct buffer *out)
{
        buffer_add_bytes(out, stream);
        buffer_add(out, "::", 2);
        buffer_add_bytes(out, group);
}

unsigned emitter_index(const struct emitter *e, struct bytes key)
{
        unsigned low = 0, high = e->pool_count;

        while (low < high) {
                unsigned middle = low + (high - low) / 2;

                if (bytes_compare(e->pools[middle]->key, key) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

struct pool *emitter_find_any(struct emitter *e, struct bytes stream, struct bytes group, unsigned *ret_index)
{
        uint8_t data[KEY_SIZE_MAX];
        struct bytes key = {data, stream.size + 2 + group.size};
        unsigned at;

        if (key.size > sizeof data) {
                *ret_index = 0;
                return NULL;
        }
        if (stream.size)
                memcpy(data, stream.data, stream.size);
        memcpy(data + stream.size, "::", 2);
        if (group.size)
                memcpy(data + stream.size + 2, group.data, group.size);
        at = emitter_index(e, key);
        *ret_index = at;
        return at < e->pool_count && bytes_equal(e->pools[at]->key, key) ? e->pools[at] : NULL;
}

/* "a::b" and "c" have the key of "a" and "b::c": whoever asks with the other parts does not mean this one. */
struct pool *emitter_find(struct emitter *e, struct bytes stream, struct bytes group)
{
        unsigned at;
        struct pool *p = emitter_find_any(e, stream, group, &at);

        return p && p->is_defined && p->stream.size == stream.size ? p : NULL;
}

void emitter_add_pool(struct emitter *e, struct pool *p)
{
        unsigned at = emitter_index(e, p->key);

        assert(at == e->pool_count || !bytes_equal(e->pools[at]->key, p->key));
        if (e->pool_count == e->pool_capacity) {
                e->pool_capacity = e->pool_capacity ? e->pool_capacity * 2 : 64;
                e->pools = memory_resize(e->pools, e->pool_capacity * sizeof *e->pools);
        }
        memmove(e->pools + at + 1, e->pools + at, (e->pool_count - at) * sizeof *e->pools);
        e->pools[at] = p;
        e->pool_count++;
        if (at < e->start_next)
                e->start_next++;
}

void emitter_remove_pool(struct emitter *e, struct pool *p)
{
        unsigned at = emitter_index(e, p->key);

        assert(at < e->pool_count);
        assert(e->pools[at] == p);
        e->pool_count--;
        memmove(e->pools + at, e->pools + at + 1, (e->pool_count - at) * sizeof *e->pools);
        if (at < e->start_next)
                e->start_next--;
}

/* ---- small things ---- */

void emitter_again(struct emitter *e)
{
        os_turn_again(e->os);
}

void emitter_new_id(struct emitter *e, struct event_id *ret)
{
        os_random(e->os, ret->bytes, sizeof ret->bytes);
        event_id_stamp_random(ret);
}

void emitter_publish(struct emitter *e, enum fact_type type, struct bytes key, uint64_t position,
        uint32_t count, const char *text)
{
        struct fact_payload payload = {.position = position, .count = count};

        fact_set_stream(&payload, key, name_hash(key));
        fact_set_text(&payload, "%s", text);
        control_publish(e->control, type, &payload);
}

void emitter_make_room(struct emitter *e, struct pool *p)
{
        while (e->memory_used + e->work_size > e->memory_max) {
                struct pool *first = NULL;

                LIST_EACH (at, &e->holders) {
                        first = CONTAINER_OF(at, struct pool, holder_link);
                        if (first != p)
                                break;
                        first = NULL;
                }
                if (!first)
                        return;
                delivery_drop_payloads(&first->work->delivery);
                pool_count_memory(first);
                if (first->held_size) { /* what is left there is being read again right now */
                        list_remove(&first->holder_link);
                        list_add_last(&e->holders, &first->holder_link);
                        return;
                }
        }
}

/* ---- appends ---- */

static void flight_done(void *arg, const struct store_append_result *result)
{
        struct flight *f = arg;
        struct emitter *e = f->emitter;

        list_remove(&f->link);
        e->flight_count--;
        f->on_done(f, result);
        free(f);
        if (e->is_stopping)
                emitter_again(e);
}

void flight_start(struct emitter *e, struct pool *pool, const struct store_append *append,
        void (*on_done)(struct flight *f, const struct store_append_result *result), void *arg,
        uint64_t number, uint32_t count)
{
        struct flight *f = MEMORY_NEW(struct flight);
        struct store_append fenced = *append;

        *f = (struct flight){
                .emitter = e, .pool = pool, .on_done = on_done, .arg = arg, .number = number, .count = count};
        list_add_last(&e->flights, &f->link);
        e->flight_count++;
        /* A turn's end may come without anything else: the store writes then. */
        emitter_again(e);
        /* Whoever leads no more must not write where another node leads now. */
        fenced.requires_leader = true;
        store_append(e->store, &fenced, flight_done, f);
}

void flights_forget(struct emitter *e, const struct pool *pool)
{
        LIST_EACH (at, &e->flights) {
                struct flight *f = CONTAINER_OF(at, struct flight, link);

                if (f->pool == pool)
                        f->pool = NULL;
        }
}

/* ---- duties ---- */

static void free_pools(struct emitter *e, const char *why)
{
        for (unsigned i = e->pool_count; i-- > 0;) {
                struct pool *p = e->pools[i];

                mutations_end(p, EMITTER_NOT_LEADER, why);
                workers_stop(p);
                pool_drop_consumers(p, why, false);
                e->pool_count = i;
                pool_free(&p);
        }
        e->defined_count = 0;
        e->start_next = 0;
        assert(e->memory_used == 0);
        assert(e->work_size == 0);
}

static void duty_load(void *arg, uint64_t term)
{
        struct emitter *e = arg;

        sm_move(emitter_states, &e->state, EMITTER_LOADING);
        e->term = term;
        e->has_definitions_work = true;
        emitter_again(e);
}

void emitter_loaded(struct emitter *e)
{
        sm_move(emitter_states, &e->state, EMITTER_LOADED);
        notification_duty_loaded(&e->duty, e->term, e->defined_count);
}

static void duty_start(void *arg, uint64_t term)
{
        struct emitter *e = arg;

        assert(term == e->term);
        sm_move(emitter_states, &e->state, EMITTER_STARTING);
        e->start_next = 0;
        emitter_again(e);
}

/* From here on nothing is written: who leads now may have gone on already (fencing). What is under way was
 * asked for while this node led; the log decides about it. */
static void duty_give_up(void *arg)
{
        struct emitter *e = arg;

        if (e->state == EMITTER_OFF)
                return;
        monitor_stop(e);
        definitions_end(e);
        free_pools(e, "this node does not lead any more: connect to the leader");
        sm_move(emitter_states, &e->state, EMITTER_OFF);
}

static void start_some(struct emitter *e)
{
        for (unsigned n = 0; n < STARTS_PER_TURN && e->start_next < e->pool_count; n++) {
                struct pool *p = e->pools[e->start_next++];

                if (p->is_defined)
                        pool_up(p);
        }
        if (e->start_next < e->pool_count) {
                emitter_again(e);
                return;
        }
        sm_move(emitter_states, &e->state, EMITTER_SERVING);
        /* Those that were loaded meanwhile could not be joined yet. */
        for (unsigned i = 0; i < e->pool_count; i++)
                if (e->pools[i]->state == POOL_IDLE)
                        workers_start(e->pools[i]);
        monitor_start(e);
        notification_duty_started(&e->duty, e->term, e->defined_count);
        if (e->on_serving)
                e->on_serving(e->serving_arg);
}

/* ---- turns ---- */

static void load_some(struct emitter *e)
{
        struct list now;
        unsigned n = 0;

        list_init(&now);
        while (!list_is_empty(&e->loading) && n < LOADS_PER_TURN && e->loads_under_way + n < LOADS_AT_ONCE) {
                struct list *at = e->loading.next;

                list_remove(at);
                list_add_last(&now, at);
                n++;
        }
        while (!list_is_empty(&now)) {
                struct pool *p = CONTAINER_OF(now.next, struct pool, load_link);

                list_remove(&p->load_link);
                checkpoint_load(p);
        }
        if (!list_is_empty(&e->loading) && e->loads_under_way < LOADS_AT_ONCE)
                emitter_again(e);
}

static void run_busy(struct emitter *e)
{
        unsigned budget = READS_PER_TURN;
        uint64_t begun = os_monotonic_us(e->os); /* the turn's time stands still */
        struct list now;

        if (list_is_empty(&e->busy))
                return;
        /* What becomes busy meanwhile waits for the next turn. */
        list_init(&now);
        now = e->busy;
        now.next->previous = &now;
        now.previous->next = &now;
        list_init(&e->busy);
        while (!list_is_empty(&now) && budget && os_monotonic_us(e->os) - begun < BUSY_US_MAX) {
                struct pool *p = CONTAINER_OF(now.next, struct pool, busy_link);

                list_remove(&p->busy_link);
                pool_run(p, &budget);
        }
        /* Whose turn did not come is before those that had one. */
        if (!list_is_empty(&now)) {
                now.previous->next = e->busy.next;
                e->busy.next->previous = now.previous;
                e->busy.next = now.next;
                now.next->previous = &e->busy;
        }
        if (!list_is_empty(&e->busy))
                emitter_again(e);
}

static void wake_consumers(struct emitter *e)
{
        struct list now;

        if (list_is_empty(&e->wakes))
                return;
        now = e->wakes;
        now.next->previous = &now;
        now.previous->next = &now;
        list_init(&e->wakes);
        while (!list_is_empty(&now)) {
                struct consumer *c = CONTAINER_OF(now.next, struct consumer, wake_link);

                list_remove(&c->wake_link);
                c->slot.is_asking = false;
                c->on_readable(c->arg);
        }
        if (!list_is_empty(&e->wakes))
                emitter_again(e);
}

static void finish_stop(struct emitter *e)
{
        void (*on_stopped)(void *arg) = e->on_stopped;

        e->on_stopped = NULL;
        if (e->has_duty) {
                e->has_duty = false;
                notification_remove_duty(&e->duty);
        }
        on_stopped(e->stopped_arg);
}

static void on_turn(struct os_turn_hook *hook)
{
        struct emitter *e = hook->arg;

        if (e->has_definitions_work)
                definitions_load(e);
        if (e->state == EMITTER_STARTING)
                start_some(e);
        load_some(e);
        run_busy(e);
        wake_consumers(e);
        if (e->on_stopped && !e->flight_count && list_is_empty(&e->busy) && list_is_empty(&e->wakes))
                finish_stop(e);
}

/* ---- the room's life ---- */

int emitter_open(const struct emitter_options *options, struct emitter **ret)
{
        struct emitter *e = MEMORY_NEW(struct emitter);

        e->os = options->os;
        e->control = options->control;
        e->store = options->store;
        e->notification = options->notification;
        e->on_serving = options->on_serving;
        e->serving_arg = options->arg;
        e->memory_max = options->memory_size ? options->memory_size : MEMORY_DEFAULT;
        e->mutant_checkpoint_before_ack = options->mutant_checkpoint_before_ack;
        e->mutant_checkpoint_before_parked = options->mutant_checkpoint_before_parked;
        e->subscriptions_max =
                options->subscriptions_max ? options->subscriptions_max : SUBSCRIPTIONS_MAX_DEFAULT;
        list_init(&e->busy);
        list_init(&e->wakes);
        list_init(&e->loading);
        list_init(&e->holders);
        list_init(&e->flights);
        e->hook = (struct os_turn_hook){.fn = on_turn, .arg = e};
        os_turn_hook_add(e->os, &e->hook);
        e->duty = (struct notification_duty){
                .load = duty_load, .start = duty_start, .give_up = duty_give_up, .arg = e};
        e->has_duty = true;
        notification_add_duty(e->notification, &e->duty);
        *ret = e;
        return 0;
}

void emitter_stop(struct emitter *e, void (*on_stopped)(void *arg), void *arg)
{
        assert(!e->is_stopping);
        e->is_stopping = true;
        e->on_stopped = on_stopped;
        e->stopped_arg = arg;
        monitor_stop(e);
        for (unsigned i = 0; i < e->pool_count; i++) {
                struct pool *p = e->pools[i];

                workers_stop(p);
                pool_drop_consumers(p, "the server stops", false);
                p->wants_checkpoint = true;
                pool_touch(p);
        }
        emitter_again(e);
}

void emitter_free(struct emitter **emitter)
{
        struct emitter *e = *emitter;

        if (!e)
                return;
        *emitter = NULL;
        if (e->has_duty) {
                e->has_duty = false;
                notification_remove_duty(&e->duty);
        }
        duty_give_up(e);
        assert(e->consumer_count == 0); /* whoever opened one has closed it */
        os_turn_hook_remove(&e->hook);
        /* Only a store that was abandoned leaves appends without an answer. */
        LIST_EACH_SAFE (at, &e->flights)
                free(CONTAINER_OF(at, struct flight, link));
        free(e->pools);
        free(e);
}

enum emitter_verdict emitter_restart(struct emitter *e)
{
        if (e->state != EMITTER_SERVING || e->is_stopping)
                return EMITTER_NOT_LEADER;
        for (unsigned i = 0; i < e->pool_count; i++) {
                struct pool *p = e->pools[i];

                if (!p->is_defined || p->state == POOL_DOWN)
                        continue;
                workers_stop(p);
                pool_drop_consumers(p, "the subscriptions were restarted: connect again", false);
                pool_reset(p);
                workers_start(p);
        }
        return EMITTER_OK;
}
