/* What a running server was told, and by what. */
#include <jansson.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "cli/command.h"

enum { OPTIONS_MAX = 256 };

static const char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void print_option(const char *value, const json_t *option)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "name", text_at(option, "name"));
        json_key(&j, "value");
        json_raw(&j, bytes_of_string(value));
        json_field_string(&j, "source", text_at(option, "configurationSource"));
        json_field_string(&j, "description", text_at(option, "description"));
        json_object_end(&j);
        cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
}

static void show_option(const struct cli_line *line, struct table *t, const json_t *option)
{
        const json_t *value = json_object_get(option, "value");
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

        if (line->is_json) {
                print_option(text ? text : "null", option);
        } else {
                table_cell(t, text_at(option, "name"));
                table_cell(t, json_is_string(value) ? json_string_value(value) : text ? text : "");
                table_cell(t, text_at(option, "configurationSource"));
                table_cell(t, text_at(option, "description"));
        }
        free(text);
}

static int unknown(const char *name, const json_t *options)
{
        const char *names[OPTIONS_MAX];
        const json_t *option;
        size_t count = 0;
        size_t i;

        json_array_foreach(options, i, option) if (count < OPTIONS_MAX) names[count++] =
                text_at(option, "name");
        if (!count)
                return cli_problem(
                        CLI_UNEXPECTED, "the server's answer is no list of options: is it a Nilometer?");
        return cli_problem(
                CLI_NOT_FOUND, "no option \"%s\"; nearest is \"%s\"", name, cli_nearest(name, names, count));
}

static int show(const struct cli_line *line, const json_t *options)
{
        static const char *const columns[] = {"NAME", "VALUE", "SOURCE", "WHAT IT IS"};
        const char *wanted = line->argument_count ? line->arguments[0] : NULL;
        struct table table;
        const json_t *option;
        size_t shown = 0;
        size_t i;

        table_begin(&table, line, columns, COUNT_OF(columns));
        json_array_foreach(options, i, option)
        {
                bool is_default = strcmp(text_at(option, "configurationSource"), "default") == 0;

                if ((wanted && strcmp(wanted, text_at(option, "name")) != 0) ||
                        (cli_has(line, "changed") && is_default))
                        continue;
                show_option(line, &table, option);
                shown++;
        }
        if (!line->is_json && (shown || !wanted))
                table_flush(&table);
        buffer_fini(&table.cells);
        return wanted && !shown && !cli_has(line, "changed") ? unknown(wanted, options) : CLI_OK;
}

int command_config_check(const struct cli_line *line)
{
        (void)line;
        return cli_problem(CLI_USAGE,
                "say `nilo config check [FILE]`, and behind it the flags of a start (nilo serve --help)");
}

int command_config(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *body = NULL;
        json_t *options;
        int code;

        if (!client)
                return CLI_USAGE;
        result = nilo_client_send(client, "GET", "/info/options", NULL, NULL, 0, &body);
        if (result) {
                code = cli_failed(client, result);
        } else {
                options = json_loads(body, 0, NULL);
                code = show(line, options);
                json_decref(options);
        }
        free(body);
        nilo_client_close(&client);
        return code;
}
