/* Servers and clients: whose certificates are no node's, and come from files that people have named. */
#include "tls/room.h"

#include <openssl/err.h>

#include "base/memory.h"

static void list_freep(STACK_OF(X509) * *list)
{
        sk_X509_pop_free(*list, X509_free);
}

static int list_read(struct os *os, const char *path, STACK_OF(X509) * *ret, struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        int r = file_read(os, path, &text, problem);

        if (r)
                return r;
        *ret = certificates_from_pem(buffer_bytes(&text));
        if (*ret)
                return 0;
        tls_problem_set(problem, "%.200s is no list of certificates in PEM", path);
        return TLS_INVALID;
}

static int key_read(struct os *os, const char *path, EVP_PKEY **ret, struct tls_problem *problem)
{
        CLEANUP(buffer_wipe) struct buffer text = {0};
        int r = file_read(os, path, &text, problem);

        if (r)
                return r;
        *ret = key_from_pem(buffer_bytes(&text));
        if (*ret)
                return 0;
        tls_problem_set(problem, "%.200s holds no readable key in PEM; it must not be encrypted", path);
        return TLS_INVALID;
}

/* The engine refuses what its security level does not allow. */
static int refused(const char *path, struct tls_problem *problem)
{
        const char *why = ERR_reason_error_string(ERR_peek_last_error());

        tls_problem_set(problem, "%.200s cannot be used: %s", path, why ? why : "unknown reason");
        ERR_clear_error();
        return TLS_INVALID;
}

static int set_own(SSL_CTX *engine, const struct tls_context *context, struct tls_problem *problem)
{
        CLEANUP(list_freep) STACK_OF(X509) *chain = NULL;
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        struct os *os = context->files;
        int r = list_read(os, context->certificate_file, &chain, problem);

        if (!r)
                r = key_read(os, context->key_file, &key, problem);
        if (r)
                return r;
        if (X509_check_private_key(sk_X509_value(chain, 0), key) != 1) {
                ERR_clear_error();
                tls_problem_set(problem, "%.100s is not the key of the first certificate in %.100s",
                        context->key_file, context->certificate_file);
                return TLS_INVALID;
        }
        ERR_clear_error();
        if (SSL_CTX_use_certificate(engine, sk_X509_value(chain, 0)) != 1)
                return refused(context->certificate_file, problem);
        if (SSL_CTX_use_PrivateKey(engine, key) != 1)
                return refused(context->key_file, problem);
        for (int i = 1; i < sk_X509_num(chain); i++)
                if (SSL_CTX_add1_chain_cert(engine, sk_X509_value(chain, i)) != 1)
                        return refused(context->certificate_file, problem);
        return 0;
}

/* The store is made anew: the cluster's CA, which a server with a certificate of its own node has in it,
 * certifies nodes and no users. */
static int set_authorities(SSL_CTX *engine, const struct tls_context *context, struct tls_problem *problem)
{
        CLEANUP(list_freep) STACK_OF(X509) *authorities = NULL;
        X509_STORE *store;
        int r = list_read(context->files, context->ca_file, &authorities, problem);

        if (r)
                return r;
        store = X509_STORE_new();
        if (!store)
                return tls_library_fault();
        SSL_CTX_set_cert_store(engine, store);
        for (int i = 0; i < sk_X509_num(authorities); i++) {
                X509 *authority = sk_X509_value(authorities, i);

                if (X509_STORE_add_cert(store, authority) != 1)
                        return tls_library_fault();
                /* Which CAs count is told to clients, who may have several certificates. */
                if (context->kind == CONTEXT_SERVER && SSL_CTX_add_client_CA(engine, authority) != 1)
                        return tls_library_fault();
        }
        return 0;
}

int endpoint_set_files(SSL_CTX *engine, const struct tls_context *context, struct tls_problem *problem)
{
        bool needs_system =
                context->kind == CONTEXT_CLIENT && !context->ca_file && !context->options.ca_fingerprint.size;
        int r = 0;

        if (context->certificate_file)
                r = set_own(engine, context, problem);
        if (!r && context->ca_file)
                r = set_authorities(engine, context, problem);
        if (!r && needs_system && SSL_CTX_set_default_verify_paths(engine) != 1)
                r = tls_library_fault();
        return r;
}

bool tls_context_certificate(const struct tls_context *context, struct tls_certificate_info *ret)
{
        X509 *certificate = SSL_CTX_get0_certificate(context->engine);

        if (certificate)
                (void)certificate_info(certificate, context->options.os, ret);
        return certificate != NULL;
}
