/* The files of a directory. Each is replaced whole, so after a crash the old or the new one is there; and in
 * every order of writing below, what a crash leaves half done is begun anew by the same call. */
#include "tls/room.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/memory.h"

enum { DAY_S = 86400 };

void buffer_wipe(struct buffer *b)
{
        if (b->data)
                OPENSSL_cleanse(b->data, b->capacity);
        buffer_fini(b);
}

static int path_of(char ret[TLS_PATH_SIZE_MAX], const char *directory, const char *file)
{
        int n = snprintf(ret, TLS_PATH_SIZE_MAX, "%s/%s", directory, file);

        return n > 0 && n < TLS_PATH_SIZE_MAX ? 0 : fault_raise(-ENAMETOOLONG);
}

int file_read(struct os *os, const char *path, struct buffer *out, struct tls_problem *problem)
{
        int r = os_read_whole(os, path, TLS_PEM_SIZE_MAX, out);

        if (r == OS_NOT_FOUND) {
                tls_problem_set(problem, "%.200s is absent", path);
                return TLS_NOT_FOUND;
        }
        /* The files of users are named by people: what is wrong with them is no fault of the machine. */
        if (r == -EFBIG || r == -EACCES || r == -EISDIR || r == -ENOTDIR) {
                tls_problem_set(problem, "%.200s cannot be read: %s", path, strerror(-r));
                return TLS_INVALID;
        }
        return fault_fold(r);
}

static int file_write(struct os *os, const char *directory, const char *file, struct bytes content,
        struct tls_problem *problem)
{
        char path[TLS_PATH_SIZE_MAX];
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
        char path[TLS_PATH_SIZE_MAX];
        int r = path_of(path, directory, file);

        if (!r)
                r = file_read(os, path, &text, problem);
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
        char path[TLS_PATH_SIZE_MAX];
        int r = path_of(path, directory, file);

        if (!r)
                r = file_read(os, path, &text, problem);
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
        char path[TLS_PATH_SIZE_MAX];
        int r = path_of(path, directory, "ca.pem");

        if (!r)
                r = file_read(os, path, &text, problem);
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

static bool names_have(const struct names *names, const char *name)
{
        for (unsigned i = 0; i < names->count; i++)
                if (strcasecmp(names->texts[i], name) == 0)
                        return true;
        return false;
}

static bool is_due(const X509 *certificate, struct os *os)
{
        uint64_t before_us = (uint64_t)TLS_RENEW_BEFORE_DAYS * DAY_S * 1000000;

        return certificate_time_us(X509_get0_notAfter(certificate)) < os_wall_us(os) + before_us;
}

/* By this CA, for this node and for its key. */
static bool is_fit(const struct authority *authority, X509 *certificate, EVP_PKEY *key, uint64_t node_id)
{
        struct tls_identity identity;
        bool is_ours = certificate_identity(certificate, &identity) && identity.node_id == node_id &&
                       memcmp(identity.cluster_uuid, authority->cluster_uuid, 16) == 0 &&
                       X509_verify(certificate, X509_get0_pubkey(authority->certificate)) == 1 &&
                       X509_check_private_key(certificate, key) == 1;

        ERR_clear_error();
        return is_ours;
}

/* An address may be written in several ways; a certificate gives one of them. */
static void names_add_canonical(struct names *names, const char *name)
{
        uint8_t ip[16];
        char text[INET6_ADDRSTRLEN];

        if (inet_pton(AF_INET6, name, ip) == 1)
                name = inet_ntop(AF_INET6, ip, text, sizeof text);
        if (!names_have(names, name))
                names_add(names, name);
}

int tls_node_certificate_cover(struct os *os, const char *directory, uint64_t node_id,
        const char *const *names, unsigned count, bool *ret_is_new, struct tls_problem *problem)
{
        CLEANUP(authority_fini) struct authority authority = {0};
        CLEANUP(certificate_freep) X509 *old = NULL;
        CLEANUP(key_freep) EVP_PKEY *key = NULL;
        CLEANUP(names_fini) struct names old_names = {.count = 0};
        CLEANUP(names_fini) struct names all = {.count = 0};
        struct certificate_wish wish = {.identity.node_id = node_id, .now_us = os_wall_us(os)};
        bool is_covered = true;
        unsigned i;
        int r;

        assert(count <= TLS_NAMES_MAX);
        *ret_is_new = false;
        tls_problem_set(problem, "%s", "");
        r = authority_open(os, directory, &authority, problem);
        if (!r)
                r = key_open(os, directory, &key, problem);
        if (r)
                return r;
        r = directory_certificate(os, directory, "node.pem", &old, problem);
        if (r && r != TLS_NOT_FOUND)
                return r;
        if (!r && is_fit(&authority, old, key, node_id))
                certificate_each_name(old, names_add, &old_names);
        else
                is_covered = false;
        for (i = 0; i < count; i++)
                names_add_canonical(&all, names[i]);
        for (i = 0; i < all.count; i++)
                is_covered = is_covered && names_have(&old_names, all.texts[i]);
        if (is_covered && !is_due(old, os))
                return 0;
        for (i = 0; i < old_names.count; i++)
                names_add_canonical(&all, old_names.texts[i]);
        wish.names = (const char *const *)all.texts;
        wish.count = all.count;
        tls_problem_set(problem, "%s", "");
        r = node_make(os, directory, &wish, problem);
        *ret_is_new = !r;
        return r;
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

bool certificate_info(X509 *certificate, struct os *os, struct tls_certificate_info *ret)
{
        memset(ret, 0, sizeof *ret);
        ret->is_authority = authority_cluster(certificate, ret->identity.cluster_uuid);
        ret->from_us = certificate_time_us(X509_get0_notBefore(certificate));
        ret->until_us = certificate_time_us(X509_get0_notAfter(certificate));
        ret->is_due = is_due(certificate, os);
        certificate_fingerprint(certificate, ret->fingerprint);
        certificate_each_name(certificate, info_add_name, ret);
        return ret->is_authority || certificate_identity(certificate, &ret->identity);
}

int tls_certificate_info(struct os *os, const char *directory, const char *file,
        struct tls_certificate_info *ret, struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *certificate = NULL;
        int r;

        tls_problem_set(problem, "%s", "");
        r = directory_certificate(os, directory, file, &certificate, problem);
        if (r)
                return r;
        if (!certificate_info(certificate, os, ret)) {
                tls_problem_set(problem, "%.200s/%s names neither a cluster nor a node", directory, file);
                return TLS_INVALID;
        }
        return 0;
}
