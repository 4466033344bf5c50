/* Reads metadata bodies where they stand: a small RFC 8259 scanner that gives the members of an object as
 * ranges of the text. A tree of values would lose what the stream's owner wrote (numbers beyond 63
 * bits, 1.10, the order of keys), and a number it cannot hold would make the limits beside it unreadable. */
#include "model/stream_metadata.h"

#include "model/limits.h"

enum { JSON_DEPTH_MAX = 256 }; /* a deeper body counts as unreadable */

/* ---- scanner ---- */

struct json_scan {
        const uint8_t *at;
        const uint8_t *end;
};

/* A member of an object, in ranges of the text. */
struct json_member {
        struct bytes key;   /* between the quotes, escapes as they are */
        struct bytes value; /* without space around it */
        struct bytes whole; /* from the key's quote to the value's end */
};

static void skip_space(struct json_scan *s)
{
        while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
                s->at++;
}

static bool skip_byte(struct json_scan *s, uint8_t byte)
{
        if (s->at == s->end || *s->at != byte)
                return false;
        s->at++;
        return true;
}

static bool skip_word(struct json_scan *s, struct bytes word)
{
        if (!bytes_starts_with(bytes_of(s->at, (size_t)(s->end - s->at)), word))
                return false;
        s->at += word.size;
        return true;
}

static bool skip_digits(struct json_scan *s)
{
        const uint8_t *start = s->at;

        while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
                s->at++;
        return s->at > start;
}

static bool skip_number(struct json_scan *s)
{
        skip_byte(s, '-');
        if (!skip_byte(s, '0') && !skip_digits(s))
                return false;
        if (skip_byte(s, '.') && !skip_digits(s))
                return false;
        if (skip_byte(s, 'e') || skip_byte(s, 'E')) {
                if (!skip_byte(s, '+'))
                        skip_byte(s, '-');
                return skip_digits(s);
        }
        return true;
}

/* Value of the four hexadecimal digits at `p`, -1 if they are none. */
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

/* Behind a backslash. */
static bool skip_escape(struct json_scan *s)
{
        uint8_t c;

        if (s->at == s->end)
                return false;
        c = *s->at++;
        if (c == 'u') {
                if (s->end - s->at < 4 || hex4(s->at) < 0)
                        return false;
                s->at += 4;
                return true;
        }
        return c && strchr("\"\\/bfnrt", c);
}

static bool skip_string(struct json_scan *s, struct bytes *ret_content)
{
        const uint8_t *start;

        if (!skip_byte(s, '"'))
                return false;
        start = s->at;
        while (s->at < s->end) {
                uint8_t c = *s->at++;

                if (c == '"') {
                        *ret_content = bytes_of(start, (size_t)(s->at - 1 - start));
                        return true;
                }
                if (c < 0x20 || (c == '\\' && !skip_escape(s)))
                        return false;
        }
        return false;
}

static bool skip_value(struct json_scan *s, unsigned depth);

/* Reads the next member, behind '{' or ','. */
static bool scan_member(struct json_scan *s, unsigned depth, struct json_member *ret)
{
        const uint8_t *start;
        const uint8_t *value;

        skip_space(s);
        start = s->at;
        if (!skip_string(s, &ret->key))
                return false;
        skip_space(s);
        if (!skip_byte(s, ':'))
                return false;
        skip_space(s);
        value = s->at;
        if (!skip_value(s, depth))
                return false;
        ret->value = bytes_of(value, (size_t)(s->at - value));
        ret->whole = bytes_of(start, (size_t)(s->at - start));
        return true;
}

/* Behind '{' or '['. */
static bool skip_container(struct json_scan *s, bool is_object, unsigned depth)
{
        uint8_t close = is_object ? '}' : ']';
        struct json_member member;

        if (depth > JSON_DEPTH_MAX)
                return false;
        skip_space(s);
        if (skip_byte(s, close))
                return true;
        do {
                skip_space(s);
                if (is_object ? !scan_member(s, depth, &member) : !skip_value(s, depth))
                        return false;
                skip_space(s);
        } while (skip_byte(s, ','));
        return skip_byte(s, close);
}

/* `depth`: containers around the value. */
static bool skip_value(struct json_scan *s, unsigned depth)
{
        struct bytes content;

        if (s->at == s->end)
                return false;
        switch (*s->at) {
        case '{':
        case '[':
                return skip_container(s, *s->at++ == '{', depth + 1);
        case '"':
                return skip_string(s, &content);
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

/* Begins to walk the members of `json`; false if it is not one valid JSON object and nothing else. */
static bool members_begin(struct bytes json, struct json_scan *ret)
{
        struct json_scan s;
        struct json_scan inside;

        if (json.size == 0 || !bytes_is_utf8(json))
                return false;
        s = (struct json_scan){json.data, json.data + json.size};
        skip_space(&s);
        inside = s;
        if (!skip_byte(&inside, '{') || !skip_value(&s, 0))
                return false;
        skip_space(&s);
        if (s.at != s.end)
                return false;
        *ret = inside;
        return true;
}

/* The next member of an object that members_begin found valid; false behind the last. */
static bool members_next(struct json_scan *s, struct json_member *ret)
{
        skip_space(s);
        skip_byte(s, ',');
        skip_space(s);
        return *s->at != '}' && scan_member(s, 1, ret);
}

/* Whether the string `content` reads `word`, which is ASCII; escapes are followed ("\u0024tb" is "$tb"). */
static bool string_is(struct bytes content, const char *word)
{
        size_t at = 0;

        while (at < content.size) {
                int c = content.data[at++];

                if (c == '\\') {
                        c = content.data[at++];
                        if (c == 'u') {
                                c = hex4(content.data + at);
                                at += 4;
                        } else if (c != '"' && c != '\\' && c != '/') {
                                return false; /* a control character */
                        }
                }
                if (c == 0 || c > 0x7f || c != *word++)
                        return false;
        }
        return *word == 0;
}

/* ---- values ---- */

/* A whole number from `min` to 2^63-1. */
static bool value_number(struct bytes value, uint64_t min, uint64_t *ret)
{
        uint64_t n = 0;

        for (size_t i = 0; i < value.size; i++) {
                unsigned digit = (unsigned)value.data[i] - '0';

                if (digit > 9 || n > (REVISION_MAX - digit) / 10)
                        return false;
                n = n * 10 + digit;
        }
        if (n < min)
                return false;
        *ret = n;
        return true;
}

/* A string or an array of strings: the right of an ACL. */
static bool value_is_roles(struct bytes value)
{
        struct json_scan s = {value.data, value.data + value.size};
        struct bytes content;

        if (value.data[0] == '"')
                return true;
        if (!skip_byte(&s, '['))
                return false;
        skip_space(&s);
        if (skip_byte(&s, ']'))
                return true;
        do {
                skip_space(&s);
                if (!skip_string(&s, &content))
                        return false;
                skip_space(&s);
        } while (skip_byte(&s, ','));
        return true;
}

static const char *acl_check(struct bytes acl)
{
        static const struct {
                const char *key;
                const char *problem;
        } rights[] = {
                {"$r", "$acl: $r must be a role name or an array of role names"},
                {"$w", "$acl: $w must be a role name or an array of role names"},
                {"$d", "$acl: $d must be a role name or an array of role names"},
                {"$mr", "$acl: $mr must be a role name or an array of role names"},
                {"$mw", "$acl: $mw must be a role name or an array of role names"},
        };
        struct json_scan s;
        struct json_member member;

        if (!members_begin(acl, &s))
                return "$acl must be an object";
        while (members_next(&s, &member))
                for (unsigned i = 0; i < COUNT_OF(rights); i++)
                        if (string_is(member.key, rights[i].key) && !value_is_roles(member.value))
                                return rights[i].problem;
        return NULL;
}

/* What is wrong with one member, NULL if nothing is. */
static const char *member_check(const struct json_member *member)
{
        uint64_t n;

        if (string_is(member->key, "$maxCount") && !value_number(member->value, 1, &n))
                return "$maxCount must be a whole number of events from 1 to 9223372036854775807";
        if (string_is(member->key, "$maxAge") && !value_number(member->value, 1, &n))
                return "$maxAge must be a whole number of seconds from 1 to 9223372036854775807";
        if (string_is(member->key, "$tb") && !value_number(member->value, 0, &n))
                return "$tb must be a whole number from 0 to 9223372036854775807";
        if (string_is(member->key, "$cacheControl") && !value_number(member->value, 1, &n))
                return "$cacheControl must be a whole number of seconds from 1 to 9223372036854775807";
        if (string_is(member->key, "$tmp") && member->value.data[0] != 't' && member->value.data[0] != 'f')
                return "$tmp must be true or false";
        if (string_is(member->key, "$acl"))
                return acl_check(member->value);
        return NULL;
}

/* ---- contract ---- */

struct stream_metadata stream_metadata_parse(struct bytes json)
{
        struct stream_metadata metadata = STREAM_METADATA_NONE;
        struct json_scan s;
        struct json_member member;

        if (!members_begin(json, &s))
                return metadata;
        /* A value that does not read leaves what was there; of a key that comes twice the last counts. */
        while (members_next(&s, &member)) {
                uint64_t n;

                if (string_is(member.key, "$maxCount") && value_number(member.value, 1, &n))
                        metadata.max_count = n;
                else if (string_is(member.key, "$maxAge") && value_number(member.value, 1, &n))
                        metadata.max_age_seconds = n;
                else if (string_is(member.key, "$tb") && value_number(member.value, 0, &n))
                        metadata.truncate_before = n;
        }
        return metadata;
}

const char *stream_metadata_check(struct bytes json)
{
        struct json_scan s;
        struct json_member member;

        if (!members_begin(json, &s))
                return "the metadata of a stream must be a JSON object";
        while (members_next(&s, &member)) {
                const char *problem = member_check(&member);

                if (problem)
                        return problem;
        }
        return NULL;
}

void stream_metadata_with_truncate_before(struct bytes json, uint64_t truncate_before, struct buffer *out)
{
        struct json_scan s;
        struct json_member member;

        assert(truncate_before <= REVISION_MAX);

        buffer_add_u8(out, '{');
        if (members_begin(json, &s)) {
                while (members_next(&s, &member)) {
                        if (string_is(member.key, "$tb"))
                                continue;
                        buffer_add_bytes(out, member.whole);
                        buffer_add_u8(out, ',');
                }
        }
        buffer_format(out, "\"$tb\":%llu}", (unsigned long long)truncate_before);
}
