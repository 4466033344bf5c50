/* Who tries passwords is slowed: for each login and address, three tries are free, each one more makes the
 * next wait twice as long, from 100 ms to 5 s. So nobody has more than ten tries in a second, and whoever
 * goes on has one in five seconds. A right password forgets it all. Others are not concerned: the key is
 * login and address. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "access/room.h"

enum { FREE_TRIES = 3, DOUBLINGS_MAX = 6, ADDRESS_SIZE_MAX = 64 };
#define FIRST_WAIT_US ((uint64_t)100 * 1000)
#define WAIT_US_MAX   ((uint64_t)5 * 1000 * 1000)
#define FORGET_US     ((uint64_t)5 * 60 * 1000 * 1000)

struct slowed {
        struct memo_entry entry;
        unsigned tries;
        uint64_t not_before_us; /* monotonic */
        uint64_t last_us;
        uint8_t key[TLS_HMAC_SIZE];
};

void slowing_entry_free(struct memo_entry *entry)
{
        free(CONTAINER_OF(entry, struct slowed, entry));
}

/* The host of "host:port"; of IPv6 the network of 64 bits, which is one customer's. */
static struct bytes address_of(const char *peer, char ret[ADDRESS_SIZE_MAX])
{
        const char *colon = strrchr(peer, ':');
        size_t size = colon ? (size_t)(colon - peer) : strlen(peer);
        struct in6_addr ip;
        char text[ADDRESS_SIZE_MAX];

        if (size >= 2 && peer[0] == '[' && peer[size - 1] == ']') {
                peer++;
                size -= 2;
        }
        size = MIN(size, (size_t)ADDRESS_SIZE_MAX - 1);
        memcpy(text, peer, size);
        text[size] = 0;
        if (inet_pton(AF_INET6, text, &ip) == 1 && !IN6_IS_ADDR_V4MAPPED(&ip)) {
                memcpy(ret, &ip, 8);
                return bytes_of(ret, 8);
        }
        memcpy(ret, text, size);
        return bytes_of(ret, size);
}

bool slowing_is_same_address(const char *peer, const char *other)
{
        char mine[ADDRESS_SIZE_MAX], his[ADDRESS_SIZE_MAX];

        return bytes_equal(address_of(peer, mine), address_of(other, his));
}

/* A keyed hash: nobody can choose logins that fall together. */
static void key_of(struct access *a, struct bytes login, const char *peer, uint8_t ret[TLS_HMAC_SIZE])
{
        char address[ADDRESS_SIZE_MAX];
        struct bytes pieces[] = {login, BYTES_LITERAL(":"), address_of(peer, address)};

        secret_hash(a, 'S', pieces, COUNT_OF(pieces), ret);
}

static uint64_t wait_after(unsigned tries)
{
        if (tries < FREE_TRIES)
                return 0;
        return MIN(FIRST_WAIT_US << MIN(tries - FREE_TRIES, (unsigned)DOUBLINGS_MAX), WAIT_US_MAX);
}

bool slowing_try(struct access *a, struct bytes login, const char *peer)
{
        uint64_t now_us = os_turn_time(a->os).monotonic_us;
        uint8_t key[TLS_HMAC_SIZE];
        struct memo_entry *entry;
        struct slowed *s;

        key_of(a, login, peer, key);
        entry = memo_get(&a->slowed, bytes_of(key, sizeof key));
        if (!entry) {
                s = MEMORY_NEW(struct slowed);
                memcpy(s->key, key, sizeof key);
                s->entry.key = bytes_of(s->key, sizeof s->key);
                s->entry.size = sizeof *s;
                memo_put(&a->slowed, &s->entry);
        } else {
                s = CONTAINER_OF(entry, struct slowed, entry);
        }
        if (now_us - s->last_us > FORGET_US)
                s->tries = 0;
        if (s->tries && now_us < s->not_before_us)
                return false;
        s->tries++;
        s->last_us = now_us;
        s->not_before_us = now_us + wait_after(s->tries);
        return true;
}

void slowing_forget(struct access *a, struct bytes login, const char *peer)
{
        uint8_t key[TLS_HMAC_SIZE];
        struct memo_entry *entry;

        key_of(a, login, peer, key);
        entry = memo_get(&a->slowed, bytes_of(key, sizeof key));
        if (entry)
                memo_drop(&a->slowed, entry);
}
