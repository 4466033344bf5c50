/* Lists of streams, categories and types, in byte order, with the number of their events: as a JSON page or
 * as NDJSON. System names, which begin with '$', are left out unless they are asked for; so are names of
 * streams that who asks may not read.
 *
 * Where some may not be shown, many may have to be looked at for one that may. A look is bounded, and goes on
 * in another turn. A page that is not full when its time is over ends with the last name that it shows: where
 * it stands between hidden ones would be the name of one. */
#include "api/room.h"

struct names {
        struct call *call;
        enum persistence_names what;
        struct bytes prefix;
        bool wants_system;
        bool is_lines;
        bool must_ask; /* whether a name may be shown */
        uint64_t left; /* names still wanted */
        uint64_t given;
        /* Freed with the reply or when the client is gone. */
        struct buffer after; /* the last name looked at */
        struct buffer shown; /* the last name shown */
        struct buffer out;
        struct json_out j;
        struct os_timer again;
        /* One look. */
        unsigned looked_at;
        unsigned given_now;
        unsigned wanted;
        bool may_read_all;
        bool is_at_system; /* stopped at a name that begins with '$' */
        bool is_cut;       /* stopped after as many names as one look bears */
        bool has_more;
};

static void dispose(struct names *n)
{
        os_timer_stop(&n->again);
        buffer_fini(&n->after);
        buffer_fini(&n->shown);
        buffer_fini(&n->out);
}

static void keep(struct buffer *to, struct bytes name)
{
        buffer_clear(to);
        buffer_add_bytes(to, name);
}

static bool may_show(struct names *n, struct bytes name)
{
        struct gateway_request *request = n->call->request;

        if (!n->must_ask)
                return true;
        return n->may_read_all ? gateway_may_see(request, name) : gateway_may(request, ACCESS_READ, name);
}

static bool add_name(void *arg, struct bytes name, uint64_t event_count)
{
        struct names *n = arg;

        if (!n->wants_system && stream_is_system(name)) {
                n->is_at_system = true;
                return false;
        }
        if (!may_show(n, name)) {
                keep(&n->after, name);
                n->is_cut = ++n->looked_at == NAMES_LOOKED_AT_MAX;
                return !n->is_cut;
        }
        if (n->given_now == n->wanted) {
                n->has_more = true;
                return false;
        }
        n->given_now++;
        keep(&n->after, name);
        json_object_begin(&n->j);
        json_field_bytes(&n->j, "name", name);
        json_field_u64(&n->j, "events", event_count);
        json_object_end(&n->j);
        if (n->is_lines) {
                buffer_add_u8(&n->out, '\n');
                n->j = (struct json_out){.out = &n->out};
        } else {
                keep(&n->shown, name);
        }
        return true;
}

/* Adds up to `wanted` names to `out`; says whether there are more, or that it must look again to know. 0,
 * PERSISTENCE_CORRUPT or a fault. */
static int look(struct names *n, unsigned wanted)
{
        struct call *c = n->call;
        int r;

        n->given_now = 0;
        n->looked_at = 0;
        n->wanted = wanted;
        n->has_more = false;
        n->is_cut = false;
        n->may_read_all = n->must_ask && gateway_may(c->request, ACCESS_READ, BYTES_LITERAL("$all"));
        do {
                n->is_at_system = false;
                r = store_list(
                        c->store, n->what, n->prefix, buffer_bytes(&n->after), UINT32_MAX, add_name, n);
                /* No name has this byte in it, so this lies behind all that begin with '$'. */
                if (n->is_at_system)
                        keep(&n->after, BYTES_LITERAL("$\xff"));
        } while (!r && n->is_at_system);
        n->left -= n->given_now;
        n->given += n->given_now;
        return r;
}

static void refuse(struct names *n, int r)
{
        dispose(n);
        call_refuse_read(n->call, r == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(r), "");
}

/* ---- JSON ---- */

static void finish_page(struct names *n)
{
        struct call *c = n->call;

        json_array_end(&n->j);
        json_field_bool(&n->j, "at_end", !n->has_more);
        if (n->has_more) {
                json_key(&n->j, "after");
                json_bytes(&n->j, buffer_bytes(&n->shown));
                json_key(&n->j, "next");
                link_to_json(c, &n->j, "after", buffer_bytes(&n->shown));
        }
        json_object_end(&n->j);
        os_timer_stop(&n->again);
        buffer_fini(&n->after);
        buffer_fini(&n->shown);
        call_reply_read(c, &n->out, &(struct read_answer){0});
}

static void fill_page(struct names *n)
{
        struct os *os = n->call->api->os;
        int r = look(n, (unsigned)n->left);

        if (r) {
                refuse(n, r);
        } else if (!n->is_cut) {
                finish_page(n);
        } else if (os_monotonic_us(os) < n->call->deadline_us) {
                os_timer_start(os, &n->again, 0);
        } else if (n->given) {
                n->has_more = true;
                finish_page(n);
        } else {
                dispose(n);
                call_refuse(n->call, 503, "too-many-hidden", "The list takes too long",
                        "give a longer prefix, or more time: ?timeout-ms=",
                        "very many names come first that you may not see");
        }
}

static void on_again(struct os_timer *timer)
{
        fill_page(timer->arg);
}

static void on_gone(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

static void reply_page(struct names *n, const char *key)
{
        json_object_begin(&n->j);
        json_key(&n->j, key);
        json_array_begin(&n->j);
        if (n->must_ask)
                gateway_on_gone(n->call->request, on_gone, n);
        fill_page(n);
}

/* ---- NDJSON ---- */

static void on_writable(void *arg, struct gateway_request *request)
{
        struct names *n = arg;

        while (gateway_stream_room(request) > 0) {
                int r = look(n, (unsigned)MIN(n->left, (uint64_t)NAMES_BATCH));

                if (r)
                        buffer_add_string(&n->out,
                                "{\"problem\":{\"type\":\"urn:nilo:corrupt\",\"status\":500,\"title\":"
                                "\"The list ends here, before its end\"}}\n");
                if (n->out.size)
                        gateway_stream_send(request, buffer_bytes(&n->out));
                buffer_clear(&n->out);
                if (r || !n->left || (!n->is_cut && !n->has_more)) {
                        dispose(n);
                        gateway_stream_end(request);
                        return;
                }
                if (n->is_cut) {
                        gateway_stream_wake(request);
                        return;
                }
        }
}

static void on_close(void *arg, struct gateway_request *request)
{
        (void)request;
        dispose(arg);
}

/* ---- handlers ---- */

static void list(struct call *c, enum persistence_names what, const char *key)
{
        static const struct gateway_stream_handler handler = {
                .on_writable = on_writable, .on_close = on_close};
        struct names *n = arena_get(call_arena(c), sizeof *n);
        struct bytes after;
        bool wants_system;

        *n = (struct names){.call = c, .what = what, .is_lines = call_form(c) != FORM_JSON};
        n->j.out = &n->out;
        n->again = (struct os_timer){.fn = on_again, .arg = n};
        n->must_ask = c->has_rights && what == NAMES_STREAMS;
        gateway_query(c->request, "prefix", &n->prefix);
        if (!query_switch(c, "system", &wants_system) ||
                !query_number(c, "limit", 1, n->is_lines ? UINT64_MAX : NAMES_PAGE_MAX,
                        n->is_lines ? UINT64_MAX : NAMES_PAGE_DEFAULT, &n->left))
                return;
        n->wants_system = wants_system || stream_is_system(n->prefix);
        if (gateway_query(c->request, "after", &after))
                buffer_add_bytes(&n->after, after);
        if (!n->is_lines) {
                reply_page(n, key);
        } else if (call_is_head(c)) {
                dispose(n);
                gateway_reply(c->request, 200, "application/x-ndjson", BYTES_EMPTY, lines_headers,
                        COUNT_OF(lines_headers));
        } else {
                gateway_stream_begin(c->request, 200, "application/x-ndjson", lines_headers,
                        COUNT_OF(lines_headers), &handler, n);
        }
}

void handle_streams(struct call *c)
{
        list(c, NAMES_STREAMS, "streams");
}

void handle_categories(struct call *c)
{
        list(c, NAMES_CATEGORIES, "categories");
}

void handle_types(struct call *c)
{
        list(c, NAMES_TYPES, "types");
}
