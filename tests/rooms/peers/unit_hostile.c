/* Strangers at the port of peers (S6, S8, S15, G17): 0 are accepted, each is told why, and what they cost is
 * bounded. */
#include "support.h"

#include <openssl/ssl.h>

#include "peers/room.h"

/* ---- an attacker: raw bytes over a connection, by TLS or not ---- */

struct attacker {
        struct os *os;
        struct os_conn *conn;
        struct tls_session *tls;
        struct buffer say;   /* plaintext to say when it is possible */
        struct buffer heard; /* plaintext */
        struct buffer wire;  /* what was sent, for replays */
        bool is_closed;
};

static void attacker_flush(struct attacker *a)
{
        struct bytes piece = buffer_bytes(&a->say);

        if (a->tls) {
                if (tls_session_state(a->tls) == TLS_OPEN && a->say.size) {
                        tls_session_write(a->tls, piece);
                        buffer_clear(&a->say);
                }
                piece = tls_session_output(a->tls);
        }
        buffer_add_bytes(&a->wire, piece);
        if (piece.size)
                os_conn_send(a->conn, &piece, 1);
        if (a->tls)
                tls_session_sent(a->tls);
        else
                buffer_clear(&a->say);
}

static void attacker_data(void *arg, struct bytes data)
{
        struct attacker *a = arg;

        if (!a->tls) {
                buffer_add_bytes(&a->heard, data);
                return;
        }
        tls_session_feed(a->tls, data, &a->heard);
        attacker_flush(a);
}

static void attacker_closed(void *arg)
{
        struct attacker *a = arg;

        a->is_closed = true;
}

static void attacker_open(void *arg)
{
        attacker_flush(arg);
}

static const struct os_conn_handler attacker_handler = {
        .on_data = attacker_data, .on_close = attacker_closed, .on_open = attacker_open};

static void attack(
        struct attacker *a, struct os *os, uint16_t port, struct tls_context *tls, struct bytes say)
{
        memset(a, 0, sizeof *a);
        a->os = os;
        buffer_add_bytes(&a->say, say);
        if (tls)
                assert_int_equal(tls_session_new(tls, false, &a->tls), 0);
        assert_int_equal(os_connect(os, "127.0.0.1", port, &attacker_handler, a, &a->conn), 0);
}

static void attacker_fini(struct attacker *a)
{
        if (!a->is_closed)
                os_conn_close(a->conn);
        while (!a->is_closed)
                run_for(a->os, 1);
        tls_session_free(&a->tls);
        buffer_fini(&a->say);
        buffer_fini(&a->heard);
        buffer_fini(&a->wire);
}

static bool is_closed(void *arg)
{
        return ((struct attacker *)arg)->is_closed;
}

/* ---- the attacked: node 1, which knows nodes 2 and 3 ---- */

struct world {
        struct os *os;
        struct tls_context *tls[4]; /* of nodes 1 to 3 */
        struct node one;
};

static void world_open(struct world *w, bool has_tls)
{
        struct tls_problem problem;
        char directory[8];
        unsigned i;

        memset(w, 0, sizeof *w);
        assert_int_equal(os_real_new(&w->os), 0);
        os_memory_disk(w->os);
        assert_int_equal(tls_authority_make(w->os, "ca", cluster_a, &problem), 0);
        for (i = 1; i <= 3; i++) {
                snprintf(directory, sizeof directory, "n%u", i);
                certify(w->os, "ca", directory, i);
                w->tls[i] = context_open(w->os, directory);
        }
        node_open(&w->one, w->os, &(struct node_wish){.id = 1, .tls = has_tls ? w->tls[1] : NULL});
        assert_int_equal(peers_set_member(w->one.peers, 2, ""), 0);
        assert_int_equal(peers_set_member(w->one.peers, 3, ""), 0);
}

static void world_close(struct world *w)
{
        unsigned i;

        node_close(&w->one);
        os_free(&w->os);
        for (i = 1; i <= 3; i++)
                tls_context_close(&w->tls[i]);
}

static struct hello hello_of(uint64_t node)
{
        struct hello h = {.kind = HELLO_CONTROL,
                .identity = {.node_id = node, .version_min = 1, .version_max = 1, .name = "mallory"},
                .instance = 666,
                .dial = 1};

        memcpy(h.identity.cluster_uuid, cluster_a, 16);
        return h;
}

/* Says a hello and, hoping for the best, a ping and a message. */
static void say_hello(struct buffer *out, const struct hello *hello)
{
        struct bytes number = BYTES_LITERAL("\x01\0\0\0\0\0\0\0");

        hello_add(out, hello);
        frame_add(out, FRAME_PING, 0, NULL, &number, 1);
        frame_add(out, TYPE_NUMBERED, 1, store_one, &number, 1);
}

static void assert_not_let_in(struct world *w, struct attacker *a, const char *why)
{
        assert_true(run_until(w->os, is_closed, a, 7000));
        assert_int_equal(w->one.ups, 0);
        assert_int_equal(w->one.heard[2][PEERS_CONTROL].count + w->one.heard[3][PEERS_CONTROL].count, 0);
        if (!strstr(w->one.stranger, why))
                fail_msg("\"%s\" does not say \"%s\"", w->one.stranger, why);
        run_for(w->os, 2);
        assert_int_equal(peers_totals(w->one.peers).strangers, 0);
        attacker_fini(a);
}

static void refuse_hello(struct world *w, struct tls_context *tls, const struct hello *hello, const char *why)
{
        struct buffer out = {0};
        struct attacker a;
        unsigned before = w->one.strangers;

        say_hello(&out, hello);
        attack(&a, w->os, peers_port(w->one.peers), tls, buffer_bytes(&out));
        assert_not_let_in(w, &a, why);
        assert_int_equal(w->one.strangers, before + 1);
        buffer_fini(&out);
}

TEST(hostile, the_world_of_these_tests_lets_an_honest_node_in)
{
        unsigned i;

        for (i = 0; i < 2; i++) {
                struct hello hello = hello_of(2);
                struct buffer out = {0};
                struct attacker a;
                struct world w;

                world_open(&w, i == 1);
                say_hello(&out, &hello);
                attack(&a, w.os, peers_port(w.one.peers), i ? w.tls[2] : NULL, buffer_bytes(&out));
                run_for(w.os, 100);
                assert_int_equal(w.one.ups, 1);
                assert_int_equal(w.one.heard[2][PEERS_CONTROL].count, 1);
                assert_int_equal(w.one.strangers, 0);
                attacker_fini(&a);
                buffer_fini(&out);
                world_close(&w);
        }
}

TEST(hostile, a_hello_of_the_wrong_node_cluster_epoch_or_version_is_refused_by_name)
{
        struct hello hello;
        struct world w;

        world_open(&w, true);
        hello = hello_of(3); /* node 2's certificate */
        refuse_hello(
                &w, w.tls[2], &hello, "\"mallory\" says that it is node 3, its certificate is of node 2");
        hello = hello_of(1);
        refuse_hello(&w, w.tls[1], &hello, "\"mallory\" says that it is node 1, which \"n1\" is");
        hello = hello_of(2);
        memcpy(hello.identity.cluster_uuid, cluster_b, 16);
        refuse_hello(&w, w.tls[2], &hello, "\"mallory\" is of cluster b0010203-0405-");
        hello = hello_of(2);
        hello.identity.epoch = 1;
        refuse_hello(&w, w.tls[2], &hello, "epoch 1");
        hello = hello_of(2);
        hello.identity.version_min = hello.identity.version_max = 2;
        refuse_hello(&w, w.tls[2], &hello, "versions 2 to 2");
        hello = hello_of(2);
        hello.wanted_node = 3;
        refuse_hello(&w, w.tls[2], &hello, "looks for node 3");
        peers_remove_member(w.one.peers, 2);
        hello = hello_of(2);
        refuse_hello(&w, w.tls[2], &hello, "no member");
        assert_true(facts_of(&w.one, FACT_peer_refused) >= 7);
        world_close(&w);
}

/* Every kind of wrong certificate: none, of another CA, of a forged CA of the same name, expired. */
TEST(hostile, who_cannot_prove_its_node_is_refused)
{
        struct tls_context_options options;
        struct tls_context *tls;
        struct tls_certificate_info info;
        struct tls_problem problem;
        struct buffer file = {0};
        struct hello hello = hello_of(2);
        struct os *past;
        struct world w;
        unsigned i;
        static const char *const files[] = {"old/ca.pem", "old/node.pem", "old/node.key"};

        world_open(&w, true);
        assert_int_equal(tls_certificate_info(w.os, "ca", "ca.pem", &info, &problem), 0);
        options = (struct tls_context_options){.os = w.os, .ca_fingerprint = bytes_of(info.fingerprint, 32)};
        assert_int_equal(tls_context_open(&options, &tls, &problem), 0);
        refuse_hello(&w, tls, &hello, "\"mallory\" shows no certificate");
        hello = hello_of(3); /* the same of node 2 again would not be told so soon */
        hello.kind = HELLO_BULK;
        refuse_hello(&w, tls, &hello, "shows no certificate");
        hello = hello_of(2);
        tls_context_close(&tls);

        assert_int_equal(tls_authority_make(w.os, "ca-b", cluster_b, &problem), 0);
        assert_int_equal(tls_authority_make(w.os, "forged", cluster_a, &problem), 0);
        assert_int_equal(tls_node_certificate_make(w.os, "ca-b", 2, NULL, 0, &problem), 0);
        assert_int_equal(tls_node_certificate_make(w.os, "forged", 2, NULL, 0, &problem), 0);
        tls = context_open(w.os, "ca-b");
        refuse_hello(&w, tls, &hello, "refused this side"); /* its own check of node 1 comes first */
        tls_context_close(&tls);
        tls = context_open(w.os, "forged");
        refuse_hello(&w, tls, &hello, "refused this side");
        tls_context_close(&tls);

        /* The cluster's own CA, a certificate of two years ago: made on a machine whose clock says so. */
        assert_int_equal(os_sim_new(1, &past), 0);
        os_sim_shift_wall(
                past, (int64_t)os_wall_us(w.os) - (int64_t)os_wall_us(past) - (int64_t)730 * 86400 * 1000000);
        for (i = 0; i < 2; i++) {
                static const char *const authority[] = {"ca/ca.pem", "ca/ca.key"};

                buffer_clear(&file);
                assert_int_equal(os_dir_make(past, "ca"), 0);
                assert_int_equal(os_read_whole(w.os, authority[i], TLS_PEM_SIZE_MAX, &file), 0);
                assert_int_equal(os_replace_whole(past, authority[i], buffer_bytes(&file)), 0);
        }
        certify(past, "ca", "old", 2);
        assert_int_equal(os_dir_make(w.os, "old"), 0);
        for (i = 0; i < COUNT_OF(files); i++) {
                buffer_clear(&file);
                assert_int_equal(os_read_whole(past, files[i], TLS_PEM_SIZE_MAX, &file), 0);
                assert_int_equal(os_replace_whole(w.os, files[i], buffer_bytes(&file)), 0);
        }
        tls = context_open(w.os, "old");
        refuse_hello(&w, tls, &hello, "the peer's certificate expired on 20");
        tls_context_close(&tls);
        refuse_hello(&w, NULL, &hello, "does not speak TLS");
        buffer_fini(&file);
        os_free(&past);
        world_close(&w);
}

TEST(hostile, bytes_that_make_no_sense_end_the_connection)
{
        struct hello hello = hello_of(2);
        struct buffer out = {0}, big = {0};
        uint8_t zeros[600] = {0};
        struct bytes piece = bytes_of(zeros, sizeof zeros), none = BYTES_EMPTY;
        struct attacker a;
        struct world w;
        size_t i;

        world_open(&w, false);
        attack(&a, w.os, peers_port(w.one.peers), NULL, BYTES_LITERAL("GET / HTTP/1.1\r\n\r\n"));
        assert_not_let_in(&w, &a, "larger than what is taken now");
        attack(&a, w.os, peers_port(w.one.peers), NULL, BYTES_LITERAL("\0\0\0\0\0\0\0\0"));
        assert_not_let_in(&w, &a, "shorter than its header");
        frame_add(&out, FRAME_HELLO, 0, NULL, &piece, 1); /* larger than any hello */
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        assert_not_let_in(&w, &a, "larger than what is taken now");
        buffer_clear(&out);
        frame_add(&out, FRAME_HELLO, 0, NULL, &none, 1);
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        assert_not_let_in(&w, &a, "no node of Nilometer");
        buffer_clear(&out);
        frame_add(&out, TYPE_NUMBERED, 1, store_one, &none, 1); /* a message before the hello */
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        assert_not_let_in(&w, &a, "did not begin with a hello");
        buffer_clear(&out);
        hello_add(&out, &hello);
        for (i = 8; i < out.size; i += 5) { /* any byte changed */
                out.data[i] ^= 0x20;
                attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
                out.data[i] ^= 0x20;
                assert_true(run_until(w.os, is_closed, &a, 3000));
                assert_int_equal(w.one.ups, 0);
                attacker_fini(&a);
        }
        buffer_fini(&out);
        buffer_fini(&big);
        world_close(&w);
}

/* A frame that is cut off, and one that claims the largest size: nothing is gathered for a claim. */
TEST(hostile, a_member_that_breaks_a_frame_loses_its_link_only)
{
        struct hello hello = hello_of(2);
        struct buffer out = {0};
        struct attacker a;
        struct world w;
        uint8_t head[8];

        world_open(&w, false);
        say_hello(&out, &hello);
        put_u32(head, 0xfffffff0);
        put_u32(head + 4, 0);
        buffer_add(&out, head, 8);
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        assert_true(run_until(w.os, is_closed, &a, 3000));
        assert_int_equal(w.one.ups, 1);
        assert_int_equal(w.one.downs, 1);
        assert_int_equal(w.one.heard[2][PEERS_CONTROL].count, 1);
        attacker_fini(&a);
        buffer_clear(&out);
        hello.dial = 2;
        say_hello(&out, &hello);
        out.size -= 3; /* the message lacks its end */
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        run_for(w.os, 50);
        assert_true(w.one.is_up[2]);
        attacker_fini(&a);
        run_for(w.os, 50);
        assert_false(w.one.is_up[2]);
        assert_int_equal(w.one.heard[2][PEERS_CONTROL].count, 1);
        buffer_fini(&out);
        world_close(&w);
}

TEST(hostile, a_recorded_conversation_opens_nothing)
{
        struct hello hello = hello_of(2);
        struct buffer out = {0}, recorded = {0};
        struct attacker a;
        struct world w;

        world_open(&w, true);
        say_hello(&out, &hello);
        attack(&a, w.os, peers_port(w.one.peers), w.tls[2], buffer_bytes(&out));
        run_for(w.os, 100);
        assert_int_equal(w.one.ups, 1);
        buffer_add_bytes(&recorded, buffer_bytes(&a.wire));
        attacker_fini(&a);
        run_for(w.os, 20);
        memset(w.one.heard, 0, sizeof w.one.heard);
        w.one.ups = 0;
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&recorded));
        assert_not_let_in(&w, &a, "TLS failed");
        /* The words of the hello with a certificate of one's own: that of node 3 is no use for being node 2.
         */
        refuse_hello(&w, w.tls[3], &hello, "its certificate is of node 3");
        buffer_fini(&out);
        buffer_fini(&recorded);
        world_close(&w);
}

/* Who connects and says nothing, or too much, or is one of many. */
TEST(hostile, strangers_are_bounded_in_number_bytes_and_time)
{
        enum { MANY = STRANGERS_OF_ADDRESS_MAX + 4 };
        static struct attacker many[MANY];
        struct buffer out = {0};
        struct attacker a;
        struct world w;
        unsigned i, open = 0;

        world_open(&w, true);
        for (i = 0; i < MANY; i++)
                attack(&many[i], w.os, peers_port(w.one.peers), NULL, BYTES_EMPTY);
        run_for(w.os, 700);
        for (i = 0; i < MANY; i++)
                open += !many[i].is_closed;
        assert_int_equal(open, STRANGERS_OF_ADDRESS_MAX);
        assert_int_equal(peers_totals(w.one.peers).strangers, STRANGERS_OF_ADDRESS_MAX);
        assert_non_null(strstr(w.one.stranger, "too many connections"));
        assert_true(w.one.strangers <= 2 * TOLD_PER_SECOND_MAX);
        /* After the time of a greeting they are gone, and there is room for the honest. */
        run_for(w.os, 5200);
        assert_int_equal(peers_totals(w.one.peers).strangers, 0);
        assert_non_null(strstr(w.one.stranger, "in time"));
        for (i = 0; i < MANY; i++)
                attacker_fini(&many[i]);
        /* A handshake that goes on and on. */
        buffer_reserve(&out, 2 * WIRE_STRANGER_SIZE_MAX);
        while (out.size < 2 * WIRE_STRANGER_SIZE_MAX)
                buffer_add(&out, "\x16\x03\x01\x00\x01\x00", 6);
        attack(&a, w.os, peers_port(w.one.peers), NULL, buffer_bytes(&out));
        assert_not_let_in(&w, &a, "");
        buffer_fini(&out);
        world_close(&w);
}

/* A stranger with a TLS engine of its own that is not as well-behaved as ours. */
struct chatter {
        struct os *os;
        struct os_conn *conn;
        SSL *ssl;
        bool is_closed;
        uint64_t sent;
        struct os_timer again;
};

static void chatter_flush(struct chatter *c)
{
        char *data;
        long size = BIO_get_mem_data(SSL_get_wbio(c->ssl), &data);
        struct bytes piece = bytes_of(data, (size_t)size);

        if (size > 0)
                os_conn_send(c->conn, &piece, 1);
        c->sent += (uint64_t)size;
        (void)BIO_reset(SSL_get_wbio(c->ssl));
}

static void chatter_talk(struct os_timer *timer)
{
        struct chatter *c = timer->arg;
        char heard[256];
        unsigned i;

        if (c->is_closed)
                return;
        if (SSL_do_handshake(c->ssl) == 1) {
                (void)SSL_read(c->ssl, heard, sizeof heard);
                for (i = 0; i < 50; i++) { /* says nothing, by new keys each time */
                        SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
                        (void)SSL_do_handshake(c->ssl);
                }
        }
        chatter_flush(c);
        os_timer_start(c->os, timer, 1000);
}

static void chatter_data(void *arg, struct bytes data)
{
        struct chatter *c = arg;

        BIO_write(SSL_get_rbio(c->ssl), data.data, (int)data.size);
}

static void chatter_closed(void *arg)
{
        ((struct chatter *)arg)->is_closed = true;
}

static bool is_chatter_closed(void *arg)
{
        return ((struct chatter *)arg)->is_closed;
}

TEST(hostile, a_handshake_that_is_over_and_no_hello_is_bounded_in_bytes)
{
        static const struct os_conn_handler handler = {.on_data = chatter_data, .on_close = chatter_closed};
        SSL_CTX *engine = SSL_CTX_new(TLS_client_method());
        struct chatter c = {0};
        struct world w;

        world_open(&w, true);
        SSL_CTX_set_verify(engine, SSL_VERIFY_NONE, NULL);
        c.os = w.os;
        c.ssl = SSL_new(engine);
        SSL_set_bio(c.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(c.ssl);
        c.again = (struct os_timer){.fn = chatter_talk, .arg = &c};
        assert_int_equal(os_connect(w.os, "127.0.0.1", peers_port(w.one.peers), &handler, &c, &c.conn), 0);
        os_timer_start(w.os, &c.again, 0);
        assert_true(run_until(w.os, is_chatter_closed, &c, 4000)); /* long before its time is over */
        assert_true(c.sent > WIRE_STRANGER_SIZE_MAX / 2);          /* it did get to say something */
        assert_non_null(strstr(w.one.stranger, "sent too much before it said who it is"));
        assert_int_equal(w.one.ups, 0);
        os_timer_stop(&c.again);
        SSL_free(c.ssl);
        SSL_CTX_free(engine);
        world_close(&w);
}

TEST(hostile, an_ask_is_one_and_small)
{
        struct hello hello = hello_of(0);
        struct buffer out = {0};
        struct bytes piece = BYTES_LITERAL("x");
        struct attacker a;
        struct world w;
        uint8_t head[8] = {0};

        world_open(&w, true);
        memset(hello.identity.cluster_uuid, 0, 16);
        hello.kind = HELLO_ASK;
        hello_add(&out, &hello);
        frame_add(&out, FRAME_ASK, 0, NULL, &piece, 1);
        frame_add(&out, FRAME_ASK, 0, NULL, &piece, 1);
        attack(&a, w.os, peers_port(w.one.peers), w.tls[3], buffer_bytes(&out));
        assert_not_let_in(&w, &a, "ask one thing");
        assert_int_equal(w.one.asks, 1);
        buffer_clear(&out);
        hello_add(&out, &hello);
        put_u32(head, 20 + PEERS_ASK_SIZE_MAX + 1);
        buffer_add(&out, head, 8);
        attack(&a, w.os, peers_port(w.one.peers), w.tls[3], buffer_bytes(&out));
        assert_true(run_until(w.os, is_closed, &a, 3000));
        assert_int_equal(w.one.asks, 1);
        attacker_fini(&a);
        /* Of another cluster. */
        memcpy(hello.identity.cluster_uuid, cluster_b, 16);
        refuse_hello(&w, w.tls[3], &hello, "is of cluster b0");
        buffer_fini(&out);
        world_close(&w);
}

/* A second process with a node's id does not push out the first, with or without TLS. */
TEST(hostile, the_same_node_twice_is_refused)
{
        struct hello first = hello_of(2), second = hello_of(2);
        struct buffer out = {0}, pings = {0};
        struct bytes number = BYTES_LITERAL("\x01\0\0\0\0\0\0\0");
        struct attacker a, b;
        struct world w;

        world_open(&w, true);
        say_hello(&out, &first);
        attack(&a, w.os, peers_port(w.one.peers), w.tls[2], buffer_bytes(&out));
        run_for(w.os, 100);
        assert_int_equal(w.one.ups, 1);
        frame_add(&pings, FRAME_PING, 0, NULL, &number, 1);
        buffer_add_bytes(&a.say, buffer_bytes(&pings));
        attacker_flush(&a);
        second.instance = 667;
        buffer_clear(&out);
        say_hello(&out, &second);
        attack(&b, w.os, peers_port(w.one.peers), w.tls[2], buffer_bytes(&out));
        assert_true(run_until(w.os, is_closed, &b, 3000));
        assert_non_null(strstr(
                w.one.stranger, "\"mallory\" says that it is node 2, which is connected from 127.0.0.1:"));
        assert_true(w.one.is_up[2]);
        assert_int_equal(w.one.downs, 0);
        attacker_fini(&b);
        /* When the first is silent for a while, it is taken to be gone: the node was started again. */
        run_for(w.os, 800);
        attack(&b, w.os, peers_port(w.one.peers), w.tls[2], buffer_bytes(&out));
        w.one.heard[2][PEERS_CONTROL].last = 0;
        run_for(w.os, 100);
        assert_true(w.one.is_up[2]);
        assert_int_equal(w.one.downs, 1);
        assert_int_equal(w.one.ups, 2);
        attacker_fini(&a);
        attacker_fini(&b);
        buffer_fini(&out);
        buffer_fini(&pings);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(hostile, the_world_of_these_tests_lets_an_honest_node_in),
                TEST_ROW(hostile, a_hello_of_the_wrong_node_cluster_epoch_or_version_is_refused_by_name),
                TEST_ROW(hostile, who_cannot_prove_its_node_is_refused),
                TEST_ROW(hostile, bytes_that_make_no_sense_end_the_connection),
                TEST_ROW(hostile, a_member_that_breaks_a_frame_loses_its_link_only),
                TEST_ROW(hostile, a_recorded_conversation_opens_nothing),
                TEST_ROW(hostile, strangers_are_bounded_in_number_bytes_and_time),
                TEST_ROW(hostile, a_handshake_that_is_over_and_no_hello_is_bounded_in_bytes),
                TEST_ROW(hostile, an_ask_is_one_and_small),
                TEST_ROW(hostile, the_same_node_twice_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
