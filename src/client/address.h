/* Where a server is, as people write it: http(s)://user:password@host:port, or what KurrentDB's clients take,
 * kurrentdb://user:password@host:port,host:port?tls=true&tlsCAFile=ca.pem. */
#ifndef CLIENT_ADDRESS_H
#define CLIENT_ADDRESS_H

#include "base/bytes.h"
#include "nilo/client.h"

enum { ADDRESS_HOSTS_MAX = 16, ADDRESS_SIZE_MAX = 8192 };

struct address {
        char *bases[ADDRESS_HOSTS_MAX]; /* "https://host:port", without credentials */
        unsigned count;
        char *user; /* NULL: none, as the ones below */
        char *password;
        char *ca_file;
        char *certificate_file;
        char *key_file;
        bool is_tls;
        bool trusts_anyone; /* tlsVerifyCert=false */
};

/* False and what is wrong with it in `problem`, without any credential. Gives *ret in both cases. */
MUST_CHECK bool address_parse(const char *url, struct address *ret, char problem[NILO_CLIENT_PROBLEM_SIZE]);
void address_fini(struct address *address);
/* Overwrites a secret before its memory goes. NULL is fine. */
void address_forget(char **secret);

#endif
