/* The cluster: its status, and the commands of operators (docs/cluster.md). Any node answers: what only the
 * leader can do, the node that was asked has done there. These routes answer while the store is not open,
 * since that is when they are needed. */
#include "api/room.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MS_DEFAULT = 30000, WAIT_MS_MAX = 600000, LOCATION_SIZE_MAX = 8192 };

#define COMMAND_QUERIES "dry-run wait-ms"

struct commanding {
        struct api *api;
        struct gateway_request *request;
};

static void refuse(struct gateway_request *r, int status, const char *code, const char *title,
        const char *next, const char *detail)
{
        struct gateway_problem problem = {.status = status, .code = code, .title = title, .next = next};

        gateway_reply_problem(r, &problem, "%s", detail);
}

static struct membership *membership_of(void *arg, struct gateway_request *r)
{
        struct api *api = arg;

        if (!api->membership)
                refuse(r, 503, "not-ready", "The node is starting", "try again in a second",
                        "the data directory is not open yet");
        return api->membership;
}

/* ---- status ---- */

static void get_status(void *arg, struct gateway_request *r)
{
        struct membership *m = membership_of(arg, r);
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (!m)
                return;
        membership_status_to_json(m, &j);
        buffer_add_u8(&body, '\n');
        gateway_reply(r, 200, "application/json", buffer_bytes(&body), NULL, 0);
        buffer_fini(&body);
}

/* ---- commands ---- */

static void on_gone(void *arg, struct gateway_request *r)
{
        struct commanding *c = arg;

        (void)r;
        c->request = NULL;
}

static void reply_not_yet(struct gateway_request *r, const struct membership_answer *answer)
{
        static const struct gateway_header_field again[] = {{"retry-after", "1"}};
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        json_object_begin(&j);
        json_field_bool(&j, "done", false);
        json_field_string(&j, "waits_for", answer->detail);
        json_object_end(&j);
        buffer_add_u8(&body, '\n');
        gateway_reply(r, 202, "application/json", buffer_bytes(&body), again, COUNT_OF(again));
        buffer_fini(&body);
}

static void on_answered(void *arg, const struct membership_answer *answer)
{
        struct commanding *c = arg;
        struct gateway_request *r = c->request;

        free(c);
        if (!r)
                return;
        gateway_on_gone(r, NULL, NULL);
        if (answer->status == 202)
                reply_not_yet(r, answer);
        else if (answer->status < 300)
                gateway_reply(r, answer->status, "application/json", answer->body, NULL, 0);
        else
                refuse(r, answer->status, answer->code, answer->title, answer->next, answer->detail);
}

static void command(struct api *api, struct gateway_request *r, json_t *request)
{
        struct membership *m = membership_of(api, r);
        struct commanding *c;
        struct bytes value;
        uint64_t wait_ms = WAIT_MS_DEFAULT;
        char *text;

        if (!m) {
                json_decref(request);
                return;
        }
        if (gateway_query(r, "dry-run", &value))
                json_object_set_new(request, "dry_run", json_boolean(!bytes_equal_string(value, "false")));
        if (gateway_query(r, "wait-ms", &value) &&
                (!bytes_to_number(value, &wait_ms) || wait_ms > WAIT_MS_MAX)) {
                json_decref(request);
                refuse(r, 400, "invalid", "The request cannot be understood", NULL,
                        "wait-ms is a number from 0 to 600000");
                return;
        }
        c = MEMORY_NEW(struct commanding);
        *c = (struct commanding){api, r};
        gateway_on_gone(r, on_gone, c);
        text = json_dumps(request, JSON_COMPACT);
        assert(text);
        json_decref(request);
        membership_command(m, bytes_of_string(text),
                os_monotonic_us(api->os) + MAX(wait_ms, (uint64_t)1) * 1000, on_answered, c);
        free(text);
}

/* The body as an object; none is an empty one. NULL: refused. */
static json_t *body_of(struct gateway_request *r)
{
        struct bytes body = gateway_body(r);
        json_t *object;

        if (!body.size)
                return json_object();
        object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(object))
                return object;
        json_decref(object);
        refuse(r, 400, "invalid", "The request cannot be understood", NULL, "the body is no JSON object");
        return NULL;
}

static void post_named(void *arg, struct gateway_request *r, const char *what)
{
        json_t *request = body_of(r);

        if (!request)
                return;
        json_object_set_new(request, "do", json_string(what));
        command(arg, r, request);
}

static void post_init(void *arg, struct gateway_request *r)
{
        post_named(arg, r, "init");
}

static void post_token(void *arg, struct gateway_request *r)
{
        post_named(arg, r, "token");
}

static void post_replace(void *arg, struct gateway_request *r)
{
        post_named(arg, r, "replace");
}

static void post_grow(void *arg, struct gateway_request *r)
{
        post_named(arg, r, "grow");
}

static void post_finalize(void *arg, struct gateway_request *r)
{
        post_named(arg, r, "finalize");
}

static void get_tokens(void *arg, struct gateway_request *r)
{
        command(arg, r, json_pack("{ss}", "do", "tokens"));
}

static void delete_token(void *arg, struct gateway_request *r)
{
        struct bytes id = gateway_path_parameter(r, "id");

        command(arg, r,
                json_pack("{ssso}", "do", "revoke", "id", json_stringn((const char *)id.data, id.size)));
}

/* The node that was asked leaves. */
static void post_leave(void *arg, struct gateway_request *r)
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        struct membership *m = membership_of(arg, r);
        unsigned count = m ? membership_nodes(m, nodes, CLUSTER_MEMBERS_MAX) : 0;
        json_t *request = m ? body_of(r) : NULL;

        if (!request)
                return;
        json_object_set_new(request, "do", json_string("leave"));
        for (unsigned i = 0; i < count; i++)
                if (nodes[i].is_self)
                        json_object_set_new(request, "node", json_integer((json_int_t)nodes[i].node_id));
        command(arg, r, request);
}

static void post_node(void *arg, struct gateway_request *r)
{
        static const char *const verbs[] = {"add", "promote", "demote", "remove", "transfer"};
        struct bytes verb = gateway_path_parameter(r, "verb");
        json_t *request;
        uint64_t node;
        unsigned i = 0;

        while (i < COUNT_OF(verbs) && !bytes_equal_string(verb, verbs[i]))
                i++;
        if (i == COUNT_OF(verbs)) {
                refuse(r, 404, "not-found", "There is no such command", NULL,
                        "a node can be added, promoted, demoted, removed, and transferred to");
                return;
        }
        if (!bytes_to_number(gateway_path_parameter(r, "node"), &node) || !node || node > INT64_MAX) {
                refuse(r, 400, "invalid", "The request cannot be understood", NULL,
                        "a node is named by its number");
                return;
        }
        request = body_of(r);
        if (!request)
                return;
        json_object_set_new(request, "do", json_string(verbs[i]));
        json_object_set_new(request, "node", json_integer((json_int_t)node));
        command(arg, r, request);
}

/* ---- where the leader is ---- */

static void redirect(struct gateway_request *r, const struct membership_node *leader)
{
        struct buffer location = {0};
        struct gateway_header_field headers[] = {{"location", NULL}, {"nilo-leader", NULL}};
        struct bytes name, value;
        char node[24];

        /* All nodes of a cluster speak TLS to clients, or none does. */
        buffer_add_string(&location, gateway_speaks_tls(gateway_of(r)) ? "https://" : "http://");
        buffer_format(&location, strchr(leader->host, ':') ? "[%s]:%u" : "%s:%u", leader->host, leader->port);
        buffer_add_bytes(&location, gateway_path(r));
        for (unsigned i = 0; gateway_query_at(r, i, &name, &value) && location.size < LOCATION_SIZE_MAX;
                i++) {
                buffer_add_u8(&location, i ? '&' : '?');
                query_add_escaped(&location, name);
                buffer_add_u8(&location, '=');
                query_add_escaped(&location, value);
        }
        buffer_add_u8(&location, 0);
        snprintf(node, sizeof node, "%llu", (unsigned long long)leader->node_id);
        headers[0].value = (const char *)location.data;
        headers[1].value = node;
        gateway_reply(r, 307, "application/json", BYTES_LITERAL("{\"code\":\"not-leader\"}\n"), headers,
                COUNT_OF(headers));
        buffer_fini(&location);
}

bool cluster_check_leader(struct api *api, struct gateway_request *r)
{
        struct membership_node leader;

        if (!api->membership || membership_is_leading(api->membership))
                return true;
        if (membership_leader(api->membership, &leader) && !leader.is_self) {
                redirect(r, &leader);
                return false;
        }
        refuse(r, 503, "no-leader", "No leader is known",
                "try again in a second: nilo cluster status says what is missing",
                "only the leader can do it, and none is known");
        return false;
}

bool requires_leader(const struct call *c)
{
        struct bytes value;

        return gateway_header(c->request, "requires-leader", &value) && value.size == 4 &&
               strncasecmp((const char *)value.data, "true", 4) == 0;
}

/* ---- the routes ---- */

void cluster_open(struct api *api)
{
        static const struct gateway_route routes[] = {
                {"GET", "/v1/cluster", "the members of the cluster, their state and lag, the quorum",
                        get_status, .when_not_ready = true, .access = ACCESS_USER},
                {"POST", "/v1/cluster/init", "make a cluster of this node", post_init, .when_not_ready = true,
                        .access = ACCESS_ADMINS, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/tokens", "make a token to join with", post_token,
                        .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"GET", "/v1/cluster/tokens", "tokens, without their secrets", get_tokens,
                        .when_not_ready = true, .access = ACCESS_ADMINS},
                {"DELETE", "/v1/cluster/tokens/{id}", "revoke a token", delete_token, .when_not_ready = true,
                        .access = ACCESS_ADMINS, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/nodes/{node}/{verb}",
                        "add, promote, demote or remove a node, or transfer leadership to it", post_node,
                        .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/leave", "remove the node that is asked", post_leave,
                        .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/replace", "replace a node by another: {\"node\": old, \"with\": new}",
                        post_replace, .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/grow", "make one voter three: {\"voters\": 3} or {\"nodes\": [2, 3]}",
                        post_grow, .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/cluster/finalize", "raise the cluster version, once every member supports more",
                        post_finalize, .when_not_ready = true, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
        };

        api->cluster_routes = memory_new_array(COUNT_OF(routes), sizeof routes[0]);
        for (unsigned i = 0; i < COUNT_OF(routes); i++) {
                api->cluster_routes[i] = routes[i];
                api->cluster_routes[i].arg = api;
                if (routes[i].handler != get_status)
                        api->cluster_routes[i].queries = COMMAND_QUERIES;
        }
        gateway_add_routes(api->gateway, api->cluster_routes, COUNT_OF(routes));
}

void cluster_close(struct api *api)
{
        free(api->cluster_routes);
}
