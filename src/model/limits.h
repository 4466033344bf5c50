/* Sizes that a stranger can meet (formats and names: sizes). Shown by /info, named in every refusal (G17). */
#ifndef MODEL_LIMITS_H
#define MODEL_LIMITS_H

#include "base/macros.h"

enum {
        LIMIT_EVENT_SIZE_MAX = 16 * 1024 * 1024 - 10000, /* data + metadata + 2 x type length, KurrentDB's formula */
        LIMIT_APPEND_SIZE_MAX = 64 * 1024 * 1024,        /* sum of event sizes of one atomic append */
        LIMIT_APPEND_EVENTS_MAX = 100000,                /* events of one atomic append */
        LIMIT_APPEND_STREAMS_MAX = 1000,                 /* streams of one atomic append */
        LIMIT_STREAM_NAME_SIZE_MAX = 1024,               /* UTF-8 bytes, without the "$$" of a metastream */
        LIMIT_EVENT_TYPE_SIZE_MAX = 1024,
        LIMIT_CONTENT_TYPE_SIZE_MAX = 128,
        LIMIT_METADATA_SIZE_MAX = 1024 * 1024,
        LIMIT_TAGS_MAX = 64,
        LIMIT_TAG_SIZE_MAX = 256,
        LIMIT_FILTER_PREFIXES_MAX = 1000,
        LIMIT_FILTER_REGEX_SIZE_MAX = 4096,
};

#define LIMIT_IDEMPOTENCY_WINDOW_IDS 250000
/* The largest revision of an event; a tombstone stands at this number (protocol: numbering). */
#define REVISION_MAX ((uint64_t)INT64_MAX)

#endif
