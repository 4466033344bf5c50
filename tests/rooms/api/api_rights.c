/* Who may see and write what over HTTP, with users as they are: every way to learn of a stream, by somebody
 * who has no right to it. */
#include "base/base64.h"
#include "support.h"

static struct server *server;

/* ---- users ---- */

static char admin[96], ann[96], bob[96];

static void authorization(char *to, size_t size, const char *login, const char *password)
{
        struct buffer plain = {0}, encoded = {0};

        buffer_format(&plain, "%s:%s", login, password);
        base64_encode(&encoded, buffer_bytes(&plain));
        snprintf(to, size, "Authorization: Basic %.*s\r\n", (int)encoded.size, (const char *)encoded.data);
        buffer_fini(&plain);
        buffer_fini(&encoded);
}

struct user_wish {
        const char *login;
        const char *group;
        sem_t is_done;
        enum access_verdict verdict;
};

static void on_user(void *arg, enum access_verdict verdict, const char *problem)
{
        struct user_wish *w = arg;

        if (verdict)
                fprintf(stderr, "%s\n", problem);
        w->verdict = verdict;
        sem_post(&w->is_done);
}

static void make_user(struct server *s, void *arg)
{
        struct user_wish *w = arg;
        struct bytes groups[1] = {bytes_of_string(w->group)};
        struct access_change change = {
                .kind = ACCESS_CREATE,
                .login = bytes_of_string(w->login),
                .full_name = bytes_of_string(w->login),
                .groups = groups,
                .group_count = *w->group ? 1 : 0,
                .password = BYTES_LITERAL("a good one"),
        };

        access_change(s->access, &change, on_user, w);
}

static void add_user(const char *login, const char *group, char *to, size_t size)
{
        struct user_wish w = {.login = login, .group = group};

        assert_int_equal(sem_init(&w.is_done, 0, 0), 0);
        on_server(server, make_user, &w);
        while (sem_wait(&w.is_done)) {
        }
        sem_destroy(&w.is_done);
        assert_int_equal(w.verdict, ACCESS_CHANGED);
        authorization(to, size, login, "a good one");
}

/* ---- calls as somebody ---- */

static json_t *as(const char *who, int status, const char *line, const char *headers, const char *body)
{
        char all[512];

        snprintf(all, sizeof all, "%s%s", who, headers);
        return call(server, status, line, all, body);
}

static void ok(const char *who, int status, const char *line, const char *headers, const char *body)
{
        json_decref(as(who, status, line, headers, body));
}

static void denied(
        const char *who, const char *detail, const char *line, const char *headers, const char *body)
{
        json_t *json = as(who, 403, line, headers, body);

        assert_string_equal(text(json, "type"), "urn:nilo:access-denied");
        assert_non_null(strstr(text(json, "detail"), detail));
        json_decref(json);
}

/* The bytes of an answer, whatever it is. */
static void raw(const char *who, const char *line, const char *headers, struct reply *ret)
{
        char all[512];

        snprintf(all, sizeof all, "%s%s", who, headers);
        call_bytes(server, line, all, BYTES_EMPTY, ret);
}

#define EVENT        "{\"type\":\"T\",\"data\":{\"n\":1}}"
#define LINK(target) "{\"type\":\"$>\",\"data_base64\":\"" target "\"}"

static void write_event(const char *who, const char *stream, const char *body)
{
        char line[200];

        snprintf(line, sizeof line, "POST /v1/streams/%s/events", stream);
        ok(who, 201, line, JSON_BODY, body);
}

/* "secret-1" is for bob alone; "shown-1" for everybody; ann may read everything that is not guarded by the
 * group "readers" in the default rights of "$all". */
static int start(void **state)
{
        (void)state;
        server = server_start(&(struct server_options){.has_users = true});
        authorization(admin, sizeof admin, "admin", "changeit");
        add_user("ann", "readers", ann, sizeof ann);
        add_user("bob", "", bob, sizeof bob);
        ok(admin, 200, "PUT /v1/streams/secret-1/metadata", JSON_BODY,
                "{\"$acl\":{\"$r\":\"bob\",\"$w\":\"bob\",\"$mr\":\"bob\",\"$mw\":\"$admins\",\"$d\":\"$"
                "admins\"}}");
        write_event(bob, "secret-1", EVENT);
        write_event(bob, "shown-1", EVENT);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        server_stop(server);
        return 0;
}

static void let_ann_read_everything(bool may)
{
        ok(admin, 200, "PUT /v1/streams/%24all/metadata", JSON_BODY,
                may ? "{\"$acl\":{\"$r\":[\"readers\",\"$admins\"]}}" : "{}");
}

/* ---- one stream ---- */

TEST(stream, nothing_of_it_is_told_to_who_may_not_read_it)
{
        static const char *const lines[] = {
                "GET /v1/streams/secret-1/events",
                "GET /v1/streams/secret-1/events?direction=backward",
                "GET /v1/streams/secret-1/events?wait-ms=10",
                "GET /v1/streams/secret-1/events/0",
                "GET /v1/streams/secret-1",
                "HEAD /v1/streams/secret-1",
                "GET /v1/streams/secret-1/metadata",
                "GET /v1/streams/%24%24secret-1/events",
                "GET /v1/subscriptions/secret-1/g/events",
                "GET /v1/subscriptions/secret-1/g/parked",
                "GET /v1/stores/default/streams/secret-1/events",
        };
        struct reply r;

        for (unsigned i = 0; i < COUNT_OF(lines); i++) {
                raw(ann, lines[i], "", &r);
                assert_int_equal(r.status, 403);
                assert_null(strstr(body_of(&r), "\"n\":1"));
                reply_free(&r);
                raw("", lines[i], "", &r);
                assert_int_equal(r.status, 401);
                reply_free(&r);
        }
        denied(ann, "read", "GET /v1/streams/secret-1/events", AS_LINES, NULL);
        denied(ann, "read", "GET /v1/streams/secret-1/events", AS_EVENTS, NULL);
        denied(ann, "write", "POST /v1/streams/secret-1/events", JSON_BODY, EVENT);
        denied(bob, "delete", "DELETE /v1/streams/secret-1", "", NULL);
        denied(bob, "write the metadata", "PUT /v1/streams/secret-1/metadata", JSON_BODY, "{}");
        denied(bob, "write the metadata", "POST /v1/streams/secret-1/truncate?before=1", "", "");
        ok(bob, 200, "GET /v1/streams/secret-1/events", "", NULL);
        ok(bob, 200, "GET /v1/streams/secret-1/metadata", "", NULL);
}

TEST(stream, answers_are_kept_by_the_asker_alone)
{
        struct reply r;

        raw(bob, "GET /v1/streams/shown-1/events?limit=1", "", &r);
        assert_int_equal(r.status, 200);
        assert_non_null(strstr((char *)r.head.data, "cache-control: private, no-cache"));
        reply_free(&r);
}

/* ---- several streams ---- */

TEST(append, to_several_streams_needs_each_right_and_is_all_or_nothing)
{
        json_t *json;

        denied(ann, "'write' to the stream 'secret-1'", "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"ann-1\",\"events\":[" EVENT "]},"
                "{\"stream\":\"secret-1\",\"events\":[" EVENT "]}]}");
        denied(ann, "'read' to the stream 'secret-1'", "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"ann-1\",\"events\":[" EVENT "]},"
                "{\"stream\":\"secret-1\",\"expect\":0}]}");
        denied(ann, "'write' to the stream 'secret-1'", "POST /v1/append",
                "Content-Type: application/x-ndjson\r\n",
                "{\"stream\":\"ann-1\",\"type\":\"T\"}\n{\"stream\":\"secret-1\",\"type\":\"T\"}\n");
        denied(ann, "write", "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"$$secret-1\",\"events\":[{\"type\":\"$metadata\",\"data\":{}}]}]"
                "}");
        ok(ann, 404, "GET /v1/streams/ann-1", "", NULL);
        json = as(bob, 201, "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"bob-1\",\"events\":[" EVENT "]},"
                "{\"stream\":\"secret-1\",\"expect\":0}]}");
        assert_int_equal(json_array_size(json_object_get(json, "streams")), 2);
        json_decref(json);
}

TEST(append, a_conflict_tells_the_newest_event_only_to_who_may_read_it)
{
        json_t *json;

        ok(admin, 200, "PUT /v1/streams/inbox-1/metadata", JSON_BODY, "{\"$acl\":{\"$r\":\"bob\"}}");
        write_event(ann, "inbox-1", EVENT);
        json = as(ann, 409, "POST /v1/streams/inbox-1/events", JSON_BODY "Nilo-Expect: 7\r\n", EVENT);
        assert_null(json_object_get(json, "newest"));
        json_decref(json);
        json = as(bob, 409, "POST /v1/streams/inbox-1/events", JSON_BODY "Nilo-Expect: 7\r\n", EVENT);
        assert_non_null(json_object_get(json, "newest"));
        json_decref(json);
}

/* ---- links ---- */

/* "0@secret-1" and "0@$user-admin" */
TEST(link, its_target_is_shown_only_to_who_may_read_that)
{
        json_t *json, *events;
        struct reply r;

        write_event(ann, "links-1", LINK("MEBzZWNyZXQtMQ=="));
        write_event(ann, "links-1", LINK("MEAkdXNlci1hZG1pbg=="));
        write_event(ann, "links-1", LINK("MEBzaG93bi0x"));
        json = as(ann, 200, "GET /v1/streams/links-1/events?resolve-links=true", "", NULL);
        events = json_object_get(json, "events");
        assert_int_equal(json_array_size(events), 3);
        assert_true(json_is_false(json_object_get(json_array_get(events, 0), "resolved")));
        assert_true(json_is_false(json_object_get(json_array_get(events, 1), "resolved")));
        assert_string_equal(text(json_array_get(events, 2), "stream"), "shown-1");
        json_decref(json);
        json = as(bob, 200, "GET /v1/streams/links-1/events?resolve-links=true", "", NULL);
        events = json_object_get(json, "events");
        assert_string_equal(text(json_array_get(events, 0), "stream"), "secret-1");
        assert_true(json_is_false(json_object_get(json_array_get(events, 1), "resolved")));
        json_decref(json);
        json = as(ann, 200, "GET /v1/streams/links-1/events/0?resolve-links=true", "", NULL);
        assert_true(json_is_false(json_object_get(json, "resolved")));
        json_decref(json);
        raw(ann, "GET /v1/streams/links-1/events?resolve-links=true", AS_LINES, &r);
        assert_null(strstr(body_of(&r), "\"secret-1\""));
        assert_null(strstr(body_of(&r), "argon"));
        reply_free(&r);
        raw(ann, "GET /v1/streams/links-1/events?resolve-links=true&limit=3", AS_EVENTS, &r);
        assert_null(strstr(body_of(&r), "\"secret-1\""));
        assert_non_null(strstr(body_of(&r), "\"shown-1\""));
        reply_free(&r);
}

TEST(link, a_consumer_is_given_the_link_alone)
{
        struct reply r;

        write_event(ann, "links-2", LINK("MEBzZWNyZXQtMQ=="));
        ok(admin, 201, "PUT /v1/subscriptions/links-2/g", JSON_BODY,
                "{\"from\":\"start\",\"settings\":{\"resolve_links\":true}}");
        {
                char headers[256];
                int fd = client_connect(server);
                char got[4096] = "";
                size_t n = 0;

                snprintf(headers, sizeof headers, "%s" AS_LINES, ann);
                client_request(fd, "GET /v1/subscriptions/links-2/g/events", headers, BYTES_EMPTY, true);
                while (!strstr(got, "ack_id") && n + 1 < sizeof got) {
                        ssize_t more = recv(fd, got + n, sizeof got - 1 - n, 0);

                        assert_true(more > 0);
                        n += (size_t)more;
                        got[n] = 0;
                }
                assert_null(strstr(got, "\"secret-1\""));
                assert_non_null(strstr(got, "\"resolved\":false"));
                raw(admin, "GET /v1/subscriptions/links-2/g", "", &r);
                assert_non_null(strstr(body_of(&r), "\"ann\""));
                reply_free(&r);
                close(fd);
        }
}

TEST(subscription, a_webhook_needs_the_right_to_read)
{
        char ops[96];

        authorization(ops, sizeof ops, "ops", "changeit");
        denied(ops, "'read' to the stream 'secret-1'", "PUT /v1/subscriptions/secret-1/hook", JSON_BODY,
                "{\"target\":\"webhook\",\"url\":\"http://127.0.0.1:9/\"}");
        denied(ops, "'read' to the stream '$all'", "PUT /v1/subscriptions/%24all/hook", JSON_BODY,
                "{\"selector\":{\"kind\":\"all\"},\"target\":\"webhook\",\"url\":\"http://127.0.0.1:9/\"}");
        denied(ann, "$ops", "PUT /v1/subscriptions/shown-1/g", JSON_BODY, "{}");
}

/* Whoever may write to the stream can make it link to any other. */
TEST(subscription, a_webhook_that_follows_links_needs_the_right_to_read_everything)
{
        char ops[96];

        authorization(ops, sizeof ops, "ops", "changeit");
        denied(ops, "'read' to the stream '$all'", "PUT /v1/subscriptions/shown-1/linked", JSON_BODY,
                "{\"target\":\"webhook\",\"url\":\"http://127.0.0.1:9/"
                "\",\"settings\":{\"resolve_links\":true}}");
        ok(ops, 201, "PUT /v1/subscriptions/shown-1/linked", JSON_BODY,
                "{\"target\":\"webhook\",\"url\":\"http://127.0.0.1:9/\"}");
        denied(ops, "'read' to the stream '$all'", "PUT /v1/subscriptions/shown-1/linked?replace=true",
                JSON_BODY, "{\"settings\":{\"resolve_links\":true}}");
        ok(admin, 200, "PUT /v1/subscriptions/shown-1/linked?replace=true", JSON_BODY,
                "{\"settings\":{\"resolve_links\":true}}");
        ok(admin, 201, "PUT /v1/subscriptions/secret-1/hooked", JSON_BODY,
                "{\"target\":\"webhook\",\"url\":\"http://127.0.0.1:9/\"}");
        denied(ops, "'read' to the stream 'secret-1'", "PUT /v1/subscriptions/secret-1/hooked?replace=true",
                JSON_BODY, "{}");
        ok(admin, 200, "DELETE /v1/subscriptions/shown-1/linked", "", NULL);
        ok(admin, 200, "DELETE /v1/subscriptions/secret-1/hooked", "", NULL);
}

TEST(subscription, is_shown_to_who_may_read_its_stream_and_to_ops)
{
        char ops[96];
        struct reply r;

        authorization(ops, sizeof ops, "ops", "changeit");
        ok(admin, 201, "PUT /v1/subscriptions/secret-1/watch", JSON_BODY, "{}");
        ok(admin, 201, "PUT /v1/subscriptions/shown-1/watch", JSON_BODY, "{}");
        denied(ann, "read", "GET /v1/subscriptions/secret-1/watch", "", NULL);
        ok(bob, 200, "GET /v1/subscriptions/secret-1/watch", "", NULL);
        ok(ops, 200, "GET /v1/subscriptions/secret-1/watch", "", NULL);
        for (unsigned i = 0; i < 2; i++) {
                raw(ann, "GET /v1/subscriptions", i ? AS_LINES : "", &r);
                assert_null(strstr(body_of(&r), "\"secret-1\""));
                assert_non_null(strstr(body_of(&r), "\"shown-1\""));
                reply_free(&r);
                raw(ops, "GET /v1/subscriptions", i ? AS_LINES : "", &r);
                assert_non_null(strstr(body_of(&r), "\"secret-1\""));
                reply_free(&r);
        }
        raw(ann, "GET /v1/subscriptions?limit=1", "", &r); /* links-2 comes first, secret-1 lies between */
        assert_null(strstr(body_of(&r), "secret-1"));
        assert_non_null(strstr(body_of(&r), "\"at_end\":false"));
        reply_free(&r);
}

/* ---- everything ---- */

/* Follows `next` and gives the number of events; none may be of a guarded stream. */
static unsigned walk_all(const char *who, const char *first, unsigned *ret_pages)
{
        char at[512];
        unsigned count = 0;

        snprintf(at, sizeof at, "%s", first);
        for (*ret_pages = 0; *ret_pages < 500; ++*ret_pages) {
                char line[600];
                json_t *page, *events;

                snprintf(line, sizeof line, "GET %s", at);
                page = as(who, 200, line, "", NULL);
                events = json_object_get(page, "events");
                for (size_t i = 0; i < json_array_size(events); i++) {
                        const char *stream = text(json_array_get(events, i), "stream");

                        assert_false(stream_is_guarded(bytes_of_string(stream)));
                        count++;
                }
                if (json_is_true(json_object_get(page, "at_end"))) {
                        json_decref(page);
                        return count;
                }
                snprintf(at, sizeof at, "%s", text(page, "next"));
                json_decref(page);
        }
        fail_msg("%s: the pages have no end", first);
        return 0;
}

TEST(all, is_for_who_may_read_everything_and_hides_the_secrets)
{
        struct reply r;
        unsigned forward, pages;
        char line[100];

        let_ann_read_everything(true);
        denied(bob, "'read' to the stream '$all'", "GET /v1/all/events", "", NULL);
        denied(bob, "$all", "GET /v1/all/events/1", "", NULL);
        denied(bob, "$all", "GET /v1/categories", "", NULL);
        denied(bob, "$all", "GET /v1/types", "", NULL);
        forward = walk_all(ann, "/v1/all/events?limit=1000", &pages);
        assert_true(forward > 5);
        assert_int_equal(walk_all(ann, "/v1/all/events?limit=2", &pages), forward);
        assert_true(pages >= forward / 2);
        assert_int_equal(walk_all(ann, "/v1/all/events?limit=1", &pages), forward);
        assert_int_equal(walk_all(ann, "/v1/all/events?direction=backward&limit=2", &pages), forward);
        assert_int_equal(walk_all(ann, "/v1/all/events?direction=backward&limit=1", &pages), forward);
        assert_int_equal(walk_all(ann, "/v1/all/events?stream-prefix=%24user-&limit=2", &pages), 0);
        raw(ann, "GET /v1/all/events", AS_LINES, &r);
        assert_null(strstr(body_of(&r), "$user-"));
        assert_null(strstr(body_of(&r), "argon"));
        reply_free(&r);
        snprintf(line, sizeof line, "GET /v1/all/events?limit=%u", forward);
        raw(ann, line, AS_EVENTS, &r);
        assert_null(strstr(body_of(&r), "$user-"));
        assert_non_null(strstr(body_of(&r), "\"secret-1\""));
        reply_free(&r);
        raw(admin, "GET /v1/all/events", AS_LINES, &r);
        assert_non_null(strstr(body_of(&r), "$user-"));
        reply_free(&r);
}

TEST(all, what_stands_at_a_position_of_a_secret_is_not_there)
{
        json_t *json = as(admin, 200, "GET /v1/streams/%24user-ann/events", "", NULL);
        char line[100];

        let_ann_read_everything(true);
        snprintf(line, sizeof line, "GET /v1/all/events/%lld",
                (long long)number(json_array_get(json_object_get(json, "events"), 0), "position"));
        json_decref(json);
        ok(admin, 200, line, "", NULL);
        ok(ann, 404, line, "", NULL);
}

TEST(all, a_wait_is_not_ended_by_what_is_hidden)
{
        char headers[128], other[96];
        int fd = client_connect(server);
        struct reply r;

        let_ann_read_everything(true);
        snprintf(headers, sizeof headers, "%s", ann);
        client_request(fd, "GET /v1/all/events?from=end&wait-ms=400", headers, BYTES_EMPTY, true);
        usleep(50 * 1000);
        add_user("carl", "", other, sizeof other);
        client_receive(fd, &r);
        close(fd);
        assert_int_equal(r.status, 200);
        assert_null(strstr(body_of(&r), "carl"));
        reply_free(&r);
}

TEST(all, a_wait_does_not_outlive_the_right)
{
        int fd;
        struct reply r;

        let_ann_read_everything(true);
        fd = client_connect(server);
        client_request(fd, "GET /v1/all/events?from=end&wait-ms=5000", ann, BYTES_EMPTY, true);
        usleep(50 * 1000);
        let_ann_read_everything(false);
        write_event(bob, "shown-1", EVENT);
        client_receive(fd, &r);
        close(fd);
        assert_int_equal(r.status, 403);
        reply_free(&r);
}

/* ---- lists ---- */

static bool lists(const char *who, const char *line, const char *headers, const char *name)
{
        char quoted[100];
        struct reply r;
        bool is_there;

        raw(who, line, headers, &r);
        assert_int_equal(r.status, 200);
        snprintf(quoted, sizeof quoted, "\"name\":\"%s\"", name);
        is_there = strstr(body_of(&r), quoted) != NULL;
        reply_free(&r);
        return is_there;
}

TEST(list, shows_the_streams_that_one_may_read)
{
        let_ann_read_everything(false);
        for (unsigned i = 0; i < 2; i++) {
                const char *form = i ? AS_LINES : "";

                assert_true(lists(bob, "GET /v1/streams?limit=1000", form, "secret-1"));
                assert_true(lists(bob, "GET /v1/streams?limit=1000", form, "shown-1"));
                assert_false(lists(ann, "GET /v1/streams?limit=1000", form, "secret-1"));
                assert_true(lists(ann, "GET /v1/streams?limit=1000", form, "shown-1"));
                assert_false(lists(ann, "GET /v1/streams?prefix=secret", form, "secret-1"));
                assert_false(lists(ann, "GET /v1/streams?system=true&limit=1000", form, "$user-admin"));
                assert_false(lists(ann, "GET /v1/streams?system=true&limit=1000", form, "$settings"));
                assert_true(lists(admin, "GET /v1/streams?system=true&limit=1000", form, "$user-admin"));
        }
        let_ann_read_everything(true);
        assert_true(lists(ann, "GET /v1/streams?limit=1000", "", "secret-1"));
        assert_false(lists(ann, "GET /v1/streams?system=true&limit=1000", "", "$user-admin"));
}

/* Far more names that may not be seen than one look bears. */
TEST(list, goes_on_past_many_hidden_names_and_shows_none_of_them)
{
        enum { HIDDEN = 5000, OF_APPEND = 500 };
        json_t *page;
        struct reply r;

        let_ann_read_everything(false);
        ok(admin, 201, "POST /v1/streams/%24settings/events", JSON_BODY,
                "{\"type\":\"update\",\"data\":{\"$userStreamAcl\":{\"$r\":\"bob\",\"$w\":\"$all\","
                "\"$d\":\"$all\",\"$mr\":\"$all\",\"$mw\":\"$all\"},"
                "\"$systemStreamAcl\":{\"$r\":\"$admins\",\"$w\":\"$admins\",\"$d\":\"$admins\","
                "\"$mr\":\"$admins\",\"$mw\":\"$admins\"}}}");
        for (unsigned i = 0; i < HIDDEN; i += OF_APPEND) {
                struct buffer body = {0};

                for (unsigned k = 0; k < OF_APPEND; k++)
                        buffer_format(&body, "{\"stream\":\"hidden-%05u\",\"type\":\"T\"}\n", i + k);
                buffer_add_u8(&body, 0);
                ok(bob, 201, "POST /v1/append", "Content-Type: application/x-ndjson\r\n", (char *)body.data);
                buffer_fini(&body);
        }
        ok(admin, 200, "PUT /v1/streams/hidden-99999/metadata", JSON_BODY, "{\"$acl\":{\"$r\":\"$all\"}}");
        write_event(ann, "hidden-99999", EVENT);
        page = as(ann, 200, "GET /v1/streams?prefix=hidden-&limit=1", "", NULL);
        assert_int_equal(json_array_size(json_object_get(page, "streams")), 1);
        assert_string_equal(
                text(json_array_get(json_object_get(page, "streams"), 0), "name"), "hidden-99999");
        assert_true(json_is_true(json_object_get(page, "at_end")));
        json_decref(page);
        raw(ann, "GET /v1/streams?prefix=hidden-", AS_LINES, &r);
        assert_string_equal(body_of(&r), "{\"name\":\"hidden-99999\",\"events\":1}\n");
        reply_free(&r);
        page = as(ann, 503, "GET /v1/streams?prefix=hidden-0&timeout-ms=1", "", NULL);
        assert_string_equal(text(page, "type"), "urn:nilo:too-many-hidden");
        assert_null(strstr(text(page, "detail"), "hidden-0"));
        json_decref(page);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(stream, nothing_of_it_is_told_to_who_may_not_read_it),
                TEST_ROW(stream, answers_are_kept_by_the_asker_alone),
                TEST_ROW(append, to_several_streams_needs_each_right_and_is_all_or_nothing),
                TEST_ROW(append, a_conflict_tells_the_newest_event_only_to_who_may_read_it),
                TEST_ROW(link, its_target_is_shown_only_to_who_may_read_that),
                TEST_ROW(link, a_consumer_is_given_the_link_alone),
                TEST_ROW(subscription, a_webhook_needs_the_right_to_read),
                TEST_ROW(subscription, a_webhook_that_follows_links_needs_the_right_to_read_everything),
                TEST_ROW(subscription, is_shown_to_who_may_read_its_stream_and_to_ops),
                TEST_ROW(all, is_for_who_may_read_everything_and_hides_the_secrets),
                TEST_ROW(all, what_stands_at_a_position_of_a_secret_is_not_there),
                TEST_ROW(all, a_wait_is_not_ended_by_what_is_hidden),
                TEST_ROW(all, a_wait_does_not_outlive_the_right),
                TEST_ROW(list, shows_the_streams_that_one_may_read),
                TEST_ROW(list, goes_on_past_many_hidden_names_and_shows_none_of_them),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
