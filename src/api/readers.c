/* Who follows the log without a subscription that outlives the call: every open catch-up reader, over HTTP
 * and gRPC, with its lag. They come and go, so a list in pages is a look at each page's own moment. */
#include "api/room.h"

#include <stdio.h>

struct readers {
        struct call *call;
        uint64_t skip;
        uint64_t limit; /* UINT64_MAX: none was given */
        bool is_lines;
        /* One look. */
        struct buffer out; /* freed with the reply, or when the client is gone */
        struct json_out j;
        unsigned wanted;
        unsigned told;
        bool has_more;
};

static void reader_to_json(struct json_out *j, const struct subscription_info *info)
{
        json_object_begin(j);
        json_field_bytes(j, "stream", info->stream);
        if (info->filter.size) {
                json_key(j, "filter");
                json_raw(j, info->filter);
        }
        json_field_bytes(j, "name", info->name);
        json_field_bytes(j, "peer", info->peer);
        json_field_string(j, "state", info->is_live ? "live" : "reading");
        lag_to_json(j, info->lag_events, info->lag_us);
        json_key(j, "position");
        if (info->has_position)
                json_u64(j, info->position);
        else
                json_out_null(j);
        json_field_u64(j, "delivered", info->delivered);
        json_object_end(j);
}

static bool tell(void *arg, const struct subscription_info *info)
{
        struct readers *r = arg;

        if (r->told == r->wanted) {
                r->has_more = true;
                return false;
        }
        r->told++;
        reader_to_json(&r->j, info);
        if (r->is_lines) {
                buffer_add_u8(&r->out, '\n');
                r->j = (struct json_out){.out = &r->out};
        }
        return true;
}

static void look(struct readers *r, unsigned wanted)
{
        const struct notification *n = gateway_notification(r->call->api->gateway);

        r->told = 0;
        r->wanted = wanted;
        r->has_more = false;
        if (n)
                notification_each_subscription(n, (unsigned)r->skip, tell, r);
        r->skip += r->told;
}

static void reply_page(struct readers *r)
{
        struct call *c = r->call;
        char skip[24];

        json_object_begin(&r->j);
        json_key(&r->j, "readers");
        json_array_begin(&r->j);
        look(r, (unsigned)r->limit);
        json_array_end(&r->j);
        json_field_bool(&r->j, "at_end", !r->has_more);
        if (r->has_more) {
                snprintf(skip, sizeof skip, "%llu", (unsigned long long)r->skip);
                json_key(&r->j, "next");
                link_to_json(c, &r->j, "skip", bytes_of_string(skip));
        }
        json_object_end(&r->j);
        call_reply_json(c, 200, &r->out, NULL, 0);
}

static void on_writable(void *arg, struct gateway_request *request)
{
        struct readers *r = arg;

        while (gateway_stream_room(request) > 0) {
                look(r, (unsigned)MIN(r->limit, (uint64_t)SUBSCRIPTIONS_BATCH));
                gateway_stream_send(request, buffer_bytes(&r->out));
                buffer_clear(&r->out);
                r->limit -= r->told;
                if (!r->has_more || !r->limit) {
                        buffer_fini(&r->out);
                        gateway_stream_end(request);
                        return;
                }
        }
}

static void on_close(void *arg, struct gateway_request *request)
{
        struct readers *r = arg;

        (void)request;
        buffer_fini(&r->out);
}

void handle_readers(struct call *c)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct readers *r = arena_get(call_arena(c), sizeof *r);

        *r = (struct readers){.call = c, .is_lines = call_form(c) != FORM_JSON};
        r->j.out = &r->out;
        if (!query_number(c, "skip", 0, UINT32_MAX, 0, &r->skip) ||
                !query_number(c, "limit", 1, r->is_lines ? UINT64_MAX : SUBSCRIPTIONS_PAGE_MAX,
                        r->is_lines ? UINT64_MAX : SUBSCRIPTIONS_PAGE_DEFAULT, &r->limit))
                return;
        if (!r->is_lines)
                reply_page(r);
        else if (call_is_head(c))
                gateway_reply(c->request, 200, "application/x-ndjson", BYTES_EMPTY, NULL, 0);
        else
                gateway_stream_begin(c->request, 200, "application/x-ndjson", NULL, 0, &handler, r);
}
