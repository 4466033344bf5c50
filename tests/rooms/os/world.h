/* What tests of worlds share: nodes that listen, and connections whose bytes tell their place. */
#ifndef TESTS_ROOMS_OS_WORLD_H
#define TESTS_ROOMS_OS_WORLD_H

#include "test.h"

#include <stdio.h>
#include <string.h>

#include "os/os_sim.h"

enum { NODES_MAX = 5, TALKS_MAX = 64, PORT = 2112, SEEDS = 30, CHUNK = 5000, FEED_MAX = 64 * 1024 };
#define SECOND ((uint64_t)1000000)

/* One end of a connection: sends and expects bytes whose values tell their place. */
struct talk {
        struct node *node;
        struct os_conn *conn;
        unsigned opened;
        unsigned closed;
        unsigned drained;
        unsigned pieces;
        uint64_t to_send;
        uint64_t sent;
        uint64_t received;
        bool must_echo;
        bool is_server;
        uint64_t ended_us; /* true time */
        char problem[64];
};

struct node {
        struct world *world;
        struct os *os;
        char address[16];
        struct os_listener *listener;
        unsigned accepted;
        struct talk *last; /* accepted */
};

struct world {
        struct os_sim_world *sim;
        struct node nodes[NODES_MAX];
        unsigned count;
        struct talk talks[TALKS_MAX];
        unsigned talk_count;
        uint64_t server_sends; /* what an accepted end sends */
        bool server_is_watched;
        bool server_stops_reading;
};

static inline uint8_t pattern(uint64_t at)
{
        return (uint8_t)(at * 131 + (at >> 11));
}

static inline void feed(struct talk *t)
{
        uint8_t chunk[CHUNK];
        struct bytes piece;
        size_t i;

        while (t->conn && t->sent < t->to_send && os_conn_queued(t->conn) < FEED_MAX) {
                piece = bytes_of(chunk, MIN((uint64_t)sizeof chunk, t->to_send - t->sent));
                for (i = 0; i < piece.size; i++)
                        chunk[i] = pattern(t->sent + i);
                os_conn_send(t->conn, &piece, 1);
                t->sent += piece.size;
        }
}

static inline void talk_on_open(void *arg)
{
        struct talk *t = arg;

        assert_int_equal(t->opened + t->closed, 0);
        assert_int_equal(t->received, 0);
        t->opened++;
}

static inline void talk_on_data(void *arg, struct bytes data)
{
        struct talk *t = arg;
        size_t i;

        assert_int_equal(t->closed, 0);
        assert_true(data.size > 0);
        for (i = 0; i < data.size; i++)
                assert_int_equal(data.data[i], pattern(t->received + i));
        t->received += data.size;
        t->pieces++;
        if (t->must_echo)
                os_conn_send(t->conn, &data, 1);
}

static inline void talk_on_drained(void *arg)
{
        struct talk *t = arg;

        assert_int_equal(t->closed, 0);
        assert_int_equal(os_conn_queued(t->conn), 0);
        t->drained++;
        feed(t);
}

static inline void talk_on_close(void *arg)
{
        struct talk *t = arg;
        const char *problem = os_conn_problem(t->conn);

        assert_int_equal(t->closed, 0);
        t->closed++;
        t->ended_us = os_sim_world_now_us(t->node->world->sim);
        snprintf(t->problem, sizeof t->problem, "%s", problem ? problem : "");
        t->conn = NULL;
}

static const struct os_conn_handler talk_handler = {
        .on_data = talk_on_data, .on_drained = talk_on_drained, .on_close = talk_on_close, .on_open = talk_on_open};

static inline struct talk *talk_new(struct node *node)
{
        struct world *w = node->world;
        struct talk *t = &w->talks[w->talk_count++];

        assert_true(w->talk_count <= TALKS_MAX);
        *t = (struct talk){.node = node};
        return t;
}

static inline void talk_on_accept(void *arg, struct os_conn *conn)
{
        struct node *node = arg;
        struct talk *t = talk_new(node);

        node->accepted++;
        node->last = t;
        t->is_server = true;
        t->conn = conn;
        t->to_send = node->world->server_sends;
        os_conn_accept(conn, &talk_handler, t);
        if (node->world->server_is_watched)
                os_conn_watch(conn);
        if (node->world->server_stops_reading)
                os_conn_read_stop(conn);
        feed(t);
}

static inline void node_listen(struct node *node)
{
        uint16_t port;

        assert_int_equal(os_listen(node->os, "0.0.0.0", PORT, talk_on_accept, node, &node->listener, &port), 0);
        assert_int_equal(port, PORT);
}

static inline void set_up(struct world *w, uint64_t seed, unsigned count)
{
        unsigned i;

        *w = (struct world){.count = count};
        assert_int_equal(os_sim_world_new(seed, &w->sim), 0);
        for (i = 0; i < count; i++) {
                struct node *node = &w->nodes[i];

                node->world = w;
                snprintf(node->address, sizeof node->address, "10.0.0.%u", i + 1);
                assert_int_equal(os_sim_world_add(w->sim, node->address, &node->os), 0);
                node_listen(node);
        }
}

static inline void tear_down(struct world *w)
{
        unsigned i;

        for (i = 0; i < w->count; i++)
                os_listener_close(&w->nodes[i].listener);
        os_sim_world_free(&w->sim);
        assert_null(w->sim);
}

/* The test's view of a node after its process was lost. */
static inline void forget(struct world *w, struct node *node)
{
        unsigned i;

        node->listener = NULL;
        for (i = 0; i < w->talk_count; i++)
                if (w->talks[i].node == node)
                        w->talks[i].conn = NULL;
}

static inline struct talk *talk_to_address(struct node *from, const char *address, uint64_t to_send)
{
        struct talk *t = talk_new(from);

        t->to_send = to_send;
        assert_int_equal(os_connect(from->os, address, PORT, &talk_handler, t, &t->conn), 0);
        feed(t);
        return t;
}

static inline struct talk *talk_to(struct node *from, struct node *to, uint64_t to_send)
{
        return talk_to_address(from, to->address, to_send);
}

static inline void run(struct world *w, uint64_t us)
{
        os_sim_world_run_for(w->sim, us);
}

static inline void set_cut(struct world *w, unsigned from, unsigned to, bool is_cut)
{
        struct os_sim_link link = os_sim_world_link(w->sim, w->nodes[from].os, w->nodes[to].os);

        link.is_cut = is_cut;
        os_sim_world_set_link(w->sim, w->nodes[from].os, w->nodes[to].os, &link);
}

#endif
