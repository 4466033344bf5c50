/* Durable subscriptions over HTTP: definitions, consumers and their acknowledgements, parked events, lag;
 * what is refused, and that every change is answered when it is there (G10, G11). */
#include "support.h"

static struct server *server;

static int start(void **state)
{
        (void)state;
        server = server_start(NULL);
        /* Duties begin a moment after the gateway serves. */
        for (unsigned i = 0; i < 500; i++) {
                struct reply r;
                int status;

                call_bytes(server, "GET /v1/subscriptions", "", BYTES_EMPTY, &r);
                status = r.status;
                reply_free(&r);
                if (status == 200)
                        return 0;
                usleep(10000);
        }
        return -1;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

static void create(const char *path, const char *body)
{
        char line[256];

        snprintf(line, sizeof line, "PUT /v1/subscriptions/%s", path);
        json_decref(call(server, 201, line, JSON_BODY, body));
}

static json_t *show(const char *path)
{
        char line[256];

        snprintf(line, sizeof line, "GET /v1/subscriptions/%s", path);
        return call(server, 200, line, "", NULL);
}

static json_t *at(const json_t *json, const char *key)
{
        json_t *value = json_object_get(json, key);

        if (!value)
                fail_msg("no %s", key);
        return value;
}

/* ---- a consumer ---- */

struct consumer_client {
        struct frames f;
        char path[128];
        char token[64];
};

static void consume(struct consumer_client *c, const char *path, const char *query)
{
        struct frame frame;
        char line[256];
        json_t *json;

        snprintf(c->path, sizeof c->path, "%s", path);
        snprintf(line, sizeof line, "GET /v1/subscriptions/%s/events%s", path, query);
        frames_open(server, &c->f, line, "");
        assert_true(frames_next(&c->f, &frame));
        assert_string_equal(frame.event, "consumer");
        json = json_loads(frame.data, 0, NULL);
        snprintf(c->token, sizeof c->token, "%s", text(json, "consumer"));
        snprintf(line, sizeof line, "/v1/subscriptions/%s/ack", path);
        assert_string_equal(text(json, "ack"), line);
        json_decref(json);
}

/* The next event must have this number and have been delivered so often before; its id goes to `ret_id`. */
static void expect_message(struct consumer_client *c, int64_t n, int64_t retries, char ret_id[40])
{
        struct frame frame;
        json_t *json;

        assert_true(frames_next(&c->f, &frame));
        assert_string_equal(frame.event, "");
        json = json_loads(frame.data, 0, NULL);
        assert_int_equal(number(at(at(json, "event"), "data"), "n"), n);
        assert_int_equal(number(json, "retry_count"), retries);
        snprintf(ret_id, 40, "%s", text(json, "ack_id"));
        json_decref(json);
}

static void end_one(struct consumer_client *c, const char *verb, const char *id, const char *more)
{
        char line[256];
        char body[512];
        json_t *json;

        snprintf(line, sizeof line, "POST /v1/subscriptions/%s/%s", c->path, verb);
        snprintf(body, sizeof body, "{\"consumer\":\"%s\",\"ids\":[\"%s\"]%s}", c->token, id, more);
        json = call(server, 200, line, JSON_BODY, body);
        assert_int_equal(number(json, "received"), 1);
        json_decref(json);
}

static void leave(struct consumer_client *c)
{
        frames_close(&c->f);
}

/* Until a number of the subscription is this one. */
static void await(const char *path, const char *key, int64_t wanted)
{
        int64_t is = -1;

        for (unsigned i = 0; i < 500; i++) {
                json_t *json = show(path);
                const json_t *value = json_object_get(json, key);

                if (strncmp(key, "lag", 3) == 0)
                        value = json_object_get(json_object_get(json, "lag"), "events");
                is = json_is_integer(value) ? json_integer_value(value) : -1;
                json_decref(json);
                if (is == wanted)
                        return;
                usleep(10000);
        }
        fail_msg("%s: %s is %lld, not %lld", path, key, (long long)is, (long long)wanted);
}

/* ---- definitions ---- */

TEST(subscriptions, are_created_shown_changed_and_deleted)
{
        json_t *json, *definition;

        json = call(server, 201, "PUT /v1/subscriptions/order-1/mail", JSON_BODY,
                "{\"from\":\"start\",\"settings\":{\"max_retry_count\":3}}");
        assert_string_equal(text(json, "stream"), "order-1");
        assert_string_equal(text(json, "group"), "mail");
        assert_string_equal(text(json, "numbers"), "revision");
        assert_true(json_is_null(at(json, "checkpoint")));
        definition = at(json, "definition");
        assert_string_equal(text(at(definition, "selector"), "kind"), "stream");
        assert_int_equal(number(at(definition, "settings"), "max_retry_count"), 3);
        json_decref(json);
        refuse(server, 409, "exists", "mail", "PUT /v1/subscriptions/order-1/mail", "", NULL);
        json = call(server, 200, "PUT /v1/subscriptions/order-1/mail?replace=true", JSON_BODY,
                "{\"settings\":{\"max_retry_count\":4}}");
        assert_int_equal(number(at(at(json, "definition"), "settings"), "max_retry_count"), 4);
        assert_string_equal(text(at(json, "definition"), "from"), "start");
        json_decref(json);
        json = show("order-1/mail");
        assert_int_equal(number(at(at(json, "definition"), "settings"), "max_retry_count"), 4);
        assert_int_equal(number(json, "consumer_count"), 0);
        json_decref(json);
        json = call(server, 200, "DELETE /v1/subscriptions/order-1/mail", "", NULL);
        assert_true(json_is_true(at(json, "deleted")));
        json_decref(json);
        refuse(server, 404, "not-found", "mail", "GET /v1/subscriptions/order-1/mail", "", NULL);
        refuse(server, 404, "not-found", "mail", "DELETE /v1/subscriptions/order-1/mail", "", NULL);
}

TEST(subscriptions, select_by_each_kind)
{
        static const char *const bodies[] = {
                "{\"selector\":{\"kind\":\"all\"}}",
                "{\"selector\":{\"kind\":\"prefix\",\"prefixes\":[\"kind-\"]}}",
                "{\"selector\":{\"kind\":\"type\",\"types\":[\"Wanted\"]}}",
                "{\"selector\":{\"kind\":\"pattern\",\"match\":{\"type\":\"Wanted\"}}}",
                "{\"selector\":{\"kind\":\"payload\",\"match\":{\"n\":70}}}",
                "{\"selector\":{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^Want\"}}",
        };

        append_many(server, "kind-1", "Unwanted", 69, 1);
        for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
                char path[64];

                snprintf(path, sizeof path, "$all/kind-%u", i);
                create(path, bodies[i]);
        }
        append_many(server, "kind-1", "Wanted", 70, 1);
        for (unsigned i = 1; i < COUNT_OF(bodies); i++) {
                struct consumer_client c;
                char path[64];
                char id[40];

                snprintf(path, sizeof path, "$all/kind-%u", i);
                consume(&c, path, "");
                if (i == 1) {
                        expect_message(&c, 69, 0, id);
                        end_one(&c, "ack", id, "");
                }
                expect_message(&c, 70, 0, id);
                end_one(&c, "ack", id, "");
                leave(&c);
        }
}

TEST(subscriptions, of_another_selection_are_not_replaced)
{
        json_t *json;

        create("$all/other", "{\"selector\":{\"kind\":\"type\",\"types\":[\"A\"]}}");
        refuse(server, 409, "conflict", "another selector", "PUT /v1/subscriptions/$all/other?replace=true",
                JSON_BODY, "{\"selector\":{\"kind\":\"type\",\"types\":[\"B\"]}}");
        refuse(server, 409, "conflict", "another target", "PUT /v1/subscriptions/$all/other?replace=true",
                JSON_BODY, "{\"target\":\"topic\"}");
        json = call(server, 200, "PUT /v1/subscriptions/$all/other?replace=true", JSON_BODY,
                "{\"selector\":{\"types\":[\"A\"],\"kind\":\"type\"},\"settings\":{\"max_retry_count\":1}}");
        json_decref(json);
        /* Replacing what is not there creates it. */
        json_decref(call(server, 201, "PUT /v1/subscriptions/$all/other-2?replace=true", "", NULL));
}

TEST(subscriptions, that_make_no_sense_are_refused)
{
        refuse(server, 400, "invalid", "line 1, column", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"from\":}");
        refuse(server, 400, "invalid", "\"from\"", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"from\":\"x\"}");
        refuse(server, 400, "invalid", "no \"colour\"", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"colour\":1}");
        refuse(server, 400, "invalid", "in the path", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"stream\":\"t\"}");
        refuse(server, 400, "invalid", "read_batch_size", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"settings\":{\"read_batch_size\":500}}");
        refuse(server, 400, "invalid", "selector", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"selector\":{\"kind\":\"colour\"}}");
        refuse(server, 400, "invalid", "another stream", "PUT /v1/subscriptions/s/g", JSON_BODY,
                "{\"selector\":{\"kind\":\"stream\",\"stream\":\"t\"}}");
        refuse(server, 415, "unsupported-media-type", "", "PUT /v1/subscriptions/s/g",
                "Content-Type: text/plain\r\n", "{}");
        refuse(server, 400, "unknown-parameter", "colour", "GET /v1/subscriptions/s/g?colour=1", "", NULL);
        refuse(server, 400, "invalid", "to is missing", "POST /v1/subscriptions/s/g/seek", "", NULL);
        refuse(server, 400, "invalid", "to=x", "POST /v1/subscriptions/s/g/seek?to=x", "", NULL);
        refuse(server, 400, "invalid", "both", "POST /v1/subscriptions/s/g/replay?only=1&stop-at=2", "",
                NULL);
        refuse(server, 404, "not-found", "", "POST /v1/subscriptions/s/g/pause", "", NULL);
        refuse(server, 404, "not-found", "", "POST /v1/subscriptions/s/g/seek?to=0", "", NULL);
        refuse(server, 404, "not-found", "", "POST /v1/subscriptions/s/g/replay", "", NULL);
        refuse(server, 404, "not-found", "", "GET /v1/subscriptions/s/g/parked", "", NULL);
        refuse(server, 404, "not-found", "", "GET /v1/subscriptions/s/g/events", AS_EVENTS, NULL);
}

TEST(subscriptions, are_listed_in_pages_with_their_lag)
{
        char line[256] = "GET /v1/subscriptions?stream=listed&limit=2";
        unsigned count = 0;
        struct reply r;
        json_t *json;

        append_many(server, "listed", "T", 0, 7);
        for (unsigned i = 0; i < 5; i++) {
                char path[64];

                snprintf(path, sizeof path, "listed/g%u", i);
                create(path, "{\"from\":\"start\"}");
        }
        while (*line) {
                json_t *one;
                size_t i;

                json = call(server, 200, line, "", NULL);
                json_array_foreach(at(json, "subscriptions"), i, one)
                {
                        char group[16];

                        snprintf(group, sizeof group, "g%u", count++);
                        assert_string_equal(text(one, "group"), group);
                        assert_int_equal(number(at(one, "lag"), "events"), 7);
                        assert_true(json_is_number(at(at(one, "lag"), "seconds")));
                        assert_null(json_object_get(one, "definition"));
                }
                if (json_is_true(at(json, "at_end")))
                        *line = 0;
                else
                        snprintf(line, sizeof line, "GET %s", text(json, "next"));
                json_decref(json);
        }
        assert_int_equal(count, 5);
        call_bytes(server, "GET /v1/subscriptions?stream=listed", AS_LINES, BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        count = 0;
        for (const char *at_line = body_of(&r); *at_line; at_line = strchr(at_line, '\n') + 1)
                count++;
        assert_int_equal(count, 5);
        reply_free(&r);
        json = call(server, 200, "GET /v1/subscriptions?stream=nobody", "", NULL);
        assert_int_equal(json_array_size(at(json, "subscriptions")), 0);
        json_decref(json);
}

/* ---- consumers ---- */

TEST(consumer, gets_events_acknowledges_and_goes_on_behind_its_checkpoint_G11)
{
        struct consumer_client c;
        char ids[3][40];
        json_t *json;

        append_many(server, "work-1", "T", 0, 5);
        create("work-1/w", "{\"from\":\"start\",\"settings\":{\"min_checkpoint_count\":1}}");
        consume(&c, "work-1/w", "?window=3&name=tester");
        for (unsigned i = 0; i < 3; i++)
                expect_message(&c, i, 0, ids[i]);
        json = show("work-1/w");
        assert_int_equal(number(json, "consumer_count"), 1);
        assert_int_equal(number(json, "in_flight"), 3);
        assert_string_equal(text(json_array_get(at(json, "consumers"), 0), "name"), "tester");
        assert_int_equal(number(json_array_get(at(json, "consumers"), 0), "window"), 3);
        json_decref(json);
        for (unsigned i = 0; i < 3; i++)
                end_one(&c, "ack", ids[i], "");
        expect_message(&c, 3, 0, ids[0]);
        end_one(&c, "ack", ids[0], "");
        expect_message(&c, 4, 0, ids[0]);
        leave(&c); /* the last one is not acknowledged: it comes again, as a retry */
        await("work-1/w", "consumer_count", 0);
        await("work-1/w", "checkpoint", 3);
        consume(&c, "work-1/w", "");
        {
                struct frame frame;

                assert_true(frames_next(&c.f, &frame));
                json = json_loads(frame.data, 0, NULL);
                assert_int_equal(number(at(at(json, "event"), "data"), "n"), 4);
                end_one(&c, "ack", text(json, "ack_id"), "");
                json_decref(json);
        }
        await("work-1/w", "lag", 0);
        /* Live, through the same connection. */
        append_many(server, "work-1", "T", 5, 1);
        expect_message(&c, 5, 0, ids[0]);
        end_one(&c, "ack", ids[0], "");
        leave(&c);
}

TEST(consumer, with_a_limit_ends_when_that_many_were_acknowledged)
{
        struct consumer_client c;
        struct frame frame;
        char id[40];

        append_many(server, "work-2", "T", 0, 5);
        create("work-2/w", "{\"from\":\"start\"}");
        consume(&c, "work-2/w", "?limit=2");
        for (unsigned i = 0; i < 2; i++) {
                expect_message(&c, i, 0, id);
                end_one(&c, "ack", id, "");
        }
        assert_false(frames_next(&c.f, &frame));
        leave(&c);
        await("work-2/w", "delivered", 2);
}

TEST(consumer, in_ndjson_gets_the_same_in_lines)
{
        char line[2048];
        struct frames f = {.fd = client_connect(server)};
        json_t *json;

        append_many(server, "work-3", "T", 0, 1);
        create("work-3/w", "{\"from\":\"start\"}");
        client_request(f.fd, "GET /v1/subscriptions/work-3/w/events", AS_LINES, BYTES_EMPTY, true);
        assert_true(frames_line(&f, line, sizeof line));
        json = json_loads(line, 0, NULL);
        assert_int_equal(strlen(text(json, "consumer")), 40);
        assert_int_equal(number(json, "window"), 10);
        json_decref(json);
        assert_true(frames_line(&f, line, sizeof line));
        json = json_loads(line, 0, NULL);
        assert_string_equal(text(at(json, "event"), "stream"), "work-3");
        json_decref(json);
        /* Deleted under it: told, and the end. */
        json_decref(call(server, 200, "DELETE /v1/subscriptions/work-3/w", "", NULL));
        assert_true(frames_line(&f, line, sizeof line));
        json = json_loads(line, 0, NULL);
        assert_string_equal(text(at(json, "problem"), "type"), "urn:nilo:not-found");
        json_decref(json);
        assert_false(frames_line(&f, line, sizeof line));
        frames_close(&f);
}

TEST(consumer, is_dropped_by_an_update_and_told_so)
{
        struct consumer_client c;
        struct frame frame;

        create("work-4/w", NULL);
        consume(&c, "work-4/w", "");
        json_decref(call(server, 200, "PUT /v1/subscriptions/work-4/w?replace=true", "", NULL));
        assert_true(frames_next(&c.f, &frame));
        assert_string_equal(frame.event, "problem");
        assert_non_null(strstr(frame.data, "urn:nilo:dropped"));
        assert_false(frames_next(&c.f, &frame));
        leave(&c);
}

TEST(consumer, that_is_unknown_or_not_its_own_acknowledges_nothing)
{
        static const char id[] = "00000000-0000-0000-0000-000000000001";
        struct consumer_client c;
        char body[256];

        create("work-5/w", NULL);
        create("work-5/v", NULL);
        consume(&c, "work-5/w", "");
        snprintf(body, sizeof body, "{\"consumer\":\"%s\",\"ids\":[\"%s\"]}", c.token, id);
        json_decref(call(server, 200, "POST /v1/subscriptions/work-5/w/ack", JSON_BODY, body));
        refuse(server, 404, "no-such-consumer", "", "POST /v1/subscriptions/work-5/v/ack", JSON_BODY, body);
        body[strlen("{\"consumer\":\"") + 39] ^= 1; /* the last digit */
        refuse(server, 404, "no-such-consumer", "", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY, body);
        refuse(server, 404, "no-such-consumer", "", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY,
                "{\"consumer\":\"ffffffff00000000000000000000000000000000\",\"ids\":[]}");
        refuse(server, 400, "invalid", "consumer", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY,
                "{\"ids\":[]}");
        refuse(server, 400, "invalid", "ids", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY,
                "{\"consumer\":\"x\"}");
        refuse(server, 400, "invalid", "no UUID", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY,
                "{\"consumer\":\"x\",\"ids\":[\"1\"]}");
        refuse(server, 400, "invalid", "action", "POST /v1/subscriptions/work-5/w/ack", JSON_BODY,
                "{\"consumer\":\"x\",\"ids\":[],\"action\":\"park\"}");
        refuse(server, 400, "invalid", "none of retry", "POST /v1/subscriptions/work-5/w/nack", JSON_BODY,
                "{\"consumer\":\"x\",\"ids\":[],\"action\":\"eat\"}");
        leave(&c);
}

TEST(consumer, beyond_the_maximum_is_refused)
{
        struct consumer_client c;

        create("work-6/w", "{\"settings\":{\"max_subscriber_count\":1}}");
        consume(&c, "work-6/w", "");
        refuse(server, 503, "busy", "as many consumers", "GET /v1/subscriptions/work-6/w/events", AS_EVENTS,
                NULL);
        leave(&c);
}

/* ---- refused events ---- */

TEST(parked, events_are_shown_with_the_reason_and_replayed)
{
        struct consumer_client c;
        char id[40];
        json_t *json, *parked;

        append_many(server, "park-1", "T", 0, 4);
        create("park-1/w", "{\"from\":\"start\"}");
        json = call(server, 200, "GET /v1/subscriptions/park-1/w/parked", "", NULL);
        assert_int_equal(json_array_size(at(json, "parked")), 0);
        json_decref(json);
        consume(&c, "park-1/w", "");
        for (unsigned i = 0; i < 4; i++) {
                expect_message(&c, i, 0, id);
                if (i == 3)
                        end_one(&c, "nack", id, ",\"action\":\"skip\"");
                else
                        end_one(&c, "nack", id, ",\"action\":\"park\",\"reason\":\"no address\"");
        }
        await("park-1/w", "parked", 3);
        json = call(server, 200, "GET /v1/subscriptions/park-1/w/parked?limit=2", "", NULL);
        assert_int_equal(json_array_size(at(json, "parked")), 2);
        parked = json_array_get(at(json, "parked"), 1);
        assert_int_equal(number(parked, "number"), 1);
        assert_non_null(strstr(text(parked, "reason"), "no address"));
        assert_int_equal(number(at(at(parked, "event"), "data"), "n"), 1);
        assert_string_equal(text(json, "next"), "/v1/subscriptions/park-1/w/parked?from=2&limit=2");
        json_decref(json);
        /* One of them again; it is no longer parked. */
        json_decref(call(server, 200, "POST /v1/subscriptions/park-1/w/replay?only=1", "", NULL));
        expect_message(&c, 1, 0, id);
        end_one(&c, "ack", id, "");
        await("park-1/w", "parked", 2);
        json = call(server, 200, "GET /v1/subscriptions/park-1/w/parked", "", NULL);
        assert_int_equal(json_array_size(at(json, "parked")), 2);
        assert_int_equal(number(json_array_get(at(json, "parked"), 1), "number"), 2);
        assert_true(json_is_true(at(json, "at_end")));
        json_decref(json);
        refuse(server, 404, "not-found", "parked", "POST /v1/subscriptions/park-1/w/replay?only=1", "", NULL);
        /* And all. */
        json_decref(call(server, 200, "POST /v1/subscriptions/park-1/w/replay", "", NULL));
        expect_message(&c, 0, 0, id);
        end_one(&c, "ack", id, "");
        expect_message(&c, 2, 0, id);
        end_one(&c, "ack", id, "");
        await("park-1/w", "parked", 0);
        leave(&c);
}

TEST(nack, of_retry_delivers_again_and_parks_after_the_last)
{
        struct consumer_client c;
        char id[40];
        json_t *json;

        append_many(server, "retry-1", "T", 0, 1);
        create("retry-1/w", "{\"from\":\"start\",\"settings\":{\"max_retry_count\":2}}");
        consume(&c, "retry-1/w", "");
        for (unsigned i = 0; i <= 2; i++) {
                expect_message(&c, 0, i, id);
                end_one(&c, "nack", id, "");
        }
        await("retry-1/w", "parked", 1);
        json = call(server, 200, "GET /v1/subscriptions/retry-1/w/parked", "", NULL);
        assert_non_null(strstr(text(json_array_get(at(json, "parked"), 0), "reason"), "retry count"));
        json_decref(json);
        leave(&c);
}

/* ---- pause and seek ---- */

TEST(subscriptions, that_are_paused_give_nothing_until_they_are_resumed)
{
        struct consumer_client c;
        struct timeval moment = {.tv_usec = 150000};
        struct timeval limit = {.tv_sec = REPLY_TIMEOUT_S};
        struct frame frame;
        char id[40];
        json_t *json;

        append_many(server, "pause-1", "T", 0, 1);
        create("pause-1/w", "{\"from\":\"start\"}");
        json = call(server, 200, "POST /v1/subscriptions/pause-1/w/pause", "", NULL);
        assert_true(json_is_true(at(json, "paused")));
        assert_string_equal(text(json, "state"), "paused");
        json_decref(json);
        consume(&c, "pause-1/w", "");
        assert_int_equal(setsockopt(c.f.fd, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment), 0);
        assert_false(frames_next(&c.f, &frame));
        assert_int_equal(setsockopt(c.f.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
        json = call(server, 200, "POST /v1/subscriptions/pause-1/w/resume", "", NULL);
        assert_true(json_is_false(at(json, "paused")));
        json_decref(json);
        expect_message(&c, 0, 0, id);
        end_one(&c, "ack", id, "");
        leave(&c);
}

TEST(subscriptions, go_on_from_where_they_were_told)
{
        struct consumer_client c;
        char id[40];

        append_many(server, "seek-1", "T", 0, 6);
        create("seek-1/w", "{\"from\":\"end\"}");
        json_decref(call(server, 200, "POST /v1/subscriptions/seek-1/w/seek?to=4", "", NULL));
        consume(&c, "seek-1/w", "");
        expect_message(&c, 4, 0, id);
        end_one(&c, "ack", id, "");
        expect_message(&c, 5, 0, id);
        end_one(&c, "ack", id, "");
        leave(&c);
        await("seek-1/w", "lag", 0);
        /* Twice to the same place, too. */
        for (unsigned turn = 0; turn < 2; turn++) {
                json_decref(call(server, 200, "POST /v1/subscriptions/seek-1/w/seek?to=start", "", NULL));
                await("seek-1/w", "lag", 6);
                consume(&c, "seek-1/w", "");
                expect_message(&c, 0, 0, id);
                end_one(&c, "ack", id, "");
                leave(&c);
                await("seek-1/w", "consumer_count", 0);
        }
}

/* ---- a server that is not ready ---- */

TEST(subscriptions, wait_until_the_server_is_ready)
{
        struct server_options options = {.is_never_ready = true};
        struct server *s = server_start(&options);

        refuse(s, 503, "not-ready", "", "GET /v1/subscriptions", "", NULL);
        refuse(s, 503, "not-ready", "", "PUT /v1/subscriptions/s/g", "", NULL);
        server_stop(s);
}

static void take_emitter_away(struct server *s, void *arg)
{
        (void)arg;
        api_serve(s->api, NULL);
}

TEST(subscriptions, are_not_served_without_an_emitter_and_consumers_that_wait_learn_of_a_stop)
{
        struct server *s = server_start(NULL);
        struct frames f, full;
        struct frame frame;
        struct reply r;

        for (r.status = 0; r.status != 201;) {
                call_bytes(s, "PUT /v1/subscriptions/s/g", JSON_BODY, BYTES_LITERAL("{}"), &r);
                reply_free(&r);
        }
        frames_open(s, &f, "GET /v1/subscriptions/s/g/events?window=1", "");
        assert_true(frames_next(&f, &frame));
        /* One that has had all it asked for and keeps it. */
        append_many(s, "s", "T", 0, 2);
        assert_true(frames_next(&f, &frame));
        frames_open(s, &full, "GET /v1/subscriptions/s/g/events?limit=1", "");
        assert_true(frames_next(&full, &frame));
        assert_true(frames_next(&full, &frame));
        on_server(s, take_emitter_away, NULL);
        refuse(s, 503, "not-ready", "", "GET /v1/subscriptions", "", NULL);
        server_stop(s);
        assert_true(frames_next(&f, &frame));
        assert_non_null(strstr(frame.data, "the server stops"));
        assert_false(frames_next(&f, &frame));
        assert_true(frames_next(&full, &frame));
        assert_non_null(strstr(frame.data, "the server stops"));
        assert_false(frames_next(&full, &frame));
        frames_close(&full);
        frames_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(subscriptions, are_created_shown_changed_and_deleted),
                TEST_ROW(subscriptions, select_by_each_kind),
                TEST_ROW(subscriptions, of_another_selection_are_not_replaced),
                TEST_ROW(subscriptions, that_make_no_sense_are_refused),
                TEST_ROW(subscriptions, are_listed_in_pages_with_their_lag),
                TEST_ROW(consumer, gets_events_acknowledges_and_goes_on_behind_its_checkpoint_G11),
                TEST_ROW(consumer, with_a_limit_ends_when_that_many_were_acknowledged),
                TEST_ROW(consumer, in_ndjson_gets_the_same_in_lines),
                TEST_ROW(consumer, is_dropped_by_an_update_and_told_so),
                TEST_ROW(consumer, that_is_unknown_or_not_its_own_acknowledges_nothing),
                TEST_ROW(consumer, beyond_the_maximum_is_refused),
                TEST_ROW(parked, events_are_shown_with_the_reason_and_replayed),
                TEST_ROW(nack, of_retry_delivers_again_and_parks_after_the_last),
                TEST_ROW(subscriptions, that_are_paused_give_nothing_until_they_are_resumed),
                TEST_ROW(subscriptions, go_on_from_where_they_were_told),
                TEST_ROW(subscriptions, wait_until_the_server_is_ready),
                TEST_ROW(subscriptions,
                        are_not_served_without_an_emitter_and_consumers_that_wait_learn_of_a_stop),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
