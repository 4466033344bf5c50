/* A pool: one cursor over the log for its subscription.
 *
 * While consumers are there, it reads until its buffers are full or the log ends. At the end it waits in the
 * match index; since the wait begins in the turn in which the end was seen, and the index hears of commits
 * after they happen, no event falls between (G10). A second later it gives reader and buffers back and keeps
 * only its cursor. A pool without consumers reads nothing. One that cannot go on (damage, a pattern that is
 * too costly) says so and drops its consumers; the next consumer makes it try again. Nothing of it touches
 * another pool. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"
#include "emitter/room.h"
#include "model/record.h"

static const struct sm_state pool_states[] = {
        [POOL_DOWN] = {"down", TO(POOL_LOADING)},
        [POOL_LOADING] = {"loading", TO(POOL_IDLE) | TO(POOL_FAILED)},
        [POOL_IDLE] = {"idle", TO(POOL_ACTIVE) | TO(POOL_FAILED)},
        [POOL_ACTIVE] = {"active", TO(POOL_IDLE)},
        [POOL_FAILED] = {"failed", TO(POOL_LOADING)},
};

static void on_match(struct notification_wait *wait, uint64_t position);

/* ---- life ---- */

static void on_timer(struct os_timer *timer)
{
        pool_touch(timer->arg);
}

struct pool *pool_new(struct emitter *e, struct bytes stream, struct bytes group)
{
        struct pool *p = MEMORY_NEW(struct pool);
        struct buffer key = {0};
        uint8_t *text;

        key_write(stream, group, &key);
        text = memory_new(key.size);
        memcpy(text, key.data, key.size);
        p->key = bytes_of(text, key.size);
        p->stream = bytes_of(text, stream.size);
        buffer_fini(&key);
        p->emitter = e;
        list_init(&p->mutations);
        list_init(&p->busy_link);
        list_init(&p->load_link);
        list_init(&p->holder_link);
        list_init(&p->consumers);
        list_init(&p->workers);
        p->timer = (struct os_timer){.fn = on_timer, .arg = p};
        p->wait = (struct notification_wait){.on_match = on_match, .arg = p};
        emitter_add_pool(e, p);
        return p;
}

bool pool_is_all(const struct pool *p)
{
        return p->source.size == 0;
}

void pool_define(struct pool *p, struct definition *definition, const struct definition_extra *extra)
{
        bool is_new = !p->is_defined;
        bool is_moved = is_new || extra->start != p->extra.start;

        assert(!p->work);
        assert(extra->has_start);
        notification_wait_end(&p->wait);
        definition_fini(&p->definition);
        p->definition = *definition;
        *definition = (struct definition){0};
        p->extra = *extra;
        p->source = selector_kind(p->definition.selector) == SELECT_STREAM ? p->stream : BYTES_EMPTY;
        p->wait.selector = p->definition.selector;
        if (is_moved && !p->has_checkpoint && !p->is_writing_checkpoint)
                p->cursor = p->written_resume = extra->start;
        if (is_new) {
                p->is_defined = true;
                p->emitter->defined_count++;
        }
}

/* Its checkpoint is read when its turn comes: first those that somebody waits for. */
static void load_soon(struct pool *p, bool is_urgent)
{
        struct emitter *e = p->emitter;

        if (p->load)
                return;
        list_remove(&p->load_link);
        if (is_urgent)
                list_add_first(&e->loading, &p->load_link);
        else
                list_add_last(&e->loading, &p->load_link);
        emitter_again(e);
}

void pool_up(struct pool *p)
{
        assert(p->is_defined);
        if (p->state != POOL_DOWN)
                return;
        sm_move(pool_states, &p->state, POOL_LOADING);
        emitter_publish(p->emitter, FACT_emitter_pool_up, p->key, 0, p->definition.d.settings.pool_size, "");
        load_soon(p, false);
}

void pool_loaded(struct pool *p)
{
        sm_move(pool_states, &p->state, POOL_IDLE);
        p->checkpoint_at_us = emitter_now(p->emitter);
        p->passed = PASSED_MAX;
        workers_start(p);
        pool_touch(p);
        mutations_go_on(p);
}

void pool_count_memory(struct pool *p)
{
        struct emitter *e = p->emitter;
        uint64_t size = p->work ? p->work->delivery.payloads.size : 0;
        uint64_t work_size = p->work ? sizeof *p->work + p->work->delivery.size : 0;

        e->memory_used = e->memory_used - p->held_size + size;
        p->held_size = size;
        e->work_size = e->work_size - p->work_size + work_size;
        p->work_size = work_size;
        list_remove(&p->holder_link);
        if (size)
                list_add_last(&e->holders, &p->holder_link);
}

/* The faults on order: a checkpoint above what is in flight, or above what is about to be parked. */
static uint64_t mutant_resume(const struct pool *p)
{
        const struct span *s = &p->work->delivery.span;

        if (p->emitter->mutant_checkpoint_before_ack)
                return p->cursor;
        for (uint64_t at = s->first; at < s->next; at++) {
                const struct message *m = s->places[at & (s->capacity - 1)];

                if (m && m->state != MESSAGE_PARKING)
                        return m->number;
        }
        return p->cursor;
}

uint64_t pool_resume(const struct pool *p)
{
        if (p->work &&
                (p->emitter->mutant_checkpoint_before_ack || p->emitter->mutant_checkpoint_before_parked))
                return mutant_resume(p);
        return p->work ? delivery_resume(&p->work->delivery, p->cursor) : p->cursor;
}

/* Brings the core's counts into the room's. */
static void take_counts(struct pool *p)
{
        struct delivery *d = &p->work->delivery;
        struct emitter_stats *s = &p->emitter->stats;

        p->finished_since += d->finished;
        s->acked += d->acked;
        s->nacked += d->nacked;
        s->retried += d->retried;
        s->timed_out += d->timed_out;
        d->finished = d->acked = d->nacked = d->retried = d->timed_out = 0;
}

static void on_assigned(struct delivery *d, struct slot *slot)
{
        struct consumer *c = CONTAINER_OF(slot, struct consumer, slot);

        if (!c->slot.is_asking)
                return;
        if (delivery_peek(slot)->payload)
                consumer_wake(c);
        else
                delivery_want(d, slot); /* it is woken when that is read */
}

static void work_begin(struct pool *p)
{
        struct work *w = MEMORY_NEW(struct work);

        assert(!p->work);
        sm_move(pool_states, &p->state, POOL_ACTIVE);
        delivery_init(&w->delivery, &p->definition.d.settings);
        if (worker_kind_of(p->definition.d.target))
                w->delivery.timeout_us = 0;
        w->delivery.on_assigned = on_assigned;
        w->serial = ++p->work_serial;
        p->work = w;
        p->is_live = false;
        LIST_EACH (at, &p->consumers)
                delivery_join(&w->delivery, &CONTAINER_OF(at, struct consumer, link)->slot);
        emitter_publish(p->emitter, FACT_emitter_worker_up, p->key, p->cursor, p->consumer_count, "");
}

/* What was read and is not finished will be read again. */
static void work_end(struct pool *p)
{
        struct work *w = p->work;

        if (!w)
                return;
        take_counts(p);
        /* What is finished above the lowest unfinished event is read again. */
        p->finished_since -= MIN(p->finished_since, delivery_finished_above(&w->delivery));
        p->cursor = pool_resume(p);
        loader_end(p);
        parked_end(p);
        store_reader_close(&w->reader);
        free(w->ending);
        delivery_fini(&w->delivery);
        p->work = NULL;
        free(w);
        pool_count_memory(p);
        os_timer_stop(&p->timer);
        sm_move(pool_states, &p->state, POOL_IDLE);
}

void pool_reset(struct pool *p)
{
        notification_wait_end(&p->wait);
        work_end(p);
        if (p->state == POOL_FAILED) {
                free(p->problem);
                p->problem = NULL;
                p->is_gone = false;
                sm_move(pool_states, &p->state, POOL_LOADING);
                load_soon(p, true);
        }
        pool_touch(p);
}

void pool_free(struct pool **pool)
{
        struct pool *p = *pool;

        if (!p)
                return;
        *pool = NULL;
        assert(p->consumer_count == 0);
        assert(list_is_empty(&p->mutations));
        workers_stop(p);
        notification_wait_end(&p->wait);
        work_end(p);
        os_timer_stop(&p->timer);
        checkpoint_load_end(p);
        flights_forget(p->emitter, p);
        list_remove(&p->busy_link);
        list_remove(&p->load_link);
        list_remove(&p->holder_link);
        definition_fini(&p->definition);
        free((void *)(uintptr_t)p->key.data);
        free(p->problem);
        free(p->replayed);
        free(p);
}

void pool_drop_consumers(struct pool *p, const char *why, bool is_gone)
{
        while (!list_is_empty(&p->consumers))
                consumer_drop(CONTAINER_OF(p->consumers.next, struct consumer, link), why, is_gone);
}

void pool_fail(struct pool *p, const char *format, ...)
{
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        notification_wait_end(&p->wait);
        work_end(p);
        free(p->problem);
        p->problem = memory_copy_string(text);
        sm_move(pool_states, &p->state, POOL_FAILED);
        emitter_publish(p->emitter, FACT_subscription_failed, p->key, p->cursor, p->consumer_count, text);
        pool_drop_consumers(p, "the subscription failed: look at its problem", false);
        p->wants_checkpoint = true;
        pool_touch(p);
}

void pool_touch(struct pool *p)
{
        if (p->busy_link.next != &p->busy_link)
                return;
        list_add_last(&p->emitter->busy, &p->busy_link);
        emitter_again(p->emitter);
}

/* ---- lanes ---- */

static bool tag_value(const struct event_view *v, struct bytes name, struct bytes *ret)
{
        struct bytes at = v->tags, tag;

        while (event_tag_next(&at, &tag))
                if (tag.size > name.size && bytes_starts_with(tag, name) && tag.data[name.size] == '=') {
                        *ret = bytes_of(tag.data + name.size + 1, tag.size - name.size - 1);
                        return true;
                }
        return false;
}

/* What has no such tag or key goes by its stream. The same text as tag, key or stream is the same lane:
 * harmless. */
uint64_t pool_lane_hash(const struct pool *p, const struct store_read_item *item)
{
        const struct emitter_settings *s = &p->definition.d.settings;
        const struct event_view *v = item->has_event ? &item->event : &item->link;
        struct bytes value;
        bool is_string;

        if (!strategy_has_lanes(s->strategy))
                return 0;
        if (s->strategy == STRATEGY_PINNED_BY_CORRELATION &&
                json_member(v->metadata, BYTES_LITERAL("$correlationId"), &value, &is_string))
                return name_hash(value);
        if (bytes_starts_with(s->lane_key, BYTES_LITERAL("tag:")) &&
                tag_value(v, bytes_of(s->lane_key.data + 4, s->lane_key.size - 4), &value))
                return name_hash(value);
        if (bytes_starts_with(s->lane_key, BYTES_LITERAL("metadata:")) &&
                json_member(v->metadata, bytes_of(s->lane_key.data + 9, s->lane_key.size - 9), &value,
                        &is_string))
                return name_hash(value);
        return name_hash(v->stream);
}

/* ---- reading ---- */

const struct event_view *item_source(const struct store_read_item *item)
{
        return item->has_link ? &item->link : &item->event;
}

static void on_ready(void *arg)
{
        struct pool *p = arg;

        p->work->reader_waits = false;
        pool_touch(p);
}

static void on_match(struct notification_wait *wait, uint64_t position)
{
        struct pool *p = wait->arg;

        /* Nothing between concerns it, so a reader opened now need not go through that. */
        if (pool_is_all(p) && (!p->work || !p->work->reader))
                p->cursor = MAX(p->cursor, position);
        if (p->work)
                p->work->is_at_end = false;
        p->is_searching = false;
        p->passed = 0;
        pool_touch(p);
}

/* Checkpoints and parked events of subscriptions to all streams (protocol 3.7): if they came to such a
 * subscription, each of its checkpoints would move it, and so cause the next. And what holds the server's
 * secrets: who reads all streams is not given them, so a group of all streams is not either. */
static bool is_hidden(struct bytes stream)
{
        const struct bytes prefix = BYTES_LITERAL("$persistentsubscription-");
        struct bytes rest;

        if (stream.size < 3 || stream.data[0] != '$')
                return false;
        if (stream_is_guarded(stream))
                return true;
        if (stream.data[1] == '$')
                stream = stream_of_meta(stream);
        if (!bytes_starts_with(stream, prefix))
                return false;
        rest = bytes_of(stream.data + prefix.size, stream.size - prefix.size);
        return bytes_starts_with(rest, BYTES_LITERAL("$all::")) ||
               bytes_starts_with(rest, BYTES_LITERAL("$nilo-"));
}

static int open_reader(struct pool *p)
{
        struct store_read_options options = {
                .stream = p->source,
                .from = FROM_NUMBER,
                .number = p->cursor,
                .limit = UINT64_MAX,
                .filter = pool_is_all(p) ? selector_new_filter(p->definition.selector) : NULL,
                .resolve_links = p->definition.d.settings.resolve_links,
                .examine_max = EXAMINED_PER_TURN,
                .is_follow = true,
                .on_ready = on_ready,
                .arg = p,
        };

        return store_reader_open(p->emitter->store, &options, &p->work->reader);
}

/* A filter of the reader may let more through than is selected: then each event is matched. */
static bool must_match(const struct pool *p)
{
        switch (selector_kind(p->definition.selector)) {
        case SELECT_ALL:
        case SELECT_STREAM:
        case SELECT_PREFIX:
        case SELECT_FILTER:
                return false;
        default:
                return true;
        }
}

static bool has_room(const struct pool *p)
{
        const struct delivery *d = &p->work->delivery;
        const struct emitter_settings *s = &p->definition.d.settings;
        uint32_t most =
                MIN(p->is_live ? s->live_buffer_size : s->history_buffer_size, (uint32_t)BUFFER_MESSAGES_MAX);

        if (span_size(&d->span) >= SPAN_MAX)
                return false;
        if (p->emitter->memory_used + p->emitter->work_size >= p->emitter->memory_max)
                return d->pending_count < MIN(most, (uint32_t)SHORT_MESSAGES_MAX);
        if (d->pending_count < most && d->payloads.size < BUFFER_SIZE_MAX)
                return true;
        /* Lanes of a slow consumer fill the buffer: the others' are behind it. */
        return strategy_has_lanes(s->strategy) && d->pending_count < LANED_MESSAGES_MAX &&
               delivery_is_hungry(d);
}

static bool may_hold(const struct pool *p)
{
        const struct emitter *e = p->emitter;
        const struct payloads *payloads = &p->work->delivery.payloads;

        return payloads->size < BUFFER_SIZE_MAX &&
               e->memory_used - p->held_size + payloads->size + PAYLOAD_BLOCK_SIZE + e->work_size <=
                       e->memory_max;
}

/* What is read and good is delivered first: then the pool fails. */
static void end_reading(struct pool *p, const char *format, ...) PRINTF_LIKE(2, 3);

static void end_reading(struct pool *p, const char *format, ...)
{
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        free(p->work->ending);
        p->work->ending = memory_copy_string(text);
}

static void take_item(struct pool *p, const struct store_read_item *item)
{
        const struct event_view *v = item_source(item);
        uint64_t number = pool_is_all(p) ? v->position : v->revision;
        struct arrival a;

        p->cursor = number + 1;
        if (pool_is_all(p) && is_hidden(v->stream))
                return;
        if (must_match(p)) {
                switch (selector_match(p->definition.selector, v)) {
                case FILTER_NO_MATCH:
                        p->passed++;
                        return;
                case FILTER_TOO_COSTLY:
                        p->cursor = number;
                        end_reading(p,
                                "matching the event at position %llu costs too much: simplify the pattern, "
                                "or seek behind the event",
                                (unsigned long long)v->position);
                        return;
                default:
                        break;
                }
        }
        p->has_last = true;
        p->last = number;
        p->passed = 0;
        a = (struct arrival){
                .number = number,
                .event_time_us = v->time_us,
                .parked = NOT_REPLAYED,
                .id = v->id,
                .lane_hash = pool_lane_hash(p, item),
                .item = may_hold(p) ? item : NULL,
        };
        p->work->has_taken = true;
        delivery_add(&p->work->delivery, &a);
}

static void note_examined(struct pool *p)
{
        const struct store_reader *r = p->work->reader;

        if (pool_is_all(p) && store_reader_examined(r))
                p->cursor = MAX(p->cursor, store_reader_position(r) + 1);
}

/* Many pools that are far behind, as after a start, would each read the whole log for next to nothing. */
static bool must_search(const struct pool *p)
{
        return p->passed >= PASSED_MAX && pool_is_all(p) &&
               selector_kind(p->definition.selector) != SELECT_ALL &&
               p->cursor + SEARCH_FROM < store_next_position(p->emitter->store);
}

static void search(struct pool *p)
{
        p->is_searching = true;
        p->is_live = false;
        notification_wait_behind(p->emitter->notification, &p->wait, p->cursor);
}

/* In the middle of its reading; what was read is delivered meanwhile. */
static void search_on(struct pool *p)
{
        if (!must_search(p) || p->work->ending)
                return;
        store_reader_close(&p->work->reader);
        p->work->is_at_end = true;
        search(p);
}

static void wait_for_news(struct pool *p)
{
        struct emitter *e = p->emitter;

        p->passed = 0;
        p->is_searching = false;
        if (!p->is_live) {
                p->is_live = true;
                emitter_publish(e, FACT_subscription_caught_up, p->key, p->cursor, 0, "");
        }
        if (!p->wait.is_waiting)
                notification_wait(e->notification, &p->wait, store_next_position(e->store));
}

static void see_end(struct pool *p)
{
        note_examined(p);
        p->work->is_at_end = true;
        wait_for_news(p);
}

/* Outcomes that end the reading. */
static void end_reading_by(struct pool *p, int r)
{
        const struct store_reader *reader = p->work->reader;

        switch (r) {
        case STORE_READ_DELETED:
                p->work->is_deleted = true;
                end_reading(p, "the stream was deleted");
                break;
        case STORE_READ_CORRUPT:
                end_reading(p, "behind %llu the log is damaged: %s", (unsigned long long)p->cursor,
                        reader ? store_reader_problem(reader) : "an index");
                break;
        case STORE_READ_TOO_COSTLY:
                end_reading(p,
                        "the event at position %llu exceeds the limit of the filter's pattern: simplify the "
                        "pattern, or seek behind the event",
                        (unsigned long long)store_reader_position(reader));
                break;
        default:
                end_reading(p, "behind %llu the log cannot be read: %s", (unsigned long long)p->cursor,
                        fault_last());
        }
}

/* Reads what there is room for. */
static void read_some(struct pool *p, unsigned *budget)
{
        struct work *w = p->work;
        struct store_read_item item;
        unsigned most = MIN(*budget, (unsigned)POOL_READS_PER_TURN);
        int r = 0;

        if (w->reader_waits || w->is_at_end || w->ending)
                return;
        emitter_make_room(p->emitter, p);
        if (!w->reader && has_room(p))
                r = open_reader(p);
        while (!r && most && w->reader && has_room(p) && !w->ending) {
                r = store_reader_next(w->reader, &item);
                if (r)
                        break;
                most--;
                (*budget)--;
                take_item(p, &item);
        }
        pool_count_memory(p);
        switch (r) {
        case 0:
                search_on(p);
                if (!most)
                        pool_touch(p);
                break;
        case STORE_READ_WAIT:
                w->reader_waits = true;
                break;
        case STORE_READ_YIELD:
                note_examined(p);
                p->passed += EXAMINED_PER_TURN;
                search_on(p);
                *budget -= MIN(*budget, (unsigned)POOL_READS_PER_TURN);
                pool_touch(p);
                break;
        case STORE_READ_END:
                see_end(p);
                break;
        default:
                end_reading_by(p, r);
        }
}

/* ---- a turn ---- */

static bool may_give(const struct pool *p)
{
        return p->consumer_count && !p->extra.is_paused && !p->emitter->is_stopping;
}

/* True when nothing will happen by itself. */
static bool is_quiet(const struct pool *p)
{
        const struct work *w = p->work;
        const struct delivery *d = &w->delivery;

        if (d->flying_count || d->parking_count)
                return false;
        if (!may_give(p))
                return true;
        return delivery_is_empty(d) && w->is_at_end && !parked_has_replay(p);
}

/* Of a transient one: nobody will come any more. */
static bool is_over(const struct pool *p)
{
        return p->definition.d.is_transient && p->had_consumers && !p->consumer_count &&
               list_is_empty(&p->mutations) && !(p->work && p->work->delivery.parking_count);
}

static void arm(struct pool *p, uint64_t now)
{
        uint64_t due = checkpoint_due(p);

        due = MIN(due, parked_due(p));
        if (is_over(p))
                due = MIN(due, p->append_again_us);
        if (p->work) {
                due = MIN(due, delivery_next_due(&p->work->delivery));
                if (p->work->quiet_since_us)
                        due = MIN(due, p->work->quiet_since_us + LINGER_US);
        }
        if (due == UINT64_MAX || (p->timer.is_on && p->timer.due_us <= due))
                return;
        os_timer_start(p->emitter->os, &p->timer, due > now ? due - now : 0);
}

static void settle(struct pool *p, uint64_t now)
{
        struct work *w = p->work;

        if (!w)
                return;
        if (!is_quiet(p)) {
                w->quiet_since_us = 0;
                return;
        }
        if (!w->quiet_since_us)
                w->quiet_since_us = now;
        /* Who joins before the second is over must look for what came meanwhile: nobody told. */
        if (!may_give(p)) {
                notification_wait_end(&p->wait);
                w->is_at_end = false;
        }
        /* Who has found nothing is not about to: after a start these are many at one time. */
        if (now - w->quiet_since_us >= LINGER_US || (w->is_at_end && !w->has_taken))
                work_end(p);
}

/* A transient subscription ends with its last consumer. What it has parked goes first: by a mutation, which
 * is tried until the store takes it. True: it is gone. */
static bool end_transient(struct pool *p, uint64_t now)
{
        struct emitter *e = p->emitter;

        if (!is_over(p))
                return false;
        if (p->parked_next && p->append_again_us <= now) {
                p->append_again_us = now + RETRY_APPEND_US;
                mutations_delete(p);
        }
        if (p->parked_next)
                return false;
        emitter_remove_pool(e, p);
        e->defined_count--;
        pool_free(&p);
        return true;
}

static bool work(struct pool *p, unsigned *budget, uint64_t now)
{
        bool may = may_give(p);

        /* Without a reader, and what goes with it, for those who have nothing to read. */
        if (!p->work && may && !p->wait.is_waiting && !parked_has_replay(p)) {
                if (must_search(p))
                        search(p);
                else if (pool_is_all(p) && p->cursor >= store_next_position(p->emitter->store))
                        wait_for_news(p);
        }
        if (!p->work && may && (!p->wait.is_waiting || parked_has_replay(p)))
                work_begin(p);
        if (!p->work)
                return true;
        delivery_expire(&p->work->delivery, now);
        if (may) {
                read_some(p, budget);
                parked_run(p);
                if (!p->work)
                        return false;
                delivery_dispatch(&p->work->delivery, now);
        }
        loader_run(p);
        if (!p->work)
                return false;
        take_counts(p);
        /* What was assigned made room. */
        if (may && p->work->reader && !p->work->reader_waits && !p->work->is_at_end && !p->work->ending &&
                has_room(p))
                pool_touch(p);
        if (p->work->ending && delivery_is_empty(&p->work->delivery) && !parked_has_replay(p)) {
                char problem[512];

                snprintf(problem, sizeof problem, "%s", p->work->ending);
                p->is_gone = p->work->is_deleted;
                pool_fail(p, "%s", problem);
                return false;
        }
        return true;
}

void pool_run(struct pool *p, unsigned *budget)
{
        uint64_t now = emitter_now(p->emitter);

        if (p->state == POOL_DOWN || p->state == POOL_LOADING)
                return;
        if (p->state != POOL_FAILED && !work(p, budget, now))
                return;
        if (end_transient(p, now))
                return;
        settle(p, now);
        checkpoint_run(p);
        parked_run(p);
        arm(p, now);
}
