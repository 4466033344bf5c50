/* Links over real sockets on loopback: messages, room, membership, asking. */
#include "support.h"

struct pair {
        struct os *os;
        struct tls_context *tls[3]; /* of nodes 1 and 2, files in memory */
        struct node one, two;
};

static bool are_up(void *arg)
{
        struct pair *p = arg;

        return p->one.is_up[2] && p->two.is_up[1] && peers_is_up(p->one.peers, 2, PEERS_BULK) &&
               peers_is_up(p->two.peers, 1, PEERS_BULK);
}

static void pair_open(struct pair *p, bool has_tls)
{
        struct tls_problem problem;

        memset(p, 0, sizeof *p);
        assert_int_equal(os_real_new(&p->os), 0);
        os_memory_disk(p->os);
        if (has_tls) {
                assert_int_equal(tls_authority_make(p->os, "ca", cluster_a, &problem), 0);
                certify(p->os, "ca", "n1", 1);
                certify(p->os, "ca", "n2", 2);
                p->tls[1] = context_open(p->os, "n1");
                p->tls[2] = context_open(p->os, "n2");
        }
        node_open(&p->one, p->os, &(struct node_wish){.id = 1, .tls = p->tls[1]});
        node_open(&p->two, p->os, &(struct node_wish){.id = 2, .tls = p->tls[2]});
        node_know(&p->one, &p->two);
        node_know(&p->two, &p->one);
        assert_true(run_until(p->os, are_up, p, 5000));
}

static void pair_close(struct pair *p)
{
        node_close(&p->one);
        node_close(&p->two);
        os_free(&p->os);
        tls_context_close(&p->tls[1]);
        tls_context_close(&p->tls[2]);
}

static bool is_all_heard(void *arg)
{
        struct pair *p = arg;
        unsigned link;

        for (link = 0; link < PEERS_LINKS; link++)
                if (p->two.heard[1][link].last != p->one.said[2][link] ||
                        p->one.heard[2][link].last != p->two.said[1][link])
                        return false;
        return true;
}

static void messages_cross(bool has_tls)
{
        static const size_t sizes[] = {8, 9, 100, 16384, 65536, 300000, 1000000};
        struct peers_node_stats stats;
        struct pair p;
        unsigned i;

        pair_open(&p, has_tls);
        for (i = 0; i < COUNT_OF(sizes) * 3; i++) {
                assert_true(node_say(&p.one, 2, PEERS_CONTROL, sizes[i % COUNT_OF(sizes)]));
                assert_true(node_say(&p.two, 1, PEERS_CONTROL, sizes[i % COUNT_OF(sizes)]));
                assert_true(node_say(&p.one, 2, PEERS_BULK, sizes[i % COUNT_OF(sizes)]));
                assert_true(node_say(&p.two, 1, PEERS_BULK, sizes[i % COUNT_OF(sizes)]));
        }
        assert_true(run_until(p.os, is_all_heard, &p, 5000));
        assert_int_equal(p.one.heard[2][PEERS_BULK].count, COUNT_OF(sizes) * 3);
        assert_int_equal(peers_stats(p.one.peers, &stats, 1), 1);
        assert_int_equal(stats.node, 2);
        assert_string_equal(stats.name, "n2");
        assert_int_equal(stats.version, 1);
        assert_int_equal(stats.links[PEERS_CONTROL].sent_messages, COUNT_OF(sizes) * 3);
        assert_int_equal(stats.links[PEERS_CONTROL].received_messages, COUNT_OF(sizes) * 3);
        assert_true(stats.links[PEERS_CONTROL].received_bytes > 4000000);
        assert_int_equal(stats.links[PEERS_CONTROL].queued_bytes, 0);
        assert_string_equal(stats.problem, "");
        run_for(p.os, 600);
        assert_int_equal(peers_stats(p.one.peers, &stats, 1), 1);
        assert_true(stats.round_trip_us > 0 && stats.round_trip_us < 1000000);
        assert_true(os_monotonic_us(p.os) - peers_heard_us(p.one.peers, 2) < 500000);
        assert_int_equal(p.one.ups, 1);
        assert_int_equal(p.one.downs + p.two.downs, 0);
        assert_int_equal(facts_of(&p.one, FACT_node_discovered), 1);
        assert_int_equal(facts_of(&p.one, FACT_peer_link_up), 2);
        assert_int_equal(facts_of(&p.one, FACT_peer_refused), 0);
        pair_close(&p);
}

TEST(links, messages_cross_in_order_in_clear)
{
        messages_cross(false);
}

TEST(links, messages_cross_in_order_with_tls)
{
        messages_cross(true);
}

/* G18: a queue takes so much and one message more, refuses the next whole, and says when to go on. */
static void queue_is_bounded(bool has_tls)
{
        struct peers_node_stats stats;
        struct pair p;
        unsigned sent = 0, rounds;

        pair_open(&p, has_tls);
        while (node_say(&p.one, 2, PEERS_BULK, 1000000)) {
                sent++;
                assert_true(sent < 100);
        }
        assert_true(sent >= 8); /* some of it is with the kernel */
        assert_int_equal(peers_room(p.one.peers, 2, PEERS_BULK), 0);
        assert_true(peers_room(p.one.peers, 2, PEERS_CONTROL) > 0); /* the other link is not touched */
        assert_int_equal(peers_stats(p.one.peers, &stats, 1), 1);
        assert_true(stats.links[PEERS_BULK].queued_bytes < PEERS_BULK_QUEUE_SIZE_MAX + 1100000);
        assert_int_equal(stats.links[PEERS_BULK].refused_messages, 1);
        assert_int_equal(p.one.rooms, 0);
        for (rounds = 1; rounds <= 10; rounds++) {
                unsigned before = p.one.rooms;

                assert_true(run_until(p.os, is_all_heard, &p, 5000));
                run_for(p.os, 2);
                assert_true(p.one.rooms > before);
                while (node_say(&p.one, 2, PEERS_BULK, 1000000))
                        ;
        }
        assert_true(run_until(p.os, is_all_heard, &p, 5000));
        assert_int_equal(p.one.downs, 0);
        pair_close(&p);
}

TEST(links, a_full_queue_refuses_and_says_when_there_is_room)
{
        queue_is_bounded(false);
}

TEST(links, a_full_queue_refuses_and_says_when_there_is_room_with_tls)
{
        queue_is_bounded(true);
}

static uint64_t big_size;

static void on_big(struct node *n, uint64_t from, struct bytes body)
{
        (void)n;
        (void)from;
        big_size = body.size;
}

static bool has_big(void *arg)
{
        (void)arg;
        return big_size != 0;
}

/* The largest entry of a log goes through whole. */
TEST(links, the_largest_message_crosses)
{
        uint8_t *body = memory_new(PEERS_BODY_SIZE_MAX);
        struct bytes piece = bytes_of(body, PEERS_BODY_SIZE_MAX);
        struct pair p;

        pair_open(&p, true);
        p.two.on_message = on_big;
        big_size = 0;
        assert_true(peers_send(p.one.peers, 2, PEERS_CONTROL, store_one, TYPE_OTHER, &piece, 1));
        assert_false(node_say(&p.one, 2, PEERS_CONTROL, 8));
        assert_true(run_until(p.os, has_big, NULL, 8000));
        assert_int_equal(big_size, PEERS_BODY_SIZE_MAX);
        run_for(p.os, 5);
        assert_true(p.one.rooms > 0);
        assert_true(node_say(&p.one, 2, PEERS_CONTROL, 8));
        assert_true(run_until(p.os, is_all_heard, &p, 1000));
        assert_int_equal(p.one.downs, 0);
        free(body);
        pair_close(&p);
}

static bool is_removed(void *arg)
{
        struct pair *p = arg;

        return !p->two.is_up[1] && p->two.strangers > 0;
}

TEST(links, a_removed_member_is_closed_and_refused_until_it_is_one_again)
{
        struct peers_node_stats stats;
        struct pair p;

        pair_open(&p, true);
        peers_remove_member(p.one.peers, 2);
        assert_false(peers_is_up(p.one.peers, 2, PEERS_CONTROL));
        assert_false(node_say(&p.one, 2, PEERS_CONTROL, 8));
        assert_int_equal(p.one.downs, 0); /* who removes a node knows that it is gone */
        assert_true(run_until(p.os, is_removed, &p, 3000));
        assert_non_null(
                strstr(p.two.stranger, "refused there: \"n2\" (node 2) is no member of this cluster"));
        assert_non_null(strstr(p.one.stranger, "\"n2\" (node 2) is no member of this cluster"));
        assert_true(peers_stats(p.two.peers, &stats, 1) == 1 && stats.is_refused);
        p.one.is_up[2] = false;
        node_know(&p.one, &p.two);
        assert_true(run_until(p.os, are_up, &p, 3000));
        assert_true(peers_stats(p.two.peers, &stats, 1) == 1 && !stats.is_refused);
        pair_close(&p);
}

/* Who wanted to say something before there was a link is told when there is one. */
TEST(links, a_refusal_before_the_link_is_up_is_followed_by_room)
{
        struct pair p;

        memset(&p, 0, sizeof p);
        assert_int_equal(os_real_new(&p.os), 0);
        node_open(&p.one, p.os, &(struct node_wish){.id = 1});
        node_open(&p.two, p.os, &(struct node_wish){.id = 2});
        assert_int_equal(peers_set_member(p.one.peers, 2, "127.0.0.1:1"), 0); /* nobody is there */
        assert_false(node_say(&p.one, 2, PEERS_BULK, 8));
        assert_false(node_say(&p.one, 2, PEERS_CONTROL, 8));
        assert_int_equal(peers_room(p.one.peers, 2, PEERS_BULK), 0);
        run_for(p.os, 50);
        node_know(&p.one, &p.two); /* it has moved */
        assert_int_equal(peers_set_member(p.two.peers, 1, ""), 0);
        assert_true(run_until(p.os, are_up, &p, 3000));
        run_for(p.os, 5);
        assert_int_equal(p.one.rooms, 2);
        assert_int_equal(p.two.rooms, 0);
        pair_close(&p);
}

/* What a handler does to the room it is called by: everything is allowed. */
static unsigned handler_deed;

static void on_message_do(struct node *n, uint64_t from, struct bytes body)
{
        struct bytes piece = body;

        n->is_up[from] = handler_deed == 3; /* nothing is said of an end that is asked for */
        switch (handler_deed) {
        case 0:
                peers_remove_member(n->peers, from);
                break;
        case 1:
                peers_close(&n->peers);
                break;
        case 2:
                peers_remove_member(n->peers, from);
                assert_int_equal(peers_set_member(n->peers, from, ""), 0);
                break;
        default:
                assert_true(peers_send(n->peers, from, PEERS_CONTROL, store_one, TYPE_OTHER, &piece, 1));
                break;
        }
        n->asks++;
}

TEST(links, a_handler_may_send_remove_and_close)
{
        struct bytes piece = BYTES_LITERAL("do it");
        struct pair p;
        unsigned i;

        for (handler_deed = 0; handler_deed < 4; handler_deed++) {
                pair_open(&p, handler_deed % 2 == 0);
                p.two.on_message = on_message_do;
                p.one.on_message = on_big;
                for (i = 0; i < 3; i++)
                        assert_true(
                                peers_send(p.one.peers, 2, PEERS_CONTROL, store_one, TYPE_OTHER, &piece, 1));
                run_for(p.os, 100);
                assert_int_equal(p.two.asks, handler_deed == 3 ? 3 : 1); /* nothing comes after the end */
                pair_close(&p);
        }
}

static bool is_two_down(void *arg)
{
        struct pair *p = arg;

        return !p->one.is_up[2];
}

static bool has_failed(void *arg)
{
        struct pair *p = arg;

        return facts_of(&p->one, FACT_node_failure_detected) > 0;
}

TEST(links, a_node_that_stops_is_noticed_at_once_and_found_again)
{
        uint16_t port;
        uint64_t stopped_us;
        struct pair p;

        pair_open(&p, true);
        port = peers_port(p.two.peers);
        stopped_us = os_monotonic_us(p.os);
        node_close(&p.two);
        assert_true(run_until(p.os, is_two_down, &p, 1000));
        assert_true(run_until(p.os, has_failed, &p, 2500));
        assert_true(os_monotonic_us(p.os) - stopped_us <
                    2500000); /* noticed within 2 s, and this machine is busy */
        node_open(&p.two, p.os, &(struct node_wish){.id = 2, .tls = p.tls[2], .port = port});
        node_know(&p.two, &p.one);
        p.one.said[2][PEERS_CONTROL] = 0;
        assert_true(run_until(p.os, are_up, &p, 3000));
        assert_true(node_say(&p.one, 2, PEERS_CONTROL, 50));
        p.one.heard[2][PEERS_CONTROL].last = 0;
        assert_true(run_until(p.os, is_all_heard, &p, 1000));
        assert_int_equal(facts_of(&p.one, FACT_node_failure_detected), 1);
        pair_close(&p);
}

/* It is enough if one of the two knows where the other is, whichever it is. */
TEST(links, one_side_needs_no_address)
{
        struct pair p;
        unsigned i;

        for (i = 0; i < 2; i++) {
                memset(&p, 0, sizeof p);
                assert_int_equal(os_real_new(&p.os), 0);
                node_open(&p.one, p.os, &(struct node_wish){.id = 1});
                node_open(&p.two, p.os, &(struct node_wish){.id = 2});
                if (i == 0) {
                        node_know(&p.one, &p.two);
                        assert_int_equal(peers_set_member(p.two.peers, 1, ""), 0);
                } else {
                        char name[32];

                        snprintf(name, sizeof name, "localhost:%u", peers_port(p.one.peers));
                        assert_int_equal(peers_set_member(p.one.peers, 2, ""), 0);
                        assert_int_equal(peers_set_member(p.two.peers, 1, name), 0);
                }
                assert_true(run_until(p.os, are_up, &p, 3000));
                pair_close(&p);
        }
}

TEST(links, addresses_are_checked_and_only_loopback_is_open_without_tls)
{
        struct node_wish wish = {.id = 1};
        struct tls_problem problem;
        struct tls_context *tls;
        struct node n;
        struct os *os;

        assert_int_equal(os_real_new(&os), 0);
        os_memory_disk(os);
        assert_int_equal(tls_authority_make(os, "ca", cluster_a, &problem), 0);
        certify(os, "ca", "n1", 1);
        tls = context_open(os, "n1");
        {
                struct control_options control = {.os = os, .node_name = "test", .log_fd = -1};
                struct peers_options options = {.os = os,
                        .identity = {.node_id = 1, .version_min = 1, .version_max = 1},
                        .address = "0.0.0.0",
                        .handler = &node_handler};
                struct peers *peers = NULL;

                assert_int_equal(control_open(&control, &options.control), 0);
                assert_int_equal(peers_open(&options, &peers), PEERS_ADDRESS_INSECURE);
                options.address = "localhost";
                assert_int_equal(peers_open(&options, &peers), PEERS_ADDRESS_INVALID);
                options.address = "127.0.0.1";
                options.tls = tls; /* of cluster a, node 1 */
                assert_int_equal(peers_open(&options, &peers), PEERS_CERTIFICATE_WRONG);
                memcpy(options.identity.cluster_uuid, cluster_a, 16);
                options.identity.node_id = 2;
                assert_int_equal(peers_open(&options, &peers), PEERS_CERTIFICATE_WRONG);
                control_close(&options.control);
        }
        node_open(&n, os, &wish);
        assert_int_equal(peers_set_member(n.peers, 2, "10.0.0.1:2112"), PEERS_ADDRESS_INSECURE);
        assert_int_equal(peers_set_member(n.peers, 2, "node-2:2112"), PEERS_ADDRESS_INSECURE);
        assert_int_equal(peers_set_member(n.peers, 2, "127.0.0.1"), PEERS_ADDRESS_INVALID);
        wish.id = 2;
        wish.port = peers_port(n.peers);
        {
                struct node other;

                assert_int_equal(node_try_open(&other, os, &wish), PEERS_ADDRESS_IN_USE);
        }
        node_close(&n);
        tls_context_close(&tls);
        os_free(&os);
}

/* ---- joining ---- */

struct joining {
        struct os *os;
        struct node host;
        struct tls_join_token_hash stored;
        const char *joiner;
        /* what came */
        bool is_done;
        char problem[256];
        bool has_who;
        struct tls_identity who;
        struct buffer answer;
};
static struct joining *joining;

static bool is_done(void *arg)
{
        (void)arg;
        return joining->is_done;
}

static void on_answer(void *arg, const char *problem, const struct tls_identity *who, struct bytes answer)
{
        struct joining *j = arg;

        assert_false(j->is_done);
        j->is_done = true;
        snprintf(j->problem, sizeof j->problem, "%s", problem ? problem : "");
        j->has_who = who != NULL;
        if (who)
                j->who = *who;
        buffer_clear(&j->answer);
        buffer_add_bytes(&j->answer, answer);
}

/* The host's part: id and secret of the token, then the request; the answer is the certificate. */
static void on_join(struct node *n, struct bytes request)
{
        struct buffer certificate = {0};
        struct tls_problem problem;

        if (request.size < 40 ||
                !tls_join_token_verify(&joining->stored, get_u64(request.data), request.data + 8)) {
                peers_answer(n->peers, n->ask, BYTES_LITERAL("no"));
                return;
        }
        assert_int_equal(tls_request_sign(n->os, "ca", bytes_of(request.data + 40, request.size - 40), 2,
                                 NULL, 0, &certificate, &problem),
                0);
        peers_answer(n->peers, n->ask, buffer_bytes(&certificate));
        buffer_fini(&certificate);
}

static void ask(struct joining *j, struct tls_context *tls, struct bytes request)
{
        struct peers_question_options options = {
                .os = j->os, .tls = tls, .request = request, .name = "joiner", .done = on_answer, .arg = j};
        struct peers_question *question;
        char address[32];

        snprintf(address, sizeof address, "localhost:%u", peers_port(j->host.peers));
        options.address = address;
        j->is_done = false;
        assert_int_equal(peers_ask(&options, &question), 0);
        assert_false(j->is_done);
        assert_true(run_until(j->os, is_done, NULL, 8000));
}

TEST(join, a_token_makes_a_stranger_a_node)
{
        struct tls_context_options options;
        struct tls_context *host_tls, *joiner, *node_tls;
        struct buffer request = {0}, ca = {0};
        struct tls_certificate_info info;
        struct tls_join_token token;
        struct tls_problem problem;
        struct joining j = {0};
        struct pair p;

        joining = &j;
        assert_int_equal(os_real_new(&j.os), 0);
        os_memory_disk(j.os);
        assert_int_equal(tls_authority_make(j.os, "ca", cluster_a, &problem), 0);
        assert_int_equal(tls_node_certificate_make(j.os, "ca", 1, NULL, 0, &problem), 0);
        host_tls = context_open(j.os, "ca");
        node_open(&j.host, j.os, &(struct node_wish){.id = 1, .tls = host_tls});
        j.host.on_ask = on_join;
        assert_int_equal(tls_certificate_info(j.os, "ca", "ca.pem", &info, &problem), 0);
        tls_join_token_make(j.os, info.fingerprint, &token);
        tls_join_token_hash(j.os, &token, &j.stored);

        options = (struct tls_context_options){
                .os = j.os, .ca_fingerprint = bytes_of(token.ca_fingerprint, 16)};
        assert_int_equal(tls_context_open(&options, &joiner, &problem), 0);
        buffer_add_u64(&request, token.id);
        buffer_add(&request, token.secret, 32);
        assert_int_equal(tls_request_make(j.os, "n2", &request, &problem), 0);
        request.data[20] ^= 1; /* another secret */
        ask(&j, joiner, buffer_bytes(&request));
        assert_string_equal(j.problem, "");
        assert_true(bytes_equal_string(buffer_bytes(&j.answer), "no"));
        assert_false(j.host.has_asker);
        request.data[20] ^= 1;
        ask(&j, joiner, buffer_bytes(&request));
        assert_string_equal(j.problem, "");
        assert_true(j.has_who);
        assert_int_equal(j.who.node_id, 1);
        assert_int_equal(os_read_whole(j.os, "ca/ca.pem", TLS_PEM_SIZE_MAX, &ca), 0);
        assert_int_equal(
                tls_certificate_install(j.os, "n2", buffer_bytes(&ca), buffer_bytes(&j.answer), &problem), 0);

        /* Who has a certificate asks with it. */
        node_tls = context_open(j.os, "n2");
        ask(&j, node_tls, buffer_bytes(&request));
        assert_true(j.host.has_asker);
        assert_int_equal(j.host.asker.node_id, 2);

        /* Another cluster's token, or none: not a word is said. */
        tls_context_close(&joiner);
        token.ca_fingerprint[3] ^= 1;
        assert_int_equal(tls_context_open(&options, &joiner, &problem), 0);
        j.host.asks = 0;
        ask(&j, joiner, buffer_bytes(&request));
        assert_string_equal(j.problem, "the peer's CA is not the one that the token names");
        ask(&j, NULL, buffer_bytes(&request));
        assert_string_not_equal(j.problem, "");
        assert_int_equal(j.host.asks, 0);

        /* And the new node is one like the others. */
        memset(&p, 0, sizeof p);
        p.os = j.os;
        p.one = j.host;
        node_open(&p.two, j.os, &(struct node_wish){.id = 2, .tls = node_tls});
        node_know(&j.host, &p.two);
        node_know(&p.two, &j.host);
        while (!j.host.is_up[2] || !p.two.is_up[1])
                run_for(j.os, 10);
        node_close(&p.two);
        node_close(&j.host);
        os_free(&j.os);
        tls_context_close(&joiner);
        tls_context_close(&node_tls);
        tls_context_close(&host_tls);
        buffer_fini(&request);
        buffer_fini(&ca);
        buffer_fini(&j.answer);
}

static void not_called(void *arg, const char *problem, const struct tls_identity *who, struct bytes answer)
{
        (void)arg;
        (void)problem;
        (void)who;
        (void)answer;
        fail_msg("a question that was cancelled has ended");
}

TEST(join, a_question_is_cancelled_at_any_moment_and_has_an_end_of_its_own)
{
        struct peers_question_options options = {.request = BYTES_LITERAL("x"), .done = not_called};
        struct peers_question *question = NULL;
        struct joining j = {0};
        char address[32];
        unsigned i;

        joining = &j;
        assert_int_equal(os_real_new(&j.os), 0);
        node_open(&j.host, j.os, &(struct node_wish){.id = 1});
        snprintf(address, sizeof address, "127.0.0.1:%u", peers_port(j.host.peers));
        options.os = j.os;
        options.address = address;
        for (i = 0; i < 12; i++) {
                assert_int_equal(peers_ask(&options, &question), 0);
                run_for(j.os, i);
                peers_ask_cancel(&question);
                assert_null(question);
        }
        peers_answer(j.host.peers, j.host.asks, BYTES_LITERAL("late")); /* gone: harmless */
        run_for(j.os, 10);
        options.done = on_answer;
        options.arg = &j;
        options.timeout_us = 50000; /* the host never answers */
        assert_int_equal(peers_ask(&options, &question), 0);
        assert_true(run_until(j.os, is_done, NULL, 2000));
        assert_string_equal(j.problem, "no answer in time");
        options.address = "10.1.1.1:1";
        assert_int_equal(peers_ask(&options, &question), PEERS_ADDRESS_INSECURE);
        options.address = "nonsense";
        assert_int_equal(peers_ask(&options, &question), PEERS_ADDRESS_INVALID);
        node_close(&j.host);
        os_free(&j.os);
        buffer_fini(&j.answer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(links, messages_cross_in_order_in_clear),
                TEST_ROW(links, messages_cross_in_order_with_tls),
                TEST_ROW(links, a_full_queue_refuses_and_says_when_there_is_room),
                TEST_ROW(links, a_full_queue_refuses_and_says_when_there_is_room_with_tls),
                TEST_ROW(links, the_largest_message_crosses),
                TEST_ROW(links, a_removed_member_is_closed_and_refused_until_it_is_one_again),
                TEST_ROW(links, a_refusal_before_the_link_is_up_is_followed_by_room),
                TEST_ROW(links, a_handler_may_send_remove_and_close),
                TEST_ROW(links, a_node_that_stops_is_noticed_at_once_and_found_again),
                TEST_ROW(links, one_side_needs_no_address),
                TEST_ROW(links, addresses_are_checked_and_only_loopback_is_open_without_tls),
                TEST_ROW(join, a_token_makes_a_stranger_a_node),
                TEST_ROW(join, a_question_is_cancelled_at_any_moment_and_has_an_end_of_its_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
