/* The window of recent event ids, and its checkpoint `log/<first index>.ids`, little-endian:
 *
 *     0  8  magic "NILOIDSW"
 *     8  4  format, 1
 *    12  4  number of ids
 *    16 16  cluster UUID
 *    32 16  store UUID
 *    48 16  UUID of the segment at whose end the window stood so
 *    64  8  node id
 *    72  8  last index of that segment
 *    80     ids, oldest first, 40 bytes each: id (16), stream hash (8), revision (8), position (8)
 *  end-4 4  CRC-32C of the bytes before
 *
 * It is written when the segment is sealed, from the checkpoint before it and the segment's bytes, so it is
 * the same on every node. Only the newest is kept; without it the window is rebuilt from the segments. */
#include "persistence/ids.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "persistence/segment.h"

enum {
        IDS_FORMAT = 1,
        IDS_HEADER_SIZE = 80,
        IDS_ENTRY_SIZE = 40,
        IDS_CAPACITY_MIN = 1024,
        IDS_PORTION_MAX = 128
};
static_assert(IDS_UNLINKED_MAX < LIMIT_IDEMPOTENCY_WINDOW_IDS, "what is in no slot yet has not fallen out");

static const char ids_magic[8] = {'N', 'I', 'L', 'O', 'I', 'D', 'S', 'W'};

void ids_fini(struct ids *ids)
{
        free(ids->ring);
        free(ids->next);
        free(ids->slots);
        *ids = (struct ids){0};
}

/* By id and stream, so that one id in many streams makes no long walk. */
static uint32_t ids_slot(const struct ids *ids, const struct event_id *id, uint64_t stream_hash)
{
        uint64_t hash = XXH3_64bits_withSeed(id->bytes, sizeof id->bytes, ids->seed ^ stream_hash);

        return (uint32_t)hash & (ids->slot_count - 1);
}

/* The place in the ring of the id that was added as the `age`-th from the newest, which is the first. */
static uint32_t ids_place(const struct ids *ids, uint32_t age)
{
        assert(age >= 1 && age <= ids->capacity);
        return ids->head >= age ? ids->head - age : ids->head + ids->capacity - age;
}

/* Nothing is unlinked when it falls out of the window: its ticket is too old then, and what follows it in the
 * slot is older still. So linking touches one slot, and neighbours in the ring. */
static void ids_link_one(struct ids *ids, uint32_t slot, uint32_t at, uint32_t ticket)
{
        ids->next[at] = ids->slots[slot];
        ids->slots[slot] = ticket;
}

/* Links the oldest `count` that are in no slot yet. A slot is hardly ever in the processor's caches: in a
 * loop of their own the fetches go on side by side. */
static void ids_link_portion(struct ids *ids, uint32_t count)
{
        uint32_t slots[IDS_PORTION_MAX];
        uint32_t i;

        assert(count <= ids->unlinked);
        for (i = 0; i < count; i++) {
                const struct persistence_id *id = &ids->ring[ids_place(ids, ids->unlinked - i)];

                slots[i] = ids_slot(ids, &id->id, id->stream_hash);
                __builtin_prefetch(&ids->slots[slots[i]], 1);
        }
        for (i = 0; i < count; i++, ids->unlinked--)
                ids_link_one(ids, slots[i], ids_place(ids, ids->unlinked), ids->tickets - ids->unlinked + 1);
}

void ids_link(struct ids *ids)
{
        while (ids->unlinked)
                ids_link_portion(ids, MIN(ids->unlinked, (uint32_t)IDS_PORTION_MAX));
}

/* Only before the window is full, so the ring has not wrapped. */
static void ids_grow(struct ids *ids)
{
        assert(ids->count == ids->capacity);
        assert(ids->head == 0);
        ids->capacity =
                ids->capacity ? MIN(ids->capacity * 2, LIMIT_IDEMPOTENCY_WINDOW_IDS) : IDS_CAPACITY_MIN;
        ids->ring = memory_resize(ids->ring, ids->capacity * sizeof ids->ring[0]);
        ids->next = memory_resize(ids->next, ids->capacity * sizeof ids->next[0]);
        ids->slot_count = ids->slot_count ? ids->slot_count * 2 : 2 * IDS_CAPACITY_MIN;
        free(ids->slots);
        ids->slots = memory_new_table(ids->slot_count, sizeof ids->slots[0]);
        ids->head = ids->count;
        ids->unlinked = ids->count;
        ids_link(ids);
}

void ids_add(struct ids *ids, const struct persistence_id *id)
{
        if (ids->count < LIMIT_IDEMPOTENCY_WINDOW_IDS) {
                if (ids->count == ids->capacity)
                        ids_grow(ids);
                ids->count++;
        }
        if (ids->unlinked == IDS_UNLINKED_MAX)
                ids_link(ids);
        ids->ring[ids->head] = *id;
        ids->head = ids->head + 1 < ids->capacity ? ids->head + 1 : 0;
        ids->tickets++;
        ids->unlinked++;
}

static bool ids_take(const struct ids *ids, uint32_t at, const struct event_id *id, uint64_t stream_hash,
        struct persistence_id *ret)
{
        if (ids->ring[at].stream_hash != stream_hash || !event_id_equal(&ids->ring[at].id, id))
                return false;
        *ret = ids->ring[at];
        return true;
}

bool ids_find(struct ids *ids, const struct event_id *id, uint64_t stream_hash, struct persistence_id *ret)
{
        uint32_t ticket, age, last_age = 0, at;

        if (!ids->count)
                return false;
        ids_link(ids);
        ticket = ids->slots[ids_slot(ids, id, stream_hash)];
        for (;;) {
                /* Ages grow along a slot. A ticket from before the numbers wrapped may look young again: then
                 * the walk leads through ids of other slots, which do not match, and ends all the same. */
                age = ids->tickets - ticket + 1;
                if (age <= last_age || age > ids->count)
                        return false;
                at = ids_place(ids, age);
                if (ids_take(ids, at, id, stream_hash, ret))
                        return true;
                last_age = age;
                ticket = ids->next[at];
        }
}

uint64_t ids_file_size_max(void)
{
        return IDS_HEADER_SIZE + (uint64_t)LIMIT_IDEMPOTENCY_WINDOW_IDS * IDS_ENTRY_SIZE + 4;
}

void ids_encode(
        const struct ids *ids, const struct segment_header *of, uint64_t last_index, struct buffer *out)
{
        uint32_t i;

        buffer_reserve(out, IDS_HEADER_SIZE + (size_t)ids->count * IDS_ENTRY_SIZE + 4);
        buffer_add(out, ids_magic, sizeof ids_magic);
        buffer_add_u32(out, IDS_FORMAT);
        buffer_add_u32(out, ids->count);
        buffer_add(out, of->cluster_uuid, 16);
        buffer_add(out, of->store_uuid, 16);
        buffer_add(out, of->segment_uuid, 16);
        buffer_add_u64(out, of->node_id);
        buffer_add_u64(out, last_index);
        assert(out->size == IDS_HEADER_SIZE);
        for (i = ids->count; i > 0; i--) {
                const struct persistence_id *id = &ids->ring[ids_place(ids, i)];

                buffer_add(out, id->id.bytes, 16);
                buffer_add_u64(out, id->stream_hash);
                buffer_add_u64(out, id->revision);
                buffer_add_u64(out, id->position);
        }
        buffer_add_u32(out, crc32c(0, out->data, out->size));
}

int ids_decode(struct ids *ids, struct bytes file, const struct segment_header *of, uint64_t last_index)
{
        const uint8_t *at = file.data + IDS_HEADER_SIZE;
        uint32_t count, i;
        uint64_t seed;

        if (file.size < IDS_HEADER_SIZE + 4 || memcmp(file.data, ids_magic, sizeof ids_magic) != 0 ||
                get_u32(file.data + file.size - 4) != crc32c(0, file.data, file.size - 4) ||
                get_u32(file.data + 8) != IDS_FORMAT)
                return IDS_INVALID;
        if (memcmp(file.data + 16, of->cluster_uuid, 16) != 0 ||
                memcmp(file.data + 32, of->store_uuid, 16) != 0 ||
                memcmp(file.data + 48, of->segment_uuid, 16) != 0 || get_u64(file.data + 72) != last_index)
                return IDS_INVALID;
        count = get_u32(file.data + 12);
        if (count > LIMIT_IDEMPOTENCY_WINDOW_IDS ||
                file.size != IDS_HEADER_SIZE + (size_t)count * IDS_ENTRY_SIZE + 4)
                return IDS_INVALID;
        seed = ids->seed;
        ids_fini(ids);
        ids->seed = seed;
        for (i = 0; i < count; i++, at += IDS_ENTRY_SIZE) {
                struct persistence_id id;

                memcpy(id.id.bytes, at, 16);
                id.stream_hash = get_u64(at + 16);
                id.revision = get_u64(at + 24);
                id.position = get_u64(at + 32);
                ids_add(ids, &id);
        }
        return 0;
}
