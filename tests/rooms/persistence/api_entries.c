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

/* ---- fetch ---- */

struct fetched {
        struct fixture *f;
        uint64_t first;
        unsigned calls;
        int result;
        unsigned count;
        uint64_t payload_size;
};

static void on_fetched(void *arg, int result, const struct persistence_entries *entries)
{
        struct fetched *x = arg;

        x->calls++;
        x->result = result;
        if (result)
                return;
        check_entries(x->f, entries, x->first);
        x->count = entries->count;
        x->payload_size = entries->payload_size;
}

static void begin_fetch(
        struct fixture *f, struct fetched *x, uint64_t first, uint64_t last, uint64_t size_max)
{
        *x = (struct fetched){.f = f, .first = first};
        persistence_fetch(f->p, first, last, size_max, on_fetched, x);
        assert_int_equal(x->calls, 0); /* never from inside */
}

static struct fetched fetch(struct fixture *f, uint64_t first, uint64_t last, uint64_t size_max)
{
        struct fetched x;

        begin_fetch(f, &x, first, last, size_max);
        while (!x.calls)
                assert_true(os_sim_step(f->os));
        assert_int_equal(x.calls, 1);
        return x;
}

/* A log of sealed segments, full ones that are not committed, and a group that gathers. */
static void make_log(struct fixture *f, uint64_t count)
{
        uint64_t i;

        for (i = 0; i < count; i++) {
                if (i % 50 == 49)
                        f->term++;
                fixture_append(f, (uint32_t)(i % 4));
                if (i + 3 < count && i % 3 == 0)
                        fixture_write(f, true);
                if (i == count / 2) {
                        fixture_commit(f, f->acknowledged);
                        fixture_settle(f);
                }
        }
}

TEST(fetch, gives_all_entries_in_runs_of_the_asked_size)
{
        static const uint64_t sizes[] = {1, 5000, 60000, LARGE};
        struct fixture f;
        unsigned i, life, runs = 0;

        fixture_init(&f, 10);
        f.event_size = 2000;
        f.options.segment_size = 300 * KIB;
        fixture_open(&f);
        make_log(&f, 600);
        for (life = 0; life < 2; life++) {
                for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                        uint64_t next = 1;

                        while (next <= f.entry_count) {
                                struct fetched x = fetch(&f, next, UINT64_MAX, sizes[i]);

                                assert_int_equal(x.result, 0);
                                assert_true(x.count == 1 || x.payload_size <= sizes[i]);
                                next += x.count;
                                runs++;
                        }
                        assert_int_equal(next, f.entry_count + 1);
                }
                fixture_write(&f, true);
                fixture_close(&f);
                fixture_open(&f);
        }
        assert_in_range(runs, 700, 4000);
        assert_int_equal(fetch(&f, f.entry_count + 1, UINT64_MAX, 1).result, PERSISTENCE_NOT_FOUND);
        assert_int_equal(fetch(&f, 0, UINT64_MAX, 1).result, PERSISTENCE_NOT_FOUND);
        fixture_fini(&f);
}

TEST(fetch, begins_anywhere_and_ends_where_asked)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f, 11);
        f.event_size = 3000;
        f.options.segment_size = MIB;
        fixture_open(&f);
        make_log(&f, 900);
        for (i = 0; i < 300; i++) {
                uint64_t first = 1 + os_sim_choose(f.os, f.entry_count), count = 1 + os_sim_choose(f.os, 20);
                struct fetched x = fetch(&f, first, first + count - 1, LARGE);

                assert_int_equal(x.result, 0);
                assert_true(x.count <= count);
        }
        fixture_fini(&f);
}

TEST(fetch, as_many_as_allowed_at_once_while_segments_are_sealed)
{
        struct fetched x[PERSISTENCE_FETCHES_MAX];
        struct fixture f;
        unsigned i, round;

        fixture_init(&f, 12);
        f.event_size = 2000;
        f.options.segment_size = 128 * KIB;
        fixture_open(&f);
        make_log(&f, 500);
        fixture_write(&f, true);
        for (round = 0; round < 40; round++) {
                for (i = 0; i < PERSISTENCE_FETCHES_MAX; i++)
                        begin_fetch(&f, &x[i], 1 + os_sim_choose(f.os, f.entry_count), UINT64_MAX, 30000);
                fixture_append(&f, 2);
                fixture_write(&f, round % 2);
                if (f.committed < f.acknowledged)
                        fixture_commit(&f, MIN(f.committed + 40, f.acknowledged));
                os_sim_run_for(f.os, 1000 * 1000);
                for (i = 0; i < PERSISTENCE_FETCHES_MAX; i++) {
                        assert_int_equal(x[i].calls, 1);
                        assert_int_equal(x[i].result, 0);
                }
        }
        fixture_fini(&f);
}

/* What was cut off is never given for what stands there now. */
TEST(fetch, under_way_when_entries_are_truncated_gives_those_that_replace_them)
{
        struct fetched x[4];
        struct fixture f;
        unsigned round, i;

        fixture_init(&f, 13);
        f.event_size = 2000;
        f.options.segment_size = 64 * KIB;
        fixture_open(&f);
        for (i = 0; i < 100; i++)
                fixture_put(&f, 1);
        for (round = 0; round < 60; round++) {
                uint64_t last;

                for (i = 0; i < 70; i++)
                        fixture_append(&f, i % 3);
                fixture_write(&f, round % 2);
                if (round % 3)
                        os_sim_run_for(f.os, 1000 * 1000);
                last = f.entry_count;
                begin_fetch(&f, &x[0], f.committed + 1, last, 20000);
                begin_fetch(&f, &x[1], f.committed + 20, last, 20000);
                begin_fetch(&f, &x[2], last, last, 20000);
                begin_fetch(&f, &x[3], 1, last, 20000);
                for (i = 0; i < round % 5; i++)
                        if (!os_sim_step(f.os))
                                break;
                f.term++;
                fixture_truncate(&f, f.committed + 1 + round % 30);
                for (i = 0; i < 10; i++)
                        fixture_append(&f, 1 + i % 2);
                fixture_write(&f, true);
                os_sim_run_for(f.os, 1000 * 1000);
                for (i = 0; i < 4; i++) {
                        assert_int_equal(x[i].calls, 1);
                        if (x[i].result != PERSISTENCE_NOT_FOUND || x[i].first <= f.entry_count)
                                assert_int_equal(x[i].result, 0);
                }
                fixture_truncate(&f, f.committed + 1);
        }
        fixture_fini(&f);
}

TEST(fetch, under_way_at_the_close_ends)
{
        struct fetched x[4];
        struct fixture f;
        unsigned i;

        fixture_init(&f, 14);
        f.event_size = 2000;
        f.options.segment_size = 64 * KIB;
        fixture_open(&f);
        make_log(&f, 300);
        begin_fetch(&f, &x[0], 1, UINT64_MAX, 20000);
        begin_fetch(&f, &x[1], 250, UINT64_MAX, 20000);
        begin_fetch(&f, &x[2], f.entry_count, UINT64_MAX, 20000);
        begin_fetch(&f, &x[3], f.entry_count + 1, UINT64_MAX, 20000);
        fixture_close(&f);
        for (i = 0; i < 4; i++) {
                assert_int_equal(x[i].calls, 1);
                assert_int_equal(x[i].result, PERSISTENCE_END);
        }
        fixture_fini(&f);
}

/* Damage is an outcome for runs that reach it, and for no other (G13, G14). */
TEST(fetch, of_damaged_entries_is_refused_and_of_others_is_not)
{
        struct fixture f;
        char path[256];
        uint64_t damaged = 0, next = 1, i;

        fixture_init(&f, 15);
        f.event_size = 2000;
        f.options.segment_size = 512 * KIB;
        fixture_open(&f);
        for (i = 0; i < 600; i++)
                fixture_put(&f, 1);
        fixture_settle(&f);
        snprintf(path, sizeof path, "%s/log/%020d.seg", persistence_store_path(f.p), 1);
        assert_int_equal(os_sim_flip_bit(f.os, path, 200000 * 8 + 3), 0);
        for (next = 1; next <= f.entry_count;) {
                struct fetched x = fetch(&f, next, UINT64_MAX, 3000);

                if (x.result == PERSISTENCE_CORRUPT) {
                        damaged++;
                        next++;
                } else {
                        assert_int_equal(x.result, 0);
                        next += x.count;
                }
        }
        assert_int_equal(damaged, 1);
        fixture_fini(&f);
}

TEST(fetch, without_the_index_file_finds_entries_all_the_same)
{
        struct fixture f;
        char path[256];
        uint64_t i;

        fixture_init(&f, 16);
        f.event_size = 2000;
        f.options.segment_size = 512 * KIB;
        fixture_open(&f);
        for (i = 0; i < 600; i++)
                fixture_put(&f, 1);
        fixture_settle(&f);
        snprintf(path, sizeof path, "%s/log/%020d.idx", persistence_store_path(f.p), 1);
        assert_int_equal(os_remove(f.os, path), 0);
        assert_int_equal(fetch(&f, 100, UINT64_MAX, 30000).result, 0);
        fixture_settle(&f); /* it is built anew */
        assert_int_equal(fetch(&f, 150, UINT64_MAX, 30000).result, 0);
        check_mark(&f, 170);
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
                TEST_ROW(fetch, gives_all_entries_in_runs_of_the_asked_size),
                TEST_ROW(fetch, begins_anywhere_and_ends_where_asked),
                TEST_ROW(fetch, as_many_as_allowed_at_once_while_segments_are_sealed),
                TEST_ROW(fetch, under_way_when_entries_are_truncated_gives_those_that_replace_them),
                TEST_ROW(fetch, under_way_at_the_close_ends),
                TEST_ROW(fetch, of_damaged_entries_is_refused_and_of_others_is_not),
                TEST_ROW(fetch, without_the_index_file_finds_entries_all_the_same),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
