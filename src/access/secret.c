/* Hashes keyed by a secret of this process: HMAC-SHA-256. Every call with credentials asks for one, so the
 * key is worked in once: with that a hash costs a quarter of a microsecond, without it two. */
#include <openssl/hmac.h>

#include "access/room.h"

void secret_init(struct access *a)
{
        uint8_t key[SECRET_SIZE];

        os_random(a->os, key, sizeof key);
        a->secret = HMAC_CTX_new();
        if (!a->secret || !HMAC_Init_ex(a->secret, key, sizeof key, EVP_sha256(), NULL))
                fault_exit(EXIT_CODE_BUG, "HMAC-SHA-256 cannot be had");
        explicit_bzero(key, sizeof key);
}

void secret_fini(struct access *a)
{
        HMAC_CTX_free(a->secret);
        a->secret = NULL;
}

void secret_hash(
        struct access *a, char kind, const struct bytes *pieces, unsigned count, uint8_t ret[TLS_HMAC_SIZE])
{
        unsigned size = TLS_HMAC_SIZE;
        bool is_fine = HMAC_Init_ex(a->secret, NULL, 0, NULL, NULL) &&
                       HMAC_Update(a->secret, (const uint8_t *)&kind, 1);

        for (unsigned i = 0; is_fine && i < count; i++)
                is_fine = HMAC_Update(a->secret, pieces[i].data, pieces[i].size);
        if (!is_fine || !HMAC_Final(a->secret, ret, &size))
                fault_exit(EXIT_CODE_BUG, "HMAC-SHA-256 cannot be had");
}
