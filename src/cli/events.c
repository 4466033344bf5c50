/* Events and other objects as people see them: a table on a terminal, the server's own lines of JSON in a
 * pipe. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cli/command.h"

enum { TIME_SHOWN = sizeof "2026-11-24T10:00:00.123" - 1 };

char *cli_path(const char *before, const char *name, const char *after)
{
        char *escaped = nilo_client_escape(name);
        struct buffer path = {0};

        buffer_format(&path, "%s%s%s", before, escaped, after);
        buffer_add_u8(&path, 0);
        free(escaped);
        return (char *)path.data;
}

/* ---- events ---- */

void event_printer_begin(struct event_printer *p, const struct cli_line *line, bool is_all)
{
        static const char *const of_stream[] = {"REVISION", "TYPE", "TIME", "DATA"};
        static const char *const of_all[] = {"POSITION", "STREAM", "REVISION", "TYPE", "TIME", "DATA"};

        *p = (struct event_printer){.line = line, .is_all = is_all};
        if (is_all)
                table_begin(&p->table, line, of_all, COUNT_OF(of_all));
        else
                table_begin(&p->table, line, of_stream, COUNT_OF(of_stream));
}

/* A field as it is written; strings without their quotes and escapes. */
static void cell_of(struct table *t, const char *json, size_t size, const char *name)
{
        char *text = nilo_json_string(json, size, name);
        const char *value;
        size_t value_size;

        if (text)
                table_cell(t, text);
        else if (nilo_json_field(json, size, name, &value, &value_size))
                table_cell_bytes(t, value, value_size);
        else
                table_cell(t, "");
        free(text);
}

static void cell_of_time(struct table *t, const char *json, size_t size)
{
        char *time = nilo_json_string(json, size, "time");

        if (time && strlen(time) > TIME_SHOWN) {
                time[10] = ' ';
                time[TIME_SHOWN] = 0;
        }
        table_cell(t, time ? time : "");
        free(time);
}

static void cell_of_data(struct table *t, const char *json, size_t size)
{
        const char *value;
        size_t value_size;

        if (nilo_json_field(json, size, "data", &value, &value_size)) {
                table_cell_bytes(t, value, value_size);
        } else if (nilo_json_field(json, size, "data_base64", &value, &value_size)) {
                char text[CLI_SIZE_TEXT];
                char cell[CLI_SIZE_TEXT + 16];

                cli_format_size(value_size / 4 * 3, text);
                snprintf(cell, sizeof cell, "(binary, %s)", text);
                table_cell(t, cell);
        } else {
                table_cell(t, "");
        }
}

bool event_printer_show(void *arg, const char *json, size_t size)
{
        struct event_printer *p = arg;
        uint64_t number;

        if (nilo_json_number(json, size, p->is_all ? "position" : "revision", &number))
                p->next = number + 1;
        p->count++;
        if (p->line->is_json)
                return cli_print_line(json, size) && p->count != p->limit;
        if (p->is_all) {
                cell_of(&p->table, json, size, "position");
                cell_of(&p->table, json, size, "stream");
        }
        cell_of(&p->table, json, size, "revision");
        cell_of(&p->table, json, size, "type");
        cell_of_time(&p->table, json, size);
        cell_of_data(&p->table, json, size);
        return p->count != p->limit;
}

bool event_printer_flush(void *arg)
{
        struct event_printer *p = arg;

        if (!p->line->is_json && p->table.cell_count)
                table_flush(&p->table);
        return cli_flush() && !cli_is_reader_gone();
}

void event_printer_end(struct event_printer *p)
{
        if (!p->line->is_json && (p->count || p->table.has_widths))
                table_flush(&p->table);
        buffer_fini(&p->table.cells);
}

/* ---- any objects ---- */

void object_printer_begin(struct object_printer *p, const struct cli_line *line)
{
        *p = (struct object_printer){.line = line};
}

static char *title_of(const char *name)
{
        char *title = memory_copy_string(name);

        for (char *at = title; *at; at++)
                *at = *at == '_' ? ' ' : (char)toupper((unsigned char)*at);
        return title;
}

/* The columns are the fields of the first object. */
static void find_columns(struct object_printer *p, const char *text, size_t size)
{
        json_t *object = json_loadb(text, size, 0, NULL);
        unsigned count = 0;
        const char *name;
        json_t *value;

        json_object_foreach(object, name, value)
        {
                if (count == TABLE_COLUMNS_MAX)
                        break;
                p->names[count] = memory_copy_string(name);
                p->titles[count++] = title_of(name);
        }
        json_decref(object);
        if (count)
                table_begin(&p->table, p->line, (const char *const *)p->titles, count);
}

bool object_printer_show(void *arg, const char *json, size_t size)
{
        struct object_printer *p = arg;

        p->count++;
        if (p->line->is_json)
                return cli_print_line(json, size) && p->count != p->limit;
        if (!p->table.column_count)
                find_columns(p, json, size);
        for (unsigned i = 0; i < p->table.column_count; i++)
                cell_of(&p->table, json, size, p->names[i]);
        return p->count != p->limit;
}

void object_printer_end(struct object_printer *p)
{
        if (p->table.column_count)
                table_end(&p->table);
        for (unsigned i = 0; i < TABLE_COLUMNS_MAX; i++) {
                free(p->names[i]);
                free(p->titles[i]);
        }
}

void cli_show_object(const struct cli_line *line, char *json)
{
        static const char *const columns[] = {"FIELD", "VALUE"};
        size_t size = strlen(json);
        struct table table;
        json_t *object;
        const char *name;
        json_t *value;

        /* Line ends stand between tokens only, where a space means the same. */
        while (size && (json[size - 1] == '\n' || json[size - 1] == '\r'))
                json[--size] = 0;
        for (char *at = json; *at; at++)
                if (*at == '\n' || *at == '\r')
                        *at = ' ';
        if (line->is_json) {
                cli_print_line(json, size);
                return;
        }
        object = json_loads(json, 0, NULL);
        table_begin(&table, line, columns, COUNT_OF(columns));
        json_object_foreach(object, name, value)
        {
                table_cell(&table, name);
                cell_of(&table, json, size, name);
        }
        table_end(&table);
        json_decref(object);
}
