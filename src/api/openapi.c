/* The description of the API for programs (OpenAPI 3.1), made of the gateway's table of routes when it is
 * asked for: a route that is not in it, or one in it that is none, cannot be. Every room's routes are there.
 */
#include "api/openapi.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the routes, path by path ---- */

struct routes {
        const struct gateway_route **all;
        unsigned count;
        unsigned capacity;
};

static void take_route(void *arg, const struct gateway_route *route)
{
        struct routes *r = arg;

        if (r->count == r->capacity) {
                r->capacity = r->capacity ? r->capacity * 2 : 64;
                r->all = memory_resize(r->all, r->capacity * sizeof(*r->all));
        }
        r->all[r->count++] = route;
}

static int compare_routes(const void *a, const void *b)
{
        const struct gateway_route *const *x = a;
        const struct gateway_route *const *y = b;
        int r = strcmp((*x)->path, (*y)->path);

        return r ? r : strcmp((*x)->method, (*y)->method);
}

/* ---- one operation ---- */

static void method_lower(struct buffer *out, const char *method)
{
        for (; *method; method++)
                buffer_add_u8(out, (uint8_t)(*method | 0x20));
}

/* "get_v1_streams_stream_events": the method and the words of the path. */
static void add_id(struct json_out *j, const struct gateway_route *route)
{
        struct buffer id = {0};
        bool is_word = false;

        method_lower(&id, route->method);
        for (const char *at = route->path; *at; at++) {
                bool is_letter = (*at >= '0' && *at <= '9') || ((*at | 0x20) >= 'a' && (*at | 0x20) <= 'z');

                if (is_letter && !is_word)
                        buffer_add_u8(&id, '_');
                if (is_letter)
                        buffer_add_u8(&id, (uint8_t)*at);
                is_word = is_letter;
        }
        json_field_bytes(j, "operationId", buffer_bytes(&id));
        buffer_fini(&id);
}

/* The path without what names a store: "/v1/stores/{store}/types" is "/v1/types". */
static void path_of_default(const char *path, char *to, size_t size)
{
        static const char store[] = "/v1/stores/{store}/";
        size_t skip = strncmp(path, store, sizeof store - 1) == 0 ? strlen("/stores/{store}") : 0;

        snprintf(to, size, "%s%s", skip ? "/v1" : "", path + (skip ? strlen("/v1") + skip : 0));
}

static void add_tag(struct json_out *j, const char *path)
{
        const char *word = strncmp(path, "/v1/", 4) == 0 ? path + 4 : "server";

        json_key(j, "tags");
        json_array_begin(j);
        json_bytes(j, bytes_of(word, strcspn(word, "/")));
        json_array_end(j);
}

static void add_parameter(
        struct json_out *j, struct bytes name, const char *in, const struct openapi_parameter *known)
{
        json_object_begin(j);
        json_field_bytes(j, "name", name);
        json_field_string(j, "in", in);
        if (strcmp(in, "path") == 0)
                json_field_bool(j, "required", true);
        if (known)
                json_field_string(j, "description", known->text);
        json_key(j, "schema");
        json_raw(j, known ? bytes_of_string(known->schema) : BYTES_LITERAL("{\"type\":\"string\"}"));
        json_object_end(j);
}

static bool knows_query(const struct gateway_route *route, const char *name)
{
        for (const char *at = route->queries ? route->queries : ""; *at;) {
                size_t size = strcspn(at, " ");

                if (bytes_equal_string(bytes_of(at, size), name))
                        return true;
                at += size + (at[size] == ' ');
        }
        return false;
}

static void add_parameters(struct json_out *j, const struct gateway_route *route)
{
        json_key(j, "parameters");
        json_array_begin(j);
        for (const char *at = strchr(route->path, '{'); at; at = strchr(at + 1, '{')) {
                struct bytes name = bytes_of(at + 1, strcspn(at + 1, "}"));

                add_parameter(j, name, "path", openapi_path_parameter(name));
        }
        for (const char *at = route->queries ? route->queries : ""; *at;) {
                struct bytes name = bytes_of(at, strcspn(at, " "));

                if (name.size)
                        add_parameter(j, name, "query", openapi_query(name));
                at += name.size + (at[name.size] == ' ');
        }
        for (unsigned i = 0; i < openapi_header_count; i++) {
                const struct openapi_header *h = &openapi_headers[i];
                char ref[64];

                if (!knows_query(route, h->query) || (h->method && strcmp(h->method, route->method) != 0))
                        continue;
                snprintf(ref, sizeof ref, "#/components/parameters/%s", h->name);
                json_object_begin(j);
                json_field_string(j, "$ref", ref);
                json_object_end(j);
        }
        json_array_end(j);
}

static void add_body(
        struct json_out *j, const struct gateway_route *route, const struct openapi_operation *operation)
{
        if (!route->body_size_max || strcmp(route->method, "DELETE") == 0)
                return;
        json_key(j, "requestBody");
        json_object_begin(j);
        json_key(j, "content");
        json_raw(j, operation->takes
                            ? bytes_of_string(operation->takes)
                            : BYTES_LITERAL("{\"application/json\":{\"schema\":{\"type\":\"object\"}}}"));
        json_field_u64(j, "x-nilo-size-max", route->body_size_max);
        json_object_end(j);
}

/* ---- answers ---- */

static void add_content(struct json_out *j, const char *media, const char *schema)
{
        char ref[64];

        json_key(j, media);
        json_object_begin(j);
        json_key(j, "schema");
        json_object_begin(j);
        if (schema) {
                snprintf(ref, sizeof ref, "#/components/schemas/%s", schema);
                json_field_string(j, "$ref", ref);
        }
        json_object_end(j);
        json_object_end(j);
}

static void add_forms(struct json_out *j, const struct openapi_operation *operation)
{
        bool has_events = operation->forms == FORMS_READ;

        if (operation->forms == FORMS_NONE)
                return;
        json_key(j, "content");
        json_object_begin(j);
        if (operation->forms == FORMS_TEXT)
                add_content(j, "text/plain", NULL);
        else if (operation->forms != FORMS_FEED)
                add_content(j, "application/json", operation->schema);
        if (operation->forms == FORMS_LISTS || operation->forms == FORMS_FEED || has_events)
                add_content(j, "application/x-ndjson", has_events ? "Event" : NULL);
        if (operation->forms == FORMS_FEED || has_events)
                add_content(j, "text/event-stream", NULL);
        json_object_end(j);
}

static void add_answers(
        struct json_out *j, const struct gateway_route *route, const struct openapi_operation *operation)
{
        json_key(j, "responses");
        json_object_begin(j);
        json_key(j, operation->status ? operation->status : "200");
        json_object_begin(j);
        json_field_string(j, "description", route->summary);
        add_forms(j, operation);
        json_object_end(j);
        json_key(j, "default");
        json_object_begin(j);
        json_field_string(j, "$ref", "#/components/responses/Problem");
        json_object_end(j);
        json_object_end(j);
}

/* ---- who may ---- */

static const char *rule_name(enum access_rule rule)
{
        static const char *const names[] = {
                [ACCESS_ANYONE] = "anyone",
                [ACCESS_USER] = "user",
                [ACCESS_OPS] = "ops",
                [ACCESS_ADMINS] = "admins",
                [ACCESS_STREAM] = "stream",
        };

        return names[rule];
}

static void add_rule(struct json_out *j, const struct gateway_route *route)
{
        json_key(j, "security");
        json_raw(j, route->access == ACCESS_ANYONE ? BYTES_LITERAL("[]")
                                                   : BYTES_LITERAL("[{\"basic\":[]},{\"bearer\":[]}]"));
        json_key(j, "x-nilo-access");
        json_object_begin(j);
        json_field_string(j, "rule", rule_name(route->access));
        if (route->stream) {
                json_field_string(j, "right", access_right_name(route->right));
                json_field_string(j, "stream", route->stream);
        }
        json_object_end(j);
}

static void add_operation(struct json_out *j, const struct gateway_route *route)
{
        const struct openapi_operation *operation;
        struct buffer method = {0};
        char path[256];

        path_of_default(route->path, path, sizeof path);
        operation = openapi_operation_of(route->method, path);
        method_lower(&method, route->method);
        json_key_bytes(j, buffer_bytes(&method));
        buffer_fini(&method);
        json_object_begin(j);
        add_id(j, route);
        json_field_string(j, "summary", route->summary);
        add_tag(j, path);
        add_parameters(j, route);
        add_body(j, route, operation);
        add_answers(j, route, operation);
        add_rule(j, route);
        json_object_end(j);
}

/* ---- what operations refer to ---- */

static void add_schema(struct json_out *j, const struct openapi_member *first, unsigned count)
{
        json_key(j, first->of);
        if (!first->name) {
                json_raw(j, bytes_of_string(first->schema));
                return;
        }
        json_object_begin(j);
        json_field_string(j, "type", "object");
        json_key(j, "required");
        json_array_begin(j);
        for (unsigned i = 0; i < count; i++)
                if (first[i].is_required)
                        json_text(j, first[i].name);
        json_array_end(j);
        json_key(j, "properties");
        json_object_begin(j);
        for (unsigned i = 0; i < count; i++) {
                json_key(j, first[i].name);
                json_raw(j, bytes_of_string(first[i].schema));
        }
        json_object_end(j);
        json_object_end(j);
}

static void add_schemas(struct json_out *j)
{
        json_key(j, "schemas");
        json_object_begin(j);
        for (unsigned i = 0, count; i < openapi_member_count; i += count) {
                const struct openapi_member *first = &openapi_members[i];

                count = 1;
                while (i + count < openapi_member_count && strcmp(first[count].of, first->of) == 0)
                        count++;
                add_schema(j, first, count);
        }
        json_object_end(j);
}

static void add_components(struct json_out *j)
{
        json_key(j, "components");
        json_object_begin(j);
        json_key(j, "parameters");
        json_object_begin(j);
        for (unsigned i = 0; i < openapi_header_count; i++) {
                const struct openapi_header *h = &openapi_headers[i];
                struct openapi_parameter p = {h->name, "{\"type\":\"string\"}", h->text};

                json_key(j, h->name);
                add_parameter(j, bytes_of_string(h->name), "header", &p);
        }
        json_object_end(j);
        json_key(j, "responses");
        json_raw(j, BYTES_LITERAL("{\"Problem\":{\"description\":\"It was refused (RFC 9457)\",\"content\":{"
                                  "\"application/problem+json\":{\"schema\":{\"$ref\":"
                                  "\"#/components/schemas/Problem\"}}}}}"));
        add_schemas(j);
        json_key(j, "securitySchemes");
        json_raw(j, BYTES_LITERAL("{\"basic\":{\"type\":\"http\",\"scheme\":\"basic\"},"
                                  "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}"));
        json_object_end(j);
}

/* ---- the whole ---- */

static void add_paths(struct json_out *j, const struct routes *r)
{
        json_key(j, "paths");
        json_object_begin(j);
        for (unsigned i = 0; i < r->count; i++) {
                bool is_first = !i || strcmp(r->all[i]->path, r->all[i - 1]->path) != 0;

                if (is_first && i)
                        json_object_end(j);
                if (is_first) {
                        json_key(j, r->all[i]->path);
                        json_object_begin(j);
                }
                add_operation(j, r->all[i]);
        }
        if (r->count)
                json_object_end(j);
        json_object_end(j);
}

static void get_openapi(void *arg, struct gateway_request *request)
{
        static const struct gateway_header_field headers[] = {{"cache-control", "no-cache"}};
        struct api *api = arg;
        struct routes routes = {0};
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        gateway_each_route(api->gateway, take_route, &routes);
        qsort(routes.all, routes.count, sizeof(*routes.all), compare_routes);
        json_object_begin(&j);
        json_field_string(&j, "openapi", "3.1.0");
        json_key(&j, "info");
        json_object_begin(&j);
        json_field_string(&j, "title", "Nilometer");
        json_field_string(&j, "version", NILO_VERSION);
        json_field_string(&j, "description",
                "The HTTP API of an event store. What x-nilo-access asks for counts where users are "
                "enforced.");
        json_key(&j, "license");
        json_raw(&j, BYTES_LITERAL("{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}"));
        json_object_end(&j);
        json_key(&j, "servers");
        json_raw(&j, BYTES_LITERAL("[{\"url\":\"/\"}]"));
        add_paths(&j, &routes);
        add_components(&j);
        json_object_end(&j);
        buffer_add_u8(&body, '\n');
        free(routes.all);
        gateway_reply(request, 200, "application/json", buffer_bytes(&body), headers, COUNT_OF(headers));
        buffer_fini(&body);
}

void openapi_open(struct api *api)
{
        api->openapi_route =
                (struct gateway_route){"GET", "/v1/openapi.json", "every path, for programs (OpenAPI 3.1)",
                        get_openapi, api, .when_not_ready = true, .access = ACCESS_ANYONE};
        gateway_add_routes(api->gateway, &api->openapi_route, 1);
}
