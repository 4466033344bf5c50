/* Answers that go on: what was gathered is sent in pieces, and a sign of life when nothing else was, for
 * those between us and the client who break connections on which nothing moves. The sign is left out while
 * the client takes nothing: what waits for it proves that the connection is in use. */
#include "api/room.h"

#include <stdio.h>

const struct gateway_header_field feed_headers[1] = {{"cache-control", "no-cache"}};

static void on_keep_alive(struct os_timer *timer)
{
        struct feed *f = timer->arg;
        struct os *os = f->call->api->os;
        bool is_idle = os_turn_time(os).monotonic_us - f->sent_us >= KEEP_ALIVE_US / 2;

        if (f->on_look && !f->on_look(f))
                return;
        os_timer_start(os, &f->keep_alive, KEEP_ALIVE_US);
        if (!is_idle || !gateway_stream_room(f->call->request))
                return;
        buffer_add_string(&f->piece, f->sign);
        feed_send(f);
}

void feed_init(struct feed *f, struct call *c, const char *sign)
{
        *f = (struct feed){.call = c, .sign = sign, .keep_alive = {.fn = on_keep_alive, .arg = f}};
}

void feed_begin(struct feed *f, const char *media, const struct gateway_stream_handler *handler, void *arg)
{
        os_timer_start(f->call->api->os, &f->keep_alive, KEEP_ALIVE_US);
        gateway_stream_begin(
                f->call->request, 200, media, feed_headers, COUNT_OF(feed_headers), handler, arg);
}

void feed_send(struct feed *f)
{
        if (!f->piece.size)
                return;
        call_send_piece(f->call, &f->piece);
        f->sent_us = os_turn_time(f->call->api->os).monotonic_us;
}

void feed_fini(struct feed *f)
{
        os_timer_stop(&f->keep_alive);
        buffer_fini(&f->piece);
}

void feed_problem_to_json(struct json_out *j, const struct gateway_problem *problem, const char *detail)
{
        char type[64];

        snprintf(type, sizeof type, "urn:nilo:%s", problem->code);
        json_field_string(j, "type", type);
        json_field_string(j, "title", problem->title);
        json_field_u64(j, "status", (uint64_t)problem->status);
        json_field_string(j, "detail", detail);
        json_field_string(j, "next", problem->next);
}
