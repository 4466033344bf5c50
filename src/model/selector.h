/* What a durable subscription selects: ExESDB's four kinds (stream, event type, event pattern, payload pattern) and KurrentDB's
 * filters. The empty selection does not exist: SELECT_ALL is everything. */
#ifndef MODEL_SELECTOR_H
#define MODEL_SELECTOR_H

#include "base/json_out.h"
#include "model/event.h"
#include "model/filter.h"

enum selector_kind {
        SELECT_ALL,
        SELECT_STREAM,  /* one stream */
        SELECT_PREFIX,  /* streams whose name begins with any of these */
        SELECT_TYPE,    /* events of exactly these types */
        SELECT_FILTER,  /* a filter by prefixes or regular expression, of stream or type (filter.h) */
        SELECT_PATTERN, /* every key of an object equals that field of the event: stream, type, revision, content_type, id, and
                           below "data" and "metadata" as SELECT_PAYLOAD */
        SELECT_PAYLOAD, /* the object is a subset of the event's JSON data: nested objects by subset, numbers by exact value, all
                           else, and everything inside arrays, by equality */
};

enum {
        LIMIT_SELECTOR_SIZE_MAX = 16 * 1024, /* as JSON */
        LIMIT_SELECTOR_NAMES_MAX = 1000,
        LIMIT_SELECTOR_DEPTH_MAX = 16,
};

struct selector;

/* Reads {"kind":"stream","stream":"order-1"}, {"kind":"prefix","prefixes":["order-"]}, {"kind":"type","types":["A"]},
 * {"kind":"filter","target":"stream"|"type","regex":"..."} or with "prefixes", {"kind":"pattern","match":{...}},
 * {"kind":"payload","match":{...}}, {"kind":"all"}. 0, or FILTER_INVALID and `why` (at least 256 bytes) says what and where. */
MUST_CHECK int selector_parse(struct bytes json, struct selector **ret, char *ret_why, size_t why_size);
/* Made from values: SELECT_ALL (names NULL), _STREAM, _PREFIX, _TYPE; and from a filter's options. */
MUST_CHECK int selector_of_names(enum selector_kind kind, const struct bytes *names, unsigned count, struct selector **ret, char *ret_why, size_t why_size);
MUST_CHECK int selector_of_filter(const struct filter_options *options, struct selector **ret, char *ret_why, size_t why_size);
struct selector *selector_copy(const struct selector *s);
void selector_free(struct selector **s); /* NULL is fine */

enum selector_kind selector_kind(const struct selector *s);
/* Canonical JSON: equal selections give equal bytes. Lives as long as the selector. */
struct bytes selector_json(const struct selector *s);
/* Whether the event is selected. FILTER_TOO_COSTLY: as filter_match. One thread at a time. */
enum filter_verdict selector_match(struct selector *s, const struct event_view *event);

/* What an index can find the selector by: every selected event has one of these. SELECT_KEY_NONE: any event may be. */
enum selector_key { SELECT_KEY_NONE, SELECT_KEY_STREAMS, SELECT_KEY_STREAM_PREFIXES, SELECT_KEY_TYPES, SELECT_KEY_TYPE_PREFIXES, SELECT_KEY_FIELD,
        SELECT_KEY_TYPED_FIELD };
enum selector_key selector_keys(const struct selector *s, const struct bytes **ret_names, unsigned *ret_count);
/* Of SELECT_KEY_FIELD and _TYPED_FIELD: the place of a field in JSON data. The one name is the place, what stands there, and the event's type if typed;
 * selector_read_field adds the first two to `out` for an event that has it. False: the event has nothing there. Many selections share a place. */
struct bytes selector_field_place(const struct selector *s);
MUST_CHECK bool selector_read_field(struct bytes place, const struct event_view *event, struct buffer *out);

/* The filter that reads exactly `s` from all streams, of SELECT_PREFIX and SELECT_FILTER; else NULL (then match each event). The caller owns it. */
struct filter *selector_new_filter(const struct selector *s);

#endif
