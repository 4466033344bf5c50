/* Who asks, and whether he may: before a handler hears of a request, and again while an answer goes on.
 *
 * The rule stands with the route or method. Who needs none is not asked for his name, so that a probe of
 * health costs no password check. The first request of a user takes a password hash, which is computed beside
 * the loop; what it sends meanwhile is kept within the bounds that hold for every request.
 *
 * Users and rights change by events of the log. At the end of a turn in which any did, everybody whose
 * request or answer goes on is asked again, so a right that was taken away ends what it had opened at once.
 * Once in a second everybody is, for what no event tells: a token that has ended, and a call that could not
 * be ended because an answer of the store was on its way. */
#include "gateway/room.h"

#include <stdio.h>

struct kept_right {
        enum access_right right;
        struct bytes stream;
        struct kept_right *next;
};

struct access *gateway_access(struct gateway *g)
{
        return g->access;
}

const struct principal *gateway_principal(const struct gateway_request *r)
{
        return r->principal;
}

/* Users, the key of tokens and the cluster's own events are written by the server alone, whoever asks and
 * whether or not anybody is asked for his name: one wrong event there could let somebody in, or stop every
 * node. But an administrator may replace the key. */
static bool is_servers_own(const struct gateway_request *r, enum access_right right, struct bytes stream)
{
        if (r->gateway->access && bytes_equal_string(stream, "$nilo-access"))
                return false;
        return right != ACCESS_READ && right != ACCESS_META_READ && stream_is_guarded(stream);
}

bool gateway_may(struct gateway_request *r, enum access_right right, struct bytes stream)
{
        struct access *a = r->gateway->access;

        if (is_servers_own(r, right, stream))
                return false;
        return !a || (access_is_current(a, r->principal) && access_may(a, r->principal, right, stream));
}

bool gateway_may_see(struct gateway_request *r, struct bytes stream)
{
        struct access *a = r->gateway->access;

        return !a || access_may_see(a, r->principal, stream);
}

void gateway_keep_asking(struct gateway_request *r, enum access_right right, struct bytes stream)
{
        struct kept_right *kept;

        if (!r->gateway->access)
                return;
        kept = arena_get(&r->arena, sizeof *kept);
        *kept = (struct kept_right){.right = right, .stream = arena_copy(&r->arena, stream), .next = r->kept};
        r->kept = kept;
}

/* ---- refusals ---- */

static void refuse_http(struct gateway_request *r, int status, const char *code, const char *title,
        const char *next, const char *detail)
{
        static const struct gateway_header_field challenge = {"www-authenticate", "X-Basic realm=\"ESDB\""};
        static const struct gateway_header_field later = {"retry-after", "1"};

        /* Not "Basic", so that browsers show no dialog of their own (protocol 5). */
        if (status == 401)
                gateway_answer_header(r, challenge);
        else if (status == 429) /* a problem of 503 says so by itself */
                gateway_answer_header(r, later);
        gateway_reply_problem(r,
                &(struct gateway_problem){.status = status, .code = code, .title = title, .next = next}, "%s",
                detail);
}

static const char next_login[] =
        "send credentials: a login and password (Basic), or a token (Bearer) from POST /v1/token";

static void refuse_outcome(struct gateway_request *r, enum access_outcome outcome)
{
        static const char denied[] =
                "login or password is wrong, the token is invalid, or the user is disabled";
        static const char busy[] = "too many passwords are being checked";
        static const char slowed[] = "too many wrong passwords came for this login";
        static const char not_ready[] = "users cannot be looked up yet";

        switch (outcome) {
        case ACCESS_DENIED:
                if (r->is_call)
                        grpc_fail(r, GRPC_UNAUTHENTICATED, "Unauthenticated: %s", denied);
                else
                        refuse_http(
                                r, 401, "unauthenticated", "It is not known who asks", next_login, denied);
                break;
        case ACCESS_BUSY:
        case ACCESS_SLOWED:
                if (r->is_call)
                        grpc_fail(r, GRPC_RESOURCE_EXHAUSTED, "%s: try again in a second",
                                outcome == ACCESS_BUSY ? busy : slowed);
                else
                        refuse_http(r, 429, "too-many-logins", "Too many logins", "try again in a second",
                                outcome == ACCESS_BUSY ? busy : slowed);
                break;
        case ACCESS_NOT_READY:
        case ACCESS_WAIT:
                assert(outcome == ACCESS_NOT_READY);
                if (r->is_call) {
                        gateway_call_trailer(r, "grpc-retry-pushback-ms", BYTES_LITERAL("-1"));
                        grpc_fail(r, GRPC_UNAVAILABLE, "%s: try again in a second", not_ready);
                } else {
                        refuse_http(r, 503, "not-ready", "The server is not ready", "try again in a second",
                                not_ready);
                }
                break;
        }
}

static void refuse_denied(struct gateway_request *r, const char *what, const char *next)
{
        if (r->is_call) {
                gateway_call_trailer(r, "exception", BYTES_LITERAL("access-denied"));
                grpc_fail(r, GRPC_PERMISSION_DENIED, "Access denied: %s", what);
        } else {
                refuse_http(r, 403, "access-denied", "Access denied", next, what);
        }
}

/* He is known, or nobody, and has not the right: `what` says which. */
static void refuse_right(struct gateway_request *r, const char *what)
{
        if (r->principal)
                refuse_denied(r, what, "ask a member of $admins for the right");
        else if (r->is_call)
                grpc_fail(r, GRPC_UNAUTHENTICATED, "Unauthenticated: %s", what);
        else
                refuse_http(r, 401, "unauthenticated", "It is not known who asks", next_login, what);
}

static void refuse_servers_own(struct gateway_request *r, struct bytes stream)
{
        char what[320];

        snprintf(what, sizeof what, "the stream '%.*s' is written by the server alone",
                (int)MIN(stream.size, 256), stream.data);
        refuse_denied(r, what, "use `nilo user` and `nilo cluster`");
}

static void refuse_stream(struct gateway_request *r, enum access_right right, struct bytes stream)
{
        char what[ACCESS_LOGIN_SIZE_MAX + 320];

        if (is_servers_own(r, right, stream) && (r->principal || !r->gateway->access)) {
                refuse_servers_own(r, stream);
                return;
        }
        snprintf(what, sizeof what, "%s%s has not the right '%s' to the stream '%.*s'",
                r->principal ? "the user " : "a stranger", r->principal ? principal_login(r->principal) : "",
                access_right_name(right), (int)MIN(stream.size, 256), stream.data);
        refuse_right(r, what);
}

void gateway_refuse(struct gateway_request *r, enum access_right right, struct bytes stream)
{
        if (r->is_call && gateway_call_is_over(r))
                return;
        refuse_stream(r, right, stream);
}

/* ---- the rule ---- */

static enum access_rule rule_of(const struct gateway_request *r)
{
        return r->is_call ? r->call_method->access : r->route->access;
}

/* The right that the route names, to the stream of its path. */
static bool apply_stream_rule(struct gateway_request *r)
{
        struct bytes stream;

        if (r->is_call || !r->route->stream)
                return true;
        stream = strcmp(r->route->stream, "$all") == 0 ? BYTES_LITERAL("$all")
                                                       : gateway_path_parameter(r, r->route->stream);
        if (gateway_may(r, r->route->right, stream)) {
                gateway_keep_asking(r, r->route->right, stream);
                return true;
        }
        refuse_stream(r, r->route->right, stream);
        return false;
}

static bool apply_rule(struct gateway_request *r)
{
        static const char *const needs[] = {
                [ACCESS_USER] = "this is for users",
                [ACCESS_OPS] = "this is for members of $ops and $admins",
                [ACCESS_ADMINS] = "this is for members of $admins",
                [ACCESS_STREAM] = "this is for users",
        };
        enum access_rule rule = rule_of(r);

        if (!access_allows(r->gateway->access, r->principal, rule)) {
                refuse_right(r, needs[rule]);
                return false;
        }
        return apply_stream_rule(r);
}

static void on_login(struct access_login *login, int outcome, struct principal *principal)
{
        struct gateway_request *r = login->arg;
        bool is_allowed = outcome == 0;

        assert(r->is_login_pending);
        r->is_login_pending = false;
        r->principal = principal;
        if (r->state == REQUEST_ENDED)
                return; /* it took too long, and was told so */
        assert(r->state == REQUEST_RECEIVING);
        if (outcome)
                refuse_outcome(r, outcome);
        else
                is_allowed = apply_rule(r);
        if (!r->is_call)
                request_admit(r, is_allowed);
        else if (is_allowed)
                grpc_admit(r);
}

bool rights_begin(struct gateway_request *r)
{
        struct gateway *g = r->gateway;
        struct bytes authorization = BYTES_EMPTY;
        int outcome;

        if (!g->access)
                return apply_stream_rule(r);
        if (rule_of(r) == ACCESS_ANYONE)
                return true;
        (void)gateway_header(r, "authorization", &authorization);
        r->login = (struct access_login){.done = on_login, .arg = r};
        outcome = access_authenticate(g->access, authorization, r->connection->login, r->connection->peer,
                &r->login, &r->principal);
        if (!outcome)
                return apply_rule(r);
        if (outcome == ACCESS_WAIT) {
                r->is_login_pending = true;
                return true;
        }
        if (outcome < 0) {
                gateway_fact(g, FACT_request_failed, "users cannot be looked up: %s", fault_last());
                outcome = ACCESS_NOT_READY;
        }
        refuse_outcome(r, outcome);
        return false;
}

void rights_end(struct gateway_request *r)
{
        if (r->is_login_pending)
                access_login_end(&r->login);
        r->is_login_pending = false;
}

/* ---- again ---- */

static bool still_may(struct gateway_request *r)
{
        struct access *a = r->gateway->access;

        if (!access_is_current(a, r->principal) || !access_allows(a, r->principal, rule_of(r)))
                return false;
        for (const struct kept_right *kept = r->kept; kept; kept = kept->next)
                if (!access_may(a, r->principal, kept->right, kept->stream))
                        return false;
        return true;
}

/* What a completion is under way for gets its answer: the right was there when it was asked for. */
static bool goes_on(const struct gateway_request *r)
{
        if (r->is_login_pending || r->is_closed)
                return false;
        if (r->is_call)
                return r->call_method && !gateway_call_is_over(r) && !r->holds;
        return r->route &&
               (r->state == REQUEST_RECEIVING || (r->state == REQUEST_STREAMING && !r->is_refused));
}

static void end_http(struct gateway_request *r, bool is_current, const char *why)
{
        if (r->state == REQUEST_STREAMING) {
                r->is_refused = true; /* once is enough, though the client may be slow to take it */
                r->on_writable = NULL;
                request_break(r);
                return;
        }
        if (is_current)
                refuse_right(r, why);
        else
                refuse_http(r, 401, "unauthenticated", "It is not known who asks", next_login, why);
        request_admit(r, false);
}

static void end_if_it_may_not(struct gateway_request *r)
{
        static const char why[] = "user or rights have changed";
        bool is_current;

        if (!goes_on(r) || rule_of(r) == ACCESS_ANYONE || still_may(r))
                return;
        is_current = access_is_current(r->gateway->access, r->principal);
        gateway_fact(r->gateway, FACT_access_ended, "%.*s", (int)MIN(r->path.size, 48), r->path.data);
        if (!r->is_call)
                end_http(r, is_current, why);
        else if (is_current)
                refuse_right(r, why);
        else
                grpc_fail(r, GRPC_UNAUTHENTICATED, "Unauthenticated: %s", why);
}

void rights_ask_again(struct gateway *g)
{
        g->access_generation = access_generation(g->access);
        LIST_EACH_SAFE (at, &g->connections) {
                struct connection *c = CONTAINER_OF(at, struct connection, link);

                LIST_EACH_SAFE (request_at, &c->requests)
                        end_if_it_may_not(CONTAINER_OF(request_at, struct gateway_request, link));
        }
}
