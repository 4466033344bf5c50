/* Commit: events become visible, in order; what is committed through its end is sealed.
 *
 * A segment is sealed on the BACKGROUND lane from its own bytes: the index file, then the checkpoint of the
 * id window as it stood at the segment's end, made from the checkpoint before and the same bytes. Nothing in
 * memory is shared with that. When both are durable, the loop takes the index file in place of the tail. */
#include "persistence/commit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/group.h"
#include "persistence/text.h"

/* ---- commit ---- */

/* The events of a record come in runs of one stream and type: their names stand in the record once, and what
 * is worked out from a name is worked out once for the run. */
struct commit_run {
        struct event_view first;
        uint64_t hash; /* of the stream */
        uint32_t count;
};

static void commit_run_end(const struct commit_run *run, struct tail *tail, uint32_t offset8)
{
        if (run->count)
                tail_add_run(tail, &run->first, run->count, offset8);
}

static int commit_events(struct persistence *p, struct log_segment *s, const struct record_header *h,
        struct bytes payload, uint32_t offset8)
{
        struct record_events_reader reader = {0};
        struct event_view event;
        struct commit_run run = {0};
        int r;

        r = record_events_open(&reader, h, payload);
        while (!r) {
                r = record_events_next(&reader, &event);
                if (r)
                        break;
                if (run.count && event.stream.data == run.first.stream.data &&
                        event.type.data == run.first.type.data) {
                        run.count++;
                } else {
                        commit_run_end(&run, s->tail, offset8);
                        run = (struct commit_run){event, name_hash(event.stream), 1};
                }
                ids_add(&p->ids,
                        &(struct persistence_id){event.id, run.hash, event.revision, event.position});
        }
        commit_run_end(&run, s->tail, offset8);
        record_events_close(&reader);
        return r == RECORD_EVENTS_END ? 0 : fault_raise(-EBADMSG);
}

static int commit_record(
        struct persistence *p, struct log_segment *s, const struct record_header *h, struct bytes payload)
{
        uint32_t offset8 = s->records[s->committed_records].offset8;
        int r = 0;

        assert(h->index == p->committed_index + 1);
        assert(h->index == s->header.first_index + s->committed_records);
        if (!s->tail)
                s->tail = tail_new(false);
        if (h->kind == RECORD_EVENTS)
                r = commit_events(p, s, h, payload, offset8);
        if (r)
                return r;
        s->committed_records++;
        s->committed_events += h->event_count;
        s->committed_end = (uint64_t)offset8 * RECORD_ALIGNMENT + record_size(h->payload_size);
        p->committed_index = h->index;
        p->committed_position += h->event_count;
        return 0;
}

static int commit_from_group(struct persistence *p, const struct log_group *g, uint64_t index)
{
        int r = 0;

        while (p->committed_index < MIN(index, g->last_index) && !r) {
                const struct group_record *record = &g->records[p->committed_index + 1 - g->first_index];
                struct log_segment *s = p->segments[log_segment_of_index(p, p->committed_index + 1)];

                r = commit_record(p, s, &record->header,
                        bytes_of(g->bytes.data + record->at + RECORD_HEADER_SIZE,
                                record->header.payload_size));
        }
        return r;
}

/* From the file of one segment, for what is no longer, or was never, in memory. */
static int commit_from_file(struct persistence *p, uint64_t index)
{
        struct log_segment *s = p->segments[log_segment_of_index(p, p->committed_index + 1)];
        uint64_t last = MIN(index, log_segment_next_index(s) - 1);
        struct segment_scan scan;
        struct record_header h;
        struct bytes payload;
        struct os_file *file;
        int r;

        r = log_segment_file(p, s, &file);
        if (r)
                return fault_fold(r);
        segment_scan_begin(&scan, file, &s->header,
                (uint64_t)s->records[s->committed_records].offset8 * RECORD_ALIGNMENT, s->end_offset);
        scan.skip_crc = p->skip_crc;
        while (p->committed_index < last && !r) {
                r = segment_scan_next(&scan, &h, &payload);
                if (r > 0)
                        r = fault_raise(-EBADMSG);
                else if (!r && h.kind != RECORD_WATERMARK)
                        r = commit_record(p, s, &h, payload);
        }
        p->stats.read_bytes += scan.read_bytes;
        segment_scan_fini(&scan);
        return r;
}

void persistence_commit(struct persistence *p, uint64_t index)
{
        int r = 0;

        assert(index <= p->synced_index);
        while (p->committed_index < index && !r) {
                const struct log_group *g = group_find(&p->retained, p->committed_index + 1);

                r = g ? commit_from_group(p, g, index) : commit_from_file(p, index);
        }
        if (r) {
                log_publish_text(p, FACT_corruption_found, p->committed_position, 0, "while committing");
                log_fail(p, r);
                return;
        }
        group_drop_committed(p);
        if (p->is_started)
                log_seal_next(p);
}

/* ---- sealing ---- */

struct seal_job {
        struct job job;
        struct persistence *p;
        struct log_segment *segment;
        struct segment_header header;
        struct segment_header previous; /* of the newest sealed one; first_index 0: none */
        uint64_t previous_last_index;
        uint64_t last_index;
        uint64_t started_us;
        struct index *index;
        bool is_rebuild;
        int result;
};

static void seal_note_id(void *arg, const struct event_view *event)
{
        struct persistence_id id = {event->id, name_hash(event->stream), event->revision, event->position};

        ids_add(arg, &id);
}

static void buffer_freep(struct buffer *b)
{
        buffer_fini(b);
}

int log_load_ids(struct os *os, const char *log_path, const struct segment_header *of, uint64_t last_index,
        struct ids *ids)
{
        CLEANUP(text_freep) char *path = segment_path(log_path, of->first_index, "ids");
        CLEANUP(buffer_freep) struct buffer bytes = {0};
        int r;

        r = os_read_whole(os, path, ids_file_size_max(), &bytes);
        if (r)
                return r == OS_NOT_FOUND || r == -EFBIG || r == -EIO ? IDS_INVALID : fault_fold(r);
        return ids_decode(ids, buffer_bytes(&bytes), of, last_index);
}

int log_build_index(struct os *os, const char *log_path, const struct segment_header *header,
        uint64_t last_index, struct ids *ids)
{
        CLEANUP(buffer_freep) struct buffer bytes = {0};
        struct index_source source = {.os = os,
                .log_path = log_path,
                .header = header,
                .last_index = last_index,
                .each = ids ? seal_note_id : NULL,
                .arg = ids};
        int r;

        r = index_build(&source, &bytes);
        return r ? r : index_save(os, log_path, header->first_index, "idx", buffer_bytes(&bytes));
}

/* The checkpoint of the window at this segment's end replaces the one before. */
static int seal_save_ids(struct seal_job *seal, const struct ids *ids)
{
        struct persistence *p = seal->p;
        CLEANUP(buffer_freep) struct buffer bytes = {0};
        CLEANUP(text_freep) char *previous = NULL;
        int r;

        ids_encode(ids, &seal->header, seal->last_index, &bytes);
        r = index_save(p->os, p->log_path, seal->header.first_index, "ids", buffer_bytes(&bytes));
        if (r || !seal->previous.first_index)
                return r;
        previous = segment_path(p->log_path, seal->previous.first_index, "ids");
        r = os_remove(p->os, previous);
        return r == OS_NOT_FOUND ? 0 : fault_fold(r);
}

static void seal_run(struct job *job)
{
        struct seal_job *seal = CONTAINER_OF(job, struct seal_job, job);
        struct persistence *p = seal->p;
        struct ids ids = {0};
        bool has_ids;
        int r = 0;

        seal->started_us = os_monotonic_us(p->os);
        if (seal->previous.first_index)
                r = log_load_ids(p->os, p->log_path, &seal->previous, seal->previous_last_index, &ids);
        /* Without the checkpoint before, none is written unless the segment fills the window: the next start
         * rebuilds it. */
        has_ids = r == 0;
        if (r > 0)
                r = 0;
        if (!r)
                r = log_build_index(
                        p->os, p->log_path, &seal->header, seal->last_index, seal->is_rebuild ? NULL : &ids);
        if (!r && !seal->is_rebuild && (has_ids || ids.count == LIMIT_IDEMPOTENCY_WINDOW_IDS))
                r = seal_save_ids(seal, &ids);
        if (!r)
                r = index_open(p->os, p->log_path, &seal->header, &seal->index);
        ids_fini(&ids);
        seal->result = r;
}

static void seal_publish(struct persistence *p, const struct seal_job *seal)
{
        struct fact_payload payload = {.position = seal->header.first_position,
                .count = (uint32_t)seal->index->summary.event_count,
                .duration_us = os_monotonic_us(p->os) - seal->started_us};

        if (!p->control)
                return;
        fact_set_text(&payload, "%s", p->store.name);
        control_publish(p->control, FACT_segment_sealed, &payload);
}

/* Tells the engine from where on it needs no entries, and in which configuration. */
static void seal_tell(struct persistence *p, const struct segment_header *next)
{
        struct persistence_sealed sealed = {.index = next->first_index - 1,
                .term = next->previous_term,
                .configuration = bytes_of(next->configuration, next->configuration_size),
                .configuration_index = next->configuration_index};

        if (p->on_sealed)
                p->on_sealed(p->on_sealed_arg, &sealed);
}

/* Configurations before the segment that is now the first unsealed one are no longer needed, but the last of
 * them. */
static void seal_drop_configurations(struct persistence *p, uint64_t first_index)
{
        size_t drop = 0;

        while (drop + 1 < p->configuration_count && p->configurations[drop + 1].index < first_index)
                drop++;
        memmove(p->configurations, p->configurations + drop,
                (p->configuration_count - drop) * sizeof p->configurations[0]);
        p->configuration_count -= drop;
}

static void seal_take_index(struct persistence *p, struct seal_job *seal)
{
        struct log_segment *s = seal->segment;

        assert(s == p->segments[p->sealed_count]);
        assert(seal->index->summary.last_index + 1 == log_segment_next_index(s));
        s->index = seal->index;
        seal_publish(p, seal);
        s->is_sealing = false;
        s->end_offset = s->index->summary.end_offset;
        /* Its file counts among those of sealed segments now. */
        log_make_room_for_file(p);
        s->last_used = ++p->use_clock;
        p->open_files++;
        tail_free(&s->tail);
        free(s->records);
        s->records = NULL;
        s->record_capacity = 0;
        p->sealed_count++;
        seal_drop_configurations(p, log_segment_next_index(s));
        seal_tell(p, &p->segments[p->sealed_count]->header);
}

static void seal_finish(struct job *job)
{
        struct seal_job *seal = CONTAINER_OF(job, struct seal_job, job);
        struct persistence *p = seal->p;

        *(seal->is_rebuild ? &p->rebuilding : &p->sealing) = NULL;
        if (seal->result == INDEX_FULL) {
                /* Sealing can wait for space; the timer tries again. */
                seal->segment->is_sealing = false;
                log_timer_arm(p);
                return;
        }
        /* The segment is damaged as well as its index file: that range is refused, everything else goes on
         * (G13). */
        if (seal->is_rebuild && seal->result > 0) {
                seal->segment->is_beyond_repair = true;
                log_publish_text(p, FACT_corruption_found, seal->header.first_position, 0,
                        "while building an index file anew");
                log_segment_damaged(p, seal->segment);
                return;
        }
        if (seal->result) {
                log_publish_text(
                        p, FACT_corruption_found, seal->header.first_position, 0, "while sealing a segment");
                log_fail(p, seal->result < 0 ? seal->result : fault_raise(-EBADMSG));
                return;
        }
        if (seal->is_rebuild) {
                index_close(&seal->segment->index);
                seal->segment->index = seal->index;
                return;
        }
        seal_take_index(p, seal);
        if (!p->is_closing)
                log_seal_next(p);
}

static void seal_release(struct job *job)
{
        free(CONTAINER_OF(job, struct seal_job, job));
}

static struct seal_job *seal_new(struct persistence *p, size_t number, bool is_rebuild)
{
        struct seal_job *seal = MEMORY_NEW(struct seal_job);
        struct log_segment *s = p->segments[number];

        seal->p = p;
        seal->segment = s;
        seal->header = s->header;
        seal->last_index = log_segment_next_index(s) - 1;
        seal->is_rebuild = is_rebuild;
        if (number > 0) {
                seal->previous = p->segments[number - 1]->header;
                seal->previous_last_index = seal->header.first_index - 1;
        }
        seal->job = (struct job){.run = seal_run, .finish = seal_finish, .release = seal_release};
        return seal;
}

bool log_wants_seal(const struct persistence *p)
{
        const struct log_segment *s = p->segments[p->sealed_count];

        /* The next one's file must be there: an index file says that the segment is complete, and a start
         * misses what stands behind it. */
        return !p->sealing && p->sealed_count + 1 < p->segment_count &&
               p->segments[p->sealed_count + 1]->file && s->committed_records == s->record_count;
}

void log_seal_next(struct persistence *p)
{
        struct log_segment *s = p->segments[p->sealed_count];
        struct seal_job *seal;

        if (p->read_only || atomic_load(&p->has_failed) || !log_wants_seal(p))
                return;
        s->is_sealing = true;
        seal = seal_new(p, p->sealed_count, false);
        p->sealing = &seal->job;
        job_submit(p->os, OS_LANE_BACKGROUND, &seal->job);
}

void log_index_damaged(struct persistence *p, size_t number)
{
        struct seal_job *seal;

        log_publish_text(
                p, FACT_corruption_found, p->segments[number]->header.first_position, 0, "in an index file");
        if (p->rebuilding || p->read_only || !p->is_started || atomic_load(&p->has_failed) ||
                p->segments[number]->is_beyond_repair || log_mends(p, p->segments[number]))
                return;
        seal = seal_new(p, number, true);
        p->rebuilding = &seal->job;
        job_submit(p->os, OS_LANE_BACKGROUND, &seal->job);
}

void persistence_on_sealed(struct persistence *p,
        void (*on_sealed)(void *arg, const struct persistence_sealed *sealed), void *arg)
{
        p->on_sealed = on_sealed;
        p->on_sealed_arg = arg;
}

int persistence_find_id(
        struct persistence *p, const struct event_id *id, uint64_t stream_hash, struct persistence_id *ret)
{
        return ids_find(&p->ids, id, stream_hash, ret) ? 0 : PERSISTENCE_NOT_FOUND;
}

void persistence_rest(struct persistence *p)
{
        ids_link(&p->ids);
}

uint64_t persistence_next_position(const struct persistence *p)
{
        return p->committed_position;
}
