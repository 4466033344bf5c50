/* `nilo cluster demo`: three nodes on this machine, each a process of its own, with data in one directory.
 * They are real nodes: with certificates, and a log each. Ended by Ctrl-C, all of them in order; begun again
 * on the same directory, they go on. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json_out.h"
#include "base/memory.h"
#include "cli/command.h"

enum {
        NODES = 3,
        PORT_DEFAULT = 2113,
        PORT_STEP = 100, /* 2113, 2213, 2313 for clients; one below each for nodes */
        LOOK_US = 100 * 1000,
        START_US_MAX = 30 * 1000 * 1000,
        PATH_SIZE_MAX = 4096,
        ARGUMENTS_MAX = 20,
};

struct demo_node {
        char name[8];
        char data[PATH_SIZE_MAX];
        char log[PATH_SIZE_MAX];
        char url[64];
        unsigned port, peer_port;
        pid_t pid; /* 0: it does not run */
};

struct demo {
        const struct cli_line *line;
        char directory[PATH_SIZE_MAX - 64];
        bool is_temporary;
        bool is_new;
        struct demo_node nodes[NODES];
};

/* ---- processes ---- */

static void run_node(const struct demo_node *n, const char *join, const char *token)
{
        char port[16], peer_port[16];
        const char *arguments[ARGUMENTS_MAX] = {
                "nilo", "--data", n->data, "--port", port, "--peer-port", peer_port, "--node-name", n->name};
        unsigned count = 9;
        int out = open(n->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        snprintf(port, sizeof port, "%u", n->port);
        snprintf(peer_port, sizeof peer_port, "%u", n->peer_port);
        if (join) {
                arguments[count++] = "--join";
                arguments[count++] = join;
                setenv("NILO_TOKEN", token, 1); /* not for everybody who lists processes */
        }
        if (out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
                _exit(CLI_UNEXPECTED);
        /* Ctrl-C is for the demo, which ends its nodes one after another. */
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execv("/proc/self/exe", (char *const *)arguments);
        _exit(CLI_UNEXPECTED);
}

static bool start_node(struct demo_node *n, const char *join, const char *token)
{
        fflush(NULL);
        n->pid = fork();
        if (n->pid == 0)
                run_node(n, join, token);
        if (n->pid > 0)
                return true;
        n->pid = 0;
        cli_problem(CLI_UNEXPECTED, "node %s does not start: %s", n->name, strerror(errno));
        return false;
}

static void say_ended(const struct demo_node *n, int status)
{
        if (WIFSIGNALED(status))
                fprintf(stderr, "node %s was ended by signal %d. Its data is there: start it again with\n",
                        n->name, WTERMSIG(status));
        else
                fprintf(stderr, "node %s ended with exit code %d (%s says why). Start it again with\n",
                        n->name, WEXITSTATUS(status), n->log);
        fprintf(stderr, "  nilo --data %s --port %u --node-name %s\n", n->data, n->port, n->name);
}

/* Says which of them have ended by themselves. */
static unsigned look_after(struct demo *d)
{
        unsigned running = 0;

        for (unsigned i = 0; i < NODES; i++) {
                struct demo_node *n = &d->nodes[i];
                int status;

                if (n->pid && waitpid(n->pid, &status, WNOHANG) == n->pid) {
                        n->pid = 0;
                        if (!cli_is_interrupted())
                                say_ended(n, status);
                }
                running += n->pid != 0;
        }
        return running;
}

static void end_all(struct demo *d)
{
        for (unsigned i = 0; i < NODES; i++)
                if (d->nodes[i].pid)
                        kill(d->nodes[i].pid, SIGTERM);
        for (unsigned i = 0; i < NODES; i++)
                if (d->nodes[i].pid)
                        waitpid(d->nodes[i].pid, NULL, 0);
}

/* ---- asking them ---- */

/* The answer, NULL while the node does not give one. */
static json_t *ask(const struct demo_node *n, const char *method, const char *path, const char *body)
{
        static const char *const headers[] = {"Content-Type: application/json", NULL};
        struct nilo_client *client = NULL;
        char *text = NULL;
        json_t *answer = NULL;

        if (nilo_client_open(n->url, &client))
                return NULL;
        if (!nilo_client_send(client, method, path, headers, body, body ? strlen(body) : 0, &text))
                answer = json_loads(text, 0, NULL);
        free(text);
        nilo_client_close(&client);
        return answer;
}

/* Until it answers with so many voters (0: with anything). */
static bool wait_for(struct demo *d, const struct demo_node *n, json_int_t voters)
{
        for (unsigned waited = 0; waited < START_US_MAX && !cli_is_interrupted(); waited += LOOK_US) {
                json_t *status = ask(n, "GET", "/v1/cluster", NULL);
                json_t *quorum = json_object_get(status, "quorum");
                bool is_there =
                        json_is_true(json_object_get(quorum, "has_quorum")) &&
                        (!voters ||
                                (json_integer_value(json_object_get(quorum, "voters")) == voters &&
                                        json_integer_value(json_object_get(quorum, "reachable")) == voters));

                json_decref(status);
                if (is_there)
                        return true;
                look_after(d);
                if (!n->pid)
                        return false;
                usleep(LOOK_US);
        }
        return false;
}

/* A token, from malloc; NULL: the node gave none. */
static char *make_cluster(const struct demo_node *first)
{
        char body[128];
        json_t *made, *token;
        char *text = NULL;

        snprintf(body, sizeof body, "{\"address\":\"127.0.0.1:%u\",\"voters\":3}", first->peer_port);
        made = ask(first, "POST", "/v1/cluster/init", body);
        token = made ? ask(first, "POST", "/v1/cluster/tokens", "{\"uses\":2}") : NULL;
        if (json_string_value(json_object_get(token, "token")))
                text = memory_copy_string(json_string_value(json_object_get(token, "token")));
        json_decref(made);
        json_decref(token);
        return text;
}

/* ---- beginning ---- */

static bool is_free(unsigned port)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int on = 1;
        int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_ok;

        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        is_ok = s >= 0 && bind(s, (struct sockaddr *)&at, sizeof at) == 0;
        if (s >= 0)
                close(s);
        return is_ok;
}

static bool choose_directory(struct demo *d)
{
        const char *given = cli_value(d->line, "data");
        const char *temporary = getenv("TMPDIR");
        struct stat found;
        char file[PATH_SIZE_MAX];

        snprintf(d->directory, sizeof d->directory, "%s%s",
                given                     ? given
                : temporary && *temporary ? temporary
                                          : "/tmp",
                given ? "" : "/nilo-demo-XXXXXX");
        d->is_temporary = !given;
        if (given ? mkdir(d->directory, 0700) && errno != EEXIST : !mkdtemp(d->directory)) {
                cli_problem(CLI_UNEXPECTED, "the directory %s: %s", d->directory, strerror(errno));
                return false;
        }
        snprintf(file, sizeof file, "%s/n1/cluster.json", d->directory);
        d->is_new = stat(file, &found) != 0;
        return true;
}

static bool plan(struct demo *d)
{
        uint64_t port;

        if (!cli_number_of(d->line, "port", PORT_DEFAULT, &port))
                return false;
        if (port < 2 || port > 65535 - NODES * PORT_STEP) {
                cli_problem(CLI_USAGE, "--port %llu: it and the ports %u and %u above it are used",
                        (unsigned long long)port, PORT_STEP, 2 * PORT_STEP);
                return false;
        }
        for (unsigned i = 0; i < NODES; i++) {
                struct demo_node *n = &d->nodes[i];

                n->port = (unsigned)port + i * PORT_STEP;
                n->peer_port = n->port - 1;
                snprintf(n->name, sizeof n->name, "n%u", i + 1);
                snprintf(n->url, sizeof n->url, "http://127.0.0.1:%u", n->port);
                if (is_free(n->port) && is_free(n->peer_port))
                        continue;
                cli_problem(CLI_UNAVAILABLE, "port %u or %u is in use: choose others with --port N",
                        n->peer_port, n->port);
                return false;
        }
        if (!choose_directory(d))
                return false;
        for (unsigned i = 0; i < NODES; i++) {
                snprintf(d->nodes[i].data, PATH_SIZE_MAX, "%s/n%u", d->directory, i + 1);
                snprintf(d->nodes[i].log, PATH_SIZE_MAX, "%s/n%u.log", d->directory, i + 1);
        }
        return true;
}

static bool begin(struct demo *d)
{
        char seed[32];
        char *token = NULL;
        bool is_right = true;

        snprintf(seed, sizeof seed, "127.0.0.1:%u", d->nodes[0].peer_port);
        if (!start_node(&d->nodes[0], NULL, NULL))
                return false;
        if (d->is_new) {
                cli_remark(d->line, "starting the first node ...");
                is_right = wait_for(d, &d->nodes[0], 0);
                token = is_right ? make_cluster(&d->nodes[0]) : NULL;
                is_right = token != NULL;
                cli_remark(d->line, "two more join, and the three become voters ...");
        }
        for (unsigned i = 1; i < NODES && is_right; i++)
                is_right = start_node(&d->nodes[i], token ? seed : NULL, token);
        free(token);
        for (unsigned i = 0; i < NODES && is_right; i++)
                is_right = wait_for(d, &d->nodes[i], NODES);
        return is_right;
}

/* ---- saying ---- */

static void show_json(const struct demo *d)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "data", d->directory);
        json_key(&j, "nodes");
        json_array_begin(&j);
        for (unsigned i = 0; i < NODES; i++) {
                json_object_begin(&j);
                json_field_string(&j, "name", d->nodes[i].name);
                json_field_string(&j, "url", d->nodes[i].url);
                json_field_u64(&j, "pid", (uint64_t)d->nodes[i].pid);
                json_field_string(&j, "data", d->nodes[i].data);
                json_object_end(&j);
        }
        json_array_end(&j);
        json_object_end(&j);
        cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
}

static void show(const struct demo *d)
{
        const struct demo_node *n = d->nodes;

        if (d->line->is_json) {
                show_json(d);
                cli_flush();
                return;
        }
        printf("\nThree nodes are one cluster.\n\n");
        for (unsigned i = 0; i < NODES; i++)
                printf("  %s  %s  process %d  data %s\n", n[i].name, n[i].url, (int)n[i].pid, n[i].data);
        printf("\nSee it, write to any node, read from any:\n"
               "  nilo cluster status --url %s\n"
               "  nilo stream append order-42 OrderPlaced '{\"total\":5}' --url %s\n"
               "  nilo stream read order-42 --url %s\n"
               "\nClients of KurrentDB: kurrentdb://127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u?tls=false\n"
               "\nLose one: kill -9 %d\n"
               "\nCtrl-C ends them all%s.\n",
                n[0].url, n[1].url, n[2].url, n[0].port, n[1].port, n[2].port, (int)n[0].pid,
                d->is_temporary ? "; their data stays until you remove it" : "");
        cli_flush();
}

int command_cluster_demo(const struct cli_line *line)
{
        struct demo *d = MEMORY_NEW(struct demo);
        int code = CLI_OK;

        d->line = line;
        if (!plan(d)) {
                free(d);
                return CLI_USAGE;
        }
        cli_catch_interrupt(NULL);
        if (begin(d)) {
                show(d);
                while (!cli_is_interrupted() && look_after(d))
                        usleep(LOOK_US);
        } else if (!cli_is_interrupted()) {
                code = cli_problem(CLI_UNAVAILABLE,
                        "the nodes did not become a cluster; what they say is in %s/n*.log", d->directory);
        }
        end_all(d);
        free(d);
        return code;
}
