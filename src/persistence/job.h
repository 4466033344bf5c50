/* Work on a lane that the loop may also finish at once.
 *
 * A job is run exactly once: by its lane, or by job_settle on the loop, whichever comes first. So an orderly
 * stop or a truncation can wait for work under way without a loop turn, on the simulated machine too, where
 * nothing else runs meanwhile. A job's memory belongs to its lane until the lane has passed it. */
#ifndef PERSISTENCE_JOB_H
#define PERSISTENCE_JOB_H

#include "os/os.h"

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_RAN };

struct job {
        struct os_work work;
        void (*run)(struct job *job);     /* on the lane, or on the loop when settled */
        void (*finish)(struct job *job);  /* on the loop, after run */
        void (*release)(struct job *job); /* frees the job; the last thing that happens */
        enum job_state state;             /* lock: the room's job lock */
        bool is_finished;                 /* loop */
};

/* Set run, finish and release before. */
void job_submit(struct os *os, enum os_lane lane, struct job *job);
/* Runs, finishes and releases on this thread, without a lane. */
void job_run_here(struct job *job);
/* After this the job has run and finished; its lane releases it later. Harmless if it has finished already.
 */
void job_settle(struct job *job);

#endif
