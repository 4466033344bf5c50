/* What the files of tls share. */
#ifndef TLS_ROOM_H
#define TLS_ROOM_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tls/tls.h"

enum { TLS_UUID_TEXT_SIZE = 36 + 1, TLS_DATE_TEXT_SIZE = 16, TLS_AUTHORITY_NAME_SIZE = 64, TLS_PATH_SIZE_MAX = 4096 };

static inline void key_freep(EVP_PKEY **key)
{
        EVP_PKEY_free(*key);
}

static inline void certificate_freep(X509 **certificate)
{
        X509_free(*certificate);
}

void tls_problem_set(struct tls_problem *problem, const char *format, ...) PRINTF_LIKE(2, 3);
/* OpenSSL could not do what only lack of memory can prevent. */
MUST_CHECK int tls_library_fault(void);

/* ---- keys and certificates in memory (certificate.c); NULL: tls_library_fault, or no such thing in the text ---- */

EVP_PKEY *key_new(void);
/* EC P-256, the only kind that this room makes and signs. */
bool key_is_ours(const EVP_PKEY *key);
EVP_PKEY *key_from_pem(struct bytes pem);
MUST_CHECK bool key_to_pem(EVP_PKEY *key, struct buffer *out);
X509 *certificate_from_pem(struct bytes pem); /* the first in the text */
MUST_CHECK bool certificate_to_pem(X509 *certificate, struct buffer *out);

X509 *authority_new(EVP_PKEY *key, const uint8_t cluster_uuid[16], uint64_t now_us);
/* The cluster that a CA's certificate names; false if it is none of a cluster's CA. */
MUST_CHECK bool authority_cluster(X509 *authority, uint8_t ret[16]);

struct certificate_wish {
        struct tls_identity identity;
        const char *const *names;
        unsigned count;
        uint64_t now_us;
};
/* TLS_INVALID: a name that is neither a DNS name nor an IP. */
MUST_CHECK int certificate_new(X509 *authority, EVP_PKEY *authority_key, EVP_PKEY *node_key,
        const struct certificate_wish *wish, X509 **ret, struct tls_problem *problem);
/* The node that a certificate names by its URI; false if it names none or several. */
MUST_CHECK bool certificate_identity(X509 *certificate, struct tls_identity *ret);
/* Each DNS name and IP of the certificate. */
void certificate_each_name(X509 *certificate, void (*each)(void *arg, const char *name), void *arg);
void certificate_fingerprint(X509 *certificate, uint8_t ret[TLS_FINGERPRINT_SIZE]);
uint64_t certificate_time_us(const ASN1_TIME *time);
void certificate_date(const ASN1_TIME *time, char ret[TLS_DATE_TEXT_SIZE]);

MUST_CHECK bool request_to_pem(EVP_PKEY *key, struct buffer *out);
/* The key of a request that it has signed itself. TLS_INVALID: unreadable, not signed, not our kind of key. */
MUST_CHECK int request_key(struct bytes pem, EVP_PKEY **ret, struct tls_problem *problem);

void uuid_to_text(const uint8_t uuid[16], char ret[TLS_UUID_TEXT_SIZE]);
/* Lower case only: there is one way to write an identity. */
MUST_CHECK bool uuid_from_text(const char *text, uint8_t ret[16]);

/* A list of certificates, all of the text; NULL: none, or one of them is unreadable. */
STACK_OF(X509) *certificates_from_pem(struct bytes pem);
/* The user that a certificate names: its one CN. False: it names none, or a node. */
MUST_CHECK bool certificate_login(X509 *certificate, char ret[TLS_LOGIN_SIZE]);

/* ---- files (directory.c) ---- */

/* 0, TLS_NOT_FOUND, TLS_INVALID (too large) or a fault. */
MUST_CHECK int file_read(struct os *os, const char *path, struct buffer *out, struct tls_problem *problem);
/* Also wipes: what was read may be a key. */
void buffer_wipe(struct buffer *b);

MUST_CHECK int directory_certificate(struct os *os, const char *directory, const char *file, X509 **ret,
        struct tls_problem *problem);
MUST_CHECK int directory_key(
        struct os *os, const char *directory, const char *file, EVP_PKEY **ret, struct tls_problem *problem);

/* What it says; false if it names neither a cluster nor a node. */
bool certificate_info(X509 *certificate, struct os *os, struct tls_certificate_info *ret);

/* ---- contexts (context.c) ---- */

enum context_kind {
        CONTEXT_NODE,   /* between nodes, both sides */
        CONTEXT_SERVER, /* what clients meet */
        CONTEXT_CLIENT,
};

struct tls_context {
        unsigned references; /* its opener's and each session's: the engine's callbacks look at it */
        enum context_kind kind;
        struct tls_context_options options; /* its texts are copies; of the other kinds, what is common to all */
        struct os *files;       /* whose disk has what follows */
        char *certificate_file; /* of a server or client */
        char *key_file;
        char *ca_file; /* CAs of whom it lets in, or trusts */
        bool verifies_nothing;
        SSL_CTX *engine;
        BIO_METHOD *wire;
        bool has_identity;
        struct tls_identity identity;
        struct buffer alpn; /* as it goes on the wire */
        uint8_t ca_fingerprint[TLS_FINGERPRINT_SIZE];
        uint8_t other_authority[TLS_FINGERPRINT_SIZE];
        bool has_met_other_authority;
        uint8_t digest[TLS_FINGERPRINT_SIZE]; /* of the files as they were before they were read */
        struct buffer spare; /* output memory that no session needs now */
};
void tls_context_release(struct tls_context *context);

/* ---- contexts for clients (endpoint.c) ---- */

/* The files of a server or client context into an engine. */
MUST_CHECK int endpoint_set_files(SSL_CTX *engine, const struct tls_context *context, struct tls_problem *problem);

/* ---- sessions (session.c) ---- */

/* How the engine reads and writes the memory of a session. */
BIO_METHOD *tls_session_wire(void);
/* Called by the engine for each certificate of a chain: looks at what it found, and at a node's identity. */
int tls_session_verify(int is_fine, X509_STORE_CTX *chain);

#endif
