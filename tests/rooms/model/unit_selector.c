/* Selections: what is read and what is refused and why, the one canonical form, and what matches (ExESDB's
 * four kinds, KurrentDB's filters). */
#include "model/selector.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static struct selector *parse(const char *json)
{
        struct selector *s = NULL;
        char why[256] = "";

        if (selector_parse(bytes_of_string(json), &s, why, sizeof why) != 0)
                fail_msg("%s: %s", json, why);
        return s;
}

static void assert_json(const struct selector *s, const char *json)
{
        char *text = bytes_to_string(selector_json(s));

        assert_string_equal(text, json);
        free(text);
}

static struct event_view event(const char *stream, const char *type, const char *data)
{
        return (struct event_view){.stream = bytes_of_string(stream),
                .type = bytes_of_string(type),
                .content_type = CONTENT_JSON,
                .data = bytes_of_string(data),
                .revision = 7};
}

static bool matches(const char *json, struct event_view e)
{
        struct selector *s = parse(json);
        enum filter_verdict verdict = selector_match(s, &e);

        assert_int_equal(selector_match(s, &e), verdict);
        assert_int_not_equal(verdict, FILTER_TOO_COSTLY);
        selector_free(&s);
        return verdict == FILTER_MATCH;
}

static bool payload_matches(const char *match, const char *data)
{
        char json[1024];

        snprintf(json, sizeof json, "{\"kind\":\"payload\",\"match\":%s}", match);
        return matches(json, event("order-1", "Placed", data));
}

/* ---- reading ---- */

TEST(parse, equal_selections_have_one_form)
{
        static const char *const table[][2] = {
                {"{\"kind\":\"all\"}", "{\"kind\":\"all\"}"},
                {" { \"kind\" : \"\\u0061ll\" } ", "{\"kind\":\"all\"}"},
                {"{\"stream\":\"order-1\",\"kind\":\"stream\"}",
                        "{\"kind\":\"stream\",\"stream\":\"order-1\"}"},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"b\",\"a\",\"ab\",\"b\"]}",
                        "{\"kind\":\"prefix\",\"prefixes\":[\"a\",\"b\"]}"},
                {"{\"types\":[\"B\",\"A\",\"AB\",\"A\"],\"kind\":\"type\"}",
                        "{\"kind\":\"type\",\"types\":[\"A\",\"AB\",\"B\"]}"},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"b\",\"\",\"a\"]}",
                        "{\"kind\":\"filter\",\"prefixes\":[\"\"],\"target\":\"type\"}"},
                {"{\"target\":\"stream\",\"kind\":\"filter\",\"regex\":\"^a\\u002db$\"}",
                        "{\"kind\":\"filter\",\"regex\":\"^a-b$\",\"target\":\"stream\"}"},
                {"{\"kind\":\"payload\",\"match\":{\"b\":1,\"a\":{\"d\":[1,{\"y\":2,\"x\":1}],\"c\":null}}}",
                        "{\"kind\":\"payload\",\"match\":{\"a\":{\"c\":null,\"d\":[1,{\"x\":1,\"y\":2}]},"
                        "\"b\":1}}"},
                {"{\"kind\":\"payload\",\"match\":{\"\\u0061\":\"\\u00e9\\/\"}}",
                        "{\"kind\":\"payload\",\"match\":{\"a\":\"\xc3\xa9/\"}}"},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"id\":"
                 "\"AAAAAAAABBBBCCCCDDDDEEEEEEEEEEEE\",\"revision\":5e0}}",
                        "{\"kind\":\"pattern\",\"match\":{\"id\":\"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\","
                        "\"revision\":5,\"type\":\"A\"}}"},
                {"{\"kind\":\"pattern\",\"match\":{\"content_type\":\"application/"
                 "json\",\"stream\":\"s\",\"data\":{\"a\":1},"
                 "\"metadata\":{}}}",
                        "{\"kind\":\"pattern\",\"match\":{\"content_type\":\"application/"
                        "json\",\"data\":{\"a\":1},\"metadata\":{},"
                        "\"stream\":\"s\"}}"},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct selector *s = parse(table[i][0]), *again = parse(table[i][1]),
                                *copy = selector_copy(s);

                assert_json(s, table[i][1]);
                assert_json(again, table[i][1]);
                assert_json(copy, table[i][1]);
                assert_int_equal(selector_kind(copy), selector_kind(s));
                selector_free(&s);
                selector_free(&s);
                selector_free(&again);
                selector_free(&copy);
        }
}

TEST(parse, numbers_have_one_form)
{
        static const char *const table[][2] = {
                {"0", "0"},
                {"-0", "0"},
                {"0e99999999999999999999", "0"},
                {"0.000", "0"},
                {"1", "1"},
                {"1.0", "1"},
                {"10e-1", "1"},
                {"-1.50", "-1.5"},
                {"100", "100"},
                {"1e2", "100"},
                {"0.01e4", "100"},
                {"12.5e1", "125"},
                {"0.001", "0.001"},
                {"1e-3", "0.001"},
                {"0.0000001", "1e-7"},
                {"123e-20", "1.23e-18"},
                {"1e400", "1e400"},
                {"10e399", "1e400"},
                {"9007199254740993", "9007199254740993"},
                {"123456789012345678901234567890", "123456789012345678901234567890"},
                {"1E+2", "100"},
                {"0.5", "0.5"},
                {"-12.34E00001", "-123.4"},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                char json[256], canonical[256];
                struct selector *s;

                snprintf(json, sizeof json, "{\"kind\":\"payload\",\"match\":{\"a\":%s}}", table[i][0]);
                snprintf(canonical, sizeof canonical, "{\"kind\":\"payload\",\"match\":{\"a\":%s}}",
                        table[i][1]);
                s = parse(json);
                assert_json(s, canonical);
                selector_free(&s);
                s = parse(canonical);
                assert_json(s, canonical);
                selector_free(&s);
        }
}

TEST(parse, what_is_wrong_is_said_with_its_place)
{
        static const char *const table[][2] = {
                {"", "line 1, column 1: a selection is an object"},
                {"[]", "a selection is an object"},
                {"{", "line 1, column 2: a string is expected"},
                {"{}", "a selection needs \"kind\""},
                {"{\"kind\":\"all\"} x", "line 1, column 16: something follows"},
                {"{\"kind\":1}", "line 1, column 9: \"kind\" is a string"},
                {"{\"kind\":\"al\"}", "\"kind\" is \"all\", \"stream\""},
                {"{\"kind\":\"all\",\"kind\":\"all\"}", "line 1, column 22: the key \"kind\" stands twice"},
                {"{\"kind\":\"all\",\n\"stream\":\"a\"}",
                        "line 2, column 10: a selection of the kind \"all\" has no \"stream\""},
                {"{\"kind\":\"stream\"}", "the kind \"stream\" needs \"stream\""},
                {"{\"kind\":\"stream\",\"stream\":\"\"}", "stream's name is not valid"},
                {"{\"kind\":\"stream\",\"stream\":\"$all\"}", "stream's name is not valid"},
                {"{\"kind\":\"stream\",\"stream\":[\"a\"]}", "\"stream\" is a string"},
                {"{\"kind\":\"prefix\",\"prefixes\":[]}", "no prefix is named"},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"\"]}", "prefix 1 is not 1 to 1026 bytes"},
                {"{\"kind\":\"prefix\",\"prefixes\":\"a\"}", "\"prefixes\" is a list"},
                {"{\"kind\":\"type\",\"types\":[]}", "no type is named"},
                {"{\"kind\":\"type\",\"types\":[\"a\",2]}",
                        "line 1, column 29: \"types\" is a list of strings"},
                {"{\"kind\":\"filter\",\"regex\":\"a\"}", "needs \"target\""},
                {"{\"kind\":\"filter\",\"target\":\"event\",\"regex\":\"a\"}",
                        "\"target\" is \"stream\" or \"type\""},
                {"{\"kind\":\"filter\",\"target\":\"type\"}", "either \"regex\" or \"prefixes\""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"a\",\"prefixes\":[\"a\"]}",
                        "either \"regex\" or \"prefixes\""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"\"}",
                        "the regular expression is empty"},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"a(\"}",
                        "regular expression, at byte 2:"},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[]}", "at least one prefix"},
                {"{\"kind\":\"payload\"}", "needs \"match\""},
                {"{\"kind\":\"payload\",\"match\":[]}", "\"match\" is an object"},
                {"{\"kind\":\"payload\",\"match\":{}}", "\"match\" needs at least one key"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":1,\"\\u0061\":2}}", "the key \"a\" stands twice"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":1e1000000001}}",
                        "the exponent of a number is beyond"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":1e99999999999999999999}}",
                        "the exponent of a number is beyond"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":01}}", "is expected"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":\"\\ud800\"}}", "half of a surrogate pair"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":nul}}", "line 1, column 32: a value is expected"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":\"\xff\"}}", "not UTF-8"},
                {"{\"kind\":\"pattern\",\"match\":{\"color\":1}}", "an event has no field \"color\""},
                {"{\"kind\":\"pattern\",\"match\":{\"data\":1}}", "\"data\" is an object"},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":1.5}}", "\"revision\" is a whole number"},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":-1}}", "\"revision\" is a whole number"},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":9223372036854775808}}",
                        "\"revision\" is a whole number"},
                {"{\"kind\":\"pattern\",\"match\":{\"id\":\"x\"}}", "\"id\" is a UUID"},
                {"{\"kind\":\"pattern\",\"match\":{\"stream\":\"\"}}", "\"stream\" is no name"},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"\"}}", "\"type\" is 1 to"},
                {"{\"kind\":\"pattern\",\"match\":{\"content_type\":\"text/plain\"}}", "\"content_type\" is"},
                {"{\"kind\":\"payload\",\"match\":{\"a\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}}",
                        "nested deeper than 16 levels"},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct selector *s = NULL;
                char why[256] = "";

                assert_int_equal(
                        selector_parse(bytes_of_string(table[i][0]), &s, why, sizeof why), FILTER_INVALID);
                assert_null(s);
                if (!strstr(why, table[i][1]))
                        fail_msg("%s: \"%s\" does not say \"%s\"", table[i][0], why, table[i][1]);
                assert_true(why[0]);
        }
}

TEST(parse, size_and_number_of_names_are_bounded)
{
        struct buffer json = {0};
        struct selector *s = NULL;
        char why[256];
        struct bytes names[LIMIT_SELECTOR_NAMES_MAX + 1];
        static uint8_t long_name[LIMIT_STREAM_NAME_SIZE_MAX + 3];

        buffer_add_string(&json, "{\"kind\":\"payload\",\"match\":{\"a\":\"");
        while (json.size < LIMIT_SELECTOR_SIZE_MAX - 3)
                buffer_add_u8(&json, 'x');
        buffer_add_string(&json, "\"}}");
        assert_int_equal(json.size, LIMIT_SELECTOR_SIZE_MAX);
        assert_int_equal(selector_parse(buffer_bytes(&json), &s, why, sizeof why), 0);
        selector_free(&s);
        buffer_add_u8(&json, ' ');
        assert_int_equal(selector_parse(buffer_bytes(&json), &s, why, sizeof why), FILTER_INVALID);
        assert_non_null(strstr(why, "longer than 16384 bytes"));
        buffer_clear(&json);
        /* Within the limit as it came, beyond it in its one form. */
        buffer_add_string(&json, "{\"kind\":\"payload\",\"match\":{\"a\":[1e39");
        for (unsigned i = 0; i < 1000; i++)
                buffer_add_string(&json, ",1e39");
        buffer_add_string(&json, "]}}");
        assert_int_equal(selector_parse(buffer_bytes(&json), &s, why, sizeof why), FILTER_INVALID);
        assert_non_null(strstr(why, "longer than 16384 bytes"));
        buffer_fini(&json);

        for (unsigned i = 0; i < COUNT_OF(names); i++)
                names[i] = BYTES_LITERAL("a");
        assert_int_equal(selector_of_names(SELECT_TYPE, names, COUNT_OF(names) - 1, &s, why, sizeof why), 0);
        assert_json(s, "{\"kind\":\"type\",\"types\":[\"a\"]}");
        selector_free(&s);
        assert_int_equal(
                selector_of_names(SELECT_TYPE, names, COUNT_OF(names), &s, why, sizeof why), FILTER_INVALID);
        assert_non_null(strstr(why, "more than 1000 names"));
        memset(long_name, 'x', sizeof long_name);
        names[0] = bytes_of(long_name, sizeof long_name);
        assert_int_equal(selector_of_names(SELECT_PREFIX, names, 1, &s, why, sizeof why), FILTER_INVALID);
        assert_int_equal(selector_of_names(SELECT_TYPE, names, 1, &s, why, sizeof why), FILTER_INVALID);
        assert_int_equal(selector_of_names(SELECT_STREAM, names, 1, &s, why, sizeof why), FILTER_INVALID);
        assert_null(s);
}

/* ---- matching ---- */

TEST(match, by_stream_prefix_type_and_filter)
{
        static const struct {
                const char *json;
                const char *stream;
                const char *type;
                bool is_match;
        } table[] = {
                {"{\"kind\":\"all\"}", "x", "Y", true},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", "order-1", "A", true},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", "order-10", "A", false},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", "order-", "A", false},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\",\"cart\"]}", "order-1", "A", true},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\",\"cart\"]}", "cart", "A", true},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\",\"cart\"]}", "order", "A", false},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\",\"cart\"]}", "$$order-1", "A", false},
                {"{\"kind\":\"type\",\"types\":[\"Placed\",\"Paid\"]}", "x", "Paid", true},
                {"{\"kind\":\"type\",\"types\":[\"Placed\",\"Paid\"]}", "x", "PaidTwice", false},
                {"{\"kind\":\"type\",\"types\":[\"Placed\",\"Paid\"]}", "x", "Pai", false},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"P\"]}", "x", "Paid", true},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"P\"]}", "P", "x", false},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"-[0-9]+$\"}", "order-12", "x", true},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"-[0-9]+$\"}", "order-x", "x", false},
                {"{\"kind\":\"pattern\",\"match\":{\"stream\":\"order-1\",\"revision\":7}}", "order-1", "A",
                        true},
                {"{\"kind\":\"pattern\",\"match\":{\"stream\":\"order-1\",\"revision\":8}}", "order-1", "A",
                        false},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"content_type\":\"application/json\"}}",
                        "order-1", "A", true},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"content_type\":\"application/"
                 "octet-stream\"}}",
                        "order-1", "A", false},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"B\"}}", "order-1", "A", false},
                {"{\"kind\":\"pattern\",\"match\":{\"id\":\"00000000-0000-0000-0000-000000000000\"}}",
                        "order-1", "A", true},
                {"{\"kind\":\"pattern\",\"match\":{\"id\":\"00000000-0000-0000-0000-000000000001\"}}",
                        "order-1", "A", false},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"data\":{\"n\":1}}}", "order-1", "A",
                        true},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"data\":{\"n\":2}}}", "order-1", "A",
                        false},
                {"{\"kind\":\"pattern\",\"match\":{\"metadata\":{}}}", "order-1", "A", false},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++)
                if (matches(table[i].json, event(table[i].stream, table[i].type, "{\"n\":1}")) !=
                        table[i].is_match)
                        fail_msg("row %u: %s", i, table[i].json);
}

TEST(match, metadata_needs_no_content_type_but_must_be_json)
{
        struct event_view e = event("order-1", "A", "\x01\x02");
        const char *by_user = "{\"kind\":\"pattern\",\"match\":{\"metadata\":{\"user\":\"x\"}}}";

        e.content_type = CONTENT_BINARY;
        e.metadata = BYTES_LITERAL("{\"user\":\"x\",\"more\":1}");
        assert_true(matches(by_user, e));
        e.metadata = BYTES_LITERAL("{\"user\":\"x\"");
        assert_false(matches(by_user, e));
        e.metadata = BYTES_EMPTY;
        assert_false(matches(by_user, e));
        e.data = BYTES_LITERAL("{\"a\":1}"); /* looks like JSON and is said not to be */
        assert_false(matches("{\"kind\":\"payload\",\"match\":{\"a\":1}}", e));
        assert_false(matches("{\"kind\":\"pattern\",\"match\":{\"data\":{\"a\":1}}}", e));
        e.content_type = CONTENT_JSON;
        assert_true(matches("{\"kind\":\"payload\",\"match\":{\"a\":1}}", e));
}

TEST(match, payloads_by_subset)
{
        static const struct {
                const char *match;
                const char *data;
                bool is_match;
        } table[] = {
                {"{\"a\":1}", "{\"a\":1}", true},
                {"{\"a\":1}", " {\"b\":[1,{\"a\":2}], \"a\" : 1 , \"c\":null} ", true},
                {"{\"a\":1}", "{\"b\":{\"a\":1}}", false},
                {"{\"a\":1}", "{\"a\":\"1\"}", false},
                {"{\"a\":1}", "{\"a\":true}", false},
                {"{\"a\":1}", "{\"a\":[1]}", false},
                {"{\"a\":1}", "{}", false},
                {"{\"a\":1}", "[{\"a\":1}]", false},
                {"{\"a\":1}", "\"a\"", false},
                {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
                {"{\"a\":1,\"b\":2}", "{\"b\":2}", false},
                {"{\"a\":null}", "{\"a\":null}", true},
                {"{\"a\":null}", "{\"b\":null}", false},
                {"{\"a\":true}", "{\"a\":true}", true},
                {"{\"a\":true}", "{\"a\":false}", false},
                {"{\"a\":\"x\"}", "{\"a\":\"x\"}", true},
                {"{\"a\":\"x\"}", "{\"a\":\"xy\"}", false},
                {"{\"a\":\"xy\"}", "{\"a\":\"x\"}", false},
                {"{\"a\":\"\"}", "{\"a\":\"\"}", true},
                {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1,\"c\":2}}", true},
                {"{\"a\":{\"b\":1}}", "{\"a\":{\"c\":2}}", false},
                {"{\"a\":{}}", "{\"a\":{\"c\":2}}", true},
                {"{\"a\":{}}", "{\"a\":[]}", false},
                {"{\"a\":[]}", "{\"a\":[]}", true},
                {"{\"a\":[]}", "{\"a\":[1]}", false},
                {"{\"a\":[1,2]}", "{\"a\":[1,2]}", true},
                {"{\"a\":[1,2]}", "{\"a\":[1.0,20e-1]}", true},
                {"{\"a\":[1,2]}", "{\"a\":[2,1]}", false},
                {"{\"a\":[1,2]}", "{\"a\":[1,2,3]}", false},
                {"{\"a\":[1,2]}", "{\"a\":[1]}", false},
                {"{\"a\":[{\"b\":1}]}", "{\"a\":[{\"b\":1}]}", true},
                {"{\"a\":[{\"b\":1}]}", "{\"a\":[{\"b\":1,\"c\":2}]}", false}, /* inside lists all is equal */
                {"{\"a\":[{\"b\":{\"c\":1}}]}", "{\"a\":[{\"b\":{\"c\":1,\"d\":1}}]}", false},
                /* keys that stand twice: the last one counts */
                {"{\"a\":1}", "{\"a\":2,\"a\":1}", true},
                {"{\"a\":1}", "{\"a\":1,\"a\":2}", false},
                {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1},\"a\":{}}", false},
                {"{\"a\":{\"b\":1,\"c\":1}}", "{\"a\":{\"b\":1},\"a\":{\"c\":1}}", false},
                /* strings as they are meant */
                {"{\"a\":\"\\u00e9\"}", "{\"a\":\"\xc3\xa9\"}", true},
                {"{\"a\":\"\xc3\xa9\"}", "{\"a\":\"\\u00E9\"}", true},
                {"{\"a\":\"\\ud83d\\ude00\"}", "{\"a\":\"\xf0\x9f\x98\x80\"}", true},
                {"{\"a\":\"\xf0\x9f\x98\x80\"}", "{\"a\":\"\\uD83D\\uDE00\"}", true},
                {"{\"a\":\"x\"}", "{\"a\":\"\\ud83d\"}", false},
                {"{\"a\":\"/\"}", "{\"a\":\"\\/\"}", true},
                {"{\"a\":\"\\n\"}", "{\"a\":\"\\u000a\"}", true},
                {"{\"a\":\"\\u0000\"}", "{\"a\":\"\\u0000\"}", true},
                {"{\"a\":\"\\\\\"}", "{\"a\":\"\\u005c\"}", true},
                {"{\"a\":1}", "{\"\\u0061\":1}", true},
                {"{\"\\u0061\":1}", "{\"a\":1}", true},
                {"{\"a\":1}", "{\"\\u0062\":1}", false},
                {"{\"\":1}", "{\"\":1}", true},
                /* what is no JSON matches nothing */
                {"{\"a\":1}", "", false},
                {"{\"a\":1}", "{\"a\":1", false},
                {"{\"a\":1}", "{\"a\":1}}", false},
                {"{\"a\":1}", "{\"a\":1,}", false},
                {"{\"a\":1}", "{\"a\":1,\"b\":nul}", false},
                {"{\"a\":1}", "{\"a\":1,\"b\":\"\xff\"}", false},
                {"{\"a\":1}", "{\"a\":01}", false},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++)
                if (payload_matches(table[i].match, table[i].data) != table[i].is_match)
                        fail_msg("row %u: %s on %s", i, table[i].match, table[i].data);
}

TEST(match, numbers_by_exact_value)
{
        static const char *const equal[][8] = {
                {"1", "1.0", "10e-1", "0.1e1", "1E0", "1.000e+0"},
                {"0", "-0", "0.0", "0e5", "-0.0e-999999999999999999999"},
                {"-1.5", "-15e-1", "-0.15E1"},
                {"9007199254740993", "9007199254740993.0", "900719925474099.3e1"},
                {"9007199254740992"},
                {"123456789012345678901234567890"},
                {"123456789012345678901234567891"},
                {"0.1", "1e-1", "0.10000"},
                {"0.1000000000000000055511151231257827"},
                {"1e400", "10e399", "0.01e402"},
                {"1e401"},
                {"100", "1e2", "0.1e3", "100.00"},
                {"10"},
                {"-100"},
                {"1e-400"},
                {"101", "10.1e1"},
        };

        for (unsigned i = 0; i < COUNT_OF(equal); i++) {
                for (unsigned k = 0; k < COUNT_OF(equal); k++) {
                        for (unsigned n = 0; n < 8 && equal[i][n]; n++) {
                                for (unsigned m = 0; m < 8 && equal[k][m]; m++) {
                                        char match[128], data[128];

                                        if (strlen(equal[i][n]) > 20 && strstr(equal[i][n], "e-9999"))
                                                continue;
                                        snprintf(match, sizeof match, "{\"a\":%s}", equal[i][n]);
                                        snprintf(data, sizeof data, "{\"a\":%s}", equal[k][m]);
                                        if (payload_matches(match, data) != (i == k))
                                                fail_msg("%s and %s", match, data);
                                }
                        }
                }
        }
        assert_false(payload_matches("{\"a\":1e9}", "{\"a\":1e99999999999999999999}"));
}

TEST(match, depth_of_an_event_is_bounded_and_costs_no_memory)
{
        struct buffer deep = {0};
        struct selector *s =
                parse("{\"kind\":\"payload\",\"match\":{\"a\":{\"b\":[1,\"x\"]},\"c\":\"\xc3\xa9\"}}");
        struct event_view e = event(
                "order-1", "A", "{\"z\":[{}],\"c\":\"\\u00e9\",\"a\":{\"y\":1,\"b\":[1e0,\"\\u0078\"]}}");
        size_t used = mallinfo2().uordblks;

        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(selector_match(s, &e), FILTER_MATCH);
        assert_int_equal(mallinfo2().uordblks, used);
        buffer_add_string(&deep, "{\"a\":{\"b\":[1,\"x\"]},\"c\":\"\xc3\xa9\",\"z\":");
        for (unsigned i = 0; i < 100000; i++)
                buffer_add_u8(&deep, '[');
        e.data = buffer_bytes(&deep);
        assert_int_equal(selector_match(s, &e), FILTER_NO_MATCH);
        buffer_fini(&deep);
        selector_free(&s);
}

TEST(match, a_pattern_that_is_too_costly_says_so)
{
        struct selector *s = parse("{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"(a+)+$\"}");
        struct event_view e = event("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "A", "");

        assert_int_equal(selector_match(s, &e), FILTER_TOO_COSTLY);
        selector_free(&s);
}

/* ---- keys and filters ---- */

TEST(keys, are_what_every_selected_event_has)
{
        static const struct {
                const char *json;
                enum selector_key key;
                const char *names; /* with a space behind each */
        } table[] = {
                {"{\"kind\":\"all\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", SELECT_KEY_STREAMS, "order-1 "},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"b\",\"a\"]}", SELECT_KEY_STREAM_PREFIXES, "a b "},
                {"{\"kind\":\"type\",\"types\":[\"B\",\"A\"]}", SELECT_KEY_TYPES, "A B "},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"B\"]}", SELECT_KEY_TYPE_PREFIXES,
                        "B "},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"prefixes\":[\"B\"]}",
                        SELECT_KEY_STREAM_PREFIXES, "B "},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-[0-9]\"}",
                        SELECT_KEY_STREAM_PREFIXES, "order- "},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^\\\\$x\\\\.y$\"}",
                        SELECT_KEY_TYPE_PREFIXES, "$x.y "},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^ab*\"}", SELECT_KEY_TYPE_PREFIXES,
                        "a "},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^ab+\"}", SELECT_KEY_TYPE_PREFIXES,
                        "ab "},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^ab|c\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^a?\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^[^$]\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"ab\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"filter\",\"target\":\"type\",\"regex\":\"^\\\\d\"}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"pattern\",\"match\":{\"stream\":\"s\",\"type\":\"T\"}}", SELECT_KEY_STREAMS,
                        "s "},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":0,\"type\":\"T\"}}", SELECT_KEY_TYPES, "T "},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":0}}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"payload\",\"match\":{\"a\":[1],\"b\":{}}}", SELECT_KEY_NONE, ""},
                {"{\"kind\":\"payload\",\"match\":{\"a\":{\"b\":true}}}", SELECT_KEY_FIELD,
                        "\001a\001btrue "},
                {"{\"kind\":\"payload\",\"match\":{\"a\":[1],\"b\":\"x\"}}", SELECT_KEY_FIELD, "\001b\"x "},
                {"{\"kind\":\"pattern\",\"match\":{\"revision\":1,\"data\":{\"b\":null}}}", SELECT_KEY_FIELD,
                        "\001bnull "},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"data\":{\"b\":null}}}",
                        SELECT_KEY_TYPED_FIELD, "\001bnullA "},
                {"{\"kind\":\"pattern\",\"match\":{\"type\":\"A\",\"data\":{\"b\":[]}}}", SELECT_KEY_TYPES,
                        "A "},
                {"{\"kind\":\"payload\",\"match\":{\"a\":true,\"b\":{\"c\":\"x\",\"d\":false}}}",
                        SELECT_KEY_FIELD, "\001b\001c\"x "},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct selector *s = parse(table[i].json);
                const struct bytes *names;
                struct buffer text = {0};
                unsigned count;

                if (selector_keys(s, &names, &count) != table[i].key)
                        fail_msg("row %u", i);
                for (unsigned n = 0; n < count; n++) {
                        buffer_add_bytes(&text, names[n]);
                        buffer_add_u8(&text, ' ');
                }
                if (!bytes_equal_string(buffer_bytes(&text), table[i].names))
                        fail_msg("row %u: %.*s", i, (int)text.size, text.data);
                buffer_fini(&text);
                selector_free(&s);
        }
}

/* A field is found where, and only where, the payload is selected. */
TEST(keys, fields_of_events_are_found_by_place_and_value)
{
        static const struct {
                const char *match;
                const char *data;
                bool is_found;
        } table[] = {
                {"{\"a\":1}", "{\"a\":1.0}", true},
                {"{\"a\":-0.50}", "{\"b\":{},\"a\":-5e-1}", true},
                {"{\"a\":0}", "{\"a\":-0e9}", true},
                {"{\"a\":1}", "{\"a\":-1}", false},
                {"{\"a\":1}", "{\"a\":10}", false},
                {"{\"a\":1}", "{\"a\":\"1\"}", false},
                {"{\"a\":\"true\"}", "{\"a\":true}", false},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":{\"b\":\"\\u0078\"}}", true},
                {"{\"a\":{\"b\":\"x\"}}", "{\"\\u0061\":{\"c\":1,\"b\":\"x\"}}", true},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":{\"b\":[\"x\"]}}", false},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":\"x\"}", false},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":{\"b\":\"x\"},\"a\":{\"b\":\"y\"}}", false},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":{\"b\":\"y\"},\"a\":{\"b\":\"x\"}}", true},
                {"{\"a\":{\"b\":\"x\"}}", "{\"a\":{\"b\":\"x\"},\"a\":1}", false},
                {"{\"a\":\"x\"}", "{\"a\":\"\\ud800\"}", false},
                {"{\"a\":\"x\"}", "{\"a\":\"x\"", false},
                {"{\"a\":\"x\"}", "", false},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct event_view e = event("order-1", "Placed", table[i].data);
                struct buffer name = {0};
                struct selector *s;
                const struct bytes *names;
                unsigned count;
                char json[256];
                bool is_found;

                snprintf(json, sizeof json, "{\"kind\":\"payload\",\"match\":%s}", table[i].match);
                s = parse(json);
                assert_int_equal(selector_keys(s, &names, &count), SELECT_KEY_FIELD);
                assert_int_equal(count, 1);
                is_found = selector_read_field(selector_field_place(s), &e, &name) &&
                           bytes_equal(buffer_bytes(&name), names[0]);
                if (is_found != table[i].is_found)
                        fail_msg("row %u: %s in %s", i, table[i].match, table[i].data);
                assert_int_equal(is_found, payload_matches(table[i].match, table[i].data));
                e.content_type = CONTENT_BINARY;
                assert_false(selector_read_field(selector_field_place(s), &e, &name));
                buffer_fini(&name);
                selector_free(&s);
        }
}

TEST(filter, reads_prefixes_and_filters_and_nothing_else)
{
        static const struct {
                const char *json;
                bool has_filter;
        } table[] = {
                {"{\"kind\":\"all\"}", false},
                {"{\"kind\":\"stream\",\"stream\":\"order-1\"}", false},
                {"{\"kind\":\"type\",\"types\":[\"order\"]}", false},
                {"{\"kind\":\"payload\",\"match\":{\"a\":1}}", false},
                {"{\"kind\":\"prefix\",\"prefixes\":[\"order-\"]}", true},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"prefixes\":[\"order-\"]}", true},
                {"{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-\"}", true},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct selector *s = parse(table[i].json);
                struct filter *f = selector_new_filter(s);

                assert_int_equal(f != NULL, table[i].has_filter);
                if (f) {
                        assert_int_equal(
                                filter_match(f, BYTES_LITERAL("order-1"), BYTES_LITERAL("A")), FILTER_MATCH);
                        assert_int_equal(filter_match(f, BYTES_LITERAL("cart-1"), BYTES_LITERAL("order-A")),
                                FILTER_NO_MATCH);
                }
                filter_free(&f);
                selector_free(&s);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(parse, equal_selections_have_one_form),
                TEST_ROW(parse, numbers_have_one_form),
                TEST_ROW(parse, what_is_wrong_is_said_with_its_place),
                TEST_ROW(parse, size_and_number_of_names_are_bounded),
                TEST_ROW(match, by_stream_prefix_type_and_filter),
                TEST_ROW(match, metadata_needs_no_content_type_but_must_be_json),
                TEST_ROW(match, payloads_by_subset),
                TEST_ROW(match, numbers_by_exact_value),
                TEST_ROW(match, depth_of_an_event_is_bounded_and_costs_no_memory),
                TEST_ROW(match, a_pattern_that_is_too_costly_says_so),
                TEST_ROW(keys, are_what_every_selected_event_has),
                TEST_ROW(keys, fields_of_events_are_found_by_place_and_value),
                TEST_ROW(filter, reads_prefixes_and_filters_and_nothing_else),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
