/* The fences around the engine's known faults, each a function of its own with its reason (RG numbers). */
#ifndef CLUSTER_GUARDS_H
#define CLUSTER_GUARDS_H

#include <raft.h>

#include "cluster/cluster.h"

/* RG2 */
bool guard_sole_voter(uint64_t node_id, const struct raft_configuration *configuration);
/* RG11 */
uint64_t guard_timeout_ms(uint64_t due_ms, uint64_t last_timeout_ms);
uint64_t guard_time_ms(uint64_t now_us, uint64_t *last_ms);
/* RG13 */
bool guard_persisted(const struct raft *raft, uint64_t index);
bool guard_sealed(const struct raft *raft, uint64_t index);
bool guard_configured(const struct raft *raft, uint64_t index);
bool guard_start(const struct cluster_start *start);
/* RG17 */
bool guard_version(int version);

#endif
