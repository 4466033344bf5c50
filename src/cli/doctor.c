/* nilo doctor: everything that can be wrong around a server, looked at once, with what to do about it. It
 * changes nothing but a file of its own in the data directory, which is gone when it ends. */
#include "cli/doctor.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json_out.h"
#include "base/memory.h"

enum {
        SERVER_TIMEOUT_MS = 5000,
        TEXT_SIZE_MAX = 1024,
        HOST_SIZE_MAX = 256,
        CHECK_WIDTH = 19,
        VERDICT_WIDTH = 6
};

static const char *const verdict_names[DOCTOR_VERDICTS] = {"ok", "warn", "fail"};

static void say_json(const char *check, enum doctor_verdict verdict, const char *advice, const char *found)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "check", check);
        json_field_string(&j, "verdict", verdict_names[verdict]);
        json_field_string(&j, "found", found);
        json_field_string(&j, "advice", advice);
        json_object_end(&j);
        cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
}

/* At once, line by line: some of what is looked at takes a moment. */
static void say_text(const struct cli_line *line, const char *check, enum doctor_verdict verdict,
        const char *advice, const char *found)
{
        static const char *const colors[DOCTOR_VERDICTS] = {"\033[32m", "\033[33m", "\033[31m"};

        printf("%-*s%s%-*s%s", CHECK_WIDTH, check, line->has_color ? colors[verdict] : "", VERDICT_WIDTH,
                verdict_names[verdict], line->has_color ? "\033[0m" : "");
        cli_print_wrapped(found, CHECK_WIDTH + VERDICT_WIDTH);
        if (*advice) {
                printf("%*s-> ", CHECK_WIDTH + VERDICT_WIDTH, "");
                cli_print_wrapped(advice, CHECK_WIDTH + VERDICT_WIDTH + 3);
        }
        cli_flush();
}

void doctor_say(struct doctor *d, const char *check, enum doctor_verdict verdict, const char *advice,
        const char *format, ...)
{
        char found[TEXT_SIZE_MAX];
        va_list args;

        va_start(args, format);
        vsnprintf(found, sizeof found, format, args);
        va_end(args);
        d->counts[verdict]++;
        if (d->line->is_json)
                say_json(check, verdict, advice, found);
        else
                say_text(d->line, check, verdict, advice, found);
}

/* What may not be looked at may be well. */
static void say_failed(
        struct doctor *d, const char *check, struct nilo_client *client, enum nilo_result result)
{
        doctor_say(d, check, result == NILO_DENIED ? DOCTOR_WARN : DOCTOR_FAIL, nilo_client_next_step(client),
                "%s", nilo_client_problem(client));
}

/* ---- the server ---- */

static json_t *get(struct nilo_client *client, const char *path, enum nilo_result *ret)
{
        char *body = NULL;
        json_t *answer = NULL;

        *ret = nilo_client_send(client, "GET", path, NULL, NULL, 0, &body);
        if (!*ret)
                answer = json_loads(body, 0, NULL);
        free(body);
        return answer;
}

static const char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void take_number(const json_t *options, const char *name, uint64_t *to)
{
        const json_t *value = json_object_get(json_object_get(options, name), "value");

        if (json_is_integer(value))
                *to = (uint64_t)json_integer_value(value);
}

/* A relative path is the server's own, and right here only if it was started here. */
static void take_data(struct doctor *d, const char *path)
{
        if (d->data || !*path)
                return;
        if (*path == '/' || access(path, F_OK) == 0)
                d->data = memory_copy_string(path);
        else
                doctor_say(d, "data directory", DOCTOR_WARN, "Name it: nilo doctor DIRECTORY.",
                        "the server calls it %s, from another directory than this one", path);
}

static void take_settings(struct doctor *d, const json_t *info)
{
        const json_t *nilo = json_object_get(info, "nilo");
        const json_t *options = json_object_get(nilo, "options");

        take_number(options, "memory", &d->settings.memory);
        take_number(options, "space-reserve", &d->settings.space_reserve);
        take_number(options, "segment-size", &d->settings.segment_size);
        take_number(options, "connections-max", &d->settings.connections_max);
        d->settings.is_memory_only = json_is_true(json_object_get(nilo, "memory_only"));
        if (d->is_here && !d->settings.is_memory_only)
                take_data(d, text_at(json_object_get(options, "data"), "value"));
}

static bool is_this_machine(const char *base)
{
        static const char *const loopback[] = {"127.", "localhost:", "[::1]"};
        const char *host = strstr(base, "://") + 3;
        char name[HOST_SIZE_MAX];

        for (size_t i = 0; i < COUNT_OF(loopback); i++)
                if (strncmp(host, loopback[i], strlen(loopback[i])) == 0)
                        return true;
        return gethostname(name, sizeof name) == 0 && strncmp(host, name, strlen(name)) == 0 &&
               strchr(":/", host[strlen(name)]);
}

static void look_at_health(struct doctor *d, struct nilo_client *client)
{
        enum nilo_result result;
        json_t *health = get(client, "/v1/health", &result);
        const json_t *check;
        size_t i;

        if (result) {
                say_failed(d, "server health", client, result);
                return;
        }
        json_array_foreach(json_object_get(health, "checks"), i, check)
        {
                const char *status = text_at(check, "status");
                char name[TEXT_SIZE_MAX];
                bool is_well = strcmp(status, "healthy") == 0;

                snprintf(name, sizeof name, "server %s", text_at(check, "name"));
                doctor_say(d, name,
                        is_well                           ? DOCTOR_OK
                        : strcmp(status, "degraded") == 0 ? DOCTOR_WARN
                                                          : DOCTOR_FAIL,
                        is_well ? "" : "nilo fact watch --level warning says more.", "%s",
                        text_at(check, "detail"));
        }
        json_decref(health);
}

static void look_at_cluster(struct doctor *d, struct nilo_client *client)
{
        enum nilo_result result;
        json_t *cluster = get(client, "/v1/cluster", &result);
        const json_t *quorum = json_object_get(cluster, "quorum");
        bool is_clustered = json_is_true(json_object_get(cluster, "clustered"));
        enum doctor_verdict verdict = DOCTOR_OK;
        const char *advice = "";

        if (result) {
                say_failed(d, "cluster", client, result);
                return;
        }
        if (!json_is_true(json_object_get(quorum, "has_quorum"))) {
                verdict = DOCTOR_FAIL;
                advice = "Start the nodes that are missing: nilo cluster status names them.";
        } else if (is_clustered && json_integer_value(json_object_get(quorum, "may_fail")) == 0) {
                verdict = DOCTOR_WARN;
                advice = "The next node that fails stops writes: nilo cluster status, then start or replace "
                         "what is missing.";
        } else if (json_is_true(json_object_get(cluster, "insecure"))) {
                verdict = DOCTOR_WARN;
                advice = "Anybody on the network between the nodes can read and write: form the cluster "
                         "without --insecure.";
        }
        doctor_say(d, "cluster", verdict, advice, "%s%s",
                is_clustered ? "" : "one node, alone: ", text_at(quorum, "text"));
        json_decref(cluster);
}

static bool is_named(const struct cli_line *line)
{
        const char *url = getenv("NILO_URL");
        const char *context = getenv("NILO_CONTEXT");

        return line->url || line->context || (url && *url) || (context && *context);
}

/* A machine can be looked at before its first start, but a server that was named should answer. */
static void look_at_server(struct doctor *d, struct nilo_client *client, char **ret_pem)
{
        enum nilo_result result;
        json_t *info = get(client, "/v1/info", &result);

        if (result == NILO_DENIED) /* what everybody may see */
                info = get(client, "/info", &result);
        d->is_here = is_this_machine(nilo_client_url(client));
        d->is_running = result != NILO_UNAVAILABLE;
        if (result == NILO_UNAVAILABLE && !is_named(d->line)) {
                doctor_say(d, "server", DOCTOR_OK, "", "none runs at %s", nilo_client_url(client));
                return;
        }
        if (result) {
                say_failed(d, "server", client, NILO_UNAVAILABLE);
                return;
        }
        doctor_say(d, "server", DOCTOR_OK, "", "%s answers: version %s, %s", nilo_client_url(client),
                text_at(json_object_get(info, "nilo"), "version"), text_at(info, "state"));
        take_settings(d, info);
        json_decref(info);
        look_at_health(d, client);
        look_at_cluster(d, client);
        if (nilo_client_certificates(client, ret_pem))
                *ret_pem = NULL;
}

/* ---- the command ---- */

static void find_data(struct doctor *d)
{
        const char *variable = getenv("NILO_DATA");

        if (d->line->argument_count)
                d->data = memory_copy_string(d->line->arguments[0]);
        else if (variable && *variable)
                d->data = memory_copy_string(variable);
}

int command_doctor(const struct cli_line *line)
{
        struct doctor d = {.line = line,
                .settings = {.memory = 256 * MIB,
                        .space_reserve = 64 * MIB,
                        .segment_size = 256 * MIB,
                        .connections_max = 2000}};
        struct nilo_client *client = cli_client_within(line, SERVER_TIMEOUT_MS, true);
        char *pem = NULL;

        if (!client)
                return CLI_USAGE;
        find_data(&d);
        look_at_server(&d, client, &pem);
        nilo_client_close(&client);
        if (!d.data && !d.is_running)
                d.data = memory_copy_string("./nilo-data");
        if (d.settings.is_memory_only)
                doctor_say(&d, "data directory", DOCTOR_WARN,
                        "For tests only: start without --memory-only to keep data.",
                        "none: nothing survives a stop");
        else if (d.data)
                doctor_disk(&d);
        doctor_machine(&d);
        doctor_certificates(&d, pem);
        if (!line->is_json) {
                cli_remark(line, "\n%u ok, %u to look at, %u wrong", d.counts[DOCTOR_OK],
                        d.counts[DOCTOR_WARN], d.counts[DOCTOR_FAIL]);
        }
        free(pem);
        free(d.data);
        return d.counts[DOCTOR_FAIL] ? CLI_UNEXPECTED : CLI_OK;
}
