/* gateway (GatewaySystem): speaks gRPC and HTTP on one port; bounds each session.
 *
 * The first bytes of a connection choose: the HTTP/2 preface (nghttp2) or HTTP/1.1 (http_parser, strict); with TLS, ALPN
 * does if the client uses it. A port speaks TLS or does not, and says so to who takes it for the other. Meaning is registered from outside: gRPC methods by `kurrent`, HTTP
 * resources as routes by `api` and `ops`; a route works the same over HTTP/1.1 and HTTP/2.
 *
 * Loopback addresses are listened on as they are. Any other needs TLS and users, or the word that it is meant without.
 *
 * Threads: the loop thread. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "access/access.h"
#include "base/bytes.h"
#include "base/json_out.h"
#include "control/control.h"
#include "notification/notification.h"
#include "os/os.h"
#include "store/store.h"
#include "tls/tls.h"

struct gateway;
struct gateway_options {
        struct os *os;
        struct control *control;
        const char *address;            /* an IP literal, or "localhost" */
        uint16_t port;                  /* 0: the kernel chooses */
        uint8_t node_uuid[16];          /* shown by gossip */
        uint32_t connections_max;       /* 0: 2000 */
        uint32_t connections_per_address_max; /* off loopback; 0: 1000 */
        uint32_t streams_max;           /* concurrent HTTP/2 streams of a connection; 0: 1000 */
        uint64_t memory_size;           /* all buffers of all sessions; 0: 64 MiB */
        /* TLS on the whole port: by `tls` (borrowed), or NULL and who connects waits for gateway_set_tls. */
        bool speaks_tls;
        struct tls_context *tls;
        uint32_t handshakes_max;        /* under way at one time; 0: 256, or fewer where memory is small */
        bool is_insecure;               /* was said: other addresses than loopback need neither TLS nor users */
        struct access *access;          /* who asks, and what they may do; borrowed. NULL: everybody may do everything */
};
enum gateway_outcome {
        GATEWAY_ADDRESS_IN_USE = 1,
        GATEWAY_ADDRESS_REFUSED,        /* not loopback, and not safe; *ret_why says why and what to do */
        GATEWAY_ADDRESS_INVALID,
};
/* Binds and accepts; answers "not ready" (HTTP 503 with Retry-After, gRPC 14) until gateway_serve. */
MUST_CHECK int gateway_open(const struct gateway_options *options, struct gateway **ret, const char **ret_why);
uint16_t gateway_port(const struct gateway *g);
bool gateway_speaks_tls(const struct gateway *g);
/* Who connects is met with this from now on; borrowed. Until then, connections wait. */
void gateway_set_tls(struct gateway *g, struct tls_context *tls);
/* Reads the files of the context again, for connections from now on; that is a fact, and so is what is wrong with them: then
 * the old ones stay. The gateway does so by itself when it sees that they have changed. */
void gateway_reload_tls(struct gateway *g);
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
        enum access_rule access; /* who may ask; a route without a rule cannot be added */
        /* Of ACCESS_STREAM: the right that is needed, and to what: the name of a path parameter, or "$all". NULL: the handler asks
         * gateway_may for each stream that it learns of. */
        enum access_right right;
        const char *stream;
        const char *queries; /* the query parameters that it knows, separated by spaces, for the list of routes; NULL: none */
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
/* A header that the answer will have besides its own, whichever answer that is; one for a request, the last counts. Its
 * value is borrowed until the answer begins. */
void gateway_answer_header(struct gateway_request *r, struct gateway_header_field field);
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

/* ---- who asks, and what he may do (access) ---- */

/* Both for requests and for calls. The rule of the route or method has been applied before its handler runs. */
struct access *gateway_access(struct gateway *g); /* NULL: nothing is enforced */
const struct principal *gateway_principal(const struct gateway_request *r); /* NULL: nobody who was asked for his name */
/* Has he the right to this stream ("$all": to all of them), now? */
MUST_CHECK bool gateway_may(struct gateway_request *r, enum access_right right, struct bytes stream);
/* May he see an event of that stream to which `$all` or a link has led? */
MUST_CHECK bool gateway_may_see(struct gateway_request *r, struct bytes stream);
/* The answer goes on for long: it ends as soon as he has not this right any more, as it does when he is no user any more. */
void gateway_keep_asking(struct gateway_request *r, enum access_right right, struct bytes stream);
/* Answers that he has not that right: 403 or 401, PERMISSION_DENIED or UNAUTHENTICATED. */
void gateway_refuse(struct gateway_request *r, enum access_right right, struct bytes stream);

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
        uint64_t tls_handshakes;        /* under way */
        uint64_t tls_handshakes_total;  /* begun */
        uint64_t tls_handshakes_failed; /* with an error, or not TLS at all; what ran out of time or went away is not counted */
};
void gateway_stats(const struct gateway *g, struct gateway_stats *ret);
/* Calls `each` for every limit that the gateway keeps: its name, its unit in the end of that, what it bounds. */
void gateway_each_limit(const struct gateway *g,
        void (*each)(void *arg, const char *name, uint64_t value, const char *text), void *arg);

/* ---- gRPC methods ---- */

/* Status codes of gRPC (grpc.io: statuscodes). */
enum grpc_status {
        GRPC_OK = 0,
        GRPC_CANCELLED = 1,
        GRPC_UNKNOWN = 2,
        GRPC_INVALID_ARGUMENT = 3,
        GRPC_DEADLINE_EXCEEDED = 4,
        GRPC_NOT_FOUND = 5,
        GRPC_ALREADY_EXISTS = 6,
        GRPC_PERMISSION_DENIED = 7,
        GRPC_RESOURCE_EXHAUSTED = 8,
        GRPC_FAILED_PRECONDITION = 9,
        GRPC_ABORTED = 10,
        GRPC_OUT_OF_RANGE = 11,
        GRPC_UNIMPLEMENTED = 12,
        GRPC_INTERNAL = 13,
        GRPC_UNAVAILABLE = 14,
        GRPC_DATA_LOSS = 15,
        GRPC_UNAUTHENTICATED = 16,
};

/* A method of a service. A call of it is a gateway_request whose path is "/service/name"; headers, arena and peer are had
 * as for any request; gateway_reply and gateway_stream_* are not for calls. The callbacks run on the loop; once the call
 * has ended, by gateway_call_end or by on_gone, none runs any more. Inside a callback the call may be ended; it may be
 * touched until that callback returns, and afterwards only while held. */
struct gateway_method {
        const char *service;       /* "event_store.client.streams.Streams" */
        const char *name;          /* "Read" */
        const char *features;      /* for ServerFeatures, separated by spaces; "": none */
        uint64_t message_size_max; /* larger: RESOURCE_EXHAUSTED with the limit in the message */
        bool is_client_stream;     /* any number of messages; else exactly one, else the call is INVALID_ARGUMENT: it is handed
                                      over when the client has said that none follows */
        bool when_not_ready;       /* works even while the store is opening; else UNAVAILABLE */
        enum access_rule access;   /* who may call; ACCESS_STREAM: the method asks gateway_may. Without a rule it cannot be added */
        /* A whole message has come; borrowed for the call. Not while the call is paused. */
        void (*on_message)(void *arg, struct gateway_request *call, struct bytes message);
        /* The client sends no more messages; after the last on_message. NULL: of no interest. */
        void (*on_half_close)(void *arg, struct gateway_request *call);
        /* There is room for output: after gateway_call_wake, when gateway_stream_room has risen again from zero, and now and
         * then for no reason. NULL: the method only answers once. */
        void (*on_writable)(void *arg, struct gateway_request *call);
        /* The client cancelled, the connection broke, the deadline passed (4 has been sent), the server stops (14 has been
         * sent) or what the client sent is malformed or too large (its status has been sent): last callback, even when none
         * came before. NULL: of no interest. */
        void (*on_gone)(void *arg, struct gateway_request *call);
        void *arg;
};
/* Adds methods; the array is borrowed for the life of the gateway. */
void gateway_add_methods(struct gateway *g, const struct gateway_method *methods, unsigned count);
/* Calls `each` for every method: for ServerFeatures and the docs. */
void gateway_each_method(const struct gateway *g, void (*each)(void *arg, const struct gateway_method *method), void *arg);

/* The method's own, NULL at first; usually from the call's arena. */
void gateway_call_set_state(struct gateway_request *call, void *state);
void *gateway_call_state(const struct gateway_request *call);
/* Monotonic time at which the client gives up (grpc-timeout); 0: never. */
uint64_t gateway_call_deadline_us(const struct gateway_request *call);
/* While a completion points at the call (a store_append under way) it must be held; the call's memory stays until the
 * release, though it may be over by then. A server that stops gives held calls 4 s to be released and ends all others at
 * once, so nobody should hold a call just because it is open. */
void gateway_call_hold(struct gateway_request *call);
void gateway_call_release(struct gateway_request *call);
bool gateway_call_is_over(const struct gateway_request *call); /* has ended: sends are ignored */
/* One answer: write the message behind what is in the buffer that _begin gives, then _end; nothing else may be called in
 * between. Bytes go out at the end of the turn. gateway_stream_room says whether a stream should rest. */
struct buffer *gateway_message_begin(struct gateway_request *call);
void gateway_message_end(struct gateway_request *call);
/* on_writable will run at the end of the turn, not from inside. */
void gateway_call_wake(struct gateway_request *call);
/* Stops and resumes on_message and on_half_close; meanwhile the client meets HTTP/2 flow control. */
void gateway_call_pause(struct gateway_request *call, bool is_paused);
/* A trailer of the end; name in lower case, copied. The value may be any bytes: a name that ends in "-bin" is sent in base64,
 * any other with percent-encoding as grpc-message. Clients take 8 KiB of headers, so what does not fit into 7 KiB of trailers,
 * or is the 17th, is left out. */
void gateway_call_trailer(struct gateway_request *call, const char *name, struct bytes value);
/* Ends the call. `message` may be NULL or hold any UTF-8; it is percent-encoded. Harmless when the call is over. */
void gateway_call_end(struct gateway_request *call, enum grpc_status status, const char *message);

#endif
