#include "kurrent/room.h"

enum { SCRATCH_KEPT_MAX = 1024 * 1024, IDLE_LOOK_US = 5 * 1000 * 1000 };

/* ---- appends whose end does not come ---- */

/* They give their memory back. The timer rests while there are none. */
static void on_idle_timer(struct os_timer *timer)
{
        struct kurrent *k = timer->arg;
        uint64_t now = os_monotonic_us(k->os);

        while (!list_is_empty(&k->unfinished)) {
                struct drafts *d = CONTAINER_OF(k->unfinished.next, struct drafts, link);

                if (now - d->touched_us < UNFINISHED_IDLE_US)
                        break;
                d->on_idle(d);
        }
        if (!list_is_empty(&k->unfinished))
                os_timer_start(k->os, timer, IDLE_LOOK_US);
}

void drafts_watch(struct kurrent *k, uint64_t memory_size)
{
        list_init(&k->unfinished);
        /* One append must fit, however little memory there is. */
        k->unfinished_size_max =
                memory_size ? MAX(memory_size, (uint64_t)DRAFTS_SIZE_MAX) : UNFINISHED_SIZE_DEFAULT;
        k->idle_timer.fn = on_idle_timer;
        k->idle_timer.arg = k;
}

void drafts_unwatch(struct kurrent *k)
{
        assert(list_is_empty(&k->unfinished));
        assert(k->unfinished_size == 0);
        os_timer_stop(&k->idle_timer);
        arena_fini(&k->spare_arena);
        buffer_fini(&k->spare_events);
}

static void touch(struct drafts *d)
{
        struct kurrent *k = d->kurrent;
        uint64_t now = os_turn_time(k->os).monotonic_us;

        if (d->touched_us == now && !list_is_empty(&d->link)) /* in its place already */
                return;
        d->touched_us = now;
        list_remove(&d->link);
        list_add_last(&k->unfinished, &d->link);
        if (!k->idle_timer.is_on)
                os_timer_start(k->os, &k->idle_timer, UNFINISHED_IDLE_US);
}

/* ---- life ---- */

void drafts_init(struct drafts *d, struct kurrent *k, void (*on_idle)(struct drafts *drafts))
{
        *d = (struct drafts){.kurrent = k,
                .on_idle = on_idle,
                .events = &d->own,
                .arena = k->spare_arena,
                .own = k->spare_events};
        k->spare_arena = (struct arena){0};
        k->spare_events = (struct buffer){0};
        list_init(&d->link);
}

void drafts_init_borrowing(struct drafts *d, struct kurrent *k)
{
        *d = (struct drafts){.kurrent = k, .events = &k->scratch};
        list_init(&d->link);
        buffer_clear(&k->scratch);
}

static void book(struct drafts *d, uint64_t size)
{
        d->held += size;
        d->kurrent->unfinished_size += size;
}

/* Leaves its memory for the next drafts, unless there is some already or it is much. */
static void leave_spare(struct drafts *d)
{
        struct kurrent *k = d->kurrent;

        if (!k->spare_arena.newest) {
                arena_reset(&d->arena);
                k->spare_arena = d->arena;
                d->arena = (struct arena){0};
        }
        if (!k->spare_events.data && d->own.capacity <= SCRATCH_KEPT_MAX) {
                buffer_clear(&d->own);
                k->spare_events = d->own;
                d->own = (struct buffer){0};
        }
}

void drafts_fini(struct drafts *d)
{
        list_remove(&d->link);
        assert(d->kurrent->unfinished_size >= d->held);
        d->kurrent->unfinished_size -= d->held;
        d->held = 0;
        leave_spare(d);
        arena_fini(&d->arena);
        buffer_fini(&d->own);
        if (d->events != &d->own && d->events->capacity > SCRATCH_KEPT_MAX)
                buffer_fini(d->events);
}

/* ---- events ---- */

bool drafts_book(struct drafts *d, size_t size, struct refusal *ret_refusal)
{
        if (d->held + size > DRAFTS_SIZE_MAX) {
                *ret_refusal = (struct refusal){.kind = REFUSAL_APPEND_TOO_LARGE,
                        .size = d->held + size,
                        .limit = LIMIT_APPEND_SIZE_MAX};
                return false;
        }
        if (d->kurrent->unfinished_size + size > d->kurrent->unfinished_size_max) {
                *ret_refusal = (struct refusal){.kind = REFUSAL_EXHAUSTED,
                        .problem = "too many unfinished appends of all clients; try again"};
                return false;
        }
        book(d, size);
        touch(d);
        return true;
}

bool drafts_hold(struct drafts *d, struct bytes message, struct bytes *ret, struct refusal *ret_refusal)
{
        if (!drafts_book(d, message.size, ret_refusal))
                return false;
        *ret = arena_copy(&d->arena, message);
        return true;
}

static const char *what_is_missing(unsigned seen)
{
        return seen & SEEN_TYPE ? "content-type" : "type";
}

static bool refuse_event(const struct event_draft *e, unsigned seen, struct refusal *ret)
{
        if (!(seen & SEEN_ID)) {
                *ret = refusal_invalid("an event has no id that is a UUID other than zero");
                return false;
        }
        if ((seen & (SEEN_TYPE | SEEN_CONTENT_TYPE)) != (SEEN_TYPE | SEEN_CONTENT_TYPE)) {
                *ret = (struct refusal){
                        .kind = REFUSAL_PROPERTY_MISSING, .problem = what_is_missing(seen), .event = e->id};
                return false;
        }
        return true;
}

static inline bool has_place(const struct drafts *d, struct refusal *ret_refusal)
{
        if (d->count < LIMIT_APPEND_EVENTS_MAX)
                return true;
        *ret_refusal = refusal_invalid("the append has too many events");
        ret_refusal->limit = LIMIT_APPEND_EVENTS_MAX;
        return false;
}

/* The event behind the last one is complete. */
static inline bool take_place(
        struct drafts *d, const struct store_append_event *event, struct refusal *ret_refusal)
{
        d->events->size += sizeof(*event);
        d->count++;
        d->size += event_draft_size(&event->draft);
        if (d->events == &d->own)
                book(d, sizeof(*event));
        if (d->size <= LIMIT_APPEND_SIZE_MAX)
                return true;
        /* Refused here already, so that the rest of it need not be kept. */
        *ret_refusal = (struct refusal){
                .kind = REFUSAL_APPEND_TOO_LARGE, .size = d->size, .limit = LIMIT_APPEND_SIZE_MAX};
        return false;
}

bool drafts_add(struct drafts *d, struct bytes proposed, struct refusal *ret_refusal)
{
        struct store_append_event *event;
        unsigned seen;

        if (!has_place(d, ret_refusal))
                return false;
        buffer_reserve(d->events, sizeof(*event));
        event = (struct store_append_event *)(void *)(d->events->data + d->events->size);
        event->stream = 0;
        if (wire_in_proposed(proposed, &event->draft, &seen)) {
                *ret_refusal = refusal_invalid("a proposed message is malformed");
                return false;
        }
        if (!refuse_event(&event->draft, seen, ret_refusal))
                return false;
        /* Most events have the type of the one before: whoever looks at types sees that by the address. */
        if (d->count && bytes_equal(event[-1].draft.type, event->draft.type))
                event->draft.type = event[-1].draft.type;
        return take_place(d, event, ret_refusal);
}

bool drafts_add_event(struct drafts *d, const struct store_append_event *event, struct refusal *ret_refusal)
{
        const struct store_append_event *before;
        struct store_append_event *added;

        if (!has_place(d, ret_refusal))
                return false;
        buffer_reserve(d->events, sizeof(*added));
        added = (struct store_append_event *)(void *)(d->events->data + d->events->size);
        *added = *event;
        before = d->count ? added - 1 : NULL;
        if (before && bytes_equal(before->draft.type, event->draft.type))
                added->draft.type = before->draft.type;
        if (d->events == &d->own)
                book(d, event->draft.metadata.size);
        return take_place(d, added, ret_refusal);
}

static struct bytes move_to(uint8_t **at, struct bytes b)
{
        struct bytes moved = bytes_of(*at, b.size);

        if (b.size)
                memcpy(*at, b.data, b.size);
        *at += b.size;
        return moved;
}

bool drafts_add_copy(struct drafts *d, struct bytes proposed, struct refusal *ret_refusal)
{
        struct event_draft *e;
        bool has_own_type;
        uint8_t *at;

        if (!drafts_book(d, proposed.size, ret_refusal) || !drafts_add(d, proposed, ret_refusal))
                return false;
        e = &((struct store_append_event *)(void *)d->events->data)[d->count - 1].draft;
        has_own_type = e->type.data >= proposed.data && e->type.data < proposed.data + proposed.size;
        at = arena_get(&d->arena, e->data.size + e->metadata.size + (has_own_type ? e->type.size : 0));
        if (has_own_type)
                e->type = move_to(&at, e->type);
        e->data = move_to(&at, e->data);
        e->metadata = move_to(&at, e->metadata);
        return true;
}

void drafts_append(struct drafts *d, const struct gateway_request *call, struct bytes stream,
        struct expected expected, uint64_t deadline_us, store_append_done *done, void *arg)
{
        struct kurrent *k = d->kurrent;
        struct store_append_stream named = {.stream = stream, .expected = expected};
        struct store_append append = {
                .streams = &named,
                .stream_count = 1,
                .events = drafts_events(d),
                .event_count = d->count,
                .write_id = control_next_write_id(k->control),
                .deadline_us = deadline_us,
                .requires_leader = call_requires_leader(call),
        };

        publish_write_requested(k, append.write_id, stream, d->count);
        store_append(gateway_store(k->gateway), &append, done, arg);
}
