/* JSON is matched where it stands: one walk over the event's text, no tree, no memory, no number made binary.
 * What is not wanted is passed over. Where a key stands twice in an event, the last one counts, as for most
 * readers. Objects match by subset, also nested; inside arrays everything is equal or does not match. A text
 * matches only if all of it is JSON.
 *
 * Numbers are compared as decimals: sign, digits without zeros around them, place of the point. So 1, 1.0 and
 * 10e-1 are one number, and integers beyond 2^53 stay apart. */
#include "model/want.h"

#include <stdlib.h>

enum {
        NAME_SHOWN_MAX = 60,             /* bytes of a key in a message */
        NUMBER_PLAIN_DIGITS_MAX = 40,    /* longer ones are written with an exponent */
        NUMBER_EXPONENT_DIGITS_MAX = 15, /* with the digits of a text, sums stay within 64 bits */
        FIELD_RAW_SIZE_MAX =
                6 * LIMIT_SELECTOR_SIZE_MAX, /* all escaped; beyond it no selection has an equal */
};
/* Of a number that is wanted. What an event says beyond it equals none of them. */
#define NUMBER_EXPONENT_MAX ((int64_t)1000000000)

/* ---- decimals ---- */

/* A number's text as a decimal; `first` and `last` are its first and last digit that is not zero. */
struct decimal {
        const uint8_t *first; /* NULL: zero */
        const uint8_t *last;
        size_t digits; /* between them, with both */
        int64_t point;
        bool is_negative;
};

/* The exponent behind the 'e'; false if it has too many digits to count. */
static bool read_exponent(const uint8_t *at, const uint8_t *end, int64_t *ret)
{
        bool is_negative = at < end && *at == '-';
        int64_t n = 0;

        if (at < end && (*at == '-' || *at == '+'))
                at++;
        while (at < end && *at == '0')
                at++;
        if (end - at > NUMBER_EXPONENT_DIGITS_MAX)
                return false;
        while (at < end)
                n = n * 10 + (*at++ - '0');
        *ret = is_negative ? -n : n;
        return true;
}

/* `text` is a number of RFC 8259. False: its exponent is beyond counting. */
static bool read_decimal(struct bytes text, struct decimal *ret)
{
        const uint8_t *at = text.data;
        const uint8_t *end = at + text.size;
        int64_t whole = -1; /* digits before the point */
        int64_t index = 0;
        int64_t first_index = 0, last_index = 0;
        int64_t exponent = 0;

        *ret = (struct decimal){.is_negative = at < end && *at == '-'};
        at += ret->is_negative;
        for (; at < end && *at != 'e' && *at != 'E'; at++) {
                if (*at == '.') {
                        whole = index;
                        continue;
                }
                if (*at != '0') {
                        if (!ret->first) {
                                ret->first = at;
                                first_index = index;
                        }
                        ret->last = at;
                        last_index = index;
                }
                index++;
        }
        if (!ret->first) { /* zero, whatever its sign and exponent */
                ret->is_negative = false;
                return true;
        }
        if (at < end && !read_exponent(at + 1, end, &exponent))
                return false;
        ret->digits = (size_t)(last_index - first_index + 1);
        ret->point = (whole < 0 ? index : whole) - first_index + exponent;
        return true;
}

static bool equals_number(const struct want *w, struct bytes text)
{
        struct decimal d;
        size_t n = 0;

        if (!read_decimal(text, &d))
                return false;
        if (d.digits != w->text.size || d.is_negative != w->is_negative || d.point != w->point)
                return false;
        for (const uint8_t *at = d.first; n < d.digits; at++) {
                if (*at == '.')
                        continue;
                if (*at != w->text.data[n])
                        return false;
                n++;
        }
        return true;
}

static void add_zeros(struct buffer *out, int64_t count)
{
        while (count-- > 0)
                buffer_add_u8(out, '0');
}

/* One form for each number, plain where that is short. */
static void write_number(struct json_out *j, const struct want *w)
{
        struct buffer text = {0};
        int64_t size = (int64_t)w->text.size;

        if (w->is_negative)
                buffer_add_u8(&text, '-');
        if (size == 0) {
                buffer_add_u8(&text, '0');
        } else if (w->point > 0 && w->point <= NUMBER_PLAIN_DIGITS_MAX) {
                size_t whole = (size_t)MIN(w->point, size);

                buffer_add(&text, w->text.data, whole);
                add_zeros(&text, w->point - size);
                if (size > w->point) {
                        buffer_add_u8(&text, '.');
                        buffer_add(&text, w->text.data + whole, w->text.size - whole);
                }
        } else if (w->point <= 0 && w->point > -6) {
                buffer_add_string(&text, "0.");
                add_zeros(&text, -w->point);
                buffer_add_bytes(&text, w->text);
        } else {
                buffer_add_u8(&text, w->text.data[0]);
                if (size > 1) {
                        buffer_add_u8(&text, '.');
                        buffer_add(&text, w->text.data + 1, w->text.size - 1);
                }
                buffer_format(&text, "e%lld", (long long)w->point - 1);
        }
        json_raw(j, buffer_bytes(&text));
        buffer_fini(&text);
}

/* ---- reading what an event must have ---- */

static struct want *new_want(struct want_parser *p, enum want_kind kind, const uint8_t *at)
{
        struct want *w = arena_get(p->arena, sizeof *w);

        *w = (struct want){.kind = (uint8_t)kind, .at = at};
        return w;
}

static bool parse_number(struct want_parser *p, struct want *w)
{
        struct bytes text;
        struct decimal d;
        uint8_t *digits;
        size_t n = 0;

        if (!json_in_value(&p->in, &text))
                return false;
        if (!read_decimal(text, &d) || d.point > NUMBER_EXPONENT_MAX || d.point < -NUMBER_EXPONENT_MAX)
                return json_in_fail(&p->in, w->at, "the exponent of a number is beyond a thousand million");
        digits = arena_get(p->arena, d.digits + 1);
        for (const uint8_t *at = d.first; n < d.digits; at++)
                if (*at != '.')
                        digits[n++] = *at;
        w->text = bytes_of(digits, n);
        w->is_negative = d.is_negative;
        w->point = d.point;
        return true;
}

static int compare_keys(const void *a, const void *b)
{
        return bytes_compare((*(struct want *const *)a)->key, (*(struct want *const *)b)->key);
}

static bool take_children(struct want_parser *p, struct want *w, const struct buffer *children)
{
        w->count = (unsigned)(children->size / sizeof(struct want *));
        w->children = arena_get(p->arena, children->size + 1);
        if (!w->count)
                return true;
        memcpy(w->children, children->data, children->size);
        if (w->kind != WANT_OBJECT)
                return true;
        qsort(w->children, w->count, sizeof *w->children, compare_keys);
        for (unsigned i = 1; i < w->count; i++) {
                const struct want *child = w->children[i];

                if (bytes_equal(child->key, w->children[i - 1]->key))
                        return json_in_fail(&p->in, MAX(child->at, w->children[i - 1]->at),
                                "the key \"%.*s\" stands twice",
                                (int)MIN(child->key.size, (size_t)NAME_SHOWN_MAX), child->key.data);
        }
        return true;
}

static bool parse_children(struct want_parser *p, struct want *w, unsigned depth)
{
        char bracket = w->kind == WANT_OBJECT ? '{' : '[';
        CLEANUP(buffer_fini) struct buffer children = {0};
        bool is_empty, has_more;

        if (depth > LIMIT_SELECTOR_DEPTH_MAX)
                return json_in_fail(
                        &p->in, w->at, "values are nested deeper than %d levels", LIMIT_SELECTOR_DEPTH_MAX);
        if (!json_in_open(&p->in, bracket, &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct want *child;
                struct bytes key = BYTES_EMPTY;

                if (w->kind == WANT_OBJECT && !json_in_key(&p->in, p->arena, &key))
                        return false;
                if (!want_parse(p, depth, &child) || !json_in_more(&p->in, bracket, &has_more))
                        return false;
                child->key = arena_copy(p->arena, key);
                buffer_add(&children, &child, sizeof(struct want *));
        }
        return take_children(p, w, &children);
}

/* `depth`: containers around the value. */
bool want_parse(struct want_parser *p, unsigned depth, struct want **ret)
{
        enum json_in_kind kind = json_in_kind(&p->in);
        struct want *w;
        struct bytes text;

        switch (kind) {
        case JSON_OBJECT_IN:
        case JSON_ARRAY_IN:
                *ret = new_want(p, kind == JSON_OBJECT_IN ? WANT_OBJECT : WANT_ARRAY, p->in.at);
                return parse_children(p, *ret, depth + 1);
        case JSON_NUMBER_IN:
                *ret = new_want(p, WANT_NUMBER, p->in.at);
                return parse_number(p, *ret);
        case JSON_STRING_IN:
                w = *ret = new_want(p, WANT_STRING, p->in.at);
                if (!json_in_string(&p->in, p->arena, &text))
                        return false;
                break;
        default:
                w = *ret = new_want(p, WANT_WORD, p->in.at);
                if (!json_in_value(&p->in, &text))
                        return false;
        }
        w->text = arena_copy(p->arena, text); /* the text goes, the selection stays */
        return true;
}

void want_write(struct json_out *j, const struct want *w)
{
        switch ((enum want_kind)w->kind) {
        case WANT_OBJECT:
        case WANT_ARRAY:
                if (w->kind == WANT_OBJECT)
                        json_object_begin(j);
                else
                        json_array_begin(j);
                for (unsigned i = 0; i < w->count; i++) {
                        if (w->kind == WANT_OBJECT)
                                json_key_bytes(j, w->children[i]->key);
                        want_write(j, w->children[i]);
                }
                if (w->kind == WANT_OBJECT)
                        json_object_end(j);
                else
                        json_array_end(j);
                break;
        case WANT_STRING:
                json_bytes(j, w->text);
                break;
        case WANT_NUMBER:
                write_number(j, w);
                break;
        case WANT_WORD:
                json_raw(j, w->text);
        }
}

/* ---- matching JSON ---- */

static bool skip_json(struct json_in *in)
{
        struct bytes value;

        (void)!json_in_value(in, &value); /* a fault of the text is kept in `in` */
        return false;
}

static struct want *find_child(const struct want *w, struct bytes key, bool has_escapes)
{
        unsigned low = 0, high = w->count;

        if (has_escapes) {
                for (unsigned i = 0; i < w->count; i++)
                        if (json_in_raw_equals(key, true, w->children[i]->key))
                                return w->children[i];
                return NULL;
        }
        while (low < high) {
                unsigned middle = low + (high - low) / 2;
                int order = bytes_compare(w->children[middle]->key, key);

                if (order == 0)
                        return w->children[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

static bool match_json(struct json_in *in, struct want *w, bool is_exact);

static bool match_object(struct json_in *in, struct want *w, bool is_exact)
{
        bool has_foreign = false, is_empty, has_more;

        for (unsigned i = 0; i < w->count; i++)
                w->children[i]->is_matched = false;
        if (!json_in_open(in, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct want *child;
                struct bytes key;
                bool has_escapes;

                if (!json_in_raw_key(in, &key, &has_escapes))
                        return false;
                child = find_child(w, key, has_escapes);
                if (child) {
                        child->is_matched = match_json(in, child, is_exact);
                } else {
                        has_foreign = true;
                        skip_json(in);
                }
                if (in->has_failed || !json_in_more(in, '{', &has_more))
                        return false;
        }
        for (unsigned i = 0; i < w->count; i++)
                if (!w->children[i]->is_matched)
                        return false;
        return !is_exact || !has_foreign;
}

static bool match_array(struct json_in *in, struct want *w)
{
        bool is_equal = true, is_empty, has_more;
        unsigned i = 0;

        if (!json_in_open(in, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more; i++) {
                is_equal = i < w->count && is_equal ? match_json(in, w->children[i], true) : skip_json(in);
                if (in->has_failed || !json_in_more(in, '[', &has_more))
                        return false;
        }
        return is_equal && i == w->count;
}

/* Passes over one value and says whether it is wanted. The depth is that of the selection: what lies deeper
 * in the event is passed over. */
static bool match_json(struct json_in *in, struct want *w, bool is_exact)
{
        enum json_in_kind kind = json_in_kind(in);
        struct bytes text;
        bool has_escapes;

        switch ((enum want_kind)w->kind) {
        case WANT_OBJECT:
                return kind == JSON_OBJECT_IN ? match_object(in, w, is_exact) : skip_json(in);
        case WANT_ARRAY:
                return kind == JSON_ARRAY_IN ? match_array(in, w) : skip_json(in);
        case WANT_STRING:
                if (kind != JSON_STRING_IN)
                        return skip_json(in);
                return json_in_raw_string(in, &text, &has_escapes) &&
                       json_in_raw_equals(text, has_escapes, w->text);
        case WANT_NUMBER:
                if (kind != JSON_NUMBER_IN)
                        return skip_json(in);
                return json_in_value(in, &text) && equals_number(w, text);
        case WANT_WORD:
                return json_in_value(in, &text) && bytes_equal(text, w->text);
        }
        return false;
}

bool want_match(struct want *w, struct bytes text)
{
        struct json_in in;

        json_in_begin(&in, text, 1);
        if (json_in_kind(&in) != JSON_OBJECT_IN)
                return false;
        return match_json(&in, w, false) && json_in_end(&in) && bytes_is_utf8(text);
}

struct want *want_child(const struct want *object, struct bytes key)
{
        return find_child(object, key, false);
}

/* ---- fields ---- */

static void add_decimal(struct buffer *out, bool is_negative, int64_t point)
{
        buffer_add_u8(out, is_negative ? '-' : '+');
        buffer_add_u64(out, (uint64_t)point);
}

static void add_value(const struct want *w, struct buffer *out)
{
        if (w->kind == WANT_NUMBER)
                add_decimal(out, w->is_negative, w->point);
        else if (w->kind == WANT_STRING)
                buffer_add_u8(out, '"');
        buffer_add_bytes(out, w->text);
}

/* A guess at how few events have it: numbers and long strings are ids, words are states. */
static size_t weigh(const struct want *w)
{
        if (w->kind == WANT_WORD)
                return 1;
        return 2 + w->text.size * (w->kind == WANT_NUMBER ? 4 : 1);
}

/* Gives the best field at or below `w`, whose place is `path`; the best so far weighs `*weight`. */
static void find_field(const struct want *w, struct buffer *path, struct buffer *place, size_t *weight,
        const struct want **ret)
{
        size_t size = path->size;

        if (w->kind == WANT_OBJECT) {
                for (unsigned i = 0; i < w->count; i++) {
                        buffer_add_varint(path, w->children[i]->key.size);
                        buffer_add_bytes(path, w->children[i]->key);
                        find_field(w->children[i], path, place, weight, ret);
                        path->size = size;
                }
        } else if (w->kind != WANT_ARRAY && weigh(w) > *weight) {
                *weight = weigh(w);
                *ret = w;
                buffer_clear(place);
                buffer_add_bytes(place, buffer_bytes(path));
        }
}

bool want_field(const struct want *object, struct buffer *ret_place, struct buffer *ret_value)
{
        CLEANUP(buffer_fini) struct buffer path = {0};
        const struct want *found = NULL;
        size_t weight = 0;

        find_field(object, &path, ret_place, &weight, &found);
        if (found)
                add_value(found, ret_value);
        return found != NULL;
}

static bool read_number(struct bytes text, struct buffer *out)
{
        struct decimal d;
        size_t n = 0;

        if (!read_decimal(text, &d))
                return false;
        add_decimal(out, d.is_negative, d.point);
        for (const uint8_t *at = d.first; n < d.digits; at++) {
                if (*at == '.')
                        continue;
                buffer_add_u8(out, *at);
                n++;
        }
        return true;
}

static bool read_scalar(struct json_in *in, struct buffer *out)
{
        enum json_in_kind kind = json_in_kind(in);
        struct bytes text;
        bool has_escapes;

        if (kind == JSON_STRING_IN) {
                buffer_add_u8(out, '"');
                return json_in_raw_string(in, &text, &has_escapes) && text.size <= FIELD_RAW_SIZE_MAX &&
                       json_in_raw_unescape(text, has_escapes, out);
        }
        if (kind == JSON_OBJECT_IN || kind == JSON_ARRAY_IN)
                return skip_json(in);
        if (!json_in_value(in, &text) || text.size > FIELD_RAW_SIZE_MAX)
                return false;
        if (kind == JSON_NUMBER_IN)
                return read_number(text, out);
        buffer_add_bytes(out, text);
        return true;
}

/* Passes over one value; `base`: what `out` had before it. The depth is that of the place. */
static bool read_field(struct json_in *in, struct bytes place, struct buffer *out, size_t base)
{
        const uint8_t *at = place.data;
        const uint8_t *end = at + place.size;
        bool is_found = false, is_empty, has_more;
        struct bytes name, key;
        uint64_t size = 0;

        out->size = base;
        if (place.size == 0)
                return read_scalar(in, out);
        if (json_in_kind(in) != JSON_OBJECT_IN)
                return skip_json(in);
        if (!varint_get(&at, end, &size) || !json_in_open(in, '{', &is_empty))
                return false;
        name = bytes_of(at, size);
        for (has_more = !is_empty; has_more;) {
                bool has_escapes;

                if (!json_in_raw_key(in, &key, &has_escapes))
                        return false;
                if (json_in_raw_equals(key, has_escapes, name))
                        is_found = read_field(in, bytes_of(at + size, (size_t)(end - at) - size), out, base);
                else
                        skip_json(in);
                if (in->has_failed || !json_in_more(in, '{', &has_more))
                        return false;
        }
        return is_found;
}

bool want_read_field(struct bytes place, struct bytes text, struct buffer *out)
{
        struct json_in in;

        json_in_begin(&in, text, 1);
        return read_field(&in, place, out, out->size);
}
