/* The ids of events in flight: a duplicate of an append in flight waits for it (G6). Nodes come from blocks
 * and are used again, so that an event costs no allocation. Ids go into their buckets only when somebody
 * looks for one: most appends are committed before anybody does. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum { FLYING_BLOCK_IDS = 512, FLYING_BUCKETS_MIN = 1024 };

struct flying_block {
        struct flying_block *next;
        struct flying_id ids[FLYING_BLOCK_IDS];
};

static uint64_t bucket_of(const struct flying_ids *f, const struct event_id *id, uint64_t stream_hash)
{
        /* Clients choose ids: both halves and the stream take part, so that a pattern in one does no harm. */
        uint64_t h = (get_u64(id->bytes) ^ stream_hash) * 0x9e3779b97f4a7c15ull;

        h = (h ^ get_u64(id->bytes + 8) ^ (h >> 29)) * 0xbf58476d1ce4e5b9ull;
        return (h >> 20) & (f->bucket_count - 1);
}

static void grow(struct flying_ids *f)
{
        uint64_t old_count = f->bucket_count;
        struct flying_id **old = f->buckets;

        f->bucket_count = old_count ? old_count * 4 : FLYING_BUCKETS_MIN;
        f->buckets = memory_new_array(f->bucket_count, sizeof(*f->buckets));
        for (uint64_t i = 0; i < old_count; i++) {
                struct flying_id *last_first = NULL;

                /* Newest first must stay so: turn the chain, then push from its end. */
                while (old[i]) {
                        struct flying_id *at = old[i];

                        old[i] = at->next;
                        at->next = last_first;
                        last_first = at;
                }
                while (last_first) {
                        struct flying_id *at = last_first;
                        uint64_t b = bucket_of(f, &at->id, at->stream_hash);

                        last_first = at->next;
                        at->next = f->buckets[b];
                        f->buckets[b] = at;
                }
        }
        free(old);
}

static struct flying_id *take_free(struct flying_ids *f)
{
        struct flying_id *at;

        if (!f->free) {
                struct flying_block *block = MEMORY_NEW(struct flying_block);

                block->next = f->blocks;
                f->blocks = block;
                for (unsigned i = 0; i < FLYING_BLOCK_IDS; i++) {
                        block->ids[i].next = f->free;
                        f->free = &block->ids[i];
                }
        }
        at = f->free;
        f->free = at->next;
        return at;
}

void flying_ids_init(struct flying_ids *f)
{
        list_init(&f->unlinked);
}

void flying_ids_add(struct flying_ids *f, struct pending *pending, const struct event_id *id,
        uint64_t stream_hash, uint64_t revision, uint64_t position)
{
        struct flying_id *at = take_free(f);

        if (!pending->ids)
                list_add_last(&f->unlinked, &pending->ids_link);
        /* While an append is made nobody looks. */
        assert(!list_is_empty(&pending->ids_link));
        *at = (struct flying_id){
                .next_of_pending = pending->ids,
                .pending = pending,
                .id = *id,
                .stream_hash = stream_hash,
                .revision = revision,
                .position = position,
        };
        pending->ids = at;
}

static void link_ids(struct flying_ids *f, struct pending *pending)
{
        struct flying_id *oldest_first = NULL;

        /* Newest first in a bucket too, so the oldest goes first. */
        for (struct flying_id *at = pending->ids; at; at = at->next_of_pending) {
                at->next = oldest_first;
                oldest_first = at;
        }
        while (oldest_first) {
                struct flying_id *at = oldest_first;
                uint64_t b;

                oldest_first = at->next;
                if (f->count >= f->bucket_count)
                        grow(f);
                b = bucket_of(f, &at->id, at->stream_hash);
                at->next = f->buckets[b];
                f->buckets[b] = at;
                f->count++;
        }
        list_remove(&pending->ids_link);
}

static void unlink_id(struct flying_ids *f, struct flying_id *at)
{
        struct flying_id **link = &f->buckets[bucket_of(f, &at->id, at->stream_hash)];

        while (*link != at) {
                assert(*link);
                link = &(*link)->next;
        }
        *link = at->next;
        assert(f->count > 0);
        f->count--;
}

void flying_ids_remove_all(struct flying_ids *f, struct pending *pending)
{
        bool is_linked = list_is_empty(&pending->ids_link);

        while (pending->ids) {
                struct flying_id *at = pending->ids;

                pending->ids = at->next_of_pending;
                if (is_linked)
                        unlink_id(f, at);
                at->next = f->free;
                f->free = at;
        }
        list_remove(&pending->ids_link);
}

const struct flying_id *flying_ids_find(
        struct flying_ids *f, const struct event_id *id, uint64_t stream_hash, const uint64_t *revision)
{
        while (!list_is_empty(&f->unlinked))
                link_ids(f, CONTAINER_OF(f->unlinked.next, struct pending, ids_link));
        if (!f->count)
                return NULL;
        for (const struct flying_id *at = f->buckets[bucket_of(f, id, stream_hash)]; at; at = at->next) {
                if (at->stream_hash != stream_hash || !event_id_equal(&at->id, id))
                        continue;
                if (!revision || at->revision == *revision)
                        return at;
        }
        return NULL;
}

void flying_ids_fini(struct flying_ids *f)
{
        while (f->blocks) {
                struct flying_block *block = f->blocks;

                f->blocks = block->next;
                free(block);
        }
        free(f->buckets);
        *f = (struct flying_ids){0};
}
