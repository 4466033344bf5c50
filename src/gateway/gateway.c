/* The life of the gateway: opening, serving, the turn's end, timeouts, deadlines, closing. */
#include "gateway/room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void on_turn_end(struct os_turn_hook *hook);
static void on_tick(struct os_timer *timer);
static void on_deadline(struct os_timer *timer);

static uint32_t handshakes_for(uint64_t memory_size)
{
        uint64_t fit = memory_size / 4 / HANDSHAKE_COST;

        return (uint32_t)MIN(MAX(fit, (uint64_t)HANDSHAKES_MIN), (uint64_t)HANDSHAKES_DEFAULT);
}

int gateway_open(const struct gateway_options *options, struct gateway **ret, const char **ret_why)
{
        struct gateway *g = MEMORY_NEW(struct gateway);
        int r;

        g->os = options->os;
        g->control = options->control;
        g->access = options->access && access_is_enforced(options->access) ? options->access : NULL;
        memcpy(g->node_uuid, options->node_uuid, sizeof g->node_uuid);
        g->connections_max = options->connections_max ? options->connections_max : CONNECTIONS_DEFAULT;
        g->connections_per_address_max = options->connections_per_address_max
                                                 ? options->connections_per_address_max
                                                 : CONNECTIONS_PER_ADDRESS_DEFAULT;
        g->streams_max = options->streams_max ? options->streams_max : STREAMS_DEFAULT;
        g->memory_size = options->memory_size ? options->memory_size : GATEWAY_MEMORY_DEFAULT;
        g->connection_out_max = MAX(MIN(g->memory_size / CONNECTION_OUT_PART, (uint64_t)CONNECTION_OUT_MAX),
                (uint64_t)STREAM_OUT_MAX);
        g->is_insecure = options->is_insecure;
        g->speaks_tls = options->speaks_tls;
        g->tls = options->tls;
        g->handshakes_max =
                options->handshakes_max ? options->handshakes_max : handshakes_for(g->memory_size);
        for (unsigned i = 0; i < CROWD_CHAINS; i++)
                list_init(&g->crowds[i]);
        list_init(&g->handshaking);
        list_init(&g->hellos);
        list_init(&g->connections);
        list_init(&g->dirty);
        list_init(&g->bulk);
        list_init(&g->deadlines);
        list_init(&g->requests_free);
        g->next_deadline_us = UINT64_MAX;
        *ret_why = "";
        r = listener_open(g, options->address, options->port, ret_why);
        if (r) {
                free(g);
                return r;
        }
        g->is_local_only = !g->access && listener_is_loopback(g->address);
        g->turn_hook = (struct os_turn_hook){.fn = on_turn_end, .arg = g};
        os_turn_hook_add(g->os, &g->turn_hook);
        g->tick_timer = (struct os_timer){.fn = on_tick, .arg = g};
        g->deadline_timer = (struct os_timer){.fn = on_deadline, .arg = g};
        os_timer_start(g->os, &g->tick_timer, TICK_US);
        if (g->tls)
                reload_begin(g);
        gateway_fact(g, FACT_listening, strchr(g->address, ':') ? "[%s]:%u%s" : "%s:%u%s", g->address,
                g->port, listener_how(g));
        *ret = g;
        return 0;
}

uint16_t gateway_port(const struct gateway *g)
{
        return g->port;
}

void gateway_serve(struct gateway *g, struct store *store, struct notification *notification)
{
        assert(store);
        assert(notification);
        g->store = store;
        g->notification = notification;
        /* Hooks run in the order of their registration: now the store's comes first, so the answers of a
         * group commit leave in the turn in which it was synced. */
        os_turn_hook_remove(&g->turn_hook);
        os_turn_hook_add(g->os, &g->turn_hook);
        os_turn_again(g->os);
}

struct store *gateway_store(struct gateway *g)
{
        return g->is_closing ? NULL : g->store;
}

struct notification *gateway_notification(struct gateway *g)
{
        return g->is_closing ? NULL : g->notification;
}

void gateway_stats(const struct gateway *g, struct gateway_stats *ret)
{
        *ret = g->stats;
}

void gateway_fact(struct gateway *g, enum fact_type type, const char *format, ...)
{
        struct fact_payload payload = {0};
        char text[FACT_TEXT_SIZE + 1];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        fact_set_text(&payload, "%s", text);
        control_publish(g->control, type, &payload);
}

const char *gateway_date(struct gateway *g)
{
        uint64_t second = os_turn_time(g->os).wall_us / SECOND_US;

        if (second != g->date_second || !g->date[0]) {
                time_t t = (time_t)second;
                struct tm tm;

                gmtime_r(&t, &tm);
                strftime(g->date, sizeof g->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
                g->date_second = second;
        }
        return g->date;
}

void gateway_lend_out(struct gateway *g, struct buffer *out)
{
        if (out->capacity)
                return;
        *out = g->spare_out;
        g->spare_out = (struct buffer){0};
}

void gateway_take_back_out(struct gateway *g, struct buffer *out)
{
        assert(out->size == 0);
        if (out->capacity <= OUT_KEPT_MAX)
                return;
        if (!g->spare_out.capacity && out->capacity <= 2 * TURN_OUT_MAX) {
                g->spare_out = *out;
                *out = (struct buffer){0};
        } else {
                buffer_fini(out);
        }
}

/* ---- the turn ---- */

/* Takes what is in `from`: what becomes dirty while we work waits for the next turn, so one busy connection
 * cannot hold the loop. */
static void list_take(struct list *from, struct list *to)
{
        list_init(to);
        if (list_is_empty(from))
                return;
        *to = *from;
        to->next->previous = to;
        to->previous->next = to;
        list_init(from);
}

static void flush_first(struct list *now)
{
        struct connection *c = CONTAINER_OF(now->next, struct connection, dirty);

        list_remove(&c->dirty);
        c->is_dirty = false;
        connection_flush(c);
}

/* Hundreds of readers of a long history together would keep everybody else waiting for seconds (G18): they
 * share a part of each turn, in their order. */
static void flush_bulk(struct gateway *g)
{
        uint64_t until_us = os_monotonic_us(g->os) + BULK_TURN_US;
        struct list now;

        list_take(&g->bulk, &now);
        while (!list_is_empty(&now)) {
                flush_first(&now);
                if (os_monotonic_us(g->os) >= until_us)
                        break;
        }
        while (!list_is_empty(&now)) { /* the rest is first in the next turn */
                struct list *last = now.previous;

                list_remove(last);
                list_add_first(&g->bulk, last);
        }
}

static void on_turn_end(struct os_turn_hook *hook)
{
        struct gateway *g = hook->arg;
        struct list now;

        if (g->is_starving && g->stats.buffered_bytes <= 2 * g->memory_size) {
                g->is_starving = false;
                LIST_EACH (at, &g->connections)
                        connection_wake_waiting(CONTAINER_OF(at, struct connection, link));
        }
        if (g->access && access_generation(g->access) != g->access_generation)
                rights_ask_again(g);
        if (!list_is_empty(&g->hellos))
                secure_shake_hands(g);
        list_take(&g->dirty, &now);
        while (!list_is_empty(&now))
                flush_first(&now);
        if (!list_is_empty(&g->bulk))
                flush_bulk(g);
        if (!list_is_empty(&g->dirty) || !list_is_empty(&g->bulk))
                os_turn_again(g->os);
}

static void on_tick(struct os_timer *timer)
{
        struct gateway *g = timer->arg;
        uint64_t now_us = os_turn_time(g->os).monotonic_us;

        if (g->access)
                rights_ask_again(g);
        LIST_EACH_SAFE (at, &g->connections)
                connection_tick(CONTAINER_OF(at, struct connection, link), now_us);
        os_timer_start(g->os, &g->tick_timer, g->is_closing ? CLOSING_TICK_US : TICK_US);
        gateway_check_closed(g);
}

/* ---- deadlines: one timer for the earliest, since nearly every call ends long before its own ---- */

static void on_deadline(struct os_timer *timer)
{
        struct gateway *g = timer->arg;
        uint64_t now_us = os_turn_time(g->os).monotonic_us;
        uint64_t next_us = UINT64_MAX;
        struct list passed;

        /* Set apart first: whoever is told may end other calls, and so take them from the list. */
        list_init(&passed);
        LIST_EACH_SAFE (at, &g->deadlines) {
                struct gateway_request *r = CONTAINER_OF(at, struct gateway_request, deadline);

                if (r->deadline_us <= now_us) {
                        list_remove(&r->deadline);
                        list_add_last(&passed, &r->deadline);
                } else {
                        next_us = MIN(next_us, r->deadline_us);
                }
        }
        g->next_deadline_us = next_us;
        if (next_us != UINT64_MAX)
                os_timer_start(g->os, &g->deadline_timer, next_us - now_us);
        while (!list_is_empty(&passed)) {
                struct gateway_request *r = CONTAINER_OF(passed.next, struct gateway_request, deadline);

                list_remove(&r->deadline);
                grpc_deadline(r);
        }
}

void gateway_add_deadline(struct gateway_request *r)
{
        struct gateway *g = r->gateway;
        uint64_t now_us = os_turn_time(g->os).monotonic_us;

        assert(r->deadline_us);
        list_add_last(&g->deadlines, &r->deadline);
        if (r->deadline_us < g->next_deadline_us) {
                g->next_deadline_us = r->deadline_us;
                os_timer_start(
                        g->os, &g->deadline_timer, r->deadline_us > now_us ? r->deadline_us - now_us : 0);
        }
}

/* ---- the end ---- */

static void free_now(struct gateway *g)
{
        while (!list_is_empty(&g->requests_free)) {
                struct gateway_request *r = CONTAINER_OF(g->requests_free.next, struct gateway_request, link);

                list_remove(&r->link);
                arena_fini(&r->arena);
                buffer_fini(&r->body);
                buffer_fini(&r->out);
                free(r);
        }
        while (g->routes) {
                struct route_block *next = g->routes->next;

                free(g->routes);
                g->routes = next;
        }
        grpc_fini(g);
        buffer_fini(&g->spare_out);
        buffer_fini(&g->plain);
        free(g);
}

static void finish(void *arg)
{
        struct gateway *g = arg;
        void (*on_closed)(void *) = g->on_closed;
        void *on_closed_arg = g->on_closed_arg;

        os_timer_stop(&g->tick_timer);
        os_timer_stop(&g->deadline_timer);
        os_timer_stop(&g->look_timer);
        os_turn_hook_remove(&g->turn_hook);
        free_now(g);
        if (on_closed)
                on_closed(on_closed_arg);
}

void gateway_check_closed(struct gateway *g)
{
        if (!g->is_closing || g->is_finished || !list_is_empty(&g->connections) || g->requests_detached ||
                g->is_looking)
                return;
        g->is_finished = true;
        os_post(g->os, finish, g); /* not from inside: the callers still look at the gateway */
}

void gateway_close(struct gateway **gateway, void (*on_closed)(void *arg), void *arg)
{
        struct gateway *g = *gateway;

        assert(g);
        assert(!g->is_closing);
        *gateway = NULL;
        g->is_closing = true;
        g->close_by_us = os_turn_time(g->os).monotonic_us + CLOSE_TIMEOUT_US;
        g->on_closed = on_closed;
        g->on_closed_arg = arg;
        os_listener_close(&g->listener);
        LIST_EACH_SAFE (at, &g->connections) {
                struct connection *c = CONTAINER_OF(at, struct connection, link);

                if (c->state == CONNECTION_HTTP2)
                        h2_goaway(c);
                LIST_EACH_SAFE (request_at, &c->requests) {
                        struct gateway_request *r = CONTAINER_OF(request_at, struct gateway_request, link);

                        if (r->is_call)
                                grpc_stop(r, false);
                }
                connection_touch(c);
        }
        os_timer_stop(&g->look_timer);
        os_timer_stop(&g->tick_timer);
        os_timer_start(g->os, &g->tick_timer, CLOSING_TICK_US);
        gateway_check_closed(g);
}
