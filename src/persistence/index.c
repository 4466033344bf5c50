/* Reads index files. Header and footer are verified at the open and stay in memory; everything else is read
 * in blocks through the cache, each verified when it is read. Disk bytes are never trusted: each number is
 * checked against the size of the file before it is used. */
#include "persistence/index.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "persistence/bloom.h"
#include "persistence/text.h"

static atomic_uint_fast64_t index_numbers = 1;

static bool header_is_valid(const uint8_t *from, const struct segment_header *h)
{
        return get_u32(from + INDEX_HEADER_SIZE - 4) == crc32c(0, from, INDEX_HEADER_SIZE - 4) &&
               memcmp(from, index_magic, sizeof index_magic) == 0 && get_u32(from + 8) == INDEX_FORMAT &&
               memcmp(from + 16, h->cluster_uuid, 16) == 0 && get_u64(from + 32) == h->node_id &&
               memcmp(from + 40, h->segment_uuid, 16) == 0;
}

static bool footer_read_sections(struct index *x, const uint8_t *at)
{
        unsigned i;

        for (i = 0; i < INDEX_SECTIONS; i++, at += 24) {
                struct index_section_at *section = &x->sections[i];

                section->offset = get_u64(at);
                section->size = get_u64(at + 8);
                section->count = get_u32(at + 16);
                section->crc = get_u32(at + 20);
                if (section->offset > x->file_size || section->size > x->file_size - section->offset)
                        return false;
        }
        return true;
}

/* The counts that later arithmetic builds on. */
static bool footer_counts_are_sane(const struct index *x)
{
        const struct index_section_at *entries = &x->sections[INDEX_ENTRIES];
        uint64_t blocks = ((uint64_t)entries->count + INDEX_BLOCK_ENTRIES - 1) / INDEX_BLOCK_ENTRIES;
        const struct index_section_at *bloom = &x->sections[INDEX_BLOOM],
                                      *positions = &x->sections[INDEX_POSITIONS];
        unsigned i;

        if (entries->size != blocks * INDEX_BLOCK_SIZE || x->sections[INDEX_FENCES].count != blocks ||
                x->sections[INDEX_FENCES].size != blocks * INDEX_FENCE_SIZE)
                return false;
        if (bloom->count == 0 || bloom->size != (uint64_t)bloom->count * 8 ||
                positions->size != (uint64_t)positions->count * INDEX_POSITION_SIZE)
                return false;
        for (i = INDEX_STREAMS_DIRECTORY; i <= INDEX_TYPES_DIRECTORY; i += 2)
                if (x->sections[i].size != (uint64_t)x->sections[i].count * INDEX_DIRECTORY_SIZE)
                        return false;
        return x->summary.last_index + 1 >= x->summary.first_index;
}

static bool footer_is_valid(struct index *x, const uint8_t *from, const struct segment_header *h)
{
        struct index_summary *s = &x->summary;

        if (get_u32(from + INDEX_FOOTER_SIZE - 4) != crc32c(0, from, INDEX_FOOTER_SIZE - 4) ||
                memcmp(from, index_magic, sizeof index_magic) != 0 || get_u32(from + 8) != INDEX_FORMAT ||
                memcmp(from + 16, h->store_uuid, 16) != 0 || memcmp(from + 32, h->segment_uuid, 16) != 0)
                return false;
        s->has_collisions = get_u32(from + 12) != 0;
        s->first_index = get_u64(from + 48);
        s->last_index = get_u64(from + 56);
        s->last_term = get_u64(from + 64);
        s->first_position = get_u64(from + 72);
        s->event_count = get_u64(from + 80);
        s->end_offset = get_u64(from + 88);
        s->last_time_us = get_u64(from + 96);
        memcpy(s->last_chain.bytes, from + 104, RECORD_CHAIN_SIZE);
        return s->first_index == h->first_index && s->first_position == h->first_position &&
               footer_read_sections(x, from + 120) && footer_counts_are_sane(x);
}

/* Reads exactly `size` bytes. An error of the device counts as damage of what was to be read (G15). */
static int index_read_from(struct os_file *file, uint64_t offset, void *to, size_t size)
{
        size_t got;
        int r = os_file_read(file, to, size, offset, &got);

        if (r == -EIO)
                return INDEX_CORRUPT;
        if (r)
                return fault_fold(r);
        return got == size ? 0 : INDEX_CORRUPT;
}

static int index_read(struct index *x, uint64_t offset, void *to, size_t size)
{
        struct os_file *file = NULL;
        int r;

        if (x->held)
                return index_read_from(x->held, offset, to, size);
        r = os_file_open(x->os, x->path, OS_OPEN_READ, &file);
        if (r)
                return r == OS_NOT_FOUND ? INDEX_CORRUPT : fault_fold(r);
        r = index_read_from(file, offset, to, size);
        os_file_close(&file);
        return r;
}

static int index_verify(struct index *x, struct os_file *file, const struct segment_header *h)
{
        uint8_t header[INDEX_HEADER_SIZE], footer[INDEX_FOOTER_SIZE];
        int r;

        r = os_file_size(file, &x->file_size);
        if (r)
                return fault_fold(r);
        if (x->file_size < INDEX_HEADER_SIZE + INDEX_FOOTER_SIZE)
                return INDEX_CORRUPT;
        r = index_read_from(file, 0, header, sizeof header);
        if (!r)
                r = index_read_from(file, x->file_size - INDEX_FOOTER_SIZE, footer, sizeof footer);
        if (r)
                return r;
        return header_is_valid(header, h) && footer_is_valid(x, footer, h) ? 0 : INDEX_CORRUPT;
}

int index_open(struct os *os, const char *log_path, const struct segment_header *header, struct index **ret)
{
        struct index *x = MEMORY_NEW(struct index);
        struct os_file *file = NULL;
        int r;

        x->os = os;
        x->path = segment_path(log_path, header->first_index, "idx");
        x->number = atomic_fetch_add(&index_numbers, 1);
        r = os_file_open(os, x->path, OS_OPEN_READ, &file);
        if (r)
                r = r == OS_NOT_FOUND ? INDEX_ABSENT : fault_fold(r);
        else
                r = index_verify(x, file, header);
        os_file_close(&file);
        if (r) {
                index_close(&x);
                return r;
        }
        *ret = x;
        return 0;
}

void index_close(struct index **index)
{
        if (!*index)
                return;
        os_file_close(&(*index)->held);
        free((*index)->path);
        free(*index);
        *index = NULL;
}

int index_hold(struct index *x)
{
        int r;

        if (x->held)
                return 0;
        r = os_file_open(x->os, x->path, OS_OPEN_READ, &x->held);
        return r == OS_NOT_FOUND ? 0 : fault_fold(r);
}

/* ---- blocks ---- */

static int index_damaged(struct index *x, struct cache *cache)
{
        x->is_damaged = true;
        cache_drop_file(cache, x->number);
        return INDEX_CORRUPT;
}

/* A range of a section, by way of the cache. `crc_at`: where in it its sum stands; SIZE_MAX: the sum is
 * `crc`. */
static int index_block(struct index *x, struct cache *cache, enum index_section section, uint64_t offset,
        size_t size, size_t crc_at, struct bytes *ret)
{
        struct cache_key key = {x->number, ((uint64_t)section << 48) | offset};
        struct bytes covered;
        uint32_t crc = x->sections[section].crc;
        uint8_t *data;
        int r;

        if (cache_get(cache, key, ret))
                return 0;
        if (offset > x->sections[section].size || size > x->sections[section].size - offset)
                return index_damaged(x, cache);
        data = cache_add(cache, key, size);
        r = index_read(x, x->sections[section].offset + offset, data, size);
        if (r) {
                cache_drop_file(cache, x->number);
                return r == INDEX_CORRUPT ? index_damaged(x, cache) : r;
        }
        covered = bytes_of(data, size);
        if (crc_at == 0)
                covered = bytes_of(data + 4, size - 4);
        else if (crc_at != SIZE_MAX)
                covered.size = crc_at;
        if (crc_at != SIZE_MAX)
                crc = get_u32(data + crc_at);
        if (crc32c(0, covered.data, covered.size) != crc)
                return index_damaged(x, cache);
        *ret = bytes_of(data, size);
        return 0;
}

static int index_whole(struct index *x, struct cache *cache, enum index_section section, struct bytes *ret)
{
        if (x->sections[section].size == 0) {
                *ret = BYTES_EMPTY;
                return 0;
        }
        return index_block(x, cache, section, 0, x->sections[section].size, SIZE_MAX, ret);
}

int index_may_have(struct index *x, struct cache *cache, uint64_t hash, bool *ret)
{
        struct bytes bloom;
        uint32_t probe;
        int r;

        r = index_whole(x, cache, INDEX_BLOOM, &bloom);
        if (r)
                return r;
        *ret = true;
        for (probe = 0; probe < INDEX_BLOOM_PROBES && *ret; probe++) {
                uint64_t bit = bloom_bit(hash, probe, bloom.size * 8);

                *ret = (get_u64(bloom.data + bit / 64 * 8) >> (bit % 64)) & 1;
        }
        return 0;
}

static bool is_less(const uint8_t *at, uint64_t hash, uint64_t revision)
{
        return get_u64(at) < hash || (get_u64(at) == hash && get_u64(at + 8) < revision);
}

static int index_entry_block(struct index *x, struct cache *cache, uint32_t block, struct bytes *ret)
{
        return index_block(x, cache, INDEX_ENTRIES, (uint64_t)block * INDEX_BLOCK_SIZE, INDEX_BLOCK_SIZE,
                INDEX_BLOCK_SIZE - 4, ret);
}

int index_seek(struct index *x, struct cache *cache, uint64_t hash, uint64_t revision, uint32_t *ret)
{
        uint32_t low = 0, high = x->sections[INDEX_FENCES].count, count;
        struct bytes bytes;
        uint32_t block;
        int r;

        if (high == 0) {
                *ret = 0;
                return 0;
        }
        r = index_whole(x, cache, INDEX_FENCES, &bytes);
        if (r)
                return r;
        /* The last block whose first entry is less; what is sought is in it or begins the next. */
        while (high - low > 1) {
                uint32_t middle = (low + high) / 2;

                if (is_less(bytes.data + (size_t)middle * INDEX_FENCE_SIZE, hash, revision))
                        low = middle;
                else
                        high = middle;
        }
        block = low;
        r = index_entry_block(x, cache, block, &bytes);
        if (r)
                return r;
        count = MIN(INDEX_BLOCK_ENTRIES, index_entry_count(x) - block * INDEX_BLOCK_ENTRIES);
        for (low = 0, high = count; low < high;) {
                uint32_t middle = (low + high) / 2;

                if (is_less(bytes.data + (size_t)middle * INDEX_ENTRY_SIZE, hash, revision))
                        low = middle + 1;
                else
                        high = middle;
        }
        *ret = block * INDEX_BLOCK_ENTRIES + low;
        return 0;
}

int index_entry(struct index *x, struct cache *cache, uint32_t ordinal, struct index_entry *ret)
{
        struct bytes block;
        const uint8_t *at;
        int r;

        assert(ordinal < index_entry_count(x));
        r = index_entry_block(x, cache, ordinal / INDEX_BLOCK_ENTRIES, &block);
        if (r)
                return r;
        at = block.data + (size_t)(ordinal % INDEX_BLOCK_ENTRIES) * INDEX_ENTRY_SIZE;
        ret->hash = get_u64(at);
        ret->run = (struct run){get_u64(at + 8), get_u32(at + 16), get_u32(at + 20)};
        return 0;
}

int index_stretch(struct index *x, struct cache *cache, uint64_t event, uint64_t *ret_from, uint64_t *ret_to,
        uint64_t *ret_events)
{
        uint32_t low = 0, high = x->sections[INDEX_POSITIONS].count;
        struct bytes positions;
        int r;

        assert(event < x->summary.event_count);
        r = index_whole(x, cache, INDEX_POSITIONS, &positions);
        if (r)
                return r;
        if (high == 0)
                return index_damaged(x, cache);
        /* The last stretch with no more events before it than `event`; of several equal ones (records without
         * events between) the last, which is the one that holds it. */
        while (high - low > 1) {
                uint32_t middle = (low + high) / 2;

                if (get_u32(positions.data + (size_t)middle * INDEX_POSITION_SIZE) <= event)
                        low = middle;
                else
                        high = middle;
        }
        *ret_events = get_u32(positions.data + (size_t)low * INDEX_POSITION_SIZE);
        *ret_from =
                (uint64_t)get_u32(positions.data + (size_t)low * INDEX_POSITION_SIZE + 4) * RECORD_ALIGNMENT;
        *ret_to = low + 1 < x->sections[INDEX_POSITIONS].count
                          ? (uint64_t)get_u32(positions.data + (size_t)(low + 1) * INDEX_POSITION_SIZE + 4) *
                                    RECORD_ALIGNMENT
                          : x->summary.end_offset;
        return *ret_from < *ret_to ? 0 : index_damaged(x, cache);
}

int index_positions(struct index *x, struct cache *cache, struct bytes *ret)
{
        return index_whole(x, cache, INDEX_POSITIONS, ret);
}

/* ---- dictionaries ---- */

static enum index_section names_section(enum persistence_names what)
{
        return INDEX_STREAMS + 2 * (unsigned)what;
}

static int names_block(
        struct index *x, struct cache *cache, enum persistence_names what, uint32_t block, struct bytes *ret)
{
        struct bytes directory;
        uint32_t offset, size;
        int r;

        r = index_whole(x, cache, names_section(what) + 1, &directory);
        if (r)
                return r;
        offset = get_u32(directory.data + (size_t)block * INDEX_DIRECTORY_SIZE);
        size = get_u32(directory.data + (size_t)block * INDEX_DIRECTORY_SIZE + 4);
        if (size < 4)
                return index_damaged(x, cache);
        r = index_block(x, cache, names_section(what), offset, size, 0, ret);
        if (!r)
                *ret = bytes_of(ret->data + 4, ret->size - 4);
        return r;
}

/* The name at *at and its numbers; false if the bytes do not hold one. */
static bool names_decode(const uint8_t **at, const uint8_t *end, struct index_names *n)
{
        uint64_t size;

        if (!varint_get(at, end, &size) || size > (uint64_t)(end - *at))
                return false;
        n->name = bytes_of(*at, size);
        *at += size;
        return varint_get(at, end, &n->event_count) && varint_get(at, end, &n->extra[0]) &&
               varint_get(at, end, &n->extra[1]) && varint_get(at, end, &n->extra[2]);
}

int index_names_open(struct index_names *n, struct index *x, struct cache *cache, enum persistence_names what,
        struct bytes from)
{
        uint32_t low = 0, high = x->sections[names_section(what) + 1].count;
        int r;

        *n = (struct index_names){.index = x, .cache = cache, .what = what};
        /* The last block that begins with a name not above `from`. */
        while (high - low > 1 && from.size) {
                uint32_t middle = (low + high) / 2;
                struct bytes block;
                const uint8_t *at;

                r = names_block(x, cache, what, middle, &block);
                if (r)
                        return r;
                at = block.data;
                if (!names_decode(&at, block.data + block.size, n))
                        return index_damaged(x, cache);
                if (bytes_compare(n->name, from) <= 0)
                        low = middle;
                else
                        high = middle;
        }
        n->block = low;
        return 0;
}

int index_names_next(struct index_names *n)
{
        struct bytes block;
        const uint8_t *at;
        int r;

        if (n->at == n->bytes.size) {
                if (n->block == n->index->sections[names_section(n->what) + 1].count)
                        return INDEX_ABSENT;
                r = names_block(n->index, n->cache, n->what, n->block, &block);
                if (r)
                        return r;
                n->block++;
                /* A copy, since the walk through other files may push the block out of the cache. */
                buffer_clear(&n->bytes);
                buffer_add_bytes(&n->bytes, block);
                n->at = 0;
        }
        at = n->bytes.data + n->at;
        if (!names_decode(&at, n->bytes.data + n->bytes.size, n))
                return index_damaged(n->index, n->cache);
        n->at = (size_t)(at - n->bytes.data);
        return 0;
}

void index_names_close(struct index_names *n)
{
        buffer_fini(&n->bytes);
}
