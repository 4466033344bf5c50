/* Each guard by itself: what it lets through and what it stops. */
#include "test.h"

#include "cluster/guards.h"

TEST(RG2, the_sole_voter_is_told_from_all_others)
{
        struct cluster_configuration c = {.count = 2,
                .servers = {{.node_id = 7, .role = CLUSTER_VOTER}, {.node_id = 8, .role = CLUSTER_STANDBY}}};

        assert_true(guard_sole_voter(7, &c)); /* stand-bys do not vote */
        assert_false(guard_sole_voter(8, &c));
        c.count = 1;
        assert_true(guard_sole_voter(7, &c));
        c.count = 0;
        assert_false(guard_sole_voter(7, &c));
        c.count = 2;
        c.servers[1].role = CLUSTER_VOTER;
        assert_false(guard_sole_voter(7, &c));
        c.servers[0].role = CLUSTER_STANDBY;
        assert_false(guard_sole_voter(7, &c));
        assert_true(guard_sole_voter(8, &c));
}

TEST(RG11, timeouts_are_apart_and_time_never_goes_back)
{
        uint64_t last = 0;

        assert_int_equal(guard_timeout_ms(500, 0), 500);
        assert_int_equal(guard_timeout_ms(500, 495), 505);
        assert_int_equal(guard_timeout_ms(3, 900), 910); /* due in the past for good */
        assert_int_equal(guard_time_ms(5000, &last), 5);
        assert_int_equal(guard_time_ms(4000, &last), 5);
        assert_int_equal(guard_time_ms(6999, &last), 6);
}

TEST(RG13, a_start_is_checked_before_the_library_sees_it)
{
        struct cluster_entry entries[3] = {{.term = 1, .type = CLUSTER_CHANGE},
                {.term = 1, .type = CLUSTER_COMMAND}, {.term = 3, .type = CLUSTER_BARRIER}};
        struct cluster_start start = {.term = 3, .entries = entries, .entry_count = 3};

        assert_true(guard_start(&start));
        start.term = 2; /* an entry is newer than the durable term */
        assert_false(guard_start(&start));
        start.term = 3;
        entries[1].term = 4;
        assert_false(guard_start(&start));
        entries[1].term = 1;
        entries[0].type = CLUSTER_COMMAND; /* without a base it must be a configuration */
        assert_false(guard_start(&start));
        start.base_index = 9;
        start.base_term = 1;
        assert_true(guard_start(&start));
        start.base_term = 2; /* terms go down behind the base */
        assert_false(guard_start(&start));
        start.entry_count = 0;
        assert_true(guard_start(&start));
        start.base_term = 4;
        assert_false(guard_start(&start));
}

TEST(RG17, only_one_version_passes)
{
        assert_true(guard_version(2201));
        assert_false(guard_version(2200));
        assert_false(guard_version(2202));
        assert_false(guard_version(1500));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(RG2, the_sole_voter_is_told_from_all_others),
                TEST_ROW(RG11, timeouts_are_apart_and_time_never_goes_back),
                TEST_ROW(RG13, a_start_is_checked_before_the_library_sees_it),
                TEST_ROW(RG17, only_one_version_passes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
