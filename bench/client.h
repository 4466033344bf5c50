/* A gRPC client of one thread over nghttp2, as thin as it can be, so that the server is what is measured. A call
 * sends messages as they are added to it and is told each message that comes. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#include "load.h"

/* A connection. */
struct client {
        int fd;
        SSL *tls; /* NULL: in the clear */
        nghttp2_session *session;
        unsigned open_calls;
};

struct client_call {
        struct client *client;
        const char *method; /* "streams.Streams/Append" */
        void (*on_message)(struct client_call *c, const uint8_t *message, size_t size);
        void (*on_end)(struct client_call *c); /* may start it again */
        void *arg;
        bool is_half_closed; /* nothing is sent behind what was added */
        /* The client's own. */
        int32_t id;
        bool is_open;
        bool is_deferred;
        bool is_cancelled;
        uint8_t *out;
        size_t out_size;
        size_t out_sent;
        size_t out_capacity;
        uint8_t *in; /* a message, or the head of one, that has not come whole yet */
        size_t in_size;
        size_t in_capacity;
};

struct client *client_connect(const struct load_options *o);
/* Adds a message, with its prefix, to what is sent. */
void call_add(struct client_call *c, const uint8_t *message, size_t size);
/* Adds bytes that are framed already. */
void call_add_framed(struct client_call *c, const uint8_t *frames, size_t size);
void call_start(struct client_call *c);
void call_half_close(struct client_call *c);
void call_cancel(struct client_call *c); /* on_end follows */
/* `on_turn` runs after each look at the network, before anything is sent, and gives the microseconds that the next look
 * may wait at most: CLIENT_IDLE if it begins nothing by itself. Ends when it is idle, or NULL, and no call is open. Five
 * seconds of silence are an error. */
enum { CLIENT_IDLE = 5 * 1000 * 1000 };
void client_run(struct client *clients, unsigned count, uint64_t (*on_turn)(void *arg), void *arg);

/* ---- protobuf ---- */

size_t put_varint(uint8_t *p, uint64_t n);
size_t put_field(uint8_t *p, unsigned field, const void *data, size_t size); /* length-delimited */
size_t put_frame(uint8_t *p, const uint8_t *message, size_t size);           /* gRPC's prefix */

/* An event as Streams and PersistentSubscriptions deliver it. */
struct client_event {
        const uint8_t *id; /* the message UUID */
        size_t id_size;
        const uint8_t *stream;
        size_t stream_size;
        uint64_t revision;
        const uint8_t *data; /* only if it was asked for */
        size_t data_size;
};
/* False: the message is not an event. */
bool client_parse_event(const uint8_t *message, size_t size, bool wants_data, struct client_event *ret);

/* ---- appends ---- */

/* Appends of `batch` events to a stream of its own, one at a time: each is a client-streaming call of Append, with a message of
 * options and one for each event; or, as KurrentDB's clients do it, one message on a long call of BatchAppend. */
struct appender {
        struct client_call call;
        const struct load_options *options;
        void (*on_appended)(struct client_call *c);
        char stream[128];
        uint8_t *events; /* their bytes: the same in each append but for ids and times */
        size_t events_size;
        size_t *id_at; /* where the ids and the data stand in it */
        size_t *data_at;
        uint64_t revision;
        bool has_revision;
        bool takes_any_revision;
        bool is_batch;
        bool is_waiting; /* for an answer */
        bool is_ok;
        uint64_t started_us; /* stands also in the first eight bytes of data that is not JSON */
};
void appender_init(struct appender *a, struct client *client, const struct load_options *o, void (*on_appended)(struct client_call *c));
void batch_appender_init(struct appender *a, struct client *client, const struct load_options *o, void (*on_appended)(struct client_call *c));
void appender_start(struct appender *a);
/* In on_appended: dies if it failed; else gives what it took, and knows the new revision. */
uint64_t appender_finish(struct appender *a);
/* No append follows: ends the long call, if there is one and it rests. */
void appender_stop(struct appender *a);

#endif
