/* Which bits of a Bloom filter a hash sets. */
#ifndef PERSISTENCE_BLOOM_H
#define PERSISTENCE_BLOOM_H

#include "base/macros.h"

static inline uint64_t bloom_bit(uint64_t hash, uint32_t probe, uint64_t bits)
{
        /* Two hashes from one: h1 + i * h2, the second odd so that the probes differ. */
        uint64_t h2 = (hash * 0x9e3779b97f4a7c15u) | 1;

        return (hash + probe * h2) % bits;
}

#endif
