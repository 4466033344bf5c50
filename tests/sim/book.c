/* The book of a run of subscriptions: every event that was appended, what selects it, where it was told to
 * be, and the log that all of that is held against (C9). */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "subscriptions.h"

enum { APPEND_MAX = 6, DATA_SIZE = 64 };

const char *const subs_streams[SUBS_STREAMS] = {
        "order-0", "order-1", "order-2", "invoice-0", "invoice-1", "other"};
const char *const subs_types[SUBS_TYPES] = {"A", "B", "C"};

/* ---- selections ---- */

/* The check's own idea of what is selected. */
bool selects(const struct selecting *by, const struct noted *e)
{
        switch (by->kind) {
        case SELECTION_STREAM:
                return e->stream == by->of;
        case SELECTION_PREFIX: /* order- */
                return e->stream < 3;
        case SELECTION_TYPE:
        case SELECTION_PATTERN:
                return e->type == by->of;
        case SELECTION_REGEX: /* order and invoice, 0 and 1 */
                return e->stream != 2 && e->stream != 5;
        case SELECTION_PAYLOAD:
                return e->field == by->of;
        default:
                return true;
        }
}

uint64_t number_of(const struct selecting *by, const struct noted *e)
{
        return by->kind == SELECTION_STREAM ? e->revision : e->position;
}

uint64_t end_of(struct subs *s, const struct selecting *by)
{
        struct store_stream_info info;

        if (by->kind != SELECTION_STREAM)
                return store_next_position(s->store);
        if (store_stream_info(s->store, bytes_of_string(subs_streams[by->of]), &info)) {
                subs_fail(s, "a stream cannot be read");
                return 0;
        }
        return info.has_events ? info.last_revision + 1 : 0;
}

void selecting_write(const struct selecting *by, char *ret, size_t size)
{
        switch (by->kind) {
        case SELECTION_STREAM:
                snprintf(ret, size, "{\"kind\":\"stream\",\"stream\":\"%s\"}", subs_streams[by->of]);
                break;
        case SELECTION_PREFIX:
                snprintf(ret, size, "{\"kind\":\"prefix\",\"prefixes\":[\"order-\"]}");
                break;
        case SELECTION_TYPE:
                snprintf(ret, size, "{\"kind\":\"type\",\"types\":[\"%s\"]}", subs_types[by->of]);
                break;
        case SELECTION_REGEX:
                snprintf(ret, size,
                        "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^(order|invoice)-[01]$\"}");
                break;
        case SELECTION_PAYLOAD:
                snprintf(ret, size, "{\"kind\":\"payload\",\"match\":{\"field\":%u}}", by->of);
                break;
        case SELECTION_PATTERN:
                snprintf(ret, size, "{\"kind\":\"pattern\",\"match\":{\"type\":\"%s\"}}", subs_types[by->of]);
                break;
        default:
                snprintf(ret, size, "{\"kind\":\"all\"}");
        }
}

/* ---- the book ---- */

static void note_place(struct subs *s, int serial, uint64_t position, uint64_t revision)
{
        struct noted *e = &s->book[serial];

        if (e->has_place && (e->position != position || e->revision != revision)) {
                subs_fail(s, "C9: event %d is at %llu, revision %llu, and was at %llu, revision %llu", serial,
                        (unsigned long long)position, (unsigned long long)revision,
                        (unsigned long long)e->position, (unsigned long long)e->revision);
                return;
        }
        e->has_place = true;
        e->position = position;
        e->revision = revision;
}

/* What an event says of itself: a link in its metadata, any other in its data. */
static bool read_data(struct bytes data, unsigned *ret_field, int *ret_serial)
{
        char text[DATA_SIZE];

        if (data.size >= sizeof text)
                return false;
        memcpy(text, data.data, data.size);
        text[data.size] = 0;
        return sscanf(text, "{\"field\":%u,\"serial\":%d}", ret_field, ret_serial) == 2;
}

static struct bytes type_of(const struct noted *e)
{
        return e->is_link ? EVENT_TYPE_LINK : bytes_of_string(subs_types[e->type]);
}

int subs_identify_item(struct subs *s, const struct store_read_item *item, bool is_resolved)
{
        int serial = subs_identify(s, item->has_link ? &item->link : &item->event);
        const struct noted *e;

        if (serial == SERIAL_NONE)
                return SERIAL_NONE;
        e = &s->book[serial];
        if (item->has_link != (is_resolved && e->is_link))
                subs_fail(s, "C9: event %d comes with%s a link", serial, item->has_link ? "" : "out");
        else if (item->has_link && item->has_event && subs_identify(s, &item->event) != e->target)
                subs_fail(s, "C9: link %d does not lead to %d", serial, e->target);
        else if (!item->has_event && !s->book[e->target].is_hidden)
                subs_fail(s, "C9: what link %d leads to, %d, is not there", serial, e->target);
        return subs_has_failed(s) ? SERIAL_NONE : serial;
}

int subs_identify(struct subs *s, const struct event_view *v)
{
        unsigned field;
        int serial;
        const struct noted *e;

        if (v->stream.size && v->stream.data[0] == '$')
                return SERIAL_NONE;
        if (!read_data(bytes_equal(v->type, EVENT_TYPE_LINK) ? v->metadata : v->data, &field, &serial) ||
                serial < 0 || serial >= s->serial_count) {
                subs_fail(s, "C9: an event at %llu that nobody wrote", (unsigned long long)v->position);
                return SERIAL_NONE;
        }
        e = &s->book[serial];
        if (e->field != field || !bytes_equal(v->stream, bytes_of_string(subs_streams[e->stream])) ||
                !bytes_equal(v->type, type_of(e)) || memcmp(&e->id, &v->id, sizeof e->id) != 0) {
                subs_fail(s, "C9: event %d is not as it was written", serial);
                return SERIAL_NONE;
        }
        note_place(s, serial, v->position, v->revision);
        return subs_has_failed(s) ? SERIAL_NONE : serial;
}

/* The whole log: what anybody was told of is there, where it was (C9). */
void subs_read_log(struct subs *s)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int r = store_reader_open(s->store, &o, &reader);

        s->log_count = 0;
        for (int n = 0; n < s->serial_count; n++)
                s->book[n].is_in_log = false;
        for (unsigned i = 0; i < SUBS_STREAMS; i++)
                memset(s->by_revision[i], -1, SERIALS_MAX * sizeof(int));
        while (!r && ((r = store_reader_next(reader, &item)) == 0 || r == STORE_READ_YIELD)) {
                int serial;

                if (r == STORE_READ_YIELD) {
                        r = 0;
                        continue;
                }
                serial = subs_identify(s, &item.event);
                if (serial == SERIAL_NONE)
                        continue;
                s->book[serial].is_in_log = true;
                s->log[s->log_count++] = serial;
                if (item.event.revision < SERIALS_MAX)
                        s->by_revision[s->book[serial].stream][item.event.revision] = serial;
        }
        store_reader_close(&reader);
        if (r != STORE_READ_END)
                subs_fail(s, "the log cannot be read: %d", r);
        for (int n = 0; n < s->serial_count; n++)
                if (s->book[n].has_place && !s->book[n].is_in_log)
                        subs_fail(s, "C9: event %d, that somebody knows of, is not in the log", n);
}

/* ---- appends ---- */

struct append {
        struct subs *subs;
        int first;
        unsigned count;
};

/* The store looks at the space now and then: until it does it answers as before. */
static bool has_been_short(const struct subs *s)
{
        return os_monotonic_us(s->os) - s->was_short_us < 5 * 1000 * 1000;
}

static void on_appended(void *arg, const struct store_append_result *result)
{
        struct append *a = arg;
        struct subs *s = a->subs;

        s->appends_outstanding--;
        if (result->verdict == STORE_OK) {
                uint64_t last = result->streams[0].revision;

                for (unsigned i = 0; i < a->count; i++) {
                        const struct noted *e = &s->book[a->first + (int)i];
                        uint64_t revision = last + 1 - a->count + i;

                        note_place(s, a->first + (int)i, result->first_position + i, revision);
                        if (revision < SERIALS_MAX)
                                s->by_revision[e->stream][revision] = a->first + (int)i;
                }
                s->totals->events += a->count;
        } else if (result->verdict != STORE_BUSY && result->verdict != STORE_NOT_READY &&
                   result->verdict != STORE_UNKNOWN &&
                   !(result->verdict == STORE_FULL && (s->is_short || has_been_short(s)))) {
                subs_fail(s, "an append is answered with %d: %s", (int)result->verdict, result->problem);
        }
        free(a);
}

/* An event that is known to be in the log; SERIAL_NONE: the one that was looked at is not. */
static int any_known(struct subs *s)
{
        int n = s->serial_count ? (int)subs_choose(s, (uint64_t)s->serial_count) : SERIAL_NONE;

        return n != SERIAL_NONE && s->book[n].has_place && !s->book[n].is_link ? n : SERIAL_NONE;
}

/* Writes the next event of the book. */
static void draft_event(struct subs *s, unsigned stream, struct event_draft *ret, char *data, char *metadata)
{
        struct noted *e = &s->book[s->serial_count];
        int target = subs_one_in(s, 8) ? any_known(s) : SERIAL_NONE;

        *e = (struct noted){.stream = (uint8_t)stream,
                .type = (uint8_t)subs_choose(s, SUBS_TYPES),
                .field = (uint8_t)subs_choose(s, SUBS_FIELDS)};
        if (target != SERIAL_NONE) { /* of no type or field that anybody selects */
                e->is_link = true;
                e->target = target;
                e->type = SUBS_TYPES;
                e->field = SUBS_FIELDS;
        }
        os_random(s->os, e->id.bytes, sizeof e->id.bytes);
        event_id_stamp_random(&e->id);
        snprintf(e->is_link ? metadata : data, DATA_SIZE, "{\"field\":%u,\"serial\":%d}", e->field,
                s->serial_count);
        if (e->is_link)
                snprintf(data, DATA_SIZE, "%llu@%s", (unsigned long long)s->book[target].revision,
                        subs_streams[s->book[target].stream]);
        *ret = (struct event_draft){.id = e->id,
                .type = type_of(e),
                .content_type = e->is_link ? CONTENT_BINARY : CONTENT_JSON,
                .data = bytes_of_string(data),
                .metadata = bytes_of_string(e->is_link ? metadata : "")};
        s->serial_count++;
}

static void on_deleted(void *arg, const struct store_append_result *result)
{
        struct subs *s = arg;

        s->is_deleting = false;
        if (result->verdict != STORE_OK && result->verdict != STORE_BUSY &&
                result->verdict != STORE_NOT_READY && result->verdict != STORE_UNKNOWN &&
                result->verdict != STORE_FULL)
                subs_fail(s, "a deletion is answered with %d: %s", (int)result->verdict, result->problem);
}

/* For now: what comes later is there again. Whether it takes place is not looked at: what it may hide may be
 * missing. */
void subs_delete_stream(struct subs *s)
{
        unsigned stream = (unsigned)subs_choose(s, SUBS_STREAMS);
        struct store_delete del = {
                .stream = bytes_of_string(subs_streams[stream]), .expected = {.kind = EXPECTED_ANY}};
        struct store_stream_info info;

        if (s->is_deleting || s->has_disk_fault || store_stream_info(s->store, del.stream, &info) ||
                info.state != STREAM_LIVE)
                return;
        for (int n = 0; n < s->serial_count; n++)
                if (s->book[n].stream == stream)
                        s->book[n].is_hidden = true;
        subs_tell(s, "%s is deleted", subs_streams[stream]);
        s->is_deleting = true;
        del.write_id = control_next_write_id(s->control);
        store_delete(s->store, &del, on_deleted, s);
        os_turn_again(s->os);
}

void subs_append(struct subs *s)
{
        unsigned count = 1 + (unsigned)subs_choose(s, APPEND_MAX);
        unsigned stream = (unsigned)subs_choose(s, SUBS_STREAMS);
        struct store_append_stream to = {bytes_of_string(subs_streams[stream]), {.kind = EXPECTED_ANY}};
        struct store_append_event events[APPEND_MAX] = {0};
        char data[APPEND_MAX][DATA_SIZE], metadata[APPEND_MAX][DATA_SIZE];
        struct store_append o = {.streams = &to, .stream_count = 1, .events = events, .event_count = count};
        struct append *a;

        if (s->serial_count + (int)count > SERIALS_MAX || s->has_disk_fault)
                return;
        a = MEMORY_NEW(struct append);
        *a = (struct append){s, s->serial_count, count};
        for (unsigned i = 0; i < count; i++)
                draft_event(s, stream, &events[i].draft, data[i], metadata[i]);
        o.write_id = control_next_write_id(s->control);
        s->appends_outstanding++;
        s->totals->appends++;
        store_append(s->store, &o, on_appended, a);
        os_turn_again(s->os);
}
