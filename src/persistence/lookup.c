#include "persistence/lookup.h"

#include <errno.h>
#include <stdlib.h>

#include "persistence/commit.h"

static int lookup_folded(struct persistence *p, size_t number, int r)
{
        if (r != INDEX_CORRUPT)
                return r;
        log_index_damaged(p, number);
        return PERSISTENCE_CORRUPT;
}

size_t lookup_last_segment(const struct persistence *p)
{
        size_t number = p->segment_count - 1;

        while (number > 0 && p->segments[number]->committed_records == 0)
                number--;
        return number;
}

/* ---- runs in a tail ---- */

/* The first run that does not end at or below `revision`. */
static uint32_t tail_seek(const struct tail_stream *s, uint64_t revision)
{
        uint32_t low = 0, high = s->run_count;

        while (low < high) {
                uint32_t middle = (low + high) / 2;

                if (tail_run(s, middle)->first_revision + tail_run(s, middle)->count <= revision)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static void tail_runs(const struct tail_stream *s, uint64_t revision, bool is_backward,
        struct lookup_cursor *c, struct run *ret, unsigned max, unsigned *ret_count)
{
        unsigned n = 0;

        if (!c->is_placed || c->index) {
                uint32_t at = tail_seek(s, revision);

                *c = (struct lookup_cursor){.next = at, .is_placed = true};
                if (is_backward && at < s->run_count && tail_run(s, at)->first_revision <= revision)
                        c->next++; /* backward, `next` is one behind the run to come */
        }
        if (is_backward)
                while (n < max && c->next > 0)
                        ret[n++] = *tail_run(s, --c->next);
        else
                while (n < max && c->next < s->run_count)
                        ret[n++] = *tail_run(s, c->next++);
        *ret_count = n;
}

/* ---- runs in an index file ---- */

/* Forward: the first entry to look at. Entries before the one that is sought may hold `revision`: the one
 * before it, or, when streams share hashes, any of the same hash. */
static int index_place_forward(
        struct persistence *p, struct index *x, uint64_t hash, uint64_t revision, uint32_t *ret)
{
        struct index_entry entry;
        int r;

        if (x->summary.has_collisions)
                return index_seek(x, p->cache, hash, 0, ret);
        r = index_seek(x, p->cache, hash, revision, ret);
        if (r || *ret == 0)
                return r;
        r = index_entry(x, p->cache, *ret - 1, &entry);
        if (!r && entry.hash == hash && entry.run.first_revision + entry.run.count > revision)
                --*ret;
        return r;
}

static int index_place(struct persistence *p, struct index *x, uint64_t hash, uint64_t revision,
        bool is_backward, struct lookup_cursor *c)
{
        bool may_have;
        int r;

        *c = (struct lookup_cursor){.index = x, .is_placed = true};
        r = index_may_have(x, p->cache, hash, &may_have);
        if (r)
                return r;
        if (!may_have) {
                c->is_at_end = true;
                return 0;
        }
        if (is_backward)
                return index_seek(x, p->cache, hash, revision + 1, &c->next);
        return index_place_forward(p, x, hash, revision, &c->next);
}

static int index_runs(struct persistence *p, struct index *x, uint64_t hash, uint64_t revision,
        bool is_backward, struct lookup_cursor *c, struct run *ret, unsigned max, unsigned *ret_count)
{
        struct index_entry entry;
        unsigned n = 0;
        int r = 0;

        *ret_count = 0;
        if (!c->is_placed || c->index != x)
                r = index_place(p, x, hash, revision, is_backward, c);
        while (!r && n < max && !c->is_at_end) {
                if (is_backward ? c->next == 0 : c->next == index_entry_count(x)) {
                        c->is_at_end = true;
                        break;
                }
                r = index_entry(x, p->cache, is_backward ? c->next - 1 : c->next, &entry);
                if (r)
                        break;
                if (entry.hash != hash) {
                        c->is_at_end = true;
                        break;
                }
                c->next += is_backward ? -1u : 1;
                ret[n++] = entry.run;
        }
        if (!r)
                *ret_count = n;
        return r;
}

int lookup_runs(struct persistence *p, size_t number, const struct lookup_stream *stream, uint64_t revision,
        bool is_backward, struct lookup_cursor *cursor, struct run *ret, unsigned max, unsigned *ret_count)
{
        struct log_segment *s = p->segments[number];
        const struct tail_stream *found;

        *ret_count = 0;
        if (s->index)
                return lookup_folded(p, number,
                        index_runs(p, s->index, stream->hash, revision, is_backward, cursor, ret, max,
                                ret_count));
        found = s->tail ? tail_find(s->tail, stream->name, stream->hash) : NULL;
        if (found)
                tail_runs(found, revision, is_backward, cursor, ret, max, ret_count);
        return 0;
}

/* ---- single records ---- */

int lookup_record(struct persistence *p, size_t number, uint64_t offset, struct buffer *buffer,
        struct record_header *ret, struct bytes *ret_payload)
{
        struct log_segment *s = p->segments[number];
        uint32_t seed = segment_seed(&s->header);
        struct os_file *file;
        size_t got, size = RECORD_HEADER_SIZE + 1024; /* most records fit, so one read does it */
        unsigned tries;
        int r;

        r = log_segment_file(p, s, &file);
        for (tries = 0; !r && tries < 2; tries++) {
                buffer_clear(buffer);
                buffer_reserve(buffer, size);
                r = os_file_read(file, buffer->data, size, offset, &got);
                if (r == -EIO)
                        return PERSISTENCE_CORRUPT;
                if (r)
                        return fault_fold(r);
                p->stats.read_bytes += got;
                if (got < RECORD_HEADER_SIZE || record_header_decode(buffer->data, seed, ret) != 0)
                        return PERSISTENCE_CORRUPT;
                if (got >= RECORD_HEADER_SIZE + (size_t)ret->payload_size) {
                        *ret_payload = bytes_of(buffer->data + RECORD_HEADER_SIZE, ret->payload_size);
                        if (!p->skip_crc && record_payload_crc(seed, *ret_payload) != ret->payload_crc)
                                return PERSISTENCE_CORRUPT;
                        return 0;
                }
                size = RECORD_HEADER_SIZE + (size_t)ret->payload_size;
        }
        return r ? r : PERSISTENCE_CORRUPT;
}

/* The last event of a run; only the numbers of *ret are valid afterwards. *ret_found false: the run is of
 * another stream with the same hash. The record may have events of ours all the same, so the run's first
 * revision tells. */
static int lookup_last_event(struct persistence *p, size_t number, const struct run *run, struct bytes stream,
        struct event_view *ret, bool *ret_found)
{
        struct buffer buffer = {0};
        struct record_events_reader events = {0};
        struct record_header h;
        struct event_view event;
        struct bytes payload;
        int r, outcome;

        *ret_found = false;
        r = lookup_record(p, number, (uint64_t)run->offset8 * RECORD_ALIGNMENT, &buffer, &h, &payload);
        if (!r) {
                outcome = record_events_open(&events, &h, payload);
                while (!outcome) {
                        outcome = record_events_next(&events, &event);
                        if (!outcome && bytes_equal(event.stream, stream)) {
                                if (!*ret_found && event.revision != run->first_revision)
                                        break;
                                *ret = event;
                                *ret_found = true;
                        }
                }
                if (outcome == RECORD_INVALID)
                        r = PERSISTENCE_CORRUPT;
        }
        if (r == PERSISTENCE_CORRUPT)
                log_segment_damaged(p, p->segments[number]);
        record_events_close(&events);
        buffer_fini(&buffer);
        return r;
}

/* ---- heads ---- */

static void head_add(struct persistence_head *head, uint64_t revision, uint64_t position, bool is_first)
{
        if (is_first)
                head->last_position = position;
        if (revision == REVISION_MAX) {
                head->is_tombstoned = true;
        } else {
                head->has_events = true;
                head->revision = revision;
        }
}

/* Walks the runs of a sealed segment from its newest until the head is known. */
static int head_in_index(struct persistence *p, size_t number, const struct lookup_stream *stream,
        struct persistence_head *head, bool *found)
{
        struct lookup_cursor cursor = {0};
        struct event_view event;
        struct run run;
        unsigned count;
        bool is_ours;
        int r;

        while (!head->has_events) {
                r = lookup_runs(p, number, stream, REVISION_MAX, true, &cursor, &run, 1, &count);
                if (r || !count)
                        return r;
                r = lookup_last_event(p, number, &run, stream->name, &event, &is_ours);
                if (r)
                        return r;
                if (is_ours) {
                        head_add(head, event.revision, event.position, !*found);
                        *found = true;
                }
        }
        return 0;
}

int persistence_stream_head(struct persistence *p, struct bytes stream, struct persistence_head *ret)
{
        struct lookup_stream sought = {stream, index_hash(stream)};
        struct persistence_head head = {0};
        bool found = false;
        size_t number;
        int r = 0;

        for (number = p->segment_count; number > 0 && !r && !head.has_events; number--) {
                const struct log_segment *s = p->segments[number - 1];
                const struct tail_stream *in_tail;

                if (s->index) {
                        r = head_in_index(p, number - 1, &sought, &head, &found);
                        continue;
                }
                in_tail = s->tail ? tail_find(s->tail, stream, sought.hash) : NULL;
                if (!in_tail)
                        continue;
                if (in_tail->is_tombstoned)
                        head_add(&head, REVISION_MAX, in_tail->last_position, !found);
                if (in_tail->has_events)
                        head_add(&head, in_tail->last_revision, in_tail->last_position,
                                !found && !in_tail->is_tombstoned);
                found = true;
        }
        if (r)
                return r;
        if (!found)
                return PERSISTENCE_NOT_FOUND;
        *ret = head;
        return 0;
}

/* ---- where to begin ---- */

/* Whether the segment has an event of the stream at or below `revision`. */
static int segment_reaches_down(struct persistence *p, size_t number, const struct lookup_stream *stream,
        uint64_t revision, bool *ret)
{
        struct log_segment *s = p->segments[number];
        struct lookup_cursor cursor = {0};
        struct event_view event;
        struct run run;
        unsigned count;
        int r = 0;

        *ret = false;
        while (!r && !*ret) {
                r = lookup_runs(p, number, stream, revision, true, &cursor, &run, 1, &count);
                if (r || !count)
                        return r;
                if (!s->index)
                        *ret = true;
                else
                        r = lookup_last_event(p, number, &run, stream->name, &event, ret);
        }
        return r;
}

int lookup_first_segment(
        struct persistence *p, const struct lookup_stream *stream, uint64_t revision, size_t *ret)
{
        size_t number = lookup_last_segment(p);
        bool reaches = false;
        int r = 0;

        *ret = 0;
        if (revision == 0)
                return 0; /* the walk forward skips segments without the stream by their Bloom filters */
        /* From the newest back: the first that has something at or below `revision` has all from there on, or
         * they are in newer ones. If none has, the stream is shorter than that and grows at the end of the
         * log. */
        for (;; number--) {
                r = segment_reaches_down(p, number, stream, revision, &reaches);
                if (r || reaches || number == 0)
                        break;
        }
        *ret = number;
        return r;
}
