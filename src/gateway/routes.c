/* Which handler answers a path, and the small grammar of paths and queries.
 *
 * Routes are few and requests over them are not the hot path, so a request looks at every route. Where
 * several match, the one whose earliest differing segment is literal wins: "/v1/stores/default" before
 * "/v1/stores/{store}". */
#include "gateway/room.h"

#include <stdlib.h>

void gateway_add_routes(struct gateway *g, const struct gateway_route *routes, unsigned count)
{
        struct route_block *block = MEMORY_NEW(struct route_block);
        struct route_block **at = &g->routes;

        for (unsigned i = 0; i < count; i++) {
                assert(routes[i].path[0] == '/');
                assert(routes[i].handler);
                assert(routes[i].access != ACCESS_UNRULED);
                assert(!routes[i].stream || routes[i].access == ACCESS_STREAM);
        }
        block->routes = routes;
        block->count = count;
        while (*at)
                at = &(*at)->next;
        *at = block;
}

void gateway_each_route(
        const struct gateway *g, void (*each)(void *arg, const struct gateway_route *route), void *arg)
{
        for (const struct route_block *b = g->routes; b; b = b->next)
                for (unsigned i = 0; i < b->count; i++)
                        each(arg, &b->routes[i]);
}

/* ---- percent-encoding ---- */

static int hex_digit(uint8_t c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

bool percent_decode(struct arena *arena, struct bytes text, bool is_form, struct bytes *ret)
{
        uint8_t *out = arena_get(arena, text.size + 1);
        size_t n = 0;

        for (size_t i = 0; i < text.size; i++) {
                uint8_t c = text.data[i];

                if (c == '%') {
                        int high = i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
                        int low = i + 2 < text.size ? hex_digit(text.data[i + 2]) : -1;

                        if (high < 0 || low < 0)
                                return false;
                        c = (uint8_t)(high << 4 | low);
                        i += 2;
                } else if (c == '+' && is_form) {
                        c = ' ';
                }
                out[n++] = c;
        }
        *ret = bytes_of(out, n);
        return true;
}

/* ---- matching ---- */

/* The segment behind the slash that *at begins with; false at the end. */
static bool next_segment(struct bytes *at, struct bytes *ret)
{
        const uint8_t *slash;
        size_t size;

        if (!at->size)
                return false;
        assert(at->data[0] == '/');
        slash = memchr(at->data + 1, '/', at->size - 1);
        size = slash ? (size_t)(slash - at->data) - 1 : at->size - 1;
        *ret = bytes_of(at->data + 1, size);
        *at = bytes_of(at->data + 1 + size, at->size - 1 - size);
        return true;
}

static bool is_parameter(struct bytes segment)
{
        return segment.size > 2 && segment.data[0] == '{' && segment.data[segment.size - 1] == '}';
}

/* 0: no match; else the better match has the greater number: a bit for each segment, the first segment
 * highest, set if it is literal. */
static uint64_t match(const char *template, struct bytes path)
{
        struct bytes pattern = bytes_of_string(template);
        struct bytes want, have;
        uint64_t score = 1;
        uint64_t bit = (uint64_t)1 << 63;

        for (;;) {
                bool wants = next_segment(&pattern, &want);
                bool has = next_segment(&path, &have);

                if (wants != has)
                        return 0;
                if (!wants)
                        return score;
                if (is_parameter(want)) {
                        if (!have.size)
                                return 0;
                } else if (bytes_equal(want, have)) {
                        score |= bit;
                } else {
                        return 0;
                }
                bit >>= 1;
        }
}

static bool method_matches(const struct gateway_request *r, const struct gateway_route *route)
{
        return bytes_equal_string(r->method, route->method) ||
               (r->is_head && strcmp(route->method, "GET") == 0);
}

static bool take_parameters(struct gateway_request *r)
{
        struct bytes pattern = bytes_of_string(r->route->path);
        struct bytes path = r->path;
        struct bytes want, have;

        while (next_segment(&pattern, &want) && next_segment(&path, &have)) {
                struct header *to;

                if (!is_parameter(want))
                        continue;
                assert(r->path_parameter_count < PATH_PARAMETERS_MAX);
                to = &r->path_parameters[r->path_parameter_count++];
                to->name = bytes_of(want.data + 1, want.size - 2);
                if (!percent_decode(&r->arena, have, false, &to->value))
                        return false;
        }
        return true;
}

static void tell_methods(struct gateway_request *r, struct buffer *allow)
{
        struct gateway_header_field field = {"allow", NULL};

        buffer_add_string(allow, ", OPTIONS");
        field.value = arena_string(&r->arena, buffer_bytes(allow));
        gateway_reply(r, 204, NULL, BYTES_EMPTY, &field, 1);
}

static void refuse_method(struct gateway_request *r, struct bytes allow)
{
        struct gateway_header_field field = {"allow", arena_string(&r->arena, allow)};
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "type", "urn:nilo:method-not-allowed");
        json_field_string(&j, "title", "The path does not take this method");
        json_field_u64(&j, "status", 405);
        json_key(&j, "detail");
        json_bytes(&j, r->path);
        json_key(&j, "allow");
        json_bytes(&j, allow);
        json_object_end(&j);
        gateway_reply(r, 405, "application/problem+json", buffer_bytes(&out), &field, 1);
        buffer_fini(&out);
}

static void add_allowed(struct buffer *allow, const char *method)
{
        struct bytes all = buffer_bytes(allow);
        size_t size = strlen(method);

        for (size_t i = 0; i + size <= all.size; i++)
                if (memcmp(all.data + i, method, size) == 0)
                        return;
        buffer_format(allow, "%s%s", allow->size ? ", " : "", method);
        if (strcmp(method, "GET") == 0)
                buffer_add_string(allow, ", HEAD");
}

bool route_find(struct gateway_request *r)
{
        struct buffer allow = {0};
        uint64_t best = 0;

        for (const struct route_block *b = r->gateway->routes; b; b = b->next) {
                for (unsigned i = 0; i < b->count; i++) {
                        uint64_t score = match(b->routes[i].path, r->path);

                        if (!score)
                                continue;
                        if (!method_matches(r, &b->routes[i])) {
                                add_allowed(&allow, b->routes[i].method);
                        } else if (score > best) {
                                best = score;
                                r->route = &b->routes[i];
                        }
                }
        }
        if (best) {
                buffer_fini(&allow);
                if (take_parameters(r))
                        return true;
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 400, .code = "bad-path", .title = "The path is not well-formed"},
                        "a '%%' is not followed by two hexadecimal digits");
                return false;
        }
        if (grpc_is_method(r->gateway, r->path))
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 415, .code = "grpc-only", .title = "The path is a gRPC method"},
                        "call it by POST over HTTP/2 with the content type application/grpc");
        else if (allow.size && bytes_equal_string(r->method, "OPTIONS"))
                tell_methods(r, &allow);
        else if (allow.size)
                refuse_method(r, buffer_bytes(&allow));
        else
                gateway_reply_problem(r,
                        &(struct gateway_problem){
                                .status = 404, .code = "no-such-path", .title = "Not Found"},
                        "nothing is at '%.*s'", (int)MIN(r->path.size, 512), r->path.data);
        buffer_fini(&allow);
        return false;
}

struct bytes gateway_path_parameter(const struct gateway_request *r, const char *name)
{
        for (unsigned i = 0; i < r->path_parameter_count; i++)
                if (bytes_equal_string(r->path_parameters[i].name, name))
                        return r->path_parameters[i].value;
        return BYTES_EMPTY;
}

/* ---- query ---- */

/* A pair with a broken escape is kept as it was sent: the handler that knows the parameter refuses the value.
 */
static struct bytes decode_leniently(struct gateway_request *r, struct bytes text)
{
        struct bytes decoded;

        return percent_decode(&r->arena, text, true, &decoded) ? decoded : text;
}

static void read_query(struct gateway_request *r)
{
        const uint8_t *at = r->path.data + r->path.size;
        const uint8_t *end = r->target.data + r->target.size;

        r->is_query_read = true;
        if (at == end)
                return;
        at++; /* the question mark */
        r->query = arena_get(&r->arena, QUERY_PARAMETERS_MAX * sizeof *r->query);
        while (at < end && r->query_count < QUERY_PARAMETERS_MAX) {
                const uint8_t *ampersand = memchr(at, '&', (size_t)(end - at));
                const uint8_t *stop = ampersand ? ampersand : end;
                const uint8_t *equals = memchr(at, '=', (size_t)(stop - at));
                struct header *to = &r->query[r->query_count];

                if (stop > at) {
                        const uint8_t *name_end = equals ? equals : stop;

                        to->name = decode_leniently(r, bytes_of(at, (size_t)(name_end - at)));
                        to->value = equals ? decode_leniently(
                                                     r, bytes_of(equals + 1, (size_t)(stop - equals - 1)))
                                           : BYTES_EMPTY;
                        r->query_count++;
                }
                at = stop + 1;
        }
}

bool gateway_query_at(
        const struct gateway_request *request, unsigned i, struct bytes *ret_name, struct bytes *ret_value)
{
        struct gateway_request *r = (struct gateway_request *)request; /* read on first use */

        if (!r->is_query_read)
                read_query(r);
        if (i >= r->query_count)
                return false;
        *ret_name = r->query[i].name;
        *ret_value = r->query[i].value;
        return true;
}

bool gateway_query(const struct gateway_request *r, const char *name, struct bytes *ret)
{
        struct bytes found, value;

        for (unsigned i = 0; gateway_query_at(r, i, &found, &value); i++) {
                if (bytes_equal_string(found, name)) {
                        *ret = value;
                        return true;
                }
        }
        return false;
}

const char *http_reason(int status)
{
        static const struct {
                int status;
                const char *reason;
        } reasons[] = {
                {200, "OK"},
                {201, "Created"},
                {202, "Accepted"},
                {204, "No Content"},
                {206, "Partial Content"},
                {301, "Moved Permanently"},
                {302, "Found"},
                {303, "See Other"},
                {304, "Not Modified"},
                {307, "Temporary Redirect"},
                {308, "Permanent Redirect"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {406, "Not Acceptable"},
                {408, "Request Timeout"},
                {409, "Conflict"},
                {410, "Gone"},
                {411, "Length Required"},
                {412, "Precondition Failed"},
                {413, "Content Too Large"},
                {414, "URI Too Long"},
                {415, "Unsupported Media Type"},
                {417, "Expectation Failed"},
                {421, "Misdirected Request"},
                {422, "Unprocessable Content"},
                {428, "Precondition Required"},
                {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"},
                {500, "Internal Server Error"},
                {501, "Not Implemented"},
                {502, "Bad Gateway"},
                {503, "Service Unavailable"},
                {504, "Gateway Timeout"},
                {505, "HTTP Version Not Supported"},
                {507, "Insufficient Storage"},
        };

        for (unsigned i = 0; i < COUNT_OF(reasons); i++)
                if (reasons[i].status == status)
                        return reasons[i].reason;
        return "Unknown";
}
