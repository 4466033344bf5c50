/* A segment: one file of the log, its header, and a walk over its records. */
#ifndef PERSISTENCE_SEGMENT_H
#define PERSISTENCE_SEGMENT_H

#include "persistence/persistence.h"

enum {
        SEGMENT_HEADER_SIZE = 4096,
        SEGMENT_CONFIGURATION_SIZE_MAX = 3900, /* what the header has room for */
        SEGMENT_SCAN_BLOCK = 1024 * 1024,
        SEGMENT_EVENTS_LIMIT = 1 << 28, /* so that positions within a segment fit 32 bits */
};
/* Offsets in memory and index files are kept in units of 8 bytes in 32 bits. */
#define SEGMENT_SIZE_LIMIT ((uint64_t)32 * GIB)

/* What the header of a segment says: where it stands in the log, and the state of the log before its first
 * record. */
struct segment_header {
        uint8_t cluster_uuid[16];
        uint8_t store_uuid[16];
        uint8_t segment_uuid[16];
        uint64_t node_id;
        uint32_t generation;
        uint32_t epoch;
        uint64_t first_index;
        uint64_t first_position;
        uint64_t previous_term;
        uint64_t previous_time_us;
        struct record_chain previous_chain;
        uint64_t configuration_index; /* 0: none yet */
        uint32_t configuration_size;
        uint8_t configuration[SEGMENT_CONFIGURATION_SIZE_MAX];
};

void segment_header_encode(const struct segment_header *h, uint8_t to[SEGMENT_HEADER_SIZE]);
enum segment_outcome { SEGMENT_INVALID = 1, SEGMENT_NEWER, SEGMENT_END };
/* 0, SEGMENT_INVALID or SEGMENT_NEWER (a format that this version does not know). */
MUST_CHECK int segment_header_decode(const uint8_t from[SEGMENT_HEADER_SIZE], struct segment_header *ret);
static inline uint32_t segment_seed(const struct segment_header *h)
{
        return record_seed(h->segment_uuid, h->generation);
}

/* Makes the file of a segment so that after 0 its name and header are durable (G1), and gives it open.
 * `zeros`: so many bytes behind the header are zero-filled. An existing file of the name `spare` in the
 * directory, zero-filled before, is taken when `take_spare`. OS_FULL or a fault. */
MUST_CHECK int segment_file_make(struct os *os, const char *log_path, const struct segment_header *h,
        uint64_t zeros, bool take_spare, struct os_file **ret);
char *segment_path(const char *log_path, uint64_t first_index, const char *extension);

/* ---- walking the records of a file from front to back ---- */

struct segment_scan {
        struct os_file *file;
        uint64_t offset; /* of the next record */
        uint64_t end;    /* nothing from here on is looked at */
        uint32_t seed;
        bool skip_crc;
        uint64_t read_bytes;
        /* the scan's own */
        struct buffer block;
        uint64_t block_offset;
};
/* Walks from `offset` (the header's size for the first record) to `end`. */
void segment_scan_begin(struct segment_scan *s, struct os_file *file, const struct segment_header *h,
        uint64_t offset, uint64_t end);
void segment_scan_fini(struct segment_scan *s);
/* The record at `offset`, verified; `payload` is valid until the next call. 0, SEGMENT_INVALID (offset
 * stays), SEGMENT_END (no room for a header before `end`), or a fault. */
MUST_CHECK int segment_scan_next(
        struct segment_scan *s, struct record_header *ret, struct bytes *ret_payload);
/* From the next aligned offset behind `offset`: finds a valid record at or behind it, anywhere before `end`;
 * moves the scan there and gives it. SEGMENT_END: there is none. */
MUST_CHECK int segment_scan_search(struct segment_scan *s, struct record_header *ret);
/* Whether all bytes from `offset` to `end` are zero. */
MUST_CHECK int segment_is_zero(struct os_file *file, uint64_t offset, uint64_t end, bool *ret);

#endif
