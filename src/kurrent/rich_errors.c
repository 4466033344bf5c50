/* Errors of StreamsService, as google.rpc.Status in the trailer grpc-status-details-bin (protocol 2.6): first
 * an ErrorInfo with the reason, last the typed message by which clients choose their class; one of them only
 * looks at the last. What clients take of trailers is little, so texts are cut and lists end where they would
 * not fit; the text then says how many there are.
 *
 * A node that does not lead says so in the older way as well: some clients follow only that. */
#include <stdarg.h>
#include <stdio.h>

#include "kurrent/node_errors.pb-c.h"
#include "kurrent/record_errors.pb-c.h"
#include "kurrent/records.h"
#include "kurrent/status.pb-c.h"

enum {
        TEXT_SIZE_MAX = 400,
        NAME_SHOWN_MAX = 200,
        DETAILS_SIZE_MAX =
                4500, /* 6000 in base64: with a text of 400 bytes in percent-encoding below 8 KiB */
        RETRY_AFTER_S = 5,
};
static_assert(LIMIT_STREAM_NAME_SIZE_MAX + 1024 < DETAILS_SIZE_MAX, "one stream always fits");

#define DOMAIN_SERVER  "server"
#define DOMAIN_STREAMS "streams"
#define TYPE_URL       "type.googleapis.com/"

static const struct rich_description {
        enum grpc_status status;
        const char *reason;
        const char *domain;
        const char *text;
} descriptions[RICH_KINDS] = {
        [RICH_BAD_REQUEST] = {GRPC_INVALID_ARGUMENT, "BAD_REQUEST", DOMAIN_SERVER, "the request is invalid"},
        [RICH_NOT_LEADER] = {GRPC_FAILED_PRECONDITION, "NOT_LEADER_NODE", DOMAIN_SERVER,
                "another node leads; nothing was written"},
        [RICH_NOT_READY] = {GRPC_UNAVAILABLE, "SERVER_NOT_READY", DOMAIN_SERVER,
                "the server takes no appends now; nothing was written, try again"},
        [RICH_OVERLOADED] = {GRPC_UNAVAILABLE, "SERVER_OVERLOADED", DOMAIN_SERVER,
                "too much is in flight; nothing was written, try again"},
        [RICH_DISK_FULL] = {GRPC_RESOURCE_EXHAUSTED, "DISK_FULL", DOMAIN_SERVER,
                "the disk is full; nothing was written"},
        [RICH_TIMEOUT] = {GRPC_DEADLINE_EXCEEDED, "OPERATION_TIMEOUT", DOMAIN_SERVER,
                "it may or may not have been written: append again with the same ids"},
        [RICH_MALFUNCTION] = {GRPC_INTERNAL, "SERVER_MALFUNCTION", DOMAIN_SERVER, "stored bytes are damaged"},
        [RICH_NO_REQUESTS] = {GRPC_FAILED_PRECONDITION, "APPEND_SESSION_NO_REQUESTS", DOMAIN_STREAMS,
                "the session ended without a request"},
        [RICH_STREAM_TWICE] = {GRPC_ABORTED, "STREAM_ALREADY_IN_APPEND_SESSION", DOMAIN_STREAMS,
                "came before in the session, in this or another case of letters: send all its records in one "
                "request"},
        [RICH_RECORD_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, "APPEND_RECORD_SIZE_EXCEEDED", DOMAIN_STREAMS,
                "a record is too large"},
        [RICH_APPEND_TOO_LARGE] = {GRPC_ABORTED, "APPEND_TRANSACTION_SIZE_EXCEEDED", DOMAIN_STREAMS,
                "the append is too large"},
        [RICH_TOMBSTONED] = {GRPC_FAILED_PRECONDITION, "STREAM_TOMBSTONED", DOMAIN_STREAMS,
                "is tombstoned: nothing can be written to it again"},
        [RICH_CONFLICT] = {GRPC_FAILED_PRECONDITION, "STREAM_REVISION_CONFLICT", DOMAIN_STREAMS, ""},
        [RICH_VIOLATIONS] = {GRPC_FAILED_PRECONDITION, "APPEND_CONSISTENCY_VIOLATION", DOMAIN_STREAMS, ""},
};

void rich_add_field(struct rich_error *e, const char *problem, const char *name_format, ...)
{
        struct rich_field *field = &e->fields[e->field_count];
        va_list arguments;

        e->kind = RICH_BAD_REQUEST;
        if (e->field_count == RICH_FIELDS_MAX)
                return;
        va_start(arguments, name_format);
        vsnprintf(field->name, sizeof(field->name), name_format, arguments);
        va_end(arguments);
        field->problem = problem;
        e->field_count++;
}

/* ---- the text ---- */

/* How much of a name is shown: whole characters. */
static int shown(struct bytes name)
{
        size_t size = MIN(name.size, (size_t)NAME_SHOWN_MAX);

        while (size < name.size && size && (name.data[size] & 0xc0) == 0x80)
                size--;
        return (int)size;
}

static void say_state(int64_t state, char text[32])
{
        switch (state) {
        case WIRE_NO_STREAM:
                snprintf(text, 32, "no stream");
                break;
        case WIRE_ANY:
                snprintf(text, 32, "any but a tombstone");
                break;
        case WIRE_EXISTS:
                snprintf(text, 32, "a stream");
                break;
        case WIRE_SOFT_DELETED:
                snprintf(text, 32, "deleted");
                break;
        case WIRE_TOMBSTONED:
                snprintf(text, 32, "tombstoned");
                break;
        default:
                snprintf(text, 32, "revision %lld", (long long)state);
        }
}

static void say_violation(const struct rich_violation *v, char *text, size_t size)
{
        char expected[32], actual[32];

        say_state(v->expected, expected);
        say_state(v->actual, actual);
        snprintf(text, size, "stream '%.*s': expected %s, is %s", shown(v->stream),
                (const char *)v->stream.data, expected, actual);
}

static void say(const struct rich_error *e, char text[TEXT_SIZE_MAX])
{
        const char *problem = e->problem && *e->problem ? e->problem : descriptions[e->kind].text;
        char first[TEXT_SIZE_MAX - 64];
        char id[EVENT_ID_TEXT_SIZE + 1];

        switch (e->kind) {
        case RICH_CONFLICT:
                say_violation(&e->conflict, text, TEXT_SIZE_MAX);
                break;
        case RICH_VIOLATIONS:
                say_violation(e->violations, first, sizeof(first));
                snprintf(text, TEXT_SIZE_MAX, "%u failed, first %s", e->violation_count, first);
                break;
        case RICH_BAD_REQUEST:
                if (e->field_count)
                        snprintf(text, TEXT_SIZE_MAX, "%s %s", e->fields[0].name, e->fields[0].problem);
                else
                        snprintf(text, TEXT_SIZE_MAX, "%s", problem);
                break;
        case RICH_STREAM_TWICE:
        case RICH_TOMBSTONED:
                snprintf(text, TEXT_SIZE_MAX, "stream '%.*s' %s", shown(e->stream),
                        (const char *)e->stream.data, problem);
                break;
        case RICH_RECORD_TOO_LARGE:
                event_id_format(&e->record, id);
                snprintf(text, TEXT_SIZE_MAX,
                        "record %s of stream '%.*s' is too large: %llu bytes, at most %llu", id,
                        shown(e->stream), (const char *)e->stream.data, (unsigned long long)e->size,
                        (unsigned long long)e->limit);
                break;
        case RICH_APPEND_TOO_LARGE:
                snprintf(text, TEXT_SIZE_MAX, "%s: %llu bytes, at most %llu", problem,
                        (unsigned long long)e->size, (unsigned long long)e->limit);
                break;
        default:
                snprintf(text, TEXT_SIZE_MAX, "%s", problem);
        }
}

/* ---- details ---- */

static Google__Rpc__Any *detail_of(struct arena *arena, const ProtobufCMessage *message)
{
        Google__Rpc__Any *any = arena_get(arena, sizeof(*any));
        size_t size = protobuf_c_message_get_packed_size(message);
        size_t url_size = sizeof(TYPE_URL) + strlen(message->descriptor->name);
        char *url = arena_get(arena, url_size);

        google__rpc__any__init(any);
        snprintf(url, url_size, TYPE_URL "%s", message->descriptor->name);
        any->type_url = url;
        any->value.data = arena_get(arena, MAX(size, (size_t)1));
        any->value.len = protobuf_c_message_pack(message, any->value.data);
        return any;
}

static Google__Rpc__Any *detail_of_reason(struct arena *arena, const struct rich_description *d)
{
        Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

        info.reason = (char *)(uintptr_t)d->reason;
        info.domain = (char *)(uintptr_t)d->domain;
        return detail_of(arena, &info.base);
}

static Google__Rpc__Any *detail_of_retry(struct arena *arena)
{
        Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
        Google__Rpc__Duration delay = GOOGLE__RPC__DURATION__INIT;

        delay.seconds = RETRY_AFTER_S;
        retry.retry_delay = &delay;
        return detail_of(arena, &retry.base);
}

static Google__Rpc__Any *detail_of_fields(struct arena *arena, const struct rich_error *e)
{
        Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
        Google__Rpc__BadRequest__FieldViolation fields[RICH_FIELDS_MAX];
        Google__Rpc__BadRequest__FieldViolation *all[RICH_FIELDS_MAX];

        for (unsigned i = 0; i < e->field_count; i++) {
                google__rpc__bad_request__field_violation__init(&fields[i]);
                fields[i].field = (char *)(uintptr_t)e->fields[i].name;
                fields[i].description = (char *)(uintptr_t)e->fields[i].problem;
                all[i] = &fields[i];
        }
        bad.n_field_violations = e->field_count;
        bad.field_violations = all;
        return detail_of(arena, &bad.base);
}

/* As many as fit. */
static Google__Rpc__Any *detail_of_violations(struct arena *arena, const struct rich_error *e)
{
        typedef Kurrentdb__Protocol__V2__Streams__Errors__ConsistencyViolation violation;
        typedef Kurrentdb__Protocol__V2__Streams__Errors__ConsistencyViolation__StreamStateViolation state;
        Kurrentdb__Protocol__V2__Streams__Errors__AppendConsistencyViolationErrorDetails m =
                KURRENTDB__PROTOCOL__V2__STREAMS__ERRORS__APPEND_CONSISTENCY_VIOLATION_ERROR_DETAILS__INIT;
        size_t size = 1024; /* what stands around them */

        m.violations = arena_get(arena, e->violation_count * sizeof(*m.violations));
        for (unsigned i = 0; i < e->violation_count; i++) {
                const struct rich_violation *from = &e->violations[i];
                violation *v = arena_get(arena, sizeof(*v));
                state *s = arena_get(arena, sizeof(*s));

                kurrentdb__protocol__v2__streams__errors__consistency_violation__stream_state_violation__init(
                        s);
                s->stream = message_bytes(from->stream);
                s->expected_state = from->expected;
                s->actual_state = from->actual;
                kurrentdb__protocol__v2__streams__errors__consistency_violation__init(v);
                v->check_index = (int32_t)from->check;
                v->type_case =
                        KURRENTDB__PROTOCOL__V2__STREAMS__ERRORS__CONSISTENCY_VIOLATION__TYPE_STREAM_STATE;
                v->stream_state = s;
                size += protobuf_c_message_get_packed_size(&v->base) + 4;
                if (i && size > DETAILS_SIZE_MAX)
                        break;
                m.violations[m.n_violations++] = v;
        }
        return detail_of(arena, &m.base);
}

static Google__Rpc__Any *detail_of_leader(struct arena *arena, struct membership_node *leader)
{
        Kurrent__Rpc__NotLeaderNodeErrorDetails m = KURRENT__RPC__NOT_LEADER_NODE_ERROR_DETAILS__INIT;
        Kurrent__Rpc__NotLeaderNodeErrorDetails__NodeEndpoint at =
                KURRENT__RPC__NOT_LEADER_NODE_ERROR_DETAILS__NODE_ENDPOINT__INIT;
        struct event_id instance;
        char id[EVENT_ID_TEXT_SIZE + 1];

        memcpy(instance.bytes, leader->instance, sizeof(instance.bytes));
        event_id_format(&instance, id);
        at.host = leader->host;
        at.port = leader->port;
        at.node_id = id; /* as gossip tells it */
        m.current_leader = &at;
        return detail_of(arena, &m.base);
}

/* The typed message; NULL: the reason is all. */
static Google__Rpc__Any *detail_of_kind(struct arena *arena, const struct rich_error *e)
{
        union {
                Kurrentdb__Protocol__V2__Streams__Errors__StreamTombstonedErrorDetails tombstoned;
                Kurrentdb__Protocol__V2__Streams__Errors__StreamAlreadyInAppendSessionErrorDetails twice;
                Kurrentdb__Protocol__V2__Streams__Errors__StreamRevisionConflictErrorDetails conflict;
                Kurrentdb__Protocol__V2__Streams__Errors__AppendRecordSizeExceededErrorDetails record;
                Kurrentdb__Protocol__V2__Streams__Errors__AppendTransactionSizeExceededErrorDetails append;
                ProtobufCMessage base;
        } m;
        char id[EVENT_ID_TEXT_SIZE + 1];

        switch (e->kind) {
        case RICH_BAD_REQUEST:
                return detail_of_fields(arena, e);
        case RICH_NOT_READY:
        case RICH_OVERLOADED:
                return detail_of_retry(arena);
        case RICH_TOMBSTONED:
                kurrentdb__protocol__v2__streams__errors__stream_tombstoned_error_details__init(
                        &m.tombstoned);
                m.tombstoned.stream = message_bytes(e->stream);
                break;
        case RICH_STREAM_TWICE:
                kurrentdb__protocol__v2__streams__errors__stream_already_in_append_session_error_details__init(
                        &m.twice);
                m.twice.stream = message_bytes(e->stream);
                break;
        case RICH_CONFLICT:
                kurrentdb__protocol__v2__streams__errors__stream_revision_conflict_error_details__init(
                        &m.conflict);
                m.conflict.stream = message_bytes(e->conflict.stream);
                m.conflict.expected_revision = e->conflict.expected;
                m.conflict.actual_revision = e->conflict.actual;
                break;
        case RICH_RECORD_TOO_LARGE:
                kurrentdb__protocol__v2__streams__errors__append_record_size_exceeded_error_details__init(
                        &m.record);
                event_id_format(&e->record, id);
                m.record.stream = message_bytes(e->stream);
                m.record.record_id = id;
                m.record.size = (int32_t)MIN(e->size, (uint64_t)INT32_MAX);
                m.record.max_size = (int32_t)e->limit;
                break;
        case RICH_APPEND_TOO_LARGE:
                kurrentdb__protocol__v2__streams__errors__append_transaction_size_exceeded_error_details__init(
                        &m.append);
                m.append.size = (int32_t)MIN(e->size, (uint64_t)INT32_MAX);
                m.append.max_size = (int32_t)e->limit;
                break;
        case RICH_VIOLATIONS:
                return detail_of_violations(arena, e);
        default:
                return NULL;
        }
        return detail_of(arena, &m.base);
}

static void end_with(struct gateway_request *call, const struct rich_error *e, struct membership_node *leader)
{
        const struct rich_description *d = &descriptions[e->kind];
        Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
        Google__Rpc__Any *details[2];
        struct arena arena = {0};
        struct buffer packed = {0};
        char text[TEXT_SIZE_MAX];

        say(e, text);
        details[0] = detail_of_reason(&arena, d);
        details[1] = leader ? detail_of_leader(&arena, leader) : detail_of_kind(&arena, e);
        status.code = (int32_t)d->status;
        status.message = text;
        status.n_details = details[1] ? 2 : 1;
        status.details = details;
        message_pack(&status.base, &packed);
        gateway_call_trailer(call, "grpc-status-details-bin", buffer_bytes(&packed));
        gateway_call_end(call, d->status, text);
        buffer_fini(&packed);
        arena_fini(&arena);
}

void rich_end_call(struct kurrent *k, struct gateway_request *call, const struct rich_error *error)
{
        const struct rich_error not_ready = {.kind = RICH_NOT_READY};
        struct membership_node leader;

        assert(error->kind < RICH_KINDS);
        if (error->kind != RICH_NOT_LEADER) {
                end_with(call, error, NULL);
        } else if (!k->membership || !membership_leader(k->membership, &leader) || leader.is_self) {
                end_with(call, &not_ready, NULL);
        } else {
                not_leader_trailers(call, &leader);
                end_with(call, error, &leader);
        }
}
