/* The contract: opening, members, sending, what is known of them. */
#include "peers/peers.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "peers/room.h"

/* ---- life ---- */

void peers_release(struct peers *p)
{
        if (p->is_closed && p->link_count == 0)
                free(p);
}

void peers_close(struct peers **peers)
{
        struct peers *p = *peers;
        unsigned i;

        if (!p)
                return;
        *peers = NULL;
        p->is_closed = true;
        os_timer_stop(&p->tick);
        os_listener_close(&p->listener);
        for (i = 0; i < p->member_count; i++)
                member_free(p->members[i]);
        p->member_count = 0;
        LIST_EACH (at, &p->links)
                link_drop(CONTAINER_OF(at, struct link, at), "the node stops");
        peers_release(p);
}

static void assert_options(const struct peers_options *o)
{
        assert(o->os && o->control);
        assert(o->handler->on_message && o->handler->on_link && o->handler->on_room);
        assert(o->identity.node_id > 0);
        assert(o->identity.version_min > 0);
        assert(o->identity.version_min <= o->identity.version_max);
}

/* What the certificate says is what the hello must say: else every node would refuse this one. */
static bool is_certified(const struct peers_options *o)
{
        struct tls_identity proved;

        return tls_context_identity(o->tls, &proved) && proved.node_id == o->identity.node_id &&
               memcmp(proved.cluster_uuid, o->identity.cluster_uuid, 16) == 0;
}

int peers_open(const struct peers_options *options, struct peers **ret)
{
        struct peers *p;
        int r;

        assert_options(options);
        if (options->tls && !is_certified(options))
                return PEERS_CERTIFICATE_WRONG;
        if (!host_is_ip(options->address))
                return PEERS_ADDRESS_INVALID;
        if (!options->tls && !options->is_insecure_anywhere && !host_is_loopback(options->address))
                return PEERS_ADDRESS_INSECURE;
        p = MEMORY_NEW(struct peers);
        p->os = options->os;
        p->control = options->control;
        p->tls = options->tls;
        p->is_insecure_anywhere = options->is_insecure_anywhere;
        p->handler = options->handler;
        p->arg = options->arg;
        p->hello.identity = options->identity;
        p->hello.identity.name[PEERS_NAME_SIZE - 1] = 0;
        os_random(p->os, &p->hello.instance, sizeof p->hello.instance);
        list_init(&p->links);
        p->tick = (struct os_timer){.fn = members_tick, .arg = p};
        r = os_listen(p->os, options->address, options->port, link_accept, p, &p->listener, &p->port);
        if (r) {
                free(p);
                if (r == OS_ADDRESS_IN_USE)
                        return PEERS_ADDRESS_IN_USE;
                if (r == OS_ADDRESS_INVALID)
                        return PEERS_ADDRESS_INVALID;
                return fault_fold(r);
        }
        *ret = p;
        return 0;
}

uint16_t peers_port(const struct peers *p)
{
        return p->port;
}

void peers_set_epoch(struct peers *p, uint32_t epoch)
{
        p->hello.identity.epoch = epoch;
}

/* ---- members ---- */

static void member_insert(struct peers *p, struct member *m)
{
        unsigned i = p->member_count++;

        assert(p->member_count <= PEERS_MEMBERS_MAX);
        for (; i > 0 && p->members[i - 1]->node > m->node; i--)
                p->members[i] = p->members[i - 1];
        p->members[i] = m;
}

int peers_set_member(struct peers *p, uint64_t node, const char *address)
{
        struct host_port to = {.port = 0};
        struct member *m;

        assert(node > 0);
        assert(node != p->hello.identity.node_id);
        if (*address && (strlen(address) >= PEERS_ADDRESS_SIZE || !host_port_parse(address, &to)))
                return PEERS_ADDRESS_INVALID;
        if (*address && !p->tls && !p->is_insecure_anywhere && !host_is_loopback(to.host))
                return PEERS_ADDRESS_INSECURE;
        m = member_find(p, node);
        if (!m) {
                m = member_new(p, node);
                member_insert(p, m);
        } else if (strcmp(m->address, address) == 0) {
                return 0;
        }
        member_set_address(m, address, &to);
        return 0;
}

void peers_remove_member(struct peers *p, uint64_t node)
{
        struct member *m = member_find(p, node);
        unsigned i = 0;

        if (!m)
                return;
        while (p->members[i] != m)
                i++;
        p->member_count--;
        memmove(p->members + i, p->members + i + 1, (p->member_count - i) * sizeof p->members[0]);
        member_free(m);
}

/* ---- sending ---- */

static struct slot *slot_of(const struct peers *p, uint64_t node, enum peers_link link)
{
        struct member *m = member_find(p, node);

        assert(link < PEERS_LINKS);
        return m ? &m->slots[link] : NULL;
}

bool peers_send(struct peers *p, uint64_t node, enum peers_link link, const uint8_t store_uuid[16],
        uint16_t type, const struct bytes *pieces, unsigned n)
{
        struct slot *slot = slot_of(p, node, link);
        struct link *l;

        assert(type >= PEERS_TYPE_MIN);
        if (!slot)
                return false;
        l = slot->up;
        if (!l || wire_queued(l->wire) >= queue_size_max(link)) {
                slot->stats.refused_messages += l != NULL;
                slot->wants_room = true;
                return false;
        }
        frame_add(wire_out(l->wire), type, l->version, store_uuid, pieces, n);
        wire_push(l->wire);
        slot->stats.sent_messages++;
        if (wire_queued(l->wire) > queue_size_max(link) / 2) {
                slot->wants_room = true;
                wire_ask_sent(l->wire);
        }
        return true;
}

void peers_flush(struct peers *p)
{
        unsigned i, kind;

        for (i = 0; i < p->member_count; i++)
                for (kind = 0; kind < PEERS_LINKS; kind++)
                        if (p->members[i]->slots[kind].up)
                                wire_flush(p->members[i]->slots[kind].up->wire);
}

size_t peers_room(const struct peers *p, uint64_t node, enum peers_link link)
{
        const struct slot *slot = slot_of(p, node, link);
        size_t queued = slot && slot->up ? wire_queued(slot->up->wire) : SIZE_MAX;

        return queued < queue_size_max(link) ? queue_size_max(link) - queued : 0;
}

bool peers_is_up(const struct peers *p, uint64_t node, enum peers_link link)
{
        const struct slot *slot = slot_of(p, node, link);

        return slot && slot->up;
}

void peers_answer(struct peers *p, uint64_t ask, struct bytes answer)
{
        assert(ask > 0);
        assert(answer.size <= PEERS_ANSWER_SIZE_MAX);
        LIST_EACH (at, &p->links) {
                struct link *l = CONTAINER_OF(at, struct link, at);

                if (l->ask == ask && l->state == LINK_ASKING) {
                        link_answer(l, answer);
                        return;
                }
        }
}

/* ---- what is known ---- */

static uint64_t heard_us(const struct member *m)
{
        uint64_t heard = m->heard_us;
        unsigned kind;

        for (kind = 0; kind < PEERS_LINKS; kind++)
                if (m->slots[kind].up)
                        heard = MAX(heard, wire_heard_us(m->slots[kind].up->wire));
        return heard;
}

uint64_t peers_heard_us(const struct peers *p, uint64_t node)
{
        const struct member *m = member_find(p, node);

        return m ? heard_us(m) : 0;
}

uint16_t peers_version(const struct peers *p, uint64_t node)
{
        const struct slot *slot = slot_of(p, node, PEERS_CONTROL);

        return slot && slot->up ? slot->up->version : 0;
}

static void link_stats(const struct slot *slot, struct peers_link_stats *ret)
{
        *ret = slot->stats;
        ret->is_up = slot->up != NULL;
        ret->sent_bytes = slot->past_sent_bytes;
        ret->received_bytes = slot->past_received_bytes;
        if (!slot->up)
                return;
        ret->sent_bytes += wire_sent_bytes(slot->up->wire);
        ret->received_bytes += wire_received_bytes(slot->up->wire);
        ret->queued_bytes = wire_queued(slot->up->wire);
}

unsigned peers_stats(const struct peers *p, struct peers_node_stats *ret, unsigned max)
{
        unsigned i, kind, count = MIN(p->member_count, max);

        for (i = 0; i < count; i++) {
                const struct member *m = p->members[i];
                struct peers_node_stats *s = &ret[i];

                memset(s, 0, sizeof *s);
                s->node = m->node;
                memcpy(s->address, m->address, sizeof s->address);
                memcpy(s->name, m->name, sizeof s->name);
                memcpy(s->problem, m->problem, sizeof s->problem);
                s->version = peers_version(p, m->node);
                s->is_failed = m->is_failed;
                s->is_refused = m->is_refused;
                s->heard_us = heard_us(m);
                s->round_trip_us = m->round_trip_us;
                for (kind = 0; kind < PEERS_LINKS; kind++)
                        link_stats(&m->slots[kind], &s->links[kind]);
        }
        return count;
}

struct peers_totals peers_totals(const struct peers *p)
{
        struct peers_totals totals = p->totals;

        totals.strangers = 0;
        LIST_EACH (at, &p->links)
                totals.strangers += link_is_stranger(CONTAINER_OF(at, struct link, at));
        return totals;
}
