/* One voter becomes three or five: when the engine refuses, which node has the entry to offer, and what an
 * offer does. The order that makes it safe under faults is the simulator's matter (tests/raft, schedule
 * grow). */
#include "support.h"

static int grow(struct peers *p, struct peer *n, unsigned count, const uint64_t *ids)
{
        struct cluster_update u;

        return peer_did(p, n, cluster_raft_grow(n->raft, p->now_us, ids, count, &u), &u);
}

/* Node 1 is the only voter, the others are its stand-bys and have everything. */
static struct peer *begin(struct peers *p, unsigned standbys)
{
        struct peer *leader;

        peers_begin(p, 1, standbys, 0);
        leader = peers_leader(p);
        peer_submit(p, leader, 3);
        peers_wait(p, 500);
        for (unsigned id = 2; id <= p->count; id++)
                assert_int_equal(p->peer[id].last, leader->last);
        return leader;
}

/* As an append of the node, with the entry alone; in the term that the contract names. */
static void offer(struct peers *p, uint64_t from, uint64_t to, uint64_t index)
{
        const struct kept *log = p->peer[from].log;
        struct cluster_message m = {.type = CLUSTER_APPEND,
                .node_id = from,
                .term = MAX(cluster_raft_term(p->peer[to].raft), log[index].term),
                .append = {.previous_index = index - 1,
                        .previous_term = log[index - 1].term,
                        .commit_index = index - 1,
                        .entry_count = 1}};

        assert_int_equal(peer_hear(p, to, &m, log), 0);
        peers_deliver(p);
}

static void stop(struct peer *n)
{
        cluster_raft_free(&n->raft);
}

static unsigned voters(const struct peer *n)
{
        struct cluster_configuration c;
        unsigned count = 0;
        uint64_t index;
        bool is_committed;

        cluster_raft_configuration(n->raft, &c, &index, &is_committed);
        for (unsigned i = 0; i < c.count; i++)
                count += c.servers[i].role == CLUSTER_VOTER;
        return count;
}

/* ---- refusals ---- */

TEST(grow, takes_two_or_four_stand_bys)
{
        static const uint64_t ids[] = {2, 3, 4, 5, 6}, self[] = {1, 2}, strange[] = {2, 9};
        struct peers p = {0};
        struct peer *leader = begin(&p, 5);

        for (unsigned count = 1; count <= 5; count += 2) {
                assert_int_equal(grow(&p, leader, count, ids), CLUSTER_REFUSED);
                assert_non_null(strstr(cluster_raft_reason(leader->raft), "two or four"));
        }
        assert_int_equal(grow(&p, leader, 0, ids), CLUSTER_REFUSED);
        assert_int_equal(grow(&p, leader, 2, self), CLUSTER_REFUSED);
        assert_int_equal(grow(&p, leader, 2, strange), CLUSTER_REFUSED);
        assert_int_equal(voters(leader), 1);
        assert_int_equal(grow(&p, leader, 4, ids), 0);
        assert_int_equal(voters(leader), 5);
        peers_wait(&p, 300);
        assert_int_equal(leader->commit, leader->last);
        peers_end(&p);
}

TEST(grow, is_for_the_leader_that_is_the_only_voter)
{
        static const uint64_t ids[] = {2, 3}, more[] = {4, 5};
        struct peers p = {0};
        struct peer *leader = begin(&p, 4);

        assert_int_equal(grow(&p, &p.peer[2], 2, ids), CLUSTER_NOT_LEADER);
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        peers_wait(&p, 300);
        assert_int_equal(grow(&p, leader, 2, more), CLUSTER_REFUSED);
        assert_int_equal(voters(leader), 3);
        peers_end(&p);
}

TEST(grow, waits_for_a_stand_by_that_lags)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 2);

        p.peer[3].is_cut = true;
        peer_submit(&p, leader, 1);
        peers_deliver(&p);
        assert_int_equal(grow(&p, leader, 2, ids), CLUSTER_NOT_NOW);
        assert_non_null(strstr(cluster_raft_reason(leader->raft), "node 3"));
        assert_int_equal(voters(leader), 1);
        p.peer[3].is_cut = false;
        peers_wait(&p, 1000);
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        peers_end(&p);
}

TEST(grow, waits_for_entries_under_way)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 2);

        leader->is_slow = true; /* the stand-bys have it, the leader's own disk does not */
        peer_submit(&p, leader, 1);
        peers_deliver(&p);
        assert_int_equal(p.peer[2].last, leader->last);
        assert_int_equal(grow(&p, leader, 2, ids), CLUSTER_NOT_NOW);
        assert_non_null(strstr(cluster_raft_reason(leader->raft), "under way"));
        leader->is_slow = false;
        peer_persisted(&p, leader);
        peers_deliver(&p);
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        peers_end(&p);
}

/* ---- who offers it ---- */

TEST(growing, names_the_entry_to_voters_that_have_it_until_another_change)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 3);
        struct cluster_update u;
        uint64_t index = leader->last + 1;

        for (unsigned id = 1; id <= 4; id++)
                assert_int_equal(cluster_raft_growing(p.peer[id].raft), 0);
        p.peer[3].is_cut = true;
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        assert_int_equal(cluster_raft_growing(leader->raft), index);
        peers_wait(&p, 300);
        assert_int_equal(leader->applied, index); /* committed, and node 3 still lacks it */
        assert_int_equal(cluster_raft_growing(leader->raft), index);
        assert_int_equal(cluster_raft_growing(p.peer[2].raft), index);
        assert_int_equal(cluster_raft_growing(p.peer[3].raft), 0);
        assert_int_equal(cluster_raft_growing(p.peer[4].raft), 0); /* it has the entry, and does not vote */
        assert_int_equal(p.peer[4].last, index);
        stop(&p.peer[2]);
        peer_start(&p, 2);
        assert_int_equal(cluster_raft_growing(p.peer[2].raft), index);
        p.peer[3].is_cut = false;
        peers_wait(&p, 1000);
        leader = peers_leader(&p);
        assert_int_equal(peer_did(&p, leader, cluster_raft_remove(leader->raft, p.now_us, 4, &u), &u), 0);
        peers_wait(&p, 300);
        for (unsigned id = 1; id <= 3; id++)
                assert_int_equal(cluster_raft_growing(p.peer[id].raft), 0);
        peers_end(&p);
}

/* The entry is durable on the old voter, which loses its power before anybody else has it. The stand-bys
 * still take it for their leader. */
TEST(growing, offers_end_the_silence_after_a_restart)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 2);
        uint64_t index = leader->last + 1;

        leader->is_cut = true;
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        stop(leader);
        peer_start(&p, 1);
        leader->is_cut = false;
        assert_int_equal(voters(leader), 3);
        assert_int_equal(cluster_raft_growing(leader->raft), index);
        peers_wait(&p, 5000);
        for (unsigned id = 1; id <= 3; id++)
                assert_int_not_equal(cluster_raft_state(p.peer[id].raft), CLUSTER_LEADER); /* F11 */
        assert_int_equal(cluster_raft_leader(leader->raft), 0);
        assert_int_equal(cluster_raft_leader(p.peer[2].raft), 1); /* of long ago */
        offer(&p, 1, 2, index);
        assert_int_equal(p.peer[2].last, index);
        assert_int_equal(voters(&p.peer[2]), 3);
        leader = peers_leader(&p);
        peers_wait(&p, 1000);
        assert_int_equal(p.peer[3].last, leader->last);
        assert_int_equal(leader->commit, leader->last);
        assert_true(leader->log[index].type == CLUSTER_CHANGE && leader->last > index);
        peers_end(&p);
}

/* It is committed by the old voter and one other; then the old voter is lost, and the third is back. */
TEST(growing, another_than_the_old_voter_offers_it)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 2);
        uint64_t index = leader->last + 1;

        p.peer[3].is_cut = true;
        assert_int_equal(grow(&p, leader, 2, ids), 0);
        peer_submit(&p, leader, 2);
        peers_wait(&p, 300);
        assert_int_equal(leader->commit, index + 2);
        leader->is_cut = true;
        stop(leader);
        p.peer[3].is_cut = false;
        peers_wait(&p, 5000);
        assert_int_equal(cluster_raft_leader(p.peer[2].raft), 0); /* nobody votes for it */
        offer(&p, 2, cluster_raft_growing(p.peer[2].raft) ? 3 : 0, index);
        leader = peers_leader(&p);
        assert_int_equal(leader->id, 2);
        peers_wait(&p, 500);
        assert_int_equal(p.peer[3].commit, leader->last);
        peers_end(&p);
}

/* One that comes late: to a node in a newer term, with a leader, that has more than the entry. */
TEST(growing, a_late_offer_changes_nothing)
{
        static const uint64_t ids[] = {2, 3};
        struct peers p = {0};
        struct peer *leader = begin(&p, 2), *other;
        uint64_t index = leader->last + 1, last;

        assert_int_equal(grow(&p, leader, 2, ids), 0);
        peers_wait(&p, 300);
        leader = peers_elect(&p, 2);
        peer_submit(&p, leader, 3);
        peers_wait(&p, 300);
        other = &p.peer[3];
        last = other->last;
        offer(&p, 1, 3, index);
        assert_int_equal(other->last, last);
        assert_int_equal(other->commit, last);
        peers_wait(&p, 300);
        assert_int_equal(cluster_raft_leader(other->raft), 2);
        assert_int_equal(cluster_raft_state(leader->raft), CLUSTER_LEADER);
        peers_end(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(grow, takes_two_or_four_stand_bys),
                TEST_ROW(grow, is_for_the_leader_that_is_the_only_voter),
                TEST_ROW(grow, waits_for_a_stand_by_that_lags),
                TEST_ROW(grow, waits_for_entries_under_way),
                TEST_ROW(growing, names_the_entry_to_voters_that_have_it_until_another_change),
                TEST_ROW(growing, offers_end_the_silence_after_a_restart),
                TEST_ROW(growing, another_than_the_old_voter_offers_it),
                TEST_ROW(growing, a_late_offer_changes_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
