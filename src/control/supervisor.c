/* Supervisors: who is stopped and started again when a worker fails, and when to give up.
 *
 * A failure is only noted where it is reported: the worker that reports it may still be on the stack. The
 * rest runs from the supervisor's timer: first the stops, in reverse order, in the next turn; then, after a
 * pause that doubles with each failure of the period, the starts in order. A worker that fails during the
 * pause joins those that wait. */
#include "base/memory.h"
#include "control/room.h"

#include <stdlib.h>

enum {
        PAUSE_FIRST_US = 10 * 1000,
        PAUSE_MAX_US = 1000 * 1000,
};

enum worker_state {
        WORKER_STOPPED,
        WORKER_RUNNING,
        WORKER_FAILED, /* it has said so, and is stopped in the next turn */
};

struct worker {
        struct supervised supervised;
        enum worker_state state;
        unsigned restarts;
};

struct supervisor {
        struct control *control;
        struct supervisor_options options;
        struct worker *workers;
        unsigned count;
        uint64_t *failures; /* when: a ring of restarts_max + 1 */
        uint64_t failure_count;
        struct os_timer timer;
        bool is_given_up;
};

static void tell(struct supervisor *s, enum fact_type type, const struct worker *worker, const char *reason,
        unsigned count)
{
        struct fact_payload payload = {.subsystem = (uint8_t)s->options.subsystem, .count = count};

        fact_set_text(&payload, reason ? "%s: %s" : "%s", worker->supervised.name, reason);
        control_publish(s->control, type, &payload);
}

static int worker_start(struct supervisor *s, struct worker *worker)
{
        int r = worker->supervised.start(worker->supervised.arg);

        if (r == 0) {
                worker->state = WORKER_RUNNING;
                if (worker->restarts)
                        tell(s, FACT_worker_restarted, worker, NULL, worker->restarts);
                else
                        tell(s, FACT_worker_started, worker, NULL, 0);
        }
        return r;
}

/* Also one that has failed is stopped: only it knows what it still holds. */
static void worker_stop(struct worker *worker)
{
        if (worker->state == WORKER_STOPPED)
                return;
        worker->state = WORKER_STOPPED;
        worker->supervised.stop(worker->supervised.arg);
}

static void stop_from(struct supervisor *s, unsigned first)
{
        for (unsigned i = s->count; i-- > first;)
                worker_stop(&s->workers[i]);
}

/* Failures within the period, with the newest. */
static unsigned count_failures(const struct supervisor *s, uint64_t now_us)
{
        unsigned capacity = s->options.restarts_max + 1;
        unsigned n = 0;

        for (uint64_t i = 1; i <= MIN(s->failure_count, (uint64_t)capacity); i++)
                if (now_us - s->failures[(s->failure_count - i) % capacity] <= s->options.period_us)
                        n++;
        return n;
}

/* The pause before the n-th restart of a period. */
static uint64_t pause_before(unsigned n)
{
        uint64_t pause = PAUSE_FIRST_US;

        if (n <= 1)
                return 0;
        for (; n > 2 && pause < PAUSE_MAX_US; n--)
                pause *= 2;
        return MIN(pause, (uint64_t)PAUSE_MAX_US);
}

static void give_up(struct supervisor *s, const struct worker *worker, unsigned failures)
{
        s->is_given_up = true;
        os_timer_stop(&s->timer);
        tell(s, FACT_restarts_exhausted, worker, NULL, failures);
        if (s->options.on_exhausted)
                s->options.on_exhausted(s->options.arg);
}

static void note_failure(struct supervisor *s, struct worker *worker, const char *reason)
{
        uint64_t now_us = os_monotonic_us(s->control->os);
        unsigned failures;

        s->failures[s->failure_count++ % (s->options.restarts_max + 1)] = now_us;
        tell(s, FACT_worker_failed, worker, reason ? reason : "no reason was given", 0);
        failures = count_failures(s, now_us);
        if (failures > s->options.restarts_max)
                give_up(s, worker, failures);
}

/* Stops whom the strategy names. True if some were. */
static bool stop_affected(struct supervisor *s)
{
        unsigned first = 0;

        while (first < s->count && s->workers[first].state != WORKER_FAILED)
                first++;
        if (first == s->count)
                return false;
        switch (s->options.strategy) {
        case ONE_FOR_ALL:
                stop_from(s, 0);
                break;
        case REST_FOR_ONE:
                stop_from(s, first);
                break;
        case ONE_FOR_ONE:
                for (unsigned i = s->count; i-- > first;)
                        if (s->workers[i].state == WORKER_FAILED)
                                worker_stop(&s->workers[i]);
                break;
        }
        return true;
}

/* Starts in order all that wait. One that cannot start ends the round: later ones may need it. */
static void start_stopped(struct supervisor *s)
{
        for (unsigned i = 0; i < s->count && !s->is_given_up; i++) {
                struct worker *worker = &s->workers[i];

                if (worker->state != WORKER_STOPPED)
                        continue;
                worker->restarts++;
                if (worker_start(s, worker) == 0)
                        continue;
                note_failure(s, worker, "it could not start");
                if (!s->is_given_up)
                        os_timer_start(s->control->os, &s->timer,
                                pause_before(count_failures(s, os_monotonic_us(s->control->os))));
                return;
        }
}

static void on_timer(struct os_timer *timer)
{
        struct supervisor *s = timer->arg;
        uint64_t pause_us;

        if (stop_affected(s)) {
                pause_us = pause_before(count_failures(s, os_monotonic_us(s->control->os)));
                if (pause_us) {
                        os_timer_start(s->control->os, &s->timer, pause_us);
                        return;
                }
        }
        start_stopped(s);
}

int supervisor_start(struct control *control, const struct supervisor_options *options,
        const struct supervised *workers, unsigned count, struct supervisor **ret)
{
        struct supervisor *s = MEMORY_NEW(struct supervisor);
        int r = 0;

        assert((unsigned)options->subsystem < SUBSYSTEMS);
        s->control = control;
        s->options = *options;
        s->count = count;
        s->workers = memory_new_array(count, sizeof s->workers[0]);
        s->failures = memory_new_array(options->restarts_max + 1, sizeof s->failures[0]);
        s->timer = (struct os_timer){.fn = on_timer, .arg = s};
        for (unsigned i = 0; i < count && r == 0; i++) {
                s->workers[i].supervised = workers[i];
                r = worker_start(s, &s->workers[i]);
        }
        if (r) {
                supervisor_stop(&s);
                return r;
        }
        *ret = s;
        return 0;
}

void supervisor_failed(struct supervisor *s, const char *name, const char *reason)
{
        struct worker *worker = NULL;

        for (unsigned i = 0; i < s->count && !worker; i++)
                if (strcmp(s->workers[i].supervised.name, name) == 0)
                        worker = &s->workers[i];
        assert(worker);
        if (worker->state != WORKER_RUNNING || s->is_given_up)
                return; /* it has been told already, or is being stopped */
        worker->state = WORKER_FAILED;
        note_failure(s, worker, reason);
        if (!s->is_given_up)
                os_timer_start(s->control->os, &s->timer, 0);
}

void supervisor_stop(struct supervisor **supervisor)
{
        struct supervisor *s = *supervisor;

        *supervisor = NULL;
        if (!s)
                return;
        os_timer_stop(&s->timer);
        stop_from(s, 0);
        free(s->failures);
        free(s->workers);
        free(s);
}
