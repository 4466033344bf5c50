/* Blocks of index files in memory, bounded, the least recently used leave first. Loop thread. */
#ifndef PERSISTENCE_CACHE_H
#define PERSISTENCE_CACHE_H

#include "base/bytes.h"

struct cache;

struct cache_key {
        uint64_t file;  /* number of the open index */
        uint64_t block; /* section and place in it */
};

struct cache *cache_new(uint64_t size_max);
void cache_free(struct cache **cache);
/* The block, or false. Valid until the next cache_add. */
MUST_CHECK bool cache_get(struct cache *cache, struct cache_key key, struct bytes *ret);
/* Gives memory for a block that the caller fills at once; others leave until it fits. Valid until the next
 * cache_add. */
uint8_t *cache_add(struct cache *cache, struct cache_key key, size_t size);
/* Forgets all blocks of a file, or the newest block when its bytes turned out to be damaged. */
void cache_drop_file(struct cache *cache, uint64_t file);

struct cache_stats {
        uint64_t bytes;
        uint64_t hits;
        uint64_t misses;
};
struct cache_stats cache_stats(const struct cache *cache);

#endif
