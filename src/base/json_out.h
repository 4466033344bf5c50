/* Writes JSON (RFC 8259) into a buffer, in order, without a tree. Commas and escaping are done here. Bytes of
 * a string that are no valid UTF-8 are written as U+FFFD. */
#ifndef BASE_JSON_OUT_H
#define BASE_JSON_OUT_H

#include "base/bytes.h"

enum { JSON_OUT_DEPTH_MAX = 32 };

/* The empty value is a writer at the top; set `out` (borrowed). */
struct json_out {
        struct buffer *out;
        unsigned depth;
        bool has_value[JSON_OUT_DEPTH_MAX]; /* of the container at each depth */
        bool after_key;
};

void json_object_begin(struct json_out *j);
void json_object_end(struct json_out *j);
void json_array_begin(struct json_out *j);
void json_array_end(struct json_out *j);
void json_key(struct json_out *j, const char *key);
void json_key_bytes(struct json_out *j, struct bytes key);
void json_text(struct json_out *j, const char *s);   /* as a string */
void json_bytes(struct json_out *j, struct bytes s); /* as a string */
void json_u64(struct json_out *j, uint64_t n);
void json_i64(struct json_out *j, int64_t n);
void json_double(struct json_out *j, double n); /* NaN and infinities become null */
void json_bool(struct json_out *j, bool b);
void json_out_null(struct json_out *j);
void json_raw(struct json_out *j, struct bytes json);      /* a value that is JSON already */
void json_base64(struct json_out *j, struct bytes binary); /* RFC 4648 section 4 */

/* The key and its value in one. */
void json_field_string(struct json_out *j, const char *key, const char *s);
void json_field_bytes(struct json_out *j, const char *key, struct bytes s);
void json_field_u64(struct json_out *j, const char *key, uint64_t n);
void json_field_bool(struct json_out *j, const char *key, bool b);

#endif
