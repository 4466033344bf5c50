/* What is counted to keep to the limits: rates, and connections of an address. */
#include "test.h"

#include "gateway/room.h"

TEST(bucket, takes_a_burst_and_then_a_rate)
{
        struct bucket b = {0};
        uint64_t now_us = 1000 * SECOND_US;

        for (unsigned i = 0; i < 100; i++)
                assert_true(bucket_add(&b, now_us, 100, 10));
        assert_false(bucket_add(&b, now_us, 100, 10));
        now_us += SECOND_US / 10 - 1;
        assert_false(bucket_add(&b, now_us, 100, 10));
        now_us += 1;
        assert_true(bucket_add(&b, now_us, 100, 10));
        assert_false(bucket_add(&b, now_us, 100, 10));
        now_us += 3600 * SECOND_US;
        for (unsigned i = 0; i < 100; i++)
                assert_true(bucket_add(&b, now_us, 100, 10));
        assert_false(bucket_add(&b, now_us, 100, 10));
}

/* Asked often, it leaks no slower: fractions of a token are not lost. */
TEST(bucket, keeps_its_rate_however_often_it_is_asked)
{
        struct bucket b = {0};
        uint64_t begin_us = 1000 * SECOND_US;
        unsigned taken = 0;

        for (uint64_t at_us = 0; at_us < 10 * SECOND_US; at_us += 1000)
                taken += bucket_add(&b, begin_us + at_us, 5, 7);
        assert_in_range(taken, 70, 76);
}

static void chains_init(struct list chains[CROWD_CHAINS])
{
        for (unsigned i = 0; i < CROWD_CHAINS; i++)
                list_init(&chains[i]);
}

static bool is_all_empty(const struct list chains[CROWD_CHAINS])
{
        for (unsigned i = 0; i < CROWD_CHAINS; i++)
                if (!list_is_empty(&chains[i]))
                        return false;
        return true;
}

TEST(crowd, of_an_address_is_bounded_and_others_are_not_concerned)
{
        struct list chains[CROWD_CHAINS];
        struct crowd *first, *second, *third, *other;

        chains_init(chains);
        assert_true(crowd_join(chains, "10.1.2.3:1000", 2, &first));
        assert_true(crowd_join(chains, "10.1.2.3:2000", 2, &second));
        assert_ptr_equal(first, second);
        assert_false(crowd_join(chains, "10.1.2.3:3000", 2, &third));
        assert_null(third);
        assert_true(crowd_join(chains, "10.1.2.4:1000", 2, &other));
        assert_ptr_not_equal(first, other);
        crowd_leave(&second);
        assert_null(second);
        assert_true(crowd_join(chains, "10.1.2.3:3000", 2, &third));
        crowd_leave(&first);
        crowd_leave(&third);
        crowd_leave(&other);
        assert_true(is_all_empty(chains));
}

TEST(crowd, of_ipv6_is_that_of_a_network)
{
        struct list chains[CROWD_CHAINS];
        struct crowd *first, *second, *other, *mapped, *plain;

        chains_init(chains);
        assert_true(crowd_join(chains, "[2001:db8:1:2::1]:1", 1, &first));
        assert_false(crowd_join(chains, "[2001:db8:1:2:ffff::9]:1", 1, &second));
        assert_true(crowd_join(chains, "[2001:db8:1:3::1]:1", 1, &other));
        assert_true(crowd_join(chains, "[::ffff:10.1.2.3]:1", 1, &mapped));
        assert_false(crowd_join(chains, "10.1.2.3:1", 1, &plain));
        crowd_leave(&first);
        crowd_leave(&other);
        crowd_leave(&mapped);
        assert_true(is_all_empty(chains));
}

TEST(crowd, of_loopback_there_is_none)
{
        static const char *const peers[] = {
                "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "gone", ""};
        struct list chains[CROWD_CHAINS];
        struct crowd *crowd;

        chains_init(chains);
        for (unsigned i = 0; i < COUNT_OF(peers); i++) {
                assert_true(crowd_join(chains, peers[i], 1, &crowd));
                assert_null(crowd);
                crowd_leave(&crowd);
        }
        assert_true(is_all_empty(chains));
}

static void note_limit(void *arg, const char *name, uint64_t value, const char *text)
{
        unsigned *count = arg;

        assert_true(*name && *text);
        assert_true(value > 0);
        assert_true(value < (uint64_t)1 << 48);
        ++*count;
}

/* G17 */
TEST(limits, are_listed_and_finite)
{
        struct gateway g = {.connections_max = 1,
                .connections_per_address_max = 1,
                .handshakes_max = 1,
                .streams_max = 1,
                .connection_out_max = 1,
                .memory_size = 1};
        unsigned count = 0;

        gateway_each_limit(&g, note_limit, &count);
        assert_in_range(count, 35, 100);
}

#define ROW(noun, story) cmocka_unit_test(test_##noun##_##story)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(bucket, takes_a_burst_and_then_a_rate),
                ROW(bucket, keeps_its_rate_however_often_it_is_asked),
                ROW(crowd, of_an_address_is_bounded_and_others_are_not_concerned),
                ROW(crowd, of_ipv6_is_that_of_a_network),
                ROW(crowd, of_loopback_there_is_none),
                ROW(limits, are_listed_and_finite),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
