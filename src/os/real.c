/* The real machine's loop. Each turn is one round of libuv, then the timers that are due, then the hooks.
 * libuv's own timers have milliseconds and would let a turn end without the hooks, so a timer of the kernel
 * bounds the wait. */
#include "os/real.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/ram_disk.h"

/* ---- posts and finished work ---- */

/* One wake-up serves all that came since the loop last looked. Unlocks first: else the loop wakes up only to
 * wait for the lock. */
static void unlock_and_wake(struct real *real)
{
        bool is_woken = real->is_woken;

        real->is_woken = true;
        pthread_mutex_unlock(&real->lock);
        if (!is_woken)
                uv_async_send(&real->wake);
}

static void real_post(struct os *os, void (*fn)(void *arg), void *arg)
{
        struct real *real = real_of(os);
        struct real_posts *posts = &real->posts;

        pthread_mutex_lock(&real->lock);
        assert(posts->count < OS_POSTS_MAX);
        if (posts->count == posts->capacity) {
                posts->capacity = posts->capacity ? posts->capacity * 2 : 64;
                posts->posts = memory_resize(posts->posts, posts->capacity * sizeof posts->posts[0]);
        }
        posts->posts[posts->count++] = (struct real_post){fn, arg};
        unlock_and_wake(real);
}

void real_work_finished(struct real *real, struct os_work *work)
{
        pthread_mutex_lock(&real->lock);
        list_add_last(&real->finished, &work->link);
        pthread_cond_signal(&real->has_finished);
        unlock_and_wake(real);
}

static void run_posts(struct real *real)
{
        struct real_posts taken = real->running;
        size_t i;

        assert(taken.count == 0);
        pthread_mutex_lock(&real->lock);
        real->running = real->posts;
        real->posts = taken;
        pthread_mutex_unlock(&real->lock);
        for (i = 0; i < real->running.count; i++)
                real->running.posts[i].fn(real->running.posts[i].arg);
        real->running.count = 0;
}

static void run_finished(struct real *real)
{
        struct list works;

        list_init(&works);
        pthread_mutex_lock(&real->lock);
        if (!list_is_empty(&real->finished)) {
                list_add_first(&real->finished, &works); /* our head takes the place of the machine's */
                list_remove(&real->finished);
        }
        pthread_mutex_unlock(&real->lock);
        while (!list_is_empty(&works)) {
                struct os_work *work = CONTAINER_OF(works.next, struct os_work, link);

                list_remove(&work->link);
                assert(real->works_in_lanes > 0);
                real->works_in_lanes--;
                work->done(work);
        }
}

static void on_wake(uv_async_t *wake)
{
        struct real *real = CONTAINER_OF(wake, struct real, wake);

        pthread_mutex_lock(&real->lock);
        real->is_woken = false;
        pthread_mutex_unlock(&real->lock);
        if (real->is_ending) /* who would be called may be gone */
                return;
        real->has_run = true;
        run_posts(real);
        run_finished(real);
}

/* ---- timers ---- */

static void real_timer_start(struct os *os, struct os_timer *timer, uint64_t after_us)
{
        struct real *real = real_of(os);
        uint64_t now = os_monotonic_us(os);

        timer->os = os;
        timers_start(&real->timers, timer, after_us < UINT64_MAX - now ? now + after_us : UINT64_MAX,
                real->timer_sequence++);
}

static void real_timer_stop(struct os *os, struct os_timer *timer)
{
        timers_stop(&real_of(os)->timers, timer);
}

/* What a timer starts now waits for the next turn, so that a timer which starts itself does not hold the
 * loop. */
static void run_timers(struct real *real)
{
        uint64_t sequence_end = real->timer_sequence, now;
        const struct timers_entry *first = timers_first(&real->timers);

        if (!first)
                return;
        now = os_monotonic_us(&real->os);
        while ((first = timers_first(&real->timers)) && first->due_us <= now &&
                first->sequence < sequence_end) {
                struct os_timer *timer = first->timer;

                timers_stop(&real->timers, timer);
                real->has_run = true;
                timer->fn(timer);
        }
}

static void on_timer_poll(uv_poll_t *poll, int status, int events)
{
        struct real *real = CONTAINER_OF(poll, struct real, timer_poll);
        uint64_t expirations;

        (void)status;
        (void)events;
        if (read(real->timer_fd, &expirations, sizeof expirations) < 0)
                assert(errno == EAGAIN); /* it was set anew in between */
        real->armed_us = UINT64_MAX;
}

/* Sees to it that the wait ends when the first timer is due; true if one is due already. A timer that was set
 * for something earlier is left alone: waking up once for nothing is cheaper than a system call at each
 * restart. */
static bool arm_timer(struct real *real)
{
        const struct timers_entry *first = timers_first(&real->timers);
        struct itimerspec when = {0};

        if (!first || first->due_us >= real->armed_us)
                return false;
        if (first->due_us <= os_monotonic_us(&real->os))
                return true;
        when.it_value.tv_sec = (time_t)(first->due_us / 1000000);
        when.it_value.tv_nsec = (long)(first->due_us % 1000000 * 1000);
        if (timerfd_settime(real->timer_fd, TFD_TIMER_ABSTIME, &when, NULL))
                fault_exit(EXIT_CODE_BUG, "the kernel's timer refused to be set: %s", strerror(errno));
        real->armed_us = first->due_us;
        return false;
}

/* ---- turns ---- */

static void run_turn(struct real *real)
{
        bool is_due = arm_timer(real);
        bool must_not_wait = real->os.wants_turn || is_due || atomic_load(&real->is_stopping);

        real->has_run = real->os.wants_turn;
        real->os.wants_turn = false;
        real->os.has_turn_time = false;
        uv_run(&real->loop, must_not_wait ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        run_timers(real);
        if (real->has_run)
                os_run_hooks(&real->os);
        real->os.has_turn_time = false;
}

static int real_run(struct os *os)
{
        struct real *real = real_of(os);

        do {
                run_turn(real);
        } while (!atomic_load(&real->is_stopping));
        atomic_store(&real->is_stopping, false);
        return 0;
}

static void real_stop(struct os *os)
{
        struct real *real = real_of(os);

        atomic_store(&real->is_stopping, true);
        uv_async_send(&real->wake);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *signal, int number)
{
        struct real_signal *s = CONTAINER_OF(signal, struct real_signal, handle);
        struct real *real = signal->data;

        (void)number;
        real->has_run = true;
        s->fn(s->arg);
}

static void watch_signal(
        struct real *real, struct real_signal *s, int number, void (*fn)(void *arg), void *arg)
{
        assert(!s->fn);
        s->fn = fn;
        s->arg = arg;
        if (uv_signal_init(&real->loop, &s->handle) || uv_signal_start(&s->handle, on_signal, number))
                fault_exit(EXIT_CODE_BUG, "signal %d cannot be watched", number);
        s->handle.data = real;
}

static void real_on_stop_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        struct real *real = real_of(os);

        watch_signal(real, &real->stop_signals[0], SIGINT, fn, arg);
        watch_signal(real, &real->stop_signals[1], SIGTERM, fn, arg);
}

static void real_on_reload_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        struct real *real = real_of(os);

        watch_signal(real, &real->reload_signal, SIGHUP, fn, arg);
}

static void close_signal(struct real_signal *s)
{
        if (s->fn)
                uv_close((uv_handle_t *)&s->handle, NULL);
}

/* ---- birth and end ---- */

/* Work that was submitted is finished, `done` too: its memory may be waiting for that. */
static void finish_works(struct real *real)
{
        while (real->works_in_lanes) {
                pthread_mutex_lock(&real->lock);
                while (list_is_empty(&real->finished))
                        pthread_cond_wait(&real->has_finished, &real->lock);
                pthread_mutex_unlock(&real->lock);
                run_finished(real);
        }
}

static void real_free(struct os *os)
{
        struct real *real = real_of(os);
        unsigned i;

        real->is_ending = true;
        real_net_fini(real);
        finish_works(real);
        real_lanes_fini(real);
        uv_close((uv_handle_t *)&real->wake, NULL);
        uv_close((uv_handle_t *)&real->timer_poll, NULL);
        for (i = 0; i < COUNT_OF(real->stop_signals); i++)
                close_signal(&real->stop_signals[i]);
        close_signal(&real->reload_signal);
        uv_run(&real->loop, UV_RUN_DEFAULT);
        if (uv_loop_close(&real->loop))
                fault_exit(EXIT_CODE_BUG, "the loop ends while something of it is open");
        close(real->timer_fd);
        timers_fini(&real->timers);
        ram_disk_free(&os->ram);
        free(real->running.posts);
        free(real->posts.posts);
        pthread_mutex_destroy(&real->lock);
        pthread_cond_destroy(&real->has_finished);
        free(real);
}

static const struct os_loop_table real_loop_table = {
        .run = real_run,
        .stop = real_stop,
        .timer_start = real_timer_start,
        .timer_stop = real_timer_stop,
        .post = real_post,
        .work_submit = real_work_submit,
        .on_stop_signal = real_on_stop_signal,
        .on_reload_signal = real_on_reload_signal,
        .free = real_free,
};

/* Half-made handles are not undone: a process that cannot have a loop ends. */
static int start_loop(struct real *real)
{
        int r = uv_loop_init(&real->loop);

        if (r)
                return fault_raise(r);
        r = uv_async_init(&real->loop, &real->wake, on_wake);
        if (r)
                return fault_raise(r);
        real->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (real->timer_fd < 0)
                return fault_raise(-errno);
        real->armed_us = UINT64_MAX;
        r = uv_poll_init(&real->loop, &real->timer_poll, real->timer_fd);
        if (!r)
                r = uv_poll_start(&real->timer_poll, UV_READABLE, on_timer_poll);
        return r ? fault_raise(r) : 0;
}

int os_real_new(struct os **ret)
{
        struct real *real = MEMORY_NEW(struct real);
        int r;

        real->os.clock = &real_clock_table;
        real->os.disk = &real_disk_table;
        real->os.loop = &real_loop_table;
        real->os.net = &real_net_table;
        os_machine_init(&real->os);
        list_init(&real->conns);
        list_init(&real->finished);
        pthread_mutex_init(&real->lock, NULL);
        pthread_cond_init(&real->has_finished, NULL);
        real_lanes_init(real);
        /* A peer that is gone is an error of the write, not the end of the process. */
        signal(SIGPIPE, SIG_IGN);
        r = start_loop(real);
        if (r) {
                free(real);
                return r;
        }
        *ret = &real->os;
        return 0;
}

/* As much as the kernel gives its own memory disks by default. */
void os_memory_disk(struct os *os)
{
        assert(!os->ram);
        os->ram =
                ram_disk_new((uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2, false);
        os->disk = &ram_disk_table;
}
