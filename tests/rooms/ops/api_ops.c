/* The routes of ops, over HTTP: what they say of a server that runs and of one that is not ready. */
#include <jansson.h>

#include "test.h"
#include "world.h"

/* The body of an answer, which must be JSON. */
static json_t *body_of(const char *answer)
{
        json_error_t error;
        json_t *root = json_loads(http_body(answer), 0, &error);

        if (!root)
                fail_msg("no JSON (%s): %s", error.text, answer);
        return root;
}

static json_t *get_json(struct world *w, const char *path)
{
        const char *answer = http_ask(w->port, "GET", path, "", "");

        assert_int_equal(http_status(answer), 200);
        assert_non_null(strstr(answer, "application/json"));
        return body_of(answer);
}

static const char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        if (!text)
                fail_msg("no text under %s", key);
        return text;
}

/* ---- health ---- */

TEST(health, a_ready_server_says_so)
{
        struct world w = {0};
        const char *answer;

        world_open(&w);
        answer = http_ask(w.port, "GET", "/health/live", "", "");
        assert_int_equal(http_status(answer), 204);
        assert_string_equal(http_body(answer), "");
        assert_int_equal(http_status(http_ask(w.port, "HEAD", "/health/live", "", "")), 204);
        assert_int_equal(http_status(http_ask(w.port, "GET", "/health/live?liveCode=200", "", "")), 200);
        answer = http_ask(w.port, "GET", "/health/ready", "", "");
        assert_int_equal(http_status(answer), 200);
        assert_string_equal(http_body(answer), "{\"status\":\"ready\"}");
        world_close(&w);
}

TEST(health, a_status_that_is_none_is_refused)
{
        static const char *const codes[] = {"", "2", "999", "600", "199", "20x", "-200", "2000", "00200"};
        struct world w = {0};

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(codes); i++) {
                char path[64];

                snprintf(path, sizeof path, "/health/live?liveCode=%s", codes[i]);
                assert_int_equal(http_status(http_ask(w.port, "GET", path, "", "")), 400);
        }
        world_close(&w);
}

TEST(health, a_server_that_is_not_ready_answers_at_once_with_what_is_missing)
{
        static const char *const paths[] = {"/health/live", "/health/live?liveCode=200", "/health/ready"};
        struct world w = {.is_never_ready = true};
        json_t *info;

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(paths); i++) {
                const char *answer = http_ask(w.port, "GET", paths[i], "", "");

                assert_int_equal(http_status(answer), 503);
                assert_non_null(strstr(answer, "persistence"));
                assert_non_null(strstr(answer, "store"));
                assert_non_null(strcasestr(answer, "\r\nretry-after: "));
        }
        assert_int_equal(http_status(http_ask(w.port, "GET", "/ping", "", "")), 200);
        info = get_json(&w, "/info");
        assert_string_equal(text_at(info, "state"), "initializing");
        assert_true(json_is_null(json_object_get(json_object_get(info, "nilo"), "store")));
        assert_non_null(strstr(text_at(json_object_get(info, "nilo"), "pending"), "store"));
        json_decref(info);
        world_close(&w);
}

/* The status of one check of /v1/health. */
static void assert_check(json_t *health, const char *name, const char *status)
{
        json_t *checks = json_object_get(health, "checks");
        const json_t *check;
        size_t at;

        json_array_foreach(checks, at, check)
        {
                if (strcmp(text_at(check, "name"), name) == 0) {
                        assert_string_equal(text_at(check, "status"), status);
                        assert_true(*text_at(check, "detail"));
                        return;
                }
        }
        fail_msg("no check %s", name);
}

TEST(health, the_verdict_is_the_worst_of_the_checks)
{
        static const struct {
                uint64_t resident_bytes; /* of 5005 */
                const char *verdict;
                int status;
        } cases[] = {{3700, "healthy", 200}, {3754, "degraded", 200}, {4504, "degraded", 200},
                {4505, "unhealthy", 503}};
        struct world w = {0};

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                const char *answer;
                json_t *health;

                w.resident_bytes = cases[i].resident_bytes;
                answer = http_ask(w.port, "GET", "/v1/health", "", "");
                assert_int_equal(http_status(answer), cases[i].status);
                health = body_of(answer);
                assert_string_equal(text_at(health, "status"), cases[i].verdict);
                assert_check(health, "memory", cases[i].verdict);
                assert_check(health, "subsystems", "healthy");
                assert_check(health, "workers", "healthy");
                assert_check(health, "disk", "healthy");
                json_decref(health);
        }
        world_close(&w);
}

TEST(health, a_server_that_is_not_ready_is_not_healthy)
{
        struct world w = {.is_never_ready = true};
        const char *answer;
        json_t *health;

        world_open(&w);
        answer = http_ask(w.port, "GET", "/v1/health", "", "");
        assert_int_equal(http_status(answer), 503);
        health = body_of(answer);
        assert_check(health, "subsystems", "unhealthy");
        json_decref(health);
        world_close(&w);
}

TEST(ping, answers_what_clients_compare)
{
        struct world w = {0};

        world_open(&w);
        assert_string_equal(http_body(http_ask(w.port, "GET", "/ping", "", "")),
                "{\"text\":\"Ping request successfully handled\"}");
        world_close(&w);
}

/* ---- info ---- */

TEST(stats, have_the_groups_of_kurrentdb_and_the_lag_of_subscriptions)
{
        struct world w = {0};
        json_t *json, *subscriptions;

        world_open(&w);
        json = json_loads(http_body(http_ask(w.port, "GET", "/stats", "", "")), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "proc"), "mem")), 1001);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "sys"), "totalMem")), 5005);
        assert_true(json_is_integer(json_object_get(json_object_get(json, "es"), "checksum")));
        subscriptions = json_object_get(json_object_get(json, "nilo"), "subscriptions");
        assert_true(json_is_integer(json_object_get(
                json_object_get(json_object_get(subscriptions, "durable"), "max_lag"), "events")));
        assert_true(json_is_number(json_object_get(
                json_object_get(json_object_get(subscriptions, "catch_up"), "max_lag"), "seconds")));
        json_decref(json);
        world_close(&w);
}

TEST(stats, of_a_server_that_is_not_ready_have_what_it_can_know)
{
        struct world w = {.is_never_ready = true};
        json_t *json;

        world_open(&w);
        json = json_loads(http_body(http_ask(w.port, "GET", "/stats", "", "")), 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "proc"), "mem")), 1001);
        json_decref(json);
        world_close(&w);
}

TEST(info, has_the_fields_of_kurrentdb_and_ours)
{
        struct world w = {0};
        json_t *info;
        json_t *features;
        json_t *nilo;
        json_t *port, *limit;
        const char *name;

        world_open(&w);
        info = get_json(&w, "/info");
        assert_string_equal(text_at(info, "dbVersion"), text_at(info, "esVersion"));
        assert_string_equal(text_at(info, "state"), "leader");
        features = json_object_get(info, "features");
        assert_true(json_is_false(json_object_get(features, "projections")));
        assert_true(json_is_false(json_object_get(features, "userManagement")));
        assert_true(json_is_false(json_object_get(features, "atomPub")));
        assert_string_equal(text_at(json_object_get(info, "authentication"), "type"), "insecure");
        nilo = json_object_get(info, "nilo");
        assert_string_equal(text_at(nilo, "version"), NILO_VERSION);
        assert_true(json_is_true(json_object_get(nilo, "memory_only")));
        assert_true(json_is_true(json_object_get(nilo, "ready")));
        assert_int_equal(
                json_integer_value(json_object_get(json_object_get(nilo, "limits"), "event_size")), 16767216);
        assert_int_equal(
                json_integer_value(json_object_get(json_object_get(nilo, "limits"), "head_size")), 16384);
        assert_int_equal(
                json_integer_value(json_object_get(json_object_get(nilo, "limits"), "connections")), 2000);
        json_object_foreach(json_object_get(nilo, "limits"), name, limit)
        {
                assert_true(json_integer_value(limit) > 0); /* none is missing, and none is infinite */
                assert_true(json_integer_value(limit) < (int64_t)1 << 48);
        }
        port = json_object_get(json_object_get(nilo, "options"), "port");
        assert_int_equal(json_integer_value(json_object_get(port, "value")), 7);
        assert_string_equal(text_at(port, "origin"), "flag");
        assert_string_equal(text_at(json_object_get(nilo, "store"), "name"), "default");
        json_decref(info);
        world_close(&w);
}

TEST(info, lists_options_as_kurrentdb_does)
{
        struct world w = {0};
        json_t *options;
        const json_t *option;

        world_open(&w);
        options = get_json(&w, "/info/options");
        assert_int_equal(json_array_size(options), 1);
        option = json_array_get(options, 0);
        assert_string_equal(text_at(option, "name"), "port");
        assert_string_equal(text_at(option, "configurationSource"), "flag");
        assert_int_equal(json_integer_value(json_object_get(option, "value")), 7);
        assert_string_equal(text_at(json_object_get(option, "schema"), "type"), "integer");
        json_decref(options);
        world_close(&w);
}

TEST(gossip, shows_one_live_leader_where_clients_reach_it)
{
        struct world w = {0};
        json_t *gossip;
        const json_t *member;

        world_open(&w);
        gossip = get_json(&w, "/gossip");
        assert_int_equal(json_array_size(json_object_get(gossip, "members")), 1);
        member = json_array_get(json_object_get(gossip, "members"), 0);
        assert_string_equal(text_at(member, "state"), "Leader");
        assert_true(json_is_true(json_object_get(member, "isAlive")));
        assert_string_equal(text_at(member, "httpEndPointIp"), "127.0.0.1");
        assert_int_equal(json_integer_value(json_object_get(member, "httpEndPointPort")), w.port);
        assert_string_equal(text_at(member, "instanceId"), "abcd0000-0000-0000-0000-000000000000");
        assert_true(strlen(text_at(member, "timeStamp")) == strlen("2026-01-31T12:34:56.123456Z"));
        assert_int_equal(json_integer_value(json_object_get(gossip, "serverPort")), w.port);
        json_decref(gossip);
        world_close(&w);
}

TEST(index, lists_every_route)
{
        static const char *const paths[] = {"/", "/health/live", "/health/ready", "/v1/health", "/ping",
                "/info", "/info/options", "/gossip", "/metrics", "/stats", "/v1/subsystems", "/v1/facts",
                "/v1/log/levels", "/v1/log/levels/{subsystem}"};
        struct world w = {0};
        json_t *root;

        world_open(&w);
        root = get_json(&w, "/");
        for (unsigned i = 0; i < COUNT_OF(paths); i++) {
                json_t *routes = json_object_get(root, "routes");
                const json_t *route;
                bool is_there = false;
                size_t at;

                json_array_foreach(routes, at, route) is_there |=
                        strcmp(text_at(route, "path"), paths[i]) == 0 && *text_at(route, "summary");
                if (!is_there)
                        fail_msg("%s is not listed", paths[i]);
        }
        json_decref(root);
        world_close(&w);
}

/* ---- log levels and subsystems ---- */

TEST(levels, are_shown_and_changed_at_run_time)
{
        static const char *const bodies[] = {"{\"level\": \"debug\"}", "\"trace\"", "warning", "error\n"};
        static const char *const levels[] = {"debug", "trace", "warning", "error"};
        struct world w = {0};
        json_t *all;

        world_open(&w);
        all = get_json(&w, "/v1/log/levels");
        assert_int_equal(json_object_size(all), SUBSYSTEMS);
        assert_string_equal(text_at(all, "gateway"), "info");
        json_decref(all);
        for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
                char expected[96];
                const char *answer = http_ask(w.port, "PUT", "/v1/log/levels/gateway", "", bodies[i]);

                assert_int_equal(http_status(answer), 200);
                snprintf(
                        expected, sizeof expected, "{\"subsystem\":\"gateway\",\"level\":\"%s\"}", levels[i]);
                assert_string_equal(http_body(answer), expected);
                assert_string_equal(
                        http_body(http_ask(w.port, "GET", "/v1/log/levels/gateway", "", "")), expected);
                assert_string_equal(http_body(http_ask(w.port, "GET", "/v1/log/levels/store", "", "")),
                        "{\"subsystem\":\"store\",\"level\":\"info\"}");
        }
        http_ask(w.port, "PUT", "/v1/log/levels/all", "", "debug");
        all = get_json(&w, "/v1/log/levels");
        for (enum subsystem s = 0; s < SUBSYSTEMS; s++)
                assert_string_equal(text_at(all, subsystem_name(s)), "debug");
        json_decref(all);
        world_close(&w);
}

TEST(levels, nonsense_changes_nothing)
{
        static const char *const bodies[] = {
                "", "loud", "{}", "{\"level\": 3}", "[\"debug\"]", "{\"level\":\"debug\"", "null"};
        struct world w = {0};
        char *large = calloc(1, 5000);
        const char *answer;

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(bodies); i++)
                assert_int_equal(
                        http_status(http_ask(w.port, "PUT", "/v1/log/levels/gateway", "", bodies[i])), 400);
        memset(large, 'x', 4999);
        assert_int_equal(http_status(http_ask(w.port, "PUT", "/v1/log/levels/gateway", "", large)), 413);
        free(large);
        answer = http_ask(w.port, "PUT", "/v1/log/levels/kitchen", "", "debug");
        assert_int_equal(http_status(answer), 404);
        assert_non_null(strstr(answer, "control, persistence, store"));
        assert_int_equal(http_status(http_ask(w.port, "GET", "/v1/log/levels/all", "", "")), 404);
        assert_int_equal(http_status(http_ask(w.port, "DELETE", "/v1/log/levels/gateway", "", "")), 405);
        assert_non_null(strstr(http_ask(w.port, "GET", "/v1/log/levels/gateway", "", ""), "\"info\""));
        world_close(&w);
}

static int start_worker(void *arg)
{
        (void)arg;
        return 0;
}

static void stop_worker(void *arg)
{
        (void)arg;
}

static void supervise(struct world *w)
{
        const struct supervised worker = {"weaver", start_worker, stop_worker, NULL};
        const struct supervisor_options options = {
                .subsystem = SUBSYSTEM_GATEWAY,
                .restarts_max = 1,
                .period_us = 60 * 1000000,
        };

        if (supervisor_start(w->control, &options, &worker, 1, &w->supervisor))
                abort();
        supervisor_failed(w->supervisor, "weaver", "a thread broke");
}

static void fail_again(struct world *w)
{
        supervisor_failed(w->supervisor, "weaver", "another one");
}

static void assert_weaver(struct world *w, const char *state, int failures, int restarts, const char *reason)
{
        for (unsigned tries = 0; tries < 200; tries++) {
                json_t *root = get_json(w, "/v1/subsystems");
                const json_t *gateway =
                        json_array_get(json_object_get(root, "subsystems"), SUBSYSTEM_GATEWAY);
                const json_t *weaver = json_array_get(json_object_get(gateway, "workers"), 0);
                bool is_so = weaver && strcmp(text_at(weaver, "state"), state) == 0 &&
                             json_integer_value(json_object_get(weaver, "failures")) == failures &&
                             json_integer_value(json_object_get(weaver, "restarts")) == restarts &&
                             strcmp(text_at(weaver, "last_failure"), reason) == 0;

                json_decref(root);
                if (is_so)
                        return;
                usleep(10000);
        }
        fail_msg("the worker never was %s with %d failures and %d restarts", state, failures, restarts);
}

TEST(subsystems, show_readiness_and_what_became_of_workers)
{
        struct world w = {0};
        json_t *root;
        const json_t *subsystems;
        const json_t *notification;
        const char *answer;

        world_open(&w);
        root = get_json(&w, "/v1/subsystems");
        assert_true(json_is_true(json_object_get(root, "ready")));
        subsystems = json_object_get(root, "subsystems");
        assert_int_equal(json_array_size(subsystems), SUBSYSTEMS);
        assert_string_equal(text_at(json_array_get(subsystems, SUBSYSTEM_STORE), "readiness"), "ready");
        assert_string_equal(text_at(json_array_get(subsystems, SUBSYSTEM_STORE), "log_level"), "info");
        notification = json_array_get(subsystems, SUBSYSTEM_NOTIFICATION);
        assert_int_equal(json_array_size(json_object_get(notification, "workers")), 3);
        json_decref(root);
        world_do(&w, supervise);
        assert_weaver(&w, "running", 1, 1, "a thread broke");
        world_do(&w, fail_again);
        assert_weaver(&w, "given up", 2, 1, "another one");
        answer = http_ask(w.port, "GET", "/v1/health", "", "");
        assert_int_equal(http_status(answer), 503);
        root = body_of(answer);
        assert_check(root, "workers", "unhealthy");
        json_decref(root);
        world_close(&w);
}

TEST(subsystems, of_a_server_that_starts_are_starting)
{
        struct world w = {.is_never_ready = true};
        json_t *root;

        world_open(&w);
        root = get_json(&w, "/v1/subsystems");
        assert_true(json_is_false(json_object_get(root, "ready")));
        assert_string_equal(
                text_at(json_array_get(json_object_get(root, "subsystems"), SUBSYSTEM_STORE), "readiness"),
                "starting");
        json_decref(root);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(health, a_ready_server_says_so),
                TEST_ROW(health, a_status_that_is_none_is_refused),
                TEST_ROW(health, a_server_that_is_not_ready_answers_at_once_with_what_is_missing),
                TEST_ROW(health, the_verdict_is_the_worst_of_the_checks),
                TEST_ROW(health, a_server_that_is_not_ready_is_not_healthy),
                TEST_ROW(ping, answers_what_clients_compare),
                TEST_ROW(stats, have_the_groups_of_kurrentdb_and_the_lag_of_subscriptions),
                TEST_ROW(stats, of_a_server_that_is_not_ready_have_what_it_can_know),
                TEST_ROW(info, has_the_fields_of_kurrentdb_and_ours),
                TEST_ROW(info, lists_options_as_kurrentdb_does),
                TEST_ROW(gossip, shows_one_live_leader_where_clients_reach_it),
                TEST_ROW(index, lists_every_route),
                TEST_ROW(levels, are_shown_and_changed_at_run_time),
                TEST_ROW(levels, nonsense_changes_nothing),
                TEST_ROW(subsystems, show_readiness_and_what_became_of_workers),
                TEST_ROW(subsystems, of_a_server_that_starts_are_starting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
