/* What the two halves of a reader share: reader.c gets verified records, cursor.c walks them in order. */
#ifndef PERSISTENCE_READER_H
#define PERSISTENCE_READER_H

#include "persistence/lookup.h"
#include "persistence/text.h"

enum {
        READER_BLOCK_FIRST = 64 * 1024,
        READER_BLOCK_NEXT = 256 * 1024,      /* once it reads on */
        READER_BLOCK_KEPT_MAX = 1024 * 1024, /* a larger one, for a large record, is given back */
        READER_BLOCK_IDLE_MAX = 16 * 1024,   /* kept by a reader at the end */
        READER_RUNS = 64,                    /* looked up at a time */
        READER_GAP_MAX = 16 * 1024,          /* runs so near share a read */
        READER_RUN_GUESS = 4 * 1024, /* bytes read for the last run of a block before its size is known */
};

struct reader_read;

/* A record whose sums have been verified, in the block. */
struct reader_record {
        struct record_header header;
        struct bytes payload;
        uint64_t offset;
        size_t segment;
};

struct persistence_reader {
        struct persistence *p; /* NULL: it was closed under the reader */
        struct list link;      /* in the log's */
        bool is_backward;
        bool is_stream;
        uint8_t *name; /* of the stream; ours */
        struct lookup_stream stream;
        void (*on_ready)(void *arg);
        void *arg;

        /* the block: bytes of one segment file */
        struct buffer block;
        size_t block_segment;
        uint64_t block_offset;
        size_t accounted;         /* of it, in the log's figures */
        bool has_read;            /* the next block may be larger */
        struct reader_read *read; /* a cold read under way */
        int read_result;
        uint64_t mended_count; /* the log's, when the reader was placed */

        /* the cursor */
        bool is_placed;
        bool is_exhausted; /* nothing can follow, ever */
        bool is_corrupt;
        bool has_given; /* `next` is one beside an event that was given */
        size_t segment;
        uint64_t offset; /* log forward: of the next record */
        uint64_t next;   /* position or revision to give next */
        struct reader_record record;
        struct record_events_reader events;
        bool is_in_record;

        /* backward: events of the record, given from the last on */
        struct event_view *views;
        unsigned view_count;
        unsigned view_capacity;
        uint64_t *chunk; /* log backward: offsets of records, given from the last on */
        unsigned chunk_count;
        unsigned chunk_capacity;

        /* streams */
        struct lookup_cursor cursor;
        struct run runs[READER_RUNS];
        unsigned run_at;
        unsigned run_count;
        uint64_t run_first_revision; /* of the run whose record is open */
        bool run_is_ours;
        bool run_is_foreign;

        char problem[PROBLEM_SIZE_MAX];
};

/* Whether those bytes are in the block. */
bool reader_has(const struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t need);
/* Makes at least `need` bytes at `offset` of the segment's committed part available in the block, reading
 * `want` if it must read. 0, PERSISTENCE_WAIT, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int reader_fill(
        struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t need, uint64_t want);
/* Gets the verified record at `offset` into r->record; of records other than events only the header is
 * verified. As reader_fill. */
MUST_CHECK int reader_get_record(
        struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t want);
/* Notes where damage was found; the reader gives PERSISTENCE_CORRUPT from now on. */
MUST_CHECK int reader_corrupt(
        struct persistence_reader *r, size_t segment, uint64_t offset, const char *what);
/* The same of an index file, which is being built anew. */
MUST_CHECK int reader_index_corrupt(struct persistence_reader *r, size_t segment);

/* cursor.c */
MUST_CHECK int cursor_next(struct persistence_reader *r, struct event_view *ret);

#endif
