/* LeaderSystem: the leader tracker and the duties that rooms above have registered.
 *
 * Leadership may be decided before or after the tracker starts, and its fact may be missed: so the tracker
 * asks the store when it starts and whenever it missed something, and begins with the oldest fact that the
 * bus still holds for a store that is not open yet. The chain is that of ARCHITECTURE.md. A leader that is
 * cut off leads no more before another is known: it gives up its duties then, in the term that it had.
 *
 * All duties are loaded before the first is started, so that the facts of the chain can tell sums. Each step
 * of a duty may end at once or much later, and from inside it duties may come and go and the term may change:
 * so one loop looks for the next step until there is none, and calls from inside it only change what it will
 * find. */
#include "base/sm.h"
#include "notification/room.h"

enum duty_state { DUTY_IDLE, DUTY_LOADING, DUTY_LOADED, DUTY_STARTING, DUTY_STARTED };

static const struct sm_state duty_states[] = {
        [DUTY_IDLE] = {"idle", TO(DUTY_LOADING)},
        [DUTY_LOADING] = {"loading", TO(DUTY_LOADED) | TO(DUTY_IDLE)},
        [DUTY_LOADED] = {"loaded", TO(DUTY_STARTING) | TO(DUTY_IDLE)},
        [DUTY_STARTING] = {"starting", TO(DUTY_STARTED) | TO(DUTY_IDLE)},
        [DUTY_STARTED] = {"started", TO(DUTY_IDLE)},
};

static const struct sm_state leader_states[] = {
        [LEADER_NONE] = {"none", TO(LEADER_LOADING)},
        [LEADER_LOADING] = {"loading", TO(LEADER_STARTING) | TO(LEADER_NONE)},
        [LEADER_STARTING] = {"starting", TO(LEADER_ASSUMED) | TO(LEADER_NONE)},
        [LEADER_ASSUMED] = {"assumed", TO(LEADER_NONE)},
};

static void publish(struct leader *l, enum fact_type type, uint32_t count)
{
        struct fact_payload payload = {.count = count};

        control_publish(l->notification->control, type, &payload);
}

/* ---- duties ---- */

static struct notification_duty *find_duty(struct leader *l, enum duty_state state)
{
        LIST_EACH (at, &l->duties) {
                struct notification_duty *duty = CONTAINER_OF(at, struct notification_duty, link);

                if (duty->state == (int)state)
                        return duty;
        }
        return NULL;
}

static uint32_t sum_of_duties(struct leader *l)
{
        uint32_t sum = 0;

        LIST_EACH (at, &l->duties)
                sum += CONTAINER_OF(at, struct notification_duty, link)->count;
        return sum;
}

static void load_duty(struct leader *l, struct notification_duty *duty)
{
        duty->count = 0;
        sm_move(duty_states, &duty->state, DUTY_LOADING);
        duty->load(duty->arg, l->term);
}

static void start_duty(struct leader *l, struct notification_duty *duty)
{
        duty->count = 0;
        sm_move(duty_states, &duty->state, DUTY_STARTING);
        duty->start(duty->arg, l->term);
}

static void end_loading(struct leader *l)
{
        uint32_t sum = sum_of_duties(l);

        publish(l, FACT_subscriptions_loaded, sum);
        publish(l, FACT_emitter_pools_starting, sum);
        sm_move(leader_states, &l->state, LEADER_STARTING);
}

static void end_starting(struct leader *l)
{
        publish(l, FACT_leadership_duties_assumed, sum_of_duties(l));
        sm_move(leader_states, &l->state, LEADER_ASSUMED);
}

/* One step, if there is one. A duty that came too late for the chain's sums waits for its end. */
static bool take_step(struct leader *l)
{
        struct notification_duty *idle = find_duty(l, DUTY_IDLE);
        struct notification_duty *loaded = find_duty(l, DUTY_LOADED);

        switch ((enum leader_state)l->state) {
        case LEADER_LOADING:
                if (idle)
                        load_duty(l, idle);
                else if (!find_duty(l, DUTY_LOADING))
                        end_loading(l);
                else
                        return false;
                return true;
        case LEADER_STARTING:
                if (loaded)
                        start_duty(l, loaded);
                else if (!find_duty(l, DUTY_STARTING))
                        end_starting(l);
                else
                        return false;
                return true;
        case LEADER_ASSUMED:
                if (idle)
                        load_duty(l, idle);
                else if (loaded)
                        start_duty(l, loaded);
                else
                        return false;
                return true;
        case LEADER_NONE:
                break;
        }
        return false;
}

static void go_on(struct leader *l)
{
        if (l->is_stepping)
                return;
        l->is_stepping = true;
        while (take_step(l))
                ;
        l->is_stepping = false;
}

static void give_up_duty(struct notification_duty *duty)
{
        if (duty->state == DUTY_IDLE)
                return;
        sm_move(duty_states, &duty->state, DUTY_IDLE);
        duty->count = 0;
        duty->give_up(duty->arg);
}

static void assume_duties(struct leader *l)
{
        publish(l, FACT_leader_responsibilities_assumed, 0);
        publish(l, FACT_leadership_duties_starting, 0);
        sm_move(leader_states, &l->state, LEADER_LOADING);
        go_on(l);
}

/* In reverse: what was taken up later may rest on what was taken up before it. The search begins anew after
 * each, since a duty may remove itself and others from inside. */
static void give_up_duties(struct leader *l, const char *why)
{
        struct fact_payload payload = {0};
        struct list *at;

        if (l->state == LEADER_NONE)
                return;
        fact_set_text(&payload, "%s", why);
        control_publish(l->notification->control, FACT_leader_stepping_down, &payload);
        sm_move(leader_states, &l->state, LEADER_NONE);
        for (at = l->duties.previous; at != &l->duties;) {
                struct notification_duty *duty = CONTAINER_OF(at, struct notification_duty, link);

                if (duty->state == DUTY_IDLE) {
                        at = at->previous;
                        continue;
                }
                give_up_duty(duty);
                at = l->duties.previous;
        }
}

void leader_init(struct leader *l, struct notification *n)
{
        l->notification = n;
        list_init(&l->duties);
}

void leader_fini(struct leader *l)
{
        LIST_EACH_SAFE (at, &l->duties) {
                CONTAINER_OF(at, struct notification_duty, link)->notification = NULL;
                list_remove(at);
        }
}

bool leader_has_duties(const struct leader *l)
{
        return l->state == LEADER_ASSUMED;
}

void notification_add_duty(struct notification *n, struct notification_duty *duty)
{
        assert(!duty->notification);
        assert(duty->load && duty->start && duty->give_up);
        duty->notification = n;
        duty->state = DUTY_IDLE;
        duty->count = 0;
        list_add_last(&n->leader.duties, &duty->link);
        go_on(&n->leader);
}

void notification_remove_duty(struct notification_duty *duty)
{
        struct notification *n = duty->notification;

        if (!n)
                return;
        list_remove(&duty->link);
        duty->notification = NULL;
        give_up_duty(duty);
        go_on(&n->leader);
}

/* An answer counts only in the term, and at the step, that it was asked in. */
static bool is_awaited(const struct notification_duty *duty, enum duty_state state, uint64_t term)
{
        return duty->notification && duty->state == (int)state && duty->notification->leader.term == term;
}

void notification_duty_loaded(struct notification_duty *duty, uint64_t term, uint32_t count)
{
        if (!is_awaited(duty, DUTY_LOADING, term))
                return;
        duty->count = count;
        sm_move(duty_states, &duty->state, DUTY_LOADED);
        go_on(&duty->notification->leader);
}

void notification_duty_started(struct notification_duty *duty, uint64_t term, uint32_t count)
{
        if (!is_awaited(duty, DUTY_STARTING, term))
                return;
        duty->count = count;
        sm_move(duty_states, &duty->state, DUTY_STARTED);
        go_on(&duty->notification->leader);
}

/* ---- the tracker ---- */

static void on_leader_changed(struct leader *l, uint64_t term, uint64_t node_id)
{
        struct store_stats stats;
        struct fact_payload payload = {.node_id = node_id};

        if (term <= l->term || l->is_held)
                return;
        l->term = term;
        control_publish(l->notification->control, FACT_leader_changed_received, &payload);
        store_stats(l->notification->store, &stats);
        give_up_duties(l, "a newer term began");
        if (stats.term == term && stats.leader_id == node_id)
                assume_duties(l);
}

/* Another node may be the next; this one at the earliest in a later term. */
static void on_leader_lost(struct leader *l, uint64_t term)
{
        if (term < l->term || l->is_held)
                return;
        give_up_duties(l, "this node leads no more");
}

/* Only who may write has everything that was committed before its term, and so may serve (G9). */
static void ask_store(struct leader *l)
{
        struct store_stats stats;

        if (!store_is_ready(l->notification->store))
                return;
        store_stats(l->notification->store, &stats);
        if (store_is_leading(l->notification->store))
                on_leader_changed(l, stats.term, stats.leader_id);
        else
                on_leader_lost(l, stats.term);
}

void notification_lead(struct notification *n)
{
        if (!n->leader.is_held)
                return;
        n->leader.is_held = false;
        ask_store(&n->leader);
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
                else if (fact.type == FACT_leader_lost)
                        on_leader_lost(l, fact.term);
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
