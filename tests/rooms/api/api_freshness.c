/* What reads over HTTP see, alone, at the leader of three nodes and at a follower (G7, G8, G10). */
#include "support.h"

/* ---- what the routes are told of the others ---- */

struct membership {
        bool has_leader;
};

static struct membership others = {.has_leader = true};

bool membership_leader(struct membership *m, struct membership_node *ret)
{
        if (!m->has_leader)
                return false;
        *ret = (struct membership_node){
                .node_id = 9, .is_leader = true, .host = "leader.example", .port = 2113};
        return true;
}

bool membership_is_leading(const struct membership *m)
{
        (void)m;
        return false;
}

unsigned membership_nodes(struct membership *m, struct membership_node *ret, unsigned max)
{
        return max && membership_leader(m, ret);
}

void membership_status_to_json(struct membership *m, struct json_out *j)
{
        (void)m;
        (void)j;
}

void membership_hand_over(struct membership *m, void (*done)(void *arg), void *arg)
{
        (void)m;
        done(arg);
}

void membership_command(struct membership *m, struct bytes request, uint64_t deadline_us,
        membership_answered *done, void *arg)
{
        static const struct membership_answer none = {.status = 503, .code = "not-ready"};

        (void)m;
        (void)request;
        (void)deadline_us;
        done(arg, &none);
}

/* ---- helpers ---- */

static struct server *start(enum seat seat)
{
        return server_start(
                &(struct server_options){.seat = seat, .membership = seat == SEAT_FOLLOWER ? &others : NULL});
}

/* The number of the header Nilo-Position; -1: it is not there. */
static int64_t position_of(const struct reply *r)
{
        const char *at = strcasestr((const char *)r->head.data, "\r\nnilo-position: ");

        return at ? strtoll(strchr(at + 2, ':') + 1, NULL, 10) : -1;
}

/* A read that must be answered with the status, and say that this position is visible. */
static void expect(struct server *s, const char *line, const char *headers, int status, int64_t position)
{
        struct reply r;

        call_bytes(s, line, headers, BYTES_EMPTY, &r);
        if (r.status != status || position_of(&r) != position)
                fail_msg("%s\n%s%s", line, (char *)r.head.data, body_of(&r));
        reply_free(&r);
}

static unsigned events_of(struct server *s, const char *line)
{
        json_t *page = call(s, 200, line, "", NULL);
        unsigned count = (unsigned)json_array_size(json_object_get(page, "events"));

        json_decref(page);
        return count;
}

static void cut(struct server *s, bool is_cut)
{
        three_cut(&s->three, s->options.seat, is_cut);
}

/* ---- turns ---- */

static void look(struct server *s, void *arg)
{
        *(unsigned *)arg = s->open_turns;
}

/* How many turns a read took beyond the one that it came in. */
static unsigned turns_of(struct server *s, const char *line)
{
        struct reply r;
        unsigned before, after;

        on_server(s, look, &before);
        call_bytes(s, line, "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        reply_free(&r);
        on_server(s, look, &after);
        return after - before;
}

/* ---- alone ---- */

TEST(alone, nothing_waits_and_an_answer_names_what_was_visible)
{
        static const char *const lines[] = {
                "GET /v1/streams/order-1/events",
                "GET /v1/all/events",
                "GET /v1/streams/order-1",
                "GET /v1/streams/order-1/events?consistency=linearizable&after=1",
                "GET /v1/streams/order-1/events/0?consistency=leader",
                "GET /v1/all/events/0",
                "GET /v1/streams/order-1/metadata",
                "GET /v1/streams",
                "GET /v1/categories?consistency=stale",
                "GET /v1/types",
        };
        struct server *s = start(SEAT_ALONE);
        json_t *written;
        int64_t position;

        written = call(s, 201, "POST /v1/streams/order-1/events", JSON_BODY,
                "[{\"type\":\"Placed\"},{\"type\":\"Paid\"},{\"type\":\"Sent\"}]");
        position = number(written, "position");
        json_decref(written);
        for (unsigned i = 0; i < COUNT_OF(lines); i++) {
                assert_int_equal(turns_of(s, lines[i]), 0);
                expect(s, lines[i], "", 200, position);
                expect(s, lines[i], AS_LINES, 200, position);
        }
        expect(s, "GET /v1/streams/nobody/events", "", 404, position);
        expect(s, "GET /v1/all/events?limit=1", AS_EVENTS, 200, position);
        server_stop(s);
}

TEST(alone, what_makes_no_sense_is_refused)
{
        struct server *s = start(SEAT_ALONE);

        refuse(s, 400, "invalid", "consistency=strong", "GET /v1/all/events?consistency=strong", "", NULL);
        refuse(s, 400, "invalid", "after=x", "GET /v1/all/events?after=x", "", NULL);
        refuse(s, 400, "invalid", "after=-1", "GET /v1/streams", "Nilo-After: -1\r\n", NULL);
        refuse(s, 400, "invalid", "differ", "GET /v1/all/events?after=1", "Nilo-After: 2\r\n", NULL);
        refuse(s, 400, "unknown-parameter", "'consistency'", "POST /v1/streams/a/events?consistency=stale",
                JSON_BODY, "{\"type\":\"a\"}");
        refuse(s, 504, "not-here-yet", "position 4711 is not here yet",
                "GET /v1/streams?after=a&timeout-ms=20", "Nilo-After: 4711\r\n", NULL);
        refuse(s, 504, "not-here-yet", "position 4711", "GET /v1/all/events?after=4711&timeout-ms=20", "",
                NULL);
        server_stop(s);
}

/* ---- the leader ---- */

TEST(leader, reads_see_what_was_acknowledged_and_are_refused_when_it_cannot_be_confirmed)
{
        struct server *s = start(SEAT_LEADER);
        int64_t position;

        position = (int64_t)three_append(&s->three, "order-1");
        assert_true(turns_of(s, "GET /v1/streams/order-1/events") > 0);
        assert_int_equal(turns_of(s, "GET /v1/streams/order-1/events?consistency=stale"), 0);
        expect(s, "GET /v1/streams/order-1/events", "", 200, position);
        expect(s, "GET /v1/streams", "", 200, position);
        cut(s, true);
        refuse(s, 503, "not-confirmed", "majority", "GET /v1/streams/order-1/events?timeout-ms=150", "",
                NULL);
        expect(s, "GET /v1/streams/order-1/events?consistency=stale", "", 200, position);
        refuse(s, 503, "not-confirmed", "majority",
                "GET /v1/streams/order-1?consistency=linearizable&timeout-ms=100", "", NULL);
        refuse(s, 503, "not-confirmed", "majority",
                "POST /v1/streams/order-1/truncate?before=end&timeout-ms=100", "", NULL);
        server_stop(s);
}

TEST(leader, clients_that_leave_while_they_wait_leave_nothing_behind)
{
        struct server *s = start(SEAT_LEADER);
        int fd = client_connect(s);

        three_append(&s->three, "order-1");
        client_request(fd, "GET /v1/all/events?after=4711&timeout-ms=4000", "", BYTES_EMPTY, true);
        expect(s, "GET /v1/all/events?consistency=stale", "", 200, 1);
        close(fd);
        expect(s, "GET /v1/all/events", "", 200, 1);
        fd = client_connect(s);
        client_request(fd, "GET /v1/all/events?after=4711&timeout-ms=200", "", BYTES_EMPTY, true);
        server_stop(s); /* while one waits */
        close(fd);
}

/* ---- a follower ---- */

/* Asks in the background: the answer is taken later. */
static int ask(struct server *s, const char *line, const char *headers)
{
        int fd = client_connect(s);

        client_request(fd, line, headers, BYTES_EMPTY, true);
        return fd;
}

static bool has_answer(int fd)
{
        char byte;

        return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void expect_later(int fd, int status, int64_t position)
{
        struct reply r;

        client_receive(fd, &r);
        close(fd);
        if (r.status != status || position_of(&r) < position)
                fail_msg("%s%s", (char *)r.head.data, body_of(&r));
        reply_free(&r);
}

TEST(follower, gives_what_is_here_and_waits_for_what_is_asked_for)
{
        struct server *s = start(SEAT_FOLLOWER);
        int64_t first = (int64_t)three_append(&s->three, "order-1");
        int64_t second;
        char line[128], header[64], last[128];
        int waiting, newest, follow;
        json_t *json;

        snprintf(line, sizeof line, "GET /v1/streams/order-1/events?after=%lld", (long long)first);
        assert_int_equal(events_of(s, line), 1);
        cut(s, true);
        second = (int64_t)three_append(&s->three, "order-1");
        assert_true(second > first);
        assert_int_equal(events_of(s, "GET /v1/streams/order-1/events"), 1);
        expect(s, "GET /v1/streams/order-1/events", "", 200, first);

        snprintf(line, sizeof line, "GET /v1/streams/order-1/events?timeout-ms=100&after=%lld",
                (long long)second);
        snprintf(header, sizeof header, "Nilo-After: %lld\r\n", (long long)second);
        json = refused(s, 504, "not-here-yet", "is not here yet", line, "", NULL);
        json_decref(json);
        refuse(s, 504, "not-here-yet", "is not here yet", "GET /v1/streams?timeout-ms=100", header, NULL);
        refuse(s, 503, "not-confirmed", "majority",
                "GET /v1/streams/order-1/events?timeout-ms=100&consistency=linearizable", "", NULL);

        waiting = ask(s, "GET /v1/streams/order-1/events?timeout-ms=8000", header);
        newest = ask(s, "GET /v1/streams?timeout-ms=8000&consistency=linearizable", "");
        snprintf(last, sizeof last, AS_EVENTS "Last-Event-ID: %lld\r\n", (long long)second);
        follow = ask(s, "GET /v1/all/events?limit=1&timeout-ms=8000", last);
        expect(s, "GET /v1/streams/order-1/events", "", 200, first);
        assert_false(has_answer(waiting));
        assert_false(has_answer(newest));
        assert_false(has_answer(follow));
        cut(s, false);
        expect_later(waiting, 200, second);
        expect_later(newest, 200, second);
        three_append(&s->three, "order-1");
        expect_later(follow, 200, second);
        server_stop(s);
}

/* Read your writes: what the leader has acknowledged is in every linearizable read that begins afterwards. */
TEST(follower, linearizable_reads_see_every_append_that_was_acknowledged)
{
        struct server *s = start(SEAT_FOLLOWER);

        for (unsigned i = 1; i <= 30; i++) {
                three_append(&s->three, "order-1");
                assert_int_equal(events_of(s, "GET /v1/streams/order-1/events?consistency=linearizable"), i);
        }
        server_stop(s);
}

TEST(follower, sends_those_who_want_the_leader_to_it)
{
        struct server *s = start(SEAT_FOLLOWER);
        struct reply r;

        call_bytes(s, "GET /v1/streams/order-1/events?consistency=leader", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 307);
        assert_non_null(strcasestr((char *)r.head.data,
                "location: http://leader.example:2113/v1/streams/order-1/events?consistency=leader\r\n"));
        reply_free(&r);
        call_bytes(s, "GET /v1/all/events", "Requires-Leader: true\r\n", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 307);
        reply_free(&r);
        others.has_leader = false;
        call_bytes(s, "GET /v1/all/events?consistency=leader", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 503);
        reply_free(&r);
        others.has_leader = true;
        server_stop(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(alone, nothing_waits_and_an_answer_names_what_was_visible),
                TEST_ROW(alone, what_makes_no_sense_is_refused),
                TEST_ROW(leader, reads_see_what_was_acknowledged_and_are_refused_when_it_cannot_be_confirmed),
                TEST_ROW(leader, clients_that_leave_while_they_wait_leave_nothing_behind),
                TEST_ROW(follower, gives_what_is_here_and_waits_for_what_is_asked_for),
                TEST_ROW(follower, linearizable_reads_see_every_append_that_was_acknowledged),
                TEST_ROW(follower, sends_those_who_want_the_leader_to_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
