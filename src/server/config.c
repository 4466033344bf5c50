#include "server/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/fault.h"
#include "base/memory.h"

enum option_kind { OPTION_TEXT, OPTION_SWITCH, OPTION_NUMBER, OPTION_SIZE, OPTION_CHOICE };

enum { NAME_SIZE_MAX = 64, SLIP_DISTANCE_MAX = 2 /* two letters swapped */ };

struct option {
        const char *name;
        enum option_kind kind;
        size_t offset;
        const char *default_text; /* texts and choices */
        uint64_t default_number;
        uint64_t min;
        uint64_t max;
        const char *choices;
        const char *text;
        bool is_secret;
};

static const struct option options[CONFIG_KEYS] = {
#define TEXT(field, name, def, text)                                                                         \
        {name, OPTION_TEXT, offsetof(struct config, field), def, 0, 0, 0, NULL, text, false},
#define SECRET(field, name, text)                                                                            \
        {name, OPTION_TEXT, offsetof(struct config, field), "", 0, 0, 0, NULL, text, true},
#define SWITCH(field, name, text)                                                                            \
        {name, OPTION_SWITCH, offsetof(struct config, field), NULL, 0, 0, 1, NULL, text, false},
#define NUMBER(field, name, def, min, max, text)                                                             \
        {name, OPTION_NUMBER, offsetof(struct config, field), NULL, def, min, max, NULL, text, false},
#define SIZE(field, name, def, min, max, text)                                                               \
        {name, OPTION_SIZE, offsetof(struct config, field), NULL, def, min, max, NULL, text, false},
#define CHOICE(field, name, def, choices, text)                                                              \
        {name, OPTION_CHOICE, offsetof(struct config, field), def, 0, 0, 0, choices, text, false},
#include "server/config.def"
#undef TEXT
#undef SECRET
#undef SWITCH
#undef NUMBER
#undef SIZE
#undef CHOICE
};

static const char *const origin_names[] = {"default", "file", "environment", "flag"};

static char **text_of(const struct config *c, const struct option *o)
{
        return (char **)(void *)((char *)c + o->offset);
}

static uint64_t *number_of(const struct config *c, const struct option *o)
{
        return (uint64_t *)(void *)((char *)c + o->offset);
}

/* ---- words ---- */

/* Edit distance, to name the option that somebody meant. */
static unsigned distance(const char *a, const char *b)
{
        unsigned row[NAME_SIZE_MAX + 1];
        size_t n = strnlen(b, NAME_SIZE_MAX);

        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; a[i - 1]; i++) {
                unsigned diagonal = row[0];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= n; j++) {
                        unsigned above = row[j];
                        unsigned change = diagonal + (a[i - 1] != b[j - 1]);

                        row[j] = MIN(MIN(above, row[j - 1]) + 1, change);
                        diagonal = above;
                }
        }
        return row[n];
}

static const struct option *option_by_name(const char *name)
{
        for (unsigned i = 0; i < CONFIG_KEYS; i++)
                if (strcmp(options[i].name, name) == 0)
                        return &options[i];
        return NULL;
}

static const char *nearest_name(const char *name)
{
        const char *best = options[0].name;

        for (unsigned i = 1; i < CONFIG_KEYS; i++)
                if (distance(name, options[i].name) < distance(name, best))
                        best = options[i].name;
        return best;
}

static void environment_name(const struct option *o, char ret[NAME_SIZE_MAX])
{
        size_t n = (size_t)snprintf(ret, NAME_SIZE_MAX, "NILO_%s", o->name);

        for (size_t i = 5; i < n; i++)
                ret[i] = ret[i] == '-' ? '_' : (char)(ret[i] >= 'a' && ret[i] <= 'z' ? ret[i] - 32 : ret[i]);
}

/* ---- values ---- */

static bool number_parse(const char *text, bool with_unit, uint64_t *ret)
{
        static const struct {
                const char *unit;
                uint64_t factor;
        } units[] = {{"", 1}, {"B", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}, {"K", KIB}, {"M", MIB},
                {"G", GIB}};
        char *end;
        unsigned long long n;

        if (*text < '0' || *text > '9')
                return false;
        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno)
                return false;
        while (*end == ' ')
                end++;
        for (unsigned i = 0; i < (with_unit ? COUNT_OF(units) : 1); i++)
                if (strcmp(end, units[i].unit) == 0)
                        return !__builtin_mul_overflow((uint64_t)n, units[i].factor, ret);
        return false;
}

static bool choice_parse(const char *choices, const char *text, uint64_t *ret)
{
        size_t size = strlen(text);
        uint64_t ordinal = 0;

        for (const char *at = choices; at; ordinal++) {
                const char *end = strchr(at, '|');
                size_t n = end ? (size_t)(end - at) : strlen(at);

                if (n == size && memcmp(at, text, n) == 0) {
                        *ret = ordinal;
                        return true;
                }
                at = end ? end + 1 : NULL;
        }
        return false;
}

static struct bytes choice_name(const char *choices, uint64_t ordinal)
{
        const char *end;

        while (ordinal--)
                choices = strchr(choices, '|') + 1;
        end = strchr(choices, '|');
        return bytes_of(choices, end ? (size_t)(end - choices) : strlen(choices));
}

static bool switch_parse(const char *text, uint64_t *ret)
{
        uint64_t ordinal;

        if (!choice_parse("true|false|yes|no|on|off|1|0", text, &ordinal))
                return false;
        *ret = ordinal % 2 == 0;
        return true;
}

static void size_format(uint64_t n, char *to, size_t size)
{
        if (n >= GIB && n % GIB == 0)
                snprintf(to, size, "%" PRIu64 "GiB", n / GIB);
        else if (n >= MIB && n % MIB == 0)
                snprintf(to, size, "%" PRIu64 "MiB", n / MIB);
        else
                snprintf(to, size, "%" PRIu64, n);
}

static void problem_range(
        struct buffer *problems, const struct option *o, const char *where, const char *value)
{
        char low[32];
        char high[32];

        if (o->kind == OPTION_SIZE) {
                size_format(o->min, low, sizeof low);
                size_format(o->max, high, sizeof high);
        } else {
                snprintf(low, sizeof low, "%" PRIu64, o->min);
                snprintf(high, sizeof high, "%" PRIu64, o->max);
        }
        buffer_format(problems, "%s: \"%s\" is no %s from %s to %s\n", where, value,
                o->kind == OPTION_SIZE ? "size (such as 256MiB)" : "number", low, high);
}

/* Sets a value unless one of a higher origin is there already; says in `problems` what is wrong with it. */
static void set(struct config *c, const struct option *o, enum config_origin origin, const char *value,
        const char *where, struct buffer *problems)
{
        enum config_origin *had = &c->origin[o - options];
        uint64_t n = 0;
        bool ok = true;

        if (o->kind == OPTION_SWITCH)
                ok = switch_parse(value, &n);
        else if (o->kind == OPTION_CHOICE)
                ok = choice_parse(o->choices, value, &n);
        else if (o->kind == OPTION_TEXT)
                ok = *value || !*o->default_text; /* an empty name is one only where that is the default */
        else
                ok = number_parse(value, o->kind == OPTION_SIZE, &n) && n >= o->min && n <= o->max;
        if (!ok && o->kind == OPTION_SWITCH)
                buffer_format(problems, "%s: \"%s\" is neither true nor false\n", where, value);
        else if (!ok && o->kind == OPTION_CHOICE)
                buffer_format(problems, "%s: \"%s\" is none of %s\n", where, value, o->choices);
        else if (!ok && o->kind == OPTION_TEXT)
                buffer_format(problems, "%s: needs a value\n", where);
        else if (!ok)
                problem_range(problems, o, where, value);
        if (!ok || *had > origin)
                return;
        *had = origin;
        if (o->kind == OPTION_TEXT) {
                free(*text_of(c, o));
                *text_of(c, o) = memory_copy_string(value);
        } else {
                *number_of(c, o) = n;
        }
}

static void set_defaults(struct config *c)
{
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                const struct option *o = &options[i];

                if (o->kind == OPTION_TEXT) {
                        *text_of(c, o) = memory_copy_string(o->default_text);
                } else if (o->kind == OPTION_CHOICE) {
                        bool is_known = choice_parse(o->choices, o->default_text, number_of(c, o));

                        assert(is_known);
                        (void)is_known;
                } else {
                        *number_of(c, o) = o->default_number;
                }
        }
}

/* ---- sources ---- */

static void read_flags(struct config *c, int count, char **arguments, struct buffer *problems)
{
        for (int i = 0; i < count; i++) {
                const char *flag = arguments[i];
                const char *equals = strchr(flag, '=');
                char name[NAME_SIZE_MAX];
                const struct option *o;

                if (strncmp(flag, "--", 2) != 0) {
                        buffer_format(problems, "%s: flags begin with --\n", flag);
                        continue;
                }
                snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - flag - 2) : (int)strlen(flag) - 2,
                        flag + 2);
                o = option_by_name(name);
                if (strcmp(name, "config") == 0 || o) {
                        const char *value = equals ? equals + 1 : NULL;

                        if (!value && o && o->kind == OPTION_SWITCH)
                                value = "true";
                        if (!value && i + 1 < count)
                                value = arguments[++i];
                        if (!value)
                                buffer_format(problems, "--%s: needs a value\n", name);
                        else if (o)
                                set(c, o, ORIGIN_FLAG, value, flag, problems);
                        else
                                c->file = (free(c->file), memory_copy_string(value));
                } else {
                        buffer_format(
                                problems, "--%s: unknown flag; nearest is --%s\n", name, nearest_name(name));
                        if (!equals && i + 1 < count && strncmp(arguments[i + 1], "--", 2) != 0)
                                i++; /* its value is no problem of its own */
                }
        }
}

/* The command line's own: who uses it and starts a server from one shell has made no slip. */
static bool is_of_command_line(const char *name)
{
        static const char *const names[] = {"NILO_URL", "NILO_CONTEXT", "NILO_LOGIN", "NILO_PASSWORD",
                "NILO_NEW_PASSWORD", "NILO_CA_FILE", "NILO_CERT_FILE", "NILO_KEY_FILE"};

        for (size_t i = 0; i < COUNT_OF(names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

/* Others may use names that begin with ours, so only what is nearly an option is taken for a slip of the pen.
 */
static void read_variable(struct config *c, const char *variable, const char *equals, struct buffer *problems)
{
        char given[NAME_SIZE_MAX];
        char name[NAME_SIZE_MAX];
        const char *nearest = NULL;

        snprintf(given, sizeof given, "%.*s", (int)(equals - variable), variable);
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                environment_name(&options[i], name);
                if (strcmp(given, name) == 0) {
                        set(c, &options[i], ORIGIN_ENVIRONMENT, equals + 1, name, problems);
                        return;
                }
                if (distance(given, name) <= SLIP_DISTANCE_MAX)
                        nearest = options[i].name;
        }
        if (!nearest || is_of_command_line(given))
                return;
        environment_name(option_by_name(nearest), name);
        buffer_format(problems, "%s: unknown variable; nearest is %s\n", given, name);
}

static void read_environment(struct config *c, char **environment, struct buffer *problems)
{
        for (char **at = environment; *at; at++) {
                const char *equals = strchr(*at, '=');

                if (!equals || strncmp(*at, "NILO_", 5) != 0)
                        continue;
                if (!c->file && strncmp(*at, "NILO_CONFIG=", 12) == 0)
                        c->file = memory_copy_string(equals + 1);
                read_variable(c, *at, equals, problems);
        }
}

/* `is_seen`: by option, whether the file had it before. */
static void read_pair(struct config *c, const yaml_event_t *key, const yaml_event_t *value,
        bool is_seen[CONFIG_KEYS], struct buffer *problems)
{
        const char *name = (const char *)key->data.scalar.value;
        const struct option *o = option_by_name(name);
        char where[512];

        snprintf(where, sizeof where, "%s:%zu: %s", c->file, key->start_mark.line + 1, name);
        if (!o)
                buffer_format(problems, "%s: unknown key; nearest is %s\n", where, nearest_name(name));
        else if (is_seen[o - options])
                buffer_format(problems, "%s: stands twice\n", where);
        else
                set(c, o, ORIGIN_FILE, (const char *)value->data.scalar.value, where, problems);
        if (o)
                is_seen[o - options] = true;
}

/* A flat mapping of names to scalars, and nothing else. */
static void read_yaml(struct config *c, FILE *file, struct buffer *problems)
{
        yaml_parser_t parser;
        yaml_event_t key = {0};
        bool is_seen[CONFIG_KEYS] = {false};
        bool has_key = false;
        bool is_done = false;
        unsigned depth = 0;

        if (!yaml_parser_initialize(&parser))
                fault_exit(EXIT_CODE_BUG, "out of memory");
        yaml_parser_set_input_file(&parser, file);
        while (!is_done) {
                yaml_event_t event;

                if (!yaml_parser_parse(&parser, &event)) {
                        buffer_format(problems, "%s:%zu: %s\n", c->file, parser.problem_mark.line + 1,
                                parser.problem);
                        break;
                }
                is_done = event.type == YAML_STREAM_END_EVENT;
                if (event.type == YAML_MAPPING_START_EVENT && depth == 0) {
                        depth = 1;
                } else if (event.type == YAML_MAPPING_END_EVENT) {
                        depth = 0;
                } else if (event.type == YAML_SCALAR_EVENT && depth == 1 && !has_key) {
                        key = event;
                        has_key = true;
                        continue;
                } else if (event.type == YAML_SCALAR_EVENT && has_key) {
                        read_pair(c, &key, &event, is_seen, problems);
                        yaml_event_delete(&key);
                        has_key = false;
                } else if (event.type == YAML_SEQUENCE_START_EVENT ||
                           event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SCALAR_EVENT ||
                           event.type == YAML_ALIAS_EVENT) {
                        buffer_format(problems, "%s:%zu: only lines of \"key: value\" are understood\n",
                                c->file, event.start_mark.line + 1);
                        is_done = true;
                }
                yaml_event_delete(&event);
        }
        if (has_key)
                yaml_event_delete(&key);
        yaml_parser_delete(&parser);
}

static void read_file(struct config *c, struct buffer *problems)
{
        FILE *file = fopen(c->file, "re");

        if (!file) {
                buffer_format(problems, "%s: %s\n", c->file, strerror(errno));
                return;
        }
        read_yaml(c, file, problems);
        fclose(file);
}

int config_read(int count, char **arguments, char **environment, struct config *ret, struct buffer *problems)
{
        size_t size_before = problems->size;

        *ret = (struct config){0};
        set_defaults(ret);
        read_flags(ret, count, arguments, problems);
        read_environment(ret, environment, problems);
        if (ret->file)
                read_file(ret, problems);
        if (!*ret->tls_certificate != !*ret->tls_key)
                buffer_add_string(problems, "--tls-certificate and --tls-key are said together\n");
        if (ret->memory_only && ret->origin[CONFIG_data] == ORIGIN_FLAG)
                buffer_add_string(problems, "--memory-only keeps nothing on disk: leave out --data\n");
        if (ret->origin[CONFIG_discover_secret] == ORIGIN_FLAG)
                buffer_add_string(problems, "--discover-secret: everybody on this machine sees flags; set "
                                            "NILO_DISCOVER_SECRET, or "
                                            "discover-secret in the file of --config\n");
        return problems->size > size_before ? CONFIG_INVALID : 0;
}

void config_fini(struct config *c)
{
        for (unsigned i = 0; i < CONFIG_KEYS; i++)
                if (options[i].kind == OPTION_TEXT)
                        free(*text_of(c, &options[i]));
        free(c->file);
        *c = (struct config){0};
}

static void value_to_json(const struct config *c, const struct option *o, struct json_out *j)
{
        if (o->is_secret)
                json_text(j, **text_of(c, o) ? "(not shown)" : "");
        else if (o->kind == OPTION_TEXT)
                json_text(j, *text_of(c, o));
        else if (o->kind == OPTION_SWITCH)
                json_bool(j, *number_of(c, o));
        else if (o->kind == OPTION_CHOICE)
                json_bytes(j, choice_name(o->choices, *number_of(c, o)));
        else
                json_u64(j, *number_of(c, o));
}

void config_to_json(const struct config *c, struct json_out *j)
{
        json_object_begin(j);
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                json_key(j, options[i].name);
                json_object_begin(j);
                json_key(j, "value");
                value_to_json(c, &options[i], j);
                json_field_string(j, "origin", origin_names[c->origin[i]]);
                json_field_string(j, "text", options[i].text);
                json_object_end(j);
        }
        json_object_end(j);
}

void config_to_lines(const struct config *c, struct buffer *out)
{
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                struct json_out j = {.out = out};

                json_object_begin(&j);
                json_field_string(&j, "name", options[i].name);
                json_key(&j, "value");
                value_to_json(c, &options[i], &j);
                json_field_string(&j, "source", origin_names[c->origin[i]]);
                json_field_string(&j, "description", options[i].text);
                json_object_end(&j);
                buffer_add_u8(out, '\n');
        }
}

void config_to_table(const struct config *c, struct buffer *out)
{
        buffer_format(out, "%-20s  %-24s  %-11s  %s\n", "NAME", "VALUE", "SOURCE", "WHAT IT IS");
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                struct buffer value = {0};
                struct json_out j = {.out = &value};
                struct bytes text;

                value_to_json(c, &options[i], &j);
                text = buffer_bytes(&value);
                if (text.size > 1 && text.data[0] == '"')
                        text = bytes_of(text.data + 1, text.size - 2);
                buffer_format(out, "%-20s  %-24.*s  %-11s  %s\n", options[i].name, (int)text.size,
                        (const char *)text.data, origin_names[c->origin[i]], options[i].text);
                buffer_fini(&value);
        }
}

void config_help(struct buffer *out)
{
        buffer_format(out, "  %-24s %s\n", "--config FILE", "YAML file of these names (also NILO_CONFIG)");
        for (unsigned i = 0; i < CONFIG_KEYS; i++) {
                const struct option *o = &options[i];
                static const char *const values[] = {" TEXT", "", " N", " SIZE", ""};
                char flag[96];
                char number[32];
                const char *shown = o->default_text;

                snprintf(flag, sizeof flag, "--%s%s%s", o->name,
                        o->kind == OPTION_CHOICE ? " " : values[o->kind],
                        o->kind == OPTION_CHOICE ? o->choices : "");
                if (o->kind == OPTION_NUMBER || o->kind == OPTION_SIZE) {
                        size_format(o->default_number, number, sizeof number);
                        shown = number;
                }
                buffer_format(out, "  %-24s %s", flag, o->text);
                if (shown && *shown)
                        buffer_format(out, " (%s)", shown);
                buffer_add_u8(out, '\n');
        }
}
