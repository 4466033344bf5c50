/* The contract of control on the simulated machine: facts, readiness, supervision, loggers. */
#include "control/control.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_sim.h"
#include "test.h"

struct world {
        struct os *os;
        struct control *control;
};

static void open_with(struct world *w, struct control_options options)
{
        assert_int_equal(os_sim_new(7, &w->os), 0);
        options.os = w->os;
        options.node_name = "node-1";
        assert_int_equal(control_open(&options, &w->control), 0);
}

static void open_world(struct world *w)
{
        open_with(w, (struct control_options){.log_fd = -1, .ring_facts = 64, .log_level = LEVEL_INFO});
}

static void close_world(struct world *w)
{
        control_close(&w->control);
        assert_null(w->control);
        os_free(&w->os);
}

static void run(struct world *w, uint64_t us)
{
        os_sim_run_for(w->os, us);
}

/* ---- watchers ---- */

struct taker {
        struct control_watcher watcher;
        struct world *world;
        unsigned calls;
        unsigned taken;
        unsigned types[512];
        uint64_t counts[512];
        uint64_t missed;
        enum fact_type answer; /* published from inside, once */
        bool has_answer;
};

static void take_all(struct control_watcher *watcher)
{
        struct taker *t = CONTAINER_OF(watcher, struct taker, watcher);
        struct fact fact;
        uint64_t missed;

        t->calls++;
        while (control_take(watcher, &fact, &missed)) {
                t->missed += missed;
                assert_true(t->taken < COUNT_OF(t->types));
                t->counts[t->taken] = fact.payload.count;
                t->types[t->taken++] = fact.type;
                if (t->has_answer) {
                        t->has_answer = false;
                        control_publish(t->world->control, t->answer, NULL);
                }
        }
}

static struct taker taker_of(struct world *w, uint32_t categories, enum log_level level)
{
        return (struct taker){
                .watcher = {.on_facts = take_all, .categories = categories, .level = level},
                .world = w,
        };
}

static const uint32_t everything = (1u << CATEGORIES) - 1;

TEST(bus, watcher_gets_what_it_wants_in_order)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, 1u << CATEGORY_PERSISTENCE, LEVEL_TRACE);
        control_watch(w.control, &t.watcher, false);
        control_publish(w.control, FACT_events_persisted, &(struct fact_payload){.count = 1});
        control_publish(w.control, FACT_listening, NULL); /* another category */
        control_publish(w.control, FACT_write_acknowledged, &(struct fact_payload){.count = 2});
        assert_int_equal(t.calls, 0); /* at the end of the turn, not from inside */
        run(&w, 5);
        assert_int_equal(t.calls, 1);
        assert_int_equal(t.taken, 2);
        assert_int_equal(t.types[0], FACT_events_persisted);
        assert_int_equal(t.types[1], FACT_write_acknowledged);
        assert_int_equal(t.counts[1], 2);
        control_unwatch(&t.watcher);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, level_leaves_out_louder_facts)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, everything, LEVEL_WARNING);
        control_watch(w.control, &t.watcher, false);
        control_publish(w.control, FACT_events_persisted, NULL);
        control_publish(w.control, FACT_torn_tail_cut, NULL);
        control_publish(w.control, FACT_listening, NULL);
        run(&w, 5);
        assert_int_equal(t.taken, 1);
        assert_int_equal(t.types[0], FACT_torn_tail_cut);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, slow_watcher_learns_exactly_how_many_it_missed)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, 1u << CATEGORY_PERSISTENCE, LEVEL_TRACE);
        control_watch(w.control, &t.watcher, false);
        for (unsigned i = 0; i < 100; i++) { /* a ring of 64 holds 32 of each kind */
                control_publish(w.control, FACT_events_persisted, &(struct fact_payload){.count = i});
                control_publish(w.control, FACT_listening, NULL);
        }
        run(&w, 5);
        assert_int_equal(t.missed, 68);
        assert_int_equal(t.taken, 32);
        assert_int_equal(t.counts[0], 68);
        assert_int_equal(t.counts[31], 99);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, misses_that_nothing_follows_are_told_by_a_fact)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, 1u << CATEGORY_LEADERSHIP, LEVEL_TRACE);
        control_watch(w.control, &t.watcher, false);
        control_publish(w.control, FACT_leader_changed, NULL);
        for (unsigned i = 0; i < 64; i++)
                control_publish(w.control, FACT_listening, NULL);
        run(&w, 5);
        assert_int_equal(t.missed, 1);
        assert_int_equal(t.taken, 1);
        assert_int_equal(t.types[0], FACT_facts_dropped);
        assert_int_equal(t.counts[0], 1);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, late_watcher_begins_with_the_oldest)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, everything, LEVEL_TRACE);
        control_publish(w.control, FACT_events_persisted, NULL);
        run(&w, 5);
        control_watch(w.control, &t.watcher, true);
        run(&w, 5);
        assert_int_equal(t.taken, 1);
        assert_int_equal(t.types[0], FACT_events_persisted);
        assert_int_equal(t.missed, 0);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, fact_published_by_a_watcher_waits_for_the_next_delivery)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, everything, LEVEL_TRACE);
        t.has_answer = true;
        t.answer = FACT_notification_triggered;
        control_watch(w.control, &t.watcher, false);
        control_publish(w.control, FACT_events_persisted, NULL);
        run(&w, 5);
        assert_int_equal(t.calls, 2);
        assert_int_equal(t.taken, 2);
        assert_int_equal(t.types[1], FACT_notification_triggered);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(bus, watcher_outlives_the_bus)
{
        struct world w;
        struct taker t;

        open_world(&w);
        t = taker_of(&w, everything, LEVEL_TRACE);
        control_watch(w.control, &t.watcher, false);
        close_world(&w);
        control_unwatch(&t.watcher);
        assert_null(t.watcher.control);
}

TEST(facts, name_of_a_stream_cannot_forge_a_line)
{
        struct world w;
        struct fact_payload p = {0};
        struct taker t;
        struct fact fact;
        uint64_t missed;
        struct buffer text = {0};
        struct json_out j = {.out = &text};

        open_world(&w);
        t = taker_of(&w, everything, LEVEL_TRACE);
        control_watch(w.control, &t.watcher, false);
        fact_set_stream(&p, bytes_of_string("a\n2026 error \"x\xe2\x80\xae"), 5);
        control_publish(w.control, FACT_events_persisted, &p);
        assert_true(control_take(&t.watcher, &fact, &missed));
        fact_to_text(w.control, &fact, &text);
        assert_null(memchr(text.data, '\n', text.size));
        assert_null(memmem(text.data, text.size, "\xe2\x80\xae", 3));
        buffer_clear(&text);
        fact_to_json(w.control, &fact, &j);
        assert_null(memchr(text.data, '\n', text.size));
        assert_non_null(memmem(text.data, text.size, "\"type\":\"events_persisted\"", 25));
        buffer_fini(&text);
        control_unwatch(&t.watcher);
        close_world(&w);
}

TEST(facts, every_name_is_found_again)
{
        for (unsigned i = 0; i < CATEGORIES; i++) {
                enum fact_category category;

                assert_true(fact_category_parse(fact_category_name(i), &category));
                assert_int_equal(category, i);
        }
        for (unsigned i = 0; i < SUBSYSTEMS; i++) {
                enum subsystem subsystem;

                assert_true(subsystem_parse(subsystem_name(i), &subsystem));
                assert_int_equal(subsystem, i);
        }
        for (unsigned i = 0; i < LEVELS; i++) {
                enum log_level level;

                assert_true(log_level_parse(log_level_name(i), &level));
                assert_int_equal(level, i);
        }
        for (unsigned i = 0; i < FACTS; i++) {
                assert_true(strlen(fact_describe(i)->name) > 0);
                assert_true(strlen(fact_describe(i)->text) > 0);
        }
}

/* ---- readiness ---- */

struct start {
        struct world *world;
        enum subsystem subsystem;
        bool is_ready_at_once;
        unsigned calls;
};

static void on_start(void *arg)
{
        struct start *s = arg;

        s->calls++;
        if (s->is_ready_at_once)
                control_ready(s->world->control, s->subsystem);
}

struct end {
        unsigned calls;
        bool is_ready;
};

static void on_end(void *arg, bool is_ready)
{
        struct end *e = arg;

        e->calls++;
        e->is_ready = is_ready;
}

TEST(plane, system_is_ready_when_every_subsystem_is)
{
        struct world w;
        struct start a = {.world = &w, .subsystem = SUBSYSTEM_STORE};
        struct start b = {.world = &w, .subsystem = SUBSYSTEM_GATEWAY, .is_ready_at_once = true};
        struct control_subsystem all[] = {{SUBSYSTEM_STORE, on_start, &a}, {SUBSYSTEM_GATEWAY, on_start, &b}};
        struct end end = {0};

        open_world(&w);
        control_start(w.control, all, 2, on_end, &end);
        assert_int_equal(a.calls, 1); /* both run at the same time */
        assert_int_equal(b.calls, 1);
        assert_int_equal(end.calls, 0);
        assert_false(control_is_ready(w.control));
        assert_string_equal(control_pending(w.control), "store");
        assert_int_equal(control_readiness(w.control, SUBSYSTEM_GATEWAY), READINESS_READY);
        control_ready(w.control, SUBSYSTEM_STORE);
        assert_int_equal(end.calls, 1);
        assert_true(end.is_ready);
        assert_true(control_is_ready(w.control));
        assert_string_equal(control_pending(w.control), "");
        control_ready(w.control, SUBSYSTEM_STORE); /* said twice: no matter */
        assert_int_equal(end.calls, 1);
        control_failed(w.control, SUBSYSTEM_STORE, "the disk died");
        assert_false(control_is_ready(w.control));
        close_world(&w);
}

TEST(plane, first_failure_ends_the_start)
{
        struct world w;
        struct start a = {.world = &w, .subsystem = SUBSYSTEM_STORE};
        struct control_subsystem all[] = {{SUBSYSTEM_STORE, on_start, &a}};
        struct end end = {0};

        open_world(&w);
        control_start(w.control, all, 1, on_end, &end);
        control_failed(w.control, SUBSYSTEM_STORE, "no disk");
        assert_int_equal(end.calls, 1);
        assert_false(end.is_ready);
        control_ready(w.control, SUBSYSTEM_STORE); /* a failure is final */
        assert_int_equal(end.calls, 1);
        assert_false(control_is_ready(w.control));
        close_world(&w);
}

/* ---- supervision ---- */

struct crew {
        struct world *world;
        char log[256];     /* "+a" started, "-a" stopped */
        unsigned refusals; /* starts to come that fail */
        unsigned exhausted;
};
struct hand {
        struct crew *crew;
        const char *name;
};

static int hand_start(void *arg)
{
        struct hand *h = arg;

        if (strcmp(h->name, "b") == 0 && h->crew->refusals > 0) {
                h->crew->refusals--;
                return -EIO;
        }
        strcat(strcat(h->crew->log, "+"), h->name);
        return 0;
}

static void hand_stop(void *arg)
{
        struct hand *h = arg;

        strcat(strcat(h->crew->log, "-"), h->name);
}

static void on_exhausted(void *arg)
{
        struct crew *crew = arg;

        crew->exhausted++;
}

static int start_crew(struct world *w, struct crew *crew, enum supervision strategy, struct hand hands[3],
        struct supervisor **ret)
{
        struct supervisor_options options = {
                .subsystem = SUBSYSTEM_NOTIFICATION,
                .strategy = strategy,
                .restarts_max = 3,
                .period_us = 5 * 1000 * 1000,
                .on_exhausted = on_exhausted,
                .arg = crew,
        };
        struct supervised workers[3];
        static const char *const names[] = {"a", "b", "c"};

        crew->world = w;
        for (unsigned i = 0; i < 3; i++) {
                hands[i] = (struct hand){.crew = crew, .name = names[i]};
                workers[i] = (struct supervised){names[i], hand_start, hand_stop, &hands[i]};
        }
        return supervisor_start(w->control, &options, workers, 3, ret);
}

static void fails_of_b(enum supervision strategy, const char *expected)
{
        struct world w;
        struct crew crew = {0};
        struct hand hands[3];
        struct supervisor *s;

        open_world(&w);
        assert_int_equal(start_crew(&w, &crew, strategy, hands, &s), 0);
        assert_string_equal(crew.log, "+a+b+c");
        crew.log[0] = '\0';
        supervisor_failed(s, "b", "it broke");
        assert_string_equal(crew.log, ""); /* never from inside the failing call */
        run(&w, 5);
        assert_string_equal(crew.log, expected);
        crew.log[0] = '\0';
        supervisor_stop(&s);
        assert_null(s);
        assert_string_equal(crew.log, "-c-b-a");
        close_world(&w);
}

TEST(supervisor, one_for_one_restarts_the_failed_one)
{
        fails_of_b(ONE_FOR_ONE, "-b+b");
}

TEST(supervisor, rest_for_one_restarts_those_after_it_too)
{
        fails_of_b(REST_FOR_ONE, "-c-b+b+c");
}

TEST(supervisor, one_for_all_restarts_all)
{
        fails_of_b(ONE_FOR_ALL, "-c-b-a+a+b+c");
}

TEST(supervisor, pauses_grow_and_the_limit_ends_it_once)
{
        struct world w;
        struct crew crew = {0};
        struct hand hands[3];
        struct supervisor *s;

        open_world(&w);
        assert_int_equal(start_crew(&w, &crew, ONE_FOR_ONE, hands, &s), 0);
        crew.log[0] = '\0';
        supervisor_failed(s, "b", "1");
        run(&w, 5);
        assert_string_equal(crew.log, "-b+b");
        supervisor_failed(s, "b", "2");
        supervisor_failed(s, "b", "2"); /* it cannot fail twice */
        run(&w, 9 * 1000);
        assert_string_equal(crew.log, "-b+b-b"); /* 10 ms have not passed */
        run(&w, 2 * 1000);
        assert_string_equal(crew.log, "-b+b-b+b");
        supervisor_failed(s, "b", "3");
        run(&w, 19 * 1000);
        assert_string_equal(crew.log, "-b+b-b+b-b");
        run(&w, 2 * 1000);
        assert_int_equal(crew.exhausted, 0);
        supervisor_failed(s, "b", "4");
        assert_int_equal(crew.exhausted, 1);
        run(&w, 10 * 1000 * 1000);
        assert_string_equal(crew.log, "-b+b-b+b-b+b"); /* nothing is restarted any more */
        supervisor_failed(s, "a", "5");
        assert_int_equal(crew.exhausted, 1);
        supervisor_stop(&s);
        close_world(&w);
}

TEST(supervisor, failures_of_an_older_period_are_forgiven)
{
        struct world w;
        struct crew crew = {0};
        struct hand hands[3];
        struct supervisor *s;

        open_world(&w);
        assert_int_equal(start_crew(&w, &crew, ONE_FOR_ONE, hands, &s), 0);
        for (unsigned i = 0; i < 10; i++) {
                supervisor_failed(s, "a", "again");
                run(&w, 6 * 1000 * 1000);
        }
        assert_int_equal(crew.exhausted, 0);
        supervisor_stop(&s);
        close_world(&w);
}

TEST(supervisor, worker_that_cannot_start_again_is_tried_until_the_limit)
{
        struct world w;
        struct crew crew = {0};
        struct hand hands[3];
        struct supervisor *s;

        open_world(&w);
        assert_int_equal(start_crew(&w, &crew, REST_FOR_ONE, hands, &s), 0);
        crew.log[0] = '\0';
        crew.refusals = 2;
        supervisor_failed(s, "b", "it broke");
        run(&w, 100 * 1000);
        assert_string_equal(crew.log, "-c-b+b+c");
        assert_int_equal(crew.exhausted, 0);
        crew.refusals = 100;
        supervisor_failed(s, "b", "it broke");
        run(&w, 100 * 1000);
        assert_int_equal(crew.exhausted, 1);
        supervisor_stop(&s); /* b and c are not running */
        assert_string_equal(crew.log, "-c-b+b+c-c-b-a");
        close_world(&w);
}

TEST(supervisor, first_start_that_fails_stops_those_before_it)
{
        struct world w;
        struct crew crew = {.refusals = 1};
        struct hand hands[3];
        struct supervisor *s = NULL;

        open_world(&w);
        assert_int_equal(start_crew(&w, &crew, ONE_FOR_ONE, hands, &s), -EIO);
        assert_null(s);
        assert_string_equal(crew.log, "+a-a");
        close_world(&w);
}

/* ---- loggers ---- */

static char *read_all(const char *path)
{
        static char text[4 << 20];
        FILE *f = fopen(path, "r");
        size_t n;

        assert_non_null(f);
        n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
        return text;
}

static unsigned count_lines(const char *text)
{
        unsigned n = 0;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

TEST(logger, each_subsystem_has_a_level_of_its_own)
{
        char path[] = "/tmp/nilo-log-XXXXXX";
        int fd = mkstemp(path);
        struct world w;
        char *text;

        assert_true(fd >= 0);
        open_with(&w, (struct control_options){.log_fd = fd, .log_level = LEVEL_INFO});
        control_publish(w.control, FACT_events_persisted, NULL); /* trace */
        control_publish(w.control, FACT_listening, &(struct fact_payload){.text_size = 2, .text = "hi"});
        control_set_log_level(w.control, SUBSYSTEM_STORE, LEVEL_TRACE);
        control_publish(w.control, FACT_events_persisted, NULL);
        control_set_log_level(w.control, SUBSYSTEM_GATEWAY, LEVEL_ERROR);
        control_publish(w.control, FACT_listening, NULL);
        assert_int_equal(control_log_level(w.control, SUBSYSTEM_STORE), LEVEL_TRACE);
        close_world(&w);
        text = read_all(path);
        assert_int_equal(count_lines(text), 4); /* listening, level, persisted, level */
        assert_non_null(strstr(text, "listening: clients can connect: hi"));
        assert_non_null(strstr(text, "events_persisted"));
        close(fd);
        unlink(path);
}

TEST(logger, json_lines_are_json)
{
        char path[] = "/tmp/nilo-log-XXXXXX";
        int fd = mkstemp(path);
        struct world w;
        char *text;

        open_with(&w, (struct control_options){.log_fd = fd, .log_json = true, .log_level = LEVEL_INFO});
        control_publish(w.control, FACT_listening, NULL);
        run(&w, 5);
        close_world(&w);
        text = read_all(path);
        assert_int_equal(count_lines(text), 1);
        assert_int_equal(strncmp(text, "{\"id\":", 6), 0);
        assert_int_equal(strcmp(text + strlen(text) - 2, "}\n"), 0);
        close(fd);
        unlink(path);
}

TEST(logger, reader_that_sleeps_does_not_stop_the_loop)
{
        int pipe_fds[2];
        struct world w;
        struct control_stats stats;

        assert_int_equal(pipe(pipe_fds), 0);
        open_with(&w, (struct control_options){.log_fd = pipe_fds[1], .log_level = LEVEL_INFO});
        for (unsigned i = 0; i < 40000; i++) {
                control_publish(w.control, FACT_listening, NULL);
                if (i % 100 == 0)
                        run(&w, 5);
        }
        run(&w, 5);
        control_stats(w.control, &stats);
        assert_true(stats.log_lines_dropped > 0); /* counted, and the loop came here */
        close(pipe_fds[0]);
        signal(SIGPIPE, SIG_IGN);
        close_world(&w);
        close(pipe_fds[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(bus, watcher_gets_what_it_wants_in_order),
                TEST_ROW(bus, level_leaves_out_louder_facts),
                TEST_ROW(bus, slow_watcher_learns_exactly_how_many_it_missed),
                TEST_ROW(bus, misses_that_nothing_follows_are_told_by_a_fact),
                TEST_ROW(bus, late_watcher_begins_with_the_oldest),
                TEST_ROW(bus, fact_published_by_a_watcher_waits_for_the_next_delivery),
                TEST_ROW(bus, watcher_outlives_the_bus),
                TEST_ROW(facts, name_of_a_stream_cannot_forge_a_line),
                TEST_ROW(facts, every_name_is_found_again),
                TEST_ROW(plane, system_is_ready_when_every_subsystem_is),
                TEST_ROW(plane, first_failure_ends_the_start),
                TEST_ROW(supervisor, one_for_one_restarts_the_failed_one),
                TEST_ROW(supervisor, rest_for_one_restarts_those_after_it_too),
                TEST_ROW(supervisor, one_for_all_restarts_all),
                TEST_ROW(supervisor, pauses_grow_and_the_limit_ends_it_once),
                TEST_ROW(supervisor, failures_of_an_older_period_are_forgiven),
                TEST_ROW(supervisor, worker_that_cannot_start_again_is_tried_until_the_limit),
                TEST_ROW(supervisor, first_start_that_fails_stops_those_before_it),
                TEST_ROW(logger, each_subsystem_has_a_level_of_its_own),
                TEST_ROW(logger, json_lines_are_json),
                TEST_ROW(logger, reader_that_sleeps_does_not_stop_the_loop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
