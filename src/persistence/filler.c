/* A sync over blocks that exist and are zero is a third cheaper than one that grows the file. So zeros are
 * kept some megabytes ahead of the log's end, written on the BACKGROUND lane through a handle of their own.
 * They come in slices, since the file system lets one writer at a time have the file, and are synced some
 * megabytes at once: each sync changes the file's metadata, which a sync of the log then has to wait for.
 *
 * The one rule: zeros never land on a record. Both sides name their range under the lock before they write:
 * the filler a slice behind all claims, a writer the end of its bytes, and a writer whose bytes reach into a
 * slice that is being written waits for it. One that outruns the filler just grows the file. */
#include "persistence/filler.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/job.h"
#include "persistence/text.h"

enum { FILLER_SLICE = 256 * 1024, FILLER_STEP = 4 * 1024 * 1024, FILLER_SPARE_ZEROS = 4 * 1024 * 1024 };
#define FILLER_AHEAD_MIN (4 * MIB)
#define FILLER_AHEAD_MAX (32 * MIB)

enum spare_state { SPARE_NONE, SPARE_MAKING, SPARE_READY, SPARE_TAKEN };

struct filler {
        struct os *os;
        char *log_path;
        uint64_t segment_size;
        struct job *job; /* loop */
        uint8_t *zeros;
        pthread_mutex_t lock;
        pthread_cond_t slice_ended;
        /* lock */
        char *path;    /* of the active segment */
        unsigned life; /* counts segments: a handle of an earlier one is stale */
        uint64_t claimed;
        uint64_t filled;
        bool is_writing_slice; /* at `filled` */
        enum spare_state spare;
        bool is_full;
        int fault;
};

struct filler_job {
        struct job job;
        struct filler *filler;
};

struct filler *filler_new(struct os *os, const char *log_path, uint64_t segment_size)
{
        struct filler *f = MEMORY_NEW(struct filler);

        f->os = os;
        f->log_path = memory_copy_string(log_path);
        f->segment_size = segment_size;
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->slice_ended, NULL);
        return f;
}

void filler_free(struct filler **filler)
{
        struct filler *f = *filler;

        if (!f)
                return;
        /* What has not begun finds nothing to do. */
        pthread_mutex_lock(&f->lock);
        free(f->path);
        f->path = NULL;
        pthread_mutex_unlock(&f->lock);
        if (f->job)
                job_settle(f->job);
        pthread_cond_destroy(&f->slice_ended);
        pthread_mutex_destroy(&f->lock);
        free(f->zeros);
        free(f->log_path);
        free(f);
        *filler = NULL;
}

/* Until no slice is being written below `end`. */
static void filler_wait_for_slice(struct filler *f, uint64_t end)
{
        while (f->is_writing_slice && end > f->filled)
                pthread_cond_wait(&f->slice_ended, &f->lock);
}

void filler_begin(struct filler *f, const char *segment_path, uint64_t used_end, uint64_t filled_end)
{
        pthread_mutex_lock(&f->lock);
        filler_wait_for_slice(f, UINT64_MAX);
        free(f->path);
        f->path = memory_copy_string(segment_path);
        f->life++;
        f->claimed = used_end;
        f->filled = MAX(filled_end, used_end);
        if (f->spare == SPARE_TAKEN)
                f->spare = SPARE_NONE;
        pthread_mutex_unlock(&f->lock);
}

void filler_claim(struct filler *f, uint64_t end)
{
        pthread_mutex_lock(&f->lock);
        f->claimed = MAX(f->claimed, end);
        filler_wait_for_slice(f, end);
        f->filled = MAX(f->filled, end);
        pthread_mutex_unlock(&f->lock);
}

uint64_t filler_ahead(struct filler *f)
{
        uint64_t ahead;

        pthread_mutex_lock(&f->lock);
        ahead = f->filled - f->claimed;
        pthread_mutex_unlock(&f->lock);
        return ahead;
}

bool filler_take_spare(struct filler *f)
{
        bool is_ready;

        pthread_mutex_lock(&f->lock);
        is_ready = f->spare == SPARE_READY;
        if (is_ready)
                f->spare = SPARE_TAKEN;
        pthread_mutex_unlock(&f->lock);
        return is_ready;
}

int filler_fault(struct filler *f)
{
        int fault;

        pthread_mutex_lock(&f->lock);
        fault = f->fault;
        pthread_mutex_unlock(&f->lock);
        return fault;
}

/* What is due now: how far zeros should reach, and whether a spare is wanted. */
static uint64_t filler_target(const struct filler *f)
{
        uint64_t ahead = MIN(MAX(f->claimed / 4, FILLER_AHEAD_MIN), FILLER_AHEAD_MAX);

        return MIN(f->claimed + ahead, f->segment_size);
}

static bool filler_wants_zeros(const struct filler *f)
{
        /* Half of the distance may be used up before the next step, so that steps are worth their sync. */
        return f->path && filler_target(f) > f->filled &&
               filler_target(f) - f->claimed > (f->filled - f->claimed) * 2;
}

static bool filler_wants_spare(const struct filler *f)
{
        return f->path && f->spare == SPARE_NONE && f->claimed > f->segment_size / 4 * 3;
}

static void filler_note(struct filler *f, int result)
{
        if (result == OS_FULL)
                f->is_full = true;
        else if (result < 0)
                f->fault = result;
}

/* Takes the next slice: [*ret_at, + what it gives); 0 when there is no more to do for this handle. */
static uint64_t filler_begin_slice(struct filler *f, unsigned life, uint64_t left, uint64_t *ret_at)
{
        uint64_t size = 0;

        pthread_mutex_lock(&f->lock);
        /* Behind the claim of a writer that waits for the slice before. */
        f->filled = MAX(f->filled, f->claimed);
        if (f->life == life && filler_target(f) > f->filled)
                size = MIN(MIN(filler_target(f) - f->filled, FILLER_SLICE), left);
        f->is_writing_slice = size > 0;
        *ret_at = f->filled;
        pthread_mutex_unlock(&f->lock);
        return size;
}

static void filler_end_slice(struct filler *f, uint64_t at, uint64_t size)
{
        pthread_mutex_lock(&f->lock);
        assert(f->is_writing_slice);
        assert(f->filled == at);
        f->is_writing_slice = false;
        f->filled += size;
        pthread_cond_broadcast(&f->slice_ended);
        pthread_mutex_unlock(&f->lock);
}

static int filler_fill(struct filler *f)
{
        CLEANUP(text_freep) char *path = NULL;
        struct os_file *file = NULL;
        uint64_t left = FILLER_STEP, at, size;
        unsigned life;
        int r;

        pthread_mutex_lock(&f->lock);
        if (filler_wants_zeros(f))
                path = memory_copy_string(f->path);
        life = f->life;
        pthread_mutex_unlock(&f->lock);
        if (!path)
                return 0;
        r = os_file_open(f->os, path, OS_OPEN_WRITE, &file);
        if (r == OS_NOT_FOUND) /* cut off meanwhile, with its segment */
                return 0;
        while (!r && (size = filler_begin_slice(f, life, left, &at)) > 0) {
                r = os_file_write(file, bytes_of(f->zeros, size), at);
                filler_end_slice(f, at, r ? 0 : size);
                left -= size;
        }
        if (!r)
                r = os_file_sync(file);
        os_file_close(&file);
        return r;
}

static int filler_make_spare(struct filler *f)
{
        CLEANUP(text_freep) char *path = text_format("%s/spare", f->log_path);
        struct os_file *file = NULL;
        uint64_t size = MIN(FILLER_SPARE_ZEROS, f->segment_size), at;
        int r;

        r = os_file_open(f->os, path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        if (!r)
                r = os_file_truncate(file, 0);
        for (at = 0; !r && at < size; at += FILLER_SLICE)
                r = os_file_write(file, bytes_of(f->zeros, MIN(size - at, FILLER_SLICE)), at);
        if (!r)
                r = os_file_sync(file);
        os_file_close(&file);
        if (r == OS_FULL) { /* half of one only takes space from the rest */
                int removed = os_remove(f->os, path);

                r = removed < 0 ? removed : r;
        }
        return r;
}

static void filler_run(struct job *job)
{
        struct filler *f = CONTAINER_OF(job, struct filler_job, job)->filler;
        bool wants_spare;
        int r;

        if (!f->zeros)
                f->zeros = memory_new(FILLER_SLICE);
        r = filler_fill(f);
        pthread_mutex_lock(&f->lock);
        filler_note(f, r);
        wants_spare = filler_wants_spare(f);
        if (wants_spare)
                f->spare = SPARE_MAKING;
        pthread_mutex_unlock(&f->lock);
        if (!wants_spare)
                return;
        r = filler_make_spare(f);
        pthread_mutex_lock(&f->lock);
        filler_note(f, r);
        f->spare = r ? SPARE_NONE : SPARE_READY;
        pthread_mutex_unlock(&f->lock);
}

static void filler_finish(struct job *job)
{
        CONTAINER_OF(job, struct filler_job, job)->filler->job = NULL;
}

static void filler_release(struct job *job)
{
        free(CONTAINER_OF(job, struct filler_job, job));
}

void filler_kick(struct filler *f)
{
        struct filler_job *job;
        bool is_due;

        if (f->job)
                return;
        pthread_mutex_lock(&f->lock);
        is_due = !f->fault && !f->is_full && (filler_wants_zeros(f) || filler_wants_spare(f));
        /* A full disk is tried again at the next kick but one, which comes with the next write. */
        f->is_full = false;
        pthread_mutex_unlock(&f->lock);
        if (!is_due)
                return;
        job = MEMORY_NEW(struct filler_job);
        job->filler = f;
        job->job = (struct job){.run = filler_run, .finish = filler_finish, .release = filler_release};
        f->job = &job->job;
        job_submit(f->os, OS_LANE_BACKGROUND, &job->job);
}
