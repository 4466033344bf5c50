/* The log record, format version 1: its header and the payload of an events record. The byte tables are at
 * the head of record.c and in docs/formats/record.md.
 *
 * A record is one entry of the Raft log; the events of one append are one record, so an append is atomic
 * (G5). */
#ifndef MODEL_RECORD_H
#define MODEL_RECORD_H

#include "model/event.h"

enum {
        RECORD_HEADER_SIZE = 72,
        RECORD_ALIGNMENT = 8,
        RECORD_FORMAT = 1,
        RECORD_CHAIN_SIZE = 16,
        /* What the largest append within the limits can need; more in a header is damage. */
        RECORD_PAYLOAD_SIZE_MAX =
                LIMIT_APPEND_SIZE_MAX + 64 * LIMIT_APPEND_EVENTS_MAX + 2048 * LIMIT_APPEND_STREAMS_MAX,
};

enum record_kind {
        RECORD_EVENTS = 1,
        RECORD_BARRIER = 2,       /* a leader's first entry of its term */
        RECORD_CONFIGURATION = 3, /* membership */
        RECORD_WATERMARK =
                4, /* says how far the log was durable; written at an orderly stop and when idle (G13).
                      Takes no index of its own: `index` repeats the index of the entry before it */
};

struct record_chain {
        uint8_t bytes[RECORD_CHAIN_SIZE];
};

/* Decoded header. */
struct record_header {
        uint32_t payload_size;
        enum record_kind kind;
        uint16_t flags; /* reserved, 0 */
        uint32_t payload_crc;
        uint64_t index;
        uint64_t first_position; /* of its first event; for other kinds: of the next event */
        uint64_t term;
        uint64_t synced_through; /* highest index known durable when this was written */
        uint32_t event_count;
        uint32_t epoch;
        struct record_chain chain;
};

/* Seeds both sums so that bytes of another segment, or of a recycled file, never look valid (G13). */
uint32_t record_seed(const uint8_t segment_uuid[16], uint32_t generation);

/* Bytes of the whole record in the file: header and payload, aligned. */
static inline uint64_t record_size(uint32_t payload_size)
{
        return align_up(RECORD_HEADER_SIZE + (uint64_t)payload_size, RECORD_ALIGNMENT);
}

/* The bytes between the payload and the end of the aligned record are zero and not covered by a sum: whoever
 * reads a record from a file checks them here (G14). `record` holds record_size(payload_size) bytes. */
bool record_padding_is_zero(const uint8_t *record, uint32_t payload_size);

/* The chain hash of a record: first 16 bytes of SHA-256 over previous chain, index, term and SHA-256 of the
 * payload. */
void record_chain_next(const struct record_chain *previous, uint64_t index, uint64_t term,
        struct bytes payload, struct record_chain *ret);

/* Writes the header (its crc computed, payload_crc as given in `h`) at `to`. */
void record_header_encode(const struct record_header *h, uint32_t seed, uint8_t to[RECORD_HEADER_SIZE]);

enum record_outcome { RECORD_INVALID = 1 };
/* Reads and verifies a header: sum, format, kind, limits. RECORD_INVALID: not a header of this segment. Disk
 * bytes are never trusted: sizes are checked against limits. */
MUST_CHECK int record_header_decode(
        const uint8_t from[RECORD_HEADER_SIZE], uint32_t seed, struct record_header *ret);
uint32_t record_payload_crc(uint32_t seed, struct bytes payload);

/* ---- payload of an events record ---- */

enum { RECORD_STREAMS_INLINE = 8 }; /* more distinct streams in one record cost an allocation */

/* Builds a payload in `out` (appends): begin, then each event in log order, then end. Nothing else may add to
 * `out` in between. Nothing that is given is borrowed beyond the call. */
struct record_events_writer {
        struct buffer *out; /* borrowed */
        unsigned event_count;
        unsigned stream_count; /* distinct names so far */
        unsigned last_stream;  /* ordinal of the event before */
        bool has_tombstone;
        size_t type_at; /* in `out`, of the event before */
        size_t type_size;
        struct record_writer_stream {
                size_t name_at; /* in `out` */
                size_t name_size;
                uint64_t next_revision;
        } * streams; /* NULL while the inline ones are enough */
        unsigned stream_capacity;
        uint16_t *slots; /* hash table of ordinals + 1, for the streams that are not inline */
        unsigned slot_count;
        struct record_writer_stream inline_streams[RECORD_STREAMS_INLINE];
};
void record_events_begin(struct record_events_writer *w, struct buffer *out, uint64_t time_us);
/* Names, sizes and counts must be within the limits. Events of one stream in one record have consecutive
 * revisions, except a tombstone (REVISION_MAX), which is alone in its record. */
void record_events_add(
        struct record_events_writer *w, struct bytes stream, uint64_t revision, const struct event_draft *e);
/* As record_events_add, for one of the same stream as the event before; `has_same_type`: of the same type as well. */
void record_events_add_another(
        struct record_events_writer *w, uint64_t revision, const struct event_draft *e, bool has_same_type);
void record_events_end(struct record_events_writer *w); /* frees what the writer holds; `out` stays */

/* Walks the events of a payload whose sum has been verified; its content is not trusted all the same. The
 * empty value is all zero. May be opened again without a close between. Holds no pointer into itself: may be
 * moved. */
struct record_events_reader {
        const uint8_t *at;
        const uint8_t *end;
        uint64_t time_us;
        uint64_t next_position;
        uint64_t log_index;
        unsigned left; /* events to come */
        bool is_first;
        struct bytes last_type;
        unsigned stream_count;
        struct record_stream {
                struct bytes name;
                uint64_t next_revision;
        } * streams; /* NULL while the inline ones are enough */
        unsigned stream_capacity;
        struct record_stream inline_streams[RECORD_STREAMS_INLINE];
};
/* 0 or RECORD_INVALID. */
MUST_CHECK int record_events_open(
        struct record_events_reader *r, const struct record_header *h, struct bytes payload);
/* The next event, in log order; views into the payload. 0, RECORD_INVALID, or RECORD_EVENTS_END. */
enum { RECORD_EVENTS_END = 2 };
MUST_CHECK int record_events_next(struct record_events_reader *r, struct event_view *ret);
void record_events_close(struct record_events_reader *r);

/* The tag at *at of event_view.tags; moves on. False at the end. */
bool event_tag_next(struct bytes *at, struct bytes *ret_tag);

#endif
