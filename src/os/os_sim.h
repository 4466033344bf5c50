/* The simulated machine: everything of os.h on one thread from a seed. For tests and tools/sim; no other room's shipped
 * code includes this (it is the one header beside os.h that tests of other rooms may include).
 *
 * Disk model (facts: a crash keeps what was synced and any subset of the rest): every write since the last sync of a
 * file is kept, lost or torn at a 512-byte or 1-byte cut on a crash, each independently by the seed, in any order;
 * names are durable only after os_dir_sync of their directory (a crash keeps or loses each unsynced create, rename and
 * remove); synced bytes survive always. Reads before a crash see all writes. */
#ifndef OS_OS_SIM_H
#define OS_OS_SIM_H

#include "os/os.h"

/* Gives a machine whose wall clock begins with 2026 and whose every choice follows from `seed`. Free with os_free.
 * os_run ends without os_stop when nothing is left to run; os_listen is the fault -ENOSYS; there are no signals. */
MUST_CHECK int os_sim_new(uint64_t seed, struct os **ret);

/* Runs one due thing (timer, post, finished work step), moving the clock to it, then the turn-end hooks. False when
 * nothing is left to run. */
bool os_sim_step(struct os *os);
/* Steps until the clock has moved on by `us` or nothing is left; then sets the clock there. */
void os_sim_run_for(struct os *os, uint64_t us);

/* Cuts the power: unsynced state is kept, lost or torn as the model says; timers, posts, work, hooks and open files
 * vanish without a callback (files must not be used or closed after; their memory is the machine's). The clock goes on.
 * The caller then abandons its objects and opens anew. */
void os_sim_crash(struct os *os);
/* kill -9: as os_sim_crash, but every write so far survives (page cache). */
void os_sim_kill(struct os *os);

/* Shifts the wall clock, also backwards (G19). */
void os_sim_shift_wall(struct os *os, int64_t us);

/* Faults of the disk, counted over all files from now: the n-th call (1 = the next) gives the fault or outcome. 0: off. */
struct os_sim_faults {
        uint64_t write_fails_at;  /* -EIO */
        uint64_t sync_fails_at;   /* -EIO */
        uint64_t full_at;         /* OS_FULL from then on, until set to 0 */
        uint64_t read_fails_at;   /* -EIO */
        uint64_t free_bytes;      /* os_space says that at most so much is free, until set to 0 */
        bool sync_lies;           /* os_file_sync gives 0 and makes nothing durable (a mutant) */
        bool reads_are_cold;      /* os_file_read_warm gives OS_COLD in half of the calls, by the seed */
};
void os_sim_set_faults(struct os *os, const struct os_sim_faults *faults);

/* Flips one bit of a file's bytes as they are on disk. 0 or OS_NOT_FOUND. */
MUST_CHECK int os_sim_flip_bit(struct os *os, const char *path, uint64_t bit);
/* Number of writes, syncs, crashes so far; and a hash of everything that happened: the same seed and the same calls
 * give the same hash. */
struct os_sim_stats {
        uint64_t writes;
        uint64_t syncs;
        uint64_t crashes;
        uint64_t lost_writes;
        uint64_t torn_writes;
        uint64_t hash;
};
struct os_sim_stats os_sim_stats(const struct os *os);
/* Mixes a test's own observation into the hash. */
void os_sim_observe(struct os *os, const void *data, size_t size);
/* A number below `below` from the seed, for the test's own choices. */
uint64_t os_sim_choose(struct os *os, uint64_t below);

#endif
