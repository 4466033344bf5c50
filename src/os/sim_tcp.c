/* What processes have of simulated connections. The network only marks what happened to an end and wakes its
 * machine; the process looks at the marks when it runs, and everything that its handler hears comes from
 * there. So a paused machine hears nothing, and an end is freed only when nothing of it is waiting to be
 * looked at. */
#include "os/sim_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"

enum { PORT_FIRST = 32768, PORTS = 28000, SEND_PARTS = 4 };
#define FLUSH_US_MAX  ((uint64_t)5000000)
#define LINGER_US_MAX ((uint64_t)500000)

static const struct sm_state end_states[] = {
        [SIM_END_NONE] = {"none", TO(SIM_END_CONNECTING) | TO(SIM_END_OFFERED)},
        [SIM_END_CONNECTING] = {"connecting", TO(SIM_END_OPEN) | TO(SIM_END_CLOSED)},
        [SIM_END_OFFERED] = {"offered", TO(SIM_END_OPEN) | TO(SIM_END_CLOSED)},
        [SIM_END_OPEN] = {"open", TO(SIM_END_FLUSHING) | TO(SIM_END_CLOSED)},
        [SIM_END_FLUSHING] = {"flushing", TO(SIM_END_LINGERING) | TO(SIM_END_CLOSED)},
        [SIM_END_LINGERING] = {"lingering", TO(SIM_END_CLOSED)},
        [SIM_END_CLOSED] = {"closed", 0},
};

static struct sim_end *end_of(const struct os_conn *conn)
{
        return CONTAINER_OF((struct os_conn *)(uintptr_t)conn, struct sim_end, conn);
}

static struct sim_flow *flow_of(struct sim_end *end)
{
        return &end->tcp->flows[end->side];
}

static size_t queued(const struct sim_end *end)
{
        return sim_bytes_view(&end->queue).size;
}

/* ---- end of a connection ---- */

/* The kernel lets go of what the process has closed. What nobody read resets the peer. */
static void kernel_close(struct sim_end *end, bool is_hard)
{
        struct os_sim_world *world = end->tcp->world;

        world_timer_stop(world, &end->silence);
        world_timer_stop(world, &end->reset);
        if (!end->is_dead && !flow_of(end)->has_end && end->is_established) {
                if (is_hard || sim_bytes_view(&end->inbox).size) {
                        sim_flow_drop(end->tcp, end->side);
                        sim_end_reset(sim_end_other(end), sim_tcp_delay(end->tcp, end->side));
                } else {
                        sim_flow_end(end->tcp, end->side);
                }
        }
        end->is_dead = true;
}

/* The process has it no more. */
static void detach(struct sim_end *end)
{
        end->is_attached = false;
        list_remove(&end->link);
        sim_bytes_clear(&end->queue);
        sim_bytes_clear(&end->inbox);
        sim_end_review(sim_end_other(end));
        sim_tcp_release(end->tcp);
}

/* Whatever is queued is lost. */
static void end_close(struct sim_end *end)
{
        if (end->state == SIM_END_CLOSED)
                return;
        sm_move(end_states, &end->state, SIM_END_CLOSED);
        os_timer_stop(&end->limit);
        kernel_close(end, false);
        sim_end_wake(end);
}

static void on_limit(struct os_timer *timer)
{
        struct sim_end *end = timer->arg;

        if (end->state != SIM_END_LINGERING) {
                end->problem = "connection timed out";
                end->tcp->world->stats.timeouts++;
        }
        end_close(end);
}

/* The queue is with the kernel. */
static void linger(struct sim_end *end)
{
        assert(queued(end) == 0);
        if (end->has_ended || end->is_broken) {
                end_close(end);
                return;
        }
        sm_move(end_states, &end->state, SIM_END_LINGERING);
        sim_flow_end(end->tcp, end->side);
        os_timer_start(end->conn.os, &end->limit, LINGER_US_MAX);
        sim_end_wake(end); /* for what has come already */
}

static void close_end(struct sim_end *end)
{
        if (end->state == SIM_END_OFFERED || end->state == SIM_END_CONNECTING) {
                end_close(end);
                return;
        }
        if (end->state != SIM_END_OPEN)
                return;
        sm_move(end_states, &end->state, SIM_END_FLUSHING);
        if (queued(end))
                os_timer_start(end->conn.os, &end->limit, FLUSH_US_MAX);
        else
                linger(end);
}

static void sim_conn_close(struct os_conn *conn)
{
        close_end(end_of(conn));
}

/* ---- what the process hears ---- */

static void end_open(struct sim_end *end)
{
        sm_move(end_states, &end->state, SIM_END_OPEN);
        os_timer_stop(&end->limit);
        sim_end_pump(end);
        if (end->handler.on_open)
                end->handler.on_open(end->arg);
}

static void end_offer(struct sim_end *end)
{
        struct sim_listener *listener = end->listener;

        end->is_offered = true;
        end->listener = NULL;
        if (!listener) { /* closed in between */
                kernel_close(end, true);
                end_close(end);
                return;
        }
        listener->on_accept(listener->arg, &end->conn);
}

/* The bytes are taken out for the call: what the handler does may bring a crash, which frees the rest. */
static void end_deliver(struct sim_end *end, struct sim *sim)
{
        struct sim_bytes bytes = end->inbox;
        uint64_t life = sim->life;

        end->inbox = (struct sim_bytes){0};
        sim_note(sim, SIM_ARRIVAL, end->tcp->number, sim_bytes_view(&bytes).size);
        end->handler.on_data(end->arg, sim_bytes_view(&bytes));
        if (life != sim->life) {
                buffer_fini(&bytes.buffer);
                return;
        }
        assert(end->inbox.buffer.size == 0);
        sim_bytes_clear(&bytes);
        end->inbox = bytes;
        sim_flow_room(end->tcp, 1 - end->side);
}

static bool can_read(const struct sim_end *end)
{
        return end->state == SIM_END_OPEN && !end->is_read_stopped;
}

static void end_read(struct sim_end *end, struct sim *sim)
{
        uint64_t life = sim->life;

        if (end->state == SIM_END_LINGERING) {
                sim_bytes_clear(&end->inbox);
                sim_flow_room(end->tcp, 1 - end->side);
                if (end->has_peer_end)
                        end_close(end);
                return;
        }
        if (can_read(end) && sim_bytes_view(&end->inbox).size)
                end_deliver(end, sim);
        if (life == sim->life && can_read(end) && end->has_peer_end) {
                end->has_ended = true;
                close_end(end);
        }
}

static void end_written(struct sim_end *end)
{
        if (queued(end) || end->is_broken)
                return;
        if (end->state == SIM_END_FLUSHING) {
                linger(end);
        } else if (end->state == SIM_END_OPEN && end->must_drain) {
                end->must_drain = false;
                if (end->handler.on_drained)
                        end->handler.on_drained(end->arg);
        }
}

/* A process that neither reads nor waits to write does not notice that a connection is broken. */
static bool must_notice(const struct sim_end *end)
{
        return end->is_broken && !(end->state == SIM_END_OPEN && end->is_read_stopped && queued(end) == 0);
}

static void end_gone(struct sim_end *end)
{
        void (*on_close)(void *arg) = end->handler.on_close;

        if (on_close)
                on_close(end->arg);
}

static void on_awake(void *arg)
{
        struct sim_end *end = arg;
        struct sim *sim = sim_of(end->conn.os);
        uint64_t life = sim->life;

        end->is_awake = false;
        sim_note(sim, SIM_SOCKET, end->tcp->number, end->state);
        if (end->state == SIM_END_CLOSED) {
                end_gone(end);
                if (life == sim->life)
                        detach(end);
                return;
        }
        if (end->state == SIM_END_CONNECTING && end->is_established && !end->is_broken)
                end_open(end);
        else if (end->state == SIM_END_OFFERED && !end->is_offered)
                end_offer(end);
        if (life == sim->life)
                end_read(end, sim);
        if (life == sim->life)
                end_written(end);
        if (life == sim->life && must_notice(end))
                end_close(end);
}

void sim_end_wake(struct sim_end *end)
{
        if (!end->is_attached || end->is_awake)
                return;
        end->is_awake = true;
        sim_wake(sim_of(end->conn.os), on_awake, end);
}

/* ---- sending ---- */

/* A kernel waits until it can take a good part at once: else what arrives cut would be sent cut, and in the
 * end byte by byte. */
void sim_end_pump(struct sim_end *end)
{
        const struct sim_flow *f = flow_of(end);
        size_t room = f->send_room - MIN(f->send_room, f->unacked);

        if ((end->state != SIM_END_OPEN && end->state != SIM_END_FLUSHING) || end->is_broken ||
                !queued(end) || room < MIN(queued(end), f->send_room / SEND_PARTS))
                return;
        sim_bytes_skip(&end->queue, sim_flow_take(end->tcp, end->side, sim_bytes_view(&end->queue)));
        if (!queued(end))
                sim_end_wake(end);
}

static void sim_conn_send(struct os_conn *conn, const struct bytes *pieces, unsigned n)
{
        struct sim_end *end = end_of(conn);
        struct buffer *b = &end->queue.buffer;
        bool was_empty = queued(end) == 0;
        unsigned i;

        assert(end->state != SIM_END_OFFERED);
        if (end->state != SIM_END_OPEN && end->state != SIM_END_CONNECTING)
                return;
        for (i = 0; i < n; i++)
                buffer_add_bytes(b, pieces[i]);
        if (end->is_broken)
                sim_end_wake(end);
        else if (end->state == SIM_END_OPEN && was_empty && queued(end))
                sim_bytes_skip(&end->queue, sim_flow_take(end->tcp, end->side, sim_bytes_view(&end->queue)));
        end->must_drain = end->must_drain || queued(end);
}

static size_t sim_conn_queued(const struct os_conn *conn)
{
        return queued(end_of(conn));
}

/* ---- reading ---- */

static void sim_conn_read_stop(struct os_conn *conn)
{
        end_of(conn)->is_read_stopped = true;
}

static void sim_conn_read_start(struct os_conn *conn)
{
        struct sim_end *end = end_of(conn);

        end->is_read_stopped = false;
        if (end->state == SIM_END_OPEN)
                sim_end_wake(end);
}

static void sim_conn_watch(struct os_conn *conn)
{
        struct sim_end *end = end_of(conn);

        end->is_watched = true;
        world_timer_stop(end->tcp->world, &end->silence);
        sim_end_review(end);
}

static const char *sim_conn_peer(const struct os_conn *conn)
{
        return end_of(conn)->peer;
}

static const char *sim_conn_problem(const struct os_conn *conn)
{
        return end_of(conn)->problem;
}

/* ---- birth of a connection ---- */

void sim_end_open(struct sim_end *end, struct sim *sim, enum sim_end_state state)
{
        assert(!end->is_attached);
        end->conn.os = &sim->os;
        end->is_attached = true;
        end->limit = (struct os_timer){.fn = on_limit, .arg = end};
        list_add_last(&sim->ends, &end->link);
        sm_move(end_states, &end->state, state);
}

static void sim_conn_accept(struct os_conn *conn, const struct os_conn_handler *handler, void *arg)
{
        struct sim_end *end = end_of(conn);

        end->handler = *handler;
        end->arg = arg;
        sm_move(end_states, &end->state, SIM_END_OPEN);
        sim_end_wake(end);
}

static int sim_connect(struct os *os, const char *address, uint16_t port,
        const struct os_conn_handler *handler, void *arg, struct os_conn **ret)
{
        struct sim *sim = sim_of(os);
        struct sim_tcp *tcp;
        struct sim_end *end;

        if (!sim_is_literal(address))
                return OS_ADDRESS_INVALID;
        sim_power_on(sim);
        tcp = sim_tcp_new(sim, world_find(sim->world, sim, address));
        tcp->port = port;
        tcp->client_port = (uint16_t)(PORT_FIRST + world_choose(sim->world, PORTS));
        end = &tcp->ends[0];
        snprintf(end->peer, sizeof end->peer, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
        end->handler = *handler;
        end->arg = arg;
        end->is_watched = true;
        sim_end_open(end, sim, SIM_END_CONNECTING);
        os_timer_start(os, &end->limit, OS_CONNECT_US_MAX);
        sim_tcp_connect(tcp);
        *ret = &end->conn;
        return 0;
}

/* ---- listening ---- */

struct sim_listener *sim_listener_find(struct sim *sim, const struct sim *from, uint16_t port)
{
        LIST_EACH (at, &sim->listeners) {
                struct sim_listener *l = CONTAINER_OF(at, struct sim_listener, link);

                if (l->port == port && (sim == from || sim_is_any_address(l->address) ||
                                               strcmp(l->address, sim->address) == 0))
                        return l;
        }
        return NULL;
}

static bool is_port_free(struct sim *sim, uint16_t port)
{
        LIST_EACH (at, &sim->listeners)
                if (CONTAINER_OF(at, struct sim_listener, link)->port == port)
                        return false;
        return true;
}

static int sim_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept,
        void *arg, struct os_listener **ret, uint16_t *ret_port)
{
        struct sim *sim = sim_of(os);
        struct sim_listener *l;

        if (!sim_is_literal(address) || !sim_is_own_address(sim, address))
                return OS_ADDRESS_INVALID;
        if (port && !is_port_free(sim, port))
                return OS_ADDRESS_IN_USE;
        while (!port || !is_port_free(sim, port))
                port = (uint16_t)(PORT_FIRST + world_choose(sim->world, PORTS));
        sim_power_on(sim);
        l = MEMORY_NEW(struct sim_listener);
        l->listener.os = os;
        memcpy(l->address, address, strlen(address) + 1);
        l->port = port;
        l->on_accept = on_accept;
        l->arg = arg;
        list_add_last(&sim->listeners, &l->link);
        *ret = &l->listener;
        *ret_port = port;
        return 0;
}

static void listener_free(struct sim *sim, struct sim_listener *l)
{
        LIST_EACH (at, &sim->ends) {
                struct sim_end *end = CONTAINER_OF(at, struct sim_end, link);

                if (end->listener == l)
                        end->listener = NULL;
        }
        list_remove(&l->link);
        free(l);
}

static void sim_listener_close(struct os_listener *listener)
{
        listener_free(sim_of(listener->os), CONTAINER_OF(listener, struct sim_listener, listener));
}

const struct os_net_table sim_net_table = {
        .listen = sim_listen,
        .listener_close = sim_listener_close,
        .connect = sim_connect,
        .conn_accept = sim_conn_accept,
        .conn_watch = sim_conn_watch,
        .conn_send = sim_conn_send,
        .conn_queued = sim_conn_queued,
        .conn_read_stop = sim_conn_read_stop,
        .conn_read_start = sim_conn_read_start,
        .conn_close = sim_conn_close,
        .conn_peer = sim_conn_peer,
        .conn_problem = sim_conn_problem,
        .look_up = sim_look_up,
        .udp_open = sim_udp_open,
        .udp_send = sim_udp_send,
        .udp_close = sim_udp_close,
};

/* ---- lives of a machine ---- */

void sim_power_on(struct sim *sim)
{
        if (!sim->is_silent)
                return;
        sim->is_silent = false;
        sim_tcp_machine_changed(sim, false);
}

/* After a power cut some of what was on its way may still arrive; peers hear a reset at once, if the machine
 * answers for its old life, or learn of it by silence. */
static void lose_end(struct sim_end *end, bool is_crash)
{
        struct os_sim_world *world = end->tcp->world;

        if (!is_crash) {
                kernel_close(end, world_choose(world, 4) == 0);
        } else {
                world_timer_stop(world, &end->silence);
                world_timer_stop(world, &end->reset);
                if (!flow_of(end)->has_end && world_choose(world, 2))
                        sim_flow_drop(end->tcp, end->side);
                end->is_dead = true;
                if (!sim_of(end->conn.os)->is_silent)
                        sim_end_reset(sim_end_other(end), sim_tcp_delay(end->tcp, end->side));
        }
        detach(end);
}

void sim_tcp_lose(struct sim *sim, enum sim_loss loss)
{
        bool is_crash = loss == SIM_LOSS_CRASH && sim->address[0];

        while (!list_is_empty(&sim->listeners))
                listener_free(sim, CONTAINER_OF(sim->listeners.next, struct sim_listener, link));
        if (is_crash)
                sim->is_silent = world_choose(sim->world, 2);
        while (!list_is_empty(&sim->ends))
                lose_end(CONTAINER_OF(sim->ends.next, struct sim_end, link), is_crash);
        if (is_crash)
                sim_tcp_machine_changed(sim, false);
}

void sim_tcp_fini(struct sim *sim)
{
        while (!list_is_empty(&sim->ends)) {
                struct sim_end *end = CONTAINER_OF(sim->ends.next, struct sim_end, link);

                end_close(end);
                end_gone(end);
                detach(end);
        }
}
