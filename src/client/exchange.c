/* The client over HTTP/1.1 with libcurl: one connection, reused; whom it trusts and as whom it speaks. */
#include "client/exchange.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "client/problem.h"

enum {
        REPLY_SIZE_MAX = 64 << 20, /* of a body that is kept whole */
        LINE_SIZE_MAX = 64 << 20,  /* of one line */
        RECEIVE_SIZE = 256 * 1024,
        CONNECT_TIMEOUT_MS = 3000,
        REDIRECTS_MAX = 3,
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void)
{
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

const char *nilo_client_problem(const struct nilo_client *client)
{
        return (const char *)client->problem.data;
}

const char *nilo_client_next_step(const struct nilo_client *client)
{
        return (const char *)client->next_step.data;
}

/* Replaces what the URL said. */
static void prefer(char **has, const char *given)
{
        if (!given)
                return;
        address_forget(has);
        *has = memory_copy_string(given);
}

enum nilo_result nilo_client_open_with(const struct nilo_client_options *options, struct nilo_client **ret,
        char problem[NILO_CLIENT_PROBLEM_SIZE])
{
        char unasked[NILO_CLIENT_PROBLEM_SIZE];
        struct nilo_client *c;

        problem = problem ? problem : unasked;
        pthread_once(&curl_once, curl_start);
        c = MEMORY_NEW(struct nilo_client);
        if (!address_parse(options->url, &c->address, problem)) {
                nilo_client_close(&c);
                return NILO_INVALID;
        }
        if (options->user && (!c->address.user || strcmp(options->user, c->address.user) != 0))
                address_forget(&c->address.password); /* it was somebody else's */
        prefer(&c->address.user, options->user);
        prefer(&c->address.password, options->password);
        prefer(&c->address.ca_file, options->ca_file);
        prefer(&c->address.certificate_file, options->certificate_file);
        prefer(&c->address.key_file, options->key_file);
        prefer(&c->token, options->token);
        c->timeout_ms = options->timeout_ms;
        if (!c->address.certificate_file != !c->address.key_file) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "a certificate and its key come together");
                nilo_client_close(&c);
                return NILO_INVALID;
        }
        c->curl = curl_easy_init();
        problem_text(&c->problem, "%s", "");
        problem_text(&c->next_step, "%s", "");
        if (!c->curl) {
                snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "libcurl does not start");
                nilo_client_close(&c);
                return NILO_ERROR;
        }
        *ret = c;
        return NILO_OK;
}

enum nilo_result nilo_client_open(const char *url, struct nilo_client **ret)
{
        return nilo_client_open_with(&(struct nilo_client_options){.url = url}, ret, NULL);
}

enum nilo_result nilo_client_open_like(const struct nilo_client *like, const char *url, uint32_t timeout_ms,
        struct nilo_client **ret, char problem[NILO_CLIENT_PROBLEM_SIZE])
{
        const struct address *a = &like->address;
        struct nilo_client_options options = {
                .url = url ? url : nilo_client_url(like),
                .user = a->user,
                .password = a->password,
                .token = like->token,
                .ca_file = a->ca_file,
                .certificate_file = a->certificate_file,
                .key_file = a->key_file,
                .timeout_ms = timeout_ms,
        };
        struct nilo_client *c = NULL;
        enum nilo_result result = nilo_client_open_with(&options, &c, problem);

        if (result)
                return result;
        if (a->is_tls && !c->address.is_tls) {
                if (problem)
                        snprintf(problem, NILO_CLIENT_PROBLEM_SIZE, "%s is without TLS", nilo_client_url(c));
                nilo_client_close(&c);
                return NILO_INVALID;
        }
        c->address.trusts_anyone = a->trusts_anyone;
        *ret = c;
        return NILO_OK;
}

void nilo_client_close(struct nilo_client **client)
{
        struct nilo_client *c = *client;

        if (!c)
                return;
        *client = NULL;
        curl_easy_cleanup(c->curl);
        buffer_fini(&c->problem);
        buffer_fini(&c->next_step);
        address_fini(&c->address);
        address_forget(&c->token);
        free(c);
}

const char *nilo_client_url(const struct nilo_client *client)
{
        return client->address.bases[client->at];
}

const char *nilo_client_user(const struct nilo_client *client)
{
        return client->address.user && !client->token ? client->address.user : "";
}

void nilo_client_on_idle(struct nilo_client *client, bool (*on_idle)(void *arg), void *arg)
{
        client->on_idle = on_idle;
        client->idle_arg = arg;
}

void nilo_client_interrupt(struct nilo_client *client)
{
        client->is_interrupted = true;
}

char *nilo_client_escape(const char *text)
{
        static const char hex[] = "0123456789ABCDEF";
        struct buffer out = {0};

        for (; *text; text++) {
                uint8_t c = (uint8_t)*text;

                if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        strchr("-._~", c)) {
                        buffer_add_u8(&out, c);
                } else {
                        buffer_add_u8(&out, '%');
                        buffer_add_u8(&out, (uint8_t)hex[c >> 4]);
                        buffer_add_u8(&out, (uint8_t)hex[c & 15]);
                }
        }
        buffer_add_u8(&out, 0);
        return (char *)out.data;
}

/* ---- one exchange ---- */

/* Gives the complete lines that have come; false when the user has had enough. */
static bool give_lines(struct reply *r)
{
        size_t from = 0;
        size_t at = r->searched;

        for (;;) {
                const uint8_t *end = memchr(r->body.data + at, '\n', r->body.size - at);
                size_t size;

                if (!end)
                        break;
                size = (size_t)(end - r->body.data) - from;
                if (size && r->body.data[from + size - 1] == '\r')
                        size--;
                if (r->client->is_interrupted || !r->each(r->arg, (const char *)r->body.data + from, size)) {
                        r->is_stopped = true;
                        return false;
                }
                from = (size_t)(end - r->body.data) + 1;
                at = from;
        }
        buffer_consume(&r->body, from);
        r->searched = r->body.size;
        return true;
}

/* False when the user has had enough. */
static bool idle(struct reply *r)
{
        if (r->has_lines && r->client->on_idle && !r->client->on_idle(r->client->idle_arg))
                r->is_stopped = true;
        return !r->is_stopped;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
        struct reply *r = arg;
        long status = 0;

        size *= count;
        if (!size)
                return 0;
        buffer_add(&r->body, data, size);
        curl_easy_getinfo(r->client->curl, CURLINFO_RESPONSE_CODE, &status);
        if (r->has_lines && status / 100 == 2) {
                if (!give_lines(r))
                        return 0;
                if (!idle(r))
                        return 0;
                r->is_too_large = r->body.size > LINE_SIZE_MAX;
        } else {
                r->is_too_large = r->body.size > REPLY_SIZE_MAX;
        }
        return r->is_too_large ? 0 : size;
}

/* Runs at least once a second, and at once after a signal. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
        struct reply *r = arg;

        (void)down_total, (void)down, (void)up_total, (void)up;
        return r->client->is_interrupted || !idle(r);
}

/* One side does not trust the other: no use in trying again. */
static bool is_distrust(CURLcode code)
{
        return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
               code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_ISSUER_ERROR;
}

static const char *step_of(const struct nilo_client *c, CURLcode code, bool may_have_written)
{
        if (may_have_written)
                return "Retry with the same event ids: what was written is not written again.";
        switch (code) {
        case CURLE_PEER_FAILED_VERIFICATION:
                return c->address.ca_file ? "The server's certificate must be of the CA in that file, for "
                                            "this host name, and valid now."
                                          : "Name the CA that signed the server's certificate: --ca-file "
                                            "FILE or NILO_CA_FILE.";
        case CURLE_SSL_CACERT_BADFILE:
                return "Name a readable PEM file with the CA's certificate: --ca-file FILE or NILO_CA_FILE.";
        case CURLE_SSL_CERTPROBLEM:
                return "The certificate and the key to show must be PEM files that fit each other, of a CA "
                       "that the server trusts.";
        case CURLE_SSL_CONNECT_ERROR:
                return "If the server speaks without TLS, its URL begins with http://.";
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_WEIRD_SERVER_REPLY:
                if (!c->address.is_tls)
                        return "If the server speaks with TLS, its URL begins with https://.";
                break;
        default:
                break;
        }
        return "Start a server with `nilo`, or name another with --url or NILO_URL.";
}

static enum nilo_result unreachable(struct nilo_client *c, CURLcode code, bool may_have_written)
{
        problem_text(
                &c->problem, "%s: %s", nilo_client_url(c), *c->error ? c->error : curl_easy_strerror(code));
        problem_text(&c->next_step, "%s", step_of(c, code, may_have_written));
        if (may_have_written)
                return NILO_UNKNOWN;
        return is_distrust(code) ? NILO_DENIED : NILO_UNAVAILABLE;
}

/* Only a request that was never sent was certainly not carried out. */
static bool was_sent(struct nilo_client *c, CURLcode code)
{
        curl_off_t before_request_us = 0;

        if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || is_distrust(code))
                return false;
        curl_easy_getinfo(c->curl, CURLINFO_PRETRANSFER_TIME_T, &before_request_us);
        return before_request_us > 0;
}

/* The server's next step after a 401 is for who writes requests by hand. */
static void add_step(struct nilo_client *c, long status)
{
        if (status == 401 && c->token)
                problem_text(&c->next_step,
                        "The token is wrong or no longer valid: `nilo user token` makes a new one.");
        else if (status == 401 && c->address.user)
                problem_text(&c->next_step, "Check name and password of %s: --login NAME, NILO_PASSWORD.",
                        c->address.user);
        else if (status == 401)
                problem_text(&c->next_step, "Log in: --login NAME with NILO_PASSWORD, or NILO_TOKEN.");
        else if (status == 403 && c->next_step.size <= 1)
                problem_text(&c->next_step,
                        "Ask an administrator for the right, or log in as somebody else: --login NAME.");
}

/* The outcome of what curl did. */
static enum nilo_result outcome(
        struct nilo_client *c, const char *method, CURLcode code, const struct reply *r)
{
        long status = 0;

        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (r->is_stopped)
                return NILO_OK;
        if (r->is_too_large) {
                problem_text(&c->problem, "%s: the reply is larger than %d MiB", nilo_client_url(c),
                        REPLY_SIZE_MAX >> 20);
                problem_text(&c->next_step, "Ask for fewer events at a time.");
                return NILO_TOO_LARGE;
        }
        if (code) {
                bool is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

                return unreachable(c, code, !is_read && was_sent(c, code));
        }
        if (status / 100 != 2) {
                enum nilo_result result = problem_read(
                        status, buffer_bytes(&r->body), &c->problem, &c->next_step, &c->actual_revision);

                add_step(c, status);
                return result;
        }
        return NILO_OK;
}

static void set_credentials(struct nilo_client *c)
{
        const struct address *a = &c->address;

        if (c->token) {
                curl_easy_setopt(c->curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
                curl_easy_setopt(c->curl, CURLOPT_XOAUTH2_BEARER, c->token);
        } else if (a->user) {
                curl_easy_setopt(c->curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
                curl_easy_setopt(c->curl, CURLOPT_USERNAME, a->user);
                curl_easy_setopt(c->curl, CURLOPT_PASSWORD, a->password ? a->password : "");
        }
        /* The leader that a redirect names is of the cluster that was asked: it is at another host and port,
         * and proves with TLS that the same CA knows it. */
        curl_easy_setopt(c->curl, CURLOPT_UNRESTRICTED_AUTH, 1L);
        if (a->ca_file)
                curl_easy_setopt(c->curl, CURLOPT_CAINFO, a->ca_file);
        if (a->certificate_file) {
                curl_easy_setopt(c->curl, CURLOPT_SSLCERT, a->certificate_file);
                curl_easy_setopt(c->curl, CURLOPT_SSLKEY, a->key_file);
        }
        curl_easy_setopt(c->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(c->curl, CURLOPT_SSL_VERIFYPEER, a->trusts_anyone ? 0L : 1L);
        curl_easy_setopt(c->curl, CURLOPT_SSL_VERIFYHOST, a->trusts_anyone ? 0L : 2L);
        /* Who asks with TLS is never sent on without. */
        curl_easy_setopt(c->curl, CURLOPT_REDIR_PROTOCOLS_STR, a->is_tls ? "https" : "http,https");
}

static void set_options(struct nilo_client *c, struct reply *r)
{
        curl_easy_reset(c->curl); /* connections stay */
        curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->error);
        curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
        curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c->curl, CURLOPT_TCP_NODELAY, 1L);
        curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, (long)RECEIVE_SIZE);
        curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
        /* One call at a time needs no frames, and a second way to speak is a second way to fail. */
        curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        /* To the leader, of what only it does: 307 keeps the method and the body. */
        curl_easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(c->curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
        set_credentials(c);
        curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, r);
        curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, r);
        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
        if (r->silence_seconds_max) {
                curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
                curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, (long)r->silence_seconds_max);
        }
}

/* To the host that answered last; while none is reached, to the next. */
static CURLcode perform(struct nilo_client *c, const char *path)
{
        CURLcode code = CURLE_OK;

        for (unsigned i = 0; i < c->address.count; i++) {
                struct buffer url = {0};

                if (i)
                        c->at = (c->at + 1) % c->address.count;
                *c->error = 0;
                buffer_format(&url, "%s%s", nilo_client_url(c), path);
                buffer_add_u8(&url, 0);
                curl_easy_setopt(c->curl, CURLOPT_URL, url.data);
                code = curl_easy_perform(c->curl);
                buffer_fini(&url);
                if (!code || was_sent(c, code) || c->is_interrupted)
                        break;
        }
        return code;
}

enum nilo_result exchange_run(struct nilo_client *c, const char *method, const char *path,
        const char *const *headers, const void *body, size_t body_size, struct reply *r)
{
        bool has_body = body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
        struct curl_slist *list = NULL;
        enum nilo_result result;

        r->client = c;
        c->actual_revision = -1;
        problem_text(&c->problem, "%s", "");
        problem_text(&c->next_step, "%s", "");
        for (; headers && *headers; headers++)
                list = curl_slist_append(list, *headers);
        list = curl_slist_append(list, "Expect:");
        set_options(c, r);
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
        if (has_body) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body ? body : "");
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_size);
        }
        if (strcmp(method, "HEAD") == 0)
                curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
        /* A request that finds its kept connection closed is sent again, which reads and appends with ids
         * allow; a deletion would be answered for its second time. */
        if (strcmp(method, "DELETE") == 0)
                curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
        result = outcome(c, method, perform(c, path), r);
        curl_slist_free_all(list);
        return result;
}

enum nilo_result nilo_client_send(struct nilo_client *c, const char *method, const char *path,
        const char *const *headers, const void *body, size_t body_size, char **ret_body)
{
        struct reply r = {.silence_seconds_max = REPLY_SILENCE_SECONDS_MAX};
        enum nilo_result result = exchange_run(c, method, path, headers, body, body_size, &r);

        if (!result && ret_body) {
                buffer_add_u8(&r.body, 0);
                *ret_body = (char *)r.body.data;
                return result;
        }
        buffer_fini(&r.body);
        return result;
}

enum nilo_result nilo_client_certificates(struct nilo_client *c, char **ret_pem)
{
        struct reply r = {.client = c, .silence_seconds_max = REPLY_SILENCE_SECONDS_MAX};
        struct curl_certinfo *chain = NULL;
        struct buffer pem = {0};
        CURLcode code;

        problem_text(&c->problem, "%s", "");
        problem_text(&c->next_step, "%s", "");
        if (!c->address.is_tls) {
                problem_text(&c->problem, "%s: no TLS, so no certificate", nilo_client_url(c));
                return NILO_NOT_FOUND;
        }
        set_options(c, &r);
        curl_easy_setopt(c->curl, CURLOPT_CERTINFO, 1L);
        curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 0L);
        code = perform(c, "/health/live");
        buffer_fini(&r.body);
        if (code)
                return unreachable(c, code, false);
        curl_easy_getinfo(c->curl, CURLINFO_CERTINFO, &chain);
        for (int i = 0; chain && i < chain->num_of_certs; i++)
                for (const struct curl_slist *field = chain->certinfo[i]; field; field = field->next)
                        if (strncmp(field->data, "Cert:", 5) == 0)
                                buffer_add_string(&pem, field->data + 5);
        buffer_add_u8(&pem, 0);
        *ret_pem = (char *)pem.data;
        return NILO_OK;
}

/* A read whose status was sent already ends with a line that says why it is not complete. */
struct checked_lines {
        bool (*each)(void *arg, const char *line, size_t size);
        void *arg;
        struct nilo_client *client;
        enum nilo_result result;
};

static bool on_checked_line(void *arg, const char *line, size_t size)
{
        struct checked_lines *l = arg;
        const char *problem;
        size_t problem_size;
        uint64_t status = 500;

        if (!bytes_starts_with(bytes_of(line, size), BYTES_LITERAL("{\"problem\":")) ||
                !nilo_json_field(line, size, "problem", &problem, &problem_size))
                return l->each(l->arg, line, size);
        nilo_json_number(problem, problem_size, "status", &status);
        l->result = problem_read((long)status, bytes_of(problem, problem_size), &l->client->problem,
                &l->client->next_step, &l->client->actual_revision);
        return false;
}

enum nilo_result exchange_lines(struct nilo_client *c, const char *path, unsigned silence_seconds_max,
        bool (*each)(void *arg, const char *line, size_t size), void *arg)
{
        static const char *const headers[] = {"Accept: application/x-ndjson", NULL};
        struct checked_lines checked = {.each = each, .arg = arg, .client = c};
        struct reply r = {
                .each = on_checked_line,
                .arg = &checked,
                .has_lines = true,
                .silence_seconds_max = silence_seconds_max,
        };
        enum nilo_result result = exchange_run(c, "GET", path, headers, NULL, 0, &r);

        /* A reader that was interrupted has had enough. */
        if (result && c->is_interrupted)
                result = NILO_OK;
        buffer_fini(&r.body);
        return checked.result ? checked.result : result;
}

enum nilo_result nilo_client_lines(struct nilo_client *c, const char *path,
        bool (*each)(void *arg, const char *line, size_t size), void *arg)
{
        return exchange_lines(c, path, SILENCE_ALLOWED, each, arg);
}
