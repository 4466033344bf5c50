/* Competing consumers: strategies, what becomes of a nack, a time-out, a consumer that goes; parking and
 * replay. */
#include "support.h"

static struct emitter_definition with(const char *stream, const char *group, enum emitter_strategy strategy)
{
        struct emitter_definition d = definition_of(stream, group);

        d.settings.strategy = strategy;
        return d;
}

static void open_some(struct world *w, struct client *c, unsigned n, const char *stream, const char *group,
        uint32_t window, bool acks)
{
        for (unsigned i = 0; i < n; i++)
                client_open(w, &c[i], stream, group, window, acks);
}

static void close_some(struct client *c, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                client_close(&c[i]);
}

/* ---- strategies ---- */

TEST(strategies, round_robin_shares_evenly)
{
        struct world w = {0};
        struct client c[3];

        world_begin(&w, 11);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_ROUND_ROBIN)), EMITTER_OK);
        open_some(&w, c, 3, "a", "g", 10, true);
        append(&w, "a", 30);
        clients_drain(&w, c, 3);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(c[i].count, 10);
        close_some(c, 3);
        world_end(&w);
}

TEST(strategies, dispatch_to_single_prefers_the_first)
{
        struct world w = {0};
        struct client c[2];

        world_begin(&w, 12);
        append(&w, "a", 12);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_DISPATCH_TO_SINGLE)), EMITTER_OK);
        open_some(&w, c, 2, "a", "g", 8, false);
        clients_drain(&w, c, 2);
        assert_int_equal(c[0].count, 8);
        assert_int_equal(c[1].count, 4);
        close_some(c, 2);
        world_end(&w);
}

/* Every stream's events come to one consumer, in order. */
static void check_lanes(struct client *c, unsigned n, unsigned expected)
{
        unsigned all = 0, busy = 0;

        for (unsigned i = 0; i < n; i++) {
                all += c[i].count;
                busy += c[i].count > 0;
                for (unsigned k = 0; k < c[i].count; k++)
                        for (unsigned o = 0; o < n; o++)
                                for (unsigned j = 0; j < c[o].count; j++)
                                        if (!strcmp(c[i].items[k].stream, c[o].items[j].stream)) {
                                                assert_int_equal(i, o);
                                                assert_true((k < j) == (c[i].items[k].position <
                                                                               c[o].items[j].position) ||
                                                            k == j);
                                        }
        }
        assert_int_equal(all, expected);
        assert_true(busy > 1);
}

TEST(strategies, per_stream_and_pinned_keep_each_stream_with_one_consumer_in_order)
{
        static const enum emitter_strategy strategies[] = {
                STRATEGY_PINNED, STRATEGY_PER_STREAM, STRATEGY_PINNED_BY_CORRELATION};
        struct world w = {0};
        struct client c[4];

        world_begin(&w, 13);
        for (unsigned s = 0; s < COUNT_OF(strategies); s++) {
                struct emitter_definition d = with("$all", "g", strategies[s]);
                struct selector *selector = selector_of("{\"kind\":\"prefix\",\"prefixes\":[\"s-\"]}");

                d.selector = selector;
                d.from = FROM_END;
                assert_int_equal(create(&w, d), EMITTER_OK);
                selector_free(&selector);
                open_some(&w, c, 4, "$all", "g", 5, true);
                append(&w, "s-1,s-2,s-3,s-4,s-5,s-6,s-7,s-8,s-9,s-10,s-11,s-12", 120);
                clients_drain(&w, c, 4);
                check_lanes(c, 4, 120);
                close_some(c, 4);
                assert_int_equal(delete_group(&w, "$all", "g"), EMITTER_OK);
        }
        world_end(&w);
}

static void append_keyed(struct world *w, unsigned n)
{
        static const char *const streams[] = {"x", "y", "z"};
        char metadata[64], tag[64];

        for (unsigned i = 0; i < n; i++) {
                snprintf(metadata, sizeof metadata, "{\"$correlationId\":\"c%u\",\"tenant\":\"t%u\"}", i % 7,
                        i % 7);
                snprintf(tag, sizeof tag, "account=%u", i % 7);
                append_event(w, (struct event){.stream = streams[i % 3], .metadata = metadata, .tag = tag});
                wait_for_appends(w);
        }
}

TEST(strategies, lanes_by_correlation_tag_and_metadata)
{
        static const struct {
                enum emitter_strategy strategy;
                const char *lane_key;
        } cases[] = {{STRATEGY_PINNED_BY_CORRELATION, ""}, {STRATEGY_PER_STREAM, "tag:account"},
                {STRATEGY_PER_STREAM, "metadata:tenant"}};
        struct world w = {0};
        struct client c[4];
        struct selector *selector = selector_of("{\"kind\":\"type\",\"types\":[\"T\"]}");

        world_begin(&w, 14);
        append_keyed(&w, 42);
        for (unsigned s = 0; s < COUNT_OF(cases); s++) {
                struct emitter_definition d = with("", "g", cases[s].strategy);

                d.selector = selector;
                d.settings.lane_key = bytes_of_string(cases[s].lane_key);
                assert_int_equal(create(&w, d), EMITTER_OK);
                open_some(&w, c, 4, "$nilo-type", "g", 3, true);
                clients_drain(&w, c, 4);
                /* Event i has the key i % 7: all of a key are with one consumer. */
                for (unsigned key = 0; key < 7; key++) {
                        unsigned owners = 0, all = 0;

                        for (unsigned i = 0; i < 4; i++) {
                                unsigned of_key = 0;

                                for (unsigned k = 0; k < c[i].count; k++)
                                        of_key += (unsigned)(c[i].items[k].revision * 3 +
                                                             (unsigned)(c[i].items[k].stream[0] - 'x')) %
                                                          7 ==
                                                  key;
                                owners += of_key > 0;
                                all += of_key;
                        }
                        assert_int_equal(owners, 1);
                        assert_int_equal(all, 6);
                }
                close_some(c, 4);
                assert_int_equal(delete_group(&w, "$nilo-type", "g"), EMITTER_OK);
        }
        selector_free(&selector);
        world_end(&w);
}

/* ---- flow ---- */

TEST(flow, a_window_is_kept_and_a_stopped_consumer_holds_only_its_own)
{
        struct world w = {0};
        struct client c[2];

        world_begin(&w, 15);
        append(&w, "a", 200);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_ROUND_ROBIN)), EMITTER_OK);
        open_some(&w, c, 2, "a", "g", 5, false);
        c[1].acks = true;
        clients_drain(&w, c, 2);
        assert_int_equal(c[0].count, 5);
        assert_int_equal(c[1].count, 195);
        assert_int_equal(info_of(&w, "a", "g").info.in_flight, 5);
        close_some(c, 2);
        world_end(&w);
}

TEST(flow, what_a_leaver_had_goes_to_others_with_one_more_retry)
{
        struct world w = {0};
        struct client c[2];

        world_begin(&w, 16);
        append(&w, "a", 10);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_DISPATCH_TO_SINGLE)), EMITTER_OK);
        client_open(&w, &c[0], "a", "g", 10, false);
        client_open(&w, &c[1], "a", "g", 10, true);
        clients_drain(&w, c, 1);
        assert_int_equal(c[0].count, 10);
        client_close(&c[0]);
        client_drain(&w, &c[1]);
        assert_int_equal(c[1].count, 10);
        for (unsigned i = 0; i < 10; i++) {
                assert_int_equal(c[1].items[i].revision, i);
                assert_int_equal(c[1].items[i].retry_count, 1);
        }
        client_close(&c[1]);
        world_end(&w);
}

TEST(flow, a_time_out_is_a_retry_and_too_many_park)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = with("a", "g", STRATEGY_ROUND_ROBIN);

        world_begin(&w, 17);
        append(&w, "a", 1);
        d.settings.message_timeout_ms = 50;
        d.settings.max_retry_count = 2;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        for (unsigned i = 0; i < 60; i++) {
                client_pull(&c, 10);
                world_run_for(&w, 10 * 1000);
        }
        assert_int_equal(c.count, 3);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(c.items[i].retry_count, i);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 1);
        assert_int_equal(info_of(&w, "a", "g").info.in_flight, 0);
        client_close(&c);
        world_end(&w);
}

/* ---- nack ---- */

TEST(nack, each_action_does_what_it_says)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 18);
        append(&w, "a", 5);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_ROUND_ROBIN)), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        client_drain(&w, &c);
        client_nack(&c, 0, NACK_RETRY, "again");
        client_nack(&c, 1, NACK_UNKNOWN, "");
        client_nack(&c, 2, NACK_PARK, "no good");
        client_nack(&c, 3, NACK_SKIP, "");
        client_nack(&c, 4, NACK_STOP, "");
        client_drain(&w, &c);
        assert_int_equal(c.count, 7);
        assert_int_equal(c.items[5].revision, 0);
        assert_int_equal(c.items[5].retry_count, 1);
        assert_int_equal(c.items[6].revision, 1);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 1);
        assert_int_equal(info_of(&w, "a", "g").info.in_flight, 3); /* two retried, one stopped */
        /* A late answer of what was parked or skipped is none. */
        client_ack(&c, 2);
        client_nack(&c, 3, NACK_PARK, "");
        world_run(&w);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 1);
        client_close(&c);
        world_end(&w);
}

struct read_back {
        char data[8][256], metadata[8][1024];
        unsigned count;
};

static void read_stream(struct world *w, const char *stream, struct read_back *ret)
{
        struct store_read_options o = {.stream = bytes_of_string(stream), .limit = 8};
        struct store_reader *reader = NULL;
        struct store_read_item item;

        *ret = (struct read_back){0};
        if (store_reader_open(w->store, &o, &reader))
                return;
        while (store_reader_next(reader, &item) == 0) {
                snprintf(ret->data[ret->count], 256, "%.*s", (int)item.event.data.size,
                        (const char *)item.event.data.data);
                snprintf(ret->metadata[ret->count++], 1024, "%.*s", (int)item.event.metadata.size,
                        (const char *)item.event.metadata.data);
        }
        store_reader_close(&reader);
}

TEST(park, a_parked_event_is_a_link_with_its_reason_and_survives)
{
        struct world w = {0};
        struct client c;
        struct read_back r;

        world_begin(&w, 19);
        append(&w, "z,a", 4);
        assert_int_equal(create(&w, with("$all", "g", STRATEGY_ROUND_ROBIN)), EMITTER_OK);
        client_open(&w, &c, "$all", "g", 10, false);
        client_drain(&w, &c);
        assert_true(c.count >= 4);
        client_nack(&c, 4, NACK_PARK, "total is \"wrong\"");
        for (unsigned i = 0; i < c.count; i++)
                client_ack(&c, i);
        world_run(&w);
        client_close(&c);
        world_reopen(&w);
        read_stream(&w, "$persistentsubscription-$all::g-parked", &r);
        assert_int_equal(r.count, 1);
        assert_string_equal(r.data[0], "1@a");
        assert_non_null(strstr(r.metadata[0], "\"SubscriptionEventNumber\":4"));
        assert_non_null(strstr(r.metadata[0], "total is \\\"wrong\\\""));
        assert_non_null(strstr(r.metadata[0], "\"Added\":\"20"));
        assert_int_equal(info_of(&w, "$all", "g").info.parked, 1);
        /* Neither it nor the checkpoint came as an event of the group. */
        client_open(&w, &c, "$all", "g", 10, true);
        client_drain(&w, &c);
        for (unsigned i = 0; i < c.count; i++)
                assert_null(strstr(c.items[i].stream, "$persistentsubscription"));
        client_close(&c);
        world_end(&w);
}

static void park_all(struct world *w, struct client *c)
{
        client_drain(w, c);
        for (unsigned i = 0; i < c->count; i++)
                client_nack(c, i, NACK_PARK, "later");
        client_drain(w, c);
        c->count = 0;
}

TEST(park, replay_gives_them_again_with_no_retry_and_then_they_are_parked_no_more)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 20);
        append(&w, "a", 6);
        assert_int_equal(create(&w, with("a", "g", STRATEGY_ROUND_ROBIN)), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        park_all(&w, &c);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 6);
        c.acks = true;
        assert_int_equal(replay(&w, "a", "g", UINT64_MAX, 3), EMITTER_OK); /* one */
        client_drain(&w, &c);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.items[0].revision, 3);
        assert_int_equal(c.items[0].retry_count, 0);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 5);
        assert_false(emitter_is_parked(w.emitter, BYTES_LITERAL("a"), BYTES_LITERAL("g"), 3));
        assert_true(emitter_is_parked(w.emitter, BYTES_LITERAL("a"), BYTES_LITERAL("g"), 4));
        assert_int_equal(replay(&w, "a", "g", UINT64_MAX, 3), EMITTER_NOT_FOUND);
        assert_int_equal(replay(&w, "a", "g", 2, UINT64_MAX), EMITTER_OK); /* those below */
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.items[1].revision, 0);
        assert_int_equal(c.items[2].revision, 1);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 3);
        world_run_for(&w, 1500 * 1000);
        client_close(&c);
        world_reopen(&w);
        /* The rest is parked after a restart, and nothing else. */
        assert_int_equal(info_of(&w, "a", "g").info.parked, 3);
        client_open(&w, &c, "a", "g", 10, true);
        assert_int_equal(replay(&w, "a", "g", UINT64_MAX, UINT64_MAX), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.items[0].revision, 2);
        assert_int_equal(c.items[1].revision, 4);
        assert_int_equal(c.items[2].revision, 5);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 0);
        client_close(&c);
        world_end(&w);
}

TEST(park, what_was_not_finished_of_a_replay_is_still_parked)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 21);
        append(&w, "a,b", 8);
        assert_int_equal(create(&w, with("$all", "g", STRATEGY_PER_STREAM)), EMITTER_OK);
        client_open(&w, &c, "$all", "g", 20, false);
        park_all(&w, &c);
        assert_true(info_of(&w, "$all", "g").info.parked >= 8);
        assert_int_equal(replay(&w, "$all", "g", 4, UINT64_MAX), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(c.count, 4);
        client_ack(&c, 0);
        client_ack(&c, 2);
        client_nack(&c, 1, NACK_PARK, "again");
        client_drain(&w, &c);
        client_close(&c);
        world_reopen(&w);
        /* Of 0 to 3: 0 and 2 are done, 1 is parked under a new number, 3 was never finished. */
        assert_false(emitter_is_parked(w.emitter, BYTES_LITERAL("$all"), BYTES_LITERAL("g"), 0));
        assert_false(emitter_is_parked(w.emitter, BYTES_LITERAL("$all"), BYTES_LITERAL("g"), 1));
        assert_false(emitter_is_parked(w.emitter, BYTES_LITERAL("$all"), BYTES_LITERAL("g"), 2));
        assert_true(emitter_is_parked(w.emitter, BYTES_LITERAL("$all"), BYTES_LITERAL("g"), 3));
        client_open(&w, &c, "$all", "g", 20, true);
        assert_int_equal(replay(&w, "$all", "g", UINT64_MAX, UINT64_MAX), EMITTER_OK);
        client_drain(&w, &c);
        assert_int_equal(info_of(&w, "$all", "g").info.parked, 0);
        client_close(&c);
        world_end(&w);
}

/* True when the store refuses appends for want of space. */
static bool is_full(struct world *w)
{
        append_event(w, (struct event){.stream = "probe"});
        for (unsigned i = 0; w->appends_done < w->appends_asked && i < 1000; i++)
                world_step(w);
        return w->verdict == STORE_FULL;
}

/* The event that a link names is gone: the one behind it is another. */
TEST(park, replay_passes_over_what_was_deleted_from_its_stream)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 48);
        append(&w, "a", 3);
        assert_int_equal(create(&w, definition_of("$all", "g")), EMITTER_OK);
        client_open(&w, &c, "$all", "g", 50, true);
        client_drain(&w, &c);
        client_close(&c);
        append(&w, "a", 1);
        client_open(&w, &c, "$all", "g", 50, false);
        client_drain(&w, &c);
        for (unsigned i = 0; i < c.count; i++)
                if (!strcmp(c.items[i].stream, "a"))
                        client_nack(&c, i, NACK_PARK, "");
                else
                        client_ack(&c, i);
        client_drain(&w, &c);
        assert_int_equal(info_of(&w, "$all", "g").info.parked, 1);
        client_close(&c);
        delete_stream(&w, "a", false);
        append(&w, "a", 2);
        client_open(&w, &c, "$all", "g", 50, true);
        client_drain(&w, &c);
        c.count = 0;
        assert_int_equal(replay(&w, "$all", "g", UINT64_MAX, UINT64_MAX), EMITTER_OK);
        client_drain(&w, &c);
        for (unsigned i = 0; i < c.count; i++)
                assert_string_not_equal(c.items[i].stream, "a");
        assert_int_equal(info_of(&w, "$all", "g").info.parked, 0);
        client_close(&c);
        world_end(&w);
}

TEST(park, on_a_full_disk_waits_and_holds_the_checkpoint)
{
        struct world w = {0};
        struct client c;
        struct os_sim_faults faults = {.free_bytes = 1};

        if (is_on_memory_machine)
                return;
        world_begin(&w, 23);
        append(&w, "a", 20);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 20, false);
        client_drain(&w, &c);
        os_sim_set_faults(w.os, &faults);
        for (unsigned i = 0; i < 100 && !is_full(&w); i++)
                world_run_for(&w, 1000 * 1000);
        assert_true(is_full(&w));
        for (unsigned i = 0; i < 20; i++)
                if (i == 5)
                        client_nack(&c, i, NACK_PARK, "now");
                else
                        client_ack(&c, i);
        assert_int_equal(create(&w, definition_of("b", "g")), EMITTER_BUSY);
        world_run_for(&w, 20 * 1000 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 0);
        assert_false(info_of(&w, "a", "g").info.has_checkpoint);
        assert_int_equal(info_of(&w, "a", "g").info.lag_events, 15); /* from the one that is to be parked */
        faults.free_bytes = 0;
        os_sim_set_faults(w.os, &faults);
        world_run_for(&w, 60 * 1000 * 1000);
        assert_int_equal(info_of(&w, "a", "g").info.parked, 1);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 19);
        client_close(&c);
        world_end(&w);
}

TEST(statistics, are_measured_when_asked_for)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = with("a", "g", STRATEGY_ROUND_ROBIN);
        struct told t;

        world_begin(&w, 22);
        d.settings.extra_statistics = true;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "g", 50, false);
        append(&w, "a", 40);
        client_drain(&w, &c);
        world_run_for(&w, 20 * 1000);
        for (unsigned i = 0; i < 40; i++)
                client_ack(&c, i);
        world_run_for(&w, 1200 * 1000);
        t = info_of(&w, "a", "g");
        assert_int_equal(t.info.total, 40);
        assert_int_equal(t.info.since_last, 40);
        assert_int_equal(t.consumer.total, 40);
        assert_true(t.consumer.has_measurements);
        assert_true(t.consumer.measured_us[0] >= 15 * 1000);
        assert_true(t.consumer.measured_us[13] >= t.consumer.measured_us[2]);
        assert_int_equal(t.consumer.measured_us[14], 40);
        assert_int_equal(t.consumer.window, 50);
        client_close(&c);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(strategies, round_robin_shares_evenly),
                TEST_ROW(strategies, dispatch_to_single_prefers_the_first),
                TEST_ROW(strategies, per_stream_and_pinned_keep_each_stream_with_one_consumer_in_order),
                TEST_ROW(strategies, lanes_by_correlation_tag_and_metadata),
                TEST_ROW(flow, a_window_is_kept_and_a_stopped_consumer_holds_only_its_own),
                TEST_ROW(flow, what_a_leaver_had_goes_to_others_with_one_more_retry),
                TEST_ROW(flow, a_time_out_is_a_retry_and_too_many_park),
                TEST_ROW(nack, each_action_does_what_it_says),
                TEST_ROW(park, a_parked_event_is_a_link_with_its_reason_and_survives),
                TEST_ROW(park, replay_gives_them_again_with_no_retry_and_then_they_are_parked_no_more),
                TEST_ROW(park, what_was_not_finished_of_a_replay_is_still_parked),
                TEST_ROW(park, replay_passes_over_what_was_deleted_from_its_stream),
                TEST_ROW(park, on_a_full_disk_waits_and_holds_the_checkpoint),
                TEST_ROW(statistics, are_measured_when_asked_for),
        };
        int failed = cmocka_run_group_tests_name("groups, simulated", tests, NULL, NULL);

        is_on_memory_machine = true;
        return failed + cmocka_run_group_tests_name("groups, in memory", tests, NULL, NULL);
}
