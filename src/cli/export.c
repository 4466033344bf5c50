/* Export: the events of a stream or of the whole log as NDJSON, up to the end as it is when the export
 * begins.
 *
 * It can go on: every line has its place (position, or revision), so a file that was cut off tells by its
 * last whole line where to go on. A line without its end is cut off first. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"

enum { TAIL_SIZE = 64 * 1024, OUTPUT_SIZE = 256 * 1024, LINE_SIZE_MAX = 64 << 20 };

struct exporting {
        const struct cli_line *line;
        const char *key; /* that holds the place */
        bool wants_system;
        FILE *to;
        struct progress progress;
        uint64_t first;
        uint64_t next; /* place behind the last line */
        uint64_t end;  /* place behind the newest event at the beginning */
        uint64_t count;
        uint64_t limit;
        bool has_failed; /* to write */
};

static bool on_event(void *arg, const char *json, size_t size)
{
        struct exporting *e = arg;
        const char *stream;
        size_t stream_size;
        uint64_t place;

        if (!nilo_json_number(json, size, e->key, &place) || place >= e->end || cli_is_interrupted())
                return false;
        e->next = place + 1;
        if (!e->wants_system && nilo_json_field(json, size, "stream", &stream, &stream_size) &&
                stream_size > 1 && stream[1] == '$')
                return true;
        if (fwrite(json, 1, size, e->to) != size || fputc('\n', e->to) == EOF) {
                e->has_failed = true;
                return false;
        }
        e->count++;
        progress_at(&e->progress, e->next - e->first, e->count);
        return e->count != e->limit;
}

static bool on_newest(void *arg, const char *json, size_t size)
{
        struct exporting *e = arg;
        uint64_t place;

        if (nilo_json_number(json, size, e->key, &place))
                e->end = place + 1;
        return false;
}

/* ---- going on with a file ---- */

/* Finds where the last whole line of the file begins and ends; both 0 if there is none. */
static int find_last_line(FILE *file, const char *name, off_t *ret_begin, off_t *ret_end)
{
        char piece[TAIL_SIZE];
        off_t at;

        *ret_begin = 0;
        *ret_end = 0;
        if (fseeko(file, 0, SEEK_END) != 0)
                return cli_problem(CLI_UNEXPECTED, "%s: %s", name, strerror(errno));
        for (at = ftello(file); at > 0;) {
                size_t size = (size_t)MIN(at, (off_t)sizeof piece);

                at -= (off_t)size;
                if (fseeko(file, at, SEEK_SET) != 0 || fread(piece, 1, size, file) != size)
                        return cli_problem(CLI_UNEXPECTED, "%s: %s", name, strerror(errno));
                while (size--) {
                        if (piece[size] != '\n')
                                continue;
                        if (*ret_end) {
                                *ret_begin = at + (off_t)size + 1;
                                return CLI_OK;
                        }
                        *ret_end = at + (off_t)size + 1;
                }
        }
        return CLI_OK;
}

static int read_place(struct exporting *e, const char *name, off_t begin, off_t end)
{
        size_t size = (size_t)(end - begin);
        struct buffer text = {0};
        uint64_t place = 0;
        bool is_read;

        buffer_reserve(&text, MIN(size, (size_t)LINE_SIZE_MAX));
        is_read = size <= LINE_SIZE_MAX && fseeko(e->to, begin, SEEK_SET) == 0 &&
                  fread(text.data, 1, size, e->to) == size &&
                  nilo_json_number((const char *)text.data, size, e->key, &place);
        buffer_fini(&text);
        if (!is_read)
                return cli_problem(CLI_USAGE,
                        "%s: its last line has no %s, so this is no such export; name another file", name,
                        e->key);
        e->next = place + 1;
        cli_remark(e->line, "%s ends with %s %llu: going on from there", name, e->key,
                (unsigned long long)place);
        return CLI_OK;
}

static int open_file(struct exporting *e, const char *name)
{
        off_t begin;
        off_t end;
        int code;

        e->to = fopen(name, "r+b");
        if (!e->to && errno == ENOENT)
                e->to = fopen(name, "w+b");
        if (!e->to)
                return cli_problem(cli_exit_of_errno(errno), "%s: %s", name, strerror(errno));
        setvbuf(e->to, NULL, _IOFBF, OUTPUT_SIZE);
        code = find_last_line(e->to, name, &begin, &end);
        if (!code && end)
                code = read_place(e, name, begin, end);
        if (!code && (ftruncate(fileno(e->to), end) != 0 || fseeko(e->to, end, SEEK_SET) != 0))
                code = cli_problem(CLI_UNEXPECTED, "%s: %s", name, strerror(errno));
        return code;
}

/* ---- the export ---- */

static enum nilo_result copy(struct nilo_client *client, struct exporting *e, const char *stream)
{
        struct nilo_read_options newest = {
                .stream = stream, .is_backward = true, .from_end = true, .limit = 1};
        struct nilo_read_options options = {.stream = stream, .from = e->next};
        enum nilo_result result = nilo_client_read(client, &newest, on_newest, e);

        if (result || e->next >= e->end)
                return result;
        e->first = e->next;
        progress_begin(&e->progress, e->line, "export", "events", e->end - e->first);
        result = nilo_client_read(client, &options, on_event, e);
        progress_end(&e->progress);
        return result;
}

/* What was written, whether it is complete, and how to go on. */
static int conclude(
        struct nilo_client *client, struct exporting *e, enum nilo_result result, const char *output)
{
        char count[CLI_SIZE_TEXT];
        bool is_written = fflush(e->to) == 0 && !e->has_failed && !ferror(e->to) &&
                          (!output || fsync(fileno(e->to)) == 0);
        int code = CLI_OK;

        cli_format_count(e->count, count);
        if (!is_written && !output && errno == EPIPE)
                return CLI_OK;
        if (!is_written)
                code = cli_problem(CLI_UNEXPECTED, "%s cannot be written: %s",
                        output ? output : "standard output", strerror(errno));
        else if (result)
                code = cli_failed(client, result);
        else if (cli_is_interrupted())
                code = cli_problem(CLI_UNEXPECTED, "stopped");
        else if (output || e->line->is_terminal)
                cli_remark(e->line, "%s events written", count);
        if (code && output && (e->count || e->next))
                cli_remark(
                        e->line, "%s events are in %s: the same command goes on behind them", count, output);
        else if (code && e->count)
                cli_remark(e->line, "%s events were written: --from %llu goes on behind them", count,
                        (unsigned long long)e->next);
        return code;
}

int command_export(const struct cli_line *line)
{
        const char *stream = cli_value(line, "stream");
        const char *output = cli_value(line, "output");
        struct exporting e = {.line = line,
                .key = stream ? "revision" : "position",
                .wants_system = stream || cli_has(line, "system"),
                .to = stdout};
        struct nilo_client *client;
        int code = CLI_OK;

        if (!cli_number_of(line, "from", 0, &e.next) || !cli_number_of(line, "limit", 0, &e.limit))
                return CLI_USAGE;
        if (cli_has(line, "limit") && !e.limit)
                return cli_problem(CLI_USAGE, "--limit: at least 1");
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        if (output)
                code = open_file(&e, output);
        if (!code) {
                enum nilo_result result;

                cli_catch_interrupt(client);
                result = copy(client, &e, stream);
                code = conclude(client, &e, result, output);
                cli_catch_interrupt(NULL);
        }
        if (output && e.to && fclose(e.to) != 0 && !code)
                code = cli_problem(CLI_UNEXPECTED, "%s cannot be written: %s", output, strerror(errno));
        nilo_client_close(&client);
        return code;
}
