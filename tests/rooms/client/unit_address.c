/* Where a server is, as people write it. */
#include "client/address.h"

#include <stdlib.h>

#include "test.h"

static void parse(const char *url, struct address *ret)
{
        char problem[NILO_CLIENT_PROBLEM_SIZE];

        if (!address_parse(url, ret, problem))
                fail_msg("%s: %s", url, problem);
        assert_string_equal(problem, "");
}

TEST(address, urls_keep_their_port_and_lose_their_credentials)
{
        static const struct {
                const char *url;
                const char *base;
                const char *user;
                const char *password;
                bool is_tls;
        } rows[] = {
                {"http://127.0.0.1:2113", "http://127.0.0.1:2113", NULL, NULL, false},
                {"http://127.0.0.1:2113/", "http://127.0.0.1:2113", NULL, NULL, false},
                {"https://[::1]:1", "https://[::1]:1", NULL, NULL, true},
                {"HTTPS://db_1.example-x.org", "https://db_1.example-x.org", NULL, NULL, true},
                {"https://ada:se%3Acret%40%25@host:2113/behind/proxy/", "https://host:2113/behind/proxy",
                        "ada", "se:cret@%", true},
                {"https://ada:p@ss:word@host", "https://host", "ada", "p@ss:word", true},
                {"https://ada@host", "https://host", "ada", NULL, true},
                {"https://ada:@host", "https://host", "ada", "", true},
                {"kurrentdb://admin:x@host:2113?tls=true", "https://host:2113", "admin", "x", true},
                {"kurrentdb://host", "https://host:2113", NULL, NULL, true},
                {"kurrentdb://127.0.0.1:2113?tls=false", "http://127.0.0.1:2113", NULL, NULL, false},
                {"esdb+discover://host/?TLS=False&connectionName=me", "http://host:2113", NULL, NULL, false},
                {"kdb://[fe80::1]", "https://[fe80::1]:2113", NULL, NULL, true},
                {"kurrent://[fe80::1]:7/?", "https://[fe80::1]:7", NULL, NULL, true},
        };

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct address a;

                parse(rows[i].url, &a);
                assert_int_equal(a.count, 1);
                assert_string_equal(a.bases[0], rows[i].base);
                assert_int_equal(a.is_tls, rows[i].is_tls);
                assert_int_equal(a.user != NULL, rows[i].user != NULL);
                assert_int_equal(a.password != NULL, rows[i].password != NULL);
                if (a.user)
                        assert_string_equal(a.user, rows[i].user);
                if (a.password)
                        assert_string_equal(a.password, rows[i].password);
                address_fini(&a);
        }
}

TEST(address, a_connection_string_names_hosts_and_files)
{
        struct address a;

        parse("kurrentdb+discover://u:p@a:1,b,[::1]:3?tlsCAFile=%2Fetc%2Fca%20x.pem&userCertFile=c.pem&"
              "userKeyFile=k.pem&tlsVerifyCert=false&nodePreference=leader",
                &a);
        assert_int_equal(a.count, 3);
        assert_string_equal(a.bases[0], "https://a:1");
        assert_string_equal(a.bases[1], "https://b:2113");
        assert_string_equal(a.bases[2], "https://[::1]:3");
        assert_string_equal(a.ca_file, "/etc/ca x.pem");
        assert_string_equal(a.certificate_file, "c.pem");
        assert_string_equal(a.key_file, "k.pem");
        assert_true(a.trusts_anyone);
        address_fini(&a);
        assert_null(a.user);
}

TEST(address, what_is_no_address_is_refused_with_a_reason_that_holds_no_password)
{
        static const char *const rows[] = {"", "localhost:2113", "ftp://host", "http://", "http://:80",
                "http://host:", "http://host:0", "http://host:65536", "http://host:1x", "http://ho st",
                "http://host\n", "http://[::1", "http://[]:1", "http://[gg]:1", "http://[::1]x",
                "http://host?tls=true", "kurrentdb://host?tls=maybe", "kurrentdb://host?tls",
                "kurrentdb://host?tlsCAFile=", "kurrentdb://host?unknown=1", "kurrentdb://host?tlsCAFile=%0",
                "kurrentdb://host?tlsCAFile=%00", "kurrentdb://host/path", "kurrentdb://a,,b", "http://a,b",
                "https://:secret@host", "https://u:secret%zz@host", "https://u:secret/secret@host",
                "https://u:secret@ho/st@x?secret", "kurrentdb://h,h,h,h,h,h,h,h,h,h,h,h,h,h,h,h,h"};

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char problem[NILO_CLIENT_PROBLEM_SIZE];
                struct address a;

                if (address_parse(rows[i], &a, problem))
                        fail_msg("taken: %s", rows[i]);
                assert_true(strlen(problem) > 10);
                if (strstr(problem, "secret"))
                        fail_msg("%s: %s", rows[i], problem);
                address_fini(&a);
        }
}

TEST(address, a_text_without_end_is_refused)
{
        char *text = malloc(ADDRESS_SIZE_MAX * 2);
        char problem[NILO_CLIENT_PROBLEM_SIZE];
        struct address a;

        memset(text, 'a', ADDRESS_SIZE_MAX * 2);
        memcpy(text, "http://", 7);
        text[ADDRESS_SIZE_MAX * 2 - 1] = 0;
        assert_false(address_parse(text, &a, problem));
        address_fini(&a);
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(address, urls_keep_their_port_and_lose_their_credentials),
                TEST_ROW(address, a_connection_string_names_hosts_and_files),
                TEST_ROW(address, what_is_no_address_is_refused_with_a_reason_that_holds_no_password),
                TEST_ROW(address, a_text_without_end_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
