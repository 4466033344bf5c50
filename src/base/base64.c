#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buffer *out, struct bytes binary)
{
        size_t i;

        buffer_reserve(out, (binary.size + 2) / 3 * 4);
        for (i = 0; i < binary.size; i += 3) {
                size_t left = binary.size - i;
                uint32_t n = (uint32_t)binary.data[i] << 16;
                uint8_t *to = out->data + out->size;

                if (left > 1)
                        n |= (uint32_t)binary.data[i + 1] << 8;
                if (left > 2)
                        n |= binary.data[i + 2];
                to[0] = (uint8_t)alphabet[n >> 18];
                to[1] = (uint8_t)alphabet[(n >> 12) & 63];
                to[2] = left > 1 ? (uint8_t)alphabet[(n >> 6) & 63] : '=';
                to[3] = left > 2 ? (uint8_t)alphabet[n & 63] : '=';
                out->size += 4;
        }
}

bool base64_decode(struct buffer *out, struct bytes text)
{
        size_t size_before = out->size;
        uint32_t n = 0;
        unsigned bits = 0;

        while (text.size && text.data[text.size - 1] == '=')
                text.size--;
        if (text.size % 4 == 1)
                return false;
        for (size_t i = 0; i < text.size; i++) {
                const char *at = text.data[i] ? strchr(alphabet, text.data[i]) : NULL;

                if (!at) {
                        out->size = size_before;
                        return false;
                }
                n = n << 6 | (uint32_t)(at - alphabet);
                bits += 6;
                if (bits >= 8) {
                        bits -= 8;
                        buffer_add_u8(out, (uint8_t)(n >> bits));
                }
        }
        return true;
}
