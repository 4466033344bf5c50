/* The files of a directory. Each is replaced whole, so after a crash the old or the new one is there; and in
 * every order of writing below, what a crash leaves half done is begun anew by the same call. */
#include "tls/room.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

enum { PATH_SIZE_MAX = 4096, DAY_S = 86400 };

static void buffer_wipe(struct buffer *b)
{
        if (b->data)
                OPENSSL_cleanse(b->data, b->capacity);
        buffer_fini(b);
}

static int path_of(char ret[PATH_SIZE_MAX], const char *directory, const char *file)
{
        int n = snprintf(ret, PATH_SIZE_MAX, "%s/%s", directory, file);

        return n > 0 && n < PATH_SIZE_MAX ? 0 : fault_raise(-ENAMETOOLONG);
}

static int file_read(struct os *os, const char *directory, const char *file, struct buffer *out,
        struct tls_problem *problem)
{
        char path[PATH_SIZE_MAX];
        int r = path_of(path, directory, file);

        if (r)
                return r;
        r = os_read_whole(os, path, TLS_PEM_SIZE_MAX, out);
        if (r == OS_NOT_FOUND) {
                tls_problem_set(problem, "%.200s is absent", path);
                return TLS_NOT_FOUND;
        }
        return fault_fold(r);
}

static int file_write(struct os *os, const char *directory, const char *file, struct bytes content,
        struct tls_problem *problem)
{
        char path[PATH_SIZE_MAX];
        int r = path_of(path, directory, file);

        if (r)
                return r;
        r = os_dir_make(os, directory);
        if (!r)
                r = os_replace_whole(os, path, content);
        if (r == OS_FULL) {
                tls_problem_set(problem, "no space for %.200s", path);
                return TLS_FULL;
        }
        return fault_fold(r);
}

int directory_certificate(
        struct os *os, const char *directory, const char *file, X509 **ret, struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        int r = file_read(os, directory, file, &text, problem);

        if (r)
                return r;
        *ret = certificate_from_pem(buffer_bytes(&text));
        if (*ret)
                return 0;
        tls_problem_set(problem, "%.200s/%s holds no readable certificate", directory, file);
        return TLS_INVALID;
}

int directory_key(
        struct os *os, const char *directory, const char *file, EVP_PKEY **ret, struct tls_problem *problem)
{
        CLEANUP(buffer_wipe) struct buffer text = {0};
        int r = file_read(os, directory, file, &text, problem);

        if (r)
                return r;
        *ret = key_from_pem(buffer_bytes(&text));
        if (*ret)
                return 0;
        tls_problem_set(problem, "%.200s/%s holds no readable key", directory, file);
        return TLS_INVALID;
}

static int certificate_write(struct os *os, const char *directory, const char *file, X509 *certificate,
        struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer text = {0};

        if (!certificate_to_pem(certificate, &text))
                return tls_library_fault();
        return file_write(os, directory, file, buffer_bytes(&text), problem);
}

/* Makes a key and writes it. */
static int key_make(
        struct os *os, const char *directory, const char *file, EVP_PKEY **ret, struct tls_problem *problem)
{
        CLEANUP(buffer_wipe) struct buffer text = {0};
        CLEANUP(key_freep) EVP_PKEY *key = key_new();
        int r;

        if (!key || !key_to_pem(key, &text))
                return tls_library_fault();
        r = file_write(os, directory, file, buffer_bytes(&text), problem);
        if (r)
                return r;
        *ret = key;
        key = NULL;
        return 0;
}

/* The key that is there, or a new one. */
static int key_open(struct os *os, const char *directory, EVP_PKEY **ret, struct tls_problem *problem)
{
        int r = directory_key(os, directory, "node.key", ret, problem);

        if (r == TLS_NOT_FOUND) {
                tls_problem_set(problem, "%s", "");
                r = key_make(os, directory, "node.key", ret, problem);
        }
        return r;
}

int tls_authority_make(
        struct os *os, const char *directory, const uint8_t cluster_uuid[16], struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        CLEANUP(certificate_freep) X509 *authority = NULL;
        int r = file_read(os, directory, "ca.pem", &text, problem);

        if (!r) {
                tls_problem_set(problem, "%.200s/ca.pem is there already", directory);
                return TLS_EXISTS;
        }
        if (r != TLS_NOT_FOUND)
                return r;
        tls_problem_set(problem, "%s", "");
        /* The key comes first: a key without ca.pem has signed nothing and is made anew. */
        r = key_make(os, directory, "ca.key", &key, problem);
        if (r)
                return r;
        authority = authority_new(key, cluster_uuid, os_wall_us(os));
        if (!authority)
                return tls_library_fault();
        return certificate_write(os, directory, "ca.pem", authority, problem);
}

struct authority {
        X509 *certificate;
        EVP_PKEY *key;
        uint8_t cluster_uuid[16];
};

static void authority_fini(struct authority *a)
{
        X509_free(a->certificate);
        EVP_PKEY_free(a->key);
}

static int authority_open(
        struct os *os, const char *directory, struct authority *ret, struct tls_problem *problem)
{
        int r = directory_certificate(os, directory, "ca.pem", &ret->certificate, problem);

        if (!r)
                r = directory_key(os, directory, "ca.key", &ret->key, problem);
        if (r)
                return r;
        if (authority_cluster(ret->certificate, ret->cluster_uuid) &&
                X509_check_private_key(ret->certificate, ret->key) == 1)
                return 0;
        tls_problem_set(problem,
                "%.200s: ca.pem is no certificate of a cluster's CA, or ca.key is not its key", directory);
        return TLS_INVALID;
}

static int authority_sign(const struct authority *authority, EVP_PKEY *key,
        const struct certificate_wish *wish, X509 **ret, struct tls_problem *problem)
{
        struct certificate_wish whole = *wish;

        memcpy(whole.identity.cluster_uuid, authority->cluster_uuid, 16);
        return certificate_new(authority->certificate, authority->key, key, &whole, ret, problem);
}

static int node_make(struct os *os, const char *directory, const struct certificate_wish *wish,
        struct tls_problem *problem)
{
        CLEANUP(authority_fini) struct authority authority = {0};
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        CLEANUP(certificate_freep) X509 *certificate = NULL;
        int r = authority_open(os, directory, &authority, problem);

        if (!r)
                r = key_open(os, directory, &key, problem);
        if (!r)
                r = authority_sign(&authority, key, wish, &certificate, problem);
        if (!r)
                r = certificate_write(os, directory, "node.pem", certificate, problem);
        return r;
}

int tls_node_certificate_make(struct os *os, const char *directory, uint64_t node_id,
        const char *const *names, unsigned count, struct tls_problem *problem)
{
        struct certificate_wish wish = {
                .identity.node_id = node_id, .names = names, .count = count, .now_us = os_wall_us(os)};

        tls_problem_set(problem, "%s", "");
        return node_make(os, directory, &wish, problem);
}

struct names {
        char *texts[TLS_NAMES_MAX];
        unsigned count;
};

static void names_add(void *arg, const char *name)
{
        struct names *names = arg;

        if (names->count < TLS_NAMES_MAX)
                names->texts[names->count++] = memory_copy_string(name);
}

static void names_fini(struct names *names)
{
        while (names->count)
                free(names->texts[--names->count]);
}

int tls_node_certificate_renew(struct os *os, const char *directory, struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *old = NULL;
        CLEANUP(names_fini) struct names names = {.count = 0};
        struct certificate_wish wish = {.now_us = os_wall_us(os)};
        int r;

        tls_problem_set(problem, "%s", "");
        r = directory_certificate(os, directory, "node.pem", &old, problem);
        if (r)
                return r;
        if (!certificate_identity(old, &wish.identity)) {
                tls_problem_set(problem, "%.200s/node.pem names no node of a cluster", directory);
                return TLS_INVALID;
        }
        certificate_each_name(old, names_add, &names);
        wish.names = (const char *const *)names.texts;
        wish.count = names.count;
        return node_make(os, directory, &wish, problem);
}

int tls_request_make(struct os *os, const char *directory, struct buffer *out, struct tls_problem *problem)
{
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        int r;

        tls_problem_set(problem, "%s", "");
        r = key_open(os, directory, &key, problem);
        if (r)
                return r;
        return request_to_pem(key, out) ? 0 : tls_library_fault();
}

int tls_request_sign(struct os *os, const char *directory, struct bytes request, uint64_t node_id,
        const char *const *names, unsigned count, struct buffer *out, struct tls_problem *problem)
{
        struct certificate_wish wish = {
                .identity.node_id = node_id, .names = names, .count = count, .now_us = os_wall_us(os)};
        CLEANUP(authority_fini) struct authority authority = {0};
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        CLEANUP(certificate_freep) X509 *certificate = NULL;
        int r;

        tls_problem_set(problem, "%s", "");
        r = authority_open(os, directory, &authority, problem);
        if (!r)
                r = request_key(request, &key, problem);
        if (!r)
                r = authority_sign(&authority, key, &wish, &certificate, problem);
        if (r)
                return r;
        return certificate_to_pem(certificate, out) ? 0 : tls_library_fault();
}

/* ---- a certificate that comes from elsewhere ---- */

static const char *certificate_flaw(X509 *authority, X509 *certificate, EVP_PKEY *key, uint64_t now_us)
{
        struct tls_identity identity;
        uint8_t cluster_uuid[16];

        if (!authority_cluster(authority, cluster_uuid))
                return "the CA's certificate is none of a cluster's CA";
        if (!certificate_identity(certificate, &identity))
                return "the certificate names no node of a cluster";
        if (memcmp(identity.cluster_uuid, cluster_uuid, 16) != 0)
                return "the certificate names another cluster than its CA";
        if (X509_verify(certificate, X509_get0_pubkey(authority)) != 1)
                return "the certificate is not signed by that CA";
        if (X509_check_private_key(certificate, key) != 1)
                return "the certificate is not for this node's key";
        if (certificate_time_us(X509_get0_notBefore(certificate)) > now_us ||
                certificate_time_us(X509_get0_notAfter(certificate)) <= now_us)
                return "the certificate is not valid now";
        return NULL;
}

/* 0 if the directory has no CA yet or the same one. */
static int authority_check_same(
        struct os *os, const char *directory, X509 *authority, struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *old = NULL;
        int r = directory_certificate(os, directory, "ca.pem", &old, problem);

        if (r == TLS_NOT_FOUND)
                return 0;
        if (r)
                return r;
        if (X509_cmp(old, authority) == 0)
                return 0;
        tls_problem_set(problem, "%.200s/ca.pem is another CA's", directory);
        return TLS_EXISTS;
}

int tls_certificate_install(struct os *os, const char *directory, struct bytes ca_pem, struct bytes node_pem,
        struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *authority = certificate_from_pem(ca_pem);
        CLEANUP(certificate_freep) X509 *certificate = certificate_from_pem(node_pem);
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        const char *flaw;
        int r;

        if (!authority || !certificate) {
                tls_problem_set(problem, "the certificate is unreadable");
                return TLS_INVALID;
        }
        r = directory_key(os, directory, "node.key", &key, problem);
        if (r == TLS_NOT_FOUND)
                return TLS_INVALID;
        if (r)
                return r;
        flaw = certificate_flaw(authority, certificate, key, os_wall_us(os));
        if (flaw) {
                tls_problem_set(problem, "%s", flaw);
                return TLS_INVALID;
        }
        r = authority_check_same(os, directory, authority, problem);
        if (r)
                return r;
        tls_problem_set(problem, "%s", "");
        r = certificate_write(os, directory, "ca.pem", authority, problem);
        if (!r)
                r = certificate_write(os, directory, "node.pem", certificate, problem);
        return r;
}

/* ---- showing ---- */

static void info_add_name(void *arg, const char *name)
{
        struct tls_certificate_info *info = arg;
        size_t size = strlen(info->names);

        snprintf(info->names + size, sizeof info->names - size, "%s%s", size ? "," : "", name);
}

int tls_certificate_info(struct os *os, const char *directory, const char *file,
        struct tls_certificate_info *ret, struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *certificate = NULL;
        uint64_t due_us = (uint64_t)TLS_RENEW_BEFORE_DAYS * DAY_S * 1000000;
        int r;

        tls_problem_set(problem, "%s", "");
        r = directory_certificate(os, directory, file, &certificate, problem);
        if (r)
                return r;
        memset(ret, 0, sizeof *ret);
        ret->is_authority = authority_cluster(certificate, ret->identity.cluster_uuid);
        if (!ret->is_authority && !certificate_identity(certificate, &ret->identity)) {
                tls_problem_set(problem, "%.200s/%s names neither a cluster nor a node", directory, file);
                return TLS_INVALID;
        }
        ret->from_us = certificate_time_us(X509_get0_notBefore(certificate));
        ret->until_us = certificate_time_us(X509_get0_notAfter(certificate));
        ret->is_due = ret->until_us < os_wall_us(os) + due_us;
        certificate_fingerprint(certificate, ret->fingerprint);
        certificate_each_name(certificate, info_add_name, ret);
        return 0;
}
