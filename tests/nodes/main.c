/* Runs seeds: `nodes --seeds N [--from S] [--mutant NAME] [--until-killed] [--replay-every N] [--loud]
 * [--quiet]`. */
#include <string.h>

#include "room.h"

static const char *const mutant_names[MUTANTS] = {
        [MUTANT_NONE] = "none",
        [MUTANT_SKIP_SYNC] = "skip-sync",
        [MUTANT_ACK_BEFORE_SYNC] = "ack-before-sync",
        [MUTANT_UNCHECKED_READ] = "unchecked-read",
};

struct arguments {
        uint64_t seeds, from, replay_every;
        enum mutant mutant;
        bool until_killed, is_loud, is_quiet;
};

static int usage(void)
{
        fprintf(stderr, "usage: nodes [--seeds N] [--from S] [--mutant ");
        for (unsigned i = 0; i < MUTANTS; i++)
                fprintf(stderr, "%s%s", i ? "|" : "", mutant_names[i]);
        fprintf(stderr, "] [--until-killed] [--replay-every N] [--loud] [--quiet]\n");
        return 2;
}

static bool take_mutant(const char *name, enum mutant *ret)
{
        for (unsigned i = 0; i < MUTANTS; i++) {
                if (strcmp(name, mutant_names[i]) != 0)
                        continue;
                *ret = (enum mutant)i;
                return true;
        }
        return false;
}

static bool take_arguments(int argc, char **argv, struct arguments *a)
{
        *a = (struct arguments){.seeds = 100, .from = 1};
        for (int i = 1; i < argc; i++) {
                const char *value = i + 1 < argc ? argv[i + 1] : NULL;

                if (!strcmp(argv[i], "--until-killed"))
                        a->until_killed = true;
                else if (!strcmp(argv[i], "--loud"))
                        a->is_loud = true;
                else if (!strcmp(argv[i], "--quiet"))
                        a->is_quiet = true;
                else if (!value)
                        return false;
                else if (!strcmp(argv[i], "--seeds"))
                        a->seeds = strtoull(argv[++i], NULL, 10);
                else if (!strcmp(argv[i], "--from"))
                        a->from = strtoull(argv[++i], NULL, 10);
                else if (!strcmp(argv[i], "--replay-every"))
                        a->replay_every = strtoull(argv[++i], NULL, 10);
                else if (!strcmp(argv[i], "--mutant") && take_mutant(value, &a->mutant))
                        i++;
                else
                        return false;
        }
        return true;
}

static bool run_seed(const struct arguments *a, uint64_t seed, struct run_totals *totals)
{
        struct run_options options = {.seed = seed, .mutant = a->mutant, .is_loud = a->is_loud};
        struct run_result result = {0}, again = {0};

        run(&options, totals, &result);
        if (result.has_failed && !a->is_quiet)
                printf("seed %llu: %s\n", (unsigned long long)seed, result.what);
        if (!a->replay_every || seed % a->replay_every || result.has_failed)
                return !result.has_failed;
        run(&options, totals, &again);
        if (again.hash == result.hash)
                return true;
        printf("seed %llu: the second run was another one\n", (unsigned long long)seed);
        return false;
}

static void print_totals(const struct run_totals *t)
{
        printf("runs %llu: crashes %llu (power cuts %llu, kills %llu), pauses %llu, partitions %llu, leaders "
               "%llu\n",
                (unsigned long long)t->runs, (unsigned long long)t->crashes,
                (unsigned long long)t->power_cuts, (unsigned long long)t->kills,
                (unsigned long long)t->pauses, (unsigned long long)t->partitions,
                (unsigned long long)t->leaders);
        printf("  appends acknowledged %llu (duplicates %llu), unknown %llu, refused %llu; linearizable "
               "reads %llu\n",
                (unsigned long long)t->acknowledged, (unsigned long long)t->duplicates,
                (unsigned long long)t->unknown, (unsigned long long)t->refused, (unsigned long long)t->reads);
        printf("  messages %llu (dropped %llu), histories fetched %llu, changes of members %llu, transfers "
               "%llu, one to three %llu\n",
                (unsigned long long)t->messages, (unsigned long long)t->dropped,
                (unsigned long long)t->catch_ups, (unsigned long long)t->changes,
                (unsigned long long)t->transfers, (unsigned long long)t->grown);
}

int main(int argc, char **argv)
{
        struct run_totals totals = {0};
        struct arguments a;
        uint64_t failed = 0, n = 0;

        if (!take_arguments(argc, argv, &a))
                return usage();
        for (; n < a.seeds && !(a.until_killed && failed); n++)
                failed += !run_seed(&a, a.from + n, &totals);
        if (a.until_killed) {
                printf("mutant %s: %s after %llu seeds\n", mutant_names[a.mutant],
                        failed ? "killed" : "NOT KILLED", (unsigned long long)n);
                return failed ? 0 : 1;
        }
        if (!a.is_quiet)
                print_totals(&totals);
        printf("%llu of %llu seeds failed\n", (unsigned long long)failed, (unsigned long long)a.seeds);
        return failed ? 1 : 0;
}
