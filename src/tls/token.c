/* Join tokens. The text is "nilo-join-1-" and 60 bytes in RFC 4648's base32, lower case, which is 96
 * characters and no rest: fingerprint 16, id 8, secret 32, CRC-32C of those 4. */
#include "tls/room.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "base/crc32c.h"

enum {
        TOKEN_ID_AT = TLS_TOKEN_FINGERPRINT_SIZE,
        TOKEN_SECRET_AT = TOKEN_ID_AT + 8,
        TOKEN_SUM_AT = TOKEN_SECRET_AT + TLS_TOKEN_SECRET_SIZE,
        TOKEN_SIZE = TOKEN_SUM_AT + 4,
        GROUP_BYTES = 5, /* that make GROUP_LETTERS */
        GROUP_LETTERS = 8,
};

#define TOKEN_PREFIX "nilo-join-1-"

static_assert(TOKEN_SIZE % GROUP_BYTES == 0, "no padding");
static_assert(sizeof(TOKEN_PREFIX) + TOKEN_SIZE / GROUP_BYTES * GROUP_LETTERS == TLS_TOKEN_TEXT_SIZE,
        "the text has room");

static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";

void tls_join_token_make(
        struct os *os, const uint8_t ca_fingerprint[TLS_FINGERPRINT_SIZE], struct tls_join_token *ret)
{
        memcpy(ret->ca_fingerprint, ca_fingerprint, TLS_TOKEN_FINGERPRINT_SIZE);
        os_random(os, &ret->id, sizeof ret->id);
        os_random(os, ret->secret, sizeof ret->secret);
}

void tls_join_token_encode(const struct tls_join_token *token, char ret[TLS_TOKEN_TEXT_SIZE])
{
        uint8_t raw[TOKEN_SIZE];
        char *at = ret + strlen(TOKEN_PREFIX);
        unsigned i, j;

        memcpy(raw, token->ca_fingerprint, TLS_TOKEN_FINGERPRINT_SIZE);
        put_u64(raw + TOKEN_ID_AT, token->id);
        memcpy(raw + TOKEN_SECRET_AT, token->secret, TLS_TOKEN_SECRET_SIZE);
        put_u32(raw + TOKEN_SUM_AT, crc32c(0, raw, TOKEN_SUM_AT));
        memcpy(ret, TOKEN_PREFIX, strlen(TOKEN_PREFIX));
        for (i = 0; i < TOKEN_SIZE; i += GROUP_BYTES) {
                uint64_t group = 0;

                for (j = 0; j < GROUP_BYTES; j++)
                        group = group << 8 | raw[i + j];
                for (j = 0; j < GROUP_LETTERS; j++)
                        *at++ = letters[group >> (5 * (GROUP_LETTERS - 1 - j)) & 31];
        }
        *at = 0;
        OPENSSL_cleanse(raw, sizeof raw);
}

static int letter_value(char c)
{
        if (c >= 'a' && c <= 'z')
                return c - 'a';
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= '2' && c <= '7')
                return c - '2' + 26;
        return -1;
}

static bool token_from_raw(const uint8_t raw[TOKEN_SIZE], struct tls_join_token *ret)
{
        if (get_u32(raw + TOKEN_SUM_AT) != crc32c(0, raw, TOKEN_SUM_AT))
                return false;
        memcpy(ret->ca_fingerprint, raw, TLS_TOKEN_FINGERPRINT_SIZE);
        ret->id = get_u64(raw + TOKEN_ID_AT);
        memcpy(ret->secret, raw + TOKEN_SECRET_AT, TLS_TOKEN_SECRET_SIZE);
        return true;
}

bool tls_join_token_parse(const char *text, struct tls_join_token *ret)
{
        uint8_t raw[TOKEN_SIZE];
        unsigned i, j;
        bool is_fine;

        if (strlen(text) != TLS_TOKEN_TEXT_SIZE - 1 || memcmp(text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0)
                return false;
        text += strlen(TOKEN_PREFIX);
        for (i = 0; i < TOKEN_SIZE; i += GROUP_BYTES) {
                uint64_t group = 0;

                for (j = 0; j < GROUP_LETTERS; j++) {
                        int value = letter_value(*text++);

                        if (value < 0)
                                return false;
                        group = group << 5 | (unsigned)value;
                }
                for (j = 0; j < GROUP_BYTES; j++)
                        raw[i + j] = (uint8_t)(group >> (8 * (GROUP_BYTES - 1 - j)));
        }
        is_fine = token_from_raw(raw, ret);
        OPENSSL_cleanse(raw, sizeof raw);
        return is_fine;
}

static void digest(const struct tls_join_token_hash *hash, uint64_t id,
        const uint8_t secret[TLS_TOKEN_SECRET_SIZE], uint8_t ret[32])
{
        uint8_t text[8 + TLS_TOKEN_SECRET_SIZE];
        unsigned size = 32;

        put_u64(text, id);
        memcpy(text + 8, secret, TLS_TOKEN_SECRET_SIZE);
        if (!HMAC(EVP_sha256(), hash->salt, sizeof hash->salt, text, sizeof text, ret, &size))
                fault_exit(EXIT_CODE_BUG, "HMAC-SHA-256 of a token failed");
        assert(size == 32);
        OPENSSL_cleanse(text, sizeof text);
}

void tls_join_token_hash(struct os *os, const struct tls_join_token *token, struct tls_join_token_hash *ret)
{
        ret->id = token->id;
        os_random(os, ret->salt, sizeof ret->salt);
        digest(ret, token->id, token->secret, ret->hash);
}

bool tls_join_token_verify(
        const struct tls_join_token_hash *hash, uint64_t id, const uint8_t secret[TLS_TOKEN_SECRET_SIZE])
{
        uint8_t wanted[32];
        bool is_equal;

        digest(hash, id, secret, wanted);
        is_equal = CRYPTO_memcmp(wanted, hash->hash, sizeof wanted) == 0;
        OPENSSL_cleanse(wanted, sizeof wanted);
        return is_equal;
}
