/* The tree of causes and effects, also of metadata that makes none. */
#include "cli/trace.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static struct trace trace;

static int begin(void **state)
{
        (void)state;
        trace_init(&trace, 100);
        return 0;
}

static int end(void **state)
{
        (void)state;
        trace_fini(&trace);
        return 0;
}

/* An event at the next position. */
static bool add(const char *id, const char *cause)
{
        char json[512];
        struct trace_event e;
        int size = snprintf(json, sizeof json,
                "{\"stream\":\"s-1\",\"revision\":%u,\"position\":%u,\"id\":\"%s\",\"type\":\"T%u\","
                "\"time\":\"2026-11-25T10:00:%02u.000000Z\",\"data\":{},\"metadata\":{\"$correlationId\":"
                "\"c\","
                "\"$causationId\":\"%s\"}}",
                trace.count, trace.count + 10, id, trace.count, trace.count % 60, cause);

        assert_true(trace_read(json, (size_t)size, &e));
        return trace_add(&trace, &e, json, (size_t)size);
}

/* The tree as "id id" with one more hyphen before each level. */
static const char *tree(void)
{
        static char text[1024];
        size_t size = 0;

        trace_link(&trace);
        text[0] = 0;
        for (int at = trace_next(&trace, TRACE_NONE); at != TRACE_NONE; at = trace_next(&trace, at)) {
                for (unsigned i = 0; i < trace.events[at].depth; i++)
                        text[size++] = '-';
                size += (size_t)snprintf(text + size, sizeof text - size, "%s ", trace.events[at].id);
        }
        return text;
}

TEST(read, knows_every_spelling)
{
        static const char *const metadata[] = {"{\"$correlationId\":\"c\",\"$causationId\":\"a\"}",
                "{\"correlation_id\":\"c\",\"causation_id\":\"a\"}",
                "{\"correlationId\":\"c\",\"causationId\":\"a\"}",
                /* KurrentDB's goes first. */
                "{\"correlationId\":\"x\",\"$correlationId\":\"c\",\"$causationId\":\"a\"}"};

        for (size_t i = 0; i < COUNT_OF(metadata); i++) {
                char json[512];
                struct trace_event e;

                snprintf(json, sizeof json,
                        "{\"stream\":\"s\",\"revision\":1,\"position\":2,\"id\":\"i\",\"type\":\"T\","
                        "\"metadata\":%s}",
                        metadata[i]);
                assert_true(trace_read(json, strlen(json), &e));
                assert_string_equal(e.correlation, "c");
                assert_string_equal(e.cause, "a");
        }
}

TEST(read, takes_no_more_than_there_is)
{
        static const char *const none[] = {"", "{}", "{\"id\":5,\"position\":1,\"revision\":1}", "[1]",
                "{\"id\":\"i\",\"position\":-1,\"revision\":1}"};
        static const char plain[] =
                "{\"id\":\"i\",\"position\":1,\"revision\":1,\"metadata\":[\"$correlationId\"]}";
        struct trace_event e;

        for (size_t i = 0; i < COUNT_OF(none); i++)
                assert_false(trace_read(none[i], strlen(none[i]), &e));
        assert_true(trace_read(plain, strlen(plain), &e));
        assert_string_equal(e.correlation, "");
        assert_string_equal(e.cause, "");
        /* An event without names is one all the same. */
        assert_true(trace_add(&trace, &e, plain, strlen(plain)));
        assert_string_equal(trace.events[0].stream, "");
}

TEST(tree, effects_stand_behind_their_cause_in_the_order_of_the_log)
{
        add("a", "");
        add("b", "a");
        add("c", "a");
        add("d", "b");
        add("e", "a");
        add("f", "d");
        assert_string_equal(tree(), "a -b --d ---f -c -e ");
}

TEST(tree, what_has_no_cause_here_is_a_root)
{
        add("a", "gone");
        add("b", "a");
        add("c", "");
        add("d", "gone");
        add("e", "c");
        assert_string_equal(tree(), "a -b c -e d ");
}

TEST(tree, circles_are_none)
{
        add("a", "a");
        add("b", "c");
        add("c", "b");
        add("d", "c");
        assert_string_equal(tree(), "a b -c --d ");
}

TEST(tree, of_two_with_one_id_the_first_is_the_cause)
{
        add("a", "");
        add("b", "a");
        add("b", "a");
        add("c", "b");
        assert_string_equal(tree(), "a -b --c -b ");
}

TEST(tree, is_bounded)
{
        char id[16];

        for (unsigned i = 0; i < 100; i++) {
                snprintf(id, sizeof id, "i%u", i);
                assert_true(add(id, "i0"));
        }
        assert_false(add("more", "i0"));
        assert_int_equal(trace.count, 100);
        assert_int_equal(trace_find(&trace, "i99"), 99);
        assert_int_equal(trace_find(&trace, "more"), TRACE_NONE);
}

static const char *page(unsigned width, bool has_utf8, int named)
{
        static struct frame f;

        f.has_utf8 = has_utf8;
        frame_begin_page(&f, width);
        trace_show(&trace, named, &f);
        buffer_add_u8(&f.out, 0);
        return (const char *)f.out.data;
}

TEST(page, shows_the_tree_with_times_and_places)
{
        add("a", "");
        add("b", "a");
        add("c", "b");
        add("d", "a");
        trace_link(&trace);
        assert_string_equal(page(80, false, 1),
                "4 events of 1 stream within 3.000 s\n"
                "correlation c\n"
                "\n"
                "      AFTER  POSITION  EVENT                     STREAM@REVISION\n"
                "    +0.0 ms        10  T0                        s-1@0\n"
                "   +1.000 s        11  |- T1 *                   s-1@1\n"
                "   +2.000 s        12  |  `- T2                  s-1@2\n"
                "   +3.000 s        13  `- T3                     s-1@3\n");
        assert_non_null(strstr(page(80, true, 1), "\xe2\x94\x9c\xe2\x94\x80 T1 *"));
}

/* In columns; this page is ASCII. */
static size_t widest_line(const char *text)
{
        size_t widest = 0;

        for (const char *end_of_line; *text; text = end_of_line + 1) {
                end_of_line = strchr(text, '\n');
                widest = MAX(widest, (size_t)(end_of_line - text));
        }
        return widest;
}

TEST(page, a_deep_tree_stays_within_the_terminal_and_keeps_its_names)
{
        char id[16];
        char before[16] = "";
        const char *text;

        for (unsigned i = 0; i < 50; i++) {
                snprintf(id, sizeof id, "i%u", i);
                add(id, before);
                snprintf(before, sizeof before, "%s", id);
        }
        trace_link(&trace);
        assert_int_equal(trace.events[49].depth, 49);
        for (unsigned width = 1; width < 130; width += 3)
                assert_true(widest_line(page(width, false, TRACE_NONE)) <= width);
        text = page(80, false, TRACE_NONE);
        assert_non_null(strstr(text, "39 ")); /* levels that are not drawn */
        assert_non_null(strstr(text, "`- T49"));
        assert_non_null(strstr(text, "s-1@49"));
}

TEST(json, has_the_event_as_it_came)
{
        struct buffer out = {0};

        add("a", "");
        add("b", "a");
        trace_link(&trace);
        trace_json(&trace, 1, &out);
        buffer_add_u8(&out, 0);
        assert_non_null(strstr((char *)out.data,
                "{\"depth\":1,\"cause\":10,\"after_us\":1000000,\"event\":{\"stream\":\"s-1\""));
        buffer_fini(&out);
}

int main(void)
{
#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, begin, end)
        const struct CMUnitTest tests[] = {
                ROW(read, knows_every_spelling),
                ROW(read, takes_no_more_than_there_is),
                ROW(tree, effects_stand_behind_their_cause_in_the_order_of_the_log),
                ROW(tree, what_has_no_cause_here_is_a_root),
                ROW(tree, circles_are_none),
                ROW(tree, of_two_with_one_id_the_first_is_the_cause),
                ROW(tree, is_bounded),
                ROW(page, shows_the_tree_with_times_and_places),
                ROW(page, a_deep_tree_stays_within_the_terminal_and_keeps_its_names),
                ROW(json, has_the_event_as_it_came),
        };
#undef ROW

        return cmocka_run_group_tests(tests, NULL, NULL);
}
