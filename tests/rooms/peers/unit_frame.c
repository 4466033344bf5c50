/* Frames and hellos as bytes (F5): nothing but what was sent comes out, and who does not belong is refused by
 * name. */
#include "test.h"

#include <stdio.h>

#include "peers/frame.h"
#include "peers/room.h"

static const uint8_t store[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

TEST(frame, comes_out_as_it_went_in)
{
        struct buffer out = {0};
        struct bytes pieces[] = {BYTES_LITERAL("one"), BYTES_EMPTY, BYTES_LITERAL("two")};
        struct frame frame;
        const char *why;
        size_t size;

        frame_add(&out, 0x1234, 7, store, pieces, 3);
        frame_add(&out, 0x100, 1, NULL, NULL, 0);
        assert_int_equal(frame_parse(buffer_bytes(&out), 6, &frame, &size, &why), FRAME_WHOLE);
        assert_int_equal(size, PEERS_FRAME_HEADER_SIZE + 6);
        assert_int_equal(frame.type, 0x1234);
        assert_int_equal(frame.version, 7);
        assert_memory_equal(frame.store_uuid, store, 16);
        assert_true(bytes_equal_string(frame.body, "onetwo"));
        buffer_consume(&out, size);
        assert_int_equal(frame_parse(buffer_bytes(&out), 0, &frame, &size, &why), FRAME_WHOLE);
        assert_int_equal(size, out.size);
        assert_int_equal(frame.body.size, 0);
        buffer_fini(&out);
}

TEST(frame, every_beginning_is_a_part_and_every_flipped_bit_is_seen)
{
        struct buffer out = {0};
        struct bytes piece = BYTES_LITERAL("some body of a message");
        struct frame frame;
        const char *why;
        size_t size, i;

        frame_add(&out, 0x100, 1, store, &piece, 1);
        for (i = 0; i < out.size; i++)
                assert_int_equal(frame_parse(bytes_of(out.data, i), 1000, &frame, &size, &why), FRAME_PART);
        for (i = 0; i < out.size * 8; i++) {
                out.data[i / 8] ^= (uint8_t)(1 << i % 8);
                /* A longer length waits for more, which the sum refuses then. */
                assert_int_not_equal(frame_parse(buffer_bytes(&out), 1000, &frame, &size, &why), FRAME_WHOLE);
                if (i >= 32)
                        assert_int_equal(
                                frame_parse(buffer_bytes(&out), 1000, &frame, &size, &why), FRAME_BAD);
                out.data[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        buffer_fini(&out);
}

/* G17, S6: at the limit, one above, and what overflows; the length alone decides. */
TEST(frame, a_length_beyond_the_limit_is_refused_before_its_bytes_come)
{
        static const uint32_t bad[] = {0, 1, 19, 20 + 513, 0x7fffffff, 0x80000000, 0xffffffff};
        uint8_t head[4];
        struct frame frame;
        const char *why;
        size_t size;
        unsigned i;

        for (i = 0; i < COUNT_OF(bad); i++) {
                put_u32(head, bad[i]);
                assert_int_equal(frame_parse(bytes_of(head, 4), 512, &frame, &size, &why), FRAME_BAD);
        }
        put_u32(head, 20 + 512);
        assert_int_equal(frame_parse(bytes_of(head, 4), 512, &frame, &size, &why), FRAME_PART);
        put_u32(head, 20);
        assert_int_equal(frame_parse(bytes_of(head, 4), 0, &frame, &size, &why), FRAME_PART);
}

/* ---- hello ---- */

static struct hello hello_of(uint64_t node, const char *name)
{
        struct hello h = {.kind = HELLO_BULK,
                .identity = {.cluster_uuid = {0xc1},
                        .node_id = node,
                        .epoch = 3,
                        .version_min = 2,
                        .version_max = 5},
                .instance = node * 1000,
                .dial = 12,
                .wanted_node = 0};

        snprintf(h.identity.name, sizeof h.identity.name, "%s", name);
        return h;
}

static struct bytes body_of(const struct buffer *out)
{
        return bytes_of(out->data + PEERS_FRAME_HEADER_SIZE, out->size - PEERS_FRAME_HEADER_SIZE);
}

TEST(hello, comes_out_as_it_went_in)
{
        struct hello sent = hello_of(UINT64_MAX, "a name"), got;
        struct buffer out = {0};
        const char *why;

        sent.wanted_node = 77;
        hello_add(&out, &sent);
        assert_true(hello_parse(body_of(&out), &got, &why));
        assert_int_equal(got.kind, HELLO_BULK);
        assert_memory_equal(&got.identity, &sent.identity, sizeof got.identity);
        assert_true(got.instance == sent.instance && got.dial == 12 && got.wanted_node == 77);
        /* What a later version adds at the end is passed over. */
        buffer_add_string(&out, "more");
        assert_true(hello_parse(body_of(&out), &got, &why));
        assert_string_equal(got.identity.name, "a name");
        buffer_fini(&out);
}

TEST(hello, what_is_none_is_refused)
{
        struct hello sent = hello_of(1, "a"), got;
        struct buffer out = {0};
        const char *why;
        size_t i;

        hello_add(&out, &sent);
        for (i = 0; i < body_of(&out).size; i++)
                assert_false(hello_parse(bytes_of(body_of(&out).data, i), &got, &why));
        out.data[PEERS_FRAME_HEADER_SIZE] ^= 1;
        assert_false(hello_parse(body_of(&out), &got, &why));
        assert_string_equal(why, "it is no node of Nilometer");
        out.data[PEERS_FRAME_HEADER_SIZE] ^= 1;
        out.data[PEERS_FRAME_HEADER_SIZE + 6] = 3; /* no such kind */
        assert_false(hello_parse(body_of(&out), &got, &why));
        out.data[PEERS_FRAME_HEADER_SIZE + 6] = 0;
        out.data[PEERS_FRAME_HEADER_SIZE + 7] = 255; /* a name longer than there is */
        assert_false(hello_parse(body_of(&out), &got, &why));
        buffer_fini(&out);
}

/* S11: a name cannot forge a line of a log. */
TEST(hello, a_name_is_made_fit_to_be_shown)
{
        struct hello sent = hello_of(1, "x\n\x1b[2Jy\x7f"), got;
        struct buffer out = {0};
        const char *why;

        hello_add(&out, &sent);
        assert_true(hello_parse(body_of(&out), &got, &why));
        assert_string_equal(got.identity.name, "x??[2Jy?");
        buffer_clear(&out);
        sent = hello_of(1, "half \xc3");
        hello_add(&out, &sent);
        assert_true(hello_parse(body_of(&out), &got, &why));
        assert_string_equal(got.identity.name, "half ?");
        buffer_fini(&out);
}

static void expect_refused(const struct hello *own, const struct hello *theirs,
        const struct tls_identity *proved, const char *words)
{
        char why[WHY_SIZE] = "";

        assert_false(hello_check(own, theirs, proved, why));
        if (!strstr(why, words))
                fail_msg("\"%s\" does not say \"%s\"", why, words);
}

TEST(hello, who_does_not_belong_is_refused_by_name)
{
        struct hello own = hello_of(1, "alpha"), theirs = hello_of(2, "beta"), other;
        struct tls_identity proved = {.cluster_uuid = {0xc1}, .node_id = 2};
        char why[WHY_SIZE];

        assert_true(hello_check(&own, &theirs, &proved, why));
        assert_true(hello_check(&own, &theirs, NULL, why));
        other = theirs;
        other.identity.cluster_uuid[0] = 0xc2;
        expect_refused(&own, &other, &proved,
                "\"beta\" is of cluster c2000000-0000-0000-0000-000000000000, \"alpha\" is of cluster "
                "c1000000");
        other = theirs;
        other.identity.node_id = 3;
        expect_refused(
                &own, &other, &proved, "\"beta\" says that it is node 3, its certificate is of node 2");
        proved.cluster_uuid[0] = 0xc2;
        expect_refused(&own, &theirs, &proved, "another cluster");
        proved.cluster_uuid[0] = 0xc1;
        proved.node_id = 0; /* no certificate */
        expect_refused(&own, &theirs, &proved, "certificate");
        other = theirs;
        other.identity.node_id = 1;
        expect_refused(&own, &other, NULL, "\"beta\" says that it is node 1, which \"alpha\" is");
        other.identity.node_id = 0;
        expect_refused(&own, &other, NULL, "no node");
        other = theirs;
        other.instance = own.instance;
        expect_refused(&own, &other, NULL, "itself");
        other = theirs;
        other.wanted_node = 9;
        expect_refused(&own, &other, NULL, "looks for node 9, \"alpha\" is node 1");
        other = theirs;
        other.identity.epoch = 4;
        expect_refused(&own, &other, NULL, "epoch 4");
        other = theirs;
        other.identity.version_min = 6;
        other.identity.version_max = 9;
        expect_refused(&own, &other, NULL, "speaks versions 6 to 9, \"alpha\" speaks 2 to 5");
}

TEST(hello, the_highest_version_of_both_is_spoken)
{
        struct hello a = hello_of(1, "a"), b = hello_of(2, "b");

        a.identity.version_max = 4;
        b.identity.version_min = 3;
        assert_int_equal(hello_version(&a, &b), 4);
        assert_int_equal(hello_version(&b, &a), 4);
        b.identity.version_min = 5;
        assert_int_equal(hello_version(&a, &b), 0);
}

TEST(hello, an_asker_needs_no_cluster_but_must_not_be_of_another)
{
        struct hello own = hello_of(1, "alpha"), asker = hello_of(0, "joiner");
        struct tls_identity proved = {.cluster_uuid = {0xc1}, .node_id = 5};
        char why[WHY_SIZE];

        memset(asker.identity.cluster_uuid, 0, 16);
        assert_true(hello_check_asker(&own, &asker, NULL, why));
        assert_true(hello_check_asker(&own, &asker, &proved, why));
        asker.identity.cluster_uuid[0] = 0xc2;
        assert_false(hello_check_asker(&own, &asker, NULL, why));
        asker.identity.cluster_uuid[0] = 0xc1;
        asker.identity.node_id = 6;
        assert_false(hello_check_asker(&own, &asker, &proved, why));
}

/* Whatever two connections meet: both ends keep the same one. */
TEST(hello, of_two_connections_both_sides_keep_the_same)
{
        struct rival lower = {true, 1}, higher = {false, 900}, again = {true, 2};

        assert_true(rival_stays(lower, higher));
        assert_false(rival_stays(higher, lower));
        assert_true(rival_stays(again, lower));
        assert_false(rival_stays(lower, again));
}

TEST(refusal, comes_with_its_reason)
{
        struct buffer out = {0};
        char why[WHY_SIZE], long_why[2 * WHY_SIZE];
        enum refusal refusal;

        refusal_add(&out, REFUSAL_SUPERFLUOUS, "because\n");
        refusal_parse(body_of(&out), &refusal, why);
        assert_int_equal(refusal, REFUSAL_SUPERFLUOUS);
        assert_string_equal(why, "because?");
        buffer_clear(&out);
        memset(long_why, 'x', sizeof long_why);
        long_why[sizeof long_why - 1] = 0;
        refusal_add(&out, REFUSAL_WRONG, long_why);
        assert_true(body_of(&out).size <= REFUSED_BODY_SIZE_MAX);
        refusal_parse(body_of(&out), &refusal, why);
        assert_int_equal(strlen(why), WHY_SIZE - 1);
        buffer_clear(&out);
        refusal_add(&out, REFUSAL_NO_MEMBER, "gone");
        refusal_parse(body_of(&out), &refusal, why);
        assert_int_equal(refusal, REFUSAL_NO_MEMBER);
        out.data[PEERS_FRAME_HEADER_SIZE] = 77; /* of a later release */
        refusal_parse(body_of(&out), &refusal, why);
        assert_int_equal(refusal, REFUSAL_WRONG);
        refusal_parse(BYTES_EMPTY, &refusal, why);
        assert_int_equal(refusal, REFUSAL_WRONG);
        assert_string_equal(why, "");
        buffer_fini(&out);
}

TEST(address, host_and_port_or_nothing)
{
        static const char *const good[] = {"a:1", "node-1.example.org:2112", "10.0.0.1:65535", "[::1]:2112"};
        static const char *const bad[] = {"", "a", "a:", ":1", "a:0", "a:65536", "a:123456", "a:1x", "a b:1",
                "::1:2112", "[::1]", "[::1]2112", "[x]:1", "[::1:1", "a\n:1", "a/b:1"};
        struct host_port to;
        unsigned i;

        for (i = 0; i < COUNT_OF(good); i++)
                assert_true(host_port_parse(good[i], &to));
        assert_string_equal(to.host, "::1");
        assert_int_equal(to.port, 2112);
        for (i = 0; i < COUNT_OF(bad); i++)
                assert_false(host_port_parse(bad[i], &to));
        assert_true(host_is_loopback("127.8.9.1") && host_is_loopback("::1") &&
                    host_is_loopback("localhost") && host_is_loopback("::ffff:127.0.0.1"));
        assert_false(host_is_loopback("10.0.0.1") || host_is_loopback("::2") ||
                     host_is_loopback("127.0.0.1.example.org") || host_is_loopback("::ffff:10.0.0.1") ||
                     host_is_loopback("0.0.0.0"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(frame, comes_out_as_it_went_in),
                TEST_ROW(frame, every_beginning_is_a_part_and_every_flipped_bit_is_seen),
                TEST_ROW(frame, a_length_beyond_the_limit_is_refused_before_its_bytes_come),
                TEST_ROW(hello, comes_out_as_it_went_in),
                TEST_ROW(hello, what_is_none_is_refused),
                TEST_ROW(hello, a_name_is_made_fit_to_be_shown),
                TEST_ROW(hello, who_does_not_belong_is_refused_by_name),
                TEST_ROW(hello, the_highest_version_of_both_is_spoken),
                TEST_ROW(hello, an_asker_needs_no_cluster_but_must_not_be_of_another),
                TEST_ROW(hello, of_two_connections_both_sides_keep_the_same),
                TEST_ROW(refusal, comes_with_its_reason),
                TEST_ROW(address, host_and_port_or_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
