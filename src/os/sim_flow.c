/* What kernels and network have of simulated connections. Each write that a kernel takes becomes pieces with
 * a time of arrival, in order; one timer per flow waits for the first. A link that is cut or stalled stops
 * the timer; when it is mended, what waited is sent again after a pause, as TCP does.
 *
 * An end that hears nothing learns of it by a timer that is set when something goes wrong, never while all is
 * well: that a link is cut, that the peer's machine is off, that the peer's kernel has no room. */
#include "os/sim_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"

enum { PIECE_SIZE_MAX = 32 * 1024, PIECES_MIN = 8, CUT_US_MAX = 300 };
#define RESEND_US_MAX        ((uint64_t)500000)
#define SYN_AGAIN_US         ((uint64_t)1000000)
#define SILENCE_MORE_US_MAX  ((uint64_t)7000000)
#define SILENCE_UNWATCHED_US ((uint64_t)60000000)
#define PROBE_US_MAX         ((uint64_t)7000000)

/* ---- bytes ---- */

void sim_bytes_skip(struct sim_bytes *b, size_t size)
{
        assert(size <= b->buffer.size - b->begin);
        b->begin += size;
        if (b->begin == b->buffer.size) {
                sim_bytes_clear(b);
        } else if (b->begin > SIM_ROOM_MIN && b->begin > b->buffer.size / 2) {
                buffer_consume(&b->buffer, b->begin);
                b->begin = 0;
        }
}

void sim_bytes_clear(struct sim_bytes *b)
{
        buffer_clear(&b->buffer);
        b->begin = 0;
}

/* ---- links ---- */

static bool has_no_link(const struct sim_tcp *tcp)
{
        return !tcp->hosts[0] || !tcp->hosts[1] || !tcp->hosts[0]->address[0];
}

bool sim_flow_is_cut(const struct sim_tcp *tcp, unsigned from)
{
        return has_no_link(tcp) || world_link(tcp->world, tcp->hosts[from], tcp->hosts[1 - from])->is.is_cut;
}

/* What is sent waits; the kernel of a machine that is off takes nothing. */
static bool is_blocked(const struct sim_tcp *tcp, unsigned from)
{
        return sim_flow_is_cut(tcp, from) || tcp->hosts[1 - from]->is_silent ||
               world_link(tcp->world, tcp->hosts[from], tcp->hosts[1 - from])->is.is_stalled;
}

/* Nothing that this end says is answered, whatever its peer does. */
static bool is_unheard(const struct sim_tcp *tcp, unsigned side)
{
        return sim_flow_is_cut(tcp, 0) || sim_flow_is_cut(tcp, 1) || tcp->hosts[1 - side]->is_silent;
}

uint64_t sim_tcp_delay(struct sim_tcp *tcp, unsigned from)
{
        if (has_no_link(tcp))
                return 1;
        return world_delay(tcp->world, world_link(tcp->world, tcp->hosts[from], tcp->hosts[1 - from]), 0);
}

/* ---- the way ---- */

static struct sim_piece *first_piece(struct sim_flow *f)
{
        return &f->pieces[f->piece_first & (f->piece_capacity - 1)];
}

static void add_piece(struct sim_flow *f, size_t size, uint64_t due_us)
{
        size_t i;

        if (f->piece_count == f->piece_capacity) {
                size_t capacity = MAX((size_t)PIECES_MIN, f->piece_capacity * 2);
                struct sim_piece *pieces = memory_new_array(capacity, sizeof pieces[0]);

                for (i = 0; i < f->piece_count; i++)
                        pieces[i] = f->pieces[(f->piece_first + i) & (f->piece_capacity - 1)];
                free(f->pieces);
                f->pieces = pieces;
                f->piece_first = 0;
                f->piece_capacity = capacity;
        }
        f->pieces[(f->piece_first + f->piece_count++) & (f->piece_capacity - 1)] =
                (struct sim_piece){size, due_us};
}

void sim_flow_arm(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];
        bool is_known = tcp->ends[1 - from].state != SIM_END_NONE || tcp->ends[1 - from].is_dead;

        if (f->arrival.is_on || f->piece_count == 0 || f->is_full || !is_known || is_blocked(tcp, from))
                return;
        world_timer_start(tcp->world, &f->arrival, MAX(first_piece(f)->due_us, tcp->world->now_us + 1));
}

/* When something sent now arrives: after all that was sent before. */
static uint64_t due_of(struct sim_tcp *tcp, unsigned from, size_t size)
{
        struct sim_flow *f = &tcp->flows[from];
        uint64_t delay = 1;

        if (!has_no_link(tcp))
                delay = world_delay(
                        tcp->world, world_link(tcp->world, tcp->hosts[from], tcp->hosts[1 - from]), size);
        f->last_due_us = MAX(f->last_due_us + 1, tcp->world->now_us + delay);
        return f->last_due_us;
}

size_t sim_flow_take(struct sim_tcp *tcp, unsigned from, struct bytes bytes)
{
        struct sim_flow *f = &tcp->flows[from];
        size_t size = MIN(bytes.size, f->send_room - MIN(f->send_room, f->unacked)), done, part;

        assert(!f->has_end);
        if (size == 0)
                return 0;
        buffer_add(&f->wire.buffer, bytes.data, size);
        f->unacked += size;
        for (done = 0; done < size; done += part) {
                part = MIN(size - done, (size_t)PIECE_SIZE_MAX);
                add_piece(f, part, due_of(tcp, from, part));
        }
        sim_flow_arm(tcp, from);
        if (tcp->ends[1 - from].is_dead || sim_flow_is_cut(tcp, 0) || sim_flow_is_cut(tcp, 1))
                sim_end_review(&tcp->ends[from]);
        return size;
}

void sim_flow_end(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];

        assert(!f->has_end);
        f->has_end = true;
        add_piece(f, 0, due_of(tcp, from, 0));
        sim_flow_arm(tcp, from);
}

void sim_flow_drop(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];

        world_timer_stop(tcp->world, &f->arrival);
        sim_bytes_clear(&f->wire);
        f->piece_count = f->unacked = f->owed = 0;
        f->is_full = false;
}

/* ---- arrival ---- */

/* What comes to an end that is gone is answered by a reset. */
static void arrive_at_dead(struct sim_tcp *tcp, unsigned from)
{
        bool has_bytes = tcp->flows[from].wire.buffer.size > 0;

        sim_flow_drop(tcp, from);
        if (has_bytes)
                sim_end_reset(&tcp->ends[from], sim_tcp_delay(tcp, 1 - from));
}

static void acknowledge(struct sim_tcp *tcp, unsigned from, size_t size)
{
        struct sim_flow *f = &tcp->flows[from];

        if (is_blocked(tcp, 1 - from))
                f->owed += size;
        else
                f->unacked -= size;
}

/* The size of the first piece that comes now, cut by the seed and by the receiver's room. */
static size_t arriving_size(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];
        size_t size = first_piece(f)->size, held = sim_bytes_view(&tcp->ends[1 - from].inbox).size;

        if (size > 1 && world_choose(tcp->world, 4) == 0)
                size = 1 + world_choose(tcp->world, size - 1);
        return MIN(size, f->receive_room - MIN(f->receive_room, held));
}

static void arrive(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];
        struct sim_end *to = &tcp->ends[1 - from];
        struct sim_piece *piece = first_piece(f);
        struct bytes bytes = sim_bytes_view(&f->wire);

        bytes.size = arriving_size(tcp, from);
        if (bytes.size == 0) {
                f->is_full = true;
                sim_end_review(&tcp->ends[from]);
                return;
        }
        buffer_add_bytes(&to->inbox.buffer, bytes);
        world_note(tcp->world, SIM_ARRIVAL, tcp->number << 1 | from,
                bytes.size << 32 ^ crc32c(0, bytes.data, bytes.size));
        tcp->world->stats.bytes += bytes.size;
        sim_bytes_skip(&f->wire, bytes.size);
        piece->size -= bytes.size;
        if (piece->size == 0) {
                f->piece_first++;
                f->piece_count--;
        } else {
                piece->due_us = tcp->world->now_us + 1 + world_choose(tcp->world, CUT_US_MAX);
        }
        acknowledge(tcp, from, bytes.size);
        sim_end_wake(to);
        sim_end_pump(&tcp->ends[from]);
}

static void on_arrival(struct os_timer *timer)
{
        struct sim_tcp *tcp = timer->arg;
        unsigned from = timer == &tcp->flows[0].arrival ? 0 : 1;
        struct sim_flow *f = &tcp->flows[from];
        struct sim_end *to = &tcp->ends[1 - from];

        assert(f->piece_count > 0);
        if (to->is_dead) {
                arrive_at_dead(tcp, from);
        } else if (first_piece(f)->size == 0) {
                world_note(tcp->world, SIM_ARRIVAL, tcp->number << 1 | from, 0);
                f->piece_count = 0;
                to->has_peer_end = true;
                sim_end_wake(to);
        } else {
                arrive(tcp, from);
        }
        sim_flow_arm(tcp, from);
        sim_tcp_release(tcp);
}

/* The receiver's process has made room: the sender hears of it. */
void sim_flow_room(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from];

        if (!f->is_full)
                return;
        f->is_full = false;
        first_piece(f)->due_us =
                MAX(first_piece(f)->due_us, tcp->world->now_us + sim_tcp_delay(tcp, 1 - from));
        sim_flow_arm(tcp, from);
        sim_end_review(&tcp->ends[from]);
}

/* ---- silence and resets ---- */

void sim_end_break(struct sim_end *end, const char *problem)
{
        struct os_sim_world *world = end->tcp->world;

        if (!end->is_attached || end->is_broken || end->state == SIM_END_CLOSED)
                return;
        world_note(world, SIM_BREAK, end->tcp->number << 1 | end->side, 0);
        end->is_broken = true;
        end->is_dead = true;
        if (end->state != SIM_END_LINGERING) /* that one has all it wants */
                end->problem = problem;
        world_timer_stop(world, &end->silence);
        world_timer_stop(world, &end->reset);
        if (!end->tcp->flows[end->side].has_end)
                sim_flow_drop(end->tcp, end->side);
        if (world_choose(world, 2))
                sim_bytes_clear(&end->inbox);
        sim_end_wake(end);
        sim_end_review(sim_end_other(end));
}

static void on_silence(struct os_timer *timer)
{
        struct sim_end *end = timer->arg;

        end->tcp->world->stats.timeouts++;
        sim_end_break(end, "connection timed out");
}

/* The reset finds its way, or is lost like all else. */
static void on_reset(struct os_timer *timer)
{
        struct sim_end *end = timer->arg;

        if (is_unheard(end->tcp, end->side)) {
                sim_end_review(end);
                return;
        }
        end->tcp->world->stats.resets++;
        sim_end_break(end, "connection reset by peer");
}

/* It does not overtake what its sender sent before. */
void sim_end_reset(struct sim_end *end, uint64_t after_us)
{
        struct os_sim_world *world = end->tcp->world;
        uint64_t due_us = MAX(world->now_us + after_us, end->tcp->flows[1 - end->side].last_due_us + 1);

        if (!end->is_attached || end->is_broken || (end->reset.is_on && end->reset.due_us <= due_us))
                return;
        world_timer_start(world, &end->reset, due_us);
}

void sim_end_review(struct sim_end *end)
{
        struct sim_tcp *tcp = end->tcp;
        struct sim_flow *f = &tcp->flows[end->side];
        struct sim_end *other = sim_end_other(end);
        bool has_bytes = f->unacked > 0 || sim_bytes_view(&end->queue).size > 0;
        bool is_left = other->is_dead && !tcp->flows[other->side].has_end;
        bool is_unanswered = is_unheard(tcp, end->side);

        if (!end->is_attached || end->is_broken || end->is_dead || !end->is_established)
                return;
        if (!((is_unanswered && (end->is_watched || has_bytes)) || (end->is_watched && f->is_full)))
                world_timer_stop(tcp->world, &end->silence);
        else if (!end->silence.is_on)
                world_timer_start(tcp->world, &end->silence,
                        tcp->world->now_us + (end->is_watched ? OS_SILENCE_US_MAX : SILENCE_UNWATCHED_US) +
                                world_choose(tcp->world, SILENCE_MORE_US_MAX));
        if (is_left && !is_unanswered &&
                end->is_watched) /* a probe of an idle connection; bytes would do it too */
                sim_end_reset(end, world_choose(tcp->world, PROBE_US_MAX));
}

/* ---- handshake ---- */

static void shake_again(struct sim_tcp *tcp, enum sim_handshake stage, uint64_t after_us)
{
        tcp->stage = stage;
        world_timer_start(tcp->world, &tcp->handshake, tcp->world->now_us + after_us);
}

/* As the kernel does: a second later, then two more, then four. */
static void send_syn_again(struct sim_tcp *tcp)
{
        shake_again(tcp, SIM_SYN, SYN_AGAIN_US << MIN(tcp->attempts, 8u));
        tcp->attempts++;
}

static void on_syn(struct sim_tcp *tcp)
{
        struct sim *to = tcp->hosts[1];

        if (is_blocked(tcp, 0)) {
                send_syn_again(tcp);
                return;
        }
        shake_again(tcp, sim_listener_find(to, tcp->hosts[0], tcp->port) ? SIM_SYN_ACK : SIM_REFUSAL,
                sim_tcp_delay(tcp, 1));
}

static void on_syn_ack(struct sim_tcp *tcp)
{
        struct sim_end *client = &tcp->ends[0];
        uint64_t delay;

        if (is_blocked(tcp, 1)) {
                send_syn_again(tcp);
                return;
        }
        if (tcp->stage == SIM_REFUSAL) {
                sim_end_break(client, "connection refused");
                return;
        }
        client->is_established = true;
        tcp->world->stats.connections++;
        sim_end_wake(client);
        sim_end_review(client);
        delay = sim_tcp_delay(tcp, 0);
        tcp->flows[0].last_due_us =
                tcp->world->now_us + delay; /* nothing overtakes what opens the other end */
        shake_again(tcp, SIM_ACK, delay);
}

static void on_ack(struct sim_tcp *tcp)
{
        struct sim_listener *listener;
        struct sim_end *server = &tcp->ends[1];

        if (is_blocked(tcp, 0)) {
                shake_again(tcp, SIM_ACK, SYN_AGAIN_US);
                return;
        }
        listener = sim_listener_find(tcp->hosts[1], tcp->hosts[0], tcp->port);
        if (!listener) { /* gone in between */
                server->is_dead = true;
                sim_end_reset(&tcp->ends[0], sim_tcp_delay(tcp, 1));
                sim_flow_arm(tcp, 0);
                return;
        }
        snprintf(server->peer, sizeof server->peer, strchr(tcp->hosts[0]->address, ':') ? "[%s]:%u" : "%s:%u",
                tcp->hosts[0]->address, tcp->client_port);
        server->listener = listener;
        server->is_established = true;
        sim_end_open(server, tcp->hosts[1], SIM_END_OFFERED);
        sim_end_wake(server);
        sim_flow_arm(tcp, 0);
        sim_end_review(server);
}

/* Until it is established the client may go at any time; from then on what it sent before must arrive. */
static void on_handshake(struct os_timer *timer)
{
        struct sim_tcp *tcp = timer->arg;
        struct sim_end *client = &tcp->ends[0];

        if (tcp->stage == SIM_ACK ? client->is_dead && !tcp->flows[0].has_end
                                  : client->is_dead || !client->is_attached) {
                sim_tcp_release(tcp);
                return;
        }
        if (tcp->stage == SIM_SYN)
                on_syn(tcp);
        else if (tcp->stage == SIM_ACK)
                on_ack(tcp);
        else
                on_syn_ack(tcp);
        sim_tcp_release(tcp);
}

void sim_tcp_connect(struct sim_tcp *tcp)
{
        shake_again(tcp, SIM_SYN, sim_tcp_delay(tcp, 0));
}

/* ---- changes of the world ---- */

static void flow_link_changed(struct sim_tcp *tcp, unsigned from)
{
        struct sim_flow *f = &tcp->flows[from], *back = &tcp->flows[1 - from];

        if (is_blocked(tcp, from)) {
                world_timer_stop(tcp->world, &f->arrival);
        } else {
                if (f->piece_count && !f->arrival.is_on)
                        first_piece(f)->due_us = MAX(first_piece(f)->due_us,
                                tcp->world->now_us + world_choose(tcp->world, RESEND_US_MAX));
                sim_flow_arm(tcp, from);
                back->unacked -= back->owed;
                back->owed = 0;
                sim_end_pump(&tcp->ends[1 - from]);
        }
        sim_end_review(&tcp->ends[0]);
        sim_end_review(&tcp->ends[1]);
}

void sim_tcp_link_changed(struct os_sim_world *world, const struct sim *from, const struct sim *to)
{
        unsigned i;

        LIST_EACH (at, &world->tcps) {
                struct sim_tcp *tcp = CONTAINER_OF(at, struct sim_tcp, link);

                for (i = 0; i < 2; i++)
                        if (tcp->hosts[i] == from && tcp->hosts[1 - i] == to)
                                flow_link_changed(tcp, i);
        }
}

/* With a machine that is freed all that was on its way is lost. */
void sim_tcp_machine_changed(struct sim *sim, bool is_freed)
{
        unsigned i;

        LIST_EACH (at, &sim->world->tcps) {
                struct sim_tcp *tcp = CONTAINER_OF(at, struct sim_tcp, link);

                for (i = 0; i < 2; i++) {
                        if (tcp->hosts[i] != sim)
                                continue;
                        if (is_freed) {
                                tcp->hosts[i] = NULL;
                                sim_flow_drop(tcp, 0);
                                sim_flow_drop(tcp, 1);
                        } else {
                                flow_link_changed(tcp, 1 - i);
                        }
                        sim_end_review(&tcp->ends[1 - i]);
                }
        }
}

unsigned os_sim_world_reset(struct os_sim_world *world, const struct os *a, const struct os *b)
{
        unsigned count = 0, i;

        LIST_EACH (at, &world->tcps) {
                struct sim_tcp *tcp = CONTAINER_OF(at, struct sim_tcp, link);

                if (!(tcp->hosts[0] == sim_of(a) && tcp->hosts[1] == sim_of(b)) &&
                        !(tcp->hosts[0] == sim_of(b) && tcp->hosts[1] == sim_of(a)))
                        continue;
                for (i = 0; i < 2; i++)
                        sim_flow_drop(tcp, i);
                for (i = 0; i < 2; i++)
                        sim_end_break(&tcp->ends[i], "connection reset by peer");
                count++;
        }
        return count;
}

/* ---- birth and end ---- */

struct sim_tcp *sim_tcp_new(struct sim *from, struct sim *to)
{
        struct sim_tcp *tcp = MEMORY_NEW(struct sim_tcp);
        struct os_sim_world *world = from->world;
        unsigned i;

        tcp->world = world;
        tcp->number = world->tcp_count++;
        tcp->hosts[0] = from;
        tcp->hosts[1] = to;
        tcp->handshake = (struct os_timer){.fn = on_handshake, .arg = tcp};
        for (i = 0; i < 2; i++) {
                struct sim_end *end = &tcp->ends[i];

                end->tcp = tcp;
                end->side = i;
                list_init(&end->link);
                end->silence = (struct os_timer){.fn = on_silence, .arg = end};
                end->reset = (struct os_timer){.fn = on_reset, .arg = end};
                tcp->flows[i].arrival = (struct os_timer){.fn = on_arrival, .arg = tcp};
                tcp->flows[i].send_room =
                        SIM_ROOM_MIN + world_choose(world, SIM_SEND_ROOM_MAX - SIM_ROOM_MIN + 1);
                tcp->flows[i].receive_room =
                        SIM_ROOM_MIN + world_choose(world, SIM_RECEIVE_ROOM_MAX - SIM_ROOM_MIN + 1);
        }
        list_add_last(&world->tcps, &tcp->link);
        return tcp;
}

void sim_tcp_end(struct os_sim_world *world)
{
        while (!list_is_empty(&world->tcps)) {
                struct sim_tcp *tcp = CONTAINER_OF(world->tcps.next, struct sim_tcp, link);

                world_timer_stop(world, &tcp->handshake);
                sim_tcp_release(tcp);
        }
}

void sim_tcp_release(struct sim_tcp *tcp)
{
        bool must_open = tcp->handshake.is_on && tcp->stage == SIM_ACK && tcp->flows[0].has_end;
        unsigned i;

        if (tcp->ends[0].is_attached || tcp->ends[1].is_attached || must_open)
                return;
        world_timer_stop(tcp->world, &tcp->handshake);
        for (i = 0; i < 2; i++) {
                world_timer_stop(tcp->world, &tcp->flows[i].arrival);
                world_timer_stop(tcp->world, &tcp->ends[i].silence);
                world_timer_stop(tcp->world, &tcp->ends[i].reset);
                buffer_fini(&tcp->flows[i].wire.buffer);
                free(tcp->flows[i].pieces);
                buffer_fini(&tcp->ends[i].queue.buffer);
                buffer_fini(&tcp->ends[i].inbox.buffer);
        }
        list_remove(&tcp->link);
        free(tcp);
}
