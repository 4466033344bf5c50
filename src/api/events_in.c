/* Bodies of appends: an event, an array of events, lines of events, the bytes of one event, several streams
 * with theirs, or lines of events that name their streams.
 *
 * An event is an object: type; id; data or data_base64; metadata or metadata_base64; tags; content_type. What
 * a read adds (stream, revision, position, time ...) is passed over, so that what was read can be appended as
 * it is. Everything points into the body. */
#include "api/room.h"

#include <strings.h>

#include "base/base64.h"

enum { RANDOM_BATCH = 64, LINE_SLOTS = 4096 };
static_assert(LINE_SLOTS >= 4 * LIMIT_APPEND_STREAMS_MAX, "looking for a name stays short");

#define EVENT_FIELDS  "id type data data_base64 metadata metadata_base64 tags content_type"
#define READ_FIELDS   "stream revision position time link resolved"
#define STREAM_FIELDS "stream expect events"

/* Lines of events that name their streams: which of the append's streams a name is. */
struct line_streams {
        uint32_t slots[LINE_SLOTS]; /* ordinal + 1 by hash of the name; 0: free */
        struct bytes stream;        /* of the line under way */
        struct expected expected;
        bool has_expected;
};

struct body {
        struct call *call;
        struct write_in *to;
        struct json_in in;
        struct line_streams *by_line; /* NULL: the events of a stream stand together */
        bool is_refused;              /* the call has its answer */
        unsigned random_left;
        struct event_id random[RANDOM_BATCH];
};

/* ---- room for more ---- */

static void *grow(struct call *c, void *old, size_t size, unsigned count, unsigned *capacity)
{
        void *grown;

        if (count < *capacity)
                return old;
        *capacity = *capacity ? *capacity * 2 : 16;
        grown = arena_get(call_arena(c), size * *capacity);
        if (count)
                memcpy(grown, old, size * count);
        return grown;
}

static bool refuse_count(struct body *b, const char *what, unsigned limit)
{
        b->is_refused = true;
        call_refuse(b->call, 413, "too-large", "The append is too large", "split it",
                "at most %u %s fit into one append", limit, what);
        return false;
}

static bool add_event(struct body *b, struct store_append_event **ret)
{
        struct write_in *w = b->to;

        if (w->event_count == LIMIT_APPEND_EVENTS_MAX)
                return refuse_count(b, "events", LIMIT_APPEND_EVENTS_MAX);
        w->events = grow(b->call, w->events, sizeof *w->events, w->event_count, &w->event_capacity);
        *ret = &w->events[w->event_count++];
        **ret = (struct store_append_event){0};
        return true;
}

static bool add_stream(struct body *b)
{
        struct write_in *w = b->to;
        unsigned capacity = w->stream_capacity;

        if (w->stream_count == LIMIT_APPEND_STREAMS_MAX)
                return refuse_count(b, "streams", LIMIT_APPEND_STREAMS_MAX);
        w->event_counts = grow(b->call, w->event_counts, sizeof *w->event_counts, w->stream_count, &capacity);
        w->streams = grow(b->call, w->streams, sizeof *w->streams, w->stream_count, &w->stream_capacity);
        w->event_counts[w->stream_count] = 0;
        w->streams[w->stream_count++] = (struct store_append_stream){0};
        return true;
}

static void make_id(struct body *b, struct event_id *ret)
{
        if (!b->random_left) {
                os_random(b->call->api->os, b->random, sizeof b->random);
                b->random_left = RANDOM_BATCH;
        }
        *ret = b->random[--b->random_left];
        event_id_stamp_random(ret);
        b->to->has_made_ids = true;
}

/* ---- fields ---- */

/* The place of a name in a list of names, or -1. */
static int place_in(const char *names, struct bytes name)
{
        for (int i = 0; *names; i++) {
                size_t size = strcspn(names, " ");

                if (bytes_equal(bytes_of(names, size), name))
                        return i;
                names += size + (names[size] == ' ');
        }
        return -1;
}

static bool refuse_field(struct json_in *in, struct bytes key, const char *names)
{
        char nearest[64];

        nearest_name(key, names, nearest, sizeof nearest);
        return json_in_fail(
                in, in->at, "'%.*s' is no field: did you mean '%s'? Known: %s", SHOWN(key), nearest, names);
}

static bool read_base64(struct body *b, struct bytes *ret)
{
        const uint8_t *start = b->in.at;
        struct buffer decoded = {0};
        struct bytes text;

        if (!json_in_string(&b->in, call_arena(b->call), &text))
                return false;
        if (!base64_decode(&decoded, text))
                return json_in_fail(&b->in, start, "this is no base64");
        *ret = arena_copy(call_arena(b->call), buffer_bytes(&decoded));
        buffer_fini(&decoded);
        return true;
}

static bool read_id(struct body *b, struct event_id *ret)
{
        const uint8_t *start = b->in.at;
        struct bytes text;

        if (!json_in_string(&b->in, call_arena(b->call), &text))
                return false;
        return event_id_parse(text, ret) || json_in_fail(&b->in, start, "'%.*s' is no UUID", SHOWN(text));
}

static bool read_tags(struct body *b, struct event_draft *e)
{
        struct bytes *tags = NULL;
        unsigned capacity = 0;
        bool is_empty;
        bool has_more;

        if (!json_in_open(&b->in, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                if (e->tag_count == LIMIT_TAGS_MAX)
                        return json_in_fail(&b->in, b->in.at, "an event has at most %d tags", LIMIT_TAGS_MAX);
                tags = grow(b->call, tags, sizeof *tags, e->tag_count, &capacity);
                if (!json_in_string(&b->in, call_arena(b->call), &tags[e->tag_count++]) ||
                        !json_in_more(&b->in, '[', &has_more))
                        return false;
        }
        e->tags = tags;
        return true;
}

/* ---- one event ---- */

enum field { IN_ID, IN_TYPE, IN_DATA, IN_DATA_64, IN_META, IN_META_64, IN_TAGS, IN_CONTENT };

static bool read_field(struct body *b, enum field field, struct event_draft *e, struct bytes *content_type)
{
        struct arena *arena = call_arena(b->call);

        switch (field) {
        case IN_ID:
                return read_id(b, &e->id);
        case IN_TYPE:
                return json_in_string(&b->in, arena, &e->type);
        case IN_DATA:
                return json_in_value(&b->in, &e->data);
        case IN_DATA_64:
                return read_base64(b, &e->data);
        case IN_META:
                return json_in_value(&b->in, &e->metadata);
        case IN_META_64:
                return read_base64(b, &e->metadata);
        case IN_TAGS:
                return read_tags(b, e);
        default:
                return json_in_string(&b->in, arena, content_type);
        }
}

static bool read_expected(struct body *b, struct expected *ret)
{
        const uint8_t *start;
        bool is_string = json_in_kind(&b->in) == JSON_STRING_IN;
        struct bytes text;

        start = b->in.at;
        if (is_string ? !json_in_string(&b->in, call_arena(b->call), &text) : !json_in_value(&b->in, &text))
                return false;
        return expected_parse(text, ret) ||
               json_in_fail(&b->in, start,
                       "'%.*s' is no expectation: \"any\", \"none\", \"exists\" or a revision", SHOWN(text));
}

/* A field that is none of the event's own. */
static bool read_other_field(struct body *b, struct bytes key)
{
        struct bytes value;

        if (b->by_line && ((b->by_line->stream.size && bytes_equal_string(key, "stream")) ||
                                  (b->by_line->has_expected && bytes_equal_string(key, "expect"))))
                return json_in_fail(&b->in, b->in.at, "'%.*s' stands twice", SHOWN(key));
        if (b->by_line && bytes_equal_string(key, "stream"))
                return json_in_string(&b->in, call_arena(b->call), &b->by_line->stream);
        if (b->by_line && bytes_equal_string(key, "expect")) {
                b->by_line->has_expected = true;
                return read_expected(b, &b->by_line->expected);
        }
        if (place_in(READ_FIELDS, key) < 0)
                return refuse_field(&b->in, key, b->by_line ? "stream expect " EVENT_FIELDS : EVENT_FIELDS);
        return json_in_value(&b->in, &value);
}

static bool read_fields(struct body *b, struct event_draft *e, unsigned *ret_seen, struct bytes *content_type)
{
        bool is_empty, has_more;
        struct bytes key;

        if (!json_in_open(&b->in, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                int field;

                if (!json_in_key(&b->in, call_arena(b->call), &key))
                        return false;
                field = place_in(EVENT_FIELDS, key);
                if (field >= 0 && (*ret_seen & 1u << field))
                        return json_in_fail(&b->in, b->in.at, "'%.*s' stands twice", SHOWN(key));
                if (field >= 0)
                        *ret_seen |= 1u << field;
                if (field < 0 ? !read_other_field(b, key)
                              : !read_field(b, (enum field)field, e, content_type))
                        return false;
                if (!json_in_more(&b->in, '{', &has_more))
                        return false;
        }
        return true;
}

/* The stream of the line just read: found by its name, or a new one. What is expected of it may be said once.
 */
static bool find_stream(struct body *b, const uint8_t *start, unsigned *ret)
{
        struct line_streams *l = b->by_line;
        struct write_in *w = b->to;
        size_t slot = name_hash(l->stream) % LINE_SLOTS;

        if (!l->stream.size)
                return json_in_fail(&b->in, start,
                        "a line needs the name of its stream, such as \"stream\":\"order-42\"");
        while (l->slots[slot] && !bytes_equal(w->streams[l->slots[slot] - 1].stream, l->stream))
                slot = (slot + 1) % LINE_SLOTS;
        if (!l->slots[slot]) {
                if (!add_stream(b))
                        return false;
                w->streams[w->stream_count - 1] =
                        (struct store_append_stream){.stream = l->stream, .expected = l->expected};
                l->slots[slot] = w->stream_count;
        } else if (l->has_expected) {
                return json_in_fail(
                        &b->in, start, "\"expect\" stands with the first event of its stream only");
        }
        *ret = l->slots[slot] - 1;
        return true;
}

static bool read_event(struct body *b)
{
        const uint8_t *start = b->in.at;
        struct bytes content_type = BYTES_EMPTY;
        struct store_append_event *event;
        struct event_draft *e;
        unsigned ordinal = b->to->stream_count - 1;
        unsigned seen = 0;

        if (!add_event(b, &event))
                return false;
        e = &event->draft;
        if (!read_fields(b, e, &seen, &content_type) || (b->by_line && !find_stream(b, start, &ordinal)))
                return false;
        event->stream = ordinal;
        b->to->event_counts[ordinal]++;
        if (!e->type.size)
                return json_in_fail(&b->in, start, "an event needs a type, such as \"type\":\"OrderPlaced\"");
        if ((seen & 1u << IN_DATA && seen & 1u << IN_DATA_64) ||
                (seen & 1u << IN_META && seen & 1u << IN_META_64))
                return json_in_fail(
                        &b->in, start, "an event has its data, and its metadata, in one form only");
        if (!(seen & 1u << IN_ID))
                make_id(b, &e->id);
        e->content_type = seen & 1u << IN_DATA_64 ? CONTENT_BINARY : CONTENT_JSON;
        if (seen & 1u << IN_CONTENT)
                e->content_type =
                        bytes_equal_string(content_type, "application/json") ? CONTENT_JSON : CONTENT_BINARY;
        return true;
}

static bool read_events(struct body *b)
{
        bool is_empty, has_more;

        if (!json_in_open(&b->in, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;)
                if (!read_event(b) || !json_in_more(&b->in, '[', &has_more))
                        return false;
        return true;
}

/* ---- forms of a body ---- */

static struct bytes media_type(const struct call *c)
{
        struct bytes type = BYTES_EMPTY;
        const uint8_t *end;

        gateway_header(c->request, "content-type", &type);
        end = memchr(type.data ? (const void *)type.data : "", ';', type.size);
        if (end)
                type.size = (size_t)(end - type.data);
        while (type.size && (type.data[type.size - 1] == ' ' || type.data[type.size - 1] == '\t'))
                type.size--;
        return type;
}

static bool media_is(struct bytes type, const char *name)
{
        return type.size == strlen(name) && strncasecmp((const char *)type.data, name, type.size) == 0;
}

bool body_is_json(const struct call *c)
{
        struct bytes type = media_type(c);

        return !type.size || media_is(type, "application/json");
}

static bool body_is_lines(const struct call *c)
{
        struct bytes type = media_type(c);

        return media_is(type, "application/x-ndjson") || media_is(type, "application/ndjson") ||
               media_is(type, "application/jsonl");
}

void call_refuse_media(struct call *c, const char *known)
{
        struct bytes type = media_type(c);
        char next[256] = "send -H 'Content-Type: ";

        strncat(next, known, sizeof next - strlen(next) - 2);
        strncat(next, "'", 2);
        call_refuse(c, 415, "unsupported-media-type", "The body's content type is not taken here", next,
                "the body says that it is '%.*s'", SHOWN(type));
}

/* What a body of text must be whatever it says; false: the call was refused. */
static bool check_text(struct call *c)
{
        struct bytes encoding;

        if (gateway_header(c->request, "content-encoding", &encoding) &&
                !bytes_equal_string(encoding, "identity")) {
                call_refuse(c, 415, "unsupported-media-type", "The body's encoding is not taken here",
                        "send the body as it is", "the body says that it is encoded as '%.*s'",
                        SHOWN(encoding));
                return false;
        }
        if (!gateway_body(c->request).size) {
                call_refuse_bad(c, "send -d '{\"type\":\"OrderPlaced\",\"data\":{}}'", "the body is empty");
                return false;
        }
        if (!bytes_is_utf8(gateway_body(c->request))) {
                call_refuse_bad(c, "send UTF-8", "the body is no UTF-8");
                return false;
        }
        return true;
}

/* True if it was read; else the call was refused. */
static bool conclude(struct body *b, bool is_read)
{
        if (!is_read && !b->is_refused)
                call_refuse_bad(b->call, "correct the body and send it again",
                        "the body is not as expected: %s", b->in.problem);
        return is_read;
}

static bool read_lines(struct body *b)
{
        struct bytes left = gateway_body(b->call->request);

        for (unsigned number = 1; left.size; number++) {
                const uint8_t *end = memchr(left.data, '\n', left.size);
                struct bytes line = bytes_of(left.data, end ? (size_t)(end - left.data) : left.size);
                size_t used = line.size + (end != NULL);

                left = bytes_of(left.data + used, left.size - used);
                if (line.size && line.data[line.size - 1] == '\r')
                        line.size--;
                if (!line.size)
                        continue;
                json_in_begin(&b->in, line, number);
                if (b->by_line) {
                        b->by_line->stream = BYTES_EMPTY;
                        b->by_line->expected = (struct expected){.kind = EXPECTED_ANY};
                        b->by_line->has_expected = false;
                }
                if (!read_event(b) || !json_in_end(&b->in))
                        return false;
        }
        return true;
}

static bool read_json(struct body *b)
{
        json_in_begin(&b->in, gateway_body(b->call->request), 1);
        switch (json_in_kind(&b->in)) {
        case JSON_OBJECT_IN:
                return read_event(b) && json_in_end(&b->in);
        case JSON_ARRAY_IN:
                return read_events(b) && json_in_end(&b->in);
        default:
                return json_in_fail(&b->in, b->in.at, "an event or an array of events is expected");
        }
}

bool header_event_id(struct call *c, struct event_id *ret, bool *ret_is_given)
{
        struct bytes text;

        *ret_is_given = gateway_header(c->request, "nilo-event-id", &text);
        if (!*ret_is_given) {
                os_random(c->api->os, ret, sizeof *ret);
                event_id_stamp_random(ret);
                return true;
        }
        if (event_id_parse(text, ret))
                return true;
        call_refuse_bad(c, NULL, "Nilo-Event-ID '%.*s' is no UUID", SHOWN(text));
        return false;
}

/* The body is the data of one event; headers say the rest. */
static bool read_raw(struct body *b, struct bytes type)
{
        struct call *c = b->call;
        struct store_append_event *event;
        bool has_id;

        if (media_is(media_type(c), "application/x-www-form-urlencoded")) {
                call_refuse_media(c, "application/octet-stream");
                return false;
        }
        if (!add_event(b, &event))
                return false;
        b->to->event_counts[0] = 1;
        event->draft.type = type;
        event->draft.data = gateway_body(c->request);
        event->draft.content_type =
                media_is(media_type(c), "application/json") ? CONTENT_JSON : CONTENT_BINARY;
        gateway_header(c->request, "nilo-event-metadata", &event->draft.metadata);
        if (event->draft.content_type == CONTENT_JSON && !json_in_is_valid(event->draft.data)) {
                call_refuse_bad(c, "send valid JSON, or Content-Type: application/octet-stream",
                        "the body says that it is JSON, and is not");
                return false;
        }
        if (!header_event_id(c, &event->draft.id, &has_id))
                return false;
        b->to->has_made_ids = !has_id;
        return true;
}

bool write_in_stream(struct call *c, struct write_in *ret)
{
        struct body b = {.call = c, .to = ret};
        struct bytes type;

        *ret = (struct write_in){0};
        if (!add_stream(&b))
                return false;
        ret->streams[0].stream = c->stream;
        if (!query_expected(c, &ret->streams[0].expected))
                return false;
        if (gateway_header(c->request, "nilo-event-type", &type))
                return read_raw(&b, type);
        if (!body_is_json(c) && !body_is_lines(c)) {
                call_refuse_media(c, "application/json");
                return false;
        }
        return check_text(c) && conclude(&b, body_is_json(c) ? read_json(&b) : read_lines(&b));
}

/* ---- several streams ---- */

static bool read_stream_field(struct body *b, int field, struct store_append_stream *s)
{
        switch (field) {
        case 0:
                return json_in_string(&b->in, call_arena(b->call), &s->stream);
        case 1:
                return read_expected(b, &s->expected);
        default:
                return read_events(b);
        }
}

static bool read_stream(struct body *b)
{
        const uint8_t *start = b->in.at;
        struct store_append_stream *s;
        bool is_empty, has_more;
        unsigned seen = 0;
        struct bytes key;

        if (!add_stream(b) || !json_in_open(&b->in, '{', &is_empty))
                return false;
        s = &b->to->streams[b->to->stream_count - 1];
        for (has_more = !is_empty; has_more;) {
                int field;

                if (!json_in_key(&b->in, call_arena(b->call), &key))
                        return false;
                field = place_in(STREAM_FIELDS, key);
                if (field < 0)
                        return refuse_field(&b->in, key, STREAM_FIELDS);
                if (seen & 1u << field)
                        return json_in_fail(&b->in, b->in.at, "'%.*s' stands twice", SHOWN(key));
                seen |= 1u << field;
                if (!read_stream_field(b, field, s) || !json_in_more(&b->in, '{', &has_more))
                        return false;
        }
        return s->stream.size > 0 ||
               json_in_fail(&b->in, start,
                       "an entry needs the name of its stream, such as \"stream\":\"order-42\"");
}

static bool read_streams(struct body *b)
{
        bool is_empty, has_more;
        struct bytes key;

        json_in_begin(&b->in, gateway_body(b->call->request), 1);
        if (!json_in_open(&b->in, '{', &is_empty))
                return false;
        if (is_empty || !json_in_key(&b->in, call_arena(b->call), &key))
                return json_in_fail(&b->in, b->in.at, "\"streams\" is expected");
        if (!bytes_equal_string(key, "streams"))
                return refuse_field(&b->in, key, "streams");
        if (!json_in_open(&b->in, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;)
                if (!read_stream(b) || !json_in_more(&b->in, '[', &has_more))
                        return false;
        if (!json_in_more(&b->in, '{', &has_more))
                return false;
        return has_more ? json_in_fail(&b->in, b->in.at, "\"streams\" is the only field")
                        : json_in_end(&b->in);
}

bool write_in_atomic(struct call *c, struct write_in *ret)
{
        struct body b = {.call = c, .to = ret};

        *ret = (struct write_in){0};
        if (!body_is_json(c) && !body_is_lines(c)) {
                call_refuse_media(c, "application/json");
                return false;
        }
        if (body_is_lines(c)) {
                b.by_line = arena_get(call_arena(c), sizeof *b.by_line);
                *b.by_line = (struct line_streams){0};
        }
        return check_text(c) && conclude(&b, b.by_line ? read_lines(&b) : read_streams(&b));
}
