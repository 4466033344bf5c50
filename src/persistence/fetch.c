/* Runs of entries from anywhere in the log, for nodes that lag far behind: read, verified and followed along
 * the chain on the READ lane, one read of about the asked size each.
 *
 * What is asked for and the read that is under way for it are two things. A read's memory belongs to its lane
 * until the lane has passed it; what is asked for may start another read: when a truncation has taken away
 * what the first one was about, or when memory that was to be looked at has become a file. A file is pinned
 * while it is read, as for cold reads of events, and truncation waits for reads of what it cuts off.
 *
 * A node that fetches a whole log asks for one run after another, several at a time. So where a run ended is
 * kept, and the next one need not be searched for: sealed segments never change. */
#include "persistence/fetch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/job.h"
#include "persistence/log.h"

struct fetch_read;

struct fetch {
        struct list link; /* in the log's */
        struct persistence *p;
        uint64_t first;
        uint64_t last;
        uint64_t size_max;
        persistence_fetched *done;
        void *arg;
        struct fetch_read *read; /* under way; NULL: held by a truncation */
};

struct fetch_read {
        struct job job;
        struct persistence *p;
        struct fetch *fetch; /* loop; NULL: nobody looks at the result */
        /* loop */
        struct log_segment *pinned; /* NULL: memory is looked at when the lane has come by */
        bool is_sealed;
        int early_result; /* found before the lane was asked */
        /* the lane */
        struct entries_walk walk;
        struct buffer positions; /* empty: the walk's offset is right as it is */
        int result;
};

static void fetch_read_run(struct job *job)
{
        struct fetch_read *read = CONTAINER_OF(job, struct fetch_read, job);
        int r = 0;

        if (!read->walk.file)
                return;
        if (read->positions.size)
                r = entries_walk_search(&read->walk, buffer_bytes(&read->positions));
        read->result = r ? r : entries_walk_take(&read->walk);
}

static void fetch_read_release(struct job *job)
{
        struct fetch_read *read = CONTAINER_OF(job, struct fetch_read, job);

        entries_walk_fini(&read->walk);
        buffer_fini(&read->positions);
        free(read);
}

/* ---- where runs of sealed segments ended ---- */

static void fetch_note_end(struct persistence *p, uint64_t next_index, uint64_t offset)
{
        p->fetch_ends[p->fetch_end_at] = (struct fetch_end){next_index, offset};
        p->fetch_end_at = (p->fetch_end_at + 1) % FETCH_ENDS_MAX;
}

static bool fetch_find_end(const struct persistence *p, uint64_t index, uint64_t *ret_offset)
{
        unsigned i;

        for (i = 0; i < FETCH_ENDS_MAX; i++) {
                if (p->fetch_ends[i].next_index == index) {
                        *ret_offset = p->fetch_ends[i].offset;
                        return true;
                }
        }
        return false;
}

/* ---- one read ---- */

/* The place to begin in a sealed segment: known, or to be searched for by the lane. */
static int fetch_place(struct persistence *p, size_t number, struct fetch_read *read)
{
        struct log_segment *s = p->segments[number];
        struct bytes positions;
        int r;

        read->walk.offset = SEGMENT_HEADER_SIZE;
        read->walk.end = s->end_offset;
        if (read->walk.first == s->header.first_index ||
                fetch_find_end(p, read->walk.first, &read->walk.offset))
                return 0;
        r = index_positions(s->index, p->cache, &positions);
        if (r == INDEX_CORRUPT) { /* without them: from the segment's beginning */
                log_index_damaged(p, number);
                return 0;
        }
        if (!r)
                buffer_add_bytes(&read->positions, positions);
        return r;
}

static int fetch_prepare(struct fetch *fetch, struct fetch_read *read)
{
        struct persistence *p = fetch->p;
        struct entries_walk *w = &read->walk;
        struct log_segment *s;
        size_t number;
        int r;

        if (atomic_load(&p->has_failed))
                return fault_raise(-EIO);
        w->first = fetch->first;
        if (fetch->first == 0 || fetch->first > p->last_index || fetch->first >= entries_first_in_memory(p))
                return 0;
        number = log_segment_of_index(p, fetch->first);
        s = p->segments[number];
        w->seed = segment_seed(&s->header);
        w->last = MIN(fetch->last, log_segment_next_index(s) - 1);
        w->count_max = UINT_MAX;
        w->size_max = fetch->size_max;
        w->skip_crc = p->skip_crc;
        w->checks_chain = !p->skip_crc;
        read->is_sealed = number < p->sealed_count;
        r = read->is_sealed ? fetch_place(p, number, read) : 0;
        if (!read->is_sealed)
                entries_walk_in_unsealed(p, s, w);
        if (!r)
                r = log_segment_file(p, s, &w->file);
        if (!r) {
                read->pinned = s;
                s->pins++;
        }
        return r;
}

static void fetch_end(struct fetch *fetch, int result, const struct persistence_entries *entries)
{
        struct persistence *p = fetch->p;

        list_remove(&fetch->link);
        p->fetch_count--;
        fetch->done(fetch->arg, result, result ? NULL : entries);
        free(fetch);
}

static void fetch_start(struct fetch *fetch);

/* Nothing was read by the lane: the entries were in memory, or are nowhere. */
static void fetch_from_memory(struct fetch *fetch)
{
        struct persistence *p = fetch->p;
        struct persistence_entries entries;
        int r;

        if (fetch->first > 0 && fetch->first < entries_first_in_memory(p)) {
                fetch_start(fetch);
                return;
        }
        r = persistence_entries_read(p, fetch->first, fetch->last, UINT_MAX, fetch->size_max, &entries);
        fetch_end(fetch, r, &entries);
}

static void fetch_read_finish(struct job *job)
{
        struct fetch_read *read = CONTAINER_OF(job, struct fetch_read, job);
        struct fetch *fetch = read->fetch;
        struct log_segment *s = read->pinned;
        struct persistence_entries entries;
        int r;

        if (!fetch) {
                if (s)
                        log_unpin(read->p, s);
                return;
        }
        fetch->read = NULL;
        if (!s && !read->early_result) {
                fetch_from_memory(fetch);
                return;
        }
        r = s ? entries_walk_result(fetch->p, s, &read->walk, read->result) : read->early_result;
        if (!r) {
                if (read->is_sealed && !s->is_retired)
                        fetch_note_end(fetch->p, fetch->first + read->walk.count, read->walk.offset);
                entries_walk_give(&read->walk, true, &entries);
        }
        if (s)
                log_unpin(read->p, s);
        fetch_end(fetch, r, &entries);
}

static void fetch_start(struct fetch *fetch)
{
        struct fetch_read *read = MEMORY_NEW(struct fetch_read);

        read->job = (struct job){
                .run = fetch_read_run, .finish = fetch_read_finish, .release = fetch_read_release};
        read->p = fetch->p;
        read->fetch = fetch;
        fetch->read = read;
        read->early_result = fetch_prepare(fetch, read);
        if (!read->pinned)
                read->walk.file = NULL;
        job_submit(fetch->p->os, OS_LANE_READ, &read->job);
}

/* Lets the read go; when this gives, it holds no file and no segment. */
static void fetch_stop_read(struct fetch *fetch)
{
        struct fetch_read *read = fetch->read;

        fetch->read = NULL;
        read->fetch = NULL;
        job_settle(&read->job);
}

void persistence_fetch(struct persistence *p, uint64_t first, uint64_t last, uint64_t size_max,
        persistence_fetched *done, void *arg)
{
        struct fetch *fetch;

        assert(first <= last);
        if (p->is_closing) {
                done(arg, PERSISTENCE_END, NULL);
                return;
        }
        assert(p->fetch_count < PERSISTENCE_FETCHES_MAX);
        fetch = MEMORY_NEW(struct fetch);
        *fetch = (struct fetch){
                .p = p, .first = first, .last = last, .size_max = size_max, .done = done, .arg = arg};
        list_add_last(&p->fetches, &fetch->link);
        p->fetch_count++;
        fetch_start(fetch);
}

/* ---- truncation and the end ---- */

void fetches_hold(struct persistence *p, uint64_t index)
{
        LIST_EACH (at, &p->fetches) {
                struct fetch *fetch = CONTAINER_OF(at, struct fetch, link);

                if (fetch->read && fetch->read->pinned && fetch->read->walk.last >= index)
                        fetch_stop_read(fetch);
        }
}

void fetches_resume(struct persistence *p)
{
        LIST_EACH (at, &p->fetches) {
                struct fetch *fetch = CONTAINER_OF(at, struct fetch, link);

                if (!fetch->read)
                        fetch_start(fetch);
        }
}

void fetches_end(struct persistence *p)
{
        assert(p->is_closing);
        while (!list_is_empty(&p->fetches)) {
                struct fetch *fetch = CONTAINER_OF(p->fetches.next, struct fetch, link);

                if (fetch->read)
                        fetch_stop_read(fetch);
                fetch_end(fetch, PERSISTENCE_END, NULL);
        }
}
