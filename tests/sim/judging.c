/* What durable subscriptions are held against: which of the events are finished, parked or neither; that the
 * checkpoint is above nothing that is neither, and not far below (C10, G11). */
#include <stdlib.h>

#include "base/memory.h"
#include "subscriptions.h"

enum {
        CHECKPOINT_LATE_US = 1500000
}; /* a refused one is tried again after half a second, and the disk takes its time */

static void on_info(void *arg, const struct emitter_info *info)
{
        *(struct emitter_info *)arg = *info;
}

bool group_read_info(struct group *g, struct emitter_info *ret)
{
        return emitter_info(g->subs->emitter, group_stream(g), group_name(g), on_info, ret) == EMITTER_OK;
}

static void note_parked(struct group *g, uint64_t n, int serial)
{
        g->flags[serial] |= IS_PARKED;
        for (unsigned i = 0; i < g->parked_count; i++)
                if (g->parked[i].number == n)
                        return;
        if (g->parked_count == g->parked_capacity) {
                g->parked_capacity = g->parked_capacity ? g->parked_capacity * 2 : 16;
                g->parked = memory_resize(g->parked, g->parked_capacity * sizeof *g->parked);
        }
        g->parked[g->parked_count++] = (struct parked_link){n, serial};
        g->subs->totals->parked++;
}

static int serial_at(const struct subs *s, struct bytes stream, uint64_t revision)
{
        for (unsigned i = 0; i < SUBS_STREAMS; i++)
                if (bytes_equal(stream, bytes_of_string(subs_streams[i])))
                        return revision < SERIALS_MAX ? s->by_revision[i][revision] : SERIAL_NONE;
        return SERIAL_NONE;
}

/* False: it cannot be told now. */
static bool read_parked(struct group *g)
{
        struct buffer name = {0};
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int r;

        if (emitter_parked_stream(g->subs->emitter, group_stream(g), group_name(g), &name) != EMITTER_OK) {
                buffer_fini(&name);
                return false;
        }
        o.stream = buffer_bytes(&name);
        r = store_reader_open(g->subs->store, &o, &reader);
        buffer_fini(&name);
        while (!r && ((r = store_reader_next(reader, &item)) == 0 || r == STORE_READ_YIELD)) {
                struct bytes stream;
                uint64_t revision;
                int serial;

                if (r == STORE_READ_YIELD) {
                        r = 0;
                        continue;
                }
                if (!event_link_parse(item.event.data, &revision, &stream)) {
                        subs_fail(g->subs, "C10: a parked event of %s is no link", g->name);
                        break;
                }
                serial = serial_at(g->subs, stream, revision);
                if (serial != SERIAL_NONE && emitter_is_parked(g->subs->emitter, group_stream(g),
                                                     group_name(g), item.event.revision))
                        note_parked(g, item.event.revision, serial);
                if (serial == SERIAL_NONE && g->selecting.kind != SELECTION_ALL)
                        subs_fail(g->subs, "C10: %s has parked what is none of ours", g->name);
        }
        store_reader_close(&reader);
        return true;
}

static bool has_other_link(const struct group *g, unsigned at)
{
        for (unsigned i = 0; i < g->parked_count; i++)
                if (g->parked[i].serial == g->parked[at].serial && g->parked[i].number > g->parked[at].number)
                        return true;
        return false;
}

/* What is parked stays so until somebody has finished it, or it is parked once more. */
static void check_parked(struct group *g)
{
        for (unsigned i = 0; i < g->parked_count; i++) {
                struct parked_link *p = &g->parked[i];

                if (!emitter_is_parked(g->subs->emitter, group_stream(g), group_name(g), p->number) &&
                        !(g->flags[p->serial] & WAS_FINISHED) && !has_other_link(g, i) &&
                        !g->subs->book[p->serial].is_hidden)
                        subs_fail(g->subs, "C10: %s: parked event %llu (%d) is gone", g->name,
                                (unsigned long long)p->number, p->serial);
        }
}

/* The lowest event that is not finished, as the server tells it; end of the log, or the stream, if all are.
 */
static uint64_t lowest_unfinished(struct group *g, const struct emitter_info *info)
{
        uint64_t end = end_of(g->subs, &g->selecting);

        return end - MIN(end, info->lag_events);
}

/* What a crash would deliver twice (G11): what is finished above the lowest unfinished event, and below it no
 * more than the policy leaves out of the checkpoint. What is below it will never be given again in this life.
 */
static void check_again(struct group *g, const struct emitter_info *info)
{
        struct subs *s = g->subs;
        uint64_t now = os_monotonic_us(s->os), lowest = lowest_unfinished(g, info);
        uint64_t late_us = g->settings.checkpoint_after_ms * 1000ull + CHECKPOINT_LATE_US;
        uint32_t count = 0, late = 0;

        g->floor = MAX(g->floor, lowest);
        if (s->is_short || now - s->was_short_us < late_us) {
                memset(g->passed_us, 0, sizeof g->passed_us);
                return;
        }
        for (int n = 0; n < s->serial_count; n++) {
                if (!s->book[n].has_place || s->book[n].is_hidden || !group_selects(g, n) ||
                        group_number(g, n) >= lowest || group_number(g, n) < g->start_high ||
                        (g->flags[n] & (WAS_FINISHED | IS_EXCUSED)) != WAS_FINISHED ||
                        (info->has_checkpoint && group_number(g, n) <= info->checkpoint))
                        continue;
                if (!g->passed_us[n])
                        g->passed_us[n] = now;
                count += now - g->passed_us[n] >= CHECKPOINT_LATE_US;
                late += now - g->passed_us[n] >= late_us;
        }
        if (late >= g->settings.min_checkpoint_count)
                subs_fail(s,
                        "G11: %s (%s) has left %u events out of its checkpoint, %llu, for %llu ms, and may "
                        "%u; the "
                        "lowest unfinished is %llu",
                        g->name, info->state, late, (unsigned long long)info->checkpoint,
                        (unsigned long long)late_us / 1000, g->settings.min_checkpoint_count,
                        (unsigned long long)lowest);
        if (count > g->settings.max_checkpoint_count)
                subs_fail(s, "G11: %s has left %u events out of its checkpoint, and may %u", g->name, count,
                        g->settings.max_checkpoint_count);
}

void group_verify(struct group *g)
{
        struct subs *s = g->subs;
        struct emitter_info info;

        if (!g->exists || g->asked || !group_read_info(g, &info))
                return;
        if (!strcmp(info.state, "failed")) {
                if (!s->has_disk_fault)
                        subs_fail(s, "%s has failed: %s", g->name, info.problem);
                return;
        }
        if (!read_parked(g) || subs_has_failed(s))
                return;
        check_parked(g);
        check_again(g, &info);
        if (g->has_checkpoint && (!info.has_checkpoint || info.checkpoint < g->checkpoint))
                subs_fail(s, "C10: the checkpoint of %s went back from %llu", g->name,
                        (unsigned long long)g->checkpoint);
        if (!info.has_checkpoint)
                return;
        g->has_checkpoint = true;
        g->checkpoint = info.checkpoint;
        s->totals->checkpoints_checked++;
        for (int n = 0; n < s->serial_count; n++) {
                if (!s->book[n].has_place || !group_selects(g, n) || group_number(g, n) > info.checkpoint ||
                        group_number(g, n) < g->start_high)
                        continue;
                if (!(g->flags[n] & (WAS_FINISHED | IS_PARKED | IS_EXCUSED)) && !s->book[n].is_hidden) {
                        subs_fail(s,
                                "C10: the checkpoint of %s, %llu, is above %llu (%d), which is neither "
                                "finished nor parked",
                                g->name, (unsigned long long)info.checkpoint,
                                (unsigned long long)group_number(g, n), n);
                        return;
                }
        }
}

/* The first event that is selected and that nobody has finished; SERIAL_NONE: none. */
static int first_undone(struct group *g)
{
        struct subs *s = g->subs;

        for (int n = 0; g->exists && n < s->serial_count; n++)
                if (s->book[n].has_place && group_selects(g, n) && group_number(g, n) >= g->start_high &&
                        !(g->flags[n] & (WAS_FINISHED | IS_EXCUSED)) && !s->book[n].is_hidden)
                        return n;
        return SERIAL_NONE;
}

bool group_is_done(struct group *g)
{
        return first_undone(g) == SERIAL_NONE;
}

void group_fail_undone(struct group *g)
{
        int n = first_undone(g);
        struct emitter_info info = {.state = "?"};

        if (n == SERIAL_NONE)
                return;
        (void)group_read_info(g, &info);
        subs_fail(g->subs,
                "C10: %s never has %d (number %llu, flags %x, holder %d) finished; it is %s, checkpoint "
                "%llu, in flight %u, parked %llu, "
                "retries %u; kind %d",
                g->name, n, (unsigned long long)group_number(g, n), g->flags[n], g->holder[n], info.state,
                (unsigned long long)info.checkpoint, info.in_flight, (unsigned long long)info.parked,
                info.retries, (int)g->selecting.kind);
}

void group_verify_end(struct group *g)
{
        struct subs *s = g->subs;
        struct emitter_info info;

        if (!g->exists || !group_read_info(g, &info) || subs_has_failed(s))
                return;
        if (info.in_flight || info.retries || info.parked)
                subs_fail(s,
                        "C10: %s: %u in flight, %u retries, %llu parked after everything was finished (kind "
                        "%d)",
                        g->name, info.in_flight, info.retries, (unsigned long long)info.parked,
                        (int)g->selecting.kind);
}

/* After an orderly stop with everything finished: nothing would be delivered again (G11). */
void group_verify_stopped(struct group *g)
{
        struct subs *s = g->subs;
        struct emitter_info info;

        if (!g->exists || !group_read_info(g, &info))
                return;
        for (int n = 0; n < s->serial_count; n++) {
                if (!s->book[n].has_place || !group_selects(g, n) || group_number(g, n) < g->start_high ||
                        !(g->flags[n] & WAS_FINISHED))
                        continue;
                if (!info.has_checkpoint || group_number(g, n) > info.checkpoint) {
                        subs_fail(s, "C10: the stop left the checkpoint of %s at %llu, behind %llu", g->name,
                                (unsigned long long)info.checkpoint, (unsigned long long)group_number(g, n));
                        return;
                }
        }
}
