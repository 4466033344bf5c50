/* Lost ends (G13). A start finds that records which were durable are damaged, in a segment that is not
 * sealed. Alone, this node has the only copy: the start is refused, and a person decides. Among other nodes
 * its log is cut before the damage, and what is missing is fetched from them.
 *
 * But what was durable here was acknowledged to a leader, and may have counted for a majority. A node that
 * forgot it and went on voting could help to elect a leader without it, or a leader that still counts its
 * acknowledgement could commit what a majority no longer has. So the mark `lost.json` becomes durable before
 * anything is cut, and while it is there this node takes no part in consensus: it neither votes nor stands
 * nor acknowledges (the store sees to that, and says when it has everything again: store/refetch.c).
 *
 * The same is done with a log whose sums are right and whose history is not that of the majority
 * (store/compare.c): the mark then says behind which index the next start cuts it.
 *
 * The order: the mark; a copy of the damaged file in quarantine/; the segment files behind it moved there,
 * the newest first, so that a crash leaves a log without a hole; the damaged file shortened; a cut that was
 * ordered leaves the mark. A crash in between leaves the mark, and the next start goes on. */
#include "persistence/lost.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/text.h"

static void buffer_freep(struct buffer *b)
{
        buffer_fini(b);
}

int log_load_lost(struct persistence *p)
{
        int r = lost_file_load(p->node, p->path, &p->store, &p->lost);

        if (r == PERSISTENCE_NOT_FOUND)
                return 0;
        if (r)
                return r;
        p->is_lost = true;
        if (p->may_cut_damage || p->read_only)
                return 0;
        return problem_note(PERSISTENCE_CORRUPT,
                "%s/lost.json says that entries of the log were damaged and cut off; start this node as a "
                "member "
                "of its cluster, which has them",
                p->path);
}

bool persistence_lost(const struct persistence *p, uint64_t *ret_through)
{
        *ret_through = p->lost.through;
        return p->is_lost;
}

bool persistence_lost_members(
        const struct persistence *p, struct bytes *ret_configuration, uint64_t *ret_index)
{
        *ret_configuration = bytes_of(p->lost.configuration, p->lost.configuration_size);
        *ret_index = p->lost.configuration_index;
        return p->is_lost && p->lost.configuration_size > 0;
}

int persistence_lose_after(
        struct persistence *p, uint64_t index, struct bytes configuration, uint64_t configuration_index)
{
        struct lost_mark mark = {.through = p->last_index,
                .has_cut = true,
                .cut_after = index,
                .configuration_index = configuration_index,
                .configuration_size = (uint32_t)configuration.size};
        int r;

        assert(!p->read_only && p->may_cut_damage && index > 0);
        assert(configuration.size > 0 && configuration.size <= sizeof mark.configuration);
        memcpy(mark.configuration, configuration.data, configuration.size);
        r = lost_file_save(p->node, p->path, &p->store, &mark);
        if (r < 0)
                log_fail(p, r);
        return r;
}

int persistence_lost_found(struct persistence *p)
{
        int r;

        assert(p->is_lost && !p->read_only);
        r = lost_file_remove(p->node, p->path);
        if (r) {
                log_fail(p, r);
                return r;
        }
        p->is_lost = false;
        p->lost = (struct lost_mark){0};
        log_publish_text(p, FACT_corruption_repaired, p->committed_position, 0, p->store.name);
        return 0;
}

/* ---- setting aside ---- */

/* Copies block by block; what cannot be read stays zero. */
static int copy_blocks(struct os_file *from, struct os_file *to, uint64_t size)
{
        CLEANUP(buffer_freep) struct buffer block = {0};
        uint64_t at;
        size_t got = 0;
        int r = 0;

        buffer_reserve(&block, SEGMENT_SCAN_BLOCK);
        for (at = 0; at < size && !r; at += SEGMENT_SCAN_BLOCK) {
                r = os_file_read(from, block.data, MIN(size - at, SEGMENT_SCAN_BLOCK), at, &got);
                if (r == -EIO) {
                        r = 0;
                        continue;
                }
                if (!r && got)
                        r = os_file_write(to, bytes_of(block.data, got), at);
        }
        return r ? r : os_file_sync(to);
}

static int copy_to_quarantine(struct persistence *p, const struct log_segment *s)
{
        CLEANUP(text_freep) char *from = segment_path(p->log_path, s->header.first_index, "seg");
        CLEANUP(text_freep) char *directory = text_format("%s/quarantine", p->path);
        CLEANUP(text_freep)
        char *to = text_format(
                "%s%s.%llu", directory, strrchr(from, '/'), (unsigned long long)os_wall_us(p->os));
        struct os_file *copy = NULL;
        uint64_t size = 0;
        int r;

        r = os_dir_make(p->os, directory);
        if (!r)
                r = os_file_size(s->file, &size);
        if (!r)
                r = os_file_open(p->os, to, OS_OPEN_WRITE | OS_OPEN_CREATE, &copy);
        if (!r)
                r = os_file_truncate(copy, 0);
        if (!r)
                r = copy_blocks(s->file, copy, size);
        os_file_close(&copy);
        if (!r)
                r = os_dir_sync(p->os, directory);
        p->quarantined++;
        strncpy(p->quarantined_name, strrchr(from, '/') + 1, sizeof p->quarantined_name - 1);
        return r;
}

static int set_aside(struct persistence *p, const struct lost_end *end)
{
        static const char *const extensions[] = {"ids", "idx", "seg"};
        size_t i, k;
        int r;

        r = copy_to_quarantine(p, p->segments[end->number]);
        for (i = end->count; i > 0 && !r; i--)
                for (k = 0; k < 3 && !r; k++)
                        r = log_quarantine(
                                p->os, p->path, p->log_path, end->first_indexes[i - 1], extensions[k]);
        /* An index file says that the segment is complete and that another follows. */
        if (!r)
                r = log_quarantine(
                        p->os, p->path, p->log_path, p->segments[end->number]->header.first_index, "idx");
        return r;
}

static bool may_lose(const struct persistence *p)
{
        const struct log_configuration *c = log_configuration_last(p);
        struct bytes members = c ? bytes_of(c->bytes, c->size) : BYTES_EMPTY;

        /* Whoever ordered a cut knew of those that have been members since. */
        if (p->lost.configuration_size)
                members = bytes_of(p->lost.configuration, p->lost.configuration_size);
        return p->may_cut_damage && !p->read_only && p->last_index > 0 && members.size > 0 &&
               p->may_cut_damage(p->may_cut_arg, members);
}

int log_lose(struct persistence *p, const struct lost_end *end)
{
        struct log_segment *s = p->segments[end->number];
        struct lost_mark mark = p->lost;
        int r;

        assert(end->number >= p->sealed_count && s->file);
        if (!may_lose(p))
                return PERSISTENCE_CORRUPT;
        mark.through = MAX(MAX(end->through, p->last_index), mark.through);
        r = lost_file_save(p->node, p->path, &p->store, &mark);
        if (r)
                return r;
        p->is_lost = true;
        p->was_lost_now = true;
        p->lost = mark;
        r = set_aside(p, end);
        if (!r)
                r = os_file_truncate(s->file, s->end_offset);
        if (!r)
                r = os_file_sync(s->file);
        p->ends_with_watermark = false;
        while (p->segment_count > end->number + 1)
                log_segment_free(&p->segments[--p->segment_count]);
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

/* What is fetched from now on must not be cut at the next start. */
int log_cut_is_made(struct persistence *p)
{
        assert(p->is_lost && !p->read_only);
        p->lost.has_cut = false;
        return lost_file_save(p->node, p->path, &p->store, &p->lost);
}
