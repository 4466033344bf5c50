#include "test.h"

#include <stdio.h>

#include "model/filter.h"

static struct bytes text(const char *s)
{
        return bytes_of_string(s);
}

static struct filter *by_regex(enum filter_target target, const char *regex)
{
        struct filter *f = NULL;
        char why[256] = "";

        if (filter_new(&(struct filter_options){.target = target, .regex = text(regex)}, &f, why, sizeof why))
                fail_msg("%s: %s", regex, why);
        return f;
}

static struct filter *by_prefixes(enum filter_target target, const struct bytes *prefixes, unsigned count)
{
        struct filter *f = NULL;
        char why[256];
        struct filter_options options = {.target = target, .prefixes = prefixes, .prefix_count = count};

        assert_int_equal(filter_new(&options, &f, why, sizeof why), 0);
        return f;
}

/* Patterns that clients really send (protocol 3.7), and .NET's meaning of some. */
TEST(filter, regular_expressions_search_unanchored)
{
        static const struct {
                const char *regex;
                const char *subject;
                enum filter_verdict verdict;
        } table[] = {
                {"^[^\\$].*", "order-1", FILTER_MATCH},
                {"^[^\\$].*", "$settings", FILTER_NO_MATCH},
                {"^[^\\$].*", "", FILTER_NO_MATCH},
                {"^\\$", "$settings", FILTER_MATCH},
                {"^\\$", "order-$1", FILTER_NO_MATCH},
                {"^(?!(\\$.*)$)", "order-1", FILTER_MATCH},
                {"^(?!(\\$.*)$)", "$et-x", FILTER_NO_MATCH},
                {"^(?!(?:\\$.+|PersistentConfig\\d+)$)", "PersistentConfig1", FILTER_NO_MATCH},
                {"^(?!(?:\\$.+|PersistentConfig\\d+)$)", "PersistentConfigX", FILTER_MATCH},
                {"^(?:order-1$|order-2$)|^item-", "order-2", FILTER_MATCH},
                {"^(?:order-1$|order-2$)|^item-", "order-22", FILTER_NO_MATCH},
                {"^(?:order-1$|order-2$)|^item-", "item-7", FILTER_MATCH},
                {"der", "order-1", FILTER_MATCH},
                {"ORDER", "order-1", FILTER_NO_MATCH},
                {"(?i)ORDER", "order-1", FILTER_MATCH},
                {"(?<=order-)1", "order-1", FILTER_MATCH},
                {"^\\w+$",
                        "stra\xc3\x9f"
                        "e",
                        FILTER_MATCH},
                {"^.$", "\xe2\x82\xac", FILTER_MATCH},
                {"^\\u00e4", "\xc3\xa4pfel", FILTER_MATCH},
                {"^(a)(b)(c)\\3$", "abcc", FILTER_MATCH},
                {"^$", "", FILTER_MATCH},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct filter *f = by_regex(FILTER_STREAM, table[i].regex);

                /* Twice: the second verdict is a remembered one. */
                for (int round = 0; round < 2; round++)
                        if (filter_match(f, text(table[i].subject), text("type")) != table[i].verdict)
                                fail_msg("%s on \"%s\", round %d", table[i].regex, table[i].subject, round);
                filter_free(&f);
                assert_null(f);
        }
}

TEST(filter, the_target_decides_what_is_looked_at)
{
        struct filter *f = by_regex(FILTER_STREAM, "^order");

        assert_int_equal(filter_match(f, text("order-1"), text("placed")), FILTER_MATCH);
        assert_int_equal(filter_match(f, text("item-1"), text("order")), FILTER_NO_MATCH);
        filter_free(&f);
        f = by_regex(FILTER_TYPE, "^order");
        assert_int_equal(filter_match(f, text("order-1"), text("placed")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("item-1"), text("order")), FILTER_MATCH);
        filter_free(&f);
}

TEST(filter, any_prefix_matches_byte_wise)
{
        struct bytes prefixes[] = {BYTES_LITERAL("order-"), BYTES_LITERAL("b"), BYTES_LITERAL("order-1"),
                BYTES_LITERAL("z\xff")};
        struct filter *f = by_prefixes(FILTER_STREAM, prefixes, COUNT_OF(prefixes));

        /* The filter keeps copies. */
        prefixes[0] = prefixes[1] = prefixes[2] = prefixes[3] = BYTES_LITERAL("nothing");
        assert_int_equal(filter_match(f, text("order-2"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, text("order-"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, text("order"), text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("Order-2"), text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("b"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, text("a"), text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("zz"), text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("z\xff\xff"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, BYTES_EMPTY, text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, text("nothing"), text("")), FILTER_NO_MATCH);
        filter_free(&f);
}

/* The sorted search against the definition, over all subjects of up to four letters of {a,b}. */
TEST(filter, prefix_search_agrees_with_trying_each)
{
        for (unsigned set = 1; set < 1u << 14; set += 37) {
                char names[14][4];
                struct bytes prefixes[14];
                unsigned count = 0;
                struct filter *f;

                /* Prefix i is the number i + 2 without its first bit, as a and b. */
                for (unsigned i = 0; i < 14; i++) {
                        unsigned n = i + 2;
                        unsigned length = n < 4 ? 1 : n < 8 ? 2 : 3;

                        if (!(set >> i & 1))
                                continue;
                        for (unsigned c = 0; c < length; c++)
                                names[count][c] = (n >> (length - 1 - c) & 1) ? 'b' : 'a';
                        prefixes[count] = bytes_of(names[count], length);
                        count++;
                }
                f = by_prefixes(FILTER_TYPE, prefixes, count);
                for (unsigned n = 2; n < 32; n++) {
                        unsigned length = n < 4 ? 1 : n < 8 ? 2 : n < 16 ? 3 : 4;
                        enum filter_verdict expected = FILTER_NO_MATCH;
                        char subject[4];

                        for (unsigned c = 0; c < length; c++)
                                subject[c] = (n >> (length - 1 - c) & 1) ? 'b' : 'a';
                        for (unsigned i = 0; i < count; i++)
                                if (bytes_starts_with(bytes_of(subject, length), prefixes[i]))
                                        expected = FILTER_MATCH;
                        assert_int_equal(filter_match(f, BYTES_EMPTY, bytes_of(subject, length)), expected);
                }
                filter_free(&f);
        }
}

TEST(filter, an_empty_prefix_matches_everything)
{
        struct bytes prefixes[] = {BYTES_LITERAL("a"), BYTES_EMPTY};
        struct filter *f = by_prefixes(FILTER_STREAM, prefixes, 2);

        assert_int_equal(filter_match(f, text("b"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, BYTES_EMPTY, text("")), FILTER_MATCH);
        filter_free(&f);
}

TEST(filter, refusals_say_why)
{
        static struct bytes many[LIMIT_FILTER_PREFIXES_MAX + 1];
        static char big[LIMIT_FILTER_REGEX_SIZE_MAX + 1];
        struct bytes big_prefix[] = {
                BYTES_LITERAL("a"), {(const uint8_t *)big, LIMIT_STREAM_NAME_SIZE_MAX + 3}};
        const struct {
                struct filter_options options;
                const char *why;
        } table[] = {
                {{.regex = BYTES_LITERAL("^(order")},
                        "regular expression, at byte 7: missing closing parenthesis"},
                {{.regex = BYTES_LITERAL("a{2,1}")}, "regular expression, at byte 5: numbers out of order"},
                {{.regex = BYTES_LITERAL("a\xff")}, "regular expression, at byte 1: UTF-8 error"},
                {{.regex = BYTES_LITERAL("\\C")}, "regular expression, at byte 2: using \\C is disabled"},
                {{.regex = {(const uint8_t *)big, sizeof big}},
                        "regular expression is longer than 4096 bytes"},
                {{.target = FILTER_TYPE}, "a filter needs a regular expression or at least one prefix"},
                {{.prefixes = many, .prefix_count = COUNT_OF(many)}, "more than 1000 prefixes"},
                {{.prefixes = big_prefix, .prefix_count = 2}, "prefix 2 is longer than 1026 bytes"},
        };

        memset(big, 'x', sizeof big);
        for (unsigned i = 0; i < COUNT_OF(many); i++)
                many[i] = BYTES_LITERAL("x");
        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct filter *f = NULL;
                char why[256] = "";

                assert_int_equal(filter_new(&table[i].options, &f, why, sizeof why), FILTER_INVALID);
                assert_null(f);
                if (strncmp(why, table[i].why, strlen(table[i].why)) != 0)
                        fail_msg("\"%s\" instead of \"%s\"", why, table[i].why);
        }
}

TEST(filter, at_the_limits_it_works)
{
        static struct bytes many[LIMIT_FILTER_PREFIXES_MAX];
        static char big[LIMIT_FILTER_REGEX_SIZE_MAX];
        static char names[LIMIT_FILTER_PREFIXES_MAX][8];
        struct filter *f = NULL;
        char why[256];

        for (unsigned i = 0; i < COUNT_OF(many); i++) {
                memcpy(names[i],
                        (char[]){'s', (char)('0' + i / 100), (char)('0' + i / 10 % 10), (char)('0' + i % 10),
                                '-'},
                        5);
                many[i] = bytes_of(names[i], 5);
        }
        f = by_prefixes(FILTER_STREAM, many, COUNT_OF(many));
        assert_int_equal(filter_match(f, text("s777-1"), text("")), FILTER_MATCH);
        assert_int_equal(filter_match(f, text("s77"), text("")), FILTER_NO_MATCH);
        filter_free(&f);

        memset(big, 'x', sizeof big);
        assert_int_equal(
                filter_new(&(struct filter_options){.regex = bytes_of(big, sizeof big)}, &f, why, sizeof why),
                0);
        assert_int_equal(filter_match(f, bytes_of(big, 1024), text("")), FILTER_NO_MATCH);
        filter_free(&f);
        filter_free(&f);
}

/* G10: a filter that cannot decide says so, it does not skip. */
TEST(filter, a_catastrophic_pattern_is_too_costly)
{
        static const char *const patterns[] = {
                "^(a+)+$", "^(\\w+\\s?)+$", "^(?:(a|aa)+)+$", "(?:(?=(a+))a+)+[bc]\\1"};
        char subject[1025];

        memset(subject, 'a', sizeof subject);
        subject[sizeof subject - 1] = '!';
        for (unsigned i = 0; i < COUNT_OF(patterns); i++) {
                struct filter *f = by_regex(FILTER_STREAM, patterns[i]);

                assert_int_equal(
                        filter_match(f, bytes_of(subject, sizeof subject), text("")), FILTER_TOO_COSTLY);
                /* Other subjects are still decided. */
                assert_int_equal(filter_match(f, text("!"), text("")), FILTER_NO_MATCH);
                filter_free(&f);
        }
        /* Remembered too. */
        struct filter *f = by_regex(FILTER_TYPE, "^(a+)+$");

        for (int round = 0; round < 2; round++)
                assert_int_equal(filter_match(f, text(""), bytes_of(subject + sizeof subject - 40, 40)),
                        FILTER_TOO_COSTLY);
        filter_free(&f);
}

TEST(filter, a_bound_in_the_pattern_cannot_widen_ours)
{
        struct filter *f =
                by_regex(FILTER_STREAM, "(*LIMIT_MATCH=4000000000)(*LIMIT_DEPTH=4000000000)^(a+)+$");
        char subject[64];

        memset(subject, 'a', sizeof subject);
        subject[63] = '!';
        assert_int_equal(filter_match(f, bytes_of(subject, sizeof subject), text("")), FILTER_TOO_COSTLY);
        filter_free(&f);
}

/* The deepest honest subject: a group repeated over the longest name. */
TEST(filter, a_long_name_is_decided)
{
        struct filter *f = by_regex(FILTER_STREAM, "^(?:(\\w|-)(\\w|-))*$");
        char subject[LIMIT_STREAM_NAME_SIZE_MAX];

        memset(subject, 'a', sizeof subject);
        assert_int_equal(filter_match(f, bytes_of(subject, sizeof subject), text("")), FILTER_MATCH);
        subject[sizeof subject - 1] = '!';
        assert_int_equal(filter_match(f, bytes_of(subject, sizeof subject), text("")), FILTER_NO_MATCH);
        filter_free(&f);
}

TEST(filter, bad_utf8_in_a_subject_matches_nothing_but_hurts_nothing)
{
        static const char *const subjects[] = {"\xff", "order\xff", "\xc3", "\xed\xa0\x80",
                ("or\x80"
                 "der"),
                "\xf4\x90\x80\x80"};
        struct filter *f = by_regex(FILTER_STREAM, "^.+$");

        for (unsigned i = 0; i < COUNT_OF(subjects); i++)
                assert_int_equal(filter_match(f, text(subjects[i]), text("")), FILTER_NO_MATCH);
        assert_int_equal(filter_match(f, bytes_of("a\0b", 3), text("")), FILTER_MATCH);
        filter_free(&f);
        f = by_regex(FILTER_STREAM, "^order");
        assert_int_equal(filter_match(f, text("order\xff"), text("")), FILTER_MATCH);
        filter_free(&f);
}

/* More subjects than are remembered, in an order that evicts. */
TEST(filter, remembered_verdicts_stay_with_their_subject)
{
        struct filter *f = by_regex(FILTER_STREAM, "[02468]$");

        for (unsigned i = 0; i < 5000; i++) {
                unsigned n = i * 7919 % 300;
                char name[80];
                int size = snprintf(name, sizeof name, "%0*u", n % 2 ? 3 : 61 + (int)(n % 5), n);

                assert_int_equal(filter_match(f, bytes_of(name, (size_t)size), text("")),
                        n % 2 ? FILTER_NO_MATCH : FILTER_MATCH);
        }
        filter_free(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(filter, regular_expressions_search_unanchored),
                TEST_ROW(filter, the_target_decides_what_is_looked_at),
                TEST_ROW(filter, any_prefix_matches_byte_wise),
                TEST_ROW(filter, prefix_search_agrees_with_trying_each),
                TEST_ROW(filter, an_empty_prefix_matches_everything),
                TEST_ROW(filter, refusals_say_why),
                TEST_ROW(filter, at_the_limits_it_works),
                TEST_ROW(filter, a_catastrophic_pattern_is_too_costly),
                TEST_ROW(filter, a_bound_in_the_pattern_cannot_widen_ours),
                TEST_ROW(filter, a_long_name_is_decided),
                TEST_ROW(filter, bad_utf8_in_a_subject_matches_nothing_but_hurts_nothing),
                TEST_ROW(filter, remembered_verdicts_stay_with_their_subject),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
