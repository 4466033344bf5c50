/* Streams/Append: the options, then one message for each event, then the end of the client's half; one
 * answer. A conflict is one of the answers; everything else that is refused ends the call. */
#include "kurrent/room.h"
#include "kurrent/streams.pb-c.h"

struct appending {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct bytes stream; /* in the call's arena */
        struct expected expected;
        struct drafts drafts;
        bool has_options;
        bool has_drafts; /* nothing was handed to the store yet */
};

static void forget_drafts(struct appending *a)
{
        if (a->has_drafts)
                drafts_fini(&a->drafts);
        a->has_drafts = false;
}

static void refuse(struct appending *a, const struct refusal *refusal)
{
        forget_drafts(a);
        refusal_end_call(a->kurrent, a->call, refusal);
}

static void refuse_invalid(struct appending *a, const char *problem)
{
        struct refusal refusal = refusal_invalid(problem);

        refuse(a, &refusal);
}

static void on_idle(struct drafts *drafts)
{
        struct appending *a = CONTAINER_OF(drafts, struct appending, drafts);
        struct refusal refusal = {.kind = REFUSAL_TIMEOUT,
                .problem = "Operation timed out: the rest of the append did not come; nothing was written"};

        refuse(a, &refusal);
}

static struct appending *appending_of(struct kurrent *k, struct gateway_request *call)
{
        struct appending *a = gateway_call_state(call);

        if (a)
                return a;
        a = arena_get(gateway_arena(call), sizeof(*a));
        *a = (struct appending){.kurrent = k, .call = call, .has_drafts = true};
        drafts_init(&a->drafts, k, on_idle);
        gateway_call_set_state(call, a);
        return a;
}

/* ---- the answer ---- */

/* Fills both the new and the older half of the fields, since clients read either. */
static void answer_conflict(struct appending *a, const struct refusal *refusal)
{
        EventStore__Client__Streams__AppendResp answer;
        EventStore__Client__Streams__AppendResp__WrongExpectedVersion conflict;
        EventStore__Client__Empty empty;

        event_store__client__empty__init(&empty);
        event_store__client__streams__append_resp__wrong_expected_version__init(&conflict);
        if (refusal->actual.has_revision) {
                conflict.current_revision_option_20_6_0_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_20_6_0_CURRENT_REVISION_20_6_0;
                conflict.current_revision_20_6_0 = refusal->actual.revision;
                conflict.current_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_CURRENT_REVISION;
                conflict.current_revision = refusal->actual.revision;
        } else {
                conflict.current_revision_option_20_6_0_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_20_6_0_NO_STREAM_20_6_0;
                conflict.no_stream_20_6_0 = &empty;
                conflict.current_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__CURRENT_REVISION_OPTION_CURRENT_NO_STREAM;
                conflict.current_no_stream = &empty;
        }
        conflict.expected_revision_option_20_6_0_case =
                EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_20_6_0_EXPECTED_REVISION_20_6_0;
        switch (a->expected.kind) {
        case EXPECTED_EXACT:
                conflict.expected_revision_20_6_0 = a->expected.revision;
                conflict.expected_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_EXPECTED_REVISION;
                conflict.expected_revision = a->expected.revision;
                break;
        case EXPECTED_NONE: /* the older half has no word for it but this number */
                conflict.expected_revision_20_6_0 = UINT64_MAX;
                conflict.expected_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_EXPECTED_NO_STREAM;
                conflict.expected_no_stream = &empty;
                break;
        case EXPECTED_EXISTS:
                conflict.expected_revision_option_20_6_0_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_20_6_0_STREAM_EXISTS_20_6_0;
                conflict.stream_exists_20_6_0 = &empty;
                conflict.expected_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_EXPECTED_STREAM_EXISTS;
                conflict.expected_stream_exists = &empty;
                break;
        default:
                conflict.expected_revision_option_20_6_0_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_20_6_0_ANY_20_6_0;
                conflict.any_20_6_0 = &empty;
                conflict.expected_revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__WRONG_EXPECTED_VERSION__EXPECTED_REVISION_OPTION_EXPECTED_ANY;
                conflict.expected_any = &empty;
        }
        event_store__client__streams__append_resp__init(&answer);
        answer.result_case = EVENT_STORE__CLIENT__STREAMS__APPEND_RESP__RESULT_WRONG_EXPECTED_VERSION;
        answer.wrong_expected_version = &conflict;
        message_answer(a->call, &answer.base);
}

static void answer(struct appending *a, const struct store_append_result *result)
{
        struct refusal refusal;

        if (result->verdict == STORE_OK) {
                struct wire_success success = {.outcome = result->streams[0],
                        .has_position = result->has_position,
                        .position = result->position};

                wire_out_append(&success, gateway_message_begin(a->call));
                gateway_message_end(a->call);
                gateway_call_end(a->call, GRPC_OK, NULL);
                return;
        }
        refusal =
                refusal_of(result, a->stream, a->expected, a->has_drafts ? drafts_events(&a->drafts) : NULL);
        if (refusal.kind == REFUSAL_CONFLICT)
                answer_conflict(a, &refusal);
        else
                refusal_end_call(a->kurrent, a->call, &refusal);
}

static void on_done(void *arg, const struct store_append_result *result)
{
        struct appending *a = arg;
        struct gateway_request *call = a->call;

        if (!gateway_call_is_over(call))
                answer(a, result);
        gateway_call_release(call);
}

/* ---- the call ---- */

static void take_options(struct appending *a, const struct wire_options *options)
{
        struct refusal refusal;

        if (a->has_options) {
                refuse_invalid(a, "the options came twice");
                return;
        }
        if (!options_are_complete(options, &refusal) ||
                !call_may(a->call, ACCESS_WRITE, options->stream, &refusal)) {
                refuse(a, &refusal);
                return;
        }
        a->has_options = true;
        a->stream = arena_copy(gateway_arena(a->call), options->stream);
        gateway_keep_asking(a->call, ACCESS_WRITE, a->stream); /* its events may take their time */
        a->expected = options->expected;
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct appending *a = appending_of(arg, call);
        struct wire_append request;
        struct refusal refusal;

        if (wire_in_append(message, &request))
                refuse_invalid(a, "a message of the append is malformed");
        else if (request.is_options)
                take_options(a, &request.options);
        else if (!a->has_options)
                refuse_invalid(a, "the first message of an append holds its options");
        else if (!drafts_add_copy(&a->drafts, request.proposed, &refusal))
                refuse(a, &refusal);
}

static uint64_t deadline_of(struct kurrent *k, struct gateway_request *call)
{
        uint64_t latest = os_turn_time(k->os).monotonic_us + WRITE_TIMEOUT_US;
        uint64_t asked = gateway_call_deadline_us(call);

        return asked ? MIN(asked, latest) : latest;
}

static void on_half_close(void *arg, struct gateway_request *call)
{
        struct kurrent *k = arg;
        struct appending *a = appending_of(k, call);

        if (!a->has_options) {
                refuse_invalid(a, "the append has no options");
                return;
        }
        /* The store answers from inside or later; the call is ours until both this and the answer are done.
         */
        gateway_call_hold(call);
        gateway_call_hold(call);
        drafts_append(&a->drafts, call, a->stream, a->expected, deadline_of(k, call), on_done, a);
        forget_drafts(a);
        gateway_call_release(call);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct appending *a = gateway_call_state(call);

        (void)arg;
        if (a)
                forget_drafts(a);
}

void append_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.streams.Streams",
                .name = "Append",
                .features = "",
                .access = ACCESS_STREAM,
                .message_size_max = GRPC_MESSAGE_SIZE_MAX,
                .is_client_stream = true,
                .on_message = on_message,
                .on_half_close = on_half_close,
                .on_gone = on_gone,
        };
}
