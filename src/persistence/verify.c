/* Verifies a whole store (persistence_verify): every segment is walked from its first byte, with sums, chain,
 * indexes, positions and, per stream, revisions; every index file is built anew in memory and compared with
 * the one on disk byte for byte; the vote's slots and the id window's checkpoint are read. Goes on after a
 * finding wherever it can, so that one run tells everything. */
#include <errno.h>
#include <stdlib.h>

#include <xxhash.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/text.h"

enum { VERIFY_SLOTS_MIN = 1024 };

/* Next revision per stream, by a 128-bit hash of the name, which no two names of a store will share by
 * accident. */
struct verify_stream {
        XXH128_hash_t name;
        uint64_t next_revision; /* 0: a free slot */
};

struct verify {
        struct persistence *p;
        const struct persistence_verify *options;
        uint64_t problems;
        uint64_t done_bytes;
        uint64_t total_bytes;
        uint64_t told_bytes;
        struct verify_stream *streams;
        size_t stream_count;
        size_t slot_count;
        /* what must come next */
        uint64_t next_index;
        uint64_t next_position;
        uint64_t term;
        uint64_t time_us;
        struct record_chain chain;
        bool is_known; /* false behind damage: the next record sets the numbers */
};

static void verify_problem(struct verify *v, const char *file, uint64_t offset, const char *what)
{
        v->problems++;
        if (v->options->problem)
                v->options->problem(v->options->arg, file, offset, what);
}

static void verify_progress(struct verify *v, uint64_t bytes)
{
        v->done_bytes += bytes;
        if (v->options->progress && v->done_bytes - v->told_bytes >= MIB) {
                v->told_bytes = v->done_bytes;
                v->options->progress(v->options->arg, v->done_bytes, MAX(v->total_bytes, v->done_bytes));
        }
}

/* ---- revisions ---- */

static struct verify_stream *verify_slot(struct verify_stream *slots, size_t slot_count, XXH128_hash_t name)
{
        size_t at = (size_t)name.low64 & (slot_count - 1);

        while (slots[at].next_revision && !XXH128_isEqual(slots[at].name, name))
                at = (at + 1) & (slot_count - 1);
        return &slots[at];
}

static void verify_grow(struct verify *v)
{
        size_t slot_count = v->slot_count ? v->slot_count * 2 : VERIFY_SLOTS_MIN, i;
        struct verify_stream *slots = memory_new_array(slot_count, sizeof slots[0]);

        for (i = 0; i < v->slot_count; i++)
                if (v->streams[i].next_revision)
                        *verify_slot(slots, slot_count, v->streams[i].name) = v->streams[i];
        free(v->streams);
        v->streams = slots;
        v->slot_count = slot_count;
}

static const char *verify_revision(struct verify *v, const struct event_view *e)
{
        struct verify_stream *s;
        XXH128_hash_t name = XXH3_128bits(e->stream.data, e->stream.size);
        bool is_new;

        if ((v->stream_count + 1) * 2 > v->slot_count)
                verify_grow(v);
        s = verify_slot(v->streams, v->slot_count, name);
        is_new = s->next_revision == 0;
        if (is_new) {
                s->name = name;
                v->stream_count++;
        }
        if (!is_new && s->next_revision == REVISION_MAX + 1)
                return "an event behind its stream's tombstone";
        if (e->revision != REVISION_MAX && e->revision != s->next_revision && v->is_known) {
                s->next_revision = e->revision + 1;
                return "a revision does not follow";
        }
        s->next_revision = e->revision + 1;
        return NULL;
}

/* ---- records ---- */

static const char *verify_events(struct verify *v, const struct record_header *h, struct bytes payload)
{
        struct record_events_reader events = {0};
        const char *what = NULL, *found;
        struct event_view e;
        uint64_t position = h->first_position;
        int r;

        r = record_events_open(&events, h, payload);
        if (!r && events.time_us < v->time_us)
                what = "its time goes back";
        if (!r)
                v->time_us = MAX(v->time_us, events.time_us);
        while (!r && (r = record_events_next(&events, &e)) == 0) {
                if (e.position != position++)
                        what = "a position in it does not follow";
                found = verify_revision(v, &e);
                what = found ? found : what;
        }
        record_events_close(&events);
        return r == RECORD_EVENTS_END ? what : "its events cannot be read";
}

static const char *verify_record(struct verify *v, const struct record_header *h, struct bytes payload)
{
        struct record_chain chain;
        const char *what = NULL;

        if (h->kind == RECORD_WATERMARK) {
                if (v->is_known && h->index + 1 != v->next_index)
                        return "a watermark's index is not that of the entry before it";
                return h->synced_through <= h->index ? NULL : "a watermark speaks of what comes later";
        }
        if (v->is_known) {
                record_chain_next(&v->chain, h->index, h->term, payload, &chain);
                if (h->index != v->next_index)
                        what = "its index does not follow";
                else if (h->first_position != v->next_position)
                        what = "its position does not follow";
                else if (h->term < v->term)
                        what = "its term goes back";
                else if (memcmp(&chain, &h->chain, sizeof chain) != 0)
                        what = "its chain hash does not follow";
                else if (h->synced_through >= h->index)
                        what = "its watermark speaks of what comes later";
        }
        if (!what && h->kind == RECORD_EVENTS)
                what = verify_events(v, h, payload);
        v->next_index = h->index + 1;
        v->next_position = h->first_position + h->event_count;
        v->term = h->term;
        v->chain = h->chain;
        v->is_known = true;
        return what;
}

/* ---- segments ---- */

static void verify_header(struct verify *v, const struct segment_header *h, const char *path)
{
        if (v->is_known) {
                if (h->first_index != v->next_index)
                        verify_problem(v, path, 80, "its first index does not follow");
                if (h->first_position != v->next_position)
                        verify_problem(v, path, 88, "its first position does not follow");
                if (memcmp(&h->previous_chain, &v->chain, sizeof v->chain) != 0)
                        verify_problem(v, path, 112, "its chain hash does not follow");
        }
        v->next_index = h->first_index;
        v->next_position = h->first_position;
        v->term = h->previous_term;
        v->chain = h->previous_chain;
        v->is_known = true;
}

/* The header as it is on disk now. *ret false: it cannot be used. */
static int verify_read_header(
        struct verify *v, struct os_file *file, const char *path, struct segment_header *h, bool *ret)
{
        uint8_t raw[SEGMENT_HEADER_SIZE] = {0};
        size_t got;
        int r;

        r = os_file_read(file, raw, sizeof raw, 0, &got);
        if (r && r != -EIO)
                return fault_fold(r);
        *ret = r == 0 && segment_header_decode(raw, h) == 0;
        if (!*ret)
                verify_problem(v, path, 0, "the header of the segment");
        return 0;
}

/* Walks the records up to the end of the log in this segment. */
static int verify_scan(struct verify *v, struct segment_scan *scan, const char *path)
{
        struct record_header h;
        struct bytes payload;
        const char *what;
        uint64_t offset;
        int r;

        while (scan->offset < scan->end) {
                offset = scan->offset;
                r = segment_scan_next(scan, &h, &payload);
                if (r == 0) {
                        what = verify_record(v, &h, payload);
                        if (what)
                                verify_problem(v, path, offset, what);
                        verify_progress(v, scan->offset - offset);
                        continue;
                }
                if (r < 0 && r != -EIO)
                        return r;
                verify_problem(v, path, offset, "a record: its sum, or it cannot be read");
                v->is_known = false;
                r = segment_scan_search(scan, &h);
                if (r)
                        return r < 0 && r != -EIO ? r : 0;
                /* It was found by its end; walk it again from its beginning. */
                scan->offset -= record_size(h.payload_size);
        }
        return 0;
}

static int verify_segment(struct verify *v, size_t number)
{
        struct persistence *p = v->p;
        struct log_segment *s = p->segments[number];
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "seg");
        uint64_t end = s->end_offset, next_index = log_segment_next_index(s);
        struct segment_header h = {0};
        struct segment_scan scan;
        struct os_file *file;
        bool is_usable;
        int r;

        if (next_index > p->synced_index + 1) { /* the rest is gathered, not written yet */
                next_index = p->synced_index + 1;
                end = (uint64_t)s->records[next_index - s->header.first_index].offset8 * RECORD_ALIGNMENT;
        }
        r = log_segment_file(p, s, &file);
        if (r > 0) {
                verify_problem(v, path, 0, "the file is missing");
                v->is_known = false;
                return 0;
        }
        if (!r)
                r = verify_read_header(v, file, path, &h, &is_usable);
        if (r)
                return r;
        verify_header(v, &s->header, path);
        verify_progress(v, SEGMENT_HEADER_SIZE);
        segment_scan_begin(&scan, file, &s->header, SEGMENT_HEADER_SIZE, end);
        r = verify_scan(v, &scan, path);
        p->stats.read_bytes += scan.read_bytes;
        segment_scan_fini(&scan);
        if (!r && v->next_index != next_index)
                verify_problem(v, path, end, "records are missing at its end");
        return r;
}

/* ---- other files ---- */

static int verify_index(struct verify *v, size_t number)
{
        struct persistence *p = v->p;
        struct log_segment *s = p->segments[number];
        CLEANUP(text_freep) char *path = segment_path(p->log_path, s->header.first_index, "idx");
        struct index_source source = {.os = p->os,
                .log_path = p->log_path,
                .header = &s->header,
                .last_index = log_segment_next_index(s) - 1};
        struct buffer expected = {0}, found = {0};
        size_t at = 0;
        int r;

        r = index_build(&source, &expected);
        if (r == 0)
                r = os_read_whole(p->os, path, expected.size, &found);
        if (r == INDEX_CORRUPT || r == -EFBIG || r == -EIO || r == OS_NOT_FOUND) {
                /* Of a damaged segment, or of another size than what the segment gives. */
                verify_problem(v, path, 0, "the index file cannot be compared with its segment");
                r = 0;
        } else if (!r && !bytes_equal(buffer_bytes(&expected), buffer_bytes(&found))) {
                while (at < MIN(expected.size, found.size) && expected.data[at] == found.data[at])
                        at++;
                verify_problem(v, path, at,
                        "the index file does not fit its segment; remove it and it is built anew");
        }
        verify_progress(v, found.size);
        buffer_fini(&expected);
        buffer_fini(&found);
        return fault_fold(r);
}

static int verify_small_files(struct verify *v)
{
        struct persistence *p = v->p;
        CLEANUP(text_freep) char *vote_path = text_format("%s/vote", p->path);
        CLEANUP(text_freep) char *ids_path = NULL;
        struct vote vote;
        struct ids ids = {0};
        struct log_segment *newest;
        int r;

        r = vote_open(&vote, p->os, p->path, &p->node->identity, p->store.uuid, true);
        if (r < 0)
                return r;
        if (r > 0)
                verify_problem(v, vote_path, 0, "term and vote");
        else if (vote.damaged_slots)
                verify_problem(v, vote_path, 0, "one of the two slots; the next start repairs it");
        vote_close(&vote);
        /* While a segment is being sealed its checkpoint takes the place of the one before. */
        if (!p->sealed_count || p->sealing)
                return 0;
        newest = p->segments[p->sealed_count - 1];
        ids_path = segment_path(p->log_path, newest->header.first_index, "ids");
        r = log_load_ids(p->os, p->log_path, &newest->header, log_segment_next_index(newest) - 1, &ids);
        ids_fini(&ids);
        if (r > 0)
                verify_problem(v, ids_path, 0, "the checkpoint of event ids; the next start rebuilds it");
        return r < 0 ? r : 0;
}

int persistence_verify(
        struct persistence *p, const struct persistence_verify *options, uint64_t *ret_problems)
{
        struct verify v = {.p = p, .options = options};
        size_t i;
        int r = 0;

        log_settle_writes(p);
        for (i = 0; i < p->segment_count; i++)
                v.total_bytes += p->segments[i]->end_offset +
                                 (p->segments[i]->index ? p->segments[i]->index->file_size : 0);
        for (i = 0; i < p->segment_count && !r; i++) {
                if (!p->segments[i]->file && !p->segments[i]->index)
                        continue; /* gathered, not written yet */
                r = verify_segment(&v, i);
                if (!r && p->segments[i]->index)
                        r = verify_index(&v, i);
        }
        if (!r)
                r = verify_small_files(&v);
        if (!r && options->progress)
                options->progress(options->arg, v.total_bytes, v.total_bytes);
        free(v.streams);
        *ret_problems = v.problems;
        return r;
}
