/* Durable subscriptions across failover, in some worlds: every node has emitters, the leader's serve;
 * consumers go where the leader is. Every event of the stream is given and finished in the end (G11), in no
 * world is anything given that is not in the log, what is given again after it was finished stays within a
 * bound for each leader, and who leads no more serves no more. */
#include "emitter/emitter.h"

#include "room.h"

enum {
        REVISIONS_MAX = 8192,
        WINDOW = 16,
        CHECKPOINT_COUNT_MAX = 10,
        /* For each time that duties are taken up: what was in flight, what was finished since the last
         * checkpoint, and while that one was on its way. */
        REPEATS_MAX = 2 * WINDOW + 4 * CHECKPOINT_COUNT_MAX,
        DUTIES_LATE_US = 100 * 1000,
        NAME_SIZE = 8,
};

struct group {
        struct world *world;
        unsigned stream;
        char name[NAME_SIZE];
        bool exists;
        /* who was asked to create it, or has its consumer */
        struct node *asked, *served_by;
        unsigned asked_life;
        struct consumer *consumer;
        bool is_posted;
        struct event_id held[WINDOW];
        uint64_t held_revisions[WINDOW];
        unsigned held_count;
        uint64_t repeats;
        uint8_t is_given[REVISIONS_MAX], is_finished[REVISIONS_MAX];
};

struct subscribers {
        struct group groups[GROUPS];
        uint64_t duties; /* taken up, on all nodes */
};

/* ---- rooms ---- */

static void on_serving(void *arg)
{
        struct node *n = arg;

        n->world->subscribers->duties++;
        n->world->totals->duties++;
        world_tell(n->world, "node %u serves subscriptions", n->number + 1);
}

static void on_open(void *arg)
{
        struct node *n = arg;
        struct notification_options notification = {.os = n->os, .control = n->control, .store = n->store};
        struct emitter_options emitter = {
                .os = n->os, .control = n->control, .store = n->store, .on_serving = on_serving, .arg = n};
        int r;

        if (!n->store || n->is_doomed)
                return;
        emitter.mutant_checkpoint_before_ack = n->world->options.mutant == MUTANT_CHECKPOINT_AHEAD;
        r = notification_open(&notification, &n->notification);
        emitter.notification = n->notification;
        if (!r)
                r = emitter_open(&emitter, &n->emitter);
        if (r)
                world_fail(n->world, "node %u: its emitters do not open: %d", n->number + 1, r);
}

void subscribers_init(struct world *w)
{
        if (!one_in(w, 4))
                return;
        w->subscribers = MEMORY_NEW(struct subscribers);
        for (unsigned i = 0; i < GROUPS; i++) {
                struct group *g = &w->subscribers->groups[i];

                g->world = w;
                g->stream = i * 2;
                snprintf(g->name, sizeof g->name, "g%u", i);
        }
}

void subscribers_fini(struct world *w)
{
        free(w->subscribers);
        w->subscribers = NULL;
}

void subscribers_node_opened(struct node *n)
{
        if (n->world->subscribers)
                os_post(n->os, on_open, n);
}

void subscribers_node_gone(struct world *w, const struct node *n)
{
        for (unsigned i = 0; w->subscribers && i < GROUPS; i++) {
                struct group *g = &w->subscribers->groups[i];

                if (g->asked == n)
                        g->asked = NULL;
                if (g->served_by != n)
                        continue;
                g->served_by = NULL;
                g->consumer = NULL;
                g->is_posted = false;
                g->held_count = 0;
        }
}

/* ---- consumers ---- */

static void on_created(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct group *g = arg;

        g->asked = NULL;
        g->exists = verdict == EMITTER_OK || verdict == EMITTER_EXISTS;
        world_tell(g->world, "%s: created: %d %s", g->name, (int)verdict, problem);
        if (verdict == EMITTER_INVALID || verdict == EMITTER_LIMIT)
                world_fail(g->world, "%s is not created: %s", g->name, problem);
}

static void create(struct group *g)
{
        struct bytes stream = bytes_of_string(stream_names[g->stream]);
        struct emitter_definition d = {.stream = stream,
                .group = bytes_of_string(g->name),
                .from = FROM_START,
                .settings = emitter_settings_default};
        struct selector *selector = NULL;
        char why[128] = "";

        if (selector_of_names(SELECT_STREAM, &stream, 1, &selector, why, sizeof why)) {
                world_fail(g->world, "no selector: %s", why);
                return;
        }
        d.selector = selector;
        d.settings.message_timeout_ms = 2000;
        d.settings.max_retry_count = 100000;
        d.settings.checkpoint_after_ms = 200;
        d.settings.min_checkpoint_count = 1;
        d.settings.max_checkpoint_count = CHECKPOINT_COUNT_MAX;
        emitter_create(g->asked->emitter, &d, on_created, g);
        selector_free(&selector);
}

static void finish(struct group *g, unsigned at)
{
        consumer_ack(g->consumer, &g->held[at], 1);
        g->is_finished[g->held_revisions[at]] = true;
        g->held_count--;
        g->held[at] = g->held[g->held_count];
        g->held_revisions[at] = g->held_revisions[g->held_count];
}

static void take(struct group *g, const struct consumer_message *m)
{
        const struct event_view *e = &m->item.event;

        if (!m->item.has_event || e->revision >= REVISIONS_MAX) {
                world_fail(g->world, "%s gives what there is not", g->name);
                return;
        }
        g->world->totals->given++;
        oracles_note_event(g->world, g->served_by, e);
        if (oracles_find_stream(e->stream) != g->stream)
                world_fail(g->world, "%s gives an event of another stream", g->name);
        g->repeats += g->is_finished[e->revision];
        g->world->totals->repeats += g->is_finished[e->revision];
        g->is_given[e->revision] = true;
        if (g->held_count == WINDOW) {
                world_fail(g->world, "%s gives more than the window", g->name);
                return;
        }
        g->held[g->held_count] = e->id;
        g->held_revisions[g->held_count++] = e->revision;
}

static void leave(struct group *g)
{
        consumer_close(&g->consumer);
        g->served_by = NULL;
        g->held_count = 0;
}

static void consume(struct group *g)
{
        struct consumer_message m;
        int r = 0;

        for (unsigned n = 0; n < WINDOW && !r; n++) {
                r = consumer_next(g->consumer, &m);
                if (!r)
                        take(g, &m);
        }
        if (r == CONSUMER_DROPPED || r == CONSUMER_GONE) {
                world_tell(g->world, "%s: %s", g->name, consumer_problem(g->consumer));
                leave(g);
                return;
        }
        if (r && r != CONSUMER_WAIT && !g->served_by->may_fail && !g->served_by->is_flipped)
                world_fail(g->world, "%s: its consumer ends with %d", g->name, r);
        for (unsigned i = g->held_count; i-- > 0;)
                if (!one_in(g->world, 4))
                        finish(g, i);
}

static void on_readable(void *arg)
{
        (void)arg; /* it is asked in turns */
}

/* On the loop of the node that it was posted to. */
static void on_turn(void *arg)
{
        struct group *g = arg;
        struct node *n = g->served_by;
        struct consumer_options o = {.stream = bytes_of_string(stream_names[g->stream]),
                .group = bytes_of_string(g->name),
                .window = WINDOW,
                .on_readable = on_readable};

        g->is_posted = false;
        if (!n->emitter || n->is_doomed) {
                g->served_by = NULL;
                return;
        }
        if (!g->consumer && consumer_open(n->emitter, &o, &g->consumer)) {
                g->consumer = NULL;
                g->served_by = NULL;
                return;
        }
        consume(g);
}

static void on_ask(void *arg)
{
        struct group *g = arg;

        if (!g->asked)
                return;
        if (g->asked->emitter && !g->asked->is_doomed)
                create(g);
        else
                g->asked = NULL;
}

static void act(struct group *g)
{
        struct node *leader = find_leader(g->world);

        if (!g->exists && !g->asked && leader && leader->emitter && !leader->is_paused) {
                g->asked = leader;
                os_post(leader->os, on_ask, g);
        }
        if (!g->exists || g->is_posted)
                return;
        if (!g->served_by && leader && leader->emitter && !leader->is_paused && !leader->is_doomed)
                g->served_by = leader;
        if (!g->served_by)
                return;
        g->is_posted = true;
        os_post(g->served_by->os, on_turn, g);
}

void subscribers_act(struct world *w)
{
        for (unsigned i = 0; w->subscribers && i < GROUPS; i++)
                if (w->is_healing || one_in(w, 3))
                        act(&w->subscribers->groups[i]);
}

/* ---- oracles ---- */

void subscribers_look(struct world *w, struct node *n)
{
        struct notification_stats stats;
        uint64_t now = os_sim_world_now_us(w->sim);

        if (!n->emitter)
                return;
        notification_stats(n->notification, &stats);
        if (!stats.has_duties || store_is_leading(n->store))
                n->served_at_us = now;
        else if (now > n->served_at_us + DUTIES_LATE_US)
                world_fail(w, "node %u leads no more and still serves subscriptions", n->number + 1);
}

static uint64_t end_of(struct world *w, const struct group *g)
{
        struct node *leader = find_leader(w);
        struct store_stream_info info;

        if (!leader || store_stream_info(leader->store, bytes_of_string(stream_names[g->stream]), &info))
                return REVISIONS_MAX;
        return info.has_events ? info.last_revision + 1 : 0;
}

bool subscribers_are_done(struct world *w)
{
        for (unsigned i = 0; w->subscribers && i < GROUPS; i++) {
                const struct group *g = &w->subscribers->groups[i];
                uint64_t end = end_of(w, g);

                if (!g->exists || end == REVISIONS_MAX)
                        return false;
                for (uint64_t n = 0; n < end; n++)
                        if (!g->is_finished[n])
                                return false;
        }
        return true;
}

void subscribers_tell(struct world *w)
{
        for (unsigned i = 0; w->subscribers && i < GROUPS; i++) {
                const struct group *g = &w->subscribers->groups[i];
                uint64_t end = end_of(w, g), n = 0;

                while (n < end && g->is_finished[n])
                        n++;
                world_tell(w, "%s: exists %d, finished below %llu of %llu, given %d", g->name, g->exists,
                        (unsigned long long)n, (unsigned long long)end, n < REVISIONS_MAX && g->is_given[n]);
        }
}

void subscribers_judge(struct world *w)
{
        for (unsigned i = 0; w->subscribers && i < GROUPS; i++) {
                const struct group *g = &w->subscribers->groups[i];

                if (g->repeats > w->subscribers->duties * REPEATS_MAX)
                        world_fail(w, "%s gave %llu events again that were finished, in %llu leaderships",
                                g->name, (unsigned long long)g->repeats,
                                (unsigned long long)w->subscribers->duties);
        }
}
