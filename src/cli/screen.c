/* The terminal under a live screen. Signals go through a pipe into the wait for keys; those that end the
 * process without asking give the terminal back first, with calls that a signal handler may make. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/screen.h"

enum { WIDTH_DEFAULT = 80, HEIGHT_DEFAULT = 24 };

/* The alternate screen, its cursor hidden; and back, with the style that was cut off ended. */
#define TAKE "\033[?1049h\033[?25l\033[H\033[2J"
#define GIVE "\033[0m\033[?25h\033[?1049l"

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static const int faults[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static struct {
        struct termios before;
        struct sigaction old_ending[COUNT_OF(ending)];
        struct sigaction old_faults[COUNT_OF(faults)];
        struct sigaction old_stop;
        struct sigaction old_size;
        int pipe[2]; /* [0] is read by the wait */
        volatile sig_atomic_t is_taken;
        volatile sig_atomic_t has_ended;
        volatile sig_atomic_t has_changed;
        volatile sig_atomic_t is_to_stop;
} screen = {.pipe = {-1, -1}};

bool screen_has_utf8(void)
{
        static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

        /* The first that says something decides. */
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                const char *value = getenv(names[i]);

                if (value && *value)
                        return strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "UTF8") ||
                               strstr(value, "utf-8");
        }
        return false;
}

static bool write_all(const void *data, size_t size)
{
        const char *at = data;

        while (size) {
                ssize_t n = write(STDOUT_FILENO, at, size);

                if (n < 0 && errno != EINTR)
                        return false;
                at += n > 0 ? n : 0;
                size -= n > 0 ? (size_t)n : 0;
        }
        return true;
}

/* ---- signals ---- */

static void poke(void)
{
        int error = errno;
        ssize_t n = write(screen.pipe[1], "", 1); /* a full pipe wakes as well */

        (void)n;
        errno = error;
}

static void on_signal(int signal)
{
        if (signal == SIGWINCH)
                screen.has_changed = 1;
        else if (signal == SIGTSTP)
                screen.is_to_stop = 1;
        else
                screen.has_ended = 1;
        poke();
}

static void give_back(void)
{
        if (!screen.is_taken)
                return;
        screen.is_taken = 0;
        write_all(GIVE, sizeof GIVE - 1);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &screen.before);
}

/* The old handler is in place again and gets the fault. */
static void on_fault(int signal)
{
        give_back();
        raise(signal);
}

static void catch_signals(void)
{
        struct sigaction action = {.sa_handler = on_signal};
        struct sigaction fault = {.sa_handler = on_fault, .sa_flags = (int)SA_RESETHAND};

        for (size_t i = 0; i < COUNT_OF(ending); i++)
                sigaction(ending[i], &action, &screen.old_ending[i]);
        for (size_t i = 0; i < COUNT_OF(faults); i++)
                sigaction(faults[i], &fault, &screen.old_faults[i]);
        sigaction(SIGTSTP, &action, &screen.old_stop);
        sigaction(SIGWINCH, &action, &screen.old_size);
}

static void leave_signals(void)
{
        for (size_t i = 0; i < COUNT_OF(ending); i++)
                sigaction(ending[i], &screen.old_ending[i], NULL);
        for (size_t i = 0; i < COUNT_OF(faults); i++)
                sigaction(faults[i], &screen.old_faults[i], NULL);
        sigaction(SIGTSTP, &screen.old_stop, NULL);
        sigaction(SIGWINCH, &screen.old_size, NULL);
}

/* ---- the terminal ---- */

static bool take(void)
{
        struct termios raw = screen.before;

        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) != 0)
                return false;
        screen.is_taken = 1;
        return write_all(TAKE, sizeof TAKE - 1);
}

static void close_pipe(void)
{
        for (unsigned i = 0; i < COUNT_OF(screen.pipe); i++) {
                if (screen.pipe[i] >= 0)
                        close(screen.pipe[i]);
                screen.pipe[i] = -1;
        }
}

int screen_begin(void)
{
        const char *term = getenv("TERM");

        assert(!screen.is_taken);
        if (!term || !*term || strcmp(term, "dumb") == 0 || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
                return cli_problem(
                        CLI_USAGE, "a live screen needs a terminal: --once shows one, --json lines");
        if (pipe2(screen.pipe, O_CLOEXEC | O_NONBLOCK) != 0 || tcgetattr(STDIN_FILENO, &screen.before) != 0) {
                close_pipe();
                return cli_problem(CLI_UNEXPECTED, "the terminal cannot be used: %s", strerror(errno));
        }
        screen.has_ended = 0;
        screen.has_changed = 0;
        screen.is_to_stop = 0;
        /* First, so that no signal finds the terminal taken and nobody to give it back. */
        catch_signals();
        if (take())
                return CLI_OK;
        screen_end();
        return cli_problem(CLI_UNEXPECTED, "the terminal cannot be used: %s", strerror(errno));
}

void screen_end(void)
{
        give_back();
        leave_signals();
        close_pipe();
}

void screen_size(unsigned *ret_width, unsigned *ret_height)
{
        struct winsize size = {0};

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_col || !size.ws_row)
                size = (struct winsize){.ws_col = WIDTH_DEFAULT, .ws_row = HEIGHT_DEFAULT};
        *ret_width = size.ws_col;
        *ret_height = size.ws_row;
}

bool screen_show(struct frame *f)
{
        frame_end(f);
        return write_all(f->out.data, f->out.size);
}

void screen_wake(void)
{
        poke();
}

/* Ctrl-Z: the shell gets its terminal, and this one again when it goes on. */
static enum screen_event stop(void)
{
        screen.is_to_stop = 0;
        give_back();
        raise(SIGSTOP);
        return take() ? SCREEN_CHANGED : SCREEN_END;
}

/* Reads away what woke. */
static bool was_woken(void)
{
        char bytes[64];
        bool is_woken = false;

        while (read(screen.pipe[0], bytes, sizeof bytes) > 0)
                is_woken = true;
        return is_woken;
}

static bool read_key(char *ret)
{
        return read(STDIN_FILENO, ret, 1) == 1;
}

enum screen_event screen_wait(unsigned ms, char *ret_key)
{
        struct pollfd from[2] = {
                {.fd = STDIN_FILENO, .events = POLLIN}, {.fd = screen.pipe[0], .events = POLLIN}};
        int n = poll(from, 2, (int)ms);
        bool is_woken = was_woken();

        if (screen.has_ended || (n > 0 && (from[0].revents & (POLLHUP | POLLERR))))
                return SCREEN_END;
        if (screen.is_to_stop)
                return stop();
        if (screen.has_changed) {
                screen.has_changed = 0;
                return SCREEN_CHANGED;
        }
        if (n > 0 && (from[0].revents & POLLIN) && read_key(ret_key))
                return SCREEN_KEY;
        return is_woken ? SCREEN_WOKEN : SCREEN_TIME;
}
