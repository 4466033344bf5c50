/* Completion for shells, from the table of commands. What only a server knows, names of streams and the like,
 * the scripts ask `nilo completion names` for, which gives up after a second and never says why. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/context.h"
#include "cli/manual.h"

enum { NAMES_MAX = 200, NAMES_MS_MAX = 1000, WORDS_MAX = 128 };

/* ---- what completes to what ---- */

/* What an argument or a value is, by its name in the usage. NULL: nothing is known of it. */
static const char *kind_of(const char *name, size_t size)
{
        static const struct {
                const char *name;
                const char *kind;
        } kinds[] = {
                {"STREAM", "streams"},
                {"PREFIX", "streams"},
                {"NAME", "contexts"}, /* of --context and of `context` */
                {"LOGIN", "users"},
                {"GROUP", "groups"},
                {"SUBSYSTEM", "subsystems"},
                {"FILE", "files"},
                {"DIRECTORY", "directories"},
                {"POSITION|STREAM@REVISION", "streams"},
        };

        for (size_t i = 0; i < COUNT_OF(kinds); i++)
                if (strlen(kinds[i].name) == size && strncmp(kinds[i].name, name, size) == 0)
                        return kinds[i].kind;
        return NULL;
}

static bool takes_contexts(const struct cli_command *c)
{
        return strcmp(c->noun, "context") == 0 && c->verb && strcmp(c->verb, "add") != 0;
}

/* The kinds of a command's arguments, in order. */
static unsigned argument_kinds(const struct cli_command *c, const char *ret[CLI_ARGUMENTS_MAX])
{
        const char *at = c->arguments;
        unsigned count = 0;

        while (*at && count < CLI_ARGUMENTS_MAX) {
                size_t size;

                at += strspn(at, " []");
                size = strcspn(at, " []");
                if (!size)
                        break;
                ret[count] = kind_of(at, size);
                if (ret[count] && strcmp(ret[count], "contexts") == 0 && !takes_contexts(c))
                        ret[count] = NULL;
                count++;
                at += size;
        }
        return count;
}

static const char *value_kind(const struct cli_flag *flag)
{
        bool is_name = flag->value && strcmp(flag->value, "NAME") == 0;

        if (!flag->value || (is_name && strcmp(flag->name, "context") != 0))
                return NULL;
        return kind_of(flag->value, strlen(flag->value));
}

/* A noun each once, in the order of the table. */
static bool is_first_of_noun(const struct cli_command *commands, size_t i)
{
        for (size_t j = 0; j < i; j++)
                if (strcmp(commands[j].noun, commands[i].noun) == 0)
                        return false;
        return true;
}

/* What a noun is for: its commands, where it has several. */
static void noun_text(const struct cli_command *commands, size_t count, size_t i, struct buffer *out)
{
        bool has_verbs = commands[i].verb != NULL;

        if (!has_verbs)
                buffer_add_string(out, commands[i].text);
        for (size_t j = i; j < count && has_verbs; j++)
                if (strcmp(commands[j].noun, commands[i].noun) == 0 && commands[j].verb)
                        buffer_format(out, "%s%s", j == i ? "" : ", ", commands[j].verb);
        buffer_add_u8(out, 0);
}

static void command_name(const struct cli_command *c, struct buffer *out)
{
        buffer_format(out, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
}

/* Words that are no rows of the table. */
static const struct {
        const char *word;
        const char *text;
} others[] = {{"help", "the commands, or the flags of one"}, {"serve", "start a server"},
        {"version", "the version of this program"}};

/* ---- bash ---- */

static void flag_words(const struct cli_flag *flags, size_t count, bool with_values, struct buffer *out)
{
        for (size_t i = 0; i < count && flags[i].name; i++)
                if (!with_values || flags[i].value)
                        buffer_format(out, " --%s", flags[i].name);
}

static void bash_files(const struct cli_flag *flags, size_t count, struct buffer *out)
{
        for (size_t i = 0; i < count && flags[i].name; i++) {
                const char *kind = value_kind(&flags[i]);

                if (kind)
                        buffer_format(out, " --%s=%s", flags[i].name, kind);
        }
}

static void bash_command(const struct cli_command *c, struct buffer *out)
{
        const char *kinds[CLI_ARGUMENTS_MAX];
        unsigned count = argument_kinds(c, kinds);

        buffer_add_string(out, "    '");
        command_name(c, out);
        buffer_add_string(out, "')\n      flags='");
        flag_words(c->flags, CLI_FLAGS_MAX, false, out);
        buffer_add_string(out, "'\n      valued='");
        flag_words(c->flags, CLI_FLAGS_MAX, true, out);
        buffer_add_string(out, "'\n      kinds='");
        bash_files(c->flags, CLI_FLAGS_MAX, out);
        buffer_add_string(out, "'\n      arguments=(");
        for (unsigned i = 0; i < count; i++)
                buffer_format(out, "%s%s", i ? " " : "", kinds[i] ? kinds[i] : "none");
        buffer_add_string(out, ") ;;\n");
}

static void write_bash(struct buffer *out)
{
        size_t count;
        size_t common_count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common = cli_common_flags(&common_count);

        buffer_add_string(out,
                "# bash completion of nilo: source <(nilo completion bash)\n"
                "_nilo_names() {\n"
                "  local name\n"
                "  case $2 in\n"
                "    files) mapfile -t COMPREPLY < <(compgen -f -- \"$3\"); compopt -o filenames; return ;;\n"
                "    directories) mapfile -t COMPREPLY < <(compgen -d -- \"$3\"); compopt -o filenames; "
                "return ;;\n"
                "    none | '') return ;;\n"
                "  esac\n"
                "  while IFS= read -r name; do\n"
                "    COMPREPLY+=(\"$(printf %q \"$name\")\")\n"
                "  done < <(\"$1\" completion names \"$2\" \"$3\" 2>/dev/null)\n"
                "}\n"
                "_nilo() {\n"
                "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} "
                "noun=${COMP_WORDS[1]} verb=''\n"
                "  local verbs='' flags='' valued='' kinds='' arguments=() i at=0 command plain kind\n"
                "  COMPREPLY=()\n"
                "  plain=${cur//\\\\/}; plain=${plain#[\\\"\\']}\n"
                "  if ((COMP_CWORD == 1)); then\n    mapfile -t COMPREPLY < <(compgen -W '");
        for (size_t i = 0; i < count; i++)
                if (is_first_of_noun(commands, i))
                        buffer_format(out, "%s ", commands[i].noun);
        for (size_t i = 0; i < COUNT_OF(others); i++)
                buffer_format(out, "%s ", others[i].word);
        buffer_add_string(out, "' -- \"$cur\")\n    return\n  fi\n  case $noun in\n");
        for (size_t i = 0; i < count; i++) {
                if (!is_first_of_noun(commands, i) || !commands[i].verb)
                        continue;
                buffer_format(out, "    %s) verbs='", commands[i].noun);
                for (size_t j = i; j < count; j++)
                        if (strcmp(commands[j].noun, commands[i].noun) == 0 && commands[j].verb)
                                buffer_format(out, "%s ", commands[j].verb);
                buffer_add_string(out, "' ;;\n");
        }
        buffer_add_string(out,
                "    serve)\n"
                "      mapfile -t COMPREPLY < <(compgen -W \"$(\"${COMP_WORDS[0]}\" serve --help 2>/dev/null "
                "|\n"
                "        sed -n 's/^  \\(--[a-z-]*\\).*/\\1/p')\" -- \"$cur\")\n      return ;;\n  esac\n"
                "  if ((COMP_CWORD == 2)) && [[ -n $verbs && $cur != -* ]]; then\n"
                "    mapfile -t COMPREPLY < <(compgen -W \"$verbs\" -- \"$cur\")\n    return\n  fi\n"
                "  command=$noun; i=2\n"
                "  if [[ \" $verbs\" == *\" ${COMP_WORDS[2]} \"* ]]; then command=\"$noun "
                "${COMP_WORDS[2]}\"; i=3; fi\n"
                "  case $command in\n");
        for (size_t i = 0; i < count; i++)
                bash_command(&commands[i], out);
        buffer_add_string(out, "    *) return ;;\n  esac\n  flags+='");
        flag_words(common, common_count, false, out);
        buffer_add_string(out, "'\n  valued+='");
        flag_words(common, common_count, true, out);
        buffer_add_string(out, " '\n  kinds+='");
        bash_files(common, common_count, out);
        buffer_add_string(out,
                " '\n"
                "  if [[ \"$valued\" == *\" $prev \"* ]]; then\n"
                "    kind=${kinds##* $prev=}\n"
                "    [[ $kind == \"$kinds\" ]] || _nilo_names \"${COMP_WORDS[0]}\" \"${kind%% *}\" "
                "\"$plain\"\n"
                "    return\n  fi\n"
                "  if [[ $cur == -* ]]; then\n"
                "    mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n    return\n  fi\n"
                "  for (( ; i < COMP_CWORD; i++)); do\n"
                "    if [[ \"$valued\" == *\" ${COMP_WORDS[i]} \"* ]]; then ((i++))\n"
                "    elif [[ ${COMP_WORDS[i]} != -* ]]; then ((at++)); fi\n"
                "  done\n"
                "  _nilo_names \"${COMP_WORDS[0]}\" \"${arguments[at]}\" \"$plain\"\n"
                "}\n"
                "complete -F _nilo nilo\n");
}

/* ---- zsh ---- */

/* Inside single quotes; brackets and colons mean something to _arguments. */
static void zsh_text(const char *text, bool is_spec, struct buffer *out)
{
        for (; *text; text++) {
                if (*text == '\'') {
                        buffer_add_string(out, "'\\''");
                        continue;
                }
                if (*text == ':' || *text == '\\' || (is_spec && strchr("[]", *text)))
                        buffer_add_u8(out, '\\');
                buffer_add_u8(out, (uint8_t)*text);
        }
}

static void zsh_action(const char *kind, struct buffer *out)
{
        if (kind && strcmp(kind, "files") == 0)
                buffer_add_string(out, "_files");
        else if (kind && strcmp(kind, "directories") == 0)
                buffer_add_string(out, "_files -/");
        else if (kind)
                buffer_format(
                        out, " _nilo_names %s", kind); /* the space: _arguments adds no words of its own */
}

static void zsh_flags(const struct cli_flag *flags, size_t count, struct buffer *out)
{
        for (size_t i = 0; i < count && flags[i].name; i++) {
                buffer_format(out, " \\\n        '--%s%s[", flags[i].name, flags[i].value ? "=" : "");
                zsh_text(flags[i].text, true, out);
                buffer_add_u8(out, ']');
                if (flags[i].value) {
                        buffer_add_u8(out, ':');
                        zsh_text(flags[i].value, true, out);
                        buffer_add_u8(out, ':');
                        zsh_action(value_kind(&flags[i]), out);
                }
                buffer_add_u8(out, '\'');
        }
}

static void zsh_command(const struct cli_command *c, struct buffer *out)
{
        const char *kinds[CLI_ARGUMENTS_MAX];
        unsigned count = argument_kinds(c, kinds);

        buffer_add_string(out, "    '");
        command_name(c, out);
        buffer_add_string(out, "')\n      _arguments $common");
        zsh_flags(c->flags, CLI_FLAGS_MAX, out);
        for (unsigned i = 0; i < count; i++) {
                buffer_format(out, " \\\n        '%u:%s:", i + 1, kinds[i] ? kinds[i] : "argument");
                zsh_action(kinds[i], out);
                buffer_add_u8(out, '\'');
        }
        buffer_add_string(out, " ;;\n");
}

static void write_zsh(struct buffer *out)
{
        size_t count;
        size_t common_count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common = cli_common_flags(&common_count);

        buffer_add_string(out,
                "#compdef nilo\n"
                "# zsh completion of nilo: nilo completion zsh > a directory of $fpath/_nilo\n"
                "_nilo_names() {\n"
                "  local -a names\n"
                "  names=(\"${(@f)$(nilo completion names $1 \"${(Q)PREFIX}\" 2>/dev/null)}\")\n"
                "  compadd -a names\n}\n"
                "_nilo() {\n  local -a nouns verbs common\n  local command\n  nouns=(");
        for (size_t i = 0; i < count; i++) {
                struct buffer text = {0};

                if (!is_first_of_noun(commands, i))
                        continue;
                noun_text(commands, count, i, &text);
                buffer_format(out, "\n    '%s:", commands[i].noun);
                zsh_text((const char *)text.data, false, out);
                buffer_add_u8(out, '\'');
                buffer_fini(&text);
        }
        for (size_t i = 0; i < COUNT_OF(others); i++)
                buffer_format(out, "\n    '%s:%s'", others[i].word, others[i].text);
        buffer_add_string(out, ")\n  common=(");
        zsh_flags(common, common_count, out);
        buffer_add_string(out,
                ")\n  if (( CURRENT == 2 )); then _describe -t commands command nouns; return; fi\n"
                "  command=$words[2]\n  case $command in\n");
        for (size_t i = 0; i < count; i++) {
                if (!is_first_of_noun(commands, i) || !commands[i].verb)
                        continue;
                buffer_format(out, "    %s) verbs=(", commands[i].noun);
                for (size_t j = i; j < count; j++) {
                        if (strcmp(commands[j].noun, commands[i].noun) != 0 || !commands[j].verb)
                                continue;
                        buffer_format(out, "\n      '%s:", commands[j].verb);
                        zsh_text(commands[j].text, false, out);
                        buffer_add_u8(out, '\'');
                }
                buffer_add_string(out, ") ;;\n");
        }
        buffer_add_string(out, "    serve)\n"
                               "      compadd -- ${(f)\"$(nilo serve --help 2>/dev/null | sed -n 's/^  "
                               "\\(--[a-z-]*\\).*/\\1/p')\"}\n"
                               "      return ;;\n  esac\n"
                               "  if (( CURRENT == 3 && $#verbs )) && [[ $words[3] != -* ]]; then _describe "
                               "-t commands verb verbs; return; fi\n"
                               "  shift words; (( CURRENT-- ))\n"
                               "  if (( $#verbs )) && [[ -n ${verbs[(r)$words[2]:*]} ]]; then\n"
                               "    command=\"$command $words[2]\"; shift words; (( CURRENT-- ))\n  fi\n"
                               "  case $command in\n");
        for (size_t i = 0; i < count; i++)
                zsh_command(&commands[i], out);
        buffer_add_string(out,
                "  esac\n}\n"
                "if [[ $funcstack[1] == _nilo ]]; then _nilo \"$@\"; else compdef _nilo nilo; fi\n");
}

/* ---- fish ---- */

static void fish_text(const char *text, struct buffer *out)
{
        buffer_add_u8(out, '\'');
        for (; *text; text++) {
                if (*text == '\'' || *text == '\\')
                        buffer_add_u8(out, '\\');
                buffer_add_u8(out, (uint8_t)*text);
        }
        buffer_add_u8(out, '\'');
}

static bool is_files(const char *kind)
{
        return kind && strcmp(kind, "files") == 0;
}

static void fish_values(const char *kind, struct buffer *out)
{
        if (is_files(kind))
                buffer_add_string(out, " -F");
        else if (kind && strcmp(kind, "directories") == 0)
                buffer_add_string(out, " -a '(__fish_complete_directories)'");
        else if (kind)
                buffer_format(out, " -a '(__nilo_names %s)'", kind);
}

static void fish_flags(const char *condition, const struct cli_flag *flags, size_t count, struct buffer *out)
{
        for (size_t i = 0; i < count && flags[i].name; i++) {
                buffer_format(out, "complete -c nilo%s -l %s%s", condition, flags[i].name,
                        !flags[i].value                   ? ""
                        : is_files(value_kind(&flags[i])) ? " -r"
                                                          : " -x");
                fish_values(value_kind(&flags[i]), out);
                buffer_add_string(out, " -d ");
                fish_text(flags[i].text, out);
                buffer_add_u8(out, '\n');
        }
}

static void fish_command(const struct cli_command *c, struct buffer *out)
{
        const char *kinds[CLI_ARGUMENTS_MAX];
        unsigned count = argument_kinds(c, kinds);
        struct buffer condition = {0};

        buffer_add_string(&condition, " -n '__nilo_at ");
        command_name(c, &condition);
        buffer_add_string(&condition, "'");
        buffer_add_u8(&condition, 0);
        fish_flags((const char *)condition.data, c->flags, CLI_FLAGS_MAX, out);
        for (unsigned i = 0; i < count; i++) {
                if (!kinds[i])
                        continue;
                buffer_format(out, "complete -c nilo -n '__nilo_argument %u ", i + 1);
                command_name(c, out);
                buffer_add_string(out, "'");
                fish_values(kinds[i], out);
                buffer_add_u8(out, '\n');
        }
        buffer_fini(&condition);
}

static void write_fish(struct buffer *out)
{
        size_t count;
        size_t common_count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common = cli_common_flags(&common_count);

        buffer_add_string(out,
                "# fish completion of nilo: nilo completion fish | source\n"
                "function __nilo_names\n"
                "    nilo completion names $argv[1] (commandline -ct) 2>/dev/null\nend\n"
                "function __nilo_at\n"
                "    set -l words (commandline -opc)\n"
                "    set -l last (math (count $argv) + 1)\n"
                "    test (count $words) -ge $last; and test \"$words[2..$last]\" = \"$argv\"\n"
                "end\n"
                "function __nilo_argument\n"
                "    set -l n $argv[1]\n    set -e argv[1]\n    __nilo_at $argv; or return 1\n"
                "    set -l words (commandline -opc)\n"
                "    set -e words[1..(math (count $argv) + 1)]\n"
                "    set -l at 1\n    set -l is_value no\n"
                "    for word in $words\n"
                "        if test $is_value = yes\n            set is_value no\n"
                "        else if contains -- $word $__nilo_valued\n            set is_value yes\n"
                "        else if not string match -q -- '-*' $word\n            set at (math $at + 1)\n"
                "        end\n    end\n"
                "    test $at -eq $n\nend\n"
                "complete -c nilo -f\nset -g __nilo_valued");
        for (size_t i = 0; i < count; i++)
                flag_words(commands[i].flags, CLI_FLAGS_MAX, true, out);
        flag_words(common, common_count, true, out);
        buffer_add_u8(out, '\n');
        for (size_t i = 0; i < count; i++) {
                struct buffer text = {0};

                if (is_first_of_noun(commands, i)) {
                        noun_text(commands, count, i, &text);
                        buffer_format(
                                out, "complete -c nilo -n __fish_use_subcommand -a %s -d ", commands[i].noun);
                        fish_text((const char *)text.data, out);
                        buffer_add_u8(out, '\n');
                        buffer_fini(&text);
                }
                if (commands[i].verb) {
                        buffer_format(out, "complete -c nilo -n '__nilo_argument 1 %s' -a %s -d ",
                                commands[i].noun, commands[i].verb);
                        fish_text(commands[i].text, out);
                        buffer_add_u8(out, '\n');
                }
                fish_command(&commands[i], out);
        }
        for (size_t i = 0; i < COUNT_OF(others); i++) {
                buffer_format(out, "complete -c nilo -n __fish_use_subcommand -a %s -d ", others[i].word);
                fish_text(others[i].text, out);
                buffer_add_u8(out, '\n');
        }
        fish_flags(" -n 'not __fish_use_subcommand'", common, common_count, out);
}

/* ---- the commands ---- */

void completion_write(enum completion_shell shell, struct buffer *out)
{
        if (shell == COMPLETION_BASH)
                write_bash(out);
        else if (shell == COMPLETION_ZSH)
                write_zsh(out);
        else
                write_fish(out);
}

int command_completion(const struct cli_line *line)
{
        const char *shell = line->command->verb;
        struct buffer out = {0};

        completion_write(strcmp(shell, "bash") == 0  ? COMPLETION_BASH
                         : strcmp(shell, "zsh") == 0 ? COMPLETION_ZSH
                                                     : COMPLETION_FISH,
                &out);
        fwrite(out.data, 1, out.size, stdout);
        buffer_fini(&out);
        return CLI_OK;
}

struct names {
        const char *prefix;
        const char *key;
        unsigned count;
};

static void print_name(void *arg, const char *name)
{
        struct names *n = arg;

        /* A name with a line end would be two. */
        if (!name || strncmp(name, n->prefix, strlen(n->prefix)) != 0 || strpbrk(name, "\n\r") ||
                n->count == NAMES_MAX)
                return;
        n->count++;
        printf("%s\n", name);
}

static bool on_name(void *arg, const char *json, size_t size)
{
        struct names *n = arg;
        char *name = nilo_json_string(json, size, n->key);

        print_name(n, name);
        free(name);
        return n->count < NAMES_MAX;
}

/* The names under `key` of a list. What comes before it fails or takes too long is something all the same. */
static void print_list(struct nilo_client *client, const char *path, const char *key, struct names *n)
{
        n->key = key;
        if (nilo_client_lines(client, path, on_name, n))
                n->count = NAMES_MAX;
}

static void print_streams(struct nilo_client *client, struct names *n)
{
        char *prefix = cli_path("", n->prefix, "");
        struct buffer path = {0};

        if (strncmp("$all", n->prefix, strlen(n->prefix)) == 0)
                print_name(n, "$all");
        buffer_format(&path, "/v1/streams?prefix=%s&limit=%d%s", prefix, NAMES_MAX,
                *n->prefix == '$' ? "&system=true" : "");
        buffer_add_u8(&path, 0);
        print_list(client, (const char *)path.data, "name", n);
        buffer_fini(&path);
        free(prefix);
}

static void print_users(struct nilo_client *client, struct names *n)
{
        char *body = NULL;
        json_t *page = NULL;
        const json_t *user;
        size_t i;

        if (!nilo_client_send(client, "GET", "/v1/users?limit=1000", NULL, NULL, 0, &body))
                page = json_loads(body, 0, NULL);
        json_array_foreach(json_object_get(page, "users"), i, user)
                print_name(n, json_string_value(json_object_get(user, "login")));
        json_decref(page);
        free(body);
}

static void print_subsystems(struct nilo_client *client, struct names *n)
{
        char *body = NULL;
        json_t *levels = NULL;
        const char *name;
        json_t *level;

        if (!nilo_client_send(client, "GET", "/v1/log/levels", NULL, NULL, 0, &body))
                levels = json_loads(body, 0, NULL);
        json_object_foreach(levels, name, level) print_name(n, name);
        json_decref(levels);
        free(body);
}

int command_completion_names(const struct cli_line *line)
{
        static const char *const kinds[] = {"streams", "groups", "users", "contexts", "subsystems"};
        struct names n = {.prefix = line->argument_count > 1 ? line->arguments[1] : ""};
        const char *kind = line->arguments[0];
        struct nilo_client *client;

        if (strcmp(kind, "contexts") == 0) {
                context_each(print_name, &n);
                return CLI_OK;
        }
        if (strcmp(cli_nearest(kind, kinds, COUNT_OF(kinds)), kind) != 0)
                return cli_problem(CLI_USAGE, "no names of kind \"%s\"; nearest is \"%s\"", kind,
                        cli_nearest(kind, kinds, COUNT_OF(kinds)));
        client = cli_client_within(line, NAMES_MS_MAX, false);
        if (!client)
                return CLI_USAGE;
        if (strcmp(kind, "streams") == 0)
                print_streams(client, &n);
        else if (strcmp(kind, "groups") == 0)
                print_list(client, "/v1/subscriptions", "group", &n);
        else if (strcmp(kind, "users") == 0)
                print_users(client, &n);
        else if (strcmp(kind, "subsystems") == 0)
                print_subsystems(client, &n);
        nilo_client_close(&client);
        return CLI_OK;
}
