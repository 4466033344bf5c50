/* The bytes of an append or delete on its way to the leader, and of its outcome on the way back. Values only. */
#ifndef STORE_FORWARD_BYTES_H
#define STORE_FORWARD_BYTES_H

#include "base/arena.h"
#include "store/store.h"

enum {
        /* Holds every append within the limits; larger ones are refused where they arrive. */
        FORWARD_REQUEST_SIZE_MAX = RECORD_PAYLOAD_SIZE_MAX,
        FORWARD_PROBLEM_SIZE_MAX = 512,
};

/* Which request, of which life of which process: the answer carries it back. */
struct forward_tag {
        uint64_t life;
        uint64_t number;
};
struct forward_request {
        struct forward_tag tag;
        uint64_t remaining_us; /* until the deadline; above 0 */
        bool is_delete;
        struct store_append append; /* or */
        struct store_delete del;
};

/* The tag that a request and an outcome begin with. False: the body is too short for one. */
MUST_CHECK bool forward_tag_decode(struct bytes body, struct forward_tag *ret);

/* What the request takes at most. */
uint64_t forward_request_size_max(const struct forward_request *rq);
void forward_request_encode(const struct forward_request *rq, struct buffer *out);
/* Fills *ret with what borrows from `body` and `arena`: everything but the write id and the deadline. Counts are within the
 * limits; names, sizes and ordinals are left to whoever takes the append. False: these bytes are no request of this
 * version. */
MUST_CHECK bool forward_request_decode(struct bytes body, struct arena *arena, struct forward_request *ret);

void forward_outcome_encode(
        const struct forward_tag *tag, const struct store_append_result *result, struct buffer *out);
/* False: these bytes are no outcome of this version for an append of so many streams and events. */
MUST_CHECK bool forward_outcome_decode(struct bytes body, unsigned stream_count, unsigned event_count, struct arena *arena,
        struct store_append_result *ret);

#endif
