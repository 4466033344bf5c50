/* The bytes between a node that was asked to write and the leader. Numbers are little-endian; a "size" is a
 * varint; a "text" is its size and its bytes.
 *
 * Request: life (8), number (8), version (1), kind (1: append, 2: delete), time left in microseconds (8),
 * then append: number of streams (varint), number of events (varint); each stream: expectation, name (text);
 *           each event: ordinal of its stream (varint), id (16), content type (1), sizes of type, data and
 *           metadata, number of tags (varint), type, data, metadata, tags (text);
 *   delete: 1 for a tombstone, else 0 (1), expectation, name (text).
 *   An expectation: kind (1), and the revision (varint) if the kind is "exact".
 *
 * Outcome: life (8), number (8), version (1), verdict (1), flags (1: soft-deleted 1, duplicate 2, has a
 * position 4), stream (4), event (4), first position (8), position (8), limit (8), size (8), leader (8),
 * number of streams (2), size of the problem (2); each stream: flags (1: has a revision 1, has failed 2,
 * soft-deleted 4, tombstoned 8), revision (8); the problem.
 *
 * Time travels as what is left of it, since clocks differ. The kinds, verdicts and content types are those of
 * the contract headers, whose numbers stay (G20). Whoever decodes trusts no size and no count: the sender may
 * be of another version, or broken. */
#include "store/forward_bytes.h"

enum { VERSION = 1, KIND_APPEND = 1, KIND_DELETE = 2 };
enum { TAG_SIZE = 16, REQUEST_HEAD_SIZE = 26, OUTCOME_HEAD_SIZE = 71, OUTCOME_STREAM_SIZE = 9 };
enum { IS_SOFT_DELETED = 1, IS_DUPLICATE = 2, HAS_POSITION = 4, KNOWN_FLAGS = 7 };
enum { STREAM_HAS_REVISION = 1, STREAM_HAS_FAILED = 2, STREAM_IS_SOFT_DELETED = 4, STREAM_IS_TOMBSTONED = 8 };
enum { KNOWN_STREAM_FLAGS = 15 };
enum {
        STREAM_SIZE_MIN = 2,
        EVENT_SIZE_MIN = 22,
        /* Beside their bytes. What tags of legal size take is counted with the size of the event. */
        STREAM_OVERHEAD_MAX = 1 + 2 * VARINT_SIZE_MAX,
        EVENT_OVERHEAD_MAX = 64,
        REQUEST_OVERHEAD_MAX = 128,
};
static_assert(sizeof(struct event_id) + 1 + 5 * 5 + VARINT_SIZE_MAX <= EVENT_OVERHEAD_MAX, "an event's own");
static_assert((uint64_t)REQUEST_OVERHEAD_MAX + LIMIT_APPEND_SIZE_MAX +
                              (uint64_t)LIMIT_APPEND_EVENTS_MAX * EVENT_OVERHEAD_MAX +
                              (uint64_t)LIMIT_APPEND_STREAMS_MAX *
                                      (STREAM_OVERHEAD_MAX + LIMIT_STREAM_NAME_SIZE_MAX + 2) <=
                      FORWARD_REQUEST_SIZE_MAX,
        "what is within the limits can be sent");
static_assert(LIMIT_APPEND_STREAMS_MAX <= UINT16_MAX, "the number of streams of an outcome");
static_assert(EXPECTED_TOMBSTONED == 5, "on the wire");
static_assert(STORE_UNKNOWN == 10, "on the wire");

/* ---- numbers and texts ---- */

struct cursor {
        const uint8_t *at;
        const uint8_t *end;
};

static bool take_u8(struct cursor *c, uint8_t *ret)
{
        if (c->at == c->end)
                return false;
        *ret = *c->at++;
        return true;
}

/* A number that counts things of at least `size_min` bytes each, which are still to come. */
static bool take_count(struct cursor *c, uint64_t max, size_t size_min, unsigned *ret)
{
        uint64_t n;

        if (!varint_get(&c->at, c->end, &n) || n > max || n > (size_t)(c->end - c->at) / size_min)
                return false;
        *ret = (unsigned)n;
        return true;
}

static bool take_size(struct cursor *c, size_t *ret)
{
        uint64_t n;

        if (!varint_get(&c->at, c->end, &n) || n > (size_t)(c->end - c->at))
                return false;
        *ret = (size_t)n;
        return true;
}

static bool take_bytes(struct cursor *c, size_t size, struct bytes *ret)
{
        if (size > (size_t)(c->end - c->at))
                return false;
        *ret = size ? bytes_of(c->at, size) : BYTES_EMPTY;
        c->at += size;
        return true;
}

static bool take_text(struct cursor *c, struct bytes *ret)
{
        size_t size;

        return take_size(c, &size) && take_bytes(c, size, ret);
}

static void add_text(struct buffer *out, struct bytes text)
{
        buffer_add_varint(out, text.size);
        buffer_add_bytes(out, text);
}

static void add_expected(struct buffer *out, const struct expected *e)
{
        buffer_add_u8(out, (uint8_t)e->kind);
        if (e->kind == EXPECTED_EXACT)
                buffer_add_varint(out, e->revision);
}

static bool take_expected(struct cursor *c, struct expected *ret)
{
        uint8_t kind;

        *ret = (struct expected){0};
        if (!take_u8(c, &kind) || kind > EXPECTED_TOMBSTONED)
                return false;
        ret->kind = (enum expected_kind)kind;
        return kind != EXPECTED_EXACT || varint_get(&c->at, c->end, &ret->revision);
}

static void add_tag(struct buffer *out, const struct forward_tag *tag)
{
        buffer_add_u64(out, tag->life);
        buffer_add_u64(out, tag->number);
}

bool forward_tag_decode(struct bytes body, struct forward_tag *ret)
{
        if (body.size < TAG_SIZE)
                return false;
        *ret = (struct forward_tag){.life = get_u64(body.data), .number = get_u64(body.data + 8)};
        return true;
}

/* ---- requests ---- */

uint64_t forward_request_size_max(const struct forward_request *rq)
{
        const struct store_append *a = &rq->append;
        uint64_t size = REQUEST_OVERHEAD_MAX;

        if (rq->is_delete)
                return size + rq->del.stream.size;
        for (unsigned i = 0; i < a->stream_count; i++)
                size += STREAM_OVERHEAD_MAX + a->streams[i].stream.size;
        for (unsigned i = 0; i < a->event_count; i++) {
                const struct event_draft *e = &a->events[i].draft;

                size += EVENT_OVERHEAD_MAX + event_draft_size(e);
        }
        return size;
}

static void add_event(struct buffer *out, const struct store_append_event *event)
{
        const struct event_draft *e = &event->draft;

        buffer_add_varint(out, event->stream);
        buffer_add(out, e->id.bytes, sizeof(e->id.bytes));
        buffer_add_u8(out, (uint8_t)e->content_type);
        buffer_add_varint(out, e->type.size);
        buffer_add_varint(out, e->data.size);
        buffer_add_varint(out, e->metadata.size);
        buffer_add_varint(out, e->tag_count);
        buffer_add_bytes(out, e->type);
        buffer_add_bytes(out, e->data);
        buffer_add_bytes(out, e->metadata);
        for (unsigned i = 0; i < e->tag_count; i++)
                add_text(out, e->tags[i]);
}

static void add_append(struct buffer *out, const struct store_append *a)
{
        buffer_add_varint(out, a->stream_count);
        buffer_add_varint(out, a->event_count);
        for (unsigned i = 0; i < a->stream_count; i++) {
                add_expected(out, &a->streams[i].expected);
                add_text(out, a->streams[i].stream);
        }
        for (unsigned i = 0; i < a->event_count; i++)
                add_event(out, &a->events[i]);
}

void forward_request_encode(const struct forward_request *rq, struct buffer *out)
{
        assert(rq->remaining_us > 0);
        buffer_reserve(out, (size_t)forward_request_size_max(rq));
        add_tag(out, &rq->tag);
        buffer_add_u8(out, VERSION);
        buffer_add_u8(out, rq->is_delete ? KIND_DELETE : KIND_APPEND);
        buffer_add_u64(out, rq->remaining_us);
        if (!rq->is_delete) {
                add_append(out, &rq->append);
                return;
        }
        buffer_add_u8(out, rq->del.is_tombstone);
        add_expected(out, &rq->del.expected);
        add_text(out, rq->del.stream);
}

static bool take_tags(struct cursor *c, struct arena *arena, struct event_draft *ret)
{
        struct bytes *tags;

        if (!ret->tag_count)
                return true;
        /* Asked again behind type, data and metadata: memory only for what can be there. */
        if (ret->tag_count > (size_t)(c->end - c->at))
                return false;
        tags = arena_get(arena, ret->tag_count * sizeof(*tags));
        ret->tags = tags;
        for (unsigned i = 0; i < ret->tag_count; i++)
                if (!take_text(c, &tags[i]))
                        return false;
        return true;
}

static bool take_event(struct cursor *c, struct arena *arena, struct store_append_event *ret)
{
        struct event_draft *e = &ret->draft;
        size_t type_size, data_size, metadata_size;
        struct bytes id;
        uint64_t stream;
        uint8_t content_type;

        *ret = (struct store_append_event){0};
        if (!varint_get(&c->at, c->end, &stream) || stream >= LIMIT_APPEND_STREAMS_MAX ||
                !take_bytes(c, sizeof(e->id.bytes), &id) || !take_u8(c, &content_type) ||
                content_type > CONTENT_JSON)
                return false;
        ret->stream = (unsigned)stream;
        memcpy(e->id.bytes, id.data, sizeof(e->id.bytes));
        e->content_type = (enum content_type)content_type;
        return take_size(c, &type_size) && take_size(c, &data_size) && take_size(c, &metadata_size) &&
               take_count(c, LIMIT_TAGS_MAX, 1, &e->tag_count) && take_bytes(c, type_size, &e->type) &&
               take_bytes(c, data_size, &e->data) && take_bytes(c, metadata_size, &e->metadata) &&
               take_tags(c, arena, e);
}

static bool take_append(struct cursor *c, struct arena *arena, struct store_append *ret)
{
        struct store_append_stream *streams;
        struct store_append_event *events;

        if (!take_count(c, LIMIT_APPEND_STREAMS_MAX, STREAM_SIZE_MIN, &ret->stream_count) ||
                !take_count(c, LIMIT_APPEND_EVENTS_MAX, EVENT_SIZE_MIN, &ret->event_count))
                return false;
        streams = arena_get(arena, ret->stream_count * sizeof(*streams));
        events = arena_get(arena, ret->event_count * sizeof(*events));
        ret->streams = streams;
        ret->events = events;
        for (unsigned i = 0; i < ret->stream_count; i++)
                if (!take_expected(c, &streams[i].expected) || !take_text(c, &streams[i].stream))
                        return false;
        for (unsigned i = 0; i < ret->event_count; i++)
                if (!take_event(c, arena, &events[i]))
                        return false;
        return true;
}

static bool take_delete(struct cursor *c, struct store_delete *ret)
{
        uint8_t is_tombstone;

        if (!take_u8(c, &is_tombstone) || is_tombstone > 1)
                return false;
        ret->is_tombstone = is_tombstone;
        return take_expected(c, &ret->expected) && take_text(c, &ret->stream);
}

bool forward_request_decode(struct bytes body, struct arena *arena, struct forward_request *ret)
{
        struct cursor c;
        uint8_t kind;

        *ret = (struct forward_request){0};
        if (!forward_tag_decode(body, &ret->tag) || body.size < REQUEST_HEAD_SIZE || body.data[16] != VERSION)
                return false;
        c = (struct cursor){.at = body.data + REQUEST_HEAD_SIZE, .end = body.data + body.size};
        kind = body.data[17];
        ret->remaining_us = get_u64(body.data + 18);
        ret->is_delete = kind == KIND_DELETE;
        if (!ret->remaining_us || (kind != KIND_APPEND && kind != KIND_DELETE))
                return false;
        if (!(ret->is_delete ? take_delete(&c, &ret->del) : take_append(&c, arena, &ret->append)))
                return false;
        return c.at == c.end;
}

/* ---- outcomes ---- */

/* As much of the text as fits, without half a character. */
static struct bytes shorten(struct bytes text)
{
        if (text.size <= FORWARD_PROBLEM_SIZE_MAX)
                return text;
        text.size = FORWARD_PROBLEM_SIZE_MAX;
        while (text.size && (text.data[text.size] & 0xc0) == 0x80)
                text.size--;
        return text;
}

void forward_outcome_encode(
        const struct forward_tag *tag, const struct store_append_result *result, struct buffer *out)
{
        struct bytes problem = shorten(bytes_of_string(result->problem));
        unsigned streams = result->streams ? result->stream_count : 0;

        assert(streams <= LIMIT_APPEND_STREAMS_MAX);
        buffer_reserve(out, OUTCOME_HEAD_SIZE + (size_t)streams * OUTCOME_STREAM_SIZE + problem.size);
        add_tag(out, tag);
        buffer_add_u8(out, VERSION);
        buffer_add_u8(out, (uint8_t)result->verdict);
        buffer_add_u8(out, (uint8_t)((result->is_soft_deleted ? IS_SOFT_DELETED : 0) |
                                     (result->is_duplicate ? IS_DUPLICATE : 0) |
                                     (result->has_position ? HAS_POSITION : 0)));
        buffer_add_u32(out, result->stream);
        buffer_add_u32(out, result->event);
        buffer_add_u64(out, result->first_position);
        buffer_add_u64(out, result->position);
        buffer_add_u64(out, result->limit);
        buffer_add_u64(out, result->size);
        buffer_add_u64(out, result->leader_id);
        buffer_add_u16(out, (uint16_t)streams);
        buffer_add_u16(out, (uint16_t)problem.size);
        for (unsigned i = 0; i < streams; i++) {
                const struct store_stream_outcome *o = &result->streams[i];

                buffer_add_u8(out, (uint8_t)((o->has_revision ? STREAM_HAS_REVISION : 0) |
                                             (o->has_failed ? STREAM_HAS_FAILED : 0) |
                                             (o->is_soft_deleted ? STREAM_IS_SOFT_DELETED : 0) |
                                             (o->is_tombstoned ? STREAM_IS_TOMBSTONED : 0)));
                buffer_add_u64(out, o->revision);
        }
        buffer_add_bytes(out, problem);
}

static bool take_outcomes(
        struct cursor *c, unsigned count, struct arena *arena, struct store_append_result *ret)
{
        struct store_stream_outcome *outcomes;

        if (!count)
                return true;
        if (count > (size_t)(c->end - c->at) / OUTCOME_STREAM_SIZE)
                return false;
        outcomes = arena_get(arena, count * sizeof(*outcomes));
        for (unsigned i = 0; i < count; i++, c->at += OUTCOME_STREAM_SIZE) {
                if (c->at[0] > KNOWN_STREAM_FLAGS)
                        return false;
                outcomes[i] = (struct store_stream_outcome){
                        .has_revision = c->at[0] & STREAM_HAS_REVISION,
                        .has_failed = c->at[0] & STREAM_HAS_FAILED,
                        .is_soft_deleted = c->at[0] & STREAM_IS_SOFT_DELETED,
                        .is_tombstoned = c->at[0] & STREAM_IS_TOMBSTONED,
                        .revision = get_u64(c->at + 1),
                };
        }
        ret->streams = outcomes;
        ret->stream_count = count;
        return true;
}

/* What whoever reads the outcome relies on: its ordinals, and a revision of each stream where there must be
 * one. */
static bool fits_request(const struct store_append_result *r, unsigned stream_count, unsigned event_count)
{
        bool has_streams = r->verdict == STORE_OK || r->verdict == STORE_CONFLICT;

        if (r->stream >= MAX(stream_count, 1) || r->event >= MAX(event_count, 1))
                return false;
        if (r->stream_count ? r->stream_count != stream_count : has_streams)
                return false;
        return !r->has_position || r->first_position <= r->position;
}

bool forward_outcome_decode(struct bytes body, unsigned stream_count, unsigned event_count,
        struct arena *arena, struct store_append_result *ret)
{
        const uint8_t *p = body.data;
        struct cursor c;
        struct bytes problem;
        unsigned count;

        *ret = (struct store_append_result){.problem = ""};
        if (body.size < OUTCOME_HEAD_SIZE || p[16] != VERSION || p[17] > STORE_UNKNOWN || p[18] > KNOWN_FLAGS)
                return false;
        ret->verdict = (enum store_verdict)p[17];
        ret->is_soft_deleted = p[18] & IS_SOFT_DELETED;
        ret->is_duplicate = p[18] & IS_DUPLICATE;
        ret->has_position = p[18] & HAS_POSITION;
        ret->stream = get_u32(p + 19);
        ret->event = get_u32(p + 23);
        ret->first_position = get_u64(p + 27);
        ret->position = get_u64(p + 35);
        ret->limit = get_u64(p + 43);
        ret->size = get_u64(p + 51);
        ret->leader_id = get_u64(p + 59);
        count = get_u16(p + 67);
        c = (struct cursor){.at = p + OUTCOME_HEAD_SIZE, .end = p + body.size};
        if (count > LIMIT_APPEND_STREAMS_MAX || !take_outcomes(&c, count, arena, ret) ||
                !take_bytes(&c, get_u16(p + 69), &problem) || c.at != c.end ||
                problem.size > FORWARD_PROBLEM_SIZE_MAX)
                return false;
        if (bytes_is_utf8(problem))
                ret->problem = arena_string(arena, problem);
        return fits_request(ret, stream_count, event_count);
}
