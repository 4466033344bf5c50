/* Any bytes as stream metadata, against jansson: what it takes for an object we take for one, and numbers
 * read alike.
 *
 *   clang -std=gnu17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc
 * tests/fuzz/fuzz_metadata.c \ src/model/[a-z]*.c src/base/[a-z]*.c -lcrypto -lpcre2-8 -ljansson -lpthread */
#include <stdlib.h>

#include <jansson.h>

#include "model/limits.h"
#include "model/stream_metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

static uint64_t number_of(const json_t *object, const char *key)
{
        const json_t *value = json_object_get(object, key);
        json_int_t n = json_is_integer(value) ? json_integer_value(value) : 0;

        return n > 0 ? (uint64_t)n : 0;
}

static bool is_nested_deeply(const uint8_t *data, size_t size)
{
        size_t opened = 0;

        for (size_t i = 0; i < size; i++)
                opened += data[i] == '[' || data[i] == '{';
        return opened > 200;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes json = bytes_of(data, size);
        struct stream_metadata got = stream_metadata_parse(json);
        const char *problem = stream_metadata_check(json);
        struct buffer out = {0};
        /* Refusing keys that come twice: which of two values counts when one is of the wrong type is ours to
         * say. */
        json_t *tree = NULL;

        /* jansson skips a NUL byte behind a number, which is no JSON. */
        if (size && !memchr(data, 0, size))
                tree = json_loadb((const char *)data, size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);

        require(got.max_count <= REVISION_MAX && got.max_age_seconds <= REVISION_MAX);
        require(got.truncate_before <= REVISION_MAX);
        if (json_is_object(tree) && !is_nested_deeply(data, size)) {
                require(!problem || strncmp(problem, "the metadata", 12) != 0);
                require(got.max_count == number_of(tree, "$maxCount"));
                require(got.max_age_seconds == number_of(tree, "$maxAge"));
                require(got.truncate_before == number_of(tree, "$tb"));
        }
        stream_metadata_with_truncate_before(json, 5, &out);
        require(stream_metadata_parse(buffer_bytes(&out)).truncate_before == 5);
        require(stream_metadata_parse(buffer_bytes(&out)).max_count == got.max_count);
        if (json_is_object(tree)) {
                json_t *after = json_loadb((const char *)out.data, out.size, JSON_ALLOW_NUL, NULL);

                require(is_nested_deeply(data, size) || json_is_object(after));
                if (json_is_object(after)) {
                        /* All the rest is as it was. */
                        json_object_del(after, "$tb");
                        json_object_del(tree, "$tb");
                        require(is_nested_deeply(data, size) || json_equal(after, tree));
                }
                json_decref(after);
        }
        json_decref(tree);
        buffer_fini(&out);
        return 0;
}
