#include "model/event.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- event ids ---- */

/* Value of a hexadecimal digit + 1; 0 for anything else. */
static const uint8_t hex_values[256] = {
        ['0'] = 1,
        ['1'] = 2,
        ['2'] = 3,
        ['3'] = 4,
        ['4'] = 5,
        ['5'] = 6,
        ['6'] = 7,
        ['7'] = 8,
        ['8'] = 9,
        ['9'] = 10,
        ['a'] = 11,
        ['b'] = 12,
        ['c'] = 13,
        ['d'] = 14,
        ['e'] = 15,
        ['f'] = 16,
        ['A'] = 11,
        ['B'] = 12,
        ['C'] = 13,
        ['D'] = 14,
        ['E'] = 15,
        ['F'] = 16,
};

/* Where the two digits of each byte stand in the text, without hyphens and with them. */
static const uint8_t id_places[2][16] = {
        {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30},
        {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34},
};

bool event_id_parse(struct bytes text, struct event_id *ret)
{
        bool has_hyphens = text.size == EVENT_ID_TEXT_SIZE;
        const uint8_t *at = text.data;
        struct event_id id;
        unsigned bad = 0;

        if (!has_hyphens && text.size != 2 * sizeof id.bytes)
                return false;
        if (has_hyphens && (at[8] != '-' || at[13] != '-' || at[18] != '-' || at[23] != '-'))
                return false;
        /* Without a branch for each digit: ids of clients are random. */
        for (unsigned i = 0; i < sizeof id.bytes; i++) {
                const uint8_t *digits = at + id_places[has_hyphens][i];
                unsigned high = hex_values[digits[0]];
                unsigned low = hex_values[digits[1]];

                bad |= !high | !low;
                id.bytes[i] = (uint8_t)((high - 1) << 4 | (low - 1));
        }
        if (bad)
                return false;
        *ret = id;
        return true;
}

void event_id_format(const struct event_id *id, char ret[EVENT_ID_TEXT_SIZE + 1])
{
        static const char digits[] = "0123456789abcdef";

        for (unsigned i = 0; i < sizeof id->bytes; i++) {
                ret[id_places[1][i]] = digits[id->bytes[i] >> 4];
                ret[id_places[1][i] + 1] = digits[id->bytes[i] & 15];
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

/* ---- events ---- */

uint64_t event_draft_size(const struct event_draft *e)
{
        uint64_t size = (uint64_t)e->data.size + e->metadata.size + 2 * (uint64_t)e->type.size;

        /* KurrentDB knows no tags; they count here so that the limit of an append bounds its record. */
        for (unsigned i = 0; i < e->tag_count; i++)
                size += e->tags[i].size + 2;
        return size;
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
