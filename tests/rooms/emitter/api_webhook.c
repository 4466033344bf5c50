/* Webhooks, against a small HTTP server: what is posted and signed, what an answer does, and that a call that
 * hangs holds nothing up (G11, G17, G18). */
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

enum { REQUESTS_MAX = 64, REQUEST_SIZE_MAX = 64 * 1024 };

struct server {
        int fd;
        uint16_t port;
        pthread_t thread;
        atomic_int status;     /* of the answers; 0: there is none */
        atomic_int fail_first; /* so many get 500 before */
        atomic_uint count;
        atomic_bool is_ending;
        char *requests[REQUESTS_MAX];
};

static size_t length_of(const char *text)
{
        const char *at = strcasestr(text, "content-length:");

        return at ? strtoul(at + 15, NULL, 10) : 0;
}

/* One request, whole. False: the peer is gone. */
static bool receive(int fd, char *text)
{
        size_t size = 0;

        for (;;) {
                ssize_t n = recv(fd, text + size, REQUEST_SIZE_MAX - 1 - size, 0);
                char *end;

                if (n <= 0)
                        return false;
                size += (size_t)n;
                text[size] = 0;
                end = strstr(text, "\r\n\r\n");
                if (end && size >= (size_t)(end + 4 - text) + length_of(text))
                        return true;
        }
}

static void answer_request(struct server *s, int fd)
{
        unsigned at = atomic_load(&s->count);
        int status = atomic_load(&s->status);
        char *text = memory_new(REQUEST_SIZE_MAX);
        char answer[256];

        if (!receive(fd, text) || at == REQUESTS_MAX) {
                free(text);
                return;
        }
        s->requests[at] = text;
        atomic_store(&s->count, at + 1);
        if (atomic_load(&s->fail_first) > 0) {
                atomic_fetch_sub(&s->fail_first, 1);
                status = 500;
        }
        while (!status && !atomic_load(&s->is_ending)) {
                usleep(10000);
                status = atomic_load(&s->status);
        }
        snprintf(answer, sizeof answer,
                "HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:%u/elsewhere\r\nContent-Length: "
                "2\r\nConnection: close\r\n\r\nok",
                status, s->port);
        (void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
}

static void *serve(void *arg)
{
        struct server *s = arg;

        while (!atomic_load(&s->is_ending)) {
                int fd = accept(s->fd, NULL, NULL);

                if (fd < 0)
                        break;
                answer_request(s, fd);
                close(fd);
        }
        return NULL;
}

static void server_begin(struct server *s, int status, int fail_first)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;

        *s = (struct server){.status = status, .fail_first = fail_first};
        s->fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(s->fd >= 0);
        assert_int_equal(bind(s->fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(s->fd, 16), 0);
        assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &size), 0);
        s->port = ntohs(address.sin_port);
        assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
        atomic_store(&s->is_ending, true);
        shutdown(s->fd, SHUT_RDWR);
        pthread_join(s->thread, NULL);
        close(s->fd);
        for (unsigned i = 0; i < REQUESTS_MAX; i++)
                free(s->requests[i]);
}

static struct emitter_definition hook_of(const struct server *s, char *url, size_t size)
{
        struct emitter_definition d = definition_of("a", "g\nx");

        snprintf(url, size, "http://127.0.0.1:%u/hook", s->port);
        d.target = TARGET_WEBHOOK;
        d.url = bytes_of_string(url);
        d.secret = BYTES_LITERAL("open sesame");
        d.settings.message_timeout_ms = 2000;
        return d;
}

static void wait_for_parked(struct world *w, uint64_t count)
{
        for (unsigned i = 0; i < 2000 && info_of(w, "a", "g\nx").info.parked < count; i++)
                world_run(w);
        assert_int_equal(info_of(w, "a", "g\nx").info.parked, count);
}

static void wait_for_requests(struct world *w, struct server *s, unsigned count)
{
        for (unsigned i = 0; i < 2000 && atomic_load(&s->count) < count; i++)
                world_run(w);
        assert_true(atomic_load(&s->count) >= count);
}

static void wait_for_acks(struct world *w, uint64_t count)
{
        struct emitter_stats stats = {0};

        for (unsigned i = 0; i < 2000 && stats.acked < count; i++) {
                world_run(w);
                emitter_stats(w->emitter, &stats);
        }
        assert_int_equal(stats.acked, count);
}

/* The value of a header, as a string of its own. */
static void header_of(const char *request, const char *name, char *ret, size_t size)
{
        const char *at = strstr(request, name);

        assert_non_null(at);
        at += strlen(name);
        snprintf(ret, size, "%.*s", (int)strcspn(at, "\r\n"), at);
}

static void assert_signed(const char *request)
{
        const char *body = strstr(request, "\r\n\r\n") + 4;
        char timestamp[32], signature[128], text[REQUEST_SIZE_MAX], expected[128] = "sha256=";
        uint8_t mac[EVP_MAX_MD_SIZE];
        unsigned size;

        header_of(request, "Nilo-Timestamp: ", timestamp, sizeof timestamp);
        header_of(request, "Nilo-Signature: ", signature, sizeof signature);
        snprintf(text, sizeof text, "%s.%s", timestamp, body);
        assert_non_null(HMAC(EVP_sha256(), "open sesame", 11, (uint8_t *)text, strlen(text), mac, &size));
        for (unsigned i = 0; i < size; i++)
                snprintf(expected + 7 + i * 2, 3, "%02x", mac[i]);
        assert_string_equal(signature, expected);
}

TEST(webhook, posts_signed_batches_and_acknowledges_them)
{
        struct world w = {0};
        struct server s;
        char url[64], ids[4096];
        struct emitter_definition d;

        world_begin(&w, 1);
        server_begin(&s, 204, 0);
        append(&w, "a", 30);
        d = hook_of(&s, url, sizeof url);
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_acks(&w, 30);
        assert_memory_equal(s.requests[0], "POST /hook HTTP/1.1\r\n", 21);
        assert_non_null(strstr(s.requests[0], "Nilo-Subscription: a::g%0Ax\r\n"));
        assert_non_null(strstr(s.requests[0], "\"stream\":\"a\",\"revision\":0,"));
        assert_non_null(strstr(s.requests[0], "\"data\":{\"n\":1}"));
        header_of(s.requests[0], "Nilo-Event-Ids: ", ids, sizeof ids);
        ids[36] = 0;
        assert_non_null(strstr(strstr(s.requests[0], "\r\n\r\n"), ids));
        assert_signed(s.requests[0]);
        assert_true(atomic_load(&s.count) < 30); /* many at a time */
        assert_int_equal(info_of(&w, "a", "g\nx").info.parked, 0);
        world_end(&w);
        server_end(&s);
}

TEST(webhook, tries_again_until_it_is_taken)
{
        struct world w = {0};
        struct server s;
        char url[64];
        struct emitter_definition d;

        world_begin(&w, 1);
        server_begin(&s, 200, 2);
        append(&w, "a", 4);
        d = hook_of(&s, url, sizeof url);
        d.settings.message_timeout_ms = 1000;
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_acks(&w, 4);
        assert_true(atomic_load(&s.count) >= 3);
        assert_non_null(strstr(s.requests[1], "\"retry_count\":1"));
        assert_int_equal(info_of(&w, "a", "g\nx").info.parked, 0);
        world_end(&w);
        server_end(&s);
}

/* The time of a message is that of a call: while it waits for its next try it has none, and loses none. */
TEST(webhook, waits_longer_than_a_message_may_take_before_it_tries_again)
{
        struct world w = {0};
        struct server s;
        char url[64];
        struct emitter_definition d;
        uint64_t began;

        world_begin(&w, 1);
        server_begin(&s, 200, 1);
        append(&w, "a", 1);
        d = hook_of(&s, url, sizeof url);
        d.settings.message_timeout_ms = 200;
        d.settings.max_retry_count = 1;
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_requests(&w, &s, 1);
        began = os_monotonic_us(w.os);
        wait_for_acks(&w, 1);
        assert_true(os_monotonic_us(w.os) - began > 400 * 1000);
        assert_int_equal(atomic_load(&s.count), 2);
        assert_non_null(strstr(s.requests[1], "\"retry_count\":1"));
        assert_int_equal(info_of(&w, "a", "g\nx").info.parked, 0);
        world_end(&w);
        server_end(&s);
}

static void assert_parked_with(struct world *w, const char *reason)
{
        struct store_read_options o = {
                .stream = BYTES_LITERAL("$persistentsubscription-a::g\nx-parked"), .limit = 10};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        char text[1024];

        assert_int_equal(store_reader_open(w->store, &o, &reader), 0);
        assert_int_equal(store_reader_next(reader, &item), 0);
        snprintf(text, sizeof text, "%.*s", (int)item.event.metadata.size,
                (const char *)item.event.metadata.data);
        assert_non_null(strstr(text, reason));
        store_reader_close(&reader);
}

static void park_by(int status, const char *reason)
{
        struct world w = {0};
        struct server s;
        char url[64];
        struct emitter_definition d;

        world_begin(&w, 1);
        server_begin(&s, status, 0);
        append(&w, "a", 3);
        d = hook_of(&s, url, sizeof url);
        d.settings.message_timeout_ms = 400;
        d.settings.max_retry_count = 1;
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_parked(&w, 3);
        assert_parked_with(&w, reason);
        for (unsigned i = 0; i < atomic_load(&s.count); i++)
                assert_null(strstr(s.requests[i], "POST /elsewhere"));
        world_end(&w);
        server_end(&s);
}

TEST(webhook, parks_with_the_reason_what_is_refused_too_often)
{
        park_by(503, "status 503");
}

TEST(webhook, follows_no_redirect)
{
        park_by(302, "status 302");
}

TEST(webhook, nobody_there_parks_too)
{
        struct world w = {0};
        struct server s;
        char url[64];
        struct emitter_definition d;

        world_begin(&w, 1);
        server_begin(&s, 200, 0);
        server_end(&s); /* the port is closed now */
        append(&w, "a", 1);
        d = hook_of(&s, url, sizeof url);
        d.settings.max_retry_count = 0;
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_parked(&w, 1);
        assert_parked_with(&w, "no answer");
        world_end(&w);
}

TEST(webhook, a_call_that_hangs_holds_no_stop_up_and_its_events_come_again)
{
        struct world w = {0};
        struct server s;
        char url[64];
        struct emitter_definition d;
        uint64_t began;

        world_begin(&w, 1);
        server_begin(&s, 0, 0);
        append(&w, "a", 2);
        d = hook_of(&s, url, sizeof url);
        d.settings.message_timeout_ms = 60000;
        assert_int_equal(create(&w, d), EMITTER_OK);
        wait_for_requests(&w, &s, 1);
        began = os_monotonic_us(w.os);
        world_stop(&w);
        world_close(&w);
        assert_true(os_monotonic_us(w.os) - began < 3 * 1000 * 1000);
        atomic_store(&s.status, 200);
        world_open(&w); /* the disk is as it was */
        wait_for_acks(&w, 2);
        world_end(&w);
        server_end(&s);
}

TEST(webhook, only_addresses_of_http_are_taken)
{
        static const char *const urls[] = {"", "file:///etc/passwd", "ftp://127.0.0.1/", "127.0.0.1:80"};
        struct world w = {0};

        world_begin(&w, 1);
        for (unsigned i = 0; i < COUNT_OF(urls); i++) {
                struct emitter_definition d = definition_of("a", "g");

                d.target = TARGET_WEBHOOK;
                d.url = bytes_of_string(urls[i]);
                assert_int_equal(create(&w, d), EMITTER_INVALID);
        }
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(webhook, posts_signed_batches_and_acknowledges_them),
                TEST_ROW(webhook, tries_again_until_it_is_taken),
                TEST_ROW(webhook, waits_longer_than_a_message_may_take_before_it_tries_again),
                TEST_ROW(webhook, parks_with_the_reason_what_is_refused_too_often),
                TEST_ROW(webhook, follows_no_redirect),
                TEST_ROW(webhook, nobody_there_parks_too),
                TEST_ROW(webhook, a_call_that_hangs_holds_no_stop_up_and_its_events_come_again),
                TEST_ROW(webhook, only_addresses_of_http_are_taken),
        };

        is_on_memory_machine = true;
        setenv("no_proxy", "*", 1);
        return cmocka_run_group_tests_name("webhook", tests, NULL, NULL);
}
