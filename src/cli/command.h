/* What the commands share: the table of verbs, the parsed command line, and how to speak to people and to pipes. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/bytes.h"
#include "nilo/client.h"

enum cli_exit {
        CLI_OK = 0,
        CLI_UNEXPECTED = 1,
        CLI_USAGE = 2,
        CLI_CONFLICT = 3,
        CLI_NOT_FOUND = 4,
        CLI_DENIED = 5,
        CLI_UNAVAILABLE = 6,
        CLI_CORRUPT = 7,
};

enum { CLI_ARGUMENTS_MAX = 4, CLI_FLAGS_MAX = 16 };

/* One flag of a command. */
struct cli_flag {
        const char *name;  /* "expect" for --expect */
        const char *value; /* what it takes, for the help: "REVISION"; NULL: it is a switch */
        const char *text;
};

struct cli_command;

/* A command line that fits its command. The empty value is one to parse into. */
struct cli_line {
        const struct cli_command *command;
        const char *arguments[CLI_ARGUMENTS_MAX];
        unsigned argument_count;
        const char *values[CLI_FLAGS_MAX]; /* by the flag's place in the command's list; "" for a switch that is on */
        const char *url; /* flags that every command takes; NULL: not given */
        const char *context;
        const char *login;
        const char *ca_file;
        const char *cert_file;
        const char *key_file;
        bool is_json;  /* NDJSON, not tables: asked for, or standard output is no terminal */
        bool is_quiet;
        bool is_terminal;
        bool has_color;
        bool wants_help;
};

struct cli_command {
        const char *noun;
        const char *verb;       /* NULL: the noun is the command */
        const char *arguments;  /* "STREAM [DATA]": capitals are names, brackets mean that it may be left out */
        const char *text;
        int (*run)(const struct cli_line *line);
        struct cli_flag flags[CLI_FLAGS_MAX]; /* ends at the first without a name */
};

/* The commands, by file. */
int command_stream_ls(const struct cli_line *line);
int command_stream_show(const struct cli_line *line);
int command_stream_read(const struct cli_line *line);
int command_stream_append(const struct cli_line *line);
int command_stream_tail(const struct cli_line *line);
int command_stream_truncate(const struct cli_line *line);
int command_stream_delete(const struct cli_line *line);
int command_event_show(const struct cli_line *line);
int command_event_find(const struct cli_line *line);
int command_event_trace(const struct cli_line *line);
int command_sub_ls(const struct cli_line *line);
int command_sub_show(const struct cli_line *line);
int command_sub_create(const struct cli_line *line);
int command_sub_update(const struct cli_line *line);
int command_sub_delete(const struct cli_line *line);
int command_sub_lag(const struct cli_line *line);
int command_sub_pause(const struct cli_line *line);
int command_sub_resume(const struct cli_line *line);
int command_sub_seek(const struct cli_line *line);
int command_sub_parked(const struct cli_line *line);
int command_sub_replay(const struct cli_line *line);
int command_sub_read(const struct cli_line *line);
int command_cluster_status(const struct cli_line *line);
int command_cluster_init(const struct cli_line *line);
int command_cluster_token(const struct cli_line *line);
int command_cluster_tokens(const struct cli_line *line);
int command_cluster_revoke(const struct cli_line *line);
int command_cluster_join(const struct cli_line *line);
int command_cluster_change(const struct cli_line *line);
int command_cluster_remove(const struct cli_line *line);
int command_cluster_leave(const struct cli_line *line);
int command_cluster_demo(const struct cli_line *line);
int command_cluster_grow(const struct cli_line *line);
int command_cluster_replace(const struct cli_line *line);
int command_cluster_finalize(const struct cli_line *line);
int command_fact_watch(const struct cli_line *line);
int command_log_level(const struct cli_line *line);
int command_top(const struct cli_line *line);
int command_bench_append(const struct cli_line *line);
int command_bench_read(const struct cli_line *line);
int command_bench_follow(const struct cli_line *line);
int command_import(const struct cli_line *line);
int command_export(const struct cli_line *line);
int command_verify(const struct cli_line *line);
int command_context_ls(const struct cli_line *line);
int command_context_add(const struct cli_line *line);
int command_context_use(const struct cli_line *line);
int command_context_rm(const struct cli_line *line);
int command_context_show(const struct cli_line *line);
int command_doctor(const struct cli_line *line);
int command_completion(const struct cli_line *line);
int command_completion_names(const struct cli_line *line);
int command_config(const struct cli_line *line);
int command_config_check(const struct cli_line *line);
int command_user_ls(const struct cli_line *line);
int command_user_show(const struct cli_line *line);
int command_user_whoami(const struct cli_line *line);
int command_user_add(const struct cli_line *line);
int command_user_set(const struct cli_line *line);
int command_user_passwd(const struct cli_line *line);
int command_user_switch(const struct cli_line *line);
int command_user_rm(const struct cli_line *line);
int command_user_token(const struct cli_line *line);

/* ---- the table (cli.c) ---- */

enum { CLI_USAGE_SIZE = 128 };
const struct cli_command *cli_commands(size_t *ret_count);
void cli_usage(const struct cli_command *c, char ret[CLI_USAGE_SIZE]); /* "nilo stream ls [PREFIX]" */

/* ---- the line (line.c) ---- */

const struct cli_flag *cli_common_flags(size_t *ret_count); /* of every command */

/* Reads the words behind noun and verb. CLI_OK, or CLI_USAGE after a message. line->command must be set. */
MUST_CHECK int cli_parse(struct cli_line *line, int argc, char **argv, int from);
/* The name in `names` that is nearest to `word`. */
const char *cli_nearest(const char *word, const char *const *names, size_t count);
void cli_print_flags(const struct cli_flag *flags, size_t count);
void cli_print_common_flags(void);

/* The value of a flag; NULL if it was not given. The name must be one of the command's. */
const char *cli_value(const struct cli_line *line, const char *flag);
static inline bool cli_has(const struct cli_line *line, const char *flag)
{
        return cli_value(line, flag) != NULL;
}
/* A number of a flag or argument; false and a message if it is none. */
MUST_CHECK bool cli_number(const char *what, const char *text, uint64_t *ret);
/* The number of a flag, or `otherwise` if it was not given. */
MUST_CHECK bool cli_number_of(const struct cli_line *line, const char *flag, uint64_t otherwise, uint64_t *ret);
/* "any", "none", "exists" or a revision. */
MUST_CHECK bool cli_expected(const char *text, int64_t *ret);

/* ---- output (output.c) ---- */

int cli_problem(int exit_code, const char *format, ...) PRINTF_LIKE(2, 3); /* "nilo: …" on standard error; gives exit_code */
/* What the client's last call failed with, with the next step; gives the exit code. */
int cli_failed(struct nilo_client *client, enum nilo_result result);
int cli_exit_of(enum nilo_result result);
int cli_exit_of_errno(int error); /* of a file */

/* ---- the server (connect.c) ---- */

/* Opens the client of the server that flags, environment and context name; NULL and a message if they make no sense. */
struct nilo_client *cli_client(const struct cli_line *line);
/* The same for calls that take at most `timeout_ms` (0: as long as bytes come), which asks for no password if it must not. */
struct nilo_client *cli_client_within(const struct cli_line *line, uint32_t timeout_ms, bool may_ask);
/* A password from the environment variable `name`, else typed unseen. Gives it from malloc. CLI_OK, or CLI_USAGE after a
 * message. */
MUST_CHECK int cli_password(const char *whose, const char *name, char **ret);
/* The password that the user logs in with, asked for once. */
MUST_CHECK int cli_own_password(const char *user, char **ret);
void cli_forget(char **secret); /* overwrites, frees and empties; NULL is fine */
/* A URL as it may be shown: "https://ada:***@host". From malloc. */
char *cli_hide_password(const char *url);
/* Replaces words with a password by copies, and hides the password in the originals: `ps` shows those. */
void cli_hide_words(int argc, char **argv);


/* A table on the terminal. Rows are gathered, so that columns fit, and shown by table_flush or when there are many; the
 * widths of the first ones stay. The last column is cut to the width of the terminal. */
enum { TABLE_COLUMNS_MAX = 16 };
struct table {
        const char *const *columns;
        unsigned column_count;
        unsigned cell_count;
        struct buffer cells; /* NUL-terminated, row by row */
        unsigned widths[TABLE_COLUMNS_MAX];
        bool has_widths;
        bool has_color;
};
void table_begin(struct table *t, const struct cli_line *line, const char *const *columns, unsigned count);
void table_cell(struct table *t, const char *text);
void table_cell_bytes(struct table *t, const char *text, size_t size);
void table_flush(struct table *t);
void table_end(struct table *t); /* shows and frees; without a row too, so that an empty answer looks like one */

/* Text in the lines that the terminal has room for, with each line but the first moved in by `indent`. */
void cli_print_wrapped(const char *text, unsigned indent);

/* A line of NDJSON to standard output. False when nobody reads any more. */
bool cli_print_line(const char *line, size_t size);
bool cli_flush(void);
bool cli_is_reader_gone(void); /* a pipe that is closed at its other end */

/* Progress on standard error, if that is a terminal and the work takes over a second. */
struct progress {
        const char *what;
        const char *unit;    /* of `count` */
        uint64_t total;      /* of `done`; 0: unknown */
        uint64_t started_us;
        uint64_t shown_us;
        unsigned width;      /* of the line; 0: any */
        bool is_on;
        bool is_shown;
};
void progress_begin(struct progress *p, const struct cli_line *line, const char *what, const char *unit, uint64_t total);
/* `done` of `total` for the bar, and how many `unit` that were. */
void progress_at(struct progress *p, uint64_t done, uint64_t count);
void progress_end(struct progress *p);
/* What a progress line says. */
void progress_format(const struct progress *p, uint64_t done, uint64_t count, double seconds, struct buffer *out);

/* A remark on standard error, unless -q. */
void cli_remark(const struct cli_line *line, const char *format, ...) PRINTF_LIKE(2, 3);

enum { CLI_SIZE_TEXT = 32 };
void cli_format_size(uint64_t size, char ret[CLI_SIZE_TEXT]);         /* "12.5 MiB" */
void cli_format_count(uint64_t count, char ret[CLI_SIZE_TEXT]);       /* "1 234 567" */
void cli_format_seconds(double seconds, char ret[CLI_SIZE_TEXT]);     /* "1 h 02 min" */

/* Asks to type `name` before something is destroyed; without a terminal --yes is needed. True: go on. */
bool cli_confirm(const struct cli_line *line, const char *name);

/* Ctrl-C and SIGTERM: `client`, if not NULL, ends its call; commands that run long look and end cleanly. A second one
 * ends the process. */
void cli_catch_interrupt(struct nilo_client *client);
bool cli_is_interrupted(void);

/* ---- events (events.c) ---- */

/* Shows events: as they come, or as rows. */
struct event_printer {
        const struct cli_line *line;
        struct table table;
        bool is_all;           /* of many streams */
        uint64_t next;         /* revision or position behind the last one that was shown, forward */
        uint64_t count;
        uint64_t limit;        /* 0: none */
};
void event_printer_begin(struct event_printer *p, const struct cli_line *line, bool is_all);
bool event_printer_show(void *arg, const char *json, size_t size); /* for nilo_client_read; false: enough */
bool event_printer_flush(void *arg);                               /* for nilo_client_on_idle */
void event_printer_end(struct event_printer *p);

/* Shows any objects as a table, the fields of the first one as columns. */
struct object_printer {
        const struct cli_line *line;
        struct table table;
        char *names[TABLE_COLUMNS_MAX];
        char *titles[TABLE_COLUMNS_MAX];
        uint64_t count;
        uint64_t limit;
};
void object_printer_begin(struct object_printer *p, const struct cli_line *line);
bool object_printer_show(void *arg, const char *json, size_t size);
void object_printer_end(struct object_printer *p);
/* One object: a line of JSON (it is made one), or a field on each line. */
void cli_show_object(const struct cli_line *line, char *json);

/* "/v1/streams/" + name, escaped + "/rest"; from malloc. */
char *cli_path(const char *before, const char *name, const char *after);

#endif
