/* Expected revisions, batches, atomicity and idempotence (G4, G5, G6; protocol 3.2, 3.3), limits (G17). */
#include "support.h"

/* ---- every expectation in every state ---- */

enum state { ABSENT, METADATA, LIVE, SOFT, TOMB, STATES };

/* Brings `stream` into a state. LIVE, SOFT and TOMB have three events, 0 to 2. */
static void bring_into(struct fixture *f, const char *stream, enum state state, uint64_t id)
{
        char metastream[64];

        if (state >= LIVE)
                assert_int_equal(put(f, stream, ANY, id, 3).verdict, STORE_OK);
        if (state == METADATA) {
                snprintf(metastream, sizeof(metastream), "$$%s", stream);
                assert_int_equal(put_metadata(f, metastream, ANY, id, "{}").verdict, STORE_OK);
        }
        if (state == SOFT)
                assert_int_equal(delete_stream(f, stream, EXACT(2), false).verdict, STORE_OK);
        if (state == TOMB)
                assert_int_equal(delete_stream(f, stream, ANY, true).verdict, STORE_OK);
}

/* protocol 3.2, as numbers. */
enum { ANY_, NONE_, EXISTS_, EXACT_0, EXACT_2, EXACT_9, DELETED_, TOMBSTONED_, EXPECTATIONS };
#define OK  STORE_OK
#define NO  STORE_CONFLICT
#define DEL STORE_STREAM_DELETED
static const enum store_verdict verdicts[EXPECTATIONS][STATES] = {
        /*            A   M   L    D    T */
        [ANY_] = {OK, OK, OK, OK, DEL},
        [NONE_] = {OK, OK, NO, OK, DEL},
        [EXISTS_] = {NO, OK, OK, DEL, DEL},
        [EXACT_0] = {NO, NO, NO, NO, DEL},
        [EXACT_2] = {NO, NO, OK, OK, DEL},
        [EXACT_9] = {NO, NO, NO, NO, DEL},
        [DELETED_] = {NO, NO, NO, OK, NO},
        [TOMBSTONED_] = {NO, NO, NO, NO, DEL},
};

static struct expected expectation(unsigned n)
{
        static const struct expected all[EXPECTATIONS] = {
                [ANY_] = {EXPECTED_ANY, 0},
                [NONE_] = {EXPECTED_NONE, 0},
                [EXISTS_] = {EXPECTED_EXISTS, 0},
                [EXACT_0] = {EXPECTED_EXACT, 0},
                [EXACT_2] = {EXPECTED_EXACT, 2},
                [EXACT_9] = {EXPECTED_EXACT, 9},
                [DELETED_] = {EXPECTED_SOFT_DELETED, 0},
                [TOMBSTONED_] = {EXPECTED_TOMBSTONED, 0},
        };

        return all[n];
}

static void check_matrix(bool is_in_flight, bool is_reopened)
{
        struct fixture f;
        uint64_t id = 1;

        fixture_new(&f, 1);
        for (unsigned e = 0; e < EXPECTATIONS; e++) {
                for (enum state s = ABSENT; s < STATES; s++) {
                        char stream[32];
                        struct answer a;
                        uint64_t before;

                        snprintf(stream, sizeof(stream), "order-%u-%u", e, s);
                        bring_into(&f, stream, s, id);
                        id += 10;
                        if (is_reopened && s == SOFT)
                                fixture_reopen(&f);
                        before = store_next_position(f.store);
                        if (is_in_flight) {
                                /* An append of another stream goes along in the same group. */
                                struct answer other;

                                begin(&f, &other, "other", ANY, id + 5000, 1);
                                begin(&f, &a, stream, expectation(e), id, 2);
                                wait_for(&f, &other.is_done);
                                assert_int_equal(other.verdict, STORE_OK);
                                before++;
                        } else {
                                a = put(&f, stream, expectation(e), id, 2);
                        }
                        id += 10;
                        if (a.verdict != verdicts[e][s])
                                print_error("expectation %u state %u gave %d\n", e, s, a.verdict);
                        assert_true(a.is_done);
                        assert_int_equal(a.verdict, verdicts[e][s]);
                        if (a.verdict != STORE_OK) {
                                assert_int_equal(store_next_position(f.store), before);
                                assert_int_equal(a.streams[0].has_revision, s >= LIVE);
                                if (s >= LIVE)
                                        assert_int_equal(a.streams[0].revision, 2);
                                assert_int_equal(a.result.is_soft_deleted, s == SOFT);
                                assert_true(a.streams[0].has_failed);
                                assert_int_equal(a.streams[0].is_soft_deleted, s == SOFT);
                                assert_int_equal(a.streams[0].is_tombstoned, s == TOMB);
                                continue;
                        }
                        assert_true(a.streams[0].has_revision);
                        assert_int_equal(a.streams[0].revision, s >= LIVE ? 4 : 1);
                        /* A revival is one event more, before the others. */
                        assert_int_equal(a.result.position, before + (s == SOFT ? 2 : 1));
                        assert_int_equal(store_next_position(f.store), a.result.position + 1);
                }
        }
        fixture_fini(&f);
}

TEST(expected, every_kind_in_every_state_of_the_stream_G5)
{
        check_matrix(false, false);
}

TEST(expected, is_the_same_beside_other_appends_in_flight_G5)
{
        check_matrix(true, false);
}

TEST(expected, is_the_same_after_a_restart_G5)
{
        check_matrix(false, true);
}

/* protocol 3.10: what a condition on a stream that is not written says. */
TEST(check_only, streams_decide_the_whole_append_G5)
{
        static const enum store_verdict checks[EXPECTATIONS][STATES] = {
                [ANY_] = {OK, OK, OK, OK, DEL},
                [NONE_] = {OK, OK, NO, OK, OK},
                [EXISTS_] = {NO, OK, OK, DEL, DEL},
                [EXACT_0] = {NO, NO, NO, NO, DEL},
                [EXACT_2] = {NO, NO, OK, OK, DEL},
                [EXACT_9] = {NO, NO, NO, NO, DEL},
                [DELETED_] = {NO, NO, NO, OK, NO},
                [TOMBSTONED_] = {NO, NO, NO, NO, OK},
        };
        struct fixture f;
        uint64_t id = 1;
        unsigned written = 0;

        fixture_new(&f, 2);
        for (unsigned e = 0; e < EXPECTATIONS; e++) {
                for (enum state s = ABSENT; s < STATES; s++) {
                        struct draft d = {0};
                        char stream[32];
                        struct answer a;

                        snprintf(stream, sizeof(stream), "order-%u-%u", e, s);
                        bring_into(&f, stream, s, id);
                        draft_stream(&d, "written", ANY);
                        draft_stream(&d, stream, expectation(e));
                        draft_event(&d, 0, id + 10);
                        a = finish(&f, &d);
                        id += 20;
                        if (a.verdict != checks[e][s])
                                print_error("expectation %u state %u gave %d\n", e, s, a.verdict);
                        assert_int_equal(a.verdict, checks[e][s]);
                        if (a.verdict == STORE_OK)
                                written++;
                        else
                                assert_int_equal(a.result.stream, 1);
                        /* The checked stream is as it was: a check revives nothing. */
                        assert_int_equal(info_of(&f, stream).state, s == SOFT       ? STREAM_SOFT_DELETED
                                                                    : s == TOMB     ? STREAM_TOMBSTONED
                                                                    : s == LIVE     ? STREAM_LIVE
                                                                    : s == METADATA ? STREAM_METADATA_ONLY
                                                                                    : STREAM_ABSENT);
                }
        }
        assert_int_equal(read_stream(&f, "written")->count, written);
        fixture_fini(&f);
}

TEST(empty_append, is_checked_and_writes_nothing_but_revives_a_deleted_stream)
{
        struct fixture f;
        struct answer a;

        fixture_new(&f, 3);
        a = put(&f, "order-1", NONE, 0, 0);
        assert_int_equal(a.verdict, STORE_OK);
        assert_false(a.streams[0].has_revision);
        assert_false(a.result.has_position);
        bring_into(&f, "order-1", LIVE, 10);
        a = put(&f, "order-1", NONE, 0, 0);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.streams[0].revision, 2);
        a = put(&f, "order-1", EXACT(2), 0, 0);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.streams[0].revision, 2);
        assert_false(a.result.has_position);
        assert_int_equal(delete_stream(&f, "order-1", ANY, false).verdict, STORE_OK);
        assert_int_equal(read_stream(&f, "order-1")->end, STORE_READ_NOT_FOUND);
        a = put(&f, "order-1", ANY, 0, 0);
        assert_int_equal(a.verdict, STORE_OK);
        assert_true(a.result.has_position);
        assert_int_equal(info_of(&f, "order-1").state, STREAM_LIVE);
        assert_int_equal(info_of(&f, "order-1").first_revision, 3);
        fixture_fini(&f);
}

/* ---- batches and several streams ---- */

TEST(batch, is_contiguous_and_in_the_order_given_G4)
{
        struct fixture f;
        struct rows *rows;
        struct answer a, b;

        fixture_new(&f, 4);
        begin(&f, &a, "order-1", NONE, 100, 50);
        begin(&f, &b, "order-2", NONE, 200, 50);
        wait_for(&f, &b.is_done);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(b.verdict, STORE_OK);
        assert_int_equal(a.result.position, a.result.first_position + 49);
        assert_int_equal(b.result.first_position, a.result.position + 1);
        rows = read_stream(&f, "order-2");
        assert_int_equal(rows->count, 50);
        for (unsigned i = 0; i < 50; i++) {
                struct event_id id = id_of(200 + i);

                assert_int_equal(rows->row[i].revision, i);
                assert_int_equal(rows->row[i].position, b.result.first_position + i);
                assert_true(event_id_equal(&rows->row[i].id, &id));
        }
        fixture_fini(&f);
}

/* An answer for more streams than an answer of the support keeps. */
struct fold {
        bool is_done;
        enum store_verdict verdict;
        bool is_duplicate;
        uint64_t position;
        uint64_t revisions; /* the sum of all streams' last ones */
};

static void on_large_answer(void *arg, const struct store_append_result *result)
{
        struct fold *fold = arg;

        fold->is_done = true;
        fold->verdict = result->verdict;
        fold->is_duplicate = result->is_duplicate;
        fold->position = result->position;
        for (unsigned i = 0; result->streams && i < result->stream_count; i++)
                fold->revisions += result->streams[i].revision;
}

TEST(several_streams, are_written_in_one_piece_interleaved_as_given_G5)
{
        struct draft d = {0};
        struct fixture f;
        struct rows *rows;
        struct answer a;

        fixture_new(&f, 5);
        assert_int_equal(put(&f, "a", NONE, 1, 2).verdict, STORE_OK);
        draft_stream(&d, "a", EXACT(1));
        draft_stream(&d, "b", NONE);
        draft_stream(&d, "$$b", NONE);
        draft_event(&d, 1, 10);
        draft_event(&d, 0, 11);
        draft_event(&d, 1, 12);
        draft_event(&d, 2, 13);
        draft_event(&d, 0, 14);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.streams[0].revision, 3);
        assert_int_equal(a.streams[1].revision, 1);
        assert_int_equal(a.streams[2].revision, 0);
        rows = read_rows(
                &f, (struct store_read_options){.from = FROM_NUMBER, .number = a.result.first_position});
        assert_int_equal(rows->count, 5);
        assert_string_equal(rows->row[0].stream, "b");
        assert_string_equal(rows->row[1].stream, "a");
        assert_string_equal(rows->row[2].stream, "b");
        assert_string_equal(rows->row[3].stream, "$$b");
        assert_int_equal(rows->row[4].revision, 3);
        fixture_fini(&f);
}

TEST(several_streams, are_all_refused_when_one_is_G5)
{
        struct draft d = {0};
        struct fixture f;
        struct answer a;
        uint64_t before;

        fixture_new(&f, 6);
        assert_int_equal(put(&f, "a", NONE, 1, 2).verdict, STORE_OK);
        before = store_next_position(f.store);
        draft_stream(&d, "b", NONE);
        draft_stream(&d, "a", EXACT(0));
        draft_stream(&d, "c", EXISTS);
        draft_event(&d, 0, 10);
        draft_event(&d, 1, 11);
        draft_event(&d, 2, 12);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.result.stream, 1);
        assert_true(a.streams[1].has_revision);
        assert_int_equal(a.streams[1].revision, 1);
        assert_false(a.streams[0].has_revision);
        assert_int_equal(store_next_position(f.store), before);
        assert_int_equal(info_of(&f, "b").state, STREAM_ABSENT);
        fixture_fini(&f);
}

/* Who checks several streams is told of each that fails, and that one which was written already fits no more.
 */
TEST(several_streams, that_fail_are_told_one_by_one_G5)
{
        struct draft d = {0};
        struct fixture f;
        struct answer a;

        fixture_new(&f, 6);
        assert_int_equal(put(&f, "a", NONE, 1, 2).verdict, STORE_OK);
        bring_into(&f, "t", TOMB, 100);
        draft_stream(&d, "b", EXACT(7));
        draft_stream(&d, "a", EXACT(1));
        draft_stream(&d, "t", ANY);
        draft_stream(&d, "c", EXISTS);
        draft_event(&d, 0, 10);
        draft_event(&d, 1, 11);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.result.stream, 0);
        assert_true(a.streams[0].has_failed);
        assert_false(a.streams[1].has_failed);
        assert_true(a.streams[2].has_failed);
        assert_true(a.streams[2].is_tombstoned);
        assert_true(a.streams[3].has_failed);
        assert_false(a.streams[3].is_tombstoned);
        d = (struct draft){0};
        draft_stream(&d, "new", NONE);
        draft_stream(&d, "a", NONE);
        draft_event(&d, 0, 20);
        draft_event(&d, 1, 1);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.result.stream, 1);
        assert_false(a.streams[0].has_failed);
        assert_true(a.streams[1].has_failed);
        fixture_fini(&f);
}

/* ---- in flight ---- */

TEST(in_flight, heads_count_before_they_are_committed_G5)
{
        struct answer a[4];
        struct fixture f;

        fixture_new(&f, 7);
        begin(&f, &a[0], "order-1", NONE, 1, 2);
        begin(&f, &a[1], "order-1", EXACT(1), 3, 2);
        begin(&f, &a[2], "order-1", EXACT(3), 5, 1);
        begin(&f, &a[3], "order-1", EXACT(1), 9, 1);
        for (unsigned i = 0; i < 4; i++)
                assert_false(a[i].is_done);
        wait_for(&f, &a[3].is_done);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(a[i].verdict, STORE_OK);
        assert_int_equal(a[2].streams[0].revision, 4);
        assert_int_equal(a[3].verdict, STORE_CONFLICT);
        assert_int_equal(a[3].streams[0].revision, 4);
        fixture_fini(&f);
}

TEST(conflict, that_rests_on_an_append_in_flight_is_told_after_its_commit_G5)
{
        struct answer write, refused, deleted, gone;
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 8);
        begin(&f, &write, "order-1", NONE, 1, 3);
        begin(&f, &refused, "order-1", EXACT(7), 6, 1);
        assert_false(refused.is_done);
        begin_delete(&f, &deleted, "order-2", ANY, true);
        begin(&f, &gone, "order-2", ANY, 7, 1);
        assert_false(gone.is_done);
        rows = read_stream(&f, "order-1");
        assert_int_equal(rows->end, STORE_READ_NOT_FOUND);
        wait_for(&f, &gone.is_done);
        assert_true(write.is_done && refused.is_done && deleted.is_done);
        assert_int_equal(refused.verdict, STORE_CONFLICT);
        assert_true(refused.next_position > write.result.position);
        assert_int_equal(gone.verdict, STORE_STREAM_DELETED);
        assert_true(gone.next_position > deleted.result.position);
        /* What rests on nothing in flight is told at once, though other streams are. */
        begin(&f, &write, "order-3", NONE, 1, 3);
        begin(&f, &refused, "order-1", EXACT(1), 8, 1);
        assert_true(refused.was_at_once);
        wait_for(&f, &write.is_done);
        fixture_fini(&f);
}

/* The answer of a check tells of what is committed, too. */
TEST(check, that_rests_on_an_append_in_flight_is_told_after_its_commit_G5)
{
        struct answer write, check;
        struct fixture f;

        fixture_new(&f, 9);
        begin(&f, &write, "order-1", NONE, 1, 3);
        begin(&f, &check, "order-1", EXACT(2), 0, 0);
        assert_false(check.is_done);
        wait_for(&f, &check.is_done);
        assert_int_equal(check.verdict, STORE_OK);
        assert_int_equal(check.streams[0].revision, 2);
        assert_true(check.next_position > write.result.position);
        fixture_fini(&f);
}

/* A refused append tells where all its streams stand; none of that may be told before it is committed. */
TEST(conflict, tells_no_stream_of_the_append_before_it_is_committed_G5)
{
        struct answer write, refused;
        struct draft d = {0};
        struct fixture f;

        fixture_new(&f, 10);
        assert_int_equal(put(&f, "a", NONE, 1, 1).verdict, STORE_OK);
        begin(&f, &write, "b", NONE, 5, 4);
        draft_stream(&d, "a", NONE);
        draft_stream(&d, "b", ANY);
        draft_event(&d, 0, 10);
        draft_event(&d, 1, 11);
        draft_begin(&f, &d, &refused);
        if (!refused.is_done)
                wait_for(&f, &refused.is_done);
        assert_int_equal(refused.verdict, STORE_CONFLICT);
        assert_int_equal(refused.result.stream, 0);
        if (refused.streams[1].has_revision) {
                assert_true(write.is_done);
                assert_true(refused.next_position > write.result.position);
        }
        if (!write.is_done)
                wait_for(&f, &write.is_done);
        fixture_fini(&f);
}

/* ---- idempotence (G6) ---- */

static void assert_duplicate(const struct answer *a, const struct answer *original)
{
        assert_int_equal(a->verdict, STORE_OK);
        assert_true(a->result.is_duplicate);
        assert_true(a->result.has_position);
        assert_int_equal(a->result.position, original->result.position);
        assert_int_equal(a->result.first_position, original->result.first_position);
        assert_true(a->streams[0].has_revision);
        assert_int_equal(a->streams[0].revision, original->streams[0].revision);
}

static void check_duplicates(unsigned restart)
{
        struct answer first, second, a;
        struct fixture f;
        uint64_t before;

        fixture_new(&f, 11);
        f.options.segment_size = 64 * KIB;
        fixture_reopen(&f);
        first = put(&f, "order-1", NONE, 1, 3);
        second = put(&f, "order-1", EXACT(2), 4, 2);
        assert_int_equal(put(&f, "order-2", NONE, 1, 1).verdict, STORE_OK);
        if (restart == 1)
                fixture_reopen(&f);
        if (restart == 2) {
                /* Behind sealed segments the window comes from its checkpoint. */
                for (unsigned i = 0; i < 40; i++) {
                        struct answer filler = put(&f, "filler", ANY, 1000 + i * 50, 50);

                        assert_int_equal(filler.verdict, STORE_OK);
                }
                run_for(&f, 3 * 1000 * 1000);
                fixture_reopen(&f);
        }
        before = store_next_position(f.store);
        a = put(&f, "order-1", NONE, 1, 3);
        assert_duplicate(&a, &first);
        a = put(&f, "order-1", EXACT(2), 4, 2);
        assert_duplicate(&a, &second);
        a = put(&f, "order-1", ANY, 1, 3);
        assert_duplicate(&a, &first);
        a = put(&f, "order-1", EXISTS, 4, 2);
        assert_duplicate(&a, &second);
        /* A part of it at the right place is one too; whole batches are not what is compared. */
        a = put(&f, "order-1", EXACT(0), 2, 2);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.streams[0].revision, 2);
        /* Known ids at another place are not. */
        assert_int_equal(put(&f, "order-1", EXACT(1), 2, 2).verdict, STORE_CONFLICT);
        assert_int_equal(put(&f, "order-1", NONE, 2, 1).verdict, STORE_CONFLICT);
        /* The first two match, the third does not; and it would reach beyond the end. */
        assert_int_equal(put(&f, "order-1", EXACT(3), 5, 2).verdict, STORE_CONFLICT);
        /* Weak: the first is known, a later one is not. */
        assert_int_equal(put(&f, "order-1", ANY, 5, 2).verdict, STORE_CONFLICT);
        assert_int_equal(store_next_position(f.store), before);
        /* Weak: the first is not known: written, though a later one is. */
        a = put(&f, "order-1", ANY, 0, 2);
        assert_int_equal(a.verdict, STORE_OK);
        assert_false(a.result.is_duplicate);
        assert_int_equal(a.streams[0].revision, 6);
        /* At the end ids are not looked at. */
        a = put(&f, "order-1", EXACT(6), 1, 1);
        assert_false(a.result.is_duplicate);
        assert_int_equal(a.streams[0].revision, 7);
        /* Another stream has ids of its own. */
        a = put(&f, "order-3", ANY, 1, 3);
        assert_false(a.result.is_duplicate);
        fixture_fini(&f);
}

TEST(duplicate, gets_the_answer_of_the_original_G6)
{
        check_duplicates(0);
}

TEST(duplicate, is_known_after_a_restart_G6)
{
        check_duplicates(1);
}

TEST(duplicate, is_known_after_sealing_and_a_restart_G6)
{
        check_duplicates(2);
}

TEST(duplicate, of_an_append_in_flight_waits_and_gets_its_outcome_G6)
{
        struct answer original, again[4];
        struct fixture f;

        fixture_new(&f, 12);
        begin(&f, &original, "order-1", NONE, 1, 3);
        begin(&f, &again[0], "order-1", NONE, 1, 3);
        begin(&f, &again[1], "order-1", ANY, 1, 3);
        begin(&f, &again[2], "order-1", EXACT(0), 2, 2);
        begin(&f, &again[3], "order-1", ANY, 3, 2);
        for (unsigned i = 0; i < 4; i++)
                assert_false(again[i].is_done);
        wait_for(&f, &again[3].is_done);
        assert_int_equal(original.verdict, STORE_OK);
        assert_duplicate(&again[0], &original);
        assert_duplicate(&again[1], &original);
        assert_true(again[2].result.is_duplicate);
        assert_int_equal(again[2].streams[0].revision, 2);
        assert_int_equal(again[3].verdict, STORE_CONFLICT);
        for (unsigned i = 0; i < 4; i++)
                assert_true(again[i].next_position > original.result.position);
        assert_int_equal(read_stream(&f, "order-1")->count, 3);
        fixture_fini(&f);
}

TEST(duplicate, over_several_streams_is_whole_or_a_conflict_G6)
{
        struct fixture f;
        struct answer original, a;

        fixture_new(&f, 13);
        for (unsigned round = 0; round < 3; round++) {
                struct draft d = {0};

                /* Round 1 says the same again, with a check that fails; round 2 says something new for b. */
                draft_stream(&d, "a", NONE);
                draft_stream(&d, "b", NONE);
                draft_stream(&d, "c", round == 1 ? EXISTS : ANY);
                draft_event(&d, 0, 1);
                draft_event(&d, 1, round == 2 ? 7 : 2);
                draft_event(&d, 0, 3);
                a = finish(&f, &d);
                if (round == 0)
                        original = a;
                else if (round == 1)
                        assert_duplicate(&a, &original);
                else
                        assert_int_equal(a.verdict, STORE_CONFLICT);
        }
        assert_int_equal(read_stream(&f, "a")->count, 2);
        assert_int_equal(read_stream(&f, "b")->count, 1);
        fixture_fini(&f);
}

/* The largest append in streams and events, new and again: each stream's events are found among all others.
 */
TEST(several_streams, as_many_as_there_may_be_with_as_many_events_G17)
{
        static struct store_append_stream streams[LIMIT_APPEND_STREAMS_MAX];
        static struct store_append_event events[LIMIT_APPEND_EVENTS_MAX];
        static char names[LIMIT_APPEND_STREAMS_MAX][16];
        struct store_append append = {.streams = streams,
                .events = events,
                .stream_count = LIMIT_APPEND_STREAMS_MAX,
                .event_count = LIMIT_APPEND_EVENTS_MAX};
        struct fixture f;
        uint64_t position = 0;

        fixture_new(&f, 22);
        for (unsigned i = 0; i < LIMIT_APPEND_STREAMS_MAX; i++) {
                snprintf(names[i], sizeof(names[i]), "order-%u", i);
                streams[i] = (struct store_append_stream){.stream = bytes_of_string(names[i])};
        }
        for (unsigned i = 0; i < LIMIT_APPEND_EVENTS_MAX; i++)
                events[i] =
                        (struct store_append_event){.stream = (i * 7 + i / 1000) % LIMIT_APPEND_STREAMS_MAX,
                                .draft = {.id = id_of(i), .type = BYTES_LITERAL("T")}};
        for (unsigned round = 0; round < 3; round++) {
                struct fold fold = {0};

                /* The last round expects it to be where it is. */
                for (unsigned i = 0; round == 2 && i < LIMIT_APPEND_STREAMS_MAX; i++)
                        streams[i].expected.kind = EXPECTED_NONE;
                store_append(f.store, &append, on_large_answer, &fold);
                wait_for(&f, &fold.is_done);
                assert_int_equal(fold.verdict, STORE_OK);
                assert_int_equal(fold.is_duplicate, round > 0);
                assert_int_equal(fold.revisions, LIMIT_APPEND_EVENTS_MAX - LIMIT_APPEND_STREAMS_MAX);
                if (round == 0)
                        position = fold.position;
                assert_int_equal(fold.position, position);
        }
        assert_int_equal(store_next_position(f.store), LIMIT_APPEND_EVENTS_MAX + 1);
        streams[LIMIT_APPEND_STREAMS_MAX - 1].expected = EXACT(5);
        {
                struct fold fold = {0};

                store_append(f.store, &append, on_large_answer, &fold);
                wait_for(&f, &fold.is_done);
                assert_int_equal(fold.verdict, STORE_CONFLICT);
        }
        fixture_fini(&f);
}

TEST(duplicate, within_one_append_is_written_twice)
{
        struct draft d = {0};
        struct fixture f;
        struct answer a;

        fixture_new(&f, 14);
        draft_stream(&d, "a", NONE);
        draft_event(&d, 0, 1);
        draft_event(&d, 0, 1);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.streams[0].revision, 1);
        fixture_fini(&f);
}

/* ---- limits and bad input (G17) ---- */

static struct answer put_draft(struct fixture *f, const struct event_draft *e)
{
        struct draft d = {0};

        draft_stream(&d, "order-1", ANY);
        *draft_event(&d, 0, 1) = *e;
        return finish(f, &d);
}

static void assert_too_large(const struct answer *a, uint64_t limit)
{
        assert_int_equal(a->verdict, STORE_TOO_LARGE);
        assert_true(a->was_at_once);
        assert_int_equal(a->result.limit, limit);
        assert_true(a->result.size > limit);
}

TEST(limit, is_exact_and_named_for_each_part_of_an_event_G17)
{
        static uint8_t bytes[LIMIT_EVENT_SIZE_MAX + 1];
        struct event_draft fine = {.id = id_of(1), .type = BYTES_LITERAL("T")};
        struct bytes tags[LIMIT_TAGS_MAX + 1];
        struct event_draft e;
        struct answer a;
        struct fixture f;

        fixture_new(&f, 15);
        memset(bytes, 'x', sizeof(bytes));
        e = fine;
        e.data = bytes_of(bytes, LIMIT_EVENT_SIZE_MAX - 2);
        a = put_draft(&f, &e);
        assert_int_equal(a.verdict, STORE_OK);
        e.data.size++;
        a = put_draft(&f, &e);
        assert_too_large(&a, LIMIT_EVENT_SIZE_MAX);
        e = fine;
        e.type = bytes_of(bytes, LIMIT_EVENT_TYPE_SIZE_MAX);
        e.id = id_of(2);
        assert_int_equal(put_draft(&f, &e).verdict, STORE_OK);
        e.type.size++;
        a = put_draft(&f, &e);
        assert_too_large(&a, LIMIT_EVENT_TYPE_SIZE_MAX);
        e = fine;
        e.metadata = bytes_of(bytes, LIMIT_METADATA_SIZE_MAX);
        e.id = id_of(3);
        assert_int_equal(put_draft(&f, &e).verdict, STORE_OK);
        e.metadata.size++;
        a = put_draft(&f, &e);
        assert_too_large(&a, LIMIT_METADATA_SIZE_MAX);
        e = fine;
        for (unsigned i = 0; i <= LIMIT_TAGS_MAX; i++)
                tags[i] = bytes_of(bytes, LIMIT_TAG_SIZE_MAX);
        e.tags = tags;
        e.tag_count = LIMIT_TAGS_MAX;
        e.id = id_of(4);
        assert_int_equal(put_draft(&f, &e).verdict, STORE_OK);
        e.tag_count++;
        a = put_draft(&f, &e);
        assert_too_large(&a, LIMIT_TAGS_MAX);
        e.tag_count = 1;
        tags[0].size++;
        a = put_draft(&f, &e);
        assert_too_large(&a, LIMIT_TAG_SIZE_MAX);
        e = fine;
        e.type = BYTES_EMPTY;
        assert_int_equal(put_draft(&f, &e).verdict, STORE_INVALID);
        e.type = BYTES_LITERAL("\xff");
        assert_int_equal(put_draft(&f, &e).verdict, STORE_INVALID);
        assert_int_equal(read_stream(&f, "order-1")->count, 4);
        fixture_fini(&f);
}

TEST(limit, of_a_whole_append_and_of_names_G17)
{
        static uint8_t bytes[16 * 1000 * 1000];
        static char name[LIMIT_STREAM_NAME_SIZE_MAX + 2];
        struct draft d = {0};
        struct answer a;
        struct fixture f;

        fixture_new(&f, 16);
        draft_stream(&d, "order-1", ANY);
        for (unsigned i = 0; i < 5; i++)
                draft_event(&d, 0, i)->data = bytes_of(bytes, sizeof(bytes));
        a = finish(&f, &d);
        assert_too_large(&a, LIMIT_APPEND_SIZE_MAX);
        d = (struct draft){0};
        draft_stream(&d, "order-1", ANY);
        for (unsigned i = 0; i <= LIMIT_APPEND_EVENTS_MAX; i++)
                draft_event(&d, 0, i);
        a = finish(&f, &d);
        assert_too_large(&a, LIMIT_APPEND_EVENTS_MAX);
        memset(name, 0, sizeof(name));
        memset(name, 'n', LIMIT_STREAM_NAME_SIZE_MAX);
        assert_int_equal(put(&f, name, NONE, 1, 1).verdict, STORE_OK);
        assert_int_equal(read_stream(&f, name)->count, 1);
        name[LIMIT_STREAM_NAME_SIZE_MAX] = 'n';
        a = put(&f, name, NONE, 1, 1);
        assert_too_large(&a, LIMIT_STREAM_NAME_SIZE_MAX);
        fixture_fini(&f);
}

TEST(bad_input, is_refused_at_once_and_changes_nothing_G17)
{
        static const char *const names[] = {"", "$all", "$$", "$$$$a", "\xc3"};
        struct store_append none = {0};
        struct draft d = {0};
        struct fixture f;
        struct answer a;
        uint64_t before;

        fixture_new(&f, 17);
        before = store_next_position(f.store);
        for (unsigned i = 0; i < COUNT_OF(names); i++) {
                a = put(&f, names[i], ANY, 1, 1);
                assert_int_equal(a.verdict, STORE_INVALID);
                assert_true(a.was_at_once);
                assert_true(*a.problem);
        }
        a = (struct answer){.store = f.store};
        store_append(f.store, &none, on_answer, &a);
        assert_int_equal(a.verdict, STORE_INVALID);
        draft_stream(&d, "a", ANY);
        draft_event(&d, 1, 1);
        assert_int_equal(finish(&f, &d).verdict, STORE_INVALID);
        d = (struct draft){0};
        draft_stream(&d, "a", ANY);
        draft_stream(&d, "a", ANY);
        draft_event(&d, 0, 1);
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_INVALID);
        assert_int_equal(a.result.stream, 1);
        assert_int_equal(put(&f, "a", EXACT(REVISION_MAX), 1, 1).verdict, STORE_INVALID);
        assert_int_equal(delete_stream(&f, "$$a", ANY, false).verdict, STORE_INVALID);
        assert_int_equal(store_next_position(f.store), before);
        fixture_fini(&f);
}

TEST(busy, refuses_at_once_and_ends_with_the_commit_G18)
{
        struct answer a[64];
        struct store_stats stats;
        struct fixture f;
        unsigned busy = 0;

        fixture_init(&f, 18);
        f.options.in_flight_size_max = 8 * KIB;
        fixture_open(&f);
        for (unsigned i = 0; i < 64; i++) {
                begin(&f, &a[i], "order-1", ANY, 1 + i * 10, 2);
                assert_true(!a[i].was_at_once || a[i].verdict == STORE_BUSY);
                busy += a[i].is_done;
        }
        assert_true(busy > 0 && busy < 64);
        for (unsigned i = 0; i < 64; i++)
                if (!a[i].is_done)
                        wait_for(&f, &a[i].is_done);
        assert_int_equal(put(&f, "order-1", ANY, 5000, 2).verdict, STORE_OK);
        store_stats(f.store, &stats);
        assert_int_equal(stats.refused, busy);
        assert_int_equal(stats.in_flight_size, 0);
        assert_int_equal(read_stream(&f, "order-1")->count, 2 * (64 - busy) + 2);
        fixture_fini(&f);
}

/* What waits for an append in flight takes memory as well. */
TEST(busy, refuses_what_would_only_wait_as_well_G18)
{
        static struct answer a[200];
        struct answer original;
        struct fixture f;
        unsigned busy = 0;

        fixture_init(&f, 19);
        f.options.in_flight_size_max = 8 * KIB;
        fixture_open(&f);
        begin(&f, &original, "order-1", NONE, 1, 1);
        for (unsigned i = 0; i < COUNT_OF(a); i++) {
                begin(&f, &a[i], "order-1", EXACT(9), 50, 1);
                busy += a[i].is_done;
        }
        assert_true(busy > 100);
        wait_for(&f, &original.is_done);
        for (unsigned i = 0; i < COUNT_OF(a); i++)
                assert_int_equal(a[i].verdict, a[i].was_at_once ? STORE_BUSY : STORE_CONFLICT);
        fixture_fini(&f);
}

/* ---- deadlines (G3) ---- */

TEST(deadline, that_passes_before_the_commit_gives_unknown_and_the_append_stands_G3)
{
        struct answer a, late, again;
        struct draft d = {0};
        struct fixture f;

        fixture_init(&f, 20);
        f.options.sync = STORE_SYNC_LANE;
        fixture_open(&f);
        draft_stream(&d, "order-1", NONE);
        draft_event(&d, 0, 1);
        d.append.deadline_us = os_monotonic_us(f.os) + 2;
        draft_begin(&f, &d, &a);
        d = (struct draft){0};
        draft_stream(&d, "order-1", NONE);
        draft_event(&d, 0, 1);
        d.append.deadline_us = os_monotonic_us(f.os) + 3;
        draft_begin(&f, &d, &again);
        wait_for(&f, &a.is_done);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        assert_int_equal(store_next_position(f.store), 1);
        wait_for(&f, &again.is_done);
        assert_int_equal(again.verdict, STORE_UNKNOWN);
        run_for(&f, 100 * 1000);
        assert_int_equal(store_next_position(f.store), 2);
        /* The same again tells what became of it. */
        a = put(&f, "order-1", NONE, 1, 1);
        assert_true(a.result.is_duplicate);
        d = (struct draft){0};
        draft_stream(&d, "order-1", EXACT(0));
        draft_event(&d, 0, 2);
        d.append.deadline_us = os_monotonic_us(f.os);
        late = finish(&f, &d);
        assert_int_equal(late.verdict, STORE_UNKNOWN);
        d = (struct draft){0};
        draft_stream(&d, "order-1", EXACT(0));
        draft_event(&d, 0, 3);
        d.append.deadline_us = os_monotonic_us(f.os) + 60 * 1000 * 1000;
        a = finish(&f, &d);
        assert_int_equal(a.verdict, STORE_OK);
        fixture_fini(&f);
}

/* ---- turns ---- */

struct chain {
        struct fixture *f;
        unsigned left;
        unsigned turns;
        unsigned max_per_turn;
        unsigned this_turn;
        bool is_done;
        struct os_turn_hook hook;
};

static void on_chain_turn(struct os_turn_hook *hook)
{
        struct chain *c = hook->arg;

        c->turns++;
        c->max_per_turn = MAX(c->max_per_turn, c->this_turn);
        c->this_turn = 0;
}

static void append_next(void *arg, const struct store_append_result *result)
{
        struct chain *c = arg;
        struct draft d = {0};

        if (result)
                assert_int_equal(result->verdict, STORE_OK);
        c->this_turn++;
        c->is_done = c->left == 0;
        if (c->is_done)
                return;
        draft_stream(&d, "order-1", ANY);
        draft_event(&d, 0, c->left--);
        d.append.streams = d.streams;
        d.append.events = d.events;
        store_append(c->f->store, &d.append, append_next, c);
        free(d.events);
}

TEST(answer, that_appends_again_leaves_the_loop_its_turns)
{
        struct chain c = {.left = 100};
        struct fixture f;

        fixture_init(&f, 21);
        f.options.sync = STORE_SYNC_INLINE;
        fixture_open(&f);
        c.f = &f;
        c.hook = (struct os_turn_hook){.fn = on_chain_turn, .arg = &c};
        os_turn_hook_add(f.os, &c.hook);
        append_next(&c, NULL);
        wait_for(&f, &c.is_done);
        os_turn_hook_remove(&c.hook);
        assert_int_equal(read_stream(&f, "order-1")->count, 100);
        assert_true(c.turns >= 50);
        assert_true(c.max_per_turn <= 2);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(expected, every_kind_in_every_state_of_the_stream_G5),
                TEST_ROW(expected, is_the_same_beside_other_appends_in_flight_G5),
                TEST_ROW(expected, is_the_same_after_a_restart_G5),
                TEST_ROW(check_only, streams_decide_the_whole_append_G5),
                TEST_ROW(empty_append, is_checked_and_writes_nothing_but_revives_a_deleted_stream),
                TEST_ROW(batch, is_contiguous_and_in_the_order_given_G4),
                TEST_ROW(several_streams, are_written_in_one_piece_interleaved_as_given_G5),
                TEST_ROW(several_streams, are_all_refused_when_one_is_G5),
                TEST_ROW(several_streams, that_fail_are_told_one_by_one_G5),
                TEST_ROW(in_flight, heads_count_before_they_are_committed_G5),
                TEST_ROW(conflict, that_rests_on_an_append_in_flight_is_told_after_its_commit_G5),
                TEST_ROW(check, that_rests_on_an_append_in_flight_is_told_after_its_commit_G5),
                TEST_ROW(conflict, tells_no_stream_of_the_append_before_it_is_committed_G5),
                TEST_ROW(duplicate, gets_the_answer_of_the_original_G6),
                TEST_ROW(duplicate, is_known_after_a_restart_G6),
                TEST_ROW(duplicate, is_known_after_sealing_and_a_restart_G6),
                TEST_ROW(duplicate, of_an_append_in_flight_waits_and_gets_its_outcome_G6),
                TEST_ROW(duplicate, over_several_streams_is_whole_or_a_conflict_G6),
                TEST_ROW(several_streams, as_many_as_there_may_be_with_as_many_events_G17),
                TEST_ROW(duplicate, within_one_append_is_written_twice),
                TEST_ROW(limit, is_exact_and_named_for_each_part_of_an_event_G17),
                TEST_ROW(limit, of_a_whole_append_and_of_names_G17),
                TEST_ROW(bad_input, is_refused_at_once_and_changes_nothing_G17),
                TEST_ROW(busy, refuses_at_once_and_ends_with_the_commit_G18),
                TEST_ROW(busy, refuses_what_would_only_wait_as_well_G18),
                TEST_ROW(answer, that_appends_again_leaves_the_loop_its_turns),
        };

        /* Only there a sync takes long enough for certain. */
        static const struct CMUnitTest simulated[] = {
                TEST_ROW(deadline, that_passes_before_the_commit_gives_unknown_and_the_append_stands_G3),
        };

        int failed = RUN_ON(MACHINE_SIM, tests);

        failed += RUN_ON(MACHINE_SIM, simulated);
        failed += RUN_ON(MACHINE_MEMORY, tests);
        return failed;
}
