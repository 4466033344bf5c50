/* What the files of this room share: the engine's state around the library's. */
#ifndef CLUSTER_ROOM_H
#define CLUSTER_ROOM_H

#include <raft.h>

#include "cluster/guards.h"

struct cluster_raft {
        struct raft raft;
        uint32_t mutants;  /* guards that a test has switched off */
        uint64_t last_ms; /* newest time that the engine has seen */
        uint64_t last_timeout_ms;
        uint64_t own_term_index; /* first entry of the term in which this node leads; 0: none */
        uint64_t commit_index;
        enum cluster_state state;
        uint64_t leader_id;
        bool is_started;
        unsigned trailing;

        /* ---- one call ---- */
        struct raft_entry *batch; /* what the library is given; it must stay until the update is handled */
        unsigned batch_capacity;
        const struct cluster_entry *given; /* the entries that `batch` was made of */
        struct cluster_entry *submitted;   /* a copy of what the submitter gave */
        unsigned submitted_capacity;
        struct cluster_entry barrier; /* of a new leader */
        struct cluster_message *messages;
        unsigned message_count;
        unsigned message_capacity;
        bool is_old_term; /* the message at hand is of a term that has passed (RG4) */

        /* ---- a message in parts (RG5) ---- */
        struct cluster_message incoming;
        unsigned incoming_done; /* entries of it that the library has seen */
        bool has_incoming;

        /* ---- through where this node can be installed from, and what it is installing itself ---- */
        struct cluster_seal {
                uint64_t index;
                uint64_t term;
                uint64_t configuration_index;
                struct buffer configuration;
        } sealed, installing;

        /* ---- members ---- */
        struct buffer change;      /* the payload of the change that is being submitted */
        uint64_t promoted_id;      /* newest promotion in the log: nothing else changes before that node has it */
        uint64_t promotion_index;
        uint64_t grown_index; /* newest entry in the log that made several voters of one; 0: none */
        char reason[200];

        /* ---- what each member was told or has said, in this term of leadership ---- */
        struct cluster_peer {
                uint64_t node_id;
                uint64_t pushed_commit;
                uint64_t confirmed_nonce;
        } peers[CLUSTER_MEMBERS_MAX];
        unsigned peer_count;
        uint64_t nonce;
};

static inline bool cluster_has_guard(const struct cluster_raft *c, unsigned number)
{
        return !(c->mutants & (1u << number));
}

/* ---- steps: raft.c ---- */

/* Every call begins and ends with these: an empty update; then what follows from the steps between. */
void cluster_begin(struct cluster_raft *c, struct cluster_update *ret);
MUST_CHECK int cluster_finish(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret);
/* One step of the library. Adds to *ret. 0 or the library's own error. */
MUST_CHECK int cluster_step(struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret);
/* The same where any refusal is a bug of ours or of the library. 0 or a fault. */
MUST_CHECK int cluster_step_or_fault(
        struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret);
/* The entries as the library wants them, in `batch`; payloads only of changes. */
void cluster_fill_batch(struct cluster_raft *c, const struct cluster_entry *entries, unsigned count);
/* Submits without asking what it is. 0 or the library's own error. */
MUST_CHECK int cluster_submit(struct cluster_raft *c, uint64_t now_us, const struct cluster_entry *entries, unsigned count,
        struct cluster_update *ret);
/* A message to be sent, of the own term, otherwise empty. */
struct cluster_message *cluster_message_add(struct cluster_raft *c, enum cluster_message_type type, uint64_t to);
void cluster_reason(struct cluster_raft *c, const char *format, ...) PRINTF_LIKE(2, 3);
void cluster_seal_set(struct cluster_seal *seal, uint64_t index, uint64_t term, struct bytes configuration,
        uint64_t configuration_index);

/* ---- configurations: configuration.c ---- */

/* A fresh one for the library, which will free it. 0 or CLUSTER_INVALID. */
MUST_CHECK int cluster_configuration_for_library(struct bytes payload, struct raft_configuration *ret);
MUST_CHECK int cluster_configuration_copy(const struct raft_configuration *from, struct raft_configuration *ret);
void cluster_configuration_from_library(const struct raft_configuration *from, struct cluster_configuration *ret);
const struct cluster_server *cluster_configuration_find(const struct cluster_configuration *in, uint64_t node_id);
/* Notes a promotion that the entry at `index` makes, against the configuration in use before it. */
void cluster_note_change(struct cluster_raft *c, const struct raft_configuration *before, uint64_t index);

/* ---- members and reads: members.c, grow.c, probe.c ---- */

unsigned cluster_count_voters(const struct raft_configuration *configuration);
/* The entry at `index` changed the number of voters so, or left it. */
void cluster_note_growth(struct cluster_raft *c, unsigned voters_before, unsigned voters, uint64_t index);

/* What every change waits for. 0 or an outcome. `node_id` is the one that is to change. */
int cluster_may_change(struct cluster_raft *c, uint64_t node_id);
/* Submits the configuration; `grows`: grow.c has seen to what the envelope wants. */
int cluster_change_to(struct cluster_raft *c, uint64_t now_us, const struct cluster_configuration *to, bool grows,
        struct cluster_update *ret);

void cluster_peers_reset(struct cluster_raft *c);
/* A member's record; the oldest other one makes room. */
struct cluster_peer *cluster_peer_of(struct cluster_raft *c, uint64_t node_id);
void cluster_probe_receive(struct cluster_raft *c, const struct cluster_message *message);

#endif
