/* The simulated machine's insides, and the world's. Private to the room.
 *
 * Times: a machine's timers and queues are in its own time, which is what its clock shows; the world and its network are
 * in true time. sim_local_of translates, sim.c has the way back. */
#ifndef OS_SIM_H
#define OS_SIM_H

#include "os/os_machine.h"
#include "os/os_sim.h"
#include "os/timers.h"

#define SIM_CLOCK_BEGIN_US ((uint64_t)1000000)
enum { SIM_RATE_RIGHT = 1000000 };

/* xoshiro256** of Blackman and Vigna. */
struct sim_random {
        uint64_t s[4];
};
void sim_random_init(struct sim_random *random, uint64_t seed);
uint64_t sim_random_below(struct sim_random *random, uint64_t below);

/* Something that runs at a time: a post, news of a socket, or a step of a work. */
struct sim_event {
        uint64_t due_us;
        uint64_t sequence;
        void (*fn)(void *arg); /* of a post or a socket */
        void *arg;             /* of these; else the struct os_work */
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

/* What a step of a machine can take; neither timer nor queue: nothing. */
struct sim_choice {
        uint64_t due_us;
        uint64_t sequence;
        struct os_timer *timer; /* or */
        struct sim_queue *queue;
        struct sim_lane *lane; /* whose queue it is, NULL for posts and sockets */
};

struct sim {
        struct os os;
        struct os_sim_world *world;
        unsigned index; /* in the world */
        struct sim_random random;
        uint64_t now_us; /* of its last step, in its own time */
        int64_t wall_offset_us;
        /* Its clock: `local` at the true time `base`, from then on at this rate. */
        uint64_t base_true_us;
        uint64_t base_local_us;
        uint32_t rate_ppm;
        uint64_t sequence;
        struct timers timers;
        struct sim_queue posts;
        struct sim_queue sockets;
        struct sim_lane lanes[OS_LANES];
        /* When has_next is set: what is due first, and when in true time. */
        struct sim_choice next;
        uint64_t next_true_us;
        bool has_next;
        bool is_stopping;
        bool is_paused;
        uint64_t life; /* grows at each crash and kill */
        struct os_sim_faults faults;
        /* Calls since the faults were set. */
        uint64_t writes;
        uint64_t syncs;
        uint64_t reads;
        struct os_sim_stats stats;
        /* network */
        char address[OS_ADDRESS_SIZE]; /* empty: on no network */
        bool is_silent;                /* its power was cut: it answers nothing */
        struct list listeners;
        struct list ends;
        struct list udps;
};

/* One direction between two machines. */
struct sim_link {
        struct os_sim_link is;
        struct os_sim_link begin;
        uint64_t busy_until_us; /* with what was sent so far, when bytes per second are limited */
};

struct sim_name {
        char host[OS_HOST_SIZE_MAX + 1];
        struct os_addresses addresses;
};

struct os_sim_world {
        struct sim_random random;
        uint64_t now_us;
        uint64_t hash;
        bool is_single; /* of os_sim_new: goes with its machine, has no network */
        unsigned count;
        struct sim *machines[OS_SIM_MACHINES_MAX]; /* NULL: freed */
        struct timers timers;                      /* of the network and the test, in true time */
        uint64_t sequence;
        struct list calls;      /* struct sim_call */
        struct sim_link *links; /* from * OS_SIM_MACHINES_MAX + to; NULL without a network */
        struct list tcps;       /* every struct sim_tcp, oldest first */
        uint64_t tcp_count;     /* made so far */
        struct list datagrams;  /* on their way */
        unsigned name_count;
        struct sim_name *names; /* OS_SIM_NAMES_MAX; NULL: none yet */
        struct os_sim_net_stats stats;
};

static inline struct sim *sim_of(const struct os *os)
{
        return CONTAINER_OF((struct os *)(uintptr_t)os, struct sim, os);
}

/* ---- machine ---- */

/* Begins a machine in its world, with this chance and its clock at `local_us`. */
struct sim *sim_new(struct os_sim_world *world, uint64_t seed, uint64_t local_us);
uint64_t sim_now(const struct sim *sim); /* its own time */
uint64_t sim_local_of(const struct sim *sim, uint64_t true_us);
/* When a machine's next thing is due, in true time; UINT64_MAX: never, as things are. */
uint64_t sim_due(struct sim *sim);
/* Runs that thing at the world's time, then the hooks. */
void sim_step(struct sim *sim);
void sim_sync_clock(struct sim *sim); /* to the world's time */
/* Runs `fn(arg)` on the machine as soon as it can. */
void sim_wake(struct sim *sim, void (*fn)(void *arg), void *arg);
uint64_t sim_choose(struct sim *sim, uint64_t below);
/* Notes what happens in the hash: a kind and up to two numbers. */
void sim_note(struct sim *sim, uint64_t kind, uint64_t a, uint64_t b);
enum sim_kind {
        SIM_OPEN = 1, SIM_READ, SIM_WRITE, SIM_SYNC, SIM_TRUNCATE, SIM_DIR_MAKE, SIM_DIR_SYNC, SIM_RENAME, SIM_REMOVE,
        SIM_TIMER, SIM_POST, SIM_WORK, SIM_DONE, SIM_CRASH, SIM_KILL, SIM_FLIP, SIM_OBSERVE,
        SIM_SOCKET, SIM_ARRIVAL, SIM_DATAGRAM, SIM_BREAK, SIM_CALL,
};
void sim_hash_mix(uint64_t *hash, uint64_t n);

extern const struct os_disk_table sim_disk_table;

/* ---- world ---- */

uint64_t world_choose(struct os_sim_world *world, uint64_t below);
void world_note(struct os_sim_world *world, uint64_t kind, uint64_t a, uint64_t b);
/* Timers of the world; `timer->os` stays empty. */
void world_timer_start(struct os_sim_world *world, struct os_timer *timer, uint64_t due_us);
void world_timer_stop(struct os_sim_world *world, struct os_timer *timer);
struct sim *world_find(struct os_sim_world *world, const struct sim *from, const char *address); /* NULL: none has it */
struct sim_link *world_link(struct os_sim_world *world, const struct sim *from, const struct sim *to);
/* How long `size` bytes that are sent now are on their way. */
uint64_t world_delay(struct os_sim_world *world, struct sim_link *link, size_t size);
void world_forget(struct sim *sim); /* a machine that is freed; frees the world of one */

/* ---- network ---- */

extern const struct os_net_table sim_net_table;

bool sim_is_literal(const char *address);
/* What a listener or a datagram socket may be bound to. */
bool sim_is_own_address(const struct sim *sim, const char *address);
bool sim_is_any_address(const char *address);
void sim_power_on(struct sim *sim); /* the machine's new life uses its network */

enum sim_loss { SIM_LOSS_CRASH, SIM_LOSS_KILL };
void sim_tcp_lose(struct sim *sim, enum sim_loss loss); /* the process is gone, without a callback */
void sim_tcp_fini(struct sim *sim);                     /* ends what is open, each with its on_close */
void sim_tcp_end(struct os_sim_world *world);           /* after its machines: what was still on its way */
void sim_tcp_link_changed(struct os_sim_world *world, const struct sim *from, const struct sim *to);
/* A machine's power went or came back, or it is freed: peers learn of it. */
void sim_tcp_machine_changed(struct sim *sim, bool is_freed);

int sim_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port);
int sim_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram);
void sim_udp_close(struct os_udp *udp);
void sim_udp_lose(struct sim *sim);
void sim_udp_link_changed(struct os_sim_world *world, const struct sim *from, const struct sim *to);
void sim_udp_fini(struct os_sim_world *world);
const char *sim_look_up(struct os *os, const char *host, struct os_addresses *ret);

#endif
