/* Parameters. What is not known, not in its range or given twice is refused with the next step: a parameter
 * that is silently ignored reads the wrong events. */
#include "api/room.h"

#include <stdio.h>
#include <strings.h>

enum { PARAMETERS_MAX = 60, NAME_COMPARED_MAX = 31 };

/* ---- nearest name ---- */

static unsigned distance(struct bytes a, struct bytes b)
{
        unsigned row[NAME_COMPARED_MAX + 1];

        a.size = MIN(a.size, (size_t)NAME_COMPARED_MAX);
        b.size = MIN(b.size, (size_t)NAME_COMPARED_MAX);
        for (unsigned i = 0; i <= b.size; i++)
                row[i] = i;
        for (unsigned y = 1; y <= a.size; y++) {
                unsigned diagonal = row[0];

                row[0] = y;
                for (unsigned x = 1; x <= b.size; x++) {
                        unsigned above = row[x];
                        unsigned same = diagonal + (a.data[y - 1] != b.data[x - 1]);

                        row[x] = MIN(MIN(above, row[x - 1]) + 1, same);
                        diagonal = above;
                }
        }
        return row[b.size];
}

/* The next word of *at; false at the end. */
static bool next_word(const char **at, struct bytes *ret)
{
        const char *start = *at + strspn(*at, " ");
        size_t size = strcspn(start, " ");

        *ret = bytes_of(start, size);
        *at = start + size;
        return size > 0;
}

void nearest_name(struct bytes name, const char *names, char *ret, size_t size)
{
        unsigned best = UINT32_MAX;
        struct bytes word;

        snprintf(ret, size, "%s", "");
        while (next_word(&names, &word)) {
                bool is_begun = name.size > 1 && bytes_starts_with(word, name);
                unsigned d = is_begun ? 0 : distance(name, word);

                if (d >= best)
                        continue;
                best = d;
                snprintf(ret, size, "%.*s", (int)word.size, (const char *)word.data);
        }
}

/* ---- which are known ---- */

static bool is_in(const char *names, struct bytes name)
{
        struct bytes word;

        while (next_word(&names, &word))
                if (bytes_equal(word, name))
                        return true;
        return false;
}

static bool may_repeat(struct bytes name)
{
        return bytes_equal_string(name, "stream-prefix") || bytes_equal_string(name, "type-prefix");
}

static void refuse_unknown(struct call *c, struct bytes name, const char *queries)
{
        char nearest[64];
        char next[512];

        nearest_name(name, queries, nearest, sizeof nearest);
        if (*nearest)
                snprintf(next, sizeof next, "did you mean '%s'? Known here: %s", nearest, queries);
        else
                snprintf(next, sizeof next, "leave it out: this path takes no parameters");
        call_refuse(c, 400, "unknown-parameter", "The parameter is not known", next,
                "this path has no parameter '%.*s'", SHOWN(name));
}

bool query_known(struct call *c, const char *queries)
{
        struct bytes name, value, earlier;

        if (gateway_query_at(c->request, PARAMETERS_MAX, &name, &value)) {
                call_refuse_bad(c, "send fewer", "there are more than %d parameters", PARAMETERS_MAX);
                return false;
        }
        for (unsigned i = 0; gateway_query_at(c->request, i, &name, &value); i++) {
                if (!is_in(queries, name)) {
                        refuse_unknown(c, name, queries);
                        return false;
                }
                for (unsigned k = 0; k < i && !may_repeat(name); k++) {
                        gateway_query_at(c->request, k, &earlier, &value);
                        if (bytes_equal(earlier, name)) {
                                call_refuse_bad(c, "give it once", "the parameter '%.*s' is given twice",
                                        SHOWN(name));
                                return false;
                        }
                }
        }
        return true;
}

struct bytes call_client_name(const struct call *c)
{
        struct bytes name = BYTES_EMPTY;

        if (!gateway_query(c->request, "name", &name))
                gateway_header(c->request, "user-agent", &name);
        name.size = MIN(name.size, (size_t)NAME_SHOWN_MAX);
        return name;
}

/* ---- values ---- */

bool expected_parse(struct bytes text, struct expected *ret)
{
        *ret = (struct expected){.kind = EXPECTED_ANY};
        if (bytes_equal_string(text, "any"))
                return true;
        ret->kind = EXPECTED_NONE;
        if (bytes_equal_string(text, "none"))
                return true;
        ret->kind = EXPECTED_EXISTS;
        if (bytes_equal_string(text, "exists"))
                return true;
        ret->kind = EXPECTED_EXACT;
        return bytes_to_number(text, &ret->revision) && ret->revision < REVISION_MAX;
}

bool query_number(
        struct call *c, const char *name, uint64_t min, uint64_t max, uint64_t otherwise, uint64_t *ret)
{
        struct bytes text;

        *ret = otherwise;
        if (!gateway_query(c->request, name, &text))
                return true;
        if (bytes_to_number(text, ret) && *ret >= min && *ret <= max)
                return true;
        if (max == UINT64_MAX)
                call_refuse_bad(c, NULL, "%s=%.*s: a number from %llu on is expected", name, SHOWN(text),
                        (unsigned long long)min);
        else
                call_refuse_bad(c, NULL, "%s=%.*s: a number from %llu to %llu is expected", name, SHOWN(text),
                        (unsigned long long)min, (unsigned long long)max);
        return false;
}

bool query_switch(struct call *c, const char *name, bool *ret)
{
        struct bytes text;

        *ret = false;
        if (!gateway_query(c->request, name, &text))
                return true;
        *ret = !text.size || bytes_equal_string(text, "true") || bytes_equal_string(text, "1");
        if (*ret || bytes_equal_string(text, "false") || bytes_equal_string(text, "0"))
                return true;
        call_refuse_bad(c, NULL, "%s=%.*s: true or false is expected", name, SHOWN(text));
        return false;
}

/* An entity tag of a stream or of its metadata (RFC 9110, 8.8.3): the revision, and what else is in it behind
 * a semicolon. */
static bool revision_of_tag(struct bytes tag, struct expected *ret)
{
        const uint8_t *end;

        if (bytes_equal_string(tag, "*")) {
                *ret = (struct expected){.kind = EXPECTED_EXISTS};
                return true;
        }
        if (tag.size >= 2 && tag.data[0] == '"' && tag.data[tag.size - 1] == '"')
                tag = bytes_of(tag.data + 1, tag.size - 2);
        end = memchr(tag.data ? (const void *)tag.data : "", ';', tag.size);
        if (end)
                tag.size = (size_t)(end - tag.data);
        return expected_parse(tag, ret) && (ret->kind == EXPECTED_EXACT || ret->kind == EXPECTED_NONE);
}

/* The conditions of HTTP itself say the same as Nilo-Expect. */
static bool conditions_expected(struct call *c, bool is_given, struct expected *ret)
{
        struct bytes match, none_match;
        bool has_match = gateway_header(c->request, "if-match", &match);
        bool has_none_match = gateway_header(c->request, "if-none-match", &none_match);

        if (!has_match && !has_none_match)
                return true;
        if (is_given || (has_match && has_none_match)) {
                call_refuse_bad(c, "send one of them",
                        "of Nilo-Expect, expect, If-Match and If-None-Match more than one is given");
                return false;
        }
        c->is_conditional = true;
        if (has_none_match && bytes_equal_string(none_match, "*")) {
                *ret = (struct expected){.kind = EXPECTED_NONE};
                return true;
        }
        if (has_match && revision_of_tag(match, ret))
                return true;
        call_refuse_bad(c,
                "send If-Match: \"5\" (the revision of the last event that you know), If-Match: * (there is "
                "one), or If-None-Match: * (there is none)",
                "'%.*s' is no condition for a write", SHOWN(has_match ? match : none_match));
        return false;
}

bool query_expected(struct call *c, struct expected *ret)
{
        struct bytes header, query;
        bool has_header = gateway_header(c->request, "nilo-expect", &header);
        bool has_query = gateway_query(c->request, "expect", &query);

        *ret = (struct expected){.kind = EXPECTED_ANY};
        if (!conditions_expected(c, has_header || has_query, ret))
                return false;
        if (has_header && has_query && !bytes_equal(header, query)) {
                call_refuse_bad(
                        c, "send one of them", "the header Nilo-Expect and the parameter expect differ");
                return false;
        }
        if (!has_header && !has_query)
                return true;
        if (expected_parse(has_header ? header : query, ret))
                return true;
        call_refuse_bad(c, "send any, none, exists, or the revision of the last event that you know",
                "'%.*s' is no expected revision", SHOWN(has_header ? header : query));
        return false;
}

/* ---- links ---- */

void query_add_escaped(struct buffer *out, struct bytes text)
{
        static const char hex[] = "0123456789ABCDEF";

        for (size_t i = 0; i < text.size; i++) {
                uint8_t b = text.data[i];
                bool is_plain = (b >= '0' && b <= '9') || ((b | 0x20) >= 'a' && (b | 0x20) <= 'z') ||
                                b == '-' || b == '.' || b == '_';

                if (is_plain)
                        buffer_add_u8(out, b);
                else
                        buffer_format(out, "%%%c%c", hex[b >> 4], hex[b & 15]);
        }
}

void link_to_json(struct call *c, struct json_out *j, const char *name, struct bytes value)
{
        struct buffer link = {0};
        struct bytes found, other;

        buffer_add_bytes(&link, gateway_path(c->request));
        buffer_format(&link, "?%s=", name);
        query_add_escaped(&link, value);
        for (unsigned i = 0; gateway_query_at(c->request, i, &found, &other); i++) {
                if (bytes_equal_string(found, name))
                        continue;
                buffer_format(&link, "&%.*s=", (int)found.size, (const char *)found.data);
                query_add_escaped(&link, other);
        }
        json_bytes(j, buffer_bytes(&link));
        buffer_fini(&link);
}

/* ---- forms ---- */

static bool contains(struct bytes text, const char *word)
{
        size_t size = strlen(word);

        for (size_t i = 0; i + size <= text.size; i++)
                if (strncasecmp((const char *)text.data + i, word, size) == 0)
                        return true;
        return false;
}

enum form call_form(const struct call *c)
{
        struct bytes accept;

        if (!gateway_header(c->request, "accept", &accept))
                return FORM_JSON;
        if (contains(accept, "text/event-stream"))
                return FORM_EVENTS;
        return contains(accept, "ndjson") || contains(accept, "jsonl") ? FORM_LINES : FORM_JSON;
}

/* ---- where a read begins and what it wants ---- */

static bool query_from(struct call *c, struct read_query *q)
{
        struct bytes text;

        q->from = q->is_backward ? FROM_END : FROM_START;
        q->is_at_number = !q->is_backward;
        if (!gateway_query(c->request, "from", &text))
                return true;
        if (bytes_equal_string(text, "start") || bytes_equal_string(text, "end")) {
                q->from = text.data[0] == 's' ? FROM_START : FROM_END;
                q->is_at_number = q->from == FROM_START;
                return true;
        }
        q->from = FROM_NUMBER;
        q->is_at_number = true;
        if (bytes_to_number(text, &q->number))
                return true;
        call_refuse_bad(c, "send start, end, or a number from 0", "from=%.*s is no %s", SHOWN(text),
                c->stream.size ? "revision" : "position");
        return false;
}

static bool query_direction(struct call *c, struct read_query *q)
{
        struct bytes text;

        if (!gateway_query(c->request, "direction", &text) || bytes_equal_string(text, "forward"))
                return true;
        q->is_backward = bytes_equal_string(text, "backward");
        if (q->is_backward)
                return true;
        call_refuse_bad(c, "send forward or backward", "direction=%.*s is not known", SHOWN(text));
        return false;
}

/* The parameters of the name, in the arena. */
static unsigned query_all(struct call *c, const char *name, struct bytes **ret)
{
        struct bytes *list = arena_get(call_arena(c), PARAMETERS_MAX * sizeof *list);
        struct bytes found, value;
        unsigned count = 0;

        for (unsigned i = 0; gateway_query_at(c->request, i, &found, &value); i++)
                if (bytes_equal_string(found, name))
                        list[count++] = value;
        *ret = list;
        return count;
}

static bool query_filter(struct call *c, struct read_query *q)
{
        static const struct {
                const char *name;
                enum filter_target target;
                bool is_regex;
        } kinds[] = {
                {"stream-prefix", FILTER_STREAM, false},
                {"stream-regex", FILTER_STREAM, true},
                {"type-prefix", FILTER_TYPE, false},
                {"type-regex", FILTER_TYPE, true},
        };
        struct filter_options options = {0};
        const char *given = NULL;
        char why[256] = "";

        for (unsigned i = 0; i < COUNT_OF(kinds); i++) {
                struct bytes *values;
                unsigned count = query_all(c, kinds[i].name, &values);

                if (!count)
                        continue;
                if (given) {
                        call_refuse_bad(c, "use one kind; prefixes may be repeated",
                                "%s and %s are both given", given, kinds[i].name);
                        return false;
                }
                given = kinds[i].name;
                options.target = kinds[i].target;
                if (kinds[i].is_regex && !values[0].size) {
                        call_refuse_bad(c, "leave it out to read everything", "%s is empty", given);
                        return false;
                }
                if (kinds[i].is_regex) {
                        options.regex = values[0];
                } else {
                        options.prefixes = values;
                        options.prefix_count = count;
                }
        }
        if (!given || filter_new(&options, &q->filter, why, sizeof why) == 0)
                return true;
        call_refuse_bad(c, NULL, "%s: %s", given, why);
        return false;
}

bool read_query(struct call *c, struct read_query *q)
{
        *q = (struct read_query){0};
        return query_direction(c, q) && query_from(c, q) &&
               query_number(c, "limit", 1, UINT64_MAX, UINT64_MAX, &q->limit) &&
               query_switch(c, "resolve-links", &q->resolve_links) && query_filter(c, q);
}

struct store_read_options read_options(struct call *c, struct read_query *q)
{
        struct store_read_options o = {
                .stream = c->stream,
                .is_backward = q->is_backward,
                .from = q->from,
                .number = q->number,
                .limit = q->limit,
                .filter = q->filter,
                .resolve_links = q->resolve_links,
        };

        q->filter = NULL;
        /* The store takes a position as KurrentDB does, exclusive backwards; people count inclusively. */
        if (!c->stream.size && q->is_backward && q->number < UINT64_MAX)
                o.number = q->number + 1;
        return o;
}
