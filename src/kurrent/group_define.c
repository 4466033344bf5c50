/* PersistentSubscriptions: Create, Update, Delete, ReplayParked, RestartSubsystem.
 *
 * Numbers of proto3 that are zero look as if they were absent, so a zero means the default wherever zero
 * itself would make no sense. Clients compare the settings that they read back with those that they sent. */
#include "kurrent/group.h"

enum { TICKS_OF_MS = 10 * 1000 };

typedef EventStore__Client__PersistentSubscriptions__CreateReq__Options define_request;
typedef EventStore__Client__PersistentSubscriptions__CreateReq__Settings settings_request;
typedef EventStore__Client__PersistentSubscriptions__CreateReq__AllOptions all_request;

/* A call that waits for the commit. */
struct changing {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct group group; /* in the call's arena */
};

/* ---- shared ---- */

const char *group_of(const EventStore__Client__StreamIdentifier *stream, bool is_all,
        ProtobufCBinaryData name, struct group *ret)
{
        ret->name = bytes_of_message(name);
        if (!ret->name.size)
                return "group_name is missing";
        if (is_all) {
                ret->stream = GROUP_ALL;
                return NULL;
        }
        return selection_of_name(stream, &ret->stream);
}

/* Whether a deleted stream is the reason, or the group itself has been deleted. */
static bool is_stream_gone(struct kurrent *k, struct bytes stream)
{
        struct store_stream_info info;

        return !bytes_equal(stream, GROUP_ALL) && gateway_store(k->gateway) &&
               !store_stream_info(gateway_store(k->gateway), stream, &info) &&
               info.state == STREAM_TOMBSTONED;
}

static enum refusal_kind kind_of(struct kurrent *k, const struct group *g, enum emitter_verdict verdict)
{
        switch (verdict) {
        case EMITTER_EXISTS:
                return REFUSAL_GROUP_EXISTS;
        case EMITTER_NOT_FOUND:
                return REFUSAL_GROUP_MISSING;
        case EMITTER_LIMIT:
        case EMITTER_BUSY:
                return REFUSAL_EXHAUSTED;
        case EMITTER_NOT_LEADER:
                return REFUSAL_NOT_LEADER;
        case EMITTER_UNKNOWN:
                return REFUSAL_TIMEOUT;
        case EMITTER_GONE:
                return is_stream_gone(k, g->stream) ? REFUSAL_STREAM_DELETED : REFUSAL_GROUP_MISSING;
        default:
                return REFUSAL_GROUP_FAILED;
        }
}

struct refusal group_refusal(
        struct kurrent *k, const struct group *g, enum emitter_verdict verdict, const char *problem)
{
        struct refusal refusal = {
                .kind = kind_of(k, g, verdict), .problem = problem, .stream = g->stream, .group = g->name};

        assert(verdict != EMITTER_OK);
        /* What clients look for there is at the beginning of the kind's own text. */
        if (refusal.kind == REFUSAL_TIMEOUT)
                refusal.problem = NULL;
        return refusal;
}

void group_refuse(struct kurrent *k, struct gateway_request *call, const struct group *g,
        enum emitter_verdict verdict, const char *problem)
{
        struct refusal refusal = group_refusal(k, g, verdict, problem);

        refusal_end_call(k, call, &refusal);
}

static void refuse_invalid(struct kurrent *k, struct gateway_request *call, const char *problem)
{
        struct refusal refusal = refusal_invalid(problem);

        refusal_end_call(k, call, &refusal);
}

struct emitter *group_begin(struct kurrent *k, struct gateway_request *call, const char *problem)
{
        struct refusal refusal = {.kind = REFUSAL_NOT_READY};

        if (!k->emitter)
                refusal_end_call(k, call, &refusal);
        else if (problem)
                refuse_invalid(k, call, problem);
        return problem ? NULL : k->emitter;
}

/* ---- the answer ---- */

/* All of them have an empty message. */
static void answer(struct gateway_request *call)
{
        gateway_message_begin(call);
        gateway_message_end(call);
        gateway_call_end(call, GRPC_OK, NULL);
}

static struct changing *begin(struct kurrent *k, struct gateway_request *call, const struct group *g)
{
        struct changing *c = arena_get(gateway_arena(call), sizeof(*c));

        *c = (struct changing){
                .kurrent = k,
                .call = call,
                .group = {arena_copy(gateway_arena(call), g->stream),
                        arena_copy(gateway_arena(call), g->name)},
        };
        gateway_call_hold(call);
        return c;
}

static void on_done(void *arg, enum emitter_verdict verdict, const char *problem)
{
        struct changing *c = arg;
        struct gateway_request *call = c->call;

        if (!gateway_call_is_over(call)) {
                if (verdict == EMITTER_OK)
                        answer(call);
                else
                        group_refuse(c->kurrent, call, &c->group, verdict, problem);
        }
        gateway_call_release(call);
}

/* ---- settings ---- */

struct number {
        int32_t value;
        uint32_t *to;
        const char *problem;
};

static const char *take_numbers(const settings_request *s, struct emitter_settings *ret)
{
        const struct number as_they_are[] = {
                {s->max_retry_count, &ret->max_retry_count, "max_retry_count is negative"},
                {s->min_checkpoint_count, &ret->min_checkpoint_count, "min_checkpoint_count is negative"},
                {s->max_subscriber_count, &ret->max_subscriber_count, "max_subscriber_count is negative"},
        };
        const struct number zero_is_default[] = {
                {s->max_checkpoint_count, &ret->max_checkpoint_count, "max_checkpoint_count is negative"},
                {s->live_buffer_size, &ret->live_buffer_size, "live_buffer_size is negative"},
                {s->read_batch_size, &ret->read_batch_size, "read_batch_size is negative"},
                {s->history_buffer_size, &ret->history_buffer_size, "history_buffer_size is negative"},
        };

        for (unsigned i = 0; i < COUNT_OF(as_they_are); i++) {
                if (as_they_are[i].value < 0)
                        return as_they_are[i].problem;
                *as_they_are[i].to = (uint32_t)as_they_are[i].value;
        }
        for (unsigned i = 0; i < COUNT_OF(zero_is_default); i++) {
                if (zero_is_default[i].value < 0)
                        return zero_is_default[i].problem;
                if (zero_is_default[i].value)
                        *zero_is_default[i].to = (uint32_t)zero_is_default[i].value;
        }
        return NULL;
}

/* Older clients give ticks of 100 ns. False: negative, or too long for the answer that shows it again. */
static bool take_time(int64_t value, bool is_in_ticks, uint32_t *ret_ms)
{
        int64_t ms = is_in_ticks ? value / TICKS_OF_MS : value;

        if (value < 0 || ms > INT32_MAX)
                return false;
        *ret_ms = (uint32_t)ms;
        return true;
}

static const char *take_times(const settings_request *s, struct emitter_settings *ret)
{
        switch (s->message_timeout_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__MESSAGE_TIMEOUT_MESSAGE_TIMEOUT_TICKS:
                if (!take_time(s->message_timeout_ticks, true, &ret->message_timeout_ms))
                        return "message_timeout is negative or too long";
                break;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__MESSAGE_TIMEOUT_MESSAGE_TIMEOUT_MS:
                if (!take_time(s->message_timeout_ms, false, &ret->message_timeout_ms))
                        return "message_timeout is negative or too long";
                break;
        default:
                break;
        }
        switch (s->checkpoint_after_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__CHECKPOINT_AFTER_CHECKPOINT_AFTER_TICKS:
                if (!take_time(s->checkpoint_after_ticks, true, &ret->checkpoint_after_ms))
                        return "checkpoint_after is negative or too long";
                break;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__SETTINGS__CHECKPOINT_AFTER_CHECKPOINT_AFTER_MS:
                if (!take_time(s->checkpoint_after_ms, false, &ret->checkpoint_after_ms))
                        return "checkpoint_after is negative or too long";
                break;
        default:
                break;
        }
        return NULL;
}

/* "PerStream" takes its lane from the name too, since the protocol has no field for it:
 * "PerStream:tag:customer". */
static bool take_strategy_name(struct bytes name, struct emitter_settings *ret)
{
        struct bytes per_stream = bytes_of_string(emitter_strategy_name(STRATEGY_PER_STREAM));

        if (bytes_starts_with(name, per_stream) && name.size > per_stream.size + 1 &&
                name.data[per_stream.size] == ':') {
                ret->strategy = STRATEGY_PER_STREAM;
                ret->lane_key = bytes_of(name.data + per_stream.size + 1, name.size - per_stream.size - 1);
                return true;
        }
        return emitter_strategy_parse(name, &ret->strategy);
}

static bool take_strategy(const settings_request *s, bool is_create, struct emitter_settings *ret)
{
        if (is_create && s->consumer_strategy.len)
                return take_strategy_name(bytes_of_message(s->consumer_strategy), ret);
        switch (s->named_consumer_strategy) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__CONSUMER_STRATEGY__DispatchToSingle:
                ret->strategy = STRATEGY_DISPATCH_TO_SINGLE;
                return true;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__CONSUMER_STRATEGY__RoundRobin:
                ret->strategy = STRATEGY_ROUND_ROBIN;
                return true;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__CONSUMER_STRATEGY__Pinned:
                ret->strategy = STRATEGY_PINNED;
                return true;
        default:
                return false;
        }
}

static bool take_settings(const settings_request *s, bool is_create, const struct group *g,
        struct emitter_settings *ret, struct refusal *ret_refusal)
{
        const char *problem;

        if (!s) {
                *ret_refusal = refusal_invalid("settings are missing");
                return false;
        }
        problem = take_numbers(s, ret);
        if (!problem)
                problem = take_times(s, ret);
        if (problem) {
                *ret_refusal = refusal_invalid(problem);
                return false;
        }
        if (!take_strategy(s, is_create, ret)) {
                *ret_refusal = (struct refusal){
                        .kind = REFUSAL_GROUP_FAILED,
                        .problem =
                                "there is no such consumer strategy: RoundRobin, DispatchToSingle, Pinned, "
                                "PinnedByCorrelation, PerStream",
                        .stream = g->stream,
                        .group = g->name,
                };
                return false;
        }
        ret->resolve_links = s->resolve_links;
        ret->extra_statistics = s->extra_statistics;
        return true;
}

/* ---- what it selects ---- */

static const char *take_all(struct kurrent *k, const all_request *o, struct selection *ret)
{
        const char *problem;

        switch (o->all_option_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__ALL_OPTION_START:
                ret->from = FROM_START;
                return NULL;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__ALL_OPTION_END:
                ret->from = FROM_END;
                return NULL;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__ALL_OPTION_POSITION:
                break;
        default:
                return "all_option is missing";
        }
        problem = selection_of_position(o->position->commit_position, ret);
        if (problem || ret->from != FROM_NUMBER)
                return problem;
        if (o->position->prepare_position > ret->number)
                return "the prepare position is above the commit position";
        if (ret->number >= store_next_position(gateway_store(k->gateway)))
                return "the position is behind the end of the log";
        return NULL;
}

/* NULL, or what is wrong. *ret_has_from is false where nothing says where to begin. */
static const char *take_selection(
        struct kurrent *k, const define_request *o, struct selection *ret, bool *ret_has_from)
{
        *ret_has_from = true;
        switch (o->stream_option_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_STREAM:
                return selection_of_stream(o->stream, ret);
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_ALL:
                return take_all(k, o->all, ret);
        default:
                *ret_has_from = o->settings != NULL;
                return o->settings ? selection_of_revision(o->settings->revision, ret) : NULL;
        }
}

static bool is_filtered(const define_request *o)
{
        return o->stream_option_case ==
                       EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_ALL &&
               o->all->filter_option_case ==
                       EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__ALL_OPTIONS__FILTER_OPTION_FILTER;
}

static bool take_selector(const define_request *o, struct bytes stream, struct arena *arena,
        struct selector **ret, struct refusal *ret_refusal)
{
        char *why = arena_get(arena, 256);
        struct filter_options filter;
        int r;

        if (is_filtered(o)) {
                if (!selection_filter(o->all->filter, arena, &filter, ret_refusal))
                        return false;
                r = selector_of_filter(&filter, ret, why, 256);
        } else if (bytes_equal(stream, GROUP_ALL)) {
                r = selector_of_names(SELECT_ALL, NULL, 0, ret, why, 256);
        } else {
                r = selector_of_names(SELECT_STREAM, &stream, 1, ret, why, 256);
        }
        if (r)
                *ret_refusal = refusal_invalid(why);
        return !r;
}

static const EventStore__Client__StreamIdentifier *stream_of(const define_request *o)
{
        return o->stream_option_case ==
                               EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_STREAM
                       ? o->stream->stream_identifier
                       : o->stream_identifier;
}

/* ---- Create and Update ---- */

static bool take_definition(struct kurrent *k, const define_request *o, bool is_create,
        struct emitter_definition *d, bool *ret_has_from, struct refusal *ret_refusal)
{
        struct selection at = {0};
        struct group g;
        bool is_all = o->stream_option_case ==
                      EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__CREATE_REQ__OPTIONS__STREAM_OPTION_ALL;
        const char *problem = group_of(stream_of(o), is_all, o->group_name, &g);

        if (!problem)
                problem = take_selection(k, o, &at, ret_has_from);
        if (problem) {
                *ret_refusal = refusal_invalid(problem);
                return false;
        }
        *d = (struct emitter_definition){
                .stream = g.stream,
                .group = g.name,
                .from = at.from,
                .number = at.number,
                .settings = emitter_settings_default,
        };
        return take_settings(o->settings, is_create, &g, &d->settings, ret_refusal);
}

static void note_target(void *arg, const struct emitter_info *info)
{
        *(enum emitter_target *)arg = info->definition->target;
}

/* A webhook takes events to where nobody is asked any more: whoever lets one follow links must be able to
 * read wherever they lead. */
static bool may_follow_links(struct emitter *e, struct gateway_request *call,
        const struct emitter_definition *d, struct refusal *ret)
{
        enum emitter_target target = TARGET_CLIENT;

        if (!d->settings.resolve_links || emitter_info(e, d->stream, d->group, note_target, &target) ||
                target != TARGET_WEBHOOK)
                return true;
        return call_may(call, ACCESS_READ, BYTES_LITERAL("$all"), ret);
}

static void define(struct kurrent *k, struct gateway_request *call, const define_request *o, bool is_create)
{
        struct emitter *e = group_begin(k, call, NULL);
        struct refusal refusal = refusal_invalid(GROUP_MALFORMED);
        struct emitter_definition d;
        struct selector *selector = NULL;
        struct changing *changing;
        bool has_from;

        if (!e)
                return;
        if (!o || !take_definition(k, o, is_create, &d, &has_from, &refusal) ||
                (is_create && !take_selector(o, d.stream, gateway_arena(call), &selector, &refusal)) ||
                (!is_create && !may_follow_links(e, call, &d, &refusal))) {
                refusal_end_call(k, call, &refusal);
                return;
        }
        changing = begin(k, call, &(struct group){d.stream, d.group});
        d.selector = selector;
        if (is_create)
                emitter_create(e, &d, on_done, changing);
        else
                emitter_update(e, &d, has_from, on_done, changing);
        selector_free(&selector);
}

static void on_create(void *arg, struct gateway_request *call, struct bytes message)
{
        const EventStore__Client__PersistentSubscriptions__CreateReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__create_req__descriptor,
                        gateway_arena(call), message);

        define(arg, call, request ? request->options : NULL, true);
}

static void on_update(void *arg, struct gateway_request *call, struct bytes message)
{
        const EventStore__Client__PersistentSubscriptions__UpdateReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__update_req__descriptor,
                        gateway_arena(call), message);

        define(arg, call, request ? request->options : NULL, false);
}

/* ---- Delete ---- */

static void on_delete(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__PersistentSubscriptions__DeleteReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__delete_req__descriptor,
                        gateway_arena(call), message);
        const EventStore__Client__PersistentSubscriptions__DeleteReq__Options *o =
                request ? request->options : NULL;
        const char *problem = GROUP_MALFORMED;
        struct emitter *e;
        struct group g;

        if (o)
                problem = group_of(o->stream_identifier,
                        o->stream_option_case ==
                                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__DELETE_REQ__OPTIONS__STREAM_OPTION_ALL,
                        o->group_name, &g);
        e = group_begin(k, call, problem);
        if (e)
                emitter_delete(e, g.stream, g.name, on_done, begin(k, call, &g));
}

/* ---- ReplayParked ---- */

static void replay(struct kurrent *k, struct gateway_request *call, struct emitter *e, const struct group *g,
        const EventStore__Client__PersistentSubscriptions__ReplayParkedReq__Options *o)
{
        uint64_t stop_at = UINT64_MAX;

        switch (o->stop_at_option_case) {
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__REPLAY_PARKED_REQ__OPTIONS__STOP_AT_OPTION_STOP_AT:
                if (o->stop_at < 0) {
                        group_refuse(k, call, g, EMITTER_INVALID, "stop_at is negative");
                        return;
                }
                stop_at = (uint64_t)o->stop_at;
                break;
        case EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__REPLAY_PARKED_REQ__OPTIONS__STOP_AT_OPTION_NO_LIMIT:
                break;
        default:
                refuse_invalid(k, call, "stop_at_option is missing");
                return;
        }
        emitter_replay_parked(e, g->stream, g->name, stop_at, UINT64_MAX, on_done, begin(k, call, g));
}

static void on_replay(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__PersistentSubscriptions__ReplayParkedReq *request =
                message_unpack(&event_store__client__persistent_subscriptions__replay_parked_req__descriptor,
                        gateway_arena(call), message);
        const EventStore__Client__PersistentSubscriptions__ReplayParkedReq__Options *o =
                request ? request->options : NULL;
        const char *problem = GROUP_MALFORMED;
        struct emitter *e;
        struct group g;

        if (o)
                problem = group_of(o->stream_identifier,
                        o->stream_option_case ==
                                EVENT_STORE__CLIENT__PERSISTENT_SUBSCRIPTIONS__REPLAY_PARKED_REQ__OPTIONS__STREAM_OPTION_ALL,
                        o->group_name, &g);
        e = group_begin(k, call, problem);
        if (e)
                replay(k, call, e, &g, o);
}

/* ---- RestartSubsystem ---- */

static void on_restart(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct emitter *e = group_begin(k, call, NULL);
        enum emitter_verdict verdict;

        (void)message; /* empty, whatever is in it */
        if (!e)
                return;
        verdict = emitter_restart(e);
        if (verdict == EMITTER_OK)
                answer(call);
        else
                group_refuse(k, call, &(struct group){0}, verdict, NULL);
}

/* ---- methods ---- */

static struct gateway_method method_of(const char *name, uint64_t message_size_max,
        void (*on_message)(void *arg, struct gateway_request *call, struct bytes message))
{
        return (struct gateway_method){
                .service = GROUP_SERVICE,
                .name = name,
                .features = GROUP_FEATURES,
                .access = ACCESS_OPS,
                .message_size_max = message_size_max,
                .on_message = on_message,
        };
}

void group_create_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("Create", READ_MESSAGE_SIZE_MAX, on_create);
}

void group_update_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("Update", READ_MESSAGE_SIZE_MAX, on_update);
}

void group_delete_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("Delete", SMALL_MESSAGE_SIZE_MAX, on_delete);
}

void group_replay_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("ReplayParked", SMALL_MESSAGE_SIZE_MAX, on_replay);
}

void group_restart_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("RestartSubsystem", SMALL_MESSAGE_SIZE_MAX, on_restart);
}
