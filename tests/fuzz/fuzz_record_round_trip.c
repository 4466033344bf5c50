/* Payloads of log records whose sums are right and whose content is hostile: the reader stays inside and
 * within the limits, and what it accepts survives being written and read again. */
#include <stdlib.h>

#include "model/record.h"

enum { SEED = 7, EVENTS_KEPT_MAX = 64, TAGS_MAX = LIMIT_TAGS_MAX };

static void require(bool holds)
{
        if (!holds)
                abort();
}

static struct record_header header_of(struct bytes payload, uint32_t event_count)
{
        return (struct record_header){
                .kind = RECORD_EVENTS,
                .payload_size = (uint32_t)payload.size,
                .payload_crc = record_payload_crc(SEED, payload),
                .index = 1,
                .term = 1,
                .event_count = event_count,
        };
}

static bool is_inside(struct bytes part, struct bytes whole)
{
        return part.size == 0 ||
               (part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static struct event_draft draft_of(const struct event_view *e, struct bytes *tags)
{
        struct bytes at = e->tags;
        unsigned count = 0;

        while (count < TAGS_MAX && event_tag_next(&at, &tags[count]))
                count++;
        require(count == e->tag_count);
        return (struct event_draft){
                .id = e->id,
                .type = e->type,
                .content_type = e->content_type,
                .data = e->data,
                .metadata = e->metadata,
                .tags = tags,
                .tag_count = count,
        };
}

/* Gives the number of events, 0 if the payload was refused. */
static unsigned read_all(struct bytes payload, uint32_t event_count, struct event_view *kept)
{
        struct record_header h = header_of(payload, event_count);
        struct record_events_reader r = {0};
        struct event_view e;
        unsigned n = 0;
        int result = record_events_open(&r, &h, payload);

        while (!result) {
                result = record_events_next(&r, &e);
                if (result)
                        break;
                require(is_inside(e.stream, payload) && is_inside(e.type, payload));
                require(is_inside(e.data, payload) && is_inside(e.metadata, payload) &&
                        is_inside(e.tags, payload));
                require(e.stream.size > 0 && e.stream.size <= LIMIT_STREAM_NAME_SIZE_MAX + 2);
                require(e.type.size <= LIMIT_EVENT_TYPE_SIZE_MAX);
                if (n < EVENTS_KEPT_MAX)
                        kept[n] = e;
                n++;
        }
        record_events_close(&r);
        require(result != RECORD_EVENTS_END || n == event_count);
        return result == RECORD_EVENTS_END ? n : 0;
}

/* Whether a store could have written this: valid names, consecutive revisions in each stream, tombstones
 * alone. */
static bool is_writable(const struct event_view *events, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                if (!stream_name_is_valid(events[i].stream) || events[i].type.size == 0)
                        return false;
                if (events[i].revision >= REVISION_MAX && n > 1)
                        return false;
                for (unsigned j = i; j-- > 0;) {
                        if (!bytes_equal(events[i].stream, events[j].stream))
                                continue;
                        if (events[i].revision != events[j].revision + 1)
                                return false;
                        break;
                }
        }
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct event_view kept[EVENTS_KEPT_MAX], again[EVENTS_KEPT_MAX];
        struct record_events_writer w;
        struct buffer out = {0};
        struct bytes tags[TAGS_MAX];
        unsigned n;

        if (size < 2)
                return 0;
        n = read_all(bytes_of(data + 1, size - 1), data[0], kept);
        if (n == 0 || n > EVENTS_KEPT_MAX || !is_writable(kept, n))
                return 0;
        record_events_begin(&w, &out, kept[0].time_us);
        for (unsigned i = 0; i < n; i++) {
                struct event_draft e = draft_of(&kept[i], tags);

                record_events_add(&w, kept[i].stream, kept[i].revision, &e);
        }
        record_events_end(&w);
        require(read_all(bytes_of(out.data, out.size), n, again) == n);
        for (unsigned i = 0; i < n; i++) {
                require(bytes_equal(kept[i].stream, again[i].stream) &&
                        kept[i].revision == again[i].revision);
                require(bytes_equal(kept[i].type, again[i].type) && bytes_equal(kept[i].data, again[i].data));
                require(bytes_equal(kept[i].metadata, again[i].metadata) &&
                        kept[i].time_us == again[i].time_us);
                require(event_id_equal(&kept[i].id, &again[i].id) &&
                        kept[i].content_type == again[i].content_type);
        }
        buffer_fini(&out);
        return 0;
}
