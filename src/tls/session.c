/* Sessions: the engine on a BIO over memory.
 *
 * The BIO reads what is being fed where it stands, and writes into the session's output. The engine is asked
 * until it has read all, so that between two calls nothing is held but the beginning of a record or handshake
 * message, by the engine. OpenSSL's own memory BIO would do, but it wipes all its capacity whenever it is
 * emptied. */
#include "tls/room.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"

enum {
        PLAIN_AT_ONCE = 16 * 1024,
        ALPN_SIZE_MAX = 255,
        OUTPUT_KEPT_MAX = 4 * 1024,   /* by a session that rests; */
        SPARE_KEPT_MAX = 512 * 1024,  /* by the context, for the next that writes much */
        ENGINE_MEMORY = 16 * 1024,    /* measured, of an open session; */
        HANDSHAKE_MEMORY = 64 * 1024, /* and at most while it begins */
};

static const struct sm_state session_states[] = {
        [TLS_HANDSHAKING] = {"handshaking", TO(TLS_OPEN) | TO(TLS_FAILED)},
        [TLS_OPEN] = {"open", TO(TLS_ENDED) | TO(TLS_FAILED)},
        [TLS_ENDED] = {"ended", TO(TLS_FAILED)},
        [TLS_FAILED] = {"failed", 0},
};

struct tls_session {
        struct tls_context *context;
        SSL *ssl;
        struct bytes received; /* being fed: not yet read by the engine */
        struct buffer output;
        enum tls_state state;
        bool has_peer;
        struct tls_identity peer;
        char login[TLS_LOGIN_SIZE];
        char *host; /* that a server must have; NULL: not asked for */
        char alpn[ALPN_SIZE_MAX + 1];
        struct tls_problem flaw; /* of the peer's certificate */
        struct tls_problem problem;
};

/* ---- output memory: goes round between the sessions of a context, so that those at rest have next to none
 * ---- */

static void output_borrow(struct tls_session *s)
{
        if (s->context->spare.capacity <= s->output.capacity)
                return;
        buffer_fini(&s->output);
        s->output = s->context->spare;
        s->context->spare = (struct buffer){0};
}

static void output_give_back(struct tls_session *s)
{
        assert(s->output.size == 0);
        if (s->output.capacity <= OUTPUT_KEPT_MAX)
                return;
        if (s->context->spare.capacity || s->output.capacity > SPARE_KEPT_MAX) {
                buffer_fini(&s->output);
        } else {
                s->context->spare = s->output;
                s->output = (struct buffer){0};
        }
}

/* ---- the BIO ---- */

static int wire_read(BIO *bio, char *data, size_t size, size_t *ret)
{
        struct tls_session *s = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        *ret = MIN(size, s->received.size);
        if (*ret == 0) {
                BIO_set_retry_read(bio);
                return 0;
        }
        memcpy(data, s->received.data, *ret);
        s->received = bytes_of(s->received.data + *ret, s->received.size - *ret);
        return 1;
}

static int wire_write(BIO *bio, const char *data, size_t size, size_t *ret)
{
        struct tls_session *s = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        if (s->output.size + size > s->output.capacity && s->output.size == 0 && size > OUTPUT_KEPT_MAX)
                output_borrow(s);
        buffer_add(&s->output, data, size);
        *ret = size;
        return 1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
        (void)bio;
        (void)number;
        (void)pointer;
        return command == BIO_CTRL_FLUSH; /* it is never behind; nothing else is there to ask */
}

BIO_METHOD *tls_session_wire(void)
{
        BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "nilo wire");

        if (method && BIO_meth_set_read_ex(method, wire_read) == 1 &&
                BIO_meth_set_write_ex(method, wire_write) == 1 &&
                BIO_meth_set_ctrl(method, wire_control) == 1)
                return method;
        BIO_meth_free(method);
        return NULL;
}

/* ---- the peer's certificate ---- */

static void add_name(void *arg, const char *name)
{
        struct buffer *names = arg;

        buffer_format(names, "%s%.64s", names->size ? ", " : "", name);
}

static void flaw_set_host(struct tls_session *s, X509 *certificate)
{
        CLEANUP(buffer_fini) struct buffer names = {0};

        certificate_each_name(certificate, add_name, &names);
        tls_problem_set(&s->flaw, "the server's certificate is not for %.64s but for %.*s", s->host,
                (int)MIN(names.size, 120), names.size ? (const char *)names.data : "");
}

static const char *authority_of(const struct tls_session *s)
{
        switch (s->context->kind) {
        case CONTEXT_NODE:
                return "this cluster's CA";
        case CONTEXT_SERVER:
                return "a CA that this server takes users of";
        case CONTEXT_CLIENT:
                return "a CA that this side trusts";
        }
        return "";
}

static void flaw_set(struct tls_session *s, X509 *certificate, int error)
{
        char date[TLS_DATE_TEXT_SIZE];

        switch (error) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                flaw_set_host(s, certificate);
                break;
        case X509_V_ERR_CERT_HAS_EXPIRED:
                certificate_date(X509_get0_notAfter(certificate), date);
                tls_problem_set(&s->flaw, "the peer's certificate expired on %s", date);
                break;
        case X509_V_ERR_CERT_NOT_YET_VALID:
                certificate_date(X509_get0_notBefore(certificate), date);
                tls_problem_set(&s->flaw, "the peer's certificate is not valid before %s", date);
                break;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
                tls_problem_set(&s->flaw, "the peer's certificate is not signed by %s", authority_of(s));
                break;
        default:
                tls_problem_set(&s->flaw, "the peer's certificate: %s", X509_verify_cert_error_string(error));
        }
}

/* Of a certificate that the CA has signed: it must name a node, and one of this cluster. */
static bool identity_check(struct tls_session *s, X509 *certificate)
{
        char theirs[TLS_UUID_TEXT_SIZE], ours[TLS_UUID_TEXT_SIZE];
        struct tls_identity peer;

        if (!certificate_identity(certificate, &peer)) {
                tls_problem_set(&s->flaw, "the peer's certificate names no node of a cluster");
                return false;
        }
        if (s->context->has_identity &&
                memcmp(peer.cluster_uuid, s->context->identity.cluster_uuid, 16) != 0) {
                uuid_to_text(peer.cluster_uuid, theirs);
                uuid_to_text(s->context->identity.cluster_uuid, ours);
                tls_problem_set(&s->flaw, "the peer's certificate is of cluster %s, not %s", theirs, ours);
                return false;
        }
        return true;
}

int tls_session_verify(int is_fine, X509_STORE_CTX *chain)
{
        SSL *ssl = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct tls_session *s = SSL_get_app_data(ssl);
        X509 *certificate = X509_STORE_CTX_get_current_cert(chain);

        if (!is_fine) {
                flaw_set(s, certificate, X509_STORE_CTX_get_error(chain));
                return 0;
        }
        if (s->context->kind == CONTEXT_NODE && X509_STORE_CTX_get_error_depth(chain) == 0 &&
                !identity_check(s, certificate)) {
                X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
                return 0;
        }
        return 1;
}

/* ---- states ---- */

static void session_fail(struct tls_session *s)
{
        unsigned long error = ERR_peek_error();
        int reason = ERR_GET_REASON(error);
        const char *text = ERR_reason_error_string(error);

        if (s->flaw.text[0])
                s->problem = s->flaw;
        else if (SSL_get_verify_result(s->ssl) == X509_V_ERR_CERT_UNTRUSTED)
                tls_problem_set(&s->problem, "the peer's CA is not the one that %s names",
                        s->context->kind == CONTEXT_NODE ? "the token" : "the fingerprint");
        else if (ERR_GET_LIB(error) != ERR_LIB_SSL)
                tls_problem_set(&s->problem, "TLS failed: %s", text ? text : "unknown reason");
        else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
                tls_problem_set(&s->problem, "the peer shows no certificate");
        else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)
                tls_problem_set(&s->problem, "the peer does not speak TLS");
        else if (reason > SSL_AD_REASON_OFFSET)
                tls_problem_set(&s->problem, "the peer refused this side: %s", text ? text : "unknown alert");
        else
                tls_problem_set(&s->problem, "TLS failed: %s", text ? text : "unknown reason");
        ERR_clear_error();
        sm_move(session_states, &s->state, TLS_FAILED);
}

static void session_open(struct tls_session *s)
{
        X509 *certificate = SSL_get0_peer_certificate(s->ssl);
        const uint8_t *alpn = NULL;
        unsigned size = 0;

        if (SSL_get_verify_mode(s->ssl) == SSL_VERIFY_NONE)
                certificate = NULL;
        /* The engine has verified what it was shown, or there is no certificate. */
        assert(!certificate || SSL_get_verify_result(s->ssl) == X509_V_OK);
        s->has_peer = certificate && certificate_identity(certificate, &s->peer);
        if (certificate && s->context->kind == CONTEXT_SERVER && !certificate_login(certificate, s->login))
                s->login[0] = 0;
        SSL_get0_alpn_selected(s->ssl, &alpn, &size);
        memcpy(s->alpn, alpn ? alpn : (const uint8_t *)"", MIN(size, ALPN_SIZE_MAX));
        sm_move(session_states, &s->state, TLS_OPEN);
}

static void handshake(struct tls_session *s)
{
        int r;

        ERR_clear_error();
        r = SSL_do_handshake(s->ssl);
        if (r == 1)
                session_open(s);
        else if (SSL_get_error(s->ssl, r) != SSL_ERROR_WANT_READ)
                session_fail(s);
}

static void take_plain(struct tls_session *s, struct buffer *plain)
{
        size_t size;
        int error;

        for (;;) {
                buffer_reserve(plain, PLAIN_AT_ONCE);
                ERR_clear_error();
                if (SSL_read_ex(s->ssl, plain->data + plain->size, plain->capacity - plain->size, &size) != 1)
                        break;
                plain->size += size;
        }
        error = SSL_get_error(s->ssl, 0);
        if (error == SSL_ERROR_ZERO_RETURN)
                sm_move(session_states, &s->state, TLS_ENDED);
        else if (error != SSL_ERROR_WANT_READ)
                session_fail(s);
}

/* ---- contract ---- */

static int verify_mode(const struct tls_context *context, bool is_server)
{
        static const int modes[] = {
                [TLS_PEER_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                [TLS_PEER_OPTIONAL] = SSL_VERIFY_PEER,
                [TLS_PEER_NONE] = SSL_VERIFY_NONE,
        };

        if (is_server)
                return modes[context->options.peer_certificate];
        return context->verifies_nothing ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
}

static bool session_init(struct tls_session *s, bool is_server)
{
        struct os *os = s->context->options.os;
        BIO *wire;

        s->ssl = SSL_new(s->context->engine);
        wire = s->ssl ? BIO_new(s->context->wire) : NULL;
        if (!wire)
                return false;
        BIO_set_data(wire, s);
        BIO_set_init(wire, 1);
        SSL_set_bio(s->ssl, wire, wire);
        SSL_set_app_data(s->ssl, s);
        SSL_set_verify(s->ssl, verify_mode(s->context, is_server), tls_session_verify);
        X509_VERIFY_PARAM_set_time(SSL_get0_param(s->ssl), (time_t)(os_wall_us(os) / 1000000));
        if (is_server)
                SSL_set_accept_state(s->ssl);
        else
                SSL_set_connect_state(s->ssl);
        return true;
}

/* Names go along in the hello, for servers that have several certificates; addresses must not (RFC 6066). */
static bool session_set_host(struct tls_session *s, const char *host)
{
        X509_VERIFY_PARAM *rules = SSL_get0_param(s->ssl);

        s->host = memory_copy_string(host);
        if (X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1)
                return true;
        ERR_clear_error();
        X509_VERIFY_PARAM_set_hostflags(
                rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        return SSL_set1_host(s->ssl, host) == 1 && SSL_set_tlsext_host_name(s->ssl, host) == 1;
}

static int session_new(
        struct tls_context *context, bool is_server, const char *host, struct tls_session **ret)
{
        struct tls_session *s = MEMORY_NEW(struct tls_session);

        s->context = context;
        context->references++;
        if (!session_init(s, is_server) || (host && !session_set_host(s, host))) {
                tls_session_free(&s);
                return tls_library_fault();
        }
        if (!is_server)
                handshake(s);
        *ret = s;
        return 0;
}

int tls_session_new(struct tls_context *context, bool is_server, struct tls_session **ret)
{
        assert(context->kind == CONTEXT_NODE || (context->kind == CONTEXT_SERVER && is_server));
        assert(!is_server || context->kind == CONTEXT_SERVER || context->has_identity);
        return session_new(context, is_server, NULL, ret);
}

int tls_session_new_client(struct tls_context *context, const char *host, struct tls_session **ret)
{
        assert(context->kind == CONTEXT_CLIENT);
        assert(*host);
        return session_new(context, false, host, ret);
}

void tls_session_free(struct tls_session **session)
{
        struct tls_session *s = *session;

        if (!s)
                return;
        SSL_free(s->ssl); /* and its BIO */
        buffer_fini(&s->output);
        free(s->host);
        tls_context_release(s->context);
        free(s);
        *session = NULL;
}

enum tls_state tls_session_feed(struct tls_session *s, struct bytes received, struct buffer *plain)
{
        if (s->state == TLS_ENDED || s->state == TLS_FAILED || received.size == 0)
                return s->state;
        s->received = received;
        if (s->state == TLS_HANDSHAKING)
                handshake(s);
        if (s->state == TLS_OPEN)
                take_plain(s, plain);
        assert(s->received.size == 0 || s->state == TLS_ENDED || s->state == TLS_FAILED);
        s->received = BYTES_EMPTY;
        return s->state;
}

void tls_session_write(struct tls_session *s, struct bytes plain)
{
        size_t size;

        assert(s->state == TLS_OPEN || s->state == TLS_ENDED);
        if (plain.size == 0)
                return;
        ERR_clear_error();
        if (SSL_write_ex(s->ssl, plain.data, plain.size, &size) != 1)
                session_fail(s); /* the wire takes all, so the engine has given up */
}

void tls_session_end(struct tls_session *s)
{
        if (s->state != TLS_OPEN && s->state != TLS_ENDED)
                return;
        ERR_clear_error();
        (void)SSL_shutdown(s->ssl); /* 0: the peer has not answered it, which nobody waits for */
        ERR_clear_error();
}

struct bytes tls_session_output(struct tls_session *s)
{
        return buffer_bytes(&s->output);
}

void tls_session_sent(struct tls_session *s)
{
        buffer_clear(&s->output);
        output_give_back(s);
}

enum tls_state tls_session_state(const struct tls_session *s)
{
        return s->state;
}

const char *tls_session_problem(const struct tls_session *s)
{
        return s->problem.text;
}

bool tls_session_peer(const struct tls_session *s, struct tls_identity *ret)
{
        if (s->has_peer)
                *ret = s->peer;
        return s->has_peer;
}

const char *tls_session_alpn(const struct tls_session *s)
{
        return s->alpn;
}

const char *tls_session_peer_login(const struct tls_session *s)
{
        return s->login;
}

size_t tls_session_memory(const struct tls_session *s)
{
        return s->output.capacity + (s->state == TLS_HANDSHAKING ? HANDSHAKE_MEMORY : ENGINE_MEMORY);
}
