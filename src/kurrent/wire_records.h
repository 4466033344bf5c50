/* Reading the requests of AppendSession and AppendRecords by hand, as wire_in.h reads those of the older methods: views into
 * the bytes of the message, no copy, no memory of its own. */
#ifndef KURRENT_WIRE_RECORDS_H
#define KURRENT_WIRE_RECORDS_H

#include "kurrent/wire_in.h"

/* The numbers by which states of streams are told (protocol 1.8); others above -1 are revisions. */
enum wire_state {
        WIRE_NO_STREAM = -1,
        WIRE_ANY = -2,
        WIRE_EXISTS = -4,
        WIRE_SOFT_DELETED = -5,
        WIRE_TOMBSTONED = -6,
};
enum wire_format { WIRE_FORMAT_JSON = 1, WIRE_FORMAT_BYTES = 4 };

/* An AppendRecord. What did not come is empty. */
struct wire_record {
        struct bytes id; /* as text */
        struct bytes stream;
        struct bytes data;
        struct bytes type; /* the schema's name */
        struct bytes schema_id;
        uint64_t format;
        unsigned property_count;
        uint64_t properties_size; /* encoded, as a Struct of its own */
};
MUST_CHECK int wire_in_record(struct bytes message, struct wire_record *ret); /* 0 or WIRE_MALFORMED */

/* A property of a record, or a field of a Struct: WIRE_PROPERTIES or WIRE_FIELDS says of which. The message must be known to be
 * whole. 0, WIRE_END or WIRE_MALFORMED: the entry is none. */
enum { WIRE_PROPERTIES = 2, WIRE_FIELDS = 1 };
MUST_CHECK int wire_next_entry(struct wire_in *in, uint32_t number, struct bytes *ret_key, struct bytes *ret_value);

/* A google.protobuf.Value. */
enum wire_value_kind {
        WIRE_VALUE_NONE,
        WIRE_VALUE_NULL,
        WIRE_VALUE_NUMBER,
        WIRE_VALUE_STRING,
        WIRE_VALUE_BOOL,
        WIRE_VALUE_STRUCT,
        WIRE_VALUE_LIST,
};
struct wire_value {
        enum wire_value_kind kind;
        double number;
        bool is_true;
        struct bytes bytes; /* a string, or a Struct or ListValue, which is whole */
};
MUST_CHECK int wire_in_value(struct bytes message, struct wire_value *ret); /* 0 or WIRE_MALFORMED */
/* The next Value of a ListValue; false behind the last. */
bool wire_next_value(struct wire_in *in, struct bytes *ret);

/* One message of AppendSession, without its records. */
struct wire_session {
        struct bytes stream;
        int64_t expected; /* WIRE_ANY where it did not come */
        unsigned record_count;
};
MUST_CHECK int wire_in_session(struct bytes message, struct wire_session *ret);
/* AppendRecords, without its records and checks. */
struct wire_records {
        unsigned record_count;
        unsigned check_count;
};
MUST_CHECK int wire_in_records(struct bytes message, struct wire_records *ret);
/* The next record of a message that was read by one of these two; false behind the last. */
enum { WIRE_SESSION_RECORDS = 2, WIRE_RECORDS = 1 };
bool wire_next_record(struct wire_in *in, uint32_t number, struct bytes *ret);

/* The next check of AppendRecords: 0, WIRE_END or WIRE_MALFORMED. */
struct wire_check {
        bool has_type; /* it is one that is known */
        struct bytes stream;
        int64_t expected;
};
MUST_CHECK int wire_next_check(struct wire_in *in, struct wire_check *ret);

#endif
