/* JSON read where it stands, at the corners of RFC 8259 (G17). */
#include "base/json_in.h"

#include "test.h"

static bool valid(const char *text)
{
        return json_in_is_valid(bytes_of_string(text));
}

TEST(json_in, valid_texts_are_taken)
{
        static const char *const texts[] = {
                "0",
                "-0",
                "-0.0e-0",
                "1.5E+10",
                "123456789012345678901234567890",
                "\"\"",
                "\"\\u0000\"",
                "true",
                "false",
                "null",
                " \t\r\n1 \n",
                "[]",
                "[ ]",
                "{}",
                "{ }",
                "[1,[2,[3]]]",
                "{\"a\":{\"b\":[{}]}}",
                "{\"a\":1,\"a\":2}",
                "\"\xc3\xa9\xf0\x9f\x98\x80\"",
                "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\uD83D\\uDE00\"",
                "\"\x7f\"",
                "{\"\":0}",
        };

        for (unsigned i = 0; i < COUNT_OF(texts); i++)
                assert_true(valid(texts[i]));
}

TEST(json_in, invalid_texts_are_refused)
{
        static const char *const texts[] = {
                "",
                " ",
                "01",
                "-",
                "+1",
                ".5",
                "1.",
                "1e",
                "1e+",
                "0x1",
                "NaN",
                "Infinity",
                "tru",
                "True",
                "nul",
                "'a'",
                "a",
                "[",
                "]",
                "[1",
                "[1,",
                "[1,]",
                "[,1]",
                "[1 2]",
                "{",
                "}",
                "{\"a\"",
                "{\"a\":",
                "{\"a\":1",
                "{\"a\":1,",
                "{\"a\":1,}",
                "{a:1}",
                "{1:1}",
                "{\"a\" 1}",
                "{,}",
                "\"",
                "\"\\\"",
                "\"\\x\"",
                "\"\\u12\"",
                "\"\\u12g4\"",
                "\"\n\"",
                "\"\x01\"",
                "1 1",
                "[]]",
                "\"\xff\"",
                "\"\xc0\x80\"",
                "\"\xed\xa0\x80\"",
                "// c\n1",
                "[1]x",
        };

        for (unsigned i = 0; i < COUNT_OF(texts); i++)
                assert_false(valid(texts[i]));
        assert_false(json_in_is_valid(bytes_of("1\0", 2)));
        assert_false(json_in_is_valid(bytes_of("\"\0\"", 3)));
}

TEST(json_in, no_beginning_of_a_text_is_taken_for_the_text)
{
        static const char text[] =
                "{\"type\":\"A\\u00e9\\ud83d\\ude00\",\"data\":[1.5e3,true,null,{\"x\":\"\\n\"}],\"n\":-7}";

        for (size_t n = 0; n < sizeof text - 1; n++)
                assert_false(json_in_is_valid(bytes_of(text, n)));
        assert_true(valid(text));
}

TEST(json_in, depth_is_bounded)
{
        struct buffer text = {0};

        for (unsigned depth = JSON_IN_DEPTH_MAX; depth <= JSON_IN_DEPTH_MAX + 1; depth++) {
                buffer_clear(&text);
                for (unsigned i = 0; i < depth; i++)
                        buffer_add_string(&text, i % 2 ? "{\"a\":" : "[");
                buffer_add_string(&text, "1");
                for (unsigned i = depth; i-- > 0;)
                        buffer_add_string(&text, i % 2 ? "}" : "]");
                assert_int_equal(json_in_is_valid(buffer_bytes(&text)), depth <= JSON_IN_DEPTH_MAX);
        }
        buffer_clear(&text);
        for (unsigned i = 0; i < 1000000; i++)
                buffer_add_u8(&text, '[');
        assert_false(json_in_is_valid(buffer_bytes(&text)));
        buffer_fini(&text);
}

static bool string(const char *text, struct bytes *ret, struct arena *arena, struct json_in *s)
{
        json_in_begin(s, bytes_of_string(text), 1);
        return json_in_string(s, arena, ret) && json_in_end(s);
}

TEST(json_in, escapes_are_resolved)
{
        struct arena arena = {0};
        struct json_in s;
        struct bytes got;

        assert_true(string(" \"plain\" ", &got, &arena, &s));
        assert_true(bytes_equal_string(got, "plain"));
        assert_true(string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", &got, &arena, &s));
        assert_true(bytes_equal_string(got, "\"\\/\b\f\n\r\t"));
        assert_true(string("\"\\u0041\\u00e9\\u20AC\\uD83d\\uDe00\"", &got, &arena, &s));
        assert_true(bytes_equal_string(got, "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
        assert_true(string("\"\\u0000\"", &got, &arena, &s));
        assert_true(bytes_equal(got, bytes_of("\0", 1)));
        arena_fini(&arena);
}

TEST(json_in, half_a_surrogate_pair_is_no_character)
{
        static const char *const texts[] = {
                "\"\\ud83d\"",
                "\"\\ude00\"",
                "\"\\ud83dx\"",
                "\"\\ud83d\\n\"",
                "\"\\ud83d\\u0041\"",
                "\"\\ude00\\ud83d\"",
        };
        struct arena arena = {0};
        struct json_in s;
        struct bytes got;

        for (unsigned i = 0; i < COUNT_OF(texts); i++) {
                assert_false(string(texts[i], &got, &arena, &s));
                assert_non_null(strstr(s.problem, "half of a surrogate pair"));
        }
        arena_fini(&arena);
}

TEST(json_in, the_first_problem_is_kept_with_its_place)
{
        struct json_in s;
        struct bytes value;

        json_in_begin(&s, BYTES_LITERAL("[1,\n  2,\n  x]"), 7);
        assert_false(json_in_value(&s, &value));
        assert_string_equal(s.problem, "line 9, column 3: a value is expected");
        json_in_fail(&s, s.start, "something else");
        assert_string_equal(s.problem, "line 9, column 3: a value is expected");
}

TEST(json_in, members_are_walked_and_values_are_ranges_of_the_text)
{
        struct arena arena = {0};
        struct bytes key, value;
        struct json_in s;
        bool is_empty, has_more;

        json_in_begin(&s, BYTES_LITERAL(" { \"a\" : 1.50 , \"b\":[ 1 ] } "), 1);
        assert_int_equal(json_in_kind(&s), JSON_OBJECT_IN);
        assert_true(json_in_open(&s, '{', &is_empty));
        assert_false(is_empty);
        assert_true(json_in_key(&s, &arena, &key));
        assert_true(bytes_equal_string(key, "a"));
        assert_int_equal(json_in_kind(&s), JSON_NUMBER_IN);
        assert_true(json_in_value(&s, &value));
        assert_true(bytes_equal_string(value, "1.50"));
        assert_true(json_in_more(&s, '{', &has_more));
        assert_true(has_more);
        assert_true(json_in_key(&s, &arena, &key));
        assert_int_equal(json_in_kind(&s), JSON_ARRAY_IN);
        assert_true(json_in_value(&s, &value));
        assert_true(bytes_equal_string(value, "[ 1 ]"));
        assert_true(json_in_more(&s, '{', &has_more));
        assert_false(has_more);
        assert_true(json_in_end(&s));
        arena_fini(&arena);
}

TEST(json_in, kinds_are_told_by_the_first_byte)
{
        static const struct {
                const char *text;
                enum json_in_kind kind;
        } cases[] = {
                {"{}", JSON_OBJECT_IN},
                {" []", JSON_ARRAY_IN},
                {"\"\"", JSON_STRING_IN},
                {"-1", JSON_NUMBER_IN},
                {"9", JSON_NUMBER_IN},
                {"true", JSON_WORD_IN},
                {"", JSON_WORD_IN},
                {"?", JSON_WORD_IN},
        };
        struct json_in s;

        for (unsigned i = 0; i < COUNT_OF(cases); i++) {
                json_in_begin(&s, bytes_of_string(cases[i].text), 1);
                assert_int_equal(json_in_kind(&s), cases[i].kind);
        }
        assert_true(json_in_is_object(BYTES_LITERAL(" {} ")));
        assert_false(json_in_is_object(BYTES_LITERAL("[]")));
        assert_false(json_in_is_object(BYTES_LITERAL("{")));
        assert_false(json_in_is_object(BYTES_EMPTY));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(json_in, valid_texts_are_taken),
                TEST_ROW(json_in, invalid_texts_are_refused),
                TEST_ROW(json_in, no_beginning_of_a_text_is_taken_for_the_text),
                TEST_ROW(json_in, depth_is_bounded),
                TEST_ROW(json_in, escapes_are_resolved),
                TEST_ROW(json_in, half_a_surrogate_pair_is_no_character),
                TEST_ROW(json_in, the_first_problem_is_kept_with_its_place),
                TEST_ROW(json_in, members_are_walked_and_values_are_ranges_of_the_text),
                TEST_ROW(json_in, kinds_are_told_by_the_first_byte),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
