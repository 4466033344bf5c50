/* The loop of the real machine: timers, posts, lanes, turn-end hooks. */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"

enum { THREADS = 4, POSTS_OF_A_THREAD = 5000, WORKS = 500, TIMERS = 200 };

struct fixture {
        struct os *os;
        char story[4096];
        struct os_timer timers[TIMERS];
        unsigned count;
        struct os_turn_hook hooks[3];
        unsigned hook_calls;
        uint64_t started_us;
        uint64_t last_us;
};

static void fixture_init(struct fixture *f)
{
        memset(f, 0, sizeof *f);
        assert_int_equal(os_real_new(&f->os), 0);
        f->started_us = os_monotonic_us(f->os);
}

static void run(struct fixture *f)
{
        assert_int_equal(os_run(f->os), 0);
}

static void tell(struct fixture *f, const char *word)
{
        assert_true(strlen(f->story) + strlen(word) + 2 < sizeof f->story);
        strcat(strcat(f->story, word), " ");
}

/* ---- timers ---- */

static void on_timer_told(struct os_timer *timer)
{
        struct fixture *f = timer->arg;
        char word[2] = {(char)('a' + (timer - f->timers)), 0};

        assert_false(timer->is_on);
        assert_true(os_monotonic_us(f->os) >= timer->due_us);
        tell(f, word);
        if (timer == &f->timers[4])
                os_stop(f->os);
}

TEST(timer, runs_in_the_order_of_due_times_not_of_starting)
{
        static const unsigned after_us[] = {3000, 1000, 2000, 400, 5000};
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        for (i = 0; i < COUNT_OF(after_us); i++) {
                f.timers[i] = (struct os_timer){.fn = on_timer_told, .arg = &f};
                os_timer_start(f.os, &f.timers[i], after_us[i]);
        }
        run(&f);
        assert_string_equal(f.story, "d b c a e ");
        assert_true(os_monotonic_us(f.os) - f.started_us >= 5000);
        os_free(&f.os);
}

TEST(timer, a_stopped_one_never_runs_and_a_restarted_one_runs_once)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        for (i = 0; i < 5; i++) {
                f.timers[i] = (struct os_timer){.fn = on_timer_told, .arg = &f};
                os_timer_start(f.os, &f.timers[i], 1000 + i);
        }
        os_timer_stop(&f.timers[1]);
        os_timer_stop(&f.timers[1]);              /* harmless */
        os_timer_start(f.os, &f.timers[0], 2000); /* later */
        os_timer_start(f.os, &f.timers[2], 500);  /* earlier */
        os_timer_start(f.os, &f.timers[4], 3000);
        run(&f);
        assert_string_equal(f.story, "c d a e ");
        os_free(&f.os);
}

static void on_timer_again(struct os_timer *timer)
{
        struct fixture *f = timer->arg;

        if (timer == &f->timers[1]) { /* stops another one that is due in the same turn */
                os_timer_stop(&f->timers[2]);
                tell(f, "stopper");
                return;
        }
        assert_ptr_equal(timer, &f->timers[0]); /* and never the stopped one */
        if (++f->count == 100)
                os_stop(f->os);
        else
                os_timer_start(f->os, timer, 0);
}

static void count_hook(struct os_turn_hook *hook)
{
        struct fixture *f = hook->arg;

        f->hook_calls++;
}

TEST(timer, may_start_itself_and_stop_others_from_its_callback_and_each_turn_has_its_hooks)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        f.hooks[0] = (struct os_turn_hook){.fn = count_hook, .arg = &f};
        os_turn_hook_add(f.os, &f.hooks[0]);
        for (i = 0; i < 3; i++) {
                f.timers[i] = (struct os_timer){.fn = on_timer_again, .arg = &f};
                os_timer_start(f.os, &f.timers[i], i);
        }
        usleep(1000);
        run(&f);
        assert_string_equal(f.story, "stopper ");
        assert_int_equal(f.count, 100);
        /* One start, one turn: a timer that starts itself with 0 does not keep the loop from its other
         * duties. */
        assert_true(f.hook_calls >= 100);
        os_free(&f.os);
}

static void on_timer_counted(struct os_timer *timer)
{
        struct fixture *f = timer->arg;

        assert_true(timer->due_us >= f->last_us);
        f->last_us = timer->due_us;
        if (++f->count == TIMERS / 2)
                os_stop(f->os);
}

TEST(timer, many_keep_their_order_when_half_of_them_are_stopped)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        for (i = 0; i < TIMERS; i++) {
                f.timers[i] = (struct os_timer){.fn = on_timer_counted, .arg = &f};
                os_timer_start(f.os, &f.timers[i], (i * 7919) % 3001);
        }
        for (i = 0; i < TIMERS; i += 2)
                os_timer_stop(&f.timers[i]);
        run(&f);
        for (i = 0; i < TIMERS; i++)
                assert_false(f.timers[i].is_on);
        os_free(&f.os);
}

/* ---- posts ---- */

struct posted;

struct poster {
        struct fixture *f;
        pthread_t thread;
        struct posted *posts;
        unsigned next; /* loop */
};

struct posted {
        struct poster *poster;
        unsigned n;
};

static struct posted posted[THREADS][POSTS_OF_A_THREAD];

static void on_posted(void *arg)
{
        struct posted *p = arg;
        struct fixture *f = p->poster->f;

        assert_int_equal(p->n, p->poster->next);
        p->poster->next++;
        if (++f->count == THREADS * POSTS_OF_A_THREAD)
                os_stop(f->os);
}

static void *post_all(void *arg)
{
        struct poster *poster = arg;
        unsigned i;

        for (i = 0; i < POSTS_OF_A_THREAD; i++)
                os_post(poster->f->os, on_posted, &poster->posts[i]);
        return NULL;
}

TEST(post, from_many_threads_each_in_its_order)
{
        struct poster posters[THREADS] = {0};
        struct fixture f;
        unsigned i, n;

        fixture_init(&f);
        f.hooks[0] = (struct os_turn_hook){.fn = count_hook, .arg = &f};
        os_turn_hook_add(f.os, &f.hooks[0]);
        for (i = 0; i < THREADS; i++) {
                posters[i].f = &f;
                posters[i].posts = posted[i];
                for (n = 0; n < POSTS_OF_A_THREAD; n++)
                        posted[i][n] = (struct posted){&posters[i], n};
                assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
        }
        run(&f);
        for (i = 0; i < THREADS; i++)
                pthread_join(posters[i].thread, NULL);
        assert_int_equal(f.count, THREADS * POSTS_OF_A_THREAD);
        assert_true(f.hook_calls >= 1);
        os_free(&f.os);
}

static void on_post_hooked(void *arg)
{
        struct fixture *f = arg;

        tell(f, "post");
        if (++f->count == 3)
                os_stop(f->os);
        else
                os_post(f->os, on_post_hooked, f); /* for a later turn */
}

static void tell_hook(struct os_turn_hook *hook)
{
        struct fixture *f = hook->arg;

        tell(f, hook == &f->hooks[0] ? "first" : "second");
}

TEST(hook, runs_after_each_turn_of_posts_in_the_order_of_registration)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        for (i = 0; i < 2; i++) {
                f.hooks[i] = (struct os_turn_hook){.fn = tell_hook, .arg = &f};
                os_turn_hook_add(f.os, &f.hooks[i]);
        }
        os_post(f.os, on_post_hooked, &f);
        run(&f);
        assert_string_equal(f.story, "post first second post first second post first second ");
        os_free(&f.os);
}

static void on_hook_again(struct os_turn_hook *hook)
{
        struct fixture *f = hook->arg;

        if (++f->hook_calls == 10)
                os_stop(f->os);
        else
                os_turn_again(f->os);
}

TEST(hook, turn_again_polls_without_waiting)
{
        struct fixture f;

        fixture_init(&f);
        f.hooks[0] = (struct os_turn_hook){.fn = on_hook_again, .arg = &f};
        os_turn_hook_add(f.os, &f.hooks[0]);
        os_turn_again(f.os);
        run(&f); /* nothing else is on: a turn that waited would wait for ever */
        assert_int_equal(f.hook_calls, 10);
        os_free(&f.os);
}

static void on_hook_removes(struct os_turn_hook *hook)
{
        struct fixture *f = hook->arg;

        tell(f, "remover");
        os_turn_hook_remove(hook);
        os_turn_hook_remove(&f->hooks[1]);
        os_turn_hook_remove(&f->hooks[1]); /* harmless */
        os_turn_hook_add(f->os, &f->hooks[2]);
        os_stop(f->os);
}

TEST(hook, may_remove_itself_and_others_and_add_one)
{
        struct fixture f;

        fixture_init(&f);
        f.hooks[0] = (struct os_turn_hook){.fn = on_hook_removes, .arg = &f};
        f.hooks[1] = (struct os_turn_hook){.fn = tell_hook, .arg = &f};
        f.hooks[2] = (struct os_turn_hook){.fn = tell_hook, .arg = &f};
        os_turn_hook_add(f.os, &f.hooks[0]);
        os_turn_hook_add(f.os, &f.hooks[1]);
        os_turn_again(f.os);
        run(&f);
        assert_string_equal(f.story, "remover second "); /* hooks[2] tells "second" too, but once only */
        os_turn_hook_remove(&f.hooks[2]);
        os_free(&f.os);
}

/* ---- stop ---- */

static void *stop_soon(void *arg)
{
        usleep(20000);
        os_stop(arg);
        return NULL;
}

TEST(stop, from_another_thread_before_and_while_the_loop_waits)
{
        struct fixture f;
        pthread_t thread;

        fixture_init(&f);
        os_stop(f.os); /* before it runs: not forgotten */
        run(&f);
        assert_int_equal(pthread_create(&thread, NULL, stop_soon, f.os), 0);
        run(&f); /* and the first stop is used up */
        assert_true(os_monotonic_us(f.os) - f.started_us >= 20000);
        pthread_join(thread, NULL);
        os_free(&f.os);
}

static void on_signal(void *arg)
{
        struct fixture *f = arg;

        f->count++;
        os_stop(f->os);
}

TEST(stop, signals_come_on_the_loop)
{
        struct fixture f;

        fixture_init(&f);
        os_on_stop_signal(f.os, on_signal, &f);
        raise(SIGTERM);
        run(&f);
        raise(SIGINT);
        run(&f);
        assert_int_equal(f.count, 2);
        os_on_reload_signal(f.os, on_signal, &f);
        raise(SIGHUP);
        run(&f);
        assert_int_equal(f.count, 3);
        os_free(&f.os);
}

/* ---- lanes ---- */

struct item {
        struct os_work work;
        struct fixture *f;
        unsigned n;
        bool was_on_lane;
};

static atomic_uint ran[OS_LANES], overlapping;
static pthread_t loop_thread;

static void item_work(struct os_work *work)
{
        struct item *item = CONTAINER_OF(work, struct item, work);
        enum os_lane lane = (enum os_lane)(uintptr_t)work->arg;

        assert(!pthread_equal(pthread_self(), loop_thread));
        if (lane != OS_LANE_READ) { /* one thread: strictly in order */
                assert(atomic_load(&ran[lane]) == item->n);
                assert(atomic_fetch_add(&overlapping, 1) == 0 || lane == OS_LANE_BACKGROUND);
                atomic_fetch_sub(&overlapping, 1);
        }
        atomic_fetch_add(&ran[lane], 1);
        item->was_on_lane = true;
}

static void item_done(struct os_work *work)
{
        struct item *item = CONTAINER_OF(work, struct item, work);

        assert_true(pthread_equal(pthread_self(), loop_thread));
        assert_true(item->was_on_lane);
        if (++item->f->count == WORKS)
                os_stop(item->f->os);
}

static void check_lane(enum os_lane lane)
{
        static struct item items[WORKS];
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        loop_thread = pthread_self();
        atomic_store(&ran[lane], 0);
        for (i = 0; i < WORKS; i++) {
                items[i] = (struct item){.f = &f, .n = i};
                items[i].work = (struct os_work){
                        .work = item_work, .done = item_done, .arg = (void *)(uintptr_t)lane};
                os_work_submit(f.os, lane, &items[i].work);
        }
        run(&f);
        assert_int_equal(f.count, WORKS);
        os_free(&f.os);
}

TEST(lane, log_runs_strictly_in_order_and_settles_on_the_loop)
{
        check_lane(OS_LANE_LOG);
}

TEST(lane, background_runs_strictly_in_order)
{
        check_lane(OS_LANE_BACKGROUND);
}

TEST(lane, read_runs_all)
{
        check_lane(OS_LANE_READ);
}

static pthread_barrier_t both;

static void meet(struct os_work *work)
{
        (void)work;
        pthread_barrier_wait(&both); /* never comes back on a lane of one thread */
}

static void met(struct os_work *work)
{
        struct fixture *f = work->arg;

        if (++f->count == 2)
                os_stop(f->os);
}

TEST(lane, read_has_two_threads)
{
        struct os_work works[2];
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        pthread_barrier_init(&both, NULL, 2);
        for (i = 0; i < 2; i++) {
                works[i] = (struct os_work){.work = meet, .done = met, .arg = &f};
                os_work_submit(f.os, OS_LANE_READ, &works[i]);
        }
        run(&f);
        pthread_barrier_destroy(&both);
        os_free(&f.os);
}

static void slow_work(struct os_work *work)
{
        (void)work;
        usleep(5000);
}

static void slow_done(struct os_work *work)
{
        struct fixture *f = work->arg;

        f->count++;
}

TEST(lane, what_was_submitted_is_finished_when_the_machine_ends)
{
        struct os_work works[3];
        struct fixture f;
        unsigned i;

        fixture_init(&f);
        for (i = 0; i < 3; i++) {
                works[i] = (struct os_work){.work = slow_work, .done = slow_done, .arg = &f};
                os_work_submit(f.os, OS_LANE_LOG, &works[i]);
        }
        os_free(&f.os);
        assert_null(f.os);
        assert_int_equal(f.count, 3);
}

/* ---- clock ---- */

static void on_time_asked(void *arg)
{
        struct fixture *f = arg;
        struct os_time first = os_turn_time(f->os), second;
        uint64_t began = os_monotonic_us(f->os), ended;
        uint64_t sum = 0;
        unsigned i;

        assert_true(first.monotonic_us <= began);
        assert_true(first.wall_us > 1600000000000000);
        usleep(2000);
        second = os_turn_time(f->os);
        assert_int_equal(first.monotonic_us, second.monotonic_us); /* the same for the whole turn */
        assert_int_equal(first.wall_us, second.wall_us);
        if (f->count++ == 0) {
                f->last_us = first.monotonic_us;
                os_post(f->os, on_time_asked, f);
                return;
        }
        assert_true(first.monotonic_us >= f->last_us + 2000); /* and newer in the next */
        began = os_monotonic_us(f->os);
        for (i = 0; i < 10000000; i++)
                sum += os_turn_time(f->os).monotonic_us;
        ended = os_monotonic_us(f->os);
        assert_true(sum == first.monotonic_us * i); /* both run over alike */
        print_message("os_turn_time: %.1f ns\n", (double)(ended - began) / 1e4);
        os_stop(f->os);
}

TEST(clock, turn_time_stands_still_within_a_turn)
{
        struct fixture f;

        fixture_init(&f);
        os_post(f.os, on_time_asked, &f);
        run(&f);
        os_free(&f.os);
}

TEST(chance, two_draws_differ)
{
        uint8_t first[32] = {0}, second[32] = {0};
        struct fixture f;

        fixture_init(&f);
        os_random(f.os, first, sizeof first);
        os_random(f.os, second, sizeof second);
        assert_memory_not_equal(first, second, sizeof first);
        os_free(&f.os);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(timer, runs_in_the_order_of_due_times_not_of_starting),
                TEST_ROW(timer, a_stopped_one_never_runs_and_a_restarted_one_runs_once),
                TEST_ROW(timer,
                        may_start_itself_and_stop_others_from_its_callback_and_each_turn_has_its_hooks),
                TEST_ROW(timer, many_keep_their_order_when_half_of_them_are_stopped),
                TEST_ROW(post, from_many_threads_each_in_its_order),
                TEST_ROW(hook, runs_after_each_turn_of_posts_in_the_order_of_registration),
                TEST_ROW(hook, turn_again_polls_without_waiting),
                TEST_ROW(hook, may_remove_itself_and_others_and_add_one),
                TEST_ROW(stop, from_another_thread_before_and_while_the_loop_waits),
                TEST_ROW(stop, signals_come_on_the_loop),
                TEST_ROW(lane, log_runs_strictly_in_order_and_settles_on_the_loop),
                TEST_ROW(lane, background_runs_strictly_in_order),
                TEST_ROW(lane, read_runs_all),
                TEST_ROW(lane, read_has_two_threads),
                TEST_ROW(lane, what_was_submitted_is_finished_when_the_machine_ends),
                TEST_ROW(clock, turn_time_stands_still_within_a_turn),
                TEST_ROW(chance, two_draws_differ),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
