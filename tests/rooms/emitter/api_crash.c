/* Power cuts at any moment, with random acknowledgements, retries and parkings (G11).
 *
 * Every life of the server appends, consumes and ends with a crash. What must hold over all lives: each event
 * is delivered at least once; what a consumer acknowledged before a checkpoint that covers it is not
 * delivered again; each parked event stands in the parked stream; the checkpoint is never above an event that
 * was neither acknowledged, skipped nor parked; of a lane the first deliveries of a life are in order. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

enum { EVENTS_MAX = 2000, LIVES = 6, CLIENTS = 3, STREAMS = 5 };

struct history {
        struct world w;
        uint64_t count;                /* events known to be committed */
        bool is_finished[EVENTS_MAX];  /* acknowledged or skipped, at some time */
        bool is_parked[EVENTS_MAX];    /* a consumer asked for it */
        bool is_in_parked[EVENTS_MAX]; /* it stands in the parked stream */
        bool is_delivered[EVENTS_MAX];
        uint64_t duplicates;
        struct client clients[CLIENTS];
};

static uint64_t n_of(const struct got *g)
{
        return g->revision * STREAMS + (uint64_t)(g->stream[0] - 'a');
}

static void take(struct history *h, struct client *c)
{
        unsigned before = c->count;

        client_pull(c, 1 + (unsigned)os_sim_choose(h->w.os, 10));
        for (unsigned i = before; i < c->count; i++) {
                uint64_t n = n_of(&c->items[i]);

                assert_true(n < EVENTS_MAX);
                h->duplicates += h->is_delivered[n];
                h->is_delivered[n] = true;
        }
}

static void answer(struct history *h, struct client *c)
{
        unsigned i;
        uint64_t n, what = os_sim_choose(h->w.os, 20);

        if (!c->count)
                return;
        i = (unsigned)os_sim_choose(h->w.os, c->count);
        if (c->items[i].is_acked)
                return;
        n = n_of(&c->items[i]);
        if (what < 15) {
                client_ack(c, i);
                h->is_finished[n] = true;
        } else if (what < 16) {
                client_nack(c, i, NACK_SKIP, "");
                h->is_finished[n] = true;
                c->items[i].is_acked = true;
        } else if (what < 17) {
                client_nack(c, i, NACK_PARK, "tested");
                h->is_parked[n] = true;
                c->items[i].is_acked = true;
        } else if (what < 19) {
                client_nack(c, i, NACK_RETRY, "");
                c->items[i].is_acked = true;
        }
}

static void append_some(struct history *h)
{
        static const char *const streams[STREAMS] = {"a", "b", "c", "d", "e"};
        unsigned n = 1 + (unsigned)os_sim_choose(h->w.os, 12);

        for (unsigned i = 0; i < n && h->count < EVENTS_MAX; i++) {
                append_event(&h->w, (struct event){.stream = streams[h->count % STREAMS]});
                h->count++;
        }
        wait_for_appends(&h->w);
}

static void open_client(struct history *h, struct client *c, uint32_t window)
{
        if (client_try(&h->w, c, "$all", "g", window) != EMITTER_OK)
                fail_msg("no consumer");
}

static void crash(struct history *h)
{
        bool is_kill = os_sim_choose(h->w.os, 2);

        if (is_kill)
                os_sim_kill(h->w.os);
        else
                os_sim_crash(h->w.os);
        for (unsigned i = 0; i < CLIENTS; i++)
                if (h->clients[i].consumer)
                        client_close(&h->clients[i]);
        world_reborn(&h->w);
}

/* The checkpoint of the log itself, read as anybody would; -1: none. */
static int64_t checkpoint_of(struct history *h)
{
        struct told t = info_of(&h->w, "$all", "g");

        return t.info.has_checkpoint ? (int64_t)t.info.checkpoint : -1;
}

/* Positions of the events, by a plain read. Everything at or below the checkpoint was finished by somebody.
 */
static void check_checkpoint(struct history *h)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *reader;
        struct store_read_item item;
        int64_t checkpoint = checkpoint_of(h);
        int r;

        assert_int_equal(store_reader_open(h->w.store, &o, &reader), 0); /* it blocks where bytes are cold */
        while ((r = store_reader_next(reader, &item)) == 0 && (int64_t)item.event.position <= checkpoint) {
                struct got g = {.revision = item.event.revision};

                if (item.event.stream.size != 1)
                        continue;
                g.stream[0] = (char)item.event.stream.data[0];
                if (!h->is_finished[n_of(&g)] && !h->is_in_parked[n_of(&g)])
                        fail_msg("checkpoint %lld is above %llu, which nobody finished",
                                (long long)checkpoint, (unsigned long long)n_of(&g));
        }
        store_reader_close(&reader);
}

static void find_parked(struct history *h)
{
        struct store_read_options o = {
                .stream = BYTES_LITERAL("$persistentsubscription-$all::g-parked"), .limit = UINT64_MAX};
        struct store_reader *reader;
        struct store_read_item item;
        bool has_any = store_reader_open(h->w.store, &o, &reader) == 0;

        while (has_any && store_reader_next(reader, &item) == 0) {
                struct got g = {0};
                struct bytes stream;

                assert_true(event_link_parse(item.event.data, &g.revision, &stream));
                g.stream[0] = (char)stream.data[0];
                assert_true(h->is_parked[n_of(&g)]);
                h->is_in_parked[n_of(&g)] = true;
        }
        if (has_any)
                store_reader_close(&reader);
}

static void live(struct history *h)
{
        for (unsigned turn = 0; turn < 120; turn++) {
                unsigned i = (unsigned)os_sim_choose(h->w.os, CLIENTS);
                struct client *c = &h->clients[i];
                uint64_t what = os_sim_choose(h->w.os, 100);

                if (!c->consumer)
                        open_client(h, c, 1 + (uint32_t)os_sim_choose(h->w.os, 8));
                else if (what < 2)
                        client_close(c);
                else if (what < 12)
                        append_some(h);
                else if (what < 50)
                        take(h, c);
                else
                        for (unsigned k = 0; k < 4; k++)
                                answer(h, c);
                /* Now and then long enough for the pool to give its reader back. */
                world_run_for(
                        &h->w, os_sim_choose(h->w.os, os_sim_choose(h->w.os, 40) ? 20 * 1000 : 2500 * 1000));
        }
}

static void run(uint64_t seed, enum emitter_strategy strategy)
{
        struct history *h = MEMORY_NEW(struct history);
        struct selector *s = selector_of("{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^[a-e]$\"}");
        struct emitter_definition d = definition_of("$all", "g");
        struct os_sim_faults faults = {.reads_are_cold = seed % 2};

        world_begin(&h->w, seed);
        d.selector = s;
        d.settings.strategy = strategy;
        d.settings.message_timeout_ms = 300;
        d.settings.max_retry_count = 1000000; /* nothing is parked but by a consumer */
        d.settings.checkpoint_after_ms = 100;
        d.settings.min_checkpoint_count = 1 + (uint32_t)(seed % 7);
        d.settings.max_checkpoint_count = 10;
        d.settings.history_buffer_size = 40;
        assert_int_equal(create(&h->w, d), EMITTER_OK);
        os_sim_set_faults(h->w.os, &faults);
        for (unsigned life = 0; life < LIVES; life++) {
                live(h);
                crash(h);
                find_parked(h);
                check_checkpoint(h);
        }
        /* The last life finishes everything. */
        open_client(h, &h->clients[0], 50);
        for (unsigned i = 0; i < 400; i++) {
                unsigned before = h->clients[0].count;

                take(h, &h->clients[0]);
                for (unsigned k = before; k < h->clients[0].count; k++) {
                        client_ack(&h->clients[0], k);
                        h->is_finished[n_of(&h->clients[0].items[k])] = true;
                }
                world_run_for(&h->w, 20 * 1000);
        }
        for (uint64_t n = 0; n < h->count; n++)
                if (!h->is_delivered[n] || (!h->is_finished[n] && !h->is_in_parked[n]))
                        fail_msg("seed %llu: event %llu of %llu was %s", (unsigned long long)seed,
                                (unsigned long long)n, (unsigned long long)h->count,
                                h->is_delivered[n] ? "never finished" : "lost");
        assert_int_equal(info_of(&h->w, "$all", "g").info.in_flight, 0);
        client_close(&h->clients[0]);
        world_end(&h->w);
        selector_free(&s);
        free(h);
}

TEST(crash, no_event_is_lost_and_no_checkpoint_runs_ahead_in_any_order)
{
        for (uint64_t seed = 1; seed <= 12; seed++)
                run(seed, STRATEGY_ROUND_ROBIN);
}

TEST(crash, no_event_is_lost_and_no_checkpoint_runs_ahead_per_stream)
{
        for (uint64_t seed = 101; seed <= 112; seed++)
                run(seed, STRATEGY_PER_STREAM);
}

TEST(crash, duplicates_after_a_crash_are_no_more_than_what_was_above_the_checkpoint)
{
        struct world w = {0};
        struct client c;
        struct emitter_definition d = definition_of("a", "g");
        uint64_t checkpoint;

        world_begin(&w, 201);
        append(&w, "a", 500);
        d.settings.max_checkpoint_count = 50;
        assert_int_equal(create(&w, d), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, true);
        for (unsigned i = 0; i < 60; i++) {
                client_pull(&c, 6);
                world_run_for(&w, 2000);
        }
        checkpoint = info_of(&w, "a", "g").info.checkpoint;
        assert_true(c.count - checkpoint <= 50 + 50 + 10); /* one being written, one due, and the window */
        client_close(&c);
        os_sim_crash(w.os);
        world_reborn(&w);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_true(c.items[0].revision >= checkpoint + 1);
        assert_int_equal(c.items[c.count - 1].revision, 499);
        client_close(&c);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(crash, no_event_is_lost_and_no_checkpoint_runs_ahead_in_any_order),
                TEST_ROW(crash, no_event_is_lost_and_no_checkpoint_runs_ahead_per_stream),
                TEST_ROW(crash, duplicates_after_a_crash_are_no_more_than_what_was_above_the_checkpoint),
        };

        return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
