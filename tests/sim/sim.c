/* Runs seeds, many at a time, each in a process that may be lost: what a crash abandons is given back only
 * then.
 *
 *     sim [--subscriptions] [--seeds N] [--from S] [--mutant NAME] [--until-killed] [--jobs N]
 *         [--replay-every N] [--loud] [--quiet]
 *
 * Runs the store; with --subscriptions the rooms that deliver from it, with their consumers.
 * Prints the totals and the failing seeds; exits with 1 if a seed failed (with --until-killed: if none did).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

/* A crash gives no memory back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

enum { BATCH = 20, JOBS_MAX = 64, FAILURES_SHOWN = 20 };

struct options {
        uint64_t seeds;
        uint64_t from;
        uint64_t replay_every; /* this many seeds: run twice, with equal hashes */
        enum mutant mutant;
        unsigned jobs;
        bool of_subscriptions;
        bool until_killed;
        bool is_loud;
        bool is_quiet;
};

/* What a process tells of a seed. */
struct report {
        uint64_t seed;
        struct world_result result;
        bool is_replayed;
};

struct worker {
        pid_t pid;
        int pipe;
        uint64_t first;
        uint64_t told; /* seeds of the batch */
        uint64_t count;
};

struct sums {
        struct world_totals totals;
        uint64_t failed;
        uint64_t first_failed;
        uint64_t replayed;
        uint64_t hash; /* of all hashes; the order of seeds does not matter */
};

static const char *const mutant_names[MUTANTS] = {"none", "skip-sync", "ack-before-sync", "skip-crc",
        "checkpoint-before-ack", "checkpoint-before-parked", "live-gap"};

static bool send_report(int to, const struct report *report)
{
        return write(to, report, sizeof(*report)) == (ssize_t)sizeof(*report);
}

static void run_seed(const struct options *o, uint64_t seed, int to)
{
        struct world_options options = {.seed = seed, .mutant = o->mutant, .is_loud = o->is_loud};
        struct report report = {.seed = seed};
        void (*run)(const struct world_options *options, struct world_result *ret) =
                o->of_subscriptions ? subscriptions_run : world_run;

        run(&options, &report.result);
        if (o->replay_every && seed % o->replay_every == 0 && !report.result.has_failed) {
                struct world_result again;

                options.is_loud = false;
                run(&options, &again);
                report.is_replayed = true;
                if (again.hash != report.result.hash) {
                        report.result.has_failed = true;
                        snprintf(report.result.problem, sizeof(report.result.problem),
                                "not deterministic: hash %016llx, then %016llx",
                                (unsigned long long)report.result.hash, (unsigned long long)again.hash);
                }
        }
        if (!send_report(to, &report))
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
                _exit(0);
        }
        close(ends[1]);
}

static void add_totals(struct world_totals *to, const struct world_totals *from)
{
        const uint64_t *add = (const uint64_t *)from;
        uint64_t *sum = (uint64_t *)to;

        for (size_t i = 0; i < sizeof(*to) / sizeof(*sum); i++)
                sum[i] += add[i];
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
        add_totals(&sums->totals, &r->result.totals);
        sums->replayed += r->is_replayed;
        sums->hash += r->result.hash * (r->seed * 2 + 1);
        if (r->result.has_failed)
                note_failure(o, sums, r->seed, r->result.problem);
        if (o->seeds == 1 && !o->is_quiet)
                printf("seed %llu hash %016llx\n", (unsigned long long)r->seed,
                        (unsigned long long)r->result.hash);
}

/* Reads what a worker says until it ends. A seed that it did not get through has crashed the process. */
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
        if (w->told == w->count)
                return;
        snprintf(problem, sizeof(problem), "the process ended with status 0x%x", (unsigned)status);
        note_failure(o, sums, w->first + w->told, problem);
        /* The seeds behind it are run by a process of their own. */
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

static void print_totals(const struct options *o, const struct sums *s, double seconds)
{
        const struct world_totals *t = &s->totals;

#define N(name) (unsigned long long)t->name
        printf("%llu seeds in %.1f s, %llu replayed with equal hashes, hash of all %016llx\n", N(seeds),
                seconds, (unsigned long long)s->replayed, (unsigned long long)s->hash);
        printf("  lives %llu: power cuts %llu, kills %llu, orderly stops %llu; ended by a disk fault %llu\n",
                N(lives), N(crashes), N(kills), N(stops), N(faults));
        printf("  writes lost %llu, torn %llu; segments sealed %llu; clock jumps %llu, failing reads %llu\n",
                N(lost_writes), N(torn_writes), N(sealed), N(clock_jumps), N(read_faults));
        if (o->of_subscriptions) {
                printf("  events acknowledged %llu; catch-up sessions %llu, events %llu\n", N(events),
                        N(sessions), N(session_events));
                printf("  consumers %llu: given %llu, retried %llu, acknowledged %llu, refused %llu, again "
                       "although finished %llu\n",
                        N(consumers), N(given), N(retried), N(acked), N(nacked), N(given_again));
                printf("  parked %llu, replays %llu; changes answered %llu, unknown until the next start "
                       "%llu; checkpoints checked "
                       "%llu\n",
                        N(parked), N(replays), N(mutations), N(mutations_unknown), N(checkpoints_checked));
                return;
        }
        printf("  appends %llu: events acknowledged %llu, duplicates %llu, conflicts %llu, refused %llu "
               "(busy %llu, "
               "full %llu), unknown %llu (of these kept %llu)\n",
                N(appends), N(events), N(duplicates), N(conflicts), N(refused), N(busy), N(full), N(unknown),
                N(unknown_kept));
        printf("  reads %llu, events read %llu, waits for the disk %llu\n", N(reads), N(events_read),
                N(waits));
        printf("  bits flipped %llu: start refused %llu, a read told %llu, harmless %llu\n", N(flips),
                N(flips_refused), N(flips_found), N(flips_harmless));
#undef N
}

static bool parse_mutant(const char *name, enum mutant *ret)
{
        for (unsigned i = 0; i < MUTANTS; i++) {
                if (strcmp(name, mutant_names[i]) == 0) {
                        *ret = (enum mutant)i;
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

static bool parse(int argc, char **argv, struct options *o)
{
        for (int i = 1; i < argc; i++) {
                const char *value = i + 1 < argc ? argv[i + 1] : "";
                uint64_t n;

                if (strcmp(argv[i], "--subscriptions") == 0)
                        o->of_subscriptions = true;
                else if (strcmp(argv[i], "--until-killed") == 0)
                        o->until_killed = true;
                else if (strcmp(argv[i], "--loud") == 0)
                        o->is_loud = true;
                else if (strcmp(argv[i], "--quiet") == 0)
                        o->is_quiet = true;
                else if (strcmp(argv[i], "--mutant") == 0 && parse_mutant(value, &o->mutant))
                        i++;
                else if (strcmp(argv[i], "--seeds") == 0 && parse_number(value, &o->seeds))
                        i++;
                else if (strcmp(argv[i], "--from") == 0 && parse_number(value, &o->from))
                        i++;
                else if (strcmp(argv[i], "--replay-every") == 0 && parse_number(value, &o->replay_every))
                        i++;
                else if (strcmp(argv[i], "--jobs") == 0 && parse_number(value, &n) && n > 0 && n < JOBS_MAX) {
                        o->jobs = (unsigned)n;
                        i++;
                } else {
                        return false;
                }
        }
        return o->seeds > 0;
}

int main(int argc, char **argv)
{
        struct options o = {.seeds = 100, .jobs = 2};
        struct timespec begin, end;
        struct sums sums = {0};
        double seconds;

        if (!parse(argc, argv, &o)) {
                fprintf(stderr, "usage: sim [--subscriptions] [--seeds N] [--from S] [--mutant "
                                "none|skip-sync|ack-before-sync|skip-crc|checkpoint-before-ack|checkpoint-"
                                "before-parked|live-gap] "
                                "[--until-killed] [--jobs N] [--replay-every N] [--loud] [--quiet]\n");
                return 2;
        }
        clock_gettime(CLOCK_MONOTONIC, &begin);
        run_all(&o, &sums);
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
        if (!o.is_quiet)
                print_totals(&o, &sums, seconds);
        if (o.until_killed) {
                if (sums.failed)
                        printf("mutant %s killed at seed %llu, %.1f s\n", mutant_names[o.mutant],
                                (unsigned long long)sums.first_failed, seconds);
                else
                        printf("mutant %s survived %llu seeds\n", mutant_names[o.mutant],
                                (unsigned long long)sums.totals.seeds);
                return sums.failed ? 0 : 1;
        }
        printf("%llu of %llu seeds failed\n", (unsigned long long)sums.failed, (unsigned long long)o.seeds);
        return sums.failed ? 1 : 0;
}
