/* The simulated machine's insides. Private to the room. */
#ifndef OS_SIM_H
#define OS_SIM_H

#include "os/os_machine.h"
#include "os/os_sim.h"
#include "os/timers.h"

/* Something that runs at a time: a post, or a step of a work. */
struct sim_event {
        uint64_t due_us;
        uint64_t sequence;
        void (*fn)(void *arg); /* of a post */
        void *arg;             /* of a post; else the struct os_work */
};

/* Events that fall due in the order in which they come. A ring; the empty value is all zero. */
struct sim_queue {
        struct sim_event *events;
        size_t first;
        size_t count;
        size_t capacity; /* a power of two */
};

struct sim_lane {
        struct sim_queue works; /* `work` is due */
        struct sim_queue dones; /* `done` is due */
};

struct sim {
        struct os os;
        uint64_t random[4];
        uint64_t now_us;
        int64_t wall_offset_us;
        uint64_t sequence;
        struct timers timers;
        struct sim_queue posts;
        struct sim_lane lanes[OS_LANES];
        bool is_stopping;
        uint64_t life; /* grows at each crash and kill */
        struct os_sim_faults faults;
        /* Calls since the faults were set. */
        uint64_t writes;
        uint64_t syncs;
        uint64_t reads;
        struct os_sim_stats stats;
};

static inline struct sim *sim_of(const struct os *os)
{
        return CONTAINER_OF((struct os *)(uintptr_t)os, struct sim, os);
}

uint64_t sim_choose(struct sim *sim, uint64_t below);
/* Notes what happens in the hash: a kind and up to two numbers. */
void sim_note(struct sim *sim, uint64_t kind, uint64_t a, uint64_t b);
enum sim_kind {
        SIM_OPEN = 1, SIM_READ, SIM_WRITE, SIM_SYNC, SIM_TRUNCATE, SIM_DIR_MAKE, SIM_DIR_SYNC, SIM_RENAME, SIM_REMOVE,
        SIM_TIMER, SIM_POST, SIM_WORK, SIM_DONE, SIM_CRASH, SIM_KILL, SIM_FLIP, SIM_OBSERVE,
};

extern const struct os_disk_table sim_disk_table;

#endif
