/* Which addresses are listened on, and who may connect.
 *
 * Until TLS and users exist whoever reaches the port may read and write everything, so only this machine may.
 */
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

static void on_accept(void *arg, struct os_conn *conn)
{
        struct gateway *g = arg;

        if (g->is_closing || g->stats.connections >= g->connections_max) {
                g->stats.connections_refused++;
                gateway_fact(g, FACT_connection_refused, "%s: limit of %u connections", os_conn_peer(conn),
                        g->connections_max);
                os_conn_close(conn);
                return;
        }
        connection_new(g, conn);
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
                *ret_why = "only loopback addresses are listened on, since this version has neither TLS nor "
                           "users: "
                           "whoever reaches the port may read and write everything. Use 127.0.0.1 or ::1, "
                           "and reach it "
                           "from other machines through an SSH tunnel or a proxy that authenticates";
                return GATEWAY_ADDRESS_REFUSED;
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
