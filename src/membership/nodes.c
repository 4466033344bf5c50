/* What nodes tell each other of themselves: where clients reach them, what they are, how far they are. On
 * link-up, on change, and every TELL_US. It is news, not truth: who belongs to the cluster is in the log. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum { NEWS_SIZE_MAX = 8 * 1024 };

static const char *const state_names[MEMBERSHIP_STATES] = {
        [MEMBERSHIP_INITIALIZING] = "Initializing",
        [MEMBERSHIP_UNKNOWN] = "Unknown",
        [MEMBERSHIP_DISCOVER_LEADER] = "DiscoverLeader",
        [MEMBERSHIP_CATCHING_UP] = "CatchingUp",
        [MEMBERSHIP_FOLLOWER] = "Follower",
        [MEMBERSHIP_LEADER] = "Leader",
        [MEMBERSHIP_READ_ONLY_LEADERLESS] = "ReadOnlyLeaderless",
        [MEMBERSHIP_READ_ONLY_REPLICA] = "ReadOnlyReplica",
};

const char *membership_state_name(enum membership_state state)
{
        assert(state < MEMBERSHIP_STATES);
        return state_names[state];
}

static enum membership_state state_parse(const char *name)
{
        for (unsigned i = 0; name && i < MEMBERSHIP_STATES; i++)
                if (strcmp(state_names[i], name) == 0)
                        return (enum membership_state)i;
        return MEMBERSHIP_UNKNOWN;
}

/* ---- the table ---- */

struct node_news *nodes_find(struct membership *m, uint64_t node_id)
{
        for (unsigned i = 0; i < m->news_count; i++)
                if (m->news[i].node_id == node_id)
                        return &m->news[i];
        return NULL;
}

/* NULL: the table is full, of members only. */
static struct node_news *get(struct membership *m, uint64_t node_id)
{
        struct node_news *n = nodes_find(m, node_id);

        if (n || m->news_count == CLUSTER_MEMBERS_MAX)
                return n;
        n = &m->news[m->news_count++];
        *n = (struct node_news){.node_id = node_id, .state = MEMBERSHIP_UNKNOWN};
        return n;
}

void nodes_note_client(
        struct membership *m, uint64_t node_id, const char *name, const char *host, uint16_t port)
{
        struct node_news *n = node_id == m->identity.node_id ? NULL : get(m, node_id);

        if (!n || n->is_known)
                return;
        if (name)
                text_copy(n->name, sizeof n->name, name);
        text_copy(n->host, sizeof n->host, host);
        n->port = port;
}

static bool is_member(const struct membership *m, uint64_t node_id)
{
        if (!m->has_configuration)
                return true;
        for (unsigned i = 0; i < m->configuration.count; i++)
                if (m->configuration.servers[i].node_id == node_id)
                        return true;
        return false;
}

void nodes_forget_versions(struct membership *m, uint64_t node_id)
{
        struct node_news *n = nodes_find(m, node_id);

        if (n)
                n->version_min = n->version_max = 0;
}

void nodes_keep_members(struct membership *m)
{
        unsigned n = 0;

        for (unsigned i = 0; i < m->news_count; i++)
                if (is_member(m, m->news[i].node_id))
                        m->news[n++] = m->news[i];
        m->news_count = n;
}

/* ---- this node ---- */

static enum membership_state state_of(
        const struct membership *m, struct store *store, const struct store_cluster_status *status)
{
        bool is_voter = false;

        for (unsigned i = 0; i < status->count; i++)
                if (status->members[i].is_self)
                        is_voter = status->members[i].server.role == CLUSTER_VOTER;
        (void)m;
        if (status->can_write && store_is_ready(store))
                return MEMBERSHIP_LEADER;
        if (status->is_catching_up || (status->leader_id && !store_is_ready(store)))
                return MEMBERSHIP_CATCHING_UP;
        if (!store_is_ready(store))
                return MEMBERSHIP_INITIALIZING;
        if (is_voter)
                return status->leader_id && status->leader_id != status->node_id ? MEMBERSHIP_FOLLOWER
                                                                                 : MEMBERSHIP_DISCOVER_LEADER;
        return status->leader_id ? MEMBERSHIP_READ_ONLY_REPLICA : MEMBERSHIP_READ_ONLY_LEADERLESS;
}

void nodes_self(struct membership *m, struct node_news *ret)
{
        struct store *store = membership_default_store(m);
        struct store_cluster_status status;

        *ret = (struct node_news){
                .node_id = m->identity.node_id,
                .is_known = true,
                .state = MEMBERSHIP_INITIALIZING,
                .port = m->options.client_port,
                .has_authority = m->has_authority,
                .version_min = version_min(m),
                .version_max = version_max(m),
        };
        memcpy(ret->instance, m->instance, sizeof ret->instance);
        text_copy(ret->name, sizeof ret->name, m->options.name);
        text_copy(ret->version, sizeof ret->version, NILO_VERSION);
        text_copy(ret->host, sizeof ret->host, m->options.client_host);
        if (m->has_file)
                text_copy(ret->address, sizeof ret->address, m->file.advertise);
        if (!store || !store_persistence(store))
                return;
        store_cluster_status(store, &status);
        ret->state = state_of(m, store, &status);
        ret->next_position = store_next_position(store);
        ret->last_index = status.last_index;
        ret->applied_index = status.applied_index;
}

/* ---- telling ---- */

void node_news_add(const struct node_news *n, struct json_out *j)
{
        char instance[EVENT_ID_TEXT_SIZE + 1];

        uuid_format(n->instance, instance);
        json_object_begin(j);
        json_field_string(j, "instance", instance);
        json_field_string(j, "state", membership_state_name(n->state));
        json_field_string(j, "name", n->name);
        json_field_string(j, "version", n->version);
        json_field_u64(j, "cluster_version_min", n->version_min);
        json_field_u64(j, "cluster_version_max", n->version_max);
        json_field_string(j, "host", n->host);
        json_field_u64(j, "port", n->port);
        json_field_string(j, "address", n->address);
        json_field_u64(j, "next_position", n->next_position);
        json_field_u64(j, "last_index", n->last_index);
        json_field_u64(j, "applied_index", n->applied_index);
        json_field_bool(j, "authority", n->has_authority);
        json_object_end(j);
}

static void send_to(struct membership *m, uint64_t node_id, struct bytes text)
{
        static const uint8_t no_store[16];

        /* One that is lost is followed by the next. */
        if (membership_is_linked(m, node_id) &&
                !peers_send(m->peers, node_id, PEERS_CONTROL, no_store, MESSAGE_NODE, &text, 1))
                return;
}

static bool has_changed(const struct node_news *a, const struct node_news *b)
{
        return a->state != b->state || a->port != b->port || a->has_authority != b->has_authority ||
               strcmp(a->host, b->host) != 0 || strcmp(a->address, b->address) != 0 ||
               strcmp(a->name, b->name) != 0;
}

void nodes_tell(struct membership *m, bool at_once)
{
        uint64_t now = os_monotonic_us(m->os);
        CLEANUP(buffer_fini) struct buffer text = {0};
        struct json_out j = {.out = &text};
        struct node_news self;

        if (!m->peers)
                return;
        nodes_self(m, &self);
        if (!at_once && now - m->told_us < TELL_US && !has_changed(&self, &m->told))
                return;
        m->told = self;
        m->told_us = now;
        node_news_add(&self, &j);
        for (unsigned i = 0; i < m->configuration.count; i++)
                if (m->configuration.servers[i].node_id != m->identity.node_id)
                        send_to(m, m->configuration.servers[i].node_id, buffer_bytes(&text));
}

void nodes_tell_one(struct membership *m, uint64_t node_id)
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        struct json_out j = {.out = &text};
        struct node_news self;

        nodes_self(m, &self);
        node_news_add(&self, &j);
        send_to(m, node_id, buffer_bytes(&text));
}

/* ---- hearing ---- */

static uint64_t number_at(json_t *object, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(object, key));

        return n > 0 ? (uint64_t)n : 0;
}

bool node_news_parse(struct bytes body, struct node_news *ret)
{
        CLEANUP(json_freep) json_t *object = NULL;
        const char *instance;

        *ret = (struct node_news){.is_known = true};
        if (body.size > NEWS_SIZE_MAX)
                return false;
        object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
        instance = json_string_value(json_object_get(object, "instance"));
        if (!instance || !uuid_parse(instance, ret->instance))
                return false;
        ret->state = state_parse(json_string_value(json_object_get(object, "state")));
        text_copy(ret->name, sizeof ret->name, json_string_value(json_object_get(object, "name")));
        text_copy(ret->version, sizeof ret->version, json_string_value(json_object_get(object, "version")));
        text_copy(ret->host, sizeof ret->host, json_string_value(json_object_get(object, "host")));
        text_copy(ret->address, sizeof ret->address, json_string_value(json_object_get(object, "address")));
        ret->port = (uint16_t)MIN(number_at(object, "port"), (uint64_t)UINT16_MAX);
        ret->version_min = (unsigned)MIN(number_at(object, "cluster_version_min"), (uint64_t)UINT_MAX);
        ret->version_max = (unsigned)MIN(number_at(object, "cluster_version_max"), (uint64_t)UINT_MAX);
        ret->next_position = number_at(object, "next_position");
        ret->last_index = number_at(object, "last_index");
        ret->applied_index = number_at(object, "applied_index");
        ret->has_authority = json_is_true(json_object_get(object, "authority"));
        return true;
}

void nodes_on_message(struct membership *m, uint64_t from, struct bytes body)
{
        struct node_news *n = is_member(m, from) ? get(m, from) : NULL;
        struct node_news news;

        if (!n || !node_news_parse(body, &news))
                return;
        news.node_id = from;
        *n = news;
}
