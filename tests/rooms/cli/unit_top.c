/* Samples of a server's metrics, and the screen that they make. */
#include "cli/top.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static struct top_node *nodes;
static struct frame frame;

static int begin(void **state)
{
        (void)state;
        nodes = calloc(3, sizeof *nodes);
        return nodes ? 0 : -1;
}

static int end(void **state)
{
        (void)state;
        free(nodes);
        frame_free(&frame);
        return 0;
}

static void take_page(struct top_node *node, uint64_t at_us, const char *page)
{
        struct top_sample *sample = calloc(1, sizeof *sample);

        assert_true(top_read(page, at_us, sample));
        top_take(node, sample);
        free(sample);
}

/* A page with the numbers that matter here. */
static void take(struct top_node *node, uint64_t at_us, unsigned appends, double lag, const char *state)
{
        char page[2048];

        snprintf(page, sizeof page,
                "# HELP nilo_ready 1\n# TYPE nilo_ready gauge\nnilo_ready 1\n"
                "kurrentdb_statuses{name=\"Node\",status=\"Leader\"} %d\n"
                "kurrentdb_statuses{name=\"Node\",status=\"Follower\"} %d\n"
                "kurrentdb_proc_up_time_seconds_total 100.5\n"
                "nilo_raft_term 3\n"
                "nilo_sync_total %u\n"
                "nilo_sync_seconds_total %g\n"
                "nilo_appends_total{result=\"ok\"} %u\n"
                "nilo_appends_total{result=\"conflict\"} 4\n"
                "nilo_subscription_lag_events{event_stream_id=\"$all\",group_name=\"a \\\"b\\\" \\\\\"} %g\n"
                "nilo_subscription_lag_events{event_stream_id=\"s\",group_name=\"z\"} 7\n"
                "kurrentdb_persistent_sub_parked_messages{event_stream_id=\"$all\",group_name=\"a \\\"b\\\" "
                "\\\\\"} 2\n"
                "kurrentdb_persistent_sub_parked_messages{event_stream_id=\"s\",group_name=\"z\"} 9\n"
                "kurrentdb_persistent_sub_items_processed_total{event_stream_id=\"s\",group_name=\"z\"} %u\n",
                strcmp(state, "Leader") == 0, strcmp(state, "Follower") == 0, appends, appends * 0.002,
                appends, lag, appends);
        take_page(node, at_us, page);
}

TEST(sample, counters_become_rates_and_gauges_stay)
{
        take(&nodes[0], 1000000, 100, 5, "Leader");
        assert_false(nodes[0].has_rates);
        assert_int_equal(nodes[0].appends.count, 0);
        take(&nodes[0], 3000000, 150, 5, "Leader");
        assert_true(nodes[0].has_rates);
        assert_true(nodes[0].numbers[TOP_APPENDS] == 25);
        assert_true(nodes[0].numbers[TOP_CONFLICTS] == 0);
        assert_true(nodes[0].numbers[TOP_TERM] == 3);
        assert_true(fabs(nodes[0].sync_ms - 2) < 1e-6); /* the mean of the syncs in between */
        assert_true(nodes[0].parked == 11);
        assert_true(isnan(nodes[0].numbers[TOP_MEMORY])); /* nobody said */
        assert_int_equal(nodes[0].appends.count, 1);
        assert_string_equal(nodes[0].last.state, "Leader");
}

TEST(sample, a_server_that_began_again_has_no_rate_below_zero)
{
        take(&nodes[0], 1000000, 1000, 5, "Leader");
        take(&nodes[0], 2000000, 3, 5, "Leader");
        assert_true(nodes[0].numbers[TOP_APPENDS] == 0);
        take(&nodes[0], 3000000, 5, 5, "Leader");
        assert_true(nodes[0].numbers[TOP_APPENDS] == 2);
}

TEST(sample, subscriptions_keep_their_names)
{
        const struct top_group *g = nodes[0].last.groups;

        take(&nodes[0], 1000000, 10, 5, "Leader");
        take(&nodes[0], 2000000, 14, 5, "Leader");
        assert_int_equal(nodes[0].last.group_count, 2);
        assert_string_equal(g[0].group, "a \"b\" \\");
        assert_string_equal(g[0].stream, "$all");
        assert_true(g[0].lag_events == 5 && g[0].parked == 2 && g[0].rate == 0);
        assert_true(g[1].parked == 9 && g[1].rate == 4);
}

TEST(sample, what_is_no_page_of_metrics_is_refused)
{
        static const char *const pages[] = {"", "\n", "<html>", "{\"a\":1}", "nilo_ready 1\n", " \n \n", "x"};
        struct top_sample *sample = calloc(1, sizeof *sample);

        for (size_t i = 0; i < COUNT_OF(pages); i++)
                assert_false(top_read(pages[i], 1, sample));
        free(sample);
}

TEST(sample, more_subscriptions_than_there_is_room_for_are_left_out)
{
        struct buffer page = {0};
        struct top_sample *sample = calloc(1, sizeof *sample);

        buffer_add_string(&page, "kurrentdb_proc_up_time_seconds_total 1\n");
        for (unsigned i = 0; i < 3 * TOP_GROUPS_MAX; i++)
                buffer_format(&page,
                        "nilo_subscription_lag_events{event_stream_id=\"s%u\",group_name=\"g\"} 1\n", i);
        buffer_add_u8(&page, 0);
        assert_true(top_read((const char *)page.data, 1, sample));
        assert_int_equal(sample->group_count, TOP_GROUPS_MAX);
        buffer_fini(&page);
        free(sample);
}

TEST(leader, is_the_one_that_leads_and_answers)
{
        take(&nodes[0], 1000000, 1, 1, "Follower");
        take(&nodes[1], 1000000, 1, 1, "Leader");
        assert_int_equal(top_leader(nodes, 3), 1);
        top_lost(&nodes[1], "gone");
        assert_int_equal(top_leader(nodes, 3), 0);
        snprintf(nodes[0].url, sizeof nodes[0].url, "http://h:1");
        top_lost(&nodes[0], "http://h:1: refused");
        assert_string_equal(nodes[0].problem, "refused");
        top_lost(&nodes[0], "");
        assert_string_equal(nodes[0].problem, "no answer");
        assert_int_equal(top_leader(nodes, 3), 0);
}

TEST(json, has_every_number_and_says_who_is_not_there)
{
        struct buffer out = {0};
        const char *text;

        take(&nodes[0], 1000000, 100, 5, "Leader");
        take(&nodes[0], 2000000, 150, 5, "Leader");
        nodes[1].id = 2;
        top_lost(&nodes[1], "connection refused");
        top_json(nodes, 2, "2026-11-26T10:00:00Z", &out);
        buffer_add_u8(&out, 0);
        text = (const char *)out.data;
        assert_true(nilo_json_is_valid(text, strlen(text)));
        assert_non_null(strstr(text, "\"state\":\"Leader\",\"appends_per_second\":50,"));
        assert_non_null(strstr(text, "\"memory_bytes\":null,"));
        assert_non_null(strstr(text, "{\"stream\":\"s\",\"group\":\"z\",\"lag_events\":7,"));
        assert_non_null(strstr(text, "\"node\":2,\"reached\":false,\"problem\":\"connection refused\"}"));
        buffer_fini(&out);
}

/* What a terminal of this width would show must fit into it: characters between sequences are counted row by
 * row. */
static void expect_fits(unsigned width, unsigned height)
{
        unsigned column = 0;
        unsigned row = 1;
        const char *at = (const char *)frame.out.data;

        for (const char *end_of_frame = at + frame.out.size; at < end_of_frame;) {
                if (*at == '\033') {
                        const char *final = at + 2 + strspn(at + 2, "0123456789;?");

                        if (*final == 'H') {
                                row = at[2] == 'H' ? 1 : (unsigned)strtoul(at + 2, NULL, 10);
                                column = 0;
                                assert_true(row <= height);
                        }
                        at = final + 1;
                        continue;
                }
                column += ((uint8_t)*at & 0xc0) != 0x80;
                assert_true(column <= width);
                at++;
        }
}

static void show(unsigned count, unsigned width, unsigned height, enum top_sort sort)
{
        struct top_view view = {.url = "http://127.0.0.1:2113",
                .time = "10:00:00",
                .sort = sort,
                .has_keys = true,
                .interval_seconds = 1};

        frame.has_utf8 = true;
        frame_begin(&frame, width, height);
        top_show(&frame, nodes, count, &view);
        frame_end(&frame);
}

TEST(screen, fits_every_size)
{
        take(&nodes[0], 1000000, 100, 5e12, "Leader");
        take(&nodes[0], 2000000, 4000000000U, 5e12, "Leader");
        take(&nodes[1], 1000000, 100, 5, "Follower");
        for (unsigned count = 1; count <= 3; count += 2)
                for (unsigned width = 1; width < 200; width += 7)
                        for (unsigned height = 1; height < 40; height += 3) {
                                frame.has_color = width % 2;
                                show(count, width, height, TOP_BY_LAG);
                                expect_fits(width, height);
                        }
}

static const char *found(const char *what)
{
        buffer_add_u8(&frame.out, 0);
        return strstr((const char *)frame.out.data, what);
}

TEST(screen, subscriptions_are_sorted_as_the_key_says)
{
        frame.has_color = false;
        take(&nodes[0], 1000000, 10, 5, "Leader");
        take(&nodes[0], 2000000, 14, 500, "Leader");
        show(1, 80, 24, TOP_BY_LAG);
        assert_string_equal(nodes[0].last.groups[0].group, "a \"b\" \\");
        show(1, 80, 24, TOP_BY_PARKED);
        assert_string_equal(nodes[0].last.groups[0].group, "z");
        show(1, 80, 24, TOP_BY_NAME);
        assert_string_equal(nodes[0].last.groups[0].group, "a \"b\" \\");
        show(1, 80, 24, TOP_BY_RATE);
        assert_string_equal(nodes[0].last.groups[0].group, "z");
        assert_non_null(found("sorted by rate"));
}

TEST(screen, says_which_node_is_not_reached)
{
        frame.has_color = false;
        nodes[0].id = 1;
        nodes[1].id = 2;
        take(&nodes[0], 1000000, 10, 5, "Leader");
        top_lost(&nodes[1], "connection refused");
        show(2, 80, 24, TOP_BY_LAG);
        assert_non_null(found("connection refused"));
        assert_non_null(found("2 nodes, leader node 1, term 3"));
        top_lost(&nodes[0], "connection refused, too");
        show(2, 80, 24, TOP_BY_LAG);
        assert_non_null(found("not reached"));
        assert_non_null(found("these are its last numbers: connection refused, too"));
}

int main(void)
{
#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, begin, end)
        const struct CMUnitTest tests[] = {
                ROW(sample, counters_become_rates_and_gauges_stay),
                ROW(sample, a_server_that_began_again_has_no_rate_below_zero),
                ROW(sample, subscriptions_keep_their_names),
                ROW(sample, what_is_no_page_of_metrics_is_refused),
                ROW(sample, more_subscriptions_than_there_is_room_for_are_left_out),
                ROW(leader, is_the_one_that_leads_and_answers),
                ROW(json, has_every_number_and_says_who_is_not_there),
                ROW(screen, fits_every_size),
                ROW(screen, subscriptions_are_sorted_as_the_key_says),
                ROW(screen, says_which_node_is_not_reached),
        };
#undef ROW

        return cmocka_run_group_tests(tests, NULL, NULL);
}
