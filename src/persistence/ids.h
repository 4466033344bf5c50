/* The window of recent event ids (G6). */
#ifndef PERSISTENCE_IDS_H
#define PERSISTENCE_IDS_H

#include "persistence/persistence.h"

struct segment_header;

/* The empty value is all zero. */
struct ids {
        struct persistence_id *ring; /* `oldest` first, wraps when the window is full */
        uint32_t *next;              /* in the ring: the next older id of the same slot + 1 */
        uint32_t *slots;             /* newest id of the slot + 1 */
        uint32_t count;
        uint32_t capacity;
        uint32_t oldest;
        uint32_t slot_count;
        uint64_t seed; /* of the hash, so that nobody can choose ids that collide */
};

void ids_fini(struct ids *ids);
/* Adds the newest id; the oldest falls out of a full window. */
void ids_add(struct ids *ids, const struct persistence_id *id);
MUST_CHECK bool ids_find(
        const struct ids *ids, const struct event_id *id, uint64_t stream_hash, struct persistence_id *ret);

/* The checkpoint as of the end of the segment whose last index is `last_index`. */
void ids_encode(
        const struct ids *ids, const struct segment_header *of, uint64_t last_index, struct buffer *out);
enum ids_outcome { IDS_INVALID = 1 };
/* Replaces `ids` by a checkpoint's. IDS_INVALID: it is damaged, or of another segment. */
MUST_CHECK int ids_decode(
        struct ids *ids, struct bytes file, const struct segment_header *of, uint64_t last_index);
uint64_t ids_file_size_max(void);

#endif
