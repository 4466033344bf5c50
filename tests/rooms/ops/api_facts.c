/* Facts over HTTP: both forms, late watchers, filters, what was missed, coming back, the end. */
#include <jansson.h>

#include "test.h"
#include "world.h"

/* Opens a stream; `headers` as http_send has it. */
static int watch(struct world *w, const char *query, const char *headers)
{
        char path[256];
        int fd = http_connect(w->port);

        assert_true(fd >= 0);
        snprintf(path, sizeof path, "/v1/facts%s", query);
        http_send(fd, "GET", path, headers, "");
        return fd;
}

static unsigned count(const char *text, const char *needle)
{
        unsigned n = 0;

        for (; (text = strstr(text, needle)); text++)
                n++;
        return n;
}

static void publish_text(struct world *w, enum fact_type type, const char *text)
{
        struct fact_payload payload = {0};

        fact_set_text(&payload, "%s", text);
        control_publish(w->control, type, &payload);
}

static void publish_some(struct world *w)
{
        publish_text(w, FACT_connection_failed, "a debug fact of the gateway");
        publish_text(w, FACT_request_failed, "a warning of the gateway");
        publish_text(w, FACT_disk_full, "an error of the disk");
        publish_text(w, FACT_node_discovered, "the last one");
}

static void publish_too_many(struct world *w)
{
        for (unsigned i = 0; i < 1000; i++)
                publish_text(w, FACT_connection_failed, "noise");
        publish_text(w, FACT_node_discovered, "the last one");
}

TEST(facts, a_late_watcher_sees_the_start_in_order)
{
        static const char *const chain[] = {"initialization_started", "subsystem_starting", "log_opened",
                "leader_changed", "store_opened", "system_ready"};
        struct world w = {0};
        const char *at;
        int fd;

        world_open(&w);
        fd = watch(&w, "?from=oldest", "");
        at = http_read(fd, "event: system_ready\n");
        assert_int_equal(http_status(at), 200);
        assert_non_null(strcasestr(at, "\r\ncontent-type: text/event-stream"));
        for (unsigned i = 0; i < COUNT_OF(chain); i++) {
                char line[64];

                snprintf(line, sizeof line, "event: %s\nid: ", chain[i]);
                at = strstr(at, line);
                if (!at)
                        fail_msg("%s is missing or out of order", chain[i]);
        }
        close(fd);
        world_close(&w);
}

TEST(facts, come_live_and_nothing_older)
{
        struct world w = {0};
        const char *answer;
        int fd;

        world_open(&w);
        fd = watch(&w, "?category=cluster,gateway,persistence", "");
        http_read(fd, "\r\n\r\n");
        world_do(&w, publish_some);
        answer = http_read(fd, "the last one");
        assert_null(strstr(answer, "system_ready"));
        assert_non_null(strstr(answer, "event: connection_failed\n"));
        assert_non_null(strstr(answer, "event: disk_full\n"));
        close(fd);
        world_close(&w);
}

TEST(facts, are_chosen_by_category_and_level)
{
        struct world w = {0};
        const char *answer;
        int by_category;
        int by_level;

        world_open(&w);
        by_category = watch(&w, "?category=gateway&category=cluster", "");
        by_level = watch(&w, "?level=warning", "");
        http_read(by_category, "\r\n\r\n");
        http_read(by_level, "\r\n\r\n");
        world_do(&w, publish_some);
        answer = http_read(by_category, "event: node_discovered");
        assert_int_equal(count(answer, "event: connection_failed\n"), 1);
        assert_int_equal(count(answer, "event: request_failed\n"), 1);
        assert_int_equal(count(answer, "event: disk_full\n"), 0);
        answer = http_read(by_level, "event: disk_full");
        assert_int_equal(count(answer, "event: connection_failed\n"), 0);
        assert_int_equal(count(answer, "event: request_failed\n"), 1);
        close(by_category);
        close(by_level);
        world_close(&w);
}

TEST(facts, come_as_lines_of_json_for_who_asks_so)
{
        struct world w = {0};
        const char *answer;
        char *line;
        json_t *fact;
        int fd;

        world_open(&w);
        fd = watch(&w, "?from=oldest", "Accept: application/x-ndjson\r\n");
        answer = http_read(fd, "\"system_ready\"");
        assert_non_null(strcasestr(answer, "\r\ncontent-type: application/x-ndjson"));
        assert_null(strstr(answer, "event: "));
        line = strdup(strstr(answer, "{\"id\""));
        *strchr(line, '\n') = 0;
        fact = json_loads(line, 0, NULL);
        assert_non_null(fact);
        assert_string_equal(json_string_value(json_object_get(fact, "node")), "node-1");
        assert_non_null(json_object_get(fact, "type"));
        assert_non_null(json_object_get(fact, "data"));
        json_decref(fact);
        free(line);
        close(fd);
        world_close(&w);
}

TEST(facts, that_were_lost_are_counted)
{
        struct world w = {0};
        const char *answer;
        const char *missed;
        unsigned long n;
        int fd;

        world_open(&w);
        fd = watch(&w, "?category=gateway,cluster", "");
        http_read(fd, "\r\n\r\n");
        world_do(&w, publish_too_many);
        answer = http_read(fd, "the last one");
        missed = strstr(answer, "event: missed\ndata: {\"missed\":");
        assert_non_null(missed);
        n = strtoul(strstr(missed, "\"missed\":") + strlen("\"missed\":"), NULL, 10);
        assert_true(n > 0);
        assert_int_equal(n + count(answer, "event: connection_failed\n"), 1000);
        close(fd);
        world_close(&w);
}

TEST(facts, go_on_behind_the_last_one_that_was_seen)
{
        struct world w = {0};
        const char *answer;
        const char *id;
        char header[96];
        int fd;

        world_open(&w);
        fd = watch(&w, "?from=oldest", "");
        answer = http_read(fd, "event: system_ready\n");
        id = strstr(answer, "event: leader_changed\nid: ");
        assert_non_null(id);
        id += strlen("event: leader_changed\nid: ");
        snprintf(header, sizeof header, "Last-Event-ID: %.*s\r\n", (int)strcspn(id, "\n"), id);
        close(fd);
        fd = watch(&w, "", header);
        answer = http_read(fd, "event: system_ready\n");
        assert_null(strstr(answer, "event: leader_changed\n"));
        assert_null(strstr(answer, "event: initialization_started\n"));
        assert_non_null(strstr(answer, "event: store_opened\n"));
        close(fd);
        /* An id of another life of the server, or none at all: everything that is still there. */
        fd = watch(&w, "", "Last-Event-ID: 0000000000000001-999999\r\n");
        assert_non_null(strstr(http_read(fd, "event: system_ready\n"), "event: initialization_started\n"));
        close(fd);
        fd = watch(&w, "", "Last-Event-ID: nonsense\r\n");
        assert_non_null(strstr(http_read(fd, "event: system_ready\n"), "event: initialization_started\n"));
        close(fd);
        world_close(&w);
}

TEST(facts, a_question_that_makes_no_sense_is_refused_with_what_would)
{
        static const char *const queries[] = {"?category=kitchen", "?category=gateway,kitchen", "?level=loud",
                "?from=yesterday", "?colour=red", "?level="};
        struct world w = {0};

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(queries); i++) {
                char path[64];
                const char *answer;

                snprintf(path, sizeof path, "/v1/facts%s", queries[i]);
                answer = http_ask(w.port, "GET", path, "", "");
                assert_int_equal(http_status(answer), 400);
                assert_non_null(strstr(answer, "is none of "));
        }
        assert_int_equal(http_status(http_ask(w.port, "HEAD", "/v1/facts", "", "")), 200);
        world_close(&w);
}

TEST(facts, streams_have_a_limit_and_give_their_place_back)
{
        struct world w = {0};
        int fds[OPS_FACT_STREAMS_MAX];
        const char *answer;
        int status = 0;

        world_open(&w);
        for (unsigned i = 0; i < COUNT_OF(fds); i++) {
                fds[i] = watch(&w, "", "");
                http_read(fds[i], "\r\n\r\n");
        }
        answer = http_ask(w.port, "GET", "/v1/facts", "", "");
        assert_int_equal(http_status(answer), 503);
        assert_non_null(strstr(answer, "at most 64 streams"));
        for (unsigned i = 0; i < COUNT_OF(fds); i++)
                close(fds[i]);
        for (unsigned tries = 0; status != 200 && tries < 200; tries++) {
                int fd = watch(&w, "", "");

                status = http_status(http_read(fd, "\r\n\r\n"));
                close(fd);
                usleep(10000);
        }
        assert_int_equal(status, 200);
        world_close(&w);
}

static void stop_ops(struct world *w)
{
        publish_text(w, FACT_system_stopping, "the test ends");
        ops_stop(w->ops);
}

TEST(facts, the_stop_is_the_last_thing_that_is_told)
{
        struct world w = {0};
        const char *answer;
        int fd;

        world_open(&w);
        fd = watch(&w, "?category=system", "");
        http_read(fd, "\r\n\r\n");
        world_do(&w, stop_ops);
        answer = http_read(fd, "0\r\n\r\n");
        assert_non_null(strstr(answer, "event: system_stopping\n"));
        close(fd);
        assert_int_equal(http_status(http_ask(w.port, "GET", "/v1/facts", "", "")), 503);
        assert_int_equal(http_status(http_ask(w.port, "GET", "/health/ready", "", "")), 503);
        world_close(&w);
}

/* G18: a watcher that does not read costs nobody anything, and the server stops all the same. */
TEST(facts, a_watcher_that_never_reads_holds_up_nothing)
{
        struct world w = {0};
        int fd;

        world_open(&w);
        fd = watch(&w, "", "");
        for (unsigned i = 0; i < 100; i++)
                world_do(&w, publish_too_many);
        assert_int_equal(http_status(http_ask(w.port, "GET", "/ping", "", "")), 200);
        close(fd);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(facts, a_late_watcher_sees_the_start_in_order),
                TEST_ROW(facts, come_live_and_nothing_older),
                TEST_ROW(facts, are_chosen_by_category_and_level),
                TEST_ROW(facts, come_as_lines_of_json_for_who_asks_so),
                TEST_ROW(facts, that_were_lost_are_counted),
                TEST_ROW(facts, go_on_behind_the_last_one_that_was_seen),
                TEST_ROW(facts, a_question_that_makes_no_sense_is_refused_with_what_would),
                TEST_ROW(facts, streams_have_a_limit_and_give_their_place_back),
                TEST_ROW(facts, the_stop_is_the_last_thing_that_is_told),
                TEST_ROW(facts, a_watcher_that_never_reads_holds_up_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
