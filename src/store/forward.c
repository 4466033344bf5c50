/* Appends and deletes for the node that leads, and other nodes' for us.
 *
 * A node that does not lead sends what it was asked to write to the leader and passes on what the leader
 * answers. The leader takes it as if it had arrived there, under a write id of its own, and never sends it
 * on: so nothing goes in circles, and whoever asked hears STORE_NOT_LEADER when the leader has changed
 * meanwhile.
 *
 * Outcomes (G3): what could not be sent is refused. From the moment it was sent it may be in the log, so
 * without an answer its outcome is unknown: when the link to the leader is lost, and when the deadline
 * passes; there always is one. A leader that loses its office still knows what became of the request, and
 * answers. An answer counts once, from the node that was asked, to the life of the process that asked; all
 * others are dropped.
 *
 * Here is no queue: what the link does not take at once is refused. The number of requests and their bytes
 * are bounded here, the number for each node at the leader, where their bytes count as those of all appends.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "store/forward_bytes.h"
#include "store/room.h"

enum {
        SLOTS_MIN = 64,
        SLOTS_MAX = 4096, /* requests that wait for the leader */
        SLOT_BITS = 12,
        SERVED_MAX = SLOTS_MAX, /* for each other node */
        UNUSED_MAX = 1024,
        BUFFER_KEPT_MAX = 1024 * 1024,
        NO_SLOT = SLOTS_MAX,
};
static_assert(SLOTS_MAX == 1 << SLOT_BITS, "a number names its slot");
#define TIME_DEFAULT_US ((uint64_t)10 * 1000 * 1000)
#define TIME_MAX_US     ((uint64_t)3600 * 1000 * 1000)

/* A request that waits for the leader's answer. */
struct asked {
        uint64_t number; /* 0: the slot is free */
        uint64_t node_id;
        uint64_t deadline_us;
        uint64_t size;
        unsigned stream_count;
        unsigned event_count;
        unsigned next_free;
        struct fact_payload fact; /* what is told of it at the end */
        store_append_done *done;
        void *arg;
};
/* A request of another node that is carried out here. */
struct served {
        struct list link; /* served, or unused */
        struct store *store;
        uint64_t node_id;
        struct forward_tag tag;
};
struct served_node {
        uint64_t node_id;
        unsigned count; /* 0: free for another node */
};
struct forwarding {
        /* asked */
        uint64_t life; /* tells this life of the process from others */
        uint64_t sequence;
        struct asked *asked;
        unsigned capacity;
        unsigned free;
        unsigned count;
        uint64_t size;
        struct os_timer timer; /* on while something waits */

        /* served */
        struct list served;
        struct list unused;
        unsigned unused_count;
        struct served_node nodes[CLUSTER_MEMBERS_MAX];

        struct buffer out;
        struct arena in;
};

static void on_deadline(struct os_timer *timer);

static struct forwarding *forwarding_of(struct store *s)
{
        struct forwarding *f = s->forwarding;

        if (f)
                return f;
        f = MEMORY_NEW(struct forwarding);
        os_random(s->os, &f->life, sizeof(f->life));
        f->free = NO_SLOT;
        f->timer = (struct os_timer){.fn = on_deadline, .arg = s};
        list_init(&f->served);
        list_init(&f->unused);
        s->forwarding = f;
        return f;
}

/* The buffer of one message, empty. */
static struct buffer *message_begin(struct forwarding *f)
{
        if (f->out.capacity > BUFFER_KEPT_MAX)
                buffer_fini(&f->out);
        buffer_clear(&f->out);
        return &f->out;
}

static bool message_send(struct store *s, uint64_t node_id, enum store_message type)
{
        struct bytes piece = buffer_bytes(&s->forwarding->out);

        return store_send(s, node_id, STORE_LINK_CONTROL, type, &piece, 1);
}

/* ---- slots ---- */

static void add_slots(struct forwarding *f)
{
        unsigned capacity = f->capacity ? f->capacity * 2 : SLOTS_MIN;

        f->asked = memory_resize(f->asked, capacity * sizeof(*f->asked));
        for (unsigned i = capacity; i-- > f->capacity;) {
                f->asked[i] = (struct asked){.next_free = f->free};
                f->free = i;
        }
        f->capacity = capacity;
}

/* There must be a free one, or room for more. The slot moves when slots are added. */
static struct asked *slot_take(struct forwarding *f)
{
        struct asked *a;
        unsigned slot;

        assert(f->count < SLOTS_MAX);
        if (f->free == NO_SLOT)
                add_slots(f);
        slot = f->free;
        a = &f->asked[slot];
        f->free = a->next_free;
        f->count++;
        *a = (struct asked){.number = ++f->sequence << SLOT_BITS | slot};
        return a;
}

static void slot_give(struct forwarding *f, struct asked *a)
{
        assert(a->number);
        assert(f->count > 0);
        f->count--;
        f->size -= a->size;
        *a = (struct asked){.next_free = f->free};
        f->free = (unsigned)(a - f->asked);
}

static struct asked *slot_find(struct store *s, const struct forward_tag *tag)
{
        struct forwarding *f = s->forwarding;
        unsigned slot = tag->number & (SLOTS_MAX - 1);

        if (store_is_mutant(s, STORE_MUTANT_ANSWER_ANY))
                return slot < f->capacity && f->asked[slot].number ? &f->asked[slot] : NULL;
        if (tag->life != f->life || !tag->number || slot >= f->capacity ||
                f->asked[slot].number != tag->number)
                return NULL;
        return &f->asked[slot];
}

/* ---- the end of a request ---- */

static void tell(struct store *s, struct fact_payload *fact, const struct store_append_result *result)
{
        switch (result->verdict) {
        case STORE_UNKNOWN: /* neither acknowledged nor refused */
                return;
        case STORE_OK:
                if (result->is_duplicate || !result->has_position)
                        return;
                fact->position = result->first_position;
                if (result->streams)
                        fact->revision = result->streams[0].revision;
                control_publish(s->control, FACT_write_acknowledged, fact);
                return;
        default:
                fact_set_text(fact, "%s", result->problem);
                control_publish(s->control, FACT_write_rejected, fact);
        }
}

/* `a` is gone afterwards: what `done` calls may ask again. */
static void finish(struct store *s, struct asked *a, const struct store_append_result *result)
{
        struct asked ended = *a;

        slot_give(s->forwarding, a);
        tell(s, &ended.fact, result);
        ended.done(ended.arg, result);
}

/* The leader counts what it decides; a node counts what is decided here. */
static void finish_unknown(struct store *s, struct asked *a, const char *problem)
{
        s->stats.unknown++;
        finish(s, a, &(struct store_append_result){.verdict = STORE_UNKNOWN, .problem = problem});
}

static void finish_all(struct store *s, const char *problem)
{
        struct forwarding *f = s->forwarding;

        for (unsigned i = 0; i < f->capacity; i++)
                if (f->asked[i].number)
                        finish_unknown(s, &f->asked[i], problem);
}

void forward_link_lost(struct store *s, uint64_t node_id)
{
        struct forwarding *f = s->forwarding;
        uint64_t last = f ? f->sequence : 0;

        /* What is asked from within the answers is for whoever is reached then. */
        for (unsigned i = 0; f && i < f->capacity; i++) {
                struct asked *a = &f->asked[i];

                if (a->number && a->node_id == node_id && a->number >> SLOT_BITS <= last)
                        finish_unknown(s, a, "the connection to the leader was lost before it answered");
        }
}

static void arm(struct store *s, uint64_t deadline_us)
{
        struct forwarding *f = s->forwarding;
        uint64_t now = os_turn_time(s->os).monotonic_us;

        if (f->timer.is_on && f->timer.due_us <= deadline_us)
                return;
        os_timer_stop(&f->timer);
        os_timer_start(s->os, &f->timer, deadline_us > now ? deadline_us - now : 0);
}

static void on_deadline(struct os_timer *timer)
{
        struct store *s = timer->arg;
        struct forwarding *f = s->forwarding;
        uint64_t now = os_turn_time(s->os).monotonic_us;

        for (unsigned i = 0; i < f->capacity; i++)
                if (f->asked[i].number && f->asked[i].deadline_us <= now)
                        finish_unknown(s, &f->asked[i], "the leader has not answered within the deadline");
        for (unsigned i = 0; i < f->capacity; i++)
                if (f->asked[i].number)
                        arm(s, f->asked[i].deadline_us);
}

void forward_on_result(struct store *s, uint64_t from, struct bytes body)
{
        struct forwarding *f = s->forwarding;
        struct store_append_result result;
        struct forward_tag tag;
        struct asked *a;

        if (!forward_tag_decode(body, &tag)) {
                s->replication.dropped++;
                return;
        }
        a = f ? slot_find(s, &tag) : NULL;
        if (!a || a->node_id != from)
                return; /* late, or for an earlier life */
        if (forward_outcome_decode(body, a->stream_count, a->event_count, &f->in, &result)) {
                finish(s, a, &result);
        } else {
                s->replication.dropped++;
                finish_unknown(s, a, "the leader's answer cannot be read");
        }
        arena_reset(&f->in);
}

/* ---- asking ---- */

struct question {
        struct store *store;
        struct forward_request request;
        uint64_t leader_id;
        uint64_t deadline_us; /* 0: none */
        uint64_t size;
        unsigned stream_count;
        unsigned event_count;
        struct fact_payload fact;
        store_append_done *done;
        void *arg;
};

/* Refuses here: the request does not leave. Gives true, since whoever asked was answered. */
static bool refuse(struct question *q, const struct store_append_result *result)
{
        struct store_stats *stats = &q->store->stats;

        if (result->verdict == STORE_BUSY)
                stats->refused++;
        else if (result->verdict == STORE_UNKNOWN)
                stats->unknown++;
        else
                stats->invalid++;
        tell(q->store, &q->fact, result);
        q->done(q->arg, result);
        return true;
}

/* One always fits, however small the limit. */
static bool has_room(const struct store *s, const struct forwarding *f, uint64_t size)
{
        return f->count < SLOTS_MAX && (!f->count || f->size + size <= s->options.in_flight_size_max);
}

static bool ask(struct question *q)
{
        struct store *s = q->store;
        struct forwarding *f = forwarding_of(s);
        uint64_t now = os_turn_time(s->os).monotonic_us;
        uint64_t deadline_us =
                q->deadline_us ? MIN(q->deadline_us, now + TIME_MAX_US) : now + TIME_DEFAULT_US;
        struct asked *a;

        if (deadline_us <= now)
                return refuse(q, &(struct store_append_result){
                                         .verdict = STORE_UNKNOWN, .problem = "the deadline has passed"});
        if (!has_room(s, f, q->size))
                return refuse(q, &(struct store_append_result){
                                         .verdict = STORE_BUSY, .problem = "too much waits for the leader"});
        a = slot_take(f);
        a->node_id = q->leader_id;
        a->deadline_us = deadline_us;
        a->size = q->size;
        a->stream_count = q->stream_count;
        a->event_count = q->event_count;
        a->fact = q->fact;
        a->done = q->done;
        a->arg = q->arg;
        f->size += q->size;
        q->request.tag = (struct forward_tag){.life = f->life, .number = a->number};
        q->request.remaining_us = deadline_us - now;
        forward_request_encode(&q->request, message_begin(f));
        if (message_send(s, q->leader_id, MESSAGE_FORWARD)) {
                arm(s, deadline_us);
                return true;
        }
        slot_give(f, a);
        if (!replication_is_linked(s, q->leader_id))
                return false;
        return refuse(q, &(struct store_append_result){
                                 .verdict = STORE_BUSY, .problem = "the connection to the leader is full"});
}

static void begin(struct question *q, struct store *s, store_append_done *done, void *arg)
{
        *q = (struct question){.store = s, .done = done, .arg = arg};
        q->leader_id = cluster_raft_leader(s->raft);
        if (q->leader_id == s->node_id)
                q->leader_id = 0; /* elected, and not ready to write yet */
}

static void set_fact(struct question *q, uint64_t write_id, struct bytes stream, unsigned event_count)
{
        q->fact = (struct fact_payload){.write_id = write_id, .count = event_count};
        fact_set_stream(&q->fact, stream, name_hash(stream));
}

/* Whoever forwards has checked the form (appends.c). */
bool forward_append(struct store *s, const struct store_append *append, store_append_done *done, void *arg)
{
        struct question q;

        begin(&q, s, done, arg);
        if (!q.leader_id)
                return false;
        q.request.append = *append;
        q.deadline_us = append->deadline_us;
        q.stream_count = append->stream_count;
        q.event_count = append->event_count;
        q.size = forward_request_size_max(&q.request);
        set_fact(&q, append->write_id, append->stream_count ? append->streams[0].stream : BYTES_EMPTY,
                append->event_count);
        if (q.size > FORWARD_REQUEST_SIZE_MAX)
                return refuse(&q, &(struct store_append_result){.verdict = STORE_TOO_LARGE,
                                          .problem = "the append is too large",
                                          .size = q.size,
                                          .limit = FORWARD_REQUEST_SIZE_MAX});
        return ask(&q);
}

bool forward_delete(struct store *s, const struct store_delete *del, store_append_done *done, void *arg)
{
        struct question q;

        begin(&q, s, done, arg);
        if (!q.leader_id)
                return false;
        q.request.is_delete = true;
        q.request.del = *del;
        q.deadline_us = del->deadline_us;
        q.stream_count = 1;
        q.size = forward_request_size_max(&q.request);
        set_fact(&q, del->write_id, del->stream, 1);
        return ask(&q);
}

/* ---- for other nodes ---- */

static void answer(struct store *s, uint64_t node_id, const struct forward_tag *tag,
        const struct store_append_result *result)
{
        forward_outcome_encode(tag, result, message_begin(s->forwarding));
        /* If it is lost, the other node tells its client that the outcome is unknown. */
        if (!message_send(s, node_id, MESSAGE_FORWARDED))
                s->replication.dropped++;
}

static struct served_node *node_of(struct forwarding *f, uint64_t node_id)
{
        struct served_node *free_one = NULL;

        for (unsigned i = 0; i < COUNT_OF(f->nodes); i++) {
                if (f->nodes[i].count && f->nodes[i].node_id == node_id)
                        return &f->nodes[i];
                if (!f->nodes[i].count)
                        free_one = &f->nodes[i];
        }
        if (free_one)
                free_one->node_id = node_id;
        return free_one;
}

static struct served *served_new(struct store *s, struct served_node *node, const struct forward_tag *tag)
{
        struct forwarding *f = s->forwarding;
        struct served *served;

        if (list_is_empty(&f->unused)) {
                served = MEMORY_NEW(struct served);
                list_init(&served->link);
        } else {
                served = CONTAINER_OF(f->unused.next, struct served, link);
                list_remove(&served->link);
                f->unused_count--;
        }
        node->count++;
        served->store = s;
        served->node_id = node->node_id;
        served->tag = *tag;
        list_add_last(&f->served, &served->link);
        return served;
}

static void served_free(struct served *served)
{
        struct forwarding *f = served->store->forwarding;
        struct served_node *node = node_of(f, served->node_id);

        assert(node);
        assert(node->count > 0);
        node->count--;
        list_remove(&served->link);
        if (f->unused_count >= UNUSED_MAX) {
                free(served);
                return;
        }
        list_add_first(&f->unused, &served->link);
        f->unused_count++;
}

static void on_served(void *arg, const struct store_append_result *result)
{
        struct served *served = arg;

        answer(served->store, served->node_id, &served->tag, result);
        served_free(served);
}

/* No gateway took it here, so the chain of facts of this node's write begins here. */
static uint64_t begin_write(struct store *s, struct bytes stream, unsigned event_count)
{
        uint64_t write_id = control_next_write_id(s->control);

        publish_write(s, FACT_stream_write_requested, write_id, stream, name_hash(stream), event_count, NULL);
        return write_id;
}

static void serve(struct store *s, struct served *served, struct forward_request *rq)
{
        uint64_t deadline_us = os_turn_time(s->os).monotonic_us + MIN(rq->remaining_us, TIME_MAX_US);

        if (rq->is_delete) {
                rq->del.write_id = begin_write(s, rq->del.stream, 1);
                rq->del.deadline_us = deadline_us;
                rq->del.requires_leader = true;
                store_delete(s, &rq->del, on_served, served);
                return;
        }
        rq->append.write_id = begin_write(s,
                rq->append.stream_count ? rq->append.streams[0].stream : BYTES_EMPTY, rq->append.event_count);
        rq->append.deadline_us = deadline_us;
        rq->append.requires_leader = true;
        store_append(s, &rq->append, on_served, served);
}

void forward_on_request(struct store *s, uint64_t from, struct bytes body)
{
        struct forwarding *f = forwarding_of(s);
        struct forward_request rq;
        struct served_node *node;
        struct forward_tag tag;

        if (!forward_tag_decode(body, &tag)) {
                s->replication.dropped++;
                return;
        }
        node = node_of(f, from);
        if (!node || node->count >= SERVED_MAX) {
                s->stats.refused++;
                answer(s, from, &tag,
                        &(struct store_append_result){.verdict = STORE_BUSY,
                                .problem = "the leader has too much of this node in flight"});
                return;
        }
        if (forward_request_decode(body, &f->in, &rq)) {
                serve(s, served_new(s, node, &tag), &rq);
        } else {
                s->replication.dropped++;
                answer(s, from, &tag,
                        &(struct store_append_result){.verdict = STORE_INVALID,
                                .problem = "the leader cannot read what this node sends: compare their "
                                           "versions"});
        }
        arena_reset(&f->in);
}

/* ---- the end ---- */

static void free_list(struct list *list)
{
        while (!list_is_empty(list)) {
                struct served *served = CONTAINER_OF(list->next, struct served, link);

                list_remove(&served->link);
                free(served);
        }
}

void forward_fini(struct store *s)
{
        struct forwarding *f = s->forwarding;

        if (!f)
                return;
        /* An abandoned store answers nobody; one that closes answers everybody. */
        if (s->wants_close)
                finish_all(s, "the store was closed before the leader answered");
        os_timer_stop(&f->timer);
        free_list(&f->served);
        free_list(&f->unused);
        buffer_fini(&f->out);
        arena_fini(&f->in);
        free(f->asked);
        free(f);
        s->forwarding = NULL;
}
