/* Command lines: what fits, what does not, and what is said then. */
#include "cli/command.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static int run_nothing(const struct cli_line *line)
{
        (void)line;
        return 0;
}

static const struct cli_command command = {"stream", "test", "STREAM TYPE [DATA [MORE]]", "for tests",
        run_nothing, {{"expect", "REVISION", ""}, {"limit", "N", ""}, {"binary", NULL, ""}}};

/* Parses words; what it says goes to `said` (freed by the next call). */
static char *said;

static int parse(struct cli_line *line, unsigned count, const char **words)
{
        FILE *terminal = stderr;
        size_t size;
        int code;

        free(said);
        said = NULL;
        *line = (struct cli_line){.command = &command};
        stderr = open_memstream(&said, &size);
        code = cli_parse(line, (int)count, (char **)words, 0);
        fclose(stderr);
        stderr = terminal;
        return code;
}
#define PARSE(line, ...) parse(line, COUNT_OF(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

TEST(line, arguments_and_flags_may_be_mixed)
{
        struct cli_line line;

        assert_int_equal(
                PARSE(&line, "--expect", "none", "a", "--binary", "T", "-q", "--limit=3", "{}"), CLI_OK);
        assert_int_equal(line.argument_count, 3);
        assert_string_equal(line.arguments[0], "a");
        assert_string_equal(line.arguments[1], "T");
        assert_string_equal(line.arguments[2], "{}");
        assert_string_equal(cli_value(&line, "expect"), "none");
        assert_string_equal(cli_value(&line, "limit"), "3");
        assert_true(cli_has(&line, "binary"));
        assert_true(line.is_quiet);
        assert_false(line.is_json);
        assert_string_equal(said, "");
}

TEST(line, what_was_not_given_is_absent)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "a", "T"), CLI_OK);
        assert_null(cli_value(&line, "expect"));
        assert_false(cli_has(&line, "binary"));
        assert_null(line.url);
}

TEST(line, common_flags_are_everywhere)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "a", "T", "--json", "--url=http://h:1", "--quiet"), CLI_OK);
        assert_true(line.is_json && line.is_quiet);
        assert_string_equal(line.url, "http://h:1");
        assert_int_equal(PARSE(&line, "--help"), CLI_OK);
        assert_true(line.wants_help);
        assert_int_equal(PARSE(&line, "a", "-h"), CLI_OK);
        assert_true(line.wants_help);
}

TEST(line, behind_two_hyphens_everything_is_an_argument)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "--binary", "--", "--limit", "--"), CLI_OK);
        assert_int_equal(line.argument_count, 2);
        assert_string_equal(line.arguments[0], "--limit");
        assert_string_equal(line.arguments[1], "--");
}

TEST(line, values_may_be_empty_hold_equals_signs_or_begin_with_a_hyphen)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "a", "T", "--expect=", "--limit", "-1"), CLI_OK);
        assert_string_equal(cli_value(&line, "expect"), "");
        assert_string_equal(cli_value(&line, "limit"), "-1");
        assert_int_equal(PARSE(&line, "a", "T", "--url=http://h/?a=b"), CLI_OK);
        assert_string_equal(line.url, "http://h/?a=b");
}

TEST(line, too_few_or_too_many_arguments_are_refused)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "a"), CLI_USAGE);
        assert_non_null(strstr(said, "usage: nilo stream test STREAM TYPE [DATA [MORE]]"));
        assert_int_equal(PARSE(&line, "a", "b", "c", "d"), CLI_OK);
        assert_int_equal(PARSE(&line, "a", "b", "c", "d", "e"), CLI_USAGE);
        assert_non_null(strstr(said, "\"e\" is one argument too many"));
}

TEST(line, unknown_flags_name_the_nearest)
{
        struct cli_line line;
        char name[2000];

        assert_int_equal(PARSE(&line, "a", "T", "--expct", "1"), CLI_USAGE);
        assert_non_null(strstr(said, "nearest is --expect"));
        assert_int_equal(PARSE(&line, "a", "T", "--jsn"), CLI_USAGE);
        assert_non_null(strstr(said, "nearest is --json"));
        memset(name, 'x', sizeof name);
        memcpy(name, "--", 2);
        name[sizeof name - 1] = 0;
        assert_int_equal(PARSE(&line, "a", "T", name), CLI_USAGE);
        assert_int_equal(PARSE(&line, "a", "T", "--"), CLI_OK);
}

TEST(line, a_flag_without_its_value_and_a_switch_with_one_are_refused)
{
        struct cli_line line;

        assert_int_equal(PARSE(&line, "a", "T", "--limit"), CLI_USAGE);
        assert_non_null(strstr(said, "--limit needs a value: N"));
        assert_int_equal(PARSE(&line, "a", "T", "--binary=yes"), CLI_USAGE);
        assert_non_null(strstr(said, "--binary takes no value"));
}

static bool number(const char *text, uint64_t *ret)
{
        FILE *terminal = stderr;
        size_t size;
        bool is_read;

        free(said);
        stderr = open_memstream(&said, &size);
        is_read = cli_number("--limit", text, ret);
        fclose(stderr);
        stderr = terminal;
        return is_read;
}

TEST(number, takes_digits_only_and_64_bits)
{
        uint64_t n;

        assert_true(number("0", &n) && n == 0);
        assert_true(number("18446744073709551615", &n) && n == UINT64_MAX);
        assert_false(number("18446744073709551616", &n));
        assert_false(number("-1", &n));
        assert_false(number("+1", &n));
        assert_false(number(" 1", &n));
        assert_false(number("1x", &n));
        assert_false(number("", &n));
        assert_non_null(strstr(said, "--limit"));
}

static bool expected(const char *text, int64_t *ret)
{
        FILE *terminal = stderr;
        size_t size;
        bool is_read;

        free(said);
        stderr = open_memstream(&said, &size);
        is_read = cli_expected(text, ret);
        fclose(stderr);
        stderr = terminal;
        return is_read;
}

TEST(expected, takes_words_and_revisions)
{
        int64_t n;

        assert_true(expected(NULL, &n) && n == NILO_ANY);
        assert_true(expected("any", &n) && n == NILO_ANY);
        assert_true(expected("none", &n) && n == NILO_NONE);
        assert_true(expected("exists", &n) && n == NILO_EXISTS);
        assert_true(expected("0", &n) && n == 0);
        assert_true(expected("9223372036854775807", &n) && n == INT64_MAX);
        assert_false(expected("9223372036854775808", &n));
        assert_false(expected("-1", &n));
        assert_false(expected("noen", &n));
        assert_false(expected("", &n));
}

TEST(nearest, is_the_name_with_the_fewest_changes)
{
        static const char *const names[] = {"read", "append", "tail", "truncate", "delete", "show", "ls"};

        assert_string_equal(cli_nearest("raed", names, COUNT_OF(names)), "read");
        assert_string_equal(cli_nearest("trunkate", names, COUNT_OF(names)), "truncate");
        assert_string_equal(cli_nearest("list", names, COUNT_OF(names)), "ls");
        assert_string_equal(cli_nearest("delet", names, COUNT_OF(names)), "delete");
}

static int forget(void **state)
{
        (void)state;
        free(said);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(line, arguments_and_flags_may_be_mixed),
                TEST_ROW(line, what_was_not_given_is_absent),
                TEST_ROW(line, common_flags_are_everywhere),
                TEST_ROW(line, behind_two_hyphens_everything_is_an_argument),
                TEST_ROW(line, values_may_be_empty_hold_equals_signs_or_begin_with_a_hyphen),
                TEST_ROW(line, too_few_or_too_many_arguments_are_refused),
                TEST_ROW(line, unknown_flags_name_the_nearest),
                TEST_ROW(line, a_flag_without_its_value_and_a_switch_with_one_are_refused),
                TEST_ROW(number, takes_digits_only_and_64_bits),
                TEST_ROW(expected, takes_words_and_revisions),
                TEST_ROW(nearest, is_the_name_with_the_fewest_changes),
        };

        return cmocka_run_group_tests(tests, NULL, forget);
}
