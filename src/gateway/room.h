/* What the files of this room share.
 *
 * gateway.c      the life of the gateway, the turn, timeouts, deadlines, memory
 * listener.c     which addresses are listened on; who may connect
 * limits.def     every limit on strangers          limits.c   what is counted to keep to them
 * connection.c   one connection: bytes in, bytes out, which protocol
 * secure.c       TLS below it          reload.c   new certificates without a restart
 * h1.c           HTTP/1.1 over a connection        h1_head.c   its request heads        h1_body.c   its bodies
 * h2.c           HTTP/2 over a connection
 * request.c      one request of either protocol: headers, reply, stream
 * routes.c       which handler answers a path
 * grpc.c         gRPC calls: framing, status, deadlines, the table of methods
 * rights.c       who asks, and whether he may
 *
 * Output is corked: whatever is produced for a connection during a turn of the loop is sent by one call at its end. */
#ifndef GATEWAY_ROOM_H
#define GATEWAY_ROOM_H

#include "base/arena.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/sm.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"

enum {
        CONNECTIONS_DEFAULT = 2000,
        CONNECTIONS_PER_ADDRESS_DEFAULT = 1000,
        STREAMS_DEFAULT = 1000,
        PATH_PARAMETERS_MAX = 8,
        HEAVY_PART = 4,                  /* of all memory: a request that has more of it is heavy */
        STREAM_OUT_LOW = 64 * 1024,      /* and when the producer is asked again */
        TURN_OUT_MAX = 1024 * 1024,      /* bytes given to the socket in one turn */
        CLOGGED_SIZE = 256 * 1024,       /* unsent in the socket: nothing more is produced until it has drained */
        REQUESTS_KEPT_MAX = 1024,        /* request objects kept for reuse */
        OUT_KEPT_MAX = 16 * 1024,        /* a connection that rests keeps this much memory for output */
        ENCRYPT_SIZE = 256 * 1024,       /* at once */
        PLAIN_KEPT_MAX = 256 * 1024,     /* memory for what was decrypted, of all connections together */
        UNASKED_OUT_MAX = 64 * 1024,     /* of TLS's own words that wait: answers to key updates */
        HANDSHAKES_DEFAULT = 256,        /* under way at one time; fewer, down to these, where memory is small: */
        HANDSHAKES_MIN = 16,
        HANDSHAKE_COST = 64 * 1024,      /* memory of one, at most; together they have a quarter */
        REQUEST_COST = 5 * 1024,         /* memory that a request takes beside its head and body */
        BUFFER_KEPT_MAX = 64 * 1024,     /* a larger buffer is given back rather than kept for reuse */
};
#define HANDSHAKE_TURN_US (3 * 1000) /* of a turn, for TLS handshakes */
#define BULK_TURN_US (5 * 1000) /* of a turn, for connections that only carry much: others are answered in between */
static_assert((int)STREAM_OUT_LOW < (int)STREAM_OUT_MAX, "a producer that rests is asked again");
static_assert((int)STREAM_OUT_MAX <= (int)TURN_OUT_MAX, "a turn can carry one stream's bytes");
static_assert(HEAD_SIZE_MAX < FIELDS_SIZE_MAX, "who sends too much is told so before he is cut off");
static_assert(IDLE_FRAMES_BURST < UNSENT_ACKNOWLEDGEMENTS_MAX, "who sends too many is told so, not cut off");

/* Of all memory a connection's unread answers may have this part, but no more than that, and always one answer's. */
enum { CONNECTION_OUT_PART = 16, CONNECTION_OUT_MAX = 4 * 1024 * 1024 };
static_assert((int)STREAM_OUT_MAX <= (int)CONNECTION_OUT_MAX, "one answer alone is not at the limit of its connection");

#define GATEWAY_MEMORY_DEFAULT (64 * MIB)
#define CLOSE_TIMEOUT_US       (5 * SECOND_US)
#define STOP_GRACE_US          (4 * SECOND_US) /* of a call that is held while the server stops */
#define STREAM_STOP_US         SECOND_US /* of a streamed body, which may have no end, while the server stops */
#define TICK_US                SECOND_US
#define CLOSING_TICK_US        (TICK_US / 20)

struct h1;
struct h2;

struct header {
        struct bytes name;
        struct bytes value;
};

/* ---- the gateway ---- */

struct route_block {
        const struct gateway_route *routes;
        unsigned count;
        struct route_block *next;
};

struct method_block {
        const struct gateway_method *methods;
        struct bytes *paths; /* "/service/name" of each, from the gateway's arena */
        unsigned count;
        struct method_block *next;
};

struct gateway {
        struct os *os;
        struct control *control;
        char address[64];
        uint16_t port;
        uint8_t node_uuid[16];
        uint32_t connections_max;
        uint32_t connections_per_address_max;
        uint32_t streams_max;
        uint64_t memory_size;
        uint64_t connection_out_max;
        struct list crowds[CROWD_CHAINS];
        struct bucket told;           /* facts about connections that were refused or failed */
        uint64_t untold;              /* such facts left out since */
        bool is_insecure;   /* was said: anybody who reaches the port may do everything */
        bool is_local_only; /* loopback, and nobody is asked who he is: only names of this machine are answered to */
        struct os_listener *listener;
        struct store *store;
        struct notification *notification;
        struct access *access;        /* NULL: nothing is enforced */
        uint64_t access_generation;   /* of which every open request was asked */
        struct route_block *routes;   /* in order of registration */
        struct method_block *methods; /* in order of registration */
        struct arena arena;           /* of names */
        struct buffer unwanted;       /* takes messages for calls that are over */
        struct buffer spare_out;      /* output memory that no connection needs now */

        /* TLS. */
        bool speaks_tls;
        struct tls_context *tls;  /* NULL: connections wait for it */
        uint32_t handshakes_max;
        struct list handshaking;  /* connections, the oldest first */
        struct list hellos;       /* those of them that have said something */
        struct buffer plain;      /* what was just decrypted */
        struct os_timer look_timer;
        struct os_work look;
        bool is_looking;
        uint64_t told_expiry_us;  /* wall clock */
        /* Digests of the files: just seen, seen the time before, and such as could not be used. */
        uint8_t digest_now[TLS_FINGERPRINT_SIZE];
        uint8_t digest_before[TLS_FINGERPRINT_SIZE];
        uint8_t digest_refused[TLS_FINGERPRINT_SIZE];

        struct list connections;
        struct list dirty;    /* connections with something to do at the turn's end */
        struct list bulk;     /* those of them that have producers to run, or produced much when they were last looked at */
        struct list deadlines; /* calls that have one */
        uint64_t next_deadline_us;
        struct os_timer deadline_timer;
        struct os_timer tick_timer;
        struct os_turn_hook turn_hook;

        struct list requests_free;
        unsigned requests_free_count;
        unsigned requests_detached; /* their connection is gone, somebody still holds them */

        /* The one request that may be large without being counted: else a large append, or who pretends to send one, would
         * keep everybody else out where --memory is small. */
        struct gateway_request *heavy;
        uint64_t heavy_bytes;

        bool is_starving; /* a stream was told to wait for memory */
        bool is_closing;
        bool is_finished; /* nothing is left; on_closed has been posted */
        uint64_t close_by_us;
        void (*on_closed)(void *arg);
        void *on_closed_arg;

        uint64_t date_second; /* of `date` */
        char date[32];
        struct gateway_stats stats;
};

/* Seconds-exact date for the HTTP/1.1 header. */
const char *gateway_date(struct gateway *g);
static inline bool gateway_is_short_of_memory(const struct gateway *g)
{
        return g->stats.buffered_bytes - g->heavy_bytes > g->memory_size;
}
/* Twice the bound: pieces that streams were let to add one by one have summed up. Nobody adds any until some have
 * gone; then all who wait are asked again. */
static inline bool gateway_is_out_of_memory(struct gateway *g)
{
        if (LIKELY(g->stats.buffered_bytes <= 2 * g->memory_size))
                return false;
        g->is_starving = true;
        return true;
}
/* `r->deadline_us` is set: grpc_deadline runs when it has passed. */
void gateway_add_deadline(struct gateway_request *r);
/* Ends the close when nothing is left. */
void gateway_check_closed(struct gateway *g);
/* Output memory goes round between connections, so that idle ones have none. */
void gateway_lend_out(struct gateway *g, struct buffer *out);
void gateway_take_back_out(struct gateway *g, struct buffer *out);
void gateway_fact(struct gateway *g, enum fact_type type, const char *format, ...) PRINTF_LIKE(3, 4);

MUST_CHECK int listener_open(struct gateway *g, const char *address, uint16_t port, const char **ret_why);
bool listener_is_loopback(const char *address);
/* How safe it is, for the fact: "", ", with TLS", ", insecure: ...". */
const char *listener_how(const struct gateway *g);

/* ---- a connection ---- */

enum connection_state {
        CONNECTION_HANDSHAKING,
        CONNECTION_SNIFFING,
        CONNECTION_HTTP1,
        CONNECTION_HTTP2,
        CONNECTION_CLOSING, /* os_conn_close was called; on_close follows */
};

struct connection {
        struct gateway *gateway;
        struct os_conn *conn;
        struct list link;
        struct list dirty;
        int state; /* enum connection_state */
        struct buffer in;  /* what came and is not yet used: the sniffed bytes, and HTTP/1.1 */
        struct buffer out; /* what this turn has produced */
        struct list requests;
        struct list wake; /* requests whose producers want to run */
        struct h1 *h1;
        struct h2 *h2;
        struct tls_session *tls; /* NULL: none, or not yet */
        struct list handshake;   /* of the gateway's handshaking ones */
        struct list hello;       /* of those that have said something */
        bool has_said_hello;     /* its first byte has come */
        bool must_be_h2;         /* ALPN: no other is taken */
        uint64_t received_us; /* newest byte; what TLS says for itself is none */
        struct crowd *crowd;  /* the connections of its address; NULL: loopback */
        uint64_t out_held;    /* HTTP/2: bytes of answers that wait in its requests */
        uint64_t began_us;    /* of the connection, then of each request head */
        uint64_t progress_us; /* when the socket last took output, or had none to take */
        size_t queued_seen;   /* at the last tick */
        uint64_t accounted;
        bool is_clogged;
        bool is_paused;  /* reading is stopped */
        bool is_dirty;
        bool is_bulk;
        bool is_doomed;   /* close when the output has been handed over */
        uint64_t linger_by_us; /* not 0: answered for the last time; input is thrown away until then */
        char peer[64];
        char login[ACCESS_LOGIN_SIZE_MAX + 1]; /* of its client certificate; "" without */
};

void connection_new(struct gateway *g, struct os_conn *conn, struct crowd *crowd);
/* Something was produced or has to be looked at: the turn's end will. */
void connection_touch(struct connection *c);
/* What it says comes from now on; `alpn` is the protocol that was agreed on, "" for none. */
void connection_begin(struct connection *c, const char *alpn);
/* What it says, decrypted. */
void connection_receive(struct connection *c, struct bytes data);
/* The work of the turn's end. */
void connection_flush(struct connection *c);
/* Those of its requests that wait for room, and have some now, are asked again. */
void connection_wake_waiting(struct connection *c);
void connection_tick(struct connection *c, uint64_t now_us);
/* Breaks the connection; `why` becomes a fact, NULL: an orderly end. */
void connection_close(struct connection *c, const char *why);
void connection_pause(struct connection *c, bool is_paused);

/* ---- TLS (secure.c, reload.c) ---- */

/* One more handshake may begin, if need be because a slow one was ended for it. */
bool secure_has_room(struct gateway *g);
void secure_begin(struct connection *c);
void secure_receive(struct connection *c, struct bytes data);
/* At the turn's end: goes on with handshakes, for a part of the turn. */
void secure_shake_hands(struct gateway *g);
/* Encrypts what the turn has produced, and sends it. */
void secure_send(struct connection *c);
/* Says the end, or why it failed; the socket is closed next. */
void secure_end(struct connection *c);
/* It is no handshake any more, whatever became of it. */
void secure_leave(struct connection *c);
/* Without TLS: the first byte has come. True: it is TLS, was told so and is closed. */
bool secure_refuse_tls(struct connection *c);
/* There is a context: looks after its files. */
void reload_begin(struct gateway *g);

/* ---- a request ---- */

enum request_state {
        REQUEST_RECEIVING,
        REQUEST_HANDLING,  /* all of it is here; the handler owes an answer */
        REQUEST_STREAMING, /* the head of the answer is out */
        REQUEST_ENDED,     /* the whole answer is given to the protocol */
};

struct gateway_request {
        struct gateway *gateway;
        struct connection *connection; /* NULL: gone */
        struct list link;              /* of the connection, or of the free ones */
        struct list wake;
        struct list deadline;
        int state; /* enum request_state */
        int32_t stream_id; /* HTTP/2 */
        unsigned holds;    /* completions under way that point here */
        struct arena arena;
        struct buffer body;
        struct buffer out; /* HTTP/2: bytes of the answer that nghttp2 has not yet taken, from out_at */
        size_t out_at;
        uint64_t accounted;
        uint64_t out_held;    /* what the connection counts of `out` */
        uint64_t body_by_us;  /* more of the body must have come by then */
        uint64_t skipped_size; /* HTTP/2: of a body that came after the answer */
        uint64_t taken_us;    /* HTTP/2: newest byte of `out` that was sent */

        struct bytes method;
        struct bytes target; /* path and query as sent */
        struct bytes path;
        struct bytes authority;
        struct header *headers;
        unsigned header_count;
        unsigned header_capacity;
        size_t head_size;

        const struct gateway_route *route;
        struct header path_parameters[PATH_PARAMETERS_MAX];
        unsigned path_parameter_count;
        struct header *query;
        unsigned query_count;
        bool is_query_read;

        bool is_head;           /* the method is HEAD */
        bool is_head_too_large;
        bool is_refused;        /* answered before the body was complete: the rest is thrown away */
        bool is_received;       /* the client has sent all of it */
        bool is_out_ended;      /* nothing will be added to `out` */
        bool is_deferred;       /* nghttp2 waits for bytes of it */
        bool is_waiting_for_room;
        bool is_in_wake;
        bool is_closed;         /* the protocol is done with it */
        int status;
        struct gateway_header_field answer_header; /* of the answer that will come; no name: none */

        /* Who asks. */
        struct access_login login;
        bool is_login_pending;       /* the handler hears of nothing before it is known who asks */
        struct principal *principal; /* held; NULL: nobody */
        struct kept_right *kept;     /* what an answer that goes on is asked for again */

        /* The producer: asked for more while there is room. */
        void (*on_writable)(struct gateway_request *r);
        struct gateway_stream_handler stream_handler;
        void *stream_arg;
        void (*on_gone)(void *arg, struct gateway_request *r);
        void *on_gone_arg;

        /* gRPC */
        bool is_call;
        bool is_call_paused;
        bool is_input_due; /* no longer paused, but what was kept is not yet delivered */
        bool has_message;  /* the one of a unary call has been delivered */
        const struct gateway_method *call_method; /* NULL: refused before it reached one */
        void *call_state;       /* the method's own */
        uint64_t deadline_us;   /* monotonic; 0: none */
        size_t message_at;      /* first byte in `body` that is not yet delivered */
        uint64_t unconsumed;    /* bytes that the client's window does not have back yet */
        bool has_half_closed;   /* on_half_close has run, or there will be none */
        bool has_response_head;
        size_t message_out_at;  /* in `out`: of the message that is being written */
        size_t trailers_size;
        struct header *trailers;
        unsigned trailer_count;
};

/* Memory is short, and this connection has some of it, or hardly any is left: it gets no more. Who has little is served all the
 * same, so that those who leave their answers unread keep nobody else out. */
static inline bool connection_must_yield(const struct connection *c)
{
        const struct gateway *g = c->gateway;

        return gateway_is_short_of_memory(g) &&
               (c->accounted + c->out_held > LITTLE_SIZE || g->stats.buffered_bytes - g->heavy_bytes > 2 * g->memory_size);
}
/* Memory is short, and this request is not most of the reason. The one that is goes on, up to its own limit: else a large
 * append would be told to try again for ever where --memory is small. */
static inline bool request_must_yield(const struct gateway_request *r)
{
        if (!gateway_is_short_of_memory(r->gateway) || r->accounted > r->gateway->stats.buffered_bytes / 2)
                return false;
        return r->accounted > LITTLE_SIZE || connection_must_yield(r->connection);
}

struct gateway_request *request_new(struct connection *c);
void request_move(struct gateway_request *r, enum request_state to);
/* The protocol is done with the request (answered in full, or the client is gone). */
void request_close(struct gateway_request *r);
/* Somebody else still points at the request. */
static inline void request_hold(struct gateway_request *r)
{
        r->holds++;
}
void request_release(struct gateway_request *r);
/* Books what the request holds. */
void request_account(struct gateway_request *r);
/* Bytes of the body have come: they buy time at the least rate, but never more than the grace. */
static inline void request_note_body(struct gateway_request *r, size_t size)
{
        uint64_t latest_us = os_turn_time(r->gateway->os).monotonic_us + BODY_TIMEOUT_US;

        r->body_by_us = MIN(r->body_by_us + size * SECOND_US / BODY_RATE_MIN, latest_us);
}
/* Adds a header; false if the head exceeds its limits. Name and value are copied. */
bool request_add_header(struct gateway_request *r, struct bytes name, struct bytes value);
/* Takes target apart; false if it is no path. */
bool request_set_target(struct gateway_request *r, struct bytes target);
/* Its producer runs at the turn's end. */
void request_wake(struct gateway_request *r);
size_t request_room(const struct gateway_request *r);
static inline size_t request_out_pending(const struct gateway_request *r)
{
        return r->out.size - r->out_at;
}
/* Before something is added to `out`: what has been taken from it does not stay in memory for ever. Moves each byte at
 * most once. */
static inline void request_compact_out(struct gateway_request *r)
{
        if (r->out_at && r->out_at >= request_out_pending(r)) {
                buffer_consume(&r->out, r->out_at);
                r->out_at = 0;
        }
}
/* Something was added to `out`. */
void request_has_out(struct gateway_request *r);
static inline bool request_is_gone(const struct gateway_request *r)
{
        return r->connection == NULL;
}

/* The head of a request is complete: finds the route, refuses what can be refused now. True: the body is wanted. */
bool request_begin(struct gateway_request *r);
/* Bytes of the body. */
void request_body(struct gateway_request *r, struct bytes data);
/* All of it has come. */
void request_received(struct gateway_request *r);
/* It is known who asks, or (false) he was refused and answered. */
void request_admit(struct gateway_request *r, bool is_allowed);
/* Ends an answer that goes on: its handler is told that the client went away. */
void request_break(struct gateway_request *r);

/* routes.c: the route of a request, or NULL and the reply has been given. */
bool route_find(struct gateway_request *r);
const char *http_reason(int status);
/* Decodes %XX; with `is_form`, '+' is a space. False if an escape is broken. */
bool percent_decode(struct arena *arena, struct bytes text, bool is_form, struct bytes *ret);

/* ---- protocols ---- */

void h1_new(struct connection *c);
void h1_free(struct connection *c);
void h1_receive(struct connection *c); /* there is more in c->in */
void h1_send_head(struct gateway_request *r, int status, const char *content_type, const struct gateway_header_field *headers,
        unsigned header_count, const uint64_t *body_size);
void h1_send_body(struct gateway_request *r, struct bytes piece);
void h1_end(struct gateway_request *r);
void h1_tick(struct connection *c, uint64_t now_us);
size_t h1_room(const struct gateway_request *r);
/* It stopped taking requests because there was too much output. */
bool h1_wants_more(const struct connection *c);

void h2_new(struct connection *c);
void h2_free(struct connection *c);
/* False: the connection is broken beyond repair. */
bool h2_receive(struct connection *c, struct bytes data);
void h2_pull(struct connection *c);
bool h2_wants_more(const struct connection *c);
bool h2_is_over(const struct connection *c);
void h2_send_head(struct gateway_request *r, int status, const char *content_type, const struct gateway_header_field *headers,
        unsigned header_count, bool has_body);
/* There are new bytes in `out`, or it has ended. */
void h2_resume(struct gateway_request *r);
void h2_goaway(struct connection *c);
void h2_tick(struct connection *c, uint64_t now_us);
/* Breaks the stream of one request; its end is told when that has been sent. */
void h2_reset(struct gateway_request *r, uint32_t error);
/* Gives the client its window back: of the connection at once, so that other streams go on, and of the stream when its
 * reader has used the bytes. */
void h2_consume_connection(struct gateway_request *r, size_t size);
void h2_consume_stream(struct gateway_request *r, size_t size);
/* gRPC: the response head; a whole answer that is only trailers. */
void h2_send_grpc_head(struct gateway_request *r);
void h2_send_trailers_only(struct gateway_request *r);

/* ---- gRPC ---- */

bool grpc_is_call(const struct gateway_request *r);
/* True if the path is a method's, whatever the content type says. */
bool grpc_is_method(const struct gateway *g, struct bytes path);
void grpc_begin(struct gateway_request *r);
void grpc_data(struct gateway_request *r, struct bytes data);
void grpc_received(struct gateway_request *r);
void grpc_gone(struct gateway_request *r); /* the client cancelled, or the connection broke; the request is ended */
void grpc_deadline(struct gateway_request *r);
/* No byte of a unary call's message has come for long. */
void grpc_timeout(struct gateway_request *r);
/* The server stops: ends the call unless a completion is under way, or it `must` end. */
void grpc_stop(struct gateway_request *r, bool must);
/* The gateway ends the call, not its method, which is told if there is one. */
void grpc_fail(struct gateway_request *r, enum grpc_status status, const char *format, ...) PRINTF_LIKE(3, 4);
/* It is known who calls: what came meanwhile is handed over. */
void grpc_admit(struct gateway_request *r);
void grpc_fini(struct gateway *g);

/* ---- rights (rights.c) ---- */

/* Finds out who asks and applies the rule of the route or method. False: it was refused, and answered. True: it may go on, at once
 * or (is_login_pending) when it is known who asks. */
bool rights_begin(struct gateway_request *r);
/* Before the request goes. */
void rights_end(struct gateway_request *r);
/* Users or rights have changed: whoever has lost what his open answer needs is told so. */
void rights_ask_again(struct gateway *g);

#endif
