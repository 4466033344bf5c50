/* Soft delete, revival, tombstone, metadata and its limits (protocol 3.4, 3.5). */
#include "support.h"

TEST(soft_delete, hides_the_stream_and_is_an_event_of_its_metastream)
{
        struct fixture f;
        struct answer a;
        struct rows *rows;

        fixture_new(&f, 1);
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        assert_int_equal(
                put_metadata(&f, "$$order-1", ANY, 5, "{\"$acl\":{\"$r\":\"ops\"}}").verdict, STORE_OK);
        a = delete_stream(&f, "order-1", EXACT(2), false);
        assert_int_equal(a.verdict, STORE_OK);
        assert_true(a.result.has_position);
        assert_int_equal(a.result.position + 1, store_next_position(f.store));
        assert_int_equal(a.streams[0].revision, 2);
        assert_int_equal(read_stream(&f, "order-1")->end, STORE_READ_NOT_FOUND);
        rows = read_stream(&f, "$$order-1");
        assert_int_equal(rows->count, 1);
        assert_int_equal(rows->row[0].revision, 1);
        assert_string_equal(rows->row[0].type, "$metadata");
        assert_string_equal(rows->row[0].data, "{\"$tb\":9223372036854775807}");
        assert_int_equal(info_of(&f, "order-1").state, STREAM_SOFT_DELETED);
        assert_int_equal(info_of(&f, "order-1").last_revision, 2);
        /* Everything still shows it. */
        assert_int_equal(read_everything(&f)->count, a.result.position + 1);
        fixture_fini(&f);
}

static void check_revival(bool is_reopened, bool by_metadata)
{
        struct stream_metadata m;
        struct fixture f;
        struct answer a;
        struct rows *rows;

        fixture_new(&f, 2);
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        /* Whoever deletes by metadata may keep other keys; they outlive the revival. */
        assert_int_equal(put_metadata(&f, "$$order-1", ANY, 5,
                                 "{\"$tb\":9223372036854775807,\"$maxCount\":7,\"mine\":1}")
                                 .verdict,
                STORE_OK);
        assert_int_equal(read_stream(&f, "order-1")->end, STORE_READ_NOT_FOUND);
        if (is_reopened)
                fixture_reopen(&f);
        if (by_metadata)
                a = put_metadata(&f, "$$order-1", ANY, 10, "{\"$maxCount\":9}");
        else
                a = put(&f, "order-1", EXACT(2), 10, 2);
        assert_int_equal(a.verdict, STORE_OK);
        m = info_of(&f, "order-1").metadata;
        assert_int_equal(m.truncate_before, 3);
        assert_int_equal(m.max_count, by_metadata ? 9 : 7);
        assert_int_equal(info_of(&f, "order-1").state, STREAM_LIVE);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->end, STORE_READ_END);
        assert_int_equal(rows->count, by_metadata ? 0 : 2);
        if (!by_metadata) {
                assert_int_equal(rows->row[0].revision, 3);
                assert_non_null(strstr(read_stream(&f, "$$order-1")->row[0].data, "\"mine\""));
        }
        fixture_reopen(&f);
        assert_int_equal(read_stream(&f, "order-1")->count, by_metadata ? 0 : 2);
        fixture_fini(&f);
}

TEST(revival, by_an_append_keeps_the_other_keys_and_the_numbering)
{
        check_revival(false, false);
        check_revival(true, false);
}

TEST(revival, by_metadata)
{
        check_revival(false, true);
        check_revival(true, true);
}

/* A deletion and what follows it may be in one group. */
TEST(revival, of_a_stream_whose_deletion_is_in_flight)
{
        struct answer write, del, again, exists;
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 3);
        begin(&f, &write, "order-1", NONE, 1, 3);
        begin_delete(&f, &del, "order-1", EXACT(2), false);
        begin(&f, &exists, "order-1", EXISTS, 7, 1);
        begin(&f, &again, "order-1", NONE, 10, 2);
        wait_for(&f, &again.is_done);
        assert_int_equal(write.verdict, STORE_OK);
        assert_int_equal(del.verdict, STORE_OK);
        assert_int_equal(exists.verdict, STORE_STREAM_DELETED);
        assert_true(exists.result.is_soft_deleted);
        assert_int_equal(again.verdict, STORE_OK);
        assert_int_equal(again.streams[0].revision, 4);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->count, 2);
        assert_int_equal(rows->row[0].revision, 3);
        fixture_fini(&f);
}

TEST(delete, checks_what_is_expected)
{
        struct fixture f;
        struct answer a;

        fixture_new(&f, 4);
        /* There is nothing to delete: a conflict whatever is expected. */
        for (unsigned kind = 0; kind < 4; kind++) {
                a = delete_stream(&f, "absent", (struct expected){.kind = (enum expected_kind)kind}, false);
                assert_int_equal(a.verdict, STORE_CONFLICT);
                assert_false(a.streams[0].has_revision);
        }
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        a = delete_stream(&f, "order-1", EXACT(1), false);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.streams[0].revision, 2);
        assert_int_equal(delete_stream(&f, "order-1", NONE, true).verdict, STORE_CONFLICT);
        assert_int_equal(delete_stream(&f, "order-1", EXISTS, false).verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "order-1", ANY, false).verdict, STORE_OK);
        assert_int_equal(put_metadata(&f, "$$order-2", ANY, 8, "{}").verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "order-2", NONE, false).verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "order-1", EXACT(2), true).verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "order-1", ANY, true).verdict, STORE_STREAM_DELETED);
        assert_int_equal(delete_stream(&f, "order-1", ANY, false).verdict, STORE_STREAM_DELETED);
        fixture_fini(&f);
}

TEST(tombstone, ends_a_stream_and_its_metadata_for_ever)
{
        struct fixture f;
        struct answer a;
        struct rows *rows;

        fixture_new(&f, 5);
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        a = delete_stream(&f, "order-1", ANY, true);
        assert_int_equal(a.verdict, STORE_OK);
        /* On an absent stream too. */
        assert_int_equal(delete_stream(&f, "never", NONE, true).verdict, STORE_OK);
        for (unsigned round = 0; round < 2; round++) {
                assert_int_equal(read_stream(&f, "order-1")->end, STORE_READ_DELETED);
                assert_int_equal(read_stream(&f, "never")->end, STORE_READ_DELETED);
                assert_int_equal(info_of(&f, "order-1").state, STREAM_TOMBSTONED);
                assert_int_equal(info_of(&f, "order-1").last_revision, 2);
                assert_int_equal(put(&f, "order-1", ANY, 10, 1).verdict, STORE_STREAM_DELETED);
                assert_int_equal(put_metadata(&f, "$$order-1", ANY, 11, "{}").verdict, STORE_STREAM_DELETED);
                rows = read_everything(&f);
                assert_int_equal(rows->row[a.result.position].revision, REVISION_MAX);
                assert_string_equal(rows->row[a.result.position].type, "$streamDeleted");
                fixture_reopen(&f);
        }
        fixture_fini(&f);
}

TEST(metadata, truncation_and_count_limit_what_is_read_both_ways)
{
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 6);
        assert_int_equal(put(&f, "order-1", NONE, 1, 10).verdict, STORE_OK);
        assert_int_equal(put_metadata(&f, "$$order-1", ANY, 20, "{\"$maxCount\":4}").verdict, STORE_OK);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->count, 4);
        assert_int_equal(rows->row[0].revision, 6);
        assert_int_equal(
                put_metadata(&f, "$$order-1", ANY, 21, "{\"$maxCount\":4,\"$tb\":8}").verdict, STORE_OK);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->count, 2);
        assert_int_equal(rows->row[0].revision, 8);
        rows = read_rows(
                &f, (struct store_read_options){
                            .stream = BYTES_LITERAL("order-1"), .is_backward = true, .from = FROM_END});
        assert_int_equal(rows->count, 2);
        assert_int_equal(rows->row[1].revision, 8);
        rows = read_rows(&f, (struct store_read_options){.stream = BYTES_LITERAL("order-1"),
                                     .is_backward = true,
                                     .from = FROM_NUMBER,
                                     .number = 5});
        assert_int_equal(rows->end, STORE_READ_END);
        assert_int_equal(rows->count, 0);
        assert_int_equal(info_of(&f, "order-1").first_revision, 8);
        /* Numbers beyond 2^53 are exact; what makes no sense counts as empty. */
        assert_int_equal(
                put_metadata(&f, "$$order-1", ANY, 22, "{\"$tb\":9223372036854775806}").verdict, STORE_OK);
        assert_int_equal(info_of(&f, "order-1").metadata.truncate_before, REVISION_MAX - 1);
        assert_int_equal(info_of(&f, "order-1").state, STREAM_LIVE);
        assert_int_equal(read_stream(&f, "order-1")->count, 0);
        assert_int_equal(put_metadata(&f, "$$order-1", ANY, 23, "nonsense").verdict, STORE_OK);
        assert_int_equal(read_stream(&f, "order-1")->count, 10);
        fixture_fini(&f);
}

TEST(metadata, age_hides_what_is_old_by_the_wall_clock)
{
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 7);
        assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
        os_sim_shift_wall(f.os, 100 * 1000 * 1000);
        assert_int_equal(put(&f, "order-1", EXACT(2), 4, 2).verdict, STORE_OK);
        assert_int_equal(put_metadata(&f, "$$order-1", ANY, 20, "{\"$maxAge\":50}").verdict, STORE_OK);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->count, 2);
        assert_int_equal(rows->row[0].revision, 3);
        rows = read_rows(
                &f, (struct store_read_options){
                            .stream = BYTES_LITERAL("order-1"), .is_backward = true, .from = FROM_END});
        assert_int_equal(rows->count, 2);
        os_sim_shift_wall(f.os, 100 * 1000 * 1000);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->count, 0);
        assert_int_equal(rows->end, STORE_READ_END);
        fixture_fini(&f);
}

TEST(metadata, of_a_stream_without_events_and_in_flight)
{
        struct fixture f;
        struct answer a, b;
        struct draft d = {0};

        fixture_new(&f, 8);
        assert_int_equal(put_metadata(&f, "$$order-1", NONE, 1, "{\"$maxCount\":2}").verdict, STORE_OK);
        assert_int_equal(info_of(&f, "order-1").state, STREAM_METADATA_ONLY);
        assert_true(info_of(&f, "order-1").has_metadata);
        assert_int_equal(read_stream(&f, "order-1")->end, STORE_READ_NOT_FOUND);
        assert_int_equal(put_metadata(&f, "$$order-1", NONE, 2, "{}").verdict, STORE_CONFLICT);
        /* Events and metadata in one append: the metadata hides what it says. */
        draft_stream(&d, "order-2", NONE);
        draft_stream(&d, "$$order-2", NONE);
        for (unsigned i = 0; i < 5; i++)
                draft_event(&d, 0, 10 + i);
        draft_event(&d, 1, 20)->data = BYTES_LITERAL("{\"$maxCount\":2}");
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(read_stream(&f, "order-2")->count, 2);
        /* Only the last one counts and is visible. */
        begin(&f, &a, "$$order-2", ANY, 30, 3);
        begin(&f, &b, "order-2", ANY, 40, 1);
        wait_for(&f, &b.is_done);
        assert_int_equal(read_stream(&f, "$$order-2")->count, 1);
        assert_int_equal(read_stream(&f, "$$order-2")->row[0].revision, 3);
        assert_int_equal(read_stream(&f, "order-2")->count, 6);
        fixture_fini(&f);
}

/* Both sides of a deleted stream in one append, in either order, give what they give one after the other. */
TEST(revival, by_one_append_of_events_and_metadata)
{
        for (unsigned order = 0; order < 2; order++) {
                struct draft d = {0};
                struct fixture f;
                struct answer a;
                struct rows *rows;

                fixture_new(&f, 9);
                assert_int_equal(put(&f, "order-1", NONE, 1, 3).verdict, STORE_OK);
                assert_int_equal(delete_stream(&f, "order-1", ANY, false).verdict, STORE_OK);
                draft_stream(&d, "order-1", ANY);
                draft_stream(&d, "$$order-1", ANY);
                draft_event(&d, order, 10)->data = BYTES_LITERAL("{\"$maxCount\":5}");
                draft_event(&d, !order, 11)->data = BYTES_LITERAL("{\"$maxCount\":5}");
                a = finish(&f, &d);
                assert_int_equal(a.verdict, STORE_OK);
                rows = read_stream(&f, "order-1");
                assert_int_equal(rows->end, STORE_READ_END);
                assert_int_equal(rows->count, 1);
                assert_int_equal(rows->row[0].revision, 3);
                assert_int_equal(info_of(&f, "order-1").metadata.max_count, 5);
                fixture_reopen(&f);
                assert_int_equal(read_stream(&f, "order-1")->count, 1);
                fixture_fini(&f);
        }
}

/* The heads of a small memory are forgotten and found again: the answers are the same. */
TEST(heads, that_were_forgotten_are_found_in_the_log)
{
        struct store_stats stats;
        struct fixture f;
        char stream[32];

        fixture_init(&f, 10);
        f.options.memory_size = 64 * KIB;
        f.options.segment_size = 64 * KIB;
        fixture_open(&f);
        for (unsigned round = 0; round < 3; round++) {
                for (unsigned i = 0; i < 300; i++) {
                        snprintf(stream, sizeof(stream), "order-%u", i);
                        if (round == 0) {
                                assert_int_equal(put(&f, stream, NONE, 1, 2).verdict, STORE_OK);
                                if (i % 3 == 0)
                                        assert_int_equal(
                                                delete_stream(&f, stream, EXACT(1), i % 2).verdict, STORE_OK);
                                continue;
                        }
                        if (i % 3 == 0) {
                                assert_int_equal(info_of(&f, stream).state,
                                        i % 2 ? STREAM_TOMBSTONED : STREAM_SOFT_DELETED);
                                assert_int_equal(put(&f, stream, EXISTS, 9, 1).verdict, STORE_STREAM_DELETED);
                        } else {
                                assert_int_equal(put(&f, stream, EXACT(round - 1), round, 1).verdict,
                                        round == 1 ? STORE_CONFLICT : STORE_OK);
                                if (round == 1)
                                        assert_true(put(&f, stream, NONE, 1, 2).result.is_duplicate);
                        }
                }
                run_for(&f, 1000); /* heads are forgotten at the end of a turn */
                store_stats(f.store, &stats);
                assert_true(stats.heads_size <= 16 * KIB);
                assert_true(stats.heads_cached < 100);
        }
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(soft_delete, hides_the_stream_and_is_an_event_of_its_metastream),
                TEST_ROW(revival, by_an_append_keeps_the_other_keys_and_the_numbering),
                TEST_ROW(revival, by_metadata),
                TEST_ROW(revival, of_a_stream_whose_deletion_is_in_flight),
                TEST_ROW(revival, by_one_append_of_events_and_metadata),
                TEST_ROW(delete, checks_what_is_expected),
                TEST_ROW(tombstone, ends_a_stream_and_its_metadata_for_ever),
                TEST_ROW(metadata, truncation_and_count_limit_what_is_read_both_ways),
                TEST_ROW(metadata, of_a_stream_without_events_and_in_flight),
                TEST_ROW(heads, that_were_forgotten_are_found_in_the_log),
        };
        /* Only there the clock can be moved. */
        static const struct CMUnitTest simulated[] = {
                TEST_ROW(metadata, age_hides_what_is_old_by_the_wall_clock),
        };

        int failed = RUN_ON(MACHINE_SIM, tests);

        failed += RUN_ON(MACHINE_SIM, simulated);
        failed += RUN_ON(MACHINE_MEMORY, tests);
        return failed;
}
