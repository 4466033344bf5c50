/* Certificates in a directory, and join tokens. */
#include "support.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(files, an_authority_is_made_once)
{
        struct os *os = machine_new();
        struct tls_certificate_info first, second;
        struct tls_problem problem;

        authority_make(os, "ca", cluster_a);
        assert_int_equal(tls_certificate_info(os, "ca", "ca.pem", &first, &problem), 0);
        assert_true(first.is_authority);
        assert_memory_equal(first.identity.cluster_uuid, cluster_a, 16);
        assert_int_equal(first.identity.node_id, 0);
        assert_false(first.is_due);
        assert_int_equal(tls_authority_make(os, "ca", cluster_b, &problem), TLS_EXISTS);
        assert_int_equal(tls_certificate_info(os, "ca", "ca.pem", &second, &problem), 0);
        assert_memory_equal(first.fingerprint, second.fingerprint, sizeof first.fingerprint);
        os_free(&os);
}

TEST(files, what_is_absent_is_named)
{
        struct os *os = machine_new();
        struct tls_context_options options = {.os = os, .directory = "none"};
        struct tls_context *context = NULL;
        struct tls_certificate_info info;
        struct tls_problem problem;
        struct buffer out = {0};

        assert_int_equal(tls_node_certificate_make(os, "none", 1, NULL, 0, &problem), TLS_NOT_FOUND);
        assert_string_equal(problem.text, "none/ca.pem is absent");
        assert_int_equal(tls_node_certificate_renew(os, "none", &problem), TLS_NOT_FOUND);
        assert_int_equal(tls_context_open(&options, &context, &problem), TLS_NOT_FOUND);
        assert_int_equal(tls_certificate_info(os, "none", "node.pem", &info, &problem), TLS_NOT_FOUND);
        assert_int_equal(
                tls_request_sign(os, "none", BYTES_LITERAL("x"), 1, NULL, 0, &out, &problem), TLS_NOT_FOUND);
        /* A node without the CA's key cannot sign. */
        authority_make(os, "ca", cluster_a);
        node_make(os, "ca", "one", 1);
        assert_int_equal(tls_node_certificate_renew(os, "one", &problem), TLS_NOT_FOUND);
        assert_string_equal(problem.text, "one/ca.key is absent");
        assert_int_equal(out.size, 0);
        os_free(&os);
}

TEST(files, names_are_dns_names_and_addresses_and_nothing_else)
{
        static const char *const bad[] = {"", "a b", "a,b", "x..y", ".x", "-x", "*.example.org",
                "URI:nilo://x", "a\nb", "caf\xc3\xa9", "::g"};
        static const char *const good[] = {"node-1.example.org", "10.0.0.1", "fe80::1", "host_1"};
        const char *many[TLS_NAMES_MAX + 1];
        struct os *os = machine_new();
        struct tls_certificate_info info;
        struct tls_problem problem;
        char big[TLS_NAME_SIZE_MAX + 2];
        const char *const too_long[] = {big};
        unsigned i;

        memset(big, 'a', sizeof big);
        big[sizeof big - 1] = 0;
        authority_make(os, "ca", cluster_a);
        for (i = 0; i < COUNT_OF(bad); i++)
                assert_int_equal(tls_node_certificate_make(os, "ca", 1, bad + i, 1, &problem), TLS_INVALID);
        assert_int_equal(tls_node_certificate_make(os, "ca", 1, too_long, 1, &problem), TLS_INVALID);
        for (i = 0; i < COUNT_OF(many); i++)
                many[i] = "x";
        assert_int_equal(
                tls_node_certificate_make(os, "ca", 1, many, TLS_NAMES_MAX + 1, &problem), TLS_INVALID);
        assert_int_equal(tls_certificate_info(os, "ca", "node.pem", &info, &problem), TLS_NOT_FOUND);
        assert_int_equal(tls_node_certificate_make(os, "ca", UINT64_MAX, good, COUNT_OF(good), &problem), 0);
        assert_int_equal(tls_certificate_info(os, "ca", "node.pem", &info, &problem), 0);
        assert_string_equal(info.names, "node-1.example.org,10.0.0.1,fe80::1,host_1");
        assert_true(info.identity.node_id == UINT64_MAX);
        assert_int_equal((info.until_us - info.from_us) / 86400000000u, TLS_NODE_DAYS + 1);
        os_free(&os);
}

/* ---- requests ---- */

static void request_of(EVP_PKEY *key, EVP_PKEY *signer, struct buffer *out)
{
        X509_REQ *request = X509_REQ_new();
        BIO *text = BIO_new(BIO_s_mem());
        char *data;
        long size;

        X509_REQ_set_pubkey(request, key);
        X509_REQ_sign(request, signer, EVP_sha256());
        PEM_write_bio_X509_REQ(text, request);
        size = BIO_get_mem_data(text, &data);
        buffer_clear(out);
        buffer_add(out, data, (size_t)size);
        BIO_free(text);
        X509_REQ_free(request);
}

TEST(files, only_requests_of_a_key_for_itself_are_signed)
{
        EVP_PKEY *mine = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256"), *rsa = EVP_RSA_gen(2048);
        struct buffer request = {0}, out = {0};
        struct os *os = machine_new();
        struct tls_problem problem;

        authority_make(os, "ca", cluster_a);
        request_of(mine, other, &request); /* somebody else's key */
        assert_int_equal(
                tls_request_sign(os, "ca", buffer_bytes(&request), 1, NULL, 0, &out, &problem), TLS_INVALID);
        assert_non_null(strstr(problem.text, "not signed by its own key"));
        request_of(rsa, rsa, &request);
        assert_int_equal(
                tls_request_sign(os, "ca", buffer_bytes(&request), 1, NULL, 0, &out, &problem), TLS_INVALID);
        assert_non_null(strstr(problem.text, "P-256"));
        assert_int_equal(tls_request_sign(os, "ca", BYTES_LITERAL("rubbish"), 1, NULL, 0, &out, &problem),
                TLS_INVALID);
        assert_int_equal(tls_request_sign(os, "ca", BYTES_EMPTY, 1, NULL, 0, &out, &problem), TLS_INVALID);
        assert_int_equal(out.size, 0);
        request_of(mine, mine, &request);
        assert_int_equal(tls_request_sign(os, "ca", buffer_bytes(&request), 1, NULL, 0, &out, &problem), 0);
        buffer_fini(&request);
        buffer_fini(&out);
        EVP_PKEY_free(mine);
        EVP_PKEY_free(other);
        EVP_PKEY_free(rsa);
        os_free(&os);
}

TEST(files, only_a_certificate_that_fits_is_installed)
{
        struct buffer ca = {0}, other_ca = {0}, request = {0}, mine = {0}, stranger = {0};
        struct os *os = machine_new();
        struct tls_problem problem;

        authority_make(os, "ca", cluster_a);
        authority_make(os, "other", cluster_b);
        assert_int_equal(os_read_whole(os, "ca/ca.pem", TLS_PEM_SIZE_MAX, &ca), 0);
        assert_int_equal(os_read_whole(os, "other/ca.pem", TLS_PEM_SIZE_MAX, &other_ca), 0);
        assert_int_equal(tls_request_make(os, "two", &request, &problem), 0);
        assert_int_equal(
                tls_request_sign(os, "ca", buffer_bytes(&request), 2, NULL, 0, &stranger, &problem), 0);
        buffer_clear(&request);
        assert_int_equal(tls_request_make(os, "one", &request, &problem), 0);
        assert_int_equal(tls_request_sign(os, "ca", buffer_bytes(&request), 1, NULL, 0, &mine, &problem), 0);

        assert_int_equal(
                tls_certificate_install(os, "one", buffer_bytes(&ca), buffer_bytes(&stranger), &problem),
                TLS_INVALID);
        assert_non_null(strstr(problem.text, "not for this node's key"));
        assert_int_equal(
                tls_certificate_install(os, "one", buffer_bytes(&other_ca), buffer_bytes(&mine), &problem),
                TLS_INVALID);
        assert_int_equal(
                tls_certificate_install(os, "one", buffer_bytes(&mine), buffer_bytes(&mine), &problem),
                TLS_INVALID);
        assert_int_equal(tls_certificate_install(os, "one", buffer_bytes(&ca), buffer_bytes(&ca), &problem),
                TLS_INVALID);
        assert_int_equal(
                tls_certificate_install(os, "one", BYTES_EMPTY, buffer_bytes(&mine), &problem), TLS_INVALID);
        assert_int_equal(
                tls_certificate_install(os, "none", buffer_bytes(&ca), buffer_bytes(&mine), &problem),
                TLS_INVALID); /* no key there */
        assert_int_equal(os_read_whole(os, "one/node.pem", TLS_PEM_SIZE_MAX, &request), OS_NOT_FOUND);
        assert_int_equal(
                tls_certificate_install(os, "one", buffer_bytes(&ca), buffer_bytes(&mine), &problem), 0);

        /* A node of one cluster is not turned into one of another. */
        buffer_clear(&request);
        buffer_clear(&mine);
        assert_int_equal(tls_request_make(os, "one", &request, &problem), 0);
        assert_int_equal(
                tls_request_sign(os, "other", buffer_bytes(&request), 1, NULL, 0, &mine, &problem), 0);
        assert_int_equal(
                tls_certificate_install(os, "one", buffer_bytes(&other_ca), buffer_bytes(&mine), &problem),
                TLS_EXISTS);
        buffer_fini(&ca);
        buffer_fini(&other_ca);
        buffer_fini(&request);
        buffer_fini(&mine);
        buffer_fini(&stranger);
        os_free(&os);
}

/* A renewal without the CA's key at hand: the same key, a new certificate. */
TEST(files, a_request_keeps_the_key_that_is_there)
{
        struct buffer before = {0}, after = {0}, request = {0};
        struct os *os = machine_new();
        struct tls_problem problem;

        authority_make(os, "ca", cluster_a);
        node_make(os, "ca", "one", 1);
        assert_int_equal(os_read_whole(os, "one/node.key", TLS_PEM_SIZE_MAX, &before), 0);
        node_make(os, "ca", "one", 1);
        assert_int_equal(os_read_whole(os, "one/node.key", TLS_PEM_SIZE_MAX, &after), 0);
        assert_true(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
        assert_int_equal(os_replace_whole(os, "one/node.key", BYTES_LITERAL("no key")), 0);
        assert_int_equal(
                tls_request_make(os, "one", &request, &problem), TLS_INVALID); /* never replaced silently */
        buffer_fini(&before);
        buffer_fini(&after);
        buffer_fini(&request);
        os_free(&os);
}

/* G16: the disk is full at the 1st, 2nd, 3rd ... write; nothing half made stays, and it works once there is
 * space. */
TEST(files, a_full_disk_at_any_write_leaves_what_can_be_begun_anew)
{
        unsigned failures = 0, at;

        for (at = 1; at < 50; at++) {
                struct os *os = machine_new();
                struct os_sim_faults faults = {.full_at = at};
                struct tls_context *context;
                struct tls_problem problem;
                int r;

                os_sim_set_faults(os, &faults);
                r = tls_authority_make(os, "ca", cluster_a, &problem);
                if (!r)
                        r = tls_node_certificate_make(os, "ca", 1, local_names, 3, &problem);
                assert_true(r == 0 || r == TLS_FULL);
                faults.full_at = 0;
                os_sim_set_faults(os, &faults);
                if (r) {
                        failures++;
                        r = tls_authority_make(os, "ca", cluster_a, &problem);
                        assert_true(r == 0 || r == TLS_EXISTS);
                        assert_int_equal(tls_node_certificate_make(os, "ca", 1, local_names, 3, &problem), 0);
                }
                context = context_open(os, "ca");
                tls_context_close(&context);
                os_free(&os);
        }
        assert_true(failures >= 4);
}

TEST(files, keys_are_for_their_owner_only)
{
        char directory[] = "/tmp/nilo-tls-XXXXXX", path[64];
        static const char *const files[] = {"ca.key", "ca.pem", "node.key", "node.pem"};
        struct tls_problem problem;
        struct stat status;
        struct os *os;
        unsigned i;

        assert_non_null(mkdtemp(directory));
        assert_int_equal(os_real_new(&os), 0);
        authority_make(os, directory, cluster_a);
        assert_int_equal(tls_node_certificate_make(os, directory, 1, local_names, 1, &problem), 0);
        for (i = 0; i < COUNT_OF(files); i++) {
                snprintf(path, sizeof path, "%s/%s", directory, files[i]);
                assert_int_equal(stat(path, &status), 0);
                assert_int_equal(status.st_mode & 0777, 0600);
                unlink(path);
        }
        rmdir(directory);
        os_free(&os);
}

/* ---- tokens ---- */

TEST(token, comes_back_from_its_text_in_either_case)
{
        struct os *os = machine_new();
        struct tls_join_token token, back;
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE] = {9, 8, 7};
        char text[TLS_TOKEN_TEXT_SIZE];
        unsigned i;

        tls_join_token_make(os, fingerprint, &token);
        tls_join_token_encode(&token, text);
        assert_int_equal(strlen(text), TLS_TOKEN_TEXT_SIZE - 1);
        assert_int_equal(strncmp(text, "nilo-join-1-", 12), 0);
        assert_true(tls_join_token_parse(text, &back));
        assert_memory_equal(back.ca_fingerprint, fingerprint, TLS_TOKEN_FINGERPRINT_SIZE);
        assert_memory_equal(back.secret, token.secret, sizeof back.secret);
        assert_true(back.id == token.id);
        for (i = 12; text[i]; i++)
                if (text[i] >= 'a' && text[i] <= 'z')
                        text[i] = (char)(text[i] - 32);
        assert_true(tls_join_token_parse(text, &back));
        assert_memory_equal(back.secret, token.secret, sizeof back.secret);
        os_free(&os);
}

TEST(token, any_other_text_is_refused)
{
        struct os *os = machine_new();
        struct tls_join_token token, back;
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE] = {9, 8, 7};
        char text[TLS_TOKEN_TEXT_SIZE], changed[TLS_TOKEN_TEXT_SIZE + 8];
        unsigned i;

        tls_join_token_make(os, fingerprint, &token);
        tls_join_token_encode(&token, text);
        assert_false(tls_join_token_parse("", &back));
        assert_false(tls_join_token_parse("nilo-join-1-", &back));
        for (i = 0; i < TLS_TOKEN_TEXT_SIZE - 1; i++) {
                snprintf(changed, sizeof changed, "%s", text);
                changed[i] = changed[i] == 'q' ? 'r' : 'q';
                assert_false(tls_join_token_parse(changed, &back));
                changed[i] = '1';
                assert_true(text[i] == '1' || !tls_join_token_parse(changed, &back));
                snprintf(changed, sizeof changed, "%s", text);
                changed[i] = 0;
                assert_false(tls_join_token_parse(changed, &back));
        }
        snprintf(changed, sizeof changed, "%sa", text);
        assert_false(tls_join_token_parse(changed, &back));
        os_free(&os);
}

TEST(token, its_hash_takes_that_token_and_no_other)
{
        struct os *os = machine_new();
        struct tls_join_token token, other;
        struct tls_join_token_hash hash, again;
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE] = {0};
        unsigned i;

        tls_join_token_make(os, fingerprint, &token);
        tls_join_token_make(os, fingerprint, &other);
        assert_memory_not_equal(token.secret, other.secret, sizeof token.secret);
        tls_join_token_hash(os, &token, &hash);
        tls_join_token_hash(os, &token, &again);
        assert_memory_not_equal(hash.hash, again.hash, sizeof hash.hash); /* salted */
        assert_true(tls_join_token_verify(&hash, token.id, token.secret));
        assert_true(tls_join_token_verify(&again, token.id, token.secret));
        assert_false(tls_join_token_verify(&hash, other.id, token.secret));
        assert_false(tls_join_token_verify(&hash, token.id, other.secret));
        for (i = 0; i < TLS_TOKEN_SECRET_SIZE; i++) {
                other = token;
                other.secret[i] ^= 1;
                assert_false(tls_join_token_verify(&hash, token.id, other.secret));
        }
        os_free(&os);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(files, an_authority_is_made_once),
                TEST_ROW(files, what_is_absent_is_named),
                TEST_ROW(files, names_are_dns_names_and_addresses_and_nothing_else),
                TEST_ROW(files, only_requests_of_a_key_for_itself_are_signed),
                TEST_ROW(files, only_a_certificate_that_fits_is_installed),
                TEST_ROW(files, a_request_keeps_the_key_that_is_there),
                TEST_ROW(files, a_full_disk_at_any_write_leaves_what_can_be_begun_anew),
                TEST_ROW(files, keys_are_for_their_owner_only),
                TEST_ROW(token, comes_back_from_its_text_in_either_case),
                TEST_ROW(token, any_other_text_is_refused),
                TEST_ROW(token, its_hash_takes_that_token_and_no_other),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
