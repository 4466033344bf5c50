/* Streams/Delete and Streams/Tombstone. Unlike for Append, a wrong revision is an error of the call. */
#include "kurrent/room.h"
#include "kurrent/streams.pb-c.h"

struct deleting {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct bytes stream; /* in the call's arena */
        struct expected expected;
};

/* DeleteResp and TombstoneResp have the same bytes. The position is always there: a client relies on it. */
static void answer(struct gateway_request *call, uint64_t position)
{
        EventStore__Client__Streams__DeleteResp response;
        EventStore__Client__Streams__DeleteResp__Position at;

        event_store__client__streams__delete_resp__position__init(&at);
        at.commit_position = position;
        at.prepare_position = position;
        event_store__client__streams__delete_resp__init(&response);
        response.position_option_case = EVENT_STORE__CLIENT__STREAMS__DELETE_RESP__POSITION_OPTION_POSITION;
        response.position = &at;
        message_answer(call, &response.base);
}

static void on_done(void *arg, const struct store_append_result *result)
{
        struct deleting *d = arg;
        struct gateway_request *call = d->call;

        if (gateway_call_is_over(call)) {
                gateway_call_release(call);
                return;
        }
        if (result->verdict == STORE_OK) {
                answer(call, result->position);
        } else {
                struct refusal refusal = refusal_of(result, d->stream, d->expected, NULL);

                refusal_end_call(d->kurrent, call, &refusal);
        }
        gateway_call_release(call);
}

static void take(struct kurrent *k, struct gateway_request *call, struct bytes message, bool is_tombstone)
{
        struct wire_options options;
        struct store_delete del = {.is_tombstone = is_tombstone};
        struct refusal refusal = refusal_invalid("the request is malformed");
        uint64_t asked = gateway_call_deadline_us(call);
        struct deleting *d;

        if (wire_in_delete(message, &options) || !options_are_complete(&options, &refusal) ||
                !call_may(call, ACCESS_DELETE, options.stream, &refusal)) {
                refusal_end_call(k, call, &refusal);
                return;
        }
        d = arena_get(gateway_arena(call), sizeof(*d));
        *d = (struct deleting){
                .kurrent = k,
                .call = call,
                .stream = arena_copy(gateway_arena(call), options.stream),
                .expected = options.expected,
        };
        del.stream = d->stream;
        del.expected = d->expected;
        del.write_id = control_next_write_id(k->control);
        del.deadline_us = os_turn_time(k->os).monotonic_us + WRITE_TIMEOUT_US;
        del.requires_leader = call_requires_leader(call);
        if (asked)
                del.deadline_us = MIN(del.deadline_us, asked);
        publish_write_requested(k, del.write_id, d->stream, 1);
        gateway_call_hold(call);
        store_delete(gateway_store(k->gateway), &del, on_done, d);
}

static void on_delete(void *arg, struct gateway_request *call, struct bytes message)
{
        take(arg, call, message, false);
}

static void on_tombstone(void *arg, struct gateway_request *call, struct bytes message)
{
        take(arg, call, message, true);
}

void delete_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.streams.Streams",
                .name = "Delete",
                .features = "",
                .access = ACCESS_STREAM,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_delete,
        };
}

void tombstone_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.streams.Streams",
                .name = "Tombstone",
                .features = "",
                .access = ACCESS_STREAM,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_tombstone,
        };
}
