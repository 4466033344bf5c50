/* What needs no server: names in URLs, JSON where it stands, and a server that is not there. */
#include "nilo/client.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

TEST(escape, leaves_plain_characters_and_escapes_the_others)
{
        static const struct {
                const char *text;
                const char *escaped;
        } rows[] = {
                {"order-42_a.b~C", "order-42_a.b~C"},
                {"", ""},
                {"a/b?c=d&e#f g%", "a%2Fb%3Fc%3Dd%26e%23f%20g%25"},
                {"$all", "%24all"},
                {"gr\xc3\xb6\xc3\x9f"
                 "e",
                        "gr%C3%B6%C3%9Fe"},
                {"\x01\x7f", "%01%7F"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                char *escaped = nilo_client_escape(rows[i].text);

                assert_string_equal(escaped, rows[i].escaped);
                free(escaped);
        }
}

static bool is_valid(const char *json)
{
        return nilo_json_is_valid(json, strlen(json));
}

TEST(json, one_value_is_valid_and_nothing_else)
{
        static const char *const good[] = {"{}", "[]", "0", "-1.5e+10", "\"\"", "true", "false", "null",
                " { \"a\" : [ 1 , {} ] } \n", "\"\\\"\\\\\\u00e9\"", "123456789012345678901234567890",
                "{\"a\":{\"a\":1},\"a\":2}"};
        static const char *const bad[] = {"", " ", "{", "}", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "01",
                "1.", "1e", "-", ".5", "\"", "\"\\", "\"a\nb\"", "tru", "nul", "{} {}", "1 2",
                "{}},{\"type\":\"Evil\"", "[1 2]", "+1", "NaN"};

        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
                if (!is_valid(good[i]))
                        fail_msg("valid: %s", good[i]);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (is_valid(bad[i]))
                        fail_msg("not valid: %s", bad[i]);
}

TEST(json, nesting_has_a_limit_and_is_not_a_crash)
{
        static char deep[200000];

        memset(deep, '[', sizeof deep);
        assert_false(nilo_json_is_valid(deep, sizeof deep));
        memset(deep + 100, ']', 100);
        assert_true(nilo_json_is_valid(deep, 200));
}

TEST(json, reads_no_byte_behind_the_text)
{
        static const char text[] = "{\"a\":{\"b\":[1,2.5e3,\"x\\n\"]},\"c\":true}";

        /* Cut off anywhere: in memory of exactly that size, so that a sanitizer sees a step too far. */
        for (size_t size = 0; size < sizeof text - 1; size++) {
                char *cut = malloc(size ? size : 1);
                const char *value;
                size_t value_size;

                memcpy(cut, text, size);
                assert_false(nilo_json_is_valid(cut, size));
                (void)nilo_json_field(cut, size, "c", &value, &value_size);
                free(cut);
        }
}

TEST(json, fields_are_found_as_they_are_written)
{
        static const char json[] =
                "{\"stream\":\"a\\u00e9\\\"b\", \"revision\" : 18446744073709551615,\"price\":1.10,"
                "\"data\":{\"stream\":\"inner\",\"big\":123456789012345678901234567890},\"none\":null}";
        const char *value;
        size_t size;
        uint64_t number;
        char *text;

        assert_true(nilo_json_field(json, sizeof json - 1, "price", &value, &size));
        assert_int_equal(size, 4);
        assert_memory_equal(value, "1.10", 4);
        assert_true(nilo_json_field(json, sizeof json - 1, "data", &value, &size));
        assert_memory_equal(value, "{\"stream\":\"inner\"", 17);
        assert_false(nilo_json_field(json, sizeof json - 1, "big", &value, &size));
        assert_true(nilo_json_number(json, sizeof json - 1, "revision", &number));
        assert_true(number == UINT64_MAX);
        assert_false(nilo_json_number(json, sizeof json - 1, "price", &number));
        assert_false(nilo_json_number(json, sizeof json - 1, "none", &number));
        text = nilo_json_string(json, sizeof json - 1, "stream");
        assert_string_equal(text, "a\xc3\xa9\"b");
        free(text);
        assert_null(nilo_json_string(json, sizeof json - 1, "data"));
        assert_null(nilo_json_string(json, sizeof json - 1, "absent"));
        assert_false(nilo_json_field("[1]", 3, "a", &value, &size));
}

TEST(client, takes_urls_only)
{
        struct nilo_client *client = NULL;

        assert_int_equal(nilo_client_open("localhost:2113", &client), NILO_INVALID);
        assert_int_equal(nilo_client_open("", &client), NILO_INVALID);
        assert_null(client);
        nilo_client_close(&client);
}

static void opens_as(const struct nilo_client_options *options, const char *url, const char *user)
{
        char problem[NILO_CLIENT_PROBLEM_SIZE];
        struct nilo_client *client = NULL;

        assert_int_equal(nilo_client_open_with(options, &client, problem), NILO_OK);
        assert_string_equal(nilo_client_url(client), url);
        assert_string_equal(nilo_client_user(client), user);
        nilo_client_close(&client);
}

TEST(client, what_is_said_apart_wins_over_the_url)
{
        opens_as(&(struct nilo_client_options){.url = "https://ada:x@host:1/"}, "https://host:1", "ada");
        opens_as(&(struct nilo_client_options){.url = "https://ada:x@host", .user = "bob"}, "https://host",
                "bob");
        opens_as(
                &(struct nilo_client_options){.url = "https://ada:x@host", .token = "t"}, "https://host", "");
        opens_as(&(struct nilo_client_options){.url = "kurrentdb://host"}, "https://host:2113", "");
}

TEST(client, options_that_make_no_sense_are_refused_with_a_reason)
{
        static const struct nilo_client_options rows[] = {
                {.url = "host:2113"},
                {.url = "https://host", .certificate_file = "c.pem"},
                {.url = "https://host", .key_file = "k.pem"},
                {.url = "kurrentdb://host?userCertFile=c.pem"},
        };

        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                char problem[NILO_CLIENT_PROBLEM_SIZE] = "";
                struct nilo_client *client = NULL;

                assert_int_equal(nilo_client_open_with(&rows[i], &client, problem), NILO_INVALID);
                assert_true(strlen(problem) > 10);
                assert_int_equal(nilo_client_open_with(&rows[i], &client, NULL), NILO_INVALID);
                assert_null(client);
        }
}

TEST(client, a_server_without_tls_has_no_certificates)
{
        struct nilo_client *client;
        char *pem = NULL;

        assert_int_equal(nilo_client_open("http://127.0.0.1:1", &client), NILO_OK);
        assert_int_equal(nilo_client_certificates(client, &pem), NILO_NOT_FOUND);
        nilo_client_close(&client);
        assert_int_equal(nilo_client_open("https://127.0.0.1:1", &client), NILO_OK);
        assert_int_equal(nilo_client_certificates(client, &pem), NILO_UNAVAILABLE);
        assert_null(pem);
        nilo_client_close(&client);
}

/* Something listens, and says nothing in TLS: `hangs_up`: it closes what it accepts. */
struct deaf {
        pthread_t thread;
        int fd;
        bool hangs_up;
        char url[64];
};

static void *listen_deaf(void *arg)
{
        struct deaf *d = arg;
        int conn = accept(d->fd, NULL, NULL);

        if (d->hangs_up)
                shutdown(conn, SHUT_RDWR);
        else
                usleep(600 * 1000);
        close(conn);
        return NULL;
}

static void deaf_start(struct deaf *d, bool hangs_up)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;

        d->hangs_up = hangs_up;
        d->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(d->fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(d->fd, 1), 0);
        assert_int_equal(getsockname(d->fd, (struct sockaddr *)&address, &size), 0);
        snprintf(d->url, sizeof d->url, "https://127.0.0.1:%u", ntohs(address.sin_port));
        assert_int_equal(pthread_create(&d->thread, NULL, listen_deaf, d), 0);
}

TEST(client, what_was_not_sent_for_want_of_a_handshake_is_not_unknown)
{
        for (int hangs_up = 0; hangs_up < 2; hangs_up++) {
                struct nilo_client *client;
                struct deaf deaf;
                struct nilo_client_options options = {.timeout_ms = 300, .url = deaf.url};

                deaf_start(&deaf, hangs_up);
                assert_int_equal(nilo_client_open_with(&options, &client, NULL), NILO_OK);
                assert_int_equal(nilo_client_send(client, "POST", "/v1/append", NULL, "{}", 2, NULL),
                        NILO_UNAVAILABLE);
                nilo_client_close(&client);
                pthread_join(deaf.thread, NULL);
                close(deaf.fd);
        }
}

TEST(client, every_host_is_tried_and_the_last_one_is_told)
{
        struct nilo_client *client;

        assert_int_equal(
                nilo_client_open("kurrentdb://127.0.0.1:1,127.0.0.2:1,127.0.0.3:1?tls=false", &client),
                NILO_OK);
        assert_string_equal(nilo_client_url(client), "http://127.0.0.1:1");
        assert_int_equal(nilo_client_send(client, "GET", "/ping", NULL, NULL, 0, NULL), NILO_UNAVAILABLE);
        assert_non_null(strstr(nilo_client_problem(client), "http://127.0.0.3:1"));
        nilo_client_close(&client);
}

TEST(client, a_server_that_is_not_there_is_unavailable_not_unknown)
{
        const struct nilo_event event = {.type = "A", .data = "{}", .data_size = 2};
        struct nilo_client *client;

        assert_int_equal(nilo_client_open("http://127.0.0.1:1/", &client), NILO_OK);
        assert_int_equal(nilo_client_append(client, "a", NILO_ANY, &event, 1, NULL), NILO_UNAVAILABLE);
        assert_non_null(strstr(nilo_client_problem(client), "http://127.0.0.1:1"));
        assert_non_null(strstr(nilo_client_next_step(client), "nilo"));
        assert_int_equal(nilo_client_delete(client, "a", NILO_ANY, false, NULL), NILO_UNAVAILABLE);
        nilo_client_close(&client);
        assert_null(client);
}

TEST(client, data_that_is_no_json_is_not_sent)
{
        const struct nilo_event event = {.type = "A", .data = "{}},{", .data_size = 5};
        struct nilo_client *client;

        assert_int_equal(nilo_client_open("http://127.0.0.1:1", &client), NILO_OK);
        assert_int_equal(nilo_client_append(client, "a", NILO_ANY, &event, 1, NULL), NILO_INVALID);
        nilo_client_close(&client);
}

static bool never(void *arg, const char *json, size_t size)
{
        (void)arg, (void)json, (void)size;
        fail_msg("nothing can come");
        return false;
}

static bool give_up(void *arg, const char *why)
{
        unsigned *waits = arg;

        assert_true(strlen(why) > 0);
        return ++*waits < 3;
}

TEST(client, a_follower_tells_before_each_new_attempt_and_may_give_up)
{
        const struct nilo_read_options options = {.stream = "a"};
        struct nilo_client *client;
        unsigned waits = 0;

        assert_int_equal(nilo_client_open("http://127.0.0.1:1", &client), NILO_OK);
        assert_int_equal(nilo_client_follow(client, &options, never, give_up, &waits), NILO_UNAVAILABLE);
        assert_int_equal(waits, 3);
        nilo_client_interrupt(client);
        assert_int_equal(nilo_client_follow(client, &options, never, give_up, &waits), NILO_OK);
        assert_int_equal(waits, 3);
        nilo_client_close(&client);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(escape, leaves_plain_characters_and_escapes_the_others),
                TEST_ROW(json, one_value_is_valid_and_nothing_else),
                TEST_ROW(json, nesting_has_a_limit_and_is_not_a_crash),
                TEST_ROW(json, reads_no_byte_behind_the_text),
                TEST_ROW(json, fields_are_found_as_they_are_written),
                TEST_ROW(client, takes_urls_only),
                TEST_ROW(client, what_is_said_apart_wins_over_the_url),
                TEST_ROW(client, options_that_make_no_sense_are_refused_with_a_reason),
                TEST_ROW(client, a_server_without_tls_has_no_certificates),
                TEST_ROW(client, what_was_not_sent_for_want_of_a_handshake_is_not_unknown),
                TEST_ROW(client, every_host_is_tried_and_the_last_one_is_told),
                TEST_ROW(client, a_server_that_is_not_there_is_unavailable_not_unknown),
                TEST_ROW(client, data_that_is_no_json_is_not_sent),
                TEST_ROW(client, a_follower_tells_before_each_new_attempt_and_may_give_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
