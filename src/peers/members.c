/* The members, and what must happen in time: dialling, pinging, noticing that one is gone.
 *
 * Both nodes dial, so that it is enough if one of them knows where the other is. The node with the higher id
 * waits a moment first: mostly the lower one's connection is there by then, and two need not meet. BULK is
 * dialled while CONTROL is up. */
#include "peers/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

#define TICK_US      ((uint64_t)100000)
#define TICK_SOON_US ((uint64_t)25000)   /* while something is to be dialled */
#define PING_IDLE_US ((uint64_t)150000)  /* seen at a tick: pings come every 150 to 250 ms */
#define PING_US      ((uint64_t)1000000) /* on a busy control link, for the round trip */
#define RETRY_US     ((uint64_t)50000)
#define RETRY_US_MAX ((uint64_t)1000000)
#define POLITE_US    ((uint64_t)300000) /* that the higher node leaves to the lower one */
#define SAME_TOLD_US ((uint64_t)10000000)

static_assert(PING_IDLE_US + TICK_US <= 250000, "so that loss is noticed in time");
static_assert(PING_IDLE_US + 2 * TICK_US < PEERS_SILENCE_US_MAX, "a ping that is due comes before silence");

static const char *const link_names[] = {[PEERS_CONTROL] = "control", [PEERS_BULK] = "bulk"};

static uint64_t time_us(const struct peers *p)
{
        return os_turn_time(p->os).monotonic_us;
}

size_t queue_size_max(enum peers_link kind)
{
        return kind == PEERS_CONTROL ? PEERS_CONTROL_QUEUE_SIZE_MAX : PEERS_BULK_QUEUE_SIZE_MAX;
}

/* ---- telling ---- */

void peers_fact(struct peers *p, enum fact_type type, uint64_t node, const char *format, ...)
{
        struct fact_payload payload = {.node_id = node};
        char text[WHY_SIZE];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        fact_set_text(&payload, "%s", text);
        control_publish(p->control, type, &payload);
}

/* A member that is refused dials again every second: the same about it is told now and then only. */
static bool is_told_already(struct member *m, const char *why, uint64_t now)
{
        if (m->told_us && now - m->told_us < SAME_TOLD_US && strcmp(m->told, why) == 0)
                return true;
        snprintf(m->told, sizeof m->told, "%s", why);
        m->told_us = now;
        return false;
}

void peers_tell_refused(struct peers *p, uint64_t node, const char *address, const char *why)
{
        struct member *m = member_find(p, node);
        uint64_t now = time_us(p), second = now / 1000000;

        p->totals.refused++;
        if (m && is_told_already(m, why, now))
                return;
        if (second != p->told_second)
                p->told_in_second = 0;
        p->told_second = second;
        if (p->told_in_second == TOLD_PER_SECOND_MAX)
                return;
        p->told_in_second++;
        peers_fact(p, FACT_peer_refused, node, "%s", why);
        if (p->handler->on_stranger)
                p->handler->on_stranger(p->arg, address, why);
}

/* ---- members ---- */

struct member *member_find(const struct peers *p, uint64_t node)
{
        unsigned i;

        for (i = 0; i < p->member_count; i++)
                if (p->members[i]->node == node)
                        return p->members[i];
        return NULL;
}

static void on_room_timer(struct os_timer *timer)
{
        struct member *m = timer->arg;
        struct slot *slot = CONTAINER_OF(timer, struct slot, room_timer);

        if (!slot->up || !slot->wants_room)
                return;
        slot->wants_room = false;
        m->peers->handler->on_room(m->peers->arg, m->node, (enum peers_link)(slot - m->slots));
}

struct member *member_new(struct peers *p, uint64_t node)
{
        struct member *m = MEMORY_NEW(struct member);
        unsigned kind;

        m->peers = p;
        m->node = node;
        for (kind = 0; kind < PEERS_LINKS; kind++)
                m->slots[kind].room_timer = (struct os_timer){.fn = on_room_timer, .arg = m};
        return m;
}

void member_set_address(struct member *m, const char *address, const struct host_port *to)
{
        unsigned kind;

        snprintf(m->address, sizeof m->address, "%s", address);
        m->to = *to;
        for (kind = 0; kind < PEERS_LINKS; kind++) {
                struct slot *slot = &m->slots[kind];

                os_lookup_drop(&slot->lookup);
                if (slot->dialling)
                        link_drop(slot->dialling, "the node has another address");
                slot->dialling = NULL;
                slot->next_us = 0;
                slot->attempts = 0;
        }
        members_wake(m->peers);
}

void member_free(struct member *m)
{
        unsigned kind;

        for (kind = 0; kind < PEERS_LINKS; kind++) {
                struct slot *slot = &m->slots[kind];

                os_timer_stop(&slot->room_timer);
                os_lookup_drop(&slot->lookup);
                if (slot->up)
                        link_drop(slot->up, "the node was removed here");
                if (slot->dialling)
                        link_drop(slot->dialling, "the node was removed here");
        }
        /* Those that are still to be confirmed. */
        LIST_EACH (at, &m->peers->links) {
                struct link *l = CONTAINER_OF(at, struct link, at);

                if (l->member == m)
                        link_drop(l, "the node was removed here");
        }
        free(m);
}

void member_heard(struct member *m, uint64_t now)
{
        m->heard_us = now;
}

/* ---- room ---- */

void member_check_room(struct member *m, enum peers_link kind)
{
        struct slot *slot = &m->slots[kind];

        if (slot->wants_room && !slot->room_timer.is_on && slot->up &&
                wire_queued(slot->up->wire) <= queue_size_max(kind) / 2)
                os_timer_start(m->peers->os, &slot->room_timer, 0);
}

/* ---- up and down ---- */

void member_up(struct member *m, struct link *l)
{
        struct peers *p = m->peers;
        struct slot *slot = &m->slots[l->kind];
        struct link *old = slot->up;

        if (slot->dialling == l)
                slot->dialling = NULL;
        if (old) {
                member_down(m, l->kind, "another connection took its place");
                link_drop(old, "another connection stays");
                if (l->state != LINK_UP) /* the user has removed the node meanwhile */
                        return;
        }
        assert(!slot->up);
        slot->up = l;
        slot->attempts = 0;
        slot->stats.times_up++;
        m->version = l->version;
        m->is_refused = false;
        m->problem[0] = 0;
        m->told_us = 0;
        memcpy(m->name, l->name, sizeof m->name);
        member_heard(m, time_us(p));
        if (!m->was_up)
                peers_fact(p, FACT_node_discovered, m->node, "\"%s\" at %s", m->name, wire_address(l->wire));
        if (m->is_failed)
                peers_fact(p, FACT_node_recovered, m->node, "\"%s\" at %s", m->name, wire_address(l->wire));
        m->was_up = true;
        m->is_failed = false;
        peers_fact(p, FACT_peer_link_up, m->node, "%s with \"%s\" at %s", link_names[l->kind], m->name,
                wire_address(l->wire));
        member_check_room(m, l->kind);
        if (l->kind == PEERS_CONTROL)
                p->handler->on_link(p->arg, m->node, true);
}

static uint64_t chance_below(struct peers *p, uint64_t below)
{
        uint32_t n;

        os_random(p->os, &n, sizeof n);
        return n % below;
}

static bool is_lower(const struct peers *p, const struct member *m)
{
        return p->hello.identity.node_id < m->node;
}

/* Twice as long after each attempt, from a half of it to the whole by chance, so that nodes do not go in
 * step. */
static void schedule(struct member *m, struct slot *slot)
{
        struct peers *p = m->peers;
        uint64_t wait = MIN(RETRY_US << MIN(slot->attempts, 10u), RETRY_US_MAX);

        slot->attempts++;
        slot->next_us = time_us(p) + wait / 2 + chance_below(p, wait / 2);
}

void member_down(struct member *m, enum peers_link kind, const char *why)
{
        struct peers *p = m->peers;
        struct slot *slot = &m->slots[kind];
        struct link *l = slot->up;

        assert(l);
        slot->up = NULL;
        m->heard_us = MAX(m->heard_us, wire_heard_us(l->wire));
        slot->past_sent_bytes += wire_sent_bytes(l->wire);
        slot->past_received_bytes += wire_received_bytes(l->wire);
        slot->next_us = time_us(p) + (is_lower(p, m) ? 0 : POLITE_US);
        members_wake(p);
        snprintf(m->problem, sizeof m->problem, "%s", why);
        peers_fact(p, FACT_peer_link_down, m->node, "%s: %s", link_names[kind], why);
        if (kind == PEERS_CONTROL)
                p->handler->on_link(p->arg, m->node, false);
}

void member_dial_failed(struct member *m, enum peers_link kind, const char *why)
{
        struct slot *slot = &m->slots[kind];

        slot->dialling = NULL;
        snprintf(m->problem, sizeof m->problem, "%s", why);
        schedule(m, slot);
}

/* ---- dialling ---- */

static void dial_ip(struct member *m, enum peers_link kind, const char *ip)
{
        struct peers *p = m->peers;
        struct slot *slot = &m->slots[kind];

        if (!p->tls && !p->is_insecure_anywhere && !host_is_loopback(ip))
                member_dial_failed(m, kind, "its name is not of this machine, and there is no TLS");
        else if (link_dial(p, m, kind, ip, &slot->dialling))
                member_dial_failed(m, kind, "its address cannot be connected to");
}

static void on_found(
        struct member *m, enum peers_link kind, const struct os_addresses *found, const char *problem)
{
        struct slot *slot = &m->slots[kind];
        char why[WHY_SIZE];

        slot->lookup = NULL;
        if (found->count == 0) {
                snprintf(why, sizeof why, "%.100s: %.100s", m->to.host, problem);
                member_dial_failed(m, kind, why);
        } else if (!slot->up) {
                dial_ip(m, kind, found->text[slot->attempts % found->count]); /* one after the other */
        }
}

static void on_found_control(void *arg, const struct os_addresses *found, const char *problem)
{
        on_found(arg, PEERS_CONTROL, found, problem);
}

static void on_found_bulk(void *arg, const struct os_addresses *found, const char *problem)
{
        on_found(arg, PEERS_BULK, found, problem);
}

static void dial(struct member *m, enum peers_link kind)
{
        static os_resolve_done *const done[] = {
                [PEERS_CONTROL] = on_found_control, [PEERS_BULK] = on_found_bulk};
        struct slot *slot = &m->slots[kind];

        if (host_is_ip(m->to.host))
                dial_ip(m, kind, m->to.host);
        else if (os_resolve(m->peers->os, m->to.host, done[kind], m, &slot->lookup))
                member_dial_failed(m, kind, "its name is none");
}

static bool wants_dial(const struct member *m, enum peers_link kind)
{
        const struct slot *slot = &m->slots[kind];

        return m->address[0] && !slot->up && !slot->dialling && !slot->lookup &&
               (kind == PEERS_CONTROL || m->slots[PEERS_CONTROL].up);
}

/* ---- time ---- */

static void member_ping(struct member *m, uint64_t now)
{
        unsigned kind;

        for (kind = 0; kind < PEERS_LINKS; kind++) {
                struct link *l = m->slots[kind].up;

                if (l && (now - wire_said_us(l->wire) >= PING_IDLE_US ||
                                 (kind == PEERS_CONTROL && now - l->pinged_us >= PING_US)))
                        link_ping(l, now);
        }
}

static void member_check_failure(struct member *m, uint64_t now)
{
        if (!m->was_up || m->is_failed || m->slots[PEERS_CONTROL].up ||
                now - m->heard_us < PEERS_SILENCE_US_MAX)
                return;
        m->is_failed = true;
        peers_fact(m->peers, FACT_node_failure_detected, m->node, "\"%s\": %s", m->name, m->problem);
}

static bool member_tick(struct member *m, uint64_t now)
{
        bool is_to_dial = false;
        unsigned kind;

        member_ping(m, now);
        member_check_failure(m, now);
        for (kind = 0; kind < PEERS_LINKS; kind++) {
                member_check_room(m, kind);
                if (!wants_dial(m, kind))
                        continue;
                if (m->slots[kind].next_us <= now)
                        dial(m, kind);
                else
                        is_to_dial = true;
        }
        return is_to_dial;
}

void members_wake(struct peers *p)
{
        os_timer_start(p->os, &p->tick, 0);
}

void members_tick(struct os_timer *timer)
{
        struct peers *p = timer->arg;
        uint64_t now = time_us(p);
        /* After a pause of the whole process what has come is not read yet: nobody is silent before it is. */
        bool is_late = now - p->ticked_us > 4 * TICK_US;
        bool is_to_dial = false;
        unsigned i;

        LIST_EACH_SAFE (at, &p->links) {
                struct link *l = CONTAINER_OF(at, struct link, at);

                if (!is_late)
                        link_tick(l, now);
                if (p->is_closed)
                        return;
        }
        for (i = 0; i < p->member_count; i++)
                is_to_dial |= member_tick(p->members[i], now);
        p->ticked_us = now;
        if (p->member_count || p->link_count)
                os_timer_start(p->os, &p->tick, is_to_dial ? TICK_SOON_US : TICK_US);
}
