/* What goes wrong, at rates that are drawn for each run, many of them zero. */
#include "room.h"

static unsigned rate(struct world *w, unsigned max)
{
        return one_in(w, 3) ? 0 : (unsigned)choose(w, max + 1);
}

void faults_choose_rates(struct world *w)
{
        w->rates = (struct fault_rates){.drop = rate(w, 60),
                .copy = rate(w, 60),
                .late = rate(w, 100),
                .late_us = choose(w, 3) ? 20 * 1000 : 2 * 1000 * 1000,
                .crash = rate(w, 60),
                .cut = rate(w, 80),
                .pause = rate(w, 40),
                .change = w->founders == 1         ? 300
                          : w->count > w->founders ? rate(w, 120)
                                                   : 0,
                .transfer = rate(w, 40),
                .all_off = rate(w, 12)};
}

static unsigned count_up(const struct world *w)
{
        unsigned n = 0;

        for (unsigned i = 0; i < w->count; i++)
                n += w->nodes[i].store != NULL;
        return n;
}

static void on_restart(void *arg)
{
        struct node *n = arg;

        if (!n->store && !n->world->result->has_failed) {
                world_tell(n->world, "node %u starts", n->number + 1);
                node_start(n);
        }
}

static void bring_down(struct node *n, bool is_power_cut)
{
        struct world *w = n->world;

        world_tell(w, "node %u: %s", n->number + 1, is_power_cut ? "power cut" : "killed");
        if (is_power_cut)
                os_sim_crash(n->os);
        else
                os_sim_kill(n->os);
        w->totals->crashes++;
        if (is_power_cut)
                w->totals->power_cuts++;
        else
                w->totals->kills++;
        node_gone(n);
        os_sim_world_call(
                w->sim, 20 * 1000 + choose(w, one_in(w, 4) ? 4000 * 1000 : 600 * 1000), on_restart, n);
}

static void crash_one(struct world *w)
{
        struct node *leader = find_leader(w);
        struct node *n = leader && one_in(w, 2) ? leader : &w->nodes[choose(w, w->count)];

        if (n->store && count_up(w) > 1)
                bring_down(n, !one_in(w, 3));
}

static void power_off(struct world *w)
{
        world_tell(w, "all off");
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].store)
                        bring_down(&w->nodes[i], true);
}

static void on_resume(void *arg)
{
        struct node *n = arg;

        if (!n->is_paused || !n->store)
                return;
        n->is_paused = false;
        os_sim_resume(n->os);
}

static void pause_one(struct world *w)
{
        struct node *n = &w->nodes[choose(w, w->count)];

        if (!n->store || n->is_paused)
                return;
        world_tell(w, "node %u pauses", n->number + 1);
        w->totals->pauses++;
        n->is_paused = true;
        os_sim_pause(n->os);
        os_sim_world_call(w->sim, 50 * 1000 + choose(w, 3000 * 1000), on_resume, n);
}

static void set_cut(struct world *w, unsigned from, unsigned to, bool is_cut)
{
        w->is_cut[from][to] = is_cut;
}

static void on_mend(void *arg)
{
        struct world *w = arg;

        memset(w->is_cut, 0, sizeof w->is_cut);
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].store)
                        bus_tell_links(w, i, true);
}

/* One direction, one node, or two halves. */
static void cut(struct world *w)
{
        unsigned a = (unsigned)choose(w, w->count), b = (unsigned)choose(w, w->count);

        w->totals->partitions++;
        switch (choose(w, 3)) {
        case 0:
                world_tell(w, "cut from %u to %u", a + 1, b + 1);
                set_cut(w, a, b, true);
                break;
        case 1:
                world_tell(w, "node %u is cut off", a + 1);
                for (unsigned i = 0; i < w->count; i++) {
                        set_cut(w, a, i, true);
                        set_cut(w, i, a, true);
                }
                break;
        default:
                world_tell(w, "split below %u", a + 1);
                for (unsigned i = 0; i < w->count; i++) {
                        for (unsigned k = 0; k < w->count; k++) {
                                if ((i < a) != (k < a))
                                        set_cut(w, i, k, true);
                        }
                }
        }
        os_sim_world_call(w->sim, 100 * 1000 + choose(w, 2500 * 1000), on_mend, w);
}

static void on_changed(void *arg, enum store_verdict verdict, const char *problem)
{
        struct world *w = arg;

        world_tell(w, "change: %d %s", verdict, problem);
        w->totals->changes += verdict == STORE_OK;
}

static void on_transferred(void *arg, enum store_verdict verdict, const char *problem)
{
        struct world *w = arg;

        world_tell(w, "transfer: %d %s", verdict, problem);
        w->totals->transfers += verdict == STORE_OK;
}

static void on_grown(void *arg, enum store_verdict verdict, const char *problem)
{
        struct world *w = arg;

        world_tell(w, "grow: %d %s", verdict, problem);
        w->totals->grown += verdict == STORE_OK;
}

static void grow(struct world *w, struct node *leader)
{
        const uint64_t node_ids[] = {2, 3};

        world_tell(w, "node %u: grow", leader->number + 1);
        store_grow(leader->store, node_ids, 2, os_monotonic_us(leader->os) + 2 * 1000 * 1000, on_grown, w);
}

static void change(struct world *w)
{
        struct node *leader = find_leader(w);
        unsigned joiners = w->count - w->founders;
        struct node *n = &w->nodes[w->founders + choose(w, joiners)];
        static const enum store_change changes[] = {STORE_ADD, STORE_PROMOTE, STORE_DEMOTE, STORE_PROMOTE};
        enum store_change which = changes[choose(w, 4)];
        uint64_t now;
        char address[32];

        if (!leader || leader->is_paused)
                return;
        if (w->founders == 1 && one_in(w, 3)) {
                grow(w, leader);
                return;
        }
        now = os_monotonic_us(leader->os);
        snprintf(address, sizeof address, "node-%u:2112", n->number + 1);
        world_tell(w, "node %u: change %d of node %u", leader->number + 1, which, n->number + 1);
        store_change_members(leader->store, which, n->node_id, address, now + 3 * 1000 * 1000, on_changed, w);
}

static void transfer(struct world *w)
{
        struct node *leader = find_leader(w);
        struct node *n = &w->nodes[choose(w, w->count)];

        if (!leader || leader->is_paused || n == leader)
                return;
        world_tell(w, "node %u: transfer to node %u", leader->number + 1, n->number + 1);
        store_change_members(leader->store, STORE_TRANSFER, n->node_id, NULL,
                os_monotonic_us(leader->os) + 2 * 1000 * 1000, on_transferred, w);
}

void faults_chance(struct world *w)
{
        if (in_1000(w, w->rates.crash))
                crash_one(w);
        if (in_1000(w, w->rates.cut))
                cut(w);
        if (in_1000(w, w->rates.pause))
                pause_one(w);
        if (in_1000(w, w->rates.change))
                change(w);
        if (in_1000(w, w->rates.transfer))
                transfer(w);
        if (in_1000(w, w->rates.all_off))
                power_off(w);
}

void faults_heal(struct world *w)
{
        w->is_healing = true;
        on_mend(w);
        for (unsigned i = 0; i < w->count; i++) {
                struct node *n = &w->nodes[i];

                on_resume(n);
                if (!n->store)
                        on_restart(n);
        }
}
