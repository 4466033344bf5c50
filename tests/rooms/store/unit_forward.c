/* Appends and deletes at a node that does not lead: every outcome of the leader comes back whole and once,
 * and what was sent and is not answered is unknown (G3, G5, G6). */
#include "store/forward_bytes.h"
#include "store/room.h"
#include "cluster_support.h"

enum { OUTSTANDING = 4096, SECOND_US = 1000 * 1000 };

/* What passes between the nodes about appends, and what is done to it. */
static struct tap {
        enum store_message loses;   /* these are lost on the way */
        enum store_message refuses; /* these find no room */
        unsigned requests, outcomes;
        uint64_t request_from;
        struct buffer request, outcome; /* the last ones */
} tap;

static bool tapped_send(void *arg, uint64_t node_id, enum store_link link, uint16_t type,
        const struct bytes *pieces, unsigned count)
{
        bool is_request = type == MESSAGE_FORWARD;
        struct buffer *kept = is_request ? &tap.request : &tap.outcome;

        if (type != MESSAGE_FORWARD && type != MESSAGE_FORWARDED)
                return send_parcel(arg, node_id, link, type, pieces, count);
        if (type == tap.refuses)
                return false;
        *(is_request ? &tap.requests : &tap.outcomes) += 1;
        if (is_request)
                tap.request_from = ((struct member *)arg)->node_id;
        buffer_clear(kept);
        for (unsigned i = 0; i < count; i++)
                buffer_add_bytes(kept, pieces[i]);
        return type == tap.loses || send_parcel(arg, node_id, link, type, pieces, count);
}

struct scene {
        struct trio trio;
        struct member *leader;
        struct member *asked; /* follows */
        struct member *third; /* follows too */
};

static void link_all(struct trio *t, struct member *m)
{
        for (unsigned i = 0; i < t->count; i++)
                if (&t->members[i] != m && t->members[i].store)
                        store_link_changed(m->store, t->members[i].node_id, true);
}

static void look_around(struct scene *c)
{
        struct trio *t = &c->trio;

        c->leader = trio_leader(t);
        trio_run(t, 300 * 1000);
        assert_ptr_equal(trio_leader(t), c->leader);
        c->asked = trio_follower(t, c->leader);
        for (unsigned i = 0; i < t->count; i++)
                if (&t->members[i] != c->leader && &t->members[i] != c->asked)
                        c->third = &t->members[i];
        assert_true(store_is_ready(c->asked->store));
}

/* `in_flight_size_max` 0: the default. */
static void scene_new_with(struct scene *c, uint64_t seed, uint64_t in_flight_size_max)
{
        struct trio *t = &c->trio;

        tap = (struct tap){0};
        trio_new(t, seed, 3, 0);
        for (unsigned i = 0; i < t->count; i++) {
                member_stop(&t->members[i]);
                t->members[i].options.cluster.send = tapped_send;
                t->members[i].options.in_flight_size_max = in_flight_size_max;
                member_start(&t->members[i]);
        }
        look_around(c);
        for (unsigned i = 0; i < t->count; i++)
                link_all(t, &t->members[i]);
}

static void scene_new(struct scene *c, uint64_t seed)
{
        scene_new_with(c, seed, 0);
}

static void scene_end(struct scene *c)
{
        trio_end(&c->trio);
        buffer_fini(&tap.request);
        buffer_fini(&tap.outcome);
}

static void cut(struct scene *c, const struct member *a, const struct member *b, bool is_cut)
{
        c->trio.is_cut[a->node_id - 1][b->node_id - 1] = is_cut;
        c->trio.is_cut[b->node_id - 1][a->node_id - 1] = is_cut;
}

static void begin_draft(struct member *m, struct draft *d, struct answer *a)
{
        *a = (struct answer){.store = m->store};
        d->append.streams = d->streams;
        d->append.events = d->events;
        d->append.write_id = control_next_write_id(m->control);
        store_append(m->store, &d->append, on_answer, a);
        a->was_at_once = a->is_done;
        free(d->events);
        d->events = NULL;
}

static void begin_put(struct member *m, struct answer *a, const char *stream, struct expected expected,
        uint64_t id, uint64_t deadline_us)
{
        struct draft d = {.append = {.deadline_us = deadline_us}};

        draft_stream(&d, stream, expected);
        draft_event(&d, 0, id);
        begin_draft(m, &d, a);
}

static void await(struct scene *c, struct answer *a)
{
        for (unsigned n = 0; n < 20000 && !a->is_done; n++)
                trio_run(&c->trio, 1000);
        assert_true(a->is_done);
}

static struct answer take(struct scene *c, struct draft *d)
{
        struct answer a;

        begin_draft(c->asked, d, &a);
        /* What no leader would take needs none. */
        assert_true(a.was_at_once == (a.verdict == STORE_INVALID || a.verdict == STORE_TOO_LARGE));
        await(c, &a);
        a.result.streams = NULL; /* `a` moves: a.streams has them */
        return a;
}

static struct answer put_at(struct scene *c, const char *stream, struct expected expected, uint64_t id)
{
        struct draft d = {0};

        draft_stream(&d, stream, expected);
        draft_event(&d, 0, id);
        return take(c, &d);
}

static void begin_delete_at(
        struct member *m, struct answer *a, const char *stream, struct expected expected, bool is_tombstone)
{
        struct store_delete del = {.stream = bytes_of_string(stream),
                .expected = expected,
                .is_tombstone = is_tombstone,
                .write_id = control_next_write_id(m->control)};

        *a = (struct answer){.store = m->store};
        store_delete(m->store, &del, on_answer, a);
}

static struct answer delete_at(
        struct scene *c, const char *stream, struct expected expected, bool is_tombstone)
{
        struct answer a;

        begin_delete_at(c->asked, &a, stream, expected, is_tombstone);
        await(c, &a);
        return a;
}

static uint64_t events_of(struct member *m, const char *stream)
{
        struct store_stream_info info;

        assert_int_equal(store_stream_info(m->store, bytes_of_string(stream), &info), 0);
        return info.has_events ? info.last_revision + 1 : 0;
}

/* ---- outcomes ---- */

TEST(append, at_a_follower_gets_every_outcome_of_the_leader_G5_G6)
{
        static uint8_t large[LIMIT_EVENT_SIZE_MAX];
        char name[LIMIT_STREAM_NAME_SIZE_MAX + 8];
        struct scene c;
        struct draft d = {0};
        struct answer a, first;

        scene_new(&c, 1);
        first = put_at(&c, "order-1", NONE, 1);
        assert_int_equal(first.verdict, STORE_OK);
        assert_true(first.result.has_position);
        assert_int_equal(first.result.position, 1);
        assert_true(first.streams[0].has_revision);
        assert_int_equal(first.streams[0].revision, 0);
        a = put_at(&c, "order-1", EXACT(0), 2);
        assert_int_equal(a.streams[0].revision, 1);
        assert_int_equal(a.result.position, first.result.position + 1);

        a = put_at(&c, "order-1", EXACT(7), 3);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_true(a.streams[0].has_revision);
        assert_int_equal(a.streams[0].revision, 1);
        assert_true(strlen(a.problem) > 0);

        a = put_at(&c, "order-1", NONE, 1); /* again */
        assert_int_equal(a.verdict, STORE_OK);
        assert_true(a.result.is_duplicate);
        assert_int_equal(a.result.position, first.result.position);

        draft_stream(&d, "order-1", ANY);
        draft_event(&d, 0, 10);
        draft_event(&d, 0, 11)->data = bytes_of(large, sizeof(large));
        a = take(&c, &d);
        assert_int_equal(a.verdict, STORE_TOO_LARGE);
        assert_int_equal(a.result.event, 1);
        assert_int_equal(a.result.limit, LIMIT_EVENT_SIZE_MAX);
        assert_true(a.result.size > LIMIT_EVENT_SIZE_MAX);

        d = (struct draft){0};
        draft_stream(&d, "order-1", EXACT(1));
        draft_stream(&d, "order-2", NONE);
        draft_stream(&d, "order-3", EXISTS);
        draft_event(&d, 1, 20);
        draft_event(&d, 0, 21);
        a = take(&c, &d);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_int_equal(a.result.stream, 2);
        assert_false(a.streams[2].has_revision);

        memset(name, 'x', sizeof(name));
        name[sizeof(name) - 1] = 0;
        a = put_at(&c, name, ANY, 30);
        assert_int_equal(a.verdict, STORE_TOO_LARGE);
        assert_int_equal(a.result.limit, LIMIT_STREAM_NAME_SIZE_MAX);
        assert_int_equal(put_at(&c, "$all", ANY, 31).verdict, STORE_INVALID);

        assert_int_equal(delete_at(&c, "order-1", EXACT(0), false).verdict, STORE_CONFLICT);
        a = delete_at(&c, "order-1", EXACT(1), false);
        assert_int_equal(a.verdict, STORE_OK);
        a = put_at(&c, "order-1", EXACT(7), 40);
        assert_int_equal(a.verdict, STORE_CONFLICT);
        assert_true(a.result.is_soft_deleted);
        assert_int_equal(delete_at(&c, "order-1", ANY, true).verdict, STORE_OK);
        assert_int_equal(put_at(&c, "order-1", ANY, 41).verdict, STORE_STREAM_DELETED);

        trio_run(&c.trio, 300 * 1000);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(member_next(&c.trio.members[i]), member_next(c.leader));
        scene_end(&c);
}

TEST(append, of_several_streams_keeps_everything_of_its_events)
{
        static const struct bytes tags[] = {{(const uint8_t *)"gauge", 5}, {(const uint8_t *)"year=715", 8}};
        struct scene c;
        struct draft d = {0};
        struct event_draft *e;
        struct answer a;

        scene_new(&c, 2);
        draft_stream(&d, "gauge-1", NONE);
        draft_stream(&d, "gauge-2", NONE);
        e = draft_event(&d, 1, 5);
        e->metadata = BYTES_LITERAL("{\"by\":\"Usama\"}");
        e->content_type = CONTENT_BINARY;
        e->tags = tags;
        e->tag_count = 2;
        draft_event(&d, 0, 6);
        draft_event(&d, 1, 7);
        a = take(&c, &d);
        assert_int_equal(a.verdict, STORE_OK);
        assert_int_equal(a.streams[0].revision, 0);
        assert_int_equal(a.streams[1].revision, 1);
        assert_int_equal(a.result.position, a.result.first_position + 2);
        trio_run(&c.trio, 300 * 1000);
        {
                struct store_read_options options = {.stream = BYTES_LITERAL("gauge-2"), .limit = 10};
                struct store_reader *reader;
                struct store_read_item item;
                struct bytes tag;

                assert_int_equal(store_reader_open(c.asked->store, &options, &reader), 0);
                assert_int_equal(store_reader_next(reader, &item), 0);
                assert_true(event_id_equal(&item.event.id, &(struct event_id){{[15] = 5}}));
                assert_int_equal(item.event.position, a.result.first_position);
                assert_int_equal(item.event.content_type, CONTENT_BINARY);
                assert_true(bytes_equal_string(item.event.data, "{\"total\":5}"));
                assert_true(bytes_equal_string(item.event.metadata, "{\"by\":\"Usama\"}"));
                assert_true(event_tag_next(&item.event.tags, &tag) && bytes_equal(tag, tags[0]));
                assert_true(event_tag_next(&item.event.tags, &tag) && bytes_equal(tag, tags[1]));
                store_reader_close(&reader);
        }
        scene_end(&c);
}

TEST(append, that_requires_the_leader_is_not_sent_on)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 3);
        a = member_put(c.asked, "a", ANY, 1, 10, true);
        assert_int_equal(a.verdict, STORE_NOT_LEADER);
        assert_int_equal(a.result.leader_id, c.leader->node_id);
        assert_int_equal(tap.requests, 0);
        scene_end(&c);
}

/* Nothing goes in circles: whoever is asked by another node decides or refuses. */
TEST(request, at_a_node_that_does_not_lead_is_refused_and_not_sent_on_G3)
{
        struct store_append_result result;
        struct arena arena = {0};
        struct scene c;
        struct answer a;

        scene_new(&c, 4);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "a", ANY, 1, 0);
        assert_int_equal(tap.requests, 1);
        store_receive(c.third->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                buffer_bytes(&tap.request));
        assert_int_equal(tap.requests, 1);
        assert_int_equal(tap.outcomes, 1);
        assert_true(forward_outcome_decode(buffer_bytes(&tap.outcome), 1, 1, &arena, &result));
        assert_int_equal(result.verdict, STORE_NOT_LEADER);
        assert_int_equal(result.leader_id, c.leader->node_id);
        /* It was not the node that was asked, so its answer does not count. */
        trio_run(&c.trio, SECOND_US);
        assert_false(a.is_done);
        store_receive(c.asked->store, c.leader->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARDED,
                buffer_bytes(&tap.outcome));
        assert_true(a.is_done);
        assert_int_equal(a.verdict, STORE_NOT_LEADER);
        arena_fini(&arena);
        scene_end(&c);
}

/* ---- unknown ---- */

static void check_lost(uint64_t seed, bool is_request_lost)
{
        struct scene c;
        struct answer a, again;

        scene_new(&c, seed);
        tap.loses = is_request_lost ? MESSAGE_FORWARD : MESSAGE_FORWARDED;
        begin_put(c.asked, &a, "order-1", NONE, 1, 0);
        trio_run(&c.trio, 300 * 1000);
        assert_false(a.is_done);
        store_link_changed(c.asked->store, c.third->node_id, false);
        assert_false(a.is_done);
        store_link_changed(c.asked->store, c.leader->node_id, false);
        assert_true(a.is_done);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        tap.loses = 0;
        link_all(&c.trio, c.asked);
        again = put_at(&c, "order-1", NONE, 1);
        assert_int_equal(again.verdict, STORE_OK);
        assert_int_equal(again.result.is_duplicate, !is_request_lost);
        assert_int_equal(events_of(c.leader, "order-1"), 1);
        scene_end(&c);
}

TEST(link, that_is_lost_makes_the_outcome_unknown_and_a_retry_is_safe_G3_G6)
{
        check_lost(5, true);
        check_lost(6, false);
}

TEST(leader, that_is_lost_makes_the_outcome_unknown_and_a_retry_at_its_successor_is_safe_G3_G6)
{
        static const char *const streams[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

        unsigned unknown = 0, acknowledged = 0, kept = 0; /* of the unknown ones, in the log */

        for (uint64_t seed = 10; seed < 20; seed++) {
                struct answer a[COUNT_OF(streams)], again;
                struct member *lost;
                struct scene c;

                scene_new(&c, seed);
                /* Streams of their own, since these links may change the order. */
                for (unsigned i = 0; i < COUNT_OF(a); i++)
                        begin_put(c.asked, &a[i], streams[i], NONE, 1 + i, 0);
                /* Somewhere between the first message and the last answer. */
                trio_run(&c.trio, os_sim_choose(c.trio.os, 1500));
                lost = c.leader;
                cut(&c, lost, c.asked, true);
                cut(&c, lost, c.third, true);
                store_link_changed(c.asked->store, lost->node_id, false);
                store_link_changed(c.third->store, lost->node_id, false);
                trio_run(&c.trio, 100);
                for (unsigned i = 0; i < COUNT_OF(a); i++) {
                        assert_true(a[i].is_done);
                        assert_true(a[i].verdict == STORE_UNKNOWN || a[i].verdict == STORE_OK);
                        assert_int_equal(a[i].times, 1);
                }
                trio_run(&c.trio, 4 * SECOND_US);
                c.leader = trio_leader(&c.trio);
                assert_ptr_not_equal(c.leader, lost);
                for (unsigned i = 0; i < COUNT_OF(a); i++) {
                        again = member_put(c.asked, streams[i], NONE, 1 + i, 10, false);
                        assert_int_equal(again.verdict, STORE_OK);
                        assert_int_equal(events_of(c.leader, streams[i]), 1);
                        unknown += a[i].verdict == STORE_UNKNOWN;
                        kept += a[i].verdict == STORE_UNKNOWN && again.result.is_duplicate;
                        if (a[i].verdict == STORE_OK) {
                                acknowledged++;
                                assert_true(again.result.is_duplicate);
                                assert_int_equal(again.result.position, a[i].result.position);
                        }
                }
                cut(&c, lost, c.asked, false);
                cut(&c, lost, c.third, false);
                scene_end(&c);
        }
        assert_true(acknowledged > 0 && kept > 0 && kept < unknown);
}

static void check_deadline(uint64_t seed, uint64_t given_us, uint64_t expected_us)
{
        struct scene c;
        struct answer a;
        uint64_t now;

        scene_new(&c, seed);
        now = os_monotonic_us(c.trio.os);
        tap.loses = MESSAGE_FORWARDED;
        begin_put(c.asked, &a, "order-1", NONE, 1, given_us ? now + given_us : 0);
        trio_run(&c.trio, expected_us - 1000);
        assert_false(a.is_done);
        trio_run(&c.trio, 2000);
        assert_true(a.is_done);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        /* A late answer changes nothing (on_answer counts). */
        store_receive(c.asked->store, c.leader->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARDED,
                buffer_bytes(&tap.outcome));
        assert_int_equal(a.times, 1);
        scene_end(&c);
}

TEST(deadline, bounds_every_wait_and_a_late_answer_is_ignored_G3)
{
        check_deadline(20, 2 * SECOND_US, 2 * SECOND_US);
        check_deadline(21, 0, 10 * SECOND_US);
}

TEST(deadline, that_has_passed_sends_nothing)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 22);
        begin_put(c.asked, &a, "order-1", NONE, 1, os_monotonic_us(c.trio.os) - 1);
        assert_true(a.was_at_once);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        assert_int_equal(tap.requests, 0);
        scene_end(&c);
}

/* Time travels as what is left: the leader gives up when the client does. */
TEST(deadline, reaches_the_leader)
{
        struct store_append_result result;
        struct arena arena = {0};
        struct scene c;
        struct answer a;

        scene_new(&c, 23);
        cut(&c, c.leader, c.third, true);
        c.trio.is_cut[c.asked->node_id - 1][c.leader->node_id - 1] = true; /* the leader hears nobody */
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", NONE, 1, os_monotonic_us(c.trio.os) + 100 * 1000);
        store_receive(c.leader->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                buffer_bytes(&tap.request));
        trio_run(&c.trio, 90 * 1000);
        assert_int_equal(tap.outcomes, 0);
        trio_run(&c.trio, 20 * 1000);
        assert_int_equal(tap.outcomes, 1);
        assert_true(forward_outcome_decode(buffer_bytes(&tap.outcome), 1, 1, &arena, &result));
        assert_int_equal(result.verdict, STORE_UNKNOWN);
        arena_fini(&arena);
        cut(&c, c.leader, c.third, false);
        cut(&c, c.leader, c.asked, false);
        scene_end(&c);
}

TEST(answer, for_an_earlier_life_is_never_taken_for_one_of_this)
{
        struct buffer earlier = {0};
        struct scene c;
        struct answer a;

        scene_new(&c, 24);
        assert_int_equal(put_at(&c, "order-1", NONE, 1).verdict, STORE_OK);
        buffer_add_bytes(&earlier, buffer_bytes(&tap.outcome));
        member_stop(c.asked);
        member_start(c.asked);
        trio_run(&c.trio, SECOND_US);
        link_all(&c.trio, c.asked);
        assert_ptr_equal(trio_leader(&c.trio), c.leader);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-2", NONE, 2, 0); /* the first of this life, as that was of the other */
        assert_true(get_u64(tap.request.data + 8) == get_u64(earlier.data + 8));
        store_receive(c.asked->store, c.leader->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARDED,
                buffer_bytes(&earlier));
        assert_false(a.is_done);
        store_link_changed(c.asked->store, c.leader->node_id, false);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        buffer_fini(&earlier);
        scene_end(&c);
}

TEST(answer, that_makes_no_sense_is_an_unknown_outcome_G3)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 25);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", NONE, 1, 0);
        store_receive(c.asked->store, c.leader->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARDED,
                bytes_of(tap.request.data, 15));
        assert_false(a.is_done);
        store_receive(c.asked->store, c.leader->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARDED,
                bytes_of(tap.request.data, 16));
        assert_true(a.is_done);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        scene_end(&c);
}

TEST(request, that_makes_no_sense_is_refused_and_changes_nothing_G17)
{
        struct store_append_result result;
        struct arena arena = {0};
        struct scene c;
        uint64_t next;

        scene_new(&c, 26);
        next = member_next(c.leader);
        assert_int_equal(put_at(&c, "order-1", NONE, 1).verdict, STORE_OK);
        tap.outcomes = 0;
        store_receive(c.leader->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                bytes_of(tap.request.data, 15));
        assert_int_equal(tap.outcomes, 0);
        for (size_t size = 16; size < tap.request.size; size++) {
                store_receive(c.leader->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                        bytes_of(tap.request.data, size));
                assert_int_equal(tap.outcomes, size - 15);
                assert_true(forward_outcome_decode(buffer_bytes(&tap.outcome), 1, 1, &arena, &result));
                assert_int_equal(result.verdict, STORE_INVALID);
        }
        trio_run(&c.trio, 300 * 1000);
        assert_int_equal(member_next(c.leader), next + 1);
        arena_fini(&arena);
        scene_end(&c);
}

/* ---- bounds ---- */

TEST(forwards, are_bounded_in_number_G18)
{
        struct answer *answers = memory_new_array(OUTSTANDING + 1, sizeof(*answers));
        struct scene c;

        scene_new(&c, 30);
        tap.loses = MESSAGE_FORWARD;
        for (unsigned i = 0; i < OUTSTANDING; i++) {
                begin_put(c.asked, &answers[i], "order-1", ANY, 1 + i, 0);
                assert_false(answers[i].is_done);
        }
        begin_put(c.asked, &answers[OUTSTANDING], "order-1", ANY, 1 + OUTSTANDING, 0);
        assert_true(answers[OUTSTANDING].was_at_once);
        assert_int_equal(answers[OUTSTANDING].verdict, STORE_BUSY);
        assert_int_equal(tap.requests, OUTSTANDING);
        trio_run(&c.trio, 11 * SECOND_US);
        for (unsigned i = 0; i < OUTSTANDING; i++)
                assert_int_equal(answers[i].verdict, STORE_UNKNOWN);
        tap.loses = 0;
        assert_int_equal(put_at(&c, "order-1", NONE, 1).verdict, STORE_OK);
        scene_end(&c);
        free(answers);
}

TEST(forwards, are_bounded_in_bytes_but_one_always_fits_G18)
{
        struct answer first, second, third;
        struct scene c;

        scene_new_with(&c, 31, 600);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &first, "order-1", ANY, 1, 0);
        begin_put(c.asked, &second, "order-1", ANY, 2, 0);
        begin_put(c.asked, &third, "order-1", ANY, 3, 0);
        assert_false(first.is_done);
        assert_false(second.is_done);
        assert_int_equal(third.verdict, STORE_BUSY);
        trio_run(&c.trio, 11 * SECOND_US);
        assert_int_equal(second.verdict, STORE_UNKNOWN);
        begin_put(c.asked, &third, "order-1", ANY, 3, 0);
        assert_false(third.is_done);
        store_link_changed(c.asked->store, c.leader->node_id, false);
        scene_end(&c);
}

TEST(requests, of_one_node_are_bounded_at_the_leader_and_others_go_on_G18)
{
        struct forward_request rq = {.tag = {.life = 1}, .remaining_us = 60 * SECOND_US};
        struct store_append_stream stream = {.stream = BYTES_LITERAL("order-1")};
        struct store_append_event event = {.draft = {.type = BYTES_LITERAL("Placed")}};
        struct store_append_result result;
        struct buffer body = {0};
        struct arena arena = {0};
        struct scene c;

        scene_new(&c, 32);
        rq.append = (struct store_append){
                .streams = &stream, .stream_count = 1, .events = &event, .event_count = 1};
        for (unsigned i = 0; i <= OUTSTANDING; i++) {
                rq.tag.number = 1 + i;
                event.draft.id = id_of(1 + i);
                buffer_clear(&body);
                forward_request_encode(&rq, &body);
                store_receive(c.leader->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                        buffer_bytes(&body));
                assert_int_equal(tap.outcomes, i == OUTSTANDING);
        }
        assert_true(forward_outcome_decode(buffer_bytes(&tap.outcome), 1, 1, &arena, &result));
        assert_int_equal(result.verdict, STORE_BUSY);
        store_receive(
                c.leader->store, c.third->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD, buffer_bytes(&body));
        assert_int_equal(tap.outcomes, 1);
        trio_run(&c.trio, SECOND_US);
        assert_int_equal(tap.outcomes, OUTSTANDING + 2);
        assert_int_equal(events_of(c.leader, "order-1"), OUTSTANDING + 1);
        buffer_fini(&body);
        arena_fini(&arena);
        scene_end(&c);
}

TEST(append, that_cannot_be_sent_is_refused_for_certain_G3)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 33);
        tap.refuses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", ANY, 1, 0);
        assert_true(a.was_at_once);
        assert_int_equal(a.verdict, STORE_BUSY); /* the link is up, and full */
        store_link_changed(c.asked->store, c.leader->node_id, false);
        begin_put(c.asked, &a, "order-1", ANY, 1, 0);
        assert_int_equal(a.verdict, STORE_NOT_LEADER);
        assert_int_equal(a.result.leader_id, c.leader->node_id);
        trio_run(&c.trio, 11 * SECOND_US); /* nothing of them is left: on_answer counts */
        assert_int_equal(events_of(c.leader, "order-1"), 0);
        scene_end(&c);
}

TEST(append, that_no_message_can_carry_is_refused_with_its_limit_G17)
{
        static uint8_t large[LIMIT_EVENT_SIZE_MAX];
        struct scene c;
        struct draft d = {0};
        struct answer a;

        scene_new(&c, 34);
        draft_stream(&d, "order-1", ANY);
        for (unsigned i = 0; i < 6; i++)
                draft_event(&d, 0, 1 + i)->data = bytes_of(large, sizeof(large));
        begin_draft(c.asked, &d, &a);
        assert_true(a.was_at_once);
        assert_int_equal(a.verdict, STORE_TOO_LARGE);
        assert_true(a.result.size > a.result.limit);

        d = (struct draft){0};
        draft_stream(&d, "order-1", ANY);
        for (unsigned i = 0; i <= LIMIT_APPEND_EVENTS_MAX; i++)
                draft_event(&d, 0, 1 + i);
        begin_draft(c.asked, &d, &a);
        assert_int_equal(a.verdict, STORE_TOO_LARGE);
        assert_int_equal(a.result.limit, LIMIT_APPEND_EVENTS_MAX);
        assert_int_equal(tap.requests, 0);
        scene_end(&c);
}

/* ---- facts and the end ---- */

static void on_facts(struct control_watcher *watcher)
{
        (void)watcher;
}

/* Which facts of writes a node has told, a bit each by their order in the table; all of one write. */
static unsigned chain_of(struct control_watcher *watcher)
{
        struct fact fact;
        uint64_t missed, write_id = 0;
        unsigned chain = 0;

        while (control_take(watcher, &fact, &missed)) {
                if (fact.type < FACT_stream_write_requested || fact.type > FACT_write_rejected ||
                        !fact.payload.write_id)
                        continue;
                if (!write_id)
                        write_id = fact.payload.write_id;
                assert_int_equal(fact.payload.write_id, write_id);
                chain |= 1u << (fact.type - FACT_stream_write_requested);
        }
        return chain;
}

#define BIT(fact) (1u << (FACT_##fact - FACT_stream_write_requested))

TEST(facts, of_both_nodes_tell_one_story_each)
{
        struct control_watcher at_leader = {.on_facts = on_facts, .categories = ~0u, .level = LEVEL_TRACE};
        struct control_watcher at_asked = {.on_facts = on_facts, .categories = ~0u, .level = LEVEL_TRACE};
        struct scene c;
        struct answer a;

        scene_new(&c, 40);
        control_watch(c.leader->control, &at_leader, false);
        control_watch(c.asked->control, &at_asked, false);
        assert_int_equal(put_at(&c, "order-1", NONE, 1).verdict, STORE_OK);
        trio_run(&c.trio, 100 * 1000);
        assert_int_equal(chain_of(&at_asked), BIT(write_acknowledged));
        assert_int_equal(chain_of(&at_leader), BIT(stream_write_requested) | BIT(write_command_validated) |
                                                       BIT(persistence_write_started) |
                                                       BIT(events_persisted) | BIT(write_acknowledged));
        assert_int_equal(put_at(&c, "order-1", NONE, 2).verdict, STORE_CONFLICT);
        assert_int_equal(chain_of(&at_asked), BIT(write_rejected));
        assert_int_equal(chain_of(&at_leader), BIT(stream_write_requested) | BIT(write_rejected));
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", ANY, 3, 0);
        store_link_changed(c.asked->store, c.leader->node_id, false);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        assert_int_equal(chain_of(&at_asked), 0); /* neither refused nor acknowledged */
        control_unwatch(&at_leader);
        control_unwatch(&at_asked);
        scene_end(&c);
}

TEST(store, that_closes_answers_what_waits_for_the_leader_G3)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 41);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", ANY, 1, 0);
        member_stop(c.asked);
        assert_true(a.is_done);
        assert_int_equal(a.verdict, STORE_UNKNOWN);
        scene_end(&c);
}

/* As after a crash, but the log's memory, which that leaves behind, is given back: so what forwards hold is
 * seen. */
static void abandon(struct member *m)
{
        struct persistence *log = m->store->persistence;

        store_abandon(&m->store);
        persistence_close(&log);
        persistence_node_close(&m->node);
        control_close(&m->control);
}

TEST(store, that_crashes_answers_nobody)
{
        struct scene c;
        struct answer a;

        scene_new(&c, 43);
        tap.loses = MESSAGE_FORWARD;
        begin_put(c.asked, &a, "order-1", ANY, 1, 0);
        /* And one that is served. */
        store_receive(c.leader->store, c.asked->node_id, STORE_LINK_CONTROL, MESSAGE_FORWARD,
                buffer_bytes(&tap.request));
        abandon(c.asked);
        abandon(c.leader);
        trio_run(&c.trio, 11 * SECOND_US);
        assert_false(a.is_done);
        scene_end(&c);
}

static void on_answer_put_again(void *arg, const struct store_append_result *result)
{
        struct answer *three = arg;
        struct store_append_stream stream = {.stream = BYTES_LITERAL("order-2")};
        struct store_append append = {.streams = &stream, .stream_count = 1};

        on_answer(&three[0], result);
        for (unsigned n = 1; n < 3; n++)
                store_append(three[0].store, &append, on_answer, &three[n]);
}

TEST(answer, may_ask_again_from_inside)
{
        struct answer answers[200][3];
        struct scene c;

        scene_new(&c, 42);
        tap.loses = MESSAGE_FORWARD;
        for (unsigned i = 0; i < COUNT_OF(answers); i++) {
                struct store_append_stream stream = {.stream = BYTES_LITERAL("order-1")};
                struct store_append append = {.streams = &stream, .stream_count = 1};

                for (unsigned n = 0; n < 3; n++)
                        answers[i][n] = (struct answer){.store = c.asked->store};
                store_append(c.asked->store, &append, on_answer_put_again, answers[i]);
        }
        store_link_changed(c.asked->store, c.leader->node_id, false);
        for (unsigned i = 0; i < COUNT_OF(answers); i++) {
                assert_int_equal(answers[i][0].verdict, STORE_UNKNOWN);
                assert_false(answers[i][1].is_done || answers[i][2].is_done);
        }
        trio_run(&c.trio, 11 * SECOND_US);
        for (unsigned i = 0; i < COUNT_OF(answers); i++)
                assert_true(answers[i][1].verdict == STORE_UNKNOWN && answers[i][2].verdict == STORE_UNKNOWN);
        scene_end(&c);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(append, at_a_follower_gets_every_outcome_of_the_leader_G5_G6),
                TEST_ROW(append, of_several_streams_keeps_everything_of_its_events),
                TEST_ROW(append, that_requires_the_leader_is_not_sent_on),
                TEST_ROW(request, at_a_node_that_does_not_lead_is_refused_and_not_sent_on_G3),
                TEST_ROW(link, that_is_lost_makes_the_outcome_unknown_and_a_retry_is_safe_G3_G6),
                TEST_ROW(leader,
                        that_is_lost_makes_the_outcome_unknown_and_a_retry_at_its_successor_is_safe_G3_G6),
                TEST_ROW(deadline, bounds_every_wait_and_a_late_answer_is_ignored_G3),
                TEST_ROW(deadline, that_has_passed_sends_nothing),
                TEST_ROW(deadline, reaches_the_leader),
                TEST_ROW(answer, for_an_earlier_life_is_never_taken_for_one_of_this),
                TEST_ROW(answer, that_makes_no_sense_is_an_unknown_outcome_G3),
                TEST_ROW(request, that_makes_no_sense_is_refused_and_changes_nothing_G17),
                TEST_ROW(forwards, are_bounded_in_number_G18),
                TEST_ROW(forwards, are_bounded_in_bytes_but_one_always_fits_G18),
                TEST_ROW(requests, of_one_node_are_bounded_at_the_leader_and_others_go_on_G18),
                TEST_ROW(append, that_cannot_be_sent_is_refused_for_certain_G3),
                TEST_ROW(append, that_no_message_can_carry_is_refused_with_its_limit_G17),
                TEST_ROW(facts, of_both_nodes_tell_one_story_each),
                TEST_ROW(store, that_closes_answers_what_waits_for_the_leader_G3),
                TEST_ROW(store, that_crashes_answers_nobody),
                TEST_ROW(answer, may_ask_again_from_inside),
        };

        return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
