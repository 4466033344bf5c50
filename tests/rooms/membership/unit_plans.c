/* What commands of operators do, step by step (G2, G21: a replacement adds first, a leader hands over first).
 */
#include "membership/plans.h"

#include <stdio.h>

#include "test.h"

/* "1v 2v 3s": nodes and roles; those in upper case do not answer. */
static struct cluster_configuration members_of(const char *text, struct plan_request *request)
{
        struct cluster_configuration c = {.count = 0};

        for (; *text; text += text[2] ? 3 : 2) {
                struct cluster_server *s = &c.servers[c.count];

                s->node_id = (uint64_t)(text[0] - '0');
                s->role = text[1] == 'v' || text[1] == 'V' ? CLUSTER_VOTER : CLUSTER_STANDBY;
                snprintf(s->address, sizeof s->address, "10.0.0.%c:2112", text[0]);
                request->is_alive[c.count] = text[1] >= 'a';
                c.count++;
        }
        return c;
}

static void expect(const char *members, const char *what, uint64_t node_id, uint64_t with, uint64_t leader,
        const char *expected)
{
        struct plan_request request = {
                .what = what, .node_id = node_id, .with_node_id = with, .leader_id = leader, .address = ""};
        struct cluster_configuration c = members_of(members, &request);
        struct plan plan;
        char text[1024] = "";

        plan_make(&c, &request, &plan);
        for (unsigned i = 0; i < plan.count; i++) {
                char step[PLAN_TEXT_SIZE];

                plan_step_to_text(&plan.steps[i], step);
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? "; " : "", step);
        }
        if (*plan.problem)
                snprintf(text, sizeof text, "no: %s", plan.problem);
        assert_string_equal(text, expected);
}

TEST(plans, one_step_where_one_is_enough)
{
        expect("1v 2v 3v 4s", "promote", 4, 0, 1, "make node 4 a voter");
        expect("1v 2v 3v 4v", "demote", 4, 0, 1, "make node 4 a stand-by");
        expect("1v 2v 3v 4s", "remove", 4, 0, 1, "remove node 4");
        expect("1v 2v 3v", "transfer", 3, 0, 1, "hand leadership to node 3");
}

TEST(plans, what_is_so_already_needs_no_step)
{
        expect("1v 2v 3v", "promote", 3, 0, 1, "");
        expect("1v 2v 3v 4s", "demote", 4, 0, 1, "");
        expect("1v 2v 3v", "remove", 9, 0, 1, "");
        expect("1v 2v 3v", "transfer", 1, 0, 1, "");
        expect("1v 2v 3v", "replace", 9, 3, 1, "");
}

TEST(plans, a_leader_hands_over_before_it_is_demoted_or_removed)
{
        expect("1v 2v 3v 4v", "demote", 1, 0, 1, "hand leadership to node 2; make node 1 a stand-by");
        expect("1v 2V 3v 4v", "leave", 1, 0, 1, "hand leadership to node 3; remove node 1");
        expect("1v 2V 3V 4s", "remove", 1, 0, 1,
                "no: node 1 leads, and no other voter answers that could take over");
}

TEST(plans, a_replacement_adds_first)
{
        expect("1v 2v 3v 4s", "replace", 3, 4, 1,
                "make node 4 a voter; make node 3 a stand-by; remove node 3");
        expect("1v 2v 3v 4v", "replace", 3, 4, 1, "make node 3 a stand-by; remove node 3");
        expect("1v 2v 3s 4v", "replace", 3, 4, 1, "remove node 3");
        expect("1v 2v 3v 4s", "replace", 1, 4, 1,
                "make node 4 a voter; hand leadership to node 4; make node 1 a stand-by; remove node 1");
        /* Six voters are never: the old one of five goes first. */
        expect("1v 2v 3v 4v 5v 6s", "replace", 3, 6, 1,
                "make node 3 a stand-by; make node 6 a voter; remove node 3");
        expect("1v 2v 3v 4v 5v 6s", "replace", 1, 6, 1,
                "hand leadership to node 2; make node 1 a stand-by; make node 6 a voter; remove node 1");
        expect("1v 2v 3s 4v 5v 6s", "replace", 3, 6, 1, "make node 6 a voter; remove node 3");
        expect("1v 2v 3v 4s 5s", "replace", 4, 5, 1, "remove node 4");
}

TEST(plans, what_cannot_be_says_why)
{
        expect("1v 2v 3v", "promote", 9, 0, 1, "no: node 9 is no member");
        expect("1v 2v 3v 4s", "transfer", 4, 0, 1, "no: node 4 is a stand-by: only a voter can lead");
        expect("1v 2v 3v", "replace", 3, 9, 1, "no: node 9 is no member: let it join first");
        expect("1v 2v 3v", "replace", 3, 3, 1, "no: node 3 cannot replace itself");
        expect("1v 2v 3v", "add", 4, 0, 1, "no: node 4 needs an address, host:port");
}

/* Carried out one after another, each with a plan of its own, they end. */
TEST(plans, a_plan_made_anew_before_each_step_comes_to_its_end)
{
        struct plan_request request = {
                .what = "replace", .node_id = 1, .with_node_id = 4, .leader_id = 1, .address = ""};
        struct cluster_configuration c = members_of("1v 2v 3v 4s", &request);
        struct plan plan;
        unsigned steps = 0;

        for (plan_make(&c, &request, &plan); plan.count; plan_make(&c, &request, &plan)) {
                struct cluster_configuration before = c;

                plan_apply(&c, &request.leader_id, &plan.steps[0]);
                assert_null(cluster_change_problem(request.leader_id, &before, &c));
                assert_true(++steps < 10);
        }
        assert_int_equal(steps, 4);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.servers[2].node_id, 4);
        assert_int_equal(c.servers[2].role, CLUSTER_VOTER);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(plans, one_step_where_one_is_enough),
                TEST_ROW(plans, what_is_so_already_needs_no_step),
                TEST_ROW(plans, a_leader_hands_over_before_it_is_demoted_or_removed),
                TEST_ROW(plans, a_replacement_adds_first),
                TEST_ROW(plans, what_cannot_be_says_why),
                TEST_ROW(plans, a_plan_made_anew_before_each_step_comes_to_its_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
