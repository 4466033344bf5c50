/* The index file of a sealed segment: made once, read in blocks. The byte tables are at the head of
 * index_build.c. */
#ifndef PERSISTENCE_INDEX_H
#define PERSISTENCE_INDEX_H

#include "persistence/cache.h"
#include "persistence/segment.h"
#include "persistence/tail.h"

enum {
        INDEX_HEADER_SIZE = 64,
        INDEX_FOOTER_SIZE = 512,
        INDEX_FORMAT = 1,
        INDEX_BLOCK_SIZE = 4096,
        INDEX_ENTRY_SIZE = 24,
        INDEX_BLOCK_ENTRIES = 170,
        INDEX_FENCE_SIZE = 16,
        INDEX_POSITION_SIZE = 8,
        INDEX_POSITION_STEP = 64 * 1024, /* bytes of the segment between two positions, at least */
        INDEX_BLOOM_BITS = 10,           /* per stream */
        INDEX_BLOOM_PROBES = 7,
        INDEX_NAMES_BLOCK = 8 * 1024, /* a block of names ends with the name that fills it */
        INDEX_DIRECTORY_SIZE = 8,
};
static_assert(
        INDEX_BLOCK_ENTRIES * INDEX_ENTRY_SIZE + 16 == INDEX_BLOCK_SIZE, "entries, their number, zeros, sum");

enum index_section {
        INDEX_ENTRIES,
        INDEX_FENCES,
        INDEX_BLOOM,
        INDEX_POSITIONS,
        INDEX_STREAMS, /* these three in the order of enum persistence_names, each followed by its directory
                        */
        INDEX_STREAMS_DIRECTORY,
        INDEX_CATEGORIES,
        INDEX_CATEGORIES_DIRECTORY,
        INDEX_TYPES,
        INDEX_TYPES_DIRECTORY,
        INDEX_POSTINGS,
        INDEX_SECTIONS,
};

extern const char index_magic[8];

struct index_section_at {
        uint64_t offset;
        uint64_t size;
        uint32_t count; /* of entries, fences, bits / 64, positions, names, blocks */
        uint32_t crc;   /* of sections that are read whole; 0 where blocks have sums of their own */
};

/* What the footer says of the segment as a whole. */
struct index_summary {
        uint64_t first_index;
        uint64_t last_index;
        uint64_t last_term;
        uint64_t first_position;
        uint64_t event_count;
        uint64_t end_offset; /* behind the last record with an index */
        uint64_t last_time_us;
        bool has_collisions; /* two of its streams share a hash */
        struct record_chain last_chain;
};

/* The file is open only while it is read: a store may have more segments than a process may have open files,
 * and what is read often is in the cache. */
struct index {
        struct os *os;
        char *path;
        uint64_t number; /* of this open file in this process: key of its blocks in the cache */
        uint64_t file_size;
        struct index_summary summary;
        struct index_section_at sections[INDEX_SECTIONS];
        bool is_damaged; /* a block turned out to be: it is to be built anew */
        struct os_file *held; /* open while another file takes its name; else NULL */
};

/* ---- building: any thread ---- */

enum index_outcome { INDEX_CORRUPT = 1, INDEX_ABSENT, INDEX_FULL };

struct index_source {
        struct os *os;
        const char *log_path;
        const char *extension; /* of the segment's file; NULL: "seg" */
        const struct segment_header *header;
        uint64_t last_index;                                     /* of the segment */
        void (*each)(void *arg, const struct event_view *event); /* may be NULL */
        void *arg;
        uint64_t problem_offset; /* with INDEX_CORRUPT: the record that is damaged */
};
/* Makes the bytes of the index file from those of the segment. 0, INDEX_CORRUPT (the segment is damaged), or
 * a fault. */
MUST_CHECK int index_build(struct index_source *source, struct buffer *out);
/* Puts the file in place, durably. 0, INDEX_FULL or a fault. */
MUST_CHECK int index_save(struct os *os, const char *log_path, uint64_t first_index, const char *extension,
        struct bytes content);

/* ---- reading: index_open any thread, the rest the loop ---- */

/* Opens and verifies header and footer. 0, INDEX_ABSENT, INDEX_CORRUPT (damaged, or of another segment), or a
 * fault. */
MUST_CHECK int index_open(
        struct os *os, const char *log_path, const struct segment_header *header, struct index **ret);
void index_close(struct index **index); /* NULL is fine */
/* From here on it reads the file that has the name now, whatever takes the name later. A file that is gone is
 * found out by who reads it. */
MUST_CHECK int index_hold(struct index *x);

struct index_entry {
        uint64_t hash;
        struct run run;
};
/* False: the segment has no stream with this hash. 0, INDEX_CORRUPT or a fault. */
MUST_CHECK int index_may_have(struct index *x, struct cache *cache, uint64_t hash, bool *ret);
/* The ordinal of the first entry that is not less than (hash, revision). */
MUST_CHECK int index_seek(
        struct index *x, struct cache *cache, uint64_t hash, uint64_t revision, uint32_t *ret);
static inline uint32_t index_entry_count(const struct index *x)
{
        return x->sections[INDEX_ENTRIES].count;
}
MUST_CHECK int index_entry(struct index *x, struct cache *cache, uint32_t ordinal, struct index_entry *ret);
/* The stretch of the segment that holds the event number `events_before` of it: [*ret_from, *ret_to), where
 * the events before the stretch are *ret_events. */
MUST_CHECK int index_stretch(struct index *x, struct cache *cache, uint64_t event, uint64_t *ret_from,
        uint64_t *ret_to, uint64_t *ret_events);

/* The section of noted positions, whole. */
MUST_CHECK int index_positions(struct index *x, struct cache *cache, struct bytes *ret);

/* Walks the names of a dictionary. */
struct index_names {
        struct index *index;
        struct cache *cache;
        enum persistence_names what;
        uint32_t block;      /* the next one */
        struct buffer bytes; /* the rest of the current block */
        size_t at;
        struct bytes name; /* valid until the next call */
        uint64_t event_count;
        uint64_t extra[3]; /* streams: flags, last revision, last position; else: offset and size of postings,
                              records */
};
enum { INDEX_STREAM_HAS_EVENTS = 1, INDEX_STREAM_TOMBSTONED = 2 };
/* Begins at the first name that is not less than `from`, or behind it. */
MUST_CHECK int index_names_open(struct index_names *n, struct index *x, struct cache *cache,
        enum persistence_names what, struct bytes from);
/* 0, INDEX_ABSENT at the end, INDEX_CORRUPT or a fault. */
MUST_CHECK int index_names_next(struct index_names *n);
void index_names_close(struct index_names *n);

#endif
