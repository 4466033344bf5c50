/* A world of simulated machines: what their network does to bytes, what cuts, crashes, pauses and slow clocks
 * do to connections, and that a seed decides everything. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_sim.h"

enum { NODES_MAX = 5, TALKS_MAX = 64, PORT = 2112, SEEDS = 30, CHUNK = 5000, FEED_MAX = 64 * 1024 };
#define SECOND ((uint64_t)1000000)

/* One end of a connection: sends and expects bytes whose values tell their place. */
struct talk {
        struct node *node;
        struct os_conn *conn;
        unsigned opened;
        unsigned closed;
        unsigned drained;
        unsigned pieces;
        uint64_t to_send;
        uint64_t sent;
        uint64_t received;
        bool must_echo;
        uint64_t ended_us; /* true time */
        char problem[64];
};

struct node {
        struct world *world;
        struct os *os;
        char address[16];
        struct os_listener *listener;
        unsigned accepted;
        struct talk *last; /* accepted */
};

struct world {
        struct os_sim_world *sim;
        struct node nodes[NODES_MAX];
        unsigned count;
        struct talk talks[TALKS_MAX];
        unsigned talk_count;
        uint64_t server_sends; /* what an accepted end sends */
        bool server_is_watched;
        bool server_stops_reading;
};

static uint8_t pattern(uint64_t at)
{
        return (uint8_t)(at * 131 + (at >> 11));
}

static void feed(struct talk *t)
{
        uint8_t chunk[CHUNK];
        struct bytes piece;
        size_t i;

        while (t->conn && t->sent < t->to_send && os_conn_queued(t->conn) < FEED_MAX) {
                piece = bytes_of(chunk, MIN((uint64_t)sizeof chunk, t->to_send - t->sent));
                for (i = 0; i < piece.size; i++)
                        chunk[i] = pattern(t->sent + i);
                os_conn_send(t->conn, &piece, 1);
                t->sent += piece.size;
        }
}

static void on_open(void *arg)
{
        struct talk *t = arg;

        assert_int_equal(t->opened + t->closed, 0);
        assert_int_equal(t->received, 0);
        t->opened++;
}

static void on_data(void *arg, struct bytes data)
{
        struct talk *t = arg;
        size_t i;

        assert_int_equal(t->closed, 0);
        assert_true(data.size > 0);
        for (i = 0; i < data.size; i++)
                assert_int_equal(data.data[i], pattern(t->received + i));
        t->received += data.size;
        t->pieces++;
        if (t->must_echo)
                os_conn_send(t->conn, &data, 1);
}

static void on_drained(void *arg)
{
        struct talk *t = arg;

        assert_int_equal(t->closed, 0);
        assert_int_equal(os_conn_queued(t->conn), 0);
        t->drained++;
        feed(t);
}

static void on_close(void *arg)
{
        struct talk *t = arg;
        const char *problem = os_conn_problem(t->conn);

        assert_int_equal(t->closed, 0);
        t->closed++;
        t->ended_us = os_sim_world_now_us(t->node->world->sim);
        snprintf(t->problem, sizeof t->problem, "%s", problem ? problem : "");
        t->conn = NULL;
}

static const struct os_conn_handler handler = {
        .on_data = on_data, .on_drained = on_drained, .on_close = on_close, .on_open = on_open};

static struct talk *talk_new(struct node *node)
{
        struct world *w = node->world;
        struct talk *t = &w->talks[w->talk_count++];

        assert_true(w->talk_count <= TALKS_MAX);
        *t = (struct talk){.node = node};
        return t;
}

static void on_accept(void *arg, struct os_conn *conn)
{
        struct node *node = arg;
        struct talk *t = talk_new(node);

        node->accepted++;
        node->last = t;
        t->conn = conn;
        t->to_send = node->world->server_sends;
        os_conn_accept(conn, &handler, t);
        if (node->world->server_is_watched)
                os_conn_watch(conn);
        if (node->world->server_stops_reading)
                os_conn_read_stop(conn);
        feed(t);
}

static void node_listen(struct node *node)
{
        uint16_t port;

        assert_int_equal(os_listen(node->os, "0.0.0.0", PORT, on_accept, node, &node->listener, &port), 0);
        assert_int_equal(port, PORT);
}

static void set_up(struct world *w, uint64_t seed, unsigned count)
{
        unsigned i;

        *w = (struct world){.count = count};
        assert_int_equal(os_sim_world_new(seed, &w->sim), 0);
        for (i = 0; i < count; i++) {
                struct node *node = &w->nodes[i];

                node->world = w;
                snprintf(node->address, sizeof node->address, "10.0.0.%u", i + 1);
                assert_int_equal(os_sim_world_add(w->sim, node->address, &node->os), 0);
                node_listen(node);
        }
}

static void tear_down(struct world *w)
{
        unsigned i;

        for (i = 0; i < w->count; i++)
                os_listener_close(&w->nodes[i].listener);
        os_sim_world_free(&w->sim);
        assert_null(w->sim);
}

/* The test's view of a node after its process was lost. */
static void forget(struct world *w, struct node *node)
{
        unsigned i;

        node->listener = NULL;
        for (i = 0; i < w->talk_count; i++)
                if (w->talks[i].node == node)
                        w->talks[i].conn = NULL;
}

static struct talk *talk_to_address(struct node *from, const char *address, uint64_t to_send)
{
        struct talk *t = talk_new(from);

        t->to_send = to_send;
        assert_int_equal(os_connect(from->os, address, PORT, &handler, t, &t->conn), 0);
        feed(t);
        return t;
}

static struct talk *talk_to(struct node *from, struct node *to, uint64_t to_send)
{
        return talk_to_address(from, to->address, to_send);
}

static void run(struct world *w, uint64_t us)
{
        os_sim_world_run_for(w->sim, us);
}

static void set_cut(struct world *w, unsigned from, unsigned to, bool is_cut)
{
        struct os_sim_link link = os_sim_world_link(w->sim, w->nodes[from].os, w->nodes[to].os);

        link.is_cut = is_cut;
        os_sim_world_set_link(w->sim, w->nodes[from].os, w->nodes[to].os, &link);
}

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
                os_connect(w.nodes[0].os, "node-1", PORT, &handler, NULL, &conn), OS_ADDRESS_INVALID);
        tear_down(&w);
}

TEST(listen, tells_an_address_in_use_from_one_that_is_none)
{
        struct world w;
        struct os_listener *second = NULL;
        uint16_t port = 0;

        set_up(&w, 5, 2);
        assert_int_equal(os_listen(w.nodes[0].os, "10.0.0.1", PORT, on_accept, NULL, &second, &port),
                OS_ADDRESS_IN_USE);
        assert_int_equal(
                os_listen(w.nodes[0].os, "10.0.0.2", 1, on_accept, NULL, &second, &port), OS_ADDRESS_INVALID);
        assert_int_equal(
                os_listen(w.nodes[0].os, "here", 1, on_accept, NULL, &second, &port), OS_ADDRESS_INVALID);
        assert_null(second);
        assert_int_equal(os_listen(w.nodes[0].os, "10.0.0.1", 0, on_accept, NULL, &second, &port), 0);
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

/* ---- crashes ---- */

TEST(crash, of_a_machine_is_a_reset_or_silence_to_its_peers_and_the_others_go_on)
{
        unsigned resets = 0, timeouts = 0;
        uint64_t seed, began;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t, *other;

                set_up(&w, seed, 3);
                t = talk_to(&w.nodes[0], &w.nodes[1], 100000);
                other = talk_to(&w.nodes[0], &w.nodes[2], 0);
                run(&w, 1000 + os_sim_world_choose(w.sim, SECOND));
                began = os_sim_world_now_us(w.sim);
                os_sim_crash(w.nodes[1].os);
                forget(&w, &w.nodes[1]);
                other->to_send = 200000;
                feed(other);
                run(&w, 20 * SECOND);
                assert_int_equal(t->closed, 1);
                assert_true(t->ended_us - began < 18 * SECOND);
                resets += strcmp(t->problem, "connection reset by peer") == 0;
                timeouts += strcmp(t->problem, "connection timed out") == 0;
                assert_int_equal(w.nodes[2].last->received, 200000);
                /* It comes back. */
                node_listen(&w.nodes[1]);
                t = talk_to(&w.nodes[0], &w.nodes[1], 100000);
                run(&w, 2 * SECOND);
                assert_int_equal(w.nodes[1].last->received, 100000);
                tear_down(&w);
        }
        print_message("%u resets, %u time-outs\n", resets, timeouts);
        assert_int_equal(resets + timeouts, SEEDS);
        assert_true(resets > 3);
        assert_true(timeouts > 3);
}

TEST(crash, a_machine_that_is_back_soon_resets_the_connections_of_its_old_life)
{
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t;

                set_up(&w, seed, 2);
                t = talk_to(&w.nodes[0], &w.nodes[1], 1000);
                run(&w, SECOND);
                os_sim_crash(w.nodes[1].os);
                forget(&w, &w.nodes[1]);
                run(&w, SECOND);
                node_listen(&w.nodes[1]);
                if (t->conn) {
                        t->to_send += 1000;
                        feed(t);
                }
                run(&w, 2 * SECOND);
                assert_string_equal(t->problem, "connection reset by peer");
                assert_int_equal(w.nodes[1].accepted, 1);
                tear_down(&w);
        }
}

TEST(kill, ends_connections_at_once_and_what_the_kernel_had_arrives)
{
        unsigned ends = 0, resets = 0;
        uint64_t seed;
        struct world w;

        for (seed = 0; seed < SEEDS; seed++) {
                struct talk *t, *refused;

                set_up(&w, seed, 2);
                t = talk_to(&w.nodes[0], &w.nodes[1], 0);
                run(&w, SECOND);
                w.nodes[1].last->to_send = 10000;
                feed(w.nodes[1].last);
                assert_int_equal(os_conn_queued(w.nodes[1].last->conn), 0);
                os_sim_kill(w.nodes[1].os);
                forget(&w, &w.nodes[1]);
                refused = talk_to(&w.nodes[0], &w.nodes[1], 0);
                run(&w, SECOND);
                assert_int_equal(t->closed, 1);
                if (t->problem[0]) {
                        assert_string_equal(t->problem, "connection reset by peer");
                        resets++;
                } else {
                        assert_int_equal(t->received, 10000);
                        ends++;
                }
                assert_string_equal(refused->problem, "connection refused");
                tear_down(&w);
        }
        assert_true(ends > 3);
        assert_true(resets > 1);
}

/* ---- pauses and clocks ---- */

static void on_tick(struct os_timer *timer)
{
        unsigned *ticks = timer->arg;

        ++*ticks;
        os_timer_start(timer->os, timer, SECOND / 10);
}

TEST(pause, stops_the_process_and_not_its_kernel)
{
        unsigned ticks = 0, other_ticks = 0, before;
        struct os_timer timer = {.fn = on_tick, .arg = &ticks}, other = {.fn = on_tick, .arg = &other_ticks};
        struct talk *t, *late;
        struct world w;

        set_up(&w, 9, 2);
        os_timer_start(w.nodes[1].os, &timer, SECOND / 10);
        os_timer_start(w.nodes[0].os, &other, SECOND / 10);
        t = talk_to(&w.nodes[0], &w.nodes[1], 0);
        run(&w, SECOND);
        os_sim_pause(w.nodes[1].os);
        before = ticks;
        t->to_send = 1000000;
        feed(t);
        late = talk_to(&w.nodes[0], &w.nodes[1], 5000);
        run(&w, 5 * SECOND);
        assert_int_equal(ticks, before);
        assert_true(other_ticks > 50);
        assert_int_equal(w.nodes[1].last->received, 0);
        assert_true(os_conn_queued(t->conn) > 0);
        assert_int_equal(late->opened, 1); /* by the kernel */
        assert_int_equal(w.nodes[1].accepted, 1);
        os_sim_resume(w.nodes[1].os);
        run(&w, 2 * SECOND);
        assert_true(ticks > before);
        assert_int_equal(w.talks[1].received, 1000000);
        assert_int_equal(w.nodes[1].accepted, 2);
        assert_int_equal(w.nodes[1].last->received, 5000);
        os_timer_stop(&timer);
        os_timer_stop(&other);
        tear_down(&w);
}

TEST(pause, ends_with_the_life)
{
        struct world w;

        set_up(&w, 9, 1);
        os_sim_pause(w.nodes[0].os);
        os_sim_kill(w.nodes[0].os);
        forget(&w, &w.nodes[0]);
        node_listen(&w.nodes[0]);
        talk_to_address(&w.nodes[0], "127.0.0.1", 100);
        run(&w, SECOND);
        assert_int_equal(w.nodes[0].last->received, 100);
        tear_down(&w);
}

TEST(clock, goes_at_its_rate_and_timers_with_it)
{
        static const uint32_t rates[] = {1000000, 2000000, 500000, 1000333};
        unsigned ticks[COUNT_OF(rates)] = {0}, i, round;
        struct os_timer timers[COUNT_OF(rates)];
        struct world w;

        set_up(&w, 10, COUNT_OF(rates));
        for (i = 0; i < COUNT_OF(rates); i++) {
                timers[i] = (struct os_timer){.fn = on_tick, .arg = &ticks[i]};
                os_timer_start(w.nodes[i].os, &timers[i], SECOND / 10);
        }
        for (round = 0; round < 3; round++) {
                uint64_t local[COUNT_OF(rates)], wall[COUNT_OF(rates)];
                unsigned ticks_before[COUNT_OF(rates)];

                for (i = 0; i < COUNT_OF(rates); i++) {
                        os_sim_set_rate(w.nodes[i].os, rates[(i + round) % COUNT_OF(rates)]);
                        local[i] = os_monotonic_us(w.nodes[i].os);
                        wall[i] = os_wall_us(w.nodes[i].os);
                        ticks_before[i] = ticks[i];
                }
                run(&w, 10 * SECOND);
                for (i = 0; i < COUNT_OF(rates); i++) {
                        uint32_t rate = rates[(i + round) % COUNT_OF(rates)];
                        uint64_t passed = os_monotonic_us(w.nodes[i].os) - local[i];

                        assert_true(passed >= 10 * (uint64_t)rate);
                        assert_true(passed <= 10 * (uint64_t)rate + 3);
                        assert_int_equal(os_wall_us(w.nodes[i].os) - wall[i], passed);
                        assert_true(ticks[i] - ticks_before[i] >= 99 * (uint64_t)rate / 1000000);
                        assert_true(ticks[i] - ticks_before[i] <= 101 * (uint64_t)rate / 1000000);
                }
        }
        assert_true(os_monotonic_us(w.nodes[0].os) != os_monotonic_us(w.nodes[1].os));
        for (i = 0; i < COUNT_OF(rates); i++)
                os_timer_stop(&timers[i]);
        tear_down(&w);
}

TEST(clock, of_the_wall_agrees_to_some_milliseconds_until_it_is_shifted)
{
        struct world w;
        int64_t apart;

        set_up(&w, 11, 2);
        run(&w, SECOND);
        apart = (int64_t)(os_wall_us(w.nodes[0].os) - os_wall_us(w.nodes[1].os));
        assert_true(llabs(apart) <= 40000);
        os_sim_shift_wall(w.nodes[0].os, -3600 * (int64_t)SECOND);
        assert_int_equal((int64_t)(os_wall_us(w.nodes[0].os) - os_wall_us(w.nodes[1].os)),
                apart - 3600 * (int64_t)SECOND);
        tear_down(&w);
}

/* ---- disks and the test's own ---- */

TEST(world, gives_each_machine_a_disk_of_its_own)
{
        struct buffer content = {0};
        struct world w;

        set_up(&w, 12, 2);
        assert_int_equal(os_replace_whole(w.nodes[0].os, "/a", BYTES_LITERAL("one")), 0);
        assert_int_equal(os_read_whole(w.nodes[1].os, "/a", 10, &content), OS_NOT_FOUND);
        assert_int_equal(os_replace_whole(w.nodes[1].os, "/a", BYTES_LITERAL("two")), 0);
        os_sim_crash(w.nodes[1].os);
        forget(&w, &w.nodes[1]);
        assert_int_equal(os_read_whole(w.nodes[0].os, "/a", 10, &content), 0);
        assert_true(bytes_equal_string(buffer_bytes(&content), "one"));
        assert_int_equal(os_sim_stats(w.nodes[0].os).crashes, 0);
        assert_int_equal(os_sim_stats(w.nodes[1].os).crashes, 1);
        buffer_fini(&content);
        tear_down(&w);
}

static void crash_second(void *arg)
{
        struct world *w = arg;

        os_sim_crash(w->nodes[1].os);
        forget(w, &w->nodes[1]);
}

static void stop_first(void *arg)
{
        struct world *w = arg;

        os_stop(w->nodes[0].os);
}

TEST(world, calls_the_test_at_a_true_time_and_runs_until_a_machine_stops)
{
        struct world w;
        struct os *test;
        uint64_t began;

        set_up(&w, 13, 2);
        assert_int_equal(os_sim_world_add(w.sim, NULL, &test), 0);
        began = os_sim_world_now_us(w.sim);
        os_sim_world_call(w.sim, 5000, crash_second, &w);
        os_sim_world_call(w.sim, 9000, stop_first, &w);
        os_sim_world_call(w.sim, SECOND, stop_first, &w);
        assert_int_equal(os_run(w.nodes[0].os), 0);
        assert_int_equal(os_sim_world_now_us(w.sim) - began, 9000);
        assert_int_equal(os_sim_stats(w.nodes[1].os).crashes, 1);
        os_post(test, stop_first, &w);
        assert_true(os_sim_world_step(w.sim));
        tear_down(&w);
}

TEST(world, refuses_an_address_that_is_none_or_taken)
{
        struct world w;
        struct os *os = NULL;

        set_up(&w, 14, 1);
        assert_int_equal(os_sim_world_add(w.sim, "10.0.0.1", &os), OS_ADDRESS_INVALID);
        assert_int_equal(os_sim_world_add(w.sim, "127.0.0.1", &os), OS_ADDRESS_INVALID);
        assert_int_equal(os_sim_world_add(w.sim, "n1", &os), OS_ADDRESS_INVALID);
        assert_null(os);
        assert_int_equal(os_sim_world_add(w.sim, "fd00::1", &os), 0);
        os_free(&os);
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

/* ---- determinism ---- */

static void trouble(struct world *w)
{
        unsigned a = (unsigned)os_sim_world_choose(w->sim, w->count);
        unsigned b = (unsigned)os_sim_world_choose(w->sim, w->count);
        struct node *node = &w->nodes[a];

        switch (os_sim_world_choose(w->sim, 12)) {
        case 0:
                os_sim_crash(node->os);
                forget(w, node);
                node_listen(node);
                break;
        case 1:
                os_sim_kill(node->os);
                forget(w, node);
                node_listen(node);
                break;
        case 2:
                os_sim_pause(node->os);
                break;
        case 3:
        case 4:
                for (b = 0; b < w->count; b++)
                        os_sim_resume(w->nodes[b].os);
                break;
        case 5:
                set_cut(w, a, b, true);
                break;
        case 6:
        case 7:
                os_sim_world_heal(w->sim);
                break;
        case 8:
                (void)os_sim_world_reset(w->sim, node->os, w->nodes[b].os);
                break;
        case 9:
                os_sim_set_rate(node->os, 500000 + (uint32_t)os_sim_world_choose(w->sim, 1500000));
                break;
        default:
                if (w->talk_count < TALKS_MAX / 2)
                        talk_to(node, &w->nodes[b], os_sim_world_choose(w->sim, 200000));
        }
}

/* The bytes of each connection are checked as they come; at the end everybody can talk to everybody. */
static uint64_t live(uint64_t seed, struct os_sim_net_stats *ret_stats)
{
        struct world w;
        uint64_t hash;
        unsigned i, k;

        set_up(&w, seed, 3 + (unsigned)(seed % 3));
        w.server_is_watched = seed % 2;
        w.server_sends = 30000;
        for (i = 0; i < 100; i++) {
                trouble(&w);
                run(&w, os_sim_world_choose(w.sim, os_sim_world_choose(w.sim, 8) ? 50000 : 8 * SECOND));
        }
        os_sim_world_heal(w.sim);
        for (i = 0; i < w.count; i++)
                os_sim_resume(w.nodes[i].os);
        run(&w, 100 * SECOND);
        w.talk_count = TALKS_MAX - 2 * NODES_MAX;
        for (i = 0; i < w.count; i++) {
                struct talk *t = talk_to(&w.nodes[i], &w.nodes[(i + 1) % w.count], 10000);

                run(&w, 10 * SECOND);
                assert_int_equal(t->opened, 1);
                assert_int_equal(t->received, 30000);
                assert_int_equal(w.nodes[(i + 1) % w.count].last->received, 10000);
        }
        *ret_stats = os_sim_world_stats(w.sim);
        hash = os_sim_world_hash(w.sim);
        for (k = 0; k < w.talk_count; k++)
                if (w.talks[k].conn)
                        os_conn_close(w.talks[k].conn);
        tear_down(&w);
        return hash;
}

TEST(seed, decides_everything_in_a_world)
{
        struct os_sim_net_stats sums = {0};
        uint64_t seed, before = 0;

        for (seed = 0; seed < 4 * SEEDS; seed++) {
                struct os_sim_net_stats first, second;
                uint64_t hash = live(seed, &first);

                assert_int_equal(live(seed, &second), hash);
                assert_memory_equal(&first, &second, sizeof first);
                assert_true(hash != before);
                before = hash;
                sums.connections += first.connections;
                sums.bytes += first.bytes;
                sums.resets += first.resets;
                sums.timeouts += first.timeouts;
        }
        print_message("%llu connections, %llu bytes, %llu resets, %llu time-outs\n",
                (unsigned long long)sums.connections, (unsigned long long)sums.bytes,
                (unsigned long long)sums.resets, (unsigned long long)sums.timeouts);
        assert_true(sums.resets > 100);
        assert_true(sums.timeouts > 20);
}

TEST(seed, an_observation_changes_the_hash_of_the_world)
{
        struct world w;
        uint64_t hash;

        set_up(&w, 1, 2);
        hash = os_sim_world_hash(w.sim);
        os_sim_world_observe(w.sim, "a", 1);
        assert_true(os_sim_world_hash(w.sim) != hash);
        hash = os_sim_world_hash(w.sim);
        os_sim_observe(w.nodes[1].os, "a", 1);
        assert_true(os_sim_world_hash(w.sim) != hash);
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
                TEST_ROW(cut, of_one_direction_lets_the_other_pass_until_both_ends_give_up),
                TEST_ROW(stall, holds_everything_back_and_breaks_nothing),
                TEST_ROW(crash, of_a_machine_is_a_reset_or_silence_to_its_peers_and_the_others_go_on),
                TEST_ROW(crash, a_machine_that_is_back_soon_resets_the_connections_of_its_old_life),
                TEST_ROW(kill, ends_connections_at_once_and_what_the_kernel_had_arrives),
                TEST_ROW(pause, stops_the_process_and_not_its_kernel),
                TEST_ROW(pause, ends_with_the_life),
                TEST_ROW(clock, goes_at_its_rate_and_timers_with_it),
                TEST_ROW(clock, of_the_wall_agrees_to_some_milliseconds_until_it_is_shifted),
                TEST_ROW(world, gives_each_machine_a_disk_of_its_own),
                TEST_ROW(world, calls_the_test_at_a_true_time_and_runs_until_a_machine_stops),
                TEST_ROW(world, refuses_an_address_that_is_none_or_taken),
                TEST_ROW(name, is_found_as_the_world_has_it),
                TEST_ROW(datagram, is_lost_repeated_or_late_as_the_link_says),
                TEST_ROW(datagram, to_a_group_reaches_all_who_joined),
                TEST_ROW(seed, decides_everything_in_a_world),
                TEST_ROW(seed, an_observation_changes_the_hash_of_the_world),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
