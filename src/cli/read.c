/* Reading: a stream or $all, once or for good, and single events. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cli/command.h"

enum { TAIL_LAST_DEFAULT = 10, TAIL_LAST_MAX = 100000, TIMEOUT_SECONDS_MAX = 600 };

/* NULL for "$all". */
static const char *stream_of(const char *argument)
{
        return strcmp(argument, "$all") == 0 ? NULL : argument;
}

static bool read_filters(const struct cli_line *line, struct nilo_read_options *o)
{
        unsigned count = cli_has(line, "stream-prefix") + cli_has(line, "stream-regex") +
                         cli_has(line, "type-prefix") + cli_has(line, "type-regex");

        o->stream_prefix = cli_value(line, "stream-prefix");
        o->stream_regex = cli_value(line, "stream-regex");
        o->type_prefix = cli_value(line, "type-prefix");
        o->type_regex = cli_value(line, "type-regex");
        if (count > 1)
                cli_problem(CLI_USAGE, "only one of --stream-prefix, --stream-regex, --type-prefix and "
                                       "--type-regex is possible");
        else if (count && o->stream)
                cli_problem(CLI_USAGE, "filters are for $all: nilo %s %s '$all' ...", line->command->noun,
                        line->command->verb);
        return count == 0 || (count == 1 && !o->stream);
}

static bool read_from(const struct cli_line *line, struct nilo_read_options *o)
{
        const char *from = cli_value(line, "from");

        o->from_end = from ? strcmp(from, "end") == 0 : o->is_backward;
        if (!from || o->from_end || strcmp(from, "start") == 0)
                return true;
        return cli_number("--from", from, &o->from);
}

static bool read_freshness(const struct cli_line *line, struct nilo_read_options *o)
{
        static const char *const names[] = {
                [NILO_STALE] = "stale", [NILO_LINEARIZABLE] = "linearizable", [NILO_LEADER] = "leader"};
        const char *consistency = cli_value(line, "consistency");
        uint64_t seconds;

        o->has_after = cli_has(line, "after");
        if (!cli_number_of(line, "after", 0, &o->after) || !cli_number_of(line, "timeout", 0, &seconds))
                return false;
        if (seconds > TIMEOUT_SECONDS_MAX || (!seconds && cli_has(line, "timeout"))) {
                cli_problem(CLI_USAGE, "--timeout: 1 to %d seconds", TIMEOUT_SECONDS_MAX);
                return false;
        }
        o->wait_ms_max = (uint32_t)seconds * 1000;
        for (unsigned i = NILO_STALE; consistency && i < COUNT_OF(names); i++)
                if (strcmp(consistency, names[i]) == 0)
                        o->consistency = (enum nilo_consistency)i;
        if (!consistency || o->consistency)
                return true;
        cli_problem(CLI_USAGE, "--consistency: stale, linearizable or leader, not '%s'", consistency);
        return false;
}

int command_stream_read(const struct cli_line *line)
{
        struct nilo_read_options options = {
                .stream = stream_of(line->arguments[0]), .is_backward = cli_has(line, "backward")};
        struct nilo_client *client;
        struct event_printer printer;
        enum nilo_result result;
        int code = CLI_OK;

        if (!read_filters(line, &options) || !read_from(line, &options) || !read_freshness(line, &options) ||
                !cli_number_of(line, "limit", 0, &options.limit))
                return CLI_USAGE;
        if (cli_has(line, "limit") && !options.limit)
                return cli_problem(CLI_USAGE, "--limit: at least 1");
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        event_printer_begin(&printer, line, !options.stream);
        result = nilo_client_read(client, &options, event_printer_show, &printer);
        event_printer_end(&printer);
        if (result)
                code = cli_failed(client, result);
        nilo_client_close(&client);
        return code;
}

/* ---- tail ---- */

/* The newest events come newest first and are shown the other way round. */
struct recent {
        char **lines;
        size_t count;
        size_t capacity;
};

static bool on_recent(void *arg, const char *json, size_t size)
{
        struct recent *r = arg;

        assert(r->count < r->capacity);
        r->lines[r->count++] = bytes_to_string(bytes_of(json, size));
        return r->count < r->capacity;
}

struct tail {
        struct event_printer printer; /* first: the follow's argument is a printer too */
        bool has_said;                /* that the connection is lost */
};

static bool on_tail_event(void *arg, const char *json, size_t size)
{
        struct tail *t = arg;

        if (t->has_said)
                cli_remark(t->printer.line, "connected again");
        t->has_said = false;
        return event_printer_show(&t->printer, json, size);
}

static bool on_tail_wait(void *arg, const char *why)
{
        struct tail *t = arg;

        if (!t->has_said)
                cli_remark(
                        t->printer.line, "connection lost (%s); trying again, nothing will be missed", why);
        t->has_said = true;
        return !cli_is_interrupted();
}

/* Shows the last events and moves options->from behind them. False: enough was shown. */
static enum nilo_result show_recent(struct nilo_client *client, struct nilo_read_options *options,
        uint64_t last, struct event_printer *printer, bool *ret_goes_on)
{
        struct nilo_read_options newest = *options;
        struct recent recent = {.capacity = (size_t)last};
        enum nilo_result result;

        newest.is_backward = true;
        newest.from_end = true;
        newest.limit = last;
        recent.lines = memory_new_array(recent.capacity, sizeof *recent.lines);
        result = nilo_client_read(client, &newest, on_recent, &recent);
        if (result == NILO_NOT_FOUND) /* it may come */
                result = NILO_OK;
        *ret_goes_on = !result;
        while (recent.count) {
                char *line = recent.lines[--recent.count];

                if (*ret_goes_on)
                        *ret_goes_on = event_printer_show(printer, line, strlen(line));
                free(line);
        }
        free(recent.lines);
        options->from = printer->next;
        return result;
}

static enum nilo_result tail(
        struct nilo_client *client, struct nilo_read_options *options, uint64_t last, struct tail *t)
{
        enum nilo_result result = NILO_OK;
        bool goes_on = true;

        /* With a filter the last match may lie far back: following from behind it reads what is in between
         * once more, and misses nothing. */
        if (last)
                result = show_recent(client, options, last, &t->printer, &goes_on);
        event_printer_flush(&t->printer);
        if (result || !goes_on || cli_is_reader_gone())
                return result;
        nilo_client_on_idle(client, event_printer_flush, &t->printer);
        return nilo_client_follow(client, options, on_tail_event, on_tail_wait, t);
}

int command_stream_tail(const struct cli_line *line)
{
        struct nilo_read_options options = {.stream = stream_of(line->arguments[0])};
        struct nilo_client *client;
        struct tail t = {0};
        enum nilo_result result;
        uint64_t limit;
        uint64_t last;
        int code = CLI_OK;

        if (!read_filters(line, &options) || !read_from(line, &options) ||
                !cli_number_of(line, "limit", 0, &limit) ||
                !cli_number_of(line, "last", cli_has(line, "from") ? 0 : TAIL_LAST_DEFAULT, &last))
                return CLI_USAGE;
        if (cli_has(line, "from") && cli_has(line, "last"))
                return cli_problem(CLI_USAGE, "--from and --last both say where to begin: give one of them");
        if (last > TAIL_LAST_MAX)
                return cli_problem(
                        CLI_USAGE, "--last: at most %d; to begin further back use --from", TAIL_LAST_MAX);
        options.from_end |= cli_has(line, "last") && !last;
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        cli_catch_interrupt(client);
        event_printer_begin(&t.printer, line, !options.stream);
        t.printer.limit = limit;
        t.printer.next = options.from;
        result = tail(client, &options, last, &t);
        event_printer_end(&t.printer);
        if (cli_is_interrupted()) {
                /* Behind the end of the line that holds ^C. */
                if (t.printer.count || cli_has(line, "from"))
                        cli_remark(line, "\nto go on: nilo stream tail '%s' --from %llu", line->arguments[0],
                                (unsigned long long)t.printer.next);
        } else if (result) {
                code = cli_failed(client, result);
        }
        cli_catch_interrupt(NULL);
        nilo_client_close(&client);
        return code;
}

/* ---- one event ---- */

int command_event_show(const struct cli_line *line)
{
        const char *which = line->arguments[0];
        const char *at = strrchr(which, '@');
        struct nilo_client *client;
        enum nilo_result result;
        uint64_t number;
        char *path;
        char *body = NULL;
        int code = CLI_OK;

        if (!cli_number(at ? "revision" : "position", at ? at + 1 : which, &number))
                return cli_problem(CLI_USAGE,
                        "an event is named by its position (17) or by stream and revision (order-42@0)");
        client = cli_client(line);
        if (!client)
                return CLI_USAGE;
        if (at) {
                char *stream = bytes_to_string(bytes_of(which, (size_t)(at - which)));
                char *revision = cli_path("/events/", at + 1, "");

                path = cli_path("/v1/streams/", stream, revision);
                free(stream);
                free(revision);
        } else {
                path = cli_path("/v1/all/events/", which, "");
        }
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
