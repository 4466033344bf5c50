/* Several engines: they elect, replicate, change their members, hand leadership over, and know what they may
 * read. */
#include "support.h"

TEST(election, ends_with_one_leader_whose_own_entry_is_committed)
{
        struct peers p = {0};
        struct peer *leader;

        peers_begin(&p, 3, 0, 0);
        leader = peers_leader(&p);
        peer_submit(&p, leader, 5);
        peers_deliver(&p);
        peers_wait(&p, 200);
        for (unsigned id = 1; id <= 3; id++) {
                assert_int_equal(p.peer[id].last, leader->last);
                assert_int_equal(p.peer[id].commit, leader->last);
                assert_int_equal(cluster_raft_leader(p.peer[id].raft), leader->id);
                assert_int_equal(cluster_raft_last_index(p.peer[id].raft), leader->last);
                assert_int_equal(cluster_raft_term_of(p.peer[id].raft, leader->last), leader->term);
        }
        assert_int_equal(leader->log[2].type, CLUSTER_BARRIER); /* G9 */
        peers_end(&p);
}

/* G9: where everything was committed the library appends nothing by itself; the leader must still have an
 * entry of its term. */
TEST(election, of_a_leader_with_nothing_uncommitted_writes_a_barrier_too)
{
        struct peers p = {0};
        struct peer *leader;
        uint64_t last;

        peers_begin(&p, 3, 0, 0);
        leader = peers_leader(&p);
        peers_wait(&p, 300);
        last = leader->last;
        leader = peers_elect(&p, leader->id % 3 + 1);
        assert_true(leader->last > last);
        assert_int_equal(leader->log[leader->last].type, CLUSTER_BARRIER);
        assert_int_equal(leader->log[leader->last].term, leader->term);
        peers_end(&p);
}

TEST(leader, that_is_cut_off_is_replaced_and_follows_when_it_is_back)
{
        struct peers p = {0};
        struct peer *old, *leader;

        peers_begin(&p, 3, 0, 0);
        old = peers_leader(&p);
        old->is_cut = true;
        peer_submit(&p, old, 3); /* nobody hears of them */
        leader = peers_leader(&p);
        assert_int_not_equal(leader->id, old->id);
        peer_submit(&p, leader, 2);
        peers_wait(&p, 2000);
        assert_int_not_equal(
                cluster_raft_state(old->raft), CLUSTER_LEADER); /* it noticed that it has no majority */
        old->is_cut = false;
        peers_wait(&p, 2000);
        leader = peers_leader(&p);
        assert_int_equal(old->last, leader->last);
        assert_int_equal(old->log[old->last].term, leader->log[leader->last].term);
        peers_end(&p);
}

TEST(push, tells_of_the_commit_at_once_and_only_once)
{
        struct peers p = {0};
        struct peer *leader;
        struct cluster_update u;

        peers_begin(&p, 3, 0, 0);
        leader = peers_leader(&p);
        peers_wait(&p, 300);
        peer_submit(&p, leader, 1);
        peers_deliver(&p);
        assert_int_equal(leader->commit, leader->last);
        for (unsigned id = 1; id <= 3; id++)
                if (id != leader->id)
                        assert_int_equal(p.peer[id].commit, leader->last - 1);
        cluster_raft_push_commit(leader->raft, &u);
        assert_int_equal(u.message_count, 2);
        assert_true(u.timeout_us != UINT64_MAX);
        peer_did(&p, leader, 0, &u);
        for (unsigned id = 1; id <= 3; id++)
                assert_int_equal(p.peer[id].commit, leader->last);
        cluster_raft_push_commit(leader->raft, &u);
        assert_int_equal(u.message_count, 0);
        cluster_raft_push_commit(p.peer[leader->id % 3 + 1].raft, &u); /* who does not lead says nothing */
        assert_int_equal(u.message_count, 0);
        peers_end(&p);
}

/* ---- members (RG3, RG7) ---- */

static int promote(struct peers *p, struct peer *leader, uint64_t id)
{
        struct cluster_update u;

        return peer_did(p, leader, cluster_raft_promote(leader->raft, p->now_us, id, &u), &u);
}

static int add(struct peers *p, struct peer *leader, uint64_t id, const char *address)
{
        struct cluster_update u;

        return peer_did(p, leader, cluster_raft_add(leader->raft, p->now_us, id, address, &u), &u);
}

static int drop(struct peers *p, struct peer *leader, uint64_t id)
{
        struct cluster_update u;

        return peer_did(p, leader, cluster_raft_remove(leader->raft, p->now_us, id, &u), &u);
}

static int demote(struct peers *p, struct peer *leader, uint64_t id)
{
        struct cluster_update u;

        return peer_did(p, leader, cluster_raft_demote(leader->raft, p->now_us, id, &u), &u);
}

static int is_caught_up(struct peers *p, struct peer *leader, uint64_t id)
{
        struct cluster_update u;
        int r = cluster_raft_is_caught_up(leader->raft, p->now_us, id, &u);

        if (r == 0 || r == CLUSTER_NOT_NOW)
                peers_carry_out(p, leader, &u);
        peers_deliver(p);
        return r;
}

TEST(members, a_voter_is_replaced_by_way_of_four)
{
        struct peers p = {0};
        struct peer *leader;
        struct cluster_member members[PEERS_MAX];
        uint64_t other;

        peers_begin(&p, 3, 0, 1);
        leader = peers_leader(&p);
        other = leader->id % 3 + 1;
        peer_submit(&p, leader, 50);
        peers_wait(&p, 200);
        assert_int_equal(drop(&p, leader, other), CLUSTER_REFUSED); /* two would be left */
        assert_non_null(strstr(cluster_raft_reason(leader->raft), "three"));
        assert_int_equal(demote(&p, leader, other), CLUSTER_REFUSED);
        assert_int_equal(promote(&p, leader, 4), CLUSTER_REFUSED); /* no member */
        assert_int_equal(add(&p, leader, 4, "node1:1"), CLUSTER_REFUSED);
        assert_int_equal(add(&p, leader, 4, "node4:1"), 0);
        assert_int_equal(add(&p, leader, 4, "node4:1"), CLUSTER_REFUSED);
        peers_wait(&p, 500);
        assert_int_equal(p.peer[4].last, leader->last);
        assert_int_equal(is_caught_up(&p, leader, 4), 0);
        assert_int_equal(promote(&p, leader, 4), 0);
        peers_wait(&p, 300);
        assert_int_equal(drop(&p, leader, other), 0);
        peers_wait(&p, 300);
        assert_int_equal(cluster_raft_members(leader->raft, members, PEERS_MAX), 3);
        for (unsigned i = 0; i < 3; i++) {
                assert_true(members[i].is_voter);
                assert_int_not_equal(members[i].node_id, other);
                assert_int_equal(members[i].is_leader, members[i].node_id == leader->id);
                assert_int_equal(members[i].match_index, leader->last);
        }
        /* The three go on without one of them. */
        p.peer[other].is_cut = true;
        leader->is_cut = true;
        leader = peers_leader(&p);
        assert_int_equal(leader->last, leader->commit);
        peers_end(&p);
}

TEST(members, a_stand_by_that_lags_is_not_promoted)
{
        struct peers p = {0};
        struct peer *leader;

        peers_begin(&p, 3, 0, 1);
        leader = peers_leader(&p);
        p.peer[4].is_cut = true;
        assert_int_equal(add(&p, leader, 4, "node4:1"), 0);
        peer_submit(&p, leader, 20);
        peers_wait(&p, 300);
        assert_int_equal(promote(&p, leader, 4), CLUSTER_NOT_NOW);
        assert_int_equal(is_caught_up(&p, leader, 4), CLUSTER_NOT_NOW); /* it is watched from here on */
        assert_int_equal(promote(&p, leader, 4), CLUSTER_NOT_NOW);
        assert_int_equal(drop(&p, leader, 4), CLUSTER_NOT_NOW);
        p.peer[4].is_cut = false;
        peers_wait(&p, 1000);
        assert_int_equal(is_caught_up(&p, leader, 4), 0);
        assert_int_equal(is_caught_up(&p, leader, leader->id), CLUSTER_REFUSED);
        assert_int_equal(promote(&p, leader, 4), 0);
        peers_end(&p);
}

/* F11: whoever does not know that it is a voter does not vote; the next change waits for it, or takes it
 * back. */
TEST(members, nothing_changes_before_the_promoted_one_knows_it)
{
        struct peers p = {0};
        struct peer *leader;

        peers_begin(&p, 3, 0, 2);
        leader = peers_leader(&p);
        assert_int_equal(add(&p, leader, 4, "node4:1"), 0);
        peers_wait(&p, 200);
        assert_int_equal(add(&p, leader, 5, "node5:1"), 0);
        peers_wait(&p, 500);
        assert_int_equal(is_caught_up(&p, leader, 4), 0);
        p.peer[4].is_cut = true;
        assert_int_equal(promote(&p, leader, 4), 0);
        peers_wait(&p, 300);
        assert_int_equal(is_caught_up(&p, leader, 5), 0);
        assert_int_equal(promote(&p, leader, 5), CLUSTER_NOT_NOW);
        assert_int_equal(drop(&p, leader, leader->id % 3 + 1), CLUSTER_NOT_NOW);
        assert_int_equal(demote(&p, leader, 4), 0);
        peers_wait(&p, 300);
        assert_int_equal(promote(&p, leader, 5), 0);
        peers_end(&p);
}

TEST(members, one_voter_has_stand_bys_and_stays_the_only_voter)
{
        struct peers p = {0};
        struct peer *leader;

        peers_begin(&p, 1, 0, 2);
        leader = peers_leader(&p);
        assert_true(leader->timeout_us == UINT64_MAX);
        assert_int_equal(add(&p, leader, 2, "node2:1"), 0);
        assert_true(leader->timeout_us != UINT64_MAX);
        peers_wait(&p, 300);
        assert_int_equal(p.peer[2].last, leader->last);
        assert_true(p.peer[2].timeout_us == UINT64_MAX); /* it neither votes nor leads */
        assert_int_equal(is_caught_up(&p, leader, 2), 0);
        assert_int_equal(promote(&p, leader, 2), CLUSTER_REFUSED);
        assert_int_equal(drop(&p, leader, 1), CLUSTER_REFUSED);
        assert_int_equal(demote(&p, leader, 1), CLUSTER_REFUSED);
        p.peer[2].is_cut = true;
        peer_submit(&p, leader, 3);
        assert_int_equal(leader->commit, leader->last); /* a stand-by holds nothing up */
        p.peer[2].is_cut = false;
        assert_int_equal(add(&p, leader, 2, "elsewhere:1"), 0); /* a new address */
        peers_wait(&p, 300);
        assert_int_equal(drop(&p, leader, 2), 0);
        peers_wait(&p, 100);
        assert_true(leader->timeout_us == UINT64_MAX);
        peers_end(&p);
}

TEST(members, only_the_leader_changes_them)
{
        struct peers p = {0};
        struct peer *leader, *other;
        struct cluster_update u;

        peers_begin(&p, 3, 0, 1);
        leader = peers_leader(&p);
        other = &p.peer[leader->id % 3 + 1];
        assert_int_equal(add(&p, other, 4, "node4:1"), CLUSTER_NOT_LEADER);
        assert_int_equal(is_caught_up(&p, other, 4), CLUSTER_NOT_LEADER);
        assert_int_equal(cluster_raft_transfer(other->raft, p.now_us, 1, &u), CLUSTER_NOT_LEADER);
        peers_end(&p);
}

/* ---- transfer (RG12) ---- */

TEST(transfer, goes_to_a_voter_that_has_everything)
{
        struct peers p = {0};
        struct peer *leader, *other;
        struct cluster_update u;
        uint64_t before;

        peers_begin(&p, 3, 1, 0);
        leader = peers_leader(&p);
        other = &p.peer[leader->id % 3 + 1];
        assert_int_equal(cluster_raft_transfer(leader->raft, p.now_us, leader->id, &u), CLUSTER_REFUSED);
        assert_int_equal(cluster_raft_transfer(leader->raft, p.now_us, 4, &u), CLUSTER_REFUSED);
        assert_int_equal(cluster_raft_transfer(leader->raft, p.now_us, 9, &u), CLUSTER_REFUSED);
        other->is_cut = true;
        peer_submit(&p, leader, 2);
        peers_deliver(&p);
        assert_int_equal(cluster_raft_transfer(leader->raft, p.now_us, other->id, &u), CLUSTER_NOT_NOW);
        assert_true(cluster_raft_can_write(leader->raft)); /* and nothing stands still for it */
        other->is_cut = false;
        peers_wait(&p, 300);
        before = p.now_us;
        assert_int_equal(cluster_raft_transfer(leader->raft, p.now_us, other->id, &u), 0);
        assert_false(cluster_raft_can_write(leader->raft));
        peers_carry_out(&p, leader, &u);
        peers_deliver(&p);
        assert_int_equal(cluster_raft_state(other->raft), CLUSTER_LEADER);
        assert_int_equal(p.now_us, before); /* without waiting for anybody's timeout */
        peers_end(&p);
}

/* ---- reads (G7) ---- */

static int probe(struct peers *p, struct peer *n, uint64_t *ret_index)
{
        struct cluster_update u;
        int r = cluster_raft_probe(n->raft, &p->nonce, ret_index, &u);

        if (!r)
                peers_carry_out(p, n, &u);
        return r;
}

TEST(probe, is_confirmed_by_a_majority_in_the_same_term)
{
        struct peers p = {0};
        struct peer *leader;
        uint64_t index, first;

        peers_begin(&p, 3, 0, 0);
        leader = peers_leader(&p);
        assert_int_equal(probe(&p, &p.peer[leader->id % 3 + 1], &index), CLUSTER_NOT_LEADER);
        assert_int_equal(probe(&p, leader, &index), 0);
        first = p.nonce;
        assert_int_equal(index, leader->commit);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), 0);
        peers_deliver(&p);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), first);
        p.peer[leader->id % 3 + 1].is_cut = true; /* one of the two others is enough */
        assert_int_equal(probe(&p, leader, &index), 0);
        peers_deliver(&p);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), p.nonce);
        assert_true(p.nonce > first);
        peers_end(&p);
}

TEST(probe, of_who_was_replaced_is_never_confirmed)
{
        struct peers p = {0};
        struct peer *old;
        uint64_t index;

        peers_begin(&p, 3, 0, 0);
        old = peers_leader(&p);
        old->is_cut = true;
        peers_leader(&p);
        old->is_cut = false; /* it has heard of nothing yet */
        if (cluster_raft_state(old->raft) == CLUSTER_LEADER) {
                assert_int_equal(probe(&p, old, &index), 0);
                peers_deliver(&p);
                assert_int_equal(cluster_raft_probe_confirmed(old->raft), 0);
        } else {
                assert_int_equal(probe(&p, old, &index), CLUSTER_NOT_LEADER);
        }
        peers_end(&p);
}

TEST(probe, of_a_sole_voter_is_confirmed_at_once)
{
        struct peers p = {0};
        struct peer *leader;
        uint64_t index;

        peers_begin(&p, 1, 1, 0);
        leader = peers_leader(&p);
        assert_int_equal(probe(&p, leader, &index), 0);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), p.nonce);
        peers_end(&p);
}

/* Results that come late: of another term, not confirmed, or of a nonce that was not asked yet. */
TEST(probe, counts_only_answers_to_its_own_term)
{
        struct peers p = {0};
        struct peer *leader;
        struct cluster_message m = {.type = CLUSTER_PROBE_RESULT, .probe = {.is_confirmed = true}};
        uint64_t index;

        peers_begin(&p, 3, 0, 0);
        leader = peers_leader(&p);
        m.node_id = leader->id % 3 + 1;
        assert_int_equal(probe(&p, leader, &index), 0);
        m.probe.nonce = p.nonce;
        m.term = leader->term - 1;
        assert_int_equal(peer_hear(&p, leader->id, &m, NULL), 0);
        m.term = leader->term;
        m.probe.nonce = p.nonce + 1;
        assert_int_equal(peer_hear(&p, leader->id, &m, NULL), 0);
        m.probe.nonce = p.nonce;
        m.probe.is_confirmed = false;
        assert_int_equal(peer_hear(&p, leader->id, &m, NULL), 0);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), 0);
        m.probe.is_confirmed = true;
        assert_int_equal(peer_hear(&p, leader->id, &m, NULL), 0);
        assert_int_equal(cluster_raft_probe_confirmed(leader->raft), p.nonce);
        peers_end(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(election, ends_with_one_leader_whose_own_entry_is_committed),
                TEST_ROW(election, of_a_leader_with_nothing_uncommitted_writes_a_barrier_too),
                TEST_ROW(leader, that_is_cut_off_is_replaced_and_follows_when_it_is_back),
                TEST_ROW(push, tells_of_the_commit_at_once_and_only_once),
                TEST_ROW(members, a_voter_is_replaced_by_way_of_four),
                TEST_ROW(members, a_stand_by_that_lags_is_not_promoted),
                TEST_ROW(members, nothing_changes_before_the_promoted_one_knows_it),
                TEST_ROW(members, one_voter_has_stand_bys_and_stays_the_only_voter),
                TEST_ROW(members, only_the_leader_changes_them),
                TEST_ROW(transfer, goes_to_a_voter_that_has_everything),
                TEST_ROW(probe, is_confirmed_by_a_majority_in_the_same_term),
                TEST_ROW(probe, of_who_was_replaced_is_never_confirmed),
                TEST_ROW(probe, of_a_sole_voter_is_confirmed_at_once),
                TEST_ROW(probe, counts_only_answers_to_its_own_term),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
