/* A bounded table by key, with the elements in the order of their last use. The keys come from strangers: a
 * table is never larger than its bound, and what was used least lately makes room. */
#include <stdlib.h>

#include "access/room.h"

void memo_init(
        struct memo *c, unsigned count_max, size_t size_max, void (*free_entry)(struct memo_entry *entry))
{
        *c = (struct memo){.count_max = count_max, .size_max = size_max, .free = free_entry};
        list_init(&c->used);
}

/* Memory for what is there: a server without users pays nothing for them. */
static void grow(struct memo *c)
{
        unsigned count = c->bucket_count ? c->bucket_count * 2 : 16;
        struct memo_entry **buckets = memory_new_array(count, sizeof *buckets);

        for (unsigned i = 0; i < c->bucket_count; i++) {
                struct memo_entry *e = c->buckets[i];

                while (e) {
                        struct memo_entry *next = e->next;

                        e->next = buckets[e->hash & (count - 1)];
                        buckets[e->hash & (count - 1)] = e;
                        e = next;
                }
        }
        free(c->buckets);
        c->buckets = buckets;
        c->bucket_count = count;
}

static struct memo_entry *find(const struct memo *c, struct bytes key, uint64_t hash)
{
        struct memo_entry *e = c->bucket_count ? c->buckets[hash & (c->bucket_count - 1)] : NULL;

        while (e && !(e->hash == hash && bytes_equal(e->key, key)))
                e = e->next;
        return e;
}

struct memo_entry *memo_get(struct memo *c, struct bytes key)
{
        struct memo_entry *e = c->count ? find(c, key, name_hash(key)) : NULL;

        if (e && c->used.next != &e->link) {
                list_remove(&e->link);
                list_add_first(&c->used, &e->link);
        }
        return e;
}

void memo_drop(struct memo *c, struct memo_entry *entry)
{
        struct memo_entry **at = &c->buckets[entry->hash & (c->bucket_count - 1)];

        while (*at != entry)
                at = &(*at)->next;
        *at = entry->next;
        list_remove(&entry->link);
        c->count--;
        c->size -= entry->size;
        c->free(entry);
}

void memo_put(struct memo *c, struct memo_entry *entry)
{
        struct memo_entry *old;

        entry->hash = name_hash(entry->key);
        old = find(c, entry->key, entry->hash);
        if (old)
                memo_drop(c, old);
        while (c->count && (c->count >= c->count_max || (c->size_max && c->size + entry->size > c->size_max)))
                memo_drop(c, CONTAINER_OF(c->used.previous, struct memo_entry, link));
        if (c->count >= c->bucket_count)
                grow(c);
        entry->next = c->buckets[entry->hash & (c->bucket_count - 1)];
        c->buckets[entry->hash & (c->bucket_count - 1)] = entry;
        list_add_first(&c->used, &entry->link);
        c->count++;
        c->size += entry->size;
}

void memo_clear(struct memo *c)
{
        while (c->count)
                memo_drop(c, CONTAINER_OF(c->used.next, struct memo_entry, link));
}

void memo_fini(struct memo *c)
{
        memo_clear(c);
        free(c->buckets);
        c->buckets = NULL;
        c->bucket_count = 0;
}
