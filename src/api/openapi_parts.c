/* Words and shapes of the description of the API. What is not here is described by the table of routes alone.
 */
#include "api/openapi.h"

#define STRING  "{\"type\":\"string\"}"
#define STRINGS "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"
#define SWITCH  "{\"type\":\"boolean\",\"default\":false}"
#define COUNT   "{\"type\":\"integer\",\"minimum\":1}"
#define NUMBER  "{\"type\":\"integer\",\"minimum\":0}"

/* ---- parameters ---- */

static const struct openapi_parameter queries[] = {
        {"after", STRING,
                "Of lists: go on behind this name. Of reads: wait until the event at this position is "
                "visible"},
        {"before", STRING, "The first revision that stays visible, or end"},
        {"category", STRING, "Only facts of these categories, separated by commas"},
        {"consistency", "{\"type\":\"string\",\"enum\":[\"stale\",\"linearizable\",\"leader\"]}",
                "What the read must see; by default the leader gives what is newest, other nodes what they "
                "have"},
        {"direction", "{\"type\":\"string\",\"enum\":[\"forward\",\"backward\"],\"default\":\"forward\"}",
                "Which way to read"},
        {"dry-run", SWITCH, "Say what would be done, and do nothing"},
        {"expect", STRING, "What is expected of the stream: any, none, exists, or its last revision"},
        {"from", STRING, "Where to begin: start, end, or a number, inclusive"},
        {"last-event-id", STRING, "Go on behind this event, as the header Last-Event-ID"},
        {"level", STRING, "Only facts that a logger of this level shows"},
        {"limit", COUNT, "At most so many"},
        {"liveCode", "{\"type\":\"integer\",\"minimum\":200,\"maximum\":599}", "The status when it is live"},
        {"name", STRING, "How who asks calls himself; by default the User-Agent"},
        {"only", NUMBER, "The number of the one parked event to deliver again"},
        {"prefix", STRING, "Only names that begin with this"},
        {"replace", SWITCH, "Change the subscription if it exists"},
        {"resolve-links", SWITCH, "Give the target of a link in place of the link"},
        {"skip", NUMBER, "Leave out so many"},
        {"stop-at", NUMBER, "Only parked events with lower numbers"},
        {"stream", STRING, "Only of this stream"},
        {"stream-prefix", STRINGS, "Only streams whose names begin with one of these"},
        {"stream-regex", STRING, "Only streams whose names match (PCRE2)"},
        {"system", SWITCH, "Names that begin with $ as well"},
        {"timeout-ms", COUNT,
                "Of writes: when to say that the outcome is unknown. Of reads: how long to wait for what "
                "they "
                "must see, and when to give a page that is not full"},
        {"to", STRING, "Where to go on: start, end, or a number"},
        {"tombstone", SWITCH, "Delete for good: the name is never used again"},
        {"type-prefix", STRINGS, "Only event types that begin with one of these"},
        {"type-regex", STRING, "Only event types that match (PCRE2)"},
        {"wait-ms", NUMBER, "How long to wait: of a read, for its first event; of a command, for its end"},
        {"window", COUNT, "How many events may be given and not yet acknowledged"},
};

static const struct openapi_parameter path_parameters[] = {
        {"group", STRING, "The name of a group of consumers"},
        {"id", STRING, "The id of a token"},
        {"login", STRING, "The login of a user"},
        {"node", COUNT, "The number of a node"},
        {"position", NUMBER, "The position of an event among all streams"},
        {"revision", NUMBER, "The revision of an event in its stream"},
        {"store", "{\"type\":\"string\",\"default\":\"default\"}", "The name of a store"},
        {"stream", STRING, "The name of a stream, percent-encoded"},
        {"subsystem", STRING, "The name of a subsystem"},
        {"verb", STRING, "What to do"},
};

static const struct openapi_parameter *find(
        const struct openapi_parameter *all, unsigned count, struct bytes name)
{
        for (unsigned i = 0; i < count; i++)
                if (bytes_equal_string(name, all[i].name))
                        return &all[i];
        return NULL;
}

const struct openapi_parameter *openapi_query(struct bytes name)
{
        return find(queries, COUNT_OF(queries), name);
}

const struct openapi_parameter *openapi_path_parameter(struct bytes name)
{
        return find(path_parameters, COUNT_OF(path_parameters), name);
}

const struct openapi_header openapi_headers[] = {
        {"expect", NULL, "Nilo-Expect"},
        {"expect", NULL, "If-Match"},
        {"expect", "POST", "Nilo-Event-Type"},
        {"expect", NULL, "Nilo-Event-Id"},
        {"consistency", NULL, "Nilo-After"},
        {"consistency", NULL, "Requires-Leader"},
        {"last-event-id", NULL, "Last-Event-ID"},
        {"last-event-id", NULL, "Prefer"},
};
const unsigned openapi_header_count = COUNT_OF(openapi_headers);

/* ---- operations ---- */

#define CONTENT(media, schema) "\"" media "\":{\"schema\":{\"$ref\":\"#/components/schemas/" schema "\"}}"
#define LINES(schema)          CONTENT("application/x-ndjson", schema)

static const struct openapi_operation operations[] = {
        {"POST", "/v1/streams/{stream}/events", "201",
                "{" CONTENT("application/json", "NewEvents") "," LINES("NewEvent") ",\"*/*\":{}}",
                .schema = "Appended"},
        {"POST", "/v1/append", "201", "{" CONTENT("application/json", "NewAppend") "," LINES("NewLine") "}",
                .schema = "AppendedToAll"},
        {"GET", "/v1/streams/{stream}/events", .schema = "Page", .forms = FORMS_READ},
        {"GET", "/v1/all/events", .schema = "Page", .forms = FORMS_READ},
        {"GET", "/v1/streams/{stream}/events/{revision}", .schema = "Event"},
        {"GET", "/v1/all/events/{position}", .schema = "Event"},
        {"GET", "/v1/streams/{stream}", .schema = "StreamState"},
        {"PUT", "/v1/streams/{stream}/metadata", .takes = "{" CONTENT("application/json", "Metadata") "}"},
        {"GET", "/v1/streams/{stream}/metadata", .schema = "Metadata"},
        {"GET", "/v1/streams", .schema = "Streams", .forms = FORMS_LISTS},
        {"GET", "/v1/categories", .schema = "Categories", .forms = FORMS_LISTS},
        {"GET", "/v1/types", .schema = "Types", .forms = FORMS_LISTS},
        {"GET", "/v1/readers", .forms = FORMS_LISTS},
        {"GET", "/v1/subscriptions", .forms = FORMS_LISTS},
        {"PUT", "/v1/subscriptions/{stream}/{group}", .status = "201"},
        {"GET", "/v1/subscriptions/{stream}/{group}/events", .forms = FORMS_FEED},
        {"POST", "/v1/subscriptions/{stream}/{group}/ack",
                .takes = "{" CONTENT("application/json", "Acknowledgement") "}"},
        {"POST", "/v1/subscriptions/{stream}/{group}/nack",
                .takes = "{" CONTENT("application/json", "Refusal") "}"},
        {"GET", "/v1/facts", .forms = FORMS_FEED},
        {"GET", "/metrics", .forms = FORMS_TEXT},
        {"GET", "/ping", .forms = FORMS_TEXT},
        {"GET", "/health/live", "204", .forms = FORMS_NONE},
};

const struct openapi_operation *openapi_operation_of(const char *method, const char *path)
{
        static const struct openapi_operation plain = {0};

        for (unsigned i = 0; i < COUNT_OF(operations); i++)
                if (strcmp(operations[i].method, method) == 0 && strcmp(operations[i].path, path) == 0)
                        return &operations[i];
        return &plain;
}

/* ---- components ---- */

#define HEADER(key, text)                                                                                    \
        "\"" key "\":{\"name\":\"" key "\",\"in\":\"header\",\"description\":\"" text                        \
        "\",\"schema\":" STRING "}"
#define NAMES(key, item)                                                                                     \
        "\"" key "\":{\"type\":\"object\",\"properties\":{\"" item                                           \
        "\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"name\":" STRING             \
        ",\"events\":" NUMBER "}}},\"at_end\":{\"type\":\"boolean\"},\"after\":" STRING ",\"next\":" STRING  \
        "}}"
#define PLACE "\"stream\":" STRING ",\"revision\":" NUMBER ",\"position\":" NUMBER
/* clang-format off: one member, one line */
const char openapi_components[] = "{\"parameters\":{" HEADER(
        "Nilo-Expect", "As the parameter expect") "," HEADER("If-Match",
        "The entity tag of the stream or of its metadata: the same as to expect its revision; 412 if it does "
        "not hold") "," HEADER("Nilo-Event-Type",
        "The body is the data of one event of this type") "," HEADER("Nilo-Event-Id",
        "The id of the event, which makes a retry safe") "," HEADER("Nilo-After",
        "The read waits until the event at this position is visible") "," HEADER("Requires-Leader",
        "true: other nodes send to the leader (307)") "," HEADER("Last-Event-ID",
        "A follow goes on behind this event") "," HEADER("Prefer",
        "wait=SECONDS: a read at the end waits for its first event") "},\"responses\":{\"Problem\":{"
                                                                     "\"description\":\"It was refused (RFC "
                                                                     "9457)\",\"content\":{" CONTENT("applica"
                                                                                                     "tion/"
                                                                                                     "problem"
                                                                                                     "+json",
                                                                             "Problem") "}}},\"schemas\":{"
                                                                                        "\"Problem\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"required\":["
                                                                                        "\"type\",\"title\","
                                                                                        "\"status\","
                                                                                        "\"detail\"],"
                                                                                        "\"properties\":{"
                                                                                        "\"type\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"examples\":[\"urn:"
                                                                                        "nilo:conflict\"]},"
                                                                                        "\"title\":" STRING
                                                                                        ",\"status\":" NUMBER
                                                                                        ",\"detail\":" STRING
                                                                                        ",\"next\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"description\":"
                                                                                        "\"What to do\"}}},"
                                                                                        "\"Event\":{\"type\":"
                                                                                        "\"object\","
                                                                                        "\"properties\":"
                                                                                        "{" PLACE
                                                                                        ",\"id\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"format\":\"uuid\"}"
                                                                                        ",\"type\":" STRING
                                                                                        ",\"time\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"format\":\"date-"
                                                                                        "time\"},\"content_"
                                                                                        "type\":" STRING
                                                                                        ",\"data\":{},\"data_"
                                                                                        "base64\":" STRING
                                                                                        ",\"metadata\":{},"
                                                                                        "\"metadata_"
                                                                                        "base64\":" STRING
                                                                                        ",\"tags\":" STRINGS
                                                                                        ",\"link\":{\"type\":"
                                                                                        "\"object\","
                                                                                        "\"properties\":"
                                                                                        "{" PLACE
                                                                                        "}},\"resolved\":{"
                                                                                        "\"type\":"
                                                                                        "\"boolean\"}}},"
                                                                                        "\"Page\":{\"type\":"
                                                                                        "\"object\","
                                                                                        "\"properties\":{"
                                                                                        "\"stream\":" STRING
                                                                                        ",\"direction\""
                                                                                        ":" STRING
                                                                                        ",\"events\":{"
                                                                                        "\"type\":\"array\","
                                                                                        "\"items\":{\"$ref\":"
                                                                                        "\"#/components/"
                                                                                        "schemas/Event\"}}"
                                                                                        ",\"at_end\":{"
                                                                                        "\"type\":"
                                                                                        "\"boolean\"},"
                                                                                        "\"next\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"description\":"
                                                                                        "\"The path of the "
                                                                                        "next page\"}}},"
                                                                                        "\"NewEvent\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"required\":["
                                                                                        "\"type\"],"
                                                                                        "\"properties\":{"
                                                                                        "\"type\":" STRING
                                                                                        ",\"id\":{\"type\":"
                                                                                        "\"string\","
                                                                                        "\"format\":\"uuid\"}"
                                                                                        ",\"data\":{},\"data_"
                                                                                        "base64\":" STRING
                                                                                        ",\"metadata\":{},"
                                                                                        "\"metadata_"
                                                                                        "base64\":" STRING
                                                                                        ",\"tags\":" STRINGS
                                                                                        ",\"content_"
                                                                                        "type\":" STRING "}},"
                                                                                        "\"NewEvents\":{"
                                                                                        "\"oneOf\":[{\"$"
                                                                                        "ref\":\"#/"
                                                                                        "components/schemas/"
                                                                                        "NewEvent\"},"
                                                                                        "{\"type\":\"array\","
                                                                                        "\"items\":{\"$ref\":"
                                                                                        "\"#/components/"
                                                                                        "schemas/"
                                                                                        "NewEvent\"}}]},"
                                                                                        "\"NewLine\":{"
                                                                                        "\"allOf\":[{\"$"
                                                                                        "ref\":\"#/"
                                                                                        "components/schemas/"
                                                                                        "NewEvent\"},{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"required\":["
                                                                                        "\"stream\"],"
                                                                                        "\"properties\":{"
                                                                                        "\"stream\":" STRING
                                                                                        ",\"expect\":{"
                                                                                        "\"type\":["
                                                                                        "\"string\","
                                                                                        "\"integer\"]}}}]},"
                                                                                        "\"NewAppend\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"required\":["
                                                                                        "\"streams\"],"
                                                                                        "\"properties\":{"
                                                                                        "\"streams\":{"
                                                                                        "\"type\":\"array\","
                                                                                        "\"items\":"
                                                                                        "{\"type\":"
                                                                                        "\"object\","
                                                                                        "\"required\":["
                                                                                        "\"stream\"],"
                                                                                        "\"properties\":{"
                                                                                        "\"stream\":" STRING
                                                                                        ",\"expect\":{"
                                                                                        "\"type\":["
                                                                                        "\"string\","
                                                                                        "\"integer\"]},"
                                                                                        "\"events\":{"
                                                                                        "\"type\":\"array\","
                                                                                        "\"items\":"
                                                                                        "{\"$ref\":\"#/"
                                                                                        "components/schemas/"
                                                                                        "NewEvent\"}}}}}}},"
                                                                                        "\"Appended\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"properties\":{"
                                                                                        "\"stream\":" STRING
                                                                                        ",\"first_"
                                                                                        "revision\":" NUMBER
                                                                                        ",\"last_"
                                                                                        "revision\":" NUMBER
                                                                                        ",\"first_"
                                                                                        "position\":" NUMBER
                                                                                        ",\"position\""
                                                                                        ":" NUMBER
                                                                                        ",\"duplicate\":{"
                                                                                        "\"type\":"
                                                                                        "\"boolean\"},"
                                                                                        "\"ids\":" STRINGS
                                                                                        "}},"
                                                                                        "\"AppendedToAll\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"properties\":{"
                                                                                        "\"streams\":{"
                                                                                        "\"type\":\"array\","
                                                                                        "\"items\":"
                                                                                        "{\"$ref\":\"#/"
                                                                                        "components/schemas/"
                                                                                        "Appended\"}},"
                                                                                        "\"first_"
                                                                                        "position\":" NUMBER
                                                                                        ",\"position\""
                                                                                        ":" NUMBER
                                                                                        ",\"duplicate\":{"
                                                                                        "\"type\":"
                                                                                        "\"boolean\"},"
                                                                                        "\"ids\":" STRINGS
                                                                                        "}},"
                                                                                        "\"StreamState\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"properties\":{"
                                                                                        "\"stream\":" STRING
                                                                                        ",\"state\":" STRING
                                                                                        ",\"first_"
                                                                                        "revision\":" NUMBER
                                                                                        ",\"last_"
                                                                                        "revision\":" NUMBER
                                                                                        ",\"last_"
                                                                                        "position\":" NUMBER
                                                                                        ",\"metadata_"
                                                                                        "revision\":" NUMBER
                                                                                        ",\"max_"
                                                                                        "count\":" NUMBER
                                                                                        ",\"max_age_"
                                                                                        "seconds\":" NUMBER
                                                                                        ",\"truncate_"
                                                                                        "before\":" NUMBER
                                                                                        "}},"
                                                                                        "\"Metadata\":{"
                                                                                        "\"type\":\"object\","
                                                                                        "\"properties\":{\"$"
                                                                                        "maxCount\":" COUNT
                                                                                        ",\"$maxAge\":" COUNT
                                                                                        ",\"$tb\":" NUMBER
                                                                                        ",\"$"
                                                                                        "cacheControl\""
                                                                                        ":" COUNT
                                                                                        ",\"$acl\":{\"type\":"
                                                                                        "\"object\","
                                                                                        "\"description\":\"$"
                                                                                        "r, $w, $d, $mr, "
                                                                                        "$mw: logins and "
                                                                                        "groups\"}}}," NAMES(
                                                                                                "Streams",
                                                                                                "streams") "," NAMES("Categories",
                                                                                                "categories") "," NAMES("Types",
                                                                                                "types") ","
                                                                                                         "\"A"
                                                                                                         "ckn"
                                                                                                         "owl"
                                                                                                         "edg"
                                                                                                         "eme"
                                                                                                         "nt"
                                                                                                         "\":"
                                                                                                         "{\""
                                                                                                         "typ"
                                                                                                         "e\""
                                                                                                         ":\""
                                                                                                         "obj"
                                                                                                         "ect"
                                                                                                         "\","
                                                                                                         "\"r"
                                                                                                         "equ"
                                                                                                         "ire"
                                                                                                         "d\""
                                                                                                         ":["
                                                                                                         "\"c"
                                                                                                         "ons"
                                                                                                         "ume"
                                                                                                         "r\""
                                                                                                         ",\""
                                                                                                         "ids"
                                                                                                         "\"]"
                                                                                                         ",\""
                                                                                                         "pro"
                                                                                                         "per"
                                                                                                         "tie"
                                                                                                         "s\""
                                                                                                         ":{"
                                                                                                         "\"c"
                                                                                                         "ons"
                                                                                                         "ume"
                                                                                                         "r\""
                                                                                                         ":" STRING
                                                                                                         ",\""
                                                                                                         "ids"
                                                                                                         "\""
                                                                                                         ":" STRINGS
                                                                                                         "}},"
                                                                                                         "\"R"
                                                                                                         "efu"
                                                                                                         "sal"
                                                                                                         "\":"
                                                                                                         "{\""
                                                                                                         "typ"
                                                                                                         "e\""
                                                                                                         ":\""
                                                                                                         "obj"
                                                                                                         "ect"
                                                                                                         "\","
                                                                                                         "\"r"
                                                                                                         "equ"
                                                                                                         "ire"
                                                                                                         "d\""
                                                                                                         ":["
                                                                                                         "\"c"
                                                                                                         "ons"
                                                                                                         "ume"
                                                                                                         "r\""
                                                                                                         ",\""
                                                                                                         "ids"
                                                                                                         "\"]"
                                                                                                         ",\""
                                                                                                         "pro"
                                                                                                         "per"
                                                                                                         "tie"
                                                                                                         "s\""
                                                                                                         ":{"
                                                                                                         "\"c"
                                                                                                         "ons"
                                                                                                         "ume"
                                                                                                         "r\""
                                                                                                         ":" STRING
                                                                                                         ",\""
                                                                                                         "ids"
                                                                                                         "\""
                                                                                                         ":" STRINGS
                                                                                                         ",\""
                                                                                                         "act"
                                                                                                         "ion"
                                                                                                         "\":"
                                                                                                         "{\""
                                                                                                         "typ"
                                                                                                         "e\""
                                                                                                         ":\""
                                                                                                         "str"
                                                                                                         "ing"
                                                                                                         "\","
                                                                                                         "\"e"
                                                                                                         "num"
                                                                                                         "\":"
                                                                                                         "[\""
                                                                                                         "ret"
                                                                                                         "ry"
                                                                                                         "\","
                                                                                                         "\"p"
                                                                                                         "ark"
                                                                                                         "\","
                                                                                                         "\"s"
                                                                                                         "kip"
                                                                                                         "\","
                                                                                                         "\"s"
                                                                                                         "top"
                                                                                                         "\"]"
                                                                                                         "},"
                                                                                                         "\"r"
                                                                                                         "eas"
                                                                                                         "on"
                                                                                                         "\""
                                                                                                         ":" STRING
                                                                                                         "}}"
                                                                                                         "},"
                                                                                                         "\"s"
                                                                                                         "ecu"
                                                                                                         "rit"
                                                                                                         "ySc"
                                                                                                         "hem"
                                                                                                         "es"
                                                                                                         "\":"
                                                                                                         "{"
                                                                                                         "\"b"
                                                                                                         "asi"
                                                                                                         "c\""
                                                                                                         ":{"
                                                                                                         "\"t"
                                                                                                         "ype"
                                                                                                         "\":"
                                                                                                         "\"h"
                                                                                                         "ttp"
                                                                                                         "\","
                                                                                                         "\"s"
                                                                                                         "che"
                                                                                                         "me"
                                                                                                         "\":"
                                                                                                         "\"b"
                                                                                                         "asi"
                                                                                                         "c\""
                                                                                                         "},"
                                                                                                         "\"b"
                                                                                                         "ear"
                                                                                                         "er"
                                                                                                         "\":"
                                                                                                         "{\""
                                                                                                         "typ"
                                                                                                         "e\""
                                                                                                         ":\""
                                                                                                         "htt"
                                                                                                         "p\""
                                                                                                         ",\""
                                                                                                         "sch"
                                                                                                         "eme"
                                                                                                         "\":"
                                                                                                         "\"b"
                                                                                                         "ear"
                                                                                                         "er"
                                                                                                         "\"}"
                                                                                                         "}}";
/* clang-format on */
