/* PersistentSubscriptions/Read: a consumer of a group.
 *
 *   options ------> consumer_open, the confirmation, pump
 *   ack, nack ----> consumer_ack, consumer_nack -----> on_readable
 *   on_readable --> gateway_call_wake -> on_writable -> pump
 *
 * The pump stops when the window is full, when there is nothing, or when the connection has no room; then the
 * group gives to others. A client that says no more has unsubscribed: what it had goes to others. */
#include "kurrent/group.h"

enum { WINDOW_MAX = 10 * 1000, IDS_AT_ONCE = 128 };
static_assert(WINDOW_MAX * 40 < GROUP_MESSAGE_SIZE_MAX, "a whole window can be acknowledged in one message");

typedef EventStore__Client__PersistentSubscriptions__ReadReq__Options group_options;

struct group_reading {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct group group; /* in the call's arena */
        struct consumer *consumer;
        struct wire_events events;
        bool is_waiting; /* on_readable will come */
};

/* ---- the pump ---- */

static void drop(struct group_reading *r, enum refusal_kind kind, const char *problem)
{
        struct refusal refusal = {
                .kind = kind, .problem = problem, .stream = r->group.stream, .group = r->group.name};

        refusal_end_call(r->kurrent, r->call, &refusal);
        consumer_close(&r->consumer);
}

static void pause_or_drop(struct group_reading *r, int result)
{
        switch (result) {
        case CONSUMER_WAIT:
                r->is_waiting = true;
                break;
        case CONSUMER_DROPPED:
        case CONSUMER_GONE:
                drop(r, REFUSAL_GROUP_DROPPED, consumer_problem(r->consumer));
                break;
        default:
                drop(r, REFUSAL_GROUP_FAILED, fault_last());
        }
}

static void pump(struct group_reading *r)
{
        while (gateway_stream_room(r->call) > 0) {
                struct consumer_message message;
                int result = consumer_next(r->consumer, &message);

                if (result) {
                        pause_or_drop(r, result);
                        return;
                }
                if (message.item.has_link && message.item.has_event &&
                        !call_may_follow(r->call, r->group.stream, message.item.event.stream))
                        message.item.has_event = false;
                wire_out_group_event(&r->events, &message.item, MIN(message.retry_count, (uint32_t)INT32_MAX),
                        gateway_message_begin(r->call));
                gateway_message_end(r->call);
        }
}

static void on_readable(void *arg)
{
        struct group_reading *r = arg;

        r->is_waiting = false;
        gateway_call_wake(r->call);
}

static void on_writable(void *arg, struct gateway_request *call)
{
        struct group_reading *r = gateway_call_state(call);

        (void)arg;
        if (r && r->consumer && !r->is_waiting)
                pump(r);
}

/* ---- beginning ---- */

static void send_confirmation(struct group_reading *r)
{
        EventStore__Client__PersistentSubscriptions__ReadResp answer;
        EventStore__Client__PersistentSubscriptions__ReadResp__SubscriptionConfirmation confirmation;
        struct buffer id = {0};

        buffer_add_bytes(&id, r->group.stream);
        buffer_add_string(&id, "::");
        buffer_add_bytes(&id, r->group.name);
        event_store__client__persistent_subscriptions__read_resp__subscription_confirmation__init(
                &confirmation);
        confirmation.subscription_id = message_bytes(buffer_bytes(&id));
        event_store__client__persistent_subscriptions__read_resp__init(&answer);
        answer.content_case =
                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_RESP__CONTENT_SUBSCRIPTION_CONFIRMATION;
        answer.subscription_confirmation = &confirmation;
        message_send(r->call, &answer.base);
        buffer_fini(&id);
}

/* NULL, or what is wrong. */
static const char *take_options(const group_options *o, struct group_reading *r)
{
        const char *problem = group_of(o->stream_identifier,
                o->stream_option_case ==
                        EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__OPTIONS__STREAM_OPTION_ALL,
                o->group_name, &r->group);

        if (problem)
                return problem;
        if (o->buffer_size < 1)
                return "buffer_size must be above zero";
        if (!o->uuid_option ||
                o->uuid_option->content_case ==
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT__NOT_SET)
                return "uuid_option is missing";
        r->events.is_uuid_text = o->uuid_option->content_case ==
                                 EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRING;
        return NULL;
}

static enum emitter_verdict open_consumer(struct emitter *e, struct group_reading *r, int32_t buffer_size)
{
        const struct principal *who = gateway_principal(r->call);
        struct bytes name = selection_client_name(r->call);
        struct consumer_options options = {
                .stream = r->group.stream,
                .group = r->group.name,
                .window = MIN((uint32_t)buffer_size, (uint32_t)WINDOW_MAX),
                .name = name.size ? name : BYTES_LITERAL("<unknown>"),
                .peer = bytes_of_string(gateway_peer(r->call)),
                .user = bytes_of_string(who ? principal_login(who) : "anonymous"),
                .on_readable = on_readable,
                .arg = r,
        };

        return consumer_open(e, &options, &r->consumer);
}

static void refuse_invalid(struct group_reading *r, const char *problem)
{
        struct refusal refusal = refusal_invalid(problem);

        refusal_end_call(r->kurrent, r->call, &refusal);
        consumer_close(&r->consumer);
}

static void begin(struct group_reading *r, struct bytes message)
{
        struct arena *arena = gateway_arena(r->call);
        const EventStore__Client__PersistentSubscriptions__ReadReq *request = message_unpack(
                &event_store__client__persistent_subscriptions__read_req__descriptor, arena, message);
        struct emitter *e = group_begin(r->kurrent, r->call, NULL);
        enum emitter_verdict verdict;
        struct refusal refusal;
        const char *problem = "the request is malformed";

        if (!e)
                return;
        if (request)
                problem = take_options(request->options, r);
        if (problem) {
                refuse_invalid(r, problem);
                return;
        }
        /* The message ends with this call. */
        r->group.stream = arena_copy(arena, r->group.stream);
        r->group.name = arena_copy(arena, r->group.name);
        if (!call_may(r->call, ACCESS_READ, r->group.stream, &refusal)) {
                refusal_end_call(r->kurrent, r->call, &refusal);
                return;
        }
        gateway_keep_asking(r->call, ACCESS_READ, r->group.stream);
        verdict = open_consumer(e, r, request->options->buffer_size);
        if (verdict == EMITTER_LIMIT) {
                drop(r, REFUSAL_GROUP_FULL, NULL);
        } else if (verdict) {
                group_refuse(r->kurrent, r->call, &r->group, verdict, NULL);
        } else {
                send_confirmation(r);
                pump(r);
        }
}

/* ---- acknowledgement ---- */

/* Unknown actions retry, as an unknown one of the protocol does. */
static enum nack_action action_of(uint64_t action)
{
        switch (action) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__NACK__ACTION__Park:
                return NACK_PARK;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__NACK__ACTION__Retry:
                return NACK_RETRY;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__NACK__ACTION__Skip:
                return NACK_SKIP;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__READ_REQ__NACK__ACTION__Stop:
                return NACK_STOP;
        default:
                return NACK_UNKNOWN;
        }
}

static void finish(struct group_reading *r, const struct wire_group *w)
{
        struct event_id ids[IDS_AT_ONCE];
        struct wire_in in = wire_in(w->body);
        unsigned count;
        int result;

        do {
                count = 0;
                do
                        result = wire_next_id(&in, &ids[count]);
                while (!result && ++count < IDS_AT_ONCE);
                if (w->kind == WIRE_GROUP_ACK)
                        consumer_ack(r->consumer, ids, count);
                else
                        consumer_nack(r->consumer, ids, count, action_of(w->action), w->reason);
        } while (!result);
        if (result == WIRE_MALFORMED)
                refuse_invalid(r, "an id is malformed");
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct group_reading *r = gateway_call_state(call);
        struct wire_group w;
        bool is_first = !r;

        if (is_first) {
                r = arena_get(gateway_arena(call), sizeof(*r));
                *r = (struct group_reading){.kurrent = arg, .call = call};
                gateway_call_set_state(call, r);
        }
        if (wire_in_group(message, &w))
                refuse_invalid(r, "the request is malformed");
        else if (is_first != (w.kind == WIRE_GROUP_OPTIONS))
                refuse_invalid(r, "options come first, and once");
        else if (is_first)
                begin(r, message);
        else
                finish(r, &w);
}

/* ---- the end ---- */

static void on_half_close(void *arg, struct gateway_request *call)
{
        struct group_reading *r = gateway_call_state(call);

        (void)arg;
        gateway_call_end(call, GRPC_OK, NULL);
        if (r)
                consumer_close(&r->consumer);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct group_reading *r = gateway_call_state(call);

        (void)arg;
        if (r)
                consumer_close(&r->consumer);
}

void group_read_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = GROUP_SERVICE,
                .name = "Read",
                .features = GROUP_FEATURES,
                .access = ACCESS_STREAM,
                .message_size_max = GROUP_MESSAGE_SIZE_MAX,
                .is_client_stream = true,
                .on_message = on_message,
                .on_half_close = on_half_close,
                .on_writable = on_writable,
                .on_gone = on_gone,
        };
}
