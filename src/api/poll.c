/* Long polling: a forward read that has come to the end with nothing to give waits for the first event
 * (?wait-ms= or "Prefer: wait=10", RFC 7240), then reads again from where it had come to. When none comes in
 * time it reads again all the same, so the answer is the empty page that it would have been at once. */
#include "api/room.h"

#include <stdio.h>
#include <strings.h>

struct poll {
        struct call *call;
        struct subscription *subscription;
        struct os_timer limit;
        struct os_timer again; /* much was examined without an event to give */
        uint64_t next;         /* where the read goes on */
};

/* ---- what was asked for ---- */

/* The seconds of the preference "wait"; false: there is none. What cannot be read is no preference. */
static bool preferred_wait(struct call *c, uint64_t *ret_seconds)
{
        static const char word[] = "wait=";
        struct bytes text;

        if (!gateway_header(c->request, "prefer", &text))
                return false;
        while (text.size) {
                const uint8_t *comma = memchr(text.data, ',', text.size);
                struct bytes one = bytes_of(text.data, comma ? (size_t)(comma - text.data) : text.size);
                size_t used = one.size + (comma != NULL);

                text = bytes_of(text.data + used, text.size - used);
                while (one.size && one.data[0] == ' ')
                        one = bytes_of(one.data + 1, one.size - 1);
                while (one.size && one.data[one.size - 1] == ' ')
                        one.size--;
                if (one.size < sizeof word || strncasecmp((const char *)one.data, word, sizeof word - 1) != 0)
                        continue;
                one = bytes_of(one.data + sizeof word - 1, one.size - (sizeof word - 1));
                if (bytes_to_number(one, ret_seconds))
                        return true;
        }
        return false;
}

bool query_wait(struct call *c, bool is_backward)
{
        struct bytes text;
        uint64_t ms;

        if (!query_number(c, "wait-ms", 0, TIMEOUT_MS_MAX, 0, &ms))
                return false;
        if (gateway_query(c->request, "wait-ms", &text)) {
                if (ms && is_backward) {
                        call_refuse_bad(c, "leave wait-ms out, or read forward",
                                "a backward read begins at the newest event: there is nothing to wait for");
                        return false;
                }
        } else if (!is_backward && preferred_wait(c, &ms)) {
                ms = MIN(ms, (uint64_t)TIMEOUT_MS_MAX / 1000) * 1000;
                snprintf(c->preference, sizeof c->preference, "wait=%llu", (unsigned long long)ms / 1000);
        }
        if (ms)
                c->poll_until_us = os_turn_time(c->api->os).monotonic_us + ms * 1000;
        return true;
}

/* ---- waiting ---- */

static void dispose(struct poll *p)
{
        subscription_close(&p->subscription);
        os_timer_stop(&p->limit);
        os_timer_stop(&p->again);
}

static void finish(struct poll *p)
{
        struct call *c = p->call;
        struct bytes what = c->stream.size ? c->stream : BYTES_LITERAL("$all");

        dispose(p);
        gateway_on_gone(c->request, NULL, NULL);
        c->poll_until_us = 0;
        c->deadline_us = os_turn_time(c->api->os).monotonic_us + (uint64_t)TIMEOUT_MS_DEFAULT * 1000;
        freshness_tell(c);
        /* His right may have gone while he waited. */
        if (gateway_may(c->request, ACCESS_READ, what))
                read_again(c, p->next);
        else
                gateway_refuse(c->request, ACCESS_READ, what);
}

static void on_limit(struct os_timer *timer)
{
        finish(timer->arg);
}

static void on_gone(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

/* Whatever ends the subscription is told by the read. */
static void look(struct poll *p)
{
        struct call *c = p->call;

        for (unsigned looked_at = 0; looked_at < HIDDEN_OF_TURN_MAX; looked_at++) {
                struct subscription_item item;
                int r = subscription_next(p->subscription, &item);

                if (r == SUBSCRIPTION_WAIT)
                        return;
                if (r == SUBSCRIPTION_YIELD)
                        break;
                if (r || (item.kind == ITEM_EVENT && (c->stream.size || !call_hides(c, &item.event)))) {
                        finish(p);
                        return;
                }
        }
        os_timer_start(c->api->os, &p->again, 0);
}

static void on_again(struct os_timer *timer)
{
        look(timer->arg);
}

static void on_readable(void *arg)
{
        look(arg);
}

void poll_begin(struct call *c, uint64_t next)
{
        struct poll *p = arena_get(call_arena(c), sizeof *p);
        struct subscription_options options = {
                .stream = c->stream,
                .from = next ? FROM_NUMBER : FROM_START,
                .number = next ? next - 1 : 0,
                .name = call_client_name(c),
                .peer = bytes_of_string(gateway_peer(c->request)),
                .on_readable = on_readable,
                .arg = p,
        };
        uint64_t now = os_turn_time(c->api->os).monotonic_us;
        struct read_query q;

        *p = (struct poll){.call = c,
                .next = next,
                .limit = {.fn = on_limit, .arg = p},
                .again = {.fn = on_again, .arg = p}};
        /* The filter of the first read is gone with it. The parameters were good then. */
        if (!read_query(c, &q)) {
                filter_free(&q.filter);
                return;
        }
        options.filter = q.filter;
        gateway_on_gone(c->request, on_gone, p);
        if (now >= c->poll_until_us ||
                subscription_open(gateway_notification(c->api->gateway), &options, &p->subscription)) {
                finish(p);
                return;
        }
        os_timer_start(c->api->os, &p->limit, c->poll_until_us - now);
        look(p);
}
