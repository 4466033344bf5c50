#include "tls/room.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

void tls_hmac(struct bytes key, struct bytes text, uint8_t ret[TLS_HMAC_SIZE])
{
        unsigned size = TLS_HMAC_SIZE;

        if (!HMAC(EVP_sha256(), key.data, (int)key.size, text.data, text.size, ret, &size))
                fault_exit(EXIT_CODE_BUG, "HMAC-SHA-256 cannot be had");
        assert(size == TLS_HMAC_SIZE);
}

bool tls_hmac_verify(struct bytes key, struct bytes text, const uint8_t hmac[TLS_HMAC_SIZE])
{
        uint8_t wanted[TLS_HMAC_SIZE];
        bool is_equal;

        tls_hmac(key, text, wanted);
        is_equal = CRYPTO_memcmp(wanted, hmac, sizeof wanted) == 0;
        OPENSSL_cleanse(wanted, sizeof wanted);
        return is_equal;
}
