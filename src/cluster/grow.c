/* One voter becomes three (or five), in one entry. Call it E, the old voter O.
 *
 * The majorities before and after share nothing but O: two of the new ones could elect a leader beside it.
 * The argument why they do not:
 *
 *   1. No message carries E before E is durable on O (store/grow.c keeps a dam). If O crashes before, E was
 *      nowhere: O is the only voter again, in a new term (RG2), so no other entry ever has E's index and
 *      term. From then on O counts three, whatever happens to it, for its log says so and E stays there (3).
 *   2. Who is no voter by its own log neither votes nor stands (the library's rule, F11). Before E only O is
 *      one. So whoever is elected after E was durable has E, and so has everyone who voted for it.
 *   3. So every leader that is ever elected afterwards has E, and no leader ever truncates it, on O or
 *      elsewhere. There is one E: O can make it in one term only, and that term's leader was O.
 *   4. E stands behind all that was committed before, with equal logs up to there. So nothing is lost.
 *   5. Leaders after E are elected by majorities of E's voters, or of configurations behind it, which change
 *      by one server (RG3, RG7): the usual argument holds.
 *
 * Nothing in it needs E to be everywhere, but going on does: who has not got E does not vote. A stand-by that
 * is to vote must have everything before E (RG19): then it lacks nothing but E itself. That all this is
 * committed keeps the offer honest, which says so; nothing would be lost without, by (3). When the leader
 * that could send E is gone, any voter that has E and knows no leader offers it to the others, not only O: O
 * may be the node that is down, and E committed. The receiver feeds it to its engine as an append of its own
 * term or of E's, whichever is newer, if its log ends exactly before E. The sender need not lead in that
 * term, and another node may: what the receiver then says to have is in the log of every leader of such a
 * term, by (3). So an offer may be as old as it likes, be doubled, and come while a leader is known. It must
 * be taken even then: a stand-by never forgets the last leader that it has heard of, and that is the one that
 * has gone. A real leader's next message corrects whom the receiver takes for the leader; if none comes, the
 * receiver, now a voter, soon stands itself.
 *
 * What (3) rests on is lost with O's disk before a second node has E; then O is replaced as any sole voter.
 */
#include "cluster/room.h"

unsigned cluster_count_voters(const struct raft_configuration *c)
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

                if (!s || s->role != CLUSTER_STANDBY) {
                        cluster_reason(c, "node %llu is no stand-by", (unsigned long long)node_ids[i]);
                        return CLUSTER_REFUSED;
                }
                if (cluster_has_guard(c, 19) && !guard_has_everything(&c->raft, node_ids[i])) {
                        cluster_reason(c, "node %llu does not have all of %llu entries",
                                (unsigned long long)node_ids[i],
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

void cluster_note_growth(struct cluster_raft *c, unsigned voters_before, unsigned voters, uint64_t index)
{
        if (voters_before == 1 && voters >= 3)
                c->grown_index = index;
        else if (index <= c->grown_index)
                c->grown_index = 0; /* it was replaced */
}

uint64_t cluster_raft_growing(const struct cluster_raft *c)
{
        return c->grown_index == cluster_raft_configuration_index(c) && cluster_raft_is_voter(c)
                       ? c->grown_index
                       : 0;
}

bool cluster_raft_is_only_voter(const struct cluster_raft *c)
{
        return cluster_count_voters(&c->raft.configuration) == 1 && cluster_raft_is_voter(c);
}

bool cluster_raft_is_voter(const struct cluster_raft *c)
{
        for (unsigned i = 0; i < c->raft.configuration.n; i++)
                if (c->raft.configuration.servers[i].id == c->raft.id)
                        return c->raft.configuration.servers[i].role == RAFT_VOTER;
        return false;
}
