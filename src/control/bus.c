/* The bus: one ring of facts, and watchers that each have a cursor in it.
 *
 * Publishing writes a slot and looks at one bit: does any watcher want this type? Only if so, the type is
 * noted as news, and the end of the turn asks each watcher that wants it to take. Nothing is copied per
 * watcher.
 *
 * A cursor that the ring has overrun has lost facts. How many of them the watcher wanted is told exactly:
 * `seen` counts the wanted facts before the cursor, the statistics count all of each type, and what is still
 * in the ring can be counted there; the rest is lost. So facts that nobody wanted of it never look like a
 * loss.
 *
 * A delivery has a horizon, the newest fact at its begin. Facts published from inside wait for the next
 * delivery, as do watchers that join from inside, so that no two watchers can keep a turn going for ever.
 *
 * Whether a fact was published before or after the hook ran in this turn, or outside any turn, cannot be seen
 * from here, so the first news since a delivery always asks for one more turn: a turn too many is a poll that
 * finds nothing, a turn too few would leave a watcher asleep. */
#include "control/room.h"

#include <stdlib.h>

#include "base/memory.h"

static_assert(FACTS <= UINT8_MAX, "types are kept in a byte each");
static_assert(sizeof(union slot) == SLOT_SIZE, "a slot holds a fact");

static bool has_bit(const uint64_t *set, unsigned type)
{
        return set[type / 64] >> (type % 64) & 1;
}

static void add_bit(uint64_t *set, unsigned type)
{
        set[type / 64] |= (uint64_t)1 << (type % 64);
}

static void add_set(uint64_t *set, const uint64_t *more)
{
        for (unsigned i = 0; i < FACT_TYPE_WORDS; i++)
                set[i] |= more[i];
}

static bool sets_meet(const uint64_t *a, const uint64_t *b)
{
        uint64_t both = 0;

        for (unsigned i = 0; i < FACT_TYPE_WORDS; i++)
                both |= a[i] & b[i];
        return both;
}

static uint64_t oldest(const struct control *control)
{
        return control->stats.published - MIN(control->stats.published, control->capacity);
}

/* ---- publishing ---- */

static void note_news(struct control *control, enum fact_type type)
{
        add_bit(control->news, type);
        os_turn_again(control->os);
}

/* Only what is in use, so that a fact touches half of its slot: the ring is larger than a processor's nearer
 * caches. Behind a name or a text stands what was there before; nobody looks at it. */
static void copy_payload(struct fact_payload *to, const struct fact_payload *from)
{
        enum { HALF = FACT_STREAM_SIZE / 2 };

        memcpy(to, from, offsetof(struct fact_payload, stream));
        if (from->stream_size)
                memcpy(to->stream, from->stream, HALF);
        if (from->stream_size > HALF)
                memcpy(to->stream + HALF, from->stream + HALF, HALF);
        if (from->text_size)
                memcpy(to->text, from->text, FACT_TEXT_SIZE);
}

void control_publish(struct control *control, enum fact_type type, const struct fact_payload *payload)
{
        uint64_t sequence = control->stats.published, at = sequence & (control->capacity - 1);
        struct os_time now = os_turn_time(control->os);
        struct fact *fact = &control->slots[at].fact;

        assert((unsigned)type < FACTS);
        fact->sequence = sequence;
        fact->monotonic_us = now.monotonic_us;
        fact->wall_us = now.wall_us;
        fact->term = control->term;
        fact->type = (uint16_t)type;
        fact->store = 0;
        if (payload) {
                assert(payload->stream_size <= FACT_STREAM_SIZE);
                assert(payload->text_size <= FACT_TEXT_SIZE);
                copy_payload(&fact->payload, payload);
        } else {
                memset(&fact->payload, 0, sizeof fact->payload);
        }
        control->types[at] = (uint8_t)type;
        control->stats.published = sequence + 1;
        control->stats.published_by_type[type]++;
        if (has_bit(control->wanted, type))
                note_news(control, type);
}

void control_set_term(struct control *control, uint64_t term)
{
        control->term = term;
}

uint64_t control_boot_id(const struct control *control)
{
        return control->boot_id;
}

uint64_t control_next_write_id(struct control *control)
{
        return ++control->write_id;
}

/* ---- watchers ---- */

void bus_set_wants(struct control_watcher *watcher, enum subsystem publisher)
{
        memset(watcher->wants, 0, sizeof watcher->wants);
        for (unsigned type = 0; type < FACTS; type++) {
                const struct fact_description *d = fact_describe(type);

                if (watcher->categories >> d->category & 1 && d->level <= watcher->level &&
                        (publisher == SUBSYSTEMS || publisher == d->publisher))
                        add_bit(watcher->wants, type);
        }
}

static uint64_t count_wanted(const struct control *control, const struct control_watcher *watcher)
{
        uint64_t n = 0;

        for (unsigned type = 0; type < FACTS; type++)
                if (has_bit(watcher->wants, type))
                        n += control->stats.published_by_type[type];
        return n;
}

static uint64_t count_wanted_in_ring(const struct control *control, const struct control_watcher *watcher)
{
        uint64_t n = 0;

        for (uint64_t s = oldest(control); s < control->stats.published; s++)
                n += has_bit(watcher->wants, control->types[s & (control->capacity - 1)]);
        return n;
}

void bus_join(struct control *control, struct control_watcher *watcher, bool from_oldest)
{
        watcher->control = control;
        watcher->missed = 0;
        watcher->seen = count_wanted(control, watcher);
        watcher->next_sequence = control->stats.published;
        watcher->joined = control->is_delivering ? control->deliveries : 0;
        watcher->is_told = from_oldest;
        if (from_oldest) {
                watcher->seen -= count_wanted_in_ring(control, watcher);
                watcher->next_sequence = oldest(control);
                control->has_told = true;
                os_turn_again(control->os);
        }
        list_add_last(&control->watchers, &watcher->link);
        control->stats.watchers++;
        add_set(control->wanted, watcher->wants);
}

void control_watch(struct control *control, struct control_watcher *watcher, bool from_oldest)
{
        assert(watcher->on_facts);
        assert(!watcher->control);
        assert(watcher->level < LEVELS);
        bus_set_wants(watcher, SUBSYSTEMS);
        bus_join(control, watcher, from_oldest);
}

void control_unwatch(struct control_watcher *watcher)
{
        struct control *control = watcher->control;

        if (!control)
                return;
        if (control->next_to_tell == &watcher->link)
                control->next_to_tell = watcher->link.next;
        list_remove(&watcher->link);
        watcher->control = NULL;
        assert(control->stats.watchers > 0);
        control->stats.watchers--;
        memset(control->wanted, 0, sizeof control->wanted);
        LIST_EACH (at, &control->watchers)
                add_set(control->wanted, CONTAINER_OF(at, struct control_watcher, link)->wants);
}

/* ---- taking ---- */

static void count_misses(struct control_watcher *watcher)
{
        struct control *control = watcher->control;
        uint64_t before_ring = count_wanted(control, watcher) - count_wanted_in_ring(control, watcher), lost;

        assert(before_ring >= watcher->seen);
        lost = before_ring - watcher->seen;
        watcher->next_sequence = oldest(control);
        watcher->seen = before_ring;
        watcher->missed += lost;
        control->stats.missed_by_watchers += lost;
}

bool bus_seek(struct control_watcher *watcher, uint64_t limit)
{
        struct control *control = watcher->control;

        if (UNLIKELY(watcher->next_sequence < oldest(control)))
                count_misses(watcher);
        for (; watcher->next_sequence < limit; watcher->next_sequence++)
                if (has_bit(watcher->wants, control->types[watcher->next_sequence & (control->capacity - 1)]))
                        return true;
        return false;
}

uint64_t bus_take_missed(struct control_watcher *watcher)
{
        uint64_t missed = watcher->missed;

        watcher->missed = 0;
        return missed;
}

void bus_take_found(struct control_watcher *watcher, struct fact *ret)
{
        struct control *control = watcher->control;

        assert(watcher->next_sequence >= oldest(control));
        assert(watcher->next_sequence < control->stats.published);
        *ret = control->slots[watcher->next_sequence & (control->capacity - 1)].fact;
        assert(ret->sequence == watcher->next_sequence);
        watcher->next_sequence++;
        watcher->seen++;
}

void bus_make_dropped(struct control *control, uint64_t count, const char *what, struct fact *ret)
{
        struct os_time now = os_turn_time(control->os);

        *ret = (struct fact){
                .sequence = control->stats.published,
                .monotonic_us = now.monotonic_us,
                .wall_us = now.wall_us,
                .term = control->term,
                .type = FACT_facts_dropped,
                .payload.count = (uint32_t)MIN(count, UINT32_MAX),
        };
        fact_set_text(&ret->payload, "%s", what);
}

bool control_take(struct control_watcher *watcher, struct fact *ret, uint64_t *ret_missed)
{
        struct control *control = watcher->control;
        bool is_found;

        if (!control)
                return false;
        is_found = bus_seek(watcher, control->is_delivering ? control->horizon : control->stats.published);
        if (!is_found && !watcher->missed)
                return false;
        *ret_missed = bus_take_missed(watcher);
        if (UNLIKELY(*ret_missed)) {
                control->unsaid_misses += *ret_missed;
                control->unsaid_watchers++;
                os_turn_again(control->os);
        }
        if (is_found)
                bus_take_found(watcher, ret);
        else
                bus_make_dropped(control, *ret_missed, "this watcher", ret);
        return true;
}

/* ---- delivery ---- */

/* One fact for all misses since the last one, so that telling of misses cannot itself fill the ring. */
static void say_misses(struct control *control)
{
        struct fact_payload payload = {.count = (uint32_t)MIN(control->unsaid_misses, UINT32_MAX)};

        if (!control->unsaid_misses)
                return;
        fact_set_text(&payload, "watchers: %llu", (unsigned long long)control->unsaid_watchers);
        control->unsaid_misses = 0;
        control->unsaid_watchers = 0;
        control_publish(control, FACT_facts_dropped, &payload);
}

static void tell(struct control *control, struct control_watcher *watcher, const uint64_t *news)
{
        if (watcher->joined == control->deliveries)
                return;
        if (!watcher->is_told && !sets_meet(watcher->wants, news))
                return;
        watcher->is_told = false;
        if (bus_seek(watcher, control->horizon) || watcher->missed)
                watcher->on_facts(watcher);
}

static bool has_news(const struct control *control)
{
        uint64_t any = control->has_told | (control->unsaid_misses > 0);

        for (unsigned i = 0; i < FACT_TYPE_WORDS; i++)
                any |= control->news[i];
        return any;
}

static void deliver(struct os_turn_hook *hook)
{
        struct control *control = hook->arg;
        uint64_t news[FACT_TYPE_WORDS];

        if (!has_news(control))
                return;
        assert(!control->is_delivering);
        say_misses(control);
        memcpy(news, control->news, sizeof news);
        memset(control->news, 0, sizeof control->news);
        control->has_told = false;
        control->deliveries++;
        control->horizon = control->stats.published;
        control->is_delivering = true;
        control->next_to_tell = control->watchers.next;
        while (control->next_to_tell != &control->watchers) {
                struct list *at = control->next_to_tell;

                control->next_to_tell = at->next;
                tell(control, CONTAINER_OF(at, struct control_watcher, link), news);
        }
        control->next_to_tell = NULL;
        control->is_delivering = false;
        if (control->loggers.has_news)
                loggers_drain(control, control->horizon);
}

/* ---- birth and end ---- */

int control_open(const struct control_options *options, struct control **ret)
{
        struct control *control = MEMORY_NEW(struct control);
        uint64_t wish = options->ring_facts ? options->ring_facts : RING_FACTS_DEFAULT;

        assert(options->os);
        assert(options->log_level < LEVELS);
        control->os = options->os;
        for (control->capacity = RING_FACTS_MIN; control->capacity < wish;)
                control->capacity *= 2;
        control->slots = memory_new_array(control->capacity, sizeof control->slots[0]);
        control->types = memory_new_array(control->capacity, sizeof control->types[0]);
        list_init(&control->watchers);
        os_random(control->os, &control->boot_id, sizeof control->boot_id);
        if (options->node_name)
                memcpy(control->node_name, options->node_name,
                        MIN(strlen(options->node_name), (size_t)NODE_NAME_SIZE_MAX));
        control->plane.readiness[SUBSYSTEM_CONTROL] = READINESS_READY;
        loggers_open(control, options);
        control->hook = (struct os_turn_hook){.fn = deliver, .arg = control};
        os_turn_hook_add(control->os, &control->hook);
        *ret = control;
        return 0;
}

void control_close(struct control **control)
{
        struct control *c = *control;

        *control = NULL;
        if (!c)
                return;
        assert(!c->is_delivering);
        os_turn_hook_remove(&c->hook);
        loggers_close(c);
        /* A watcher that outlives the bus must be able to stop watching later. */
        while (!list_is_empty(&c->watchers))
                control_unwatch(CONTAINER_OF(c->watchers.next, struct control_watcher, link));
        free(c->slots);
        free(c->types);
        free(c);
}

void control_stats(const struct control *control, struct control_stats *ret)
{
        *ret = control->stats;
        ret->log_lines_dropped = control->loggers.sink.dropped_total;
}
