/* The life of an open log: open, start, its timer, close. */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"
#include "persistence/filler.h"
#include "persistence/group.h"
#include "persistence/lost.h"
#include "persistence/recovery.h"
#include "persistence/text.h"

static struct persistence *log_new(const struct persistence_options *o)
{
        struct persistence *p = MEMORY_NEW(struct persistence);

        p->os = o->os;
        p->control = o->control;
        p->node = o->node;
        p->segment_size = o->segment_size ? o->segment_size : LOG_SEGMENT_SIZE_DEFAULT;
        p->segment_events_max = o->segment_events_max ? o->segment_events_max : LOG_SEGMENT_EVENTS_DEFAULT;
        p->space_reserve = o->space_reserve ? o->space_reserve : LOG_SPACE_RESERVE_DEFAULT;
        p->read_only = o->read_only;
        p->may_cut_damage = o->may_cut_damage;
        p->may_cut_arg = o->may_cut_arg;
        p->skip_crc = o->skip_crc;
        p->skip_sync = o->skip_sync;
        p->scrub_us = o->scrub_us;
        p->cache = cache_new(o->cache_size ? o->cache_size : LOG_CACHE_SIZE_DEFAULT);
        /* A segment of many streams has an index that is larger than the cache: it is sealed before that. */
        p->tail_size_max = MAX(
                (o->cache_size ? o->cache_size : LOG_CACHE_SIZE_DEFAULT) / LOG_TAIL_SHARE, LOG_TAIL_SIZE_MIN);
        list_init(&p->in_flight);
        list_init(&p->retained);
        list_init(&p->cold_reads);
        list_init(&p->readers);
        list_init(&p->fetches);
        p->reader_bytes_max = (o->cache_size ? o->cache_size : LOG_CACHE_SIZE_DEFAULT) / 2;
        assert(p->segment_size > SEGMENT_HEADER_SIZE && p->segment_size <= SEGMENT_SIZE_LIMIT / 2);
        assert(p->segment_events_max <= SEGMENT_EVENTS_LIMIT);
        return p;
}

static void log_free(struct persistence *p)
{
        size_t i;

        group_drop_all(p);
        if (p->gathering)
                group_free(p->gathering);
        filler_free(&p->filler);
        for (i = 0; i < p->segment_count; i++)
                log_segment_free(&p->segments[i]);
        free(p->segments);
        free(p->configurations);
        persistence_recovered_free(p);
        ids_fini(&p->ids);
        cache_free(&p->cache);
        buffer_fini(&p->spare_bytes);
        entries_walk_fini(&p->outgoing);
        vote_close(&p->vote);
        store_file_fini(&p->store);
        free(p->log_path);
        free(p->path);
        free(p);
}

static int log_open(struct persistence *p, const struct persistence_options *o)
{
        struct event_id id;
        int r;

        r = store_directory_open(p->node, o, &p->path, &p->store);
        if (r)
                return r;
        p->log_path = text_format("%s/log", p->path);
        memcpy(id.bytes, p->store.uuid, 16);
        event_id_format(&id, p->uuid_text);
        r = vote_open(&p->vote, p->os, p->path, &p->node->identity, p->store.uuid, p->read_only);
        if (!r)
                r = log_load_lost(p);
        return r ? r : log_recover(p);
}

int persistence_open(const struct persistence_options *options, struct persistence **ret)
{
        uint64_t before = os_monotonic_us(options->os);
        struct persistence *p = log_new(options);
        int r;

        r = log_open(p, options);
        if (r) {
                log_free(p);
                return r;
        }
        p->open_us = os_monotonic_us(options->os) - before;
        *ret = p;
        return 0;
}

const struct persistence_recovered *persistence_recovered(const struct persistence *p)
{
        return &p->recovered;
}

void persistence_recovered_free(struct persistence *p)
{
        if (!p->recovered_entries && !p->recovered_payloads.data)
                return;
        free(p->recovered_entries);
        p->recovered_entries = NULL;
        buffer_fini(&p->recovered_payloads);
        p->recovered.entries = NULL;
        p->recovered.entry_count = 0;
}

/* ---- the timer ---- */

static bool log_wants_watermark(const struct persistence *p)
{
        return !p->ends_with_watermark && log_active(p)->record_count > 0 && !p->gathering &&
               !p->groups_in_flight;
}

void log_timer_arm(struct persistence *p)
{
        if (!p->is_started || p->is_closing || p->read_only || p->timer.is_on || atomic_load(&p->has_failed))
                return;
        if (log_wants_watermark(p) || log_wants_seal(p) || p->gathering || p->groups_in_flight ||
                p->space != SPACE_FINE)
                os_timer_start(p->os, &p->timer, MIN(LOG_WATERMARK_AFTER_US, LOG_SPACE_LOOK_US));
}

static void log_on_timer(struct os_timer *timer)
{
        struct persistence *p = timer->arg;
        int fault = filler_fault(p->filler);

        if (fault && !atomic_load(&p->has_failed))
                log_fail(p, fault);
        log_space_look(p);
        if (log_wants_watermark(p) && os_monotonic_us(p->os) >= p->written_at_us + LOG_WATERMARK_AFTER_US)
                group_write_watermark(p, false);
        log_seal_next(p);
        filler_kick(p->filler);
        log_timer_arm(p);
}

/* ---- start and close ---- */

static void log_publish_opened(struct persistence *p)
{
        struct fact_payload payload = {.position = p->recovered.next_position,
                .count = (uint32_t)p->segment_count,
                .duration_us = p->open_us};

        if (!p->control)
                return;
        fact_set_text(&payload, "%s", p->store.name);
        control_publish(p->control, FACT_log_opened, &payload);
        if (p->cut_bytes)
                log_publish_text(p, FACT_torn_tail_cut, 0, p->cut_bytes, NULL);
        if (p->was_lost_now)
                log_publish_text(p, FACT_corruption_found, p->recovered.next_position, 0,
                        "at the end of the log, which is cut there");
        for (size_t i = 0; i < p->sealed_count; i++)
                if (p->segments[i]->is_damaged)
                        log_publish_text(p, FACT_corruption_found, p->segments[i]->header.first_position, 0,
                                "in a sealed segment, at the start");
        if (p->quarantined)
                log_publish_text(p, FACT_file_quarantined, 0, p->quarantined, p->quarantined_name);
}

void persistence_start(struct persistence *p)
{
        assert(!p->is_started);
        p->is_started = true;
        p->timer = (struct os_timer){.fn = log_on_timer, .arg = p};
        log_publish_opened(p);
        if (p->read_only)
                return;
        log_space_look(p);
        filler_kick(p->filler);
        log_seal_next(p);
        log_timer_arm(p);
        log_scrub_start(p);
}

void persistence_close(struct persistence **log)
{
        struct persistence *p = *log;

        if (!p)
                return;
        p->is_closing = true;
        if (p->is_started)
                os_timer_stop(&p->timer);
        log_settle_writes(p);
        if (p->gathering) { /* never written, so nobody was told of it */
                p->last_index = p->gathering->first_index - 1;
                group_free(p->gathering);
                p->gathering = NULL;
        } else if (!p->read_only) {
                group_write_watermark(p, true);
        }
        log_scrub_close(p); /* it may have an index file built anew */
        if (p->sealing)
                job_settle(p->sealing);
        if (p->rebuilding)
                job_settle(p->rebuilding);
        log_mend_close(p);
        log_forget_readers(p);
        fetches_end(p);
        log_free(p);
        *log = NULL;
}

/* ---- what is going on ---- */

void persistence_stats(const struct persistence *p, struct persistence_stats *ret)
{
        struct cache_stats cache = cache_stats(p->cache);
        size_t i;

        *ret = p->stats;
        ret->events = p->committed_position;
        ret->records = p->last_index;
        ret->segments = p->segment_count;
        for (i = 0; i < p->segment_count; i++) {
                ret->log_bytes += p->segments[i]->end_offset;
                ret->index_bytes += p->segments[i]->index ? p->segments[i]->index->file_size : 0;
        }
        ret->cache_bytes = cache.bytes;
        ret->cache_hits = cache.hits;
        ret->cache_misses = cache.misses;
        ret->free_bytes = p->free_bytes;
        ret->is_full = p->space == SPACE_FULL;
        log_scrub_stats(p, &ret->scrub);
}

const char *persistence_store_uuid(const struct persistence *p)
{
        return p->uuid_text;
}

const uint8_t *persistence_store_id(const struct persistence *p)
{
        return p->store.uuid;
}

uint32_t persistence_epoch(const struct persistence *p)
{
        return p->store.epoch;
}

int persistence_set_epoch(struct persistence *p, uint32_t epoch)
{
        int r;

        assert(!p->read_only && epoch >= p->store.epoch);
        if (epoch == p->store.epoch)
                return 0;
        if (atomic_load(&p->has_failed))
                return fault_raise(-EIO);
        r = store_file_set_epoch(p->node, p->path, &p->store, epoch);
        if (r < 0)
                log_fail(p, r);
        return r;
}

const char *persistence_store_path(const struct persistence *p)
{
        return p->path;
}
