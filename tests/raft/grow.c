/* One voter becomes three or five: what store/grow.c does beside the engine (cluster/grow.c says why it is
 * safe).
 *
 * The driver of the only voter holds clients back until nothing is under way, asks the engine for the entry
 * with some of the stand-bys, and keeps every message with entries behind a dam until that one is durable.
 * Whoever has the entry, votes by it and knows no leader offers it. In some seeds a driver is sloppy, and
 * offers although it knows a leader; offers are slow, doubled and very late as all messages are, and more so.
 */
#include "room.h"

#include <stdlib.h>

#include "base/memory.h"

enum { PATIENCE_US = 2 * SECOND, OFFER_AGAIN_US = 200 * MS, LATE_US = 6 * SECOND };

/* ---- the only voter ---- */

void grow_begin(struct world *w, struct node *n)
{
        if (!n->is_up || !n->raft || !cluster_raft_can_write(n->raft) || !cluster_raft_is_only_voter(n->raft))
                return;
        n->hold_until = w->now + PATIENCE_US;
}

/* Some of the stand-bys, of which the engine says whether they have everything. */
static unsigned choose(struct world *w, const struct node *n, uint64_t *ret)
{
        struct cluster_configuration in_use;
        uint64_t at, swap;
        bool is_committed;
        unsigned count = 0, wanted;

        cluster_raft_configuration(n->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count; i++)
                if (in_use.servers[i].role == CLUSTER_STANDBY)
                        ret[count++] = in_use.servers[i].node_id;
        wanted = count >= 4 && world_chance(w, 500) ? 4 : 2;
        if (count < wanted)
                return 0;
        for (unsigned i = 0; i < wanted; i++) {
                unsigned other = i + (unsigned)world_random(w, count - i);

                swap = ret[i];
                ret[i] = ret[other];
                ret[other] = swap;
        }
        return wanted;
}

static bool is_quiet(const struct node *n)
{
        return n->applied == n->log.count && !n->write_count;
}

static void try_to_grow(struct world *w, struct node *n)
{
        uint64_t ids[NODES_MAX];
        struct cluster_update u;
        unsigned count;
        int r;

        if (!is_quiet(n))
                return;
        count = choose(w, n, ids);
        if (!count)
                return;
        w->result->totals.grow_tries++;
        node_step_begins(w, n);
        r = cluster_raft_grow(n->raft, node_clock(w, n), ids, count, &u);
        if (r < 0) {
                world_fail(w, "node %llu: to grow gives %d, %s", (unsigned long long)n->id, r, fault_last());
        } else if (r == 0) {
                world_say(w, "n%llu grows to %u voters at %llu", (unsigned long long)n->id, count + 1,
                        (unsigned long long)u.first_index);
                w->result->totals.grown++;
                n->hold_until = 0;
                if (w->options.mutant != GROW_WITHOUT_DAM)
                        n->dam_index = u.first_index;
                node_carry_out(w, n, &u);
                world_attack(w, n);
        }
}

/* ---- the dam ---- */

bool grow_dams(struct node *n, struct packet *p)
{
        if (!n->dam_index)
                return false;
        if (n->dammed_count == n->dammed_capacity) {
                n->dammed_capacity = MAX(n->dammed_capacity * 2, 16);
                n->dammed = memory_resize(n->dammed, n->dammed_capacity * sizeof(struct packet *));
        }
        n->dammed[n->dammed_count++] = p;
        return true;
}

void grow_open_dam(struct world *w, struct node *n)
{
        if (!n->dam_index || n->stored < n->dam_index)
                return;
        n->dam_index = 0;
        for (unsigned i = 0; i < n->dammed_count; i++)
                world_send(w, n->dammed[i]);
        n->dammed_count = 0;
}

void grow_forget(struct node *n)
{
        for (unsigned i = 0; i < n->dammed_count; i++)
                world_drop(n->dammed[i]);
        n->dammed_count = 0;
        n->dam_index = n->hold_until = n->offer_at = 0;
}

/* ---- offers ---- */

static void offer(struct world *w, struct node *n, uint64_t to, uint64_t index)
{
        struct packet *p = world_packet(n->id, to, OFFER);

        p->a = index;
        p->b = index > 1 ? log_at(&n->log, index - 1)->term : 0;
        p->c = log_chain(&n->log, index - 1);
        p->entries = memory_new_array(1, sizeof(*p->entries));
        p->entries[0] = *log_at(&n->log, index);
        p->entry_count = 1;
        if (!w->is_healed && world_chance(w, 300))
                world_send_late(w, p, world_random(w, LATE_US));
        world_send(w, p);
        w->result->totals.offers++;
}

static void make_offers(struct world *w, struct node *n)
{
        uint64_t index = cluster_raft_growing(n->raft), at;
        struct cluster_configuration in_use;
        bool is_committed, is_sloppy = w->rates.is_sloppy && !w->is_healed && world_chance(w, 300);

        if (!index || w->now < n->offer_at || n->stored < index || n->is_installing)
                return;
        if (cluster_raft_leader(n->raft) && !is_sloppy)
                return;
        if (w->options.mutant == GROW_OLD_VOTER_OFFERS && n->id != 1)
                return;
        n->offer_at = w->now + OFFER_AGAIN_US;
        cluster_raft_configuration(n->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count; i++)
                if (in_use.servers[i].node_id != n->id && in_use.servers[i].role == CLUSTER_VOTER)
                        offer(w, n, in_use.servers[i].node_id, index);
}

void grow_take_offer(struct world *w, struct node *n, const struct packet *p)
{
        struct cluster_entry entry = {
                .term = p->entries[0].term, .type = CLUSTER_CHANGE, .cookie = &p->entries[0]};
        struct cluster_message m = {.type = CLUSTER_APPEND,
                .node_id = p->from,
                .append = {.previous_index = p->a - 1,
                        .previous_term = p->b,
                        .commit_index = p->a - 1,
                        .entry_count = 1,
                        .entries = &entry}};

        if (!n->raft || n->is_installing || cluster_raft_is_voter(n->raft))
                return;
        if (n->log.count != p->a - 1 || n->stored != n->log.count || log_chain(&n->log, p->a - 1) != p->c)
                return;
        if (w->options.mutant == GROW_REMEMBERS_LEADER && cluster_raft_leader(n->raft))
                return;
        world_say(w, "n%llu takes entry %llu from n%llu", (unsigned long long)n->id, (unsigned long long)p->a,
                (unsigned long long)p->from);
        w->result->totals.offers_taken++;
        m.term = MAX(cluster_raft_term(n->raft), entry.term);
        entry.payload = world_payload(w, p->entries[0].value);
        node_receive(w, n, &m);
}

/* ---- what is due ---- */

void grow_tick(struct world *w, struct node *n)
{
        if (!n->raft)
                return;
        if (n->hold_until && (w->now > n->hold_until || !cluster_raft_can_write(n->raft) ||
                                     !cluster_raft_is_only_voter(n->raft)))
                n->hold_until = 0;
        if (n->hold_until)
                try_to_grow(w, n);
        if (n->raft)
                make_offers(w, n);
}
