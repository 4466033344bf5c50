/* The description of the API: it has every route, and nothing else, and what it refers to is there (G17). */
#include "support.h"

static struct server *server;
static json_t *document;

static int start(void **state)
{
        struct reply r;

        (void)state;
        server = server_start(&(struct server_options){.has_users = true});
        call_bytes(server, "GET /v1/openapi.json", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 200);
        document = json_loads(body_of(&r), JSON_REJECT_DUPLICATES, NULL);
        reply_free(&r);
        assert_non_null(document);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        json_decref(document);
        server_stop(server);
        return 0;
}

/* ---- the routes ---- */

enum { ROUTES_MAX = 200 };

struct routes {
        const struct gateway_route *all[ROUTES_MAX];
        unsigned count;
};

static void take(void *arg, const struct gateway_route *route)
{
        struct routes *r = arg;

        assert(r->count < ROUTES_MAX);
        r->all[r->count++] = route;
}

static void list(struct server *s, void *arg)
{
        gateway_each_route(s->gateway, take, arg);
}

static json_t *operation_of(const struct gateway_route *route)
{
        const json_t *methods = json_object_get(json_object_get(document, "paths"), route->path);
        char method[16];
        unsigned i;

        for (i = 0; route->method[i]; i++)
                method[i] = (char)(route->method[i] | 0x20);
        method[i] = 0;
        return json_object_get(methods, method);
}

static unsigned operation_count(void)
{
        const char *path, *method;
        json_t *methods, *operation;
        unsigned count = 0;

        json_object_foreach(json_object_get(document, "paths"), path, methods)
                json_object_foreach(methods, method, operation) count++;
        return count;
}

TEST(openapi, has_every_route_and_nothing_else)
{
        struct routes routes = {0};

        on_server(server, list, &routes);
        assert_true(routes.count > 60);
        for (unsigned i = 0; i < routes.count; i++) {
                const json_t *operation = operation_of(routes.all[i]);

                if (!operation)
                        fprintf(stderr, "%s %s\n", routes.all[i]->method, routes.all[i]->path);
                assert_non_null(operation);
                assert_string_equal(text(operation, "summary"), routes.all[i]->summary);
        }
        assert_int_equal(operation_count(), routes.count);
        assert_string_equal(text(document, "openapi"), "3.1.0");
}

/* ---- what it says of each ---- */

static bool has_parameter(const json_t *operation, const char *name, size_t size, const char *in)
{
        const json_t *parameter;
        size_t i;

        json_array_foreach(json_object_get(operation, "parameters"), i, parameter)
        {
                const char *have = json_string_value(json_object_get(parameter, "name"));

                if (have && strlen(have) == size && memcmp(have, name, size) == 0 &&
                        strcmp(text(parameter, "in"), in) == 0) {
                        if (!json_object_get(parameter, "description"))
                                fprintf(stderr, "nothing is said about '%s'\n", have);
                        assert_non_null(json_object_get(parameter, "description"));
                        return true;
                }
        }
        return false;
}

TEST(openapi, describes_every_parameter_of_the_table)
{
        struct routes routes = {0};
        unsigned count = 0;

        on_server(server, list, &routes);
        for (unsigned i = 0; i < routes.count; i++) {
                const json_t *operation = operation_of(routes.all[i]);
                const char *at;

                for (at = strchr(routes.all[i]->path, '{'); at; at = strchr(at + 1, '{'), count++)
                        assert_true(has_parameter(operation, at + 1, strcspn(at + 1, "}"), "path"));
                for (at = routes.all[i]->queries ? routes.all[i]->queries : ""; *at; count++) {
                        size_t size = strcspn(at, " ");

                        assert_true(has_parameter(operation, at, size, "query"));
                        at += size + (at[size] == ' ');
                }
        }
        assert_true(count > 100);
}

TEST(openapi, says_who_may)
{
        struct routes routes = {0};

        on_server(server, list, &routes);
        for (unsigned i = 0; i < routes.count; i++) {
                const struct gateway_route *route = routes.all[i];
                const json_t *operation = operation_of(route);
                const json_t *access = json_object_get(operation, "x-nilo-access");
                size_t schemes = json_array_size(json_object_get(operation, "security"));

                assert_int_equal(schemes, route->access == ACCESS_ANYONE ? 0 : 2);
                assert_int_equal(strcmp(text(access, "rule"), "stream") == 0, route->access == ACCESS_STREAM);
                if (route->stream)
                        assert_string_equal(text(access, "stream"), route->stream);
                assert_int_equal(json_object_get(operation, "requestBody") != NULL,
                        route->body_size_max > 0 && strcmp(route->method, "DELETE") != 0);
                assert_non_null(json_object_get(json_object_get(operation, "responses"), "default"));
        }
}

TEST(options, tells_the_methods_of_a_path)
{
        struct reply r;

        call_bytes(server, "OPTIONS /v1/streams/a/events", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 204);
        assert_non_null(strstr((char *)r.head.data, "allow: POST, GET, HEAD, OPTIONS\r\n"));
        reply_free(&r);
        call_bytes(server, "OPTIONS /v1/streams/a/metadata", "", BYTES_EMPTY, &r);
        assert_non_null(strstr((char *)r.head.data, "allow: GET, HEAD, PUT, OPTIONS\r\n"));
        reply_free(&r);
        call_bytes(server, "OPTIONS /nothing", "", BYTES_EMPTY, &r);
        assert_int_equal(r.status, 404);
        reply_free(&r);
}

/* ---- its references ---- */

static void follow(const char *ref)
{
        const json_t *at = document;
        char name[64];

        assert_int_equal(strncmp(ref, "#/", 2), 0);
        for (ref += 2; *ref;) {
                size_t size = strcspn(ref, "/");

                assert_true(size < sizeof name);
                memcpy(name, ref, size);
                name[size] = 0;
                at = json_object_get(at, name);
                if (!at)
                        fprintf(stderr, "'%s' is referred to and not there\n", name);
                assert_non_null(at);
                ref += size + (ref[size] == '/');
        }
}

static unsigned follow_all(json_t *json)
{
        unsigned count = 0;
        const char *key;
        json_t *value;
        size_t i;

        if (json_is_array(json))
                json_array_foreach(json, i, value) count += follow_all(value);
        json_object_foreach(json, key, value)
        {
                if (strcmp(key, "$ref") == 0) {
                        follow(json_string_value(value));
                        count++;
                }
                count += follow_all(value);
        }
        return count;
}

TEST(openapi, what_it_refers_to_is_there)
{
        assert_true(follow_all(document) > 100);
}

/* Every member of what is really answered is in the shape that is said to be. */
static void check_shape(const json_t *answer, const char *schema)
{
        const json_t *shapes = json_object_get(json_object_get(document, "components"), "schemas");
        const json_t *members = json_object_get(json_object_get(shapes, schema), "properties");
        const char *key;
        json_t *value;

        assert_non_null(members);
        json_object_foreach((json_t *)answer, key, value)
        {
                if (!json_object_get(members, key))
                        fprintf(stderr, "%s has no '%s'\n", schema, key);
                assert_non_null(json_object_get(members, key));
        }
}

static void check_answer(int status, const char *line, const char *headers, const char *body,
        const char *schema, const char *list, const char *element)
{
        /* admin:changeit */
        static const char admin[] = "Authorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n";
        char all[512];
        json_t *json;

        snprintf(all, sizeof all, "%s%s", admin, headers);
        json = call(server, status, line, all, body);
        check_shape(json, schema);
        if (list) {
                assert_true(json_array_size(json_object_get(json, list)) > 0);
                check_shape(json_array_get(json_object_get(json, list), 0), element);
        }
        json_decref(json);
}

#define EVENT "{\"type\":\"T\",\"data\":1,\"metadata\":{},\"tags\":[\"a\"]}"

TEST(openapi, describes_what_is_answered)
{
        check_answer(201, "POST /v1/streams/s/events", JSON_BODY, EVENT, "Appended", NULL, NULL);
        check_answer(201, "POST /v1/append", JSON_BODY,
                "{\"streams\":[{\"stream\":\"s\",\"events\":[" EVENT "]}]}", "AppendedToAll", "streams",
                "Appended");
        check_answer(200, "PUT /v1/streams/s/metadata", JSON_BODY,
                "{\"$maxCount\":9,\"$maxAge\":99,\"$tb\":1}", "MetadataWritten", NULL, NULL);
        check_answer(200, "GET /v1/streams/s/metadata", "", NULL, "Metadata", NULL, NULL);
        check_answer(200, "GET /v1/streams/s", "", NULL, "StreamState", NULL, NULL);
        check_answer(200, "GET /v1/streams/s/events", "", NULL, "Page", "events", "Event");
        check_answer(200, "GET /v1/streams/s/events/1", "", NULL, "Event", NULL, NULL);
        check_answer(200, "GET /v1/streams?limit=1&system=true", "", NULL, "Streams", "streams", "Name");
        check_answer(200, "GET /v1/categories?system=true", "", NULL, "Categories", "categories", "Name");
        check_answer(200, "GET /v1/types", "", NULL, "Types", "types", "Name");
        check_answer(200, "GET /v1/users", "", NULL, "Users", "users", "User");
        check_answer(200, "POST /v1/token", JSON_BODY, "{}", "Token", NULL, NULL);
        check_answer(200, "POST /v1/streams/s/truncate?before=2", "", "", "MetadataWritten", NULL, NULL);
        check_answer(200, "DELETE /v1/streams/s", "", NULL, "StreamDeleted", NULL, NULL);
        check_answer(404, "GET /v1/all/events/99999", "", NULL, "Problem", NULL, NULL);
}

/* One that nothing refers to was forgotten. */
TEST(openapi, has_no_shape_without_a_use)
{
        char *whole = json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);
        const char *name;
        json_t *schema;

        json_object_foreach(json_object_get(json_object_get(document, "components"), "schemas"), name, schema)
        {
                char ref[100];

                snprintf(ref, sizeof ref, "\"#/components/schemas/%s\"", name);
                if (!strstr(whole, ref))
                        fprintf(stderr, "nothing refers to %s\n", name);
                assert_non_null(strstr(whole, ref));
        }
        free(whole);
}

TEST(openapi, names_each_operation_once)
{
        json_t *seen = json_object();
        const char *path, *method;
        json_t *methods, *operation;

        json_object_foreach(json_object_get(document, "paths"), path, methods)
        {
                json_object_foreach(methods, method, operation)
                {
                        const char *id = text(operation, "operationId");

                        assert_null(json_object_get(seen, id));
                        json_object_set_new(seen, id, json_true());
                }
        }
        json_decref(seen);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(openapi, has_every_route_and_nothing_else),
                TEST_ROW(openapi, describes_every_parameter_of_the_table),
                TEST_ROW(openapi, says_who_may),
                TEST_ROW(options, tells_the_methods_of_a_path),
                TEST_ROW(openapi, what_it_refers_to_is_there),
                TEST_ROW(openapi, describes_what_is_answered),
                TEST_ROW(openapi, has_no_shape_without_a_use),
                TEST_ROW(openapi, names_each_operation_once),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
