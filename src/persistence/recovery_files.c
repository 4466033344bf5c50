/* Recovery, what the directory holds: names, leftovers, segments that were rebuilt, headers, and the segments
 * that are sealed. The steps 0 to 3 of recovery.c. */
#include "persistence/recovery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/text.h"

/* ---- the directory ---- */

static bool name_is(const char *name, const char *extension, uint64_t *ret)
{
        unsigned i;

        *ret = 0;
        for (i = 0; i < 20; i++) {
                if (name[i] < '0' || name[i] > '9')
                        return false;
                *ret = *ret * 10 + (uint64_t)(name[i] - '0');
        }
        return name[20] == '.' && strcmp(name + 21, extension) == 0;
}

static void numbers_add(uint64_t **numbers, size_t *count, size_t *capacity, uint64_t n)
{
        if (*count == *capacity) {
                *capacity = *capacity ? *capacity * 2 : 16;
                *numbers = memory_resize(*numbers, *capacity * sizeof(uint64_t));
        }
        (*numbers)[(*count)++] = n;
}

int recovery_note_file(void *arg, const char *name, bool is_dir)
{
        struct recovery *rec = arg;
        size_t size = strlen(name);
        uint64_t n;

        if (is_dir)
                return 0;
        if (name_is(name, "seg", &n))
                numbers_add(&rec->first_indexes, &rec->segment_count, &rec->segment_capacity, n);
        else if (name_is(name, "idx", &n))
                numbers_add(&rec->index_files, &rec->index_count, &rec->index_capacity, n);
        else if (name_is(name, "ids", &n))
                numbers_add(&rec->checkpoints, &rec->checkpoint_count, &rec->checkpoint_capacity, n);
        else if (strcmp(name, "new") == 0 || strcmp(name, "spare") == 0 ||
                 (size > 4 && strcmp(name + size - 4, ".tmp") == 0)) {
                rec->leftovers = memory_resize(rec->leftovers, (rec->leftover_count + 1) * sizeof(char *));
                rec->leftovers[rec->leftover_count++] = text_format("%s/%s", rec->p->log_path, name);
        }
        return 0;
}

int recovery_remove_leftovers(struct recovery *rec)
{
        size_t i;
        int r = 0;

        for (i = 0; i < rec->leftover_count && !r; i++) {
                r = os_remove(rec->p->os, rec->leftovers[i]);
                r = r == OS_NOT_FOUND ? 0 : r;
        }
        return r ? r : os_dir_sync(rec->p->os, rec->p->log_path);
}

static int recovery_quarantine(struct persistence *p, uint64_t first_index, const char *extension)
{
        int r;

        if (p->read_only)
                return 0;
        r = log_quarantine(p->os, p->path, p->log_path, first_index, extension);
        p->quarantined++;
        snprintf(p->quarantined_name, sizeof p->quarantined_name, "%020llu.%s",
                (unsigned long long)first_index, extension);
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

/* Finds the segments that were rebuilt whole and are not in place yet. */
static int recovery_note_mended(void *arg, const char *name, bool is_dir)
{
        struct recovery *rec = arg;
        uint64_t n;

        if (!is_dir && name_is(name, "mended", &n))
                numbers_add(&rec->mended, &rec->mended_count, &rec->mended_capacity, n);
        return 0;
}

int recovery_finish_mends(struct recovery *rec)
{
        struct persistence *p = rec->p;
        size_t i;
        int r;

        r = os_dir_list(p->os, p->log_path, recovery_note_mended, rec);
        for (i = 0; i < rec->mended_count && !r; i++) {
                r = log_finish_mend(p->os, p->path, p->log_path, rec->mended[i]);
                p->quarantined++;
                snprintf(p->quarantined_name, sizeof p->quarantined_name, "%020llu.seg",
                        (unsigned long long)rec->mended[i]);
        }
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

static bool recovery_has_index(const struct recovery *rec, uint64_t first_index)
{
        size_t i;

        for (i = 0; i < rec->index_count; i++)
                if (rec->index_files[i] == first_index)
                        return true;
        return false;
}

/* ---- headers ---- */

int recovery_corrupt(struct persistence *p, uint64_t first_index, uint64_t offset, const char *what)
{
        CLEANUP(text_freep) char *path = segment_path(p->log_path, first_index, "seg");

        return problem_note(PERSISTENCE_CORRUPT,
                "%s is damaged at offset %llu: %s. Restore it from a copy or from a peer, or see `nilo "
                "verify`",
                path, (unsigned long long)offset, what);
}

/* What begins with that segment cannot be used. Whether the log may be cut there is decided when it is known
 * up to there. */
static int recovery_lose_from(struct recovery *rec, size_t number, int refusal)
{
        if (!rec->p->may_cut_damage || number == 0)
                return refusal;
        rec->has_lost_end = true;
        rec->has_bad_header = true;
        rec->lost_through = rec->first_indexes[rec->segment_count - 1] - 1;
        rec->segment_count = number;
        return 0;
}

/* A damaged header is no trace of a crash. But when nothing stands behind it nothing can be lost with it. */
static int recovery_bad_header(struct recovery *rec, size_t number, struct os_file *file)
{
        struct persistence *p = rec->p;
        uint64_t first_index = rec->first_indexes[number], size;
        bool is_empty = false;
        int r;

        r = os_file_size(file, &size);
        if (!r)
                r = segment_is_zero(file, SEGMENT_HEADER_SIZE, size, &is_empty);
        if (r)
                return fault_fold(r);
        if (number + 1 < rec->segment_count || !is_empty || (number == 0 && p->vote.term > 0))
                return recovery_lose_from(rec, number, recovery_corrupt(p, first_index, 0, "its header"));
        rec->segment_count--;
        rec->has_bad_header = true;
        /* The segment before is the last one again; with its index file it would be missed
         * (recovery_check_last). */
        if (number > 0 && recovery_has_index(rec, rec->first_indexes[number - 1])) {
                r = recovery_quarantine(p, rec->first_indexes[number - 1], "idx");
                if (r)
                        return r;
        }
        return recovery_quarantine(p, first_index, "seg");
}

static int recovery_check_header(struct recovery *rec, size_t number, const struct segment_header *h)
{
        struct persistence *p = rec->p;

        if (h->first_index != rec->first_indexes[number])
                return recovery_corrupt(
                        p, rec->first_indexes[number], 80, "its first index does not fit its name");
        if (memcmp(h->cluster_uuid, p->node->identity.cluster_uuid, 16) != 0 ||
                memcmp(h->store_uuid, p->store.uuid, 16) != 0)
                return recovery_corrupt(p, h->first_index, 16, "it belongs to another cluster or store");
        if (number == 0 && h->first_index != 1)
                return recovery_corrupt(p, h->first_index, 80, "the segments before it are missing");
        return 0;
}

static int recovery_load_header(struct recovery *rec, size_t number)
{
        struct persistence *p = rec->p;
        CLEANUP(text_freep) char *path = segment_path(p->log_path, rec->first_indexes[number], "seg");
        uint8_t raw[SEGMENT_HEADER_SIZE] = {0};
        struct segment_header h = {0};
        struct os_file *file = NULL;
        uint64_t size = 0;
        size_t got;
        int r;

        r = os_file_open(p->os, path, OS_OPEN_READ, &file);
        if (!r)
                r = os_file_size(file, &size);
        if (!r)
                r = os_file_read(file, raw, sizeof raw, 0, &got);
        if (r == -EIO)
                r = recovery_lose_from(rec, number,
                        recovery_corrupt(p, rec->first_indexes[number], 0, "its header cannot be read"));
        else if (r)
                r = fault_fold(r);
        else {
                r = segment_header_decode(raw, &h);
                if (r == SEGMENT_NEWER)
                        r = problem_note(
                                PERSISTENCE_FORMAT, "%s was made by a newer version; use that version", path);
                else if (r == SEGMENT_INVALID) {
                        r = recovery_bad_header(rec, number, file);
                } else {
                        r = recovery_check_header(rec, number, &h);
                        if (!r)
                                log_segment_add(p, &h)->found_size = size;
                }
        }
        os_file_close(&file);
        return r;
}

int recovery_load_headers(struct recovery *rec)
{
        struct persistence *p = rec->p;
        size_t i;
        int r = 0;

        rec->files = rec->segment_count;
        for (i = 0; i < rec->segment_count && !r; i++)
                r = recovery_load_header(rec, i);
        if (r)
                return r;
        /* An index file outlives its segment only when somebody removed that. */
        for (i = 0; i < rec->index_count; i++) {
                size_t at;

                if (rec->has_lost_end && rec->index_files[i] >= rec->first_indexes[rec->segment_count])
                        continue;
                for (at = 0;
                        at < p->segment_count && p->segments[at]->header.first_index != rec->index_files[i];
                        at++)
                        ;
                if (at == p->segment_count)
                        return recovery_corrupt(
                                p, rec->index_files[i], 0, "it is missing, but its index file is there");
        }
        return 0;
}

/* ---- sealed segments ---- */

/* Opens the index file of a segment and checks that it leads over to the next header. */
static int recovery_open_index(struct persistence *p, size_t number)
{
        struct log_segment *s = p->segments[number];
        const struct segment_header *next = &p->segments[number + 1]->header;
        const struct index_summary *sum;
        int r;

        r = index_open(p->os, p->log_path, &s->header, &s->index);
        if (r)
                return r;
        sum = &s->index->summary;
        if (sum->last_index + 1 == next->first_index && sum->last_term == next->previous_term &&
                sum->first_position + sum->event_count == next->first_position &&
                memcmp(&sum->last_chain, &next->previous_chain, sizeof sum->last_chain) == 0)
                return 0;
        index_close(&s->index);
        return INDEX_CORRUPT;
}

static int recovery_rebuild_index(struct persistence *p, size_t number)
{
        const struct segment_header *h = &p->segments[number]->header;
        int r;

        r = log_build_index(p->os, p->log_path, h, p->segments[number + 1]->header.first_index - 1, NULL);
        if (!r)
                r = recovery_open_index(p, number);
        if (r == INDEX_FULL)
                return PERSISTENCE_FULL;
        return r > 0 ? recovery_corrupt(p, h->first_index, SEGMENT_HEADER_SIZE,
                               "a record in it, or the header of the next")
                     : r;
}

static void recovery_mark_sealed(struct persistence *p, size_t number)
{
        struct log_segment *s = p->segments[number];
        const struct index_summary *sum = &s->index->summary;

        s->record_count = sum->last_index + 1 - sum->first_index;
        s->event_count = sum->event_count;
        /* What the file has lost is refused to readers, not waited for. */
        s->end_offset = MIN(sum->end_offset, MAX(s->found_size, SEGMENT_HEADER_SIZE));
        s->committed_end = s->end_offset;
        s->committed_records = s->record_count;
        s->committed_events = s->event_count;
}

int recovery_load_sealed(struct persistence *p)
{
        size_t i, sealed = 0;
        int r;

        for (i = 0; i + 1 < p->segment_count; i++) {
                r = recovery_open_index(p, i);
                if (r < 0)
                        return r;
                if (r == INDEX_CORRUPT) {
                        r = recovery_quarantine(p, p->segments[i]->header.first_index, "idx");
                        if (r)
                                return r;
                }
                if (p->segments[i]->index)
                        sealed = i + 1;
        }
        for (i = 0; i < sealed; i++) {
                /* It is scanned, and cut where the mark says. */
                if (!p->read_only && p->lost.has_cut &&
                        p->segments[i + 1]->header.first_index - 1 > p->lost.cut_after)
                        break;
                if (!p->segments[i]->index) {
                        if (p->read_only)
                                break; /* from here on everything is scanned instead */
                        r = recovery_rebuild_index(p, i);
                        /* Records and index file both: if it can be mended, it is scanned and cut there. */
                        if (r == PERSISTENCE_CORRUPT && p->may_cut_damage)
                                break;
                        if (r)
                                return r;
                }
                recovery_mark_sealed(p, i);
        }
        p->sealed_count = i;
        for (; i < sealed; i++)
                index_close(&p->segments[i]->index);
        return 0;
}

/* A segment gets its index file only when the next one is there, which stays from then on. So an index file
 * of the last one tells of segments that somebody removed. */
int recovery_check_last(struct recovery *rec)
{
        struct persistence *p = rec->p;
        const struct segment_header *h = &p->segments[p->segment_count - 1]->header;
        CLEANUP(text_freep) char *path = NULL;
        struct index *index = NULL;
        uint64_t last_index;
        int r;

        if (rec->has_bad_header)
                return 0;
        r = index_open(p->os, p->log_path, h, &index);
        if (r)
                return r < 0 ? r : 0;
        last_index = index->summary.last_index;
        index_close(&index);
        path = segment_path(p->log_path, h->first_index, "idx");
        r = problem_note(PERSISTENCE_CORRUPT,
                "%s/%020llu.seg is missing: %s says that the log goes on there. Restore it from a copy or "
                "from a peer",
                p->log_path, (unsigned long long)last_index + 1, path);
        if (!p->may_cut_damage)
                return r;
        rec->has_lost_end = true;
        rec->lost_through = last_index;
        return 0;
}
