/* Certificates as other people's CAs make them. */
#ifndef TESTS_TLS_ISSUE_H
#define TESTS_TLS_ISSUE_H

#include "support.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct issued {
        EVP_PKEY *key;
        X509 *certificate;
};

struct wish {
        const char *cn;       /* NULL: none */
        const char *cn_too;   /* a second one; NULL: none */
        const char *names;    /* "DNS:localhost,IP:127.0.0.1"; NULL: none */
        const char *usage;    /* "serverAuth", "clientAuth"; NULL: none said */
        bool is_authority;
        bool has_weak_key;    /* RSA of 1024 bits */
        int from_days, until_days; /* from the machine's now */
};

static inline void issued_fini(struct issued *i)
{
        EVP_PKEY_free(i->key);
        X509_free(i->certificate);
        memset(i, 0, sizeof *i);
}

static inline void add_extension(X509 *certificate, int nid, const char *value)
{
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

        assert_non_null(extension);
        assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
        X509_EXTENSION_free(extension);
}

/* `issuer` NULL: by itself. */
static inline struct issued issue(struct os *os, const struct issued *issuer, const struct wish *wish)
{
        static int serial;
        struct issued i = {.key = wish->has_weak_key ? EVP_RSA_gen(1024) : EVP_EC_gen("P-256"), .certificate = X509_new()};
        X509_NAME *subject = X509_get_subject_name(i.certificate);
        time_t now = (time_t)(os_wall_us(os) / 1000000);
        const char *const cns[] = {wish->cn, wish->cn_too};

        X509_set_version(i.certificate, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(i.certificate), ++serial);
        ASN1_TIME_set(X509_getm_notBefore(i.certificate), now + (time_t)wish->from_days * 86400);
        ASN1_TIME_set(X509_getm_notAfter(i.certificate), now + (time_t)(wish->until_days ? wish->until_days : 30) * 86400);
        for (unsigned n = 0; n < COUNT_OF(cns); n++)
                if (cns[n])
                        X509_NAME_add_entry_by_txt(
                                subject, "CN", MBSTRING_UTF8, (const uint8_t *)cns[n], (int)strlen(cns[n]), -1, 0);
        X509_set_issuer_name(i.certificate, issuer ? X509_get_subject_name(issuer->certificate) : subject);
        X509_set_pubkey(i.certificate, i.key);
        add_extension(i.certificate, NID_basic_constraints, wish->is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        if (wish->names)
                add_extension(i.certificate, NID_subject_alt_name, wish->names);
        if (wish->usage)
                add_extension(i.certificate, NID_ext_key_usage, wish->usage);
        assert_true(X509_sign(i.certificate, issuer ? issuer->key : i.key, EVP_sha256()) > 0);
        return i;
}

static inline void add_certificate(struct buffer *to, X509 *certificate)
{
        BIO *text = BIO_new(BIO_s_mem());
        char *data;
        long size;

        assert_int_equal(PEM_write_bio_X509(text, certificate), 1);
        size = BIO_get_mem_data(text, &data);
        buffer_add(to, data, (size_t)size);
        BIO_free(text);
}

static inline void write_text(struct os *os, const char *path, struct buffer *text)
{
        assert_int_equal(os_replace_whole(os, path, buffer_bytes(text)), 0);
        buffer_fini(text);
}

static inline void write_certificate(struct os *os, const char *path, const struct issued *i)
{
        struct buffer text = {0};

        add_certificate(&text, i->certificate);
        write_text(os, path, &text);
}

static inline void write_key(struct os *os, const char *path, const struct issued *i)
{
        BIO *bio = BIO_new(BIO_s_mem());
        struct buffer text = {0};
        char *data;
        long size;

        assert_int_equal(PEM_write_bio_PrivateKey(bio, i->key, NULL, NULL, 0, NULL, NULL), 1);
        size = BIO_get_mem_data(bio, &data);
        buffer_add(&text, data, (size_t)size);
        BIO_free(bio);
        write_text(os, path, &text);
}

#endif
