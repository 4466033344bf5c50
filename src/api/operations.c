/* What an operator does with this node: stop it, and let another voter lead. Under KurrentDB's paths and our
 * own; what there is nothing for here (scavenges, merging of indexes, priorities) has no path. */
#include "api/room.h"

#include <stdlib.h>

static void reply_empty(struct gateway_request *r)
{
        gateway_reply(r, 200, "application/json", BYTES_LITERAL("{}"), NULL, 0);
}

/* The answer leaves first: the stop begins in a later turn. */
static void post_shutdown(void *arg, struct gateway_request *r)
{
        struct api *api = arg;

        reply_empty(r);
        api->shut_down(api->arg);
}

struct resigning {
        struct api *api;
        struct gateway_request *request;
};

static void on_handed_over(void *arg)
{
        struct resigning *r = arg;

        if (!membership_is_leading(r->api->membership)) {
                reply_empty(r->request);
                return;
        }
        gateway_reply_problem(r->request,
                &(struct gateway_problem){
                        .status = 409,
                        .code = "still-leading",
                        .title = "This node still leads",
                        .next = "look at GET /v1/cluster: a voter that is reachable and has everything takes "
                                "over",
                },
                "no other voter is there that can take over");
}

static void post_resign(void *arg, struct gateway_request *request)
{
        struct api *api = arg;
        struct resigning *r;

        if (!api->membership) {
                gateway_reply_problem(request,
                        &(struct gateway_problem){.status = 503,
                                .code = "not-ready",
                                .title = "The nodes are not known yet",
                                .next = "try again in a second"},
                        "the server is starting");
                return;
        }
        r = arena_get(gateway_arena(request), sizeof *r);
        *r = (struct resigning){.api = api, .request = request};
        if (membership_is_leading(api->membership))
                membership_hand_over(api->membership, on_handed_over, r);
        else
                on_handed_over(r); /* it is as it was asked for */
}

void operations_open(struct api *api)
{
        static const struct gateway_route routes[] = {
                {"POST", "/v1/node/shutdown", "stop this node in order", post_shutdown, .access = ACCESS_OPS},
                {"POST", "/v1/node/resign", "let another voter lead", post_resign, .access = ACCESS_OPS},
                {"POST", "/admin/shutdown", "stop this node in order, by KurrentDB's path", post_shutdown,
                        .access = ACCESS_OPS},
                {"POST", "/admin/node/resign", "let another voter lead, by KurrentDB's path", post_resign,
                        .access = ACCESS_OPS},
        };

        if (!api->shut_down)
                return;
        api->operation_routes = memory_new_array(COUNT_OF(routes), sizeof routes[0]);
        for (unsigned i = 0; i < COUNT_OF(routes); i++) {
                api->operation_routes[i] = routes[i];
                api->operation_routes[i].arg = api;
                api->operation_routes[i].body_size_max = SMALL_BODY_SIZE_MAX;
                api->operation_routes[i].queries = "";
        }
        gateway_add_routes(api->gateway, api->operation_routes, COUNT_OF(routes));
}

void operations_close(struct api *api)
{
        free(api->operation_routes);
}
