/* Streams/Read: a count of events of a stream or of $all, or a subscription that goes on.
 *
 *   on_message -> pump ---- room is gone ----> on_writable -> pump
 *                      \--- nothing now -----> on_ready -> gateway_call_wake -> on_writable -> pump
 *                      \--- the end ---------> the call ends
 *
 * Some clients do not survive a message that they do not expect: a subscription begins with its confirmation,
 * a count read gives events or stream_not_found, and the numbers of the stream's ends only to those who say
 * that they know them (control_option). And of all streams nobody is given what KurrentDB keeps to itself:
 * the bookkeeping of persistent subscriptions to all streams, which would otherwise be woken by their own
 * checkpoints.
 *
 * What a read must see (G7, G8): at the leader everything that was acknowledged before it came, which a
 * majority of the voters confirms first; the header nilo-after names a position that must be visible, on
 * whichever node. Subscriptions only wait for what their client has seen. Where this node is the only voter
 * all of it is true at once. */
#include "kurrent/selection.h"

enum {
        WINDOW_DEFAULT = 32,
        /* Between two checkpoints thousands of events may have been examined: others get their turn after so
           many. */
        MARKS_OF_TURN_MAX = 16,
        HIDDEN_OF_TURN_MAX = 1000, /* events passed over: others get their turn */
        /* For what a read must see. Who leads is clear after a second or two, or the client had better look
           elsewhere. */
        CONFIRM_US = 2 * 1000 * 1000,
        WAIT_US = 5 * 1000 * 1000,
};

typedef EventStore__Client__Streams__ReadReq__Options request_options;
typedef EventStore__Client__Streams__ReadReq__Options__FilterOptions filter_request;

struct wish;

struct reading {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct bytes stream; /* in the call's arena; empty: $all */
        struct store_reader *reader;
        struct subscription *subscription;
        struct wire_events events;
        uint64_t sent;
        uint64_t limit;  /* of a count of $all, where what is hidden does not count; else UINT64_MAX */
        bool is_waiting; /* on_ready will come */
        bool tells_ends; /* first and last position of the stream */
        bool is_start_moved;
        uint64_t first_revision;
        uint64_t last_revision;
        struct store_wait wait;
        struct wish *waiting; /* what will be begun; NULL: nothing waits */
};

/* What was asked for, checked. */
struct wish {
        struct selection at;
        bool is_backward;
        bool is_subscription;
        bool resolves_links;
        bool is_uuid_text;
        bool knows_ends;
        uint64_t limit;
        struct filter *filter;
        uint64_t checkpoint_after;
        bool wants_confirmation; /* of who leads */
        bool has_after;          /* `after` must be visible */
        uint64_t after;
        uint64_t wait_until_us;
};

/* ---- the end ---- */

static void close_sources(struct reading *r)
{
        store_reader_close(&r->reader);
        subscription_close(&r->subscription);
        store_wait_end(&r->wait);
        if (r->waiting)
                filter_free(&r->waiting->filter);
        r->waiting = NULL;
}

static void refuse(struct reading *r, enum refusal_kind kind, const char *problem)
{
        struct refusal refusal = {.kind = kind, .problem = problem, .stream = r->stream};

        refusal_end_call(r->kurrent, r->call, &refusal);
        close_sources(r);
}

static void send_not_found(struct reading *r)
{
        EventStore__Client__Streams__ReadResp answer;
        EventStore__Client__Streams__ReadResp__StreamNotFound not_found;
        EventStore__Client__StreamIdentifier stream;

        event_store__client__stream_identifier__init(&stream);
        stream.stream_name = message_bytes(r->stream);
        event_store__client__streams__read_resp__stream_not_found__init(&not_found);
        not_found.stream_identifier = &stream;
        event_store__client__streams__read_resp__init(&answer);
        answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_STREAM_NOT_FOUND;
        answer.stream_not_found = &not_found;
        message_answer(r->call, &answer.base);
}

static void send_ends(struct reading *r)
{
        EventStore__Client__Streams__ReadResp answer;

        event_store__client__streams__read_resp__init(&answer);
        if (!r->sent && r->is_start_moved) {
                answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_FIRST_STREAM_POSITION;
                answer.first_stream_position = r->first_revision;
                message_send(r->call, &answer.base);
        }
        answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_LAST_STREAM_POSITION;
        answer.last_stream_position = r->last_revision;
        message_send(r->call, &answer.base);
}

static void send_confirmation(struct reading *r)
{
        EventStore__Client__Streams__ReadResp answer;
        EventStore__Client__Streams__ReadResp__SubscriptionConfirmation confirmation;
        struct event_id id;
        char text[EVENT_ID_TEXT_SIZE + 1];

        os_random(r->kurrent->os, id.bytes, sizeof(id.bytes));
        event_id_stamp_random(&id);
        event_id_format(&id, text);
        event_store__client__streams__read_resp__subscription_confirmation__init(&confirmation);
        confirmation.subscription_id = text;
        event_store__client__streams__read_resp__init(&answer);
        answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_CONFIRMATION;
        answer.confirmation = &confirmation;
        message_send(r->call, &answer.base);
}

static void send_mark(struct reading *r, const struct subscription_item *item)
{
        EventStore__Client__Streams__ReadResp answer;
        EventStore__Client__Streams__ReadResp__Checkpoint checkpoint;
        EventStore__Client__Streams__ReadResp__CaughtUp caught_up;
        EventStore__Client__Streams__ReadResp__Position position;
        EventStore__Client__Timestamp time;

        event_store__client__timestamp__init(&time);
        time.seconds = (int64_t)(item->time_us / 1000000);
        time.nanos = (int32_t)(item->time_us % 1000000 * 1000);
        event_store__client__streams__read_resp__init(&answer);
        if (item->kind == ITEM_CHECKPOINT) {
                event_store__client__streams__read_resp__checkpoint__init(&checkpoint);
                checkpoint.commit_position = item->position;
                checkpoint.prepare_position = item->position;
                checkpoint.timestamp = &time;
                answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_CHECKPOINT;
                answer.checkpoint = &checkpoint;
                message_send(r->call, &answer.base);
                return;
        }
        event_store__client__streams__read_resp__caught_up__init(&caught_up);
        caught_up.timestamp = &time;
        if (item->has_revision) {
                caught_up.revision_option_case =
                        EVENT_STORE__CLIENT__STREAMS__READ_RESP__CAUGHT_UP__REVISION_OPTION_STREAM_REVISION;
                caught_up.stream_revision = (int64_t)item->revision;
        }
        if (item->has_position) {
                event_store__client__streams__read_resp__position__init(&position);
                position.commit_position = item->position;
                position.prepare_position = item->position;
                caught_up.position = &position;
        }
        answer.content_case = EVENT_STORE__CLIENT__STREAMS__READ_RESP__CONTENT_CAUGHT_UP;
        answer.caught_up = &caught_up;
        message_send(r->call, &answer.base);
}

static void send_event(struct reading *r, struct store_read_item *item)
{
        if (item->has_link && item->has_event && !call_may_follow(r->call, r->stream, item->event.stream))
                item->has_event = false;
        wire_out_event(&r->events, item, gateway_message_begin(r->call));
        gateway_message_end(r->call);
        r->sent++;
}

/* ---- the pump ---- */

static bool ends_with(struct bytes text, struct bytes end)
{
        return text.size >= end.size &&
               bytes_equal(bytes_of(text.data + text.size - end.size, end.size), end);
}

/* What $all does not show (protocol 3.7). */
static bool is_hidden(struct reading *r, const struct store_read_item *item)
{
        struct bytes stream = item->has_link ? item->link.stream : item->event.stream;

        if (r->stream.size || stream.size < 2 || stream.data[0] != '$')
                return false;
        if (!gateway_may_see(r->call, stream))
                return true;
        if (bytes_starts_with(stream, BYTES_LITERAL("$persistentsubscription-$all::")))
                return ends_with(stream, BYTES_LITERAL("-checkpoint")) ||
                       ends_with(stream, BYTES_LITERAL("-parked"));
        return bytes_equal_string(stream, "$epoch-information");
}

/* No event came: waits, or ends the call. */
static void pause_reader(struct reading *r, int result)
{
        switch (result) {
        case STORE_READ_WAIT:
                r->is_waiting = true;
                break;
        case STORE_READ_YIELD:
                gateway_call_wake(r->call);
                break;
        case STORE_READ_END:
                if (r->tells_ends)
                        send_ends(r);
                gateway_call_end(r->call, GRPC_OK, NULL);
                close_sources(r);
                break;
        case STORE_READ_NOT_FOUND:
                send_not_found(r);
                close_sources(r);
                break;
        case STORE_READ_DELETED:
                refuse(r, REFUSAL_STREAM_DELETED, NULL);
                break;
        case STORE_READ_CORRUPT:
                refuse(r, REFUSAL_CORRUPT, r->reader ? store_reader_problem(r->reader) : NULL);
                break;
        case STORE_READ_TOO_COSTLY:
                refuse(r, REFUSAL_INVALID, "the filter's regular expression takes too long");
                break;
        default:
                refuse(r, REFUSAL_FAULT, fault_last());
        }
}

static void pump_reader(struct reading *r)
{
        unsigned hidden = 0;

        while (gateway_stream_room(r->call) > 0) {
                struct store_read_item item;
                int result = r->sent == r->limit ? STORE_READ_END : store_reader_next(r->reader, &item);

                if (!result && is_hidden(r, &item)) {
                        if (++hidden < HIDDEN_OF_TURN_MAX)
                                continue;
                        result = STORE_READ_YIELD;
                }
                if (result) {
                        pause_reader(r, result);
                        return;
                }
                send_event(r, &item);
        }
}

static void pause_subscription(struct reading *r, int result)
{
        switch (result) {
        case SUBSCRIPTION_WAIT:
                r->is_waiting = true;
                break;
        case SUBSCRIPTION_YIELD:
                gateway_call_wake(r->call);
                break;
        case SUBSCRIPTION_DELETED:
                refuse(r, REFUSAL_STREAM_DELETED, NULL);
                break;
        case SUBSCRIPTION_CORRUPT:
                refuse(r, REFUSAL_CORRUPT, NULL);
                break;
        case SUBSCRIPTION_TOO_COSTLY:
                refuse(r, REFUSAL_INVALID, "the filter's regular expression takes too long");
                break;
        case SUBSCRIPTION_STOPPED:
                refuse(r, REFUSAL_NOT_READY, "the server is stopping: subscribe again from the last event");
                break;
        case SUBSCRIPTION_LIMIT:
                refuse(r, REFUSAL_EXHAUSTED, "there are too many subscriptions");
                break;
        case SUBSCRIPTION_INVALID:
                refuse(r, REFUSAL_INVALID, "the position is behind the end of the log");
                break;
        default:
                refuse(r, REFUSAL_FAULT, fault_last());
        }
}

static void pump_subscription(struct reading *r)
{
        unsigned marks = 0, hidden = 0;

        while (gateway_stream_room(r->call) > 0) {
                struct subscription_item item;
                int result = subscription_next(r->subscription, &item);

                if (!result && item.kind == ITEM_EVENT && is_hidden(r, &item.event)) {
                        if (++hidden < HIDDEN_OF_TURN_MAX)
                                continue;
                        result = SUBSCRIPTION_YIELD;
                }
                if (result) {
                        pause_subscription(r, result);
                        return;
                }
                if (item.kind == ITEM_EVENT) {
                        send_event(r, &item.event);
                        continue;
                }
                send_mark(r, &item);
                if (++marks == MARKS_OF_TURN_MAX) {
                        gateway_call_wake(r->call);
                        return;
                }
        }
}

static void pump(struct reading *r)
{
        if (r->is_waiting)
                return;
        if (r->reader)
                pump_reader(r);
        else if (r->subscription)
                pump_subscription(r);
        /* Where neither is left the call is over. */
        if (r->reader)
                store_reader_ease(r->reader);
        else if (r->subscription)
                subscription_ease(r->subscription);
}

static void on_ready(void *arg)
{
        struct reading *r = arg;

        r->is_waiting = false;
        gateway_call_wake(r->call);
}

static void on_writable(void *arg, struct gateway_request *call)
{
        struct reading *r = gateway_call_state(call);

        (void)arg;
        if (r)
                pump(r);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct reading *r = gateway_call_state(call);

        (void)arg;
        if (r)
                close_sources(r);
}

/* ---- what was asked for ---- */

/* NULL, or what is wrong. */
static const char *take_window(const filter_request *f, struct wish *w)
{
        uint64_t window = WINDOW_DEFAULT;

        switch (f->window_case) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__WINDOW_MAX:
                window = f->max;
                break;
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTIONS__WINDOW_COUNT:
                break;
        default:
                return "the filter's window is missing";
        }
        if (w->is_subscription && (!f->checkpointintervalmultiplier || !window))
                return "the filter's window and checkpointIntervalMultiplier must be above zero";
        w->checkpoint_after = window * f->checkpointintervalmultiplier;
        return NULL;
}

static bool take_filter(const filter_request *f, struct arena *arena, struct wish *w, struct refusal *ret)
{
        struct filter_options options;
        char *why = arena_get(arena, 256);
        const char *problem = take_window(f, w);

        if (!problem && !selection_filter(f, arena, &options, ret))
                return false;
        if (!problem && filter_new(&options, &w->filter, why, 256))
                problem = why;
        if (problem)
                *ret = refusal_invalid(problem);
        return !problem;
}

static const char *take_source(const request_options *o, struct wish *w)
{
        switch (o->stream_option_case) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTION_STREAM:
                if (o->filter_option_case ==
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTION_FILTER)
                        return "only reads of all streams can be filtered";
                return selection_of_stream(o->stream, &w->at);
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__STREAM_OPTION_ALL:
                return selection_of_all(o->all, &w->at);
        default:
                return "stream_option is missing";
        }
}

static const char *take_manner(const request_options *o, struct wish *w)
{
        switch (o->count_option_case) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION_COUNT:
                w->limit = o->count;
                break;
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__COUNT_OPTION_SUBSCRIPTION:
                w->is_subscription = true;
                break;
        default:
                return "count_option is missing";
        }
        switch (o->read_direction) {
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__READ_DIRECTION__Forwards:
                break;
        case EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__READ_DIRECTION__Backwards:
                w->is_backward = true;
                break;
        default:
                return "read_direction is neither forwards nor backwards";
        }
        if (w->is_subscription && w->is_backward)
                return "a subscription goes forwards";
        if (!o->uuid_option ||
                o->uuid_option->content_case ==
                        EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT__NOT_SET)
                return "uuid_option is missing";
        w->is_uuid_text = o->uuid_option->content_case ==
                          EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__UUIDOPTION__CONTENT_STRING;
        w->resolves_links = o->resolve_links;
        w->knows_ends = o->control_option && o->control_option->compatibility >= 1;
        return NULL;
}

static bool take_wish(const request_options *o, struct arena *arena, struct wish *w, struct refusal *ret)
{
        const char *problem = take_manner(o, w);

        if (!problem)
                problem = take_source(o, w);
        if (problem) {
                *ret = refusal_invalid(problem);
                return false;
        }
        if (o->filter_option_case != EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__FILTER_OPTION_FILTER)
                return true;
        return take_filter(o->filter, arena, w, ret);
}

/* ---- beginning ---- */

/* What the ends of the stream are, for those who know them; asked before the read, as of whose beginning it
 * is. */
static int look_at_ends(struct reading *r, const struct wish *w)
{
        struct store_stream_info info;
        int result;

        if (!w->knows_ends || !w->at.stream.size)
                return 0;
        result = store_stream_info(gateway_store(r->kurrent->gateway), w->at.stream, &info);
        if (result == PERSISTENCE_CORRUPT)
                return STORE_READ_CORRUPT;
        if (result)
                return fault_fold(result);
        r->tells_ends = info.has_events;
        r->first_revision = info.first_revision;
        r->last_revision = info.last_revision;
        r->is_start_moved =
                info.first_revision > 0 || (w->at.from == FROM_NUMBER && w->at.number > info.last_revision);
        return 0;
}

static void begin_read(struct reading *r, struct wish *w)
{
        struct store_read_options options = {
                .stream = w->at.stream,
                .is_backward = w->is_backward,
                .from = w->at.from,
                .number = w->at.number,
                .limit = w->at.stream.size ? w->limit : UINT64_MAX,
                .filter = w->filter,
                .resolve_links = w->resolves_links,
                .on_ready = on_ready,
                .arg = r,
        };
        int result = look_at_ends(r, w);

        if (result) {
                filter_free(&options.filter);
                pause_reader(r, result);
                return;
        }
        result = store_reader_open(gateway_store(r->kurrent->gateway), &options, &r->reader);
        if (result)
                pause_reader(r, result);
        else
                pump(r);
}

static void publish_subscription(struct reading *r, const struct wish *w)
{
        static const char *const from[] = {
                [FROM_START] = "from the start", [FROM_END] = "from the end", [FROM_NUMBER] = "after"};
        struct fact_payload payload = {.position = w->at.number};

        if (w->at.stream.size)
                fact_set_stream(&payload, w->at.stream, name_hash(w->at.stream));
        fact_set_text(&payload, "%s, %s", from[w->at.from], gateway_peer(r->call));
        control_publish(r->kurrent->control, FACT_subscription_requested, &payload);
}

static void begin_subscription(struct reading *r, struct wish *w)
{
        struct subscription_options options = {
                .stream = w->at.stream,
                .from = w->at.from,
                .number = w->at.number,
                .filter = w->filter,
                .checkpoint_after = w->filter ? w->checkpoint_after : 0,
                .resolve_links = w->resolves_links,
                .name = selection_client_name(r->call),
                .peer = bytes_of_string(gateway_peer(r->call)),
                .on_readable = on_ready,
                .arg = r,
        };
        int result;

        if (!options.name.size)
                gateway_header(r->call, "user-agent", &options.name);
        publish_subscription(r, w);
        result = subscription_open(gateway_notification(r->kurrent->gateway), &options, &r->subscription);
        if (result) {
                pause_subscription(r, result);
                return;
        }
        send_confirmation(r);
        pump(r);
}

/* ---- what must be visible first ---- */

static void begin(struct reading *r, struct wish *w);

/* The wait that ended was for the first of what is still wanted. */
static void refuse_stale(struct reading *r, const struct wish *w, enum store_verdict verdict)
{
        struct refusal refusal = {.kind = REFUSAL_NOT_READY};

        if (verdict != STORE_NOT_READY && w->wants_confirmation)
                refusal.problem = "no majority of the voters confirmed in time who leads: read again";
        if (verdict != STORE_NOT_READY && !w->wants_confirmation) {
                refusal.kind = REFUSAL_NOT_HERE_YET;
                refusal.position = w->after;
        }
        refusal_end_call(r->kurrent, r->call, &refusal);
}

static void on_visible(struct store_wait *wait, enum store_verdict verdict)
{
        struct reading *r = wait->arg;
        struct gateway_request *call = r->call;
        struct wish *w = r->waiting;

        gateway_call_hold(call); /* it may end in here */
        if (verdict != STORE_OK) {
                refuse_stale(r, w, verdict);
                close_sources(r);
        } else {
                r->waiting = NULL;
                if (w->wants_confirmation)
                        w->wants_confirmation = false;
                else
                        w->has_after = false;
                begin(r, w);
        }
        gateway_call_release(call);
}

/* True: all of it is visible. */
static bool is_visible(struct reading *r, struct wish *w)
{
        struct store *store = gateway_store(r->kurrent->gateway);

        r->wait = (struct store_wait){.done = on_visible, .arg = r};
        if (w->wants_confirmation && !store_wait_linearizable(store, &r->wait, w->wait_until_us))
                return false;
        w->wants_confirmation = false;
        return !w->has_after || store_wait_position(store, &r->wait, w->after, w->wait_until_us);
}

static void begin(struct reading *r, struct wish *w)
{
        if (!is_visible(r, w)) {
                r->waiting = arena_get(gateway_arena(r->call), sizeof(*w));
                *r->waiting = *w;
        } else if (w->is_subscription) {
                begin_subscription(r, w);
        } else {
                begin_read(r, w);
        }
}

/* False: refused. */
static bool take_freshness(
        struct kurrent *k, const struct gateway_request *call, struct wish *w, struct refusal *ret)
{
        bool is_leading = store_is_leading(gateway_store(k->gateway));
        struct bytes text;

        if (!is_leading && call_requires_leader(call)) {
                *ret = (struct refusal){.kind = REFUSAL_NOT_LEADER};
                return false;
        }
        w->wants_confirmation = is_leading && !w->is_subscription;
        w->has_after = gateway_header(call, "nilo-after", &text);
        if (w->has_after && !bytes_to_number(text, &w->after)) {
                *ret = refusal_invalid("nilo-after is no position");
                return false;
        }
        /* Who has followed another node has seen a position that exists, though perhaps not yet here (G10).
         * At the leader a position behind the end was never given. */
        if (!w->has_after && !is_leading && w->is_subscription && !w->at.stream.size &&
                w->at.from == FROM_NUMBER) {
                w->has_after = true;
                w->after = w->at.number;
        }
        w->wait_until_us = os_turn_time(k->os).monotonic_us + (w->has_after ? WAIT_US : CONFIRM_US);
        return true;
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct arena *arena = gateway_arena(call);
        const EventStore__Client__Streams__ReadReq *request =
                message_unpack(&event_store__client__streams__read_req__descriptor, arena, message);
        struct refusal refusal = refusal_invalid("the request is malformed or has no options");
        struct wish wish = {.limit = UINT64_MAX};
        struct reading *r;

        if (!request || !request->options || !take_wish(request->options, arena, &wish, &refusal) ||
                !call_may(call, ACCESS_READ, wish.at.stream, &refusal) ||
                !take_freshness(k, call, &wish, &refusal)) {
                filter_free(&wish.filter);
                refusal_end_call(k, call, &refusal);
                return;
        }
        r = arena_get(arena, sizeof(*r));
        *r = (struct reading){.kurrent = k,
                .call = call,
                .stream = wish.at.stream,
                .limit = wish.at.stream.size ? UINT64_MAX : wish.limit};
        r->events.is_uuid_text = wish.is_uuid_text;
        gateway_call_set_state(call, r);
        gateway_keep_asking(call, ACCESS_READ, wish.at.stream.size ? wish.at.stream : BYTES_LITERAL("$all"));
        begin(r, &wish);
}

void read_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.streams.Streams",
                .name = "Read",
                .features = "position events",
                .access = ACCESS_STREAM,
                .message_size_max = READ_MESSAGE_SIZE_MAX,
                .on_message = on_message,
                .on_writable = on_writable,
                .on_gone = on_gone,
        };
}
