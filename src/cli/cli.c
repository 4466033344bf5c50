/* The command line: one table of commands gives the parser, the usage errors and the help. */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/manual.h"

enum { OUTPUT_SIZE = 64 * 1024 };

/* clang-format off */
#define FLAGS_OF_FILTERS                                             \
        {"stream-prefix", "TEXT", "of $all: only streams that begin so"},    \
        {"stream-regex", "PATTERN", "of $all: only streams that match"},     \
        {"type-prefix", "TEXT", "of $all: only event types that begin so"},  \
        {"type-regex", "PATTERN", "of $all: only event types that match"}

#define FLAGS_OF_SETTINGS                                            \
        {"strategy", "NAME", "RoundRobin, DispatchToSingle, Pinned, PinnedByCorrelation, PerStream"}, \
        {"lane-key", "KEY", "of PerStream: order by tag:NAME or metadata:KEY, not by stream"},        \
        {"max-retries", "N", "deliveries after the first, before parking (default 10)"},              \
        {"timeout-ms", "N", "time to acknowledge; 0: any (default 30000)"},                           \
        {"resolve-links", NULL, "deliver what links point to"},                                       \
        {"settings", "JSON", "any settings, as the HTTP API takes them"},                             \
        {"secret", "TEXT", "signs webhooks; or @FILE"}

#define FLAGS_OF_USERS                                               \
        {"name", "TEXT", "full name"},                                       \
        {"groups", "NAMES", "groups (A,B), in the place of those that were"}, \
        {"admin", NULL, "also of $admins: may do everything"},               \
        {"ops", NULL, "also of $ops: may operate the server"}

#define FLAGS_OF_CHANGES                                             \
        {"dry-run", NULL, "say what would be done and whether it is allowed, do nothing"}, \
        {"timeout", "SECONDS", "give up after so long (default 600); said again, it goes on"}

#define FLAGS_OF_BENCH                                               \
        {"size", "BYTES", "data of an event (default 256)"},                 \
        {"seconds", "N", "for so long (default 10)"},                        \
        {"rate", "N", "events a second that are due, whatever the answers: an open loop"}, \
        {"delete", NULL, "delete its streams at the end, without asking"},   \
        {"keep", NULL, "keep them, without asking"}

static const struct cli_command commands[] = {
        {"stream", "ls", "[PREFIX]", "list streams, categories or types", command_stream_ls, {
                {"categories", NULL, "categories (text before the first '-')"},
                {"types", NULL, "event types"},
                {"limit", "N", "at most N names"},
                {"after", "NAME", "begin behind this name"},
                {"system", NULL, "system names too (they begin with $)"}}},
        {"stream", "show", "STREAM", "state, revisions and metadata of a stream", command_stream_show, {{0}}},
        {"stream", "read", "STREAM", "read a stream, or $all", command_stream_read, {
                {"from", "N", "first revision (of $all: position), or start, end"},
                {"limit", "N", "at most N events"},
                {"backward", NULL, "newest first"},
                {"after", "POSITION", "wait until the event at this position is visible, as an append told it"},
                {"consistency", "NAME", "stale, linearizable or leader; default: the newest at the leader, what there is elsewhere"},
                {"timeout", "SECONDS", "for those two (default 5)"},
                FLAGS_OF_FILTERS}},
        {"stream", "append", "STREAM TYPE [DATA]", "append an event; data as an argument, from @FILE or standard input",
                command_stream_append, {
                {"expect", "REVISION", "any (default), none, exists, or the revision of the last event"},
                {"metadata", "JSON", "metadata of the event, or @FILE"},
                {"id", "UUID", "id of the event: a retry with the same id writes once"},
                {"binary", NULL, "the data is no JSON"}}},
        {"stream", "tail", "STREAM", "follow a stream, or $all: the last events, then new ones", command_stream_tail, {
                {"last", "N", "begin with the last N events (default 10)"},
                {"from", "N", "begin at this revision (of $all: position), or start, end"},
                {"limit", "N", "end after N events"},
                FLAGS_OF_FILTERS}},
        {"stream", "truncate", "STREAM", "hide the events before a revision", command_stream_truncate, {
                {"before", "REVISION", "first revision that stays"},
                {"dry-run", NULL, "say what would go, do nothing"},
                {"yes", NULL, "do not ask"}}},
        {"stream", "delete", "STREAM", "delete a stream (an append brings it back, without its old events)",
                command_stream_delete, {
                {"expect", "REVISION", "any (default), exists, or the revision of the last event"},
                {"tombstone", NULL, "for good: the name can never be used again"},
                {"dry-run", NULL, "say what would go, do nothing"},
                {"yes", NULL, "do not ask"}}},
        {"event", "show", "POSITION|STREAM@REVISION", "one event", command_event_show, {{0}}},
        {"event", "find", "[KEY=VALUE [MORE [MORE [MORE]]]]", "the newest events with such fields in their data", command_event_find, {
                {"type", "TYPE", "of this event type"},
                {"stream-prefix", "TEXT", "of streams that begin so"},
                {"data", "KEY=VALUE", "a field of the data, as the arguments are (total=5, customer.id=7)"},
                {"metadata", "KEY=VALUE", "a field of the metadata"},
                {"since", "TIME", "not older: 2026-11-25T10:00:00Z, or 15m, 2h, 3d ago"},
                {"from", "POSITION", "begin here and go back (default: the newest)"},
                {"limit", "N", "at most N events (default 20)"},
                {"scan", "N", "look at N events at most (default 1000000; 0: all)"}}},
        {"event", "trace", "ID|POSITION|STREAM@REVISION", "what led to an event and what followed, by correlation and causation", command_event_trace, {
                {"from", "POSITION", "nothing before it is looked at"},
                {"limit", "N", "at most N events (default 1000)"},
                {"scan", "N", "look at N events at most on each side (default 1000000; 0: all)"}}},
        {"sub", "ls", "[STREAM]", "list durable subscriptions, with their lag", command_sub_ls, {{0}}},
        {"sub", "show", "STREAM GROUP", "definition, state, lag and consumers of a durable subscription", command_sub_show, {{0}}},
        {"sub", "create", "STREAM GROUP", "create a durable subscription of a stream, or of $all with a selection", command_sub_create, {
                {"type", "TYPES", "of $all: events of these types (A,B)"},
                {"prefix", "NAMES", "of $all: streams that begin with any of these (a-,b-)"},
                {"match", "JSON", "of $all: events whose fields equal these"},
                {"payload", "JSON", "of $all: events whose JSON data has these fields"},
                {"selector", "JSON", "of $all: a selector as the HTTP API takes it"},
                {"from", "N", "first revision (of $all: position), or start (default), end"},
                {"transient", NULL, "ends with its last consumer"},
                {"topic", NULL, "deliver to the fact topic of the subscription"},
                {"webhook", "URL", "deliver by POST to this address"},
                FLAGS_OF_SETTINGS}},
        {"sub", "update", "STREAM GROUP", "change settings; those that are not named stay. Its consumers are dropped", command_sub_update, {
                {"from", "N", "where to begin while there is no checkpoint"},
                {"webhook", "URL", "the new address"},
                FLAGS_OF_SETTINGS}},
        {"sub", "delete", "STREAM GROUP", "delete a durable subscription with its checkpoint and parked events", command_sub_delete, {
                {"dry-run", NULL, "say what would go, do nothing"},
                {"yes", NULL, "do not ask"}}},
        {"sub", "lag", "[STREAM [GROUP]]", "how far subscriptions are behind", command_sub_lag, {{0}}},
        {"sub", "pause", "STREAM GROUP", "give out no more events, until resume", command_sub_pause, {{0}}},
        {"sub", "resume", "STREAM GROUP", "undo a pause", command_sub_resume, {{0}}},
        {"sub", "seek", "STREAM GROUP N", "go on from a revision (of $all: position), start or end", command_sub_seek, {
                {"dry-run", NULL, "say what would go, do nothing"},
                {"yes", NULL, "do not ask"}}},
        {"sub", "parked", "STREAM GROUP", "parked events, with the reasons", command_sub_parked, {
                {"from", "N", "begin with this number"},
                {"limit", "N", "at most N"}}},
        {"sub", "replay", "STREAM GROUP", "deliver parked events again", command_sub_replay, {
                {"only", "N", "only the one with this number"},
                {"stop-at", "N", "those below this number"}}},
        {"sub", "read", "STREAM GROUP", "consume: show events and acknowledge them", command_sub_read, {
                {"limit", "N", "end after N events"},
                {"window", "N", "events on their way at one time (default 100)"},
                {"nack", "ACTION", "refuse them instead: retry, park, skip or stop"},
                {"reason", "TEXT", "why, with --nack"}}},
        {"cluster", "status", "", "members, leader, lag, links, and how many may fail", command_cluster_status, {
                {"watch", NULL, "again every second"}}},
        {"cluster", "init", "", "make a cluster of this node, that others can join", command_cluster_init, {
                {"address", "IP:PORT", "where it listens for other nodes (default 127.0.0.1:2112)"},
                {"advertise", "HOST:PORT", "where other nodes reach it (default: the address)"},
                {"insecure", NULL, "no TLS between nodes: everybody on the network can read and write"},
                {"voters", "3", "become three voters by itself, once two stand-bys have everything"},
                FLAGS_OF_CHANGES}},
        {"cluster", "token", "", "make a token to join with", command_cluster_token, {
                {"uses", "N", "nodes that it lets in (default 1)"},
                {"expires", "TIME", "90s, 15m, 2h (default 1h)"}}},
        {"cluster", "tokens", "", "list tokens, without their secrets", command_cluster_tokens, {{0}}},
        {"cluster", "revoke", "ID", "a token lets nobody in any more", command_cluster_revoke, {{0}}},
        {"cluster", "join", "HOST:PORT", "start a server on an empty directory that joins: --token TOKEN --data DIRECTORY, and its other flags",
                command_cluster_join, {{0}}},
        {"cluster", "add", "NODE [HOST:PORT]", "add a node that was one of this cluster, or give a member another address", command_cluster_change, {
                FLAGS_OF_CHANGES}},
        {"cluster", "promote", "NODE", "make a stand-by a voter, once it has caught up", command_cluster_change, {FLAGS_OF_CHANGES}},
        {"cluster", "demote", "NODE", "make a voter a stand-by", command_cluster_change, {FLAGS_OF_CHANGES}},
        {"cluster", "remove", "NODE", "remove a node", command_cluster_remove, {
                {"yes", NULL, "do not ask"}, FLAGS_OF_CHANGES}},
        {"cluster", "grow", "[NODE NODE [NODE NODE]]", "make one voter three (or five) with its stand-bys, in one step", command_cluster_grow, {
                {"voters", "N", "3 (default) or 5, with whichever stand-bys have caught up"},
                FLAGS_OF_CHANGES}},
        {"cluster", "transfer", "NODE", "hand leadership to a voter", command_cluster_change, {FLAGS_OF_CHANGES}},
        {"cluster", "leave", "", "remove the node at --url", command_cluster_leave, {
                {"yes", NULL, "do not ask"}, FLAGS_OF_CHANGES}},
        {"cluster", "replace", "OLD NEW", "put a node in the place of another", command_cluster_replace, {
                {"yes", NULL, "do not ask"}, FLAGS_OF_CHANGES}},
        {"cluster", "finalize", "", "raise the cluster version after an upgrade of every node: no way back to the old release",
                command_cluster_finalize, {FLAGS_OF_CHANGES}},
        {"cluster", "demo", "", "run three nodes on this machine, until Ctrl-C", command_cluster_demo, {
                {"data", "DIRECTORY", "theirs; begun again on it, they go on (default: a temporary one)"},
                {"port", "N", "of the first (default 2113); N + 100 and N + 200 of the others, and one below each for nodes"}}},
        {"context", "ls", "", "list the servers that have names", command_context_ls, {{0}}},
        {"context", "add", "NAME URL", "give a server a name; --login, --ca-file, --cert-file and --key-file are kept with it",
                command_context_add, {
                {"save-password", NULL, "keep the password too: NILO_PASSWORD, or asked for"},
                {"save-token", NULL, "keep the token in NILO_TOKEN too"},
                {"use", NULL, "use it from now on, as the first one that is added"},
                {"replace", NULL, "in the place of one that has this name"}}},
        {"context", "use", "NAME", "from now on, commands speak to this server", command_context_use, {{0}}},
        {"context", "rm", "NAME", "forget a server", command_context_rm, {{0}}},
        {"context", "show", "[NAME]", "one of them; the one in use", command_context_show, {{0}}},
        {"config", "check", "[FILE]", "what a start with this file (NILO_CONFIG) would use, with all problems; takes a start's flags too",
                command_config_check, {{0}}},
        {"config", NULL, "[NAME]", "the values a running server uses, and where each is from", command_config, {
                {"changed", NULL, "only those that are not the default"}}},
        {"completion", "bash", "", "a script that completes commands, for bash: source <(nilo completion bash)", command_completion, {{0}}},
        {"completion", "zsh", "", "the same for zsh: nilo completion zsh > _nilo, in a directory of $fpath", command_completion, {{0}}},
        {"completion", "fish", "", "the same for fish: nilo completion fish | source", command_completion, {{0}}},
        {"completion", "names", "KIND [PREFIX]", "what these scripts ask for: streams, groups, users, contexts or subsystems, within a second",
                command_completion_names, {{0}}},
        {"doctor", NULL, "[DIRECTORY]", "what may be wrong around a server: disk, clock, limits, memory, certificates, cluster; with one that runs or without",
                command_doctor, {{0}}},
        {"user", "ls", "", "list users", command_user_ls, {{0}}},
        {"user", "show", "LOGIN", "one user", command_user_show, {{0}}},
        {"user", "whoami", "", "who you are to the server", command_user_whoami, {{0}}},
        {"user", "add", "LOGIN", "make a user; the password is asked for, or NILO_NEW_PASSWORD", command_user_add, {
                FLAGS_OF_USERS}},
        {"user", "set", "LOGIN", "change a user; what is not named stays", command_user_set, {FLAGS_OF_USERS}},
        {"user", "passwd", "[LOGIN]", "change your password, or as an administrator another's", command_user_passwd, {{0}}},
        {"user", "disable", "LOGIN", "let a user log in no more, and end what they have open", command_user_switch, {{0}}},
        {"user", "enable", "LOGIN", "undo that", command_user_switch, {{0}}},
        {"user", "rm", "LOGIN", "remove a user", command_user_rm, {
                {"dry-run", NULL, "say who would go, do nothing"},
                {"yes", NULL, "do not ask"}}},
        {"user", "token", "", "make a token for programs, in the place of name and password", command_user_token, {
                {"seconds", "N", "how long it is valid (default 3600)"}}},
        {"fact", "watch", "", "what the server does, live", command_fact_watch, {
                {"category", "NAME", "system, cluster, leadership, persistence, gateway, coordination, subscriptions"},
                {"level", "NAME", "error, warning, info, debug or trace (default)"},
                {"from-oldest", NULL, "begin with what the server still remembers"},
                {"limit", "N", "end after N facts"}}},
        {"top", NULL, "", "a server, or all nodes of its cluster, live", command_top, {
                {"interval", "SECONDS", "between two samples (default 1)"},
                {"once", NULL, "one sample, no live screen"},
                {"limit", "N", "end after N samples, no live screen"}}},
        {"bench", "append", "", "measure appends, into streams of its own", command_bench_append, {
                {"writers", "N", "clients (default 8)"},
                {"batch", "N", "events of one append (default 1)"},
                {"streams", "N", "to write into (default: as many as writers)"},
                FLAGS_OF_BENCH}},
        {"bench", "read", "", "measure reads, of streams that it writes before", command_bench_read, {
                {"readers", "N", "clients (default 8)"},
                {"batch", "N", "events of one read (default 100)"},
                {"streams", "N", "to read from (default 10)"},
                {"events", "N", "in all of them (default 10000)"},
                FLAGS_OF_BENCH}},
        {"bench", "follow", "", "measure the time from an append to its followers", command_bench_follow, {
                {"followers", "N", "that follow everything that is written (default 4)"},
                {"writers", "N", "clients (default 8)"},
                {"batch", "N", "events of one append (default 1)"},
                {"streams", "N", "to write into (default: as many as writers)"},
                FLAGS_OF_BENCH}},
        {"log", "level", "[SUBSYSTEM [LEVEL]]", "show or change what the loggers show", command_log_level, {{0}}},
        {"import", NULL, "[FILE]", "append events from NDJSON, or standard input; run again, it goes on", command_import, {
                {"batch", "N", "events of one append at most (default 2000)"},
                {"name", "NAME", "remember the progress under this name"}}},
        {"export", NULL, "", "write events as NDJSON", command_export, {
                {"stream", "STREAM", "only this stream"},
                {"output", "FILE", "to a file; run again, it goes on where the file ends"},
                {"from", "N", "first position (with --stream: revision)"},
                {"limit", "N", "at most N events"},
                {"system", NULL, "system streams too (their names begin with $)"}}},
        {"verify", NULL, "[DIRECTORY]", "check every byte of a data directory (./nilo-data) that no server uses",
                command_verify, {{0}}},
};
/* clang-format on */

/* ---- help ---- */

const struct cli_command *cli_commands(size_t *ret_count)
{
        *ret_count = COUNT_OF(commands);
        return commands;
}

void cli_usage(const struct cli_command *c, char ret[CLI_USAGE_SIZE])
{
        snprintf(ret, CLI_USAGE_SIZE, "nilo %s%s%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "",
                *c->arguments ? " " : "", c->arguments);
}

static void print_usage_of(const struct cli_command *c)
{
        char usage[CLI_USAGE_SIZE];

        cli_usage(c, usage);
        printf("%s\n  %s\n", usage, c->text);
        cli_print_flags(c->flags, CLI_FLAGS_MAX);
        cli_print_common_flags();
}

static void print_overview(void)
{
        printf("nilo %s, an event store.\n\n", NILO_VERSION);
        printf("  %-44s %s\n", "nilo [FLAGS]", "start a server (nilo serve --help: its flags)");
        for (size_t i = 0; i < COUNT_OF(commands); i++) {
                char usage[CLI_USAGE_SIZE];

                cli_usage(&commands[i], usage);
                printf("  %-44s %s\n", usage, commands[i].text);
        }
        printf("  %-44s %s\n", "nilo version", "the version of this program");
        printf("\nnilo help NOUN VERB lists the flags of a command, nilo help --man is the man page. Every "
               "command takes:\n");
        cli_print_common_flags();
}

static int print_help(const char *noun, const char *verb)
{
        bool is_known = !noun;

        if (!noun)
                print_overview();
        for (size_t i = 0; noun && i < COUNT_OF(commands); i++) {
                const struct cli_command *c = &commands[i];

                if (strcmp(c->noun, noun) != 0 || (verb && c->verb && strcmp(c->verb, verb) != 0))
                        continue;
                if (is_known)
                        putchar('\n');
                print_usage_of(c);
                is_known = true;
        }
        return is_known ? CLI_OK
                        : cli_problem(CLI_USAGE, "no command \"%s%s%s\"; `nilo help` lists them all", noun,
                                  verb ? " " : "", verb ? verb : "");
}

static int print_manual(void)
{
        struct buffer out = {0};

        manual_write(&out);
        fwrite(out.data, 1, out.size, stdout);
        buffer_fini(&out);
        return CLI_OK;
}

/* ---- finding the command ---- */

static const struct cli_command *find(const char *noun, const char *verb)
{
        for (size_t i = 0; i < COUNT_OF(commands); i++)
                if (strcmp(commands[i].noun, noun) == 0 &&
                        (!commands[i].verb || (verb && strcmp(commands[i].verb, verb) == 0)))
                        return &commands[i];
        return NULL;
}

static int unknown(const char *noun, const char *verb)
{
        const char *names[COUNT_OF(commands)];
        size_t count = 0;

        for (size_t i = 0; i < COUNT_OF(commands); i++)
                if (strcmp(commands[i].noun, noun) == 0)
                        names[count++] = commands[i].verb;
        if (count && !verb)
                return cli_problem(CLI_USAGE, "%s needs a verb; `nilo help %s` lists them", noun, noun);
        if (count)
                return cli_problem(CLI_USAGE,
                        "no command \"%s %s\"; nearest is \"%s %s\". `nilo help %s` lists them", noun, verb,
                        noun, cli_nearest(verb, names, count), noun);
        for (size_t i = 0; i < COUNT_OF(commands); i++)
                names[i] = commands[i].noun;
        return cli_problem(CLI_USAGE, "no command \"%s\"; nearest is \"%s\". `nilo help` lists them all",
                noun, cli_nearest(noun, names, COUNT_OF(commands)));
}

static bool is_help(const char *word)
{
        return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run(int argc, char **argv)
{
        struct cli_line line = {0};
        const char *no_color = getenv("NO_COLOR");
        const char *noun = argc > 1 ? argv[1] : "help";
        const char *verb = argc > 2 ? argv[2] : NULL;
        int code;

        if (is_help(noun) && verb && strcmp(verb, "--man") == 0)
                return print_manual();
        if (is_help(noun))
                return print_help(verb, argc > 3 ? argv[3] : NULL);
        if (strcmp(noun, "--version") == 0 || strcmp(noun, "version") == 0) {
                bool is_json = verb && strcmp(verb, "--json") == 0;

                printf(is_json ? "{\"version\":\"%s\"}\n" : "nilo %s\n", NILO_VERSION);
                return CLI_OK;
        }
        line.command = find(noun, verb);
        if (!line.command && verb && is_help(verb))
                return print_help(noun, NULL);
        if (!line.command)
                return unknown(noun, verb);
        code = cli_parse(&line, argc, argv, line.command->verb ? 3 : 2);
        if (code)
                return code;
        if (line.wants_help) {
                print_usage_of(line.command);
                return CLI_OK;
        }
        line.is_terminal = isatty(STDOUT_FILENO);
        line.is_json |= !line.is_terminal;
        line.has_color = line.is_terminal && !(no_color && *no_color);
        return line.command->run(&line);
}

int cli_main(int argc, char **argv)
{
        static char output[OUTPUT_SIZE];
        int code;

        /* A pipe that is closed early is no fault: `nilo stream read | head`. */
        signal(SIGPIPE, SIG_IGN);
        setvbuf(stdout, output, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof output);
        cli_hide_words(argc, argv);
        code = run(argc, argv);
        if (!cli_flush() && !code)
                code = cli_is_reader_gone()
                               ? CLI_OK
                               : cli_problem(CLI_UNEXPECTED, "standard output cannot be written");
        return code;
}
