/* The cluster version in a simulated world (G20): nodes of two releases in one cluster, the operator's
 * `finalize`, and what happens to a node that came back too late. Nodes claim what a release would support.
 */
#include "world.h"

/* A crash gives no memory back. */
#if defined(__SANITIZE_ADDRESS__)
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}
#endif

enum { N = 1, NEXT = 2 };

static void is_release(struct node *n, unsigned release)
{
        n->version_min = N;
        n->version_max = release;
}

static bool all_have_version(struct world *w, unsigned version)
{
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].is_up && membership_version(w->nodes[i].membership) != version)
                        return false;
        return true;
}

/* The leader has written a first version, and knows what the others support. */
static bool versions_are_known(struct world *w, unsigned count)
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];

        if (!all_see_members(w, count))
                return false;
        membership_nodes(leader_of(w)->membership, nodes, CLUSTER_MEMBERS_MAX);
        for (unsigned i = 0; i < count; i++)
                if (!nodes[i].version_max)
                        return false;
        return true;
}

static uint64_t number_at(json_t *object, const char *key)
{
        assert_true(json_is_integer(json_object_get(object, key)));
        return (uint64_t)json_integer_value(json_object_get(object, key));
}

static json_t *status_of(struct node *n)
{
        struct buffer text = {0};
        struct json_out j = {.out = &text};
        json_t *status;

        membership_status_to_json(n->membership, &j);
        status = json_loadb((const char *)text.data, text.size, 0, NULL);
        assert_non_null(status);
        /* Always there: what the node gets back from others, and whether all have one history (G13, G22). */
        assert_true(json_is_boolean(json_object_get(status, "mending")));
        assert_int_equal(number_at(json_object_get(status, "history"), "differing"), 0);
        buffer_fini(&text);
        return status;
}

static void restart_as(struct node *n, unsigned release)
{
        node_stop(n);
        n->seeds[0] = n->token[0] = 0;
        is_release(n, release);
        node_start(n);
}

/* How often the version stands in the log. */
static unsigned versions_written(struct node *n)
{
        struct store_read_options options = {.stream = BYTES_LITERAL("$nilo-cluster"), .limit = UINT64_MAX};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        unsigned found = 0;
        int r = store_reader_open(n->store, &options, &reader);

        while (!r) {
                r = store_reader_next(reader, &item);
                if (!r)
                        found += bytes_equal_string(item.event.type, "$nilo-cluster-version");
                else if (r == STORE_READ_YIELD)
                        r = 0;
        }
        assert_int_equal(r, STORE_READ_END);
        store_reader_close(&reader);
        return found;
}

TEST(version, it_is_agreed_once_and_every_node_has_it)
{
        struct world w;
        struct answer a;
        json_t *status, *member;
        size_t i;

        world_begin(&w, 21, true);
        world_three(&w);
        EXPECT_WITHIN(10, versions_are_known, &w, 3);
        EXPECT_WITHIN(5, all_have_version, &w, N);
        status = status_of(&w.nodes[1]);
        assert_int_equal(number_at(status, "cluster_version"), N);
        json_array_foreach(json_object_get(status, "members"), i, member)
        {
                assert_int_equal(number_at(member, "cluster_version_min"), MEMBERSHIP_CLUSTER_VERSION_MIN);
                assert_int_equal(number_at(member, "cluster_version_max"), MEMBERSHIP_CLUSTER_VERSION_MAX);
        }
        json_decref(status);
        /* Another leader finds it there. */
        ask_done(&w.nodes[0], "{\"do\":\"transfer\",\"node\":2}");
        EXPECT_WITHIN(10, all_see_members, &w, 3);
        world_run(&w, 3 * SECOND);
        assert_int_equal(versions_written(leader_of(&w)), 1);
        /* Nothing to raise is no error, and nothing is written. */
        ask_ok(&w.nodes[0], "{\"do\":\"finalize\"}", &a);
        assert_int_equal(number_at(a.body, "cluster_version"), N);
        assert_true(json_is_false(json_object_get(a.body, "raised")));
        json_decref(a.body);
        assert_int_equal(versions_written(leader_of(&w)), 1);
        world_end(&w);
}

/* A lone node's log is its user's: nothing is in it that nobody asked for. */
TEST(version, a_lone_node_writes_none)
{
        struct world w;
        struct store_stream_info info;

        world_begin(&w, 22, true);
        node_start(world_add(&w));
        EXPECT_WITHIN(10, node_is_open, &w, 1);
        world_run(&w, 3 * SECOND);
        assert_int_equal(store_stream_info(w.nodes[0].store, BYTES_LITERAL("$nilo-cluster"), &info), 0);
        assert_int_equal(info.state, STREAM_ABSENT);
        assert_int_equal(membership_version(w.nodes[0].membership), N);
        world_end(&w);
}

TEST(version, two_releases_are_one_cluster_until_it_is_finalized)
{
        struct world w;
        struct answer a;

        world_begin(&w, 23, true);
        world_three(&w);
        EXPECT_WITHIN(5, all_have_version, &w, N);
        /* One of three is of the next release: everything goes on, to it and back. */
        restart_as(&w.nodes[2], NEXT);
        EXPECT_WITHIN(20, versions_are_known, &w, 3);
        ask_done(&w.nodes[0], "{\"do\":\"transfer\",\"node\":3}");
        EXPECT_WITHIN(20, versions_are_known, &w, 3);
        assert_true(all_have_version(&w, N));
        ask_refused(&w.nodes[0], "{\"do\":\"finalize\"}", 409,
                "node 1 (n1) supports cluster version 1, and not 2");
        restart_as(&w.nodes[2], N);
        EXPECT_WITHIN(20, versions_are_known, &w, 3);
        assert_int_equal(w.nodes[2].unfit, 0);
        /* Who does not answer cannot be spoken for. */
        for (unsigned i = 0; i < 3; i++) {
                restart_as(&w.nodes[i], NEXT);
                EXPECT_WITHIN(20, versions_are_known, &w, 3);
        }
        node_stop(&w.nodes[1]);
        EXPECT_WITHIN(20, has_voters, &w, 3);
        world_run(&w, 5 * SECOND);
        ask_refused(leader_of(&w), "{\"do\":\"finalize\"}", 409, "node 2 (n2) does not answer");
        node_start(&w.nodes[1]);
        EXPECT_WITHIN(20, versions_are_known, &w, 3);
        /* All are of the next one. */
        ask_ok(&w.nodes[0], "{\"do\":\"finalize\",\"dry_run\":true}", &a);
        assert_int_equal(json_array_size(json_object_get(a.body, "steps")), 1);
        json_decref(a.body);
        assert_true(all_have_version(&w, N));
        ask_ok(&w.nodes[0], "{\"do\":\"finalize\"}", &a);
        assert_int_equal(number_at(a.body, "cluster_version"), NEXT);
        assert_true(json_is_true(json_object_get(a.body, "raised")));
        json_decref(a.body);
        EXPECT_WITHIN(5, all_have_version, &w, NEXT);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(w.nodes[i].unfit, 0);
        /* There is no way back: the old release says so before it takes part. */
        restart_as(&w.nodes[1], N);
        EXPECT_WITHIN(10, node_is_ready, &w, 2);
        assert_int_equal(w.nodes[1].ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(w.nodes[1].problem, "the cluster has version 2"));
        assert_non_null(strstr(w.nodes[1].problem, "supports version 1"));
        assert_non_null(strstr(w.nodes[1].problem, "the release that the other nodes run"));
        restart_as(&w.nodes[1], NEXT);
        EXPECT_WITHIN(20, versions_are_known, &w, 3);
        world_end(&w);
}

/* Its cluster.json does not know of it yet: the log says so, as soon as it is here. */
TEST(version, a_node_that_meets_a_later_version_in_the_log_stops)
{
        struct world w;
        struct node *late;

        world_begin(&w, 24, true);
        world_three(&w);
        for (unsigned i = 0; i < 3; i++) {
                restart_as(&w.nodes[i], NEXT);
                EXPECT_WITHIN(20, versions_are_known, &w, 3);
        }
        late = leader_of(&w) == &w.nodes[2] ? &w.nodes[1] : &w.nodes[2];
        {
                struct answer a;
                struct asking asking = {leader_of(&w), "{\"do\":\"finalize\"}", 10 * SECOND, &a};

                a = (struct answer){.has_come = false};
                os_post(asking.node->os, asking_begin, &asking);
                while (!a.has_come)
                        world_run(&w, 1000);
                assert_int_equal(a.status, 200);
                json_decref(a.body);
        }
        /* It is lost before it has looked again, and comes back as the old release. */
        node_lose(late, true);
        late->seeds[0] = late->token[0] = 0;
        is_release(late, N);
        node_start(late);
        EXPECT_WITHIN(20, node_is_unfit, &w, late->number);
        assert_int_equal(late->unfit, 1);
        assert_non_null(strstr(late->problem, "the cluster has version 2"));
        assert_non_null(strstr(late->problem, "supports version 1"));
        world_end(&w);
}

TEST(version, who_cannot_follow_is_not_let_in)
{
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 25, true);
        is_release(&w.nodes[0], NEXT);
        world_first(&w);
        EXPECT_WITHIN(5, all_have_version, &w, N);
        ask_done(&w.nodes[0], "{\"do\":\"finalize\"}");
        EXPECT_WITHIN(5, all_have_version, &w, NEXT);
        make_token(&w.nodes[0], 5, token);
        is_release(&w.nodes[1], N);
        n = world_join(&w, token);
        EXPECT_WITHIN(20, node_is_ready, &w, 2);
        assert_int_equal(n->ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(n->problem, "n2 supports cluster version 1, and this cluster has version 2"));
        /* It was not let in, and used nothing up: as the right release it is. */
        node_stop(n);
        is_release(n, NEXT);
        node_start(n);
        EXPECT_WITHIN(20, node_is_open, &w, 2);
        assert_int_equal(n->open_result, 0);
        EXPECT_WITHIN(20, versions_are_known, &w, 2);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(version, it_is_agreed_once_and_every_node_has_it),
                TEST_ROW(version, a_lone_node_writes_none),
                TEST_ROW(version, two_releases_are_one_cluster_until_it_is_finalized),
                TEST_ROW(version, a_node_that_meets_a_later_version_in_the_log_stops),
                TEST_ROW(version, who_cannot_follow_is_not_let_in),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
