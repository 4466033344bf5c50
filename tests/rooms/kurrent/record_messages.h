/* Messages of StreamsService as its tests make and read them. */
#ifndef TESTS_ROOMS_KURRENT_RECORD_MESSAGES_H
#define TESTS_ROOMS_KURRENT_RECORD_MESSAGES_H

#include "base/base64.h"
#include "kurrent/record_errors.pb-c.h"
#include "kurrent/records.pb-c.h"
#include "kurrent/status.pb-c.h"
#include "messages.h"

#define RECORDS                  "/kurrentdb.protocol.v2.streams.StreamsService/"
#define RECORD_MESSAGE(name)     message_of(&kurrentdb__protocol__v2__streams__##name##__descriptor)
#define RECORD_ANSWER(name, rpc) unpack(&kurrentdb__protocol__v2__streams__##name##__descriptor, (rpc)->answers[0])

typedef Kurrentdb__Protocol__V2__Streams__AppendRecord record;
typedef Kurrentdb__Protocol__V2__Streams__AppendRequest session_request;
typedef Kurrentdb__Protocol__V2__Streams__AppendRecordsRequest records_request;
typedef Kurrentdb__Protocol__V2__Streams__Value value;

static inline char *id_text(uint64_t n)
{
        char text[EVENT_ID_TEXT_SIZE + 1];

        snprintf(text, sizeof text, "11223344-5566-4788-8000-%012llx", (unsigned long long)(n & 0xffffffffffff));
        return arena_string(&memory, bytes_of_string(text));
}

/* In JSON; id 0: the server makes one. */
static inline record *record_of(const char *stream, uint64_t id)
{
        record *m = RECORD_MESSAGE(append_record);

        if (stream)
                m->stream = binary(stream);
        if (id)
                m->record_id = binary(id_text(id));
        m->schema = RECORD_MESSAGE(schema_info);
        m->schema->format = KURRENTDB__PROTOCOL__V2__STREAMS__SCHEMA_FORMAT__SCHEMA_FORMAT_JSON;
        m->schema->name = binary("Happened");
        m->data = binary("{\"n\":1}");
        return m;
}

static inline void add_property(record *m, const char *key, value *v)
{
        Kurrentdb__Protocol__V2__Streams__AppendRecord__PropertiesEntry *entry =
                RECORD_MESSAGE(append_record__properties_entry);
        Kurrentdb__Protocol__V2__Streams__AppendRecord__PropertiesEntry **all =
                arena_get(&memory, (m->n_properties + 1) * sizeof(*all));

        if (m->n_properties)
                memcpy(all, m->properties, m->n_properties * sizeof(*all));
        entry->key = (char *)(uintptr_t)key;
        entry->value = v;
        all[m->n_properties++] = entry;
        m->properties = all;
}

static inline value *text_value(const char *text)
{
        value *v = RECORD_MESSAGE(value);

        v->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_STRING_VALUE;
        v->string_value = binary(text);
        return v;
}

static inline value *number_value(double number)
{
        value *v = RECORD_MESSAGE(value);

        v->kind_case = KURRENTDB__PROTOCOL__V2__STREAMS__VALUE__KIND_NUMBER_VALUE;
        v->number_value = number;
        return v;
}

/* Adds an element to an array of pointers. */
#define ADD(array, count, element)                                                                                                 \
        do {                                                                                                                       \
                void *grown = arena_get(&memory, ((count) + 1) * sizeof(*(array)));                                                \
                                                                                                                                   \
                if (count)                                                                                                         \
                        memcpy(grown, (array), (count) * sizeof(*(array)));                                                        \
                (array) = grown;                                                                                                   \
                (array)[(count)++] = (element);                                                                                    \
        } while (0)

/* WIRE_ANY: says nothing about it. */
static inline session_request *session_of(const char *stream, int64_t expected)
{
        session_request *m = RECORD_MESSAGE(append_request);

        m->stream = binary(stream);
        if (expected != -2) {
                m->expected_case = KURRENTDB__PROTOCOL__V2__STREAMS__APPEND_REQUEST__EXPECTED_EXPECTED_REVISION;
                m->expected_revision = expected;
        }
        return m;
}

static inline session_request *with_records(session_request *m, uint64_t id, unsigned count)
{
        for (unsigned i = 0; i < count; i++)
                ADD(m->records, m->n_records, record_of(NULL, id + i));
        return m;
}

static inline void add_record(records_request *m, record *r)
{
        ADD(m->records, m->n_records, r);
}

static inline void add_check(records_request *m, const char *stream, int64_t expected)
{
        Kurrentdb__Protocol__V2__Streams__ConsistencyCheck *check = RECORD_MESSAGE(consistency_check);

        check->type_case = KURRENTDB__PROTOCOL__V2__STREAMS__CONSISTENCY_CHECK__TYPE_STREAM_STATE;
        check->stream_state = RECORD_MESSAGE(consistency_check__stream_state_check);
        check->stream_state->stream = binary(stream);
        check->stream_state->expected_state = expected;
        ADD(m->checks, m->n_checks, check);
}

static inline void run_records(struct rpc *r, struct client *c, const records_request *m)
{
        rpc_open(r, c, RECORDS "AppendRecords");
        send_message(r, m);
        rpc_half_close(r);
        rpc_wait_end(r);
}

/* The messages until NULL, then the end. */
static inline void run_session(struct rpc *r, struct client *c, session_request *const *messages)
{
        rpc_open(r, c, RECORDS "AppendSession");
        for (; *messages; messages++)
                send_message(r, *messages);
        rpc_half_close(r);
        rpc_wait_end(r);
}
#define RUN_SESSION(r, c, ...) run_session(r, c, (session_request *const[]){__VA_ARGS__, NULL})

/* The call was refused for this reason; gives the last detail, of this type (NULL: the reason is the last). */
static inline void *refused_as(const struct rpc *r, int status, const char *reason, const ProtobufCMessageDescriptor *type)
{
        struct bytes text = bytes_of_string(rpc_trailer(r, "grpc-status-details-bin"));
        struct buffer decoded = {0};
        Google__Rpc__ErrorInfo *info;
        Google__Rpc__Status *m;
        Google__Rpc__Any *last;
        char url[160];

        if (r->status != status)
                fail_msg("status %d instead of %d: %s", r->status, status, r->message);
        assert_int_equal(r->count, 0);
        assert_true(text.size > 0);
        assert_true(base64_decode(&decoded, text));
        m = unpack(&google__rpc__status__descriptor, buffer_bytes(&decoded));
        buffer_fini(&decoded);
        assert_int_equal(m->code, status);
        assert_true(m->n_details >= 1);
        assert_string_equal(m->details[0]->type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        info = unpack(&google__rpc__error_info__descriptor, bytes_of(m->details[0]->value.data, m->details[0]->value.len));
        if (strcmp(info->reason, reason) != 0)
                fail_msg("%s instead of %s: %s", info->reason, reason, r->message);
        last = m->details[m->n_details - 1];
        if (!type)
                type = &google__rpc__error_info__descriptor;
        snprintf(url, sizeof url, "type.googleapis.com/%s", type->name);
        assert_string_equal(last->type_url, url);
        return unpack(type, bytes_of(last->value.data, last->value.len));
}
#define REFUSED_AS(r, status, reason, name)                                                                                        \
        refused_as(r, status, reason, &kurrentdb__protocol__v2__streams__errors__##name##__descriptor)

/* The field that a BAD_REQUEST names first. */
static inline const char *bad_field(const struct rpc *r)
{
        Google__Rpc__BadRequest *bad = refused_as(r, GRPC_INVALID_ARGUMENT, "BAD_REQUEST", &google__rpc__bad_request__descriptor);

        assert_true(bad->n_field_violations > 0);
        return bad->field_violations[0]->field;
}

#endif
