/* The simulator of whole nodes: everything below the gateway, several of them in one simulated world, one thread, one
 * seed. What the files share: world.c lives, bus.c carries messages, faults.c breaks things, clients.c writes and
 * reads, oracles.c judges, main.c runs seeds. */
#ifndef TESTS_NODES_ROOM_H
#define TESTS_NODES_ROOM_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "os/os_sim.h"
#include "store/store.h"

enum {
        NODES_MAX = 5,
        STREAMS = 6,
        EVENTS_MAX = 5, /* of an append */
        TERMS_MAX = 4096,
        LOG_MAX = 1 << 16, /* entries of a run that the oracles remember */
        LINK_ROOM = 512 * 1024,
};

enum mutant {
        MUTANT_NONE,
        MUTANT_SKIP_SYNC,       /* groups are said to be durable that are not */
        MUTANT_ACK_BEFORE_SYNC, /* answers leave before the sync */
        MUTANT_UNCHECKED_READ,  /* a linearizable read asks nobody */
        MUTANTS,
};

struct run_options {
        uint64_t seed;
        enum mutant mutant;
        unsigned of_store; /* mutants of the store: its options */
        bool is_loud;
};

struct run_totals {
        uint64_t runs, replays, crashes, power_cuts, kills, pauses, partitions, changes, transfers, grown;
        uint64_t acknowledged, unknown, refused, duplicates, reads, catch_ups, leaders, messages, dropped, forwarded;
};

struct run_result {
        bool has_failed;
        char what[512];
        uint64_t hash;
};

struct world;

struct node {
        struct world *world;
        unsigned number; /* 0 ... */
        uint64_t node_id;
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store; /* NULL: down */
        struct store_options options;
        bool has_opened;
        bool is_paused;
        bool is_member;  /* it has been made one, and was not removed */
        bool is_doomed;  /* its disk failed: the process ends */
        unsigned life;
        uint64_t next_position; /* seen in this life */
        uint64_t catch_up_seen;
        uint64_t looked_at; /* the oracles' last index */
};

/* A message on its way. */
struct parcel {
        struct list link;
        struct world *world;
        unsigned from, to, from_life, to_life;
        enum store_link on;
        uint16_t type;
        bool is_copy; /* does not count in the queue */
        struct buffer body;
};

/* An append and its tries. */
struct op {
        struct world *world;
        struct list link;
        uint64_t number;
        unsigned stream;
        struct expected expected;
        unsigned event_count;
        uint64_t first_id;
        unsigned tries, open; /* open: not answered */
        bool is_acknowledged;
        bool may_be_there; /* a try was answered as unknown, or its node is gone */
        uint64_t first_position;
        uint64_t revision; /* of the last event, as told */
};

struct fault_rates {
        unsigned drop, copy, late; /* of 1000 messages */
        uint64_t late_us;
        unsigned crash, cut, pause, change, transfer, all_off; /* of 1000 chances, twenty in a second */
};

struct world {
        struct run_options options;
        struct run_totals *totals;
        struct run_result *result;
        struct os_sim_world *sim;
        unsigned founders, count;
        struct node nodes[NODES_MAX];
        struct cluster_configuration first;
        bool is_cut[NODES_MAX][NODES_MAX]; /* from, to */
        uint64_t queued[NODES_MAX][NODES_MAX][STORE_LINKS];
        struct list parcels;
        struct fault_rates rates;
        bool is_healing;
        /* clients.c */
        struct list ops, tries, readings;
        uint64_t op_count, next_id;
        uint64_t acknowledged_position; /* one behind the highest that was acknowledged */
        /* oracles.c */
        uint64_t leader_of_term[TERMS_MAX];
};

void world_fail(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
void world_tell(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
static inline uint64_t choose(struct world *w, uint64_t below)
{
        return os_sim_world_choose(w->sim, below);
}
static inline bool one_in(struct world *w, uint64_t n)
{
        return choose(w, n) == 0;
}
static inline bool in_1000(struct world *w, unsigned n)
{
        return choose(w, 1000) < n;
}

/* ---- world.c ---- */
void run(const struct run_options *options, struct run_totals *totals, struct run_result *result);
void node_start(struct node *n);
void node_gone(struct node *n); /* after a crash or kill of its machine */
struct node *find_leader(struct world *w);

/* ---- bus.c ---- */
bool bus_send(void *arg, uint64_t node_id, enum store_link link, uint16_t type, const struct bytes *pieces, unsigned count);
void bus_tell_links(struct world *w, unsigned node, bool is_up);
void bus_forget(struct world *w);

/* ---- faults.c ---- */
void faults_choose_rates(struct world *w);
void faults_chance(struct world *w); /* twenty times in a second */
void faults_heal(struct world *w);

/* ---- clients.c ---- */
void clients_act(struct world *w);
void clients_node_gone(struct world *w, struct node *n);
void clients_fini(struct world *w);

/* ---- oracles.c ---- */
void oracles_init(void);
void oracles_look(struct world *w);
/* Everything is healed: one leader, all have everything, and what was told is true. */
bool oracles_have_converged(struct world *w);
void oracles_judge(struct world *w);

#endif
