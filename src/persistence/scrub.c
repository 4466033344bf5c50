/* The scrub (G22): everything that is committed is read and verified again and again, so that damage is found
 * while another copy is still there, and not when somebody needs the bytes.
 *
 * A pass goes through the log from its first entry to what was committed when the pass began: of each segment
 * the index file, if it has one, then header and records, with sums, order and chain, and at its end the
 * header of the next one. It is done in slices of about a MiB on the BACKGROUND lane, where sealing and
 * mending wait for at most one of them.
 *
 * Pace: a slice is due when the share of the bytes that was read is smaller than the share of the time that
 * has passed. Three quarters of the pass's time are planned with; while the log is busy a slice that is due
 * waits, up to another eighth. After each slice the disk has nine times as long for others. So with nothing
 * to read there is one timer an hour, and with a large log a small, even load.
 *
 * What is damaged goes the way of damage that a read finds: the range is refused, an index file is built
 * anew, a sealed segment is mended among other nodes. The pass goes on with the next segment.
 *
 * How far it is stands in scrub.json, written every ten minutes of work and at an orderly stop; a start goes
 * on there. Time counts by the monotonic clock, while the log is open (G19). Without a valid scrub.json a new
 * pass begins. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/index_check.h"
#include "persistence/marks.h"
#include "persistence/text.h"

enum {
        SCRUB_FIRST_US = 10 * 1000 * 1000, /* behind a start, which has enough to do */
        SCRUB_YIELD_US = 50 * 1000,
        SCRUB_AGAIN_US = 60 * 1000 * 1000, /* when a file cannot be read now */
        SCRUB_SAVE_US = 600 * 1000 * 1000,
        SCRUB_REST = 9, /* times what a slice took */
        SCRUB_REST_MIN_US = 1000,
};
#define SCRUB_LOOK_US    ((uint64_t)3600 * 1000 * 1000) /* with nothing to do */
#define SCRUB_SLICE_SIZE MIB

/* What one visit of the lane does. */
enum slice_kind { SLICE_SAVE, SLICE_INDEX, SLICE_RECORDS };

struct slice {
        struct job job;
        struct scrub *scrub;
        enum slice_kind kind;
        size_t number; /* of the segment */
        /* loop */
        struct log_segment *segment; /* pinned; NULL for SLICE_SAVE */
        uint64_t offset_before;
        /* the lane */
        struct segment_header header;
        bool is_first; /* of the segment's records: its header is looked at as well */
        struct entries_walk walk;
        struct buffer positions;
        struct scrub_mark mark;
        bool has_ended;
        const char *problem;
        uint64_t took_us;
        int result;
};

struct scrub {
        struct persistence *p;
        uint64_t pass_us;
        struct os_timer timer;
        struct slice *slice; /* under way */
        struct scrub_mark mark;
        uint64_t found_total;
        uint64_t counted_us; /* monotonic: elapsed_us is right as of then */
        uint64_t saved_us;
        uint64_t rests_until_us;
        bool is_dirty; /* something was read since scrub.json was written */
        bool is_to_be_saved;
        /* where it is in a segment */
        struct index_check index; /* the lane's while a slice is under way */
        bool is_in_index;
        uint64_t index_done_first; /* the index file of the segment that begins there is done */
        uint64_t index_number;     /* the file that is being looked at */
        bool has_before;           /* `before` is the record that ends at `offset` */
        struct record_header before;
        uint64_t offset;
};

/* ---- the lane ---- */

static int slice_check_header(struct slice *slice)
{
        uint8_t expected[SEGMENT_HEADER_SIZE], found[SEGMENT_HEADER_SIZE];
        size_t got;
        int r = os_file_read(slice->walk.file, found, sizeof found, 0, &got);

        if (r && r != -EIO)
                return fault_fold(r);
        segment_header_encode(&slice->header, expected);
        if (r || got != sizeof found || memcmp(found, expected, sizeof found) != 0) {
                slice->problem = "the header of the segment";
                return PERSISTENCE_CORRUPT;
        }
        return 0;
}

static int slice_read_records(struct slice *slice)
{
        int r = 0;

        if (slice->is_first && !slice->walk.skip_crc)
                r = slice_check_header(slice);
        if (!r && slice->positions.size)
                r = entries_walk_search(&slice->walk, buffer_bytes(&slice->positions));
        if (!r)
                r = entries_walk_take(&slice->walk);
        if (r == PERSISTENCE_CORRUPT && !slice->problem)
                slice->problem = slice->walk.problem;
        return r;
}

static int slice_read_index(struct slice *slice)
{
        struct scrub *c = slice->scrub;
        struct persistence *p = c->p;
        int r = 0;

        if (!c->index.index)
                r = index_check_begin(&c->index, p->os, p->log_path, &slice->header);
        if (!r)
                r = index_check_next(&c->index, SCRUB_SLICE_SIZE, &slice->has_ended);
        return r;
}

static void slice_run(struct job *job)
{
        struct slice *slice = CONTAINER_OF(job, struct slice, job);
        struct persistence *p = slice->scrub->p;
        uint64_t before = os_monotonic_us(p->os);

        switch (slice->kind) {
        case SLICE_SAVE:
                slice->result = scrub_file_save(p->node, p->path, p->store.uuid, &slice->mark);
                break;
        case SLICE_INDEX:
                slice->result = slice_read_index(slice);
                break;
        case SLICE_RECORDS:
                slice->result = slice_read_records(slice);
                break;
        }
        slice->took_us = os_monotonic_us(p->os) - before;
}

/* ---- what was found ---- */

static void scrub_publish(struct scrub *c, enum fact_type type, uint64_t count, uint64_t duration_us)
{
        struct persistence *p = c->p;
        struct fact_payload payload = {.count = (uint32_t)MIN(count, UINT32_MAX), .duration_us = duration_us};

        if (!p->control)
                return;
        fact_set_text(&payload, "%s, %llu bytes", p->store.name, (unsigned long long)c->mark.total_bytes);
        control_publish(p->control, type, &payload);
}

static void scrub_found(struct scrub *c, const struct segment_header *h, const char *extension,
        uint64_t offset, const char *what)
{
        struct persistence *p = c->p;
        CLEANUP(text_freep) char *path = segment_path(p->log_path, h->first_index, extension);
        CLEANUP(text_freep)
        char *text = text_format("%s at %llu: %s", strrchr(path, '/') + 1, (unsigned long long)offset,
                what ? what : "damaged");

        c->mark.found++;
        c->found_total++;
        log_publish_text(p, FACT_scrub_found, h->first_position, 0, text);
}

/* ---- where it stands ---- */

static void scrub_count_time(struct scrub *c)
{
        uint64_t now = os_monotonic_us(c->p->os);

        c->mark.elapsed_us += now - c->counted_us;
        c->counted_us = now;
}

static void scrub_add_done(struct scrub *c, uint64_t bytes)
{
        c->mark.done_bytes = MIN(c->mark.done_bytes + bytes, c->mark.total_bytes);
        c->is_dirty = true;
}

static void scrub_forget_place(struct scrub *c)
{
        c->has_before = false;
        c->is_in_index = false;
        index_check_end(&c->index);
}

static void scrub_go_to(struct scrub *c, uint64_t index)
{
        scrub_forget_place(c);
        c->mark.next_index = index;
}

/* What is in memory is not on the disk, or has just been written. */
static uint64_t scrub_end(const struct persistence *p)
{
        return MIN(p->committed_index, entries_first_in_memory(p) - 1);
}

static uint64_t scrub_size(const struct persistence *p, uint64_t through)
{
        uint64_t size = 0;

        for (size_t i = 0; i < p->segment_count && p->segments[i]->header.first_index <= through; i++)
                size += p->segments[i]->end_offset +
                        (p->segments[i]->index ? p->segments[i]->index->file_size : 0);
        return size;
}

static void scrub_begin(struct scrub *c)
{
        c->mark.is_under_way = true;
        c->mark.through = scrub_end(c->p);
        c->mark.done_bytes = 0;
        c->mark.total_bytes = MAX(scrub_size(c->p, c->mark.through), 1);
        c->mark.elapsed_us = 0;
        c->mark.found = 0;
        c->mark.began_us = os_wall_us(c->p->os);
        c->index_done_first = 0;
        scrub_go_to(c, 1);
        scrub_publish(c, FACT_scrub_started, c->p->segment_count, 0);
}

static void scrub_finish(struct scrub *c)
{
        c->mark.is_under_way = false;
        c->mark.passes++;
        c->mark.done_bytes = c->mark.total_bytes;
        c->mark.finished_us = os_wall_us(c->p->os);
        c->mark.last_found = c->mark.found;
        c->is_to_be_saved = true;
        scrub_forget_place(c);
        scrub_publish(c, FACT_scrub_finished, c->mark.found, c->mark.elapsed_us);
}

/* ---- after a slice, on the loop ---- */

/* The whole of a sealed segment was read: it leads over to the next one. */
static bool leads_over(const struct scrub *c, const struct log_segment *next)
{
        const struct segment_header *h = &next->header;
        const struct record_header *last = &c->before;

        return last->index + 1 == h->first_index && last->term == h->previous_term &&
               last->first_position + last->event_count == h->first_position &&
               memcmp(&last->chain, &h->previous_chain, sizeof last->chain) == 0;
}

/* Of a segment that is not sealed nothing can be mended while it is in use; the fact tells people. */
static void scrub_segment_is_damaged(struct scrub *c, struct slice *slice)
{
        struct persistence *p = c->p;
        struct log_segment *s = slice->segment;
        uint64_t offset = slice->walk.offset;

        scrub_found(c, &s->header, "seg",
                slice->is_first && slice->problem != slice->walk.problem ? 0 : offset, slice->problem);
        /* Publishes corruption_found, and the owner of the log hears of it. */
        if (entries_walk_result(p, s, &slice->walk, PERSISTENCE_CORRUPT) != PERSISTENCE_CORRUPT)
                return;
        scrub_add_done(c, s->end_offset - MIN(slice->offset_before, s->end_offset));
        scrub_go_to(c, log_segment_next_index(s));
}

static void scrub_take_records(struct scrub *c, struct slice *slice)
{
        struct persistence *p = c->p;
        struct entries_walk *w = &slice->walk;
        struct log_segment *s = slice->segment;
        bool is_whole;

        if (entries_walk_result(p, s, w, 0))
                return;
        scrub_add_done(c, w->offset - slice->offset_before);
        c->mark.next_index = w->first + w->count;
        c->before = w->before;
        c->has_before = w->has_before;
        c->offset = w->offset;
        is_whole = c->mark.next_index == log_segment_next_index(s) && slice->number + 1 < p->segment_count;
        if (!is_whole)
                return;
        if (!leads_over(c, p->segments[slice->number + 1])) {
                slice->problem = "it does not lead over to the segment behind it";
                scrub_segment_is_damaged(c, slice);
        }
        scrub_go_to(c, log_segment_next_index(s));
}

static void scrub_records_finish(struct scrub *c, struct slice *slice)
{
        if (slice->segment->is_retired) /* mended meanwhile: the new file is looked at */
                scrub_go_to(c, slice->segment->header.first_index);
        else if (slice->result == PERSISTENCE_CORRUPT)
                scrub_segment_is_damaged(c, slice);
        else
                scrub_take_records(c, slice);
}

static void scrub_index_finish(struct scrub *c, struct slice *slice)
{
        struct persistence *p = c->p;
        struct log_segment *s = slice->segment;
        bool is_the_same = !s->is_retired && s->index && s->index->number == c->index_number;

        if (is_the_same && slice->result > 0) {
                scrub_found(c, &s->header, "idx", c->index.offset, "a block of the index file");
                log_index_damaged(p, slice->number);
        } else if (is_the_same && !slice->has_ended) {
                return;
        }
        /* Another file has its place now: it was read when it was made. */
        if (s->index) {
                p->stats.read_bytes += c->index.read_bytes;
                scrub_add_done(c, s->index->file_size);
        }
        c->index_done_first = s->header.first_index;
        scrub_forget_place(c);
}

static void scrub_saved(struct scrub *c, const struct slice *slice)
{
        c->saved_us = os_monotonic_us(c->p->os);
        c->is_to_be_saved = false;
        /* On a full disk an older one stays. */
        if (slice->result < 0)
                log_fail(c->p, slice->result);
        else
                c->is_dirty = false;
}

static void scrub_turn(struct scrub *c);

static void slice_finish(struct job *job)
{
        struct slice *slice = CONTAINER_OF(job, struct slice, job);
        struct scrub *c = slice->scrub;
        struct persistence *p = c->p;
        uint64_t rest = MAX(slice->took_us * SCRUB_REST, SCRUB_REST_MIN_US);

        c->slice = NULL;
        if (slice->kind == SLICE_SAVE) {
                scrub_saved(c, slice);
        } else if (slice->result < 0) { /* no damage, but something that passes: too many open files */
                scrub_forget_place(c);
                rest = SCRUB_AGAIN_US;
        } else if (slice->kind == SLICE_INDEX) {
                scrub_index_finish(c, slice);
        } else {
                scrub_records_finish(c, slice);
        }
        if (slice->segment)
                log_unpin(p, slice->segment);
        c->rests_until_us = os_monotonic_us(p->os) + rest;
        if (!p->is_closing)
                scrub_turn(c);
}

static void slice_release(struct job *job)
{
        struct slice *slice = CONTAINER_OF(job, struct slice, job);

        entries_walk_fini(&slice->walk);
        buffer_fini(&slice->positions);
        free(slice);
}

/* ---- the next slice ---- */

static struct slice *slice_new(struct scrub *c, enum slice_kind kind)
{
        struct slice *slice = MEMORY_NEW(struct slice);

        slice->job = (struct job){.run = slice_run, .finish = slice_finish, .release = slice_release};
        slice->scrub = c;
        slice->kind = kind;
        return slice;
}

static void slice_submit(struct slice *slice)
{
        slice->scrub->slice = slice;
        job_submit(slice->scrub->p->os, OS_LANE_BACKGROUND, &slice->job);
}

/* Where in the segment the entry `next_index` is to be looked for. */
static int slice_place(struct scrub *c, struct slice *slice)
{
        struct persistence *p = c->p;
        struct log_segment *s = slice->segment;
        struct entries_walk *w = &slice->walk;
        struct bytes positions;
        bool is_sealed = slice->number < p->sealed_count;
        int r;

        w->end = s->end_offset;
        if (!is_sealed)
                entries_walk_in_unsealed(p, s, w);
        if (slice->is_first) {
                w->offset = SEGMENT_HEADER_SIZE;
                w->has_before = true;
                w->before = (struct record_header){.index = s->header.first_index - 1,
                        .term = s->header.previous_term,
                        .first_position = s->header.first_position,
                        .chain = s->header.previous_chain};
        } else if (c->has_before) {
                w->offset = c->offset;
                w->has_before = true;
                w->before = c->before;
        } else if (is_sealed) { /* after a start: from the last noted place before it */
                w->offset = SEGMENT_HEADER_SIZE;
                r = index_positions(s->index, p->cache, &positions);
                if (r < 0)
                        return r;
                if (r == INDEX_CORRUPT)
                        log_index_damaged(p, slice->number);
                else
                        buffer_add_bytes(&slice->positions, positions);
        }
        slice->offset_before = w->offset;
        return 0;
}

static struct slice *slice_of_records(struct scrub *c, size_t number)
{
        struct persistence *p = c->p;
        struct log_segment *s = p->segments[number];
        struct slice *slice = slice_new(c, SLICE_RECORDS);
        struct entries_walk *w = &slice->walk;

        slice->number = number;
        slice->segment = s;
        slice->header = s->header;
        slice->is_first = c->mark.next_index == s->header.first_index;
        w->seed = segment_seed(&s->header);
        w->skip_crc = p->skip_crc;
        w->checks_chain = !p->skip_crc;
        w->first = c->mark.next_index;
        w->last = MIN(c->mark.through, log_segment_next_index(s) - 1);
        w->count_max = UINT_MAX;
        w->size_max = SCRUB_SLICE_SIZE;
        return slice;
}

/* The next slice of records. A file that is gone is damage; what cannot be opened now is tried again. */
static void scrub_read_records(struct scrub *c, size_t number)
{
        struct persistence *p = c->p;
        struct slice *slice = slice_of_records(c, number);
        int r = log_segment_file(p, slice->segment, &slice->walk.file);

        if (!r)
                r = slice_place(c, slice);
        if (!r) {
                slice->segment->pins++;
                slice_submit(slice);
                return;
        }
        if (r > 0) {
                slice->problem = "it is missing";
                scrub_segment_is_damaged(c, slice);
        }
        c->rests_until_us = os_monotonic_us(p->os) + (r > 0 ? SCRUB_REST_MIN_US : SCRUB_AGAIN_US);
        slice_release(&slice->job);
}

static void scrub_read_index(struct scrub *c, size_t number)
{
        struct log_segment *s = c->p->segments[number];
        struct slice *slice = slice_new(c, SLICE_INDEX);

        if (!c->is_in_index)
                c->index_number = s->index->number;
        c->is_in_index = true;
        slice->number = number;
        slice->segment = s;
        slice->header = s->header;
        s->pins++;
        slice_submit(slice);
}

static void scrub_save(struct scrub *c)
{
        struct slice *slice = slice_new(c, SLICE_SAVE);

        slice->mark = c->mark;
        slice_submit(slice);
}

/* ---- the pace ---- */

static bool log_is_busy(const struct persistence *p)
{
        return p->gathering || p->groups_in_flight || p->fetch_count || p->sealing || p->rebuilding ||
               p->mend || !list_is_empty(&p->cold_reads);
}

/* How long until the next slice may begin. */
static uint64_t scrub_waits_us(const struct scrub *c)
{
        const struct scrub_mark *m = &c->mark;
        double share = m->is_under_way ? (double)m->done_bytes / (double)m->total_bytes : 1;
        uint64_t planned_us = c->pass_us / 4 * 3;
        uint64_t due_us = m->is_under_way || m->began_us ? (uint64_t)(share * (double)planned_us) : 0;
        uint64_t now = os_monotonic_us(c->p->os);

        if (now < c->rests_until_us)
                return c->rests_until_us - now;
        if (c->is_to_be_saved)
                return 0;
        if (m->elapsed_us < due_us)
                return due_us - m->elapsed_us;
        if (log_is_busy(c->p) && m->elapsed_us < due_us + c->pass_us / 8)
                return SCRUB_YIELD_US;
        return 0;
}

static void scrub_step(struct scrub *c)
{
        struct persistence *p = c->p;
        struct log_segment *s;
        size_t number;

        if (c->is_to_be_saved || (c->is_dirty && os_monotonic_us(p->os) - c->saved_us >= SCRUB_SAVE_US)) {
                scrub_save(c);
                return;
        }
        if (!c->mark.is_under_way)
                scrub_begin(c);
        /* What was taken away since is not read: it was committed, so it never is. */
        if (c->mark.next_index > MIN(c->mark.through, scrub_end(p))) {
                scrub_finish(c);
                return;
        }
        number = log_segment_of_index(p, c->mark.next_index);
        s = p->segments[number];
        if (s->index && c->mark.next_index == s->header.first_index &&
                c->index_done_first != s->header.first_index)
                scrub_read_index(c, number);
        else
                scrub_read_records(c, number);
}

static void scrub_turn(struct scrub *c)
{
        struct persistence *p = c->p;
        uint64_t wait;

        if (c->slice || atomic_load(&p->has_failed))
                return;
        scrub_count_time(c);
        wait = scrub_waits_us(c);
        if (!wait && !c->mark.is_under_way && !c->is_to_be_saved && scrub_end(p) == 0)
                wait = SCRUB_LOOK_US;
        if (!wait)
                scrub_step(c);
        if (c->slice)
                return;
        os_timer_stop(&c->timer);
        os_timer_start(p->os, &c->timer, MIN(MAX(wait, SCRUB_REST_MIN_US), SCRUB_LOOK_US));
}

static void scrub_on_timer(struct os_timer *timer)
{
        scrub_turn(timer->arg);
}

/* ---- its life ---- */

/* A mark that makes no sense here, of a log that was cut or of another copy, is none. */
static bool mark_is_usable(const struct persistence *p, const struct scrub_mark *m)
{
        return !m->is_under_way ||
               (m->next_index > 0 && m->next_index <= m->through + 1 && m->through <= p->last_index &&
                       m->total_bytes > 0 && m->done_bytes <= m->total_bytes);
}

void log_scrub_start(struct persistence *p)
{
        struct scrub *c;
        struct scrub_mark mark;

        if (!p->scrub_us || p->read_only)
                return;
        c = MEMORY_NEW(struct scrub);
        c->p = p;
        c->pass_us = p->scrub_us;
        c->timer = (struct os_timer){.fn = scrub_on_timer, .arg = c};
        c->counted_us = c->saved_us = os_monotonic_us(p->os);
        c->rests_until_us = c->counted_us + MIN(SCRUB_FIRST_US, c->pass_us / 16);
        if (scrub_file_load(p->node, p->path, p->store.uuid, &mark) == 0 && mark_is_usable(p, &mark))
                c->mark = mark;
        p->scrub = c;
        scrub_turn(c);
}

void log_scrub_close(struct persistence *p)
{
        struct scrub *c = p->scrub;

        if (!c)
                return;
        os_timer_stop(&c->timer);
        if (c->slice)
                job_settle(&c->slice->job);
        scrub_count_time(c);
        /* A fault here costs at most that the next start reads some of it again. */
        if ((c->is_dirty || c->mark.is_under_way) && !atomic_load(&p->has_failed) &&
                scrub_file_save(p->node, p->path, p->store.uuid, &c->mark) < 0)
                log_fail(p, fault_raise(-EIO));
        scrub_forget_place(c);
        free(c);
        p->scrub = NULL;
}

void log_scrub_stats(const struct persistence *p, struct persistence_scrub *ret)
{
        const struct scrub *c = p->scrub;

        *ret = (struct persistence_scrub){.is_on = c != NULL};
        if (!c)
                return;
        ret->is_under_way = c->mark.is_under_way;
        ret->passes = c->mark.passes;
        ret->done_bytes = c->mark.done_bytes;
        ret->total_bytes = c->mark.total_bytes;
        ret->found = c->mark.found;
        ret->found_total = c->found_total;
        ret->began_us = c->mark.began_us;
        ret->finished_us = c->mark.finished_us;
        ret->last_found = c->mark.last_found;
}
