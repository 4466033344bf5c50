/* nilo event trace: what led to an event and what followed from it.
 *
 * There is no index of metadata, so the log around the event is looked at: back from it for its causes and
 * for the first event of the same correlation, then forward from there, where each effect comes behind its
 * cause and one pass finds all. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "base/memory.h"
#include "cli/scan.h"
#include "cli/trace.h"

enum { LIMIT_DEFAULT = 1000, MISSING_SHOWN_MAX = 3, CHAIN_MAX = 256, UUID_SIZE = 36 };

struct tracing {
        const struct cli_line *line;
        struct nilo_client *client;
        struct scan scan;
        struct trace trace;
        char named[TRACE_ID_SIZE]; /* the id that was given, or of the event that was named */
        char correlation[TRACE_ID_SIZE];
        char wanted[TRACE_ID_SIZE]; /* looking back: the cause to be found next; "": none */
        struct trace_event anchor;
        bool has_anchor;
        uint64_t newest;
        uint64_t oldest_allowed; /* --from */
        uint64_t scan_max;
        uint64_t chain[CHAIN_MAX]; /* positions of the causes that were found, each of the one before */
        unsigned chain_count;
        uint64_t lowest; /* position that belongs to it */
        uint64_t looked; /* at so many events */
        bool is_partial; /* not all of the log was looked at */
        bool is_full;    /* there are more events than are shown */
};

static bool contains(const char *json, size_t size, const char *text)
{
        return *text && memmem(json, size, text, strlen(text));
}

/* Whether an event may hold an id: text with escapes is not found by its bytes. */
static bool may_hold(const char *json, size_t size, const char *id)
{
        for (const char *at = id; *at; at++)
                if (!isalnum((unsigned char)*at) && !strchr("-_.:", *at))
                        return contains(json, size, "orrelation") || contains(json, size, "ausation");
        return contains(json, size, id);
}

static bool is_system(const char *json, size_t size)
{
        const char *stream;
        size_t stream_size;

        return nilo_json_field(json, size, "stream", &stream, &stream_size) && stream_size > 1 &&
               stream[1] == '$';
}

/* ---- the event that was named ---- */

static bool on_named(void *arg, const char *json, size_t size)
{
        struct tracing *t = arg;
        struct trace_event e;

        if (!may_hold(json, size, t->named) || is_system(json, size) || !trace_read(json, size, &e))
                return true;
        t->has_anchor = strcmp(e.id, t->named) == 0 || strcmp(e.correlation, t->named) == 0 ||
                        strcmp(e.cause, t->named) == 0;
        if (t->has_anchor)
                t->anchor = e;
        return !t->has_anchor;
}

/* Newest first: what people look into happened lately. */
static enum nilo_result find_named(struct tracing *t)
{
        enum nilo_result result;

        t->scan = (struct scan){.line = t->line,
                .client = t->client,
                .what = "look for it",
                .is_backward = true,
                .first = t->newest,
                .last = t->newest >= t->scan_max ? t->newest - t->scan_max + 1 : 0,
                .each = on_named,
                .arg = t};
        t->scan.last = MIN(MAX(t->scan.last, t->oldest_allowed), t->newest);
        result = scan_run(&t->scan, NULL);
        t->is_partial |= !t->has_anchor && (t->scan.last > 0 || !scan_is_whole(&t->scan));
        t->looked += t->scan.has_looked ? t->scan.first - t->scan.at + 1 : 0;
        return result;
}

/* An event by its place. */
static enum nilo_result read_named(struct tracing *t, const char *path)
{
        char *body = NULL;
        enum nilo_result result = nilo_client_send(t->client, "GET", path, NULL, NULL, 0, &body);

        if (!result) {
                t->has_anchor = trace_read(body, strlen(body), &t->anchor);
                snprintf(t->named, sizeof t->named, "%s", t->anchor.id);
        }
        free(body);
        return result;
}

static bool is_all_digits(const char *text)
{
        return *text && strspn(text, "0123456789") == strlen(text);
}

/* STREAM@REVISION, a position, or else an id. */
static enum nilo_result find_anchor(struct tracing *t, const char *which)
{
        const char *at = strrchr(which, '@');
        char *path = NULL;
        enum nilo_result result;

        if (at && at > which && is_all_digits(at + 1)) {
                char *stream = bytes_to_string(bytes_of(which, (size_t)(at - which)));
                char *revision = cli_path("/events/", at + 1, "");

                path = cli_path("/v1/streams/", stream, revision);
                free(stream);
                free(revision);
        } else if (is_all_digits(which)) {
                path = cli_path("/v1/all/events/", which, "");
        }
        if (path) {
                result = read_named(t, path);
                free(path);
                return result;
        }
        snprintf(t->named, sizeof t->named, "%s", which);
        /* The server writes ids in small letters. */
        if (strlen(which) == UUID_SIZE && strspn(which, "0123456789abcdefABCDEF-") == UUID_SIZE)
                for (char *c = t->named; *c; c++)
                        *c = (char)tolower((unsigned char)*c);
        return find_named(t);
}

/* ---- back to the root ---- */

static bool on_before(void *arg, const char *json, size_t size)
{
        struct tracing *t = arg;
        struct trace_event e;
        bool is_cause;

        if ((!may_hold(json, size, t->correlation) && !may_hold(json, size, t->wanted)) ||
                is_system(json, size) || !trace_read(json, size, &e))
                return true;
        is_cause = *t->wanted && strcmp(e.id, t->wanted) == 0;
        if (is_cause) {
                snprintf(t->wanted, sizeof t->wanted, "%s", e.cause);
                t->chain[t->chain_count++] = e.position;
                if (t->chain_count == CHAIN_MAX)
                        t->wanted[0] = 0;
        }
        if (is_cause || (*t->correlation && strcmp(e.correlation, t->correlation) == 0) ||
                strcmp(e.id, t->correlation) == 0)
                t->lowest = e.position;
        /* The root of a chain without correlation: nothing before it belongs to it. */
        return *t->correlation || *t->wanted;
}

static enum nilo_result look_back(struct tracing *t)
{
        uint64_t first = t->anchor.position;
        enum nilo_result result;

        t->lowest = first;
        snprintf(t->wanted, sizeof t->wanted, "%s", t->anchor.cause);
        if (!first || first <= t->oldest_allowed || (!*t->correlation && !*t->wanted))
                return NILO_OK;
        t->scan = (struct scan){.line = t->line,
                .client = t->client,
                .what = "causes",
                .is_backward = true,
                .first = first - 1,
                .last = first - 1 >= t->scan_max ? first - t->scan_max : 0,
                .each = on_before,
                .arg = t};
        t->scan.last = MAX(t->scan.last, t->oldest_allowed);
        result = scan_run(&t->scan, NULL);
        t->looked += t->scan.has_looked ? t->scan.first - t->scan.at + 1 : 0;
        if (*t->correlation || *t->wanted)
                t->is_partial |= t->scan.last > 0 || cli_is_interrupted();
        return result;
}

/* ---- and forward ---- */

static bool is_in_chain(const struct tracing *t, uint64_t position)
{
        bool is_in = position == t->anchor.position;

        for (unsigned i = 0; i < t->chain_count; i++)
                is_in |= position == t->chain[i];
        return is_in;
}

static bool belongs(const struct tracing *t, const struct trace_event *e)
{
        if (strcmp(e->id, t->named) == 0)
                return true;
        if (*t->correlation &&
                (strcmp(e->correlation, t->correlation) == 0 || strcmp(e->id, t->correlation) == 0))
                return true;
        /* Some take the id of the first event for the correlation, and leave it out in that one. */
        if (strcmp(e->correlation, t->anchor.id) == 0)
                return true;
        if (is_in_chain(t, e->position))
                return true;
        return *e->cause && trace_find(&t->trace, e->cause) != TRACE_NONE;
}

static bool on_after(void *arg, const char *json, size_t size)
{
        struct tracing *t = arg;
        struct trace_event e;
        uint64_t position;
        /* Every spelling of a cause and of a correlation has one of these in it. */
        bool may_belong = contains(json, size, "ausation") || contains(json, size, "orrelation") ||
                          may_hold(json, size, t->named) || may_hold(json, size, t->correlation);

        if (!nilo_json_number(json, size, "position", &position))
                return true;
        if ((!may_belong && !is_in_chain(t, position)) || !trace_read(json, size, &e))
                return true;
        if (!belongs(t, &e) || (is_system(json, size) && e.position != t->anchor.position))
                return true;
        /* A server that goes back is none of ours; an event stands once in a tree. */
        if (t->trace.count && e.position <= t->trace.events[t->trace.count - 1].position)
                return true;
        t->is_full = !trace_add(&t->trace, &e, json, size);
        return !t->is_full;
}

static enum nilo_result look_forward(struct tracing *t)
{
        uint64_t room = t->newest - MIN(t->newest, t->anchor.position);
        enum nilo_result result;

        t->scan = (struct scan){.line = t->line,
                .client = t->client,
                .what = "effects",
                .first = t->lowest,
                .last = room >= t->scan_max ? t->anchor.position + t->scan_max
                                            : MAX(t->newest, t->anchor.position),
                .each = on_after,
                .arg = t};
        result = scan_run(&t->scan, NULL);
        t->looked += t->scan.has_looked ? t->scan.at - t->scan.first + 1 : 0;
        t->is_partial |= t->scan.last < t->newest || cli_is_interrupted();
        return result;
}

/* ---- what was found ---- */

static void print_lines(const struct tracing *t)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        for (int at = trace_next(&t->trace, TRACE_NONE); at != TRACE_NONE; at = trace_next(&t->trace, at)) {
                buffer_clear(&out);
                trace_json(&t->trace, at, &out);
                cli_print_line((const char *)out.data, out.size);
        }
        buffer_clear(&out);
        json_object_begin(&j);
        json_key(&j, "summary");
        json_object_begin(&j);
        json_field_u64(&j, "events", t->trace.count);
        if (*t->correlation)
                json_field_string(&j, "correlation", t->correlation);
        json_field_u64(&j, "looked_at", t->looked);
        json_field_bool(&j, "partial", t->is_partial || t->is_full);
        json_object_end(&j);
        json_object_end(&j);
        cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
}

static void print_page(const struct tracing *t)
{
        struct frame f = {.has_color = t->line->has_color, .has_utf8 = screen_has_utf8()};
        unsigned width;
        unsigned height;

        screen_size(&width, &height);
        frame_begin_page(&f, width);
        trace_show(&t->trace, trace_find(&t->trace, t->named), &f);
        fwrite(f.out.data, 1, f.out.size, stdout);
        frame_free(&f);
}

static void remark_missing(const struct tracing *t)
{
        unsigned missing = 0;

        for (unsigned i = 0; i < t->trace.count; i++) {
                const struct trace_event *e = &t->trace.events[i];

                /* A root may name itself. */
                if (e->parent != TRACE_NONE || !*e->cause || strcmp(e->cause, e->id) == 0)
                        continue;
                if (missing++ < MISSING_SHOWN_MAX)
                        cli_remark(t->line, "the cause of %s@%" PRIu64 " was not found: %s", e->stream,
                                e->revision, e->cause);
        }
        if (missing > MISSING_SHOWN_MAX)
                cli_remark(t->line, "and so were %u more causes", missing - MISSING_SHOWN_MAX);
}

static void remark_partial(const struct tracing *t)
{
        char looked[CLI_SIZE_TEXT];

        cli_format_count(t->looked, looked);
        if (t->is_full)
                cli_remark(
                        t->line, "there are more than these %u events: --limit N shows more", t->trace.count);
        if (t->is_partial)
                cli_remark(t->line,
                        "%spartial: %s events were looked at; --scan N looks at more, --scan 0 at all",
                        cli_is_interrupted() ? "stopped; " : "", looked);
}

static int not_found(const struct tracing *t, const char *which)
{
        char looked[CLI_SIZE_TEXT];

        cli_format_count(t->looked, looked);
        return cli_problem(CLI_NOT_FOUND,
                "no event has the id, correlation or cause %s among the %s newest events%s", which, looked,
                t->is_partial ? "\n      --scan N looks at more, --scan 0 at all." : "");
}

static int run(struct tracing *t, const char *which)
{
        bool is_there;
        enum nilo_result result = scan_newest(t->client, &is_there, &t->newest);

        if (!result && is_there)
                result = find_anchor(t, which);
        if (result)
                return cli_failed(t->client, result);
        if (!t->has_anchor)
                return not_found(t, which);
        snprintf(t->correlation, sizeof t->correlation, "%s", t->anchor.correlation);
        result = look_back(t);
        if (!result && cli_is_interrupted())
                return cli_problem(CLI_UNEXPECTED, "stopped; --scan N looks at fewer events");
        if (!result)
                result = look_forward(t);
        if (result)
                return cli_failed(t->client, result);
        if (!t->trace.count)
                return cli_problem(CLI_UNEXPECTED, "stopped before anything was found");
        trace_link(&t->trace);
        if (t->line->is_json)
                print_lines(t);
        else
                print_page(t);
        cli_flush();
        remark_missing(t);
        remark_partial(t);
        return cli_is_interrupted() ? CLI_UNEXPECTED : CLI_OK;
}

int command_event_trace(const struct cli_line *line)
{
        struct tracing *t = MEMORY_NEW(struct tracing);
        uint64_t limit;
        int code = CLI_OK;

        t->line = line;
        if (!cli_number_of(line, "limit", LIMIT_DEFAULT, &limit) || !scan_limit(line, &t->scan_max) ||
                !cli_number_of(line, "from", 0, &t->oldest_allowed))
                code = CLI_USAGE;
        else if (!limit || limit > TRACE_EVENTS_MAX)
                code = cli_problem(CLI_USAGE, "--limit: 1 to %d", TRACE_EVENTS_MAX);
        else if (strlen(line->arguments[0]) >= TRACE_ID_SIZE && !strchr(line->arguments[0], '@'))
                code = cli_problem(CLI_USAGE, "an id has at most %d bytes", TRACE_ID_SIZE - 1);
        if (!code) {
                t->client = cli_client(line);
                code = t->client ? CLI_OK : CLI_USAGE;
        }
        if (!code) {
                trace_init(&t->trace, (unsigned)limit);
                cli_catch_interrupt(NULL);
                code = run(t, line->arguments[0]);
                cli_catch_interrupt(NULL);
                trace_fini(&t->trace);
        }
        nilo_client_close(&t->client);
        free(t);
        return code;
}
