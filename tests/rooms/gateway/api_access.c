/* Who asks, and what he may do, over a real store and its users: refusals in all three protocols, requests
 * that go away while it is found out who asks, and rights that end what they had opened (docs/security.md).
 */
#include "support.h"

#include "base/base64.h"

enum {
        REVOKED_MS = 1000, /* as docs/security.md says */
        TICK_MS = 1000,    /* what no event tells is found at a tick */
        TRIES_MAX = 16,    /* of one address at a time */
        TRIES = 10,        /* that leave room for others */
        ROUNDS = 50,
        QUIET_MS = 100, /* hashes under way have ended by then */
};

static struct {
        unsigned opened;
        unsigned changed;
        enum access_verdict verdict;
        unsigned handled;
        unsigned closed; /* streams of HTTP */
        unsigned gone;   /* calls */
        unsigned held;
        struct gateway_request *call;
} seen;

static struct {
        struct server server;
        char directory[64];
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct access *access;
        struct os_timer quiet;
} house;
#define SERVER (&house.server)

/* ---- routes and methods; on the server's thread ---- */

static void answer_name(void *arg, struct gateway_request *r)
{
        const struct principal *p = gateway_principal(r);
        char text[64];
        int n = snprintf(
                text, sizeof text, "%s %zu", p ? principal_login(p) : "nobody", gateway_body(r).size);

        (void)arg;
        count_up(&seen.handled);
        gateway_reply(r, 200, "text/plain", bytes_of(text, (size_t)n), NULL, 0);
}

static void stream_writable(void *arg, struct gateway_request *r)
{
        bool *has_sent = arg;

        if (!*has_sent)
                gateway_stream_send(r, BYTES_LITERAL("data: hello\n\n"));
        *has_sent = true;
}

static void stream_closed(void *arg, struct gateway_request *r)
{
        (void)arg;
        (void)r;
        count_up(&seen.closed);
}

static void answer_stream(void *arg, struct gateway_request *r)
{
        static const struct gateway_stream_handler handler = {stream_writable, stream_closed};
        bool *has_sent = arena_get(gateway_arena(r), sizeof *has_sent);

        (void)arg;
        *has_sent = false;
        gateway_stream_begin(r, 200, "text/event-stream", NULL, 0, &handler, has_sent);
}

static void say(struct gateway_request *call, const char *text)
{
        buffer_add_string(gateway_message_begin(call), text);
        gateway_message_end(call);
}

static void on_who(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        (void)message;
        count_up(&seen.handled);
        say(call, principal_login(gateway_principal(call)));
        gateway_call_end(call, GRPC_OK, NULL);
}

static void on_watch(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        if (!gateway_may(call, ACCESS_READ, message)) {
                gateway_refuse(call, ACCESS_READ, message);
                return;
        }
        gateway_keep_asking(call, ACCESS_READ, message);
        say(call, "hello");
}

/* As BatchAppend: each message is on its way to the store for a while. */
static void on_batch(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        count_up(&seen.handled);
        if (!gateway_may(call, ACCESS_WRITE, message)) {
                say(call, "denied");
                return;
        }
        gateway_call_hold(call);
        seen.call = call;
        count_up(&seen.held);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        (void)arg;
        (void)call;
        count_up(&seen.gone);
}

static void release(void *arg)
{
        struct gateway_request *call = seen.call;

        (void)arg;
        say(call, "written");
        gateway_call_release(call);
}

static const struct gateway_route routes[] = {
        {"GET", "/anyone", "", answer_name, .access = ACCESS_ANYONE, .when_not_ready = true},
        {"GET", "/user", "", answer_name, .access = ACCESS_USER, .when_not_ready = true},
        {"POST", "/user", "", answer_name, .access = ACCESS_USER, .body_size_max = 64 * 1024},
        {"GET", "/ops", "", answer_name, .access = ACCESS_OPS},
        {"GET", "/streams/{stream}", "", answer_stream, .access = ACCESS_STREAM, .right = ACCESS_READ,
                .stream = "stream"},
        {"POST", "/streams/{stream}", "", answer_name, .access = ACCESS_STREAM, .right = ACCESS_WRITE,
                .stream = "stream", .body_size_max = 64 * 1024},
};
static const struct gateway_method methods[] = {
        {.service = "t.T",
                .name = "Who",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_USER,
                .on_message = on_who,
                .on_gone = on_gone},
        {.service = "t.T",
                .name = "Ops",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_OPS,
                .on_message = on_who,
                .on_gone = on_gone},
        {.service = "t.T",
                .name = "Watch",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_STREAM,
                .on_message = on_watch,
                .on_gone = on_gone},
        {.service = "t.T",
                .name = "Batch",
                .features = "",
                .message_size_max = 1000,
                .access = ACCESS_STREAM,
                .is_client_stream = true,
                .on_message = on_batch,
                .on_gone = on_gone},
};

/* ---- the house ---- */

static void on_open(void *arg, int result, const char *problem)
{
        (void)arg;
        if (result)
                fprintf(stderr, "the store does not open: %s\n", problem);
        assert(result == 0);
        count_up(&seen.opened);
}

static void house_open(void)
{
        struct control_options control = {.node_name = "test", .log_fd = -1};
        struct gateway_options gateway = {.address = "127.0.0.1"};
        struct access_options access = {.is_enforced = true};
        struct store_options store = {.name = "default", .on_open = on_open};
        struct notification_options notification = {0};
        const char *why = "";

        memset(&seen, 0, sizeof seen);
        memset(&house, 0, sizeof house);
        snprintf(house.directory, sizeof house.directory, "/tmp/nilo-access-XXXXXX");
        assert_non_null(mkdtemp(house.directory));
        assert_int_equal(os_real_new(&SERVER->os), 0);
        control.os = access.os = gateway.os = store.os = notification.os = SERVER->os;
        assert_int_equal(control_open(&control, &SERVER->control), 0);
        access.control = gateway.control = store.control = notification.control = SERVER->control;
        assert_int_equal(access_open(&access, &house.access), 0);
        gateway.access = house.access;
        assert_int_equal(gateway_open(&gateway, &SERVER->gateway, &why), 0);
        gateway_add_routes(SERVER->gateway, routes, COUNT_OF(routes));
        gateway_add_methods(SERVER->gateway, methods, COUNT_OF(methods));
        SERVER->port = gateway_port(SERVER->gateway);
        assert_int_equal(persistence_node_open(SERVER->os, house.directory, false, &house.node), 0);
        store.node = house.node;
        assert_int_equal(store_open(&store, &house.store), 0);
        notification.store = house.store;
        assert_int_equal(notification_open(&notification, &house.notification), 0);
        server_start(SERVER);
        wait_for(&seen.opened, 1);
}

static void house_serve(void *arg)
{
        int r = access_serve(house.access, house.store, house.notification);

        (void)arg;
        assert(r == 0);
        gateway_serve(SERVER->gateway, house.store, house.notification);
}

static void on_changed(void *arg, enum access_verdict verdict, const char *problem)
{
        (void)arg;
        (void)problem;
        seen.verdict = verdict;
        count_up(&seen.changed);
}

struct wish {
        enum access_change_kind kind;
        const char *login;
        const char *group; /* NULL: none */
        const char *password;
};

static void begin_change(void *arg)
{
        const struct wish *w = arg;
        struct bytes group = bytes_of_string(w->group ? w->group : "");
        struct access_change change = {.kind = w->kind,
                .login = bytes_of_string(w->login),
                .groups = &group,
                .group_count = w->group != NULL,
                .password = bytes_of_string(w->password ? w->password : "")};

        access_change(house.access, &change, on_changed, NULL);
}

static void change(enum access_change_kind kind, const char *login, const char *group, const char *password)
{
        struct wish w = {kind, login, group, password};
        unsigned before = look(&seen.changed);

        server_run(SERVER, begin_change, &w);
        wait_for(&seen.changed, before + 1);
        assert_int_equal(seen.verdict, ACCESS_CHANGED);
}

static void on_appended(void *arg, const struct store_append_result *result)
{
        (void)arg;
        assert(result->verdict == STORE_OK);
        count_up(&seen.changed);
}

static void begin_metadata(void *arg)
{
        struct store_append_stream to = {BYTES_LITERAL("$$orders"), {.kind = EXPECTED_ANY}};
        struct store_append_event event = {.draft = {.type = EVENT_TYPE_METADATA,
                                                   .content_type = CONTENT_JSON,
                                                   .data = bytes_of_string(arg)}};
        struct store_append append = {.streams = &to,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(SERVER->control)};

        os_random(SERVER->os, event.draft.id.bytes, sizeof event.draft.id.bytes);
        event_id_stamp_random(&event.draft.id);
        store_append(house.store, &append, on_appended, NULL);
}

static void set_metadata(const char *json)
{
        unsigned before = look(&seen.changed);

        server_run(SERVER, begin_metadata, (void *)(uintptr_t)json);
        wait_for(&seen.changed, before + 1);
}

/* With ann, who is nobody special, and root. */
static void house_begin(void)
{
        house_open();
        server_run(SERVER, house_serve, NULL);
        change(ACCESS_CREATE, "root", "$admins", "root-secret");
        change(ACCESS_CREATE, "ann", NULL, "ann-secret");
}

static void on_quiet(struct os_timer *timer)
{
        (void)timer;
        os_stop(SERVER->os);
}

static void on_store_closed(void *arg)
{
        (void)arg;
        persistence_node_close(&house.node);
        house.quiet = (struct os_timer){.fn = on_quiet};
        os_timer_start(SERVER->os, &house.quiet, QUIET_MS * 1000);
}

static void on_gateway_closed(void *arg)
{
        (void)arg;
        access_stop(house.access);
        access_close(&house.access);
        notification_free(&house.notification);
        store_close(&house.store, on_store_closed, NULL);
}

static void begin_end(void *arg)
{
        (void)arg;
        notification_stop(house.notification);
        gateway_close(&SERVER->gateway, on_gateway_closed, NULL);
}

static void house_end(void)
{
        char command[96];

        os_post(SERVER->os, begin_end, NULL);
        pthread_join(SERVER->thread, NULL);
        control_close(&SERVER->control);
        os_free(&SERVER->os);
        snprintf(command, sizeof command, "rm -r '%s'", house.directory);
        assert_int_equal(system(command), 0);
}

/* ---- clients ---- */

/* "Basic ...", valid until the eighth call after this one. */
static const char *basic(const char *login, const char *password)
{
        static char texts[8][256];
        static unsigned next;
        char *text = texts[next++ % 8];
        struct buffer plain = {0}, encoded = {0};

        buffer_format(&plain, "%s:%s", login, password);
        base64_encode(&encoded, buffer_bytes(&plain));
        snprintf(text, sizeof texts[0], "Basic %.*s", (int)encoded.size, (const char *)encoded.data);
        buffer_fini(&plain);
        buffer_fini(&encoded);
        return text;
}
#define ANN  basic("ann", "ann-secret")
#define ROOT basic("root", "root-secret")

static void send_request(int fd, const char *line, const char *authorization, const char *more)
{
        struct buffer out = {0};

        buffer_format(&out, "%s HTTP/1.1\r\nhost: localhost\r\n%s%s%s%s\r\n", line,
                authorization ? "authorization: " : "", authorization ? authorization : "",
                authorization ? "\r\n" : "", more ? more : "");
        assert_true(send_bytes(fd, out.data, out.size));
        buffer_fini(&out);
}

static int status_of(const char *line, const char *authorization, struct answer *a)
{
        int fd = dial(SERVER);

        send_request(fd, line, authorization, NULL);
        read_answer(fd, a, false);
        close(fd);
        return a->status;
}

static unsigned count_of(const char *text, const char *what)
{
        unsigned n = 0;

        for (; (text = strstr(text, what)); text++)
                n++;
        return n;
}

/* Logins of nobody, all of them begun; they take some hundred milliseconds together. */
static void fill(int *fds, unsigned count)
{
        static unsigned round;
        uint64_t asked = server_stats(SERVER).http_requests + count;
        uint64_t until = now_ms() + WAIT_MS;

        for (unsigned i = 0; i < count; i++) {
                char login[32];

                snprintf(login, sizeof login, "nobody%u", round++);
                fds[i] = dial(SERVER);
                send_request(fds[i], "GET /user", basic(login, "wrong-secret"), NULL);
        }
        while (server_stats(SERVER).http_requests < asked && now_ms() < until)
                usleep(1000);
        assert_true(server_stats(SERVER).http_requests >= asked);
}

static void hang_up_all(const int *fds, unsigned count)
{
        for (unsigned i = 0; i < count; i++)
                close(fds[i]);
}

static void wait_for_no_connections(void)
{
        uint64_t until = now_ms() + WAIT_MS;

        while (server_stats(SERVER).connections && now_ms() < until)
                usleep(5000);
        assert_int_equal(server_stats(SERVER).connections, 0);
        assert_int_equal(server_stats(SERVER).buffered_bytes, 0);
        assert_int_equal(server_stats(SERVER).grpc_calls_open, 0);
}

static const char *const *authorized(const char *authorization)
{
        static const char *fields[3] = {"authorization"};

        fields[1] = authorization;
        return authorization ? fields : fields + 2;
}

static struct h2_stream *unary_as(
        struct h2_client *c, const char *path, const char *authorization, const char *message)
{
        struct h2_stream *s = grpc_call_with(c, path, authorized(authorization));

        grpc_send(c, s, message, strlen(message));
        grpc_half_close(c, s);
        return s;
}

/* ---- the key of tokens ---- */

static void on_first(void *arg, const char *password)
{
        (void)arg;
        (void)password;
        count_up(&seen.changed);
}

static void make_key(void *arg)
{
        (void)arg;
        access_make_first_users(house.access, false, on_first, NULL);
}

/* ---- refusals ---- */

TEST(access, refusals_over_http_have_their_status_and_next_step)
{
        struct answer a = {0}, b = {0};
        int fds[TRIES_MAX];
        unsigned before;

        house_begin();
        before = look(&seen.changed);
        server_run(SERVER, make_key, NULL);
        wait_for(&seen.changed, before + 1);
        assert_int_equal(status_of("GET /anyone", "Basic nonsense", &a), 200); /* nobody is asked */
        assert_int_equal(status_of("GET /user", NULL, &a), 401);
        assert_string_equal(answer_header(&a, "www-authenticate"), "X-Basic realm=\"ESDB\"");
        assert_string_equal(answer_header(&a, "content-type"), "application/problem+json");
        assert_true(body_has(&a.body, "\"type\":\"urn:nilo:unauthenticated\""));
        assert_int_equal(status_of("GET /user", basic("ann", "wrong-secret"), &a), 401);
        assert_int_equal(status_of("GET /user", basic("nobody", "wrong-secret"), &b), 401);
        assert_memory_equal(a.body.data, b.body.data, a.body.size); /* strangers learn nothing */
        assert_int_equal(status_of("GET /user", "Bearer nonsense", &a), 401);
        assert_int_equal(status_of("GET /user", "Digest x", &a), 401);
        assert_int_equal(status_of("GET /user", ANN, &a), 200);
        assert_int_equal(status_of("GET /ops", ANN, &a), 403);
        assert_true(body_has(&a.body, "urn:nilo:access-denied"));
        assert_null(answer_header(&a, "www-authenticate"));
        assert_int_equal(status_of("GET /streams/$settings", ANN, &a), 403);
        assert_int_equal(status_of("GET /streams/orders", NULL, &a), 401);
        assert_int_equal(status_of("GET /ops", ROOT, &a), 200);

        for (unsigned i = 0; i < 8 && a.status != 429; i++)
                status_of("GET /user", basic("ann", "other-wrong-secret") /* as one who guesses */, &a);
        assert_int_equal(a.status, 429);
        assert_int_equal(count_of(a.head, "retry-after: 1\r\n"), 1);
        assert_int_equal(status_of("GET /user", ANN, &a), 200); /* who is known is not slowed */

        a.status = 0;
        for (unsigned i = 0; i < ROUNDS && a.status != 429; i++) {
                fill(fds, TRIES_MAX);
                status_of("GET /user", basic("one", "too-many"), &a);
                hang_up_all(fds, TRIES_MAX);
        }
        assert_int_equal(a.status, 429);
        assert_true(body_has(&a.body, "too many passwords"));
        answer_fini(&a);
        answer_fini(&b);
        wait_for_no_connections();
        house_end();
}

TEST(access, while_users_cannot_be_read_nobody_is_known)
{
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *s;

        house_open();
        assert_int_equal(status_of("GET /user", NULL, &a), 401);
        assert_int_equal(status_of("GET /user", ANN, &a), 503);
        assert_int_equal(count_of(a.head, "retry-after: "), 1);
        assert_int_equal(status_of("GET /anyone", ANN, &a), 200);
        h2_dial(&c, SERVER, NULL, 0);
        s = unary_as(&c, "/t.T/Who", ANN, "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_UNAVAILABLE);
        h2_hang_up(&c);
        server_run(SERVER, house_serve, NULL);
        answer_fini(&a);
        house_end();
}

TEST(access, refusals_of_calls_have_their_status_and_trailers)
{
        struct h2_client c;
        struct h2_stream *s, *lines = NULL;
        int fds[TRIES_MAX];

        house_begin();
        h2_dial(&c, SERVER, NULL, 0);
        s = unary_as(&c, "/t.T/Who", NULL, "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_UNAUTHENTICATED);
        s = unary_as(&c, "/t.T/Who", basic("ann", "wrong-secret"), "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_UNAUTHENTICATED);
        s = unary_as(&c, "/t.T/Who", ANN, "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_OK);
        s = unary_as(&c, "/t.T/Ops", ANN, "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_PERMISSION_DENIED);
        assert_string_equal(grpc_trailer(s, "exception"), "access-denied");
        s = unary_as(&c, "/t.T/Watch", ANN, "$settings");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_PERMISSION_DENIED);
        s = h2_request(&c, "GET", "/ops", authorized(ANN), false);
        H2_UNTIL(&c, s->is_closed);
        assert_true(h2_head_has(s, ":status: 403"));
        s = h2_request(&c, "GET", "/user", NULL, false);
        H2_UNTIL(&c, s->is_closed);
        assert_true(h2_head_has(s, ":status: 401"));
        assert_true(h2_head_has(s, "www-authenticate: X-Basic realm=\"ESDB\""));
        for (unsigned i = 0; i < ROUNDS / 3 && (!i || grpc_status_of(s) != GRPC_RESOURCE_EXHAUSTED); i++) {
                fill(fds, TRIES_MAX);
                s = unary_as(&c, "/t.T/Who", basic("one", "too-many"), "");
                lines = h2_request(&c, "GET", "/user", authorized(basic("two", "too-many")), false);
                H2_UNTIL(&c, s->is_closed && lines->is_closed);
                hang_up_all(fds, TRIES_MAX);
        }
        assert_int_equal(grpc_status_of(s), GRPC_RESOURCE_EXHAUSTED);
        assert_true(h2_head_has(lines, ":status: 429"));
        assert_true(h2_head_has(lines, "retry-after: 1"));
        h2_hang_up(&c);
        wait_for_no_connections();
        house_end();
}

/* ---- while it is found out ---- */

TEST(login, pipelined_requests_and_bodies_wait_for_it_in_order)
{
        struct answer a = {0};
        struct buffer out = {0};
        int fd;

        house_begin();
        fd = dial(SERVER);
        /* The first one's password has to be checked; the second has one that is wrong. */
        buffer_format(&out,
                "POST /user HTTP/1.1\r\nhost: localhost\r\nauthorization: %s\r\ncontent-length: "
                "5\r\n\r\nhello",
                ANN);
        buffer_format(&out,
                "POST /user HTTP/1.1\r\nhost: localhost\r\nauthorization: %s\r\ncontent-length: "
                "5\r\n\r\nworld",
                basic("ann", "wrong-secret"));
        buffer_format(&out, "HEAD /user HTTP/1.1\r\nhost: localhost\r\nauthorization: %s\r\n\r\n", ROOT);
        buffer_format(&out, "OPTIONS /user HTTP/1.1\r\nhost: localhost\r\n\r\n");
        buffer_format(&out, "GET /anyone HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_true(send_bytes(fd, out.data, out.size));
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 200);
        assert_true(body_has(&a.body, "ann 5"));
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 401);
        read_answer(fd, &a, true);
        assert_int_equal(a.status, 200);
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 204);
        read_answer(fd, &a, false);
        assert_true(body_has(&a.body, "nobody 0"));
        close(fd);
        buffer_fini(&out);
        answer_fini(&a);
        wait_for_no_connections();
        house_end();
}

TEST(login, bodies_that_come_meanwhile_keep_their_limit)
{
        static char body[100 * 1024];
        struct answer a = {0};
        int fds[TRIES];
        int fd;

        house_begin();
        fill(fds, TRIES);
        fd = dial(SERVER);
        send_request(fd, "POST /user", ANN, "transfer-encoding: chunked\r\n");
        send_text(fd, "19000\r\n");
        send_bytes(fd, body, sizeof body);
        send_text(fd, "\r\n0\r\n\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 413);
        send_request(fd, "POST /user", ANN, "expect: 100-continue\r\ncontent-length: 3\r\n");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 100);
        send_text(fd, "abc");
        read_answer(fd, &a, false);
        assert_int_equal(a.status, 200);
        assert_true(body_has(&a.body, "ann 3"));
        close(fd);
        hang_up_all(fds, TRIES);
        answer_fini(&a);
        wait_for_no_connections();
        house_end();
}

TEST(login, clients_that_go_away_meanwhile_leave_nothing)
{
        int fds[TRIES];
        struct h2_client c;
        struct h2_stream *s[4];

        house_begin();
        for (unsigned round = 0; round < 3; round++) {
                fill(fds, TRIES);
                hang_up_all(fds, TRIES);
                h2_dial(&c, SERVER, NULL, 0);
                s[0] = unary_as(&c, "/t.T/Who", ROOT, "");
                s[1] = h2_request(&c, "GET", "/user", authorized(ROOT), false);
                s[2] = grpc_call_with(&c, "/t.T/Batch", authorized(ROOT));
                h2_turn(&c, 0);
                for (unsigned i = 0; i < 2; i++)
                        nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, s[i]->id, NGHTTP2_CANCEL);
                h2_turn(&c, 0);
                h2_hang_up(&c);
        }
        wait_for_no_connections();
        h2_dial(&c, SERVER, NULL, 0);
        s[0] = unary_as(&c, "/t.T/Who", ANN, "");
        H2_UNTIL(&c, s[0]->is_closed);
        assert_int_equal(grpc_status_of(s[0]), GRPC_OK);
        h2_hang_up(&c);
        house_end();
}

TEST(login, a_deadline_passes_meanwhile)
{
        const char *fields[] = {"authorization", ANN, "grpc-timeout", "1m", NULL};
        struct h2_client c;
        struct h2_stream *s;
        int fds[TRIES];

        house_begin();
        fill(fds, TRIES);
        h2_dial(&c, SERVER, NULL, 0);
        s = grpc_call_with(&c, "/t.T/Who", fields);
        grpc_send(&c, s, "", 0);
        grpc_half_close(&c, s);
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_DEADLINE_EXCEEDED);
        assert_int_equal(look(&seen.handled), 0);
        assert_int_equal(look(&seen.gone), 1);
        h2_idle(&c, 200); /* the login ends, and nobody waits for it */
        s = unary_as(&c, "/t.T/Who", ANN, "");
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), GRPC_OK);
        h2_hang_up(&c);
        hang_up_all(fds, TRIES);
        wait_for_no_connections();
        house_end();
}

TEST(login, a_server_stops_meanwhile)
{
        struct h2_client c;
        struct h2_stream *s;
        int fds[TRIES];
        uint64_t began;

        house_begin();
        fill(fds, TRIES);
        h2_dial(&c, SERVER, NULL, 0);
        s = grpc_call_with(&c, "/t.T/Batch", authorized(ANN));
        h2_turn(&c, 0);
        h2_idle(&c, 20);
        began = now_ms();
        house_end();
        assert_true(now_ms() - began < WAIT_MS);
        while (!c.is_broken)
                h2_turn(&c, 100);
        assert_true(s->is_closed);
        hang_up_all(fds, TRIES);
        h2_hang_up(&c);
}

/* ---- what ends ---- */

/* An answer that goes on, and has begun. */
static int follow(const char *authorization)
{
        struct answer a = {0};
        struct buffer chunk = {0};
        int fd = dial(SERVER);

        send_request(fd, "GET /streams/orders", authorization, NULL);
        read_head(fd, &a);
        assert_int_equal(a.status, 200);
        read_line(fd, &chunk);
        read_exactly(fd, &chunk, strlen("data: hello\n\n") + 2);
        buffer_fini(&chunk);
        answer_fini(&a);
        return fd;
}

static struct h2_stream *watch(struct h2_client *c, const char *authorization)
{
        struct h2_stream *s = unary_as(c, "/t.T/Watch", authorization, "orders");

        H2_UNTIL(c, grpc_message_count(s) == 1);
        return s;
}

static bool is_open(int fd)
{
        char c;

        return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* Whatever takes the right away: everything of ann ends within a second, and nothing of root's. */
static void check_end(void (*take_away)(void), int http_status, enum grpc_status status)
{
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *lines, *call, *upload, *others;
        int fd, roots, body;
        uint64_t began;

        house_begin();
        fd = follow(ANN);
        roots = follow(ROOT);
        body = dial(SERVER);
        send_request(body, "POST /streams/orders", ANN, "content-length: 10\r\n");
        send_text(body, "half ");
        h2_dial(&c, SERVER, NULL, 0);
        call = watch(&c, ANN);
        others = watch(&c, ROOT);
        lines = h2_request(&c, "GET", "/streams/orders", authorized(ANN), false);
        H2_UNTIL(&c, lines->body.size > 0);
        upload = h2_request(&c, "POST", "/streams/orders", authorized(ANN), true);
        buffer_add_string(&upload->out, "half ");
        nghttp2_session_resume_data(c.session, upload->id);
        h2_idle(&c, 50);

        began = now_ms();
        take_away();
        H2_UNTIL(&c, call->is_closed && lines->is_closed && upload->head.size);
        assert_true(is_closed_by_peer(fd));
        assert_true(now_ms() - began < REVOKED_MS);
        assert_int_equal(grpc_status_of(call), status);
        read_answer(body, &a, false);
        assert_int_equal(a.status, http_status);
        assert_true(h2_head_has(upload, http_status == 401 ? ":status: 401" : ":status: 403"));
        wait_for(&seen.closed, 2);
        assert_int_equal(look(&seen.handled), 0); /* nothing of the bodies reached a handler */
        h2_idle(&c, TICK_MS + 100);
        assert_false(others->is_closed);
        assert_true(is_open(roots));
        close(fd);
        close(roots);
        close(body);
        h2_hang_up(&c);
        answer_fini(&a);
        wait_for_no_connections();
        house_end();
}

static void disable(void)
{
        change(ACCESS_DISABLE, "ann", NULL, NULL);
}

static void reset_password(void)
{
        change(ACCESS_RESET_PASSWORD, "ann", NULL, "another-secret");
}

static void take_rights(void)
{
        set_metadata("{\"$acl\":{\"$r\":\"root\",\"$w\":\"root\"}}");
}

TEST(revocation, of_a_user_ends_what_is_open)
{
        check_end(disable, 401, GRPC_UNAUTHENTICATED);
}

TEST(revocation, by_another_password_ends_what_is_open)
{
        check_end(reset_password, 401, GRPC_UNAUTHENTICATED);
}

TEST(revocation, of_a_right_ends_what_is_open)
{
        check_end(take_rights, 403, GRPC_PERMISSION_DENIED);
}

/* What was accepted gets its answer, what comes later is denied, and then the call ends. */
TEST(revocation, of_a_call_waits_for_the_answer_of_the_store)
{
        struct h2_client c;
        struct h2_stream *s;
        struct bytes message = BYTES_EMPTY;

        house_begin();
        h2_dial(&c, SERVER, NULL, 0);
        s = grpc_call_with(&c, "/t.T/Batch", authorized(ANN));
        grpc_send(&c, s, "orders", 6);
        H2_UNTIL(&c, look(&seen.held) == 1);
        change(ACCESS_DISABLE, "ann", NULL, NULL);
        grpc_send(&c, s, "orders", 6);
        H2_UNTIL(&c, grpc_message_count(s) == 1);
        assert_true(grpc_message(s, 0, &message));
        assert_true(bytes_equal_string(message, "denied"));
        assert_false(s->is_closed);
        server_run(SERVER, release, NULL);
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_message_count(s), 2);
        assert_true(grpc_message(s, 1, &message));
        assert_true(bytes_equal_string(message, "written"));
        assert_int_equal(grpc_status_of(s), GRPC_UNAUTHENTICATED);
        assert_int_equal(look(&seen.gone), 1);
        h2_hang_up(&c);
        wait_for_no_connections();
        house_end();
}

/* ---- tokens ---- */

static char token[ACCESS_TOKEN_SIZE_MAX + 16];

static void make_token(void *arg)
{
        struct access_login login = {0};
        struct principal *p = NULL;
        struct buffer out = {0};
        uint64_t expires_us;
        int r = access_authenticate(house.access, bytes_of_string(arg), "", "127.0.0.1:1", &login, &p);

        assert(r == 0); /* it is remembered */
        r = access_token_make(house.access, p, 2, &out, &expires_us);
        assert(r == 0);
        snprintf(token, sizeof token, "Bearer %.*s", (int)out.size, (const char *)out.data);
        buffer_fini(&out);
        principal_release(&p);
}

TEST(token, ends_what_it_has_opened_when_it_expires)
{
        struct answer a = {0};
        struct h2_client c;
        struct h2_stream *call;
        unsigned before;
        int fd, stays;
        uint64_t began;

        house_begin();
        before = look(&seen.changed);
        server_run(SERVER, make_key, NULL);
        wait_for(&seen.changed, before + 1);
        assert_int_equal(status_of("GET /user", ANN, &a), 200);
        server_run(SERVER, make_token, (void *)(uintptr_t)ANN);
        began = now_ms();
        fd = follow(token);
        stays = follow(ANN);
        h2_dial(&c, SERVER, NULL, 0);
        call = watch(&c, token);
        assert_int_equal(status_of("GET /user", token, &a), 200);
        H2_UNTIL(&c, call->is_closed);
        assert_true(now_ms() - began < 2000 + TICK_MS + REVOKED_MS);
        assert_int_equal(grpc_status_of(call), GRPC_UNAUTHENTICATED);
        assert_true(is_closed_by_peer(fd));
        assert_int_equal(status_of("GET /user", token, &a), 401);
        assert_true(is_open(stays));
        close(fd);
        close(stays);
        h2_hang_up(&c);
        answer_fini(&a);
        wait_for_no_connections();
        house_end();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(access, refusals_over_http_have_their_status_and_next_step),
                TEST_ROW(access, while_users_cannot_be_read_nobody_is_known),
                TEST_ROW(access, refusals_of_calls_have_their_status_and_trailers),
                TEST_ROW(login, pipelined_requests_and_bodies_wait_for_it_in_order),
                TEST_ROW(login, bodies_that_come_meanwhile_keep_their_limit),
                TEST_ROW(login, clients_that_go_away_meanwhile_leave_nothing),
                TEST_ROW(login, a_deadline_passes_meanwhile),
                TEST_ROW(login, a_server_stops_meanwhile),
                TEST_ROW(revocation, of_a_user_ends_what_is_open),
                TEST_ROW(revocation, by_another_password_ends_what_is_open),
                TEST_ROW(revocation, of_a_right_ends_what_is_open),
                TEST_ROW(revocation, of_a_call_waits_for_the_answer_of_the_store),
                TEST_ROW(token, ends_what_it_has_opened_when_it_expires),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
