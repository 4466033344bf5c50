/* Contexts: what all sessions of one use share. The engine's object is made anew by a reload, so that
 * sessions keep what they began with. */
#include "tls/room.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

enum {
        CHAIN_SIZE_MAX = 64 * 1024,
        SECURITY_LEVEL = 2, /* RSA from 2048 bits, no SHA-1 */
        TICKET_S = 3600,    /* that a session can be resumed */
};

/* AES-128 is as safe here and a third faster; who has no AES in hardware gets ChaCha20. */
#define TLS13_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static void engine_freep(SSL_CTX **engine)
{
        SSL_CTX_free(*engine);
}

/* ---- a joiner: only a fingerprint is known of the CA ---- */

/* The certificate of the chain that the token names. */
static X509 *chain_find(const STACK_OF(X509) * chain, const struct tls_context *context)
{
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
        int i;

        for (i = 0; i < sk_X509_num(chain); i++) {
                certificate_fingerprint(sk_X509_value(chain, i), fingerprint);
                if (CRYPTO_memcmp(
                            fingerprint, context->ca_fingerprint, context->options.ca_fingerprint.size) == 0)
                        return sk_X509_value(chain, i);
        }
        return NULL;
}

/* A CA's certificate is the last of a chain. */
static void note_other_authority(const STACK_OF(X509) * chain, struct tls_context *context)
{
        int count = sk_X509_num(chain);

        if (count <= 0)
                return;
        certificate_fingerprint(sk_X509_value(chain, count - 1), context->other_authority);
        context->has_met_other_authority = true;
}

bool tls_context_met_other_authority(struct tls_context *context, uint8_t ret[TLS_FINGERPRINT_SIZE])
{
        bool has_met = context->has_met_other_authority;

        context->has_met_other_authority = false;
        memcpy(ret, context->other_authority, TLS_FINGERPRINT_SIZE);
        return has_met;
}

static int verify_by_fingerprint(X509_STORE_CTX *chain, void *arg)
{
        STACK_OF(X509) *trusted = sk_X509_new_null();
        X509 *authority = chain_find(X509_STORE_CTX_get0_untrusted(chain), arg);
        int is_fine = 0;

        if (authority && trusted && sk_X509_push(trusted, authority) > 0) {
                X509_STORE_CTX_set0_trusted_stack(chain, trusted);
                is_fine = X509_verify_cert(chain) == 1;
        } else {
                if (!authority)
                        note_other_authority(X509_STORE_CTX_get0_untrusted(chain), arg);
                X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_UNTRUSTED);
        }
        sk_X509_free(trusted);
        return is_fine;
}

/* ---- ALPN ---- */

/* "h2,http/1.1" as the wire has it: each name behind its length. */
static bool alpn_encode(const char *names, struct buffer *out)
{
        const char *end;

        for (; *names; names = *end ? end + 1 : end) {
                end = strchrnul(names, ',');
                if (end == names || end - names > 255)
                        return false;
                buffer_add_u8(out, (uint8_t)(end - names));
                buffer_add(out, names, (size_t)(end - names));
        }
        return out->size > 0;
}

static int alpn_select(
        SSL *ssl, const uint8_t **ret, uint8_t *ret_size, const uint8_t *offered, unsigned size, void *arg)
{
        const struct tls_context *context = arg;
        uint8_t *chosen = NULL;

        (void)ssl;
        if (SSL_select_next_proto(&chosen, ret_size, context->alpn.data, (unsigned)context->alpn.size,
                    offered, size) != OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_ALERT_FATAL;
        *ret = chosen;
        return SSL_TLSEXT_ERR_OK;
}

/* ---- making the engine ---- */

static bool engine_set_rules(SSL_CTX *engine, struct tls_context *context)
{
        const struct tls_context_options *o = &context->options;
        uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                           SSL_OP_PRIORITIZE_CHACHA;

        if (!o->has_tickets)
                options |= SSL_OP_NO_TICKET;
        SSL_CTX_set_options(engine, options);
        SSL_CTX_set_security_level(engine, SECURITY_LEVEL);
        SSL_CTX_set_session_cache_mode(engine, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_timeout(engine, TICKET_S);
        SSL_CTX_set_mode(engine, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY | SSL_MODE_NO_AUTO_CHAIN);
        SSL_CTX_set_max_cert_list(engine, CHAIN_SIZE_MAX);
        if (context->alpn.size) {
                SSL_CTX_set_alpn_select_cb(engine, alpn_select, context);
                if (SSL_CTX_set_alpn_protos(engine, context->alpn.data, (unsigned)context->alpn.size))
                        return false;
        }
        return SSL_CTX_set_num_tickets(engine, o->has_tickets ? 1 : 0) == 1 &&
               SSL_CTX_set_min_proto_version(engine, o->allows_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) ==
                       1 &&
               SSL_CTX_set_max_proto_version(engine, TLS1_3_VERSION) == 1 &&
               SSL_CTX_set_cipher_list(engine, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
               SSL_CTX_set_ciphersuites(engine, TLS13_SUITES) == 1 &&
               SSL_CTX_set1_groups_list(engine, "X25519:P-256:P-384") == 1;
}

static int engine_set_files(SSL_CTX *engine, const struct tls_context *context,
        struct tls_identity *ret_identity, struct tls_problem *problem)
{
        const struct tls_context_options *o = &context->options;
        CLEANUP(certificate_freep) X509 *authority = NULL;
        CLEANUP(certificate_freep) X509 *certificate = NULL;
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        uint8_t cluster_uuid[16];
        int r = directory_certificate(o->os, o->directory, "ca.pem", &authority, problem);

        if (!r)
                r = directory_certificate(o->os, o->directory, "node.pem", &certificate, problem);
        if (!r)
                r = directory_key(o->os, o->directory, "node.key", &key, problem);
        if (r)
                return r;
        if (!certificate_identity(certificate, ret_identity) || !authority_cluster(authority, cluster_uuid) ||
                memcmp(cluster_uuid, ret_identity->cluster_uuid, 16) != 0 ||
                X509_verify(certificate, X509_get0_pubkey(authority)) != 1) {
                ERR_clear_error();
                tls_problem_set(
                        problem, "%.200s: node.pem is no certificate of the CA in ca.pem", o->directory);
                return TLS_INVALID;
        }
        if (X509_check_private_key(certificate, key) != 1) {
                ERR_clear_error();
                tls_problem_set(problem, "%.200s: node.key is not the key of node.pem", o->directory);
                return TLS_INVALID;
        }
        /* The CA's certificate goes along: a joiner knows it by its fingerprint only. */
        if (SSL_CTX_use_certificate(engine, certificate) != 1 || SSL_CTX_use_PrivateKey(engine, key) != 1 ||
                SSL_CTX_add1_chain_cert(engine, authority) != 1 ||
                X509_STORE_add_cert(SSL_CTX_get_cert_store(engine), authority) != 1)
                return tls_library_fault();
        return 0;
}

static int engine_make(struct tls_context *context, struct tls_problem *problem)
{
        CLEANUP(engine_freep) SSL_CTX *engine = SSL_CTX_new(TLS_method());
        struct tls_identity identity = {{0}, 0};
        uint8_t digest[TLS_FINGERPRINT_SIZE];
        int r = 0;

        if (!engine || !engine_set_rules(engine, context))
                return tls_library_fault();
        /* Before they are read: what changes in between is seen as a change. */
        tls_context_digest_files(context, digest);
        if (context->options.directory)
                r = engine_set_files(engine, context, &identity, problem);
        if (!r && context->kind != CONTEXT_NODE)
                r = endpoint_set_files(engine, context, problem);
        if (r)
                return r;
        if (context->options.ca_fingerprint.size)
                SSL_CTX_set_cert_verify_callback(engine, verify_by_fingerprint, context);
        memcpy(context->digest, digest, sizeof digest);
        context->identity = identity;
        context->has_identity = identity.node_id != 0;
        SSL_CTX_free(context->engine);
        context->engine = engine;
        engine = NULL;
        return 0;
}

/* ---- changes of the files ---- */

static void digest_file(struct os *os, const char *path, EVP_MD_CTX *digest)
{
        CLEANUP(buffer_wipe) struct buffer content = {0};
        struct tls_problem problem;
        int r = file_read(os, path, &content, &problem);
        uint64_t mark = r ? UINT64_MAX : content.size; /* absent is not the same as empty */

        EVP_DigestUpdate(digest, &mark, sizeof mark);
        EVP_DigestUpdate(digest, content.data, content.size);
}

void tls_context_digest_files(const struct tls_context *context, uint8_t ret[TLS_FINGERPRINT_SIZE])
{
        static const char *const names[] = {"ca.pem", "node.pem", "node.key"};
        const char *const files[] = {context->certificate_file, context->key_file, context->ca_file};
        EVP_MD_CTX *digest = EVP_MD_CTX_new();
        char path[TLS_PATH_SIZE_MAX];

        if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
                fault_exit(EXIT_CODE_BUG, "SHA-256 cannot be had");
        for (unsigned i = 0; context->options.directory && i < COUNT_OF(names); i++) {
                snprintf(path, sizeof path, "%s/%s", context->options.directory, names[i]);
                digest_file(context->options.os, path, digest);
        }
        for (unsigned i = 0; i < COUNT_OF(files); i++)
                if (files[i])
                        digest_file(context->files, files[i], digest);
        EVP_DigestFinal_ex(digest, ret, NULL);
        EVP_MD_CTX_free(digest);
}

bool tls_context_is_stale(const struct tls_context *context, const uint8_t digest[TLS_FINGERPRINT_SIZE])
{
        return memcmp(context->digest, digest, TLS_FINGERPRINT_SIZE) != 0;
}

/* ---- contract ---- */

void tls_context_release(struct tls_context *context)
{
        assert(context->references > 0);
        if (--context->references)
                return;
        SSL_CTX_free(context->engine);
        BIO_meth_free(context->wire);
        buffer_fini(&context->alpn);
        buffer_fini(&context->spare);
        free((void *)(uintptr_t)context->options.directory);
        free(context->certificate_file);
        free(context->key_file);
        free(context->ca_file);
        free(context);
}

static char *copy_of(const char *text)
{
        return text ? memory_copy_string(text) : NULL;
}

/* `context` is made and has its own texts. */
static int open_it(struct tls_context *context, struct tls_context **ret, struct tls_problem *problem)
{
        const struct tls_context_options *o = &context->options;
        int r = 0;

        tls_problem_set(problem, "%s", "");
        context->references = 1;
        context->options.directory = copy_of(o->directory);
        if (o->ca_fingerprint.size)
                memcpy(context->ca_fingerprint, o->ca_fingerprint.data, o->ca_fingerprint.size);
        if (o->alpn && !alpn_encode(o->alpn, &context->alpn)) {
                tls_problem_set(problem, "\"%.100s\" is no list of ALPN names", o->alpn);
                r = TLS_INVALID;
        }
        context->wire = tls_session_wire();
        if (!r)
                r = context->wire ? engine_make(context, problem) : tls_library_fault();
        if (r)
                tls_context_close(&context);
        else
                *ret = context;
        return r;
}

int tls_context_open(
        const struct tls_context_options *options, struct tls_context **ret, struct tls_problem *problem)
{
        struct tls_context *context = MEMORY_NEW(struct tls_context);

        assert(options->directory || options->ca_fingerprint.size);
        assert(options->ca_fingerprint.size <= TLS_FINGERPRINT_SIZE);
        assert(!options->ca_fingerprint.size || options->ca_fingerprint.size >= TLS_TOKEN_FINGERPRINT_SIZE);
        context->kind = CONTEXT_NODE;
        context->options = *options;
        return open_it(context, ret, problem);
}

int tls_server_open(
        const struct tls_server_options *options, struct tls_context **ret, struct tls_problem *problem)
{
        struct tls_context *context = MEMORY_NEW(struct tls_context);

        assert(!options->directory != !options->certificate_file);
        assert(!options->certificate_file == !options->key_file);
        context->kind = CONTEXT_SERVER;
        context->options = (struct tls_context_options){
                .os = options->os,
                .directory = options->directory,
                .peer_certificate = options->client_ca_file ? TLS_PEER_OPTIONAL : TLS_PEER_NONE,
                .allows_tls12 = true,
                /* A resumed session would keep a user whose certificate has expired or whose CA is gone. */
                .has_tickets = !options->client_ca_file,
                .alpn = options->alpn,
        };
        context->files = options->files ? options->files : options->os;
        context->certificate_file = copy_of(options->certificate_file);
        context->key_file = copy_of(options->key_file);
        context->ca_file = copy_of(options->client_ca_file);
        return open_it(context, ret, problem);
}

int tls_client_open(
        const struct tls_client_options *options, struct tls_context **ret, struct tls_problem *problem)
{
        struct tls_context *context = MEMORY_NEW(struct tls_context);

        assert(!options->certificate_file == !options->key_file);
        assert(options->ca_fingerprint.size == 0 || options->ca_fingerprint.size == TLS_FINGERPRINT_SIZE);
        context->kind = CONTEXT_CLIENT;
        context->options = (struct tls_context_options){
                .os = options->os,
                .allows_tls12 = true,
                .ca_fingerprint = options->verifies_nothing ? BYTES_EMPTY : options->ca_fingerprint,
                .alpn = options->alpn,
        };
        context->verifies_nothing = options->verifies_nothing;
        context->files = options->os;
        context->certificate_file = copy_of(options->certificate_file);
        context->key_file = copy_of(options->key_file);
        context->ca_file = copy_of(options->ca_file);
        return open_it(context, ret, problem);
}

int tls_context_reload(struct tls_context *context, struct tls_problem *problem)
{
        tls_problem_set(problem, "%s", "");
        return engine_make(context, problem);
}

void tls_context_close(struct tls_context **context)
{
        if (*context)
                tls_context_release(*context);
        *context = NULL;
}

bool tls_context_identity(const struct tls_context *context, struct tls_identity *ret)
{
        if (context->has_identity)
                *ret = context->identity;
        return context->has_identity;
}
