/* The body of a $metadata event: limits of a stream (protocol 3.5). */
#ifndef MODEL_STREAM_METADATA_H
#define MODEL_STREAM_METADATA_H

#include "base/bytes.h"

struct stream_metadata {
        uint64_t max_count;       /* 0: no limit */
        uint64_t max_age_seconds; /* 0: no limit */
        uint64_t truncate_before; /* events below are invisible; REVISION_MAX: soft-deleted */
};

#define STREAM_METADATA_NONE ((struct stream_metadata){0, 0, 0})

/* Reads a metadata body. What cannot be read counts as empty: a body that is no JSON object gives STREAM_METADATA_NONE,
 * a key of the wrong type is ignored. Numbers up to 2^63-1 are exact. */
struct stream_metadata stream_metadata_parse(struct bytes json);

/* Checks a body that a client wants to write: NULL if it is fine, else what is wrong, in words for people (static). */
const char *stream_metadata_check(struct bytes json);

/* Adds to `out` the object of `json` with "$tb" set to `truncate_before` and every other key as it was; a body that is
 * no object counts as {}. */
void stream_metadata_with_truncate_before(struct bytes json, uint64_t truncate_before, struct buffer *out);

#endif
