/* The log record, format version 1. All numbers are little-endian; "varint" is unsigned LEB128.
 *
 * A record is a header of 72 bytes, the payload, and zero bytes up to the next multiple of 8:
 *
 *   offset  size  field
 *        0     4  payload_size
 *        4     1  kind: 1 events, 2 barrier, 3 configuration, 4 watermark
 *        5     1  format: 1
 *        6     2  flags: 0
 *        8     4  sum of the header: CRC-32C of these 72 bytes with this field zero
 *       12     4  sum of the payload: CRC-32C
 *       16     8  index
 *       24     8  first_position
 *       32     8  term
 *       40     8  synced_through
 *       48     4  event_count: 1 or more for events, 0 for the other kinds
 *       52     4  epoch
 *       56    16  chain: first 16 bytes of SHA-256(chain before, index, term, SHA-256(payload))
 *
 * Both sums are continued from the seed of the segment, the CRC-32C of its UUID and its generation (u32), so
 * that old bytes of a recycled file are no record.
 *
 * Payload of an events record: time_us (u64), then event_count events without gaps, nothing behind the last:
 *
 *   flags      u8      bit 0: the stream is given by name, else by the ordinal of a name before it
 *                      bit 1: the content is JSON
 *                      bit 2: metadata follows
 *                      bit 3: tags follow
 *                      bit 4: an extension block follows
 *                      bit 5: same type as the event before
 *                      bits 6 and 7: 0
 *   stream             bit 0 set: varint length, bytes; else varint ordinal (0 is the first name)
 *   revision   varint  with bit 0; else one more than that stream's last revision in this payload
 *   id         16 bytes
 *   type               without bit 5: varint length, bytes
 *   data               varint length, bytes
 *   metadata           with bit 2: varint length, bytes
 *   tags               with bit 3: varint count, then varint length, bytes each
 *   extension          with bit 4: varint length, bytes
 *
 * An extension block is a row of fields {varint number, varint length, bytes} in rising order of number.
 * Reserved are 1 subject key id, 2 schema version, 3 cipher id. A field of an odd number must be understood
 * by who reads the event, one of an even number may be skipped: a reader that knows no cipher must not give
 * out encrypted bytes as data. This version writes no extension block and knows no field. */
#include "model/record.h"

#include <stdlib.h>

#include <openssl/sha.h>

#include "base/crc32c.h"
#include "base/memory.h"

enum header_offset {
        AT_PAYLOAD_SIZE = 0,
        AT_KIND = 4,
        AT_FORMAT = 5,
        AT_FLAGS = 6,
        AT_HEADER_CRC = 8,
        AT_PAYLOAD_CRC = 12,
        AT_INDEX = 16,
        AT_FIRST_POSITION = 24,
        AT_TERM = 32,
        AT_SYNCED_THROUGH = 40,
        AT_EVENT_COUNT = 48,
        AT_EPOCH = 52,
        AT_CHAIN = 56,
};
static_assert(AT_CHAIN + RECORD_CHAIN_SIZE == RECORD_HEADER_SIZE, "on disk");
static_assert(RECORD_HEADER_SIZE % RECORD_ALIGNMENT == 0, "payloads are aligned too");

enum event_flag {
        EVENT_STREAM_BY_NAME = 1 << 0,
        EVENT_IS_JSON = 1 << 1,
        EVENT_HAS_METADATA = 1 << 2,
        EVENT_HAS_TAGS = 1 << 3,
        EVENT_HAS_EXTENSION = 1 << 4,
        EVENT_SAME_TYPE = 1 << 5,
        EVENT_FLAGS_KNOWN = (1 << 6) - 1,
};

enum {
        TIME_SIZE = 8,
        ID_SIZE = 16,
        STREAM_SIZE_MAX = LIMIT_STREAM_NAME_SIZE_MAX + 2, /* of a metastream */
        EXTENSION_SIZE_MAX = 4096,
        /* Everything of an event but its name, type, data, metadata and tags. */
        EVENT_OVERHEAD_MAX = 1 + ID_SIZE + 7 * VARINT_SIZE_MAX,
};
/* What the limits of an append count is written once at most, the type even twice in the count: so the rest
 * of each event and the names decide. Lengths here take 5 bytes at most. */
static_assert(1 + ID_SIZE + 6 * 5 <= 64, "RECORD_PAYLOAD_SIZE_MAX holds each event's overhead");
static_assert(
        STREAM_SIZE_MAX + 2 * VARINT_SIZE_MAX + TIME_SIZE <= 2048, "RECORD_PAYLOAD_SIZE_MAX holds the names");
static_assert(LIMIT_APPEND_STREAMS_MAX < UINT16_MAX, "ordinals fit the writer's slots");

/* ---- header ---- */

uint32_t record_seed(const uint8_t segment_uuid[16], uint32_t generation)
{
        uint8_t tail[4];

        put_u32(tail, generation);
        return crc32c(crc32c(0, segment_uuid, 16), tail, sizeof tail);
}

void record_chain_next(const struct record_chain *previous, uint64_t index, uint64_t term,
        struct bytes payload, struct record_chain *ret)
{
        uint8_t link[RECORD_CHAIN_SIZE + 8 + 8 + SHA256_DIGEST_LENGTH];
        uint8_t digest[SHA256_DIGEST_LENGTH];
        SHA256_CTX sha;

        /* The low-level calls: the others look up the algorithm for each hash, which costs more than the
         * hash. */
        SHA256_Init(&sha);
        SHA256_Update(&sha, payload.data, payload.size);
        SHA256_Final(link + RECORD_CHAIN_SIZE + 16, &sha);
        memcpy(link, previous->bytes, RECORD_CHAIN_SIZE);
        put_u64(link + RECORD_CHAIN_SIZE, index);
        put_u64(link + RECORD_CHAIN_SIZE + 8, term);
        SHA256_Init(&sha);
        SHA256_Update(&sha, link, sizeof link);
        SHA256_Final(digest, &sha);
        memcpy(ret->bytes, digest, RECORD_CHAIN_SIZE);
}

/* The sum of a header as if its own field were zero. */
static uint32_t header_crc(uint32_t seed, const uint8_t header[RECORD_HEADER_SIZE])
{
        static const uint8_t zero[4];
        uint32_t crc = crc32c(seed, header, AT_HEADER_CRC);

        crc = crc32c(crc, zero, sizeof zero);
        return crc32c(crc, header + AT_PAYLOAD_CRC, RECORD_HEADER_SIZE - AT_PAYLOAD_CRC);
}

static bool header_is_sound(const struct record_header *h)
{
        if (h->kind < RECORD_EVENTS || h->kind > RECORD_WATERMARK || h->flags)
                return false;
        if (h->payload_size > RECORD_PAYLOAD_SIZE_MAX)
                return false;
        /* A watermark of an empty log repeats index 0, which no entry has. */
        if (h->index > INT64_MAX || h->term > INT64_MAX || (h->index == 0 && h->kind != RECORD_WATERMARK))
                return false;
        if (h->first_position > INT64_MAX - LIMIT_APPEND_EVENTS_MAX)
                return false;
        if (h->kind != RECORD_EVENTS)
                return h->event_count == 0;
        return h->event_count > 0 && h->event_count <= LIMIT_APPEND_EVENTS_MAX;
}

void record_header_encode(const struct record_header *h, uint32_t seed, uint8_t to[RECORD_HEADER_SIZE])
{
        assert(header_is_sound(h)); /* what is written here must be readable again */

        put_u32(to + AT_PAYLOAD_SIZE, h->payload_size);
        to[AT_KIND] = (uint8_t)h->kind;
        to[AT_FORMAT] = RECORD_FORMAT;
        put_u16(to + AT_FLAGS, h->flags);
        put_u32(to + AT_PAYLOAD_CRC, h->payload_crc);
        put_u64(to + AT_INDEX, h->index);
        put_u64(to + AT_FIRST_POSITION, h->first_position);
        put_u64(to + AT_TERM, h->term);
        put_u64(to + AT_SYNCED_THROUGH, h->synced_through);
        put_u32(to + AT_EVENT_COUNT, h->event_count);
        put_u32(to + AT_EPOCH, h->epoch);
        memcpy(to + AT_CHAIN, h->chain.bytes, RECORD_CHAIN_SIZE);
        put_u32(to + AT_HEADER_CRC, header_crc(seed, to));
}

int record_header_decode(const uint8_t from[RECORD_HEADER_SIZE], uint32_t seed, struct record_header *ret)
{
        struct record_header h;

        if (get_u32(from + AT_HEADER_CRC) != header_crc(seed, from))
                return RECORD_INVALID;
        if (from[AT_FORMAT] != RECORD_FORMAT)
                return RECORD_INVALID;
        h.payload_size = get_u32(from + AT_PAYLOAD_SIZE);
        h.kind = from[AT_KIND];
        h.flags = get_u16(from + AT_FLAGS);
        h.payload_crc = get_u32(from + AT_PAYLOAD_CRC);
        h.index = get_u64(from + AT_INDEX);
        h.first_position = get_u64(from + AT_FIRST_POSITION);
        h.term = get_u64(from + AT_TERM);
        h.synced_through = get_u64(from + AT_SYNCED_THROUGH);
        h.event_count = get_u32(from + AT_EVENT_COUNT);
        h.epoch = get_u32(from + AT_EPOCH);
        memcpy(h.chain.bytes, from + AT_CHAIN, RECORD_CHAIN_SIZE);
        if (!header_is_sound(&h))
                return RECORD_INVALID;
        *ret = h;
        return 0;
}

uint32_t record_payload_crc(uint32_t seed, struct bytes payload)
{
        return crc32c(seed, payload.data, payload.size);
}

bool record_padding_is_zero(const uint8_t *record, uint32_t payload_size)
{
        const uint8_t *at = record + RECORD_HEADER_SIZE + payload_size;
        const uint8_t *end = record + record_size(payload_size);

        while (at < end)
                if (*at++)
                        return false;
        return true;
}

/* ---- writer of events ---- */

static struct record_writer_stream *writer_streams(struct record_events_writer *w)
{
        return w->streams ? w->streams : w->inline_streams;
}

void record_events_begin(struct record_events_writer *w, struct buffer *out, uint64_t time_us)
{
        w->out = out;
        w->event_count = 0;
        w->stream_count = 0;
        w->last_stream = 0;
        w->has_tombstone = false;
        w->type_at = 0;
        w->type_size = 0;
        w->streams = NULL;
        w->stream_capacity = RECORD_STREAMS_INLINE;
        w->slots = NULL;
        w->slot_count = 0;
        buffer_add_u64(out, time_us);
}

void record_events_end(struct record_events_writer *w)
{
        free(w->streams);
        free(w->slots);
        w->streams = NULL;
        w->slots = NULL;
}

static bool writer_stream_is(
        const struct record_events_writer *w, const struct record_writer_stream *s, struct bytes name)
{
        return s->name_size == name.size && memcmp(w->out->data + s->name_at, name.data, name.size) == 0;
}

/* The slot that holds the ordinal of `name`, or the empty one where it belongs. Half of the slots are empty
 * at least. */
static uint16_t *writer_slot(struct record_events_writer *w, struct bytes name)
{
        unsigned i = (unsigned)name_hash(name) & (w->slot_count - 1);

        while (w->slots[i] && !writer_stream_is(w, &w->streams[w->slots[i] - 1], name))
                i = (i + 1) & (w->slot_count - 1);
        return &w->slots[i];
}

/* The ordinal of `name`, stream_count if it is new. */
static unsigned writer_find(struct record_events_writer *w, struct bytes name)
{
        const struct record_writer_stream *streams = writer_streams(w);

        if (w->stream_count == 0)
                return 0;
        /* Events of one stream come in runs. */
        if (writer_stream_is(w, &streams[w->last_stream], name))
                return w->last_stream;
        if (w->slots) {
                uint16_t slot = *writer_slot(w, name);

                return slot ? slot - 1u : w->stream_count;
        }
        for (unsigned i = 0; i < w->stream_count; i++)
                if (writer_stream_is(w, &streams[i], name))
                        return i;
        return w->stream_count;
}

static void writer_grow(struct record_events_writer *w)
{
        unsigned capacity = w->stream_capacity * 4;

        if (w->streams) {
                w->streams = memory_resize(w->streams, capacity * sizeof *w->streams);
        } else {
                w->streams = memory_new_array(capacity, sizeof *w->streams);
                memcpy(w->streams, w->inline_streams, w->stream_count * sizeof *w->streams);
        }
        w->stream_capacity = capacity;
        free(w->slots);
        w->slot_count = capacity * 2;
        w->slots = memory_new_array(w->slot_count, sizeof *w->slots);
        for (unsigned i = 0; i < w->stream_count; i++) {
                const struct record_writer_stream *s = &w->streams[i];

                *writer_slot(w, bytes_of(w->out->data + s->name_at, s->name_size)) = (uint16_t)(i + 1);
        }
}
static_assert(
        (RECORD_STREAMS_INLINE & (RECORD_STREAMS_INLINE - 1)) == 0, "the number of slots is a power of two");

static uint8_t *put_bytes(uint8_t *at, struct bytes b)
{
        at += varint_put(at, b.size);
        if (b.size)
                memcpy(at, b.data, b.size);
        return at + b.size;
}

/* Notes a stream whose name stands at `name_at` already. */
static void writer_add_stream(
        struct record_events_writer *w, size_t name_at, struct bytes name, uint64_t next_revision)
{
        assert(w->stream_count < LIMIT_APPEND_STREAMS_MAX);
        if (w->stream_count == w->stream_capacity)
                writer_grow(w);
        if (w->slots)
                *writer_slot(w, name) = (uint16_t)(w->stream_count + 1);
        writer_streams(w)[w->stream_count++] =
                (struct record_writer_stream){name_at, name.size, next_revision};
}

static void assert_draft_is_within_limits(uint64_t revision, const struct event_draft *e)
{
        assert(revision <= REVISION_MAX);
        assert(e->type.size > 0 && e->type.size <= LIMIT_EVENT_TYPE_SIZE_MAX);
        assert(e->data.size <= LIMIT_EVENT_SIZE_MAX);
        assert(e->metadata.size <= LIMIT_METADATA_SIZE_MAX);
        assert(e->tag_count <= LIMIT_TAGS_MAX);
}

/* Room for all of an event but its stream's name and revision, which may be there already. */
static void writer_reserve(struct record_events_writer *w, const struct event_draft *e, size_t name_size)
{
        size_t size = EVENT_OVERHEAD_MAX + name_size + e->type.size + e->data.size + e->metadata.size;

        for (unsigned i = 0; i < e->tag_count; i++) {
                assert(e->tags[i].size <= LIMIT_TAG_SIZE_MAX);
                size += e->tags[i].size + VARINT_SIZE_MAX;
        }
        buffer_reserve(w->out, size);
}

/* Everything behind stream and revision; the flags come last. */
static void writer_put_content(struct record_events_writer *w, uint8_t *start, uint8_t *at, uint8_t flags,
        const struct event_draft *e, bool has_same_type)
{
        if (e->content_type == CONTENT_JSON)
                flags |= EVENT_IS_JSON;
        memcpy(at, e->id.bytes, ID_SIZE);
        at += ID_SIZE;
        if (has_same_type) {
                flags |= EVENT_SAME_TYPE;
        } else {
                at = put_bytes(at, e->type);
                w->type_at = (size_t)(at - w->out->data) - e->type.size;
                w->type_size = e->type.size;
        }
        at = put_bytes(at, e->data);
        if (e->metadata.size) {
                flags |= EVENT_HAS_METADATA;
                at = put_bytes(at, e->metadata);
        }
        if (e->tag_count) {
                flags |= EVENT_HAS_TAGS;
                at += varint_put(at, e->tag_count);
                for (unsigned i = 0; i < e->tag_count; i++)
                        at = put_bytes(at, e->tags[i]);
        }
        *start = flags;

        w->out->size = (size_t)(at - w->out->data);
        assert(w->out->size <= w->out->capacity);
        w->event_count++;
}

void record_events_add(
        struct record_events_writer *w, struct bytes stream, uint64_t revision, const struct event_draft *e)
{
        unsigned ordinal = writer_find(w, stream);
        bool has_same_type =
                w->event_count && bytes_equal(e->type, bytes_of(w->out->data + w->type_at, w->type_size));
        uint8_t *start;
        uint8_t *at;

        assert(stream.size > 0 && stream.size <= STREAM_SIZE_MAX);
        assert_draft_is_within_limits(revision, e);
        assert(w->event_count < LIMIT_APPEND_EVENTS_MAX);
        assert(!w->has_tombstone);
        assert(revision != REVISION_MAX || w->event_count == 0);

        if (ordinal < w->stream_count) {
                w->last_stream = ordinal;
                record_events_add_another(w, revision, e, has_same_type);
                return;
        }
        writer_reserve(w, e, stream.size);
        start = w->out->data + w->out->size;
        at = put_bytes(start + 1, stream);
        writer_add_stream(w, (size_t)(at - w->out->data) - stream.size, stream, revision + 1);
        at += varint_put(at, revision);
        writer_put_content(w, start, at, EVENT_STREAM_BY_NAME, e, has_same_type);
        w->last_stream = ordinal;
        w->has_tombstone = revision == REVISION_MAX;
}

void record_events_add_another(
        struct record_events_writer *w, uint64_t revision, const struct event_draft *e, bool has_same_type)
{
        struct record_writer_stream *s = &writer_streams(w)[w->last_stream];
        uint8_t *start;

        assert_draft_is_within_limits(revision, e);
        assert(w->event_count > 0 && w->event_count < LIMIT_APPEND_EVENTS_MAX);
        assert(!w->has_tombstone);
        assert(revision == s->next_revision && revision != REVISION_MAX);

        s->next_revision++;
        writer_reserve(w, e, 0);
        start = w->out->data + w->out->size;
        writer_put_content(w, start, start + 1 + varint_put(start + 1, w->last_stream), 0, e, has_same_type);
}

/* ---- reader of events ---- */

int record_events_open(struct record_events_reader *r, const struct record_header *h, struct bytes payload)
{
        if (h->kind != RECORD_EVENTS || h->event_count == 0 || h->event_count > LIMIT_APPEND_EVENTS_MAX)
                return RECORD_INVALID;
        if (payload.size < TIME_SIZE)
                return RECORD_INVALID;
        r->at = payload.data + TIME_SIZE;
        r->end = payload.data + payload.size;
        r->time_us = get_u64(payload.data);
        r->next_position = h->first_position;
        r->log_index = h->index;
        r->left = h->event_count;
        r->is_first = true;
        r->last_type = BYTES_EMPTY;
        r->stream_count = 0;
        return 0;
}

void record_events_close(struct record_events_reader *r)
{
        free(r->streams);
        *r = (struct record_events_reader){0};
}

/* Reads a number of one byte, which nearly all are, without a loop. */
static inline bool get_number(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
        if (LIKELY(*at < end && **at < 0x80)) {
                *ret = *(*at)++;
                return true;
        }
        return varint_get(at, end, ret);
}

/* Reads a length of at most `max` and gives that many bytes; false if they do not end before `end`. */
static inline bool get_bytes(const uint8_t **at, const uint8_t *end, size_t max, struct bytes *ret)
{
        uint64_t size;

        if (!get_number(at, end, &size) || size > max || size > (uint64_t)(end - *at))
                return false;
        *ret = bytes_of(*at, (size_t)size);
        *at += size;
        return true;
}

static struct record_stream *reader_add_stream(struct record_events_reader *r)
{
        if (r->stream_count < RECORD_STREAMS_INLINE && !r->streams)
                return &r->inline_streams[r->stream_count++];
        if (!r->streams) {
                r->stream_capacity = RECORD_STREAMS_INLINE * 4;
                r->streams = memory_new_array(r->stream_capacity, sizeof *r->streams);
                memcpy(r->streams, r->inline_streams, sizeof r->inline_streams);
        } else if (r->stream_count == r->stream_capacity) {
                r->stream_capacity *= 4;
                r->streams = memory_resize(r->streams, r->stream_capacity * sizeof *r->streams);
        }
        return &r->streams[r->stream_count++];
}

/* Reads the stream and the revision. */
static bool reader_get_stream(
        struct record_events_reader *r, const uint8_t **at, uint8_t flags, struct event_view *ret)
{
        struct record_stream *stream;

        if (flags & EVENT_STREAM_BY_NAME) {
                if (r->stream_count == LIMIT_APPEND_STREAMS_MAX)
                        return false;
                if (!get_bytes(at, r->end, STREAM_SIZE_MAX, &ret->stream) || ret->stream.size == 0)
                        return false;
                if (!get_number(at, r->end, &ret->revision) || ret->revision > REVISION_MAX)
                        return false;
                if (ret->revision == REVISION_MAX && !(r->is_first && r->left == 1))
                        return false;
                stream = reader_add_stream(r);
                stream->name = ret->stream;
        } else {
                uint64_t ordinal;

                if (!get_number(at, r->end, &ordinal) || ordinal >= r->stream_count)
                        return false;
                stream = &(r->streams ? r->streams : r->inline_streams)[ordinal];
                ret->stream = stream->name;
                ret->revision = stream->next_revision;
                /* Numbering never reaches the tombstone's. */
                if (ret->revision >= REVISION_MAX)
                        return false;
        }
        stream->next_revision = ret->revision + 1;
        return true;
}

static bool reader_get_tags(const struct record_events_reader *r, const uint8_t **at, struct event_view *ret)
{
        const uint8_t *start;
        uint64_t count;

        if (!get_number(at, r->end, &count) || count == 0 || count > LIMIT_TAGS_MAX)
                return false;
        start = *at;
        for (uint64_t i = 0; i < count; i++) {
                struct bytes tag;

                if (!get_bytes(at, r->end, LIMIT_TAG_SIZE_MAX, &tag))
                        return false;
        }
        ret->tags = bytes_of(start, (size_t)(*at - start));
        ret->tag_count = (unsigned)count;
        return true;
}

/* Skips an extension block if every field of it may be skipped. */
static bool reader_skip_extension(const struct record_events_reader *r, const uint8_t **at)
{
        struct bytes block;
        const uint8_t *field;
        uint64_t number_before = 0;

        if (!get_bytes(at, r->end, EXTENSION_SIZE_MAX, &block))
                return false;
        field = block.data;
        while (field < *at) {
                uint64_t number;
                struct bytes value;

                if (!get_number(&field, *at, &number) || number % 2 == 1 || number <= number_before)
                        return false;
                if (!get_bytes(&field, *at, EXTENSION_SIZE_MAX, &value))
                        return false;
                number_before = number;
        }
        return true;
}

/* Reads what stands between the stream and the end of an event. */
static bool reader_get_content(
        struct record_events_reader *r, const uint8_t **at, uint8_t flags, struct event_view *ret)
{
        if (r->end - *at < ID_SIZE)
                return false;
        memcpy(ret->id.bytes, *at, ID_SIZE);
        *at += ID_SIZE;
        if (!(flags & EVENT_SAME_TYPE) && !get_bytes(at, r->end, LIMIT_EVENT_TYPE_SIZE_MAX, &r->last_type))
                return false;
        /* Empty: a type of no length, or the first event refers to a type before it. */
        if (r->last_type.size == 0)
                return false;
        ret->type = r->last_type;
        if (!get_bytes(at, r->end, LIMIT_EVENT_SIZE_MAX, &ret->data))
                return false;
        ret->metadata = BYTES_EMPTY;
        if ((flags & EVENT_HAS_METADATA) && !get_bytes(at, r->end, LIMIT_METADATA_SIZE_MAX, &ret->metadata))
                return false;
        ret->tags = BYTES_EMPTY;
        ret->tag_count = 0;
        if ((flags & EVENT_HAS_TAGS) && !reader_get_tags(r, at, ret))
                return false;
        return !(flags & EVENT_HAS_EXTENSION) || reader_skip_extension(r, at);
}

int record_events_next(struct record_events_reader *r, struct event_view *ret)
{
        const uint8_t *at = r->at;
        uint8_t flags;

        if (r->left == 0)
                return RECORD_EVENTS_END;
        if (at == r->end)
                return RECORD_INVALID;
        flags = *at++;
        if (flags & ~EVENT_FLAGS_KNOWN)
                return RECORD_INVALID;
        if (!reader_get_stream(r, &at, flags, ret) || !reader_get_content(r, &at, flags, ret))
                return RECORD_INVALID;
        /* Bytes behind the last event mean that the count is wrong. */
        if (r->left == 1 && at != r->end)
                return RECORD_INVALID;
        ret->content_type = flags & EVENT_IS_JSON ? CONTENT_JSON : CONTENT_BINARY;
        ret->position = r->next_position++;
        ret->time_us = r->time_us;
        ret->log_index = r->log_index;
        r->at = at;
        r->is_first = false;
        r->left--;
        ret->is_last_of_record = r->left == 0;
        return 0;
}

bool event_tag_next(struct bytes *at, struct bytes *ret_tag)
{
        const uint8_t *p = at->data;
        const uint8_t *end;

        if (at->size == 0)
                return false;
        end = at->data + at->size;
        if (!get_bytes(&p, end, LIMIT_TAG_SIZE_MAX, ret_tag))
                return false;
        *at = bytes_of(p, (size_t)(end - p));
        return true;
}
