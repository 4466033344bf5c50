/* One run on the simulated machine, of the store or of its subscriptions: everything follows from the seed. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "base/bytes.h"

enum mutant { MUTANT_NONE, MUTANT_SKIP_SYNC, MUTANT_ACK_BEFORE_SYNC, MUTANT_SKIP_CRC,
        MUTANT_CHECKPOINT_BEFORE_ACK, MUTANT_CHECKPOINT_BEFORE_PARKED, MUTANT_LIVE_GAP, MUTANTS };

struct world_options {
        uint64_t seed;
        enum mutant mutant;
        bool is_loud; /* tells what it does */
};

/* Counters; they add up over seeds. */
struct world_totals {
        uint64_t seeds;
        uint64_t lives;
        uint64_t crashes; /* power cuts */
        uint64_t kills;
        uint64_t stops; /* orderly */
        uint64_t faults; /* of the disk, that ended a life */
        uint64_t lost_writes;
        uint64_t torn_writes;
        uint64_t appends; /* asked for */
        uint64_t events;  /* acknowledged */
        uint64_t duplicates;
        uint64_t conflicts;
        uint64_t refused;
        uint64_t unknown;
        uint64_t unknown_kept; /* unknown, and in the log */
        uint64_t busy;
        uint64_t full;
        uint64_t reads;
        uint64_t events_read;
        uint64_t waits; /* for the disk */
        uint64_t sealed;
        uint64_t flips;
        uint64_t flips_refused; /* the start was */
        uint64_t flips_found;   /* a read told of it */
        uint64_t flips_harmless;
        uint64_t clock_jumps;
        uint64_t read_faults;

        /* of subscriptions */
        uint64_t consumers;
        uint64_t given;
        uint64_t given_again; /* although they were finished */
        uint64_t retried;
        uint64_t acked;
        uint64_t nacked;
        uint64_t parked;
        uint64_t replays;
        uint64_t mutations;
        uint64_t mutations_unknown;
        uint64_t checkpoints_checked;
        uint64_t sessions;
        uint64_t session_events;
};

struct world_result {
        bool has_failed;
        char problem[512];
        uint64_t hash; /* of everything that happened */
        struct world_totals totals;
};

void world_run(const struct world_options *options, struct world_result *ret);
void subscriptions_run(const struct world_options *options, struct world_result *ret);

#endif
