/* Group commit. What is appended gathers in one buffer; persistence_write hands it over whole: headers are
 * finished (chain, watermark, sums), then one write and one sync. A group that crosses into new segments has
 * a part for each; a part is durable before the next segment's file gets its name.
 *
 * Groups are written in the order in which they were handed over, one after the other, by the LOG lane or by
 * the loop when it settles them. So each group knows the index through which everything before it is durable
 * when it begins: the last one of the group before. That is the watermark in its records (G13). */
#include "persistence/group.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/filler.h"
#include "persistence/text.h"

enum { GROUP_RECORDS_MIN = 4 };
#define GROUP_SPARE_BYTES_MAX (4 * MIB)

struct log_group *group_new(struct persistence *p)
{
        struct log_group *g = MEMORY_NEW(struct log_group);

        g->p = p;
        list_init(&g->link);
        g->bytes = p->spare_bytes;
        p->spare_bytes = (struct buffer){0};
        buffer_clear(&g->bytes);
        g->first_index = p->last_index + 1;
        g->last_index = p->last_index;
        return g;
}

/* Its memory is kept for the next group; from here on the group may outlive the log. */
static void group_leave_log(struct log_group *g)
{
        struct persistence *p = g->p;

        list_remove(&g->link);
        if (p && !p->spare_bytes.data && g->bytes.capacity <= GROUP_SPARE_BYTES_MAX) {
                p->spare_bytes = g->bytes;
                g->bytes = (struct buffer){0};
        }
        g->p = NULL;
}

void group_free(struct log_group *g)
{
        group_leave_log(g);
        buffer_fini(&g->bytes);
        free(g->records);
        free(g->parts);
        free(g);
}

static struct group_part *group_part_for(
        struct log_group *g, struct log_segment *segment, bool starts_segment)
{
        struct group_part *part = g->part_count ? &g->parts[g->part_count - 1] : NULL;

        if (part && part->segment == segment)
                return part;
        g->parts = memory_resize(g->parts, (g->part_count + 1) * sizeof g->parts[0]);
        part = &g->parts[g->part_count++];
        *part = (struct group_part){.segment = segment,
                .starts_segment = starts_segment,
                .offset = segment->end_offset,
                .at = g->bytes.size,
                .first_record = g->record_count};
        return part;
}

void group_add(struct log_group *g, struct log_segment *segment, bool starts_segment,
        const struct record_header *h, struct bytes payload, uint64_t write_id)
{
        struct group_part *part = group_part_for(g, segment, starts_segment);
        uint64_t size = record_size(h->payload_size);
        uint8_t *at;

        assert(part->offset + part->size == segment->end_offset);
        if (g->record_count == g->record_capacity) {
                g->record_capacity = g->record_capacity ? g->record_capacity * 2 : GROUP_RECORDS_MIN;
                g->records = memory_resize(g->records, g->record_capacity * sizeof g->records[0]);
        }
        g->records[g->record_count++] = (struct group_record){*h, g->bytes.size, write_id};
        buffer_reserve(&g->bytes, size);
        at = g->bytes.data + g->bytes.size;
        memset(at + size - RECORD_ALIGNMENT, 0, RECORD_ALIGNMENT);
        if (payload.size)
                memcpy(at + RECORD_HEADER_SIZE, payload.data, payload.size);
        g->bytes.size += size;
        part->size += size;
        part->record_count++;
        if (h->kind != RECORD_WATERMARK)
                g->last_index = h->index;
}

void group_cut(struct log_group *g, uint64_t index)
{
        assert(index >= g->first_index);
        while (g->record_count && g->records[g->record_count - 1].header.index >= index) {
                struct group_part *part = &g->parts[g->part_count - 1];

                g->record_count--;
                g->bytes.size = g->records[g->record_count].at;
                part->size = g->bytes.size - part->at;
                part->record_count--;
                if (!part->record_count)
                        g->part_count--;
        }
        g->last_index = index - 1;
}

const struct log_group *group_find(const struct list *groups, uint64_t index)
{
        LIST_EACH (at, groups) {
                const struct log_group *g = CONTAINER_OF(at, const struct log_group, link);

                if (g->first_index <= index && index <= g->last_index)
                        return g;
        }
        return NULL;
}

/* ---- writing: on the lane, or on the loop while no group is under way ---- */

/* Finishes the headers of a part: everything that depends on the records before and on what is durable. */
static void group_seal_part(struct log_group *g, const struct group_part *part)
{
        struct persistence *p = g->p;
        uint32_t seed = segment_seed(&part->segment->header);
        uint32_t i;

        for (i = part->first_record; i < part->first_record + part->record_count; i++) {
                struct group_record *record = &g->records[i];
                struct record_header *h = &record->header;
                uint8_t *at = g->bytes.data + record->at;
                struct bytes payload = bytes_of(at + RECORD_HEADER_SIZE, h->payload_size);

                if (h->kind != RECORD_WATERMARK) {
                        struct record_chain previous = p->chain;

                        record_chain_next(&previous, h->index, h->term, payload, &p->chain);
                }
                h->chain = p->chain;
                h->synced_through = g->synced_through;
                h->payload_crc = record_payload_crc(seed, payload);
                record_header_encode(h, seed, at);
        }
}

static int group_start_segment(struct persistence *p, struct log_segment *s)
{
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
        bool has_spare = filler_take_spare(p->filler);
        uint64_t size;
        int r;

        s->header.previous_chain = p->chain;
        r = segment_file_make(p->os, p->log_path, &s->header, 0, has_spare, &s->writer);
        if (!r)
                r = os_file_size(s->writer, &size);
        if (!r)
                filler_begin(p->filler, path, SEGMENT_HEADER_SIZE, size);
        return r;
}

static int group_write_part(struct log_group *g, const struct group_part *part)
{
        struct persistence *p = g->p;
        struct bytes bytes = bytes_of(g->bytes.data + part->at, part->size);
        uint64_t before, sync_us;
        int r;

        if (part->starts_segment) {
                r = group_start_segment(p, part->segment);
                if (r)
                        return r;
        }
        group_seal_part(g, part);
        filler_claim(p->filler, part->offset + part->size);
        before = os_monotonic_us(p->os);
        r = (p->skip_sync ? os_file_write : os_file_write_synced)(part->segment->writer, bytes, part->offset);
        if (r)
                return r;
        sync_us = os_monotonic_us(p->os) - before;
        g->syncs++;
        g->sync_us += sync_us;
        g->sync_us_max = MAX(g->sync_us_max, sync_us);
        return 0;
}

static void group_run(struct job *job)
{
        struct log_group *g = CONTAINER_OF(job, struct log_group, job);
        uint32_t i;
        int r = 0;

        /* After a fault nothing is written any more, or a hole would be acknowledged (G15). */
        if (atomic_load(&g->p->has_failed))
                r = -EIO;
        for (i = 0; i < g->part_count && !r; i++)
                r = group_write_part(g, &g->parts[i]);
        if (r > 0) /* OS_FULL: has_room should have kept it from happening, so it is a fault here */
                r = r == OS_FULL ? fault_raise(-ENOSPC) : fault_fold(r);
        if (r)
                atomic_store(&g->p->has_failed, true);
        g->result = r;
}

/* ---- the loop's side ---- */

static void group_retain(struct persistence *p, struct log_group *g)
{
        list_add_last(&p->retained, &g->link);
        p->retained_count++;
        p->retained_bytes += g->bytes.capacity;
}

static void group_unretain(struct persistence *p, struct log_group *g)
{
        p->retained_count--;
        p->retained_bytes -= g->bytes.capacity;
        group_leave_log(g);
        if (!g->is_on_lane)
                group_free(g);
}

void group_drop_committed(struct persistence *p)
{
        LIST_EACH_SAFE (at, &p->retained) {
                struct log_group *g = CONTAINER_OF(at, struct log_group, link);

                if (g->last_index <= p->committed_index || p->retained_count > LOG_GROUPS_RETAINED_MAX ||
                        p->retained_bytes > LOG_RETAINED_BYTES_MAX)
                        group_unretain(p, g);
        }
}

void group_drop_all(struct persistence *p)
{
        LIST_EACH_SAFE (at, &p->retained)
                group_unretain(p, CONTAINER_OF(at, struct log_group, link));
}

static void group_count(struct persistence *p, const struct log_group *g)
{
        p->stats.syncs += g->syncs;
        p->stats.sync_us_total += g->sync_us;
        p->stats.sync_us_max = MAX(p->stats.sync_us_max, g->sync_us_max);
        p->stats.written_bytes += g->bytes.size;
        p->bytes_since_look += g->bytes.size;
        p->written_at_us = os_monotonic_us(p->os);
}

/* From here on the loop knows the files that the group has made. */
static void group_take_files(struct persistence *p, const struct log_group *g)
{
        uint32_t i;

        for (i = 0; i < g->part_count; i++) {
                struct log_segment *s = g->parts[i].segment;

                if (!g->parts[i].starts_segment)
                        continue;
                s->file = s->writer;
                if (!g->result)
                        log_publish_text(p, FACT_segment_started, s->header.first_position, 0, NULL);
        }
}

static void group_finish(struct job *job)
{
        struct log_group *g = CONTAINER_OF(job, struct log_group, job);
        struct persistence *p = g->p;

        assert(p->in_flight.next == &g->link);
        list_remove(&g->link);
        p->groups_in_flight--;
        g->is_done = true;
        group_count(p, g);
        group_take_files(p, g);
        if (g->result) {
                log_fail(p, g->result);
        } else {
                p->synced_index = MAX(p->synced_index, g->last_index);
                if (filler_fault(p->filler))
                        log_fail(p, filler_fault(p->filler));
                filler_kick(p->filler);
        }
        group_retain(p, g);
        if (!g->is_watermark) {
                p->writes--;
                /* `done` may append, write and commit; the group stays in `retained` for that. */
                if (g->done)
                        g->done(g->arg, g->result);
        }
        group_drop_committed(p);
        log_timer_arm(p);
}

/* The lane has passed the group: whoever holds it no longer waits for that. */
static void group_release(struct job *job)
{
        struct log_group *g = CONTAINER_OF(job, struct log_group, job);

        g->is_on_lane = false;
        if (!g->p)
                group_free(g);
}

void group_submit(struct persistence *p, struct log_group *g, bool on_this_thread)
{
        g->synced_through = p->submitted_index;
        p->submitted_index = MAX(p->submitted_index, g->last_index);
        g->is_on_lane = true;
        g->job = (struct job){.run = group_run, .finish = group_finish, .release = group_release};
        if (on_this_thread)
                log_settle_writes(p);
        list_add_last(&p->in_flight, &g->link);
        p->groups_in_flight++;
        if (on_this_thread)
                job_run_here(&g->job);
        else
                job_submit(p->os, OS_LANE_LOG, &g->job);
}

void log_settle_writes(struct persistence *p)
{
        while (!list_is_empty(&p->in_flight))
                job_settle(&CONTAINER_OF(p->in_flight.next, struct log_group, link)->job);
}

void group_write_watermark(struct persistence *p, bool on_this_thread)
{
        struct log_segment *active = log_active(p);
        struct record_header h = {.kind = RECORD_WATERMARK,
                .index = p->last_index,
                .first_position = p->next_append_position,
                .term = p->last_term,
                .epoch = p->store.epoch};
        struct log_group *g;

        assert(!p->gathering);
        /* An empty segment follows one that was durable when it was started: nothing to say. */
        if (p->ends_with_watermark || p->last_index == 0 || active->record_count == 0 ||
                atomic_load(&p->has_failed))
                return;
        /* On a full disk only where there are blocks for it: it is not worth a fault. */
        if (p->space == SPACE_FULL && filler_ahead(p->filler) < record_size(0))
                return;
        g = group_new(p);
        g->is_watermark = true;
        group_add(g, active, false, &h, BYTES_EMPTY, 0);
        active->end_offset += record_size(0);
        p->ends_with_watermark = true;
        group_submit(p, g, on_this_thread);
}
