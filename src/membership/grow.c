/* One voter becomes three or five, in one step: by command, or by itself when `init` said so. */
#include <stdio.h>

#include "membership/room.h"

enum {
        /* Appends wait while the stand-bys are brought to the end of the log: not for longer at one time. */
        HOLD_US = 3 * 1000 * 1000,
        AGAIN_US = 200 * 1000,
        NEAR_ENTRIES = 4096, /* a stand-by that is further behind is waited for without holding anything */
        NODES_MAX = CLUSTER_VOTERS_MAX - 1,
};

struct choice {
        uint64_t nodes[NODES_MAX];
        unsigned count;
        unsigned wanted;
        char why[160]; /* there are too few */
};

static void growth(struct command *c);

static unsigned count_voters(const struct store_cluster_status *status)
{
        unsigned voters = 0;

        for (unsigned i = 0; i < status->count; i++)
                voters += status->members[i].server.role == CLUSTER_VOTER;
        return voters;
}

static bool is_near(const struct store_member *member)
{
        return member->match_index && member->lag_entries <= NEAR_ENTRIES;
}

/* The stand-bys that answer and are near to the end of the log, in the order of their ids. */
static void choose(struct membership *m, const struct store_cluster_status *status, struct choice *ret)
{
        for (unsigned i = 0; i < status->count && ret->count < ret->wanted; i++) {
                const struct store_member *member = &status->members[i];

                if (member->server.role != CLUSTER_STANDBY)
                        continue;
                if (!membership_is_linked(m, member->server.node_id))
                        snprintf(ret->why, sizeof ret->why, "node %llu does not answer",
                                (unsigned long long)member->server.node_id);
                else if (!is_near(member))
                        snprintf(ret->why, sizeof ret->why, "node %llu is %llu entries behind",
                                (unsigned long long)member->server.node_id,
                                (unsigned long long)member->lag_entries);
                else
                        ret->nodes[ret->count++] = member->server.node_id;
        }
        if (ret->count < ret->wanted && !*ret->why)
                snprintf(ret->why, sizeof ret->why, "%u stand-by%s there, %u are needed: let more nodes join",
                        ret->count, ret->count == 1 ? " is" : "s are", ret->wanted);
}

/* ---- by command ---- */

static json_t *steps_of(uint64_t self, const struct choice *choice)
{
        CLEANUP(buffer_fini) struct buffer text = {0};

        buffer_format(&text, "make node %llu", (unsigned long long)choice->nodes[0]);
        for (unsigned i = 1; i < choice->count; i++)
                buffer_format(&text, "%s %llu", i + 1 == choice->count ? " and" : ",",
                        (unsigned long long)choice->nodes[i]);
        buffer_format(&text, " voters beside node %llu, in one step", (unsigned long long)self);
        buffer_add_u8(&text, 0);
        return json_pack("[s]", (const char *)text.data);
}

static void on_grown(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        c->m->is_changing = false;
        if (!command_resume(c))
                return;
        if (verdict == STORE_OK || verdict == STORE_BUSY)
                command_again(c, growth, AGAIN_US,
                        problem); /* it is looked at again: there are as many voters as were asked for, then
                                   */
        else
                command_refuse_verdict(c, verdict, problem);
}

static bool choose_named(struct command *c, const struct store_cluster_status *status, struct choice *ret)
{
        json_t *nodes = json_object_get(c->request, "nodes");
        struct store_cluster_status named = *status;
        json_t *node;
        size_t i;

        ret->wanted = (unsigned)command_number(c, "voters", 3) - 1;
        if (json_array_size(nodes)) {
                ret->wanted = (unsigned)MIN(json_array_size(nodes), (size_t)NODES_MAX + 1);
                named.count = 0;
                json_array_foreach(nodes, i, node) for (unsigned k = 0; k < status->count; k++)
                {
                        if (status->members[k].server.node_id == (uint64_t)json_integer_value(node) &&
                                named.count < CLUSTER_MEMBERS_MAX)
                                named.members[named.count++] = status->members[k];
                }
        }
        if (ret->wanted != 2 && ret->wanted != 4) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", NULL,
                        "one voter becomes three or five: with two or four stand-bys");
                return false;
        }
        choose(c->m, &named, ret);
        return true;
}

static void answer(struct command *c, json_t *steps)
{
        json_t *body = json_object();

        json_object_set_new(body, "done", json_true());
        json_object_set_new(body, "steps", steps);
        command_end_ok(c, body);
}

static void answer_dry_run(
        struct command *c, const struct store_cluster_status *status, const struct choice *choice)
{
        json_t *body = json_object();

        json_object_set_new(body, "dry_run", json_true());
        json_object_set_new(body, "allowed", json_boolean(choice->count == choice->wanted));
        if (choice->count == choice->wanted) {
                json_object_set_new(body, "steps", steps_of(status->node_id, choice));
        } else {
                json_object_set_new(body, "steps", json_array());
                json_object_set_new(body, "reason", json_string(choice->why));
        }
        command_end_ok(c, body);
}

static void growth(struct command *c)
{
        struct store *store = membership_default_store(c->m);
        struct store_cluster_status status;
        struct choice choice = {.count = 0};
        unsigned voters;

        if (!store || !store_is_leading(store)) {
                command_run(c);
                return;
        }
        store_cluster_status(store, &status);
        voters = count_voters(&status);
        if (voters > 1) {
                answer(c, c->state && c->state->node_id
                                  ? json_pack("[s]", "one voter became several, in one step")
                                  : json_array());
                return;
        }
        if (!choose_named(c, &status, &choice))
                return;
        if (command_flag(c, "dry_run")) {
                answer_dry_run(c, &status, &choice);
                return;
        }
        if (choice.count < choice.wanted) {
                command_again(c, growth, AGAIN_US, choice.why);
                return;
        }
        command_state(c)->node_id = status.node_id;
        c->m->is_changing = true;
        command_hold(c);
        store_grow(store, choice.nodes, choice.count,
                MIN(c->deadline_us, os_monotonic_us(c->m->os) + HOLD_US), on_grown, c);
}

void grow_run(struct command *c)
{
        growth(c);
}

/* ---- by itself ---- */

static void on_grown_by_itself(void *arg, enum store_verdict verdict, const char *problem)
{
        struct membership *m = arg;
        char why[WHY_SIZE_MAX];

        (void)problem;
        m->is_changing = false;
        if (verdict != STORE_OK)
                return; /* it is tried again */
        m->file.voters_wanted = 0;
        if (cluster_file_write(m, why))
                membership_fact(m, FACT_disk_space_low, 0, "cluster.json could not be written");
}

void grow_tick(struct membership *m)
{
        struct store *store = membership_default_store(m);
        struct choice choice = {.wanted = m->file.voters_wanted - 1};
        struct store_cluster_status status;

        if (m->file.voters_wanted < 3 || m->is_changing || !store || !store_is_leading(store))
                return;
        store_cluster_status(store, &status);
        choose(m, &status, &choice);
        if (count_voters(&status) > 1) {
                on_grown_by_itself(m, STORE_OK, ""); /* a crash came between the step and the note */
        } else if (choice.count == choice.wanted) {
                m->is_changing = true;
                store_grow(store, choice.nodes, choice.count, os_monotonic_us(m->os) + HOLD_US,
                        on_grown_by_itself, m);
        }
}
