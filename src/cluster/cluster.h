/* cluster (ClusterSystem): order, leader, membership.
 *
 * The engine is libraft 0.22.1, driven only by raft_step(), behind this event/update interface, so that the simulator
 * drives the same code. It does no I/O: the caller (store/replica.c) carries out each update in this order: term and
 * vote durable, entries written, messages sent; then says what is durable by CLUSTER_PERSISTED.
 * The engine's known faults are fenced by guards RG1-RG19, each in guards.c with its reason.
 *
 * An update must be carried out before the next step (RG14). A message may need several steps (RG5, RG6): as long as
 * `has_more` is set, cluster_raft_more follows each update before anything else.
 *
 * Threads: the loop thread. */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include "base/bytes.h"
#include "base/fault.h"

struct cluster_raft;

enum cluster_entry_type { CLUSTER_COMMAND = 1, CLUSTER_BARRIER = 2, CLUSTER_CHANGE = 3 };

/* One entry of the log as the engine sees it. */
struct cluster_entry {
        uint64_t term;
        enum cluster_entry_type type;
        struct bytes payload; /* needed for CLUSTER_CHANGE; else may be empty: the engine never looks at it */
        void *cookie;         /* the submitter's, given back in the update */
};

enum cluster_state { CLUSTER_UNAVAILABLE, CLUSTER_FOLLOWER, CLUSTER_CANDIDATE, CLUSTER_LEADER };

/* What the log on disk says at the start. */
struct cluster_start {
        uint64_t term;
        uint64_t voted_for;
        /* Everything up to here is sealed ("snapshot" in the engine's words); index 0: nothing is. */
        uint64_t base_index;
        uint64_t base_term;
        struct bytes base_configuration; /* as cluster_configuration_encode makes it */
        uint64_t base_configuration_index;
        /* The entries base_index + 1 .. base_index + entry_count, in order. */
        const struct cluster_entry *entries;
        uint64_t entry_count;
};

/* ---- messages between the engines of one store ---- */

enum cluster_message_type {
        CLUSTER_REQUEST_VOTE = 1,
        CLUSTER_VOTE,        /* the answer to it */
        CLUSTER_APPEND,      /* AppendEntries: also heartbeat, and commit pushed at once */
        CLUSTER_APPEND_RESULT,
        CLUSTER_INSTALL,     /* InstallSnapshot: only says through where; the receiver fetches the entries itself */
        CLUSTER_TIMEOUT_NOW, /* leadership is handed over */
        CLUSTER_PROBE,       /* is the receiver still in this term? For linearizable reads; never seen by the engine */
        CLUSTER_PROBE_RESULT,
};
struct cluster_message {
        enum cluster_message_type type;
        uint64_t node_id; /* sent: to; received: from */
        uint64_t term;
        union {
                struct {
                        uint64_t candidate_id;
                        uint64_t last_index;
                        uint64_t last_term;
                        bool disrupts_leader;
                        bool is_pre_vote;
                } request_vote;
                struct {
                        bool is_granted;
                        bool is_pre_vote;
                } vote;
                struct {
                        uint64_t previous_index;
                        uint64_t previous_term;
                        uint64_t commit_index;
                        uint32_t entry_count;
                        /* Received: entry_count of them, borrowed until the last update of the message was carried out;
                         * payloads only matter for CLUSTER_CHANGE here and pass through to the update. To be sent: NULL,
                         * the sender reads previous_index + 1 ... from its log, and may split the message: each part names
                         * as previous the entry before it. */
                        const struct cluster_entry *entries;
                } append;
                struct {
                        uint64_t rejected; /* 0: accepted */
                        uint64_t last_index;
                } append_result;
                struct {
                        uint64_t last_index;
                        uint64_t last_term;
                        struct bytes configuration; /* borrowed like entries */
                        uint64_t configuration_index;
                } install;
                struct {
                        uint64_t last_index;
                        uint64_t last_term;
                } timeout_now;
                struct {
                        uint64_t nonce;
                        bool is_confirmed; /* in the result: the node is in the probe's term */
                } probe;
        };
};
/* The bytes of a message without its entries, which follow in the caller's own form. Decoding borrows from `bytes`, gives
 * in *ret_rest what follows, and leaves `node_id` 0 and `append.entries` NULL. 0 or CLUSTER_INVALID. Format: the head of
 * message.c. */
void cluster_message_encode(const struct cluster_message *message, struct buffer *out);
MUST_CHECK int cluster_message_decode(struct bytes bytes, struct cluster_message *ret, struct bytes *ret_rest);

/* What the caller must carry out after a step, in the order of the fields. Valid until the next step. */
struct cluster_update {
        bool has_term_or_vote; /* make `term` and `vote` durable before anything else of this update */
        uint64_t term;
        uint64_t voted_for;
        uint64_t first_index;  /* of `entries`: write them there; entries already at or above it are replaced */
        const struct cluster_entry *entries;
        unsigned entry_count;
        /* Fetch committed entries through `last_index` from another node (the log keeps those that it has committed and
         * drops what is behind them), make them durable, then call cluster_raft_installed. */
        bool has_install;
        uint64_t install_index;
        uint64_t install_term;
        struct bytes install_configuration;
        uint64_t install_configuration_index;
        const struct cluster_message *messages; /* send them after term, vote; they may leave before the entries are written */
        unsigned message_count;
        bool has_commit_index;
        uint64_t commit_index; /* apply up to the lower of this and what is stored */
        bool has_state;
        enum cluster_state state;
        uint64_t leader_id;    /* 0: unknown */
        uint64_t timeout_us;   /* when cluster_timeout is due, by the monotonic clock; UINT64_MAX: never */
        bool has_more;         /* the message is not finished: cluster_raft_more is next */
};

enum cluster_outcome {
        CLUSTER_NOT_LEADER = 1,
        CLUSTER_INVALID,       /* what the log, or a message, says makes no sense to the engine: treat as corrupt */
        CLUSTER_NOT_NOW,       /* a change of members that has to wait: for one under way, an entry of the own term, a
                                  node that is not caught up (RG3, RG7); cluster_raft_reason says for what */
        CLUSTER_REFUSED,       /* one that would leave the envelope (RG3): never; cluster_raft_reason says why */
};

/* The version of the engine that is loaded, e.g. 2201 for 0.22.1; and what this build wants (RG17). */
int cluster_engine_version(void);
enum { CLUSTER_ENGINE_VERSION = 2201 };

struct cluster_options {
        uint64_t node_id;    /* > 0 */
        const char *address; /* copied */
        uint64_t seed;       /* for election timeouts */
        uint32_t election_timeout_ms; /* 0: 500 */
        uint32_t trailing;            /* 0: CLUSTER_TRAILING */
        uint32_t in_flight_max;       /* entries on their way to one member; 0: 4096 */
        /* Tests only, 0 elsewhere: guard RGn is off where bit n is set; bit 0 is the second half of RG1. */
        uint32_t mutants;
};
/* Makes an engine that is not started. */
MUST_CHECK int cluster_raft_new(const struct cluster_options *options, struct cluster_raft **ret);
void cluster_raft_free(struct cluster_raft **raft); /* NULL is fine */

/* ---- configurations ---- */

enum { CLUSTER_MEMBERS_MAX = 16, CLUSTER_VOTERS_MAX = 5, CLUSTER_ADDRESS_SIZE = 256 };
enum cluster_role {
        CLUSTER_VOTER,
        CLUSTER_STANDBY, /* has the log and serves reads, does not vote */
};
struct cluster_server {
        uint64_t node_id;
        enum cluster_role role;
        char address[CLUSTER_ADDRESS_SIZE]; /* host:port of its peer listener; with its NUL */
};
struct cluster_configuration {
        unsigned count;
        struct cluster_server servers[CLUSTER_MEMBERS_MAX]; /* by node id */
};
/* The payload of a CLUSTER_CHANGE entry. Encode: 0 or a fault. Decode: 0, CLUSTER_INVALID or a fault. */
MUST_CHECK int cluster_configuration_encode(const struct cluster_configuration *configuration, struct buffer *out);
MUST_CHECK int cluster_configuration_decode(struct bytes bytes, struct cluster_configuration *ret);
/* The payload of the first entry of a new cluster of one: this node as the only voter. */
MUST_CHECK int cluster_configuration_single(uint64_t node_id, const char *address, struct buffer *out);

/* If this node is the only voter of the newest configuration in the log, a new term with a vote for itself must be
 * durable before cluster_start (RG2): true, with the values. `start` is otherwise unchanged. */
MUST_CHECK bool cluster_start_needs_term(const struct cluster_options *options, const struct cluster_start *start,
        uint64_t *ret_term, uint64_t *ret_voted_for);

/* Starts the engine with what is durable. A sole voter leads at once: the update has its barrier. The commit index of the update is
 * at least the base. 0, CLUSTER_INVALID or a fault. */
MUST_CHECK int cluster_raft_start(struct cluster_raft *raft, uint64_t now_us, const struct cluster_start *start,
        struct cluster_update *ret);
/* Submits entries as leader; their terms are set here. 0, CLUSTER_NOT_LEADER or a fault. The update's `entries` are in
 * the same order with the same cookies; `payload`s are borrowed until the next step. */
MUST_CHECK int cluster_raft_submit(struct cluster_raft *raft, uint64_t now_us, struct cluster_entry *entries, unsigned count,
        struct cluster_update *ret);
/* Everything up to `index` is durable on this node. */
MUST_CHECK int cluster_raft_persisted(struct cluster_raft *raft, uint64_t now_us, uint64_t index, struct cluster_update *ret);
/* A message has come. What a guard drops gives an empty update. 0, CLUSTER_INVALID (its sender does not keep to the protocol:
 * nothing was done) or a fault. */
MUST_CHECK int cluster_raft_receive(struct cluster_raft *raft, uint64_t now_us, const struct cluster_message *message,
        struct cluster_update *ret);
/* The next part of the message, after an update with `has_more`. */
MUST_CHECK int cluster_raft_more(struct cluster_raft *raft, uint64_t now_us, struct cluster_update *ret);
/* What `has_install` asked for is durable, with the term that it named. From here on this node may be installed from, as if sealed.
 * What was fetched is committed, so it may be kept when a crash comes between; before each piece the fetcher compares the index
 * and term of its own end with the other node's. */
MUST_CHECK int cluster_raft_installed(struct cluster_raft *raft, uint64_t now_us, struct cluster_update *ret);
/* An empty append to every member that is known to have committed entries of which it was not told so, instead of at the next
 * heartbeat (RG14). Empty when this node does not lead or there is no such member. No step of the engine. */
void cluster_raft_push_commit(struct cluster_raft *raft, struct cluster_update *ret);
MUST_CHECK int cluster_raft_timeout(struct cluster_raft *raft, uint64_t now_us, struct cluster_update *ret);
/* The configuration entry at `index` was applied. */
MUST_CHECK int cluster_raft_configured(struct cluster_raft *raft, uint64_t now_us, uint64_t index, struct bytes configuration,
        struct cluster_update *ret);
/* Everything up to `index` is sealed: the engine forgets terms more than CLUSTER_TRAILING entries below it; a member that
 * lags behind those gets a CLUSTER_INSTALL. */
enum { CLUSTER_TRAILING = 1 << 20 };
MUST_CHECK int cluster_raft_sealed(struct cluster_raft *raft, uint64_t now_us, uint64_t index, uint64_t term,
        struct bytes configuration, uint64_t configuration_index, struct cluster_update *ret);

uint64_t cluster_raft_term(const struct cluster_raft *raft);
uint64_t cluster_raft_commit_index(const struct cluster_raft *raft);
enum cluster_state cluster_raft_state(const struct cluster_raft *raft);
/* Leader whose own term has a committed entry: may take writes and answer (G9). */
bool cluster_raft_can_write(const struct cluster_raft *raft);

uint64_t cluster_raft_leader(const struct cluster_raft *raft); /* 0: unknown */
uint64_t cluster_raft_last_index(const struct cluster_raft *raft);
/* The term of an entry that the engine still knows; 0: it does not. */
uint64_t cluster_raft_term_of(const struct cluster_raft *raft, uint64_t index);

/* ---- members ---- */

/* Members of the configuration in use; gives their number. */
struct cluster_member {
        uint64_t node_id;
        bool is_voter;
        bool is_leader;
        uint64_t match_index; /* at the leader: known to be durable there */
};
unsigned cluster_raft_members(const struct cluster_raft *raft, struct cluster_member *ret, unsigned max);
uint64_t cluster_raft_configuration_index(const struct cluster_raft *raft); /* of the entry that is in use; costs a load */
/* The configuration in use, and the index of its entry; `*ret_is_committed` whether that is committed. */
void cluster_raft_configuration(const struct cluster_raft *raft, struct cluster_configuration *ret, uint64_t *ret_index,
        bool *ret_is_committed);

/* Changes of members, at the leader: one server, one role (RG3); the update has the CLUSTER_CHANGE entry. 0,
 * CLUSTER_NOT_LEADER, CLUSTER_NOT_NOW, CLUSTER_REFUSED or a fault. Envelope: 3 to 5 voters (4 only in passing: it is allowed,
 * and cluster status says so), or 1 voter that is this leader; stand-bys at will. A stand-by is promoted only among 3 or
 * more voters, after its catch-up was found finished. */
MUST_CHECK int cluster_raft_add(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, const char *address,
        struct cluster_update *ret); /* as stand-by; a known member gets the new address */
MUST_CHECK int cluster_raft_promote(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, struct cluster_update *ret);
MUST_CHECK int cluster_raft_demote(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, struct cluster_update *ret);
MUST_CHECK int cluster_raft_remove(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, struct cluster_update *ret);
/* Is the stand-by so near to the end of the log that it can be promoted? Begins to watch it when it was not watched. 0 yes,
 * CLUSTER_NOT_NOW not yet (both with an update), CLUSTER_NOT_LEADER, CLUSTER_REFUSED (no stand-by) or a fault. */
MUST_CHECK int cluster_raft_is_caught_up(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, struct cluster_update *ret);
/* Why the envelope does not allow a change, for people; NULL: it does. For dry runs: the engine looks for itself. */
const char *cluster_change_problem(uint64_t leader_id, const struct cluster_configuration *from,
        const struct cluster_configuration *to);
/* One voter becomes three or five (grow.c says why this is safe): the stand-bys named, which have everything, become voters
 * in one entry. The caller has seen to it that nothing is under way, and sends no message of this update, or of a later one,
 * that carries the entry before it is durable here. 0, CLUSTER_NOT_LEADER, CLUSTER_NOT_NOW, CLUSTER_REFUSED or a fault. */
MUST_CHECK int cluster_raft_grow(struct cluster_raft *raft, uint64_t now_us, const uint64_t *node_ids, unsigned count,
        struct cluster_update *ret);
/* The index of such an entry, while its configuration is the one in use and this node is a voter of it; 0: none. While such a
 * node knows no leader, it offers the entry to the other voters again and again: one that does not have it does not vote. Who
 * is no voter by its own log, which ends before the entry and is equal up to there, takes it as an append of MAX(own term,
 * the entry's), with everything before committed. Offers may be late, doubled and needless. */
uint64_t cluster_raft_growing(const struct cluster_raft *raft);
bool cluster_raft_is_voter(const struct cluster_raft *raft); /* in the configuration in use */
bool cluster_raft_is_only_voter(const struct cluster_raft *raft);
/* Hands leadership to a voter that has everything (RG12); submits are refused meanwhile: the caller pauses them. 0,
 * CLUSTER_NOT_LEADER, CLUSTER_NOT_NOW (it lags), CLUSTER_REFUSED (no other voter of that id) or a fault. */
MUST_CHECK int cluster_raft_transfer(struct cluster_raft *raft, uint64_t now_us, uint64_t node_id, struct cluster_update *ret);
/* Why the last CLUSTER_NOT_NOW or CLUSTER_REFUSED of this engine, for people. */
const char *cluster_raft_reason(const struct cluster_raft *raft);

/* ---- linearizable reads (G7) ---- */

/* Begins to ask the voters whether this node still leads in its term; the update has the messages, *ret_nonce names the
 * question. Reads that arrived before may be served from what is applied at `*ret_index` (at least the commit index and the
 * first entry of the own term) once cluster_raft_probe_confirmed says so; the caller drops them when state or term change. A sole
 * voter's is confirmed at once. 0, CLUSTER_NOT_LEADER, CLUSTER_NOT_NOW (no entry of the own term is committed yet). No step. */
MUST_CHECK int cluster_raft_probe(struct cluster_raft *raft, uint64_t *ret_nonce, uint64_t *ret_index, struct cluster_update *ret);
/* The newest nonce such that it and all before it are confirmed by a majority in the present term of leadership; 0: none. Never
 * survives a change of term. */
uint64_t cluster_raft_probe_confirmed(const struct cluster_raft *raft);

#endif
