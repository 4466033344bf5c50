/* Values of parameters: exact numbers, expectations, the nearest known name, times (G17). */
#include "api/room.h"

#include <stdio.h>
#include <time.h>

#include "test.h"

static bool parses(const char *text, uint64_t want)
{
        uint64_t n;

        return bytes_to_number(bytes_of_string(text), &n) && n == want;
}

TEST(number, is_exact_to_64_bits_and_nothing_else_is_taken)
{
        static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "x",
                "18446744073709551616", "99999999999999999999", "100000000000000000000"};
        uint64_t n;

        assert_true(parses("0", 0));
        assert_true(parses("007", 7));
        assert_true(parses("9007199254740993", 9007199254740993u));
        assert_true(parses("18446744073709551615", UINT64_MAX));
        for (unsigned i = 0; i < COUNT_OF(bad); i++)
                assert_false(bytes_to_number(bytes_of_string(bad[i]), &n));
}

TEST(expected, words_and_revisions)
{
        struct expected e;

        assert_true(expected_parse(BYTES_LITERAL("any"), &e));
        assert_int_equal(e.kind, EXPECTED_ANY);
        assert_true(expected_parse(BYTES_LITERAL("none"), &e));
        assert_int_equal(e.kind, EXPECTED_NONE);
        assert_true(expected_parse(BYTES_LITERAL("exists"), &e));
        assert_int_equal(e.kind, EXPECTED_EXISTS);
        assert_true(expected_parse(BYTES_LITERAL("41"), &e));
        assert_int_equal(e.kind, EXPECTED_EXACT);
        assert_int_equal(e.revision, 41);
        assert_true(expected_parse(BYTES_LITERAL("9223372036854775806"), &e));
        assert_false(expected_parse(BYTES_LITERAL("9223372036854775807"), &e)); /* where a tombstone stands */
        assert_false(expected_parse(BYTES_LITERAL("-1"), &e));
        assert_false(expected_parse(BYTES_LITERAL("None"), &e));
        assert_false(expected_parse(BYTES_EMPTY, &e));
}

static const char *nearest(const char *name)
{
        static char ret[64];

        nearest_name(bytes_of_string(name), "from direction limit resolve-links", ret, sizeof ret);
        return ret;
}

TEST(nearest, is_the_name_that_was_begun_or_the_one_with_the_fewest_changes)
{
        char ret[64];

        assert_string_equal(nearest("form"), "from");
        assert_string_equal(nearest("dir"), "direction"); /* its beginning */
        assert_string_equal(nearest("directoin"), "direction");
        assert_string_equal(nearest("resolve_links"), "resolve-links");
        assert_string_equal(nearest("limits"), "limit");
        assert_string_equal(nearest(""), "from");
        nearest_name(BYTES_LITERAL("x"), "", ret, sizeof ret);
        assert_string_equal(ret, "");
}

TEST(time, is_told_in_utc_to_the_microsecond)
{
        char text[TIME_TEXT_SIZE];

        time_format(0, text);
        assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
        time_format(1795500000123456u, text);
        assert_string_equal(text, "2026-11-24T06:00:00.123456Z");
        time_format(951782400000001u, text);
        assert_string_equal(text, "2000-02-29T00:00:00.000001Z");
        time_format(253402300799999999u, text);
        assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
}

TEST(time, is_what_the_library_makes_of_it)
{
        char text[TIME_TEXT_SIZE], want[80];

        for (uint64_t day = 0; day < 200000; day++) {
                time_t seconds = (time_t)(day * 86400 + day % 86400);
                struct tm t;

                gmtime_r(&seconds, &t);
                strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000000Z", &t);
                time_format((uint64_t)seconds * 1000000, text);
                assert_string_equal(text, want);
        }
}

/* An event as it may have been written by any client: JSON that is none goes out under a name that says so.
 */
static void expect_json(const struct event_view *e, bool is_line, const char *want)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        view_to_json(&j, e, is_line);
        buffer_add_u8(&out, 0);
        if (!strstr((char *)out.data, want))
                fprintf(stderr, "%s\n", (char *)out.data);
        assert_non_null(strstr((char *)out.data, want));
        buffer_fini(&out);
}

TEST(event, data_that_is_no_json_is_told_apart)
{
        struct event_view e = {
                .stream = BYTES_LITERAL("s"),
                .type = BYTES_LITERAL("T"),
                .content_type = CONTENT_JSON,
                .data = BYTES_LITERAL("{\"a\": 1}"),
                .revision = REVISION_MAX,
                .position = UINT64_MAX,
        };

        expect_json(&e, false, "\"data\":{\"a\": 1}}");
        expect_json(&e, false, "\"revision\":9223372036854775807,\"position\":18446744073709551615,");
        e.data = BYTES_LITERAL("{\"a\":");
        expect_json(&e, false, "\"content_type\":\"application/json\",\"data_base64\":\"eyJhIjo=\"}");
        e.data = BYTES_LITERAL("\"\xff\"");
        expect_json(&e, true, "\"data_base64\":\"Iv8i\"}");
        e.data = BYTES_EMPTY;
        expect_json(&e, true, "\"content_type\":\"application/json\"}");
        e.content_type = CONTENT_BINARY;
        expect_json(&e, true, "\"content_type\":\"application/octet-stream\",\"data_base64\":\"\"}");
        e.metadata = BYTES_LITERAL("[\n1]");
        expect_json(&e, true, "\"metadata\":[ 1]}");
        expect_json(&e, false, "\"metadata\":[\n1]}");
        e.metadata = BYTES_LITERAL("no");
        expect_json(&e, true, "\"metadata_base64\":\"bm8=\"}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(number, is_exact_to_64_bits_and_nothing_else_is_taken),
                TEST_ROW(expected, words_and_revisions),
                TEST_ROW(nearest, is_the_name_that_was_begun_or_the_one_with_the_fewest_changes),
                TEST_ROW(time, is_told_in_utc_to_the_microsecond),
                TEST_ROW(time, is_what_the_library_makes_of_it),
                TEST_ROW(event, data_that_is_no_json_is_told_apart),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
