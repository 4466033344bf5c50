/* Following over HTTP: history then live, resumed by Last-Event-ID without gap or repeat (G10); slow and
 * vanished readers (G18); the ends of a stream. */
#include "support.h"

static struct server *server;

static int start(void **state)
{
        (void)state;
        server = server_start(NULL);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

TEST(follow, history_comes_first_then_a_mark_then_what_is_new)
{
        struct frames f;

        append_many(server, "order-1", "T", 0, 3);
        frames_open(server, &f, "GET /v1/streams/order-1/events", "");
        for (unsigned i = 0; i < 3; i++)
                expect_event(&f, i, i);
        expect_mark(&f, "caught-up");
        append_many(server, "other", "T", 0, 2);
        append_many(server, "order-1", "T", 3, 2);
        expect_event(&f, 3, 3);
        expect_event(&f, 4, 4);
        frames_close(&f);
}

TEST(follow, a_stream_that_is_not_there_yet_is_waited_for)
{
        struct frames f;

        frames_open(server, &f, "GET /v1/streams/unborn/events", "");
        expect_mark(&f, "caught-up");
        append_many(server, "unborn", "T", 0, 1);
        expect_event(&f, 0, 0);
        frames_close(&f);
}

TEST(follow, begins_where_it_is_asked_to)
{
        struct frames f;

        append_many(server, "from", "T", 0, 5);
        frames_open(server, &f, "GET /v1/streams/from/events?from=3", "");
        expect_event(&f, 3, 3);
        expect_event(&f, 4, 4);
        expect_mark(&f, "caught-up");
        frames_close(&f);
        frames_open(server, &f, "GET /v1/streams/from/events?from=0&limit=1", "");
        expect_event(&f, 0, 0);
        assert_false(frames_next(&f, &(struct frame){0})); /* the limit ends it */
        frames_close(&f);
        frames_open(server, &f, "GET /v1/streams/from/events?from=end", "");
        expect_mark(&f, "caught-up");
        append_many(server, "from", "T", 5, 1);
        expect_event(&f, 5, 5);
        frames_close(&f);
        frames_open(server, &f, "GET /v1/streams/from/events?from=2&last-event-id=3", "");
        expect_event(&f, 4, 4);
        frames_close(&f);
        refuse(server, 400, "invalid", "forward only", "GET /v1/streams/from/events?direction=backward",
                AS_EVENTS, NULL);
        refuse(server, 400, "invalid", "is no number", "GET /v1/streams/from/events",
                AS_EVENTS "Last-Event-ID: x\r\n", NULL);
        refuse(server, 400, "invalid", "lies behind the end", "GET /v1/all/events",
                AS_EVENTS "Last-Event-ID: 99999999\r\n", NULL);
}

/* A writer on a thread of its own, while readers come, go and come back. */
struct writer {
        pthread_t thread;
        const char *stream;
        unsigned count;
};

static void *write_on(void *arg)
{
        struct writer *w = arg;

        for (unsigned i = 0; i < w->count; i += 5) {
                append_many(server, w->stream, "T", i, 5);
                if (i % 25 == 0)
                        append_many(server, "noise", "T", i, 3);
        }
        return NULL;
}

/* Reads until n reaches `count`, cutting the connection again and again and coming back behind the last id.
 */
static void read_in_pieces(const char *line, unsigned count)
{
        char resume[64] = "";
        unsigned have = 0;

        for (unsigned turn = 0; have < count; turn++) {
                unsigned until = have + 1 + turn * 7 % 40;
                struct frames f;

                frames_open(server, &f, line, resume);
                while (have < count && have < until) {
                        struct frame frame;
                        json_t *json;

                        assert_true(frames_next(&f, &frame));
                        if (*frame.event)
                                continue;
                        json = json_loads(frame.data, 0, NULL);
                        assert_int_equal(number(json_object_get(json, "data"), "n"), have);
                        json_decref(json);
                        have++;
                        snprintf(resume, sizeof resume, "Last-Event-ID: %s\r\n", frame.id);
                }
                frames_close(&f);
        }
}

TEST(follow, readers_that_come_back_miss_nothing_and_get_nothing_twice)
{
        struct writer w = {.stream = "live-1", .count = 1000};

        assert_int_equal(pthread_create(&w.thread, NULL, write_on, &w), 0);
        read_in_pieces("GET /v1/streams/live-1/events", w.count);
        pthread_join(w.thread, NULL);
        read_in_pieces("GET /v1/streams/live-1/events", w.count);
}

TEST(follow, readers_of_a_filter_miss_nothing_and_get_nothing_twice)
{
        struct writer w = {.stream = "live-2", .count = 1000};

        assert_int_equal(pthread_create(&w.thread, NULL, write_on, &w), 0);
        read_in_pieces("GET /v1/all/events?stream-prefix=live-2", w.count);
        pthread_join(w.thread, NULL);
        read_in_pieces("GET /v1/all/events?stream-regex=%5Elive-2%24", w.count);
}

TEST(follow, readers_are_listed_with_their_lag)
{
        struct frames f;
        json_t *json, *one = NULL;
        size_t i;

        append_many(server, "lagging", "T", 0, 2);
        frames_open(server, &f, "GET /v1/streams/lagging/events?name=tester", "");
        expect_event(&f, 0, 0);
        expect_event(&f, 1, 1);
        expect_mark(&f, "caught-up");
        json = call(server, 200, "GET /v1/readers?limit=1000", "", NULL);
        json_array_foreach(json_object_get(json, "readers"), i,
                one) if (strcmp(text(one, "stream"), "lagging") == 0) break;
        assert_non_null(one);
        assert_string_equal(text(one, "name"), "tester");
        assert_string_equal(text(one, "state"), "live");
        assert_int_equal(number(one, "position"), 1);
        assert_int_equal(number(one, "delivered"), 2);
        assert_int_equal(number(json_object_get(one, "lag"), "events"), 0);
        json_decref(json);
        json = call(server, 200, "GET /v1/readers?skip=100000", "", NULL);
        assert_int_equal(json_array_size(json_object_get(json, "readers")), 0);
        json_decref(json);
        frames_close(&f);
}

TEST(follow, ids_among_all_streams_are_positions)
{
        struct frames f;
        struct frame frame;
        json_t *json;

        frames_open(server, &f, "GET /v1/all/events", "");
        for (uint64_t position = 0; position < 100; position++) {
                assert_true(frames_next(&f, &frame));
                assert_int_equal(strtoull(frame.id, NULL, 10), position);
                json = json_loads(frame.data, 0, NULL);
                assert_int_equal(number(json, "position"), position);
                json_decref(json);
        }
        frames_close(&f);
}

TEST(follow, a_checkpoint_moves_the_place_without_being_an_event)
{
        char line[200];
        uint64_t id = 0;
        bool has_checkpoint = false;
        struct frames f;
        struct frame frame;

        for (unsigned i = 0; i < 5; i++)
                append_many(server, "passed-over", "T", i * 1000, 1000);
        frames_open(server, &f, "GET /v1/all/events?stream-prefix=nobody-has-this", "");
        while (frames_line(&f, line, sizeof line) && !has_checkpoint) {
                if (strncmp(line, "id: ", 4) == 0) {
                        id = strtoull(line + 4, NULL, 10);
                        assert_true(frames_line(&f, line, sizeof line));
                        assert_string_equal(line, ""); /* a frame without data: no event for anybody */
                } else if (strcmp(line, "event: checkpoint") == 0) {
                        char want[64];

                        assert_true(frames_line(&f, line, sizeof line));
                        snprintf(want, sizeof want, "data: {\"position\":%llu,", (unsigned long long)id);
                        assert_memory_equal(line, want, strlen(want));
                        has_checkpoint = true;
                }
        }
        assert_true(has_checkpoint);
        frames_close(&f);
        frames_open(server, &f, "GET /v1/all/events?stream-prefix=nobody-has-this", "Last-Event-ID: 5\r\n");
        assert_true(frames_next(&f, &frame));
        assert_string_equal(frame.event, "checkpoint");
        frames_close(&f);
}

static void read_buffered(struct server *s, void *arg)
{
        struct gateway_stats stats;

        gateway_stats(s->gateway, &stats);
        *(uint64_t *)arg = stats.buffered_bytes;
}

TEST(follow, a_slow_reader_costs_a_bounded_buffer_and_still_gets_everything)
{
        enum { EVENTS = 20000 };
        uint64_t buffered = 0;
        struct frames f;

        frames_open(server, &f, "GET /v1/streams/slow/events", "");
        expect_mark(&f, "caught-up");
        for (unsigned i = 0; i < EVENTS; i += 1000) {
                append_many(server, "slow", "T", i, 1000); /* writers are not held up */
                on_server(server, read_buffered, &buffered);
                assert_true(buffered < 4 * MIB);
        }
        for (unsigned i = 0; i < EVENTS; i++)
                expect_event(&f, i, i);
        frames_close(&f);
}

static void read_subscriptions(struct server *s, void *arg)
{
        struct notification_stats stats;

        notification_stats(s->notification, &stats);
        *(uint64_t *)arg = stats.subscriptions;
}

TEST(follow, clients_that_go_away_while_they_wait_leave_no_subscription)
{
        uint64_t count = 1;

        for (unsigned i = 0; i < 30; i++) {
                struct frames f;

                frames_open(server, &f, "GET /v1/streams/waiting/events", "");
                if (i % 2)
                        expect_mark(&f, "caught-up");
                frames_close(&f);
        }
        for (unsigned i = 0; i < 200 && count; i++) {
                usleep(10000);
                on_server(server, read_subscriptions, &count);
        }
        assert_int_equal(count, 0);
}

TEST(follow, ends_when_the_stream_is_tombstoned)
{
        struct frames f;

        append_many(server, "ends", "T", 0, 1);
        frames_open(server, &f, "GET /v1/streams/ends/events", "");
        expect_event(&f, 0, 0);
        expect_mark(&f, "caught-up");
        json_decref(call(server, 200, "DELETE /v1/streams/ends?tombstone=true", "", NULL));
        expect_mark(&f, "deleted");
        assert_false(frames_next(&f, &(struct frame){0}));
        frames_close(&f);
}

TEST(follow, too_many_are_refused_and_places_come_free)
{
        struct server *s = server_start(&(struct server_options){.subscriptions_max = 2});
        struct frames a, b;

        frames_open(s, &a, "GET /v1/all/events?from=end", "");
        frames_open(s, &b, "GET /v1/all/events?from=end", "");
        expect_mark(&a, "caught-up");
        expect_mark(&b, "caught-up");
        refuse(s, 503, "busy", "as many subscriptions", "GET /v1/all/events", AS_EVENTS, NULL);
        frames_close(&a);
        frames_close(&b);
        server_stop(s);
}

TEST(follow, an_orderly_stop_ends_it_cleanly)
{
        struct server *s = server_start(NULL);
        struct frames f;
        char line[200];
        bool is_told = false;

        frames_open(s, &f, "GET /v1/all/events?from=end", "");
        expect_mark(&f, "caught-up");
        server_stop(s);
        while (frames_line(&f, line, sizeof line))
                is_told |= strstr(line, ": the server stops") != NULL;
        assert_true(is_told);
        frames_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(follow, history_comes_first_then_a_mark_then_what_is_new),
                TEST_ROW(follow, a_stream_that_is_not_there_yet_is_waited_for),
                TEST_ROW(follow, begins_where_it_is_asked_to),
                TEST_ROW(follow, readers_that_come_back_miss_nothing_and_get_nothing_twice),
                TEST_ROW(follow, readers_of_a_filter_miss_nothing_and_get_nothing_twice),
                TEST_ROW(follow, readers_are_listed_with_their_lag),
                TEST_ROW(follow, ids_among_all_streams_are_positions),
                TEST_ROW(follow, a_checkpoint_moves_the_place_without_being_an_event),
                TEST_ROW(follow, a_slow_reader_costs_a_bounded_buffer_and_still_gets_everything),
                TEST_ROW(follow, clients_that_go_away_while_they_wait_leave_no_subscription),
                TEST_ROW(follow, ends_when_the_stream_is_tombstoned),
                TEST_ROW(follow, too_many_are_refused_and_places_come_free),
                TEST_ROW(follow, an_orderly_stop_ends_it_cleanly),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
