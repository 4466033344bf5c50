/* Changes of members, carried out at the leader: the steps of a plan, one after another, each committed
 * before the next. The plan is made anew before every step, from the members as they are then. */
#include <stdio.h>

#include "membership/room.h"

enum { AGAIN_US = 100 * 1000 };

static void go_on(struct command *c);

static void make_plan(struct command *c, const struct store_cluster_status *status, struct plan *ret)
{
        struct cluster_configuration members = {.count = status->count};
        struct plan_request request = {
                .what = command_text(c, "do"),
                .node_id = command_number(c, "node", 0),
                .with_node_id = command_number(c, "with", 0),
                .address = command_text(c, "address"),
                .leader_id = status->leader_id,
        };

        for (unsigned i = 0; i < status->count; i++) {
                members.servers[i] = status->members[i].server;
                request.is_alive[i] = status->members[i].is_self ||
                                      membership_is_linked(c->m, status->members[i].server.node_id);
        }
        plan_make(&members, &request, ret);
}

static json_t *steps_to_json(const struct plan *plan)
{
        json_t *steps = json_array();
        char text[PLAN_TEXT_SIZE];

        for (unsigned i = 0; i < plan->count; i++) {
                plan_step_to_text(&plan->steps[i], text);
                json_array_append_new(steps, json_string(text));
        }
        return steps;
}

/* The rules of the engine, on paper: the first step that it would refuse. */
static const char *first_refusal(const struct store_cluster_status *status, const struct plan *plan)
{
        struct cluster_configuration members = {.count = status->count};
        uint64_t leader_id = status->leader_id;

        for (unsigned i = 0; i < status->count; i++)
                members.servers[i] = status->members[i].server;
        for (unsigned i = 0; i < plan->count; i++) {
                struct cluster_configuration before = members;
                const char *why;

                plan_apply(&members, &leader_id, &plan->steps[i]);
                why = cluster_change_problem(leader_id, &before, &members);
                if (why)
                        return why;
        }
        return NULL;
}

static void answer_dry_run(
        struct command *c, const struct store_cluster_status *status, const struct plan *plan)
{
        const char *why = first_refusal(status, plan);
        json_t *body = json_object();

        json_object_set_new(body, "dry_run", json_true());
        json_object_set_new(body, "steps", steps_to_json(plan));
        json_object_set_new(body, "allowed", json_boolean(!why));
        if (why)
                json_object_set_new(body, "reason", json_string(why));
        command_end_ok(c, body);
}

static void answer_done(struct command *c)
{
        struct command_state *state = command_state(c);
        json_t *body = json_object();

        json_object_set_new(body, "done", json_true());
        json_object_set_new(body, "steps", steps_to_json(&state->plan));
        command_end_ok(c, body);
}

static void on_changed(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (verdict == STORE_OK) {
                if (c->state->plan.count < PLAN_STEPS_MAX)
                        c->state->plan.count++;
                command_again(c, go_on, AGAIN_US, "the next step follows");
        } else if (verdict == STORE_BUSY && os_monotonic_us(c->m->os) + AGAIN_US < c->deadline_us) {
                command_again(c, go_on, AGAIN_US, problem);
        } else {
                command_refuse_verdict(c, verdict, problem);
        }
}

/* Leadership has moved: the rest is the new leader's. */
static void go_on(struct command *c)
{
        struct store *store = membership_default_store(c->m);
        struct command_state *state = command_state(c);
        struct store_cluster_status status;
        const struct plan_step *step;
        struct plan plan;

        if (!store || !store_persistence(store)) {
                command_run(c);
                return;
        }
        store_cluster_status(store, &status);
        make_plan(c, &status, &plan);
        if (!store_is_leading(store)) {
                if (state->plan.count && status.leader_id && !plan.count && !*plan.problem)
                        answer_done(c); /* that was the last step */
                else
                        command_run(c);
                return;
        }
        if (*plan.problem) {
                command_refuse(c, 409, "refused", "It cannot be done", NULL, "%s", plan.problem);
                return;
        }
        if (command_flag(c, "dry_run")) {
                answer_dry_run(c, &status, &plan);
                return;
        }
        if (!plan.count) {
                answer_done(c);
                return;
        }
        step = &plan.steps[0];
        if (first_refusal(&status, &plan)) {
                command_refuse(c, 409, "refused", "The cluster does not allow it", NULL, "%s",
                        first_refusal(&status, &plan));
                return;
        }
        state->plan.steps[MIN(state->plan.count, (unsigned)PLAN_STEPS_MAX - 1)] = *step;
        command_hold(c);
        store_change_members(
                store, step->change, step->node_id, step->address, c->deadline_us, on_changed, c);
}

void changes_run(struct command *c)
{
        if (!command_number(c, "node", 0)) {
                command_refuse(c, 400, "invalid", "The request cannot be understood",
                        "name a node by its number, as cluster status shows it", "which node is meant?");
                return;
        }
        if (strcmp(command_text(c, "do"), "replace") == 0 && !command_number(c, "with", 0)) {
                command_refuse(c, 400, "invalid", "The request cannot be understood",
                        "name a node by its number, as cluster status shows it",
                        "by which node is it to be replaced?");
                return;
        }
        if (*command_text(c, "address") && !address_is_fit(command_text(c, "address"))) {
                command_refuse(c, 400, "invalid", "The request cannot be understood",
                        "say where the other nodes reach it, as HOST:PORT", "'%.100s' is no address",
                        command_text(c, "address"));
                return;
        }
        go_on(c);
}
