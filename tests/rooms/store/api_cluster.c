/* A store on several nodes: replication, failover, catching up, members. */
#include "cluster_support.h"

TEST(three_nodes, elect_one_leader_and_replicate_what_it_acknowledges_G1)
{
        struct trio t;
        struct member *leader;
        struct answer a;

        trio_new(&t, 1, 3, 0);
        leader = trio_leader(&t);
        for (uint64_t i = 0; i < 50; i++) {
                a = member_put(leader, "orders-1",
                        i ? EXACT(i - 1) : (struct expected){.kind = EXPECTED_NONE}, i + 1, 100, true);
                assert_int_equal(a.verdict, STORE_OK);
        }
        trio_run(&t, 100 * 1000);
        for (unsigned i = 0; i < 3; i++) {
                struct store_stream_info info;

                assert_true(t.members[i].has_opened);
                assert_int_equal(member_next(&t.members[i]), 51); /* with the store's own first event */
                assert_int_equal(store_stream_info(t.members[i].store, BYTES_LITERAL("orders-1"), &info), 0);
                assert_int_equal(info.last_revision, 49);
        }
        trio_end(&t);
}

TEST(three_nodes, go_on_without_their_leader_and_take_it_back)
{
        struct trio t;
        struct member *leader, *next;
        struct answer a;

        trio_new(&t, 2, 3, 0);
        leader = trio_leader(&t);
        for (uint64_t i = 0; i < 20; i++)
                assert_int_equal(
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, i + 1, 100, true)
                                .verdict,
                        STORE_OK);
        member_stop(leader);
        next = trio_leader(&t);
        assert_ptr_not_equal(next, leader);
        a = member_put(next, "a", EXACT(19), 100, 100, true);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.result.position, 21);
        member_start(leader);
        trio_run(&t, 3 * 1000 * 1000);
        assert_int_equal(member_next(leader), 22);
        assert_true(store_is_ready(leader->store));
        /* It follows: an append that requires the leader is refused with its name. */
        if (!store_is_leading(leader->store)) {
                a = member_put(leader, "a", EXACT(20), 101, 100, true);
                assert_int_equal(a.verdict, STORE_NOT_LEADER);
                assert_int_equal(a.result.leader_id, trio_leader(&t)->node_id);
        }
        trio_end(&t);
}

TEST(three_nodes, a_leader_that_is_cut_off_answers_unknown_and_its_entries_give_way)
{
        struct trio t;
        struct member *leader, *next;
        struct answer a;
        unsigned l;

        trio_new(&t, 3, 3, 0);
        leader = trio_leader(&t);
        l = (unsigned)(leader->node_id - 1);
        assert_int_equal(
                member_put(leader, "a", (struct expected){.kind = EXPECTED_NONE}, 1, 100, true).verdict,
                STORE_OK);
        for (unsigned i = 0; i < 3; i++)
                t.is_cut[l][i] = t.is_cut[i][l] = true;
        a = member_put(leader, "a", EXACT(0), 2, 100, true);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        assert_false(store_is_leading(leader->store));
        next = trio_leader(&t);
        assert_ptr_not_equal(next, leader);
        assert_int_equal(member_put(next, "a", EXACT(0), 3, 100, true).verdict, STORE_OK);
        memset(t.is_cut, 0, sizeof t.is_cut);
        trio_run(&t, 3 * 1000 * 1000);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(member_next(&t.members[i]), 3);
        /* The heads of the old leader know of what the new one wrote. */
        {
                struct store_stream_info info;

                assert_int_equal(store_stream_info(leader->store, BYTES_LITERAL("a"), &info), 0);
                assert_int_equal(info.last_revision, 1);
        }
        trio_end(&t);
}

/* It may have been decided by a node that was replaced and did not know it yet, by what it had (found with a
 * leader that was stopped for three seconds). That the node has caught up since makes it no better. */
TEST(a_refusal, is_not_confirmed_by_the_word_of_another_leader_G5)
{
        struct trio t;
        struct member *leader, *next;
        struct answer refused;
        unsigned l;

        trio_new(&t, 3, 3, 0);
        leader = trio_leader(&t);
        l = (unsigned)(leader->node_id - 1);
        assert_int_equal(
                member_put(leader, "a", (struct expected){.kind = EXPECTED_NONE}, 1, 100, true).verdict,
                STORE_OK);
        for (unsigned i = 0; i < 3; i++)
                t.is_cut[l][i] = t.is_cut[i][l] = true;
        member_begin(leader, "a", EXACT(1), 2, 100, true, &refused);
        while (store_is_leading(leader->store))
                trio_run(&t, 1000);
        assert_false(refused.is_done);
        next = trio_leader(&t);
        assert_int_equal(member_put(next, "a", EXACT(0), 3, 100, true).verdict, STORE_OK);
        memset(t.is_cut, 0, sizeof t.is_cut);
        for (unsigned n = 0; n < 10000 && !refused.is_done; n++)
                trio_run(&t, 1000);
        assert_true(refused.is_done);
        assert_int_equal(refused.verdict, STORE_NOT_LEADER);
        trio_end(&t);
}

static void on_change(void *arg, enum store_verdict verdict, const char *problem)
{
        if (verdict && arg)
                print_message("%s\n", problem);
        *(int *)arg = (int)verdict;
}

static int change(
        struct trio *t, struct member *leader, enum store_change what, uint64_t node_id, const char *address)
{
        int verdict = -1;

        store_change_members(leader->store, what, node_id, address, os_monotonic_us(t->os) + 30 * 1000 * 1000,
                on_change, &verdict);
        for (unsigned n = 0; n < 4000 && verdict < 0; n++)
                trio_run(t, 10 * 1000);
        return verdict;
}

TEST(a_node_that_joins, fetches_sealed_history_and_can_be_promoted)
{
        struct trio t;
        struct member *leader;

        trio_new(&t, 4, 3, 1);
        leader = trio_leader(&t);
        for (uint64_t i = 0; i < 300; i++)
                assert_int_equal(
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, i + 1, 8000, true)
                                .verdict,
                        STORE_OK);
        trio_run(&t, 5 * 1000 * 1000);
        assert_int_equal(change(&t, leader, STORE_ADD, 4, "node-4:2112"), STORE_OK);
        assert_int_equal(change(&t, leader, STORE_PROMOTE, 4, NULL), STORE_OK);
        assert_int_equal(member_put(leader, "a", EXACT(299), 1000, 100, true).verdict, STORE_OK);
        trio_run(&t, 1000 * 1000);
        assert_int_equal(member_next(&t.members[3]), 302);
        assert_int_equal(change(&t, leader, STORE_REMOVE, 4, NULL), STORE_OK);
        trio_end(&t);
}

static int grow(struct trio *t, struct member *leader)
{
        const uint64_t node_ids[] = {2, 3};
        int verdict = -1;

        store_grow(
                leader->store, node_ids, 2, os_monotonic_us(t->os) + 30 * 1000 * 1000, on_change, &verdict);
        for (unsigned n = 0; n < 4000 && verdict < 0; n++)
                trio_run(t, 10 * 1000);
        return verdict;
}

TEST(one_node_with_data, becomes_three_that_survive_its_end)
{
        struct trio t;
        struct member *leader;

        trio_new(&t, 7, 1, 2);
        leader = trio_leader(&t);
        for (uint64_t i = 0; i < 100; i++)
                assert_int_equal(
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, i + 1, 8000, true)
                                .verdict,
                        STORE_OK);
        assert_int_equal(change(&t, leader, STORE_ADD, 2, "node-2:2112"), STORE_OK);
        assert_int_equal(change(&t, leader, STORE_PROMOTE, 2, NULL), STORE_INVALID); /* never two */
        assert_int_equal(change(&t, leader, STORE_ADD, 3, "node-3:2112"), STORE_OK);
        assert_int_equal(grow(&t, leader), STORE_OK);
        assert_int_equal(member_put(leader, "a", EXACT(99), 1000, 100, true).verdict, STORE_OK);
        member_stop(leader);
        leader = trio_leader(&t);
        assert_int_not_equal(leader->node_id, 1);
        assert_int_equal(member_put(leader, "a", EXACT(100), 1001, 100, true).verdict, STORE_OK);
        assert_int_equal(member_next(leader), 103);
        trio_end(&t);
}

/* Node 1 with some events, and two stand-bys that have them. */
static struct member *one_and_two(struct trio *t, uint64_t seed)
{
        struct member *leader;

        trio_new(t, seed, 1, 2);
        leader = trio_leader(t);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, i + 1, 100, true)
                                .verdict,
                        STORE_OK);
        assert_int_equal(change(t, leader, STORE_ADD, 2, "node-2:2112"), STORE_OK);
        assert_int_equal(change(t, leader, STORE_ADD, 3, "node-3:2112"), STORE_OK);
        trio_run(t, 1000 * 1000);
        return leader;
}

static void cut_off(struct trio *t, unsigned i, bool is_cut)
{
        for (unsigned j = 0; j < t->count; j++)
                t->is_cut[i][j] = t->is_cut[j][i] = is_cut;
}

static unsigned count_voters(const struct member *m)
{
        struct store_cluster_status status;
        unsigned voters = 0;

        store_cluster_status(m->store, &status);
        for (unsigned i = 0; i < status.count; i++)
                voters += status.members[i].server.role == CLUSTER_VOTER;
        return voters;
}

/* Nobody else has the entry, so nobody votes; and the stand-bys remember node 1 as their leader. */
TEST(one_node_with_data, that_ends_before_it_told_anybody_offers_that_they_are_three)
{
        const uint64_t node_ids[] = {2, 3};
        struct trio t;
        struct member *leader = one_and_two(&t, 8);
        int verdict = -1;

        store_grow(leader->store, node_ids, 2, os_monotonic_us(t.os) + 30 * 1000 * 1000, on_change, &verdict);
        for (unsigned n = 0; n < 1000 && count_voters(leader) == 1; n++)
                trio_run(&t, 100);
        cut_off(&t, 0, true);
        assert_int_equal(count_voters(leader), 3);
        trio_run(&t, 200 * 1000);
        assert_int_equal(count_voters(&t.members[1]), 1);
        assert_int_equal(count_voters(&t.members[2]), 1);
        member_stop(leader);
        member_start(leader);
        cut_off(&t, 0, false);
        leader = trio_leader(&t);
        assert_int_equal(member_put(leader, "a", EXACT(4), 1000, 100, true).verdict, STORE_OK);
        trio_run(&t, 1000 * 1000);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(count_voters(&t.members[i]), 3);
                assert_int_equal(member_next(&t.members[i]), 7);
        }
        trio_end(&t);
}

/* Two of three have it committed. The third was away, and comes back to one of them alone. */
TEST(one_node_with_data, may_be_lost_before_the_third_knows)
{
        struct trio t;
        struct member *leader = one_and_two(&t, 9);
        const uint64_t node_ids[] = {2, 3};
        int verdict = -1;

        store_grow(leader->store, node_ids, 2, os_monotonic_us(t.os) + 30 * 1000 * 1000, on_change, &verdict);
        for (unsigned n = 0; n < 1000 && count_voters(leader) == 1; n++)
                trio_run(&t, 100);
        cut_off(&t, 2, true);
        assert_int_equal(member_put(leader, "a", EXACT(4), 1000, 100, true).verdict, STORE_OK);
        assert_int_equal(verdict, STORE_OK);
        assert_int_equal(count_voters(&t.members[2]), 1);
        trio_run(&t, 1000 * 1000);
        cut_off(&t, 0, true);
        cut_off(&t, 2, false);
        t.is_cut[0][2] = t.is_cut[2][0] = true;
        while (store_is_leading(leader->store))
                trio_run(&t, 1000);
        assert_int_equal(trio_leader(&t)->node_id, 2);
        assert_int_equal(member_put(&t.members[1], "a", EXACT(5), 1001, 100, true).verdict, STORE_OK);
        trio_run(&t, 1000 * 1000);
        assert_int_equal(member_next(&t.members[2]), 8);
        trio_end(&t);
}

TEST(a_leader, hands_its_office_over)
{
        struct trio t;
        struct member *leader, *next;

        trio_new(&t, 5, 3, 0);
        leader = trio_leader(&t);
        next = trio_follower(&t, leader);
        assert_int_equal(
                member_put(leader, "a", (struct expected){.kind = EXPECTED_NONE}, 1, 100, true).verdict,
                STORE_OK);
        trio_run(&t, 300 * 1000);
        assert_int_equal(change(&t, leader, STORE_TRANSFER, next->node_id, NULL), STORE_OK);
        trio_run(&t, 300 * 1000);
        assert_ptr_equal(trio_leader(&t), next);
        assert_int_equal(member_put(next, "a", EXACT(0), 2, 100, true).verdict, STORE_OK);
        trio_end(&t);
}

struct waited {
        struct store_wait wait;
        int verdict;
};

static void on_waited(struct store_wait *wait, enum store_verdict verdict)
{
        ((struct waited *)wait->arg)->verdict = (int)verdict;
}

TEST(a_follower, reads_what_was_acknowledged_before_it_asked_G7)
{
        struct trio t;
        struct member *leader, *follower;

        trio_new(&t, 6, 3, 0);
        leader = trio_leader(&t);
        follower = trio_follower(&t, leader);
        for (uint64_t i = 0; i < 30; i++) {
                struct waited w = {.wait = {.done = on_waited}, .verdict = -1};
                struct answer a =
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, i + 1, 100, true);
                struct member *asked = i % 2 ? leader : follower;

                w.wait.arg = &w;
                assert_int_equal(a.verdict, STORE_OK);
                if (store_wait_linearizable(asked->store, &w.wait, os_monotonic_us(t.os) + 2 * 1000 * 1000))
                        w.verdict = STORE_OK;
                while (w.verdict < 0)
                        trio_run(&t, 100);
                assert_int_equal(w.verdict, STORE_OK);
                assert_true(member_next(asked) > a.result.position);
        }
        trio_end(&t);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(three_nodes, elect_one_leader_and_replicate_what_it_acknowledges_G1),
                TEST_ROW(three_nodes, go_on_without_their_leader_and_take_it_back),
                TEST_ROW(three_nodes, a_leader_that_is_cut_off_answers_unknown_and_its_entries_give_way),
                TEST_ROW(a_refusal, is_not_confirmed_by_the_word_of_another_leader_G5),
                TEST_ROW(a_node_that_joins, fetches_sealed_history_and_can_be_promoted),
                TEST_ROW(one_node_with_data, becomes_three_that_survive_its_end),
                TEST_ROW(one_node_with_data, that_ends_before_it_told_anybody_offers_that_they_are_three),
                TEST_ROW(one_node_with_data, may_be_lost_before_the_third_knows),
                TEST_ROW(a_leader, hands_its_office_over),
                TEST_ROW(a_follower, reads_what_was_acknowledged_before_it_asked_G7),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
