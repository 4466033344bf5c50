/* What the process may do on this machine: as little as it needs. */
#ifndef SERVER_PRIVILEGES_H
#define SERVER_PRIVILEGES_H

#include "base/bytes.h"

enum privileges_outcome {
        PRIVILEGES_REFUSED = 1, /* `problem` says why, and what to do */
};
struct privileges_options {
        const char *user;     /* to become, when root; "": nobody else */
        const char *data;     /* its directory, made for that user if absent; NULL: none */
        bool binds_low_ports; /* below 1024 */
};
/* Before any thread is started: files are made for their owner only (umask 077), no program can be run with more rights
 * (no_new_privs), every capability is gone but the one that binds low ports where that is needed, and root becomes `user`. Adds to `said`
 * what the process now is, for people. 0 or PRIVILEGES_REFUSED. */
MUST_CHECK int privileges_drop(const struct privileges_options *options, struct buffer *said, struct buffer *problem);

#endif
