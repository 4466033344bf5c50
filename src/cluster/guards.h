/* The fences around the engine's known faults, each a function of its own with its reason (RG numbers). */
#ifndef CLUSTER_GUARDS_H
#define CLUSTER_GUARDS_H

#include <raft.h>

#include "cluster/cluster.h"

/* RG1 */
unsigned guard_clip(const struct raft *raft, uint64_t commit_index, uint64_t *previous_index, uint64_t *previous_term,
        unsigned entry_count);
uint64_t guard_commit(uint64_t own, uint64_t library);
/* RG2 */
bool guard_sole_voter(uint64_t node_id, const struct cluster_configuration *configuration);
/* RG3 */
const char *guard_envelope(
        uint64_t leader_id, const struct cluster_configuration *from, const struct cluster_configuration *to);
bool guard_caught_up(const struct raft *raft, uint64_t node_id);
bool guard_promotion_settled(const struct raft *raft, uint64_t promoted_id, uint64_t promotion_index);
/* RG4 */
uint64_t guard_old_term_hint(uint64_t rejected);
/* RG5 */
unsigned guard_split(const struct cluster_entry *entries, unsigned count);
/* RG6 */
bool guard_must_confirm(const struct raft *raft, uint64_t previous_index, uint64_t previous_term, uint64_t change_term);
/* RG7 */
bool guard_own_term(const struct raft *raft);
/* RG8 */
void guard_rejection(const struct raft *raft, uint64_t from, uint64_t *rejected, uint64_t *last_index);
/* RG9 */
uint64_t guard_pre_vote_term(uint64_t term, uint64_t own_term);
/* RG10 */
bool guard_takes_vote(const struct raft *raft);
bool guard_takes_install(const struct raft *raft);

/* RG21 */
void guard_forget_leader(struct raft *raft, uint64_t silent_since_ms, uint64_t now_ms);
bool guard_hides_install(const struct raft *raft, const struct raft_event *event);
/* RG11 */
uint64_t guard_timeout_ms(uint64_t due_ms, uint64_t last_timeout_ms);
uint64_t guard_time_ms(uint64_t now_us, uint64_t *last_ms);
/* RG12 */
bool guard_transfer(const struct raft *raft, uint64_t to);
/* RG13 */
bool guard_persisted(const struct raft *raft, uint64_t index);
bool guard_sealed(const struct raft *raft, uint64_t index, uint64_t term);
bool guard_configured(const struct raft *raft, uint64_t index);
bool guard_start(const struct cluster_start *start);
bool guard_message(const struct raft *raft, const struct cluster_message *message);
/* RG16 */
bool guard_install(uint64_t sealed_index, uint64_t sealed_term, const struct raft_install_snapshot *message);
/* RG17 */
bool guard_version(int version);

/* RG18 */
bool guard_first_seal(uint64_t index);
/* RG19 */
bool guard_has_everything(const struct raft *raft, uint64_t node_id);

/* The term of an entry that the library still knows; 0: it does not. */
uint64_t guard_term_of(const struct raft *raft, uint64_t index);

#endif
