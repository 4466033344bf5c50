/* Worlds in which one thing goes wrong, again and again, and little else: what the mix shows in one of
 * thousands of seeds, or never, each of these shows in one of some. A script is looked at with every tick;
 * what it waits for and does not get in time begins it anew. */
#include "room.h"

enum { MS = 1000, PATIENCE_US = 3000 * MS, CALM_US = 300 * MS, TRUE_RATE = 1000000 };

struct schedule {
        const char *name;
        uint64_t us;
        void (*begin)(struct world *w);
        void (*act)(struct world *w);
};

static void calm(struct world *w, unsigned founders, unsigned count)
{
        w->rates = (struct fault_rates){.late_us = w->rates.late_us};
        w->link_room = 512 * 1024;
        w->compares = false;
        w->founders = founders;
        w->count = count;
        w->rolling = count;
}

/* ---- what scripts are made of ---- */

static void step_to(struct world *w, unsigned step)
{
        w->script.step = step;
        w->script.since_us = os_sim_world_now_us(w->sim);
}

static bool has_passed(const struct world *w, uint64_t us)
{
        return os_sim_world_now_us(w->sim) >= w->script.since_us + us;
}

static void begin_anew(struct world *w)
{
        faults_mend_links(w);
        w->favourite = NULL;
        w->is_quiet = w->are_expectations_wrong = false;
        step_to(w, 0);
}

/* The leader, when all nodes are there. */
static struct node *leader_of_all(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++)
                if (!w->nodes[i].store || !store_is_ready(w->nodes[i].store) || w->nodes[i].is_paused)
                        return NULL;
        return find_leader(w);
}

/* One that leads, other than `old`. */
static struct node *find_successor(struct world *w, const struct node *old)
{
        for (unsigned i = 0; i < w->count; i++)
                if (&w->nodes[i] != old && w->nodes[i].store && store_is_leading(w->nodes[i].store))
                        return &w->nodes[i];
        return NULL;
}

static struct node *some_other(struct world *w, const struct node *n)
{
        return &w->nodes[(n->number + 1 + choose(w, w->count - 1)) % w->count];
}

/* ---- elections: who has voted loses its power, and another candidate's question comes after that ---- */

static void elections_begin(struct world *w)
{
        calm(w, 3, 3);
        w->rates.is_restless = true;
        w->rates.do_requests_outlive = true;
}

/* The others do not hear of each other: only the old leader's vote is to be had. */
static void elections_act(struct world *w)
{
        struct node *leader = find_leader(w);
        unsigned one, other;

        if (!leader || !one_in(w, 20))
                return;
        one = (leader->number + 1) % w->count;
        other = (leader->number + 2) % w->count;
        faults_mend_links(w);
        w->is_cut[one][other] = w->is_cut[other][one] = true;
        bring_down(leader, true);
}

/* ---- returning: who was cut off with appends in flight leads again before the log has come to their places
 * ---- */

enum { RETURNING_CALM, RETURNING_CUT, RETURNING_BACK, RETURNING_LEADS };

static void returning_begin(struct world *w)
{
        calm(w, 3, 3);
}

static void returning_act(struct world *w)
{
        struct node *leader = leader_of_all(w), *old = w->script.subject, *successor;

        if (w->script.step != RETURNING_CALM && has_passed(w, PATIENCE_US)) {
                begin_anew(w);
                return;
        }
        switch (w->script.step) {
        case RETURNING_CALM:
                if (!leader || !has_passed(w, CALM_US))
                        return;
                w->script.subject = w->favourite = leader;
                faults_cut_off(w, leader);
                step_to(w, RETURNING_CUT);
                return;
        case RETURNING_CUT:
                w->is_quiet = !store_is_leading(old->store);
                if (!find_successor(w, old))
                        return;
                w->is_quiet = true;
                faults_mend_links(w);
                step_to(w, RETURNING_BACK);
                return;
        case RETURNING_BACK:
                successor = find_successor(w, old);
                if (!successor || store_is_leading(old->store) || !has_passed(w, 20 * MS))
                        return;
                faults_transfer(successor, old);
                step_to(w, RETURNING_LEADS);
                return;
        default:
                if (store_is_leading(old->store))
                        begin_anew(w);
        }
}

/* ---- growing: the only voter loses its power when it has become one of three ---- */

enum { GROWING_ALONE, GROWING_TWO, GROWING_THREE, GROWING_GROWN };

static void growing_begin(struct world *w)
{
        calm(w, 1, 3);
        w->rates.has_slow_disks = true;
        w->rates.down_us = 1500 * MS;
}

static void growing_act(struct world *w)
{
        struct node *leader = leader_of_all(w);

        if (!leader || leader->number || !has_passed(w, CALM_US))
                return;
        switch (w->script.step) {
        case GROWING_ALONE:
        case GROWING_TWO:
                faults_change(leader, STORE_ADD, &w->nodes[w->script.step + 1]);
                step_to(w, w->script.step + 1);
                return;
        default:
                if (one_in(w, 2))
                        faults_cut_power_soon(leader, 1 + choose(w, 30 * MS));
                faults_grow(leader);
                step_to(w, GROWING_THREE); /* again, if nothing has come of it */
        }
}

/* ---- changes: a change of members is cut off, and in its place in the log there comes another ---- */

enum { CHANGES_CALM, CHANGES_CUT, CHANGES_ASKED, CHANGES_TAKEN_BACK };

static void changes_begin(struct world *w)
{
        calm(w, 3, 5);
}

static void changes_act(struct world *w)
{
        struct node *leader = find_leader(w), *old = w->script.subject, *successor;

        if (w->script.step != CHANGES_CALM && has_passed(w, PATIENCE_US)) {
                begin_anew(w);
                return;
        }
        switch (w->script.step) {
        case CHANGES_CALM:
                w->is_quiet = has_passed(w, CALM_US);
                if (!leader || leader->number >= w->founders || !has_passed(w, 2 * CALM_US))
                        return;
                w->script.subject = leader;
                faults_cut_off(w, leader);
                clients_append(w, leader);
                step_to(w, CHANGES_CUT);
                return;
        case CHANGES_CUT:
                if (!has_passed(w, 50 * MS))
                        return;
                if (store_is_leading(old->store))
                        faults_change(old, STORE_ADD, &w->nodes[3]);
                step_to(w, CHANGES_ASKED);
                return;
        case CHANGES_ASKED:
                successor = find_successor(w, old);
                if (!successor)
                        return;
                faults_change(successor, STORE_ADD, &w->nodes[4]);
                step_to(w, CHANGES_TAKEN_BACK);
                return;
        default:
                if (has_passed(w, 300 * MS))
                        begin_anew(w);
        }
}

/* ---- history: the leader is lost for ever while a voter fetches history from it ---- */

enum { HISTORY_CALM, HISTORY_BEHIND, HISTORY_FETCHES, HISTORY_LOST };

static void history_begin(struct world *w)
{
        calm(w, 3, 3);
        w->rates.fetched_lost = 700;
        w->rates.down_us = 2500 * MS;
}

static bool is_catching_up(const struct node *n)
{
        struct store_cluster_status status;

        if (!n->store || !n->has_opened)
                return false;
        store_cluster_status(n->store, &status);
        return status.is_catching_up;
}

static void history_act(struct world *w)
{
        struct node *leader = find_leader(w);

        switch (w->script.step) {
        case HISTORY_CALM:
                if (!leader_of_all(w) || !has_passed(w, CALM_US))
                        return;
                w->script.subject = some_other(w, leader);
                bring_down(w->script.subject, true);
                step_to(w, HISTORY_BEHIND);
                return;
        case HISTORY_BEHIND:
                if (is_catching_up(w->script.subject))
                        step_to(w, HISTORY_FETCHES);
                else if (has_passed(w, 2 * PATIENCE_US))
                        begin_anew(w);
                return;
        case HISTORY_FETCHES:
                if (!has_passed(w, 50 * MS))
                        return;
                if (!is_catching_up(w->script.subject) || !leader) {
                        begin_anew(w);
                        return;
                }
                faults_lose(leader);
                step_to(w, HISTORY_LOST);
                return;
        default:
                return;
        }
}

/* ---- stale: a leader that is cut off, and whose clock is slow, leads on while there is another ---- */

enum { STALE_CALM, STALE_CUT, STALE_WRITTEN };
enum { SLOW_RATE = 500000 };

static void stale_begin(struct world *w)
{
        calm(w, 3, 3);
}

/* The new one writes, and the old one is asked for what cannot be. */
static void stale_act(struct world *w)
{
        struct node *leader = leader_of_all(w), *old = w->script.subject, *successor;

        if (w->script.step != STALE_CALM && (has_passed(w, PATIENCE_US) || !store_is_leading(old->store))) {
                os_sim_set_rate(old->os, TRUE_RATE);
                begin_anew(w);
                return;
        }
        switch (w->script.step) {
        case STALE_CALM:
                w->is_quiet = has_passed(w, CALM_US);
                if (!leader || !has_passed(w, CALM_US + 100 * MS))
                        return;
                w->script.subject = leader;
                os_sim_set_rate(leader->os, SLOW_RATE);
                faults_cut_off(w, leader);
                step_to(w, STALE_CUT);
                return;
        case STALE_CUT:
                successor = find_successor(w, old);
                w->favourite = successor;
                w->is_quiet = !successor;
                if (w->is_quiet)
                        w->script.since_us = os_sim_world_now_us(w->sim);
                else if (has_passed(w, 60 * MS))
                        step_to(w, STALE_WRITTEN);
                return;
        default:
                w->favourite = old;
                w->are_expectations_wrong = true;
        }
}

/* ---- rewritten: a changed history, at who was away and must fetch what is missing, or at who gives it ----
 */

static void rewritten_begin(struct world *w)
{
        calm(w, 3, 3);
        w->compares = true;
        w->rates.down_us = 1500 * MS;
}

/* ---- the list ---- */

static const struct schedule schedules[] = {
        {"mix", 0, NULL, NULL},
        {"elections", 12000 * MS, elections_begin, elections_act},
        {"returning", 8000 * MS, returning_begin, returning_act},
        {"growing", 6000 * MS, growing_begin, growing_act},
        {"changes", 8000 * MS, changes_begin, changes_act},
        {"history", 12000 * MS, history_begin, history_act},
        {"stale", 8000 * MS, stale_begin, stale_act},
        {"rewritten", 1000 * MS, rewritten_begin, NULL},
};

const struct schedule *schedules_find(const char *name)
{
        for (unsigned i = 0; i < COUNT_OF(schedules); i++)
                if (!strcmp(schedules[i].name, name))
                        return &schedules[i];
        return NULL;
}

const char *schedules_name(unsigned i)
{
        return i < COUNT_OF(schedules) ? schedules[i].name : NULL;
}

void schedules_begin(struct world *w)
{
        if (w->options.schedule->begin)
                w->options.schedule->begin(w);
}

void schedules_act(struct world *w)
{
        if (w->options.schedule->act)
                w->options.schedule->act(w);
}

uint64_t schedules_us(const struct world *w)
{
        return w->options.schedule->us;
}
