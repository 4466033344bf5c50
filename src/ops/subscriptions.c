/* Durable subscriptions one by one, for /metrics: those that are furthest behind. There may be tens of
 * thousands, and a look at one costs microseconds in which nobody else is served: so a scrape looks again at
 * those that it showed last, and at the next so many of the others. How many are left out is a metric, too;
 * the totals count all. */
#include "ops/room.h"

#include <stdlib.h>

enum { SHOWN_MAX = 100, LOOKED_AT_MAX = 1000 };

struct shown {
        struct bytes stream; /* in the arena, as the next */
        struct bytes group;
        bool is_of_stream; /* numbers are revisions */
        uint64_t lag_events;
        uint64_t lag_us;
        uint64_t connections, parked, in_flight, processed;
        bool has_checkpoint;
        uint64_t checkpoint;
        bool has_last;
        uint64_t last;
};

/* The first of a heap is the one that goes first: the least behind. */
struct selection {
        struct arena arena;
        struct shown heap[SHOWN_MAX];
        unsigned count;
        struct ops_subscriptions *kept;
};

/* ---- the furthest behind ---- */

/* Of those that are not behind, the ones with parked events and the busy ones are worth more. */
static bool is_less_behind(const struct shown *a, const struct shown *b)
{
        if (a->lag_events != b->lag_events)
                return a->lag_events < b->lag_events;
        if (a->lag_us != b->lag_us)
                return a->lag_us < b->lag_us;
        return a->parked != b->parked ? a->parked < b->parked : a->processed < b->processed;
}

static void swap(struct shown *a, struct shown *b)
{
        struct shown kept = *a;

        *a = *b;
        *b = kept;
}

static void sink(struct selection *s)
{
        for (unsigned at = 0;;) {
                unsigned least = at;

                for (unsigned child = 2 * at + 1; child <= 2 * at + 2 && child < s->count; child++)
                        if (is_less_behind(&s->heap[child], &s->heap[least]))
                                least = child;
                if (least == at)
                        return;
                swap(&s->heap[at], &s->heap[least]);
                at = least;
        }
}

static void rise(struct selection *s, unsigned at)
{
        while (at && is_less_behind(&s->heap[at], &s->heap[(at - 1) / 2])) {
                swap(&s->heap[at], &s->heap[(at - 1) / 2]);
                at = (at - 1) / 2;
        }
}

static bool is_shown(const struct selection *s, const struct emitter_info *info)
{
        for (unsigned i = 0; i < s->count; i++)
                if (bytes_equal(s->heap[i].group, info->group) &&
                        bytes_equal(s->heap[i].stream, info->stream))
                        return true;
        return false;
}

static void consider(void *arg, const struct emitter_info *info)
{
        struct selection *s = arg;
        struct shown shown = {
                .is_of_stream = selector_kind(info->definition->selector) == SELECT_STREAM,
                .lag_events = info->lag_events,
                .lag_us = info->lag_us,
                .connections = info->consumer_count,
                .parked = info->parked,
                .in_flight = info->in_flight,
                .processed = info->total,
                .has_checkpoint = info->has_checkpoint,
                .checkpoint = info->checkpoint,
                .has_last = info->has_last,
                .last = info->last,
        };

        if ((s->count == SHOWN_MAX && !is_less_behind(&s->heap[0], &shown)) || is_shown(s, info))
                return;
        shown.stream = arena_copy(&s->arena, info->stream);
        shown.group = arena_copy(&s->arena, info->group);
        if (s->count == SHOWN_MAX) {
                s->heap[0] = shown;
                sink(s);
        } else {
                s->heap[s->count] = shown;
                rise(s, s->count++);
        }
}

/* In the order of the keys, round and round. */
static void consider_next(void *arg, const struct emitter_info *info)
{
        struct selection *s = arg;
        struct buffer *after = &s->kept->after;

        buffer_clear(after);
        buffer_add_bytes(after, info->stream);
        buffer_add_string(after, "::");
        buffer_add_bytes(after, info->group);
        consider(s, info);
}

/* No name has a zero byte in it, so that is what stands between them. */
static void look_again(struct ops *ops, struct selection *s)
{
        struct bytes shown = buffer_bytes(&s->kept->shown);
        const uint8_t *at = shown.data;

        while (at < shown.data + shown.size) {
                struct bytes stream = bytes_of_string((const char *)at);
                struct bytes group = bytes_of_string((const char *)at + stream.size + 1);

                /* One that was deleted meanwhile is left out. */
                (void)emitter_info(ops->emitter, stream, group, consider, s);
                at = group.data + group.size + 1;
        }
}

static void keep(struct selection *s)
{
        struct buffer *shown = &s->kept->shown;

        buffer_clear(shown);
        for (unsigned i = 0; i < s->count; i++) {
                buffer_add_bytes(shown, s->heap[i].stream);
                buffer_add_u8(shown, 0);
                buffer_add_bytes(shown, s->heap[i].group);
                buffer_add_u8(shown, 0);
        }
}

static void look_around(struct ops *ops, struct selection *s)
{
        struct bytes after = arena_copy(&s->arena, buffer_bytes(&s->kept->after));
        unsigned looked_at = emitter_each(ops->emitter, BYTES_EMPTY, after, LOOKED_AT_MAX, consider_next, s);

        if (looked_at == LOOKED_AT_MAX)
                return;
        buffer_clear(&s->kept->after);
        emitter_each(ops->emitter, BYTES_EMPTY, BYTES_EMPTY, LOOKED_AT_MAX - looked_at, consider_next, s);
}

/* ---- as text ---- */

/* Label values escape these three. */
static void add_label(struct buffer *out, struct bytes value)
{
        for (size_t i = 0; i < value.size; i++) {
                uint8_t b = value.data[i];

                if (b == '\\' || b == '"')
                        buffer_add_u8(out, '\\');
                if (b == '\n')
                        buffer_add_string(out, "\\n");
                else
                        buffer_add_u8(out, b);
        }
}

static void add_sample(struct buffer *out, const char *name, const struct shown *s, double value)
{
        buffer_format(out, "%s{event_stream_id=\"", name);
        add_label(out, s->stream);
        buffer_add_string(out, "\",group_name=\"");
        add_label(out, s->group);
        buffer_format(out, "\"} %.17g\n", value);
}

void subscriptions_add(struct ops *ops, uint64_t definitions, struct buffer *out)
{
        struct selection *s = MEMORY_NEW(struct selection);

        s->kept = &ops->subscriptions;
        look_again(ops, s);
        look_around(ops, s);
        keep(s);
#define SUBSCRIPTION_METRIC(name, kind, is_there, value, help)                                               \
        metrics_add_family(out, name, kind, help);                                                           \
        for (unsigned i = 0; i < s->count; i++) {                                                            \
                const struct shown *one = &s->heap[i];                                                       \
                                                                                                             \
                if (is_there)                                                                                \
                        add_sample(out, name, one, (double)(value));                                         \
        }
#include "ops/subscriptions.def"
#undef SUBSCRIPTION_METRIC
        metrics_add_family(out, "nilo_subscription_left_out", GAUGE,
                "Durable subscriptions that are less behind than those shown one by one");
        buffer_format(out, "nilo_subscription_left_out %llu\n",
                (unsigned long long)(definitions > s->count ? definitions - s->count : 0));
        arena_fini(&s->arena);
        free(s);
}

void subscriptions_close(struct ops *ops)
{
        buffer_fini(&ops->subscriptions.after);
        buffer_fini(&ops->subscriptions.shown);
}
