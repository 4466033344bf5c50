/* What travels and what is stored, as bytes: messages, configurations. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include <raft.h>

#include "base/memory.h"
#include "cluster/cluster.h"

static const struct cluster_message examples[] = {
        {.type = CLUSTER_REQUEST_VOTE,
                .term = 7,
                .request_vote = {.candidate_id = 3,
                        .last_index = 1000000007,
                        .last_term = 6,
                        .disrupts_leader = true}},
        {.type = CLUSTER_REQUEST_VOTE,
                .term = UINT64_MAX / 8,
                .request_vote = {.candidate_id = 4, .last_index = 0, .last_term = 0, .is_pre_vote = true}},
        {.type = CLUSTER_VOTE, .term = 7, .vote = {.is_granted = true}},
        {.type = CLUSTER_VOTE, .term = 8, .vote = {.is_pre_vote = true}},
        {.type = CLUSTER_APPEND,
                .term = 9,
                .append = {.previous_index = 41, .previous_term = 8, .commit_index = 40, .entry_count = 77}},
        {.type = CLUSTER_APPEND_RESULT, .term = 9, .append_result = {.rejected = 41, .last_index = 12}},
        {.type = CLUSTER_INSTALL,
                .term = 9,
                .install = {.last_index = 90,
                        .last_term = 8,
                        .configuration = BYTES_LITERAL("whatever"),
                        .configuration_index = 70}},
        {.type = CLUSTER_TIMEOUT_NOW, .term = 9, .timeout_now = {.last_index = 91, .last_term = 9}},
        {.type = CLUSTER_PROBE, .term = 9, .probe = {.nonce = 123}},
        {.type = CLUSTER_PROBE_RESULT, .term = 9, .probe = {.nonce = 123, .is_confirmed = true}},
};

TEST(message, reads_as_it_was_written_and_leaves_the_rest)
{
        for (unsigned i = 0; i < COUNT_OF(examples); i++) {
                struct buffer bytes = {0}, again = {0};
                struct cluster_message m;
                struct bytes rest;

                cluster_message_encode(&examples[i], &bytes);
                buffer_add_string(&bytes, "entries");
                assert_int_equal(cluster_message_decode(buffer_bytes(&bytes), &m, &rest), 0);
                assert_true(bytes_equal_string(rest, "entries"));
                assert_int_equal(m.type, examples[i].type);
                assert_int_equal(m.term, examples[i].term);
                assert_int_equal(m.node_id, 0);
                if (m.type == CLUSTER_APPEND) {
                        assert_null(m.append.entries);
                        assert_int_equal(m.append.entry_count, 77);
                        assert_int_equal(m.append.commit_index, 40);
                }
                if (m.type == CLUSTER_INSTALL)
                        assert_true(bytes_equal_string(m.install.configuration, "whatever"));
                cluster_message_encode(&m, &again);
                buffer_add_string(&again, "entries");
                assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&bytes)));
                buffer_fini(&bytes);
                buffer_fini(&again);
        }
}

/* Every end, in a block of exactly that size, so that reading behind it is seen. */
TEST(message, that_is_cut_off_anywhere_is_refused)
{
        for (unsigned i = 0; i < COUNT_OF(examples); i++) {
                struct buffer bytes = {0};
                struct cluster_message m;
                struct bytes rest;

                cluster_message_encode(&examples[i], &bytes);
                for (size_t size = 0; size < bytes.size; size++) {
                        uint8_t *part = memory_new(size + 1);

                        memcpy(part, bytes.data, size);
                        part = memory_resize(part, size ? size : 1);
                        assert_int_equal(
                                cluster_message_decode(bytes_of(part, size), &m, &rest), CLUSTER_INVALID);
                        free(part);
                }
                buffer_fini(&bytes);
        }
}

TEST(message, with_unknown_types_flags_or_sizes_is_refused)
{
        struct cluster_message m;
        struct buffer bytes = {0};
        struct bytes rest;

        for (unsigned type = 0; type < 256; type++) {
                uint8_t data[64] = {(uint8_t)type};

                if (type >= CLUSTER_REQUEST_VOTE && type <= CLUSTER_PROBE_RESULT)
                        continue;
                assert_int_equal(
                        cluster_message_decode(bytes_of(data, sizeof(data)), &m, &rest), CLUSTER_INVALID);
        }
        cluster_message_encode(&examples[2], &bytes);
        bytes.data[bytes.size - 1] |= 4;
        assert_int_equal(cluster_message_decode(buffer_bytes(&bytes), &m, &rest), CLUSTER_INVALID);
        buffer_clear(&bytes);
        cluster_message_encode(&examples[9], &bytes);
        bytes.data[bytes.size - 1] |= 2;
        assert_int_equal(cluster_message_decode(buffer_bytes(&bytes), &m, &rest), CLUSTER_INVALID);
        buffer_clear(&bytes);
        cluster_message_encode(&examples[6], &bytes);
        memset(bytes.data + 1 + 8 + 24, 0xff, 4); /* the size of the configuration */
        assert_int_equal(cluster_message_decode(buffer_bytes(&bytes), &m, &rest), CLUSTER_INVALID);
        buffer_fini(&bytes);
}

/* ---- configurations ---- */

static struct cluster_configuration three(void)
{
        return (struct cluster_configuration){.count = 3,
                .servers = {{.node_id = 1, .role = CLUSTER_VOTER, .address = "a:1"},
                        {.node_id = 5, .role = CLUSTER_STANDBY, .address = "b:1"},
                        {.node_id = 9, .role = CLUSTER_VOTER, .address = "long.example.org:65535"}}};
}

TEST(configuration, reads_as_it_was_written)
{
        struct cluster_configuration c = three(), d;
        struct buffer bytes = {0};

        assert_int_equal(cluster_configuration_encode(&c, &bytes), 0);
        assert_int_equal(bytes.size % 8, 0);
        assert_int_equal(cluster_configuration_decode(buffer_bytes(&bytes), &d), 0);
        assert_int_equal(d.count, 3);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(d.servers[i].node_id, c.servers[i].node_id);
                assert_int_equal(d.servers[i].role, c.servers[i].role);
                assert_string_equal(d.servers[i].address, c.servers[i].address);
        }
        buffer_fini(&bytes);
}

/* The library reads the payload itself: it must be byte for byte what the library writes. */
TEST(configuration, has_the_bytes_of_the_library)
{
        struct cluster_configuration c = three();
        struct raft_configuration theirs;
        struct raft_buffer encoded;
        struct buffer bytes = {0};

        raft_configuration_init(&theirs);
        for (unsigned i = 0; i < c.count; i++)
                assert_int_equal(raft_configuration_add(&theirs, c.servers[i].node_id, c.servers[i].address,
                                         c.servers[i].role == CLUSTER_VOTER ? RAFT_VOTER : RAFT_STANDBY),
                        0);
        assert_int_equal(raft_configuration_encode(&theirs, &encoded), 0);
        assert_int_equal(cluster_configuration_encode(&c, &bytes), 0);
        assert_true(bytes_equal(buffer_bytes(&bytes), bytes_of(encoded.base, encoded.len)));
        raft_free(encoded.base);
        raft_configuration_close(&theirs);
        buffer_fini(&bytes);
}

static int try_configuration(const struct cluster_configuration *c)
{
        struct cluster_configuration ignored;
        struct buffer bytes = {0};
        int r;

        assert_int_equal(cluster_configuration_encode(c, &bytes), 0);
        r = cluster_configuration_decode(buffer_bytes(&bytes), &ignored);
        buffer_fini(&bytes);
        return r;
}

TEST(configuration, that_makes_no_sense_is_refused)
{
        struct cluster_configuration c = three(), ignored;
        struct buffer bytes = {0};

        assert_int_equal(try_configuration(&c), 0);
        c.servers[1].node_id = 9; /* out of order, and twice */
        assert_int_equal(try_configuration(&c), CLUSTER_INVALID);
        c = three();
        c.servers[0].node_id = 0;
        assert_int_equal(try_configuration(&c), CLUSTER_INVALID);
        c = three();
        memcpy(c.servers[2].address, "a:1", 4);
        assert_int_equal(try_configuration(&c), CLUSTER_INVALID);
        c = three();
        c.servers[0].role = c.servers[2].role = CLUSTER_STANDBY; /* nobody votes */
        assert_int_equal(try_configuration(&c), CLUSTER_INVALID);
        c.count = 0;
        assert_true(cluster_configuration_encode(&c, &bytes) < 0);
        c = three();
        assert_int_equal(cluster_configuration_encode(&c, &bytes), 0);
        for (size_t size = 0; size + 8 < bytes.size; size++) {
                uint8_t *part = memory_new(size + 1);

                memcpy(part, bytes.data, size);
                part = memory_resize(part, size ? size : 1);
                assert_int_equal(
                        cluster_configuration_decode(bytes_of(part, size), &ignored), CLUSTER_INVALID);
                free(part);
        }
        bytes.data[0] = 2;
        assert_int_equal(cluster_configuration_decode(buffer_bytes(&bytes), &ignored), CLUSTER_INVALID);
        bytes.data[0] = 1;
        bytes.data[1] = 17;
        assert_int_equal(cluster_configuration_decode(buffer_bytes(&bytes), &ignored), CLUSTER_INVALID);
        buffer_fini(&bytes);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(message, reads_as_it_was_written_and_leaves_the_rest),
                TEST_ROW(message, that_is_cut_off_anywhere_is_refused),
                TEST_ROW(message, with_unknown_types_flags_or_sizes_is_refused),
                TEST_ROW(configuration, reads_as_it_was_written),
                TEST_ROW(configuration, has_the_bytes_of_the_library),
                TEST_ROW(configuration, that_makes_no_sense_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
