/* What is going on, measured when it is asked for: nothing here is kept up to date for each event but plain
 * counts. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

/* ---- rates ---- */

/* The rate since the last measurement, taken anew when that is a second or more ago. */
static void measure(uint64_t now_us, uint64_t total, uint64_t *measured_total, uint64_t *measured_at_us,
        uint64_t *since_last, uint32_t *per_second)
{
        uint64_t us = now_us - *measured_at_us;

        if (us < 1000000 && *measured_at_us)
                return;
        *since_last = total - *measured_total;
        *per_second = us ? (uint32_t)MIN(*since_last * 1000000 / us, (uint64_t)UINT32_MAX) : 0;
        *measured_total = total;
        *measured_at_us = now_us;
}

static int compare_u32(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

/* Mean, Median, Fastest, Quintile 1..5, 90 %, 95 %, 99 %, 99.5 %, 99.9 %, Highest, count. */
static void take_measures(const struct consumer *c, struct consumer_info *ret)
{
        static const unsigned permille[] = {200, 400, 600, 800, 1000, 900, 950, 990, 995, 999};
        uint32_t n = MIN(c->measure_count, (uint32_t)MEASURES_MAX);
        uint32_t *sorted;
        uint64_t sum = 0;

        ret->has_measurements = c->measures && n;
        if (!ret->has_measurements)
                return;
        sorted = memory_new_array(n, sizeof *sorted);
        memcpy(sorted, c->measures, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare_u32);
        for (uint32_t i = 0; i < n; i++)
                sum += sorted[i];
        ret->measured_us[0] = (uint32_t)(sum / n);
        ret->measured_us[1] = sorted[n / 2];
        ret->measured_us[2] = sorted[0];
        for (unsigned i = 0; i < COUNT_OF(permille); i++) {
                uint64_t rank = ((uint64_t)n * permille[i] + 999) / 1000;

                ret->measured_us[3 + i] = sorted[rank ? rank - 1 : 0];
        }
        ret->measured_us[13] = sorted[n - 1];
        ret->measured_us[14] = c->measure_count;
        free(sorted);
}

static void take_consumer(struct emitter *e, struct consumer *c, struct consumer_info *ret)
{
        measure(emitter_now(e), c->slot.given_total, &c->measured_total, &c->measured_at_us, &c->since_last,
                &c->per_second);
        *ret = (struct consumer_info){
                .name = c->name,
                .peer = c->peer,
                .user = c->user,
                .total = c->slot.given_total,
                .since_last = c->since_last,
                .per_second = c->per_second,
                .window = c->slot.window,
                .in_flight = c->slot.in_flight,
        };
        take_measures(c, ret);
}

/* ---- lag ---- */

static uint64_t end_of(const struct pool *p)
{
        struct store_stream_info info;

        if (pool_is_all(p))
                return store_next_position(p->emitter->store);
        if (store_stream_info(p->emitter->store, p->source, &info) || !info.has_events)
                return 0;
        return info.last_revision + 1;
}

/* Everything from the lowest unfinished event to the end. A pool that waits in the index has nothing to read,
 * however far the log has gone on. */
static uint64_t lag_events(const struct pool *p)
{
        uint64_t resume = pool_resume(p), end;

        if (p->wait.is_waiting && !p->is_searching && (!p->work || delivery_is_empty(&p->work->delivery)))
                return 0;
        end = end_of(p);
        return end > resume ? end - resume : 0;
}

/* The time of what nobody has read yet is looked up once for each place. Until it can be had, that is as old
 * as it has been known to be there. For a selection it is an upper bound, as the count is: the first event
 * may be none of its own. */
static uint64_t unread_since(struct pool *p, uint64_t wall)
{
        uint64_t resume = pool_resume(p), since;

        if (p->unread_since_us && p->unread_at == resume)
                return p->unread_since_us;
        if (notification_time_of(p->emitter->notification, p->source, resume, &since)) {
                p->unread_since_us = since;
                p->unread_at = resume;
        } else if (!p->unread_since_us) {
                p->unread_since_us = wall;
                p->unread_at = UINT64_MAX;
        }
        return p->unread_since_us;
}

/* Of what was read the event itself says its age. */
static uint64_t lag_us(struct pool *p, uint64_t events)
{
        uint64_t wall = os_turn_time(p->emitter->os).wall_us;
        uint64_t since = 0;

        if (p->work && span_size(&p->work->delivery.span)) {
                const struct span *s = &p->work->delivery.span;

                since = s->places[s->first & (s->capacity - 1)]->event_time_us;
                p->unread_since_us = 0;
        } else if (events) {
                since = unread_since(p, wall);
        } else {
                p->unread_since_us = 0;
        }
        return since && wall > since ? wall - since : since ? 1 : 0;
}

/* ---- a subscription ---- */

static const char *state_of(const struct pool *p)
{
        if (p->state == POOL_FAILED || (p->work && p->work->ending))
                return "failed";
        if (p->extra.is_paused)
                return "paused";
        if (!p->consumer_count)
                return "idle";
        return p->is_live && (p->wait.is_waiting || (p->work && p->work->is_at_end)) ? "live" : "reading";
}

/* Without lanes the retry queue tells; with them the messages do. */
static uint32_t count_retries(const struct delivery *d)
{
        uint32_t n = d->retrying_count;

        LIST_EACH (at, &d->lanes) {
                const struct lane *lane = CONTAINER_OF(at, struct lane, link);

                LIST_EACH (m, &lane->pending)
                        n += CONTAINER_OF(m, struct message, lane_link)->retry_count > 0;
        }
        return n;
}

static void tell(struct pool *p, emitter_each_info *each, void *arg)
{
        struct emitter *e = p->emitter;
        struct consumer_info *consumers = memory_new_array(p->consumer_count + 1, sizeof *consumers);
        struct emitter_info info;
        unsigned n = 0;

        measure(emitter_now(e), p->total, &p->measured_total, &p->measured_at_us, &p->since_last,
                &p->per_second);
        LIST_EACH (at, &p->consumers)
                take_consumer(e, CONTAINER_OF(at, struct consumer, link), &consumers[n++]);
        info = (struct emitter_info){
                .stream = p->stream,
                .group = p->definition.d.group,
                .definition = &p->definition.d,
                .state = state_of(p),
                .problem = p->problem                   ? p->problem
                           : p->work && p->work->ending ? p->work->ending
                                                        : "",
                .is_paused = p->extra.is_paused,
                .has_checkpoint = p->has_checkpoint,
                .checkpoint = p->written_resume ? p->written_resume - 1 : 0,
                .has_last = p->has_last,
                .last = p->last,
                .total = p->total,
                .since_last = p->since_last,
                .per_second = p->per_second,
                .parked = parked_count(p),
                .consumer_count = n,
                .consumers = consumers,
        };
        info.is_live = !strcmp(info.state, "live");
        if (p->work) {
                const struct delivery *d = &p->work->delivery;

                info.retries = count_retries(d);
                info.in_flight = d->flying_count;
                *(p->is_live ? &info.live_buffered : &info.history_buffered) = d->pending_count;
        }
        info.lag_events = lag_events(p);
        info.lag_us = lag_us(p, info.lag_events);
        each(arg, &info);
        free(consumers);
}

enum emitter_verdict emitter_info(
        struct emitter *e, struct bytes stream, struct bytes group, emitter_each_info *each, void *arg)
{
        struct pool *p;

        if (e->state != EMITTER_SERVING)
                return EMITTER_NOT_LEADER;
        p = emitter_find(e, stream, group);
        if (!p)
                return EMITTER_NOT_FOUND;
        tell(p, each, arg);
        return EMITTER_OK;
}

unsigned emitter_each(struct emitter *e, struct bytes stream, struct bytes after, unsigned limit,
        emitter_each_info *each, void *arg)
{
        unsigned told = 0;

        if (e->state != EMITTER_SERVING)
                return 0;
        for (unsigned i = after.size ? emitter_index(e, after) : 0; i < e->pool_count && told < limit; i++) {
                struct pool *p = e->pools[i];

                if (!p->is_defined || (stream.size && !bytes_equal(p->stream, stream)) ||
                        (after.size && bytes_compare(p->key, after) <= 0))
                        continue;
                tell(p, each, arg);
                told++;
        }
        return told;
}

void info_sweep(struct emitter *e)
{
        unsigned most = MIN(e->pool_count, (unsigned)LAGS_PER_SWEEP);

        while (most--) {
                struct pool *p;

                if (e->sweep_next >= e->pool_count)
                        e->sweep_next = 0;
                p = e->pools[e->sweep_next++];
                if (!p->is_defined)
                        continue;
                p->lag_events = lag_events(p);
                p->lag_us = lag_us(p, p->lag_events);
        }
}

void emitter_stats(const struct emitter *e, struct emitter_stats *ret)
{
        *ret = e->stats;
        ret->subscriptions = e->defined_count;
        ret->consumers = e->consumer_count;
        ret->memory_size = e->memory_used + e->work_size;
        for (unsigned i = 0; i < e->pool_count; i++) {
                const struct pool *p = e->pools[i];

                if (!p->is_defined)
                        continue;
                ret->pools += p->state == POOL_ACTIVE;
                if (p->work)
                        ret->in_flight += p->work->delivery.flying_count;
                ret->max_lag_events = MAX(ret->max_lag_events, p->lag_events);
                ret->max_lag_us = MAX(ret->max_lag_us, p->lag_us);
        }
}
