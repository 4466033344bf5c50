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
        {"expect", NULL, "Nilo-Expect", "As the parameter expect"},
        {"expect", NULL, "If-Match",
                "The entity tag of the stream, or of its metadata: its revision is expected; 412 if it is "
                "another"},
        {"expect", "POST", "Nilo-Event-Type", "The body is the data of one event of this type"},
        {"expect", NULL, "Nilo-Event-Id", "The id of the event, which makes a retry safe"},
        {"consistency", NULL, "Nilo-After", "The read waits until the event at this position is visible"},
        {"consistency", NULL, "Requires-Leader", "true: other nodes send to the leader (307)"},
        {"last-event-id", NULL, "Last-Event-ID", "A follow goes on behind this event"},
        {"last-event-id", NULL, "Prefer", "wait=SECONDS: a read at the end waits for its first event"},
};
const unsigned openapi_header_count = COUNT_OF(openapi_headers);

/* ---- operations ---- */

#define CONTENT(media, schema) "\"" media "\":{\"schema\":{\"$ref\":\"#/components/schemas/" schema "\"}}"
#define JSON(schema)           CONTENT("application/json", schema)
#define LINES(schema)          CONTENT("application/x-ndjson", schema)

static const struct openapi_operation operations[] = {
        {"POST", "/v1/streams/{stream}/events", "201",
                "{" JSON("NewEvents") "," LINES("NewEvent") ",\"*/*\":{}}", .schema = "Appended"},
        {"POST", "/v1/append", "201", "{" JSON("NewAppend") "," LINES("NewLine") "}",
                .schema = "AppendedToAll"},
        {"GET", "/v1/streams/{stream}/events", .schema = "Page", .forms = FORMS_READ},
        {"GET", "/v1/all/events", .schema = "Page", .forms = FORMS_READ},
        {"GET", "/v1/streams/{stream}/events/{revision}", .schema = "Event"},
        {"GET", "/v1/all/events/{position}", .schema = "Event"},
        {"GET", "/v1/streams/{stream}", .schema = "StreamState"},
        {"DELETE", "/v1/streams/{stream}", .schema = "StreamDeleted"},
        {"POST", "/v1/streams/{stream}/truncate", .schema = "MetadataWritten"},
        {"PUT", "/v1/streams/{stream}/metadata", .takes = "{" JSON("Metadata") "}",
                .schema = "MetadataWritten"},
        {"GET", "/v1/streams/{stream}/metadata", .schema = "Metadata"},
        {"GET", "/v1/streams", .schema = "Streams", .forms = FORMS_LISTS},
        {"GET", "/v1/categories", .schema = "Categories", .forms = FORMS_LISTS},
        {"GET", "/v1/types", .schema = "Types", .forms = FORMS_LISTS},
        {"GET", "/v1/readers", .forms = FORMS_LISTS},
        {"GET", "/v1/subscriptions", .forms = FORMS_LISTS},
        {"PUT", "/v1/subscriptions/{stream}/{group}", .status = "201",
                .takes = "{" JSON("NewSubscription") "}"},
        {"GET", "/v1/subscriptions/{stream}/{group}/events", .forms = FORMS_FEED},
        {"POST", "/v1/subscriptions/{stream}/{group}/ack", .takes = "{" JSON("Acknowledgement") "}"},
        {"POST", "/v1/subscriptions/{stream}/{group}/nack", .takes = "{" JSON("Refusal") "}"},
        {"GET", "/v1/users", .schema = "Users"},
        {"GET", "/v1/users/{login}", .schema = "User"},
        {"POST", "/v1/users", .status = "201", .takes = "{" JSON("NewUser") "}"},
        {"PUT", "/v1/users/{login}", .takes = "{" JSON("ChangedUser") "}"},
        {"POST", "/v1/users/{login}/password", .takes = "{" JSON("NewPassword") "}"},
        {"POST", "/v1/token", .takes = "{" JSON("NewToken") "}", .schema = "Token"},
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

/* ---- shapes ---- */

#define REF(schema) "{\"$ref\":\"#/components/schemas/" schema "\"}"
#define ARRAY(of)   "{\"type\":\"array\",\"items\":" of "}"
#define ENUM(words) "{\"type\":\"string\",\"enum\":[" words "]}"
#define BOOLEAN     "{\"type\":\"boolean\"}"
#define UUID        "{\"type\":\"string\",\"format\":\"uuid\"}"
#define TIME        "{\"type\":\"string\",\"format\":\"date-time\"}"
#define OBJECT      "{\"type\":\"object\"}"
#define ANYTHING    "{}"
#define EXPECTATION "{\"type\":[\"string\",\"integer\"]}"

const struct openapi_member openapi_members[] = {
        {"Problem", "type", STRING, true},
        {"Problem", "title", STRING, true},
        {"Problem", "status", NUMBER, true},
        {"Problem", "detail", STRING, true},
        {"Problem", "next", STRING, false},
        {"Event", "stream", STRING, false},
        {"Event", "revision", NUMBER, false},
        {"Event", "position", NUMBER, false},
        {"Event", "id", UUID, false},
        {"Event", "type", STRING, false},
        {"Event", "time", TIME, false},
        {"Event", "content_type", STRING, false},
        {"Event", "data", ANYTHING, false},
        {"Event", "data_base64", STRING, false},
        {"Event", "metadata", ANYTHING, false},
        {"Event", "metadata_base64", STRING, false},
        {"Event", "tags", STRINGS, false},
        {"Event", "link", REF("Place"), false},
        {"Event", "resolved", BOOLEAN, false},
        {"Place", "stream", STRING, false},
        {"Place", "revision", NUMBER, false},
        {"Place", "position", NUMBER, false},
        {"Place", "id", UUID, false},
        {"Page", "stream", STRING, false},
        {"Page", "direction", STRING, false},
        {"Page", "events", ARRAY(REF("Event")), false},
        {"Page", "at_end", BOOLEAN, false},
        {"Page", "next", STRING, false},
        {"NewEvent", "type", STRING, true},
        {"NewEvent", "id", UUID, false},
        {"NewEvent", "data", ANYTHING, false},
        {"NewEvent", "data_base64", STRING, false},
        {"NewEvent", "metadata", ANYTHING, false},
        {"NewEvent", "metadata_base64", STRING, false},
        {"NewEvent", "tags", STRINGS, false},
        {"NewEvent", "content_type", STRING, false},
        {"NewEvents", NULL, "{\"oneOf\":[" REF("NewEvent") "," ARRAY(REF("NewEvent")) "]}", false},
        {"NewLine", "stream", STRING, true},
        {"NewLine", "expect", EXPECTATION, false},
        {"NewLine", "type", STRING, true},
        {"NewLine", "id", UUID, false},
        {"NewLine", "data", ANYTHING, false},
        {"NewLine", "data_base64", STRING, false},
        {"NewLine", "metadata", ANYTHING, false},
        {"NewLine", "metadata_base64", STRING, false},
        {"NewLine", "tags", STRINGS, false},
        {"NewLine", "content_type", STRING, false},
        {"NewPart", "stream", STRING, true},
        {"NewPart", "expect", EXPECTATION, false},
        {"NewPart", "events", ARRAY(REF("NewEvent")), false},
        {"NewAppend", "streams", ARRAY(REF("NewPart")), true},
        {"Appended", "stream", STRING, false},
        {"Appended", "first_revision", NUMBER, false},
        {"Appended", "last_revision", NUMBER, false},
        {"Appended", "first_position", NUMBER, false},
        {"Appended", "position", NUMBER, false},
        {"Appended", "duplicate", BOOLEAN, false},
        {"Appended", "ids", STRINGS, false},
        {"AppendedToAll", "streams", ARRAY(REF("Appended")), false},
        {"AppendedToAll", "first_position", NUMBER, false},
        {"AppendedToAll", "position", NUMBER, false},
        {"AppendedToAll", "duplicate", BOOLEAN, false},
        {"AppendedToAll", "ids", STRINGS, false},
        {"StreamState", "stream", STRING, false},
        {"StreamState", "state", STRING, false},
        {"StreamState", "first_revision", NUMBER, false},
        {"StreamState", "last_revision", NUMBER, false},
        {"StreamState", "last_position", NUMBER, false},
        {"StreamState", "metadata_revision", NUMBER, false},
        {"StreamState", "max_count", NUMBER, false},
        {"StreamState", "max_age_seconds", NUMBER, false},
        {"StreamState", "truncate_before", NUMBER, false},
        {"StreamDeleted", "stream", STRING, false},
        {"StreamDeleted", "state", STRING, false},
        {"StreamDeleted", "position", NUMBER, false},
        {"MetadataWritten", "stream", STRING, false},
        {"MetadataWritten", "metadata_revision", NUMBER, false},
        {"MetadataWritten", "truncate_before", NUMBER, false},
        {"MetadataWritten", "first_revision", NUMBER, false},
        {"MetadataWritten", "position", NUMBER, false},
        {"MetadataWritten", "duplicate", BOOLEAN, false},
        {"Metadata", "$maxCount", COUNT, false},
        {"Metadata", "$maxAge", COUNT, false},
        {"Metadata", "$tb", NUMBER, false},
        {"Metadata", "$cacheControl", COUNT, false},
        {"Metadata", "$acl", OBJECT, false},
        {"Name", "name", STRING, false},
        {"Name", "events", NUMBER, false},
        {"Streams", "streams", ARRAY(REF("Name")), false},
        {"Streams", "at_end", BOOLEAN, false},
        {"Streams", "after", STRING, false},
        {"Streams", "next", STRING, false},
        {"Categories", "categories", ARRAY(REF("Name")), false},
        {"Categories", "at_end", BOOLEAN, false},
        {"Categories", "after", STRING, false},
        {"Categories", "next", STRING, false},
        {"Types", "types", ARRAY(REF("Name")), false},
        {"Types", "at_end", BOOLEAN, false},
        {"Types", "after", STRING, false},
        {"Types", "next", STRING, false},
        {"NewSubscription", "selector", OBJECT, false},
        {"NewSubscription", "from", EXPECTATION, false},
        {"NewSubscription", "target", ENUM("\"client\",\"topic\",\"webhook\""), false},
        {"NewSubscription", "url", STRING, false},
        {"NewSubscription", "secret", STRING, false},
        {"NewSubscription", "transient", BOOLEAN, false},
        {"NewSubscription", "settings", OBJECT, false},
        {"Acknowledgement", "consumer", STRING, true},
        {"Acknowledgement", "ids", STRINGS, true},
        {"Refusal", "consumer", STRING, true},
        {"Refusal", "ids", STRINGS, true},
        {"Refusal", "action", ENUM("\"retry\",\"park\",\"skip\",\"stop\""), false},
        {"Refusal", "reason", STRING, false},
        {"User", "login", STRING, false},
        {"User", "fullName", STRING, false},
        {"User", "groups", STRINGS, false},
        {"User", "disabled", BOOLEAN, false},
        {"User", "updated", TIME, false},
        {"Users", "users", ARRAY(REF("User")), false},
        {"Users", "at_end", BOOLEAN, false},
        {"Users", "after", STRING, false},
        {"NewUser", "login", STRING, true},
        {"NewUser", "fullName", STRING, false},
        {"NewUser", "groups", STRINGS, false},
        {"NewUser", "password", STRING, true},
        {"ChangedUser", "fullName", STRING, false},
        {"ChangedUser", "groups", STRINGS, true},
        {"NewPassword", "password", STRING, true},
        {"NewPassword", "current", STRING, false},
        {"NewToken", "seconds", COUNT, false},
        {"Token", "token", STRING, false},
        {"Token", "expiresAt", TIME, false},
};
const unsigned openapi_member_count = COUNT_OF(openapi_members);
