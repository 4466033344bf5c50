/* Reads that go on, as server-sent events (HTML standard, section 9.2): history first, then live, one cursor,
 * so nothing is missing and nothing comes twice (G10).
 *
 * The id of an event is its revision, or its position among all streams; Last-Event-ID goes on behind it.
 * Marks are named events: `caught-up` once, when history is done; `checkpoint` now and then when a filter
 * passes over much; `deleted` and `problem` before the end. A checkpoint's id comes in a frame of its own
 * without data, which moves a browser's Last-Event-ID without being an event: only what has an id and data is
 * an event of the log. */
#include "api/room.h"

#include <stdio.h>

struct follow {
        struct feed feed;
        struct subscription *subscription;
        uint64_t left; /* events until the follow ends by itself */
};

/* ---- frames ---- */

static void add_mark(struct follow *f, const char *name, const struct subscription_item *item)
{
        struct json_out j = {.out = &f->feed.piece};
        char time[TIME_TEXT_SIZE];

        time_format(item->time_us, time);
        buffer_format(&f->feed.piece, "event: %s\ndata: ", name);
        json_object_begin(&j);
        if (item->has_position)
                json_field_u64(&j, "position", item->position);
        if (item->has_revision)
                json_field_u64(&j, "revision", item->revision);
        json_field_string(&j, "time", time);
        json_object_end(&j);
        buffer_add_string(&f->feed.piece, "\n\n");
}

static void add_item(struct follow *f, const struct subscription_item *item)
{
        struct json_out j = {.out = &f->feed.piece};

        switch (item->kind) {
        case ITEM_CAUGHT_UP:
                add_mark(f, "caught-up", item);
                return;
        case ITEM_CHECKPOINT:
                buffer_format(&f->feed.piece, "id: %llu\n\n", (unsigned long long)item->position);
                add_mark(f, "checkpoint", item);
                return;
        case ITEM_EVENT:
                buffer_format(&f->feed.piece,
                        "id: %llu\ndata: ", (unsigned long long)item_number(f->feed.call, &item->event));
                event_to_json(&j, &item->event, true);
                buffer_add_string(&f->feed.piece, "\n\n");
                f->left--;
        }
}

static void add_problem(
        struct follow *f, const char *event, const struct gateway_problem *problem, const char *detail)
{
        struct json_out j = {.out = &f->feed.piece};

        buffer_format(&f->feed.piece, "event: %s\ndata: ", event);
        json_object_begin(&j);
        feed_problem_to_json(&j, problem, detail);
        json_object_end(&j);
        buffer_add_string(&f->feed.piece, "\n\n");
}

/* ---- life ---- */

static void dispose(struct follow *f)
{
        subscription_close(&f->subscription);
        feed_fini(&f->feed);
}

static void finish(struct follow *f)
{
        struct gateway_request *request = f->feed.call->request;

        feed_send(&f->feed);
        dispose(f);
        gateway_stream_end(request);
}

static void finish_for(struct follow *f, int outcome)
{
        static const struct gateway_problem deleted = {
                .status = 410,
                .code = "stream-deleted",
                .title = "The stream is deleted for good",
                .next = "Choose another name",
        };
        static const struct gateway_problem costly = {
                .status = 422,
                .code = "filter-too-costly",
                .title = "The filter takes too long",
                .next = "simplify the pattern or use a prefix",
        };
        static const struct gateway_problem corrupt = {
                .status = 500,
                .code = "corrupt",
                .title = "Stored bytes are damaged",
                .next = "run `nilo verify`; everything outside the damaged range is readable",
        };
        static const struct gateway_problem fault = {
                .status = 500,
                .code = "fault",
                .title = "The read failed",
                .next = "see the server's log",
        };

        switch (outcome) {
        case SUBSCRIPTION_STOPPED:
                buffer_add_string(&f->feed.piece, ": the server stops; come back with Last-Event-ID\n\n");
                break;
        case SUBSCRIPTION_DELETED:
                add_problem(f, "deleted", &deleted, "it was tombstoned; no event will ever follow");
                break;
        case SUBSCRIPTION_TOO_COSTLY:
                add_problem(
                        f, "problem", &costly, "the regular expression exceeds the match limit on an event");
                break;
        case SUBSCRIPTION_CORRUPT:
                add_problem(f, "problem", &corrupt, "what follows cannot be read");
                break;
        default:
                add_problem(f, "problem", &fault, fault_last());
        }
        finish(f);
}

static void on_readable(void *arg)
{
        struct follow *f = arg;

        gateway_stream_wake(f->feed.call->request);
}

/* The next item that may be shown. */
static int next_visible(struct follow *f, struct subscription_item *ret)
{
        struct call *c = f->feed.call;

        for (unsigned hidden = 0; hidden < HIDDEN_OF_TURN_MAX; hidden++) {
                int r = subscription_next(f->subscription, ret);

                if (r || ret->kind != ITEM_EVENT)
                        return r;
                if (!c->stream.size && call_hides(c, &ret->event))
                        continue;
                call_hide_target(c, &ret->event);
                return 0;
        }
        return SUBSCRIPTION_YIELD;
}

static void on_writable(void *arg, struct gateway_request *request)
{
        struct follow *f = arg;

        while (gateway_stream_room(request) > 0) {
                while (f->feed.piece.size < PIECE_SIZE && f->left) {
                        struct subscription_item item;
                        int r = next_visible(f, &item);

                        if (r == SUBSCRIPTION_WAIT || r == SUBSCRIPTION_YIELD) {
                                feed_send(&f->feed);
                                if (r == SUBSCRIPTION_YIELD)
                                        gateway_stream_wake(request);
                                return;
                        }
                        if (r) {
                                finish_for(f, r);
                                return;
                        }
                        add_item(f, &item);
                }
                if (!f->left) {
                        finish(f);
                        return;
                }
                feed_send(&f->feed);
        }
        subscription_ease(f->subscription);
}

static void on_close(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

/* ---- the beginning ---- */

static void refuse(struct call *c, int outcome, uint64_t number)
{
        uint64_t next = store_next_position(c->store);

        switch (outcome) {
        case SUBSCRIPTION_LIMIT:
                call_refuse(c, 503, "busy", "There are too many subscriptions",
                        "try again later, or end some",
                        "the server has as many subscriptions as it may have");
                return;
        case SUBSCRIPTION_STOPPED:
                call_refuse(c, 503, "not-ready", "The server is stopping", "try again in a second",
                        "no new subscriptions are taken");
                return;
        case SUBSCRIPTION_INVALID:
                call_refuse_bad(c, "begin at from=end to get only what comes",
                        "%llu lies behind the end: the next event gets position %llu",
                        (unsigned long long)number, (unsigned long long)next);
                return;
        case SUBSCRIPTION_DELETED:
                call_refuse_state(c);
                return;
        case SUBSCRIPTION_CORRUPT:
                call_refuse_read(c, STORE_READ_CORRUPT, "");
                return;
        default:
                call_refuse_read(c, fault_fold(outcome), "");
        }
}

/* The place that the client has seen last: false if it names none; refused: *ret_is_refused. */
static bool last_event_id(struct call *c, uint64_t *ret, bool *ret_is_refused)
{
        struct bytes text;

        *ret_is_refused = false;
        if (!gateway_header(c->request, "last-event-id", &text) &&
                !gateway_query(c->request, "last-event-id", &text))
                return false;
        if (!text.size) /* a browser that has seen none */
                return false;
        if (bytes_to_number(text, ret))
                return true;
        call_refuse_bad(c, "send the id of the last event that you have seen",
                "Last-Event-ID '%.*s' is no number", SHOWN(text));
        *ret_is_refused = true;
        return false;
}

/* Subscriptions begin behind a number; reads begin at one. */
static void place(struct read_query *q, struct subscription_options *o)
{
        o->from = q->from;
        o->number = q->number;
        if (q->from == FROM_NUMBER && q->number == 0)
                o->from = FROM_START;
        else if (q->from == FROM_NUMBER)
                o->number = q->number - 1;
}

static bool follow_options(struct call *c, struct read_query *q, struct subscription_options *o)
{
        bool is_refused;

        if (q->is_backward) {
                call_refuse_bad(
                        c, "leave direction out, or ask for JSON", "a stream is followed forward only");
                return false;
        }
        place(q, o);
        if (last_event_id(c, &o->number, &is_refused))
                o->from = FROM_NUMBER;
        if (is_refused)
                return false;
        o->stream = c->stream;
        o->filter = q->filter;
        o->checkpoint_after = q->filter ? CHECKPOINT_AFTER : 0;
        o->resolve_links = q->resolve_links;
        q->filter = NULL;
        return true;
}

/* A browser comes back to a stream that has ended, but not to one that is refused. */
static bool is_tombstoned(struct call *c)
{
        struct store_stream_info info;

        return c->stream.size && !store_stream_info(c->store, c->stream, &info) &&
               info.state == STREAM_TOMBSTONED;
}

void follow_begin(struct call *c, struct read_query *q)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct follow *f = arena_get(call_arena(c), sizeof *f);
        struct subscription_options options = {
                .name = call_client_name(c),
                .peer = bytes_of_string(gateway_peer(c->request)),
                .on_readable = on_readable,
                .arg = f,
        };
        struct fact_payload payload = {0};
        int r;

        *f = (struct follow){.left = q->limit};
        feed_init(&f->feed, c, ": keep-alive\n\n");
        if (is_tombstoned(c)) {
                call_refuse_state(c);
                return;
        }
        if (!follow_options(c, q, &options))
                return;
        fact_set_stream(&payload, c->stream.size ? c->stream : BYTES_LITERAL("$all"), name_hash(c->stream));
        fact_set_text(&payload, "http");
        control_publish(c->api->control, FACT_subscription_requested, &payload);
        r = subscription_open(gateway_notification(c->api->gateway), &options, &f->subscription);
        if (r) {
                refuse(c, r, options.number);
                return;
        }
        if (call_is_head(c)) {
                dispose(f);
                gateway_reply(c->request, 200, "text/event-stream", BYTES_EMPTY, feed_headers,
                        COUNT_OF(feed_headers));
                return;
        }
        buffer_add_string(&f->feed.piece, "retry: 1000\n\n");
        feed_begin(&f->feed, "text/event-stream", &handler, f);
}
