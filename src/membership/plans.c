#include "membership/plans.h"

#include <stdio.h>

static const struct cluster_server *find(const struct cluster_configuration *members, uint64_t node_id)
{
        for (unsigned i = 0; i < members->count; i++)
                if (members->servers[i].node_id == node_id)
                        return &members->servers[i];
        return NULL;
}

static bool is_voter(const struct cluster_server *s)
{
        return s && s->role == CLUSTER_VOTER;
}

static struct plan_step *add_step(struct plan *p, enum store_change change, uint64_t node_id)
{
        assert(p->count < PLAN_STEPS_MAX);
        p->steps[p->count] = (struct plan_step){.change = change, .node_id = node_id};
        return &p->steps[p->count++];
}

static void refuse(struct plan *p, uint64_t node_id, const char *why)
{
        p->count = 0;
        snprintf(p->problem, sizeof p->problem, "node %llu %s", (unsigned long long)node_id, why);
}

/* Another voter that can take leadership from `node_id`; 0: none. */
static uint64_t successor_of(
        const struct cluster_configuration *members, const struct plan_request *q, uint64_t node_id)
{
        for (unsigned i = 0; i < members->count; i++)
                if (is_voter(&members->servers[i]) && members->servers[i].node_id != node_id &&
                        q->is_alive[i])
                        return members->servers[i].node_id;
        return 0;
}

/* A leader that is demoted or removed would leave the others without one until they elect: it hands over
 * first. False: nobody can take it. */
static bool hand_over(const struct cluster_configuration *members, const struct plan_request *q,
        uint64_t node_id, uint64_t to, struct plan *p)
{
        if (q->leader_id != node_id)
                return true;
        if (!to)
                to = successor_of(members, q, node_id);
        if (!to) {
                refuse(p, node_id, "leads, and no other voter answers that could take over");
                return false;
        }
        add_step(p, STORE_TRANSFER, to);
        return true;
}

static void plan_add(const struct cluster_server *s, const struct plan_request *q, struct plan *p)
{
        struct plan_step *step;

        if (!*q->address && !s) {
                refuse(p, q->node_id, "needs an address, host:port");
                return;
        }
        if (!*q->address || (s && strcmp(s->address, q->address) == 0))
                return;
        step = add_step(p, STORE_ADD, q->node_id);
        snprintf(step->address, sizeof step->address, "%s", q->address);
}

static unsigned count_voters(const struct cluster_configuration *members)
{
        unsigned voters = 0;

        for (unsigned i = 0; i < members->count; i++)
                voters += is_voter(&members->servers[i]);
        return voters;
}

/* The new one is promoted before the old one goes, except among as many voters as there may be: then the old
 * one is demoted first, which leaves four. Four are only ever met in passing, so who finds them, and both as
 * stand-bys, goes on with that. */
static void plan_replace(
        const struct cluster_configuration *members, const struct plan_request *q, struct plan *p)
{
        const struct cluster_server *old = find(members, q->node_id);
        const struct cluster_server *new = find(members, q->with_node_id);
        unsigned voters = count_voters(members);
        bool is_full = voters == CLUSTER_VOTERS_MAX;

        if (q->node_id == q->with_node_id) {
                refuse(p, q->node_id, "cannot replace itself");
                return;
        }
        if (!new) {
                refuse(p, q->with_node_id, "is no member: let it join first");
                return;
        }
        /* Without the old one it cannot be told any more whether the new one shall vote: the promotion came
         * first. */
        if (!old)
                return;
        if (is_voter(old) && !is_voter(new) && !is_full)
                add_step(p, STORE_PROMOTE, q->with_node_id);
        if (!hand_over(members, q, q->node_id,
                    is_voter(old) && (is_voter(new) || !is_full) ? q->with_node_id : 0, p))
                return;
        if (is_voter(old))
                add_step(p, STORE_DEMOTE, q->node_id);
        if (!is_voter(new) && (is_voter(old) ? is_full : voters == CLUSTER_VOTERS_MAX - 1))
                add_step(p, STORE_PROMOTE, q->with_node_id);
        add_step(p, STORE_REMOVE, q->node_id);
}

void plan_make(const struct cluster_configuration *members, const struct plan_request *q, struct plan *p)
{
        const struct cluster_server *s = find(members, q->node_id);

        *p = (struct plan){.count = 0};
        if (strcmp(q->what, "add") == 0) {
                plan_add(s, q, p);
        } else if (strcmp(q->what, "replace") == 0) {
                plan_replace(members, q, p);
        } else if (strcmp(q->what, "remove") == 0 || strcmp(q->what, "leave") == 0) {
                if (s && hand_over(members, q, q->node_id, 0, p))
                        add_step(p, STORE_REMOVE, q->node_id);
        } else if (!s) {
                refuse(p, q->node_id, "is no member");
        } else if (strcmp(q->what, "promote") == 0) {
                if (!is_voter(s))
                        add_step(p, STORE_PROMOTE, q->node_id);
        } else if (strcmp(q->what, "demote") == 0) {
                if (is_voter(s) && hand_over(members, q, q->node_id, 0, p))
                        add_step(p, STORE_DEMOTE, q->node_id);
        } else if (strcmp(q->what, "transfer") == 0) {
                if (!is_voter(s))
                        refuse(p, q->node_id, "is a stand-by: only a voter can lead");
                else if (q->leader_id != q->node_id)
                        add_step(p, STORE_TRANSFER, q->node_id);
        } else {
                refuse(p, q->node_id, "cannot be changed like that");
        }
}

void plan_apply(struct cluster_configuration *members, uint64_t *leader_id, const struct plan_step *step)
{
        struct cluster_server *s = (struct cluster_server *)find(members, step->node_id);
        unsigned at;

        switch (step->change) {
        case STORE_ADD:
                if (!s && members->count < CLUSTER_MEMBERS_MAX) {
                        for (at = members->count++;
                                at > 0 && members->servers[at - 1].node_id > step->node_id; at--)
                                members->servers[at] = members->servers[at - 1];
                        s = &members->servers[at];
                        *s = (struct cluster_server){.node_id = step->node_id, .role = CLUSTER_STANDBY};
                }
                if (s)
                        snprintf(s->address, sizeof s->address, "%s", step->address);
                return;
        case STORE_PROMOTE:
        case STORE_DEMOTE:
                if (s)
                        s->role = step->change == STORE_PROMOTE ? CLUSTER_VOTER : CLUSTER_STANDBY;
                return;
        case STORE_REMOVE:
                if (!s)
                        return;
                memmove(s, s + 1, (size_t)(members->servers + members->count - (s + 1)) * sizeof *s);
                members->count--;
                return;
        case STORE_TRANSFER:
                *leader_id = step->node_id;
                return;
        default:
                return; /* no step of a plan */
        }
}

void plan_step_to_text(const struct plan_step *step, char ret[PLAN_TEXT_SIZE])
{
        static const char *const words[][2] = {
                [STORE_ADD] = {"add node ", " at "},
                [STORE_PROMOTE] = {"make node ", " a voter"},
                [STORE_DEMOTE] = {"make node ", " a stand-by"},
                [STORE_REMOVE] = {"remove node ", ""},
                [STORE_TRANSFER] = {"hand leadership to node ", ""},
        };

        snprintf(ret, PLAN_TEXT_SIZE, "%s%llu%s%.100s", words[step->change][0],
                (unsigned long long)step->node_id, words[step->change][1],
                step->change == STORE_ADD ? step->address : "");
}
