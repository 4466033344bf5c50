/* What an event, a stream, a position and an expectation are. Values only: nothing here owns memory. */
#ifndef MODEL_EVENT_H
#define MODEL_EVENT_H

#include "base/bytes.h"
#include "model/limits.h"

/* UUID, 16 bytes in the order of its text (RFC 9562). */
struct event_id {
        uint8_t bytes[16];
};

enum { EVENT_ID_TEXT_SIZE = 36 };

static inline bool event_id_equal(const struct event_id *a, const struct event_id *b)
{
        return memcmp(a->bytes, b->bytes, 16) == 0;
}

/* Reads "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" (either case; also 32 digits without hyphens). False if it is
 * none. */
MUST_CHECK bool event_id_parse(struct bytes text, struct event_id *ret);
/* Writes 36 lower-case characters and a NUL. */
void event_id_format(const struct event_id *id, char ret[EVENT_ID_TEXT_SIZE + 1]);
/* The two signed halves as on the KurrentDB wire (protocol 1.3). */
void event_id_from_halves(int64_t most, int64_t least, struct event_id *ret);
void event_id_to_halves(const struct event_id *id, int64_t *ret_most, int64_t *ret_least);
/* A version 4 UUID made from 16 random bytes in place. */
void event_id_stamp_random(struct event_id *id);

enum content_type {
        CONTENT_BINARY =
                0, /* application/octet-stream, and everything that is not exactly application/json */
        CONTENT_JSON = 1,
};

/* An event as it is asked to be appended. Everything is borrowed. */
struct event_draft {
        struct event_id id;
        struct bytes type; /* 1..LIMIT_EVENT_TYPE_SIZE_MAX */
        enum content_type content_type;
        struct bytes data;
        struct bytes metadata;
        const struct bytes *tags; /* key=value or plain; order and duplicates are kept */
        unsigned tag_count;
};

/* An event as it stands in the log. Everything is borrowed from the reader's block. */
struct event_view {
        struct event_id id;
        struct bytes stream;
        struct bytes type;
        struct bytes data;
        struct bytes metadata;
        struct bytes tags; /* encoded as in record.h; tag_count of them */
        unsigned tag_count;
        enum content_type content_type;
        uint64_t revision;  /* REVISION_MAX for a tombstone */
        uint64_t position;  /* global, 0-based */
        uint64_t time_us;   /* since 1970, non-decreasing in position order (G19) */
        uint64_t log_index; /* of the record that holds it */
        bool is_last_of_record;
};

/* Size of an event by KurrentDB's formula (data, metadata, twice the type), plus its tags: what
 * LIMIT_EVENT_SIZE_MAX and LIMIT_APPEND_SIZE_MAX are about. */
static inline uint64_t event_draft_size(const struct event_draft *e)
{
        uint64_t size = (uint64_t)e->data.size + e->metadata.size + 2 * (uint64_t)e->type.size;

        /* KurrentDB knows no tags; they count here so that the limit of an append bounds its record. */
        for (unsigned i = 0; i < e->tag_count; i++)
                size += e->tags[i].size + 2;
        return size;
}

/* What the writer expects of the stream (G5; protocol 3.2). */
enum expected_kind {
        EXPECTED_ANY,
        EXPECTED_NONE, /* no such stream */
        EXPECTED_EXISTS,
        EXPECTED_EXACT,        /* last event is `revision` */
        EXPECTED_SOFT_DELETED, /* v2 checks only */
        EXPECTED_TOMBSTONED,   /* v2 checks only; holds only for a stream that is not written */
};
struct expected {
        enum expected_kind kind;
        uint64_t revision;
};

/* Stream names. */
bool stream_name_is_valid(
        struct bytes name);               /* 1..1024 bytes (+2 for a metastream), UTF-8, no NUL, not "$all" */
bool stream_is_system(struct bytes name); /* begins with '$' */
bool stream_is_meta(struct bytes name);   /* begins with "$$" */
/* The stream a metastream speaks of: "$$order-1" -> "order-1". Only for stream_is_meta names. */
struct bytes stream_of_meta(struct bytes name);
/* Holds secrets of the server: hashes of passwords ("$user-..."), the key of tokens, the cluster's; or is the metastream of one. */
bool stream_is_guarded(struct bytes name);
/* Text before the first '-'; empty if there is none. */
struct bytes stream_category(struct bytes name);
/* XXH3_64 with seed 0. */
uint64_t name_hash(struct bytes name);

/* Types that have a meaning of their own (protocol 3.9). */
#define EVENT_TYPE_METADATA       BYTES_LITERAL("$metadata")
#define EVENT_TYPE_STREAM_DELETED BYTES_LITERAL("$streamDeleted")
#define EVENT_TYPE_LINK           BYTES_LITERAL("$>")

/* "12@order-1" -> 12, "order-1" (protocol 3.6). False if the data is no link. */
MUST_CHECK bool event_link_parse(struct bytes data, uint64_t *ret_revision, struct bytes *ret_stream);

#endif
