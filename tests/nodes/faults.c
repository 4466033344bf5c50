/* What goes wrong, at rates that are drawn for each run, many of them zero. */
#include "room.h"

enum { EXITS_MAX = 3 }; /* of a node whose disk is damaged, until somebody takes it away */

static unsigned rate(struct world *w, unsigned max)
{
        return one_in(w, 3) ? 0 : (unsigned)choose(w, max + 1);
}

void faults_choose_rates(struct world *w)
{
        static const uint64_t rooms[] = {512 * 1024, 512 * 1024, 64 * 1024, 4 * 1024};

        w->link_room = rooms[choose(w, COUNT_OF(rooms))];
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
                .all_off = rate(w, 12),
                .stall = rate(w, 60),
                .full = one_in(w, 2) ? 0 : rate(w, 20),
                .disk_error = one_in(w, 2) ? 0 : rate(w, 20),
                .jump = rate(w, 30),
                .lose = one_in(w, 3) ? 0 : 10,
                .flip = one_in(w, 2) ? 0 : 300,
                .roll = one_in(w, 3) ? 20 : 0,
                .damage = one_in(w, 2) ? 0 : (unsigned)choose(w, 300)};
        w->rolling = w->count;
        w->rates.has_slow_disks = one_in(w, 6);
        if (w->rates.has_slow_disks)
                w->rates.all_off = 10 + (unsigned)choose(w, 30);
        if (!one_in(w, 5))
                return;
        w->rates.is_restless = true;
        w->rates.crash = 100 + (unsigned)choose(w, 200);
        w->rates.cut = 100 + (unsigned)choose(w, 200);
        w->rates.all_off = (unsigned)choose(w, 30);
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

        if (!n->store && !n->is_closing && !n->is_lost && !n->is_broken && !n->world->result->has_failed) {
                world_tell(n->world, "node %u starts", n->number + 1);
                node_start(n);
        }
}

static uint64_t time_down(struct world *w)
{
        if (w->rates.down_us)
                return w->rates.down_us + choose(w, 500 * 1000);
        if (w->rates.is_restless)
                return 5 * 1000 + choose(w, 80 * 1000);
        return 20 * 1000 + choose(w, one_in(w, 4) ? 4000 * 1000 : 600 * 1000);
}

void bring_down(struct node *n, bool is_power_cut)
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
        if (in_1000(w, w->rates.flip))
                disks_flip(n);
        os_sim_world_call(w->sim, time_down(w), on_restart, n);
}

static void on_exit_due(void *arg)
{
        struct node *n = arg;

        if (!n->is_doomed || !n->store)
                return;
        n->world->totals->exits++;
        n->exits++;
        if (n->is_flipped && n->exits > EXITS_MAX)
                n->is_broken = true;
        if (n->is_broken) {
                n->world->totals->broken++;
                world_tell(n->world, "node %u is broken", n->number + 1);
        }
        bring_down(n, false);
}

void node_exits(struct node *n)
{
        if (n->is_doomed)
                return;
        n->is_doomed = true;
        if (n->is_paused) {
                n->is_paused = false;
                os_sim_resume(n->os);
        }
        os_sim_world_call(n->world->sim, 1, on_exit_due, n);
}

void faults_take_away(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++) {
                struct node *n = &w->nodes[i];

                if (!n->is_flipped || n->is_broken)
                        continue;
                n->is_broken = true;
                w->totals->broken++;
                world_tell(w, "node %u is taken away", n->number + 1);
                if (n->store)
                        bring_down(n, false);
        }
}

/* ---- orderly stops ---- */

static void on_stopped(void *arg)
{
        struct node *n = arg;

        if (!n->is_closing) /* the power went meanwhile */
                return;
        n->is_closing = false;
        os_sim_kill(n->os);
        node_gone(n);
        os_sim_world_call(n->world->sim, time_down(n->world), on_restart, n);
}

static void on_closed(void *arg)
{
        struct node *n = arg;

        os_sim_world_call(n->world->sim, 1, on_stopped, n);
}

static void on_stop(void *arg)
{
        struct node *n = arg;

        if (!n->store || n->is_doomed || n->is_closing || !n->has_opened)
                return;
        world_tell(n->world, "node %u is stopped", n->number + 1);
        n->world->totals->stops++;
        n->is_closing = true;
        readers_node_closes(n->world, n);
        store_close(&n->store, on_closed, n);
}

/* One node after the other, each when all are up. */
static void roll(struct world *w)
{
        if (w->rolling == w->count) {
                if (in_1000(w, w->rates.roll))
                        w->rolling = 0;
                return;
        }
        for (unsigned i = 0; i < w->count; i++)
                if (!w->nodes[i].is_lost && !w->nodes[i].is_broken &&
                        (!w->nodes[i].store || !store_is_ready(w->nodes[i].store)))
                        return;
        while (w->rolling < w->count && !w->nodes[w->rolling].store)
                w->rolling++;
        if (w->rolling == w->count)
                return;
        os_post(w->nodes[w->rolling].os, on_stop, &w->nodes[w->rolling]);
        w->rolling++;
}

/* ---- what is lost for ever ---- */

/* A disk is gone. Who has it joins with another one, as somebody new. */
static void lose_one(struct world *w)
{
        struct node *n = &w->nodes[choose(w, w->count)];

        if (w->has_lost || w->founders == 1 || w->count == NODES_MAX || !n->store)
                return;
        faults_lose(n);
}

void faults_lose(struct node *n)
{
        struct world *w = n->world;

        w->has_lost = true;
        n->is_lost = true;
        w->totals->lost_nodes++;
        bring_down(n, true);
        world_tell(w, "node %u is lost for ever", n->number + 1);
        w->count++;
        node_init(w, w->count - 1);
        w->rates.change = MAX(w->rates.change, 100);
}

/* Whatever it is in the middle of. */
static void on_cut_power(void *arg)
{
        struct node *n = arg;

        if (n->store && !n->world->is_healing)
                bring_down(n, true);
}

void faults_cut_power_soon(struct node *n, uint64_t us)
{
        os_sim_world_call(n->world->sim, us, on_cut_power, n);
}

void faults_on_vote(struct node *n)
{
        if (!n->world->is_healing && one_in(n->world, 3))
                os_sim_world_call(n->world->sim, 1 + choose(n->world, 3000), on_cut_power, n);
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

void faults_pause(struct node *n, uint64_t us)
{
        world_tell(n->world, "node %u pauses", n->number + 1);
        n->world->totals->pauses++;
        n->is_paused = true;
        os_sim_pause(n->os);
        os_sim_world_call(n->world->sim, us, on_resume, n);
}

static void pause_one(struct world *w)
{
        struct node *n = &w->nodes[choose(w, w->count)];

        if (n->store && !n->is_paused)
                faults_pause(n, 50 * 1000 + choose(w, 3000 * 1000));
}

static void set_cut(struct world *w, unsigned from, unsigned to, bool is_cut)
{
        w->is_cut[from][to] = is_cut;
}

void faults_mend_links(struct world *w)
{
        memset(w->is_cut, 0, sizeof w->is_cut);
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].store)
                        bus_tell_links(w, i, true);
}

static void on_mend(void *arg)
{
        faults_mend_links(arg);
}

void faults_cut_off(struct world *w, const struct node *n)
{
        world_tell(w, "node %u is cut off", n->number + 1);
        for (unsigned i = 0; i < w->count; i++) {
                set_cut(w, n->number, i, true);
                set_cut(w, i, n->number, true);
        }
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
                faults_cut_off(w, &w->nodes[a]);
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
        os_sim_world_call(w->sim,
                w->rates.is_restless ? 20 * 1000 + choose(w, 400 * 1000)
                                     : 100 * 1000 + choose(w, 2500 * 1000),
                on_mend, w);
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

void faults_grow(struct node *leader)
{
        const uint64_t node_ids[] = {2, 3};

        world_tell(leader->world, "node %u: grow", leader->number + 1);
        store_grow(leader->store, node_ids, 2, os_monotonic_us(leader->os) + 2 * 1000 * 1000, on_grown,
                leader->world);
}

void faults_change(struct node *leader, enum store_change which, const struct node *n)
{
        char address[32];

        snprintf(address, sizeof address, "node-%u:2112", n->number + 1);
        world_tell(leader->world, "node %u: change %d of node %u", leader->number + 1, which, n->number + 1);
        store_change_members(leader->store, which, n->node_id, address,
                os_monotonic_us(leader->os) + 3 * 1000 * 1000, on_changed, leader->world);
}

static void change(struct world *w)
{
        struct node *leader = find_leader(w);
        unsigned joiners = w->count - w->founders;
        struct node *n = joiners && !one_in(w, 4) ? &w->nodes[w->founders + choose(w, joiners)]
                                                  : &w->nodes[choose(w, w->count)];
        static const enum store_change changes[] = {
                STORE_ADD, STORE_PROMOTE, STORE_DEMOTE, STORE_PROMOTE, STORE_ADD, STORE_REMOVE};
        enum store_change which = n->is_lost ? STORE_REMOVE : changes[choose(w, COUNT_OF(changes))];

        if (!leader || leader->is_paused)
                return;
        if (w->founders == 1 && one_in(w, 3)) {
                if (one_in(w, 2))
                        faults_cut_power_soon(leader, 1 + choose(w, 20 * 1000));
                faults_grow(leader);
                return;
        }
        if (one_in(w, 4))
                faults_cut_power_soon(leader, 1 + choose(w, 10 * 1000));
        faults_change(leader, which, n);
}

void faults_transfer(struct node *leader, const struct node *to)
{
        world_tell(leader->world, "node %u: transfer to node %u", leader->number + 1, to->number + 1);
        store_change_members(leader->store, STORE_TRANSFER, to->node_id, NULL,
                os_monotonic_us(leader->os) + 2 * 1000 * 1000, on_transferred, leader->world);
}

static void transfer(struct world *w)
{
        struct node *leader = find_leader(w);
        struct node *n = &w->nodes[choose(w, w->count)];

        if (leader && !leader->is_paused && n != leader)
                faults_transfer(leader, n);
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
        if (in_1000(w, w->rates.lose))
                lose_one(w);
        roll(w);
        disks_chance(w);
}

void faults_heal(struct world *w)
{
        w->is_healing = true;
        w->favourite = NULL;
        w->is_quiet = w->are_expectations_wrong = false;
        on_mend(w);
        disks_heal(w);
        w->rates.flip = 0;
        for (unsigned i = 0; i < w->count; i++) {
                struct node *n = &w->nodes[i];

                on_resume(n);
                if (!n->store)
                        on_restart(n);
        }
}
