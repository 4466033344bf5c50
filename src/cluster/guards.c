/* Guards of libraft 0.22.1, driven by raft_step(). The library is built without its assertions: what it takes
 * for granted is checked here, before the call.
 *
 * RG14 (order: term and vote durable before anything of that update leaves) and RG15 (a failed write stops
 * the process) are the caller's: the contract says so, and store/replica carries updates out in that order.
 *
 * Each guard can be switched off by a test (cluster_options.mutants), which shows that the fault is there and
 * that somebody notices.
 */
#include "cluster/guards.h"

#include <stdlib.h>

/* The library keeps the terms as runs in a ring, and exports no way to ask. */
uint64_t guard_term_of(const struct raft *raft, uint64_t index)
{
        const struct raft_trail *t = &raft->trail;
        unsigned n = t->front <= t->back ? t->back - t->front : t->size - t->front + t->back;
        uint64_t last = n ? t->records[(t->front + n - 1) % t->size].index : t->offset;

        if (index <= t->offset || index > last)
                return index && index == t->snapshot.index ? t->snapshot.term : 0;
        while (n > 1 && index <= t->records[(t->front + n - 2) % t->size].index)
                n--;
        return t->records[(t->front + n - 1) % t->size].term;
}

/* RG1. What is committed here is the same on every leader of this or a later term, so it need not be
 * compared. The library compares it nevertheless, and where it has forgotten the terms below a seal it takes
 * the entries for missing: it appends them at the end of the log and says that they stand at their old index.
 * So the entries up to the commit index are cut off, and the message follows the commit index. Gives how many
 * are cut. */
unsigned guard_clip(const struct raft *raft, uint64_t commit_index, uint64_t *previous_index,
        uint64_t *previous_term, unsigned entry_count)
{
        uint64_t cut;

        if (raft->snapshot.installing || *previous_index >= commit_index)
                return 0;
        assert(commit_index <= raft_last_index((struct raft *)raft));
        cut = MIN(commit_index - *previous_index, entry_count);
        *previous_index = commit_index;
        *previous_term = guard_term_of(raft, commit_index);
        assert(*previous_term > 0);
        return (unsigned)cut;
}

/* RG1. A follower's commit index follows the newest message, which may be an old one: it goes back. Ours does
 * not. */
uint64_t guard_commit(uint64_t own, uint64_t library)
{
        return MAX(own, library);
}

/* RG2. A sole voter makes itself leader without a new term or vote, also at the start. After a restart it
 * would write other entries at an (index, term) that existed before: two histories that cannot be told apart.
 * So its term is raised, durably, before it starts. */
bool guard_sole_voter(uint64_t node_id, const struct cluster_configuration *configuration)
{
        unsigned voters = 0;
        bool is_self = false;

        for (unsigned i = 0; i < configuration->count; i++) {
                if (configuration->servers[i].role != CLUSTER_VOTER)
                        continue;
                voters++;
                is_self |= configuration->servers[i].node_id == node_id;
        }
        return voters == 1 && is_self;
}

static unsigned count_voters(const struct cluster_configuration *configuration)
{
        unsigned voters = 0;

        for (unsigned i = 0; i < configuration->count; i++)
                voters += configuration->servers[i].role == CLUSTER_VOTER;
        return voters;
}

/* RG3. With two voters, and on the way from one to two, a voter that has not stored its own promotion does
 * not vote (F11), and a sole voter makes itself leader beside another (F2). From three voters on a majority
 * without the new one exists at every moment. Gives why it must not be, NULL if it may. */
const char *guard_envelope(
        uint64_t leader_id, const struct cluster_configuration *from, const struct cluster_configuration *to)
{
        unsigned before = count_voters(from), after = count_voters(to);

        if (after > CLUSTER_VOTERS_MAX)
                return "there are five voters already, which is the most";
        if (before == 1 && after != 1)
                return "one voter stays one voter: three are made of it in one operation, not by promotion";
        if (before > 1 && after < 3)
                return "three voters are the fewest that stay available: add and promote another node first";
        if (after == 1 && !guard_sole_voter(leader_id, to))
                return "the only voter stays";
        return NULL;
}

/* RG3. Promoted before it has caught up, a voter holds up every commit that needs it. The library looks at a
 * catch-up only when the member's log moves on, so one that has everything already would never be found
 * finished. */
bool guard_caught_up(const struct raft *raft, uint64_t node_id)
{
        raft_index match = 0;
        int status = RAFT_CATCH_UP_NONE;

        if (raft_catch_up(raft, node_id, &status) || raft_match_index(raft, node_id, &match))
                return false;
        return status == RAFT_CATCH_UP_FINISHED || match == raft_last_index((struct raft *)raft);
}

/* RG3. A voter that has not stored its promotion refuses to vote. Several of them in a row, and a crash,
 * leave a cluster that is up and cannot elect anybody (F11). So the next change waits for the last promoted
 * node. */
bool guard_promotion_settled(const struct raft *raft, uint64_t promoted_id, uint64_t promotion_index)
{
        raft_index match = 0;

        if (!promoted_id || promoted_id == raft->id)
                return true;
        for (unsigned i = 0; i < raft->configuration.n; i++) {
                if (raft->configuration.servers[i].id == promoted_id &&
                        raft->configuration.servers[i].role == RAFT_VOTER)
                        return raft_match_index(raft, promoted_id, &match) == 0 && match >= promotion_index;
        }
        return true; /* it was taken back */
}

/* RG4. The answer to a leader of an old term carries whatever stood on the stack as "I have everything up to
 * here". A leader that was elected again counts it, and commits what nobody else has. The hint becomes the
 * weakest true one. */
uint64_t guard_old_term_hint(uint64_t rejected)
{
        return rejected ? rejected - 1 : 0;
}

/* RG5. A follower notes a change of members at the index of the first entry of its message, and rolls back to
 * the wrong configuration later. So a change always is the first entry. Gives how many entries the library
 * may see at once. */
unsigned guard_split(const struct cluster_entry *entries, unsigned count)
{
        unsigned n = count > 0;

        while (n < count && entries[n].type != CLUSTER_CHANGE)
                n++;
        return n;
}

/* RG6. A follower remembers one change that is not committed. A second one overwrites it, and a rollback then
 * goes two configurations back. A leader appends a change only when the one before is committed, so this one
 * is to be confirmed before the next is appended; true if the entry behind `previous_index`, a change, would
 * be. */
bool guard_must_confirm(
        const struct raft *raft, uint64_t previous_index, uint64_t previous_term, uint64_t change_term)
{
        uint64_t uncommitted = raft->configuration_uncommitted_index;

        if (!uncommitted || uncommitted > previous_index || raft->snapshot.installing)
                return false;
        return guard_term_of(raft, previous_index) == previous_term &&
               guard_term_of(raft, previous_index + 1) != change_term;
}

/* RG7. Two leaders of two terms, each with a change that is not committed, can both win a majority of their
 * own members. A leader that has committed an entry of its own term knows of every change before. */
bool guard_own_term(const struct raft *raft)
{
        return raft->commit_index && guard_term_of(raft, raft->commit_index) == raft->current_term;
}

/* RG8. A rejection that comes late can put the next index at or below what the member is known to have: a
 * distance becomes negative, that is huge, and the member gets nothing but empty heartbeats for ever. Such a
 * rejection says no more than that the member is there. */
void guard_rejection(const struct raft *raft, uint64_t from, uint64_t *rejected, uint64_t *last_index)
{
        raft_index match = 0;

        if (!*rejected || raft_match_index(raft, from, &match))
                return;
        if (*rejected <= match) {
                *rejected = 0;
                *last_index = 0;
        } else if (*last_index < match) {
                *last_index = match;
        }
}

/* RG9. The answer to a pre-vote echoes the term that was asked for. A candidate with the better log never
 * learns that a node with the worse log is in a higher term, and neither ever wins. */
uint64_t guard_pre_vote_term(uint64_t term, uint64_t own_term)
{
        return MAX(term, own_term);
}

/* RG10. Who is no candidate reads a vote through the wrong member of a union: what happens depends on an
 * address. */
bool guard_takes_vote(const struct raft *raft)
{
        return raft_state((struct raft *)raft) == RAFT_CANDIDATE;
}

/* RG10. While one is being installed the library ignores another and loses its memory. */
bool guard_takes_install(const struct raft *raft)
{
        return !raft->snapshot.installing;
}

/* RG21. While a follower is installing, the library lets its election timeout pass without a word, goes on to
 * believe in its leader, and refuses its vote to all others: with that leader lost for ever, of three voters
 * the two that are left never elect one. So the leader is forgotten after its silence, and a request for a
 * vote does not see the installation: the vote goes only to a candidate that has all that is being installed,
 * since there ends the log as the library knows it. (Found by tests/nodes.) */
void guard_forget_leader(struct raft *raft, uint64_t silent_since_ms, uint64_t now_ms)
{
        if (raft->snapshot.installing && raft_state(raft) == RAFT_FOLLOWER &&
                now_ms >= silent_since_ms + raft->election_timeout)
                raft->follower_state.current_leader.id = 0;
}

bool guard_hides_install(const struct raft *raft, const struct raft_event *event)
{
        return raft->snapshot.installing && event->type == RAFT_RECEIVE &&
               event->receive.message->type == RAFT_REQUEST_VOTE;
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

/* RG12. The library tells the target on its first acknowledgement, even if it is behind: it is ignored and
 * not repeated, and nothing can be written until the election timeout. So the target must have everything. */
bool guard_transfer(const struct raft *raft, uint64_t to)
{
        return guard_has_everything(raft, to);
}

/* RG13. An index beyond the log, or one that was reported already, corrupts the engine's view of what is
 * stored. */
bool guard_persisted(const struct raft *raft, uint64_t index)
{
        return index > raft->last_stored && index <= raft_last_index((struct raft *)raft) &&
               !raft->snapshot.installing;
}

/* RG13. A seal must move forward, over entries that the engine still knows, and over committed ones only. */
bool guard_sealed(const struct raft *raft, uint64_t index, uint64_t term)
{
        return index > raft->trail.snapshot.index && index <= raft->commit_index &&
               index <= raft->last_stored && !raft->snapshot.installing && guard_term_of(raft, index) == term;
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
        if (start->base_index && (!start->base_term || start->base_configuration_index > start->base_index))
                return false;
        for (uint64_t i = 0; i < start->entry_count; i++) {
                if (!start->entries[i].term || start->entries[i].term < term ||
                        start->entries[i].term > start->term)
                        return false;
                term = start->entries[i].term;
        }
        return start->base_term <= start->term;
}

/* Indexes and terms of messages are below this, so that no sum of them overflows. */
static const uint64_t NUMBER_MAX = UINT64_MAX / 4;

static bool are_entries_sound(const struct cluster_message *m)
{
        uint64_t term = m->append.previous_term;
        struct cluster_configuration ignored;

        if (m->append.entry_count && !m->append.entries)
                return false;
        if (!m->append.previous_index && m->append.entry_count && m->append.entries[0].type != CLUSTER_CHANGE)
                return false; /* every log begins with a configuration */
        for (unsigned i = 0; i < m->append.entry_count; i++) {
                const struct cluster_entry *e = &m->append.entries[i];

                if (!e->term || e->term < term || e->term > m->term)
                        return false;
                term = e->term;
                if (e->type != CLUSTER_COMMAND && e->type != CLUSTER_BARRIER && e->type != CLUSTER_CHANGE)
                        return false;
                if (e->type == CLUSTER_CHANGE && cluster_configuration_decode(e->payload, &ignored))
                        return false;
        }
        return true;
}

/* RG13. What the library asserts about messages. A leader that hears of another one in its own term would
 * write through the wrong member of a union. */
bool guard_message(const struct raft *raft, const struct cluster_message *m)
{
        struct cluster_configuration ignored;
        bool is_leader_of_it =
                raft_state((struct raft *)raft) == RAFT_LEADER && m->term == raft_current_term(raft);

        if (!m->node_id || m->node_id == raft->id || !m->term || m->term > NUMBER_MAX)
                return false;
        switch (m->type) {
        case CLUSTER_REQUEST_VOTE:
                return m->request_vote.candidate_id == m->node_id && m->request_vote.last_term <= m->term &&
                       m->request_vote.last_index <= NUMBER_MAX;
        case CLUSTER_APPEND:
                return !is_leader_of_it && m->append.previous_index <= NUMBER_MAX &&
                       !m->append.previous_index == !m->append.previous_term &&
                       m->append.previous_term <= m->term && m->append.commit_index <= NUMBER_MAX &&
                       are_entries_sound(m);
        case CLUSTER_INSTALL:
                return !is_leader_of_it && m->install.last_index && m->install.last_index <= NUMBER_MAX &&
                       m->install.last_term && m->install.last_term <= m->term &&
                       m->install.configuration_index &&
                       m->install.configuration_index <= m->install.last_index &&
                       cluster_configuration_decode(m->install.configuration, &ignored) == 0;
        case CLUSTER_APPEND_RESULT:
                return m->append_result.rejected <= NUMBER_MAX;
        case CLUSTER_VOTE:
        case CLUSTER_TIMEOUT_NOW:
        case CLUSTER_PROBE:
        case CLUSTER_PROBE_RESULT:
                return true;
        }
        return false;
}

/* RG16. A member is sent to fetch exactly what is durable here and known with its term and configuration;
 * anything else would be a promise that nobody has checked. */
bool guard_install(uint64_t sealed_index, uint64_t sealed_term, const struct raft_install_snapshot *message)
{
        return sealed_index && message->last_index == sealed_index && message->last_term == sealed_term;
}

/* RG17. The library's name does not change between 0.22.1 and later code, which frees other memory. */
bool guard_version(int version)
{
        return version == CLUSTER_ENGINE_VERSION;
}

/* RG18. For a member that has nothing the library asks whether it knows the term of entry 1, and it does if
 * exactly that is sealed, although the entry is gone from its log: such a member gets empty heartbeats for
 * ever. So entry 1 alone is never sealed. (Found by tests/raft.) */
bool guard_first_seal(uint64_t index)
{
        return index > 1;
}

/* RG19. A voter that has not stored its own promotion does not vote (F11). Where one voter becomes three they
 * all are such, and if the old voter then falls silent, what they lack is brought to them by an offer of that
 * one entry (grow.c): so they must have all before it. */
bool guard_has_everything(const struct raft *raft, uint64_t node_id)
{
        raft_index match = 0;

        return raft_match_index(raft, node_id, &match) == 0 && match == raft_last_index((struct raft *)raft);
}
