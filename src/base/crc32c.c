#include "base/crc32c.h"

#include <pthread.h>

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t c = i;

                for (int bit = 0; bit < 8; bit++)
                        c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
                table[0][i] = c;
        }
        for (uint32_t i = 0; i < 256; i++)
                for (int t = 1; t < 8; t++)
                        table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
}

uint32_t crc32c_by_table(uint32_t seed, const void *data, size_t size)
{
        const uint8_t *p = data;
        uint32_t c = ~seed;

        pthread_once(&table_once, table_fill);
        for (; size >= 8; size -= 8, p += 8) {
                uint64_t w = get_u64(p) ^ c;

                c = table[7][w & 0xff] ^ table[6][(w >> 8) & 0xff] ^ table[5][(w >> 16) & 0xff] ^
                    table[4][(w >> 24) & 0xff] ^ table[3][(w >> 32) & 0xff] ^ table[2][(w >> 40) & 0xff] ^
                    table[1][(w >> 48) & 0xff] ^ table[0][w >> 56];
        }
        while (size--)
                c = (c >> 8) ^ table[0][(c ^ *p++) & 0xff];
        return ~c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_by_hardware(
        uint32_t seed, const void *data, size_t size)
{
        const uint8_t *p = data;
        uint64_t c = ~seed;

        for (; size >= 8; size -= 8, p += 8)
                c = _mm_crc32_u64(c, get_u64(p));
        while (size--)
                c = _mm_crc32_u8((uint32_t)c, *p++);
        return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t seed, const void *data, size_t size)
{
        if (LIKELY(__builtin_cpu_supports("sse4.2")))
                return crc32c_by_hardware(seed, data, size);
        return crc32c_by_table(seed, data, size);
}
#else
uint32_t crc32c(uint32_t seed, const void *data, size_t size)
{
        return crc32c_by_table(seed, data, size);
}
#endif
