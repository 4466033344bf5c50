/* Runs of entries for other nodes, from the groups in memory or from files.
 *
 * What groups hold is served from there, committed or not, before it is written too: the lane that writes a
 * group fills in sums, chain and watermark of its headers and the header bytes before each payload, and
 * nothing else is read here before the group is done. Everything older comes from files by few large reads,
 * verified like any record that is read (G14). */
#include "persistence/entries.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/group.h"
#include "persistence/text.h"

enum { ENTRIES_READ_MIN = 4096, ENTRIES_READ_MORE = 16, ENTRIES_CAPACITY_MIN = 64 };
#define ENTRIES_READ_MAX       (64 * MIB)
#define ENTRIES_BLOCK_KEPT_MAX (4 * MIB)
#define ENTRIES_KEPT_MAX       16384

/* ---- a walk over a file ---- */

void entries_walk_fini(struct entries_walk *w)
{
        buffer_fini(&w->block);
        free(w->entries);
        *w = (struct entries_walk){0};
}

void entries_walk_clear(struct entries_walk *w)
{
        struct buffer block = w->block;
        struct persistence_entry *entries = w->entries;
        unsigned capacity = w->capacity;

        if (block.capacity > ENTRIES_BLOCK_KEPT_MAX)
                buffer_fini(&block);
        if (capacity > ENTRIES_KEPT_MAX) {
                free(entries);
                entries = NULL;
                capacity = 0;
        }
        buffer_clear(&block);
        *w = (struct entries_walk){.block = block, .entries = entries, .capacity = capacity};
}

void entries_walk_add(
        struct entries_walk *w, const struct record_header *h, uint64_t write_id, struct bytes payload)
{
        if (w->count == w->capacity) {
                w->capacity = w->capacity ? w->capacity * 2 : ENTRIES_CAPACITY_MIN;
                w->entries = memory_resize(w->entries, w->capacity * sizeof w->entries[0]);
        }
        w->entries[w->count++] = (struct persistence_entry){.index = h->index,
                .term = h->term,
                .kind = h->kind,
                .first_position = h->first_position,
                .event_count = h->event_count,
                .write_id = write_id,
                .payload = payload};
        w->payload_size += payload.size;
}

void entries_walk_give(const struct entries_walk *w, bool has_chain, struct persistence_entries *ret)
{
        *ret = (struct persistence_entries){.entries = w->entries,
                .count = w->count,
                .payload_size = w->payload_size,
                .has_chain = has_chain};
        if (has_chain)
                ret->chain = w->chain;
}

/* Whether the walk has room for one more entry of that size. */
static bool entries_walk_has_room(const struct entries_walk *w, uint32_t payload_size)
{
        return w->count == 0 || (w->count < w->count_max && w->payload_size < w->size_max &&
                                        payload_size <= w->size_max - w->payload_size);
}

static int walk_corrupt(struct entries_walk *w, const char *what)
{
        w->problem = what;
        return PERSISTENCE_CORRUPT;
}

static int walk_broken(struct entries_walk *w, const char *what)
{
        w->is_broken = true;
        return walk_corrupt(w, what);
}

static bool walk_has(const struct entries_walk *w, uint64_t size)
{
        return w->offset >= w->block_offset && w->offset - w->block_offset <= w->block.size &&
               size <= w->block.size - (w->offset - w->block_offset);
}

/* Makes `size` bytes at `offset` available, with what follows them. Only while no entry points into the
 * block. */
static int walk_read(struct entries_walk *w, uint64_t size)
{
        uint64_t want = MIN(w->size_max, ENTRIES_READ_MAX);
        size_t got = 0;
        int r;

        assert(w->count == 0);
        /* Headers, and what stands between the noted offset and the first entry, come on top of payloads. */
        want = MAX(want + want / ENTRIES_READ_MORE + ENTRIES_READ_MIN, size);
        if (w->offset >= w->end || size > w->end - w->offset)
                return walk_corrupt(w, "a record ends behind the log");
        want = MIN(want, w->end - w->offset);
        buffer_clear(&w->block);
        buffer_reserve(&w->block, want);
        r = os_file_read(w->file, w->block.data, want, w->offset, &got);
        if (r == -EIO)
                return walk_corrupt(w, "it cannot be read");
        if (r)
                return fault_fold(r);
        w->block.size = got;
        w->block_offset = w->offset;
        w->read_bytes += got;
        return got >= size ? 0 : walk_corrupt(w, "the file ends too early");
}

static const uint8_t *walk_at(const struct entries_walk *w)
{
        return w->block.data + (w->offset - w->block_offset);
}

/* The header of the record at `offset`, which follows `before`. */
static int walk_header(struct entries_walk *w)
{
        int r = walk_has(w, RECORD_HEADER_SIZE) ? 0 : walk_read(w, RECORD_HEADER_SIZE);
        const struct record_header *h = &w->header, *before = &w->before;

        if (r)
                return r;
        if (record_header_decode(walk_at(w), w->seed, &w->header) != 0)
                return walk_corrupt(w, "the header of a record");
        if (!w->has_before)
                return 0;
        if (h->index != before->index + (h->kind == RECORD_WATERMARK ? 0 : 1) || h->term < before->term ||
                h->first_position != before->first_position + before->event_count)
                return walk_broken(w, "a record does not follow the one before it");
        return 0;
}

static void walk_pass(struct entries_walk *w)
{
        w->before = w->header;
        w->has_before = true;
        w->offset += record_size(w->header.payload_size);
}

int entries_walk_to_first(struct entries_walk *w)
{
        int r;

        for (;;) {
                r = walk_header(w);
                if (r)
                        return r;
                if (w->header.kind != RECORD_WATERMARK && w->header.index >= w->first)
                        return w->header.index == w->first ? 0
                                                           : walk_corrupt(w, "an entry before it is missing");
                walk_pass(w);
        }
}

/* Takes the record at `offset`, which is whole in the block. */
static int walk_take_one(struct entries_walk *w)
{
        const struct record_header *h = &w->header;
        const uint8_t *at = walk_at(w);
        struct bytes payload = bytes_of(at + RECORD_HEADER_SIZE, h->payload_size);
        struct record_chain chain;

        if (!w->skip_crc && record_payload_crc(w->seed, payload) != h->payload_crc)
                return walk_corrupt(w, "the payload of a record");
        if (!record_padding_is_zero(at, h->payload_size))
                return walk_corrupt(w, "the bytes behind a record are not zero");
        if (w->checks_chain && w->has_before) {
                record_chain_next(&w->before.chain, h->index, h->term, payload, &chain);
                if (memcmp(&chain, &h->chain, sizeof chain) != 0)
                        return walk_broken(w, "its chain hash does not follow");
        }
        entries_walk_add(w, h, 0, payload);
        w->chain = h->chain;
        walk_pass(w);
        return 0;
}

/* Takes the record at `offset`, whose header is verified, unless it is a watermark. *ret_ends: there was no
 * room for it, or it was the last one. */
static int walk_take_next(struct entries_walk *w, bool *ret_ends)
{
        uint64_t size = record_size(w->header.payload_size);
        int r = 0;

        *ret_ends = false;
        if (w->header.kind == RECORD_WATERMARK) {
                walk_pass(w);
                return 0;
        }
        *ret_ends = !entries_walk_has_room(w, w->header.payload_size) || (w->count && !walk_has(w, size));
        if (*ret_ends)
                return 0;
        if (!walk_has(w, size))
                r = walk_read(w, size);
        if (!r)
                r = walk_take_one(w);
        *ret_ends = w->header.index == w->last;
        return r;
}

int entries_walk_take(struct entries_walk *w)
{
        int r = entries_walk_to_first(w);
        bool ends = false;

        assert(w->count == 0);
        while (!r && !ends) {
                r = walk_take_next(w, &ends);
                if (r || ends)
                        break;
                ends = w->offset >= w->end || (w->count && !walk_has(w, RECORD_HEADER_SIZE));
                if (!ends)
                        r = walk_header(w);
        }
        /* What stands before damage is good: the next run begins with the damage and says so. */
        return r == PERSISTENCE_CORRUPT && w->count && !w->is_broken ? 0 : r;
}

/* The index at one of the noted offsets. False: no header can be read there, which is found out by who comes
 * by. */
static int walk_noted_index(
        struct entries_walk *w, struct bytes positions, uint32_t number, uint64_t *ret, bool *ret_is_valid)
{
        uint64_t offset = (uint64_t)get_u32(positions.data + (size_t)number * INDEX_POSITION_SIZE + 4) *
                          RECORD_ALIGNMENT;
        uint8_t raw[RECORD_HEADER_SIZE];
        struct record_header h;
        size_t got;
        int r;

        *ret_is_valid = false;
        r = os_file_read(w->file, raw, sizeof raw, offset, &got);
        if (r)
                return r == -EIO ? 0 : fault_fold(r);
        w->read_bytes += got;
        *ret_is_valid = got == sizeof raw && record_header_decode(raw, w->seed, &h) == 0;
        if (*ret_is_valid)
                *ret = h.index;
        return 0;
}

int entries_walk_search(struct entries_walk *w, struct bytes positions)
{
        uint32_t low = 0, high = (uint32_t)(positions.size / INDEX_POSITION_SIZE), probe;
        uint64_t index = 0;
        bool is_valid;
        int r;

        if (high == 0)
                return 0;
        while (high - low > 1) {
                uint32_t middle = low + (high - low) / 2;

                /* Damage of a record says nothing of those around it: the next one that is whole decides. */
                for (probe = middle, is_valid = false; probe < high && !is_valid; probe++) {
                        r = walk_noted_index(w, positions, probe, &index, &is_valid);
                        if (r)
                                return r;
                }
                if (is_valid && index <= w->first)
                        low = probe - 1;
                else
                        high = middle;
        }
        w->offset =
                (uint64_t)get_u32(positions.data + (size_t)low * INDEX_POSITION_SIZE + 4) * RECORD_ALIGNMENT;
        return 0;
}

/* ---- groups in memory ---- */

/* The group that holds the index, or NULL. */
static const struct log_group *entries_group(const struct persistence *p, uint64_t index)
{
        const struct log_group *g = p->gathering;

        if (g && g->first_index <= index && index <= g->last_index)
                return g;
        g = group_find(&p->in_flight, index);
        return g ? g : group_find(&p->retained, index);
}

static uint64_t list_first_index(const struct list *groups)
{
        LIST_EACH (at, groups) {
                const struct log_group *g = CONTAINER_OF(at, const struct log_group, link);

                if (g->first_index <= g->last_index)
                        return g->first_index;
        }
        return UINT64_MAX;
}

uint64_t entries_first_in_memory(const struct persistence *p)
{
        uint64_t first = p->gathering ? p->gathering->first_index : p->last_index + 1;

        first = MIN(first, list_first_index(&p->in_flight));
        return MIN(first, list_first_index(&p->retained));
}

/* `walk` is empty and has its limits. *ret_has_chain: the last entry is written. */
static void entries_from_memory(const struct persistence *p, struct entries_walk *w, bool *ret_has_chain)
{
        uint64_t index = w->first;

        while (index <= w->last) {
                const struct log_group *g = entries_group(p, index);
                uint64_t last;

                assert(g);
                for (last = MIN(w->last, g->last_index); index <= last; index++) {
                        const struct group_record *record = &g->records[index - g->first_index];
                        const struct record_header *h = &record->header;

                        if (!entries_walk_has_room(w, h->payload_size))
                                return;
                        entries_walk_add(w, h, record->write_id,
                                bytes_of(g->bytes.data + record->at + RECORD_HEADER_SIZE, h->payload_size));
                        *ret_has_chain = g->is_done && g->result == 0;
                        if (*ret_has_chain)
                                w->chain = h->chain;
                }
        }
}

/* ---- files ---- */

static uint64_t segment_offset_of(const struct log_segment *s, uint64_t index)
{
        uint64_t number = index - s->header.first_index;

        assert(number <= s->record_count);
        return number < s->record_count ? (uint64_t)s->records[number].offset8 * RECORD_ALIGNMENT
                                        : s->end_offset;
}

void entries_walk_in_unsealed(
        const struct persistence *p, const struct log_segment *s, struct entries_walk *w)
{
        uint64_t last = MIN(w->last, log_segment_next_index(s) - 1);

        w->last = MIN(last, entries_first_in_memory(p) - 1);
        assert(w->first <= w->last);
        w->offset = segment_offset_of(s, w->first);
        if (w->count_max <= w->last - w->first)
                w->last = w->first + w->count_max - 1;
        w->end = segment_offset_of(s, w->last + 1);
}

int entries_walk_result(
        struct persistence *p, struct log_segment *s, const struct entries_walk *w, int result)
{
        CLEANUP(text_freep) char *path = NULL;

        p->stats.read_bytes += w->read_bytes;
        if (result != PERSISTENCE_CORRUPT)
                return result;
        path = segment_path(p->log_path, s->header.first_index, "seg");
        log_publish_text(p, FACT_corruption_found, w->offset, 0, strrchr(path, '/') + 1);
        log_segment_damaged(p, s);
        return PERSISTENCE_CORRUPT;
}

int persistence_entries_read(struct persistence *p, uint64_t first, uint64_t last, unsigned count_max,
        uint64_t size_max, struct persistence_entries *ret)
{
        struct entries_walk *w = &p->outgoing;
        struct log_segment *s;
        bool has_chain = true;
        size_t number;
        int r = 0;

        assert(first <= last && count_max > 0);
        if (atomic_load(&p->has_failed)) /* a truncation that stopped half-way may be what failed */
                return fault_raise(-EIO);
        if (first == 0 || first > p->last_index)
                return PERSISTENCE_NOT_FOUND;
        entries_walk_clear(w);
        w->first = first;
        w->last = MIN(last, p->last_index);
        w->count_max = count_max;
        w->size_max = size_max;
        if (first >= entries_first_in_memory(p)) {
                entries_from_memory(p, w, &has_chain);
        } else {
                number = log_segment_of_index(p, first);
                if (number < p->sealed_count)
                        return PERSISTENCE_COLD;
                s = p->segments[number];
                w->file = s->file;
                w->seed = segment_seed(&s->header);
                w->skip_crc = p->skip_crc;
                entries_walk_in_unsealed(p, s, w);
                r = entries_walk_result(p, s, w, entries_walk_take(w));
        }
        if (!r)
                entries_walk_give(w, has_chain, ret);
        return r;
}

/* ---- marks ---- */

static int mark_from_file(struct persistence *p, size_t number, uint64_t index, struct record_header *ret)
{
        struct log_segment *s = p->segments[number];
        struct entries_walk w = {.seed = segment_seed(&s->header),
                .first = index,
                .last = index,
                .count_max = 1,
                .end = s->end_offset,
                .offset = SEGMENT_HEADER_SIZE};
        struct bytes positions;
        int r = log_segment_file(p, s, &w.file);

        if (r)
                return r;
        if (number >= p->sealed_count) {
                entries_walk_in_unsealed(p, s, &w);
        } else {
                w.size_max = INDEX_POSITION_STEP;
                r = index_positions(s->index, p->cache, &positions);
                if (r == INDEX_CORRUPT) {
                        log_index_damaged(p, number);
                        r = PERSISTENCE_CORRUPT;
                }
                if (!r)
                        r = entries_walk_search(&w, positions);
        }
        if (!r)
                r = entries_walk_result(p, s, &w, entries_walk_to_first(&w));
        *ret = w.header;
        entries_walk_fini(&w);
        return r;
}

int persistence_entry_mark(
        struct persistence *p, uint64_t index, uint64_t *ret_term, struct record_chain *ret_chain)
{
        const struct log_group *g;
        struct record_header h = {0};
        size_t number;
        int r = 0;

        if (atomic_load(&p->has_failed))
                return fault_raise(-EIO);
        if (index > p->synced_index)
                return PERSISTENCE_NOT_FOUND;
        g = entries_group(p, index);
        number = log_segment_of_index(p, index);
        if (g) {
                h = g->records[index - g->first_index].header;
        } else if (index > 0 && number < p->sealed_count &&
                   index == p->segments[number]->index->summary.last_index) {
                h.term = p->segments[number]->index->summary.last_term;
                h.chain = p->segments[number]->index->summary.last_chain;
        } else if (index > 0) {
                r = mark_from_file(p, number, index, &h);
        }
        if (r)
                return r;
        *ret_term = h.term;
        *ret_chain = h.chain;
        return 0;
}

uint64_t persistence_appended_position(const struct persistence *p)
{
        return p->next_append_position;
}
