/* Recovery, the window of event ids (G6): from its newest checkpoint, or from the segments that it spans. */
#include "persistence/recovery.h"

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/text.h"

/* ---- the id window ---- */

/* Adds the ids of a sealed segment. A damaged record ends it, and the window begins anew behind it: the range
 * is refused to readers as well, and everything else goes on (G13). */
static int recovery_scan_ids(struct persistence *p, struct log_segment *s)
{
        struct segment_scan scan;
        struct record_header h;
        struct bytes payload;
        struct os_file *file;
        int r;

        r = log_segment_file(p, s, &file);
        if (r)
                return r < 0 ? r : recovery_corrupt(p, s->header.first_index, 0, "it is missing");
        segment_scan_begin(&scan, file, &s->header, SEGMENT_HEADER_SIZE, s->end_offset);
        while ((r = segment_scan_next(&scan, &h, &payload)) == 0) {
                struct record_events_reader events = {0};
                struct event_view e;

                if (h.kind != RECORD_EVENTS)
                        continue;
                r = record_events_open(&events, &h, payload);
                while (!r && (r = record_events_next(&events, &e)) == 0)
                        ids_add(&p->ids,
                                &(struct persistence_id){e.id, name_hash(e.stream), e.revision, e.position});
                record_events_close(&events);
        }
        if (r == SEGMENT_INVALID) {
                ids_fini(&p->ids);
                s->is_damaged = true;
        }
        segment_scan_fini(&scan);
        return r < 0 ? r : 0;
}

static int recovery_save_ids(struct persistence *p, const struct log_segment *newest)
{
        struct buffer bytes = {0};
        int r;

        ids_encode(&p->ids, &newest->header, log_segment_next_index(newest) - 1, &bytes);
        r = index_save(p->os, p->log_path, newest->header.first_index, "ids", buffer_bytes(&bytes));
        buffer_fini(&bytes);
        return r == INDEX_FULL ? 0 : r; /* the next start does it */
}

/* From the newest checkpoint, or without one from as many segments as the window spans. */
int recovery_load_ids(struct persistence *p)
{
        uint64_t events = 0;
        size_t begin = p->sealed_count, i;
        bool is_damaged = false;
        int r = IDS_INVALID;

        os_random(p->os, &p->ids.seed, sizeof p->ids.seed);
        for (i = p->sealed_count; i > 0 && r == IDS_INVALID && events < LIMIT_IDEMPOTENCY_WINDOW_IDS; i--) {
                struct log_segment *s = p->segments[i - 1];

                r = log_load_ids(p->os, p->log_path, &s->header, log_segment_next_index(s) - 1, &p->ids);
                if (r == IDS_INVALID) {
                        begin = i - 1;
                        events += s->event_count;
                }
        }
        if (r < 0)
                return r;
        if (begin == p->sealed_count)
                return 0;
        for (i = begin, r = 0; i < p->sealed_count && !r; i++) {
                r = recovery_scan_ids(p, p->segments[i]);
                is_damaged |= p->segments[i]->is_damaged;
        }
        /* A window with a gap is not kept: when the segment is mended, the next start makes a whole one. */
        return r || p->read_only || is_damaged ? r : recovery_save_ids(p, p->segments[p->sealed_count - 1]);
}

/* Only the newest checkpoint counts. A crash while a segment was sealed leaves the one before it as well. */
int recovery_remove_old_ids(struct recovery *rec)
{
        struct persistence *p = rec->p;
        uint64_t newest = p->sealed_count ? p->segments[p->sealed_count - 1]->header.first_index : 0;
        size_t i;
        int r = 0;

        for (i = 0; i < rec->checkpoint_count && !r; i++) {
                CLEANUP(text_freep) char *path = segment_path(p->log_path, rec->checkpoints[i], "ids");

                if (rec->checkpoints[i] == newest)
                        continue;
                r = os_remove(p->os, path);
                r = r == OS_NOT_FOUND ? 0 : fault_fold(r);
        }
        return r;
}
