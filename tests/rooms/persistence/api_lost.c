/* Records at the unsealed end that were durable are damaged (G13): alone, the start is refused and nothing is
 * changed; among nodes that have them, the log is cut there, the damaged files are kept (G12), and a mark
 * says that this node has lost something until it has it again. A crash at any step loses neither the mark
 * nor a good record before the damage. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

enum { ENTRIES = 60, IN_A_PAYLOAD = 4096 + 600, SEGMENTS_MAX = 16 };

struct copies {
        struct persistence_entry entries[ENTRIES + 1];
        struct buffer payloads[ENTRIES + 1];
        unsigned count;
};

struct names {
        char segments[SEGMENTS_MAX][32];
        unsigned count;
        unsigned kept; /* in quarantine/ */
};

struct gate {
        bool may;
        unsigned asked;
        bool was_right; /* the configuration that was shown */
};

static bool may_cut(void *arg, struct bytes configuration)
{
        struct gate *g = arg;

        g->asked++;
        g->was_right = bytes_equal(configuration, BYTES_LITERAL("three nodes"));
        return g->may;
}

static void copy_all(struct fixture *f, struct copies *c)
{
        c->count = 0;
        while (c->count < f->entry_count) {
                struct persistence_entries run;

                assert_int_equal(
                        persistence_entries_read(f->p, c->count + 1, f->entry_count, ENTRIES, MIB, &run), 0);
                for (unsigned i = 0; i < run.count; i++, c->count++) {
                        c->payloads[c->count] = (struct buffer){0};
                        buffer_add_bytes(&c->payloads[c->count], run.entries[i].payload);
                        c->entries[c->count] = run.entries[i];
                        c->entries[c->count].payload = buffer_bytes(&c->payloads[c->count]);
                }
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
        if (strlen(name) == 24 && strcmp(name + 20, ".seg") == 0 && n->count < SEGMENTS_MAX)
                snprintf(n->segments[n->count++], sizeof n->segments[0], "%.31s", name);
        n->kept += strstr(name, ".seg.") != NULL;
        return 0;
}

static void list(struct fixture *f, const char *store_path, const char *directory, struct names *n)
{
        char path[256];
        int r;

        snprintf(path, sizeof path, "%.200s/%s", store_path, directory);
        *n = (struct names){0};
        r = os_dir_list(f->os, path, note_segment, n);
        assert_true(r == 0 || r == OS_NOT_FOUND);
}

static bool has_mark(struct fixture *f, const char *store_path)
{
        struct buffer content = {0};
        char path[256];
        int r;

        snprintf(path, sizeof path, "%.200s/lost.json", store_path);
        r = os_read_whole(f->os, path, MIB, &content);
        buffer_fini(&content);
        return r == 0;
}

/* A log of several segments, none committed, all durable and known to be; closed. The segment `number` is
 * damaged. */
static void make_damaged(struct fixture *f, uint64_t seed, struct gate *gate, unsigned number,
        struct copies *c, char store_path[256], uint64_t *ret_first)
{
        struct names names;
        char path[512];

        fixture_init(f, seed);
        f->options.segment_size = 16 * KIB;
        f->options.may_cut_damage = may_cut;
        f->options.may_cut_arg = gate;
        fixture_open(f);
        assert_int_equal(persistence_save_vote(f->p, 1, 1), 0);
        fixture_append_configuration(f, BYTES_LITERAL("three nodes"));
        for (unsigned i = 1; i < ENTRIES; i++) {
                fixture_append(f, 1 + i % 6);
                fixture_write(f, true);
        }
        copy_all(f, c);
        snprintf(store_path, 256, "%.200s", persistence_store_path(f->p));
        fixture_close(f);
        list(f, store_path, "log", &names);
        assert_true(names.count >= 3);
        if (number >= names.count)
                number = names.count - 1;
        *ret_first = strtoull(names.segments[number], NULL, 10);
        snprintf(path, sizeof path, "%.200s/log/%s", store_path, names.segments[number]);
        assert_int_equal(os_sim_flip_bit(f->os, path, IN_A_PAYLOAD * 8), 0);
}

/* What another node would give. */
static void fetch_the_rest(struct fixture *f, const struct copies *c)
{
        for (uint64_t i = persistence_last_index(f->p); i < c->count; i++)
                persistence_append(f->p, &c->entries[i]);
        f->submitted_count = 0;
        fixture_write(f, true);
        fixture_commit(f, c->count);
}

TEST(a_damaged_end, refuses_the_start_of_who_has_the_only_copy_and_changes_nothing_G13)
{
        for (unsigned n = 0; n < 3; n++) {
                struct names before, after, kept;
                struct gate gate = {0};
                char store_path[256];
                struct fixture f;
                struct copies c;
                uint64_t first;

                make_damaged(&f, 10 + n, &gate, 1, &c, store_path, &first);
                list(&f, store_path, "log", &before);
                if (n == 0)
                        f.options.may_cut_damage = NULL;
                f.options.read_only = n == 2;
                assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
                assert_non_null(strstr(persistence_problem(), ".seg is damaged at offset"));
                f.p = NULL;
                assert_int_equal(gate.asked, n == 1);
                list(&f, store_path, "log", &after);
                list(&f, store_path, "quarantine", &kept);
                assert_int_equal(after.count, before.count);
                assert_int_equal(kept.kept, 0);
                assert_false(has_mark(&f, store_path));
                free_copies(&c);
                fixture_fini(&f);
        }
}

TEST(a_damaged_end, is_cut_set_aside_and_marked_until_it_is_there_again_G12_G13)
{
        for (unsigned number = 0; number < 5; number++) {
                struct gate gate = {.may = true};
                struct names before, kept;
                uint64_t first, through, last;
                char store_path[256];
                struct fixture f;
                struct copies c;

                make_damaged(&f, 20 + number, &gate, number, &c, store_path, &first);
                list(&f, store_path, "log", &before);
                fixture_open(&f);
                assert_true(gate.was_right);
                assert_true(persistence_lost(f.p, &through));
                last = persistence_last_index(f.p);
                assert_true(last + 1 >= first && last < c.count);
                assert_true(through > last && through <= c.count);
                for (uint64_t i = 1; i <= last; i++)
                        check_mark(&f, i);
                list(&f, store_path, "quarantine", &kept);
                assert_int_equal(kept.kept, number < before.count ? before.count - number : 1);
                /* The mark outlives starts, of whoever may mend it; others do not go on with such a log. */
                fixture_close(&f);
                f.options.may_cut_damage = NULL;
                assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
                assert_non_null(strstr(persistence_problem(), "lost.json"));
                f.options.may_cut_damage = may_cut;
                fixture_open(&f);
                assert_int_equal(persistence_last_index(f.p), last);
                assert_true(persistence_lost(f.p, &through));
                fetch_the_rest(&f, &c);
                assert_int_equal(persistence_lost_found(f.p), 0);
                assert_false(persistence_lost(f.p, &through));
                fixture_close(&f);
                f.options.may_cut_damage = NULL;
                fixture_open(&f);
                assert_false(persistence_lost(f.p, &through));
                fixture_commit(&f, c.count);
                fixture_settle(&f);
                check_all(&f);
                free_copies(&c);
                fixture_fini(&f);
        }
}

TEST(a_crash, at_any_step_of_the_cut_leaves_the_damage_or_the_mark_G13)
{
        unsigned crashes = 0;

        for (unsigned kind = 0; kind < 3; kind++) {
                for (uint64_t at = 1, is_done = 0; !is_done; at++) {
                        for (uint64_t seed = 0; seed < 3; seed++) {
                                struct os_sim_faults faults = {.write_fails_at = kind == 0 ? at : 0,
                                        .sync_fails_at = kind == 1 ? at : 0,
                                        .dir_sync_fails_at = kind == 2 ? at : 0};
                                struct gate gate = {.may = true};
                                struct names kept;
                                uint64_t first, through;
                                char store_path[256];
                                struct fixture f;
                                struct copies c;
                                int r;

                                make_damaged(&f, 100 + seed, &gate, 1, &c, store_path, &first);
                                os_sim_set_faults(f.os, &faults);
                                r = fixture_try_open(&f);
                                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                                assert_true(r <= 0);
                                is_done = r == 0;
                                crashes += r != 0;
                                os_sim_crash(f.os);
                                f.p = NULL;
                                fixture_open(&f);
                                /* Whoever cuts has said so: the good part is whole, and what was cut is
                                 * marked. */
                                assert_true(persistence_lost(f.p, &through));
                                assert_true(persistence_last_index(f.p) + 1 >= first);
                                list(&f, store_path, "quarantine", &kept);
                                assert_true(kept.kept > 0);
                                fetch_the_rest(&f, &c);
                                assert_int_equal(persistence_lost_found(f.p), 0);
                                fixture_settle(&f);
                                check_all(&f);
                                free_copies(&c);
                                fixture_fini(&f);
                        }
                }
        }
        assert_true(crashes > 20);
}

/* ---- a history that is not the majority's (G22) ---- */

/* A log of several segments, committed and sealed, that was told to be right through `index` only; closed. */
static void make_distrusted(
        struct fixture *f, uint64_t seed, struct gate *gate, uint64_t index, struct copies *c)
{
        fixture_init(f, seed);
        f->options.segment_size = 16 * KIB;
        f->options.may_cut_damage = may_cut;
        f->options.may_cut_arg = gate;
        fixture_open(f);
        assert_int_equal(persistence_save_vote(f->p, 1, 1), 0);
        fixture_append_configuration(f, BYTES_LITERAL("three nodes"));
        for (unsigned i = 1; i < ENTRIES; i++) {
                fixture_append(f, 1 + i % 6);
                fixture_write(f, true);
        }
        copy_all(f, c);
        fixture_commit(f, f->entry_count);
        fixture_settle(f);
        assert_int_equal(persistence_lose_after(f->p, index, BYTES_LITERAL("three nodes"), 1), 0);
        fixture_close(f);
}

static void check_cut(struct fixture *f, uint64_t index)
{
        uint64_t through;

        assert_true(persistence_lost(f->p, &through));
        assert_int_equal(through, ENTRIES);
        assert_int_equal(persistence_last_index(f->p), index);
        for (uint64_t i = 1; i <= index; i++)
                check_mark(f, i);
}

TEST(a_cut_that_was_ordered, is_made_once_wherever_it_falls_G12_G22)
{
        for (uint64_t index = 1; index <= ENTRIES; index += index + 4 < ENTRIES ? 3 : 1) {
                struct gate gate = {.may = true};
                char store_path[256];
                struct names kept;
                struct fixture f;
                struct copies c;

                make_distrusted(&f, 200 + index, &gate, index, &c);
                fixture_open(&f);
                check_cut(&f, index);
                snprintf(store_path, sizeof store_path, "%.200s", persistence_store_path(f.p));
                list(&f, store_path, "quarantine", &kept);
                assert_true(index == ENTRIES || kept.kept > 0);
                fetch_the_rest(&f, &c);
                /* Before all is found: what was fetched stays. */
                fixture_close(&f);
                fixture_open(&f);
                check_cut(&f, ENTRIES);
                fixture_commit(&f, ENTRIES);
                fixture_settle(&f);
                assert_int_equal(persistence_lost_found(f.p), 0);
                check_all(&f);
                free_copies(&c);
                fixture_fini(&f);
        }
}

TEST(a_crash, at_any_step_of_an_ordered_cut_leaves_the_order_or_the_cut_G22)
{
        unsigned crashes = 0;

        for (unsigned kind = 0; kind < 3; kind++) {
                for (uint64_t at = 1, is_done = 0; !is_done; at++) {
                        struct os_sim_faults faults = {.write_fails_at = kind == 0 ? at : 0,
                                .sync_fails_at = kind == 1 ? at : 0,
                                .dir_sync_fails_at = kind == 2 ? at : 0};
                        struct gate gate = {.may = true};
                        struct fixture f;
                        struct copies c;
                        int r;

                        make_distrusted(&f, 300 + at, &gate, ENTRIES / 3, &c);
                        os_sim_set_faults(f.os, &faults);
                        r = fixture_try_open(&f);
                        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                        assert_true(r <= 0);
                        is_done = r == 0;
                        crashes += r != 0;
                        os_sim_crash(f.os);
                        f.p = NULL;
                        fixture_open(&f);
                        check_cut(&f, ENTRIES / 3);
                        fetch_the_rest(&f, &c);
                        fixture_close(&f);
                        fixture_open(&f);
                        check_cut(&f, ENTRIES);
                        free_copies(&c);
                        fixture_fini(&f);
                }
        }
        assert_true(crashes > 5);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(a_damaged_end, refuses_the_start_of_who_has_the_only_copy_and_changes_nothing_G13),
                TEST_ROW(a_damaged_end, is_cut_set_aside_and_marked_until_it_is_there_again_G12_G13),
                TEST_ROW(a_crash, at_any_step_of_the_cut_leaves_the_damage_or_the_mark_G13),
                TEST_ROW(a_cut_that_was_ordered, is_made_once_wherever_it_falls_G12_G22),
                TEST_ROW(a_crash, at_any_step_of_an_ordered_cut_leaves_the_order_or_the_cut_G22),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
