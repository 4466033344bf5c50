/* Bearer tokens: base64url (RFC 4648 section 5, without padding) of
 *
 *   u8 1 | u64 when it expires, seconds since 1970 | u64 generation of the user | login | HMAC-SHA-256 of all
 * that
 *
 * numbers little-endian. The key is the newest event of `$nilo-access`, {"key": "<base64 of 32 bytes>"}:
 * whoever appends another one makes every token worthless. Only the one form of a token is taken, so that no
 * two texts are the same one. */
#include "access/room.h"
#include "base/base64.h"
#include "base/json_in.h"

enum { TOKEN_VERSION = 1, SECOND_US = 1000 * 1000 };

/* ---- base64url ---- */

static void to_base64url(struct buffer *out, struct bytes binary)
{
        size_t start = out->size;

        base64_encode(out, binary);
        while (out->size > start && out->data[out->size - 1] == '=')
                out->size--;
        for (size_t i = start; i < out->size; i++) {
                if (out->data[i] == '+')
                        out->data[i] = '-';
                else if (out->data[i] == '/')
                        out->data[i] = '_';
        }
}

static bool from_base64url(struct buffer *out, struct bytes text)
{
        CLEANUP(buffer_fini) struct buffer plain = {0};
        CLEANUP(buffer_fini) struct buffer again = {0};

        buffer_add_bytes(&plain, text);
        for (size_t i = 0; i < plain.size; i++) {
                if (plain.data[i] == '-')
                        plain.data[i] = '+';
                else if (plain.data[i] == '_')
                        plain.data[i] = '/';
        }
        if (!base64_decode(out, buffer_bytes(&plain)))
                return false;
        /* Unused bits, padding and the other alphabet would be second forms. */
        to_base64url(&again, buffer_bytes(out));
        return bytes_equal(buffer_bytes(&again), text);
}

/* ---- the form ---- */

void token_format(const struct token_claims *claims, struct bytes key, struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer b = {0};
        uint8_t mac[TLS_HMAC_SIZE];

        buffer_add_u8(&b, TOKEN_VERSION);
        buffer_add_u64(&b, claims->expires_s);
        buffer_add_u64(&b, claims->generation);
        buffer_add_bytes(&b, claims->login);
        tls_hmac(key, buffer_bytes(&b), mac);
        buffer_add(&b, mac, sizeof mac);
        to_base64url(out, buffer_bytes(&b));
}

bool token_parse(struct bytes token, struct bytes key, struct buffer *memory, struct token_claims *ret)
{
        struct bytes body;

        buffer_clear(memory);
        if (token.size == 0 || token.size > ACCESS_TOKEN_SIZE_MAX || !from_base64url(memory, token) ||
                memory->size < TOKEN_BODY_MIN + TLS_HMAC_SIZE ||
                memory->size > TOKEN_BODY_MAX + TLS_HMAC_SIZE)
                return false;
        body = bytes_of(memory->data, memory->size - TLS_HMAC_SIZE);
        if (!tls_hmac_verify(key, body, body.data + body.size) || body.data[0] != TOKEN_VERSION)
                return false;
        *ret = (struct token_claims){.expires_s = get_u64(body.data + 1),
                .generation = get_u64(body.data + 9),
                .login = bytes_of(body.data + 17, body.size - 17)};
        return true;
}

/* ---- the key ---- */

static bool read_key(struct bytes json, uint8_t ret[SECRET_SIZE])
{
        CLEANUP(arena_fini) struct arena memory = {0};
        CLEANUP(buffer_fini) struct buffer key = {0};
        struct json_in s;
        bool is_empty, has_more, is_found = false;

        if (!json_in_is_object(json))
                return false;
        json_in_begin(&s, json, 1);
        if (!json_in_open(&s, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct bytes name, value;

                if (!json_in_key(&s, &memory, &name))
                        return false;
                if (!is_found && bytes_equal(name, BYTES_LITERAL("key")) &&
                        json_in_kind(&s) == JSON_STRING_IN)
                        is_found = json_in_string(&s, &memory, &value) && base64_decode(&key, value) &&
                                   key.size == SECRET_SIZE;
                else if (!json_in_value(&s, &value))
                        return false;
                if (!json_in_more(&s, '{', &has_more))
                        return false;
        }
        if (is_found)
                memcpy(ret, key.data, SECRET_SIZE);
        return is_found;
}

int token_key(struct access *a, struct bytes *ret)
{
        CLEANUP(arena_fini) struct arena memory = {0};
        struct newest newest;
        int r;

        if (!a->key.is_known || !a->is_following) {
                a->key.is_known = false;
                r = newest_event(a, KEY_STREAM, &memory, &newest);
                if (r)
                        return r == USER_ABSENT ? USER_ABSENT : USER_UNREADABLE;
                if (!read_key(newest.data, a->key.bytes))
                        return USER_UNREADABLE;
                a->key.is_known = true;
        }
        *ret = bytes_of(a->key.bytes, SECRET_SIZE);
        return 0;
}

/* ---- use ---- */

int access_token_make(struct access *a, const struct principal *p, uint32_t seconds, struct buffer *out,
        uint64_t *ret_expires_us)
{
        uint64_t expires_us = os_turn_time(a->os).wall_us +
                              (uint64_t)MIN(seconds, (uint32_t)ACCESS_TOKEN_SECONDS_MAX) * SECOND_US;
        struct token_claims claims = {.login = bytes_of_string(p->login), .generation = p->user_generation};
        struct bytes key;

        if (token_key(a, &key))
                return ACCESS_NOT_READY;
        /* A token does not beget a longer life than its own. */
        if (p->until_us)
                expires_us = MIN(expires_us, p->until_us);
        claims.expires_s = expires_us / SECOND_US;
        token_format(&claims, key, out);
        *ret_expires_us = claims.expires_s * SECOND_US;
        return 0;
}

int token_authenticate(struct access *a, struct bytes token, struct principal **ret)
{
        CLEANUP(buffer_fini) struct buffer memory = {0};
        struct token_claims claims;
        struct bytes key;
        struct user *u;
        int r;

        if (token_key(a, &key))
                return ACCESS_NOT_READY;
        if (!token_parse(token, key, &memory, &claims) ||
                os_turn_time(a->os).wall_us / SECOND_US >= claims.expires_s)
                return ACCESS_DENIED;
        r = user_get(a, claims.login, &u);
        if (r == USER_UNREADABLE)
                return ACCESS_NOT_READY;
        if (r || u->is_disabled || u->generation != claims.generation)
                return ACCESS_DENIED;
        *ret = principal_copy(u->principal);
        (*ret)->until_us = claims.expires_s * SECOND_US;
        return 0;
}
