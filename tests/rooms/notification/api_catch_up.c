/* What one subscription gets, case by case: history then live, starts, filters and checkpoints, deletion,
 * truncation, links (G10), and what slow consumers and lost facts cost (G18). */
#include "support.h"

static void begin(struct world *w)
{
        world_begin(w, &(struct world_options){.seed = 11});
}

static struct subscription_options of_stream(const char *stream)
{
        return (struct subscription_options){.stream = bytes_of_string(stream)};
}

static struct subscription_options behind(const char *stream, uint64_t number)
{
        return (struct subscription_options){
                .stream = bytes_of_string(stream), .from = FROM_NUMBER, .number = number};
}

/* The consumer has exactly the revisions first .. first + count - 1. */
static void assert_revisions(const struct consumer *c, uint64_t first, unsigned count)
{
        unsigned n = 0;

        assert_int_equal(c->event_count, count);
        for (unsigned i = 0; i < c->count; i++)
                if (c->items[i].kind == ITEM_EVENT)
                        assert_int_equal(c->items[i].revision, first + n++);
}

static const struct got *last_item(const struct consumer *c)
{
        assert_true(c->count > 0);
        return &c->items[c->count - 1];
}

/* ---- history, live ---- */

TEST(catch_up, history_comes_before_live_with_one_mark_between)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 3);
        consumer_open(&w, &c, of_stream("order-1"));
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 3);
        assert_int_equal(c.count, 4);
        assert_int_equal(last_item(&c)->kind, ITEM_CAUGHT_UP);
        assert_true(last_item(&c)->has_number);
        assert_int_equal(last_item(&c)->revision, 2);
        assert_int_equal(c.readable_count, 0);

        append(&w, "order-2", "Placed", 1); /* not ours */
        world_run(&w);
        assert_int_equal(c.readable_count, 0);
        append(&w, "order-1", "Paid", 2);
        world_run(&w);
        assert_int_equal(c.readable_count, 1);
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 5);
        assert_int_equal(consumer_marks(&c, ITEM_CAUGHT_UP), 1);
        consumer_close(&c);
        world_end(&w);
}

TEST(catch_up, caught_up_tells_the_end_that_was_seen_not_what_came_since)
{
        struct world w;
        struct consumer c = {0};
        uint64_t seen;

        begin(&w);
        append(&w, "order-1", "Placed", 3);
        seen = store_next_position(w.store) - 1;
        consumer_open(&w, &c, (struct subscription_options){.checkpoint_after = 1000});
        consumer_pull(&c, (unsigned)seen + 2); /* all events, and the checkpoint that goes before the mark */
        assert_int_equal(last_item(&c)->kind, ITEM_CHECKPOINT);
        assert_int_equal(last_item(&c)->position, seen);
        append(&w, "order-1", "Paid", 2);
        consumer_pull(&c, 1);
        assert_int_equal(last_item(&c)->kind, ITEM_CAUGHT_UP);
        assert_int_equal(last_item(&c)->position, seen);
        consumer_drain(&w, &c);
        assert_int_equal(c.event_count, store_next_position(w.store));
        assert_int_equal(consumer_marks(&c, ITEM_CAUGHT_UP), 1);
        consumer_close(&c);
        world_end(&w);
}

TEST(catch_up, who_falls_behind_goes_on_from_the_log_and_is_not_told_twice)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        consumer_open(&w, &c, of_stream("order-1"));
        consumer_drain(&w, &c);
        for (unsigned i = 0; i < 50; i++)
                append(&w, "order-1", "Paid", 10);
        assert_int_equal(c.readable_count, 1); /* told once; it has not asked since */
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 500);
        assert_int_equal(consumer_marks(&c, ITEM_CAUGHT_UP), 1);
        consumer_close(&c);
        world_end(&w);
}

/* ---- where it begins ---- */

TEST(start, from_the_end_gives_only_what_comes)
{
        struct world w;
        struct consumer all = {0}, one = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 3);
        consumer_open(&w, &all, (struct subscription_options){.from = FROM_END});
        consumer_open(&w, &one,
                (struct subscription_options){.stream = BYTES_LITERAL("order-1"), .from = FROM_END});
        consumer_drain(&w, &all);
        consumer_drain(&w, &one);
        assert_int_equal(all.count, 1);
        assert_int_equal(all.items[0].kind, ITEM_CAUGHT_UP);
        assert_int_equal(all.items[0].position, store_next_position(w.store) - 1);
        assert_int_equal(one.count, 1);
        assert_int_equal(one.items[0].revision, 2);
        append(&w, "order-1", "Paid", 2);
        consumer_drain(&w, &all);
        consumer_drain(&w, &one);
        assert_revisions(&all, 3, 2);
        assert_revisions(&one, 3, 2);
        consumer_close(&all);
        consumer_close(&one);
        world_end(&w);
}

TEST(start, a_number_is_exclusive)
{
        struct world w;
        struct consumer all = {0}, one = {0};
        uint64_t first;

        begin(&w);
        first = store_next_position(w.store);
        append(&w, "order-1", "Placed", 5);
        consumer_open(&w, &all, behind("", first + 1));
        consumer_open(&w, &one, behind("order-1", 1));
        consumer_drain(&w, &all);
        consumer_drain(&w, &one);
        assert_revisions(&all, 2, 3);
        assert_revisions(&one, 2, 3);
        consumer_close(&all);
        consumer_close(&one);
        world_end(&w);
}

TEST(start, a_position_behind_the_log_is_refused)
{
        struct world w;
        struct consumer c = {0};
        uint64_t next;

        begin(&w);
        next = store_next_position(w.store);
        assert_int_equal(consumer_try(&w, &c, behind("", next)), SUBSCRIPTION_INVALID);
        assert_int_equal(consumer_try(&w, &c, behind("", UINT64_MAX)), SUBSCRIPTION_INVALID);
        assert_int_equal(consumer_try(&w, &c, behind("order-1", UINT64_MAX)), SUBSCRIPTION_INVALID);
        consumer_open(&w, &c, behind("", next - 1));
        consumer_drain(&w, &c);
        assert_int_equal(c.event_count, 0);
        consumer_close(&c);
        world_end(&w);
}

TEST(start, a_revision_that_does_not_exist_yet_is_waited_for)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 2);
        consumer_open(&w, &c, behind("order-1", 4));
        consumer_drain(&w, &c);
        append(&w, "order-1", "Paid", 3); /* 2, 3, 4 */
        consumer_drain(&w, &c);
        assert_int_equal(c.event_count, 0);
        append(&w, "order-1", "Paid", 2); /* 5, 6 */
        consumer_drain(&w, &c);
        assert_revisions(&c, 5, 2);
        consumer_close(&c);
        world_end(&w);
}

TEST(start, an_absent_stream_is_waited_for)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        consumer_open(&w, &c, of_stream("nobody"));
        consumer_drain(&w, &c);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.items[0].kind, ITEM_CAUGHT_UP);
        assert_false(c.items[0].has_number);
        append(&w, "nobody", "Placed", 2);
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 2);
        consumer_close(&c);
        world_end(&w);
}

/* ---- filters and checkpoints ---- */

TEST(filter, checkpoints_let_a_reader_resume_without_gap_or_repeat)
{
        struct world w;
        struct consumer c = {0};
        struct subscription_options o = {.checkpoint_after = 7};
        uint64_t checkpoint = 0, last = 0;
        unsigned before = 0;

        begin(&w);
        for (unsigned i = 0; i < 100; i++) {
                append(&w, "order-1", "Placed", 1);
                append(&w, "invoice-1", "Sent", 3);
        }
        o.filter = filter_of_prefix(FILTER_STREAM, "order-");
        consumer_open(&w, &c, o);
        consumer_pull(&c, 60);
        for (unsigned i = 0, events = 0; i < c.count; i++) {
                events += c.items[i].kind == ITEM_EVENT;
                if (c.items[i].kind != ITEM_CHECKPOINT)
                        continue;
                assert_true(c.items[i].position >= (events ? last : 0));
                checkpoint = c.items[i].position;
                before = events;
                last = checkpoint;
        }
        assert_true(consumer_marks(&c, ITEM_CHECKPOINT) > 5);
        assert_true(before > 5);
        consumer_close(&c);

        o = behind("", checkpoint);
        o.filter = filter_of_prefix(FILTER_STREAM, "order-");
        consumer_open(&w, &c, o);
        consumer_drain(&w, &c);
        assert_revisions(&c, before, 100 - before);
        consumer_close(&c);
        world_end(&w);
}

TEST(filter, a_long_run_without_a_match_yields_and_gives_checkpoints)
{
        struct world w;
        struct consumer c = {0};
        struct subscription_options o = {.checkpoint_after = 1000};
        struct subscription_item item;
        unsigned yields = 0, checkpoints = 0;
        int r;

        begin(&w);
        for (unsigned i = 0; i < 50; i++)
                append(&w, "invoice-1", "Sent", 1000);
        append(&w, "order-1", "Placed", 1);
        o.filter = filter_of_prefix(FILTER_TYPE, "Placed");
        consumer_open(&w, &c, o);
        for (;;) {
                r = subscription_next(c.subscription, &item);
                yields += r == SUBSCRIPTION_YIELD;
                checkpoints += r == 0 && item.kind == ITEM_CHECKPOINT;
                if (r == 0 && item.kind == ITEM_EVENT)
                        break;
                assert_true(r == 0 || r == SUBSCRIPTION_YIELD);
                assert_true(yields + checkpoints < 1000);
        }
        assert_true(yields + checkpoints >= 4); /* the loop was let go again and again */
        assert_true(checkpoints >= 4);
        consumer_close(&c);
        world_end(&w);
}

TEST(filter, a_costly_pattern_ends_with_its_own_outcome)
{
        struct world w;
        struct consumer c = {0};
        struct subscription_options o = {0};

        begin(&w);
        append(&w, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "Placed", 1);
        o.filter = filter_of_regex(FILTER_STREAM, "^(a+)+$");
        consumer_open(&w, &c, o);
        consumer_drain(&w, &c);
        assert_int_equal(c.outcome, SUBSCRIPTION_TOO_COSTLY);
        consumer_close(&c);
        world_end(&w);
}

/* ---- deletion, truncation, limits of a stream ---- */

TEST(deletion, a_tombstone_ends_the_subscription_after_the_last_event)
{
        struct world w;
        struct consumer live = {0}, late = {0}, all = {0};
        int r;

        begin(&w);
        append(&w, "order-1", "Placed", 2);
        consumer_open(&w, &live, of_stream("order-1"));
        consumer_open(&w, &all, (struct subscription_options){.from = FROM_END});
        consumer_drain(&w, &live);
        append(&w, "order-1", "Paid", 1);
        delete_stream(&w, "order-1", true);
        consumer_drain(&w, &live);
        assert_revisions(&live, 0, 3);
        assert_int_equal(live.outcome, SUBSCRIPTION_DELETED);
        r = consumer_try(&w, &late, of_stream("order-1"));
        if (r == 0) {
                consumer_drain(&w, &late);
                r = late.outcome;
        }
        assert_int_equal(r, SUBSCRIPTION_DELETED);
        consumer_drain(&w, &all);
        assert_int_equal(all.event_count, 2); /* the tombstone is an event of all streams */
        assert_int_equal(all.outcome, SUBSCRIPTION_WAIT);
        consumer_close(&live);
        consumer_close(&late);
        consumer_close(&all);
        world_end(&w);
}

TEST(deletion, a_soft_deleted_stream_goes_on_when_it_is_revived)
{
        struct world w;
        struct consumer live = {0}, late = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 3);
        consumer_open(&w, &live, of_stream("order-1"));
        consumer_drain(&w, &live);
        delete_stream(&w, "order-1", false);
        consumer_drain(&w, &live);
        assert_int_equal(live.outcome, SUBSCRIPTION_WAIT);
        consumer_open(&w, &late, of_stream("order-1"));
        consumer_drain(&w, &late);
        assert_int_equal(late.event_count, 0);
        append(&w, "order-1", "Placed", 2);
        consumer_drain(&w, &live);
        consumer_drain(&w, &late);
        assert_revisions(&live, 0, 5);
        assert_revisions(&late, 3, 2);
        consumer_close(&live);
        consumer_close(&late);
        world_end(&w);
}

TEST(truncation, what_was_hidden_at_the_start_stays_hidden_and_nothing_new_is)
{
        struct world w;
        struct consumer reading = {0}, late = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 20);
        consumer_open(&w, &reading, of_stream("order-1"));
        consumer_pull(&reading, 5);
        append_data(&w, "$$order-1", EVENT_TYPE_METADATA, "{\"$tb\":15}");
        append(&w, "order-1", "Paid", 2);
        consumer_drain(&w, &reading);
        assert_revisions(&reading, 0, 22);
        consumer_open(&w, &late, of_stream("order-1"));
        consumer_drain(&w, &late);
        assert_revisions(&late, 15, 7);
        consumer_close(&reading);
        consumer_close(&late);
        world_end(&w);
}

TEST(truncation, a_limit_of_count_hides_history_but_nothing_that_comes)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 20);
        append_data(&w, "$$order-1", EVENT_TYPE_METADATA, "{\"$maxCount\":3}");
        consumer_open(&w, &c, of_stream("order-1"));
        consumer_drain(&w, &c);
        assert_revisions(&c, 17, 3);
        append(&w, "order-1", "Paid", 10);
        consumer_drain(&w, &c);
        assert_revisions(&c, 17, 13);
        consumer_close(&c);
        world_end(&w);
}

TEST(metadata, a_metastream_can_be_followed)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        append(&w, "order-1", "Placed", 1);
        consumer_open(&w, &c, of_stream("$$order-1"));
        consumer_drain(&w, &c);
        append_data(&w, "$$order-1", EVENT_TYPE_METADATA, "{\"$maxCount\":3}");
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 1);
        delete_stream(&w, "order-1", false);
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 2);
        consumer_close(&c);
        world_end(&w);
}

/* ---- links ---- */

TEST(link, comes_with_its_target_in_history_and_live)
{
        struct world w;
        struct consumer c = {0};
        struct subscription_options o = of_stream("links");

        begin(&w);
        append(&w, "order-1", "Placed", 2);
        append_data(&w, "links", EVENT_TYPE_LINK, "1@order-1");
        o.resolve_links = true;
        consumer_open(&w, &c, o);
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 1); /* the link's own number */
        assert_true(c.has_link);
        assert_true(c.has_event);
        assert_string_equal(c.stream, "order-1");
        append_data(&w, "links", EVENT_TYPE_LINK, "7@order-1"); /* no such event */
        consumer_drain(&w, &c);
        assert_revisions(&c, 0, 2);
        assert_true(c.has_link);
        assert_false(c.has_event);
        append_data(&w, "links", EVENT_TYPE_LINK, "0@order-1");
        consumer_drain(&w, &c);
        assert_true(c.has_event);
        assert_revisions(&c, 0, 3);
        consumer_close(&c);
        world_end(&w);
}

/* ---- slow consumers, lost facts, damage ---- */

TEST(slow, an_unread_subscription_never_holds_up_appends)
{
        struct world w;
        struct consumer slow = {0}, fast = {0};

        begin(&w);
        consumer_open(&w, &slow, (struct subscription_options){.from = FROM_START});
        consumer_open(&w, &fast, (struct subscription_options){.from = FROM_START});
        fast.is_eager = true;
        consumer_drain(&w, &fast);
        for (unsigned i = 0; i < 100; i++)
                append(&w, "order-1", "Paid", 200); /* each is waited for, and nobody reads `slow` */
        assert_int_equal(slow.count, 0);
        world_run(&w);
        assert_int_equal(fast.event_count, store_next_position(w.store));
        consumer_drain(&w, &slow);
        assert_int_equal(slow.event_count, store_next_position(w.store));
        consumer_close(&slow);
        consumer_close(&fast);
        world_end(&w);
}

TEST(lost_facts, do_not_stall_a_subscription)
{
        struct world w;
        struct consumer one = {0}, all = {0};
        struct control_stats stats;

        world_begin(&w, &(struct world_options){.seed = 5, .ring_facts = 64});
        consumer_open(&w, &one, of_stream("order-1"));
        consumer_open(&w, &all, (struct subscription_options){.from = FROM_END});
        consumer_drain(&w, &one);
        consumer_drain(&w, &all);
        /* One turn: the fact that matters is overrun by those of others. */
        append_later(&w, "order-1", "Placed", 1);
        for (unsigned i = 0; i < 500; i++)
                append_later(&w, "invoice-1", "Sent", 1);
        wait_for_appends(&w);
        world_run(&w);
        control_stats(w.control, &stats);
        assert_true(stats.missed_by_watchers > 0);
        assert_true(one.readable_count > 0);
        consumer_drain(&w, &one);
        consumer_drain(&w, &all);
        assert_revisions(&one, 0, 1);
        assert_int_equal(all.event_count, 501);
        consumer_close(&one);
        consumer_close(&all);
        world_end(&w);
}

static int keep_first_segment(void *arg, const char *name, bool is_dir)
{
        char *ret = arg;
        size_t size = strlen(name);

        if (is_dir || size < 4 || strcmp(name + size - 4, ".seg") != 0)
                return 0;
        snprintf(ret, 64, "%s", name);
        return 1;
}

TEST(damage, ends_the_subscription_that_meets_it_and_no_other)
{
        struct world w;
        struct consumer meets = {0}, misses = {0};
        char path[512], name[64] = "";

        world_begin(&w, &(struct world_options){.seed = 3, .segment_events_max = 100});
        for (unsigned i = 0; i < 100; i++)
                append(&w, "order-1", "Placed", 10);
        world_run(&w);
        snprintf(path, sizeof path, "%s/log", persistence_store_path(store_persistence(w.store)));
        assert_int_equal(os_dir_list(w.os, path, keep_first_segment, name), 1);
        snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", name);
        assert_int_equal(os_sim_flip_bit(w.os, path, 8 * 6000), 0);
        consumer_open(&w, &meets, (struct subscription_options){.from = FROM_START});
        consumer_open(&w, &misses, behind("", 500));
        consumer_drain(&w, &meets);
        consumer_drain(&w, &misses);
        assert_int_equal(meets.outcome, SUBSCRIPTION_CORRUPT);
        assert_true(meets.event_count < 200);
        assert_int_equal(consumer_marks(&meets, ITEM_CAUGHT_UP), 0);
        assert_int_equal(misses.event_count, store_next_position(w.store) - 501);
        append(&w, "order-1", "Placed", 1);
        consumer_drain(&w, &misses);
        assert_int_equal(misses.event_count, store_next_position(w.store) - 501);
        consumer_close(&meets);
        consumer_close(&misses);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(catch_up, history_comes_before_live_with_one_mark_between),
                TEST_ROW(catch_up, caught_up_tells_the_end_that_was_seen_not_what_came_since),
                TEST_ROW(catch_up, who_falls_behind_goes_on_from_the_log_and_is_not_told_twice),
                TEST_ROW(start, from_the_end_gives_only_what_comes),
                TEST_ROW(start, a_number_is_exclusive),
                TEST_ROW(start, a_position_behind_the_log_is_refused),
                TEST_ROW(start, a_revision_that_does_not_exist_yet_is_waited_for),
                TEST_ROW(start, an_absent_stream_is_waited_for),
                TEST_ROW(filter, checkpoints_let_a_reader_resume_without_gap_or_repeat),
                TEST_ROW(filter, a_long_run_without_a_match_yields_and_gives_checkpoints),
                TEST_ROW(filter, a_costly_pattern_ends_with_its_own_outcome),
                TEST_ROW(deletion, a_tombstone_ends_the_subscription_after_the_last_event),
                TEST_ROW(deletion, a_soft_deleted_stream_goes_on_when_it_is_revived),
                TEST_ROW(truncation, what_was_hidden_at_the_start_stays_hidden_and_nothing_new_is),
                TEST_ROW(truncation, a_limit_of_count_hides_history_but_nothing_that_comes),
                TEST_ROW(metadata, a_metastream_can_be_followed),
                TEST_ROW(link, comes_with_its_target_in_history_and_live),
                TEST_ROW(slow, an_unread_subscription_never_holds_up_appends),
                TEST_ROW(lost_facts, do_not_stall_a_subscription),
        };
        const struct CMUnitTest with_faults[] = {
                TEST_ROW(damage, ends_the_subscription_that_meets_it_and_no_other),
        };

        int failed = cmocka_run_group_tests_name("on the simulated machine", tests, NULL, NULL);

        failed += cmocka_run_group_tests_name("with faults", with_faults, NULL, NULL);
        is_on_memory_machine = true;
        return failed +
               cmocka_run_group_tests_name("on the machine with its disk in memory", tests, NULL, NULL);
}
