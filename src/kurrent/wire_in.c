#include "kurrent/wire_in.h"

/* Field numbers; the same in every message that has the field. */
enum {
        UUID_STRUCTURED = 1,
        UUID_STRING = 2,
        UUID_MOST = 1,
        UUID_LEAST = 2,
        IDENTIFIER_NAME = 3,
        OPTIONS_STREAM = 1,
        OPTIONS_REVISION = 2,
        OPTIONS_NO_STREAM = 3,
        OPTIONS_ANY = 4,
        OPTIONS_EXISTS = 5,
        OPTIONS_DEADLINE_AT = 6,
        OPTIONS_DEADLINE_AFTER = 7,
        TIME_SECONDS = 1,
        TIME_NANOS = 2,
        PROPOSED_ID = 1,
        PROPOSED_METADATA = 2,
        PROPOSED_CUSTOM_METADATA = 3,
        PROPOSED_DATA = 4,
        ENTRY_KEY = 1,
        ENTRY_VALUE = 2,
        APPEND_OPTIONS = 1,
        APPEND_PROPOSED = 2,
        BATCH_CORRELATION = 1,
        BATCH_OPTIONS = 2,
        BATCH_PROPOSED = 3,
        BATCH_IS_FINAL = 4,
        DELETE_OPTIONS = 1,
        GROUP_OPTIONS = 1,
        GROUP_ACK = 2,
        GROUP_NACK = 3,
        FINISHED_IDS = 2,
        FINISHED_ACTION = 3,
        FINISHED_REASON = 4,
};

static int skip_fixed(struct wire_in *in, size_t size)
{
        if ((size_t)(in->end - in->at) < size)
                return WIRE_MALFORMED;
        in->at += size;
        return 0;
}

static inline int take_bytes(struct wire_in *in, struct bytes *ret)
{
        uint64_t size;

        /* Nearly every length is one byte or two. */
        if (LIKELY(in->end - in->at >= 2 && in->at[0] < 0x80)) {
                size = *in->at++;
        } else if (LIKELY(in->end - in->at >= 2 && in->at[1] < 0x80)) {
                size = (in->at[0] & 0x7fu) | (uint64_t)in->at[1] << 7;
                in->at += 2;
        } else {
                const uint8_t *at = in->at;
                uint64_t long_size;

                if (!varint_get(&at, in->end, &long_size))
                        return WIRE_MALFORMED;
                in->at = at;
                size = long_size;
        }
        if (size > (uint64_t)(in->end - in->at))
                return WIRE_MALFORMED;
        ret->data = in->at;
        ret->size = (size_t)size;
        in->at += size;
        return 0;
}

/* Everything but fields of bytes with a small number, which is what nearly all are. */
static int next_of_any_kind(struct wire_in *in, struct wire_field *ret)
{
        uint64_t tag;

        if (!varint_get(&in->at, in->end, &tag) || tag > UINT32_MAX)
                return WIRE_MALFORMED;
        ret->number = (uint32_t)tag >> 3;
        ret->type = tag & 7;
        if (ret->number == 0)
                return WIRE_MALFORMED;
        switch (ret->type) {
        case WIRE_BYTES:
                return take_bytes(in, &ret->bytes);
        case WIRE_VARINT:
                return varint_get(&in->at, in->end, &ret->value) ? 0 : WIRE_MALFORMED;
        case WIRE_FIXED64:
                return skip_fixed(in, 8);
        case WIRE_FIXED32:
                return skip_fixed(in, 4);
        default: /* groups are long gone from the language */
                return WIRE_MALFORMED;
        }
}

/* Within this file, so that the fields of an event cost no call each. What is not usual works on copies: so
 * the usual case keeps `in` and `ret` in registers, where halves of a range are not written and read again as
 * a whole. */
static inline int next_field(struct wire_in *in, struct wire_field *ret)
{
        if (in->at == in->end)
                return WIRE_END;
        if (UNLIKELY((*in->at & 0x87) != WIRE_BYTES || *in->at < 1 << 3)) {
                struct wire_in rest = *in;
                struct wire_field field = {0};
                int r = next_of_any_kind(&rest, &field);

                *in = rest;
                *ret = field;
                return r;
        }
        ret->number = *in->at++ >> 3;
        ret->type = WIRE_BYTES;
        return take_bytes(in, &ret->bytes);
}

int wire_next(struct wire_in *in, struct wire_field *ret)
{
        return next_field(in, ret);
}

/* What a loop over fields ends with: the end is fine. */
static int ended(int result)
{
        return result == WIRE_END ? 0 : result;
}

static bool is_bytes(const struct wire_field *f, uint32_t number)
{
        return f->number == number && f->type == WIRE_BYTES;
}

static bool is_varint(const struct wire_field *f, uint32_t number)
{
        return f->number == number && f->type == WIRE_VARINT;
}

/* True: a field that this reader knows came with another wire type. */
static bool is_of_wrong_type(const struct wire_field *f, uint32_t known_max)
{
        return f->number <= known_max;
}

/* ---- shared ---- */

static int read_halves(struct bytes message, struct event_id *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        uint64_t most = 0;
        uint64_t least = 0;
        int r;

        while (!(r = wire_next(&in, &f))) {
                if (is_varint(&f, UUID_MOST))
                        most = f.value;
                else if (is_varint(&f, UUID_LEAST))
                        least = f.value;
                else if (is_of_wrong_type(&f, UUID_LEAST))
                        return WIRE_MALFORMED;
        }
        event_id_from_halves((int64_t)most, (int64_t)least, ret);
        return ended(r);
}

/* *ret_has is false for an id that is absent, no UUID, or nothing but zeros: such ids would make strangers'
 * events look like retries of each other. */
static int read_uuid(struct bytes message, struct wire_uuid *ret, bool *ret_has)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        bool has = false;
        int r;

        /* Nearly every id is a text and nothing else. */
        if (LIKELY(message.size == 2 + EVENT_ID_TEXT_SIZE && in.at[0] == (UUID_STRING << 3 | WIRE_BYTES) &&
                    in.at[1] == EVENT_ID_TEXT_SIZE)) {
                ret->is_text = true;
                has = event_id_parse(bytes_of(in.at + 2, EVENT_ID_TEXT_SIZE), &ret->id);
                in.at = in.end;
        }
        while (!(r = wire_next(&in, &f))) {
                if (is_bytes(&f, UUID_STRING)) {
                        ret->is_text = true;
                        has = event_id_parse(f.bytes, &ret->id);
                } else if (is_bytes(&f, UUID_STRUCTURED)) {
                        ret->is_text = false;
                        has = true;
                        if (read_halves(f.bytes, &ret->id))
                                return WIRE_MALFORMED;
                } else if (is_of_wrong_type(&f, UUID_STRING)) {
                        return WIRE_MALFORMED;
                }
        }
        *ret_has = has && (get_u64(ret->id.bytes) | get_u64(ret->id.bytes + 8)) != 0;
        return ended(r);
}

static int read_identifier(struct bytes message, struct bytes *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        while (!(r = wire_next(&in, &f))) {
                if (is_bytes(&f, IDENTIFIER_NAME))
                        *ret = f.bytes;
                else if (f.number == IDENTIFIER_NAME)
                        return WIRE_MALFORMED;
        }
        return ended(r);
}

/* google.protobuf.Timestamp and Duration have the same fields. */
static int read_time(struct bytes message, struct wire_options *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        ret->deadline_seconds = 0;
        ret->deadline_nanos = 0;
        while (!(r = wire_next(&in, &f))) {
                if (is_varint(&f, TIME_SECONDS))
                        ret->deadline_seconds = (int64_t)f.value;
                else if (is_varint(&f, TIME_NANOS))
                        ret->deadline_nanos = (int32_t)f.value;
                else if (is_of_wrong_type(&f, TIME_NANOS))
                        return WIRE_MALFORMED;
        }
        return ended(r);
}

static int expect(struct wire_options *o, enum expected_kind kind, uint64_t revision)
{
        o->has_expected = true;
        o->expected = (struct expected){.kind = kind, .revision = revision};
        return 0;
}

static int read_option(const struct wire_field *f, struct wire_options *ret)
{
        if (f->number == OPTIONS_REVISION)
                return f->type == WIRE_VARINT ? expect(ret, EXPECTED_EXACT, f->value) : WIRE_MALFORMED;
        if (f->number > OPTIONS_DEADLINE_AFTER)
                return 0;
        if (f->type != WIRE_BYTES)
                return WIRE_MALFORMED;
        switch (f->number) {
        case OPTIONS_STREAM:
                ret->has_stream = true;
                return read_identifier(f->bytes, &ret->stream);
        case OPTIONS_NO_STREAM:
                return expect(ret, EXPECTED_NONE, 0);
        case OPTIONS_ANY:
                return expect(ret, EXPECTED_ANY, 0);
        case OPTIONS_EXISTS:
                return expect(ret, EXPECTED_EXISTS, 0);
        case OPTIONS_DEADLINE_AT:
                ret->deadline = WIRE_DEADLINE_AT;
                return read_time(f->bytes, ret);
        default:
                ret->deadline = WIRE_DEADLINE_AFTER;
                return read_time(f->bytes, ret);
        }
}

int wire_in_options(struct bytes message, struct wire_options *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        while (!(r = wire_next(&in, &f)))
                if (read_option(&f, ret))
                        return WIRE_MALFORMED;
        return ended(r);
}

/* ---- proposed messages ---- */

/* By the size of the literal, which the compiler knows: no call. */
#define is_text(bytes, literal)                                                                              \
        ((bytes).size == sizeof("" literal) - 1 && memcmp((bytes).data, literal, sizeof(literal) - 1) == 0)

/* An entry as nearly all are: key, then value, each shorter than 128 bytes. False: it is another. */
static inline bool read_short_entry(struct bytes message, struct bytes *ret_key, struct bytes *ret_value)
{
        const uint8_t *at = message.data;
        size_t key, value;

        if (message.size < 4 || at[0] != (ENTRY_KEY << 3 | WIRE_BYTES) || at[1] >= 0x80)
                return false;
        key = at[1];
        if (message.size < 4 + key || at[2 + key] != (ENTRY_VALUE << 3 | WIRE_BYTES) || at[3 + key] >= 0x80)
                return false;
        value = at[3 + key];
        if (message.size != 4 + key + value)
                return false;
        *ret_key = bytes_of(at + 2, key);
        *ret_value = bytes_of(at + 4 + key, value);
        return true;
}

static int read_long_entry(struct bytes message, struct bytes *ret_key, struct bytes *ret_value)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret_key = *ret_value = BYTES_EMPTY;
        while (!(r = wire_next(&in, &f))) {
                if (is_bytes(&f, ENTRY_KEY))
                        *ret_key = f.bytes;
                else if (is_bytes(&f, ENTRY_VALUE))
                        *ret_value = f.bytes;
                else if (is_of_wrong_type(&f, ENTRY_VALUE))
                        return WIRE_MALFORMED;
        }
        return ended(r);
}

static int read_entry(struct bytes message, struct event_draft *draft, unsigned *seen)
{
        struct bytes key, value;

        if (!read_short_entry(message, &key, &value)) {
                struct bytes long_key, long_value;

                if (read_long_entry(message, &long_key, &long_value))
                        return WIRE_MALFORMED;
                key = long_key;
                value = long_value;
        }
        if (is_text(key, "type")) {
                draft->type = value;
                *seen |= SEEN_TYPE;
        } else if (is_text(key, "content-type")) {
                bool is_json = is_text(value, "application/json");

                draft->content_type = is_json ? CONTENT_JSON : CONTENT_BINARY;
                *seen |= SEEN_CONTENT_TYPE;
        }
        return 0;
}

int wire_in_proposed(struct bytes message, struct event_draft *ret, unsigned *ret_seen)
{
        struct wire_in in = wire_in(message);
        struct wire_uuid uuid = {0};
        struct wire_field f;
        unsigned seen = 0;
        bool has_id = false;
        int r;

        *ret = (struct event_draft){0};
        while (!(r = next_field(&in, &f))) {
                int inner = 0;

                if (f.number > PROPOSED_DATA)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                if (f.number == PROPOSED_ID)
                        inner = read_uuid(f.bytes, &uuid, &has_id);
                else if (f.number == PROPOSED_METADATA)
                        inner = read_entry(f.bytes, ret, &seen);
                else if (f.number == PROPOSED_CUSTOM_METADATA)
                        ret->metadata = f.bytes;
                else
                        ret->data = f.bytes;
                if (inner)
                        return WIRE_MALFORMED;
        }
        ret->id = uuid.id;
        *ret_seen = seen | (has_id ? SEEN_ID : 0);
        return ended(r);
}

/* ---- requests ---- */

int wire_in_append(struct bytes message, struct wire_append *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        bool has = false;
        bool has_options = false;
        int r;

        /* Nearly every message is one event and nothing else. */
        if (LIKELY(!next_field(&in, &f) && is_bytes(&f, APPEND_PROPOSED) && in.at == in.end)) {
                ret->is_options = false;
                ret->proposed = f.bytes;
                return 0;
        }
        in = wire_in(message);
        while (!(r = next_field(&in, &f))) {
                if (f.number != APPEND_OPTIONS && f.number != APPEND_PROPOSED)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                has = true;
                ret->is_options = f.number == APPEND_OPTIONS;
                if (!ret->is_options) {
                        ret->proposed = f.bytes;
                        continue;
                }
                /* Cleared only here: most messages hold an event. */
                if (!has_options)
                        ret->options = (struct wire_options){0};
                has_options = true;
                if (wire_in_options(f.bytes, &ret->options))
                        return WIRE_MALFORMED;
        }
        return has ? ended(r) : WIRE_MALFORMED;
}

int wire_in_batch(struct bytes message, struct wire_batch *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_batch){0};
        while (!(r = next_field(&in, &f))) {
                if (is_bytes(&f, BATCH_PROPOSED)) {
                        ret->proposed_count++;
                } else if (is_bytes(&f, BATCH_CORRELATION)) {
                        if (read_uuid(f.bytes, &ret->correlation, &ret->has_correlation))
                                return WIRE_MALFORMED;
                } else if (is_bytes(&f, BATCH_OPTIONS)) {
                        ret->has_options = true;
                        if (wire_in_options(f.bytes, &ret->options))
                                return WIRE_MALFORMED;
                } else if (is_varint(&f, BATCH_IS_FINAL)) {
                        ret->is_final = f.value != 0;
                } else if (is_of_wrong_type(&f, BATCH_IS_FINAL)) {
                        return WIRE_MALFORMED;
                }
        }
        return ended(r);
}

bool wire_next_proposed(struct wire_in *in, struct bytes *ret)
{
        struct wire_field f;

        while (!next_field(in, &f)) {
                if (f.number == BATCH_PROPOSED) {
                        *ret = f.bytes;
                        return true;
                }
        }
        return false;
}

int wire_in_delete(struct bytes message, struct wire_options *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        *ret = (struct wire_options){0};
        while (!(r = wire_next(&in, &f))) {
                if (is_bytes(&f, DELETE_OPTIONS)) {
                        if (wire_in_options(f.bytes, ret))
                                return WIRE_MALFORMED;
                } else if (f.number == DELETE_OPTIONS) {
                        return WIRE_MALFORMED;
                }
        }
        return ended(r);
}

/* ---- persistent subscriptions ---- */

/* All of an ack or nack but its ids, which are only looked at by wire_next_id. */
static int read_finished(struct bytes message, struct wire_group *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        int r;

        while (!(r = wire_next(&in, &f))) {
                if (is_varint(&f, FINISHED_ACTION))
                        ret->action = f.value;
                else if (is_bytes(&f, FINISHED_REASON))
                        ret->reason = f.bytes;
                else if (f.number == FINISHED_ACTION || (f.number <= FINISHED_REASON && f.type != WIRE_BYTES))
                        return WIRE_MALFORMED;
        }
        return ended(r);
}

int wire_in_group(struct bytes message, struct wire_group *ret)
{
        struct wire_in in = wire_in(message);
        struct wire_field f;
        bool has = false;
        int r;

        *ret = (struct wire_group){0};
        while (!(r = wire_next(&in, &f))) {
                if (f.number > GROUP_NACK)
                        continue;
                if (f.type != WIRE_BYTES)
                        return WIRE_MALFORMED;
                has = true;
                ret->kind = (enum wire_group_kind)(f.number - GROUP_OPTIONS);
                ret->body = f.bytes;
        }
        if (r != WIRE_END || !has)
                return WIRE_MALFORMED;
        return ret->kind == WIRE_GROUP_OPTIONS ? 0 : read_finished(ret->body, ret);
}

int wire_next_id(struct wire_in *in, struct event_id *ret)
{
        struct wire_field f;
        int r;

        while (!(r = wire_next(in, &f))) {
                struct wire_uuid uuid = {0};
                bool has;

                if (!is_bytes(&f, FINISHED_IDS))
                        continue;
                if (read_uuid(f.bytes, &uuid, &has))
                        return WIRE_MALFORMED;
                if (!has)
                        continue;
                *ret = uuid.id;
                return 0;
        }
        return r;
}
