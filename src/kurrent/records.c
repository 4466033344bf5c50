/* Appends of records: what AppendSession and AppendRecords have in common. Each record is checked by itself
 * (protocol 3.10), becomes an event with its properties and schema as metadata, and belongs to one of the
 * streams of one atomic append. Streams that are only checked come first, in the order of the checks, so that
 * the ordinal of a stream is that of its check.
 *
 * The leader alone takes them: a node that does not lead says who does. */
#include <stdio.h>

#include "kurrent/record_errors.pb-c.h"
#include "kurrent/records.h"
#include "kurrent/records.pb-c.h"

/* Twice the streams of an append, and a power of two. */
enum { SLOTS = 2048, SCRATCH_KEPT_MAX = 64 * 1024, NAME_SIZE_MAX = LIMIT_STREAM_NAME_SIZE_MAX + 2 };
static_assert(SLOTS >= 2 * LIMIT_APPEND_STREAMS_MAX && (SLOTS & (SLOTS - 1)) == 0, "names are found fast");
static_assert(LIMIT_APPEND_STREAMS_MAX < UINT16_MAX, "a slot holds an ordinal");
static_assert(LIMIT_APPEND_STREAMS_MAX == 1000 && LIMIT_APPEND_EVENTS_MAX == 100000, "as the texts say");

static void on_idle(struct drafts *drafts)
{
        struct records *r = CONTAINER_OF(drafts, struct records, drafts);
        struct rich_error error = {
                .kind = RICH_TIMEOUT, .problem = "the rest of the session did not come; nothing was written"};

        records_refuse(r, &error);
}

void records_init(struct records *r, struct kurrent *k, struct gateway_request *call, bool is_session)
{
        *r = (struct records){.kurrent = k, .call = call, .is_session = is_session, .has_drafts = true};
        if (is_session)
                drafts_init(&r->drafts, k, on_idle);
        else
                drafts_init_borrowing(&r->drafts, k);
}

void records_fini(struct records *r)
{
        if (!r->has_drafts)
                return;
        r->has_drafts = false;
        drafts_fini(&r->drafts);
        buffer_fini(&r->streams);
}

void records_refuse(struct records *r, const struct rich_error *error)
{
        struct kurrent *k = r->kurrent;
        struct gateway_request *call = r->call;

        rich_end_call(k, call, error); /* its names may lie in the drafts */
        records_fini(r);
}

static void add_field(struct rich_error *e, struct place at, const char *field, const char *problem)
{
        if (at.list)
                rich_add_field(
                        e, problem, "%s[%u]%s%s%s", at.list, at.ordinal, *field ? "." : "", at.inside, field);
        else
                rich_add_field(e, problem, "%s%s", at.inside, field);
}

void records_refuse_field(struct records *r, struct place at, const char *field, const char *problem)
{
        struct rich_error error = {0};

        add_field(&error, at, field, problem);
        records_refuse(r, &error);
}

/* ---- streams ---- */

/* A hash table of ordinals + 1. */
struct names {
        uint16_t slots[SLOTS];
        bool is_written[LIMIT_APPEND_STREAMS_MAX];
};

static const struct store_append_stream *streams_of(const struct records *r)
{
        return (const struct store_append_stream *)(const void *)r->streams.data;
}

/* Letters of ASCII in small: names that differ in others are others. */
static uint8_t fold(uint8_t c)
{
        return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static uint64_t hash_of(const struct records *r, struct bytes name)
{
        uint8_t folded[NAME_SIZE_MAX];

        if (!r->is_session)
                return name_hash(name);
        assert(name.size <= sizeof(folded));
        for (size_t i = 0; i < name.size; i++)
                folded[i] = fold(name.data[i]);
        return name_hash(bytes_of(folded, name.size));
}

static bool is_same(const struct records *r, struct bytes a, struct bytes b)
{
        if (!r->is_session || a.size != b.size)
                return bytes_equal(a, b);
        for (size_t i = 0; i < a.size; i++)
                if (fold(a.data[i]) != fold(b.data[i]))
                        return false;
        return true;
}

/* The slot of the stream, or the free one where it belongs. */
static uint16_t *slot_of(struct records *r, struct bytes name)
{
        unsigned slot = (unsigned)hash_of(r, name) & (SLOTS - 1);

        while (r->names->slots[slot] && !is_same(r, streams_of(r)[r->names->slots[slot] - 1].stream, name))
                slot = (slot + 1) & (SLOTS - 1);
        return &r->names->slots[slot];
}

/* Where names are kept, and room for one more. What a session keeps counts, so that many do not take all
 * memory. */
static bool make_room(struct records *r)
{
        size_t size = sizeof(struct store_append_stream) + (r->names ? 0 : sizeof(*r->names));
        struct refusal refusal;

        if (r->is_session && !drafts_book(&r->drafts, size, &refusal)) {
                records_refuse_drafts(r, &refusal);
                return false;
        }
        if (!r->names) {
                r->names = arena_get(&r->drafts.arena, sizeof(*r->names));
                memset(r->names, 0, sizeof(*r->names));
        }
        return true;
}

static bool may(struct records *r, bool is_written, struct bytes name)
{
        enum access_right right = is_written ? ACCESS_WRITE : ACCESS_READ;

        if (gateway_may(r->call, right, name)) {
                if (r->is_session) /* its end may be far away */
                        gateway_keep_asking(r->call, right, name);
                return true;
        }
        gateway_refuse(r->call, right, name);
        records_fini(r);
        return false;
}

bool records_name(struct records *r, struct bytes name, struct expected expected, bool is_written,
        struct place at, unsigned *ret, bool *ret_is_new)
{
        struct store_append_stream stream = {.stream = name, .expected = expected};
        const char *problem = NULL;
        uint16_t *slot = NULL;
        bool is_new;

        if (!r->names && !make_room(r))
                return false;
        if (!name.size)
                problem = "is missing";
        else if (name.size > NAME_SIZE_MAX)
                problem = "has more than 1024 bytes";
        else
                slot = slot_of(r, name);
        is_new = slot && *slot == 0;
        if (is_new && !stream_name_is_valid(name))
                problem = "is no name of a stream: UTF-8 of at most 1024 bytes, and not $all";
        else if (is_new && r->stream_count == LIMIT_APPEND_STREAMS_MAX)
                problem = "is one too many: an append has at most 1000 streams";
        if (problem) {
                records_refuse_field(r, at, "stream", problem);
                return false;
        }
        if ((is_new || (is_written && !r->names->is_written[*slot - 1])) && !may(r, is_written, name))
                return false;
        if (is_new && r->stream_count && !make_room(r))
                return false;
        if (is_new) {
                buffer_add(&r->streams, &stream, sizeof(stream));
                *slot = (uint16_t)++r->stream_count;
        }
        *ret = *slot - 1u;
        *ret_is_new = is_new;
        r->names->is_written[*ret] |= is_written;
        return true;
}

bool records_expect(
        struct records *r, int64_t number, struct place at, const char *field, struct expected *ret)
{
        *ret = (struct expected){0};
        if (number >= 0 && (uint64_t)number < REVISION_MAX) {
                *ret = (struct expected){.kind = EXPECTED_EXACT, .revision = (uint64_t)number};
                return true;
        }
        if (number == WIRE_NO_STREAM)
                ret->kind = EXPECTED_NONE;
        else if (number == WIRE_EXISTS)
                ret->kind = EXPECTED_EXISTS;
        else if (r->is_session && number == WIRE_ANY)
                ret->kind = EXPECTED_ANY;
        else if (!r->is_session && number == WIRE_SOFT_DELETED)
                ret->kind = EXPECTED_SOFT_DELETED;
        else if (!r->is_session && number == WIRE_TOMBSTONED)
                ret->kind = EXPECTED_TOMBSTONED;
        else {
                records_refuse_field(r, at, field,
                        r->is_session ? "is no revision, nor -1 (no stream), -2 (any), -4 (exists)"
                                      : "is no revision, nor -1 (no stream), -4 (exists), -5 (soft-deleted), "
                                        "-6 (tombstoned)");
                return false;
        }
        return true;
}

static int64_t number_of(struct expected expected)
{
        switch (expected.kind) {
        case EXPECTED_NONE:
                return WIRE_NO_STREAM;
        case EXPECTED_EXISTS:
                return WIRE_EXISTS;
        case EXPECTED_EXACT:
                return (int64_t)expected.revision;
        case EXPECTED_SOFT_DELETED:
                return WIRE_SOFT_DELETED;
        case EXPECTED_TOMBSTONED:
                return WIRE_TOMBSTONED;
        default:
                return WIRE_ANY;
        }
}

/* ---- records ---- */

static bool is_schema_name(struct bytes name)
{
        for (size_t i = 0; i < name.size; i++) {
                uint8_t c = name.data[i];

                if (!(fold(c) >= 'a' && fold(c) <= 'z') && !(c >= '0' && c <= '9') &&
                        !(c && strchr("_.$:-", c)))
                        return false;
        }
        return name.size > 0;
}

static bool is_id(struct bytes text, struct event_id *ret)
{
        return event_id_parse(text, ret) && (get_u64(ret->bytes) | get_u64(ret->bytes + 8)) != 0;
}

/* All that is wrong with the record but its properties. */
static void look_at_record(
        const struct wire_record *record, struct place at, struct event_id *ret_id, struct rich_error *ret)
{
        struct event_id schema_id;

        if (record->id.size && !is_id(record->id, ret_id))
                add_field(ret, at, "record_id", "is no UUID other than zero");
        if (record->format < WIRE_FORMAT_JSON || record->format > WIRE_FORMAT_BYTES)
                add_field(ret, at, "schema.format", "is none of JSON, PROTOBUF, AVRO, BYTES");
        if (!is_schema_name(record->type))
                add_field(ret, at, "schema.name", "must be letters, digits and _ . $ : - alone");
        else if (record->type.size > LIMIT_EVENT_TYPE_SIZE_MAX)
                add_field(ret, at, "schema.name", "has more than 1024 bytes");
        if (record->schema_id.size && !event_id_parse(record->schema_id, &schema_id))
                add_field(ret, at, "schema.id", "is no UUID");
}

static bool has_same_metadata(const struct records *r, const struct wire_record *record)
{
        return r->last_metadata.size && !record->property_count && r->last.format == record->format &&
               bytes_equal(r->last.type, record->type) && bytes_equal(r->last.schema_id, record->schema_id);
}

static void leave_scratch(struct kurrent *k)
{
        if (k->record_scratch.used > SCRATCH_KEPT_MAX)
                arena_fini(&k->record_scratch);
        else
                arena_reset(&k->record_scratch);
}

/* What older readers see beside the data; false: refused. */
static bool make_metadata(struct records *r, struct bytes message, const struct wire_record *record,
        struct place at, struct bytes *ret)
{
        struct kurrent *k = r->kurrent;
        struct rich_error error = {0};
        const char *problem;

        if (has_same_metadata(r, record)) {
                *ret = r->last_metadata;
                return true;
        }
        buffer_clear(&k->record_metadata);
        problem = record_metadata(message, record, &r->spent, &k->record_scratch, &k->record_metadata);
        leave_scratch(k);
        if (problem) {
                add_field(&error, at, "properties", problem);
                records_refuse(r, &error);
                return false;
        }
        *ret = arena_copy(&r->drafts.arena, buffer_bytes(&k->record_metadata));
        if (k->record_metadata.capacity > SCRATCH_KEPT_MAX)
                buffer_fini(&k->record_metadata);
        if (!record->property_count) {
                r->last = *record;
                r->last_metadata = *ret;
        }
        return true;
}

static void refuse_record_size(
        struct records *r, struct bytes stream, const struct event_id *id, uint64_t size)
{
        struct rich_error error = {
                .kind = RICH_RECORD_TOO_LARGE,
                .stream = stream,
                .record = *id,
                .size = size,
                .limit = LIMIT_EVENT_SIZE_MAX,
        };

        records_refuse(r, &error);
}

void records_refuse_drafts(struct records *r, const struct refusal *refusal)
{
        struct rich_error error = {
                .problem = refusal->problem, .size = refusal->size, .limit = refusal->limit};

        if (refusal->kind == REFUSAL_INVALID) {
                records_refuse_field(r, (struct place){.inside = ""}, "records",
                        "are too many: an append has at most 100000");
                return;
        }
        error.kind = refusal->kind == REFUSAL_APPEND_TOO_LARGE ? RICH_APPEND_TOO_LARGE : RICH_OVERLOADED;
        records_refuse(r, &error);
}

bool records_add(struct records *r, struct bytes message, const struct wire_record *record, unsigned stream,
        struct place at)
{
        struct bytes name = streams_of(r)[stream].stream;
        struct store_append_event event = {
                .stream = stream,
                .draft = {.type = record->type,
                        .content_type = record->format == WIRE_FORMAT_JSON ? CONTENT_JSON : CONTENT_BINARY,
                        .data = record->data},
        };
        uint64_t size = record->data.size + record->properties_size + record->type.size;
        struct rich_error error = {0};
        struct refusal refusal;

        look_at_record(record, at, &event.draft.id, &error);
        if (error.field_count) {
                records_refuse(r, &error);
                return false;
        }
        if (!record->id.size) {
                os_random(r->kurrent->os, event.draft.id.bytes, sizeof(event.draft.id.bytes));
                event_id_stamp_random(&event.draft.id);
        }
        if (size > LIMIT_EVENT_SIZE_MAX) {
                refuse_record_size(r, name, &event.draft.id, size);
                return false;
        }
        if (!make_metadata(r, message, record, at, &event.draft.metadata))
                return false;
        /* The store counts the metadata as it is kept. */
        size = event_draft_size(&event.draft);
        if (size > LIMIT_EVENT_SIZE_MAX) {
                refuse_record_size(r, name, &event.draft.id, size);
                return false;
        }
        if (!drafts_add_event(&r->drafts, &event, &refusal)) {
                records_refuse_drafts(r, &refusal);
                return false;
        }
        return true;
}

/* ---- the answer ---- */

static void answer_session(struct records *r, const struct store_append_result *result)
{
        Kurrentdb__Protocol__V2__Streams__AppendSessionResponse answer =
                KURRENTDB__PROTOCOL__V2__STREAMS__APPEND_SESSION_RESPONSE__INIT;
        Kurrentdb__Protocol__V2__Streams__AppendResponse *outputs;
        struct arena *arena = gateway_arena(r->call);

        outputs = arena_get(arena, r->stream_count * sizeof(*outputs));
        answer.output = arena_get(arena, r->stream_count * sizeof(*answer.output));
        answer.n_output = r->stream_count;
        answer.position = (int64_t)result->position;
        for (unsigned i = 0; i < r->stream_count; i++) {
                kurrentdb__protocol__v2__streams__append_response__init(&outputs[i]);
                outputs[i].stream = message_bytes(r->asked[i].stream);
                outputs[i].stream_revision = (int64_t)result->streams[i].revision;
                answer.output[i] = &outputs[i];
        }
        message_answer(r->call, &answer.base);
}

/* Of streams that were only checked nothing is told. */
static void answer_records(struct records *r, const struct store_append_result *result)
{
        Kurrentdb__Protocol__V2__Streams__AppendRecordsResponse answer =
                KURRENTDB__PROTOCOL__V2__STREAMS__APPEND_RECORDS_RESPONSE__INIT;
        Kurrentdb__Protocol__V2__Streams__StreamRevision *revisions;
        struct arena *arena = gateway_arena(r->call);

        revisions = arena_get(arena, r->stream_count * sizeof(*revisions));
        answer.revisions = arena_get(arena, r->stream_count * sizeof(*answer.revisions));
        answer.position = (int64_t)result->position;
        for (unsigned i = 0; i < r->stream_count; i++) {
                Kurrentdb__Protocol__V2__Streams__StreamRevision *revision = &revisions[i];

                if (!r->is_written[i])
                        continue;
                kurrentdb__protocol__v2__streams__stream_revision__init(revision);
                revision->stream = message_bytes(r->asked[i].stream);
                revision->revision = (int64_t)result->streams[i].revision;
                answer.revisions[answer.n_revisions++] = revision;
        }
        message_answer(r->call, &answer.base);
}

/* What a stream is, in the terms of the expectation that it fails. That a stream is soft-deleted is told only
 * to who expects that it exists: for all others it is where its last event is. */
static int64_t actual_of(const struct store_stream_outcome *o, struct expected expected)
{
        if (o->is_tombstoned)
                return WIRE_TOMBSTONED;
        if (o->is_soft_deleted && expected.kind == EXPECTED_EXISTS)
                return WIRE_SOFT_DELETED;
        return o->has_revision ? (int64_t)o->revision : WIRE_NO_STREAM;
}

static struct rich_violation violation_of(
        const struct records *r, const struct store_append_result *result, unsigned i)
{
        return (struct rich_violation){
                .stream = r->asked[i].stream,
                .expected = number_of(r->asked[i].expected),
                .actual = actual_of(&result->streams[i], r->asked[i].expected),
                .check = i,
        };
}

static void refuse_conflict(struct records *r, const struct store_append_result *result)
{
        struct rich_error error = {.stream = r->asked[result->stream].stream};
        struct rich_violation *violations;

        if (r->is_session) {
                error.kind = result->streams[result->stream].is_tombstoned ? RICH_TOMBSTONED : RICH_CONFLICT;
                error.conflict = violation_of(r, result, result->stream);
                rich_end_call(r->kurrent, r->call, &error);
                return;
        }
        violations = arena_get(gateway_arena(r->call), r->stream_count * sizeof(*violations));
        for (unsigned i = 0; i < r->stream_count; i++)
                if (result->streams[i].has_failed)
                        violations[error.violation_count++] = violation_of(r, result, i);
        error.kind = RICH_VIOLATIONS;
        error.violations = violations;
        rich_end_call(r->kurrent, r->call, &error);
}

static enum rich_kind kind_of(enum store_verdict verdict)
{
        switch (verdict) {
        case STORE_INVALID:
        case STORE_TOO_LARGE:
                return RICH_BAD_REQUEST;
        case STORE_BUSY:
                return RICH_OVERLOADED;
        case STORE_FULL:
                return RICH_DISK_FULL;
        case STORE_NOT_READY:
                return RICH_NOT_READY;
        case STORE_NOT_LEADER:
                return RICH_NOT_LEADER;
        case STORE_CORRUPT:
                return RICH_MALFUNCTION;
        default:
                return RICH_TIMEOUT;
        }
}

static void answer(struct records *r, const struct store_append_result *result)
{
        struct rich_error error = {.kind = kind_of(result->verdict)};

        switch (result->verdict) {
        case STORE_OK:
                if (r->is_session)
                        answer_session(r, result);
                else
                        answer_records(r, result);
                return;
        case STORE_CONFLICT:
        case STORE_STREAM_DELETED:
                refuse_conflict(r, result);
                return;
        case STORE_INVALID:
        case STORE_TOO_LARGE:
        case STORE_CORRUPT:
                error.problem = result->problem;
                break;
        default:
                break;
        }
        rich_end_call(r->kurrent, r->call, &error);
}

static void on_done(void *arg, const struct store_append_result *result)
{
        struct records *r = arg;
        struct gateway_request *call = r->call;

        if (!gateway_call_is_over(call))
                answer(r, result);
        gateway_call_release(call);
}

/* The names stay until the answer, when the message and the drafts are gone. */
static void keep_streams(struct records *r)
{
        struct arena *arena = gateway_arena(r->call);
        struct store_append_stream *streams = arena_get(arena, r->stream_count * sizeof(*streams));

        for (unsigned i = 0; i < r->stream_count; i++) {
                streams[i] = streams_of(r)[i];
                streams[i].stream = arena_copy(arena, streams[i].stream);
        }
        r->asked = streams;
        r->is_written = arena_get(arena, r->stream_count * sizeof(*r->is_written));
        memcpy(r->is_written, r->names->is_written, r->stream_count * sizeof(*r->is_written));
}

void records_append(struct records *r)
{
        struct kurrent *k = r->kurrent;
        struct gateway_request *call = r->call;
        uint64_t latest = os_turn_time(k->os).monotonic_us + WRITE_TIMEOUT_US;
        uint64_t deadline = gateway_call_deadline_us(call);
        struct store_append append = {
                .stream_count = r->stream_count,
                .events = drafts_events(&r->drafts),
                .event_count = r->drafts.count,
                .write_id = control_next_write_id(k->control),
                .deadline_us = deadline ? MIN(deadline, latest) : latest,
                .requires_leader = true,
        };

        keep_streams(r);
        append.streams = r->asked;
        publish_write_requested(k, append.write_id, r->asked[0].stream, append.event_count);
        /* The store answers from inside or later; the call is ours until both this and the answer are done.
         */
        gateway_call_hold(call);
        gateway_call_hold(call);
        store_append(gateway_store(k->gateway), &append, on_done, r);
        records_fini(r);
        gateway_call_release(call);
}
