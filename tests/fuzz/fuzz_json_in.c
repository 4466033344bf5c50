/* Any bytes as JSON, against jansson: what it takes we take, what it refuses we refuse; and strings mean the
 * same. */
#include <stdlib.h>

#include <jansson.h>

#include "base/json_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

/* jansson refuses numbers that a double cannot hold, counts depth its own way, and skips a NUL behind a
 * number; there only the absence of damage is asked for. */
static bool is_comparable(const uint8_t *data, size_t size)
{
        size_t opened = 0;

        for (size_t i = 0; i < size; i++) {
                opened += data[i] == '[' || data[i] == '{';
                if (data[i] == 0 || data[i] == 'e' || data[i] == 'E')
                        return false;
        }
        return opened < 200 && size < 300;
}

static void compare_string(struct json_in *s, struct arena *arena, const json_t *tree)
{
        struct bytes got;

        if (!json_in_string(s, arena, &got)) {
                require(!tree);
                return;
        }
        if (tree)
                require(bytes_equal(got, bytes_of(json_string_value(tree), json_string_length(tree))));
}

/* Walks an object as a body of an append is walked. */
static void walk(struct bytes text, struct arena *arena)
{
        bool is_empty, has_more;
        struct bytes key, value;
        struct json_in s;

        json_in_begin(&s, text, 1);
        if (!json_in_open(&s, '{', &is_empty))
                return;
        for (has_more = !is_empty; has_more;) {
                if (!json_in_key(&s, arena, &key) || !json_in_value(&s, &value) ||
                        !json_in_more(&s, '{', &has_more))
                        return;
                require(value.data >= text.data && value.data + value.size <= text.data + text.size);
                require(!bytes_is_utf8(text) || json_in_is_valid(value));
        }
        if (json_in_end(&s))
                require(json_in_is_object(text) || !bytes_is_utf8(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes text = bytes_of(data, size);
        struct arena arena = {0};
        struct json_in s;
        bool is_valid = json_in_is_valid(text);

        walk(text, &arena);
        json_in_begin(&s, text, 1);
        require(strlen(s.problem) < JSON_IN_PROBLEM_SIZE);
        if (is_comparable(data, size)) {
                json_t *tree = json_loadb((const char *)data, size,
                        JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);

                /* It refuses halves of surrogate pairs while it reads; we do when the string is wanted. */
                if (tree)
                        require(is_valid);
                else if (is_valid && json_in_kind(&s) != JSON_STRING_IN)
                        require(memmem(data, size, "\\u", 2) || memmem(data, size, "\\U", 2));
                if (is_valid && json_in_kind(&s) == JSON_STRING_IN)
                        compare_string(&s, &arena, tree);
                json_decref(tree);
        }
        arena_fini(&arena);
        return 0;
}
