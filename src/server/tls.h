/* The certificate that clients see: of the operator's files, or of the node's own CA in the data directory, which is
 * that of the cluster when the node is or becomes one of others. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "control/control.h"
#include "os/os.h"
#include "server/config.h"
#include "tls/tls.h"

enum server_tls_outcome { SERVER_TLS_INVALID = 1 }; /* the problem says what */

struct server_tls {
        struct os *os;
        struct control *control;
        struct os *files; /* the machine whose disk has the operator's files: another one with --memory-only */
        const struct config *config;
        struct tls_context *context; /* NULL: none yet */
        char *directory;             /* of the own CA */
        uint64_t node_id;
        struct os_timer timer;
        bool is_new_authority;
        char *ca_file; /* of the own CA; NULL: none */
        char fingerprint[3 * TLS_FINGERPRINT_SIZE];
        char host[256]; /* a name of the certificate by which clients of other machines reach this one */
};

/* TLS was said, or is due because the address is not loopback. */
bool server_tls_is_wanted(const struct config *config);
/* `os` and `control` are set. Opens the operator's files if there are any; what is wrong with them ends the start before anything is written. */
MUST_CHECK int server_tls_open(
        struct server_tls *t, const struct config *config, struct tls_problem *problem);
/* The node knows who it is: makes the CA and the certificate where there are none, and renews them in time. Not with
 * files of the operator. */
MUST_CHECK int server_tls_open_own(struct server_tls *t, const uint8_t cluster_uuid[16], uint64_t node_id,
        struct tls_problem *problem);
/* After the gateway has closed. */
void server_tls_close(struct server_tls *t);

#endif
