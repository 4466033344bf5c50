/* Clusters of whole nodes in a simulated world, in good order: how they begin, grow, change and stop. */
#include "world.h"

static void life_of_three(bool is_insecure, uint64_t seed)
{
        struct world w;
        struct membership_summary summary;

        world_begin(&w, seed, is_insecure);
        world_three(&w);
        membership_summary(w.nodes[1].membership, &summary);
        assert_int_equal(summary.voters, 3);
        assert_int_equal(summary.voters_reachable, 3);
        assert_true(summary.has_quorum);
        world_end(&w);
}

TEST(life, one_node_becomes_three_without_tls)
{
        for (uint64_t seed = 1; seed <= 5; seed++)
                life_of_three(true, seed);
}

TEST(life, one_node_becomes_three_with_tls)
{
        for (uint64_t seed = 1; seed <= 2; seed++)
                life_of_three(false, seed);
}

/* `init --voters 3` needs no further command. */
TEST(life, it_grows_by_itself_when_it_was_told_to)
{
        struct world w;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 7, true);
        node_start(world_add(&w));
        EXPECT_WITHIN(10, node_is_open, &w, 1);
        ask_done(&w.nodes[0], "{\"do\":\"init\",\"voters\":3}");
        make_token(&w.nodes[0], 2, token);
        world_join(&w, token);
        world_run(&w, 3 * SECOND);
        assert_true(has_voters(&w, 1));
        world_join(&w, token);
        EXPECT_WITHIN(20, has_voters, &w, 3);
        world_end(&w);
}

/* No flag says who they are. */
TEST(life, members_restart_as_what_they_were)
{
        struct world w;
        unsigned i;

        world_begin(&w, 8, true);
        world_three(&w);
        for (i = 0; i < 3; i++)
                node_stop(&w.nodes[i]);
        for (i = 0; i < 3; i++) {
                w.nodes[i].seeds[0] = w.nodes[i].token[0] = 0;
                node_start(&w.nodes[i]);
        }
        EXPECT_WITHIN(20, all_see_members, &w, 3);
        assert_true(has_voters(&w, 3));
        world_end(&w);
}

TEST(life, what_a_token_does_not_allow_is_refused)
{
        struct world w;
        struct node *late;
        char token[TLS_TOKEN_TEXT_SIZE];
        unsigned in = 0;

        world_begin(&w, 9, true);
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        /* Two ask at once, one may. */
        world_join(&w, token);
        world_join(&w, token);
        EXPECT_WITHIN(30, node_is_ready, &w, 2);
        EXPECT_WITHIN(30, node_is_ready, &w, 3);
        for (unsigned i = 1; i < 3; i++) {
                in += w.nodes[i].ready_result == 0;
                if (w.nodes[i].ready_result)
                        assert_non_null(strstr(w.nodes[i].problem, "used up"));
        }
        assert_int_equal(in, 1);
        token[20] = token[20] == 'a' ? 'b' : 'a';
        late = world_join(&w, token);
        EXPECT_WITHIN(5, node_is_ready, &w, 4);
        assert_int_equal(late->ready_result, MEMBERSHIP_REFUSED);
        world_end(&w);
}

/* The token names the CA of its cluster: another one is known at once, before the token is shown to it. */
TEST(life, a_token_of_another_cluster_is_refused_at_once)
{
        struct world w;
        struct node *other, *late;
        char token[TLS_TOKEN_TEXT_SIZE], others[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 21, false);
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        other = world_add(&w);
        node_start(other);
        EXPECT_WITHIN(10, node_is_open, &w, 2);
        ask_done(other, "{\"do\":\"init\"}");
        make_token(other, 1, others);
        late = world_join(&w, others);
        EXPECT_WITHIN(3, node_is_ready, &w, 3);
        assert_int_equal(late->ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(late->problem, "of another cluster than 10.0.0.1:2112"));
        /* Among several the one that has the CA is found. */
        late = world_add(&w);
        snprintf(late->seeds, sizeof late->seeds, "10.0.0.1:2112,10.0.0.77:2112,10.0.0.2:2112");
        snprintf(late->token, sizeof late->token, "%s", others);
        node_start(late);
        EXPECT_WITHIN(20, node_is_open, &w, 4);
        assert_int_equal(late->open_result, 0);
        /* While one has not answered, it may be the one. */
        late = world_add(&w);
        snprintf(late->seeds, sizeof late->seeds, "10.0.0.1:2112,10.0.0.77:2112");
        snprintf(late->token, sizeof late->token, "%s", others);
        node_start(late);
        EXPECT_WITHIN(40, node_is_ready, &w, 5);
        assert_int_equal(late->ready_result, MEMBERSHIP_UNREACHABLE);
        world_end(&w);
}

TEST(life, a_directory_with_data_does_not_join)
{
        struct world w;
        struct node *lone;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 10, true);
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        lone = world_add(&w);
        node_start(lone);
        EXPECT_WITHIN(10, node_is_open, &w, 2);
        node_stop(lone);
        snprintf(lone->seeds, sizeof lone->seeds, "10.0.0.1:2112");
        snprintf(lone->token, sizeof lone->token, "%s", token);
        node_start(lone);
        EXPECT_WITHIN(5, node_is_ready, &w, 2);
        assert_int_equal(lone->ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(lone->problem, "has data of its own"));
        node_stop(lone);
        /* It is what it was. */
        lone->seeds[0] = 0;
        node_start(lone);
        EXPECT_WITHIN(10, node_is_open, &w, 2);
        assert_int_equal(lone->open_result, 0);
        world_end(&w);
}

TEST(life, any_node_takes_commands_and_the_leader_carries_them_out)
{
        struct world w;

        world_begin(&w, 11, true);
        world_three(&w);
        ask_done(&w.nodes[2], "{\"do\":\"transfer\",\"node\":2}");
        EXPECT_WITHIN(10, all_see_members, &w, 3);
        assert_int_equal(id_of(leader_of(&w)), 2);
        ask_refused(&w.nodes[0], "{\"do\":\"remove\",\"node\":3}", 409, "three voters are the fewest");
        ask_refused(&w.nodes[0], "{\"do\":\"promote\",\"node\":9}", 409, "is no member");
        ask_refused(&w.nodes[0], "{\"do\":\"promote\"}", 400, "which node");
        ask_refused(&w.nodes[0], "{\"do\":\"sign\"}", 400, "no command");
        ask_refused(&w.nodes[0], "[]", 400, "no command");
        ask_refused(&w.nodes[0], "{\"do\":\"init\"}", 409, "already");
        world_end(&w);
}

static bool says_removed(struct node *n)
{
        struct buffer text = {0};
        struct json_out j = {.out = &text};
        json_t *status;
        bool is_removed;

        membership_status_to_json(n->membership, &j);
        status = json_loadb((const char *)text.data, text.size, 0, NULL);
        assert_true(json_is_boolean(json_object_get(status, "removed")));
        is_removed = json_is_true(json_object_get(status, "removed"));
        json_decref(status);
        buffer_fini(&text);
        return is_removed;
}

/* What cannot stand in the log is refused, not cut to what fits: the leader would write it again and again.
 */
TEST(life, an_address_that_is_none_is_refused)
{
        struct world w;
        struct node *n;
        char request[400];

        world_begin(&w, 22, true);
        n = world_first(&w);
        ask_refused(n, "{\"do\":\"add\",\"node\":7,\"address\":\"nowhere\"}", 400, "no address");
        ask_refused(n, "{\"do\":\"add\",\"node\":7,\"address\":\"a\\nb:1\"}", 400, "no address");
        snprintf(request, sizeof request, "{\"do\":\"add\",\"node\":7,\"address\":\"%0260d:1\"}", 0);
        ask_refused(n, request, 400, "no address");
        node_stop(n);
        snprintf(n->advertise, sizeof n->advertise, "no where:2112");
        node_start(n);
        EXPECT_WITHIN(10, node_is_ready, &w, 1);
        assert_int_equal(n->ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(n->problem, "--advertise"));
        world_end(&w);
}

TEST(life, a_node_is_replaced_and_the_replaced_one_is_refused)
{
        struct world w;
        struct node *old;
        char token[TLS_TOKEN_TEXT_SIZE], request[80];
        uint64_t old_id;

        world_begin(&w, 12, true);
        world_three(&w);
        make_token(leader_of(&w), 1, token);
        world_join(&w, token);
        EXPECT_WITHIN(20, all_see_members, &w, 4);
        old = leader_of(&w);
        old_id = id_of(old);
        snprintf(request, sizeof request, "{\"do\":\"replace\",\"node\":%u,\"with\":4}", (unsigned)old_id);
        ask_done(&w.nodes[3], request);
        world_run(&w, 5 * SECOND);
        assert_true(leader_of(&w) != old);
        assert_true(has_voters(&w, 3));
        /* Nobody is linked with it any more, and it says so. */
        {
                struct membership_node nodes[CLUSTER_MEMBERS_MAX];
                unsigned count = membership_nodes(old->membership, nodes, CLUSTER_MEMBERS_MAX);

                for (unsigned i = 0; i < count; i++)
                        assert_true(nodes[i].is_self || !nodes[i].is_alive);
        }
        /* Its own status says what has become of it, after a restart too; that of the others does not. */
        assert_true(says_removed(old));
        for (unsigned i = 0; i < w.count; i++)
                assert_true(&w.nodes[i] == old || !says_removed(&w.nodes[i]));
        node_stop(old);
        node_start(old);
        world_run(&w, 5 * SECOND);
        assert_true(says_removed(old));
        /* Taken back, it is a member again. */
        snprintf(request, sizeof request, "{\"do\":\"add\",\"node\":%u,\"address\":\"%s:2112\"}",
                (unsigned)old_id, old->address);
        ask_done(&w.nodes[3], request);
        EXPECT_WITHIN(20, all_see_members, &w, 4);
        assert_false(says_removed(old));
        world_end(&w);
}

TEST(life, a_member_that_moved_is_written_down)
{
        struct world w;
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];

        world_begin(&w, 13, true);
        world_three(&w);
        node_stop(&w.nodes[1]);
        os_sim_world_set_name(w.sim, "second.example", (const char *const[]){"10.0.0.2"}, 1);
        snprintf(w.nodes[1].advertise, sizeof w.nodes[1].advertise, "second.example:2112");
        node_start(&w.nodes[1]);
        EXPECT_WITHIN(20, all_see_members, &w, 3);
        world_run(&w, 3 * SECOND);
        membership_nodes(leader_of(&w)->membership, nodes, CLUSTER_MEMBERS_MAX);
        assert_string_equal(nodes[id_of(&w.nodes[1]) - 1].address, "second.example:2112");
        /* And stays so without the flag. */
        node_stop(&w.nodes[1]);
        w.nodes[1].advertise[0] = 0;
        node_start(&w.nodes[1]);
        EXPECT_WITHIN(20, all_see_members, &w, 3);
        world_run(&w, 3 * SECOND);
        membership_nodes(leader_of(&w)->membership, nodes, CLUSTER_MEMBERS_MAX);
        assert_string_equal(nodes[id_of(&w.nodes[1]) - 1].address, "second.example:2112");
        world_end(&w);
}

/* Names are looked up, and every address of one is tried. */
TEST(life, seeds_may_be_names)
{
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 14, true);
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        os_sim_world_set_name(w.sim, "nodes.example", (const char *const[]){"10.0.0.77", "10.0.0.1"}, 2);
        n = world_add(&w);
        snprintf(n->seeds, sizeof n->seeds, "nowhere.example:2112, nodes.example");
        snprintf(n->token, sizeof n->token, "%s", token);
        node_start(n);
        EXPECT_WITHIN(30, node_is_open, &w, 2);
        assert_int_equal(n->open_result, 0);
        world_end(&w);
}

static unsigned renewed(struct node *n)
{
        struct control_stats stats;

        control_stats(n->control, &stats);
        return (unsigned)stats.published_by_type[FACT_certificate_renewed];
}

/* G19: a wall clock that jumps a year can make certificates look old, no more. Whoever has the CA's key
 * renews by itself, the others ask; nobody restarts for it. */
TEST(life, certificates_are_renewed_in_time)
{
        struct world w;
        struct membership_summary before, after;
        unsigned i;

        world_begin(&w, 16, false);
        world_first(&w);
        {
                char token[TLS_TOKEN_TEXT_SIZE];

                make_token(&w.nodes[0], 1, token);
                world_join(&w, token); /* a stand-by: it has no key of the CA */
        }
        EXPECT_WITHIN(20, all_see_members, &w, 2);
        world_run(&w, 2 * SECOND);
        membership_summary(w.nodes[1].membership, &before);
        assert_true(before.certificate_until_us > 0);
        for (i = 0; i < 2; i++)
                assert_int_equal(renewed(&w.nodes[i]), 0);
        for (i = 0; i < 2; i++)
                os_sim_shift_wall(w.nodes[i].os, (int64_t)320 * 24 * 3600 * SECOND);
        for (i = 0; i < 70 && !(renewed(&w.nodes[0]) && renewed(&w.nodes[1])); i++)
                world_run(&w, (uint64_t)60 * SECOND);
        for (i = 0; i < 2; i++)
                assert_int_equal(renewed(&w.nodes[i]), 1);
        world_run(&w, 5 * SECOND);
        membership_summary(w.nodes[1].membership, &after);
        assert_true(after.certificate_until_us >
                    before.certificate_until_us + (uint64_t)300 * 24 * 3600 * SECOND);
        assert_true(all_see_members(&w, 2));
        world_end(&w);
}

static void on_handed_over(void *arg)
{
        *(bool *)arg = true;
}

static void begin_hand_over(void *arg)
{
        struct {
                struct node *node;
                bool *is_done;
        } *h = arg;

        membership_hand_over(h->node->membership, on_handed_over, h->is_done);
}

TEST(life, a_leader_hands_over_before_it_stops)
{
        struct world w;
        bool is_handed = false;
        struct {
                struct node *node;
                bool *is_done;
        } h = {NULL, &is_handed};

        world_begin(&w, 15, true);
        world_three(&w);
        h.node = leader_of(&w);
        os_post(h.node->os, begin_hand_over, &h);
        world_run(&w, SECOND);
        assert_true(is_handed);
        assert_non_null(leader_of(&w));
        assert_true(leader_of(&w) != h.node);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(life, one_node_becomes_three_without_tls),
                TEST_ROW(life, one_node_becomes_three_with_tls),
                TEST_ROW(life, it_grows_by_itself_when_it_was_told_to),
                TEST_ROW(life, members_restart_as_what_they_were),
                TEST_ROW(life, what_a_token_does_not_allow_is_refused),
                TEST_ROW(life, a_token_of_another_cluster_is_refused_at_once),
                TEST_ROW(life, a_directory_with_data_does_not_join),
                TEST_ROW(life, any_node_takes_commands_and_the_leader_carries_them_out),
                TEST_ROW(life, an_address_that_is_none_is_refused),
                TEST_ROW(life, a_node_is_replaced_and_the_replaced_one_is_refused),
                TEST_ROW(life, a_member_that_moved_is_written_down),
                TEST_ROW(life, seeds_may_be_names),
                TEST_ROW(life, certificates_are_renewed_in_time),
                TEST_ROW(life, a_leader_hands_over_before_it_stops),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
