/* How a caller's thread asks the loop. Two wake-ups a call is what it costs, so calls carry batches: an
 * append all of its events, a read a page. */
#include "embed/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static _Thread_local char newest_problem[512];

enum nilo_result problem_set(enum nilo_result result, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(newest_problem, sizeof newest_problem, format, args);
        va_end(args);
        return result;
}

const char *nilo_problem(void)
{
        return newest_problem;
}

void call_init(struct call *call, struct nilo *nilo, void (*fn)(struct call *call))
{
        pthread_condattr_t monotonic;

        *call = (struct call){.fn = fn, .nilo = nilo};
        pthread_mutex_init(&call->mutex, NULL);
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&call->changed, &monotonic);
        pthread_condattr_destroy(&monotonic);
}

static void run(void *arg)
{
        struct call *call = arg;

        call->fn(call);
}

void call_post(struct call *call)
{
        os_post(call->nilo->os, run, call);
}

enum nilo_result call_run(struct call *call)
{
        call_post(call);
        return call_wait(call);
}

enum nilo_result call_wait(struct call *call)
{
        pthread_mutex_lock(&call->mutex);
        while (!call->has_ended)
                pthread_cond_wait(&call->changed, &call->mutex);
        pthread_mutex_unlock(&call->mutex);
        pthread_cond_destroy(&call->changed);
        pthread_mutex_destroy(&call->mutex);
        if (call->result == NILO_OK || call->result == NILO_END)
                return call->result;
        return problem_set(call->result, "%s", call->problem);
}

void call_end(struct call *call, enum nilo_result result)
{
        pthread_mutex_lock(&call->mutex);
        assert(!call->has_ended);
        call->result = result;
        call->has_ended = true;
        /* Signalled under the lock: the caller destroys the condition as soon as it sees the end. */
        pthread_cond_signal(&call->changed);
        pthread_mutex_unlock(&call->mutex);
}

enum nilo_result call_result(struct call *call, enum nilo_result result)
{
        if (!*call->nilo->disk_fault)
                return result;
        call_problem(call, "%s", call->nilo->disk_fault);
        return NILO_DISK_FAULT;
}

void call_problem(struct call *call, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(call->problem, sizeof call->problem, format, args);
        va_end(args);
}
