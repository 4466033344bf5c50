/* The match index: whoever waits is told of the first committed event that its selection selects, and of no
 * other; equal selections share a match; what it cannot see it does not hide (G10). */
#include "support.h"

struct waiter {
        struct notification_wait wait;
        struct world *w;
        uint64_t since;
        uint64_t told_at;
        unsigned told;
        bool waits_again;    /* from inside on_match */
        struct waiter *ends; /* from inside on_match */
};

static void on_match(struct notification_wait *wait, uint64_t position)
{
        struct waiter *x = wait->arg;

        assert_false(wait->is_waiting);
        x->told++;
        x->told_at = position;
        if (x->ends)
                notification_wait_end(&x->ends->wait);
        if (x->waits_again) {
                x->since = store_next_position(x->w->store);
                notification_wait(x->w->notification, wait, x->since);
        }
}

static struct selector *select_by(const char *json)
{
        struct selector *s = NULL;
        char why[256];

        if (selector_parse(bytes_of_string(json), &s, why, sizeof why) != 0)
                fail_msg("%s: %s", json, why);
        return s;
}

static void begin_to_wait(struct world *w, struct waiter *x)
{
        x->since = store_next_position(w->store);
        notification_wait(w->notification, &x->wait, x->since);
}

static void waiter_begin(struct world *w, struct waiter *x, const char *json)
{
        *x = (struct waiter){.w = w, .wait = {.selector = select_by(json), .on_match = on_match}};
        x->wait.arg = x;
        begin_to_wait(w, x);
}

static void waiter_end(struct waiter *x)
{
        notification_wait_end(&x->wait);
        notification_wait_end(&x->wait); /* twice is once */
        selector_free(&x->wait.selector);
}

static void begin(struct world *w)
{
        world_begin(w, &(struct world_options){.seed = 41});
}

TEST(wait, is_told_once_of_what_it_selects_and_of_nothing_else)
{
        static const struct {
                const char *json;
                const char *stream;
                const char *type;
                const char *data;
        } table[] = {
                {"{\"kind\":\"all\"}", "x", "X", "{}"},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", "order-1", "X", "{}"},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\",\"cart\"]}", "cart", "X", "{}"},
                {"{\"kind\":\"type\",\"types\":[\"Paid\",\"Placed\"]}", "x", "Paid", "{}"},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"Pa\",\"Pl\"]}", "x", "Placed",
                        "{}"},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"-[0-9]$\"}", "order-1", "X", "{}"},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-[0-9]$\"}", "order-1", "X",
                        "{}"},
                {"{\"kind\":\"pattern\",\"match\":{\"stream\":\"order-1\",\"data\":{\"n\":1}}}", "order-1",
                        "X", "{\"n\":1}"},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"Paid\",\"data\":{\"n\":1}}}", "x", "Paid",
                        "{\"n\":1}"},
                {"{\"kind\":\"payload\",\"match\":{\"n\":1}}", "x", "X", "{\"n\":1.0}"},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct world w;
                struct waiter x;

                begin(&w);
                append_data(&w, table[i].stream, bytes_of_string(table[i].type),
                        table[i].data); /* before it waits */
                world_run(&w);
                waiter_begin(&w, &x, table[i].json);
                world_run(&w);
                if (i) { /* nothing is not selected by everything */
                        append_data(&w, "other", BYTES_LITERAL("Other"), "{\"n\":2}");
                        append_data(&w, "order-12", BYTES_LITERAL("P"), "{}");
                        if (i != 2)
                                append_data(&w, "order-2x", BYTES_LITERAL("X"), "{\"m\":1}");
                        world_run(&w);
                        assert_int_equal(x.told, i == 2); /* the prefix is of order-12 too */
                        if (i == 2)
                                begin_to_wait(&w, &x);
                        x.told = 0;
                }
                append_data(&w, table[i].stream, bytes_of_string(table[i].type), table[i].data);
                append_data(&w, table[i].stream, bytes_of_string(table[i].type), table[i].data);
                world_run(&w);
                if (x.told != 1)
                        fail_msg("row %u", i);
                assert_int_equal(x.told_at, store_next_position(w.store) - 2);
                waiter_end(&x);
                append_data(&w, table[i].stream, bytes_of_string(table[i].type), table[i].data);
                world_run(&w);
                assert_int_equal(x.told, 1);
                world_end(&w);
        }
}

/* A stream's fact goes before that of its metastream, whose event may be the first. */
TEST(wait, for_everything_misses_no_event_of_an_append_over_streams)
{
        struct world w;
        struct waiter all, second;
        struct consumer c = {0};
        struct store_append_stream to[2] = {
                {BYTES_LITERAL("a"), {.kind = EXPECTED_ANY}}, {BYTES_LITERAL("$$a"), {.kind = EXPECTED_ANY}}};
        struct store_append_event events[2] = {{.stream = 1}, {.stream = 0}};
        struct store_append append = {.streams = to, .stream_count = 2, .events = events, .event_count = 2};
        uint64_t base;

        begin(&w);
        base = store_next_position(w.store);
        waiter_begin(&w, &all, "{\"kind\":\"all\"}");
        waiter_begin(&w, &second, "{\"kind\":\"stream\",\"stream\":\"a\"}");
        consumer_open(&w, &c, (struct subscription_options){.from = FROM_END});
        consumer_drain(&w, &c);
        for (unsigned i = 0; i < COUNT_OF(events); i++)
                world_draft(&w, &events[i].draft, i ? BYTES_LITERAL("T") : EVENT_TYPE_METADATA,
                        BYTES_LITERAL("{}"));
        w.appends_asked++;
        store_append(w.store, &append, world_appended, &w);
        os_turn_again(w.os);
        wait_for_appends(&w);
        assert_int_equal(w.verdict, STORE_OK);
        consumer_drain(&w, &c);
        assert_int_equal(all.told_at, base);
        assert_int_equal(second.told_at, base + 1);
        assert_int_equal(c.event_count, 2);
        consumer_close(&c);
        waiter_end(&all);
        waiter_end(&second);
        world_end(&w);
}

TEST(wait, that_begins_behind_the_end_is_told_to_look)
{
        struct world w;
        struct waiter x;

        begin(&w);
        append(&w, "a", "A", 10);
        waiter_begin(&w, &x, "{\"kind\":\"stream\",\"stream\":\"b\"}");
        notification_wait(w.notification, &x.wait, 4);
        assert_int_equal(x.told, 0); /* never from inside */
        world_run(&w);
        assert_int_equal(x.told, 1);
        assert_int_equal(x.told_at, 4);
        world_run(&w);
        assert_int_equal(x.told, 1);
        waiter_end(&x);
        world_end(&w);
}

TEST(wait, is_told_when_the_log_reaches_a_position)
{
        static const char *const kinds[] = {"{\"kind\":\"stream\",\"stream\":\"b\"}",
                "{\"kind\":\"type\",\"types\":[\"B\"]}", "{\"kind\":\"payload\",\"match\":{\"b\":1}}"};

        for (unsigned k = 0; k < COUNT_OF(kinds); k++) {
                struct world w;
                struct waiter x[40];

                begin(&w);
                append(&w, "a", "A", 10);
                for (unsigned i = 0; i < COUNT_OF(x); i++) {
                        x[i] = (struct waiter){
                                .w = &w, .wait = {.selector = select_by(kinds[k]), .on_match = on_match}};
                        x[i].wait.arg = &x[i];
                        x[i].wait.look_at = 11 + (i * 7) % COUNT_OF(x);
                        begin_to_wait(&w, &x[i]);
                }
                notification_wait_end(&x[3].wait);
                for (unsigned n = 0; n < 25; n++) {
                        append(&w, "a", "A", 1);
                        world_run(&w);
                        for (unsigned i = 0; i < COUNT_OF(x); i++) {
                                assert_int_equal(x[i].told,
                                        i != 3 && x[i].wait.look_at <= store_next_position(w.store));
                                assert_true(x[i].told_at <= store_next_position(w.store));
                        }
                }
                for (unsigned i = 0; i < COUNT_OF(x); i++)
                        waiter_end(&x[i]);
                world_end(&w);
        }
}

TEST(wait, may_begin_and_end_from_inside)
{
        struct world w;
        struct waiter a, b, c;

        begin(&w);
        waiter_begin(&w, &a, "{\"kind\":\"type\",\"types\":[\"A\"]}");
        waiter_begin(&w, &b, "{\"kind\":\"prefix\",\"prefixes\":[\"a\"]}");
        waiter_begin(&w, &c, "{\"kind\":\"type\",\"types\":[\"A\"]}");
        a.waits_again = true;
        a.ends = &b; /* which the same event concerns */
        c.ends = &c;
        append(&w, "a", "A", 1);
        world_run(&w);
        assert_int_equal(a.told, 1);
        assert_int_equal(b.told, 0);
        assert_int_equal(c.told, 1);
        append(&w, "a", "A", 3);
        world_run(&w);
        assert_int_equal(a.told, 2);
        assert_int_equal(b.told, 0);
        assert_int_equal(c.told, 1);
        waiter_end(&a);
        waiter_end(&b);
        waiter_end(&c);
        world_end(&w);
}

TEST(wait, with_an_equal_selection_outlives_the_one_that_came_first)
{
        struct world w;
        struct waiter x[3];

        begin(&w);
        waiter_begin(&w, &x[0], "{\"kind\":\"payload\",\"match\":{\"a\":1,\"b\":2}}");
        waiter_begin(&w, &x[1], "{\"kind\":\"payload\",\"match\":{\"b\":2.0,\"a\":10e-1}}");
        waiter_begin(&w, &x[2], "{\"kind\":\"payload\",\"match\":{\"b\":2,\"a\":1}}");
        waiter_end(&x[0]); /* its selection was the one that is matched */
        append_data(&w, "s", BYTES_LITERAL("T"), "{\"a\":1,\"b\":2}");
        world_run(&w);
        assert_int_equal(x[1].told, 1);
        assert_int_equal(x[2].told, 1);
        waiter_end(&x[2]);
        waiter_end(&x[1]);
        world_end(&w);
}

TEST(wait, is_told_to_look_where_the_log_is_not_in_memory)
{
        struct world w;
        struct waiter x, y;

        world_begin(&w, &(struct world_options){.seed = 42, .reads_are_cold = true});
        waiter_begin(&w, &x, "{\"kind\":\"type\",\"types\":[\"A\"]}");
        waiter_begin(&w, &y, "{\"kind\":\"payload\",\"match\":{\"a\":1}}");
        for (unsigned i = 0; i < 20; i++)
                append(&w, "s", "B", 5);
        world_run(&w);
        /* Whether it was cold is the machine's choice; told or not, nothing was hidden. */
        append(&w, "s", "A", 1);
        world_run(&w);
        assert_int_equal(x.told, 1);
        assert_true(x.told_at < store_next_position(w.store));
        waiter_end(&x);
        waiter_end(&y);
        world_end(&w);
}

TEST(wait, survives_facts_that_were_missed)
{
        struct world w;
        struct waiter stream, type, other;
        uint64_t base;

        world_begin(&w, &(struct world_options){.seed = 43, .ring_facts = 64});
        waiter_begin(&w, &stream, "{\"kind\":\"stream\",\"stream\":\"a-70\"}");
        waiter_begin(&w, &type, "{\"kind\":\"type\",\"types\":[\"A70\"]}");
        waiter_begin(&w, &other, "{\"kind\":\"type\",\"types\":[\"B\"]}");
        base = store_next_position(w.store);
        for (unsigned i = 0; i < 200; i++) {
                char name[16], kind[16];

                snprintf(name, sizeof name, "a-%u", i);
                snprintf(kind, sizeof kind, "A%u", i);
                append_later(&w, name, kind, 1);
        }
        wait_for_appends(&w);
        world_run(&w);
        assert_int_equal(stream.told, 1);
        assert_true(stream.told_at <= base + 70);
        assert_int_equal(type.told, 1);
        assert_int_equal(type.told_at, base + 70);
        assert_int_equal(other.told, 0);
        waiter_end(&stream);
        waiter_end(&type);
        waiter_end(&other);
        world_end(&w);
}

TEST(wait, of_many_is_told_in_bounded_turns)
{
        enum { MANY = 3500 };
        struct world w;
        struct waiter *x = memory_new_array(MANY, sizeof *x);
        unsigned told = 0, before = 0, turns = 0;

        begin(&w);
        for (unsigned i = 0; i < MANY; i++)
                waiter_begin(
                        &w, &x[i], i % 2 ? "{\"kind\":\"all\"}" : "{\"kind\":\"type\",\"types\":[\"A\"]}");
        append_later(&w, "a", "A", 1);
        for (unsigned i = 0; i < 1000 && told < MANY; i++) {
                os_sim_step(w.os);
                told = 0;
                for (unsigned k = 0; k < MANY; k++)
                        told += x[k].told;
                assert_true(told - before <= 1000);
                turns += told > before;
                before = told;
        }
        assert_int_equal(told, MANY);
        assert_true(turns >= 4);
        for (unsigned i = 0; i < MANY; i++)
                waiter_end(&x[i]);
        free(x);
        world_end(&w);
}

/* Different patterns without a key: more than one turn can match. */
TEST(wait, an_event_is_matched_over_several_turns_if_it_must)
{
        enum { MANY = 12000 };
        struct world w;
        uint64_t base;
        struct waiter *x = memory_new_array(MANY, sizeof *x);

        begin(&w);
        for (unsigned i = 0; i < MANY; i++) {
                char json[80];

                /* By so many places that most have no key. */
                snprintf(json, sizeof json, "{\"kind\":\"payload\",\"match\":{\"n\":%u,\"%u\":1}}", i, i);
                waiter_begin(&w, &x[i], json);
        }
        base = store_next_position(w.store);
        append_data(&w, "s", BYTES_LITERAL("T"), "{\"n\":11999,\"11999\":1}");
        append_data(&w, "s", BYTES_LITERAL("T"), "{\"n\":0,\"0\":1}");
        append_data(&w, "s", BYTES_LITERAL("T"), "{\"n\":6000,\"6000\":1}");
        notification_wait_end(&x[7].wait); /* in the middle */
        world_run(&w);
        for (unsigned i = 0; i < MANY; i++)
                assert_int_equal(x[i].told, i == 11999 || i == 0 || i == 6000);
        assert_int_equal(x[11999].told_at, base);
        assert_int_equal(x[0].told_at, base + 1);
        assert_int_equal(x[6000].told_at, base + 2);
        for (unsigned i = 0; i < MANY; i++)
                waiter_end(&x[i]);
        free(x);
        world_end(&w);
}

TEST(wait, outlives_the_room_as_one_that_is_not_known)
{
        struct world w;
        struct waiter x, y;

        begin(&w);
        waiter_begin(&w, &x, "{\"kind\":\"type\",\"types\":[\"A\"]}");
        waiter_begin(&w, &y, "{\"kind\":\"type\",\"types\":[\"A\"]}");
        world_end(&w);
        assert_int_equal(x.told, 1); /* the room stopped: it looks once more */
        waiter_end(&x);
        waiter_end(&y);
}

/* ---- catch-up subscriptions ---- */

TEST(subscription, with_a_filter_sleeps_through_what_does_not_match_and_is_told_its_checkpoints)
{
        struct world w;
        struct consumer with = {0}, without = {0};
        struct subscription_options o = {.from = FROM_START};
        struct got *mark;

        begin(&w);
        o.filter = filter_of_prefix(FILTER_STREAM, "order-");
        consumer_open(&w, &without, o);
        o.filter = filter_of_prefix(FILTER_STREAM, "order-");
        o.checkpoint_after = 10;
        consumer_open(&w, &with, o);
        consumer_drain(&w, &without);
        consumer_drain(&w, &with);
        with.readable_count = without.readable_count = 0;
        with.count = 0;
        for (unsigned i = 0; i < 25; i++) {
                append(&w, "cart-1", "Filled", 1);
                world_run(&w);
                consumer_pull(&with, 100);
        }
        consumer_drain(&w, &with);
        assert_int_equal(without.readable_count, 0);
        assert_int_equal(with.readable_count, 2);
        assert_int_equal(consumer_marks(&with, ITEM_CHECKPOINT), 2);
        assert_int_equal(with.event_count, 0);
        mark = &with.items[with.count - 1];
        assert_true(mark->position < store_next_position(w.store));
        assert_true(mark->position >= store_next_position(w.store) - 10);
        append(&w, "order-1", "Placed", 2);
        consumer_drain(&w, &with);
        consumer_drain(&w, &without);
        assert_int_equal(with.event_count, 2);
        assert_int_equal(without.event_count, 2);
        assert_int_equal(with.items[with.count - 1].position, store_next_position(w.store) - 1);
        consumer_close(&with);
        consumer_close(&without);
        world_end(&w);
}

/* What $maxCount hides was settled when the subscription began: what comes while it rests is all given (G10).
 */
TEST(subscription, that_rests_is_given_all_that_came_whatever_metadata_would_hide)
{
        struct world w;
        struct consumer c = {0};

        begin(&w);
        append_data(&w, "$$order-1", EVENT_TYPE_METADATA, "{\"$maxCount\":1}");
        append(&w, "order-1", "Placed", 3);
        consumer_open(&w, &c, (struct subscription_options){.stream = BYTES_LITERAL("order-1")});
        consumer_drain(&w, &c);
        assert_int_equal(c.event_count, 1);
        append(&w, "order-1", "Placed", 5);
        consumer_drain(&w, &c);
        assert_int_equal(c.event_count, 6);
        consumer_close(&c);
        world_end(&w);
}

struct seen {
        struct subscription_info info[4];
        char text[4][200];
        unsigned count;
        unsigned limit;
};

static bool note_info(void *arg, const struct subscription_info *info)
{
        struct seen *seen = arg;

        assert_true(seen->count < 4);
        snprintf(seen->text[seen->count], sizeof seen->text[0], "%.*s|%.*s|%.*s|%.*s", (int)info->stream.size,
                info->stream.data, (int)info->filter.size, info->filter.data, (int)info->name.size,
                info->name.data, (int)info->peer.size, info->peer.data);
        seen->info[seen->count++] = *info;
        return seen->count < seen->limit;
}

TEST(subscription, shows_who_it_is_and_how_far_behind)
{
        struct world w;
        struct consumer all = {0}, stream = {0}, filtered = {0};
        struct subscription_options o = {
                .from = FROM_START, .name = BYTES_LITERAL("app"), .peer = BYTES_LITERAL("[::1]:5")};
        struct seen seen = {.limit = 4};
        struct notification_stats stats;
        uint64_t base;

        begin(&w);
        append(&w, "order-1", "Placed", 20);
        base = store_next_position(w.store);
        consumer_open(&w, &all, o);
        consumer_open(&w, &stream, (struct subscription_options){.stream = BYTES_LITERAL("order-1")});
        o = (struct subscription_options){.from = FROM_END,
                .peer = BYTES_LITERAL("x"),
                .filter = filter_of_prefix(FILTER_TYPE, "Paid")};
        consumer_open(&w, &filtered, o);
        consumer_pull(&all, 3);
        consumer_pull(&stream, 5);
        consumer_drain(&w, &filtered);
        world_run_for(&w, 5 * 1000000);
        assert_int_equal(notification_each_subscription(w.notification, 0, note_info, &seen), 3);
        assert_string_equal(seen.text[0], "$all||app|[::1]:5");
        assert_string_equal(seen.text[1], "order-1|||");
        assert_string_equal(
                seen.text[2], "$all|{\"kind\":\"filter\",\"prefixes\":[\"Paid\"],\"target\":\"type\"}||x");
        assert_int_equal(seen.info[0].lag_events, base - 3);
        assert_int_equal(seen.info[0].position, 2);
        assert_int_equal(seen.info[0].delivered, 3);
        assert_false(seen.info[0].is_live);
        assert_true(seen.info[0].lag_us >= 5 * 1000000);
        assert_int_equal(seen.info[1].lag_events, 15);
        assert_int_equal(seen.info[1].position, 4);
        assert_true(seen.info[1].lag_us >= 5 * 1000000);
        assert_int_equal(seen.info[2].lag_events, 0);
        assert_int_equal(seen.info[2].lag_us, 0);
        assert_true(seen.info[2].is_live);
        notification_stats(w.notification, &stats);
        assert_int_equal(stats.max_lag_events, base - 3);
        assert_true(stats.max_lag_us >= 5 * 1000000);

        consumer_drain(&w, &all);
        consumer_drain(&w, &stream);
        append(&w, "order-1", "Placed", 7); /* of no interest to the third */
        world_run_for(&w, 3 * 1000000);
        seen.count = 0;
        assert_int_equal(notification_each_subscription(w.notification, 1, note_info, &seen), 2);
        assert_int_equal(seen.info[0].lag_events, 7);
        assert_true(seen.info[0].lag_us >= 2900000 && seen.info[0].lag_us <= 3200000);
        assert_int_equal(seen.info[1].lag_events, 0);
        consumer_drain(&w, &stream);
        seen = (struct seen){.limit = 2};
        assert_int_equal(notification_each_subscription(w.notification, 0, note_info, &seen),
                2); /* until it says no */
        assert_int_equal(seen.info[0].lag_events, 7);
        assert_int_equal(seen.info[1].lag_events, 0);
        assert_int_equal(seen.info[1].lag_us, 0);
        consumer_close(&all);
        consumer_close(&stream);
        consumer_close(&filtered);
        world_end(&w);
}

/* ---- by seeds ---- */

#ifdef __SANITIZE_THREAD__
enum { SEEDS = 20 };
#else
enum { SEEDS = 200 };
#endif
enum { WAITERS = 24, ACTIONS = 120 };

static const char *const streams[] = {"order-1", "order-2", "cart-1", "cart", "$x"};
static const char *const types[] = {"Placed", "Paid", "PaidTwice"};
static const char *const selections[] = {
        "{\"kind\":\"all\"}",
        "{\"kind\":\"stream\",\"stream\":\"order-1\"}",
        "{\"kind\":\"stream\",\"stream\":\"cart\"}",
        "{\"kind\":\"stream\",\"stream\":\"none\"}",
        "{\"kind\":\"prefix\",\"prefixes\":[\"order-\"]}",
        "{\"kind\":\"prefix\",\"prefixes\":[\"cart\",\"order-2\"]}",
        "{\"kind\":\"prefix\",\"prefixes\":[\"cart-\",\"c\"]}",
        "{\"kind\":\"type\",\"types\":[\"Paid\"]}",
        "{\"kind\":\"type\",\"types\":[\"Placed\",\"None\"]}",
        "{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"Paid\"]}",
        "{\"kind\":\"filter\",\"target\":\"stream\",\"prefixes\":[\"\"]}",
        "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^[^$]\"}",
        "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-[2-9]\"}",
        "{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"Twice$\"}",
        "{\"kind\":\"pattern\",\"match\":{\"stream\":\"order-2\",\"type\":\"Paid\"}}",
        "{\"kind\":\"pattern\",\"match\":{\"type\":\"Paid\",\"revision\":3}}",
        "{\"kind\":\"pattern\",\"match\":{\"revision\":2}}",
        "{\"kind\":\"payload\",\"match\":{\"n\":1}}",
        "{\"kind\":\"payload\",\"match\":{\"n\":2}}",
        "{\"kind\":\"payload\",\"match\":{\"m\":2}}",
        "{\"kind\":\"pattern\",\"match\":{\"revision\":1,\"data\":{\"n\":1}}}",
        "{\"kind\":\"pattern\",\"match\":{\"type\":\"Paid\",\"data\":{\"n\":1}}}",
};

/* The first selected event from `since` on; UINT64_MAX: none. */
static uint64_t first_selected(struct world *w, struct selector *s, uint64_t since)
{
        struct store_read_options options = {.from = FROM_NUMBER, .number = since, .limit = UINT64_MAX};
        struct store_reader *reader;
        struct store_read_item item;
        uint64_t found = UINT64_MAX;

        assert_int_equal(store_reader_open(w->store, &options, &reader), 0);
        while (found == UINT64_MAX && store_reader_next(reader, &item) == 0)
                if (selector_match(s, &item.event) == FILTER_MATCH)
                        found = item.event.position;
        store_reader_close(&reader);
        return found;
}

static void check(struct world *w, struct waiter *x)
{
        uint64_t first;

        if (!x->wait.selector)
                return;
        first = first_selected(w, x->wait.selector, x->since);
        if (first == UINT64_MAX) {
                assert_int_equal(x->told, 0);
                assert_true(x->wait.is_waiting);
                return;
        }
        assert_int_equal(x->told, 1);
        assert_int_equal(x->told_at, first);
}

static void act(struct world *w, struct waiter *waiters)
{
        struct waiter *x = &waiters[os_sim_choose(w->os, WAITERS)];
        const char *to[2] = {streams[os_sim_choose(w->os, COUNT_OF(streams))],
                streams[os_sim_choose(w->os, COUNT_OF(streams))]};
        unsigned n = to[0] == to[1] ? 1 : 1 + (unsigned)os_sim_choose(w->os, 2);

        switch (os_sim_choose(w->os, 5)) {
        case 0:
        case 1:
                append_over(w, to, n, types[os_sim_choose(w->os, COUNT_OF(types))],
                        n + (unsigned)os_sim_choose(w->os, 4));
                break;
        case 2:
                if (!x->wait.selector) {
                        waiter_begin(w, x, selections[os_sim_choose(w->os, COUNT_OF(selections))]);
                } else if (os_sim_choose(w->os, 4)) {
                        x->told = 0;
                        begin_to_wait(w, x); /* again, told or not */
                } else {
                        waiter_end(x);
                }
                break;
        default:
                for (uint64_t steps = os_sim_choose(w->os, 5); steps > 0; steps--)
                        os_sim_step(w->os);
        }
}

TEST(interleavings, whoever_waits_is_told_of_the_first_event_and_nobody_else_is)
{
        for (unsigned seed = 1; seed <= SEEDS; seed++) {
                struct world w;
                struct waiter waiters[WAITERS] = {0};

                world_begin(
                        &w, &(struct world_options){.seed = seed, .segment_events_max = seed % 3 ? 0 : 16});
                for (unsigned i = 0; i < ACTIONS; i++) {
                        act(&w, waiters);
                        if (os_sim_choose(w.os, 20))
                                continue;
                        wait_for_appends(&w);
                        world_run(&w);
                        for (unsigned k = 0; k < WAITERS; k++)
                                check(&w, &waiters[k]);
                }
                wait_for_appends(&w);
                world_run(&w);
                for (unsigned k = 0; k < WAITERS; k++) {
                        check(&w, &waiters[k]);
                        waiter_end(&waiters[k]);
                }
                world_end(&w);
        }
}

/* ---- history that is read for many at one time ---- */

static void wait_behind(struct world *w, struct waiter *x, const char *json, uint64_t position)
{
        *x = (struct waiter){.w = w, .wait = {.selector = select_by(json), .on_match = on_match}};
        x->wait.arg = x;
        notification_wait_behind(w->notification, &x->wait, position);
}

TEST(behind, is_told_of_the_first_that_it_selects_or_of_the_end)
{
        struct world w;
        struct waiter early, late, none, rest, all;
        uint64_t base;

        begin(&w);
        base = store_next_position(w.store);
        append(&w, "a", "A", 3);
        append(&w, "b", "B", 1);
        append(&w, "a", "A", 3);
        append(&w, "b", "B", 1);
        world_run(&w);
        wait_behind(&w, &late, "{\"kind\":\"type\",\"types\":[\"B\"]}", base + 4);
        wait_behind(&w, &early, "{\"kind\":\"prefix\",\"prefixes\":[\"b\"]}", base); /* goes back for it */
        wait_behind(&w, &none, "{\"kind\":\"type\",\"types\":[\"C\"]}", base);
        wait_behind(&w, &rest, "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"b$\"}", base + 1);
        wait_behind(&w, &all, "{\"kind\":\"all\"}", base + 2);
        world_run(&w);
        assert_int_equal(early.told_at, base + 3);
        assert_int_equal(late.told_at, base + 7);
        assert_int_equal(none.told_at, base + 8);
        assert_int_equal(rest.told_at, base + 3);
        assert_int_equal(all.told_at, base + 2);
        assert_int_equal(early.told + late.told + none.told + rest.told + all.told, 5);
        /* Each may go on to either. */
        begin_to_wait(&w, &none);
        notification_wait_behind(w.notification, &early.wait, base + 4);
        append(&w, "c", "C", 1);
        world_run(&w);
        assert_int_equal(none.told_at, base + 8);
        assert_int_equal(none.told, 2);
        assert_int_equal(early.told_at, base + 7);
        assert_int_equal(early.told, 2);
        notification_wait_behind(w.notification, &late.wait, base);
        waiter_end(&late); /* and is told no more */
        world_run(&w);
        assert_int_equal(late.told, 1);
        waiter_end(&early);
        waiter_end(&none);
        waiter_end(&rest);
        waiter_end(&all);
        world_end(&w);
}

TEST(behind, stopping_tells_everybody)
{
        struct world w;
        struct waiter x;

        begin(&w);
        append(&w, "a", "A", 1);
        world_run(&w);
        wait_behind(&w, &x, "{\"kind\":\"type\",\"types\":[\"B\"]}", 0);
        notification_stop(w.notification);
        assert_int_equal(x.told, 1);
        waiter_end(&x);
        world_end(&w);
}

/* An event is as old as it is, not as long as somebody has been there who has not read it. */
TEST(subscription, who_was_given_nothing_yet_is_as_far_behind_as_the_first_event_is_old)
{
        struct world w;
        struct consumer all = {0}, stream = {0};
        struct seen seen = {.limit = 4};

        begin(&w);
        append(&w, "order-1", "Placed", 5);
        world_run_for(&w, 50 * 1000000);
        append(&w, "order-2", "Placed", 5);
        world_run_for(&w, 20 * 1000000);
        consumer_open(&w, &all, (struct subscription_options){.from = FROM_START});
        consumer_open(&w, &stream, (struct subscription_options){.stream = BYTES_LITERAL("order-2")});
        world_run_for(&w, 1000000);
        assert_int_equal(notification_each_subscription(w.notification, 0, note_info, &seen), 2);
        assert_in_range(seen.info[0].lag_us, 70 * 1000000, 75 * 1000000);
        assert_in_range(seen.info[1].lag_us, 20 * 1000000, 25 * 1000000);
        consumer_close(&all);
        consumer_close(&stream);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(wait, is_told_once_of_what_it_selects_and_of_nothing_else),
                TEST_ROW(wait, for_everything_misses_no_event_of_an_append_over_streams),
                TEST_ROW(wait, that_begins_behind_the_end_is_told_to_look),
                TEST_ROW(wait, is_told_when_the_log_reaches_a_position),
                TEST_ROW(wait, may_begin_and_end_from_inside),
                TEST_ROW(wait, with_an_equal_selection_outlives_the_one_that_came_first),
                TEST_ROW(wait, is_told_to_look_where_the_log_is_not_in_memory),
                TEST_ROW(wait, survives_facts_that_were_missed),
                TEST_ROW(wait, of_many_is_told_in_bounded_turns),
                TEST_ROW(wait, an_event_is_matched_over_several_turns_if_it_must),
                TEST_ROW(wait, outlives_the_room_as_one_that_is_not_known),
                TEST_ROW(subscription,
                        with_a_filter_sleeps_through_what_does_not_match_and_is_told_its_checkpoints),
                TEST_ROW(subscription, that_rests_is_given_all_that_came_whatever_metadata_would_hide),
                TEST_ROW(subscription, shows_who_it_is_and_how_far_behind),
                TEST_ROW(subscription, who_was_given_nothing_yet_is_as_far_behind_as_the_first_event_is_old),
                TEST_ROW(interleavings, whoever_waits_is_told_of_the_first_event_and_nobody_else_is),
                TEST_ROW(behind, is_told_of_the_first_that_it_selects_or_of_the_end),
                TEST_ROW(behind, stopping_tells_everybody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
