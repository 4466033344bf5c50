#include "kurrent/wire_records.h"

/* Field numbers. */
enum {
        SESSION_STREAM = 1,
        SESSION_EXPECTED = 3,
        RECORDS_CHECKS = 2,
        RECORD_ID = 1,
        RECORD_SCHEMA = 3,
        RECORD_DATA = 4,
        RECORD_STREAM = 5,
        SCHEMA_FORMAT = 1,
        SCHEMA_NAME = 2,
        SCHEMA_ID = 3,
        CHECK_STREAM_STATE = 1,
        STATE_STREAM = 1,
        STATE_EXPECTED = 2,
        ENTRY_KEY = 1,
        ENTRY_VALUE = 2,
        LIST_VALUES = 1,
};

static int64_t zig_zag(uint64_t n)
{
        return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}

/* A loop over fields ends well behind the last one. */
static int ended_at(int result)
{
        return result == WIRE_END ? 0 : WIRE_MALFORMED;
}

/* ---- records ---- */

static int read_schema(struct bytes message, struct wire_record *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        while (!(r = wire_next(&in, &f))) {
                if (f.number > SCHEMA_ID)
                        continue;
                if (f.type != (f.number == SCHEMA_FORMAT ? WIRE_VARINT : WIRE_BYTES))
                        return WIRE_MALFORMED;
                if (f.number == SCHEMA_FORMAT)
                        ret->format = f.value;
                else if (f.number == SCHEMA_NAME)
                        ret->type = f.bytes;
                else
                        ret->schema_id = f.bytes;
        }
        return ended_at(r);
}

int wire_in_record(struct bytes message, struct wire_record *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_record){0};
        while (!(r = wire_next(&in, &f))) {
                if (f.number > RECORD_STREAM)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                switch (f.number) {
                case RECORD_ID:
                        ret->id = f.bytes;
                        break;
                case WIRE_PROPERTIES:
                        ret->property_count++;
                        ret->properties_size += 1 + varint_size(f.bytes.size) + f.bytes.size;
                        break;
                case RECORD_SCHEMA:
                        if (read_schema(f.bytes, ret))
                                return WIRE_MALFORMED;
                        break;
                case RECORD_DATA:
                        ret->data = f.bytes;
                        break;
                default:
                        ret->stream = f.bytes;
                }
        }
        return ended_at(r);
}

static int read_pair(struct bytes entry, struct bytes *ret_key, struct bytes *ret_value)
{
        struct wire_in in = wire_in(entry);
        struct wire_field f;
        int r;

        *ret_key = *ret_value = BYTES_EMPTY;
        while (!(r = wire_next(&in, &f))) {
                if (f.number > ENTRY_VALUE)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                *(f.number == ENTRY_KEY ? ret_key : ret_value) = f.bytes;
        }
        return ended_at(r);
}

int wire_next_entry(struct wire_in *in, uint32_t number, struct bytes *ret_key, struct bytes *ret_value)
{
        struct wire_field f;
        int r;

        while (!(r = wire_next(in, &f)))
                if (f.number == number)
                        return f.type == WIRE_BYTES ? read_pair(f.bytes, ret_key, ret_value) : WIRE_MALFORMED;
        return r;
}

/* ---- values ---- */

/* Where the fields of the kinds differ in nothing but their wire type. */
static enum wire_type type_of(enum wire_value_kind kind)
{
        switch (kind) {
        case WIRE_VALUE_NULL:
        case WIRE_VALUE_BOOL:
                return WIRE_VARINT;
        case WIRE_VALUE_NUMBER:
                return WIRE_FIXED64;
        default:
                return WIRE_BYTES;
        }
}

/* Every field within is read, so that whoever goes through it later need not doubt it. */
static int skim(struct bytes message)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        do
                r = wire_next(&in, &f);
        while (!r);
        return ended_at(r);
}

int wire_in_value(struct bytes message, struct wire_value *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_value){0};
        while (!(r = wire_next(&in, &f))) {
                if (f.number > WIRE_VALUE_LIST)
                        continue;
                ret->kind = (enum wire_value_kind)f.number;
                if (f.type != type_of(ret->kind))
                        return WIRE_MALFORMED;
                if (f.type == WIRE_FIXED64)
                        memcpy(&ret->number, in.at - sizeof(ret->number), sizeof(ret->number));
                ret->is_true = f.type == WIRE_VARINT && f.value != 0;
                ret->bytes = f.type == WIRE_BYTES ? f.bytes : BYTES_EMPTY;
        }
        if (r == WIRE_END && ret->kind >= WIRE_VALUE_STRUCT)
                return skim(ret->bytes);
        return ended_at(r);
}

bool wire_next_value(struct wire_in *in, struct bytes *ret)
{
        return wire_next_record(in, LIST_VALUES, ret);
}

/* ---- requests ---- */

int wire_in_session(struct bytes message, struct wire_session *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_session){.expected = WIRE_ANY};
        while (!(r = wire_next(&in, &f))) {
                if (f.number > SESSION_EXPECTED)
                        continue;
                if (f.type != (f.number == SESSION_EXPECTED ? WIRE_VARINT : WIRE_BYTES))
                        return WIRE_MALFORMED;
                if (f.number == SESSION_STREAM)
                        ret->stream = f.bytes;
                else if (f.number == SESSION_EXPECTED)
                        ret->expected = zig_zag(f.value);
                else
                        ret->record_count++;
        }
        return ended_at(r);
}

int wire_in_records(struct bytes message, struct wire_records *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_records){0};
        while (!(r = wire_next(&in, &f))) {
                if (f.number > RECORDS_CHECKS)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                ret->record_count += f.number == WIRE_RECORDS;
                ret->check_count += f.number == RECORDS_CHECKS;
        }
        return ended_at(r);
}

bool wire_next_record(struct wire_in *in, uint32_t number, struct bytes *ret)
{
        struct wire_field f;

        while (!wire_next(in, &f)) {
                if (f.number == number && f.type == WIRE_BYTES) {
                        *ret = f.bytes;
                        return true;
                }
        }
        return false;
}

static int read_state(struct bytes message, struct wire_check *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        ret->has_type = true;
        while (!(r = wire_next(&in, &f))) {
                if (f.number > STATE_EXPECTED)
                        continue;
                if (f.type != (f.number == STATE_STREAM ? WIRE_BYTES : WIRE_VARINT))
                        return WIRE_MALFORMED;
                if (f.number == STATE_STREAM)
                        ret->stream = f.bytes;
                else
                        ret->expected = zig_zag(f.value);
        }
        return ended_at(r);
}

static int read_check(struct bytes message, struct wire_check *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        while (!(r = wire_next(&in, &f))) {
                if (f.number != CHECK_STREAM_STATE)
                        continue;
                if (f.type != WIRE_BYTES || read_state(f.bytes, ret))
                        return WIRE_MALFORMED;
        }
        return ended_at(r);
}

int wire_next_check(struct wire_in *in, struct wire_check *ret)
{
        struct wire_field f;
        int r;

        *ret = (struct wire_check){0};
        while (!(r = wire_next(in, &f)))
                if (f.number == RECORDS_CHECKS)
                        return f.type == WIRE_BYTES ? read_check(f.bytes, ret) : WIRE_MALFORMED;
        return r;
}
