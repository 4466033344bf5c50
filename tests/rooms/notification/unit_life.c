/* Life and limits: stopping, closing from anywhere, how many there may be and what idle ones cost (G18), the
 * leader's duties and their facts, workers that fail. */
#include <malloc.h>

#include "notification/room.h"
#include "support.h"

static void begin(struct world *w)
{
        world_begin(w, &(struct world_options){.seed = 21});
}

static struct subscription_options of_stream(const char *stream)
{
        return (struct subscription_options){.stream = bytes_of_string(stream)};
}

/* ---- stop and close ---- */

TEST(stop, wakes_every_waiting_consumer_and_ends_it)
{
        struct world w;
        struct consumer one = {0}, all = {0}, reading = {0}, late = {0};
        struct subscription_options filtered = {.from = FROM_START};
        struct subscription_item item;

        begin(&w);
        append(&w, "order-1", "Placed", 5);
        consumer_open(&w, &one, of_stream("order-1"));
        consumer_open(&w, &all, (struct subscription_options){0});
        consumer_open(&w, &reading, of_stream("order-1"));
        consumer_drain(&w, &one);
        consumer_drain(&w, &all);
        consumer_pull(&reading, 2);
        notification_stop(w.notification);
        notification_stop(w.notification); /* twice is once */
        assert_int_equal(one.readable_count, 1);
        assert_int_equal(all.readable_count, 1);
        assert_int_equal(subscription_next(one.subscription, &item), SUBSCRIPTION_STOPPED);
        assert_int_equal(subscription_next(all.subscription, &item), SUBSCRIPTION_STOPPED);
        assert_int_equal(subscription_next(reading.subscription, &item), SUBSCRIPTION_STOPPED);
        filtered.filter = filter_of_prefix(FILTER_TYPE, "P"); /* is taken also now */
        assert_int_equal(consumer_try(&w, &late, filtered), SUBSCRIPTION_STOPPED);
        consumer_close(&one);
        consumer_close(&all);
        consumer_close(&reading);
        world_end(&w);
}

TEST(close, of_nothing_is_fine)
{
        struct subscription *none = NULL;
        struct notification *no_room = NULL;

        subscription_close(&none);
        notification_free(&no_room);
}

TEST(close, while_it_waits_forgets_the_wait)
{
        struct world w;
        struct consumer c = {0}, other = {0};

        begin(&w);
        consumer_open(&w, &c, of_stream("order-1"));
        consumer_open(&w, &other, of_stream("order-1"));
        consumer_drain(&w, &c);
        consumer_drain(&w, &other);
        append_later(&w, "order-1", "Placed", 1);
        consumer_close(&c); /* the news is under way */
        wait_for_appends(&w);
        consumer_drain(&w, &other);
        assert_int_equal(other.event_count, 1);
        consumer_close(&other);
        world_end(&w);
}

TEST(close, while_it_waits_for_the_disk)
{
        struct world w;
        struct consumer c = {0};

        world_begin(&w, &(struct world_options){.seed = 8, .segment_events_max = 50, .reads_are_cold = true});
        for (unsigned i = 0; i < 40; i++)
                append(&w, "order-1", "Placed", 10);
        world_run(&w);
        for (unsigned i = 0; i < 20; i++) {
                consumer_open(&w, &c, of_stream("order-1"));
                consumer_pull(&c, 20 + i);
                consumer_close(&c);
        }
        world_run(&w);
        world_end(&w);
}

/* Closes a list of consumers, itself among them, from inside its on_readable. */
struct closer {
        struct consumer *consumers;
        unsigned count;
        unsigned calls;
};

static void close_all_on_readable(void *arg)
{
        struct closer *closer = arg;

        closer->calls++;
        for (unsigned i = 0; i < closer->count; i++)
                subscription_close(&closer->consumers[i].subscription);
}

TEST(close, from_inside_on_readable_of_itself_and_of_others)
{
        struct world w;
        struct consumer consumers[5] = {0};
        struct closer closer = {consumers, COUNT_OF(consumers), 0};
        struct subscription_item item;

        begin(&w);
        for (unsigned i = 0; i < COUNT_OF(consumers); i++) {
                struct subscription_options o = of_stream(i % 2 ? "order-1" : "");

                o.on_readable = close_all_on_readable;
                o.arg = &closer;
                o.from = FROM_END;
                assert_int_equal(subscription_open(w.notification, &o, &consumers[i].subscription), 0);
                assert_int_equal(subscription_next(consumers[i].subscription, &item), 0); /* caught up */
                assert_int_equal(subscription_next(consumers[i].subscription, &item), SUBSCRIPTION_WAIT);
        }
        append(&w, "order-1", "Placed", 1);
        world_run(&w);
        assert_int_equal(closer.calls, 1);
        world_end(&w);
}

static void stop_on_readable(void *arg)
{
        notification_stop(arg);
}

TEST(stop, from_inside_on_readable)
{
        struct world w;
        struct consumer last = {0};
        struct subscription *stopper;
        struct subscription_options o = of_stream("order-1");
        struct subscription_item item;

        begin(&w);
        o.on_readable = stop_on_readable;
        o.arg = w.notification;
        assert_int_equal(subscription_open(w.notification, &o, &stopper), 0);
        assert_int_equal(subscription_next(stopper, &item), 0);
        assert_int_equal(subscription_next(stopper, &item), SUBSCRIPTION_WAIT);
        consumer_open(&w, &last, of_stream("order-1"));
        consumer_drain(&w, &last);
        append(&w, "order-1", "Placed", 1);
        world_run(&w);
        assert_int_equal(last.readable_count, 1);
        assert_int_equal(subscription_next(last.subscription, &item), SUBSCRIPTION_STOPPED);
        subscription_close(&stopper);
        consumer_close(&last);
        world_end(&w);
}

/* ---- limits and costs ---- */

TEST(limit, one_more_is_refused_and_room_is_given_back)
{
        struct world w;
        struct consumer a = {0}, b = {0}, c = {0};
        struct subscription_options filtered = {.from = FROM_START};
        struct notification_stats stats;

        world_begin(&w, &(struct world_options){.seed = 2, .subscriptions_max = 2});
        consumer_open(&w, &a, of_stream("order-1"));
        consumer_open(&w, &b, (struct subscription_options){0});
        filtered.filter = filter_of_prefix(FILTER_TYPE, "P");
        assert_int_equal(consumer_try(&w, &c, filtered), SUBSCRIPTION_LIMIT);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.subscriptions, 2);
        consumer_close(&a);
        consumer_open(&w, &c, of_stream("order-2"));
        consumer_close(&b);
        consumer_close(&c);
        world_end(&w);
}

enum { IDLE = 10000 };

TEST(idle, ten_thousand_cost_little_memory_and_no_time_of_other_streams)
{
        struct world w;
        struct consumer *idle = memory_new_array(IDLE, sizeof *idle);
        struct notification_stats stats;
        struct control_stats before, after;
        size_t used;
        unsigned woken = 0;

        begin(&w);
        append(&w, "order-7", "Placed", 100);
        used = mallinfo2().uordblks;
        for (unsigned i = 0; i < IDLE; i++) {
                char name[32];

                snprintf(name, sizeof name, "order-%u", i);
                consumer_open(&w, &idle[i], of_stream(name));
                consumer_pull(&idle[i], 200);
        }
        world_run(&w);
        assert_int_equal(consumer_try(&w, &(struct consumer){0}, of_stream("one-more")), SUBSCRIPTION_LIMIT);
        used = mallinfo2().uordblks - used;
        print_message("%u idle subscriptions: %zu bytes each, with what this test writes down\n", IDLE,
                used / IDLE);
        if (used) /* a sanitizer's allocator does not count */
                assert_true(used / IDLE < 4608);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.subscriptions, IDLE);
        assert_int_equal(stats.subscriptions_live, IDLE);
        assert_int_equal(stats.delivered, 100);

        control_stats(w.control, &before);
        for (unsigned i = 0; i < 1000; i++)
                append(&w, "order-7", "Paid", 1);
        world_run(&w);
        control_stats(w.control, &after);
        for (unsigned i = 0; i < IDLE; i++)
                woken += idle[i].readable_count;
        assert_int_equal(woken, 1); /* the one of that stream, which has not asked since */
        assert_int_equal(idle[7].readable_count, 1);
        assert_int_equal(after.published_by_type[FACT_notification_triggered] -
                                 before.published_by_type[FACT_notification_triggered],
                1);
        for (unsigned i = 0; i < IDLE; i++)
                consumer_close(&idle[i]);
        free(idle);
        world_end(&w);
}

TEST(idle, nobody_waiting_means_nobody_watches_the_bus)
{
        struct world w;
        struct consumer c = {0};
        struct control_stats stats;
        uint32_t without;

        begin(&w);
        control_stats(w.control, &stats);
        without = stats.watchers;
        consumer_open(&w, &c, of_stream("order-1"));
        consumer_drain(&w, &c);
        control_stats(w.control, &stats);
        assert_int_equal(stats.watchers, without + 1);
        append(&w, "order-1", "Placed", 1);
        world_run(&w);
        control_stats(w.control, &stats);
        assert_int_equal(stats.watchers, without);
        consumer_close(&c);
        world_end(&w);
}

TEST(stats, lag_counts_from_where_a_subscription_is)
{
        struct world w;
        struct consumer c = {0};
        struct notification_stats stats;

        begin(&w);
        append(&w, "order-1", "Placed", 50);
        consumer_open(&w, &c, (struct subscription_options){.from = FROM_END});
        consumer_drain(&w, &c);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.max_lag_events, 0);
        append(&w, "order-1", "Placed", 5);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.max_lag_events, 5);
        consumer_pull(&c, 2);
        world_run(&w);
        consumer_pull(&c, 2);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.max_lag_events, 3);
        consumer_close(&c);
        world_end(&w);
}

/* ---- the leader's duties ---- */

struct chain {
        struct control_watcher watcher;
        enum fact_type types[64];
        unsigned count;
};

static void note_chain(struct control_watcher *watcher)
{
        struct chain *chain = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed))
                if (chain->count < COUNT_OF(chain->types))
                        chain->types[chain->count++] = (enum fact_type)fact.type;
}

static void watch_chain(struct world *w, struct chain *chain, unsigned categories)
{
        *chain = (struct chain){
                .watcher = {.on_facts = note_chain, .categories = categories, .level = LEVEL_TRACE}};
        chain->watcher.arg = chain;
        control_watch(w->control, &chain->watcher, true);
}

static void assert_chain(
        const struct chain *chain, unsigned first, const enum fact_type *types, unsigned count)
{
        assert_int_equal(chain->count, first + count);
        for (unsigned i = 0; i < count; i++)
                assert_string_equal(
                        fact_describe(chain->types[first + i])->name, fact_describe(types[i])->name);
}

static const enum fact_type assumed[] = {
        FACT_leader_changed,
        FACT_leader_changed_received,
        FACT_leader_responsibilities_assumed,
        FACT_leadership_duties_starting,
        FACT_subscriptions_loaded,
        FACT_emitter_pools_starting,
        FACT_leadership_duties_assumed,
};

static bool has_duties(struct world *w)
{
        struct notification_stats stats;

        notification_stats(w->notification, &stats);
        return stats.has_duties;
}

TEST(leader, takes_up_its_duties_in_the_order_of_the_chain)
{
        struct world w;
        struct chain chain;

        begin(&w);
        watch_chain(&w, &chain, 1u << CATEGORY_LEADERSHIP);
        world_run(&w);
        assert_chain(&chain, 0, assumed, COUNT_OF(assumed));
        assert_true(has_duties(&w));
        notification_stop(w.notification);
        assert_false(has_duties(&w));
        world_run(&w);
        assert_chain(&chain, COUNT_OF(assumed), (enum fact_type[]){FACT_leader_stepping_down}, 1);
        control_unwatch(&chain.watcher);
        world_end(&w);
}

TEST(leader, that_was_elected_long_ago_is_found_without_its_fact)
{
        struct world w;
        struct chain chain;

        world_begin(&w, &(struct world_options){.seed = 4, .ring_facts = 64, .without_notification = true});
        for (unsigned i = 0; i < 200; i++)
                append(&w, "order-1", "Placed", 1);
        watch_chain(&w, &chain, 1u << CATEGORY_LEADERSHIP);
        world_run(&w);
        chain.count = 0;
        world_notify(&w, 0);
        world_run(&w);
        assert_chain(&chain, 0, assumed + 1, COUNT_OF(assumed) - 1);
        assert_true(has_duties(&w));
        control_unwatch(&chain.watcher);
        world_end(&w);
}

TEST(leader, of_an_older_term_changes_nothing)
{
        struct world w;
        struct chain chain;

        begin(&w);
        watch_chain(&w, &chain, 1u << CATEGORY_LEADERSHIP);
        world_run(&w);
        control_publish(
                w.control, FACT_leader_changed, &(struct fact_payload){.node_id = 99}); /* this term again */
        world_run(&w);
        assert_int_equal(chain.count, COUNT_OF(assumed) + 1);
        assert_true(has_duties(&w));
        control_unwatch(&chain.watcher);
        world_end(&w);
}

/* A leader that is cut off: no other is known, and its term goes on (G11). */
TEST(leader, that_is_lost_gives_up_its_duties_in_the_same_term)
{
        struct world w;
        struct chain chain;

        begin(&w);
        watch_chain(&w, &chain, 1u << CATEGORY_LEADERSHIP);
        world_run(&w);
        chain.count = 0;
        control_publish(w.control, FACT_leader_lost, &(struct fact_payload){0});
        world_run(&w);
        assert_chain(&chain, 0, (enum fact_type[]){FACT_leader_lost, FACT_leader_stepping_down}, 2);
        assert_false(has_duties(&w));
        control_publish(w.control, FACT_leader_lost, &(struct fact_payload){0});
        world_run(&w);
        assert_int_equal(chain.count, 3); /* there is nothing more to give up */
        control_unwatch(&chain.watcher);
        world_end(&w);
}

TEST(leader, that_was_lost_in_an_older_term_keeps_the_duties_of_this_one)
{
        struct world w;
        struct store_stats stats;

        begin(&w);
        world_run(&w);
        store_stats(w.store, &stats);
        control_set_term(w.control, stats.term - 1);
        control_publish(w.control, FACT_leader_lost, &(struct fact_payload){0});
        control_set_term(w.control, stats.term);
        world_run(&w);
        assert_true(has_duties(&w));
        world_end(&w);
}

TEST(leader, elsewhere_means_no_duties_here)
{
        struct world w;
        struct chain chain;

        begin(&w);
        watch_chain(&w, &chain, 1u << CATEGORY_LEADERSHIP);
        world_run(&w);
        chain.count = 0;
        control_set_term(w.control, 1000);
        control_publish(w.control, FACT_leader_changed, &(struct fact_payload){.node_id = 99});
        world_run(&w);
        assert_chain(&chain, 0,
                (enum fact_type[]){
                        FACT_leader_changed, FACT_leader_changed_received, FACT_leader_stepping_down},
                3);
        assert_false(has_duties(&w));
        control_unwatch(&chain.watcher);
        world_end(&w);
}

TEST(facts, tell_of_a_write_that_it_reached_subscribers)
{
        struct world w;
        struct consumer a = {0}, b = {0};
        struct control_stats stats;

        begin(&w);
        consumer_open(&w, &a, of_stream("order-1"));
        consumer_open(&w, &b, (struct subscription_options){.from = FROM_END});
        consumer_drain(&w, &a);
        consumer_drain(&w, &b);
        append(&w, "order-1", "Placed", 1);
        world_run(&w);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_notification_triggered], 1);
        assert_int_equal(stats.published_by_type[FACT_subscription_caught_up], 2);
        consumer_close(&a);
        consumer_close(&b);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_subscription_ended], 2);
        world_end(&w);
}

/* ---- workers that fail ---- */

static void check_failure_of(const char *worker, unsigned restarted)
{
        struct world w;
        struct consumer waiting = {0}, late = {0};
        struct control_stats stats;

        begin(&w);
        consumer_open(&w, &waiting, of_stream("order-1"));
        consumer_open(&w, &late, of_stream("order-1"));
        consumer_drain(&w, &waiting);
        supervisor_failed(w.notification->supervisor, worker, "a test says so");
        append(&w, "order-1", "Placed", 1); /* its news falls into the gap */
        consumer_pull(&late, 10);           /* begins to wait in the gap, or behind it */
        world_run(&w);
        os_sim_run_for(w.os, 5 * 1000000);
        consumer_drain(&w, &waiting);
        consumer_drain(&w, &late);
        assert_int_equal(waiting.event_count, 1);
        assert_int_equal(late.event_count, 1);
        append(&w, "order-1", "Paid", 1);
        consumer_drain(&w, &waiting);
        consumer_drain(&w, &late);
        assert_int_equal(waiting.event_count, 2);
        assert_int_equal(late.event_count, 2);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_worker_failed], 1);
        assert_int_equal(stats.published_by_type[FACT_worker_restarted], restarted);
        assert_true(has_duties(&w));
        consumer_close(&waiting);
        consumer_close(&late);
        world_end(&w);
}

TEST(supervision, a_failed_match_index_is_restarted_and_nothing_is_skipped)
{
        check_failure_of("match_index", 2); /* and what looks through history, which comes after it */
}

TEST(supervision, a_failed_leader_tracker_takes_the_indexes_along_and_finds_its_duties_again)
{
        check_failure_of("leader_tracker", 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(stop, wakes_every_waiting_consumer_and_ends_it),
                TEST_ROW(stop, from_inside_on_readable),
                TEST_ROW(close, of_nothing_is_fine),
                TEST_ROW(close, while_it_waits_forgets_the_wait),
                TEST_ROW(close, while_it_waits_for_the_disk),
                TEST_ROW(close, from_inside_on_readable_of_itself_and_of_others),
                TEST_ROW(limit, one_more_is_refused_and_room_is_given_back),
                TEST_ROW(idle, ten_thousand_cost_little_memory_and_no_time_of_other_streams),
                TEST_ROW(idle, nobody_waiting_means_nobody_watches_the_bus),
                TEST_ROW(stats, lag_counts_from_where_a_subscription_is),
                TEST_ROW(leader, takes_up_its_duties_in_the_order_of_the_chain),
                TEST_ROW(leader, that_was_elected_long_ago_is_found_without_its_fact),
                TEST_ROW(leader, of_an_older_term_changes_nothing),
                TEST_ROW(leader, that_is_lost_gives_up_its_duties_in_the_same_term),
                TEST_ROW(leader, that_was_lost_in_an_older_term_keeps_the_duties_of_this_one),
                TEST_ROW(leader, elsewhere_means_no_duties_here),
                TEST_ROW(facts, tell_of_a_write_that_it_reached_subscribers),
                TEST_ROW(supervision, a_failed_match_index_is_restarted_and_nothing_is_skipped),
                TEST_ROW(supervision,
                        a_failed_leader_tracker_takes_the_indexes_along_and_finds_its_duties_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
