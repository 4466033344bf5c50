#include "kurrent/wire_out.h"

/* A tag whose number is below 16 is one byte. */
enum { TAG_SIZE = 1 };
#define TAG(number, type) ((uint8_t)((number) << 3 | (type)))

static uint8_t *put_tag(uint8_t *p, unsigned number, enum wire_type type)
{
        assert(number > 0 && number < 16);
        *p = TAG(number, type);
        return p + 1;
}

static uint8_t *put_varint(uint8_t *p, unsigned number, uint64_t n)
{
        p = put_tag(p, number, WIRE_VARINT);
        return p + varint_put(p, n);
}

/* A field with implicit presence: zero is not written. */
static size_t number_size(uint64_t n)
{
        return n ? TAG_SIZE + varint_size(n) : 0;
}

static uint8_t *put_number(uint8_t *p, unsigned number, uint64_t n)
{
        return n ? put_varint(p, number, n) : p;
}

/* The head of a submessage or of bytes. */
static size_t framed_size(size_t size)
{
        return TAG_SIZE + varint_size(size) + size;
}

static uint8_t *put_head(uint8_t *p, unsigned number, size_t size)
{
        p = put_tag(p, number, WIRE_BYTES);
        return p + varint_put(p, size);
}

static uint8_t *put_raw(uint8_t *p, const void *data, size_t size)
{
        memcpy(p, data, size);
        return p + size;
}

static size_t bytes_size(struct bytes b)
{
        return b.size ? framed_size(b.size) : 0;
}

static uint8_t *put_bytes(uint8_t *p, unsigned number, struct bytes b)
{
        return b.size ? put_raw(put_head(p, number, b.size), b.data, b.size) : p;
}

/* ---- shared messages ---- */

static size_t halves_size(const struct event_id *id)
{
        int64_t most, least;

        event_id_to_halves(id, &most, &least);
        return number_size((uint64_t)most) + number_size((uint64_t)least);
}

static size_t uuid_size(const struct event_id *id, bool is_text)
{
        return framed_size(is_text ? (size_t)EVENT_ID_TEXT_SIZE : halves_size(id));
}

/* The field `number` with a UUID; needs a byte of room behind it, for the end of the text. */
static uint8_t *put_uuid(uint8_t *p, unsigned number, const struct event_id *id, bool is_text)
{
        int64_t most, least;

        p = put_head(p, number, uuid_size(id, is_text));
        if (is_text) {
                p = put_head(p, 2, EVENT_ID_TEXT_SIZE);
                event_id_format(id, (char *)p);
                return p + EVENT_ID_TEXT_SIZE;
        }
        event_id_to_halves(id, &most, &least);
        p = put_head(p, 1, halves_size(id));
        p = put_number(p, 1, (uint64_t)most);
        return put_number(p, 2, (uint64_t)least);
}

static uint8_t *put_stream(uint8_t *p, unsigned number, struct bytes name)
{
        p = put_head(p, number, bytes_size(name));
        return put_bytes(p, 3, name);
}

/* Commit and prepare are the same here. */
static size_t position_size(uint64_t position)
{
        return 2 * number_size(position);
}

static uint8_t *put_position(uint8_t *p, unsigned number, uint64_t position)
{
        p = put_head(p, number, position_size(position));
        p = put_number(p, 1, position);
        return put_number(p, 2, position);
}

/* ---- events ---- */

/* Whole entries of the map of metadata, with their heads: the key is field 1, the value field 2. */
#define CONTENT_TYPE_KEY                                                                                     \
        "\x0a\x0c"                                                                                           \
        "content-type"
static const char entry_json[] = "\x32\x20" CONTENT_TYPE_KEY "\x12\x10"
                                 "application/json";
static const char entry_binary[] = "\x32\x28" CONTENT_TYPE_KEY "\x12\x18"
                                   "application/octet-stream";
static_assert(sizeof(entry_json) - 1 == 2 + 0x20, "the entry says its size");
static_assert(sizeof(entry_binary) - 1 == 2 + 0x28, "the entry says its size");

enum { ENTRY_TYPE_KEY_SIZE = 6, ENTRY_CREATED_KEY_SIZE = 9 };

/* Ticks of 100 ns since 1970, in decimal. */
static void set_created(struct wire_events *w, uint64_t time_us)
{
        char digits[sizeof(w->created)];
        uint64_t ticks = time_us * 10;
        unsigned n = 0;

        if (w->created_size && w->created_us == time_us)
                return;
        do
                digits[n++] = (char)('0' + ticks % 10);
        while (ticks /= 10);
        w->created_us = time_us;
        w->created_size = (uint8_t)n;
        for (unsigned i = 0; i < n; i++)
                w->created[i] = digits[n - 1 - i];
}

static size_t type_entry_size(struct bytes type)
{
        return ENTRY_TYPE_KEY_SIZE + framed_size(type.size);
}

static size_t created_entry_size(const struct wire_events *w)
{
        return ENTRY_CREATED_KEY_SIZE + framed_size(w->created_size);
}

static struct bytes content_entry(const struct event_view *e)
{
        return e->content_type == CONTENT_JSON ? bytes_of(entry_json, sizeof(entry_json) - 1)
                                               : bytes_of(entry_binary, sizeof(entry_binary) - 1);
}

static size_t recorded_size(struct wire_events *w, const struct event_view *e)
{
        set_created(w, e->time_us);
        return framed_size(uuid_size(&e->id, w->is_uuid_text)) + framed_size(bytes_size(e->stream)) +
               number_size(e->revision) + position_size(e->position) + framed_size(type_entry_size(e->type)) +
               content_entry(e).size + framed_size(created_entry_size(w)) + bytes_size(e->metadata) +
               bytes_size(e->data);
}

static uint8_t *put_recorded(uint8_t *p, struct wire_events *w, const struct event_view *e)
{
        struct bytes content = content_entry(e);

        set_created(w, e->time_us);
        p = put_uuid(p, 1, &e->id, w->is_uuid_text);
        p = put_stream(p, 2, e->stream);
        p = put_number(p, 3, e->revision);
        p = put_number(p, 4, e->position);
        p = put_number(p, 5, e->position);
        p = put_head(p, 6, type_entry_size(e->type));
        p = put_raw(p, "\x0a\x04type", ENTRY_TYPE_KEY_SIZE);
        p = put_raw(put_head(p, 2, e->type.size), e->type.data, e->type.size);
        p = put_raw(p, content.data, content.size);
        p = put_head(p, 6, created_entry_size(w));
        p = put_raw(p,
                "\x0a\x07"
                "created",
                ENTRY_CREATED_KEY_SIZE);
        p = put_raw(put_head(p, 2, w->created_size), w->created, w->created_size);
        p = put_bytes(p, 7, e->metadata);
        return put_bytes(p, 8, e->data);
}

/* ReadResp with an event: of Streams without, of PersistentSubscriptions with the number of retries. */
static void put_event(struct wire_events *w, const struct store_read_item *item, const uint32_t *retry_count,
        struct buffer *out)
{
        /* The position is that of the event that was read: the link, if there is one. */
        uint64_t position = item->has_link ? item->link.position : item->event.position;
        size_t link_size = item->has_link ? recorded_size(w, &item->link) : 0;
        size_t event_size = item->has_event ? recorded_size(w, &item->event) : 0;
        size_t size = TAG_SIZE + varint_size(position);
        uint8_t *p;

        assert(item->has_event || item->has_link);
        if (item->has_event)
                size += framed_size(event_size);
        if (item->has_link)
                size += framed_size(link_size);
        if (retry_count)
                size += TAG_SIZE + varint_size(*retry_count);
        buffer_reserve(out, framed_size(size) + 1);
        p = put_head(out->data + out->size, 1, size);
        if (item->has_event)
                p = put_recorded(put_head(p, 1, event_size), w, &item->event);
        if (item->has_link)
                p = put_recorded(put_head(p, 2, link_size), w, &item->link);
        p = put_varint(p, 3, position);
        if (retry_count)
                p = put_varint(p, 5, *retry_count);
        assert((size_t)(p - (out->data + out->size)) == framed_size(size));
        out->size = (size_t)(p - out->data);
}

void wire_out_event(struct wire_events *w, const struct store_read_item *item, struct buffer *out)
{
        put_event(w, item, NULL, out);
}

void wire_out_group_event(
        struct wire_events *w, const struct store_read_item *item, uint32_t retry_count, struct buffer *out)
{
        put_event(w, item, &retry_count, out);
}

/* ---- appends ---- */

static size_t success_size(const struct wire_success *s)
{
        size_t size = s->outcome.has_revision ? TAG_SIZE + varint_size(s->outcome.revision) : framed_size(0);

        return size + framed_size(s->has_position ? position_size(s->position) : 0);
}

/* The success of Append and of BatchAppend: fields of the same numbers. */
static uint8_t *put_success(uint8_t *p, unsigned number, const struct wire_success *s)
{
        p = put_head(p, number, success_size(s));
        p = s->outcome.has_revision ? put_varint(p, 1, s->outcome.revision) : put_head(p, 2, 0);
        return s->has_position ? put_position(p, 3, s->position) : put_head(p, 4, 0);
}

void wire_out_append(const struct wire_success *success, struct buffer *out)
{
        size_t size = framed_size(success_size(success));
        uint8_t *p;

        buffer_reserve(out, size);
        p = put_success(out->data + out->size, 1, success);
        assert((size_t)(p - (out->data + out->size)) == size);
        out->size = (size_t)(p - out->data);
}

enum { ASKED_REVISION = 5, ASKED_NO_STREAM = 6, ASKED_ANY = 7, ASKED_EXISTS = 8 };

static size_t expected_size(const struct wire_asked *a)
{
        if (!a->has_expected)
                return 0;
        return a->expected.kind == EXPECTED_EXACT ? TAG_SIZE + varint_size(a->expected.revision)
                                                  : framed_size(0);
}

static uint8_t *put_expected(uint8_t *p, const struct wire_asked *a)
{
        if (!a->has_expected)
                return p;
        switch (a->expected.kind) {
        case EXPECTED_EXACT:
                return put_varint(p, ASKED_REVISION, a->expected.revision);
        case EXPECTED_NONE:
                return put_head(p, ASKED_NO_STREAM, 0);
        case EXPECTED_EXISTS:
                return put_head(p, ASKED_EXISTS, 0);
        default:
                return put_head(p, ASKED_ANY, 0);
        }
}

void wire_out_batch(const struct wire_asked *asked, const struct wire_success *success, struct buffer *out)
{
        size_t size = framed_size(uuid_size(&asked->correlation.id, asked->correlation.is_text)) +
                      framed_size(success_size(success)) + framed_size(bytes_size(asked->stream)) +
                      expected_size(asked);
        uint8_t *p;

        buffer_reserve(out, size + 1);
        p = put_uuid(out->data + out->size, 1, &asked->correlation.id, asked->correlation.is_text);
        p = put_success(p, 3, success);
        p = put_stream(p, 4, asked->stream);
        p = put_expected(p, asked);
        assert((size_t)(p - (out->data + out->size)) == size);
        out->size = (size_t)(p - out->data);
}
