/* Opening, closing, restarts, sealing, and disks that fail, fill up, lie or lose (G1 to G4, G12 to G16, G19).
 */
#include "support.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0"; /* a crash gives no memory back */
}

enum { EVERY_PHASE = 1u << SUBSYSTEM_PERSISTENCE | 1u << SUBSYSTEM_CLUSTER | 1u << SUBSYSTEM_STORE };

/* ---- opening and closing ---- */

TEST(open, tells_its_phases_and_a_new_store_begins_with_an_event_of_its_own)
{
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 1);
        assert_int_equal(f.phases, EVERY_PHASE);
        assert_string_equal(store_name(f.store), "default");
        rows = read_everything(&f);
        assert_int_equal(rows->count, 1);
        assert_string_equal(rows->row[0].stream, "$nilo-store");
        fixture_reopen(&f);
        assert_int_equal(f.phases, EVERY_PHASE);
        assert_int_equal(store_next_position(f.store), 1);
        fixture_fini(&f);
}

TEST(open, on_the_loop_is_the_same)
{
        struct fixture f;

        fixture_init(&f, 2);
        f.options.open_on_loop = true;
        fixture_open(&f);
        assert_int_equal(put(&f, "order-1", NONE, 1, 1).verdict, STORE_OK);
        fixture_reopen(&f);
        assert_int_equal(read_stream(&f, "order-1")->count, 1);
        fixture_fini(&f);
}

TEST(open, of_what_must_exist_and_does_not_says_so)
{
        struct fixture f;

        fixture_init(&f, 3);
        f.options.must_exist = true;
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_NOT_FOUND);
        assert_true(*f.problem);
        fixture_fini(&f);
}

static void check_close_while_opening(bool on_loop)
{
        for (unsigned steps = 0; steps < 12; steps++) {
                struct control_options control = {
                        .node_name = "test", .log_fd = -1, .log_level = LEVEL_ERROR};
                struct fixture f;

                fixture_init(&f, 4);
                control.os = f.os;
                f.options.open_on_loop = on_loop;
                assert_int_equal(control_open(&control, &f.control), 0);
                assert_int_equal(persistence_node_open(f.os, "/data", false, &f.node), 0);
                f.options.control = f.control;
                f.options.node = f.node;
                assert_int_equal(store_open(&f.options, &f.store), 0);
                for (unsigned i = 0; i < steps; i++)
                        os_sim_step(f.os);
                fixture_close(&f);
                fixture_open(&f);
                assert_int_equal(store_next_position(f.store), 1);
                fixture_fini(&f);
        }
}

TEST(close, at_any_moment_of_the_opening)
{
        check_close_while_opening(false);
        check_close_while_opening(true);
}

TEST(close, answers_what_is_in_flight_and_refuses_the_rest)
{
        static const enum store_sync modes[] = {STORE_SYNC_INLINE, STORE_SYNC_LANE, STORE_SYNC_AUTO};

        for (unsigned m = 0; m < COUNT_OF(modes); m++) {
                struct answer a[8], duplicate, late = {0};
                struct fixture f;
                struct store *store;

                fixture_init(&f, 5);
                f.options.sync = modes[m];
                fixture_open(&f);
                store = f.store;
                for (unsigned i = 0; i < 8; i++)
                        begin(&f, &a[i], "order-1", ANY, 1 + i * 10, 3);
                begin(&f, &duplicate, "order-1", ANY, 1, 3);
                store_close(&f.store, on_closed, &f);
                {
                        struct store_append_stream stream = {
                                .stream = BYTES_LITERAL("order-1"), .expected = {.kind = EXPECTED_ANY}};
                        struct store_append append = {.streams = &stream, .stream_count = 1};

                        late.store = store;
                        store_append(store, &append, on_answer, &late);
                }
                assert_int_equal(late.verdict, STORE_NOT_READY);
                wait_for(&f, &f.is_closed);
                for (unsigned i = 0; i < 8; i++)
                        assert_int_equal(a[i].verdict, STORE_OK);
                assert_true(duplicate.result.is_duplicate);
                f.store = NULL;
                fixture_close(&f);
                fixture_open(&f);
                assert_int_equal(read_stream(&f, "order-1")->count, 24);
                fixture_fini(&f);
        }
}

/* ---- restarts ---- */

static void write_some(struct fixture *f, unsigned round)
{
        for (unsigned i = 0; i < 12; i++) {
                char stream[32];

                snprintf(stream, sizeof(stream), "order-%u", (round + i) % 5);
                assert_int_equal(put(f, stream, ANY, 1 + round * 1000 + i * 10, 1 + i % 7).verdict, STORE_OK);
        }
        if (round == 3)
                assert_int_equal(delete_stream(f, "order-1", ANY, false).verdict, STORE_OK);
        if (round == 6)
                assert_int_equal(delete_stream(f, "order-2", ANY, true).verdict, STORE_OK);
}

TEST(restart, orderly_keeps_every_byte_through_sealing_G12)
{
        struct store_stats stats;
        struct fixture f;

        fixture_init(&f, 6);
        f.options.segment_size = 64 * KIB;
        f.options.segment_events_max = 50;
        fixture_open(&f);
        for (unsigned round = 0; round < 12; round++) {
                uint64_t before, position;

                if (round < 6)
                        write_some(&f, round);
                before = digest(&f);
                position = store_next_position(f.store);
                fixture_reopen(&f);
                assert_int_equal(store_next_position(f.store), position);
                assert_int_equal(digest(&f), before);
        }
        store_stats(f.store, &stats);
        assert_true(stats.persistence.segments > 4);
        fixture_fini(&f);
}

static void check_drop(bool is_power_cut)
{
        struct fixture f;

        fixture_init(&f, 7);
        f.options.segment_events_max = 50;
        fixture_open(&f);
        for (unsigned round = 0; round < 20; round++) {
                struct answer lost;
                uint64_t before, position;

                write_some(&f, round < 2 ? round : 2);
                before = digest(&f);
                position = store_next_position(f.store);
                begin(&f, &lost, "order-4", ANY, 500000 + round, 5);
                if (is_power_cut)
                        os_sim_crash(f.os);
                else
                        os_sim_kill(f.os);
                fixture_drop(&f);
                fixture_open(&f);
                assert_false(lost.is_done);
                /* It had not left the turn: nothing of it was written. */
                assert_int_equal(store_next_position(f.store), position);
                assert_int_equal(digest(&f), before);
        }
        fixture_fini(&f);
}

TEST(restart, after_a_kill_or_a_power_cut_keeps_what_was_acknowledged_G2)
{
        check_drop(false);
        check_drop(true);
}

/* ---- the disk fails (G15) ---- */

TEST(disk_fault, stops_the_store_and_what_is_in_flight_is_unknown_G15)
{
        static const enum store_sync modes[] = {STORE_SYNC_INLINE, STORE_SYNC_LANE};

        for (unsigned m = 0; m < 4; m++) {
                struct os_sim_faults faults = {0};
                struct answer fine, a[3], conflict, late;
                struct fixture f;

                fixture_init(&f, 8);
                f.options.sync = modes[m % 2];
                fixture_open(&f);
                fine = put(&f, "order-1", NONE, 1, 3);
                assert_int_equal(fine.verdict, STORE_OK);
                *(m < 2 ? &faults.sync_fails_at : &faults.write_fails_at) = 1;
                os_sim_set_faults(f.os, &faults);
                for (unsigned i = 0; i < 3; i++)
                        begin(&f, &a[i], "order-1", ANY, 10 + i * 10, 2);
                begin(&f, &conflict, "order-1", NONE, 90, 1);
                wait_for(&f, &conflict.is_done);
                for (unsigned i = 0; i < 3; i++)
                        assert_int_equal(a[i].verdict, STORE_UNKNOWN);
                assert_int_equal(conflict.verdict, STORE_UNKNOWN);
                assert_int_equal(f.disk_faults, 1);
                /* Nothing is tried again, nothing is acknowledged any more; reads go on. */
                begin(&f, &late, "order-1", ANY, 99, 1);
                assert_int_equal(late.verdict, STORE_NOT_READY);
                assert_int_equal(read_stream(&f, "order-1")->count, 3);
                run_for(&f, 3 * 1000 * 1000);
                os_sim_crash(f.os);
                fixture_drop(&f);
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                fixture_open(&f);
                assert_true(read_stream(&f, "order-1")->count >= 3);
                assert_int_equal(
                        read_stream(&f, "order-1")->count % 2, 1); /* each of two: whole or not at all */
                assert_true(put(&f, "order-1", NONE, 1, 3).result.is_duplicate);
                fixture_fini(&f);
        }
}

/* What was gathered behind the write that failed is given up, and the loop comes to rest. */
TEST(disk_fault, leaves_the_loop_asleep_G15)
{
        struct os_sim_faults faults = {.sync_fails_at = 1};
        struct answer written, gathered;
        struct fixture f;
        unsigned steps = 0;

        fixture_init(&f, 15);
        f.options.sync = STORE_SYNC_LANE;
        fixture_open(&f);
        os_sim_set_faults(f.os, &faults);
        begin(&f, &written, "order-1", ANY, 1, 1);
        os_post(f.os, nothing, NULL);
        assert_true(os_sim_step(f.os));
        begin(&f, &gathered, "order-1", ANY, 2, 1);
        wait_for(&f, &gathered.is_done);
        assert_int_equal(written.verdict, STORE_UNKNOWN);
        assert_int_equal(gathered.verdict, STORE_UNKNOWN);
        while (os_sim_step(f.os))
                assert_true(steps++ < 100);
        fixture_fini(&f);
}

TEST(disk_fault, while_it_opens_ends_the_opening)
{
        unsigned failed = 0;

        for (uint64_t n = 1; n < 40; n++) {
                struct os_sim_faults faults = {0};
                struct fixture f;
                int r;

                fixture_init(&f, 9);
                *(n % 2 ? &faults.sync_fails_at : &faults.write_fails_at) = (n + 1) / 2;
                os_sim_set_faults(f.os, &faults);
                r = fixture_try_open(&f);
                failed += r != 0;
                assert_true(r <= 0);
                os_sim_crash(f.os);
                fixture_drop(&f);
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                fixture_open(&f);
                assert_int_equal(store_next_position(f.store), 1);
                fixture_fini(&f);
        }
        assert_true(failed > 10);
}

/* A story with sealing, deletion, restarts; the n-th call of a kind fails. True: one did. */
static bool tell_story(uint64_t n, bool is_sync, enum store_sync mode)
{
        struct os_sim_faults faults = {0};
        uint64_t acknowledged = 0, written;
        bool has_failed = false;
        struct fixture f;

        fixture_init(&f, 100 + n);
        f.options.segment_size = 16 * KIB;
        f.options.segment_events_max = 20;
        f.options.sync = mode;
        *(is_sync ? &faults.sync_fails_at : &faults.write_fails_at) = n;
        fixture_open(&f);
        os_sim_set_faults(f.os, &faults);
        for (unsigned i = 0; i < 25 && !has_failed; i++) {
                struct answer a = put(&f, i % 2 ? "order-1" : "order-2", ANY, 1 + i * 10, 1 + i % 6);

                has_failed = a.verdict != STORE_OK;
                if (!has_failed)
                        acknowledged = a.result.position + 1;
                if (i % 4 == 3)
                        run_for(&f, 1500 * 1000);
                if (i == 12 && !has_failed && f.disk_faults == 0) {
                        a = delete_stream(&f, "order-2", ANY, false);
                        has_failed = a.verdict != STORE_OK;
                        if (!has_failed)
                                acknowledged = a.result.position + 1;
                }
                has_failed |= f.disk_faults > 0;
        }
        assert_true(f.disk_faults <= 1);
        written = store_next_position(f.store);
        os_sim_crash(f.os);
        fixture_drop(&f);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_open(&f);
        assert_true(store_next_position(f.store) >= MAX(acknowledged, written));
        assert_true(read_stream(&f, "order-1")->count > 0 || acknowledged <= 1 + 1);
        digest(&f);
        fixture_fini(&f);
        return has_failed;
}

TEST(countdown, every_write_and_every_sync_fails_once_G15)
{
        for (unsigned kind = 0; kind < 4; kind++) {
                enum store_sync mode = kind % 2 ? STORE_SYNC_LANE : STORE_SYNC_INLINE;
                unsigned in_a_row = 0;
                uint64_t n;

                /* Calls of the background may fail without harm, so a few in a row without a fault end it. */
                for (n = 1; in_a_row < 8; n++)
                        in_a_row = tell_story(n, kind < 2, mode) ? 0 : in_a_row + 1;
                assert_true(n > 25);
        }
}

/* ---- full disks (G16) ---- */

TEST(full_disk, refuses_appends_before_the_log_reads_go_on_and_it_recovers_G16)
{
        struct os_sim_faults faults = {.free_bytes = 100 * KIB};
        struct store_stats stats;
        struct fixture f;
        struct answer a;
        uint64_t before;

        fixture_init(&f, 10);
        f.options.space_reserve = 256 * KIB;
        fixture_open(&f);
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        os_sim_set_faults(f.os, &faults);
        run_for(&f, 3 * 1000 * 1000);
        for (unsigned i = 0; i < 3; i++) {
                before = store_next_position(f.store);
                a = put(&f, "order-1", EXACT(2), 10, 1);
                assert_int_equal(a.verdict, STORE_FULL);
                assert_true(a.was_at_once);
                assert_int_equal(delete_stream(&f, "order-1", ANY, true).verdict, STORE_FULL);
                assert_int_equal(store_next_position(f.store), before);
                assert_int_equal(read_stream(&f, "order-1")->count, 3);
                /* What writes nothing needs no room. */
                assert_true(put(&f, "order-1", NONE, 1, 3).result.is_duplicate);
                assert_int_equal(put(&f, "order-1", EXACT(7), 11, 1).verdict, STORE_CONFLICT);
                /* A restart on a full disk is a restart (the second time). */
                if (i == 1)
                        fixture_reopen(&f);
        }
        store_stats(f.store, &stats);
        assert_true(stats.persistence.is_full);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        run_for(&f, 3 * 1000 * 1000);
        a = put(&f, "order-1", EXACT(2), 10, 1);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(f.disk_faults, 0);
        fixture_fini(&f);
}

/* ---- the clock (G19) ---- */

TEST(clock, jumps_change_times_only_and_never_backwards_G19)
{
        static const int64_t jumps[] = {-86400, 86400, -315360000, 315360000, -1, -1000000, 630720000, 0};
        struct fixture f;
        struct rows *rows;
        uint64_t last = 0;

        fixture_new(&f, 11);
        for (unsigned i = 0; i < COUNT_OF(jumps); i++) {
                os_sim_shift_wall(f.os, jumps[i] * 1000 * 1000);
                assert_int_equal(put(&f, "order-1", ANY, 1 + i, 1).verdict, STORE_OK);
                if (i % 3 == 2)
                        fixture_reopen(&f);
        }
        rows = read_everything(&f);
        assert_int_equal(rows->count, COUNT_OF(jumps) + 1);
        for (unsigned i = 0; i < rows->count; i++) {
                assert_true(rows->row[i].time_us >= last);
                last = rows->row[i].time_us;
        }
        fixture_fini(&f);
}

/* ---- damage (G13, G14) ---- */

TEST(damage, in_a_sealed_segment_refuses_that_range_and_all_else_goes_on_G13)
{
        char path[256];
        struct fixture f;
        struct answer a;
        struct rows *rows;
        unsigned readable;
        struct store_read_options from_end = {.is_backward = true, .from = FROM_END, .limit = 20};

        fixture_init(&f, 12);
        f.options.segment_events_max = 50;
        fixture_open(&f);
        for (unsigned i = 0; i < 40; i++)
                assert_int_equal(put(&f, i < 12 ? "early" : "late", ANY, 1 + i * 10, 5).verdict, STORE_OK);
        run_for(&f, 3 * 1000 * 1000);
        snprintf(path, sizeof(path), "%s/log/00000000000000000001.seg",
                persistence_store_path(store_persistence(f.store)));
        fixture_close(&f);
        assert_int_equal(os_sim_flip_bit(f.os, path, (4096 + 1500) * 8 + 3), 0);
        fixture_open(&f);
        rows = read_stream(&f, "early");
        assert_int_equal(rows->end, STORE_READ_CORRUPT);
        readable = rows->count;
        assert_true(readable > 0);
        for (unsigned i = 0; i < readable; i++)
                assert_int_equal(rows->row[i].revision, i);
        assert_int_equal(read_stream(&f, "late")->end, STORE_READ_END);
        assert_int_equal(read_stream(&f, "late")->count, 140);
        assert_int_equal(read_rows(&f, from_end)->count, 20);
        a = put(&f, "late", EXACT(139), 5000, 3);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(put(&f, "new", NONE, 6000, 1).verdict, STORE_OK);
        /* What would have to read the damage is refused, never guessed. */
        assert_int_equal(put(&f, "early", EXACT(readable), 7000, 1).verdict, STORE_CORRUPT);
        assert_int_equal(put(&f, "early", NONE, 7001, 1).verdict, STORE_CONFLICT);
        fixture_fini(&f);
}

/* ---- group commit ---- */

TEST(sync, by_the_loop_and_by_the_lane_give_the_same_log)
{
        static const enum store_sync modes[] = {STORE_SYNC_INLINE, STORE_SYNC_LANE, STORE_SYNC_AUTO};
        uint64_t position = 0;

        for (unsigned m = 0; m < COUNT_OF(modes); m++) {
                static struct answer a[200];
                struct store_stats stats;
                struct fixture f;

                fixture_init(&f, 13);
                f.options.sync = modes[m];
                fixture_open(&f);
                for (unsigned round = 0; round < 3; round++) {
                        for (unsigned i = 0; i < COUNT_OF(a); i++)
                                begin(&f, &a[i], i % 2 ? "order-1" : "order-2", ANY,
                                        1 + round * 100000 + i * 100, 1 + i % 9);
                        for (unsigned i = 0; i < COUNT_OF(a); i++) {
                                if (!a[i].is_done)
                                        wait_for(&f, &a[i].is_done);
                                assert_int_equal(a[i].verdict, STORE_OK);
                        }
                }
                store_stats(f.store, &stats);
                assert_int_equal(stats.appends, 3 * COUNT_OF(a) + 1);
                assert_true(stats.groups <= 12); /* 200 appends of a turn are one */
                if (modes[m] == STORE_SYNC_INLINE)
                        assert_int_equal(stats.groups_on_lane, 0);
                else
                        assert_true(stats.groups_on_lane > 0);
                if (m == 0)
                        position = store_next_position(f.store);
                assert_int_equal(store_next_position(f.store), position);
                digest(&f);
                fixture_fini(&f);
        }
}

/* ---- facts ---- */

static void on_facts(struct control_watcher *watcher)
{
        (void)watcher;
}

TEST(write, has_its_chain_of_facts_and_is_never_acknowledged_before_it_is_persisted_G1)
{
        static const enum fact_type chain[] = {FACT_write_command_validated, FACT_persistence_write_started,
                FACT_events_persisted, FACT_write_acknowledged};
        struct control_watcher watcher = {.on_facts = on_facts, .categories = ~0u, .level = LEVEL_TRACE};
        unsigned next = 0, rejected = 0;
        uint64_t missed, write_id;
        struct fixture f;
        struct draft d = {0};
        struct fact fact;
        struct answer a;

        fixture_new(&f, 14);
        control_watch(f.control, &watcher, false);
        draft_stream(&d, "order-1", NONE);
        draft_event(&d, 0, 1);
        draft_event(&d, 0, 2);
        draft_begin(&f, &d, &a);
        write_id = d.append.write_id;
        wait_for(&f, &a.is_done);
        while (control_take(&watcher, &fact, &missed)) {
                if (fact.payload.write_id != write_id)
                        continue;
                assert_true(next < COUNT_OF(chain));
                assert_int_equal(fact.type, chain[next++]);
                if (fact.type == FACT_events_persisted) {
                        assert_int_equal(fact.payload.count, 2);
                        assert_int_equal(fact.payload.position, a.result.first_position);
                        assert_int_equal(fact.payload.revision, 1);
                }
        }
        assert_int_equal(next, COUNT_OF(chain));
        d = (struct draft){0};
        draft_stream(&d, "order-1", NONE);
        draft_event(&d, 0, 3);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        while (control_take(&watcher, &fact, &missed)) {
                if (fact.payload.write_id != d.append.write_id)
                        continue;
                assert_int_equal(fact.type, FACT_write_rejected);
                rejected++;
        }
        assert_int_equal(rejected, 1);
        control_unwatch(&watcher);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(open, tells_its_phases_and_a_new_store_begins_with_an_event_of_its_own),
                TEST_ROW(open, on_the_loop_is_the_same),
                TEST_ROW(open, of_what_must_exist_and_does_not_says_so),
                TEST_ROW(close, answers_what_is_in_flight_and_refuses_the_rest),
                TEST_ROW(restart, orderly_keeps_every_byte_through_sealing_G12),
                TEST_ROW(sync, by_the_loop_and_by_the_lane_give_the_same_log),
                TEST_ROW(write, has_its_chain_of_facts_and_is_never_acknowledged_before_it_is_persisted_G1),
        };
        /* What only the simulated machine can do. */
        static const struct CMUnitTest simulated[] = {
                TEST_ROW(close, at_any_moment_of_the_opening),
                TEST_ROW(restart, after_a_kill_or_a_power_cut_keeps_what_was_acknowledged_G2),
                TEST_ROW(disk_fault, stops_the_store_and_what_is_in_flight_is_unknown_G15),
                TEST_ROW(disk_fault, leaves_the_loop_asleep_G15),
                TEST_ROW(disk_fault, while_it_opens_ends_the_opening),
                TEST_ROW(countdown, every_write_and_every_sync_fails_once_G15),
                TEST_ROW(full_disk, refuses_appends_before_the_log_reads_go_on_and_it_recovers_G16),
                TEST_ROW(clock, jumps_change_times_only_and_never_backwards_G19),
                TEST_ROW(damage, in_a_sealed_segment_refuses_that_range_and_all_else_goes_on_G13),
        };
        int failed = RUN_ON(MACHINE_SIM, tests);

        failed += RUN_ON(MACHINE_SIM, simulated);
        failed += RUN_ON(MACHINE_MEMORY, tests);
        return failed;
}
