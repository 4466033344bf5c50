/* What the files of kurrent share. */
#ifndef KURRENT_ROOM_H
#define KURRENT_ROOM_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/memory.h"
#include "kurrent/kurrent.h"
#include "kurrent/wire_in.h"
#include "kurrent/wire_out.h"

enum {
        GRPC_MESSAGE_SIZE_MAX = 17 * 1024 * 1024, /* what clients accept too */
        READ_MESSAGE_SIZE_MAX = 2 * 1024 * 1024,  /* a thousand prefixes as long as names */
        SMALL_MESSAGE_SIZE_MAX = 64 * 1024,
        /* Bytes of one unfinished append: its events, and ids, types and whatever else surrounds them. */
        DRAFTS_SIZE_MAX = LIMIT_APPEND_SIZE_MAX + 32 * 1024 * 1024,
        UNFINISHED_SIZE_DEFAULT = DRAFTS_SIZE_MAX + 32 * 1024 * 1024,
        LISTS_SIZE_MAX = 2 * GRPC_MESSAGE_SIZE_MAX, /* lists of persistent subscriptions that are being made */
        UNFINISHED_IDLE_US = 30 * 1000 * 1000,
        /* An append that is not committed by then is answered as unknown (G3); a client may ask for less, not for more. */
        WRITE_TIMEOUT_US = 10 * 1000 * 1000,
        GROUP_MESSAGE_SIZE_MAX = 1024 * 1024, /* acknowledges a whole window, whichever form its ids have */
        USERS_METHODS = 8,
        METHODS_MAX = 21 + USERS_METHODS,
};
static_assert(LIMIT_EVENT_SIZE_MAX + 2 * LIMIT_EVENT_TYPE_SIZE_MAX < GRPC_MESSAGE_SIZE_MAX,
        "the largest event fits into a message");
static_assert(READ_MESSAGE_SIZE_MAX > LIMIT_FILTER_PREFIXES_MAX * LIMIT_STREAM_NAME_SIZE_MAX, "a filter fits too");

struct kurrent {
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        struct membership *membership; /* NULL: not known yet */
        struct emitter *emitter; /* NULL: not served yet */
        char *host;
        uint8_t node_uuid[16];
        void (*stats_to_json)(void *arg, struct json_out *j);
        void (*shut_down)(void *arg);
        void *arg;
        struct gateway_method methods[METHODS_MAX];
        void (*on_message[METHODS_MAX])(void *arg, struct gateway_request *call, struct bytes message); /* of those that are only the
                                                                                                           leader's; else NULL */
        struct buffer scratch;    /* drafts of an append that came in one message */
        struct arena spare_arena; /* of the drafts that were given up last, for the next ones: warm memory */
        struct buffer spare_events;
        struct buffer record_metadata; /* of the record at hand */
        struct arena record_scratch;
        struct list unfinished;   /* drafts whose end has not come, longest silent first */
        uint64_t unfinished_size; /* bytes that they hold */
        uint64_t unfinished_size_max;
        struct os_timer idle_timer;
        uint64_t lists_size;
        unsigned monitor_count;
};

/* ---- refusals (errors.c) ---- */

enum refusal_kind {
        REFUSAL_NONE,
        REFUSAL_DENIED,  /* `right` to the stream is missing */
        REFUSAL_INVALID, /* bad input: `problem` says what */
        REFUSAL_PROPERTY_MISSING,
        REFUSAL_APPEND_TOO_LARGE,
        REFUSAL_EVENT_TOO_LARGE,
        REFUSAL_CONFLICT,
        REFUSAL_STREAM_DELETED,
        REFUSAL_INDEX_MISSING,
        REFUSAL_GROUP_EXISTS,
        REFUSAL_GROUP_MISSING,
        REFUSAL_GROUP_FAILED, /* what was asked of it cannot be; `problem` says why */
        REFUSAL_GROUP_DROPPED,
        REFUSAL_GROUP_FULL, /* of consumers */
        REFUSAL_EXHAUSTED, /* too much in flight or held, disk full: definite, try again */
        REFUSAL_NOT_READY,
        REFUSAL_NOT_LEADER, /* nothing was done: the leader does it */
        REFUSAL_NO_LEADER,  /* the same, and none is known */
        REFUSAL_NOT_HERE_YET, /* `position` is not visible on this node */
        REFUSAL_TIMEOUT,
        REFUSAL_CORRUPT,
        REFUSAL_FAULT,
        REFUSALS,
};
/* Why a request was refused. Everything is borrowed. */
struct refusal {
        enum refusal_kind kind;
        const char *problem; /* NULL: what the kind says */
        struct bytes stream;
        struct bytes group; /* REFUSAL_GROUP_... */
        enum access_right right;
        struct expected expected;
        struct store_stream_outcome actual; /* REFUSAL_CONFLICT */
        struct event_id event;              /* REFUSAL_EVENT_TOO_LARGE */
        uint64_t size;
        uint64_t limit;
        uint64_t position;
};
static inline struct refusal refusal_invalid(const char *problem)
{
        return (struct refusal){.kind = REFUSAL_INVALID, .problem = problem};
}
/* What the store said to an append or delete that did not succeed. `events`: those of the append. */
struct refusal refusal_of(const struct store_append_result *result, struct bytes stream, struct expected expected,
        const struct store_append_event *events);
/* Whether who calls has the right to the stream (empty: all of them); if not, *ret says so. */
MUST_CHECK bool call_may(struct gateway_request *call, enum access_right right, struct bytes stream, struct refusal *ret);
/* Whether a link that was read from `from` (empty or "$all": all streams) may show an event of `target`: who reads everything may
 * see it anyway, else anybody could read what he may not through a link of his own. */
MUST_CHECK bool call_may_follow(struct gateway_request *call, struct bytes from, struct bytes target);
/* Ends the call with the status, trailers and text by which clients know the refusal. */
/* REFUSAL_NOT_LEADER asks `k` who leads; none is REFUSAL_NO_LEADER. */
void refusal_end_call(struct kurrent *k, struct gateway_request *call, const struct refusal *refusal);
/* Where the leader is, as clients look for it. */
void not_leader_trailers(struct gateway_request *call, const struct membership_node *leader);
/* Answers within a BatchAppend call. */
void refusal_send_batch(struct gateway_request *call, const struct wire_asked *asked, const struct refusal *refusal);

/* ---- messages of the generated code (messages.c) ---- */

/* Unpacks into the arena: nothing is to be freed. NULL if the bytes are no such message. */
void *message_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena, struct bytes bytes);
void message_pack(const ProtobufCMessage *message, struct buffer *out);
void message_send(struct gateway_request *call, const ProtobufCMessage *message);
/* Sends, and ends the call with success. */
void message_answer(struct gateway_request *call, const ProtobufCMessage *message);
static inline ProtobufCBinaryData message_bytes(struct bytes b)
{
        /* The generated code has no const; packing only reads. */
        return (ProtobufCBinaryData){.len = b.size, .data = (uint8_t *)(uintptr_t)b.data};
}
static inline struct bytes bytes_of_message(ProtobufCBinaryData b)
{
        return bytes_of(b.data, b.len);
}

/* ---- the events of an append while they come in (drafts.c) ---- */

/* Drafts are views: into the message at hand, or into copies that the arena holds. */
struct drafts {
        struct kurrent *kurrent;
        struct arena arena;
        struct buffer *events; /* of struct store_append_event */
        struct buffer own;
        unsigned count;
        uint64_t size; /* of events, as the limits count it */
        uint64_t held; /* booked with kurrent */
        struct list link;
        uint64_t touched_us;
        void (*on_idle)(struct drafts *drafts); /* nothing has come for too long; must end in drafts_fini */
};
/* The list of unfinished appends and its timer; before and after all drafts. */
void drafts_watch(struct kurrent *k, uint64_t memory_size);
void drafts_unwatch(struct kurrent *k);
/* For an append whose events come in several messages. */
void drafts_init(struct drafts *d, struct kurrent *k, void (*on_idle)(struct drafts *drafts));
/* For one that is wholly in the message at hand; one at a time. */
void drafts_init_borrowing(struct drafts *d, struct kurrent *k);
void drafts_fini(struct drafts *d);
/* Counts memory of an append that comes in several messages, beside what it holds. False: refused. */
MUST_CHECK bool drafts_book(struct drafts *d, size_t size, struct refusal *ret_refusal);
/* Keeps a copy of the message: *ret lives as long as the drafts. False: refused. */
MUST_CHECK bool drafts_hold(struct drafts *d, struct bytes message, struct bytes *ret, struct refusal *ret_refusal);
/* Adds the event of a proposed message, which must live as long as the drafts. False: refused. */
MUST_CHECK bool drafts_add(struct drafts *d, struct bytes proposed, struct refusal *ret_refusal);
/* The same, with a copy of what the event needs of the message. */
MUST_CHECK bool drafts_add_copy(struct drafts *d, struct bytes proposed, struct refusal *ret_refusal);
/* Adds one that is made already, whose bytes live as long as the drafts. */
MUST_CHECK bool drafts_add_event(struct drafts *d, const struct store_append_event *event, struct refusal *ret_refusal);
static inline const struct store_append_event *drafts_events(const struct drafts *d)
{
        return (const struct store_append_event *)d->events->data;
}
/* Hands an append to the store, with its fact. `stream` is borrowed for the call. */
void drafts_append(struct drafts *d, const struct gateway_request *call, struct bytes stream, struct expected expected,
        uint64_t deadline_us, store_append_done *done, void *arg);

/* ---- methods ---- */

void append_method(struct kurrent *k, struct gateway_method *ret);
void batch_append_method(struct kurrent *k, struct gateway_method *ret);
void read_method(struct kurrent *k, struct gateway_method *ret);
void delete_method(struct kurrent *k, struct gateway_method *ret);
void tombstone_method(struct kurrent *k, struct gateway_method *ret);
void features_method(struct kurrent *k, struct gateway_method *ret);
void gossip_method(struct kurrent *k, struct gateway_method *ret);
void group_create_method(struct kurrent *k, struct gateway_method *ret);
void group_update_method(struct kurrent *k, struct gateway_method *ret);
void group_delete_method(struct kurrent *k, struct gateway_method *ret);
void group_replay_method(struct kurrent *k, struct gateway_method *ret);
void group_restart_method(struct kurrent *k, struct gateway_method *ret);
void group_read_method(struct kurrent *k, struct gateway_method *ret);
void group_info_method(struct kurrent *k, struct gateway_method *ret);
void append_session_method(struct kurrent *k, struct gateway_method *ret);
void append_records_method(struct kurrent *k, struct gateway_method *ret);
void stats_method(struct kurrent *k, struct gateway_method *ret);
void shutdown_method(struct kurrent *k, struct gateway_method *ret);
void resign_method(struct kurrent *k, struct gateway_method *ret);
void restart_groups_method(struct kurrent *k, struct gateway_method *ret);
void users_methods(struct gateway_method ret[USERS_METHODS]);
void group_list_method(struct kurrent *k, struct gateway_method *ret);

/* The client asks that only the leader answers. */
bool call_requires_leader(const struct gateway_request *call);
void publish_write_requested(struct kurrent *k, uint64_t write_id, struct bytes stream, unsigned count);
/* The stream and the expectation of an append or delete are there and can be used; else why not. */
bool options_are_complete(const struct wire_options *options, struct refusal *ret);

#endif
