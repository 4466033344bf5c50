/* The life of a run: nodes begin, clients and faults act, everything heals, the oracles judge. */
#include <stdarg.h>

#include "room.h"

static const uint8_t CLUSTER_UUID[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t STORE_UUID[16] = {9, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 99};

enum {
        SPACE_RESERVE = 64 * 1024,
        TICK_US = 5 * 1000,
        CHANCE_TICKS = 10,
        HEAL_US_MAX = 60 * 1000 * 1000,
        COMPARES_ONE_IN = 4,
        COMPARE_US = 200 * 1000,
        SCRUB_US = 1500 * 1000,
};

void world_fail(struct world *w, const char *format, ...)
{
        va_list arguments;

        if (w->result->has_failed)
                return;
        w->result->has_failed = true;
        va_start(arguments, format);
        vsnprintf(w->result->what, sizeof w->result->what, format, arguments);
        va_end(arguments);
        world_tell(w, "FAILED: %s", w->result->what);
}

void world_tell(struct world *w, const char *format, ...)
{
        va_list arguments;

        if (!w->options.is_loud)
                return;
        printf("%10.6f ", (double)os_sim_world_now_us(w->sim) / 1e6);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
}

/* ---- nodes ---- */

static void on_open(void *arg, int result, const char *problem)
{
        struct node *n = arg;

        n->has_opened = true;
        if (!result)
                subscribers_node_opened(n);
        if (!result || n->is_doomed)
                return;
        world_tell(n->world, "node %u did not open: %s", n->number + 1, problem);
        /* Among others a node gives up nothing but the beginning of its log, and what only it can know. */
        if (result == PERSISTENCE_CORRUPT && strstr(problem, ".seg ") &&
                !strstr(problem, "/00000000000000000001.seg "))
                world_fail(
                        n->world, "node %u did not open, and could mend itself: %s", n->number + 1, problem);
        if (result == PERSISTENCE_CORRUPT && n->is_flipped)
                n->is_broken = true;
        else if (!n->may_fail && !n->is_flipped)
                world_fail(n->world, "node %u did not open: %s", n->number + 1, problem);
        node_exits(n);
}

static void on_disk_fault(void *arg, const char *problem)
{
        struct node *n = arg;

        world_tell(n->world, "node %u: %s", n->number + 1, problem);
        if (!n->may_fail && !n->is_flipped)
                world_fail(n->world, "node %u: %s", n->number + 1, problem);
        node_exits(n);
}

static void on_wrong_history(void *arg, const char *problem)
{
        struct node *n = arg;

        world_tell(n->world, "node %u: %s", n->number + 1, problem);
        if (!n->has_other_history)
                world_fail(n->world, "node %u, whose history nobody changed: %s", n->number + 1, problem);
        n->has_other_history = false;
        node_exits(n);
}

static void on_members(void *arg, const struct cluster_configuration *configuration)
{
        struct node *n = arg;

        for (unsigned i = 0; i < configuration->count; i++)
                n->world->nodes[configuration->servers[i].node_id - 1].is_member = true;
}

void node_start(struct node *n)
{
        struct control_options control = {
                .os = n->os, .node_name = "sim", .ring_facts = 256, .log_fd = -1, .log_level = LEVEL_ERROR};
        struct persistence_identity identity = {.node_id = n->node_id};
        int r;

        disks_begin(n);
        r = control_open(&control, &n->control);
        memcpy(identity.cluster_uuid, CLUSTER_UUID, 16);
        if (!r)
                r = persistence_node_open(n->os, "/data", false, &n->node);
        if (!r && !persistence_node_has_stores(n->node))
                r = persistence_node_adopt(n->node, &identity);
        n->has_opened = false;
        n->is_paused = n->is_doomed = n->is_closing = false;
        n->life++;
        n->next_position = 0;
        n->looked_at = 0;
        n->options.control = n->control;
        n->options.node = n->node;
        if (!r)
                r = store_open(&n->options, &n->store);
        if (r > 0 && n->is_flipped)
                n->is_broken = true;
        else if (r)
                world_fail(n->world, "node %u does not start: %d", n->number + 1, r);
        else
                bus_tell_links(n->world, n->number, true);
}

void node_gone(struct node *n)
{
        store_abandon(&n->store);
        n->node = NULL;
        n->control = NULL;
        n->is_paused = false;
        bus_tell_links(n->world, n->number, false);
        clients_node_gone(n->world, n);
        readers_node_gone(n->world, n);
        subscribers_node_gone(n->world, n);
        n->notification = NULL;
        n->emitter = NULL;
}

void node_init(struct world *w, unsigned number)
{
        struct node *n = &w->nodes[number];
        bool joins = number >= w->founders;
        char address[32];

        n->world = w;
        n->number = number;
        n->node_id = number + 1;
        n->is_member = !joins;
        snprintf(address, sizeof address, "10.0.0.%u", number + 1);
        if (os_sim_world_add(w->sim, address, &n->os))
                abort();
        n->options = (struct store_options){.os = n->os,
                .name = "default",
                .segment_size = 24 * 1024 + choose(w, 3) * 40 * 1024,
                .space_reserve = SPACE_RESERVE,
                .memory_size = 8 * 1024 * 1024,
                .scrub_us = w->compares ? SCRUB_US : 0,
                .sync = w->rates.has_slow_disks ? STORE_SYNC_LANE : (enum store_sync)choose(w, 3),
                .cluster = {.is_member = true,
                        .joins = joins,
                        .store_uuid = STORE_UUID,
                        .trailing = one_in(w, 4) ? 0 : 1 + (uint32_t)choose(w, one_in(w, 3) ? 200 : 10),
                        .founders = joins ? NULL : &w->first,
                        .compare_us = w->compares ? COMPARE_US : 0,
                        .send = bus_send,
                        .on_members = on_members,
                        .arg = n},
                .mutant_skip_sync = w->options.mutant == MUTANT_SKIP_SYNC,
                .mutant_ack_before_sync = w->options.mutant == MUTANT_ACK_BEFORE_SYNC,
                .mutants = w->options.of_store,
                .on_open = on_open,
                .on_disk_fault = on_disk_fault,
                .on_wrong_history = on_wrong_history,
                .arg = n};
        node_start(n);
}

struct node *find_leader(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].store && store_is_leading(w->nodes[i].store))
                        return &w->nodes[i];
        return NULL;
}

/* ---- a run ---- */

static void world_init(struct world *w)
{
        if (os_sim_world_new(w->options.seed, &w->sim))
                abort();
        w->compares = w->options.seed % COMPARES_ONE_IN == 0;
        list_init(&w->parcels);
        list_init(&w->ops);
        list_init(&w->tries);
        list_init(&w->readings);
        list_init(&w->conflicts);
        list_init(&w->readers);
        w->founders = one_in(w, 4) ? 5 : one_in(w, 3) ? 1 : 3;
        w->count = w->founders == 3   ? 3 + (unsigned)choose(w, 3)
                   : w->founders == 1 ? 3 + (unsigned)choose(w, 2)
                                      : 5;
        oracles_init();
        faults_choose_rates(w);
        schedules_begin(w);
        subscribers_init(w);
        if (w->subscribers)
                w->rates.roll = 0; /* the rooms above would have to be stopped first */
        w->first.count = w->founders;
        for (unsigned i = 0; i < w->founders; i++) {
                w->first.servers[i].node_id = i + 1;
                snprintf(w->first.servers[i].address, CLUSTER_ADDRESS_SIZE, "node-%u:2112", i + 1);
        }
        for (unsigned i = 0; i < w->count; i++)
                node_init(w, i);
}

static void world_fini(struct world *w)
{
        /* The power goes for all: what a stop would do is the single node's simulator's to test. */
        for (unsigned i = 0; i < w->count; i++) {
                if (!w->nodes[i].store)
                        continue;
                os_sim_crash(w->nodes[i].os);
                store_abandon(&w->nodes[i].store);
        }
        w->result->hash = os_sim_world_hash(w->sim);
        os_sim_world_free(&w->sim);
        bus_forget(w);
        clients_fini(w);
        subscribers_fini(w);
}

static void act_for(struct world *w, uint64_t us)
{
        uint64_t end = os_sim_world_now_us(w->sim) + us;

        for (unsigned tick = 0; os_sim_world_now_us(w->sim) < end && !w->result->has_failed; tick++) {
                os_sim_world_run_for(w->sim, TICK_US);
                clients_act(w);
                readers_act(w);
                subscribers_act(w);
                oracles_look(w);
                schedules_act(w);
                if (tick % CHANCE_TICKS == CHANCE_TICKS - 1)
                        faults_chance(w);
        }
}

static void converge(struct world *w)
{
        uint64_t end = os_sim_world_now_us(w->sim) + HEAL_US_MAX;

        world_tell(w, "healing");
        faults_heal(w);
        while (!w->result->has_failed &&
                !(oracles_have_converged(w) && subscribers_are_done(w) && clients_were_heard(w))) {
                subscribers_act(w);
                if (os_sim_world_now_us(w->sim) > end - HEAL_US_MAX / 2)
                        faults_take_away(w);
                os_sim_world_run_for(w->sim, 50 * 1000);
                oracles_look(w);
                if (os_sim_world_now_us(w->sim) > end) {
                        oracles_tell(w);
                        subscribers_tell(w);
                        world_fail(w, "no convergence within a minute after everything was healed");
                        return;
                }
        }
}

void run(const struct run_options *options, struct run_totals *totals, struct run_result *result)
{
        struct world *w = MEMORY_NEW(struct world);
        uint64_t us;

        w->options = *options;
        w->totals = totals;
        w->result = result;
        world_init(w);
        us = 2 * 1000 * 1000 + choose(w, 4 * 1000 * 1000);
        act_for(w, schedules_us(w) ? schedules_us(w) : us);
        if (!result->has_failed)
                converge(w);
        if (!result->has_failed)
                rewriting_act(w);
        if (!result->has_failed && w->compares)
                converge(w);
        if (!result->has_failed) {
                clients_last_word(w);
                converge(w);
        }
        if (!result->has_failed)
                oracles_mend(w);
        if (!result->has_failed && !oracles_have_converged(w))
                converge(w); /* time has passed meanwhile */
        if (!result->has_failed)
                oracles_judge(w);
        totals->runs++;
        world_fini(w);
        free(w);
}
