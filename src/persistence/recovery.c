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
        if (!p->read_only && p->lost.has_cut && h->kind != RECORD_WATERMARK && h->index > p->lost.cut_after)
                return recovery_corrupt(p, s->header.first_index, offset,
                        "from there on it is not the history that the majority of its cluster has");
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
        if (!r && !p->read_only && p->lost.has_cut)
                r = log_cut_is_made(p);
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
