/* Memory that lives as long as a request: many small pieces, freed all at once. One thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/bytes.h"

struct arena_block;

/* The empty value is all zero. */
struct arena {
        struct arena_block *newest;
        size_t used;       /* bytes given out since the last reset */
        size_t block_size; /* of the first block; 0: 4 KiB */
};

void *arena_get(struct arena *a, size_t size); /* 16-byte aligned, not zeroed, never NULL */
struct bytes arena_copy(struct arena *a, struct bytes b);
char *arena_string(struct arena *a, struct bytes b); /* with NUL */
void arena_reset(struct arena *a);                   /* keeps one block for the next request */
void arena_fini(struct arena *a);

#endif
