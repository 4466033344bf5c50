/* libnilo's client: the same calls against a server, over HTTP.
 *
 * Every call blocks; one thread at a time for each client. Results and event types are those of nilo.h. After a failure
 * nilo_client_problem has what the server said: what, where, the next step. */
#ifndef NILO_CLIENT_H
#define NILO_CLIENT_H

#include "nilo/nilo.h"

#ifdef __cplusplus
extern "C" {
#endif

struct nilo_client;

/* How to reach a server, and as whom; copied. What is NULL or 0 is left to the URL, then to the default; what stands here
 * wins over the URL. */
struct nilo_client_options {
        /* "http://127.0.0.1:2113", "https://user:password@host:2113", or a connection string of KurrentDB's clients:
         * "kurrentdb://user:password@host:2113,host:2113?tls=true&tlsCAFile=ca.pem". Of several hosts the first that answers. */
        const char *url;
        const char *user;
        const char *password;
        const char *token;            /* instead of user and password */
        const char *ca_file;          /* PEM: who may have signed the server's certificate; default: whom the system trusts */
        const char *certificate_file; /* PEM, with key_file: the certificate to show */
        const char *key_file;
        uint32_t timeout_ms;          /* of a call from its first to its last byte; 0: as long as bytes come */
};
enum { NILO_CLIENT_PROBLEM_SIZE = 256 };
/* Does not connect yet. NILO_OK, NILO_ERROR, or NILO_INVALID with the reason in `problem`, which may be NULL. */
NILO_API enum nilo_result nilo_client_open_with(const struct nilo_client_options *options, struct nilo_client **ret,
        char problem[NILO_CLIENT_PROBLEM_SIZE]);
/* The same with nothing but a URL. */
NILO_API enum nilo_result nilo_client_open(const char *url, struct nilo_client **ret);
/* Another connection as whom `like` speaks, to `url`: another node of its cluster, or NULL for the same server. What proves who
 * somebody is does not go from TLS to a server without: NILO_INVALID. */
NILO_API enum nilo_result nilo_client_open_like(const struct nilo_client *like, const char *url, uint32_t timeout_ms,
        struct nilo_client **ret, char problem[NILO_CLIENT_PROBLEM_SIZE]);
NILO_API void nilo_client_close(struct nilo_client **client); /* NULL is fine */

/* `on_idle` runs during reads whenever everything that has come was given to `each`: the time to show it; false ends the
 * call as `each` does. NULL: none. */
NILO_API void nilo_client_on_idle(struct nilo_client *client, bool (*on_idle)(void *arg), void *arg);

/* Ends the call under way and every later one: reads end with NILO_OK as if `each` had given false, a write that was sent
 * ends with NILO_UNKNOWN. May be called from a signal handler and from any thread. */
NILO_API void nilo_client_interrupt(struct nilo_client *client);

/* Where it speaks to, without credentials: "https://host:2113". Until the next call. */
NILO_API const char *nilo_client_url(const struct nilo_client *client);
/* As whom it speaks: "" for nobody and for the bearer of a token. */
NILO_API const char *nilo_client_user(const struct nilo_client *client);

/* What the last failing call was about; "" if none. Valid until the next call. */
NILO_API const char *nilo_client_problem(const struct nilo_client *client);
/* The next step that the server suggests; "" if none. */
NILO_API const char *nilo_client_next_step(const struct nilo_client *client);

/* Sends a request as it is, for routes that have no function here. `body` may be NULL; `headers` is a NULL-terminated list
 * of "Name: value" and may be NULL. Gives the body of the reply in *ret_body (NUL-terminated, from malloc; NULL: not wanted). */
NILO_API enum nilo_result nilo_client_send(struct nilo_client *client, const char *method, const char *path,
        const char *const *headers, const void *body, size_t body_size, char **ret_body);
/* As above for a body that comes in lines (NDJSON), also one that never ends: `each` gets one line after another, without
 * its end; false ends the call with NILO_OK. Memory is bounded by the longest line. */
NILO_API enum nilo_result nilo_client_lines(struct nilo_client *client, const char *path,
        bool (*each)(void *arg, const char *line, size_t size), void *arg);

/* The certificates that the server shows, its own first, as PEM from malloc. They are verified as by any other call.
 * NILO_NOT_FOUND for a server without TLS. */
NILO_API enum nilo_result nilo_client_certificates(struct nilo_client *client, char **ret_pem);

/* "%"-escapes one segment of a path or a value of a query. From malloc. */
NILO_API char *nilo_client_escape(const char *text);

/* As nilo_append. An unknown outcome is tried again for some seconds with the same ids (those without one get one), so
 * what is written is written once; NILO_UNKNOWN is given when no attempt was answered. */
NILO_API enum nilo_result nilo_client_append(struct nilo_client *client, const char *stream, int64_t expected,
        const struct nilo_event *events, unsigned count, struct nilo_appended *ret);
NILO_API enum nilo_result nilo_client_delete(struct nilo_client *client, const char *stream, int64_t expected, bool is_tombstone,
        uint64_t *ret_position);

/* Reads: `each` gets the JSON of one event after another; false ends the read with NILO_OK. NILO_NOT_FOUND, NILO_DELETED and
 * the like as nilo_read. */
NILO_API enum nilo_result nilo_client_read(struct nilo_client *client, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), void *arg);
/* Reads and goes on live, across lost connections and restarts of the server, without a gap or a duplicate, until `each`
 * gives false. Returns only then, or on an error that trying again does not mend. `on_wait`, if not NULL, is told before
 * each new attempt why the connection was lost; false gives up with NILO_UNAVAILABLE. */
NILO_API enum nilo_result nilo_client_follow(struct nilo_client *client, const struct nilo_read_options *options,
        bool (*each)(void *arg, const char *json, size_t size), bool (*on_wait)(void *arg, const char *why), void *arg);

/* ---- JSON where it stands: what `each` gets, without building a tree ---- */

NILO_API bool nilo_json_is_valid(const char *json, size_t size); /* one value and nothing else */
/* The value of a field of an object, as it is written; false if there is none. The name is compared with the spelling in the
 * text, so it must need no escapes. */
NILO_API bool nilo_json_field(const char *json, size_t size, const char *name, const char **ret, size_t *ret_size);
NILO_API char *nilo_json_string(const char *json, size_t size, const char *name); /* from malloc; NULL: no such string */
NILO_API bool nilo_json_number(const char *json, size_t size, const char *name, uint64_t *ret); /* of a whole number from 0 */

#ifdef __cplusplus
}
#endif

#endif
