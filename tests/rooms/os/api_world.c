/* A world of simulated machines: what crashes, pauses and slow clocks of one do to the others, and that a
 * seed decides everything. */
#include "world.h"

#include <stdlib.h>

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

static void on_found(void *arg, const struct os_addresses *addresses, const char *problem)
{
        (void)arg;
        (void)addresses;
        (void)problem;
        fail();
}

static void on_datagram(void *arg, struct bytes datagram, const char *address, uint16_t port)
{
        (void)arg;
        (void)datagram;
        (void)address;
        (void)port;
        fail();
}

TEST(crash, takes_lookups_sockets_and_what_waits_in_them_along)
{
        struct os_udp_options options = {.address = "0.0.0.0", .port = 700};
        struct os_lookup *lookup;
        struct os_udp *udp;
        struct world w;
        uint16_t port;

        set_up(&w, 20, 2);
        assert_int_equal(os_udp_open(w.nodes[1].os, &options, on_datagram, NULL, &udp, &port), 0);
        assert_int_equal(os_udp_open(w.nodes[0].os, &options, on_datagram, NULL, &udp, &port), 0);
        os_sim_pause(w.nodes[1].os);
        assert_int_equal(os_udp_send(udp, "10.0.0.2", 700, BYTES_LITERAL("a")), 0);
        run(&w, SECOND);
        assert_int_equal(os_sim_world_stats(w.sim).datagrams, 1);
        assert_int_equal(os_resolve(w.nodes[1].os, "localhost", on_found, NULL, &lookup), 0);
        talk_to(&w.nodes[1], &w.nodes[0], 1000);
        os_sim_kill(w.nodes[1].os);
        forget(&w, &w.nodes[1]);
        run(&w, SECOND);
        os_udp_close(&udp);
        tear_down(&w);
}

TEST(free, of_one_machine_is_silence_to_the_others)
{
        struct talk *t, *server;
        struct world w;

        set_up(&w, 21, 2);
        t = talk_to(&w.nodes[0], &w.nodes[1], 1000);
        run(&w, SECOND);
        server = w.nodes[1].last;
        os_listener_close(&w.nodes[1].listener);
        os_free(&w.nodes[1].os);
        assert_int_equal(server->closed, 1);
        run(&w, 20 * SECOND);
        assert_string_equal(t->problem, "connection timed out");
        tear_down(&w);
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

/* A connection that outlived all trouble has carried everything. */
static void assert_is_not_stuck(const struct talk *t, uint64_t server_sends)
{
        if (!t->conn)
                return;
        assert_int_equal(os_conn_queued(t->conn), 0);
        assert_int_equal(t->sent, t->to_send);
        if (!t->is_server) /* watched: its peer is alive */
                assert_int_equal(t->received, server_sends);
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
        for (i = 0; i < w.talk_count; i++)
                assert_is_not_stuck(&w.talks[i], w.server_sends);
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

        for (seed = 0; seed < 2 * SEEDS; seed++) {
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
        assert_true(sums.timeouts > 5);
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
                TEST_ROW(crash, of_a_machine_is_a_reset_or_silence_to_its_peers_and_the_others_go_on),
                TEST_ROW(crash, a_machine_that_is_back_soon_resets_the_connections_of_its_old_life),
                TEST_ROW(kill, ends_connections_at_once_and_what_the_kernel_had_arrives),
                TEST_ROW(crash, takes_lookups_sockets_and_what_waits_in_them_along),
                TEST_ROW(free, of_one_machine_is_silence_to_the_others),
                TEST_ROW(pause, stops_the_process_and_not_its_kernel),
                TEST_ROW(pause, ends_with_the_life),
                TEST_ROW(clock, goes_at_its_rate_and_timers_with_it),
                TEST_ROW(clock, of_the_wall_agrees_to_some_milliseconds_until_it_is_shifted),
                TEST_ROW(world, gives_each_machine_a_disk_of_its_own),
                TEST_ROW(world, calls_the_test_at_a_true_time_and_runs_until_a_machine_stops),
                TEST_ROW(world, refuses_an_address_that_is_none_or_taken),
                TEST_ROW(seed, decides_everything_in_a_world),
                TEST_ROW(seed, an_observation_changes_the_hash_of_the_world),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
