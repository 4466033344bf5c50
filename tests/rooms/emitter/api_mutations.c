/* Definitions: each change is answered, durable and takes effect in order, also while consumers are at work.
 */
#include "support.h"

TEST(create, a_key_is_taken_once_and_bad_ones_are_refused_with_the_reason)
{
        struct world w = {0};
        struct emitter_definition d;
        struct answer a = {0};
        struct selector *all = selector_of_stream("$all"), *stream = selector_of_stream("a");
        char long_name[1001];

        world_begin(&w, 41);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_EXISTS);
        assert_int_equal(create(&w, definition_of("$all", "g")), EMITTER_OK);
        d = definition_of("$all", "g");
        d.selector = all;
        d.settings.strategy = STRATEGY_PINNED;
        assert_int_equal(create(&w, d), EMITTER_EXISTS);
        assert_int_equal(create(&w, definition_of("a", "")), EMITTER_INVALID);
        d = definition_of("b", "g");
        d.settings.read_batch_size = 500;
        assert_int_equal(create(&w, d), EMITTER_INVALID);
        d = definition_of("b", "g");
        d.settings.lane_key = BYTES_LITERAL("tag:x");
        assert_int_equal(create(&w, d), EMITTER_INVALID);
        d = definition_of("b", "g");
        d.selector = stream;
        emitter_create(w.emitter, &d, on_answer, &a);
        assert_int_equal(wait_for_answer(&w, &a), EMITTER_INVALID);
        assert_string_equal(a.problem, "the selector selects another stream than the subscription's");
        memset(long_name, 'n', 1000);
        long_name[1000] = 0;
        assert_int_equal(create(&w, definition_of(long_name, "g")), EMITTER_INVALID);
        d = definition_of("$all", "far");
        d.from = FROM_NUMBER;
        d.number = 1000000;
        assert_int_equal(create(&w, d), EMITTER_INVALID);
        /* The same key with its parts cut elsewhere is another subscription's. */
        assert_int_equal(create(&w, definition_of("x::y", "z")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("x", "y::z")), EMITTER_EXISTS);
        assert_int_equal(delete_group(&w, "x", "y::z"), EMITTER_NOT_FOUND);
        selector_free(&all);
        selector_free(&stream);
        world_end(&w);
}

TEST(create, definitions_survive_a_restart_with_every_setting)
{
        struct world w = {0};
        struct emitter_definition d = definition_of("", "g");
        struct selector *s =
                selector_of("{\"kind\":\"payload\",\"match\":{\"price\":1.10,\"big\":9007199254740993}}");
        struct told before, after;
        struct buffer a = {0}, b = {0};
        struct json_out ja = {.out = &a}, jb = {.out = &b};

        world_begin(&w, 42);
        d.selector = s;
        d.settings = (struct emitter_settings){.resolve_links = true,
                .extra_statistics = true,
                .message_timeout_ms = 1,
                .max_retry_count = 2,
                .checkpoint_after_ms = 3,
                .min_checkpoint_count = 4,
                .max_checkpoint_count = 5,
                .max_subscriber_count = 6,
                .live_buffer_size = 7,
                .read_batch_size = 8,
                .history_buffer_size = 9,
                .strategy = STRATEGY_PER_STREAM,
                .lane_key = BYTES_LITERAL("metadata:k\"ey"),
                .pool_size = 10};
        assert_int_equal(create(&w, d), EMITTER_OK);
        before = info_of(&w, "$nilo-payload", "g");
        emitter_definition_to_json(before.info.definition, &ja);
        world_reopen(&w);
        after = info_of(&w, "$nilo-payload", "g");
        emitter_definition_to_json(after.info.definition, &jb);
        assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
        assert_int_equal(after.info.definition->settings.history_buffer_size, 9);
        buffer_fini(&a);
        buffer_fini(&b);
        selector_free(&s);
        world_end(&w);
}

TEST(update, drops_consumers_and_goes_on_from_where_it_was)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 43);
        append(&w, "a", 20);
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "g", 5, false);
        client_drain(&w, &c);
        client_ack(&c, 0);
        client_ack(&c, 1);
        client_ack(&c, 2);
        d.settings.message_timeout_ms = 12345;
        d.settings.strategy = STRATEGY_PER_STREAM;
        assert_int_equal(update(&w, d, false), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.outcome, CONSUMER_DROPPED);
        assert_non_null(strstr(consumer_problem(c.consumer), "updated"));
        client_ack(&c, 3); /* too late: harmless */
        client_close(&c);
        assert_int_equal(info_of(&w, "a", "g").info.definition->settings.message_timeout_ms, 12345);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 17);
        assert_int_equal(c.items[0].revision, 3);
        client_close(&c);
        assert_int_equal(update(&w, definition_of("none", "g"), false), EMITTER_NOT_FOUND);
        world_end(&w);
}

TEST(update, a_new_start_counts_only_without_checkpoint)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 44);
        append(&w, "a", 20);
        assert_int_equal(create(&w, d), EMITTER_OK);
        d.from = FROM_NUMBER;
        d.number = 15;
        assert_int_equal(update(&w, d, true), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 5);
        client_close(&c);
        world_run(&w);
        d.number = 2;
        assert_int_equal(update(&w, d, true), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 0);
        client_close(&c);
        world_end(&w);
}

TEST(delete, ends_consumers_and_hides_checkpoint_and_parked_events)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 45);
        append(&w, "a", 20);
        for (unsigned round = 0; round < 3; round++) {
                assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
                client_open(&w, &c, "a", "g", 5, false);
                client_drain(&w, &c);
                assert_int_equal(c.items[0].revision, 0); /* nothing of the one before is left */
                assert_int_equal(info_of(&w, "a", "g").info.parked, 0);
                client_nack(&c, 0, NACK_PARK, "");
                for (unsigned i = 1; i < 5; i++)
                        client_ack(&c, i);
                client_drain(&w, &c);
                assert_int_equal(info_of(&w, "a", "g").info.parked, 1);
                if (round == 1) { /* with a checkpoint and without */
                        client_close(&c);
                        world_run(&w);
                        client_open(&w, &c, "a", "g", 5, false);
                        client_drain(&w, &c);
                }
                assert_int_equal(delete_group(&w, "a", "g"), EMITTER_OK);
                client_drain(&w, &c);
                assert_int_equal(c.outcome, CONSUMER_GONE);
                client_close(&c);
                assert_int_equal(client_try(&w, &c, "a", "g", 5), EMITTER_NOT_FOUND);
                assert_int_equal(delete_group(&w, "a", "g"), EMITTER_NOT_FOUND);
                if (round == 2)
                        world_reopen(&w);
        }
        assert_int_equal(client_try(&w, &c, "a", "g", 5), EMITTER_NOT_FOUND);
        world_end(&w);
}

TEST(delete, waits_for_the_checkpoint_that_is_on_its_way)
{
        struct world w = {0};
        struct client c;
        struct answer a = {0};

        if (is_on_memory_machine)
                return;
        world_begin(&w, 56);
        append(&w, "a", 20);
        for (unsigned steps = 0; steps < 8; steps++) {
                a = (struct answer){0};
                assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
                client_open(&w, &c, "a", "g", 20, false);
                client_drain(&w, &c);
                assert_int_equal(c.count, 20);
                for (unsigned i = 0; i < 20; i++)
                        client_ack(&c, i);
                client_close(&c); /* its checkpoint is written now; the delete comes at every step of that */
                for (unsigned i = 0; i < steps; i++)
                        os_sim_step(w.os);
                emitter_delete(w.emitter, BYTES_LITERAL("a"), BYTES_LITERAL("g"), on_answer, &a);
                assert_int_equal(wait_for_answer(&w, &a), EMITTER_OK);
                world_run(&w);
        }
        world_end(&w);
}

TEST(mutations, of_one_key_take_effect_one_after_the_other)
{
        struct world w = {0};
        struct answer a[6] = {{0}};
        struct emitter_definition d = definition_of("a", "g");
        struct selector *s = selector_of_stream("a");

        world_begin(&w, 46);
        d.selector = s;
        emitter_create(w.emitter, &d, on_answer, &a[0]);
        emitter_create(w.emitter, &d, on_answer, &a[1]);
        emitter_delete(w.emitter, d.stream, d.group, on_answer, &a[2]);
        emitter_update(w.emitter, &d, false, on_answer, &a[3]);
        d.settings.max_retry_count = 77;
        emitter_create(w.emitter, &d, on_answer, &a[4]);
        emitter_pause(w.emitter, d.stream, d.group, true, on_answer, &a[5]);
        assert_int_equal(wait_for_answer(&w, &a[5]), EMITTER_OK);
        assert_int_equal(a[0].verdict, EMITTER_OK);
        assert_int_equal(a[1].verdict, EMITTER_EXISTS);
        assert_int_equal(a[2].verdict, EMITTER_OK);
        assert_int_equal(a[3].verdict, EMITTER_NOT_FOUND);
        assert_int_equal(a[4].verdict, EMITTER_OK);
        world_reopen(&w);
        assert_int_equal(info_of(&w, "a", "g").info.definition->settings.max_retry_count, 77);
        assert_true(info_of(&w, "a", "g").info.is_paused);
        selector_free(&s);
        world_end(&w);
}

TEST(pause, gives_nothing_out_and_is_durable)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 47);
        append(&w, "a", 10);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 2, false);
        client_drain(&w, &c);
        assert_int_equal(pause_group(&w, "a", "g", true), EMITTER_OK);
        client_ack(&c, 0);
        client_ack(&c, 1);
        client_drain(&w, &c);
        assert_int_equal(c.count, 2);
        assert_string_equal(info_of(&w, "a", "g").state, "paused");
        client_close(&c);
        world_reopen(&w);
        client_open(&w, &c, "a", "g", 20, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 0);
        assert_int_equal(pause_group(&w, "a", "g", false), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 8);
        assert_int_equal(c.items[0].revision, 2);
        client_close(&c);
        world_end(&w);
}

TEST(pause, who_asked_during_it_gets_what_had_been_assigned_to_it_afterwards)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 55);
        d.settings.message_timeout_ms = 50;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "g", 5, true);
        client_drain(&w, &c);
        append(&w, "a", 5);
        world_run(&w);
        assert_int_equal(info_of(&w, "a", "g").info.in_flight, 5);
        assert_int_equal(pause_group(&w, "a", "g", true), EMITTER_OK);
        client_pull(&c, 5);
        assert_int_equal(c.outcome, CONSUMER_WAIT);
        world_run_for(&w, 200 * 1000);
        assert_int_equal(pause_group(&w, "a", "g", false), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 5);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(c.items[i].retry_count, 0); /* nobody had seen them */
        client_close(&c);
        world_end(&w);
}

TEST(seek, goes_on_from_the_number_and_survives)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 48);
        append(&w, "a", 20);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, false);
        client_drain(&w, &c);
        for (unsigned i = 0; i < 20; i++)
                client_ack(&c, i);
        c.acks = true;
        c.count = 0;
        assert_int_equal(seek_group(&w, "a", "g", FROM_NUMBER, 17), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.items[0].revision, 17);
        assert_int_equal(seek_group(&w, "a", "g", FROM_START, 0), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 23);
        client_close(&c);
        world_run(&w);
        assert_int_equal(seek_group(&w, "a", "g", FROM_NUMBER, 18), EMITTER_OK);
        world_reopen(&w);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 2);
        client_close(&c);
        world_run(&w);
        assert_int_equal(seek_group(&w, "a", "g", FROM_END, 0), EMITTER_OK);
        append(&w, "a", 1);
        world_reopen(&w);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.items[0].revision, 20);
        client_close(&c);
        assert_int_equal(seek_group(&w, "a", "none", FROM_END, 0), EMITTER_NOT_FOUND);
        world_end(&w);
}

TEST(seek, to_where_it_once_began_is_a_move_too)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 57);
        append(&w, "a", 5);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        for (unsigned round = 2; round <= 4; round++) {
                assert_int_equal(seek_group(&w, "a", "g", FROM_START, 0), EMITTER_OK);
                client_drain(&w, &c);
                assert_int_equal(c.count, 5 * round);
        }
        client_close(&c);
        world_end(&w);
}

TEST(flapping, whoever_comes_soon_after_the_last_gets_what_is_new)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 58);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        for (unsigned round = 0; round < 4; round++) {
                client_open(&w, &c, "a", "g", 10, true);
                client_drain(&w, &c);
                client_close(&c);
                world_run_for(&w, round * 400 * 1000); /* with and without what the pool kept for a moment */
                client_open(&w, &c, "a", "g", 10, true);
                client_drain(&w, &c);
                append(&w, "a", 3);
                client_drain(&w, &c);
                assert_int_equal(c.count, 3);
                assert_int_equal(pause_group(&w, "a", "g", true), EMITTER_OK);
                world_run_for(&w, round * 400 * 1000);
                assert_int_equal(pause_group(&w, "a", "g", false), EMITTER_OK);
                client_drain(&w, &c);
                append(&w, "a", 3);
                client_drain(&w, &c);
                assert_int_equal(c.count, 6);
                client_close(&c);
        }
        world_end(&w);
}

TEST(broken, a_checkpoint_that_cannot_be_read_fails_its_subscription_until_it_is_sought_or_deleted)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 59);
        append(&w, "a", 5);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "h")), EMITTER_OK);
        append_event(&w, (struct event){.stream = "$persistentsubscription-a::g-checkpoint", .data = "[]"});
        append_event(
                &w, (struct event){.stream = "$persistentsubscription-a::h-checkpoint", .data = "\"x\""});
        wait_for_appends(&w);
        world_reopen(&w);
        world_run(&w);
        assert_string_equal(info_of(&w, "a", "g").state, "failed");
        assert_non_null(strstr(info_of(&w, "a", "g").problem, "seek"));
        client_open(&w, &c, "a", "g", 10, true); /* tries again, and fails again */
        client_drain(&w, &c);
        assert_int_equal(c.outcome, CONSUMER_DROPPED);
        client_close(&c);
        assert_int_equal(seek_group(&w, "a", "g", FROM_NUMBER, 2), EMITTER_OK);
        assert_int_equal(delete_group(&w, "a", "h"), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        client_close(&c);
        world_reopen(&w);
        world_run(&w);
        assert_string_equal(info_of(&w, "a", "g").state, "idle");
        world_end(&w);
}

TEST(transient, ends_with_its_last_consumer_and_with_the_server)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "t");
        uint64_t before;

        world_begin(&w, 49);
        append(&w, "a", 20);
        d.is_transient = true;
        before = store_next_position(w.store);
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "t", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 20);
        client_close(&c);
        world_run(&w);
        assert_int_equal(client_try(&w, &c, "a", "t", 50), EMITTER_NOT_FOUND);
        assert_int_equal(store_next_position(w.store), before); /* nothing was written */
        assert_int_equal(create(&w, d), EMITTER_OK);
        world_reopen(&w);
        assert_int_equal(client_try(&w, &c, "a", "t", 50), EMITTER_NOT_FOUND);
        world_end(&w);
}

static enum stream_state parked_state(struct world *w)
{
        struct store_stream_info info;

        assert_int_equal(
                store_stream_info(w->store, BYTES_LITERAL("$persistentsubscription-a::t-parked"), &info), 0);
        return info.state;
}

/* However it ends; who takes its name afterwards has nothing parked. */
TEST(transient, leaves_nothing_parked_behind)
{
        struct world w = {0};
        struct emitter_definition d = definition_of("a", "t");
        struct client c;

        world_begin(&w, 50);
        append(&w, "a", 3);
        d.is_transient = true;
        for (unsigned way = 0; way < 3; way++) { /* by its consumer, by a deletion, by a stop */
                assert_int_equal(create(&w, d), EMITTER_OK);
                client_open(&w, &c, "a", "t", 50, false);
                client_drain(&w, &c);
                client_nack(&c, 1, NACK_PARK, "");
                client_drain(&w, &c);
                assert_int_equal(info_of(&w, "a", "t").info.parked, 1);
                assert_int_equal(parked_state(&w), STREAM_LIVE);
                if (way == 1) {
                        assert_int_equal(delete_group(&w, "a", "t"), EMITTER_OK);
                        client_drain(&w, &c);
                }
                if (way == 2) {
                        emitter_stop(w.emitter, world_on_stopped, &w);
                        world_run(&w);
                        client_close(&c);
                        world_step_until(&w, &w.is_stopped);
                        world_close(&w);
                        world_open(&w);
                } else {
                        client_close(&c);
                        world_run(&w);
                }
                assert_int_equal(parked_state(&w), STREAM_SOFT_DELETED);
                assert_int_equal(client_try(&w, &c, "a", "t", 50), EMITTER_NOT_FOUND);
        }
        d.is_transient = false;
        assert_int_equal(create(&w, d), EMITTER_OK);
        assert_int_equal(info_of(&w, "a", "t").info.parked, 0);
        world_end(&w);
}

TEST(limits, of_subscriptions_and_consumers)
{
        struct world w = {.subscriptions_max = 2};
        struct client c[3];
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 50);
        d.settings.max_subscriber_count = 2;
        assert_int_equal(create(&w, d), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "h")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "i")), EMITTER_LIMIT);
        client_open(&w, &c[0], "a", "g", 1, true);
        client_open(&w, &c[1], "a", "g", 1, true);
        assert_int_equal(client_try(&w, &c[2], "a", "g", 1), EMITTER_LIMIT);
        client_close(&c[0]);
        client_open(&w, &c[2], "a", "g", 1, true);
        client_close(&c[1]);
        client_close(&c[2]);
        world_end(&w);
}

TEST(restart, drops_consumers_and_loses_nothing)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 51);
        append(&w, "a", 10);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 4, false);
        client_drain(&w, &c);
        client_ack(&c, 0);
        assert_int_equal(emitter_restart(w.emitter), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.outcome, CONSUMER_DROPPED);
        client_close(&c);
        client_open(&w, &c, "a", "g", 4, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 9);
        assert_int_equal(c.items[0].revision, 1);
        client_close(&c);
        world_end(&w);
}

/* ---- storms ---- */

static void count_info(void *arg, const struct emitter_info *info)
{
        (void)info;
        (*(unsigned *)arg)++;
}

TEST(storm, two_thousand_creates_at_once_are_all_answered_durable_and_listed_in_order)
{
        enum { COUNT = 2000 };
        struct world w = {0};
        struct answer *answers = memory_new_array(COUNT, sizeof *answers);
        struct selector *s = selector_of_stream("a");
        struct emitter_stats stats;
        unsigned told = 0;
        char group[32];

        world_begin(&w, 52);
        append(&w, "a", 3);
        for (unsigned i = 0; i < COUNT; i++) {
                struct emitter_definition d;

                snprintf(group, sizeof group, "g%05u", i);
                d = definition_of("a", group);
                d.selector = s;
                emitter_create(w.emitter, &d, on_answer, &answers[i]);
        }
        for (unsigned i = 0; i < COUNT; i++)
                assert_int_equal(wait_for_answer(&w, &answers[i]), EMITTER_OK);
        world_reopen(&w);
        emitter_stats(w.emitter, &stats);
        assert_int_equal(stats.subscriptions, COUNT);
        assert_int_equal(stats.memory_size, 0);
        assert_int_equal(
                emitter_each(w.emitter, BYTES_EMPTY, BYTES_LITERAL("a::g01989"), 100, count_info, &told), 10);
        assert_int_equal(told, 10);
        selector_free(&s);
        free(answers);
        world_end(&w);
}

TEST(storm, changes_of_one_subscription_do_not_grow_its_stream_for_ever)
{
        struct world w = {0};
        struct store_stream_info info;

        world_begin(&w, 53);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "other")), EMITTER_OK);
        for (unsigned i = 0; i < 1100; i++) {
                struct answer a = {0};

                emitter_pause(w.emitter, BYTES_LITERAL("a"), BYTES_LITERAL("g"), i % 2, on_answer, &a);
                assert_int_equal(wait_for_answer(&w, &a), EMITTER_OK);
        }
        world_run(&w);
        assert_int_equal(store_stream_info(w.store, BYTES_LITERAL("$nilo-subscriptions"), &info), 0);
        assert_in_range(info.last_revision + 1 - info.first_revision, 2, 200);
        world_reopen(&w);
        assert_true(info_of(&w, "a", "g").info.is_paused);
        assert_false(info_of(&w, "a", "other").info.is_paused);
        world_end(&w);
}

TEST(storm, consumers_that_come_and_go_cost_no_event)
{
        struct world w = {0};
        struct client c[3];
        bool seen[300] = {false};
        unsigned all = 0;
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 54);
        append(&w, "a", 300);
        d.settings.strategy = STRATEGY_PER_STREAM;
        d.settings.max_retry_count = 10000;
        assert_int_equal(create(&w, d), EMITTER_OK);
        for (unsigned round = 0; round < 2000 && all < 300; round++) {
                unsigned i = round % 3;

                for (unsigned k = 0; k < 3 && round >= 3; k++)
                        client_pull(&c[k], 4);
                if (round >= 3) {
                        for (unsigned k = 0; k < c[i].count; k++) {
                                unsigned revision = (unsigned)c[i].items[k].revision;

                                if (k % 2)
                                        continue;
                                client_ack(&c[i], k);
                                all += !seen[revision];
                                seen[revision] = true;
                        }
                        client_close(&c[i]);
                }
                client_open(&w, &c[i], "a", "g", 4, false);
                world_run_for(&w, is_on_memory_machine ? 1000 : 3000);
        }
        assert_int_equal(all, 300);
        for (unsigned i = 0; i < 3; i++)
                client_close(&c[i]);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(create, a_key_is_taken_once_and_bad_ones_are_refused_with_the_reason),
                TEST_ROW(create, definitions_survive_a_restart_with_every_setting),
                TEST_ROW(update, drops_consumers_and_goes_on_from_where_it_was),
                TEST_ROW(update, a_new_start_counts_only_without_checkpoint),
                TEST_ROW(delete, ends_consumers_and_hides_checkpoint_and_parked_events),
                TEST_ROW(delete, waits_for_the_checkpoint_that_is_on_its_way),
                TEST_ROW(mutations, of_one_key_take_effect_one_after_the_other),
                TEST_ROW(pause, gives_nothing_out_and_is_durable),
                TEST_ROW(pause, who_asked_during_it_gets_what_had_been_assigned_to_it_afterwards),
                TEST_ROW(seek, goes_on_from_the_number_and_survives),
                TEST_ROW(seek, to_where_it_once_began_is_a_move_too),
                TEST_ROW(flapping, whoever_comes_soon_after_the_last_gets_what_is_new),
                TEST_ROW(broken,
                        a_checkpoint_that_cannot_be_read_fails_its_subscription_until_it_is_sought_or_deleted),
                TEST_ROW(transient, ends_with_its_last_consumer_and_with_the_server),
                TEST_ROW(transient, leaves_nothing_parked_behind),
                TEST_ROW(limits, of_subscriptions_and_consumers),
                TEST_ROW(restart, drops_consumers_and_loses_nothing),
                TEST_ROW(storm, two_thousand_creates_at_once_are_all_answered_durable_and_listed_in_order),
                TEST_ROW(storm, changes_of_one_subscription_do_not_grow_its_stream_for_ever),
                TEST_ROW(storm, consumers_that_come_and_go_cost_no_event),
        };
        int failed = cmocka_run_group_tests_name("mutations, simulated", tests, NULL, NULL);

        is_on_memory_machine = true;
        return failed + cmocka_run_group_tests_name("mutations, in memory", tests, NULL, NULL);
}
