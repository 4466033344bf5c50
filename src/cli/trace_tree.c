/* The tree of causes and effects. An effect stands behind its cause in the log: a cause that stands behind it
 * is none, which also keeps the tree a tree whatever the metadata says. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/json_out.h"
#include "base/memory.h"
#include "cli/scan.h"
#include "cli/trace.h"

enum {
        AFTER_WIDTH = 11,
        POSITION_WIDTH = 10,
        EVENT_WIDTH_MIN = 24,
        LEVELS_SHOWN_MAX = 10, /* of one that is deeper the nearest, if the terminal is wide enough */
        LEVEL_WIDTH = 3,
        LEVELS_ROOM = 40, /* that is not theirs */
        TREE_SIZE = 256,
};

void trace_init(struct trace *t, unsigned capacity)
{
        assert(capacity <= TRACE_EVENTS_MAX);
        *t = (struct trace){.capacity = capacity, .slot_count = 4 * capacity + 1};
        t->events = memory_new_array(capacity ? capacity : 1, sizeof *t->events);
        t->slots = memory_new_array(t->slot_count, sizeof *t->slots);
        for (unsigned i = 0; i < t->slot_count; i++)
                t->slots[i] = TRACE_NONE;
}

void trace_fini(struct trace *t)
{
        for (unsigned i = 0; i < t->count; i++) {
                free(t->events[i].stream);
                free(t->events[i].type);
                free(t->events[i].json);
        }
        free(t->events);
        free(t->slots);
        *t = (struct trace){0};
}

/* ---- events ---- */

static void copy_text(const char *json, size_t size, const char *name, char ret[TRACE_ID_SIZE])
{
        char *text = nilo_json_string(json, size, name);

        if (text && !*ret)
                snprintf(ret, TRACE_ID_SIZE, "%s", text);
        free(text);
}

bool trace_read(const char *json, size_t size, struct trace_event *ret)
{
        static const char *const correlations[] = {"$correlationId", "correlation_id", "correlationId"};
        static const char *const causes[] = {"$causationId", "causation_id", "causationId"};
        const char *metadata;
        size_t metadata_size;

        *ret = (struct trace_event){.parent = TRACE_NONE,
                .first_child = TRACE_NONE,
                .last_child = TRACE_NONE,
                .next_sibling = TRACE_NONE};
        copy_text(json, size, "id", ret->id);
        if (!*ret->id || !nilo_json_number(json, size, "position", &ret->position) ||
                !nilo_json_number(json, size, "revision", &ret->revision))
                return false;
        scan_time(json, size, &ret->time_us);
        if (nilo_json_field(json, size, "metadata", &metadata, &metadata_size) && *metadata == '{') {
                for (size_t i = 0; i < COUNT_OF(correlations); i++)
                        copy_text(metadata, metadata_size, correlations[i], ret->correlation);
                for (size_t i = 0; i < COUNT_OF(causes); i++)
                        copy_text(metadata, metadata_size, causes[i], ret->cause);
        }
        return true;
}

static unsigned slot_of(const struct trace *t, const char *id)
{
        unsigned slot = crc32c(0, id, strlen(id)) % t->slot_count;

        while (t->slots[slot] != TRACE_NONE && strcmp(t->events[t->slots[slot]].id, id) != 0)
                slot = (slot + 1) % t->slot_count;
        return slot;
}

int trace_find(const struct trace *t, const char *id)
{
        return t->slots[slot_of(t, id)];
}

static char *text_of(const char *json, size_t size, const char *name)
{
        char *text = nilo_json_string(json, size, name);

        return text ? text : memory_copy_string("");
}

bool trace_add(struct trace *t, const struct trace_event *e, const char *json, size_t size)
{
        struct trace_event *to = &t->events[t->count];
        unsigned slot;

        if (t->count == t->capacity)
                return false;
        assert(!t->count || e->position > t->events[t->count - 1].position);
        *to = *e;
        to->stream = text_of(json, size, "stream");
        to->type = text_of(json, size, "type");
        to->json = bytes_to_string(bytes_of(json, size));
        slot = slot_of(t, e->id);
        /* The same id may stand in several streams; the first is the cause of what names it. */
        if (t->slots[slot] == TRACE_NONE)
                t->slots[slot] = (int)t->count;
        t->count++;
        return true;
}

/* ---- the tree ---- */

void trace_link(struct trace *t)
{
        for (int i = 0; i < (int)t->count; i++) {
                struct trace_event *e = &t->events[i];
                int cause = *e->cause ? trace_find(t, e->cause) : TRACE_NONE;
                struct trace_event *parent;

                if (cause == TRACE_NONE || cause >= i)
                        continue;
                parent = &t->events[cause];
                e->parent = cause;
                e->depth = parent->depth + 1;
                if (parent->first_child == TRACE_NONE)
                        parent->first_child = i;
                else
                        t->events[parent->last_child].next_sibling = i;
                parent->last_child = i;
        }
}

static int next_root(const struct trace *t, int at)
{
        for (int i = at + 1; i < (int)t->count; i++)
                if (t->events[i].parent == TRACE_NONE)
                        return i;
        return TRACE_NONE;
}

int trace_next(const struct trace *t, int at)
{
        if (at == TRACE_NONE)
                return next_root(t, at);
        if (t->events[at].first_child != TRACE_NONE)
                return t->events[at].first_child;
        for (; t->events[at].parent != TRACE_NONE; at = t->events[at].parent)
                if (t->events[at].next_sibling != TRACE_NONE)
                        return t->events[at].next_sibling;
        return next_root(t, at);
}

/* ---- showing ---- */

/* How many levels of lines there is room for, beside names and numbers. */
static unsigned levels_of(const struct frame *f)
{
        unsigned room = f->width - MIN(f->width, LEVELS_ROOM);

        return MAX(MIN(room / (LEVEL_WIDTH + 1), (unsigned)LEVELS_SHOWN_MAX), 1U);
}

/* The lines in front of an event, and their width. Of levels that are too deep the number is shown. */
static unsigned format_lines(const struct trace *t, int at, const struct frame *f, char ret[TREE_SIZE])
{
        unsigned levels_max = levels_of(f);
        bool has_utf8 = f->has_utf8;
        const char *const ends[] = {has_utf8 ? "├─ " : "|- ", has_utf8 ? "└─ " : "`- "};
        const char *const passes[] = {has_utf8 ? "│  " : "|  ", "   "};
        const struct trace_event *e = &t->events[at];
        const char *pieces[LEVELS_SHOWN_MAX];
        unsigned width = 0;
        unsigned count = 0;
        size_t size = 0;

        ret[0] = 0;
        for (; e->parent != TRACE_NONE && count < levels_max; e = &t->events[e->parent], count++)
                pieces[count] = (count ? passes : ends)[e->next_sibling == TRACE_NONE];
        if (e->depth) {
                width = (unsigned)snprintf(ret, TREE_SIZE, "%-3u", e->depth);
                size = width;
        }
        for (unsigned i = count; i-- > 0;)
                size += (size_t)snprintf(ret + size, TREE_SIZE - size, "%s", pieces[i]);
        return width + count * LEVEL_WIDTH;
}

static void format_after(uint64_t us, char ret[CLI_SIZE_TEXT])
{
        char text[CLI_SIZE_TEXT - 1];

        if (us < 10000) {
                snprintf(ret, CLI_SIZE_TEXT, "+%.1f ms", (double)us / 1000);
        } else if (us < 1000000) {
                snprintf(ret, CLI_SIZE_TEXT, "+%.0f ms", (double)us / 1000);
        } else if (us < 100000000) {
                snprintf(ret, CLI_SIZE_TEXT, "+%.3f s", (double)us / 1e6);
        } else {
                char whole[CLI_SIZE_TEXT];

                cli_format_seconds((double)us / 1e6, whole);
                snprintf(text, sizeof text, "%.*s", CLI_SIZE_TEXT - 2, whole);
                snprintf(ret, CLI_SIZE_TEXT, "+%.*s", CLI_SIZE_TEXT - 2, text);
        }
}

static uint64_t after_us(const struct trace *t, int at)
{
        return t->events[at].time_us - MIN(t->events[0].time_us, t->events[at].time_us);
}

static unsigned count_streams(const struct trace *t)
{
        unsigned count = 0;

        /* Each counts where it stands first; traces are small. */
        for (unsigned i = 0; i < t->count; i++) {
                unsigned before = 0;

                while (before < i && strcmp(t->events[before].stream, t->events[i].stream) != 0)
                        before++;
                count += before == i;
        }
        return count;
}

static void show_head(const struct trace *t, struct frame *f)
{
        char after[CLI_SIZE_TEXT];
        const char *correlation = "";
        unsigned streams = count_streams(t);

        for (unsigned i = 0; i < t->count && !*correlation; i++)
                correlation = t->events[i].correlation;
        format_after(after_us(t, (int)t->count - 1), after);
        frame_format(f, FRAME_STRONG, 0, "%u event%s of %u stream%s within %s", t->count,
                t->count == 1 ? "" : "s", streams, streams == 1 ? "" : "s", after + 1);
        frame_next_row(f);
        if (*correlation) {
                frame_format(f, FRAME_PLAIN, 0, "correlation %s", correlation);
                frame_next_row(f);
        }
        frame_next_row(f);
}

/* Columns: the last of them, the stream, gets what the others leave. */
static int event_width(const struct trace *t, const struct frame *f)
{
        unsigned needed = EVENT_WIDTH_MIN;
        unsigned streams = sizeof "STREAM@REVISION" - 1;
        unsigned room = f->width - MIN(f->width, AFTER_WIDTH + POSITION_WIDTH + 6U);

        for (unsigned i = 0; i < t->count; i++) {
                char tree[TREE_SIZE];
                unsigned lines = format_lines(t, (int)i, f, tree);
                char place[CLI_SIZE_TEXT];
                int digits = snprintf(place, sizeof place, "@%" PRIu64, t->events[i].revision);

                needed = MAX(needed, lines + (unsigned)strlen(t->events[i].type) + 2);
                streams = MAX(streams, (unsigned)strlen(t->events[i].stream) + (unsigned)digits);
        }
        /* Half of the room is the event's own whatever the streams are called. */
        return (int)MIN(needed, MAX(room > streams ? room - streams : 0, room / 2));
}

static void show_row(const struct trace *t, int at, int named, int width, struct frame *f)
{
        const struct trace_event *e = &t->events[at];
        enum frame_style style = at == named ? FRAME_GOOD : FRAME_PLAIN;
        char tree[TREE_SIZE];
        char after[CLI_SIZE_TEXT];
        char position[CLI_SIZE_TEXT];
        unsigned lines = format_lines(t, at, f, tree);

        format_after(after_us(t, at), after);
        snprintf(position, sizeof position, "%" PRIu64, e->position);
        frame_text(f, FRAME_PLAIN, -AFTER_WIDTH, after);
        frame_text(f, FRAME_PLAIN, -POSITION_WIDTH, position);
        frame_text(f, FRAME_PLAIN, 2, "");
        frame_text(f, FRAME_FAINT, 0, tree);
        frame_format(f, style, MAX(width - (int)lines, 1), "%s%s", e->type, at == named ? " *" : "");
        frame_text(f, FRAME_PLAIN, 2, "");
        frame_format(f, FRAME_PLAIN, 0, "%s@%" PRIu64, e->stream, e->revision);
        frame_next_row(f);
}

void trace_show(const struct trace *t, int named, struct frame *f)
{
        int width = event_width(t, f);

        show_head(t, f);
        frame_format(f, FRAME_STRONG, 0, "%*s%*s  %-*s  %s", AFTER_WIDTH, "AFTER", POSITION_WIDTH, "POSITION",
                width, "EVENT", "STREAM@REVISION");
        frame_next_row(f);
        for (int at = trace_next(t, TRACE_NONE); at != TRACE_NONE; at = trace_next(t, at))
                show_row(t, at, named, width, f);
}

void trace_json(const struct trace *t, int at, struct buffer *out)
{
        const struct trace_event *e = &t->events[at];
        struct json_out j = {.out = out};

        json_object_begin(&j);
        json_field_u64(&j, "depth", e->depth);
        json_key(&j, "cause");
        if (e->parent == TRACE_NONE)
                json_out_null(&j);
        else
                json_u64(&j, t->events[e->parent].position);
        json_field_u64(&j, "after_us", after_us(t, at));
        json_key(&j, "event");
        json_raw(&j, bytes_of(e->json, strlen(e->json)));
        json_object_end(&j);
}
