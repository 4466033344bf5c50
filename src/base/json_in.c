#include "base/json_in.h"

#include <stdarg.h>
#include <stdio.h>

void json_in_begin(struct json_in *s, struct bytes text, unsigned first_line)
{
        s->start = s->at = text.size ? text.data : (const uint8_t *)"";
        s->end = s->start + text.size;
        s->first_line = first_line;
        s->has_failed = false;
        s->problem[0] = 0;
}

bool json_in_fail(struct json_in *s, const uint8_t *at, const char *format, ...)
{
        unsigned line = s->first_line;
        const uint8_t *line_start = s->start;
        va_list arguments;
        int n;

        if (s->has_failed)
                return false;
        s->has_failed = true;
        for (const uint8_t *p = s->start; p < at; p++) {
                if (*p == '\n') {
                        line++;
                        line_start = p + 1;
                }
        }
        n = snprintf(
                s->problem, sizeof s->problem, "line %u, column %zu: ", line, (size_t)(at - line_start) + 1);
        va_start(arguments, format);
        vsnprintf(s->problem + n, sizeof s->problem - (size_t)n, format, arguments);
        va_end(arguments);
        return false;
}

/* ---- tokens ---- */

static void skip_space(struct json_in *s)
{
        while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
                s->at++;
}

static bool skip_byte(struct json_in *s, char byte)
{
        if (s->at == s->end || *s->at != (uint8_t)byte)
                return false;
        s->at++;
        return true;
}

static bool expect_byte(struct json_in *s, char byte)
{
        skip_space(s);
        if (skip_byte(s, byte))
                return true;
        return json_in_fail(s, s->at,
                s->at == s->end ? "the text ends where '%c' is expected" : "'%c' is expected", byte);
}

static bool skip_digits(struct json_in *s)
{
        const uint8_t *start = s->at;

        while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
                s->at++;
        return s->at > start;
}

static bool skip_number(struct json_in *s)
{
        const uint8_t *start = s->at;

        skip_byte(s, '-');
        if (!skip_byte(s, '0') && !skip_digits(s))
                return json_in_fail(s, start,
                        s->at == s->end ? "the text ends where a value is expected" : "a value is expected");
        if (skip_byte(s, '.') && !skip_digits(s))
                return json_in_fail(s, start, "a number needs digits behind its point");
        if (skip_byte(s, 'e') || skip_byte(s, 'E')) {
                if (!skip_byte(s, '+'))
                        skip_byte(s, '-');
                if (!skip_digits(s))
                        return json_in_fail(s, start, "a number needs digits in its exponent");
        }
        return true;
}

static bool skip_word(struct json_in *s, struct bytes word)
{
        if (!bytes_starts_with(bytes_of(s->at, (size_t)(s->end - s->at)), word))
                return json_in_fail(s, s->at, "a value is expected");
        s->at += word.size;
        return true;
}

static int hex4(const uint8_t *p)
{
        int n = 0;

        for (unsigned i = 0; i < 4; i++) {
                uint8_t c = p[i];

                if (c >= '0' && c <= '9')
                        n = n * 16 + c - '0';
                else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                        n = n * 16 + (c | 0x20) - 'a' + 10;
                else
                        return -1;
        }
        return n;
}

static bool skip_escape(struct json_in *s)
{
        const uint8_t *start = s->at - 1;
        uint8_t c;

        if (s->at == s->end)
                return json_in_fail(s, start, "the text ends inside a string");
        c = *s->at++;
        if (c == 'u') {
                if (s->end - s->at < 4 || hex4(s->at) < 0)
                        return json_in_fail(s, start, "\\u needs four hexadecimal digits");
                s->at += 4;
                return true;
        }
        if (!c || !strchr("\"\\/bfnrt", c))
                return json_in_fail(s, start, "no such escape in a string");
        return true;
}

/* Eight bytes at a time, up to those among which a quote, a backslash or a control character may be. */
static const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end)
{
        const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;

        for (; end - at >= 8; at += 8) {
                uint64_t v, quote, backslash;

                memcpy(&v, at, 8);
                quote = v ^ ones * '"';
                backslash = v ^ ones * '\\';
                if (((quote - ones) & ~quote & highs) | ((backslash - ones) & ~backslash & highs) |
                        ((v - ones * 0x20) & ~v & highs))
                        break;
        }
        return at;
}

/* Gives what stands between the quotes. */
static bool skip_string(struct json_in *s, struct bytes *ret, bool *ret_has_escapes)
{
        const uint8_t *start;

        if (!skip_byte(s, '"'))
                return json_in_fail(s, s->at, "a string is expected");
        start = s->at;
        *ret_has_escapes = false;
        s->at = skip_plain(s->at, s->end);
        while (s->at < s->end) {
                uint8_t c = *s->at++;

                if (c == '"') {
                        *ret = bytes_of(start, (size_t)(s->at - 1 - start));
                        return true;
                }
                if (c < 0x20)
                        return json_in_fail(s, s->at - 1,
                                "a control character stands in a string: write it as \\u%04x", c);
                if (c == '\\') {
                        *ret_has_escapes = true;
                        if (!skip_escape(s))
                                return false;
                        s->at = skip_plain(s->at, s->end);
                }
        }
        return json_in_fail(s, start - 1, "this string has no end");
}

/* ---- values ---- */

static bool skip_value(struct json_in *s, unsigned depth);

static bool skip_member(struct json_in *s, unsigned depth)
{
        struct bytes key;
        bool has_escapes;

        skip_space(s);
        return skip_string(s, &key, &has_escapes) && expect_byte(s, ':') && skip_value(s, depth);
}

/* Behind '{' or '['. */
static bool skip_container(struct json_in *s, bool is_object, unsigned depth)
{
        char close = is_object ? '}' : ']';

        if (depth > JSON_IN_DEPTH_MAX)
                return json_in_fail(s, s->at, "values are nested deeper than %d levels", JSON_IN_DEPTH_MAX);
        skip_space(s);
        if (skip_byte(s, close))
                return true;
        do {
                if (is_object ? !skip_member(s, depth) : !skip_value(s, depth))
                        return false;
                skip_space(s);
        } while (skip_byte(s, ','));
        return expect_byte(s, close);
}

/* `depth`: containers around the value. */
static bool skip_value(struct json_in *s, unsigned depth)
{
        struct bytes content;
        bool has_escapes;

        skip_space(s);
        if (s->at == s->end)
                return json_in_fail(s, s->at, "the text ends where a value is expected");
        switch (*s->at) {
        case '{':
        case '[':
                return skip_container(s, *s->at++ == '{', depth + 1);
        case '"':
                return skip_string(s, &content, &has_escapes);
        case 't':
                return skip_word(s, BYTES_LITERAL("true"));
        case 'f':
                return skip_word(s, BYTES_LITERAL("false"));
        case 'n':
                return skip_word(s, BYTES_LITERAL("null"));
        default:
                return skip_number(s);
        }
}

enum json_in_kind json_in_kind(struct json_in *s)
{
        skip_space(s);
        if (s->at == s->end)
                return JSON_WORD_IN;
        switch (*s->at) {
        case '{':
                return JSON_OBJECT_IN;
        case '[':
                return JSON_ARRAY_IN;
        case '"':
                return JSON_STRING_IN;
        case '-':
                return JSON_NUMBER_IN;
        default:
                return *s->at >= '0' && *s->at <= '9' ? JSON_NUMBER_IN : JSON_WORD_IN;
        }
}

bool json_in_value(struct json_in *s, struct bytes *ret)
{
        const uint8_t *start;

        skip_space(s);
        start = s->at;
        if (!skip_value(s, 0))
                return false;
        *ret = bytes_of(start, (size_t)(s->at - start));
        return true;
}

bool json_in_open(struct json_in *s, char bracket, bool *ret_is_empty)
{
        if (!expect_byte(s, bracket))
                return false;
        skip_space(s);
        *ret_is_empty = skip_byte(s, bracket == '{' ? '}' : ']');
        return true;
}

bool json_in_more(struct json_in *s, char bracket, bool *ret_has_more)
{
        char close = bracket == '{' ? '}' : ']';

        skip_space(s);
        *ret_has_more = skip_byte(s, ',');
        if (*ret_has_more || skip_byte(s, close))
                return true;
        return json_in_fail(s, s->at, "',' or '%c' is expected", close);
}

/* ---- strings ---- */

static uint8_t *put_utf8(uint8_t *to, uint32_t c)
{
        if (c < 0x80) {
                *to++ = (uint8_t)c;
        } else if (c < 0x800) {
                *to++ = (uint8_t)(0xc0 | c >> 6);
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
                *to++ = (uint8_t)(0xe0 | c >> 12);
                *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
        } else {
                *to++ = (uint8_t)(0xf0 | c >> 18);
                *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        return to;
}

/* The character of a "\uXXXX" whose digits begin at *at, with its second half if it has one; moves *at behind
 * it. */
static bool read_unicode(const uint8_t **at, const uint8_t *end, uint32_t *ret)
{
        const uint8_t *p = *at;
        uint32_t c = (uint32_t)hex4(p);

        p += 4;
        if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
                uint32_t low = (uint32_t)hex4(p + 2);

                if (low >= 0xdc00 && low < 0xe000) {
                        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                        p += 6;
                }
        }
        if (c >= 0xd800 && c < 0xe000)
                return false;
        *at = p;
        *ret = c;
        return true;
}

/* One character or escape at *at, as UTF-8; gives its size, 0 if it means nothing. A byte of a longer
 * character counts as one. */
static size_t read_character(const uint8_t **at, const uint8_t *end, uint8_t ret[4])
{
        static const char from[] = "\"\\/bfnrt";
        static const char into[] = "\"\\/\b\f\n\r\t";
        const uint8_t *p = *at;
        uint32_t c = 0;

        if (*p != '\\') {
                *ret = *p;
                *at = p + 1;
                return 1;
        }
        if (p[1] != 'u') {
                *ret = (uint8_t)into[strchr(from, p[1]) - from];
                *at = p + 2;
                return 1;
        }
        p += 2;
        if (!read_unicode(&p, end, &c))
                return 0;
        *at = p;
        return (size_t)(put_utf8(ret, c) - ret);
}

static bool unescape(struct json_in *s, struct arena *arena, struct bytes content, struct bytes *ret)
{
        const uint8_t *p = content.data;
        const uint8_t *end = p + content.size;
        uint8_t *out =
                arena_get(arena, content.size + 4); /* an escape is never shorter than what it stands for */
        uint8_t *to = out;

        while (p < end) {
                size_t size = read_character(&p, end, to);

                if (!size)
                        return json_in_fail(s, p, "half of a surrogate pair is no character");
                to += size;
        }
        *ret = bytes_of(out, (size_t)(to - out));
        return true;
}

bool json_in_raw_equals(struct bytes raw, bool has_escapes, struct bytes wanted)
{
        const uint8_t *p = raw.data;
        const uint8_t *end = p + raw.size;
        size_t at = 0;

        if (!has_escapes)
                return bytes_equal(raw, wanted);
        if (raw.size < wanted.size)
                return false;
        while (p < end) {
                uint8_t character[4];
                size_t size = read_character(&p, end, character);

                if (!size || wanted.size - at < size || memcmp(wanted.data + at, character, size) != 0)
                        return false;
                at += size;
        }
        return at == wanted.size;
}

bool json_in_raw_unescape(struct bytes raw, bool has_escapes, struct buffer *out)
{
        const uint8_t *p = raw.data;
        const uint8_t *end = p + raw.size;

        if (!has_escapes) {
                buffer_add_bytes(out, raw);
                return true;
        }
        while (p < end) {
                uint8_t character[4];
                size_t size = read_character(&p, end, character);

                if (!size)
                        return false;
                buffer_add(out, character, size);
        }
        return true;
}

bool json_in_raw_string(struct json_in *s, struct bytes *ret, bool *ret_has_escapes)
{
        skip_space(s);
        return skip_string(s, ret, ret_has_escapes);
}

bool json_in_raw_key(struct json_in *s, struct bytes *ret, bool *ret_has_escapes)
{
        return json_in_raw_string(s, ret, ret_has_escapes) && expect_byte(s, ':');
}

bool json_in_string(struct json_in *s, struct arena *arena, struct bytes *ret)
{
        struct bytes content;
        bool has_escapes;

        skip_space(s);
        if (!skip_string(s, &content, &has_escapes))
                return false;
        if (has_escapes)
                return unescape(s, arena, content, ret);
        *ret = content;
        return true;
}

bool json_in_key(struct json_in *s, struct arena *arena, struct bytes *ret)
{
        return json_in_string(s, arena, ret) && expect_byte(s, ':');
}

bool json_in_end(struct json_in *s)
{
        skip_space(s);
        return s->at == s->end || json_in_fail(s, s->at, "something follows behind the value");
}

bool json_in_is_valid(struct bytes text)
{
        struct json_in s;
        struct bytes value;

        if (!bytes_is_utf8(text))
                return false;
        json_in_begin(&s, text, 1);
        return json_in_value(&s, &value) && json_in_end(&s);
}

bool json_in_is_object(struct bytes text)
{
        struct json_in s;

        json_in_begin(&s, text, 1);
        return json_in_kind(&s) == JSON_OBJECT_IN && json_in_is_valid(text);
}
