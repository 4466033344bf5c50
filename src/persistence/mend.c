/* Mending (G13): a sealed segment whose bytes are damaged is rebuilt from the entries of another node.
 *
 * The new file has a header like the old one's, but another segment UUID, so that no byte of the old file can
 * look valid in it. Entries are taken only as they follow: index, term, position, chain. At the end the chain
 * must be the one that the header of the next segment was written with: else the other node's history is not
 * this log's, and nothing comes of it. What is built is read back and indexed before it counts.
 *
 * The steps, each durable before the next (F: first index):
 *
 *  1. `F.mend.tmp` is written and synced. A start removes it.
 *  2. It becomes `F.mended`: whole and verified. From here on a start finishes what is left.
 *  3. `F.seg`, the damaged file, moves to quarantine/, where it stays (G12).
 *  4. `F.mended` becomes `F.seg`.
 *  5. `F.idx` is replaced, and `F.ids` if there is one. A start that finds those of the old file builds new
 *     ones.
 *
 * So a start finds the damaged file or the good one, never neither. All of it runs on the BACKGROUND lane.
 * Readers go on meanwhile: the files that have the old names are held open. Then the loop puts a new segment
 * in the old one's place; that waits, retired, for reads of it which are under way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/text.h"

struct mend_job;

struct mend {
        struct persistence *p;
        struct log_segment *segment; /* the damaged one */
        size_t number;
        struct segment_header header;
        struct segment_header old;
        struct segment_header next; /* of the segment behind it */
        uint32_t epoch;
        struct mend_job *job; /* under way; what follows is the lane's until it has finished */
        uint64_t next_index;
        uint64_t next_position;
        uint64_t term;
        uint64_t offset;
        struct record_chain chain;
        struct os_file *file;
        struct index *index; /* of the new file, once it is in place */
};

struct mend_job {
        struct job job;
        struct mend *mend;
        struct persistence_entry *entries; /* with payloads in `payloads` */
        unsigned count;
        struct buffer payloads;
        persistence_mended *done;
        void *arg;
        int result;
};

static void buffer_freep(struct buffer *b)
{
        buffer_fini(b);
}

/* ---- files: any thread ---- */

int log_quarantine(struct os *os, const char *store_path, const char *log_path, uint64_t first_index,
        const char *extension)
{
        CLEANUP(text_freep) char *from = segment_path(log_path, first_index, extension);
        CLEANUP(text_freep) char *directory = text_format("%s/quarantine", store_path);
        CLEANUP(text_freep)
        char *to =
                text_format("%s%s.%llu", directory, strrchr(from, '/'), (unsigned long long)os_wall_us(os));
        int r;

        r = os_dir_make(os, directory);
        if (!r) {
                r = os_rename(os, from, to);
                r = r == OS_NOT_FOUND ? 0 : r;
        }
        if (!r)
                r = os_dir_sync(os, directory);
        return r ? r : os_dir_sync(os, log_path);
}

int log_finish_mend(struct os *os, const char *store_path, const char *log_path, uint64_t first_index)
{
        CLEANUP(text_freep) char *from = segment_path(log_path, first_index, "mended");
        CLEANUP(text_freep) char *to = segment_path(log_path, first_index, "seg");
        int r;

        r = log_quarantine(os, store_path, log_path, first_index, "seg");
        if (!r)
                r = os_rename(os, from, to);
        return r ? r : os_dir_sync(os, log_path);
}

/* ---- what is damaged ---- */

void log_segment_damaged(struct persistence *p, struct log_segment *s)
{
        /* Without an index file it is not sealed: what is damaged there is found when it is sealed, or by the
         * next start. */
        if (!s->index || s->is_retired || s->is_damaged)
                return;
        s->is_damaged = true;
        if (p->on_damage)
                p->on_damage(p->on_damage_arg);
}

bool persistence_damaged(const struct persistence *p, struct persistence_range *ret)
{
        size_t i;

        for (i = 0; i < p->sealed_count; i++) {
                const struct log_segment *s = p->segments[i];

                if (!s->is_damaged)
                        continue;
                *ret = (struct persistence_range){s->header.first_index, log_segment_next_index(s) - 1};
                return true;
        }
        return false;
}

void persistence_on_damage(struct persistence *p, void (*on_damage)(void *arg), void *arg)
{
        p->on_damage = on_damage;
        p->on_damage_arg = arg;
}

bool log_mends(const struct persistence *p, const struct log_segment *s)
{
        return p->mend && p->mend->segment == s;
}

/* ---- a segment in another's place ---- */

static void segment_free_retired(struct persistence *p, struct log_segment *s)
{
        assert(s->is_retired && !s->pins);
        if (s->file)
                p->open_files--;
        log_segment_free(&s);
}

void log_unpin(struct persistence *p, struct log_segment *s)
{
        assert(s->pins > 0);
        s->pins--;
        if (s->is_retired && !s->pins)
                segment_free_retired(p, s);
}

static void mend_publish(struct persistence *p, const struct log_segment *s)
{
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
        CLEANUP(text_freep)
        char *text = text_format("%s, entries %llu to %llu", strrchr(path, '/') + 1,
                (unsigned long long)s->header.first_index, (unsigned long long)log_segment_next_index(s) - 1);

        log_publish_text(p, FACT_corruption_repaired, s->header.first_position, s->event_count, text);
}

static void mend_take_place(struct mend *m)
{
        struct persistence *p = m->p;
        struct log_segment *old = m->segment, *s = MEMORY_NEW(struct log_segment);
        const struct index_summary *sum = &m->index->summary;

        assert(p->segments[m->number] == old && m->number < p->sealed_count);
        s->header = m->header;
        s->found_size = m->offset;
        s->end_offset = sum->end_offset;
        s->committed_end = sum->end_offset;
        s->record_count = sum->last_index + 1 - sum->first_index;
        s->committed_records = s->record_count;
        s->event_count = sum->event_count;
        s->committed_events = sum->event_count;
        s->index = m->index;
        m->index = NULL;
        assert(log_segment_next_index(s) == m->next.first_index);
        p->segments[m->number] = s;
        p->mended_count++;
        memset(p->fetch_ends, 0, sizeof p->fetch_ends);
        cache_drop_file(p->cache, old->index->number);
        old->is_retired = true;
        log_unpin(p, old);
        mend_publish(p, s);
}

static void mend_free(struct mend *m)
{
        os_file_close(&m->file);
        index_close(&m->index);
        m->p->mend = NULL;
        free(m);
}

/* ---- the lane ---- */

static char *mend_path(const struct mend *m)
{
        return segment_path(m->p->log_path, m->header.first_index, "mend.tmp");
}

static int mend_make_file(struct mend *m)
{
        CLEANUP(text_freep) char *path = mend_path(m);
        uint8_t raw[SEGMENT_HEADER_SIZE];
        int r;

        r = os_file_open(m->p->os, path, OS_OPEN_WRITE | OS_OPEN_CREATE, &m->file);
        if (!r)
                r = os_file_truncate(m->file, 0);
        segment_header_encode(&m->header, raw);
        if (!r)
                r = os_file_write(m->file, bytes_of(raw, sizeof raw), 0);
        m->offset = SEGMENT_HEADER_SIZE;
        return r;
}

static bool mend_follows(const struct mend *m, const struct persistence_entry *e)
{
        return e->index == m->next_index && e->index < m->next.first_index && e->term >= m->term &&
               e->term <= m->next.previous_term && e->first_position == m->next_position &&
               e->kind != RECORD_WATERMARK && (e->kind == RECORD_EVENTS) == (e->event_count > 0) &&
               e->event_count <= m->next.first_position - m->next_position &&
               e->payload.size <= RECORD_PAYLOAD_SIZE_MAX;
}

static void mend_encode(struct mend *m, const struct persistence_entry *e, struct buffer *out)
{
        uint32_t seed = segment_seed(&m->header);
        uint64_t size = record_size((uint32_t)e->payload.size);
        struct record_chain before = m->chain;
        struct record_header h = {.payload_size = (uint32_t)e->payload.size,
                .kind = e->kind,
                .index = e->index,
                .first_position = e->first_position,
                .term = e->term,
                .synced_through = m->header.first_index - 1,
                .event_count = e->event_count,
                .epoch = m->epoch,
                .payload_crc = record_payload_crc(seed, e->payload)};
        uint8_t *at;

        record_chain_next(&before, e->index, e->term, e->payload, &m->chain);
        h.chain = m->chain;
        buffer_reserve(out, size);
        at = out->data + out->size;
        memset(at + size - RECORD_ALIGNMENT, 0, RECORD_ALIGNMENT);
        if (e->payload.size)
                memcpy(at + RECORD_HEADER_SIZE, e->payload.data, e->payload.size);
        record_header_encode(&h, seed, at);
        out->size += size;
        m->next_index++;
        m->next_position += e->event_count;
        m->term = e->term;
}

static int mend_write(struct mend *m, const struct mend_job *job)
{
        CLEANUP(buffer_freep) struct buffer bytes = {0};
        unsigned i;
        int r;

        for (i = 0; i < job->count; i++) {
                if (!mend_follows(m, &job->entries[i]))
                        return PERSISTENCE_CORRUPT;
                mend_encode(m, &job->entries[i], &bytes);
        }
        if (bytes.size > SEGMENT_SIZE_LIMIT - m->offset)
                return PERSISTENCE_CORRUPT;
        r = os_file_write(m->file, buffer_bytes(&bytes), m->offset);
        if (!r)
                m->offset += bytes.size;
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

/* The checkpoint of the id window names its segment's file. It is the same window. */
static int mend_ids(struct mend *m)
{
        struct persistence *p = m->p;
        CLEANUP(buffer_freep) struct buffer bytes = {0};
        struct ids ids = {0};
        uint64_t last_index = m->next.first_index - 1;
        int r;

        r = log_load_ids(p->os, p->log_path, &m->old, last_index, &ids);
        if (!r) {
                ids_encode(&ids, &m->header, last_index, &bytes);
                r = index_save(p->os, p->log_path, m->header.first_index, "ids", buffer_bytes(&bytes));
        }
        ids_fini(&ids);
        /* Without one the next start makes it. */
        return r < 0 ? r : 0;
}

/* From here on only a fault can keep it from coming about: a start would finish it. */
static int mend_put_in_place(struct mend *m, struct bytes index)
{
        struct persistence *p = m->p;
        CLEANUP(text_freep) char *from = mend_path(m);
        CLEANUP(text_freep) char *to = segment_path(p->log_path, m->header.first_index, "mended");
        int r;

        r = os_rename(p->os, from, to);
        if (!r)
                r = os_dir_sync(p->os, p->log_path);
        if (!r)
                r = log_finish_mend(p->os, p->path, p->log_path, m->header.first_index);
        if (!r)
                r = index_save(p->os, p->log_path, m->header.first_index, "idx", index);
        if (!r)
                r = mend_ids(m);
        if (!r)
                r = index_open(p->os, p->log_path, &m->header, &m->index);
        return r > 0 ? fault_raise(-EIO) : r;
}

static int mend_complete(struct mend *m)
{
        struct persistence *p = m->p;
        CLEANUP(buffer_freep) struct buffer index = {0};
        struct index_source source = {.os = p->os,
                .log_path = p->log_path,
                .extension = "mend.tmp",
                .header = &m->header,
                .last_index = m->next.first_index - 1};
        int r;

        if (m->next_position != m->next.first_position || m->term != m->next.previous_term ||
                memcmp(&m->chain, &m->next.previous_chain, sizeof m->chain) != 0)
                return PERSISTENCE_CORRUPT;
        r = os_file_sync(m->file);
        if (r)
                return fault_fold(r);
        /* Reads every record back. */
        r = index_build(&source, &index);
        if (r)
                return r > 0 ? PERSISTENCE_CORRUPT : r;
        return mend_put_in_place(m, buffer_bytes(&index));
}

static void mend_remove_file(struct mend *m)
{
        CLEANUP(text_freep) char *path = mend_path(m);

        os_file_close(&m->file);
        /* What stays is removed by the next start. */
        if (os_remove(m->p->os, path))
                return;
}

static void mend_run(struct job *base)
{
        struct mend_job *job = CONTAINER_OF(base, struct mend_job, job);
        struct mend *m = job->mend;
        int r = 0;

        if (atomic_load(&m->p->has_failed))
                r = fault_raise(-EIO);
        else if (!m->file)
                r = mend_make_file(m);
        r = r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        if (!r)
                r = mend_write(m, job);
        if (!r && m->next_index == m->next.first_index)
                r = mend_complete(m);
        if (r > 0)
                mend_remove_file(m);
        job->result = r;
}

/* ---- the loop ---- */

static void mend_finish(struct job *base)
{
        struct mend_job *job = CONTAINER_OF(base, struct mend_job, job);
        struct mend *m = job->mend;
        struct persistence *p = m->p;
        bool is_whole = !job->result && m->next_index == m->next.first_index;

        m->job = NULL;
        if (is_whole)
                mend_take_place(m);
        else if (job->result)
                log_unpin(p, m->segment);
        if (job->result || is_whole)
                mend_free(m);
        if (job->result < 0)
                log_fail(p, job->result);
        job->done(job->arg, p->is_closing ? PERSISTENCE_END : job->result);
}

static void mend_release(struct job *base)
{
        struct mend_job *job = CONTAINER_OF(base, struct mend_job, job);

        buffer_fini(&job->payloads);
        free(job->entries);
        free(job);
}

int persistence_mend_begin(struct persistence *p, struct persistence_range *ret)
{
        struct log_segment *s;
        struct os_file *file;
        struct mend *m;
        size_t number;
        int r;

        assert(!p->mend && !p->read_only && p->is_started);
        if (!persistence_damaged(p, ret))
                return PERSISTENCE_NOT_FOUND;
        if (p->rebuilding || atomic_load(&p->has_failed))
                return PERSISTENCE_IN_USE;
        number = log_segment_of_index(p, ret->first);
        s = p->segments[number];
        if (!log_space_has(p, s->end_offset))
                return PERSISTENCE_FULL;
        /* Held open, so that what is good in the old files can be read until the new ones are there. */
        r = log_segment_file(p, s, &file);
        if (r >= 0)
                r = index_hold(s->index);
        if (r < 0)
                return r;
        s->pins++;
        m = MEMORY_NEW(struct mend);
        *m = (struct mend){.p = p,
                .segment = s,
                .number = number,
                .header = s->header,
                .old = s->header,
                .next = p->segments[number + 1]->header,
                .epoch = p->store.epoch,
                .next_index = ret->first,
                .next_position = s->header.first_position,
                .term = s->header.previous_term,
                .chain = s->header.previous_chain};
        os_random(p->os, m->header.segment_uuid, sizeof m->header.segment_uuid);
        m->header.generation = 1;
        m->header.epoch = m->epoch;
        p->mend = m;
        return 0;
}

void persistence_mend_add(struct persistence *p, const struct persistence_entry *entries, unsigned count,
        persistence_mended *done, void *arg)
{
        struct mend_job *job = MEMORY_NEW(struct mend_job);
        size_t at = 0;
        unsigned i;

        assert(p->mend && !p->mend->job && count > 0);
        job->job = (struct job){.run = mend_run, .finish = mend_finish, .release = mend_release};
        job->mend = p->mend;
        job->done = done;
        job->arg = arg;
        job->count = count;
        job->entries = memory_new_array(count, sizeof job->entries[0]);
        for (i = 0; i < count; i++)
                buffer_add_bytes(&job->payloads, entries[i].payload);
        for (i = 0; i < count; i++) {
                job->entries[i] = entries[i];
                job->entries[i].payload = bytes_of(job->payloads.data + at, entries[i].payload.size);
                at += entries[i].payload.size;
        }
        p->mend->job = job;
        job_submit(p->os, OS_LANE_BACKGROUND, &job->job);
}

void persistence_mend_stop(struct persistence *p)
{
        struct mend *m = p->mend;

        if (!m)
                return;
        assert(!m->job);
        mend_remove_file(m);
        log_unpin(p, m->segment);
        mend_free(m);
}

void log_mend_close(struct persistence *p)
{
        assert(p->is_closing);
        if (p->mend && p->mend->job)
                job_settle(&p->mend->job->job);
        persistence_mend_stop(p);
}
