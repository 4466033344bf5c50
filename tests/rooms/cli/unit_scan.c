/* What is looked for in events: fields, values, times. */
#include "cli/scan.h"

#include <time.h>

#include "test.h"

static bool equals(const char *json, const char *path, const char *text)
{
        const char *value;
        size_t size;

        return scan_field(json, strlen(json), path, &value, &size) && scan_equals(value, size, text);
}

TEST(field, by_name_and_by_path)
{
        static const char json[] = "{\"total\":5,\"customer\":{\"id\":7,\"name\":{\"first\":\"ada\"}},\"a."
                                   "b\":1,\"a\":{\"b\":2}}";

        assert_true(equals(json, "total", "5"));
        assert_true(equals(json, "customer.id", "7"));
        assert_true(equals(json, "customer.name.first", "ada"));
        assert_true(equals(json, "a.b", "1")); /* the name as it is goes first */
        assert_false(equals(json, "customer.age", "7"));
        assert_false(equals(json, "total.id", "5"));
        assert_false(equals(json, "", "5"));
        assert_false(equals(json, ".", "5"));
        assert_false(equals("[1]", "total", "5"));
        assert_false(equals("", "total", "5"));
}

TEST(value, is_compared_as_people_write_it)
{
        static const struct {
                const char *json;
                const char *text;
                bool is_equal;
        } rows[] = {{"5", "5", true}, {"5", "50", false}, {"1.10", "1.1", true}, {"1e2", "100", true},
                {"-3", "-3.0", true}, {"\"card\"", "card", true}, {"\"card\"", "\"card\"", true},
                {"\"5\"", "5", true}, {"\"a\\u0062\"", "ab", true}, {"\"a\\\"b\"", "a\"b", true},
                {"\"a\\\\b\"", "a\\b", true}, {"true", "true", true}, {"null", "null", true},
                {"true", "1", false}, {"{}", "{}", true}, {"\"\"", "", true}, {"0", "", false},
                /* Digits that a double does not hold. */
                {"9007199254740993", "9007199254740992", false},
                {"9007199254740993", "9007199254740993", true}};

        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (scan_equals(rows[i].json, strlen(rows[i].json), rows[i].text) != rows[i].is_equal)
                        fail_msg("%s against %s", rows[i].json, rows[i].text);
}

TEST(time, of_an_event_is_read_to_the_microsecond)
{
        static const char json[] = "{\"time\":\"2026-11-25T22:33:05.578002Z\"}";
        uint64_t us;

        assert_true(scan_time(json, strlen(json), &us));
        assert_true(us == UINT64_C(1795645985578002));
        assert_false(scan_time("{\"time\":5}", 10, &us));
        assert_false(scan_time("{\"time\":\"yesterday\"}", 20, &us));
        assert_false(scan_time("{}", 2, &us));
}

TEST(time, of_a_flag_is_a_day_a_moment_or_an_age)
{
        uint64_t us;
        uint64_t now_s = (uint64_t)time(NULL);

        assert_true(scan_parse_time("1970-01-02", &us));
        assert_true(us == UINT64_C(86400000000));
        assert_true(scan_parse_time("1970-01-01T00:00:01.5Z", &us));
        assert_true(us == 1500000);
        assert_true(scan_parse_time("2h", &us));
        assert_true(us / 1000000 >= now_s - 7200 && us / 1000000 <= now_s - 7200 + 60);
        assert_true(scan_parse_time("99999999999d", &us));
        assert_int_equal(us, 0);
        assert_false(scan_parse_time("2", &us));
        assert_false(scan_parse_time("2w", &us));
        assert_false(scan_parse_time("2hh", &us));
        assert_false(scan_parse_time("-2h", &us));
        assert_false(scan_parse_time("", &us));
        assert_false(scan_parse_time("99999999999999999999h", &us));
        assert_false(scan_parse_time("2026-13-01", &us));
        assert_false(scan_parse_time("2026-11-25T10:00:00+01:00", &us));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(field, by_name_and_by_path),
                TEST_ROW(value, is_compared_as_people_write_it),
                TEST_ROW(time, of_an_event_is_read_to_the_microsecond),
                TEST_ROW(time, of_a_flag_is_a_day_a_moment_or_an_age),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
