#include "test.h"

#include "base/memory.h"
#include "cluster/cluster.h"

static const struct cluster_options options = {.node_id = 7, .address = "self", .seed = 1};

struct life {
        struct cluster_raft *raft;
        struct cluster_update update;
        struct buffer configuration;
};

static void begin(struct life *l, uint64_t term, const struct cluster_entry *entries, uint64_t count)
{
        struct cluster_start start = {.term = term, .voted_for = 7, .entries = entries, .entry_count = count};

        assert_int_equal(cluster_raft_new(&options, &l->raft), 0);
        assert_int_equal(cluster_raft_start(l->raft, 1000000, &start, &l->update), 0);
}

static struct cluster_entry configuration_entry(struct life *l, uint64_t term)
{
        buffer_clear(&l->configuration);
        assert_int_equal(cluster_configuration_single(7, "self", &l->configuration), 0);
        return (struct cluster_entry){
                .term = term, .type = CLUSTER_CHANGE, .payload = buffer_bytes(&l->configuration)};
}

static void end(struct life *l)
{
        cluster_raft_free(&l->raft);
        buffer_fini(&l->configuration);
}

TEST(sole_voter, leads_at_once_and_writes_after_its_own_entry_is_committed)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        int cookie;
        struct cluster_entry two[2] = {
                {.type = CLUSTER_COMMAND, .payload = BYTES_LITERAL("a"), .cookie = &cookie},
                {.type = CLUSTER_COMMAND, .payload = BYTES_LITERAL("b")},
        };

        begin(&l, 2, &first, 1);
        assert_int_equal(l.update.state, CLUSTER_LEADER);
        assert_int_equal(l.update.entry_count, 1);
        assert_int_equal(l.update.first_index, 2);
        assert_int_equal(l.update.entries[0].type, CLUSTER_BARRIER);
        assert_int_equal(l.update.entries[0].term, 2);
        assert_false(cluster_raft_can_write(l.raft)); /* G9 */
        assert_int_equal(cluster_raft_persisted(l.raft, 1000100, 2, &l.update), 0);
        assert_true(l.update.has_commit_index);
        assert_int_equal(l.update.commit_index, 2);
        assert_true(cluster_raft_can_write(l.raft));
        assert_int_equal(cluster_raft_configured(l.raft, 1000100, 1, first.payload, &l.update), 0);
        assert_int_equal(cluster_raft_submit(l.raft, 1000200, two, 2, &l.update), 0);
        assert_int_equal(l.update.first_index, 3);
        assert_int_equal(l.update.entry_count, 2);
        assert_ptr_equal(l.update.entries[0].cookie, &cookie);
        assert_int_equal(l.update.entries[1].term, 2);
        assert_false(l.update.has_commit_index); /* G1: not before it is durable */
        assert_int_equal(cluster_raft_persisted(l.raft, 1000300, 4, &l.update), 0);
        assert_int_equal(l.update.commit_index, 4);
        assert_true(l.update.timeout_us == UINT64_MAX);
        /* RG13: said twice, or beyond the log, it changes nothing. */
        assert_int_equal(cluster_raft_persisted(l.raft, 1000400, 4, &l.update), 0);
        assert_int_equal(cluster_raft_persisted(l.raft, 1000400, 99, &l.update), 0);
        assert_false(l.update.has_commit_index);
        assert_int_equal(cluster_raft_commit_index(l.raft), 4);
        end(&l);
}

/* RG2, the fault and the fence: without a raised term a restarted sole voter uses (index, term) again for
 * another entry. */
TEST(sole_voter, needs_a_new_term_at_every_start)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        struct cluster_start start = {.term = 5, .voted_for = 7, .entries = &first, .entry_count = 1};
        uint64_t term;
        uint64_t vote;
        uint64_t index_before;
        uint64_t term_before;

        begin(&l, 5, &first, 1);
        index_before = l.update.first_index;
        term_before = l.update.entries[0].term;
        cluster_raft_free(&l.raft); /* crashed before the barrier was written */
        begin(&l, 5, &first, 1);
        assert_int_equal(l.update.first_index, index_before);
        assert_int_equal(l.update.entries[0].term, term_before); /* the fault */
        cluster_raft_free(&l.raft);
        assert_true(cluster_start_needs_term(&options, &start, &term, &vote));
        assert_int_equal(term, 6);
        assert_int_equal(vote, 7);
        begin(&l, term, &first, 1);
        assert_int_not_equal(l.update.entries[0].term, term_before); /* the fence */
        end(&l);
}

TEST(restart, goes_on_behind_a_sealed_base)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        struct cluster_entry tail[3] = {{.term = 2, .type = CLUSTER_COMMAND},
                {.term = 2, .type = CLUSTER_COMMAND}, {.term = 3, .type = CLUSTER_BARRIER}};
        struct cluster_start start = {.term = 4,
                .voted_for = 7,
                .base_index = 100,
                .base_term = 2,
                .base_configuration = first.payload,
                .base_configuration_index = 1,
                .entries = tail,
                .entry_count = 3};
        struct cluster_member member;

        assert_int_equal(cluster_raft_new(&options, &l.raft), 0);
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), 0);
        assert_int_equal(l.update.first_index, 104);
        assert_int_equal(cluster_raft_persisted(l.raft, 2000, 104, &l.update), 0);
        assert_int_equal(l.update.commit_index, 104);
        assert_int_equal(cluster_raft_members(l.raft, &member, 1), 1);
        assert_true(member.is_voter && member.is_leader && member.node_id == 7);
        assert_int_equal(cluster_raft_sealed(l.raft, 3000, 103, 3, first.payload, 1, &l.update), 0);
        end(&l);
}

TEST(restart, refuses_a_log_that_makes_no_sense)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 3);
        struct cluster_entry wrong[2] = {first, {.term = 2, .type = CLUSTER_COMMAND}};
        struct cluster_start start = {.term = 4, .entries = wrong, .entry_count = 2};

        assert_int_equal(cluster_raft_new(&options, &l.raft), 0);
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        wrong[1].term = 5; /* above the durable term */
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        wrong[1].term = 4;
        wrong[0].payload = BYTES_LITERAL("nonsense");
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        wrong[0].type = CLUSTER_COMMAND;
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        end(&l);
}

TEST(restart, refuses_a_base_that_makes_no_sense)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        struct cluster_entry tail[2] = {{.term = 2, .type = CLUSTER_COMMAND}, first};
        struct cluster_start start = {.term = 4,
                .base_index = 10,
                .base_term = 2,
                .base_configuration = BYTES_LITERAL("nonsense"),
                .base_configuration_index = 1,
                .entries = tail,
                .entry_count = 1};

        assert_int_equal(cluster_raft_new(&options, &l.raft), 0);
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        start.base_configuration = first.payload;
        start.base_term = 3; /* the entry behind it is older */
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        start.base_term = 2;
        tail[1] = (struct cluster_entry){.term = 2, .type = CLUSTER_CHANGE, .payload = BYTES_LITERAL("x")};
        start.entry_count = 2;
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), CLUSTER_INVALID);
        start.entry_count = 1;
        assert_int_equal(cluster_raft_start(l.raft, 1000, &start, &l.update), 0);
        assert_int_equal(l.update.first_index, 12);
        end(&l);
}

/* RG13: what was sealed before, or is not committed, is no seal; entries go on behind one. */
TEST(seal, moves_forward_over_committed_entries_only)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        struct cluster_entry some[3] = {
                {.type = CLUSTER_COMMAND}, {.type = CLUSTER_COMMAND}, {.type = CLUSTER_COMMAND}};

        begin(&l, 2, &first, 1);
        assert_int_equal(cluster_raft_persisted(l.raft, 1000100, 2, &l.update), 0);
        for (uint64_t n = 3; n < 60; n += 3) {
                assert_int_equal(cluster_raft_submit(l.raft, 1000000 + n, some, 3, &l.update), 0);
                assert_int_equal(l.update.first_index, n);
                assert_int_equal(
                        cluster_raft_sealed(l.raft, 1000000 + n, n + 2, 2, first.payload, 1, &l.update), 0);
                assert_int_equal(cluster_raft_persisted(l.raft, 1000000 + n, n + 1, &l.update), 0);
                assert_int_equal(l.update.commit_index, n + 1);
                assert_int_equal(
                        cluster_raft_sealed(l.raft, 1000000 + n, n + 1, 2, first.payload, 1, &l.update), 0);
                assert_int_equal(
                        cluster_raft_sealed(l.raft, 1000000 + n, n, 2, first.payload, 1, &l.update), 0);
                assert_int_equal(cluster_raft_persisted(l.raft, 1000000 + n, n + 2, &l.update), 0);
                assert_int_equal(l.update.commit_index, n + 2);
        }
        end(&l);
}

/* RG11: the wall may do what it likes, and so may the clock that the caller has. */
TEST(time, that_goes_back_changes_nothing)
{
        struct life l = {0};
        struct cluster_entry first = configuration_entry(&l, 1);
        struct cluster_entry one = {.type = CLUSTER_COMMAND};

        begin(&l, 2, &first, 1);
        assert_int_equal(cluster_raft_persisted(l.raft, 5000000, 2, &l.update), 0);
        assert_int_equal(cluster_raft_submit(l.raft, 10, &one, 1, &l.update), 0);
        assert_int_equal(cluster_raft_persisted(l.raft, 0, 3, &l.update), 0);
        assert_int_equal(l.update.commit_index, 3);
        assert_int_equal(cluster_raft_timeout(l.raft, 1, &l.update), 0);
        assert_int_equal(cluster_raft_state(l.raft), CLUSTER_LEADER);
        assert_true(l.update.timeout_us == UINT64_MAX);
        end(&l);
}

TEST(engine, is_exactly_the_version_that_was_examined)
{
        assert_int_equal(cluster_engine_version(), CLUSTER_ENGINE_VERSION);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(sole_voter, leads_at_once_and_writes_after_its_own_entry_is_committed),
                TEST_ROW(sole_voter, needs_a_new_term_at_every_start),
                TEST_ROW(restart, goes_on_behind_a_sealed_base),
                TEST_ROW(restart, refuses_a_log_that_makes_no_sense),
                TEST_ROW(restart, refuses_a_base_that_makes_no_sense),
                TEST_ROW(seal, moves_forward_over_committed_entries_only),
                TEST_ROW(time, that_goes_back_changes_nothing),
                TEST_ROW(engine, is_exactly_the_version_that_was_examined),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
