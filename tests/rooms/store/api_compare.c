/* Histories are compared (G22): a node whose log was changed so that every sum in it is right is found by the
 * others' chain hashes, wherever it differs and whoever leads, sets its history aside and fetches that of the
 * majority; where no majority agrees nothing is changed. And a healthy cluster has no false alarm. */
#include "cluster_support.h"

enum { COMPARE_US = 1000 * 1000, ENTRIES_MAX = 2048 };

/* ---- a log that was changed, with sums that are right ---- */

struct copies {
        struct persistence_entry entries[ENTRIES_MAX];
        struct buffer payloads[ENTRIES_MAX];
        uint64_t count;
        bool is_done;
};

static void on_copied(void *arg, int result, const struct persistence_entries *run)
{
        struct copies *c = arg;

        assert_int_equal(result, 0);
        for (unsigned i = 0; i < run->count; i++) {
                assert_true(c->count < ENTRIES_MAX);
                c->payloads[c->count] = (struct buffer){0};
                buffer_add_bytes(&c->payloads[c->count], run->entries[i].payload);
                c->entries[c->count] = run->entries[i];
                c->entries[c->count].payload = buffer_bytes(&c->payloads[c->count]);
                c->count++;
        }
        c->is_done = true;
}

static void copy_log(struct os *os, struct persistence *p, struct copies *c)
{
        c->count = 0;
        while (c->count < persistence_last_index(p)) {
                c->is_done = false;
                persistence_fetch(p, c->count + 1, persistence_last_index(p), MIB, on_copied, c);
                while (!c->is_done)
                        assert_true(os_sim_step(os));
        }
}

static void on_written(void *arg, int result)
{
        (void)arg;
        assert_int_equal(result, 0);
}

static struct persistence *open_log(
        struct member *m, const char *directory, struct persistence_node **ret_node)
{
        struct persistence_identity identity = {.node_id = m->node_id};
        struct persistence_options options = {.os = m->trio->os,
                .store_name = "default",
                .segment_size = m->options.segment_size,
                .store_uuid = STORE_UUID,
                .epoch = 1};
        struct persistence *p;

        memcpy(identity.cluster_uuid, CLUSTER_UUID, 16);
        assert_int_equal(persistence_node_open(m->trio->os, directory, false, ret_node), 0);
        if (!persistence_node_has_stores(*ret_node))
                assert_int_equal(persistence_node_adopt(*ret_node, &identity), 0);
        options.node = *ret_node;
        assert_int_equal(persistence_open(&options, &p), 0);
        persistence_start(p);
        return p;
}

/* The member, which is down, gets a directory whose log differs from the first entry of events at or behind
 * `index` on, in `bit` of it: sums, chain, index files, vote, all of it is right. Gives the index of that
 * entry. */
static uint64_t rewrite(struct member *m, uint64_t index, unsigned bit)
{
        struct copies *c = MEMORY_NEW(struct copies);
        struct persistence_node *node;
        struct persistence *p = open_log(m, m->directory, &node);
        uint64_t term = persistence_recovered(p)->term, voted_for = persistence_recovered(p)->voted_for;

        copy_log(m->trio->os, p, c);
        persistence_close(&p);
        persistence_node_close(&node);
        while (c->entries[index - 1].kind != RECORD_EVENTS)
                index++;
        assert_true(index > 0 && index <= c->count);
        c->payloads[index - 1].data[c->entries[index - 1].payload.size - 1 - bit / 8] ^=
                (uint8_t)(1u << bit % 8);
        snprintf(m->directory, sizeof m->directory, "/other-%u", (unsigned)m->node_id);
        p = open_log(m, m->directory, &node);
        assert_int_equal(persistence_save_vote(p, term, voted_for), 0);
        for (uint64_t i = 0; i < c->count; i++) {
                persistence_append(p, &c->entries[i]);
                if (i % 16 == 15 || i + 1 == c->count) {
                        persistence_write(p, true, on_written, NULL);
                        /* The last ones stay unsealed, as they were. */
                        persistence_commit(p, MIN(i + 1, c->count - 1));
                }
        }
        trio_run(m->trio, 5 * 1000 * 1000);
        persistence_close(&p);
        persistence_node_close(&node);
        for (uint64_t i = 0; i < c->count; i++)
                buffer_fini(&c->payloads[i]);
        free(c);
        return index;
}

/* ---- nodes that stop, and are started again ---- */

static unsigned stopped; /* bit for each node */
static char last_problem[256];

static void on_wrong_history(void *arg, const char *problem)
{
        struct member *m = arg;

        stopped |= 1u << (m->node_id - 1);
        snprintf(last_problem, sizeof last_problem, "%s", problem);
}

static void compare_trio(struct trio *t, uint64_t seed, unsigned founders, unsigned joiners)
{
        stopped = 0;
        trio_new(t, seed, founders, joiners);
        for (unsigned i = 0; i < t->count; i++) {
                struct member *m = &t->members[i];

                trio_run(t, 10 * 1000);
                member_stop(m);
                m->options.cluster.compare_us = COMPARE_US;
                m->options.on_wrong_history = on_wrong_history;
                member_start(m);
        }
        trio_leader(t);
}

static bool has_stopped(const struct member *m)
{
        return stopped & 1u << (m->node_id - 1);
}

static void start_again(struct member *m)
{
        assert_true(has_stopped(m));
        assert_non_null(strstr(last_problem, "is not that of the majority"));
        stopped &= ~(1u << (m->node_id - 1));
        member_stop(m);
        member_start(m);
}

static uint64_t facts_of(const struct member *m, enum fact_type type)
{
        struct control_stats stats;

        control_stats(m->control, &stats);
        return stats.published_by_type[type];
}

static struct store_cluster_status status_of(const struct member *m)
{
        struct store_cluster_status status;

        store_cluster_status(m->store, &status);
        return status;
}

static void put_some(struct trio *t, uint64_t first_id, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++)
                assert_int_equal(member_put(trio_leader(t), "a", (struct expected){.kind = EXPECTED_ANY},
                                         first_id + i, 8000, true)
                                         .verdict,
                        STORE_OK);
        trio_run(t, 2 * 1000 * 1000);
}

static uint64_t last_index(const struct member *m)
{
        return persistence_synced_index(store_persistence(m->store));
}

static void check_same_logs(struct trio *t)
{
        uint64_t index = last_index(&t->members[0]);
        struct record_chain chain, first = {0};

        for (unsigned i = 0; i < t->count; i++) {
                struct persistence *p = store_persistence(t->members[i].store);
                struct persistence_verify verify = {0};
                uint64_t term, problems;

                assert_int_equal(persistence_entry_mark(p, index, &term, &chain), 0);
                if (i == 0)
                        first = chain;
                assert_memory_equal(&chain, &first, sizeof chain);
                assert_int_equal(persistence_verify(p, &verify, &problems), 0);
                assert_int_equal(problems, 0);
        }
}

TEST(healthy_nodes, agree_and_nobody_is_alarmed_G22)
{
        struct trio t;

        compare_trio(&t, 1, 3, 1);
        for (unsigned n = 0; n < 5; n++) {
                put_some(&t, 1 + n * 20, 20);
                trio_run(&t, 2 * COMPARE_US);
        }
        for (unsigned i = 0; i < t.count; i++) {
                struct store_cluster_status status = status_of(&t.members[i]);

                assert_int_equal(facts_of(&t.members[i], FACT_history_differs), 0);
                assert_int_equal(facts_of(&t.members[i], FACT_history_undecided), 0);
                assert_int_equal(status.comparison.differing, 0);
                if (i == 3) /* it was never added, so it has no log to compare */
                        continue;
                assert_true(status.comparison.rounds >= 5);
                assert_int_equal(status.comparison.agreed_index, status.applied_index);
        }
        assert_int_equal(stopped, 0);
        trio_end(&t);
}

enum { EARLY, IN_THE_MIDDLE, THE_LAST, PLACES };

static void check_mended(struct trio *t, struct member *m, unsigned place)
{
        struct member *other = trio_follower(t, m);
        uint64_t before, at;

        before = last_index(m);
        member_stop(m);
        at = rewrite(m, place == EARLY ? 2 : place == THE_LAST ? before - 3 : before / 2, place);
        member_start(m);
        for (unsigned n = 0; n < 20 && !has_stopped(m); n++)
                trio_run(t, COMPARE_US);
        assert_true(has_stopped(m));
        assert_int_equal(stopped, 1u << (m->node_id - 1)); /* the others go on */
        assert_true(facts_of(m, FACT_history_differs) >= 1);
        assert_true(facts_of(other, FACT_history_differs) >= 1);
        /* Through the last entry that is shared, and no further back. */
        {
                char said[64];

                snprintf(said, sizeof said, "behind entry %llu ", (unsigned long long)at - 1);
                if (!strstr(last_problem, said))
                        print_error("%s; expected %s\n", last_problem, said);
                assert_non_null(strstr(last_problem, said));
        }
        start_again(m);
        put_some(t, 5000 + place * 100, 10);
        for (unsigned n = 0; n < 20 && !store_is_ready(m->store); n++)
                trio_run(t, COMPARE_US);
        trio_run(t, 4 * COMPARE_US);
        assert_true(store_is_ready(m->store));
        assert_int_equal(stopped, 0);
        check_same_logs(t);
        assert_int_equal(status_of(other).comparison.differing, 0);
        assert_true(facts_of(other, FACT_history_agrees) >= 1);
}

TEST(a_history, that_was_changed_with_right_sums_is_found_and_replaced_G2_G22)
{
        for (unsigned place = 0; place < PLACES; place++) {
                struct trio t;

                compare_trio(&t, 10 + place, 3, 0);
                put_some(&t, 1, 120);
                check_mended(&t, trio_follower(&t, trio_leader(&t)), place);
                trio_end(&t);
        }
}

static void on_change(void *arg, enum store_verdict verdict, const char *problem)
{
        (void)problem;
        *(int *)arg = (int)verdict;
}

TEST(the_leader, is_found_as_well_and_leads_no_more_G22)
{
        struct trio t;
        struct member *m, *leader;
        int verdict = -1;

        compare_trio(&t, 20, 3, 0);
        put_some(&t, 1, 60);
        m = trio_follower(&t, trio_leader(&t));
        for (unsigned i = 0; i < 3; i++)
                t.members[i].options.cluster.compare_us = 10 * COMPARE_US;
        for (unsigned i = 0; i < 3; i++)
                member_stop(&t.members[i]);
        rewrite(m, 30, 0);
        for (unsigned i = 0; i < 3; i++)
                member_start(&t.members[i]);
        leader = trio_leader(&t);
        if (leader != m) {
                store_change_members(leader->store, STORE_TRANSFER, m->node_id, NULL,
                        os_monotonic_us(t.os) + 5 * COMPARE_US, on_change, &verdict);
                for (unsigned n = 0; n < 5000 && verdict < 0; n++)
                        trio_run(&t, 1000);
                assert_int_equal(verdict, STORE_OK);
        }
        assert_ptr_equal(trio_leader(&t), m);
        for (unsigned n = 0; n < 40 && !has_stopped(m); n++)
                trio_run(&t, COMPARE_US);
        assert_int_equal(stopped, 1u << (m->node_id - 1));
        assert_true(facts_of(m, FACT_history_differs) >= 1);
        start_again(m);
        trio_run(&t, 5 * COMPARE_US);
        assert_true(store_is_ready(m->store));
        put_some(&t, 9000, 5);
        check_same_logs(&t);
        trio_end(&t);
}

/* Each of the three has a history of its own: nobody can tell, nobody is stopped, everybody says so. */
TEST(three_histories, are_reported_and_nothing_is_changed_G22)
{
        struct trio t;

        compare_trio(&t, 30, 3, 0);
        put_some(&t, 1, 40);
        for (unsigned i = 0; i < 2; i++)
                member_stop(&t.members[i]);
        for (unsigned i = 0; i < 2; i++)
                rewrite(&t.members[i], 20, 8 * i);
        for (unsigned i = 0; i < 2; i++)
                member_start(&t.members[i]);
        trio_run(&t, 10 * COMPARE_US);
        assert_int_equal(stopped, 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_true(facts_of(&t.members[i], FACT_history_undecided) >= 1);
                assert_int_equal(facts_of(&t.members[i], FACT_history_differs), 0);
                assert_true(status_of(&t.members[i]).comparison.is_undecided);
        }
        put_some(&t, 9000, 5);
        trio_end(&t);
}

/* Two of three, of which one was changed: it takes the third to know which. */
TEST(two_histories, wait_for_the_third_node_to_be_decided_G22)
{
        struct trio t;
        struct member *m, *away;

        compare_trio(&t, 40, 3, 0);
        put_some(&t, 1, 40);
        m = &t.members[0];
        away = &t.members[2];
        member_stop(away);
        member_stop(m);
        rewrite(m, 20, 0);
        member_start(m);
        trio_run(&t, 10 * COMPARE_US);
        assert_int_equal(stopped, 0);
        assert_true(facts_of(m, FACT_history_undecided) >= 1);
        assert_true(facts_of(&t.members[1], FACT_history_undecided) >= 1);
        member_start(away);
        trio_run(&t, 10 * COMPARE_US);
        assert_int_equal(stopped, 1);
        start_again(m);
        trio_run(&t, 10 * COMPARE_US);
        assert_int_equal(stopped, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_false(status_of(&t.members[i]).comparison.is_undecided);
        check_same_logs(&t);
        trio_end(&t);
}

/* What makes no sense, or was never asked for, is dropped. */
TEST(questions_and_answers, of_any_size_and_content_do_no_harm_G17)
{
        enum { MARK_ASK = 9, MARK = 10, SIZE_MAX_SENT = 64 };
        uint8_t bytes[SIZE_MAX_SENT];
        struct trio t;

        compare_trio(&t, 45, 3, 0);
        put_some(&t, 1, 10);
        for (unsigned round = 0; round < 50; round++) {
                for (unsigned i = 0; i < sizeof bytes; i++)
                        bytes[i] = (uint8_t)(round % 3 ? os_sim_choose(t.os, 256) : i % 8 ? 0 : 5);
                for (size_t size = 0; size <= sizeof bytes; size++) {
                        struct member *m = &t.members[round % 3];

                        store_receive(
                                m->store, 1 + round % 5, STORE_LINK_CONTROL, MARK_ASK, bytes_of(bytes, size));
                        store_receive(
                                m->store, 1 + round % 5, STORE_LINK_CONTROL, MARK, bytes_of(bytes, size));
                }
                trio_run(&t, 10 * 1000);
        }
        trio_run(&t, 5 * COMPARE_US);
        assert_int_equal(stopped, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(status_of(&t.members[i]).comparison.differing, 0);
        check_same_logs(&t);
        trio_end(&t);
}

/* While it fetches, it says so, and how far it is. */
TEST(a_node_that_mends_its_end, says_how_far_it_is_G13)
{
        struct store_cluster_status status;
        uint64_t seen = 0, told = 0;
        struct trio t;
        struct member *m;

        compare_trio(&t, 50, 3, 0);
        put_some(&t, 1, 150);
        m = trio_follower(&t, trio_leader(&t));
        assert_int_equal(status_of(m).mending.kind, STORE_WHOLE);
        member_stop(m);
        rewrite(m, 20, 0);
        member_start(m);
        for (unsigned n = 0; n < 20 && !has_stopped(m); n++)
                trio_run(&t, COMPARE_US);
        t.delay_us = 50 * 1000;
        start_again(m);
        for (unsigned n = 0; n < 2000 && !store_is_ready(m->store); n++) {
                trio_run(&t, 5000);
                if (!store_persistence(m->store))
                        continue;
                status = status_of(m);
                if (status.mending.kind != STORE_MENDING_END)
                        continue;
                seen++;
                assert_int_equal(status.mending.first_index, 20);
                assert_true(status.mending.next_index >= told);
                told = status.mending.next_index;
                assert_true(status.mending.last_index == 0 ||
                            status.mending.next_index <= status.mending.last_index + 1);
        }
        assert_true(seen > 2);
        assert_true(told > 20);
        assert_int_equal(status_of(m).mending.kind, STORE_WHOLE);
        trio_end(&t);
}

/* ---- the scrub, among other nodes ---- */

static int note_segment(void *arg, const char *name, bool is_dir)
{
        char(*names)[64] = arg;
        unsigned n = 0;

        (void)is_dir;
        while (n < 32 && *names[n])
                n++;
        if (n < 32 && strlen(name) == 24 && strcmp(name + 20, ".seg") == 0)
                snprintf(names[n], 64, "%.63s", name);
        return 0;
}

TEST(damage_that_nobody_reads, is_found_by_the_scrub_and_mended_from_another_node_G13_G22)
{
        char names[32][64] = {{0}}, directory[256], path[512];
        struct persistence_range range;
        struct store_stats stats;
        struct trio t;
        struct member *m;

        trio_new(&t, 60, 3, 0);
        put_some(&t, 1, 150);
        m = trio_follower(&t, trio_leader(&t));
        member_stop(m);
        m->options.scrub_us = (uint64_t)3600 * 1000 * 1000;
        member_start(m);
        trio_run(&t, COMPARE_US);
        snprintf(directory, sizeof directory, "%.200s/log",
                persistence_store_path(store_persistence(m->store)));
        assert_int_equal(os_dir_list(t.os, directory, note_segment, names), 0);
        assert_true(*names[2]);
        snprintf(path, sizeof path, "%s/%s", directory, names[1]);
        assert_int_equal(os_sim_flip_bit(t.os, path, (uint64_t)5000 * 8), 0);
        for (unsigned n = 0; n < 120; n++)
                trio_run(&t, 30 * COMPARE_US);
        store_stats(m->store, &stats);
        assert_true(stats.persistence.scrub.passes >= 1);
        assert_int_equal(stats.persistence.scrub.found_total, 1);
        assert_int_equal(facts_of(m, FACT_corruption_repaired), 1);
        assert_false(persistence_damaged(store_persistence(m->store), &range));
        check_same_logs(&t);
        trio_end(&t);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(healthy_nodes, agree_and_nobody_is_alarmed_G22),
                TEST_ROW(a_history, that_was_changed_with_right_sums_is_found_and_replaced_G2_G22),
                TEST_ROW(the_leader, is_found_as_well_and_leads_no_more_G22),
                TEST_ROW(three_histories, are_reported_and_nothing_is_changed_G22),
                TEST_ROW(two_histories, wait_for_the_third_node_to_be_decided_G22),
                TEST_ROW(questions_and_answers, of_any_size_and_content_do_no_harm_G17),
                TEST_ROW(a_node_that_mends_its_end, says_how_far_it_is_G13),
                TEST_ROW(
                        damage_that_nobody_reads, is_found_by_the_scrub_and_mended_from_another_node_G13_G22),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
