/* /stats: KurrentDB's groups of numbers (proc, sys, es), with what this server knows of them; what it has
 * beside them stands under "nilo": how far subscriptions are behind, how far the scrub is. */
#include "ops/room.h"

static void add_process(struct ops *ops, const struct ops_process *process, struct json_out *j)
{
        char started[OPS_TIME_SIZE];

        ops_time(ops->started_wall_us, started);
        json_key(j, "proc");
        json_object_begin(j);
        json_field_string(j, "startTime", started);
        json_field_u64(j, "mem", process->resident_bytes);
        json_field_u64(j, "threadsCount", process->threads);
        json_object_end(j);
}

static void add_machine(const struct ops_process *process, struct json_out *j)
{
        static const char *const periods[] = {"1m", "5m", "15m"};

        json_key(j, "sys");
        json_object_begin(j);
        json_field_u64(j, "freeMem", process->machine_memory_free_bytes);
        json_field_u64(j, "totalMem", process->machine_memory_bytes);
        json_key(j, "loadavg");
        json_object_begin(j);
        for (unsigned i = 0; i < COUNT_OF(periods); i++) {
                json_key(j, periods[i]);
                json_double(j, process->load_average[i]);
        }
        json_object_end(j);
        json_object_end(j);
}

static void add_lag(uint64_t events, uint64_t us, struct json_out *j)
{
        json_key(j, "max_lag");
        json_object_begin(j);
        json_field_u64(j, "events", events);
        json_key(j, "seconds");
        json_double(j, (double)us / 1e6);
        json_object_end(j);
}

static void add_durable(struct ops *ops, struct json_out *j)
{
        struct emitter_stats stats;

        json_key(j, "durable");
        if (!ops->emitter) {
                json_out_null(j);
                return;
        }
        emitter_stats(ops->emitter, &stats);
        json_object_begin(j);
        json_field_u64(j, "definitions", stats.subscriptions);
        json_field_u64(j, "consumers", stats.consumers);
        json_field_u64(j, "in_flight", stats.in_flight);
        json_field_u64(j, "delivered", stats.delivered);
        json_field_u64(j, "acknowledged", stats.acked);
        json_field_u64(j, "parked", stats.parked);
        add_lag(stats.max_lag_events, stats.max_lag_us, j);
        json_object_end(j);
}

static void add_catch_up(const struct notification *notification, struct json_out *j)
{
        struct notification_stats stats;

        json_key(j, "catch_up");
        if (!notification) {
                json_out_null(j);
                return;
        }
        notification_stats(notification, &stats);
        json_object_begin(j);
        json_field_u64(j, "open", stats.subscriptions);
        json_field_u64(j, "live", stats.subscriptions_live);
        json_field_u64(j, "delivered", stats.delivered);
        add_lag(stats.max_lag_events, stats.max_lag_us, j);
        json_object_end(j);
}

static void add_scrub(const struct store *store, struct json_out *j)
{
        struct store_stats stats;
        const struct persistence_scrub *scrub = &stats.persistence.scrub;
        char when[OPS_TIME_SIZE];

        json_key(j, "scrub");
        if (!store) {
                json_out_null(j);
                return;
        }
        store_stats(store, &stats);
        json_object_begin(j);
        json_field_bool(j, "on", scrub->is_on);
        json_field_bool(j, "under_way", scrub->is_under_way);
        json_field_u64(j, "read_bytes", scrub->done_bytes);
        json_field_u64(j, "all_bytes", scrub->total_bytes);
        json_field_u64(j, "found", scrub->found);
        json_field_u64(j, "found_since_start", scrub->found_total);
        json_field_u64(j, "passes", scrub->passes);
        if (scrub->began_us) {
                ops_time(scrub->began_us, when);
                json_field_string(j, "began", when);
        }
        if (scrub->finished_us) {
                ops_time(scrub->finished_us, when);
                json_field_string(j, "last_finished", when);
                json_field_u64(j, "last_found", scrub->last_found);
        }
        json_object_end(j);
}

void ops_stats_to_json(struct ops *ops, struct json_out *j)
{
        const struct store *store = gateway_store(ops->gateway);
        struct ops_process process;

        ops->process(ops->arg, &process);
        json_object_begin(j);
        add_process(ops, &process, j);
        add_machine(&process, j);
        json_key(j, "es");
        json_object_begin(j);
        if (store)
                json_field_u64(j, "checksum", store_next_position(store));
        json_object_end(j);
        json_key(j, "nilo");
        json_object_begin(j);
        json_key(j, "subscriptions");
        json_object_begin(j);
        add_durable(ops, j);
        add_catch_up(gateway_notification(ops->gateway), j);
        json_object_end(j);
        add_scrub(store, j);
        json_object_end(j);
        json_object_end(j);
}

void stats_get(void *arg, struct gateway_request *r)
{
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        ops_stats_to_json(arg, &j);
        ops_reply_json(r, 200, &out);
}
