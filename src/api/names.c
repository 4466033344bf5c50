/* Lists of streams, categories and types, in byte order, with the number of their events: as a JSON page or
 * as NDJSON. System names, which begin with '$', are left out unless they are asked for. */
#include "api/room.h"

struct names {
        struct call *call;
        enum persistence_names what;
        struct bytes prefix;
        bool wants_system;
        uint64_t limit; /* UINT64_MAX: none was given */
        /* One look at the lists. */
        struct buffer after; /* the last name seen; freed with the reply or when the client is gone */
        struct json_out j;
        struct buffer out;
        unsigned given;
        unsigned wanted;
        bool is_lines;
        bool is_at_system; /* stopped at a name that begins with '$' */
        bool has_more;
};

static void dispose(struct names *n)
{
        buffer_fini(&n->after);
        buffer_fini(&n->out);
}

static bool add_name(void *arg, struct bytes name, uint64_t event_count)
{
        struct names *n = arg;

        if (!n->wants_system && stream_is_system(name)) {
                n->is_at_system = true;
                return false;
        }
        if (n->given == n->wanted) {
                n->has_more = true;
                return false;
        }
        n->given++;
        buffer_clear(&n->after);
        buffer_add_bytes(&n->after, name);
        json_object_begin(&n->j);
        json_field_bytes(&n->j, "name", name);
        json_field_u64(&n->j, "events", event_count);
        json_object_end(&n->j);
        if (n->is_lines) {
                buffer_add_u8(&n->out, '\n');
                n->j = (struct json_out){.out = &n->out};
        }
        return true;
}

/* Adds up to `wanted` names to `out`; says whether there are more. 0, PERSISTENCE_CORRUPT or a fault. */
static int look(struct names *n, unsigned wanted)
{
        int r;

        n->given = 0;
        n->wanted = wanted;
        n->has_more = false;
        do {
                n->is_at_system = false;
                r = store_list(
                        n->call->store, n->what, n->prefix, buffer_bytes(&n->after), UINT32_MAX, add_name, n);
                if (n->is_at_system) {
                        /* No name has this byte in it, so this lies behind all that begin with '$'. */
                        buffer_clear(&n->after);
                        buffer_add_string(&n->after, "$\xff");
                }
        } while (!r && n->is_at_system);
        return r;
}

static void refuse(struct names *n, int r)
{
        dispose(n);
        call_refuse_read(n->call, r == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(r), "");
}

/* ---- JSON ---- */

static void reply_page(struct names *n, const char *key)
{
        struct call *c = n->call;
        int r;

        json_object_begin(&n->j);
        json_key(&n->j, key);
        json_array_begin(&n->j);
        r = look(n, (unsigned)n->limit);
        if (r) {
                refuse(n, r);
                return;
        }
        json_array_end(&n->j);
        json_field_bool(&n->j, "at_end", !n->has_more);
        if (n->has_more) {
                json_key(&n->j, "after");
                json_bytes(&n->j, buffer_bytes(&n->after));
                json_key(&n->j, "next");
                link_to_json(c, &n->j, "after", buffer_bytes(&n->after));
        }
        json_object_end(&n->j);
        buffer_fini(&n->after);
        call_reply_json(c, 200, &n->out, NULL, 0);
}

/* ---- NDJSON ---- */

static void on_writable(void *arg, struct gateway_request *request)
{
        struct names *n = arg;

        while (gateway_stream_room(request) > 0) {
                unsigned wanted = (unsigned)MIN(n->limit, (uint64_t)NAMES_BATCH);
                int r = look(n, wanted);

                if (r)
                        buffer_add_string(&n->out,
                                "{\"problem\":{\"type\":\"urn:nilo:corrupt\",\"status\":500,\"title\":"
                                "\"The list ends here, before its end\"}}\n");
                gateway_stream_send(request, buffer_bytes(&n->out));
                buffer_clear(&n->out);
                n->limit -= n->given;
                if (r || !n->has_more || !n->limit) {
                        dispose(n);
                        gateway_stream_end(request);
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
        bool has_after;
        bool wants_system;

        *n = (struct names){.call = c, .what = what, .is_lines = call_form(c) != FORM_JSON};
        n->j.out = &n->out;
        gateway_query(c->request, "prefix", &n->prefix);
        has_after = gateway_query(c->request, "after", &after);
        if (!query_switch(c, "system", &wants_system) ||
                !query_number(c, "limit", 1, n->is_lines ? UINT64_MAX : NAMES_PAGE_MAX,
                        n->is_lines ? UINT64_MAX : NAMES_PAGE_DEFAULT, &n->limit))
                return;
        n->wants_system = wants_system || stream_is_system(n->prefix);
        if (has_after)
                buffer_add_bytes(&n->after, after);
        if (!n->is_lines) {
                reply_page(n, key);
        } else if (call_is_head(c)) {
                dispose(n);
                gateway_reply(c->request, 200, "application/x-ndjson", BYTES_EMPTY, NULL, 0);
        } else {
                gateway_stream_begin(c->request, 200, "application/x-ndjson", NULL, 0, &handler, n);
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
