/* Entries that other leaders wrote become visible here: heads that are known follow, and who waits for a
 * stream hears of it. What is not known is read from the log when it is asked for, so a node that only
 * follows keeps no heads and looks at no event. */
#include <errno.h>

#include "store/room.h"

static void publish_events(
        struct store *s, struct bytes stream, uint64_t revision, uint64_t position, uint32_t count)
{
        struct fact_payload payload = {.revision = revision, .position = position, .count = count};

        fact_set_stream(&payload, stream, name_hash(stream));
        control_publish(s->control, FACT_events_persisted, &payload);
}

/* One fact for each run of events of one stream. */
static int follow_events(struct store *s, struct record_events_reader *reader)
{
        struct bytes stream = BYTES_EMPTY;
        uint64_t revision = 0, position = 0;
        uint32_t count = 0;
        struct event_view event;
        int r;

        while (!(r = record_events_next(reader, &event))) {
                if (count && !bytes_equal(stream, event.stream)) {
                        publish_events(s, stream, revision, position, count);
                        count = 0;
                }
                if (!count) {
                        stream = event.stream;
                        position = event.position;
                        if (!store_is_mutant(s, STORE_MUTANT_HEADS_STALE))
                                head_map_outdate(
                                        &s->heads, stream_is_meta(stream) ? stream_of_meta(stream) : stream);
                }
                revision = event.revision;
                count++;
        }
        if (count)
                publish_events(s, stream, revision, position, count);
        return r == RECORD_EVENTS_END ? 0 : PERSISTENCE_CORRUPT;
}

static int follow_entry(struct store *s, const struct persistence_entry *e)
{
        struct record_header h = {.kind = RECORD_EVENTS,
                .index = e->index,
                .first_position = e->first_position,
                .event_count = e->event_count,
                .term = e->term,
                .payload_size = (uint32_t)e->payload.size};
        struct record_events_reader reader = {0};
        int r;

        if (e->kind != RECORD_EVENTS)
                return 0;
        r = record_events_open(&reader, &h, e->payload);
        if (!r)
                r = follow_events(s, &reader);
        record_events_close(&reader);
        return r ? PERSISTENCE_CORRUPT : 0;
}

void follow_time(struct store *s, const struct persistence_entry *e)
{
        struct record_header h = {.kind = e->kind, .event_count = e->event_count};
        struct record_events_reader reader = {0};

        if (record_events_open(&reader, &h, e->payload) == 0 && !store_is_mutant(s, STORE_MUTANT_TIME_STANDS))
                s->last_time_us = MAX(s->last_time_us, reader.time_us);
        record_events_close(&reader);
}

int follow_entries(struct store *s, uint64_t first, uint64_t last)
{
        /* Nobody knows a head yet, and nobody waits. */
        if (s->state == STORE_STARTING)
                return 0;
        while (first <= last) {
                struct persistence_entries run;
                int r = persistence_entries_read(
                        s->persistence, first, last, RUN_ENTRIES_MAX, RUN_SIZE_MAX, &run);

                for (unsigned i = 0; i < run.count && !r; i++)
                        r = follow_entry(s, &run.entries[i]);
                if (r)
                        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT
                               : r > 0                  ? fault_raise(-EIO)
                                                        : fault_fold(r);
                first += run.count;
        }
        return 0;
}
