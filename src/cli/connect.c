/* Which server, and as whom: flags before the environment before the context in use before this machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/context.h"

enum { PASSWORD_SIZE_MAX = 1024 };

static const char url_default[] = "http://127.0.0.1:2113";

static const char *variable(const char *name)
{
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

/* ---- secrets ---- */

void cli_forget(char **secret)
{
        if (*secret)
                explicit_bzero(*secret, strlen(*secret));
        free(*secret);
        *secret = NULL;
}

/* Where user and password stand in a URL; false if there are none. */
static bool find_password(const char *url, size_t *ret_from, size_t *ret_size)
{
        const char *from = strstr(url, "://");
        const char *end = from ? strrchr(from, '@') : NULL;
        const char *colon;

        if (!end)
                return false;
        from += 3;
        colon = memchr(from, ':', (size_t)(end - from));
        if (!colon)
                return false;
        *ret_from = (size_t)(colon + 1 - url);
        *ret_size = (size_t)(end - colon) - 1;
        return *ret_size > 0;
}

char *cli_hide_password(const char *url)
{
        struct buffer out = {0};
        size_t from;
        size_t size;

        if (!find_password(url, &from, &size))
                return memory_copy_string(url);
        buffer_add(&out, url, from);
        buffer_add_string(&out, "***");
        buffer_add(&out, url + from + size, strlen(url + from + size) + 1);
        return (char *)out.data;
}

/* Everybody on the machine sees the words of a process. */
void cli_hide_words(int argc, char **argv)
{
        for (int i = 1; i < argc; i++) {
                size_t from;
                size_t size;
                char *word = argv[i];

                if (!find_password(word, &from, &size))
                        continue;
                argv[i] = memory_copy_string(word);
                memset(word + from, '*', size);
        }
}

/* Takes a line without showing it. Signals stay off while it is typed, so that the terminal is always left as
 * it was. */
static bool read_unseen(int fd, const char *whose, char *to, size_t size_max)
{
        struct termios before;
        struct termios unseen;
        size_t size = 0;
        bool is_done = false;
        char c = 0;

        if (tcgetattr(fd, &before))
                return false;
        unseen = before;
        unseen.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG);
        unseen.c_cc[VMIN] = 1;
        unseen.c_cc[VTIME] = 0;
        if (tcsetattr(fd, TCSAFLUSH, &unseen))
                return false;
        /* Asked only now: what is typed at once is not shown either. */
        fprintf(stderr, "Password of %s: ", whose);
        fflush(stderr);
        while (!is_done && read(fd, &c, 1) == 1) {
                if (c == '\n' || c == '\r')
                        is_done = true;
                else if (c == 3 || c == 4 || c == 28) /* Ctrl-C, Ctrl-D, Ctrl-\ */
                        break;
                else if ((c == 127 || c == 8) && size)
                        size--;
                else if (c == 21) /* Ctrl-U */
                        size = 0;
                else if (c != 127 && c != 8 && size < size_max - 1)
                        to[size++] = c;
        }
        to[size] = 0;
        tcsetattr(fd, TCSAFLUSH, &before);
        return is_done;
}

int cli_password(const char *whose, const char *name, char **ret)
{
        const char *given = variable(name);
        char typed[PASSWORD_SIZE_MAX];
        bool is_typed;
        int fd;

        if (given) {
                *ret = memory_copy_string(given);
                return CLI_OK;
        }
        fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return cli_problem(
                        CLI_USAGE, "no terminal to ask for the password of %s: set %s", whose, name);
        is_typed = read_unseen(fd, whose, typed, sizeof typed);
        fputc('\n', stderr);
        close(fd);
        if (is_typed)
                *ret = memory_copy_string(typed);
        explicit_bzero(typed, sizeof typed);
        return is_typed ? CLI_OK : cli_problem(CLI_USAGE, "no password was typed");
}

/* ---- which server ---- */

/* The context that counts, and none where a URL does. */
static int choose(const struct cli_line *line, struct context *ret)
{
        const char *name = line->context ? line->context : variable("NILO_CONTEXT");
        const char *url = line->url ? line->url : variable("NILO_URL");

        *ret = (struct context){0};
        if (line->url || (url && !line->context))
                ret->url = memory_copy_string(url);
        else if (context_get(name, ret))
                return CLI_USAGE;
        if (!ret->url)
                ret->url = memory_copy_string(url_default);
        return CLI_OK;
}

static bool is_far(const char *base)
{
        static const char *const near[] = {"http://127.", "http://localhost:", "http://[::1]", "https://"};

        for (size_t i = 0; i < COUNT_OF(near); i++)
                if (strncmp(base, near[i], strlen(near[i])) == 0)
                        return false;
        return true;
}

/* A password is asked for once, also by a command that connects twice. */
int cli_own_password(const char *user, char **ret)
{
        static char *password;
        int code = password ? CLI_OK : cli_password(user, "NILO_PASSWORD", &password);

        if (!code)
                *ret = memory_copy_string(password);
        return code;
}

static int say(const struct cli_line *line, const struct context *c, const char *problem)
{
        char *url = cli_hide_password(c->url);

        cli_problem(CLI_USAGE, "%s%s%s %s: %s",
                c->name     ? "context "
                : line->url ? "--url"
                            : "NILO_URL",
                c->name ? c->name : "", c->name ? ":" : "", url, problem);
        free(url);
        return CLI_USAGE;
}

static bool has_user(const char *url)
{
        const char *from = strstr(url, "://");

        return from && strchr(from, '@');
}

/* --login, then the URL, then the environment, then the context. */
static void find_credentials(
        const struct cli_line *line, const struct context *c, struct nilo_client_options *o)
{
        const char *password = variable("NILO_PASSWORD");
        const char *token = variable("NILO_TOKEN");
        const char *user = variable("NILO_LOGIN");
        size_t from;
        size_t size;

        if (line->login) {
                o->user = line->login;
                o->password = password;
        } else if (has_user(c->url)) {
                o->password = find_password(c->url, &from, &size) ? NULL : password;
        } else if (token) {
                o->token = token;
        } else if (user || password) {
                o->user = user ? user : c->user ? c->user : "admin";
                o->password = password;
        } else {
                o->token = c->token;
                o->user = c->token ? NULL : c->user;
        }
        if (!o->password && c->user && c->password && (!o->user || strcmp(o->user, c->user) == 0))
                o->password = c->password;
}

static void find_files(const struct cli_line *line, const struct context *c, struct nilo_client_options *o)
{
        const struct {
                const char *flag;
                const char *variable;
                const char *kept;
                const char **to;
        } files[] = {{line->ca_file, "NILO_CA_FILE", c->ca_file, &o->ca_file},
                {line->cert_file, "NILO_CERT_FILE", c->cert_file, &o->certificate_file},
                {line->key_file, "NILO_KEY_FILE", c->key_file, &o->key_file}};

        for (size_t i = 0; i < COUNT_OF(files); i++) {
                const char *value = files[i].flag ? files[i].flag : variable(files[i].variable);

                *files[i].to = value ? value : files[i].kept;
        }
}

/* A user whose password nobody has said yet. */
static bool needs_password(
        const struct nilo_client *client, const struct context *c, const struct nilo_client_options *o)
{
        size_t from;
        size_t size;

        return *nilo_client_user(client) && !o->password && (o->user || !find_password(c->url, &from, &size));
}

static struct nilo_client *open_with(
        const struct cli_line *line, const struct context *c, const struct nilo_client_options *o)
{
        char problem[NILO_CLIENT_PROBLEM_SIZE];
        struct nilo_client *client = NULL;

        if (nilo_client_open_with(o, &client, problem))
                say(line, c, problem);
        return client;
}

struct nilo_client *cli_client_within(const struct cli_line *line, uint32_t timeout_ms, bool may_ask)
{
        struct nilo_client_options o = {.timeout_ms = timeout_ms};
        struct nilo_client *client;
        char *typed = NULL;
        struct context c;

        if (choose(line, &c))
                return NULL;
        o.url = c.url;
        find_files(line, &c, &o);
        find_credentials(line, &c, &o);
        client = open_with(line, &c, &o);
        if (client && may_ask && needs_password(client, &c, &o)) {
                int code = cli_own_password(nilo_client_user(client), &typed);

                nilo_client_close(&client);
                o.password = typed;
                client = code ? NULL : open_with(line, &c, &o);
        }
        if (client && may_ask && (o.token || *nilo_client_user(client)) && is_far(nilo_client_url(client)))
                cli_remark(line,
                        "nilo: what proves who you are goes to %s without TLS: others on the network can "
                        "read it",
                        nilo_client_url(client));
        cli_forget(&typed);
        context_fini(&c);
        return client;
}

struct nilo_client *cli_client(const struct cli_line *line)
{
        return cli_client_within(line, 0, true);
}
