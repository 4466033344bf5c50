/* What is counted to keep to the limits, and the list of them all.
 *
 * The connections of an address are counted in small objects, found by a hash of the address; there are never
 * more of them than connections. One IPv6 host usually has a whole network of 64 bits, so that counts as one
 * address. */
#include "gateway/room.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/event.h"

/* ---- the list ---- */

void gateway_each_limit(const struct gateway *g,
        void (*each)(void *arg, const char *name, uint64_t value, const char *text), void *arg)
{
#define LIMIT(NAME, name, value, text)       each(arg, name, NAME, text);
#define TIME(NAME, name, milliseconds, text) each(arg, name, milliseconds, text);
#define OPTION(field, name, text)            each(arg, name, g->field, text);
#include "gateway/limits.def"
#undef LIMIT
#undef TIME
#undef OPTION
}

/* ---- rates ---- */

bool bucket_add(struct bucket *b, uint64_t now_us, unsigned burst, unsigned per_second)
{
        uint64_t leaked = (now_us - b->since_us) * per_second / SECOND_US;

        if (leaked >= b->level) {
                b->level = 0;
                b->since_us = now_us;
        } else if (leaked) {
                b->level -= (unsigned)leaked;
                b->since_us += leaked * SECOND_US / per_second;
        }
        if (b->level >= burst)
                return false;
        b->level++;
        return true;
}

/* ---- addresses ---- */

struct crowd {
        struct list link; /* of its chain */
        uint8_t address[16];
        unsigned count;
};

/* False: loopback, or nothing that has an address. */
static bool address_of(const char *peer, uint8_t ret[16])
{
        const char *begin = peer[0] == '[' ? peer + 1 : peer;
        const char *end = peer[0] == '[' ? strchr(begin, ']') : strrchr(begin, ':');
        char text[INET6_ADDRSTRLEN];
        struct in6_addr v6;

        if (!end || (size_t)(end - begin) >= sizeof text)
                return false;
        memcpy(text, begin, (size_t)(end - begin));
        text[end - begin] = 0;
        memset(ret, 0, 16);
        if (peer[0] != '[') {
                ret[10] = ret[11] = 0xff;
                return inet_pton(AF_INET, text, ret + 12) == 1 && ret[12] != 127;
        }
        if (inet_pton(AF_INET6, text, &v6) != 1 || IN6_IS_ADDR_LOOPBACK(&v6))
                return false;
        memcpy(ret, v6.s6_addr, IN6_IS_ADDR_V4MAPPED(&v6) ? 16 : 8);
        return !IN6_IS_ADDR_V4MAPPED(&v6) || ret[12] != 127;
}

bool crowd_join(struct list chains[CROWD_CHAINS], const char *peer, unsigned count_max, struct crowd **ret)
{
        uint8_t address[16];
        struct list *chain;
        struct crowd *crowd;

        *ret = NULL;
        if (!address_of(peer, address))
                return true;
        chain = &chains[name_hash(bytes_of(address, sizeof address)) % CROWD_CHAINS];
        LIST_EACH (at, chain) {
                crowd = CONTAINER_OF(at, struct crowd, link);
                if (memcmp(crowd->address, address, sizeof address) != 0)
                        continue;
                if (crowd->count >= count_max)
                        return false;
                crowd->count++;
                *ret = crowd;
                return true;
        }
        crowd = MEMORY_NEW(struct crowd);
        memcpy(crowd->address, address, sizeof address);
        crowd->count = 1;
        list_add_last(chain, &crowd->link);
        *ret = crowd;
        return true;
}

void crowd_leave(struct crowd **crowd)
{
        struct crowd *c = *crowd;

        *crowd = NULL;
        if (!c)
                return;
        assert(c->count > 0);
        if (--c->count)
                return;
        list_remove(&c->link);
        free(c);
}

/* ---- refusals ---- */

bool limits_may_tell(struct gateway *g)
{
        if (bucket_add(&g->told, os_turn_time(g->os).monotonic_us, REFUSAL_FACTS_BURST,
                    REFUSAL_FACTS_PER_SECOND))
                return true;
        g->untold++;
        return false;
}

void limits_refuse(struct gateway *g, struct os_conn *conn, const char *format, ...)
{
        char text[FACT_TEXT_SIZE + 1];
        va_list arguments;

        g->stats.connections_refused++;
        if (!limits_may_tell(g))
                return;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        if (g->untold)
                gateway_fact(g, FACT_connection_refused, "%s: %s; %llu more were not told",
                        os_conn_peer(conn), text, (unsigned long long)g->untold);
        else
                gateway_fact(g, FACT_connection_refused, "%s: %s", os_conn_peer(conn), text);
        g->untold = 0;
}
