/* The network's part of the contract: what must hold in every machine, passed on to the machine's table; and
 * lookups, which are a work like any other. */
#include "os/os_machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- TCP ---- */

int os_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept, void *arg,
        struct os_listener **ret, uint16_t *ret_port)
{
        assert(on_accept);
        return os->net->listen(os, address, port, on_accept, arg, ret, ret_port);
}

void os_listener_close(struct os_listener **listener)
{
        if (*listener)
                (*listener)->os->net->listener_close(*listener);
        *listener = NULL;
}

int os_connect(struct os *os, const char *address, uint16_t port, const struct os_conn_handler *handler,
        void *arg, struct os_conn **ret)
{
        assert(handler->on_data);
        return os->net->connect(os, address, port, handler, arg, ret);
}

void os_conn_accept(struct os_conn *conn, const struct os_conn_handler *handler, void *arg)
{
        assert(handler->on_data);
        conn->os->net->conn_accept(conn, handler, arg);
}

void os_conn_watch(struct os_conn *conn)
{
        conn->os->net->conn_watch(conn);
}

void os_conn_send(struct os_conn *conn, const struct bytes *pieces, unsigned n)
{
        conn->os->net->conn_send(conn, pieces, n);
}

size_t os_conn_queued(const struct os_conn *conn)
{
        return conn->os->net->conn_queued(conn);
}

void os_conn_read_stop(struct os_conn *conn)
{
        conn->os->net->conn_read_stop(conn);
}

void os_conn_read_start(struct os_conn *conn)
{
        conn->os->net->conn_read_start(conn);
}

void os_conn_close(struct os_conn *conn)
{
        conn->os->net->conn_close(conn);
}

const char *os_conn_peer(const struct os_conn *conn)
{
        return conn->os->net->conn_peer(conn);
}

const char *os_conn_problem(const struct os_conn *conn)
{
        return conn->os->net->conn_problem(conn);
}

/* ---- names ---- */

/* A lookup that is dropped lives on until its work is done, without its user. */
struct os_lookup {
        struct os_work work;
        struct list link; /* of the machine */
        char host[OS_HOST_SIZE_MAX + 1];
        struct os_addresses addresses;
        const char *problem;
        os_resolve_done *done; /* NULL: dropped */
        void *arg;
};

static void look_up(struct os_work *work)
{
        struct os_lookup *lookup = work->arg;

        lookup->problem = work->os->net->look_up(work->os, lookup->host, &lookup->addresses);
        assert(lookup->addresses.count <= OS_ADDRESSES_MAX);
        assert((lookup->problem == NULL) == (lookup->addresses.count > 0));
}

static void on_looked_up(struct os_work *work)
{
        struct os_lookup *lookup = work->arg;

        list_remove(&lookup->link);
        if (lookup->done)
                lookup->done(lookup->arg, &lookup->addresses, lookup->problem);
        free(lookup);
}

int os_resolve(struct os *os, const char *host, os_resolve_done *done, void *arg, struct os_lookup **ret)
{
        size_t size = strlen(host);
        struct os_lookup *lookup;

        assert(done);
        if (size == 0 || size > OS_HOST_SIZE_MAX)
                return OS_ADDRESS_INVALID;
        lookup = MEMORY_NEW(struct os_lookup);
        memcpy(lookup->host, host, size);
        lookup->done = done;
        lookup->arg = arg;
        lookup->work = (struct os_work){.work = look_up, .done = on_looked_up, .arg = lookup};
        list_add_last(&os->lookups, &lookup->link);
        os_work_submit(os, OS_LANE_CALL, &lookup->work);
        *ret = lookup;
        return 0;
}

void os_lookups_lose(struct os *os)
{
        while (!list_is_empty(&os->lookups)) {
                struct os_lookup *lookup = CONTAINER_OF(os->lookups.next, struct os_lookup, link);

                list_remove(&lookup->link);
                free(lookup);
        }
}

void os_lookup_drop(struct os_lookup **lookup)
{
        if (*lookup)
                (*lookup)->done = NULL;
        *lookup = NULL;
}

bool os_addresses_add(struct os_addresses *addresses, const char *text)
{
        unsigned i;

        assert(strlen(text) < OS_ADDRESS_SIZE);
        for (i = 0; i < addresses->count; i++)
                if (strcmp(addresses->text[i], text) == 0)
                        return true;
        if (addresses->count == OS_ADDRESSES_MAX)
                return false;
        memcpy(addresses->text[addresses->count++], text, strlen(text) + 1);
        return true;
}

/* ---- UDP ---- */

int os_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port)
{
        assert(options->address);
        assert(on_datagram);
        return os->net->udp_open(os, options, on_datagram, arg, ret, ret_port);
}

int os_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram)
{
        assert(datagram.size <= OS_DATAGRAM_SIZE_MAX);
        return udp->os->net->udp_send(udp, address, port, datagram);
}

void os_udp_close(struct os_udp **udp)
{
        if (*udp)
                (*udp)->os->net->udp_close(*udp);
        *udp = NULL;
}

/* ---- a machine without a network ---- */

static int no_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept,
        void *arg, struct os_listener **ret, uint16_t *ret_port)
{
        (void)os;
        (void)address;
        (void)port;
        (void)on_accept;
        (void)arg;
        (void)ret;
        (void)ret_port;
        return fault_raise(-ENOSYS);
}

static int no_connect(struct os *os, const char *address, uint16_t port,
        const struct os_conn_handler *handler, void *arg, struct os_conn **ret)
{
        (void)os;
        (void)address;
        (void)port;
        (void)handler;
        (void)arg;
        (void)ret;
        return fault_raise(-ENOSYS);
}

static const char *no_look_up(struct os *os, const char *host, struct os_addresses *ret)
{
        (void)os;
        (void)host;
        (void)ret;
        return "no network";
}

static int no_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram,
        void *arg, struct os_udp **ret, uint16_t *ret_port)
{
        (void)os;
        (void)options;
        (void)on_datagram;
        (void)arg;
        (void)ret;
        (void)ret_port;
        return fault_raise(-ENOSYS);
}

const struct os_net_table no_net_table = {
        .listen = no_listen, .connect = no_connect, .look_up = no_look_up, .udp_open = no_udp_open};
