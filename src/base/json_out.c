#include "base/json_out.h"

#include "base/base64.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static void before_value(struct json_out *j)
{
        if (j->after_key)
                j->after_key = false;
        else if (j->has_value[j->depth])
                buffer_add_u8(j->out, ',');
        j->has_value[j->depth] = true;
}

static void enter(struct json_out *j, uint8_t c)
{
        before_value(j);
        assert(j->depth + 1 < JSON_OUT_DEPTH_MAX);
        j->has_value[++j->depth] = false;
        buffer_add_u8(j->out, c);
}

static void leave(struct json_out *j, uint8_t c)
{
        assert(j->depth > 0);
        assert(!j->after_key);
        j->depth--;
        buffer_add_u8(j->out, c);
}

void json_object_begin(struct json_out *j)
{
        enter(j, '{');
}

void json_object_end(struct json_out *j)
{
        leave(j, '}');
}

void json_array_begin(struct json_out *j)
{
        enter(j, '[');
}

void json_array_end(struct json_out *j)
{
        leave(j, ']');
}

static void add_escaped(struct buffer *out, uint8_t c)
{
        static const char *const shorts[] = {
                ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};

        if (c == '"' || c == '\\') {
                buffer_add_u8(out, '\\');
                buffer_add_u8(out, c);
        } else if (c < COUNT_OF(shorts) && shorts[c]) {
                buffer_add_string(out, shorts[c]);
        } else {
                buffer_format(out, "\\u%04x", c);
        }
}

static void add_text(struct buffer *out, struct bytes s)
{
        size_t plain = 0;

        for (size_t i = 0; i < s.size; i++) {
                uint8_t c = s.data[i];

                if (LIKELY(c >= 0x20 && c != '"' && c != '\\'))
                        continue;
                buffer_add(out, s.data + plain, i - plain);
                add_escaped(out, c);
                plain = i + 1;
        }
        if (plain < s.size) /* nothing has no address to begin at */
                buffer_add(out, s.data + plain, s.size - plain);
}

/* The well-formed stretches as they are, U+FFFD for each byte between them. */
static void add_broken_text(struct buffer *out, struct bytes s)
{
        size_t at = 0;

        while (at < s.size) {
                size_t n = MIN((size_t)4, s.size - at);

                while (n && !bytes_is_utf8(bytes_of(s.data + at, n)))
                        n--;
                if (n) {
                        add_text(out, bytes_of(s.data + at, n));
                        at += n;
                } else {
                        buffer_add_string(out, "\xef\xbf\xbd");
                        at++;
                }
        }
}

static void add_string(struct buffer *out, struct bytes s)
{
        buffer_add_u8(out, '"');
        if (LIKELY(bytes_is_utf8(s)))
                add_text(out, s);
        else
                add_broken_text(out, s);
        buffer_add_u8(out, '"');
}

void json_key_bytes(struct json_out *j, struct bytes key)
{
        assert(j->depth > 0 && !j->after_key);
        before_value(j);
        add_string(j->out, key);
        buffer_add_u8(j->out, ':');
        j->after_key = true;
}

void json_key(struct json_out *j, const char *key)
{
        json_key_bytes(j, bytes_of_string(key));
}

void json_bytes(struct json_out *j, struct bytes s)
{
        before_value(j);
        add_string(j->out, s);
}

void json_text(struct json_out *j, const char *s)
{
        json_bytes(j, bytes_of_string(s));
}

void json_u64(struct json_out *j, uint64_t n)
{
        before_value(j);
        buffer_format(j->out, "%" PRIu64, n);
}

void json_i64(struct json_out *j, int64_t n)
{
        before_value(j);
        buffer_format(j->out, "%" PRId64, n);
}

void json_double(struct json_out *j, double n)
{
        before_value(j);
        if (isfinite(n))
                buffer_format(j->out, "%.17g", n);
        else
                buffer_add_string(j->out, "null");
}

void json_bool(struct json_out *j, bool b)
{
        before_value(j);
        buffer_add_string(j->out, b ? "true" : "false");
}

void json_out_null(struct json_out *j)
{
        before_value(j);
        buffer_add_string(j->out, "null");
}

void json_raw(struct json_out *j, struct bytes json)
{
        before_value(j);
        buffer_add_bytes(j->out, json);
}

void json_base64(struct json_out *j, struct bytes binary)
{
        before_value(j);
        buffer_add_u8(j->out, '"');
        base64_encode(j->out, binary);
        buffer_add_u8(j->out, '"');
}

void json_field_string(struct json_out *j, const char *key, const char *s)
{
        json_key(j, key);
        json_text(j, s);
}

void json_field_bytes(struct json_out *j, const char *key, struct bytes s)
{
        json_key(j, key);
        json_bytes(j, s);
}

void json_field_u64(struct json_out *j, const char *key, uint64_t n)
{
        json_key(j, key);
        json_u64(j, n);
}

void json_field_bool(struct json_out *j, const char *key, bool b)
{
        json_key(j, key);
        json_bool(j, b);
}
