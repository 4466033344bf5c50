/* The requests that are read by hand: Append, BatchAppend, Delete, the acknowledgements of persistent
 * subscriptions, AppendSession and AppendRecords. Views lie within the message, each proposed message or
 * record that the head counted comes out, ids end, and what properties become is JSON within its bounds
 * (G17). */
#include <assert.h>
#include <stdlib.h>

#include "base/json_in.h"
#include "kurrent/records.h"
#include "kurrent/wire_in.h"
#include "kurrent/wire_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_within(struct bytes inner, const uint8_t *data, size_t size)
{
        assert(inner.size == 0 || (inner.data >= data && inner.data + inner.size <= data + size));
}

static void read_proposed(struct bytes proposed, const uint8_t *data, size_t size)
{
        struct event_draft draft;
        unsigned seen;

        assert_within(proposed, data, size);
        if (wire_in_proposed(proposed, &draft, &seen))
                return;
        assert_within(draft.type, data, size);
        assert_within(draft.data, data, size);
        assert_within(draft.metadata, data, size);
}

static void read_older(struct bytes message, const uint8_t *data, size_t size)
{
        struct wire_batch batch;
        struct wire_append append;
        struct wire_options options;
        struct wire_group group;

        if (!wire_in_batch(message, &batch)) {
                struct wire_in in = wire_in(message);
                struct bytes proposed;
                unsigned count = 0;

                assert_within(batch.options.stream, data, size);
                for (; wire_next_proposed(&in, &proposed); count++)
                        read_proposed(proposed, data, size);
                assert(count == batch.proposed_count);
        }
        if (!wire_in_append(message, &append)) {
                if (append.is_options)
                        assert_within(append.options.stream, data, size);
                else
                        read_proposed(append.proposed, data, size);
        }
        if (!wire_in_delete(message, &options))
                assert_within(options.stream, data, size);
        if (!wire_in_group(message, &group)) {
                struct wire_in in = wire_in(group.body);
                struct event_id id;
                size_t count = 0;

                assert_within(group.body, data, size);
                assert_within(group.reason, data, size);
                while (!wire_next_id(&in, &id))
                        assert(++count <= group.body.size);
        }
}

/* Who checks the record before asks for its metadata sees to the format and the names. */
static void make_metadata(struct bytes message, const struct wire_record *record)
{
        struct record_budget spent = {0};
        struct arena scratch = {0};
        struct buffer out = {0};

        if (record->format < WIRE_FORMAT_JSON || record->format > WIRE_FORMAT_BYTES)
                return;
        if (!record_metadata(message, record, &spent, &scratch, &out)) {
                assert(out.size <= LIMIT_METADATA_SIZE_MAX);
                assert(json_in_is_object(buffer_bytes(&out)));
        }
        arena_fini(&scratch);
        buffer_fini(&out);
}

static void read_record(struct bytes message, const uint8_t *data, size_t size)
{
        struct wire_record record;

        assert_within(message, data, size);
        if (wire_in_record(message, &record))
                return;
        assert_within(record.id, data, size);
        assert_within(record.stream, data, size);
        assert_within(record.data, data, size);
        assert_within(record.type, data, size);
        assert_within(record.schema_id, data, size);
        assert(record.properties_size <= message.size);
        make_metadata(message, &record);
}

static void read_records(
        struct bytes message, uint32_t number, unsigned count, const uint8_t *data, size_t size)
{
        struct wire_in in = wire_in(message);
        struct bytes record;

        while (wire_next_record(&in, number, &record)) {
                assert(count-- > 0);
                read_record(record, data, size);
        }
        assert(count == 0);
}

static void read_newer(struct bytes message, const uint8_t *data, size_t size)
{
        struct wire_session session;
        struct wire_records records;
        struct wire_check check;

        if (!wire_in_session(message, &session)) {
                assert_within(session.stream, data, size);
                read_records(message, WIRE_SESSION_RECORDS, session.record_count, data, size);
        }
        if (!wire_in_records(message, &records)) {
                struct wire_in in = wire_in(message);
                unsigned count = 0;

                read_records(message, WIRE_RECORDS, records.record_count, data, size);
                for (; !wire_next_check(&in, &check); count++)
                        assert_within(check.stream, data, size);
                assert(count <= records.check_count);
        }
        /* By itself as well: so the fuzzer gets to the properties sooner. */
        read_record(message, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes message = bytes_of(data, size);

        read_older(message, data, size);
        read_newer(message, data, size);
        return 0;
}
