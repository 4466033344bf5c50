/* An event as JSON. JSON data and metadata stand in it byte for byte as they were stored; what is no valid
 * JSON comes in base64, under a name that says so. */
#include "api/room.h"

#include <stdio.h>
#include <time.h>

void time_format(uint64_t time_us, char ret[TIME_TEXT_SIZE])
{
        time_t seconds = (time_t)(time_us / 1000000);
        struct tm t;
        char text[80];

        gmtime_r(&seconds, &t);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", t.tm_year + 1900, t.tm_mon + 1,
                t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (unsigned)(time_us % 1000000));
        snprintf(ret, TIME_TEXT_SIZE, "%.*s", TIME_TEXT_SIZE - 1, text);
}

/* In valid JSON, line ends stand between tokens only, where a space means the same. */
static void add_line(struct json_out *j, struct bytes json)
{
        size_t start;

        json_raw(j, BYTES_EMPTY);
        start = j->out->size;
        buffer_add_bytes(j->out, json);
        for (size_t i = start; i < j->out->size; i++)
                if (j->out->data[i] == '\n' || j->out->data[i] == '\r')
                        j->out->data[i] = ' ';
}

static void add_value(struct json_out *j, const char *key, const char *base64_key, struct bytes value,
        bool is_json, bool is_line)
{
        if (!is_json || !json_in_is_valid(value)) {
                json_key(j, base64_key);
                json_base64(j, value);
                return;
        }
        json_key(j, key);
        if (is_line)
                add_line(j, value);
        else
                json_raw(j, value);
}

static void add_tags(struct json_out *j, const struct event_view *e)
{
        struct bytes at = e->tags;
        struct bytes tag;

        if (!e->tag_count)
                return;
        json_key(j, "tags");
        json_array_begin(j);
        while (event_tag_next(&at, &tag))
                json_bytes(j, tag);
        json_array_end(j);
}

static void add_members(struct json_out *j, const struct event_view *e, bool is_line)
{
        char id[EVENT_ID_TEXT_SIZE + 1];
        char time[TIME_TEXT_SIZE];

        event_id_format(&e->id, id);
        time_format(e->time_us, time);
        json_field_bytes(j, "stream", e->stream);
        json_field_u64(j, "revision", e->revision);
        json_field_u64(j, "position", e->position);
        json_field_string(j, "id", id);
        json_field_bytes(j, "type", e->type);
        json_field_string(j, "time", time);
        json_field_string(j, "content_type",
                e->content_type == CONTENT_JSON ? "application/json" : "application/octet-stream");
        if (e->data.size || e->content_type != CONTENT_JSON)
                add_value(j, "data", "data_base64", e->data, e->content_type == CONTENT_JSON, is_line);
        if (e->metadata.size)
                add_value(j, "metadata", "metadata_base64", e->metadata, true, is_line);
        add_tags(j, e);
}

void view_to_json(struct json_out *j, const struct event_view *e, bool is_line)
{
        json_object_begin(j);
        add_members(j, e, is_line);
        json_object_end(j);
}

void event_to_json(struct json_out *j, const struct store_read_item *item, bool is_line)
{
        char id[EVENT_ID_TEXT_SIZE + 1];

        if (!item->has_link) {
                view_to_json(j, &item->event, is_line);
                return;
        }
        json_object_begin(j);
        add_members(j, item->has_event ? &item->event : &item->link, is_line);
        if (item->has_event) {
                event_id_format(&item->link.id, id);
                json_key(j, "link");
                json_object_begin(j);
                json_field_bytes(j, "stream", item->link.stream);
                json_field_u64(j, "revision", item->link.revision);
                json_field_u64(j, "position", item->link.position);
                json_field_string(j, "id", id);
                json_object_end(j);
        } else {
                json_field_bool(j, "resolved", false);
        }
        json_object_end(j);
}

const struct event_view *item_place(const struct store_read_item *item)
{
        return item->has_link ? &item->link : &item->event;
}

uint64_t item_number(const struct call *c, const struct store_read_item *item)
{
        const struct event_view *e = item_place(item);

        return c->stream.size ? e->revision : e->position;
}
