/* Bytes of another node: messages of the engines and configurations. What is read has one form that reads
 * again as the same, and an engine that hears it does not break, whatever it says. */
#include <stdlib.h>

#include "cluster/cluster.h"

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void try_configuration(struct bytes bytes)
{
        struct cluster_configuration c, d;
        struct buffer again = {0};

        if (cluster_configuration_decode(bytes, &c))
                return;
        require(cluster_configuration_encode(&c, &again) == 0);
        require(again.size <= bytes.size + 8 && cluster_configuration_decode(buffer_bytes(&again), &d) == 0);
        require(d.count == c.count);
        buffer_fini(&again);
}

/* One of three voters, which hears the message from another one, with an entry of the message's rest. */
static void try_engine(const struct cluster_message *message, struct bytes rest)
{
        struct cluster_configuration three = {.count = 3,
                .servers = {{.node_id = 1, .address = "a"}, {.node_id = 2, .address = "b"},
                        {.node_id = 3, .address = "c"}}};
        struct cluster_options options = {.node_id = 1, .address = "a", .seed = 1};
        struct cluster_entry first = {.term = 1, .type = CLUSTER_CHANGE};
        struct cluster_entry sent = {.term = message->term,
                .type = rest.size ? (enum cluster_entry_type)(rest.data[0] % 5) : CLUSTER_COMMAND,
                .payload = rest};
        struct cluster_start start = {.term = 2, .entries = &first, .entry_count = 1};
        struct cluster_message m = *message;
        struct cluster_raft *raft = NULL;
        struct cluster_update u;
        struct buffer payload = {0};

        require(cluster_configuration_encode(&three, &payload) == 0);
        first.payload = buffer_bytes(&payload);
        require(cluster_raft_new(&options, &raft) == 0);
        require(cluster_raft_start(raft, 1000000, &start, &u) == 0);
        m.node_id = 2;
        if (m.type == CLUSTER_APPEND) {
                m.append.entries = &sent;
                m.append.entry_count = MIN(m.append.entry_count, 1);
        }
        for (unsigned i = 0; i < 2; i++) {
                if (cluster_raft_receive(raft, 1000000 + i, &m, &u))
                        break;
                while (u.has_more)
                        require(cluster_raft_more(raft, 1000000 + i, &u) == 0);
        }
        cluster_raft_free(&raft);
        buffer_fini(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct cluster_message m;
        struct buffer again = {0};
        struct bytes rest;

        try_configuration(bytes_of(data, size));
        if (cluster_message_decode(bytes_of(data, size), &m, &rest))
                return 0;
        cluster_message_encode(&m, &again);
        buffer_add_bytes(&again, rest);
        require(bytes_equal(buffer_bytes(&again), bytes_of(data, size)));
        buffer_fini(&again);
        if (m.type == CLUSTER_INSTALL)
                try_configuration(m.install.configuration);
        try_engine(&m, rest);
        return 0;
}
