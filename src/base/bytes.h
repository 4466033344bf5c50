/* Bytes: a borrowed range, a growing buffer, little-endian numbers and varints. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <string.h>

#include "base/macros.h"

/* A range of bytes that somebody else owns. The empty value is all zero. */
struct bytes {
        const uint8_t *data;
        size_t size;
};

#define BYTES_EMPTY ((struct bytes){NULL, 0})

static inline struct bytes bytes_of(const void *data, size_t size)
{
        return (struct bytes){data, size};
}

/* The characters of a C string without its end. */
static inline struct bytes bytes_of_string(const char *s)
{
        return (struct bytes){(const uint8_t *)s, strlen(s)};
}

/* For string literals: no strlen at run time. */
#define BYTES_LITERAL(s) ((struct bytes){(const uint8_t *)("" s), sizeof(s) - 1})

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
        return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool bytes_equal_string(struct bytes a, const char *s)
{
        return bytes_equal(a, bytes_of_string(s));
}

static inline bool bytes_starts_with(struct bytes a, struct bytes prefix)
{
        return a.size >= prefix.size && (prefix.size == 0 || memcmp(a.data, prefix.data, prefix.size) == 0);
}

/* Byte-wise order, shorter first among equals: <0, 0, >0. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
        size_t n = MIN(a.size, b.size);
        int r = n ? memcmp(a.data, b.data, n) : 0;

        return r ? r : (a.size > b.size) - (a.size < b.size);
}

/* A copy with a NUL behind it, from malloc; the caller frees it. NULL only when memory is out. */
char *bytes_to_string(struct bytes b);

/* The number that the text is, in decimal digits alone; false: it is none, or too large. */
MUST_CHECK bool bytes_to_number(struct bytes text, uint64_t *ret);

/* True if the range is valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool bytes_is_utf8(struct bytes b);

/* Little-endian numbers at unaligned addresses. */
static inline uint16_t get_u16(const uint8_t *p)
{
        uint16_t n;

        memcpy(&n, p, sizeof n);
        return n;
}

static inline uint32_t get_u32(const uint8_t *p)
{
        uint32_t n;

        memcpy(&n, p, sizeof n);
        return n;
}

static inline uint64_t get_u64(const uint8_t *p)
{
        uint64_t n;

        memcpy(&n, p, sizeof n);
        return n;
}

static inline void put_u16(uint8_t *p, uint16_t n)
{
        memcpy(p, &n, sizeof n);
}

static inline void put_u32(uint8_t *p, uint32_t n)
{
        memcpy(p, &n, sizeof n);
}

static inline void put_u64(uint8_t *p, uint64_t n)
{
        memcpy(p, &n, sizeof n);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and the wire are little-endian");

/* Unsigned LEB128. */
enum { VARINT_SIZE_MAX = 10 };

/* Writes `n` at `p`, which has room for VARINT_SIZE_MAX bytes. Gives the number of bytes written. */
static inline size_t varint_put(uint8_t *p, uint64_t n)
{
        size_t i = 0;

        while (n >= 0x80) {
                p[i++] = (uint8_t)(n | 0x80);
                n >>= 7;
        }
        p[i++] = (uint8_t)n;
        return i;
}

static inline size_t varint_size(uint64_t n)
{
        size_t i = 1;

        while (n >= 0x80) {
                n >>= 7;
                i++;
        }
        return i;
}

/* Reads a number at *at and moves *at behind it; false (and *at unchanged) if it does not end before `end` or
 * does not fit 64 bits. */
static inline bool varint_get(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
        uint64_t n = 0;
        const uint8_t *p = *at;
        unsigned shift;

        for (shift = 0; shift < 70; shift += 7) {
                uint8_t b;

                if (p == end)
                        return false;
                b = *p++;
                if (shift == 63 && b > 1)
                        return false;
                n |= (uint64_t)(b & 0x7f) << shift;
                if (!(b & 0x80)) {
                        *at = p;
                        *ret = n;
                        return true;
                }
        }
        return false;
}

/* Bytes that grow. The empty value is all zero. Running out of memory ends the process: every buffer has a
 * limit that its owner keeps, so this means that the machine is out of memory. */
struct buffer {
        uint8_t *data;
        size_t size;
        size_t capacity;
};

void buffer_grow(struct buffer *b, size_t more);
/* Room for `more` bytes behind size. */
static inline void buffer_reserve(struct buffer *b, size_t more)
{
        if (UNLIKELY(more > b->capacity - b->size))
                buffer_grow(b, more);
}
void buffer_add(struct buffer *b, const void *data, size_t size);
void buffer_add_bytes(struct buffer *b, struct bytes bytes);
void buffer_add_string(struct buffer *b, const char *s);
void buffer_add_u8(struct buffer *b, uint8_t n);
void buffer_add_u16(struct buffer *b, uint16_t n);
void buffer_add_u32(struct buffer *b, uint32_t n);
void buffer_add_u64(struct buffer *b, uint64_t n);
void buffer_add_varint(struct buffer *b, uint64_t n);
void buffer_format(struct buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* Removes the first `n` bytes (n <= size); moves the rest. */
void buffer_consume(struct buffer *b, size_t n);
void buffer_clear(struct buffer *b); /* size 0, memory kept */
void buffer_fini(struct buffer *b);  /* frees; the value is empty again */

static inline struct bytes buffer_bytes(const struct buffer *b)
{
        return (struct bytes){b->data, b->size};
}

#endif
