/* Passwords are hashed with argon2id, on a lane of their own: some milliseconds and 19 MiB each. At most
 * ACCESS_HASHES_MAX run at a time, ACCESS_HASHES_WAITING_MAX wait, and more are refused at once, so that
 * strangers who try passwords cost a known part of the machine. */
#include <argon2.h>
#include <stdio.h>
#include <stdlib.h>

#include "access/room.h"

enum { USABLE_MEMORY_KIB_MAX = 64 * 1024, USABLE_PASSES_MAX = 8, USABLE_LANES_MAX = 4 };

/* The cost is that of every hash made here; salt and hash are no result of anything. */
const char hash_of_nobody[] =
        "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ibw$bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8";

bool hash_is_usable(const char *phc)
{
        unsigned memory, passes, lanes;
        int end = 0;

        return sscanf(phc, "$argon2id$v=19$m=%9u,t=%3u,p=%3u$%n", &memory, &passes, &lanes, &end) == 3 &&
               end > 0 && strlen(phc) < PHC_SIZE && memory >= 8 * lanes && memory <= USABLE_MEMORY_KIB_MAX &&
               passes >= 1 && passes <= USABLE_PASSES_MAX && lanes >= 1 && lanes <= USABLE_LANES_MAX;
}

static void job_free(struct hash_job *job)
{
        buffer_wipe(&job->password);
        free(job->compare_with);
        free(job);
}

/* On the lane. */
static void work(struct os_work *w)
{
        struct hash_job *job = CONTAINER_OF(w, struct hash_job, work);
        int r;

        if (job->compare_with) {
                r = argon2id_verify(job->compare_with, job->password.data, job->password.size);
                job->is_match = r == ARGON2_OK;
                job->has_failed = r == ARGON2_MEMORY_ALLOCATION_ERROR;
                return;
        }
        r = argon2id_hash_encoded(HASH_PASSES, HASH_MEMORY_KIB, HASH_LANES, job->password.data,
                job->password.size, job->salt, sizeof job->salt, HASH_SIZE, job->phc, sizeof job->phc);
        job->has_failed = r != ARGON2_OK;
}

bool hashes_are_full(const struct access *a)
{
        return a->hashes_waiting >= ACCESS_HASHES_WAITING_MAX;
}

static void start_next(struct access *a);

static void work_done(struct os_work *w)
{
        struct hash_job *job = CONTAINER_OF(w, struct hash_job, work);
        struct access *a = job->access;

        assert(a->hashes_running > 0);
        a->hashes_running--;
        a->stats.hashes++;
        if (job->done)
                job->done(job, job->arg);
        job_free(job);
        start_next(a);
        access_job_ended(a);
}

static void start_next(struct access *a)
{
        while (a->hashes_running < ACCESS_HASHES_MAX && !list_is_empty(&a->hashes)) {
                struct hash_job *job = CONTAINER_OF(a->hashes.next, struct hash_job, link);

                list_remove(&job->link);
                a->hashes_waiting--;
                a->hashes_running++;
                access_job_begun(a);
                job->is_running = true;
                job->work = (struct os_work){.work = work, .done = work_done};
                os_work_submit(a->os, OS_LANE_HASH, &job->work);
        }
}

static struct hash_job *begin(struct access *a, const char *phc, struct bytes password,
        void (*done)(struct hash_job *job, void *arg), void *arg)
{
        struct hash_job *job;

        assert(password.size <= ACCESS_PASSWORD_SIZE_MAX);
        if (hashes_are_full(a))
                return NULL;
        job = MEMORY_NEW(struct hash_job);
        *job = (struct hash_job){.access = a, .done = done, .arg = arg};
        buffer_reserve(&job->password, password.size + 1);
        buffer_add_bytes(&job->password, password);
        if (phc)
                job->compare_with = memory_copy_string(phc);
        else
                os_random(a->os, job->salt, sizeof job->salt);
        list_add_last(&a->hashes, &job->link);
        a->hashes_waiting++;
        start_next(a);
        return job;
}

struct hash_job *hash_compare(struct access *a, const char *phc, struct bytes password,
        void (*done)(struct hash_job *job, void *arg), void *arg)
{
        return begin(a, hash_is_usable(phc) ? phc : hash_of_nobody, password, done, arg);
}

struct hash_job *hash_make(
        struct access *a, struct bytes password, void (*done)(struct hash_job *job, void *arg), void *arg)
{
        return begin(a, NULL, password, done, arg);
}

void hash_job_drop(struct hash_job **job)
{
        struct hash_job *j = *job;

        *job = NULL;
        if (!j)
                return;
        j->done = NULL;
        if (j->is_running)
                return;
        list_remove(&j->link);
        j->access->hashes_waiting--;
        job_free(j);
}
