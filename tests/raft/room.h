/* The raft simulator: engines of src/cluster on one thread, driven only through cluster.h, with a simulated clock, network,
 * log disk and vote file, and with oracles that watch every step.
 *
 *     main.c     seeds, processes, totals
 *     world.c    time, network, faults: what happens when
 *     node.c     the driver of one engine: updates, writes, restarts, fetching, reads, seals
 *     members.c  changes of members, transfers
 *     grow.c     one voter becomes three or five
 *     oracles.c  what must hold
 */
#ifndef TESTS_RAFT_ROOM_H
#define TESTS_RAFT_ROOM_H

#include "base/bytes.h"
#include "cluster/cluster.h"

enum { NODES_MAX = 8, MS = 1000, SECOND = 1000 * 1000 };

/* What a seed simulates. The first ones are drawn by the seed when none is asked for. */
enum schedule { BASE, MEMBERSHIP, EVERYTHING, HARSH, MINORITY_DOWN, STALLS, ELECTIONS, SOLE, GROW, SCHEDULES };

/* Faults of our own side, on order. Guards that are off are bits of cluster_options.mutants. */
enum mutant {
        HONEST,
        VOTE_NOT_DURABLE,       /* a crash loses the newest vote */
        TERM_ROLLED_BACK,       /* a crash loses the newest term and vote */
        PERSISTED_AT_ISSUE,     /* a write is called durable when it is issued */
        PERSISTED_LAZILY,       /* a crash loses the last synced entry, half the time */
        SYNCED_LOST,            /* a crash loses up to 20 synced entries */
        PERSISTED_TRUNCATED,    /* a write is called durable although its entries were replaced meanwhile */
        APPLY_PAST_STORED,      /* committed entries are applied before they are stored */
        READ_WITHOUT_PROBE,     /* who believes to lead answers reads */
        INSTALL_UNCOMMITTED,    /* entries are fetched that the other node has not committed */
        GROW_WITHOUT_DAM,       /* the entry that makes three of one leaves before it is durable on that one */
        GROW_REMEMBERS_LEADER,  /* no offer is taken by who knows a leader, or thinks so */
        GROW_OLD_VOTER_OFFERS,  /* nobody but the old voter makes offers */
        MUTANTS
};
extern const char *const mutant_names[MUTANTS];
extern const char *const schedule_names[SCHEDULES];

/* ---- entries, logs, disks ---- */

struct entry {
        uint64_t term;
        uint64_t value; /* of a command; of a change: the number of its configuration */
        uint64_t chain; /* over all entries up to here */
        enum cluster_entry_type type;
};
struct log {
        struct entry *entries; /* entries[i] has index i + 1 */
        uint64_t count;
        uint64_t capacity;
};
struct write {
        uint64_t first; /* what stands here and behind is replaced */
        struct entry *entries;
        uint64_t count;
        uint64_t at; /* when it is on the disk */
};
struct seal {
        uint64_t index;
        uint64_t term;
        uint64_t configuration; /* its number; its index */
        uint64_t configuration_index;
};

enum { WRITES_MAX = 4096, READS_MAX = 64 };

struct read {
        uint64_t nonce;
        uint64_t index;
        uint64_t acknowledged; /* by anybody, when the read came */
};
/* An append that a client waits for. */
struct proposal {
        uint64_t index;
        uint64_t term;
        uint64_t value;
};

struct node {
        uint64_t id;
        bool is_up;
        bool is_down_for_good;
        uint64_t incarnation;
        uint64_t paused_until;
        int64_t drift_ppm;

        /* durable */
        struct log disk;
        uint64_t term, vote;
        uint64_t older_term, older_vote; /* for mutants that lose the newest */
        struct seal seal;

        /* gone with a crash */
        struct cluster_raft *raft;
        struct log log;
        struct write writes[WRITES_MAX];
        unsigned write_first, write_count;
        uint64_t disk_free_at;
        uint64_t stored;
        uint64_t commit;
        uint64_t applied;
        uint64_t change_index; /* of the last change in the log; 0: none */
        uint64_t timer_generation;
        struct proposal *proposals;
        unsigned proposal_count, proposal_capacity;
        struct read reads[READS_MAX];
        unsigned read_count;
        bool is_installing;
        uint64_t install_index, install_term;
        uint64_t install_generation;
        uint64_t hold_until; /* clients are held back until it has grown, or until then; 0: they are not */
        uint64_t dam_index;  /* messages with entries wait until this one is durable; 0: they do not */
        struct packet **dammed;
        unsigned dammed_count, dammed_capacity;
        uint64_t offer_at;

        /* liveness */
        uint64_t second;
        unsigned steps, timeouts;
};

/* ---- the world ---- */

enum packet_kind { ENGINE, FETCH, FETCHED, OFFER };

struct packet {
        enum packet_kind kind;
        unsigned references;
        uint64_t from, to;
        struct buffer bytes; /* an engine's message */
        uint64_t a, b, c;    /* of the driver's messages */
        struct entry *entries;
        unsigned entry_count;
};

enum event_kind { EVENT_PACKET, EVENT_TIMER, EVENT_WRITTEN, EVENT_CRASH, EVENT_RESTART, EVENT_CLIENT, EVENT_CHAOS, EVENT_TICK };

struct event {
        uint64_t at;
        uint64_t number;
        enum event_kind kind;
        unsigned node;
        uint64_t generation;
        struct packet *packet;
};

struct totals {
        uint64_t seeds, steps, crashes, partitions, changes, refused_changes, transfers, installs, acknowledged, failed, reads,
                leaders, truncations, seals, grown, grow_tries, offers, offers_taken, probes, dropped;
};

struct result {
        bool has_failed;
        char problem[200];
        uint64_t hash;
        struct totals totals;
};

struct world_options {
        uint64_t seed;
        enum mutant mutant;
        uint32_t guards_off; /* bits, as in cluster_options */
        bool has_schedule;
        enum schedule schedule;
        bool is_loud;
};

struct rates {
        uint64_t drop, duplicate, slow, old; /* per mille of messages */
        uint64_t old_us;
        uint64_t crash_every_us, cut_every_us, pause_every_us, change_every_us, transfer_every_us, seal_every_us;
        uint64_t stall, stall_us; /* per mille of writes; the longest */
        uint64_t write_us;
        uint64_t client_us;
        bool pushes_commit;
        bool changes_go_on; /* behind the growth */
        bool is_sloppy;     /* offers are made although a leader is known */
        bool loses_old_voter; /* for good, in the end; and one that is to vote sleeps from the growth until then */
        bool reads;
};

struct world {
        struct world_options options;
        enum schedule schedule;
        struct rates rates;
        uint64_t random;
        uint64_t now, fault_end, end;
        bool is_healed;
        struct event *heap;
        unsigned heap_count, heap_capacity;
        uint64_t event_number;
        struct node nodes[NODES_MAX]; /* id is the place + 1 */
        unsigned node_count, voters_at_first;
        bool is_cut[NODES_MAX][NODES_MAX]; /* from, to */
        uint64_t cut_until;
        struct buffer *configurations;
        uint64_t configuration_count;
        uint64_t next_value;
        uint64_t acknowledged; /* highest index that a client was told of */
        struct log committed;  /* what a leader once committed */
        struct history *histories; /* (index, term) to chain */
        uint64_t history_count, history_capacity;
        struct { uint64_t node, incarnation; } *leaders; /* by term */
        uint64_t leader_capacity;
        uint64_t newest_leader_term;
        uint32_t trailing, in_flight;
        struct result *result;
        unsigned poison;
};

/* ---- world.c ---- */

void world_run(const struct world_options *options, struct result *ret);
void world_fail(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
void world_say(const struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
uint64_t world_random(struct world *w, uint64_t below); /* 0 .. below - 1; 0 if below is 0 */
bool world_chance(struct world *w, uint64_t per_mille);
void world_hash(struct world *w, uint64_t n);
void world_at(struct world *w, uint64_t at, enum event_kind kind, unsigned node, uint64_t generation, struct packet *packet);
struct packet *world_packet(uint64_t from, uint64_t to, enum packet_kind kind);
void world_crash(struct world *w, struct node *n); /* and a restart later */
void world_send(struct world *w, struct packet *packet); /* takes it */
void world_send_late(struct world *w, struct packet *packet, uint64_t after_us); /* a copy of it */
void world_drop(struct packet *packet);
/* The worst moment for the one that grows and for its stand-bys. */
void world_attack(struct world *w, const struct node *n);
/* The number of a configuration, the same for the same bytes. */
uint64_t world_configuration(struct world *w, struct bytes payload);
struct bytes world_payload(const struct world *w, uint64_t configuration);

void log_add(struct log *log, struct entry entry); /* sets its chain */
void log_cut(struct log *log, uint64_t last);
struct entry *log_at(const struct log *log, uint64_t index); /* NULL: not there */
uint64_t log_chain(const struct log *log, uint64_t index);

/* ---- node.c ---- */

uint64_t node_clock(const struct world *w, const struct node *n);
void node_start(struct world *w, struct node *n);
void node_crash(struct world *w, struct node *n);
void node_packet(struct world *w, struct node *n, struct packet *packet);
void node_timer(struct world *w, struct node *n);
void node_written(struct world *w, struct node *n);
void node_client(struct world *w, struct node *n);
void node_tick(struct world *w, struct node *n);
void node_carry_out(struct world *w, struct node *n, struct cluster_update *update);
void node_step_begins(struct world *w, struct node *n);
void node_receive(struct world *w, struct node *n, const struct cluster_message *message);
void node_stop_engine(struct node *n);

/* ---- members.c ---- */

void members_act(struct world *w, struct node *n);
void members_transfer(struct world *w, struct node *n);

/* ---- grow.c ---- */

void grow_begin(struct world *w, struct node *n);
void grow_tick(struct world *w, struct node *n);
bool grow_dams(struct node *n, struct packet *packet); /* true: it is kept back */
void grow_open_dam(struct world *w, struct node *n);
void grow_forget(struct node *n); /* in a crash */
void grow_take_offer(struct world *w, struct node *n, const struct packet *packet);

/* ---- oracles.c ---- */

void oracle_entry(struct world *w, const struct node *n, uint64_t index);
void oracle_truncation(struct world *w, const struct node *n, uint64_t first);
void oracle_leader(struct world *w, const struct node *n);
void oracle_commit(struct world *w, struct node *n, uint64_t commit_index);
void oracle_applied(struct world *w, const struct node *n, uint64_t index);
void oracle_configuration(struct world *w, const struct node *n);
bool oracle_has_converged(struct world *w, bool is_loud);
void oracle_end(struct world *w);
void oracle_steps(struct world *w, struct node *n, bool is_timeout);

#endif
