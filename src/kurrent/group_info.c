/* PersistentSubscriptions: GetInfo and List. Numbers are written as texts in which clients find the settings
 * and the positions again: "" for none, a revision, "C:x/P:y" for a position, -1 for the end. */
#include <stdio.h>

#include "kurrent/group.h"

enum {
        PLACE_SIZE = 64,
        MEASUREMENTS_SHOWN = EMITTER_MEASUREMENTS - 1, /* their count has no name in the protocol */
        /* What clients take; a list of more than that is asked for stream by stream. */
        LIST_SIZE_MAX = GRPC_MESSAGE_SIZE_MAX - 64 * 1024,
        LISTED_PER_TURN = 256, /* others get their turn */
        US_OF_MS = 1000,
};

typedef EventStore__Client__PersistentSubscriptions__SubscriptionInfo info_message;
typedef EventStore__Client__PersistentSubscriptions__SubscriptionInfo__ConnectionInfo connection_message;
typedef EventStore__Client__PersistentSubscriptions__SubscriptionInfo__Measurement measurement_message;

static const char *const measurement_names[MEASUREMENTS_SHOWN] = {"Mean", "Median", "Fastest", "Quintile 1",
        "Quintile 2", "Quintile 3", "Quintile 4", "Quintile 5", "90%", "95%", "99%", "99.5%", "99.9%",
        "Highest"};

/* ---- pieces ---- */

static int32_t narrow(uint64_t n)
{
        return (int32_t)MIN(n, (uint64_t)INT32_MAX);
}

/* The generated code has no const; packing only reads. */
static char *text_of(const char *text)
{
        return (char *)(uintptr_t)text;
}

/* By the name, as clients do: what the server selects by type or payload has a name of its own, and its
 * positions are written as revisions are, or clients could not read the list that it is in. */
static bool is_of_all(const struct emitter_info *i)
{
        return bytes_equal(i->stream, GROUP_ALL);
}

static void write_place(const struct emitter_info *i, bool has, uint64_t number, char ret[PLACE_SIZE])
{
        unsigned long long n = number;

        if (!has)
                *ret = 0;
        else if (is_of_all(i))
                snprintf(ret, PLACE_SIZE, "C:%llu/P:%llu", n, n);
        else
                snprintf(ret, PLACE_SIZE, "%llu", n);
}

static void write_start(const struct emitter_info *i, char ret[PLACE_SIZE])
{
        const struct emitter_definition *d = i->definition;

        if (d->from == FROM_END)
                snprintf(ret, PLACE_SIZE, "%s", is_of_all(i) ? "C:-1/P:-1" : "-1");
        else
                write_place(i, true, d->from == FROM_NUMBER ? d->number : 0, ret);
}

/* The protocol's words. */
static const char *status_of(const struct emitter_info *i)
{
        if (i->is_paused || strcmp(i->state, "failed") == 0)
                return "NotReady";
        if (i->is_live || !i->lag_events)
                return "Live";
        return "Behind";
}

static struct bytes strategy_of(const struct emitter_settings *s, struct arena *arena)
{
        struct bytes name = bytes_of_string(emitter_strategy_name(s->strategy));
        struct buffer both = {0};
        struct bytes copy;

        if (!s->lane_key.size)
                return name;
        buffer_add_bytes(&both, name);
        buffer_add_string(&both, ":");
        buffer_add_bytes(&both, s->lane_key);
        copy = arena_copy(arena, buffer_bytes(&both));
        buffer_fini(&both);
        return copy;
}

/* ---- connections ---- */

static void add_measurements(struct arena *arena, connection_message *m, const struct consumer_info *c)
{
        measurement_message *all = arena_get(arena, MEASUREMENTS_SHOWN * sizeof(*all));

        m->observed_measurements = arena_get(arena, MEASUREMENTS_SHOWN * sizeof(*m->observed_measurements));
        m->n_observed_measurements = MEASUREMENTS_SHOWN;
        for (unsigned i = 0; i < MEASUREMENTS_SHOWN; i++) {
                event_store__client__persistent_subscriptions__subscription_info__measurement__init(&all[i]);
                all[i].key = text_of(measurement_names[i]);
                all[i].value = (c->measured_us[i] + US_OF_MS / 2) / US_OF_MS;
                m->observed_measurements[i] = &all[i];
        }
}

static connection_message *connection_of(struct arena *arena, const struct consumer_info *c)
{
        connection_message *m = arena_get(arena, sizeof(*m));

        event_store__client__persistent_subscriptions__subscription_info__connection_info__init(m);
        m->from = message_bytes(c->peer);
        m->username = message_bytes(c->user);
        m->average_items_per_second = narrow(c->per_second);
        m->total_items = (int64_t)c->total;
        m->count_since_last_measurement = (int64_t)c->since_last;
        m->available_slots = narrow(c->window - MIN(c->in_flight, c->window));
        m->in_flight_messages = narrow(c->in_flight);
        m->connection_name = message_bytes(c->name);
        if (c->has_measurements)
                add_measurements(arena, m, c);
        return m;
}

static void add_connections(struct arena *arena, info_message *m, const struct emitter_info *i)
{
        m->connections = arena_get(arena, i->consumer_count * sizeof(*m->connections));
        m->n_connections = i->consumer_count;
        for (unsigned n = 0; n < i->consumer_count; n++)
                m->connections[n] = connection_of(arena, &i->consumers[n]);
}

/* ---- a subscription ---- */

static void set_settings(info_message *m, const struct emitter_settings *s, struct arena *arena)
{
        m->resolve_link_tos = s->resolve_links;
        m->message_timeout_milliseconds = narrow(s->message_timeout_ms);
        m->extra_statistics = s->extra_statistics;
        m->max_retry_count = narrow(s->max_retry_count);
        m->live_buffer_size = narrow(s->live_buffer_size);
        m->buffer_size = narrow(s->history_buffer_size);
        m->read_batch_size = narrow(s->read_batch_size);
        m->check_point_after_milliseconds = narrow(s->checkpoint_after_ms);
        m->min_check_point_count = narrow(s->min_checkpoint_count);
        m->max_check_point_count = narrow(s->max_checkpoint_count);
        m->named_consumer_strategy = message_bytes(strategy_of(s, arena));
        m->max_subscriber_count = narrow(s->max_subscriber_count);
}

/* Packs `i` as field 1 of the answer: the only one of GetInfo, one of many of List. */
static void pack_info(struct arena *arena, const struct emitter_info *i, struct buffer *out)
{
        char start[PLACE_SIZE], checkpoint[PLACE_SIZE], last[PLACE_SIZE];
        info_message m;

        write_start(i, start);
        write_place(i, i->has_checkpoint, i->checkpoint, checkpoint);
        write_place(i, i->has_last, i->last, last);
        event_store__client__persistent_subscriptions__subscription_info__init(&m);
        m.event_source = message_bytes(i->stream);
        m.group_name = message_bytes(i->group);
        m.status = text_of(status_of(i));
        m.start_from = start;
        m.last_checkpointed_event_position = checkpoint;
        m.last_known_event_position = last;
        m.average_per_second = narrow(i->per_second);
        m.total_items = (int64_t)i->total;
        m.count_since_last_measurement = (int64_t)i->since_last;
        m.read_buffer_count = narrow(i->history_buffered);
        m.live_buffer_count = narrow(i->live_buffered);
        m.retry_buffer_count = narrow(i->retries);
        m.total_in_flight_messages = narrow(i->in_flight);
        m.outstanding_messages_count = narrow(i->in_flight);
        m.parked_message_count = (int64_t)i->parked;
        set_settings(&m, &i->definition->settings, arena);
        add_connections(arena, &m, i);
        buffer_add_u8(out, 1 << 3 | WIRE_BYTES);
        buffer_add_varint(out, protobuf_c_message_get_packed_size(&m.base));
        message_pack(&m.base, out);
}

/* ---- GetInfo ---- */

struct telling {
        struct arena arena;
        struct buffer out;
};

static void tell(void *arg, const struct emitter_info *info)
{
        struct telling *t = arg;

        pack_info(&t->arena, info, &t->out);
}

static void answer_with(struct gateway_request *call, const struct buffer *message)
{
        buffer_add_bytes(gateway_message_begin(call), buffer_bytes(message));
        gateway_message_end(call);
        gateway_call_end(call, GRPC_OK, NULL);
}

static void refuse(
        struct kurrent *k, struct gateway_request *call, enum refusal_kind kind, const char *problem)
{
        struct refusal refusal = {.kind = kind, .problem = problem};

        refusal_end_call(k, call, &refusal);
}

static void info(struct kurrent *k, struct gateway_request *call, struct emitter *e, const struct group *g)
{
        struct telling telling = {0};
        enum emitter_verdict verdict = emitter_info(e, g->stream, g->name, tell, &telling);

        if (verdict)
                group_refuse(k, call, g, verdict, NULL);
        else
                answer_with(call, &telling.out);
        buffer_fini(&telling.out);
        arena_fini(&telling.arena);
}

static void on_info(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__PersistentSubscriptions__GetInfoReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__get_info_req__descriptor,
                        gateway_arena(call), message);
        const EventStore__Client__PersistentSubscriptions__GetInfoReq__Options *o =
                request ? request->options : NULL;
        const char *problem = GROUP_MALFORMED;
        struct emitter *e;
        struct group g;

        if (o)
                problem = group_of(o->stream_identifier,
                        o->stream_option_case ==
                                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__GET_INFO_REQ__OPTIONS__STREAM_OPTION_ALL,
                        o->group_name, &g);
        e = group_begin(k, call, problem);
        if (e)
                info(k, call, e, &g);
}

/* ---- List ---- */

/* NULL, or what is wrong. *ret: empty for all subscriptions. */
static const char *take_stream(
        const EventStore__Client__PersistentSubscriptions__ListReq__Options *o, struct bytes *ret)
{
        const EventStore__Client__PersistentSubscriptions__ListReq__StreamOption *stream;

        *ret = BYTES_EMPTY;
        switch (o->list_option_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__OPTIONS__LIST_OPTION_LIST_ALL_SUBSCRIPTIONS:
                return NULL;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__OPTIONS__LIST_OPTION_LIST_FOR_STREAM:
                break;
        default:
                return "list_option is missing";
        }
        stream = o->list_for_stream;
        switch (stream->stream_option_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__LIST_REQ__STREAM_OPTION__STREAM_OPTION_ALL:
                *ret = GROUP_ALL;
                return NULL;
        default:
                return selection_of_name(stream->stream, ret);
        }
}

/* A list that grows turn by turn, in the order of the keys; what changes meanwhile is in it or not. */
struct listing {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct bytes stream; /* in the call's arena; empty: all */
        struct arena arena;  /* emptied for each */
        struct buffer message;
        struct buffer last; /* the key of the newest */
        size_t held;        /* booked with kurrent */
};

static void add_to_list(void *arg, const struct emitter_info *info)
{
        struct listing *l = arg;

        arena_reset(&l->arena);
        pack_info(&l->arena, info, &l->message);
        buffer_clear(&l->last);
        buffer_add_bytes(&l->last, info->stream);
        buffer_add_string(&l->last, "::");
        buffer_add_bytes(&l->last, info->group);
}

static void book(struct listing *l, size_t size)
{
        l->kurrent->lists_size = l->kurrent->lists_size - l->held + size;
        l->held = size;
}

static void close_list(struct listing *l)
{
        book(l, 0);
        buffer_fini(&l->message);
        buffer_fini(&l->last);
        arena_fini(&l->arena);
}

static void end_list(struct listing *l)
{
        if (!l->message.size && l->stream.size)
                group_refuse(
                        l->kurrent, l->call, &(struct group){.stream = l->stream}, EMITTER_NOT_FOUND, NULL);
        else
                answer_with(l->call, &l->message);
        close_list(l);
}

static void refuse_list(struct listing *l, enum refusal_kind kind, const char *problem)
{
        refuse(l->kurrent, l->call, kind, problem);
        close_list(l);
}

static void go_on(struct listing *l)
{
        struct emitter *e = l->kurrent->emitter;
        /* No group has an empty name: this only asks whether there are duties here. */
        bool is_served = e && emitter_info(e, GROUP_ALL, BYTES_EMPTY, add_to_list, l) == EMITTER_NOT_FOUND;
        unsigned count = 0;

        if (!is_served) {
                refuse_list(l, REFUSAL_NOT_READY, NULL);
                return;
        }
        count = emitter_each(e, l->stream, buffer_bytes(&l->last), LISTED_PER_TURN, add_to_list, l);
        book(l, l->message.size);
        if (l->message.size > LIST_SIZE_MAX)
                refuse_list(l, REFUSAL_EXHAUSTED, "the list is larger than clients take; list by stream");
        else if (l->kurrent->lists_size > LISTS_SIZE_MAX)
                refuse_list(l, REFUSAL_EXHAUSTED, "too many long lists are being made; try again");
        else if (count == LISTED_PER_TURN)
                gateway_call_wake(l->call);
        else
                end_list(l);
}

static void on_writable(void *arg, struct gateway_request *call)
{
        struct listing *l = gateway_call_state(call);

        (void)arg;
        if (l)
                go_on(l);
}

static void on_gone(void *arg, struct gateway_request *call)
{
        struct listing *l = gateway_call_state(call);

        (void)arg;
        if (l)
                close_list(l);
}

static void list(struct kurrent *k, struct gateway_request *call, struct bytes stream)
{
        struct listing *l = arena_get(gateway_arena(call), sizeof(*l));

        *l = (struct listing){.kurrent = k, .call = call, .stream = arena_copy(gateway_arena(call), stream)};
        gateway_call_set_state(call, l);
        go_on(l);
}

static void on_list(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__PersistentSubscriptions__ListReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__list_req__descriptor,
                        gateway_arena(call), message);
        const char *problem = GROUP_MALFORMED;
        struct bytes stream;

        if (request && request->options)
                problem = take_stream(request->options, &stream);
        if (problem)
                refuse(k, call, REFUSAL_INVALID, problem);
        else
                list(k, call, stream);
}

void group_info_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = GROUP_SERVICE,
                .name = "GetInfo",
                .features = GROUP_FEATURES,
                .access = ACCESS_USER,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_info,
        };
}

void group_list_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = GROUP_SERVICE,
                .name = "List",
                .features = GROUP_FEATURES,
                .access = ACCESS_USER,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_list,
                .on_writable = on_writable,
                .on_gone = on_gone,
        };
}
