/* Every bit of an index file is under a sum: of header and footer, of a block (entries, names), or of a
 * section. Nothing of it goes through the cache, which belongs to readers. */
#include "persistence/index_check.h"

#include <errno.h>

#include "base/crc32c.h"
#include "base/memory.h"

enum { CHECK_BLOCK = 64 * 1024 }; /* of a section with one sum */

int index_check_begin(
        struct index_check *c, struct os *os, const char *log_path, const struct segment_header *header)
{
        int r = index_open(os, log_path, header, &c->index);

        if (!r)
                r = index_hold(c->index);
        if (r)
                return r;
        c->file = c->index->held;
        c->read_bytes = INDEX_HEADER_SIZE + INDEX_FOOTER_SIZE;
        return c->file ? 0 : INDEX_ABSENT;
}

void index_check_end(struct index_check *c)
{
        index_close(&c->index);
        buffer_fini(&c->directory);
        buffer_fini(&c->block);
        *c = (struct index_check){0};
}

/* Reads a range of the section into `to`. */
static int check_read(
        struct index_check *c, unsigned section, uint64_t offset, uint64_t size, struct buffer *to)
{
        const struct index_section_at *at = &c->index->sections[section];
        size_t got;
        int r;

        if (offset > at->size || size > at->size - offset)
                return INDEX_CORRUPT;
        buffer_clear(to);
        buffer_reserve(to, size);
        r = os_file_read(c->file, to->data, size, at->offset + offset, &got);
        if (r)
                return r == -EIO ? INDEX_CORRUPT : fault_fold(r);
        to->size = got;
        c->read_bytes += got;
        return got == size ? 0 : INDEX_CORRUPT;
}

static bool is_dictionary(unsigned section)
{
        return section == INDEX_STREAMS || section == INDEX_CATEGORIES || section == INDEX_TYPES;
}

static int check_entries(struct index_check *c)
{
        int r = check_read(c, INDEX_ENTRIES, c->offset, INDEX_BLOCK_SIZE, &c->block);

        if (r)
                return r;
        if (crc32c(0, c->block.data, INDEX_BLOCK_SIZE - 4) != get_u32(c->block.data + INDEX_BLOCK_SIZE - 4))
                return INDEX_CORRUPT;
        c->offset += INDEX_BLOCK_SIZE;
        return 0;
}

static int check_names(struct index_check *c)
{
        const struct index_section_at *section = &c->index->sections[c->section], *directory = section + 1;
        uint32_t offset, size;
        const uint8_t *at;
        int r;

        if (c->part == 0) {
                r = check_read(c, c->section + 1, 0, directory->size, &c->directory);
                if (r)
                        return r;
                if (crc32c(0, c->directory.data, c->directory.size) != directory->crc)
                        return INDEX_CORRUPT;
        }
        if (c->part == directory->count) /* bytes of which nobody speaks */
                return INDEX_CORRUPT;
        at = c->directory.data + (size_t)c->part * INDEX_DIRECTORY_SIZE;
        offset = get_u32(at);
        size = get_u32(at + 4);
        if (offset != c->offset || size < 4)
                return INDEX_CORRUPT;
        r = check_read(c, c->section, offset, size, &c->block);
        if (r)
                return r;
        c->part++;
        c->offset += size;
        return crc32c(0, c->block.data + 4, size - 4) == get_u32(c->block.data) ? 0 : INDEX_CORRUPT;
}

static int check_section(struct index_check *c)
{
        const struct index_section_at *section = &c->index->sections[c->section];
        uint64_t size = MIN(section->size - c->offset, CHECK_BLOCK);
        int r = check_read(c, c->section, c->offset, size, &c->block);

        if (r)
                return r;
        c->crc = crc32c(c->crc, c->block.data, size);
        c->offset += size;
        return c->offset < section->size || c->crc == section->crc ? 0 : INDEX_CORRUPT;
}

static int check_block(struct index_check *c)
{
        if (c->section == INDEX_ENTRIES)
                return check_entries(c);
        return is_dictionary(c->section) ? check_names(c) : check_section(c);
}

int index_check_next(struct index_check *c, uint64_t size_max, bool *ret_ends)
{
        uint64_t begun = c->read_bytes;
        int r = 0;

        while (!r && c->section < INDEX_SECTIONS && c->read_bytes - begun < size_max) {
                if (c->offset < c->index->sections[c->section].size) {
                        r = check_block(c);
                        continue;
                }
                c->section++;
                c->offset = 0;
                c->part = 0;
                c->crc = 0;
        }
        *ret_ends = c->section == INDEX_SECTIONS;
        return r;
}
