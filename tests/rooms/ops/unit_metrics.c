/* /metrics: every row of the table is there, well formed, and moves with what it counts. */
#include <ctype.h>

#include "test.h"
#include "world.h"

/* The value of a sample, named with its labels; fails if it is not there. */
static double metric(const char *body, const char *sample)
{
        char line[256];
        const char *at;

        snprintf(line, sizeof line, "\n%s ", sample);
        at = strstr(body, line);
        if (!at)
                fail_msg("no sample %s", sample);
        return strtod(at + strlen(line), NULL);
}

static bool is_name(const char *s, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if (!isalpha((unsigned char)s[i]) && s[i] != '_' && (i == 0 || !isdigit((unsigned char)s[i])))
                        return false;
        return size > 0;
}

/* {a="x",b="y"}; gives what follows, or NULL. */
static const char *skip_labels(const char *at)
{
        if (*at != '{')
                return at;
        do {
                const char *equals = strchr(++at, '=');
                const char *end;

                if (!equals || !is_name(at, (size_t)(equals - at)) || equals[1] != '"')
                        return NULL;
                for (end = equals + 2; *end && *end != '"'; end++)
                        end += *end == '\\' && end[1];
                if (!*end)
                        return NULL;
                at = end + 1;
        } while (*at == ',');
        return *at == '}' ? at + 1 : NULL;
}

/* The grammar of the format: HELP and TYPE before the samples of a family, each family once and in one piece.
 */
static void check_format(const char *body)
{
        char *text = strdup(body);
        char family[128] = "";
        char seen[64 * 1024] = "";
        char *rest = text;
        const char *line;

        while ((line = strsep(&rest, "\n"))) {
                char name[128];
                char kind[16];
                const char *at;
                char *end;

                if (!*line)
                        continue;
                if (sscanf(line, "# HELP %127s", name) == 1) {
                        char marked[160];

                        assert_true(strlen(line) > strlen("# HELP  ") + strlen(name));
                        snprintf(marked, sizeof marked, " %s ", name);
                        assert_null(strstr(seen, marked));
                        strncat(seen, marked, sizeof seen - strlen(seen) - 1);
                        strcpy(family, name);
                        continue;
                }
                if (sscanf(line, "# TYPE %127s %15s", name, kind) == 2) {
                        assert_string_equal(name, family);
                        assert_true(strcmp(kind, "counter") == 0 || strcmp(kind, "gauge") == 0);
                        if (strcmp(kind, "counter") == 0)
                                assert_string_equal(name + strlen(name) - strlen("_total"), "_total");
                        continue;
                }
                assert_true(*family);
                assert_int_equal(strncmp(line, family, strlen(family)), 0);
                at = skip_labels(line + strlen(family));
                if (!at || *at != ' ')
                        fail_msg("not a sample: %s", line);
                strtod(at + 1, &end);
                assert_true(end > at + 1 && !*end);
        }
        free(text);
}

static char *get_metrics(struct world *w)
{
        const char *answer = http_ask(w->port, "GET", "/metrics", "", "");

        assert_int_equal(http_status(answer), 200);
        assert_non_null(strcasestr(answer, "\r\ncontent-type: text/plain; version=0.0.4"));
        return strdup(http_body(answer));
}

static void add_sample_name(char ret[256], const char *name, const char *labels)
{
        snprintf(ret, 256, "%s%s%s%s", name, *labels ? "{" : "", labels, *labels ? "}" : "");
}

TEST(metrics, every_metric_of_the_table_is_there_once_and_well_formed)
{
        struct world w = {0};
        char *body;
        char name[256];

        world_open(&w);
        body = get_metrics(&w);
        check_format(body);
#define METRIC(family, kind, labels, value, help)                                                            \
        add_sample_name(name, family, labels);                                                               \
        metric(body, name);
#define STORE_METRIC   METRIC
#define EMITTER_METRIC METRIC
#include "ops/metrics.def"
#undef EMITTER_METRIC
#undef STORE_METRIC
#undef METRIC
        for (unsigned i = 0; i < FACTS; i++) {
                snprintf(name, sizeof name, "nilo_facts_total{type=\"%s\"}",
                        fact_describe((enum fact_type)i)->name);
                metric(body, name);
        }
        free(body);
        world_close(&w);
}

TEST(metrics, a_server_that_is_not_ready_has_those_that_it_can_know)
{
        struct world w = {.is_never_ready = true};
        char *body;

        world_open(&w);
        body = get_metrics(&w);
        check_format(body);
        assert_true(metric(body, "nilo_ready") == 0);
        assert_true(metric(body, "kurrentdb_statuses{name=\"Node\",status=\"Leader\"}") == 0);
        assert_null(strstr(body, "nilo_appends_total"));
        free(body);
        world_close(&w);
}

static void on_appended(void *arg, const struct store_append_result *result)
{
        struct world *w = arg;

        if (result->verdict != STORE_OK && result->verdict != STORE_CONFLICT)
                abort();
        sem_post(&w->is_up);
}

/* Two events that fit, then one that does not. */
static void append(struct world *w)
{
        const struct store_append_stream stream = {
                .stream = BYTES_LITERAL("order-1"),
                .expected = {.kind = EXPECTED_NONE},
        };
        struct store_append_event events[2] = {0};
        struct store_append a = {.streams = &stream, .stream_count = 1, .events = events, .event_count = 2};

        for (unsigned i = 0; i < COUNT_OF(events); i++) {
                events[i].draft.type = BYTES_LITERAL("OrderPlaced");
                events[i].draft.content_type = CONTENT_JSON;
                events[i].draft.data = BYTES_LITERAL("{}");
                os_random(w->os, &events[i].draft.id, sizeof events[i].draft.id);
        }
        a.write_id = control_next_write_id(w->control);
        store_append(w->store, &a, on_appended, w);
        os_random(w->os, &events[0].draft.id, sizeof events[0].draft.id);
        a.event_count = 1;
        a.write_id = control_next_write_id(w->control);
        store_append(w->store, &a, on_appended, w);
}

TEST(metrics, counters_follow_what_happens)
{
        struct world w = {0};
        char *before;
        char *after;

        world_open(&w);
        before = get_metrics(&w);
        http_ask(w.port, "GET", "/nothing/here", "", "");
        world_do(&w, append);
        sem_wait(&w.is_up);
        sem_wait(&w.is_up);
        after = get_metrics(&w);
#define GREW(name, by) assert_true(metric(after, name) - metric(before, name) == (by))
        GREW("nilo_appends_total{result=\"ok\"}", 1);
        GREW("nilo_appends_total{result=\"conflict\"}", 1);
        GREW("kurrentdb_io_events_total{activity=\"written\"}", 2);
        GREW("kurrentdb_checkpoints{name=\"writer\",read=\"non-flushed\"}", 2);
        GREW("nilo_log_events", 2);
        GREW("nilo_http_requests_total", 2);
        GREW("nilo_http_responses_total{class=\"4xx\"}", 1);
        GREW("nilo_connections_total{result=\"accepted\"}", 2);
        GREW("nilo_facts_total{type=\"write_acknowledged\"}", 1);
        GREW("nilo_facts_total{type=\"write_rejected\"}", 1);
#undef GREW
        assert_true(metric(after, "kurrentdb_io_bytes_total{activity=\"written\"}") >
                    metric(before, "kurrentdb_io_bytes_total{activity=\"written\"}"));
        assert_true(metric(after, "nilo_sync_total") > metric(before, "nilo_sync_total"));
        assert_true(metric(after, "nilo_network_bytes_total{direction=\"sent\"}") >
                    metric(before, "nilo_network_bytes_total{direction=\"sent\"}"));
        assert_true(metric(after, "nilo_ready") == 1);
        assert_true(metric(after, "kurrentdb_statuses{name=\"Node\",status=\"Leader\"}") > 1.7e9);
        assert_true(metric(after, "kurrentdb_elections_count_total") == 1);
        assert_true(metric(after, "kurrentdb_kestrel_connections") >= 1);
        assert_true(metric(after, "kurrentdb_proc_mem_bytes{kind=\"working-set\"}") == 1001);
        assert_true(metric(after, "kurrentdb_sys_load_avg{period=\"15m\"}") == 0.75);
        free(before);
        free(after);
        world_close(&w);
}

/* ---- durable subscriptions ---- */

enum { MANY = 105, SHOWN = 100 };

struct consuming {
        struct consumer *consumer;
        struct event_id ids[2];
        unsigned count;
};
static struct consuming consuming;

static void on_created(void *arg, enum emitter_verdict verdict, const char *problem)
{
        (void)problem;
        if (verdict)
                abort();
        sem_post(&((struct world *)arg)->is_up);
}

/* Of order-1 one that is behind by all its events; of a stream that is not there a great many. */
static void create_many(struct world *w)
{
        for (unsigned i = 0; i < MANY; i++) {
                struct emitter_definition d = {.settings = emitter_settings_default};
                struct bytes stream = i ? BYTES_LITERAL("nobody") : BYTES_LITERAL("order-1");
                struct selector *selector;
                char group[32];
                char why[256];

                snprintf(group, sizeof group, "g\"%u", i);
                if (selector_of_names(SELECT_STREAM, &stream, 1, &selector, why, sizeof why))
                        abort();
                d.group = bytes_of_string(group);
                d.selector = selector;
                d.settings.min_checkpoint_count = 1;
                emitter_create(w->emitter, &d, on_created, w);
                selector_free(&selector);
        }
}

static void take_messages(void *arg)
{
        struct world *w = arg;
        struct consumer_message m;

        while (!consumer_next(consuming.consumer, &m)) {
                consuming.ids[consuming.count++ % 2] = m.item.event.id;
                sem_post(&w->is_up);
        }
}

static void consume(struct world *w)
{
        struct consumer_options options = {.stream = BYTES_LITERAL("order-1"),
                .group = BYTES_LITERAL("g\"0"),
                .window = 10,
                .on_readable = take_messages,
                .arg = w};

        if (consumer_open(w->emitter, &options, &consuming.consumer))
                abort();
        take_messages(w);
}

/* One is acknowledged, the other parked. */
static void finish_both(struct world *w)
{
        (void)w;
        consumer_ack(consuming.consumer, &consuming.ids[0], 1);
        consumer_nack(consuming.consumer, &consuming.ids[1], 1, NACK_PARK, BYTES_EMPTY);
}

static void leave(struct world *w)
{
        (void)w;
        consumer_close(&consuming.consumer);
}

static bool has_metric(const char *body, const char *sample, double value)
{
        char line[256];

        snprintf(line, sizeof line, "\n%s %.17g\n", sample, value);
        return strstr(body, line) != NULL;
}

static void await_metric(struct world *w, const char *sample, double value)
{
        for (unsigned i = 0; i < 300; i++) {
                char *body = get_metrics(w);
                bool is_there = has_metric(body, sample, value);

                free(body);
                if (is_there)
                        return;
                usleep(10000);
        }
        fail_msg("%s does not become %g", sample, value);
}

static unsigned count_samples(const char *body, const char *name)
{
        char start[128];
        unsigned n = 0;

        snprintf(start, sizeof start, "\n%s{", name);
        for (; (body = strstr(body, start)); body++)
                n++;
        return n;
}

TEST(metrics, of_durable_subscriptions_follow_what_happens_and_are_bounded_in_number)
{
#define OF_ORDER "{event_stream_id=\"order-1\",group_name=\"g\\\"0\"}"
        struct world w = {0};
        char *body;

        consuming = (struct consuming){0};
        world_open(&w);
        await_metric(&w, "nilo_leader_duties", 1);
        world_do(&w, append);
        sem_wait(&w.is_up);
        sem_wait(&w.is_up);
        world_do(&w, create_many);
        for (unsigned i = 0; i < MANY; i++)
                sem_wait(&w.is_up);
        /* The largest is looked up once in a second. */
        await_metric(&w, "nilo_subscription_lag_events_max{kind=\"durable\"}", 2);
        body = get_metrics(&w);
        check_format(body);
        assert_true(has_metric(body, "nilo_subscription_definitions", MANY));
        assert_true(has_metric(body, "nilo_subscription_left_out", MANY - SHOWN));
        assert_int_equal(count_samples(body, "nilo_subscription_lag_events"), SHOWN);
        assert_int_equal(count_samples(body, "kurrentdb_persistent_sub_parked_messages"), SHOWN);
        /* The furthest behind is among those that are shown. */
        assert_true(has_metric(body, "nilo_subscription_lag_events" OF_ORDER, 2));
        assert_int_equal(count_samples(body, "kurrentdb_persistent_sub_checkpointed_event_number"), 0);
        free(body);
        world_do(&w, consume);
        sem_wait(&w.is_up);
        sem_wait(&w.is_up);
        body = get_metrics(&w);
        assert_true(has_metric(body, "nilo_subscription_consumers", 1));
        assert_true(has_metric(body, "nilo_subscription_pools", 1));
        assert_true(has_metric(body, "nilo_subscription_in_flight", 2));
        assert_true(has_metric(body, "nilo_subscription_events_total{what=\"delivered\"}", 2));
        assert_true(has_metric(body, "kurrentdb_persistent_sub_connections" OF_ORDER, 1));
        assert_true(has_metric(body, "kurrentdb_persistent_sub_in_flight_messages" OF_ORDER, 2));
        assert_true(has_metric(body, "kurrentdb_persistent_sub_items_processed_total" OF_ORDER, 2));
        assert_true(has_metric(body, "kurrentdb_persistent_sub_last_known_event_number" OF_ORDER, 1));
        assert_true(metric(body, "nilo_subscription_lag_seconds" OF_ORDER) > 0);
        assert_true(metric(body, "nilo_subscription_lag_seconds_max{kind=\"durable\"}") > 0);
        assert_true(metric(body, "nilo_subscription_buffer_bytes") >= 0);
        free(body);
        world_do(&w, finish_both);
        await_metric(&w, "nilo_subscription_events_total{what=\"parked\"}", 1);
        await_metric(&w, "kurrentdb_persistent_sub_parked_messages" OF_ORDER, 1);
        world_do(&w, leave);
        await_metric(&w, "kurrentdb_persistent_sub_checkpointed_event_number" OF_ORDER, 1);
        body = get_metrics(&w);
        assert_true(has_metric(body, "nilo_subscription_events_total{what=\"acknowledged\"}", 1));
        assert_true(has_metric(body, "nilo_subscription_events_total{what=\"refused\"}", 1));
        assert_true(metric(body, "nilo_subscription_checkpoints_total") >= 1);
        assert_true(has_metric(body, "nilo_subscription_lag_events" OF_ORDER, 0));
        free(body);
        world_close(&w);
}

static FILE *open_documentation(void)
{
        char path[512];
        FILE *file = fopen("docs/monitoring.md", "r");

        if (!file) {
                snprintf(path, sizeof path, "%s", __FILE__);
                *strrchr(path, '/') = 0;
                strncat(path, "/../../../docs/monitoring.md", sizeof path - strlen(path) - 1);
                file = fopen(path, "r");
        }
        return file;
}

TEST(metrics, the_documentation_has_each_with_its_kind_and_nothing_else)
{
        static const struct {
                const char *name;
                const char *kind;
        } metrics[] = {
#define METRIC(family, kind, labels, value, help) {family, #kind},
#define STORE_METRIC                              METRIC
#define EMITTER_METRIC                            METRIC
#include "ops/metrics.def"
#undef EMITTER_METRIC
#undef STORE_METRIC
#undef METRIC
#define SUBSCRIPTION_METRIC(family, kind, is_there, value, help) {family, #kind},
#include "ops/subscriptions.def"
#undef SUBSCRIPTION_METRIC
                {"nilo_subscription_left_out", "GAUGE"},
                {"nilo_facts_total", "COUNTER"},
                {"nilo_cluster_node_alive", "GAUGE"},
                {"nilo_cluster_node_lag_entries", "GAUGE"},
                {"nilo_cluster_node_round_trip_seconds", "GAUGE"},
        };
        FILE *file = open_documentation();
        bool is_documented[COUNT_OF(metrics)] = {0};
        char line[512];

        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
                char name[128];
                char kind[16];
                bool is_known = false;

                if (sscanf(line, "| `%127[a-z_]` | %15s |", name, kind) != 2)
                        continue;
                for (unsigned i = 0; i < COUNT_OF(metrics); i++)
                        if (strcmp(name, metrics[i].name) == 0)
                                is_known = is_documented[i] = strcasecmp(kind, metrics[i].kind) == 0;
                if (!is_known)
                        fail_msg("there is no %s %s", kind, name);
        }
        fclose(file);
        for (unsigned i = 0; i < COUNT_OF(metrics); i++)
                if (!is_documented[i])
                        fail_msg("%s is not documented", metrics[i].name);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(metrics, every_metric_of_the_table_is_there_once_and_well_formed),
                TEST_ROW(metrics, a_server_that_is_not_ready_has_those_that_it_can_know),
                TEST_ROW(metrics, counters_follow_what_happens),
                TEST_ROW(metrics, of_durable_subscriptions_follow_what_happens_and_are_bounded_in_number),
                TEST_ROW(metrics, the_documentation_has_each_with_its_kind_and_nothing_else),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
