/* Consumers of durable subscriptions: a stream of events, as server-sent events or NDJSON, that lives as long
 * as its connection, and calls beside it that acknowledge or refuse what it was given.
 *
 * The first thing in the stream is the consumer's token. It names the consumer in `ack` and `nack`, and
 * cannot be guessed: its first half is where the consumer stands, the second is random.
 *
 *   GET .../events ---> consumer_open, token, events while the window has room
 *   POST .../ack -----> consumer_ack -> on_readable -> gateway_stream_wake -> more events
 *
 * What is in flight when the connection ends is delivered again, to this or another consumer. */
#include "api/room.h"

#include <stdio.h>

enum { CONSUMERS_MAX = 20000, SECRET_SIZE = 16, TOKEN_SIZE = 8 + 2 * SECRET_SIZE };

struct consuming {
        struct feed feed;
        struct consumer *consumer;
        char token[TOKEN_SIZE + 1];
        unsigned place; /* in api.consumers */
        bool is_lines;
        bool is_waiting; /* on_readable will come */
        bool is_limited;
        uint64_t left;    /* events still to give */
        uint64_t unended; /* of `limit`: not yet acknowledged or refused */
};

/* ---- tokens ---- */

static bool take_place(struct consuming *k)
{
        struct api *api = k->feed.call->api;
        uint8_t secret[SECRET_SIZE];
        char *at = k->token;

        if (api->consumer_count == CONSUMERS_MAX)
                return false;
        if (api->consumer_count == api->consumer_capacity) {
                unsigned capacity = api->consumer_capacity ? api->consumer_capacity * 2 : 16;

                api->consumers = memory_resize(api->consumers, capacity * sizeof *api->consumers);
                for (unsigned i = api->consumer_capacity; i < capacity; i++)
                        api->consumers[i] = NULL;
                k->place = api->consumer_capacity;
                api->consumer_capacity = capacity;
        }
        while (api->consumers[k->place])
                k->place++;
        api->consumers[k->place] = k;
        api->consumer_count++;
        os_random(api->os, secret, sizeof secret);
        at += snprintf(at, 9, "%08x", k->place);
        for (unsigned i = 0; i < SECRET_SIZE; i++)
                at += snprintf(at, 3, "%02x", secret[i]);
        return true;
}

static void leave_place(struct consuming *k)
{
        struct api *api = k->feed.call->api;

        if (api->consumers && k->place < api->consumer_capacity && api->consumers[k->place] == k) {
                api->consumers[k->place] = NULL;
                api->consumer_count--;
        }
}

static struct consuming *find(struct call *c, struct bytes token)
{
        struct api *api = c->api;
        struct consuming *k;
        uint64_t place = 0;

        if (token.size != TOKEN_SIZE)
                return NULL;
        for (unsigned i = 0; i < 8; i++) {
                static const char digits[] = "0123456789abcdef";
                const char *digit = token.data[i] ? strchr(digits, token.data[i]) : NULL;

                if (!digit)
                        return NULL;
                place = place * 16 + (uint64_t)(digit - digits);
        }
        k = place < api->consumer_capacity ? api->consumers[place] : NULL;
        if (!k || !bytes_equal_string(token, k->token) || !bytes_equal(k->feed.call->stream, c->stream) ||
                !bytes_equal(k->feed.call->group, c->group))
                return NULL;
        return k;
}

/* ---- what is sent ---- */

static void add_begin(struct consuming *k, const char *name)
{
        if (k->is_lines)
                return;
        if (name)
                buffer_format(&k->feed.piece, "event: %s\n", name);
        buffer_add_string(&k->feed.piece, "data: ");
}

static void add_end(struct consuming *k)
{
        buffer_add_string(&k->feed.piece, k->is_lines ? "\n" : "\n\n");
}

/* The paths to acknowledge by stand beside that of the stream. */
static void path_to_json(struct consuming *k, struct json_out *j, const char *verb)
{
        struct bytes path = gateway_path(k->feed.call->request);
        struct buffer out = {0};

        buffer_add(&out, path.data, path.size - strlen("events"));
        buffer_add_string(&out, verb);
        json_field_bytes(j, verb, buffer_bytes(&out));
        buffer_fini(&out);
}

static void add_token(struct consuming *k, uint64_t window)
{
        struct json_out j = {.out = &k->feed.piece};

        add_begin(k, "consumer");
        json_object_begin(&j);
        json_field_string(&j, "consumer", k->token);
        json_field_u64(&j, "window", window);
        path_to_json(k, &j, "ack");
        path_to_json(k, &j, "nack");
        json_object_end(&j);
        add_end(k);
}

static void add_message(struct consuming *k, struct consumer_message *m)
{
        struct json_out j = {.out = &k->feed.piece};
        char id[EVENT_ID_TEXT_SIZE + 1];

        call_hide_target(k->feed.call, &m->item);
        event_id_format(&item_place(&m->item)->id, id);
        add_begin(k, NULL);
        json_object_begin(&j);
        json_field_string(&j, "ack_id", id);
        json_field_u64(&j, "retry_count", m->retry_count);
        json_key(&j, "event");
        event_to_json(&j, &m->item, true);
        json_object_end(&j);
        add_end(k);
}

static void add_problem(struct consuming *k, const struct gateway_problem *problem, const char *detail)
{
        struct json_out j = {.out = &k->feed.piece};

        add_begin(k, "problem");
        json_object_begin(&j);
        if (k->is_lines) {
                json_key(&j, "problem");
                json_object_begin(&j);
        }
        feed_problem_to_json(&j, problem, detail);
        if (k->is_lines)
                json_object_end(&j);
        json_object_end(&j);
        add_end(k);
}

/* ---- life ---- */

static void dispose(struct consuming *k)
{
        leave_place(k);
        consumer_close(&k->consumer);
        feed_fini(&k->feed);
}

static void finish(struct consuming *k)
{
        struct gateway_request *request = k->feed.call->request;

        feed_send(&k->feed);
        dispose(k);
        gateway_stream_end(request);
}

static void finish_for(struct consuming *k, int outcome)
{
        static const struct gateway_problem dropped = {
                .status = 503,
                .code = "dropped",
                .title = "The consumer was dropped",
                .next = "connect again: what was not acknowledged is delivered again",
        };
        static const struct gateway_problem gone = {
                .status = 404,
                .code = "not-found",
                .title = "The subscription was deleted",
                .next = "create it again, or use another",
        };
        static const struct gateway_problem fault = {
                .status = 500,
                .code = "fault",
                .title = "The delivery failed",
                .next = "see the server's log",
        };

        if (outcome == CONSUMER_DROPPED)
                add_problem(k, &dropped, consumer_problem(k->consumer));
        else if (outcome == CONSUMER_GONE)
                add_problem(k, &gone, consumer_problem(k->consumer));
        else
                add_problem(k, &fault, fault_last());
        finish(k);
}

/* All that its limit allows was given, and acknowledged or refused. */
static bool has_ended(const struct consuming *k)
{
        return k->is_limited && !k->unended;
}

/* Once its limit is given nothing is asked for any more, so nothing tells that it was dropped. */
static bool is_dropped_unseen(const struct consuming *k)
{
        return !k->left && *consumer_problem(k->consumer);
}

static bool on_look(struct feed *feed)
{
        struct consuming *k = CONTAINER_OF(feed, struct consuming, feed);

        if (!is_dropped_unseen(k))
                return true;
        finish_for(k, CONSUMER_DROPPED);
        return false;
}

static void on_readable(void *arg)
{
        struct consuming *k = arg;

        k->is_waiting = false;
        gateway_stream_wake(k->feed.call->request);
}

static void on_writable(void *arg, struct gateway_request *request)
{
        struct consuming *k = arg;

        while (!has_ended(k) && gateway_stream_room(request) > 0) {
                while (k->feed.piece.size < PIECE_SIZE && k->left && !k->is_waiting) {
                        struct consumer_message message;
                        int r = consumer_next(k->consumer, &message);

                        if (r == CONSUMER_WAIT) {
                                k->is_waiting = true;
                        } else if (r) {
                                finish_for(k, r);
                                return;
                        } else {
                                add_message(k, &message);
                                k->left--;
                        }
                }
                feed_send(&k->feed);
                if (k->is_waiting || !k->left)
                        break;
        }
        if (has_ended(k))
                finish(k);
        else if (is_dropped_unseen(k))
                finish_for(k, CONSUMER_DROPPED);
}

static void on_close(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

/* ---- the beginning ---- */

static void refuse(struct call *c, enum emitter_verdict verdict)
{
        if (verdict == EMITTER_LIMIT)
                call_refuse(c, 503, "busy", "There are too many consumers",
                        "try again later, or raise max_subscriber_count",
                        "the group '%.*s' of %.*s has as many consumers as it may have", SHOWN(c->group),
                        SHOWN(c->stream));
        else
                call_refuse_emitter(c, verdict, "");
}

static enum emitter_verdict open_consumer(struct consuming *k, uint64_t window)
{
        struct call *c = k->feed.call;
        const struct principal *who = gateway_principal(c->request);
        struct consumer_options options = {
                .stream = c->stream,
                .group = c->group,
                .window = (uint32_t)window,
                .name = call_client_name(c),
                .peer = bytes_of_string(gateway_peer(c->request)),
                .user = who ? bytes_of_string(principal_login(who)) : BYTES_LITERAL("anonymous"),
                .on_readable = on_readable,
                .arg = k,
        };

        return consumer_open(c->api->emitter, &options, &k->consumer);
}

void handle_consume(struct call *c)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct consuming *k = arena_get(call_arena(c), sizeof *k);
        const char *media;
        enum emitter_verdict verdict;
        uint64_t window;

        *k = (struct consuming){.is_lines = call_form(c) != FORM_EVENTS};
        feed_init(&k->feed, c, k->is_lines ? "\n" : ": keep-alive\n\n");
        k->feed.on_look = on_look;
        if (!query_number(c, "window", 1, WINDOW_MAX, WINDOW_DEFAULT, &window) ||
                !query_number(c, "limit", 1, UINT64_MAX, UINT64_MAX, &k->left))
                return;
        k->is_limited = k->left != UINT64_MAX;
        k->unended = k->left;
        media = k->is_lines ? "application/x-ndjson" : "text/event-stream";
        if (call_is_head(c)) {
                gateway_reply(c->request, 200, media, BYTES_EMPTY, feed_headers, COUNT_OF(feed_headers));
                return;
        }
        verdict = open_consumer(k, window);
        if (verdict) {
                refuse(c, verdict);
                return;
        }
        if (!take_place(k)) {
                dispose(k);
                call_refuse(c, 503, "busy", "There are too many consumers", "try again later, or end some",
                        "the server has as many consumers over HTTP as it may have");
                return;
        }
        add_token(k, window);
        feed_begin(&k->feed, media, &handler, k);
}

void consumers_stop(struct api *api)
{
        for (unsigned i = 0; i < api->consumer_capacity; i++) {
                struct consuming *k = api->consumers[i];

                if (k && !k->left)
                        gateway_stream_wake(k->feed.call->request);
        }
}

/* ---- acknowledgement ---- */

struct finishing {
        struct bytes token;
        struct event_id *ids;
        unsigned count;
        enum nack_action action;
        struct bytes reason;
};

static bool read_ids(struct call *c, struct json_in *in, struct finishing *f)
{
        /* No id takes less: "",  and what is in the quotes. */
        size_t most = (size_t)(in->end - in->at) / (EVENT_ID_TEXT_SIZE + 2) + 1;
        bool is_empty;
        bool has_more;

        f->ids = arena_get(call_arena(c), most * sizeof *f->ids);
        f->count = 0;
        if (!json_in_open(in, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                const uint8_t *start = in->at;
                struct bytes text;

                if (!json_in_string(in, call_arena(c), &text))
                        return false;
                if (!event_id_parse(text, &f->ids[f->count]))
                        return json_in_fail(in, start, "this is no UUID");
                f->count++;
                if (!json_in_more(in, '[', &has_more))
                        return false;
        }
        return true;
}

static bool read_action(struct call *c, struct json_in *in, enum nack_action *ret)
{
        static const char *const names[] = {
                [NACK_PARK] = "park", [NACK_RETRY] = "retry", [NACK_SKIP] = "skip", [NACK_STOP] = "stop"};
        const uint8_t *start = in->at;
        struct bytes text;

        if (!json_in_string(in, call_arena(c), &text))
                return false;
        for (unsigned i = NACK_PARK; i < COUNT_OF(names); i++) {
                if (bytes_equal_string(text, names[i])) {
                        *ret = (enum nack_action)i;
                        return true;
                }
        }
        return json_in_fail(in, start, "'%.*s' is none of retry, park, skip and stop", SHOWN(text));
}

static bool read_field(struct call *c, struct json_in *in, struct finishing *f, bool is_nack)
{
        const char *known = is_nack ? "consumer ids action reason" : "consumer ids";
        const uint8_t *start = in->at;
        struct bytes key;
        char nearest[64];

        if (!json_in_key(in, call_arena(c), &key))
                return false;
        if (bytes_equal_string(key, "consumer"))
                return json_in_string(in, call_arena(c), &f->token);
        if (bytes_equal_string(key, "ids"))
                return read_ids(c, in, f);
        if (is_nack && bytes_equal_string(key, "action"))
                return read_action(c, in, &f->action);
        if (is_nack && bytes_equal_string(key, "reason"))
                return json_in_string(in, call_arena(c), &f->reason);
        nearest_name(key, known, nearest, sizeof nearest);
        return json_in_fail(
                in, start, "'%.*s' is no field: did you mean '%s'? Known: %s", SHOWN(key), nearest, known);
}

static bool read_body(struct call *c, struct json_in *in, struct finishing *f, bool is_nack)
{
        bool is_empty;
        bool has_more;

        json_in_begin(in, gateway_body(c->request), 1);
        if (!json_in_open(in, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;)
                if (!read_field(c, in, f, is_nack) || !json_in_more(in, '{', &has_more))
                        return false;
        if (!f->token.data)
                return json_in_fail(in, in->at, "\"consumer\" is missing: the token that came first");
        if (!f->ids)
                return json_in_fail(in, in->at, "\"ids\" is missing: the ack_id of each event");
        return json_in_end(in);
}

static void end_some(struct call *c, bool is_nack)
{
        struct finishing f = {.action = NACK_RETRY};
        struct consuming *k;
        struct json_in in;
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (!body_is_json(c)) {
                call_refuse_media(c, "application/json");
                return;
        }
        if (!read_body(c, &in, &f, is_nack)) {
                call_refuse_bad(c, "send {\"consumer\":\"TOKEN\",\"ids\":[\"ACK_ID\"]}", "%s", in.problem);
                return;
        }
        k = find(c, f.token);
        if (!k) {
                call_refuse(c, 404, "no-such-consumer", "There is no such consumer",
                        "connect again: what was not acknowledged is delivered again",
                        "the token belongs to no consumer of the group '%.*s' of %.*s: its connection has "
                        "ended",
                        SHOWN(c->group), SHOWN(c->stream));
                return;
        }
        if (is_nack)
                consumer_nack(k->consumer, f.ids, f.count, f.action, f.reason);
        else
                consumer_ack(k->consumer, f.ids, f.count);
        k->unended -= k->is_limited ? MIN(k->unended, (uint64_t)f.count) : 0;
        if (has_ended(k))
                gateway_stream_wake(k->feed.call->request);
        json_object_begin(&j);
        json_field_u64(&j, "received", f.count);
        json_object_end(&j);
        call_reply_json(c, 200, &body, NULL, 0);
}

void handle_ack(struct call *c)
{
        end_some(c, false);
}

void handle_nack(struct call *c)
{
        end_some(c, true);
}
