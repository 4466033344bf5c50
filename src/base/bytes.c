#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/memory.h"

char *bytes_to_string(struct bytes b)
{
        char *s = malloc(b.size + 1);

        if (!s)
                return NULL;
        if (b.size)
                memcpy(s, b.data, b.size);
        s[b.size] = 0;
        return s;
}

/* Length of the well-formed sequence at `p`, 0 if there is none (RFC 3629, section 4). */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
        uint8_t low = 0x80;
        uint8_t high = 0xbf;
        size_t n;
        size_t i;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf) {
                n = 2;
        } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
                n = 3;
                if (p[0] == 0xe0)
                        low = 0xa0;
                if (p[0] == 0xed)
                        high = 0x9f;
        } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
                n = 4;
                if (p[0] == 0xf0)
                        low = 0x90;
                if (p[0] == 0xf4)
                        high = 0x8f;
        } else {
                return 0;
        }
        if (left < n || p[1] < low || p[1] > high)
                return 0;
        for (i = 2; i < n; i++)
                if (p[i] < 0x80 || p[i] > 0xbf)
                        return 0;
        return n;
}

bool bytes_to_number(struct bytes text, uint64_t *ret)
{
        uint64_t n = 0;

        if (!text.size || text.size > 20)
                return false;
        for (size_t i = 0; i < text.size; i++) {
                unsigned digit = (unsigned)text.data[i] - '0';

                if (digit > 9 || n > (UINT64_MAX - digit) / 10)
                        return false;
                n = n * 10 + digit;
        }
        *ret = n;
        return true;
}

bool bytes_is_utf8(struct bytes b)
{
        const uint64_t high_bits = 0x8080808080808080u;
        size_t at = 0;

        while (at < b.size) {
                size_t n;

                if (b.size - at >= 8 && !(get_u64(b.data + at) & high_bits)) {
                        at += 8; /* all of ASCII */
                        continue;
                }
                n = utf8_sequence(b.data + at, b.size - at);
                if (!n)
                        return false;
                at += n;
        }
        return true;
}

void buffer_grow(struct buffer *b, size_t more)
{
        size_t want = b->size + more;
        size_t capacity = b->capacity ? b->capacity : 64;

        assert(want >= b->size);
        while (capacity < want)
                capacity += capacity / 2 + 64;
        b->data = memory_resize(b->data, capacity);
        b->capacity = capacity;
}

void buffer_add(struct buffer *b, const void *data, size_t size)
{
        if (!size)
                return;
        buffer_reserve(b, size);
        memcpy(b->data + b->size, data, size);
        b->size += size;
}

void buffer_add_bytes(struct buffer *b, struct bytes bytes)
{
        buffer_add(b, bytes.data, bytes.size);
}

void buffer_add_string(struct buffer *b, const char *s)
{
        buffer_add(b, s, strlen(s));
}

void buffer_add_u8(struct buffer *b, uint8_t n)
{
        buffer_add(b, &n, sizeof n);
}

void buffer_add_u16(struct buffer *b, uint16_t n)
{
        buffer_add(b, &n, sizeof n);
}

void buffer_add_u32(struct buffer *b, uint32_t n)
{
        buffer_add(b, &n, sizeof n);
}

void buffer_add_u64(struct buffer *b, uint64_t n)
{
        buffer_add(b, &n, sizeof n);
}

void buffer_add_varint(struct buffer *b, uint64_t n)
{
        buffer_reserve(b, VARINT_SIZE_MAX);
        b->size += varint_put(b->data + b->size, n);
}

void buffer_format(struct buffer *b, const char *format, ...)
{
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(NULL, 0, format, args);
        va_end(args);
        assert(n >= 0);
        buffer_reserve(b, (size_t)n + 1);
        va_start(args, format);
        vsnprintf((char *)b->data + b->size, (size_t)n + 1, format, args);
        va_end(args);
        b->size += (size_t)n;
}

void buffer_consume(struct buffer *b, size_t n)
{
        assert(n <= b->size);
        if (n < b->size)
                memmove(b->data, b->data + n, b->size - n);
        b->size -= n;
}

void buffer_clear(struct buffer *b)
{
        b->size = 0;
}

void buffer_fini(struct buffer *b)
{
        free(b->data);
        *b = (struct buffer){0};
}
