/* The core of a pool: where each event is between the log and its acknowledgement. It reads no clock, no log and no
 * setting of anybody else's: time and events are handed in, decisions come out, so that it can be tried against a model.
 *
 *   payload.c    bytes of events that wait, in shared blocks
 *   messages.c   one message for each event that is not finished; the span of the log that they cover; ids
 *   lanes.c      lanes: order per stream, and which consumer a lane belongs to
 *   dispatch.c   who gets what: the strategies; acknowledgement, retry, time-outs, parking
 *
 * A message is PENDING (nobody has it), FLYING (a slot has it: assigned, then given), or PARKING (its parked event is
 * not committed yet); when it is finished it is gone. */
#ifndef EMITTER_DELIVERY_H
#define EMITTER_DELIVERY_H

#include "base/list.h"
#include "emitter/emitter.h"

/* ---- payload.c ---- */

enum { PAYLOAD_BLOCK_SIZE = 16 * 1024 };

struct payload_block;
struct payloads {
        struct list blocks;
        struct payload_block *current;
        uint64_t size; /* of all blocks */
};
/* A copy of what a reader gave; `item` points into it. */
struct payload {
        struct payload_block *block;
        uint32_t size; /* with this head */
        struct store_read_item item;
};

void payloads_init(struct payloads *p);
void payloads_fini(struct payloads *p);
struct payload *payload_new(struct payloads *p, const struct store_read_item *item);
void payload_free(struct payloads *p, struct payload **payload); /* NULL is fine */
/* Copies a payload to `to` (payload->size bytes, 8-byte aligned) and gives the copy's item. */
const struct store_read_item *payload_copy(const struct payload *payload, void *to);
uint64_t payload_size_of(const struct store_read_item *item);

/* ---- messages.c ---- */

enum message_state { MESSAGE_PENDING, MESSAGE_FLYING, MESSAGE_PARKING };
#define NOT_REPLAYED UINT64_MAX

struct lane;
struct slot;

struct message {
        uint64_t number; /* revision or position: the order of everything */
        uint64_t event_time_us;
        uint64_t parked; /* its number in the parked stream when it is delivered again from there, else NOT_REPLAYED */
        struct event_id id;
        uint64_t lane_hash;
        uint64_t place; /* in the span */
        struct lane *lane;
        struct slot *slot;         /* FLYING */
        struct payload *payload;   /* NULL: to be read again before it is given */
        struct message *next_by_id; /* FLYING */
        struct list link;          /* PENDING without lanes: fresh; FLYING: of its slot; PARKING: parking */
        struct list lane_link;     /* in its lane: pending or flying */
        struct list due_link;
        struct list load_link;     /* in the list of those to be read again */
        uint64_t due_us;
        uint64_t given_us;
        char *reason; /* PARKING: why, for people; NULL: too many retries */
        struct event_id park_id;
        uint32_t retry_count;
        int state;
        bool is_given; /* FLYING: the consumer has seen it */
        bool is_retry; /* PENDING without lanes: in the retry queue */
        bool is_awaited; /* it was read again for the slot that asks for it: its payload stays until it has it */
        bool has_park_id;
        bool is_sent_to_park; /* an append with its parked event is under way */
};

/* What the messages of the source cover: a place for each, until everything before it is finished too. */
struct span {
        struct message **places; /* NULL: finished */
        uint64_t capacity;       /* a power of two */
        uint64_t first;
        uint64_t next;
};

struct message_block;

struct delivery {
        enum emitter_strategy strategy;
        uint64_t timeout_us; /* 0: never */
        uint32_t retry_max;
        /* A message was assigned to the slot. */
        void (*on_assigned)(struct delivery *d, struct slot *slot);
        void *arg;

        struct payloads payloads;
        struct span span;
        struct message *free_messages;
        struct message_block *message_blocks;
        struct message **ids; /* of what is flying */
        uint64_t id_buckets;  /* a power of two */

        struct list fresh;        /* without lanes: pending, in order of numbers */
        struct message **retries; /* without lanes: a heap by number */
        uint32_t retries_capacity;
        struct list due; /* flying, the one whose time began first is first */
        struct list parking;
        struct list loads; /* wanted by their slots, to be read again first */

        struct lane **lane_buckets;
        uint64_t lane_bucket_count; /* a power of two */
        uint64_t lane_count;
        struct list lanes;
        struct lane *free_lanes;
        struct slot **owners; /* of the LANE_GROUPS groups of lanes; NULL: not settled yet */

        struct list slots; /* in the order of joining */
        struct list open;  /* those with room in their window */
        uint32_t slot_count;

        uint64_t *replayed; /* numbers of parked events that are finished again, not yet taken by the owner */
        uint32_t replayed_count, replayed_capacity;

        uint32_t pending_count; /* of those retried: */
        uint32_t retrying_count;
        uint32_t flying_count;
        uint32_t parking_count;
        uint32_t replay_count; /* messages from the parked stream */
        uint64_t size;         /* of messages and lanes, without payloads */
        uint64_t finished;     /* of the source, so far */
        uint64_t acked, nacked, retried, timed_out, skipped;
};

/* A consumer as the core sees it. Embedded. */
struct slot {
        uint64_t seed; /* different for each: its weight for lanes follows from it */
        uint32_t window;
        uint32_t in_flight;
        struct list link;
        struct list open_link;
        struct list assigned; /* messages that it has not seen */
        struct list given;
        struct lane **ready; /* a heap of lanes with something pending, by their first number */
        uint32_t ready_count, ready_capacity;
        bool is_joined;
        bool is_open;
        bool is_asking;  /* it waits to be told that there is something */
        bool is_stalled; /* it let a message time out without looking at it: it gets no more until it asks */
        uint64_t given_total;
        void (*on_measure)(struct slot *slot, uint64_t us); /* time to acknowledge; NULL: nobody asks */
};

static inline bool strategy_has_lanes(enum emitter_strategy s)
{
        return s == STRATEGY_PINNED || s == STRATEGY_PINNED_BY_CORRELATION || s == STRATEGY_PER_STREAM;
}

void messages_init(struct delivery *d);
void messages_fini(struct delivery *d);
struct message *message_new(struct delivery *d);
void message_free(struct delivery *d, struct message *m);
void span_push(struct span *s, struct message *m);
void span_finish(struct span *s, uint64_t place);
static inline uint64_t span_size(const struct span *s)
{
        return s->next - s->first;
}
void flying_add(struct delivery *d, struct message *m);
void flying_remove(struct delivery *d, struct message *m);
/* The one with the lowest number that `slot` has; NULL: none. */
struct message *flying_find(const struct delivery *d, const struct slot *slot, const struct event_id *id);
void retries_push(struct delivery *d, struct message *m);
struct message *retries_first(const struct delivery *d); /* NULL: none */
void retries_pop(struct delivery *d);

/* ---- lanes.c ---- */

/* Lanes share consumers by groups, so that a message costs no look at every consumer. */
enum { LANE_GROUPS = 4096 };

struct lane {
        struct lane *next; /* in its bucket, or free */
        struct list link;
        uint64_t hash;
        struct list pending; /* by number */
        struct list flying;  /* by number */
        struct slot *owner;  /* who has what is flying; NULL: nothing is */
        struct slot *ready_at; /* on whose heap it is */
        uint32_t ready_index;
};

void lanes_init(struct delivery *d);
void lanes_fini(struct delivery *d);
void lane_add_pending(struct delivery *d, struct message *m);
/* The first lane's first message, taken off; the lane becomes the slot's. NULL: none is ready for the slot. */
struct message *lane_take(struct delivery *d, struct slot *slot);
/* The message flies no more. */
void lane_landed(struct message *m);
/* What is done with a message of the lane may let another consumer have it, or end the lane. */
void lane_settle(struct delivery *d, struct lane *lane);
void lanes_join(struct delivery *d, struct slot *slot);
void lanes_leave(struct delivery *d, struct slot *slot);
/* Who gets lanes of this hash now, if nothing is in flight; NULL: nobody. */
struct slot *lanes_owner(struct delivery *d, uint64_t hash);

/* ---- dispatch.c ---- */

void delivery_init(struct delivery *d, const struct emitter_settings *settings);
void delivery_fini(struct delivery *d); /* whoever is joined has nothing and is not joined any more */

void delivery_join(struct delivery *d, struct slot *slot);
/* What it had goes to others; `is_retry`: what it had seen counts one more. */
void delivery_leave(struct delivery *d, struct slot *slot, bool is_retry);

struct arrival {
        uint64_t number;
        uint64_t event_time_us;
        uint64_t parked; /* NOT_REPLAYED: of the source, in the order of numbers */
        struct event_id id;
        uint64_t lane_hash;
        const struct store_read_item *item; /* NULL: it is read again when it is sent */
};
void delivery_add(struct delivery *d, const struct arrival *a);

/* Assigns what can be assigned. */
void delivery_dispatch(struct delivery *d, uint64_t now_us);
/* The next message that was assigned to the slot and that it has not seen; NULL: none. */
struct message *delivery_peek(struct slot *slot);
/* The slot waits for its next message, whose payload is not there: it and some behind it are to be read. */
void delivery_want(struct delivery *d, struct slot *slot);
/* The slot has it: its payload is let go, and the time that it may take begins now. */
void delivery_give(struct delivery *d, struct message *m, uint64_t now_us);
/* The slot asks: it is alive. */
void delivery_ask(struct delivery *d, struct slot *slot);

/* False: the slot has no such message. */
bool delivery_ack(struct delivery *d, struct slot *slot, const struct event_id *id, uint64_t now_us);
bool delivery_nack(struct delivery *d, struct slot *slot, const struct event_id *id, enum nack_action action,
        struct bytes reason);
/* Returns what has timed out. */
void delivery_expire(struct delivery *d, uint64_t now_us);
uint64_t delivery_next_due(const struct delivery *d); /* UINT64_MAX: nothing is due */
/* The parked event is committed: it is finished. */
void delivery_parked(struct delivery *d, struct message *m);
/* It is gone from the log: it is finished without having been seen. */
void delivery_gone(struct delivery *d, struct message *m);

/* Delivery goes on from here after a restart: the lowest number of the source that is not finished, else `cursor`. */
uint64_t delivery_resume(const struct delivery *d, uint64_t cursor);
/* Events of the source that are finished above the lowest that is not. */
uint64_t delivery_finished_above(const struct delivery *d);
/* Nothing of any message is left. */
bool delivery_is_empty(const struct delivery *d);
/* Some consumer has room and nothing of what waits may go to it. */
bool delivery_is_hungry(const struct delivery *d);
/* Drops payloads: they are read again when they are sent. */
void delivery_drop_payloads(struct delivery *d);
void assert_delivery_state(const struct delivery *d);

#endif
