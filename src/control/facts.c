/* What facts are called and how they look: the table of facts.def, names and their parsers, JSON and text.
 *
 * A line of text is `<time> <LEVEL> <publisher> <type>: <what happened>[: <text>][ (<field> <value>, ...)]`.
 * Names and texts come from outside, so everything in them that could end the line, move the cursor of a
 * terminal or look like a line of somebody else is written as an escape of its byte. */
#include "control/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static const struct fact_description descriptions[FACTS] = {
#define FACT(name_, category_, level_, publisher_, fields_, text_)                                           \
        [FACT_##name_] = {.name = #name_,                                                                    \
                .text = text_,                                                                               \
                .category = CATEGORY_##category_,                                                            \
                .level = LEVEL_##level_,                                                                     \
                .publisher = SUBSYSTEM_##publisher_,                                                         \
                .fields = fields_},
#include "control/facts.def"
#undef FACT
};

static const char *const category_names[CATEGORIES] = {
        [CATEGORY_SYSTEM] = "system",
        [CATEGORY_CLUSTER] = "cluster",
        [CATEGORY_LEADERSHIP] = "leadership",
        [CATEGORY_PERSISTENCE] = "persistence",
        [CATEGORY_GATEWAY] = "gateway",
        [CATEGORY_COORDINATION] = "coordination",
        [CATEGORY_SUBSCRIPTIONS] = "subscriptions",
};

static const char *const subsystem_names[SUBSYSTEMS] = {
        [SUBSYSTEM_CONTROL] = "control",
        [SUBSYSTEM_PERSISTENCE] = "persistence",
        [SUBSYSTEM_STORE] = "store",
        [SUBSYSTEM_CLUSTER] = "cluster",
        [SUBSYSTEM_NOTIFICATION] = "notification",
        [SUBSYSTEM_GATEWAY] = "gateway",
        [SUBSYSTEM_SERVER] = "server",
};

static const char *const level_names[LEVELS] = {
        [LEVEL_ERROR] = "error",
        [LEVEL_WARNING] = "warning",
        [LEVEL_INFO] = "info",
        [LEVEL_DEBUG] = "debug",
        [LEVEL_TRACE] = "trace",
};

/* Of one width, so that lines stand in columns. */
static const char *const level_columns[LEVELS] = {
        [LEVEL_ERROR] = "ERROR",
        [LEVEL_WARNING] = "WARN ",
        [LEVEL_INFO] = "INFO ",
        [LEVEL_DEBUG] = "DEBUG",
        [LEVEL_TRACE] = "TRACE",
};

/* ---- names ---- */

const struct fact_description *fact_describe(enum fact_type type)
{
        assert((unsigned)type < FACTS);
        return &descriptions[type];
}

/* The place of `name` in the table, or `count`. */
static unsigned find_name(const char *const *names, unsigned count, const char *name)
{
        unsigned i;

        for (i = 0; i < count; i++)
                if (!strcmp(names[i], name))
                        break;
        return i;
}

const char *fact_category_name(enum fact_category category)
{
        assert((unsigned)category < CATEGORIES);
        return category_names[category];
}

bool fact_category_parse(const char *name, enum fact_category *ret)
{
        unsigned i = find_name(category_names, CATEGORIES, name);

        if (i == CATEGORIES)
                return false;
        *ret = (enum fact_category)i;
        return true;
}

const char *subsystem_name(enum subsystem subsystem)
{
        assert((unsigned)subsystem < SUBSYSTEMS);
        return subsystem_names[subsystem];
}

bool subsystem_parse(const char *name, enum subsystem *ret)
{
        unsigned i = find_name(subsystem_names, SUBSYSTEMS, name);

        if (i == SUBSYSTEMS)
                return false;
        *ret = (enum subsystem)i;
        return true;
}

const char *log_level_name(enum log_level level)
{
        assert((unsigned)level < LEVELS);
        return level_names[level];
}

bool log_level_parse(const char *name, enum log_level *ret)
{
        unsigned i = find_name(level_names, LEVELS, name);

        if (i == LEVELS)
                return false;
        *ret = (enum log_level)i;
        return true;
}

/* ---- payloads ---- */

/* The bytes of `s` that fit `size_max` without cutting a character in two. */
static size_t cut_size(struct bytes s, size_t size_max)
{
        size_t size = size_max, back;

        if (s.size <= size_max)
                return s.size;
        /* In UTF-8 at most three bytes lead back to the first of a character. */
        for (back = 0; back < 4 && size > 0; back++, size--)
                if ((s.data[size] & 0xc0) != 0x80)
                        return size;
        return size_max;
}

void fact_set_stream(struct fact_payload *p, struct bytes stream, uint64_t hash)
{
        size_t size = cut_size(stream, FACT_STREAM_SIZE);

        p->stream_hash = hash;
        p->stream_size = (uint8_t)size;
        if (size)
                memcpy(p->stream, stream.data, size);
}

void fact_set_text(struct fact_payload *p, const char *format, ...)
{
        char text[FACT_TEXT_SIZE * 2];
        va_list args;
        int size;

        va_start(args, format);
        size = vsnprintf(text, sizeof text, format, args);
        va_end(args);
        assert(size >= 0);
        size = MIN(size, (int)sizeof text - 1);
        p->text_size = (uint8_t)cut_size(bytes_of(text, (size_t)size), FACT_TEXT_SIZE);
        memcpy(p->text, text, p->text_size);
}

static struct bytes stream_of(const struct fact *fact)
{
        return bytes_of(fact->payload.stream, fact->payload.stream_size);
}

static struct bytes text_of(const struct fact *fact)
{
        return bytes_of(fact->payload.text, fact->payload.text_size);
}

/* A number from outside the table must not be trusted to be a subsystem. */
static const char *subsystem_of(const struct fact *fact)
{
        return fact->payload.subsystem < SUBSYSTEMS ? subsystem_names[fact->payload.subsystem] : "unknown";
}

enum { TIME_SIZE_MAX = 64 };

/* ISO 8601 in UTC with microseconds. */
static void format_time(uint64_t wall_us, char ret[TIME_SIZE_MAX])
{
        time_t seconds = (time_t)(wall_us / 1000000);
        struct tm tm = {0};

        gmtime_r(&seconds, &tm);
        snprintf(ret, TIME_SIZE_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(wall_us % 1000000));
}

/* ---- JSON ---- */

static void add_json_data(const struct fact *fact, unsigned fields, struct json_out *j)
{
        const struct fact_payload *p = &fact->payload;

        json_key(j, "data");
        json_object_begin(j);
        if (fields & FIELD_WRITE)
                json_field_u64(j, "write_id", p->write_id);
        if (fields & FIELD_STREAM)
                json_field_bytes(j, "stream", stream_of(fact));
        if (fields & FIELD_REVISION)
                json_field_u64(j, "revision", p->revision);
        if (fields & FIELD_POSITION)
                json_field_u64(j, "position", p->position);
        if (fields & FIELD_COUNT)
                json_field_u64(j, "count", p->count);
        if (fields & FIELD_TERM)
                json_field_u64(j, "term", fact->term);
        if (fields & FIELD_NODE)
                json_field_u64(j, "node_id", p->node_id);
        if (fields & FIELD_SUBSYSTEM)
                json_field_string(j, "subsystem", subsystem_of(fact));
        if (fields & FIELD_DURATION)
                json_field_u64(j, "duration_us", p->duration_us);
        if (fields & FIELD_TEXT)
                json_field_bytes(j, "text", text_of(fact));
        json_object_end(j);
}

void fact_to_json(struct control *control, const struct fact *fact, struct json_out *j)
{
        const struct fact_description *d = fact_describe(fact->type);
        char id[64], when[TIME_SIZE_MAX];

        snprintf(id, sizeof id, "%016llx-%llu", (unsigned long long)control->boot_id,
                (unsigned long long)fact->sequence);
        format_time(fact->wall_us, when);
        json_object_begin(j);
        json_field_string(j, "id", id);
        json_field_u64(j, "sequence", fact->sequence);
        json_field_string(j, "type", d->name);
        json_field_string(j, "category", category_names[d->category]);
        json_field_string(j, "level", level_names[d->level]);
        json_field_string(j, "subsystem", subsystem_names[d->publisher]);
        json_field_u64(j, "store", fact->store);
        json_field_string(j, "node", control->node_name);
        json_field_u64(j, "term", fact->term);
        json_field_string(j, "time", when);
        json_field_string(j, "text", d->text);
        add_json_data(fact, d->fields, j);
        json_object_end(j);
}

/* ---- text ---- */

/* The size of the harmless character at the begin of `s`, or 0 if its first byte must be escaped: controls
 * (also U+0080 to U+009F), line and paragraph separators, marks that turn the direction of writing, what is
 * no UTF-8. */
static size_t plain_size(struct bytes s)
{
        uint8_t c = s.data[0];
        size_t size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        bool is_mark;

        if (c < 0x20 || c == 0x7f || c == '\\')
                return 0;
        if (size == 1)
                return 1;
        if (s.size < size || !bytes_is_utf8(bytes_of(s.data, size)))
                return 0;
        if (c == 0xc2 && s.data[1] < 0xa0)
                return 0;
        is_mark = c == 0xe2 && ((s.data[1] == 0x80 && (s.data[2] == 0x8e || s.data[2] == 0x8f ||
                                                              (s.data[2] >= 0xa8 && s.data[2] <= 0xae))) ||
                                       (s.data[1] == 0x81 && s.data[2] >= 0xa6 && s.data[2] <= 0xa9));
        return is_mark ? 0 : size;
}

static void add_escaped(struct buffer *out, struct bytes s, char quote)
{
        while (s.size) {
                size_t size = plain_size(s);

                if (s.data[0] == '\\' || (quote && s.data[0] == (uint8_t)quote))
                        buffer_format(out, "\\%c", s.data[0]);
                else if (size)
                        buffer_add(out, s.data, size);
                else
                        buffer_format(out, "\\x%02x", s.data[0]);
                size = MAX(size, (size_t)1);
                s = bytes_of(s.data + size, s.size - size);
        }
}

/* "(a 1, b 2)": what stands between the fields. */
static void begin_field(struct buffer *out, bool *is_first, const char *name)
{
        buffer_add_string(out, *is_first ? " (" : ", ");
        buffer_add_string(out, name);
        buffer_add_u8(out, ' ');
        *is_first = false;
}

static void add_number(struct buffer *out, bool *is_first, const char *name, uint64_t n)
{
        begin_field(out, is_first, name);
        buffer_format(out, "%llu", (unsigned long long)n);
}

static void add_text_fields(const struct fact *fact, unsigned fields, struct buffer *out)
{
        const struct fact_payload *p = &fact->payload;
        bool is_first = true;

        if (fields & FIELD_WRITE)
                add_number(out, &is_first, "write", p->write_id);
        if (fields & FIELD_STREAM) {
                begin_field(out, &is_first, "stream");
                buffer_add_u8(out, '"');
                add_escaped(out, stream_of(fact), '"');
                buffer_add_u8(out, '"');
        }
        if (fields & FIELD_REVISION)
                add_number(out, &is_first, "revision", p->revision);
        if (fields & FIELD_POSITION)
                add_number(out, &is_first, "position", p->position);
        if (fields & FIELD_COUNT)
                add_number(out, &is_first, "count", p->count);
        if (fields & FIELD_TERM)
                add_number(out, &is_first, "term", fact->term);
        if (fields & FIELD_NODE)
                add_number(out, &is_first, "node", p->node_id);
        if (fields & FIELD_SUBSYSTEM) {
                begin_field(out, &is_first, "subsystem");
                buffer_add_string(out, subsystem_of(fact));
        }
        if (fields & FIELD_DURATION) {
                add_number(out, &is_first, "duration", p->duration_us);
                buffer_add_string(out, " us");
        }
        if (!is_first)
                buffer_add_u8(out, ')');
}

void fact_to_text(struct control *control, const struct fact *fact, struct buffer *out)
{
        const struct fact_description *d = fact_describe(fact->type);
        char when[TIME_SIZE_MAX];

        (void)control; /* JSON lines carry the node and the boot, for machines; people know which node they
                          read */
        format_time(fact->wall_us, when);
        buffer_format(out, "%s %s %s %s: %s", when, level_columns[d->level], subsystem_names[d->publisher],
                d->name, d->text);
        if (d->fields & FIELD_TEXT && fact->payload.text_size) {
                buffer_add_string(out, ": ");
                add_escaped(out, text_of(fact), '\0');
        }
        add_text_fields(fact, d->fields, out);
}
