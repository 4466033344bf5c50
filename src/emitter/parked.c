/* Parked events: each a link in the subscription's parked stream, with the reason.
 *
 * An event is finished only when its link is committed (G11). Delivered again, it stays parked in the log
 * until it is finished that time: then its number is struck out in the metadata of the parked stream, by
 * "$tb" for those at the beginning and by a list for single ones behind it. So a crash may deliver a parked
 * event twice, and never loses one. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "emitter/room.h"

enum { REASON_TEXT_MAX = 8 * 1024, REPLAYED_BATCH = 100 };
#define REPLAYED_KEY      "$nilo-replayed"
#define REPLAYED_AFTER_US 1000000ull

/* ---- parking ---- */

struct park_append {
        struct store_append_event events[PARK_BATCH_MAX];
        size_t ends[PARK_BATCH_MAX][2]; /* of data and metadata in `text` */
        struct buffer text;
        unsigned count;
};

void write_time(uint64_t wall_us, char *out, size_t size)
{
        time_t seconds = (time_t)(wall_us / 1000000);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(wall_us % 1000000));
}

static void write_metadata(const struct pool *p, const struct message *m, struct buffer *out)
{
        struct json_out j = {.out = out};
        struct buffer reason = {0};
        char added[64];

        if (m->reason)
                buffer_format(&reason, "Client explicitly NAK'ed message.\n%s", m->reason);
        else
                buffer_format(&reason, "Reached retry count of %u", p->definition.d.settings.max_retry_count);
        write_time(os_turn_time(p->emitter->os).wall_us, added, sizeof added);
        json_object_begin(&j);
        json_field_string(&j, "Added", added);
        json_field_bytes(&j, "Reason", buffer_bytes(&reason));
        json_field_u64(&j, "SubscriptionEventNumber", m->number);
        json_object_end(&j);
        buffer_fini(&reason);
}

static void add_parked(struct pool *p, struct park_append *a, struct message *m)
{
        struct event_draft *draft = &a->events[a->count].draft;
        struct bytes stream = p->source;
        uint64_t revision = m->number;

        if (pool_is_all(p)) {
                const struct event_view *v = item_source(&m->payload->item);

                stream = v->stream;
                revision = v->revision;
        }
        if (!m->has_park_id)
                emitter_new_id(p->emitter, &m->park_id);
        m->has_park_id = true;
        m->is_sent_to_park = true;
        buffer_format(&a->text, "%llu@", (unsigned long long)revision);
        buffer_add_bytes(&a->text, stream);
        a->ends[a->count][0] = a->text.size;
        write_metadata(p, m, &a->text);
        a->ends[a->count][1] = a->text.size;
        draft->id = m->park_id;
        draft->type = EVENT_TYPE_LINK;
        draft->content_type = CONTENT_BINARY;
        a->count++;
}

static void parked(struct flight *f, const struct store_append_result *result)
{
        struct pool *p = f->pool;
        struct emitter *e = f->emitter;

        if (!p)
                return;
        p->is_parking = false;
        if (result->verdict == STORE_OK) {
                /* What a transient one of the same name has left is not this one's. */
                if (!p->parked_next)
                        p->parked_first = result->streams[0].revision + 1 - f->count;
                p->parked_next = result->streams[0].revision + 1;
                e->stats.parked += f->count;
                emitter_publish(e, FACT_event_parked, p->key, result->first_position, f->count, "");
        } else {
                p->append_again_us = emitter_now(e) + RETRY_APPEND_US;
        }
        /* The work may be another by now: then the events are read again, and what was parked is so twice. */
        if (p->work && p->work->serial == f->number)
                LIST_EACH_SAFE (at, &p->work->delivery.parking) {
                        struct message *m = CONTAINER_OF(at, struct message, link);

                        if (!m->is_sent_to_park)
                                continue;
                        m->is_sent_to_park = false;
                        if (result->verdict == STORE_OK)
                                delivery_parked(&p->work->delivery, m);
                }
        pool_touch(p);
        mutations_go_on(p); /* may be its end */
}

static void park_some(struct pool *p)
{
        struct delivery *d = &p->work->delivery;
        struct park_append *a = MEMORY_NEW(struct park_append);
        struct buffer name = {0};
        struct store_append_stream stream;
        struct store_append append = {.streams = &stream, .stream_count = 1, .events = a->events};

        LIST_EACH (at, &d->parking) {
                struct message *m = CONTAINER_OF(at, struct message, link);

                if (a->count == PARK_BATCH_MAX)
                        break;
                /* Of all streams only the event itself says which stream and revision the link names. */
                if (pool_is_all(p) && !m->payload) {
                        if (list_is_empty(&m->load_link))
                                list_add_last(&d->loads, &m->load_link);
                        continue;
                }
                add_parked(p, a, m);
        }
        for (unsigned i = 0; i < a->count; i++) {
                size_t start = i ? a->ends[i - 1][1] : 0;

                a->events[i].draft.data = bytes_of(a->text.data + start, a->ends[i][0] - start);
                a->events[i].draft.metadata =
                        bytes_of(a->text.data + a->ends[i][0], a->ends[i][1] - a->ends[i][0]);
        }
        if (a->count) {
                parked_stream(p, &name);
                stream = (struct store_append_stream){buffer_bytes(&name), {.kind = EXPECTED_ANY}};
                append.event_count = a->count;
                append.write_id = control_next_write_id(p->emitter->control);
                p->is_parking = true;
                flight_start(p->emitter, p, &append, parked, NULL, p->work->serial, a->count);
        }
        buffer_fini(&name);
        buffer_fini(&a->text);
        free(a);
}

/* ---- numbers that are no longer parked ---- */

static unsigned lower_bound(const struct pool *p, uint64_t number)
{
        unsigned low = 0, high = p->replayed_count;

        while (low < high) {
                unsigned middle = low + (high - low) / 2;

                if (p->replayed[middle] < number)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool is_struck_out(const struct pool *p, uint64_t number)
{
        unsigned at = lower_bound(p, number);

        return number < p->parked_first || (at < p->replayed_count && p->replayed[at] == number);
}

static void strike_out(struct pool *p, uint64_t number)
{
        unsigned at = lower_bound(p, number), n = 0;

        if (is_struck_out(p, number))
                return;
        if (p->replayed_count == p->replayed_capacity) {
                p->replayed_capacity = p->replayed_capacity ? p->replayed_capacity * 2 : 16;
                p->replayed = memory_resize(p->replayed, p->replayed_capacity * sizeof *p->replayed);
        }
        memmove(p->replayed + at + 1, p->replayed + at, (p->replayed_count - at) * sizeof *p->replayed);
        p->replayed[at] = number;
        p->replayed_count++;
        while (n < p->replayed_count && p->replayed[n] == p->parked_first) {
                p->parked_first++;
                n++;
        }
        p->replayed_count -= n;
        memmove(p->replayed, p->replayed + n, p->replayed_count * sizeof *p->replayed);
}

void parked_read_metadata(struct pool *p, struct bytes json)
{
        struct bytes list;
        bool is_string;
        uint64_t n = 0;
        bool has_digits = false;

        if (!json_member(json, BYTES_LITERAL(REPLAYED_KEY), &list, &is_string) || is_string)
                return;
        for (size_t i = 0; i < list.size && p->replayed_count < REPLAYED_MAX; i++) {
                uint8_t c = list.data[i];

                if (c >= '0' && c <= '9') {
                        n = n * 10 + (uint64_t)(c - '0');
                        has_digits = true;
                } else if (has_digits) {
                        if (n < p->parked_next)
                                strike_out(p, n);
                        n = 0;
                        has_digits = false;
                }
        }
}

static void struck_out(struct flight *f, const struct store_append_result *result)
{
        struct pool *p = f->pool;

        if (!p)
                return;
        p->is_writing_replayed = false;
        if (result->verdict != STORE_OK) {
                p->is_replayed_dirty =
                        !p->emitter->is_stopping; /* what stays parked is only delivered twice */
                p->append_again_us = emitter_now(p->emitter) + RETRY_APPEND_US;
        }
        pool_touch(p);
        mutations_go_on(p); /* may be its end */
}

static void write_struck_out(struct pool *p)
{
        struct emitter *e = p->emitter;
        struct buffer name = {0}, meta = {0}, body = {0};
        struct store_append_stream stream = {.expected = {.kind = EXPECTED_ANY}};
        struct store_append_event event = {0};
        struct store_append append = {
                .streams = &stream, .stream_count = 1, .events = &event, .event_count = 1};

        parked_stream(p, &name);
        meta_of(buffer_bytes(&name), &meta);
        buffer_format(&body, "{\"$tb\":%llu,\"" REPLAYED_KEY "\":[", (unsigned long long)p->parked_first);
        for (unsigned i = 0; i < p->replayed_count; i++)
                buffer_format(&body, "%s%llu", i ? "," : "", (unsigned long long)p->replayed[i]);
        buffer_add_string(&body, "]}");
        stream.stream = buffer_bytes(&meta);
        event.draft.type = EVENT_TYPE_METADATA;
        event.draft.content_type = CONTENT_JSON;
        event.draft.data = buffer_bytes(&body);
        emitter_new_id(e, &event.draft.id);
        append.write_id = control_next_write_id(e->control);
        p->is_replayed_dirty = false;
        p->is_writing_replayed = true;
        flight_start(e, p, &append, struck_out, NULL, 0, 0);
        buffer_fini(&name);
        buffer_fini(&meta);
        buffer_fini(&body);
}

static void take_replayed(struct pool *p)
{
        struct work *w = p->work;
        struct delivery *d = &w->delivery;

        if (!d->replayed_count)
                return;
        for (uint32_t i = 0; i < d->replayed_count; i++) {
                for (unsigned k = 0; k < w->replay_count; k++)
                        if (w->replays[k] == d->replayed[i]) {
                                w->replays[k] = w->replays[--w->replay_count];
                                break;
                        }
                strike_out(p, d->replayed[i]);
        }
        d->replayed_count = 0;
        if (!p->is_replayed_dirty)
                p->replayed_at_us = emitter_now(p->emitter);
        p->is_replayed_dirty = true;
}

/* ---- delivering again ---- */

static void on_ready(void *arg)
{
        struct pool *p = arg;

        p->work->replay_waits = false;
        pool_touch(p);
}

static bool is_being_replayed(const struct work *w, uint64_t number)
{
        for (unsigned i = 0; i < w->replay_count; i++)
                if (w->replays[i] == number)
                        return true;
        return false;
}

static int open_links(struct pool *p)
{
        struct buffer name = {0};
        struct store_read_options options = {.from = FROM_NUMBER,
                .number = p->replay_next,
                .limit = UINT64_MAX,
                .on_ready = on_ready,
                .arg = p};
        int r;

        parked_stream(p, &name);
        options.stream = buffer_bytes(&name);
        r = store_reader_open(p->emitter->store, &options, &p->work->replay_links);
        buffer_fini(&name);
        return r;
}

static int open_target(struct pool *p, struct bytes stream, uint64_t revision)
{
        struct store_read_options options = {
                .stream = stream,
                .from = FROM_NUMBER,
                .number = revision,
                .limit = 1,
                .resolve_links = p->definition.d.settings.resolve_links,
                .on_ready = on_ready,
                .arg = p,
        };

        p->work->replay_revision = revision;
        return store_reader_open(p->emitter->store, &options, &p->work->replay_target);
}

/* What a link of the parked stream names is gone, or is none: nobody can have it any more. */
static void skip_parked(struct pool *p, uint64_t parked)
{
        emitter_publish(
                p->emitter, FACT_event_skipped, p->key, parked, 1, "a parked event is gone from its stream");
        strike_out(p, parked);
        if (!p->is_replayed_dirty)
                p->replayed_at_us = emitter_now(p->emitter);
        p->is_replayed_dirty = true;
}

static void add_replay(struct pool *p, const struct store_read_item *item)
{
        struct work *w = p->work;
        const struct event_view *v = item_source(item);
        struct arrival a = {
                .number = pool_is_all(p) ? v->position : v->revision,
                .event_time_us = v->time_us,
                .parked = w->replay_parked,
                .id = v->id,
                .lane_hash = pool_lane_hash(p, item),
        };

        w->replays[w->replay_count++] = w->replay_parked;
        delivery_add(&w->delivery, &a);
}

/* The next link. 0: its target is to be read; or an outcome of a reader. */
static int next_link(struct pool *p)
{
        struct work *w = p->work;
        struct store_read_item item;
        struct bytes stream;
        uint64_t revision;
        int r = 0;

        if (!w->replay_links)
                r = open_links(p);
        if (!r)
                r = store_reader_next(w->replay_links, &item);
        if (r)
                return r;
        if (item.event.revision >= p->replay_end)
                return STORE_READ_END;
        w->replay_parked = item.event.revision;
        p->replay_next = item.event.revision + 1;
        if (is_struck_out(p, w->replay_parked) || is_being_replayed(w, w->replay_parked))
                return 0;
        if (!event_link_parse(item.event.data, &revision, &stream) ||
                (!pool_is_all(p) && !bytes_equal(stream, p->source))) {
                skip_parked(p, w->replay_parked);
                return 0;
        }
        r = open_target(p, stream, revision);
        if (r == STORE_READ_NOT_FOUND || r == STORE_READ_DELETED) {
                skip_parked(p, w->replay_parked);
                return 0;
        }
        return r;
}

static int next_target(struct pool *p)
{
        struct work *w = p->work;
        struct store_read_item item;
        int r = store_reader_next(w->replay_target, &item);

        if (r == STORE_READ_WAIT || r == STORE_READ_YIELD)
                return r;
        /* Behind what is hidden of the stream a reader begins with the first event that is not. */
        if (r == STORE_READ_END || r == STORE_READ_DELETED ||
                (!r && item_source(&item)->revision != w->replay_revision))
                skip_parked(p, w->replay_parked);
        else if (!r)
                add_replay(p, &item);
        store_reader_close(&w->replay_target);
        return r == STORE_READ_END || r == STORE_READ_DELETED ? 0 : r;
}

static void replay_some(struct pool *p)
{
        struct work *w = p->work;

        for (unsigned n = 0; n < REPLAYS_MAX; n++) {
                int r;

                if (w->replay_waits || w->replay_count == REPLAYS_MAX ||
                        (!w->replay_target && p->replay_next >= p->replay_end))
                        return;
                r = w->replay_target ? next_target(p) : next_link(p);
                switch (r) {
                case 0:
                        continue;
                case STORE_READ_WAIT:
                        w->replay_waits = true;
                        return;
                case STORE_READ_YIELD:
                        pool_touch(p);
                        return;
                case STORE_READ_END:
                case STORE_READ_NOT_FOUND:
                case STORE_READ_DELETED:
                        p->replay_next = p->replay_end = 0;
                        store_reader_close(&w->replay_links);
                        return;
                default:
                        pool_fail(p, "its parked events cannot be read");
                        return;
                }
        }
        pool_touch(p);
}

/* ---- the pool's view ---- */

bool parked_has_replay(const struct pool *p)
{
        return p->replay_next < p->replay_end || (p->work && p->work->replay_target);
}

uint64_t parked_count(const struct pool *p)
{
        uint64_t all = p->parked_next - p->parked_first;
        uint64_t out = p->replayed_count + (p->work ? p->work->replay_count : 0);

        return all > out ? all - out : 0;
}

void parked_end(struct pool *p)
{
        struct work *w = p->work;

        take_replayed(p);
        if (w->replay_target && !is_being_replayed(w, w->replay_parked) && w->replay_count < REPLAYS_MAX)
                w->replays[w->replay_count++] = w->replay_parked;
        for (unsigned i = 0; i < w->replay_count; i++) {
                if (p->replay_next >= p->replay_end) {
                        p->replay_next = w->replays[i];
                        p->replay_end = w->replays[i] + 1;
                }
                p->replay_next = MIN(p->replay_next, w->replays[i]);
                p->replay_end = MAX(p->replay_end, w->replays[i] + 1);
        }
        w->replay_count = 0;
        store_reader_close(&w->replay_links);
        store_reader_close(&w->replay_target);
}

static bool may_write_struck_out(const struct pool *p)
{
        return p->is_replayed_dirty && !p->is_writing_replayed && !p->is_sealed && p->is_defined;
}

uint64_t parked_due(const struct pool *p)
{
        uint64_t due = UINT64_MAX;

        if (may_write_struck_out(p))
                due = MAX(p->replayed_at_us + REPLAYED_AFTER_US, p->append_again_us);
        if (p->work && !p->is_parking && !list_is_empty(&p->work->delivery.parking) && p->append_again_us)
                due = MIN(due, p->append_again_us);
        return due;
}

void parked_run(struct pool *p)
{
        struct work *w = p->work;
        uint64_t now = emitter_now(p->emitter);

        if (w) {
                if (p->consumer_count && !p->extra.is_paused && !p->emitter->is_stopping &&
                        parked_has_replay(p)) {
                        replay_some(p);
                        if (p->work != w)
                                return;
                }
                take_replayed(p);
        }
        if (p->append_again_us > now)
                return;
        p->append_again_us = 0;
        if (w && !p->is_parking && !p->is_sealed && !list_is_empty(&w->delivery.parking))
                park_some(p);
        if (may_write_struck_out(p) && (!w || !w->replay_count || p->emitter->is_stopping ||
                                               p->replayed_at_us + REPLAYED_AFTER_US <= now))
                write_struck_out(p);
}

void emitter_replay_parked(struct emitter *e, struct bytes stream, struct bytes group, uint64_t stop_at,
        uint64_t only, emitter_done *done, void *arg)
{
        struct pool *p;

        if (e->state != EMITTER_SERVING || e->is_stopping) {
                done(arg, EMITTER_NOT_LEADER, "this node does not carry out the leader's duties now");
                return;
        }
        p = emitter_find(e, stream, group);
        if (!p) {
                done(arg, EMITTER_NOT_FOUND, "");
                return;
        }
        if (p->state == POOL_LOADING) {
                done(arg, EMITTER_BUSY, "the subscription is just starting: try again");
                return;
        }
        if (only != UINT64_MAX) {
                if (only < p->parked_first || only >= p->parked_next || is_struck_out(p, only)) {
                        done(arg, EMITTER_NOT_FOUND, "no event with this number is parked");
                        return;
                }
                if (p->replayed_count >= REPLAYED_MAX) {
                        done(arg, EMITTER_LIMIT,
                                "too many single events were replayed: replay those before them");
                        return;
                }
        }
        if (p->work)
                store_reader_close(&p->work->replay_links);
        if (p->replay_next >= p->replay_end) {
                p->replay_next = only != UINT64_MAX ? only : p->parked_first;
                p->replay_end = only != UINT64_MAX ? only + 1 : MIN(stop_at, p->parked_next);
        } else {
                p->replay_next = MIN(p->replay_next, only != UINT64_MAX ? only : p->parked_first);
                p->replay_end =
                        MAX(p->replay_end, only != UINT64_MAX ? only + 1 : MIN(stop_at, p->parked_next));
        }
        if (p->work)
                p->work->replay_waits = false;
        pool_touch(p);
        done(arg, EMITTER_OK, "");
}

enum emitter_verdict emitter_parked_stream(
        struct emitter *e, struct bytes stream, struct bytes group, struct buffer *ret)
{
        const struct pool *p;

        if (e->state != EMITTER_SERVING)
                return EMITTER_NOT_LEADER;
        p = emitter_find(e, stream, group);
        if (!p)
                return EMITTER_NOT_FOUND;
        if (p->state == POOL_LOADING)
                return EMITTER_BUSY;
        parked_stream(p, ret);
        return EMITTER_OK;
}

bool emitter_is_parked(struct emitter *e, struct bytes stream, struct bytes group, uint64_t number)
{
        const struct pool *p = emitter_find(e, stream, group);

        return p && number < p->parked_next && !is_struck_out(p, number);
}
