/* Credentials: never shown, and found in the order that the manual promises. */
#include "cli/context.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static void is_hidden_as(const char *url, const char *shown)
{
        char *hidden = cli_hide_password(url);

        assert_string_equal(hidden, shown);
        free(hidden);
}

TEST(password, of_a_url_is_not_shown)
{
        is_hidden_as("https://ada:secret@host:2113", "https://ada:***@host:2113");
        is_hidden_as("kurrentdb://ada:s@c:ret@a:1,b:2?tls=true", "kurrentdb://ada:***@a:1,b:2?tls=true");
        is_hidden_as("https://ada@host", "https://ada@host");
        is_hidden_as("http://127.0.0.1:2113", "http://127.0.0.1:2113");
        is_hidden_as("ada:secret@host", "ada:secret@host"); /* no URL: refused, and said as it was typed */
}

TEST(password, is_gone_from_the_words_of_the_process)
{
        char flag[] = "--url";
        char url[] = "https://ada:secret@host";
        char joined[] = "--url=https://ada:secret@host";
        char *words[] = {flag, flag, url, joined, NULL};

        cli_hide_words(4, words);
        assert_string_equal(url, "https://ada:******@host");
        assert_string_equal(joined, "--url=https://ada:******@host");
        assert_string_equal(words[2], "https://ada:secret@host");
        assert_string_equal(words[3], "--url=https://ada:secret@host");
        assert_ptr_equal(words[1], flag);
        free(words[2]);
        free(words[3]);
}

/* A home of its own for each test, without anything in the environment. */
static char home[64];

static int set_up(void **state __attribute__((unused)))
{
        static const char *const names[] = {
                "NILO_URL", "NILO_CONTEXT", "NILO_LOGIN", "NILO_PASSWORD", "NILO_TOKEN"};

        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);
        snprintf(home, sizeof home, "/tmp/nilo-contexts-XXXXXX");
        assert_non_null(mkdtemp(home));
        setenv("XDG_CONFIG_HOME", home, 1);
        return 0;
}

static void path_of(char to[128])
{
        snprintf(to, 128, "%s/nilo/contexts.json", home);
}

static int tear_down(void **state __attribute__((unused)))
{
        char path[128];

        path_of(path);
        unlink(path);
        snprintf(path, sizeof path, "%s/nilo", home);
        rmdir(path);
        rmdir(home);
        return 0;
}

static const struct cli_command command_add = {"context", "add", "NAME URL", "", NULL,
        {{"save-password", NULL, ""}, {"save-token", NULL, ""}, {"use", NULL, ""}, {"replace", NULL, ""}}};

static int add(const char *name, const char *url, const char *flag)
{
        struct cli_line line = {
                .command = &command_add, .arguments = {name, url}, .argument_count = 2, .is_quiet = true};

        for (size_t i = 0; flag && command_add.flags[i].name; i++)
                if (strcmp(command_add.flags[i].name, flag) == 0)
                        line.values[i] = "";
        return command_context_add(&line);
}

TEST(context, file_is_for_its_owner_only)
{
        char path[128];
        struct stat status;

        assert_int_equal(add("prod", "https://ada:secret@host", NULL), CLI_OK);
        path_of(path);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
}

TEST(context, the_first_one_is_in_use_until_another_is_chosen)
{
        struct context c;

        assert_int_equal(context_get(NULL, &c), CLI_OK);
        assert_null(c.name);
        assert_int_equal(add("a", "http://a:1", NULL), CLI_OK);
        assert_int_equal(add("b", "http://b:1", NULL), CLI_OK);
        assert_int_equal(context_get(NULL, &c), CLI_OK);
        assert_string_equal(c.name, "a");
        context_fini(&c);
        assert_int_equal(add("b", "http://b:2", NULL), CLI_CONFLICT);
        assert_int_equal(add("b", "http://b:2", "replace"), CLI_OK);
        assert_int_equal(context_get("b", &c), CLI_OK);
        assert_string_equal(c.url, "http://b:2");
        context_fini(&c);
        assert_int_equal(context_get("c", &c), CLI_NOT_FOUND);
}

TEST(context, what_is_no_name_and_no_url_is_refused)
{
        static const char *const names[] = {"", "a b", "-a", "a/b", "\xc3\xa4"};

        for (size_t i = 0; i < COUNT_OF(names); i++)
                assert_int_equal(add(names[i], "http://a:1", NULL), CLI_USAGE);
        assert_int_equal(add("a", "a:1", NULL), CLI_USAGE);
        assert_int_equal(add("a", "http://a:1", "save-token"), CLI_USAGE);
}

TEST(context, a_damaged_file_is_said_and_kept)
{
        static const char *const contents[] = {
                "", "{", "[]", "{\"contexts\":{\"a\":{}}}", "{\"contexts\":[1]}"};
        char path[128];

        assert_int_equal(add("a", "http://a:1", NULL), CLI_OK);
        path_of(path);
        for (size_t i = 0; i < COUNT_OF(contents); i++) {
                struct context c;
                struct stat status;
                int fd = open(path, O_WRONLY | O_TRUNC);

                assert_int_equal(write(fd, contents[i], strlen(contents[i])), (ssize_t)strlen(contents[i]));
                close(fd);
                assert_int_equal(context_get("a", &c), CLI_USAGE);
                assert_int_equal(add("b", "http://b:1", NULL), CLI_USAGE);
                assert_int_equal(stat(path, &status), 0);
                assert_int_equal(status.st_size, strlen(contents[i]));
        }
}

static void speaks_as(const struct cli_line *line, const char *url, const char *user)
{
        struct nilo_client *client = cli_client_within(line, 0, false);

        assert_non_null(client);
        assert_string_equal(nilo_client_url(client), url);
        assert_string_equal(nilo_client_user(client), user);
        nilo_client_close(&client);
}

TEST(connection, flags_win_over_the_environment_and_that_over_the_context)
{
        struct cli_line line = {0};

        speaks_as(&line, "http://127.0.0.1:2113", "");
        assert_int_equal(add("one", "https://ada:x@one:1", NULL), CLI_OK);
        assert_int_equal(add("two", "https://bob:x@two:1", NULL), CLI_OK);
        speaks_as(&line, "https://one:1", "ada");
        setenv("NILO_CONTEXT", "two", 1);
        speaks_as(&line, "https://two:1", "bob");
        setenv("NILO_URL", "https://three:1", 1);
        speaks_as(&line, "https://three:1", "");
        setenv("NILO_LOGIN", "eve", 1);
        speaks_as(&line, "https://three:1", "eve");
        line.context = "one";
        speaks_as(&line, "https://one:1", "ada");
        line.url = "https://four:1";
        speaks_as(&line, "https://four:1", "eve");
        line.url = "https://max@four:1";
        speaks_as(&line, "https://four:1", "max");
        line.login = "leo";
        speaks_as(&line, "https://four:1", "leo");
        setenv("NILO_TOKEN", "t", 1);
        line = (struct cli_line){.url = "https://four:1"};
        speaks_as(&line, "https://four:1", ""); /* whoever the token says */
}

#define IN_A_HOME(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(password, of_a_url_is_not_shown),
                TEST_ROW(password, is_gone_from_the_words_of_the_process),
                IN_A_HOME(context, file_is_for_its_owner_only),
                IN_A_HOME(context, the_first_one_is_in_use_until_another_is_chosen),
                IN_A_HOME(context, what_is_no_name_and_no_url_is_refused),
                IN_A_HOME(context, a_damaged_file_is_said_and_kept),
                IN_A_HOME(connection, flags_win_over_the_environment_and_that_over_the_context),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
