/* Selections: read, written in one canonical form, matched.
 *
 * A selection's JSON says everything about it: it is what is stored, compared and copied. Keys are sorted,
 * lists of names sorted and without repeats (prefixes without those that begin with another one), numbers in
 * one form, strings unescaped and escaped again. */
#include "model/selector.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/memory.h"
#include "model/want.h"

enum {
        NAME_SHOWN_MAX = 60, /* bytes of a name in a message */
        MATCH_NODE_BLOCK_SIZE = 512,
};
static_assert(LIMIT_SELECTOR_DEPTH_MAX + 2 <= JSON_OUT_DEPTH_MAX, "a selection can be written");

enum pattern_field {
        FIELD_CONTENT_TYPE,
        FIELD_DATA,
        FIELD_ID,
        FIELD_METADATA,
        FIELD_REVISION,
        FIELD_STREAM,
        FIELD_TYPE,
        PATTERN_FIELDS,
};
static const char *const pattern_field_names[PATTERN_FIELDS] = {
        "content_type", "data", "id", "metadata", "revision", "stream", "type"};

struct selector {
        enum selector_kind kind;
        struct bytes json; /* canonical; ours */

        /* by names: sorted; the stream, the prefixes, the types; of patterns and payloads the key's */
        struct bytes *names; /* ours, the bytes behind them */
        unsigned name_count;
        enum selector_key key;

        /* SELECT_FILTER, SELECT_PREFIX; compiled for the first match, since most of equal selections never
         * match */
        struct filter *filter;
        enum filter_target target;
        struct bytes regex; /* borrows from `names` block; empty: by names */

        /* SELECT_PATTERN, SELECT_PAYLOAD */
        size_t place_size; /* of the field that is the key's name */
        struct arena arena;
        struct want *match;
        struct want *fields[PATTERN_FIELDS]; /* those of `match`, NULL: none */
        struct event_id id;
        uint64_t revision;
        enum content_type content_type;
};

static int refuse(char *why, size_t why_size, const char *text)
{
        snprintf(why, why_size, "%s", text);
        return FILTER_INVALID;
}

static bool match_pattern(struct selector *s, const struct event_view *e)
{
        struct want **f = s->fields;

        if (f[FIELD_STREAM] && !bytes_equal(e->stream, f[FIELD_STREAM]->text))
                return false;
        if (f[FIELD_TYPE] && !bytes_equal(e->type, f[FIELD_TYPE]->text))
                return false;
        if (f[FIELD_REVISION] && e->revision != s->revision)
                return false;
        if (f[FIELD_ID] && !event_id_equal(&e->id, &s->id))
                return false;
        if (f[FIELD_CONTENT_TYPE] && e->content_type != s->content_type)
                return false;
        if (f[FIELD_METADATA] && !want_match(f[FIELD_METADATA], e->metadata))
                return false;
        return !f[FIELD_DATA] || (e->content_type == CONTENT_JSON && want_match(f[FIELD_DATA], e->data));
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
        return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Copies the names, sorted, without repeats; of prefixes without those that begin with another one. `regex`
 * is kept beside them. */
static void keep_names(
        struct selector *s, const struct bytes *names, unsigned count, struct bytes regex, bool are_prefixes)
{
        size_t size = regex.size;
        unsigned kept = 0;
        uint8_t *to;

        for (unsigned i = 0; i < count; i++)
                size += names[i].size;
        s->names = memory_new(count * sizeof *s->names + size + 1);
        to = (uint8_t *)(s->names + count);
        for (unsigned i = 0; i < count; i++) {
                if (names[i].size)
                        memcpy(to, names[i].data, names[i].size);
                s->names[i] = bytes_of(to, names[i].size);
                to += names[i].size;
        }
        if (regex.size) {
                memcpy(to, regex.data, regex.size);
                s->regex = bytes_of(to, regex.size);
        }
        if (count)
                qsort(s->names, count, sizeof *s->names, compare_names);
        for (unsigned i = 0; i < count; i++) {
                struct bytes last = kept ? s->names[kept - 1] : BYTES_EMPTY;

                if (kept && (are_prefixes ? bytes_starts_with(s->names[i], last)
                                          : bytes_equal(s->names[i], last)))
                        continue;
                s->names[kept++] = s->names[i];
        }
        s->name_count = kept;
}

/* What every match of a regular expression begins with, as far as it is plain to see: "^order-" and the like.
 * The pattern's alternatives and its flags are not looked into. */
static size_t literal_prefix(struct bytes regex, uint8_t *to)
{
        size_t size = 0, at = 1;

        if (regex.size == 0 || regex.data[0] != '^' || memchr(regex.data, '|', regex.size))
                return 0;
        while (at < regex.size) {
                uint8_t c = regex.data[at];
                bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                c == '-' || c == '_' || c == ':' || c == '/' || c == '@';

                if (is_plain) {
                        at++;
                } else if (c == '\\' && at + 1 < regex.size && strchr("$-_.:/@+", regex.data[at + 1]) &&
                           regex.data[at + 1]) {
                        c = regex.data[at + 1];
                        at += 2;
                } else {
                        break;
                }
                to[size++] = c;
        }
        /* A repetition speaks of the last character, which may be missing then. */
        if (size && at < regex.size && strchr("*?{", regex.data[at]))
                size--;
        return size;
}

static void begin_json(struct json_out *j, const char *kind)
{
        json_object_begin(j);
        json_field_string(j, "kind", kind);
}

static void write_names(struct json_out *j, const char *key, const struct selector *s)
{
        json_key(j, key);
        json_array_begin(j);
        for (unsigned i = 0; i < s->name_count; i++)
                json_bytes(j, s->names[i]);
        json_array_end(j);
}

static void write_json(const struct selector *s, struct json_out *j)
{
        switch (s->kind) {
        case SELECT_ALL:
                begin_json(j, "all");
                break;
        case SELECT_STREAM:
                begin_json(j, "stream");
                json_field_bytes(j, "stream", s->names[0]);
                break;
        case SELECT_PREFIX:
                begin_json(j, "prefix");
                write_names(j, "prefixes", s);
                break;
        case SELECT_TYPE:
                begin_json(j, "type");
                write_names(j, "types", s);
                break;
        case SELECT_FILTER:
                begin_json(j, "filter");
                if (s->regex.size)
                        json_field_bytes(j, "regex", s->regex);
                else
                        write_names(j, "prefixes", s);
                json_field_string(j, "target", s->target == FILTER_STREAM ? "stream" : "type");
                break;
        case SELECT_PATTERN:
        case SELECT_PAYLOAD:
                begin_json(j, s->kind == SELECT_PATTERN ? "pattern" : "payload");
                json_key(j, "match");
                want_write(j, s->match);
        }
        json_object_end(j);
}

/* The end of every making: the canonical text, which must itself be within the limit, since it is what is
 * stored. */
static int finish(struct selector **selector, struct selector **ret, char *why, size_t why_size)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        struct json_out j = {.out = &text};
        struct selector *s = *selector;
        uint8_t *copy;

        write_json(s, &j);
        if (text.size > LIMIT_SELECTOR_SIZE_MAX) {
                snprintf(why, why_size, "the selection is longer than %d bytes as JSON",
                        LIMIT_SELECTOR_SIZE_MAX);
                selector_free(selector);
                return FILTER_INVALID;
        }
        copy = memory_new(text.size);
        memcpy(copy, text.data, text.size);
        s->json = bytes_of(copy, text.size);
        *ret = s;
        *selector = NULL;
        return 0;
}

static int check_names(
        enum selector_kind kind, const struct bytes *names, unsigned count, char *why, size_t why_size)
{
        if (count == 0)
                return refuse(why, why_size, kind == SELECT_TYPE ? "no type is named" : "no prefix is named");
        if (count > LIMIT_SELECTOR_NAMES_MAX) {
                snprintf(why, why_size, "more than %d names", LIMIT_SELECTOR_NAMES_MAX);
                return FILTER_INVALID;
        }
        for (unsigned i = 0; i < count; i++) {
                size_t size_max =
                        kind == SELECT_TYPE ? LIMIT_EVENT_TYPE_SIZE_MAX : LIMIT_STREAM_NAME_SIZE_MAX + 2;

                if (names[i].size == 0 || names[i].size > size_max || !bytes_is_utf8(names[i])) {
                        snprintf(why, why_size, "%s %u is not 1 to %zu bytes of UTF-8",
                                kind == SELECT_TYPE ? "type" : "prefix", i + 1, size_max);
                        return FILTER_INVALID;
                }
        }
        return 0;
}

int selector_of_names(enum selector_kind kind, const struct bytes *names, unsigned count,
        struct selector **ret, char *ret_why, size_t why_size)
{
        CLEANUP(selector_free) struct selector *s = MEMORY_NEW(struct selector);
        int r = 0;

        assert(kind == SELECT_ALL || kind == SELECT_STREAM || kind == SELECT_PREFIX || kind == SELECT_TYPE);
        s->kind = kind;
        if (kind == SELECT_STREAM) {
                if (count != 1 || !stream_name_is_valid(names[0]))
                        return refuse(ret_why, why_size, "the stream's name is not valid");
                s->key = SELECT_KEY_STREAMS;
        } else if (kind != SELECT_ALL) {
                r = check_names(kind, names, count, ret_why, why_size);
                s->key = kind == SELECT_TYPE ? SELECT_KEY_TYPES : SELECT_KEY_STREAM_PREFIXES;
        }
        if (!r && kind != SELECT_ALL)
                keep_names(s, names, count, BYTES_EMPTY, kind == SELECT_PREFIX);
        if (r)
                return r;
        return finish(&s, ret, ret_why, why_size);
}

int selector_of_filter(
        const struct filter_options *options, struct selector **ret, char *ret_why, size_t why_size)
{
        CLEANUP(selector_free) struct selector *s = MEMORY_NEW(struct selector);
        struct filter *filter = NULL;
        uint8_t literal[LIMIT_FILTER_REGEX_SIZE_MAX];
        struct bytes prefix = BYTES_EMPTY;
        int r;

        s->kind = SELECT_FILTER;
        s->target = options->target;
        /* For the limits and the pattern's errors. */
        r = filter_new(options, &filter, ret_why, why_size);
        filter_free(&filter);
        if (r)
                return r;
        if (!bytes_is_utf8(options->regex))
                return refuse(ret_why, why_size, "the regular expression is not UTF-8");
        for (unsigned i = 0; !options->regex.size && i < options->prefix_count; i++)
                if (!bytes_is_utf8(options->prefixes[i]))
                        return refuse(ret_why, why_size, "a prefix is not UTF-8");
        if (options->regex.size) {
                prefix = bytes_of(literal, literal_prefix(options->regex, literal));
                keep_names(s, &prefix, prefix.size ? 1 : 0, options->regex, true);
        } else {
                keep_names(s, options->prefixes, options->prefix_count, BYTES_EMPTY, true);
        }
        if (s->name_count)
                s->key = s->target == FILTER_STREAM ? SELECT_KEY_STREAM_PREFIXES : SELECT_KEY_TYPE_PREFIXES;
        return finish(&s, ret, ret_why, why_size);
}

/* ---- reading a selection ---- */

enum part { PART_KIND, PART_MATCH, PART_PREFIXES, PART_REGEX, PART_STREAM, PART_TARGET, PART_TYPES, PARTS };
static const char *const part_names[PARTS] = {
        "kind", "match", "prefixes", "regex", "stream", "target", "types"};

static const struct {
        const char *name;
        unsigned needs; /* bits of enum part, beside PART_KIND */
        unsigned may;
} kinds[] = {
        [SELECT_ALL] = {"all", 0, 0},
        [SELECT_STREAM] = {"stream", 1u << PART_STREAM, 0},
        [SELECT_PREFIX] = {"prefix", 1u << PART_PREFIXES, 0},
        [SELECT_TYPE] = {"type", 1u << PART_TYPES, 0},
        [SELECT_FILTER] = {"filter", 1u << PART_TARGET, 1u << PART_PREFIXES | 1u << PART_REGEX},
        [SELECT_PATTERN] = {"pattern", 1u << PART_MATCH, 0},
        [SELECT_PAYLOAD] = {"payload", 1u << PART_MATCH, 0},
};

static struct want *part_of(const struct want *object, enum part part)
{
        return want_child(object, bytes_of_string(part_names[part]));
}

static bool check_kind_of_value(
        struct want_parser *p, const struct want *w, enum want_kind kind, const char *what)
{
        static const char *const words[] = {"an object", "a list", "a string", "a number", "a word"};

        if (w->kind == kind)
                return true;
        return json_in_fail(&p->in, w->at, "\"%s\" is %s", what, words[kind]);
}

static bool check_parts(struct want_parser *p, const struct want *object, enum selector_kind kind)
{
        unsigned legal = kinds[kind].needs | kinds[kind].may | 1u << PART_KIND;

        for (unsigned i = 0; i < object->count; i++) {
                const struct want *w = object->children[i];
                unsigned part = 0;

                while (part < PARTS && !bytes_equal_string(w->key, part_names[part]))
                        part++;
                if (part == PARTS || !(legal & 1u << part))
                        return json_in_fail(&p->in, w->at, "a selection of the kind \"%s\" has no \"%.*s\"",
                                kinds[kind].name, (int)MIN(w->key.size, (size_t)NAME_SHOWN_MAX), w->key.data);
        }
        for (unsigned part = 0; part < PARTS; part++)
                if (kinds[kind].needs & 1u << part && !part_of(object, (enum part)part))
                        return json_in_fail(&p->in, object->at, "a selection of the kind \"%s\" needs \"%s\"",
                                kinds[kind].name, part_names[part]);
        return true;
}

static bool parse_kind(struct want_parser *p, const struct want *object, enum selector_kind *ret)
{
        const struct want *w = part_of(object, PART_KIND);

        if (!w)
                return json_in_fail(&p->in, object->at, "a selection needs \"kind\"");
        if (!check_kind_of_value(p, w, WANT_STRING, "kind"))
                return false;
        for (unsigned i = 0; i < COUNT_OF(kinds); i++) {
                *ret = (enum selector_kind)i;
                if (bytes_equal_string(w->text, kinds[i].name))
                        return check_parts(p, object, *ret);
        }
        return json_in_fail(&p->in, w->at,
                "\"kind\" is \"all\", \"stream\", \"prefix\", \"type\", \"filter\", \"pattern\" or "
                "\"payload\"");
}

/* A list of strings, in the arena. */
static bool names_of(struct want_parser *p, const struct want *w, const char *what, struct bytes **ret,
        unsigned *ret_count)
{
        if (!check_kind_of_value(p, w, WANT_ARRAY, what))
                return false;
        *ret = arena_get(p->arena, w->count * sizeof **ret + 1);
        for (unsigned i = 0; i < w->count; i++) {
                if (w->children[i]->kind != WANT_STRING)
                        return json_in_fail(&p->in, w->children[i]->at, "\"%s\" is a list of strings", what);
                (*ret)[i] = w->children[i]->text;
        }
        *ret_count = w->count;
        return true;
}

/* A whole number that a revision can be. */
static bool revision_of(const struct want *w, uint64_t *ret)
{
        uint64_t n = 0;

        if (w->kind != WANT_NUMBER || w->is_negative || w->point > 19 || w->point < (int64_t)w->text.size)
                return false;
        for (int64_t i = 0; i < w->point; i++) {
                unsigned digit = i < (int64_t)w->text.size ? w->text.data[i] - '0' : 0;

                if (n > (REVISION_MAX - digit) / 10)
                        return false;
                n = n * 10 + digit;
        }
        *ret = n;
        return true;
}

static bool check_field(struct want_parser *p, struct selector *s, enum pattern_field field, struct want *w)
{
        char id[EVENT_ID_TEXT_SIZE + 1];

        switch (field) {
        case FIELD_DATA:
        case FIELD_METADATA:
                return check_kind_of_value(p, w, WANT_OBJECT, pattern_field_names[field]);
        case FIELD_REVISION:
                return revision_of(w, &s->revision) ||
                       json_in_fail(&p->in, w->at, "\"revision\" is a whole number from 0 on");
        case FIELD_CONTENT_TYPE:
                if (!check_kind_of_value(p, w, WANT_STRING, "content_type"))
                        return false;
                s->content_type =
                        bytes_equal_string(w->text, "application/json") ? CONTENT_JSON : CONTENT_BINARY;
                return s->content_type == CONTENT_JSON ||
                       bytes_equal_string(w->text, "application/octet-stream") ||
                       json_in_fail(&p->in, w->at,
                               "\"content_type\" is \"application/json\" or \"application/octet-stream\"");
        case FIELD_ID:
                if (w->kind != WANT_STRING || !event_id_parse(w->text, &s->id))
                        return json_in_fail(&p->in, w->at, "\"id\" is a UUID");
                event_id_format(&s->id, id);
                w->text = arena_copy(p->arena, bytes_of_string(id));
                return true;
        case FIELD_STREAM:
                return (w->kind == WANT_STRING && stream_name_is_valid(w->text)) ||
                       json_in_fail(&p->in, w->at, "\"stream\" is no name of a stream");
        case FIELD_TYPE:
                return (w->kind == WANT_STRING && w->text.size > 0 &&
                               w->text.size <= LIMIT_EVENT_TYPE_SIZE_MAX) ||
                       json_in_fail(&p->in, w->at, "\"type\" is 1 to %d bytes", LIMIT_EVENT_TYPE_SIZE_MAX);
        case PATTERN_FIELDS:
                break;
        }
        return false;
}

static bool take_fields(struct want_parser *p, struct selector *s)
{
        for (unsigned i = 0; i < s->match->count; i++) {
                struct want *w = s->match->children[i];
                unsigned field = 0;

                while (field < PATTERN_FIELDS && !bytes_equal_string(w->key, pattern_field_names[field]))
                        field++;
                if (field == PATTERN_FIELDS)
                        return json_in_fail(&p->in, w->at,
                                "an event has no field \"%.*s\": it has stream, type, revision, "
                                "content_type, id, data and "
                                "metadata",
                                (int)MIN(w->key.size, (size_t)NAME_SHOWN_MAX), w->key.data);
                if (!check_field(p, s, (enum pattern_field)field, w))
                        return false;
                s->fields[field] = w;
        }
        return true;
}

/* The key: the stream, else a field of the data with the type, else whichever of the two there is. */
static void take_key(struct selector *s)
{
        CLEANUP(buffer_fini) struct buffer name = {0};
        CLEANUP(buffer_fini) struct buffer value = {0};
        const struct want *stream = s->fields[FIELD_STREAM], *type = s->fields[FIELD_TYPE];
        const struct want *data = s->kind == SELECT_PATTERN ? s->fields[FIELD_DATA] : s->match;
        struct bytes names;

        if (stream) {
                s->key = SELECT_KEY_STREAMS;
                names = stream->text;
        } else if (data && want_field(data, &name, &value)) {
                s->key = type ? SELECT_KEY_TYPED_FIELD : SELECT_KEY_FIELD;
                s->place_size = name.size;
                buffer_add_bytes(&name, buffer_bytes(&value));
                buffer_add_bytes(&name, type ? type->text : BYTES_EMPTY);
                names = buffer_bytes(&name);
        } else if (type) {
                s->key = SELECT_KEY_TYPES;
                names = type->text;
        } else {
                return;
        }
        keep_names(s, &names, 1, BYTES_EMPTY, false);
}

static bool take_match(struct want_parser *p, struct selector *s, struct want *match)
{
        if (!check_kind_of_value(p, match, WANT_OBJECT, "match"))
                return false;
        if (match->count == 0)
                return json_in_fail(&p->in, match->at,
                        "\"match\" needs at least one key; everything is the kind \"all\"");
        s->match = match;
        if (s->kind == SELECT_PATTERN && !take_fields(p, s))
                return false;
        take_key(s);
        return true;
}

static bool filter_of(struct want_parser *p, const struct want *object, struct filter_options *ret)
{
        const struct want *target = part_of(object, PART_TARGET);
        const struct want *regex = part_of(object, PART_REGEX);
        const struct want *prefixes = part_of(object, PART_PREFIXES);
        struct bytes *names;

        if (!check_kind_of_value(p, target, WANT_STRING, "target"))
                return false;
        *ret = (struct filter_options){
                .target = bytes_equal_string(target->text, "type") ? FILTER_TYPE : FILTER_STREAM};
        if (ret->target == FILTER_STREAM && !bytes_equal_string(target->text, "stream"))
                return json_in_fail(&p->in, target->at, "\"target\" is \"stream\" or \"type\"");
        if (!regex == !prefixes)
                return json_in_fail(&p->in, object->at, "a filter has either \"regex\" or \"prefixes\"");
        if (regex) {
                ret->regex = regex->text;
                if (!check_kind_of_value(p, regex, WANT_STRING, "regex"))
                        return false;
                return regex->text.size > 0 ||
                       json_in_fail(&p->in, regex->at, "the regular expression is empty");
        }
        if (!names_of(p, prefixes, "prefixes", &names, &ret->prefix_count))
                return false;
        ret->prefixes = names;
        return true;
}

/* The kinds that are made of names or of a filter. */
static int make(struct want_parser *p, const struct want *object, enum selector_kind kind,
        struct selector **ret, char *why, size_t why_size)
{
        struct filter_options options;
        struct bytes *names = NULL;
        unsigned count = 0;
        const struct want *w;

        switch (kind) {
        case SELECT_STREAM:
                w = part_of(object, PART_STREAM);
                if (!check_kind_of_value(p, w, WANT_STRING, "stream"))
                        return FILTER_INVALID;
                return selector_of_names(kind, &w->text, 1, ret, why, why_size);
        case SELECT_PREFIX:
                if (!names_of(p, part_of(object, PART_PREFIXES), "prefixes", &names, &count))
                        return FILTER_INVALID;
                return selector_of_names(kind, names, count, ret, why, why_size);
        case SELECT_TYPE:
                if (!names_of(p, part_of(object, PART_TYPES), "types", &names, &count))
                        return FILTER_INVALID;
                return selector_of_names(kind, names, count, ret, why, why_size);
        case SELECT_FILTER:
                if (!filter_of(p, object, &options))
                        return FILTER_INVALID;
                return selector_of_filter(&options, ret, why, why_size);
        default:
                return selector_of_names(SELECT_ALL, NULL, 0, ret, why, why_size);
        }
}

int selector_parse(struct bytes json, struct selector **ret, char *ret_why, size_t why_size)
{
        CLEANUP(selector_free) struct selector *s = MEMORY_NEW(struct selector);
        struct want_parser p = {.arena = &s->arena};
        struct want *object;
        int r;

        assert(why_size > 0);
        if (json.size > LIMIT_SELECTOR_SIZE_MAX) {
                snprintf(ret_why, why_size, "the selection is longer than %d bytes as JSON",
                        LIMIT_SELECTOR_SIZE_MAX);
                return FILTER_INVALID;
        }
        if (!bytes_is_utf8(json))
                return refuse(ret_why, why_size, "the selection is not UTF-8");
        s->arena.block_size = MATCH_NODE_BLOCK_SIZE;
        json_in_begin(&p.in, json, 1);
        if (json_in_kind(&p.in) != JSON_OBJECT_IN)
                json_in_fail(&p.in, p.in.at, "a selection is an object");
        if (p.in.has_failed || !want_parse(&p, 0, &object) || !json_in_end(&p.in) ||
                !parse_kind(&p, object, &s->kind))
                return refuse(ret_why, why_size, p.in.problem);
        if (s->kind != SELECT_PATTERN && s->kind != SELECT_PAYLOAD) {
                r = make(&p, object, s->kind, ret, ret_why, why_size);
                return r && p.in.has_failed ? refuse(ret_why, why_size, p.in.problem) : r;
        }
        if (!take_match(&p, s, part_of(object, PART_MATCH)))
                return refuse(ret_why, why_size, p.in.problem);
        return finish(&s, ret, ret_why, why_size);
}

/* ---- the rest ---- */

struct selector *selector_copy(const struct selector *s)
{
        struct selector *copy = NULL;
        char why[JSON_IN_PROBLEM_SIZE];
        int r = selector_parse(s->json, &copy, why, sizeof why);

        assert(r == 0);
        (void)r;
        return copy;
}

void selector_free(struct selector **selector)
{
        struct selector *s = *selector;

        if (!s)
                return;
        *selector = NULL;
        filter_free(&s->filter);
        arena_fini(&s->arena);
        free(s->names);
        free((void *)s->json.data);
        free(s);
}

enum selector_kind selector_kind(const struct selector *s)
{
        return s->kind;
}

struct bytes selector_json(const struct selector *s)
{
        return s->json;
}

/* The greatest name that is not greater than this one; NULL if there is none. */
static const struct bytes *name_before(const struct selector *s, struct bytes name)
{
        unsigned low = 0, high = s->name_count;

        while (low < high) {
                unsigned middle = low + (high - low) / 2;

                if (bytes_compare(s->names[middle], name) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low ? &s->names[low - 1] : NULL;
}

static bool has_name(const struct selector *s, struct bytes name)
{
        const struct bytes *before = name_before(s, name);

        return before && bytes_equal(*before, name);
}

/* No prefix begins with another one, so only the one before the name can be its beginning. */
static bool has_prefix_of(const struct selector *s, struct bytes name)
{
        const struct bytes *before = name_before(s, name);

        return before && bytes_starts_with(name, *before);
}

static enum filter_verdict match_regex(struct selector *s, const struct event_view *event)
{
        /* The pattern was tried when the selection was made, so only memory can be missing. */
        if (!s->filter)
                s->filter = selector_new_filter(s);
        return s->filter ? filter_match(s->filter, event->stream, event->type) : FILTER_TOO_COSTLY;
}

enum filter_verdict selector_match(struct selector *s, const struct event_view *event)
{
        switch (s->kind) {
        case SELECT_ALL:
                return FILTER_MATCH;
        case SELECT_STREAM:
                return bytes_equal(event->stream, s->names[0]) ? FILTER_MATCH : FILTER_NO_MATCH;
        case SELECT_TYPE:
                return has_name(s, event->type) ? FILTER_MATCH : FILTER_NO_MATCH;
        case SELECT_PREFIX:
        case SELECT_FILTER:
                if (s->regex.size)
                        return match_regex(s, event);
                return has_prefix_of(s, s->target == FILTER_STREAM ? event->stream : event->type)
                               ? FILTER_MATCH
                               : FILTER_NO_MATCH;
        case SELECT_PATTERN:
                return match_pattern(s, event) ? FILTER_MATCH : FILTER_NO_MATCH;
        case SELECT_PAYLOAD:
                return event->content_type == CONTENT_JSON && want_match(s->match, event->data)
                               ? FILTER_MATCH
                               : FILTER_NO_MATCH;
        }
        return FILTER_NO_MATCH;
}

enum selector_key selector_keys(const struct selector *s, const struct bytes **ret_names, unsigned *ret_count)
{
        *ret_names = s->names;
        *ret_count = s->key == SELECT_KEY_NONE ? 0 : s->name_count;
        return s->key;
}

struct bytes selector_field_place(const struct selector *s)
{
        assert(s->key == SELECT_KEY_FIELD || s->key == SELECT_KEY_TYPED_FIELD);
        return bytes_of(s->names[0].data, s->place_size);
}

bool selector_read_field(struct bytes place, const struct event_view *event, struct buffer *out)
{
        buffer_add_bytes(out, place);
        return event->content_type == CONTENT_JSON && want_read_field(place, event->data, out);
}

struct filter *selector_new_filter(const struct selector *s)
{
        struct filter_options options = {
                .target = s->target, .regex = s->regex, .prefixes = s->names, .prefix_count = s->name_count};
        struct filter *filter = NULL;
        char why[256];

        /* Exact lists of types and patterns are narrower than any filter. */
        if ((s->kind != SELECT_PREFIX && s->kind != SELECT_FILTER) ||
                filter_new(&options, &filter, why, sizeof why) != 0)
                return NULL;
        return filter;
}
