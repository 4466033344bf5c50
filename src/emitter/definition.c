/* Definitions: owned copies, what is wrong with one, and JSON both ways.
 *
 * As JSON (bodies of HTTP, events of the store; the last four only in the store):
 *   {"stream":"order-1","group":"mail","selector":{...},"from":"start" | "end" | 41,"target":"client" |
 * "topic" | "webhook",
 *    "url":"https://...","transient":false,"settings":{"resolve_links":false,"extra_statistics":false,
 *    "message_timeout_ms":30000,"max_retry_count":10,"checkpoint_after_ms":2000,"min_checkpoint_count":10,
 *    "max_checkpoint_count":1000,"max_subscriber_count":0,"live_buffer_size":500,"read_batch_size":20,
 *    "history_buffer_size":500,"strategy":"RoundRobin","lane_key":"","pool_size":1},
 *    "secret":"...","paused":false,"start":41} */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

const struct emitter_settings emitter_settings_default = {
        .message_timeout_ms = 30000,
        .max_retry_count = 10,
        .checkpoint_after_ms = 2000,
        .min_checkpoint_count = 10,
        .max_checkpoint_count = 1000,
        .live_buffer_size = 500,
        .read_batch_size = 20,
        .history_buffer_size = 500,
        .strategy = STRATEGY_ROUND_ROBIN,
        .pool_size = 1,
};

static const char *const strategy_names[] = {
        [STRATEGY_ROUND_ROBIN] = "RoundRobin",
        [STRATEGY_DISPATCH_TO_SINGLE] = "DispatchToSingle",
        [STRATEGY_PINNED] = "Pinned",
        [STRATEGY_PINNED_BY_CORRELATION] = "PinnedByCorrelation",
        [STRATEGY_PER_STREAM] = "PerStream",
};
static const char *const target_names[] = {
        [TARGET_CLIENT] = "client", [TARGET_TOPIC] = "topic", [TARGET_WEBHOOK] = "webhook"};

const char *emitter_strategy_name(enum emitter_strategy strategy)
{
        return strategy_names[strategy];
}

bool emitter_strategy_parse(struct bytes name, enum emitter_strategy *ret)
{
        for (unsigned i = 0; i < COUNT_OF(strategy_names); i++)
                if (bytes_equal_string(name, strategy_names[i])) {
                        *ret = (enum emitter_strategy)i;
                        return true;
                }
        return false;
}

/* ---- owned copies ---- */

static void keep(struct bytes *b, char **at)
{
        if (b->size)
                memcpy(*at, b->data, b->size);
        b->data = (const uint8_t *)*at;
        *at += b->size;
}

void definition_copy(struct definition *to, const struct emitter_definition *from)
{
        char *at;

        to->d = *from;
        to->text = memory_new(from->stream.size + from->group.size + from->settings.lane_key.size +
                              from->url.size + from->secret.size + 1);
        at = to->text;
        keep(&to->d.stream, &at);
        keep(&to->d.group, &at);
        keep(&to->d.settings.lane_key, &at);
        keep(&to->d.url, &at);
        keep(&to->d.secret, &at);
        to->selector = from->selector ? selector_copy(from->selector) : NULL;
        to->d.selector = to->selector;
}

void definition_fini(struct definition *d)
{
        selector_free(&d->selector);
        free(d->text);
        *d = (struct definition){0};
}

/* ---- what is wrong ---- */

struct bytes definition_default_stream(const struct selector *selector)
{
        const struct bytes *names = NULL;
        unsigned count = 0;

        switch (selector_kind(selector)) {
        case SELECT_STREAM:
                if (selector_keys(selector, &names, &count) == SELECT_KEY_STREAMS && count)
                        return names[0];
                return BYTES_EMPTY;
        case SELECT_PREFIX:
                return BYTES_LITERAL("$nilo-prefix");
        case SELECT_TYPE:
                return BYTES_LITERAL("$nilo-type");
        case SELECT_PATTERN:
                return BYTES_LITERAL("$nilo-pattern");
        case SELECT_PAYLOAD:
                return BYTES_LITERAL("$nilo-payload");
        default:
                return BYTES_LITERAL("$all");
        }
}

static bool is_text(struct bytes b)
{
        return bytes_is_utf8(b) && (!b.size || !memchr(b.data, 0, b.size));
}

static const char *lane_key_problem(const struct emitter_settings *s)
{
        if (!s->lane_key.size)
                return NULL;
        if (s->strategy != STRATEGY_PER_STREAM)
                return "lane_key goes with the strategy PerStream only";
        if (s->lane_key.size > LANE_KEY_SIZE_MAX || !is_text(s->lane_key))
                return "lane_key is longer than 256 bytes or no UTF-8";
        if ((bytes_starts_with(s->lane_key, BYTES_LITERAL("tag:")) && s->lane_key.size > 4) ||
                (bytes_starts_with(s->lane_key, BYTES_LITERAL("metadata:")) && s->lane_key.size > 9))
                return NULL;
        return "lane_key must be \"tag:NAME\" or \"metadata:KEY\"";
}

static const char *settings_problem(const struct emitter_settings *s)
{
        const uint32_t numbers[] = {s->message_timeout_ms, s->max_retry_count, s->checkpoint_after_ms,
                s->min_checkpoint_count, s->max_checkpoint_count, s->max_subscriber_count,
                s->live_buffer_size, s->read_batch_size, s->history_buffer_size};

        for (unsigned i = 0; i < COUNT_OF(numbers); i++)
                if (numbers[i] > INT32_MAX)
                        return "a setting is above 2^31-1";
        if (!s->live_buffer_size || !s->history_buffer_size || !s->read_batch_size)
                return "live_buffer_size, history_buffer_size and read_batch_size must be above 0";
        if (s->read_batch_size >= s->history_buffer_size)
                return "read_batch_size must be below history_buffer_size";
        if (s->max_checkpoint_count && s->min_checkpoint_count > s->max_checkpoint_count)
                return "min_checkpoint_count must not be above max_checkpoint_count";
        if ((unsigned)s->strategy >= COUNT_OF(strategy_names))
                return "the strategy is unknown";
        if (s->pool_size < 1 || s->pool_size > POOL_SIZE_MAX)
                return "pool_size must be 1 to 64";
        return lane_key_problem(s);
}

static const char *target_problem(const struct emitter_definition *d)
{
        if ((unsigned)d->target >= COUNT_OF(target_names))
                return "the target is unknown";
        if (d->target != TARGET_CLIENT && !worker_kind_of(d->target))
                return "this server has no sender for the target";
        if (d->target != TARGET_WEBHOOK)
                return d->url.size ? "url goes with the target webhook only" : NULL;
        if (!bytes_starts_with(d->url, BYTES_LITERAL("http://")) &&
                !bytes_starts_with(d->url, BYTES_LITERAL("https://")))
                return "url must begin with http:// or https://";
        if (d->url.size > URL_SIZE_MAX || !is_text(d->url))
                return "url is longer than 2048 bytes or no UTF-8";
        return d->secret.size > LANE_KEY_SIZE_MAX || !is_text(d->secret)
                       ? "secret is longer than 256 bytes or no UTF-8"
                       : NULL;
}

static const char *stream_problem(const struct emitter_definition *d)
{
        enum { NAME_OVERHEAD = sizeof "$persistentsubscription-" - 1 + 2 + sizeof "-checkpoint" - 1 };

        if (!d->selector)
                return "nothing is selected";
        if (!d->group.size || d->group.size > GROUP_SIZE_MAX)
                return "the group's name must have 1 to 256 bytes";
        if (!is_text(d->group))
                return "the group's name is no UTF-8, or has a NUL";
        if (selector_kind(d->selector) == SELECT_STREAM) {
                if (!stream_name_is_valid(d->stream))
                        return "the stream's name is invalid";
                if (!bytes_equal(d->stream, definition_default_stream(d->selector)))
                        return "the selector selects another stream than the subscription's";
        } else if (!bytes_equal(d->stream, BYTES_LITERAL("$all")) &&
                   !bytes_equal(d->stream, definition_default_stream(d->selector))) {
                return "the subscription's stream does not fit its selector: leave it out";
        }
        if (d->stream.size + d->group.size + NAME_OVERHEAD > LIMIT_STREAM_NAME_SIZE_MAX)
                return "the names of stream and group are too long together: the checkpoint's stream has 37 "
                       "bytes more "
                       "and at most 1024";
        return NULL;
}

const char *definition_problem(const struct emitter_definition *d)
{
        const char *problem = stream_problem(d);

        if (!problem)
                problem = settings_problem(&d->settings);
        if (!problem)
                problem = target_problem(d);
        if (!problem && d->from == FROM_NUMBER && d->number > REVISION_MAX)
                problem = "the number to begin with is above 2^63-1";
        return problem;
}

/* ---- to JSON ---- */

static void settings_to_json(const struct emitter_settings *s, struct json_out *j)
{
        json_object_begin(j);
        json_field_bool(j, "resolve_links", s->resolve_links);
        json_field_bool(j, "extra_statistics", s->extra_statistics);
        json_field_u64(j, "message_timeout_ms", s->message_timeout_ms);
        json_field_u64(j, "max_retry_count", s->max_retry_count);
        json_field_u64(j, "checkpoint_after_ms", s->checkpoint_after_ms);
        json_field_u64(j, "min_checkpoint_count", s->min_checkpoint_count);
        json_field_u64(j, "max_checkpoint_count", s->max_checkpoint_count);
        json_field_u64(j, "max_subscriber_count", s->max_subscriber_count);
        json_field_u64(j, "live_buffer_size", s->live_buffer_size);
        json_field_u64(j, "read_batch_size", s->read_batch_size);
        json_field_u64(j, "history_buffer_size", s->history_buffer_size);
        json_field_string(j, "strategy", emitter_strategy_name(s->strategy));
        if (s->lane_key.size)
                json_field_bytes(j, "lane_key", s->lane_key);
        json_field_u64(j, "pool_size", s->pool_size);
        json_object_end(j);
}

static void fields_to_json(const struct emitter_definition *d, struct json_out *j)
{
        json_field_bytes(j, "stream", d->stream);
        json_field_bytes(j, "group", d->group);
        json_key(j, "selector");
        json_raw(j, selector_json(d->selector));
        json_key(j, "from");
        if (d->from == FROM_NUMBER)
                json_u64(j, d->number);
        else
                json_text(j, d->from == FROM_END ? "end" : "start");
        json_field_string(j, "target", target_names[d->target]);
        if (d->url.size)
                json_field_bytes(j, "url", d->url);
        json_field_bool(j, "transient", d->is_transient);
        json_key(j, "settings");
        settings_to_json(&d->settings, j);
}

void emitter_definition_to_json(const struct emitter_definition *d, struct json_out *j)
{
        json_object_begin(j);
        fields_to_json(d, j);
        json_object_end(j);
}

void definition_to_log(
        const struct emitter_definition *d, const struct definition_extra *extra, struct buffer *out)
{
        struct json_out j = {.out = out};

        json_object_begin(&j);
        fields_to_json(d, &j);
        if (d->secret.size)
                json_field_bytes(&j, "secret", d->secret);
        if (extra->is_paused)
                json_field_bool(&j, "paused", true);
        if (extra->has_start)
                json_field_u64(&j, "start", extra->start);
        json_object_end(&j);
}

/* ---- a member of an object ---- */

static const uint8_t *skip_space(const uint8_t *at, const uint8_t *end)
{
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
                at++;
        return at;
}

/* Behind the string that begins at `at`; NULL if it does not end. */
static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end)
{
        for (at++; at < end; at++) {
                if (*at == '\\')
                        at++;
                else if (*at == '"')
                        return at + 1;
        }
        return NULL;
}

/* Behind the value; NULL if it does not end. Brackets are only counted: who wants more parses it. */
static const uint8_t *skip_value(const uint8_t *at, const uint8_t *end)
{
        unsigned depth = 0;

        while (at && at < end) {
                if (*at == '"') {
                        at = skip_string(at, end);
                        if (!depth)
                                return at;
                        continue;
                }
                if (*at == '{' || *at == '[') {
                        depth++;
                } else if (*at == '}' || *at == ']') {
                        if (!depth)
                                return at;
                        if (!--depth)
                                return at + 1;
                } else if (!depth &&
                           (*at == ',' || *at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
                        return at;
                }
                at++;
        }
        return depth ? NULL : at;
}

bool json_member(struct bytes json, struct bytes key, struct bytes *ret_value, bool *ret_is_string)
{
        const uint8_t *at, *end = json.data + json.size;

        if (!json.size)
                return false;
        at = skip_space(json.data, end);
        if (at == end || *at != '{')
                return false;
        for (at++;; at++) {
                const uint8_t *name, *name_end, *value;

                name = skip_space(at, end);
                if (name == end || *name != '"')
                        return false;
                name_end = skip_string(name, end);
                if (!name_end)
                        return false;
                at = skip_space(name_end, end);
                if (at == end || *at != ':')
                        return false;
                value = skip_space(at + 1, end);
                if (value == end)
                        return false;
                at = skip_value(value, end);
                if (!at)
                        return false;
                if (bytes_equal(bytes_of(name + 1, (size_t)(name_end - name) - 2), key)) {
                        *ret_is_string = *value == '"';
                        *ret_value = *ret_is_string ? bytes_of(value + 1, (size_t)(at - value) - 2)
                                                    : bytes_of(value, (size_t)(at - value));
                        return true;
                }
                at = skip_space(at, end);
                if (at == end || *at != ',')
                        return false;
        }
}

/* ---- from JSON ---- */

struct parse {
        struct arena *arena;
        char *why;
        size_t why_size;
};

static bool fail(const struct parse *p, const char *format, ...) PRINTF_LIKE(2, 3);

static bool fail(const struct parse *p, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(p->why, p->why_size, format, arguments);
        va_end(arguments);
        return false;
}

static bool take_text(const struct parse *p, const char *key, const json_t *v, struct bytes *ret)
{
        if (!json_is_string(v))
                return fail(p, "\"%s\" must be a string", key);
        *ret = arena_copy(p->arena, bytes_of(json_string_value(v), json_string_length(v)));
        return true;
}

static bool take_bool(const struct parse *p, const char *key, const json_t *v, bool *ret)
{
        if (!json_is_boolean(v))
                return fail(p, "\"%s\" must be true or false", key);
        *ret = json_is_true(v);
        return true;
}

static bool take_number(const struct parse *p, const char *key, const json_t *v, uint64_t max, uint64_t *ret)
{
        if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
                return fail(p, "\"%s\" must be a whole number from 0 to %llu", key, (unsigned long long)max);
        *ret = (uint64_t)json_integer_value(v);
        return true;
}

static bool take_u32(const struct parse *p, const char *key, const json_t *v, uint32_t *ret)
{
        uint64_t n = 0;

        if (!take_number(p, key, v, INT32_MAX, &n))
                return false;
        *ret = (uint32_t)n;
        return true;
}

static bool take_from(const struct parse *p, const json_t *v, struct emitter_definition *ret)
{
        if (json_is_string(v)) {
                if (!strcmp(json_string_value(v), "start"))
                        ret->from = FROM_START;
                else if (!strcmp(json_string_value(v), "end"))
                        ret->from = FROM_END;
                else
                        return fail(p, "\"from\" must be \"start\", \"end\" or a number");
                return true;
        }
        ret->from = FROM_NUMBER;
        return take_number(p, "from", v, REVISION_MAX, &ret->number);
}

static bool take_target(const struct parse *p, const json_t *v, enum emitter_target *ret)
{
        for (unsigned i = 0; json_is_string(v) && i < COUNT_OF(target_names); i++)
                if (!strcmp(json_string_value(v), target_names[i])) {
                        *ret = (enum emitter_target)i;
                        return true;
                }
        return fail(p, "\"target\" must be \"client\", \"topic\" or \"webhook\"");
}

static bool take_strategy(const struct parse *p, const json_t *v, enum emitter_strategy *ret)
{
        if (json_is_string(v) &&
                emitter_strategy_parse(bytes_of(json_string_value(v), json_string_length(v)), ret))
                return true;
        return fail(p, "\"strategy\" must be RoundRobin, DispatchToSingle, Pinned, PinnedByCorrelation or "
                       "PerStream");
}

static bool take_settings(const struct parse *p, json_t *object, struct emitter_settings *ret)
{
        const struct {
                const char *key;
                uint32_t *at;
        } numbers[] = {
                {"message_timeout_ms", &ret->message_timeout_ms},
                {"max_retry_count", &ret->max_retry_count},
                {"checkpoint_after_ms", &ret->checkpoint_after_ms},
                {"min_checkpoint_count", &ret->min_checkpoint_count},
                {"max_checkpoint_count", &ret->max_checkpoint_count},
                {"max_subscriber_count", &ret->max_subscriber_count},
                {"live_buffer_size", &ret->live_buffer_size},
                {"read_batch_size", &ret->read_batch_size},
                {"history_buffer_size", &ret->history_buffer_size},
                {"pool_size", &ret->pool_size},
        };
        const char *key;
        json_t *v;

        if (!json_is_object(object))
                return fail(p, "\"settings\" must be an object");
        json_object_foreach(object, key, v)
        {
                unsigned i = 0;
                bool is_fine;

                while (i < COUNT_OF(numbers) && strcmp(numbers[i].key, key))
                        i++;
                if (i < COUNT_OF(numbers))
                        is_fine = take_u32(p, key, v, numbers[i].at);
                else if (!strcmp(key, "resolve_links"))
                        is_fine = take_bool(p, key, v, &ret->resolve_links);
                else if (!strcmp(key, "extra_statistics"))
                        is_fine = take_bool(p, key, v, &ret->extra_statistics);
                else if (!strcmp(key, "strategy"))
                        is_fine = take_strategy(p, v, &ret->strategy);
                else if (!strcmp(key, "lane_key"))
                        is_fine = take_text(p, key, v, &ret->lane_key);
                else
                        is_fine = fail(p, "\"settings\" has no \"%.64s\"", key);
                if (!is_fine)
                        return false;
        }
        return true;
}

/* The selector's own text is handed on, so that its numbers stay exact. Without one the stream says what is
 * selected. */
static bool take_selector(
        const struct parse *p, struct bytes json, const struct emitter_definition *d, struct selector **ret)
{
        struct bytes text;
        char why[256] = "";
        bool is_string;
        int r;

        if (json_member(json, BYTES_LITERAL("selector"), &text, &is_string) && !is_string)
                r = selector_parse(text, ret, why, sizeof why);
        else if (!d->stream.size)
                return fail(p, "name a \"stream\" or a \"selector\"");
        else if (bytes_equal(d->stream, BYTES_LITERAL("$all")))
                r = selector_of_names(SELECT_ALL, NULL, 0, ret, why, sizeof why);
        else
                r = selector_of_names(SELECT_STREAM, &d->stream, 1, ret, why, sizeof why);
        return r ? fail(p, "selector: %s", why) : true;
}

static bool take_fields(const struct parse *p, json_t *object, bool is_log, struct emitter_definition *ret,
        struct definition_extra *ret_extra)
{
        const char *key;
        json_t *v;

        json_object_foreach(object, key, v)
        {
                bool is_fine;

                if (!strcmp(key, "stream"))
                        is_fine = take_text(p, key, v, &ret->stream);
                else if (!strcmp(key, "group"))
                        is_fine = take_text(p, key, v, &ret->group);
                else if (!strcmp(key, "selector"))
                        is_fine = json_is_object(v) || fail(p, "\"selector\" must be an object");
                else if (!strcmp(key, "from"))
                        is_fine = take_from(p, v, ret);
                else if (!strcmp(key, "target"))
                        is_fine = take_target(p, v, &ret->target);
                else if (!strcmp(key, "url"))
                        is_fine = take_text(p, key, v, &ret->url);
                else if (!strcmp(key, "secret"))
                        is_fine = take_text(p, key, v, &ret->secret);
                else if (!strcmp(key, "transient"))
                        is_fine = take_bool(p, key, v, &ret->is_transient);
                else if (!strcmp(key, "settings"))
                        is_fine = take_settings(p, v, &ret->settings);
                else if (is_log && !strcmp(key, "paused"))
                        is_fine = take_bool(p, key, v, &ret_extra->is_paused);
                else if (is_log && !strcmp(key, "start"))
                        is_fine = ret_extra->has_start =
                                take_number(p, key, v, REVISION_MAX, &ret_extra->start);
                else
                        is_fine = fail(p, "a subscription has no \"%.64s\"", key);
                if (!is_fine)
                        return false;
        }
        return true;
}

static bool parse(const struct parse *p, struct bytes json, bool is_log, struct emitter_definition *ret,
        struct selector **ret_selector, struct definition_extra *ret_extra)
{
        enum { JSON_SIZE_MAX = 2 * LIMIT_SELECTOR_SIZE_MAX };
        json_error_t error;
        json_t *object;
        bool is_fine;

        *ret = (struct emitter_definition){.settings = emitter_settings_default};
        *ret_selector = NULL;
        *ret_extra = (struct definition_extra){0};
        if (json.size > JSON_SIZE_MAX)
                return fail(
                        p, "the definition has %zu bytes, at most %d are taken", json.size, JSON_SIZE_MAX);
        object = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
        if (!object)
                return fail(p, "line %d, column %d: %s", error.line, error.column, error.text);
        is_fine = json_is_object(object) || fail(p, "a subscription is a JSON object");
        is_fine = is_fine && take_fields(p, object, is_log, ret, ret_extra);
        json_decref(object);
        if (!is_fine || !take_selector(p, json, ret, ret_selector))
                return false;
        ret->selector = *ret_selector;
        if (!ret->stream.size)
                ret->stream = arena_copy(p->arena, definition_default_stream(*ret_selector));
        return true;
}

bool emitter_definition_parse(struct bytes json, struct arena *arena, struct emitter_definition *ret,
        struct selector **ret_selector, char *why, size_t why_size)
{
        struct parse p = {arena, why, why_size};
        struct definition_extra extra;

        return parse(&p, json, false, ret, ret_selector, &extra);
}

bool definition_from_log(struct bytes json, struct arena *arena, struct emitter_definition *ret,
        struct selector **ret_selector, struct definition_extra *ret_extra, char *why, size_t why_size)
{
        struct parse p = {arena, why, why_size};

        return parse(&p, json, true, ret, ret_selector, ret_extra);
}
