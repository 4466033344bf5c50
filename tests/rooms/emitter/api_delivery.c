/* What a group gets: everything once, in order, again after a restart no more than the bound (G11). */
#include "support.h"

TEST(delivery, a_group_gets_its_stream_from_the_start_and_then_live)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 1);
        append(&w, "a,b", 20);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 10);
        append(&w, "a,b", 6);
        client_drain(&w, &c);
        assert_int_equal(c.count, 13);
        for (unsigned i = 0; i < c.count; i++) {
                assert_int_equal(c.items[i].revision, i);
                assert_int_equal(c.items[i].retry_count, 0);
                assert_string_equal(c.items[i].stream, "a");
        }
        assert_string_equal(info_of(&w, "a", "g").state, "live");
        assert_int_equal(info_of(&w, "a", "g").info.lag_events, 0);
        client_close(&c);
        world_end(&w);
}

TEST(delivery, after_a_restart_it_goes_on_behind_the_checkpoint)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 2);
        append(&w, "a", 30);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        client_drain(&w, &c);
        assert_int_equal(c.count, 10);
        for (unsigned i = 0; i < 7; i++)
                client_ack(&c, i);
        client_close(&c);
        world_reopen(&w);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 23);
        assert_int_equal(c.items[0].revision, 7);
        assert_int_equal(c.items[22].revision, 29);
        assert_true(info_of(&w, "a", "g").info.has_checkpoint);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 6);
        client_close(&c);
        world_end(&w);
}

TEST(delivery, after_a_rest_nothing_is_missed)
{
        struct world w = {0};
        struct client c[2];
        struct emitter_definition d = definition_of("", "g");
        struct selector *s = selector_of("{\"kind\":\"type\",\"types\":[\"Rare\"]}");
        struct emitter_stats stats;

        world_begin(&w, 32);
        d.selector = s;
        assert_int_equal(create(&w, d), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c[0], "$nilo-type", "g", 10, true);
        client_open(&w, &c[1], "a", "g", 10, true);
        clients_drain(&w, c, 2);
        for (unsigned round = 1; round <= 2; round++) {
                world_run_for(&w, 1300 * 1000); /* they have given their readers back */
                emitter_stats(w.emitter, &stats);
                assert_int_equal(stats.pools, 0);
                append(&w, "b", 20);
                append_event(&w, (struct event){.stream = "a", .type = "Rare"});
                append_event(&w, (struct event){.stream = "a", .type = "Rare"});
                append(&w, "b", 20);
                clients_drain(&w, c, 2);
                assert_int_equal(c[0].count, 2 * round);
                assert_int_equal(c[1].count, 2 * round);
                assert_int_equal(c[0].items[2 * round - 2].revision, 2 * round - 2);
        }
        assert_int_equal(info_of(&w, "$nilo-type", "g").info.lag_events, 0);
        client_close(&c[0]);
        client_close(&c[1]);
        selector_free(&s);
        world_end(&w);
}

/* ---- where it begins ---- */

TEST(start, a_number_is_inclusive_and_the_end_is_what_comes)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "one");

        world_begin(&w, 3);
        append(&w, "a", 4);
        d.from = FROM_NUMBER;
        d.number = 1;
        assert_int_equal(create(&w, d), EMITTER_OK);
        d = definition_of("a", "end");
        d.from = FROM_END;
        assert_int_equal(create(&w, d), EMITTER_OK);
        d = definition_of("$all", "end");
        d.from = FROM_END;
        assert_int_equal(create(&w, d), EMITTER_OK);
        d = definition_of("none", "ahead");
        d.from = FROM_NUMBER;
        d.number = 2;
        assert_int_equal(create(&w, d), EMITTER_OK);
        append(&w, "a,none", 2);
        append(&w, "none", 3);
        world_reopen(&w); /* a start does not move by a restart */
        client_open(&w, &c, "a", "one", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 4);
        assert_int_equal(c.items[0].revision, 1);
        client_close(&c);
        client_open(&w, &c, "a", "end", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.items[0].revision, 4);
        client_close(&c);
        client_open(&w, &c, "$all", "end", 10, true);
        client_drain(&w, &c);
        assert_true(c.count >= 5);
        /* Behind its own definition: that of the next group is the first. */
        assert_string_equal(c.items[0].stream, "$nilo-subscriptions");
        assert_string_equal(c.items[1].stream, "a");
        client_close(&c);
        client_open(&w, &c, "none", "ahead", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 2);
        assert_int_equal(c.items[0].revision, 2);
        client_close(&c);
        world_end(&w);
}

/* ---- what is selected ---- */

static unsigned count_of(struct world *w, const char *selector, const char *stream)
{
        struct emitter_definition d = definition_of(stream, "sel");
        struct selector *s = selector_of(selector);
        struct client c;
        unsigned n;
        char key[64];

        d.selector = s;
        assert_int_equal(create(w, d), EMITTER_OK);
        snprintf(key, sizeof key, "%s", *stream ? stream : "$all");
        client_open(w, &c, key, "sel", 100, true);
        client_drain(w, &c);
        n = c.count;
        for (unsigned i = 1; i < n; i++)
                assert_true(c.items[i].position > c.items[i - 1].position);
        client_close(&c);
        assert_int_equal(delete_group(w, key, "sel"), EMITTER_OK);
        selector_free(&s);
        return n;
}

TEST(selection, every_kind_gets_exactly_what_it_names)
{
        struct world w = {0};

        world_begin(&w, 4);
        for (unsigned i = 0; i < 60; i++) {
                static const char *const streams[] = {"order-1", "order-2", "mail"};
                char data[64];

                snprintf(data, sizeof data, "{\"n\":%u,\"in\":{\"x\":%s,\"y\":1}}", i,
                        i % 2 ? "true" : "false");
                append_event(&w,
                        (struct event){
                                .stream = streams[i % 3], .type = i % 4 ? "Paid" : "Placed", .data = data});
        }
        wait_for_appends(&w);
        assert_int_equal(count_of(&w, "{\"kind\":\"prefix\",\"prefixes\":[\"order-\"]}", "$nilo-prefix"), 40);
        assert_int_equal(count_of(&w, "{\"kind\":\"type\",\"types\":[\"Placed\"]}", "$nilo-type"), 15);
        assert_int_equal(
                count_of(
                        &w, "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-[2-9]\"}", "$all"),
                20);
        assert_int_equal(
                count_of(&w, "{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"Pa\"]}", "$all"), 45);
        assert_int_equal(
                count_of(&w, "{\"kind\":\"payload\",\"match\":{\"in\":{\"x\":true}}}", "$nilo-payload"), 30);
        assert_int_equal(
                count_of(&w, "{\"kind\":\"pattern\",\"match\":{\"type\":\"Placed\",\"stream\":\"mail\"}}",
                        "$nilo-pattern"),
                5);
        world_end(&w);
}

TEST(selection, links_are_resolved_when_asked_for_and_acknowledged_by_their_own_id)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("links", "g");

        world_begin(&w, 5);
        append(&w, "a", 3);
        append_event(&w, (struct event){.stream = "links", .type = "$>", .data = "1@a"});
        append_event(&w, (struct event){.stream = "links", .type = "$>", .data = "7@a"}); /* leads nowhere */
        append_event(&w, (struct event){.stream = "links"});
        wait_for_appends(&w);
        d.settings.resolve_links = true;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "links", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        assert_true(c.items[0].has_link && c.items[0].has_event);
        assert_string_equal(c.items[0].stream, "a");
        assert_int_equal(c.items[0].revision, 0);
        assert_true(c.items[1].has_link && !c.items[1].has_event);
        assert_false(c.items[2].has_link);
        assert_int_equal(info_of(&w, "links", "g").info.in_flight, 0);
        client_close(&c);
        world_end(&w);
}

TEST(selection, a_deleted_stream_ends_its_group_after_its_last_event)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 6);
        append(&w, "a", 3);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        client_drain(&w, &c);
        delete_stream(&w, "a", true);
        client_drain(&w, &c);
        assert_int_equal(c.outcome, CONSUMER_WAIT); /* what is in flight is still its own */
        for (unsigned i = 0; i < 3; i++)
                client_ack(&c, i);
        client_drain(&w, &c);
        assert_int_equal(c.outcome, CONSUMER_DROPPED);
        assert_string_equal(info_of(&w, "a", "g").state, "failed");
        assert_string_equal(info_of(&w, "a", "g").problem, "the stream was deleted");
        client_close(&c);
        assert_int_equal(client_try(&w, &c, "a", "g", 10), EMITTER_GONE);
        assert_int_equal(delete_group(&w, "a", "g"), EMITTER_OK);
        world_end(&w);
}

TEST(selection, a_soft_deleted_stream_goes_on_with_what_comes_later)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 7);
        append(&w, "a", 3);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        delete_stream(&w, "a", false);
        append(&w, "a", 2);
        client_drain(&w, &c);
        assert_int_equal(c.count, 5);
        assert_int_equal(c.items[4].revision, 4);
        client_close(&c);
        world_end(&w);
}

TEST(lag, of_what_nobody_reads_is_the_age_of_its_first_event)
{
        struct world w = {0};
        struct client c;

        if (is_on_memory_machine) /* where minutes take minutes */
                return;
        world_begin(&w, 12);
        append(&w, "a", 3);
        world_run_for(&w, 40 * 1000 * 1000);
        append(&w, "a", 3);
        world_run_for(&w, 20 * 1000 * 1000);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("$all", "g")), EMITTER_OK);
        assert_in_range(info_of(&w, "a", "g").info.lag_us, 60 * 1000 * 1000, 65 * 1000 * 1000);
        assert_in_range(info_of(&w, "$all", "g").info.lag_us, 60 * 1000 * 1000, 65 * 1000 * 1000);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(info_of(&w, "a", "g").info.lag_us, 0);
        client_close(&c);
        append(&w, "a", 1);
        world_run_for(&w, 7 * 1000 * 1000);
        assert_in_range(info_of(&w, "a", "g").info.lag_us, 7 * 1000 * 1000, 8 * 1000 * 1000);
        assert_int_equal(seek_group(&w, "a", "g", FROM_NUMBER, 3), EMITTER_OK);
        assert_in_range(info_of(&w, "a", "g").info.lag_us, 27 * 1000 * 1000, 30 * 1000 * 1000);
        world_end(&w);
}

/* ---- checkpoints ---- */

TEST(checkpoint, is_never_above_the_lowest_unfinished_event)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 8);
        append(&w, "a", 100);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 100, false);
        client_drain(&w, &c);
        assert_int_equal(c.count, 100);
        for (unsigned i = 0; i < 100; i++)
                if (i != 40 && i != 70)
                        client_ack(&c, i);
        world_run_for(&w, 2500 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 39);
        assert_true(info_of(&w, "a", "g").info.lag_us >= 2000 * 1000);
        client_ack(&c, 40);
        client_nack(&c, 70, NACK_SKIP, "");
        client_close(&c); /* the last one goes: it is written at once */
        world_run_for(&w, 200 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 99);
        world_end(&w);
}

TEST(checkpoint, is_written_by_policy_and_not_for_each_event)
{
        struct world w = {0};
        struct client c;
        struct emitter_stats s;

        world_begin(&w, 9);
        append(&w, "a", 3000);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 100, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3000);
        emitter_stats(w.emitter, &s);
        assert_in_range(s.checkpoints, 1, 3); /* max_checkpoint_count is 1 000 */
        world_run_for(&w, 2500 * 1000);
        emitter_stats(w.emitter, &s);
        assert_in_range(s.checkpoints, 2, 4);
        if (!is_on_memory_machine)
                world_run_for(&w, 10 * 1000 * 1000);
        client_close(&c);
        world_run(&w);
        client_open(&w, &c, "a", "g", 100, true); /* nothing moved: nothing is written */
        client_drain(&w, &c);
        client_close(&c);
        world_run(&w);
        emitter_stats(w.emitter, &s);
        assert_in_range(s.checkpoints, 2, 5);
        world_end(&w);
}

TEST(checkpoint, of_groups_on_all_do_not_cause_each_other)
{
        struct world w = {0};
        struct client c[3];
        uint64_t before, after;
        char group[8];

        world_begin(&w, 10);
        append(&w, "a", 50);
        for (unsigned i = 0; i < 3; i++) {
                struct emitter_definition d;

                snprintf(group, sizeof group, "g%u", i);
                d = definition_of("$all", group);
                d.settings.min_checkpoint_count = 1;
                d.settings.max_checkpoint_count = 1;
                d.settings.checkpoint_after_ms = 0;
                assert_int_equal(create(&w, d), EMITTER_OK);
                client_open(&w, &c[i], "$all", group, 10, true);
        }
        clients_drain(&w, c, 3);
        world_run_for(&w, 500 * 1000);
        before = store_next_position(w.store);
        clients_drain(&w, c, 3);
        world_run_for(&w, 500 * 1000);
        clients_drain(&w, c, 3);
        after = store_next_position(w.store);
        assert_int_equal(after, before);
        for (unsigned i = 0; i < 3; i++)
                client_close(&c[i]);
        world_end(&w);
}

/* What was finished above an event that was not is no longer left out when that is finished too: else a crash
 * would deliver it all again, however long ago it was (G11). */
TEST(checkpoint, covers_what_was_finished_above_an_event_when_that_is_finished)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 14);
        append(&w, "a", 40);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 100, false);
        client_drain(&w, &c);
        for (unsigned i = 0; i < 40; i++)
                if (i != 20)
                        client_ack(&c, i);
        world_run_for(&w, 2500 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 19);
        client_ack(&c, 20);
        world_run_for(&w, 2500 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 39);
        client_close(&c);
        world_end(&w);
}

static uint64_t checkpoints_after(struct world *w, uint64_t us)
{
        struct emitter_stats s;

        world_run_for(w, us);
        emitter_stats(w->emitter, &s);
        return s.checkpoints;
}

/* After a start all of them have passed over the same, and none has anything to say that is worth much. */
TEST(checkpoint, of_many_that_passed_over_much_are_few_and_come_one_by_one)
{
        enum { GROUPS = 120 };
        struct world w = {0};
        struct selector *selector = selector_of("{\"kind\":\"type\",\"types\":[\"Never\"]}");
        uint64_t before;
        char group[16];

        if (is_on_memory_machine) { /* where minutes take minutes */
                selector_free(&selector);
                return;
        }
        world_begin(&w, 13);
        for (unsigned i = 0; i < GROUPS; i++) {
                struct emitter_definition d;

                snprintf(group, sizeof group, "g%u", i);
                d = definition_of("", group);
                d.selector = selector;
                d.target = TARGET_TOPIC;
                assert_int_equal(create(&w, d), EMITTER_OK);
        }
        append(&w, "a", 11000); /* more than are worth one, but for so many subscriptions */
        world_reopen(&w);
        before = store_next_position(w.store);
        assert_int_equal(checkpoints_after(&w, 20 * 1000 * 1000), 0);
        world_reopen(&w);
        assert_int_equal(store_next_position(w.store), before); /* nor at the stop */
        append(&w, "a", 3000);
        world_reopen(&w);
        assert_in_range(checkpoints_after(&w, 3000 * 1000), 1, 30);
        assert_int_equal(checkpoints_after(&w, 20 * 1000 * 1000), GROUPS);
        world_reopen(&w);
        assert_int_equal(checkpoints_after(&w, 20 * 1000 * 1000), 0);
        selector_free(&selector);
        world_end(&w);
}

TEST(checkpoint, a_full_disk_delays_it_and_loses_nothing)
{
        struct world w = {0};
        struct client c;
        struct os_sim_faults faults = {.free_bytes = 1};

        if (is_on_memory_machine)
                return;
        world_begin(&w, 31);
        append(&w, "a", 50);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, true);
        os_sim_set_faults(w.os, &faults);
        world_run_for(&w, 30 * 1000 * 1000); /* the disk is asked now and then */
        client_drain(&w, &c);
        assert_int_equal(c.count, 50);
        world_run_for(&w, 10 * 1000 * 1000);
        assert_false(info_of(&w, "a", "g").info.has_checkpoint);
        faults.free_bytes = 0;
        os_sim_set_faults(w.os, &faults);
        world_run_for(&w, 60 * 1000 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 49);
        client_close(&c);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(delivery, a_group_gets_its_stream_from_the_start_and_then_live),
                TEST_ROW(delivery, after_a_restart_it_goes_on_behind_the_checkpoint),
                TEST_ROW(delivery, after_a_rest_nothing_is_missed),
                TEST_ROW(start, a_number_is_inclusive_and_the_end_is_what_comes),
                TEST_ROW(selection, every_kind_gets_exactly_what_it_names),
                TEST_ROW(selection, links_are_resolved_when_asked_for_and_acknowledged_by_their_own_id),
                TEST_ROW(selection, a_deleted_stream_ends_its_group_after_its_last_event),
                TEST_ROW(selection, a_soft_deleted_stream_goes_on_with_what_comes_later),
                TEST_ROW(lag, of_what_nobody_reads_is_the_age_of_its_first_event),
                TEST_ROW(checkpoint, is_never_above_the_lowest_unfinished_event),
                TEST_ROW(checkpoint, is_written_by_policy_and_not_for_each_event),
                TEST_ROW(checkpoint, of_groups_on_all_do_not_cause_each_other),
                TEST_ROW(checkpoint, covers_what_was_finished_above_an_event_when_that_is_finished),
                TEST_ROW(checkpoint, of_many_that_passed_over_much_are_few_and_come_one_by_one),
                TEST_ROW(checkpoint, a_full_disk_delays_it_and_loses_nothing),
        };
        int failed = cmocka_run_group_tests_name("delivery, simulated", tests, NULL, NULL);

        is_on_memory_machine = true;
        return failed + cmocka_run_group_tests_name("delivery, in memory", tests, NULL, NULL);
}
