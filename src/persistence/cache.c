#include "persistence/cache.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/memory.h"

enum { CACHE_SLOTS_MIN = 256 };

struct cache_item {
        struct list by_use;      /* newest first */
        struct cache_item *next; /* of the slot */
        struct cache_key key;
        size_t size;
        uint8_t data[];
};

struct cache {
        uint64_t size_max;
        struct list by_use;
        struct cache_item **slots;
        size_t slot_count;
        size_t item_count;
        struct cache_stats stats;
};

struct cache *cache_new(uint64_t size_max)
{
        struct cache *c = MEMORY_NEW(struct cache);

        c->size_max = size_max;
        list_init(&c->by_use);
        c->slot_count = CACHE_SLOTS_MIN;
        c->slots = memory_new_array(c->slot_count, sizeof(struct cache_item *));
        return c;
}

static struct cache_item **cache_slot(const struct cache *c, struct cache_key key)
{
        uint64_t hash = (key.file * 0x9e3779b97f4a7c15u) ^ (key.block * 0xc2b2ae3d27d4eb4fu);

        return &c->slots[(hash ^ (hash >> 29)) & (c->slot_count - 1)];
}

static void cache_remove(struct cache *c, struct cache_item *item)
{
        struct cache_item **at = cache_slot(c, item->key);

        while (*at != item)
                at = &(*at)->next;
        *at = item->next;
        list_remove(&item->by_use);
        c->stats.bytes -= item->size;
        c->item_count--;
        free(item);
}

void cache_free(struct cache **cache)
{
        struct cache *c = *cache;

        if (!c)
                return;
        LIST_EACH_SAFE (at, &c->by_use)
                cache_remove(c, CONTAINER_OF(at, struct cache_item, by_use));
        free(c->slots);
        free(c);
        *cache = NULL;
}

bool cache_get(struct cache *c, struct cache_key key, struct bytes *ret)
{
        struct cache_item *item;

        for (item = *cache_slot(c, key); item; item = item->next) {
                if (item->key.file != key.file || item->key.block != key.block)
                        continue;
                if (c->by_use.next != &item->by_use) {
                        list_remove(&item->by_use);
                        list_add_first(&c->by_use, &item->by_use);
                }
                c->stats.hits++;
                *ret = bytes_of(item->data, item->size);
                return true;
        }
        c->stats.misses++;
        return false;
}

static void cache_grow(struct cache *c)
{
        c->slot_count *= 2;
        free(c->slots);
        c->slots = memory_new_array(c->slot_count, sizeof(struct cache_item *));
        LIST_EACH (at, &c->by_use) {
                struct cache_item *item = CONTAINER_OF(at, struct cache_item, by_use);
                struct cache_item **slot = cache_slot(c, item->key);

                item->next = *slot;
                *slot = item;
        }
}

uint8_t *cache_add(struct cache *c, struct cache_key key, size_t size)
{
        struct cache_item *item;
        struct cache_item **slot;

        /* A block larger than the cache is alone in it until the next comes. */
        while (!list_is_empty(&c->by_use) && c->stats.bytes + size > c->size_max)
                cache_remove(c, CONTAINER_OF(c->by_use.previous, struct cache_item, by_use));
        if (c->item_count >= c->slot_count)
                cache_grow(c);
        item = memory_new(sizeof *item + size);
        item->key = key;
        item->size = size;
        slot = cache_slot(c, key);
        item->next = *slot;
        *slot = item;
        list_add_first(&c->by_use, &item->by_use);
        c->stats.bytes += size;
        c->item_count++;
        return item->data;
}

void cache_drop_file(struct cache *c, uint64_t file)
{
        LIST_EACH_SAFE (at, &c->by_use) {
                struct cache_item *item = CONTAINER_OF(at, struct cache_item, by_use);

                if (item->key.file == file)
                        cache_remove(c, item);
        }
}

struct cache_stats cache_stats(const struct cache *c)
{
        return c->stats;
}
