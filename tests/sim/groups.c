/* Durable subscriptions and their consumers: what is asked of them, and what they are given, held against the
 * book (C10). */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "subscriptions.h"

/* ---- definitions ---- */

static void choose_settings(struct subs *s, struct emitter_settings *ret)
{
        static const uint32_t timeouts[] = {0, 40, 200, 1000}, retries[] = {0, 1, 3, 1000},
                              buffers[] = {2, 5, 30, 500};

        *ret = emitter_settings_default;
        ret->message_timeout_ms = timeouts[subs_choose(s, COUNT_OF(timeouts))];
        ret->max_retry_count = retries[subs_choose(s, COUNT_OF(retries))];
        ret->checkpoint_after_ms = 100 + (uint32_t)subs_choose(s, 1000);
        ret->min_checkpoint_count = 1 + (uint32_t)subs_choose(s, 10);
        ret->max_checkpoint_count = ret->min_checkpoint_count + (uint32_t)subs_choose(s, 20);
        ret->live_buffer_size = buffers[subs_choose(s, COUNT_OF(buffers))];
        ret->history_buffer_size = buffers[subs_choose(s, COUNT_OF(buffers))];
        ret->read_batch_size = 1;
        ret->resolve_links = subs_choose(s, 2);
        ret->strategy = subs_choose(s, 2) ? STRATEGY_PER_STREAM : (enum emitter_strategy)subs_choose(s, 4);
}

void groups_choose(struct subs *s)
{
        static const char *const streams[SELECTIONS] = {
                NULL, "$all", "$nilo-prefix", "$nilo-type", "$all", "$nilo-payload", "$nilo-pattern"};

        s->group_count = 1 + (unsigned)subs_choose(s, GROUPS_MAX);
        for (unsigned i = 0; i < s->group_count; i++) {
                struct group *g = &s->groups[i];

                g->subs = s;
                g->selecting.kind = (enum selection)subs_choose(s, SELECTIONS);
                g->selecting.of = (unsigned)subs_choose(s, 3);
                snprintf(g->name, sizeof g->name, "g%u", i);
                snprintf(g->stream, sizeof g->stream, "%s",
                        g->selecting.kind == SELECTION_STREAM ? subs_streams[g->selecting.of]
                                                              : streams[g->selecting.kind]);
        }
}

/* ---- changes ---- */

static void forget_everything(struct group *g)
{
        memset(g->flags, 0, sizeof g->flags);
        memset(g->holder, -1, sizeof g->holder);
        memset(g->retry, 0, sizeof g->retry);
        memset(g->passed_us, 0, sizeof g->passed_us);
        g->parked_count = 0;
        g->has_checkpoint = false;
        g->has_replayed = false;
        g->is_paused = false;
}

/* Nobody holds anything of it any more. */
static void drop_held(struct group *g)
{
        memset(g->holder, -1, sizeof g->holder);
        for (unsigned i = 0; i < CONSUMERS_MAX; i++)
                if (g->subs->takers[i].consumer && g->subs->takers[i].group == g)
                        g->subs->takers[i].held_count = 0;
}

static void begin_at(struct group *g, uint64_t high)
{
        g->start_low = g->floor = g->wanted_low;
        g->start_high = g->wanted_from == FROM_END ? high : g->wanted_low;
}

static void seek_took_place(struct group *g)
{
        unsigned kept = 0;

        begin_at(g, end_of(g->subs, &g->selecting));
        g->has_checkpoint = false;
        memset(g->passed_us, 0, sizeof g->passed_us);
        drop_held(g);
        for (unsigned i = 0; i < g->parked_count; i++) /* delivered again, and finished since */
                if (!(g->flags[g->parked[i].serial] & WAS_FINISHED))
                        g->parked[kept++] = g->parked[i];
        g->parked_count = kept;
        for (int n = 0; n < g->subs->serial_count; n++) {
                if (!g->subs->book[n].has_place || !group_selects(g, n))
                        continue;
                if (group_number(g, n) < g->start_high)
                        g->flags[n] |= IS_EXCUSED;
                if (group_number(g, n) >= g->start_low)
                        g->flags[n] &= (uint8_t) ~(WAS_GIVEN | WAS_FINISHED | PARK_ASKED | PARK_MAYBE);
                if (group_number(g, n) >= g->start_high)
                        g->flags[n] &= (uint8_t)~IS_EXCUSED;
        }
}

static void took_place(struct group *g)
{
        switch (g->asked) {
        case ASKED_CREATE:
                forget_everything(g);
                g->exists = true;
                g->settings = g->wanted;
                begin_at(g, end_of(g->subs, &g->selecting));
                break;
        case ASKED_UPDATE:
                g->settings = g->wanted;
                memset(g->passed_us, 0, sizeof g->passed_us); /* the policy is another */
                drop_held(g);
                break;
        case ASKED_DELETE:
                g->exists = false;
                forget_everything(g);
                break;
        case ASKED_PAUSE:
                g->is_paused = g->wanted_pause;
                break;
        case ASKED_SEEK:
                seek_took_place(g);
                break;
        default:
                break;
        }
}

static const char *const asked_names[] = {"nothing", "create", "update", "delete", "pause", "seek"};

static void on_changed(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct group *g = arg;

        subs_tell(g->subs, "%s %s: verdict %d %s", g->name, asked_names[g->asked], (int)verdict, problem);
        if (verdict == EMITTER_UNKNOWN) {
                g->is_lost = true; /* known after the next start */
                return;
        }
        if (verdict == EMITTER_OK)
                took_place(g);
        else if (verdict != EMITTER_BUSY && verdict != EMITTER_NOT_LEADER)
                subs_fail(g->subs, "%s of %s is answered with %d: %s", asked_names[g->asked], g->name,
                        (int)verdict, problem);
        g->asked = ASKED_NOTHING;
        g->subs->totals->mutations++;
}

static void choose_start(struct group *g, uint64_t *ret_number)
{
        uint64_t end = end_of(g->subs, &g->selecting);

        g->wanted_from = (enum store_from)subs_choose(g->subs, 3);
        if (g->wanted_from == FROM_END && subs_choose(g->subs, 2))
                g->wanted_from = FROM_START;
        *ret_number = subs_choose(g->subs, end + 1);
        g->wanted_low = g->wanted_from == FROM_START ? 0 : g->wanted_from == FROM_END ? end : *ret_number;
}

static void create(struct group *g)
{
        char json[256], why[256];
        struct selector *selector = NULL;
        struct emitter_definition d = {.stream = group_stream(g), .group = group_name(g)};

        selecting_write(&g->selecting, json, sizeof json);
        if (selector_parse(bytes_of_string(json), &selector, why, sizeof why)) {
                subs_fail(g->subs, "%s: %s", json, why);
                return;
        }
        choose_settings(g->subs, &g->wanted);
        choose_start(g, &d.number);
        d.from = g->wanted_from;
        d.selector = selector;
        d.settings = g->wanted;
        g->asked = ASKED_CREATE;
        emitter_create(g->subs->emitter, &d, on_changed, g);
        selector_free(&selector);
}

void group_mutate(struct group *g)
{
        struct emitter *e = g->subs->emitter;
        struct emitter_definition d = {.stream = group_stream(g), .group = group_name(g)};
        uint64_t n;

        if (g->asked)
                return;
        if (!g->exists) {
                create(g);
                return;
        }
        switch (g->is_paused ? 11 : subs_choose(g->subs, 7)) {
        case 0:
                g->asked = ASKED_DELETE;
                emitter_delete(e, d.stream, d.group, on_changed, g);
                break;
        case 1:
        case 2:
                g->asked = ASKED_SEEK;
                choose_start(g, &n);
                emitter_seek(e, d.stream, d.group, g->wanted_from, n, on_changed, g);
                break;
        case 3:
        case 4:
        case 5:
                g->asked = ASKED_UPDATE;
                choose_settings(g->subs, &g->wanted);
                d.settings = g->wanted;
                emitter_update(e, &d, false, on_changed, g);
                break;
        default:
                g->asked = ASKED_PAUSE;
                g->wanted_pause = !g->is_paused;
                emitter_pause(e, d.stream, d.group, g->wanted_pause, on_changed, g);
        }
}

void group_resume(struct group *g)
{
        g->asked = ASKED_PAUSE;
        g->wanted_pause = false;
        emitter_pause(g->subs->emitter, group_stream(g), group_name(g), false, on_changed, g);
}

static void on_replay(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct group *g = arg;

        if (verdict != EMITTER_OK && verdict != EMITTER_BUSY && verdict != EMITTER_NOT_FOUND)
                subs_fail(g->subs, "a replay is answered with %d: %s", (int)verdict, problem);
        g->has_replayed = true;
}

void group_replay(struct group *g, bool is_all)
{
        uint64_t only = UINT64_MAX, stop_at = UINT64_MAX;

        if (!g->exists)
                return;
        if (!is_all && g->parked_count && subs_choose(g->subs, 2))
                only = g->parked[subs_choose(g->subs, g->parked_count)].number;
        else if (!is_all && subs_choose(g->subs, 2))
                stop_at = subs_choose(g->subs, 20);
        g->subs->totals->replays++;
        emitter_replay_parked(g->subs->emitter, group_stream(g), group_name(g), stop_at, only, on_replay, g);
}

/* ---- consumers ---- */

static void on_readable(void *arg)
{
        struct taker *t = arg;

        if (!t->is_waiting)
                subs_fail(t->subs, "a consumer that does not wait is told to ask");
        t->is_waiting = false;
}

struct taker *taker_open(struct group *g, uint32_t window)
{
        struct subs *s = g->subs;
        struct taker *t = NULL;
        struct consumer_options o = {.stream = group_stream(g),
                .group = group_name(g),
                .window = window,
                .on_readable = on_readable};
        enum emitter_verdict verdict;

        for (unsigned i = 0; i < CONSUMERS_MAX && !t; i++)
                if (!s->takers[i].consumer)
                        t = &s->takers[i];
        if (!t)
                return NULL;
        *t = (struct taker){.subs = s, .group = g, .window = window};
        t->mode = subs_choose(s, 2) ? TAKER_NORMAL : subs_choose(s, 2) ? TAKER_SLOW : TAKER_STOPPED;
        o.arg = t;
        verdict = consumer_open(s->emitter, &o, &t->consumer);
        if (verdict == EMITTER_OK) {
                subs_tell(s, "%s: %d joins, window %u, timeout %u, retries %u, strategy %d", g->name,
                        (int)(t - s->takers), window, g->settings.message_timeout_ms,
                        g->settings.max_retry_count, (int)g->settings.strategy);
                s->totals->consumers++;
                return t;
        }
        t->consumer = NULL;
        if (verdict != EMITTER_NOT_FOUND || (g->exists && g->asked != ASKED_DELETE))
                subs_fail(s, "a consumer of %s is refused with %d", g->name, (int)verdict);
        return NULL;
}

void taker_close(struct taker *t)
{
        struct group *g = t->group;

        for (unsigned i = 0; i < t->held_count; i++) {
                int serial = t->held[i].serial;

                if (serial == SERIAL_NONE || g->holder[serial] != t - t->subs->takers)
                        continue;
                g->holder[serial] = -1;
                if (t->held[i].retry >= g->settings.max_retry_count)
                        g->flags[serial] |= PARK_MAYBE;
        }
        subs_tell(t->subs, "%s: %d leaves", g->name, (int)(t - t->subs->takers));
        consumer_close(&t->consumer);
}

/* The stream by which an event is ordered: of what is given. */
static unsigned lane_of(const struct group *g, const struct noted *e)
{
        return e->is_link && g->settings.resolve_links ? g->subs->book[e->target].stream : e->stream;
}

/* What a link leads to may be gone: then it goes by its own stream, from some moment on. */
static bool has_lane(const struct group *g, const struct noted *e)
{
        return !e->is_hidden && !(e->is_link && g->subs->book[e->target].is_hidden);
}

/* Of a lane the next comes when everything before it is finished, or with the same consumer. */
static void check_lane(struct taker *t, int serial)
{
        struct group *g = t->group;
        const struct noted *e = &t->subs->book[serial];

        if (g->settings.strategy != STRATEGY_PER_STREAM && g->settings.strategy != STRATEGY_PINNED)
                return;
        if (!has_lane(g, e) || g->has_replayed || (g->flags[serial] & (PARK_ASKED | PARK_MAYBE | IS_PARKED)))
                return;
        for (int n = 0; n < t->subs->serial_count; n++) {
                const struct noted *b = &t->subs->book[n];

                if (n == serial || !b->has_place || !has_lane(g, b) || lane_of(g, b) != lane_of(g, e) ||
                        group_number(g, n) >= group_number(g, serial) || !group_selects(g, n) ||
                        group_number(g, n) < g->floor || group_number(g, n) < g->start_high)
                        continue;
                if (g->flags[n] & (WAS_FINISHED | PARK_ASKED | PARK_MAYBE | IS_PARKED | IS_EXCUSED))
                        continue;
                /* It may have timed out for the last time, and is being parked. */
                if (g->settings.message_timeout_ms && g->retry[n] >= g->settings.max_retry_count &&
                        (g->flags[n] & WAS_GIVEN))
                        continue;
                if (g->holder[n] != t - t->subs->takers) {
                        subs_fail(t->subs,
                                "C10: %s gives %d (%s %llu) before %d (revision %llu), which consumer %d "
                                "has, to consumer %d",
                                g->name, serial, subs_streams[e->stream], (unsigned long long)e->revision, n,
                                (unsigned long long)b->revision, g->holder[n], (int)(t - t->subs->takers));
                        return;
                }
        }
}

static void note_given(struct taker *t, const struct consumer_message *m, int serial)
{
        struct group *g = t->group;
        uint8_t flags = g->flags[serial];

        if (!group_selects(g, serial)) {
                subs_fail(t->subs, "C10: %s gives %d, which it does not select", g->name, serial);
                return;
        }
        if (group_number(g, serial) < g->floor && !g->has_replayed &&
                !(flags & (PARK_ASKED | PARK_MAYBE | IS_PARKED))) {
                subs_fail(t->subs, "C10: %s gives %llu, below where it begins, %llu", g->name,
                        (unsigned long long)group_number(g, serial), (unsigned long long)g->floor);
                return;
        }
        check_lane(t, serial);
        if (flags & WAS_FINISHED)
                t->subs->totals->given_again++;
        g->flags[serial] |= WAS_GIVEN;
        g->holder[serial] = (int8_t)(t - t->subs->takers);
        g->retry[serial] = m->retry_count;
}

static void check_window(struct taker *t)
{
        const struct emitter_settings *settings = &t->group->settings;

        /* What times out does so from when it was meant for the consumer, which is not told when that was;
         * and a retry takes back what is later of its lane. */
        if (!settings->message_timeout_ms && settings->strategy <= STRATEGY_DISPATCH_TO_SINGLE &&
                t->held_count > t->window)
                subs_fail(t->subs, "C10: a consumer of %s has %u of %u", t->group->name, t->held_count,
                        t->window);
}

static void take(struct taker *t, const struct consumer_message *m)
{
        const struct event_view *source = m->item.has_link ? &m->item.link : &m->item.event;
        int serial = subs_identify_item(t->subs, &m->item, t->group->settings.resolve_links);
        struct held *h;

        if (subs_has_failed(t->subs))
                return;
        subs_tell(t->subs, "%s gives %d to %d, retry %u", t->group->name, serial, (int)(t - t->subs->takers),
                m->retry_count);
        if (serial != SERIAL_NONE)
                note_given(t, m, serial);
        else if (t->group->selecting.kind != SELECTION_ALL)
                subs_fail(t->subs, "C10: %s gives an event that is none of ours", t->group->name);
        os_sim_observe(t->subs->os, &serial, sizeof serial);
        t->subs->totals->given++;
        if (m->retry_count)
                t->subs->totals->retried++;
        if (t->held_count == HELD_MAX) /* forgets it: it times out */
                memmove(t->held, t->held + 1, --t->held_count * sizeof *t->held);
        h = &t->held[t->held_count++];
        *h = (struct held){serial, source->id, os_turn_time(t->subs->os).monotonic_us, m->retry_count};
        check_window(t);
}

void taker_take(struct taker *t, unsigned most)
{
        struct consumer_message m;

        while (most-- && t->consumer && !t->is_waiting && !subs_has_failed(t->subs)) {
                int r = consumer_next(t->consumer, &m);

                if (r == CONSUMER_WAIT) {
                        t->is_waiting = true;
                } else if (r) {
                        if (r < 0)
                                subs_fail(t->subs, "consumer_next gives %d", r);
                        taker_close(t);
                } else {
                        take(t, &m);
                }
        }
}

static void finish(struct taker *t, const struct held *h, uint8_t flag)
{
        struct group *g = t->group;

        if (h->serial == SERIAL_NONE)
                return;
        g->flags[h->serial] |= flag;
        if (g->holder[h->serial] == t - t->subs->takers)
                g->holder[h->serial] = -1;
}

/* Answers one of what it has; `is_good`: with an acknowledgement. */
void taker_answer(struct taker *t, bool is_good)
{
        struct subs *s = t->subs;
        uint64_t what;
        unsigned at;
        struct held h;

        if (!t->consumer || !t->held_count)
                return;
        at = is_good ? 0 : (unsigned)subs_choose(s, t->held_count);
        h = t->held[at];
        memmove(t->held + at, t->held + at + 1, (--t->held_count - at) * sizeof *t->held);
        what = is_good ? 0 : subs_choose(s, 16);
        subs_tell(s, "%s: %d answers %d with %d", t->group->name, (int)(t - s->takers), h.serial, (int)what);
        switch (what) {
        case 12: /* parked */
                s->totals->nacked++;
                finish(t, &h, PARK_ASKED);
                consumer_nack(t->consumer, &h.id, 1, NACK_PARK, BYTES_LITERAL("by the seed"));
                break;
        case 13:
        case 14:
                s->totals->nacked++;
                finish(t, &h, h.retry >= t->group->settings.max_retry_count ? PARK_MAYBE : 0);
                consumer_nack(
                        t->consumer, &h.id, 1, subs_choose(s, 2) ? NACK_RETRY : NACK_UNKNOWN, BYTES_EMPTY);
                break;
        case 15:
                s->totals->nacked++;
                if (subs_choose(s, 2)) {
                        finish(t, &h, WAS_FINISHED);
                        consumer_nack(t->consumer, &h.id, 1, NACK_SKIP, BYTES_EMPTY);
                } else {
                        consumer_nack(t->consumer, &h.id, 1, NACK_STOP, BYTES_EMPTY);
                        t->held[t->held_count++] = h; /* until it leaves */
                        taker_close(t);
                }
                break;
        default:
                s->totals->acked++;
                finish(t, &h, WAS_FINISHED);
                consumer_ack(t->consumer, &h.id, 1);
        }
}

/* ---- lives ---- */

void groups_lose(struct subs *s)
{
        for (unsigned i = 0; i < CONSUMERS_MAX; i++)
                s->takers[i].consumer = NULL;
        for (unsigned i = 0; i < s->group_count; i++) {
                struct group *g = &s->groups[i];

                g->is_lost = g->asked != ASKED_NOTHING;
        }
}

static void resolve(struct group *g, bool is_there, const struct emitter_info *info)
{
        enum mutation_asked asked = g->asked;

        switch (asked) {
        case ASKED_CREATE:
        case ASKED_DELETE:
                if (is_there == (asked == ASKED_CREATE))
                        took_place(g);
                break;
        case ASKED_UPDATE:
                g->settings = info->definition->settings;
                break;
        case ASKED_PAUSE:
                g->is_paused = info->is_paused;
                break;
        case ASKED_SEEK: { /* it did or it did not: what it may have gone over need not come, and may */
                uint64_t high = g->wanted_from == FROM_END ? end_of(g->subs, &g->selecting) : g->wanted_low;

                for (int n = 0; n < g->subs->serial_count; n++)
                        if (g->subs->book[n].has_place && group_selects(g, n) && group_number(g, n) < high)
                                g->flags[n] |= IS_EXCUSED;
                g->start_low = MIN(g->start_low, g->wanted_low);
                g->has_checkpoint = false;
                break;
        }
        default:
                break;
        }
        g->asked = ASKED_NOTHING;
        g->is_lost = false;
        g->subs->totals->mutations_unknown++;
}

void groups_adopt(struct subs *s)
{
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++) {
                struct group *g = &s->groups[i];
                struct emitter_info info = {0};
                bool is_there = group_read_info(g, &info);

                if (g->asked && g->asked != ASKED_CREATE && g->asked != ASKED_DELETE && !is_there)
                        subs_fail(s, "%s is gone", g->name);
                else if (g->asked)
                        resolve(g, is_there, &info);
                else if (g->exists != is_there)
                        subs_fail(
                                s, "%s %s after the start", g->name, is_there ? "is there again" : "is gone");
                if (!g->exists || subs_has_failed(s))
                        continue;
                if (info.is_paused != g->is_paused)
                        subs_fail(s, "%s is %spaused after the start", g->name, g->is_paused ? "not " : "");
                g->floor = g->start_low;
                if (info.has_checkpoint)
                        g->floor = MAX(g->floor, info.checkpoint + 1);
                g->has_replayed = false;
                memset(g->holder, -1, sizeof g->holder);
                memset(g->passed_us, 0, sizeof g->passed_us);
                for (int n = 0; n < s->serial_count; n++)
                        g->flags[n] &= (uint8_t) ~(PARK_ASKED | PARK_MAYBE);
        }
}
