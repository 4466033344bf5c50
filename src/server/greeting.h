/* What people and programs are told on standard output when the server is ready. */
#ifndef SERVER_GREETING_H
#define SERVER_GREETING_H

#include "base/bytes.h"
#include "server/config.h"

struct greeting {
        const struct config *config;
        uint16_t port;
        bool speaks_tls;
        const char *host;         /* by which clients reach this machine: a name of the certificate */
        const char *ca_file;      /* of the own CA; NULL: another's, or none */
        const char *fingerprint;  /* of that, as `openssl x509 -fingerprint -sha256` shows it */
        bool is_new_authority;    /* the CA was made at this start */
};
/* Where it listens: for people, or as one line of JSON. */
void greeting_print(const struct greeting *greeting);
/* Once, on the first start that leaves loopback: what nobody can know otherwise. `password` is that of the user "admin" if it was
 * made now, else NULL. With neither a password nor a new CA nothing is printed. */
void greeting_print_first(const struct greeting *greeting, const char *password);

#endif
