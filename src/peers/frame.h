/* Frames and hellos as bytes. Sans-I/O: nothing here knows a connection. */
#ifndef PEERS_FRAME_H
#define PEERS_FRAME_H

#include "peers/peers.h"

enum frame_type {
        FRAME_HELLO = 1,
        FRAME_REFUSED = 2, /* code u16, text: instead of a hello, or before the end */
        FRAME_PING = 3,    /* u64, the pinger's own */
        FRAME_PONG = 4,    /* the same u64 */
        FRAME_ASK = 5,
        FRAME_ANSWER = 6,
};

enum {
        WHY_SIZE = 256,
        HELLO_BODY_SIZE_MAX = 512, /* this version's is at most 64 + PEERS_NAME_SIZE; later ones may add at the end */
        REFUSED_BODY_SIZE_MAX = 2 + WHY_SIZE,
        GREETING_BODY_SIZE_MAX = HELLO_BODY_SIZE_MAX, /* before a hello is accepted */
};
static_assert(REFUSED_BODY_SIZE_MAX <= GREETING_BODY_SIZE_MAX, "a refusal may come instead of a hello");

enum refusal {
        REFUSAL_WRONG = 1,       /* who it says it is */
        REFUSAL_SUPERFLUOUS = 2, /* another connection stays: nothing is wrong */
        REFUSAL_NO_MEMBER = 3,   /* it is who it says, and does not belong here; of earlier releases: REFUSAL_WRONG */
};

struct frame {
        uint16_t type;
        uint16_t version;          /* of the message; 0 in frames of this room */
        const uint8_t *store_uuid; /* 16 bytes */
        struct bytes body;
};

enum frame_result { FRAME_WHOLE, FRAME_PART, FRAME_BAD };

/* The frame that `in` begins with; *ret_size bytes long. FRAME_PART: more bytes are needed. FRAME_BAD: *ret_why. */
enum frame_result frame_parse(
        struct bytes in, size_t body_size_max, struct frame *ret, size_t *ret_size, const char **ret_why);
/* Adds the frame with a body of n pieces. */
void frame_add(struct buffer *out, uint16_t type, uint16_t version, const uint8_t store_uuid[16],
        const struct bytes *pieces, unsigned n);

/* ---- hello ---- */

enum hello_kind { HELLO_CONTROL = PEERS_CONTROL, HELLO_BULK = PEERS_BULK, HELLO_ASK = 2 };

struct hello {
        enum hello_kind kind;
        struct peers_identity identity; /* of who speaks; an asker's cluster and node may be 0 */
        uint64_t instance;              /* random at the start of its process */
        uint64_t dial;                  /* number of the connection in the dialler's process; an answer repeats it */
        uint64_t wanted_node;           /* whom a dialler believes to speak to; 0: whoever it is */
};

void hello_add(struct buffer *out, const struct hello *hello);
/* False: no hello, *ret_why says why. The name is made fit to be shown. */
MUST_CHECK bool hello_parse(struct bytes body, struct hello *ret, const char **ret_why);

/* Whether this node takes that one as a peer; `proved` is what its certificate says, NULL without TLS. False, and who and
 * why in words for both sides. */
MUST_CHECK bool hello_check(const struct hello *own, const struct hello *theirs, const struct tls_identity *proved,
        char ret_why[WHY_SIZE]);
/* The same of somebody who asks. */
MUST_CHECK bool hello_check_asker(const struct hello *own, const struct hello *theirs, const struct tls_identity *proved,
        char ret_why[WHY_SIZE]);
/* The version that both speak; 0: none. */
uint16_t hello_version(const struct hello *a, const struct hello *b);

void refusal_add(struct buffer *out, enum refusal refusal, const char *why);
/* What is said there is made fit to be shown. */
void refusal_parse(struct bytes body, enum refusal *ret, char ret_why[WHY_SIZE]);

/* Of two connections between the same two processes for the same use, whether `newer` stays rather than `older`. Both ends
 * decide alike, since they know the same of both. */
struct rival {
        bool is_dialled_by_lower; /* node id */
        uint64_t dial;
};
MUST_CHECK bool rival_stays(struct rival newer, struct rival older);

#endif
