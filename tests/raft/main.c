/* Runs seeds of the raft simulator, many at a time in a process that may be lost.
 *
 *     raft-sim [--seeds N] [--from S] [--schedule NAME] [--mutant NAME] [--guard-off N[,N...]]
 * [--until-killed] [--jobs N]
 *              [--replay-every N] [--loud] [--quiet]
 *
 * Prints the totals and the failing seeds; exits with 1 if a seed failed (with --until-killed: if none did).
 */
#include "room.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 50, JOBS_MAX = 16, FAILURES_SHOWN = 20 };

const char *const mutant_names[MUTANTS] = {"none", "vote-not-durable", "term-rolled-back",
        "persisted-at-issue", "persisted-lazily", "synced-lost", "persisted-truncated", "apply-past-stored",
        "read-without-probe", "install-uncommitted", "grow-without-dam", "grow-remembers-leader",
        "grow-old-voter-offers"};

struct options {
        struct world_options world;
        uint64_t seeds, from, replay_every;
        unsigned jobs;
        bool until_killed, is_quiet;
        const char *fault; /* what it is called */
};
struct report {
        uint64_t seed;
        struct result result;
        bool is_replayed;
};
struct worker {
        pid_t pid;
        int pipe;
        uint64_t first, told, count;
};
struct sums {
        struct totals totals;
        uint64_t failed, first_failed, replayed, hash;
};

static void run_seed(const struct options *o, uint64_t seed, int to)
{
        struct world_options options = o->world;
        struct report report = {.seed = seed};

        options.seed = seed;
        world_run(&options, &report.result);
        if (o->replay_every && seed % o->replay_every == 0 && !report.result.has_failed) {
                struct result again;

                options.is_loud = false;
                world_run(&options, &again);
                report.is_replayed = true;
                if (again.hash != report.result.hash) {
                        report.result.has_failed = true;
                        snprintf(report.result.problem, sizeof(report.result.problem), "not deterministic");
                }
        }
        if (write(to, &report, sizeof(report)) != (ssize_t)sizeof(report))
                _exit(3);
}

static void start(const struct options *o, struct worker *w, uint64_t first, uint64_t count)
{
        int ends[2];

        if (pipe(ends)) {
                perror("pipe");
                exit(2);
        }
        fflush(stdout);
        *w = (struct worker){.pid = fork(), .pipe = ends[0], .first = first, .count = count};
        if (w->pid < 0) {
                perror("fork");
                exit(2);
        }
        if (w->pid == 0) {
                for (uint64_t i = 0; i < count; i++)
                        run_seed(o, first + i, ends[1]);
                fflush(stdout);
                exit(0); /* with the sanitizer's look for leaks */
        }
        close(ends[1]);
}

static void note_failure(const struct options *o, struct sums *sums, uint64_t seed, const char *problem)
{
        if (!sums->failed || seed < sums->first_failed)
                sums->first_failed = seed;
        if (sums->failed++ < FAILURES_SHOWN && !o->is_quiet)
                printf("seed %llu failed: %s\n", (unsigned long long)seed, problem);
        fflush(stdout);
}

static void take_report(const struct options *o, struct sums *sums, const struct report *r)
{
        const uint64_t *add = (const uint64_t *)&r->result.totals;
        uint64_t *sum = (uint64_t *)&sums->totals;

        for (size_t i = 0; i < sizeof(sums->totals) / sizeof(*sum); i++)
                sum[i] += add[i];
        sums->replayed += r->is_replayed;
        sums->hash += r->result.hash * (r->seed * 2 + 1);
        if (r->result.has_failed)
                note_failure(o, sums, r->seed, r->result.problem);
}

/* Reads what a process says until it ends. A seed that it did not get through has crashed it. */
static void finish(const struct options *o, struct sums *sums, struct worker *w)
{
        struct report report;
        char problem[64];
        int status = 0;

        while (read(w->pipe, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
                take_report(o, sums, &report);
                w->told++;
        }
        close(w->pipe);
        while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
                continue;
        if (w->told == w->count && status == 0)
                return;
        snprintf(problem, sizeof(problem), "the process ended with status 0x%x", (unsigned)status);
        note_failure(o, sums, w->first + w->told, problem);
        if (w->told + 1 < w->count) {
                struct worker rest;

                start(o, &rest, w->first + w->told + 1, w->count - w->told - 1);
                finish(o, sums, &rest);
        }
}

static void run_all(const struct options *o, struct sums *sums)
{
        struct worker workers[JOBS_MAX];
        uint64_t next = o->from, end = o->from + o->seeds;
        unsigned running = 0, first = 0;

        while (next < end || running) {
                while (running < o->jobs && next < end && !(o->until_killed && sums->failed)) {
                        uint64_t count = end - next < BATCH ? end - next : BATCH;

                        start(o, &workers[(first + running++) % JOBS_MAX], next, count);
                        next += count;
                }
                if (!running)
                        break;
                finish(o, sums, &workers[first]);
                first = (first + 1) % JOBS_MAX;
                running--;
        }
}

static void print_totals(const struct sums *s, double seconds)
{
        const struct totals *t = &s->totals;

#define N(name) (unsigned long long)t->name
        printf("%llu seeds in %.1f s, %llu replayed with equal hashes, hash of all %016llx\n", N(seeds),
                seconds, (unsigned long long)s->replayed, (unsigned long long)s->hash);
        printf("  crashes %llu, partitions %llu, messages dropped %llu, leaders %llu, truncations %llu, "
               "steps %llu\n",
                N(crashes), N(partitions), N(dropped), N(leaders), N(truncations), N(steps));
        printf("  changes %llu (refused %llu), transfers %llu, seals %llu, installs %llu, three of one %llu "
               "in %llu tries, offers %llu (taken %llu)\n",
                N(changes), N(refused_changes), N(transfers), N(seals), N(installs), N(grown), N(grow_tries),
                N(offers), N(offers_taken));
        printf("  acknowledged entries %llu, replaced %llu, reads %llu\n", N(acknowledged), N(failed),
                N(reads));
#undef N
}

static bool find_name(const char *name, const char *const *names, unsigned count, unsigned *ret)
{
        for (unsigned i = 0; i < count; i++) {
                if (strcmp(name, names[i]) == 0) {
                        *ret = i;
                        return true;
                }
        }
        return false;
}

static bool parse_number(const char *text, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        return !errno && *text && !*end;
}

static bool parse_guards(const char *text, uint32_t *ret)
{
        for (*ret = 0; *text;) {
                char *end;
                unsigned long n = strtoul(text, &end, 10);

                if (end == text || n > 19 || (*end && *end != ','))
                        return false;
                *ret |= 1u << n;
                text = *end ? end + 1 : end;
        }
        return *ret != 0;
}

/* One option with its value. */
static bool parse_valued(const char *name, const char *value, struct options *o)
{
        uint64_t n;
        unsigned at;

        if (strcmp(name, "--mutant") == 0) {
                o->fault = value;
                if (!find_name(value, mutant_names, MUTANTS, &at))
                        return false;
                o->world.mutant = (enum mutant)at;
                return true;
        }
        if (strcmp(name, "--schedule") == 0) {
                if (!find_name(value, schedule_names, SCHEDULES, &at))
                        return false;
                o->world.schedule = (enum schedule)at;
                o->world.has_schedule = true;
                return true;
        }
        if (strcmp(name, "--guard-off") == 0) {
                o->fault = value;
                return parse_guards(value, &o->world.guards_off);
        }
        if (!parse_number(value, &n))
                return false;
        if (strcmp(name, "--seeds") == 0)
                o->seeds = n;
        else if (strcmp(name, "--from") == 0)
                o->from = n;
        else if (strcmp(name, "--replay-every") == 0)
                o->replay_every = n;
        else if (strcmp(name, "--jobs") == 0 && n > 0 && n < JOBS_MAX)
                o->jobs = (unsigned)n;
        else
                return false;
        return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--until-killed") == 0)
                        o->until_killed = true;
                else if (strcmp(argv[i], "--loud") == 0)
                        o->world.is_loud = true;
                else if (strcmp(argv[i], "--quiet") == 0)
                        o->is_quiet = true;
                else if (i + 1 < argc && parse_valued(argv[i], argv[i + 1], o))
                        i++;
                else
                        return false;
        }
        return o->seeds > 0;
}

int main(int argc, char **argv)
{
        struct options o = {.seeds = 100, .jobs = 2, .fault = "none"};
        struct timespec begin, end;
        struct sums sums = {0};
        double seconds;

        if (!parse(argc, argv, &o)) {
                fprintf(stderr,
                        "usage: raft-sim [--seeds N] [--from S] [--schedule NAME] [--mutant NAME] "
                        "[--guard-off N,...] "
                        "[--until-killed] [--jobs N] [--replay-every N] [--loud] [--quiet]\nschedules:");
                for (unsigned i = 0; i < SCHEDULES; i++)
                        fprintf(stderr, " %s", schedule_names[i]);
                fprintf(stderr, "\nmutants:");
                for (unsigned i = 0; i < MUTANTS; i++)
                        fprintf(stderr, " %s", mutant_names[i]);
                fprintf(stderr, "\nguards: 1 to 19; 0 is the second half of 1\n");
                return 2;
        }
        clock_gettime(CLOCK_MONOTONIC, &begin);
        run_all(&o, &sums);
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
        if (!o.is_quiet)
                print_totals(&sums, seconds);
        if (o.until_killed) {
                if (sums.failed)
                        printf("%s off or wrong: killed at seed %llu, %.1f s\n", o.fault,
                                (unsigned long long)sums.first_failed, seconds);
                else
                        printf("%s off or wrong: survived %llu seeds\n", o.fault,
                                (unsigned long long)o.seeds);
                return sums.failed ? 0 : 1;
        }
        printf("%llu of %llu seeds failed\n", (unsigned long long)sums.failed, (unsigned long long)o.seeds);
        return sums.failed ? 1 : 0;
}
