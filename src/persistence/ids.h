/* The window of recent event ids (G6). */
#ifndef PERSISTENCE_IDS_H
#define PERSISTENCE_IDS_H

#include "persistence/persistence.h"

struct segment_header;

enum { IDS_UNLINKED_MAX = 1024 };

/* The empty value is all zero. */
struct ids {
        struct persistence_id *ring; /* wraps when the window is full */
        uint32_t *next;              /* in the ring: ticket of the next older id of the same slot */
        uint32_t *slots;             /* ticket of the slot's newest id */
        uint32_t count;
        uint32_t capacity;
        uint32_t head;    /* in the ring: where the next id goes */
        uint32_t tickets; /* given so far: each id has the next one; 0 is nobody's. Wraps */
        uint32_t slot_count;
        uint64_t seed; /* of the hash, so that nobody can choose ids that collide */
        uint32_t unlinked; /* so many of the newest are in no slot yet */
};

void ids_fini(struct ids *ids);
/* Adds the newest id; the oldest falls out of a full window. What makes it findable waits for the next call of ids_link or
 * ids_find, or for IDS_UNLINKED_MAX ids. */
void ids_add(struct ids *ids, const struct persistence_id *id);
/* Does what waits. */
void ids_link(struct ids *ids);
MUST_CHECK bool ids_find(
        struct ids *ids, const struct event_id *id, uint64_t stream_hash, struct persistence_id *ret);

/* The checkpoint as of the end of the segment whose last index is `last_index`. */
void ids_encode(
        const struct ids *ids, const struct segment_header *of, uint64_t last_index, struct buffer *out);
enum ids_outcome { IDS_INVALID = 1 };
/* Replaces `ids` by a checkpoint's. IDS_INVALID: it is damaged, or of another segment. */
MUST_CHECK int ids_decode(
        struct ids *ids, struct bytes file, const struct segment_header *of, uint64_t last_index);
uint64_t ids_file_size_max(void);

#endif
