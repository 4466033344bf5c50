/* Names and datagrams of the real machine, and addresses as the kernel has them. */
#include "os/real.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- addresses ---- */

bool real_address_parse(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
        *ret = (struct sockaddr_storage){0};
        return uv_ip4_addr(text, port, (struct sockaddr_in *)ret) == 0 ||
               uv_ip6_addr(text, port, (struct sockaddr_in6 *)ret) == 0;
}

uint16_t real_address_text(const struct sockaddr_storage *address, char text[static OS_ADDRESS_SIZE])
{
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

        static_assert(OS_ADDRESS_SIZE >= INET6_ADDRSTRLEN, "the longest literal");
        text[0] = '\0';
        if (address->ss_family == AF_INET6) {
                (void)uv_ip6_name(v6, text, OS_ADDRESS_SIZE);
                return ntohs(v6->sin6_port);
        }
        (void)uv_ip4_name(v4, text, OS_ADDRESS_SIZE);
        return ntohs(v4->sin_port);
}

int real_bind_result(int problem)
{
        assert(problem < 0);
        switch (problem) {
        case UV_EADDRINUSE:
                return OS_ADDRESS_IN_USE;
        case UV_EADDRNOTAVAIL:
        case UV_EAFNOSUPPORT:
        case UV_EINVAL: /* a group that is none, families that do not fit */
        case UV_ENODEV:
                return OS_ADDRESS_INVALID;
        default:
                return fault_raise(problem);
        }
}

/* ---- names ---- */

const char *real_look_up(struct os *os, const char *host, struct os_addresses *ret)
{
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL, *at;
        char text[OS_ADDRESS_SIZE];
        int r = getaddrinfo(host, NULL, &hints, &found);

        (void)os;
        if (r)
                return gai_strerror(r);
        for (at = found; at; at = at->ai_next) {
                struct sockaddr_storage address = {0};

                if (at->ai_family != AF_INET && at->ai_family != AF_INET6)
                        continue;
                memcpy(&address, at->ai_addr, MIN((size_t)at->ai_addrlen, sizeof address));
                (void)real_address_text(&address, text);
                if (!os_addresses_add(ret, text))
                        break;
        }
        freeaddrinfo(found);
        return ret->count ? NULL : "the name has no address";
}

/* ---- datagrams ---- */

/* A byte more than may come tells a datagram that is too large. */
struct real_udp {
        struct os_udp udp;
        uv_udp_t socket;
        os_udp_receive *on_datagram;
        void *arg;
        char incoming[OS_DATAGRAM_SIZE_MAX + 1];
};

static void on_udp_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
        struct real_udp *u = handle->data;

        (void)size;
        *ret = uv_buf_init(u->incoming, sizeof u->incoming);
}

/* An error is that of a datagram sent before, which may be lost. */
static void on_udp(
        uv_udp_t *socket, ssize_t size, const uv_buf_t *buf, const struct sockaddr *from, unsigned flags)
{
        struct real_udp *u = socket->data;
        struct sockaddr_storage address = {0};
        char text[OS_ADDRESS_SIZE];
        uint16_t port;

        (void)flags;
        if (size < 0 || !from || size > OS_DATAGRAM_SIZE_MAX)
                return;
        memcpy(&address, from,
                from->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        port = real_address_text(&address, text);
        real_of(u->udp.os)->has_run = true;
        u->on_datagram(u->arg, bytes_of(buf->base, (size_t)size), text, port);
}

static void on_udp_closed(uv_handle_t *handle)
{
        free(handle->data);
}

enum { INTERFACE_SIZE = 64 };

/* For IPv6 an interface is chosen by its name: "::%eth0" of "fd00::2". False: no interface has the address.
 */
static bool name_interface(const char *address, char ret[static INTERFACE_SIZE])
{
        uv_interface_address_t *all;
        char text[OS_ADDRESS_SIZE];
        struct sockaddr_storage wanted;
        bool is_found = false;
        int count = 0;

        if (!real_address_parse(address, 0, &wanted) || wanted.ss_family != AF_INET6 ||
                uv_interface_addresses(&all, &count))
                return false;
        (void)real_address_text(&wanted, text);
        for (int i = 0; i < count && !is_found; i++) {
                char own[OS_ADDRESS_SIZE];

                if (all[i].address.address4.sin_family != AF_INET6)
                        continue;
                (void)uv_ip6_name(&all[i].address.address6, own, sizeof own);
                is_found = strcmp(own, text) == 0;
                if (is_found)
                        snprintf(ret, INTERFACE_SIZE, "::%%%s", all[i].name);
        }
        uv_free_interface_addresses(all, count);
        return is_found;
}

static int udp_start(struct real_udp *u, const struct os_udp_options *o, uint16_t *ret_port)
{
        struct sockaddr_storage at;
        char text[OS_ADDRESS_SIZE], named[INTERFACE_SIZE];
        const char *interface = o->interface;
        int size = sizeof at, r;
        unsigned flags = o->group ? UV_UDP_REUSEADDR : 0;

        if (!real_address_parse(o->address, o->port, &at))
                return OS_ADDRESS_INVALID;
        /* Of a group of IPv6 only what is said by IPv6 is wanted, and the port may have one of IPv4 as well.
         */
        if (o->group && at.ss_family == AF_INET6) {
                flags |= UV_UDP_IPV6ONLY;
                if (interface && !name_interface(interface, named))
                        return OS_ADDRESS_INVALID;
                interface = interface ? named : NULL;
        }
        r = uv_udp_bind(&u->socket, (const struct sockaddr *)&at, flags);
        if (!r && o->group)
                r = uv_udp_set_membership(&u->socket, o->group, interface, UV_JOIN_GROUP);
        if (!r && interface)
                r = uv_udp_set_multicast_interface(&u->socket, interface);
        /* What is said to a group is for the own network, whatever routers would do with it. */
        if (!r && o->group && at.ss_family == AF_INET)
                r = uv_udp_set_multicast_ttl(&u->socket, 1);
        if (!r)
                r = uv_udp_recv_start(&u->socket, on_udp_alloc, on_udp);
        if (!r)
                r = uv_udp_getsockname(&u->socket, (struct sockaddr *)&at, &size);
        if (r)
                return real_bind_result(r);
        *ret_port = real_address_text(&at, text);
        return 0;
}

int real_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port)
{
        struct real_udp *u = MEMORY_NEW(struct real_udp);
        int r;

        u->udp.os = os;
        u->on_datagram = on_datagram;
        u->arg = arg;
        r = uv_udp_init(&real_of(os)->loop, &u->socket);
        if (r) {
                free(u);
                return fault_raise(r);
        }
        u->socket.data = u;
        r = udp_start(u, options, ret_port);
        if (r) {
                real_udp_close(&u->udp);
                return r;
        }
        *ret = &u->udp;
        return 0;
}

int real_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram)
{
        struct real_udp *u = CONTAINER_OF(udp, struct real_udp, udp);
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)datagram.data, (unsigned)datagram.size);
        struct sockaddr_storage to;

        if (!real_address_parse(address, port, &to))
                return OS_ADDRESS_INVALID;
        (void)uv_udp_try_send(&u->socket, &buf, 1, (const struct sockaddr *)&to);
        return 0;
}

void real_udp_close(struct os_udp *udp)
{
        struct real_udp *u = CONTAINER_OF(udp, struct real_udp, udp);

        uv_close((uv_handle_t *)&u->socket, on_udp_closed);
}
