/* The simulator of whole nodes: everything below the gateway, several of them in one simulated world, one thread, one
 * seed. What the files share: world.c lives, bus.c carries messages, faults.c breaks things, disks.c the disks,
 * rewriting.c a history, schedules.c aims what goes wrong, clients.c writes and waits, readers.c and subscribers.c follow, oracles.c judges, main.c runs seeds. */
#ifndef TESTS_NODES_ROOM_H
#define TESTS_NODES_ROOM_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "os/os_sim.h"
#include "store/store.h"

enum {
        NODES_MAX = 6,
        STREAMS = 6,
        EVENTS_MAX = 5, /* of an append */
        TERMS_MAX = 4096,
        LOG_MAX = 1 << 16, /* entries of a run that the oracles remember */
        EVENT_SIZE_MAX = 60 * 1024,
        READERS_MAX = 4,
        GROUPS = 2,
};

enum mutant {
        MUTANT_NONE,
        MUTANT_SKIP_SYNC,       /* groups are said to be durable that are not */
        MUTANT_ACK_BEFORE_SYNC, /* answers leave before the sync */
        MUTANT_UNCHECKED_READ,  /* a linearizable read asks nobody */
        MUTANT_CHECKPOINT_AHEAD, /* checkpoints run ahead of what was acknowledged */
        MUTANTS,
};

struct schedule;

struct run_options {
        uint64_t seed;
        const struct schedule *schedule;
        enum mutant mutant;
        unsigned of_store; /* mutants of the store: its options */
        bool is_loud;
};

struct run_totals {
        uint64_t runs, replays, crashes, power_cuts, kills, pauses, partitions, changes, transfers, grown;
        uint64_t acknowledged, unknown, refused, conflicts, duplicates, reads, waits, followed, catch_ups, leaders, messages, dropped;
        uint64_t rewritten;
        uint64_t stalls, full_disks, disk_errors, exits, flips, broken, mended, damaged_runs, lost_nodes, jumps, stops;
        uint64_t duties, given, repeats;
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
        struct notification *notification; /* and emitters: in worlds with subscribers */
        struct emitter *emitter;
        uint64_t served_at_us; /* rightly, or not at all */
        struct store_options options;
        bool has_opened;
        bool is_paused;
        bool is_member;  /* it has been made one, and was not removed */
        bool is_doomed;  /* its disk failed: the process ends */
        bool is_closing;
        bool is_lost;    /* its disk is gone for ever */
        bool is_flipped; /* bits of its disk were */
        bool is_broken;  /* it does not start any more, or was taken away, because of that */
        bool may_fail;   /* calls of its disk do, in this life */
        bool has_other_history; /* its log was changed, with right sums, and it has not found out yet */
        unsigned exits;
        struct os_sim_faults disk;
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
        bool does_outlive; /* the life that it was for */
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
        uint64_t must_follow; /* acknowledged before it was asked for the first time */
        bool may_be_there; /* a try was answered as unknown, or its node is gone */
        uint64_t first_position;
        uint64_t revision; /* of the last event, as told */
};

struct fault_rates {
        unsigned drop, copy, late; /* of 1000 messages */
        uint64_t late_us;
        unsigned crash, cut, pause, change, transfer, all_off; /* of 1000 chances, twenty in a second */
        unsigned stall, full, disk_error, jump, lose, flip, roll;
        unsigned damage; /* of 1000 runs of history */
        unsigned fetched_lost;  /* of 1000 runs of history, beside what is dropped */
        uint64_t down_us;       /* how long at least; 0: as drawn */
        bool do_requests_outlive; /* asked votes reach the next life of a node */
        bool is_restless; /* all of it short, and often */
        bool has_slow_disks;
};

/* Where a directed schedule is. */
struct script {
        unsigned step;
        uint64_t since_us;
        struct node *subject;
};

/* A refusal, and what it said of the stream. */
struct conflict {
        struct list link;
        unsigned stream;
        struct expected expected;
        bool has_revision;
        uint64_t revision;
        uint64_t must_see; /* acknowledged before it was asked */
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
        bool compares; /* nodes compare their histories, and scrub */
        bool is_healing;
        bool has_lost; /* a minority of disks is damaged or gone: no more of that */
        uint64_t link_room;
        unsigned rolling; /* the node that is stopped next; count: none */
        struct script script;
        struct node *favourite; /* whom clients ask; NULL: whom they know */
        bool is_quiet;          /* clients write nothing */
        bool are_expectations_wrong;
        /* clients.c */
        struct list ops, tries, readings, conflicts;
        uint64_t op_count, next_id;
        struct op *last_word;
        uint64_t acknowledged_position; /* one behind the highest that was acknowledged */
        /* readers.c */
        struct list readers;
        struct subscribers *subscribers; /* NULL: none */
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
void node_init(struct world *w, unsigned number);
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
void bring_down(struct node *n, bool is_power_cut);
/* The process ends by itself, and is started again. */
void node_exits(struct node *n);
/* What is damaged beyond what its node can do without is taken away. */
void faults_take_away(struct world *w);
void faults_on_vote(struct node *n); /* it votes for another: does it know that afterwards? */
void faults_cut_off(struct world *w, const struct node *n);
void faults_mend_links(struct world *w);
void faults_cut_power_soon(struct node *n, uint64_t us);
void faults_pause(struct node *n, uint64_t us);
void faults_lose(struct node *n); /* its disk is gone, and another node joins */
void faults_transfer(struct node *leader, const struct node *to);
void faults_change(struct node *leader, enum store_change which, const struct node *n);
void faults_grow(struct node *leader);

/* ---- schedules.c ---- */
/* NULL: there is none of that name. */
const struct schedule *schedules_find(const char *name);
const char *schedules_name(unsigned i); /* NULL: no more */
void schedules_begin(struct world *w);  /* what was drawn becomes what the schedule is about */
void schedules_act(struct world *w);
uint64_t schedules_us(const struct world *w); /* how long; 0: as drawn */

/* ---- disks.c ---- */
void disks_chance(struct world *w);
void disks_heal(struct world *w);
void disks_begin(struct node *n); /* a new life */
void disks_flip(struct node *n);  /* while it is down */

/* ---- rewriting.c ---- */
/* When all is well: the history of one node is changed, and it must find out. */
void rewriting_act(struct world *w);

/* ---- clients.c ---- */
void clients_act(struct world *w);
void clients_append(struct world *w, struct node *n);
/* When all is well again an append is acknowledged. */
void clients_last_word(struct world *w);
bool clients_were_heard(struct world *w);
void clients_node_gone(struct world *w, struct node *n);
void clients_fini(struct world *w);

/* ---- readers.c ---- */
void readers_act(struct world *w);
void readers_node_gone(struct world *w, struct node *n);
void readers_node_closes(struct world *w, struct node *n);

/* ---- subscribers.c ---- */
void subscribers_init(struct world *w);
void subscribers_fini(struct world *w);
void subscribers_node_opened(struct node *n);
void subscribers_node_gone(struct world *w, const struct node *n);
void subscribers_act(struct world *w);
void subscribers_look(struct world *w, struct node *n);
bool subscribers_are_done(struct world *w);
void subscribers_tell(struct world *w);
void subscribers_judge(struct world *w);

/* ---- oracles.c ---- */
void oracles_init(void);
void oracles_look(struct world *w);
/* Somebody was shown this event: all are shown the same at its position, and at the end it is there. */
void oracles_note_event(struct world *w, const struct node *n, const struct event_view *e);
unsigned oracles_find_stream(struct bytes name); /* STREAMS: none of the clients' */
extern const char *const stream_names[STREAMS];
/* Everything is healed: one leader, all have everything, and what was told is true. */
bool oracles_have_converged(struct world *w);
void oracles_mend(struct world *w);
void oracles_judge(struct world *w);
void oracles_tell(struct world *w); /* where all stand */

#endif
