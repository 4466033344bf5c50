/* Any bytes as a request for the leader and as its outcome: no read outside, no memory that the bytes do not
 * pay for, and what was understood is written again as the same.
 *
 * Links: store model base */
#include <stdlib.h>

#include "base/memory.h"
#include "store/forward_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void require_inside(struct bytes part, struct bytes whole)
{
        if (part.size)
                require(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static void look_at(const struct store_append *a, struct bytes body)
{
        require(a->stream_count <= LIMIT_APPEND_STREAMS_MAX && a->event_count <= LIMIT_APPEND_EVENTS_MAX);
        for (unsigned i = 0; i < a->stream_count; i++)
                require_inside(a->streams[i].stream, body);
        for (unsigned i = 0; i < a->event_count; i++) {
                const struct event_draft *e = &a->events[i].draft;

                require_inside(e->type, body);
                require_inside(e->data, body);
                require_inside(e->metadata, body);
                require(e->tag_count <= LIMIT_TAGS_MAX);
                for (unsigned t = 0; t < e->tag_count; t++)
                        require_inside(e->tags[t], body);
        }
}

/* Sizes may have been written longer than they need: so the second writing is compared with the first. */
static void try_request(struct bytes body)
{
        struct buffer once = {0}, twice = {0};
        struct forward_request rq;
        struct arena arena = {0};

        bool is_good = forward_request_decode(body, &arena, &rq);

        /* An event of 22 bytes becomes a draft, a tag of one byte a range. */
        require(arena.used <= 4096 + 64 * body.size);
        if (is_good) {
                look_at(&rq.append, body);
                require_inside(rq.del.stream, body);
                forward_request_encode(&rq, &once);
                require(once.size <= body.size);
                require(forward_request_decode(buffer_bytes(&once), &arena, &rq));
                forward_request_encode(&rq, &twice);
                require(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
        }
        arena_fini(&arena);
        buffer_fini(&once);
        buffer_fini(&twice);
}

static void try_outcome(struct bytes body, unsigned streams, unsigned events)
{
        struct store_append_result result;
        struct forward_tag tag;
        struct buffer again = {0};
        struct arena arena = {0};

        if (forward_outcome_decode(body, streams, events, &arena, &result)) {
                require(result.stream < MAX(streams, 1) && result.event < MAX(events, 1));
                require(!result.streams || result.stream_count == streams);
                require(forward_tag_decode(body, &tag));
                forward_outcome_encode(&tag, &result, &again);
                /* A text that is none is left out, or ends at its NUL. */
                require(again.size <= body.size);
                if (again.size == body.size)
                        require(bytes_equal(buffer_bytes(&again), body));
        }
        require(arena.used <= 4096 + 64 * body.size);
        arena_fini(&arena);
        buffer_fini(&again);
}

/* Input: what to try, the number of streams, of events; then the message behind its tag and version, which
 * are put right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t *message;

        if (size < 3)
                return 0;
        message = memory_new(17 + size - 3);
        message[16] = 1;
        memcpy(message + 17, data + 3, size - 3);
        if (data[0] & 1)
                try_request(bytes_of(message, 17 + size - 3));
        else
                try_outcome(bytes_of(message, 17 + size - 3), data[1], data[2]);
        free(message);
        return 0;
}
