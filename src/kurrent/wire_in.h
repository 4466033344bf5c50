/* Reading protobuf by hand, for the messages that come for every append: views into the bytes of the message, no copy, no
 * memory of its own. Whatever comes, nothing beyond the message is read. */
#ifndef KURRENT_WIRE_IN_H
#define KURRENT_WIRE_IN_H

#include "model/event.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum wire_outcome {
        WIRE_END = 1,   /* no further field */
        WIRE_MALFORMED, /* the bytes are no such message */
};

struct wire_in {
        const uint8_t *at;
        const uint8_t *end;
};
struct wire_field {
        uint32_t number;
        enum wire_type type;
        uint64_t value;     /* WIRE_VARINT */
        struct bytes bytes; /* WIRE_BYTES */
};

static inline struct wire_in wire_in(struct bytes message)
{
        /* An empty message may be at no address, to which nothing can be added. */
        return (struct wire_in){message.data, message.size ? message.data + message.size : message.data};
}

/* The next field: 0, WIRE_END or WIRE_MALFORMED. */
MUST_CHECK int wire_next(struct wire_in *in, struct wire_field *ret);

/* A UUID and in which of its two forms it came. */
struct wire_uuid {
        struct event_id id;
        bool is_text;
};

/* Options of Append, BatchAppend, Delete and Tombstone: they share their numbers. */
enum wire_deadline { WIRE_DEADLINE_NONE, WIRE_DEADLINE_AT, WIRE_DEADLINE_AFTER };
struct wire_options {
        bool has_stream;
        bool has_expected;
        struct bytes stream;
        struct expected expected;
        enum wire_deadline deadline; /* BatchAppend: wall clock since 1970, or a duration */
        int64_t deadline_seconds;
        int32_t deadline_nanos;
};
MUST_CHECK int wire_in_options(struct bytes message, struct wire_options *ret); /* 0 or WIRE_MALFORMED */

/* A proposed message, as the draft of an event. What is missing is not there: the caller refuses by `seen`. */
enum wire_seen { SEEN_ID = 1, SEEN_TYPE = 2, SEEN_CONTENT_TYPE = 4 };
MUST_CHECK int wire_in_proposed(struct bytes message, struct event_draft *ret, unsigned *ret_seen);

/* One message of an Append call: `options` or `proposed`, whichever `is_options` says. */
struct wire_append {
        bool is_options;
        struct wire_options options;
        struct bytes proposed;
};
MUST_CHECK int wire_in_append(struct bytes message, struct wire_append *ret);

/* One message of a BatchAppend call, without its proposed messages: wire_next_proposed gives them one by one. */
struct wire_batch {
        bool has_correlation;
        bool has_options;
        bool is_final;
        unsigned proposed_count;
        struct wire_uuid correlation;
        struct wire_options options;
};
MUST_CHECK int wire_in_batch(struct bytes message, struct wire_batch *ret);
/* The next proposed message of a message that wire_in_batch took; false behind the last. */
bool wire_next_proposed(struct wire_in *in, struct bytes *ret);

/* DeleteReq and TombstoneReq. */
MUST_CHECK int wire_in_delete(struct bytes message, struct wire_options *ret);

/* One message of a PersistentSubscriptions/Read call. */
enum wire_group_kind { WIRE_GROUP_OPTIONS, WIRE_GROUP_ACK, WIRE_GROUP_NACK };
struct wire_group {
        enum wire_group_kind kind;
        uint64_t action;     /* of a nack; as it came */
        struct bytes reason; /* of a nack */
        struct bytes body;   /* of an ack or nack: wire_next_id gives its ids one by one */
};
MUST_CHECK int wire_in_group(struct bytes message, struct wire_group *ret);
/* The next id of a body; what is no id, or nil, is left out: nothing has it. 0, WIRE_END or WIRE_MALFORMED. */
MUST_CHECK int wire_next_id(struct wire_in *in, struct event_id *ret);

#endif
