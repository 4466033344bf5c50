/* cluster (ClusterSystem): order, leader, membership.
 *
 * The engine is libraft 0.22.1, driven only by raft_step(), behind this event/update interface, so that the simulator
 * drives the same code. It does no I/O: the caller (store/replica.c) carries out each update in this order: term and
 * vote durable, entries written, messages sent; then says what is durable by CLUSTER_PERSISTED.
 * The engine's known faults are fenced by guards RG1-RG17, each in guards.c with its reason. This one voter
 * needs RG2, RG11, RG13-RG15 and RG17.
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

/* What the caller must carry out after a step, in the order of the fields. Valid until the next step. */
struct cluster_update {
        bool has_term_or_vote; /* make `term` and `vote` durable before anything else of this update */
        uint64_t term;
        uint64_t voted_for;
        uint64_t first_index;  /* of `entries`: write them there; entries already at or above it are replaced */
        const struct cluster_entry *entries;
        unsigned entry_count;
        bool has_commit_index;
        uint64_t commit_index; /* apply up to the lower of this and what is stored */
        bool has_state;
        enum cluster_state state;
        uint64_t leader_id;    /* 0: unknown */
        uint64_t timeout_us;   /* when cluster_timeout is due, by the monotonic clock; UINT64_MAX: never */
};

enum cluster_outcome {
        CLUSTER_NOT_LEADER = 1,
        CLUSTER_INVALID,       /* what the log says makes no sense to the engine: treat as corrupt */
};

/* The version of the engine that is loaded, e.g. 2201 for 0.22.1; and what this build wants (RG17). */
int cluster_engine_version(void);
enum { CLUSTER_ENGINE_VERSION = 2201 };

struct cluster_options {
        uint64_t node_id;    /* > 0 */
        const char *address; /* copied */
        uint64_t seed;       /* for election timeouts */
        uint32_t election_timeout_ms; /* 0: 500 */
};
/* Makes an engine that is not started. */
MUST_CHECK int cluster_raft_new(const struct cluster_options *options, struct cluster_raft **ret);
void cluster_raft_free(struct cluster_raft **raft); /* NULL is fine */

/* The payload of the first entry of a new cluster of one: this node as the only voter. */
MUST_CHECK int cluster_configuration_single(uint64_t node_id, const char *address, struct buffer *out);

/* If this node is the only voter of the newest configuration in the log, a new term with a vote for itself must be
 * durable before cluster_start (RG2): true, with the values. `start` is otherwise unchanged. */
MUST_CHECK bool cluster_start_needs_term(const struct cluster_options *options, const struct cluster_start *start,
        uint64_t *ret_term, uint64_t *ret_voted_for);

/* Starts the engine. A sole voter leads at once: the update has its barrier. 0, CLUSTER_INVALID or a fault. */
MUST_CHECK int cluster_raft_start(struct cluster_raft *raft, uint64_t now_us, const struct cluster_start *start,
        struct cluster_update *ret);
/* Submits entries as leader; their terms are set here. 0, CLUSTER_NOT_LEADER or a fault. The update's `entries` are in
 * the same order with the same cookies; `payload`s are borrowed until the next step. */
MUST_CHECK int cluster_raft_submit(struct cluster_raft *raft, uint64_t now_us, struct cluster_entry *entries, unsigned count,
        struct cluster_update *ret);
/* Everything up to `index` is durable on this node. */
MUST_CHECK int cluster_raft_persisted(struct cluster_raft *raft, uint64_t now_us, uint64_t index, struct cluster_update *ret);
MUST_CHECK int cluster_raft_timeout(struct cluster_raft *raft, uint64_t now_us, struct cluster_update *ret);
/* The configuration entry at `index` was applied. */
MUST_CHECK int cluster_raft_configured(struct cluster_raft *raft, uint64_t now_us, uint64_t index, struct bytes configuration,
        struct cluster_update *ret);
/* Everything up to `index` is sealed: the engine forgets terms below it. */
MUST_CHECK int cluster_raft_sealed(struct cluster_raft *raft, uint64_t now_us, uint64_t index, uint64_t term,
        struct bytes configuration, uint64_t configuration_index, struct cluster_update *ret);

uint64_t cluster_raft_term(const struct cluster_raft *raft);
uint64_t cluster_raft_commit_index(const struct cluster_raft *raft);
enum cluster_state cluster_raft_state(const struct cluster_raft *raft);
/* Leader whose own term has a committed entry: may take writes and answer (G9). */
bool cluster_raft_can_write(const struct cluster_raft *raft);

/* Members of the configuration in use; gives their number. */
struct cluster_member {
        uint64_t node_id;
        bool is_voter;
        bool is_leader;
};
unsigned cluster_raft_members(const struct cluster_raft *raft, struct cluster_member *ret, unsigned max);

#endif
