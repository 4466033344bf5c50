/* Addresses found by multicast, in a simulated world: what is heard is an address, and nothing more; what
 * somebody else sends, or sends again, is dropped and counted. */
#include "world.h"

#define GROUP      "239.255.21.13"
#define GROUP_PORT 2114
#define SECRET     "a secret that every node of this cluster has"

static void discovers(struct node *n)
{
        snprintf(n->group, sizeof n->group, "%s:%d", GROUP, GROUP_PORT);
        snprintf(n->secret, sizeof n->secret, "%s", SECRET);
}

static json_t *discovery_of(struct node *n)
{
        struct buffer text = {0};
        struct json_out j = {.out = &text};
        json_t *status, *discovery;

        membership_status_to_json(n->membership, &j);
        assert_null(memmem(text.data, text.size, SECRET, strlen(SECRET)));
        status = json_loadb((const char *)text.data, text.size, 0, NULL);
        discovery = json_incref(json_object_get(status, "discovery"));
        json_decref(status);
        buffer_fini(&text);
        return discovery;
}

static uint64_t counted(struct node *n, const char *what)
{
        json_t *discovery = discovery_of(n);
        json_t *of = strcmp(what, "sent") == 0 || strcmp(what, "accepted") == 0
                             ? discovery
                             : json_object_get(discovery, "dropped");
        uint64_t count;

        assert_true(json_is_integer(json_object_get(of, what)));
        count = (uint64_t)json_integer_value(json_object_get(of, what));
        json_decref(discovery);
        return count;
}

/* ---- somebody else on the network ---- */

enum { KEPT_MAX = 64 };

struct listener {
        struct os *os;
        struct os_udp *udp;
        struct buffer kept[KEPT_MAX];
        unsigned count;
};

static void on_heard(void *arg, struct bytes datagram, const char *address, uint16_t port)
{
        struct listener *l = arg;

        (void)address;
        (void)port;
        if (l->count < KEPT_MAX)
                buffer_add_bytes(&l->kept[l->count++], datagram);
}

static void listener_begin(struct listener *l, struct world *w)
{
        struct os_udp_options options = {.address = "0.0.0.0", .port = GROUP_PORT, .group = GROUP};
        uint16_t port;

        *l = (struct listener){.count = 0};
        assert_int_equal(os_sim_world_add(w->sim, "10.0.0.99", &l->os), 0);
        assert_int_equal(os_udp_open(l->os, &options, on_heard, l, &l->udp, &port), 0);
}

static void listener_end(struct listener *l)
{
        os_udp_close(&l->udp);
        for (unsigned i = 0; i < l->count; i++)
                buffer_fini(&l->kept[i]);
}

static void send(struct listener *l, struct bytes datagram)
{
        assert_int_equal(os_udp_send(l->udp, GROUP, GROUP_PORT, datagram), 0);
}

/* ---- finding ---- */

static void begin_first(struct world *w, uint64_t seed)
{
        world_begin(w, seed, true);
        discovers(&w->nodes[0]);
        world_first(w);
}

static struct node *begin_joiner(struct world *w, const char *token)
{
        struct node *n = world_add(w);

        snprintf(n->seeds, sizeof n->seeds, "multicast");
        snprintf(n->token, sizeof n->token, "%s", token);
        return n;
}

static void three_that_discover(struct world *w, uint64_t seed)
{
        char token[TLS_TOKEN_TEXT_SIZE];

        begin_first(w, seed);
        make_token(&w->nodes[0], 5, token);
        for (unsigned i = 0; i < 2; i++) {
                struct node *n = begin_joiner(w, token);

                discovers(n);
                node_start(n);
        }
        EXPECT_WITHIN(20, node_is_open, w, 2);
        EXPECT_WITHIN(20, node_is_open, w, 3);
        ask_done(&w->nodes[0], "{\"do\":\"grow\"}");
        EXPECT_WITHIN(20, all_see_members, w, 3);
}

TEST(discovery, finds_a_seed_for_who_joins)
{
        struct world w;

        three_that_discover(&w, 31);
        world_run(&w, 5 * SECOND);
        for (unsigned i = 0; i < 3; i++) {
                assert_true(counted(&w.nodes[i], "sent") > 1);
                assert_true(counted(&w.nodes[i], "accepted") > 1);
                assert_int_equal(counted(&w.nodes[i], "wrong_secret"), 0);
                assert_int_equal(counted(&w.nodes[i], "old"), 0);
        }
        world_end(&w);
}

/* The secret finds the way; the token lets in. */
TEST(discovery, lets_nobody_in)
{
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        begin_first(&w, 32);
        make_token(&w.nodes[0], 1, token);
        token[20] = token[20] == 'a' ? 'b' : 'a';
        n = begin_joiner(&w, token);
        discovers(n);
        node_start(n);
        EXPECT_WITHIN(20, node_is_ready, &w, 2);
        assert_int_equal(n->ready_result, MEMBERSHIP_REFUSED);
        world_end(&w);
}

static void all_move(struct world *w)
{
        for (unsigned i = 0; i < 3; i++)
                node_stop(&w->nodes[i]);
        for (unsigned i = 0; i < 3; i++) {
                w->nodes[i].seeds[0] = w->nodes[i].token[0] = 0;
                w->nodes[i].port = 3000;
                node_start(&w->nodes[i]);
        }
}

/* All have other addresses than the log says, so none can tell another: only by multicast they meet. */
TEST(discovery, finds_members_that_moved)
{
        struct world w;
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];

        three_that_discover(&w, 33);
        all_move(&w);
        EXPECT_WITHIN(30, all_see_members, &w, 3);
        world_run(&w, 10 * SECOND);
        /* And the log has it from then on. */
        membership_nodes(leader_of(&w)->membership, nodes, CLUSTER_MEMBERS_MAX);
        for (unsigned i = 0; i < 3; i++)
                assert_non_null(strstr(nodes[i].address, ":3000"));
        world_end(&w);
}

TEST(discovery, is_what_finds_them)
{
        struct world w;

        three_that_discover(&w, 33);
        for (unsigned i = 0; i < 3; i++)
                w.nodes[i].group[0] = 0;
        all_move(&w);
        world_run(&w, 30 * SECOND);
        assert_false(all_see_members(&w, 3));
        world_end(&w);
}

/* ---- what is dropped ---- */

TEST(discovery, with_another_secret_finds_nobody_and_says_so)
{
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        begin_first(&w, 34);
        make_token(&w.nodes[0], 1, token);
        n = begin_joiner(&w, token);
        discovers(n);
        n->secret[0] ^= 1;
        node_start(n);
        EXPECT_WITHIN(40, node_is_ready, &w, 2);
        assert_int_equal(n->ready_result, MEMBERSHIP_UNREACHABLE);
        assert_non_null(strstr(n->problem, "another secret"));
        world_end(&w);
}

TEST(discovery, needs_a_long_secret_and_a_group)
{
        struct world w;
        struct node *n;

        world_begin(&w, 35, true);
        n = world_add(&w);
        discovers(n);
        snprintf(n->secret, sizeof n->secret, "short");
        node_start(n);
        EXPECT_WITHIN(5, node_is_ready, &w, 1);
        assert_int_equal(n->ready_result, MEMBERSHIP_REFUSED);
        assert_non_null(strstr(n->problem, "at least 32 bytes"));
        assert_null(strstr(n->problem, "short"));
        node_stop(n);
        discovers(n);
        snprintf(n->group, sizeof n->group, "10.0.0.255:2114");
        node_start(n);
        EXPECT_WITHIN(5, node_is_ready, &w, 1);
        assert_non_null(strstr(n->problem, "no group of multicast"));
        node_stop(n);
        n->group[0] = 0;
        snprintf(n->seeds, sizeof n->seeds, "multicast");
        node_start(n);
        EXPECT_WITHIN(5, node_is_ready, &w, 1);
        assert_non_null(strstr(n->problem, "needs --discover multicast"));
        world_end(&w);
}

static void begin_with_group(
        struct world *w, struct node *n, const char *group, const char *listen, const char *words)
{
        if (*listen)
                snprintf(n->address, sizeof n->address, "%s", listen);
        snprintf(n->group, sizeof n->group, "%s", group);
        node_start(n);
        EXPECT_WITHIN(10, node_is_ready, w, n->number);
        assert_int_equal(n->ready_result, words ? MEMBERSHIP_REFUSED : 0);
        if (words)
                assert_non_null(strstr(n->problem, words));
}

/* Nodes find each other by a group of IPv6 as well; what is no group is refused. */
TEST(discovery, may_use_a_group_of_ipv6)
{
        static const char *const none[] = {"ff05::2114:2114", "[fd00::1]:2114", "[239.255.21.13]:2114",
                "[ff05::x]:2114", "[ff05::2114]:0", "[ff05::2114]", "ff05.1.2.3:2114"};
        struct world w;
        struct node *n;
        char token[TLS_TOKEN_TEXT_SIZE];

        world_begin(&w, 39, true);
        discovers(&w.nodes[0]);
        snprintf(w.nodes[0].group, sizeof w.nodes[0].group, "[ff05::2114]:2114");
        world_first(&w);
        make_token(&w.nodes[0], 1, token);
        n = begin_joiner(&w, token);
        discovers(n);
        begin_with_group(&w, n, "[FF05::2114]:2114", "", NULL);
        assert_true(counted(n, "accepted") > 0);
        for (unsigned i = 0; i < COUNT_OF(none); i++) {
                node_stop(n);
                begin_with_group(&w, n, none[i], "", "no group of multicast");
        }
        world_end(&w);
}

/* What IPv6 has not, is said. */
TEST(discovery, has_no_group_of_ipv6_on_loopback)
{
        struct world w;
        struct node *n;
        json_t *discovery;

        world_begin(&w, 40, true);
        n = world_add(&w);
        discovers(n);
        begin_with_group(&w, n, "[ff05::2114]:2114", "127.0.0.1", NULL);
        ask_done(n, "{\"do\":\"init\"}");
        world_run(&w, 5 * SECOND);
        discovery = discovery_of(n);
        assert_non_null(strstr(json_string_value(json_object_get(discovery, "problem")), "none on loopback"));
        json_decref(discovery);
        assert_int_equal(counted(n, "sent"), 0);
        world_end(&w);
}

/* Somebody records what is said and says it again: at once, later, and much later. */
TEST(discovery, drops_what_is_said_again)
{
        struct world w;
        struct listener listener;
        uint64_t accepted;

        three_that_discover(&w, 36);
        listener_begin(&listener, &w);
        world_run(&w, 5 * SECOND);
        assert_true(listener.count >= 6);
        accepted = counted(&w.nodes[0], "accepted");
        for (unsigned i = 0; i < listener.count; i++)
                send(&listener, buffer_bytes(&listener.kept[i]));
        world_run(&w, SECOND / 2);
        assert_in_range(counted(&w.nodes[0], "replayed"), 4, listener.count);
        assert_in_range(counted(&w.nodes[0], "accepted"), accepted, accepted + 2); /* of this half second */
        assert_int_equal(counted(&w.nodes[0], "old"), 0);
        world_run(&w, 20 * SECOND);
        /* The network loses some. */
        for (unsigned i = 0; i < 20; i++)
                send(&listener, buffer_bytes(&listener.kept[i % 4]));
        world_run(&w, SECOND / 2);
        assert_in_range(counted(&w.nodes[0], "old"), 10, 20);
        /* A changed letter is no datagram of a node. */
        listener.kept[0].data[listener.kept[0].size / 2] ^= 1;
        for (unsigned i = 0; i < 4; i++)
                send(&listener, buffer_bytes(&listener.kept[0]));
        world_run(&w, SECOND / 2);
        assert_in_range(counted(&w.nodes[0], "wrong_secret"), 1, 4);
        /* Monitoring has the same numbers. */
        {
                struct membership_summary summary;

                membership_summary(w.nodes[0].membership, &summary);
                assert_true(summary.discovery.is_on);
                assert_int_equal(summary.discovery.sent, counted(&w.nodes[0], "sent"));
                assert_int_equal(summary.discovery.accepted, counted(&w.nodes[0], "accepted"));
                assert_int_equal(summary.discovery.dropped[MEMBERSHIP_DROP_OLD], counted(&w.nodes[0], "old"));
                assert_int_equal(summary.discovery.dropped[MEMBERSHIP_DROP_WRONG_SECRET],
                        counted(&w.nodes[0], "wrong_secret"));
                assert_int_equal(summary.discovery.dropped[MEMBERSHIP_DROP_REPLAYED],
                        counted(&w.nodes[0], "replayed"));
        }
        listener_end(&listener);
        world_end(&w);
}

/* The same secret, another cluster: its node 2 is not ours. */
TEST(discovery, drops_what_another_cluster_says)
{
        struct world w;
        struct node *other;

        begin_first(&w, 37);
        other = world_add(&w);
        discovers(other);
        node_start(other);
        EXPECT_WITHIN(10, node_is_open, &w, 2);
        ask_done(other, "{\"do\":\"init\"}");
        world_run(&w, 10 * SECOND);
        for (unsigned i = 0; i < 2; i++) {
                assert_in_range(counted(&w.nodes[i], "other_cluster"), 3, 7);
                assert_int_equal(counted(&w.nodes[i], "accepted"), 0);
        }
        world_end(&w);
}

/* Garbage costs no memory, and no more than so much work in a second; the cluster goes on. */
TEST(discovery, bounds_a_flood)
{
        struct world w;
        struct listener listener;
        uint8_t noise[200] = "NILODISC\001";

        three_that_discover(&w, 38);
        listener_begin(&listener, &w);
        noise[10] = sizeof noise - 64 - 32;
        for (unsigned i = 0; i < 60; i++) {
                for (unsigned k = 0; k < 50; k++) {
                        noise[100] = (uint8_t)k;
                        send(&listener, bytes_of(noise, k % 2 ? sizeof noise : k));
                }
                world_run(&w, SECOND / 60);
        }
        world_run(&w, SECOND);
        assert_true(counted(&w.nodes[0], "malformed") > 500);
        assert_true(counted(&w.nodes[0], "wrong_secret") > 500);
        assert_true(counted(&w.nodes[0], "flooded") > 500);
        EXPECT_WITHIN(5, all_see_members, &w, 3);
        listener_end(&listener);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(discovery, finds_a_seed_for_who_joins),
                TEST_ROW(discovery, lets_nobody_in),
                TEST_ROW(discovery, finds_members_that_moved),
                TEST_ROW(discovery, is_what_finds_them),
                TEST_ROW(discovery, with_another_secret_finds_nobody_and_says_so),
                TEST_ROW(discovery, needs_a_long_secret_and_a_group),
                TEST_ROW(discovery, may_use_a_group_of_ipv6),
                TEST_ROW(discovery, has_no_group_of_ipv6_on_loopback),
                TEST_ROW(discovery, drops_what_is_said_again),
                TEST_ROW(discovery, drops_what_another_cluster_says),
                TEST_ROW(discovery, bounds_a_flood),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
