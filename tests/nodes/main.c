/* Runs seeds, spread over processes: what a crash abandons is given back only with its process, and a seed
 * that ends one is told like any other that fails.
 *
 *     nodes [--schedule NAME] [--seeds N] [--from S] [--jobs N] [--mutant NAME] [--until-killed]
 *           [--replay-every N] [--loud] [--quiet]
 *     nodes --schedules
 *
 * Exits with 1 if a seed failed (with --until-killed: if none did). */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "room.h"
#include "store/room.h"

/* A crash gives no memory back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

enum { JOBS_MAX = 16, FAILURES_SHOWN = 20 };

struct mutant_kind {
        const char *name;
        enum mutant mutant;
        unsigned of_store;
};
static const struct mutant_kind mutants[] = {
        {"none", MUTANT_NONE, 0},
        {"skip-sync", MUTANT_SKIP_SYNC, 0},
        {"ack-before-sync", MUTANT_ACK_BEFORE_SYNC, 0},
        {"unchecked-read", MUTANT_UNCHECKED_READ, 0},
        {"checkpoint-ahead", MUTANT_CHECKPOINT_AHEAD, 0},
        {"vote-lost", MUTANT_NONE, STORE_MUTANT_VOTE_LOST},
        {"term-lost", MUTANT_NONE, STORE_MUTANT_TERM_LOST},
        {"early-persisted", MUTANT_NONE, STORE_MUTANT_EARLY_PERSISTED},
        {"past-stored", MUTANT_NONE, STORE_MUTANT_PAST_STORED},
        {"install-trusted", MUTANT_NONE, STORE_MUTANT_INSTALL_TRUSTED},
        {"run-unverified", MUTANT_NONE, STORE_MUTANT_RUN_UNVERIFIED},
        {"overtaken-kept", MUTANT_NONE, STORE_MUTANT_OVERTAKEN_KEPT},
        {"foreign-unseen", MUTANT_NONE, STORE_MUTANT_FOREIGN_UNSEEN},
        {"flight-refused", MUTANT_NONE, STORE_MUTANT_FLIGHT_REFUSED},
        {"heads-stale", MUTANT_NONE, STORE_MUTANT_HEADS_STALE},
        {"dam-open", MUTANT_NONE, STORE_MUTANT_DAM_OPEN},
        {"answer-any", MUTANT_NONE, STORE_MUTANT_ANSWER_ANY},
        {"read-unprobed", MUTANT_NONE, STORE_MUTANT_READ_UNPROBED},
        {"position-early", MUTANT_NONE, STORE_MUTANT_POSITION_EARLY},
        {"changes-kept", MUTANT_NONE, STORE_MUTANT_CHANGES_KEPT},
        {"time-stands", MUTANT_NONE, STORE_MUTANT_TIME_STANDS},
        {"installing-mute", MUTANT_NONE, STORE_MUTANT_INSTALLING_MUTE},
        {"refused-unsure", MUTANT_NONE, STORE_MUTANT_REFUSED_UNSURE},
        {"history-unjudged", MUTANT_NONE, STORE_MUTANT_HISTORY_UNJUDGED},
        {"history-of-one", MUTANT_NONE, STORE_MUTANT_HISTORY_OF_ONE},
};

struct arguments {
        uint64_t seeds, from, replay_every, jobs;
        const struct mutant_kind *mutant;
        const struct schedule *schedule;
        bool until_killed, is_loud, is_quiet, names_schedules;
};

/* Runs every jobs-th seed. */
struct worker {
        pid_t pid;
        int pipe;
        uint64_t next; /* the seed that it is at */
};

/* What a process tells of a seed. */
struct report {
        uint64_t seed;
        struct run_result result;
        struct run_totals totals;
};

struct sums {
        struct run_totals totals;
        uint64_t failed, first_failed;
        uint64_t hash; /* of all hashes, in any order */
};

static int usage(void)
{
        fprintf(stderr, "usage: nodes [--schedule ");
        for (unsigned i = 0; schedules_name(i); i++)
                fprintf(stderr, "%s%s", i ? "|" : "", schedules_name(i));
        fprintf(stderr, "] [--seeds N] [--from S] [--jobs N] [--mutant ");
        for (unsigned i = 0; i < COUNT_OF(mutants); i++)
                fprintf(stderr, "%s%s", i ? "|" : "", mutants[i].name);
        fprintf(stderr, "] [--until-killed] [--replay-every N] [--loud] [--quiet]\n");
        return 2;
}

static bool take_mutant(const char *name, const struct mutant_kind **ret)
{
        for (unsigned i = 0; i < COUNT_OF(mutants); i++) {
                if (strcmp(name, mutants[i].name) != 0)
                        continue;
                *ret = &mutants[i];
                return true;
        }
        return false;
}

static bool take_number(const char *text, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        return !errno && *text && !*end;
}

static bool take_value(struct arguments *a, const char *name, const char *value)
{
        if (!strcmp(name, "--seeds"))
                return take_number(value, &a->seeds);
        if (!strcmp(name, "--from"))
                return take_number(value, &a->from);
        if (!strcmp(name, "--replay-every"))
                return take_number(value, &a->replay_every);
        if (!strcmp(name, "--jobs"))
                return take_number(value, &a->jobs) && a->jobs > 0 && a->jobs <= JOBS_MAX;
        if (!strcmp(name, "--schedule"))
                return (a->schedule = schedules_find(value)) != NULL;
        return !strcmp(name, "--mutant") && take_mutant(value, &a->mutant);
}

static bool take_arguments(int argc, char **argv, struct arguments *a)
{
        *a = (struct arguments){
                .seeds = 100, .from = 1, .jobs = 1, .mutant = &mutants[0], .schedule = schedules_find("mix")};
        for (int i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--until-killed"))
                        a->until_killed = true;
                else if (!strcmp(argv[i], "--loud"))
                        a->is_loud = true;
                else if (!strcmp(argv[i], "--quiet"))
                        a->is_quiet = true;
                else if (!strcmp(argv[i], "--schedules"))
                        a->names_schedules = true;
                else if (i + 1 < argc && take_value(a, argv[i], argv[i + 1]))
                        i++;
                else
                        return false;
        }
        return a->seeds > 0;
}

/* ---- a process ---- */

static void run_seed(const struct arguments *a, uint64_t seed, struct report *report)
{
        struct run_options options = {.seed = seed,
                .schedule = a->schedule,
                .mutant = a->mutant->mutant,
                .of_store = a->mutant->of_store,
                .is_loud = a->is_loud};
        struct run_result again = {0};

        *report = (struct report){.seed = seed};
        run(&options, &report->totals, &report->result);
        if (!a->replay_every || seed % a->replay_every || report->result.has_failed)
                return;
        run(&options, &report->totals, &again);
        report->totals.replays++;
        if (again.hash == report->result.hash)
                return;
        report->result.has_failed = true;
        snprintf(report->result.what, sizeof report->result.what, "the second run was another one");
}

static void work(const struct arguments *a, uint64_t first, int to)
{
        if (a->is_loud)
                setvbuf(stdout, NULL, _IOLBF, 0);
        /* What runs give back is what runs take: the system need not be asked each time. */
        mallopt(M_MMAP_THRESHOLD, 1 << 30);
        mallopt(M_TRIM_THRESHOLD, 1 << 30);
        mallopt(M_TOP_PAD, 1 << 26);
        for (uint64_t seed = first; seed < a->from + a->seeds; seed += a->jobs) {
                struct report report;

                run_seed(a, seed, &report);
                fflush(stdout);
                if (write(to, &report, sizeof report) != (ssize_t)sizeof report)
                        _exit(3);
        }
        _exit(0);
}

static void start(const struct arguments *a, struct worker *w, uint64_t first)
{
        int ends[2];

        *w = (struct worker){.pipe = -1, .next = first};
        if (first >= a->from + a->seeds)
                return;
        fflush(stdout);
        if (pipe(ends) || (w->pid = fork()) < 0) {
                perror("nodes");
                exit(2);
        }
        if (w->pid == 0) {
                close(ends[0]);
                work(a, first, ends[1]);
        }
        close(ends[1]);
        w->pipe = ends[0];
}

/* ---- all of them ---- */

static void note_failure(const struct arguments *a, struct sums *sums, uint64_t seed, const char *what)
{
        if (!sums->failed || seed < sums->first_failed)
                sums->first_failed = seed;
        if (sums->failed++ < FAILURES_SHOWN && !a->is_quiet)
                printf("seed %llu: %s\n", (unsigned long long)seed, what);
        fflush(stdout);
}

static void take_report(const struct arguments *a, struct sums *sums, const struct report *r)
{
        const uint64_t *add = (const uint64_t *)&r->totals;
        uint64_t *to = (uint64_t *)&sums->totals;

        for (size_t i = 0; i < sizeof r->totals / sizeof *add; i++)
                to[i] += add[i];
        sums->hash += r->result.hash * (r->seed * 2 + 1);
        if (r->result.has_failed)
                note_failure(a, sums, r->seed, r->result.what);
}

/* Its pipe has something, or it ended: then the seed that it was at has ended it, and the rest is another's.
 */
static void listen_to(const struct arguments *a, struct sums *sums, struct worker *w)
{
        struct report report;
        char what[64];
        int status = 0;

        if (read(w->pipe, &report, sizeof report) == (ssize_t)sizeof report) {
                take_report(a, sums, &report);
                w->next = report.seed + a->jobs;
                return;
        }
        close(w->pipe);
        w->pipe = -1;
        while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
                continue;
        if (w->next >= a->from + a->seeds)
                return;
        snprintf(what, sizeof what, "the process ended with status 0x%x", (unsigned)status);
        note_failure(a, sums, w->next, what);
        start(a, w, w->next + a->jobs);
}

static bool is_over(const struct arguments *a, const struct sums *sums, const struct worker *workers)
{
        for (unsigned i = 0; i < a->jobs; i++)
                if (workers[i].pipe >= 0)
                        return a->until_killed && sums->failed;
        return true;
}

static void run_all(const struct arguments *a, struct sums *sums)
{
        struct worker workers[JOBS_MAX];
        struct pollfd polls[JOBS_MAX];

        for (unsigned i = 0; i < a->jobs; i++)
                start(a, &workers[i], a->from + i);
        while (!is_over(a, sums, workers)) {
                for (unsigned i = 0; i < a->jobs; i++)
                        polls[i] = (struct pollfd){.fd = workers[i].pipe, .events = POLLIN};
                (void)poll(polls, (nfds_t)a->jobs, -1);
                for (unsigned i = 0; i < a->jobs; i++)
                        if (polls[i].revents)
                                listen_to(a, sums, &workers[i]);
        }
        for (unsigned i = 0; i < a->jobs; i++)
                if (workers[i].pipe >= 0)
                        kill(workers[i].pid, SIGKILL);
}

static void print_totals(const struct run_totals *t)
{
#define N(name) (unsigned long long)t->name
        printf("runs %llu, replayed with equal hashes %llu: power cuts %llu, kills %llu, pauses %llu, "
               "partitions "
               "%llu, leaders %llu\n",
                N(runs), N(replays), N(power_cuts), N(kills), N(pauses), N(partitions), N(leaders));
        printf("  slow disks %llu, full %llu, failing %llu, exits %llu, clock jumps %llu, orderly stops "
               "%llu\n",
                N(stalls), N(full_disks), N(disk_errors), N(exits), N(jumps), N(stops));
        printf("  flipped bits %llu, nodes taken away for them %llu, mended after a read %llu; nodes lost "
               "for ever %llu; damaged runs "
               "of "
               "history %llu, histories changed %llu\n",
                N(flips), N(broken), N(mended), N(lost_nodes), N(damaged_runs), N(rewritten));
        printf("  appends acknowledged %llu (duplicates %llu), unknown %llu, refused %llu (conflicts %llu); "
               "reads that waited %llu (for a position %llu); followed events %llu\n",
                N(acknowledged), N(duplicates), N(unknown), N(refused), N(conflicts), N(reads), N(waits),
                N(followed));
        printf("  duties taken up %llu, events given to consumers %llu, again although finished %llu\n",
                N(duties), N(given), N(repeats));
        printf("  messages %llu (dropped %llu), histories fetched %llu, changes of members %llu, transfers "
               "%llu, one to three %llu\n",
                N(messages), N(dropped), N(catch_ups), N(changes), N(transfers), N(grown));
#undef N
}

int main(int argc, char **argv)
{
        struct sums sums = {0};
        struct arguments a;

        if (!take_arguments(argc, argv, &a))
                return usage();
        if (a.names_schedules) {
                for (unsigned i = 0; schedules_name(i); i++)
                        printf("%s\n", schedules_name(i));
                return 0;
        }
        run_all(&a, &sums);
        if (a.until_killed) {
                if (sums.failed)
                        printf("mutant %s: killed at seed %llu, after %llu seeds\n", a.mutant->name,
                                (unsigned long long)sums.first_failed,
                                (unsigned long long)(sums.first_failed - a.from + 1));
                else
                        printf("mutant %s: NOT KILLED within %llu seeds\n", a.mutant->name,
                                (unsigned long long)a.seeds);
                return sums.failed ? 0 : 1;
        }
        if (!a.is_quiet)
                print_totals(&sums.totals);
        printf("hash of all %016llx\n", (unsigned long long)sums.hash);
        printf("%llu of %llu seeds failed\n", (unsigned long long)sums.failed, (unsigned long long)a.seeds);
        return sums.failed ? 1 : 0;
}
