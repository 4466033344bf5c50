#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/record.h"

static struct bytes text(const char *s)
{
        return bytes_of_string(s);
}

static struct event_draft draft(uint8_t id, const char *type, const char *data)
{
        struct event_draft e = {.type = text(type), .data = text(data)};

        memset(e.id.bytes, id, sizeof e.id.bytes);
        return e;
}

static struct record_header header_of(uint32_t event_count, struct bytes payload)
{
        return (struct record_header){
                .kind = RECORD_EVENTS,
                .payload_size = (uint32_t)payload.size,
                .index = 77,
                .first_position = 1000,
                .term = 3,
                .synced_through = 70,
                .event_count = event_count,
                .epoch = 2,
                .chain = {{1, 2, 3}},
        };
}

/* A reader over an exact copy of the payload, so that a read behind its end is seen by the sanitizer. */
struct reading {
        struct record_events_reader reader;
        uint8_t *payload;
};

static void reading_begin(struct reading *it, uint32_t event_count, struct bytes payload)
{
        struct record_header h = header_of(event_count, payload);

        *it = (struct reading){.payload = memory_new(payload.size)};
        memcpy(it->payload, payload.data, payload.size);
        assert_int_equal(record_events_open(&it->reader, &h, bytes_of(it->payload, payload.size)), 0);
}

static void reading_end(struct reading *it)
{
        record_events_close(&it->reader);
        free(it->payload);
}

static void assert_is_event(
        const struct event_view *v, const char *stream, uint64_t revision, const struct event_draft *e)
{
        assert_true(bytes_equal(v->stream, text(stream)));
        assert_true(v->revision == revision);
        assert_true(event_id_equal(&v->id, &e->id));
        assert_true(bytes_equal(v->type, e->type));
        assert_true(bytes_equal(v->data, e->data));
        assert_true(bytes_equal(v->metadata, e->metadata));
        assert_int_equal(v->content_type, e->content_type);
        assert_int_equal(v->tag_count, e->tag_count);
}

TEST(header, every_field_comes_back)
{
        struct record_header h = {
                .kind = RECORD_EVENTS,
                .payload_size = RECORD_PAYLOAD_SIZE_MAX,
                .payload_crc = 0xdeadbeef,
                .index = INT64_MAX,
                .first_position = INT64_MAX - LIMIT_APPEND_EVENTS_MAX,
                .term = INT64_MAX,
                .synced_through = UINT64_MAX,
                .event_count = LIMIT_APPEND_EVENTS_MAX,
                .epoch = UINT32_MAX,
                .chain = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
        };
        struct record_header got;
        uint8_t bytes[RECORD_HEADER_SIZE];

        record_header_encode(&h, 5, bytes);
        assert_int_equal(record_header_decode(bytes, 5, &got), 0);
        assert_int_equal(got.kind, h.kind);
        assert_int_equal(got.payload_size, h.payload_size);
        assert_int_equal(got.payload_crc, h.payload_crc);
        assert_true(got.index == h.index);
        assert_true(got.first_position == h.first_position);
        assert_true(got.term == h.term);
        assert_true(got.synced_through == h.synced_through);
        assert_int_equal(got.event_count, h.event_count);
        assert_int_equal(got.epoch, h.epoch);
        assert_int_equal(got.flags, 0);
        assert_memory_equal(got.chain.bytes, h.chain.bytes, RECORD_CHAIN_SIZE);

        h = (struct record_header){.kind = RECORD_WATERMARK};
        record_header_encode(&h, 5, bytes);
        assert_int_equal(record_header_decode(bytes, 5, &got), 0);
        h = (struct record_header){.kind = RECORD_BARRIER, .index = 1};
        record_header_encode(&h, 5, bytes);
        assert_int_equal(record_header_decode(bytes, 5, &got), 0);
}

/* The table of docs/formats/record.md, byte by byte: files of version 1 look like this for ever (G20). */
TEST(header, stands_as_documented)
{
        struct record_header h = {
                .kind = RECORD_CONFIGURATION,
                .payload_size = 0x01020304,
                .payload_crc = 0x11121314,
                .index = 0x2122232425262728,
                .first_position = 0x3132333435363738,
                .term = 0x4142434445464748,
                .synced_through = 0x5152535455565758,
                .epoch = 0x61626364,
        };
        static const uint8_t expected[56] = {0x04, 0x03, 0x02, 0x01, 3, 1, 0, 0, 0x34, 0x70, 0x25, 0xfb, 0x14,
                0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35,
                0x34, 0x33, 0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, 0x58, 0x57, 0x56,
                0x55, 0x54, 0x53, 0x52, 0x51, 0, 0, 0, 0, 0x64, 0x63, 0x62, 0x61};
        uint8_t bytes[RECORD_HEADER_SIZE];

        for (unsigned i = 0; i < RECORD_CHAIN_SIZE; i++)
                h.chain.bytes[i] = (uint8_t)(0x70 + i);
        record_header_encode(&h, 0, bytes);
        assert_memory_equal(bytes, expected, sizeof expected);
        assert_memory_equal(bytes + 56, h.chain.bytes, RECORD_CHAIN_SIZE);
}

TEST(seed, differs_by_segment_and_generation)
{
        uint8_t a[16] = {1};
        uint8_t b[16] = {2};

        assert_int_equal(record_seed(a, 1), record_seed(a, 1));
        assert_int_not_equal(record_seed(a, 1), record_seed(a, 2));
        assert_int_not_equal(record_seed(a, 1), record_seed(b, 1));
}

TEST(record, size_is_aligned)
{
        assert_int_equal(record_size(0), 72);
        assert_int_equal(record_size(1), 80);
        assert_int_equal(record_size(8), 80);
        assert_int_equal(record_size(9), 88);
        assert_true(record_size(UINT32_MAX) > UINT32_MAX);
}

TEST(record, padding_must_be_zero)
{
        uint8_t record[88] = {0};

        memset(record, 0xff, 72 + 9);
        assert_true(record_padding_is_zero(record, 9));
        for (unsigned i = 72 + 9; i < sizeof record; i++) {
                record[i] = 1;
                assert_false(record_padding_is_zero(record, 9));
                record[i] = 0;
        }
        assert_true(record_padding_is_zero(record, 0));
}

/* Known value, computed independently: hashlib of sha256(chain + index + term + sha256(payload).digest()). */
TEST(chain, is_the_documented_hash)
{
        static const uint8_t expected[RECORD_CHAIN_SIZE] = {0x92, 0x8a, 0xb6, 0x80, 0x78, 0x75, 0x54, 0xdd,
                0x11, 0xed, 0x45, 0x14, 0x1b, 0x79, 0xdc, 0x91};
        struct record_chain before;
        struct record_chain after;

        for (unsigned i = 0; i < RECORD_CHAIN_SIZE; i++)
                before.bytes[i] = (uint8_t)i;
        record_chain_next(&before, 7, 3, text("payload"), &after);
        assert_memory_equal(after.bytes, expected, RECORD_CHAIN_SIZE);
        /* The result may take the place of what it came from. */
        record_chain_next(&before, 7, 3, text("payload"), &before);
        assert_memory_equal(before.bytes, expected, RECORD_CHAIN_SIZE);
}

/* G22: whatever differs in a record shows in the chain, there and ever after. */
TEST(chain, every_input_counts)
{
        struct record_chain start = {{9}};
        struct record_chain other = {{8}};
        struct record_chain got[6];

        record_chain_next(&start, 7, 3, text("payload"), &got[0]);
        record_chain_next(&other, 7, 3, text("payload"), &got[1]);
        record_chain_next(&start, 8, 3, text("payload"), &got[2]);
        record_chain_next(&start, 7, 4, text("payload"), &got[3]);
        record_chain_next(&start, 7, 3, text("payloae"), &got[4]);
        record_chain_next(&start, 7, 3, BYTES_EMPTY, &got[5]);
        for (unsigned i = 0; i < COUNT_OF(got); i++)
                for (unsigned k = 0; k < i; k++)
                        assert_memory_not_equal(got[i].bytes, got[k].bytes, RECORD_CHAIN_SIZE);
        record_chain_next(&got[0], 8, 3, text("x"), &got[0]);
        record_chain_next(&got[4], 8, 3, text("x"), &got[4]);
        assert_memory_not_equal(got[0].bytes, got[4].bytes, RECORD_CHAIN_SIZE);
}

TEST(events, one_event_stands_as_documented)
{
        static const uint8_t expected[] = {8, 7, 6, 5, 4, 3, 2, 1, /* time */
                0x01 | 0x02 | 0x04 | 0x08,                         /* flags */
                7, 'o', 'r', 'd', 'e', 'r', '-', '1', 0xac, 0x02,  /* stream, revision 300 */
                5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5,    /* id */
                3, 'p', 'u', 't', 2, '[', ']', 1, '5',             /* type, data, metadata */
                2, 1, 'a', 0};                                     /* tags */
        struct bytes tags[] = {BYTES_LITERAL("a"), BYTES_EMPTY};
        struct event_draft e = draft(5, "put", "[]");
        struct record_events_writer w;
        struct buffer out = {0};

        e.content_type = CONTENT_JSON;
        e.metadata = text("5");
        e.tags = tags;
        e.tag_count = 2;
        record_events_begin(&w, &out, 0x0102030405060708);
        record_events_add(&w, text("order-1"), 300, &e);
        record_events_end(&w);
        assert_int_equal(out.size, sizeof expected);
        assert_memory_equal(out.data, expected, sizeof expected);
        buffer_fini(&out);
}

TEST(events, interleaved_streams_come_back_in_order)
{
        struct event_draft drafts[] = {draft(1, "placed", "{}"), draft(2, "placed", ""),
                draft(3, "paid", "x"), draft(4, "paid", "y"), draft(5, "placed", "z"),
                draft(6, "placed", "end")};
        static const char *const streams[] = {"a", "b", "a", "c", "b", "a"};
        static const uint64_t revisions[] = {0, 41, 1, 127, 42, 2};
        struct record_events_writer w;
        struct buffer out = {0};
        struct reading it;
        struct event_view v;

        drafts[0].content_type = CONTENT_JSON;
        drafts[3].metadata = text("meta");
        drafts[5].content_type = CONTENT_JSON;
        /* The payload may begin anywhere in its buffer. */
        buffer_add_string(&out, "before");
        record_events_begin(&w, &out, 123456789);
        for (unsigned i = 0; i < COUNT_OF(drafts); i++)
                record_events_add(&w, text(streams[i]), revisions[i], &drafts[i]);
        assert_int_equal(w.event_count, 6);
        assert_int_equal(w.stream_count, 3);
        record_events_end(&w);

        reading_begin(&it, 6, bytes_of(out.data + 6, out.size - 6));
        for (unsigned i = 0; i < COUNT_OF(drafts); i++) {
                assert_int_equal(record_events_next(&it.reader, &v), 0);
                assert_is_event(&v, streams[i], revisions[i], &drafts[i]);
                assert_int_equal(v.position, 1000 + i);
                assert_int_equal(v.log_index, 77);
                assert_int_equal(v.time_us, 123456789);
                assert_int_equal(v.is_last_of_record, i == 5);
        }
        assert_int_equal(record_events_next(&it.reader, &v), RECORD_EVENTS_END);
        assert_int_equal(record_events_next(&it.reader, &v), RECORD_EVENTS_END);
        reading_end(&it);
        buffer_fini(&out);
}

TEST(events, the_writer_borrows_nothing)
{
        char stream[] = "order-1";
        char type[] = "placed";
        struct event_draft e = draft(1, type, "");
        struct record_events_writer w;
        struct buffer out = {0};
        struct reading it;
        struct event_view v;

        record_events_begin(&w, &out, 1);
        record_events_add(&w, text(stream), 0, &e);
        memset(type, 'x', 6);
        memset(stream, 'x', 7);
        record_events_add(&w, text(stream), 0, &e);
        record_events_end(&w);
        reading_begin(&it, 2, buffer_bytes(&out));
        assert_int_equal(record_events_next(&it.reader, &v), 0);
        assert_true(bytes_equal(v.type, text("placed")));
        assert_int_equal(record_events_next(&it.reader, &v), 0);
        assert_true(bytes_equal(v.type, text("xxxxxx")));
        assert_true(bytes_equal(v.stream, text("xxxxxxx")));
        reading_end(&it);
        buffer_fini(&out);
}

TEST(events, a_thousand_streams_three_times)
{
        static const unsigned factors[] = {7, 21, 63}; /* another order in each round */
        struct event_draft e = draft(1, "t", "data");
        struct record_events_writer w;
        struct buffer out = {0};
        struct reading it;
        struct event_view v;
        char name[16];
        size_t first_round = 0;

        record_events_begin(&w, &out, 1);
        for (unsigned i = 0; i < 3 * LIMIT_APPEND_STREAMS_MAX; i++) {
                unsigned n = factors[i / LIMIT_APPEND_STREAMS_MAX] * i % LIMIT_APPEND_STREAMS_MAX;

                snprintf(name, sizeof name, "stream-%u", n);
                record_events_add(&w, text(name), n + i / LIMIT_APPEND_STREAMS_MAX, &e);
                if (i == LIMIT_APPEND_STREAMS_MAX - 1)
                        first_round = out.size;
        }
        assert_int_equal(w.stream_count, LIMIT_APPEND_STREAMS_MAX);
        record_events_end(&w);
        /* Names are written once. */
        assert_int_equal(out.size - first_round, 2 * ((1 + 16 + 1 + 4) * 1000 + 128 + 2 * 872));

        reading_begin(&it, 3 * LIMIT_APPEND_STREAMS_MAX, buffer_bytes(&out));
        for (unsigned i = 0; i < 3 * LIMIT_APPEND_STREAMS_MAX; i++) {
                unsigned n = factors[i / LIMIT_APPEND_STREAMS_MAX] * i % LIMIT_APPEND_STREAMS_MAX;

                snprintf(name, sizeof name, "stream-%u", n);
                assert_int_equal(record_events_next(&it.reader, &v), 0);
                assert_is_event(&v, name, n + i / LIMIT_APPEND_STREAMS_MAX, &e);
        }
        assert_int_equal(record_events_next(&it.reader, &v), RECORD_EVENTS_END);

        /* Opened again, the reader keeps its memory and nothing else. */
        buffer_clear(&out);
        record_events_begin(&w, &out, 2);
        record_events_add(&w, text("other"), 9, &e);
        record_events_end(&w);
        struct record_header h = header_of(1, buffer_bytes(&out));

        assert_int_equal(record_events_open(&it.reader, &h, buffer_bytes(&out)), 0);
        assert_int_equal(record_events_next(&it.reader, &v), 0);
        assert_is_event(&v, "other", 9, &e);
        assert_int_equal(v.time_us, 2);
        assert_int_equal(record_events_next(&it.reader, &v), RECORD_EVENTS_END);
        reading_end(&it);
        buffer_fini(&out);
}

TEST(events, around_the_inline_streams)
{
        for (unsigned count = RECORD_STREAMS_INLINE - 1; count <= RECORD_STREAMS_INLINE * 4 + 1; count++) {
                struct event_draft e = draft(1, "t", "");
                struct record_events_writer w;
                struct buffer out = {0};
                struct reading it;
                struct event_view v;
                char name[2] = {0};

                record_events_begin(&w, &out, 1);
                for (unsigned i = 0; i < 2 * count; i++) {
                        name[0] = (char)('0' + i % count);
                        record_events_add(&w, text(name), i / count, &e);
                }
                assert_int_equal(w.stream_count, count);
                record_events_end(&w);
                reading_begin(&it, 2 * count, buffer_bytes(&out));
                for (unsigned i = 0; i < 2 * count; i++) {
                        name[0] = (char)('0' + i % count);
                        assert_int_equal(record_events_next(&it.reader, &v), 0);
                        assert_is_event(&v, name, i / count, &e);
                }
                reading_end(&it);
                buffer_fini(&out);
        }
}

TEST(events, a_tombstone_stands_alone_at_the_last_number)
{
        struct event_draft e = draft(1, "$streamDeleted", "");
        struct record_events_writer w;
        struct buffer out = {0};
        struct reading it;
        struct event_view v;

        record_events_begin(&w, &out, 1);
        record_events_add(&w, text("order-1"), REVISION_MAX, &e);
        record_events_end(&w);
        reading_begin(&it, 1, buffer_bytes(&out));
        assert_int_equal(record_events_next(&it.reader, &v), 0);
        assert_is_event(&v, "order-1", REVISION_MAX, &e);
        assert_true(v.is_last_of_record);
        reading_end(&it);
        buffer_fini(&out);
}

TEST(events, everything_at_its_limit)
{
        static char filling[LIMIT_EVENT_SIZE_MAX];
        struct bytes tags[LIMIT_TAGS_MAX];
        struct event_draft e = {
                .type = bytes_of(filling, LIMIT_EVENT_TYPE_SIZE_MAX),
                .data = bytes_of(filling, LIMIT_EVENT_SIZE_MAX),
                .metadata = bytes_of(filling, LIMIT_METADATA_SIZE_MAX),
                .tags = tags,
                .tag_count = LIMIT_TAGS_MAX,
        };
        struct bytes stream = bytes_of(filling, LIMIT_STREAM_NAME_SIZE_MAX + 2);
        struct record_events_writer w;
        struct buffer out = {0};
        struct reading it;
        struct event_view v;
        struct bytes rest;
        struct bytes tag;

        memset(filling, 'x', sizeof filling);
        for (unsigned i = 0; i < LIMIT_TAGS_MAX; i++)
                tags[i] = bytes_of(filling, LIMIT_TAG_SIZE_MAX - i * 4);
        record_events_begin(&w, &out, UINT64_MAX);
        record_events_add(&w, stream, REVISION_MAX - 2, &e);
        record_events_add(&w, stream, REVISION_MAX - 1, &e);
        record_events_end(&w);
        reading_begin(&it, 2, buffer_bytes(&out));
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(record_events_next(&it.reader, &v), 0);
                assert_true(v.revision == REVISION_MAX - 2 + i);
                assert_true(bytes_equal(v.stream, stream));
                assert_true(bytes_equal(v.type, e.type));
                assert_true(bytes_equal(v.data, e.data));
                assert_true(bytes_equal(v.metadata, e.metadata));
                assert_true(v.time_us == UINT64_MAX);
                assert_int_equal(v.tag_count, LIMIT_TAGS_MAX);
                rest = v.tags;
                for (unsigned t = 0; t < LIMIT_TAGS_MAX; t++) {
                        assert_true(event_tag_next(&rest, &tag));
                        assert_true(bytes_equal(tag, tags[t]));
                }
                assert_false(event_tag_next(&rest, &tag));
        }
        assert_int_equal(record_events_next(&it.reader, &v), RECORD_EVENTS_END);
        reading_end(&it);
        buffer_fini(&out);
}

/* The bound of a header's payload_size against the costliest legal append per counted byte. */
TEST(events, the_largest_append_fits_the_largest_payload)
{
        static char name[LIMIT_STREAM_NAME_SIZE_MAX + 2];
        struct record_events_writer w;
        struct buffer out = {0};
        uint64_t counted = 0;

        memset(name, 'n', sizeof name);
        record_events_begin(&w, &out, 1);
        for (unsigned i = 0; i < LIMIT_APPEND_EVENTS_MAX; i++) {
                static const char types[2] = {'a', 'b'};
                struct bytes tag = bytes_of(name, LIMIT_APPEND_SIZE_MAX / LIMIT_APPEND_EVENTS_MAX / 5);
                struct bytes tags[] = {tag, tag, tag, tag, BYTES_EMPTY, BYTES_EMPTY};
                struct event_draft e = {
                        .type = bytes_of(&types[i % 2], 1), .tags = tags, .tag_count = COUNT_OF(tags)};

                snprintf(name, 8, "%06u", i % LIMIT_APPEND_STREAMS_MAX);
                counted += event_draft_size(&e);
                record_events_add(&w, bytes_of(name, sizeof name), i / LIMIT_APPEND_STREAMS_MAX, &e);
        }
        record_events_end(&w);
        assert_true(counted <= LIMIT_APPEND_SIZE_MAX);
        assert_true(out.size - counted <= RECORD_PAYLOAD_SIZE_MAX - LIMIT_APPEND_SIZE_MAX);
        buffer_fini(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(header, every_field_comes_back),
                TEST_ROW(header, stands_as_documented),
                TEST_ROW(seed, differs_by_segment_and_generation),
                TEST_ROW(record, size_is_aligned),
                TEST_ROW(record, padding_must_be_zero),
                TEST_ROW(chain, is_the_documented_hash),
                TEST_ROW(chain, every_input_counts),
                TEST_ROW(events, one_event_stands_as_documented),
                TEST_ROW(events, interleaved_streams_come_back_in_order),
                TEST_ROW(events, the_writer_borrows_nothing),
                TEST_ROW(events, a_thousand_streams_three_times),
                TEST_ROW(events, around_the_inline_streams),
                TEST_ROW(events, a_tombstone_stands_alone_at_the_last_number),
                TEST_ROW(events, everything_at_its_limit),
                TEST_ROW(events, the_largest_append_fits_the_largest_payload),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
