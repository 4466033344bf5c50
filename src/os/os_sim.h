/* The simulated machine, and worlds of several: everything of os.h on one thread from a seed. For tests and tools/sim; no
 * other room's shipped code includes this (it is the one header beside os.h that tests of other rooms may include).
 *
 * Disk model (facts: a crash keeps what was synced and any subset of the rest): every write since the last sync of a
 * file is kept, lost or torn at a 512-byte or 1-byte cut on a crash, each independently by the seed, in any order;
 * names are durable only after os_dir_sync of their directory (a crash keeps or loses each unsynced create, rename and
 * remove); synced bytes survive always. Reads before a crash see all writes. */
#ifndef OS_OS_SIM_H
#define OS_OS_SIM_H

#include "os/os.h"

/* Gives a machine whose wall clock begins with 2026 and whose every choice follows from `seed`: a world of one, without a
 * network (os_listen, os_connect and os_udp_open are the fault -ENOSYS, names have no addresses). Free with os_free.
 * os_run ends without os_stop when nothing is left to run; there are no signals. */
MUST_CHECK int os_sim_new(uint64_t seed, struct os **ret);

/* Runs one due thing (timer, post, finished work step, something of the network), moving the clock to it, then the turn-end
 * hooks. False when nothing is left to run. Of a machine in a larger world: a step of the world, as in os_run. */
bool os_sim_step(struct os *os);
/* Steps until the clock has moved on by `us` or nothing is left; then sets the clock there. */
void os_sim_run_for(struct os *os, uint64_t us);

/* Cuts the power: unsynced state is kept, lost or torn as the model says; timers, posts, work, hooks, open files, sockets
 * and lookups vanish without a callback (they must not be used or closed after; their memory is the machine's). The clock
 * goes on. The caller then abandons its objects and opens anew. Peers see a reset, or silence until they give up, by the
 * seed; silence lasts until its next os_listen, os_connect or os_udp_open. */
void os_sim_crash(struct os *os);
/* kill -9: as os_sim_crash, but every write so far survives (page cache), and the kernel ends the connections: peers get
 * what had left os_conn_queued and then an end, or a reset. */
void os_sim_kill(struct os *os);

/* Shifts the wall clock, also backwards (G19). */
void os_sim_shift_wall(struct os *os, int64_t us);

/* Faults of the disk, counted over all files from now: the n-th call (1 = the next) gives the fault or outcome. 0: off. */
struct os_sim_faults {
        uint64_t write_fails_at;  /* -EIO */
        uint64_t sync_fails_at;   /* -EIO */
        uint64_t dir_sync_fails_at; /* -EIO */
        uint64_t full_at;         /* OS_FULL from then on, until set to 0 */
        uint64_t read_fails_at;   /* -EIO */
        uint64_t free_bytes;      /* os_space says that at most so much is free, until set to 0 */
        uint64_t work_us_max;     /* a slow disk: each work of a lane takes up to so much longer */
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

/* ---- a world: several machines, one true time, a network between them ---- */

/* Everything on one thread, in the order of true time, from one seed. Each machine has its own disk, its own clocks
 * (they begin anywhere, and may go faster or slower than true time) and its own chance; os_sim_crash, os_sim_kill,
 * os_sim_shift_wall, os_sim_set_faults, os_sim_flip_bit, os_sim_stats are for one machine.
 *
 * The network: TCP bytes come in order, cut into pieces by the seed, after a latency; kernels at both ends hold a bounded
 * number of bytes, then os_conn_queued grows. A watched end (os_conn_watch) breaks ("connection timed out") when its peer is
 * cut off or off for OS_SILENCE_US_MAX and up to 7 s more, or takes nothing for OS_SILENCE_US_MAX while bytes wait; an
 * unwatched end breaks only with bytes on the way, after 60 s. Datagrams may be lost, come twice or in another order. A
 * machine's address, "127.0.0.1" and "::1" reach itself. */
enum { OS_SIM_MACHINES_MAX = 32, OS_SIM_NAMES_MAX = 32 };

struct os_sim_world;
MUST_CHECK int os_sim_world_new(uint64_t seed, struct os_sim_world **ret);
/* Frees its machines too, as os_free does (which may also be called for one: its peers meet silence). Empties *world; NULL
 * is fine. */
void os_sim_world_free(struct os_sim_world **world);
/* Adds a machine with this address, an IP literal that no other has; NULL: one that is on no network, for the test's own
 * timers, posts and work. Its clocks agree with true time until they are set otherwise: only its monotonic clock begins
 * elsewhere, and its wall clock is off by some milliseconds. 0 or OS_ADDRESS_INVALID. */
MUST_CHECK int os_sim_world_add(struct os_sim_world *world, const char *address, struct os **ret);

/* Runs the next due thing of all machines and of the network. False when nothing is left to run (paused machines wait). */
bool os_sim_world_step(struct os_sim_world *world);
void os_sim_world_run_for(struct os_sim_world *world, uint64_t us); /* of true time */
uint64_t os_sim_world_now_us(const struct os_sim_world *world);     /* true time, from an arbitrary start */
/* Runs `fn(arg)` at a true time from now, of no machine: crashes and pauses do not touch it. */
void os_sim_world_call(struct os_sim_world *world, uint64_t after_us, void (*fn)(void *arg), void *arg);
uint64_t os_sim_world_choose(struct os_sim_world *world, uint64_t below);
void os_sim_world_observe(struct os_sim_world *world, const void *data, size_t size);
/* Of all that happened, in all machines and in the network. */
uint64_t os_sim_world_hash(const struct os_sim_world *world);

/* Sets the speed of a machine's clocks, in millionths of true time: 1000000 is right; from 100000 to 10000000. */
void os_sim_set_rate(struct os *os, uint32_t rate_ppm);
/* SIGSTOP and SIGCONT: nothing of the machine runs, its kernel takes connections and bytes as far as it has room; then
 * everything that fell due runs at once. A crash or kill ends the pause. */
void os_sim_pause(struct os *os);
void os_sim_resume(struct os *os);

/* One direction between two machines. The empty value is not the beginning: get, change, set. */
struct os_sim_link {
        uint32_t latency_us; /* of each piece and datagram; at the beginning 50 to 500, by the seed */
        uint32_t jitter_us;  /* up to so much more */
        uint32_t long_delay_us; /* now and then up to so much more, */
        uint32_t long_delay_permille; /* in so many of 1000 pieces and datagrams */
        uint64_t bytes_per_second_max; /* 0: no limit */
        /* Of datagrams, of 1000. */
        uint32_t loss_permille;
        uint32_t repeat_permille;
        uint32_t reorder_permille; /* overtaken by others: up to 20 ms more */
        bool is_stalled; /* everything waits until it is no longer set; only what is not yet established breaks for it */
        bool is_cut;     /* nothing comes through: datagrams are lost, bytes wait, ends break as told above */
};
struct os_sim_link os_sim_world_link(const struct os_sim_world *world, const struct os *from, const struct os *to);
void os_sim_world_set_link(struct os_sim_world *world, const struct os *from, const struct os *to,
        const struct os_sim_link *link);
/* Both directions at once: is_cut. */
void os_sim_world_cut(struct os_sim_world *world, const struct os *a, const struct os *b, bool is_cut);
void os_sim_world_heal(struct os_sim_world *world); /* every link is as at the beginning */
/* Resets every connection between the two: bytes on the way are lost, what has come may or may not be read before the end.
 * Gives their number. */
unsigned os_sim_world_reset(struct os_sim_world *world, const struct os *a, const struct os *b);

/* What os_resolve finds for `host`; `count` 0: nothing any more. An IP literal is its own address, "localhost" is
 * "127.0.0.1". The addresses need not be those of machines. */
void os_sim_world_set_name(struct os_sim_world *world, const char *host, const char *const *addresses, unsigned count);

struct os_sim_net_stats {
        uint64_t connections; /* established */
        uint64_t bytes;       /* delivered by TCP */
        uint64_t resets;
        uint64_t timeouts; /* connections that broke or failed by silence */
        uint64_t datagrams; /* delivered */
        uint64_t datagrams_lost;
};
struct os_sim_net_stats os_sim_world_stats(const struct os_sim_world *world);

#endif
