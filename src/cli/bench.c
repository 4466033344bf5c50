/* nilo bench: how fast a running server is, as its clients see it. It writes only into streams of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/bench.h"
#include "cli/scan.h"

enum {
        CLIENTS_MAX = 256,
        BATCH_MAX = 10000,
        SIZE_MIN = 128, /* who, when and how many fit */
        SIZE_LARGEST = 1 << 20,
        CALL_SIZE_MAX = 32 << 20,
        SECONDS_MAX = 24 * 3600,
        STREAMS_MAX = 100000,
        EVENTS_MAX = 10000000,
        RATE_MAX = 10000000,
        LOOK_US = 50 * 1000,
        BEGIN_US_MAX = 10 * 1000 * 1000,
        DELIVERY_US_MAX = 5 * 1000 * 1000, /* for the last events, after the end */
};

uint64_t bench_now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

bool bench_goes_on(const struct bench *b)
{
        return !b->stops && !cli_is_interrupted();
}

static void wait_a_moment(void)
{
        nanosleep(&(struct timespec){.tv_nsec = LOOK_US * 1000L}, NULL);
}

/* ---- threads ---- */

static int add_workers(struct bench *b)
{
        uint64_t count =
                (b->kind == BENCH_READ ? 0 : b->writers) + (b->kind == BENCH_APPEND ? 0 : b->readers);

        b->workers = memory_new_array((size_t)count, sizeof *b->workers);
        for (; b->worker_count < count; b->worker_count++) {
                struct bench_worker *w = &b->workers[b->worker_count];
                char problem[NILO_CLIENT_PROBLEM_SIZE];
                enum nilo_result result;

                w->bench = b;
                w->index = b->worker_count;
                result = nilo_client_open_like(b->client, NULL, 0, &w->client, problem);
                if (result)
                        return cli_problem(cli_exit_of(result), "%s", problem);
                /* The connection is made before the time runs. */
                result = nilo_client_send(w->client, "GET", "/ping", NULL, NULL, 0, NULL);
                if (result)
                        return cli_failed(w->client, result);
        }
        return CLI_OK;
}

static int start(struct bench_worker *first, uint64_t count, void *(*run)(void *worker))
{
        for (uint64_t i = 0; i < count; i++) {
                struct bench_worker *w = first + i;

                w->is_started = pthread_create(&w->thread, NULL, run, w) == 0;
                if (!w->is_started)
                        return cli_problem(CLI_UNEXPECTED, "no more threads could be started");
        }
        return CLI_OK;
}

static void join(struct bench_worker *first, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++) {
                if (first[i].is_started)
                        pthread_join(first[i].thread, NULL);
                first[i].is_started = false;
        }
}

static void free_workers(struct bench *b)
{
        b->stops = true;
        for (unsigned i = 0; i < b->worker_count; i++)
                nilo_client_interrupt(b->workers[i].client);
        join(b->workers, b->worker_count);
        for (unsigned i = 0; i < b->worker_count; i++)
                nilo_client_close(&b->workers[i].client);
        free(b->workers);
}

/* ---- the measurement ---- */

/* Shows how it goes until the time is over. */
static void watch(struct bench *b, const char *what)
{
        struct progress progress;
        uint64_t now;

        progress_begin(&progress, b->line, what, "events", b->seconds * 1000);
        for (now = bench_now_us(); now < b->end_us && bench_goes_on(b); now = bench_now_us()) {
                progress_at(&progress, (now - b->start_us) / 1000, b->done_events);
                wait_a_moment();
        }
        progress_end(&progress);
}

static int measure(struct bench *b, uint64_t count, void *(*run)(void *worker), const char *what)
{
        int code;

        b->start_us = bench_now_us();
        b->end_us = b->start_us + b->seconds * 1000000;
        code = start(b->workers, count, run);
        if (!code)
                watch(b, what);
        /* What was sent in time is waited for, and counts. */
        join(b->workers, count);
        b->elapsed_us = bench_now_us() - b->start_us;
        return code;
}

static void stop_followers(struct bench *b)
{
        b->stops = true;
        for (uint64_t i = 0; i < b->readers; i++)
                nilo_client_interrupt(b->workers[b->writers + i].client);
        join(b->workers + b->writers, b->readers);
}

/* Until each follower has seen the first event: their connections are made before the time runs. */
static int start_followers(struct bench *b)
{
        uint64_t until_us = bench_now_us() + BEGIN_US_MAX;
        uint64_t newest;
        bool is_there;
        enum nilo_result result = scan_newest(b->client, &is_there, &newest);
        int code;

        if (result)
                return cli_failed(b->client, result);
        b->follow_from = is_there ? newest + 1 : 0;
        code = start(b->workers + b->writers, b->readers, bench_follow);
        if (code)
                return code;
        result = bench_begin_following(b);
        if (result)
                return cli_failed(b->client, result);
        while (b->ready_followers < b->readers && bench_now_us() < until_us && !cli_is_interrupted())
                wait_a_moment();
        if (b->ready_followers == b->readers)
                return CLI_OK;
        stop_followers(b);
        return cli_problem(CLI_UNAVAILABLE, "%u of %" PRIu64 " followers saw the first event: %s",
                b->ready_followers, b->readers, b->workers[b->writers].problem);
}

static int run_follow(struct bench *b)
{
        uint64_t until_us;
        uint64_t expected;
        int code = start_followers(b);

        if (!code)
                code = measure(b, b->writers, bench_write, "follow");
        if (code)
                return code;
        expected = b->done_events * b->readers;
        until_us = bench_now_us() + DELIVERY_US_MAX;
        while (b->done_delivered < expected && bench_now_us() < until_us && !cli_is_interrupted())
                wait_a_moment();
        b->missing = expected - MIN((uint64_t)b->done_delivered, expected);
        stop_followers(b);
        return CLI_OK;
}

/* The first that failed, if nothing succeeded. */
static const struct bench_worker *find_hopeless(const struct bench *b)
{
        const struct bench_worker *failed = NULL;

        for (unsigned i = 0; i < b->worker_count && !b->done_events; i++)
                if (!failed && b->workers[i].failed)
                        failed = &b->workers[i];
        return failed;
}

static int run(struct bench *b)
{
        int code = add_workers(b);

        if (code)
                return code;
        cli_remark(b->line, "writes into %" PRIu64 " streams %s*, and nowhere else", b->streams, b->prefix);
        if (b->kind == BENCH_FOLLOW)
                return run_follow(b);
        if (b->kind == BENCH_APPEND)
                return measure(b, b->writers, bench_write, "append");
        code = bench_prepare(b);
        return code ? code : measure(b, b->readers, bench_read, "read");
}

/* ---- afterwards ---- */

static bool wants_deletion(const struct bench *b)
{
        char answer[16];

        if (cli_has(b->line, "delete") || cli_has(b->line, "keep"))
                return cli_has(b->line, "delete");
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
                return false;
        fprintf(stderr, "\nDelete the %" PRIu64 " streams %s* again (soft delete)? [y/N] ", b->streams,
                b->prefix);
        return fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
}

static int delete_streams(struct bench *b)
{
        struct progress progress;
        enum nilo_result result = NILO_OK;

        progress_begin(&progress, b->line, "delete", "streams", b->streams);
        for (uint64_t i = 0; i < b->streams && !result; i++) {
                char name[BENCH_NAME_SIZE + 24];

                bench_stream(b, i, name);
                result = nilo_client_delete(b->client, name, NILO_ANY, false, NULL);
                /* Not every stream was written to. */
                if (result == NILO_NOT_FOUND || result == NILO_CONFLICT)
                        result = NILO_OK;
                progress_at(&progress, i + 1, i + 1);
        }
        progress_end(&progress);
        if (result)
                return cli_failed(b->client, result);
        cli_remark(b->line, "%" PRIu64 " streams %s* were deleted", b->streams, b->prefix);
        return CLI_OK;
}

static int tidy(struct bench *b)
{
        if (wants_deletion(b))
                return delete_streams(b);
        cli_remark(b->line, "the streams %s* stay; --delete would have deleted them", b->prefix);
        return CLI_OK;
}

static bool has_written(const struct bench *b)
{
        bool may_have = b->has_written || (b->kind != BENCH_READ && b->done_events);

        for (unsigned i = 0; i < b->worker_count; i++)
                may_have |= b->workers[i].result == NILO_UNKNOWN;
        return may_have;
}

static int first_failure(const struct bench *b)
{
        for (unsigned i = 0; i < b->worker_count; i++)
                if (b->workers[i].failed)
                        return cli_exit_of(b->workers[i].result);
        return CLI_OK;
}

static int conclude(const struct bench *b)
{
        const struct bench_worker *hopeless = find_hopeless(b);

        if (hopeless)
                return cli_problem(cli_exit_of(hopeless->result), "%s\n      %s", hopeless->problem,
                        hopeless->next_step);
        bench_report(b);
        return first_failure(b);
}

/* ---- the commands ---- */

static bool takes_flag(const struct cli_line *line, const char *name)
{
        const struct cli_flag *flags = line->command->flags;

        for (unsigned i = 0; i < CLI_FLAGS_MAX && flags[i].name; i++)
                if (strcmp(flags[i].name, name) == 0)
                        return true;
        return false;
}

/* A number within its limits; where the command has no such flag, the default. */
static bool read_number(const struct cli_line *line, const char *flag, uint64_t otherwise, uint64_t min,
        uint64_t max, uint64_t *ret)
{
        *ret = otherwise;
        if (!takes_flag(line, flag) || !cli_has(line, flag))
                return true;
        if (!cli_number_of(line, flag, otherwise, ret))
                return false;
        if (*ret >= min && *ret <= max)
                return true;
        cli_problem(CLI_USAGE, "--%s: %" PRIu64 " to %" PRIu64, flag, min, max);
        return false;
}

static int read_flags(struct bench *b)
{
        const struct cli_line *line = b->line;
        bool is_read = b->kind == BENCH_READ;
        uint64_t streams = is_read ? 10 : 0;

        if (!read_number(line, "writers", 8, 1, CLIENTS_MAX, &b->writers) ||
                !read_number(line, is_read ? "readers" : "followers", is_read ? 8 : 4, 1, CLIENTS_MAX,
                        &b->readers) ||
                !read_number(line, "batch", is_read ? 100 : 1, 1, BATCH_MAX, &b->batch) ||
                !read_number(line, "size", 256, SIZE_MIN, SIZE_LARGEST, &b->size) ||
                !read_number(line, "seconds", 10, 1, SECONDS_MAX, &b->seconds) ||
                !read_number(line, "streams", streams ? streams : b->writers, 1, STREAMS_MAX, &b->streams) ||
                !read_number(line, "events", 10000, 1, EVENTS_MAX, &b->events) ||
                !read_number(line, "rate", 0, 1, RATE_MAX, &b->rate))
                return CLI_USAGE;
        if (b->batch * b->size > CALL_SIZE_MAX)
                return cli_problem(CLI_USAGE, "--batch times --size: at most %d MiB", CALL_SIZE_MAX >> 20);
        if (cli_has(line, "delete") && cli_has(line, "keep"))
                return cli_problem(CLI_USAGE, "--delete and --keep: one of them");
        return CLI_OK;
}

/* Another one each time, so that two at once do not meet. */
static void choose_prefix(struct bench *b)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(b->prefix, sizeof b->prefix, "nilo-bench-%08x-",
                (unsigned)((uint64_t)now.tv_sec * 1000003U ^ (uint64_t)now.tv_nsec ^
                           (uint64_t)getpid() << 16));
}

static int command_bench(const struct cli_line *line, enum bench_kind kind)
{
        struct bench *b = MEMORY_NEW(struct bench);
        int code;

        b->line = line;
        b->kind = kind;
        choose_prefix(b);
        code = read_flags(b);
        if (!code) {
                b->client = cli_client(line);
                code = b->client ? CLI_OK : CLI_USAGE;
        }
        if (!code) {
                cli_catch_interrupt(NULL);
                code = run(b);
                if (!code)
                        code = conclude(b);
                if (has_written(b)) {
                        int tidied = tidy(b);

                        code = code ? code : tidied;
                }
        }
        free_workers(b);
        nilo_client_close(&b->client);
        free(b);
        return code;
}

int command_bench_append(const struct cli_line *line)
{
        return command_bench(line, BENCH_APPEND);
}

int command_bench_read(const struct cli_line *line)
{
        return command_bench(line, BENCH_READ);
}

int command_bench_follow(const struct cli_line *line)
{
        return command_bench(line, BENCH_FOLLOW);
}
