/* One voter becomes three: what a joiner may conclude from a message.
 *
 * This is not a change by the leader's log: the majorities before and after share nothing but the old voter.
 * The joiners store the configuration of three as entry (index, term), where the old voter has made the term
 * durable before, so that it will never write another entry of that index and term; the old voter stores it
 * last. Until a joiner knows that, it must not start: two joiners are a majority of three, beside a sole
 * voter that knows nothing. */
#include "cluster/cluster.h"

/* What the leader has at `index` decides. It shows that by naming it as previous or by sending it. Where it
 * does neither, an answer brings it there: behind, a rejection; before, that everything so far is here, which
 * is no promise, since all below `index` was committed before the three were thought of. (Nothing is sent to
 * who has never acknowledged anything, once the window is smaller than the log.) */
static enum cluster_grow_verdict judge_append(
        const struct cluster_message *m, uint64_t index, uint64_t term, struct cluster_message *ret_answer)
{
        uint64_t at = m->append.previous_index, has;

        if (at == index) {
                has = m->append.previous_term;
        } else if (at < index && index - at <= m->append.entry_count && m->append.entries) {
                has = m->append.entries[index - at - 1].term;
        } else {
                *ret_answer = (struct cluster_message){
                        .type = CLUSTER_APPEND_RESULT, .node_id = m->node_id, .term = m->term};
                ret_answer->append_result.rejected = at > index ? at : 0;
                ret_answer->append_result.last_index = at > index ? index - 1 : at;
                return CLUSTER_GROW_ASK;
        }
        return has == term ? CLUSTER_GROW_DONE : CLUSTER_GROW_ABANDONED;
}

/* A leader that has forgotten what stands at `index` says which members it had at its seal. */
static enum cluster_grow_verdict judge_install(const struct cluster_message *m, uint64_t index)
{
        struct cluster_configuration sealed;
        unsigned voters = 0;

        if (m->install.last_index < index || cluster_configuration_decode(m->install.configuration, &sealed))
                return CLUSTER_GROW_UNKNOWN;
        for (unsigned i = 0; i < sealed.count; i++)
                voters += sealed.servers[i].role == CLUSTER_VOTER;
        return voters > 1 ? CLUSTER_GROW_DONE : CLUSTER_GROW_ABANDONED;
}

enum cluster_grow_verdict cluster_grow_judge(
        const struct cluster_message *m, uint64_t index, uint64_t term, struct cluster_message *ret_answer)
{
        if (m->term <= term)
                return CLUSTER_GROW_UNKNOWN; /* of a time before it */
        switch (m->type) {
        case CLUSTER_REQUEST_VOTE:
                return CLUSTER_GROW_DONE; /* a sole voter asks nobody */
        case CLUSTER_APPEND:
                return judge_append(m, index, term, ret_answer);
        case CLUSTER_INSTALL:
                return judge_install(m, index);
        default:
                return CLUSTER_GROW_UNKNOWN;
        }
}
