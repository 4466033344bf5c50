/* The core against a model of its own: random events, consumers, acknowledgements, retries, time-outs and
 * parkings. The model is a plain table of what is where; after each call it says what may have happened and
 * checks what did. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/delivery.h"
#include "test.h"

enum where { WHERE_PENDING, WHERE_ASSIGNED, WHERE_GIVEN, WHERE_PARKING, WHERE_FINISHED };
enum { EVENTS_MAX = 4000, SLOTS_MAX = 6, RETRY_MAX = 2, TIMEOUT_MS = 10 };

struct model_event {
        enum where where;
        uint64_t lane;
        unsigned slot;
        uint64_t due_us;
        uint64_t timed_at; /* in what order */
        uint32_t retries;
        bool was_flying;
};

struct model {
        struct delivery d;
        struct slot slots[SLOTS_MAX];
        bool is_joined[SLOTS_MAX];
        uint64_t joined_at[SLOTS_MAX];
        struct model_event events[EVENTS_MAX];
        uint64_t count; /* events so far; their numbers are 2 n + 1, so that there are gaps */
        uint64_t now_us, order, seed_next;
        uint64_t random;
        uint64_t lanes;
        uint64_t deliveries, recalls, moves;
};

static struct model *model; /* cmocka's callbacks have no argument of ours */

static uint64_t choose(struct model *m, uint64_t below)
{
        m->random ^= m->random << 13;
        m->random ^= m->random >> 7;
        m->random ^= m->random << 17;
        return m->random % below;
}

static uint64_t number_of(uint64_t n)
{
        return 2 * n + 1;
}

static struct event_id id_of(uint64_t n)
{
        struct event_id id = {{0}};

        put_u64(id.bytes, n * 0x9e3779b97f4a7c15ull);
        return id;
}

static bool is_flying(const struct model_event *e)
{
        return e->where == WHERE_ASSIGNED || e->where == WHERE_GIVEN;
}

/* ---- what the model says about each step ---- */

static void on_assigned(struct delivery *d, struct slot *slot)
{
        struct model *m = model;
        unsigned s = (unsigned)(slot - m->slots);
        struct message *message = CONTAINER_OF(slot->assigned.previous, struct message, link);
        uint64_t n = (message->number - 1) / 2;
        struct model_event *e = &m->events[n];
        uint32_t in_flight = 0;

        assert_ptr_equal(d, &m->d);
        assert_true(m->is_joined[s]);
        assert_int_equal(e->where, WHERE_PENDING);
        assert_int_equal(message->retry_count, e->retries);
        for (uint64_t i = 0; i < m->count; i++) {
                struct model_event *o = &m->events[i];

                in_flight += is_flying(o) && o->slot == s;
                if (strategy_has_lanes(d->strategy)) {
                        if (o->lane != e->lane)
                                continue;
                        /* Fencing: nobody else has anything of the lane. */
                        if (is_flying(o))
                                assert_int_equal(o->slot, s);
                        /* Order: nothing earlier of the lane waits, nothing later is out. */
                        if (i < n)
                                assert_int_not_equal(o->where, WHERE_PENDING);
                        if (i > n)
                                assert_false(is_flying(o));
                } else if (o->where == WHERE_PENDING && i != n) {
                        /* What comes back goes first, by number; then what is new, by number. */
                        if (o->was_flying)
                                assert_true(e->was_flying && n < i);
                        else if (!e->was_flying)
                                assert_true(n < i);
                }
        }
        assert_true(in_flight < slot->window);
        if (d->strategy == STRATEGY_DISPATCH_TO_SINGLE)
                for (unsigned o = 0; o < SLOTS_MAX; o++)
                        if (m->is_joined[o] && m->joined_at[o] < m->joined_at[s] && !m->slots[o].is_stalled)
                                assert_int_equal(m->slots[o].in_flight, m->slots[o].window);
        e->where = WHERE_ASSIGNED;
        e->slot = s;
        e->due_us = m->now_us + TIMEOUT_MS * 1000;
        e->timed_at = ++m->order;
        m->deliveries++;
}

static void model_back(struct model *m, uint64_t n)
{
        m->events[n].where = WHERE_PENDING;
        m->events[n].was_flying = true;
}

static void model_recall(struct model *m, uint64_t n)
{
        if (!strategy_has_lanes(m->d.strategy))
                return;
        for (uint64_t i = n + 1; i < m->count; i++)
                if (m->events[i].lane == m->events[n].lane && is_flying(&m->events[i])) {
                        model_back(m, i);
                        m->recalls++;
                }
}

static void model_retry(struct model *m, uint64_t n)
{
        if (m->events[n].retries >= RETRY_MAX) {
                m->events[n].where = WHERE_PARKING;
                return;
        }
        m->events[n].retries++;
        model_back(m, n);
        model_recall(m, n);
}

static void model_expire(struct model *m)
{
        for (;;) {
                uint64_t first = UINT64_MAX;

                for (uint64_t i = 0; i < m->count; i++)
                        if (is_flying(&m->events[i]) && m->events[i].due_us <= m->now_us &&
                                (first == UINT64_MAX || m->events[i].timed_at < m->events[first].timed_at))
                                first = i;
                if (first == UINT64_MAX)
                        return;
                if (m->events[first].where == WHERE_GIVEN) {
                        model_retry(m, first);
                } else {
                        model_back(m, first);
                        model_recall(m, first);
                }
        }
}

/* Everything of the core is where the model has it. */
static void check(struct model *m)
{
        uint32_t pending = 0, flying = 0, parking = 0, in_flight[SLOTS_MAX] = {0};
        uint64_t lowest = UINT64_MAX;

        for (uint64_t i = 0; i < m->count; i++) {
                const struct model_event *e = &m->events[i];

                pending += e->where == WHERE_PENDING;
                parking += e->where == WHERE_PARKING;
                if (is_flying(e)) {
                        flying++;
                        in_flight[e->slot]++;
                }
                if (e->where != WHERE_FINISHED && lowest == UINT64_MAX)
                        lowest = number_of(i);
        }
        assert_int_equal(m->d.pending_count, pending);
        assert_int_equal(m->d.flying_count, flying);
        assert_int_equal(m->d.parking_count, parking);
        for (unsigned s = 0; s < SLOTS_MAX; s++)
                if (m->is_joined[s])
                        assert_int_equal(m->slots[s].in_flight, in_flight[s]);
        /* G11: the checkpoint is below the lowest unfinished event. */
        assert_int_equal(delivery_resume(&m->d, number_of(m->count)),
                lowest == UINT64_MAX ? number_of(m->count) : lowest);
        assert_delivery_state(&m->d);
}

/* ---- steps ---- */

static void step_add(struct model *m)
{
        uint64_t n = m->count;
        struct store_read_item item = {.has_event = true};
        struct arrival a = {.number = number_of(n), .parked = NOT_REPLAYED, .id = id_of(n)};
        char data[64];

        if (n == EVENTS_MAX)
                return;
        m->events[n].lane = choose(m, m->lanes);
        a.lane_hash = m->events[n].lane * 77;
        snprintf(data, sizeof data, "event %llu", (unsigned long long)n);
        item.event =
                (struct event_view){.stream = BYTES_LITERAL("s"), .data = bytes_of_string(data), .id = a.id};
        a.item = choose(m, 8) ? &item : NULL;
        m->count++;
        delivery_add(&m->d, &a);
}

static unsigned some_slot(struct model *m)
{
        unsigned s = (unsigned)choose(m, SLOTS_MAX);

        for (unsigned i = 0; i < SLOTS_MAX; i++, s = (s + 1) % SLOTS_MAX)
                if (m->is_joined[s])
                        return s;
        return SLOTS_MAX;
}

static void step_join(struct model *m)
{
        unsigned s = (unsigned)choose(m, SLOTS_MAX);

        if (m->is_joined[s])
                return;
        m->slots[s] = (struct slot){.seed = ++m->seed_next, .window = 1 + (uint32_t)choose(m, 5)};
        list_init(&m->slots[s].link);
        m->is_joined[s] = true;
        m->joined_at[s] = m->seed_next;
        delivery_join(&m->d, &m->slots[s]);
}

static void step_leave(struct model *m)
{
        unsigned s = some_slot(m);
        bool is_retry = choose(m, 2);

        if (s == SLOTS_MAX)
                return;
        for (uint64_t i = 0; i < m->count; i++) {
                struct model_event *e = &m->events[i];

                if (!is_flying(e) || e->slot != s)
                        continue;
                if (e->where == WHERE_GIVEN && is_retry && e->retries >= RETRY_MAX) {
                        e->where = WHERE_PARKING;
                        continue;
                }
                if (e->where == WHERE_GIVEN && is_retry)
                        e->retries++;
                model_back(m, i);
        }
        m->is_joined[s] = false;
        delivery_leave(&m->d, &m->slots[s], is_retry);
}

static void step_take(struct model *m)
{
        unsigned s = some_slot(m);
        struct message *message;
        uint64_t n;
        uint8_t copy[1024] __attribute__((aligned(8)));
        char data[64];

        if (s == SLOTS_MAX)
                return;
        delivery_ask(&m->d, &m->slots[s]);
        message = delivery_peek(&m->slots[s]);
        if (!message)
                return;
        n = (message->number - 1) / 2;
        assert_int_equal(m->events[n].where, WHERE_ASSIGNED);
        assert_int_equal(m->events[n].slot, s);
        if (message->payload) {
                const struct store_read_item *item = payload_copy(message->payload, copy);

                snprintf(data, sizeof data, "event %llu", (unsigned long long)n);
                assert_true(bytes_equal(item->event.data, bytes_of_string(data)));
        }
        delivery_give(&m->d, message, m->now_us);
        m->events[n].where = WHERE_GIVEN;
        m->events[n].due_us = m->now_us + TIMEOUT_MS * 1000;
        m->events[n].timed_at = ++m->order;
}

/* Some event that a slot has, or had, or never had. */
static void step_answer(struct model *m)
{
        static const enum nack_action actions[] = {NACK_UNKNOWN, NACK_PARK, NACK_RETRY, NACK_SKIP, NACK_STOP};
        unsigned s = some_slot(m);
        uint64_t n = m->count, tries = 20;
        struct event_id id;
        enum nack_action action;
        bool is_mine, is_ack = choose(m, 4) > 0;

        if (s == SLOTS_MAX || !m->count)
                return;
        while (tries--) {
                n = m->count - 1 - choose(m, MIN(m->count, (uint64_t)40));
                if (m->events[n].where == WHERE_GIVEN && m->events[n].slot == s)
                        break;
        }
        is_mine = m->events[n].where == WHERE_GIVEN && m->events[n].slot == s;
        id = id_of(n);
        if (is_ack) {
                if (is_mine)
                        m->events[n].where = WHERE_FINISHED;
                assert_int_equal(delivery_ack(&m->d, &m->slots[s], &id, m->now_us), is_mine);
                return;
        }
        action = actions[choose(m, COUNT_OF(actions))];
        if (is_mine && action == NACK_PARK)
                m->events[n].where = WHERE_PARKING;
        else if (is_mine && action == NACK_SKIP)
                m->events[n].where = WHERE_FINISHED;
        else if (is_mine && action != NACK_STOP)
                model_retry(m, n);
        assert_int_equal(delivery_nack(&m->d, &m->slots[s], &id, action, BYTES_LITERAL("why")), is_mine);
}

static void step_expire(struct model *m)
{
        m->now_us += choose(m, 6000);
        model_expire(m);
        delivery_expire(&m->d, m->now_us);
        assert_true(delivery_next_due(&m->d) > m->now_us);
}

static void step_park(struct model *m)
{
        struct message *message;

        if (list_is_empty(&m->d.parking))
                return;
        message = CONTAINER_OF(m->d.parking.next, struct message, link);
        assert_int_equal(m->events[(message->number - 1) / 2].where, WHERE_PARKING);
        m->events[(message->number - 1) / 2].where = WHERE_FINISHED;
        delivery_parked(&m->d, message);
}

static void step(struct model *m)
{
        uint64_t what = choose(m, 100);

        if (what < 30)
                step_add(m);
        else if (what < 33)
                step_join(m);
        else if (what < 35)
                step_leave(m);
        else if (what < 65)
                step_take(m);
        else if (what < 90)
                step_answer(m);
        else if (what < 94)
                step_expire(m);
        else if (what < 99)
                step_park(m);
        else
                delivery_drop_payloads(&m->d);
        delivery_dispatch(&m->d, m->now_us);
}

/* Everybody works on until nothing is left: nothing was lost. */
static void finish_all(struct model *m)
{
        struct event_id id;

        step_join(m);
        for (unsigned round = 0; round < 100000 && !delivery_is_empty(&m->d); round++) {
                step_take(m);
                if (some_slot(m) == SLOTS_MAX)
                        step_join(m);
                for (uint64_t i = 0; i < m->count; i++)
                        if (m->events[i].where == WHERE_GIVEN) {
                                unsigned s = m->events[i].slot;

                                id = id_of(i);
                                m->events[i].where = WHERE_FINISHED;
                                assert_true(delivery_ack(&m->d, &m->slots[s], &id, m->now_us));
                        }
                step_park(m);
                delivery_dispatch(&m->d, m->now_us);
        }
        check(m);
        assert_true(delivery_is_empty(&m->d));
        for (uint64_t i = 0; i < m->count; i++)
                assert_int_equal(m->events[i].where, WHERE_FINISHED);
}

static void run(enum emitter_strategy strategy, uint64_t seed)
{
        struct emitter_settings settings = emitter_settings_default;
        struct model *m = MEMORY_NEW(struct model);

        model = m;
        settings.strategy = strategy;
        settings.max_retry_count = RETRY_MAX;
        settings.message_timeout_ms = TIMEOUT_MS;
        m->random = seed * 0x9e3779b97f4a7c15ull + 1;
        m->lanes = 1 + seed % 12;
        delivery_init(&m->d, &settings);
        m->d.on_assigned = on_assigned;
        for (unsigned i = 0; i < 1500; i++) {
                step(m);
                check(m);
        }
        finish_all(m);
        assert_true(m->deliveries > m->count);
        if (strategy_has_lanes(strategy) && seed > 1)
                assert_true(m->recalls > 0);
        delivery_fini(&m->d);
        for (unsigned s = 0; s < SLOTS_MAX; s++)
                assert_null(m->slots[s].ready);
        free(m);
}

TEST(delivery, round_robin_is_as_the_model_says)
{
        for (uint64_t seed = 1; seed <= 30; seed++)
                run(STRATEGY_ROUND_ROBIN, seed);
}

TEST(delivery, dispatch_to_single_is_as_the_model_says)
{
        for (uint64_t seed = 1; seed <= 30; seed++)
                run(STRATEGY_DISPATCH_TO_SINGLE, seed);
}

TEST(delivery, order_and_fencing_of_lanes_are_as_the_model_says)
{
        for (uint64_t seed = 1; seed <= 40; seed++)
                run(STRATEGY_PER_STREAM, seed);
}

/* ---- directed ---- */

struct scene {
        struct delivery d;
        struct slot slots[8];
        uint64_t next;
};

static void scene_begin(struct scene *s, enum emitter_strategy strategy, unsigned slots, uint32_t window)
{
        struct emitter_settings settings = emitter_settings_default;

        *s = (struct scene){0};
        settings.strategy = strategy;
        delivery_init(&s->d, &settings);
        for (unsigned i = 0; i < slots; i++) {
                s->slots[i] = (struct slot){.seed = i + 1, .window = window};
                list_init(&s->slots[i].link);
                delivery_join(&s->d, &s->slots[i]);
        }
}

static void scene_add(struct scene *s, uint64_t lane, unsigned count)
{
        for (unsigned i = 0; i < count; i++) {
                struct arrival a = {
                        .number = s->next, .parked = NOT_REPLAYED, .id = id_of(s->next), .lane_hash = lane};

                s->next++;
                delivery_add(&s->d, &a);
        }
        delivery_dispatch(&s->d, 0);
}

static int take(struct scene *s, unsigned slot)
{
        struct message *m = delivery_peek(&s->slots[slot]);

        if (!m)
                return -1;
        delivery_give(&s->d, m, 0);
        return (int)m->number;
}

TEST(dispatch, round_robin_gives_each_its_turn_and_skips_who_is_full)
{
        struct scene s;
        struct event_id id = id_of(4);

        scene_begin(&s, STRATEGY_ROUND_ROBIN, 3, 3);
        scene_add(&s, 0, 12);
        assert_int_equal(s.d.pending_count, 3);
        for (int n = 0; n < 9; n++)
                assert_int_equal(take(&s, (unsigned)n % 3), n);
        assert_int_equal(take(&s, 0), -1);
        delivery_ack(&s.d, &s.slots[1], &id, 0);
        delivery_dispatch(&s.d, 0);
        assert_int_equal(take(&s, 1), 9);
        delivery_fini(&s.d);
}

TEST(dispatch, dispatch_to_single_fills_the_first_before_the_next)
{
        struct scene s;
        struct event_id id = id_of(0);

        scene_begin(&s, STRATEGY_DISPATCH_TO_SINGLE, 2, 2);
        scene_add(&s, 0, 3);
        assert_int_equal(take(&s, 0), 0);
        assert_int_equal(take(&s, 0), 1);
        assert_int_equal(take(&s, 1), 2);
        delivery_ack(&s.d, &s.slots[0], &id, 0);
        scene_add(&s, 0, 1);
        assert_int_equal(take(&s, 0), 3);
        delivery_fini(&s.d);
}

/* A consumer whose connection is slow has the whole time for each event, and loses no retry to the way there.
 */
TEST(dispatch, the_time_to_answer_begins_when_the_consumer_has_it)
{
        uint64_t timeout = (uint64_t)emitter_settings_default.message_timeout_ms * 1000;
        struct scene s;
        struct message *m;

        scene_begin(&s, STRATEGY_ROUND_ROBIN, 1, 2);
        scene_add(&s, 0, 1);
        m = delivery_peek(&s.slots[0]);
        delivery_give(&s.d, m, timeout - 1);
        assert_int_equal(delivery_next_due(&s.d), 2 * timeout - 1);
        delivery_expire(&s.d, 2 * timeout - 2);
        assert_int_equal(s.d.timed_out, 0);
        delivery_expire(&s.d, 2 * timeout - 1);
        assert_int_equal(s.d.timed_out, 1);
        assert_int_equal(m->retry_count, 1);
        delivery_fini(&s.d);
}

TEST(lanes, a_retry_takes_back_what_is_later_of_its_lane)
{
        struct scene s;
        struct event_id id = id_of(1), late = id_of(2), other = id_of(4);

        scene_begin(&s, STRATEGY_PER_STREAM, 1, 10);
        scene_add(&s, 7, 4);
        scene_add(&s, 8, 1);
        for (int n = 0; n < 5; n++)
                assert_int_equal(take(&s, 0), n);
        assert_true(delivery_nack(&s.d, &s.slots[0], &id, NACK_RETRY, BYTES_EMPTY));
        assert_false(
                delivery_ack(&s.d, &s.slots[0], &late, 0)); /* it comes again, behind the one that failed */
        assert_true(delivery_ack(&s.d, &s.slots[0], &other, 0));
        delivery_dispatch(&s.d, 0);
        assert_int_equal(take(&s, 0), 1);
        assert_int_equal(take(&s, 0), 2);
        assert_int_equal(take(&s, 0), 3);
        delivery_fini(&s.d);
}

static unsigned count_moves(struct scene *s, struct slot *const *before, unsigned lanes)
{
        unsigned moves = 0;

        for (unsigned i = 0; i < lanes; i++)
                moves += lanes_owner(&s->d, i * 7919) != before[i];
        return moves;
}

TEST(lanes, a_join_moves_only_what_the_newcomer_gets_and_a_leave_only_what_the_leaver_had)
{
        enum { LANES = 20000 };
        struct slot **before = memory_new_array(LANES, sizeof *before);
        struct scene s;
        unsigned moved, of_leaver = 0, of_newcomer = 0;
        struct slot newcomer = {.seed = 99, .window = 5};

        scene_begin(&s, STRATEGY_PER_STREAM, 7, 5);
        for (unsigned i = 0; i < LANES; i++)
                before[i] = lanes_owner(&s.d, i * 7919);
        list_init(&newcomer.link);
        delivery_join(&s.d, &newcomer);
        moved = count_moves(&s, before, LANES);
        for (unsigned i = 0; i < LANES; i++)
                of_newcomer += lanes_owner(&s.d, i * 7919) == &newcomer;
        assert_int_equal(moved, of_newcomer);
        assert_in_range(moved, LANES / 8 - LANES / 24, LANES / 8 + LANES / 24); /* an eighth, more or less */
        delivery_leave(&s.d, &newcomer, true);
        assert_int_equal(count_moves(&s, before, LANES), 0);
        for (unsigned i = 0; i < LANES; i++)
                of_leaver += before[i] == &s.slots[2];
        delivery_leave(&s.d, &s.slots[2], true);
        assert_int_equal(count_moves(&s, before, LANES), of_leaver);
        delivery_fini(&s.d);
        free(before);
}

TEST(lanes, who_does_not_look_loses_its_lanes_until_it_asks)
{
        struct scene s;
        struct emitter_settings settings = emitter_settings_default;
        unsigned sleeper;

        scene_begin(&s, STRATEGY_PER_STREAM, 2, 2);
        scene_add(&s, 5, 2);
        sleeper = s.slots[0].in_flight ? 0 : 1;
        assert_int_equal(s.slots[sleeper].in_flight, 2);
        delivery_expire(&s.d, (uint64_t)settings.message_timeout_ms * 1000);
        delivery_dispatch(&s.d, 1);
        assert_int_equal(take(&s, 1 - sleeper), 0);
        assert_int_equal(take(&s, 1 - sleeper), 1);
        assert_true(s.slots[sleeper].is_stalled);
        delivery_ask(&s.d, &s.slots[sleeper]);
        assert_false(s.slots[sleeper].is_stalled);
        /* Fencing: the other has the lane while anything of it is in flight there. */
        scene_add(&s, 5, 1);
        assert_int_equal(take(&s, sleeper), -1);
        delivery_fini(&s.d);
}

TEST(payload, blocks_are_shared_and_given_back)
{
        struct payloads p;
        struct payload *held[300];
        char data[400];
        struct store_read_item item = {.has_event = true, .has_link = true};

        memset(data, 'x', sizeof data);
        item.event =
                (struct event_view){.stream = BYTES_LITERAL("target"), .data = bytes_of(data, sizeof data)};
        item.link = (struct event_view){.stream = BYTES_LITERAL("links"), .type = EVENT_TYPE_LINK};
        payloads_init(&p);
        for (unsigned i = 0; i < COUNT_OF(held); i++)
                held[i] = payload_new(&p, &item);
        assert_true(p.size > COUNT_OF(held) * sizeof data);
        assert_true(p.size < COUNT_OF(held) * (payload_size_of(&item) + 100));
        for (unsigned i = 0; i < COUNT_OF(held); i++) {
                assert_true(bytes_equal_string(held[i]->item.event.stream, "target"));
                assert_true(bytes_equal_string(held[i]->item.link.stream, "links"));
                payload_free(&p, &held[i]);
        }
        assert_true(p.size <= PAYLOAD_BLOCK_SIZE);
        payloads_fini(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(delivery, round_robin_is_as_the_model_says),
                TEST_ROW(delivery, dispatch_to_single_is_as_the_model_says),
                TEST_ROW(delivery, order_and_fencing_of_lanes_are_as_the_model_says),
                TEST_ROW(dispatch, round_robin_gives_each_its_turn_and_skips_who_is_full),
                TEST_ROW(dispatch, dispatch_to_single_fills_the_first_before_the_next),
                TEST_ROW(dispatch, the_time_to_answer_begins_when_the_consumer_has_it),
                TEST_ROW(lanes, a_retry_takes_back_what_is_later_of_its_lane),
                TEST_ROW(
                        lanes, a_join_moves_only_what_the_newcomer_gets_and_a_leave_only_what_the_leaver_had),
                TEST_ROW(lanes, who_does_not_look_loses_its_lanes_until_it_asks),
                TEST_ROW(payload, blocks_are_shared_and_given_back),
        };

        return cmocka_run_group_tests_name("delivery", tests, NULL, NULL);
}
