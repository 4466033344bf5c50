/* Nodes with everything below the gateway, each on a machine of a simulated world, without TLS unless a test says so. */
#ifndef TESTS_MEMBERSHIP_WORLD_H
#define TESTS_MEMBERSHIP_WORLD_H

#include "test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "membership/membership.h"
#include "os/os_sim.h"

enum { NODES_MAX = 6, SECOND = 1000 * 1000 };

struct world;

struct node {
        struct world *world;
        unsigned number;
        char address[32];
        struct os *os;
        struct control *control;
        struct persistence_node *disk;
        struct membership *membership;
        struct store *store;
        char seeds[256]; /* flags that it is started with */
        char token[TLS_TOKEN_TEXT_SIZE];
        char advertise[64];
        uint16_t port; /* for nodes; 0: as before */
        char group[32]; /* of multicast; "": none */
        char secret[64];
        bool is_up;
        bool is_ready, is_open, is_closed;
        int ready_result;
        int open_result;
        unsigned version_min, version_max; /* that it claims; 0: this program's */
        unsigned unfit;                    /* times that it was told to stop */
        char problem[512];
};

/* An answer to a command. */
struct answer {
        bool has_come;
        int status;
        char detail[512];
        json_t *body;
};

struct world {
        struct os_sim_world *sim;
        struct node nodes[NODES_MAX];
        unsigned count;
        bool is_insecure;
};

static inline void world_begin(struct world *w, uint64_t seed, bool is_insecure)
{
        *w = (struct world){.is_insecure = is_insecure};
        assert_int_equal(os_sim_world_new(seed, &w->sim), 0);
}

static inline struct node *world_add(struct world *w)
{
        struct node *n = &w->nodes[w->count++];

        assert_true(w->count <= NODES_MAX);
        n->world = w;
        n->number = w->count;
        snprintf(n->address, sizeof n->address, "10.0.0.%u", w->count);
        assert_int_equal(os_sim_world_add(w->sim, n->address, &n->os), 0);
        return n;
}

static inline void on_unfit(void *arg, const char *problem)
{
        struct node *n = arg;

        n->unfit++;
        snprintf(n->problem, sizeof n->problem, "%s", problem);
}

static inline void on_open(void *arg, int result, const char *problem)
{
        struct node *n = arg;

        n->is_open = true;
        n->open_result = result;
        if (result)
                snprintf(n->problem, sizeof n->problem, "%s", problem);
        else if (!membership_may_serve(n->membership))
                assert_int_equal(n->unfit, 1);
}

static inline void on_ready(void *arg, int result, const char *problem)
{
        struct node *n = arg;
        struct store_options options = {
                .name = "default",
                .segment_size = 1024 * 1024,
                .space_reserve = 1,
                .memory_size = 8 * 1024 * 1024,
                .open_on_loop = true,
                .on_open = on_open,
                .arg = n,
        };

        n->is_ready = true;
        n->ready_result = result;
        snprintf(n->problem, sizeof n->problem, "%s", problem);
        if (result)
                return;
        options.os = n->os;
        options.control = n->control;
        options.node = n->disk;
        membership_store_cluster(n->membership, &options.cluster);
        assert_int_equal(store_open(&options, &n->store), 0);
        membership_add_store(n->membership, n->store);
}

static inline void node_open_membership(void *arg)
{
        struct node *n = arg;
        char name[16];
        struct membership_options options = {
                .os = n->os,
                .control = n->control,
                .node = n->disk,
                .directory = "data",
                .name = name,
                .instance = {(uint8_t)n->number},
                .listen = n->address,
                .advertise = n->advertise,
                .is_insecure = n->world->is_insecure,
                .join = n->seeds,
                .token = n->token,
                .port = n->port,
                .discover_group = n->group,
                .discover_secret = n->secret,
                .client_host = n->address,
                .client_port = 2113,
                .on_ready = on_ready,
                .on_unfit = on_unfit,
                .arg = n,
                .version_min = n->version_min,
                .version_max = n->version_max,
        };

        snprintf(name, sizeof name, "n%u", n->number);
        membership_open(&options, &n->membership);
}

static inline void node_start(struct node *n)
{
        struct control_options control = {.os = n->os, .node_name = "test", .log_fd = -1, .log_level = LEVEL_ERROR};

        n->is_up = true;
        n->is_ready = n->is_open = n->is_closed = false;
        n->unfit = 0;
        n->store = NULL;
        n->disk = NULL;
        n->membership = NULL;
        assert_int_equal(control_open(&control, &n->control), 0);
        assert_int_equal(persistence_node_open(n->os, "data", false, &n->disk), 0);
        os_post(n->os, node_open_membership, n);
}

static inline void node_on_closed(void *arg)
{
        struct node *n = arg;

        membership_close(&n->membership);
        persistence_node_close(&n->disk);
        n->is_closed = true;
}

static inline void node_begin_close(void *arg)
{
        struct node *n = arg;

        membership_stop(n->membership);
        if (n->store)
                store_close(&n->store, node_on_closed, n);
        else
                node_on_closed(n);
}

static inline void node_stop(struct node *n)
{
        if (!n->is_up)
                return;
        os_post(n->os, node_begin_close, n);
        for (unsigned i = 0; i < 200 && !n->is_closed; i++)
                os_sim_world_run_for(n->world->sim, SECOND / 20);
        assert_true(n->is_closed);
        control_close(&n->control);
        n->is_up = false;
}

/* Memory of its life is lost with it. */
static inline void node_lose(struct node *n, bool is_kill)
{
        if (!n->is_up)
                return;
        if (is_kill)
                os_sim_kill(n->os);
        else
                os_sim_crash(n->os);
        n->is_up = false;
        n->store = NULL;
        n->membership = NULL;
}

static inline void world_end(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++)
                node_stop(&w->nodes[i]);
        os_sim_world_free(&w->sim);
}

static inline void world_run(struct world *w, uint64_t us)
{
        os_sim_world_run_for(w->sim, us);
}

/* ---- commands ---- */

static inline void on_answer(void *arg, const struct membership_answer *said)
{
        struct answer *a = arg;

        assert_false(a->has_come);
        a->has_come = true;
        a->status = said->status;
        snprintf(a->detail, sizeof a->detail, "%s", said->detail);
        a->body = json_loadb((const char *)said->body.data, said->body.size, 0, NULL);
}

struct asking {
        struct node *node;
        const char *request;
        uint64_t patience_us;
        struct answer *answer;
};

static inline void asking_begin(void *arg)
{
        struct asking *a = arg;

        membership_command(a->node->membership, bytes_of_string(a->request), os_monotonic_us(a->node->os) + a->patience_us,
                on_answer, a->answer);
}

/* Asks on the node's own loop, and waits for the answer. Its body is the caller's. */
static inline void ask_for(struct node *n, const char *request, uint64_t patience_us, struct answer *ret)
{
        struct asking a = {n, request, patience_us, ret};

        *ret = (struct answer){.has_come = false};
        os_post(n->os, asking_begin, &a);
        for (uint64_t waited = 0; !ret->has_come && waited < patience_us + 30 * SECOND; waited += SECOND / 50)
                world_run(n->world, SECOND / 50);
        assert_true(ret->has_come);
}

static inline void ask_ok(struct node *n, const char *request, struct answer *ret)
{
        ask_for(n, request, 20 * SECOND, ret);
        if (ret->status != 200)
                fail_msg("%s: %d %s", request, ret->status, ret->detail);
}

static inline void ask_done(struct node *n, const char *request)
{
        struct answer a;

        ask_ok(n, request, &a);
        json_decref(a.body);
}

static inline void ask_refused(struct node *n, const char *request, int status, const char *words)
{
        struct answer a;

        ask_for(n, request, 5 * SECOND, &a);
        if (a.status != status || !strstr(a.detail, words))
                fail_msg("%s: %d %s", request, a.status, a.detail);
        json_decref(a.body);
}

static inline void make_token(struct node *n, unsigned uses, char ret[TLS_TOKEN_TEXT_SIZE])
{
        struct answer a;
        char request[64];

        snprintf(request, sizeof request, "{\"do\":\"token\",\"uses\":%u}", uses);
        ask_ok(n, request, &a);
        snprintf(ret, TLS_TOKEN_TEXT_SIZE, "%s", json_string_value(json_object_get(a.body, "token")));
        json_decref(a.body);
}

/* ---- waiting ---- */

static inline bool is_done(bool (*condition)(struct world *w, unsigned n), struct world *w, unsigned n, unsigned seconds)
{
        for (unsigned i = 0; i < seconds * 20; i++) {
                if (condition(w, n))
                        return true;
                world_run(w, SECOND / 20);
        }
        return condition(w, n);
}

#define EXPECT_WITHIN(seconds, condition, w, n)                                                                                \
        do {                                                                                                                   \
                if (!is_done(condition, w, n, seconds))                                                                        \
                        fail_msg("%s of %u: not within %u s", #condition, (unsigned)(n), (unsigned)(seconds));                 \
        } while (0)

static inline bool node_is_open(struct world *w, unsigned number)
{
        return w->nodes[number - 1].is_open;
}

static inline bool node_is_ready(struct world *w, unsigned number)
{
        return w->nodes[number - 1].is_ready;
}

static inline bool node_is_unfit(struct world *w, unsigned number)
{
        return w->nodes[number - 1].unfit > 0;
}

static inline struct node *leader_of(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++)
                if (w->nodes[i].is_up && w->nodes[i].membership && membership_is_leading(w->nodes[i].membership))
                        return &w->nodes[i];
        return NULL;
}

/* Every node that is up says that there are so many members, all alive that are up, and one and the same leader. */
static inline bool all_see_members(struct world *w, unsigned count)
{
        struct node *leader = leader_of(w);

        if (!leader)
                return false;
        for (unsigned i = 0; i < w->count; i++) {
                struct membership_node nodes[CLUSTER_MEMBERS_MAX];
                struct membership_node told;
                unsigned n;

                if (!w->nodes[i].is_up)
                        continue;
                if (!w->nodes[i].membership)
                        return false;
                n = membership_nodes(w->nodes[i].membership, nodes, CLUSTER_MEMBERS_MAX);
                if (n != count || !membership_leader(w->nodes[i].membership, &told) ||
                        strcmp(told.host, leader->address) != 0)
                        return false;
                for (unsigned k = 0; k < n; k++)
                        if (!nodes[k].is_alive)
                                return false;
        }
        return true;
}

static inline bool has_voters(struct world *w, unsigned voters)
{
        struct membership_summary summary;

        if (!leader_of(w))
                return false;
        membership_summary(leader_of(w)->membership, &summary);
        return summary.voters == voters;
}

/* The cluster's number for it: who asks first gets the lower one. */
static inline uint64_t id_of(struct node *n)
{
        return persistence_node_identity(n->disk).node_id;
}

/* ---- beginnings ---- */

static inline struct node *world_first(struct world *w)
{
        struct node *n = world_add(w);

        node_start(n);
        EXPECT_WITHIN(10, node_is_open, w, 1);
        assert_int_equal(n->open_result, 0);
        ask_done(n, "{\"do\":\"init\"}");
        return n;
}

static inline struct node *world_join(struct world *w, const char *token)
{
        struct node *n = world_add(w);

        snprintf(n->seeds, sizeof n->seeds, "10.0.0.1:2112");
        snprintf(n->token, sizeof n->token, "%s", token);
        node_start(n);
        return n;
}

static inline void world_three(struct world *w)
{
        char token[TLS_TOKEN_TEXT_SIZE];

        world_first(w);
        make_token(&w->nodes[0], 5, token);
        world_join(w, token);
        world_join(w, token);
        EXPECT_WITHIN(20, node_is_open, w, 2);
        EXPECT_WITHIN(20, node_is_open, w, 3);
        ask_done(&w->nodes[0], "{\"do\":\"grow\"}");
        EXPECT_WITHIN(20, all_see_members, w, 3);
        EXPECT_WITHIN(5, has_voters, w, 3);
}

#endif
