/* Who gets what, and what becomes of it.
 *
 * Without lanes, what comes back is given before what is new, by its number. With lanes the order within the
 * lane decides, and when an event comes back to its lane, everything later of the lane that is still in
 * flight comes back with it, uncounted: otherwise the consumer would finish later events of the stream before
 * the earlier one. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"
#include "emitter/delivery.h"

static const struct sm_state message_states[] = {
        [MESSAGE_PENDING] = {"pending", TO(MESSAGE_FLYING)},
        [MESSAGE_FLYING] = {"flying", TO(MESSAGE_PENDING) | TO(MESSAGE_PARKING)},
        [MESSAGE_PARKING] = {"parking", 0},
};

void assert_delivery_state(const struct delivery *d)
{
        uint64_t all = (uint64_t)d->pending_count + d->flying_count + d->parking_count;

        assert(all >= d->replay_count);
        assert(span_size(&d->span) >= all - d->replay_count);
        assert(all > d->replay_count || span_size(&d->span) == 0);
}

void delivery_init(struct delivery *d, const struct emitter_settings *settings)
{
        *d = (struct delivery){
                .strategy = settings->strategy,
                .timeout_us = (uint64_t)settings->message_timeout_ms * 1000,
                .retry_max = settings->max_retry_count,
        };
        payloads_init(&d->payloads);
        messages_init(d);
        lanes_init(d);
        list_init(&d->slots);
        list_init(&d->open);
}

/* The slot is as before it joined. */
static void slot_forget(struct slot *s)
{
        list_remove(&s->link);
        s->is_joined = s->is_open = s->is_stalled = false;
        s->in_flight = 0;
        s->ready_count = s->ready_capacity = 0;
        free(s->ready);
        s->ready = NULL;
}

void delivery_fini(struct delivery *d)
{
        LIST_EACH_SAFE (at, &d->slots)
                slot_forget(CONTAINER_OF(at, struct slot, link));
        lanes_fini(d);
        messages_fini(d);
        payloads_fini(&d->payloads);
}

/* ---- slots with room ---- */

static bool has_lanes(const struct delivery *d)
{
        return strategy_has_lanes(d->strategy);
}

static void slot_close(struct slot *s)
{
        list_remove(&s->open_link);
        s->is_open = false;
}

/* RoundRobin: behind those who wait longer. DispatchToSingle: in the order of joining. */
static void slot_look(struct delivery *d, struct slot *s)
{
        struct list *at;

        if (s->in_flight >= s->window || s->is_stalled || !s->is_joined) {
                if (s->is_open)
                        slot_close(s);
                return;
        }
        if (s->is_open)
                return;
        s->is_open = true;
        if (d->strategy != STRATEGY_DISPATCH_TO_SINGLE) {
                list_add_last(&d->open, &s->open_link);
                return;
        }
        /* Seeds grow with each consumer, so they tell who came first. */
        at = d->open.next;
        while (at != &d->open && CONTAINER_OF(at, struct slot, open_link)->seed < s->seed)
                at = at->next;
        list_add_last(at, &s->open_link);
}

void delivery_join(struct delivery *d, struct slot *s)
{
        assert(!s->is_joined && !s->in_flight);
        assert(s->window > 0);
        list_init(&s->open_link);
        list_init(&s->assigned);
        list_init(&s->given);
        list_add_last(&d->slots, &s->link);
        d->slot_count++;
        s->is_joined = true;
        s->is_stalled = false;
        if (has_lanes(d))
                lanes_join(d, s);
        slot_look(d, s);
}

/* ---- pending ---- */

/* Fresh messages come in the order of their numbers; all others are sorted in. */
static void make_pending(struct delivery *d, struct message *m, bool is_fresh)
{
        d->pending_count++;
        if (has_lanes(d))
                lane_add_pending(d, m);
        else if (is_fresh)
                list_add_last(&d->fresh, &m->link);
        else
                retries_push(d, m);
}

void delivery_add(struct delivery *d, const struct arrival *a)
{
        struct message *m = message_new(d);

        m->number = a->number;
        m->event_time_us = a->event_time_us;
        m->parked = a->parked;
        m->id = a->id;
        m->lane_hash = a->lane_hash;
        if (a->item)
                m->payload = payload_new(&d->payloads, a->item);
        if (m->parked == NOT_REPLAYED)
                span_push(&d->span, m);
        else
                d->replay_count++;
        make_pending(d, m, m->parked == NOT_REPLAYED);
        assert_delivery_state(d);
}

/* ---- flying ---- */

/* Its time begins: to be looked at by the slot, then to be answered. Time does not go back, so the list stays
 * sorted. */
static void start_time(struct delivery *d, struct message *m, uint64_t now_us)
{
        if (!d->timeout_us)
                return;
        m->due_us = now_us + d->timeout_us;
        list_remove(&m->due_link);
        list_add_last(&d->due, &m->due_link);
}

static void assign(struct delivery *d, struct message *m, struct slot *s, uint64_t now_us)
{
        assert(s->in_flight < s->window);
        sm_move(message_states, &m->state, MESSAGE_FLYING);
        assert(d->pending_count > 0);
        d->pending_count--;
        flying_add(d, m);
        d->flying_count++;
        m->slot = s;
        m->is_awaited = false;
        s->in_flight++;
        list_add_last(&s->assigned, &m->link);
        start_time(d, m, now_us);
        if (d->on_assigned)
                d->on_assigned(d, s);
}

static struct message *take_pending(struct delivery *d)
{
        struct message *m = retries_first(d);

        if (m) {
                retries_pop(d);
                return m;
        }
        if (list_is_empty(&d->fresh))
                return NULL;
        m = CONTAINER_OF(d->fresh.next, struct message, link);
        list_remove(&m->link);
        return m;
}

void delivery_dispatch(struct delivery *d, uint64_t now_us)
{
        struct message *m;

        if (has_lanes(d)) {
                LIST_EACH_SAFE (at, &d->open) {
                        struct slot *s = CONTAINER_OF(at, struct slot, open_link);

                        while (s->in_flight < s->window && (m = lane_take(d, s)) != NULL)
                                assign(d, m, s, now_us);
                        slot_look(d, s);
                }
                return;
        }
        while (!list_is_empty(&d->open) && (m = take_pending(d)) != NULL) {
                struct slot *s = CONTAINER_OF(d->open.next, struct slot, open_link);

                assign(d, m, s, now_us);
                if (d->strategy == STRATEGY_ROUND_ROBIN || s->in_flight >= s->window)
                        slot_close(s);
                slot_look(d, s);
        }
}

/* The slot has it no more. */
static void land(struct delivery *d, struct message *m)
{
        struct slot *s = m->slot;

        assert(s->in_flight > 0);
        assert(d->flying_count > 0);
        flying_remove(d, m);
        d->flying_count--;
        list_remove(&m->link);
        list_remove(&m->due_link);
        list_remove(&m->load_link);
        if (m->lane)
                lane_landed(m);
        m->slot = NULL;
        m->is_given = false;
        s->in_flight--;
        slot_look(d, s);
}

static void note_replayed(struct delivery *d, uint64_t parked)
{
        if (d->replayed_count == d->replayed_capacity) {
                d->replayed_capacity = d->replayed_capacity ? d->replayed_capacity * 2 : 16;
                d->replayed = memory_resize(d->replayed, d->replayed_capacity * sizeof *d->replayed);
        }
        d->replayed[d->replayed_count++] = parked;
}

static void finish(struct delivery *d, struct message *m)
{
        payload_free(&d->payloads, &m->payload);
        if (m->parked == NOT_REPLAYED) {
                span_finish(&d->span, m->place);
                d->finished++;
        } else {
                assert(d->replay_count > 0);
                d->replay_count--;
                note_replayed(d, m->parked);
        }
        message_free(d, m);
        assert_delivery_state(d);
}

static void park(struct delivery *d, struct message *m, char *reason)
{
        sm_move(message_states, &m->state, MESSAGE_PARKING);
        m->reason = reason;
        d->parking_count++;
        list_add_last(&d->parking, &m->link);
}

static void come_back(struct delivery *d, struct message *m)
{
        sm_move(message_states, &m->state, MESSAGE_PENDING);
        make_pending(d, m, false);
}

/* Everything of the lane behind `number` that is in flight: its turn is after that one. */
static void recall_later(struct delivery *d, struct lane *lane, uint64_t number)
{
        while (!list_is_empty(&lane->flying)) {
                struct message *last = CONTAINER_OF(lane->flying.previous, struct message, lane_link);

                if (last->number <= number)
                        break;
                land(d, last);
                come_back(d, last);
        }
}

/* One more try, or none is left. */
static void retry(struct delivery *d, struct message *m)
{
        struct lane *lane = m->lane;

        land(d, m);
        if (m->retry_count >= d->retry_max) {
                park(d, m, NULL);
                if (lane)
                        lane_settle(d, lane);
                return;
        }
        m->retry_count++;
        d->retried++;
        come_back(d, m);
        if (lane)
                recall_later(d, lane, m->number);
}

/* The lane of `m` is settled anew after `m` has gone. */
static void finish_flying(struct delivery *d, struct message *m)
{
        struct lane *lane = m->lane;

        land(d, m);
        finish(d, m);
        if (lane)
                lane_settle(d, lane);
}

void delivery_leave(struct delivery *d, struct slot *s, bool is_retry)
{
        assert(s->is_joined);
        s->is_joined = false;
        if (s->is_open)
                slot_close(s);
        list_remove(&s->link);
        d->slot_count--;
        while (!list_is_empty(&s->assigned)) {
                struct message *m = CONTAINER_OF(s->assigned.previous, struct message, link);

                land(d, m);
                come_back(d, m);
        }
        /* From the last to the first: what one recalls has come back already. */
        while (!list_is_empty(&s->given)) {
                struct message *m = CONTAINER_OF(s->given.previous, struct message, link);

                if (is_retry) {
                        retry(d, m);
                        continue;
                }
                land(d, m);
                come_back(d, m);
        }
        assert(s->in_flight == 0);
        if (has_lanes(d))
                lanes_leave(d, s);
        assert(s->ready_count == 0);
        slot_forget(s);
}

struct message *delivery_peek(struct slot *s)
{
        return list_is_empty(&s->assigned) ? NULL : CONTAINER_OF(s->assigned.next, struct message, link);
}

void delivery_want(struct delivery *d, struct slot *s)
{
        enum { WANTED_AHEAD = 16 };
        unsigned n = 0;

        LIST_EACH (at, &s->assigned) {
                struct message *m = CONTAINER_OF(at, struct message, link);

                if (!m->payload && list_is_empty(&m->load_link))
                        list_add_last(&d->loads, &m->load_link);
                if (++n == WANTED_AHEAD)
                        return;
        }
}

void delivery_give(struct delivery *d, struct message *m, uint64_t now_us)
{
        struct slot *s = m->slot;

        assert(m->state == MESSAGE_FLYING);
        assert(!m->is_given);
        list_remove(&m->link);
        list_add_last(&s->given, &m->link);
        m->is_given = true;
        m->given_us = now_us;
        start_time(d, m, now_us);
        s->given_total++;
        payload_free(&d->payloads, &m->payload);
}

void delivery_ask(struct delivery *d, struct slot *s)
{
        if (LIKELY(!s->is_stalled))
                return;
        s->is_stalled = false;
        if (has_lanes(d))
                lanes_join(d, s);
        slot_look(d, s);
}

bool delivery_ack(struct delivery *d, struct slot *s, const struct event_id *id, uint64_t now_us)
{
        struct message *m = flying_find(d, s, id);

        if (!m)
                return false;
        d->acked++;
        if (s->on_measure)
                s->on_measure(s, now_us - m->given_us);
        finish_flying(d, m);
        return true;
}

static char *reason_of(struct bytes reason)
{
        enum { REASON_SIZE_MAX = 4096 };
        uint64_t size = MIN(reason.size, (size_t)REASON_SIZE_MAX);
        char *text = memory_new(size + 1);

        if (size)
                memcpy(text, reason.data, size);
        return text;
}

bool delivery_nack(struct delivery *d, struct slot *s, const struct event_id *id, enum nack_action action,
        struct bytes reason)
{
        struct message *m = flying_find(d, s, id);
        struct lane *lane;

        if (!m)
                return false;
        d->nacked++;
        switch (action) {
        case NACK_PARK:
                lane = m->lane;
                land(d, m);
                park(d, m, reason_of(reason));
                if (lane)
                        lane_settle(d, lane);
                break;
        case NACK_SKIP:
                d->skipped++;
                finish_flying(d, m);
                break;
        case NACK_STOP: /* stays in flight until the consumer leaves or its time is over */
                break;
        default:
                retry(d, m);
        }
        return true;
}

void delivery_expire(struct delivery *d, uint64_t now_us)
{
        while (!list_is_empty(&d->due)) {
                struct message *m = CONTAINER_OF(d->due.next, struct message, due_link);
                struct slot *s = m->slot;
                struct lane *lane = m->lane;

                if (m->due_us > now_us)
                        return;
                d->timed_out++;
                if (m->is_given) {
                        retry(d, m);
                        continue;
                }
                land(d, m);
                come_back(d, m);
                if (lane)
                        recall_later(d, lane, m->number);
                if (s->is_stalled || s->is_asking)
                        continue;
                s->is_stalled = true;
                slot_look(d, s);
                if (has_lanes(d))
                        lanes_leave(d, s);
        }
}

uint64_t delivery_next_due(const struct delivery *d)
{
        return list_is_empty(&d->due) ? UINT64_MAX
                                      : CONTAINER_OF(d->due.next, struct message, due_link)->due_us;
}

void delivery_parked(struct delivery *d, struct message *m)
{
        assert(m->state == MESSAGE_PARKING);
        d->parking_count--;
        finish(d, m);
}

void delivery_gone(struct delivery *d, struct message *m)
{
        if (m->state == MESSAGE_FLYING) {
                finish_flying(d, m);
                return;
        }
        assert(m->state == MESSAGE_PARKING);
        d->parking_count--;
        finish(d, m);
}

/* ---- what is going on ---- */

uint64_t delivery_resume(const struct delivery *d, uint64_t cursor)
{
        const struct span *s = &d->span;

        return span_size(s) ? s->places[s->first & (s->capacity - 1)]->number : cursor;
}

uint64_t delivery_finished_above(const struct delivery *d)
{
        uint64_t all = (uint64_t)d->pending_count + d->flying_count + d->parking_count;

        return span_size(&d->span) - (all - d->replay_count);
}

bool delivery_is_empty(const struct delivery *d)
{
        return !d->pending_count && !d->flying_count && !d->parking_count;
}

bool delivery_is_hungry(const struct delivery *d)
{
        if (!has_lanes(d))
                return !list_is_empty(&d->open);
        LIST_EACH (at, &d->open)
                if (!CONTAINER_OF(at, struct slot, open_link)->ready_count)
                        return true;
        return false;
}

void delivery_drop_payloads(struct delivery *d)
{
        const struct span *s = &d->span;

        for (uint64_t i = s->first; i < s->next; i++) {
                struct message *m = s->places[i & (s->capacity - 1)];

                /* If what somebody waits for went too, pools could take turns at it for ever. */
                if (m && !(m->is_awaited && m->state == MESSAGE_FLYING && !m->is_given))
                        payload_free(&d->payloads, &m->payload);
        }
}
