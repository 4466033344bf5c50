/* What the process does about its own troubles: from inside, since nobody outside can make them. */
#include "server/assembly.c"

#include <sys/wait.h>

#include "test.h"

enum { TEXT_SIZE = 16 * 1024 };

/* Runs `body` in a child and gives its exit code, and what it wrote to standard error. */
static int run_in_child(int (*body)(void), char text[TEXT_SIZE])
{
        int fds[2];
        size_t size = 0;
        ssize_t n;
        int status;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(fds[1], STDERR_FILENO);
                close(fds[0]);
                close(fds[1]);
                alarm(60);
                exit(body());
        }
        close(fds[1]);
        while ((n = read(fds[0], text + size, TEXT_SIZE - 1 - size)) > 0)
                size += (size_t)n;
        text[size] = 0;
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct server server;
static struct supervisor *supervisor;

static int start_worker(void *arg)
{
        (void)arg;
        return 0;
}

static void stop_worker(void *arg)
{
        (void)arg;
}

static void start_failing_worker(struct os_timer *timer)
{
        const struct supervised worker = {"weaver", start_worker, stop_worker, NULL};
        const struct supervisor_options options = {.subsystem = SUBSYSTEM_GATEWAY, .period_us = 60 * 1000000};

        (void)timer;
        if (supervisor_start(server.control, &options, &worker, 1, &supervisor))
                abort();
        supervisor_failed(supervisor, "weaver", "it broke");
}

static void open_server(struct buffer *problems)
{
        static const char *const arguments[] = {"--memory-only", "--port", "0", "--json"};
        static char *environment[] = {NULL};

        if (config_read(COUNT_OF(arguments), (char **)arguments, environment, &server.config, problems) ||
                start(&server))
                abort();
        open_routes(&server);
}

static int exhaust_restarts(void)
{
        struct os_timer timer = {.fn = start_failing_worker};
        struct buffer problems = {0};

        open_server(&problems);
        os_timer_start(server.os, &timer, 50 * 1000);
        run(&server);
        supervisor_stop(&supervisor);
        return finish(&server, &problems);
}

TEST(assembly, too_many_restarts_of_a_worker_stop_the_process_in_order_with_69)
{
        char text[TEXT_SIZE];

        assert_int_equal(run_in_child(exhaust_restarts, text), EXIT_CODE_RESTARTS_EXHAUSTED);
        assert_non_null(strstr(text, "restarts_exhausted"));
        assert_non_null(strstr(text, "system_stopping"));
        assert_non_null(strstr(text, "store_closed"));
        assert_non_null(strstr(text, "nilo: a worker of gateway failed too often: weaver"));
}

static int break_disk(void)
{
        struct buffer problems = {0};

        open_server(&problems);
        on_disk_fault(&server, "a test says so");
        return 0;
}

/* G15: at once, and with nothing more written. */
TEST(assembly, a_failed_disk_stops_the_process_at_once_with_68)
{
        char text[TEXT_SIZE];

        assert_int_equal(run_in_child(break_disk, text), EXIT_CODE_DISK_FAULT);
        assert_non_null(strstr(text, "nilo: the disk failed: a test says so"));
}

static int fail_twice(void)
{
        struct buffer problems = {0};

        fail_with(&server, EXIT_CODE_CORRUPT, "the %s reason", "first");
        fail_with(&server, EXIT_CODE_BUG, "what followed");
        return finish(&server, &problems);
}

TEST(assembly, the_first_reason_is_the_one_that_is_told)
{
        char text[TEXT_SIZE];

        assert_int_equal(run_in_child(fail_twice, text), EXIT_CODE_CORRUPT);
        assert_string_equal(text, "nilo: the first reason\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(assembly, too_many_restarts_of_a_worker_stop_the_process_in_order_with_69),
                TEST_ROW(assembly, a_failed_disk_stops_the_process_at_once_with_68),
                TEST_ROW(assembly, the_first_reason_is_the_one_that_is_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
