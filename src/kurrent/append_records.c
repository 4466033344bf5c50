/* StreamsService/AppendRecords: records of any streams, in the order in which they get into the log, and
 * checks of any streams, also of those that are not written: all of it or nothing, in one message
 * (protocol 3.10). Every check that fails is told. */
#include "kurrent/records.h"

static bool take_check(struct records *r, const struct wire_check *check, unsigned ordinal)
{
        struct place at = {.list = "checks", .inside = "stream_state.", .ordinal = ordinal};
        struct expected expected;
        unsigned stream;
        bool is_new;

        if (!check->has_type) {
                at.inside = "";
                records_refuse_field(r, at, "type", "is none that is known");
                return false;
        }
        if (!records_expect(r, check->expected, at, "expected_state", &expected) ||
                !records_name(r, check->stream, expected, false, at, &stream, &is_new))
                return false;
        if (!is_new)
                records_refuse_field(r, at, "stream", "is checked twice");
        return is_new;
}

static bool take_checks(struct records *r, struct bytes message)
{
        struct wire_in in = wire_in(message);
        struct wire_check check;
        int result;

        for (unsigned i = 0; !(result = wire_next_check(&in, &check)); i++)
                if (!take_check(r, &check, i))
                        return false;
        if (result != WIRE_END)
                records_refuse_field(r, (struct place){.inside = ""}, "checks", "is malformed");
        return result == WIRE_END;
}

static bool take_record(struct records *r, struct bytes message, unsigned ordinal)
{
        struct place at = {.list = "records", .inside = "", .ordinal = ordinal};
        struct expected any = {.kind = EXPECTED_ANY};
        struct wire_record record;
        unsigned stream;
        bool is_new;

        if (wire_in_record(message, &record)) {
                records_refuse_field(r, at, "", "is malformed");
                return false;
        }
        return records_name(r, record.stream, any, true, at, &stream, &is_new) &&
               records_add(r, message, &record, stream, at);
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct records *r = arena_get(gateway_arena(call), sizeof(*r));
        struct wire_in in = wire_in(message);
        struct wire_records request;
        struct bytes record;
        unsigned ordinal = 0;
        bool is_good = false;

        records_init(r, arg, call, false);
        if (wire_in_records(message, &request))
                records_refuse_field(r, (struct place){.inside = ""}, "request", "is malformed");
        else if (!request.record_count)
                records_refuse_field(r, (struct place){.inside = ""}, "records", "is empty");
        else
                is_good = take_checks(r, message);
        while (is_good && wire_next_record(&in, WIRE_RECORDS, &record))
                is_good = take_record(r, record, ordinal++);
        if (is_good)
                records_append(r);
}

void append_records_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = RECORDS_SERVICE,
                .name = "AppendRecords",
                .features = "",
                .access = ACCESS_STREAM,
                .message_size_max = GRPC_MESSAGE_SIZE_MAX,
                .on_message = on_message,
        };
}
