/* The leader's duties: in whatever order leadership and duties appear, each is loaded, then started, once for
 * each term, and given up before those of a newer term are taken up; what comes late changes nothing. */
#include "notification/room.h"
#include "support.h"

enum { SAID_MAX = 64 };

struct said {
        char lines[SAID_MAX][32];
        unsigned count;
};

struct helper {
        struct notification_duty duty;
        struct said *said;
        const char *name;
        uint64_t term;
        uint32_t loads;
        uint32_t starts;
        bool is_quick;             /* ends each step from inside it */
        struct helper *removes;    /* at its load */
        struct notification *adds; /* `added` at its load */
        struct helper *added;
};

static void say(struct helper *h, const char *what)
{
        assert_true(h->said->count < SAID_MAX);
        snprintf(h->said->lines[h->said->count++], sizeof h->said->lines[0], "%s %s", h->name, what);
}

static void on_load(void *arg, uint64_t term)
{
        struct helper *h = arg;

        say(h, "load");
        h->term = term;
        if (h->removes)
                notification_remove_duty(&h->removes->duty);
        if (h->adds)
                notification_add_duty(h->adds, &h->added->duty);
        if (h->is_quick)
                notification_duty_loaded(&h->duty, term, h->loads);
}

static void on_start(void *arg, uint64_t term)
{
        struct helper *h = arg;

        say(h, "start");
        assert_int_equal(term, h->term);
        if (h->is_quick)
                notification_duty_started(&h->duty, term, h->starts);
}

static void on_give_up(void *arg)
{
        say(arg, "give up");
}

static void make(struct helper *h, struct said *said, const char *name, bool is_quick)
{
        *h = (struct helper){.said = said,
                .name = name,
                .is_quick = is_quick,
                .loads = 10,
                .starts = 3,
                .duty = {.load = on_load, .start = on_start, .give_up = on_give_up}};
        h->duty.arg = h;
}

static void assert_said(const struct said *said, const char *const *lines, unsigned count)
{
        for (unsigned i = 0; i < MIN(said->count, count); i++)
                assert_string_equal(said->lines[i], lines[i]);
        assert_int_equal(said->count, count);
}
#define ASSERT_SAID(said, ...)                                                                               \
        assert_said(                                                                                         \
                (said), (const char *const[]){__VA_ARGS__}, COUNT_OF(((const char *const[]){__VA_ARGS__})))

struct chain {
        struct control_watcher watcher;
        enum fact_type types[64];
        uint32_t counts[64];
        unsigned count;
};

static void note_chain(struct control_watcher *watcher)
{
        struct chain *chain = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed)) {
                assert_true(chain->count < COUNT_OF(chain->types));
                chain->counts[chain->count] = fact.payload.count;
                chain->types[chain->count++] = (enum fact_type)fact.type;
        }
}

static void watch_chain(struct world *w, struct chain *chain)
{
        *chain = (struct chain){.watcher = {.on_facts = note_chain,
                                        .categories = 1u << CATEGORY_LEADERSHIP,
                                        .level = LEVEL_TRACE}};
        chain->watcher.arg = chain;
        control_watch(w->control, &chain->watcher, true);
}

struct expected_fact {
        enum fact_type type;
        uint32_t count;
};

static void assert_chain(const struct chain *chain, const struct expected_fact *facts, unsigned count)
{
        for (unsigned i = 0; i < MIN(chain->count, count); i++) {
                assert_string_equal(fact_describe(chain->types[i])->name, fact_describe(facts[i].type)->name);
                assert_int_equal(chain->counts[i], facts[i].count);
        }
        assert_int_equal(chain->count, count);
}

#define ASSERT_CHAIN(chain, ...)                                                                             \
        assert_chain((chain), (const struct expected_fact[]){__VA_ARGS__},                                   \
                COUNT_OF(((const struct expected_fact[]){__VA_ARGS__})))

static bool has_duties(struct world *w)
{
        struct notification_stats stats;

        notification_stats(w->notification, &stats);
        return stats.has_duties;
}

/* Another node leads a newer term. */
static void lead_elsewhere(struct world *w, uint64_t term)
{
        control_set_term(w->control, term);
        control_publish(w->control, FACT_leader_changed, &(struct fact_payload){.node_id = 99});
        world_run(w);
        assert_false(has_duties(w));
}

/* The tracker begins anew and finds that this node leads. */
static void lead_here(struct world *w)
{
        leader_stop(&w->notification->leader);
        assert_int_equal(leader_start(&w->notification->leader), 0);
        control_unwatch(&w->notification->leader.watcher); /* or it would hear of the other node again */
        w->notification->leader.is_watching = false;
        world_run(w);
}

static void watch_again(struct world *w)
{
        struct leader *l = &w->notification->leader;

        control_watch(w->control, &l->watcher, false);
        l->is_watching = true;
}

static void begin(struct world *w, struct chain *chain)
{
        world_begin(w, &(struct world_options){.seed = 31});
        world_run(w);
        assert_true(has_duties(w));
        watch_chain(w, chain);
        world_run(w);
        chain->count = 0;
}

static void end(struct world *w, struct chain *chain)
{
        control_unwatch(&chain->watcher);
        world_end(w);
}

TEST(duties, that_came_before_leadership_are_all_loaded_then_started_and_their_sums_told)
{
        struct world w;
        struct said said = {0};
        struct helper a, b;
        struct chain chain;

        begin(&w, &chain);
        lead_elsewhere(&w, 50);
        make(&a, &said, "a", true);
        make(&b, &said, "b", true);
        b.loads = 5;
        b.starts = 1;
        notification_add_duty(w.notification, &a.duty);
        notification_add_duty(w.notification, &b.duty);
        world_run(&w);
        assert_int_equal(said.count, 0); /* no leadership, no duties */
        chain.count = 0;
        lead_here(&w);
        assert_true(has_duties(&w));
        ASSERT_SAID(&said, "a load", "b load", "a start", "b start");
        ASSERT_CHAIN(&chain, {FACT_leader_changed_received, 0}, {FACT_leader_responsibilities_assumed, 0},
                {FACT_leadership_duties_starting, 0}, {FACT_subscriptions_loaded, 15},
                {FACT_emitter_pools_starting, 15}, {FACT_leadership_duties_assumed, 4});
        notification_remove_duty(&a.duty);
        notification_remove_duty(&a.duty); /* twice is once */
        notification_remove_duty(&b.duty);
        ASSERT_SAID(&said, "a load", "b load", "a start", "b start", "a give up", "b give up");
        end(&w, &chain);
}

/* A server starts with a store that leads already, and rooms above register their duties only then. */
TEST(duties, that_follow_are_waited_for_so_that_the_chain_tells_their_sums)
{
        struct world w;
        struct notification_options options = {.duties_follow = true};
        struct said said = {0};
        struct helper a;
        struct chain chain;

        begin(&w, &chain);
        notification_stop(w.notification);
        notification_free(&w.notification);
        world_run(&w);
        chain.count = 0;
        options.os = w.os;
        options.control = w.control;
        options.store = w.store;
        assert_int_equal(notification_open(&options, &w.notification), 0);
        make(&a, &said, "a", true);
        notification_add_duty(w.notification, &a.duty);
        world_run(&w);
        assert_false(has_duties(&w));
        assert_int_equal(chain.count, 0);
        notification_lead(w.notification);
        notification_lead(w.notification); /* twice is once */
        world_run(&w);
        assert_true(has_duties(&w));
        ASSERT_CHAIN(&chain, {FACT_leader_changed_received, 0}, {FACT_leader_responsibilities_assumed, 0},
                {FACT_leadership_duties_starting, 0}, {FACT_subscriptions_loaded, 10},
                {FACT_emitter_pools_starting, 10}, {FACT_leadership_duties_assumed, 3});
        notification_remove_duty(&a.duty);
        end(&w, &chain);
}

TEST(duties, that_come_after_leadership_are_taken_up_at_once_without_a_second_chain)
{
        struct world w;
        struct said said = {0};
        struct helper a;
        struct chain chain;

        begin(&w, &chain);
        make(&a, &said, "a", false);
        notification_add_duty(w.notification, &a.duty);
        ASSERT_SAID(&said, "a load");
        notification_duty_started(&a.duty, a.term, 1); /* not its turn */
        notification_duty_loaded(&a.duty, a.term, 10);
        ASSERT_SAID(&said, "a load", "a start");
        notification_duty_loaded(&a.duty, a.term, 99); /* twice is once */
        notification_duty_started(&a.duty, a.term, 3);
        world_run(&w);
        assert_int_equal(chain.count, 0);
        assert_true(has_duties(&w));
        notification_stop(w.notification);
        ASSERT_SAID(&said, "a load", "a start", "a give up");
        notification_remove_duty(&a.duty);
        ASSERT_SAID(&said, "a load", "a start", "a give up");
        end(&w, &chain);
}

TEST(duties, wait_for_the_slowest_load_before_any_starts)
{
        struct world w;
        struct said said = {0};
        struct helper slow, quick, late;
        struct chain chain;

        begin(&w, &chain);
        lead_elsewhere(&w, 50);
        make(&slow, &said, "slow", false);
        make(&quick, &said, "quick", true);
        make(&late, &said, "late", true);
        notification_add_duty(w.notification, &slow.duty);
        notification_add_duty(w.notification, &quick.duty);
        chain.count = 0;
        lead_here(&w);
        ASSERT_SAID(&said, "slow load", "quick load");
        assert_false(has_duties(&w));
        assert_int_equal(chain.count, 3);
        notification_duty_loaded(&slow.duty, slow.term, 7);
        ASSERT_SAID(&said, "slow load", "quick load", "slow start", "quick start");
        notification_add_duty(
                w.notification, &late.duty); /* the sums are told already: it goes behind the chain */
        ASSERT_SAID(&said, "slow load", "quick load", "slow start", "quick start");
        assert_false(has_duties(&w));
        notification_duty_started(&slow.duty, slow.term, 2);
        assert_true(has_duties(&w));
        ASSERT_SAID(&said, "slow load", "quick load", "slow start", "quick start", "late load", "late start");
        world_run(&w);
        ASSERT_CHAIN(&chain, {FACT_leader_changed_received, 0}, {FACT_leader_responsibilities_assumed, 0},
                {FACT_leadership_duties_starting, 0}, {FACT_subscriptions_loaded, 17},
                {FACT_emitter_pools_starting, 17}, {FACT_leadership_duties_assumed, 5});
        notification_remove_duty(&slow.duty);
        notification_remove_duty(&quick.duty);
        notification_remove_duty(&late.duty);
        end(&w, &chain);
}

TEST(duties, lost_during_a_load_are_given_up_and_late_answers_of_that_term_are_ignored)
{
        struct world w;
        struct said said = {0};
        struct helper a, b;
        struct chain chain;
        uint64_t term;

        begin(&w, &chain);
        make(&a, &said, "a", false);
        make(&b, &said, "b", false);
        notification_add_duty(w.notification, &a.duty);
        notification_add_duty(w.notification, &b.duty);
        term = a.term;
        notification_duty_loaded(&b.duty, term, 1); /* is starting when the term ends */
        lead_elsewhere(&w, 50);
        ASSERT_SAID(&said, "a load", "b load", "b start", "b give up", "a give up"); /* in reverse */
        notification_duty_loaded(&a.duty, term, 10);
        notification_duty_started(&b.duty, term, 10);
        assert_int_equal(said.count, 5);
        assert_false(has_duties(&w));
        lead_here(&w);
        assert_int_equal(said.count, 7); /* both load again */
        notification_duty_loaded(&a.duty, term + 1000, 10);
        notification_duty_loaded(&b.duty, term - 1, 10);
        assert_int_equal(said.count, 7); /* of another term */
        assert_false(has_duties(&w));
        notification_duty_loaded(&a.duty, a.term, 10);
        notification_duty_loaded(&b.duty, b.term, 10);
        notification_duty_started(&a.duty, a.term, 1);
        notification_duty_started(&b.duty, b.term, 1);
        assert_true(has_duties(&w));
        notification_remove_duty(&a.duty);
        notification_remove_duty(&b.duty);
        end(&w, &chain);
}

TEST(duties, old_ones_are_given_up_before_those_of_a_newer_term_and_only_once)
{
        struct world w;
        struct said said = {0};
        struct helper a;
        struct chain chain;

        begin(&w, &chain);
        make(&a, &said, "a", true);
        notification_add_duty(w.notification, &a.duty);
        chain.count = 0;
        lead_here(&w);
        ASSERT_SAID(&said, "a load", "a start", "a give up", "a load", "a start");
        ASSERT_CHAIN(&chain, {FACT_leader_stepping_down, 0}, {FACT_leader_changed_received, 0},
                {FACT_leader_responsibilities_assumed, 0}, {FACT_leadership_duties_starting, 0},
                {FACT_subscriptions_loaded, 10}, {FACT_emitter_pools_starting, 10},
                {FACT_leadership_duties_assumed, 3});
        watch_again(&w);
        lead_elsewhere(&w, 50);
        lead_elsewhere(&w, 51);
        assert_int_equal(said.count, 6);
        notification_remove_duty(&a.duty);
        assert_int_equal(said.count, 6);
        end(&w, &chain);
}

TEST(duties, removed_during_a_load_do_not_hold_the_others_up)
{
        struct world w;
        struct said said = {0};
        struct helper stuck, quick;
        struct chain chain;

        begin(&w, &chain);
        lead_elsewhere(&w, 50);
        make(&stuck, &said, "stuck", false);
        make(&quick, &said, "quick", true);
        notification_add_duty(w.notification, &stuck.duty);
        notification_add_duty(w.notification, &quick.duty);
        chain.count = 0;
        lead_here(&w);
        assert_false(has_duties(&w));
        notification_remove_duty(&stuck.duty);
        ASSERT_SAID(&said, "stuck load", "quick load", "stuck give up", "quick start");
        assert_true(has_duties(&w));
        notification_duty_loaded(&stuck.duty, stuck.term, 10); /* nobody's any more */
        world_run(&w);
        assert_int_equal(chain.counts[3], 10); /* of `quick` alone */
        notification_remove_duty(&quick.duty);
        end(&w, &chain);
}

TEST(duties, may_be_added_and_removed_from_inside_a_load)
{
        struct world w;
        struct said said = {0};
        struct helper a, b, c;
        struct chain chain;

        begin(&w, &chain);
        lead_elsewhere(&w, 50);
        make(&a, &said, "a", true);
        make(&b, &said, "b", true);
        make(&c, &said, "c", true);
        a.removes = &b;
        a.adds = w.notification;
        a.added = &c;
        notification_add_duty(w.notification, &a.duty);
        notification_add_duty(w.notification, &b.duty);
        lead_here(&w);
        ASSERT_SAID(&said, "a load", "c load", "a start", "c start");
        assert_true(has_duties(&w));
        notification_remove_duty(&a.duty);
        notification_remove_duty(&c.duty);
        end(&w, &chain);
}

TEST(duties, that_outlive_the_room_are_no_longer_known)
{
        struct world w;
        struct said said = {0};
        struct helper a;
        struct chain chain;

        begin(&w, &chain);
        make(&a, &said, "a", true);
        notification_add_duty(w.notification, &a.duty);
        end(&w, &chain);
        ASSERT_SAID(&said, "a load", "a start", "a give up");
        notification_remove_duty(&a.duty);
        assert_int_equal(said.count, 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(duties, that_came_before_leadership_are_all_loaded_then_started_and_their_sums_told),
                TEST_ROW(duties, that_follow_are_waited_for_so_that_the_chain_tells_their_sums),
                TEST_ROW(duties, that_come_after_leadership_are_taken_up_at_once_without_a_second_chain),
                TEST_ROW(duties, wait_for_the_slowest_load_before_any_starts),
                TEST_ROW(duties, lost_during_a_load_are_given_up_and_late_answers_of_that_term_are_ignored),
                TEST_ROW(duties, old_ones_are_given_up_before_those_of_a_newer_term_and_only_once),
                TEST_ROW(duties, removed_during_a_load_do_not_hold_the_others_up),
                TEST_ROW(duties, may_be_added_and_removed_from_inside_a_load),
                TEST_ROW(duties, that_outlive_the_room_are_no_longer_known),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
