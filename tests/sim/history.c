#include "history.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

void history_fini(struct history *h)
{
        free(h->ops);
        free(h->streams);
        free(h->events);
        free(h->reads);
        free(h->rows);
        *h = (struct history){0};
}

#define ADD(h, name, value)                                                                                  \
        do {                                                                                                 \
                if ((h)->name##_count == (h)->name##_capacity) {                                             \
                        (h)->name##_capacity = MAX((h)->name##_capacity * 2, 256);                           \
                        (h)->name##s =                                                                       \
                                memory_resize((h)->name##s, (h)->name##_capacity * sizeof(*(h)->name##s));   \
                }                                                                                            \
                (h)->name##s[(h)->name##_count++] = (value);                                                 \
        } while (0)

uint32_t history_begin(struct history *h)
{
        struct history_op op = {.begin = ++h->tick,
                .end = UINT64_MAX,
                .first_stream = h->stream_count,
                .first_event = h->event_count};

        ADD(h, op, op);
        return h->op_count - 1;
}

void history_add_stream(struct history *h, uint32_t side, struct expected expected)
{
        struct history_stream stream = {.side = side, .expected = expected};

        ADD(h, stream, stream);
        h->ops[h->op_count - 1].stream_count++;
}

void history_add_event(struct history *h, uint32_t side, const struct event_id *id, uint64_t content)
{
        struct history_event event = {.side = side, .id = *id, .content = content};

        ADD(h, event, event);
        h->ops[h->op_count - 1].event_count++;
}

struct history_op *history_end(struct history *h, uint32_t op, enum history_outcome outcome)
{
        h->ops[op].end = ++h->tick;
        h->ops[op].outcome = outcome;
        return &h->ops[op];
}

void history_add_read(struct history *h, uint64_t begin, uint64_t length)
{
        struct history_read read = {.begin = begin, .end = ++h->tick, .length = length};

        ADD(h, read, read);
}

void history_add_row(struct history *h, const struct history_row *row)
{
        ADD(h, row, *row);
}

/* ---- checking ---- */

/* Which append wrote a row. */
struct author {
        uint64_t content;
        uint32_t op;
        uint32_t event; /* of the append's */
};
struct check {
        const struct history *h;
        char *problem;
        struct author *authors; /* hash table by content */
        uint64_t author_mask;
        const struct author **by_row; /* NULL: the store's own */
        uint64_t *written_at;         /* by op: its first row; UINT64_MAX: none */
        uint32_t *written;            /* by op: rows of it */
};

static bool fails(struct check *c, const char *rule, uint64_t what, uint64_t where)
{
        snprintf(c->problem, 256, "history: %s: %llu at %llu", rule, (unsigned long long)what,
                (unsigned long long)where);
        return false;
}

static struct author *author_slot(struct check *c, uint64_t content)
{
        uint64_t at = content * 0x9e3779b97f4a7c15u >> 20 & c->author_mask;

        while (c->authors[at].content && c->authors[at].content != content)
                at = (at + 1) & c->author_mask;
        return &c->authors[at];
}

static void learn_authors(struct check *c)
{
        const struct history *h = c->h;
        uint64_t size = 1024;

        while (size < (uint64_t)h->event_count * 2)
                size *= 2;
        c->author_mask = size - 1;
        c->authors = memory_new_array(size, sizeof(*c->authors));
        for (uint32_t op = 0; op < h->op_count; op++) {
                for (uint32_t i = 0; i < h->ops[op].event_count; i++) {
                        uint64_t content = h->events[h->ops[op].first_event + i].content;

                        *author_slot(c, content) = (struct author){content, op, i};
                }
        }
}

static bool check_numbers(struct check *c)
{
        enum { SIDES = 256 };
        uint64_t next[SIDES] = {0};
        bool is_ended[SIDES] = {false};

        for (uint32_t i = 0; i < c->h->row_count; i++) {
                const struct history_row *row = &c->h->rows[i];

                assert(row->side < SIDES);
                if (row->position != i)
                        return fails(c, "gapless: position", row->position, i);
                if (is_ended[row->side])
                        return fails(c, "gapless: behind a tombstone", row->side, i);
                if (row->revision == REVISION_MAX)
                        is_ended[row->side] = true;
                else if (row->revision != next[row->side]++)
                        return fails(c, "gapless: revision", row->revision, i);
        }
        return true;
}

static bool check_rows(struct check *c)
{
        const struct history *h = c->h;

        for (uint32_t i = 0; i < h->row_count; i++) {
                const struct history_row *row = &h->rows[i];
                const struct author *a;
                const struct history_event *e;

                if (!row->content)
                        continue;
                a = author_slot(c, row->content);
                if (!a->content)
                        return fails(c, "foreign", row->side, i);
                e = &h->events[h->ops[a->op].first_event + a->event];
                if (e->side != row->side || !event_id_equal(&e->id, &row->id))
                        return fails(c, "foreign: stream or id", a->op, i);
                if (h->ops[a->op].outcome == HISTORY_REFUSED || h->ops[a->op].outcome == HISTORY_CONFLICT)
                        return fails(c, "never: refused", a->op, i);
                if (h->ops[a->op].outcome == HISTORY_DUPLICATE)
                        return fails(c, "never: a duplicate", a->op, i);
                if (a->event != c->written[a->op])
                        return fails(c, "once, or atomic: order", a->op, i);
                if (a->event == 0)
                        c->written_at[a->op] = i;
                else if (c->written_at[a->op] + a->event != i || h->rows[i - 1].record != row->record)
                        return fails(c, "atomic: not in one piece", a->op, i);
                c->written[a->op]++;
                c->by_row[i] = a;
        }
        return true;
}

static bool check_place(struct check *c, uint32_t n)
{
        const struct history *h = c->h;
        const struct history_op *op = &h->ops[n];

        if (c->written[n] && c->written[n] != op->event_count)
                return fails(c, "atomic: a part", n, c->written_at[n]);
        if (op->outcome == HISTORY_OK && op->event_count) {
                if (!c->written[n])
                        return fails(c, "lost", n, op->first_position);
                if (op->first_position != c->written_at[n] ||
                        op->position != c->written_at[n] + op->event_count - 1)
                        return fails(c, "place", n, op->first_position);
        }
        /* A deletion's only trace is that the store wrote there. */
        if (op->outcome == HISTORY_OK && !op->event_count && op->position != UINT64_MAX &&
                (op->position >= h->row_count || h->rows[op->position].content))
                return fails(c, "lost: deletion", n, op->position);
        return true;
}

static bool check_expected(struct check *c, uint32_t n)
{
        const struct history *h = c->h;
        const struct history_op *op = &h->ops[n];

        for (uint32_t s = 0; s < op->stream_count && c->written[n]; s++) {
                const struct history_stream *stream = &h->streams[op->first_stream + s];

                if (stream->expected.kind != EXPECTED_EXACT)
                        continue;
                for (uint32_t i = 0; i < op->event_count; i++) {
                        const struct history_row *row = &h->rows[c->written_at[n] + i];

                        if (row->side != stream->side)
                                continue;
                        if (row->revision != stream->expected.revision + 1)
                                return fails(c, "expectation", n, row->position);
                        break;
                }
        }
        return true;
}

static bool is_of(const struct history *h, const struct history_op *op, uint64_t position)
{
        for (uint32_t i = 0; i < op->event_count && position < h->row_count; i++) {
                const struct history_event *e = &h->events[op->first_event + i];

                if (h->rows[position].side == e->side && event_id_equal(&h->rows[position].id, &e->id))
                        return true;
        }
        return false;
}

static bool check_duplicate(struct check *c, uint32_t n)
{
        const struct history_op *op = &c->h->ops[n];

        return (is_of(c->h, op, op->first_position) && is_of(c->h, op, op->position)) ||
               fails(c, "retry", n, op->position);
}

/* Rows of each side in order: where is (side, revision)? By a sorted list of rows. */
struct place {
        uint32_t side;
        uint64_t revision;
        uint32_t row;
};

static int compare_places(const void *a, const void *b)
{
        const struct place *x = a, *y = b;

        if (x->side != y->side)
                return x->side < y->side ? -1 : 1;
        return x->revision == y->revision ? 0 : x->revision < y->revision ? -1 : 1;
}

static const struct history_op *writer_of(
        struct check *c, struct place *places, uint32_t side, uint64_t revision)
{
        struct place wanted = {.side = side, .revision = revision};
        struct place *found = bsearch(&wanted, places, c->h->row_count, sizeof(*places), compare_places);

        return found && c->by_row[found->row] ? &c->h->ops[c->by_row[found->row]->op] : NULL;
}

static bool check_conflicts(struct check *c)
{
        const struct history *h = c->h;
        struct place *places = memory_new_array(h->row_count + 1, sizeof(*places));
        bool is_fine = true;

        for (uint32_t i = 0; i < h->row_count; i++)
                places[i] = (struct place){h->rows[i].side, h->rows[i].revision, i};
        qsort(places, h->row_count, sizeof(*places), compare_places);
        for (uint32_t n = 0; n < h->op_count && is_fine; n++) {
                const struct history_op *op = &h->ops[n];
                const struct history_stream *stream;
                const struct history_op *writer;
                struct place wanted;

                if (op->outcome != HISTORY_CONFLICT)
                        continue;
                stream = &h->streams[op->first_stream + op->failed];
                if (stream->has_revision) {
                        wanted = (struct place){.side = stream->side, .revision = stream->revision};
                        if (!bsearch(&wanted, places, h->row_count, sizeof(*places), compare_places))
                                is_fine = fails(c, "conflict: never was", n, stream->revision);
                        writer = writer_of(c, places, stream->side, stream->revision);
                        if (writer && writer->begin > op->end)
                                is_fine = fails(c, "conflict: too new", n, stream->revision);
                }
                writer = writer_of(c, places, stream->side, stream->has_revision ? stream->revision + 1 : 0);
                if (writer && writer->outcome == HISTORY_OK && writer->end < op->begin)
                        is_fine = fails(c, "conflict: too old", n, stream->revision);
        }
        free(places);
        return is_fine;
}

/* From tick `end` on, rows below `length` are known: by an acknowledgement or a read. What begins later
 * stands behind them, so a read of the future is found as well. */
struct known {
        uint64_t end;
        uint64_t length;
};

static int compare_known(const void *a, const void *b)
{
        const struct known *x = a, *y = b;

        return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

static bool check_times(struct check *c)
{
        const struct history *h = c->h;
        struct known *known = memory_new_array((uint64_t)h->op_count + h->read_count + 1, sizeof(*known));
        uint32_t count = 0, at = 0;
        uint64_t length = 0;
        bool is_fine = true;

        for (uint32_t i = 0; i < h->op_count; i++)
                if (h->ops[i].outcome == HISTORY_OK && h->ops[i].position != UINT64_MAX)
                        known[count++] = (struct known){h->ops[i].end, h->ops[i].position + 1};
        for (uint32_t i = 0; i < h->read_count; i++)
                known[count++] = (struct known){h->reads[i].end, h->reads[i].length};
        qsort(known, count, sizeof(*known), compare_known);
        for (uint32_t i = 0; i < h->op_count && is_fine; i++) { /* in the order of their beginning */
                for (; at < count && known[at].end < h->ops[i].begin; at++)
                        length = MAX(length, known[at].length);
                if (c->written[i] && c->written_at[i] < length)
                        is_fine = fails(c, "time", i, c->written_at[i]);
        }
        at = 0;
        length = 0;
        for (uint32_t i = 0; i < h->read_count && is_fine; i++) {
                for (; at < count && known[at].end < h->reads[i].begin; at++)
                        length = MAX(length, known[at].length);
                if (h->reads[i].length < length)
                        is_fine = fails(c, "read: stale", i, h->reads[i].length);
                else if (h->reads[i].length > h->row_count)
                        is_fine = fails(c, "read: of what was lost", i, h->reads[i].length);
        }
        free(known);
        return is_fine;
}

static bool check_ops(struct check *c)
{
        for (uint32_t n = 0; n < c->h->op_count; n++) {
                if (!check_place(c, n) || !check_expected(c, n))
                        return false;
                if (c->h->ops[n].outcome == HISTORY_DUPLICATE && !check_duplicate(c, n))
                        return false;
        }
        return true;
}

bool history_check(const struct history *h, char ret_problem[256])
{
        struct check c = {.h = h, .problem = ret_problem};
        bool is_fine;

        ret_problem[0] = 0;
        learn_authors(&c);
        c.by_row = memory_new_array((uint64_t)h->row_count + 1, sizeof(*c.by_row));
        c.written_at = memory_new_array((uint64_t)h->op_count + 1, sizeof(*c.written_at));
        c.written = memory_new_array((uint64_t)h->op_count + 1, sizeof(*c.written));
        is_fine = check_numbers(&c) && check_rows(&c) && check_ops(&c) && check_conflicts(&c) &&
                  check_times(&c);
        free(c.authors);
        free(c.by_row);
        free(c.written_at);
        free(c.written);
        return is_fine;
}
