/* A read as NDJSON: one event in each line, pulled by the connection, so that a read of any length takes the
 * memory of a piece (G18). */
#include "api/room.h"

struct lines {
        struct reading reading;
        struct call *call;
        struct buffer piece;
        uint64_t first; /* where it begins */
        bool has_begun; /* to answer */
};

static void begin(struct lines *l);

static void lines_wake(void *arg)
{
        struct lines *l = arg;

        if (l->has_begun)
                gateway_stream_wake(l->call->request);
        else
                begin(l);
}

static void send_piece(struct lines *l)
{
        call_send_piece(l->call, &l->piece);
}

static void finish(struct lines *l)
{
        struct gateway_request *request = l->call->request;

        send_piece(l);
        reading_close(&l->reading);
        buffer_fini(&l->piece);
        gateway_stream_end(request);
}

/* The status has been sent: the last line says that the read is not complete. */
static void finish_with_problem(struct lines *l, int outcome)
{
        struct json_out j = {.out = &l->piece};

        json_object_begin(&j);
        json_key(&j, "problem");
        json_object_begin(&j);
        json_field_string(&j, "type",
                outcome == STORE_READ_CORRUPT      ? "urn:nilo:corrupt"
                : outcome == STORE_READ_TOO_COSTLY ? "urn:nilo:filter-too-costly"
                                                   : "urn:nilo:fault");
        json_field_string(&j, "title", "The read ends here, before its end");
        json_field_u64(&j, "status", outcome == STORE_READ_TOO_COSTLY ? 422 : 500);
        json_field_string(&j, "detail",
                outcome < 0 ? fault_last()
                : outcome == STORE_READ_TOO_COSTLY
                        ? "the regular expression exceeds the match limit on an event"
                        : store_reader_problem(l->reading.reader));
        json_object_end(&j);
        json_object_end(&j);
        buffer_add_u8(&l->piece, '\n');
        finish(l);
}

static void add_event(struct lines *l, const struct store_read_item *item)
{
        struct json_out j = {.out = &l->piece};

        event_to_json(&j, item, true);
        buffer_add_u8(&l->piece, '\n');
}

static void on_writable(void *arg, struct gateway_request *request)
{
        struct lines *l = arg;

        while (gateway_stream_room(request) > 0) {
                while (l->piece.size < PIECE_SIZE) {
                        struct store_read_item item;
                        int r = reading_next(&l->reading, &item);

                        if (r == READING_LATER) {
                                send_piece(l);
                                return;
                        }
                        if (r == STORE_READ_END) {
                                finish(l);
                                return;
                        }
                        if (r) {
                                finish_with_problem(l, r);
                                return;
                        }
                        add_event(l, &item);
                }
                send_piece(l);
        }
        store_reader_ease(l->reading.reader);
}

static void on_close(void *arg, struct gateway_request *request)
{
        struct lines *l = arg;

        (void)request;
        reading_close(&l->reading);
        buffer_fini(&l->piece);
}

/* Nothing came, and nothing has been sent: waits for the first event. */
static void wait_for_first(struct lines *l)
{
        struct call *c = l->call;
        struct store_reader *reader = l->reading.reader;
        uint64_t next = l->first;

        if (!c->stream.size && store_reader_examined(reader))
                next = store_reader_position(reader) + 1;
        reading_close(&l->reading);
        poll_begin(c, next);
}

/* What fails at once can still be told by the status. */
static void begin(struct lines *l)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct call *c = l->call;
        struct store_read_item item;
        int r = reading_next(&l->reading, &item);

        if (r == READING_LATER && c->poll_until_us) {
                gateway_on_gone(c->request, on_close, l);
                return;
        }
        gateway_on_gone(c->request, NULL, NULL); /* a body that goes on tells by itself that it is closed */
        if (r == STORE_READ_END && c->poll_until_us) {
                wait_for_first(l);
                return;
        }
        if (r && r != READING_LATER && r != STORE_READ_END) {
                struct store_reader *reader = l->reading.reader;

                os_timer_stop(&l->reading.again);
                call_refuse_read(c, r, store_reader_problem(reader));
                store_reader_close(&reader);
                return;
        }
        if (!r)
                add_event(l, &item);
        l->has_begun = true;
        gateway_stream_begin(
                c->request, 200, "application/x-ndjson", lines_headers, COUNT_OF(lines_headers), &handler, l);
        /* Where memory is short the first turn may be long in coming: what is large is the connection's to
         * count. */
        if (l->piece.size >= PIECE_SIZE)
                send_piece(l);
        store_reader_ease(l->reading.reader);
}

void lines_begin(struct call *c, struct read_query *q)
{
        struct lines *l = arena_get(call_arena(c), sizeof *l);
        struct store_read_options options;
        int r;

        *l = (struct lines){.call = c};
        r = c->poll_until_us ? first_number(c, q, &l->first) : 0;
        options = read_options(c, q);
        if (r)
                filter_free(&options.filter);
        else
                r = reading_open_visible(&l->reading, c, &options, lines_wake, l);
        if (r == STORE_READ_NOT_FOUND && c->poll_until_us) {
                poll_begin(c, l->first);
        } else if (r) {
                call_refuse_read(c, r, "");
        } else if (call_is_head(c)) {
                reading_close(&l->reading);
                gateway_reply(c->request, 200, "application/x-ndjson", BYTES_EMPTY, lines_headers,
                        COUNT_OF(lines_headers));
        } else {
                begin(l);
        }
}
