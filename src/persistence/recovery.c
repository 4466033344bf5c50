/* Recovery (G13): what a start makes of the files it finds.
 *
 *  0. A segment that was rebuilt, verified and durable, but not yet put in place (mend.c), is put in place.
 *  1. Leftovers of unfinished steps (`new`, `spare`, *.tmp) never held anything that was acknowledged:
 * removed.
 *  2. Every segment's header is read; together they must be one log without a hole.
 *  3. Segments up to the newest with a valid index file are sealed: committed, not read now. A missing or
 * damaged index file among them is built anew.
 *  4. The others are scanned. All but the last were durable before the next was started, so damage in them is
 * corruption.
 *  5. In the last one the scan ends at the first bytes that are no valid record. If a later valid record
 * proves that what stands there had been durable, that is corruption and the start is refused. Else it is the
 * torn end of writes that were never acknowledged: cut off, durably, since old bytes behind the end could
 * look like records later.
 *  6. What was found is made durable before anybody counts on it: it may have been written by a process that
 * died before its sync. */
#include "persistence/recovery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/filler.h"
#include "persistence/lost.h"
#include "persistence/text.h"

struct recovery {
        struct persistence *p;
        uint64_t *first_indexes; /* of the segment files, rising */
        size_t segment_count;
        size_t segment_capacity;
        uint64_t *index_files;
        size_t index_count;
        size_t index_capacity;
        uint64_t *checkpoints; /* of the id window */
        size_t checkpoint_count;
        size_t checkpoint_capacity;
        uint64_t *mended; /* segments that were rebuilt and are not in place yet */
        size_t mended_count;
        size_t mended_capacity;
        char **leftovers; /* paths */
        size_t leftover_count;
        uint64_t entry_capacity;
        size_t files;          /* segment files that were there: those behind segment_count cannot be used */
        bool has_bad_header;   /* behind the last segment */
        bool has_lost_end;     /* what was durable behind the last segment is damaged, or gone */
        uint64_t lost_through; /* an index that was there */
};

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

static int recovery_note_file(void *arg, const char *name, bool is_dir)
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

static int recovery_remove_leftovers(struct recovery *rec)
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

static int recovery_finish_mends(struct recovery *rec)
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

static int recovery_corrupt(struct persistence *p, uint64_t first_index, uint64_t offset, const char *what)
{
        CLEANUP(text_freep) char *path = segment_path(p->log_path, first_index, "seg");

        return problem_note(PERSISTENCE_CORRUPT,
                "%s is damaged at offset %llu: %s. Restore it from a copy or from a peer, or see `nilo "
                "verify`",
                path, (unsigned long long)offset, what);
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
        if (number + 1 < rec->segment_count || !is_empty || (number == 0 && p->vote.term > 0)) {
                r = recovery_corrupt(p, first_index, 0, "its header");
                if (!p->may_cut_damage || number == 0)
                        return r;
                /* Whether the log may be cut there is decided when it is known up to there. */
                rec->has_lost_end = true;
                rec->has_bad_header = true;
                rec->lost_through = rec->first_indexes[rec->segment_count - 1] - 1;
                rec->segment_count = number;
                return 0;
        }
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
                r = recovery_corrupt(p, rec->first_indexes[number], 0, "its header cannot be read");
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

static int recovery_load_headers(struct recovery *rec)
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

static int recovery_load_sealed(struct persistence *p)
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
static int recovery_check_last(struct recovery *rec)
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

/* ---- unsealed segments ---- */

static void recovery_add_entry(struct recovery *rec, const struct record_header *h, struct bytes payload)
{
        struct persistence *p = rec->p;
        struct persistence_recovered *out = &p->recovered;
        struct persistence_tail_entry *entry;

        if (out->entry_count == rec->entry_capacity) {
                rec->entry_capacity = rec->entry_capacity ? rec->entry_capacity * 2 : 64;
                p->recovered_entries =
                        memory_resize(p->recovered_entries, rec->entry_capacity * sizeof *entry);
        }
        entry = &p->recovered_entries[out->entry_count++];
        *entry = (struct persistence_tail_entry){.term = h->term, .kind = h->kind};
        if (h->kind != RECORD_CONFIGURATION)
                return;
        /* Only the size now: the buffer may move while it grows. */
        entry->payload.size = payload.size;
        buffer_add_bytes(&p->recovered_payloads, payload);
        log_configuration_add(p, h->index, payload);
}

/* A valid record that does not continue the log is damage of another kind: no crash leaves one. */
static const char *recovery_check_record(
        const struct persistence *p, const struct record_header *h, struct bytes payload, uint64_t *time_us)
{
        struct record_events_reader events = {0};
        const char *what = NULL;

        if (h->index != p->last_index + (h->kind == RECORD_WATERMARK ? 0 : 1))
                return "its index does not follow";
        if (h->term < p->last_term)
                return "its term goes back";
        if (h->first_position != p->next_append_position)
                return "its position does not follow";
        if (h->kind == RECORD_CONFIGURATION && payload.size > SEGMENT_CONFIGURATION_SIZE_MAX)
                return "its configuration is too large";
        if (h->kind != RECORD_EVENTS)
                return NULL;
        if (record_events_open(&events, h, payload) != 0)
                what = "its events cannot be read";
        *time_us = events.time_us;
        record_events_close(&events);
        return what;
}

static int recovery_take_record(struct recovery *rec, struct log_segment *s, uint64_t offset,
        const struct record_header *h, struct bytes payload)
{
        struct persistence *p = rec->p;
        uint64_t time_us = p->last_time_us;
        const char *what = recovery_check_record(p, h, payload, &time_us);

        if (what)
                return recovery_corrupt(p, s->header.first_index, offset, what);
        s->end_offset = offset + record_size(h->payload_size);
        p->ends_with_watermark = h->kind == RECORD_WATERMARK;
        if (h->kind == RECORD_WATERMARK)
                return 0;
        log_segment_add_record(s, offset, h->event_count);
        recovery_add_entry(rec, h, payload);
        p->last_time_us = MAX(p->last_time_us, time_us);
        p->last_index = h->index;
        p->last_term = h->term;
        p->next_append_position += h->event_count;
        p->chain = h->chain;
        return 0;
}

/* Decides what the bytes behind the last valid record are (G13). */
static int recovery_judge_end(
        struct recovery *rec, struct log_segment *s, struct segment_scan *scan, bool *ret_cut)
{
        struct persistence *p = rec->p;
        uint64_t damaged = s->end_offset;
        struct record_header h;
        bool is_zero;
        int r;

        r = segment_is_zero(scan->file, damaged, scan->end, &is_zero);
        if (r)
                return r;
        *ret_cut = !is_zero;
        while (!is_zero) {
                r = segment_scan_search(scan, &h);
                if (r == SEGMENT_END)
                        break;
                if (r)
                        return r;
                rec->lost_through = MAX(rec->lost_through, h.index);
                if (h.synced_through > p->last_index)
                        return recovery_corrupt(p, s->header.first_index, damaged,
                                "a later record says that what stood here was durable");
        }
        return 0;
}

static int recovery_cut(struct persistence *p, struct log_segment *s, uint64_t size)
{
        int r;

        p->cut_bytes = size - s->end_offset;
        p->ends_with_watermark = false;
        if (p->read_only)
                return 0;
        r = os_file_truncate(s->file, s->end_offset);
        return r ? fault_fold(r) : 0;
}

/* A segment that is followed by another must be whole and lead over to it. */
static int recovery_check_next(
        struct persistence *p, const struct log_segment *s, const struct segment_header *next)
{
        if (next->first_index != p->last_index + 1)
                return recovery_corrupt(
                        p, s->header.first_index, s->end_offset, "a record, though the segment was complete");
        if (next->previous_term != p->last_term || next->first_position != p->next_append_position ||
                memcmp(&next->previous_chain, &p->chain, sizeof p->chain) != 0)
                return recovery_corrupt(
                        p, next->first_index, 88, "it does not continue the segment before it");
        return 0;
}

static int recovery_scan_segment(struct recovery *rec, size_t number)
{
        struct persistence *p = rec->p;
        struct log_segment *s = p->segments[number];
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
        struct segment_scan scan = {0};
        struct record_header h;
        struct bytes payload;
        bool needs_cut = false;
        uint64_t size = 0, offset;
        int r;

        r = os_file_open(p->os, path, p->read_only ? OS_OPEN_READ : OS_OPEN_WRITE, &s->file);
        if (!r)
                r = os_file_size(s->file, &size);
        if (r)
                return fault_fold(r);
        s->writer = s->file;
        segment_scan_begin(&scan, s->file, &s->header, SEGMENT_HEADER_SIZE, size);
        scan.skip_crc = p->skip_crc;
        do {
                offset = scan.offset;
                r = segment_scan_next(&scan, &h, &payload);
                if (!r)
                        r = recovery_take_record(rec, s, offset, &h, payload);
                else if (r > 0)
                        break; /* no record at `offset` */
        } while (!r);
        if (r == SEGMENT_INVALID || r == SEGMENT_END) {
                if (number + 1 < p->segment_count)
                        r = recovery_check_next(p, s, &p->segments[number + 1]->header);
                else
                        r = recovery_judge_end(rec, s, &scan, &needs_cut);
        }
        p->stats.read_bytes += scan.read_bytes;
        segment_scan_fini(&scan);
        if (r == -EIO)
                return recovery_corrupt(p, s->header.first_index, offset, "it cannot be read");
        if (!r && needs_cut)
                r = recovery_cut(p, s, size);
        if (!r && !p->read_only)
                r = fault_fold(os_file_sync(s->file));
        return r;
}

/* What stands before the first unsealed segment, from its header. */
static void recovery_begin_tail(struct persistence *p)
{
        const struct segment_header *h = &p->segments[p->sealed_count]->header;

        p->last_index = h->first_index - 1;
        p->last_term = h->previous_term;
        p->next_append_position = h->first_position;
        p->last_time_us = h->previous_time_us;
        p->chain = h->previous_chain;
        p->committed_index = p->last_index;
        p->committed_position = p->next_append_position;
        log_configuration_add(p, h->configuration_index, bytes_of(h->configuration, h->configuration_size));
}

static void recovery_fill_in(struct persistence *p)
{
        struct persistence_recovered *out = &p->recovered;
        const struct segment_header *h = &p->segments[p->sealed_count]->header;
        size_t at = 0;
        uint64_t i;

        for (i = 0; i < out->entry_count; i++) {
                struct persistence_tail_entry *entry = &p->recovered_entries[i];

                if (entry->kind != RECORD_CONFIGURATION)
                        continue;
                entry->payload.data = p->recovered_payloads.data + at;
                at += entry->payload.size;
        }
        out->entries = p->recovered_entries;
        out->term = p->vote.term;
        out->voted_for = p->vote.voted_for;
        out->base_index = h->first_index - 1;
        out->base_term = h->previous_term;
        out->base_configuration = bytes_of(h->configuration, h->configuration_size);
        out->base_configuration_index = h->configuration_index;
        out->next_position = p->next_append_position;
        out->last_time_us = p->last_time_us;
}

/* ---- the id window ---- */

/* Adds the ids of a sealed segment. A damaged record ends it, and the window begins anew behind it: the range
 * is refused to readers as well, and everything else goes on (G13). */
static int recovery_scan_ids(struct persistence *p, struct log_segment *s)
{
        struct segment_scan scan;
        struct record_header h;
        struct bytes payload;
        struct os_file *file;
        int r;

        r = log_segment_file(p, s, &file);
        if (r)
                return r < 0 ? r : recovery_corrupt(p, s->header.first_index, 0, "it is missing");
        segment_scan_begin(&scan, file, &s->header, SEGMENT_HEADER_SIZE, s->end_offset);
        while ((r = segment_scan_next(&scan, &h, &payload)) == 0) {
                struct record_events_reader events = {0};
                struct event_view e;

                if (h.kind != RECORD_EVENTS)
                        continue;
                r = record_events_open(&events, &h, payload);
                while (!r && (r = record_events_next(&events, &e)) == 0)
                        ids_add(&p->ids,
                                &(struct persistence_id){e.id, name_hash(e.stream), e.revision, e.position});
                record_events_close(&events);
        }
        if (r == SEGMENT_INVALID) {
                ids_fini(&p->ids);
                s->is_damaged = true;
        }
        segment_scan_fini(&scan);
        return r < 0 ? r : 0;
}

static int recovery_save_ids(struct persistence *p, const struct log_segment *newest)
{
        struct buffer bytes = {0};
        int r;

        ids_encode(&p->ids, &newest->header, log_segment_next_index(newest) - 1, &bytes);
        r = index_save(p->os, p->log_path, newest->header.first_index, "ids", buffer_bytes(&bytes));
        buffer_fini(&bytes);
        return r == INDEX_FULL ? 0 : r; /* the next start does it */
}

/* From the newest checkpoint, or without one from as many segments as the window spans. */
static int recovery_load_ids(struct persistence *p)
{
        uint64_t events = 0;
        size_t begin = p->sealed_count, i;
        bool is_damaged = false;
        int r = IDS_INVALID;

        os_random(p->os, &p->ids.seed, sizeof p->ids.seed);
        for (i = p->sealed_count; i > 0 && r == IDS_INVALID && events < LIMIT_IDEMPOTENCY_WINDOW_IDS; i--) {
                struct log_segment *s = p->segments[i - 1];

                r = log_load_ids(p->os, p->log_path, &s->header, log_segment_next_index(s) - 1, &p->ids);
                if (r == IDS_INVALID) {
                        begin = i - 1;
                        events += s->event_count;
                }
        }
        if (r < 0)
                return r;
        if (begin == p->sealed_count)
                return 0;
        for (i = begin, r = 0; i < p->sealed_count && !r; i++) {
                r = recovery_scan_ids(p, p->segments[i]);
                is_damaged |= p->segments[i]->is_damaged;
        }
        /* A window with a gap is not kept: when the segment is mended, the next start makes a whole one. */
        return r || p->read_only || is_damaged ? r : recovery_save_ids(p, p->segments[p->sealed_count - 1]);
}

/* Only the newest checkpoint counts. A crash while a segment was sealed leaves the one before it as well. */
static int recovery_remove_old_ids(struct recovery *rec)
{
        struct persistence *p = rec->p;
        uint64_t newest = p->sealed_count ? p->segments[p->sealed_count - 1]->header.first_index : 0;
        size_t i;
        int r = 0;

        for (i = 0; i < rec->checkpoint_count && !r; i++) {
                CLEANUP(text_freep) char *path = segment_path(p->log_path, rec->checkpoints[i], "ids");

                if (rec->checkpoints[i] == newest)
                        continue;
                r = os_remove(p->os, path);
                r = r == OS_NOT_FOUND ? 0 : fault_fold(r);
        }
        return r;
}

/* ---- all together ---- */

static int recovery_make_first(struct persistence *p)
{
        struct segment_header h = log_next_header(p);
        struct log_segment *s;
        int r;

        if (p->read_only)
                return problem_note(PERSISTENCE_CORRUPT, "%s holds no log yet: nothing to read", p->log_path);
        s = log_segment_add(p, &h);
        r = segment_file_make(p->os, p->log_path, &h,
                MIN(LOG_ZEROS_FIRST, p->segment_size) - SEGMENT_HEADER_SIZE, false, &s->file);
        s->writer = s->file;
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

/* What stands behind the end of that segment as it was scanned was durable, and is damaged. */
static int recovery_lose(struct recovery *rec, size_t number)
{
        struct persistence *p = rec->p;
        struct lost_end end = {.number = number,
                .first_indexes = rec->first_indexes + number + 1,
                .count = rec->files - number - 1,
                .through = rec->lost_through};

        if (!p->segments[number]->file)
                return PERSISTENCE_CORRUPT;
        if (end.count)
                end.through = MAX(end.through, end.first_indexes[end.count - 1] - 1);
        return log_lose(p, &end);
}

static int recovery_run(struct recovery *rec)
{
        struct persistence *p = rec->p;
        size_t i;
        int r;

        r = os_dir_make(p->os, p->log_path);
        if (!r && !p->read_only)
                r = recovery_finish_mends(rec);
        if (!r)
                r = os_dir_list(p->os, p->log_path, recovery_note_file, rec);
        if (r)
                return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        if (!p->read_only) {
                r = recovery_remove_leftovers(rec);
                if (r)
                        return fault_fold(r);
        }
        r = recovery_load_headers(rec);
        if (!r && p->segment_count == 0) {
                if (p->vote.term > 0)
                        return recovery_corrupt(p, 1, 0, "it is missing, but this node has voted");
                r = recovery_make_first(p);
        }
        if (!r)
                r = recovery_check_last(rec);
        if (!r)
                r = recovery_load_sealed(p);
        if (r)
                return r;
        recovery_begin_tail(p);
        for (i = p->sealed_count; i < p->segment_count && !r; i++) {
                if (!p->segments[i]->file) /* the one just made is open and empty */
                        r = recovery_scan_segment(rec, i);
                if (r == PERSISTENCE_CORRUPT || (!r && rec->has_lost_end && i + 1 == p->segment_count))
                        r = recovery_lose(rec, i);
        }
        if (!r)
                r = recovery_load_ids(p);
        if (!r && !p->read_only)
                r = recovery_remove_old_ids(rec);
        return r;
}

int log_recover(struct persistence *p)
{
        struct recovery rec = {.p = p};
        CLEANUP(text_freep) char *path = NULL;
        size_t i;
        uint64_t size;
        int r;

        r = recovery_run(&rec);
        for (i = 0; i < rec.leftover_count; i++)
                free(rec.leftovers[i]);
        free(rec.leftovers);
        free(rec.mended);
        free(rec.first_indexes);
        free(rec.index_files);
        free(rec.checkpoints);
        if (r)
                return r;
        p->synced_index = p->last_index;
        p->submitted_index = p->last_index;
        recovery_fill_in(p);
        if (p->read_only)
                return 0;
        r = os_file_size(log_active(p)->file, &size);
        if (r)
                return fault_fold(r);
        p->filler = filler_new(p->os, p->log_path, p->segment_size);
        path = segment_path(p->log_path, log_active(p)->header.first_index, "seg");
        filler_begin(p->filler, path, log_active(p)->end_offset, size);
        return 0;
}
