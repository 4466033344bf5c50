/* StreamsService/AppendSession: one message for each stream with all its records, then the end of the
 * client's half; all of it is one atomic append (protocol 3.10). */
#include "kurrent/records.h"

static const struct place in_request = {.inside = ""};

static struct records *records_of(struct kurrent *k, struct gateway_request *call)
{
        struct records *r = gateway_call_state(call);

        if (r)
                return r;
        r = arena_get(gateway_arena(call), sizeof(*r));
        records_init(r, k, call, true);
        gateway_call_set_state(call, r);
        return r;
}

static bool begin_stream(struct records *r, const struct wire_session *request, unsigned *ret)
{
        struct rich_error twice = {.kind = RICH_STREAM_TWICE, .stream = request->stream};
        struct expected expected;
        bool is_new;

        if (!records_expect(r, request->expected, in_request, "expected_revision", &expected) ||
                !records_name(r, request->stream, expected, true, in_request, ret, &is_new))
                return false;
        if (!request->record_count) {
                records_refuse_field(
                        r, in_request, "records", "is empty: a session checks only what it writes");
                return false;
        }
        if (!is_new)
                records_refuse(r, &twice);
        return is_new;
}

static void take_records(struct records *r, struct bytes message, unsigned stream)
{
        struct place at = {.list = "records", .inside = ""};
        struct wire_in in = wire_in(message);
        struct wire_record record;
        struct bytes bytes;

        for (; wire_next_record(&in, WIRE_SESSION_RECORDS, &bytes); at.ordinal++) {
                if (wire_in_record(bytes, &record)) {
                        records_refuse_field(r, at, "", "is malformed");
                        return;
                }
                if (!records_add(r, bytes, &record, stream, at))
                        return;
        }
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct records *r = records_of(arg, call);
        struct wire_session request;
        struct refusal refusal;
        struct bytes held;
        unsigned stream;

        if (!drafts_hold(&r->drafts, message, &held, &refusal))
                records_refuse_drafts(r, &refusal);
        else if (wire_in_session(held, &request))
                records_refuse_field(r, in_request, "request", "is malformed");
        else if (begin_stream(r, &request, &stream))
                take_records(r, held, stream);
}

static void on_half_close(void *arg, struct gateway_request *call)
{
        struct records *r = records_of(arg, call);
        struct rich_error error = {.kind = RICH_NO_REQUESTS};

        if (r->stream_count)
                records_append(r);
        else
                records_refuse(r, &error);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct records *r = gateway_call_state(call);

        (void)arg;
        if (r)
                records_fini(r);
}

void append_session_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = RECORDS_SERVICE,
                .name = "AppendSession",
                .features = "",
                .access = ACCESS_STREAM,
                .message_size_max = GRPC_MESSAGE_SIZE_MAX,
                .is_client_stream = true,
                .on_message = on_message,
                .on_half_close = on_half_close,
                .on_gone = on_gone,
        };
}
