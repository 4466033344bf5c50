/* Any bytes as a record's header and as the payload of its events: no read outside, no view outside, an end.
 *
 *   clang -std=gnu17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz_record.c
 * \ src/model/[a-z]*.c src/base/[a-z]*.c -lcrypto -lpcre2-8 -ljansson -lpthread */
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "model/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

static void require_inside(struct bytes part, struct bytes whole)
{
        if (part.size)
                require(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static void walk(const struct record_header *h, struct bytes payload)
{
        struct record_events_reader reader = {0};
        struct event_view v;
        uint32_t count = 0;
        int r = record_events_open(&reader, h, payload);

        while (!r) {
                struct bytes tag;
                unsigned tags = 0;

                r = record_events_next(&reader, &v);
                if (r)
                        break;
                require_inside(v.stream, payload);
                require_inside(v.type, payload);
                require_inside(v.data, payload);
                require_inside(v.metadata, payload);
                require_inside(v.tags, payload);
                require(v.stream.size > 0 && v.type.size > 0 && v.revision <= REVISION_MAX);
                require(v.position == h->first_position + count);
                while (event_tag_next(&v.tags, &tag))
                        tags++;
                require(tags == v.tag_count);
                count++;
                require(v.is_last_of_record == (count == h->event_count));
        }
        require(r != RECORD_EVENTS_END || count == h->event_count);
        record_events_close(&reader);
}

/* Input: a header, its sum put right so that the fields behind it are reached, then a payload. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t header[RECORD_HEADER_SIZE];
        struct record_header h;

        if (size < sizeof header)
                return 0;
        memcpy(header, data, sizeof header);
        put_u32(header + 8, 0);
        put_u32(header + 8, crc32c(1, header, sizeof header));
        if (!record_header_decode(header, 1, &h)) {
                uint8_t again[RECORD_HEADER_SIZE];

                /* Nothing is lost or made up between reading and writing. */
                record_header_encode(&h, 1, again);
                require(memcmp(again, header, sizeof again) == 0);
        } else {
                h = (struct record_header){.kind = RECORD_EVENTS, .event_count = data[0]};
        }
        walk(&h, bytes_of(data + sizeof header, size - sizeof header));
        return 0;
}
