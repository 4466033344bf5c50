/* What the tests of this room share: an open store with notification and emitter on a simulated machine or on the real one
 * with its disk in memory, appends, mutations that are waited for, and clients that write down what they get. */
#ifndef TESTS_EMITTER_SUPPORT_H
#define TESTS_EMITTER_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/emitter.h"
#include "os/os_sim.h"
#include "test.h"

static bool is_on_memory_machine;

struct world {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        uint64_t memory_size;
        unsigned subscriptions_max;
        uint64_t appends_asked, appends_done;
        enum store_verdict verdict;
        bool is_open, is_closed, is_stopped;
};

static inline void world_on_open(void *arg, int result, const char *problem)
{
        if (result)
                fail_msg("the store does not open: %s", problem);
        ((struct world *)arg)->is_open = true;
}

static inline void world_on_closed(void *arg)
{
        ((struct world *)arg)->is_closed = true;
}

static inline void world_on_stopped(void *arg)
{
        ((struct world *)arg)->is_stopped = true;
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

static inline void world_run(struct world *w)
{
        world_run_for(w, is_on_memory_machine ? 5 * 1000 : 20 * 1000);
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

static inline bool world_is_serving(struct world *w)
{
        struct consumer_options o = {.stream = BYTES_LITERAL("nobody"), .group = BYTES_LITERAL("nobody"), .window = 1};
        struct consumer *c;

        return consumer_open(w->emitter, &o, &c) == EMITTER_NOT_FOUND;
}

/* Opens the rooms on the machine as it is. */
static inline void world_open(struct world *w)
{
        struct control_options control = {.os = w->os, .node_name = "n1", .log_fd = -1};
        struct store_options store = {.os = w->os, .name = "default", .open_on_loop = true, .on_open = world_on_open, .arg = w};
        struct notification_options notification = {.os = w->os};
        struct emitter_options emitter = {
                .os = w->os, .memory_size = w->memory_size, .subscriptions_max = w->subscriptions_max};

        w->is_open = w->is_closed = w->is_stopped = false;
        w->appends_asked = w->appends_done = 0;
        assert_int_equal(control_open(&control, &w->control), 0);
        assert_int_equal(persistence_node_open(w->os, "data", false, &w->node), 0);
        store.control = w->control;
        store.node = w->node;
        assert_int_equal(store_open(&store, &w->store), 0);
        world_step_until(w, &w->is_open);
        notification.control = emitter.control = w->control;
        notification.store = emitter.store = w->store;
        assert_int_equal(notification_open(&notification, &w->notification), 0);
        emitter.notification = w->notification;
        assert_int_equal(emitter_open(&emitter, &w->emitter), 0);
        for (unsigned i = 0; i < 10000 && !world_is_serving(w); i++)
                world_step(w);
        assert_true(world_is_serving(w));
        world_run(w);
}

static inline void world_begin(struct world *w, uint64_t seed)
{
        if (is_on_memory_machine) {
                assert_int_equal(os_real_new(&w->os), 0);
                os_memory_disk(w->os);
        } else {
                assert_int_equal(os_sim_new(seed, &w->os), 0);
        }
        world_open(w);
}

/* An orderly stop of the rooms; the machine stays. */
static inline void world_stop(struct world *w)
{
        emitter_stop(w->emitter, world_on_stopped, w);
        world_step_until(w, &w->is_stopped);
}

static inline void world_close(struct world *w)
{
        emitter_free(&w->emitter);
        notification_stop(w->notification);
        world_run(w);
        notification_free(&w->notification);
        store_close(&w->store, world_on_closed, w);
        world_step_until(w, &w->is_closed);
        persistence_node_close(&w->node);
        control_close(&w->control);
}

static inline void world_end(struct world *w)
{
        world_stop(w);
        world_close(w);
        os_free(&w->os);
}

/* An orderly restart. */
static inline void world_reopen(struct world *w)
{
        world_stop(w);
        world_close(w);
        world_open(w);
        world_run(w);
}

/* After os_sim_crash or os_sim_kill: the memory of the life before is dropped, and the next one begins. */
static inline void world_reborn(struct world *w)
{
        static struct persistence_node *lost[1000]; /* its lock's file is the machine's, which has lost it */
        static unsigned lost_count;

        emitter_free(&w->emitter);
        notification_stop(w->notification);
        notification_free(&w->notification);
        store_abandon(&w->store);
        lost[lost_count++ % COUNT_OF(lost)] = w->node;
        w->node = NULL;
        control_close(&w->control);
        world_open(w);
}

/* ---- appends ---- */

static inline void world_appended(void *arg, const struct store_append_result *result)
{
        struct world *w = arg;

        w->appends_done++;
        w->verdict = result->verdict;
}

static inline void wait_for_appends(struct world *w)
{
        for (unsigned i = 0; w->appends_done < w->appends_asked && i < 1000000; i++)
                world_step(w);
        assert_int_equal(w->appends_done, w->appends_asked);
        assert_int_equal(w->verdict, STORE_OK);
}

struct event {
        const char *stream;
        const char *type;
        const char *data;
        const char *metadata;
        const char *tag;
};

static inline void append_event(struct world *w, struct event e)
{
        struct store_append_stream to = {bytes_of_string(e.stream), {.kind = EXPECTED_ANY}};
        struct store_append_event event = {0};
        struct store_append append = {.streams = &to, .stream_count = 1, .events = &event, .event_count = 1};
        struct bytes tag = e.tag ? bytes_of_string(e.tag) : BYTES_EMPTY;

        event.draft = (struct event_draft){
                .type = bytes_of_string(e.type ? e.type : "T"),
                .content_type = CONTENT_JSON,
                .data = bytes_of_string(e.data ? e.data : "{\"n\":1}"),
                .metadata = bytes_of_string(e.metadata ? e.metadata : ""),
                .tags = &tag,
                .tag_count = e.tag ? 1 : 0,
        };
        os_random(w->os, event.draft.id.bytes, sizeof event.draft.id.bytes);
        event_id_stamp_random(&event.draft.id);
        append.write_id = control_next_write_id(w->control);
        w->appends_asked++;
        store_append(w->store, &append, world_appended, w);
        os_turn_again(w->os);
}

/* `count` events one after the other, in turn over `streams` (comma separated). */
static inline void append(struct world *w, const char *streams, unsigned count)
{
        char names[256], *name[32];
        unsigned n = 0;

        snprintf(names, sizeof names, "%s", streams);
        for (char *at = names; at; n++) {
                name[n] = at;
                at = strchr(at, ',');
                if (at)
                        *at++ = 0;
        }
        for (unsigned i = 0; i < count; i++)
                append_event(w, (struct event){.stream = name[i % n]});
        wait_for_appends(w);
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
}

/* ---- mutations ---- */

struct answer {
        bool is_there;
        enum emitter_verdict verdict;
        char problem[256];
};

static inline void on_answer(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct answer *a = arg;

        assert_false(a->is_there); /* once */
        a->is_there = true;
        a->verdict = verdict;
        snprintf(a->problem, sizeof a->problem, "%s", problem);
}

static inline enum emitter_verdict wait_for_answer(struct world *w, struct answer *a)
{
        world_step_until(w, &a->is_there);
        return a->verdict;
}

static inline struct selector *selector_of(const char *json)
{
        struct selector *s = NULL;
        char why[256] = "";

        if (selector_parse(bytes_of_string(json), &s, why, sizeof why))
                fail_msg("%s: %s", json, why);
        return s;
}

/* The selector of a stream, or of everything for "$all". */
static inline struct selector *selector_of_stream(const char *stream)
{
        struct bytes name = bytes_of_string(stream);
        struct selector *s = NULL;
        char why[256];

        if (!strcmp(stream, "$all"))
                assert_int_equal(selector_of_names(SELECT_ALL, NULL, 0, &s, why, sizeof why), 0);
        else
                assert_int_equal(selector_of_names(SELECT_STREAM, &name, 1, &s, why, sizeof why), 0);
        return s;
}

static inline struct emitter_definition definition_of(const char *stream, const char *group)
{
        return (struct emitter_definition){
                .stream = bytes_of_string(stream), .group = bytes_of_string(group), .settings = emitter_settings_default};
}

static inline enum emitter_verdict create(struct world *w, struct emitter_definition d)
{
        struct answer a = {0};
        char name[1100];
        struct selector *s = NULL;

        snprintf(name, sizeof name, "%.*s", (int)d.stream.size, (const char *)d.stream.data);
        if (!d.selector)
                d.selector = s = selector_of_stream(name);
        emitter_create(w->emitter, &d, on_answer, &a);
        selector_free(&s);
        return wait_for_answer(w, &a);
}

static inline enum emitter_verdict update(struct world *w, struct emitter_definition d, bool has_from)
{
        struct answer a = {0};

        emitter_update(w->emitter, &d, has_from, on_answer, &a);
        return wait_for_answer(w, &a);
}

static inline enum emitter_verdict delete_group(struct world *w, const char *stream, const char *group)
{
        struct answer a = {0};

        emitter_delete(w->emitter, bytes_of_string(stream), bytes_of_string(group), on_answer, &a);
        return wait_for_answer(w, &a);
}

static inline enum emitter_verdict pause_group(struct world *w, const char *stream, const char *group, bool is_paused)
{
        struct answer a = {0};

        emitter_pause(w->emitter, bytes_of_string(stream), bytes_of_string(group), is_paused, on_answer, &a);
        return wait_for_answer(w, &a);
}

static inline enum emitter_verdict seek_group(
        struct world *w, const char *stream, const char *group, enum store_from from, uint64_t number)
{
        struct answer a = {0};

        emitter_seek(w->emitter, bytes_of_string(stream), bytes_of_string(group), from, number, on_answer, &a);
        return wait_for_answer(w, &a);
}

static inline enum emitter_verdict replay(
        struct world *w, const char *stream, const char *group, uint64_t stop_at, uint64_t only)
{
        struct answer a = {0};

        emitter_replay_parked(
                w->emitter, bytes_of_string(stream), bytes_of_string(group), stop_at, only, on_answer, &a);
        return wait_for_answer(w, &a);
}

/* ---- what is going on ---- */

struct told {
        struct emitter_info info;
        char state[16];
        char problem[256];
        unsigned count;
        struct consumer_info consumer; /* the first */
};

static inline void on_info(void *arg, const struct emitter_info *info)
{
        struct told *t = arg;

        t->info = *info;
        t->count++;
        snprintf(t->state, sizeof t->state, "%s", info->state);
        snprintf(t->problem, sizeof t->problem, "%s", info->problem);
        if (info->consumer_count)
                t->consumer = info->consumers[0];
}

static inline struct told info_of(struct world *w, const char *stream, const char *group)
{
        struct told t = {0};

        assert_int_equal(
                emitter_info(w->emitter, bytes_of_string(stream), bytes_of_string(group), on_info, &t), EMITTER_OK);
        return t;
}

/* ---- clients ---- */

struct got {
        uint64_t position, revision;
        struct event_id id;
        uint32_t retry_count;
        char stream[48];
        bool has_event, has_link;
        bool is_acked;
};

struct client {
        struct world *world;
        struct consumer *consumer;
        struct got *items;
        unsigned count, capacity;
        unsigned readable_count;
        int outcome;
        bool is_waiting;
        bool acks; /* acknowledges at once */
};

static inline void client_note(struct client *c, const struct consumer_message *m)
{
        const struct event_view *v = m->item.has_link ? &m->item.link : &m->item.event;
        struct got *g;

        if (c->count == c->capacity) {
                c->capacity = c->capacity ? c->capacity * 2 : 16;
                c->items = memory_resize(c->items, c->capacity * sizeof *c->items);
        }
        g = &c->items[c->count++];
        *g = (struct got){.position = v->position,
                .revision = v->revision,
                .id = v->id,
                .retry_count = m->retry_count,
                .has_event = m->item.has_event,
                .has_link = m->item.has_link};
        if (m->item.has_event)
                v = &m->item.event;
        snprintf(g->stream, sizeof g->stream, "%.*s", (int)v->stream.size, (const char *)v->stream.data);
        if (c->acks) {
                consumer_ack(c->consumer, &g->id, 1);
                g->is_acked = true;
        }
}

/* Takes at most `most`; stops at the first outcome. */
static inline unsigned client_pull(struct client *c, unsigned most)
{
        struct consumer_message m;
        unsigned n = 0;

        while (n < most && !c->is_waiting) {
                c->outcome = consumer_next(c->consumer, &m);
                if (c->outcome) {
                        c->is_waiting = c->outcome == CONSUMER_WAIT;
                        break;
                }
                client_note(c, &m);
                n++;
        }
        return n;
}

static inline void client_on_readable(void *arg)
{
        struct client *c = arg;

        assert_true(c->is_waiting); /* only after CONSUMER_WAIT */
        c->is_waiting = false;
        c->readable_count++;
}

static inline enum emitter_verdict client_try(
        struct world *w, struct client *c, const char *stream, const char *group, uint32_t window)
{
        struct consumer_options o = {.stream = bytes_of_string(stream),
                .group = bytes_of_string(group),
                .window = window,
                .name = BYTES_LITERAL("client"),
                .peer = BYTES_LITERAL("127.0.0.1:1"),
                .user = BYTES_LITERAL("anonymous"),
                .on_readable = client_on_readable,
                .arg = c};

        *c = (struct client){.world = w};
        return consumer_open(w->emitter, &o, &c->consumer);
}

static inline void client_open(
        struct world *w, struct client *c, const char *stream, const char *group, uint32_t window, bool acks)
{
        assert_int_equal(client_try(w, c, stream, group, window), EMITTER_OK);
        c->acks = acks;
}

static inline void client_close(struct client *c)
{
        consumer_close(&c->consumer);
        free(c->items);
        c->items = NULL;
        c->count = c->capacity = 0;
}

/* Lets machine and clients run until nobody gets anything more for a while. */
static inline void clients_drain(struct world *w, struct client *clients, unsigned n)
{
        unsigned idle = 0;

        for (unsigned i = 0; i < 5000 && idle < 4; i++) {
                unsigned got = 0;

                for (unsigned k = 0; k < n; k++)
                        if (clients[k].consumer)
                                got += client_pull(&clients[k], 10000);
                world_run_for(w, is_on_memory_machine ? 2000 : 1000);
                idle = got ? 0 : idle + 1;
        }
}

static inline void client_drain(struct world *w, struct client *c)
{
        clients_drain(w, c, 1);
}

static inline void client_ack(struct client *c, unsigned i)
{
        consumer_ack(c->consumer, &c->items[i].id, 1);
        c->items[i].is_acked = true;
}

static inline void client_nack(struct client *c, unsigned i, enum nack_action action, const char *reason)
{
        consumer_nack(c->consumer, &c->items[i].id, 1, action, bytes_of_string(reason));
}

#endif
