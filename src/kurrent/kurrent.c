#include "kurrent/kurrent.h"

#include <stdlib.h>

#include "kurrent/group.h"
#include "kurrent/room.h"

/* ---- what only the leader does ---- */

bool call_requires_leader(const struct gateway_request *call)
{
        struct bytes value;

        return gateway_header(call, "requires-leader", &value) && value.size == 4 &&
               strncasecmp((const char *)value.data, "true", 4) == 0;
}

static bool is_method(const struct gateway_method *method, struct bytes path)
{
        size_t service = strlen(method->service);

        return path.size == service + strlen(method->name) + 2 &&
               memcmp(path.data + 1, method->service, service) == 0 &&
               memcmp(path.data + service + 2, method->name, strlen(method->name)) == 0;
}

/* Groups are served where the leader's duties are; also a call that was begun there ends when they are no
 * more. */
static void on_message_of_leader(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct refusal refusal = {.kind = REFUSAL_NOT_LEADER};
        unsigned i = 0;

        if (k->membership && !membership_is_leading(k->membership)) {
                refusal_end_call(k, call, &refusal);
                return;
        }
        while (!k->on_message[i] || !is_method(&k->methods[i], gateway_path(call)))
                i++;
        k->on_message[i](arg, call, message);
}

static void keep_for_leader(struct kurrent *k, unsigned i)
{
        if (strcmp(k->methods[i].service, GROUP_SERVICE) != 0 &&
                strcmp(k->methods[i].name, "RestartPersistentSubscriptions") != 0)
                return;
        k->on_message[i] = k->methods[i].on_message;
        k->methods[i].on_message = on_message_of_leader;
}

/* ---- life ---- */

void kurrent_open(const struct kurrent_options *options, struct kurrent **ret)
{
        static void (*const methods[])(struct kurrent *, struct gateway_method *) = {
                append_method,
                batch_append_method,
                read_method,
                delete_method,
                tombstone_method,
                features_method,
                gossip_method,
                group_create_method,
                group_update_method,
                group_delete_method,
                group_read_method,
                group_info_method,
                group_list_method,
                group_replay_method,
                group_restart_method,
                append_session_method,
                append_records_method,
                stats_method,
                shutdown_method,
                resign_method,
                restart_groups_method,
        };
        struct kurrent *k = MEMORY_NEW(struct kurrent);

        static_assert(COUNT_OF(methods) + USERS_METHODS == METHODS_MAX, "each method has its place");
        k->os = options->os;
        k->control = options->control;
        k->gateway = options->gateway;
        k->host = memory_copy_string(options->host);
        memcpy(k->node_uuid, options->node_uuid, sizeof(k->node_uuid));
        k->stats_to_json = options->stats_to_json;
        k->shut_down = options->shut_down;
        k->arg = options->arg;
        drafts_watch(k, options->memory_size);
        for (unsigned i = 0; i < COUNT_OF(methods); i++)
                methods[i](k, &k->methods[i]);
        users_methods(&k->methods[COUNT_OF(methods)]);
        for (unsigned i = 0; i < METHODS_MAX; i++) {
                k->methods[i].arg = k;
                keep_for_leader(k, i);
        }
        gateway_add_methods(k->gateway, k->methods, METHODS_MAX);
        *ret = k;
}

void kurrent_serve(struct kurrent *k, struct emitter *emitter)
{
        k->emitter = emitter;
}

void kurrent_join(struct kurrent *k, struct membership *membership)
{
        k->membership = membership;
}

void kurrent_close(struct kurrent **kurrent)
{
        struct kurrent *k = *kurrent;

        if (!k)
                return;
        *kurrent = NULL;
        drafts_unwatch(k);
        buffer_fini(&k->scratch);
        buffer_fini(&k->record_metadata);
        arena_fini(&k->record_scratch);
        free(k->host);
        free(k);
}

/* ---- shared by the methods that write ---- */

void publish_write_requested(struct kurrent *k, uint64_t write_id, struct bytes stream, unsigned count)
{
        struct fact_payload payload = {.write_id = write_id, .count = count};

        fact_set_stream(&payload, stream, name_hash(stream));
        control_publish(k->control, FACT_stream_write_requested, &payload);
}

bool options_are_complete(const struct wire_options *options, struct refusal *ret)
{
        const char *problem = NULL;

        if (!options->has_stream)
                problem = "stream_identifier is missing";
        else if (!options->has_expected)
                problem = "the expected revision is missing";
        else if (options->expected.kind == EXPECTED_EXACT && options->expected.revision >= REVISION_MAX)
                problem = "the expected revision is above 2^63-2";
        if (problem)
                *ret = refusal_invalid(problem);
        return !problem;
}
