/* Monitoring/Stats: the numbers of /stats, under the flat names that KurrentDB gives them ("proc-mem"), again
 * and again until the client ends the call. The period is the client's within bounds; who reads slower than
 * that misses some. What use_metadata asks for, units and titles, does not exist here. */
#include "base/json_in.h"
#include "kurrent/monitoring.pb-c.h"
#include "kurrent/room.h"

enum {
        MONITORS_MAX = 64, /* open calls of all clients */
        PERIOD_MIN_MS = 500,
        PERIOD_MAX_MS = 3600 * 1000,
        DEPTH_MAX = 8, /* of the groups */
        NAME_SIZE_MAX = 256,
        ENTRY_KEY = 1,
        ENTRY_VALUE = 2,
        RESPONSE_STATS = 1,
};

struct monitor {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct os_timer timer;
        uint64_t period_us;
};

/* ---- flat names ---- */

struct flattening {
        struct json_in in;
        struct arena arena;
        struct buffer name; /* of the group at hand, with a hyphen at its end */
        struct buffer *out;
};

static void add_field(struct buffer *out, uint32_t number, struct bytes text)
{
        buffer_add_varint(out, number << 3 | WIRE_BYTES);
        buffer_add_varint(out, text.size);
        buffer_add_bytes(out, text);
}

static void add_entry(struct flattening *f, struct bytes value)
{
        struct bytes name = buffer_bytes(&f->name);
        size_t size = 2 + varint_size(name.size) + name.size + varint_size(value.size) + value.size;

        buffer_add_varint(f->out, RESPONSE_STATS << 3 | WIRE_BYTES);
        buffer_add_varint(f->out, size);
        add_field(f->out, ENTRY_KEY, name);
        add_field(f->out, ENTRY_VALUE, value);
}

static bool flatten_value(struct flattening *f)
{
        struct bytes value;

        if (json_in_kind(&f->in) == JSON_STRING_IN) {
                if (!json_in_string(&f->in, &f->arena, &value))
                        return false;
        } else if (!json_in_value(&f->in, &value)) {
                return false;
        }
        /* What is not known now has no number. */
        if (!bytes_equal_string(value, "null"))
                add_entry(f, value);
        return true;
}

static bool flatten_group(struct flattening *f, unsigned depth)
{
        size_t name_size = f->name.size;
        bool is_empty, has_more;
        struct bytes key;

        if (depth == DEPTH_MAX || !json_in_open(&f->in, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                if (!json_in_key(&f->in, &f->arena, &key) || name_size + key.size >= NAME_SIZE_MAX)
                        return false;
                f->name.size = name_size;
                if (name_size)
                        buffer_add_u8(&f->name, '-');
                buffer_add_bytes(&f->name, key);
                if (!(json_in_kind(&f->in) == JSON_OBJECT_IN ? flatten_group(f, depth + 1)
                                                             : flatten_value(f)) ||
                        !json_in_more(&f->in, '{', &has_more))
                        return false;
        }
        f->name.size = name_size;
        return true;
}

/* ---- the call ---- */

static void tell(struct monitor *m)
{
        struct kurrent *k = m->kurrent;
        struct buffer text = {0};
        struct json_out json = {.out = &text};
        struct flattening f = {0};
        bool is_whole;

        k->stats_to_json(k->arg, &json);
        json_in_begin(&f.in, buffer_bytes(&text), 1);
        f.out = gateway_message_begin(m->call);
        is_whole = flatten_group(&f, 0);
        assert(is_whole); /* it is our own */
        (void)is_whole;
        gateway_message_end(m->call);
        arena_fini(&f.arena);
        buffer_fini(&f.name);
        buffer_fini(&text);
}

static void on_timer(struct os_timer *timer)
{
        struct monitor *m = timer->arg;

        if (gateway_stream_room(m->call))
                tell(m);
        os_timer_start(m->kurrent->os, timer, m->period_us);
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Monitoring__StatsReq *request = message_unpack(
                &event_store__client__monitoring__stats_req__descriptor, gateway_arena(call), message);
        struct refusal refusal = refusal_invalid("the request is malformed");
        struct monitor *m;

        if (request && k->monitor_count == MONITORS_MAX)
                refusal = (struct refusal){.kind = REFUSAL_EXHAUSTED,
                        .problem = "too many calls are told the numbers of this server",
                        .limit = MONITORS_MAX};
        if (!request || k->monitor_count == MONITORS_MAX) {
                refusal_end_call(k, call, &refusal);
                return;
        }
        m = arena_get(gateway_arena(call), sizeof(*m));
        *m = (struct monitor){.kurrent = k, .call = call};
        m->timer = (struct os_timer){.fn = on_timer, .arg = m};
        m->period_us = 1000 * MAX(MIN(request->refresh_time_period_in_ms, (uint64_t)PERIOD_MAX_MS),
                                      (uint64_t)PERIOD_MIN_MS);
        gateway_call_set_state(call, m);
        k->monitor_count++;
        tell(m);
        os_timer_start(k->os, &m->timer, m->period_us);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct kurrent *k = arg;
        struct monitor *m = gateway_call_state(call);

        if (!m)
                return;
        assert(k->monitor_count > 0);
        k->monitor_count--;
        os_timer_stop(&m->timer);
}

void stats_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.monitoring.Monitoring",
                .name = "Stats",
                .features = "",
                .access = ACCESS_USER,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_message,
                .on_gone = on_gone,
        };
}
