/* Damaged and hostile records: what the sums find, and what the decoder does with bytes whose sums are right.
 */
#include "test.h"

#include <stdlib.h>

#include "base/memory.h"
#include "model/record.h"

enum { SEED = 0x5eed, GENERATED_MAX = 400 };

static uint32_t random_next(uint64_t *state)
{
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(*state >> 33);
}

static struct bytes text(const char *s)
{
        return bytes_of_string(s);
}

/* A record of three events with everything in it. */
static void sample_payload(struct buffer *out)
{
        struct bytes tags[] = {BYTES_LITERAL("k=v"), BYTES_LITERAL("t")};
        struct event_draft e = {.id = {{1, 2, 3}}, .type = text("placed"), .data = text("{\"n\":1}")};
        struct record_events_writer w;

        record_events_begin(&w, out, 1700000000000000);
        e.content_type = CONTENT_JSON;
        record_events_add(&w, text("order-1"), 299, &e);
        e.metadata = text("{}");
        record_events_add(&w, text("$$order-1"), 0, &e);
        e.type = text("paid");
        e.tags = tags;
        e.tag_count = 2;
        record_events_add(&w, text("order-1"), 300, &e);
        record_events_end(&w);
}

static struct record_header sample_header(struct bytes payload, uint32_t event_count)
{
        return (struct record_header){
                .kind = RECORD_EVENTS,
                .payload_size = (uint32_t)payload.size,
                .payload_crc = record_payload_crc(SEED, payload),
                .index = 5,
                .first_position = 9,
                .term = 2,
                .synced_through = 4,
                .event_count = event_count,
                .chain = {{7}},
        };
}

/* Walks an exact copy of `payload`; gives the number of events, -1 for RECORD_INVALID. Checks of every view
 * that it lies inside and within the limits. */
static int walk(struct bytes payload, uint32_t event_count)
{
        struct record_header h = sample_header(payload, event_count);
        struct record_events_reader reader = {0};
        struct event_view v;
        uint8_t *copy = memory_new(payload.size);
        int count = 0;
        int r;

        if (payload.size)
                memcpy(copy, payload.data, payload.size);
        r = record_events_open(&reader, &h, bytes_of(copy, payload.size));
        while (!r) {
                r = record_events_next(&reader, &v);
                if (!r) {
                        struct bytes parts[] = {v.stream, v.type, v.data, v.metadata, v.tags};
                        struct bytes tag;
                        unsigned tags = 0;

                        for (unsigned i = 0; i < COUNT_OF(parts); i++) {
                                if (!parts[i].size)
                                        continue;
                                assert_true(parts[i].data >= copy);
                                assert_true(parts[i].data + parts[i].size <= copy + payload.size);
                        }
                        assert_in_range(v.stream.size, 1, LIMIT_STREAM_NAME_SIZE_MAX + 2);
                        assert_in_range(v.type.size, 1, LIMIT_EVENT_TYPE_SIZE_MAX);
                        assert_true(v.revision <= REVISION_MAX);
                        while (event_tag_next(&v.tags, &tag))
                                tags++;
                        assert_int_equal(tags, v.tag_count);
                        count++;
                        assert_int_equal(v.is_last_of_record, count == (int)event_count);
                }
        }
        record_events_close(&reader);
        free(copy);
        if (r == RECORD_EVENTS_END)
                assert_int_equal(count, event_count);
        return r == RECORD_EVENTS_END ? count : -1;
}

/* G14: every bit of a record is covered. */
TEST(sums, find_every_flipped_bit)
{
        struct buffer payload = {0};
        struct record_header h;
        struct record_header got;
        uint8_t header[RECORD_HEADER_SIZE];

        sample_payload(&payload);
        h = sample_header(buffer_bytes(&payload), 3);
        record_header_encode(&h, SEED, header);
        assert_int_equal(record_header_decode(header, SEED, &got), 0);
        assert_int_equal(record_payload_crc(SEED, buffer_bytes(&payload)), got.payload_crc);
        for (unsigned bit = 0; bit < 8 * RECORD_HEADER_SIZE; bit++) {
                header[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_int_equal(record_header_decode(header, SEED, &got), RECORD_INVALID);
                header[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (unsigned bit = 0; bit < 8 * payload.size; bit++) {
                payload.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_int_not_equal(record_payload_crc(SEED, buffer_bytes(&payload)), h.payload_crc);
                payload.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        buffer_fini(&payload);
}

TEST(sums, find_every_cut_and_every_zeroed_rest)
{
        struct buffer payload = {0};
        struct record_header h;
        struct record_header got;

        sample_payload(&payload);
        h = sample_header(buffer_bytes(&payload), 3);
        for (size_t size = 0; size < payload.size; size++)
                assert_int_not_equal(record_payload_crc(SEED, bytes_of(payload.data, size)), h.payload_crc);
        for (unsigned size = 0; size < RECORD_HEADER_SIZE; size++) {
                uint8_t header[RECORD_HEADER_SIZE];

                record_header_encode(&h, SEED, header);
                /* The last bytes of the sample's chain are zero already. */
                if (size > 56)
                        break;
                memset(header + size, 0, sizeof header - size);
                assert_int_equal(record_header_decode(header, SEED, &got), RECORD_INVALID);
        }
        buffer_fini(&payload);
}

/* G13: the bytes of another segment, or of this file before it was recycled, are no records here. */
TEST(sums, are_bound_to_the_segment)
{
        struct buffer payload = {0};
        struct record_header h;
        struct record_header got;
        uint8_t header[RECORD_HEADER_SIZE];
        uint8_t zero[RECORD_HEADER_SIZE] = {0};

        sample_payload(&payload);
        h = sample_header(buffer_bytes(&payload), 3);
        record_header_encode(&h, SEED, header);
        assert_int_equal(record_header_decode(header, SEED + 1, &got), RECORD_INVALID);
        assert_int_not_equal(record_payload_crc(SEED + 1, buffer_bytes(&payload)), h.payload_crc);
        for (uint32_t seed = 0; seed < 1000; seed++)
                assert_int_equal(record_header_decode(zero, seed, &got), RECORD_INVALID);
        buffer_fini(&payload);
}

/* Puts the sum of `header` right again after a change, by bits: the sum is linear, and this is not the fast
 * way. */
static void reseal(uint8_t header[RECORD_HEADER_SIZE])
{
        uint32_t c = ~(uint32_t)SEED;

        memset(header + 8, 0, 4);
        for (unsigned i = 0; i < RECORD_HEADER_SIZE; i++) {
                c ^= header[i];
                for (int bit = 0; bit < 8; bit++)
                        c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        }
        put_u32(header + 8, ~c);
}

TEST(header, fields_out_of_limits_are_refused_under_a_right_sum)
{
        static const struct {
                unsigned at;
                unsigned size;
                uint64_t value;
                int result;
        } table[] = {
                {0, 4, 1, 0}, /* harmless: shows that resealing works */
                {0, 4, RECORD_PAYLOAD_SIZE_MAX + 1, RECORD_INVALID},
                {0, 4, UINT32_MAX, RECORD_INVALID},
                {4, 1, 0, RECORD_INVALID},
                {4, 1, 2, RECORD_INVALID}, /* a barrier with events */
                {4, 1, 5, RECORD_INVALID},
                {4, 1, 255, RECORD_INVALID},
                {5, 1, 0, RECORD_INVALID},
                {5, 1, 2, RECORD_INVALID},
                {6, 2, 1, RECORD_INVALID},
                {16, 8, 0, RECORD_INVALID},
                {16, 8, UINT64_MAX, RECORD_INVALID},
                {24, 8, INT64_MAX, RECORD_INVALID},
                {24, 8, UINT64_MAX, RECORD_INVALID},
                {32, 8, UINT64_MAX, RECORD_INVALID},
                {48, 4, 0, RECORD_INVALID},
                {48, 4, LIMIT_APPEND_EVENTS_MAX, 0},
                {48, 4, LIMIT_APPEND_EVENTS_MAX + 1, RECORD_INVALID},
        };
        struct buffer payload = {0};

        sample_payload(&payload);
        for (unsigned i = 0; i < COUNT_OF(table); i++) {
                struct record_header h = sample_header(buffer_bytes(&payload), 3);
                struct record_header got;
                uint8_t header[RECORD_HEADER_SIZE];

                record_header_encode(&h, SEED, header);
                memcpy(header + table[i].at, &table[i].value, table[i].size);
                reseal(header);
                if (record_header_decode(header, SEED, &got) != table[i].result)
                        fail_msg("row %u", i);
        }
        buffer_fini(&payload);
}

TEST(payload, every_cut_and_every_wrong_count_is_found_without_sums)
{
        struct buffer payload = {0};

        sample_payload(&payload);
        assert_int_equal(walk(buffer_bytes(&payload), 3), 3);
        assert_int_equal(walk(buffer_bytes(&payload), 2), -1);
        assert_int_equal(walk(buffer_bytes(&payload), 4), -1);
        assert_int_equal(walk(buffer_bytes(&payload), 0), -1);
        assert_int_equal(walk(buffer_bytes(&payload), UINT32_MAX), -1);
        for (size_t size = 0; size < payload.size; size++)
                assert_int_equal(walk(bytes_of(payload.data, size), 3), -1);
        buffer_add_u8(&payload, 0);
        assert_int_equal(walk(buffer_bytes(&payload), 3), -1);
        buffer_fini(&payload);
}

TEST(payload, of_another_kind_is_refused)
{
        struct buffer payload = {0};
        struct record_events_reader reader = {0};
        struct record_header h;

        sample_payload(&payload);
        h = sample_header(buffer_bytes(&payload), 3);
        h.kind = RECORD_CONFIGURATION;
        assert_int_equal(record_events_open(&reader, &h, buffer_bytes(&payload)), RECORD_INVALID);
        record_events_close(&reader);
        buffer_fini(&payload);
}

#define TIME "\0\0\0\0\0\0\0\0"
#define ID   "iiiiiiiiiiiiiiii"
#define ROW(bytes, events, result)                                                                           \
        {                                                                                                    \
                {(const uint8_t *)(bytes), sizeof(bytes) - 1}, events, result                                \
        }

TEST(payload, hand_made_events)
{
        static const struct {
                struct bytes payload;
                uint32_t event_count;
                int result;
        } table[] = {
                ROW(TIME "\x01\x01s\x00" ID "\x01t\x00", 1, 1),
                ROW(TIME "\x01\x01s\x00" ID "\x01t\x01", 1, -1), /* data behind the end */
                ROW(TIME "\x41\x01s\x00" ID "\x01t\x00", 1, -1), /* unknown flag */
                ROW(TIME "\x81\x01s\x00" ID "\x01t\x00", 1, -1), /* unknown flag */
                ROW(TIME "\x01\x00\x00" ID "\x01t\x00", 1, -1),  /* no name */
                ROW(TIME "\x01\x01s\x00" ID "\x00\x00", 1, -1),  /* no type */
                ROW(TIME "\x21\x01s\x00" ID "\x00", 1, -1),      /* same type as nothing */
                ROW(TIME "\x00\x00" ID "\x01t\x00", 1, -1),      /* ordinal of nothing */
                ROW(TIME "\x01\x01s\x00" ID "\x01t\x00\x20\x00" ID "\x00", 2, 2),
                ROW(TIME "\x01\x01s\x00" ID "\x01t\x00\x20\x01" ID "\x00", 2, -1), /* ordinal beyond */
                ROW(TIME "\x01\x01s\xff\xff\xff\xff\xff\xff\xff\xff\x7f" ID "\x01t\x00", 1,
                        1), /* a tombstone */
                ROW(TIME "\x01\x01s\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01" ID "\x01t\x00", 1,
                        -1), /* 2^63 */
                ROW(TIME "\x01\x01s\xff\xff\xff\xff\xff\xff\xff\xff\x7f" ID "\x01t\x00\x20\x00" ID "\x00", 2,
                        -1),
                ROW(TIME "\x01\x01s\x00" ID "\x01t\x00\x21\x01s\xff\xff\xff\xff\xff\xff\xff\xff\x7f" ID
                         "\x00",
                        2, -1),
                ROW(TIME "\x01\x01s\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" ID "\x01t\x00\x20\x00" ID "\x00", 2,
                        -1),
                ROW(TIME "\x09\x01s\x00" ID "\x01t\x00\x00", 1, -1),          /* tags, but none */
                ROW(TIME "\x09\x01s\x00" ID "\x01t\x00\x01\x00", 1, 1),       /* an empty tag */
                ROW(TIME "\x09\x01s\x00" ID "\x01t\x00\x41", 1, -1),          /* 65 tags */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x00", 1, 1),           /* extension block of nothing */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x03\x02\x01v", 1, 1),  /* may be skipped */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x03\x01\x01v", 1, -1), /* must be understood */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x06\x02\x01v\x04\x01v", 1, 1),
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x06\x04\x01v\x02\x01v", 1, -1), /* not rising */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x03\x02\x02v", 1, -1), /* field behind the block */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x01\x02", 1, -1),      /* field without length */
                ROW(TIME "\x11\x01s\x00" ID "\x01t\x00\x02\x00\x00", 1, -1),  /* number 0 */
                ROW(TIME "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01s\x00" ID "\x01t\x00", 1,
                        -1), /* huge length */
                ROW(TIME "\x01\x01s\x00" ID "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7ft\x00", 1,
                        -1), /* no varint */
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++)
                if (walk(table[i].payload, table[i].event_count) != table[i].result)
                        fail_msg("row %u", i);
}

TEST(payload, more_streams_than_the_limit_are_refused)
{
        struct buffer payload = {0};

        for (unsigned extra = 0; extra < 2; extra++) {
                unsigned count = LIMIT_APPEND_STREAMS_MAX + extra;

                buffer_clear(&payload);
                buffer_add_u64(&payload, 0);
                for (unsigned i = 0; i < count; i++)
                        buffer_add(&payload, "\x01\x01s\x00" ID "\x01t\x00", 4 + 16 + 3);
                assert_int_equal(walk(buffer_bytes(&payload), count), extra ? -1 : LIMIT_APPEND_STREAMS_MAX);
        }
        buffer_fini(&payload);
}

TEST(tags, malformed_ones_end_the_walk)
{
        struct bytes at = BYTES_LITERAL("\x01"
                                        "a\x05"
                                        "b");
        struct bytes tag;

        assert_true(event_tag_next(&at, &tag));
        assert_true(bytes_equal(tag, text("a")));
        assert_false(event_tag_next(&at, &tag));
        at = BYTES_EMPTY;
        assert_false(event_tag_next(&at, &tag));
}

/* Whatever the bytes are, reading them stays inside and ends. */
TEST(payload, random_bytes_never_crash)
{
        uint64_t random = 20240229;
        unsigned read = 0;

        for (unsigned round = 0; round < 30000; round++) {
                uint8_t bytes[GENERATED_MAX];
                size_t size = random_next(&random) % sizeof bytes;

                /* Small numbers more often: they are flags, ordinals and short lengths. */
                for (size_t i = 0; i < size; i++) {
                        uint32_t n = random_next(&random);

                        bytes[i] = (uint8_t)(n % 4 ? n >> 8 & 0x0f : n >> 8);
                }
                read += walk(bytes_of(bytes, size), 1 + random_next(&random) % 3) >= 0;
        }
        assert_true(read < 30000);
}

TEST(payload, damaged_events_never_crash)
{
        struct buffer payload = {0};
        uint64_t random = 42;
        unsigned read = 0;

        sample_payload(&payload);
        for (unsigned round = 0; round < 30000; round++) {
                uint8_t bytes[GENERATED_MAX];
                size_t size = payload.size - random_next(&random) % 2;

                memcpy(bytes, payload.data, payload.size);
                for (unsigned edits = 1 + random_next(&random) % 3; edits > 0; edits--)
                        bytes[random_next(&random) % size] = (uint8_t)random_next(&random);
                read += walk(bytes_of(bytes, size), 3) >= 0;
        }
        /* Many of them still read, as something else: that is what the sums are for. */
        assert_in_range(read, 1000, 29000);
        buffer_fini(&payload);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(sums, find_every_flipped_bit),
                TEST_ROW(sums, find_every_cut_and_every_zeroed_rest),
                TEST_ROW(sums, are_bound_to_the_segment),
                TEST_ROW(header, fields_out_of_limits_are_refused_under_a_right_sum),
                TEST_ROW(payload, every_cut_and_every_wrong_count_is_found_without_sums),
                TEST_ROW(payload, of_another_kind_is_refused),
                TEST_ROW(payload, hand_made_events),
                TEST_ROW(payload, more_streams_than_the_limit_are_refused),
                TEST_ROW(tags, malformed_ones_end_the_walk),
                TEST_ROW(payload, random_bytes_never_crash),
                TEST_ROW(payload, damaged_events_never_crash),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
