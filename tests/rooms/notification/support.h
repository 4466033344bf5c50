/* What the tests of this room share: an open store on a simulated machine, appends, and consumers that write down what
 * they get. */
#ifndef TESTS_NOTIFICATION_SUPPORT_H
#define TESTS_NOTIFICATION_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "notification/notification.h"
#include "os/os_sim.h"
#include "test.h"

/* The machine of the tests that run on both: the simulated one, or the real one with its disk in memory. */
static bool is_on_memory_machine;

struct world {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        uint64_t appends_asked;
        uint64_t appends_done;
        enum store_verdict verdict; /* of the newest */
        bool is_open;
        bool is_closed;
};

struct world_options {
        uint64_t seed;
        uint32_t ring_facts;
        uint64_t segment_events_max;
        unsigned subscriptions_max;
        bool reads_are_cold;
        bool without_notification;
};

static inline void world_on_open(void *arg, int result, const char *problem)
{
        struct world *w = arg;

        if (result)
                fail_msg("the store does not open: %s", problem);
        w->is_open = true;
}

static inline void world_on_closed(void *arg)
{
        ((struct world *)arg)->is_closed = true;
}

static inline void world_on_timer(struct os_timer *timer)
{
        os_stop(timer->arg);
}

static inline void world_run_for(struct world *w, uint64_t us)
{
        struct os_timer timer = {.fn = world_on_timer, .arg = w->os};

        if (!is_on_memory_machine) {
                os_sim_run_for(w->os, us);
                return;
        }
        os_timer_start(w->os, &timer, us);
        assert_int_equal(os_run(w->os), 0);
}

/* Runs what is due, for a moment. */
static inline void world_run(struct world *w)
{
        world_run_for(w, is_on_memory_machine ? 3 * 1000 : 100 * 1000);
}

static inline void world_step(struct world *w)
{
        if (is_on_memory_machine)
                world_run_for(w, 200);
        else
                os_sim_step(w->os);
}

static inline void world_step_until(struct world *w, const bool *flag)
{
        for (unsigned i = 0; !*flag && i < 1000000; i++)
                world_step(w);
        assert_true(*flag);
}

static inline void world_notify(struct world *w, unsigned subscriptions_max)
{
        struct notification_options options = {
                .os = w->os,
                .control = w->control,
                .store = w->store,
                .subscriptions_max = subscriptions_max,
        };

        assert_int_equal(notification_open(&options, &w->notification), 0);
}

static inline void world_begin(struct world *w, const struct world_options *o)
{
        struct control_options control = {.node_name = "n1", .ring_facts = o->ring_facts, .log_fd = -1};
        struct store_options store = {.name = "default",
                .segment_events_max = o->segment_events_max,
                .open_on_loop = true,
                .on_open = world_on_open,
                .arg = w};
        struct os_sim_faults faults = {.reads_are_cold = o->reads_are_cold};

        *w = (struct world){0};
        if (is_on_memory_machine) {
                assert_int_equal(os_real_new(&w->os), 0);
                os_memory_disk(w->os);
        } else {
                assert_int_equal(os_sim_new(o->seed ? o->seed : 1, &w->os), 0);
        }
        control.os = w->os;
        assert_int_equal(control_open(&control, &w->control), 0);
        assert_int_equal(persistence_node_open(w->os, "data", false, &w->node), 0);
        store.os = w->os;
        store.control = w->control;
        store.node = w->node;
        assert_int_equal(store_open(&store, &w->store), 0);
        if (!o->without_notification)
                world_notify(w, o->subscriptions_max);
        world_step_until(w, &w->is_open);
        if (!is_on_memory_machine)
                os_sim_set_faults(w->os, &faults);
}

static inline void world_end(struct world *w)
{
        if (w->notification)
                notification_stop(w->notification);
        world_run(w);
        notification_free(&w->notification);
        store_close(&w->store, world_on_closed, w);
        world_step_until(w, &w->is_closed);
        persistence_node_close(&w->node);
        control_close(&w->control);
        os_free(&w->os);
}

/* ---- appends ---- */

static inline void world_appended(void *arg, const struct store_append_result *result)
{
        struct world *w = arg;

        w->appends_done++;
        w->verdict = result->verdict;
}

static inline void world_draft(struct world *w, struct event_draft *draft, struct bytes type, struct bytes data)
{
        *draft = (struct event_draft){.type = type, .content_type = CONTENT_JSON, .data = data};
        os_random(w->os, draft->id.bytes, sizeof draft->id.bytes);
        event_id_stamp_random(&draft->id);
}

/* One atomic append of `count` events, in turn over the streams. Not waited for. */
static inline void append_over(
        struct world *w, const char *const *streams, unsigned stream_count, const char *type, unsigned count)
{
        struct store_append_stream to[8];
        struct store_append_event *events = memory_new_array(count, sizeof *events);
        struct store_append append = {.streams = to,
                .stream_count = stream_count,
                .events = events,
                .event_count = count,
                .write_id = control_next_write_id(w->control)};

        assert_true(stream_count <= COUNT_OF(to));
        for (unsigned i = 0; i < stream_count; i++)
                to[i] = (struct store_append_stream){bytes_of_string(streams[i]), {.kind = EXPECTED_ANY}};
        for (unsigned i = 0; i < count; i++) {
                events[i].stream = i % stream_count;
                world_draft(w, &events[i].draft, bytes_of_string(type), BYTES_LITERAL("{\"n\":1}"));
        }
        w->appends_asked++;
        store_append(w->store, &append, world_appended, w);
        os_turn_again(w->os); /* as if a turn had called: its end writes */
        free(events);
}

static inline void append_later(struct world *w, const char *stream, const char *type, unsigned count)
{
        append_over(w, &stream, 1, type, count);
}

static inline void wait_for_appends(struct world *w)
{
        for (unsigned i = 0; w->appends_done < w->appends_asked && i < 1000000; i++)
                world_step(w);
        assert_int_equal(w->appends_done, w->appends_asked);
}

static inline void append(struct world *w, const char *stream, const char *type, unsigned count)
{
        append_later(w, stream, type, count);
        wait_for_appends(w);
        assert_int_equal(w->verdict, STORE_OK);
}

static inline void append_data(struct world *w, const char *stream, struct bytes type, const char *data)
{
        struct store_append_stream to = {bytes_of_string(stream), {.kind = EXPECTED_ANY}};
        struct store_append_event event = {0};
        struct store_append append = {.streams = &to, .stream_count = 1, .events = &event, .event_count = 1};

        world_draft(w, &event.draft, type, bytes_of_string(data));
        append.write_id = control_next_write_id(w->control);
        w->appends_asked++;
        store_append(w->store, &append, world_appended, w);
        os_turn_again(w->os); /* as if a turn had called: its end writes */
        wait_for_appends(w);
        assert_int_equal(w->verdict, STORE_OK);
}

static inline void delete_stream(struct world *w, const char *stream, bool is_tombstone)
{
        struct store_delete del = {
                .stream = bytes_of_string(stream), .expected = {.kind = EXPECTED_ANY}, .is_tombstone = is_tombstone};

        del.write_id = control_next_write_id(w->control);
        w->appends_asked++;
        store_delete(w->store, &del, world_appended, w);
        os_turn_again(w->os);
        wait_for_appends(w);
        assert_int_equal(w->verdict, STORE_OK);
}

/* ---- consumers ---- */

struct got {
        enum subscription_item_kind kind;
        uint64_t position;
        uint64_t revision;
        bool has_number; /* of a mark */
};

struct consumer {
        struct subscription *subscription;
        struct got *items;
        unsigned count;
        unsigned capacity;
        unsigned event_count;
        unsigned readable_count; /* calls of on_readable */
        int outcome;             /* of the newest subscription_next that gave no item */
        bool is_waiting;         /* for on_readable: a fair consumer does not ask before */
        bool is_eager;           /* asks from inside on_readable */
        bool skips_links;
        char stream[64]; /* of the newest event */
        uint64_t link_revision;
        bool has_link;
        bool has_event;
};

static inline void consumer_note(struct consumer *c, const struct subscription_item *item)
{
        struct got *got;

        if (c->count == c->capacity) {
                c->capacity = c->capacity ? c->capacity * 2 : 16;
                c->items = memory_resize(c->items, c->capacity * sizeof *c->items);
        }
        got = &c->items[c->count++];
        *got = (struct got){.kind = item->kind, .position = item->position, .revision = item->revision};
        if (item->kind != ITEM_EVENT) {
                got->has_number = item->has_position || item->has_revision;
                return;
        }
        c->event_count++;
        c->has_link = item->event.has_link;
        c->has_event = item->event.has_event;
        if (item->event.has_event)
                snprintf(c->stream, sizeof c->stream, "%.*s", (int)item->event.event.stream.size,
                        item->event.event.stream.data);
        got->position = (c->has_link ? item->event.link : item->event.event).position;
        got->revision = (c->has_link ? item->event.link : item->event.event).revision;
}

/* Takes at most `max` items, and stops at the first outcome. */
static inline void consumer_pull(struct consumer *c, unsigned max)
{
        struct subscription_item item;

        for (unsigned n = 0; n < max && !c->is_waiting; n++) {
                int r = subscription_next(c->subscription, &item);

                c->outcome = r;
                if (r == 0) {
                        consumer_note(c, &item);
                        continue;
                }
                c->is_waiting = r == SUBSCRIPTION_WAIT;
                if (r != SUBSCRIPTION_YIELD)
                        return;
        }
}

static inline void consumer_on_readable(void *arg)
{
        struct consumer *c = arg;

        c->readable_count++;
        c->is_waiting = false;
        if (c->is_eager)
                consumer_pull(c, 1000000);
}

static inline int consumer_try(struct world *w, struct consumer *c, struct subscription_options o)
{
        o.on_readable = consumer_on_readable;
        o.arg = c;
        return subscription_open(w->notification, &o, &c->subscription);
}

static inline void consumer_open(struct world *w, struct consumer *c, struct subscription_options o)
{
        assert_int_equal(consumer_try(w, c, o), 0);
}

static inline void consumer_close(struct consumer *c)
{
        subscription_close(&c->subscription);
        assert_null(c->subscription);
        free(c->items);
        *c = (struct consumer){0};
}

/* Lets machine and consumer run until the consumer waits and nothing is left to do. */
static inline void consumer_drain(struct world *w, struct consumer *c)
{
        for (unsigned i = 0; i < 1000; i++) {
                consumer_pull(c, 1000000);
                if (c->outcome && !c->is_waiting)
                        return;
                world_run(w);
                if (c->is_waiting)
                        return;
        }
        fail_msg("the consumer never rests");
}

static inline unsigned consumer_marks(const struct consumer *c, enum subscription_item_kind kind)
{
        unsigned n = 0;

        for (unsigned i = 0; i < c->count; i++)
                n += c->items[i].kind == kind;
        return n;
}

static inline struct filter *filter_of_prefix(enum filter_target target, const char *prefix)
{
        struct bytes p = bytes_of_string(prefix);
        struct filter_options options = {.target = target, .prefixes = &p, .prefix_count = 1};
        struct filter *filter;
        char why[256];

        assert_int_equal(filter_new(&options, &filter, why, sizeof why), 0);
        return filter;
}

static inline struct filter *filter_of_regex(enum filter_target target, const char *regex)
{
        struct filter_options options = {.target = target, .regex = bytes_of_string(regex)};
        struct filter *filter;
        char why[256];

        assert_int_equal(filter_new(&options, &filter, why, sizeof why), 0);
        return filter;
}

#endif
