/* Appends of records (protocol version 2): what the files of StreamsService share. */
#ifndef KURRENT_RECORDS_H
#define KURRENT_RECORDS_H

#include "kurrent/room.h"
#include "kurrent/wire_records.h"

#define RECORDS_SERVICE "kurrentdb.protocol.v2.streams.StreamsService"

/* ---- errors with details (rich_errors.c) ---- */

enum rich_kind {
        RICH_BAD_REQUEST,
        RICH_NOT_LEADER,
        RICH_NOT_READY,
        RICH_OVERLOADED,
        RICH_DISK_FULL,
        RICH_TIMEOUT,
        RICH_MALFUNCTION,
        RICH_NO_REQUESTS,
        RICH_STREAM_TWICE,
        RICH_RECORD_TOO_LARGE,
        RICH_APPEND_TOO_LARGE,
        RICH_TOMBSTONED,
        RICH_CONFLICT,
        RICH_VIOLATIONS,
        RICH_KINDS,
};
/* A field of the request and what is wrong with it. */
enum { RICH_FIELDS_MAX = 8, RICH_FIELD_SIZE = 64 };
struct rich_field {
        char name[RICH_FIELD_SIZE];
        const char *problem;
};
/* A stream that is not as it was expected. */
struct rich_violation {
        struct bytes stream;
        int64_t expected;
        int64_t actual;
        unsigned check; /* its ordinal */
};
/* Everything is borrowed. */
struct rich_error {
        enum rich_kind kind;
        const char *problem; /* NULL: what the kind says */
        struct bytes stream;
        struct event_id record;
        uint64_t size;
        uint64_t limit;
        struct rich_field fields[RICH_FIELDS_MAX]; /* RICH_BAD_REQUEST */
        unsigned field_count;
        struct rich_violation conflict;          /* RICH_CONFLICT */
        const struct rich_violation *violations; /* RICH_VIOLATIONS */
        unsigned violation_count;
};
/* Adds a field to an error, which becomes a RICH_BAD_REQUEST; what is too much is left out. */
void rich_add_field(struct rich_error *e, const char *problem, const char *name_format, ...) PRINTF_LIKE(3, 4);
/* Ends the call with the status, and the details by which clients know what it is. RICH_NOT_LEADER asks `k` who leads; none is
 * RICH_NOT_READY. */
void rich_end_call(struct kurrent *k, struct gateway_request *call, const struct rich_error *error);

/* ---- custom metadata (record_metadata.c) ---- */

/* What the records of one append had so far: their number is bounded. */
struct record_budget {
        unsigned values;
        unsigned fractions;
};
/* Adds what older readers see of a record beside its data: its properties and its schema, as a JSON object. `message` is the
 * whole record; `scratch` is used up. NULL, or what is wrong with the properties. */
const char *record_metadata(struct bytes message, const struct wire_record *record, struct record_budget *spent,
        struct arena *scratch, struct buffer *out);

/* ---- the append that records make (records.c) ---- */

/* Where something stands in the request, for people. */
struct place {
        const char *list;   /* "records"; NULL: in no list */
        const char *inside; /* what is around it in an element, with a dot at its end */
        unsigned ordinal;   /* in the list */
};

/* An append of either method while its request comes in. */
struct records {
        struct kurrent *kurrent;
        struct gateway_request *call;
        bool is_session;
        bool has_drafts; /* nothing was handed to the store yet */
        struct drafts drafts;
        struct buffer streams; /* of struct store_append_stream; those of checks first, in their order */
        unsigned stream_count;
        struct names *names;     /* which streams there are; with the drafts */
        struct record_budget spent;
        struct wire_record last; /* without properties: another of its schema has the same metadata */
        struct bytes last_metadata;
        /* for the answer; in the call's arena */
        const struct store_append_stream *asked;
        bool *is_written; /* by stream */
};
void records_init(struct records *r, struct kurrent *k, struct gateway_request *call, bool is_session);
/* Gives back what an append holds that was not handed to the store. Harmless when it was. */
void records_fini(struct records *r);
/* Ends the call, and gives back. */
void records_refuse(struct records *r, const struct rich_error *error);
void records_refuse_drafts(struct records *r, const struct refusal *refusal);
void records_refuse_field(struct records *r, struct place at, const char *field, const char *problem);
/* Names a stream, which must live as long as the drafts, to be checked or written; asks whether the caller may. In a session
 * the same name in another case of letters is the same. *ret: its ordinal; *ret_is_new: it was not named before, and now
 * expects `expected`. False: refused. */
MUST_CHECK bool records_name(struct records *r, struct bytes name, struct expected expected, bool is_written, struct place at,
        unsigned *ret, bool *ret_is_new);
/* What the number says; a check and a session each have some of their own. False: refused. */
MUST_CHECK bool records_expect(struct records *r, int64_t number, struct place at, const char *field, struct expected *ret);
/* Adds a record, whose message lives as long as the drafts. False: refused. */
MUST_CHECK bool records_add(struct records *r, struct bytes message, const struct wire_record *record, unsigned stream,
        struct place at);
/* Hands it to the store. The call is answered, perhaps from inside; `r` must be in the call's arena. */
void records_append(struct records *r);

#endif
