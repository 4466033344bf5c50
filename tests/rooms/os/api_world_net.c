/* The network of a world: what it does to bytes, what cuts and stalls do to connections, names and datagrams.
 */
#include "world.h"

/* ---- bytes ---- */

TEST(bytes, arrive_whole_and_in_order_both_ways_in_pieces_of_the_seed)
{
        unsigned least = UINT32_MAX, most = 0;
        struct world w;
        uint64_t seed;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t;

                set_up(&w, seed, 2);
                w.server_sends = 400000;
                t = talk_to(&w.nodes[0], &w.nodes[1], 700000);
                assert_true(os_conn_queued(t->conn) > 0); /* before it is established */
                assert_string_equal(os_conn_peer(t->conn), "10.0.0.2:2112");
                run(&w, 10 * SECOND);
                assert_int_equal(t->opened, 1);
                assert_int_equal(w.nodes[1].accepted, 1);
                assert_int_equal(strncmp(os_conn_peer(w.nodes[1].last->conn), "10.0.0.1:", 9), 0);
                assert_int_equal(w.nodes[1].last->received, 700000);
                assert_int_equal(t->received, 400000);
                assert_true(t->drained > 0);
                assert_int_equal(t->closed + w.nodes[1].last->closed, 0);
                least = MIN(least, w.nodes[1].last->pieces);
                most = MAX(most, w.nodes[1].last->pieces);
                tear_down(&w);
                assert_int_equal(t->closed, 1); /* with its machine */
        }
        print_message("700000 bytes in %u to %u pieces\n", least, most);
        assert_true(least > 10);
        assert_true(most > least);
}

TEST(bytes, come_back_as_an_echo_also_to_the_machine_itself)
{
        static const char *const addresses[] = {"10.0.0.2", "127.0.0.1", "10.0.0.1"};
        struct world w;
        unsigned i;

        for (i = 0; i < COUNT_OF(addresses); i++) {
                struct talk *t;

                set_up(&w, i, 2);
                t = talk_to_address(&w.nodes[0], addresses[i], 0);
                run(&w, SECOND);
                assert_int_equal(t->opened, 1);
                w.nodes[i == 0].last->must_echo = true;
                t->to_send = 50000;
                feed(t);
                run(&w, SECOND);
                assert_int_equal(t->received, 50000);
                tear_down(&w);
        }
}

TEST(bytes, wait_at_the_sender_when_the_peer_does_not_read_G18)
{
        struct world w;
        struct talk *t, *server;
        uint64_t taken;

        set_up(&w, 3, 2);
        w.server_stops_reading = true;
        t = talk_to(&w.nodes[0], &w.nodes[1], 0);
        run(&w, SECOND);
        server = w.nodes[1].last;
        t->to_send = 2000000;
        feed(t);
        run(&w, 2 * SECOND);
        assert_true(os_conn_queued(t->conn) > 0);
        taken = t->sent - os_conn_queued(t->conn);
        assert_true(taken <= 320 * 1024); /* both kernels */
        run(&w, SECOND);
        assert_int_equal(t->sent - os_conn_queued(t->conn), taken);
        assert_int_equal(server->received, 0);
        os_conn_read_start(server->conn);
        run(&w, 5 * SECOND);
        assert_int_equal(server->received, 2000000);
        assert_int_equal(os_conn_queued(t->conn), 0);
        tear_down(&w);
}

TEST(bytes, a_peer_that_takes_nothing_is_given_up_by_a_watched_end)
{
        struct world w;
        struct talk *t;

        set_up(&w, 3, 2);
        w.server_stops_reading = true;
        t = talk_to(&w.nodes[0], &w.nodes[1], 2000000);
        run(&w, 9 * SECOND);
        assert_int_equal(t->closed, 0);
        run(&w, 10 * SECOND);
        assert_int_equal(t->closed, 1);
        assert_string_equal(t->problem, "connection timed out");
        tear_down(&w);
}

TEST(bytes, take_their_time_over_a_narrow_link)
{
        struct world w;
        struct os_sim_link link;
        struct talk *t, *other;

        set_up(&w, 4, 2);
        link = os_sim_world_link(w.sim, w.nodes[0].os, w.nodes[1].os);
        link.bytes_per_second_max = 100000;
        os_sim_world_set_link(w.sim, w.nodes[0].os, w.nodes[1].os, &link);
        t = talk_to(&w.nodes[0], &w.nodes[1], 200000);
        run(&w, SECOND);
        other = talk_to(&w.nodes[0], &w.nodes[1], 100000); /* they share it */
        run(&w, SECOND / 2);
        assert_true(w.talks[1].received > 70000);
        assert_true(w.talks[1].received < 160000);
        run(&w, SECOND + SECOND / 5);
        assert_true(w.talks[1].received + w.nodes[1].last->received < 290000);
        run(&w, 2 * SECOND);
        assert_int_equal(w.nodes[1].last->received, 100000);
        assert_int_equal(t->sent + other->sent, 300000);
        tear_down(&w);
}

/* ---- beginnings and ends ---- */

TEST(connect, is_refused_without_a_listener_and_times_out_without_a_machine)
{
        struct world w;
        struct os_conn *conn;
        struct talk *refused, *nobody, *closed;
        uint64_t began;

        set_up(&w, 5, 2);
        os_listener_close(&w.nodes[1].listener);
        began = os_sim_world_now_us(w.sim);
        refused = talk_to(&w.nodes[0], &w.nodes[1], 10);
        nobody = talk_to_address(&w.nodes[0], "10.0.0.77", 10);
        closed = talk_to_address(&w.nodes[0], "10.0.0.77", 10);
        os_conn_close(closed->conn);
        assert_int_equal(closed->closed, 0); /* never from inside */
        run(&w, 100000);
        assert_string_equal(refused->problem, "connection refused");
        assert_int_equal(refused->closed, 1);
        assert_int_equal(closed->closed, 1);
        assert_string_equal(closed->problem, "");
        assert_int_equal(nobody->closed, 0);
        run(&w, 10 * SECOND);
        assert_int_equal(nobody->closed, 1);
        assert_string_equal(nobody->problem, "connection timed out");
        assert_true(nobody->ended_us - began >= OS_CONNECT_US_MAX);
        assert_true(nobody->ended_us - began < OS_CONNECT_US_MAX + 1000);
        assert_int_equal(refused->opened + nobody->opened + closed->opened, 0);
        assert_int_equal(
                os_connect(w.nodes[0].os, "node-1", PORT, &talk_handler, NULL, &conn), OS_ADDRESS_INVALID);
        tear_down(&w);
}

TEST(listen, tells_an_address_in_use_from_one_that_is_none)
{
        struct world w;
        struct os_listener *second = NULL;
        uint16_t port = 0;

        set_up(&w, 5, 2);
        assert_int_equal(os_listen(w.nodes[0].os, "10.0.0.1", PORT, talk_on_accept, NULL, &second, &port),
                OS_ADDRESS_IN_USE);
        assert_int_equal(os_listen(w.nodes[0].os, "10.0.0.2", 1, talk_on_accept, NULL, &second, &port),
                OS_ADDRESS_INVALID);
        assert_int_equal(os_listen(w.nodes[0].os, "here", 1, talk_on_accept, NULL, &second, &port),
                OS_ADDRESS_INVALID);
        assert_null(second);
        assert_int_equal(os_listen(w.nodes[0].os, "10.0.0.1", 0, talk_on_accept, NULL, &second, &port), 0);
        assert_true(port != 0);
        os_listener_close(&second);
        tear_down(&w);
}

TEST(close, sends_what_is_queued_and_the_peer_answers_in_order_too)
{
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t;

                set_up(&w, seed, 2);
                t = talk_to(&w.nodes[0], &w.nodes[1], 60000);
                run(&w, SECOND);
                t->to_send += 300000;
                feed(t);
                os_conn_close(t->conn);
                run(&w, 3 * SECOND);
                assert_int_equal(t->closed, 1);
                assert_string_equal(t->problem, "");
                assert_int_equal(w.nodes[1].last->received, t->sent);
                assert_int_equal(w.nodes[1].last->closed, 1);
                assert_string_equal(w.nodes[1].last->problem, "");
                tear_down(&w);
        }
}

TEST(reset, breaks_both_ends_and_what_arrived_is_a_beginning)
{
        unsigned whole = 0, some = 0;
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t, *server;

                set_up(&w, seed, 3);
                t = talk_to(&w.nodes[0], &w.nodes[1], 50000);
                run(&w, 700 + os_sim_world_choose(w.sim, 3000));
                server = w.nodes[1].last;
                assert_int_equal(os_sim_world_reset(w.sim, w.nodes[0].os, w.nodes[2].os), 0);
                assert_int_equal(os_sim_world_reset(w.sim, w.nodes[1].os, w.nodes[0].os), 1);
                run(&w, SECOND);
                assert_int_equal(t->closed, 1);
                assert_string_equal(t->problem, "connection reset by peer");
                if (server) {
                        assert_int_equal(server->closed, 1);
                        whole += server->received == 50000;
                        some += server->received < 50000;
                }
                tear_down(&w);
        }
        assert_true(whole > 0);
        assert_true(some > 0);
}

/* ---- cuts ---- */

TEST(cut, that_is_mended_in_time_loses_nothing)
{
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t;
                uint64_t received;

                set_up(&w, seed, 2);
                w.server_is_watched = true;
                w.server_sends = 1000000;
                t = talk_to(&w.nodes[0], &w.nodes[1], 1000000);
                run(&w, 2000 + os_sim_world_choose(w.sim, 3000));
                os_sim_world_cut(w.sim, w.nodes[0].os, w.nodes[1].os, true);
                run(&w, SECOND / 2); /* what had arrived before is read */
                received = t->received;
                run(&w, 4 * SECOND);
                assert_int_equal(t->received, received);
                os_sim_world_heal(w.sim);
                run(&w, 20 * SECOND);
                assert_int_equal(t->received, 1000000);
                assert_int_equal(w.nodes[1].last->received, 1000000);
                assert_int_equal(t->closed + w.nodes[1].last->closed, 0);
                tear_down(&w);
        }
}

TEST(cut, breaks_watched_ends_in_a_bounded_time_and_new_connections)
{
        uint64_t seed, began;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t, *late, *again;

                set_up(&w, seed, 3);
                w.server_is_watched = true;
                t = talk_to(&w.nodes[0], &w.nodes[1], 1000);
                run(&w, SECOND);
                began = os_sim_world_now_us(w.sim);
                os_sim_world_cut(w.sim, w.nodes[0].os, w.nodes[1].os, true);
                late = talk_to(&w.nodes[1], &w.nodes[0], 1000);
                again = talk_to(&w.nodes[0], &w.nodes[2], 1000); /* the third sees both */
                run(&w, 20 * SECOND);
                assert_string_equal(t->problem, "connection timed out");
                assert_string_equal(w.talks[1].problem, "connection timed out");
                assert_true(t->ended_us - began >= OS_SILENCE_US_MAX);
                assert_true(t->ended_us - began <= OS_SILENCE_US_MAX + 7 * SECOND + 1000);
                assert_string_equal(late->problem, "connection timed out");
                assert_int_equal(again->opened, 1);
                assert_int_equal(again->closed, 0);
                os_sim_world_heal(w.sim);
                late = talk_to(&w.nodes[1], &w.nodes[0], 1000);
                run(&w, SECOND);
                assert_int_equal(late->opened, 1);
                tear_down(&w);
        }
}

TEST(cut, is_not_noticed_by_an_unwatched_end_that_has_nothing_to_send)
{
        struct talk *idle, *busy;
        struct world w;

        set_up(&w, 18, 2);
        talk_to(&w.nodes[0], &w.nodes[1], 10);
        run(&w, SECOND);
        idle = w.nodes[1].last;
        talk_to(&w.nodes[0], &w.nodes[1], 10);
        run(&w, SECOND);
        busy = w.nodes[1].last;
        os_sim_world_cut(w.sim, w.nodes[0].os, w.nodes[1].os, true);
        busy->to_send = 10;
        feed(busy);
        run(&w, 50 * SECOND);
        assert_int_equal(busy->closed, 0);
        run(&w, 20 * SECOND);
        assert_string_equal(busy->problem, "connection timed out");
        assert_int_equal(idle->closed, 0);
        os_sim_world_heal(w.sim);
        idle->to_send = 10; /* its peer has given up: the answer is a reset */
        feed(idle);
        run(&w, SECOND);
        assert_string_equal(idle->problem, "connection reset by peer");
        tear_down(&w);
}

TEST(cut, of_one_direction_lets_the_other_pass_until_both_ends_give_up)
{
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t, *server, *there, *back;

                set_up(&w, seed, 2);
                w.server_is_watched = true;
                t = talk_to(&w.nodes[0], &w.nodes[1], 0);
                run(&w, SECOND);
                server = w.nodes[1].last;
                set_cut(&w, 0, 1, true);
                t->to_send = server->to_send = 10000;
                feed(t);
                feed(server);
                run(&w, SECOND);
                assert_int_equal(server->received, 0);
                assert_int_equal(t->received, 10000);
                there = talk_to(&w.nodes[0], &w.nodes[1], 0);
                back = talk_to(&w.nodes[1], &w.nodes[0], 0);
                run(&w, 20 * SECOND);
                assert_int_equal(there->opened + back->opened, 0);
                assert_string_equal(there->problem, "connection timed out");
                assert_string_equal(back->problem, "connection timed out");
                assert_string_equal(t->problem, "connection timed out");
                assert_string_equal(server->problem, "connection timed out");
                assert_int_equal(w.nodes[0].accepted, 0);
                assert_int_equal(w.nodes[1].accepted, 1);
                tear_down(&w);
        }
}

TEST(stall, holds_everything_back_and_breaks_nothing)
{
        struct os_sim_link link;
        struct world w;
        struct talk *t;

        set_up(&w, 8, 2);
        w.server_is_watched = true;
        t = talk_to(&w.nodes[0], &w.nodes[1], 10000);
        run(&w, SECOND);
        link = os_sim_world_link(w.sim, w.nodes[0].os, w.nodes[1].os);
        link.is_stalled = true;
        os_sim_world_set_link(w.sim, w.nodes[0].os, w.nodes[1].os, &link);
        t->to_send = 500000;
        feed(t);
        run(&w, 60 * SECOND);
        assert_int_equal(w.nodes[1].last->received, 10000);
        assert_int_equal(t->closed + w.nodes[1].last->closed, 0);
        os_sim_world_heal(w.sim);
        run(&w, 5 * SECOND);
        assert_int_equal(w.nodes[1].last->received, 500000);
        tear_down(&w);
}

/* ---- names and datagrams ---- */

struct found {
        struct os_addresses addresses;
        char problem[64];
        unsigned calls;
};

static void on_found(void *arg, const struct os_addresses *addresses, const char *problem)
{
        struct found *f = arg;

        f->calls++;
        f->addresses = *addresses;
        snprintf(f->problem, sizeof f->problem, "%s", problem ? problem : "");
}

static struct found look_up(struct world *w, const char *host)
{
        struct found f = {0};
        struct os_lookup *lookup, *dropped;

        assert_int_equal(os_resolve(w->nodes[0].os, host, on_found, &f, &lookup), 0);
        assert_int_equal(os_resolve(w->nodes[0].os, host, on_found, NULL, &dropped), 0);
        os_lookup_drop(&dropped);
        assert_null(dropped);
        assert_int_equal(f.calls, 0);
        run(w, SECOND);
        assert_int_equal(f.calls, 1);
        return f;
}

TEST(name, is_found_as_the_world_has_it)
{
        static const char *const addresses[] = {"10.0.0.2", "10.0.0.3", "10.0.0.2"};
        struct os_lookup *lookup;
        char long_name[300];
        struct found f;
        struct world w;

        set_up(&w, 15, 1);
        os_sim_world_set_name(w.sim, "nodes.example", addresses, 3);
        f = look_up(&w, "nodes.example");
        assert_int_equal(f.addresses.count, 2);
        assert_string_equal(f.addresses.text[1], "10.0.0.3");
        assert_string_equal(f.problem, "");
        os_sim_world_set_name(w.sim, "nodes.example", NULL, 0);
        f = look_up(&w, "nodes.example");
        assert_int_equal(f.addresses.count, 0);
        assert_string_equal(f.problem, "Name or service not known");
        f = look_up(&w, "10.9.8.7");
        assert_string_equal(f.addresses.text[0], "10.9.8.7");
        memset(long_name, 'a', sizeof long_name);
        long_name[299] = '\0';
        assert_int_equal(os_resolve(w.nodes[0].os, long_name, on_found, NULL, &lookup), OS_ADDRESS_INVALID);
        assert_int_equal(os_resolve(w.nodes[0].os, "", on_found, NULL, &lookup), OS_ADDRESS_INVALID);
        tear_down(&w);
}

struct mailbox {
        struct os_udp *udp;
        uint16_t port;
        unsigned count;
        uint32_t last;
        unsigned out_of_order;
        unsigned repeats;
        uint8_t seen[1000];
};

static void on_datagram(void *arg, struct bytes datagram, const char *address, uint16_t port)
{
        struct mailbox *m = arg;
        uint32_t n;

        assert_int_equal(datagram.size, sizeof n);
        assert_string_equal(address, "10.0.0.1");
        assert_true(port != 0);
        n = get_u32(datagram.data);
        assert_true(n < sizeof m->seen);
        m->repeats += m->seen[n];
        m->out_of_order += m->count && n < m->last;
        m->seen[n] = 1;
        m->last = n;
        m->count++;
}

static void open_mailbox(struct mailbox *m, struct node *node, uint16_t port, const char *group)
{
        struct os_udp_options options = {.address = "0.0.0.0", .port = port, .group = group};

        *m = (struct mailbox){0};
        assert_int_equal(os_udp_open(node->os, &options, on_datagram, m, &m->udp, &m->port), 0);
}

static void send_number(struct mailbox *from, const char *address, uint16_t port, uint32_t n)
{
        uint8_t datagram[4];

        put_u32(datagram, n);
        assert_int_equal(os_udp_send(from->udp, address, port, bytes_of(datagram, sizeof datagram)), 0);
}

TEST(datagram, is_lost_repeated_or_late_as_the_link_says)
{
        struct mailbox from, to;
        struct os_sim_link link;
        struct world w;
        uint32_t n;

        set_up(&w, 16, 2);
        open_mailbox(&from, &w.nodes[0], 0, NULL);
        open_mailbox(&to, &w.nodes[1], 700, NULL);
        link = os_sim_world_link(w.sim, w.nodes[0].os, w.nodes[1].os);
        link.loss_permille = 100;
        link.repeat_permille = 100;
        link.reorder_permille = 100;
        os_sim_world_set_link(w.sim, w.nodes[0].os, w.nodes[1].os, &link);
        for (n = 0; n < 1000; n++) {
                send_number(&from, "10.0.0.2", 700, n);
                run(&w, 1000);
        }
        send_number(&from, "10.0.0.2", 701, 0); /* nobody's */
        send_number(&from, "10.0.0.9", 700, 0);
        run(&w, SECOND);
        print_message("%u came, %u repeated, %u out of order\n", to.count, to.repeats, to.out_of_order);
        assert_true(to.count - to.repeats > 850 && to.count - to.repeats < 950);
        assert_true(to.repeats > 50 && to.repeats < 150);
        assert_true(to.out_of_order > 50);
        link.is_cut = true;
        os_sim_world_set_link(w.sim, w.nodes[0].os, w.nodes[1].os, &link);
        n = to.count;
        send_number(&from, "10.0.0.2", 700, 5);
        run(&w, SECOND);
        assert_int_equal(to.count, n);
        os_udp_close(&from.udp);
        os_udp_close(&to.udp);
        assert_null(to.udp);
        tear_down(&w);
}

TEST(datagram, to_a_group_reaches_all_who_joined)
{
        struct os_udp_options none = {.address = "0.0.0.0", .port = 45892};
        struct mailbox boxes[4];
        struct os_sim_link link;
        struct os_udp *udp;
        struct world w;
        unsigned i;
        uint16_t port;

        set_up(&w, 17, 4);
        for (i = 0; i < 4; i++) {
                link = os_sim_world_link(w.sim, w.nodes[0].os, w.nodes[i].os);
                link.loss_permille = link.repeat_permille = 0;
                link.is_stalled = i == 2;
                os_sim_world_set_link(w.sim, w.nodes[0].os, w.nodes[i].os, &link);
                open_mailbox(&boxes[i], &w.nodes[i], 45892, i == 3 ? NULL : "239.1.2.3");
        }
        assert_int_equal(
                os_udp_open(w.nodes[0].os, &none, on_datagram, NULL, &udp, &port), OS_ADDRESS_IN_USE);
        none.group = "10.0.0.1";
        assert_int_equal(
                os_udp_open(w.nodes[0].os, &none, on_datagram, NULL, &udp, &port), OS_ADDRESS_INVALID);
        send_number(&boxes[0], "239.1.2.3", 45892, 1);
        run(&w, SECOND);
        assert_int_equal(boxes[0].count, 1); /* itself */
        assert_int_equal(boxes[1].count, 1);
        assert_int_equal(boxes[2].count, 0); /* its link is stalled */
        assert_int_equal(boxes[3].count, 0); /* not joined */
        os_sim_world_heal(w.sim);
        run(&w, SECOND);
        assert_int_equal(boxes[2].count, 1);
        os_sim_crash(w.nodes[1].os);
        forget(&w, &w.nodes[1]);
        send_number(&boxes[0], "239.1.2.3", 45892, 2);
        os_udp_close(&boxes[2].udp);
        run(&w, SECOND);
        assert_int_equal(boxes[1].count, 1);
        assert_int_equal(boxes[2].count, 1);
        os_udp_close(&boxes[0].udp);
        os_udp_close(&boxes[3].udp);
        tear_down(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(bytes, arrive_whole_and_in_order_both_ways_in_pieces_of_the_seed),
                TEST_ROW(bytes, come_back_as_an_echo_also_to_the_machine_itself),
                TEST_ROW(bytes, wait_at_the_sender_when_the_peer_does_not_read_G18),
                TEST_ROW(bytes, a_peer_that_takes_nothing_is_given_up_by_a_watched_end),
                TEST_ROW(bytes, take_their_time_over_a_narrow_link),
                TEST_ROW(connect, is_refused_without_a_listener_and_times_out_without_a_machine),
                TEST_ROW(listen, tells_an_address_in_use_from_one_that_is_none),
                TEST_ROW(close, sends_what_is_queued_and_the_peer_answers_in_order_too),
                TEST_ROW(reset, breaks_both_ends_and_what_arrived_is_a_beginning),
                TEST_ROW(cut, that_is_mended_in_time_loses_nothing),
                TEST_ROW(cut, breaks_watched_ends_in_a_bounded_time_and_new_connections),
                TEST_ROW(cut, is_not_noticed_by_an_unwatched_end_that_has_nothing_to_send),
                TEST_ROW(cut, of_one_direction_lets_the_other_pass_until_both_ends_give_up),
                TEST_ROW(stall, holds_everything_back_and_breaks_nothing),
                TEST_ROW(name, is_found_as_the_world_has_it),
                TEST_ROW(datagram, is_lost_repeated_or_late_as_the_link_says),
                TEST_ROW(datagram, to_a_group_reaches_all_who_joined),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
