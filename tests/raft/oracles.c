/* What must hold, whatever happens. Each is a sentence of Raft or a promise of ours (G1, G7, G9). */
#include "room.h"

#include <stdlib.h>

#include "base/memory.h"

enum { STEPS_A_SECOND_MAX = 20000, TIMEOUTS_A_SECOND_MAX = 130 };

struct history {
        uint64_t index, term, chain;
};

static unsigned long long U(uint64_t n)
{
        return (unsigned long long)n;
}

/* ---- (index, term) has one history ---- */

static struct history *history_slot(struct world *w, uint64_t index, uint64_t term)
{
        uint64_t at = (index * 0x9e3779b97f4a7c15u + term * 0xc2b2ae3d27d4eb4fu) & (w->history_capacity - 1);

        while (w->histories[at].chain && (w->histories[at].index != index || w->histories[at].term != term))
                at = (at + 1) & (w->history_capacity - 1);
        return &w->histories[at];
}

static void grow_histories(struct world *w)
{
        struct history *old = w->histories;
        uint64_t capacity = w->history_capacity;

        w->history_capacity = MAX(capacity * 2, 4096);
        w->histories = memory_new_array(w->history_capacity, sizeof(*w->histories));
        for (uint64_t i = 0; i < capacity; i++)
                if (old[i].chain)
                        *history_slot(w, old[i].index, old[i].term) = old[i];
        free(old);
}

void oracle_entry(struct world *w, const struct node *n, uint64_t index)
{
        const struct entry *e = log_at(&n->log, index);
        struct history *h;

        if (w->history_count * 2 >= w->history_capacity)
                grow_histories(w);
        h = history_slot(w, index, e->term);
        if (!h->chain) {
                *h = (struct history){index, e->term, e->chain};
                w->history_count++;
        } else if (h->chain != e->chain) {
                world_fail(w, "node %llu: entry (%llu, term %llu) has another history elsewhere", U(n->id),
                        U(index), U(e->term));
        }
        if (index > 1 && log_at(&n->log, index - 1)->term > e->term)
                world_fail(w, "node %llu: terms go down at entry %llu", U(n->id), U(index));
}

/* ---- what is committed stays ---- */

void oracle_truncation(struct world *w, const struct node *n, uint64_t first)
{
        if (first <= n->commit)
                world_fail(w, "node %llu truncates at %llu what it knows to be committed through %llu",
                        U(n->id), U(first), U(n->commit));
        if (first == 0 || first > n->log.count + 1)
                world_fail(
                        w, "node %llu leaves a gap: %llu behind %llu", U(n->id), U(first), U(n->log.count));
}

/* Durable where it counts: on the disks of a majority of the voters that the leader has in use. */
static void check_majority(struct world *w, const struct node *leader, uint64_t index)
{
        struct cluster_configuration in_use;
        unsigned voters = 0, durable = 0;
        uint64_t at;
        bool is_committed;

        cluster_raft_configuration(leader->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count; i++) {
                const struct node *n = &w->nodes[in_use.servers[i].node_id - 1];

                if (in_use.servers[i].role != CLUSTER_VOTER)
                        continue;
                voters++;
                durable += log_chain(&n->disk, index) == log_chain(&leader->log, index);
        }
        if (durable <= voters / 2)
                world_fail(w, "node %llu commits %llu, which %u of %u voters have durably", U(leader->id),
                        U(index), durable, voters);
}

void oracle_commit(struct world *w, struct node *n, uint64_t commit_index)
{
        bool is_leader = cluster_raft_state(n->raft) == CLUSTER_LEADER;

        if (commit_index < n->commit) {
                world_fail(w, "node %llu: the commit index goes from %llu back to %llu", U(n->id),
                        U(n->commit), U(commit_index));
                return;
        }
        if (commit_index > n->log.count) {
                world_fail(w, "node %llu commits %llu beyond its log of %llu", U(n->id), U(commit_index),
                        U(n->log.count));
                return;
        }
        if (is_leader)
                check_majority(w, n, commit_index);
        for (uint64_t i = n->commit + 1; i <= commit_index; i++) {
                if (i <= w->committed.count) {
                        if (log_chain(&w->committed, i) != log_chain(&n->log, i)) {
                                world_fail(w, "node %llu commits another entry at %llu", U(n->id), U(i));
                                return;
                        }
                } else if (!is_leader) {
                        world_fail(w, "node %llu follows to %llu, which no leader has committed", U(n->id),
                                U(i));
                        return;
                } else {
                        log_add(&w->committed, *log_at(&n->log, i));
                }
        }
        n->commit = commit_index;
}

void oracle_applied(struct world *w, const struct node *n, uint64_t index)
{
        if (log_chain(&n->disk, index) != log_chain(&w->committed, index))
                world_fail(w, "node %llu applies %llu, which is not durable here", U(n->id), U(index));
}

/* ---- leaders ---- */

void oracle_leader(struct world *w, const struct node *n)
{
        uint64_t term = cluster_raft_term(n->raft);

        if (term >= w->leader_capacity) {
                uint64_t capacity = MAX(term + 1, w->leader_capacity * 2);

                w->leaders = memory_resize(w->leaders, capacity * sizeof(*w->leaders));
                memset(w->leaders + w->leader_capacity, 0,
                        (capacity - w->leader_capacity) * sizeof(*w->leaders));
                w->leader_capacity = capacity;
        }
        if (!w->leaders[term].node) {
                w->leaders[term].node = n->id;
                w->leaders[term].incarnation = n->incarnation;
                w->result->totals.leaders++;
        } else if (w->leaders[term].node != n->id || w->leaders[term].incarnation != n->incarnation) {
                world_fail(w, "two leaders in term %llu: node %llu and node %llu", U(term),
                        U(w->leaders[term].node), U(n->id));
        }
        w->newest_leader_term = MAX(w->newest_leader_term, term);
        if (n->term < term)
                world_fail(w, "node %llu leads in a term that is not durable", U(n->id));
}

/* ---- the configuration in use is the last one of the own log ---- */

void oracle_configuration(struct world *w, const struct node *n)
{
        struct cluster_configuration in_use, own;
        uint64_t index, expected = n->change_index, number = 0;
        bool is_committed;

        if (n->is_installing || !n->raft)
                return;
        cluster_raft_configuration(n->raft, &in_use, &index, &is_committed);
        if (index != expected) {
                world_fail(w, "node %llu uses the configuration of %llu, its log's last is of %llu", U(n->id),
                        U(index), U(expected));
                return;
        }
        if (!expected)
                return;
        number = log_at(&n->log, expected)->value;
        if (cluster_configuration_decode(world_payload(w, number), &own) || own.count != in_use.count)
                world_fail(
                        w, "node %llu uses another configuration than that of %llu", U(n->id), U(expected));
        for (unsigned i = 0; i < in_use.count && i < own.count; i++)
                if (own.servers[i].node_id != in_use.servers[i].node_id ||
                        own.servers[i].role != in_use.servers[i].role)
                        world_fail(w, "node %llu has other members than the configuration of %llu", U(n->id),
                                U(expected));
}

/* ---- liveness ---- */

void oracle_steps(struct world *w, struct node *n, bool is_timeout)
{
        if (n->second != w->now / SECOND) {
                n->second = w->now / SECOND;
                n->steps = n->timeouts = 0;
        }
        n->steps++;
        n->timeouts += is_timeout;
        w->result->totals.steps++;
        if (n->steps > STEPS_A_SECOND_MAX || n->timeouts > TIMEOUTS_A_SECOND_MAX)
                world_fail(w, "node %llu spins: %u steps, %u timeouts in a second", U(n->id), n->steps,
                        n->timeouts);
}

static struct node *newest_leader(struct world *w)
{
        struct node *leader = NULL;

        for (unsigned i = 0; i < w->node_count; i++) {
                struct node *n = &w->nodes[i];

                if (n->raft && cluster_raft_can_write(n->raft) &&
                        (!leader || cluster_raft_term(n->raft) > cluster_raft_term(leader->raft)))
                        leader = n;
        }
        return leader;
}

bool oracle_has_converged(struct world *w, bool is_loud)
{
        struct node *leader = newest_leader(w);
        struct cluster_configuration in_use;
        uint64_t at;
        bool is_committed;

        if (!leader) {
                if (is_loud)
                        world_fail(w, "not converged: nobody leads");
                return false;
        }
        cluster_raft_configuration(leader->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count; i++) {
                const struct node *n = &w->nodes[in_use.servers[i].node_id - 1];

                if (n->is_down_for_good)
                        continue;
                if (n->log.count == leader->log.count && n->commit == leader->commit &&
                        n->applied == leader->applied && n->commit == n->log.count &&
                        log_chain(&n->log, n->log.count) == log_chain(&leader->log, leader->log.count))
                        continue;
                if (is_loud)
                        world_fail(w,
                                "not converged: node %llu is at %llu, commit %llu, leader %llu at %llu, "
                                "commit %llu",
                                U(n->id), U(n->log.count), U(n->commit), U(leader->id), U(leader->log.count),
                                U(leader->commit));
                return false;
        }
        return true;
}

/* What a client was told of is there: on a majority by the rules above, and in every log that has converged.
 */
void oracle_end(struct world *w)
{
        if (!oracle_has_converged(w, true))
                return;
        if (w->acknowledged > newest_leader(w)->commit)
                world_fail(w, "acknowledged through %llu, committed through %llu", U(w->acknowledged),
                        U(newest_leader(w)->commit));
}
