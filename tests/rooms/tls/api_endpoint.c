/* Servers and their clients: files of the operator, users by certificate, whom a client believes. */
#include "issue.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

struct world {
        struct os *os;
        struct issued server_ca, server, user_ca;
        struct tls_context *open; /* a server that asks for no certificate */
};

static void world_open(struct world *w)
{
        struct tls_server_options options;
        struct tls_problem problem;

        memset(w, 0, sizeof *w);
        w->os = machine_new();
        w->server_ca = issue(w->os, NULL, &(struct wish){.cn = "servers", .is_authority = true});
        w->server = issue(w->os, &w->server_ca,
                &(struct wish){.cn = "ignored.example", .names = "DNS:db.example,IP:10.0.0.1,IP:fd00::1"});
        w->user_ca = issue(w->os, NULL, &(struct wish){.cn = "users", .is_authority = true});
        write_certificate(w->os, "server-ca.pem", &w->server_ca);
        write_certificate(w->os, "user-ca.pem", &w->user_ca);
        write_certificate(w->os, "server.pem", &w->server);
        write_key(w->os, "server.key", &w->server);
        options = (struct tls_server_options){.os = w->os,
                .certificate_file = "server.pem",
                .key_file = "server.key",
                .alpn = "h2,http/1.1"};
        assert_int_equal(tls_server_open(&options, &w->open, &problem), 0);
}

static void world_close(struct world *w)
{
        tls_context_close(&w->open);
        issued_fini(&w->server_ca);
        issued_fini(&w->server);
        issued_fini(&w->user_ca);
        os_free(&w->os);
}

static struct tls_context *server_with_users(struct world *w)
{
        struct tls_server_options options = {.os = w->os,
                .certificate_file = "server.pem",
                .key_file = "server.key",
                .client_ca_file = "user-ca.pem"};
        struct tls_context *server;
        struct tls_problem problem;

        assert_int_equal(tls_server_open(&options, &server, &problem), 0);
        return server;
}

static struct tls_context *client_of(const struct tls_client_options *options)
{
        struct tls_context *client;
        struct tls_problem problem;

        assert_int_equal(tls_client_open(options, &client, &problem), 0);
        return client;
}

static struct tls_context *client_with_ca(struct world *w, const char *ca_file)
{
        return client_of(&(struct tls_client_options){.os = w->os, .ca_file = ca_file, .alpn = "h2"});
}

static void pair_begin(
        struct pair *p, struct tls_context *client, const char *host, struct tls_context *server)
{
        memset(p, 0, sizeof *p);
        assert_int_equal(tls_session_new_client(client, host, &p->client), 0);
        assert_int_equal(tls_session_new(server, true, &p->server), 0);
}

/* The client goes on. */
static void assert_believed(struct tls_context *client, const char *host, struct tls_context *server)
{
        struct pair p;

        pair_begin(&p, client, host, server);
        pair_run(&p, 999);
        assert_string_equal(tls_session_problem(p.client), "");
        assert_int_equal(tls_session_state(p.client), TLS_OPEN);
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        tls_session_write(p.client, BYTES_LITERAL("hello"));
        tls_session_write(p.server, BYTES_LITERAL("world"));
        pair_run(&p, 999);
        assert_int_equal(p.at_server.size, 5);
        assert_int_equal(p.at_client.size, 5);
        pair_free(&p);
}

static void assert_not_believed(
        struct tls_context *client, const char *host, struct tls_context *server, const char *why)
{
        struct pair p;

        pair_begin(&p, client, host, server);
        assert_refused(&p, why, "refused this side");
        pair_free(&p);
}

TEST(client, believes_by_ca_and_name)
{
        struct world w;
        struct tls_context *client;

        world_open(&w);
        client = client_with_ca(&w, "server-ca.pem");
        assert_believed(client, "db.example", w.open);
        assert_believed(client, "DB.example", w.open);
        assert_believed(client, "10.0.0.1", w.open);
        assert_believed(client, "fd00::1", w.open);
        assert_not_believed(
                client, "other.example", w.open, "is not for other.example but for db.example, 10.0.0.1");
        assert_not_believed(client, "10.0.0.2", w.open, "is not for 10.0.0.2");
        assert_not_believed(
                client, "ignored.example", w.open, "is not for ignored.example"); /* a CN is no name */
        assert_not_believed(client, "x.db.example", w.open, "is not for");
        tls_context_close(&client);
        client = client_with_ca(&w, "user-ca.pem");
        assert_not_believed(client, "db.example", w.open, "not signed by a CA that this side trusts");
        tls_context_close(&client);
        /* The system knows nothing of this CA. */
        client = client_with_ca(&w, NULL);
        assert_not_believed(client, "db.example", w.open, "not signed by a CA that this side trusts");
        tls_context_close(&client);
        world_close(&w);
}

TEST(client, believes_nobody_out_of_time)
{
        struct world w;
        struct tls_context *client;

        world_open(&w);
        client = client_with_ca(&w, "server-ca.pem");
        os_sim_shift_wall(w.os, 31 * DAY_US);
        assert_not_believed(client, "db.example", w.open, "expired on");
        os_sim_shift_wall(w.os, -40 * DAY_US);
        assert_not_believed(client, "db.example", w.open, "not valid before");
        tls_context_close(&client);
        world_close(&w);
}

TEST(client, believes_everybody_only_when_that_was_said)
{
        struct world w;
        struct tls_context *client;

        world_open(&w);
        client = client_of(&(struct tls_client_options){.os = w.os, .verifies_nothing = true});
        assert_believed(client, "other.example", w.open);
        os_sim_shift_wall(w.os, 31 * DAY_US);
        assert_believed(client, "10.9.9.9", w.open);
        tls_context_close(&client);
        world_close(&w);
}

/* The CA that a first start prints: a fingerprint is enough, and the name counts all the same. */
TEST(client, believes_the_own_ca_by_its_fingerprint)
{
        struct tls_server_options options;
        struct tls_certificate_info info;
        struct tls_context *client, *server;
        struct tls_problem problem;
        struct world w;
        unsigned i;

        world_open(&w);
        authority_make(w.os, "node", cluster_a);
        assert_int_equal(tls_node_certificate_make(w.os, "node", 1, local_names, 3, &problem), 0);
        options = (struct tls_server_options){.os = w.os, .directory = "node"};
        assert_int_equal(tls_server_open(&options, &server, &problem), 0);
        assert_int_equal(tls_certificate_info(w.os, "node", "ca.pem", &info, &problem), 0);
        client = client_of(&(struct tls_client_options){
                .os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, TLS_FINGERPRINT_SIZE)});
        assert_believed(client, "localhost", server);
        assert_believed(client, "::1", server);
        assert_not_believed(client, "elsewhere", server, "is not for elsewhere");
        assert_not_believed(client, "localhost", w.open, "not the one that the fingerprint names");
        tls_context_close(&client);
        for (i = 0; i < TLS_FINGERPRINT_SIZE; i += 5) {
                info.fingerprint[i] ^= 1;
                client = client_of(&(struct tls_client_options){
                        .os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, TLS_FINGERPRINT_SIZE)});
                assert_not_believed(client, "localhost", server, "not the one that the fingerprint names");
                tls_context_close(&client);
                info.fingerprint[i] ^= 1;
        }
        client = client_with_ca(&w, "node/ca.pem");
        assert_believed(client, "127.0.0.1", server);
        tls_context_close(&client);
        tls_context_close(&server);
        world_close(&w);
}

/* ---- users ---- */

static struct pair user_of(
        struct world *w, struct tls_context *server, const struct issued *issuer, const struct wish *wish)
{
        struct issued user = issue(w->os, issuer, wish);
        struct tls_context *client;
        struct pair p;

        write_certificate(w->os, "user.pem", &user);
        write_key(w->os, "user.key", &user);
        client = client_of(&(struct tls_client_options){.os = w->os,
                .ca_file = "server-ca.pem",
                .certificate_file = "user.pem",
                .key_file = "user.key"});
        pair_begin(&p, client, "db.example", server);
        tls_context_close(&client);
        issued_fini(&user);
        return p;
}

static void assert_login(
        struct world *w, struct tls_context *server, const struct wish *wish, const char *login)
{
        struct pair p = user_of(w, server, &w->user_ca, wish);

        assert_string_equal(tls_session_peer_login(p.server), "");
        pair_run(&p, 999);
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        assert_string_equal(tls_session_peer_login(p.server), login);
        assert_string_equal(tls_session_peer_login(p.client), ""); /* a server is no user */
        pair_free(&p);
}

TEST(user, is_whom_the_certificate_names)
{
        char longest[TLS_LOGIN_SIZE], too_long[TLS_LOGIN_SIZE + 1];
        struct tls_context *server, *nobody;
        struct world w;

        memset(longest, 'a', sizeof longest);
        memset(too_long, 'a', sizeof too_long);
        longest[60] = too_long[65] = 0; /* X.509 ends a CN at 64 */
        world_open(&w);
        server = server_with_users(&w);
        assert_login(&w, server, &(struct wish){.cn = "ada"}, "ada");
        assert_login(&w, server, &(struct wish){.cn = "ada", .usage = "clientAuth"}, "ada");
        assert_login(&w, server, &(struct wish){.cn = "zo\xc3\xab"}, "zo\xc3\xab");
        assert_login(&w, server, &(struct wish){.cn = longest}, longest);
        assert_login(&w, server, &(struct wish){.cn = "a b"}, "");
        assert_login(&w, server, &(struct wish){.cn = "a\nb"}, "");
        assert_login(&w, server, &(struct wish){.cn = NULL}, "");
        assert_login(&w, server, &(struct wish){.cn = "ada", .cn_too = "admin"}, "");
        /* Who certifies nodes and users by one CA does not make users of nodes. */
        assert_login(&w, server,
                &(struct wish){
                        .cn = "admin", .names = "URI:nilo://a0010203-0405-0607-0809-0a0b0c0d0e0f/node/1"},
                "");
        /* Nobody has to have one, where that is asked for and where it is not. */
        nobody = client_with_ca(&w, "server-ca.pem");
        assert_believed(nobody, "db.example", w.open);
        tls_context_close(&nobody);
        nobody = client_of(&(struct tls_client_options){.os = w.os, .ca_file = "server-ca.pem"});
        assert_believed(nobody, "db.example", server);
        tls_context_close(&nobody);
        tls_context_close(&server);
        world_close(&w);
}

TEST(user, needs_a_certificate_that_holds)
{
        struct issued stranger;
        struct tls_context *server;
        struct world w;
        struct pair p;

        world_open(&w);
        server = server_with_users(&w);
        stranger = issue(w.os, NULL, &(struct wish){.cn = "users", .is_authority = true}); /* the same name */
        p = user_of(&w, server, &stranger, &(struct wish){.cn = "admin"});
        assert_refused(&p, "refused this side", "not signed by a CA that this server takes users of");
        pair_free(&p);
        p = user_of(
                &w, server, &w.server_ca, &(struct wish){.cn = "admin"}); /* certifies servers, no users */
        assert_refused(&p, "refused this side", "not signed by");
        pair_free(&p);
        p = user_of(&w, server, &w.user_ca, &(struct wish){.cn = "ada", .from_days = -9, .until_days = -1});
        assert_refused(&p, "refused this side", "expired on");
        pair_free(&p);
        p = user_of(&w, server, &w.user_ca, &(struct wish){.cn = "ada", .usage = "serverAuth"});
        assert_refused(&p, "refused this side", "the peer's certificate");
        pair_free(&p);
        /* Where none is asked for, none is believed. */
        p = user_of(&w, w.open, &w.user_ca, &(struct wish){.cn = "ada"});
        pair_run(&p, 999);
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        assert_string_equal(tls_session_peer_login(p.server), "");
        pair_free(&p);
        issued_fini(&stranger);
        tls_context_close(&server);
        world_close(&w);
}

/* ---- clients of other makes, by OpenSSL itself ---- */

struct raw {
        SSL_CTX *context;
        SSL *ssl;
        BIO *in, *out;
        struct tls_session *server;
        struct buffer plain;
};

static void raw_new(struct raw *r, struct tls_context *server)
{
        memset(r, 0, sizeof *r);
        r->context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_security_level(r->context, 0);
        SSL_CTX_set_min_proto_version(r->context, TLS1_VERSION);
        r->ssl = SSL_new(r->context);
        r->in = BIO_new(BIO_s_mem());
        r->out = BIO_new(BIO_s_mem());
        SSL_set_bio(r->ssl, r->in, r->out);
        SSL_set_connect_state(r->ssl);
        assert_int_equal(tls_session_new(server, true, &r->server), 0);
}

static void raw_free(struct raw *r)
{
        SSL_free(r->ssl);
        SSL_CTX_free(r->context); /* with an internal cache it would spoil the tickets */
        tls_session_free(&r->server);
        buffer_fini(&r->plain);
        ERR_clear_error();
}

static void raw_run(struct raw *r)
{
        char some[4096];

        for (unsigned i = 0; i < 10; i++) {
                struct bytes output;
                int n;

                (void)SSL_do_handshake(r->ssl);
                (void)SSL_read(r->ssl, some, sizeof some);
                while ((n = BIO_read(r->out, some, sizeof some)) > 0)
                        tls_session_feed(r->server, bytes_of(some, (size_t)n), &r->plain);
                output = tls_session_output(r->server);
                if (output.size)
                        assert_int_equal(BIO_write(r->in, output.data, (int)output.size), (int)output.size);
                tls_session_sent(r->server);
        }
        ERR_clear_error();
}

static enum tls_state raw_try(struct world *w, int version, const char *ciphers, const char *groups)
{
        enum tls_state state;
        struct raw r;

        raw_new(&r, w->open);
        SSL_set_max_proto_version(r.ssl, version);
        if (version < TLS1_3_VERSION)
                SSL_set_min_proto_version(r.ssl, version);
        if (ciphers)
                assert_int_equal(SSL_set_cipher_list(r.ssl, ciphers), 1);
        if (groups)
                assert_int_equal(SSL_set1_groups_list(r.ssl, groups), 1);
        raw_run(&r);
        state = tls_session_state(r.server);
        if (state == TLS_OPEN) {
                assert_int_equal(SSL_version(r.ssl), version);
                assert_int_equal(SSL_get_secure_renegotiation_support(r.ssl) || version == TLS1_3_VERSION, 1);
        }
        raw_free(&r);
        return state;
}

TEST(server, speaks_1_3_and_1_2_with_aead_and_nothing_older)
{
        struct world w;

        world_open(&w);
        assert_int_equal(raw_try(&w, TLS1_3_VERSION, NULL, NULL), TLS_OPEN);
        assert_int_equal(raw_try(&w, TLS1_3_VERSION, NULL, "P-384"), TLS_OPEN);
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, NULL, NULL), TLS_OPEN);
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", NULL), TLS_OPEN);
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", NULL), TLS_OPEN);
        assert_int_equal(
                raw_try(&w, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", NULL), TLS_FAILED); /* CBC */
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", NULL), TLS_FAILED);
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, "AES128-GCM-SHA256", NULL), TLS_FAILED); /* no ECDHE */
        assert_int_equal(raw_try(&w, TLS1_2_VERSION, "AECDH-AES128-SHA", NULL), TLS_FAILED);
        assert_int_equal(raw_try(&w, TLS1_1_VERSION, NULL, NULL), TLS_FAILED);
        assert_int_equal(raw_try(&w, TLS1_VERSION, NULL, NULL), TLS_FAILED);
        world_close(&w);
}

TEST(server, refuses_to_negotiate_again)
{
        struct world w;
        struct raw r;

        world_open(&w);
        raw_new(&r, w.open);
        SSL_set_max_proto_version(r.ssl, TLS1_2_VERSION);
        raw_run(&r);
        assert_int_equal(tls_session_state(r.server), TLS_OPEN);
        assert_int_equal(SSL_renegotiate(r.ssl), 1);
        raw_run(&r);
        assert_int_not_equal(SSL_get_state(r.ssl), TLS_ST_OK); /* the server has not gone along */
        assert_int_equal(r.plain.size, 0);
        raw_free(&r);
        world_close(&w);
}

static SSL_SESSION *resumable; /* the newest ticket */

static int on_ticket(SSL *ssl, SSL_SESSION *session)
{
        (void)ssl;
        SSL_SESSION_free(resumable);
        resumable = session;
        return 1;
}

static bool resumes(struct tls_context *server)
{
        bool is_resumed = false;

        for (unsigned i = 0; i < 2; i++) {
                struct raw r;

                raw_new(&r, server);
                SSL_CTX_set_session_cache_mode(r.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
                SSL_CTX_sess_set_new_cb(r.context, on_ticket);
                if (resumable)
                        SSL_set_session(r.ssl, resumable);
                raw_run(&r);
                assert_int_equal(tls_session_state(r.server), TLS_OPEN);
                is_resumed = SSL_session_reused(r.ssl) == 1;
                SSL_shutdown(r.ssl);
                raw_free(&r);
        }
        SSL_SESSION_free(resumable);
        resumable = NULL;
        return is_resumed;
}

/* A ticket would outlive the user's certificate. */
TEST(server, resumes_sessions_but_not_where_users_have_certificates)
{
        struct tls_context *server;
        struct world w;

        world_open(&w);
        server = server_with_users(&w);
        assert_true(resumes(w.open));
        assert_false(resumes(server));
        tls_context_close(&server);
        world_close(&w);
}

/* G17: each makes the server answer; what waits is bounded by what was fed. */
TEST(server, answers_key_updates_with_no_more_than_was_asked)
{
        char some[4096];
        struct world w;
        struct raw r;
        int n;

        world_open(&w);
        raw_new(&r, w.open);
        raw_run(&r);
        for (unsigned i = 0; i < 100; i++) {
                assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
                assert_int_equal(SSL_do_handshake(r.ssl), 1);
        }
        while ((n = BIO_read(r.out, some, sizeof some)) > 0)
                tls_session_feed(r.server, bytes_of(some, (size_t)n), &r.plain);
        assert_true(tls_session_output(r.server).size <= 100 * 64);
        raw_free(&r);
        world_close(&w);
}

TEST(server, at_rest_holds_little)
{
        uint8_t *large = memory_new(400 * KIB);
        struct world w;
        struct raw r;

        world_open(&w);
        raw_new(&r, w.open);
        raw_run(&r);
        tls_session_write(r.server, bytes_of(large, 400 * KIB));
        assert_true(tls_session_memory(r.server) > 400 * KIB);
        tls_session_sent(r.server);
        assert_true(tls_session_memory(r.server) < 32 * KIB);
        raw_free(&r);
        free(large);
        world_close(&w);
}

/* ---- files ---- */

static void assert_server_invalid(
        struct world *w, const char *certificate, const char *key, const char *ca, const char *why)
{
        struct tls_server_options options = {
                .os = w->os, .certificate_file = certificate, .key_file = key, .client_ca_file = ca};
        struct tls_context *server = NULL;
        struct tls_problem problem;
        int r = tls_server_open(&options, &server, &problem);

        assert_true(r == TLS_INVALID || r == TLS_NOT_FOUND);
        assert_null(server);
        if (!strstr(problem.text, why))
                fail_msg("%s", problem.text);
}

TEST(files, that_do_not_fit_are_named)
{
        struct issued weak;
        struct buffer text = {0};
        struct world w;

        world_open(&w);
        assert_server_invalid(&w, "none.pem", "server.key", NULL, "none.pem is absent");
        assert_server_invalid(&w, "server.pem", "none.key", NULL, "none.key is absent");
        assert_server_invalid(&w, "server.key", "server.key", NULL, "server.key is no list of certificates");
        assert_server_invalid(&w, "server.pem", "server.pem", NULL, "server.pem holds no readable key");
        assert_server_invalid(
                &w, "server-ca.pem", "server.key", NULL, "server.key is not the key of the first");
        assert_server_invalid(&w, "server.pem", "server.key", "none.pem", "none.pem is absent");
        assert_server_invalid(&w, "server.pem", "server.key", "server.key", "server.key is no list");
        weak = issue(w.os, &w.server_ca, &(struct wish){.cn = "x", .has_weak_key = true});
        write_certificate(w.os, "weak.pem", &weak);
        write_key(w.os, "weak.key", &weak);
        assert_server_invalid(&w, "weak.pem", "weak.key", NULL, "weak.pem cannot be used");
        /* A list that is cut off in its second certificate. */
        add_certificate(&text, w.server.certificate);
        add_certificate(&text, w.server_ca.certificate);
        text.size -= 40;
        write_text(w.os, "cut.pem", &text);
        assert_server_invalid(&w, "cut.pem", "server.key", NULL, "cut.pem is no list");
        for (unsigned i = 0; i <= TLS_PEM_SIZE_MAX / 64; i++)
                buffer_add_string(
                        &text, "# ..............................................................\n");
        write_text(w.os, "large.pem", &text);
        assert_server_invalid(&w, "large.pem", "server.key", NULL, "large.pem cannot be read");
        issued_fini(&weak);
        world_close(&w);
}

/* What a public CA hands out: the certificate, then the one between it and the root. */
TEST(files, may_hold_a_chain)
{
        struct issued between, leaf;
        struct tls_context *server, *client;
        struct tls_server_options options;
        struct tls_certificate_info info;
        struct tls_problem problem;
        struct buffer text = {0};
        struct world w;

        world_open(&w);
        between = issue(w.os, &w.server_ca, &(struct wish){.cn = "between", .is_authority = true});
        leaf = issue(w.os, &between, &(struct wish){.cn = "x", .names = "DNS:chained.example"});
        add_certificate(&text, leaf.certificate);
        add_certificate(&text, between.certificate);
        write_text(w.os, "chain.pem", &text);
        write_key(w.os, "chain.key", &leaf);
        options = (struct tls_server_options){
                .os = w.os, .certificate_file = "chain.pem", .key_file = "chain.key"};
        assert_int_equal(tls_server_open(&options, &server, &problem), 0);
        client = client_of(&(struct tls_client_options){.os = w.os, .ca_file = "server-ca.pem"});
        assert_believed(client, "chained.example", server);
        assert_true(tls_context_certificate(server, &info));
        assert_string_equal(info.names, "chained.example");
        tls_context_close(&client);
        tls_context_close(&server);
        issued_fini(&between);
        issued_fini(&leaf);
        world_close(&w);
}

TEST(files, that_change_are_seen_and_read_again)
{
        uint8_t digest[TLS_FINGERPRINT_SIZE];
        struct tls_context *client;
        struct tls_problem problem;
        struct issued next;
        struct world w;

        world_open(&w);
        client = client_with_ca(&w, "server-ca.pem");
        tls_context_digest_files(w.open, digest);
        assert_false(tls_context_is_stale(w.open, digest));
        next = issue(w.os, &w.server_ca, &(struct wish){.names = "DNS:next.example"});
        write_certificate(w.os, "server.pem", &next);
        tls_context_digest_files(w.open, digest);
        assert_true(tls_context_is_stale(w.open, digest));
        /* The key is not there yet: the old pair stays. */
        assert_int_equal(tls_context_reload(w.open, &problem), TLS_INVALID);
        assert_believed(client, "db.example", w.open);
        write_key(w.os, "server.key", &next);
        assert_int_equal(tls_context_reload(w.open, &problem), 0);
        tls_context_digest_files(w.open, digest);
        assert_false(tls_context_is_stale(w.open, digest));
        assert_believed(client, "next.example", w.open);
        assert_not_believed(client, "db.example", w.open, "is not for db.example");
        assert_int_equal(os_remove(w.os, "server.key"), 0);
        tls_context_digest_files(w.open, digest);
        assert_true(tls_context_is_stale(w.open, digest));
        issued_fini(&next);
        tls_context_close(&client);
        world_close(&w);
}

/* ---- the node's own certificate, from start to start ---- */

static void assert_covered(
        struct os *os, const char *const *names, unsigned count, bool is_new, const char *expected)
{
        struct tls_certificate_info info;
        struct tls_problem problem;
        bool was_new = !is_new;

        assert_int_equal(tls_node_certificate_cover(os, "node", 7, names, count, &was_new, &problem), 0);
        assert_int_equal(was_new, is_new);
        assert_int_equal(tls_certificate_info(os, "node", "node.pem", &info, &problem), 0);
        assert_string_equal(info.names, expected);
        assert_int_equal(info.identity.node_id, 7);
}

TEST(cover, makes_a_certificate_only_when_there_is_a_reason)
{
        static const char *const more[] = {"LOCALHOST", "0:0:0:0:0:0:0:1", "db.example"};
        struct os *os = machine_new();
        struct tls_problem problem;
        bool is_new;

        assert_int_equal(
                tls_node_certificate_cover(os, "node", 7, local_names, 3, &is_new, &problem), TLS_NOT_FOUND);
        authority_make(os, "node", cluster_a);
        assert_covered(os, local_names, 3, true, "localhost,127.0.0.1,::1");
        assert_covered(os, local_names, 3, false, "localhost,127.0.0.1,::1");
        assert_covered(os, more, 2, false, "localhost,127.0.0.1,::1"); /* the same in other words */
        assert_covered(os, more + 2, 1, true, "db.example,localhost,127.0.0.1,::1");
        assert_covered(os, local_names, 3, false, "db.example,localhost,127.0.0.1,::1");
        os_sim_shift_wall(os, (TLS_NODE_DAYS - TLS_RENEW_BEFORE_DAYS - 1) * DAY_US);
        assert_covered(os, local_names, 3, false, "db.example,localhost,127.0.0.1,::1");
        os_sim_shift_wall(os, 2 * DAY_US);
        assert_covered(os, local_names, 3, true, "localhost,127.0.0.1,::1,db.example");
        /* Another CA: what it has not signed is made anew, with no name of the old one. */
        assert_int_equal(os_remove(os, "node/ca.pem"), 0);
        authority_make(os, "node", cluster_a);
        assert_covered(os, local_names, 2, true, "localhost,127.0.0.1");
        os_free(&os);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(client, believes_by_ca_and_name),
                TEST_ROW(client, believes_nobody_out_of_time),
                TEST_ROW(client, believes_everybody_only_when_that_was_said),
                TEST_ROW(client, believes_the_own_ca_by_its_fingerprint),
                TEST_ROW(user, is_whom_the_certificate_names),
                TEST_ROW(user, needs_a_certificate_that_holds),
                TEST_ROW(server, speaks_1_3_and_1_2_with_aead_and_nothing_older),
                TEST_ROW(server, refuses_to_negotiate_again),
                TEST_ROW(server, resumes_sessions_but_not_where_users_have_certificates),
                TEST_ROW(server, answers_key_updates_with_no_more_than_was_asked),
                TEST_ROW(server, at_rest_holds_little),
                TEST_ROW(files, that_do_not_fit_are_named),
                TEST_ROW(files, may_hold_a_chain),
                TEST_ROW(files, that_change_are_seen_and_read_again),
                TEST_ROW(cover, makes_a_certificate_only_when_there_is_a_reason),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
