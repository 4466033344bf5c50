/* G10 by seeds: appends, the machine's steps, opening, pulling and closing of subscriptions in any order.
 * Whatever the order, each subscription gets exactly the committed matching events behind its start, in
 * order, and its marks never run ahead of what it was given. */
#include "support.h"

/* One thread: the thread sanitizer has nothing to find here, and is slow. */
#ifdef __SANITIZE_THREAD__
enum { SEEDS = 20 };
#else
enum { SEEDS = 300 };
#endif
enum { CONSUMERS = 12, STREAMS = 5, ACTIONS = 160 };

static const char *const streams[STREAMS] = {"order-1", "order-2", "invoice-1", "cart", "$system"};
static const char *const types[] = {"Placed", "Paid", "Shipped"};

struct plan {
        struct consumer consumer;
        int stream; /* -1: all */
        int prefix; /* of all streams: 0 none, 1 by stream, 2 by type */
        uint64_t first;
        bool is_on;
};

/* The log as an independent reader sees it at the end. */
struct truth {
        struct {
                char stream[32];
                char type[32];
                uint64_t revision;
        } * events;
        unsigned count;
};

static void read_truth(struct world *w, struct truth *t)
{
        struct store_read_options options = {.limit = UINT64_MAX};
        struct store_reader *reader;
        struct store_read_item item;
        int r;

        t->count = 0;
        t->events = memory_new_array(store_next_position(w->store), sizeof *t->events);
        assert_int_equal(store_reader_open(w->store, &options, &reader), 0);
        while ((r = store_reader_next(reader, &item)) == 0) {
                const struct event_view *e = &item.event;

                assert_int_equal(e->position, t->count); /* G4 */
                snprintf(t->events[t->count].stream, 32, "%.*s", (int)e->stream.size, e->stream.data);
                snprintf(t->events[t->count].type, 32, "%.*s", (int)e->type.size, e->type.data);
                t->events[t->count++].revision = e->revision;
        }
        assert_int_equal(r, STORE_READ_END);
        assert_int_equal(t->count, store_next_position(w->store));
        store_reader_close(&reader);
}

static bool is_wanted(const struct plan *p, const struct truth *t, unsigned position)
{
        const char *stream = t->events[position].stream, *type = t->events[position].type;

        if (p->stream >= 0)
                return strcmp(stream, streams[p->stream]) == 0 && t->events[position].revision >= p->first;
        if (position < p->first)
                return false;
        return p->prefix == 0 || (p->prefix == 1 && strncmp(stream, "order-", 6) == 0) ||
               (p->prefix == 2 && strncmp(type, "P", 1) == 0);
}

static void open_one(struct world *w, struct plan *p)
{
        struct subscription_options o = {.from = (enum store_from)os_sim_choose(w->os, 3)};
        uint64_t next = store_next_position(w->store);
        struct store_stream_info info;

        *p = (struct plan){.is_on = true, .stream = (int)os_sim_choose(w->os, STREAMS * 2) - STREAMS};
        p->stream = MAX(p->stream, -1);
        p->consumer.is_eager = os_sim_choose(w->os, 2);
        if (p->stream >= 0) {
                o.stream = bytes_of_string(streams[p->stream]);
                assert_int_equal(store_stream_info(w->store, o.stream, &info), 0);
                next = info.has_events ? info.last_revision + 1 : 0;
        } else {
                p->prefix = (int)os_sim_choose(w->os, 3);
                if (p->prefix)
                        o.filter = filter_of_prefix(p->prefix == 1 ? FILTER_STREAM : FILTER_TYPE,
                                p->prefix == 1 ? "order-" : "P");
                o.checkpoint_after = os_sim_choose(w->os, 2) ? 1 + os_sim_choose(w->os, 20) : 0;
        }
        if (o.from == FROM_NUMBER && next == 0)
                o.from = FROM_START;
        if (o.from == FROM_NUMBER)
                o.number = os_sim_choose(w->os, next);
        p->first = o.from == FROM_START ? 0 : o.from == FROM_END ? next : o.number + 1;
        consumer_open(w, &p->consumer, o);
}

static void append_some(struct world *w)
{
        const char *to[2] = {streams[os_sim_choose(w->os, STREAMS)], streams[os_sim_choose(w->os, STREAMS)]};
        unsigned n = to[0] == to[1] ? 1 : 1 + (unsigned)os_sim_choose(w->os, 2);

        append_over(w, to, n, types[os_sim_choose(w->os, COUNT_OF(types))],
                n + (unsigned)os_sim_choose(w->os, os_sim_choose(w->os, 8) ? 4 : 40));
}

static void act(struct world *w, struct plan *plans)
{
        struct plan *p = &plans[os_sim_choose(w->os, CONSUMERS)];
        uint64_t n;

        switch (os_sim_choose(w->os, 6)) {
        case 0:
        case 1:
                append_some(w);
                break;
        case 2:
                if (!p->is_on)
                        open_one(w, p);
                else if (!os_sim_choose(w->os, 8)) {
                        consumer_close(&p->consumer);
                        p->is_on = false;
                }
                break;
        case 3:
                if (p->is_on)
                        consumer_pull(&p->consumer, (unsigned)os_sim_choose(w->os, 12));
                break;
        default:
                for (n = os_sim_choose(w->os, 6); n > 0; n--)
                        os_sim_step(w->os);
        }
}

/* A mark divides: all wanted before it were given before it, and nothing given after it lies before it. */
static void check_marks(const struct plan *p, const struct truth *t)
{
        const struct consumer *c = &p->consumer;
        uint64_t last_checkpoint = 0;
        bool has_checkpoint = false;
        unsigned given = 0;

        for (unsigned i = 0; i < c->count; i++) {
                const struct got *got = &c->items[i];
                unsigned due = 0;

                given += got->kind == ITEM_EVENT;
                if (got->kind == ITEM_EVENT || !got->has_number)
                        continue;
                for (unsigned position = 0; position < t->count; position++)
                        due += is_wanted(p, t, position) &&
                               (p->stream >= 0 ? t->events[position].revision <= got->revision
                                               : position <= got->position);
                assert_int_equal(due, given);
                if (got->kind != ITEM_CHECKPOINT)
                        continue;
                assert_true(!has_checkpoint || got->position > last_checkpoint);
                has_checkpoint = true;
                last_checkpoint = got->position;
        }
        assert_int_equal(consumer_marks(c, ITEM_CAUGHT_UP), 1);
}

static void check_delivery(const struct plan *p, const struct truth *t)
{
        const struct consumer *c = &p->consumer;
        unsigned at = 0;

        for (unsigned position = 0; position < t->count; position++) {
                if (!is_wanted(p, t, position))
                        continue;
                while (at < c->count && c->items[at].kind != ITEM_EVENT)
                        at++;
                assert_true(at < c->count); /* else a gap at the end */
                assert_int_equal(c->items[at].position, position);
                at++;
        }
        while (at < c->count && c->items[at].kind != ITEM_EVENT)
                at++;
        assert_int_equal(at, c->count); /* else a duplicate at the end */
        assert_int_equal(c->outcome, SUBSCRIPTION_WAIT);
}

static uint64_t seed_now;

static void run_seed(uint64_t seed)
{
        struct world w;
        struct plan plans[CONSUMERS] = {0};
        struct truth truth;
        /* A ring of 64 facts is overrun by a few appends of one turn, so misses are common here. */
        struct world_options options = {
                .seed = seed, .ring_facts = 64, .segment_events_max = 40 + seed % 3 * 1000};

        options.reads_are_cold = seed % 2;
        seed_now = seed;
        world_begin(&w, &options);
        for (unsigned i = 0; i < ACTIONS; i++)
                act(&w, plans);
        /* One last turn with more facts than the ring holds: nothing comes after it that could help. */
        for (unsigned i = 0; i < 60; i++)
                append_some(&w);
        wait_for_appends(&w);
        for (unsigned i = 0; i < CONSUMERS; i++)
                if (plans[i].is_on)
                        consumer_drain(&w, &plans[i].consumer);
        /* Cold reads come back after a while. */
        for (unsigned round = 0; round < 200; round++) {
                world_run(&w);
                for (unsigned i = 0; i < CONSUMERS; i++)
                        if (plans[i].is_on)
                                consumer_pull(&plans[i].consumer, 1000000);
        }
        os_sim_set_faults(w.os, &(struct os_sim_faults){0});
        read_truth(&w, &truth);
        for (unsigned i = 0; i < CONSUMERS; i++) {
                if (!plans[i].is_on)
                        continue;
                check_delivery(&plans[i], &truth);
                check_marks(&plans[i], &truth);
                consumer_close(&plans[i].consumer);
        }
        free(truth.events);
        world_end(&w);
}

TEST(catch_up, delivers_exactly_the_matching_events_in_any_interleaving)
{
        const char *one = getenv("NILO_TEST_SEED");

        if (one) {
                run_seed(strtoull(one, NULL, 10));
                return;
        }
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
                run_seed(seed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(catch_up, delivers_exactly_the_matching_events_in_any_interleaving),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);

        if (failed)
                print_error("run it again with NILO_TEST_SEED=%llu\n", (unsigned long long)seed_now);
        return failed;
}
