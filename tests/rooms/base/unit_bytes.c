#include "test.h"

#include "base/arena.h"
#include "base/base64.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/json_out.h"

TEST(varint, every_length_comes_back)
{
        uint8_t space[VARINT_SIZE_MAX];

        for (unsigned shift = 0; shift < 64; shift++) {
                for (int d = -1; d <= 1; d++) {
                        uint64_t n = ((uint64_t)1 << shift) + (uint64_t)d;
                        uint64_t got = 0;
                        const uint8_t *at = space;
                        size_t size = varint_put(space, n);

                        assert_int_equal(size, varint_size(n));
                        assert_true(varint_get(&at, space + size, &got));
                        assert_true(got == n);
                        assert_ptr_equal(at, space + size);
                        at = space;
                        assert_false(varint_get(&at, space + size - 1, &got));
                        assert_ptr_equal(at, space);
                }
        }
}

TEST(varint, more_than_64_bits_is_refused)
{
        uint8_t space[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
        const uint8_t *at = space;
        uint64_t n;

        assert_false(varint_get(&at, space + sizeof space, &n));
        space[9] = 0x01;
        assert_true(varint_get(&at, space + sizeof space, &n));
        assert_true(n == UINT64_MAX);
}

TEST(utf8, follows_rfc_3629)
{
        static const char *const good[] = {
                "", "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf"};
        static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
                "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"};

        for (size_t i = 0; i < COUNT_OF(good); i++)
                assert_true(bytes_is_utf8(bytes_of_string(good[i])));
        for (size_t i = 0; i < COUNT_OF(bad); i++)
                assert_false(bytes_is_utf8(bytes_of_string(bad[i])));
}

TEST(utf8, is_judged_alike_wherever_it_stands)
{
        uint8_t space[40];

        for (size_t size = 1; size <= sizeof space; size++) {
                for (size_t at = 0; at < size; at++) {
                        memset(space, 'a', sizeof space);
                        assert_true(bytes_is_utf8(bytes_of(space, size)));
                        space[at] = 0x80;
                        assert_false(bytes_is_utf8(bytes_of(space, size)));
                        if (at + 1 == size)
                                continue;
                        space[at] = 0xc3;
                        space[at + 1] = 0xa4;
                        assert_true(bytes_is_utf8(bytes_of(space, size)));
                }
        }
}

TEST(crc32c, knows_the_sums_of_rfc_3720)
{
        uint8_t zeros[32] = {0};
        uint8_t ones[32];

        memset(ones, 0xff, sizeof ones);
        assert_true(crc32c(0, zeros, 32) == 0x8a9136aau);
        assert_true(crc32c(0, ones, 32) == 0x62a8ab43u);
        assert_true(crc32c(0, "123456789", 9) == 0xe3069283u);
}

TEST(crc32c, hardware_and_table_agree_on_every_length)
{
        uint8_t data[3000];

        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 37 + i / 256 + 11);
        for (size_t n = 0; n <= sizeof data; n++) {
                assert_true(crc32c(7, data, n) == crc32c_by_table(7, data, n));
                assert_true(crc32c(~7u, data + sizeof data - n, n) ==
                            crc32c_by_table(~7u, data + sizeof data - n, n));
                assert_true(crc32c(crc32c(0, data, n / 2), data + n / 2, n - n / 2) == crc32c(0, data, n));
        }
}

TEST(base64, round_trip_and_refusals)
{
        struct buffer text = {0};
        struct buffer back = {0};

        for (size_t n = 0; n < 10; n++) {
                buffer_clear(&text);
                buffer_clear(&back);
                base64_encode(&text, bytes_of("\x00\xff\x10"
                                              "abcdefg",
                                             n));
                assert_true(base64_decode(&back, buffer_bytes(&text)));
                assert_true(bytes_equal(buffer_bytes(&back), bytes_of("\x00\xff\x10"
                                                                      "abcdefg",
                                                                     n)));
        }
        assert_false(base64_decode(&back, BYTES_LITERAL("a")));
        assert_false(base64_decode(&back, BYTES_LITERAL("ab!d")));
        buffer_fini(&text);
        buffer_fini(&back);
}

TEST(json_out, writes_what_a_reader_expects)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "a\n", "\"\\\x01\t");
        json_key(&j, "list");
        json_array_begin(&j);
        json_u64(&j, UINT64_MAX);
        json_i64(&j, INT64_MIN);
        json_out_null(&j);
        json_bool(&j, true);
        json_bytes(&j, bytes_of("\xc3\xa4\xff", 3));
        json_base64(&j, BYTES_LITERAL("hi"));
        json_array_end(&j);
        json_key(&j, "raw");
        json_raw(&j, BYTES_LITERAL("{}"));
        json_object_end(&j);
        buffer_add_u8(&out, 0);
        assert_string_equal((char *)out.data, "{\"a\\n\":\"\\\"\\\\\\u0001\\t\",\"list\":["
                                              "18446744073709551615,-9223372036854775808,null,true,"
                                              "\"\xc3\xa4\xef\xbf\xbd\",\"aGk=\"],\"raw\":{}}");
        buffer_fini(&out);
}

TEST(arena, pieces_are_apart_and_aligned)
{
        struct arena a = {.block_size = 64};
        uint8_t *piece[100];

        for (int round = 0; round < 3; round++) {
                for (size_t i = 0; i < COUNT_OF(piece); i++) {
                        piece[i] = arena_get(&a, i);
                        assert_int_equal((uintptr_t)piece[i] % 16, 0);
                        memset(piece[i], (int)i, i);
                }
                for (size_t i = 0; i < COUNT_OF(piece); i++)
                        for (size_t k = 0; k < i; k++)
                                assert_int_equal(piece[i][k], i);
                arena_reset(&a);
                assert_int_equal(a.used, 0);
        }
        arena_fini(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(varint, every_length_comes_back),
                TEST_ROW(varint, more_than_64_bits_is_refused),
                TEST_ROW(utf8, follows_rfc_3629),
                TEST_ROW(utf8, is_judged_alike_wherever_it_stands),
                TEST_ROW(crc32c, knows_the_sums_of_rfc_3720),
                TEST_ROW(crc32c, hardware_and_table_agree_on_every_length),
                TEST_ROW(base64, round_trip_and_refusals),
                TEST_ROW(json_out, writes_what_a_reader_expects),
                TEST_ROW(arena, pieces_are_apart_and_aligned),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
