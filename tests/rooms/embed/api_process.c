/* libnilo and what is outside of it: other processes, full and failing disks, damaged bytes. The other
 * process is this program again, with a role as its argument. */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "support.h"

/* ---- the other process ---- */

enum { SKIPPED = 77 };

/* Starts this program in a role; its standard output comes by *ret_out. */
static pid_t start_role(const char *role, const char *data, int *ret_out)
{
        int out[2];
        pid_t pid;

        assert_int_equal(pipe(out), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(out[1], STDOUT_FILENO);
                close(out[0]);
                close(out[1]);
                execl("/proc/self/exe", "other", role, data, (char *)NULL);
                _exit(127);
        }
        close(out[1]);
        *ret_out = out[0];
        return pid;
}

static int end_of(pid_t pid)
{
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_role(const char *role, const char *data)
{
        char text[4096] = "";
        int out, code;
        pid_t pid = start_role(role, data, &out);
        size_t n = 0;
        ssize_t more;

        while ((more = read(out, text + n, sizeof text - 1 - n)) > 0)
                n += (size_t)more;
        close(out);
        code = end_of(pid);
        if (code && code != SKIPPED)
                print_message("%s: %s\n", role, text);
        return code;
}

static int say(int code, const char *what, enum nilo_result r)
{
        printf("%s: %s: %s\n", what, nilo_result_name(r), nilo_problem());
        fflush(stdout);
        return code;
}

/* Opens, says so, and holds the store until it is killed. */
static int role_hold(const char *data)
{
        struct nilo *nilo = NULL;

        if (nilo_open(&(struct nilo_options){.data = data}, &nilo))
                return say(1, "open", NILO_ERROR);
        append_n(nilo, "order-1", 10);
        printf("held\n");
        fflush(stdout);
        for (;;)
                pause();
}

/* Waits for an event that never comes; gives the result. */
static void *wait_for_ever(void *arg)
{
        static enum nilo_result result;
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;

        result = nilo_read(arg, &(struct nilo_read_options){.stream = "quiet"}, &reader);
        if (!result)
                result = nilo_next(reader, -1, &e);
        nilo_reader_close(&reader);
        return &result;
}

/* The disk fails under the store: a write behind the limit of file sizes is an error of the file system. */
static int role_disk_fault(const char *data)
{
        struct nilo_event e = {
                .type = "Big", .data = calloc(1, 1 << 20), .data_size = 1 << 20, .is_binary = true};
        struct nilo_reader *reader = NULL, *other = NULL;
        struct nilo_recorded recorded;
        struct nilo *nilo = NULL;
        enum nilo_result r = NILO_OK;
        unsigned written = 0;
        pthread_t waiter;
        void *waited;

        signal(SIGXFSZ, SIG_IGN);
        if (nilo_open(&(struct nilo_options){.data = data}, &nilo) ||
                nilo_read(nilo, &(struct nilo_read_options){.from_end = true}, &reader))
                return say(1, "open", NILO_ERROR);
        if (pthread_create(&waiter, NULL, wait_for_ever, nilo))
                return say(1, "thread", NILO_ERROR);
        usleep(50 * 1000); /* so that it waits already; if it does not, the test is weaker, not wrong */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){8 << 20, 8 << 20});
        while (written < 1000 && !(r = nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL)))
                written++;
        if (r != NILO_UNKNOWN) /* under way when it failed */
                return say(2, "the failing append", r);
        r = nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL);
        if (r != NILO_DISK_FAULT || !strstr(nilo_problem(), "disk"))
                return say(3, "the next append", r);
        r = nilo_delete(nilo, "big", NILO_ANY, false);
        if (r != NILO_DISK_FAULT)
                return say(4, "delete", r);
        r = nilo_next(reader, -1, &recorded);
        if (r != NILO_DISK_FAULT)
                return say(5, "next", r);
        nilo_reader_close(&reader);
        pthread_join(waiter, &waited);
        r = *(enum nilo_result *)waited;
        if (r != NILO_DISK_FAULT)
                return say(8, "the one who waited", r);
        r = nilo_read(nilo, &(struct nilo_read_options){.stream = "big"}, &other);
        if (!r)
                r = nilo_next(other, 0, &recorded);
        if (r != NILO_DISK_FAULT)
                return say(6, "read", r);
        nilo_reader_close(&other);
        nilo_close(&nilo);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
        printf("%u\n", written);
        free((void *)e.data);
        return written ? 0 : 7;
}

/* A file system of 80 MiB, of which 64 are the reserve. */
static int role_full(const char *data)
{
        struct nilo_event e = {
                .type = "Big", .data = calloc(1, 1 << 20), .data_size = 1 << 20, .is_binary = true};
        struct nilo_options options = {.data = data, .segment_size = 4 << 20};
        struct nilo *nilo = NULL;
        enum nilo_result r = NILO_OK;
        unsigned written = 0;
        char directory[300];

        if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
                mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
                mount("none", data, "tmpfs", 0, "size=80m"))
                return SKIPPED;
        snprintf(directory, sizeof directory, "%s/store", data);
        options.data = directory;
        r = nilo_open(&options, &nilo);
        if (r)
                return say(1, "open", r);
        while (written < 1000 && !(r = nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL)))
                written++;
        if (r != NILO_FULL)
                return say(2, "append", r);
        if (!written ||
                count_stream(nilo, "big") != written) /* reads go on, nothing of the refused is there */
                return say(3, "read", r);
        nilo_close(&nilo);
        r = nilo_open(&options, &nilo); /* and it starts again */
        if (r || count_stream(nilo, "big") != written)
                return say(4, "open again", r);
        nilo_close(&nilo);
        free((void *)e.data);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(const char *data);
} roles[] = {{"hold", role_hold}, {"disk-fault", role_disk_fault}, {"full", role_full}};

/* ---- tests ---- */

TEST(process, another_that_has_the_directory_is_named_and_its_death_frees_it)
{
        char data[256], byte;
        struct nilo *nilo = NULL;
        int out;
        pid_t pid;

        directory_make(data);
        pid = start_role("hold", data, &out);
        assert_int_equal(read(out, &byte, 1), 1);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = data}, &nilo), NILO_IN_USE);
        assert_non_null(strstr(nilo_problem(), "in use"));
        assert_int_equal(nilo_verify(data, NULL, NULL, NULL), NILO_IN_USE);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(end_of(pid), 128 + SIGKILL);
        close(out);
        nilo = open_at(data);
        assert_int_equal(count_stream(nilo, "order-1"), 10); /* acknowledged, then killed: G1 */
        nilo_close(&nilo);
        directory_remove(data);
}

TEST(disk, that_fails_is_an_answer_and_what_was_acknowledged_is_there_G15)
{
        char data[256];
        struct nilo *nilo;

        directory_make(data);
        assert_int_equal(run_role("disk-fault", data), 0);
        nilo = open_at(data);
        assert_true(count_stream(nilo, "big") > 0);
        nilo_close(&nilo);
        directory_remove(data);
}

TEST(disk, that_is_full_refuses_appends_and_goes_on_reading_G16)
{
        char data[256];
        int code;

        directory_make(data);
        code = run_role("full", data);
        directory_remove(data);
        if (code == SKIPPED) {
                print_message("SKIP: no right to mount a small file system\n");
                skip();
        }
        assert_int_equal(code, 0);
}

/* ---- verify ---- */

struct findings {
        const char *ending; /* of the file that must be named */
        unsigned count;
        unsigned named;
        uint64_t done;
        uint64_t total;
};

static void on_finding(void *arg, const char *file, uint64_t offset, const char *what)
{
        struct findings *f = arg;

        (void)offset;
        f->count++;
        f->named += f->ending && (strstr(file, f->ending) || strstr(what, f->ending));
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
        struct findings *f = arg;

        assert_true(done >= f->done);
        assert_true(done <= total);
        f->done = done;
        f->total = total;
}

static void flip(const char *path, off_t at)
{
        int fd = open(path, O_RDWR);
        unsigned char byte;

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
}

static void make_store(const char *data, uint64_t segment_size, unsigned events)
{
        struct nilo *nilo = NULL;

        assert_int_equal(nilo_open(&(struct nilo_options){.data = data, .segment_size = segment_size}, &nilo),
                NILO_OK);
        append_n(nilo, "order-1", events);
        nilo_close(&nilo);
}

TEST(verify, reads_everything_and_finds_nothing_wrong_with_a_good_store)
{
        char data[256];
        struct findings f = {0};

        directory_make(data);
        assert_int_equal(nilo_verify(NULL, NULL, NULL, NULL), NILO_INVALID);
        make_store(data, 64 * 1024, 5000);
        assert_int_equal(nilo_verify(data, on_finding, on_progress, &f), NILO_OK);
        assert_int_equal(f.count, 0);
        assert_true(f.total > 100000);
        assert_int_equal(f.done, f.total);
        directory_remove(data);
        assert_int_equal(nilo_verify(data, on_finding, NULL, &f), NILO_NOT_FOUND);
}

static void check_flip(const char *ending, unsigned events, off_t at)
{
        char data[256], path[1024];
        struct findings f = {.ending = ending};

        directory_make(data);
        make_store(data, 64 * 1024, events);
        assert_true(find_file(data, ending, path, sizeof path));
        flip(path, at);
        assert_int_equal(nilo_verify(data, on_finding, on_progress, &f), NILO_CORRUPT);
        assert_true(f.count > 0);
        assert_true(strlen(nilo_problem()) > 0);
        assert_true(f.named > 0);
        flip(path, at); /* it changed nothing itself */
        assert_int_equal(nilo_verify(data, NULL, NULL, NULL), NILO_OK);
        directory_remove(data);
}

TEST(verify, finds_a_flipped_bit_of_a_sealed_segment_of_the_tail_and_of_an_index_G14)
{
        check_flip(".seg", 5000, 20000);
        check_flip(".seg", 100, 4200);
        check_flip(".idx", 5000, 700);
}

TEST(open, of_a_damaged_tail_is_refused_and_says_where_G13)
{
        char data[256], path[1024];
        struct nilo *nilo = NULL;

        directory_make(data);
        make_store(data, 0, 100);
        assert_true(find_file(data, ".seg", path, sizeof path));
        flip(path, 4200);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = data}, &nilo), NILO_CORRUPT);
        assert_null(nilo);
        assert_non_null(strstr(nilo_problem(), ".seg"));
        flip(path, 4200);
        nilo = open_at(data);
        assert_int_equal(count_stream(nilo, "order-1"), 100);
        nilo_close(&nilo);
        directory_remove(data);
}

TEST(read, of_damaged_bytes_says_so_and_the_rest_goes_on_G13)
{
        char data[256], path[1024];
        struct nilo *nilo = NULL;
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        enum nilo_result r;
        unsigned n = 0;

        directory_make(data);
        make_store(data, 64 * 1024, 5000);
        assert_true(find_file(data, ".seg", path, sizeof path));
        flip(path, 20000);
        assert_int_equal(
                nilo_open(&(struct nilo_options){.data = data, .segment_size = 64 * 1024}, &nilo), NILO_OK);
        assert_int_equal(nilo_read(nilo, &(struct nilo_read_options){0}, &reader), NILO_OK);
        while (!(r = nilo_next(reader, 0, &e)))
                n++;
        assert_int_equal(r, NILO_CORRUPT);
        assert_non_null(strstr(nilo_problem(), ".seg"));
        assert_true(n < 5000);
        nilo_reader_close(&reader);
        assert_int_equal(count_events(nilo, &(struct nilo_read_options){.from = 4000}, NILO_END), 1001);
        append_n(nilo, "order-1", 1);
        nilo_close(&nilo);
        directory_remove(data);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(process, another_that_has_the_directory_is_named_and_its_death_frees_it),
                TEST_ROW(disk, that_fails_is_an_answer_and_what_was_acknowledged_is_there_G15),
                TEST_ROW(disk, that_is_full_refuses_appends_and_goes_on_reading_G16),
                TEST_ROW(verify, reads_everything_and_finds_nothing_wrong_with_a_good_store),
                TEST_ROW(verify, finds_a_flipped_bit_of_a_sealed_segment_of_the_tail_and_of_an_index_G14),
                TEST_ROW(open, of_a_damaged_tail_is_refused_and_says_where_G13),
                TEST_ROW(read, of_damaged_bytes_says_so_and_the_rest_goes_on_G13),
        };

        for (size_t i = 0; argc == 3 && i < ARRAY_SIZE(roles); i++)
                if (strcmp(argv[1], roles[i].name) == 0)
                        return roles[i].run(argv[2]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
