/* Catch-up subscriptions: each session is exactly the selected part of the log behind its start, without a
 * gap, and no mark runs ahead of what was delivered (C8, G10). */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "subscriptions.h"

static void on_readable(void *arg)
{
        struct session *i = arg;

        if (!i->is_waiting)
                subs_fail(i->subs, "a session that does not wait is told to ask");
        i->is_waiting = false;
}

static struct filter *filter_for(const struct selecting *by)
{
        struct bytes prefix = BYTES_LITERAL("order-");
        struct filter_options options = {.target = FILTER_STREAM, .prefixes = &prefix, .prefix_count = 1};
        struct filter *filter = NULL;
        char why[256];
        int r;

        if (by->kind == SELECTION_STREAM || by->kind == SELECTION_ALL)
                return NULL;
        if (by->kind == SELECTION_REGEX)
                options = (struct filter_options){
                        .target = FILTER_STREAM, .regex = BYTES_LITERAL("^(order|invoice)-[01]$")};
        r = filter_new(&options, &filter, why, sizeof why);
        assert(r == 0);
        return filter;
}

void session_open(struct subs *s)
{
        static const enum selection kinds[] = {
                SELECTION_STREAM, SELECTION_ALL, SELECTION_PREFIX, SELECTION_REGEX};
        struct subscription_options o = {.on_readable = on_readable};
        struct session *i = NULL;
        uint64_t end;
        int r;

        for (unsigned n = 0; n < SESSIONS_MAX && !i; n++)
                if (!s->sessions[n].is_used)
                        i = &s->sessions[n];
        if (!i)
                return;
        *i = (struct session){.subs = s, .is_used = true};
        i->selecting.kind = kinds[subs_choose(s, COUNT_OF(kinds))];
        i->selecting.of = (unsigned)subs_choose(s, SUBS_STREAMS);
        end = end_of(s, &i->selecting);
        o.arg = i;
        if (i->selecting.kind == SELECTION_STREAM)
                o.stream = bytes_of_string(subs_streams[i->selecting.of]);
        o.filter = filter_for(&i->selecting);
        o.from = (enum store_from)subs_choose(s, 3);
        o.resolve_links = i->resolves_links = subs_choose(s, 2);
        if (o.filter && subs_choose(s, 2))
                o.checkpoint_after = 1 + subs_choose(s, 20);
        if (o.from == FROM_NUMBER && !end)
                o.from = FROM_START;
        if (o.from == FROM_NUMBER)
                o.number = subs_choose(s, end);
        i->start = o.from == FROM_START ? 0 : o.from == FROM_END ? end : o.number + 1;
        r = subscription_open(s->notification, &o, &i->subscription);
        if (r)
                subs_fail(s, "a session cannot be opened: %d", r);
        s->totals->sessions++;
}

static void note_mark(struct session *i, uint64_t position)
{
        if (i->mark_count == i->mark_capacity) {
                i->mark_capacity = i->mark_capacity ? i->mark_capacity * 2 : 16;
                i->marks = memory_resize(i->marks, i->mark_capacity * sizeof *i->marks);
        }
        i->marks[i->mark_count++] = (struct mark){position, i->count};
}

static void note_event(struct session *i, const struct store_read_item *item)
{
        int serial = subs_identify_item(i->subs, item, i->resolves_links);

        if (serial == SERIAL_NONE) {
                if (!subs_has_failed(i->subs) && i->selecting.kind != SELECTION_ALL)
                        subs_fail(i->subs, "a session was given an event that it does not select");
                return;
        }
        if (i->count == i->capacity) {
                i->capacity = i->capacity ? i->capacity * 2 : 64;
                i->serials = memory_resize(i->serials, i->capacity * sizeof *i->serials);
        }
        i->serials[i->count++] = serial;
        i->subs->totals->session_events++;
        os_sim_observe(i->subs->os, &serial, sizeof serial);
}

void session_pull(struct session *i, unsigned most)
{
        struct subscription_item item;

        while (most-- && !i->is_waiting && i->subscription && !subs_has_failed(i->subs)) {
                int r = subscription_next(i->subscription, &item);

                if (r == SUBSCRIPTION_WAIT) {
                        i->is_waiting = true;
                } else if (r == SUBSCRIPTION_YIELD) {
                        return;
                } else if (r) {
                        if (!i->subs->has_disk_fault)
                                subs_fail(i->subs, "a session ends with %d", r);
                        session_close(i);
                } else if (item.kind == ITEM_EVENT) {
                        note_event(i, &item.event);
                } else if (item.kind == ITEM_CHECKPOINT) {
                        note_mark(i, item.position);
                } else {
                        if (i->was_caught_up)
                                subs_fail(i->subs, "a session caught up twice");
                        i->was_caught_up = true;
                        if (i->selecting.kind == SELECTION_STREAM ? item.has_revision : item.has_position)
                                note_mark(i, item.has_revision ? item.revision : item.position);
                }
        }
}

void session_close(struct session *i)
{
        subscription_close(&i->subscription);
}

void sessions_lose(struct subs *s)
{
        for (unsigned n = 0; n < SESSIONS_MAX; n++)
                s->sessions[n].subscription = NULL;
}

static void verify(struct subs *s, const struct session *i, bool is_complete)
{
        unsigned at = 0, mark = 0;

        for (int n = 0; n < s->log_count; n++) {
                const struct noted *e = &s->book[s->log[n]];
                uint64_t number = number_of(&i->selecting, e);

                if (!selects(&i->selecting, e))
                        continue;
                while (mark < i->mark_count && i->marks[mark].position < number) {
                        if (i->marks[mark].count < at)
                                subs_fail(s, "C8: a mark at %llu with %u of %u events delivered",
                                        (unsigned long long)i->marks[mark].position, i->marks[mark].count,
                                        at);
                        mark++;
                }
                if (number < i->start)
                        continue;
                /* Hidden of the stream when the session was opened, or not yet. */
                if (e->is_hidden && i->selecting.kind == SELECTION_STREAM &&
                        (at >= i->count || i->serials[at] != s->log[n]))
                        continue;
                if (at < i->count && i->serials[at] != s->log[n])
                        subs_fail(s, "C8: event %u of a session (kind %d) is %d instead of %d", at,
                                (int)i->selecting.kind, i->serials[at], s->log[n]);
                at++;
        }
        for (; mark < i->mark_count; mark++)
                if (i->marks[mark].count < at)
                        subs_fail(s, "C8: a mark at %llu with %u of %u events delivered",
                                (unsigned long long)i->marks[mark].position, i->marks[mark].count, at);
        if (i->count > at)
                subs_fail(s, "C8: a session got %u events, the log has %u", i->count, at);
        if (is_complete && i->subscription && i->count < at)
                subs_fail(s, "C8: a session got %u of %u events and waits", i->count, at);
}

void sessions_verify(struct subs *s, bool is_complete)
{
        for (unsigned n = 0; n < SESSIONS_MAX; n++) {
                struct session *i = &s->sessions[n];

                if (!i->is_used)
                        continue;
                verify(s, i, is_complete);
                if (i->subscription)
                        continue;
                free(i->serials);
                free(i->marks);
                *i = (struct session){0};
        }
}
