/* One store on three nodes, all on the loop of one machine, whose messages the loop carries: so that a server of a test can be
 * the leader or a follower among others. Everything but three_cut and three_append is for the loop's thread. */
#ifndef TESTS_LIB_THREE_H
#define TESTS_LIB_THREE_H

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "control/control.h"
#include "os/os.h"
#include "store/store.h"

enum { THREE = 3, THREE_ELECTION_MS = 300, THREE_LOOK_US = 5000 };

enum seat { SEAT_ALONE, SEAT_LEADER, SEAT_FOLLOWER };

struct three;

struct three_node {
        struct three *three;
        uint64_t node_id;
        struct persistence_node *node;
        struct store *store;
        bool is_cut; /* its messages are lost, both ways */
};

struct three {
        struct os *os;
        struct control *control;
        struct three_node nodes[THREE];
        struct cluster_configuration founders;
        struct os_timer look;
        unsigned leader; /* when it was up */
        unsigned closed;
        void (*on_up)(void *arg);
        void (*on_closed)(void *arg);
        void *arg;
};

struct three_parcel {
        struct three_node *from, *to;
        enum store_link link;
        uint16_t type;
        struct buffer body;
};

static inline void three_deliver(void *arg)
{
        struct three_parcel *p = arg;

        if (p->to->store && !p->to->is_cut && !p->from->is_cut)
                store_receive(p->to->store, p->from->node_id, p->link, p->type, buffer_bytes(&p->body));
        buffer_fini(&p->body);
        free(p);
}

static inline bool three_send(void *arg, uint64_t node_id, enum store_link link, uint16_t type, const struct bytes *pieces,
        unsigned count)
{
        struct three_node *from = arg;
        struct three_parcel *p = MEMORY_NEW(struct three_parcel);

        p->from = from;
        p->to = &from->three->nodes[node_id - 1];
        p->link = link;
        p->type = type;
        for (unsigned i = 0; i < count; i++)
                buffer_add_bytes(&p->body, pieces[i]);
        os_post(from->three->os, three_deliver, p);
        return true;
}

static inline void three_on_members(void *arg, const struct cluster_configuration *configuration)
{
        (void)arg;
        (void)configuration;
}

static inline void three_on_open(void *arg, int result, const char *problem)
{
        (void)arg;
        if (result) {
                fprintf(stderr, "a store did not open: %d %s\n", result, problem);
                abort();
        }
}

/* Up: all serve, and one leads. */
static inline void three_look(struct os_timer *timer)
{
        struct three *t = timer->arg;
        unsigned ready = 0;

        t->leader = THREE;
        for (unsigned i = 0; i < THREE; i++) {
                ready += store_is_ready(t->nodes[i].store);
                if (store_is_ready(t->nodes[i].store) && store_is_leading(t->nodes[i].store))
                        t->leader = i;
        }
        if (ready == THREE && t->leader < THREE)
                t->on_up(t->arg);
        else
                os_timer_start(t->os, timer, THREE_LOOK_US);
}

static inline void three_open_node(struct three *t, unsigned i)
{
        static const uint8_t cluster_uuid[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};
        static const uint8_t store_uuid[16] = {9, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 99};
        struct three_node *n = &t->nodes[i];
        struct persistence_identity identity = {.node_id = i + 1};
        char directory[16];
        struct store_options options = {
                .os = t->os,
                .control = t->control,
                .name = "default",
                .segment_size = 4 * MIB,
                .memory_size = 16 * MIB,
                .cluster = {.is_member = true,
                        .store_uuid = store_uuid,
                        .founders = &t->founders,
                        .election_timeout_ms = THREE_ELECTION_MS,
                        .send = three_send,
                        .on_members = three_on_members,
                        .arg = n},
                .on_open = three_on_open,
        };

        *n = (struct three_node){.three = t, .node_id = i + 1};
        memcpy(identity.cluster_uuid, cluster_uuid, 16);
        snprintf(directory, sizeof directory, "node-%u", i + 1);
        if (persistence_node_open(t->os, directory, false, &n->node) || persistence_node_adopt(n->node, &identity))
                abort();
        options.node = n->node;
        if (store_open(&options, &n->store))
                abort();
}

/* `on_up` runs when the three are up, later. */
static inline void three_open(struct three *t, struct os *os, struct control *control, void (*on_up)(void *arg), void *arg)
{
        *t = (struct three){.os = os, .control = control, .on_up = on_up, .arg = arg};
        t->look = (struct os_timer){.fn = three_look, .arg = t};
        t->founders.count = THREE;
        for (unsigned i = 0; i < THREE; i++) {
                t->founders.servers[i].node_id = i + 1;
                snprintf(t->founders.servers[i].address, CLUSTER_ADDRESS_SIZE, "node-%u:2112", i + 1);
        }
        for (unsigned i = 0; i < THREE; i++)
                three_open_node(t, i);
        for (unsigned i = 0; i < THREE; i++)
                for (unsigned k = 0; k < THREE; k++)
                        if (i != k)
                                store_link_changed(t->nodes[i].store, k + 1, true);
        os_timer_start(os, &t->look, THREE_LOOK_US);
}

static inline struct three_node *three_seat(struct three *t, enum seat seat)
{
        return &t->nodes[(t->leader + (seat == SEAT_FOLLOWER)) % THREE];
}

static inline void three_on_closed(void *arg)
{
        struct three *t = arg;

        if (++t->closed < THREE)
                return;
        for (unsigned i = 0; i < THREE; i++)
                persistence_node_close(&t->nodes[i].node);
        t->on_closed(t->arg);
}

static inline void three_close(struct three *t, void (*on_closed)(void *arg))
{
        t->on_closed = on_closed;
        for (unsigned i = 0; i < THREE; i++)
                store_close(&t->nodes[i].store, three_on_closed, t);
}

/* ---- from the test's thread ---- */

/* A question to the loop, waited for. */
struct three_question {
        struct three *three;
        sem_t is_done;
        /* cut */
        enum seat seat;
        bool is_cut;
        /* append */
        const char *stream;
        uint64_t position;
};

static inline void three_ask(struct three_question *q, void (*fn)(void *arg))
{
        if (sem_init(&q->is_done, 0, 0))
                abort();
        os_post(q->three->os, fn, q);
        while (sem_wait(&q->is_done)) {
        }
        sem_destroy(&q->is_done);
}

static inline void three_cut_on_loop(void *arg)
{
        struct three_question *q = arg;

        three_seat(q->three, q->seat)->is_cut = q->is_cut;
        sem_post(&q->is_done);
}

static inline void three_cut(struct three *t, enum seat seat, bool is_cut)
{
        struct three_question q = {.three = t, .seat = seat, .is_cut = is_cut};

        three_ask(&q, three_cut_on_loop);
}

static inline void three_on_appended(void *arg, const struct store_append_result *result)
{
        struct three_question *q = arg;

        if (result->verdict != STORE_OK) {
                fprintf(stderr, "an append failed: %d %s\n", result->verdict, result->problem);
                abort();
        }
        q->position = result->position;
        sem_post(&q->is_done);
}

static inline void three_append_on_loop(void *arg)
{
        struct three_question *q = arg;
        struct store_append_stream stream = {
                .stream = bytes_of_string(q->stream), .expected = {.kind = EXPECTED_ANY}};
        struct store_append_event event = {.draft = {
                                                   .type = BYTES_LITERAL("Happened"),
                                                   .data = BYTES_LITERAL("{\"n\":7}"),
                                                   .content_type = CONTENT_JSON,
                                           }};
        struct store_append append = {.streams = &stream,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(q->three->control)};

        os_random(q->three->os, &event.draft.id, sizeof event.draft.id);
        event_id_stamp_random(&event.draft.id);
        store_append(three_seat(q->three, SEAT_LEADER)->store, &append, three_on_appended, q);
}

/* Appends one event at the leader; gives its position. */
static inline uint64_t three_append(struct three *t, const char *stream)
{
        struct three_question q = {.three = t, .stream = stream};

        three_ask(&q, three_append_on_loop);
        return q.position;
}

#endif
