/* Server-sent events line by line: what follows depends on it that nothing is lost or made up (G10). */
#include "client/sse.h"

#include "test.h"

static enum sse_outcome feed(struct sse *s, const char *line)
{
        return sse_line(s, line, strlen(line));
}

static void assert_data(const struct sse *s, const char *data)
{
        assert_int_equal(s->data.size, strlen(data));
        assert_memory_equal(s->data.data, data, strlen(data));
}

TEST(sse, an_event_ends_with_an_empty_line)
{
        struct sse s = {0};

        assert_int_equal(feed(&s, "id: 17"), SSE_MORE);
        assert_int_equal(feed(&s, "data: {\"a\":1}"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_EVENT);
        assert_string_equal(s.id, "17");
        assert_string_equal(s.event, "");
        assert_data(&s, "{\"a\":1}");
        sse_next(&s);
        assert_string_equal(s.id, "");
        assert_int_equal(s.data.size, 0);
        sse_fini(&s);
}

TEST(sse, comments_unknown_fields_and_spare_empty_lines_are_nothing)
{
        struct sse s = {0};

        assert_int_equal(feed(&s, ": keep-alive"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_MORE);
        assert_int_equal(feed(&s, "retry: 1000"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_MORE);
        assert_int_equal(feed(&s, "identity: 4"), SSE_MORE);
        assert_int_equal(feed(&s, "datum"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_MORE);
        sse_fini(&s);
}

TEST(sse, only_one_space_belongs_to_the_colon)
{
        struct sse s = {0};

        assert_int_equal(feed(&s, "data:  two"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_EVENT);
        assert_data(&s, " two");
        sse_next(&s);
        assert_int_equal(feed(&s, "data:none"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_EVENT);
        assert_data(&s, "none");
        sse_fini(&s);
}

TEST(sse, data_of_several_lines_is_joined_by_line_ends)
{
        struct sse s = {0};

        assert_int_equal(feed(&s, "data: a"), SSE_MORE);
        assert_int_equal(feed(&s, "data: b"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_EVENT);
        assert_data(&s, "a\nb");
        sse_fini(&s);
}

TEST(sse, an_id_without_data_is_an_event_that_moves_the_place)
{
        struct sse s = {0};

        assert_int_equal(feed(&s, "id: 2000"), SSE_MORE);
        assert_int_equal(feed(&s, ""), SSE_EVENT);
        assert_string_equal(s.id, "2000");
        assert_int_equal(s.data.size, 0);
        sse_fini(&s);
}

TEST(sse, names_and_ids_that_do_not_fit_count_as_none)
{
        char line[100] = "id: ";
        struct sse s = {0};

        memset(line + 4, '9', 80);
        assert_int_equal(feed(&s, line), SSE_MORE);
        assert_string_equal(s.id, "");
        assert_int_equal(feed(&s, "event: caught-up"), SSE_MORE);
        assert_string_equal(s.event, "caught-up");
        sse_fini(&s);
}

TEST(sse, data_without_end_is_refused_at_the_limit)
{
        static char line[1 << 20];
        struct sse s = {0};
        unsigned lines = 0;

        memset(line, 'x', sizeof line);
        memcpy(line, "data:", 5);
        while (sse_line(&s, line, sizeof line) == SSE_MORE)
                lines++;
        assert_in_range(lines, 60, 64);
        assert_true(s.data.size <= SSE_DATA_SIZE_MAX);
        sse_fini(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(sse, an_event_ends_with_an_empty_line),
                TEST_ROW(sse, comments_unknown_fields_and_spare_empty_lines_are_nothing),
                TEST_ROW(sse, only_one_space_belongs_to_the_colon),
                TEST_ROW(sse, data_of_several_lines_is_joined_by_line_ends),
                TEST_ROW(sse, an_id_without_data_is_an_event_that_moves_the_place),
                TEST_ROW(sse, names_and_ids_that_do_not_fit_count_as_none),
                TEST_ROW(sse, data_without_end_is_refused_at_the_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
