/* How commands speak: tables and progress for people, lines for pipes, problems with the next step. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"

enum {
        TERMINAL_WIDTH_DEFAULT = 100,
        TABLE_ROWS_GATHERED = 1000,
        COLUMN_WIDTH_MIN = 23, /* a time to the millisecond */
        CELL_SIZE_MAX = 4096,
        PROGRESS_AFTER_US = 1000000,
        PROGRESS_EVERY_US = 100000,
        PROGRESS_BAR_WIDTH = 24,
        PROGRESS_BAR_WIDTH_MIN = 6, /* else none */
        PROGRESS_PERCENT_WIDTH = sizeof "[] 100 %  " - 1,
};

static volatile sig_atomic_t interrupted;
static struct nilo_client *volatile interrupted_client;
static bool reader_gone; /* standard output was a pipe whose reader has ended */

int cli_problem(int exit_code, const char *format, ...)
{
        va_list args;

        fflush(stdout);
        fputs("nilo: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        return exit_code;
}

int cli_exit_of(enum nilo_result result)
{
        switch (result) {
        case NILO_OK:
        case NILO_END:
                return CLI_OK;
        case NILO_CONFLICT:
                return CLI_CONFLICT;
        case NILO_NOT_FOUND:
        case NILO_DELETED:
                return CLI_NOT_FOUND;
        case NILO_INVALID:
        case NILO_TOO_LARGE:
                return CLI_USAGE;
        case NILO_BUSY:
        case NILO_FULL:
        case NILO_UNKNOWN:
        case NILO_IN_USE:
        case NILO_UNAVAILABLE:
                return CLI_UNAVAILABLE;
        case NILO_CORRUPT:
                return CLI_CORRUPT;
        case NILO_DENIED:
                return CLI_DENIED;
        default:
                return CLI_UNEXPECTED;
        }
}

int cli_exit_of_errno(int error)
{
        switch (error) {
        case ENOENT:
        case ENOTDIR:
                return CLI_NOT_FOUND;
        case EACCES:
        case EPERM:
        case EROFS:
                return CLI_DENIED;
        default:
                return CLI_UNEXPECTED;
        }
}

int cli_failed(struct nilo_client *client, enum nilo_result result)
{
        const char *next = nilo_client_next_step(client);

        return cli_problem(
                cli_exit_of(result), "%s%s%s", nilo_client_problem(client), *next ? "\n      " : "", next);
}

/* ---- tables ---- */

static unsigned terminal_width(void)
{
        struct winsize size;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
                return size.ws_col;
        return TERMINAL_WIDTH_DEFAULT;
}

/* Characters on the screen: UTF-8 sequences count once. */
static unsigned width_of(const char *text)
{
        unsigned n = 0;

        for (; *text; text++)
                n += (*text & 0xc0) != 0x80;
        return n;
}

/* Prints at most `width` characters; control characters (C0 and C1) become '.', so that data cannot drive the
 * terminal. */
static void print_cut(const char *text, unsigned width)
{
        unsigned n = 0;

        for (; *text; text++) {
                uint8_t c = (uint8_t)*text;
                bool is_c1 = c == 0xc2 && (uint8_t)text[1] >= 0x80 && (uint8_t)text[1] < 0xa0;

                n += (c & 0xc0) != 0x80;
                if (n > width)
                        return;
                putchar(c < 0x20 || c == 0x7f || is_c1 ? '.' : c);
                text += is_c1;
        }
}

void cli_print_wrapped(const char *text, unsigned indent)
{
        unsigned width = terminal_width();
        unsigned column = indent;

        width = width > indent + COLUMN_WIDTH_MIN ? width : indent + COLUMN_WIDTH_MIN;
        while (*text) {
                char word[CELL_SIZE_MAX];
                size_t size = MIN(strcspn(text, " "), sizeof word - 1);

                memcpy(word, text, size);
                word[size] = 0;
                if (column > indent && column + 1 + width_of(word) > width) {
                        printf("\n%*s", (int)indent, "");
                        column = indent;
                } else if (column > indent) {
                        putchar(' ');
                        column++;
                }
                print_cut(word, CELL_SIZE_MAX);
                column += width_of(word);
                text += size;
                text += strspn(text, " ");
        }
        putchar('\n');
}

void table_begin(struct table *t, const struct cli_line *line, const char *const *columns, unsigned count)
{
        assert(count > 0 && count <= TABLE_COLUMNS_MAX);
        *t = (struct table){.columns = columns, .column_count = count, .has_color = line->has_color};
}

void table_cell_bytes(struct table *t, const char *text, size_t size)
{
        /* More than a screen of one cell is never shown. */
        buffer_add(&t->cells, text, MIN(strnlen(text, size), (size_t)CELL_SIZE_MAX));
        buffer_add_u8(&t->cells, 0);
        t->cell_count++;
        if (t->cell_count == t->column_count * TABLE_ROWS_GATHERED)
                table_flush(t);
}

void table_cell(struct table *t, const char *text)
{
        table_cell_bytes(t, text, strlen(text));
}

/* As wide as the cells that are there, the last as wide as the terminal allows. */
static void table_measure(struct table *t)
{
        const char *cell = (const char *)t->cells.data;
        unsigned left = terminal_width();
        unsigned last = t->column_count - 1;

        for (unsigned i = 0; i < t->column_count; i++)
                t->widths[i] = width_of(t->columns[i]);
        for (unsigned i = 0; i < t->cell_count; i++, cell += strlen(cell) + 1) {
                unsigned *width = &t->widths[i % t->column_count];

                *width = MAX(*width, width_of(cell));
        }
        for (unsigned i = 0; i < last; i++) {
                t->widths[i] = MIN(t->widths[i], MAX(left / 2, (unsigned)COLUMN_WIDTH_MIN));
                left = left > t->widths[i] + 2 ? left - t->widths[i] - 2 : COLUMN_WIDTH_MIN;
        }
        t->widths[last] = left;
}

static void table_head(struct table *t)
{
        unsigned last = t->column_count - 1;

        for (unsigned i = 0; i < t->column_count; i++)
                printf("%s%-*s%s%s", t->has_color ? "\033[1m" : "", i == last ? 0 : (int)t->widths[i],
                        t->columns[i], t->has_color ? "\033[0m" : "", i == last ? "\n" : "  ");
}

void table_flush(struct table *t)
{
        const char *cell = (const char *)t->cells.data;

        assert(t->cell_count % t->column_count == 0);
        if (!t->has_widths) {
                table_measure(t);
                table_head(t);
                t->has_widths = true;
        }
        for (unsigned i = 0; i < t->cell_count; i++, cell += strlen(cell) + 1) {
                unsigned column = i % t->column_count;
                unsigned width = MIN(width_of(cell), t->widths[column]);

                print_cut(cell, t->widths[column]);
                if (column == t->column_count - 1)
                        putchar('\n');
                else
                        printf("%*s", (int)(t->widths[column] - width) + 2, "");
        }
        buffer_clear(&t->cells);
        t->cell_count = 0;
}

void table_end(struct table *t)
{
        table_flush(t);
        buffer_fini(&t->cells);
}

bool cli_print_line(const char *line, size_t size)
{
        if (fwrite(line, 1, size, stdout) == size && putchar('\n') != EOF)
                return true;
        reader_gone = errno == EPIPE;
        return false;
}

bool cli_flush(void)
{
        if (fflush(stdout) == 0 && !ferror(stdout))
                return true;
        reader_gone = reader_gone || errno == EPIPE;
        return false;
}

bool cli_is_reader_gone(void)
{
        struct pollfd out = {.fd = STDOUT_FILENO};

        /* Asked before there is something to write: a command that waits for news would not learn it else. */
        reader_gone = reader_gone || (poll(&out, 1, 0) == 1 && (out.revents & POLLERR));
        return reader_gone;
}

/* ---- progress ---- */

static uint64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void progress_begin(
        struct progress *p, const struct cli_line *line, const char *what, const char *unit, uint64_t total)
{
        *p = (struct progress){.what = what, .unit = unit, .total = total, .started_us = now_us()};
        p->is_on = isatty(STDERR_FILENO) && !line->is_quiet;
}

/* As wide as the rest of the line allows: a line that wraps cannot be written over. */
static void add_bar(const struct progress *p, double part, size_t rest, struct buffer *out)
{
        size_t taken = rest + PROGRESS_PERCENT_WIDTH;
        size_t left = !p->width ? PROGRESS_BAR_WIDTH : p->width > taken ? p->width - taken : 0;
        unsigned width = (unsigned)MIN(left, (size_t)PROGRESS_BAR_WIDTH);
        unsigned filled = (unsigned)(part * width);

        if (width >= PROGRESS_BAR_WIDTH_MIN) {
                buffer_add_u8(out, '[');
                for (unsigned i = 0; i < width; i++)
                        buffer_add_u8(out, i < filled ? '#' : '-');
                buffer_add_string(out, "] ");
        }
        buffer_format(out, "%3.0f %%  ", part * 100);
}

void progress_format(
        const struct progress *p, uint64_t done, uint64_t count, double seconds, struct buffer *out)
{
        struct buffer rest = {0};
        char text[CLI_SIZE_TEXT];

        cli_format_count(count, text);
        buffer_format(&rest, "%s %s", text, p->unit);
        cli_format_count(seconds > 0 ? (uint64_t)((double)count / seconds) : 0, text);
        buffer_format(&rest, "  %s %s/s", text, p->unit);
        if (p->total && done && done < p->total) {
                cli_format_seconds(seconds * (double)(p->total - done) / (double)done, text);
                buffer_format(&rest, "  %s left", text);
        }
        buffer_format(out, "%s ", p->what);
        if (p->total)
                add_bar(p, MIN((double)done / (double)p->total, 1.0), width_of(p->what) + 1 + rest.size, out);
        buffer_add_bytes(out, buffer_bytes(&rest));
        buffer_fini(&rest);
}

/* One column of the terminal stays free: behind a full line some go to the next by themselves. */
static unsigned progress_width(void)
{
        struct winsize size;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1U : 0;
}

void progress_at(struct progress *p, uint64_t done, uint64_t count)
{
        struct buffer text = {0};
        uint64_t now;

        if (!p->is_on)
                return;
        now = now_us();
        if (now - p->started_us < PROGRESS_AFTER_US || now - p->shown_us < PROGRESS_EVERY_US)
                return;
        p->shown_us = now;
        p->is_shown = true;
        p->width = progress_width();
        progress_format(p, done, count, (double)(now - p->started_us) / 1e6, &text);
        if (p->width)
                text.size = MIN(text.size, (size_t)p->width);
        fprintf(stderr, "\r\033[K%.*s", (int)text.size, (const char *)text.data);
        fflush(stderr);
        buffer_fini(&text);
}

void progress_end(struct progress *p)
{
        if (p->is_shown)
                fputs("\r\033[K", stderr);
        p->is_on = false;
        p->is_shown = false;
}

void cli_remark(const struct cli_line *line, const char *format, ...)
{
        va_list args;

        if (line->is_quiet)
                return;
        fflush(stdout);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
}

/* ---- numbers ---- */

void cli_format_size(uint64_t size, char ret[CLI_SIZE_TEXT])
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double n = (double)size;
        unsigned unit = 0;

        /* What would be rounded to 1024 belongs to the next unit. */
        while (n >= 1023.95 && unit < COUNT_OF(units) - 1) {
                n /= 1024;
                unit++;
        }
        snprintf(ret, CLI_SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
}

void cli_format_count(uint64_t count, char ret[CLI_SIZE_TEXT])
{
        char digits[CLI_SIZE_TEXT];
        int size = snprintf(digits, sizeof digits, "%" PRIu64, count);
        char *at = ret;

        for (int i = 0; i < size; i++) {
                if (i && (size - i) % 3 == 0)
                        *at++ = ' ';
                *at++ = digits[i];
        }
        *at = 0;
}

void cli_format_seconds(double seconds, char ret[CLI_SIZE_TEXT])
{
        double minutes = seconds / 60;

        if (seconds < 99.5)
                snprintf(ret, CLI_SIZE_TEXT, "%.0f s", seconds);
        else if (minutes < 99.5)
                snprintf(ret, CLI_SIZE_TEXT, "%.0f min", minutes);
        else
                snprintf(ret, CLI_SIZE_TEXT, "%.0f h %02.0f min", (double)(uint64_t)(minutes / 60),
                        (double)((uint64_t)minutes % 60));
}

/* ---- questions ---- */

bool cli_confirm(const struct cli_line *line, const char *name)
{
        char typed[2048];
        size_t size;

        if (cli_has(line, "yes"))
                return true;
        if (!isatty(STDIN_FILENO)) {
                cli_problem(CLI_USAGE, "this cannot be undone: say --yes to do it without being asked");
                return false;
        }
        fprintf(stderr, "Type the name to go on: ");
        if (!fgets(typed, sizeof typed, stdin))
                return false;
        size = strcspn(typed, "\n");
        typed[size] = 0;
        if (strcmp(typed, name) == 0)
                return true;
        cli_problem(CLI_USAGE, "\"%s\" is not \"%s\": nothing was done", typed, name);
        return false;
}

static void on_interrupt(int signal)
{
        struct nilo_client *client = interrupted_client;

        (void)signal;
        interrupted = 1;
        if (client)
                nilo_client_interrupt(client);
}

void cli_catch_interrupt(struct nilo_client *client)
{
        struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};

        interrupted_client = client;
        if (!interrupted) {
                sigaction(SIGINT, &action, NULL);
                sigaction(SIGTERM, &action, NULL);
        }
}

bool cli_is_interrupted(void)
{
        return interrupted;
}
