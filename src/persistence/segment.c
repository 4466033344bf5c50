/* The file of a segment, `log/<first index, 20 digits>.seg`, little-endian:
 *
 *     0  8  magic "NILOSEGM"
 *     8  4  format, 1
 *    12  4  size of this header, 4096
 *    16 16  cluster UUID
 *    32 16  store UUID
 *    48 16  segment UUID, random
 *    64  8  node id
 *    72  4  generation: counts the lives of a recycled file
 *    76  4  epoch
 *    80  8  first index
 *    88  8  first position
 *    96  8  term of the entry before the first
 *   104  8  time of the newest event before the first, us since 1970, or of one that was truncated since
 *   112 16  chain hash before the first
 *   128  8  index of the configuration in force before the first; 0: none
 *   136  4  size of that configuration
 *   140     that configuration, then zeros
 *  4092  4  CRC-32C of the bytes before
 *  4096     records (model: record), each at a multiple of 8; zeros behind the last
 *
 * A record's sums are seeded by segment UUID and generation, so that bytes of another file never look valid
 * here.
 *
 * Invariants that recovery builds on:
 *  - A file has its name only after its header is durable, and a record is written only after the name is
 * durable. So a damaged header is never the trace of a crash.
 *  - A segment is started only after the one before it is durable through its last record. So a segment that
 * is followed by another has no torn tail: what is damaged in it is corruption (G13).
 *  - A removed end (torn tail, truncation) is cut off by shortening the file, durably, before anything is
 * written there. */
#include "persistence/segment.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "persistence/text.h"

enum { SEGMENT_FORMAT = 1, SEGMENT_CONFIGURATION_AT = 140, SEGMENT_CRC_AT = SEGMENT_HEADER_SIZE - 4 };
static_assert(SEGMENT_CONFIGURATION_AT + SEGMENT_CONFIGURATION_SIZE_MAX <= SEGMENT_CRC_AT, "fits the header");

static const char segment_magic[8] = {'N', 'I', 'L', 'O', 'S', 'E', 'G', 'M'};

void segment_header_encode(const struct segment_header *h, uint8_t to[SEGMENT_HEADER_SIZE])
{
        assert(h->first_index > 0);
        assert(h->configuration_size <= SEGMENT_CONFIGURATION_SIZE_MAX);
        memset(to, 0, SEGMENT_HEADER_SIZE);
        memcpy(to, segment_magic, sizeof segment_magic);
        put_u32(to + 8, SEGMENT_FORMAT);
        put_u32(to + 12, SEGMENT_HEADER_SIZE);
        memcpy(to + 16, h->cluster_uuid, 16);
        memcpy(to + 32, h->store_uuid, 16);
        memcpy(to + 48, h->segment_uuid, 16);
        put_u64(to + 64, h->node_id);
        put_u32(to + 72, h->generation);
        put_u32(to + 76, h->epoch);
        put_u64(to + 80, h->first_index);
        put_u64(to + 88, h->first_position);
        put_u64(to + 96, h->previous_term);
        put_u64(to + 104, h->previous_time_us);
        memcpy(to + 112, h->previous_chain.bytes, RECORD_CHAIN_SIZE);
        put_u64(to + 128, h->configuration_index);
        put_u32(to + 136, h->configuration_size);
        memcpy(to + SEGMENT_CONFIGURATION_AT, h->configuration, h->configuration_size);
        put_u32(to + SEGMENT_CRC_AT, crc32c(0, to, SEGMENT_CRC_AT));
}

int segment_header_decode(const uint8_t from[SEGMENT_HEADER_SIZE], struct segment_header *ret)
{
        if (memcmp(from, segment_magic, sizeof segment_magic) != 0 ||
                get_u32(from + SEGMENT_CRC_AT) != crc32c(0, from, SEGMENT_CRC_AT))
                return SEGMENT_INVALID;
        if (get_u32(from + 8) != SEGMENT_FORMAT || get_u32(from + 12) != SEGMENT_HEADER_SIZE)
                return SEGMENT_NEWER;
        if (get_u32(from + 136) > SEGMENT_CONFIGURATION_SIZE_MAX || get_u64(from + 80) == 0)
                return SEGMENT_INVALID;
        /* The bounds of records: what follows from these numbers must be writable. */
        if (get_u64(from + 80) > INT64_MAX || get_u64(from + 88) > INT64_MAX - LIMIT_APPEND_EVENTS_MAX ||
                get_u64(from + 96) > INT64_MAX)
                return SEGMENT_INVALID;
        memcpy(ret->cluster_uuid, from + 16, 16);
        memcpy(ret->store_uuid, from + 32, 16);
        memcpy(ret->segment_uuid, from + 48, 16);
        ret->node_id = get_u64(from + 64);
        ret->generation = get_u32(from + 72);
        ret->epoch = get_u32(from + 76);
        ret->first_index = get_u64(from + 80);
        ret->first_position = get_u64(from + 88);
        ret->previous_term = get_u64(from + 96);
        ret->previous_time_us = get_u64(from + 104);
        memcpy(ret->previous_chain.bytes, from + 112, RECORD_CHAIN_SIZE);
        ret->configuration_index = get_u64(from + 128);
        ret->configuration_size = get_u32(from + 136);
        memcpy(ret->configuration, from + SEGMENT_CONFIGURATION_AT, ret->configuration_size);
        return 0;
}

char *segment_path(const char *log_path, uint64_t first_index, const char *extension)
{
        return text_format("%s/%020llu.%s", log_path, (unsigned long long)first_index, extension);
}

static int segment_write_front(struct os_file *file, const struct segment_header *h, uint64_t zeros)
{
        struct buffer front = {0};
        int r;

        buffer_reserve(&front, SEGMENT_HEADER_SIZE + zeros);
        segment_header_encode(h, front.data);
        memset(front.data + SEGMENT_HEADER_SIZE, 0, zeros);
        r = os_file_write(file, bytes_of(front.data, SEGMENT_HEADER_SIZE + zeros), 0);
        buffer_fini(&front);
        return r ? r : os_file_sync(file);
}

int segment_file_make(struct os *os, const char *log_path, const struct segment_header *h, uint64_t zeros,
        bool take_spare, struct os_file **ret)
{
        CLEANUP(text_freep) char *path = segment_path(log_path, h->first_index, "seg");
        CLEANUP(text_freep) char *temporary = text_format("%s/%s", log_path, take_spare ? "spare" : "new");
        struct os_file *file = NULL;
        int r;

        r = os_file_open(os, temporary, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        /* A file left by a crash may hold anything. A spare was made by this process. */
        if (!r && !take_spare)
                r = os_file_truncate(file, 0);
        if (!r)
                r = segment_write_front(file, h, take_spare ? 0 : zeros);
        if (!r)
                r = os_rename(os, temporary, path);
        if (!r)
                r = os_dir_sync(os, log_path);
        if (r) {
                os_file_close(&file);
                return r;
        }
        *ret = file;
        return 0;
}

/* ---- scan ---- */

void segment_scan_begin(struct segment_scan *s, struct os_file *file, const struct segment_header *h,
        uint64_t offset, uint64_t end)
{
        *s = (struct segment_scan){.file = file, .offset = offset, .end = end, .seed = segment_seed(h)};
}

void segment_scan_fini(struct segment_scan *s)
{
        buffer_fini(&s->block);
}

/* Makes `size` bytes from `offset` on available, or as many as there are before the end: *ret_size says how
 * many. */
static int segment_scan_fill(
        struct segment_scan *s, uint64_t offset, uint64_t size, const uint8_t **ret, uint64_t *ret_size)
{
        uint64_t have = 0;
        size_t got;
        int r;

        size = offset < s->end ? MIN(size, s->end - offset) : 0;
        if (offset >= s->block_offset && offset < s->block_offset + s->block.size)
                have = s->block_offset + s->block.size - offset;
        if (have < size) {
                uint64_t want = MIN(MAX(size, SEGMENT_SCAN_BLOCK), s->end - offset);

                buffer_clear(&s->block);
                buffer_reserve(&s->block, want);
                r = os_file_read(s->file, s->block.data, want, offset, &got);
                if (r)
                        return fault_fold(r);
                s->read_bytes += got;
                s->block.size = got;
                s->block_offset = offset;
                have = got;
        }
        *ret = have ? s->block.data + (offset - s->block_offset) : NULL;
        *ret_size = MIN(have, size);
        return 0;
}

/* Verifies the record at `offset`. */
static int segment_scan_at(
        struct segment_scan *s, uint64_t offset, struct record_header *ret, struct bytes *ret_payload)
{
        const uint8_t *at = NULL;
        uint64_t size = 0;
        int r;

        r = segment_scan_fill(s, offset, RECORD_HEADER_SIZE, &at, &size);
        if (r)
                return r;
        if (size < RECORD_HEADER_SIZE)
                return SEGMENT_END;
        if (record_header_decode(at, s->seed, ret) != 0)
                return SEGMENT_INVALID;
        if (record_size(ret->payload_size) > s->end - offset)
                return SEGMENT_INVALID;
        r = segment_scan_fill(s, offset, record_size(ret->payload_size), &at, &size);
        if (r)
                return r;
        if (size < record_size(ret->payload_size))
                return SEGMENT_INVALID;
        *ret_payload = bytes_of(at + RECORD_HEADER_SIZE, ret->payload_size);
        if (!s->skip_crc && record_payload_crc(s->seed, *ret_payload) != ret->payload_crc)
                return SEGMENT_INVALID;
        /* The padding is not under a sum: it must be zero, so that every bit is covered (G14). */
        for (at += RECORD_HEADER_SIZE + ret->payload_size; at < ret_payload->data - RECORD_HEADER_SIZE + size;
                at++)
                if (*at)
                        return SEGMENT_INVALID;
        return 0;
}

int segment_scan_next(struct segment_scan *s, struct record_header *ret, struct bytes *ret_payload)
{
        int r = segment_scan_at(s, s->offset, ret, ret_payload);

        if (!r)
                s->offset += record_size(ret->payload_size);
        return r;
}

static bool is_zero(const uint8_t *at, size_t size)
{
        return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

int segment_scan_search(struct segment_scan *s, struct record_header *ret)
{
        uint64_t offset = align_up(s->offset + 1, RECORD_ALIGNMENT);
        struct bytes payload;
        int r;

        for (; offset + RECORD_HEADER_SIZE <= s->end; offset += RECORD_ALIGNMENT) {
                const uint8_t *at = NULL;
                uint64_t size = 0;

                r = segment_scan_fill(s, offset, RECORD_HEADER_SIZE, &at, &size);
                if (r)
                        return r;
                if (size < RECORD_HEADER_SIZE)
                        return SEGMENT_END;
                if (get_u64(at) == 0 && is_zero(at, RECORD_HEADER_SIZE))
                        continue;
                r = segment_scan_at(s, offset, ret, &payload);
                if (r == 0) {
                        s->offset = offset + record_size(ret->payload_size);
                        return 0;
                }
                if (r < 0)
                        return r;
        }
        return SEGMENT_END;
}

int segment_is_zero(struct os_file *file, uint64_t offset, uint64_t end, bool *ret)
{
        struct buffer block = {0};
        int r = 0;

        *ret = true;
        buffer_reserve(&block, SEGMENT_SCAN_BLOCK);
        while (offset < end && *ret) {
                size_t got;

                r = os_file_read(file, block.data, MIN(end - offset, SEGMENT_SCAN_BLOCK), offset, &got);
                if (r || got == 0)
                        break;
                *ret = is_zero(block.data, got);
                offset += got;
        }
        buffer_fini(&block);
        return fault_fold(r);
}
