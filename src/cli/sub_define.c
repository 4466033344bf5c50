/* Durable subscriptions: create, update, delete, pause, resume, seek, replay. */
#include "cli/sub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECRET_SIZE_MAX = 256 };

/* ---- the body of a definition ---- */

/* Gives the answer of the server to the line, or says why there is none. */
static int finish(const struct cli_line *line, struct nilo_client *client, enum nilo_result result,
        char *body, const char *done)
{
        if (result)
                return cli_failed(client, result);
        if (line->is_json)
                sub_show(line, body);
        else
                printf("%s of %s %s\n", line->arguments[1], line->arguments[0], done);
        return CLI_OK;
}

/* "a,b" as an array of strings. */
static json_t *list_of(const char *text)
{
        json_t *list = json_array();

        while (*text) {
                size_t size = strcspn(text, ",");

                json_array_append_new(list, json_stringn(text, size));
                text += size + (text[size] == ',');
        }
        return list;
}

static json_t *json_of_flag(const struct cli_line *line, const char *flag)
{
        json_error_t error;
        json_t *value = json_loads(cli_value(line, flag), JSON_REJECT_DUPLICATES, &error);

        if (!value)
                cli_problem(CLI_USAGE, "--%s: column %d: %s", flag, error.column, error.text);
        return value;
}

/* The text of a flag goes into the body as it stands, since numbers of any size are compared exactly. */
struct selector_text {
        const char *flag;
        const char *before; /* {"kind":"pattern","match": */
};

/* What the flags select, as JSON; NULL: they say nothing (*ret_is_bad: they make no sense). From malloc. */
static char *selector_of_flags(const struct cli_line *line, bool *ret_is_bad)
{
        static const struct selector_text verbatim[] = {
                {"selector", ""},
                {"match", "{\"kind\":\"pattern\",\"match\":"},
                {"payload", "{\"kind\":\"payload\",\"match\":"},
        };
        static const char *const lists[][2] = {{"type", "types"}, {"prefix", "prefixes"}};
        char *text = NULL;
        unsigned given = 0;

        *ret_is_bad = false;
        for (unsigned i = 0; i < COUNT_OF(verbatim); i++) {
                const char *value = cli_value(line, verbatim[i].flag);
                struct buffer out = {0};
                json_t *checked;

                if (!value)
                        continue;
                checked = json_of_flag(line, verbatim[i].flag);
                *ret_is_bad |= !checked;
                json_decref(checked);
                buffer_format(&out, "%s%s%s", verbatim[i].before, value, *verbatim[i].before ? "}" : "");
                buffer_add_u8(&out, 0);
                free(text);
                text = (char *)out.data;
                given++;
        }
        for (unsigned i = 0; i < COUNT_OF(lists); i++) {
                const char *value = cli_value(line, lists[i][0]);
                json_t *object;

                if (!value)
                        continue;
                object = json_pack("{s:s,s:o}", "kind", lists[i][0], lists[i][1], list_of(value));
                free(text);
                text = json_dumps(object, JSON_COMPACT);
                json_decref(object);
                given++;
        }
        if (given > 1) {
                cli_problem(CLI_USAGE, "--type, --prefix, --match, --payload and --selector each say all "
                                       "that is selected: give "
                                       "one of them");
                *ret_is_bad = true;
        }
        return text;
}

/* Settings of the flags over those in `settings`. False after a message. */
static bool take_settings(const struct cli_line *line, json_t *settings)
{
        static const struct {
                const char *flag;
                const char *name;
        } numbers[] = {{"max-retries", "max_retry_count"}, {"timeout-ms", "message_timeout_ms"}};

        if (cli_has(line, "settings")) {
                json_t *more = json_of_flag(line, "settings");
                bool is_object = json_is_object(more);

                if (is_object)
                        json_object_update(settings, more);
                else if (more)
                        cli_problem(CLI_USAGE, "--settings: an object is expected");
                json_decref(more);
                if (!is_object)
                        return false;
        }
        for (unsigned i = 0; i < COUNT_OF(numbers); i++) {
                uint64_t n;

                if (!cli_has(line, numbers[i].flag))
                        continue;
                if (!cli_number_of(line, numbers[i].flag, 0, &n))
                        return false;
                json_object_set_new(
                        settings, numbers[i].name, json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX)));
        }
        if (cli_has(line, "strategy"))
                json_object_set_new(settings, "strategy", json_string(cli_value(line, "strategy")));
        if (cli_has(line, "lane-key")) {
                json_object_set_new(settings, "strategy", json_string("PerStream"));
                json_object_set_new(settings, "lane_key", json_string(cli_value(line, "lane-key")));
        }
        if (cli_has(line, "resolve-links"))
                json_object_set_new(settings, "resolve_links", json_true());
        return true;
}

/* A secret may stand in a file, since arguments are seen by everybody on the machine. */
static bool take_secret(const struct cli_line *line, struct json_out *j)
{
        const char *secret = cli_value(line, "secret");
        char text[SECRET_SIZE_MAX + 2];
        size_t size;
        FILE *file;

        if (*secret != '@') {
                json_field_string(j, "secret", secret);
                return true;
        }
        file = fopen(secret + 1, "rb");
        if (!file) {
                cli_problem(CLI_USAGE, "%s: %s", secret + 1, strerror(errno));
                return false;
        }
        size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[size] = 0;
        text[strcspn(text, "\r\n")] = 0;
        json_field_string(j, "secret", text);
        return true;
}

static bool from_to_json(const struct cli_line *line, struct json_out *j)
{
        const char *from = cli_value(line, "from");
        uint64_t n;

        if (strcmp(from, "start") == 0 || strcmp(from, "end") == 0) {
                json_field_string(j, "from", from);
                return true;
        }
        if (*from < '0' || *from > '9') {
                cli_problem(CLI_USAGE, "--from: \"%s\" is none of start, end and a number", from);
                return false;
        }
        if (!cli_number("--from", from, &n))
                return false;
        json_field_u64(j, "from", n);
        return true;
}

/* The body for a PUT. `settings` are those to begin with; taken. False after a message. */
static bool body_of_flags(const struct cli_line *line, json_t *settings, char *selector, struct buffer *out)
{
        struct json_out j = {.out = out};
        bool is_fine = take_settings(line, settings);
        char *text = json_dumps(settings, JSON_COMPACT);

        json_object_begin(&j);
        if (selector) {
                json_key(&j, "selector");
                json_raw(&j, bytes_of_string(selector));
        }
        json_key(&j, "settings");
        json_raw(&j, bytes_of_string(text ? text : "{}"));
        if (is_fine && cli_has(line, "from"))
                is_fine = from_to_json(line, &j);
        if (cli_has(line, "webhook"))
                json_field_string(&j, "url", cli_value(line, "webhook"));
        if (is_fine && cli_has(line, "secret"))
                is_fine = take_secret(line, &j);
        /* The rest is for new ones only. */
        if (strcmp(line->command->verb, "create") == 0) {
                if (cli_has(line, "webhook"))
                        json_field_string(&j, "target", "webhook");
                else if (cli_has(line, "topic"))
                        json_field_string(&j, "target", "topic");
                if (cli_has(line, "transient"))
                        json_field_bool(&j, "transient", true);
        }
        json_object_end(&j);
        free(text);
        json_decref(settings);
        return is_fine;
}

static int put(const struct cli_line *line, struct nilo_client *client, const char *rest,
        const struct buffer *body, const char *done)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        char *path = sub_path(line, rest);
        char *answer = NULL;
        enum nilo_result result =
                nilo_client_send(client, "PUT", path, headers, body->data, body->size, &answer);
        int code = finish(line, client, result, answer, done);

        free(answer);
        free(path);
        return code;
}

int command_sub_create(const struct cli_line *line)
{
        struct nilo_client *client;
        struct buffer body = {0};
        bool is_bad;
        char *selector = selector_of_flags(line, &is_bad);
        int code = CLI_USAGE;

        if (!is_bad && cli_has(line, "webhook") && cli_has(line, "topic")) {
                cli_problem(CLI_USAGE, "--webhook and --topic: one place to deliver to");
                is_bad = true;
        }
        if (!is_bad && body_of_flags(line, json_object(), selector, &body)) {
                client = cli_client(line);
                if (client)
                        code = put(line, client, "", &body, "is created");
                nilo_client_close(&client);
        }
        buffer_fini(&body);
        free(selector);
        return code;
}

/* The settings that are not named stay what they are. */
int command_sub_update(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        struct buffer body = {0};
        enum nilo_result result;
        char *now = NULL;
        int code = CLI_USAGE;

        if (!client)
                return CLI_USAGE;
        result = sub_get(client, line, &now);
        if (result) {
                code = cli_failed(client, result);
        } else {
                json_t *object = json_loads(now, 0, NULL);
                json_t *settings =
                        json_deep_copy(json_object_get(json_object_get(object, "definition"), "settings"));

                json_decref(object);
                if (body_of_flags(line, settings ? settings : json_object(), NULL, &body))
                        code = put(line, client, "?replace=true", &body, "is updated");
        }
        free(now);
        buffer_fini(&body);
        nilo_client_close(&client);
        return code;
}

/* ---- delete and seek ---- */

/* Says what will go. With --dry-run that is the answer; else a remark before the question. */
static void say(const struct cli_line *line, const json_t *now, const char *what)
{
        char parked[CLI_SIZE_TEXT];
        char lag[CLI_SIZE_TEXT];
        char flight[CLI_SIZE_TEXT];
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        cli_format_count(sub_number(now, "parked"), parked);
        cli_format_count(sub_number(now, "lag.events"), lag);
        cli_format_count(sub_number(now, "in_flight"), flight);
        if (!cli_has(line, "dry-run")) {
                cli_remark(line, "%s of %s: %s parked, %s in flight, %s behind: %s", line->arguments[1],
                        line->arguments[0], parked, flight, lag, what);
        } else if (!line->is_json) {
                printf("%s of %s: %s parked, %s in flight, %s behind: %s\n", line->arguments[1],
                        line->arguments[0], parked, flight, lag, what);
        } else {
                json_object_begin(&j);
                json_field_string(&j, "stream", line->arguments[0]);
                json_field_string(&j, "group", line->arguments[1]);
                json_field_u64(&j, "parked", sub_number(now, "parked"));
                json_field_u64(&j, "in_flight", sub_number(now, "in_flight"));
                json_field_u64(&j, "lag_events", sub_number(now, "lag.events"));
                json_field_string(&j, "would", what);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
        }
        buffer_fini(&out);
}

/* Looks at the subscription, says what will go, asks, and sends. */
static int change_after_asking(
        const struct cli_line *line, const char *method, const char *rest, const char *what, const char *done)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *body = NULL;
        json_t *now;
        char *path;
        int code;

        if (!client)
                return CLI_USAGE;
        result = sub_get(client, line, &body);
        if (result) {
                code = cli_failed(client, result);
                nilo_client_close(&client);
                return code;
        }
        now = json_loads(body, 0, NULL);
        free(body);
        body = NULL;
        say(line, now, what);
        json_decref(now);
        if (cli_has(line, "dry-run")) {
                code = CLI_OK;
        } else if (!cli_confirm(line, line->arguments[1])) {
                code = CLI_USAGE;
        } else {
                path = sub_path(line, rest);
                result = nilo_client_send(client, method, path, NULL, NULL, 0, &body);
                code = finish(line, client, result, body, done);
                free(path);
                free(body);
        }
        nilo_client_close(&client);
        return code;
}

int command_sub_delete(const struct cli_line *line)
{
        return change_after_asking(line, "DELETE", "",
                "the subscription goes with its checkpoint and its parked events; the events stay",
                "is deleted");
}

int command_sub_seek(const struct cli_line *line)
{
        const char *to = line->arguments[2];
        char rest[64];
        uint64_t n = 0;

        if (strcmp(to, "start") != 0 && strcmp(to, "end") != 0 && !cli_number("seek", to, &n))
                return CLI_USAGE;
        snprintf(rest, sizeof rest, "/seek?to=%s", to);
        return change_after_asking(line, "POST", rest,
                "it goes on from the new place; its checkpoint and what is in flight go",
                "goes on from there");
}

/* ---- pause, resume, replay ---- */

static int change(const struct cli_line *line, const char *rest, const char *done)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        char *body = NULL;
        char *path;
        int code;

        if (!client)
                return CLI_USAGE;
        path = sub_path(line, rest);
        result = nilo_client_send(client, "POST", path, NULL, NULL, 0, &body);
        code = finish(line, client, result, body, done);
        free(path);
        free(body);
        nilo_client_close(&client);
        return code;
}

int command_sub_pause(const struct cli_line *line)
{
        return change(line, "/pause", "is paused");
}

int command_sub_resume(const struct cli_line *line)
{
        return change(line, "/resume", "goes on");
}

int command_sub_replay(const struct cli_line *line)
{
        char rest[64] = "/replay";
        uint64_t n;

        if (cli_has(line, "only") && cli_has(line, "stop-at"))
                return cli_problem(CLI_USAGE, "--only and --stop-at: give one of them");
        if (!cli_number_of(line, "only", 0, &n))
                return CLI_USAGE;
        if (cli_has(line, "only"))
                snprintf(rest, sizeof rest, "/replay?only=%" PRIu64, n);
        if (!cli_number_of(line, "stop-at", 0, &n))
                return CLI_USAGE;
        if (cli_has(line, "stop-at"))
                snprintf(rest, sizeof rest, "/replay?stop-at=%" PRIu64, n);
        return change(line, rest, "delivers its parked events again");
}
