/* What the two halves of the match index share: groups of equal selections and the keys that they are found by. */
#ifndef NOTIFICATION_GROUPS_H
#define NOTIFICATION_GROUPS_H

#include "notification/room.h"

/* How the events for a group are found. */
enum match_way { BY_FACT, BY_KEY, BY_EACH };

struct match_key {
        struct match_key *next; /* in the bucket */
        uint64_t hash;
        struct match_group *group;
        uint32_t name; /* ordinal among the names of the group's selection */
};

struct match_group {
        struct match_group *next;  /* in the bucket */
        uint64_t hash;             /* of the canonical JSON */
        struct selector *selector; /* borrowed from one of the members */
        struct list members;       /* waits that know the group, waiting or not */
        struct list waiting;
        struct list link;    /* among those of its way */
        struct list matched; /* by the event at hand */
        enum match_way way;
        enum selector_key kind;
        unsigned key_count;
        struct match_key keys[];
};

/* Keys of all kinds share a table; the same name of another kind is another key. */
static inline uint64_t key_hash(enum selector_key kind, uint64_t hash_of_name)
{
        return hash_of_name ^ (uint64_t)kind * 0x9e3779b97f4a7c15u;
}

/* In front of the table stands a filter (Bloom's, in words): most names that events are looked up by are nobody's, and are seen to be so
 * by one look at a few kilobytes that stay in the processor's cache. A word stands for neighbouring buckets, so that it can be made anew
 * from their keys; each key has three of its bits. */
enum { BUCKETS_PER_WORD = 4 };

static inline uint64_t key_bits(uint64_t hash)
{
        return 1ull << (hash >> 58) | 1ull << (hash >> 52 & 63) | 1ull << (hash >> 46 & 63);
}

/* The first key of the hash's bucket; NULL: nobody has the hash. */
static inline const struct match_key *keys_find(const struct match_index *x, uint64_t hash)
{
        size_t bucket = hash & (x->key_capacity - 1);
        uint64_t bits = key_bits(hash);

        return (x->key_filter[bucket / BUCKETS_PER_WORD] & bits) == bits ? x->keys[bucket] : NULL;
}

struct match_group *match_group_find(const struct match_index *x, uint64_t hash, struct bytes json); /* NULL: none */
/* Borrows the selector, as long as the group has it. */
struct match_group *match_group_new(struct match_index *x, struct selector *selector, uint64_t hash);
/* Before the selector of its last member goes: its names are needed once more. */
void match_group_free(struct match_index *x, struct match_group *g);

#endif
