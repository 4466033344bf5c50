/* JSON (RFC 8259) read where it stands: values are ranges of the text, so numbers of any size and the
 * author's spelling survive on their way from a server to a file and back. */
#include <jansson.h>
#include <string.h>

#include "base/memory.h"
#include "nilo/client.h"

enum { DEPTH_MAX = 256 };

struct scan {
        const char *at;
        const char *end;
};

static void skip_space(struct scan *s)
{
        while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
                s->at++;
}

static bool skip_byte(struct scan *s, char byte)
{
        if (s->at == s->end || *s->at != byte)
                return false;
        s->at++;
        return true;
}

static bool skip_digits(struct scan *s)
{
        const char *start = s->at;

        while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
                s->at++;
        return s->at > start;
}

static bool skip_number(struct scan *s)
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

static bool skip_word(struct scan *s, const char *word)
{
        size_t size = strlen(word);

        if ((size_t)(s->end - s->at) < size || memcmp(s->at, word, size) != 0)
                return false;
        s->at += size;
        return true;
}

/* What an escape means is for the reader of the string; here only its end matters. */
static bool skip_string(struct scan *s)
{
        if (!skip_byte(s, '"'))
                return false;
        while (s->at < s->end) {
                char c = *s->at++;

                if (c == '"')
                        return true;
                if ((uint8_t)c < 0x20 || (c == '\\' && s->at++ == s->end))
                        return false;
        }
        return false;
}

static bool skip_value(struct scan *s, unsigned depth)
{
        bool is_object;
        char close;

        skip_space(s);
        if (s->at == s->end)
                return false;
        if (*s->at == '"')
                return skip_string(s);
        if (*s->at == 't')
                return skip_word(s, "true");
        if (*s->at == 'f')
                return skip_word(s, "false");
        if (*s->at == 'n')
                return skip_word(s, "null");
        if (*s->at != '{' && *s->at != '[')
                return skip_number(s);
        if (depth == DEPTH_MAX)
                return false;
        is_object = *s->at++ == '{';
        close = is_object ? '}' : ']';
        skip_space(s);
        if (skip_byte(s, close))
                return true;
        do {
                skip_space(s);
                if (is_object) {
                        if (!skip_string(s))
                                return false;
                        skip_space(s);
                        if (!skip_byte(s, ':'))
                                return false;
                }
                if (!skip_value(s, depth + 1))
                        return false;
                skip_space(s);
        } while (skip_byte(s, ','));
        return skip_byte(s, close);
}

bool nilo_json_is_valid(const char *json, size_t size)
{
        struct scan s = {json, json + size};

        if (!skip_value(&s, 0))
                return false;
        skip_space(&s);
        return s.at == s.end;
}

bool nilo_json_field(const char *json, size_t size, const char *name, const char **ret, size_t *ret_size)
{
        struct scan s = {json, json + size};
        size_t name_size = strlen(name);

        skip_space(&s);
        if (!skip_byte(&s, '{'))
                return false;
        do {
                const char *key;
                bool is_it;

                skip_space(&s);
                key = s.at + 1;
                if (!skip_string(&s))
                        return false;
                is_it = (size_t)(s.at - 1 - key) == name_size && memcmp(key, name, name_size) == 0;
                skip_space(&s);
                if (!skip_byte(&s, ':'))
                        return false;
                skip_space(&s);
                *ret = s.at;
                if (!skip_value(&s, 1))
                        return false;
                *ret_size = (size_t)(s.at - *ret);
                if (is_it)
                        return true;
                skip_space(&s);
        } while (skip_byte(&s, ','));
        return false;
}

char *nilo_json_string(const char *json, size_t size, const char *name)
{
        const char *value;
        size_t value_size;
        json_t *decoded;
        char *text = NULL;

        if (!nilo_json_field(json, size, name, &value, &value_size) || *value != '"')
                return NULL;
        decoded = json_loadb(value, value_size, JSON_DECODE_ANY, NULL);
        if (decoded)
                text = memory_copy_string(json_string_value(decoded));
        json_decref(decoded);
        return text;
}

bool nilo_json_number(const char *json, size_t size, const char *name, uint64_t *ret)
{
        const char *value;
        size_t value_size;
        uint64_t n = 0;

        if (!nilo_json_field(json, size, name, &value, &value_size) || !value_size)
                return false;
        for (size_t i = 0; i < value_size; i++) {
                unsigned digit = (unsigned)value[i] - '0';

                if (digit > 9 || n > (UINT64_MAX - digit) / 10)
                        return false;
                n = n * 10 + digit;
        }
        *ret = n;
        return true;
}
