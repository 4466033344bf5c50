/* The requests that are read by hand: Append, BatchAppend, Delete, and the acknowledgements of persistent
 * subscriptions. Views lie within the message, each proposed message that the head counted comes out, and ids
 * end (G17). */
#include <assert.h>
#include <stdlib.h>

#include "kurrent/wire_in.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes message = bytes_of(data, size);
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
        return 0;
}
