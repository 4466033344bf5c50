/* Durable subscriptions one by one, for /metrics: those that are furthest behind, since there may be
 * thousands and a scrape is paid for each. How many are left out is a metric, too; the totals count all. */
#include "ops/room.h"

#include <stdlib.h>

enum { SHOWN_MAX = 100 };

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
        uint64_t left_out;
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

        if (s->count == SHOWN_MAX) {
                s->left_out++;
                if (!is_less_behind(&s->heap[0], &shown))
                        return;
        }
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

void subscriptions_add(struct ops *ops, struct buffer *out)
{
        struct selection *s = MEMORY_NEW(struct selection);

        emitter_each(ops->emitter, BYTES_EMPTY, BYTES_EMPTY, UINT32_MAX, consider, s);
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
        buffer_format(out, "nilo_subscription_left_out %llu\n", (unsigned long long)s->left_out);
        arena_fini(&s->arena);
        free(s);
}
