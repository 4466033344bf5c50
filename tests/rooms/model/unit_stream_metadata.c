#include "test.h"

#include <stdlib.h>

#include <jansson.h>

#include "model/limits.h"
#include "model/stream_metadata.h"

static struct bytes text(const char *s)
{
        return bytes_of_string(s);
}

#define MAX_TEXT "9223372036854775807"

TEST(stream_metadata, what_reads_and_what_counts_as_empty)
{
        static const struct {
                const char *json;
                struct stream_metadata metadata;
        } table[] = {
                {"{}", {0, 0, 0}},
                {"", {0, 0, 0}},
                {" \n\t\r{ }\n", {0, 0, 0}},
                {"{\"$maxCount\":5}", {5, 0, 0}},
                {"{\"$maxAge\" : 60 }", {0, 60, 0}},
                {"{\"$tb\":7,\"$maxAge\":3,\"$maxCount\":2}", {2, 3, 7}},
                {"{\"$tb\":" MAX_TEXT "}", {0, 0, REVISION_MAX}},
                {"{\"$tb\":9223372036854775806}", {0, 0, REVISION_MAX - 1}},
                {"{\"$tb\":9007199254740993}", {0, 0, 9007199254740993}},
                {"{\"$tb\":9223372036854775808}", {0, 0, 0}},
                {"{\"$tb\":99999999999999999999999,\"$maxCount\":1}", {1, 0, 0}},
                {"{\"x\":1e999,\"y\":123456789012345678901234567890,\"$maxCount\":1}", {1, 0, 0}},
                {"{\"$maxCount\":0,\"$maxAge\":0,\"$tb\":0}", {0, 0, 0}},
                {"{\"$maxCount\":-1,\"$maxAge\":-5,\"$tb\":-1}", {0, 0, 0}},
                {"{\"$maxCount\":\"5\",\"$maxAge\":1.5,\"$tb\":1e3}", {0, 0, 0}},
                {"{\"$maxCount\":true,\"$maxAge\":null,\"$tb\":[1]}", {0, 0, 0}},
                {"{\"$maxCount\":{\"$tb\":4},\"$tb\":3}", {0, 0, 3}},
                {"{\"a\":{\"$tb\":4},\"b\":[{\"$maxCount\":1}]}", {0, 0, 0}},
                {"{\"\\u0024tb\":8,\"\\u0024max\\u0043ount\":9}", {9, 0, 8}},
                {"{\"$t\\b\":8,\"$tb\\u0000\":9,\"$tbx\":9,\"$t\":9}", {0, 0, 0}},
                {"{\"$tb\":1,\"$tb\":2}", {0, 0, 2}},
                {"{\"$tb\":1,\"$tb\":\"x\"}", {0, 0, 1}},
                {"{\"$tb\":1,}", {0, 0, 0}},
                {"{\"$tb\":1}}", {0, 0, 0}},
                {"{\"$tb\":1} x", {0, 0, 0}},
                {"{\"$tb\":1", {0, 0, 0}},
                {"{\"$tb\":01}", {0, 0, 0}},
                {"{\"$tb\":+1}", {0, 0, 0}},
                {"{'$tb':1}", {0, 0, 0}},
                {"{\"$tb\":1 \"a\":2}", {0, 0, 0}},
                {"{,\"$tb\":1}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":\"\xff\"}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":\"\n\"}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":\"\\x\"}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":\"\\u12g4\"}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":tru}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":-}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":1.}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":1e}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":[1,]}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":[1}}", {0, 0, 0}},
                {"{\"$tb\":1,\"a\":[-0.5e+3,1E-2,0,\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\",null,false,{}]}",
                        {0, 0, 1}},
                {"[{\"$tb\":1}]", {0, 0, 0}},
                {"\"$tb\"", {0, 0, 0}},
                {"null", {0, 0, 0}},
                {"5", {0, 0, 0}},
                {"\xef\xbb\xbf{\"$tb\":1}", {0, 0, 0}},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct stream_metadata got = stream_metadata_parse(text(table[i].json));

                if (got.max_count != table[i].metadata.max_count ||
                        got.max_age_seconds != table[i].metadata.max_age_seconds ||
                        got.truncate_before != table[i].metadata.truncate_before)
                        fail_msg("%s", table[i].json);
        }
        assert_int_equal(stream_metadata_parse(BYTES_EMPTY).truncate_before, 0);
}

TEST(stream_metadata, checks_name_the_key)
{
        static const struct {
                const char *json;
                const char *problem; /* how it begins; NULL: fine */
        } table[] = {
                {"{}", NULL},
                {"{\"$maxCount\":1,\"$maxAge\":1,\"$tb\":0,\"$cacheControl\":1,\"$tmp\":false,\"own\":{\"a\":"
                 "[]}}",
                        NULL},
                {"{\"$acl\":{}}", NULL},
                {"{\"$acl\":{\"$r\":\"a\",\"$w\":[],\"$d\":[\"a\",\"b\"],\"$mr\":[ \"a\" "
                 "],\"$mw\":\"\",\"x\":1}}",
                        NULL},
                {"", "the metadata of a stream"},
                {"[]", "the metadata of a stream"},
                {"{\"a\":}", "the metadata of a stream"},
                {"{\"$maxCount\":0}", "$maxCount"},
                {"{\"$maxCount\":\"1\"}", "$maxCount"},
                {"{\"$maxAge\":0}", "$maxAge"},
                {"{\"$maxAge\":1.5}", "$maxAge"},
                {"{\"$tb\":-1}", "$tb"},
                {"{\"$tb\":9223372036854775808}", "$tb"},
                {"{\"$cacheControl\":0}", "$cacheControl"},
                {"{\"$tmp\":1}", "$tmp"},
                {"{\"$acl\":[]}", "$acl must"},
                {"{\"$acl\":null}", "$acl must"},
                {"{\"$acl\":{\"$r\":1}}", "$acl: $r"},
                {"{\"$acl\":{\"$w\":{}}}", "$acl: $w"},
                {"{\"$acl\":{\"$d\":[1]}}", "$acl: $d"},
                {"{\"$acl\":{\"$mr\":[\"a\",null]}}", "$acl: $mr"},
                {"{\"$acl\":{\"$mw\":[[\"a\"]]}}", "$acl: $mw"},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                const char *got = stream_metadata_check(text(table[i].json));

                if (table[i].problem ? !got || strncmp(got, table[i].problem, strlen(table[i].problem)) != 0
                                     : !!got)
                        fail_msg("%s: %s", table[i].json, got ? got : "fine");
        }
}

TEST(stream_metadata, truncate_before_is_set_and_the_rest_stays_as_it_was)
{
        static const struct {
                const char *before;
                uint64_t truncate_before;
                const char *after;
        } table[] = {
                {"", 5, "{\"$tb\":5}"},
                {"no json", 5, "{\"$tb\":5}"},
                {"{}", REVISION_MAX, "{\"$tb\":" MAX_TEXT "}"},
                {"{\"$tb\":1}", 0, "{\"$tb\":0}"},
                {"{\"$tb\":1,\"a\":2}", 3, "{\"a\":2,\"$tb\":3}"},
                {"{\"a\":2,\"\\u0024tb\":1}", 3, "{\"a\":2,\"$tb\":3}"},
                {" { \"a\" : 1.10 ,\"n\":123456789012345678901234567890, \"$tb\" : 1, \"$acl\":{\"$r\": "
                 "\"x\"} } ",
                        9,
                        "{\"a\" : 1.10,\"n\":123456789012345678901234567890,\"$acl\":{\"$r\": "
                        "\"x\"},\"$tb\":9}"},
                {"{\"a\":{\"$tb\":1},\"$maxCount\":4}", 2, "{\"a\":{\"$tb\":1},\"$maxCount\":4,\"$tb\":2}"},
        };
        struct buffer out = {0};

        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                buffer_clear(&out);
                buffer_add_string(&out, "=");
                stream_metadata_with_truncate_before(text(table[i].before), table[i].truncate_before, &out);
                if (!bytes_equal_string(bytes_of(out.data + 1, out.size - 1), table[i].after))
                        fail_msg("%.*s", (int)out.size, (const char *)out.data);
        }
        buffer_fini(&out);
}

TEST(stream_metadata, nesting_ends_somewhere)
{
        enum { DEEP = 1000000 };
        struct buffer json = {0};

        for (int depth = 254; depth <= 257; depth++) {
                buffer_clear(&json);
                buffer_add_string(&json, "{\"$tb\":1,\"a\":");
                for (int i = 0; i < depth; i++)
                        buffer_add_u8(&json, '[');
                for (int i = 0; i < depth; i++)
                        buffer_add_u8(&json, ']');
                buffer_add_u8(&json, '}');
                assert_int_equal(stream_metadata_parse(buffer_bytes(&json)).truncate_before, depth <= 255);
        }
        buffer_clear(&json);
        buffer_add_string(&json, "{\"$tb\":1,\"a\":");
        for (int i = 0; i < DEEP; i++)
                buffer_add_u8(&json, '[');
        assert_int_equal(stream_metadata_parse(buffer_bytes(&json)).truncate_before, 0);
        buffer_fini(&json);
}

static uint32_t next_random(uint32_t *state)
{
        *state = *state * 1664525 + 1013904223;
        return *state >> 8;
}

/* Texts that are nearly JSON, against a parser written by others: whatever it takes for an object, we take
 * for one, and whole numbers read alike. The other way round they may differ: it refuses numbers that it
 * cannot hold. */
TEST(stream_metadata, agrees_with_jansson_on_random_damage)
{
        static const char seed_text[] =
                "{\"$maxCount\":12, \"$tb\" : 9007199254740993,\"$acl\":{\"$r\":[\"a\",\"\\u00e4\"],"
                "\"$w\":\"b\"},\"x\":[true,false,null,-1.5e+3,0,{}],\"$maxAge\":60}";
        static const char letters[] = "{}[]\",:0123456789.eE+-\\u$tb \n\xc3\xa4";
        uint32_t random = 20240229;
        unsigned accepted = 0;

        for (unsigned round = 0; round < 20000; round++) {
                char json[sizeof seed_text];
                /* A copy of the exact size, so that a read behind the end is seen. */
                char *copy;
                size_t size = sizeof seed_text - 1;
                json_t *tree;
                struct buffer out = {0};

                memcpy(json, seed_text, sizeof json);
                for (unsigned edits = next_random(&random) % 4; edits > 0; edits--)
                        json[next_random(&random) % size] =
                                letters[next_random(&random) % (sizeof letters - 1)];
                if (next_random(&random) % 8 == 0)
                        size = next_random(&random) % size;
                copy = malloc(size ? size : 1);
                memcpy(copy, json, size);
                tree = json_loadb(copy, size, JSON_ALLOW_NUL, NULL);
                if (json_is_object(tree)) {
                        json_t *tb = json_object_get(tree, "$tb");
                        json_int_t n = json_is_integer(tb) ? json_integer_value(tb) : 0;
                        struct stream_metadata got = stream_metadata_parse(bytes_of(copy, size));

                        accepted++;
                        if (tb && got.truncate_before != (n > 0 ? (uint64_t)n : 0))
                                fail_msg("%.*s", (int)size, copy);
                        if (stream_metadata_check(bytes_of(copy, size)) &&
                                strncmp(stream_metadata_check(bytes_of(copy, size)), "the metadata", 12) == 0)
                                fail_msg("%.*s", (int)size, copy);
                }
                json_decref(tree);
                /* Whatever came in, what goes out is an object with that number. */
                stream_metadata_with_truncate_before(bytes_of(copy, size), round, &out);
                assert_int_equal(stream_metadata_parse(buffer_bytes(&out)).truncate_before, round);
                buffer_fini(&out);
                free(copy);
        }
        assert_in_range(accepted, 5000, 19000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(stream_metadata, what_reads_and_what_counts_as_empty),
                TEST_ROW(stream_metadata, checks_name_the_key),
                TEST_ROW(stream_metadata, truncate_before_is_set_and_the_rest_stays_as_it_was),
                TEST_ROW(stream_metadata, nesting_ends_somewhere),
                TEST_ROW(stream_metadata, agrees_with_jansson_on_random_damage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
