/* The limits of the gateway: their names, and what keeps to those that are counted. */
#ifndef GATEWAY_LIMITS_H
#define GATEWAY_LIMITS_H

#include "base/list.h"
#include "gateway/gateway.h"

#define SECOND_US ((uint64_t)1000000)

/* The limits themselves. */
enum {
#define LIMIT(NAME, name, value, text) NAME = value,
#define TIME(NAME, name, milliseconds, text) NAME = (milliseconds) * 1000,
#define OPTION(field, name, text)
#include "gateway/limits.def"
#undef LIMIT
#undef TIME
#undef OPTION
};

/* How often something may happen: so often at once, and so often in a second for long. */
struct bucket {
        uint64_t since_us; /* when it was last emptied */
        unsigned level;
};
/* It happened. False: too often. */
MUST_CHECK bool bucket_add(struct bucket *b, uint64_t now_us, unsigned burst, unsigned per_second);

/* The connections of one address. */
struct crowd;
enum { CROWD_CHAINS = 1024 };
/* A connection from there joins (`peer` as os_conn_peer gives it). False: there are `count_max` of them; else leave it by
 * crowd_leave. *ret is NULL for loopback, of which there is no crowd. */
MUST_CHECK bool crowd_join(struct list chains[CROWD_CHAINS], const char *peer, unsigned count_max, struct crowd **ret);
void crowd_leave(struct crowd **crowd);

/* A connection is refused: counts it, and says so as often as facts are allowed. */
void limits_refuse(struct gateway *g, struct os_conn *conn, const char *format, ...) PRINTF_LIKE(3, 4);
/* May one more fact about a connection be published? */
MUST_CHECK bool limits_may_tell(struct gateway *g);

#endif
