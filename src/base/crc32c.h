/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 where the processor has it, a table where not. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include "base/bytes.h"

/* The sum of `data` continued from `seed`: crc32c(crc32c(0, a), b) is the sum of a then b. Any thread. */
uint32_t crc32c(uint32_t seed, const void *data, size_t size);

/* The table form, for tests that compare the two. */
uint32_t crc32c_by_table(uint32_t seed, const void *data, size_t size);

#endif
