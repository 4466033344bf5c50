/* Lanes: a queue under a lock and the threads that empty it. A thread is started when work comes, none is
 * idle, and the lane may have one more. */
#include "os/real.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void *lane_run(void *arg)
{
        struct real_lane *lane = arg;
        struct os_work *work;

        pthread_mutex_lock(&lane->lock);
        for (;;) {
                while (list_is_empty(&lane->queue) && !lane->is_ending) {
                        lane->idle++;
                        pthread_cond_wait(&lane->wanted, &lane->lock);
                        lane->idle--;
                }
                if (list_is_empty(&lane->queue))
                        break;
                work = CONTAINER_OF(lane->queue.next, struct os_work, link);
                list_remove(&work->link);
                lane->queued--;
                pthread_mutex_unlock(&lane->lock);
                work->work(work);
                real_work_finished(lane->real, work);
                pthread_mutex_lock(&lane->lock);
        }
        pthread_mutex_unlock(&lane->lock);
        return NULL;
}

/* Signals are the loop thread's: a lane that took one would be interrupted in its system calls. */
static void lane_start_thread(struct real_lane *lane)
{
        static const char *const names[OS_LANES] = {[OS_LANE_LOG] = "log",
                [OS_LANE_READ] = "read",
                [OS_LANE_BACKGROUND] = "background",
                [OS_LANE_CALL] = "call",
                [OS_LANE_HASH] = "hash"};
        pthread_t *thread = &lane->threads[lane->threads_started];
        sigset_t all, before;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(thread, NULL, lane_run, lane);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r)
                fault_exit(EXIT_CODE_BUG, "no thread was to be had: %s", strerror(r));
        pthread_setname_np(*thread, names[lane - lane->real->lanes]);
        lane->threads_started++;
}

void real_work_submit(struct os *os, enum os_lane which, struct os_work *work)
{
        struct real *real = real_of(os);
        struct real_lane *lane = &real->lanes[which];

        real->works_in_lanes++;
        pthread_mutex_lock(&lane->lock);
        assert(!lane->is_ending);
        assert(lane->queued < OS_WORKS_MAX);
        list_add_last(&lane->queue, &work->link);
        lane->queued++;
        if (lane->queued > lane->idle && lane->threads_started < lane->threads_max)
                lane_start_thread(lane);
        pthread_cond_signal(&lane->wanted);
        pthread_mutex_unlock(&lane->lock);
}

void real_lanes_init(struct real *real)
{
        static const unsigned threads[OS_LANES] = {[OS_LANE_LOG] = 1,
                [OS_LANE_READ] = REAL_READ_LANE_THREADS,
                [OS_LANE_BACKGROUND] = 1,
                [OS_LANE_CALL] = REAL_CALL_LANE_THREADS,
                [OS_LANE_HASH] = REAL_HASH_LANE_THREADS};
        unsigned i;

        for (i = 0; i < OS_LANES; i++) {
                struct real_lane *lane = &real->lanes[i];

                lane->real = real;
                lane->threads_max = threads[i];
                list_init(&lane->queue);
                pthread_mutex_init(&lane->lock, NULL);
                pthread_cond_init(&lane->wanted, NULL);
        }
}

void real_lanes_fini(struct real *real)
{
        unsigned i, thread;

        for (i = 0; i < OS_LANES; i++) {
                struct real_lane *lane = &real->lanes[i];

                pthread_mutex_lock(&lane->lock);
                lane->is_ending = true;
                pthread_cond_broadcast(&lane->wanted);
                pthread_mutex_unlock(&lane->lock);
                for (thread = 0; thread < lane->threads_started; thread++)
                        pthread_join(lane->threads[thread], NULL);
                assert(list_is_empty(&lane->queue));
                pthread_mutex_destroy(&lane->lock);
                pthread_cond_destroy(&lane->wanted);
        }
}
