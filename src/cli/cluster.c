/* The cluster: its status, and what an operator does with it. Changes are asked for until they are done: the
 * server answers "not yet" with the reason, and goes on where it stands. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json_out.h"
#include "cli/command.h"

enum { WATCH_US = 1000 * 1000, PAUSE_US = 200 * 1000, WAIT_MS = 2000, TIMEOUT_S_DEFAULT = 600 };

static const char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static uint64_t number_at(const json_t *object, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(object, key));

        return n > 0 ? (uint64_t)n : 0;
}

static bool flag_at(const json_t *object, const char *key)
{
        return json_is_true(json_object_get(object, key));
}

/* ---- status ---- */

static void cell_of_round_trip(struct table *t, const json_t *member)
{
        uint64_t us = number_at(member, "round_trip_us");
        char text[CLI_SIZE_TEXT];

        snprintf(text, sizeof text, us ? "%.1f ms" : "-", (double)us / 1000);
        table_cell(t, text);
}

static void row_of(struct table *t, const json_t *member)
{
        char text[CLI_SIZE_TEXT];
        char versions[64];
        bool is_self = flag_at(member, "self");
        bool is_alive = flag_at(member, "alive");

        snprintf(text, sizeof text, "%" PRIu64 "%s", number_at(member, "node"), is_self ? "*" : "");
        table_cell(t, text);
        table_cell(t, text_at(member, "name"));
        table_cell(t, text_at(member, "role"));
        table_cell(t, is_alive ? text_at(member, "state") : "not reached");
        cli_format_count(number_at(member, "lag_entries"), text);
        table_cell(t, is_alive ? text : "-");
        cell_of_round_trip(t, member);
        snprintf(versions, sizeof versions, "%" PRIu64 "-%" PRIu64, number_at(member, "cluster_version_min"),
                number_at(member, "cluster_version_max"));
        table_cell(t, number_at(member, "cluster_version_max") ? versions : "-");
        table_cell(t, text_at(member, "url"));
        table_cell(t, text_at(member, "address"));
        table_cell(t, is_alive ? "" : text_at(member, "problem"));
}

static void show_members(const struct cli_line *line, const json_t *status)
{
        static const char *const columns[] = {"NODE", "NAME", "ROLE", "STATE", "LAG", "ROUND TRIP",
                "VERSIONS", "CLIENTS", "NODES", "PROBLEM"};
        struct table table;
        const json_t *member;
        size_t i;

        table_begin(&table, line, columns, COUNT_OF(columns));
        json_array_foreach(json_object_get(status, "members"), i, member) row_of(&table, member);
        table_end(&table);
}

/* What the node gets back from the others, and whether all have the same history. */
static void show_care(const json_t *status)
{
        const json_t *history = json_object_get(status, "history");
        uint64_t last = number_at(status, "mending_last_index");

        if (flag_at(status, "mending")) {
                printf("here     mending %s: entry %" PRIu64,
                        strcmp(text_at(status, "mending_what"), "end") == 0 ? "the end of the log"
                                                                            : "a damaged segment",
                        number_at(status, "mending_next_index"));
                if (last)
                        printf(" of %" PRIu64, last);
                printf("\n");
        }
        if (flag_at(history, "undecided"))
                printf("history  differs between nodes, and no majority has one\n");
        else if (number_at(history, "differing"))
                printf("history  of %" PRIu64 " node%s differs from that of the majority\n",
                        number_at(history, "differing"), number_at(history, "differing") == 1 ? "" : "s");
}

static void show_status(const struct cli_line *line, const json_t *status)
{
        const json_t *quorum = json_object_get(status, "quorum");
        const json_t *refused = json_object_get(status, "refused");
        const json_t *stranger;
        size_t i;

        printf("cluster  %s%s\n", text_at(status, "cluster"),
                flag_at(status, "clustered")
                        ? flag_at(status, "insecure") ? " (insecure: no TLS between nodes)" : ""
                        : " (one node, alone: `nilo cluster init` lets others join)");
        printf("quorum   %s\n", text_at(quorum, "text"));
        if (number_at(status, "leader"))
                printf("leader   node %" PRIu64 ", term %" PRIu64 ", epoch %" PRIu64
                       ", committed through entry %" PRIu64 "\n",
                        number_at(status, "leader"), number_at(status, "term"), number_at(status, "epoch"),
                        number_at(status, "commit_index"));
        else
                printf("leader   none is known, term %" PRIu64 "\n", number_at(status, "term"));
        printf("version  %" PRIu64, number_at(status, "cluster_version"));
        if (number_at(status, "cluster_version_possible") > number_at(status, "cluster_version"))
                printf(" (every node supports %" PRIu64 ": `nilo cluster finalize` raises it)",
                        number_at(status, "cluster_version_possible"));
        printf("\n");
        if (flag_at(status, "removed"))
                printf("removed  this node is no member of the cluster any more, the others say. "
                       "Take it back there: `nilo cluster add %" PRIu64 " HOST:PORT`; or wipe it and let it "
                       "join as new\n",
                        number_at(status, "node"));
        if (flag_at(status, "change_under_way"))
                printf("change   a change of members is under way\n");
        if (flag_at(status, "catching_up"))
                printf("here     catching up through entry %" PRIu64 "\n",
                        number_at(status, "catch_up_index"));
        show_care(status);
        printf("\n");
        show_members(line, status);
        json_array_foreach(refused, i, stranger) printf(
                "%srefused  %s: %s\n", i ? "" : "\n", text_at(stranger, "address"), text_at(stranger, "why"));
}

static int status_once(const struct cli_line *line, struct nilo_client *client, bool clears)
{
        char *body = NULL;
        enum nilo_result result = nilo_client_send(client, "GET", "/v1/cluster", NULL, NULL, 0, &body);
        json_t *status;

        if (result)
                return cli_failed(client, result);
        if (line->is_json) {
                cli_show_object(line, body);
        } else {
                status = json_loads(body, 0, NULL);
                if (clears)
                        printf("\033[H\033[2J");
                show_status(line, status);
                json_decref(status);
        }
        free(body);
        return CLI_OK;
}

int command_cluster_status(const struct cli_line *line)
{
        struct nilo_client *client = cli_client(line);
        bool is_watch = cli_has(line, "watch");
        int code;

        if (!client)
                return CLI_USAGE;
        if (is_watch)
                cli_catch_interrupt(client);
        do {
                code = status_once(line, client, is_watch && line->is_terminal);
                if (!cli_flush())
                        break;
                if (is_watch && !cli_is_interrupted())
                        usleep(WATCH_US);
        } while (is_watch && !cli_is_interrupted() && !cli_is_reader_gone());
        cli_catch_interrupt(NULL);
        nilo_client_close(&client);
        return is_watch && cli_is_interrupted() ? CLI_OK : code;
}

/* ---- commands ---- */

struct asking {
        const struct cli_line *line;
        struct nilo_client *client;
        const char *method;
        const char *path; /* without query */
        struct buffer body;
        uint64_t timeout_s;
        char *answer; /* the body; from malloc */
        char told[512];
};

static void tell(struct asking *a, const char *what)
{
        if (strcmp(a->told, what) == 0)
                return;
        snprintf(a->told, sizeof a->told, "%s", what);
        cli_remark(a->line, "waiting: %s", what);
}

/* False: not yet. */
static bool is_done(struct asking *a)
{
        json_t *answer = json_loads(a->answer, 0, NULL);
        bool is_not_yet = json_is_false(json_object_get(answer, "done")) && *text_at(answer, "waits_for");

        if (is_not_yet)
                tell(a, text_at(answer, "waits_for"));
        json_decref(answer);
        return !is_not_yet;
}

/* Of the command of this line; those that change nothing have none of the flags of changes. */
static bool takes_flag(const struct cli_line *line, const char *name)
{
        const struct cli_flag *flags = line->command->flags;

        for (unsigned i = 0; i < CLI_FLAGS_MAX && flags[i].name; i++)
                if (strcmp(flags[i].name, name) == 0)
                        return true;
        return false;
}

/* Asks until it is done, refused, or the patience ends. */
static int ask(struct asking *a)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        bool is_dry = takes_flag(a->line, "dry-run") && cli_has(a->line, "dry-run");
        uint64_t waited_us = 0;
        struct buffer path = {0};
        enum nilo_result result;

        buffer_format(&path, "%s?wait-ms=%d%s", a->path, WAIT_MS, is_dry ? "&dry-run" : "");
        buffer_add_u8(&path, 0);
        cli_catch_interrupt(a->client);
        for (;;) {
                free(a->answer);
                a->answer = NULL;
                result = nilo_client_send(a->client, a->method, (const char *)path.data, headers,
                        a->body.data, a->body.size, &a->answer);
                if (result || cli_is_interrupted() || is_done(a))
                        break;
                waited_us += (uint64_t)WAIT_MS * 1000 + PAUSE_US;
                if (waited_us > a->timeout_s * 1000000)
                        break;
                usleep(PAUSE_US);
        }
        buffer_fini(&path);
        if (cli_is_interrupted())
                return cli_problem(CLI_UNAVAILABLE, "interrupted: say the same again to go on");
        if (result)
                return cli_failed(a->client, result);
        if (!is_done(a))
                return cli_problem(CLI_UNAVAILABLE,
                        "not done within %" PRIu64 " s: %s\n      say the same again to go on", a->timeout_s,
                        a->told);
        return CLI_OK;
}

static int show_dry_run(const json_t *answer)
{
        const json_t *step;
        size_t i;

        json_array_foreach(json_object_get(answer, "steps"), i, step)
                printf("would %s\n", json_string_value(step));
        if (!json_array_size(json_object_get(answer, "steps")))
                printf("nothing to do: it is so already\n");
        if (flag_at(answer, "allowed"))
                return CLI_OK;
        return cli_problem(CLI_CONFLICT, "the cluster would not allow it: %s", text_at(answer, "reason"));
}

static int show_json(const struct cli_line *line, char *text, const json_t *answer)
{
        cli_show_object(line, text);
        if (!flag_at(answer, "dry_run") || flag_at(answer, "allowed"))
                return CLI_OK;
        return cli_problem(CLI_CONFLICT, "the cluster would not allow it: %s", text_at(answer, "reason"));
}

static int show_changes(const struct cli_line *line, const json_t *answer)
{
        const json_t *step;
        size_t i;

        (void)line;
        json_array_foreach(json_object_get(answer, "steps"), i, step)
                printf("done: %s\n", json_string_value(step));
        if (!json_array_size(json_object_get(answer, "steps")))
                printf("nothing to do: it is so already\n");
        return CLI_OK;
}

/* Runs a command; `show` tells people of the answer, NULL: its fields. Frees the body. */
static int run(const struct cli_line *line, const char *method, const char *path, struct buffer *body,
        int (*show)(const struct cli_line *line, const json_t *answer))
{
        struct asking a = {.line = line,
                .client = cli_client(line),
                .method = method,
                .path = path,
                .timeout_s = TIMEOUT_S_DEFAULT};
        json_t *answer;
        int code = CLI_USAGE;

        if (body) {
                a.body = *body;
                *body = (struct buffer){0};
        }
        if (a.client && (!takes_flag(line, "timeout") ||
                                cli_number_of(line, "timeout", TIMEOUT_S_DEFAULT, &a.timeout_s)))
                code = ask(&a);
        if (!code) {
                answer = json_loads(a.answer, 0, NULL);
                if (line->is_json)
                        code = show_json(line, a.answer, answer);
                else if (flag_at(answer, "dry_run"))
                        code = show_dry_run(answer);
                else if (show)
                        code = show(line, answer);
                else
                        cli_show_object(line, a.answer);
                json_decref(answer);
        }
        cli_catch_interrupt(NULL);
        free(a.answer);
        buffer_fini(&a.body);
        nilo_client_close(&a.client);
        return code;
}

/* ---- init, tokens ---- */

static int show_init(const struct cli_line *line, const json_t *answer)
{
        (void)line;
        printf("this node is node %" PRIu64 " of the cluster %s, for others at %s\n",
                number_at(answer, "node"), text_at(answer, "cluster"), text_at(answer, "address"));
        if (*text_at(answer, "certificates"))
                printf("the key of its CA is in %s: keep a copy of ca.key where it is safe\n",
                        text_at(answer, "certificates"));
        printf("\nLet others join: nilo cluster token\n");
        return CLI_OK;
}

int command_cluster_init(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        uint64_t voters;

        if (!cli_number_of(line, "voters", 0, &voters))
                return CLI_USAGE;
        json_object_begin(&j);
        if (cli_has(line, "address"))
                json_field_string(&j, "address", cli_value(line, "address"));
        if (cli_has(line, "advertise"))
                json_field_string(&j, "advertise", cli_value(line, "advertise"));
        if (voters)
                json_field_u64(&j, "voters", voters);
        json_field_bool(&j, "insecure", cli_has(line, "insecure"));
        json_object_end(&j);
        return run(line, "POST", "/v1/cluster/init", &body, show_init);
}

/* "90", "90s", "15m", "2h", "7d" */
static bool seconds_parse(const char *text, uint64_t *ret)
{
        static const struct {
                const char *unit;
                uint64_t seconds;
        } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 24 * 3600}};
        char *end;
        unsigned long long n = strtoull(text, &end, 10);

        for (unsigned i = 0; i < COUNT_OF(units); i++) {
                if (end == text || *text == '-' || n > 1000000 || strcmp(end, units[i].unit) != 0)
                        continue;
                *ret = n * units[i].seconds;
                return true;
        }
        cli_problem(CLI_USAGE, "--expires %s: a time is a number with s, m, h or d behind it", text);
        return false;
}

static int show_token(const struct cli_line *line, const json_t *answer)
{
        char text[CLI_SIZE_TEXT];

        (void)line;
        cli_format_seconds((double)number_at(answer, "expires_s"), text);
        printf("%s\n\nIt lets %" PRIu64 " node%s in within %s. On the new node:\n\n",
                text_at(answer, "token"), number_at(answer, "uses"),
                number_at(answer, "uses") == 1 ? "" : "s", text);
        printf("  nilo cluster join %s --token %s --data DIRECTORY\n", text_at(answer, "address"),
                text_at(answer, "token"));
        return CLI_OK;
}

int command_cluster_token(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        uint64_t uses, expires_s = 3600;

        if (!cli_number_of(line, "uses", 1, &uses) ||
                (cli_has(line, "expires") && !seconds_parse(cli_value(line, "expires"), &expires_s)))
                return CLI_USAGE;
        json_object_begin(&j);
        json_field_u64(&j, "uses", uses);
        json_field_u64(&j, "expires_s", expires_s);
        json_object_end(&j);
        return run(line, "POST", "/v1/cluster/tokens", &body, show_token);
}

static int show_tokens(const struct cli_line *line, const json_t *answer)
{
        static const char *const columns[] = {"ID", "USED", "USES", "STATE"};
        const json_t *token;
        struct table table;
        size_t i;

        table_begin(&table, line, columns, COUNT_OF(columns));
        json_array_foreach(json_object_get(answer, "tokens"), i, token)
        {
                char text[CLI_SIZE_TEXT];

                table_cell(&table, text_at(token, "id"));
                cli_format_count(number_at(token, "used"), text);
                table_cell(&table, text);
                cli_format_count(number_at(token, "uses"), text);
                table_cell(&table, text);
                table_cell(&table, flag_at(token, "open")                                 ? "open"
                                   : flag_at(token, "revoked")                            ? "revoked"
                                   : number_at(token, "used") >= number_at(token, "uses") ? "used up"
                                                                                          : "expired");
        }
        table_end(&table);
        return CLI_OK;
}

int command_cluster_tokens(const struct cli_line *line)
{
        return run(line, "GET", "/v1/cluster/tokens", NULL, show_tokens);
}

static int show_revoked(const struct cli_line *line, const json_t *answer)
{
        (void)answer;
        printf("%s lets nobody in any more\n", line->arguments[0]);
        return CLI_OK;
}

int command_cluster_revoke(const struct cli_line *line)
{
        char *path = cli_path("/v1/cluster/tokens/", line->arguments[0], "");
        int code = run(line, "DELETE", path, NULL, show_revoked);

        free(path);
        return code;
}

int command_cluster_join(const struct cli_line *line)
{
        (void)line;
        return cli_problem(CLI_USAGE,
                "say `nilo cluster join HOST:PORT --token TOKEN --data DIRECTORY`, with the seeds first; "
                "it starts a server, and takes the server's flags (nilo serve --help)");
}

/* ---- members ---- */

/* Seeds of a cluster that cannot be undone at once ask for the node's number to be typed. */
static int change_node(const struct cli_line *line, bool asks)
{
        const char *node = line->arguments[0];
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        char verb[32];
        uint64_t number;
        char *path;
        int code;

        if (!cli_number("NODE", node, &number))
                return CLI_USAGE;
        if (asks && !cli_has(line, "dry-run")) {
                if (!cli_has(line, "yes"))
                        cli_remark(line,
                                "Node %s will be no member any more; its data stays in its directory.", node);
                if (!cli_confirm(line, node))
                        return CLI_USAGE;
        }
        json_object_begin(&j);
        if (line->argument_count > 1)
                json_field_string(&j, "address", line->arguments[1]);
        json_object_end(&j);
        snprintf(verb, sizeof verb, "/%s", line->command->verb);
        path = cli_path("/v1/cluster/nodes/", node, verb);
        code = run(line, "POST", path, &body, show_changes);
        free(path);
        return code;
}

int command_cluster_change(const struct cli_line *line)
{
        return change_node(line, false);
}

int command_cluster_remove(const struct cli_line *line)
{
        return change_node(line, true);
}

int command_cluster_leave(const struct cli_line *line)
{
        if (!cli_has(line, "dry-run")) {
                struct nilo_client *client = cli_client(line);

                if (!client)
                        return CLI_USAGE;
                if (!cli_has(line, "yes"))
                        cli_remark(line,
                                "The node at %s leaves its cluster; its data stays in its directory.",
                                nilo_client_url(client));
                nilo_client_close(&client);
                if (!cli_confirm(line, "leave"))
                        return CLI_USAGE;
        }
        return run(line, "POST", "/v1/cluster/leave", NULL, show_changes);
}

int command_cluster_grow(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        uint64_t voters, node;
        bool is_right = cli_number_of(line, "voters", 3, &voters);

        json_object_begin(&j);
        json_field_u64(&j, "voters", voters);
        json_key(&j, "nodes");
        json_array_begin(&j);
        for (unsigned i = 0; is_right && i < line->argument_count; i++) {
                is_right = cli_number("NODE", line->arguments[i], &node);
                if (is_right)
                        json_u64(&j, node);
        }
        json_array_end(&j);
        json_object_end(&j);
        if (is_right)
                return run(line, "POST", "/v1/cluster/grow", &body, show_changes);
        buffer_fini(&body);
        return CLI_USAGE;
}

static int show_finalized(const struct cli_line *line, const json_t *answer)
{
        (void)line;
        if (flag_at(answer, "raised"))
                printf("the cluster version is %" PRIu64 " now\n", number_at(answer, "cluster_version"));
        else
                printf("nothing to raise: the cluster version is %" PRIu64 ", and no node supports more\n",
                        number_at(answer, "cluster_version"));
        return CLI_OK;
}

int command_cluster_finalize(const struct cli_line *line)
{
        return run(line, "POST", "/v1/cluster/finalize", NULL, show_finalized);
}

int command_cluster_replace(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        uint64_t old, new;

        if (!cli_number("OLD", line->arguments[0], &old) || !cli_number("NEW", line->arguments[1], &new))
                return CLI_USAGE;
        if (!cli_has(line, "dry-run")) {
                if (!cli_has(line, "yes"))
                        cli_remark(line,
                                "Node %s will be no member any more; its data stays in its directory.",
                                line->arguments[0]);
                if (!cli_confirm(line, line->arguments[0]))
                        return CLI_USAGE;
        }
        json_object_begin(&j);
        json_field_u64(&j, "node", old);
        json_field_u64(&j, "with", new);
        json_object_end(&j);
        return run(line, "POST", "/v1/cluster/replace", &body, show_changes);
}
