/* /info, /info/options and /gossip: KurrentDB's bodies. What /info has beside them stands under "nilo". Where
 * users are known, strangers see of it what every client needs; /v1/info has all of it, for operators. */
#include "ops/room.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/limits.h"

static const struct {
        const char *name;
        uint64_t value;
} limits[] = {
        {"event_size", LIMIT_EVENT_SIZE_MAX},
        {"append_size", LIMIT_APPEND_SIZE_MAX},
        {"append_events", LIMIT_APPEND_EVENTS_MAX},
        {"append_streams", LIMIT_APPEND_STREAMS_MAX},
        {"stream_name_size", LIMIT_STREAM_NAME_SIZE_MAX},
        {"event_type_size", LIMIT_EVENT_TYPE_SIZE_MAX},
        {"content_type_size", LIMIT_CONTENT_TYPE_SIZE_MAX},
        {"metadata_size", LIMIT_METADATA_SIZE_MAX},
        {"tags", LIMIT_TAGS_MAX},
        {"tag_size", LIMIT_TAG_SIZE_MAX},
        {"filter_prefixes", LIMIT_FILTER_PREFIXES_MAX},
        {"filter_regex_size", LIMIT_FILTER_REGEX_SIZE_MAX},
        {"idempotency_window_ids", LIMIT_IDEMPOTENCY_WINDOW_IDS},
        {"fact_streams", OPS_FACT_STREAMS_MAX},
};

static void add_store(struct ops *ops, struct json_out *j)
{
        struct store *store = gateway_store(ops->gateway);
        struct store_stats stats;

        json_key(j, "store");
        if (!store) {
                json_out_null(j);
                return;
        }
        store_stats(store, &stats);
        json_object_begin(j);
        json_field_string(j, "name", store_name(store));
        json_field_string(j, "uuid", persistence_store_uuid(store_persistence(store)));
        if (!ops->is_memory_only)
                json_field_string(j, "path", persistence_store_path(store_persistence(store)));
        json_field_u64(j, "next_position", store_next_position(store));
        json_field_u64(j, "events", stats.persistence.events);
        json_field_u64(j, "segments", stats.persistence.segments);
        json_field_u64(j, "log_bytes", stats.persistence.log_bytes);
        json_field_u64(j, "index_bytes", stats.persistence.index_bytes);
        json_field_u64(j, "free_bytes", stats.persistence.free_bytes);
        json_field_bool(j, "is_full", stats.persistence.is_full);
        json_field_u64(j, "term", stats.term);
        json_field_u64(j, "leader_id", stats.leader_id);
        json_object_end(j);
}

static void add_limit(void *arg, const char *name, uint64_t value, const char *text)
{
        (void)text;
        json_field_u64(arg, name, value);
}

static void add_nilo(struct ops *ops, bool is_whole, struct json_out *j)
{
        char started[OPS_TIME_SIZE];

        ops_time(ops->started_wall_us, started);
        json_object_begin(j);
        json_field_string(j, "version", NILO_VERSION);
        json_field_string(j, "node", ops->node_name);
        json_field_bool(j, "ready", ops_is_ready(ops));
        json_field_string(j, "pending", ops_pending(ops));
        json_field_bool(j, "memory_only", ops->is_memory_only);
        json_field_string(j, "started", started);
        json_key(j, "uptime_seconds");
        json_double(j, (double)(os_monotonic_us(ops->os) - ops->started_us) / 1e6);
        json_key(j, "limits");
        json_object_begin(j);
        for (unsigned i = 0; i < COUNT_OF(limits); i++)
                json_field_u64(j, limits[i].name, limits[i].value);
        gateway_each_limit(ops->gateway, add_limit, j);
        json_object_end(j);
        if (is_whole) {
                json_key(j, "options");
                ops->config_to_json(ops->arg, j);
                add_store(ops, j);
        }
        json_object_end(j);
}

/* Before the data directory is open, and where nobody else can be: this node. */
static unsigned look_at_nodes(struct ops *ops, struct membership_node nodes[CLUSTER_MEMBERS_MAX])
{
        if (ops->membership)
                return membership_nodes(ops->membership, nodes, CLUSTER_MEMBERS_MAX);
        nodes[0] = (struct membership_node){.is_alive = true,
                .is_self = true,
                .state = ops_is_ready(ops) ? MEMBERSHIP_LEADER : MEMBERSHIP_INITIALIZING,
                .port = gateway_port(ops->gateway)};
        memcpy(nodes[0].instance, ops->node_uuid, sizeof nodes[0].instance);
        snprintf(nodes[0].host, sizeof nodes[0].host, "%s", ops->host);
        return 1;
}

/* In lower case, as KurrentDB writes it here. */
static const char *state_of(struct ops *ops)
{
        static const char *const names[MEMBERSHIP_STATES] = {
                [MEMBERSHIP_INITIALIZING] = "initializing",
                [MEMBERSHIP_UNKNOWN] = "unknown",
                [MEMBERSHIP_DISCOVER_LEADER] = "discoverleader",
                [MEMBERSHIP_CATCHING_UP] = "catchingup",
                [MEMBERSHIP_FOLLOWER] = "follower",
                [MEMBERSHIP_LEADER] = "leader",
                [MEMBERSHIP_READ_ONLY_LEADERLESS] = "readonlyleaderless",
                [MEMBERSHIP_READ_ONLY_REPLICA] = "readonlyreplica",
        };
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        unsigned count = look_at_nodes(ops, nodes);

        for (unsigned i = 0; i < count && ops_is_ready(ops); i++)
                if (nodes[i].is_self)
                        return names[nodes[i].state];
        return names[MEMBERSHIP_INITIALIZING];
}

static void reply_info(struct ops *ops, struct gateway_request *r, bool is_whole)
{
        bool has_users = gateway_access(ops->gateway) != NULL;
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "dbVersion", OPS_KURRENTDB_VERSION);
        json_field_string(&j, "esVersion", OPS_KURRENTDB_VERSION);
        json_field_string(&j, "state", state_of(ops));
        json_key(&j, "features");
        json_object_begin(&j);
        json_field_bool(&j, "projections", false);
        json_field_bool(&j, "userManagement", has_users);
        json_field_bool(&j, "atomPub", false);
        json_object_end(&j);
        json_key(&j, "authentication");
        json_object_begin(&j);
        json_field_string(&j, "type", has_users ? "internal" : "insecure");
        json_key(&j, "properties");
        json_object_begin(&j);
        json_object_end(&j);
        json_object_end(&j);
        json_key(&j, "nilo");
        add_nilo(ops, is_whole, &j);
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}

void info_get(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;

        reply_info(ops, r, !gateway_access(ops->gateway));
}

void info_get_whole(void *arg, struct gateway_request *r)
{
        reply_info(arg, r, true);
}

static void add_option(struct json_out *j, const char *name, json_t *option)
{
        json_t *value = json_object_get(option, "value");
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

        json_object_begin(j);
        json_field_string(j, "name", name);
        json_field_string(j, "description", json_string_value(json_object_get(option, "text")));
        json_field_string(j, "group", "Nilometer");
        json_key(j, "value");
        json_raw(j, bytes_of_string(text));
        json_field_string(j, "configurationSource", json_string_value(json_object_get(option, "origin")));
        json_key(j, "deprecationMessage");
        json_out_null(j);
        json_key(j, "schema");
        json_object_begin(j);
        json_field_string(j, "type",
                json_is_boolean(value)   ? "boolean"
                : json_is_integer(value) ? "integer"
                                         : "string");
        json_object_end(j);
        json_object_end(j);
        free(text);
}

void info_get_options(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct buffer options = {0};
        struct buffer out = {0};
        struct json_out j = {.out = &options};
        const char *name;
        json_t *option;
        json_t *root;

        ops->config_to_json(ops->arg, &j);
        root = json_loadb((const char *)options.data, options.size, 0, NULL);
        buffer_fini(&options);
        assert(root);
        j = (struct json_out){.out = &out};
        json_array_begin(&j);
        json_object_foreach(root, name, option) add_option(&j, name, option);
        json_array_end(&j);
        json_decref(root);
        ops_reply_json(r, 200, &out);
}

static void add_uuid(struct json_out *j, const char *key, const uint8_t uuid[16])
{
        char text[37];

        snprintf(text, sizeof text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                uuid[0], uuid[1], uuid[2], uuid[3], uuid[4], uuid[5], uuid[6], uuid[7], uuid[8], uuid[9],
                uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
        json_field_string(j, key, text);
}

static void add_member(struct ops *ops, const struct membership_node *n, uint64_t term, struct json_out *j)
{
        uint64_t last = n->next_position ? n->next_position - 1 : 0;
        char now[OPS_TIME_SIZE];

        ops_time(os_wall_us(ops->os), now);
        json_object_begin(j);
        add_uuid(j, "instanceId", n->instance);
        json_field_string(j, "timeStamp", now);
        json_field_string(j, "state", membership_state_name(n->state));
        json_field_bool(j, "isAlive", n->is_alive);
        json_field_string(j, "internalTcpIp", n->host);
        json_field_u64(j, "internalTcpPort", 0);
        json_field_u64(j, "internalSecureTcpPort", 0);
        json_field_string(j, "externalTcpIp", n->host);
        json_field_u64(j, "externalTcpPort", 0);
        json_field_u64(j, "externalSecureTcpPort", 0);
        json_field_string(j, "internalHttpEndPointIp", n->host);
        json_field_u64(j, "internalHttpEndPointPort", n->port);
        json_field_string(j, "httpEndPointIp", n->host);
        json_field_u64(j, "httpEndPointPort", n->port);
        json_field_u64(j, "lastCommitPosition", last);
        json_field_u64(j, "writerCheckpoint", last);
        json_field_u64(j, "chaserCheckpoint", last);
        json_field_u64(j, "epochPosition", 0);
        json_field_u64(j, "epochNumber", term);
        add_uuid(j, "epochId", (const uint8_t[16]){0});
        json_field_u64(j, "nodePriority", 0);
        json_field_bool(j, "isReadOnlyReplica", n->is_standby);
        json_field_string(j, "esVersion", OPS_KURRENTDB_VERSION);
        json_object_end(j);
}

void info_get_gossip(void *arg, struct gateway_request *r)
{
        struct ops *ops = arg;
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        unsigned count = look_at_nodes(ops, nodes);
        struct buffer out = {0};
        struct json_out j = {.out = &out};
        struct store *store = gateway_store(ops->gateway);
        struct store_stats stats = {0};

        if (store)
                store_stats(store, &stats);
        json_object_begin(&j);
        json_key(&j, "members");
        json_array_begin(&j);
        for (unsigned i = 0; i < count; i++)
                if (*nodes[i].host)
                        add_member(ops, &nodes[i], stats.term, &j);
        json_array_end(&j);
        json_field_string(&j, "serverIp", ops->host);
        json_field_u64(&j, "serverPort", gateway_port(ops->gateway));
        json_object_end(&j);
        ops_reply_json(r, 200, &out);
}
