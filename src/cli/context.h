/* Contexts: servers that the user has given names to, in one file of their own. */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H

#include "cli/command.h"

enum { CONTEXT_FILE_SIZE_MAX = 1 << 20, CONTEXT_NAME_SIZE_MAX = 64 };

/* Where and as whom; NULL: nothing is said about it. */
struct context {
        char *name;
        char *url; /* as it was given, perhaps with user and password */
        char *user;
        char *password;
        char *token;
        char *ca_file;
        char *cert_file;
        char *key_file;
};

/* The context of that name; NULL: the one in use, if there is one (else *ret stays empty). CLI_OK, or another exit code
 * after a message. */
MUST_CHECK int context_get(const char *name, struct context *ret);
void context_fini(struct context *context);
/* The names of all of them; none for a file that cannot be read. */
void context_each(void (*each)(void *arg, const char *name), void *arg);

#endif
