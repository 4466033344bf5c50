/* What is made of the table of commands has all of it: the man page, and completion for three shells. */
#include "cli/manual.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

/* From malloc, as text. */
static char *written(void (*write)(struct buffer *out))
{
        struct buffer out = {0};

        write(&out);
        buffer_add_u8(&out, 0);
        return (char *)out.data;
}

static void bash(struct buffer *out)
{
        completion_write(COMPLETION_BASH, out);
}

static void zsh(struct buffer *out)
{
        completion_write(COMPLETION_ZSH, out);
}

static void fish(struct buffer *out)
{
        completion_write(COMPLETION_FISH, out);
}

static void expect(const char *where, const char *text, const char *words)
{
        if (!strstr(text, words))
                fail_msg("%s lacks \"%s\"", where, words);
}

/* What of a text belongs to one command: from `begin` to `end`. */
static char *part(const char *where, const char *text, const char *begin, const char *end)
{
        const char *from = strstr(text, begin);
        const char *to;

        if (!from)
                fail_msg("%s lacks \"%s\"", where, begin);
        to = strstr(from + strlen(begin), end);
        return to ? strndup(from, (size_t)(to - from)) : strdup(from);
}

/* In roff a hyphen is escaped. */
static void roff_of(const char *text, char *to, size_t size)
{
        size_t n = 0;

        for (; *text && n + 3 < size; text++) {
                if (*text == '-')
                        to[n++] = '\\';
                to[n++] = *text;
        }
        to[n] = 0;
}

TEST(manual, has_every_command_with_every_flag)
{
        char *page = written(manual_write);
        size_t count;
        const struct cli_command *commands = cli_commands(&count);

        assert_true(count > 50);
        for (size_t i = 0; i < count; i++) {
                char usage[CLI_USAGE_SIZE];
                char begin[2 * CLI_USAGE_SIZE];
                char *own;

                cli_usage(&commands[i], usage);
                memcpy(begin, ".SS ", 4);
                roff_of(usage, begin + 4, sizeof begin - 4);
                strncat(begin, "\n", 2);
                own = part("the man page", page, begin, "\n.S");
                for (size_t f = 0; f < CLI_FLAGS_MAX && commands[i].flags[f].name; f++) {
                        char flag[128] = ".B \\-\\-";

                        roff_of(commands[i].flags[f].name, flag + strlen(flag), 64);
                        expect(usage, own, flag);
                }
                free(own);
        }
        free(page);
}

TEST(manual, has_what_every_command_shares)
{
        char *page = written(manual_write);
        size_t count;
        const struct cli_flag *common = cli_common_flags(&count);

        for (size_t i = 0; i < count; i++) {
                char flag[128] = ".B \\-\\-";

                roff_of(common[i].name, flag + strlen(flag), 64);
                expect("the man page", page, flag);
        }
        expect("the man page", page, ".SH ENVIRONMENT");
        expect("the man page", page, "NILO_TOKEN");
        expect("the man page", page, ".SH EXIT STATUS");
        free(page);
}

TEST(manual, no_line_of_text_is_taken_for_a_command)
{
        char *page = written(manual_write);

        for (const char *line = page; *line; line += strcspn(line, "\n") + 1) {
                if (*line == '.' && strncmp(line, ".SH", 3) != 0 && strncmp(line, ".SS", 3) != 0 &&
                        strncmp(line, ".TP", 3) != 0 && strncmp(line, ".TH", 3) != 0 &&
                        strncmp(line, ".B ", 3) != 0 && strncmp(line, ".br", 3) != 0)
                        fail_msg("%.40s", line);
                assert_true(*line != '\'');
                if (!line[strcspn(line, "\n")])
                        break;
        }
        free(page);
}

/* "stream ls" */
static void name_of(const struct cli_command *c, char *to, size_t size)
{
        snprintf(to, size, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
}

static void has_flags(
        const char *where, const char *own, const char *form, const struct cli_flag *flags, size_t count)
{
        for (size_t f = 0; f < count && flags[f].name; f++) {
                char flag[128];

                snprintf(flag, sizeof flag, "%s%s", form, flags[f].name);
                expect(where, own, flag);
        }
}

TEST(completion, of_bash_has_every_command_with_every_flag)
{
        char *script = written(bash);
        size_t count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common;

        for (size_t i = 0; i < count; i++) {
                char begin[128] = "    '";
                char *own;

                name_of(&commands[i], begin + 5, 100);
                strncat(begin, "')\n", 4);
                own = part("bash", script, begin, ";;");
                has_flags(begin, own, " --", commands[i].flags, CLI_FLAGS_MAX);
                free(own);
                if (commands[i].verb) {
                        snprintf(begin, sizeof begin, "    %s) verbs='", commands[i].noun);
                        own = part("bash", script, begin, ";;");
                        expect(begin, own, commands[i].verb);
                        free(own);
                }
        }
        common = cli_common_flags(&count);
        has_flags("bash", script, " --", common, count);
        free(script);
}

TEST(completion, of_zsh_has_every_command_with_every_flag)
{
        char *script = written(zsh);
        size_t count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common;

        for (size_t i = 0; i < count; i++) {
                char begin[128] = "    '";
                char *own;

                name_of(&commands[i], begin + 5, 100);
                strncat(begin, "')\n", 4);
                own = part("zsh", script, begin, " ;;");
                has_flags(begin, own, "'--", commands[i].flags, CLI_FLAGS_MAX);
                free(own);
                snprintf(begin, sizeof begin, "'%s:", commands[i].noun);
                expect("zsh", script, begin);
                snprintf(begin, sizeof begin, "'%s:", commands[i].verb ? commands[i].verb : commands[i].noun);
                expect("zsh", script, begin);
        }
        common = cli_common_flags(&count);
        has_flags("zsh", script, "'--", common, count);
        free(script);
}

TEST(completion, of_fish_has_every_command_with_every_flag)
{
        char *script = written(fish);
        size_t count;
        const struct cli_command *commands = cli_commands(&count);
        const struct cli_flag *common;

        for (size_t i = 0; i < count; i++) {
                const struct cli_command *c = &commands[i];
                char words[256];

                snprintf(words, sizeof words, "__fish_use_subcommand -a %s -d", c->noun);
                expect("fish", script, words);
                snprintf(words, sizeof words, "'__nilo_argument 1 %s' -a %s -d", c->noun,
                        c->verb ? c->verb : "");
                if (c->verb)
                        expect("fish", script, words);
                for (size_t f = 0; f < CLI_FLAGS_MAX && c->flags[f].name; f++) {
                        char name[128];

                        name_of(c, name, sizeof name);
                        snprintf(words, sizeof words, "-n '__nilo_at %s' -l %s ", name, c->flags[f].name);
                        expect("fish", script, words);
                }
        }
        common = cli_common_flags(&count);
        has_flags("fish", script, " -l ", common, count);
        free(script);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(manual, has_every_command_with_every_flag),
                TEST_ROW(manual, has_what_every_command_shares),
                TEST_ROW(manual, no_line_of_text_is_taken_for_a_command),
                TEST_ROW(completion, of_bash_has_every_command_with_every_flag),
                TEST_ROW(completion, of_zsh_has_every_command_with_every_flag),
                TEST_ROW(completion, of_fish_has_every_command_with_every_flag),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
