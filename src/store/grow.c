/* One voter becomes three: the part of cluster/grow.c that is about the log and the links.
 *
 * Appends are held until everything is committed, durable and on the stand-bys that are to vote. The entry
 * that makes them voters is durable here before a link carries it: until then ranges are only noted
 * (`dam_index`). A voter that has such an entry, and knows no leader, offers it to the others; who has the
 * same log before it, and not it, takes it as its leader's append.
 *
 * Offer: index (8), term of the entry (8), term of the entry before it (8), chain hash of the entry before it
 * (16), payload. */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum { OFFER_AGAIN_US = 200 * 1000, OFFER_HEAD_SIZE = 40 };

/* ---- the one voter ---- */

/* Nothing is under way that the others do not have. */
static bool is_quiet(const struct store *s)
{
        uint64_t last = persistence_last_index(s->persistence);

        return list_is_empty(&s->in_flight) && s->applied_index == last &&
               persistence_writes(s->persistence) == 0 && persistence_group_size(s->persistence) == 0;
}

int grow_submit(struct store *s, const uint64_t *node_ids, unsigned count, struct cluster_update *u)
{
        int r;

        s->grow.is_holding = true;
        if (!is_quiet(s))
                return CLUSTER_NOT_NOW;
        r = cluster_raft_grow(s->raft, os_monotonic_us(s->os), node_ids, count, u);
        if (!r && !store_is_mutant(s, STORE_MUTANT_DAM_OPEN))
                s->replication.dam_index = persistence_last_index(s->persistence) + 1;
        return r;
}

void grow_let_go(struct store *s)
{
        s->grow.is_holding = false;
}

/* ---- offers ---- */

static void send_offers(struct store *s, uint64_t index)
{
        CLEANUP(buffer_fini) struct buffer payload = {0};
        struct cluster_configuration c;
        struct record_chain chain;
        uint8_t head[OFFER_HEAD_SIZE];
        struct bytes pieces[2] = {bytes_of(head, sizeof(head))};
        uint64_t term, previous_term, in_use;
        bool is_committed;

        cluster_raft_configuration(s->raft, &c, &in_use, &is_committed);
        assert(in_use == index);
        if (persistence_entry_mark(s->persistence, index, &term, &chain) ||
                persistence_entry_mark(s->persistence, index - 1, &previous_term, &chain) ||
                cluster_configuration_encode(&c, &payload))
                return;
        put_u64(head, index);
        put_u64(head + 8, term);
        put_u64(head + 16, previous_term);
        memcpy(head + 24, &chain, sizeof(chain));
        pieces[1] = buffer_bytes(&payload); /* the same bytes again: there is one way to write them */
        for (unsigned i = 0; i < c.count; i++)
                if (c.servers[i].node_id != s->node_id && c.servers[i].role == CLUSTER_VOTER)
                        store_send(s, c.servers[i].node_id, STORE_LINK_CONTROL, MESSAGE_OFFER, pieces, 2);
        replication_flush(s);
}

/* Where it is to be offered. */
static uint64_t index_to_offer(const struct store *s)
{
        return cluster_raft_leader(s->raft) ? 0 : cluster_raft_growing(s->raft);
}

static void on_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        uint64_t index = index_to_offer(s);

        if (!index || s->state == STORE_FAILED)
                return;
        os_timer_start(s->os, &s->grow.timer, OFFER_AGAIN_US);
        if (persistence_synced_index(s->persistence) >= index)
                send_offers(s, index);
}

void grow_init(struct store *s)
{
        s->grow.timer = (struct os_timer){.fn = on_timer, .arg = s};
}

void grow_fini(struct store *s)
{
        os_timer_stop(&s->grow.timer);
}

void grow_look(struct store *s)
{
        if (!s->grow.timer.is_on && index_to_offer(s))
                os_timer_start(s->os, &s->grow.timer, OFFER_AGAIN_US);
}

/* ---- a stand-by ---- */

static bool is_same_before(struct store *s, uint64_t index, uint64_t term, const uint8_t *chain)
{
        struct record_chain own;
        uint64_t own_term;

        return persistence_last_index(s->persistence) == index - 1 &&
               persistence_entry_mark(s->persistence, index - 1, &own_term, &own) == 0 && own_term == term &&
               memcmp(&own, chain, sizeof(own)) == 0;
}

void grow_on_offer(struct store *s, uint64_t from, struct bytes body)
{
        struct incoming incoming = {.kind = RECORD_CONFIGURATION};
        struct cluster_entry entry = {.type = CLUSTER_CHANGE, .cookie = &incoming};
        struct cluster_message m = {.type = CLUSTER_APPEND, .node_id = from};
        uint64_t index;

        if (body.size <= OFFER_HEAD_SIZE)
                return;
        index = get_u64(body.data);
        entry.term = get_u64(body.data + 8);
        entry.payload = bytes_of(body.data + OFFER_HEAD_SIZE, body.size - OFFER_HEAD_SIZE);
        if (index < 2 || s->catch_up.is_on || cluster_raft_is_voter(s->raft) ||
                !is_same_before(s, index, get_u64(body.data + 16), body.data + 24))
                return;
        incoming.first_position = persistence_appended_position(s->persistence);
        m.term = MAX(cluster_raft_term(s->raft), entry.term);
        m.append.previous_index = index - 1;
        m.append.previous_term = get_u64(body.data + 16);
        m.append.commit_index = index - 1;
        m.append.entry_count = 1;
        m.append.entries = &entry;
        replication_take(s, &m);
}
