/* Entries for other nodes: records of a stretch of a segment's file, or of groups in memory, as a run. */
#ifndef PERSISTENCE_ENTRIES_H
#define PERSISTENCE_ENTRIES_H

#include "persistence/persistence.h"

/* A walk over the records of one file towards an index, and the run that begins there. Belongs to one thread at a time. */
struct entries_walk {
        /* set by the caller */
        struct os_file *file;
        uint32_t seed;
        bool skip_crc;
        bool checks_chain;  /* from the first entry on, whose own chain is taken as given when none stands before it */
        uint64_t first;     /* index */
        uint64_t last;
        unsigned count_max; /* 1 or more */
        uint64_t size_max;  /* of payloads; the first one comes however large it is */
        uint64_t offset;    /* of a record at or before `first`; in the end that behind the last one that was taken */
        uint64_t end;       /* nothing from here on is looked at */
        /* the run */
        struct persistence_entry *entries;
        unsigned count;
        unsigned capacity;
        uint64_t payload_size;
        struct record_chain chain; /* of the last one */
        /* the walk's own */
        struct buffer block; /* bytes of the file; entries point into it */
        uint64_t block_offset;
        uint64_t read_bytes;
        struct record_header header; /* of the record at `offset`, after entries_walk_to_first */
        struct record_header before; /* of the record before it */
        bool has_before;
        bool is_broken; /* sums are right, yet a record does not follow the one before: nothing of the run is to be trusted */
        const char *problem; /* with PERSISTENCE_CORRUPT: what is wrong with the record at `offset` */
};

void entries_walk_fini(struct entries_walk *w);
/* Forgets the run, keeps memory for the next. */
void entries_walk_clear(struct entries_walk *w);
void entries_walk_add(struct entries_walk *w, const struct record_header *h, uint64_t write_id, struct bytes payload);
void entries_walk_give(const struct entries_walk *w, bool has_chain, struct persistence_entries *ret);

/* Moves `offset` to the entry `first`; its header is verified and stands in `header`. 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int entries_walk_to_first(struct entries_walk *w);
/* Takes the run: at least the first entry, verified. It may be shorter than the limits allow, where the walk's block ends.
 * 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int entries_walk_take(struct entries_walk *w);
/* Moves `offset` to the last of the noted offsets that is not behind `first`; `positions`: section of an index file. 0 or a
 * fault. */
MUST_CHECK int entries_walk_search(struct entries_walk *w, struct bytes positions);

/* ---- with a log ---- */

struct log_segment;
/* The first index of what groups in memory hold, which is all from there on; one behind the last entry when there is none. */
uint64_t entries_first_in_memory(const struct persistence *p);
/* Sets offset, end and last of a walk in a segment that is not sealed; `first` is in it and not in memory. */
void entries_walk_in_unsealed(const struct persistence *p, const struct log_segment *s, struct entries_walk *w);
/* Books what was read and publishes damage that was found; gives `result` back. */
MUST_CHECK int entries_walk_result(
        struct persistence *p, struct log_segment *s, const struct entries_walk *w, int result);

#endif
