/* What the doctor makes of what it measures. */
#include "cli/doctor.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#include "test.h"

TEST(doctor, quantiles_are_what_so_many_stay_below)
{
        static const double times[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

        assert_true(doctor_quantile(times, 10, 0.5) == 6);
        assert_true(doctor_quantile(times, 10, 0.99) == 10);
        assert_true(doctor_quantile(times, 10, 1) == 10);
        assert_true(doctor_quantile(times, 1, 0.5) == 1);
}

TEST(doctor, a_sync_that_is_none_is_wrong_and_a_slow_one_is_told)
{
        const char *advice;

        assert_int_equal(doctor_judge_sync(2, 900, &advice), DOCTOR_FAIL); /* memory, with a hiccup */
        assert_non_null(strstr(advice, "loses"));
        assert_int_equal(doctor_judge_sync(25, 80, &advice), DOCTOR_OK); /* flash with a capacitor */
        assert_string_equal(advice, "");
        assert_int_equal(doctor_judge_sync(4000, 12000, &advice), DOCTOR_OK);
        assert_int_equal(doctor_judge_sync(30000, 31000, &advice), DOCTOR_WARN);
        assert_int_equal(doctor_judge_sync(4000, 900000, &advice), DOCTOR_WARN);
        assert_true(strlen(advice) > 0);
}

/* A certificate that ends in so many seconds, added to `out` as PEM. */
static void make_certificate(long seconds, const char *name, BIO *out)
{
        X509 *certificate = X509_new();
        EVP_PKEY *key = EVP_EC_gen("P-256");

        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
        X509_set_pubkey(certificate, key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                (const unsigned char *)name, -1, -1, 0);
        X509_sign(certificate, key, EVP_sha256());
        PEM_write_bio_X509(out, certificate);
        X509_free(certificate);
        EVP_PKEY_free(key);
}

TEST(doctor, certificates_are_read_one_after_the_other)
{
        BIO *out = BIO_new(BIO_s_mem());
        const char *at;
        char *subject;
        int64_t until;
        char *text;
        long size;

        make_certificate(86400, "one", out);
        BIO_puts(out, "words between\n");
        make_certificate(-60, "two", out);
        size = BIO_get_mem_data(out, &text);
        text = strndup(text, (size_t)size);
        at = text;
        assert_true(doctor_certificate_next(&at, &until, &subject));
        assert_non_null(strstr(subject, "one"));
        assert_true(llabs(until - (int64_t)time(NULL) - 86400) < 60);
        free(subject);
        assert_true(doctor_certificate_next(&at, &until, &subject));
        assert_non_null(strstr(subject, "two"));
        assert_true(until < (int64_t)time(NULL));
        free(subject);
        assert_false(doctor_certificate_next(&at, &until, &subject));
        BIO_free(out);
        free(text);
}

TEST(doctor, what_is_no_certificate_is_none)
{
        static const char *const texts[] = {"", "words", "-----BEGIN CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"};

        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                const char *at = texts[i];
                char *subject;
                int64_t until;

                assert_false(doctor_certificate_next(&at, &until, &subject));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(doctor, quantiles_are_what_so_many_stay_below),
                TEST_ROW(doctor, a_sync_that_is_none_is_wrong_and_a_slow_one_is_told),
                TEST_ROW(doctor, certificates_are_read_one_after_the_other),
                TEST_ROW(doctor, what_is_no_certificate_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
