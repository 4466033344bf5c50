/* Guards of libraft 0.22.1, driven by raft_step(). The library is built without its assertions: what it takes
 * for granted is checked here, before the call.
 *
 * RG14 (order: term and vote durable before anything of that update leaves) and RG15 (a failed write stops
 * the process) are the caller's: the contract says so, and store/replica carries updates out in that order.
 */
#include "cluster/guards.h"

/* RG2. A sole voter makes itself leader without a new term or vote, also at the start. After a restart it
 * would write other entries at an (index, term) that existed before: two histories that cannot be told apart.
 * So its term is raised, durably, before it starts. */
bool guard_sole_voter(uint64_t node_id, const struct raft_configuration *configuration)
{
        unsigned voters = 0;
        bool is_self = false;

        for (unsigned i = 0; i < configuration->n; i++) {
                if (configuration->servers[i].role != RAFT_VOTER)
                        continue;
                voters++;
                is_self |= configuration->servers[i].id == node_id;
        }
        return voters == 1 && is_self;
}

/* RG11. After a demotion the engine's next timeout lies in the past for good: a driver that obeys it spins.
 * Two timeouts are at least this far apart. */
enum { TIMEOUT_APART_MS = 10 };

uint64_t guard_timeout_ms(uint64_t due_ms, uint64_t last_timeout_ms)
{
        return MAX(due_ms, last_timeout_ms + TIMEOUT_APART_MS);
}

/* RG11. The engine subtracts times: one that goes back would become a huge distance. */
uint64_t guard_time_ms(uint64_t now_us, uint64_t *last_ms)
{
        *last_ms = MAX(*last_ms, now_us / 1000);
        return *last_ms;
}

/* RG13. An index beyond the log, or one that was reported already, corrupts the engine's view of what is
 * stored. */
bool guard_persisted(const struct raft *raft, uint64_t index)
{
        return index > raft->last_stored && index <= raft_last_index((struct raft *)raft) &&
               !raft->snapshot.installing;
}

/* RG13. A seal must move forward, over entries that the engine still knows, and over committed ones only. */
bool guard_sealed(const struct raft *raft, uint64_t index)
{
        return index > raft->trail.snapshot.index && index <= raft->commit_index &&
               !raft->snapshot.installing;
}

/* RG13. Only the configuration that waits for its commit may be confirmed: at a start the engine confirms
 * those that are committed already by itself. */
bool guard_configured(const struct raft *raft, uint64_t index)
{
        return raft->configuration_uncommitted_index && raft->configuration_uncommitted_index == index;
}

/* RG13. Without a base the log begins with a configuration; terms never go down. */
bool guard_start(const struct cluster_start *start)
{
        uint64_t term = start->base_term;

        if (!start->base_index && start->entry_count && start->entries[0].type != CLUSTER_CHANGE)
                return false;
        for (uint64_t i = 0; i < start->entry_count; i++) {
                if (start->entries[i].term < term || start->entries[i].term > start->term)
                        return false;
                term = start->entries[i].term;
        }
        return start->base_term <= start->term;
}

/* RG17. The library's name does not change between 0.22.1 and later code, which frees other memory. */
bool guard_version(int version)
{
        return version == CLUSTER_ENGINE_VERSION;
}
