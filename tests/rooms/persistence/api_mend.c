/* A damaged sealed segment is rebuilt from entries that another node has (G13): readers go on, the damaged
 * file is kept (G12), what is not this log's is refused, and a crash at any step leaves the damaged file or
 * the good one. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

enum { SEGMENT_NUMBER = 1, IN_A_PAYLOAD = 4096 + 200, IN_A_HEADER = 4096 + 20, RUN = 7 };

/* The other node: copies of the entries of a range. */
struct copies {
        struct persistence_entry entries[512];
        struct buffer payloads[512];
        unsigned count;
        bool is_done;
        uint64_t next;
};

struct names {
        char segments[8][64];
        unsigned segment_count;
        unsigned other_count;
        bool has_temporary;
};

static void on_copied(void *arg, int result, const struct persistence_entries *run)
{
        struct copies *c = arg;

        assert_int_equal(result, 0);
        for (unsigned i = 0; i < run->count; i++) {
                buffer_add_bytes(&c->payloads[c->count], run->entries[i].payload);
                c->entries[c->count] = run->entries[i];
                c->entries[c->count].payload = buffer_bytes(&c->payloads[c->count]);
                c->count++;
        }
        c->next += run->count;
        c->is_done = true;
}

static void copy_entries(struct fixture *f, uint64_t first, uint64_t last, struct copies *c)
{
        *c = (struct copies){.next = first};
        while (c->next <= last) {
                c->is_done = false;
                persistence_fetch(f->p, c->next, last, MIB, on_copied, c);
                while (!c->is_done)
                        assert_true(os_sim_step(f->os));
        }
}

static void free_copies(struct copies *c)
{
        for (unsigned i = 0; i < c->count; i++)
                buffer_fini(&c->payloads[i]);
}

static int note_segment(void *arg, const char *name, bool is_dir)
{
        struct names *n = arg;

        (void)is_dir;
        if (strlen(name) == 24 && strcmp(name + 20, ".seg") == 0)
                snprintf(n->segments[n->segment_count++ % 8], 64, "%.63s", name);
        else
                n->other_count++;
        n->has_temporary |= strstr(name, ".tmp") || strstr(name, ".mended");
        return 0;
}

static void path_in(struct fixture *f, const char *directory, const char *name, char ret[256])
{
        snprintf(ret, 256, "%s/%s%s%s", persistence_store_path(f->p), directory, *name ? "/" : "", name);
}

/* Several segments, of which number SEGMENT_NUMBER has `range`. */
static void make_log(struct fixture *f, uint64_t seed, struct persistence_range *range, char path[256])
{
        struct names names = {0};
        char log[256];
        uint64_t next;

        fixture_init(f, seed);
        f->options.segment_size = 16 * KIB;
        f->event_size = 120;
        fixture_open(f);
        fixture_append_configuration(f, BYTES_LITERAL("three nodes"));
        fixture_write(f, true);
        fixture_commit(f, 1);
        for (unsigned i = 0; i < 120; i++) {
                fixture_put(f, i % 5);
                if (i % 20 == 19)
                        fixture_settle(f); /* with watermarks between the entries */
        }
        fixture_settle(f);
        path_in(f, "log", "", log);
        assert_int_equal(os_dir_list(f->os, log, note_segment, &names), 0);
        assert_true(names.segment_count >= 3 && names.segment_count <= 8);
        path_in(f, "log", names.segments[SEGMENT_NUMBER], path);
        range->first = strtoull(names.segments[SEGMENT_NUMBER], NULL, 10);
        next = strtoull(names.segments[SEGMENT_NUMBER + 1], NULL, 10);
        range->last = next - 1;
}

/* Closed and opened, so that no file is open and nothing is in memory. */
static void open_again(struct fixture *f)
{
        fixture_close(f);
        fixture_open(f);
        fixture_commit(f, f->entry_count);
}

static bool log_is_whole(struct fixture *f)
{
        struct wakeup wakeup = {0};
        struct persistence_reader *r = open_reader(f, BYTES_EMPTY, 0, false, &wakeup);
        struct event_view e;
        uint64_t at = 0;
        int result;

        while ((result = next_event(f, r, &wakeup, &e)) == 0)
                check_event(f, &e, at++);
        assert_true(result == PERSISTENCE_END ? at == f->event_count : result == PERSISTENCE_CORRUPT);
        persistence_reader_close(&r);
        return result == PERSISTENCE_END;
}

struct added {
        bool is_done;
        int result;
};

static void on_added(void *arg, int result)
{
        *(struct added *)arg = (struct added){true, result};
}

static int add(struct fixture *f, const struct persistence_entry *entries, unsigned count)
{
        struct added a = {0};

        persistence_mend_add(f->p, entries, count, on_added, &a);
        while (!a.is_done)
                assert_true(os_sim_step(f->os));
        return a.result;
}

/* Gives what the last add gives. */
static int mend(struct fixture *f, const struct copies *c)
{
        struct persistence_range range;
        int r = persistence_mend_begin(f->p, &range);

        for (unsigned at = 0; !r && at < c->count; at += RUN)
                r = add(f, c->entries + at, MIN(c->count - at, RUN));
        return r;
}

static int find_kept(void *arg, const char *name, bool is_dir)
{
        (void)is_dir;
        if (strstr(name, ".seg."))
                snprintf(arg, 256, "%.255s", name);
        return 0;
}

/* Those very bytes lie in quarantine/. */
static void check_kept(struct fixture *f, struct bytes damaged)
{
        struct buffer kept = {0};
        char directory[256], name[256] = "", path[256];

        path_in(f, "quarantine", "", directory);
        assert_int_equal(os_dir_list(f->os, directory, find_kept, name), 0);
        assert_true(*name);
        path_in(f, "quarantine", name, path);
        assert_int_equal(os_read_whole(f->os, path, MIB, &kept), 0);
        assert_true(bytes_equal(buffer_bytes(&kept), damaged));
        buffer_fini(&kept);
}

static void check_no_leftovers(struct fixture *f)
{
        struct names names = {0};
        char log[256];

        path_in(f, "log", "", log);
        assert_int_equal(os_dir_list(f->os, log, note_segment, &names), 0);
        assert_false(names.has_temporary);
}

/* ---- kinds of damage ---- */

enum kind { A_PAYLOAD, A_HEADER, THE_END, ALL_RECORDS, KINDS };

static void damage(struct fixture *f, const char *path, enum kind kind)
{
        struct os_file *file;

        if (kind == A_PAYLOAD || kind == A_HEADER) {
                uint64_t at = kind == A_HEADER ? IN_A_HEADER : IN_A_PAYLOAD;

                assert_int_equal(os_sim_flip_bit(f->os, path, at * 8), 0);
                return;
        }
        assert_int_equal(os_file_open(f->os, path, OS_OPEN_WRITE, &file), 0);
        assert_int_equal(os_file_truncate(file, kind == THE_END ? 9000 : 4096), 0);
        os_file_close(&file);
}

/* The log with that segment damaged, opened again; `c` has the entries, `damaged` the bytes of the file. */
static void make_damaged(
        struct fixture *f, uint64_t seed, enum kind kind, struct copies *c, struct buffer *damaged)
{
        struct persistence_range range;
        char path[256];

        make_log(f, seed, &range, path);
        copy_entries(f, range.first, range.last, c);
        fixture_close(f);
        damage(f, path, kind);
        assert_int_equal(os_read_whole(f->os, path, MIB, damaged), 0);
        fixture_open(f);
        fixture_commit(f, f->entry_count);
}

TEST(a_damaged_segment, is_rebuilt_whatever_the_damage_and_the_old_file_is_kept_G12_G13)
{
        for (enum kind kind = 0; kind < KINDS; kind++) {
                struct persistence_range found;
                struct buffer damaged = {0};
                struct copies c;
                struct fixture f;

                make_damaged(&f, 100 + kind, kind, &c, &damaged);
                assert_false(persistence_damaged(f.p, &found)); /* nobody has looked yet */
                assert_false(log_is_whole(&f));
                assert_true(persistence_damaged(f.p, &found));
                assert_int_equal(found.first, c.entries[0].index);
                assert_int_equal(found.last, c.entries[c.count - 1].index);
                assert_int_equal(mend(&f, &c), 0);
                assert_false(persistence_damaged(f.p, &found));
                check_kept(&f, buffer_bytes(&damaged));
                check_no_leftovers(&f);
                check_all(&f);
                fixture_put(&f, 3);
                open_again(&f);
                check_all(&f);
                check_kept(&f, buffer_bytes(&damaged));
                buffer_fini(&damaged);
                free_copies(&c);
                fixture_fini(&f);
        }
}

static void note_damage(void *arg)
{
        ++*(unsigned *)arg;
}

static void on_nothing(void *arg, int result, const struct persistence_entries *run)
{
        (void)run;
        *(int *)arg = result;
}

TEST(a_damaged_segment, is_noticed_by_a_read_a_fetch_and_a_mark_once)
{
        for (unsigned how = 0; how < 3; how++) {
                struct buffer damaged = {0};
                struct persistence_range found;
                unsigned noticed = 0;
                int fetched = -1;
                struct copies c;
                struct fixture f;

                make_damaged(&f, 200 + how, ALL_RECORDS, &c, &damaged);
                persistence_on_damage(f.p, note_damage, &noticed);
                if (how == 0) {
                        assert_false(log_is_whole(&f));
                } else if (how == 1) {
                        persistence_fetch(
                                f.p, c.entries[0].index, c.entries[3].index, MIB, on_nothing, &fetched);
                        while (fetched < 0)
                                assert_true(os_sim_step(f.os));
                        assert_int_equal(fetched, PERSISTENCE_CORRUPT);
                } else {
                        struct record_chain chain;
                        uint64_t term;

                        assert_int_equal(persistence_entry_mark(f.p, c.entries[3].index, &term, &chain),
                                PERSISTENCE_CORRUPT);
                }
                assert_int_equal(noticed, 1);
                assert_true(persistence_damaged(f.p, &found));
                assert_false(log_is_whole(&f));
                assert_int_equal(noticed, 1);
                buffer_fini(&damaged);
                free_copies(&c);
                fixture_fini(&f);
        }
}

/* Readers of all kinds, stopped anywhere when the segment gets another file under them, cold reads under way.
 */
TEST(readers, go_on_over_a_segment_that_is_replaced_under_them)
{
        enum { READERS = 24 };

        for (uint64_t seed = 0; seed < 12; seed++) {
                struct persistence_reader *readers[READERS];
                struct wakeup wakeups[READERS] = {0};
                uint64_t at[READERS];
                struct buffer damaged = {0};
                struct event_view e;
                struct copies c;
                struct fixture f;
                int fetched = -1;

                make_damaged(&f, 300 + seed, A_PAYLOAD, &c, &damaged);
                os_sim_set_faults(f.os, &(struct os_sim_faults){.reads_are_cold = true});
                for (unsigned i = 0; i < READERS; i++) {
                        bool is_backward = i % 2;

                        at[i] = is_backward ? f.event_count - 1 : 0;
                        readers[i] = open_reader(
                                &f, BYTES_EMPTY, is_backward ? UINT64_MAX : 0, is_backward, &wakeups[i]);
                        for (unsigned n = 0; n < i * f.event_count / READERS; n++) {
                                if (next_event(&f, readers[i], &wakeups[i], &e))
                                        break;
                                check_event(&f, &e, at[i]);
                                at[i] += is_backward ? UINT64_MAX : 1;
                        }
                }
                (void)log_is_whole(&f);
                persistence_fetch(
                        f.p, c.entries[0].index, c.entries[c.count - 1].index, MIB, on_nothing, &fetched);
                for (unsigned i = 0; i < READERS; i++) {
                        if (persistence_reader_next(readers[i], &e))
                                continue;
                        check_event(&f, &e, at[i]);
                        at[i] += i % 2 ? UINT64_MAX : 1;
                }
                assert_int_equal(mend(&f, &c), 0);
                for (unsigned i = 0; i < READERS; i++) {
                        int r;

                        while ((r = next_event(&f, readers[i], &wakeups[i], &e)) == 0) {
                                check_event(&f, &e, at[i]);
                                at[i] += i % 2 ? UINT64_MAX : 1;
                        }
                        assert_int_equal(r, PERSISTENCE_END);
                        assert_int_equal(at[i], i % 2 ? UINT64_MAX : f.event_count);
                        persistence_reader_close(&readers[i]);
                }
                check_all(&f);
                buffer_fini(&damaged);
                free_copies(&c);
                fixture_fini(&f);
        }
}

TEST(entries, of_another_history_are_refused_and_change_nothing)
{
        for (unsigned what = 0; what < 6; what++) {
                struct persistence_range range;
                struct buffer damaged = {0};
                struct copies c;
                struct fixture f;
                struct persistence_entry *e;

                make_damaged(&f, 400 + what, A_HEADER, &c, &damaged);
                assert_false(log_is_whole(&f));
                e = &c.entries[c.count / 2];
                switch (what) {
                case 0:
                        c.payloads[c.count - 2].data[c.payloads[c.count - 2].size - 1] ^= 1;
                        break;
                case 1:
                        e->index++;
                        break;
                case 2:
                        e->first_position++;
                        break;
                case 3:
                        e->term++; /* the newest term of the log is 1 */
                        break;
                case 4:
                        e->kind = e->event_count ? RECORD_BARRIER : RECORD_EVENTS;
                        break;
                default:
                        e->event_count += 10000;
                        break;
                }
                assert_int_equal(mend(&f, &c), PERSISTENCE_CORRUPT);
                assert_true(persistence_damaged(f.p, &range));
                check_no_leftovers(&f);
                assert_false(log_is_whole(&f));
                free_copies(&c);
                buffer_fini(&damaged);
                fixture_fini(&f);
        }
}

TEST(mending, waits_for_space_and_can_be_stopped)
{
        struct persistence_range range;
        struct buffer damaged = {0};
        struct copies c;
        struct fixture f;

        make_damaged(&f, 500, A_HEADER, &c, &damaged);
        assert_int_equal(persistence_mend_begin(f.p, &range), PERSISTENCE_NOT_FOUND);
        assert_false(log_is_whole(&f));
        os_sim_set_faults(f.os, &(struct os_sim_faults){.free_bytes = 65 * MIB});
        assert_int_equal(persistence_mend_begin(f.p, &range), PERSISTENCE_FULL);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        assert_int_equal(persistence_mend_begin(f.p, &range), 0);
        assert_int_equal(add(&f, c.entries, 5), 0);
        persistence_mend_stop(f.p);
        check_no_leftovers(&f);
        assert_int_equal(persistence_mend_begin(f.p, &range), 0);
        os_sim_set_faults(f.os, &(struct os_sim_faults){.full_at = 1});
        assert_int_equal(add(&f, c.entries, 5), PERSISTENCE_FULL);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        /* Closed with an add under way, and half done. */
        assert_int_equal(persistence_mend_begin(f.p, &range), 0);
        assert_int_equal(add(&f, c.entries, 5), 0);
        {
                struct added a = {0};

                persistence_mend_add(f.p, c.entries + 5, 5, on_added, &a);
                fixture_close(&f);
                assert_int_equal(a.result, PERSISTENCE_END);
        }
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        check_no_leftovers(&f);
        assert_false(log_is_whole(&f));
        assert_int_equal(mend(&f, &c), 0);
        check_all(&f);
        free_copies(&c);
        buffer_fini(&damaged);
        fixture_fini(&f);
}

/* Each write, sync and sync of a directory fails once, and the power goes: the next start finds the damaged
 * file or the good one, and in the end the damaged one lies in quarantine/. */
TEST(a_crash, at_any_step_of_a_rebuild_leaves_the_old_segment_or_the_new_G2)
{
        unsigned found_old = 0, found_new = 0;

        for (unsigned kind = 0; kind < 3; kind++) {
                for (uint64_t at = 1, is_done = 0; !is_done; at++) {
                        for (uint64_t seed = 0; seed < 4; seed++) {
                                struct os_sim_faults faults = {.write_fails_at = kind == 0 ? at : 0,
                                        .sync_fails_at = kind == 1 ? at : 0,
                                        .dir_sync_fails_at = kind == 2 ? at : 0};
                                struct buffer damaged = {0};
                                struct copies c;
                                struct fixture f;

                                make_damaged(&f, 600 + seed, A_PAYLOAD, &c, &damaged);
                                assert_false(log_is_whole(&f));
                                os_sim_set_faults(f.os, &faults);
                                is_done = mend(&f, &c) == 0;
                                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                                os_sim_crash(f.os);
                                fixture_open(&f);
                                fixture_adopt_recovered(&f);
                                check_no_leftovers(&f);
                                if (log_is_whole(&f)) {
                                        found_new++;
                                } else {
                                        assert_false(is_done);
                                        found_old++;
                                        assert_int_equal(mend(&f, &c), 0);
                                }
                                check_kept(&f, buffer_bytes(&damaged));
                                check_all(&f);
                                free_copies(&c);
                                buffer_fini(&damaged);
                                fixture_fini(&f);
                        }
                }
        }
        assert_true(found_old > 0 && found_new > 0);
}

/* Damage of the newest sealed segment: the checkpoint of ids belongs to it. And while more is sealed. */
TEST(the_newest_sealed_segment, is_rebuilt_with_the_checkpoint_of_ids)
{
        struct persistence_range range;
        struct names names = {0};
        struct copies c;
        struct fixture f;
        char log[256], path[256];

        make_log(&f, 700, &range, path);
        path_in(&f, "log", "", log);
        assert_int_equal(os_dir_list(f.os, log, note_segment, &names), 0);
        path_in(&f, "log", names.segments[names.segment_count - 2], path);
        range.first = strtoull(names.segments[names.segment_count - 2], NULL, 10);
        range.last = strtoull(names.segments[names.segment_count - 1], NULL, 10) - 1;
        copy_entries(&f, range.first, range.last, &c);
        fixture_close(&f);
        damage(&f, path, A_PAYLOAD);
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        assert_false(log_is_whole(&f));
        for (unsigned i = 0; i < 60; i++)
                fixture_put(&f, 4); /* the next one is complete, and on its way to be sealed */
        assert_int_equal(mend(&f, &c), 0);
        fixture_settle(&f);
        check_all(&f);
        open_again(&f);
        check_all(&f);
        free_copies(&c);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(a_damaged_segment, is_rebuilt_whatever_the_damage_and_the_old_file_is_kept_G12_G13),
                TEST_ROW(a_damaged_segment, is_noticed_by_a_read_a_fetch_and_a_mark_once),
                TEST_ROW(readers, go_on_over_a_segment_that_is_replaced_under_them),
                TEST_ROW(entries, of_another_history_are_refused_and_change_nothing),
                TEST_ROW(mending, waits_for_space_and_can_be_stopped),
                TEST_ROW(a_crash, at_any_step_of_a_rebuild_leaves_the_old_segment_or_the_new_G2),
                TEST_ROW(the_newest_sealed_segment, is_rebuilt_with_the_checkpoint_of_ids),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
