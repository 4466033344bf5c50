/* Users of a server: who they are, what they may, and tokens for programs. Passwords come from the
 * environment or are typed unseen; they are never arguments. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "base/memory.h"
#include "cli/command.h"

enum { WHOSE_SIZE = 512 };

static const char *const json_headers[] = {"Content-Type: application/json", NULL};

/* ---- asking the server ---- */

/* Sends, shows what failed, and closes the client. `ret_body` may be NULL. */
static int send_once(const struct cli_line *line, const char *method, const char *path, struct buffer *body,
        char **ret_body)
{
        struct nilo_client *client = cli_client(line);
        enum nilo_result result;
        int code = CLI_OK;

        if (!client)
                return CLI_USAGE;
        result = nilo_client_send(client, method, path, body ? json_headers : NULL, body ? body->data : NULL,
                body ? body->size : 0, ret_body);
        if (result)
                code = cli_failed(client, result);
        nilo_client_close(&client);
        return code;
}

static int get_json(const struct cli_line *line, const char *path, json_t **ret)
{
        char *body = NULL;
        int code = send_once(line, "GET", path, NULL, &body);

        *ret = code ? NULL : json_loads(body, 0, NULL);
        free(body);
        if (!code && !*ret)
                code = cli_problem(CLI_UNEXPECTED, "the server's answer is no JSON: is it a Nilometer?");
        return code;
}

static char *user_path(const char *login, const char *rest)
{
        return cli_path("/v1/users/", login, rest);
}

static int get_user(const struct cli_line *line, const char *login, json_t **ret)
{
        char *path = user_path(login, "");
        int code = get_json(line, path, ret);

        free(path);
        return code;
}

/* A change of one user that has no answer worth showing. */
static int change(const struct cli_line *line, const char *method, const char *login, const char *rest,
        struct buffer *body, const char *done)
{
        char *path = user_path(login, rest);
        int code = send_once(line, method, path, body, NULL);

        free(path);
        if (!code)
                cli_remark(line, "%s %s", login, done);
        return code;
}

/* ---- showing ---- */

static const char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void print_json(const json_t *value)
{
        char *text = json_dumps(value, JSON_COMPACT);

        cli_print_line(text, strlen(text));
        free(text);
}

static const char *const columns[] = {"LOGIN", "STATE", "CHANGED", "GROUPS", "NAME"};

static void row_of(struct table *t, const json_t *user)
{
        struct buffer groups = {0};
        const json_t *group;
        size_t i;

        json_array_foreach(json_object_get(user, "groups"), i, group)
                buffer_format(&groups, "%s%s", i ? "," : "", json_string_value(group));
        table_cell(t, text_at(user, "login"));
        table_cell(t, json_is_true(json_object_get(user, "disabled")) ? "disabled" : "enabled");
        table_cell_bytes(t, text_at(user, "updated"), sizeof "2026-01-01T00:00:00" - 1);
        table_cell_bytes(t, groups.size ? (const char *)groups.data : "", groups.size);
        table_cell(t, text_at(user, "fullName"));
        buffer_fini(&groups);
}

static void show_user(const struct cli_line *line, struct table *t, const json_t *user)
{
        if (line->is_json)
                print_json(user);
        else
                row_of(t, user);
}

static void show_end(const struct cli_line *line, struct table *t)
{
        if (!line->is_json)
                table_flush(t);
        buffer_fini(&t->cells);
}

/* The page behind `after` ("": the first). */
static int get_page(const struct cli_line *line, const char *after, json_t **ret)
{
        char *path = cli_path("/v1/users?limit=1000&after=", after, "");
        int code = get_json(line, path, ret);

        free(path);
        return code;
}

int command_user_ls(const struct cli_line *line)
{
        char *after = memory_copy_string("");
        struct table table;
        bool is_end = false;
        int code = CLI_OK;

        table_begin(&table, line, columns, COUNT_OF(columns));
        while (!is_end && !code) {
                json_t *page;
                const json_t *user;
                size_t i;

                code = get_page(line, after, &page);
                json_array_foreach(json_object_get(page, "users"), i, user) show_user(line, &table, user);
                free(after);
                after = memory_copy_string(text_at(page, "after"));
                is_end = !*after;
                json_decref(page);
        }
        if (!code)
                show_end(line, &table);
        else
                buffer_fini(&table.cells);
        free(after);
        return code;
}

int command_user_show(const struct cli_line *line)
{
        struct table table;
        json_t *user;
        int code = get_user(line, line->arguments[0], &user);

        if (!code) {
                table_begin(&table, line, columns, COUNT_OF(columns));
                show_user(line, &table, user);
                show_end(line, &table);
        }
        json_decref(user);
        return code;
}

int command_user_whoami(const struct cli_line *line)
{
        char *body = NULL;
        int code = send_once(line, "GET", "/v1/whoami", NULL, &body);

        if (!code)
                cli_show_object(line, body);
        free(body);
        return code;
}

/* ---- changing ---- */

/* Typed twice, since nobody sees what was typed. */
static int new_password(const char *login, char **ret)
{
        const char *given = getenv("NILO_NEW_PASSWORD");
        char *again = NULL;
        char shown[WHOSE_SIZE];
        int code;

        snprintf(shown, sizeof shown, "%s (new)", login);
        code = cli_password(shown, "NILO_NEW_PASSWORD", ret);
        if (code || (given && *given))
                return code;
        snprintf(shown, sizeof shown, "%s (again)", login);
        code = cli_password(shown, "NILO_NEW_PASSWORD", &again);
        if (!code && strcmp(again, *ret) != 0)
                code = cli_problem(CLI_USAGE, "the two passwords differ: nothing was done");
        cli_forget(&again);
        return code;
}

/* The groups of --groups, --admin and --ops; false if none of them was given. */
static bool add_groups(const struct cli_line *line, struct json_out *j)
{
        const char *at = cli_value(line, "groups");
        bool is_given = at || cli_has(line, "admin") || cli_has(line, "ops");

        if (!is_given)
                return false;
        json_key(j, "groups");
        json_array_begin(j);
        if (cli_has(line, "admin"))
                json_text(j, "$admins");
        if (cli_has(line, "ops"))
                json_text(j, "$ops");
        while (at && *at) {
                size_t size = strcspn(at, ",");

                if (size)
                        json_bytes(j, bytes_of(at, size));
                at += size + (at[size] == ',');
        }
        json_array_end(j);
        return true;
}

static void wipe(struct buffer *b)
{
        if (b->data)
                explicit_bzero(b->data, b->size);
        buffer_fini(b);
}

int command_user_add(const struct cli_line *line)
{
        const char *login = line->arguments[0];
        const char *name = cli_value(line, "name");
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        char *password = NULL;
        int code = new_password(login, &password);

        if (!code) {
                json_object_begin(&j);
                json_field_string(&j, "login", login);
                json_field_string(&j, "fullName", name ? name : login);
                if (!add_groups(line, &j)) {
                        json_key(&j, "groups");
                        json_array_begin(&j);
                        json_array_end(&j);
                }
                json_field_string(&j, "password", password);
                json_object_end(&j);
                code = send_once(line, "POST", "/v1/users", &body, NULL);
        }
        if (!code)
                cli_remark(line, "%s is a user now", login);
        cli_forget(&password);
        wipe(&body);
        return code;
}

int command_user_set(const struct cli_line *line)
{
        const char *login = line->arguments[0];
        const char *name = cli_value(line, "name");
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        json_t *user;
        bool has_groups;
        int code = get_user(line, login, &user);

        if (code)
                return code;
        json_object_begin(&j);
        json_field_string(&j, "fullName", name ? name : text_at(user, "fullName"));
        has_groups = add_groups(line, &j);
        if (!has_groups) {
                char *kept = json_dumps(json_object_get(user, "groups"), JSON_COMPACT);

                json_key(&j, "groups");
                json_raw(&j, bytes_of_string(kept ? kept : "[]"));
                free(kept);
        }
        json_object_end(&j);
        if (!name && !has_groups)
                code = cli_problem(CLI_USAGE, "nothing to set: say --name, --groups, --admin or --ops");
        else
                code = change(line, "PUT", login, "", &body, "was changed");
        json_decref(user);
        buffer_fini(&body);
        return code;
}

/* The login of the line, or of whoever asks. *ret_is_own: these are the same. */
static int whose(const struct cli_line *line, char **ret_login, bool *ret_is_own)
{
        json_t *me;
        int code = get_json(line, "/v1/whoami", &me);
        const char *own = text_at(me, "login");

        if (!code && !line->argument_count && !*own)
                code = cli_problem(
                        CLI_USAGE, "nobody is logged in: say whose password, or log in with --login NAME");
        if (!code) {
                *ret_login = memory_copy_string(line->argument_count ? line->arguments[0] : own);
                *ret_is_own = strcmp(*ret_login, own) == 0;
        }
        json_decref(me);
        return code;
}

int command_user_passwd(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        char *password = NULL;
        char *current = NULL;
        char *login = NULL;
        bool is_own = false;
        int code = whose(line, &login, &is_own);

        if (!code && is_own)
                code = cli_own_password(login, &current);
        if (!code)
                code = new_password(login, &password);
        if (!code) {
                json_object_begin(&j);
                json_field_string(&j, "password", password);
                if (current)
                        json_field_string(&j, "current", current);
                json_object_end(&j);
                code = change(line, "POST", login, "/password", &body,
                        "has a new password; tokens of before are worth nothing");
        }
        cli_forget(&password);
        cli_forget(&current);
        free(login);
        wipe(&body);
        return code;
}

int command_user_switch(const struct cli_line *line)
{
        bool is_on = strcmp(line->command->verb, "enable") == 0;

        return change(line, "POST", line->arguments[0], is_on ? "/enable" : "/disable", NULL,
                is_on ? "can log in again" : "cannot log in any more; what they had open ends");
}

int command_user_rm(const struct cli_line *line)
{
        const char *login = line->arguments[0];
        json_t *user;
        int code = get_user(line, login, &user);

        if (!code && (cli_has(line, "dry-run") || !cli_has(line, "yes")))
                cli_remark(line, "The user %s (%s) and its rights by that name.", login,
                        text_at(user, "fullName"));
        json_decref(user);
        if (code || cli_has(line, "dry-run"))
                return code;
        if (!cli_confirm(line, login))
                return CLI_USAGE;
        return change(line, "DELETE", login, "", NULL, "was removed");
}

int command_user_token(const struct cli_line *line)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        char *answer = NULL;
        json_t *token = NULL;
        uint64_t seconds;
        int code;

        if (!cli_number_of(line, "seconds", 0, &seconds))
                return CLI_USAGE;
        json_object_begin(&j);
        if (seconds)
                json_field_u64(&j, "seconds", seconds);
        json_object_end(&j);
        code = send_once(line, "POST", "/v1/token", &body, &answer);
        if (!code)
                token = json_loads(answer, 0, NULL);
        if (!code && !*text_at(token, "token"))
                code = cli_problem(CLI_UNEXPECTED, "the server gave no token");
        if (!code && line->is_json) {
                print_json(token);
        } else if (!code) {
                printf("%s\n", text_at(token, "token"));
                cli_remark(line, "valid until %s: NILO_TOKEN, or \"Authorization: Bearer\"",
                        text_at(token, "expiresAt"));
        }
        json_decref(token);
        cli_forget(&answer);
        buffer_fini(&body);
        return code;
}
