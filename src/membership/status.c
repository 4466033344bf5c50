/* What is known of the cluster: for clients that look for a node, for metrics, and for people. */
#include <stdio.h>

#include "membership/room.h"

/* ---- nodes ---- */

static void fill(struct membership_node *ret, const struct node_news *n)
{
        memcpy(ret->instance, n->instance, sizeof ret->instance);
        ret->state = n->state;
        text_copy(ret->name, sizeof ret->name, n->name);
        text_copy(ret->version, sizeof ret->version, n->version);
        ret->version_min = n->version_min;
        ret->version_max = n->version_max;
        text_copy(ret->host, sizeof ret->host, n->host);
        ret->port = n->port;
        ret->next_position = n->next_position;
        ret->last_index = n->last_index;
        ret->applied_index = n->applied_index;
        ret->has_authority = n->has_authority;
}

static void fill_self(struct membership *m, struct membership_node *ret)
{
        struct node_news self;

        nodes_self(m, &self);
        *ret = (struct membership_node){.node_id = m->identity.node_id, .is_self = true, .is_alive = true};
        fill(ret, &self);
        text_copy(ret->address, sizeof ret->address, self.address);
        ret->is_leader = self.state == MEMBERSHIP_LEADER;
        ret->heard_us = os_monotonic_us(m->os);
}

static const struct peers_node_stats *find_stats(
        const struct peers_node_stats *all, unsigned count, uint64_t node_id)
{
        for (unsigned i = 0; i < count; i++)
                if (all[i].node == node_id)
                        return &all[i];
        return NULL;
}

static void fill_other(struct membership *m, const struct peers_node_stats *stats,
        const struct store_member *member, struct membership_node *ret)
{
        const struct node_news *n = nodes_find(m, member->server.node_id);

        *ret = (struct membership_node){.node_id = member->server.node_id, .state = MEMBERSHIP_UNKNOWN};
        if (n)
                fill(ret, n);
        if (stats) {
                ret->is_alive = stats->links[PEERS_CONTROL].is_up;
                ret->round_trip_us = stats->round_trip_us;
                ret->heard_us = stats->heard_us;
                if (!*ret->name)
                        text_copy(ret->name, sizeof ret->name, stats->name);
        }
        if (!ret->is_alive)
                ret->state = MEMBERSHIP_UNKNOWN; /* what it said last would make two leaders of one */
        ret->is_leader = member->is_leader;
        text_copy(ret->address, sizeof ret->address, member->server.address);
}

static void fill_lags(struct membership_node *nodes, unsigned count)
{
        uint64_t last_index = 0;

        for (unsigned i = 0; i < count; i++)
                if (nodes[i].is_leader)
                        last_index = nodes[i].last_index;
        for (unsigned i = 0; i < count; i++)
                nodes[i].lag_entries =
                        last_index > nodes[i].last_index ? last_index - nodes[i].last_index : 0;
}

static unsigned nodes_of(struct membership *m, const struct store_cluster_status *status,
        struct membership_node *ret, unsigned max)
{
        struct peers_node_stats stats[PEERS_MEMBERS_MAX];
        unsigned stats_count = m->peers ? peers_stats(m->peers, stats, PEERS_MEMBERS_MAX) : 0;
        unsigned count = MIN(status->count, max);

        if (!status->count && max) {
                fill_self(m, ret);
                return 1;
        }
        for (unsigned i = 0; i < count; i++) {
                const struct store_member *member = &status->members[i];

                if (member->is_self)
                        fill_self(m, &ret[i]);
                else
                        fill_other(
                                m, find_stats(stats, stats_count, member->server.node_id), member, &ret[i]);
                ret[i].is_standby = member->server.role == CLUSTER_STANDBY;
                /* The leader knows best what is durable where. */
                if (status->can_write && member->match_index)
                        ret[i].last_index = member->match_index;
                if (status->can_write && member->is_self)
                        ret[i].last_index = status->last_index;
        }
        fill_lags(ret, count);
        return count;
}

static void status_of(const struct membership *m, struct store_cluster_status *ret)
{
        struct store *store = membership_default_store(m);

        *ret = (struct store_cluster_status){.node_id = m->identity.node_id};
        if (store && store_persistence(store))
                store_cluster_status(store, ret);
}

unsigned membership_nodes(struct membership *m, struct membership_node *ret, unsigned max)
{
        struct store_cluster_status status;

        status_of(m, &status);
        return nodes_of(m, &status, ret, max);
}

bool membership_leader(struct membership *m, struct membership_node *ret)
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        unsigned count = membership_nodes(m, nodes, CLUSTER_MEMBERS_MAX);

        for (unsigned i = 0; i < count; i++) {
                if (!nodes[i].is_leader || !*nodes[i].host || !nodes[i].port)
                        continue;
                *ret = nodes[i];
                return true;
        }
        return false;
}

bool membership_is_leading(const struct membership *m)
{
        struct store *store = membership_default_store(m);

        return store && store_is_leading(store);
}

/* ---- summary ---- */

static void summarize(struct membership *m, const struct store_cluster_status *status,
        const struct membership_node *nodes, unsigned count, struct membership_summary *ret)
{
        *ret = (struct membership_summary){
                .is_clustered = m->peers != NULL,
                .members = count,
                .elections = m->elections,
                .version = membership_version(m),
                .certificate_until_us = m->certificate_until_us,
                .mending = status->mending,
                .comparison = status->comparison,
                .discovery = discovery_counts(m),
        };
        memcpy(ret->cluster_uuid, m->identity.cluster_uuid, sizeof ret->cluster_uuid);
        if (m->peers)
                ret->refused = peers_totals(m->peers).refused;
        for (unsigned i = 0; i < count; i++) {
                ret->voters += !nodes[i].is_standby;
                ret->voters_reachable += !nodes[i].is_standby && nodes[i].is_alive;
                ret->links_up += !nodes[i].is_self && nodes[i].is_alive;
        }
        ret->voters_needed = ret->voters / 2 + 1;
        /* A leader that can write has a majority; another node knows one if it is linked with the leader. */
        ret->has_quorum = status->can_write;
        for (unsigned i = 0; i < count; i++)
                ret->has_quorum |= nodes[i].is_leader && nodes[i].is_alive;
}

void membership_summary(struct membership *m, struct membership_summary *ret)
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        struct store_cluster_status status;
        unsigned count;

        status_of(m, &status);
        count = nodes_of(m, &status, nodes, CLUSTER_MEMBERS_MAX);
        summarize(m, &status, nodes, count, ret);
}

/* ---- for people ---- */

static void add_quorum(const struct membership_summary *s, struct json_out *j)
{
        unsigned spare = s->voters_reachable > s->voters_needed ? s->voters_reachable - s->voters_needed : 0;
        char text[160];
        char fail[48];

        if (!s->has_quorum)
                snprintf(fail, sizeof fail, "no quorum: writes are refused");
        else if (spare)
                snprintf(fail, sizeof fail, "%u more may fail", spare);
        else
                snprintf(fail, sizeof fail, "none may fail");
        snprintf(text, sizeof text, "%u of %u voter%s reachable: %s", s->voters_reachable, s->voters,
                s->voters == 1 ? "" : "s", fail);
        json_key(j, "quorum");
        json_object_begin(j);
        json_field_bool(j, "has_quorum", s->has_quorum);
        json_field_u64(j, "voters", s->voters);
        json_field_u64(j, "reachable", s->voters_reachable);
        json_field_u64(j, "needed", s->voters_needed);
        json_field_u64(j, "may_fail", s->has_quorum ? spare : 0);
        json_field_string(j, "text", text);
        json_object_end(j);
}

static void add_url(
        const struct membership *m, const char *key, const struct membership_node *n, struct json_out *j)
{
        char text[PEERS_ADDRESS_SIZE];
        char url[PEERS_ADDRESS_SIZE + 16];

        if (!*n->host || !n->port)
                return;
        address_format(n->host, n->port, text);
        snprintf(url, sizeof url, "%s://%s", m->options.client_speaks_tls ? "https" : "http", text);
        json_field_string(j, key, url);
}

static const struct peers_node_stats *add_link(
        const struct peers_node_stats *stats, uint64_t now, struct json_out *j)
{
        if (!stats)
                return NULL;
        json_field_bool(j, "link", stats->links[PEERS_CONTROL].is_up);
        json_field_bool(j, "bulk_link", stats->links[PEERS_BULK].is_up);
        json_field_bool(j, "failed", stats->is_failed);
        json_field_u64(j, "round_trip_us", stats->round_trip_us);
        if (stats->heard_us)
                json_field_u64(j, "heard_ms", now > stats->heard_us ? (now - stats->heard_us) / 1000 : 0);
        json_field_u64(j, "sent_bytes",
                stats->links[PEERS_CONTROL].sent_bytes + stats->links[PEERS_BULK].sent_bytes);
        json_field_u64(j, "received_bytes",
                stats->links[PEERS_CONTROL].received_bytes + stats->links[PEERS_BULK].received_bytes);
        json_field_u64(j, "queued_bytes",
                stats->links[PEERS_CONTROL].queued_bytes + stats->links[PEERS_BULK].queued_bytes);
        if (*stats->problem && !stats->links[PEERS_CONTROL].is_up)
                json_field_string(j, "problem", stats->problem);
        return stats;
}

static void add_node(struct membership *m, const struct membership_node *n, bool has_another_history,
        const struct peers_node_stats *stats, struct json_out *j)
{
        json_object_begin(j);
        json_field_u64(j, "node", n->node_id);
        json_field_string(j, "name", n->name);
        json_field_string(j, "role", n->is_standby ? "stand-by" : "voter");
        json_field_string(j, "state", membership_state_name(n->state));
        json_field_bool(j, "leader", n->is_leader);
        json_field_bool(j, "self", n->is_self);
        json_field_bool(j, "alive", n->is_alive);
        json_field_string(j, "address", n->address);
        add_url(m, "url", n, j);
        json_field_string(j, "version", n->version);
        json_field_u64(j, "cluster_version_min", n->version_min);
        json_field_u64(j, "cluster_version_max", n->version_max);
        json_field_u64(j, "next_position", n->next_position);
        json_field_u64(j, "last_index", n->last_index);
        json_field_u64(j, "applied_index", n->applied_index);
        json_field_u64(j, "lag_entries", n->lag_entries);
        json_field_bool(j, "authority", n->has_authority);
        json_field_bool(j, "history_differs", has_another_history);
        add_link(stats, os_monotonic_us(m->os), j);
        json_object_end(j);
}

static void add_strangers(const struct membership *m, struct json_out *j)
{
        json_key(j, "refused");
        json_array_begin(j);
        for (unsigned i = 0; i < m->stranger_count; i++) {
                json_object_begin(j);
                json_field_u64(j, "at_us", m->strangers[i].at_us);
                json_field_string(j, "address", m->strangers[i].address);
                json_field_string(j, "why", m->strangers[i].why);
                json_object_end(j);
        }
        json_array_end(j);
}

/* What this node gets back from the others, and how far it is. */
static void add_mending(const struct store_mending *mending, struct json_out *j)
{
        json_field_bool(j, "mending", mending->kind != STORE_WHOLE);
        if (mending->kind == STORE_WHOLE)
                return;
        json_field_string(j, "mending_what", mending->kind == STORE_MENDING_END ? "end" : "segment");
        json_field_u64(j, "mending_first_index", mending->first_index);
        json_field_u64(j, "mending_next_index", mending->next_index);
        if (mending->last_index)
                json_field_u64(j, "mending_last_index", mending->last_index);
}

static void add_history(const struct membership *m, const struct store_comparison *c, struct json_out *j)
{
        json_key(j, "history");
        json_object_begin(j);
        json_field_bool(j, "compared", c->rounds > 0);
        json_field_u64(j, "agreed_index", c->agreed_index);
        if (c->agreed_us)
                json_field_u64(j, "agreed_ms", (os_monotonic_us(m->os) - c->agreed_us) / 1000);
        json_field_u64(j, "differing", c->differing);
        json_field_bool(j, "undecided", c->is_undecided);
        json_object_end(j);
}

static void add_self(struct membership *m, const struct store_cluster_status *status, struct json_out *j)
{
        char uuid[EVENT_ID_TEXT_SIZE + 1];

        uuid_format(m->identity.cluster_uuid, uuid);
        json_field_string(j, "cluster", uuid);
        json_field_bool(j, "clustered", m->peers != NULL);
        json_field_bool(j, "insecure", m->peers && !m->tls);
        json_field_u64(j, "node", m->identity.node_id);
        json_field_string(j, "name", m->options.name);
        json_field_u64(j, "cluster_version", membership_version(m));
        json_field_u64(j, "cluster_version_possible", version_possible(m));
        json_field_u64(j, "leader", status->leader_id);
        json_field_u64(j, "term", status->term);
        json_field_u64(j, "epoch", status->epoch);
        json_field_u64(j, "last_index", status->last_index);
        json_field_u64(j, "commit_index", status->commit_index);
        json_field_u64(j, "applied_index", status->applied_index);
        json_field_bool(j, "catching_up", status->is_catching_up);
        if (status->is_catching_up)
                json_field_u64(j, "catch_up_index", status->catch_up_index);
        add_mending(&status->mending, j);
        add_history(m, &status->comparison, j);
        json_field_bool(j, "change_under_way", status->count && !status->has_committed_members);
        if (m->certificate_until_us)
                json_field_u64(j, "certificate_until_us", m->certificate_until_us);
        if (m->file.voters_wanted)
                json_field_u64(j, "voters_wanted", m->file.voters_wanted);
}

/* A removed node need not have heard of it by the log. One node that is behind may refuse a new member: so
 * most of the voters that are known here must say it, and nobody the contrary. */
static bool is_removed(const struct membership *m, const struct peers_node_stats *stats, unsigned count)
{
        unsigned voters = 0, refusing = 0;

        for (unsigned i = 0; m->has_configuration && i < m->configuration.count; i++) {
                const struct cluster_server *server = &m->configuration.servers[i];
                const struct peers_node_stats *s = find_stats(stats, count, server->node_id);

                voters += server->role == CLUSTER_VOTER;
                refusing += server->role == CLUSTER_VOTER && s && s->is_refused;
                if (s && s->links[PEERS_CONTROL].is_up)
                        return false;
        }
        return refusing > voters / 2;
}

void membership_status_to_json(struct membership *m, struct json_out *j)
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        struct peers_node_stats stats[PEERS_MEMBERS_MAX];
        unsigned stats_count = m->peers ? peers_stats(m->peers, stats, PEERS_MEMBERS_MAX) : 0;
        struct membership_summary summary;
        struct store_cluster_status status;
        unsigned count;

        status_of(m, &status);
        count = nodes_of(m, &status, nodes, CLUSTER_MEMBERS_MAX);
        summarize(m, &status, nodes, count, &summary);
        json_object_begin(j);
        add_self(m, &status, j);
        json_field_bool(j, "removed", is_removed(m, stats, stats_count));
        for (unsigned i = 0; i < count; i++)
                if (nodes[i].is_leader)
                        add_url(m, "leader_url", &nodes[i], j);
        add_quorum(&summary, j);
        json_key(j, "members");
        json_array_begin(j);
        for (unsigned i = 0; i < count; i++)
                add_node(m, &nodes[i], i < status.count && status.members[i].has_another_history,
                        find_stats(stats, stats_count, nodes[i].node_id), j);
        json_array_end(j);
        json_field_u64(j, "elections", summary.elections);
        add_strangers(m, j);
        discovery_to_json(m, j);
        json_object_end(j);
}
