#include "persistence/job.h"

#include <pthread.h>

/* One lock for all jobs of the process: it is held for a few loads, and a job may outlive the log that made
 * it. */
static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_ran = PTHREAD_COND_INITIALIZER;

/* Takes the right to run. False when somebody else has run the job; one who runs it just now is waited for,
 * since jobs of a lane never overlap, whoever runs them. */
static bool job_claim(struct job *job)
{
        bool is_ours;

        pthread_mutex_lock(&job_lock);
        is_ours = job->state == JOB_QUEUED;
        if (is_ours)
                job->state = JOB_RUNNING;
        while (!is_ours && job->state == JOB_RUNNING)
                pthread_cond_wait(&job_ran, &job_lock);
        pthread_mutex_unlock(&job_lock);
        return is_ours;
}

static void job_run_claimed(struct job *job)
{
        job->run(job);
        pthread_mutex_lock(&job_lock);
        assert(job->state == JOB_RUNNING);
        job->state = JOB_RAN;
        pthread_cond_broadcast(&job_ran);
        pthread_mutex_unlock(&job_lock);
}

static void job_on_lane(struct os_work *work)
{
        struct job *job = CONTAINER_OF(work, struct job, work);

        if (job_claim(job))
                job_run_claimed(job);
}

/* Finishes a job that has run, once. */
static void job_finish(struct job *job)
{
        if (job->is_finished)
                return;
        assert(job->state == JOB_RAN);
        job->is_finished = true;
        job->finish(job);
}

static void job_on_loop(struct os_work *work)
{
        struct job *job = CONTAINER_OF(work, struct job, work);

        job_finish(job);
        job->release(job);
}

void job_submit(struct os *os, enum os_lane lane, struct job *job)
{
        assert(job->run);
        assert(job->finish && job->release);
        job->state = JOB_QUEUED;
        job->is_finished = false;
        job->work = (struct os_work){.work = job_on_lane, .done = job_on_loop};
        os_work_submit(os, lane, &job->work);
}

void job_run_here(struct job *job)
{
        job->state = JOB_RUNNING;
        job->is_finished = false;
        job_run_claimed(job);
        job_finish(job);
        job->release(job);
}

void job_settle(struct job *job)
{
        if (job_claim(job))
                job_run_claimed(job);
        job_finish(job);
}
