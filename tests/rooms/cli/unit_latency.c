/* Times of many calls in little memory: percentiles are never better than the truth, and hardly worse. */
#include "cli/latency.h"

#include <stdlib.h>

#include "test.h"

static struct latency latency;

static int empty(void **state)
{
        (void)state;
        memset(&latency, 0, sizeof latency);
        return 0;
}

TEST(latency, of_nothing_is_nothing)
{
        assert_int_equal(latency_at(&latency, 0.5), 0);
        assert_int_equal(latency_at(&latency, 1), 0);
        assert_true(latency_mean(&latency) == 0);
}

TEST(latency, short_times_are_exact)
{
        for (uint64_t us = 1; us <= 100; us++)
                latency_add(&latency, us);
        assert_int_equal(latency_at(&latency, 0.5), 50);
        assert_int_equal(latency_at(&latency, 0.99), 99);
        assert_int_equal(latency_at(&latency, 1), 100);
        assert_true(latency_mean(&latency) == 50.5);
}

TEST(latency, long_times_are_rounded_up_by_one_in_sixty_four)
{
        for (uint64_t us = 1; us < UINT64_C(1) << 36; us = us * 5 / 4 + 1) {
                uint64_t told;

                memset(&latency, 0, sizeof latency);
                latency_add(&latency, us);
                latency_add(&latency, UINT64_C(1) << 37); /* so that the maximum does not help */
                told = latency_at(&latency, 0.5);
                assert_true(told >= us);
                assert_true(told - us <= us / 64);
        }
}

TEST(latency, the_longest_is_itself_however_long)
{
        latency_add(&latency, 3);
        latency_add(&latency, UINT64_MAX / 4);
        assert_true(latency.max_us == UINT64_MAX / 4);
        assert_true(latency_at(&latency, 1) == UINT64_MAX / 4);
        assert_int_equal(latency_at(&latency, 0.5), 3);
}

TEST(latency, percentiles_are_those_of_all_threads_together)
{
        struct latency other = {0};

        for (unsigned i = 0; i < 98; i++)
                latency_add(&latency, 10);
        latency_add(&other, 100);
        latency_add(&other, 120);
        latency_merge(&latency, &other);
        assert_int_equal(latency.count, 100);
        assert_int_equal(latency_at(&latency, 0.98), 10);
        assert_int_equal(latency_at(&latency, 0.99), 100);
        assert_int_equal(latency_at(&latency, 0.999), 120);
        assert_int_equal(latency.max_us, 120);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_latency_of_nothing_is_nothing, empty),
                cmocka_unit_test_setup(test_latency_short_times_are_exact, empty),
                cmocka_unit_test_setup(test_latency_long_times_are_rounded_up_by_one_in_sixty_four, empty),
                cmocka_unit_test_setup(test_latency_the_longest_is_itself_however_long, empty),
                cmocka_unit_test_setup(test_latency_percentiles_are_those_of_all_threads_together, empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
