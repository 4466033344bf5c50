/* An event as JSON. JSON data and metadata stand in it byte for byte as they were stored; what is no valid
 * JSON comes in base64, under a name that says so. */
#include "api/room.h"

static char *put_digits(char *to, unsigned n, unsigned count, char end)
{
        for (unsigned i = count; i-- > 0; n /= 10)
                to[i] = (char)('0' + n % 10);
        to[count] = end;
        return to + count + 1;
}

/* By hand, since a read formats one for each event: eras of 400 years that begin on 1 March, so that the leap
 * day is the last day of its year. */
void time_format(uint64_t time_us, char ret[TIME_TEXT_SIZE])
{
        uint64_t seconds = time_us / 1000000;
        uint64_t days = seconds / 86400 + 719468; /* since 0000-03-01 */
        unsigned second = (unsigned)(seconds % 86400);
        unsigned day_of_era = (unsigned)(days % 146097);
        unsigned year_of_era =
                (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        unsigned month = (5 * day_of_year + 2) / 153; /* 0: March */
        unsigned day = day_of_year - (153 * month + 2) / 5 + 1;
        unsigned year = (unsigned)(days / 146097 * 400 % 10000) + year_of_era + (month >= 10);

        ret = put_digits(ret, year, 4, '-');
        ret = put_digits(ret, month < 10 ? month + 3 : month - 9, 2, '-');
        ret = put_digits(ret, day, 2, 'T');
        ret = put_digits(ret, second / 3600, 2, ':');
        ret = put_digits(ret, second / 60 % 60, 2, ':');
        ret = put_digits(ret, second % 60, 2, '.');
        ret = put_digits(ret, (unsigned)(time_us % 1000000), 6, 'Z');
        *ret = 0;
}

/* In valid JSON, line ends stand between tokens only, where a space means the same. */
static void add_line(struct json_out *j, struct bytes json)
{
        static const char ends[] = "\n\r";
        size_t start;

        json_raw(j, json);
        start = j->out->size - json.size;
        for (const char *end = ends; *end; end++) {
                uint8_t *at = j->out->data + start;
                uint8_t *stop = j->out->data + j->out->size;

                while ((at = memchr(at, *end, (size_t)(stop - at))))
                        *at++ = ' ';
        }
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
