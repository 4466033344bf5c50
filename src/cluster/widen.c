/* One voter becomes three (or five), in one entry.
 *
 * The majorities before and after share nothing but the old voter: two of the new ones could elect a leader
 * beside it. What makes it safe is an order that the caller keeps (store/grow.c): nothing is under way and
 * every new voter has the whole log; then the entry is durable on the old voter before any message with it
 * leaves. From then on the old voter counts three, whatever happens to it; before that nobody else is a
 * voter. What was acknowledged earlier is on all of them.
 *
 * A voter that does not have the entry yet neither votes nor stands for election (F11). So when the old voter
 * loses its office before a second one has the entry, for example by a restart, it cannot win it back by
 * votes: it offers the entry, and who has the same log before it takes it as an append of the leader that
 * wrote it. */
#include "cluster/room.h"

static unsigned count_voters(const struct raft_configuration *c)
{
        unsigned n = 0;

        for (unsigned i = 0; i < c->n; i++)
                n += c->servers[i].role == RAFT_VOTER;
        return n;
}

static int promote_all(
        struct cluster_raft *c, const uint64_t *node_ids, unsigned count, struct cluster_configuration *to)
{
        for (unsigned i = 0; i < count; i++) {
                struct cluster_server *s =
                        (struct cluster_server *)cluster_configuration_find(to, node_ids[i]);
                raft_index match = 0;

                if (!s || s->role != CLUSTER_STANDBY) {
                        cluster_reason(c, "node %llu is no stand-by", (unsigned long long)node_ids[i]);
                        return CLUSTER_REFUSED;
                }
                if (raft_match_index(&c->raft, node_ids[i], &match) || match != cluster_raft_last_index(c)) {
                        cluster_reason(c, "node %llu is at entry %llu of %llu",
                                (unsigned long long)node_ids[i], match,
                                (unsigned long long)cluster_raft_last_index(c));
                        return CLUSTER_NOT_NOW;
                }
                s->role = CLUSTER_VOTER;
        }
        return 0;
}

int cluster_raft_grow(struct cluster_raft *c, uint64_t now_us, const uint64_t *node_ids, unsigned count,
        struct cluster_update *ret)
{
        struct cluster_configuration to;
        int r = cluster_may_change(c, c->raft.id);

        if (r)
                return r;
        cluster_configuration_from_library(&c->raft.configuration, &to);
        if (!guard_sole_voter(c->raft.id, &to) || (count != 2 && count != 4)) {
                cluster_reason(c, "one voter becomes three or five: it takes two or four stand-bys");
                return CLUSTER_REFUSED;
        }
        if (c->commit_index != cluster_raft_last_index(c)) {
                cluster_reason(c, "entries are under way");
                return CLUSTER_NOT_NOW;
        }
        r = promote_all(c, node_ids, count, &to);
        return r ? r : cluster_change_to(c, now_us, &to, true, ret);
}

uint64_t cluster_raft_growing(const struct cluster_raft *c)
{
        struct cluster_configuration committed;

        if (!c->raft.configuration_uncommitted_index || count_voters(&c->raft.configuration) < 3)
                return 0;
        cluster_configuration_from_library(&c->raft.configuration_committed, &committed);
        return guard_sole_voter(c->raft.id, &committed) ? c->raft.configuration_uncommitted_index : 0;
}

bool cluster_raft_is_only_voter(const struct cluster_raft *c)
{
        return count_voters(&c->raft.configuration) == 1 && cluster_raft_is_voter(c);
}

bool cluster_raft_is_voter(const struct cluster_raft *c)
{
        for (unsigned i = 0; i < c->raft.configuration.n; i++)
                if (c->raft.configuration.servers[i].id == c->raft.id)
                        return c->raft.configuration.servers[i].role == RAFT_VOTER;
        return false;
}
