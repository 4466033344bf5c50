/* What the description of the API (openapi.c) says about parameters, operations and bodies beyond what the table of routes
 * does (openapi_parts.c). */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include "api/room.h"

struct openapi_parameter {
        const char *name;
        const char *schema; /* JSON */
        const char *text;
};
/* NULL: nothing is said about it. */
const struct openapi_parameter *openapi_query(struct bytes name);
const struct openapi_parameter *openapi_path_parameter(struct bytes name);

/* Headers that a route takes because it knows a query parameter that says the same. */
struct openapi_header {
        const char *query;
        const char *method; /* NULL: any */
        const char *name;
        const char *text;
};
extern const struct openapi_header openapi_headers[];
extern const unsigned openapi_header_count;

enum openapi_forms { FORMS_JSON, FORMS_LISTS, FORMS_READ, FORMS_FEED, FORMS_TEXT, FORMS_NONE };
struct openapi_operation {
        const char *method;
        const char *path;     /* without the part that names a store */
        const char *status;   /* of success; NULL: 200 */
        const char *takes;    /* content of the body, JSON; NULL: an object, if there is a body */
        const char *schema;   /* of the answer, in components/schemas; NULL: an object */
        enum openapi_forms forms;
};
/* Never NULL. */
const struct openapi_operation *openapi_operation_of(const char *method, const char *path);

/* The shapes of bodies: members, those of one shape together. Without a name: the schema of the whole. */
struct openapi_member {
        const char *of;
        const char *name;
        const char *schema; /* JSON */
        bool is_required;
};
extern const struct openapi_member openapi_members[];
extern const unsigned openapi_member_count;

#endif
