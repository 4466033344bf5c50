/* What a read must see before it begins (G7, G8). By itself it sees at the leader everything that was
 * acknowledged before it came, elsewhere what is committed here; ?consistency= says otherwise, and ?after= or
 * Nilo-After names an event that must be visible. Where this node is the only voter all of that is true at
 * once. Each answer names in Nilo-Position the last position that was visible: what to ask for next time, on
 * whichever node.
 *
 *   freshness_begin -> the leader is confirmed -> the event is visible -> the handler
 *                      \-------- not in time, or the client is gone --------> the end */
#include "api/room.h"

#include <stdio.h>

#define WAIT_US ((uint64_t)5 * 1000 * 1000)

enum consistency { CONSISTENCY_DEFAULT, CONSISTENCY_STALE, CONSISTENCY_LINEARIZABLE, CONSISTENCY_LEADER };

static bool query_consistency(struct call *c, enum consistency *ret)
{
        static const char *const names[] = {
                [CONSISTENCY_STALE] = "stale",
                [CONSISTENCY_LINEARIZABLE] = "linearizable",
                [CONSISTENCY_LEADER] = "leader",
        };
        struct bytes text;

        *ret = requires_leader(c) ? CONSISTENCY_LEADER : CONSISTENCY_DEFAULT;
        if (!gateway_query(c->request, "consistency", &text))
                return true;
        for (unsigned i = CONSISTENCY_STALE; i < COUNT_OF(names); i++) {
                if (!bytes_equal_string(text, names[i]))
                        continue;
                *ret = (enum consistency)i;
                return true;
        }
        call_refuse_bad(c,
                "send stale, linearizable or leader; without it the leader gives what is newest, other nodes "
                "what they have",
                "consistency=%.*s is not known", SHOWN(text));
        return false;
}

/* The position that the client wants to see. In lists the parameter `after` is a name. */
static bool query_after(struct call *c)
{
        struct bytes header, query;
        bool has_header = gateway_header(c->request, "nilo-after", &header);
        bool has_query = c->route->reads != READS_NAMES && gateway_query(c->request, "after", &query);

        if (has_header && has_query && !bytes_equal(header, query)) {
                call_refuse_bad(
                        c, "send one of them", "the header Nilo-After and the parameter after differ");
                return false;
        }
        c->has_after = has_header || has_query;
        if (!c->has_after || bytes_to_number(has_header ? header : query, &c->after))
                return true;
        call_refuse_bad(c, "send the position of an event, as an append or Nilo-Position tells it",
                "after=%.*s is no position", SHOWN(has_header ? header : query));
        return false;
}

/* Who has followed another node comes with a position that exists, though perhaps not yet here: he has seen
 * it (G10). At the leader a position behind the end was never given. */
static void expect_what_was_seen(struct call *c)
{
        struct bytes text;
        uint64_t seen;

        if (c->has_after || c->stream.size || store_is_leading(c->store))
                return;
        if ((gateway_header(c->request, "last-event-id", &text) ||
                    gateway_query(c->request, "last-event-id", &text)) &&
                text.size) {
                c->has_after = bytes_to_number(text, &c->after);
        } else if (gateway_query(c->request, "from", &text) && bytes_to_number(text, &seen) && seen) {
                c->has_after = true;
                c->after = seen - 1;
        }
}

void freshness_tell(struct call *c)
{
        uint64_t next = store_next_position(c->store);

        if (!next)
                return;
        snprintf(c->position, sizeof c->position, "%llu", (unsigned long long)(next - 1));
        gateway_answer_header(c->request, (struct gateway_header_field){"nilo-position", c->position});
}

/* ---- waiting ---- */

static void on_gone(void *arg, struct gateway_request *request)
{
        struct call *c = arg;

        (void)request;
        store_wait_end(&c->wait);
}

static void refuse(struct call *c, enum store_verdict verdict)
{
        uint64_t next = store_next_position(c->store);

        freshness_tell(c);
        if (verdict == STORE_NOT_READY)
                call_refuse(c, 503, "not-ready", "The store takes no reads now", "try again in a second",
                        "the store is closing");
        else if (c->wants_confirmation)
                call_refuse(c, 503, "not-confirmed", "No leader could be confirmed",
                        "try again, or read what this node has: ?consistency=stale",
                        "no majority of the voters confirmed in time who leads, so what is newest is not "
                        "known");
        else
                call_refuse(c, 504, "not-here-yet", "The event is not here yet",
                        "try again, or ask the leader: GET /v1/cluster names it",
                        "position %llu is not here yet: the next event of this node gets position %llu",
                        (unsigned long long)c->after, (unsigned long long)next);
}

static void go_on(struct call *c);

static void on_done(struct store_wait *wait, enum store_verdict verdict)
{
        struct call *c = wait->arg;

        gateway_on_gone(c->request, NULL, NULL);
        if (verdict != STORE_OK) {
                refuse(c, verdict);
                return;
        }
        if (c->wants_confirmation)
                c->wants_confirmation = false;
        else
                c->has_after = false;
        go_on(c);
}

/* True: all of it is visible. */
static bool is_visible(struct call *c)
{
        c->wait = (struct store_wait){.done = on_done, .arg = c};
        if (c->wants_confirmation && !store_wait_linearizable(c->store, &c->wait, c->wait_until_us))
                return false;
        c->wants_confirmation = false;
        return !c->has_after || store_wait_position(c->store, &c->wait, c->after, c->wait_until_us);
}

static void go_on(struct call *c)
{
        if (!is_visible(c)) {
                gateway_on_gone(c->request, on_gone, c);
                return;
        }
        freshness_tell(c);
        c->route->handler(c);
}

void freshness_begin(struct call *c)
{
        bool is_follow = c->route->handler == handle_read && call_form(c) == FORM_EVENTS;
        enum consistency consistency;
        struct bytes given;

        if (!query_consistency(c, &consistency) || !query_after(c) ||
                (consistency == CONSISTENCY_LEADER && !cluster_check_leader(c->api, c->request)))
                return;
        if (is_follow)
                expect_what_was_seen(c);
        /* What follows comes anyhow, so only who asks for it waits for what is newest. */
        c->wants_confirmation =
                consistency == CONSISTENCY_DEFAULT
                        ? c->route->reads == READS_TO_CHANGE || (!is_follow && store_is_leading(c->store))
                        : consistency != CONSISTENCY_STALE;
        c->wait_until_us = gateway_query(c->request, "timeout-ms", &given)
                                   ? c->deadline_us
                                   : os_turn_time(c->api->os).monotonic_us + WAIT_US;
        go_on(c);
}
