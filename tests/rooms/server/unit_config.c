/* The configuration: which source wins, that every problem is told at once with what was meant, and that its
 * documentation is true. */
#include "server/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

static const char *no_environment[] = {NULL};

struct reading {
        struct config config;
        struct buffer problems; /* NUL-terminated */
        int result;
};

static void read_config(struct reading *r, const char **arguments, const char **environment)
{
        int count = 0;

        *r = (struct reading){0};
        while (arguments[count])
                count++;
        r->result = config_read(count, (char **)arguments, (char **)environment, &r->config, &r->problems);
        buffer_add_u8(&r->problems, 0);
}

static void end(struct reading *r)
{
        config_fini(&r->config);
        buffer_fini(&r->problems);
}

#define READ(r, environment, ...)                                                                            \
        read_config((r), (const char *[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, (environment))

static void assert_says(const struct reading *r, const char *text)
{
        if (!strstr((const char *)r->problems.data, text))
                fail_msg("\"%s\" is not said in:\n%s", text, (const char *)r->problems.data);
}

static unsigned lines_of(const struct reading *r)
{
        unsigned n = 0;

        for (size_t i = 0; i < r->problems.size; i++)
                n += r->problems.data[i] == '\n';
        return n;
}

static void write_file(char path[64], const char *text)
{
        FILE *file;

        strcpy(path, "/tmp/nilo-config-XXXXXX");
        close(mkstemp(path));
        file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
}

TEST(config, defaults_need_nothing)
{
        struct reading r;

        READ(&r, no_environment);
        assert_int_equal(r.result, 0);
        assert_string_equal(r.config.data, "./nilo-data");
        assert_string_equal(r.config.listen, "127.0.0.1");
        assert_int_equal(r.config.port, 2113);
        assert_int_equal(r.config.memory, 256 * MIB);
        assert_int_equal(r.config.memory_only, 0);
        assert_int_equal(r.config.log_level, 2);
        assert_int_equal(r.config.origin[CONFIG_port], ORIGIN_DEFAULT);
        end(&r);
}

TEST(config, flags_win_over_environment_over_file_over_defaults)
{
        char path[64];
        char variable[96];
        const char *environment[] = {
                variable, "NILO_PORT=2000", "NILO_MEMORY=64MiB", "NILO_URL=http://x", "OTHER=1", NULL};
        struct reading r;

        write_file(path, "# a comment\nport: 1000\nmemory: 48MiB\nsegment-size: 8MiB\nlog-level: "
                         "\"debug\"\njson: true\n");
        snprintf(variable, sizeof variable, "NILO_CONFIG=%s", path);
        READ(&r, environment, "--port", "3000");
        assert_string_equal((const char *)r.problems.data, "");
        assert_int_equal(r.config.port, 3000);
        assert_int_equal(r.config.origin[CONFIG_port], ORIGIN_FLAG);
        assert_int_equal(r.config.memory, 64 * MIB);
        assert_int_equal(r.config.origin[CONFIG_memory], ORIGIN_ENVIRONMENT);
        assert_int_equal(r.config.segment_size, 8 * MIB);
        assert_int_equal(r.config.origin[CONFIG_segment_size], ORIGIN_FILE);
        assert_int_equal(r.config.log_level, 3);
        assert_int_equal(r.config.json, 1);
        assert_int_equal(r.config.origin[CONFIG_streams_max], ORIGIN_DEFAULT);
        end(&r);
        unlink(path);
}

TEST(config, the_flag_names_another_file_than_the_environment)
{
        char path[64];
        const char *environment[] = {"NILO_CONFIG=/nonexistent/file", NULL};
        struct reading r;

        write_file(path, "port: 77\n");
        READ(&r, environment, "--config", path);
        assert_int_equal(r.result, 0);
        assert_int_equal(r.config.port, 77);
        end(&r);
        unlink(path);
}

TEST(config, both_forms_of_flags_and_sizes)
{
        struct reading r;

        READ(&r, no_environment, "--segment-size=64MiB", "--memory", "1GiB", "--memory-only", "--json=off",
                "--sync=lane", "--space-reserve", "16777216");
        assert_int_equal(r.result, 0);
        assert_int_equal(r.config.segment_size, 64 * MIB);
        assert_int_equal(r.config.memory, GIB);
        assert_int_equal(r.config.memory_only, 1);
        assert_int_equal(r.config.json, 0);
        assert_int_equal(r.config.sync, 2);
        assert_int_equal(r.config.space_reserve, 16 * MIB);
        end(&r);
}

TEST(config, every_problem_is_told_at_once)
{
        char path[64];
        char where[128];
        const char *environment[] = {
                "NILO_PROT=1", "NILO_LOG_LEVEL=loud", "NILO_TEST_DIR=/tmp", "NILO_URL=x", NULL};
        struct reading r;

        write_file(path, "port: many\nsegmentsize: 8MiB\n");
        READ(&r, environment, "--prot", "1", "stray", "--memory=1MiB", "--streams-max", "0", "--json=perhaps",
                "--sync", "never", "--segment-size", "4QiB", "--connections-max", "99999999999999999999999",
                "--config", path, "--data");
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_says(&r, "--prot: unknown flag; nearest is --port\n");
        assert_says(&r, "NILO_PROT: unknown variable; nearest is NILO_PORT\n");
        assert_says(&r, "stray: flags begin with --\n");
        assert_says(&r, "\"1MiB\" is no size (such as 256MiB) from 32MiB to 1024GiB\n");
        assert_says(&r, "--streams-max: \"0\" is no number from 1 to 100000\n");
        assert_says(&r, "\"perhaps\" is neither true nor false\n");
        assert_says(&r, "--sync: \"never\" is none of auto|inline|lane\n");
        assert_says(&r, "--segment-size: \"4QiB\" is no size");
        assert_says(&r, "--connections-max: \"99999999999999999999999\" is no number");
        assert_says(&r, "NILO_LOG_LEVEL: \"loud\" is none of error|warning|info|debug|trace\n");
        assert_says(&r, "--data: needs a value\n");
        snprintf(where, sizeof where, "%s:1: port: \"many\" is no number from 0 to 65535\n", path);
        assert_says(&r, where);
        snprintf(where, sizeof where, "%s:2: segmentsize: unknown key; nearest is segment-size\n", path);
        assert_says(&r, where);
        assert_int_equal(lines_of(&r), 13);
        end(&r);
        unlink(path);
}

/* A value that no size can hold must not wrap around into a valid one. */
TEST(config, sizes_do_not_overflow)
{
        struct reading r;

        READ(&r, no_environment, "--memory", "17179869184GiB", "--segment-size", "-1", "--space-reserve", "");
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_int_equal(lines_of(&r), 3);
        assert_int_equal(r.config.memory, 256 * MIB);
        end(&r);
}

TEST(config, numbers_end_at_their_limits)
{
        struct reading r;

        READ(&r, no_environment, "--port", "65535", "--segment-size", "1MiB", "--memory", "32MiB");
        assert_int_equal(r.result, 0);
        end(&r);
        READ(&r, no_environment, "--port", "65536");
        assert_int_equal(r.result, CONFIG_INVALID);
        end(&r);
        READ(&r, no_environment, "--segment-size", "1048575");
        assert_int_equal(r.result, CONFIG_INVALID);
        end(&r);
}

TEST(config, memory_only_and_a_data_directory_contradict)
{
        struct reading r;

        READ(&r, no_environment, "--memory-only", "--data", "x");
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_says(&r, "--memory-only keeps nothing on disk: leave out --data\n");
        end(&r);
}

TEST(config, a_file_that_is_no_list_of_keys_is_refused_with_its_line)
{
        static const struct {
                const char *text;
                const char *says;
        } files[] = {
                {"port:\n  - 1\n", ":2: only lines of \"key: value\" are understood\n"},
                {"port: {a: 1}\n", ":1: only lines of \"key: value\" are understood\n"},
                {"- port\n", ":1: only lines of \"key: value\" are understood\n"},
                {"port: \"x\n", ": "},
                {"a: b: c\n", ": "},
        };

        for (unsigned i = 0; i < COUNT_OF(files); i++) {
                char path[64];
                char says[160];
                struct reading r;

                write_file(path, files[i].text);
                READ(&r, no_environment, "--config", path);
                assert_int_equal(r.result, CONFIG_INVALID);
                snprintf(says, sizeof says, "%s%s", path, files[i].says);
                assert_says(&r, strcmp(files[i].says, ": ") == 0 ? path : says);
                end(&r);
                unlink(path);
        }
}

TEST(config, what_stands_twice_or_is_empty_is_refused)
{
        struct reading r;
        char path[64];

        write_file(path, "port: 1\nport: 2\n---\nlog-level: debug\n---\nlog-level: info\n");
        READ(&r, no_environment, "--config", path, "--data", "", "--node-name", "");
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_says(&r, ":2: port: stands twice\n");
        assert_says(&r, ":6: log-level: stands twice\n");
        assert_says(&r, "--data: needs a value\n");
        assert_int_equal(lines_of(&r), 3);
        end(&r);
        /* A flag that wins hides no slip of the file. */
        READ(&r, no_environment, "--config", path, "--port", "0");
        assert_says(&r, ":2: port: stands twice\n");
        end(&r);
        unlink(path);
}

TEST(config, a_missing_file_is_told_by_name)
{
        struct reading r;

        READ(&r, no_environment, "--config", "/nonexistent/nilo.yaml");
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_says(&r, "/nonexistent/nilo.yaml: No such file or directory\n");
        end(&r);
}

TEST(config, json_shows_value_and_origin_of_each)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        struct reading r;

        READ(&r, no_environment, "--port", "0", "--sync", "inline");
        config_to_json(&r.config, &j);
        buffer_add_u8(&out, 0);
        assert_non_null(strstr((const char *)out.data, "\"port\":{\"value\":0,\"origin\":\"flag\""));
        assert_non_null(strstr((const char *)out.data, "\"sync\":{\"value\":\"inline\",\"origin\":\"flag\""));
        assert_non_null(
                strstr((const char *)out.data, "\"memory\":{\"value\":268435456,\"origin\":\"default\""));
        assert_non_null(
                strstr((const char *)out.data, "\"memory-only\":{\"value\":false,\"origin\":\"default\""));
        buffer_fini(&out);
        end(&r);
}

#define SECRET_TEXT "0123456789abcdef0123456789abcdef"

/* Flags are in the list of processes, and the configuration is shown by /info. */
TEST(config, the_secret_of_discovery_is_no_flag_and_is_not_shown)
{
        const char *environment[] = {"NILO_DISCOVER_SECRET=" SECRET_TEXT, NULL};
        struct buffer text = {0};
        struct json_out j = {.out = &text};
        struct reading r;

        READ(&r, environment, "--discover", "multicast");
        assert_int_equal(r.result, 0);
        assert_string_equal(r.config.discover_secret, SECRET_TEXT);
        config_to_json(&r.config, &j);
        assert_null(memmem(text.data, text.size, SECRET_TEXT, strlen(SECRET_TEXT)));
        buffer_fini(&text);
        end(&r);
        READ(&r, no_environment, "--discover-secret", SECRET_TEXT);
        assert_int_equal(r.result, CONFIG_INVALID);
        assert_says(&r, "set NILO_DISCOVER_SECRET");
        assert_null(strstr((const char *)r.problems.data, SECRET_TEXT));
        end(&r);
}

/* ---- the documentation ---- */

struct documented {
        const char *name;
        const char *value; /* as the table shows it */
};

static const struct documented defaults[] = {
#define TEXT(field, name, def, text)             {name, def},
#define SECRET(field, name, text)                {name, ""},
#define SWITCH(field, name, text)                {name, "off"},
#define NUMBER(field, name, def, min, max, text) {name, #def},
#define SIZE(field, name, def, min, max, text)   {name, #def},
#define CHOICE(field, name, def, choices, text)  {name, def},
#include "server/config.def"
};

static FILE *open_documentation(void)
{
        char path[512];
        FILE *file = fopen("docs/configuration.md", "r");

        if (!file) {
                snprintf(path, sizeof path, "%s", __FILE__);
                *strrchr(path, '/') = 0;
                strncat(path, "/../../../docs/configuration.md", sizeof path - strlen(path) - 1);
                file = fopen(path, "r");
        }
        return file;
}

/* "256 * MIB" and "256MiB" are the same; quotes of code and spaces do not count. */
static void squeeze(const char *from, char *to)
{
        for (; *from; from++)
                if (!strchr(" *`", *from))
                        *to++ = *from == 'i' ? 'I' : *from;
        *to = 0;
}

TEST(config, the_documentation_lists_every_option_with_its_default)
{
        FILE *file = open_documentation();
        char line[512];
        unsigned next = 0;

        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
                char name[128];
                char value[128];
                char shown[128];
                char expected[128];

                if (sscanf(line, "| `%127[^`]` | %127[^|] |", name, value) != 2)
                        continue;
                assert_true(next < COUNT_OF(defaults));
                assert_string_equal(name, defaults[next].name);
                squeeze(value, shown);
                squeeze(defaults[next].value, expected);
                if (*expected)
                        assert_string_equal(shown, expected);
                next++;
        }
        fclose(file);
        assert_int_equal(next, COUNT_OF(defaults));
}

TEST(config, help_names_every_flag)
{
        struct buffer out = {0};

        config_help(&out);
        buffer_add_u8(&out, 0);
        for (unsigned i = 0; i < COUNT_OF(defaults); i++) {
                char flag[64];

                snprintf(flag, sizeof flag, "  --%s ", defaults[i].name);
                assert_non_null(strstr((const char *)out.data, flag));
        }
        buffer_fini(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(config, defaults_need_nothing),
                TEST_ROW(config, flags_win_over_environment_over_file_over_defaults),
                TEST_ROW(config, the_flag_names_another_file_than_the_environment),
                TEST_ROW(config, both_forms_of_flags_and_sizes),
                TEST_ROW(config, every_problem_is_told_at_once),
                TEST_ROW(config, sizes_do_not_overflow),
                TEST_ROW(config, numbers_end_at_their_limits),
                TEST_ROW(config, memory_only_and_a_data_directory_contradict),
                TEST_ROW(config, a_file_that_is_no_list_of_keys_is_refused_with_its_line),
                TEST_ROW(config, what_stands_twice_or_is_empty_is_refused),
                TEST_ROW(config, a_missing_file_is_told_by_name),
                TEST_ROW(config, json_shows_value_and_origin_of_each),
                TEST_ROW(config, the_secret_of_discovery_is_no_flag_and_is_not_shown),
                TEST_ROW(config, the_documentation_lists_every_option_with_its_default),
                TEST_ROW(config, help_names_every_flag),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
