/* nilo event find: the newest events of a type, of streams, or with something in their data. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/scan.h"

enum { FOUND_DEFAULT = 20, CONDITIONS_MAX = CLI_ARGUMENTS_MAX + 2, KEY_SIZE_MAX = 256 };

/* "customer.id=7": a field of the data or of the metadata. */
struct condition {
        const char *of; /* "data" or "metadata" */
        char key[KEY_SIZE_MAX];
        const char *value;
};

struct finding {
        const char *type;
        const char *stream_prefix; /* looked at here, when the server chooses by type */
        struct condition conditions[CONDITIONS_MAX];
        unsigned condition_count;
        uint64_t since_us;
        bool is_past_since; /* older ones are not looked at */
        bool has_all;       /* that were asked for */
        struct event_printer printer;
        struct scan scan;
};

/* ---- what is looked for ---- */

static bool add_condition(struct finding *f, const char *of, const char *text)
{
        const char *equals = strchr(text, '=');
        struct condition *c = &f->conditions[f->condition_count];

        if (!equals || equals == text || (size_t)(equals - text) >= KEY_SIZE_MAX) {
                cli_problem(CLI_USAGE, "\"%s\" is no KEY=VALUE (total=5, customer.id=7)", text);
                return false;
        }
        assert(f->condition_count < CONDITIONS_MAX);
        f->condition_count++;
        c->of = of;
        snprintf(c->key, sizeof c->key, "%.*s", (int)(equals - text), text);
        c->value = equals + 1;
        return true;
}

static bool read_conditions(struct finding *f, const struct cli_line *line)
{
        for (unsigned i = 0; i < line->argument_count; i++)
                if (!add_condition(f, "data", line->arguments[i]))
                        return false;
        if (cli_has(line, "data") && !add_condition(f, "data", cli_value(line, "data")))
                return false;
        return !cli_has(line, "metadata") || add_condition(f, "metadata", cli_value(line, "metadata"));
}

static bool holds(const struct condition *c, const char *json, size_t size)
{
        const char *value;
        size_t value_size;

        return nilo_json_field(json, size, c->of, &value, &value_size) &&
               scan_field(value, value_size, c->key, &value, &value_size) &&
               scan_equals(value, value_size, c->value);
}

static bool is_text(const char *json, size_t size, const char *name, const char *text, bool is_prefix)
{
        char *value = nilo_json_string(json, size, name);
        bool is_it = value && (is_prefix ? strncmp(value, text, strlen(text)) : strcmp(value, text)) == 0;

        free(value);
        return is_it;
}

static bool on_event(void *arg, const char *json, size_t size)
{
        struct finding *f = arg;
        uint64_t time_us;

        /* Times never go back in the log, so what follows is older still. */
        if (f->since_us && scan_time(json, size, &time_us) && time_us < f->since_us) {
                f->is_past_since = true;
                return false;
        }
        if (f->type && !is_text(json, size, "type", f->type, false))
                return true;
        if (f->stream_prefix && !is_text(json, size, "stream", f->stream_prefix, true))
                return true;
        for (unsigned i = 0; i < f->condition_count; i++)
                if (!holds(&f->conditions[i], json, size))
                        return true;
        f->scan.found++;
        f->has_all = !event_printer_show(&f->printer, json, size);
        return !f->has_all;
}

/* ---- the command ---- */

/* What was left out, and how to go on. */
static void conclude(const struct finding *f, const struct cli_line *line)
{
        char looked[CLI_SIZE_TEXT];
        uint64_t next = f->scan.has_looked ? f->scan.at : f->scan.first;

        cli_format_count(f->scan.has_looked ? f->scan.first - f->scan.at + 1 : 0, looked);
        if (f->has_all && next > 0)
                cli_remark(line, "--from %" PRIu64 " goes on", next - 1);
        else if (f->is_past_since || next == 0)
                cli_remark(line, "%s events were looked at: %s", looked,
                        f->scan.found ? "that is all" : "nothing was found");
        else
                cli_remark(line, "%s%s events were looked at, newest first; --from %" PRIu64 " goes on",
                        cli_is_interrupted() ? "stopped: " : "", looked, next - 1);
}

static enum nilo_result search(struct finding *f, uint64_t limit)
{
        struct nilo_read_options filter = {0};
        uint64_t newest;
        bool is_there;
        enum nilo_result result = scan_newest(f->scan.client, &is_there, &newest);

        if (result || !is_there)
                return result;
        f->scan.is_backward = true;
        f->scan.first = cli_has(f->scan.line, "from") ? MIN(f->scan.first, newest) : newest;
        f->scan.last = f->scan.first >= limit ? f->scan.first - limit + 1 : 0;
        /* One of the two is chosen by the server, which is one filter at a time; types are the rarer. */
        if (f->type)
                filter.type_prefix = f->type;
        else
                filter.stream_prefix = f->stream_prefix;
        f->scan.each = on_event;
        f->scan.arg = f;
        result = scan_run(&f->scan, &filter);
        /* A read that came to its end has passed over everything, whatever the filter left out. */
        if (!result && !f->has_all && !f->is_past_since && !cli_is_interrupted() && !cli_is_reader_gone()) {
                f->scan.at = f->scan.last;
                f->scan.has_looked = true;
        }
        return result;
}

int command_event_find(const struct cli_line *line)
{
        struct finding f = {.type = cli_value(line, "type"),
                .stream_prefix = cli_value(line, "stream-prefix"),
                .scan = {.line = line, .what = "find"}};
        const char *since = cli_value(line, "since");
        enum nilo_result result;
        uint64_t limit;
        uint64_t scan;
        int code = CLI_OK;

        if (!cli_number_of(line, "limit", FOUND_DEFAULT, &limit) || !scan_limit(line, &scan) ||
                !cli_number_of(line, "from", 0, &f.scan.first) || !read_conditions(&f, line))
                return CLI_USAGE;
        if (since && !scan_parse_time(since, &f.since_us))
                return cli_problem(
                        CLI_USAGE, "--since: \"%s\" is no time (2026-11-25T10:00:00Z, 15m, 2h, 3d)", since);
        f.scan.client = cli_client(line);
        if (!f.scan.client)
                return CLI_USAGE;
        cli_catch_interrupt(f.scan.client);
        event_printer_begin(&f.printer, line, true);
        f.printer.limit = limit;
        result = search(&f, scan);
        event_printer_end(&f.printer);
        if (result)
                code = cli_failed(f.scan.client, result);
        else if (!cli_is_reader_gone())
                conclude(&f, line);
        if (!code && cli_is_interrupted())
                code = CLI_UNEXPECTED;
        else if (!code && !f.scan.found)
                code = CLI_NOT_FOUND;
        cli_catch_interrupt(NULL);
        nilo_client_close(&f.scan.client);
        return code;
}
