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

#include <xxhash.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "persistence/segment.h"

enum { IDS_FORMAT = 1, IDS_HEADER_SIZE = 80, IDS_ENTRY_SIZE = 40, IDS_CAPACITY_MIN = 1024 };

static const char ids_magic[8] = {'N', 'I', 'L', 'O', 'I', 'D', 'S', 'W'};

void ids_fini(struct ids *ids)
{
        free(ids->ring);
        free(ids->next);
        free(ids->slots);
        *ids = (struct ids){0};
}

static uint32_t *ids_slot(const struct ids *ids, const struct event_id *id)
{
        return &ids->slots[XXH3_64bits_withSeed(id->bytes, sizeof id->bytes, ids->seed) &
                           (ids->slot_count - 1)];
}

static void ids_link(struct ids *ids, uint32_t at)
{
        uint32_t *slot = ids_slot(ids, &ids->ring[at].id);

        ids->next[at] = *slot;
        *slot = at + 1;
}

/* Only before the window is full, so the ring has not wrapped. */
static void ids_grow(struct ids *ids)
{
        uint32_t i;

        assert(ids->oldest == 0);
        assert(ids->count == ids->capacity);
        ids->capacity =
                ids->capacity ? MIN(ids->capacity * 2, LIMIT_IDEMPOTENCY_WINDOW_IDS) : IDS_CAPACITY_MIN;
        ids->ring = memory_resize(ids->ring, ids->capacity * sizeof ids->ring[0]);
        ids->next = memory_resize(ids->next, ids->capacity * sizeof ids->next[0]);
        ids->slot_count = ids->slot_count ? ids->slot_count * 2 : 2 * IDS_CAPACITY_MIN;
        free(ids->slots);
        ids->slots = memory_new_array(ids->slot_count, sizeof ids->slots[0]);
        for (i = 0; i < ids->count; i++)
                ids_link(ids, i);
}

static void ids_drop_oldest(struct ids *ids)
{
        uint32_t *at = ids_slot(ids, &ids->ring[ids->oldest].id);

        while (*at != ids->oldest + 1) {
                assert(*at);
                at = &ids->next[*at - 1];
        }
        *at = ids->next[ids->oldest];
        ids->oldest = (ids->oldest + 1) % ids->capacity;
        ids->count--;
}

void ids_add(struct ids *ids, const struct persistence_id *id)
{
        uint32_t at;

        if (ids->count == LIMIT_IDEMPOTENCY_WINDOW_IDS)
                ids_drop_oldest(ids);
        else if (ids->count == ids->capacity)
                ids_grow(ids);
        at = (ids->oldest + ids->count) % ids->capacity;
        ids->ring[at] = *id;
        ids->count++;
        ids_link(ids, at);
}

bool ids_find(
        const struct ids *ids, const struct event_id *id, uint64_t stream_hash, struct persistence_id *ret)
{
        uint32_t at;

        if (!ids->count)
                return false;
        for (at = *ids_slot(ids, id); at; at = ids->next[at - 1]) {
                const struct persistence_id *found = &ids->ring[at - 1];

                if (found->stream_hash == stream_hash && event_id_equal(&found->id, id)) {
                        *ret = *found;
                        return true;
                }
        }
        return false;
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
        for (i = 0; i < ids->count; i++) {
                const struct persistence_id *id = &ids->ring[(ids->oldest + i) % ids->capacity];

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
