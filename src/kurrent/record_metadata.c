/* The custom metadata of an event that came as a record: a JSON object with the record's properties and,
 * under names that begin with "$schema.", its schema. The schema wins over a property of the same name. Of
 * properties with one name the last counts, as everywhere in protobuf.
 *
 * What a stranger can make of this is bounded: the depth of values, their number in a record and in an
 * append, and the size of the text. Numbers that are no integers have a bound of their own, since to find
 * their digits takes as long as many short texts: one message must not hold up the loop. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kurrent/records.h"

enum {
        DEPTH_MAX = JSON_OUT_DEPTH_MAX - 2,
        VALUES_MAX = 10000,
        APPEND_VALUES_MAX = 500000,
        APPEND_FRACTIONS_MAX = 100000,
};
static_assert(DEPTH_MAX == 30 && VALUES_MAX == 10000 && LIMIT_METADATA_SIZE_MAX == 1048576 &&
                      APPEND_VALUES_MAX == 500000 && APPEND_FRACTIONS_MAX == 100000,
        "as the texts say");

struct writer {
        struct arena *scratch;
        struct json_out json;
        size_t size_max; /* of the buffer */
        unsigned value_count;
        struct record_budget *spent;
        const char *problem;
};

static bool fail(struct writer *w, const char *problem)
{
        w->problem = problem;
        return false;
}

static bool fits(struct writer *w, size_t more)
{
        if (w->json.out->size + more <= w->size_max)
                return true;
        return fail(w, "properties are too large: as JSON they have more than 1048576 bytes");
}

/* ---- fields, each once ---- */

struct entry {
        struct bytes key;
        struct bytes value;
};

/* A later one takes the place of an earlier one. */
static unsigned put(
        struct entry *entries, unsigned count, uint32_t *slots, unsigned slot_count, struct entry e)
{
        unsigned slot = (unsigned)name_hash(e.key) & (slot_count - 1);

        while (slots[slot]) {
                struct entry *there = &entries[slots[slot] - 1];

                if (bytes_equal(there->key, e.key)) {
                        *there = e;
                        return count;
                }
                slot = (slot + 1) & (slot_count - 1);
        }
        entries[count] = e;
        slots[slot] = count + 1;
        return count + 1;
}

/* The fields of a map; `most`: how many entries there are. */
static bool gather(struct writer *w, struct bytes message, uint32_t number, unsigned most,
        struct entry **ret_entries, unsigned *ret_count)
{
        struct wire_in in = wire_in(message);
        struct entry *entries = arena_get(w->scratch, most * sizeof(*entries));
        unsigned slot_count = 4;
        unsigned count = 0;
        struct entry e;
        uint32_t *slots;
        int r;

        while (slot_count < 2 * most)
                slot_count *= 2;
        slots = arena_get(w->scratch, slot_count * sizeof(*slots));
        memset(slots, 0, slot_count * sizeof(*slots));
        while (!(r = wire_next_entry(&in, number, &e.key, &e.value))) {
                if (!e.key.size)
                        return fail(w, "a property has no name");
                if (!bytes_is_utf8(e.key))
                        return fail(w, "the name of a property is no UTF-8");
                count = put(entries, count, slots, slot_count, e);
        }
        if (r != WIRE_END)
                return fail(w, "a property is malformed");
        *ret_entries = entries;
        *ret_count = count;
        return true;
}

static unsigned count_fields(struct bytes message, uint32_t number)
{
        struct wire_in in = wire_in(message);
        struct bytes skipped;
        unsigned count = 0;

        while (wire_next_record(&in, number, &skipped))
                count++;
        return count;
}

/* ---- values ---- */

static bool write_value(struct writer *w, struct bytes message, unsigned depth);

static bool take_values(struct writer *w, unsigned count)
{
        if (count > VALUES_MAX - w->value_count)
                return fail(w, "properties hold more than 10000 values");
        w->value_count += count;
        if (count > APPEND_VALUES_MAX - w->spent->values)
                return fail(w, "properties of one append hold more than 500000 values");
        w->spent->values += count;
        return true;
}

static bool write_entries(struct writer *w, const struct entry *entries, unsigned count, unsigned depth)
{
        for (unsigned i = 0; i < count; i++) {
                if (!fits(w, entries[i].key.size))
                        return false;
                json_key_bytes(&w->json, entries[i].key);
                if (!write_value(w, entries[i].value, depth))
                        return false;
        }
        return true;
}

static bool write_struct(struct writer *w, struct bytes message, unsigned depth)
{
        unsigned most = count_fields(message, WIRE_FIELDS);
        struct entry *entries;
        unsigned count;

        if (!take_values(w, most) || !gather(w, message, WIRE_FIELDS, most, &entries, &count))
                return false;
        json_object_begin(&w->json);
        if (!write_entries(w, entries, count, depth))
                return false;
        json_object_end(&w->json);
        return true;
}

static bool write_list(struct writer *w, struct bytes message, unsigned depth)
{
        struct wire_in in = wire_in(message);
        struct bytes value;

        json_array_begin(&w->json);
        while (wire_next_value(&in, &value))
                if (!take_values(w, 1) || !write_value(w, value, depth))
                        return false;
        json_array_end(&w->json);
        return true;
}

/* What a double holds without a gap. */
static bool is_integer(double number)
{
        return fabs(number) < 9007199254740992.0 && number == trunc(number) &&
               (number != 0 || !signbit(number));
}

/* With fifteen digits if these say which number it is, as they do for what people write, else with seventeen.
 */
static bool write_number(struct writer *w, double number)
{
        char text[32];

        if (is_integer(number)) {
                json_i64(&w->json, (int64_t)number);
                return true;
        }
        if (!isfinite(number))
                return fail(w, "a property is a number that JSON does not have");
        if (w->spent->fractions == APPEND_FRACTIONS_MAX)
                return fail(w, "properties of one append hold more than 100000 numbers that are no integers");
        w->spent->fractions++;
        snprintf(text, sizeof(text), "%.15g", number);
        if (strtod(text, NULL) != number)
                snprintf(text, sizeof(text), "%.17g", number);
        json_raw(&w->json, bytes_of_string(text));
        return true;
}

static bool write_text(struct writer *w, struct bytes text)
{
        if (!bytes_is_utf8(text))
                return fail(w, "a property is no UTF-8");
        if (!fits(w, text.size))
                return false;
        json_bytes(&w->json, text);
        return true;
}

/* `depth`: containers around it, those of JSON included. */
static bool write_value(struct writer *w, struct bytes message, unsigned depth)
{
        struct wire_value value;

        if (wire_in_value(message, &value))
                return fail(w, "a property is malformed");
        if (value.kind >= WIRE_VALUE_STRUCT && depth == DEPTH_MAX)
                return fail(w, "properties are nested more than 30 deep");
        if (!fits(w, 0))
                return false;
        switch (value.kind) {
        case WIRE_VALUE_NULL:
                json_out_null(&w->json);
                return true;
        case WIRE_VALUE_NUMBER:
                return write_number(w, value.number);
        case WIRE_VALUE_STRING:
                return write_text(w, value.bytes);
        case WIRE_VALUE_BOOL:
                json_bool(&w->json, value.is_true);
                return true;
        case WIRE_VALUE_STRUCT:
                return write_struct(w, value.bytes, depth + 1);
        case WIRE_VALUE_LIST:
                return write_list(w, value.bytes, depth + 1);
        default:
                return fail(w, "a property has a value of no kind");
        }
}

/* ---- the whole ---- */

static const char *const format_names[] = {"", "Json", "Protobuf", "Avro", "Bytes"};

static bool is_of_schema(struct bytes key, const struct wire_record *record)
{
        return bytes_equal_string(key, "$schema.name") || bytes_equal_string(key, "$schema.format") ||
               (record->schema_id.size && bytes_equal_string(key, "$schema.id"));
}

static bool write_properties(struct writer *w, struct bytes message, const struct wire_record *record)
{
        struct entry *entries;
        unsigned count;
        unsigned kept = 0;

        if (!record->property_count)
                return true;
        if (!take_values(w, record->property_count) ||
                !gather(w, message, WIRE_PROPERTIES, record->property_count, &entries, &count))
                return false;
        for (unsigned i = 0; i < count; i++)
                if (!is_of_schema(entries[i].key, record))
                        entries[kept++] = entries[i];
        return write_entries(w, entries, kept, 1);
}

const char *record_metadata(struct bytes message, const struct wire_record *record,
        struct record_budget *spent, struct arena *scratch, struct buffer *out)
{
        struct writer w = {
                .scratch = scratch,
                .spent = spent,
                .json = {.out = out},
                .size_max = out->size + LIMIT_METADATA_SIZE_MAX,
        };

        assert(record->format < COUNT_OF(format_names));
        json_object_begin(&w.json);
        if (!write_properties(&w, message, record))
                return w.problem;
        json_field_bytes(&w.json, "$schema.name", record->type);
        json_field_string(&w.json, "$schema.format", format_names[record->format]);
        if (record->schema_id.size)
                json_field_bytes(&w.json, "$schema.id", record->schema_id);
        json_object_end(&w.json);
        if (out->size > w.size_max)
                fits(&w, 0);
        return w.problem;
}
