/* Who belongs to the cluster, and changes of that. One change at a time waits here: until the engine allows
 * it (an earlier one is committed, a stand-by has caught up, an entry of the own term is committed), then
 * until it is committed. The rules are the engine's envelope (RG3, RG7, RG12). */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum { TRY_AGAIN_US = 50 * 1000, DEADLINE_DEFAULT_US = 60 * 1000 * 1000 };

struct member_change {
        struct store *store;
        enum store_change change;
        uint64_t node_id;
        uint64_t node_ids[CLUSTER_VOTERS_MAX - 1]; /* of those that are to vote, for STORE_GROW */
        unsigned node_count;
        char address[CLUSTER_ADDRESS_SIZE];
        uint64_t deadline_us;
        uint64_t index; /* of its entry in the log; 0: not submitted yet */
        bool was_sent;  /* leadership is on its way */
        bool is_trying;
        char why[160]; /* it waits */
        store_change_done *done;
        void *arg;
        struct os_timer timer;
};

static void finish(struct store *s, enum store_verdict verdict, const char *problem)
{
        struct member_change *c = s->member_change;

        s->member_change = NULL;
        os_timer_stop(&c->timer);
        grow_let_go(s);
        c->done(c->arg, verdict, problem);
        free(c);
}

void members_fini(struct store *s)
{
        if (s->member_change)
                finish(s, STORE_UNKNOWN, "the store closes");
}

void members_office_lost(struct store *s)
{
        struct member_change *c = s->member_change;

        if (!c)
                return;
        if (c->change == STORE_TRANSFER && c->was_sent)
                return; /* that is what was asked for */
        if (c->index)
                finish(s, STORE_UNKNOWN,
                        "leadership was lost before the change was committed: look at the members again");
        else
                finish(s, STORE_NOT_LEADER, "another node leads now: nothing was changed");
}

static void publish_members(struct store *s, const struct member_change *c)
{
        static const char *const actions[] = {[STORE_ADD] = "added",
                [STORE_PROMOTE] = "promoted",
                [STORE_DEMOTE] = "demoted",
                [STORE_REMOVE] = "removed",
                [STORE_GROW] = "joined by voters"};
        struct cluster_configuration configuration;
        struct fact_payload payload = {.node_id = c->node_id};
        uint64_t index;
        bool is_committed;

        cluster_raft_configuration(s->raft, &configuration, &index, &is_committed);
        payload.count = configuration.count;
        fact_set_text(&payload, "node %llu was %s", (unsigned long long)c->node_id, actions[c->change]);
        control_publish(s->control, FACT_cluster_membership_changed, &payload);
}

/* To ask whether it has caught up is a step of the engine of its own, whose update counts whatever the
 * answer. */
static int promote(struct store *s, struct member_change *c, uint64_t now, struct cluster_update *u)
{
        int caught_up = cluster_raft_is_caught_up(s->raft, now, c->node_id, u);
        int r;

        if (caught_up && caught_up != CLUSTER_NOT_NOW)
                return caught_up;
        r = replica_carry_out(s, u);
        if (r)
                return fault_fold(r);
        return caught_up ? caught_up : cluster_raft_promote(s->raft, now, c->node_id, u);
}

static int submit(struct store *s, struct member_change *c, struct cluster_update *u)
{
        uint64_t now = os_monotonic_us(s->os);
        switch (c->change) {
        case STORE_ADD:
                return cluster_raft_add(s->raft, now, c->node_id, c->address, u);
        case STORE_PROMOTE:
                return promote(s, c, now, u);
        case STORE_DEMOTE:
                return cluster_raft_demote(s->raft, now, c->node_id, u);
        case STORE_REMOVE:
                return cluster_raft_remove(s->raft, now, c->node_id, u);
        case STORE_TRANSFER:
                /* Under load no member ever has everything, so appends wait until the other one leads. */
                s->grow.is_holding = true;
                return cluster_raft_transfer(s->raft, now, c->node_id, u);
        case STORE_GROW:
                return grow_submit(s, c->node_ids, c->node_count, u);
        }
        return CLUSTER_REFUSED;
}

static void try(struct store *s)
{
        struct member_change *c = s->member_change;
        struct cluster_update u = {0};
        int r;

        c->is_trying = true;
        r = submit(s, c, &u);
        c->is_trying = false;
        if (r == CLUSTER_NOT_NOW) {
                snprintf(c->why, sizeof(c->why), "%s", cluster_raft_reason(s->raft));
                return;
        }
        if (r == CLUSTER_NOT_LEADER) {
                finish(s, STORE_NOT_LEADER, "another node leads");
                return;
        }
        if (r == CLUSTER_REFUSED) {
                finish(s, STORE_INVALID, cluster_raft_reason(s->raft));
                return;
        }
        if (!r)
                r = replica_carry_out(s, &u);
        if (!r && c->change == STORE_TRANSFER) {
                c->was_sent = true;
                s->is_held = true;
        } else if (!r) {
                c->index = cluster_raft_configuration_index(s->raft);
        }
        if (!r && c->change != STORE_TRANSFER)
                grow_let_go(s); /* what was held goes behind the entry */
        replica_stepped(s, r);
}

static void look_at_transfer(struct store *s)
{
        struct member_change *c = s->member_change;
        uint64_t leader_id = cluster_raft_leader(s->raft);

        if (cluster_raft_state(s->raft) == CLUSTER_LEADER || !leader_id)
                return;
        if (leader_id == c->node_id)
                finish(s, STORE_OK, "");
        else
                finish(s, STORE_INVALID, "another node was elected");
}

void members_go_on(struct store *s)
{
        struct member_change *c = s->member_change;

        if (!c)
                return;
        if (c->was_sent) {
                look_at_transfer(s);
        } else if (c->index && s->applied_index >= c->index) {
                publish_members(s, c);
                finish(s, STORE_OK, "");
        } else if (!c->index && s->grow.is_holding && !c->is_trying && list_is_empty(&s->in_flight)) {
                try(s); /* appends wait for it: at once, not when the timer comes */
        }
}

static void on_timer(struct os_timer *timer)
{
        struct member_change *c = timer->arg;
        struct store *s = c->store;

        os_timer_start(s->os, &c->timer, TRY_AGAIN_US);
        if (os_monotonic_us(s->os) >= c->deadline_us) {
                char problem[256];

                s->is_held = false;
                snprintf(problem, sizeof(problem), "not done in time%s%s", c->why[0] ? ": " : "", c->why);
                finish(s, c->index || c->was_sent ? STORE_UNKNOWN : STORE_BUSY, problem);
                return;
        }
        if (!c->index && !c->was_sent)
                try(s);
        replication_flush(s);
}

/* NULL, and it was answered, when none can be begun. */
static struct member_change *begin(
        struct store *s, enum store_change change, uint64_t deadline_us, store_change_done *done, void *arg)
{
        struct member_change *c;

        if (!s->is_leading) {
                done(arg, STORE_NOT_LEADER, "another node leads");
                return NULL;
        }
        if (s->member_change) {
                done(arg, STORE_BUSY, "another change of members is under way");
                return NULL;
        }
        c = MEMORY_NEW(struct member_change);
        c->store = s;
        c->change = change;
        c->deadline_us = deadline_us ? deadline_us : os_monotonic_us(s->os) + DEADLINE_DEFAULT_US;
        c->done = done;
        c->arg = arg;
        c->timer = (struct os_timer){.fn = on_timer, .arg = c};
        s->member_change = c;
        os_timer_start(s->os, &c->timer, 0);
        return c;
}

void store_change_members(struct store *s, enum store_change change, uint64_t node_id, const char *address,
        uint64_t deadline_us, store_change_done *done, void *arg)
{
        struct member_change *c = begin(s, change, deadline_us, done, arg);

        assert(change != STORE_GROW);
        if (!c)
                return;
        c->node_id = node_id;
        snprintf(c->address, sizeof(c->address), "%s", address ? address : "");
}

void store_grow(struct store *s, const uint64_t *node_ids, unsigned count, uint64_t deadline_us,
        store_change_done *done, void *arg)
{
        struct member_change *c;

        if (count != 2 && count != 4) {
                done(arg, STORE_INVALID, "one voter becomes three or five: it takes two or four stand-bys");
                return;
        }
        c = begin(s, STORE_GROW, deadline_us, done, arg);
        if (!c)
                return;
        c->node_id = s->node_id;
        c->node_count = count;
        memcpy(c->node_ids, node_ids, count * sizeof(*node_ids));
}

/* ---- status ---- */

bool store_is_leading(const struct store *s)
{
        return s->is_leading;
}

static void add_members(const struct store *s, struct store_cluster_status *ret)
{
        struct cluster_configuration configuration;
        struct cluster_member members[CLUSTER_MEMBERS_MAX];
        unsigned known = cluster_raft_members(s->raft, members, CLUSTER_MEMBERS_MAX);
        uint64_t index;

        cluster_raft_configuration(s->raft, &configuration, &index, &ret->has_committed_members);
        ret->count = configuration.count;
        for (unsigned i = 0; i < configuration.count; i++) {
                struct store_member *m = &ret->members[i];

                m->server = configuration.servers[i];
                m->is_self = m->server.node_id == s->node_id;
                m->is_leader = m->server.node_id == ret->leader_id;
                m->is_linked = m->is_self || replication_is_linked(s, m->server.node_id);
                m->has_another_history = compare_differs(s, m->server.node_id);
                for (unsigned k = 0; k < MIN(known, CLUSTER_MEMBERS_MAX); k++)
                        if (members[k].node_id == m->server.node_id)
                                m->match_index = members[k].match_index;
                if (m->is_self)
                        m->match_index = persistence_synced_index(s->persistence);
                if (ret->state == CLUSTER_LEADER && m->match_index < ret->last_index)
                        m->lag_entries = ret->last_index - m->match_index;
        }
}

static void tell_mending(const struct store *s, struct store_mending *ret)
{
        if (s->refetch.is_on)
                *ret = (struct store_mending){.kind = STORE_MENDING_END,
                        .first_index = s->refetch.kept + 1,
                        .next_index = s->refetch.verified + 1,
                        .last_index = s->refetch.enough == UINT64_MAX ? 0 : s->refetch.enough};
        else if (s->mend.is_on)
                *ret = (struct store_mending){.kind = STORE_MENDING_SEGMENT,
                        .first_index = s->mend.range.first,
                        .next_index = s->mend.next,
                        .last_index = s->mend.range.last};
}

void store_cluster_status(const struct store *s, struct store_cluster_status *ret)
{
        *ret = (struct store_cluster_status){.node_id = s->node_id};
        tell_mending(s, &ret->mending);
        compare_status(s, &ret->comparison);
        if (!s->raft)
                return;
        ret->state = cluster_raft_state(s->raft);
        ret->leader_id = cluster_raft_leader(s->raft);
        ret->term = cluster_raft_term(s->raft);
        ret->last_index = persistence_last_index(s->persistence);
        ret->commit_index = s->commit_index;
        ret->applied_index = s->applied_index;
        ret->epoch = persistence_epoch(s->persistence);
        ret->can_write = s->is_leading;
        ret->is_catching_up = s->catch_up.is_on;
        ret->catch_up_index = s->catch_up.last_index;
        add_members(s, ret);
}
