/* A node of three whose log is damaged mends itself from the others (last sentence of G13). */
#include "cluster_support.h"

enum { IN_A_PAYLOAD = 4096 + 200 };

struct segments {
        char names[64][32];
        unsigned count;
};

static int note_segment(void *arg, const char *name, bool is_dir)
{
        struct segments *s = arg;

        (void)is_dir;
        if (strlen(name) == 24 && strcmp(name + 20, ".seg") == 0 && s->count < 64)
                snprintf(s->names[s->count++], 32, "%.31s", name);
        return 0;
}

static int count_segments(void *arg, const char *name, bool is_dir)
{
        (void)is_dir;
        *(unsigned *)arg += strstr(name, ".seg") != NULL;
        return 0;
}

/* `store_path`: of a store that may be closed by now. */
static void segments_of(struct trio *t, const char *store_path, struct segments *s, char directory[256])
{
        *s = (struct segments){0};
        snprintf(directory, 256, "%.200s/log", store_path);
        assert_int_equal(os_dir_list(t->os, directory, note_segment, s), 0);
}

static unsigned count_quarantined(struct trio *t, const char *store_path)
{
        char directory[256];
        unsigned count = 0;
        int r;

        snprintf(directory, sizeof directory, "%.200s/quarantine", store_path);
        r = os_dir_list(t->os, directory, count_segments, &count);
        assert_true(r == 0 || r == OS_NOT_FOUND);
        return count;
}

/* Reads everything, blocking; gives what the read ended with. */
static int read_all(struct member *m, uint64_t *ret_count)
{
        struct store_read_options options = {.limit = UINT64_MAX};
        struct store_reader *r = NULL;
        struct store_read_item item;
        int result = store_reader_open(m->store, &options, &r);

        *ret_count = 0;
        while (!result || result == STORE_READ_YIELD) {
                result = store_reader_next(r, &item);
                if (!result) {
                        assert_int_equal(item.event.position, *ret_count);
                        ++*ret_count;
                }
        }
        store_reader_close(&r);
        return result;
}

static void fill(struct trio *t, struct member *leader, uint64_t first_id, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++)
                assert_int_equal(member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY},
                                         first_id + i, 8000, true)
                                         .verdict,
                        STORE_OK);
        trio_run(t, 5 * 1000 * 1000);
}

static void check_same_logs(struct trio *t)
{
        uint64_t index = persistence_synced_index(store_persistence(t->members[0].store));
        struct record_chain chains[NODES_MAX];

        for (unsigned i = 0; i < t->count; i++) {
                struct persistence_verify verify = {0};
                uint64_t term, problems;

                assert_int_equal(persistence_entry_mark(
                                         store_persistence(t->members[i].store), index, &term, &chains[i]),
                        0);
                assert_memory_equal(&chains[i], &chains[0], sizeof chains[0]);
                assert_int_equal(
                        persistence_verify(store_persistence(t->members[i].store), &verify, &problems), 0);
                assert_int_equal(problems, 0);
        }
}

static void keep_path(const struct member *m, char ret[256])
{
        snprintf(ret, 256, "%s", persistence_store_path(store_persistence(m->store)));
}

TEST(a_sealed_segment, that_is_damaged_is_fetched_from_another_member_G13)
{
        for (unsigned which = 0; which < 2; which++) { /* of a follower, of the leader */
                struct segments segments;
                struct trio t;
                struct member *leader, *m;
                char store_path[256], directory[256], path[512];
                uint64_t count;

                trio_new(&t, 40 + which, 3, 0);
                leader = trio_leader(&t);
                fill(&t, leader, 1, 200);
                m = which ? leader : trio_follower(&t, leader);
                keep_path(m, store_path);
                member_stop(m);
                segments_of(&t, store_path, &segments, directory);
                assert_true(segments.count > 4);
                snprintf(path, sizeof path, "%s/%s", directory, segments.names[2]);
                assert_int_equal(os_sim_flip_bit(t.os, path, IN_A_PAYLOAD * 8), 0);
                member_start(m);
                trio_run(&t, 3 * 1000 * 1000);
                assert_true(store_is_ready(m->store));
                assert_int_equal(read_all(m, &count), STORE_READ_CORRUPT);
                trio_run(&t, 3 * 1000 * 1000);
                assert_int_equal(read_all(m, &count), STORE_READ_END);
                assert_int_equal(count, 201);
                assert_int_equal(count_quarantined(&t, store_path), 1);
                check_same_logs(&t);
                trio_end(&t);
        }
}

TEST(a_range, that_two_members_have_damaged_comes_from_the_third_G13)
{
        struct segments segments;
        struct trio t;
        struct member *leader;
        char store_path[256], directory[256], path[512];
        uint64_t count;

        trio_new(&t, 50, 3, 0);
        leader = trio_leader(&t);
        fill(&t, leader, 1, 200);
        for (unsigned i = 0; i < 2; i++) {
                struct member *m = &t.members[i];

                keep_path(m, store_path);
                member_stop(m);
                segments_of(&t, store_path, &segments, directory);
                snprintf(path, sizeof path, "%s/%s", directory, segments.names[1]);
                assert_int_equal(os_sim_flip_bit(t.os, path, (IN_A_PAYLOAD + i * 9000) * 8), 0);
                member_start(m);
                trio_run(&t, 3 * 1000 * 1000);
        }
        assert_int_equal(read_all(&t.members[0], &count), STORE_READ_CORRUPT);
        assert_int_equal(read_all(&t.members[1], &count), STORE_READ_CORRUPT);
        for (unsigned n = 0; n < 20; n++)
                trio_run(&t, 1000 * 1000);
        assert_int_equal(read_all(&t.members[0], &count), STORE_READ_END);
        assert_int_equal(read_all(&t.members[1], &count), STORE_READ_END);
        check_same_logs(&t);
        trio_end(&t);
}

/* Nobody has a copy: the range stays refused, everything else goes on, and it is mended when somebody is
 * back. */
TEST(a_damaged_range, waits_for_a_member_that_has_it)
{
        struct segments segments;
        struct trio t;
        struct member *m;
        char store_path[256], directory[256], path[512];
        uint64_t count;

        trio_new(&t, 60, 3, 0);
        fill(&t, trio_leader(&t), 1, 100);
        m = trio_follower(&t, trio_leader(&t));
        keep_path(m, store_path);
        member_stop(m);
        segments_of(&t, store_path, &segments, directory);
        snprintf(path, sizeof path, "%s/%s", directory, segments.names[0]);
        assert_int_equal(os_sim_flip_bit(t.os, path, IN_A_PAYLOAD * 8), 0);
        for (unsigned i = 0; i < 3; i++)
                if (t.members[i].store)
                        member_stop(&t.members[i]);
        member_start(m);
        trio_run(&t, 5 * 1000 * 1000);
        assert_true(store_is_ready(m->store)); /* for reads of what it has */
        assert_int_equal(read_all(m, &count), STORE_READ_CORRUPT);
        trio_run(&t, 60 * 1000 * 1000);
        assert_int_equal(read_all(m, &count), STORE_READ_CORRUPT);
        for (unsigned i = 0; i < 3; i++)
                if (!t.members[i].store)
                        member_start(&t.members[i]);
        trio_run(&t, 10 * 1000 * 1000);
        assert_int_equal(read_all(m, &count), STORE_READ_END);
        assert_int_equal(count, 101);
        check_same_logs(&t);
        trio_end(&t);
}

/* ---- the unsealed end ---- */

enum tail_damage {
        EARLY_IN_THE_LAST,
        HEADER_OF_THE_LAST,
        LAST_IS_GONE,
        HEADER_OF_A_SEALED,
        BOTH_FILES_OF_A_SEALED,
        TAIL_DAMAGES
};

static void damage_end(struct trio *t, const char *store_path, enum tail_damage what)
{
        struct segments segments;
        char directory[256], path[512];
        const char *last;

        segments_of(t, store_path, &segments, directory);
        assert_true(segments.count > 1);
        last = segments.names[segments.count - 1];
        if (what >= HEADER_OF_A_SEALED)
                last = segments.names[1];
        snprintf(path, sizeof path, "%s/%s", directory, last);
        switch (what) {
        case EARLY_IN_THE_LAST:
                assert_int_equal(os_sim_flip_bit(t->os, path, IN_A_PAYLOAD * 8), 0);
                break;
        case HEADER_OF_THE_LAST:
        case HEADER_OF_A_SEALED:
                assert_int_equal(os_sim_flip_bit(t->os, path, 100), 0);
                break;
        case BOTH_FILES_OF_A_SEALED:
                assert_int_equal(os_sim_flip_bit(t->os, path, IN_A_PAYLOAD * 8), 0);
                memcpy(strrchr(path, '.'), ".idx", 5);
                assert_int_equal(os_sim_flip_bit(t->os, path, 100), 0);
                break;
        default:
                assert_int_equal(os_remove(t->os, path), 0);
                break;
        }
}

static bool has_mark(struct trio *t, const char *store_path)
{
        struct buffer content = {0};
        char path[256];
        int r;

        snprintf(path, sizeof path, "%.200s/lost.json", store_path);
        r = os_read_whole(t->os, path, MIB, &content);
        buffer_fini(&content);
        return r == 0;
}

TEST(a_damaged_end, is_cut_off_and_fetched_from_the_others_G13)
{
        for (enum tail_damage what = 0; what < TAIL_DAMAGES; what++) {
                for (unsigned which = 0; which < 2; which++) {
                        struct trio t;
                        struct member *leader, *m;
                        char store_path[256];
                        uint64_t count;

                        trio_new(&t, 70 + what, 3, 0);
                        leader = trio_leader(&t);
                        fill(&t, leader, 1, 110);
                        m = which ? leader : trio_follower(&t, leader);
                        keep_path(m, store_path);
                        member_stop(m);
                        damage_end(&t, store_path, what);
                        member_start(m);
                        trio_run(&t, 5 * 1000 * 1000);
                        assert_true(store_is_ready(m->store));
                        assert_false(has_mark(&t, store_path));
                        if (what != LAST_IS_GONE)
                                assert_true(count_quarantined(&t, store_path) > 0);
                        leader = trio_leader(&t);
                        assert_int_equal(member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY},
                                                 1000, 100, true)
                                                 .verdict,
                                STORE_OK);
                        trio_run(&t, 1000 * 1000);
                        assert_int_equal(read_all(m, &count), STORE_READ_END);
                        assert_int_equal(count, 112);
                        check_same_logs(&t);
                        trio_end(&t);
                }
        }
}

static unsigned count_leaders(struct trio *t)
{
        unsigned n = 0;

        for (unsigned i = 0; i < t->count; i++)
                n += t->members[i].store && store_is_leading(t->members[i].store);
        return n;
}

static void set_cut(struct trio *t, unsigned node, bool is_cut)
{
        for (unsigned i = 0; i < t->count; i++)
                t->is_cut[node][i] = t->is_cut[i][node] = is_cut;
}

/* Two of three have what was acknowledged; one of these forgets it by damage. With the third it would be a
 * majority that never heard of it. */
TEST(a_node_with_a_damaged_end, helps_to_elect_nobody_before_it_is_mended_G2_G13)
{
        for (unsigned restarts = 0; restarts < 3; restarts++) {
                struct trio t;
                struct member *leader, *damaged, *without = NULL;
                char store_path[256];
                uint64_t count;

                trio_new(&t, 90 + restarts, 3, 0);
                leader = trio_leader(&t);
                fill(&t, leader, 1, 50);
                damaged = trio_follower(&t, leader);
                for (unsigned i = 0; i < 3; i++)
                        if (&t.members[i] != leader && &t.members[i] != damaged)
                                without = &t.members[i];
                set_cut(&t, (unsigned)(without->node_id - 1), true);
                fill(&t, leader, 500, 10);
                keep_path(damaged, store_path);
                member_stop(damaged);
                member_stop(leader);
                /* All that stands in the last segment: what only these two have. */
                damage_end(&t, store_path, EARLY_IN_THE_LAST);
                set_cut(&t, (unsigned)(without->node_id - 1), false);
                member_start(damaged);
                for (unsigned n = 0; n < 20; n++) {
                        trio_run(&t, 1000 * 1000);
                        assert_int_equal(count_leaders(&t), 0);
                        if (n < restarts * 5 && n % 5 == 4) { /* the mark outlives restarts */
                                assert_true(has_mark(&t, store_path));
                                member_stop(damaged);
                                member_start(damaged);
                        }
                }
                assert_true(has_mark(&t, store_path));
                assert_false(store_is_ready(damaged->store));
                member_start(leader);
                trio_run(&t, 5 * 1000 * 1000);
                assert_int_equal(count_leaders(&t), 1);
                assert_false(has_mark(&t, store_path));
                for (unsigned i = 0; i < 3; i++) {
                        assert_int_equal(read_all(&t.members[i], &count), STORE_READ_END);
                        assert_int_equal(count, 61);
                }
                check_same_logs(&t);
                /* And it counts again: the two without the third go on. */
                member_stop(without);
                leader = trio_leader(&t);
                assert_int_equal(
                        member_put(leader, "a", (struct expected){.kind = EXPECTED_ANY}, 1000, 100, true)
                                .verdict,
                        STORE_OK);
                trio_end(&t);
        }
}

/* While it fetches, the others write on. */
TEST(a_node_with_a_damaged_end, is_mended_while_the_others_write)
{
        struct trio t;
        struct member *leader, *m;
        char store_path[256];
        uint64_t count;

        trio_new(&t, 95, 3, 0);
        leader = trio_leader(&t);
        fill(&t, leader, 1, 110);
        m = trio_follower(&t, leader);
        keep_path(m, store_path);
        member_stop(m);
        damage_end(&t, store_path, HEADER_OF_A_SEALED);
        member_start(m);
        for (uint64_t i = 0; i < 300; i++)
                assert_int_equal(
                        member_put(leader, "b", (struct expected){.kind = EXPECTED_ANY}, 2000 + i, 500, true)
                                .verdict,
                        STORE_OK);
        trio_run(&t, 3 * 1000 * 1000);
        assert_true(store_is_ready(m->store));
        assert_int_equal(read_all(m, &count), STORE_READ_END);
        assert_int_equal(count, 411);
        check_same_logs(&t);
        trio_end(&t);
}

TEST(a_sole_voter, with_a_damaged_end_does_not_start_G13)
{
        struct trio t;
        struct member *m;
        char store_path[256];

        trio_new(&t, 99, 1, 0);
        m = trio_leader(&t);
        fill(&t, m, 1, 110);
        keep_path(m, store_path);
        member_stop(m);
        damage_end(&t, store_path, EARLY_IN_THE_LAST);
        member_start(m);
        trio_run(&t, 3 * 1000 * 1000);
        assert_true(m->has_opened);
        assert_int_equal(m->open_result, PERSISTENCE_CORRUPT);
        assert_false(has_mark(&t, store_path));
        assert_int_equal(count_quarantined(&t, store_path), 0);
        trio_end(&t);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(a_sealed_segment, that_is_damaged_is_fetched_from_another_member_G13),
                TEST_ROW(a_range, that_two_members_have_damaged_comes_from_the_third_G13),
                TEST_ROW(a_damaged_range, waits_for_a_member_that_has_it),
                TEST_ROW(a_damaged_end, is_cut_off_and_fetched_from_the_others_G13),
                TEST_ROW(a_node_with_a_damaged_end, helps_to_elect_nobody_before_it_is_mended_G2_G13),
                TEST_ROW(a_node_with_a_damaged_end, is_mended_while_the_others_write),
                TEST_ROW(a_sole_voter, with_a_damaged_end_does_not_start_G13),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
