/* Crashes while a cluster is made, joined and changed: what was asked for can be asked again, and is there
 * once (G2, G12). */
#include "world.h"

/* A crash gives no memory back. */
#if defined(__SANITIZE_ADDRESS__)
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}
#endif

/* How many were let in, and how often, by what the leader says of its tokens. */
static void expect_used(struct node *n, unsigned used)
{
        struct answer a;

        ask_ok(n, "{\"do\":\"tokens\"}", &a);
        assert_int_equal(json_integer_value(json_object_get(
                                 json_array_get(json_object_get(a.body, "tokens"), 0), "used")),
                used);
        json_decref(a.body);
}

/* The joiner's machine loses power at any moment of its joining; it is started again with the same flags. */
TEST(crash, a_joiner_that_crashes_is_let_in_once)
{
        for (uint64_t seed = 1; seed <= 250; seed++) {
                struct world w;
                struct node *n;
                char token[TLS_TOKEN_TEXT_SIZE];

                world_begin(&w, seed, seed % 5 != 0);
                world_first(&w);
                make_token(&w.nodes[0], 1, token);
                n = world_join(&w, token);
                for (unsigned i = 0; i < 3; i++) {
                        world_run(&w, os_sim_world_choose(w.sim, SECOND / 10));
                        node_lose(n, os_sim_world_choose(w.sim, 2));
                        node_start(n);
                }
                EXPECT_WITHIN(40, node_is_open, &w, 2);
                if (n->ready_result)
                        fail_msg("seed %llu: %s", (unsigned long long)seed, n->problem);
                EXPECT_WITHIN(20, all_see_members, &w, 2);
                expect_used(&w.nodes[0], 1);
                world_end(&w);
        }
}

/* The node that lets it in crashes instead. */
TEST(crash, a_cluster_that_crashes_lets_in_once)
{
        for (uint64_t seed = 1; seed <= 30; seed++) {
                struct world w;
                struct node *n;
                char token[TLS_TOKEN_TEXT_SIZE];

                world_begin(&w, 100 + seed, seed % 5 != 0);
                world_first(&w);
                make_token(&w.nodes[0], 1, token);
                n = world_join(&w, token);
                for (unsigned i = 0; i < 2; i++) {
                        world_run(&w, os_sim_world_choose(w.sim, SECOND / 10));
                        node_lose(&w.nodes[0], os_sim_world_choose(w.sim, 2));
                        node_start(&w.nodes[0]);
                }
                EXPECT_WITHIN(40, node_is_open, &w, 2);
                if (n->ready_result)
                        fail_msg("seed %llu: %s", (unsigned long long)seed, n->problem);
                EXPECT_WITHIN(20, all_see_members, &w, 2);
                expect_used(&w.nodes[0], 1);
                world_end(&w);
        }
}

/* Among three, whichever leads: the join goes on at the next leader. */
TEST(crash, a_join_survives_the_loss_of_the_leader)
{
        for (uint64_t seed = 1; seed <= 20; seed++) {
                struct world w;
                struct node *n, *lost;
                char token[TLS_TOKEN_TEXT_SIZE];

                world_begin(&w, 200 + seed, true);
                world_three(&w);
                make_token(leader_of(&w), 1, token);
                n = world_add(&w);
                snprintf(n->seeds, sizeof n->seeds, "10.0.0.1:2112,10.0.0.2:2112,10.0.0.3:2112");
                snprintf(n->token, sizeof n->token, "%s", token);
                node_start(n);
                world_run(&w, os_sim_world_choose(w.sim, SECOND / 10));
                lost = leader_of(&w);
                node_lose(lost, os_sim_world_choose(w.sim, 2));
                EXPECT_WITHIN(60, node_is_open, &w, 4);
                if (n->ready_result)
                        fail_msg("seed %llu: %s", (unsigned long long)seed, n->problem);
                node_start(lost);
                EXPECT_WITHIN(30, all_see_members, &w, 4);
                world_end(&w);
        }
}

/* A cluster is made or it is not; said again it is. */
TEST(crash, an_init_that_crashes_can_be_said_again)
{
        for (uint64_t seed = 1; seed <= 30; seed++) {
                struct world w;
                struct node *n;
                struct answer a = {.has_come = false};
                struct asking asking = {NULL, "{\"do\":\"init\"}", 5 * SECOND, &a};

                world_begin(&w, 300 + seed, seed % 4 != 0);
                n = world_add(&w);
                node_start(n);
                EXPECT_WITHIN(10, node_is_open, &w, 1);
                asking.node = n;
                os_post(n->os, asking_begin, &asking);
                for (uint64_t i = os_sim_world_choose(w.sim, 60); i > 0; i--)
                        os_sim_world_step(w.sim);
                node_lose(n, os_sim_world_choose(w.sim, 2));
                if (a.has_come)
                        json_decref(a.body);
                node_start(n);
                EXPECT_WITHIN(10, node_is_open, &w, 1);
                assert_int_equal(n->ready_result, 0);
                ask_for(n, "{\"do\":\"init\"}", 5 * SECOND, &a);
                assert_true(a.status == 200 || (a.status == 409 && strstr(a.detail, "already")));
                json_decref(a.body);
                world_run(&w, 3 * SECOND); /* the address is written down by then */
                {
                        char token[TLS_TOKEN_TEXT_SIZE];

                        make_token(n, 1, token);
                        world_join(&w, token);
                }
                EXPECT_WITHIN(30, all_see_members, &w, 2);
                world_end(&w);
        }
}

/* Its store is empty and its cluster is away: it founds no other. */
TEST(crash, a_joiner_never_founds_a_cluster)
{
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 400, true);
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        n = world_join(&w, token);
        EXPECT_WITHIN(20, node_is_ready, &w, 2);
        assert_int_equal(n->ready_result, 0);
        node_lose(n, false);
        node_lose(&w.nodes[0], false);
        node_start(n);
        world_run(&w, 20 * SECOND);
        assert_null(leader_of(&w));
        node_start(&w.nodes[0]);
        EXPECT_WITHIN(20, all_see_members, &w, 2);
        world_end(&w);
}

/* One voter becomes three while one of them, or the only one, crashes: there is never more than one leader,
 * and in the end there is one. */
TEST(crash, a_growth_that_crashes_ends_with_one_or_three)
{
        for (uint64_t seed = 1; seed <= 25; seed++) {
                struct world w;
                struct node *lost;
                struct answer a = {.has_come = false};
                struct asking asking = {NULL, "{\"do\":\"grow\"}", 5 * SECOND, &a};
                char token[TLS_TOKEN_TEXT_SIZE];

                world_begin(&w, 500 + seed, true);
                world_first(&w);
                make_token(&w.nodes[0], 5, token);
                world_join(&w, token);
                world_join(&w, token);
                EXPECT_WITHIN(20, all_see_members, &w, 3);
                asking.node = &w.nodes[0];
                os_post(asking.node->os, asking_begin, &asking);
                world_run(&w, os_sim_world_choose(w.sim, SECOND / 2));
                lost = &w.nodes[os_sim_world_choose(w.sim, 3)];
                node_lose(lost, os_sim_world_choose(w.sim, 2));
                world_run(&w, os_sim_world_choose(w.sim, 3 * SECOND));
                node_start(lost);
                EXPECT_WITHIN(40, all_see_members, &w, 3);
                if (a.has_come)
                        json_decref(a.body);
                if (has_voters(&w, 1))
                        ask_done(leader_of(&w), "{\"do\":\"grow\"}");
                EXPECT_WITHIN(20, has_voters, &w, 3);
                world_end(&w);
        }
}

/* cluster.json is read as it was written, or not at all. */
TEST(crash, a_damaged_file_refuses_the_start)
{
        struct world w;

        for (uint64_t bit = 40; bit < 2400; bit += 331) {
                world_begin(&w, 600, true);
                world_first(&w);
                node_stop(&w.nodes[0]);
                assert_int_equal(os_sim_flip_bit(w.nodes[0].os, "data/cluster.json", bit), 0);
                node_start(&w.nodes[0]);
                EXPECT_WITHIN(10, node_is_ready, &w, 1);
                /* Space between tokens is not covered, since it says nothing. */
                if (w.nodes[0].ready_result)
                        assert_int_equal(w.nodes[0].ready_result, MEMBERSHIP_DAMAGED);
                world_end(&w);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(crash, a_joiner_that_crashes_is_let_in_once),
                TEST_ROW(crash, a_cluster_that_crashes_lets_in_once),
                TEST_ROW(crash, a_join_survives_the_loss_of_the_leader),
                TEST_ROW(crash, an_init_that_crashes_can_be_said_again),
                TEST_ROW(crash, a_joiner_never_founds_a_cluster),
                TEST_ROW(crash, a_growth_that_crashes_ends_with_one_or_three),
                TEST_ROW(crash, a_damaged_file_refuses_the_start),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
