/* Engines of one store in one place: what is written is durable, what is sent arrives, at once and in order, unless a test says
 * otherwise. */
#ifndef TESTS_CLUSTER_SUPPORT_H
#define TESTS_CLUSTER_SUPPORT_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/cluster.h"

enum { PEERS_MAX = 6, LOG_MAX = 400, QUEUE_MAX = 4000 };

struct kept {
        uint64_t term;
        enum cluster_entry_type type;
        struct buffer payload;
};
struct peer {
        uint64_t id;
        struct cluster_raft *raft;
        struct kept log[LOG_MAX]; /* log[i] has index i */
        uint64_t last;
        uint64_t term, vote;
        uint64_t commit, applied;
        uint64_t timeout_us;
        uint64_t install_index; /* 0: none under way */
        bool is_cut;            /* hears and says nothing */
        bool is_slow;           /* does not tell the engine what is durable */
};
struct letter {
        uint64_t from;
        struct cluster_message message;
        struct buffer configuration;
        unsigned count;
        uint64_t first;
};
struct peers {
        struct peer peer[PEERS_MAX + 1]; /* by id */
        unsigned count;
        uint64_t now_us;
        uint32_t mutants;
        struct letter *queue;
        unsigned queue_first, queue_count;
        struct cluster_message last_to[PEERS_MAX + 1]; /* the last message to each */
        uint64_t nonce;
};

static void peers_carry_out(struct peers *p, struct peer *n, struct cluster_update *u);

static inline void put(struct kept *at, uint64_t term, enum cluster_entry_type type, struct bytes payload)
{
        at->term = term;
        at->type = type;
        buffer_clear(&at->payload);
        buffer_add_bytes(&at->payload, payload);
}

static inline struct cluster_configuration configuration_of(unsigned voters, unsigned standbys)
{
        struct cluster_configuration c = {.count = voters + standbys};

        for (unsigned i = 0; i < c.count; i++) {
                c.servers[i].node_id = i + 1;
                c.servers[i].role = i < voters ? CLUSTER_VOTER : CLUSTER_STANDBY;
                snprintf(c.servers[i].address, sizeof(c.servers[i].address), "node%u:1", i + 1);
        }
        return c;
}

static inline void peer_start(struct peers *p, uint64_t id)
{
        struct cluster_options options = {
                .node_id = id, .address = "self", .seed = id * 77 + p->now_us, .mutants = p->mutants};
        struct peer *n = &p->peer[id];
        struct cluster_start start = {.term = n->term, .voted_for = n->vote, .entry_count = n->last};
        struct cluster_entry *entries = memory_new_array(n->last + 1, sizeof(*entries));
        struct cluster_update u;

        n->id = id;
        n->commit = n->applied = 0;
        for (uint64_t i = 1; i <= n->last; i++)
                entries[i - 1] = (struct cluster_entry){
                        .term = n->log[i].term, .type = n->log[i].type, .payload = buffer_bytes(&n->log[i].payload)};
        start.entries = entries;
        if (cluster_start_needs_term(&options, &start, &start.term, &start.voted_for)) {
                n->term = start.term;
                n->vote = start.voted_for;
        } else {
                start.term = n->term;
                start.voted_for = n->vote;
        }
        assert_int_equal(cluster_raft_new(&options, &n->raft), 0);
        assert_int_equal(cluster_raft_start(n->raft, p->now_us, &start, &u), 0);
        free(entries);
        peers_carry_out(p, n, &u);
}

/* The voters have the first configuration, other nodes have nothing. */
static inline void peers_begin(struct peers *p, unsigned voters, unsigned standbys, unsigned others)
{
        struct cluster_configuration c = configuration_of(voters, standbys);
        struct buffer payload = {0};

        p->now_us = 1000000;
        p->count = voters + standbys + others;
        p->queue = memory_new_array(QUEUE_MAX, sizeof(*p->queue));
        assert_int_equal(cluster_configuration_encode(&c, &payload), 0);
        for (unsigned id = 1; id <= p->count; id++) {
                if (id <= voters) {
                        put(&p->peer[id].log[1], 1, CLUSTER_CHANGE, buffer_bytes(&payload));
                        p->peer[id].last = p->peer[id].term = 1;
                }
                peer_start(p, id);
        }
        buffer_fini(&payload);
}

static inline void peers_end(struct peers *p)
{
        for (unsigned id = 1; id <= PEERS_MAX; id++) {
                cluster_raft_free(&p->peer[id].raft);
                for (unsigned i = 0; i < LOG_MAX; i++)
                        buffer_fini(&p->peer[id].log[i].payload);
        }
        for (unsigned i = 0; i < QUEUE_MAX; i++)
                buffer_fini(&p->queue[i].configuration);
        free(p->queue);
}

static inline void peer_send(struct peers *p, struct peer *n, const struct cluster_message *m)
{
        struct letter *l = &p->queue[(p->queue_first + p->queue_count) % QUEUE_MAX];

        assert_true(m->node_id <= PEERS_MAX);
        p->last_to[m->node_id] = *m;
        if (n->is_cut || p->peer[m->node_id].is_cut || !p->peer[m->node_id].raft)
                return;
        assert_true(p->queue_count++ < QUEUE_MAX);
        l->from = n->id;
        l->message = *m;
        if (m->type == CLUSTER_INSTALL) {
                buffer_clear(&l->configuration);
                buffer_add_bytes(&l->configuration, m->install.configuration);
        }
}

static inline void peer_persisted(struct peers *p, struct peer *n)
{
        struct cluster_update u;

        if (n->is_slow)
                return;
        assert_int_equal(cluster_raft_persisted(n->raft, p->now_us, n->last, &u), 0);
        peers_carry_out(p, n, &u);
}

/* One step's worth; the rest of a message and what is persisted follow. */
static void peers_carry_out(struct peers *p, struct peer *n, struct cluster_update *u)
{
        bool has_entries = false, has_more;

        do {
                if (u->has_term_or_vote) {
                        n->term = u->term;
                        n->vote = u->voted_for;
                }
                for (unsigned i = 0; i < u->entry_count; i++)
                        put(&n->log[u->first_index + i], u->entries[i].term, u->entries[i].type, u->entries[i].payload);
                if (u->entry_count)
                        n->last = u->first_index + u->entry_count - 1;
                has_entries |= u->entry_count > 0;
                if (u->has_install)
                        n->install_index = u->install_index;
                for (unsigned i = 0; i < u->message_count; i++)
                        peer_send(p, n, &u->messages[i]);
                if (u->has_commit_index)
                        n->commit = u->commit_index;
                n->timeout_us = u->timeout_us;
                has_more = u->has_more;
                if (has_more)
                        assert_int_equal(cluster_raft_more(n->raft, p->now_us, u), 0);
        } while (has_more);
        while (!n->install_index && n->applied < n->commit && n->applied < n->last) {
                const struct kept *k = &n->log[++n->applied];

                if (k->type != CLUSTER_CHANGE)
                        continue;
                assert_int_equal(
                        cluster_raft_configured(n->raft, p->now_us, n->applied, buffer_bytes(&k->payload), u), 0);
                peers_carry_out(p, n, u);
        }
        if (has_entries)
                peer_persisted(p, n);
}

/* Gives a message to an engine; its entries are those of `log`. */
static inline int peer_hear(struct peers *p, uint64_t to, const struct cluster_message *message, const struct kept *log)
{
        struct peer *n = &p->peer[to];
        struct cluster_entry *entries = memory_new_array(LOG_MAX, sizeof(*entries));
        struct cluster_message m = *message;
        struct cluster_update u;
        int r;

        if (m.type == CLUSTER_APPEND) {
                for (unsigned i = 0; i < m.append.entry_count; i++) {
                        const struct kept *k = &log[m.append.previous_index + 1 + i];

                        entries[i] = (struct cluster_entry){
                                .term = k->term, .type = k->type, .payload = buffer_bytes(&k->payload)};
                }
                m.append.entries = entries;
        }
        r = cluster_raft_receive(n->raft, p->now_us, &m, &u);
        if (!r)
                peers_carry_out(p, n, &u);
        free(entries);
        return r;
}

static inline void peers_deliver(struct peers *p)
{
        while (p->queue_count) {
                struct letter *l = &p->queue[p->queue_first];
                struct cluster_message m = l->message;
                uint64_t to = m.node_id;

                p->queue_first = (p->queue_first + 1) % QUEUE_MAX;
                p->queue_count--;
                m.node_id = l->from;
                if (m.type == CLUSTER_INSTALL)
                        m.install.configuration = buffer_bytes(&l->configuration);
                if (!p->peer[to].raft || p->peer[to].is_cut)
                        continue;
                assert_int_equal(peer_hear(p, to, &m, p->peer[l->from].log), 0);
        }
}

/* Lets time pass in steps of 10 ms. */
static inline void peers_wait(struct peers *p, unsigned ms)
{
        for (uint64_t end = p->now_us + ms * 1000; p->now_us < end; p->now_us += 10000) {
                for (unsigned id = 1; id <= p->count; id++) {
                        struct peer *n = &p->peer[id];
                        struct cluster_update u;

                        if (!n->raft || n->timeout_us > p->now_us)
                                continue;
                        assert_int_equal(cluster_raft_timeout(n->raft, p->now_us, &u), 0);
                        peers_carry_out(p, n, &u);
                }
                peers_deliver(p);
        }
}

/* The leader that may write; fails the test if there is none soon. */
static inline struct peer *peers_leader(struct peers *p)
{
        for (unsigned i = 0; i < 1000; i++) {
                for (unsigned id = 1; id <= p->count; id++)
                        if (p->peer[id].raft && !p->peer[id].is_cut && cluster_raft_can_write(p->peer[id].raft))
                                return &p->peer[id];
                peers_wait(p, 10);
        }
        fail_msg("nobody leads");
        return NULL;
}

/* Makes this node the leader. */
static inline struct peer *peers_elect(struct peers *p, uint64_t id)
{
        for (unsigned i = 0; i < 50; i++) {
                struct peer *leader = peers_leader(p);
                struct cluster_update u;

                if (leader->id == id)
                        return leader;
                if (cluster_raft_transfer(leader->raft, p->now_us, id, &u) == 0)
                        peers_carry_out(p, leader, &u);
                peers_deliver(p);
                peers_wait(p, 20);
        }
        fail_msg("it does not lead");
        return NULL;
}

static inline void peer_submit(struct peers *p, struct peer *n, unsigned count)
{
        struct cluster_entry *entries = memory_new_array(count, sizeof(*entries));
        struct cluster_update u;

        for (unsigned i = 0; i < count; i++)
                entries[i] = (struct cluster_entry){.type = CLUSTER_COMMAND, .payload = BYTES_LITERAL("x")};
        assert_int_equal(cluster_raft_submit(n->raft, p->now_us, entries, count, &u), 0);
        peers_carry_out(p, n, &u);
        free(entries);
}

/* Carries out a change; gives what it said. */
static inline int peer_did(struct peers *p, struct peer *n, int r, struct cluster_update *u)
{
        assert_true(r >= 0);
        if (!r)
                peers_carry_out(p, n, u);
        peers_deliver(p);
        return r;
}

static inline uint64_t configuration_index(const struct peer *n, unsigned *ret_count)
{
        struct cluster_configuration c;
        uint64_t index;
        bool is_committed;

        cluster_raft_configuration(n->raft, &c, &index, &is_committed);
        *ret_count = c.count;
        return index;
}

#endif
