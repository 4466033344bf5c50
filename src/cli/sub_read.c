/* A consumer of a durable subscription: shows events, and acknowledges what it has shown.
 *
 * The events come in a call that goes on; the acknowledgements are calls beside it, with a client of their
 * own. An event counts as shown when standard output has taken it: a reader that is gone gets nothing
 * acknowledged. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/sub.h"

enum { ID_SIZE = 36, WINDOW_DEFAULT = 100 };

struct consuming {
        const struct cli_line *line;
        struct event_printer printer;
        struct nilo_client *beside; /* for the acknowledgements */
        char *token;
        const char *action; /* of a nack; NULL: ack */
        struct buffer ids;  /* shown and not acknowledged, ID_SIZE each */
        uint64_t window;
        uint64_t limit; /* UINT64_MAX: none */
        uint64_t ended; /* acknowledged or refused */
        int code;
};

/* ---- acknowledgement ---- */

static void body_of(const struct consuming *c, struct buffer *out)
{
        struct json_out j = {.out = out};

        json_object_begin(&j);
        json_field_string(&j, "consumer", c->token);
        json_key(&j, "ids");
        json_array_begin(&j);
        for (size_t at = 0; at < c->ids.size; at += ID_SIZE)
                json_bytes(&j, bytes_of(c->ids.data + at, ID_SIZE));
        json_array_end(&j);
        if (c->action) {
                json_field_string(&j, "action", c->action);
                if (cli_has(c->line, "reason"))
                        json_field_string(&j, "reason", cli_value(c->line, "reason"));
        }
        json_object_end(&j);
}

/* Everything that was shown. False: this ends the command. */
static bool end_shown(struct consuming *c)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        struct buffer body = {0};
        enum nilo_result result;
        char *path;

        if (!event_printer_flush(&c->printer))
                return false;
        if (!c->ids.size)
                return true;
        body_of(c, &body);
        path = sub_path(c->line, c->action ? "/nack" : "/ack");
        result = nilo_client_send(c->beside, "POST", path, headers, body.data, body.size, NULL);
        free(path);
        buffer_fini(&body);
        if (result) {
                c->code = cli_failed(c->beside, result);
                return false;
        }
        c->ended += c->ids.size / ID_SIZE;
        buffer_clear(&c->ids);
        return true;
}

/* ---- what comes ---- */

static bool on_line(void *arg, const char *json, size_t size)
{
        struct consuming *c = arg;
        const char *event;
        size_t event_size;
        char *id;

        if (!size)
                return true;
        if (!c->token) {
                c->token = nilo_json_string(json, size, "consumer");
                return c->token != NULL;
        }
        if (!nilo_json_field(json, size, "event", &event, &event_size))
                return true;
        event_printer_show(&c->printer, event, event_size);
        id = nilo_json_string(json, size, "ack_id");
        if (id && strlen(id) == ID_SIZE)
                buffer_add(&c->ids, id, ID_SIZE);
        free(id);
        return c->ids.size / ID_SIZE < c->window ? true : end_shown(c);
}

static bool on_idle(void *arg)
{
        return end_shown(arg);
}

/* ---- the command ---- */

static bool take_flags(struct consuming *c)
{
        static const char *const actions[] = {"retry", "park", "skip", "stop"};
        const struct cli_line *line = c->line;
        bool is_known = false;

        if (!cli_number_of(line, "limit", UINT64_MAX, &c->limit) ||
                !cli_number_of(line, "window", WINDOW_DEFAULT, &c->window))
                return false;
        if (!c->limit || !c->window || c->window > 10000) {
                cli_problem(CLI_USAGE, "--limit is at least 1, and --window 1 to 10000");
                return false;
        }
        c->action = cli_value(line, "nack");
        for (unsigned i = 0; c->action && i < COUNT_OF(actions); i++)
                is_known |= strcmp(c->action, actions[i]) == 0;
        if (c->action && !is_known)
                cli_problem(CLI_USAGE, "--nack: \"%s\" is none of retry, park, skip and stop", c->action);
        else if (!c->action && cli_has(line, "reason"))
                cli_problem(CLI_USAGE, "--reason goes with --nack");
        else
                return true;
        return false;
}

static int consume(struct consuming *c, struct nilo_client *client)
{
        struct buffer rest = {0};
        enum nilo_result result;
        char *path;

        buffer_format(&rest, "/events?window=%llu&name=nilo%%20sub%%20read", (unsigned long long)c->window);
        if (c->limit != UINT64_MAX)
                buffer_format(&rest, "&limit=%llu", (unsigned long long)c->limit);
        buffer_add_u8(&rest, 0);
        path = sub_path(c->line, (const char *)rest.data);
        event_printer_begin(&c->printer, c->line, true);
        cli_catch_interrupt(client);
        nilo_client_on_idle(client, on_idle, c);
        result = nilo_client_lines(client, path, on_line, c);
        if (c->token && !c->code && !cli_is_reader_gone())
                end_shown(c);
        event_printer_end(&c->printer);
        cli_catch_interrupt(NULL);
        if (result && !c->code)
                c->code = cli_failed(client, result);
        else if (!c->code && !cli_is_interrupted() && !cli_is_reader_gone() && c->ended < c->limit)
                c->code =
                        cli_problem(CLI_UNAVAILABLE, "the server ended the consumer; run it again to go on");
        free(path);
        buffer_fini(&rest);
        return c->code;
}

int command_sub_read(const struct cli_line *line)
{
        struct consuming c = {.line = line};
        struct nilo_client *client;
        int code = CLI_USAGE;

        if (!take_flags(&c))
                return CLI_USAGE;
        client = cli_client(line);
        c.beside = cli_client(line);
        if (client && c.beside)
                code = consume(&c, client);
        free(c.token);
        buffer_fini(&c.ids);
        nilo_client_close(&c.beside);
        nilo_client_close(&client);
        return code;
}
