/* Checks a data directory at rest, through libnilo. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "cli/command.h"

struct verifying {
        const struct cli_line *line;
        struct progress progress;
        struct table table;
        uint64_t findings;
        uint64_t size;
};

static void on_finding(void *arg, const char *file, uint64_t offset, const char *what)
{
        struct verifying *v = arg;

        v->findings++;
        if (v->line->is_json) {
                struct buffer out = {0};
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_field_string(&j, "file", file);
                json_field_u64(&j, "offset", offset);
                json_field_string(&j, "problem", what);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
                buffer_fini(&out);
        } else {
                char number[CLI_SIZE_TEXT];

                snprintf(number, sizeof number, "%llu", (unsigned long long)offset);
                table_cell(&v->table, file);
                table_cell(&v->table, number);
                table_cell(&v->table, what);
        }
}

static void on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
        struct verifying *v = arg;

        v->size = total_bytes;
        v->progress.total = total_bytes;
        progress_at(&v->progress, done_bytes, done_bytes >> 20);
}

static void summarize(const struct verifying *v, const char *directory)
{
        char size[CLI_SIZE_TEXT];

        cli_format_size(v->size, size);
        if (v->line->is_json) {
                struct buffer out = {0};
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_field_string(&j, "directory", directory);
                json_field_u64(&j, "bytes", v->size);
                json_field_u64(&j, "findings", v->findings);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
                buffer_fini(&out);
        } else if (!v->findings) {
                printf("%s: %s checked, nothing is damaged\n", directory, size);
        }
}

int command_verify(const struct cli_line *line)
{
        static const char *const columns[] = {"FILE", "OFFSET", "PROBLEM"};
        const char *environment = getenv("NILO_DATA");
        const char *directory = line->argument_count          ? line->arguments[0]
                                : environment && *environment ? environment
                                                              : "./nilo-data";
        struct verifying v = {.line = line};
        enum nilo_result result;

        table_begin(&v.table, line, columns, COUNT_OF(columns));
        progress_begin(&v.progress, line, "verify", "MiB", 0);
        result = nilo_verify(directory, on_finding, on_progress, &v);
        progress_end(&v.progress);
        if (v.findings && !line->is_json)
                table_flush(&v.table);
        buffer_fini(&v.table.cells);
        switch (result) {
        case NILO_OK:
                summarize(&v, directory);
                return CLI_OK;
        case NILO_CORRUPT:
                summarize(&v, directory);
                return cli_problem(CLI_CORRUPT,
                        "%s\n      Keep the directory as it is, and restore a copy or a backup beside it.",
                        nilo_problem());
        case NILO_IN_USE:
                return cli_problem(CLI_UNAVAILABLE,
                        "%s\n      Stop the server first: only data at rest can be checked.", nilo_problem());
        case NILO_NOT_FOUND:
                return cli_problem(CLI_NOT_FOUND, "%s\n      Name the directory: nilo verify DIRECTORY.",
                        nilo_problem());
        default:
                return cli_problem(cli_exit_of(result), "%s", nilo_problem());
        }
}
