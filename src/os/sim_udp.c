/* Simulated datagrams. Each is a thing of its own on its way: lost, sent twice or held back by the seed when
 * it is sent; what a stalled link holds goes on when the link is mended. */
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/memory.h"

enum { PORT_FIRST = 32768, PORTS = 28000, INBOX_MAX = 64, REORDER_US_MAX = 20000 };

/* To a machine; what socket takes it is seen when it is there. */
struct sim_datagram {
        struct os_timer timer;
        struct list link; /* of the world, then of a socket's inbox */
        struct os_sim_world *world;
        unsigned from; /* machines */
        unsigned to;
        bool is_waiting;               /* the link is stalled */
        char address[OS_ADDRESS_SIZE]; /* of the sender */
        uint16_t from_port;
        char target[OS_ADDRESS_SIZE]; /* a machine's address or a group */
        uint16_t port;
        bool is_for_group;
        size_t size;
        uint8_t data[];
};

struct sim_udp {
        struct os_udp udp;
        struct list link; /* of the machine */
        char address[OS_ADDRESS_SIZE];
        char group[OS_ADDRESS_SIZE]; /* empty: none */
        uint16_t port;
        os_udp_receive *on_datagram;
        void *arg;
        struct list inbox;
        unsigned inbox_count;
        bool is_awake; /* the process will look at it */
        bool is_closed;
};

static struct sim_udp *udp_of(struct os_udp *udp)
{
        return CONTAINER_OF(udp, struct sim_udp, udp);
}

static bool is_group(const char *address)
{
        unsigned first = (unsigned)strtoul(address, NULL, 10);

        return (strchr(address, '.') && first >= 224 && first < 240) || strncmp(address, "ff", 2) == 0;
}

static void datagram_free(struct sim_datagram *d)
{
        world_timer_stop(d->world, &d->timer);
        list_remove(&d->link);
        free(d);
}

/* ---- receiving ---- */

static void udp_free(struct sim_udp *u)
{
        while (!list_is_empty(&u->inbox))
                datagram_free(CONTAINER_OF(u->inbox.next, struct sim_datagram, link));
        list_remove(&u->link);
        free(u);
}

/* One datagram for each look, as the loop takes one after the other. */
static void on_awake(void *arg)
{
        struct sim_udp *u = arg;
        struct sim *sim = sim_of(u->udp.os);
        struct sim_datagram *d;

        u->is_awake = false;
        if (u->is_closed) {
                udp_free(u);
                return;
        }
        d = CONTAINER_OF(u->inbox.next, struct sim_datagram, link);
        list_remove(&d->link);
        u->inbox_count--;
        if (u->inbox_count) {
                u->is_awake = true;
                sim_wake(sim, on_awake, u);
        }
        sim_note(sim, SIM_DATAGRAM, d->size, d->from_port);
        u->on_datagram(u->arg, bytes_of(d->data, d->size), d->address, d->from_port);
        datagram_free(d);
}

static bool is_taken_by(const struct sim_udp *u, const struct sim_datagram *d)
{
        if (u->port != d->port || u->is_closed)
                return false;
        if (d->is_for_group)
                return strcmp(u->group, d->target) == 0;
        return sim_is_any_address(u->address) || strcmp(u->address, d->target) == 0;
}

static struct sim_datagram *datagram_copy(const struct sim_datagram *d)
{
        struct sim_datagram *copy = memory_new(sizeof *copy + d->size);

        memcpy(copy, d, sizeof *copy + d->size);
        copy->timer = (struct os_timer){.fn = d->timer.fn, .arg = copy};
        list_init(&copy->link);
        return copy;
}

static void udp_take(struct sim_udp *u, const struct sim_datagram *d)
{
        if (u->inbox_count == INBOX_MAX) {
                d->world->stats.datagrams_lost++;
                return;
        }
        d->world->stats.datagrams++;
        list_add_last(&u->inbox, &datagram_copy(d)->link);
        u->inbox_count++;
        if (!u->is_awake) {
                u->is_awake = true;
                sim_wake(sim_of(u->udp.os), on_awake, u);
        }
}

static void on_arrival(struct os_timer *timer)
{
        struct sim_datagram *d = timer->arg;
        struct sim *to = d->world->machines[d->to];

        world_note(d->world, SIM_DATAGRAM, (uint64_t)d->from << 32 | d->to, crc32c(0, d->data, d->size));
        if (to) {
                LIST_EACH (at, &to->udps) {
                        struct sim_udp *u = CONTAINER_OF(at, struct sim_udp, link);

                        if (is_taken_by(u, d)) {
                                udp_take(u, d);
                                if (!d->is_for_group)
                                        break;
                        }
                }
        }
        datagram_free(d);
}

/* ---- sending ---- */

static void send_copy(const struct sim_datagram *d, struct sim_link *link)
{
        struct os_sim_world *world = d->world;
        struct sim_datagram *copy = datagram_copy(d);
        uint64_t delay = world_delay(world, link, d->size);

        if (link->is.reorder_permille && world_choose(world, 1000) < link->is.reorder_permille)
                delay += world_choose(world, REORDER_US_MAX);
        list_add_last(&world->datagrams, &copy->link);
        copy->is_waiting = link->is.is_stalled;
        if (!copy->is_waiting)
                world_timer_start(world, &copy->timer, world->now_us + delay);
}

static void send_to(struct sim_datagram *d, const struct sim *from, const struct sim *to)
{
        struct os_sim_world *world = d->world;
        struct sim_link *link = world_link(world, from, to);

        d->to = to->index;
        if (link->is.is_cut || to->is_silent ||
                (link->is.loss_permille && world_choose(world, 1000) < link->is.loss_permille)) {
                world->stats.datagrams_lost++;
                return;
        }
        send_copy(d, link);
        if (link->is.repeat_permille && world_choose(world, 1000) < link->is.repeat_permille)
                send_copy(d, link);
}

int sim_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram)
{
        struct sim_udp *u = udp_of(udp);
        struct sim *from = sim_of(udp->os), *to;
        struct os_sim_world *world = from->world;
        struct sim_datagram *d;
        unsigned i;

        if (!sim_is_literal(address))
                return OS_ADDRESS_INVALID;
        if (!from->address[0])
                return 0;
        d = memory_new(sizeof *d + datagram.size);
        *d = (struct sim_datagram){.world = world,
                .from = from->index,
                .from_port = u->port,
                .port = port,
                .is_for_group = is_group(address),
                .size = datagram.size};
        list_init(&d->link);
        d->timer = (struct os_timer){.fn = on_arrival, .arg = d};
        memcpy(d->address, from->address, sizeof d->address);
        memcpy(d->target, address, strlen(address) + 1);
        if (datagram.size)
                memcpy(d->data, datagram.data, datagram.size);
        if (d->is_for_group) {
                for (i = 0; i < world->count; i++)
                        if (world->machines[i] && world->machines[i]->address[0])
                                send_to(d, from, world->machines[i]);
        } else {
                to = world_find(world, from, address);
                if (to)
                        send_to(d, from, to);
                else
                        world->stats.datagrams_lost++;
        }
        datagram_free(d);
        return 0;
}

void sim_udp_link_changed(struct os_sim_world *world, const struct sim *from, const struct sim *to)
{
        struct sim_link *link = world_link(world, from, to);

        LIST_EACH_SAFE (at, &world->datagrams) {
                struct sim_datagram *d = CONTAINER_OF(at, struct sim_datagram, link);

                if (d->from != from->index || d->to != to->index)
                        continue;
                if (link->is.is_cut) {
                        world->stats.datagrams_lost++;
                        datagram_free(d);
                } else if (link->is.is_stalled) {
                        world_timer_stop(world, &d->timer);
                        d->is_waiting = true;
                } else if (d->is_waiting) {
                        d->is_waiting = false;
                        world_timer_start(
                                world, &d->timer, world->now_us + world_delay(world, link, d->size));
                }
        }
}

/* ---- sockets ---- */

static bool is_port_free(struct sim *sim, uint16_t port, bool may_share)
{
        LIST_EACH (at, &sim->udps) {
                struct sim_udp *u = CONTAINER_OF(at, struct sim_udp, link);

                if (u->port == port && !u->is_closed && !(may_share && u->group[0]))
                        return false;
        }
        return true;
}

int sim_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port)
{
        struct sim *sim = sim_of(os);
        uint16_t port = options->port;
        struct sim_udp *u;

        if (!sim_is_literal(options->address) ||
                !(sim_is_own_address(sim, options->address) || is_group(options->address)))
                return OS_ADDRESS_INVALID;
        if (options->group && !(sim_is_literal(options->group) && is_group(options->group)))
                return OS_ADDRESS_INVALID;
        if (options->interface &&
                !(sim_is_literal(options->interface) && sim_is_own_address(sim, options->interface)))
                return OS_ADDRESS_INVALID;
        if (port && !is_port_free(sim, port, options->group))
                return OS_ADDRESS_IN_USE;
        while (!port || !is_port_free(sim, port, options->group))
                port = (uint16_t)(PORT_FIRST + world_choose(sim->world, PORTS));
        sim_power_on(sim);
        u = MEMORY_NEW(struct sim_udp);
        u->udp.os = os;
        memcpy(u->address, options->address, strlen(options->address) + 1);
        if (options->group)
                memcpy(u->group, options->group, strlen(options->group) + 1);
        u->port = port;
        u->on_datagram = on_datagram;
        u->arg = arg;
        list_init(&u->inbox);
        list_add_last(&sim->udps, &u->link);
        *ret = &u->udp;
        *ret_port = port;
        return 0;
}

void sim_udp_close(struct os_udp *udp)
{
        struct sim_udp *u = udp_of(udp);

        u->is_closed = true;
        if (!u->is_awake)
                udp_free(u);
}

void sim_udp_lose(struct sim *sim)
{
        while (!list_is_empty(&sim->udps))
                udp_free(CONTAINER_OF(sim->udps.next, struct sim_udp, link));
}

void sim_udp_fini(struct os_sim_world *world)
{
        while (!list_is_empty(&world->datagrams))
                datagram_free(CONTAINER_OF(world->datagrams.next, struct sim_datagram, link));
}
