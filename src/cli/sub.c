/* Durable subscriptions: lists, one, lag, parked events. */
#include "cli/sub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIME_SHOWN = sizeof "2026-11-24T10:00:00" - 1, PARKED_PAGE = 500 };

/* ---- shared ---- */

char *sub_path(const struct cli_line *line, const char *rest)
{
        char *stream = cli_path("/v1/subscriptions/", line->arguments[0], "/");
        char *path = cli_path(stream, line->arguments[1], rest);

        free(stream);
        return path;
}

enum nilo_result sub_get(struct nilo_client *client, const struct cli_line *line, char **ret_body)
{
        char *path = sub_path(line, "");
        enum nilo_result result = nilo_client_send(client, "GET", path, NULL, NULL, 0, ret_body);

        free(path);
        return result;
}

uint64_t sub_number(const json_t *object, const char *path)
{
        const char *dot = strchr(path, '.');
        char name[64];

        if (!dot)
                return (uint64_t)json_integer_value(json_object_get(object, path));
        snprintf(name, sizeof name, "%.*s", (int)(dot - path), path);
        return sub_number(json_object_get(object, name), dot + 1);
}

const char *sub_text(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

void sub_format_lag(const json_t *subscription, char ret[CLI_SIZE_TEXT])
{
        double seconds = json_number_value(json_object_get(json_object_get(subscription, "lag"), "seconds"));

        if (seconds > 0 && seconds < 9.95)
                snprintf(ret, CLI_SIZE_TEXT, "%.1f s", seconds);
        else if (seconds > 0)
                cli_format_seconds(seconds, ret);
        else
                snprintf(ret, CLI_SIZE_TEXT, "-");
}

static void count_cell(struct table *t, uint64_t n)
{
        char text[CLI_SIZE_TEXT];

        cli_format_count(n, text);
        table_cell(t, text);
}

/* ---- one ---- */

/* What is nested stands on lines of its own: "settings.max_retry_count". */
static void field_rows(struct table *t, const char *before, json_t *object)
{
        const char *name;
        json_t *value;

        json_object_foreach(object, name, value)
        {
                char full[128];

                snprintf(full, sizeof full, "%s%s", before, name);
                if (json_is_object(value) && strcmp(name, "selector") != 0) {
                        char nested[130];

                        /* The definition's own fields are those of the subscription. */
                        snprintf(nested, sizeof nested, "%s.", full);
                        field_rows(t, strcmp(full, "definition") == 0 ? "" : nested, value);
                        continue;
                }
                if (*before == 0 && json_object_get(object, "selector") &&
                        (strcmp(name, "stream") == 0 || strcmp(name, "group") == 0))
                        continue; /* shown already: it is the definition's */
                if (json_is_array(value))
                        continue; /* consumers: a table of their own */
                table_cell(t, full);
                if (json_is_string(value)) {
                        table_cell(t, json_string_value(value));
                } else {
                        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

                        table_cell(t, text ? text : "");
                        free(text);
                }
        }
}

static void consumer_rows(const struct cli_line *line, json_t *consumers)
{
        static const char *const columns[] = {
                "CONSUMER", "PEER", "WINDOW", "IN FLIGHT", "DELIVERED", "PER SECOND"};
        struct table t;
        json_t *consumer;
        size_t i;

        if (!json_array_size(consumers))
                return;
        putchar('\n');
        table_begin(&t, line, columns, COUNT_OF(columns));
        json_array_foreach(consumers, i, consumer)
        {
                table_cell(&t, sub_text(consumer, "name"));
                table_cell(&t, sub_text(consumer, "peer"));
                count_cell(&t, sub_number(consumer, "window"));
                count_cell(&t, sub_number(consumer, "in_flight"));
                count_cell(&t, sub_number(consumer, "delivered"));
                count_cell(&t, sub_number(consumer, "per_second"));
        }
        table_end(&t);
}

void sub_show(const struct cli_line *line, char *body)
{
        static const char *const columns[] = {"FIELD", "VALUE"};
        struct table t;
        json_t *object;

        if (line->is_json) {
                cli_show_object(line, body);
                return;
        }
        object = json_loads(body, 0, NULL);
        table_begin(&t, line, columns, COUNT_OF(columns));
        field_rows(&t, "", object);
        table_end(&t);
        consumer_rows(line, json_object_get(object, "consumers"));
        json_decref(object);
}

int command_sub_show(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *body = NULL;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        result = sub_get(client, line, &body);
        if (result)
                code = cli_failed(client, result);
        else
                sub_show(line, body);
        free(body);
        nilo_client_close(&client);
        return code;
}

/* ---- lists ---- */

struct sub_list {
        const struct cli_line *line;
        struct table table;
        const char *stream; /* NULL: of all */
        uint64_t count;
};

static char *list_path(const char *stream)
{
        return stream ? cli_path("/v1/subscriptions?stream=", stream, "")
                      : cli_path("/v1/subscriptions", "", "");
}

static void list_row(struct sub_list *l, const json_t *s)
{
        char seconds[CLI_SIZE_TEXT];

        sub_format_lag(s, seconds);
        table_cell(&l->table, sub_text(s, "stream"));
        table_cell(&l->table, sub_text(s, "group"));
        table_cell(&l->table, sub_text(s, "state"));
        count_cell(&l->table, sub_number(s, "lag.events"));
        table_cell(&l->table, seconds);
        count_cell(&l->table, sub_number(s, "consumer_count"));
        count_cell(&l->table, sub_number(s, "in_flight"));
        count_cell(&l->table, sub_number(s, "parked"));
}

static bool list_show(void *arg, const char *text, size_t size)
{
        struct sub_list *l = arg;
        json_t *s;

        if (!size)
                return true;
        l->count++;
        if (l->line->is_json)
                return cli_print_line(text, size);
        s = json_loadb(text, size, 0, NULL);
        list_row(l, s);
        json_decref(s);
        return true;
}

static void list_end(struct sub_list *l)
{
        if (!l->line->is_json && l->count)
                table_flush(&l->table);
        buffer_fini(&l->table.cells);
}

int command_sub_ls(const struct cli_line *line)
{
        static const char *const columns[] = {
                "STREAM", "GROUP", "STATE", "LAG", "OLDEST", "CONSUMERS", "IN FLIGHT", "PARKED"};
        const char *stream = line->argument_count ? line->arguments[0] : NULL;
        struct nilo_client *client = cli_client(line);
        struct sub_list l = {.line = line};
        enum nilo_result result;
        int code = CLI_OK;
        char *path;

        if (!client)
                return CLI_USAGE;
        path = list_path(stream);
        table_begin(&l.table, line, columns, COUNT_OF(columns));
        result = nilo_client_lines(client, path, list_show, &l);
        list_end(&l);
        if (result)
                code = cli_failed(client, result);
        else if (!l.count && line->is_terminal)
                cli_remark(line, "no subscriptions%s%s", stream ? " of " : "", stream ? stream : "");
        nilo_client_close(&client);
        free(path);
        return code;
}

/* ---- lag ---- */

static bool lag_line(const json_t *s, bool is_reader)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        char seconds[64];
        bool is_fine;

        json_object_begin(&j);
        json_field_string(&j, "kind", is_reader ? "catch-up" : "durable");
        json_field_string(&j, "stream", sub_text(s, "stream"));
        json_field_string(&j, is_reader ? "name" : "group", sub_text(s, is_reader ? "name" : "group"));
        json_field_u64(&j, "lag_events", sub_number(s, "lag.events"));
        json_key(&j, "lag_seconds");
        snprintf(seconds, sizeof seconds, "%.6f",
                json_number_value(json_object_get(json_object_get(s, "lag"), "seconds")));
        json_raw(&j, bytes_of_string(seconds));
        json_field_string(&j, "state", sub_text(s, "state"));
        json_object_end(&j);
        is_fine = cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
        return is_fine;
}

static bool lag_show(struct sub_list *l, const char *text, size_t size, bool is_reader)
{
        json_t *s = json_loadb(text, size, 0, NULL);
        char seconds[CLI_SIZE_TEXT];
        bool is_fine = true;

        /* The server lists readers of all streams. */
        if (is_reader && l->stream && strcmp(sub_text(s, "stream"), l->stream) != 0) {
                json_decref(s);
                return true;
        }
        l->count++;
        if (l->line->is_json) {
                is_fine = lag_line(s, is_reader);
        } else {
                sub_format_lag(s, seconds);
                table_cell(&l->table, is_reader ? "catch-up" : "durable");
                table_cell(&l->table, sub_text(s, "stream"));
                table_cell(&l->table, sub_text(s, is_reader ? "name" : "group"));
                count_cell(&l->table, sub_number(s, "lag.events"));
                table_cell(&l->table, seconds);
                table_cell(&l->table, sub_text(s, "state"));
        }
        json_decref(s);
        return is_fine;
}

static bool lag_show_durable(void *arg, const char *text, size_t size)
{
        return !size || lag_show(arg, text, size, false);
}

static bool lag_show_reader(void *arg, const char *text, size_t size)
{
        return !size || lag_show(arg, text, size, true);
}

static enum nilo_result lag_all(struct sub_list *l, struct nilo_client *client)
{
        char *path = list_path(l->stream);
        enum nilo_result result = nilo_client_lines(client, path, lag_show_durable, l);

        free(path);
        return result ? result : nilo_client_lines(client, "/v1/readers", lag_show_reader, l);
}

int command_sub_lag(const struct cli_line *line)
{
        static const char *const columns[] = {"KIND", "STREAM", "GROUP", "LAG", "OLDEST", "STATE"};
        struct nilo_client *client = cli_client(line);
        struct sub_list l = {.line = line, .stream = line->argument_count ? line->arguments[0] : NULL};
        enum nilo_result result;
        char *body = NULL;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        table_begin(&l.table, line, columns, COUNT_OF(columns));
        result = line->argument_count == 2 ? sub_get(client, line, &body) : lag_all(&l, client);
        if (!result && body)
                lag_show(&l, body, strlen(body), false);
        list_end(&l);
        if (result)
                code = cli_failed(client, result);
        else if (!l.count && line->is_terminal)
                cli_remark(line, "nobody subscribes");
        free(body);
        nilo_client_close(&client);
        return code;
}

/* ---- parked ---- */

struct parked_list {
        const struct cli_line *line;
        struct table table;
        uint64_t left;
        uint64_t count;
        uint64_t from;
        bool is_at_end;
};

static bool parked_show(struct parked_list *p, json_t *parked)
{
        const json_t *event = json_object_get(parked, "event");
        char time[TIME_SHOWN + 1];
        char *text;
        bool is_fine;

        if (p->line->is_json) {
                text = json_dumps(parked, JSON_COMPACT | JSON_REAL_PRECISION(17));
                is_fine = text && cli_print_line(text, strlen(text));
                free(text);
                return is_fine;
        }
        snprintf(time, sizeof time, "%s", sub_text(parked, "added"));
        if (strlen(time) > 10)
                time[10] = ' ';
        count_cell(&p->table, sub_number(parked, "number"));
        table_cell(&p->table, time);
        table_cell(&p->table, sub_text(event, "stream"));
        count_cell(&p->table, sub_number(event, "revision"));
        table_cell(&p->table, json_is_object(event) ? sub_text(event, "type") : "(gone)");
        table_cell(&p->table, sub_text(parked, "reason"));
        return true;
}

static bool parked_page(struct parked_list *p, const char *body)
{
        json_t *page = json_loads(body, 0, NULL);
        json_t *parked = json_object_get(page, "parked");
        bool is_fine = true;
        json_t *one;
        size_t i;

        p->is_at_end = !json_is_false(json_object_get(page, "at_end"));
        json_array_foreach(parked, i, one)
        {
                is_fine = is_fine && parked_show(p, one);
                p->from = sub_number(one, "number") + 1;
                p->count++;
                p->left--;
        }
        json_decref(page);
        return is_fine;
}

static int show_all_parked(struct parked_list *p, struct nilo_client *client)
{
        while (p->left && !p->is_at_end) {
                enum nilo_result result;
                char *body = NULL;
                char *path;
                char rest[96];
                bool is_fine;

                snprintf(rest, sizeof rest, "/parked?from=%" PRIu64 "&limit=%" PRIu64, p->from,
                        MIN(p->left, (uint64_t)PARKED_PAGE));
                path = sub_path(p->line, rest);
                result = nilo_client_send(client, "GET", path, NULL, NULL, 0, &body);
                free(path);
                if (result)
                        return cli_failed(client, result);
                is_fine = parked_page(p, body);
                free(body);
                if (!is_fine)
                        break;
        }
        return CLI_OK;
}

int command_sub_parked(const struct cli_line *line)
{
        static const char *const columns[] = {"NUMBER", "PARKED AT", "STREAM", "REVISION", "TYPE", "REASON"};
        struct parked_list p = {.line = line};
        struct nilo_client *client;
        int code;

        if (!cli_number_of(line, "limit", UINT64_MAX, &p.left) || !cli_number_of(line, "from", 0, &p.from))
                return CLI_USAGE;
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        table_begin(&p.table, line, columns, COUNT_OF(columns));
        code = show_all_parked(&p, client);
        if (!line->is_json && p.count)
                table_flush(&p.table);
        else if (!code && !p.count && line->is_terminal)
                cli_remark(line, "nothing is parked");
        buffer_fini(&p.table.cells);
        nilo_client_close(&client);
        return code;
}
