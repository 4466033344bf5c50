/* Server-sent events (WHATWG HTML, 9.2), read line by line. */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include "base/bytes.h"

enum { SSE_NAME_SIZE = 32, SSE_DATA_SIZE_MAX = 64 << 20 };

/* The event under way; the empty value is all zero. */
struct sse {
        struct buffer data;
        char id[SSE_NAME_SIZE];
        char event[SSE_NAME_SIZE]; /* the field `event`; "" for a plain one */
};

enum sse_outcome {
        SSE_MORE,      /* the event has not ended */
        SSE_EVENT,     /* it has: look at it, then sse_next */
        SSE_TOO_LARGE, /* its data exceeds SSE_DATA_SIZE_MAX */
};
/* Takes one line without its end. Comments and unknown fields are passed over; an empty line that ends nothing gives
 * SSE_MORE. */
MUST_CHECK enum sse_outcome sse_line(struct sse *s, const char *line, size_t size);
void sse_next(struct sse *s); /* forgets the event; also for one that the connection cut off */
void sse_fini(struct sse *s);

#endif
