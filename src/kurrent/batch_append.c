/* Streams/BatchAppend: many appends over one long call, each known by its correlation id. An append comes in
 * one message or in several; its options in the first, is_final in the last. Errors are answers within the
 * call, so that the other appends go on; each append is answered once, and what still comes of a refused one
 * is ignored.
 *
 * Bounds of a call: UNFINISHED_MAX appends begun and not ended, IN_FLIGHT_MAX handed to the store and not
 * answered; beyond the latter, or while the client does not read its answers, no further message is taken. */
#include <stdlib.h>

#include "kurrent/room.h"

enum { UNFINISHED_MAX = 1000, IN_FLIGHT_MAX = 1024 };

struct batch_call {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct list unfinished;
        unsigned unfinished_count;
        unsigned in_flight;
        const struct in_flight *at_hand; /* being handed to the store, with its events */
        const struct store_append_event *at_hand_events;
        bool is_paused;
        bool is_half_closed;
        bool is_over;
};

/* An append whose last message has not come, or one that was refused before it. */
struct unfinished {
        struct list link;
        struct batch_call *batch;
        struct wire_asked asked; /* the name in drafts.arena */
        uint64_t deadline_us;    /* monotonic; 0: has passed */
        struct drafts drafts;
        bool is_refused;
};

/* An append that the store has. */
struct in_flight {
        struct batch_call *batch;
        struct wire_asked asked; /* the name behind this struct */
        uint8_t name[];
};

/* ---- balance ---- */

static void balance(struct batch_call *b)
{
        bool has_room;

        if (b->is_over)
                return;
        has_room = gateway_stream_room(b->call) > 0;
        if (!b->is_paused && (b->in_flight >= IN_FLIGHT_MAX || !has_room)) {
                b->is_paused = true;
                gateway_call_pause(b->call, true);
        } else if (b->is_paused && b->in_flight <= IN_FLIGHT_MAX / 2 && has_room) {
                b->is_paused = false;
                gateway_call_pause(b->call, false);
        }
}

/* ---- unfinished appends ---- */

static void unfinished_free(struct unfinished *u)
{
        drafts_fini(&u->drafts);
        list_remove(&u->link);
        u->batch->unfinished_count--;
        free(u);
}

static void drop_unfinished(struct batch_call *b)
{
        LIST_EACH_SAFE (at, &b->unfinished)
                unfinished_free(CONTAINER_OF(at, struct unfinished, link));
}

static struct unfinished *find_unfinished(struct batch_call *b, const struct wire_uuid *correlation)
{
        LIST_EACH (at, &b->unfinished) {
                struct unfinished *u = CONTAINER_OF(at, struct unfinished, link);

                if (event_id_equal(&u->asked.correlation.id, &correlation->id))
                        return u;
        }
        return NULL;
}

static void end_call(struct batch_call *b, const struct refusal *refusal)
{
        b->is_over = true;
        drop_unfinished(b);
        refusal_end_call(b->kurrent, b->call, refusal);
}

static void send_refusal(struct batch_call *b, const struct wire_asked *asked, const struct refusal *refusal)
{
        /* That this node takes no writes concerns the whole call: the client looks for another node. */
        if (refusal->kind == REFUSAL_NOT_READY || refusal->kind == REFUSAL_NOT_LEADER) {
                end_call(b, refusal);
                return;
        }
        refusal_send_batch(b->call, asked, refusal);
        balance(b);
}

static void on_idle(struct drafts *drafts)
{
        struct unfinished *u = CONTAINER_OF(drafts, struct unfinished, drafts);
        struct refusal refusal = {.kind = REFUSAL_TIMEOUT};

        u->is_refused = true;
        refusal_send_batch(u->batch->call, &u->asked, &refusal);
        balance(u->batch);
        u->asked.stream = BYTES_EMPTY;
        drafts_fini(&u->drafts);
}

/* NULL: there are too many, and the call has ended. */
static struct unfinished *unfinished_new(struct batch_call *b, const struct wire_asked *asked)
{
        struct unfinished *u;

        if (b->unfinished_count == UNFINISHED_MAX) {
                struct refusal refusal = {.kind = REFUSAL_EXHAUSTED,
                        .problem = "too many unfinished appends in one call",
                        .limit = UNFINISHED_MAX};

                end_call(b, &refusal);
                return NULL;
        }
        u = MEMORY_NEW(struct unfinished);
        u->batch = b;
        drafts_init(&u->drafts, b->kurrent, on_idle);
        u->asked = *asked;
        u->asked.stream = arena_copy(&u->drafts.arena, asked->stream);
        list_add_last(&b->unfinished, &u->link);
        b->unfinished_count++;
        return u;
}

/* ---- deadlines ---- */

/* How long from now the client waits; 0: it waits no more. Times of the far future are common and only mean
 * "long". */
static uint64_t patience_us(struct kurrent *k, const struct wire_options *o)
{
        int64_t seconds = o->deadline_seconds;
        uint64_t us;
        uint64_t now = 0;

        if (o->deadline == WIRE_DEADLINE_NONE)
                return WRITE_TIMEOUT_US;
        if (seconds < 0 || (seconds == 0 && o->deadline_nanos <= 0))
                return 0;
        us = (uint64_t)MIN(seconds, INT64_MAX / 4000000) * 1000000;
        if (o->deadline_nanos > 0)
                us += (uint32_t)o->deadline_nanos / 1000;
        if (o->deadline == WIRE_DEADLINE_AT)
                now = os_turn_time(k->os).wall_us;
        return us <= now ? 0 : MIN(us - now, (uint64_t)WRITE_TIMEOUT_US);
}

static uint64_t deadline_of(struct kurrent *k, const struct wire_options *o)
{
        uint64_t patience = patience_us(k, o);

        return patience ? os_turn_time(k->os).monotonic_us + patience : 0;
}

/* ---- answers ---- */

static void end_if_done(struct batch_call *b)
{
        if (!b->is_half_closed || b->in_flight || b->is_over)
                return;
        b->is_over = true;
        gateway_call_end(b->call, GRPC_OK, NULL);
}

static void answer(struct in_flight *f, const struct store_append_result *result)
{
        struct batch_call *b = f->batch;

        if (result->verdict == STORE_OK) {
                struct wire_success success = {.outcome = result->streams[0],
                        .has_position = result->has_position,
                        .position = result->position};

                wire_out_batch(&f->asked, &success, gateway_message_begin(b->call));
                gateway_message_end(b->call);
                balance(b);
        } else {
                const struct store_append_event *events = b->at_hand == f ? b->at_hand_events : NULL;
                struct refusal refusal = refusal_of(result, f->asked.stream, f->asked.expected, events);

                send_refusal(b, &f->asked, &refusal);
        }
}

static void on_done(void *arg, const struct store_append_result *result)
{
        struct in_flight *f = arg;
        struct batch_call *b = f->batch;
        struct gateway_request *call = b->call;

        b->in_flight--;
        if (!b->is_over)
                answer(f, result);
        end_if_done(b);
        free(f);
        gateway_call_release(call);
}

/* All of it has come. */
static void submit(
        struct batch_call *b, const struct wire_asked *asked, uint64_t deadline_us, struct drafts *drafts)
{
        struct in_flight *f;

        if (!deadline_us || deadline_us <= os_turn_time(b->kurrent->os).monotonic_us) {
                struct refusal refusal = {.kind = REFUSAL_TIMEOUT, .stream = asked->stream};

                send_refusal(b, asked, &refusal);
                return;
        }
        f = memory_new(sizeof(*f) + asked->stream.size);
        f->batch = b;
        f->asked = *asked;
        if (asked->stream.size)
                memcpy(f->name, asked->stream.data, asked->stream.size);
        f->asked.stream = bytes_of(f->name, asked->stream.size);
        b->in_flight++;
        b->at_hand = f;
        b->at_hand_events = drafts_events(drafts);
        gateway_call_hold(b->call);
        drafts_append(drafts, b->call, f->asked.stream, asked->expected, deadline_us, on_done, f);
        b->at_hand = NULL;
        balance(b);
}

/* ---- messages ---- */

/* Adds the message's events; false: refused. */
static bool add_all(struct drafts *drafts, struct bytes message, struct refusal *ret_refusal)
{
        struct wire_in in = wire_in(message);
        struct bytes proposed;

        while (wire_next_proposed(&in, &proposed))
                if (!drafts_add(drafts, proposed, ret_refusal))
                        return false;
        return true;
}

/* The usual case: nothing is copied before the store does. */
static void take_whole(struct batch_call *b, const struct wire_asked *asked, const struct wire_batch *request,
        struct bytes message)
{
        struct drafts drafts;
        struct refusal refusal;

        drafts_init_borrowing(&drafts, b->kurrent);
        buffer_reserve(drafts.events, MIN(request->proposed_count, (unsigned)LIMIT_APPEND_EVENTS_MAX) *
                                              sizeof(struct store_append_event));
        if (add_all(&drafts, message, &refusal))
                submit(b, asked, deadline_of(b->kurrent, &request->options), &drafts);
        else
                send_refusal(b, asked, &refusal);
        drafts_fini(&drafts);
}

static void refuse_unfinished(struct unfinished *u, struct refusal *refusal)
{
        struct batch_call *b = u->batch;

        u->is_refused = true;
        refusal->stream = u->asked.stream;
        send_refusal(b, &u->asked, refusal);
        if (b->is_over)
                return;
        /* What it held is given back now; the rest remembers to ignore what still comes. */
        u->asked.stream = BYTES_EMPTY;
        drafts_fini(&u->drafts);
}

static void take_part(struct unfinished *u, struct bytes message, bool is_final)
{
        struct batch_call *b = u->batch;
        struct refusal refusal;
        struct bytes held;

        /* The right may have gone since the first part. */
        if (!drafts_hold(&u->drafts, message, &held, &refusal) || !add_all(&u->drafts, held, &refusal) ||
                (is_final && !call_may(b->call, ACCESS_WRITE, u->asked.stream, &refusal)))
                refuse_unfinished(u, &refusal);
        else if (is_final)
                submit(b, &u->asked, u->deadline_us, &u->drafts);
        if (is_final && !b->is_over)
                unfinished_free(u);
}

static void refuse_first(
        struct batch_call *b, const struct wire_asked *asked, const struct refusal *refusal, bool is_final)
{
        struct unfinished *u;

        send_refusal(b, asked, refusal);
        if (is_final || b->is_over)
                return;
        u = unfinished_new(b, asked);
        if (u)
                u->is_refused = true;
}

static void take_first(struct batch_call *b, const struct wire_batch *request, struct bytes message)
{
        struct wire_asked asked = {
                .correlation = request->correlation,
                .stream = request->options.stream,
                .has_expected = request->options.has_expected,
                .expected = request->options.expected,
        };
        struct refusal refusal;
        struct unfinished *u;

        if (!request->has_options) {
                refusal = refusal_invalid("the first message of an append holds its options");
                refuse_first(b, &asked, &refusal, request->is_final);
                return;
        }
        if (!options_are_complete(&request->options, &refusal) ||
                !call_may(b->call, ACCESS_WRITE, request->options.stream, &refusal)) {
                refuse_first(b, &asked, &refusal, request->is_final);
                return;
        }
        if (request->is_final) {
                take_whole(b, &asked, request, message);
                return;
        }
        u = unfinished_new(b, &asked);
        if (!u)
                return;
        u->deadline_us = deadline_of(b->kurrent, &request->options);
        take_part(u, message, false);
}

static void take_next(struct unfinished *u, const struct wire_batch *request, struct bytes message)
{
        if (u->is_refused) {
                if (request->is_final)
                        unfinished_free(u);
        } else if (request->has_options) {
                struct batch_call *b = u->batch;
                struct refusal refusal = refusal_invalid("the options came twice");

                refuse_unfinished(u, &refusal);
                if (request->is_final && !b->is_over)
                        unfinished_free(u);
        } else {
                take_part(u, message, request->is_final);
        }
}

static struct batch_call *batch_of(struct kurrent *k, struct gateway_request *call)
{
        struct batch_call *b = gateway_call_state(call);

        if (b)
                return b;
        b = arena_get(gateway_arena(call), sizeof(*b));
        *b = (struct batch_call){.kurrent = k, .call = call};
        list_init(&b->unfinished);
        gateway_call_set_state(call, b);
        return b;
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct batch_call *b = batch_of(arg, call);
        struct wire_batch request;
        struct unfinished *u;
        struct refusal refusal;

        if (wire_in_batch(message, &request) || !request.has_correlation) {
                refusal = refusal_invalid("a message of the batch is malformed or has no correlation_id");
                end_call(b, &refusal);
                return;
        }
        u = find_unfinished(b, &request.correlation);
        if (u)
                take_next(u, &request, message);
        else
                take_first(b, &request, message);
}

static void on_half_close(void *arg, struct gateway_request *call)
{
        struct batch_call *b = batch_of(arg, call);

        b->is_half_closed = true;
        while (!list_is_empty(&b->unfinished)) {
                struct unfinished *u = CONTAINER_OF(b->unfinished.next, struct unfinished, link);

                if (!u->is_refused) {
                        struct refusal refusal = refusal_invalid("the call ended before the append did");

                        refusal_send_batch(call, &u->asked, &refusal);
                }
                unfinished_free(u);
        }
        end_if_done(b);
}

static void on_writable(void *arg, struct gateway_request *call)
{
        struct batch_call *b = gateway_call_state(call);

        (void)arg;
        if (b)
                balance(b);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct batch_call *b = gateway_call_state(call);

        (void)arg;
        if (!b)
                return;
        b->is_over = true;
        drop_unfinished(b);
}

void batch_append_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.streams.Streams",
                .name = "BatchAppend",
                .features = "deadline_duration",
                .access = ACCESS_STREAM,
                .message_size_max = GRPC_MESSAGE_SIZE_MAX,
                .is_client_stream = true,
                .on_message = on_message,
                .on_half_close = on_half_close,
                .on_writable = on_writable,
                .on_gone = on_gone,
        };
}
