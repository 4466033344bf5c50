/* Sessions: the engine on a BIO over memory.
 *
 * The BIO reads what is being fed where it stands, and writes into the session's output. The engine is asked
 * until it has read all, so that between two calls nothing is held but the beginning of a record or handshake
 * message, by the engine. OpenSSL's own memory BIO would do, but it wipes all its capacity whenever it is
 * emptied. */
#include "tls/room.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"

enum { PLAIN_AT_ONCE = 16 * 1024, ALPN_SIZE_MAX = 255, OUTPUT_KEPT_MAX = 256 * 1024 };

static const struct sm_state session_states[] = {
        [TLS_HANDSHAKING] = {"handshaking", TO(TLS_OPEN) | TO(TLS_FAILED)},
        [TLS_OPEN] = {"open", TO(TLS_ENDED) | TO(TLS_FAILED)},
        [TLS_ENDED] = {"ended", 0},
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
        char alpn[ALPN_SIZE_MAX + 1];
        struct tls_problem flaw; /* of the peer's certificate */
        struct tls_problem problem;
};

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

static void flaw_set(struct tls_session *s, X509 *certificate, int error)
{
        char date[TLS_DATE_TEXT_SIZE];

        switch (error) {
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
                tls_problem_set(&s->flaw, "the peer's certificate is not signed by this cluster's CA");
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
        if (X509_STORE_CTX_get_error_depth(chain) == 0 && !identity_check(s, certificate)) {
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
                tls_problem_set(&s->problem, "the peer's CA is not the one that the token names");
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

        s->has_peer = certificate && SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE &&
                      certificate_identity(certificate, &s->peer);
        /* The engine has verified what it was shown, or there is no certificate. */
        assert(!s->has_peer || SSL_get_verify_result(s->ssl) == X509_V_OK);
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

static bool session_init(struct tls_session *s, bool is_server)
{
        static const int modes[] = {
                [TLS_PEER_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                [TLS_PEER_OPTIONAL] = SSL_VERIFY_PEER,
                [TLS_PEER_NONE] = SSL_VERIFY_NONE,
        };
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
        SSL_set_verify(s->ssl, is_server ? modes[s->context->options.peer_certificate] : SSL_VERIFY_PEER,
                tls_session_verify);
        X509_VERIFY_PARAM_set_time(SSL_get0_param(s->ssl), (time_t)(os_wall_us(os) / 1000000));
        if (is_server)
                SSL_set_accept_state(s->ssl);
        else
                SSL_set_connect_state(s->ssl);
        return true;
}

int tls_session_new(struct tls_context *context, bool is_server, struct tls_session **ret)
{
        struct tls_session *s = MEMORY_NEW(struct tls_session);

        assert(!is_server || context->has_identity);
        s->context = context;
        context->references++;
        if (!session_init(s, is_server)) {
                tls_session_free(&s);
                return tls_library_fault();
        }
        if (!is_server)
                handshake(s);
        *ret = s;
        return 0;
}

void tls_session_free(struct tls_session **session)
{
        struct tls_session *s = *session;

        if (!s)
                return;
        SSL_free(s->ssl); /* and its BIO */
        buffer_fini(&s->output);
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

        assert(s->state == TLS_OPEN);
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
        if (s->output.capacity > OUTPUT_KEPT_MAX)
                buffer_fini(&s->output);
        else
                buffer_clear(&s->output);
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
