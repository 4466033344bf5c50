/* The index file of a sealed segment, `log/<first index>.idx`, little-endian. It can always be built anew
 * from the segment, byte for byte the same. Sections follow each other without gaps; every bit is under a sum
 * (G14).
 *
 * Header:
 *     0  8  magic "NILOINDX"
 *     8  4  format, 1
 *    12  4  zero
 *    16 16  cluster UUID
 *    32  8  node id
 *    40 16  segment UUID
 *    56  4  zero
 *    60  4  CRC-32C of the bytes before
 *
 * Entries, sorted by (hash, first revision, offset), in blocks of 4096 bytes: 170 times {stream hash (8),
 * first revision (8), number of events (4), offset of the record / 8 (4)}, number of entries in the block
 * (4), zeros (8), CRC-32C (4). Fences: {hash (8), first revision (8)} of the first entry of each block.
 * Bloom: 64-bit words; a hash h sets the bits h1 + i * h2 for i = 0..6, see bloom_bit.
 * Positions: {events before it in this segment (4), offset / 8 (4)} of the first record and of the first one
 * that begins 64 KiB or more behind the last noted. Streams, categories, types: names in byte order, in
 * blocks {CRC-32C of the rest (4), names}. A name: varint size, bytes, varint number of events, and three
 * varints: for streams flags (1: has events, 2: tombstone), last revision, last position - first position;
 * for the others offset and size of the posting list and the number of records in it. Directories of these:
 * {offset of the block in its section (4), size (4)}. Postings: per category and type, delta varints of
 * (offset / 8) of each record that has such an event.
 *
 * Footer, the last 512 bytes:
 *     0  8  magic "NILOINDX"
 *     8  4  format, 1
 *    12  4  1: two streams of the segment share a hash
 *    16 16  store UUID
 *    32 16  segment UUID
 *    48  8  first index
 *    56  8  last index
 *    64  8  term of the last entry
 *    72  8  first position
 *    80  8  number of events
 *    88  8  offset behind the last record
 *    96  8  time of the newest event, us
 *   104 16  chain hash of the last entry
 *   120     per section {offset (8), size (8), count (4), CRC-32C (4)}, then zeros
 *   508  4  CRC-32C of the bytes before */
#include "persistence/index.h"

#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "persistence/bloom.h"
#include "persistence/text.h"

struct builder {
        struct buffer *out;
        struct tail *tail;
        struct index_summary summary;
        struct index_section_at sections[INDEX_SECTIONS];
        struct buffer positions;
        struct buffer postings;
        uint64_t noted_offset;
};

const char index_magic[8] = {'N', 'I', 'L', 'O', 'I', 'N', 'D', 'X'};

/* ---- from the segment's bytes to a tail ---- */

static void build_note_position(struct builder *b, uint64_t offset)
{
        if (b->positions.size && offset < b->noted_offset + INDEX_POSITION_STEP)
                return;
        b->noted_offset = offset;
        buffer_add_u32(&b->positions, (uint32_t)b->summary.event_count);
        buffer_add_u32(&b->positions, (uint32_t)(offset / RECORD_ALIGNMENT));
}

static int build_events(struct builder *b, struct index_source *source, const struct record_header *h,
        struct bytes payload, uint64_t offset)
{
        struct record_events_reader reader = {0};
        struct event_view event;
        int r;

        r = record_events_open(&reader, h, payload);
        if (!r)
                b->summary.last_time_us = MAX(b->summary.last_time_us, reader.time_us);
        while (!r) {
                r = record_events_next(&reader, &event);
                if (r)
                        break;
                tail_add(b->tail, &event, (uint32_t)(offset / RECORD_ALIGNMENT));
                if (source->each)
                        source->each(source->arg, &event);
        }
        record_events_close(&reader);
        return r == RECORD_EVENTS_END ? 0 : INDEX_CORRUPT;
}

static int build_record(struct builder *b, struct index_source *source, const struct record_header *h,
        struct bytes payload, uint64_t offset)
{
        int r = 0;

        if (h->kind == RECORD_WATERMARK)
                return 0;
        if (h->index != b->summary.last_index + 1 ||
                h->first_position != b->summary.first_position + b->summary.event_count)
                return INDEX_CORRUPT;
        build_note_position(b, offset);
        if (h->kind == RECORD_EVENTS)
                r = build_events(b, source, h, payload, offset);
        b->summary.event_count += h->event_count;
        b->summary.last_index = h->index;
        b->summary.last_term = h->term;
        b->summary.last_chain = h->chain;
        b->summary.end_offset = offset + record_size(h->payload_size);
        return r;
}

static int build_scan(struct builder *b, struct index_source *source, struct os_file *file)
{
        struct segment_scan scan;
        struct record_header h;
        struct bytes payload;
        uint64_t end;
        int r;

        r = os_file_size(file, &end);
        if (r)
                return fault_fold(r);
        segment_scan_begin(&scan, file, source->header, SEGMENT_HEADER_SIZE, end);
        while (!r && b->summary.last_index < source->last_index) {
                source->problem_offset = scan.offset;
                r = segment_scan_next(&scan, &h, &payload);
                if (r > 0 || r == -EIO) /* what cannot be read is damaged (G15) */
                        r = INDEX_CORRUPT;
                else if (!r)
                        r = build_record(b, source, &h, payload, source->problem_offset);
        }
        segment_scan_fini(&scan);
        return r;
}

/* ---- from a tail to sections ---- */

static void section_begin(struct builder *b, enum index_section section)
{
        b->sections[section].offset = b->out->size;
}

/* Ends a section that is read whole, under one sum. */
static void section_end_whole(struct builder *b, enum index_section section, uint32_t count)
{
        struct index_section_at *at = &b->sections[section];

        at->size = b->out->size - at->offset;
        at->count = count;
        at->crc = crc32c(0, b->out->data + at->offset, at->size);
}

static void section_end_blocks(struct builder *b, enum index_section section, uint32_t count)
{
        struct index_section_at *at = &b->sections[section];

        at->size = b->out->size - at->offset;
        at->count = count;
}

static int compare_entries(const void *a, const void *b)
{
        const struct index_entry *x = a, *y = b;

        if (x->hash != y->hash)
                return x->hash < y->hash ? -1 : 1;
        if (x->run.first_revision != y->run.first_revision)
                return x->run.first_revision < y->run.first_revision ? -1 : 1;
        return (x->run.offset8 > y->run.offset8) - (x->run.offset8 < y->run.offset8);
}

static struct index_entry *sorted_entries(const struct tail *tail, uint32_t *ret_count)
{
        struct index_entry *entries;
        uint32_t i, j, n = 0;

        for (i = 0; i < tail->streams.count; i++)
                n += tail_stream_at(tail, i)->run_count;
        entries = memory_new_array(n ? n : 1, sizeof entries[0]);
        for (i = 0, n = 0; i < tail->streams.count; i++) {
                const struct tail_stream *s = tail_stream_at(tail, i);

                for (j = 0; j < s->run_count; j++)
                        entries[n++] = (struct index_entry){s->hash, *tail_run(s, j)};
        }
        qsort(entries, n, sizeof entries[0], compare_entries);
        *ret_count = n;
        return entries;
}

static void put_entry_block(struct buffer *out, const struct index_entry *entries, uint32_t count)
{
        uint8_t block[INDEX_BLOCK_SIZE] = {0};
        uint32_t i;

        for (i = 0; i < count; i++) {
                uint8_t *at = block + (size_t)i * INDEX_ENTRY_SIZE;

                put_u64(at, entries[i].hash);
                put_u64(at + 8, entries[i].run.first_revision);
                put_u32(at + 16, entries[i].run.count);
                put_u32(at + 20, entries[i].run.offset8);
        }
        put_u32(block + INDEX_BLOCK_SIZE - 16, count);
        put_u32(block + INDEX_BLOCK_SIZE - 4, crc32c(0, block, INDEX_BLOCK_SIZE - 4));
        buffer_add(out, block, sizeof block);
}

static void build_entries(struct builder *b)
{
        uint32_t count, i, blocks = 0;
        struct index_entry *entries = sorted_entries(b->tail, &count);

        b->summary.has_collisions = tail_has_collisions(b->tail);
        section_begin(b, INDEX_ENTRIES);
        for (i = 0; i < count; i += INDEX_BLOCK_ENTRIES)
                put_entry_block(b->out, entries + i, MIN(count - i, INDEX_BLOCK_ENTRIES));
        section_end_blocks(b, INDEX_ENTRIES, count);
        section_begin(b, INDEX_FENCES);
        for (i = 0; i < count; i += INDEX_BLOCK_ENTRIES, blocks++) {
                buffer_add_u64(b->out, entries[i].hash);
                buffer_add_u64(b->out, entries[i].run.first_revision);
        }
        section_end_whole(b, INDEX_FENCES, blocks);
        free(entries);
}

static void build_bloom(struct builder *b)
{
        uint64_t words = align_up((uint64_t)b->tail->streams.count * INDEX_BLOOM_BITS + 1, 64) / 64;
        uint64_t *bits = memory_new_array(words, sizeof bits[0]);
        uint32_t i, probe;

        for (i = 0; i < b->tail->streams.count; i++) {
                for (probe = 0; probe < INDEX_BLOOM_PROBES; probe++) {
                        uint64_t bit = bloom_bit(tail_stream_at(b->tail, i)->hash, probe, words * 64);

                        bits[bit / 64] |= (uint64_t)1 << (bit % 64);
                }
        }
        section_begin(b, INDEX_BLOOM);
        buffer_add(b->out, bits, words * sizeof bits[0]);
        section_end_whole(b, INDEX_BLOOM, (uint32_t)words);
        free(bits);
}

static void put_name(struct builder *b, struct buffer *block, enum persistence_names what, uint32_t ordinal)
{
        const struct tail_stream *s;
        const struct tail_name *n;

        if (what == NAMES_STREAMS) {
                s = tail_stream_at(b->tail, ordinal);
                buffer_add_varint(block, s->name.size);
                buffer_add_bytes(block, s->name);
                buffer_add_varint(block, s->event_count);
                buffer_add_varint(block, (s->has_events ? INDEX_STREAM_HAS_EVENTS : 0) |
                                                 (s->is_tombstoned ? INDEX_STREAM_TOMBSTONED : 0));
                buffer_add_varint(block, s->last_revision);
                buffer_add_varint(block, s->last_position - b->summary.first_position);
                return;
        }
        n = tail_name_at(what == NAMES_TYPES ? &b->tail->types : &b->tail->categories, ordinal);
        buffer_add_varint(block, n->name.size);
        buffer_add_bytes(block, n->name);
        buffer_add_varint(block, n->event_count);
        buffer_add_varint(block, b->postings.size);
        buffer_add_varint(block, n->postings.size);
        buffer_add_varint(block, n->record_count);
        buffer_add_bytes(&b->postings, buffer_bytes(&n->postings));
}

static void put_name_block(
        struct builder *b, struct buffer *block, struct buffer *directory, enum index_section section)
{
        uint64_t offset = b->out->size - b->sections[section].offset;

        if (!block->size)
                return;
        buffer_add_u32(directory, (uint32_t)offset);
        buffer_add_u32(directory, (uint32_t)block->size + 4);
        buffer_add_u32(b->out, crc32c(0, block->data, block->size));
        buffer_add_bytes(b->out, buffer_bytes(block));
        buffer_clear(block);
}

static void build_names(struct builder *b, enum persistence_names what)
{
        enum index_section section = INDEX_STREAMS + 2 * (unsigned)what;
        struct buffer block = {0}, directory = {0};
        uint32_t count, i;
        const uint32_t *sorted = tail_sorted(b->tail, what, &count);

        section_begin(b, section);
        for (i = 0; i < count; i++) {
                put_name(b, &block, what, sorted[i]);
                if (block.size >= INDEX_NAMES_BLOCK)
                        put_name_block(b, &block, &directory, section);
        }
        put_name_block(b, &block, &directory, section);
        section_end_blocks(b, section, count);
        section_begin(b, section + 1);
        buffer_add_bytes(b->out, buffer_bytes(&directory));
        section_end_whole(b, section + 1, (uint32_t)(directory.size / INDEX_DIRECTORY_SIZE));
        buffer_fini(&block);
        buffer_fini(&directory);
}

static void build_header(struct builder *b, const struct segment_header *h)
{
        uint8_t header[INDEX_HEADER_SIZE] = {0};

        memcpy(header, index_magic, sizeof index_magic);
        put_u32(header + 8, INDEX_FORMAT);
        memcpy(header + 16, h->cluster_uuid, 16);
        put_u64(header + 32, h->node_id);
        memcpy(header + 40, h->segment_uuid, 16);
        put_u32(header + INDEX_HEADER_SIZE - 4, crc32c(0, header, INDEX_HEADER_SIZE - 4));
        buffer_add(b->out, header, sizeof header);
}

static void build_footer(struct builder *b, const struct segment_header *h)
{
        uint8_t footer[INDEX_FOOTER_SIZE] = {0};
        uint8_t *at = footer + 120;
        unsigned i;

        memcpy(footer, index_magic, sizeof index_magic);
        put_u32(footer + 8, INDEX_FORMAT);
        put_u32(footer + 12, b->summary.has_collisions);
        memcpy(footer + 16, h->store_uuid, 16);
        memcpy(footer + 32, h->segment_uuid, 16);
        put_u64(footer + 48, b->summary.first_index);
        put_u64(footer + 56, b->summary.last_index);
        put_u64(footer + 64, b->summary.last_term);
        put_u64(footer + 72, b->summary.first_position);
        put_u64(footer + 80, b->summary.event_count);
        put_u64(footer + 88, b->summary.end_offset);
        put_u64(footer + 96, b->summary.last_time_us);
        memcpy(footer + 104, b->summary.last_chain.bytes, RECORD_CHAIN_SIZE);
        static_assert(120 + INDEX_SECTIONS * 24 <= INDEX_FOOTER_SIZE - 4, "sections fit the footer");
        for (i = 0; i < INDEX_SECTIONS; i++, at += 24) {
                put_u64(at, b->sections[i].offset);
                put_u64(at + 8, b->sections[i].size);
                put_u32(at + 16, b->sections[i].count);
                put_u32(at + 20, b->sections[i].crc);
        }
        put_u32(footer + INDEX_FOOTER_SIZE - 4, crc32c(0, footer, INDEX_FOOTER_SIZE - 4));
        buffer_add(b->out, footer, sizeof footer);
}

static void build_sections(struct builder *b, const struct segment_header *h)
{
        build_header(b, h);
        build_entries(b);
        build_bloom(b);
        section_begin(b, INDEX_POSITIONS);
        buffer_add_bytes(b->out, buffer_bytes(&b->positions));
        section_end_whole(b, INDEX_POSITIONS, (uint32_t)(b->positions.size / INDEX_POSITION_SIZE));
        build_names(b, NAMES_STREAMS);
        build_names(b, NAMES_CATEGORIES);
        build_names(b, NAMES_TYPES);
        section_begin(b, INDEX_POSTINGS);
        buffer_add_bytes(b->out, buffer_bytes(&b->postings));
        section_end_whole(b, INDEX_POSTINGS, 0);
        build_footer(b, h);
}

int index_build(struct index_source *source, struct buffer *out)
{
        CLEANUP(text_freep)
        char *path = segment_path(
                source->log_path, source->header->first_index, source->extension ? source->extension : "seg");
        struct builder b = {.out = out};
        struct os_file *file = NULL;
        int r;

        b.summary.first_index = source->header->first_index;
        b.summary.last_index = source->header->first_index - 1;
        b.summary.last_term = source->header->previous_term;
        b.summary.first_position = source->header->first_position;
        b.summary.last_time_us = source->header->previous_time_us;
        b.summary.last_chain = source->header->previous_chain;
        b.summary.end_offset = SEGMENT_HEADER_SIZE;
        r = os_file_open(source->os, path, OS_OPEN_READ, &file);
        if (r)
                return r == OS_NOT_FOUND ? INDEX_CORRUPT : fault_fold(r);
        b.tail = tail_new(true);
        r = build_scan(&b, source, file);
        os_file_close(&file);
        if (!r)
                build_sections(&b, source->header);
        tail_free(&b.tail);
        buffer_fini(&b.positions);
        buffer_fini(&b.postings);
        return r;
}

int index_save(struct os *os, const char *log_path, uint64_t first_index, const char *extension,
        struct bytes content)
{
        CLEANUP(text_freep) char *path = segment_path(log_path, first_index, extension);
        CLEANUP(text_freep) char *temporary = text_format("%s.tmp", path);
        struct os_file *file = NULL;
        size_t at;
        int r;

        r = os_file_open(os, temporary, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        if (!r)
                r = os_file_truncate(file, 0);
        for (at = 0; !r && at < content.size; at += MIN(content.size - at, MIB))
                r = os_file_write(file, bytes_of(content.data + at, MIN(content.size - at, MIB)), at);
        if (!r)
                r = os_file_sync(file);
        os_file_close(&file);
        if (!r)
                r = os_rename(os, temporary, path);
        if (!r)
                r = os_dir_sync(os, log_path);
        return r == OS_FULL ? INDEX_FULL : fault_fold(r);
}
