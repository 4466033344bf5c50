/* Users, tokens and who asks over HTTP, in our names and in KurrentDB's. */
#include "support.h"

#define ADMIN "Authorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n"     /* admin:changeit */
#define OPS   "Authorization: Basic b3BzOmNoYW5nZWl0\r\n"         /* ops:changeit */
#define ANN   "Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n" /* ann:correct horse */
#define ANN_2 "Authorization: Basic YW5uOmJhdHRlcnkgc3RhcGxl\r\n" /* ann:battery staple */
#define MAKE_ANN                                                                                             \
        "{\"login\":\"ann\",\"fullName\":\"Ann\",\"groups\":[\"readers\"],\"password\":\"correct horse\"}"

static struct server *start(void)
{
        struct server_options options = {.has_users = true};

        return server_start(&options);
}

static void done(struct server *s, int status, const char *line, const char *headers, const char *body)
{
        json_decref(call(s, status, line, headers, body));
}

TEST(users, each_route_does_what_it_says)
{
        struct server *s = start();
        json_t *json, *users;

        json = call(s, 201, "POST /v1/users", ADMIN JSON_BODY, MAKE_ANN);
        assert_string_equal(text(json, "login"), "ann");
        json_decref(json);
        json = call(s, 200, "GET /v1/users/ann", ADMIN, NULL);
        assert_string_equal(text(json, "fullName"), "Ann");
        assert_true(json_is_false(json_object_get(json, "disabled")));
        assert_string_equal(json_string_value(json_array_get(json_object_get(json, "groups"), 0)), "readers");
        assert_null(json_object_get(json, "hash"));
        assert_int_equal(json_object_size(json), 5);
        json_decref(json);
        done(s, 200, "PUT /v1/users/ann", ADMIN JSON_BODY, "{\"fullName\":\"Anne\",\"groups\":[]}");
        json = call(s, 200, "GET /v1/whoami", ANN, NULL);
        assert_string_equal(text(json, "login"), "ann");
        assert_int_equal(json_array_size(json_object_get(json, "groups")), 0);
        json_decref(json);
        done(s, 200, "POST /v1/users/ann/disable", ADMIN, NULL);
        refuse(s, 401, "unauthenticated", "", "GET /v1/whoami", ANN, NULL);
        done(s, 200, "POST /v1/users/ann/enable", ADMIN, NULL);
        done(s, 200, "GET /v1/whoami", ANN, NULL);
        done(s, 200, "POST /v1/users/ann/password", ADMIN JSON_BODY, "{\"password\":\"battery staple\"}");
        done(s, 200, "GET /v1/whoami", ANN_2, NULL);
        json = call(s, 200, "GET /v1/users?limit=2", ADMIN, NULL);
        users = json_object_get(json, "users");
        assert_int_equal(json_array_size(users), 2);
        assert_string_equal(text(json_array_get(users, 0), "login"), "admin");
        assert_string_equal(text(json_array_get(users, 1), "login"), "ann");
        assert_string_equal(text(json, "after"), "ann");
        json_decref(json);
        json = call(s, 200, "GET /v1/users?limit=2&after=ann", ADMIN, NULL);
        assert_int_equal(json_array_size(json_object_get(json, "users")), 1);
        assert_true(json_is_true(json_object_get(json, "at_end")));
        json_decref(json);
        done(s, 200, "DELETE /v1/users/ann", ADMIN, NULL);
        refuse(s, 404, "user-not-found", "", "GET /v1/users/ann", ADMIN, NULL);
        server_stop(s);
}

TEST(users, refusals_say_why_and_repeat_no_secret)
{
        struct server *s = start();
        struct reply r;

        done(s, 201, "POST /v1/users", ADMIN JSON_BODY, MAKE_ANN);
        refuse(s, 409, "user-exists", "", "POST /v1/users", ADMIN JSON_BODY, MAKE_ANN);
        refuse(s, 409, "last-admin", "", "DELETE /v1/users/admin", ADMIN, NULL);
        refuse(s, 404, "user-not-found", "", "DELETE /v1/users/bob", ADMIN, NULL);
        refuse(s, 400, "invalid", "8 bytes", "POST /v1/users/ann/password", ADMIN JSON_BODY,
                "{\"password\":\"short\"}");
        refuse(s, 400, "invalid", "login", "POST /v1/users", ADMIN JSON_BODY,
                "{\"password\":\"correct horse\"}");
        refuse(s, 400, "invalid", "JSON", "POST /v1/users", ADMIN JSON_BODY, "[]");
        refuse(s, 400, "invalid", "wrong type", "POST /v1/users", ADMIN JSON_BODY, "{\"login\":7}");
        refuse(s, 400, "invalid", "wrong type", "PUT /v1/users/ann", ADMIN JSON_BODY, "{\"groups\":[7]}");
        refuse(s, 400, "invalid", "wrong type", "PUT /v1/users/ann", ADMIN JSON_BODY,
                "{\"fullName\":\"Ann\"}");
        refuse(s, 400, "invalid", "parameter", "GET /v1/users?limit=0", ADMIN, NULL);
        refuse(s, 400, "invalid", "parameter", "GET /v1/users?color=red", ADMIN, NULL);
        call_bytes(s, "POST /v1/users", ADMIN JSON_BODY,
                BYTES_LITERAL("{\"login\":\"canary\",\"canary\":\"canary\",\"password\":\"canary\"}"), &r);
        assert_int_equal(r.status, 400);
        assert_null(strstr(body_of(&r), "canary"));
        reply_free(&r);
        server_stop(s);
}

TEST(users, only_who_may_is_served)
{
        static const char *const for_admins[][2] = {{"GET /v1/users", NULL}, {"POST /v1/users", MAKE_ANN},
                {"PUT /v1/users/ann", "{\"groups\":[\"$admins\"]}"}, {"DELETE /v1/users/admin", NULL},
                {"POST /v1/users/ann/enable", NULL}, {"POST /v1/users/admin/disable", NULL},
                {"GET /v1/users/admin", NULL},
                {"POST /v1/users/admin/password", "{\"password\":\"battery staple\"}"}, {"GET /users", NULL},
                {"POST /users", "{}"}, {"GET /users/admin", NULL},
                {"PUT /users/ann", "{\"groups\":[\"$admins\"]}"}, {"DELETE /users/admin", NULL},
                {"POST /users/admin/command/disable", NULL}, {"POST /users/ann/command/enable", NULL},
                {"POST /users/ann/command/reset-password", "{\"newPassword\":\"battery staple\"}"},
                {"POST /users/admin/command/change-password", "{\"newPassword\":\"battery staple\"}"}};
        struct server *s = start();

        done(s, 201, "POST /v1/users", ADMIN JSON_BODY, MAKE_ANN);
        for (unsigned i = 0; i < COUNT_OF(for_admins); i++) {
                refuse(s, 403, "access-denied", "", for_admins[i][0], ANN JSON_BODY, for_admins[i][1]);
                refuse(s, 403, "access-denied", "", for_admins[i][0], OPS JSON_BODY, for_admins[i][1]);
                refuse(s, 401, "unauthenticated", "", for_admins[i][0], JSON_BODY, for_admins[i][1]);
        }
        refuse(s, 401, "unauthenticated", "", "GET /v1/whoami", "", NULL);
        refuse(s, 401, "unauthenticated", "", "POST /v1/token", "", NULL);
        /* Of himself everybody knows, and his own password he changes when he knows it. */
        done(s, 200, "GET /v1/users/ann", ANN, NULL);
        refuse(s, 400, "invalid", "current", "POST /v1/users/ann/password", ANN JSON_BODY,
                "{\"password\":\"battery staple\"}");
        refuse(s, 403, "wrong-password", "", "POST /v1/users/ann/password", ANN JSON_BODY,
                "{\"password\":\"battery staple\",\"current\":\"wrong\"}");
        done(s, 200, "POST /v1/users/ann/password", ANN JSON_BODY,
                "{\"password\":\"battery staple\",\"current\":\"correct horse\"}");
        done(s, 200, "GET /v1/whoami", ANN_2, NULL);
        server_stop(s);
}

TEST(users, a_token_stands_for_its_user)
{
        struct server *s = start();
        char header[2048];
        json_t *json;
        struct reply r;

        json = call(s, 200, "POST /v1/token", ADMIN JSON_BODY, "{\"seconds\":60}");
        snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", text(json, "token"));
        assert_int_equal(strlen(text(json, "expiresAt")), strlen("2026-11-24T10:00:00.123456Z"));
        json_decref(json);
        json = call(s, 200, "GET /v1/whoami", header, NULL);
        assert_string_equal(text(json, "login"), "admin");
        json_decref(json);
        done(s, 200, "GET /v1/users", header, NULL);
        call_bytes(s, "POST /v1/token", ADMIN, BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        assert_non_null(strcasestr((char *)r.head.data, "cache-control: no-store"));
        reply_free(&r);
        for (unsigned i = 0; i < 4; i++) {
                static const char *const wrong[] = {
                        "{\"seconds\":0}", "{\"seconds\":86401}", "{\"seconds\":\"60\"}", "{\"minutes\":1}"};

                refuse(s, 400, "invalid", "", "POST /v1/token", ADMIN JSON_BODY, wrong[i]);
        }
        done(s, 200, "POST /v1/users/admin/password", ADMIN JSON_BODY, "{\"password\":\"battery staple\"}");
        refuse(s, 401, "unauthenticated", "", "GET /v1/whoami", header, NULL);
        server_stop(s);
}

TEST(users, kurrentdb_s_names_work_on_its_paths)
{
        struct server *s = start();
        json_t *json, *data;

        done(s, 201, "POST /users", ADMIN JSON_BODY,
                "{\"loginName\":\"ann\",\"fullName\":\"Ann\",\"groups\":[\"readers\"],\"password\":\"correct "
                "horse\"}");
        json = call(s, 200, "GET /users/$current", ANN, NULL);
        data = json_object_get(json, "data");
        assert_string_equal(text(data, "loginName"), "ann");
        assert_string_equal(text(data, "fullName"), "Ann");
        assert_true(json_is_true(json_object_get(json, "success")));
        json_decref(json);
        json = call(s, 200, "GET /users", ADMIN, NULL);
        assert_int_equal(json_array_size(json_object_get(json, "data")), 3);
        json_decref(json);
        done(s, 200, "POST /users/ann/command/disable", ADMIN, NULL);
        refuse(s, 401, "unauthenticated", "", "GET /users/ann", ANN, NULL);
        done(s, 200, "POST /users/ann/command/enable", ADMIN, NULL);
        done(s, 200, "POST /users/ann/command/change-password", ANN JSON_BODY,
                "{\"currentPassword\":\"correct horse\",\"newPassword\":\"battery staple\"}");
        done(s, 200, "GET /users/ann", ANN_2, NULL);
        done(s, 200, "POST /users/ann/command/reset-password", ADMIN JSON_BODY,
                "{\"newPassword\":\"correct horse\"}");
        done(s, 200, "GET /users/ann", ANN, NULL);
        refuse(s, 404, "not-found", "", "POST /users/ann/command/dance", ADMIN, NULL);
        done(s, 200, "PUT /users/ann", ADMIN JSON_BODY, "{\"fullName\":\"Anne\",\"groups\":[\"$ops\"]}");
        done(s, 200, "DELETE /users/ann", ADMIN, NULL);
        refuse(s, 404, "user-not-found", "", "GET /users/ann", ADMIN, NULL);
        server_stop(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(users, each_route_does_what_it_says),
                TEST_ROW(users, refusals_say_why_and_repeat_no_secret),
                TEST_ROW(users, only_who_may_is_served),
                TEST_ROW(users, a_token_stands_for_its_user),
                TEST_ROW(users, kurrentdb_s_names_work_on_its_paths),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
