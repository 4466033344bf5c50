/* The file of contexts: JSON, one writer at a time, replaced whole, and readable by its owner only since
 * passwords may be in it:
 *   {"current": "prod", "contexts": {"prod": {"url": "https://db:2113", "user": "ada", "ca_file":
 * "/etc/nilo/ca.pem"}}} */
#include "cli/context.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_out.h"
#include "base/memory.h"

enum { PATH_SIZE_MAX = 4096, CONTEXTS_MAX = 1000 };

/* ---- the file ---- */

static const char *variable(const char *name)
{
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

/* False for a user without a home. */
static bool path_of(char ret[PATH_SIZE_MAX])
{
        const char *base = variable("XDG_CONFIG_HOME");
        const char *home = variable("HOME");
        int n = -1;

        if (base && *base == '/')
                n = snprintf(ret, PATH_SIZE_MAX, "%s/nilo/contexts.json", base);
        else if (home)
                n = snprintf(ret, PATH_SIZE_MAX, "%s/.config/nilo/contexts.json", home);
        return n > 0 && n < PATH_SIZE_MAX;
}

static int no_home(void)
{
        return cli_problem(CLI_USAGE, "contexts need a place: set HOME or XDG_CONFIG_HOME");
}

static bool is_right(json_t *file)
{
        const char *name;
        json_t *context;

        json_object_foreach(json_object_get(file, "contexts"), name,
                context) if (!json_string_value(json_object_get(context, "url"))) return false;
        return json_is_object(json_object_get(file, "contexts"));
}

/* Gives the file in *ret, an empty one if there is none. CLI_OK, or another exit code after a message. */
static int file_read(const char *path, json_t **ret)
{
        struct stat status;
        json_error_t error;
        FILE *file = fopen(path, "re");

        if (!file && (errno == ENOENT || errno == ENOTDIR)) {
                *ret = json_pack("{s:{}}", "contexts");
                return CLI_OK;
        }
        if (!file)
                return cli_problem(cli_exit_of_errno(errno), "%s: %s", path, strerror(errno));
        if (fstat(fileno(file), &status) || !S_ISREG(status.st_mode) ||
                status.st_size > CONTEXT_FILE_SIZE_MAX) {
                fclose(file);
                return cli_problem(CLI_USAGE, "%s: no file of contexts", path);
        }
        *ret = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
        fclose(file);
        if (*ret && is_right(*ret)) {
                if (status.st_mode & 077)
                        fprintf(stderr, "nilo: %s can be read by others: chmod 600 it\n", path);
                return CLI_OK;
        }
        if (*ret)
                error.line = 1;
        json_decref(*ret);
        return cli_problem(CLI_USAGE,
                "%s: no file of contexts, at line %d.\n      Correct it, or remove it and add them again.",
                path, error.line);
}

static bool make_directories(char *path)
{
        for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
                *at = 0;
                if (mkdir(path, 0700) && errno != EEXIST)
                        return false; /* the path is cut at what could not be made */
                *at = '/';
        }
        return true;
}

static int file_write(char *path, const json_t *content)
{
        char temporary[PATH_SIZE_MAX + 32];
        char *text = json_dumps(content, JSON_INDENT(2) | JSON_SORT_KEYS);
        size_t size = strlen(text);
        bool is_written = false;
        int fd = -1;

        snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
        if (make_directories(path))
                fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0) {
                is_written = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
                is_written = close(fd) == 0 && is_written && rename(temporary, path) == 0;
                if (!is_written)
                        unlink(temporary);
        }
        free(text);
        return is_written ? CLI_OK : cli_problem(cli_exit_of_errno(errno), "%s: %s", path, strerror(errno));
}

/* ---- one context ---- */

static char *text_at(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? memory_copy_string(text) : NULL;
}

void context_fini(struct context *c)
{
        char **const secrets[] = {&c->url, &c->password, &c->token};

        for (size_t i = 0; i < COUNT_OF(secrets); i++)
                if (*secrets[i])
                        explicit_bzero(*secrets[i], strlen(*secrets[i]));
        free(c->name);
        free(c->url);
        free(c->user);
        free(c->password);
        free(c->token);
        free(c->ca_file);
        free(c->cert_file);
        free(c->key_file);
        *c = (struct context){0};
}

static void context_of(const char *name, const json_t *object, struct context *ret)
{
        *ret = (struct context){
                .name = memory_copy_string(name),
                .url = text_at(object, "url"),
                .user = text_at(object, "user"),
                .password = text_at(object, "password"),
                .token = text_at(object, "token"),
                .ca_file = text_at(object, "ca_file"),
                .cert_file = text_at(object, "cert_file"),
                .key_file = text_at(object, "key_file"),
        };
}

static int no_context(const char *name, const json_t *contexts)
{
        const char *names[CONTEXTS_MAX];
        const char *other;
        json_t *context;
        size_t count = 0;

        json_object_foreach((json_t *)contexts, other, context)
        {
                (void)context;
                if (count < CONTEXTS_MAX)
                        names[count++] = other;
        }
        if (!count)
                return cli_problem(CLI_NOT_FOUND,
                        "no context \"%s\": there is none.\n      Add it: nilo context add %s URL", name,
                        name);
        return cli_problem(CLI_NOT_FOUND,
                "no context \"%s\"; nearest is \"%s\". `nilo context ls` lists them", name,
                cli_nearest(name, names, count));
}

int context_get(const char *name, struct context *ret)
{
        char path[PATH_SIZE_MAX];
        const json_t *contexts;
        const json_t *found;
        json_t *file = NULL;
        int code;

        *ret = (struct context){0};
        if (!path_of(path))
                return name ? no_home() : CLI_OK;
        code = file_read(path, &file);
        if (code)
                return code;
        contexts = json_object_get(file, "contexts");
        if (!name)
                name = json_string_value(json_object_get(file, "current"));
        found = name ? json_object_get(contexts, name) : NULL;
        if (found)
                context_of(name, found, ret);
        else if (name)
                code = no_context(name, contexts);
        json_decref(file);
        return code;
}

void context_each(void (*each)(void *arg, const char *name), void *arg)
{
        char path[PATH_SIZE_MAX];
        const char *name;
        json_t *context;
        json_t *file = NULL;

        if (!path_of(path))
                return;
        file = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        json_object_foreach(json_object_get(file, "contexts"), name, context) each(arg, name);
        json_decref(file);
}

/* ---- showing them ---- */

/* Where the file is, and what is in it; *ret is to be freed by json_decref. */
static int open_file(char path[PATH_SIZE_MAX], json_t **ret)
{
        *ret = NULL;
        if (!path_of(path))
                return no_home();
        return file_read(path, ret);
}

static bool is_current(const json_t *file, const char *name)
{
        const char *current = json_string_value(json_object_get(file, "current"));

        return current && strcmp(current, name) == 0;
}

static const char *credentials_of(const struct context *c)
{
        char *hidden = cli_hide_password(c->url);
        bool is_in_url = strcmp(hidden, c->url) != 0;

        free(hidden);
        if (c->token)
                return "token kept";
        return c->password || is_in_url ? "password kept" : "";
}

static void show_json(const struct context *c, bool is_in_use)
{
        char *url = cli_hide_password(c->url);
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        const struct {
                const char *key;
                const char *value;
        } fields[] = {{"name", c->name}, {"url", url}, {"user", c->user}, {"ca_file", c->ca_file},
                {"cert_file", c->cert_file}, {"key_file", c->key_file}};

        json_object_begin(&j);
        for (size_t i = 0; i < COUNT_OF(fields); i++)
                if (fields[i].value)
                        json_field_string(&j, fields[i].key, fields[i].value);
        json_field_bool(&j, "has_password", strcmp(credentials_of(c), "password kept") == 0);
        json_field_bool(&j, "has_token", c->token != NULL);
        json_field_bool(&j, "current", is_in_use);
        json_object_end(&j);
        buffer_add_u8(&out, 0);
        cli_print_line((const char *)out.data, out.size - 1);
        buffer_fini(&out);
        free(url);
}

static void show_row(struct table *t, const struct context *c, bool is_in_use)
{
        char *url = cli_hide_password(c->url);

        table_cell(t, is_in_use ? "*" : "");
        table_cell(t, c->name);
        table_cell(t, c->user ? c->user : "");
        table_cell(t, credentials_of(c));
        table_cell(t, c->ca_file ? c->ca_file : "");
        table_cell(t, url);
        free(url);
}

static const char *const columns[] = {"", "NAME", "USER", "CREDENTIALS", "CA FILE", "URL"};

int command_context_ls(const struct cli_line *line)
{
        char path[PATH_SIZE_MAX];
        struct table table;
        const char *name;
        json_t *context;
        json_t *file;
        int code = open_file(path, &file);

        if (code)
                return code;
        table_begin(&table, line, columns, COUNT_OF(columns));
        json_object_foreach(json_object_get(file, "contexts"), name, context)
        {
                struct context c;

                context_of(name, context, &c);
                if (line->is_json)
                        show_json(&c, is_current(file, name));
                else
                        show_row(&table, &c, is_current(file, name));
                context_fini(&c);
        }
        if (!line->is_json)
                table_flush(&table);
        buffer_fini(&table.cells);
        json_decref(file);
        return CLI_OK;
}

int command_context_show(const struct cli_line *line)
{
        const char *name = line->argument_count ? line->arguments[0] : line->context;
        struct context current;
        struct context c;
        struct table table;
        bool is_in_use;
        int code = context_get(name, &c);

        if (!code && !c.name)
                code = cli_problem(
                        CLI_NOT_FOUND, "no context is in use.\n      Choose one: nilo context use NAME");
        if (code)
                return code;
        is_in_use =
                context_get(NULL, &current) == CLI_OK && current.name && strcmp(current.name, c.name) == 0;
        if (line->is_json) {
                show_json(&c, is_in_use);
        } else {
                table_begin(&table, line, columns, COUNT_OF(columns));
                show_row(&table, &c, is_in_use);
                table_end(&table);
        }
        context_fini(&current);
        context_fini(&c);
        return CLI_OK;
}

/* ---- changing them ---- */

static bool name_is_valid(const char *name)
{
        size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

        return size && size <= CONTEXT_NAME_SIZE_MAX && !name[size] && *name != '-';
}

/* Contexts are used from any directory. */
static void set_file(json_t *context, const char *key, const char *path)
{
        char *absolute = path ? realpath(path, NULL) : NULL;

        if (path)
                json_object_set_new(context, key, json_string(absolute ? absolute : path));
        free(absolute);
}

static int take_password(const struct cli_line *line, json_t *context)
{
        char *password = NULL;
        int code = cli_password(line->login ? line->login : "this user", "NILO_PASSWORD", &password);

        if (!code)
                json_object_set_new(context, "password", json_string(password));
        cli_forget(&password);
        return code;
}

static int fill(const struct cli_line *line, json_t *context)
{
        const char *token = variable("NILO_TOKEN");
        int code = CLI_OK;

        json_object_set_new(context, "url", json_string(line->arguments[1]));
        if (line->login)
                json_object_set_new(context, "user", json_string(line->login));
        set_file(context, "ca_file", line->ca_file);
        set_file(context, "cert_file", line->cert_file);
        set_file(context, "key_file", line->key_file);
        if (cli_has(line, "save-password"))
                code = take_password(line, context);
        if (cli_has(line, "save-token") && !token)
                code = cli_problem(CLI_USAGE, "--save-token keeps the token in NILO_TOKEN, which is not set");
        else if (cli_has(line, "save-token"))
                json_object_set_new(context, "token", json_string(token));
        return code;
}

int command_context_add(const struct cli_line *line)
{
        const struct nilo_client_options probe = {.url = line->arguments[1]};
        const char *name = line->arguments[0];
        char problem[NILO_CLIENT_PROBLEM_SIZE];
        struct nilo_client *client = NULL;
        char path[PATH_SIZE_MAX];
        json_t *contexts;
        json_t *context;
        json_t *file;
        int code;

        if (!name_is_valid(name))
                return cli_problem(CLI_USAGE, "\"%s\": a name has at most %d letters, digits, and - . _",
                        name, CONTEXT_NAME_SIZE_MAX);
        if (nilo_client_open_with(&probe, &client, problem))
                return cli_problem(CLI_USAGE, "the URL: %s", problem);
        nilo_client_close(&client);
        code = open_file(path, &file);
        if (code)
                return code;
        contexts = json_object_get(file, "contexts");
        if (json_object_get(contexts, name) && !cli_has(line, "replace")) {
                code = cli_problem(CLI_CONFLICT,
                        "context \"%s\" exists already.\n      Say --replace to put this one in its place",
                        name);
        } else if (json_object_size(contexts) >= CONTEXTS_MAX) {
                code = cli_problem(CLI_USAGE, "there are %d contexts already: remove some", CONTEXTS_MAX);
        } else {
                context = json_object();
                code = fill(line, context);
                json_object_set_new(contexts, name, context);
                if (cli_has(line, "use") || !json_object_get(file, "current"))
                        json_object_set_new(file, "current", json_string(name));
                if (!code)
                        code = file_write(path, file);
                if (!code)
                        cli_remark(line, "context %s is kept in %s%s", name, path,
                                is_current(file, name) ? ", and in use" : "");
        }
        json_decref(file);
        return code;
}

int command_context_use(const struct cli_line *line)
{
        const char *name = line->arguments[0];
        char path[PATH_SIZE_MAX];
        json_t *file;
        int code = open_file(path, &file);

        if (code)
                return code;
        if (!json_object_get(json_object_get(file, "contexts"), name)) {
                code = no_context(name, json_object_get(file, "contexts"));
        } else {
                json_object_set_new(file, "current", json_string(name));
                code = file_write(path, file);
        }
        json_decref(file);
        return code;
}

int command_context_rm(const struct cli_line *line)
{
        const char *name = line->arguments[0];
        char path[PATH_SIZE_MAX];
        json_t *file;
        int code = open_file(path, &file);

        if (code)
                return code;
        if (json_object_del(json_object_get(file, "contexts"), name)) {
                code = no_context(name, json_object_get(file, "contexts"));
        } else {
                if (is_current(file, name))
                        json_object_del(file, "current");
                code = file_write(path, file);
        }
        json_decref(file);
        return code;
}
