/* Nodes that send each other numbered messages, on one loop of the real machine or each on a machine of a simulated world. */
#ifndef TESTS_PEERS_SUPPORT_H
#define TESTS_PEERS_SUPPORT_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/os_sim.h"
#include "peers/peers.h"

enum { NODES_MAX = 5, TYPE_NUMBERED = 0x100, TYPE_OTHER = 0x101 };

static const uint8_t cluster_a[16] = {0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t cluster_b[16] = {0xb0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t store_one[16] = {0x51, 1};

struct heard { /* of one node by one link */
        uint64_t last;    /* number of the last message; 0: none */
        uint64_t count;
        uint64_t bytes;
        bool is_fresh; /* the link is new: the next number may be any greater one */
};

struct node {
        struct os *os;
        struct control *control;
        struct peers *peers;
        uint64_t id;
        uint64_t said[NODES_MAX + 1][PEERS_LINKS];
        struct heard heard[NODES_MAX + 1][PEERS_LINKS];
        bool is_up[NODES_MAX + 1];
        unsigned ups, downs, rooms, strangers, asks;
        uint64_t down_us[NODES_MAX + 1];
        char stranger[512]; /* the last one */
        uint64_t ask;
        struct buffer request;
        struct tls_identity asker;
        bool has_asker;
        void (*on_ask)(struct node *n, struct bytes request);
        void (*on_message)(struct node *n, uint64_t from, struct bytes body);
};

static inline void node_on_message(void *arg, uint64_t from, enum peers_link link, const uint8_t store_uuid[16],
        uint16_t type, struct bytes body)
{
        struct node *n = arg;
        struct heard *h;
        uint64_t number;

        assert_true(from >= 1 && from <= NODES_MAX);
        assert_memory_equal(store_uuid, store_one, 16);
        if (type == TYPE_OTHER) {
                n->on_message(n, from, body);
                return;
        }
        assert_int_equal(type, TYPE_NUMBERED);
        assert_true(body.size >= 8);
        h = &n->heard[from][link];
        number = get_u64(body.data);
        if (link == PEERS_CONTROL)
                assert_true(n->is_up[from]);
        /* In order, never twice; and none left out while the link stands. */
        assert_true(number > h->last);
        if (link == PEERS_CONTROL && !h->is_fresh)
                assert_true(number == h->last + 1);
        h->is_fresh = false;
        h->last = number;
        h->count++;
        h->bytes += body.size;
}

static inline void node_on_link(void *arg, uint64_t node, bool is_up)
{
        struct node *n = arg;

        assert_true(n->is_up[node] != is_up);
        assert_true(peers_is_up(n->peers, node, PEERS_CONTROL) == is_up);
        n->is_up[node] = is_up;
        n->heard[node][PEERS_CONTROL].is_fresh = true;
        n->ups += is_up;
        n->downs += !is_up;
        if (!is_up)
                n->down_us[node] = os_monotonic_us(n->os);
}

static inline void node_on_room(void *arg, uint64_t node, enum peers_link link)
{
        struct node *n = arg;

        assert_true(peers_room(n->peers, node, link) > 0);
        n->rooms++;
}

static inline void node_on_stranger(void *arg, const char *address, const char *why)
{
        struct node *n = arg;

        n->strangers++;
        snprintf(n->stranger, sizeof n->stranger, "%s %s", address, why);
}

static inline void node_on_ask(
        void *arg, uint64_t ask, const char *address, const struct tls_identity *identity, struct bytes request)
{
        struct node *n = arg;

        assert_non_null(address);
        n->asks++;
        n->ask = ask;
        n->has_asker = identity != NULL;
        if (identity)
                n->asker = *identity;
        buffer_clear(&n->request);
        buffer_add_bytes(&n->request, request);
        if (n->on_ask)
                n->on_ask(n, request);
}

static const struct peers_handler node_handler = {.on_message = node_on_message,
        .on_link = node_on_link,
        .on_room = node_on_room,
        .on_stranger = node_on_stranger,
        .on_ask = node_on_ask};

struct node_wish {
        uint64_t id;
        const uint8_t *cluster_uuid; /* NULL: cluster_a */
        struct tls_context *tls;
        const char *address; /* NULL: 127.0.0.1 */
        uint16_t port;
        uint32_t epoch;
        uint16_t version_min, version_max; /* 0: 1 */
};

/* What is left of an earlier life of the node is forgotten. */
static inline int node_try_open(struct node *n, struct os *os, const struct node_wish *wish)
{
        struct control_options control = {.os = os, .node_name = "test", .log_fd = -1};
        struct peers_options options = {.os = os,
                .identity = {.node_id = wish->id,
                        .epoch = wish->epoch,
                        .version_min = wish->version_min ? wish->version_min : 1,
                        .version_max = wish->version_max ? wish->version_max : 1},
                .address = wish->address ? wish->address : "127.0.0.1",
                .port = wish->port,
                .tls = wish->tls,
                .is_insecure_anywhere = wish->address && !wish->tls,
                .handler = &node_handler,
                .arg = n};
        int r;

        memset(n, 0, sizeof *n);
        n->os = os;
        n->id = wish->id;
        memcpy(options.identity.cluster_uuid, wish->cluster_uuid ? wish->cluster_uuid : cluster_a, 16);
        snprintf(options.identity.name, sizeof options.identity.name, "n%u", (unsigned)wish->id);
        assert_int_equal(control_open(&control, &n->control), 0);
        options.control = n->control;
        r = peers_open(&options, &n->peers);
        if (r)
                control_close(&n->control);
        return r;
}

static inline void node_open(struct node *n, struct os *os, const struct node_wish *wish)
{
        assert_int_equal(node_try_open(n, os, wish), 0);
}

static inline void node_close(struct node *n)
{
        peers_close(&n->peers);
        control_close(&n->control);
        buffer_fini(&n->request);
}

static inline void node_know(struct node *n, const struct node *other)
{
        char address[64];

        snprintf(address, sizeof address, "127.0.0.1:%u", peers_port(other->peers));
        assert_int_equal(peers_set_member(n->peers, other->id, address), 0);
}

/* A numbered message of `size` bytes (at least 8). */
static inline bool node_say(struct node *n, uint64_t to, enum peers_link link, size_t size)
{
        static uint8_t filling[1024 * 1024];
        uint8_t number[8];
        struct bytes pieces[] = {bytes_of(number, 8), bytes_of(filling, size - 8)};

        assert_true(size >= 8 && size - 8 <= sizeof filling);
        put_u64(number, n->said[to][link] + 1);
        if (!peers_send(n->peers, to, link, store_one, TYPE_NUMBERED, pieces, 2))
                return false;
        n->said[to][link]++;
        return true;
}

static inline uint64_t facts_of(const struct node *n, enum fact_type type)
{
        struct control_stats stats;

        control_stats(n->control, &stats);
        return stats.published_by_type[type];
}

/* ---- the real machine: turns until something is so ---- */

struct wait {
        struct os_timer timer;
        bool (*is_so)(void *arg);
        void *arg;
        unsigned left; /* ms */
};

static inline void wait_look(struct os_timer *timer)
{
        struct wait *w = timer->arg;

        if (w->is_so(w->arg) || w->left == 0) {
                os_stop(timer->os);
                return;
        }
        w->left--;
        os_timer_start(timer->os, timer, 1000);
}

static inline bool run_until(struct os *os, bool (*is_so)(void *arg), void *arg, unsigned ms)
{
        struct wait w = {.is_so = is_so, .arg = arg, .left = ms};

        w.timer = (struct os_timer){.fn = wait_look, .arg = &w};
        os_timer_start(os, &w.timer, 0);
        assert_int_equal(os_run(os), 0);
        return is_so(arg);
}

static inline bool never(void *arg)
{
        (void)arg;
        return false;
}

static inline void run_for(struct os *os, unsigned ms)
{
        (void)run_until(os, never, NULL, ms);
}

/* ---- certificates ---- */

/* A node's files in `directory` of the real machine, certified by the CA in `authority`. */
static inline void certify(struct os *os, const char *authority, const char *directory, uint64_t node_id)
{
        static const char *const names[] = {"127.0.0.1"};
        struct buffer request = {0}, certificate = {0}, ca = {0};
        struct tls_problem problem;
        char path[128];

        snprintf(path, sizeof path, "%s/ca.pem", authority);
        assert_int_equal(os_read_whole(os, path, TLS_PEM_SIZE_MAX, &ca), 0);
        assert_int_equal(tls_request_make(os, directory, &request, &problem), 0);
        assert_int_equal(
                tls_request_sign(os, authority, buffer_bytes(&request), node_id, names, 1, &certificate, &problem), 0);
        assert_int_equal(
                tls_certificate_install(os, directory, buffer_bytes(&ca), buffer_bytes(&certificate), &problem), 0);
        buffer_fini(&request);
        buffer_fini(&certificate);
        buffer_fini(&ca);
}

static inline struct tls_context *context_open(struct os *os, const char *directory)
{
        struct tls_context_options options = {
                .os = os, .directory = directory, .peer_certificate = TLS_PEER_OPTIONAL};
        struct tls_context *context = NULL;
        struct tls_problem problem;

        assert_int_equal(tls_context_open(&options, &context, &problem), 0);
        return context;
}

#endif
