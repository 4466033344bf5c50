/* LeaderSystem: the leader tracker and its duties.
 *
 * Leadership may be decided before or after the tracker starts, and its fact may be missed: so the tracker
 * asks the store when it starts and whenever it missed something, and begins with the oldest fact that the
 * bus still holds for a store that is not open yet. The chain is that of ARCHITECTURE.md. */
#include "notification/room.h"

static void publish(struct leader *l, enum fact_type type, uint32_t count)
{
        struct fact_payload payload = {.count = count};

        control_publish(l->notification->control, type, &payload);
}

/* Nothing durable belongs to a subscription of this version, so none is loaded and no pool starts: the counts
 * say so. */
static void assume_duties(struct leader *l)
{
        publish(l, FACT_leader_responsibilities_assumed, 0);
        publish(l, FACT_leadership_duties_starting, 0);
        publish(l, FACT_subscriptions_loaded, 0);
        publish(l, FACT_emitter_pools_starting, 0);
        l->has_duties = true;
        publish(l, FACT_leadership_duties_assumed, 0);
}

static void give_up_duties(struct leader *l, const char *why)
{
        struct fact_payload payload = {0};

        if (!l->has_duties)
                return;
        fact_set_text(&payload, "%s", why);
        control_publish(l->notification->control, FACT_leader_stepping_down, &payload);
        l->has_duties = false;
}

static void on_leader_changed(struct leader *l, uint64_t term, uint64_t node_id)
{
        struct store_stats stats;
        struct fact_payload payload = {.node_id = node_id};

        if (term <= l->term)
                return;
        l->term = term;
        control_publish(l->notification->control, FACT_leader_changed_received, &payload);
        store_stats(l->notification->store, &stats);
        give_up_duties(l, "a newer term began");
        if (stats.term == term && stats.leader_id == node_id)
                assume_duties(l);
}

static void ask_store(struct leader *l)
{
        struct store_stats stats;

        if (!store_is_ready(l->notification->store))
                return;
        store_stats(l->notification->store, &stats);
        if (stats.leader_id)
                on_leader_changed(l, stats.term, stats.leader_id);
}

static void on_facts(struct control_watcher *watcher)
{
        struct leader *l = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed)) {
                if (missed)
                        ask_store(l);
                if (fact.type == FACT_leader_changed)
                        on_leader_changed(l, fact.term, fact.payload.node_id);
        }
}

int leader_start(void *arg)
{
        struct leader *l = arg;

        assert(!l->is_watching);
        l->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = l,
                .categories = 1u << CATEGORY_LEADERSHIP,
                .level = LEVEL_INFO,
        };
        control_watch(l->notification->control, &l->watcher, true);
        l->is_watching = true;
        ask_store(l);
        return 0;
}

void leader_stop(void *arg)
{
        struct leader *l = arg;

        if (!l->is_watching)
                return;
        control_unwatch(&l->watcher);
        l->is_watching = false;
        give_up_duties(l, "the server stops");
        l->term = 0;
}
