/* The stream of definitions: one event for each mutation, folded by key.
 *
 * It is read at the start of duties, some hundred events in a turn. When it holds more than twice the live
 * definitions and a thousand, the live ones are written again behind the others in one atomic append that
 * also hides what was before, so its length follows the number of subscriptions and not their history. Only
 * this room writes to it; what somebody else appends is taken in by the monitor. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

enum { EVENTS_PER_TURN = 256, COMPACT_SLACK = 1000 };
#define COMPACT_SIZE_MAX (32 * MIB)
static_assert(COMPACT_SIZE_MAX < LIMIT_APPEND_SIZE_MAX, "one append");

/* ---- folding ---- */

/* Where the delivery begins that `d` and `extra` ask for, as of its event at `position`. */
static void resolve_start(struct emitter *e, const struct emitter_definition *d, uint64_t position,
        struct definition_extra *extra)
{
        struct store_stream_info info;

        if (extra->has_start)
                return;
        extra->has_start = true;
        extra->start = d->from == FROM_NUMBER ? d->number : 0;
        if (d->from != FROM_END)
                return;
        /* Of all streams "end" is behind the event that defines it. */
        extra->start = position + 1;
        if (selector_kind(d->selector) == SELECT_STREAM)
                extra->start = store_stream_info(e->store, d->stream, &info) == 0 && info.has_events
                                       ? info.last_revision + 1
                                       : 0;
}

static bool is_same(const struct pool *p, struct bytes json)
{
        struct buffer known = {0};
        bool is_equal;

        definition_to_log(&p->definition.d, &p->extra, &known);
        is_equal = bytes_equal(buffer_bytes(&known), json);
        buffer_fini(&known);
        return is_equal;
}

static void take_set(struct emitter *e, const struct event_view *event, struct arena *arena)
{
        struct emitter_definition d;
        struct definition_extra extra;
        struct definition owned = {0};
        struct selector *selector = NULL;
        char why[256] = "";
        struct pool *p;
        unsigned at;
        const char *problem = NULL;

        if (!definition_from_log(event->data, arena, &d, &selector, &extra, why, sizeof why))
                problem = why;
        else
                problem = definition_problem(&d);
        if (!problem && e->pool_count >= e->subscriptions_max)
                problem = "too many subscriptions";
        if (problem) {
                emitter_publish(e, FACT_subscription_failed, DEFINITIONS_STREAM, event->position, 1, problem);
                selector_free(&selector);
                return;
        }
        p = emitter_find_any(e, d.stream, d.group, &at);
        if (p && p->is_defined && is_same(p, event->data)) {
                selector_free(&selector);
                return;
        }
        resolve_start(e, &d, event->position, &extra);
        definition_copy(&owned, &d);
        selector_free(&selector);
        if (!p)
                p = pool_new(e, d.stream, d.group);
        pool_define(p, &owned, &extra);
        if (!e->is_catching_up)
                return;
        pool_up(p);
        emitter_publish(e, FACT_emitter_pool_repaired, p->key, event->position, 1,
                "a definition that nobody here had written was taken in");
}

static void take_removed(struct emitter *e, const struct event_view *event, struct arena *arena)
{
        struct bytes stream, group;
        bool is_string;
        struct pool *p;
        unsigned at;

        (void)arena;
        if (!json_member(event->data, BYTES_LITERAL("stream"), &stream, &is_string) || !is_string ||
                !json_member(event->data, BYTES_LITERAL("group"), &group, &is_string) || !is_string) {
                emitter_publish(e, FACT_subscription_failed, DEFINITIONS_STREAM, event->position, 1,
                        "an event of the definitions names nothing");
                return;
        }
        p = emitter_find_any(e, stream, group, &at);
        /* What is under way for the key comes after this in the log, or knows already. */
        if (!p || !p->is_defined || !list_is_empty(&p->mutations) || p->definition.d.is_transient)
                return;
        if (e->is_catching_up)
                emitter_publish(e, FACT_emitter_pool_repaired, p->key, event->position, 1,
                        "a pool whose definition is gone was stopped");
        pool_drop_consumers(p, "the subscription was deleted", true);
        emitter_remove_pool(e, p);
        e->defined_count--;
        pool_free(&p);
}

static void take(struct emitter *e, const struct event_view *event, struct arena *arena)
{
        if (e->definitions_next == 0 && !e->is_catching_up)
                e->definitions_first = event->revision;
        e->definitions_next = event->revision + 1;
        if (bytes_equal(event->type, SUBSCRIPTION_SET))
                take_set(e, event, arena);
        else if (bytes_equal(event->type, SUBSCRIPTION_REMOVED))
                take_removed(e, event, arena);
        arena_reset(arena);
}

/* ---- reading ---- */

static void on_ready(void *arg)
{
        struct emitter *e = arg;

        e->definitions_wait = false;
        e->has_definitions_work = true;
        emitter_again(e);
}

static void loaded(struct emitter *e)
{
        store_reader_close(&e->definitions);
        e->has_definitions_work = false;
        if (e->is_catching_up) {
                e->is_catching_up = false;
                return;
        }
        emitter_loaded(e);
}

static int open_reader(struct emitter *e)
{
        struct store_read_options options = {
                .stream = DEFINITIONS_STREAM,
                .from = FROM_NUMBER,
                .number = e->is_catching_up ? e->definitions_next : 0,
                .limit = UINT64_MAX,
                .is_follow = true,
                .on_ready = on_ready,
                .arg = e,
        };

        if (!e->is_catching_up)
                e->definitions_next = e->definitions_first = 0;
        return store_reader_open(e->store, &options, &e->definitions);
}

void definitions_load(struct emitter *e)
{
        CLEANUP(arena_fini) struct arena arena = {0};
        struct store_read_item item;
        int r = 0;

        if (!e->definitions)
                r = open_reader(e);
        for (unsigned n = 0; !r && n < EVENTS_PER_TURN; n++) {
                r = store_reader_next(e->definitions, &item);
                if (!r && item.has_event)
                        take(e, &item.event, &arena);
        }
        if (!r || r == STORE_READ_YIELD) {
                emitter_again(e);
                return;
        }
        if (r == STORE_READ_WAIT) {
                e->has_definitions_work = false;
                e->definitions_wait = true;
                return;
        }
        if (r != STORE_READ_END && r != STORE_READ_DELETED)
                /* What could be read is served; what could not is said, and the damage is the store's to
                 * tell. */
                emitter_publish(e, FACT_subscription_failed, DEFINITIONS_STREAM, e->definitions_next, 0,
                        r == STORE_READ_CORRUPT ? "the definitions are damaged"
                                                : "the definitions cannot be read");
        loaded(e);
}

void definitions_end(struct emitter *e)
{
        store_reader_close(&e->definitions);
        e->has_definitions_work = false;
        e->definitions_wait = false;
        e->is_catching_up = false;
        e->is_compacting = false;
}

/* ---- what this room writes ---- */

void definitions_note(struct emitter *e, uint64_t revision)
{
        /* A gap is somebody else's event: the monitor reads from there. */
        if (revision == e->definitions_next)
                e->definitions_next = revision + 1;
}

static void compacted(struct flight *f, const struct store_append_result *result)
{
        struct emitter *e = f->emitter;

        e->is_compacting = false;
        if (result->verdict != STORE_OK)
                return; /* the next mutation tries again */
        if (e->definitions_next == f->number) {
                e->definitions_first = f->number;
                e->definitions_next = result->streams[1].revision + 1;
        }
}

void definitions_compact(struct emitter *e)
{
        struct store_append_stream streams[2] = {
                {BYTES_LITERAL("$$$nilo-subscriptions"), {.kind = EXPECTED_ANY}},
                {DEFINITIONS_STREAM, {.kind = EXPECTED_EXACT, .revision = e->definitions_next - 1}},
        };
        struct store_append append = {.streams = streams, .stream_count = 2};
        struct store_append_event *events;
        struct buffer text = {0};
        size_t *ends;
        unsigned count = 0;

        if (e->is_compacting || e->mutations_under_way || e->is_catching_up || e->is_stopping ||
                e->definitions_next - e->definitions_first <= 2ull * e->defined_count + COMPACT_SLACK)
                return;
        ends = memory_new_array(e->defined_count + 1, sizeof *ends);
        buffer_format(&text, "{\"$tb\":%llu}", (unsigned long long)e->definitions_next);
        ends[count++] = text.size;
        for (unsigned i = 0; i < e->pool_count && text.size < COMPACT_SIZE_MAX; i++) {
                struct pool *p = e->pools[i];

                if (!p->is_defined || p->definition.d.is_transient)
                        continue;
                definition_to_log(&p->definition.d, &p->extra, &text);
                ends[count++] = text.size;
        }
        events = memory_new_array(count, sizeof *events);
        for (unsigned i = 0; i < count; i++) {
                size_t start = i ? ends[i - 1] : 0;

                events[i].stream = i ? 1 : 0;
                events[i].draft.type = i ? SUBSCRIPTION_SET : EVENT_TYPE_METADATA;
                events[i].draft.content_type = CONTENT_JSON;
                events[i].draft.data = bytes_of(text.data + start, ends[i] - start);
                emitter_new_id(e, &events[i].draft.id);
        }
        append.events = events;
        append.event_count = count;
        append.write_id = control_next_write_id(e->control);
        if (text.size < COMPACT_SIZE_MAX) {
                e->is_compacting = true;
                flight_start(e, NULL, &append, compacted, NULL, e->definitions_next, count);
        }
        free(events);
        free(ends);
        buffer_fini(&text);
}
