/* Streams: list, state, append, truncate, delete. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json_out.h"
#include "cli/command.h"

enum { ID_SIZE = 16, DATA_SIZE_MAX = 64 << 20 };

/* ---- ls ---- */

static void add_query(struct buffer *path, const char *name, const char *value)
{
        char *query;

        if (!value)
                return;
        query = cli_path("", value, "");
        buffer_format(path, "%c%s=%s", memchr(path->data, '?', path->size) ? '&' : '?', name, query);
        free(query);
}

int command_stream_ls(const struct cli_line *line)
{
        const char *what = cli_has(line, "categories") ? "categories"
                           : cli_has(line, "types")    ? "types"
                                                       : "streams";
        struct nilo_client *client;
        struct object_printer printer;
        struct buffer path = {0};
        enum nilo_result result;
        uint64_t limit;
        int code = CLI_OK;

        if (cli_has(line, "categories") && cli_has(line, "types"))
                return cli_problem(CLI_USAGE, "--categories and --types are two lists: ask for one of them");
        if (!cli_number_of(line, "limit", 1, &limit))
                return CLI_USAGE;
        if (!limit)
                return cli_problem(CLI_USAGE, "--limit: at least 1");
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        buffer_format(&path, "/v1/%s", what);
        add_query(&path, "prefix", line->argument_count ? line->arguments[0] : NULL);
        add_query(&path, "limit", cli_value(line, "limit"));
        add_query(&path, "after", cli_value(line, "after"));
        add_query(&path, "system", cli_has(line, "system") ? "true" : NULL);
        buffer_add_u8(&path, 0);
        object_printer_begin(&printer, line);
        result = nilo_client_lines(client, (const char *)path.data, object_printer_show, &printer);
        object_printer_end(&printer);
        if (result)
                code = cli_failed(client, result);
        else if (!printer.count && line->is_terminal)
                cli_remark(line, "no %s%s%s", what, line->argument_count ? " that begin with " : "",
                        line->argument_count ? line->arguments[0] : "");
        buffer_fini(&path);
        nilo_client_close(&client);
        return code;
}

/* ---- show ---- */

static enum nilo_result get_stream(struct nilo_client *client, const char *stream, char **ret_body)
{
        char *path = cli_path("/v1/streams/", stream, "");
        enum nilo_result result = nilo_client_send(client, "GET", path, NULL, NULL, 0, ret_body);

        free(path);
        return result;
}

int command_stream_show(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *body = NULL;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        result = get_stream(client, line->arguments[0], &body);
        if (result)
                code = cli_failed(client, result);
        else
                cli_show_object(line, body);
        free(body);
        nilo_client_close(&client);
        return code;
}

/* ---- append ---- */

static bool id_parse(const char *text, uint8_t ret[ID_SIZE])
{
        unsigned digits = 0;

        for (; *text; text++) {
                char c = (char)(*text | 0x20);
                unsigned n = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                             : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                    : 16;

                if (*text == '-')
                        continue;
                if (n > 15 || digits == 2 * ID_SIZE)
                        return false;
                ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | n);
                digits++;
        }
        return digits == 2 * ID_SIZE;
}

/* Everything that the file has. CLI_OK, or the exit code after a message. */
static int read_file(FILE *file, const char *name, struct buffer *ret)
{
        char piece[64 * 1024];
        size_t size;

        while ((size = fread(piece, 1, sizeof piece, file)) > 0) {
                buffer_add(ret, piece, size);
                if (ret->size > DATA_SIZE_MAX)
                        return cli_problem(CLI_USAGE, "%s: larger than any event may be (%d MiB)", name,
                                DATA_SIZE_MAX >> 20);
        }
        return ferror(file) ? cli_problem(CLI_UNEXPECTED, "%s: %s", name, strerror(errno)) : CLI_OK;
}

/* Data from an argument: as it stands, or of the file behind "@". */
static int read_argument(const char *argument, struct buffer *ret)
{
        FILE *file;
        int code;

        if (*argument != '@') {
                buffer_add_string(ret, argument);
                return CLI_OK;
        }
        file = fopen(argument + 1, "rb");
        if (!file)
                return cli_problem(cli_exit_of_errno(errno), "%s: %s", argument + 1, strerror(errno));
        code = read_file(file, argument + 1, ret);
        fclose(file);
        return code;
}

static int read_data(const struct cli_line *line, struct buffer *ret)
{
        if (line->argument_count > 2 && strcmp(line->arguments[2], "-") != 0)
                return read_argument(line->arguments[2], ret);
        if (isatty(STDIN_FILENO))
                cli_remark(line, "data from the terminal; end it with Ctrl-D on a line of its own");
        return read_file(stdin, "standard input", ret);
}

static void show_appended(const struct cli_line *line, const struct nilo_appended *appended)
{
        if (line->is_json) {
                struct buffer out = {0};
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_field_string(&j, "stream", line->arguments[0]);
                json_key(&j, "revision");
                json_i64(&j, appended->last_revision);
                json_field_u64(&j, "position", appended->position);
                json_field_bool(&j, "duplicate", appended->is_duplicate);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
                buffer_fini(&out);
                return;
        }
        printf("%s is at revision %" PRId64 ", position %" PRIu64 "%s\n", line->arguments[0],
                appended->last_revision, appended->position,
                appended->is_duplicate ? " (it was there already)" : "");
}

static int append(const struct cli_line *line, int64_t expected, struct nilo_event *event)
{
        struct nilo_client *client = cli_client(line);
        struct nilo_appended appended = {0};
        enum nilo_result result;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        result = nilo_client_append(client, line->arguments[0], expected, event, 1, &appended);
        if (result)
                code = cli_failed(client, result);
        else
                show_appended(line, &appended);
        nilo_client_close(&client);
        return code;
}

int command_stream_append(const struct cli_line *line)
{
        const char *id_text = cli_value(line, "id");
        struct nilo_event event = {.type = line->arguments[1], .is_binary = cli_has(line, "binary")};
        struct buffer data = {0};
        struct buffer metadata = {0};
        uint8_t id[ID_SIZE] = {0};
        int64_t expected;
        int code;

        if (!cli_expected(cli_value(line, "expect"), &expected))
                return CLI_USAGE;
        if (id_text && !id_parse(id_text, id))
                return cli_problem(CLI_USAGE,
                        "--id: \"%s\" is no UUID (32 hexadecimal digits, hyphens may be left out)", id_text);
        code = read_data(line, &data);
        if (!code && cli_has(line, "metadata"))
                code = read_argument(cli_value(line, "metadata"), &metadata);
        if (!code && metadata.size && !nilo_json_is_valid((const char *)metadata.data, metadata.size))
                code = cli_problem(CLI_USAGE, "--metadata: this is no JSON");
        if (!code) {
                event.data = data.data;
                event.data_size = data.size;
                event.metadata = metadata.data;
                event.metadata_size = metadata.size;
                event.id = id_text ? id : NULL;
                code = append(line, expected, &event);
        }
        buffer_fini(&data);
        buffer_fini(&metadata);
        return code;
}

/* ---- truncate and delete ---- */

/* What a stream has, to say what will go. */
struct extent {
        bool has_events;
        uint64_t first;
        uint64_t last;
};

static void read_extent(const char *body, struct extent *ret)
{
        ret->has_events = nilo_json_number(body, strlen(body), "first_revision", &ret->first) &&
                          nilo_json_number(body, strlen(body), "last_revision", &ret->last) &&
                          ret->first <= ret->last;
}

/* "15 events (revisions 3 to 17)" */
static void events_text(uint64_t first, uint64_t last, char *to, size_t size)
{
        char count[CLI_SIZE_TEXT];

        cli_format_count(last - first + 1, count);
        if (first == last)
                snprintf(to, size, "1 event (revision %" PRIu64 ")", first);
        else
                snprintf(to, size, "%s events (revisions %" PRIu64 " to %" PRIu64 ")", count, first, last);
}

/* Says what will go. With --dry-run that is the answer; else a remark before the question. */
static void say_loss(const struct cli_line *line, uint64_t first, uint64_t end, const char *what)
{
        const char *stream = line->arguments[0];
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        char events[96] = "nothing";

        if (first < end)
                events_text(first, end - 1, events, sizeof events);
        if (!cli_has(line, "dry-run")) {
                cli_remark(line, "%s: %s %s", stream, events, what);
        } else if (!line->is_json) {
                printf("%s: %s %s\n", stream, events, what);
        } else {
                json_object_begin(&j);
                json_field_string(&j, "stream", stream);
                json_field_u64(&j, "would_go", first < end ? end - first : 0);
                if (first < end) {
                        json_field_u64(&j, "first_revision", first);
                        json_field_u64(&j, "last_revision", end - 1);
                }
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
        }
        buffer_fini(&out);
}

static int truncate_stream(const struct cli_line *line, struct nilo_client *client, uint64_t before)
{
        const char *stream = line->arguments[0];
        struct extent extent = {0};
        enum nilo_result result;
        char *body = NULL;
        char *path;
        char rest[64];

        result = get_stream(client, stream, &body);
        if (result)
                return cli_failed(client, result);
        read_extent(body, &extent);
        free(body);
        if (extent.has_events && before > extent.last + 1)
                return cli_problem(CLI_USAGE,
                        "%s ends at revision %" PRIu64 ": --before can be %" PRIu64 " at most", stream,
                        extent.last, extent.last + 1);
        say_loss(line, extent.first, extent.has_events ? before : 0, "will be hidden from every reader");
        if (cli_has(line, "dry-run"))
                return CLI_OK;
        if (!cli_confirm(line, stream))
                return CLI_USAGE;
        snprintf(rest, sizeof rest, "/truncate?before=%" PRIu64, before);
        path = cli_path("/v1/streams/", stream, rest);
        body = NULL;
        result = nilo_client_send(client, "POST", path, NULL, NULL, 0, &body);
        free(path);
        if (result)
                return cli_failed(client, result);
        if (line->is_json)
                cli_show_object(line, body);
        else
                printf("%s begins at revision %" PRIu64 " now\n", stream, MAX(before, extent.first));
        free(body);
        return CLI_OK;
}

int command_stream_truncate(const struct cli_line *line)
{
        struct nilo_client *client;
        uint64_t before;
        int code;

        if (!cli_has(line, "before"))
                return cli_problem(CLI_USAGE, "--before REVISION is needed: the first revision that stays");
        if (!cli_number_of(line, "before", 0, &before))
                return CLI_USAGE;
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        code = truncate_stream(line, client, before);
        nilo_client_close(&client);
        return code;
}

static int delete_stream(const struct cli_line *line, struct nilo_client *client, int64_t expected)
{
        const char *stream = line->arguments[0];
        bool is_tombstone = cli_has(line, "tombstone");
        struct extent extent = {0};
        enum nilo_result result;
        char *body = NULL;
        uint64_t position = 0;

        result = get_stream(client, stream, &body);
        /* A name that has no events can be taken out of use for good, too. */
        if (result && !(result == NILO_NOT_FOUND && is_tombstone))
                return cli_failed(client, result);
        if (!result)
                read_extent(body, &extent);
        free(body);
        say_loss(line, extent.first, extent.has_events ? extent.last + 1 : 0,
                is_tombstone ? "will go; the name can never be used again" : "will go");
        if (cli_has(line, "dry-run"))
                return CLI_OK;
        if (!cli_confirm(line, stream))
                return CLI_USAGE;
        result = nilo_client_delete(client, stream, expected, is_tombstone, &position);
        if (result)
                return cli_failed(client, result);
        if (line->is_json) {
                struct buffer out = {0};
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_field_string(&j, "stream", stream);
                json_field_string(&j, "state", is_tombstone ? "tombstoned" : "soft-deleted");
                json_field_u64(&j, "position", position);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
                buffer_fini(&out);
        } else {
                printf("%s is deleted%s\n", stream, is_tombstone ? " for good" : "");
        }
        return CLI_OK;
}

int command_stream_delete(const struct cli_line *line)
{
        struct nilo_client *client;
        int64_t expected;
        int code;

        if (!cli_expected(cli_value(line, "expect"), &expected))
                return CLI_USAGE;
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        code = delete_stream(line, client, expected);
        nilo_client_close(&client);
        return code;
}
