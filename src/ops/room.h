/* What the files of this room share.
 *
 * ops.c       the life of the room; ping, the list of routes
 * health.c    /health/live, /health/ready, /v1/health
 * info.c      /info, /info/options, /gossip
 * metrics.c   /metrics, from the table metrics.def
 * subscriptions.c  durable subscriptions one by one, from the table subscriptions.def
 * stats.c     /stats
 * facts.c     /v1/facts
 * levels.c    log levels, subsystems and their workers */
#ifndef OPS_ROOM_H
#define OPS_ROOM_H

#include "base/list.h"
#include "base/memory.h"
#include "ops/ops.h"

/* The version of KurrentDB whose bodies are spoken: tools choose by it what they expect. */
#define OPS_KURRENTDB_VERSION "26.1.0"

enum {
        OPS_WORKERS_MAX = 64,
        OPS_BODY_SIZE_MAX = 4096,
        OPS_TIME_SIZE = 32,
};

/* ---- levels.c ---- */

/* A supervised worker, as the facts tell of it. */
struct ops_worker {
        enum subsystem subsystem;
        char name[FACT_TEXT_SIZE + 1];
        char reason[FACT_TEXT_SIZE + 1]; /* of its last failure; empty: none */
        bool is_running;
        bool is_given_up;
        uint64_t failures;
        uint32_t restarts;
};

struct ops_workers {
        struct control_watcher watcher;
        struct ops_worker all[OPS_WORKERS_MAX];
        unsigned count;
};

void levels_open(struct ops *ops);
void levels_close(struct ops *ops);

/* ---- facts.c ---- */

struct ops_facts {
        struct list streams;
        unsigned count;
        bool is_stopping;
        struct os_timer keep_alive;
};

void facts_open(struct ops *ops);
void facts_stop(struct ops *ops);
void facts_close(struct ops *ops);

/* ---- metrics.c ---- */

enum metric_kind { COUNTER, GAUGE };
void metrics_add_family(struct buffer *out, const char *name, enum metric_kind kind, const char *help);

/* ---- subscriptions.c ---- */

/* From one scrape to the next. */
struct ops_subscriptions {
        struct buffer after; /* the key of the last one that was looked at */
        struct buffer shown; /* the names of those that were shown */
};

/* ops->emitter must be set. `definitions`: how many there are. */
void subscriptions_add(struct ops *ops, uint64_t definitions, struct buffer *out);
void subscriptions_close(struct ops *ops);

/* ---- the whole ---- */

struct ops {
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        struct membership *membership; /* NULL: not known yet */
        struct emitter *emitter; /* NULL: not ready */
        char *host;
        char *node_name;
        uint8_t node_uuid[16];
        bool is_memory_only;
        void (*config_to_json)(void *arg, struct json_out *j);
        void (*process)(void *arg, struct ops_process *ret);
        void *arg;
        uint64_t started_us;      /* monotonic */
        uint64_t started_wall_us;
        uint64_t ready_wall_us;   /* of the fact system_ready; 0: not yet */
        struct ops_workers workers;
        struct ops_facts facts;
        struct ops_subscriptions subscriptions;
        struct gateway_route *routes;
        unsigned route_count;
};

/* Answers with what is in `out`, and frees it. */
void ops_reply_json(struct gateway_request *r, int status, struct buffer *out);
/* "2026-01-31T12:34:56.123456Z" */
void ops_time(uint64_t wall_us, char ret[OPS_TIME_SIZE]);
/* The system is ready and not stopping. */
bool ops_is_ready(const struct ops *ops);
/* Names of what is missing; "" when ready. Valid until the next call. */
const char *ops_pending(struct ops *ops);

gateway_handler health_get_live, health_get_ready, health_get;
gateway_handler info_get, info_get_whole, info_get_options, info_get_gossip;
gateway_handler metrics_get, stats_get;
gateway_handler facts_get;
gateway_handler levels_get_all, levels_get, levels_put, levels_get_subsystems;

#endif
