/* The parked events of a durable subscription as one JSON page: each with the number by which it is replayed,
 * when and why it was parked. */
#include "api/room.h"

#include <stdio.h>

struct parked {
        struct reading reading;
        struct call *call;
        struct buffer body; /* freed with the reply, or when the client is gone */
        struct json_out j;
        uint64_t limit;
        uint64_t count;
        uint64_t next; /* the number to go on from */
        bool is_watched;
};

/* ---- one ---- */

/* The members of the link's metadata, under names of this API; what else is there is passed over. */
static void add_why(struct parked *p, struct bytes metadata)
{
        static const struct {
                const char *key;
                const char *shown;
        } members[] = {
                {"Added", "added"}, {"Reason", "reason"}, {"SubscriptionEventNumber", "subscription_number"}};
        struct json_in in;
        bool is_empty;
        bool has_more;

        if (!metadata.size || !json_in_is_object(metadata))
                return;
        json_in_begin(&in, metadata, 1);
        if (!json_in_open(&in, '{', &is_empty))
                return;
        for (has_more = !is_empty; has_more;) {
                struct bytes key;
                struct bytes value;

                if (!json_in_key(&in, call_arena(p->call), &key) || !json_in_value(&in, &value) ||
                        !json_in_more(&in, '{', &has_more))
                        return;
                for (unsigned i = 0; i < COUNT_OF(members); i++) {
                        if (!bytes_equal_string(key, members[i].key))
                                continue;
                        json_key(&p->j, members[i].shown);
                        json_raw(&p->j, value);
                }
        }
}

static void add_parked(struct parked *p, const struct store_read_item *item)
{
        json_object_begin(&p->j);
        json_field_u64(&p->j, "number", item_place(item)->revision);
        add_why(p, item_place(item)->metadata);
        json_key(&p->j, "event");
        if (item->has_event)
                view_to_json(&p->j, &item->event, false);
        else
                json_out_null(&p->j); /* deleted or hidden since, or not to be shown to him */
        json_object_end(&p->j);
}

/* ---- the page ---- */

static void begin(struct parked *p)
{
        p->j.out = &p->body;
        json_object_begin(&p->j);
        json_field_bytes(&p->j, "stream", p->call->stream);
        json_field_bytes(&p->j, "group", p->call->group);
        json_key(&p->j, "parked");
        json_array_begin(&p->j);
}

static void finish(struct parked *p, bool is_at_end)
{
        struct call *c = p->call;
        char from[24];

        json_array_end(&p->j);
        json_field_bool(&p->j, "at_end", is_at_end);
        if (!is_at_end) {
                snprintf(from, sizeof from, "%llu", (unsigned long long)p->next);
                json_key(&p->j, "next");
                link_to_json(c, &p->j, "from", bytes_of_string(from));
        }
        json_object_end(&p->j);
        reading_close(&p->reading);
        call_reply_json(c, 200, &p->body, NULL, 0);
}

static void fail(struct parked *p, int outcome)
{
        struct store_reader *reader = p->reading.reader;

        buffer_fini(&p->body);
        os_timer_stop(&p->reading.again);
        call_refuse_read(p->call, outcome, store_reader_problem(reader));
        store_reader_close(&reader);
}

static void on_gone(void *arg, struct gateway_request *request)
{
        struct parked *p = arg;

        (void)request;
        reading_close(&p->reading);
        buffer_fini(&p->body);
}

static bool is_still_parked(const struct parked *p, uint64_t number)
{
        struct call *c = p->call;

        return c->api->emitter && emitter_is_parked(c->api->emitter, c->stream, c->group, number);
}

static void go(void *arg)
{
        struct parked *p = arg;

        for (;;) {
                struct store_read_item item;
                int r = reading_next(&p->reading, &item);

                if (r == READING_LATER) {
                        if (!p->is_watched)
                                gateway_on_gone(p->call->request, on_gone, p);
                        p->is_watched = true;
                        return;
                }
                /* A stream whose last event was hidden has nothing more, as one that never was. */
                if (r == STORE_READ_END || r == STORE_READ_NOT_FOUND || r == STORE_READ_DELETED) {
                        finish(p, true);
                        return;
                }
                if (r) {
                        fail(p, r);
                        return;
                }
                p->next = item_place(&item)->revision;
                if (!is_still_parked(p, p->next))
                        continue;
                /* One more than was asked for: it only tells that there is more. */
                if (p->count == p->limit || p->body.size >= API_PAGE_SIZE_MAX) {
                        finish(p, false);
                        return;
                }
                add_parked(p, &item);
                p->count++;
        }
}

void handle_parked(struct call *c)
{
        struct parked *p = arena_get(call_arena(c), sizeof *p);
        struct buffer name = {0};
        struct store_read_options options = {.limit = UINT64_MAX, .resolve_links = true, .from = FROM_NUMBER};
        enum emitter_verdict verdict;
        int r;

        *p = (struct parked){.call = c};
        if (!query_number(c, "from", 0, UINT64_MAX, 0, &options.number) ||
                !query_number(c, "limit", 1, PARKED_PAGE_MAX, API_PAGE_EVENTS_DEFAULT, &p->limit))
                return;
        verdict = emitter_parked_stream(c->api->emitter, c->stream, c->group, &name);
        options.stream = arena_copy(call_arena(c), buffer_bytes(&name));
        buffer_fini(&name);
        if (verdict) {
                call_refuse_emitter(c, verdict, "the subscription is just starting");
                return;
        }
        begin(p);
        r = reading_open(&p->reading, c, &options, go, p);
        if (r == STORE_READ_NOT_FOUND || r == STORE_READ_DELETED) {
                finish(p, true);
        } else if (r) {
                buffer_fini(&p->body);
                call_refuse_read(c, r, "");
        } else {
                go(p);
        }
}
