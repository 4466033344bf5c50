/* gateway (GatewaySystem): speaks gRPC and HTTP on one port; bounds each session.
 *
 * The first bytes of a connection choose: the HTTP/2 preface (nghttp2) or HTTP/1.1 (http_parser, strict). TLS with ALPN
 * will slot in between the connection and that choice. gRPC methods are a table in grpc.c; HTTP resources are routes
 * that other rooms (api, ops) register; a route works the same over HTTP/1.1 and HTTP/2.
 *
 * Until TLS and users exist only loopback addresses are listened on; any other is refused with the reason.
 *
 * Threads: the loop thread. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "base/bytes.h"
#include "base/json_out.h"
#include "control/control.h"
#include "notification/notification.h"
#include "os/os.h"
#include "store/store.h"

struct gateway;
struct gateway_options {
        struct os *os;
        struct control *control;
        const char *address;            /* an IP literal; must be loopback */
        uint16_t port;                  /* 0: the kernel chooses */
        uint8_t node_uuid[16];          /* shown by gossip */
        uint32_t connections_max;       /* 0: 2000 */
        uint32_t streams_max;           /* concurrent HTTP/2 streams of a connection; 0: 1000 */
        uint64_t memory_size;           /* all buffers of all sessions; 0: 64 MiB */
};
enum gateway_outcome {
        GATEWAY_ADDRESS_IN_USE = 1,
        GATEWAY_ADDRESS_REFUSED,        /* not loopback; *ret_why says why and what to do */
        GATEWAY_ADDRESS_INVALID,
};
/* Binds and accepts; answers "not ready" (HTTP 503 with Retry-After, gRPC 14) until gateway_serve. */
MUST_CHECK int gateway_open(const struct gateway_options *options, struct gateway **ret, const char **ret_why);
uint16_t gateway_port(const struct gateway *g);
/* From now on requests reach these; borrowed. */
void gateway_serve(struct gateway *g, struct store *store, struct notification *notification);
struct store *gateway_store(struct gateway *g);               /* NULL: not ready */
struct notification *gateway_notification(struct gateway *g); /* NULL: not ready */
/* Orderly stop: no new connections or requests (GOAWAY, 503, gRPC 14), requests under way end within 5 s, then
 * `on_closed` on the loop. */
void gateway_close(struct gateway **g, void (*on_closed)(void *arg), void *arg);

/* ---- HTTP routes ---- */

struct gateway_request; /* lives until the reply has ended or on_close of its stream has run */

typedef void gateway_handler(void *arg, struct gateway_request *request);
struct gateway_route {
        const char *method;     /* "GET"; a GET route serves HEAD too */
        const char *path;       /* "/v1/streams/{stream}/events": {x} takes one segment, percent-decoded */
        const char *summary;    /* one line, for the list of routes */
        gateway_handler *handler;
        void *arg;
        uint64_t body_size_max; /* larger: 413, and the connection survives if the rest can be skipped */
        bool when_not_ready;    /* answers even while the store is opening */
};
/* Adds routes; the array is borrowed for the life of the gateway. A path that two routes share differs in method: a
 * request with another method gets 405 with Allow. */
void gateway_add_routes(struct gateway *g, const struct gateway_route *routes, unsigned count);
/* Calls `each` for every route. */
void gateway_each_route(const struct gateway *g, void (*each)(void *arg, const struct gateway_route *route), void *arg);

struct gateway *gateway_of(struct gateway_request *r);
struct bytes gateway_method(const struct gateway_request *r);
struct bytes gateway_path(const struct gateway_request *r);                          /* as sent, without query */
struct bytes gateway_path_parameter(const struct gateway_request *r, const char *name); /* decoded; empty if none */
/* The query parameter, decoded. False if it is absent. */
bool gateway_query(const struct gateway_request *r, const char *name, struct bytes *ret);
/* The i-th query parameter, to find unknown ones. False behind the last. */
bool gateway_query_at(const struct gateway_request *r, unsigned i, struct bytes *ret_name, struct bytes *ret_value);
/* A header, name in lower case. False if it is absent. */
bool gateway_header(const struct gateway_request *r, const char *name, struct bytes *ret);
struct bytes gateway_body(const struct gateway_request *r);
struct arena *gateway_arena(struct gateway_request *r); /* lives as long as the request */
const char *gateway_peer(const struct gateway_request *r);

struct gateway_header_field {
        const char *name; /* lower case */
        const char *value;
};
/* Answers with all of the body (copied) and ends the request. HEAD: headers only. */
void gateway_reply(struct gateway_request *r, int status, const char *content_type, struct bytes body,
        const struct gateway_header_field *headers, unsigned header_count);
/* Answers with application/problem+json (RFC 9457): type "urn:nilo:<code>", title, status, detail (what, where), and
 * `next` (the next step; NULL: none). `extra`, if not NULL, adds further fields to the object. */
struct gateway_problem {
        int status;
        const char *code;   /* "conflict" */
        const char *title;
        const char *next;
        void (*extra)(void *arg, struct json_out *j);
        void *arg;
};
void gateway_reply_problem(struct gateway_request *r, const struct gateway_problem *problem, const char *detail_format, ...)
        PRINTF_LIKE(3, 4);

/* A body in pieces, with back-pressure. `on_writable` asks for more: send while gateway_stream_room is above zero, then
 * return; it is called again when there is room. The user calls gateway_stream_wake when it has something new after
 * having had nothing. on_close: the client went away or the connection broke; last call, the request is gone after it;
 * it does not run after gateway_stream_end. */
struct gateway_stream_handler {
        void (*on_writable)(void *arg, struct gateway_request *r);
        void (*on_close)(void *arg, struct gateway_request *r);
};
void gateway_stream_begin(struct gateway_request *r, int status, const char *content_type,
        const struct gateway_header_field *headers, unsigned header_count, const struct gateway_stream_handler *handler,
        void *arg);
size_t gateway_stream_room(const struct gateway_request *r);
void gateway_stream_send(struct gateway_request *r, struct bytes piece); /* copied; may exceed the room by one piece */
void gateway_stream_wake(struct gateway_request *r);                     /* on_writable will run, not from inside */
void gateway_stream_end(struct gateway_request *r);

/* The client may go away while a handler waits for a completion without having begun a reply: `on_gone` then runs, and
 * the request must not be used after it. NULL: the reply is dropped silently by the gateway and the request stays
 * usable until replied to. */
void gateway_on_gone(struct gateway_request *r, void (*on_gone)(void *arg, struct gateway_request *r), void *arg);

struct gateway_stats {
        uint64_t connections;           /* open now */
        uint64_t connections_total;
        uint64_t connections_refused;
        uint64_t http_requests;
        uint64_t http_requests_by_class[6]; /* [2]: 2xx ... */
        uint64_t grpc_calls;            /* started */
        uint64_t grpc_calls_open;
        uint64_t grpc_failed;
        uint64_t grpc_unimplemented;
        uint64_t grpc_deadline_exceeded;
        uint64_t received_bytes;
        uint64_t sent_bytes;
        uint64_t buffered_bytes;
};
void gateway_stats(const struct gateway *g, struct gateway_stats *ret);

/* The gRPC methods that work, for ServerFeatures, gossip and the docs: "event_store.client.streams.Streams/Read". */
const char *gateway_grpc_method(unsigned i); /* NULL behind the last */

#endif
