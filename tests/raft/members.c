/* Changes of members and transfers, as an operator without patience would ask for them. */
#include "room.h"

static void carry_out(struct world *w, struct node *n, int r, struct cluster_update *u)
{
        if (r == 0)
                node_carry_out(w, n, u);
        else if (r < 0)
                world_fail(w, "node %llu: a change gives %d, %s", (unsigned long long)n->id, r, fault_last());
}

static void promote(struct world *w, struct node *n, uint64_t id)
{
        struct cluster_update u;
        int r = cluster_raft_is_caught_up(n->raft, node_clock(w, n), id, &u);

        if (r == CLUSTER_NOT_NOW || r == 0)
                carry_out(w, n, 0, &u);
        if (r == 0 && n->is_up && !w->result->has_failed) {
                r = cluster_raft_promote(n->raft, node_clock(w, n), id, &u);
                w->result->totals.changes += r == 0;
                carry_out(w, n, r, &u);
        }
}

/* Without RG3's patience for those who have not caught up. */
static void promote_at_once(struct world *w, struct node *n, uint64_t id)
{
        struct cluster_update u;
        int r = cluster_raft_promote(n->raft, node_clock(w, n), id, &u);

        w->result->totals.changes += r == 0;
        carry_out(w, n, r, &u);
}

/* Mostly what can be done with the node as it is; now and then what cannot. */
static unsigned choose(struct world *w, const struct node *n, uint64_t id)
{
        struct cluster_configuration in_use;
        uint64_t at;
        bool is_committed;

        cluster_raft_configuration(n->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count && !world_chance(w, 100); i++) {
                if (in_use.servers[i].node_id != id)
                        continue;
                if (w->schedule == GROW && cluster_raft_is_only_voter(n->raft))
                        return world_chance(w, 50) ? 2 : 0; /* stand-bys come, and seldom go */
                if (in_use.servers[i].role == CLUSTER_STANDBY)
                        return world_chance(w, 700) ? 3 : 2;
                return 1 + (unsigned)world_random(w, 2);
        }
        return (unsigned)world_random(w, 4) * world_chance(w, 200);
}

static void change(struct world *w, struct node *n, uint64_t id)
{
        char address[16] = "node0:1";
        struct cluster_update u;
        int r;

        address[4] = (char)('0' + id);
        switch (choose(w, n, id)) {
        case 0:
                r = cluster_raft_add(n->raft, node_clock(w, n), id, address, &u);
                break;
        case 1:
                r = cluster_raft_demote(n->raft, node_clock(w, n), id, &u);
                break;
        case 2:
                r = cluster_raft_remove(n->raft, node_clock(w, n), id, &u);
                break;
        default:
                if (w->options.guards_off & (1u << 3))
                        promote_at_once(w, n, id);
                else
                        promote(w, n, id);
                return;
        }
        w->result->totals.changes += r == 0;
        w->result->totals.refused_changes += r != 0;
        carry_out(w, n, r, &u);
}

void members_act(struct world *w, struct node *n)
{
        if (!n->is_up || !n->raft || cluster_raft_state(n->raft) != CLUSTER_LEADER ||
                n->paused_until > w->now)
                return;
        if (w->schedule == GROW && !w->rates.changes_go_on && !cluster_raft_is_only_voter(n->raft))
                return;
        node_step_begins(w, n);
        change(w, n, 1 + world_random(w, w->node_count));
}

void members_transfer(struct world *w, struct node *n)
{
        struct cluster_update u;
        int r;

        if (!n->is_up || !n->raft || n->paused_until > w->now)
                return;
        node_step_begins(w, n);
        r = cluster_raft_transfer(n->raft, node_clock(w, n), 1 + world_random(w, w->node_count), &u);
        w->result->totals.transfers += r == 0;
        carry_out(w, n, r, &u);
}
