/* What the server does, live: facts, and what its loggers show. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/json_out.h"
#include "cli/command.h"

enum { TIME_SHOWN = sizeof "2026-11-24T10:00:00.123" - 1 };

struct watch {
        const struct cli_line *line;
        struct table table;
        uint64_t count;
        uint64_t limit;
};

static bool fits(const struct watch *w)
{
        return w->count != w->limit;
}

static void cell(struct table *t, char *text, bool is_time)
{
        if (text && is_time && strlen(text) > TIME_SHOWN) {
                text[10] = ' ';
                text[TIME_SHOWN] = 0;
        }
        table_cell(t, text ? text : "");
        free(text);
}

static bool on_fact(void *arg, const char *json, size_t size)
{
        struct watch *w = arg;
        struct buffer said = {0};
        const char *data;
        size_t data_size;
        uint64_t missed;
        char *text;

        if (!size)
                return true;
        if (w->line->is_json) {
                w->count++;
                return cli_print_line(json, size) && fits(w);
        }
        if (nilo_json_number(json, size, "missed", &missed)) {
                table_flush(&w->table);
                cli_remark(w->line, "%llu facts were missed", (unsigned long long)missed);
                return true;
        }
        w->count++;
        text = nilo_json_string(json, size, "text");
        buffer_add_string(&said, text ? text : "");
        if (nilo_json_field(json, size, "data", &data, &data_size) && data_size > 2)
                buffer_format(&said, "  %.*s", (int)data_size, data);
        buffer_add_u8(&said, 0);
        cell(&w->table, nilo_json_string(json, size, "time"), true);
        cell(&w->table, nilo_json_string(json, size, "category"), false);
        cell(&w->table, nilo_json_string(json, size, "type"), false);
        table_cell(&w->table, (const char *)said.data);
        buffer_fini(&said);
        free(text);
        return fits(w);
}

static bool on_idle(void *arg)
{
        struct watch *w = arg;

        if (w->table.cell_count)
                table_flush(&w->table);
        return cli_flush() && !cli_is_reader_gone();
}

static void add_query(struct buffer *path, const char *name, const char *value)
{
        char *query;

        if (!value)
                return;
        query = cli_path(name, value, "");
        buffer_format(path, "%c%s", memchr(path->data, '?', path->size) ? '&' : '?', query);
        free(query);
}

int command_fact_watch(const struct cli_line *line)
{
        /* As wide as the longest, since the first facts do not show it. */
        static const char *const columns[] = {
                "TIME                   ", "CATEGORY     ", "FACT                           ", "TEXT"};
        struct watch w = {.line = line};
        struct nilo_client *client;
        struct buffer path = {0};
        enum nilo_result result;
        int code = CLI_OK;

        if (!cli_number_of(line, "limit", 0, &w.limit))
                return CLI_USAGE;
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        buffer_add_string(&path, "/v1/facts");
        add_query(&path, "category=", cli_value(line, "category"));
        add_query(&path, "level=", cli_value(line, "level"));
        add_query(&path, "from=", cli_has(line, "from-oldest") ? "oldest" : NULL);
        buffer_add_u8(&path, 0);
        table_begin(&w.table, line, columns, COUNT_OF(columns));
        cli_catch_interrupt(client);
        nilo_client_on_idle(client, on_idle, &w);
        result = nilo_client_lines(client, (const char *)path.data, on_fact, &w);
        on_idle(&w);
        if (result)
                code = cli_failed(client, result);
        else if (!cli_is_interrupted() && fits(&w) && !cli_is_reader_gone())
                code = cli_problem(CLI_UNAVAILABLE, "the server ended the stream of facts: it stops");
        buffer_fini(&w.table.cells);
        buffer_fini(&path);
        cli_catch_interrupt(NULL);
        nilo_client_close(&client);
        return code;
}

/* ---- log level ---- */

static enum nilo_result change_level(
        struct nilo_client *client, const char *path, const char *level, char **ret_body)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        enum nilo_result result;

        json_object_begin(&j);
        json_field_string(&j, "level", level);
        json_object_end(&j);
        result = nilo_client_send(client, "PUT", path, headers, body.data, body.size, ret_body);
        buffer_fini(&body);
        return result;
}

int command_log_level(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *path;
        char *body = NULL;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        path = line->argument_count ? cli_path("/v1/log/levels/", line->arguments[0], "")
                                    : cli_path("/v1/log/levels", "", "");
        if (line->argument_count > 1)
                result = change_level(client, path, line->arguments[1], &body);
        else
                result = nilo_client_send(client, "GET", path, NULL, NULL, 0, &body);
        if (result)
                code = cli_failed(client, result);
        else
                cli_show_object(line, body);
        free(body);
        free(path);
        nilo_client_close(&client);
        return code;
}
