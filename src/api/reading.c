/* Readers whose bytes may have to come from the disk, and that give way when they examine much without a
 * match, or without anything that who asks may see. */
#include "api/room.h"

static void go_on(struct reading *r)
{
        r->is_waiting = false;
        r->go(r->arg);
}

static void on_ready(void *arg)
{
        go_on(arg);
}

static void on_again(struct os_timer *timer)
{
        go_on(timer->arg);
}

int reading_open(struct reading *r, struct call *c, struct store_read_options *options, void (*go)(void *arg),
        void *arg)
{
        *r = (struct reading){.call = c, .again = {.fn = on_again, .arg = r}, .go = go, .arg = arg};
        options->on_ready = on_ready;
        options->arg = r;
        r->left = options->limit;
        return store_reader_open(c->store, options, &r->reader);
}

int reading_open_visible(struct reading *r, struct call *c, struct store_read_options *options,
        void (*go)(void *arg), void *arg)
{
        bool hides = c->has_rights && !options->stream.size;
        uint64_t limit = options->limit;
        int result;

        if (hides)
                options->limit = UINT64_MAX; /* what is hidden does not count */
        result = reading_open(r, c, options, go, arg);
        r->left = limit;
        r->hides = hides;
        return result;
}

bool call_hides(struct call *c, const struct store_read_item *item)
{
        return c->has_rights && !gateway_may_see(c->request, item_place(item)->stream);
}

/* Who may write to any stream can write a link to every other, so a link alone gives no right to what it
 * leads to; the right to read everything does. */
static bool may_follow_link(struct call *c, struct bytes target)
{
        bool reads_all = !c->stream.size || bytes_equal_string(c->stream, "$all");

        return reads_all ? gateway_may_see(c->request, target) : gateway_may(c->request, ACCESS_READ, target);
}

void call_hide_target(struct call *c, struct store_read_item *item)
{
        if (c->has_rights && item->has_link && item->has_event && !may_follow_link(c, item->event.stream))
                item->has_event = false;
}

static int next_visible(struct reading *r, struct store_read_item *ret)
{
        for (unsigned hidden = 0; hidden < HIDDEN_OF_TURN_MAX; hidden++) {
                int result = r->left ? store_reader_next(r->reader, ret) : STORE_READ_END;

                if (result)
                        return result;
                if (r->hides && call_hides(r->call, ret))
                        continue;
                call_hide_target(r->call, ret);
                r->left--;
                return 0;
        }
        return STORE_READ_YIELD;
}

int reading_next(struct reading *r, struct store_read_item *ret)
{
        int result;

        if (r->is_waiting)
                return READING_LATER;
        result = next_visible(r, ret);
        if (result == STORE_READ_YIELD)
                os_timer_start(r->call->api->os, &r->again, 0);
        else if (result != STORE_READ_WAIT)
                return result;
        r->is_waiting = true;
        return READING_LATER;
}

void reading_close(struct reading *r)
{
        os_timer_stop(&r->again);
        store_reader_close(&r->reader);
}

/* ---- one event ---- */

struct fetch {
        struct reading reading;
        fetch_done *done;
        void *arg;
        bool is_watched;
};

static void fetch_gone(void *arg, struct gateway_request *request)
{
        struct fetch *f = arg;

        (void)request;
        reading_close(&f->reading);
}

static void fetch_go(void *arg)
{
        struct fetch *f = arg;
        struct call *c = f->reading.call;
        struct store_reader *reader = f->reading.reader;
        struct store_read_item item = {0};
        int r = reading_next(&f->reading, &item);

        if (r == READING_LATER) {
                if (!f->is_watched)
                        gateway_on_gone(c->request, fetch_gone, f);
                f->is_watched = true;
                return;
        }
        if (f->is_watched)
                gateway_on_gone(c->request, NULL, NULL);
        /* The request, and with it this fetch, may end in `done`. */
        f->done(f->arg, r, r ? NULL : &item, store_reader_problem(reader));
        store_reader_close(&reader);
}

void call_fetch(struct call *c, struct store_read_options *options, fetch_done *done, void *arg)
{
        struct fetch *f = arena_get(call_arena(c), sizeof *f);
        int r;

        *f = (struct fetch){.done = done, .arg = arg};
        r = reading_open(&f->reading, c, options, fetch_go, f);
        if (r)
                done(arg, r, NULL, "");
        else
                fetch_go(f);
}

struct store_read_options newest_of(struct bytes stream)
{
        return (struct store_read_options){
                .stream = stream, .is_backward = true, .from = FROM_END, .limit = 1};
}

struct bytes metastream_of(struct call *c, struct bytes stream)
{
        uint8_t *name = arena_get(call_arena(c), stream.size + 2);

        memcpy(name, "$$", 2);
        memcpy(name + 2, stream.data, stream.size);
        return bytes_of(name, stream.size + 2);
}

/* ---- one event, as a resource ---- */

static void reply_event(void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct call *c = arg;
        struct read_answer answer = {.is_for_good = !c->stream.size && !outcome && !item->has_link};
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (outcome) {
                call_refuse_read(c, outcome, problem);
                return;
        }
        event_to_json(&j, item, false);
        call_reply_read(c, &body, &answer);
}

/* The read begins at a number and goes on to the next visible event, which is another one when that number is
 * hidden. */
static void reply_event_of_stream(
        void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct call *c = arg;
        struct bytes number = gateway_path_parameter(c->request, "revision");
        uint64_t revision = 0;
        bool is_found =
                !outcome && bytes_to_number(number, &revision) && item_place(item)->revision == revision;

        if (is_found || (outcome && outcome != STORE_READ_END))
                reply_event(c, outcome, item, problem);
        else
                call_refuse(c, 404, "not-found", "There is no such event",
                        "GET the stream without /events: it says which revisions there are",
                        "%.*s has no event %.*s, or it is truncated", SHOWN(c->stream), SHOWN(number));
}

static void reply_event_at_position(
        void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct call *c = arg;
        struct bytes number = gateway_path_parameter(c->request, "position");
        uint64_t position = 0;
        bool is_found = !outcome && bytes_to_number(number, &position) &&
                        item_place(item)->position == position && !call_hides(c, item);

        if (is_found || (outcome && outcome != STORE_READ_END))
                reply_event(c, outcome, item, problem);
        else
                call_refuse(c, 404, "not-found", "There is no such event",
                        "read on from there: GET /v1/all/events?from=...",
                        "the event at position %.*s is not there to be seen", SHOWN(number));
}

static bool fetch_options(struct call *c, const char *what, struct store_read_options *ret)
{
        struct bytes text = gateway_path_parameter(c->request, what);

        *ret = (struct store_read_options){.stream = c->stream, .from = FROM_NUMBER, .limit = 1};
        if (!query_switch(c, "resolve-links", &ret->resolve_links))
                return false;
        if (bytes_to_number(text, &ret->number))
                return true;
        call_refuse_bad(c, "send a number from 0", "'%.*s' is no %s", SHOWN(text), what);
        return false;
}

void handle_event_of_stream(struct call *c)
{
        struct store_read_options options;

        if (fetch_options(c, "revision", &options))
                call_fetch(c, &options, reply_event_of_stream, c);
}

void handle_event_at_position(struct call *c)
{
        uint64_t next = store_next_position(c->store);
        struct store_read_options options;

        if (!fetch_options(c, "position", &options))
                return;
        if (options.number >= next)
                call_refuse(c, 404, "not-found", "There is no such event",
                        "positions begin at 0 and have no gaps",
                        "the log has no position %llu: its next event gets position %llu",
                        (unsigned long long)options.number, (unsigned long long)next);
        else
                call_fetch(c, &options, reply_event_at_position, c);
}

/* ---- refusals ---- */

void call_refuse_read(struct call *c, int outcome, const char *problem)
{
        switch (outcome) {
        case STORE_READ_NOT_FOUND:
        case STORE_READ_DELETED:
                call_refuse_state(c);
                return;
        case STORE_READ_CORRUPT:
                call_refuse(c, 500, "corrupt", "Stored bytes are damaged",
                        "run `nilo verify`; everything outside the damaged range is readable", "%s",
                        *problem ? problem : "an index is damaged");
                return;
        case STORE_READ_TOO_COSTLY:
                call_refuse(c, 422, "filter-too-costly", "The filter takes too long",
                        "simplify the pattern or use a prefix",
                        "the regular expression exceeds the match limit on an event");
                return;
        default:
                call_refuse(c, 500, "fault", "The read failed", "see the server's log", "%s",
                        outcome < 0 ? fault_last() : "unexpected outcome");
        }
}

static void read_in_form(struct call *c, struct read_query *q)
{
        switch (call_form(c)) {
        case FORM_EVENTS:
                follow_begin(c, q);
                break;
        case FORM_LINES:
                lines_begin(c, q);
                break;
        default:
                page_begin(c, q);
        }
}

void handle_read(struct call *c)
{
        struct read_query q;

        if (read_query(c, &q) && query_wait(c, q.is_backward))
                read_in_form(c, &q);
        filter_free(&q.filter);
}

void read_again(struct call *c, uint64_t next)
{
        struct read_query q;

        if (read_query(c, &q)) {
                q.from = FROM_NUMBER;
                q.number = next;
                q.is_at_number = false; /* the page is the answer to another place */
                read_in_form(c, &q);
        }
        filter_free(&q.filter);
}
