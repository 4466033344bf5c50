/* A durable subscription as JSON: the same fields in lists, for one, and after each change of it. */
#include "api/room.h"

#include <stdio.h>

static const char *const measurement_names[] = {"mean", "median", "fastest", "quintile_1", "quintile_2",
        "quintile_3", "quintile_4", "quintile_5", "p90", "p95", "p99", "p99_5", "p99_9", "highest", "count"};
static_assert(COUNT_OF(measurement_names) == EMITTER_MEASUREMENTS, "each has a name");

static void number_or_null(struct json_out *j, const char *key, bool has, uint64_t number)
{
        json_key(j, key);
        if (has)
                json_u64(j, number);
        else
                json_out_null(j);
}

void lag_to_json(struct json_out *j, uint64_t events, uint64_t us)
{
        char seconds[48];

        json_key(j, "lag");
        json_object_begin(j);
        json_field_u64(j, "events", events);
        snprintf(seconds, sizeof seconds, "%llu.%06llu", (unsigned long long)(us / 1000000),
                (unsigned long long)(us % 1000000));
        json_key(j, "seconds");
        json_raw(j, bytes_of_string(seconds));
        json_object_end(j);
}

static void consumer_to_json(struct json_out *j, const struct consumer_info *c)
{
        json_object_begin(j);
        json_field_bytes(j, "name", c->name);
        json_field_bytes(j, "peer", c->peer);
        json_field_bytes(j, "user", c->user);
        json_field_u64(j, "window", c->window);
        json_field_u64(j, "in_flight", c->in_flight);
        json_field_u64(j, "delivered", c->total);
        json_field_u64(j, "per_second", c->per_second);
        if (c->has_measurements) {
                json_key(j, "measured_us");
                json_object_begin(j);
                for (unsigned i = 0; i < EMITTER_MEASUREMENTS; i++)
                        json_field_u64(j, measurement_names[i], c->measured_us[i]);
                json_object_end(j);
        }
        json_object_end(j);
}

static void whole_to_json(struct json_out *j, const struct emitter_info *info)
{
        json_key(j, "definition");
        emitter_definition_to_json(info->definition, j);
        json_key(j, "consumers");
        json_array_begin(j);
        for (unsigned i = 0; i < info->consumer_count; i++)
                consumer_to_json(j, &info->consumers[i]);
        json_array_end(j);
}

void subscription_to_json(struct json_out *j, const struct emitter_info *info, bool is_whole)
{
        bool is_of_stream = selector_kind(info->definition->selector) == SELECT_STREAM;

        json_object_begin(j);
        json_field_bytes(j, "stream", info->stream);
        json_field_bytes(j, "group", info->group);
        json_field_string(j, "state", info->state);
        if (info->problem && *info->problem)
                json_field_string(j, "problem", info->problem);
        json_field_bool(j, "paused", info->is_paused);
        lag_to_json(j, info->lag_events, info->lag_us);
        /* What the next two are. */
        json_field_string(j, "numbers", is_of_stream ? "revision" : "position");
        number_or_null(j, "checkpoint", info->has_checkpoint, info->checkpoint);
        number_or_null(j, "last", info->has_last, info->last);
        json_field_u64(j, "consumer_count", info->consumer_count);
        json_field_u64(j, "in_flight", info->in_flight);
        json_field_u64(j, "retries", info->retries);
        json_field_u64(j, "parked", info->parked);
        json_field_u64(j, "buffered", (uint64_t)info->history_buffered + info->live_buffered);
        json_field_u64(j, "delivered", info->total);
        json_field_u64(j, "per_second", info->per_second);
        if (is_whole)
                whole_to_json(j, info);
        json_object_end(j);
}
