/* Comparing histories (G22). Every few seconds this node asks the other members for term and chain hash of
 * one committed entry, and answers when it is asked. The chain covers every byte of the log up to there, so
 * equal chains mean equal histories, whatever the sums of a node's own disk say.
 *
 * Who is right: the history that a majority of the voters has at the same index. The leader has no better
 * claim than others; it may be the one that differs. Each node judges by the answers that it got, for itself:
 *
 *  - the majority has this node's history: who differs is named in a fact, and mends itself as soon as it
 * asks;
 *  - the majority has another history: this node's is wrong;
 *  - histories differ and none has a majority, since too few answer or since there are three: nobody can
 * tell, so nothing is changed, and it is said loudly.
 *
 * A node that finds its own history wrong looks for the last entry that it shares with the majority, by
 * halving, each step decided by a majority again. Then it orders the cut behind that entry
 * (persistence_lose_after) and stops: its memory, its heads and what it told its clients rest on that
 * history. So it leads and votes no more, and the next start sets the rest of the log aside and fetches it
 * from the others before it takes part (refetch.c). What it had acknowledged to others in that history is
 * theirs to give.
 *
 * The index is one that was applied here at the round before, so who is not behind has it; or the one behind
 * which a node that fetches history has found another one than its own, and goes on only when this is judged.
 * So that those who have more judge about that one too, every second round is about what somebody else has
 * asked for. Only what is committed is spoken of: that is the same everywhere, or something is wrong.
 *
 * A question: index (8). An answer: index (8), 1 when the mark follows (4), zeros (4), term (8), chain (16),
 * index of the configuration in use (8). An answer counts only when both nodes go by the same configuration:
 * one that was removed, or is far behind, knows only who once were the voters, and must not judge by them.
 * Nodes of an earlier release do not know the question, and do not count. */
#include <stdio.h>
#include <stdlib.h>

#include "store/room.h"

enum {
        QUESTION_SIZE = 8,
        ANSWER_SIZE = 48,
        TRIES_MAX = 20, /* of one step of the search, before it begins anew */
};

enum judgement {
        JUDGED_NOTHING, /* too few answers, which are the same */
        JUDGED_SAME,    /* a majority has one history, and this node too */
        JUDGED_WRONG,   /* a majority has one history, and this node another */
        JUDGED_OPEN,    /* there are several histories, and none has a majority */
};

static uint64_t search_index(const struct compare *c)
{
        return c->low + (c->high - c->low) / 2;
}

/* ---- facts ---- */

static void publish(struct store *s, enum fact_type type, uint64_t node_id, const char *text)
{
        struct fact_payload payload = {.node_id = node_id};

        fact_set_text(&payload, "%s: entry %llu%s%s", s->name, (unsigned long long)s->compare.index,
                *text ? ", " : "", text);
        control_publish(s->control, type, &payload);
}

static bool *find_differing(struct compare *c, uint64_t node_id)
{
        for (unsigned i = 0; i < c->opinion_count; i++)
                if (c->opinions[i].node_id == node_id)
                        return &c->opinions[i].differs;
        return NULL;
}

/* Told when it changes. */
static void note_differing(struct store *s, uint64_t node_id, bool differs)
{
        bool *told = find_differing(&s->compare, node_id);

        if (!told || *told == differs)
                return;
        *told = differs;
        publish(s, differs ? FACT_history_differs : FACT_history_agrees, node_id, "");
}

/* ---- asking ---- */

/* The members as they are now; what was told of those that stay is kept. */
static void use_members(struct store *s)
{
        struct compare *c = &s->compare;
        struct opinion before[CLUSTER_MEMBERS_MAX];
        unsigned count = c->opinion_count;
        struct cluster_configuration members;
        uint64_t index;
        bool is_committed;

        memcpy(before, c->opinions, sizeof before);
        cluster_raft_configuration(s->raft, &members, &index, &is_committed);
        c->opinion_count = members.count;
        for (unsigned i = 0; i < members.count; i++) {
                const struct cluster_server *server = &members.servers[i];

                c->opinions[i] = (struct opinion){
                        .node_id = server->node_id, .is_voter = server->role == CLUSTER_VOTER};
                for (unsigned k = 0; k < count; k++)
                        if (before[k].node_id == server->node_id)
                                c->opinions[i].differs = before[k].differs;
        }
}

static struct opinion *opinion_of(struct compare *c, uint64_t node_id)
{
        for (unsigned i = 0; i < c->opinion_count; i++)
                if (c->opinions[i].node_id == node_id)
                        return &c->opinions[i];
        return NULL;
}

/* Of what is applied here, or of what was found to be of the same terms as what is committed elsewhere.
 * False: it cannot be read; that is for mending. */
static bool own_mark(struct store *s, uint64_t index, uint64_t *ret_term, struct record_chain *ret_chain)
{
        return index > 0 && index <= MAX(s->applied_index, s->catch_up.suspected_index) &&
               persistence_entry_mark(s->persistence, index, ret_term, ret_chain) == 0;
}

static void ask(struct store *s, uint64_t index)
{
        struct compare *c = &s->compare;
        uint8_t question[QUESTION_SIZE];
        struct bytes piece = bytes_of(question, sizeof(question));
        struct opinion *own;

        c->index = index;
        use_members(s);
        if (c->opinion_count < 2) {
                c->index = 0;
                return;
        }
        own = opinion_of(c, s->node_id);
        if (own)
                own->has_answered = own_mark(s, index, &own->term, &own->chain);
        put_u64(question, index);
        for (unsigned i = 0; i < c->opinion_count; i++)
                if (c->opinions[i].node_id != s->node_id)
                        store_send(
                                s, c->opinions[i].node_id, STORE_LINK_CONTROL, MESSAGE_MARK_ASK, &piece, 1);
        replication_flush(s);
}

void compare_on_question(struct store *s, uint64_t from, struct bytes body)
{
        uint8_t answer[ANSWER_SIZE] = {0};
        struct bytes piece = bytes_of(answer, sizeof(answer));
        struct record_chain chain;
        uint64_t term;

        if (body.size != QUESTION_SIZE) {
                s->replication.dropped++;
                return;
        }
        memcpy(answer, body.data, QUESTION_SIZE);
        if (own_mark(s, get_u64(body.data), &term, &chain)) {
                s->compare.others_index = get_u64(body.data);
                put_u32(answer + 8, 1);
                put_u64(answer + 16, term);
                memcpy(answer + 24, &chain, sizeof(chain));
                put_u64(answer + 40, cluster_raft_configuration_index(s->raft));
        }
        store_send(s, from, STORE_LINK_CONTROL, MESSAGE_MARK, &piece, 1);
        replication_flush(s);
}

/* ---- judging ---- */

static bool are_same(const struct opinion *a, const struct opinion *b)
{
        return a->term == b->term && memcmp(&a->chain, &b->chain, sizeof(a->chain)) == 0;
}

static unsigned count_voters(const struct compare *c)
{
        unsigned n = 0;

        for (unsigned i = 0; i < c->opinion_count; i++)
                n += c->opinions[i].is_voter;
        return n;
}

/* What a majority of all voters says; NULL: nothing. */
static const struct opinion *majority(const struct store *s)
{
        const struct compare *c = &s->compare;

        for (unsigned i = 0; i < c->opinion_count; i++) {
                const struct opinion *o = &c->opinions[i];
                unsigned n = 0;

                for (unsigned k = 0; k < c->opinion_count && o->has_answered; k++)
                        n += c->opinions[k].has_answered && c->opinions[k].is_voter &&
                             are_same(o, &c->opinions[k]);
                if (n > count_voters(c) / 2 ||
                        (store_is_mutant(s, STORE_MUTANT_HISTORY_OF_ONE) && n && o->node_id != s->node_id))
                        return o;
        }
        return NULL;
}

static bool are_all_same(const struct compare *c)
{
        const struct opinion *first = NULL;

        for (unsigned i = 0; i < c->opinion_count; i++) {
                if (!c->opinions[i].has_answered)
                        continue;
                if (first && !are_same(first, &c->opinions[i]))
                        return false;
                first = &c->opinions[i];
        }
        return true;
}

static enum judgement judge(struct store *s, const struct opinion **ret_right)
{
        struct compare *c = &s->compare;
        const struct opinion *own = opinion_of(c, s->node_id);

        *ret_right = majority(s);
        if (!*ret_right)
                return are_all_same(c) ? JUDGED_NOTHING : JUDGED_OPEN;
        /* During a search an entry that cannot be read here is none that is shared. */
        if (!own || (!own->has_answered && !c->is_searching))
                return JUDGED_NOTHING;
        if (store_is_mutant(s, STORE_MUTANT_HISTORY_UNJUDGED))
                return JUDGED_SAME;
        return own->has_answered && are_same(own, *ret_right) ? JUDGED_SAME : JUDGED_WRONG;
}

/* ---- a wrong history ---- */

static void cut(struct store *s)
{
        struct compare *c = &s->compare;
        struct cluster_configuration members;
        struct buffer bytes = {0};
        char problem[256];
        bool is_committed;
        uint64_t index;
        int r;

        c->is_searching = false;
        if (c->low == 0) {
                publish(s, FACT_history_differs, s->node_id,
                        "not even the first is the majority's: replace this node");
                return;
        }
        cluster_raft_configuration(s->raft, &members, &index, &is_committed);
        r = cluster_configuration_encode(&members, &bytes);
        if (!r)
                r = persistence_lose_after(s->persistence, c->low, buffer_bytes(&bytes), index);
        buffer_fini(&bytes);
        if (r == PERSISTENCE_FULL)
                return; /* the next round begins anew */
        if (r) {
                store_fail(s, "ordering a cut of the log");
                return;
        }
        snprintf(problem, sizeof(problem),
                "behind entry %llu the history of this node is not that of the majority. The next start sets "
                "it "
                "aside and fetches theirs",
                (unsigned long long)c->low);
        store_distrust(s, problem);
}

static void search(struct store *s, enum judgement judged)
{
        struct compare *c = &s->compare;

        if (judged == JUDGED_SAME)
                c->low = c->index;
        else
                c->high = c->index;
        c->tries = 0;
        if (c->high - c->low > 1)
                ask(s, search_index(c));
        else
                cut(s);
}

static void begin_search(struct store *s)
{
        struct compare *c = &s->compare;

        note_differing(s, s->node_id, true);
        c->is_searching = true;
        c->low = 0;
        c->high = c->index;
        c->tries = 0;
        if (c->high > 1)
                ask(s, search_index(c));
        else
                cut(s);
}

/* ---- rounds ---- */

static void take_round(struct store *s, enum judgement judged, const struct opinion *right)
{
        struct compare *c = &s->compare;

        if (judged == JUDGED_SAME) {
                c->agreed_index = MAX(c->agreed_index, c->index);
                c->agreed_us = os_monotonic_us(s->os);
        }
        if (right)
                for (unsigned i = 0; i < c->opinion_count; i++)
                        if (c->opinions[i].has_answered && c->opinions[i].node_id != s->node_id)
                                note_differing(s, c->opinions[i].node_id, !are_same(right, &c->opinions[i]));
        if ((judged == JUDGED_OPEN) != c->is_undecided && judged != JUDGED_NOTHING) {
                c->is_undecided = judged == JUDGED_OPEN;
                if (c->is_undecided)
                        publish(s, FACT_history_undecided, 0, "");
        }
        if (judged == JUDGED_WRONG)
                begin_search(s);
        else if (judged == JUDGED_SAME)
                note_differing(s, s->node_id, false);
        if (judged == JUDGED_SAME && c->index == s->catch_up.suspected_index)
                catch_up_trust(s);
}

static void end_round(struct store *s)
{
        struct compare *c = &s->compare;
        const struct opinion *right;
        enum judgement judged = judge(s, &right);

        if (!c->is_searching) {
                c->rounds += c->answers > 0;
                take_round(s, judged, right);
                if (!c->is_searching)
                        c->index = 0;
                return;
        }
        if (judged == JUDGED_SAME || judged == JUDGED_WRONG)
                search(s, judged);
        else if (++c->tries > TRIES_MAX)
                c->is_searching = false;
        else
                ask(s, search_index(c));
}

static bool have_all_answered(const struct compare *c)
{
        for (unsigned i = 0; i < c->opinion_count; i++)
                if (!c->opinions[i].has_answered)
                        return false;
        return true;
}

static bool is_at_work(const struct store *s)
{
        return s->raft && !s->refetch.is_on && !s->is_close_posted && !s->wants_close &&
               (s->state == STORE_STARTING || s->state == STORE_READY);
}

void compare_on_answer(struct store *s, uint64_t from, struct bytes body)
{
        struct compare *c = &s->compare;
        struct opinion *o = opinion_of(c, from);

        if (body.size != ANSWER_SIZE) {
                s->replication.dropped++;
                return;
        }
        /* Late ones of another round, and of nodes that are behind. */
        if (!o || !c->index || get_u64(body.data) != c->index || !get_u32(body.data + 8) || o->has_answered ||
                !is_at_work(s) || get_u64(body.data + 40) != cluster_raft_configuration_index(s->raft))
                return;
        o->has_answered = true;
        o->term = get_u64(body.data + 16);
        memcpy(&o->chain, body.data + 24, sizeof(o->chain));
        c->answers++;
        if (have_all_answered(c))
                end_round(s);
}

static void on_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        struct compare *c = &s->compare;

        os_timer_start(s->os, timer, s->options.cluster.compare_us);
        if (!is_at_work(s))
                return;
        if (c->index)
                end_round(s);
        if (c->index || !is_at_work(s))
                return;
        c->answers = 0;
        if (s->catch_up.suspected_index)
                ask(s, s->catch_up.suspected_index);
        else if (c->others_index && !c->was_others)
                ask(s, c->others_index);
        else if (c->seen_index)
                ask(s, c->seen_index);
        c->was_others = !c->was_others;
        c->others_index = 0;
        c->seen_index = s->applied_index;
}

/* ---- its life ---- */

void compare_init(struct store *s)
{
        s->compare.timer = (struct os_timer){.fn = on_timer, .arg = s};
}

void compare_start(struct store *s)
{
        if (s->options.cluster.is_member && s->options.cluster.compare_us)
                os_timer_start(s->os, &s->compare.timer, s->options.cluster.compare_us);
}

void compare_fini(struct store *s)
{
        os_timer_stop(&s->compare.timer);
}

bool compare_differs(const struct store *s, uint64_t node_id)
{
        const struct compare *c = &s->compare;

        for (unsigned i = 0; i < c->opinion_count; i++)
                if (c->opinions[i].node_id == node_id)
                        return c->opinions[i].differs;
        return false;
}

void compare_status(const struct store *s, struct store_comparison *ret)
{
        const struct compare *c = &s->compare;

        *ret = (struct store_comparison){
                .is_on = s->options.cluster.is_member && s->options.cluster.compare_us > 0,
                .rounds = c->rounds,
                .agreed_index = c->agreed_index,
                .agreed_us = c->agreed_us,
                .is_undecided = c->is_undecided};
        for (unsigned i = 0; i < c->opinion_count; i++)
                ret->differing += c->opinions[i].differs;
}
