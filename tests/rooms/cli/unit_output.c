/* Tables, numbers and progress as people see them. */
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

/* What is printed while it is caught. */
static FILE *terminal;
static char *caught;
static size_t caught_size;

static void catch_output(void)
{
        free(caught);
        caught = NULL;
        terminal = stdout;
        stdout = open_memstream(&caught, &caught_size);
}

static const char *caught_output(void)
{
        fclose(stdout);
        stdout = terminal;
        return caught;
}

static const struct cli_line plain = {.is_terminal = true};
static const char *const two[] = {"NAME", "DATA"};

static void row(struct table *t, const char *name, const char *data)
{
        table_cell(t, name);
        table_cell(t, data);
}

TEST(table, columns_are_as_wide_as_their_widest_cell)
{
        struct table t;

        catch_output();
        table_begin(&t, &plain, two, 2);
        row(&t, "a", "1");
        row(&t, "longer name", "2");
        table_end(&t);
        assert_string_equal(caught_output(), "NAME         DATA\n"
                                             "a            1\n"
                                             "longer name  2\n");
}

TEST(table, without_rows_the_head_stands_alone)
{
        struct table t;

        catch_output();
        table_begin(&t, &plain, two, 2);
        table_end(&t);
        assert_string_equal(caught_output(), "NAME  DATA\n");
}

TEST(table, characters_count_not_bytes)
{
        struct table t;

        catch_output();
        table_begin(&t, &plain, two, 2);
        row(&t,
                "gr\xc3\xb6\xc3\x9f"
                "e",
                "1");
        row(&t, "12345", "2");
        table_end(&t);
        assert_string_equal(caught_output(), "NAME   DATA\n"
                                             "gr\xc3\xb6\xc3\x9f"
                                             "e  1\n"
                                             "12345  2\n");
}

TEST(table, control_characters_are_shown_as_points)
{
        struct table t;

        catch_output();
        table_begin(&t, &plain, two, 2);
        row(&t, "a\x1b[31m",
                "b\n\t\x7f\xc2\x9b"
                "c\xc2\xa0"
                "d");
        table_end(&t);
        assert_string_equal(caught_output(), "NAME    DATA\n"
                                             "a.[31m  b....c\xc2\xa0"
                                             "d\n");
}

TEST(table, long_cells_are_cut_to_the_terminal)
{
        char text[5000];
        struct table t;
        const char *shown;

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = 0;
        catch_output();
        table_begin(&t, &plain, two, 2);
        row(&t, text, text);
        table_end(&t);
        shown = strchr(caught_output(), '\n') + 1;
        assert_int_equal(strlen(shown), 100 + 1); /* the width where there is no terminal, and the line end */
}

TEST(table, rows_that_come_later_keep_the_widths)
{
        struct table t;

        catch_output();
        table_begin(&t, &plain, two, 2);
        row(&t, "abc", "1");
        table_flush(&t);
        row(&t, "abcdefghij", "2");
        row(&t, "x", "3");
        table_end(&t);
        assert_string_equal(caught_output(), "NAME  DATA\n"
                                             "abc   1\n"
                                             "abcd  2\n"
                                             "x     3\n");
}

TEST(table, many_rows_are_shown_in_pieces)
{
        struct table t;
        size_t lines = 0;
        const char *shown;

        catch_output();
        table_begin(&t, &plain, two, 2);
        for (unsigned i = 0; i < 2500; i++) {
                row(&t, "a", "b");
                assert_true(t.cells.size <= 2 * 2 * 1000);
        }
        table_end(&t);
        for (shown = caught_output(); *shown; shown++)
                lines += *shown == '\n';
        assert_int_equal(lines, 2501);
}

TEST(table, colours_only_where_they_are_wanted)
{
        struct cli_line line = {.is_terminal = true, .has_color = true};
        struct table t;

        catch_output();
        table_begin(&t, &line, two, 2);
        table_end(&t);
        assert_string_equal(caught_output(), "\033[1mNAME\033[0m  \033[1mDATA\033[0m\n");
}

TEST(events, are_rows_on_a_terminal_and_lines_in_a_pipe)
{
        static const char json[] = "{\"stream\":\"a\",\"revision\":7,\"position\":12,\"type\":\"T\",\"time\":"
                                   "\"2026-11-24T10:00:00.123456Z\","
                                   "\"data\":{\"price\":1.10}}";
        static const char binary[] = "{\"stream\":\"a\",\"revision\":8,\"position\":13,\"type\":\"B\","
                                     "\"time\":\"\",\"data_base64\":\"AQID\"}";
        struct cli_line piped = {.is_json = true};
        struct event_printer p;

        catch_output();
        event_printer_begin(&p, &plain, false);
        assert_true(event_printer_show(&p, json, sizeof json - 1));
        assert_true(event_printer_show(&p, binary, sizeof binary - 1));
        event_printer_end(&p);
        assert_int_equal(p.next, 9);
        assert_string_equal(caught_output(), "REVISION  TYPE  TIME                     DATA\n"
                                             "7         T     2026-11-24 10:00:00.123  {\"price\":1.10}\n"
                                             "8         B                              (binary, 3 B)\n");
        catch_output();
        event_printer_begin(&p, &piped, true);
        p.limit = 1;
        assert_false(event_printer_show(&p, json, sizeof json - 1)); /* that was the limit */
        event_printer_end(&p);
        assert_int_equal(p.next, 13);
        assert_true(strncmp(caught_output(), json, sizeof json - 1) == 0);
}

TEST(objects, have_the_fields_of_the_first_as_columns)
{
        static const char first[] = "{\"name\":\"a\",\"event_count\":5}";
        static const char second[] = "{\"event_count\":12,\"more\":1}";
        struct object_printer p;

        catch_output();
        object_printer_begin(&p, &plain);
        assert_true(object_printer_show(&p, first, strlen(first)));
        assert_true(object_printer_show(&p, second, strlen(second)));
        object_printer_end(&p);
        assert_string_equal(caught_output(), "NAME  EVENT COUNT\n"
                                             "a     5\n"
                                             "      12\n");
}

TEST(format, sizes)
{
        static const struct {
                uint64_t size;
                const char *text;
        } rows[] = {{0, "0 B"}, {1, "1 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"},
                {1048575, "1.0 MiB"}, {13107200, "12.5 MiB"}, {UINT64_C(5) << 40, "5.0 TiB"},
                {UINT64_MAX, "16.0 EiB"}};

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char text[CLI_SIZE_TEXT];

                cli_format_size(rows[i].size, text);
                assert_string_equal(text, rows[i].text);
        }
}

TEST(format, counts)
{
        static const struct {
                uint64_t count;
                const char *text;
        } rows[] = {{0, "0"}, {999, "999"}, {1000, "1 000"}, {12345, "12 345"}, {1234567, "1 234 567"},
                {UINT64_MAX, "18 446 744 073 709 551 615"}};

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char text[CLI_SIZE_TEXT];

                cli_format_count(rows[i].count, text);
                assert_string_equal(text, rows[i].text);
        }
}

TEST(format, durations)
{
        static const struct {
                double seconds;
                const char *text;
        } rows[] = {{0, "0 s"}, {0.6, "1 s"}, {99, "99 s"}, {120, "2 min"}, {5400, "90 min"},
                {7260, "2 h 01 min"}};

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char text[CLI_SIZE_TEXT];

                cli_format_seconds(rows[i].seconds, text);
                assert_string_equal(text, rows[i].text);
        }
}

TEST(progress, says_amount_rate_and_time_left)
{
        struct progress p = {.what = "import", .unit = "events", .total = 1000};
        struct buffer out = {0};

        progress_format(&p, 250, 5000, 2.0, &out);
        buffer_add_u8(&out, 0);
        assert_string_equal((char *)out.data,
                "import [######------------------]  25 %  5 000 events  2 500 events/s  6 s left");
        buffer_clear(&out);
        p.total = 0;
        progress_format(&p, 250, 5000, 2.0, &out);
        buffer_add_u8(&out, 0);
        assert_string_equal((char *)out.data, "import 5 000 events  2 500 events/s");
        buffer_fini(&out);
}

TEST(exit_codes, are_what_the_page_says)
{
        assert_int_equal(cli_exit_of(NILO_OK), 0);
        assert_int_equal(cli_exit_of(NILO_END), 0);
        assert_int_equal(cli_exit_of(NILO_ERROR), 1);
        assert_int_equal(cli_exit_of(NILO_DISK_FAULT), 1);
        assert_int_equal(cli_exit_of(NILO_INVALID), 2);
        assert_int_equal(cli_exit_of(NILO_TOO_LARGE), 2);
        assert_int_equal(cli_exit_of(NILO_CONFLICT), 3);
        assert_int_equal(cli_exit_of(NILO_NOT_FOUND), 4);
        assert_int_equal(cli_exit_of(NILO_DELETED), 4);
        assert_int_equal(cli_exit_of(NILO_DENIED), 5);
        assert_int_equal(cli_exit_of(NILO_BUSY), 6);
        assert_int_equal(cli_exit_of(NILO_FULL), 6);
        assert_int_equal(cli_exit_of(NILO_UNKNOWN), 6);
        assert_int_equal(cli_exit_of(NILO_IN_USE), 6);
        assert_int_equal(cli_exit_of(NILO_UNAVAILABLE), 6);
        assert_int_equal(cli_exit_of(NILO_CORRUPT), 7);
        assert_int_equal(cli_exit_of_errno(ENOENT), 4);
        assert_int_equal(cli_exit_of_errno(EACCES), 5);
        assert_int_equal(cli_exit_of_errno(EIO), 1);
}

TEST(path, names_are_escaped_and_never_formats)
{
        char *path = cli_path("/v1/streams/", "a/b %s%n", "/events");

        assert_string_equal(path, "/v1/streams/a%2Fb%20%25s%25n/events");
        free(path);
}

/* The widths must not depend on the terminal that the tests run on. */
static int leave_terminal(void **state)
{
        int nowhere = open("/dev/null", O_WRONLY);

        (void)state;
        return dup2(nowhere, STDOUT_FILENO) < 0 || close(nowhere) != 0;
}

static int forget(void **state)
{
        (void)state;
        free(caught);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(table, columns_are_as_wide_as_their_widest_cell),
                TEST_ROW(table, without_rows_the_head_stands_alone),
                TEST_ROW(table, characters_count_not_bytes),
                TEST_ROW(table, control_characters_are_shown_as_points),
                TEST_ROW(table, long_cells_are_cut_to_the_terminal),
                TEST_ROW(table, rows_that_come_later_keep_the_widths),
                TEST_ROW(table, many_rows_are_shown_in_pieces),
                TEST_ROW(table, colours_only_where_they_are_wanted),
                TEST_ROW(events, are_rows_on_a_terminal_and_lines_in_a_pipe),
                TEST_ROW(objects, have_the_fields_of_the_first_as_columns),
                TEST_ROW(format, sizes),
                TEST_ROW(format, counts),
                TEST_ROW(format, durations),
                TEST_ROW(progress, says_amount_rate_and_time_left),
                TEST_ROW(exit_codes, are_what_the_page_says),
                TEST_ROW(path, names_are_escaped_and_never_formats),
        };

        return cmocka_run_group_tests(tests, leave_terminal, forget);
}
