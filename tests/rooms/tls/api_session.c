/* Sessions: who is let in, who is not and why (S8, S15: 0 accepted), and that bytes come through whole. */
#include "support.h"

struct world {
        struct os *os;
        struct tls_context *one, *two;
};

static void world_open(struct world *w)
{
        w->os = machine_new();
        authority_make(w->os, "ca", cluster_a);
        node_make(w->os, "ca", "one", 1);
        node_make(w->os, "ca", "two", 2);
        w->one = context_open(w->os, "one");
        w->two = context_open(w->os, "two");
}

static void world_close(struct world *w)
{
        tls_context_close(&w->one);
        tls_context_close(&w->two);
        os_free(&w->os);
}

TEST(session, both_sides_prove_their_node)
{
        struct tls_identity identity;
        struct world w;
        struct pair p;

        world_open(&w);
        pair_new(&p, w.one, w.two);
        assert_false(tls_session_peer(p.client, &identity));
        pair_run(&p, 7);
        assert_int_equal(tls_session_state(p.client), TLS_OPEN);
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        assert_true(tls_session_peer(p.client, &identity));
        assert_int_equal(identity.node_id, 2);
        assert_memory_equal(identity.cluster_uuid, cluster_a, 16);
        assert_true(tls_session_peer(p.server, &identity));
        assert_int_equal(identity.node_id, 1);
        assert_string_equal(tls_session_problem(p.client), "");
        pair_free(&p);
        world_close(&w);
}

TEST(session, bytes_come_whole_in_any_pieces_and_end_in_order)
{
        static const size_t steps[] = {1, 13, 16384, 65536, 1 << 22};
        enum { SIZE = 300000 };
        uint8_t *sent = memory_new(SIZE);
        struct world w;
        unsigned i, j;

        for (j = 0; j < SIZE; j++)
                sent[j] = (uint8_t)(j * 2654435761u >> 13);
        world_open(&w);
        for (i = 0; i < COUNT_OF(steps); i++) {
                struct pair p;

                pair_new(&p, w.one, w.two);
                pair_run(&p, steps[i]);
                tls_session_write(p.client, bytes_of(sent, SIZE));
                tls_session_write(p.server, BYTES_LITERAL("yes"));
                pair_run(&p, steps[i]);
                assert_int_equal(p.at_server.size, SIZE);
                assert_memory_equal(p.at_server.data, sent, SIZE);
                assert_int_equal(p.at_client.size, 3);
                assert_int_equal(tls_session_output(p.client).size, 0);
                tls_session_end(p.client);
                pair_run(&p, steps[i]);
                assert_int_equal(tls_session_state(p.server), TLS_ENDED);
                assert_int_equal(tls_session_feed(p.server, BYTES_LITERAL("more"), &p.at_server), TLS_ENDED);
                assert_int_equal(p.at_server.size, SIZE);
                pair_free(&p);
        }
        free(sent);
        world_close(&w);
}

TEST(session, a_certificate_of_another_authority_is_refused)
{
        struct tls_context *other;
        struct world w;
        struct pair p;

        world_open(&w);
        authority_make(w.os, "other-ca", cluster_b);
        node_make(w.os, "other-ca", "other", 1);
        other = context_open(w.os, "other");
        pair_new(&p, other, w.two); /* the client sees the server's certificate first */
        assert_refused(&p, "not signed by this cluster's CA", "refused this side");
        pair_free(&p);
        pair_new(&p, w.one, other);
        assert_refused(&p, "not signed by this cluster's CA", "refused this side");
        pair_free(&p);
        tls_context_close(&other);
        world_close(&w);
}

/* The same cluster's name on a CA that somebody else has made does not help. */
TEST(session, a_forged_authority_of_the_same_cluster_is_refused_by_the_server)
{
        struct tls_context_options joiner = {0};
        struct tls_certificate_info info;
        struct tls_context *forged, *blind;
        struct tls_problem problem;
        struct world w;
        struct pair p;

        world_open(&w);
        authority_make(w.os, "forged-ca", cluster_a);
        node_make(w.os, "forged-ca", "forged", 1);
        forged = context_open(w.os, "forged");
        pair_new(&p, w.one, forged);
        assert_refused(&p, "not signed by this cluster's CA", "refused this side");
        pair_free(&p);
        /* A client that does not look at the server: only the server can refuse. */
        assert_int_equal(tls_certificate_info(w.os, "ca", "ca.pem", &info, &problem), 0);
        joiner = (struct tls_context_options){.os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, 32)};
        assert_int_equal(tls_context_open(&joiner, &blind, &problem), 0);
        pair_new(&p, blind, w.two);
        assert_refused(&p, "refused this side", "shows no certificate");
        pair_free(&p);
        tls_context_close(&blind);
        tls_context_close(&forged);
        world_close(&w);
}

TEST(session, expired_and_premature_certificates_are_refused_with_the_date)
{
        struct world w;
        struct pair p;

        world_open(&w);
        os_sim_shift_wall(w.os, (TLS_NODE_DAYS + 1) * DAY_US);
        pair_new(&p, w.one, w.two);
        assert_refused(&p, "expired on 2027-01-01", "refused this side");
        pair_free(&p);
        os_sim_shift_wall(w.os, -(TLS_NODE_DAYS + 4) * DAY_US);
        pair_new(&p, w.one, w.two);
        assert_refused(&p, "not valid before 20", "refused this side");
        pair_free(&p);
        os_sim_shift_wall(w.os, 3 * DAY_US);
        pair_new(&p, w.one, w.two);
        pair_run(&p, 1000);
        assert_int_equal(tls_session_state(p.client), TLS_OPEN);
        pair_free(&p);
        world_close(&w);
}

TEST(session, a_client_without_a_certificate_gets_in_only_where_that_is_allowed)
{
        struct tls_context_options options;
        struct tls_certificate_info info;
        struct tls_context *joiner, *open_door;
        struct tls_identity identity;
        struct tls_problem problem;
        struct world w;
        struct pair p;

        world_open(&w);
        assert_int_equal(tls_certificate_info(w.os, "one", "ca.pem", &info, &problem), 0);
        options = (struct tls_context_options){
                .os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, TLS_TOKEN_FINGERPRINT_SIZE)};
        assert_int_equal(tls_context_open(&options, &joiner, &problem), 0);
        assert_false(tls_context_identity(joiner, &identity));
        pair_new(&p, joiner, w.one);
        assert_refused(&p, "refused this side", "shows no certificate");
        pair_free(&p);

        options = (struct tls_context_options){
                .os = w.os, .directory = "one", .peer_certificate = TLS_PEER_OPTIONAL};
        assert_int_equal(tls_context_open(&options, &open_door, &problem), 0);
        pair_new(&p, joiner, open_door);
        pair_run(&p, 100);
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        assert_false(tls_session_peer(p.server, &identity));
        assert_true(tls_session_peer(p.client, &identity)); /* the joiner knows whom it talks to */
        assert_int_equal(identity.node_id, 1);
        pair_free(&p);
        /* One that is shown is verified all the same. */
        authority_make(w.os, "other-ca", cluster_b);
        node_make(w.os, "other-ca", "other", 7);
        tls_context_close(&w.two);
        w.two = context_open(w.os, "other");
        pair_new(&p, w.two, open_door);
        assert_refused(&p, "not signed by", "refused");
        pair_free(&p);
        tls_context_close(&joiner);
        tls_context_close(&open_door);
        world_close(&w);
}

/* What a token promises: nobody but the cluster that made it hears the secret. */
TEST(session, a_joiner_refuses_every_cluster_but_the_one_of_its_token)
{
        struct tls_context_options options;
        struct tls_context *joiner, *server;
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
        struct tls_certificate_info info;
        struct tls_problem problem;
        struct world w;
        struct pair p;
        unsigned i;

        world_open(&w);
        assert_int_equal(tls_certificate_info(w.os, "one", "ca.pem", &info, &problem), 0);
        options = (struct tls_context_options){
                .os = w.os, .directory = "one", .peer_certificate = TLS_PEER_OPTIONAL};
        assert_int_equal(tls_context_open(&options, &server, &problem), 0);
        for (i = 0; i < TLS_FINGERPRINT_SIZE; i++) {
                memcpy(fingerprint, info.fingerprint, sizeof fingerprint);
                fingerprint[i] ^= 1;
                options =
                        (struct tls_context_options){.os = w.os, .ca_fingerprint = bytes_of(fingerprint, 32)};
                assert_int_equal(tls_context_open(&options, &joiner, &problem), 0);
                pair_new(&p, joiner, server);
                assert_refused(&p, "not the one that the token names", "refused this side");
                pair_free(&p);
                tls_context_close(&joiner);
        }
        tls_context_close(&server);
        world_close(&w);
}

/* The CA's fingerprint is no secret: who sends its certificate along without being signed by it is refused.
 */
TEST(session, a_joiner_is_not_taken_in_by_a_foreign_chain_with_the_right_authority_in_it)
{
        struct buffer forged = {0}, real = {0};
        struct tls_context_options options;
        struct tls_context *joiner, *server;
        struct tls_certificate_info info;
        struct tls_problem problem;
        struct world w;
        struct pair p;

        world_open(&w);
        assert_int_equal(tls_certificate_info(w.os, "one", "ca.pem", &info, &problem), 0);
        /* The forger's server: its own certificate, and the cluster's CA in place of its own in the chain.
         * The room refuses to load that, which is where it ends for an honest node; a joiner of the forger's
         * own CA then shows that the fingerprint decides. */
        authority_make(w.os, "forged-ca", cluster_a);
        node_make(w.os, "forged-ca", "forged", 1);
        assert_int_equal(os_read_whole(w.os, "ca/ca.pem", TLS_PEM_SIZE_MAX, &real), 0);
        assert_int_equal(os_read_whole(w.os, "forged/ca.pem", TLS_PEM_SIZE_MAX, &forged), 0);
        options = (struct tls_context_options){
                .os = w.os, .directory = "forged", .peer_certificate = TLS_PEER_OPTIONAL};
        assert_int_equal(tls_context_open(&options, &server, &problem), 0);
        options = (struct tls_context_options){.os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, 16)};
        assert_int_equal(tls_context_open(&options, &joiner, &problem), 0);
        pair_new(&p, joiner, server);
        assert_refused(&p, "not the one that the token names", "refused this side");
        pair_free(&p);
        assert_int_equal(os_replace_whole(w.os, "forged/ca.pem", buffer_bytes(&real)), 0);
        assert_int_equal(tls_context_reload(server, &problem), TLS_INVALID);
        tls_context_close(&joiner);
        tls_context_close(&server);
        buffer_fini(&forged);
        buffer_fini(&real);
        world_close(&w);
}

TEST(session, what_is_no_tls_or_was_changed_on_the_way_fails)
{
        struct buffer plain = {0};
        struct world w;
        struct pair p;
        size_t i, flips = 0;

        world_open(&w);
        pair_new(&p, w.one, w.two);
        assert_int_equal(
                tls_session_feed(p.server, BYTES_LITERAL("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), &plain),
                TLS_FAILED);
        assert_string_equal(tls_session_problem(p.server), "the peer does not speak TLS");
        pair_free(&p);
        /* Any byte of the client's and of the server's words changed: never plaintext. */
        for (i = 0; i < 600; i += 7) {
                struct bytes hello;
                uint8_t *changed;

                pair_new(&p, w.one, w.two);
                pair_run(&p, 1 << 20);
                tls_session_write(p.client, bytes_of(cluster_a, 16));
                hello = tls_session_output(p.client);
                if (i >= hello.size) {
                        pair_free(&p);
                        break;
                }
                changed = memory_new(hello.size);
                memcpy(changed, hello.data, hello.size);
                changed[i] ^= 0x10;
                plain.size = 0;
                tls_session_feed(p.server, bytes_of(changed, hello.size), &plain);
                assert_int_equal(plain.size, 0);
                flips++;
                free(changed);
                pair_free(&p);
        }
        assert_true(flips >= 5);
        buffer_fini(&plain);
        world_close(&w);
}

/* G17: what a stranger sends before it has shown who it is costs a bounded amount of memory. */
TEST(session, a_handshake_without_end_is_given_up)
{
        static const uint8_t endless[] = {0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}; /* a message of 16 MiB */
        uint8_t zeros[16384] = {0};
        struct buffer plain = {0};
        struct world w;
        struct pair p;
        unsigned i;

        world_open(&w);
        pair_new(&p, w.one, w.two);
        tls_session_feed(p.server, bytes_of(endless, sizeof endless), &plain);
        for (i = 0; i < 64 && tls_session_state(p.server) == TLS_HANDSHAKING; i++)
                tls_session_feed(p.server, bytes_of(zeros, sizeof zeros), &plain);
        assert_int_equal(tls_session_state(p.server), TLS_FAILED);
        assert_true(i < 10);
        assert_int_equal(plain.size, 0);
        buffer_fini(&plain);
        pair_free(&p);
        world_close(&w);
}

/* A recorded conversation said again is no conversation. */
TEST(session, a_replayed_client_is_refused)
{
        struct buffer recorded = {0}, plain = {0};
        struct tls_session *again = NULL;
        bool has_moved = true;
        struct world w;
        struct pair p;

        world_open(&w);
        pair_new(&p, w.one, w.two);
        while (has_moved) {
                buffer_add_bytes(&recorded, tls_session_output(p.client));
                has_moved = carry(p.client, p.server, &p.at_server, 4096, &p.flown);
                has_moved |= carry(p.server, p.client, &p.at_client, 4096, &p.flown);
        }
        tls_session_write(p.client, BYTES_LITERAL("hello"));
        buffer_add_bytes(&recorded, tls_session_output(p.client));
        assert_true(carry(p.client, p.server, &p.at_server, 4096, &p.flown));
        assert_int_equal(p.at_server.size, 5);
        assert_int_equal(tls_session_new(w.two, true, &again), 0);
        assert_int_equal(tls_session_feed(again, buffer_bytes(&recorded), &plain), TLS_FAILED);
        assert_int_equal(plain.size, 0);
        tls_session_free(&again);
        buffer_fini(&recorded);
        pair_free(&p);
        world_close(&w);
}

TEST(session, protocols_are_agreed_on_or_refused)
{
        struct tls_context_options options;
        struct tls_context *h2, *h3, *both;
        struct tls_problem problem;
        struct world w;
        struct pair p;

        world_open(&w);
        options = (struct tls_context_options){.os = w.os, .directory = "one", .alpn = "h2,http/1.1"};
        assert_int_equal(tls_context_open(&options, &both, &problem), 0);
        options.alpn = "http/1.1";
        assert_int_equal(tls_context_open(&options, &h2, &problem), 0);
        options.alpn = "h3";
        assert_int_equal(tls_context_open(&options, &h3, &problem), 0);
        options.alpn = "h2,,x";
        assert_int_equal(tls_context_open(&options, &w.two, &problem), TLS_INVALID);
        pair_new(&p, h2, both);
        pair_run(&p, 500);
        assert_string_equal(tls_session_alpn(p.client), "http/1.1");
        assert_string_equal(tls_session_alpn(p.server), "http/1.1");
        pair_free(&p);
        pair_new(&p, both, both);
        pair_run(&p, 500);
        assert_string_equal(tls_session_alpn(p.server), "h2");
        pair_free(&p);
        pair_new(&p, w.one, both);
        pair_run(&p, 500);
        assert_string_equal(tls_session_alpn(p.server), "");
        assert_int_equal(tls_session_state(p.server), TLS_OPEN);
        pair_free(&p);
        pair_new(&p, h3, both);
        assert_refused(&p, "refused this side", "TLS failed");
        pair_free(&p);
        tls_context_close(&both);
        tls_context_close(&h2);
        tls_context_close(&h3);
        world_close(&w);
}

TEST(session, a_reload_serves_new_sessions_and_leaves_old_ones)
{
        struct tls_certificate_info before, after;
        struct tls_problem problem;
        struct buffer bad = {0};
        struct world w;
        struct pair old, new;

        world_open(&w);
        assert_int_equal(tls_node_certificate_make(w.os, "ca", 1, local_names, 2, &problem), 0);
        tls_context_close(&w.one);
        w.one = context_open(w.os, "ca");
        pair_new(&old, w.one, w.two);
        pair_run(&old, 1000);
        assert_int_equal(tls_certificate_info(w.os, "ca", "node.pem", &before, &problem), 0);
        os_sim_shift_wall(w.os, 330 * DAY_US);
        assert_int_equal(tls_certificate_info(w.os, "ca", "node.pem", &before, &problem), 0);
        assert_true(before.is_due);
        assert_int_equal(tls_node_certificate_renew(w.os, "ca", &problem), 0);
        assert_int_equal(tls_certificate_info(w.os, "ca", "node.pem", &after, &problem), 0);
        assert_false(after.is_due);
        assert_string_equal(after.names, "localhost,127.0.0.1");
        assert_memory_equal(&after.identity, &before.identity, sizeof after.identity);
        assert_int_equal(tls_context_reload(w.one, &problem), 0);
        assert_int_equal(tls_context_reload(w.two, &problem), 0);
        os_sim_shift_wall(
                w.os, 30 * DAY_US); /* the first certificate of "ca" has 5 days left, that of "two" too */
        pair_new(&new, w.one, w.two);
        pair_run(&new, 1000);
        assert_int_equal(tls_session_state(new.server), TLS_OPEN);
        os_sim_shift_wall(w.os, 20 * DAY_US);
        pair_free(&new);
        pair_new(&new, w.one, w.two); /* now that of "two" is over */
        assert_refused(&new, "expired", "refused");
        pair_free(&new);
        /* A file that makes no sense leaves what is loaded. */
        buffer_add_string(&bad, "not a certificate");
        assert_int_equal(os_replace_whole(w.os, "ca/node.pem", buffer_bytes(&bad)), 0);
        assert_int_equal(tls_context_reload(w.one, &problem), TLS_INVALID);
        assert_non_null(strstr(problem.text, "node.pem"));
        tls_session_write(old.client, BYTES_LITERAL("still here"));
        pair_run(&old, 1000);
        assert_int_equal(old.at_server.size, 10);
        tls_context_close(&w.one); /* sessions live on */
        tls_session_write(old.client, BYTES_LITERAL("!"));
        pair_run(&old, 1000);
        assert_int_equal(old.at_server.size, 11);
        pair_free(&old);
        buffer_fini(&bad);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(session, both_sides_prove_their_node),
                TEST_ROW(session, bytes_come_whole_in_any_pieces_and_end_in_order),
                TEST_ROW(session, a_certificate_of_another_authority_is_refused),
                TEST_ROW(session, a_forged_authority_of_the_same_cluster_is_refused_by_the_server),
                TEST_ROW(session, expired_and_premature_certificates_are_refused_with_the_date),
                TEST_ROW(session, a_client_without_a_certificate_gets_in_only_where_that_is_allowed),
                TEST_ROW(session, a_joiner_refuses_every_cluster_but_the_one_of_its_token),
                TEST_ROW(session, a_joiner_is_not_taken_in_by_a_foreign_chain_with_the_right_authority_in_it),
                TEST_ROW(session, what_is_no_tls_or_was_changed_on_the_way_fails),
                TEST_ROW(session, a_handshake_without_end_is_given_up),
                TEST_ROW(session, a_replayed_client_is_refused),
                TEST_ROW(session, protocols_are_agreed_on_or_refused),
                TEST_ROW(session, a_reload_serves_new_sessions_and_leaves_old_ones),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
