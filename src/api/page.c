/* A read as one JSON object: events and where to go on. A page is bounded in events, in bytes and in time;
 * whichever ends it first, `next` leads on without a gap. */
#include "api/room.h"

#include <stdio.h>

struct page {
        struct reading reading;
        struct call *call;
        struct buffer body; /* freed with the reply, or when the client is gone */
        struct json_out j;
        uint64_t limit;
        uint64_t count;
        uint64_t first; /* where the page begins */
        uint64_t last;  /* number of the last event given */
        bool is_backward;
        bool has_filter;
        bool is_watched;
        bool is_for_good; /* if it is full */
};

/* ---- the end ---- */

/* Where the next page begins; false: there is none (backwards, at the beginning). */
static bool next_number(struct page *p, bool is_at_end, uint64_t *ret)
{
        struct store_reader *reader = p->reading.reader;
        bool has_seen = store_reader_examined(reader) > 0;
        uint64_t seen = p->first; /* the last number that is done with */
        bool is_done = p->count || (has_seen && !p->call->stream.size);

        if (p->count)
                seen = p->last;
        /* A filter may have passed over events behind the last match. */
        if (has_seen && p->has_filter)
                seen = store_reader_position(reader);
        if (p->is_backward) {
                *ret = is_done && seen ? seen - 1 : seen;
                return !is_at_end && !(is_done && !seen);
        }
        *ret = is_done ? seen + 1 : seen;
        return true;
}

static void dispose(struct page *p)
{
        reading_close(&p->reading);
        buffer_fini(&p->body);
}

/* `is_full`: it has as many events as a page takes. */
static void finish(struct page *p, bool is_at_end, bool is_full)
{
        struct call *c = p->call;
        struct read_answer answer = {.is_for_good = p->is_for_good && is_full && !is_at_end};
        char from[24];
        uint64_t next = 0;
        bool has_next = next_number(p, is_at_end, &next);

        if (is_at_end && !p->count && c->poll_until_us) {
                dispose(p);
                poll_begin(c, next);
                return;
        }
        json_array_end(&p->j);
        /* Before the first event is nothing, though a full page was not told so. */
        json_field_bool(&p->j, "at_end", is_at_end || (p->is_backward && !has_next));
        if (has_next) {
                snprintf(from, sizeof from, "%llu", (unsigned long long)next);
                json_key(&p->j, "next");
                link_to_json(c, &p->j, "from", bytes_of_string(from));
        }
        json_object_end(&p->j);
        reading_close(&p->reading);
        call_reply_read(c, &p->body, &answer);
}

static void fail(struct page *p, int outcome)
{
        struct store_reader *reader = p->reading.reader;

        buffer_fini(&p->body);
        os_timer_stop(&p->reading.again);
        call_refuse_read(p->call, outcome, store_reader_problem(reader));
        store_reader_close(&reader);
}

/* ---- the events ---- */

static void on_gone(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

static bool is_overdue(const struct page *p)
{
        return os_monotonic_us(p->call->api->os) >= p->call->deadline_us &&
               (p->count || store_reader_examined(p->reading.reader));
}

static void page_go(void *arg)
{
        struct page *p = arg;
        struct store_read_item item;

        for (;;) {
                int r = reading_next(&p->reading, &item);

                if (r == READING_LATER) {
                        if (is_overdue(p)) {
                                finish(p, false, false);
                                return;
                        }
                        if (!p->is_watched)
                                gateway_on_gone(p->call->request, on_gone, p);
                        p->is_watched = true;
                        return;
                }
                if (r == STORE_READ_END) {
                        bool is_full = p->has_filter && p->count == p->limit;

                        finish(p, !is_full, is_full);
                        return;
                }
                if (r) {
                        fail(p, r);
                        return;
                }
                if (p->count ==
                        p->limit) { /* one more than was asked for: it only tells that there is more */
                        finish(p, false, true);
                        return;
                }
                event_to_json(&p->j, &item, false);
                p->last = item_number(p->call, &item);
                p->count++;
                if (p->body.size >= API_PAGE_SIZE_MAX) {
                        finish(p, false, true);
                        return;
                }
        }
}

int first_number(struct call *c, const struct read_query *q, uint64_t *ret)
{
        struct store_stream_info info;
        int r;

        *ret = q->from == FROM_NUMBER ? q->number : 0;
        if (q->from != FROM_END)
                return 0;
        if (!c->stream.size) {
                *ret = store_next_position(c->store);
                return 0;
        }
        r = store_stream_info(c->store, c->stream, &info);
        if (r)
                return r == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(r);
        *ret = info.has_events ? info.last_revision + 1 : 0;
        return 0;
}

void page_begin(struct call *c, struct read_query *q)
{
        struct page *p = arena_get(call_arena(c), sizeof *p);
        struct store_read_options options;
        int r;

        *p = (struct page){.call = c, .is_backward = q->is_backward};
        /* What may not be shown is passed over as by a filter. */
        p->has_filter = q->filter || (c->has_rights && !c->stream.size);
        p->is_for_good = !c->stream.size && !q->is_backward && q->is_at_number && !q->resolve_links;
        p->limit = q->limit == UINT64_MAX ? API_PAGE_EVENTS_DEFAULT : q->limit;
        if (p->limit > API_PAGE_EVENTS_MAX) {
                call_refuse_bad(c, "ask for Accept: application/x-ndjson, which has no limit",
                        "limit=%llu: a JSON page has at most %d events", (unsigned long long)p->limit,
                        API_PAGE_EVENTS_MAX);
                return;
        }
        r = first_number(c, q, &p->first);
        options = read_options(c, q);
        /* One more shows whether there is more; with a filter, finding it could take a walk through the whole
         * log. */
        options.limit = p->limit + !p->has_filter;
        if (r)
                filter_free(&options.filter);
        else
                r = reading_open_visible(&p->reading, c, &options, page_go, p);
        if (r == STORE_READ_NOT_FOUND && c->poll_until_us) {
                poll_begin(c, p->first);
                return;
        }
        if (r) {
                call_refuse_read(c, r, "");
                return;
        }
        p->j.out = &p->body;
        json_object_begin(&p->j);
        if (c->stream.size)
                json_field_bytes(&p->j, "stream", c->stream);
        json_field_string(&p->j, "direction", p->is_backward ? "backward" : "forward");
        json_key(&p->j, "events");
        json_array_begin(&p->j);
        page_go(p);
}
