/* A disk that fails or is full (G15, G16), and ends of logs as a power cut leaves them (G13). */
#include "support.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0"; /* a crash gives no memory back */
}

/* ---- faults ---- */

/* Counts a fault through a row of writes: the n-th call fails, for every n until none does. */
static bool fail_once(uint64_t n, bool is_sync, bool on_this_thread)
{
        struct os_sim_faults faults = {0};
        struct fixture f;
        bool has_failed;
        unsigned i;

        fixture_init(&f, 1000 + n);
        f.options.segment_size = 16 * KIB;
        fixture_open(&f);
        *(is_sync ? &faults.sync_fails_at : &faults.write_fails_at) = n;
        os_sim_set_faults(f.os, &faults);
        for (i = 0; i < 60; i++) {
                fixture_append(&f, 3);
                fixture_write(&f, on_this_thread);
                fixture_settle(&f);
                if (f.write_result == 0)
                        fixture_commit(&f, f.acknowledged);
        }
        has_failed = f.write_result < 0;
        if (has_failed) {
                /* Nothing is acknowledged after the fault, and nothing is written. */
                uint64_t writes = os_sim_stats(f.os).writes, acknowledged = f.acknowledged;

                assert_true(acknowledged < f.entry_count);
                fixture_append(&f, 1);
                fixture_write(&f, on_this_thread);
                fixture_settle(&f);
                assert_int_equal(f.acknowledged, acknowledged);
                assert_true(persistence_save_vote(f.p, 9, 1) < 0);
                fixture_close(&f);
                assert_int_equal(os_sim_stats(f.os).writes, writes);
        }
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        os_sim_crash(f.os);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
        return has_failed;
}

TEST(fault, of_any_write_stops_all_writing_G15)
{
        uint64_t n, failed = 0;

        for (n = 1; n < 120; n++)
                failed += fail_once(n, false, n % 2);
        assert_true(failed > 40);
}

TEST(fault, of_any_sync_stops_all_writing_G15)
{
        uint64_t n, failed = 0;

        for (n = 1; n < 120; n++)
                failed += fail_once(n, true, n % 2);
        assert_true(failed > 40);
}

TEST(fault, of_a_read_refuses_that_reader_only_G13)
{
        struct os_sim_faults faults = {.read_fails_at = 1};
        struct wakeup wakeup = {0};
        struct persistence_reader *broken, *other;
        struct event_view e;
        struct fixture f;
        unsigned i;

        fixture_init(&f, 2000);
        fixture_open(&f);
        for (i = 0; i < 300; i++)
                fixture_put(&f, 2);
        fixture_settle(&f);
        broken = open_reader(&f, BYTES_EMPTY, 0, false, &wakeup);
        os_sim_set_faults(f.os, &faults);
        assert_int_equal(next_event(&f, broken, &wakeup, &e), 0); /* the index: it is done without */
        os_sim_set_faults(f.os, &faults);
        while ((i = (unsigned)next_event(&f, broken, &wakeup, &e)) == 0)
                ;
        assert_int_equal(i, PERSISTENCE_CORRUPT);
        assert_non_null(strstr(persistence_reader_problem(broken), ".seg"));
        assert_int_equal(next_event(&f, broken, &wakeup, &e), PERSISTENCE_CORRUPT);
        other = open_reader(&f, BYTES_EMPTY, 0, false, &wakeup);
        assert_int_equal(next_event(&f, other, &wakeup, &e), 0);
        persistence_reader_close(&broken);
        persistence_reader_close(&other);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_settle(&f);
        check_all(&f);
        fixture_put(&f, 1);
        fixture_fini(&f);
}

/* ---- space ---- */

TEST(space, a_full_disk_refuses_appends_and_recovers_G16)
{
        struct os_sim_faults full = {.full_at = 1};
        struct persistence_stats stats;
        struct os_space space;
        struct fixture f;
        unsigned i;

        fixture_init(&f, 3000);
        fixture_open(&f);
        for (i = 0; i < 50; i++) {
                assert_int_equal(persistence_has_room(f.p, 1000, 2), 0);
                fixture_put(&f, 2);
        }
        /* More than the device has. */
        assert_int_equal(os_space(f.os, "/data", &space), 0);
        assert_int_equal(persistence_has_room(f.p, space.free_bytes, 1), PERSISTENCE_FULL);
        persistence_stats(f.p, &stats);
        assert_true(stats.is_full);
        check_all(&f);
        assert_int_equal(persistence_has_room(f.p, 1000, 1), 0);
        persistence_stats(f.p, &stats);
        assert_false(stats.is_full);
        fixture_put(&f, 2);
        /* The background work meets a full disk: that is no fault, and it goes on when there is space again.
         */
        while (f.entry_count < 250) {
                fixture_append(&f, 2);
                fixture_write(&f, true);
        }
        fixture_settle(&f);
        os_sim_set_faults(f.os, &full);
        fixture_commit(&f, f.entry_count);
        fixture_settle(&f);
        check_all(&f);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_settle(&f);
        persistence_stats(f.p, &stats);
        assert_true(stats.index_bytes > 0);
        fixture_put(&f, 2);
        check_all(&f);
        fixture_fini(&f);
}

TEST(space, a_write_that_meets_a_full_disk_is_a_fault)
{
        struct os_sim_faults full = {.full_at = 1};
        struct fixture f;

        fixture_init(&f, 3001);
        fixture_open(&f);
        fixture_put(&f, 2);
        os_sim_set_faults(f.os, &full);
        fixture_append(&f, 1);
        fixture_write(&f, true);
        assert_true(f.write_result < 0);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_close(&f);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
}

/* ---- torn ends ---- */

static char segment_file[256];

static int note_last_segment(void *arg, const char *name, bool is_dir)
{
        (void)is_dir;
        if (strstr(name, ".seg"))
                snprintf(segment_file, sizeof segment_file, "%s/log/%s", (const char *)arg, name);
        return 0;
}

/* The bytes of the newest segment of a closed log, and where its records end. */
static void load_last_segment(struct fixture *f, struct buffer *bytes, uint64_t *ret_end)
{
        char directory[200];

        fixture_open(f);
        snprintf(directory, sizeof directory, "%s", persistence_store_path(f->p));
        fixture_close(f);
        strcat(directory, "/log");
        {
                char store[200];

                snprintf(store, sizeof store, "%.*s", (int)(strlen(directory) - 4), directory);
                assert_int_equal(os_dir_list(f->os, directory, note_last_segment, store), 0);
        }
        buffer_clear(bytes);
        assert_int_equal(os_read_whole(f->os, segment_file, 64 * MIB, bytes), 0);
        for (*ret_end = bytes->size; *ret_end > 0 && bytes->data[*ret_end - 1] == 0; --*ret_end)
                ;
        *ret_end = align_up(*ret_end, 8);
}

static void store_segment(struct fixture *f, struct bytes bytes)
{
        struct os_file *file;

        assert_int_equal(os_file_open(f->os, segment_file, OS_OPEN_WRITE, &file), 0);
        assert_int_equal(os_file_truncate(file, bytes.size), 0);
        assert_int_equal(os_file_write(file, bytes, 0), 0);
        assert_int_equal(os_file_sync(file), 0);
        os_file_close(&file);
}

/* A log whose process was killed before it could write a watermark. */
static void make_killed(struct fixture *f, uint64_t seed)
{
        unsigned i;

        fixture_init(f, seed);
        fixture_open(f);
        for (i = 0; i < 20; i++)
                fixture_append(f, 2);
        fixture_write(f, true);
        os_sim_kill(f->os);
}

static int note_segment(void *arg, const char *name, bool is_dir)
{
        (void)is_dir;
        if (strstr(name, ".seg"))
                snprintf(segment_file, sizeof segment_file, "%s/%s", (const char *)arg, name);
        return 0;
}

static int note_store(void *arg, const char *name, bool is_dir)
{
        (void)is_dir;
        snprintf(arg, 200, "/data/stores/%s/log", name);
        return 0;
}

static void find_segment(struct fixture *f)
{
        char directory[200];

        assert_int_equal(os_dir_list(f->os, "/data/stores", note_store, directory), 0);
        assert_int_equal(os_dir_list(f->os, directory, note_segment, directory), 0);
}

TEST(torn_tail, is_cut_wherever_it_begins_G13)
{
        uint64_t at, n;

        for (n = 0; n < 120; n++) {
                struct buffer bytes = {0};
                struct fixture f;
                uint64_t end;

                make_killed(&f, 4000);
                find_segment(&f);
                assert_int_equal(os_read_whole(f.os, segment_file, 64 * MIB, &bytes), 0);
                for (end = bytes.size; bytes.data[end - 1] == 0; end--)
                        ;
                /* The last write is torn: nothing, or something else, stands behind a point in it. */
                at = 4096 + mix(n, 1) % (end - 4096);
                memset(bytes.data + at, n % 2 ? 0 : (int)mix(n, 2), end - at);
                store_segment(&f, buffer_bytes(&bytes));
                f.acknowledged = 0;
                fixture_open(&f);
                assert_true(persistence_last_index(f.p) < 20);
                fixture_adopt_recovered(&f);
                check_all(&f);
                fixture_put(&f, 3);
                fixture_close(&f);
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_all(&f);
                buffer_fini(&bytes);
                fixture_fini(&f);
        }
}

TEST(torn_tail, of_one_group_may_have_a_hole_in_its_middle_G13)
{
        struct buffer bytes = {0};
        struct fixture f;

        /* Records of one write have no order among them: the first may be missing and the others there. */
        make_killed(&f, 4001);
        find_segment(&f);
        assert_int_equal(os_read_whole(f.os, segment_file, 64 * MIB, &bytes), 0);
        bytes.data[4096 + 80] ^= 1;
        store_segment(&f, buffer_bytes(&bytes));
        f.acknowledged = 0;
        fixture_open(&f);
        assert_int_equal(persistence_last_index(f.p), 0);
        fixture_adopt_recovered(&f);
        fixture_put(&f, 1);
        check_all(&f);
        /* And what stood behind the hole does not come back. */
        fixture_close(&f);
        fixture_open(&f);
        assert_int_equal(persistence_last_index(f.p), 1);
        fixture_adopt_recovered(&f);
        check_all(&f);
        buffer_fini(&bytes);
        fixture_fini(&f);
}

TEST(corruption, in_the_tail_refuses_the_start_and_says_where_G13)
{
        struct buffer bytes = {0};
        struct fixture f;
        uint64_t end;
        unsigned i;

        /* Two writes: the records of the second say that the first was durable. */
        fixture_init(&f, 4002);
        fixture_open(&f);
        fixture_put(&f, 2);
        fixture_put(&f, 2);
        os_sim_kill(f.os);
        find_segment(&f);
        assert_int_equal(os_read_whole(f.os, segment_file, 64 * MIB, &bytes), 0);
        bytes.data[4096 + 100] ^= 4;
        store_segment(&f, buffer_bytes(&bytes));
        for (i = 0; i < 2; i++) { /* and it stays so */
                assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
                assert_non_null(strstr(persistence_problem(), ".seg is damaged at offset 4096"));
        }
        bytes.data[4096 + 100] ^= 4;
        store_segment(&f, buffer_bytes(&bytes));
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_close(&f);
        /* After an orderly stop the watermark covers the last write too. */
        load_last_segment(&f, &bytes, &end);
        bytes.data[end - 100] ^= 1;
        store_segment(&f, buffer_bytes(&bytes));
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
        buffer_fini(&bytes);
        f.p = NULL;
        fixture_fini(&f);
}

TEST(corruption, of_the_last_write_is_found_after_a_second_of_rest_G13)
{
        struct buffer bytes = {0};
        struct fixture f;

        fixture_init(&f, 4003);
        fixture_open(&f);
        fixture_put(&f, 2);
        os_sim_run_for(f.os, 3000000);
        os_sim_kill(f.os);
        find_segment(&f);
        assert_int_equal(os_read_whole(f.os, segment_file, 64 * MIB, &bytes), 0);
        bytes.data[4096 + 100] ^= 4;
        store_segment(&f, buffer_bytes(&bytes));
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
        buffer_fini(&bytes);
        f.p = NULL;
        fixture_fini(&f);
}

/* ---- a test of the tests ---- */

TEST(mutant, that_verifies_nothing_gives_wrong_answers)
{
        struct wakeup wakeup = {0};
        struct buffer bytes = {0};
        struct persistence_reader *r;
        struct event_view e;
        struct fixture f;

        fixture_init(&f, 4004);
        fixture_open(&f);
        fixture_put(&f, 1);
        os_sim_kill(f.os);
        find_segment(&f);
        assert_int_equal(os_read_whole(f.os, segment_file, 64 * MIB, &bytes), 0);
        bytes.data[4096 + 180] ^= 4;
        store_segment(&f, buffer_bytes(&bytes));
        f.options.skip_crc = true;
        fixture_open(&f);
        fixture_commit(&f, 1);
        r = open_reader(&f, BYTES_EMPTY, 0, false, &wakeup);
        assert_int_equal(next_event(&f, r, &wakeup, &e), 0);
        bytes.size = 0;
        model_data(&f, 0, f.events[0].salt, &bytes);
        assert_false(bytes_equal(e.data, buffer_bytes(&bytes)));
        persistence_reader_close(&r);
        buffer_fini(&bytes);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(fault, of_any_write_stops_all_writing_G15),
                TEST_ROW(fault, of_any_sync_stops_all_writing_G15),
                TEST_ROW(fault, of_a_read_refuses_that_reader_only_G13),
                TEST_ROW(space, a_full_disk_refuses_appends_and_recovers_G16),
                TEST_ROW(space, a_write_that_meets_a_full_disk_is_a_fault),
                TEST_ROW(torn_tail, is_cut_wherever_it_begins_G13),
                TEST_ROW(torn_tail, of_one_group_may_have_a_hole_in_its_middle_G13),
                TEST_ROW(corruption, in_the_tail_refuses_the_start_and_says_where_G13),
                TEST_ROW(corruption, of_the_last_write_is_found_after_a_second_of_rest_G13),
                TEST_ROW(mutant, that_verifies_nothing_gives_wrong_answers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
