/* /metrics in the Prometheus text format 0.0.4. Counters are kept where things happen; here they are only
 * looked at, when somebody asks. The table is metrics.def; beside it nilo_facts_total has a row for every
 * type of fact, and subscriptions.def tells of durable subscriptions one by one. */
#include "ops/room.h"

struct look {
        struct gateway_stats gateway;
        struct access_stats access; /* all zero where nobody is asked for his name */
        struct control_stats control;
        struct store_stats store;
        struct notification_stats notification;
        struct emitter_stats emitter;
        struct ops_process process;
        struct membership_summary cluster;
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        unsigned node_count;
        enum membership_state state; /* of this node */
        double up_time_seconds;
        double ready_since;
        uint64_t next_position;
        bool is_ready;
        bool has_store;
        bool has_emitter;
};

static void look_at_cluster(struct ops *ops, struct look *l)
{
        l->state = l->is_ready ? MEMBERSHIP_LEADER : MEMBERSHIP_INITIALIZING;
        if (!ops->membership)
                return;
        membership_summary(ops->membership, &l->cluster);
        l->node_count = membership_nodes(ops->membership, l->nodes, CLUSTER_MEMBERS_MAX);
        for (unsigned i = 0; i < l->node_count; i++)
                if (l->nodes[i].is_self)
                        l->state = l->nodes[i].state;
}

static void look_around(struct ops *ops, struct look *l)
{
        struct store *store = gateway_store(ops->gateway);
        struct notification *notification = gateway_notification(ops->gateway);

        *l = (struct look){
                .is_ready = ops_is_ready(ops),
                .has_store = store && notification,
                .has_emitter = ops->emitter,
                .up_time_seconds = (double)(os_monotonic_us(ops->os) - ops->started_us) / 1e6,
        };
        l->ready_since = l->is_ready ? (double)(ops->ready_wall_us / 1000000) : 0;
        gateway_stats(ops->gateway, &l->gateway);
        if (gateway_access(ops->gateway))
                access_stats(gateway_access(ops->gateway), &l->access);
        control_stats(ops->control, &l->control);
        ops->process(ops->arg, &l->process);
        if (l->has_emitter)
                emitter_stats(ops->emitter, &l->emitter);
        look_at_cluster(ops, l);
        if (!l->has_store)
                return;
        store_stats(store, &l->store);
        notification_stats(notification, &l->notification);
        l->next_position = store_next_position(store);
}

static uint64_t mending_left(const struct store_mending *m)
{
        return m->kind != STORE_WHOLE && m->last_index >= m->next_index ? m->last_index + 1 - m->next_index
                                                                        : 0;
}

void metrics_add_family(struct buffer *out, const char *name, enum metric_kind kind, const char *help)
{
        buffer_format(
                out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind == COUNTER ? "counter" : "gauge");
}

static void add(struct buffer *out, const char **family, const char *name, enum metric_kind kind,
        const char *labels, double value, const char *help)
{
        if (!*family || strcmp(*family, name) != 0)
                metrics_add_family(out, name, kind, help);
        *family = name;
        buffer_format(out, "%s%s%s%s %.17g\n", name, *labels ? "{" : "", labels, *labels ? "}" : "", value);
}

static void add_facts(const struct look *l, struct buffer *out)
{
        metrics_add_family(out, "nilo_facts_total", COUNTER, "Facts published, by type");
        for (unsigned i = 0; i < FACTS; i++)
                buffer_format(out, "nilo_facts_total{type=\"%s\"} %llu\n",
                        fact_describe((enum fact_type)i)->name,
                        (unsigned long long)l->control.published_by_type[i]);
}

static void add_nodes(const struct look *l, struct buffer *out)
{
        static const struct {
                const char *name;
                const char *help;
        } families[] = {
                {"nilo_cluster_node_alive", "1 when the node is reached from here"},
                {"nilo_cluster_node_lag_entries",
                        "Entries of the log that the node is behind the leader, as far as is known here"},
                {"nilo_cluster_node_round_trip_seconds",
                        "Smoothed round trip to the node; 0: unknown, or this node"},
        };

        for (unsigned f = 0; f < COUNT_OF(families) && l->node_count; f++) {
                metrics_add_family(out, families[f].name, GAUGE, families[f].help);
                for (unsigned i = 0; i < l->node_count; i++) {
                        const struct membership_node *n = &l->nodes[i];
                        double values[] = {
                                n->is_alive, (double)n->lag_entries, (double)n->round_trip_us / 1e6};

                        buffer_format(out, "%s{node=\"%llu\"} %.17g\n", families[f].name,
                                (unsigned long long)n->node_id, values[f]);
                }
        }
}

void metrics_get(void *arg, struct gateway_request *r)
{
        struct look all;
        const struct look *l = &all;
        struct buffer out = {0};
        const char *family = NULL;

        look_around(arg, &all);
#define METRIC(name, kind, labels, value, help) add(&out, &family, name, kind, labels, (double)(value), help);
#define STORE_METRIC(name, kind, labels, value, help)                                                        \
        if (l->has_store)                                                                                    \
        METRIC(name, kind, labels, value, help)
#define EMITTER_METRIC(name, kind, labels, value, help)                                                      \
        if (l->has_emitter)                                                                                  \
        METRIC(name, kind, labels, value, help)
#include "ops/metrics.def"
#undef EMITTER_METRIC
#undef STORE_METRIC
#undef METRIC
        if (l->has_emitter)
                subscriptions_add(arg, l->emitter.subscriptions, &out);
        add_nodes(l, &out);
        add_facts(l, &out);
        gateway_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_bytes(&out), NULL, 0);
        buffer_fini(&out);
}
