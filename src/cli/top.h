/* What `nilo top` knows of the nodes that it watches, and how it is shown. */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/screen.h"

enum { TOP_NODES_MAX = 16, TOP_GROUPS_MAX = 100, TOP_NAME_SIZE = 128, TOP_PROBLEM_SIZE = 256 };

/* Every number: its name, its kind and the metric that it comes from. A counter is shown as a rate. */
#define TOP_NUMBERS(N)                                                                                                        \
        N(APPENDS, "appends", COUNTER, "nilo_appends_total{result=\"ok\"}")                                                   \
        N(CONFLICTS, "conflicts", COUNTER, "nilo_appends_total{result=\"conflict\"}")                                         \
        N(REFUSED, "refused", COUNTER, "nilo_appends_total{result=\"refused\"}")                                              \
        N(EVENTS, "events", COUNTER, "kurrentdb_checkpoints{name=\"writer\",read=\"non-flushed\"}")                           \
        N(READ, "events_read", COUNTER, "kurrentdb_io_events_total{activity=\"read\"}")                                       \
        N(DELIVERED, "events_delivered", COUNTER, "nilo_events_delivered_total")                                              \
        N(GIVEN_OUT, "events_given_to_consumers", COUNTER, "nilo_subscription_events_total{what=\"delivered\"}")              \
        N(RECEIVED, "bytes_received", COUNTER, "nilo_network_bytes_total{direction=\"received\"}")                            \
        N(SENT, "bytes_sent", COUNTER, "nilo_network_bytes_total{direction=\"sent\"}")                                        \
        N(LOG_READ, "log_bytes_read", COUNTER, "kurrentdb_io_bytes_total{activity=\"read\"}")                                 \
        N(LOG_WRITTEN, "log_bytes_written", COUNTER, "kurrentdb_io_bytes_total{activity=\"written\"}")                        \
        N(REQUESTS, "http_requests", COUNTER, "nilo_http_requests_total")                                                     \
        N(CALLS, "grpc_calls", COUNTER, "kurrentdb_incoming_grpc_calls_total{kind=\"total\"}")                                \
        N(SYNCS, "syncs", COUNTER, "nilo_sync_total")                                                                         \
        N(SYNC_SECONDS, "sync_seconds", COUNTER, "nilo_sync_seconds_total")                                                   \
        N(CPU, "cpu_seconds", COUNTER, "nilo_cpu_seconds_total")                                                              \
        N(SYNC_MAX, "sync_seconds_max", GAUGE, "nilo_sync_seconds_max")                                                       \
        N(CONNECTIONS, "connections", GAUGE, "kurrentdb_kestrel_connections")                                                 \
        N(LIVE, "subscriptions_live", GAUGE, "nilo_subscriptions{state=\"live\"}")                                            \
        N(HISTORY, "subscriptions_in_history", GAUGE, "nilo_subscriptions{state=\"history\"}")                                \
        N(LAG, "lag_events_max", GAUGE, "nilo_subscription_lag_events_max{kind=\"catch-up\"}")                                \
        N(LAG_SECONDS, "lag_seconds_max", GAUGE, "nilo_subscription_lag_seconds_max{kind=\"catch-up\"}")                      \
        N(GROUPS, "groups", GAUGE, "nilo_subscription_definitions")                                                           \
        N(CONSUMERS, "consumers", GAUGE, "nilo_subscription_consumers")                                                       \
        N(IN_FLIGHT, "in_flight", GAUGE, "nilo_subscription_in_flight")                                                       \
        N(GROUP_LAG, "group_lag_events_max", GAUGE, "nilo_subscription_lag_events_max{kind=\"durable\"}")                     \
        N(GROUP_LAG_SECONDS, "group_lag_seconds_max", GAUGE, "nilo_subscription_lag_seconds_max{kind=\"durable\"}")           \
        N(MEMORY, "memory_bytes", GAUGE, "kurrentdb_proc_mem_bytes{kind=\"working-set\"}")                                    \
        N(LOG, "log_bytes", GAUGE, "nilo_log_bytes")                                                                          \
        N(INDEX, "index_bytes", GAUGE, "nilo_index_bytes")                                                                    \
        N(FREE, "disk_free_bytes", GAUGE, "kurrentdb_sys_disk_bytes{disk=\"data\",kind=\"free\"}")                            \
        N(FULL, "disk_full", GAUGE, "nilo_disk_full")                                                                         \
        N(TERM, "term", GAUGE, "nilo_raft_term")                                                                              \
        N(UP, "up_seconds", GAUGE, "kurrentdb_proc_up_time_seconds_total")

enum top_kind { TOP_COUNTER, TOP_GAUGE };

enum top_number {
#define TOP_ID(id, name, kind, metric) TOP_##id,
        TOP_NUMBERS(TOP_ID)
#undef TOP_ID
        TOP_NUMBERS_COUNT
};

struct top_group {
        char stream[TOP_NAME_SIZE];
        char group[TOP_NAME_SIZE];
        double lag_events;
        double lag_seconds;
        double consumers;
        double in_flight;
        double parked;
        double processed; /* ever */
        double rate;      /* of it, a second */
};

/* What one page of metrics says. */
struct top_sample {
        uint64_t at_us; /* monotonic; 0: there is none */
        double values[TOP_NUMBERS_COUNT];
        char state[32]; /* as KurrentDB calls it: "Leader" */
        struct top_group groups[TOP_GROUPS_MAX];
        unsigned group_count;
};

struct top_node {
        char url[TOP_NAME_SIZE];
        uint64_t id;                      /* 0: the only one, and nobody said */
        char problem[TOP_PROBLEM_SIZE];   /* why there is no newer sample; "" */
        struct top_sample last;
        double numbers[TOP_NUMBERS_COUNT]; /* rates of counters, values of gauges */
        double sync_ms;                   /* mean since the sample before */
        double parked;                    /* of the groups that are told one by one */
        bool has_rates;
        struct curve appends, events, read, delivered, received, sent, syncs;
};

enum top_sort { TOP_BY_LAG, TOP_BY_AGE, TOP_BY_PARKED, TOP_BY_RATE, TOP_BY_NAME, TOP_SORTS };

struct top_view {
        const char *url; /* as it was given */
        const char *time; /* of the day */
        enum top_sort sort;
        unsigned node; /* the one that is shown at length */
        bool is_paused;
        bool has_keys; /* they are shown in the last row */
        double interval_seconds;
};

/* Reads a page of /metrics. False if it is none. */
bool top_read(const char *page, uint64_t at_us, struct top_sample *ret);
/* Takes the next sample: what came since the one before gives the rates. */
void top_take(struct top_node *node, const struct top_sample *sample);
void top_lost(struct top_node *node, const char *why);
void top_show(struct frame *f, struct top_node *nodes, unsigned count, const struct top_view *view);
void top_json(const struct top_node *nodes, unsigned count, const char *time, struct buffer *out);
/* The first that leads, else the first that answers, else the first. */
unsigned top_leader(const struct top_node *nodes, unsigned count);

#endif
