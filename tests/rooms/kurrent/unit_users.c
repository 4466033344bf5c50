/* Users, and the rights of those who append records: over a real connection, with users as they are. */
#include "base/base64.h"
#include "kurrent/users.pb-c.h"
#include "record_messages.h"

#define USERS            "/event_store.client.users.Users/"
#define USERS_MESSAGE(n) message_of(&event_store__client__users__##n##__descriptor)

typedef EventStore__Client__Users__DetailsResp details_answer;

/* ---- calls ---- */

static const char *basic(const char *login, const char *password)
{
        struct buffer text = {0}, header = {0};
        const char *result;

        buffer_format(&text, "%s:%s", login, password);
        buffer_add_string(&header, "Basic ");
        base64_encode(&header, buffer_bytes(&text));
        result = arena_string(&memory, buffer_bytes(&header));
        buffer_fini(&text);
        buffer_fini(&header);
        return result;
}

/* Runs a call of Users; `who` is a header, "" for nobody. */
static int run(struct rpc *r, struct client *c, const char *who, const char *method, const void *message)
{
        char path[64];

        snprintf(path, sizeof path, USERS "%s", method);
        rpc_open_with(r, c, path, *who ? "authorization" : "", who);
        send_message(r, message);
        rpc_half_close(r);
        rpc_wait_end(r);
        return r->status;
}

/* The same, and nothing but its status counts. */
static int status_of(struct client *c, const char *who, const char *method, const void *message)
{
        struct rpc r;
        int status = run(&r, c, who, method, message);

        rpc_close(&r);
        return status;
}

static EventStore__Client__Users__CreateReq *create_of(
        const char *login, const char *password, const char *group)
{
        EventStore__Client__Users__CreateReq *m = USERS_MESSAGE(create_req);

        m->options = USERS_MESSAGE(create_req__options);
        m->options->login_name = binary(login);
        m->options->password = binary(password);
        m->options->full_name = binary("Somebody \u00e9");
        if (group)
                ADD(m->options->groups, m->options->n_groups, binary(group));
        return m;
}

/* Delete, Enable, Disable and Details have the same bytes. */
static void *login_of(const char *login)
{
        EventStore__Client__Users__DeleteReq *m = USERS_MESSAGE(delete_req);

        m->options = USERS_MESSAGE(delete_req__options);
        m->options->login_name = binary(login);
        return m;
}

static void *reset_of(const char *login, const char *password)
{
        EventStore__Client__Users__ResetPasswordReq *m = USERS_MESSAGE(reset_password_req);

        m->options = USERS_MESSAGE(reset_password_req__options);
        m->options->login_name = binary(login);
        m->options->new_password = binary(password);
        return m;
}

static void *change_of(const char *login, const char *current, const char *password)
{
        EventStore__Client__Users__ChangePasswordReq *m = USERS_MESSAGE(change_password_req);

        m->options = USERS_MESSAGE(change_password_req__options);
        m->options->login_name = binary(login);
        m->options->current_password = binary(current);
        m->options->new_password = binary(password);
        return m;
}

static details_answer *details(struct rpc *r, unsigned n)
{
        return unpack(&event_store__client__users__details_resp__descriptor, r->answers[n]);
}

static void open_with_users(struct world *w, struct client *c)
{
        w->has_users = true;
        world_open(w);
        client_open(c, w->port);
}

/* ---- users ---- */

TEST(users, are_made_seen_changed_and_removed)
{
        struct world w = {0};
        struct client c;
        EventStore__Client__Users__UpdateReq *update = USERS_MESSAGE(update_req);
        const char *admin = basic("admin", "changeit");
        details_answer *m;
        struct rpc r;

        open_with_users(&w, &c);
        assert_int_equal(status_of(&c, admin, "Create", create_of("anna", "secret-of-anna", "team")), 0);
        assert_int_equal(run(&r, &c, admin, "Details", login_of("anna")), 0);
        assert_int_equal(r.count, 1);
        m = details(&r, 0);
        assert_string_equal(text_of(m->user_details->login_name), "anna");
        assert_string_equal(text_of(m->user_details->full_name), "Somebody \u00e9");
        assert_int_equal(m->user_details->n_groups, 1);
        assert_string_equal(text_of(m->user_details->groups[0]), "team");
        assert_false(m->user_details->disabled);
        assert_true(m->user_details->last_updated->ticks_since_epoch > 16000000000000000);
        rpc_close(&r);
        /* It can do what it may, and nothing else. */
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("anna")), 0);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("admin")),
                GRPC_PERMISSION_DENIED);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("")),
                GRPC_PERMISSION_DENIED);
        update->options = USERS_MESSAGE(update_req__options);
        update->options->login_name = binary("anna");
        update->options->full_name = binary("Anna");
        update->options->password = binary("it-is-not-changed-by-this");
        assert_int_equal(status_of(&c, admin, "Update", update), 0);
        assert_int_equal(run(&r, &c, basic("anna", "secret-of-anna"), "Details", login_of("anna")), 0);
        assert_string_equal(text_of(details(&r, 0)->user_details->full_name), "Anna");
        assert_int_equal(details(&r, 0)->user_details->n_groups, 0);
        rpc_close(&r);
        assert_int_equal(status_of(&c, admin, "Disable", login_of("anna")), 0);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("anna")),
                GRPC_UNAUTHENTICATED);
        assert_int_equal(run(&r, &c, admin, "Details", login_of("anna")), 0);
        assert_true(details(&r, 0)->user_details->disabled);
        rpc_close(&r);
        assert_int_equal(status_of(&c, admin, "Enable", login_of("anna")), 0);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("anna")), 0);
        assert_int_equal(run(&r, &c, admin, "Details", login_of("")), 0);
        assert_int_equal(r.count, 3); /* admin, anna, ops */
        assert_string_equal(text_of(details(&r, 1)->user_details->login_name), "anna");
        rpc_close(&r);
        assert_int_equal(status_of(&c, admin, "Delete", login_of("anna")), 0);
        assert_int_equal(run(&r, &c, admin, "Details", login_of("anna")), GRPC_NOT_FOUND);
        assert_string_equal(rpc_trailer(&r, "exception"), "user-not-found");
        assert_string_equal(rpc_trailer(&r, "login-name"), "anna");
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(users, passwords_are_changed_by_those_who_know_them_or_administer)
{
        struct world w = {0};
        struct client c;
        const char *admin = basic("admin", "changeit");
        struct rpc r;

        open_with_users(&w, &c);
        assert_int_equal(status_of(&c, admin, "Create", create_of("anna", "secret-of-anna", NULL)), 0);
        assert_int_equal(run(&r, &c, basic("anna", "secret-of-anna"), "ChangePassword",
                                 change_of("anna", "not-her-secret", "another-secret")),
                GRPC_PERMISSION_DENIED);
        assert_string_equal(rpc_trailer(&r, "exception"), "access-denied");
        assert_null(strstr(r.message, "secret"));
        rpc_close(&r);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "ChangePassword",
                                 change_of("admin", "changeit", "another-secret")),
                GRPC_PERMISSION_DENIED);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "ChangePassword",
                                 change_of("anna", "secret-of-anna", "another-secret")),
                0);
        assert_int_equal(status_of(&c, basic("anna", "secret-of-anna"), "Details", login_of("anna")),
                GRPC_UNAUTHENTICATED);
        assert_int_equal(status_of(&c, basic("anna", "another-secret"), "Details", login_of("anna")), 0);
        assert_int_equal(status_of(&c, basic("anna", "another-secret"), "ResetPassword",
                                 reset_of("anna", "a-third-one")),
                GRPC_PERMISSION_DENIED);
        assert_int_equal(status_of(&c, admin, "ResetPassword", reset_of("anna", "a-third-one")), 0);
        assert_int_equal(status_of(&c, basic("anna", "a-third-one"), "Details", login_of("anna")), 0);
        client_close(&c);
        world_close(&w);
}

TEST(users, what_is_wrong_is_said_with_the_trailers_that_clients_look_for)
{
        struct world w = {0};
        struct client c;
        const char *admin = basic("admin", "changeit");
        struct rpc r;

        open_with_users(&w, &c);
        assert_int_equal(run(&r, &c, admin, "Create", create_of("ops", "long-enough", NULL)),
                GRPC_FAILED_PRECONDITION);
        assert_string_equal(rpc_trailer(&r, "exception"), "user-conflict");
        assert_string_equal(rpc_trailer(&r, "login-name"), "ops");
        rpc_close(&r);
        assert_int_equal(
                run(&r, &c, admin, "ResetPassword", reset_of("nobody", "long-enough")), GRPC_NOT_FOUND);
        assert_string_equal(rpc_trailer(&r, "exception"), "user-not-found");
        rpc_close(&r);
        assert_int_equal(
                status_of(&c, admin, "Create", create_of("short", "x", NULL)), GRPC_INVALID_ARGUMENT);
        assert_int_equal(
                status_of(&c, admin, "Create", create_of("", "long-enough", NULL)), GRPC_INVALID_ARGUMENT);
        assert_int_equal(
                status_of(&c, admin, "Create", create_of("a:b", "long-enough", NULL)), GRPC_INVALID_ARGUMENT);
        assert_int_equal(status_of(&c, admin, "Create", USERS_MESSAGE(create_req)), GRPC_INVALID_ARGUMENT);
        assert_int_equal(status_of(&c, admin, "Disable", login_of("admin")),
                GRPC_FAILED_PRECONDITION); /* the last one */
        rpc_open_with(&r, &c, USERS "Create", "authorization", admin);
        rpc_send(&r, BYTES_LITERAL("\x0a\x7f"));
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_INVALID_ARGUMENT);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(users, are_none_of_a_server_that_asks_nobody)
{
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        assert_int_equal(status_of(&c, "", "Create", create_of("anna", "long-enough", NULL)),
                GRPC_FAILED_PRECONDITION);
        assert_int_equal(status_of(&c, "", "Details", login_of("")), GRPC_FAILED_PRECONDITION);
        client_close(&c);
        world_close(&w);
}

/* ---- rights of records ---- */

static int append_records_as(
        struct client *c, const char *who, const char *stream, const char *checked, struct rpc *r)
{
        static uint64_t id = 1;
        records_request *m = RECORD_MESSAGE(append_records_request);

        if (stream)
                add_record(m, record_of(stream, id++));
        add_record(m, record_of("open", id++));
        if (checked)
                add_check(m, checked, -1);
        rpc_open_with(r, c, RECORDS "AppendRecords", *who ? "authorization" : "", who);
        send_message(r, m);
        rpc_half_close(r);
        rpc_wait_end(r);
        return r->status;
}

/* Streams that are written need the right to write, those that are only checked the right to read; one that
 * is missing refuses all. */
TEST(rights, are_asked_for_every_stream_that_records_name)
{
        struct world w = {0};
        struct client c;
        const char *admin = basic("admin", "changeit");
        const char *anna = basic("anna", "secret-of-anna");
        struct rpc r;

        open_with_users(&w, &c);
        assert_int_equal(status_of(&c, admin, "Create", create_of("anna", "secret-of-anna", NULL)), 0);
        assert_int_equal(append_records_as(&c, "", "s", NULL, &r), GRPC_UNAUTHENTICATED);
        rpc_close(&r);
        assert_int_equal(append_records_as(&c, anna, "s", "t", &r), 0);
        rpc_close(&r);
        assert_int_equal(append_records_as(&c, anna, "$system", NULL, &r), GRPC_PERMISSION_DENIED);
        assert_string_equal(rpc_trailer(&r, "exception"), "access-denied");
        rpc_close(&r);
        assert_int_equal(append_records_as(&c, anna, NULL, "$system", &r), GRPC_PERMISSION_DENIED);
        rpc_close(&r);
        assert_int_equal(append_records_as(&c, admin, "$system", NULL, &r), 0);
        rpc_close(&r);
        rpc_open_with(&r, &c, RECORDS "AppendSession", "authorization", anna);
        send_message(&r, with_records(session_of("s", -2), 100, 1));
        send_message(&r, with_records(session_of("$$system", -2), 101, 1));
        send_message(&r, with_records(session_of("$other", -2), 102, 1));
        rpc_half_close(&r);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_PERMISSION_DENIED);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* Who is let in no more loses what is open at once: numbers that go on, and a session that has not ended, of
 * which nothing is written. */
TEST(rights, that_are_taken_away_end_what_goes_on)
{
        struct world w = {0};
        struct client c;
        const char *admin = basic("admin", "changeit");
        const char *anna = basic("anna", "secret-of-anna");
        struct rpc *stats = MEMORY_NEW(struct rpc);
        struct rpc *session = MEMORY_NEW(struct rpc);
        uint64_t began;
        struct rpc r;

        open_with_users(&w, &c);
        assert_int_equal(status_of(&c, admin, "Create", create_of("anna", "secret-of-anna", NULL)), 0);
        rpc_open_with(stats, &c, "/event_store.client.monitoring.Monitoring/Stats", "authorization", anna);
        rpc_send(stats, BYTES_EMPTY);
        rpc_half_close(stats);
        rpc_open_with(session, &c, RECORDS "AppendSession", "authorization", anna);
        send_message(session, with_records(session_of("s", -2), 1, 3));
        rpc_wait(stats, 1);
        assert_int_equal(stats->count, 1);
        began = client_now_ms();
        assert_int_equal(status_of(&c, admin, "Disable", login_of("anna")), 0);
        rpc_wait_end(stats);
        rpc_wait_end(session);
        assert_true(client_now_ms() - began < 1000);
        assert_int_equal(stats->status, GRPC_UNAUTHENTICATED);
        assert_int_equal(session->status, GRPC_UNAUTHENTICATED);
        /* Its stream is as it was; and the timer of the numbers is no more. */
        assert_int_equal(append_records_as(&c, admin, NULL, "s", &r), 0);
        rpc_close(&r);
        while (client_now_ms() - began < 700)
                client_step(&c, 50);
        rpc_close(stats);
        rpc_close(session);
        free(stats);
        free(session);
        client_close(&c);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(users, are_made_seen_changed_and_removed),
                ROW(users, passwords_are_changed_by_those_who_know_them_or_administer),
                ROW(users, what_is_wrong_is_said_with_the_trailers_that_clients_look_for),
                ROW(users, are_none_of_a_server_that_asks_nobody),
                ROW(rights, are_asked_for_every_stream_that_records_name),
                ROW(rights, that_are_taken_away_end_what_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
