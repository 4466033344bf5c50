/* Linearizable reads and the commit index for those who follow: what travels between the engines without a
 * step of the library.
 *
 * A probe asks each voter whether it is still in this term. A majority that says so, after the read has come,
 * means that at that time no leader of a later term had been elected: such a leader needs a majority that is
 * in its term, durably, and two majorities share a node. Then whatever is committed by then is covered by the
 * commit index that was noted. Votes and configurations change one voter at a time, so majorities of
 * neighbouring configurations share a node too. */
#include <errno.h>
#include <string.h>

#include "cluster/room.h"

void cluster_peers_reset(struct cluster_raft *c)
{
        memset(c->peers, 0, sizeof(c->peers));
        c->peer_count = 0;
}

struct cluster_peer *cluster_peer_of(struct cluster_raft *c, uint64_t node_id)
{
        for (unsigned i = 0; i < c->peer_count; i++)
                if (c->peers[i].node_id == node_id)
                        return &c->peers[i];
        if (c->peer_count == COUNT_OF(c->peers)) {
                /* Members that are no more; whoever is one begins anew, which only costs a message. */
                memmove(c->peers, c->peers + 1, sizeof(c->peers) - sizeof(c->peers[0]));
                c->peer_count--;
        }
        c->peers[c->peer_count] = (struct cluster_peer){.node_id = node_id};
        return &c->peers[c->peer_count++];
}

int cluster_raft_probe(
        struct cluster_raft *c, uint64_t *ret_nonce, uint64_t *ret_index, struct cluster_update *ret)
{
        const struct raft_configuration *in_use = &c->raft.configuration;

        if (c->state != CLUSTER_LEADER)
                return CLUSTER_NOT_LEADER;
        if (!c->own_term_index || c->commit_index < c->own_term_index) {
                cluster_reason(c, "no entry of the leader's own term is committed yet");
                return CLUSTER_NOT_NOW;
        }
        cluster_begin(c, ret);
        *ret_nonce = ++c->nonce;
        *ret_index = c->commit_index;
        for (unsigned i = 0; i < in_use->n; i++) {
                if (in_use->servers[i].role == RAFT_VOTER && in_use->servers[i].id != c->raft.id)
                        cluster_message_add(c, CLUSTER_PROBE, in_use->servers[i].id)->probe.nonce = c->nonce;
        }
        return fault_fold(cluster_finish(c, 0, ret));
}

uint64_t cluster_raft_probe_confirmed(const struct cluster_raft *c)
{
        const struct raft_configuration *in_use = &c->raft.configuration;
        uint64_t confirmed[CLUSTER_MEMBERS_MAX];
        unsigned voters = 0;

        if (c->state != CLUSTER_LEADER)
                return 0;
        /* Sorted, newest first: the one in the middle is what a majority has confirmed. */
        for (unsigned i = 0; i < in_use->n; i++) {
                uint64_t nonce = 0;
                unsigned at;

                if (in_use->servers[i].role != RAFT_VOTER)
                        continue;
                if (in_use->servers[i].id == c->raft.id)
                        nonce = c->nonce;
                for (unsigned j = 0; j < c->peer_count; j++)
                        if (c->peers[j].node_id == in_use->servers[i].id)
                                nonce = c->peers[j].confirmed_nonce;
                for (at = voters++; at > 0 && confirmed[at - 1] < nonce; at--)
                        confirmed[at] = confirmed[at - 1];
                confirmed[at] = nonce;
        }
        return voters ? confirmed[voters / 2] : 0;
}

/* A result names the term in which its sender was when the probe came: one that was delayed from an earlier
 * term of leadership, or from before a restart, when nonces were the same, names another. */
void cluster_probe_receive(struct cluster_raft *c, const struct cluster_message *message)
{
        uint64_t term = raft_current_term(&c->raft);
        struct cluster_message *answer;
        struct cluster_peer *peer;

        if (message->type == CLUSTER_PROBE) {
                answer = cluster_message_add(c, CLUSTER_PROBE_RESULT, message->node_id);
                answer->probe.nonce = message->probe.nonce;
                answer->probe.is_confirmed = message->term == term;
                return;
        }
        if (c->state != CLUSTER_LEADER || message->term != term || !message->probe.is_confirmed ||
                message->probe.nonce > c->nonce)
                return;
        peer = cluster_peer_of(c, message->node_id);
        peer->confirmed_nonce = MAX(peer->confirmed_nonce, message->probe.nonce);
}

/* Names as previous what the member is known to have: it can never be rejected, so it never disturbs what is
 * on its way. */
void cluster_raft_push_commit(struct cluster_raft *c, struct cluster_update *ret)
{
        const struct raft_configuration *in_use = &c->raft.configuration;

        cluster_begin(c, ret);
        for (unsigned i = 0; c->state == CLUSTER_LEADER && i < in_use->n; i++) {
                struct cluster_message *m;
                struct cluster_peer *peer;
                raft_index match = 0;
                uint64_t at, term;

                if (in_use->servers[i].id == c->raft.id ||
                        raft_match_index(&c->raft, in_use->servers[i].id, &match))
                        continue;
                at = MIN(match, c->commit_index);
                term = at ? guard_term_of(&c->raft, at) : 0;
                peer = cluster_peer_of(c, in_use->servers[i].id);
                if (!term || at <= peer->pushed_commit)
                        continue;
                peer->pushed_commit = at;
                m = cluster_message_add(c, CLUSTER_APPEND, in_use->servers[i].id);
                m->append.previous_index = at;
                m->append.previous_term = term;
                m->append.commit_index = c->commit_index;
        }
        (void)fault_fold(cluster_finish(c, 0, ret));
}
