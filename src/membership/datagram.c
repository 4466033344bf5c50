/* What a node says to the group of discovery, little-endian:
 *
 *   0   8  "NILODISC"
 *   8   1  format, 1
 *   9   1  0
 *   10  2  size of the address for nodes
 *   12  2  size of the address for clients
 *   14  2  0
 *   16  16 cluster UUID
 *   32  8  node id
 *   40  8  wall clock of the sender, us
 *   48  16 nonce
 *   64     the two addresses, "host:port"
 *   end 32 HMAC-SHA-256 by the secret over all before it
 *
 * Anybody on the network can send to the group, so the HMAC is looked at before what is inside. */
#include "membership/room.h"

#define MAGIC "NILODISC"

enum { FORMAT = 1, HEADER_SIZE = 64 };

static_assert(HEADER_SIZE + 2 * PEERS_ADDRESS_SIZE + TLS_HMAC_SIZE <= OS_DATAGRAM_SIZE_MAX, "one datagram");

/* ---- writing ---- */

static void add_u16(struct buffer *out, size_t n)
{
        uint8_t bytes[2];

        put_u16(bytes, (uint16_t)n);
        buffer_add_bytes(out, bytes_of(bytes, sizeof bytes));
}

static void add_u64(struct buffer *out, uint64_t n)
{
        uint8_t bytes[8];

        put_u64(bytes, n);
        buffer_add_bytes(out, bytes_of(bytes, sizeof bytes));
}

void datagram_make(const struct datagram *d, const char *secret, struct buffer *out)
{
        uint8_t hmac[TLS_HMAC_SIZE];

        assert(out->size == 0);
        buffer_add_bytes(out, bytes_of_string(MAGIC));
        buffer_add_u8(out, FORMAT);
        buffer_add_u8(out, 0);
        add_u16(out, strlen(d->address));
        add_u16(out, strlen(d->clients));
        add_u16(out, 0);
        buffer_add_bytes(out, bytes_of(d->cluster_uuid, sizeof d->cluster_uuid));
        add_u64(out, d->node_id);
        add_u64(out, d->wall_us);
        buffer_add_bytes(out, bytes_of(d->nonce, sizeof d->nonce));
        assert(out->size == HEADER_SIZE);
        buffer_add_bytes(out, bytes_of_string(d->address));
        buffer_add_bytes(out, bytes_of_string(d->clients));
        tls_hmac(bytes_of_string(secret), buffer_bytes(out), hmac);
        buffer_add_bytes(out, bytes_of(hmac, sizeof hmac));
}

/* ---- reading ---- */

static bool is_well_formed(struct bytes d)
{
        size_t nodes, clients;

        if (d.size < HEADER_SIZE + TLS_HMAC_SIZE || memcmp(d.data, MAGIC, 8) != 0 || d.data[8] != FORMAT)
                return false;
        nodes = get_u16(d.data + 10);
        clients = get_u16(d.data + 12);
        return nodes < PEERS_ADDRESS_SIZE && clients < PEERS_ADDRESS_SIZE &&
               d.size == HEADER_SIZE + nodes + clients + TLS_HMAC_SIZE;
}

/* A text that can stand in a file and on a terminal, and is an address. */
static bool take_address(struct bytes from, char ret[PEERS_ADDRESS_SIZE])
{
        memcpy(ret, from.data, from.size);
        ret[from.size] = 0;
        return strlen(ret) == from.size && address_is_fit(ret);
}

/* After the HMAC: a datagram of somebody who knows the secret, and may still be wrong. */
static bool take(struct bytes d, struct datagram *ret)
{
        size_t nodes = get_u16(d.data + 10);
        size_t clients = get_u16(d.data + 12);

        *ret = (struct datagram){.node_id = get_u64(d.data + 32), .wall_us = get_u64(d.data + 40)};
        memcpy(ret->cluster_uuid, d.data + 16, sizeof ret->cluster_uuid);
        memcpy(ret->nonce, d.data + 48, sizeof ret->nonce);
        return ret->node_id && take_address(bytes_of(d.data + HEADER_SIZE, nodes), ret->address) &&
               (!clients || take_address(bytes_of(d.data + HEADER_SIZE + nodes, clients), ret->clients));
}

int datagram_parse(struct bytes bytes, const char *secret, struct datagram *ret)
{
        struct bytes said;

        if (!is_well_formed(bytes))
                return DATAGRAM_MALFORMED;
        said = bytes_of(bytes.data, bytes.size - TLS_HMAC_SIZE);
        if (!tls_hmac_verify(bytes_of_string(secret), said, bytes.data + said.size))
                return DATAGRAM_WRONG_SECRET;
        return take(bytes, ret) ? 0 : DATAGRAM_MALFORMED;
}
