/* ops (inspection, monitoring, observation, debugging): shows what is going on; changes nothing but log levels.
 *
 * Routes, registered with the gateway; all answer while the store is still opening:
 *   GET /                              the list of all routes
 *   GET /health/live                   204, or the status of ?liveCode=; 503 while starting (KurrentDB's meaning)
 *   GET /health/ready                  200, or 503 with what is pending; both as JSON
 *   GET /v1/health                     healthy, degraded (200) or unhealthy (503), with every check
 *   GET /ping  /info  /info/options  /gossip     KurrentDB's bodies; /info has more fields of ours
 *   GET /metrics                       Prometheus text format 0.0.4; the names are in metrics.c
 *   GET /stats                         KurrentDB's groups proc, sys, es, with what this server knows of them; and nilo: subscriptions
 *   GET /v1/subsystems                 readiness, log level and workers of every subsystem
 *   GET /v1/facts                      facts, live: server-sent events, or NDJSON for "Accept: application/x-ndjson".
 *        ?category=NAME (may be repeated or separated by commas)  ?level=NAME (default trace)
 *        ?from=oldest (what the bus still holds, then live; default now); Last-Event-ID resumes where the bus can.
 *        A fact is one object, as fact_to_json makes it; {"missed": N} stands where N facts were lost.
 *   GET /v1/log/levels                 {"control": "info", ...}
 *   GET, PUT /v1/log/levels/{subsystem}  {"subsystem": "gateway", "level": "debug"}; PUT takes {"level": "debug"} or the bare
 *        word, and "all" for the subsystem
 *
 * Threads: the loop thread. */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include "base/json_out.h"
#include "control/control.h"
#include "emitter/emitter.h"
#include "gateway/gateway.h"
#include "membership/membership.h"
#include "os/os.h"

struct ops;

/* What only the process knows of itself. */
struct ops_process {
        double cpu_seconds;
        double load_average[3]; /* of the machine: 1, 5 and 15 minutes */
        uint64_t resident_bytes;
        uint64_t threads;
        uint64_t machine_memory_bytes;
        uint64_t machine_memory_free_bytes;
};

struct ops_options {
        struct os *os;
        struct control *control;
        struct gateway *gateway;  /* the store and the notification system are had from it, once it serves */
        const char *host;         /* where clients reach this node; copied */
        const char *node_name;    /* copied */
        uint8_t node_uuid[16];    /* shown by /gossip */
        bool is_memory_only;
        /* Writes one JSON object with every option: {"port": {"value": 2113, "origin": "default", "text": "..."}, ...}. */
        void (*config_to_json)(void *arg, struct json_out *j);
        void (*process)(void *arg, struct ops_process *ret);
        void *arg;
};
/* Adds the routes to the gateway; everything but the names is borrowed. */
void ops_open(const struct ops_options *options, struct ops **ret);
/* From now on durable subscriptions are shown, until it is NULL again; borrowed. */
void ops_serve(struct ops *ops, struct emitter *emitter);
/* From now on this says which nodes there are; borrowed until the gateway has closed. */
void ops_join(struct ops *ops, struct membership *membership);
/* What /stats shows, as one object of numbers and groups of them. */
void ops_stats_to_json(struct ops *ops, struct json_out *j);
/* Ends the streams of facts, which never end by themselves and would hold the gateway open. They still get the facts
 * that were published before. NULL is fine. */
void ops_stop(struct ops *ops);
/* After the gateway has closed: its routes point here. NULL is fine. */
void ops_close(struct ops **ops);

/* Open streams of facts at one time; more are refused with 503. */
enum { OPS_FACT_STREAMS_MAX = 64 };

#endif
