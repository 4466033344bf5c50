/* Which addresses are listened on, and who may connect.
 *
 * Whoever reaches an open port may read and write everything, and whoever sits between hears passwords: so an
 * address that other machines can reach needs TLS and users, or the word that it is meant without. */
#include "gateway/room.h"

#include <arpa/inet.h>
#include <stdio.h>

enum address_kind { ADDRESS_INVALID, ADDRESS_LOOPBACK, ADDRESS_OTHER };

static enum address_kind classify(const char *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (inet_pton(AF_INET, address, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127 ? ADDRESS_LOOPBACK : ADDRESS_OTHER;
        if (inet_pton(AF_INET6, address, &v6) == 1) {
                if (IN6_IS_ADDR_LOOPBACK(&v6))
                        return ADDRESS_LOOPBACK;
                if (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127)
                        return ADDRESS_LOOPBACK;
                return ADDRESS_OTHER;
        }
        return ADDRESS_INVALID;
}

bool listener_is_loopback(const char *address)
{
        return classify(address) == ADDRESS_LOOPBACK;
}

/* "": it is fine. */
static const char *why_refused(const struct gateway *g)
{
        if (g->is_insecure)
                return "";
        if (!g->speaks_tls)
                return "other machines can reach this address, and without TLS everybody on the way reads "
                       "along, "
                       "passwords too. Leave out --tls off, or use 127.0.0.1, or say --insecure if that is "
                       "meant";
        if (!g->access)
                return "other machines can reach this address, and nobody would be asked who he is: "
                       "everybody "
                       "could read and write everything. Use 127.0.0.1, or say --insecure if that is meant";
        return "";
}

const char *listener_how(const struct gateway *g)
{
        if (listener_is_loopback(g->address) && !g->is_insecure)
                return g->speaks_tls ? ", with TLS" : "";
        if (!g->is_insecure)
                return ", with TLS and users";
        return g->speaks_tls ? ", INSECURE: nobody is asked who he is"
                             : ", INSECURE: no TLS, and nobody is asked who he is";
}

static void on_accept(void *arg, struct os_conn *conn)
{
        struct gateway *g = arg;
        struct crowd *crowd = NULL;

        if (g->is_closing) {
                limits_refuse(g, conn, "the server is stopping");
        } else if (g->stats.connections >= g->connections_max) {
                limits_refuse(g, conn, "limit of %u connections", g->connections_max);
        } else if (!crowd_join(g->crowds, os_conn_peer(conn), g->connections_per_address_max, &crowd)) {
                limits_refuse(
                        g, conn, "limit of %u connections of an address", g->connections_per_address_max);
        } else if (!secure_has_room(g)) {
                limits_refuse(g, conn, "limit of %u TLS handshakes at one time", g->handshakes_max);
        } else {
                connection_new(g, conn, crowd);
                return;
        }
        crowd_leave(&crowd);
        os_conn_close(conn);
}

int listener_open(struct gateway *g, const char *address, uint16_t port, const char **ret_why)
{
        int r;

        if (strcmp(address, "localhost") == 0)
                address = "127.0.0.1";
        switch (classify(address)) {
        case ADDRESS_INVALID:
                *ret_why = "the address is no IP literal: use 127.0.0.1, ::1 or localhost";
                return GATEWAY_ADDRESS_INVALID;
        case ADDRESS_OTHER:
                *ret_why = why_refused(g);
                if (**ret_why)
                        return GATEWAY_ADDRESS_REFUSED;
                break;
        case ADDRESS_LOOPBACK:
                break;
        }
        r = os_listen(g->os, address, port, on_accept, g, &g->listener, &g->port);
        if (r == OS_ADDRESS_IN_USE) {
                *ret_why = "another process listens on this address and port";
                return GATEWAY_ADDRESS_IN_USE;
        }
        if (r == OS_ADDRESS_INVALID) {
                *ret_why = "this machine does not have the address";
                return GATEWAY_ADDRESS_INVALID;
        }
        if (r)
                return fault_fold(r);
        snprintf(g->address, sizeof g->address, "%s", address);
        return 0;
}
