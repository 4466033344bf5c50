/* Keys, certificates and requests in memory.
 *
 * A CA: CN "Nilometer cluster <uuid>", may sign nodes and no further CA. A node: URI name
 * `nilo://<cluster uuid>/node/<node id>`, for both sides of a connection. Certificates begin a day before
 * they are made, since the clocks of nodes differ and a node must be understood by one that is behind. */
#include "tls/room.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

enum { SERIAL_BITS = 126, URI_SIZE_MAX = 96, DAY_S = 86400 };

#define AUTHORITY_CN "Nilometer cluster "
#define URI_PREFIX   "nilo://"
#define URI_NODE     "/node/"

void tls_problem_set(struct tls_problem *problem, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(problem->text, sizeof problem->text, format, arguments);
        va_end(arguments);
}

int tls_library_fault(void)
{
        ERR_clear_error();
        return fault_raise(-ENOMEM);
}

/* ---- identity as text ---- */

void uuid_to_text(const uint8_t uuid[16], char ret[TLS_UUID_TEXT_SIZE])
{
        static const char digits[] = "0123456789abcdef";
        unsigned i, at = 0;

        for (i = 0; i < 16; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        ret[at++] = '-';
                ret[at++] = digits[uuid[i] >> 4];
                ret[at++] = digits[uuid[i] & 15];
        }
        ret[at] = 0;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

bool uuid_from_text(const char *text, uint8_t ret[16])
{
        char again[TLS_UUID_TEXT_SIZE];
        unsigned i, at = 0;

        for (i = 0; i < 16; i++) {
                int high, low;

                if ((i == 4 || i == 6 || i == 8 || i == 10) && text[at++] != '-')
                        return false;
                high = hex_digit(text[at]);
                if (high < 0)
                        return false;
                low = hex_digit(text[at + 1]);
                if (low < 0)
                        return false;
                ret[i] = (uint8_t)(high << 4 | low);
                at += 2;
        }
        uuid_to_text(ret, again);
        return strcmp(text, again) == 0;
}

static void identity_to_uri(const struct tls_identity *identity, char ret[URI_SIZE_MAX])
{
        char uuid[TLS_UUID_TEXT_SIZE];

        uuid_to_text(identity->cluster_uuid, uuid);
        snprintf(ret, URI_SIZE_MAX, URI_PREFIX "%s" URI_NODE "%llu", uuid,
                (unsigned long long)identity->node_id);
}

static bool identity_from_uri(const char *uri, struct tls_identity *ret)
{
        struct tls_identity identity;
        char uuid[TLS_UUID_TEXT_SIZE] = "", again[URI_SIZE_MAX];
        const char *number;

        if (strlen(uri) >= URI_SIZE_MAX || strncmp(uri, URI_PREFIX, strlen(URI_PREFIX)) != 0)
                return false;
        snprintf(uuid, sizeof uuid, "%s", uri + strlen(URI_PREFIX));
        if (!uuid_from_text(uuid, identity.cluster_uuid))
                return false;
        number = uri + strlen(URI_PREFIX) + strlen(uuid);
        if (strncmp(number, URI_NODE, strlen(URI_NODE)) != 0)
                return false;
        identity.node_id = strtoull(number + strlen(URI_NODE), NULL, 10);
        /* One identity has one text: signs, zeros in front and numbers that do not fit are none. */
        identity_to_uri(&identity, again);
        if (identity.node_id == 0 || strcmp(uri, again) != 0)
                return false;
        *ret = identity;
        return true;
}

/* ---- keys ---- */

EVP_PKEY *key_new(void)
{
        return EVP_EC_gen("P-256");
}

bool key_is_ours(const EVP_PKEY *key)
{
        char group[32] = "";
        size_t size;

        return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
               EVP_PKEY_get_group_name(key, group, sizeof group, &size) == 1 &&
               strcmp(group, "prime256v1") == 0;
}

/* An encrypted key is unreadable: the engine must not ask the terminal for a password. */
static int no_password(char *password, int size, int is_writing, void *arg)
{
        (void)password;
        (void)size;
        (void)is_writing;
        (void)arg;
        return -1;
}

static BIO *text_of(struct bytes pem)
{
        return pem.size && pem.size <= TLS_PEM_SIZE_MAX ? BIO_new_mem_buf(pem.data, (int)pem.size) : NULL;
}

EVP_PKEY *key_from_pem(struct bytes pem)
{
        BIO *text = text_of(pem);
        EVP_PKEY *key = text ? PEM_read_bio_PrivateKey(text, NULL, no_password, NULL) : NULL;

        BIO_free(text);
        ERR_clear_error();
        return key;
}

X509 *certificate_from_pem(struct bytes pem)
{
        BIO *text = text_of(pem);
        X509 *certificate = text ? PEM_read_bio_X509(text, NULL, no_password, NULL) : NULL;

        BIO_free(text);
        ERR_clear_error();
        return certificate;
}

STACK_OF(X509) * certificates_from_pem(struct bytes pem)
{
        BIO *text = text_of(pem);
        STACK_OF(X509) *list = text ? sk_X509_new_null() : NULL;
        X509 *certificate;

        while (list && (certificate = PEM_read_bio_X509(text, NULL, no_password, NULL))) {
                if (sk_X509_push(list, certificate) <= 0)
                        fault_exit(EXIT_CODE_BUG, "out of memory");
        }
        /* It ends where no more begins: anything else is a certificate that cannot be read. */
        if (list &&
                (sk_X509_num(list) == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)) {
                sk_X509_pop_free(list, X509_free);
                list = NULL;
        }
        BIO_free(text);
        ERR_clear_error();
        return list;
}

/* Adds what was written to `text`, and wipes it. */
static bool text_take(BIO *text, bool is_written, struct buffer *out)
{
        BUF_MEM *memory = NULL;

        if (is_written && BIO_get_mem_ptr(text, &memory) == 1) {
                buffer_add(out, memory->data, memory->length);
                OPENSSL_cleanse(memory->data, memory->length);
        }
        BIO_free(text);
        return memory != NULL;
}

bool key_to_pem(EVP_PKEY *key, struct buffer *out)
{
        BIO *text = BIO_new(BIO_s_mem());

        return text &&
               text_take(text, PEM_write_bio_PKCS8PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1, out);
}

bool certificate_to_pem(X509 *certificate, struct buffer *out)
{
        BIO *text = BIO_new(BIO_s_mem());

        return text && text_take(text, PEM_write_bio_X509(text, certificate) == 1, out);
}

/* ---- what certificates say ---- */

uint64_t certificate_time_us(const ASN1_TIME *time)
{
        ASN1_TIME *start = ASN1_TIME_set(NULL, 0);
        int days = 0, seconds = 0;

        if (!start || ASN1_TIME_diff(&days, &seconds, start, time) != 1 || days < 0 || seconds < 0)
                days = seconds = 0;
        ASN1_TIME_free(start);
        return ((uint64_t)days * DAY_S + (uint64_t)seconds) * 1000000;
}

void certificate_date(const ASN1_TIME *time, char ret[TLS_DATE_TEXT_SIZE])
{
        struct tm tm;

        memset(&tm, 0, sizeof tm);
        if (ASN1_TIME_to_tm(time, &tm) != 1)
                snprintf(ret, TLS_DATE_TEXT_SIZE, "?");
        else
                snprintf(ret, TLS_DATE_TEXT_SIZE, "%04u-%02u-%02u", (unsigned)(tm.tm_year + 1900) % 10000,
                        (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100);
}

void certificate_fingerprint(X509 *certificate, uint8_t ret[TLS_FINGERPRINT_SIZE])
{
        unsigned size = TLS_FINGERPRINT_SIZE;

        if (X509_digest(certificate, EVP_sha256(), ret, &size) != 1)
                fault_exit(EXIT_CODE_BUG, "SHA-256 of a certificate failed");
}

bool authority_cluster(X509 *authority, uint8_t ret[16])
{
        char name[TLS_AUTHORITY_NAME_SIZE] = "";
        size_t prefix = strlen(AUTHORITY_CN);

        if (X509_check_ca(authority) != 1 || X509_NAME_get_text_by_NID(X509_get_subject_name(authority),
                                                     NID_commonName, name, sizeof name) < 0)
                return false;
        return strncmp(name, AUTHORITY_CN, prefix) == 0 && uuid_from_text(name + prefix, ret);
}

/* A name's text if it has no NUL inside. */
static const char *string_of(const ASN1_STRING *s)
{
        const char *text = (const char *)ASN1_STRING_get0_data(s);

        return text && strlen(text) == (size_t)ASN1_STRING_length(s) ? text : NULL;
}

bool certificate_identity(X509 *certificate, struct tls_identity *ret)
{
        GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        unsigned found = 0;
        int i;

        for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
                const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
                const char *text;

                if (name->type != GEN_URI)
                        continue;
                text = string_of(name->d.uniformResourceIdentifier);
                found += text && identity_from_uri(text, ret) ? 1 : 2; /* a foreign name makes it none */
        }
        GENERAL_NAMES_free(names);
        return found == 1;
}

bool certificate_login(X509 *certificate, char ret[TLS_LOGIN_SIZE])
{
        X509_NAME *subject = X509_get_subject_name(certificate);
        int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
        struct tls_identity node;
        uint8_t *text = NULL;
        bool is_fine;
        int size;

        if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0 ||
                certificate_identity(certificate, &node))
                return false;
        size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        is_fine = size > 0 && size < TLS_LOGIN_SIZE;
        for (int i = 0; is_fine && i < size; i++)
                is_fine = text[i] > ' ' && text[i] != 127;
        if (is_fine) {
                memcpy(ret, text, (size_t)size);
                ret[size] = 0;
        }
        OPENSSL_free(text);
        return is_fine;
}

void certificate_each_name(X509 *certificate, void (*each)(void *arg, const char *name), void *arg)
{
        GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        int i;

        for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
                const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
                char ip[INET6_ADDRSTRLEN];
                const char *text = NULL;

                if (name->type == GEN_DNS)
                        text = string_of(name->d.dNSName);
                else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 4)
                        text = inet_ntop(AF_INET, ASN1_STRING_get0_data(name->d.iPAddress), ip, sizeof ip);
                else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 16)
                        text = inet_ntop(AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), ip, sizeof ip);
                if (text)
                        each(arg, text);
        }
        GENERAL_NAMES_free(names);
}

/* ---- making them ---- */

static bool add_name(GENERAL_NAMES *names, int type, int string_type, const void *data, size_t size)
{
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_STRING *value = ASN1_STRING_type_new(string_type);

        if (name && value && ASN1_STRING_set(value, data, (int)size) == 1) {
                GENERAL_NAME_set0_value(name, type, value);
                if (sk_GENERAL_NAME_push(names, name) > 0)
                        return true;
                value = NULL; /* the name's */
        }
        ASN1_STRING_free(value);
        GENERAL_NAME_free(name);
        return false;
}

static bool is_dns_name(const char *name)
{
        size_t size = strlen(name), i;

        if (size == 0 || size > TLS_NAME_SIZE_MAX || name[0] == '.' || name[0] == '-')
                return false;
        for (i = 0; i < size; i++) {
                char c = name[i];

                if (c == '.' && name[i + 1] != '.')
                        continue;
                if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                            c == '-' || c == '_'))
                        return false;
        }
        return true;
}

bool tls_name_is_valid(const char *name)
{
        uint8_t ip[16];

        return inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1 || is_dns_name(name);
}

/* TLS_INVALID: neither a DNS name nor an IP. */
static int add_subject_name(GENERAL_NAMES *names, const char *name)
{
        uint8_t ip[16];
        bool is_added;

        if (inet_pton(AF_INET, name, ip) == 1)
                is_added = add_name(names, GEN_IPADD, V_ASN1_OCTET_STRING, ip, 4);
        else if (inet_pton(AF_INET6, name, ip) == 1)
                is_added = add_name(names, GEN_IPADD, V_ASN1_OCTET_STRING, ip, 16);
        else if (is_dns_name(name))
                is_added = add_name(names, GEN_DNS, V_ASN1_IA5STRING, name, strlen(name));
        else
                return TLS_INVALID;
        return is_added ? 0 : tls_library_fault();
}

static bool add_extension(X509 *certificate, X509 *authority, int nid, const char *value)
{
        X509V3_CTX context;
        X509_EXTENSION *extension;
        bool is_added;

        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, authority, certificate, NULL, NULL, 0);
        extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        is_added = extension && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return is_added;
}

static bool set_serial(X509 *certificate)
{
        BIGNUM *number = BN_new();
        bool is_set = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                      BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));

        BN_free(number);
        return is_set;
}

static bool set_times(X509 *certificate, uint64_t now_us, unsigned days)
{
        time_t now = (time_t)(now_us / 1000000);
        time_t from = now > DAY_S ? now - DAY_S : 0;

        return ASN1_TIME_set(X509_getm_notBefore(certificate), from) &&
               ASN1_TIME_set(X509_getm_notAfter(certificate), now + (time_t)days * DAY_S);
}

static bool set_name(X509_NAME *name, const char *text)
{
        return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)text, -1, -1, 0) == 1;
}

X509 *authority_new(EVP_PKEY *key, const uint8_t cluster_uuid[16], uint64_t now_us)
{
        X509 *authority = X509_new();
        char uuid[TLS_UUID_TEXT_SIZE], name[TLS_AUTHORITY_NAME_SIZE];

        if (!authority)
                return NULL;
        uuid_to_text(cluster_uuid, uuid);
        snprintf(name, sizeof name, AUTHORITY_CN "%s", uuid);
        if (X509_set_version(authority, X509_VERSION_3) == 1 && set_serial(authority) &&
                set_times(authority, now_us, TLS_AUTHORITY_DAYS) &&
                set_name(X509_get_subject_name(authority), name) &&
                X509_set_issuer_name(authority, X509_get_subject_name(authority)) == 1 &&
                X509_set_pubkey(authority, key) == 1 &&
                add_extension(authority, authority, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                add_extension(authority, authority, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                add_extension(authority, authority, NID_subject_key_identifier, "hash") &&
                X509_sign(authority, key, EVP_sha256()) > 0)
                return authority;
        X509_free(authority);
        return NULL;
}

static int add_names(X509 *certificate, const struct certificate_wish *wish, struct tls_problem *problem)
{
        GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
        char uri[URI_SIZE_MAX];
        unsigned i;
        int r = 0;

        identity_to_uri(&wish->identity, uri);
        if (!names || !add_name(names, GEN_URI, V_ASN1_IA5STRING, uri, strlen(uri)))
                r = tls_library_fault();
        for (i = 0; !r && i < wish->count; i++) {
                r = add_subject_name(names, wish->names[i]);
                if (r == TLS_INVALID)
                        tls_problem_set(problem, "\"%.100s\" is neither a DNS name nor an IP address",
                                wish->names[i]);
        }
        if (!r && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1)
                r = tls_library_fault();
        GENERAL_NAMES_free(names);
        return r;
}

int certificate_new(X509 *authority, EVP_PKEY *authority_key, EVP_PKEY *node_key,
        const struct certificate_wish *wish, X509 **ret, struct tls_problem *problem)
{
        CLEANUP(certificate_freep) X509 *certificate = X509_new();
        char name[64];
        int r;

        assert(wish->identity.node_id > 0);
        if (wish->count > TLS_NAMES_MAX) {
                tls_problem_set(problem, "%u names, at most %u are taken", wish->count, TLS_NAMES_MAX);
                return TLS_INVALID;
        }
        snprintf(name, sizeof name, "Nilometer node %llu", (unsigned long long)wish->identity.node_id);
        if (!certificate || X509_set_version(certificate, X509_VERSION_3) != 1 || !set_serial(certificate) ||
                !set_times(certificate, wish->now_us, TLS_NODE_DAYS) ||
                !set_name(X509_get_subject_name(certificate), name) ||
                X509_set_issuer_name(certificate, X509_get_subject_name(authority)) != 1 ||
                X509_set_pubkey(certificate, node_key) != 1 ||
                !add_extension(certificate, authority, NID_basic_constraints, "critical,CA:FALSE") ||
                !add_extension(certificate, authority, NID_key_usage, "critical,digitalSignature") ||
                !add_extension(certificate, authority, NID_ext_key_usage, "serverAuth,clientAuth") ||
                !add_extension(certificate, authority, NID_subject_key_identifier, "hash") ||
                !add_extension(certificate, authority, NID_authority_key_identifier, "keyid"))
                return tls_library_fault();
        r = add_names(certificate, wish, problem);
        if (r)
                return r;
        if (X509_sign(certificate, authority_key, EVP_sha256()) <= 0)
                return tls_library_fault();
        *ret = certificate;
        certificate = NULL;
        return 0;
}

/* ---- requests ---- */

bool request_to_pem(EVP_PKEY *key, struct buffer *out)
{
        X509_REQ *request = X509_REQ_new();
        BIO *text = BIO_new(BIO_s_mem());
        bool is_made = request && text && X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
                       set_name(X509_REQ_get_subject_name(request), "Nilometer node") &&
                       X509_REQ_set_pubkey(request, key) == 1 &&
                       X509_REQ_sign(request, key, EVP_sha256()) > 0;

        is_made = text_take(text, is_made && PEM_write_bio_X509_REQ(text, request) == 1, out);
        X509_REQ_free(request);
        return is_made;
}

int request_key(struct bytes pem, EVP_PKEY **ret, struct tls_problem *problem)
{
        BIO *text = text_of(pem);
        X509_REQ *request = text ? PEM_read_bio_X509_REQ(text, NULL, no_password, NULL) : NULL;
        EVP_PKEY *key = request ? X509_REQ_get_pubkey(request) : NULL;
        const char *why = NULL;

        BIO_free(text);
        if (!request || !key)
                why = "the signing request is unreadable";
        else if (!key_is_ours(key))
                why = "the key of the signing request is not EC P-256";
        else if (X509_REQ_verify(request, key) != 1)
                why = "the signing request is not signed by its own key";
        X509_REQ_free(request);
        ERR_clear_error();
        if (why) {
                EVP_PKEY_free(key);
                tls_problem_set(problem, "%s", why);
                return TLS_INVALID;
        }
        *ret = key;
        return 0;
}
