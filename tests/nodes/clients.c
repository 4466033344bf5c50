/* Clients: they append to whichever node they know, expect what they may, try again with the same ids when
 * they were told nothing definite, and read what must be there. */
#include "room.h"

static struct event_id id_of(uint64_t n)
{
        struct event_id id = {{0}};

        put_u32(id.bytes, (uint32_t)n);
        id.bytes[6] = 0x47;
        id.bytes[8] = 0x80;
        put_u32(id.bytes + 10, (uint32_t)(n * 2654435761u));
        return id;
}

/* One asking. */
enum { LAST_TRIES_MAX = 8 };

struct
try {
        struct list link;
        struct op *op;
        struct node *node;
        unsigned life;
        uint64_t must_see; /* acknowledged before it began */
};

static void try_over(struct try *t)
{
        t->op->open--;
        list_remove(&t->link);
        free(t);
}

static void note_acknowledged(struct op *op, const struct store_append_result *r)
{
        struct world *w = op->world;

        if (op->is_acknowledged && op->first_position != r->first_position)
                world_fail(w, "append %llu was acknowledged at %llu, then at %llu",
                        (unsigned long long)op->number, (unsigned long long)op->first_position,
                        (unsigned long long)r->first_position);
        op->is_acknowledged = true;
        op->first_position = r->first_position;
        op->revision = r->streams[0].revision;
        w->acknowledged_position = MAX(w->acknowledged_position, r->position + 1);
        w->totals->acknowledged++;
        w->totals->duplicates += r->is_duplicate;
}

static void note_conflict(const struct try *t, const struct store_append_result *r)
{
        struct world *w = t->op->world;
        struct conflict *c = MEMORY_NEW(struct conflict);

        *c = (struct conflict){.stream = t->op->stream,
                .expected = t->op->expected,
                .has_revision = r->streams[0].has_revision,
                .revision = r->streams[0].revision,
                .must_see = t->must_see};
        list_init(&c->link);
        list_add_last(&w->conflicts, &c->link);
        w->totals->conflicts++;
}

static void unexpected(const struct op *op, const struct store_append_result *r)
{
        world_fail(op->world, "append %llu: verdict %d: %s", (unsigned long long)op->number, r->verdict,
                r->problem);
}

static void on_answer(void *arg, const struct store_append_result *r)
{
        struct try *t = arg;
        struct op *op = t->op;
        struct world *w = op->world;
        struct node *n = t->node;

        if (r->verdict == STORE_CONFLICT)
                note_conflict(t, r);
        try_over(t);
        switch (r->verdict) {
        case STORE_OK:
                note_acknowledged(op, r);
                break;
        case STORE_UNKNOWN:
                op->may_be_there = true;
                w->totals->unknown++;
                break;
        case STORE_CONFLICT:
        case STORE_NOT_READY:
        case STORE_NOT_LEADER:
        case STORE_BUSY:
        case STORE_FULL:
                world_tell(w, "append %llu: refused with %d: %s", (unsigned long long)op->number, r->verdict,
                        r->problem);
                w->totals->refused++;
                break;
        case STORE_CORRUPT:
                if (!n->may_fail && !n->is_flipped && r->stream_count)
                        unexpected(op, r);
                w->totals->refused++;
                break;
        default:
                unexpected(op, r);
        }
}

static struct node *some_node(struct world *w)
{
        struct node *leader = find_leader(w);
        struct node *n = w->favourite              ? w->favourite
                         : leader && !one_in(w, 4) ? leader
                                                   : &w->nodes[choose(w, w->count)];

        /* Some ask one that does not run now: it answers when it goes on. */
        if (!n->store || !store_is_ready(n->store) || n->is_doomed)
                return NULL;
        return !n->is_paused || one_in(w, 4) ? n : NULL;
}

/* On the node's own loop. */
static void on_issue(void *arg)
{
        struct try *t = arg;
        struct op *op = t->op;
        struct node *n = t->node;
        struct world *w = op->world;
        static uint8_t data[EVENTS_MAX][EVENT_SIZE_MAX];
        struct store_append_stream stream = {
                .stream = bytes_of_string(stream_names[op->stream]), .expected = op->expected};
        struct store_append_event events[EVENTS_MAX];
        struct store_append append = {.streams = &stream,
                .stream_count = 1,
                .events = events,
                .event_count = op->event_count,
                .write_id = control_next_write_id(n->control),
                .deadline_us = os_monotonic_us(n->os) + 500 * 1000 + choose(w, 4000 * 1000),
                .requires_leader = one_in(w, 2)};

        if (!n->store) { /* it is being stopped */
                try_over(t);
                return;
        }
        for (unsigned i = 0; i < op->event_count; i++) {
                size_t size = 8 + (op->first_id + i) % 600;

                if ((op->first_id + i) % 331 == 0)
                        size = EVENT_SIZE_MAX / (1 + (op->first_id + i) % 5);
                memset(data[i], (int)('a' + (op->first_id + i) % 26), size);
                events[i] = (struct store_append_event){.draft = {.id = id_of(op->first_id + i),
                                                                .type = BYTES_LITERAL("Happened"),
                                                                .data = bytes_of(data[i], size)}};
        }
        store_append(n->store, &append, on_answer, t);
}

static void issue(struct node *n, struct op *op)
{
        struct try *t = MEMORY_NEW(struct try);

        *t = (struct try){.op = op, .node = n, .life = n->life, .must_see = op->world->acknowledged_position};
        list_init(&t->link);
        list_add_last(&op->world->tries, &t->link);
        op->tries++;
        op->open++;
        world_tell(op->world, "append %llu to node %u (leading %d)", (unsigned long long)op->number,
                n->number + 1, store_is_leading(n->store));
        os_post(n->os, on_issue, t);
}

static struct expected some_expectation(struct world *w, struct node *n, unsigned stream)
{
        struct store_stream_info info;
        uint64_t r = w->are_expectations_wrong ? 9 : choose(w, 10);

        if (r < 5)
                return (struct expected){.kind = EXPECTED_ANY};
        if (store_stream_info(n->store, bytes_of_string(stream_names[stream]), &info))
                return (struct expected){.kind = EXPECTED_ANY};
        if (!info.has_events)
                return (struct expected){.kind = EXPECTED_NONE};
        return (struct expected){.kind = EXPECTED_EXACT, .revision = info.last_revision + (r == 9)};
}

void clients_append(struct world *w, struct node *n)
{
        struct op *op = MEMORY_NEW(struct op);

        op->world = w;
        op->number = w->op_count++;
        op->stream = (unsigned)choose(w, STREAMS);
        op->expected = some_expectation(w, n, op->stream);
        op->event_count = 1 + (unsigned)choose(w, EVENTS_MAX);
        op->first_id = w->next_id;
        op->must_follow = w->acknowledged_position;
        w->next_id += op->event_count;
        list_init(&op->link);
        list_add_last(&w->ops, &op->link);
        issue(n, op);
}

static void append(struct world *w)
{
        struct node *n = some_node(w);

        if (n)
                clients_append(w, n);
}

void clients_last_word(struct world *w)
{
        struct node *leader = find_leader(w);
        struct op *op;

        if (!leader) { /* it is handing over */
                world_fail(w, "no leader after convergence");
                return;
        }
        op = MEMORY_NEW(struct op);

        *op = (struct op){.world = w,
                .number = w->op_count++,
                .expected = {.kind = EXPECTED_ANY},
                .event_count = 1,
                .first_id = w->next_id++,
                .must_follow = w->acknowledged_position};
        list_init(&op->link);
        list_add_last(&w->ops, &op->link);
        w->last_word = op;
        issue(leader, op);
}

/* It may have met a transfer that holds appends, and its deadline: then it is asked again. */
bool clients_were_heard(struct world *w)
{
        struct op *op = w->last_word;
        struct node *leader = find_leader(w);

        if (op && !op->is_acknowledged && !op->open && leader && op->tries < LAST_TRIES_MAX)
                issue(leader, op);
        return !op || op->is_acknowledged;
}

/* The same again, where nothing definite was told. */
static void retry(struct world *w)
{
        struct node *n = some_node(w);
        unsigned looked = 0;

        if (!n)
                return;
        for (struct list *at = w->ops.previous; at != &w->ops && looked < 40; at = at->previous, looked++) {
                struct op *op = CONTAINER_OF(at, struct op, link);

                if (op->open || op->is_acknowledged || !op->may_be_there || op->tries > 4)
                        continue;
                issue(n, op);
                return;
        }
}

/* ---- reads ---- */

struct reading {
        struct list link;
        struct store_wait wait;
        struct world *world;
        struct node *node;
        uint64_t must_see; /* acknowledged before it began */
        bool is_by_position;
};

static void reading_free(struct reading *r)
{
        list_remove(&r->link);
        free(r);
}

static void check_reading(struct reading *r)
{
        uint64_t next;

        if (!r->node->store) /* it is being stopped */
                return;
        next = store_next_position(r->node->store);
        r->world->totals->reads++;
        r->world->totals->waits += r->is_by_position;
        if (next < r->must_see)
                world_fail(r->world, "a read on node %u sees %llu events, %llu were acknowledged before",
                        r->node->number + 1, (unsigned long long)next, (unsigned long long)r->must_see);
}

static void on_waited(struct store_wait *wait, enum store_verdict verdict)
{
        struct reading *r = CONTAINER_OF(wait, struct reading, wait);

        if (verdict == STORE_OK)
                check_reading(r);
        reading_free(r);
}

static void on_read(void *arg)
{
        struct reading *r = arg;

        uint64_t deadline_us = os_monotonic_us(r->node->os) + 1000 * 1000;

        if (!r->node->store) {
                reading_free(r);
                return;
        }
        r->wait.done = on_waited;
        if (r->is_by_position) {
                if (store_wait_position(r->node->store, &r->wait, r->must_see - 1, deadline_us)) {
                        check_reading(r);
                        reading_free(r);
                }
                return;
        }
        if (r->world->options.mutant == MUTANT_UNCHECKED_READ ||
                store_wait_linearizable(r->node->store, &r->wait, deadline_us)) {
                check_reading(r);
                reading_free(r);
        }
}

static void read_something(struct world *w)
{
        struct node *n = some_node(w);
        struct reading *r;

        if (!n)
                return;
        r = MEMORY_NEW(struct reading);
        r->world = w;
        r->node = n;
        r->must_see = w->acknowledged_position;
        r->is_by_position = r->must_see && one_in(w, 3);
        list_init(&r->link);
        list_add_last(&w->readings, &r->link);
        os_post(n->os, on_read, r);
}

/* Whoever had asked it is told nothing: the outcome is open. */
void clients_node_gone(struct world *w, struct node *n)
{
        LIST_EACH_SAFE (at, &w->tries) {
                struct try *t = CONTAINER_OF(at, struct try, link);

                if (t->node != n)
                        continue;
                t->op->may_be_there = true;
                w->totals->unknown++;
                try_over(t);
        }
        LIST_EACH_SAFE (at, &w->readings) {
                struct reading *r = CONTAINER_OF(at, struct reading, link);

                if (r->node == n)
                        reading_free(r);
        }
}

void clients_fini(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++)
                clients_node_gone(w, &w->nodes[i]);
        LIST_EACH_SAFE (at, &w->ops)
                free(CONTAINER_OF(at, struct op, link));
        LIST_EACH_SAFE (at, &w->conflicts)
                free(CONTAINER_OF(at, struct conflict, link));
}

void clients_act(struct world *w)
{
        if (w->is_quiet)
                return;
        if (w->op_count < 1500 && !one_in(w, 3))
                append(w);
        if (one_in(w, 4))
                retry(w);
        if (one_in(w, 5))
                read_something(w);
}
