#include "model/event.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- event ids ---- */

/* Sixteen hexadecimal digits at once, as the compiler knows to do it on each machine: ids of clients are
 * random, so a branch or a table for each digit costs more than all of this. */
typedef uint8_t digits_bytes __attribute__((vector_size(16)));
typedef uint16_t digits_pairs __attribute__((vector_size(16)));
typedef uint64_t digits_words __attribute__((vector_size(16)));

/* Adds what is no digit to *bad. Gives the eight bytes, each in the lower half of a pair. */
static inline digits_words parse_digits(uint64_t first, uint64_t second, digits_bytes *bad)
{
        digits_bytes text = (digits_bytes)(digits_words){first, second};
        digits_bytes number = text - '0';
        digits_bytes letter = (text | 0x20) - 'a';
        digits_bytes is_number = (digits_bytes)(number < 10);
        digits_bytes is_letter = (digits_bytes)(letter < 6);
        digits_pairs n = (digits_pairs)((number & is_number) | ((letter + 10) & is_letter));

        *bad |= ~(is_number | is_letter);
        return (digits_words)((n << 4 | n >> 8) & 0xff);
}

static inline uint64_t squeeze(uint64_t pairs)
{
        pairs = (pairs | pairs >> 8) & 0x0000ffff0000ffffu;
        return (uint32_t)(pairs | pairs >> 16);
}

static inline uint64_t two_groups(const uint8_t *first, const uint8_t *second)
{
        return get_u32(first) | (uint64_t)get_u32(second) << 32;
}

bool event_id_parse(struct bytes text, struct event_id *ret)
{
        const uint8_t *at = text.data;
        digits_bytes bad = {0};
        digits_words high, low;

        if (text.size == EVENT_ID_TEXT_SIZE) {
                if (at[8] != '-' || at[13] != '-' || at[18] != '-' || at[23] != '-')
                        return false;
                high = parse_digits(get_u64(at), two_groups(at + 9, at + 14), &bad);
                low = parse_digits(two_groups(at + 19, at + 24), get_u64(at + 28), &bad);
        } else if (text.size == 2 * sizeof ret->bytes) {
                high = parse_digits(get_u64(at), get_u64(at + 8), &bad);
                low = parse_digits(get_u64(at + 16), get_u64(at + 24), &bad);
        } else {
                return false;
        }
        if (((digits_words)bad)[0] | ((digits_words)bad)[1])
                return false;
        put_u64(ret->bytes, squeeze(high[0]) | squeeze(high[1]) << 32);
        put_u64(ret->bytes + 8, squeeze(low[0]) | squeeze(low[1]) << 32);
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

bool stream_is_guarded(struct bytes name)
{
        if (!stream_is_system(name))
                return false;
        if (stream_is_meta(name))
                name = stream_of_meta(name);
        return bytes_starts_with(name, BYTES_LITERAL("$user-")) ||
               bytes_equal(name, BYTES_LITERAL("$nilo-access")) ||
               bytes_equal(name, BYTES_LITERAL("$nilo-cluster"));
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
