/* What the files of this room share.
 *
 * api.c         the table of routes; what every call checks first
 * cluster.c     the cluster: status, commands of operators
 * users.c       users, tokens, who asks
 * openapi.c     the API described for programs, from the table of routes; with openapi_parts.c
 * query.c       parameters: numbers, names, where a read begins, filters
 * events_in.c   bodies of appends
 * append.c      appending, and every refusal of the store as a problem
 * event_out.c   an event as JSON
 * freshness.c   what a read must see before it begins
 * reading.c     a reader that may have to wait, and what it may not show; one event fetched
 * poll.c        reads that wait for the first event
 * caching.c     what may be kept of an answer
 * page.c        reads as one JSON page
 * lines.c       reads as NDJSON
 * feed.c        answers that go on: pieces, signs of life
 * follow.c      reads that go on: server-sent events
 * stream.c      one stream: state, metadata, truncation, deletion
 * names.c       lists of streams, categories and types
 * subscriptions.c     durable subscriptions: list, show, create, update, delete, pause, resume, seek, replay
 * subscription_out.c  a durable subscription as JSON
 * consumers.c   their consumers: streams of events, acknowledgements
 * parked.c      their parked events
 * readers.c     who follows without one
 *
 * A call's memory is the request's: it ends with the reply, so a reply is the last thing that a function does. */
#ifndef API_ROOM_H
#define API_ROOM_H

#include "api/api.h"
#include "base/arena.h"
#include "base/json_in.h"
#include "base/memory.h"

enum {
        TIMEOUT_MS_DEFAULT = 10000,
        TIMEOUT_MS_MAX = 600000,
        NAMES_PAGE_DEFAULT = 100,
        NAMES_PAGE_MAX = 10000,
        NAMES_BATCH = 500,           /* names of one look at the lists for NDJSON */
        NAMES_LOOKED_AT_MAX = 2000,  /* of one look where some may not be shown: others get their turn */
        HIDDEN_OF_TURN_MAX = 1000,   /* events passed over, since they may not be shown: the same */
        NAME_SHOWN_MAX = 200,        /* bytes of a name in a message */
        TRUNCATE_TRIES_MAX = 5,      /* against others who write the metadata meanwhile */
        CHECKPOINT_AFTER = 2000,     /* events examined between the marks of a filtered stream */
        SMALL_BODY_SIZE_MAX = 64 * 1024,
        DETAIL_SIZE = 1000,          /* of a problem, with its end */
        PIECE_SIZE = 64 * 1024,      /* gathered before it is given to the connection */
        SUBSCRIPTIONS_PAGE_DEFAULT = 100,
        SUBSCRIPTIONS_PAGE_MAX = 1000,
        SUBSCRIPTIONS_BATCH = 200,   /* of one look at the list for NDJSON */
        SUBSCRIPTIONS_ASKED_ABOUT = 500, /* at a time, where some may not be shown */
        PARKED_PAGE_MAX = 1000,
        WINDOW_DEFAULT = 10,
        WINDOW_MAX = 10000,
        GROUP_SIZE_MAX = 256,
        /* A whole window can be acknowledged at once, each id in quotes and with a comma. */
        ACK_BODY_SIZE_MAX = WINDOW_MAX * 48 + 16 * 1024,
};
#define KEEP_ALIVE_US ((uint64_t)15 * 1000 * 1000)

/* For "%.*s". */
#define SHOWN(name) (int)MIN((name).size, (size_t)NAME_SHOWN_MAX), (const char *)(name).data

struct call;
struct bound_route;
struct consuming;

struct api_route {
        const char *method;
        const char *path;    /* behind /v1 */
        const char *summary;
        const char *queries; /* the parameters that it knows, separated by spaces */
        uint64_t body_size_max;
        void (*handler)(struct call *call);
        enum reads {
                READS_NOTHING,   /* of the log, or it is no read */
                READS_EVENTS,
                READS_NAMES,     /* lists, whose parameter `after` is a name */
                READS_TO_CHANGE, /* and writes what follows from it: it must be the newest */
        } reads;
        enum access_rule access; /* these three: struct gateway_route */
        enum access_right right;
        const char *stream;
};

struct api {
        struct gateway *gateway;
        struct control *control;
        struct os *os;
        struct membership *membership; /* NULL: not known yet */
        struct emitter *emitter; /* NULL: not ready */
        struct access *access;   /* NULL: there are no users */
        void (*shut_down)(void *arg); /* NULL: nobody may */
        void *arg;
        struct consuming **consumers; /* by the number in their tokens; NULL: free */
        unsigned consumer_capacity;
        unsigned consumer_count;
        struct gateway_route openapi_route;
        struct gateway_route *cluster_routes;
        struct gateway_route *user_routes;
        struct gateway_route *operation_routes;
        struct gateway_route *routes;
        struct bound_route *bound;
};

/* ---- the cluster (cluster.c) ---- */

void cluster_open(struct api *api);
void cluster_close(struct api *api);
/* What only the leader does: true on the leader, and where it is not known who that is (the store says so then). Else the
 * client was sent there (307). */
bool cluster_check_leader(struct api *api, struct gateway_request *request);

/* ---- the API described (openapi.c) ---- */

void openapi_open(struct api *api);

/* ---- users (users.c) ---- */

void users_open(struct api *api);
void users_close(struct api *api);

/* ---- this node (operations.c) ---- */

void operations_open(struct api *api);
void operations_close(struct api *api);

/* One request. From its arena. */
struct call {
        struct api *api;
        const struct api_route *route;
        struct gateway_request *request;
        struct store *store;
        struct bytes stream;  /* from the path; empty: the path has none */
        struct bytes group;   /* the same, of a durable subscription */
        bool has_rights;      /* it matters who asks; else nobody is asked about anything */
        bool is_conditional;  /* what is expected came as If-Match or If-None-Match: 412 if it does not hold */
        uint64_t deadline_us; /* monotonic */
        /* Of reads (freshness.c). */
        struct store_wait wait;
        uint64_t wait_until_us;
        uint64_t after;          /* with has_after: this event must be visible */
        bool has_after;
        bool wants_confirmation; /* of who leads, so that what is newest is visible */
        char position[24];       /* what the answer says is visible */
        uint64_t poll_until_us;  /* monotonic: a read without an event waits for one; 0: it does not */
        char preference[24];     /* "wait=10", if it was wanted so */
};

static inline struct arena *call_arena(struct call *c)
{
        return gateway_arena(c->request);
}

/* The client wants to be sent to the leader, rather than that this node asks it. */
bool requires_leader(const struct call *c);
/* Answers with a problem and ends the call. */
void call_refuse(struct call *c, int status, const char *code, const char *title, const char *next, const char *format,
        ...) PRINTF_LIKE(6, 7);
void call_refuse_bad(struct call *c, const char *next, const char *format, ...) PRINTF_LIKE(3, 4); /* 400 */
bool call_is_head(const struct call *c);
/* Outcomes of reading, as a problem. */
void call_refuse_read(struct call *c, int outcome, const char *problem);
/* Answers with JSON; frees `body`. */
void call_reply_json(struct call *c, int status, struct buffer *body, const struct gateway_header_field *headers,
        unsigned header_count);
/* The same, without a line end behind it. */
void call_reply_exactly(struct call *c, int status, struct buffer *body, const struct gateway_header_field *headers,
        unsigned header_count);

/* Sends what was gathered of a streamed answer and empties `piece`, which keeps memory only if it is no larger than usual. */
void call_send_piece(struct call *c, struct buffer *piece);

/* ---- freshness (freshness.c) ---- */

/* Runs the route's handler once what the read must see is visible, or refuses the call. */
void freshness_begin(struct call *c);
/* The answer says what is visible now. */
void freshness_tell(struct call *c);

/* ---- answers that go on (feed.c) ---- */

/* Embedded in whoever goes on. */
struct feed {
        struct call *call;
        struct buffer piece;  /* gathered, not sent yet */
        const char *sign;     /* of life, in the form of the answer */
        bool (*on_look)(struct feed *f); /* when a sign may be due; false: it has ended the feed. NULL: nothing to look at */
        struct os_timer keep_alive;
        uint64_t sent_us;     /* when something was sent last */
};
extern const struct gateway_header_field feed_headers[1]; /* which its answer has */
void feed_init(struct feed *f, struct call *c, const char *sign);
void feed_begin(struct feed *f, const char *media, const struct gateway_stream_handler *handler, void *arg);
void feed_send(struct feed *f); /* what was gathered, if anything */
void feed_fini(struct feed *f);
/* The members of a problem, which ends a feed in its own form. */
void feed_problem_to_json(struct json_out *j, const struct gateway_problem *problem, const char *detail);

/* ---- parameters (query.c) ---- */

/* The name in `names` (separated by spaces) that is nearest to `name`; copied to `ret`. */
void nearest_name(struct bytes name, const char *names, char *ret, size_t size);
/* Each of these gives false when it has refused the call. */
bool query_known(struct call *c, const char *queries);
/* Who asks, as he calls himself: the parameter `name`, or the program that he uses. */
struct bytes call_client_name(const struct call *c);
bool query_number(struct call *c, const char *name, uint64_t min, uint64_t max, uint64_t otherwise, uint64_t *ret);
bool query_switch(struct call *c, const char *name, bool *ret);
bool query_expected(struct call *c, struct expected *ret); /* header Nilo-Expect or parameter expect; any if absent */
/* "any", "none", "exists", or a revision. */
MUST_CHECK bool expected_parse(struct bytes text, struct expected *ret);

void query_add_escaped(struct buffer *out, struct bytes text);
/* The path and query of the call as a string, but with `name` set to `value`: where to go on. */
void link_to_json(struct call *c, struct json_out *j, const char *name, struct bytes value);

enum form { FORM_JSON, FORM_LINES, FORM_EVENTS }; /* what the Accept header asks for */
enum form call_form(const struct call *c);

struct read_query {
        enum store_from from;
        bool is_backward;
        bool resolve_links;
        uint64_t number;
        uint64_t limit; /* UINT64_MAX: none was given */
        bool is_at_number;     /* begins at a number that was given, or at the start */
        struct filter *filter; /* owned; NULL: none */
};
bool read_query(struct call *c, struct read_query *ret);
/* The options of a reader for it; takes the filter. Begins at `number`, inclusive both ways. */
struct store_read_options read_options(struct call *c, struct read_query *q);

/* ---- bodies (events_in.c) ---- */

struct write_in {
        struct store_append_stream *streams;
        unsigned *event_counts; /* of each stream */
        unsigned stream_count;
        struct store_append_event *events;
        unsigned event_count;
        unsigned event_capacity;
        unsigned stream_capacity;
        bool has_made_ids; /* an event came without an id and got one */
};
/* The body of POST .../events for `c->stream`, and of POST /append. False: the call was refused. */
bool write_in_stream(struct call *c, struct write_in *ret);
bool write_in_atomic(struct call *c, struct write_in *ret);
bool body_is_json(const struct call *c);
void call_refuse_media(struct call *c, const char *known); /* 415 */
/* The id of the header Nilo-Event-ID, or a random one. False: the call was refused. */
bool header_event_id(struct call *c, struct event_id *ret, bool *ret_is_given);

/* ---- append (append.c) ---- */

/* The refusal of a write by the store, as a problem; not for STORE_OK. For a conflict the newest event is looked up
 * first. `streams` and their names must live as long as the request. */
struct refusal {
        const struct store_append_stream *streams;
        const struct store_append_event *events; /* NULL: no events of the client's */
        bool has_made_ids;
};
void call_refuse_write(struct call *c, const struct refusal *refusal, const struct store_append_result *result);
/* Publishes that a client asked to write, and gives the number of the write. */
uint64_t call_write_requested(struct call *c, struct bytes stream, unsigned event_count);

/* ---- events (event_out.c) ---- */

/* One event as an object. `is_line`: without line ends, which JSON data may have between its tokens. */
void event_to_json(struct json_out *j, const struct store_read_item *item, bool is_line);
void view_to_json(struct json_out *j, const struct event_view *event, bool is_line);
/* The number of an item in what is read: of the link where there is one. */
const struct event_view *item_place(const struct store_read_item *item);
uint64_t item_number(const struct call *c, const struct store_read_item *item); /* its revision, or position */
/* "2026-11-24T10:00:00.123456Z" */
enum { TIME_TEXT_SIZE = 28 };
void time_format(uint64_t time_us, char ret[TIME_TEXT_SIZE]);

/* ---- reading (reading.c) ---- */

/* A reader that says when it may be asked again. Embedded in its user's struct. */
struct reading {
        struct call *call;
        struct store_reader *reader;
        struct os_timer again;
        void (*go)(void *arg);
        void *arg;
        uint64_t left; /* events to give */
        bool is_waiting;
        bool hides; /* some of the events may not be shown: they are passed over, as if a filter had */
};
enum { READING_LATER = 100 }; /* nothing now: `go` runs */
MUST_CHECK int reading_open(struct reading *r, struct call *c, struct store_read_options *options,
        void (*go)(void *arg), void *arg);
/* The same, of what may be shown of all streams. */
MUST_CHECK int reading_open_visible(struct reading *r, struct call *c, struct store_read_options *options,
        void (*go)(void *arg), void *arg);
/* May the event not be shown that a read of all streams has come to? */
bool call_hides(struct call *c, const struct store_read_item *item);
/* Leaves out the target of a link that may not be shown. */
void call_hide_target(struct call *c, struct store_read_item *item);
/* 0, READING_LATER, STORE_READ_END and the failures of store_reader_next. */
MUST_CHECK int reading_next(struct reading *r, struct store_read_item *ret);
void reading_close(struct reading *r);

/* The first event that a read gives. `done` runs once, now or later, unless the client goes away: 0 with the event
 * (valid for the call), STORE_READ_END, a failure of store_reader_open or _next, or a fault. */
typedef void fetch_done(void *arg, int outcome, const struct store_read_item *item, const char *problem);
void call_fetch(struct call *c, struct store_read_options *options, fetch_done *done, void *arg);
struct store_read_options newest_of(struct bytes stream);
struct bytes metastream_of(struct call *c, struct bytes stream); /* "$$" and the name */

/* ---- what may be kept (caching.c) ---- */

enum { READ_HEADERS_MAX = 4 };
struct read_answer {
        bool is_for_good; /* no truncation, deletion or age can change it */
        bool is_exact;    /* the body goes out as it is, without a line end behind it */
        const char *tag;  /* NULL: made of the body */
        const struct gateway_header_field *headers;
        unsigned header_count;
};
/* Of NDJSON, whose end is not known when it begins: it has no tag. */
extern const struct gateway_header_field lines_headers[2];
/* Answers with JSON that was read; frees `body`. */
void call_reply_read(struct call *c, struct buffer *body, const struct read_answer *answer);

/* ---- long polling (poll.c) ---- */

/* How long the read may wait. False: the call was refused. */
bool query_wait(struct call *c, bool is_backward);
/* Waits for the first event from `next` on, then reads again from there. */
void poll_begin(struct call *c, uint64_t next);
void read_again(struct call *c, uint64_t next);

/* ---- the three forms of a read ---- */

/* The number at which a read without events would have begun. 0, STORE_READ_CORRUPT or a fault. */
MUST_CHECK int first_number(struct call *c, const struct read_query *q, uint64_t *ret);

void page_begin(struct call *c, struct read_query *q);
void lines_begin(struct call *c, struct read_query *q);
void follow_begin(struct call *c, struct read_query *q);

/* What a stream without readable events is: absent, soft-deleted, tombstoned, or metadata only (stream.c). */
void call_refuse_state(struct call *c);

/* ---- durable subscriptions ---- */

/* What the emitter refused. */
void call_refuse_emitter(struct call *c, enum emitter_verdict verdict, const char *problem);
/* As in lists; `is_whole`: with its definition and its consumers. */
void subscription_to_json(struct json_out *j, const struct emitter_info *info, bool is_whole);
void lag_to_json(struct json_out *j, uint64_t events, uint64_t us); /* the member "lag" */
/* The emitter ends: consumers that wait for nothing from it look at once. */
void consumers_stop(struct api *api);

/* ---- handlers ---- */

void handle_append_stream(struct call *c);
void handle_append_atomic(struct call *c);
void handle_read(struct call *c);
void handle_event_of_stream(struct call *c);
void handle_event_at_position(struct call *c);
void handle_stream(struct call *c);
void handle_delete(struct call *c);
void handle_metadata_get(struct call *c);
void handle_metadata_put(struct call *c);
void handle_truncate(struct call *c);
void handle_streams(struct call *c);
void handle_categories(struct call *c);
void handle_types(struct call *c);
void handle_readers(struct call *c);
void handle_subscriptions(struct call *c);
void handle_subscription(struct call *c);
void handle_subscription_put(struct call *c);
void handle_subscription_delete(struct call *c);
void handle_subscription_pause(struct call *c);
void handle_subscription_resume(struct call *c);
void handle_subscription_seek(struct call *c);
void handle_subscription_replay(struct call *c);
void handle_parked(struct call *c);
void handle_consume(struct call *c);
void handle_ack(struct call *c);
void handle_nack(struct call *c);

#endif
