#include "model/event.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- event ids ---- */

/* Eight hexadecimal digits at once, a byte of the word each: ids of clients are random, so a branch or a
 * table for each digit costs more than all of this. Sets a bit of *bad if one is no digit. Gives the four
 * bytes. */
static inline uint32_t parse_digits(uint64_t text, uint64_t *bad)
{
        const uint64_t each = 0x0101010101010101u;
        const uint64_t high = 0x80 * each;
        uint64_t low = text & ~high; /* so that no sum carries into the next byte */
        uint64_t folded = low | 0x20 * each;
        uint64_t is_number = (low + (0x80 - '0') * each) & ~(low + (0x7f - '9') * each) & high;
        uint64_t is_letter = (folded + (0x80 - 'a') * each) & ~(folded + (0x7f - 'f') * each) & high;
        uint64_t n = (low & 0x0f * each) + (is_letter >> 7) * 9;

        *bad |= (text & high) | ((is_number | is_letter) ^ high);
        n = (n << 4 | n >> 8) & 0x00ff00ff00ff00ffu;
        n = (n | n >> 8) & 0x0000ffff0000ffffu;
        return (uint32_t)(n | n >> 16);
}

static inline uint64_t two_groups(const uint8_t *first, const uint8_t *second)
{
        return get_u32(first) | (uint64_t)get_u32(second) << 32;
}

bool event_id_parse(struct bytes text, struct event_id *ret)
{
        const uint8_t *at = text.data;
        uint32_t words[4];
        uint64_t bad = 0;

        if (text.size == EVENT_ID_TEXT_SIZE) {
                if (at[8] != '-' || at[13] != '-' || at[18] != '-' || at[23] != '-')
                        return false;
                words[0] = parse_digits(get_u64(at), &bad);
                words[1] = parse_digits(two_groups(at + 9, at + 14), &bad);
                words[2] = parse_digits(two_groups(at + 19, at + 24), &bad);
                words[3] = parse_digits(get_u64(at + 28), &bad);
        } else if (text.size == 2 * sizeof ret->bytes) {
                for (unsigned i = 0; i < COUNT_OF(words); i++)
                        words[i] = parse_digits(get_u64(at + 8 * i), &bad);
        } else {
                return false;
        }
        if (bad)
                return false;
        put_u64(ret->bytes, words[0] | (uint64_t)words[1] << 32);
        put_u64(ret->bytes + 8, words[2] | (uint64_t)words[3] << 32);
        return true;
}

/* Where the two digits of each byte stand in the text. */
static const uint8_t id_places[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

void event_id_format(const struct event_id *id, char ret[EVENT_ID_TEXT_SIZE + 1])
{
        static const char digits[] = "0123456789abcdef";

        for (unsigned i = 0; i < sizeof id->bytes; i++) {
                ret[id_places[i]] = digits[id->bytes[i] >> 4];
                ret[id_places[i] + 1] = digits[id->bytes[i] & 15];
        }
        ret[8] = ret[13] = ret[18] = ret[23] = '-';
        ret[EVENT_ID_TEXT_SIZE] = 0;
}

void event_id_from_halves(int64_t most, int64_t least, struct event_id *ret)
{
        put_u64(ret->bytes, __builtin_bswap64((uint64_t)most));
        put_u64(ret->bytes + 8, __builtin_bswap64((uint64_t)least));
}

void event_id_to_halves(const struct event_id *id, int64_t *ret_most, int64_t *ret_least)
{
        *ret_most = (int64_t)__builtin_bswap64(get_u64(id->bytes));
        *ret_least = (int64_t)__builtin_bswap64(get_u64(id->bytes + 8));
}

void event_id_stamp_random(struct event_id *id)
{
        id->bytes[6] = (uint8_t)((id->bytes[6] & 0x0f) | 0x40);
        id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3f) | 0x80);
}

/* ---- names ---- */

bool stream_name_is_valid(struct bytes name)
{
        if (stream_is_meta(name)) {
                name = stream_of_meta(name);
                /* A metastream has no metastream, and "$$" alone speaks of nothing. "$$$all" is the one of
                 * $all. */
                if (stream_is_meta(name))
                        return false;
        } else if (bytes_equal(name, BYTES_LITERAL("$all"))) {
                return false;
        }
        if (name.size == 0 || name.size > LIMIT_STREAM_NAME_SIZE_MAX)
                return false;
        return !memchr(name.data, 0, name.size) && bytes_is_utf8(name);
}

bool stream_is_system(struct bytes name)
{
        return name.size > 0 && name.data[0] == '$';
}

bool stream_is_meta(struct bytes name)
{
        return bytes_starts_with(name, BYTES_LITERAL("$$"));
}

struct bytes stream_of_meta(struct bytes name)
{
        assert(stream_is_meta(name));
        return bytes_of(name.data + 2, name.size - 2);
}

struct bytes stream_category(struct bytes name)
{
        const uint8_t *hyphen = name.size ? memchr(name.data, '-', name.size) : NULL;

        if (!hyphen)
                return BYTES_EMPTY;
        return bytes_of(name.data, (size_t)(hyphen - name.data));
}

uint64_t name_hash(struct bytes name)
{
        return XXH3_64bits(name.data, name.size);
}

/* ---- links ---- */

bool event_link_parse(struct bytes data, uint64_t *ret_revision, struct bytes *ret_stream)
{
        uint64_t revision = 0;
        struct bytes stream;
        size_t at = 0;

        while (at < data.size && data.data[at] >= '0' && data.data[at] <= '9') {
                unsigned digit = data.data[at++] - '0';

                if (revision > (REVISION_MAX - digit) / 10)
                        return false;
                revision = revision * 10 + digit;
        }
        if (at == 0 || at == data.size || data.data[at] != '@')
                return false;
        stream = bytes_of(data.data + at + 1, data.size - at - 1);
        if (!stream_name_is_valid(stream))
                return false;
        *ret_revision = revision;
        *ret_stream = stream;
        return true;
}
