/* Several nodes of one store on one simulated machine, each with a directory of its own. The test carries their
 * messages, late and only where the link is up. */
#ifndef TESTS_STORE_CLUSTER_SUPPORT_H
#define TESTS_STORE_CLUSTER_SUPPORT_H

#include "support.h"

enum { NODES_MAX = 5, ROOM_MAX = 4 * 1024 * 1024 };

struct trio;

struct member {
        struct trio *trio;
        uint64_t node_id;
        char directory[16];
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct store_options options;
        struct cluster_configuration members; /* as it was told last */
        bool has_opened;
        int open_result;
        bool is_closed;
        unsigned life; /* messages to an earlier one are lost */
        uint64_t queued[STORE_LINKS];
};

struct trio {
        struct os *os;
        unsigned count;
        struct member members[NODES_MAX];
        struct cluster_configuration founders;
        bool is_cut[NODES_MAX][NODES_MAX]; /* from, to */
        uint64_t delay_us;
        uint64_t messages;
        uint64_t bulk_bytes;
};

struct parcel {
        struct os_timer timer;
        struct trio *trio;
        unsigned from, to;
        unsigned life;
        enum store_link link;
        uint16_t type;
        struct buffer body;
};

static const uint8_t CLUSTER_UUID[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t STORE_UUID[16] = {9, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 99};

static inline void on_parcel(struct os_timer *timer)
{
        struct parcel *p = timer->arg;
        struct member *to = &p->trio->members[p->to];
        struct member *from = &p->trio->members[p->from];
        bool was_full = from->queued[p->link] >= ROOM_MAX;

        from->queued[p->link] -= p->body.size;
        if (to->store && to->life == p->life && !p->trio->is_cut[p->from][p->to])
                store_receive(to->store, from->node_id, p->link, p->type, buffer_bytes(&p->body));
        if (was_full && from->store && from->queued[p->link] < ROOM_MAX)
                store_link_has_room(from->store, to->node_id, p->link);
        buffer_fini(&p->body);
        free(p);
}

static inline bool send_parcel(void *arg, uint64_t node_id, enum store_link link, uint16_t type,
        const struct bytes *pieces, unsigned count)
{
        struct member *m = arg;
        struct trio *t = m->trio;
        struct parcel *p;

        if (node_id == 0 || node_id > t->count || !t->members[node_id - 1].store)
                return false;
        if (m->queued[link] >= ROOM_MAX)
                return false;
        p = MEMORY_NEW(struct parcel);
        p->timer = (struct os_timer){.fn = on_parcel, .arg = p};
        p->trio = t;
        p->from = (unsigned)(m->node_id - 1);
        p->to = (unsigned)(node_id - 1);
        p->life = t->members[p->to].life;
        p->link = link;
        p->type = type;
        for (unsigned i = 0; i < count; i++)
                buffer_add_bytes(&p->body, pieces[i]);
        m->queued[link] += p->body.size;
        t->messages++;
        if (link == STORE_LINK_BULK)
                t->bulk_bytes += p->body.size;
        os_timer_start(t->os, &p->timer, t->delay_us + os_sim_choose(t->os, 200));
        return true;
}

static inline void on_members(void *arg, const struct cluster_configuration *configuration)
{
        ((struct member *)arg)->members = *configuration;
}

static inline void on_member_open(void *arg, int result, const char *problem)
{
        struct member *m = arg;

        (void)problem;
        m->has_opened = true;
        m->open_result = result;
}

static inline void on_member_closed(void *arg)
{
        ((struct member *)arg)->is_closed = true;
}

static inline void on_member_fault(void *arg, const char *problem)
{
        (void)arg;
        print_error("disk fault: %s\n", problem);
        assert_true(!"a node failed");
}

static inline void trio_run(struct trio *t, uint64_t us)
{
        os_sim_run_for(t->os, us);
}

static inline void member_start(struct member *m)
{
        struct control_options control = {
                .os = m->trio->os, .node_name = "test", .log_fd = -1, .log_level = LEVEL_ERROR};
        struct persistence_identity identity = {.node_id = m->node_id};
        int r;

        memcpy(identity.cluster_uuid, CLUSTER_UUID, 16);
        assert_int_equal(control_open(&control, &m->control), 0);
        assert_int_equal(persistence_node_open(m->trio->os, m->directory, false, &m->node), 0);
        if (!persistence_node_has_stores(m->node)) {
                r = persistence_node_adopt(m->node, &identity);
                assert_int_equal(r, 0);
        }
        m->has_opened = false;
        m->is_closed = false;
        m->life++;
        m->options.control = m->control;
        m->options.node = m->node;
        assert_int_equal(store_open(&m->options, &m->store), 0);
        for (unsigned i = 0; i < m->trio->count; i++)
                if (m->trio->members[i].store && &m->trio->members[i] != m)
                        store_link_changed(m->trio->members[i].store, m->node_id, true);
}

static inline void member_stop(struct member *m)
{
        store_close(&m->store, on_member_closed, m);
        for (unsigned i = 0; i < 10000 && !m->is_closed; i++)
                trio_run(m->trio, 1000);
        assert_true(m->is_closed);
        persistence_node_close(&m->node);
        control_close(&m->control);
}

static inline void member_init(struct trio *t, unsigned i, bool joins)
{
        struct member *m = &t->members[i];

        m->trio = t;
        m->node_id = i + 1;
        snprintf(m->directory, sizeof m->directory, "/node-%u", i + 1);
        m->options = (struct store_options){
                .os = t->os,
                .name = "default",
                .segment_size = 256 * 1024,
                .memory_size = 8 * 1024 * 1024,
                .cluster =
                        {
                                .is_member = true,
                                .joins = joins,
                                .store_uuid = STORE_UUID,
                                .founders = joins ? NULL : &t->founders,
                                .send = send_parcel,
                                .on_members = on_members,
                                .arg = m,
                        },
                .on_open = on_member_open,
                .on_disk_fault = on_member_fault,
                .arg = m,
        };
        member_start(m);
}

static inline void trio_new(struct trio *t, uint64_t seed, unsigned founders, unsigned joiners)
{
        *t = (struct trio){.count = founders + joiners, .delay_us = 200};
        assert_int_equal(os_sim_new(seed, &t->os), 0);
        t->founders.count = founders;
        for (unsigned i = 0; i < founders; i++) {
                t->founders.servers[i].node_id = i + 1;
                snprintf(t->founders.servers[i].address, CLUSTER_ADDRESS_SIZE, "node-%u:2112", i + 1);
        }
        for (unsigned i = 0; i < t->count; i++)
                member_init(t, i, i >= founders);
}

static inline void trio_end(struct trio *t)
{
        for (unsigned i = 0; i < t->count; i++)
                if (t->members[i].store)
                        member_stop(&t->members[i]);
        trio_run(t, 10 * 1000 * 1000);
        os_free(&t->os);
}

/* The node that may write, waited for. */
static inline struct member *trio_leader(struct trio *t)
{
        for (unsigned n = 0; n < 2000; n++) {
                for (unsigned i = 0; i < t->count; i++)
                        if (t->members[i].store && store_is_leading(t->members[i].store) && store_is_ready(t->members[i].store))
                                return &t->members[i];
                trio_run(t, 10 * 1000);
        }
        assert_true(!"no leader");
        return NULL;
}

static inline struct member *trio_follower(struct trio *t, const struct member *but)
{
        for (unsigned i = 0; i < t->count; i++)
                if (&t->members[i] != but && t->members[i].store)
                        return &t->members[i];
        return NULL;
}

/* Appends one event; `ret` has to stay where it is until it is done. */
static inline void member_begin(struct member *m, const char *stream, struct expected expected, uint64_t id,
        size_t size, bool requires_leader, struct answer *ret)
{
        uint8_t *data = memory_new(size + 1);
        struct store_append_stream named = {.stream = bytes_of_string(stream), .expected = expected};
        struct store_append_event event = {
                .draft = {.id = id_of(id), .type = BYTES_LITERAL("Happened"), .data = bytes_of(data, size)}};
        struct store_append append = {.streams = &named,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(m->control),
                .deadline_us = os_monotonic_us(m->trio->os) + 8 * 1000 * 1000,
                .requires_leader = requires_leader};

        *ret = (struct answer){.store = m->store};
        memset(data, (int)('a' + id % 26), size);
        store_append(m->store, &append, on_answer, ret);
        free(data);
}

/* The same, and waits for the answer. */
static inline struct answer member_put(struct member *m, const char *stream, struct expected expected, uint64_t id,
        size_t size, bool requires_leader)
{
        struct answer a;

        member_begin(m, stream, expected, id, size, requires_leader, &a);
        for (unsigned n = 0; n < 10000 && !a.is_done; n++)
                trio_run(m->trio, 1000);
        assert_true(a.is_done);
        return a;
}

static inline uint64_t member_next(const struct member *m)
{
        return store_next_position(m->store);
}

#endif
