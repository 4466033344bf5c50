/* Reads: each event that comes is held against the model, and against how it was read before. */
#include <stdio.h>
#include <stdlib.h>

#include "room.h"

static bool has_prefix(const struct world *w, uint32_t side)
{
        return strncmp(w->names[side], "order-", 6) == 0;
}

static uint64_t hash_of_view(const struct event_view *e, uint64_t content)
{
        uint64_t h = content ^ get_u64(e->id.bytes) * 3 ^ get_u64(e->id.bytes + 8) * 5 ^ e->time_us * 7 ^
                     e->log_index * 11 ^ name_hash(e->tags) * 13;

        return h | 1;
}

static bool is_right(struct world *w, struct model_event *m, const struct event_view *e, uint64_t content)
{
        struct stream_metadata limits;

        if (!bytes_equal(e->stream, bytes_of_string(w->names[m->side])) || e->revision != m->revision)
                return false;
        if (m->has_id && !event_id_equal(&e->id, &m->id))
                return false;
        if (m->content)
                return content == m->content;
        if (m->revision == REVISION_MAX)
                return bytes_equal(e->type, EVENT_TYPE_STREAM_DELETED);
        if (m->side / 2 == w->stream_count - 1)
                return bytes_equal(e->type, BYTES_LITERAL("$nilo-store-created"));
        limits = stream_metadata_parse(e->data);
        return bytes_equal(e->type, EVENT_TYPE_METADATA) &&
               limits.truncate_before == m->limits.truncate_before && limits.max_count == m->limits.max_count;
}

/* True: the event is what must stand at its position, and is as it was when it was read before. */
static bool check_event(struct world *w, const struct event_view *e)
{
        uint64_t content = content_hash(e->type, e->content_type, e->data, e->metadata);
        uint64_t seen = hash_of_view(e, content);
        struct model_event *m;

        w->totals->events_read++;
        if (e->position >= w->model.event_count) {
                world_fail(w, "read: position %llu was never written", (unsigned long long)e->position);
                return false;
        }
        m = &w->model.events[e->position];
        if (!is_right(w, m, e, content)) {
                world_fail(w, "read: position %llu is %.*s %llu, expected %s %llu",
                        (unsigned long long)e->position, (int)MIN(e->stream.size, 40u),
                        (const char *)e->stream.data, (unsigned long long)e->revision, w->names[m->side],
                        (unsigned long long)m->revision);
                return false;
        }
        if (m->seen && m->seen != seen) {
                world_fail(w, "read: position %llu has changed", (unsigned long long)e->position);
                return false;
        }
        m->seen = seen;
        w->must_survive = MAX(w->must_survive, e->position + 1);
        return true;
}

/* ---- open readers ---- */

static void on_ready(void *arg)
{
        ((struct sim_reader *)arg)->is_ready = true;
}

static struct filter *stream_filter(struct world *w)
{
        struct bytes prefix = BYTES_LITERAL("order-");
        struct filter_options o = {.target = FILTER_STREAM, .prefixes = &prefix, .prefix_count = 1};
        struct filter *filter = NULL;
        char why[256];

        if (one_in(w, 2))
                o = (struct filter_options){.target = FILTER_STREAM, .regex = BYTES_LITERAL("^order-")};
        if (filter_new(&o, &filter, why, sizeof(why)))
                world_fail(w, "filter: %s", why);
        return filter;
}

static int corrupt_is_fine(struct world *w, const char *what)
{
        if (!w->allows_corrupt)
                world_fail(w, "%s: damaged bytes", what);
        w->corrupt_answers++;
        return STORE_READ_CORRUPT;
}

/* What the outcome of an opening must be. */
static int expected_opening(const struct world *w, const struct sim_reader *r, const struct model_view *v)
{
        (void)w;
        if (r->is_all || r->is_follow)
                return 0;
        return v->state == STREAM_TOMBSTONED ? STORE_READ_DELETED
               : v->state == STREAM_LIVE     ? 0
                                             : STORE_READ_NOT_FOUND;
}

static void set_range(struct sim_reader *r, const struct store_read_options *o, const struct model_view *v)
{
        uint64_t from = o->number;

        if (!r->is_backward) {
                if (o->from == FROM_START)
                        from = 0;
                if (o->from == FROM_END)
                        from = v->next;
                r->at = MAX(from, v->first);
                r->stop = r->is_follow ? UINT64_MAX : v->next;
                r->is_over = !r->is_follow && r->at >= r->stop;
                return;
        }
        r->stop = v->first;
        if (o->from == FROM_END)
                from = v->next;
        else if (o->from == FROM_START)
                from = r->is_all ? 0 : 1;
        else if (r->is_all)
                from = MIN(from, v->next);
        else
                from = MIN(from, v->next - 1) + 1;
        if (from > v->next)
                from = v->next;
        r->is_over = from == 0 || from - 1 < v->first;
        r->at = from - 1;
}

void reads_begin(struct world *w)
{
        struct sim_reader *r = &w->readers[choose(w, WORLD_READERS)];
        struct store_read_options o = {.on_ready = on_ready, .arg = r};
        uint64_t end = store_next_position(w->asked);
        struct model_view v;
        int result;

        store_reader_close(&r->reader);
        *r = (struct sim_reader){.world = w};
        r->is_all = one_in(w, 2);
        r->side = (uint32_t)choose(w, w->stream_count * 2);
        r->is_backward = one_in(w, 2);
        r->is_follow = !r->is_backward && one_in(w, 2);
        r->has_filter = r->is_all && one_in(w, 3);
        v = r->is_all ? (struct model_view){.state = STREAM_LIVE, .next = end}
                      : model_view(&w->model, r->side, end);
        o.stream = r->is_all ? BYTES_EMPTY : bytes_of_string(w->names[r->side]);
        o.is_backward = r->is_backward;
        o.is_follow = r->is_follow;
        o.from = (enum store_from)choose(w, 3);
        o.number = choose(w, v.next + 2);
        o.limit = one_in(w, 3) ? 1 + choose(w, 20) : UINT64_MAX;
        o.filter = r->has_filter ? stream_filter(w) : NULL;
        r->left = o.limit;
        w->totals->reads++;
        history_add_read(&w->history, w->history.tick + 1, end);
        w->must_survive = MAX(w->must_survive, end);
        result = store_reader_open(w->asked, &o, &r->reader);
        if (result == STORE_READ_CORRUPT) {
                corrupt_is_fine(w, "opening a read");
                return;
        }
        if (result != expected_opening(w, r, &v)) {
                world_fail(w, "read of %s: opening gave %d, state %d", r->is_all ? "all" : w->names[r->side],
                        result, v.state);
                return;
        }
        if (result)
                return;
        if (v.state == STREAM_TOMBSTONED)
                r->is_over = true;
        else
                set_range(r, &o, &v);
}

/* The position that must come next; false: nothing is left for now. */
static bool next_position(struct world *w, struct sim_reader *r, uint64_t *ret)
{
        uint64_t end = store_next_position(w->asked);

        for (;;) {
                uint64_t next = r->is_all ? end : model_view(&w->model, r->side, end).next;

                if (r->is_over || r->left == 0)
                        return false;
                if (r->is_backward ? r->at == UINT64_MAX || r->at < r->stop : r->at >= MIN(r->stop, next))
                        return false;
                *ret = r->is_all ? r->at : w->model.streams[r->side / 2].side[r->side % 2].positions[r->at];
                if (!r->has_filter || has_prefix(w, w->model.events[*ret].side))
                        return true;
                r->at += r->is_backward ? UINT64_MAX : 1;
        }
}

static void check_end(struct world *w, struct sim_reader *r, int result)
{
        uint64_t end = store_next_position(w->asked), position;
        bool is_deleted = !r->is_all && model_view(&w->model, r->side, end).state == STREAM_TOMBSTONED;

        if (next_position(w, r, &position))
                world_fail(w, "read of %s: ended with %d before position %llu",
                        r->is_all ? "all" : w->names[r->side], result, (unsigned long long)position);
        /* A follower of a stream hears of its end; so does one that follows a metastream when it asks anew.
         */
        else if (r->left && r->is_follow && is_deleted && !(r->side % 2) && result != STORE_READ_DELETED)
                world_fail(w, "follow of %s: the tombstone did not come", w->names[r->side]);
        else if (result == STORE_READ_DELETED && !is_deleted)
                world_fail(w, "read of %s: deleted, but it is not", w->names[r->side]);
        if (!r->is_follow || result == STORE_READ_DELETED || r->left == 0)
                store_reader_close(&r->reader);
}

/* One event of a reader; false: it waits, or has ended, or is at the end for now. */
static bool pull_one(struct world *w, struct sim_reader *r)
{
        struct store_read_item item;
        uint64_t position;
        int result;

        if (r->is_waiting && !r->is_ready)
                return false;
        r->is_waiting = r->is_ready = false;
        result = store_reader_next(r->reader, &item);
        switch (result) {
        case 0:
                break;
        case STORE_READ_WAIT:
                w->totals->waits++;
                r->is_waiting = true;
                return false;
        case STORE_READ_END:
        case STORE_READ_DELETED:
                check_end(w, r, result);
                return false;
        case STORE_READ_YIELD:
                return false;
        case STORE_READ_CORRUPT:
                corrupt_is_fine(w, store_reader_problem(r->reader));
                store_reader_close(&r->reader);
                return false;
        default:
                world_fail(w, "read of %s gave %d: %s", r->is_all ? "all" : w->names[r->side], result,
                        result < 0 ? fault_last() : "");
                return false;
        }
        if (!check_event(w, &item.event))
                return false;
        if (!next_position(w, r, &position) || item.event.position != position) {
                world_fail(w, "read of %s: position %llu came out of turn",
                        r->is_all ? "all" : w->names[r->side], (unsigned long long)item.event.position);
                return false;
        }
        r->at += r->is_backward ? UINT64_MAX : 1;
        r->left--;
        return true;
}

void reads_pull(struct world *w)
{
        struct sim_reader *r = &w->readers[choose(w, WORLD_READERS)];
        uint64_t count = 1 + choose(w, 40);

        while (count-- && r->reader && !has_failed(w))
                if (!pull_one(w, r))
                        return;
}

void reads_end_all(struct world *w)
{
        for (unsigned i = 0; i < WORLD_READERS; i++)
                store_reader_close(&w->readers[i].reader);
}

void reads_forget_all(struct world *w)
{
        memset(w->readers, 0, sizeof(w->readers));
}

/* ---- everything ---- */

/* Reads with a reader of its own to the end; gives the number of events or UINT64_MAX (damage was told). */
static uint64_t run_through(struct world *w, struct sim_reader *r)
{
        uint64_t count = 0;

        while (r->reader && !has_failed(w)) {
                if (pull_one(w, r))
                        count++;
                else if (r->reader && r->is_waiting && !r->is_ready && !os_sim_step(w->os))
                        world_fail(w, "read: nothing runs and nothing comes");
        }
        return count;
}

/* Into the history goes what was read, not what the model says of it. */
static void read_into_history(struct world *w)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        uint64_t last_us = 0;
        int r = store_reader_open(w->asked, &o, &reader);

        while (!r && !has_failed(w)) {
                const struct event_view *e = &item.event;
                uint32_t side = 0;

                r = store_reader_next(reader, &item);
                if (r)
                        break;
                if (e->time_us < last_us)
                        world_fail(w, "times go back at position %llu", (unsigned long long)e->position);
                last_us = e->time_us;
                while (side < w->stream_count * 2 && !bytes_equal(e->stream, bytes_of_string(w->names[side])))
                        side++;
                if (side == w->stream_count * 2) {
                        world_fail(w, "the log has a stream that nobody wrote");
                        break;
                }
                history_add_row(
                        &w->history, &(struct history_row){.position = e->position,
                                             .revision = e->revision,
                                             .record = e->log_index,
                                             /* What the store writes itself has no author. */
                                             .content = e->position < w->model.event_count &&
                                                                        !w->model.events[e->position].has_id
                                                                ? 0
                                                                : content_hash(e->type, e->content_type,
                                                                          e->data, e->metadata),
                                             .side = side,
                                             .id = e->id});
        }
        if (r != STORE_READ_END)
                world_fail(w, "the last read gave %d", r);
        store_reader_close(&reader);
}

void reads_verify_log(struct world *w, bool rows)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct sim_reader r = {.world = w, .is_all = true, .left = UINT64_MAX};
        uint64_t end = store_next_position(w->asked), count;
        int result;

        o.on_ready = on_ready;
        o.arg = &r;
        r.stop = end;
        r.is_over = end == 0;
        result = store_reader_open(w->asked, &o, &r.reader);
        if (result) {
                world_fail(w, "reading everything: opening gave %d", result);
                return;
        }
        count = run_through(w, &r);
        store_reader_close(&r.reader);
        if (!has_failed(w) && !w->allows_corrupt && count != end)
                world_fail(w, "reading everything: %llu of %llu events", (unsigned long long)count,
                        (unsigned long long)end);
        if (rows && !has_failed(w))
                read_into_history(w);
}

void reads_verify_streams(struct world *w)
{
        for (uint32_t side = 0; side < w->stream_count * 2 && !has_failed(w); side++) {
                struct sim_reader r = {
                        .world = w, .side = side, .left = UINT64_MAX, .is_backward = side % 3 == 1};
                struct store_read_options o = {.stream = bytes_of_string(w->names[side]),
                        .limit = UINT64_MAX,
                        .is_backward = r.is_backward,
                        .from = r.is_backward ? FROM_END : FROM_START,
                        .on_ready = on_ready,
                        .arg = &r};
                struct model_view v = model_view(&w->model, side, store_next_position(w->asked));
                int result = store_reader_open(w->asked, &o, &r.reader);

                if (result == STORE_READ_CORRUPT) {
                        corrupt_is_fine(w, "opening a stream");
                        continue;
                }
                if (result != expected_opening(w, &r, &v))
                        world_fail(
                                w, "reading %s: opening gave %d, state %d", w->names[side], result, v.state);
                if (result || has_failed(w))
                        continue;
                set_range(&r, &o, &v);
                run_through(w, &r);
                store_reader_close(&r.reader);
                reads_verify_info(w, side);
        }
}

void reads_verify_info(struct world *w, uint32_t side)
{
        struct model_view v = model_view(&w->model, side, store_next_position(w->asked));
        struct store_stream_info info;
        int r = store_stream_info(w->asked, bytes_of_string(w->names[side]), &info);

        if (r == PERSISTENCE_CORRUPT) {
                corrupt_is_fine(w, "a stream's state");
                return;
        }
        if (r || info.state != v.state || info.has_events != (v.next > 0) ||
                (v.next && info.last_revision != v.next - 1) || info.first_revision != v.first)
                world_fail(w, "state of %s: %d, %d at %llu from %llu, expected %d at %llu from %llu",
                        w->names[side], r, info.state, (unsigned long long)info.last_revision,
                        (unsigned long long)info.first_revision, v.state, (unsigned long long)v.next,
                        (unsigned long long)v.first);
}

struct listed {
        struct world *w;
        bool has[MODEL_STREAMS_MAX * 2];
};

static bool note_name(void *arg, struct bytes name, uint64_t events)
{
        struct listed *l = arg;

        for (uint32_t side = 0; side < l->w->stream_count * 2; side++) {
                if (!bytes_equal(name, bytes_of_string(l->w->names[side])))
                        continue;
                l->has[side] = true;
                if (events != model_view(&l->w->model, side, store_next_position(l->w->asked)).next)
                        world_fail(l->w, "list: %s has %llu events", l->w->names[side],
                                (unsigned long long)events);
                return true;
        }
        world_fail(l->w, "list: a stream that nobody wrote");
        return false;
}

void reads_verify_list(struct world *w)
{
        struct listed l = {.w = w};
        int r = store_list(w->asked, NAMES_STREAMS, BYTES_EMPTY, BYTES_EMPTY, 1000, note_name, &l);

        if (r == PERSISTENCE_CORRUPT) {
                corrupt_is_fine(w, "a list");
                return;
        }
        for (uint32_t side = 0; side < w->stream_count * 2 && !has_failed(w); side++) {
                struct model_view v = model_view(&w->model, side, store_next_position(w->asked));

                if (l.has[side] != (v.state == STREAM_LIVE && v.next > 0))
                        world_fail(w, "list: %s is %s", w->names[side], l.has[side] ? "there" : "missing");
        }
}
