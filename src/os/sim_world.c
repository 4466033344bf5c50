/* The world of simulated machines: true time, what is due next, and the links of its network. A step asks
 * each machine for what it has due first, which the machine remembers, and takes the earliest; the network
 * and the test go before machines, and a machine before those added after it. */
#include "os/sim.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/memory.h"

enum {
        LATENCY_US_MIN = 50,
        LATENCY_US_MAX = 500,
        LATENCY_SELF_US = 15,
        JITTER_US_MAX = 300,
        LONG_DELAY_US_MAX = 20000,
        LONG_DELAY_PERMILLE_MAX = 5,
        LOSS_PERMILLE_MAX = 20,
        REPEAT_PERMILLE_MAX = 10,
        REORDER_PERMILLE_MAX = 40,
        WALL_OFF_US_MAX = 20000,
        MONOTONIC_BEGIN_US_MAX = 1000000000,
};

/* Something of the test's. */
struct sim_call {
        struct os_timer timer;
        struct os_sim_world *world;
        struct list link;
        void (*fn)(void *arg);
        void *arg;
};

/* ---- chance and hash ---- */

uint64_t world_choose(struct os_sim_world *world, uint64_t below)
{
        return sim_random_below(&world->random, below);
}

void world_note(struct os_sim_world *world, uint64_t kind, uint64_t a, uint64_t b)
{
        sim_hash_mix(&world->hash, world->now_us << 8 | kind);
        sim_hash_mix(&world->hash, a);
        sim_hash_mix(&world->hash, b);
}

/* ---- what is due ---- */

void world_timer_start(struct os_sim_world *world, struct os_timer *timer, uint64_t due_us)
{
        assert(timer->fn);
        timers_start(&world->timers, timer, MAX(due_us, world->now_us), world->sequence++);
}

void world_timer_stop(struct os_sim_world *world, struct os_timer *timer)
{
        if (timer->is_on)
                timers_stop(&world->timers, timer);
}

/* The machine whose turn it is, NULL for the network's and the test's; *ret_due_us tells when. */
static struct sim *world_next(const struct os_sim_world *world, uint64_t *ret_due_us)
{
        const struct timers_entry *timer = timers_first(&world->timers);
        uint64_t best = timer ? timer->due_us : UINT64_MAX, due;
        struct sim *sim = NULL;
        unsigned i;

        for (i = 0; i < world->count; i++) {
                if (!world->machines[i])
                        continue;
                due = sim_due(world->machines[i]);
                if (due < UINT64_MAX) /* what fell due in a pause is due now */
                        due = MAX(due, world->now_us);
                if (due < best) {
                        best = due;
                        sim = world->machines[i];
                }
        }
        *ret_due_us = best;
        return sim;
}

static void world_run(struct os_sim_world *world, struct sim *sim, uint64_t due_us)
{
        struct os_timer *timer;

        world->now_us = MAX(world->now_us, due_us);
        if (sim) {
                sim_hash_mix(&world->hash, world->now_us << 8 | sim->index);
                sim_step(sim);
                return;
        }
        timer = timers_first(&world->timers)->timer;
        timers_stop(&world->timers, timer);
        timer->fn(timer);
}

bool os_sim_world_step(struct os_sim_world *world)
{
        uint64_t due_us;
        struct sim *sim = world_next(world, &due_us);

        if (due_us == UINT64_MAX)
                return false;
        world_run(world, sim, due_us);
        return true;
}

void os_sim_world_run_for(struct os_sim_world *world, uint64_t us)
{
        uint64_t end_us = world->now_us + us, due_us;
        struct sim *sim;
        unsigned i;

        while ((sim = world_next(world, &due_us), due_us <= end_us))
                world_run(world, sim, due_us);
        world->now_us = MAX(world->now_us, end_us);
        for (i = 0; i < world->count; i++)
                if (world->machines[i])
                        sim_sync_clock(world->machines[i]);
}

uint64_t os_sim_world_now_us(const struct os_sim_world *world)
{
        return world->now_us;
}

/* ---- the test's ---- */

static void call_free(struct sim_call *call)
{
        world_timer_stop(call->world, &call->timer);
        list_remove(&call->link);
        free(call);
}

static void on_call(struct os_timer *timer)
{
        struct sim_call *call = timer->arg;
        void (*fn)(void *arg) = call->fn;
        void *arg = call->arg;

        world_note(call->world, SIM_CALL, 0, 0);
        call_free(call);
        fn(arg);
}

void os_sim_world_call(struct os_sim_world *world, uint64_t after_us, void (*fn)(void *arg), void *arg)
{
        struct sim_call *call = MEMORY_NEW(struct sim_call);

        call->world = world;
        call->fn = fn;
        call->arg = arg;
        call->timer = (struct os_timer){.fn = on_call, .arg = call};
        list_add_last(&world->calls, &call->link);
        world_timer_start(world, &call->timer, world->now_us + MAX(after_us, (uint64_t)1));
}

uint64_t os_sim_world_choose(struct os_sim_world *world, uint64_t below)
{
        return world_choose(world, below);
}

void os_sim_world_observe(struct os_sim_world *world, const void *data, size_t size)
{
        world_note(world, SIM_OBSERVE, size, crc32c(0, data, size));
}

uint64_t os_sim_world_hash(const struct os_sim_world *world)
{
        uint64_t hash = world->hash;
        unsigned i;

        for (i = 0; i < world->count; i++)
                if (world->machines[i])
                        sim_hash_mix(&hash, world->machines[i]->stats.hash);
        return hash;
}

struct os_sim_net_stats os_sim_world_stats(const struct os_sim_world *world)
{
        return world->stats;
}

/* ---- links ---- */

struct sim_link *world_link(struct os_sim_world *world, const struct sim *from, const struct sim *to)
{
        assert(world->links);
        return &world->links[from->index * OS_SIM_MACHINES_MAX + to->index];
}

uint64_t world_delay(struct os_sim_world *world, struct sim_link *link, size_t size)
{
        uint64_t us = 0;

        if (link->is.bytes_per_second_max) {
                link->busy_until_us = MAX(link->busy_until_us, world->now_us) +
                                      (uint64_t)size * 1000000 / link->is.bytes_per_second_max;
                us = link->busy_until_us - world->now_us;
        }
        us += link->is.latency_us;
        if (link->is.jitter_us)
                us += world_choose(world, (uint64_t)link->is.jitter_us + 1);
        if (link->is.long_delay_permille && world_choose(world, 1000) < link->is.long_delay_permille)
                us += world_choose(world, (uint64_t)link->is.long_delay_us + 1);
        return us;
}

static void link_begin(struct os_sim_world *world, struct sim_link *link, bool is_self)
{
        if (is_self)
                link->begin =
                        (struct os_sim_link){.latency_us = LATENCY_SELF_US, .jitter_us = LATENCY_SELF_US};
        else
                link->begin = (struct os_sim_link){
                        .latency_us = LATENCY_US_MIN +
                                      (uint32_t)world_choose(world, LATENCY_US_MAX - LATENCY_US_MIN + 1),
                        .jitter_us = (uint32_t)world_choose(world, JITTER_US_MAX + 1),
                        .long_delay_us = (uint32_t)world_choose(world, LONG_DELAY_US_MAX + 1),
                        .long_delay_permille = (uint32_t)world_choose(world, LONG_DELAY_PERMILLE_MAX + 1),
                        .loss_permille = (uint32_t)world_choose(world, LOSS_PERMILLE_MAX + 1),
                        .repeat_permille = (uint32_t)world_choose(world, REPEAT_PERMILLE_MAX + 1),
                        .reorder_permille = (uint32_t)world_choose(world, REORDER_PERMILLE_MAX + 1)};
        link->is = link->begin;
}

struct os_sim_link os_sim_world_link(
        const struct os_sim_world *world, const struct os *from, const struct os *to)
{
        return world_link((struct os_sim_world *)(uintptr_t)world, sim_of(from), sim_of(to))->is;
}

void os_sim_world_set_link(struct os_sim_world *world, const struct os *from, const struct os *to,
        const struct os_sim_link *link)
{
        struct sim_link *l = world_link(world, sim_of(from), sim_of(to));
        bool has_changed = l->is.is_cut != link->is_cut || l->is.is_stalled != link->is_stalled;

        l->is = *link;
        if (!link->bytes_per_second_max)
                l->busy_until_us = 0;
        if (has_changed) {
                sim_tcp_link_changed(world, sim_of(from), sim_of(to));
                sim_udp_link_changed(world, sim_of(from), sim_of(to));
        }
}

void os_sim_world_cut(struct os_sim_world *world, const struct os *a, const struct os *b, bool is_cut)
{
        struct os_sim_link there = os_sim_world_link(world, a, b), back = os_sim_world_link(world, b, a);

        there.is_cut = back.is_cut = is_cut;
        os_sim_world_set_link(world, a, b, &there);
        os_sim_world_set_link(world, b, a, &back);
}

void os_sim_world_heal(struct os_sim_world *world)
{
        unsigned from, to;

        for (from = 0; from < world->count; from++) {
                for (to = 0; to < world->count; to++) {
                        const struct sim *a = world->machines[from], *b = world->machines[to];

                        if (a && b)
                                os_sim_world_set_link(world, &a->os, &b->os, &world_link(world, a, b)->begin);
                }
        }
}

/* ---- addresses ---- */

bool sim_is_literal(const char *address)
{
        uint8_t bytes[16];

        return strlen(address) < OS_ADDRESS_SIZE &&
               (inet_pton(AF_INET, address, bytes) == 1 || inet_pton(AF_INET6, address, bytes) == 1);
}

bool sim_is_any_address(const char *address)
{
        return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

static bool is_loopback(const char *address)
{
        return strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0;
}

bool sim_is_own_address(const struct sim *sim, const char *address)
{
        return is_loopback(address) || sim_is_any_address(address) || strcmp(sim->address, address) == 0;
}

struct sim *world_find(struct os_sim_world *world, const struct sim *from, const char *address)
{
        unsigned i;

        if (is_loopback(address))
                return world->machines[from->index];
        for (i = 0; i < world->count; i++)
                if (world->machines[i] && strcmp(world->machines[i]->address, address) == 0)
                        return world->machines[i];
        return NULL;
}

void os_sim_world_set_name(
        struct os_sim_world *world, const char *host, const char *const *addresses, unsigned count)
{
        struct sim_name *name;
        unsigned i;

        assert(strlen(host) <= OS_HOST_SIZE_MAX);
        if (!world->names)
                world->names = memory_new_array(OS_SIM_NAMES_MAX, sizeof world->names[0]);
        for (i = 0; i < world->name_count && strcmp(world->names[i].host, host) != 0; i++)
                continue;
        assert(i < OS_SIM_NAMES_MAX);
        name = &world->names[i];
        world->name_count = MAX(world->name_count, i + 1);
        *name = (struct sim_name){0};
        memcpy(name->host, host, strlen(host) + 1);
        for (i = 0; i < count; i++) {
                assert(sim_is_literal(addresses[i]));
                (void)os_addresses_add(&name->addresses, addresses[i]);
        }
}

const char *sim_look_up(struct os *os, const char *host, struct os_addresses *ret)
{
        const struct os_sim_world *world = sim_of(os)->world;
        unsigned i;

        if (strcmp(host, "localhost") == 0)
                host = "127.0.0.1";
        if (sim_is_literal(host)) {
                (void)os_addresses_add(ret, host);
                return NULL;
        }
        for (i = 0; i < world->name_count; i++)
                if (strcmp(world->names[i].host, host) == 0)
                        *ret = world->names[i].addresses;
        return ret->count ? NULL : "Name or service not known";
}

/* ---- birth and end ---- */

static struct os_sim_world *world_new(uint64_t seed)
{
        struct os_sim_world *world = MEMORY_NEW(struct os_sim_world);

        sim_random_init(&world->random, ~seed);
        world->now_us = SIM_CLOCK_BEGIN_US;
        list_init(&world->calls);
        list_init(&world->tcps);
        list_init(&world->datagrams);
        return world;
}

static void world_end(struct os_sim_world *world)
{
        while (!list_is_empty(&world->calls))
                call_free(CONTAINER_OF(world->calls.next, struct sim_call, link));
        sim_udp_fini(world);
        sim_tcp_end(world);
        timers_fini(&world->timers);
        free(world->links);
        free(world->names);
        free(world);
}

int os_sim_new(uint64_t seed, struct os **ret)
{
        struct os_sim_world *world = world_new(seed);

        world->is_single = true;
        world->machines[world->count++] = sim_new(world, seed, SIM_CLOCK_BEGIN_US);
        *ret = &world->machines[0]->os;
        return 0;
}

int os_sim_world_new(uint64_t seed, struct os_sim_world **ret)
{
        *ret = world_new(seed);
        (*ret)->links =
                memory_new_array((size_t)OS_SIM_MACHINES_MAX * OS_SIM_MACHINES_MAX, sizeof(*ret)->links[0]);
        return 0;
}

int os_sim_world_add(struct os_sim_world *world, const char *address, struct os **ret)
{
        struct sim *sim;
        unsigned i;

        assert(world->count < OS_SIM_MACHINES_MAX);
        if (address && (!sim_is_literal(address) || is_loopback(address) || sim_is_any_address(address)))
                return OS_ADDRESS_INVALID;
        for (i = 0; address && i < world->count; i++)
                if (world->machines[i] && strcmp(world->machines[i]->address, address) == 0)
                        return OS_ADDRESS_INVALID;
        sim = sim_new(world, world_choose(world, UINT64_MAX),
                SIM_CLOCK_BEGIN_US + world_choose(world, MONOTONIC_BEGIN_US_MAX));
        sim->wall_offset_us += (int64_t)world_choose(world, 2 * WALL_OFF_US_MAX + 1) - WALL_OFF_US_MAX;
        if (address)
                memcpy(sim->address, address, strlen(address) + 1);
        sim->os.net = &sim_net_table;
        sim->index = world->count;
        world->machines[world->count++] = sim;
        for (i = 0; i < world->count; i++) {
                if (!world->machines[i])
                        continue;
                link_begin(world, world_link(world, sim, world->machines[i]), i == sim->index);
                if (i != sim->index)
                        link_begin(world, world_link(world, world->machines[i], sim), false);
        }
        *ret = &sim->os;
        return 0;
}

void world_forget(struct sim *sim)
{
        struct os_sim_world *world = sim->world;

        sim_tcp_machine_changed(sim, true);
        sim_hash_mix(&world->hash, sim->stats.hash);
        world->machines[sim->index] = NULL;
        if (world->is_single)
                world_end(world);
}

void os_sim_world_free(struct os_sim_world **world)
{
        unsigned i;

        for (i = 0; *world && i < (*world)->count; i++) {
                if ((*world)->machines[i]) {
                        struct os *os = &(*world)->machines[i]->os;

                        os_free(&os);
                }
        }
        if (*world)
                world_end(*world);
        *world = NULL;
}
