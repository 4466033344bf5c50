/* HTTP/2 frames and gRPC messages from strangers. Whatever comes, in whatever pieces: nothing breaks, a
 * paused call is left alone, no call stays open, and no memory stays booked. The first byte chooses the size
 * of the pieces; the preface and settings are there already, so that the rest is frames.
 * Links: base os model control tls persistence cluster store notification access gateway */
#include <stdlib.h>

#include "gateway/room.h"

static unsigned calls_ended;
static struct gateway_request *paused;

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void on_unary(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        require(message.size <= 100);
        buffer_add_bytes(gateway_message_begin(call), message);
        gateway_message_end(call);
        gateway_call_trailer(call, "name", message);
        gateway_call_end(call, GRPC_OK, NULL);
        calls_ended++;
}

/* The message's first byte says what to do. */
static void on_chat(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        require(message.size <= 100);
        require(!gateway_call_is_over(call));
        require(call != paused);
        switch (message.size ? message.data[0] & 3 : 0) {
        case 0:
                buffer_add_bytes(gateway_message_begin(call), message);
                gateway_message_end(call);
                break;
        case 1:
                if (!paused) {
                        gateway_call_pause(call, true);
                        paused = call;
                }
                break;
        case 2:
                if (paused) {
                        struct gateway_request *other = paused;

                        paused = NULL;
                        gateway_call_pause(other, false);
                }
                break;
        default:
                gateway_call_end(call, GRPC_ABORTED, "asked to");
                calls_ended++;
                break;
        }
}

static void on_half_close(void *arg, struct gateway_request *call)
{
        (void)arg;
        require(call != paused);
        gateway_call_end(call, GRPC_OK, NULL);
        calls_ended++;
}

static void on_gone(void *arg, struct gateway_request *call)
{
        (void)arg;
        require(gateway_call_is_over(call));
        if (paused == call)
                paused = NULL;
        calls_ended++;
}

static void on_route(void *arg, struct gateway_request *r)
{
        (void)arg;
        gateway_reply(r, 200, "text/plain", gateway_body(r), NULL, 0);
}

static const struct gateway_method methods[] = {
        {.service = "t",
                .name = "u",
                .features = "",
                .message_size_max = 100,
                .access = ACCESS_ANYONE,
                .on_message = on_unary,
                .on_gone = on_gone},
        {.service = "t",
                .name = "c",
                .features = "",
                .message_size_max = 100,
                .is_client_stream = true,
                .access = ACCESS_ANYONE,
                .on_message = on_chat,
                .on_half_close = on_half_close,
                .on_gone = on_gone},
};
static const struct gateway_route routes[] = {
        {.method = "POST",
                .path = "/{x}",
                .handler = on_route,
                .body_size_max = 1000,
                .access = ACCESS_ANYONE},
        {.method = "GET", .path = "/{x}/{y}", .handler = on_route, .access = ACCESS_ANYONE},
};

static struct gateway *open_gateway(void)
{
        static int stores;
        struct control_options control = {.node_name = "fuzz", .log_fd = -1};
        struct gateway_options options = {.address = "127.0.0.1"};
        struct gateway *g;
        const char *why;

        require(os_real_new(&control.os) == 0);
        options.os = control.os;
        require(control_open(&control, &options.control) == 0);
        require(gateway_open(&options, &g, &why) == 0);
        gateway_add_methods(g, methods, COUNT_OF(methods));
        gateway_add_routes(g, routes, COUNT_OF(routes));
        gateway_serve(g, (struct store *)&stores, (struct notification *)&stores);
        return g;
}

/* The end of a turn, as far as it has no socket. */
static void end_turn(struct connection *c)
{
        while (!list_is_empty(&c->wake)) {
                struct gateway_request *r = CONTAINER_OF(c->wake.next, struct gateway_request, wake);

                list_remove(&r->wake);
                r->is_in_wake = false;
                if (r->on_writable)
                        r->on_writable(r);
        }
        h2_pull(c);
        buffer_clear(&c->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const uint8_t begin[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
        static struct gateway *g;
        struct connection c = {.state = CONNECTION_HTTP2, .peer = "fuzz"};
        struct gateway_stats before, after;
        size_t step;
        bool is_open;

        if (!g)
                g = open_gateway();
        if (!size)
                return 0;
        gateway_stats(g, &before);
        calls_ended = 0;
        c.gateway = g;
        list_init(&c.requests);
        list_init(&c.wake);
        list_init(&c.dirty);
        c.is_dirty = true; /* so that it never waits for a turn of the gateway */
        h2_new(&c);
        step = data[0] ? data[0] : size;
        is_open = h2_receive(&c, bytes_of(begin, sizeof begin));
        for (size_t at = 1; at < size && is_open && !c.is_doomed; at += step) {
                is_open = h2_receive(&c, bytes_of(data + at, MIN(step, size - at)));
                end_turn(&c);
        }
        while (!list_is_empty(&c.requests))
                request_close(CONTAINER_OF(c.requests.next, struct gateway_request, link));
        h2_free(&c);
        buffer_fini(&c.out);
        gateway_stats(g, &after);
        require(after.grpc_calls_open == 0);
        require(after.buffered_bytes == before.buffered_bytes);
        require(calls_ended <= after.grpc_calls - before.grpc_calls);
        require(!paused);
        require(list_is_empty(&g->deadlines));
        return 0;
}
