/* The four walks of a reader: the log and one stream, forward and backward.
 *
 * Every step can be taken again: when bytes have to come from the disk first, nothing has moved, and the next
 * call asks for the same record. A walk forward never enters a segment before something in it is committed,
 * so truncation never takes a segment away from under a reader.
 *
 * What comes out is checked against what must come next: positions and revisions follow each other without a
 * gap, so a wrong index or a misplaced record is an error and never a wrong answer. */
#include "persistence/reader.h"

#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"

/* ---- events of the current record ---- */

static int cursor_open_record(struct persistence_reader *r)
{
        if (r->record.header.kind != RECORD_EVENTS)
                return 0;
        if (record_events_open(&r->events, &r->record.header, r->record.payload) != 0)
                return reader_corrupt(
                        r, r->record.segment, r->record.offset, "the events of a record cannot be read");
        r->is_in_record = true;
        return 0;
}

static void cursor_leave_record(struct persistence_reader *r)
{
        record_events_close(&r->events);
        r->is_in_record = false;
}

/* The next event of the record. 0, PERSISTENCE_END (the record ends) or PERSISTENCE_CORRUPT. */
static int cursor_event(struct persistence_reader *r, struct event_view *ret)
{
        int result = record_events_next(&r->events, ret);

        if (LIKELY(result == 0))
                return 0;
        cursor_leave_record(r);
        if (result == RECORD_EVENTS_END)
                return PERSISTENCE_END;
        return reader_corrupt(r, r->record.segment, r->record.offset, "an event of a record cannot be read");
}

/* Whether an event of the record is one of the run that led here. Runs of other streams with the same hash
 * lead to records that may hold events of ours as well, of another run, out of turn: the first revision tells
 * them apart. */
static bool cursor_is_ours(struct persistence_reader *r, const struct event_view *event)
{
        if (r->run_is_foreign || !bytes_equal(event->stream, r->stream.name))
                return false;
        if (!r->run_is_ours && event->revision != r->run_first_revision) {
                r->run_is_foreign = true;
                return false;
        }
        r->run_is_ours = true;
        return true;
}

/* Backward: all events of the record that are wanted, into `views`. */
static int cursor_collect(struct persistence_reader *r)
{
        struct event_view event;
        int result;

        r->view_count = 0;
        result = cursor_open_record(r);
        while (!result && r->is_in_record) {
                result = cursor_event(r, &event);
                if (result)
                        break;
                if (r->is_stream && !cursor_is_ours(r, &event))
                        continue;
                if ((r->is_stream ? event.revision : event.position) > r->next)
                        continue;
                if (r->view_count == r->view_capacity) {
                        r->view_capacity = r->view_capacity ? r->view_capacity * 2 : 16;
                        r->views = memory_resize(r->views, r->view_capacity * sizeof r->views[0]);
                }
                r->views[r->view_count++] = event;
        }
        return result == PERSISTENCE_END ? 0 : result;
}

static uint64_t cursor_block(const struct persistence_reader *r)
{
        return r->has_read ? READER_BLOCK_NEXT : READER_BLOCK_FIRST;
}

/* ---- the log, forward ---- */

/* Finds the record that holds position `next`, which is committed. */
static int log_place(struct persistence_reader *r)
{
        struct persistence *p = r->p;
        struct log_segment *s;
        uint64_t event, from, to, before;
        uint64_t low = 0, high;
        int result = 0;

        r->segment = log_segment_of_position(p, r->next);
        s = p->segments[r->segment];
        event = r->next - s->header.first_position;
        r->offset = SEGMENT_HEADER_SIZE;
        if (s->index) {
                result = index_stretch(s->index, p->cache, event, &from, &to, &before);
                if (!result)
                        r->offset = from;
                if (result == INDEX_CORRUPT) { /* without the index: from the segment's beginning */
                        log_index_damaged(p, r->segment);
                        result = 0;
                }
        } else {
                for (high = s->committed_records; high - low > 1;) {
                        uint64_t middle = (low + high) / 2;

                        if (s->records[middle].events_before <= event)
                                low = middle;
                        else
                                high = middle;
                }
                r->offset = (uint64_t)s->records[low].offset8 * RECORD_ALIGNMENT;
        }
        r->is_placed = !result;
        return result;
}

/* The next record of events, over the ends of segments. */
static int log_next_record(struct persistence_reader *r)
{
        struct persistence *p = r->p;
        int result;

        while (!r->is_in_record) {
                if (r->offset >= p->segments[r->segment]->committed_end) {
                        if (!lookup_is_complete(p, r->segment))
                                return PERSISTENCE_END;
                        r->segment++;
                        r->offset = SEGMENT_HEADER_SIZE;
                }
                result = reader_get_record(r, r->segment, r->offset, cursor_block(r));
                if (result)
                        return result;
                if (r->has_given && r->record.header.first_position != r->next)
                        return reader_corrupt(r, r->segment, r->offset, "its position does not follow");
                result = cursor_open_record(r);
                if (result)
                        return result;
                r->offset += record_size(r->record.header.payload_size);
        }
        return 0;
}

static int log_next(struct persistence_reader *r, struct event_view *ret)
{
        int result;

        if (UNLIKELY(!r->is_placed)) {
                if (r->next >= r->p->committed_position)
                        return PERSISTENCE_END;
                result = log_place(r);
                if (result)
                        return result;
        }
        for (;;) {
                if (!r->is_in_record) {
                        result = log_next_record(r);
                        if (result)
                                return result;
                }
                result = cursor_event(r, ret);
                if (result == PERSISTENCE_END)
                        continue;
                if (result)
                        return result;
                if (ret->position < r->next)
                        continue;
                if (UNLIKELY(ret->position != r->next))
                        return reader_corrupt(
                                r, r->record.segment, r->record.offset, "a position is missing before it");
                r->next++;
                r->has_given = true;
                return 0;
        }
}

/* ---- the log, backward ---- */

static void chunk_add(struct persistence_reader *r, uint64_t offset)
{
        if (r->chunk_count == r->chunk_capacity) {
                r->chunk_capacity = r->chunk_capacity ? r->chunk_capacity * 2 : 256;
                r->chunk = memory_resize(r->chunk, r->chunk_capacity * sizeof r->chunk[0]);
        }
        r->chunk[r->chunk_count++] = offset;
}

/* The records of a stretch of a sealed segment up to position `next`, found by walking the stretch forward.
 */
static int chunk_from_index(struct persistence_reader *r, struct log_segment *s, uint64_t event)
{
        struct persistence *p = r->p;
        uint64_t from, to, before, offset;
        struct record_header h;
        int result;

        result = index_stretch(s->index, p->cache, event, &from, &to, &before);
        if (result == INDEX_CORRUPT) {
                log_index_damaged(p, r->segment);
                return reader_index_corrupt(r, r->segment);
        }
        if (result)
                return result;
        result = reader_fill(r, r->segment, from, to - from, to - from);
        if (result)
                return result;
        for (offset = from; offset < to; offset += record_size(h.payload_size)) {
                if (to - offset < RECORD_HEADER_SIZE ||
                        record_header_decode(r->block.data + (offset - r->block_offset),
                                segment_seed(&s->header), &h) != 0)
                        return reader_corrupt(r, r->segment, offset, "the header of a record");
                if (h.kind != RECORD_EVENTS)
                        continue;
                if (h.first_position > r->next)
                        break;
                chunk_add(r, offset);
        }
        return 0;
}

/* In an unsealed segment the table of records says it: as many as fit a block. */
static int chunk_from_records(struct persistence_reader *r, struct log_segment *s, uint64_t event)
{
        uint64_t low = 0, high = s->committed_records, first, end, i;

        while (high - low > 1) {
                uint64_t middle = (low + high) / 2;

                if (s->records[middle].events_before <= event)
                        low = middle;
                else
                        high = middle;
        }
        end = low + 1 < s->committed_records ? (uint64_t)s->records[low + 1].offset8 * RECORD_ALIGNMENT
                                             : s->committed_end;
        for (first = low; first > 0; first--)
                if (end - (uint64_t)s->records[first - 1].offset8 * RECORD_ALIGNMENT > cursor_block(r))
                        break;
        for (i = first; i <= low; i++)
                chunk_add(r, (uint64_t)s->records[i].offset8 * RECORD_ALIGNMENT);
        return reader_fill(r, r->segment, r->chunk[0], end - r->chunk[0], end - r->chunk[0]);
}

static int chunk_fill(struct persistence_reader *r)
{
        struct persistence *p = r->p;
        struct log_segment *s;
        int result;

        r->segment = log_segment_of_position(p, r->next);
        s = p->segments[r->segment];
        r->chunk_count = 0;
        if (s->index)
                result = chunk_from_index(r, s, r->next - s->header.first_position);
        else
                result = chunk_from_records(r, s, r->next - s->header.first_position);
        if (result)
                r->chunk_count = 0;
        return result;
}

static int log_previous(struct persistence_reader *r, struct event_view *ret)
{
        int result;

        if (r->is_exhausted)
                return PERSISTENCE_END;
        if (!r->is_placed) {
                if (r->p->committed_position == 0)
                        return PERSISTENCE_END;
                r->next = MIN(r->next, r->p->committed_position - 1);
                r->is_placed = true;
        }
        while (r->view_count == 0) {
                if (r->chunk_count == 0) {
                        result = chunk_fill(r);
                        if (result)
                                return result;
                        if (r->chunk_count == 0)
                                return reader_corrupt(r, r->segment, SEGMENT_HEADER_SIZE,
                                        "no record has the next position");
                }
                result = reader_get_record(r, r->segment, r->chunk[r->chunk_count - 1], cursor_block(r));
                if (!result)
                        result = cursor_collect(r);
                if (result)
                        return result;
                r->chunk_count--;
        }
        *ret = r->views[--r->view_count];
        if (ret->position != r->next)
                return reader_corrupt(
                        r, r->record.segment, r->record.offset, "a position is missing behind it");
        r->is_exhausted = r->next == 0;
        r->next--;
        return 0;
}

/* ---- a stream ---- */

/* What to read for the run that is due, so that following runs nearby come with it: [*ret_from, *ret_to). */
static void run_plan(const struct persistence_reader *r, uint64_t *ret_from, uint64_t *ret_to)
{
        uint64_t from = (uint64_t)r->runs[r->run_at].offset8 * RECORD_ALIGNMENT, to = from + READER_RUN_GUESS;
        unsigned i;

        for (i = r->run_at + 1; i < r->run_count; i++) {
                uint64_t offset = (uint64_t)r->runs[i].offset8 * RECORD_ALIGNMENT;

                if (offset + READER_GAP_MAX < from || offset > to + READER_GAP_MAX)
                        break;
                if (MAX(to, offset + READER_RUN_GUESS) - MIN(from, offset) > READER_BLOCK_NEXT)
                        break;
                from = MIN(from, offset);
                to = MAX(to, offset + READER_RUN_GUESS);
        }
        *ret_from = from;
        *ret_to = to;
}

static int run_get_record(struct persistence_reader *r)
{
        uint64_t offset = (uint64_t)r->runs[r->run_at].offset8 * RECORD_ALIGNMENT, from, to;
        int result;

        if (!reader_has(r, r->segment, offset, RECORD_HEADER_SIZE)) {
                run_plan(r, &from, &to);
                result = reader_fill(r, r->segment, from, offset - from + RECORD_HEADER_SIZE, to - from);
                if (result)
                        return result;
        }
        r->run_first_revision = r->runs[r->run_at].first_revision;
        r->run_is_ours = false;
        r->run_is_foreign = false;
        return reader_get_record(r, r->segment, offset, READER_RUN_GUESS);
}

/* Gets the next runs of the stream, over the ends of segments. */
static int runs_refill(struct persistence_reader *r)
{
        struct persistence *p = r->p;
        int result;

        for (;;) {
                r->run_at = 0;
                r->run_count = 0;
                result = lookup_runs(p, r->segment, &r->stream, r->next, r->is_backward, &r->cursor, r->runs,
                        READER_RUNS, &r->run_count);
                if (result == PERSISTENCE_CORRUPT)
                        return reader_index_corrupt(r, r->segment);
                if (result || r->run_count)
                        return result;
                if (r->is_backward ? r->segment == 0 : !lookup_is_complete(p, r->segment))
                        return PERSISTENCE_END;
                r->segment += r->is_backward ? (size_t)-1 : 1;
                r->cursor = (struct lookup_cursor){0};
        }
}

static int stream_place(struct persistence_reader *r)
{
        int result;

        if (r->is_backward) {
                r->segment = lookup_last_segment(r->p);
                r->is_placed = true;
                return 0;
        }
        result = lookup_first_segment(r->p, &r->stream, r->next, &r->segment);
        if (result == PERSISTENCE_CORRUPT)
                return reader_corrupt(
                        r, r->segment, SEGMENT_HEADER_SIZE, "a record or the index file of a newer segment");
        r->is_placed = !result;
        return result;
}

static int stream_next(struct persistence_reader *r, struct event_view *ret)
{
        int result;

        if (r->is_exhausted)
                return PERSISTENCE_END;
        if (!r->is_placed) {
                result = stream_place(r);
                if (result)
                        return result;
        }
        for (;;) {
                while (r->is_in_record) {
                        result = cursor_event(r, ret);
                        if (result == PERSISTENCE_END)
                                break;
                        if (result)
                                return result;
                        if (!cursor_is_ours(r, ret) || ret->revision < r->next)
                                continue;
                        if (r->has_given && ret->revision != r->next && ret->revision != REVISION_MAX)
                                return reader_corrupt(r, r->record.segment, r->record.offset,
                                        "a revision is missing before it");
                        r->is_exhausted = ret->revision == REVISION_MAX;
                        r->next = ret->revision + 1;
                        r->has_given = true;
                        return 0;
                }
                if (r->run_at == r->run_count) {
                        result = runs_refill(r);
                        if (result)
                                return result;
                }
                result = run_get_record(r);
                if (!result)
                        result = cursor_open_record(r);
                if (result)
                        return result;
                r->run_at++;
        }
}

static int stream_previous(struct persistence_reader *r, struct event_view *ret)
{
        int result;

        if (r->is_exhausted)
                return PERSISTENCE_END;
        if (!r->is_placed) {
                result = stream_place(r);
                if (result)
                        return result;
        }
        while (r->view_count == 0) {
                if (r->run_at == r->run_count) {
                        result = runs_refill(r);
                        if (result == PERSISTENCE_END)
                                r->is_exhausted = true;
                        if (result)
                                return result;
                }
                result = run_get_record(r);
                if (!result)
                        result = cursor_collect(r);
                if (result)
                        return result;
                r->run_at++;
        }
        *ret = r->views[--r->view_count];
        if (r->has_given && ret->revision != r->next)
                return reader_corrupt(
                        r, r->record.segment, r->record.offset, "a revision is missing behind it");
        r->has_given = ret->revision != REVISION_MAX;
        r->is_exhausted = ret->revision == 0;
        r->next = ret->revision - 1;
        return 0;
}

int cursor_next(struct persistence_reader *r, struct event_view *ret)
{
        if (r->is_stream)
                return r->is_backward ? stream_previous(r, ret) : stream_next(r, ret);
        return r->is_backward ? log_previous(r, ret) : log_next(r, ret);
}
