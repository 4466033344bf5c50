/* JSON (RFC 8259) read where it stands: values are ranges of the text, so numbers stay exact and data is stored as it
 * was sent; a tree of a 64 MiB body would also cost ten times its size. */
#ifndef BASE_JSON_IN_H
#define BASE_JSON_IN_H

#include "base/arena.h"
#include "base/bytes.h"

enum { JSON_IN_DEPTH_MAX = 256, JSON_IN_PROBLEM_SIZE = 256 };

enum json_in_kind { JSON_OBJECT_IN, JSON_ARRAY_IN, JSON_STRING_IN, JSON_NUMBER_IN, JSON_WORD_IN };

struct json_in {
        const uint8_t *start;
        const uint8_t *at;
        const uint8_t *end;
        unsigned first_line; /* the number of the line that `start` is in, 1-based */
        bool has_failed;
        char problem[JSON_IN_PROBLEM_SIZE]; /* "line 3, column 7: ..." */
};

void json_in_begin(struct json_in *s, struct bytes text, unsigned first_line);
/* Notes what is wrong at `at` (the first one counts); always false. */
bool json_in_fail(struct json_in *s, const uint8_t *at, const char *format, ...) PRINTF_LIKE(3, 4);
enum json_in_kind json_in_kind(struct json_in *s); /* of the next value; anything that begins none is a WORD */

/* Passes over one value and gives its range. */
bool json_in_value(struct json_in *s, struct bytes *ret);
/* Opens an object or array; *ret_is_empty: it is closed already. */
bool json_in_open(struct json_in *s, char bracket, bool *ret_is_empty);
/* Behind a member or element: *ret_has_more says whether another follows. */
bool json_in_more(struct json_in *s, char bracket, bool *ret_has_more);
/* A key and its colon; escapes are resolved in the arena. */
bool json_in_key(struct json_in *s, struct arena *arena, struct bytes *ret);
bool json_in_string(struct json_in *s, struct arena *arena, struct bytes *ret);
/* The same as they stand between the quotes, without memory; json_in_raw_equals says whether they mean `wanted`. Half of
 * a surrogate pair means nothing. */
bool json_in_raw_key(struct json_in *s, struct bytes *ret, bool *ret_has_escapes);
bool json_in_raw_string(struct json_in *s, struct bytes *ret, bool *ret_has_escapes);
bool json_in_raw_equals(struct bytes raw, bool has_escapes, struct bytes wanted);
/* Adds what it means; false at half of a surrogate pair. */
bool json_in_raw_unescape(struct bytes raw, bool has_escapes, struct buffer *out);
/* Nothing may follow but space. */
bool json_in_end(struct json_in *s);

/* True if the text is one valid JSON value and UTF-8. */
bool json_in_is_valid(struct bytes text);
bool json_in_is_object(struct bytes text);

#endif
