/* Entries for other nodes: runs from memory, from files that are not sealed, and from sealed ones; marks. */
#include "support.h"

enum { MANY = 1000000 };
#define LARGE (64 * MIB)

static struct persistence_entries read_run(
        struct fixture *f, uint64_t first, uint64_t last, unsigned count_max, uint64_t size_max)
{
        struct persistence_entries run;

        assert_int_equal(persistence_entries_read(f->p, first, last, count_max, size_max, &run), 0);
        check_entries(f, &run, first);
        return run;
}

TEST(entries, of_a_group_that_gathers_are_read_before_they_are_written)
{
        struct persistence_entries run;
        struct record_chain chain;
        struct fixture f;
        uint64_t term;

        fixture_init(&f, 1);
        fixture_open(&f);
        fixture_append(&f, 2);
        fixture_append(&f, 0);
        f.term = 2;
        fixture_append_configuration(&f, BYTES_LITERAL("three nodes"));
        fixture_append(&f, 5);
        run = read_run(&f, 1, UINT64_MAX, MANY, LARGE);
        assert_int_equal(run.count, 4);
        assert_false(run.has_chain);
        assert_int_equal(persistence_entry_mark(f.p, 1, &term, &chain), PERSISTENCE_NOT_FOUND);
        assert_int_equal(persistence_appended_position(f.p), 7);
        assert_int_equal(persistence_next_position(f.p), 0);

        fixture_write(&f, false); /* now in flight */
        run = read_run(&f, 2, UINT64_MAX, MANY, LARGE);
        assert_int_equal(run.count, 3);
        assert_false(run.has_chain);
        fixture_append(&f, 1); /* the next group gathers behind it */
        run = read_run(&f, 3, UINT64_MAX, MANY, LARGE);
        assert_int_equal(run.count, 3);

        os_sim_run_for(f.os, 1000 * 1000);
        run = read_run(&f, 1, 4, MANY, LARGE);
        assert_true(run.has_chain);
        run = read_run(&f, 1, 5, MANY, LARGE); /* the last one gathers still */
        assert_false(run.has_chain);
        check_mark(&f, 4);
        check_mark(&f, 1);
        fixture_fini(&f);
}

TEST(entries, come_within_the_limits_and_one_at_least)
{
        struct persistence_entries run;
        struct fixture f;
        unsigned round;
        uint64_t i;

        fixture_init(&f, 2);
        f.event_size = 500;
        f.options.segment_size = MIB;
        fixture_open(&f);
        for (i = 0; i < 60; i++)
                fixture_append(&f, i % 7);
        fixture_write(&f, true);
        /* From memory first, then from the file. */
        for (round = 0; round < 2; round++) {
                for (i = 1; i <= 60; i++) {
                        run = read_run(&f, i, UINT64_MAX, 3, LARGE);
                        assert_int_equal(run.count, MIN(3, 60 - i + 1));
                        assert_true(run.has_chain);
                        run = read_run(&f, i, i + 4, MANY, LARGE);
                        assert_int_equal(run.count, MIN(5, 60 - i + 1));
                        run = read_run(&f, i, UINT64_MAX, MANY, 1);
                        assert_true(run.count == 1 || run.payload_size <= 1);
                        run = read_run(&f, i, UINT64_MAX, MANY, 8000);
                        assert_true(run.count == 1 || run.payload_size <= 8000);
                        assert_true(i + run.count > 60 || run.payload_size > 3000);
                }
                fixture_commit(&f, 60);
        }
        {
                struct persistence_entries none;

                assert_int_equal(persistence_entries_read(f.p, 61, 70, 1, 1, &none), PERSISTENCE_NOT_FOUND);
                assert_int_equal(persistence_entries_read(f.p, 0, 70, 1, 1, &none), PERSISTENCE_NOT_FOUND);
        }
        fixture_fini(&f);
}

/* Watermarks stand between entries in the file and are none. */
TEST(entries, of_the_file_leave_watermarks_out)
{
        struct fixture f;
        uint64_t i;

        fixture_init(&f, 3);
        f.options.segment_size = MIB;
        fixture_open(&f);
        for (i = 0; i < 10; i++) {
                fixture_put(&f, 2);
                os_sim_run_for(f.os, 3 * 1000 * 1000); /* idle: a watermark */
        }
        for (i = 1; i <= 10; i++) {
                assert_int_equal(read_run(&f, i, 10, MANY, LARGE).count, 10 - i + 1);
                check_mark(&f, i);
        }
        fixture_close(&f);
        fixture_open(&f);
        for (i = 1; i <= 10; i++) {
                assert_int_equal(read_run(&f, i, 10, MANY, LARGE).count, 10 - i + 1);
                check_mark(&f, i);
        }
        fixture_fini(&f);
}

TEST(entries, of_sealed_segments_are_cold_and_have_marks)
{
        struct persistence_entries run;
        struct fixture f;
        uint64_t i, cold = 0;

        fixture_init(&f, 4);
        f.event_size = 2000;
        f.options.segment_size = 512 * KIB;
        fixture_open(&f);
        for (i = 0; i < 400; i++) {
                if (i % 50 == 49)
                        f.term++;
                fixture_put(&f, i % 4);
        }
        fixture_settle(&f);
        for (i = 1; i <= 400; i++) {
                int r = persistence_entries_read(f.p, i, 400, MANY, LARGE, &run);

                check_mark(&f, i);
                if (r == PERSISTENCE_COLD) {
                        assert_int_equal(cold + 1, i);
                        cold = i;
                } else {
                        assert_int_equal(r, 0);
                        check_entries(&f, &run, i);
                }
        }
        assert_in_range(cold, 200, 399);
        fixture_fini(&f);
}

/* Damage in the file is an outcome, not an entry (G14). */
TEST(entries, that_are_damaged_in_the_file_are_refused)
{
        struct persistence_entries run;
        struct fixture f;
        char path[256];

        fixture_init(&f, 5);
        fixture_open(&f);
        fixture_put(&f, 3);
        fixture_put(&f, 3);
        snprintf(path, sizeof path, "%s/log/%020d.seg", persistence_store_path(f.p), 1);
        assert_int_equal(os_sim_flip_bit(f.os, path, (4096 + 72 + 100) * 8), 0);
        assert_int_equal(persistence_entries_read(f.p, 1, 2, MANY, LARGE, &run), PERSISTENCE_CORRUPT);
        assert_int_equal(read_run(&f, 2, 2, MANY, LARGE).count, 1);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(entries, of_a_group_that_gathers_are_read_before_they_are_written),
                TEST_ROW(entries, come_within_the_limits_and_one_at_least),
                TEST_ROW(entries, of_the_file_leave_watermarks_out),
                TEST_ROW(entries, of_sealed_segments_are_cold_and_have_marks),
                TEST_ROW(entries, that_are_damaged_in_the_file_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
