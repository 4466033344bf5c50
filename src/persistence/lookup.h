/* Where the events of a stream are: its runs in a segment, from the tail or the index file. */
#ifndef PERSISTENCE_LOOKUP_H
#define PERSISTENCE_LOOKUP_H

#include "persistence/log.h"

struct lookup_stream {
        struct bytes name;
        uint64_t hash; /* index_hash of the name */
};

/* A place among the runs of one segment. All zero: not there yet. */
struct lookup_cursor {
        const struct index *index; /* that `next` counts in; NULL: the tail */
        uint32_t next;
        bool is_placed;
        bool is_at_end;
};

/* The next runs of the stream in a segment, in reading order, from the one that holds or follows (backward:
 * precedes) `revision`. Runs of other streams with the same hash may be among them. *ret_count 0: none, at
 * least for now. 0, PERSISTENCE_CORRUPT (the index file; it is then built anew) or a fault. */
MUST_CHECK int lookup_runs(struct persistence *p, size_t number, const struct lookup_stream *stream,
        uint64_t revision, bool is_backward, struct lookup_cursor *cursor, struct run *ret, unsigned max,
        unsigned *ret_count);

/* The number of a segment in which reading forward from `revision` can begin without missing an event of the
 * stream. */
MUST_CHECK int lookup_first_segment(
        struct persistence *p, const struct lookup_stream *stream, uint64_t revision, size_t *ret);

/* The last segment that has committed records; 0 if none has. */
size_t lookup_last_segment(const struct persistence *p);
/* Whether the segment is followed by one with committed records, so that nothing will be added to it. */
static inline bool lookup_is_complete(const struct persistence *p, size_t number)
{
        const struct log_segment *s = p->segments[number];

        return number + 1 < p->segment_count && s->committed_records == s->record_count &&
               p->segments[number + 1]->committed_records > 0;
}

/* Reads and verifies one record, blocking. 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int lookup_record(struct persistence *p, size_t number, uint64_t offset, struct buffer *buffer,
        struct record_header *ret, struct bytes *ret_payload);

#endif
