/* A command line, word by word, against its command's table of flags. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"

enum { WORD_SIZE_MAX = 64 };

static const struct cli_flag common_flags[] = {
        {"url", "URL", "the server: http(s):// or kurrentdb:// (NILO_URL; default http://127.0.0.1:2113)"},
        {"context", "NAME", "a server of `nilo context ls` (NILO_CONTEXT; default the one in use)"},
        {"login", "NAME", "as this user (NILO_LOGIN, with NILO_PASSWORD or typed; or a token in NILO_TOKEN)"},
        {"ca-file", "FILE",
                "PEM: the CA of the server's certificate (NILO_CA_FILE; default whom the system trusts)"},
        {"cert-file", "FILE", "PEM: a certificate to show (NILO_CERT_FILE)"},
        {"key-file", "FILE", "PEM: its key (NILO_KEY_FILE)"},
        {"json", NULL, "lines of JSON, also on a terminal"},
        {"quiet", NULL, "no progress, no remarks (-q)"},
        {"help", NULL, "this text"},
};

/* ---- names ---- */

static unsigned distance(const char *a, const char *b)
{
        unsigned row[WORD_SIZE_MAX + 1];
        size_t n = strnlen(b, WORD_SIZE_MAX);

        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; i <= WORD_SIZE_MAX && a[i - 1]; i++) {
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

const char *cli_nearest(const char *word, const char *const *names, size_t count)
{
        const char *best = names[0];

        for (size_t i = 1; i < count; i++)
                if (distance(word, names[i]) < distance(word, best))
                        best = names[i];
        return best;
}

void cli_print_flags(const struct cli_flag *flags, size_t count)
{
        for (size_t i = 0; i < count && flags[i].name; i++) {
                char flag[WORD_SIZE_MAX];

                snprintf(flag, sizeof flag, "--%s%s%s", flags[i].name, flags[i].value ? " " : "",
                        flags[i].value ? flags[i].value : "");
                printf("  %-24s %s\n", flag, flags[i].text);
        }
}

void cli_print_common_flags(void)
{
        cli_print_flags(common_flags, COUNT_OF(common_flags));
}

const struct cli_flag *cli_common_flags(size_t *ret_count)
{
        *ret_count = COUNT_OF(common_flags);
        return common_flags;
}

static const struct cli_flag *find_flag(const struct cli_flag *flags, size_t count, const char *name)
{
        for (size_t i = 0; i < count && flags[i].name; i++)
                if (strcmp(flags[i].name, name) == 0)
                        return &flags[i];
        return NULL;
}

static int unknown_flag(const struct cli_command *c, const char *name)
{
        const char *names[CLI_FLAGS_MAX + COUNT_OF(common_flags)];
        size_t count = 0;

        for (size_t i = 0; i < CLI_FLAGS_MAX && c->flags[i].name; i++)
                names[count++] = c->flags[i].name;
        for (size_t i = 0; i < COUNT_OF(common_flags); i++)
                names[count++] = common_flags[i].name;
        return cli_problem(CLI_USAGE, "no flag --%s; nearest is --%s. `nilo help %s%s%s` lists them", name,
                cli_nearest(name, names, count), c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
}

/* ---- the line ---- */

static void set_common(struct cli_line *line, const char *name, const char *value)
{
        const struct {
                const char *name;
                const char **to;
        } values[] = {{"url", &line->url}, {"context", &line->context}, {"login", &line->login},
                {"ca-file", &line->ca_file}, {"cert-file", &line->cert_file}, {"key-file", &line->key_file}};

        for (size_t i = 0; i < COUNT_OF(values); i++)
                if (strcmp(name, values[i].name) == 0)
                        *values[i].to = value;
        line->is_json |= strcmp(name, "json") == 0;
        line->is_quiet |= strcmp(name, "quiet") == 0;
        line->wants_help |= strcmp(name, "help") == 0;
}

static int parse_flag(struct cli_line *line, int argc, char **argv, int *at)
{
        const struct cli_flag *own = line->command->flags;
        const char *word = strcmp(argv[*at], "-q") == 0 ? "--quiet" : argv[*at];
        const char *equals;
        const struct cli_flag *flag;
        const char *value = "";
        char name[WORD_SIZE_MAX];

        if (strcmp(word, "-h") == 0)
                word = "--help";
        equals = strchr(word, '=');
        snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - word - 2) : (int)strlen(word) - 2,
                word + 2);
        flag = find_flag(own, CLI_FLAGS_MAX, name);
        if (!flag)
                flag = find_flag(common_flags, COUNT_OF(common_flags), name);
        if (!flag)
                return unknown_flag(line->command, name);
        if (!flag->value && equals)
                return cli_problem(CLI_USAGE, "--%s takes no value", name);
        if (flag->value && equals)
                value = equals + 1;
        else if (flag->value && *at + 1 < argc)
                value = argv[++*at];
        else if (flag->value)
                return cli_problem(CLI_USAGE, "--%s needs a value: %s", name, flag->value);
        if (flag >= own && flag < own + CLI_FLAGS_MAX)
                line->values[flag - own] = value;
        else
                set_common(line, name, value);
        return CLI_OK;
}

/* How many arguments a command needs and takes, from its usage text. */
static void count_arguments(const char *usage, unsigned *ret_needed, unsigned *ret_taken)
{
        bool is_optional = false;

        *ret_needed = 0;
        *ret_taken = 0;
        for (const char *at = usage; *at; at++) {
                is_optional |= *at == '[';
                if (*at != '[' && (at == usage || at[-1] == ' ' || at[-1] == '[')) {
                        *ret_taken += 1;
                        *ret_needed += !is_optional;
                }
        }
}

int cli_parse(struct cli_line *line, int argc, char **argv, int from)
{
        unsigned needed;
        unsigned taken;
        bool only_arguments = false;

        count_arguments(line->command->arguments, &needed, &taken);
        for (int i = from; i < argc; i++) {
                bool is_short = strcmp(argv[i], "-q") == 0 || strcmp(argv[i], "-h") == 0;
                int r = CLI_OK;

                if (strcmp(argv[i], "--") == 0 && !only_arguments)
                        only_arguments = true;
                else if (!only_arguments && (strncmp(argv[i], "--", 2) == 0 || is_short))
                        r = parse_flag(line, argc, argv, &i);
                else if (line->argument_count == taken)
                        r = cli_problem(CLI_USAGE, "\"%s\" is one argument too many", argv[i]);
                else
                        line->arguments[line->argument_count++] = argv[i];
                if (r)
                        return r;
        }
        if (line->argument_count < needed && !line->wants_help)
                return cli_problem(CLI_USAGE, "usage: nilo %s%s%s %s", line->command->noun,
                        line->command->verb ? " " : "", line->command->verb ? line->command->verb : "",
                        line->command->arguments);
        return CLI_OK;
}

/* ---- values ---- */

const char *cli_value(const struct cli_line *line, const char *flag)
{
        const struct cli_flag *found = find_flag(line->command->flags, CLI_FLAGS_MAX, flag);

        assert(found); /* a flag of this command */
        return line->values[found - line->command->flags];
}

bool cli_number(const char *what, const char *text, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        if (*text >= '0' && *text <= '9' && !*end && !errno)
                return true;
        cli_problem(CLI_USAGE, "%s: \"%s\" is no number", what, text);
        return false;
}

bool cli_number_of(const struct cli_line *line, const char *flag, uint64_t otherwise, uint64_t *ret)
{
        const char *text = cli_value(line, flag);
        char what[WORD_SIZE_MAX];

        *ret = otherwise;
        snprintf(what, sizeof what, "--%s", flag);
        return !text || cli_number(what, text, ret);
}

bool cli_expected(const char *text, int64_t *ret)
{
        uint64_t n;

        *ret = NILO_ANY;
        if (!text || strcmp(text, "any") == 0)
                return true;
        *ret = NILO_NONE;
        if (strcmp(text, "none") == 0)
                return true;
        *ret = NILO_EXISTS;
        if (strcmp(text, "exists") == 0)
                return true;
        if (*text < '0' || *text > '9') {
                cli_problem(CLI_USAGE, "--expect: \"%s\" is none of any, none, exists and a revision", text);
                return false;
        }
        if (!cli_number("--expect", text, &n))
                return false;
        if (n > INT64_MAX) {
                cli_problem(CLI_USAGE, "--expect: %s is larger than any revision", text);
                return false;
        }
        *ret = (int64_t)n;
        return true;
}
