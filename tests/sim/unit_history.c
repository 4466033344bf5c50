/* The checker of histories finds what is planted, and passes what is honest: the test of the tests. */
#include <stdio.h>

#include "../lib/test.h"
#include "history.h"

enum { OPS = 200, SIDES = 5 };

/* An honest history: clients that overlap, batches, conflicts, a duplicate now and then, unknown ones that
 * were kept and that were lost. */
struct honest {
        struct history h;
        uint64_t revisions[SIDES];
        uint64_t content;
        unsigned written; /* appends that are in the log */
};

static struct event_id id_of(uint64_t n)
{
        struct event_id id = {{0}};

        memcpy(id.bytes, &n, sizeof(n));
        return id;
}

static uint32_t begin_append(struct honest *f, uint32_t side, unsigned count)
{
        struct expected expected = {EXPECTED_EXACT, f->revisions[side] - 1};
        uint32_t op = history_begin(&f->h);

        if (!f->revisions[side])
                expected.kind = EXPECTED_NONE;
        history_add_stream(&f->h, side, expected);
        for (unsigned i = 0; i < count; i++) {
                struct event_id id = id_of(++f->content);

                history_add_event(&f->h, side, &id, f->content);
        }
        return op;
}

static void write_rows(struct honest *f, uint32_t op, uint32_t side)
{
        for (uint32_t i = 0; i < f->h.ops[op].event_count; i++) {
                const struct history_event *e = &f->h.events[f->h.ops[op].first_event + i];
                struct history_row row = {.position = f->h.row_count,
                        .revision = f->revisions[side]++,
                        .record = op + 1,
                        .content = e->content,
                        .side = side,
                        .id = e->id};

                history_add_row(&f->h, &row);
        }
        f->written++;
}

static void end_append(struct honest *f, uint32_t op, uint64_t first_position)
{
        struct history_op *o = history_end(&f->h, op, HISTORY_OK);

        o->first_position = first_position;
        o->position = first_position + o->event_count - 1;
}

static void add_conflict(struct honest *f, uint32_t side)
{
        uint32_t op = begin_append(f, side, 1);
        struct history_op *o = history_end(&f->h, op, HISTORY_CONFLICT);

        o->position = UINT64_MAX;
        f->h.streams[o->first_stream].has_revision = f->revisions[side] > 0;
        f->h.streams[o->first_stream].revision = f->revisions[side] - 1;
}

static void make_honest(struct honest *f)
{
        *f = (struct honest){0};
        for (unsigned i = 0; i < OPS; i++) {
                uint32_t side = i % SIDES, other = (i + 1) % SIDES, a, b;
                uint64_t at = f->h.row_count;

                a = begin_append(f, side, 1 + i % 3);
                b = begin_append(f, other, 2);
                write_rows(f, a, side);
                if (i % 7 != 0) /* else it was never written, and no answer came */
                        write_rows(f, b, other);
                end_append(f, a, at);
                if (i % 7 > 1)
                        end_append(f, b, at + 1 + i % 3);
                if (i % 4 == 0)
                        add_conflict(f, side);
                history_add_read(&f->h, f->h.tick + 1, f->h.row_count);
        }
}

static void assert_found(struct honest *f, const char *rule)
{
        char problem[256];

        assert_false(history_check(&f->h, problem));
        if (!strstr(problem, rule))
                print_error("found: %s\n", problem);
        assert_non_null(strstr(problem, rule));
        history_fini(&f->h);
}

/* An append in the middle that is acknowledged and has `count` events. */
static struct history_op *op_with(struct honest *f, enum history_outcome outcome, unsigned count)
{
        for (uint32_t i = f->h.op_count / 2; i < f->h.op_count; i++)
                if (f->h.ops[i].outcome == outcome && f->h.ops[i].event_count == count)
                        return &f->h.ops[i];
        fail();
        return NULL;
}

static void remove_rows(struct honest *f, uint64_t from, uint32_t count)
{
        memmove(f->h.rows + from, f->h.rows + from + count,
                (f->h.row_count - from - count) * sizeof(*f->h.rows));
        f->h.row_count -= count;
}

static void renumber(struct honest *f)
{
        uint64_t next[SIDES] = {0};

        for (uint32_t i = 0; i < f->h.row_count; i++) {
                f->h.rows[i].position = i;
                f->h.rows[i].revision = next[f->h.rows[i].side]++;
        }
}

TEST(history, that_is_honest_passes)
{
        struct honest f;
        char problem[256];

        make_honest(&f);
        if (!history_check(&f.h, problem))
                print_error("found: %s\n", problem);
        assert_true(history_check(&f.h, problem));
        history_fini(&f.h);
}

TEST(history, with_a_gap_is_found)
{
        struct honest f;

        make_honest(&f);
        remove_rows(&f, 40, 1);
        assert_found(&f, "gapless");
        make_honest(&f);
        f.h.rows[50].revision++;
        assert_found(&f, "gapless: revision");
}

TEST(history, that_lost_an_acknowledged_append_is_found)
{
        struct honest f;
        const struct history_op *op;

        make_honest(&f);
        op = op_with(&f, HISTORY_OK, 3);
        remove_rows(&f, op->first_position, 3);
        renumber(&f);
        assert_found(&f, "lost");
        /* The end of the log is gone. */
        make_honest(&f);
        f.h.row_count -= 2;
        assert_found(&f, "lost");
}

TEST(history, with_a_part_of_an_append_is_found)
{
        struct honest f;
        const struct history_op *op;

        make_honest(&f);
        op = op_with(&f, HISTORY_OK, 3);
        remove_rows(&f, op->first_position + 2, 1);
        renumber(&f);
        assert_found(&f, "atomic: a part");
        make_honest(&f);
        op = op_with(&f, HISTORY_OK, 3);
        f.h.rows[op->first_position + 1].record += 1000;
        assert_found(&f, "atomic: not in one piece");
}

TEST(history, with_an_append_that_is_there_twice_is_found)
{
        struct honest f;
        const struct history_op *op;
        struct history_row row;

        make_honest(&f);
        op = op_with(&f, HISTORY_OK, 1);
        row = f.h.rows[op->first_position];
        history_add_row(&f.h, &row);
        renumber(&f);
        assert_found(&f, "once");
}

TEST(history, with_two_appends_swapped_is_found)
{
        struct honest f;
        struct history_op *a, *b;
        struct history_row row;

        make_honest(&f);
        a = op_with(&f, HISTORY_OK, 1);
        for (b = a + 6; b->outcome != HISTORY_OK || b->event_count != 1; b++)
                continue;
        row = f.h.rows[a->first_position];
        f.h.rows[a->first_position] = f.h.rows[b->first_position];
        f.h.rows[b->first_position] = row;
        renumber(&f);
        assert_found(&f, "place");
        /* Both answers lie as well: then their times tell. */
        make_honest(&f);
        a = op_with(&f, HISTORY_OK, 1);
        for (b = a + 6; b->outcome != HISTORY_OK || b->event_count != 1 ||
                        f.h.streams[b->first_stream].side != f.h.streams[a->first_stream].side;
                b++)
                continue;
        row = f.h.rows[a->first_position];
        f.h.rows[a->first_position] = f.h.rows[b->first_position];
        f.h.rows[b->first_position] = row;
        renumber(&f);
        f.h.rows[a->first_position].record = 9999;
        f.h.streams[a->first_stream].expected.kind = f.h.streams[b->first_stream].expected.kind =
                EXPECTED_ANY;
        {
                uint64_t first = a->first_position, last = a->position;

                a->first_position = b->first_position;
                a->position = b->position;
                b->first_position = first;
                b->position = last;
        }
        assert_found(&f, "time");
}

TEST(history, with_a_refused_append_in_the_log_is_found)
{
        struct honest f;

        make_honest(&f);
        op_with(&f, HISTORY_OK, 2)->outcome = HISTORY_REFUSED;
        assert_found(&f, "never");
}

TEST(history, with_an_event_that_nobody_sent_is_found)
{
        struct honest f;

        make_honest(&f);
        f.h.rows[30].content = 1u << 30;
        assert_found(&f, "foreign");
        make_honest(&f);
        f.h.rows[30].id = id_of(1u << 30);
        assert_found(&f, "foreign");
}

TEST(history, with_an_expectation_that_did_not_hold_is_found)
{
        struct honest f;
        const struct history_op *op;

        make_honest(&f);
        op = op_with(&f, HISTORY_OK, 2);
        f.h.streams[op->first_stream].expected.revision++;
        assert_found(&f, "expectation");
}

TEST(history, with_a_conflict_that_lies_is_found)
{
        struct honest f;
        const struct history_op *op;

        make_honest(&f);
        op = op_with(&f, HISTORY_CONFLICT, 1);
        f.h.streams[op->first_stream].revision = 100000;
        assert_found(&f, "conflict: never was");
        make_honest(&f);
        op = op_with(&f, HISTORY_CONFLICT, 1);
        f.h.streams[op->first_stream].revision += 4;
        assert_found(&f, "conflict: too new");
        make_honest(&f);
        op = op_with(&f, HISTORY_CONFLICT, 1);
        f.h.streams[op->first_stream].revision -= 6;
        assert_found(&f, "conflict: too old");
}

TEST(history, with_a_stale_read_is_found)
{
        struct honest f;

        make_honest(&f);
        f.h.reads[100].length -= 3;
        assert_found(&f, "read: stale");
        make_honest(&f);
        f.h.reads[100].length += 8;
        assert_found(&f, "time"); /* it saw what was not sent yet */
        make_honest(&f);
        f.h.reads[OPS - 1].length += 1;
        assert_found(&f, "read: of what was lost");
}

TEST(history, with_a_wrong_answer_to_a_retry_is_found)
{
        struct honest f;
        struct history_op *original, *again;
        char problem[256];
        uint32_t op;

        make_honest(&f);
        original = op_with(&f, HISTORY_OK, 2);
        op = history_begin(&f.h);
        original = op_with(&f, HISTORY_OK, 2);
        history_add_stream(
                &f.h, f.h.streams[original->first_stream].side, (struct expected){EXPECTED_ANY, 0});
        for (unsigned i = 0; i < 2; i++)
                history_add_event(&f.h, f.h.events[original->first_event].side,
                        &f.h.events[original->first_event + i].id, ++f.content);
        again = history_end(&f.h, op, HISTORY_DUPLICATE);
        again->first_position = original->first_position;
        again->position = original->position;
        assert_true(history_check(&f.h, problem));
        again->position++;
        assert_found(&f, "retry");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(history, that_is_honest_passes),
                TEST_ROW(history, with_a_gap_is_found),
                TEST_ROW(history, that_lost_an_acknowledged_append_is_found),
                TEST_ROW(history, with_a_part_of_an_append_is_found),
                TEST_ROW(history, with_an_append_that_is_there_twice_is_found),
                TEST_ROW(history, with_two_appends_swapped_is_found),
                TEST_ROW(history, with_a_refused_append_in_the_log_is_found),
                TEST_ROW(history, with_an_event_that_nobody_sent_is_found),
                TEST_ROW(history, with_an_expectation_that_did_not_hold_is_found),
                TEST_ROW(history, with_a_conflict_that_lies_is_found),
                TEST_ROW(history, with_a_stale_read_is_found),
                TEST_ROW(history, with_a_wrong_answer_to_a_retry_is_found),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
