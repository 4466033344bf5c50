/* A store's log as the loop sees it: its segments, appending, truncation.
 *
 * A segment is in one of three states: sealed (committed through its end, with an index file), full (followed
 * by another segment, but not sealed yet), active (the last one). Entries may be uncommitted in full segments
 * as well.
 *
 * Order of the numbers, always: committed_index <= synced_index <= submitted_index <= last_index. */
#include "persistence/log.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/fetch.h"
#include "persistence/filler.h"
#include "persistence/group.h"
#include "persistence/text.h"

static void assert_log_state(const struct persistence *p)
{
        assert(p->segment_count > p->sealed_count);
        assert(p->committed_index <= p->synced_index);
        assert(p->synced_index <= p->submitted_index && p->submitted_index <= p->last_index);
        assert(p->last_index + 1 == log_segment_next_index(log_active(p)));
}

/* ---- segments ---- */

struct log_segment *log_segment_add(struct persistence *p, const struct segment_header *h)
{
        struct log_segment *s = MEMORY_NEW(struct log_segment);

        if (p->segment_count == p->segment_capacity) {
                p->segment_capacity = p->segment_capacity ? p->segment_capacity * 2 : 8;
                p->segments = memory_resize(p->segments, p->segment_capacity * sizeof p->segments[0]);
        }
        s->header = *h;
        s->end_offset = SEGMENT_HEADER_SIZE;
        s->committed_end = SEGMENT_HEADER_SIZE;
        p->segments[p->segment_count++] = s;
        return s;
}

void log_segment_free(struct log_segment **segment)
{
        struct log_segment *s = *segment;

        if (!s)
                return;
        os_file_close(&s->file);
        tail_free(&s->tail);
        index_close(&s->index);
        free(s->records);
        free(s);
        *segment = NULL;
}

void log_segment_add_record(struct log_segment *s, uint64_t offset, uint32_t event_count)
{
        if (s->record_count == s->record_capacity) {
                s->record_capacity = s->record_capacity ? s->record_capacity * 2 : 64;
                s->records = memory_resize(s->records, s->record_capacity * sizeof s->records[0]);
        }
        s->records[s->record_count++] =
                (struct log_record){(uint32_t)(offset / RECORD_ALIGNMENT), (uint32_t)s->event_count};
        s->event_count += event_count;
}

size_t log_segment_of_index(const struct persistence *p, uint64_t index)
{
        size_t low = 0, high = p->segment_count;

        while (high - low > 1) {
                size_t middle = (low + high) / 2;

                if (p->segments[middle]->header.first_index <= index)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

size_t log_segment_of_position(const struct persistence *p, uint64_t position)
{
        size_t low = 0, high = p->segment_count;

        while (high - low > 1) {
                size_t middle = (low + high) / 2;

                if (p->segments[middle]->header.first_position <= position)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

/* The one used longest ago is closed for it. Nothing is written to a sealed segment any more. */
void log_make_room_for_file(struct persistence *p)
{
        struct log_segment *oldest = NULL;
        size_t i;

        if (p->open_files < LOG_OPEN_FILES_MAX)
                return;
        for (i = 0; i < p->sealed_count; i++) {
                struct log_segment *s = p->segments[i];

                if (s->file && !s->pins && (!oldest || s->last_used < oldest->last_used))
                        oldest = s;
        }
        if (!oldest)
                return;
        os_file_close(&oldest->file);
        oldest->writer = NULL;
        p->open_files--;
}

int log_segment_file(struct persistence *p, struct log_segment *s, struct os_file **ret)
{
        CLEANUP(text_freep) char *path = NULL;
        int r;

        s->last_used = ++p->use_clock;
        if (!s->file) {
                assert(s->index);
                log_make_room_for_file(p);
                path = segment_path(p->log_path, s->header.first_index, "seg");
                r = os_file_open(p->os, path, OS_OPEN_READ, &s->file);
                if (r == OS_NOT_FOUND)
                        return PERSISTENCE_CORRUPT;
                if (r)
                        return fault_fold(r);
                p->open_files++;
        }
        *ret = s->file;
        return 0;
}

/* ---- configurations: which one is in force where ---- */

void log_configuration_add(struct persistence *p, uint64_t index, struct bytes configuration)
{
        struct log_configuration *c;

        assert(configuration.size <= SEGMENT_CONFIGURATION_SIZE_MAX);
        if (p->configuration_count == p->configuration_capacity) {
                p->configuration_capacity = p->configuration_capacity ? p->configuration_capacity * 2 : 2;
                p->configurations = memory_resize(
                        p->configurations, p->configuration_capacity * sizeof p->configurations[0]);
        }
        c = &p->configurations[p->configuration_count++];
        c->index = index;
        c->size = (uint32_t)configuration.size;
        if (configuration.size)
                memcpy(c->bytes, configuration.data, configuration.size);
}

const struct log_configuration *log_configuration_last(const struct persistence *p)
{
        return p->configuration_count ? &p->configurations[p->configuration_count - 1] : NULL;
}

struct segment_header log_next_header(struct persistence *p)
{
        const struct log_configuration *c = log_configuration_last(p);
        struct segment_header h = {.node_id = p->node->identity.node_id,
                .generation = 1,
                .epoch = p->store.epoch,
                .first_index = p->last_index + 1,
                .first_position = p->next_append_position,
                .previous_term = p->last_term,
                .previous_time_us = p->last_time_us};

        memcpy(h.cluster_uuid, p->node->identity.cluster_uuid, 16);
        memcpy(h.store_uuid, p->store.uuid, 16);
        os_random(p->os, h.segment_uuid, sizeof h.segment_uuid);
        if (c) {
                h.configuration_index = c->index;
                h.configuration_size = c->size;
                memcpy(h.configuration, c->bytes, c->size);
        }
        return h;
}

/* ---- failing ---- */

void log_publish_text(
        struct persistence *p, enum fact_type type, uint64_t position, uint64_t count, const char *text)
{
        struct fact_payload payload = {.position = position, .count = (uint32_t)MIN(count, UINT32_MAX)};

        if (!p->control)
                return;
        fact_set_text(&payload, "%s", text ? text : p->store.name);
        control_publish(p->control, type, &payload);
}

void log_fail(struct persistence *p, int fault)
{
        struct fact_payload payload = {0};

        assert(fault < 0);
        atomic_store(&p->has_failed, true);
        if (!p->control)
                return;
        fact_set_text(&payload, "%s: %s", p->store.name, fault_last());
        control_publish(p->control, FACT_persistence_error, &payload);
}

/* ---- append ---- */

static bool log_is_full(const struct persistence *p, uint64_t size, uint32_t event_count)
{
        const struct log_segment *active = log_active(p);

        if (active->record_count == 0)
                return false; /* a record larger than a segment has one of its own */
        return active->end_offset + size > p->segment_size ||
               active->event_count + event_count > p->segment_events_max ||
               (active->tail && tail_size(active->tail) > p->tail_size_max);
}

static void log_publish_write(
        struct persistence *p, const struct persistence_entry *entry, const struct event_view *first)
{
        struct fact_payload payload = {
                .write_id = entry->write_id, .position = entry->first_position, .count = entry->event_count};

        fact_set_stream(&payload, first->stream, name_hash(first->stream));
        control_publish(p->control, FACT_persistence_write_started, &payload);
}

/* What the log must know of an entry beside its bytes. */
static void log_note_entry(
        struct persistence *p, const struct persistence_entry *entry, const struct record_header *h)
{
        struct record_events_reader reader = {0};
        struct event_view first;

        if (entry->kind == RECORD_CONFIGURATION)
                log_configuration_add(p, entry->index, entry->payload);
        if (entry->kind != RECORD_EVENTS)
                return;
        if (record_events_open(&reader, h, entry->payload) == 0) {
                p->last_time_us = MAX(p->last_time_us, reader.time_us);
                if (p->control && entry->write_id && record_events_next(&reader, &first) == 0)
                        log_publish_write(p, entry, &first);
        }
        record_events_close(&reader);
}

void persistence_append(struct persistence *p, const struct persistence_entry *entry)
{
        struct record_header h = {.payload_size = (uint32_t)entry->payload.size,
                .kind = entry->kind,
                .index = entry->index,
                .first_position = entry->first_position,
                .term = entry->term,
                .event_count = entry->event_count,
                .epoch = p->store.epoch};
        uint64_t size = record_size(h.payload_size);
        struct log_segment *segment;
        bool starts_segment;

        assert(!p->read_only && !p->is_closing);
        assert(entry->index == p->last_index + 1);
        assert(entry->term >= p->last_term);
        assert(entry->first_position == p->next_append_position);
        assert(entry->kind != RECORD_WATERMARK);
        assert((entry->kind == RECORD_EVENTS) == (entry->event_count > 0));
        persistence_recovered_free(p);
        if (log_is_full(p, size, entry->event_count)) {
                struct segment_header next = log_next_header(p);

                log_segment_add(p, &next);
        }
        if (!p->gathering)
                p->gathering = group_new(p);
        segment = log_active(p);
        /* Also one whose first entries were taken back before they were written. */
        starts_segment = segment->record_count == 0 && !segment->file;
        group_add(p->gathering, segment, starts_segment, &h, entry->payload, entry->write_id);
        if (!segment->tail)
                segment->tail = tail_new(false);
        log_segment_add_record(segment, segment->end_offset, entry->event_count);
        segment->end_offset += size;
        p->last_index = entry->index;
        p->last_term = entry->term;
        p->next_append_position += entry->event_count;
        p->ends_with_watermark = false;
        log_note_entry(p, entry, &h);
}

void persistence_write(struct persistence *p, bool on_this_thread, persistence_written *done, void *arg)
{
        struct log_group *g = p->gathering ? p->gathering : group_new(p);

        assert_log_state(p);
        assert(p->writes < PERSISTENCE_WRITES_MAX);
        p->gathering = NULL;
        g->done = done;
        g->arg = arg;
        p->writes++;
        group_submit(p, g, on_this_thread);
}

uint64_t persistence_group_size(const struct persistence *p)
{
        return p->gathering ? p->gathering->bytes.size : 0;
}

unsigned persistence_writes(const struct persistence *p)
{
        return p->writes;
}

uint64_t persistence_last_index(const struct persistence *p)
{
        return p->last_index;
}

uint64_t persistence_synced_index(const struct persistence *p)
{
        return p->synced_index;
}

int persistence_save_vote(struct persistence *p, uint64_t term, uint64_t voted_for)
{
        int r;

        assert(!p->read_only);
        if (atomic_load(&p->has_failed))
                return fault_raise(-EIO);
        r = vote_save(&p->vote, term, voted_for);
        if (r)
                log_fail(p, r);
        return r;
}

/* ---- truncation ---- */

/* Removes the newest segments that begin at or behind `index`, newest first, so that a crash leaves a log
 * without a hole. One whose predecessor is committed through its end stays, empty: that one may be on its way
 * to be sealed. */
static int log_remove_segments(struct persistence *p, uint64_t index)
{
        int r = 0;

        while (!r && log_active(p)->header.first_index >= index &&
                log_active(p)->header.first_index > p->committed_index + 1) {
                struct log_segment *s = log_active(p);
                CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
                bool has_file = s->file;

                assert(s->committed_records == 0 && !s->pins);
                p->segment_count--;
                log_segment_free(&s);
                if (has_file)
                        r = os_remove(p->os, path);
                /* One by one: the removals must not become durable in another order. */
                if (!r && has_file)
                        r = os_dir_sync(p->os, p->log_path);
        }
        return r;
}

/* Reads what stands before the cut from the header of the record before it. */
static int log_restore_state(struct persistence *p, struct log_segment *s)
{
        struct record_header h;
        uint8_t raw[RECORD_HEADER_SIZE];
        size_t got;
        int r;

        if (s->record_count == 0) {
                p->last_term = s->header.previous_term;
                /* Without a file nothing of it was written, and nothing before it was cut: the chain stands.
                 */
                if (s->file)
                        p->chain = s->header.previous_chain;
                return 0;
        }
        r = os_file_read(s->file, raw, sizeof raw,
                (uint64_t)s->records[s->record_count - 1].offset8 * RECORD_ALIGNMENT, &got);
        if (r)
                return r;
        if (got < sizeof raw || record_header_decode(raw, segment_seed(&s->header), &h) != 0)
                return fault_raise(-EIO);
        p->chain = h.chain;
        p->last_term = h.term;
        return 0;
}

/* Cuts the file of the active segment; the bytes behind must never come back (G13), so it is made durable
 * here. */
static int log_cut_file(struct persistence *p, struct log_segment *s)
{
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
        int r;

        filler_begin(p->filler, path, s->end_offset, s->end_offset);
        r = os_file_truncate(s->file, s->end_offset);
        if (!r)
                r = os_file_sync(s->file);
        return r;
}

/* Forgets the entries from `index` on in the tables of the active segment. */
static void log_cut_segment(struct log_segment *s, uint64_t index)
{
        uint64_t keep = index - s->header.first_index;

        assert(keep >= s->committed_records);
        if (keep >= s->record_count)
                return;
        s->end_offset = (uint64_t)s->records[keep].offset8 * RECORD_ALIGNMENT;
        s->event_count = s->records[keep].events_before;
        s->record_count = keep;
}

/* Drops what is gathered and not written yet, from `index` on. */
static void log_cut_gathering(struct persistence *p, uint64_t index)
{
        if (!p->gathering)
                return;
        if (index > p->gathering->first_index) {
                group_cut(p->gathering, index);
                return;
        }
        group_free(p->gathering);
        p->gathering = NULL;
}

static int log_truncate(struct persistence *p, uint64_t index)
{
        uint64_t written = p->synced_index;
        struct log_segment *s;
        int r;

        group_drop_all(p);
        log_cut_gathering(p, index);
        r = log_remove_segments(p, index);
        if (r)
                return r;
        s = log_active(p);
        log_cut_segment(s, index);
        while (p->configuration_count > 1 && log_configuration_last(p)->index >= index)
                p->configuration_count--;
        p->last_index = index - 1;
        p->next_append_position = s->header.first_position + s->event_count;
        p->ends_with_watermark = false;
        if (p->gathering) {
                /* The chain is computed when the group is written. */
                p->last_term = p->gathering->records[p->gathering->record_count - 1].header.term;
                return 0;
        }
        r = log_restore_state(p, s);
        if (r || index > written)
                return r;
        p->synced_index = index - 1;
        p->submitted_index = index - 1;
        return log_cut_file(p, s);
}

int persistence_truncate(struct persistence *p, uint64_t index)
{
        int r;

        assert_log_state(p);
        assert(index > p->committed_index && !p->read_only);
        log_settle_writes(p);
        if (atomic_load(&p->has_failed))
                return fault_raise(-EIO);
        if (index > p->last_index)
                return 0;
        persistence_recovered_free(p);
        fetches_hold(p, index);
        r = fault_fold(log_truncate(p, index));
        if (r)
                log_fail(p, r);
        else
                assert_log_state(p);
        /* What has failed half-way knows no entries any more: then they wait for the end. */
        if (!r)
                fetches_resume(p);
        return r;
}
