/* Who belongs to the cluster, and changes of that (RG3, RG7, RG12): one server, one role, in an entry of its
 * own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cluster/room.h"

/* A stand-by that was found to have caught up and then fell this far behind has to catch up again. */
enum { FAR_BEHIND_ENTRIES = 4096 };

unsigned cluster_raft_members(const struct cluster_raft *c, struct cluster_member *ret, unsigned max)
{
        unsigned n = MIN(c->raft.configuration.n, max);

        for (unsigned i = 0; i < n; i++) {
                const struct raft_server *s = &c->raft.configuration.servers[i];
                raft_index match = 0;

                if (raft_match_index(&c->raft, s->id, &match))
                        match = 0;
                ret[i] = (struct cluster_member){s->id, s->role == RAFT_VOTER, s->id == c->leader_id, match};
        }
        return c->raft.configuration.n;
}

uint64_t cluster_raft_configuration_index(const struct cluster_raft *c)
{
        uint64_t uncommitted = c->raft.configuration_uncommitted_index;

        return uncommitted ? uncommitted : c->raft.configuration_committed_index;
}

void cluster_raft_configuration(const struct cluster_raft *c, struct cluster_configuration *ret,
        uint64_t *ret_index, bool *ret_is_committed)
{
        cluster_configuration_from_library(&c->raft.configuration, ret);
        *ret_index = cluster_raft_configuration_index(c);
        *ret_is_committed = *ret_index <= c->commit_index;
}

/* ---- changes ---- */

/* What every change waits for. 0 or an outcome. `node_id` is the one that is to change. */
int cluster_may_change(struct cluster_raft *c, uint64_t node_id)
{
        if (c->state != CLUSTER_LEADER)
                return CLUSTER_NOT_LEADER;
        if (raft_transferee(&c->raft)) {
                cluster_reason(c, "leadership is being handed over");
                return CLUSTER_NOT_NOW;
        }
        if (cluster_has_guard(c, 7) && !guard_own_term(&c->raft)) {
                cluster_reason(c, "no entry of the leader's own term is committed yet");
                return CLUSTER_NOT_NOW;
        }
        if (c->raft.configuration_uncommitted_index) {
                cluster_reason(c, "another change of members is not committed yet");
                return CLUSTER_NOT_NOW;
        }
        if (c->raft.leader_state.promotee_id) {
                cluster_reason(c, "node %llu is catching up", c->raft.leader_state.promotee_id);
                return CLUSTER_NOT_NOW;
        }
        if (cluster_has_guard(c, 3) && node_id != c->promoted_id &&
                !guard_promotion_settled(&c->raft, c->promoted_id, c->promotion_index)) {
                cluster_reason(c, "node %llu does not know yet that it is a voter",
                        (unsigned long long)c->promoted_id);
                return CLUSTER_NOT_NOW;
        }
        return 0;
}

const char *cluster_change_problem(
        uint64_t leader_id, const struct cluster_configuration *from, const struct cluster_configuration *to)
{
        return guard_envelope(leader_id, from, to);
}

int cluster_change_to(struct cluster_raft *c, uint64_t now_us, const struct cluster_configuration *to,
        bool grows, struct cluster_update *ret)
{
        struct cluster_configuration from;
        struct cluster_entry entry = {.term = raft_current_term(&c->raft), .type = CLUSTER_CHANGE};
        struct raft_configuration before = {0};
        const char *why;
        int r;

        cluster_configuration_from_library(&c->raft.configuration, &from);
        why = guard_envelope(c->raft.id, &from, to);
        if (why && !grows && cluster_has_guard(c, 3)) {
                cluster_reason(c, "%s", why);
                return CLUSTER_REFUSED;
        }
        buffer_clear(&c->change);
        r = cluster_configuration_encode(to, &c->change);
        if (r)
                return fault_fold(r);
        if (cluster_configuration_copy(&c->raft.configuration, &before))
                return fault_raise(-ENOMEM);
        entry.payload = buffer_bytes(&c->change);
        cluster_begin(c, ret);
        r = cluster_submit(c, now_us, &entry, 1, ret);
        if (!r)
                cluster_note_change(c, &before, ret->first_index);
        raft_configuration_close(&before);
        return r ? fault_raise(-EPROTO) : fault_fold(cluster_finish(c, now_us, ret));
}

static int refuse(struct cluster_raft *c, const char *format, uint64_t node_id)
{
        cluster_reason(c, "node %llu %s", (unsigned long long)node_id, format);
        return CLUSTER_REFUSED;
}

/* Gives the configuration in use and the node's place in it, NULL if it is none. */
static struct cluster_server *find(
        struct cluster_raft *c, uint64_t node_id, struct cluster_configuration *ret)
{
        cluster_configuration_from_library(&c->raft.configuration, ret);
        return (struct cluster_server *)cluster_configuration_find(ret, node_id);
}

int cluster_raft_add(struct cluster_raft *c, uint64_t now_us, uint64_t node_id, const char *address,
        struct cluster_update *ret)
{
        int may = cluster_may_change(c, node_id);
        struct cluster_configuration to;
        struct cluster_server *s;
        unsigned at;

        if (may)
                return may;
        s = find(c, node_id, &to);
        if (!node_id || strlen(address) >= CLUSTER_ADDRESS_SIZE)
                return refuse(c, "has no usable id and address", node_id);
        for (unsigned i = 0; i < to.count; i++)
                if (strcmp(to.servers[i].address, address) == 0)
                        return refuse(c,
                                to.servers[i].node_id == node_id ? "is a member already"
                                                                 : "has the address of another member",
                                node_id);
        if (!s) {
                if (to.count == CLUSTER_MEMBERS_MAX)
                        return refuse(c, "is one too many: there are 16 members", node_id);
                for (at = to.count++; at > 0 && to.servers[at - 1].node_id > node_id; at--)
                        to.servers[at] = to.servers[at - 1];
                s = &to.servers[at];
                *s = (struct cluster_server){.node_id = node_id, .role = CLUSTER_STANDBY};
        }
        snprintf(s->address, sizeof(s->address), "%s", address);
        return cluster_change_to(c, now_us, &to, false, ret);
}

/* A member of that role, for a change of it. 0 or an outcome. */
static int find_with_role(struct cluster_raft *c, uint64_t node_id, enum cluster_role role,
        const char *or_else, struct cluster_configuration *to, struct cluster_server **ret)
{
        int may = cluster_may_change(c, node_id);

        if (may)
                return may;
        *ret = find(c, node_id, to);
        if (!*ret || (*ret)->role != role)
                return refuse(c, *ret ? or_else : "is no member", node_id);
        return 0;
}

int cluster_raft_promote(
        struct cluster_raft *c, uint64_t now_us, uint64_t node_id, struct cluster_update *ret)
{
        struct cluster_configuration to;
        struct cluster_server *s;
        int r = find_with_role(c, node_id, CLUSTER_STANDBY, "is a voter already", &to, &s);

        if (r)
                return r;
        if (cluster_has_guard(c, 3) && !guard_caught_up(&c->raft, node_id)) {
                cluster_reason(c, "node %llu has not caught up", (unsigned long long)node_id);
                return CLUSTER_NOT_NOW;
        }
        s->role = CLUSTER_VOTER;
        return cluster_change_to(c, now_us, &to, false, ret);
}

int cluster_raft_demote(struct cluster_raft *c, uint64_t now_us, uint64_t node_id, struct cluster_update *ret)
{
        struct cluster_configuration to;
        struct cluster_server *s;
        int r = find_with_role(c, node_id, CLUSTER_VOTER, "is a stand-by already", &to, &s);

        if (r)
                return r;
        s->role = CLUSTER_STANDBY;
        return cluster_change_to(c, now_us, &to, false, ret);
}

int cluster_raft_remove(struct cluster_raft *c, uint64_t now_us, uint64_t node_id, struct cluster_update *ret)
{
        int may = cluster_may_change(c, node_id);
        struct cluster_configuration to;
        struct cluster_server *s;

        if (may)
                return may;
        s = find(c, node_id, &to);
        if (!s)
                return refuse(c, "is no member", node_id);
        memmove(s, s + 1, (size_t)(to.servers + to.count - (s + 1)) * sizeof(*s));
        to.count--;
        if (!to.count)
                return refuse(c, "is the only member", node_id);
        return cluster_change_to(c, now_us, &to, false, ret);
}

int cluster_raft_is_caught_up(
        struct cluster_raft *c, uint64_t now_us, uint64_t node_id, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_CATCH_UP, .catch_up.server_id = node_id};
        struct cluster_configuration in_use;
        const struct cluster_server *s;
        int status = RAFT_CATCH_UP_NONE;
        raft_index match = 0;
        int r;

        cluster_begin(c, ret);
        if (c->state != CLUSTER_LEADER)
                return CLUSTER_NOT_LEADER;
        s = find(c, node_id, &in_use);
        if (!s || s->role != CLUSTER_STANDBY)
                return refuse(c, s ? "is a voter already" : "is no member", node_id);
        /* A leader that has demoted itself leads until that is committed; it would send to itself. */
        if (node_id == c->raft.id)
                return refuse(c, "leads", node_id);
        if (raft_catch_up(&c->raft, node_id, &status) || raft_match_index(&c->raft, node_id, &match))
                return fault_raise(-EPROTO);
        if (guard_caught_up(&c->raft, node_id) && match + FAR_BEHIND_ENTRIES > cluster_raft_last_index(c))
                return fault_fold(cluster_finish(c, now_us, ret));
        cluster_reason(c, "node %llu is at entry %llu of %llu", (unsigned long long)node_id, match,
                (unsigned long long)cluster_raft_last_index(c));
        /* The library watches one at a time, and would forget the other. */
        if (status != RAFT_CATCH_UP_RUNNING && !c->raft.leader_state.promotee_id) {
                r = cluster_step_or_fault(c, now_us, &event, ret);
                if (r)
                        return fault_fold(r);
        }
        r = cluster_finish(c, now_us, ret);
        return r ? fault_fold(r) : CLUSTER_NOT_NOW;
}

int cluster_raft_transfer(
        struct cluster_raft *c, uint64_t now_us, uint64_t node_id, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_TRANSFER, .transfer.server_id = node_id};
        struct cluster_configuration in_use;
        const struct cluster_server *s;
        int r;

        if (c->state != CLUSTER_LEADER)
                return CLUSTER_NOT_LEADER;
        s = find(c, node_id, &in_use);
        if (!s || s->role != CLUSTER_VOTER || node_id == c->raft.id)
                return refuse(c,
                        !s                      ? "is no member"
                        : node_id == c->raft.id ? "leads already"
                                                : "is no voter",
                        node_id);
        if (raft_transferee(&c->raft)) {
                cluster_reason(c, "leadership is being handed over");
                return CLUSTER_NOT_NOW;
        }
        if (cluster_has_guard(c, 12) && !guard_transfer(&c->raft, node_id)) {
                cluster_reason(c, "node %llu does not have everything yet", (unsigned long long)node_id);
                return CLUSTER_NOT_NOW;
        }
        cluster_begin(c, ret);
        r = cluster_step_or_fault(c, now_us, &event, ret);
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}
