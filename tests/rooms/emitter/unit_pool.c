/* What only the inside shows: what a pool costs when it rests, the bound on memory, duties that come and go,
 * the monitor, poison events, topics. */
#include <malloc.h>

#include "emitter/room.h"
#include "support.h"

static struct pool *pool_of(struct world *w, const char *stream, const char *group)
{
        return emitter_find(w->emitter, bytes_of_string(stream), bytes_of_string(group));
}

/* ---- cost ---- */

TEST(idle, a_pool_costs_at_most_two_kibibytes_and_no_reader)
{
        enum { COUNT = 1000 };
        struct world w = {0};
        struct client *c = memory_new_array(COUNT, sizeof *c);
        struct selector *s = NULL;
        struct mallinfo2 before, after;
        char group[32];

        is_on_memory_machine = false;
        world_begin(&w, 61);
        s = selector_of_stream("a");
        append(&w, "a", 10);
        before = mallinfo2();
        for (unsigned i = 0; i < COUNT; i++) {
                struct emitter_definition d;
                struct answer a = {0};

                snprintf(group, sizeof group, "g%u", i);
                d = definition_of("a", group);
                d.selector = s;
                emitter_create(w.emitter, &d, on_answer, &a);
                assert_int_equal(wait_for_answer(&w, &a), EMITTER_OK);
        }
        world_run_for(&w, 3000 * 1000);
        after = mallinfo2();
        /* The log itself, in memory too, takes its part: some 700 bytes for each definition. */
        assert_true(after.uordblks - before.uordblks < COUNT * (2048 + 1024));
        for (unsigned i = 0; i < COUNT; i++) {
                snprintf(group, sizeof group, "g%u", i);
                client_open(&w, &c[i], "a", group, 10, true);
        }
        clients_drain(&w, c, COUNT);
        for (unsigned i = 0; i < COUNT; i++)
                assert_int_equal(c[i].count, 10);
        world_run_for(&w, 5000 * 1000);
        for (unsigned i = 0; i < w.emitter->pool_count; i++) {
                assert_int_equal(w.emitter->pools[i]->state, POOL_IDLE);
                assert_null(w.emitter->pools[i]->work);
        }
        assert_int_equal(w.emitter->memory_used + w.emitter->work_size, 0);
        append(&w, "a", 1); /* and it wakes all of them */
        clients_drain(&w, c, COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
                assert_int_equal(c[i].count, 11);
                client_close(&c[i]);
        }
        free(c);
        selector_free(&s);
        world_end(&w);
}

/* Of either kind: whose reader filters, and who must match each event itself. */
TEST(search, of_the_history_finds_each_event_once_and_goes_on_live)
{
        static const char *const selectors[] = {"{\"kind\":\"prefix\",\"prefixes\":[\"b\"]}",
                "{\"kind\":\"pattern\",\"match\":{\"stream\":\"b\"}}"};
        static const char *const streams[] = {"$nilo-prefix", "$nilo-pattern"};

        for (unsigned i = 0; i < COUNT_OF(selectors); i++) {
                struct world w = {0};
                struct emitter_definition d = definition_of(streams[i], "g");
                struct selector *s = selector_of(selectors[i]);
                struct pool *p;
                struct client c;

                world_begin(&w, 67 + i);
                d.selector = s;
                append(&w, "a", 6000); /* more than are looked at in one turn */
                append(&w, "b", 1);
                append(&w, "a", SEARCH_FROM + 1000);
                assert_int_equal(create(&w, d), EMITTER_OK);
                p = pool_of(&w, streams[i], "g");
                client_open(&w, &c, streams[i], "g", 10, true);
                for (unsigned step = 0; step < 1000 && !p->is_searching; step++)
                        world_step(&w);
                assert_true(p->is_searching);
                assert_true(info_of(&w, streams[i], "g").info.lag_events > SEARCH_FROM);
                client_drain(&w, &c);
                assert_int_equal(c.count, 1);
                assert_int_equal(c.items[0].revision, 0);
                /* Who has read much in vain since lets it be read for it again. */
                p->passed = PASSED_MAX;
                append(&w, "a", SEARCH_FROM + 1000);
                append(&w, "b", 1);
                client_drain(&w, &c);
                assert_int_equal(c.count, 2);
                world_run_for(&w, 2000 * 1000);
                assert_null(p->work);
                assert_int_equal(info_of(&w, streams[i], "g").info.lag_events, 0);
                append(&w, "b", 1);
                client_drain(&w, &c);
                assert_int_equal(c.count, 3);
                assert_int_equal(c.items[2].revision, 2);
                client_close(&c);
                selector_free(&s);
                world_end(&w);
        }
}

static void append_big(struct world *w, const char *stream, unsigned count, size_t size)
{
        char *data = memory_new(size + 1);

        memset(data, '1', size);
        for (unsigned i = 0; i < count; i++)
                append_event(w, (struct event){.stream = stream, .data = data});
        wait_for_appends(w);
        free(data);
}

TEST(memory, is_bounded_in_total_and_stopped_consumers_starve_nobody)
{
        enum { GROUPS = 12 };
        struct world w = {.memory_size = 512 * 1024};
        struct client c[GROUPS];
        char group[16];
        uint64_t most = 0;

        world_begin(&w, 62);
        append_big(&w, "a", 120, 20000);
        for (unsigned i = 0; i < GROUPS; i++) {
                snprintf(group, sizeof group, "g%u", i);
                assert_int_equal(create(&w, definition_of("a", group)), EMITTER_OK);
                client_open(&w, &c[i], "a", group, 100, true);
        }
        /* All but the last take one message and stop. */
        for (unsigned round = 0; round < 20; round++) {
                for (unsigned i = 0; i < GROUPS - 1; i++)
                        if (!c[i].count)
                                client_pull(&c[i], 1);
                world_run_for(&w, 1000);
                most = MAX(most, w.emitter->memory_used);
        }
        for (unsigned i = 0; i < 400 && c[GROUPS - 1].count < 120; i++) {
                client_pull(&c[GROUPS - 1], 3);
                world_run_for(&w, 1000);
                most = MAX(most, w.emitter->memory_used);
        }
        assert_int_equal(c[GROUPS - 1].count, 120);
        assert_true(most <= 512 * 1024 + 64 * 1024);
        /* The others go on from what they have, read again. */
        clients_drain(&w, c, GROUPS);
        for (unsigned i = 0; i < GROUPS; i++) {
                assert_int_equal(c[i].count, 120);
                for (unsigned k = 0; k < 120; k++)
                        assert_int_equal(c[i].items[k].revision, k);
                client_close(&c[i]);
        }
        world_end(&w);
}

TEST(memory, of_one_pool_holds_a_mebibyte_ahead)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 63);
        append_big(&w, "a", 40, 200000);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 3, false);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        assert_true(w.emitter->memory_used <= BUFFER_SIZE_MAX + 300000);
        for (unsigned i = 0; i < 40; i++) {
                client_ack(&c, i);
                client_drain(&w, &c);
        }
        assert_int_equal(c.count, 40);
        client_close(&c);
        world_end(&w);
}

TEST(span, one_event_that_is_held_for_ever_stops_the_others_only_at_the_bound)
{
        struct world w = {0};
        struct client c[2];
        struct emitter_definition d = definition_of("a", "g");

        world_begin(&w, 64);
        append(&w, "a", 3000);
        d.settings.message_timeout_ms = 0;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c[0], "a", "g", 1, false);
        client_drain(&w, &c[0]);
        client_open(&w, &c[1], "a", "g", 100, true);
        client_drain(&w, &c[1]);
        assert_int_equal(c[1].count, 2999);
        assert_int_equal(pool_resume(pool_of(&w, "a", "g")), 0);
        client_close(&c[0]);
        client_close(&c[1]);
        world_end(&w);
}

/* ---- duties ---- */

TEST(duties, lost_and_regained_write_nothing_in_between_and_lose_nothing)
{
        struct world w = {0};
        struct client c;
        struct answer a = {0};
        struct emitter_definition d = definition_of("a", "late");
        struct selector *s = selector_of_stream("a");
        struct event_id id;
        uint64_t before;

        world_begin(&w, 65);
        append(&w, "a", 30);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 20, false);
        client_drain(&w, &c);
        for (unsigned i = 0; i < 20; i++)
                client_ack(&c, i);
        id = c.items[19].id;
        world_run_for(&w, 1000);
        /* All of one turn: a mutation is under way, a checkpoint is due, and the duties are lost. */
        d.selector = s;
        emitter_create(w.emitter, &d, on_answer, &a);
        notification_remove_duty(&w.emitter->duty);
        assert_true(a.is_there);
        assert_int_equal(a.verdict, EMITTER_UNKNOWN);
        world_run(&w);
        before = store_next_position(w.store);
        assert_int_equal(consumer_next(c.consumer, &(struct consumer_message){0}), CONSUMER_DROPPED);
        assert_non_null(strstr(consumer_problem(c.consumer), "lead"));
        consumer_ack(c.consumer, &id, 1);
        client_close(&c);
        world_run_for(&w, 10 * 1000 * 1000 / (is_on_memory_machine ? 20 : 1));
        assert_int_equal(store_next_position(w.store), before);
        assert_int_equal(client_try(&w, &c, "a", "g", 1), EMITTER_NOT_LEADER);
        assert_int_equal(create(&w, definition_of("b", "g")), EMITTER_NOT_LEADER);
        notification_add_duty(w.notification, &w.emitter->duty);
        for (unsigned i = 0; i < 10000 && !world_is_serving(&w); i++)
                world_step(&w);
        world_run(&w);
        client_open(&w, &c, "a", "g", 50, true);
        client_drain(&w, &c);
        assert_int_equal(c.items[0].revision, 0); /* nothing had been written: all of it again */
        assert_int_equal(c.count, 30);
        client_close(&c);
        assert_non_null(pool_of(&w, "a", "late")); /* unknown then; the log had it */
        selector_free(&s);
        world_end(&w);
}

/* ---- the monitor ---- */

static void append_definition(struct world *w, const char *type, const char *json)
{
        append_event(w, (struct event){.stream = "$nilo-subscriptions", .type = type, .data = json});
        wait_for_appends(w);
}

TEST(monitor, takes_in_what_somebody_else_defined_and_ends_what_somebody_else_removed)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 66);
        append(&w, "a", 5);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        append_definition(&w, "$nilo-subscription-set",
                "{\"stream\":\"a\",\"group\":\"foreign\",\"selector\":{\"kind\":\"stream\",\"stream\":\"a\"},"
                "\"from\":2}");
        append_definition(&w, "$nilo-subscription-removed", "{\"stream\":\"a\",\"group\":\"g\"}");
        append_definition(&w, "$nilo-subscription-set", "{\"nonsense\":1}");
        assert_null(pool_of(&w, "a", "foreign"));
        monitor_look(w.emitter);
        world_run(&w);
        assert_null(pool_of(&w, "a", "g"));
        client_open(&w, &c, "a", "foreign", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 3);
        client_close(&c);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        world_end(&w);
}

TEST(monitor, mends_a_pool_that_nobody_will_wake_and_leaves_the_others_alone)
{
        struct world w = {0};
        struct client c[2];
        struct control_stats stats;
        uint64_t serial;

        world_begin(&w, 67);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "well")), EMITTER_OK);
        client_open(&w, &c[0], "a", "g", 10, true);
        client_open(&w, &c[1], "a", "well", 10, true);
        clients_drain(&w, c, 2);
        world_run_for(&w, 1500 * 1000);
        notification_wait_end(&pool_of(&w, "a", "g")->wait); /* what a bug would do */
        serial = pool_of(&w, "a", "well")->work_serial;
        append(&w, "a", 5);
        clients_drain(&w, c, 2);
        assert_int_equal(c[0].count, 0);
        monitor_look(w.emitter);
        clients_drain(&w, c, 2);
        assert_int_equal(c[0].count, 5);
        assert_int_equal(c[1].count, 5);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_emitter_pool_repaired], 1);
        serial = pool_of(&w, "a", "well")->work_serial;
        for (unsigned i = 0; i < 5; i++)
                monitor_look(w.emitter);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_emitter_pool_repaired], 1);
        assert_int_equal(pool_of(&w, "a", "well")->work_serial, serial);
        client_close(&c[0]);
        client_close(&c[1]);
        world_end(&w);
}

/* ---- poison ---- */

TEST(poison, an_event_too_costly_to_match_stops_one_subscription_and_says_so)
{
        struct world w = {0};
        struct client c[2];
        char costly[600];
        struct selector *s = selector_of("{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^(a+)+$\"}");
        struct emitter_definition d = definition_of("$all", "g");
        struct told t;

        world_begin(&w, 68);
        memset(costly, 'a', 500);
        costly[500] = '!';
        costly[501] = 0;
        append_event(&w, (struct event){.stream = "a", .type = "aaa"});
        append_event(&w, (struct event){.stream = "a", .type = costly});
        append_event(&w, (struct event){.stream = "a", .type = "aaaa"});
        wait_for_appends(&w);
        d.selector = s;
        assert_int_equal(create(&w, d), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c[0], "$all", "g", 10, true);
        client_open(&w, &c[1], "a", "g", 10, true);
        clients_drain(&w, c, 2);
        assert_int_equal(c[0].outcome, CONSUMER_DROPPED);
        assert_int_equal(c[1].count, 3);
        t = info_of(&w, "$all", "g");
        assert_string_equal(t.state, "failed");
        assert_non_null(strstr(t.problem, "pattern"));
        client_close(&c[0]);
        /* The way out that it names. */
        assert_int_equal(seek_group(&w, "$all", "g", FROM_NUMBER, c[1].items[2].position), EMITTER_OK);
        client_open(&w, &c[0], "$all", "g", 10, true);
        client_drain(&w, &c[0]);
        assert_int_equal(c[0].count, 1);
        client_close(&c[0]);
        client_close(&c[1]);
        selector_free(&s);
        world_end(&w);
}

TEST(poison, an_event_that_is_gone_before_its_retry_is_passed_over_and_said)
{
        struct world w = {0};
        struct client c;
        struct control_stats stats;

        world_begin(&w, 69);
        append(&w, "a", 3);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 3, false);
        client_drain(&w, &c);
        append_event(&w, (struct event){.stream = "$$a", .type = "$metadata", .data = "{\"$tb\":2}"});
        wait_for_appends(&w);
        for (unsigned i = 0; i < 3; i++)
                client_nack(&c, i, NACK_RETRY, "");
        client_drain(&w, &c);
        assert_int_equal(c.count, 4);
        assert_int_equal(c.items[3].revision, 2);
        control_stats(w.control, &stats);
        assert_int_equal(stats.published_by_type[FACT_event_skipped], 2);
        client_close(&c);
        world_end(&w);
}

struct search {
        struct os *os;
        char path[512];
        const char *text;
        uint64_t found; /* offset; 0: not */
        char where[512];
};

static void search_file(struct search *s)
{
        CLEANUP(buffer_fini) struct buffer content = {0};
        uint8_t *at;

        if (s->found || os_read_whole(s->os, s->path, 64 * 1024 * 1024, &content))
                return;
        at = memmem(content.data, content.size, s->text, strlen(s->text));
        if (!at)
                return;
        s->found = (uint64_t)(at - content.data);
        snprintf(s->where, sizeof s->where, "%s", s->path);
}

static int search_entry(void *arg, const char *name, bool is_dir)
{
        struct search *s = arg;
        size_t size = strlen(s->path);

        snprintf(s->path + size, sizeof s->path - size, "/%s", name);
        if (is_dir)
                assert_int_equal(os_dir_list(s->os, s->path, search_entry, s), 0);
        else if (strstr(name, ".seg"))
                search_file(s);
        s->path[size] = 0;
        return 0;
}

TEST(poison, a_damaged_range_stops_who_reads_it_and_nobody_else)
{
        struct world w = {0};
        struct client c[3];
        struct search s = {.path = "data", .text = "{\"mark\":1}"};
        struct told t;

        world_begin(&w, 71);
        append(&w, "a,b", 10);
        append_event(&w, (struct event){.stream = "b", .data = "{\"mark\":1}"});
        wait_for_appends(&w);
        append(&w, "a,b", 10);
        s.os = w.os;
        assert_int_equal(os_dir_list(w.os, "data", search_entry, &s), 0);
        assert_true(s.found > 0);
        assert_int_equal(os_sim_flip_bit(w.os, s.where, s.found * 8 + 3), 0);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("b", "g")), EMITTER_OK);
        assert_int_equal(create(&w, definition_of("$all", "g")), EMITTER_OK);
        client_open(&w, &c[0], "a", "g", 100, true);
        client_open(&w, &c[1], "b", "g", 100, true);
        client_open(&w, &c[2], "$all", "g", 100, true);
        clients_drain(&w, c, 3);
        assert_int_equal(c[0].count, 10);
        assert_int_equal(c[1].outcome, CONSUMER_DROPPED);
        assert_int_equal(c[1].count, 5); /* what was good before the damage */
        assert_int_equal(c[2].outcome, CONSUMER_DROPPED);
        t = info_of(&w, "b", "g");
        assert_string_equal(t.state, "failed");
        assert_non_null(strstr(t.problem, "damaged"));
        append(&w, "a", 2);
        clients_drain(&w, c, 1);
        assert_int_equal(c[0].count, 12);
        for (unsigned i = 0; i < 3; i++)
                client_close(&c[i]);
        world_end(&w);
}

/* ---- topics ---- */

struct topic_watch {
        struct control_watcher watcher;
        uint64_t events, facts;
        char topic[65];
};

static void on_facts(struct control_watcher *watcher)
{
        struct topic_watch *t = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed))
                if (fact.type == FACT_notification_triggered && fact.payload.text_size) {
                        t->events += fact.payload.count;
                        t->facts++;
                        snprintf(
                                t->topic, sizeof t->topic, "%.*s", fact.payload.text_size, fact.payload.text);
                }
}

TEST(topic, tells_of_every_event_in_batches_and_moves_its_checkpoint)
{
        struct world w = {0};
        struct topic_watch t = {.watcher = {.on_facts = on_facts,
                                        .categories = 1u << CATEGORY_SUBSCRIPTIONS,
                                        .level = LEVEL_TRACE}};
        struct emitter_definition d = definition_of("a", "news");

        world_begin(&w, 70);
        t.watcher.arg = &t;
        control_watch(w.control, &t.watcher, false);
        append(&w, "a", 200);
        d.target = TARGET_TOPIC;
        d.settings.pool_size = 2;
        assert_int_equal(create(&w, d), EMITTER_OK);
        world_run_for(&w, 100 * 1000);
        assert_int_equal(t.events, 200);
        assert_in_range(t.facts, 1, 60);
        assert_string_equal(t.topic, "a::news");
        world_run_for(&w, 1500 * 1000);
        append(&w, "a", 7);
        world_run_for(&w, 100 * 1000);
        assert_int_equal(t.events, 207);
        assert_int_equal(info_of(&w, "a", "news").info.consumer_count, 2);
        assert_int_equal(emitter_restart(w.emitter), EMITTER_OK);
        append(&w, "a", 3);
        world_run_for(&w, 100 * 1000);
        assert_int_equal(t.events, 210);
        control_unwatch(&t.watcher);
        world_reopen(&w);
        append(&w, "a", 1);
        world_run_for(&w, 100 * 1000);
        assert_int_equal(info_of(&w, "a", "news").info.checkpoint, 209);
        assert_int_equal(info_of(&w, "a", "news").info.total, 1);
        world_end(&w);
}

/* ---- definitions as JSON ---- */

static bool parses(const char *json, char *why)
{
        struct arena arena = {0};
        struct emitter_definition d;
        struct selector *s = NULL;
        bool is_fine = emitter_definition_parse(bytes_of_string(json), &arena, &d, &s, why, 256);

        if (is_fine)
                snprintf(why, 256, "%.*s::%.*s %s", (int)d.stream.size, (const char *)d.stream.data,
                        (int)d.group.size, (const char *)d.group.data,
                        emitter_strategy_name(d.settings.strategy));
        selector_free(&s);
        arena_fini(&arena);
        return is_fine;
}

TEST(definition, json_says_what_is_wrong_and_where)
{
        static const struct {
                const char *json, *says;
        } bad[] = {
                {"[]", "object"},
                {"{", "line 1"},
                {"{\"group\":\"g\"}", "\"stream\" or a \"selector\""},
                {"{\"stream\":\"a\",\"group\":1}", "\"group\" must be a string"},
                {"{\"stream\":\"a\",\"grupp\":\"g\"}", "has no \"grupp\""},
                {"{\"stream\":\"a\",\"from\":-1}", "\"from\""},
                {"{\"stream\":\"a\",\"from\":\"middle\"}", "\"from\""},
                {"{\"stream\":\"a\",\"paused\":true}", "\"paused\""},
                {"{\"stream\":\"a\",\"settings\":{\"max_retry_count\":1.5}}", "max_retry_count"},
                {"{\"stream\":\"a\",\"settings\":{\"strategy\":\"Best\"}}", "PerStream"},
                {"{\"stream\":\"a\",\"settings\":{\"speed\":9}}", "\"speed\""},
                {"{\"stream\":\"a\",\"target\":\"pigeon\"}", "webhook"},
                {"{\"group\":\"g\",\"selector\":{\"kind\":\"moon\"}}", "selector"},
        };
        char why[256];

        for (unsigned i = 0; i < COUNT_OF(bad); i++) {
                assert_false(parses(bad[i].json, why));
                if (!strstr(why, bad[i].says))
                        fail_msg("%s: %s", bad[i].json, why);
        }
        assert_true(parses("{\"stream\":\"a\",\"group\":\"g\"}", why));
        assert_string_equal(why, "a::g RoundRobin");
        assert_true(parses("{\"group\":\"g\",\"selector\":{\"kind\":\"type\",\"types\":[\"A\"]},\"settings\":"
                           "{\"strategy\":\"PerStream\"}}",
                why));
        assert_string_equal(why, "$nilo-type::g PerStream");
}

TEST(definition, a_member_is_found_at_the_first_level_only)
{
        static const struct {
                const char *json, *key, *value;
                bool is_string;
        } cases[] = {
                {"{\"a\":1}", "a", "1", false},
                {" { \"b\" : {\"a\":2} , \"a\" : \"x\\\"y\" } ", "a", "x\\\"y", true},
                {"{\"b\":[{\"a\":1},\"}\"],\"a\":[1,{\"c\":2}]}", "a", "[1,{\"c\":2}]", false},
                {"{\"b\":1}", "a", NULL, false},
                {"", "a", NULL, false},
                {"[1]", "a", NULL, false},
                {"{\"a\"", "a", NULL, false},
                {"{\"a\":", "a", NULL, false},
                {"{\"b\":\"", "a", NULL, false},
                {"{\"b\":{\"a\":1}", "a", NULL, false},
                {"{\"b\":1 \"a\":2}", "a", NULL, false},
                {"{\"a\":\"\"}", "a", "", true},
        };

        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                struct bytes value;
                bool is_string, has;

                has = json_member(
                        bytes_of_string(cases[i].json), bytes_of_string(cases[i].key), &value, &is_string);
                assert_int_equal(has, cases[i].value != NULL);
                if (!has)
                        continue;
                assert_true(bytes_equal_string(value, cases[i].value));
                assert_int_equal(is_string, cases[i].is_string);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(idle, a_pool_costs_at_most_two_kibibytes_and_no_reader),
                TEST_ROW(search, of_the_history_finds_each_event_once_and_goes_on_live),
                TEST_ROW(memory, is_bounded_in_total_and_stopped_consumers_starve_nobody),
                TEST_ROW(memory, of_one_pool_holds_a_mebibyte_ahead),
                TEST_ROW(span, one_event_that_is_held_for_ever_stops_the_others_only_at_the_bound),
                TEST_ROW(duties, lost_and_regained_write_nothing_in_between_and_lose_nothing),
                TEST_ROW(monitor, takes_in_what_somebody_else_defined_and_ends_what_somebody_else_removed),
                TEST_ROW(monitor, mends_a_pool_that_nobody_will_wake_and_leaves_the_others_alone),
                TEST_ROW(poison, an_event_too_costly_to_match_stops_one_subscription_and_says_so),
                TEST_ROW(poison, an_event_that_is_gone_before_its_retry_is_passed_over_and_said),
                TEST_ROW(poison, a_damaged_range_stops_who_reads_it_and_nobody_else),
                TEST_ROW(topic, tells_of_every_event_in_batches_and_moves_its_checkpoint),
                TEST_ROW(definition, json_says_what_is_wrong_and_where),
                TEST_ROW(definition, a_member_is_found_at_the_first_level_only),
        };

        return cmocka_run_group_tests_name("pools", tests, NULL, NULL);
}
