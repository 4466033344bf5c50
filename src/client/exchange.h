/* A connection to a server, and one request and its reply on it at a time. */
#ifndef CLIENT_EXCHANGE_H
#define CLIENT_EXCHANGE_H

#include <curl/curl.h>
#include <stdatomic.h>

#include "client/address.h"
#include "nilo/client.h"

/* Without a byte for so long a reply is given up: the server answers a write that it cannot finish after 10 s, and sends a
 * sign of life on a stream of events every 15 s. */
enum { REPLY_SILENCE_SECONDS_MAX = 30, STREAM_SILENCE_SECONDS_MAX = 60, SILENCE_ALLOWED = 0 };
static_assert(STREAM_SILENCE_SECONDS_MAX > 3 * 15, "some signs of life may be late");

struct nilo_client {
        CURL *curl;
        struct address address;
        unsigned at; /* of its hosts, the one that answered */
        char *token;
        uint32_t timeout_ms;
        char error[CURL_ERROR_SIZE];
        struct buffer problem; /* NUL-terminated */
        struct buffer next_step;
        int64_t actual_revision;    /* of the last conflict */
        atomic_bool is_interrupted; /* any thread, and signal handlers */
        bool (*on_idle)(void *arg);
        void *idle_arg;
};

/* One reply as it comes in. */
struct reply {
        struct nilo_client *client;
        struct buffer body; /* the whole body, or the line under way */
        size_t searched;    /* bytes of `body` that hold no line end */
        unsigned silence_seconds_max;
        bool (*each)(void *arg, const char *line, size_t size);
        void *arg;
        bool is_stopped;
        bool is_too_large;
        bool has_lines;
};

/* Sends and takes the reply: gives `reply->each` its lines, or the whole in `reply->body`, which is the caller's to free. What
 * failed is in the client's problem. */
enum nilo_result exchange_run(struct nilo_client *c, const char *method, const char *path, const char *const *headers,
        const void *body, size_t body_size, struct reply *reply);
/* A GET whose body comes in lines; one that says why there are no more is a failure. */
enum nilo_result exchange_lines(struct nilo_client *c, const char *path, unsigned silence_seconds_max,
        bool (*each)(void *arg, const char *line, size_t size), void *arg);

#endif
