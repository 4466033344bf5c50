/* How clients are told that something was refused.
 *
 * The clients recognise errors of a call by the trailer `exception` and its companions, the one for Python by
 * pieces of the text; errors within BatchAppend by the type of their detail. Codes 2, 13, 14 and 15 make
 * clients drop the connection and look for another node, so they are only used when that is right. A conflict
 * of Append is no error of the call: it is one of its answers (append.c). */
#include <stdio.h>

#include "kurrent/room.h"
#include "kurrent/shared.pb-c.h"
#include "kurrent/streams.pb-c.h"

enum { TEXT_SIZE_MAX = 2048, GROUP_NAME_SHOWN_MAX = 256 };

static const struct refusal_description {
        enum grpc_status status; /* of a call */
        enum grpc_status batch;  /* within BatchAppend */
        const char *exception;
        const char *text;
} refusals[REFUSALS] = {
        [REFUSAL_DENIED] = {GRPC_PERMISSION_DENIED, GRPC_PERMISSION_DENIED, "access-denied", "access denied"},
        [REFUSAL_INVALID] = {GRPC_INVALID_ARGUMENT, GRPC_INVALID_ARGUMENT, NULL, "the request is invalid"},
        [REFUSAL_PROPERTY_MISSING] = {GRPC_INVALID_ARGUMENT, GRPC_INVALID_ARGUMENT,
                "missing-required-metadata-property", "an event lacks a property of its metadata"},
        [REFUSAL_APPEND_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, GRPC_INVALID_ARGUMENT,
                "maximum-append-size-exceeded", "the append is too large"},
        [REFUSAL_EVENT_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, GRPC_INVALID_ARGUMENT,
                "maximum-append-event-size-exceeded", "an event is too large"},
        [REFUSAL_CONFLICT] = {GRPC_FAILED_PRECONDITION, GRPC_ALREADY_EXISTS, "wrong-expected-version",
                "the stream is not where it was expected"},
        [REFUSAL_STREAM_DELETED] = {GRPC_FAILED_PRECONDITION, GRPC_NOT_FOUND, "stream-deleted",
                "the stream is deleted"},
        [REFUSAL_INDEX_MISSING] = {GRPC_NOT_FOUND, GRPC_NOT_FOUND, "index-not-found",
                "there is no such index"},
        [REFUSAL_GROUP_EXISTS] = {GRPC_ALREADY_EXISTS, GRPC_ALREADY_EXISTS, "persistent-subscription-exists",
                "it exists"},
        [REFUSAL_GROUP_MISSING] = {GRPC_NOT_FOUND, GRPC_NOT_FOUND, "persistent-subscription-does-not-exist",
                "it does not exist"},
        [REFUSAL_GROUP_FAILED] = {GRPC_INTERNAL, GRPC_INTERNAL, "persistent-subscription-failed",
                "an internal error"},
        [REFUSAL_GROUP_DROPPED] = {GRPC_CANCELLED, GRPC_CANCELLED, "persistent-subscription-dropped",
                "connect again"},
        [REFUSAL_GROUP_FULL] = {GRPC_FAILED_PRECONDITION, GRPC_FAILED_PRECONDITION,
                "maximum-subscribers-reached", "it has as many consumers as its settings allow"},
        [REFUSAL_EXHAUSTED] = {GRPC_RESOURCE_EXHAUSTED, GRPC_RESOURCE_EXHAUSTED, NULL,
                "too much is in flight; nothing was done, try again"},
        [REFUSAL_NOT_READY] = {GRPC_UNAVAILABLE, GRPC_UNAVAILABLE, NULL,
                "the server takes no requests now; try again"},
        /* The client for Python compares the whole text. */
        [REFUSAL_NOT_LEADER] = {GRPC_NOT_FOUND, GRPC_NOT_FOUND, "not-leader", "Leader info available"},
        [REFUSAL_NO_LEADER] = {GRPC_UNKNOWN, GRPC_UNKNOWN, NULL,
                "this node does not lead, and no leader is known"},
        [REFUSAL_NOT_HERE_YET] = {GRPC_DEADLINE_EXCEEDED, GRPC_DEADLINE_EXCEEDED, NULL,
                "the event is not here yet"},
        [REFUSAL_TIMEOUT] = {GRPC_ABORTED, GRPC_DEADLINE_EXCEEDED, NULL,
                "Operation timed out: it may or may not have been carried out; ask again with the same ids"},
        [REFUSAL_CORRUPT] = {GRPC_DATA_LOSS, GRPC_DATA_LOSS, NULL, "stored bytes are damaged"},
        [REFUSAL_FAULT] = {GRPC_INTERNAL, GRPC_INTERNAL, NULL, "an internal error"},
};

static const char *problem_of(const struct refusal *refusal)
{
        const char *problem = refusal->problem;

        return problem && *problem ? problem : refusals[refusal->kind].text;
}

/* ---- from the store ---- */

static enum refusal_kind kind_of_size(uint64_t limit)
{
        switch (limit) {
        case LIMIT_APPEND_SIZE_MAX:
                return REFUSAL_APPEND_TOO_LARGE;
        case LIMIT_EVENT_SIZE_MAX:
                return REFUSAL_EVENT_TOO_LARGE;
        default: /* a name, a type, metadata: clients have no class for those */
                return REFUSAL_INVALID;
        }
}

static enum refusal_kind kind_of(const struct store_append_result *result, struct expected expected)
{
        switch (result->verdict) {
        case STORE_CONFLICT:
                /* Who expects a stream that is soft-deleted is told so, not that it has another revision. */
                return result->is_soft_deleted && expected.kind == EXPECTED_EXISTS ? REFUSAL_STREAM_DELETED
                                                                                   : REFUSAL_CONFLICT;
        case STORE_STREAM_DELETED:
                return REFUSAL_STREAM_DELETED;
        case STORE_INVALID:
                return REFUSAL_INVALID;
        case STORE_TOO_LARGE:
                return kind_of_size(result->limit);
        case STORE_BUSY:
        case STORE_FULL:
                return REFUSAL_EXHAUSTED;
        case STORE_NOT_READY:
                return REFUSAL_NOT_READY;
        case STORE_NOT_LEADER:
                return REFUSAL_NOT_LEADER;
        case STORE_CORRUPT:
                return REFUSAL_CORRUPT;
        default:
                return REFUSAL_TIMEOUT;
        }
}

struct refusal refusal_of(const struct store_append_result *result, struct bytes stream,
        struct expected expected, const struct store_append_event *events)
{
        struct refusal refusal = {
                .kind = kind_of(result, expected),
                .problem = result->problem,
                .stream = stream,
                .expected = expected,
                .size = result->size,
                .limit = result->limit,
        };

        assert(result->verdict != STORE_OK);
        if (result->streams && result->stream_count)
                refusal.actual = result->streams[0];
        if (refusal.kind == REFUSAL_EVENT_TOO_LARGE && events)
                refusal.event = events[result->event].draft.id;
        if (refusal.kind == REFUSAL_TIMEOUT || refusal.kind == REFUSAL_NOT_LEADER)
                refusal.problem = NULL;
        return refusal;
}

/* ---- calls ---- */

/* The numbers by which expectations are written in trailers. */
static int64_t number_of(struct expected expected)
{
        switch (expected.kind) {
        case EXPECTED_EXACT:
                return (int64_t)expected.revision;
        case EXPECTED_NONE:
                return -1;
        case EXPECTED_EXISTS:
                return -4;
        case EXPECTED_SOFT_DELETED:
                return -5;
        default:
                return -2;
        }
}

static int64_t number_of_actual(const struct refusal *refusal)
{
        return refusal->actual.has_revision ? (int64_t)refusal->actual.revision : -1;
}

static void trail(struct gateway_request *call, const char *name, const char *value)
{
        gateway_call_trailer(call, name, bytes_of_string(value));
}

static void trail_number(struct gateway_request *call, const char *name, int64_t n)
{
        char text[24];

        snprintf(text, sizeof(text), "%lld", (long long)n);
        trail(call, name, text);
}

static void add_trailers(struct gateway_request *call, const struct refusal *refusal)
{
        char id[EVENT_ID_TEXT_SIZE + 1];

        if (refusals[refusal->kind].exception)
                trail(call, "exception", refusals[refusal->kind].exception);
        switch (refusal->kind) {
        case REFUSAL_PROPERTY_MISSING:
                trail(call, "required-metadata-properties", "type,content-type");
                break;
        case REFUSAL_APPEND_TOO_LARGE:
                trail_number(call, "maximum-append-size", (int64_t)refusal->limit);
                break;
        case REFUSAL_EVENT_TOO_LARGE:
                event_id_format(&refusal->event, id);
                trail_number(call, "maximum-append-event-size", (int64_t)refusal->limit);
                trail_number(call, "proposed-append-event-size", (int64_t)refusal->size);
                trail(call, "event-id", id);
                break;
        case REFUSAL_CONFLICT:
                gateway_call_trailer(call, "stream-name", refusal->stream);
                trail_number(call, "expected-version", number_of(refusal->expected));
                trail_number(call, "actual-version", number_of_actual(refusal));
                break;
        case REFUSAL_STREAM_DELETED:
                gateway_call_trailer(call, "stream-name", refusal->stream);
                break;
        case REFUSAL_INDEX_MISSING:
                gateway_call_trailer(call, "index-name", refusal->stream);
                break;
        case REFUSAL_GROUP_FAILED:
        case REFUSAL_GROUP_EXISTS:
        case REFUSAL_GROUP_MISSING:
        case REFUSAL_GROUP_DROPPED:
        case REFUSAL_GROUP_FULL:
                if (refusal->kind == REFUSAL_GROUP_FAILED)
                        trail(call, "reason", problem_of(refusal));
                gateway_call_trailer(call, "stream-name", refusal->stream);
                gateway_call_trailer(call, "group-name", refusal->group);
                break;
        default:
                break;
        }
}

/* Of a persistent subscription. The official clients' own tests compare the text of one that is missing, the
 * client for Python looks for the beginning of that of one that is full. */
static void say_group(const struct refusal *refusal, char text[TEXT_SIZE_MAX])
{
        const char *problem = problem_of(refusal);
        int stream_size = (int)MIN(refusal->stream.size, (size_t)LIMIT_STREAM_NAME_SIZE_MAX + 2);
        int group_size = (int)MIN(refusal->group.size, (size_t)GROUP_NAME_SHOWN_MAX);
        char group[GROUP_NAME_SHOWN_MAX + LIMIT_STREAM_NAME_SIZE_MAX + 64];

        snprintf(group, sizeof(group), "ubscription group %.*s on stream %.*s", group_size,
                (const char *)refusal->group.data, stream_size, (const char *)refusal->stream.data);
        switch (refusal->kind) {
        case REFUSAL_GROUP_EXISTS:
                snprintf(text, TEXT_SIZE_MAX, "S%s exists.", group);
                break;
        case REFUSAL_GROUP_MISSING:
                snprintf(text, TEXT_SIZE_MAX, "S%s does not exist.", group);
                break;
        case REFUSAL_GROUP_DROPPED:
                snprintf(text, TEXT_SIZE_MAX, "S%s was dropped: %s", group, problem);
                break;
        case REFUSAL_GROUP_FULL:
                snprintf(text, TEXT_SIZE_MAX, "Maximum subscriptions reached for s%s", group);
                break;
        default:
                snprintf(text, TEXT_SIZE_MAX, "S%s failed: %s", group, problem);
        }
}

/* What, where, and the numbers. */
static void say(const struct refusal *refusal, char text[TEXT_SIZE_MAX])
{
        const char *problem = problem_of(refusal);
        int name_size = (int)MIN(refusal->stream.size, (size_t)LIMIT_STREAM_NAME_SIZE_MAX + 2);
        const char *name = (const char *)refusal->stream.data;
        char id[EVENT_ID_TEXT_SIZE + 1];

        event_id_format(&refusal->event, id);
        switch (refusal->kind) {
        case REFUSAL_CONFLICT: /* the client for Python takes exactly this apart */
                snprintf(text, TEXT_SIZE_MAX,
                        "WrongExpectedVersion. Stream: %.*s, Expected version: %lld, Actual version: %lld",
                        name_size, name, (long long)number_of(refusal->expected),
                        (long long)number_of_actual(refusal));
                break;
        case REFUSAL_STREAM_DELETED: /* Python looks for these two words */
                snprintf(text, TEXT_SIZE_MAX, "stream '%.*s' is deleted", name_size, name);
                break;
        case REFUSAL_INDEX_MISSING:
                snprintf(text, TEXT_SIZE_MAX, "there is no index '%.*s'", name_size, name);
                break;
        case REFUSAL_PROPERTY_MISSING:
                snprintf(text, TEXT_SIZE_MAX,
                        "event %s lacks the metadata property '%s'; type and content-type are required", id,
                        problem);
                break;
        case REFUSAL_NOT_HERE_YET:
                snprintf(text, TEXT_SIZE_MAX, "position %llu is not here yet: ask again, or another node",
                        (unsigned long long)refusal->position);
                break;
        case REFUSAL_GROUP_EXISTS:
        case REFUSAL_GROUP_MISSING:
        case REFUSAL_GROUP_FAILED:
        case REFUSAL_GROUP_DROPPED:
        case REFUSAL_GROUP_FULL:
                say_group(refusal, text);
                break;
        case REFUSAL_EVENT_TOO_LARGE:
                snprintf(text, TEXT_SIZE_MAX, "event %s is too large: %llu bytes, at most %llu", id,
                        (unsigned long long)refusal->size, (unsigned long long)refusal->limit);
                break;
        default:
                if (refusal->limit)
                        snprintf(text, TEXT_SIZE_MAX, "%s; the limit is %llu", problem,
                                (unsigned long long)refusal->limit);
                else
                        snprintf(text, TEXT_SIZE_MAX, "%s", problem);
        }
}

static void publish_failure(struct kurrent *k, struct gateway_request *call, const char *text)
{
        struct fact_payload payload = {0};
        struct bytes path = gateway_path(call);

        fact_set_text(&payload, "%.*s: %s", (int)MIN(path.size, (size_t)FACT_TEXT_SIZE),
                (const char *)path.data, text);
        control_publish(k->control, FACT_request_failed, &payload);
}

void not_leader_trailers(struct gateway_request *call, const struct membership_node *leader)
{
        trail(call, "exception", refusals[REFUSAL_NOT_LEADER].exception);
        trail(call, "leader-endpoint-host", leader->host);
        trail_number(call, "leader-endpoint-port", leader->port);
}

/* With a leader whose address is known, clients go there. This node, before it may write, is none: who is
 * sent to where he is would come again at once. */
static void end_not_leader(struct kurrent *k, struct gateway_request *call)
{
        struct refusal refusal = {.kind = REFUSAL_NO_LEADER};
        struct membership_node leader;

        if (!k->membership || !membership_leader(k->membership, &leader)) {
                refusal_end_call(k, call, &refusal);
                return;
        }
        if (leader.is_self) {
                refusal.kind = REFUSAL_NOT_READY;
                refusal_end_call(k, call, &refusal);
                return;
        }
        not_leader_trailers(call, &leader);
        gateway_call_end(call, refusals[REFUSAL_NOT_LEADER].status, refusals[REFUSAL_NOT_LEADER].text);
}

void refusal_end_call(struct kurrent *k, struct gateway_request *call, const struct refusal *refusal)
{
        char text[TEXT_SIZE_MAX];

        assert(refusal->kind > REFUSAL_NONE && refusal->kind < REFUSALS);
        if (refusal->kind == REFUSAL_NOT_LEADER) {
                end_not_leader(k, call);
                return;
        }
        if (refusal->kind == REFUSAL_DENIED) {
                gateway_refuse(call, refusal->right, refusal->stream);
                return;
        }
        say(refusal, text);
        if (refusal->kind == REFUSAL_FAULT || refusal->kind == REFUSAL_CORRUPT)
                publish_failure(k, call, text);
        add_trailers(call, refusal);
        gateway_call_end(call, refusals[refusal->kind].status, text);
}

bool call_may(struct gateway_request *call, enum access_right right, struct bytes stream, struct refusal *ret)
{
        if (!stream.size)
                stream = BYTES_LITERAL("$all");
        if (gateway_may(call, right, stream))
                return true;
        *ret = (struct refusal){.kind = REFUSAL_DENIED, .stream = stream, .right = right};
        return false;
}

bool call_may_follow(struct gateway_request *call, struct bytes from, struct bytes target)
{
        if (!from.size || bytes_equal_string(from, "$all"))
                return gateway_may_see(call, target);
        return gateway_may(call, ACCESS_READ, target);
}

/* ---- within BatchAppend ---- */

/* A detail of an answer, with room for each of its kinds. */
struct detail {
        const char *name;
        const ProtobufCMessage *message;
        union {
                EventStore__Client__WrongExpectedVersion conflict;
                EventStore__Client__StreamDeleted deleted;
                EventStore__Client__MaximumAppendSizeExceeded append;
                EventStore__Client__MaximumAppendEventSizeExceeded event;
                EventStore__Client__AccessDenied denied;
                EventStore__Client__BadRequest bad;
                EventStore__Client__Timeout timeout;
                EventStore__Client__Unknown unknown;
        };
        EventStore__Client__StreamIdentifier stream;
        EventStore__Client__Empty empty;
        char id[EVENT_ID_TEXT_SIZE + 1];
};

static void detail_conflict(struct detail *d, const struct refusal *refusal)
{
        EventStore__Client__WrongExpectedVersion *m = &d->conflict;

        event_store__client__wrong_expected_version__init(m);
        if (refusal->actual.has_revision) {
                m->current_stream_revision_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__CURRENT_STREAM_REVISION_OPTION_CURRENT_STREAM_REVISION;
                m->current_stream_revision = refusal->actual.revision;
        } else {
                m->current_stream_revision_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__CURRENT_STREAM_REVISION_OPTION_CURRENT_NO_STREAM;
                m->current_no_stream = &d->empty;
        }
        switch (refusal->expected.kind) {
        case EXPECTED_EXACT:
                m->expected_stream_position_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__EXPECTED_STREAM_POSITION_OPTION_EXPECTED_STREAM_POSITION;
                m->expected_stream_position = refusal->expected.revision;
                break;
        case EXPECTED_NONE:
                m->expected_stream_position_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__EXPECTED_STREAM_POSITION_OPTION_EXPECTED_NO_STREAM;
                m->expected_no_stream = &d->empty;
                break;
        case EXPECTED_EXISTS:
                m->expected_stream_position_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__EXPECTED_STREAM_POSITION_OPTION_EXPECTED_STREAM_EXISTS;
                m->expected_stream_exists = &d->empty;
                break;
        default:
                m->expected_stream_position_option_case =
                        EVENT_STORE__CLIENT__WRONG_EXPECTED_VERSION__EXPECTED_STREAM_POSITION_OPTION_EXPECTED_ANY;
                m->expected_any = &d->empty;
        }
        d->name = "WrongExpectedVersion";
        d->message = &m->base;
}

static void detail_of(struct detail *d, const struct refusal *refusal, const char *text)
{
        event_store__client__empty__init(&d->empty);
        switch (refusal->kind) {
        case REFUSAL_CONFLICT:
                detail_conflict(d, refusal);
                break;
        case REFUSAL_STREAM_DELETED:
                event_store__client__stream_identifier__init(&d->stream);
                d->stream.stream_name = message_bytes(refusal->stream);
                event_store__client__stream_deleted__init(&d->deleted);
                d->deleted.stream_identifier = &d->stream;
                d->name = "StreamDeleted";
                d->message = &d->deleted.base;
                break;
        case REFUSAL_APPEND_TOO_LARGE:
                event_store__client__maximum_append_size_exceeded__init(&d->append);
                d->append.maxappendsize = (uint32_t)refusal->limit;
                d->name = "MaximumAppendSizeExceeded";
                d->message = &d->append.base;
                break;
        case REFUSAL_EVENT_TOO_LARGE:
                event_store__client__maximum_append_event_size_exceeded__init(&d->event);
                event_id_format(&refusal->event, d->id);
                d->event.eventid = d->id;
                d->event.proposedeventsize = (uint32_t)MIN(refusal->size, (uint64_t)UINT32_MAX);
                d->event.maxappendeventsize = (uint32_t)refusal->limit;
                d->name = "MaximumAppendEventSizeExceeded";
                d->message = &d->event.base;
                break;
        case REFUSAL_INVALID:
        case REFUSAL_PROPERTY_MISSING:
                event_store__client__bad_request__init(&d->bad);
                d->bad.message = (char *)(uintptr_t)text;
                d->name = "BadRequest";
                d->message = &d->bad.base;
                break;
        case REFUSAL_DENIED:
                event_store__client__access_denied__init(&d->denied);
                d->name = "AccessDenied";
                d->message = &d->denied.base;
                break;
        case REFUSAL_TIMEOUT:
                event_store__client__timeout__init(&d->timeout);
                d->name = "Timeout";
                d->message = &d->timeout.base;
                break;
        default:
                event_store__client__unknown__init(&d->unknown);
                d->name = "Unknown";
                d->message = &d->unknown.base;
        }
}

static void set_expected(EventStore__Client__Streams__BatchAppendResp *answer, const struct wire_asked *asked,
        EventStore__Client__Empty *empty)
{
        if (!asked->has_expected)
                return;
        switch (asked->expected.kind) {
        case EXPECTED_EXACT:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_STREAM_POSITION;
                answer->stream_position = asked->expected.revision;
                break;
        case EXPECTED_NONE:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_NO_STREAM;
                answer->no_stream = empty;
                break;
        case EXPECTED_EXISTS:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_STREAM_EXISTS;
                answer->stream_exists = empty;
                break;
        default:
                answer->expected_stream_position_case =
                        EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__EXPECTED_STREAM_POSITION_ANY;
                answer->any = empty;
        }
}

static void set_uuid(EventStore__Client__UUID *uuid, EventStore__Client__UUID__Structured *halves,
        char text[EVENT_ID_TEXT_SIZE + 1], const struct wire_uuid *from)
{
        event_store__client__uuid__init(uuid);
        event_store__client__uuid__structured__init(halves);
        if (from->is_text) {
                event_id_format(&from->id, text);
                uuid->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRING;
                uuid->string = message_bytes(bytes_of(text, EVENT_ID_TEXT_SIZE));
        } else {
                event_id_to_halves(
                        &from->id, &halves->most_significant_bits, &halves->least_significant_bits);
                uuid->value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED;
                uuid->structured = halves;
        }
}

void refusal_send_batch(
        struct gateway_request *call, const struct wire_asked *asked, const struct refusal *refusal)
{
        EventStore__Client__Streams__BatchAppendResp answer;
        EventStore__Client__Status status;
        EventStore__Client__Any any;
        EventStore__Client__UUID correlation;
        EventStore__Client__UUID__Structured halves;
        EventStore__Client__StreamIdentifier stream;
        struct detail detail;
        struct buffer packed = {0};
        char id[EVENT_ID_TEXT_SIZE + 1];
        char type[80];
        char text[TEXT_SIZE_MAX];

        say(refusal, text);
        detail_of(&detail, refusal, text);
        message_pack(detail.message, &packed);
        snprintf(type, sizeof(type), "type.googleapis.com/event_store.client.%s", detail.name);
        event_store__client__any__init(&any);
        any.type_url = type;
        any.value = message_bytes(buffer_bytes(&packed));
        event_store__client__status__init(&status);
        status.code = (int32_t)refusals[refusal->kind].batch;
        /* Clients know the name of the type here; where there is none that says enough, people get the text.
         */
        status.message = detail.message->descriptor == &event_store__client__unknown__descriptor
                                 ? text
                                 : (char *)(uintptr_t)detail.name;
        status.details = &any;
        set_uuid(&correlation, &halves, id, &asked->correlation);
        event_store__client__stream_identifier__init(&stream);
        stream.stream_name = message_bytes(asked->stream);
        event_store__client__streams__batch_append_resp__init(&answer);
        answer.correlation_id = &correlation;
        answer.result_case = EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_RESP__RESULT_ERROR;
        answer.error = &status;
        answer.stream_identifier = &stream;
        set_expected(&answer, asked, &detail.empty);
        message_send(call, &answer.base);
        buffer_fini(&packed);
}
