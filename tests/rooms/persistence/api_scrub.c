/* The scrub (G22): everything that is committed is read in a bounded time, damage is found without any read
 * and goes the way of damage that a read finds; it keeps its pace, makes way for the log, and goes on after a
 * restart. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

#define DAY_US  ((uint64_t)24 * 3600 * 1000 * 1000)
#define HOUR_US ((uint64_t)3600 * 1000 * 1000)

enum { IN_A_PAYLOAD = 4096 + 200, IN_A_HEADER = 20, IN_THE_INDEX = 300 };

struct names {
        char segments[16][64];
        unsigned count;
};

static int note_segment(void *arg, const char *name, bool is_dir)
{
        struct names *n = arg;

        (void)is_dir;
        if (strlen(name) == 24 && strcmp(name + 20, ".seg") == 0 && n->count < 16)
                snprintf(n->segments[n->count++], 64, "%.63s", name);
        return 0;
}

static void segment_path_of(struct fixture *f, unsigned number, const char *extension, char ret[256])
{
        struct names names = {0};
        char log[256];

        snprintf(log, sizeof log, "%s/log", persistence_store_path(f->p));
        assert_int_equal(os_dir_list(f->os, log, note_segment, &names), 0);
        assert_true(number < names.count);
        snprintf(ret, 256, "%.150s/%.20s.%s", log, names.segments[number], extension);
}

/* Facts are counted by type. */
static struct control *control_for(struct fixture *f)
{
        struct control_options options = {
                .os = f->os, .node_name = "test", .log_fd = -1, .log_level = LEVEL_ERROR};
        struct control *control;

        assert_int_equal(control_open(&options, &control), 0);
        return control;
}

static uint64_t facts_of(struct fixture *f, enum fact_type type)
{
        struct control_stats stats;

        control_stats(f->options.control, &stats);
        return stats.published_by_type[type];
}

static struct persistence_scrub scrub_of(struct fixture *f)
{
        struct persistence_stats stats;

        persistence_stats(f->p, &stats);
        return stats.scrub;
}

/* Some segments, of which all but the last are sealed; closed. */
static void make_log(struct fixture *f, uint64_t seed)
{
        fixture_init(f, seed);
        f->options.segment_size = 16 * KIB;
        f->options.control = control_for(f);
        fixture_open(f);
        fixture_append_configuration(f, BYTES_LITERAL("three nodes"));
        fixture_write(f, true);
        fixture_commit(f, 1);
        for (unsigned i = 0; i < 150; i++) {
                fixture_put(f, i % 5);
                if (i % 40 == 39)
                        fixture_settle(f); /* with watermarks between the entries */
        }
        fixture_settle(f);
}

static void open_with_scrub(struct fixture *f, uint64_t scrub_us)
{
        fixture_close(f);
        f->options.scrub_us = scrub_us;
        fixture_open(f);
        fixture_commit(f, f->entry_count);
}

static void end(struct fixture *f)
{
        struct control *control = f->options.control;

        fixture_close(f);
        control_close(&control);
        fixture_fini(f);
}

static void run_for(struct fixture *f, uint64_t us)
{
        os_sim_run_for(f->os, us);
}

TEST(a_whole_log, is_read_within_the_time_and_nothing_is_found_G22)
{
        struct persistence_scrub scrub;
        struct fixture f;

        make_log(&f, 1);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, 7 * DAY_US);
        scrub = scrub_of(&f);
        assert_true(scrub.passes >= 1);
        assert_int_equal(scrub.last_found, 0);
        assert_int_equal(facts_of(&f, FACT_corruption_found), 0);
        assert_true(facts_of(&f, FACT_scrub_started) >= 1);
        assert_int_equal(facts_of(&f, FACT_scrub_finished), scrub.passes);
        run_for(&f, 7 * DAY_US);
        assert_true(scrub_of(&f).passes >= 2);
        check_all(&f);
        end(&f);
}

TEST(the_scrub, is_off_when_it_is_not_asked_for)
{
        struct fixture f;

        make_log(&f, 2);
        open_with_scrub(&f, 0);
        run_for(&f, 30 * DAY_US);
        assert_false(scrub_of(&f).is_on);
        assert_int_equal(facts_of(&f, FACT_scrub_started), 0);
        end(&f);
}

/* ---- damage ---- */

enum damage { A_PAYLOAD, A_SEGMENT_HEADER, A_SHORT_FILE, A_MISSING_FILE, THE_INDEX_FILE, UNSEALED, DAMAGES };

static void damage(struct fixture *f, enum damage what)
{
        char path[256];
        struct names names = {0};
        char log[256];
        struct os_file *file;

        snprintf(log, sizeof log, "%s/log", persistence_store_path(f->p));
        assert_int_equal(os_dir_list(f->os, log, note_segment, &names), 0);
        assert_true(names.count > 3);
        segment_path_of(
                f, what == UNSEALED ? names.count - 1 : 1, what == THE_INDEX_FILE ? "idx" : "seg", path);
        switch (what) {
        case A_SHORT_FILE:
                assert_int_equal(os_file_open(f->os, path, OS_OPEN_WRITE, &file), 0);
                assert_int_equal(os_file_truncate(file, 9000), 0);
                os_file_close(&file);
                break;
        case A_MISSING_FILE:
                assert_int_equal(os_remove(f->os, path), 0);
                break;
        case A_SEGMENT_HEADER:
                assert_int_equal(os_sim_flip_bit(f->os, path, IN_A_HEADER * 8), 0);
                break;
        default:
                assert_int_equal(os_sim_flip_bit(f->os, path,
                                         (what == THE_INDEX_FILE ? IN_THE_INDEX : IN_A_PAYLOAD) * 8),
                        0);
        }
}

static bool was_told;

static void on_damage(void *arg)
{
        (void)arg;
        was_told = true;
}

/* While the log is open, so that no start comes by; nobody reads. */
TEST(damage, of_every_kind_is_found_without_a_read_G22)
{
        for (enum damage what = 0; what < DAMAGES; what++) {
                struct persistence_range range;
                struct persistence_scrub scrub;
                struct fixture f;

                was_told = false;
                make_log(&f, 10 + what);
                open_with_scrub(&f, 7 * DAY_US);
                persistence_on_damage(f.p, on_damage, NULL);
                damage(&f, what);
                run_for(&f, 7 * DAY_US);
                scrub = scrub_of(&f);
                if (scrub.found_total == 0)
                        print_error("damage %u\n", what);
                assert_true(scrub.passes >= 1);
                assert_true(scrub.found_total >= 1);
                assert_int_equal(facts_of(&f, FACT_scrub_found), scrub.found_total);
                assert_true(facts_of(&f, FACT_corruption_found) >= 1);
                /* A sealed segment is to be mended; an index file was built anew. */
                assert_int_equal(was_told, what < THE_INDEX_FILE);
                assert_int_equal(persistence_damaged(f.p, &range), what < THE_INDEX_FILE);
                if (what == THE_INDEX_FILE) {
                        assert_int_equal(scrub.found_total, 1);
                        check_all(&f);
                }
                end(&f);
        }
}

/* Each byte of a sealed segment and of its index file: a pass finds the flipped bit. */
TEST(a_flipped_bit, anywhere_in_a_sealed_segment_or_its_index_is_found_G14_G22)
{
        for (unsigned round = 0; round < 30; round++) {
                const char *extension = round % 2 ? "idx" : "seg";
                struct buffer bytes = {0};
                struct fixture f;
                char path[256];
                uint64_t bit;

                make_log(&f, 100 + round);
                open_with_scrub(&f, DAY_US);
                segment_path_of(&f, 1, extension, path);
                assert_int_equal(os_read_whole(f.os, path, MIB, &bytes), 0);
                while (bytes.size > 1 && !bytes.data[bytes.size - 1])
                        bytes.size--; /* zeros behind the last record are of no log */
                bit = os_sim_choose(f.os, bytes.size * 8);
                assert_int_equal(os_sim_flip_bit(f.os, path, bit), 0);
                run_for(&f, DAY_US);
                if (!scrub_of(&f).found_total)
                        print_error("bit %llu of %llu bytes of %s\n", (unsigned long long)bit,
                                (unsigned long long)bytes.size, path);
                assert_true(scrub_of(&f).found_total >= 1);
                buffer_fini(&bytes);
                end(&f);
        }
}

/* ---- pace ---- */

static void make_large_log(struct fixture *f, uint64_t seed)
{
        fixture_init(f, seed);
        f->options.segment_size = 4 * MIB;
        f->options.control = control_for(f);
        f->event_size = 60000;
        fixture_open(f);
        fixture_append_configuration(f, BYTES_LITERAL("three nodes"));
        fixture_write(f, true);
        for (unsigned i = 0; i < 400; i++)
                fixture_put(f, 1);
        fixture_settle(f);
}

TEST(the_pace, is_even_and_the_whole_is_done_in_time_G22)
{
        struct persistence_scrub before, after;
        struct fixture f;
        uint64_t share_max = 0;

        make_large_log(&f, 30);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, HOUR_US);
        before = scrub_of(&f);
        assert_true(before.is_under_way && before.total_bytes > 16 * MIB);
        for (unsigned hour = 0; hour < 7 * 24 - 1 && scrub_of(&f).passes == 0; hour++) {
                run_for(&f, HOUR_US);
                after = scrub_of(&f);
                if (after.passes == 0)
                        share_max = MAX(share_max, after.done_bytes - before.done_bytes);
                before = after;
        }
        assert_int_equal(scrub_of(&f).passes, 1);
        /* A slice an hour, not all at once: 20 MiB in five days are a slice in six hours. */
        assert_true(share_max <= 2 * MIB);
        end(&f);
}

struct load {
        struct fixture *f;
        struct os_timer timer;
};

/* The log is never at rest: what is gathered is written when more has come. */
static void on_load(struct os_timer *timer)
{
        struct load *load = timer->arg;

        fixture_write(load->f, true);
        fixture_commit(load->f, load->f->entry_count);
        fixture_append(load->f, 1);
        if (load->f->entry_count < 8000)
                os_timer_start(load->f->os, timer, 60 * 1000 * 1000);
}

/* G18: a slice that is due waits while the log is busy, but the time of a pass holds. */
TEST(a_busy_log, is_made_way_for_and_the_pass_ends_in_time_all_the_same_G18_G22)
{
        struct fixture f;
        struct load load;

        make_log(&f, 31);
        open_with_scrub(&f, 4 * DAY_US);
        load = (struct load){.f = &f, .timer = {.fn = on_load, .arg = &load}};
        fixture_append(&f, 1);
        os_timer_start(f.os, &load.timer, 0);
        run_for(&f, HOUR_US);
        assert_false(scrub_of(&f).is_under_way); /* it would have begun at once */
        run_for(&f, 4 * DAY_US - HOUR_US);
        assert_true(scrub_of(&f).passes >= 1);
        os_timer_stop(&load.timer);
        fixture_write(&f, true);
        fixture_commit(&f, f.entry_count);
        end(&f);
}

/* ---- restarts ---- */

TEST(a_restart, goes_on_where_the_pass_was_and_its_time_as_well_G22)
{
        struct persistence_scrub before, after;
        struct fixture f;

        make_large_log(&f, 40);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, 2 * DAY_US);
        before = scrub_of(&f);
        assert_true(before.is_under_way && before.done_bytes > 2 * MIB);
        for (unsigned n = 0; n < 18; n++) {
                open_with_scrub(&f, 7 * DAY_US);
                after = scrub_of(&f);
                assert_true(after.is_under_way);
                assert_true(after.done_bytes >= before.done_bytes);
                assert_int_equal(after.began_us, before.began_us);
                run_for(&f, 4 * HOUR_US);
        }
        assert_int_equal(scrub_of(&f).passes, 0);
        run_for(&f, DAY_US);
        assert_int_equal(scrub_of(&f).passes, 1);
        assert_int_equal(scrub_of(&f).last_found, 0);
        end(&f);
}

TEST(a_crash, costs_what_was_read_in_the_last_minutes_only_G22)
{
        struct persistence_scrub before, after;
        struct fixture f;

        make_large_log(&f, 41);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, 3 * DAY_US);
        before = scrub_of(&f);
        os_sim_crash(f.os);
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        after = scrub_of(&f);
        assert_true(after.is_under_way);
        assert_true(after.done_bytes + 2 * MIB >= before.done_bytes);
        run_for(&f, 5 * DAY_US);
        assert_true(scrub_of(&f).passes >= 1);
        assert_int_equal(scrub_of(&f).last_found, 0);
        end(&f);
}

/* What stood before the restart was read before it; what stands behind it is found after it. */
TEST(damage, behind_the_place_of_a_restart_is_found_in_the_same_pass_G22)
{
        struct persistence_scrub scrub;
        struct fixture f;
        char path[256];

        make_large_log(&f, 42);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, 2 * DAY_US);
        assert_true(scrub_of(&f).done_bytes < scrub_of(&f).total_bytes / 2);
        segment_path_of(&f, 4, "seg", path);
        fixture_close(&f);
        assert_int_equal(os_sim_flip_bit(f.os, path, (uint64_t)(4096 + 100000) * 8), 0);
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        run_for(&f, 4 * DAY_US);
        scrub = scrub_of(&f);
        assert_int_equal(scrub.passes, 1);
        assert_int_equal(scrub.last_found, 1);
        end(&f);
}

TEST(a_damaged_mark, begins_a_new_pass_and_harms_nothing)
{
        struct fixture f;
        char path[256];

        make_large_log(&f, 43);
        open_with_scrub(&f, 7 * DAY_US);
        run_for(&f, 2 * DAY_US);
        snprintf(path, sizeof path, "%s/scrub.json", persistence_store_path(f.p));
        fixture_close(&f);
        assert_int_equal(os_sim_flip_bit(f.os, path, 100), 0);
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        assert_false(scrub_of(&f).is_under_way);
        run_for(&f, 7 * DAY_US);
        assert_int_equal(scrub_of(&f).passes, 1);
        end(&f);
}

/* A disk that is full, or closes meanwhile: nothing of it harms the log. */
TEST(a_close, in_the_middle_of_a_slice_is_fine)
{
        struct fixture f;

        make_large_log(&f, 44);
        for (unsigned n = 0; n < 40; n++) {
                open_with_scrub(&f, HOUR_US);
                run_for(&f, 60 * 1000 * 1000 + n * 977);
        }
        end(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(a_whole_log, is_read_within_the_time_and_nothing_is_found_G22),
                TEST_ROW(the_scrub, is_off_when_it_is_not_asked_for),
                TEST_ROW(damage, of_every_kind_is_found_without_a_read_G22),
                TEST_ROW(a_flipped_bit, anywhere_in_a_sealed_segment_or_its_index_is_found_G14_G22),
                TEST_ROW(the_pace, is_even_and_the_whole_is_done_in_time_G22),
                TEST_ROW(a_busy_log, is_made_way_for_and_the_pass_ends_in_time_all_the_same_G18_G22),
                TEST_ROW(a_restart, goes_on_where_the_pass_was_and_its_time_as_well_G22),
                TEST_ROW(a_crash, costs_what_was_read_in_the_last_minutes_only_G22),
                TEST_ROW(damage, behind_the_place_of_a_restart_is_found_in_the_same_pass_G22),
                TEST_ROW(a_damaged_mark, begins_a_new_pass_and_harms_nothing),
                TEST_ROW(a_close, in_the_middle_of_a_slice_is_fine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
