/* Durable subscriptions: list, show, create, update, delete, pause, resume, seek, replay.
 *
 * The path names the subscription: its stream, or "$all" for whatever else its selector selects, and its
 * group. A change is answered when it is committed, with the subscription as it is then. */
#include "api/room.h"

#include <stdio.h>

/* ---- refusals ---- */

void call_refuse_emitter(struct call *c, enum emitter_verdict verdict, const char *problem)
{
        bool has_problem = problem && *problem;

        switch (verdict) {
        case EMITTER_EXISTS:
                call_refuse(c, 409, "exists", "The subscription exists already",
                        "update it (`nilo sub update`, PUT with ?replace=true), or choose another group",
                        "there is a group '%.*s' of %.*s", SHOWN(c->group), SHOWN(c->stream));
                return;
        case EMITTER_NOT_FOUND:
                call_refuse(c, 404, "not-found", "There is no such subscription",
                        "list them (`nilo sub ls`, GET /v1/subscriptions), or create it",
                        "there is no group '%.*s' of %.*s%s%s", SHOWN(c->group), SHOWN(c->stream),
                        has_problem ? ", or " : "", has_problem ? problem : "");
                return;
        case EMITTER_INVALID:
                call_refuse_bad(c, NULL, "%s", has_problem ? problem : "the subscription makes no sense");
                return;
        case EMITTER_LIMIT:
                call_refuse(c, 503, "busy", "There are too many", "try again later, or end some", "%s",
                        has_problem ? problem : "there are as many as there may be");
                return;
        case EMITTER_NOT_LEADER:
                call_refuse(c, 503, "not-leader", "This node does not carry out subscriptions now",
                        "try again in a second, or ask another node", "%s",
                        has_problem ? problem : "it is not the leader, or not ready yet");
                return;
        case EMITTER_BUSY:
                call_refuse(c, 503, "busy", "The store is busy", "try again in a second; nothing was changed",
                        "%s", has_problem ? problem : "the change was not written");
                return;
        case EMITTER_GONE:
                call_refuse(c, 410, "stream-deleted", "The stream is deleted for good",
                        "delete the subscription", "%.*s was tombstoned; no event will ever follow",
                        SHOWN(c->stream));
                return;
        default:
                call_refuse(c, 504, "unknown", "The outcome is unknown",
                        "look at the subscription, then send it again",
                        "the change was not confirmed: it may or may not be in the log");
        }
}

/* ---- list ---- */

struct listing {
        struct call *call;
        struct bytes stream; /* empty: of all */
        uint64_t limit;      /* UINT64_MAX: none was given */
        bool is_lines;
        bool must_ask; /* whether a subscription may be shown */
        /* One look. Freed with the reply or when the client is gone. */
        struct buffer after; /* the key of the last one told */
        struct buffer at;    /* of the last one looked at */
        struct buffer out;
        struct json_out j;
        unsigned wanted;
        unsigned told;
        bool has_more;
};

static void listing_dispose(struct listing *l)
{
        buffer_fini(&l->after);
        buffer_fini(&l->at);
        buffer_fini(&l->out);
}

/* A subscription is shown to those who look after all of them, and to who may read what it is to. */
static bool is_of_ops(struct call *c)
{
        return !c->has_rights ||
               access_allows(gateway_access(c->api->gateway), gateway_principal(c->request), ACCESS_OPS);
}

static void tell(void *arg, const struct emitter_info *info)
{
        struct listing *l = arg;

        if (l->must_ask) {
                buffer_clear(&l->at);
                buffer_add_bytes(&l->at, info->stream);
                buffer_add_string(&l->at, "::");
                buffer_add_bytes(&l->at, info->group);
                if (!gateway_may(l->call->request, ACCESS_READ, info->stream))
                        return;
        }
        /* One more than is wanted: it only tells that there is more. */
        if (l->told == l->wanted) {
                l->has_more = true;
                return;
        }
        l->told++;
        buffer_clear(&l->after);
        buffer_add_bytes(&l->after, info->stream);
        buffer_add_string(&l->after, "::");
        buffer_add_bytes(&l->after, info->group);
        subscription_to_json(&l->j, info, false);
        if (l->is_lines) {
                buffer_add_u8(&l->out, '\n');
                l->j = (struct json_out){.out = &l->out};
        }
}

static void look(struct listing *l, struct emitter *e, unsigned wanted)
{
        unsigned batch = l->must_ask ? SUBSCRIPTIONS_ASKED_ABOUT : wanted + 1;
        struct bytes after;

        /* `after` is written while it is read. */
        after = arena_copy(call_arena(l->call), buffer_bytes(&l->after));
        l->told = 0;
        l->wanted = wanted;
        l->has_more = false;
        while (emitter_each(e, l->stream, after, batch, tell, l) == batch && l->must_ask && !l->has_more)
                after = arena_copy(call_arena(l->call), buffer_bytes(&l->at));
}

static void ignore(void *arg, const struct emitter_info *info)
{
        (void)arg;
        (void)info;
}

/* Without duties there is nothing to list, which must not look like an empty list. No group has an empty
 * name. */
static bool has_duties(struct call *c)
{
        enum emitter_verdict verdict = emitter_info(c->api->emitter, BYTES_EMPTY, BYTES_EMPTY, ignore, NULL);

        if (verdict != EMITTER_NOT_LEADER)
                return true;
        call_refuse_emitter(c, verdict, "");
        return false;
}

static void reply_page(struct listing *l)
{
        struct call *c = l->call;

        json_object_begin(&l->j);
        json_key(&l->j, "subscriptions");
        json_array_begin(&l->j);
        look(l, c->api->emitter, (unsigned)l->limit);
        json_array_end(&l->j);
        json_field_bool(&l->j, "at_end", !l->has_more);
        if (l->has_more) {
                json_key(&l->j, "next");
                link_to_json(c, &l->j, "after", buffer_bytes(&l->after));
        }
        json_object_end(&l->j);
        buffer_fini(&l->after);
        buffer_fini(&l->at);
        call_reply_json(c, 200, &l->out, NULL, 0);
}

static void on_writable(void *arg, struct gateway_request *request)
{
        struct listing *l = arg;

        while (gateway_stream_room(request) > 0) {
                struct emitter *e = l->call->api->emitter;

                if (e)
                        look(l, e, (unsigned)MIN(l->limit, (uint64_t)SUBSCRIPTIONS_BATCH));
                else
                        buffer_add_string(&l->out, "{\"problem\":{\"type\":\"urn:nilo:not-ready\",\"status\":"
                                                   "503,\"title\":\"The "
                                                   "list ends here, before its end\"}}\n");
                gateway_stream_send(request, buffer_bytes(&l->out));
                buffer_clear(&l->out);
                l->limit -= l->told;
                if (!e || !l->has_more || !l->limit) {
                        listing_dispose(l);
                        gateway_stream_end(request);
                        return;
                }
        }
}

static void on_close(void *arg, struct gateway_request *request)
{
        (void)request;
        listing_dispose(arg);
}

void handle_subscriptions(struct call *c)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct listing *l = arena_get(call_arena(c), sizeof *l);
        struct bytes after;

        *l = (struct listing){.call = c, .is_lines = call_form(c) != FORM_JSON};
        l->j.out = &l->out;
        gateway_query(c->request, "stream", &l->stream);
        if (!query_number(c, "limit", 1, l->is_lines ? UINT64_MAX : SUBSCRIPTIONS_PAGE_MAX,
                    l->is_lines ? UINT64_MAX : SUBSCRIPTIONS_PAGE_DEFAULT, &l->limit) ||
                !has_duties(c))
                return;
        l->must_ask = !is_of_ops(c);
        if (gateway_query(c->request, "after", &after))
                buffer_add_bytes(&l->after, after);
        if (!l->is_lines) {
                reply_page(l);
        } else if (call_is_head(c)) {
                listing_dispose(l);
                gateway_reply(c->request, 200, "application/x-ndjson", BYTES_EMPTY, NULL, 0);
        } else {
                gateway_stream_begin(c->request, 200, "application/x-ndjson", NULL, 0, &handler, l);
        }
}

/* ---- one ---- */

static void tell_whole(void *arg, const struct emitter_info *info)
{
        subscription_to_json(arg, info, true);
}

static void reply_whole(struct call *c, int status)
{
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        enum emitter_verdict verdict = EMITTER_NOT_LEADER;

        if (c->api->emitter)
                verdict = emitter_info(c->api->emitter, c->stream, c->group, tell_whole, &j);
        if (verdict) {
                buffer_fini(&body);
                call_refuse_emitter(c, verdict, "");
                return;
        }
        call_reply_json(c, status, &body, NULL, 0);
}

void handle_subscription(struct call *c)
{
        if (is_of_ops(c) || gateway_may(c->request, ACCESS_READ, c->stream))
                reply_whole(c, 200);
        else
                gateway_refuse(c->request, ACCESS_READ, c->stream);
}

/* ---- changes ---- */

static void on_changed(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct call *c = arg;

        if (verdict)
                call_refuse_emitter(c, verdict, problem);
        else
                reply_whole(c, 200);
}

static void on_created(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct call *c = arg;

        if (verdict)
                call_refuse_emitter(c, verdict, problem);
        else
                reply_whole(c, 201);
}

static void on_deleted(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct call *c = arg;
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (verdict) {
                call_refuse_emitter(c, verdict, problem);
                return;
        }
        json_object_begin(&j);
        json_field_bytes(&j, "stream", c->stream);
        json_field_bytes(&j, "group", c->group);
        json_field_bool(&j, "deleted", true);
        json_object_end(&j);
        call_reply_json(c, 200, &body, NULL, 0);
}

void handle_subscription_delete(struct call *c)
{
        emitter_delete(c->api->emitter, c->stream, c->group, on_deleted, c);
}

void handle_subscription_pause(struct call *c)
{
        emitter_pause(c->api->emitter, c->stream, c->group, true, on_changed, c);
}

void handle_subscription_resume(struct call *c)
{
        emitter_pause(c->api->emitter, c->stream, c->group, false, on_changed, c);
}

void handle_subscription_seek(struct call *c)
{
        enum store_from from = FROM_NUMBER;
        uint64_t number = 0;
        struct bytes to;

        if (!gateway_query(c->request, "to", &to)) {
                call_refuse_bad(c, "send ?to=start, ?to=end, or the number of the first event to deliver",
                        "the parameter to is missing");
                return;
        }
        if (bytes_equal_string(to, "start"))
                from = FROM_START;
        else if (bytes_equal_string(to, "end"))
                from = FROM_END;
        else if (!bytes_to_number(to, &number)) {
                call_refuse_bad(c, "send start, end, or a number from 0", "to=%.*s is no place", SHOWN(to));
                return;
        }
        emitter_seek(c->api->emitter, c->stream, c->group, from, number, on_changed, c);
}

void handle_subscription_replay(struct call *c)
{
        uint64_t stop_at;
        uint64_t only;

        if (!query_number(c, "stop-at", 0, UINT64_MAX - 1, UINT64_MAX, &stop_at) ||
                !query_number(c, "only", 0, UINT64_MAX - 1, UINT64_MAX, &only))
                return;
        if (stop_at != UINT64_MAX && only != UINT64_MAX) {
                call_refuse_bad(c, "send one of them", "stop-at and only are both given");
                return;
        }
        emitter_replay_parked(c->api->emitter, c->stream, c->group, stop_at, only, on_changed, c);
}

/* ---- create and update ---- */

struct putting {
        struct call *call;
        struct emitter_definition definition;
        struct selector *selector;
        bool has_selector;
        bool has_from;
        bool has_target;
        /* What is there already. */
        bool is_same_selector;
        bool is_same_target;
        bool was_webhook;
};

/* The member stands in the path too. */
static bool is_as_in_path(struct json_in *in, struct call *c, struct bytes key, struct bytes wanted)
{
        const uint8_t *start = in->at;
        struct bytes value;

        if (!json_in_string(in, call_arena(c), &value))
                return false;
        return bytes_equal(value, wanted) ||
               json_in_fail(in, start, "\"%.*s\" is not the one in the path", SHOWN(key));
}

/* Copies the members of the body behind those of the path, values as they stand, so that numbers stay exact.
 */
static bool copy_members(struct putting *p, struct json_in *in, struct json_out *j)
{
        bool is_empty;
        bool has_more;

        if (!json_in_open(in, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct call *c = p->call;
                struct bytes key;
                struct bytes value;

                if (!json_in_key(in, call_arena(c), &key))
                        return false;
                if (bytes_equal_string(key, "stream") || bytes_equal_string(key, "group")) {
                        if (!is_as_in_path(in, c, key, key.data[0] == 's' ? c->stream : c->group))
                                return false;
                } else {
                        if (!json_in_value(in, &value))
                                return false;
                        json_key_bytes(j, key);
                        json_raw(j, value);
                }
                p->has_selector |= bytes_equal_string(key, "selector");
                p->has_from |= bytes_equal_string(key, "from");
                p->has_target |= bytes_equal_string(key, "target");
                if (!json_in_more(in, '{', &has_more))
                        return false;
        }
        return json_in_end(in);
}

static bool read_definition(struct putting *p)
{
        struct call *c = p->call;
        struct bytes body = gateway_body(c->request);
        struct buffer whole = {0};
        struct json_out j = {.out = &whole};
        struct json_in in;
        char why[512] = "";
        bool is_fine;

        if (body.size && !body_is_json(c)) {
                call_refuse_media(c, "application/json");
                return false;
        }
        json_in_begin(&in, body.size ? body : BYTES_LITERAL("{}"), 1);
        json_object_begin(&j);
        json_field_bytes(&j, "stream", c->stream);
        json_field_bytes(&j, "group", c->group);
        is_fine = copy_members(p, &in, &j);
        json_object_end(&j);
        if (!is_fine)
                snprintf(why, sizeof why, "%s", in.problem);
        else
                is_fine = emitter_definition_parse(
                        buffer_bytes(&whole), call_arena(c), &p->definition, &p->selector, why, sizeof why);
        buffer_fini(&whole);
        if (!is_fine) {
                selector_free(&p->selector);
                call_refuse_bad(c,
                        "send an object such as "
                        "{\"selector\":{\"kind\":\"type\",\"types\":[\"OrderPlaced\"]},"
                        "\"from\":\"start\"}",
                        "%s", why);
        }
        return is_fine;
}

static void compare(void *arg, const struct emitter_info *info)
{
        struct putting *p = arg;

        p->is_same_selector = !p->has_selector || bytes_equal(selector_json(p->selector),
                                                          selector_json(info->definition->selector));
        p->is_same_target = !p->has_target || p->definition.target == info->definition->target;
        p->was_webhook = info->definition->target == TARGET_WEBHOOK;
}

/* A subscription that selects something else would go on from a checkpoint that means nothing to it. */
static void update(struct putting *p)
{
        struct call *c = p->call;

        if (p->is_same_selector && p->is_same_target)
                emitter_update(c->api->emitter, &p->definition, p->has_from, on_changed, c);
        else
                call_refuse(c, 409, "conflict", "What exists is another subscription",
                        "delete it first, or choose another group",
                        "the group '%.*s' of %.*s has another %s, which does not change", SHOWN(c->group),
                        SHOWN(c->stream), p->is_same_selector ? "target" : "selector");
}

/* A webhook takes events to where nobody is asked any more, so whoever sets it up, or changes it, must have
 * the right to read them; where it follows links, they may lead to any stream. False: the call was refused.
 */
static bool check_rights(const struct putting *p)
{
        struct call *c = p->call;
        bool is_of_stream =
                selector_kind(p->selector) == SELECT_STREAM && !p->definition.settings.resolve_links;
        struct bytes stream = is_of_stream ? c->stream : BYTES_LITERAL("$all");

        if ((p->definition.target != TARGET_WEBHOOK && !p->was_webhook) ||
                gateway_may(c->request, ACCESS_READ, stream))
                return true;
        gateway_refuse(c->request, ACCESS_READ, stream);
        return false;
}

void handle_subscription_put(struct call *c)
{
        struct putting *p = arena_get(call_arena(c), sizeof *p);
        struct selector *selector;
        enum emitter_verdict verdict = EMITTER_NOT_FOUND;
        bool may_replace;

        *p = (struct putting){.call = c};
        if (!query_switch(c, "replace", &may_replace) || !read_definition(p))
                return;
        if (may_replace)
                verdict = emitter_info(c->api->emitter, c->stream, c->group, compare, p);
        if (!check_rights(p)) {
                selector_free(&p->selector);
                return;
        }
        selector = p->selector; /* the request, and with it all of this, may end in what follows */
        if (verdict == EMITTER_NOT_FOUND)
                emitter_create(c->api->emitter, &p->definition, on_created, c);
        else if (verdict)
                call_refuse_emitter(c, verdict, "");
        else
                update(p);
        selector_free(&selector);
}
