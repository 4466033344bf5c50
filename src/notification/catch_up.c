/* EmitterSystem: subscriptions that read their history and go on live with one cursor.
 *
 * A subscription is a forward reader that follows. While its reader has something the consumer pulls it; at
 * the end of the log the subscription waits in the emitter until a fact says that something was committed.
 * Because the wait begins in the same turn in which the reader saw the end, and facts of a commit come after
 * the commit, no event falls between (G10). When facts were missed every waiting subscription looks at the
 * log once. */
#include <stdlib.h>

#include "base/memory.h"
#include "notification/room.h"

enum subscription_state { SUBSCRIPTION_READING, SUBSCRIPTION_WAITING };

struct subscription {
        struct notification *notification;
        struct list link;    /* in notification.subscriptions */
        struct list waiting; /* in the emitter */
        struct store_reader *reader;
        void (*on_readable)(void *arg);
        void *arg;
        struct buffer stream; /* empty: all */
        uint64_t stream_hash;
        uint64_t checkpoint_after;
        uint64_t examined_at_checkpoint;
        uint64_t checkpoint_position;
        uint64_t first;     /* number with which it began */
        uint64_t caught_up; /* what ITEM_CAUGHT_UP will tell, as of the end that was seen */
        enum subscription_state state;
        bool has_checkpoint;
        bool has_caught_up_number;
        bool is_live; /* has told that it caught up */
        bool owes_checkpoint;
        bool owes_caught_up;
};

/* ---- the emitter ---- */

static void match_index_watch(struct match_index *e);

static bool is_all(const struct subscription *s)
{
        return s->stream.size == 0;
}

static void wait_for_news(struct subscription *s)
{
        struct match_index *e = &s->notification->emitter;

        if (s->state == SUBSCRIPTION_WAITING)
                return;
        s->state = SUBSCRIPTION_WAITING;
        list_remove(&s->waiting); /* it may still be on the list of those about to be told */
        list_add_last(
                is_all(s) ? &e->waiting_all : &e->waiting[s->stream_hash % EMITTER_BUCKETS], &s->waiting);
        e->waiting_count++;
        match_index_watch(e);
}

static void wait_no_more(struct subscription *s)
{
        if (s->state != SUBSCRIPTION_WAITING)
                return;
        list_remove(&s->waiting);
        s->notification->emitter.waiting_count--;
        s->state = SUBSCRIPTION_READING;
}

/* Moves the waiting subscriptions that want this stream (NULL: all that wait) to `due`. */
static unsigned collect(struct list *waiting, const uint64_t *stream_hash, struct list *due)
{
        unsigned count = 0;

        LIST_EACH_SAFE (at, waiting) {
                struct subscription *s = CONTAINER_OF(at, struct subscription, waiting);

                if (stream_hash && !is_all(s) && s->stream_hash != *stream_hash)
                        continue;
                wait_no_more(s);
                list_add_last(due, &s->waiting);
                count++;
        }
        return count;
}

static unsigned collect_everybody(struct match_index *e, struct list *due)
{
        unsigned count = collect(&e->waiting_all, NULL, due);

        for (unsigned i = 0; i < EMITTER_BUCKETS; i++)
                count += collect(&e->waiting[i], NULL, due);
        return count;
}

/* A consumer may close any subscription from inside: each is taken off the list before it is called. */
static void wake(struct list *due)
{
        while (!list_is_empty(due)) {
                struct subscription *s = CONTAINER_OF(due->next, struct subscription, waiting);

                list_remove(&s->waiting);
                s->on_readable(s->arg);
        }
}

static void on_facts(struct control_watcher *watcher)
{
        struct match_index *e = watcher->arg;
        struct list due;
        struct fact fact;
        uint64_t missed;

        list_init(&due);
        while (control_take(watcher, &fact, &missed)) {
                unsigned count = 0;

                if (missed)
                        count += collect_everybody(e, &due);
                if (fact.type != FACT_events_persisted)
                        continue;
                count += collect(&e->waiting_all, NULL, &due);
                count += collect(&e->waiting[fact.payload.stream_hash % EMITTER_BUCKETS],
                        &fact.payload.stream_hash, &due);
                if (count) {
                        struct fact_payload payload = fact.payload;

                        payload.count = count;
                        control_publish(e->notification->control, FACT_notification_triggered, &payload);
                }
                if (!e->waiting_count)
                        break;
        }
        if (!e->waiting_count) {
                control_unwatch(&e->watcher);
                e->is_watching = false;
        }
        wake(&due);
}

static void match_index_watch(struct match_index *e)
{
        if (e->is_watching || !e->is_running)
                return;
        e->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = e,
                .categories = 1u << CATEGORY_PERSISTENCE,
                .level = LEVEL_TRACE,
        };
        control_watch(e->notification->control, &e->watcher, false);
        e->is_watching = true;
}

int match_index_start(void *arg)
{
        struct match_index *e = arg;

        assert(!e->is_running);
        e->is_running = true;
        /* After a restart somebody may wait already, and news may have passed: everybody looks once. */
        if (e->waiting_count) {
                struct list due;

                list_init(&due);
                collect_everybody(e, &due);
                wake(&due);
        }
        return 0;
}

void match_index_stop(void *arg)
{
        struct match_index *e = arg;

        if (e->is_watching)
                control_unwatch(&e->watcher);
        e->is_watching = false;
        e->is_running = false;
}

/* ---- the subscription ---- */

static void on_reader_ready(void *arg)
{
        struct subscription *s = arg;

        s->on_readable(s->arg);
}

/* The first number to read, and whether the wish makes sense. */
static int first_number(struct subscription *s, const struct subscription_options *o, uint64_t *ret)
{
        struct store *store = s->notification->store;
        struct store_stream_info info;
        int r;

        *ret = 0;
        if (o->from == FROM_START)
                return 0;
        if (is_all(s)) {
                if (o->from == FROM_NUMBER && o->number >= store_next_position(store))
                        return SUBSCRIPTION_INVALID;
                *ret = o->from == FROM_NUMBER ? o->number + 1 : store_next_position(store);
                return 0;
        }
        if (o->from == FROM_NUMBER) {
                if (o->number >= REVISION_MAX)
                        return SUBSCRIPTION_INVALID;
                *ret = o->number + 1;
                return 0;
        }
        r = store_stream_info(store, o->stream, &info);
        if (r == PERSISTENCE_CORRUPT)
                return SUBSCRIPTION_CORRUPT;
        if (r)
                return fault_fold(r);
        *ret = info.has_events ? info.last_revision + 1 : 0;
        return 0;
}

static int outcome_of_read(int r)
{
        switch (r) {
        case STORE_READ_DELETED:
                return SUBSCRIPTION_DELETED;
        case STORE_READ_CORRUPT:
                return SUBSCRIPTION_CORRUPT;
        case STORE_READ_TOO_COSTLY:
                return SUBSCRIPTION_TOO_COSTLY;
        default:
                return fault_fold(r);
        }
}

static int open_reader(struct subscription *s, struct subscription_options *o, uint64_t first)
{
        struct store_read_options read = {
                .stream = buffer_bytes(&s->stream),
                .from = FROM_NUMBER,
                .number = first,
                .limit = UINT64_MAX,
                .filter = o->filter,
                .resolve_links = o->resolve_links,
                /* A reader that went further at once would skip the checkpoints in between. */
                .examine_max = o->checkpoint_after,
                .is_follow = true,
                .on_ready = on_reader_ready,
                .arg = s,
        };
        int r;

        o->filter = NULL;
        r = store_reader_open(s->notification->store, &read, &s->reader);
        return r ? outcome_of_read(r) : 0;
}

int subscription_open(struct notification *n, struct subscription_options *options, struct subscription **ret)
{
        struct subscription *s;
        int r;

        if (n->is_stopping || n->subscription_count >= n->subscriptions_max) {
                filter_free(&options->filter);
                return n->is_stopping ? SUBSCRIPTION_STOPPED : SUBSCRIPTION_LIMIT;
        }
        s = MEMORY_NEW(struct subscription);
        s->notification = n;
        s->on_readable = options->on_readable;
        s->arg = options->arg;
        s->checkpoint_after = options->checkpoint_after;
        buffer_add_bytes(&s->stream, options->stream);
        s->stream_hash = name_hash(options->stream);
        list_init(&s->waiting);
        list_add_last(&n->subscriptions, &s->link);
        n->subscription_count++;
        r = first_number(s, options, &s->first);
        if (!r)
                r = open_reader(s, options, s->first);
        filter_free(&options->filter);
        if (r) {
                subscription_close(&s);
                return r;
        }
        *ret = s;
        return 0;
}

static void publish_place(struct subscription *s, enum fact_type type, const char *text)
{
        struct fact_payload payload = {
                .position = store_reader_examined(s->reader) ? store_reader_position(s->reader) : 0};

        fact_set_stream(
                &payload, is_all(s) ? BYTES_LITERAL("$all") : buffer_bytes(&s->stream), s->stream_hash);
        fact_set_text(&payload, "%s", text);
        control_publish(s->notification->control, type, &payload);
}

void subscription_close(struct subscription **subscription)
{
        struct subscription *s = *subscription;

        if (!s)
                return;
        *subscription = NULL;
        wait_no_more(s);
        if (s->reader)
                publish_place(s, FACT_subscription_ended, "closed");
        list_remove(&s->waiting);
        list_remove(&s->link);
        s->notification->subscription_count--;
        store_reader_close(&s->reader);
        buffer_fini(&s->stream);
        free(s);
}

/* A checkpoint never runs ahead of what was delivered: it names the last event examined, and the consumer has
 * had every match up to it (G10). */
static bool give_checkpoint(struct subscription *s, struct subscription_item *ret)
{
        uint64_t position;

        s->owes_checkpoint = false;
        s->examined_at_checkpoint = store_reader_examined(s->reader);
        if (!s->examined_at_checkpoint)
                return false;
        position = store_reader_position(s->reader);
        if (s->has_checkpoint && position <= s->checkpoint_position)
                return false;
        s->has_checkpoint = true;
        s->checkpoint_position = position;
        *ret = (struct subscription_item){
                .kind = ITEM_CHECKPOINT,
                .position = position,
                .has_position = true,
                .time_us = os_turn_time(s->notification->os).wall_us,
        };
        return true;
}

/* The end was seen in this turn: everything committed was delivered or is hidden. What it tells is kept,
 * since a checkpoint may go first, and more may be committed until the consumer asks again (G10). */
static int see_end(struct subscription *s)
{
        struct store_stream_info info = {0};
        int r;

        s->is_live = true;
        s->owes_caught_up = true;
        if (is_all(s)) {
                uint64_t next = store_next_position(s->notification->store);

                s->has_caught_up_number = next > 0;
                s->caught_up = next ? next - 1 : 0;
                return 0;
        }
        r = store_stream_info(s->notification->store, buffer_bytes(&s->stream), &info);
        if (r == PERSISTENCE_CORRUPT)
                return SUBSCRIPTION_CORRUPT;
        s->has_caught_up_number = info.has_events;
        s->caught_up = info.last_revision;
        return fault_fold(r);
}

static void give_caught_up(struct subscription *s, struct subscription_item *ret)
{
        s->owes_caught_up = false;
        *ret = (struct subscription_item){
                .kind = ITEM_CAUGHT_UP,
                .time_us = os_turn_time(s->notification->os).wall_us,
        };
        if (is_all(s)) {
                ret->has_position = s->has_caught_up_number;
                ret->position = s->caught_up;
        } else {
                ret->has_revision = s->has_caught_up_number;
                ret->revision = s->caught_up;
        }
        publish_place(s, FACT_subscription_caught_up, "");
}

static bool is_checkpoint_due(const struct subscription *s)
{
        return s->checkpoint_after &&
               store_reader_examined(s->reader) - s->examined_at_checkpoint >= s->checkpoint_after;
}

int subscription_next(struct subscription *s, struct subscription_item *ret)
{
        int r;

        if (s->notification->is_stopping)
                return SUBSCRIPTION_STOPPED;
        wait_no_more(s);
        if (s->owes_checkpoint && give_checkpoint(s, ret))
                return 0;
        if (s->owes_caught_up) {
                give_caught_up(s, ret);
                return 0;
        }
        ret->kind = ITEM_EVENT;
        r = store_reader_next(s->reader, &ret->event);
        if (!r) {
                s->notification->delivered++;
                s->owes_checkpoint = is_checkpoint_due(s);
                return 0;
        }
        if (r == STORE_READ_WAIT)
                return SUBSCRIPTION_WAIT;
        if (r == STORE_READ_YIELD) {
                if (is_checkpoint_due(s) && give_checkpoint(s, ret))
                        return 0;
                return SUBSCRIPTION_YIELD;
        }
        if (r != STORE_READ_END)
                return outcome_of_read(r);
        if (!s->is_live) {
                r = see_end(s);
                if (r)
                        return r;
                if (s->checkpoint_after && give_checkpoint(s, ret))
                        return 0;
                give_caught_up(s, ret);
                return 0;
        }
        if (is_checkpoint_due(s) && give_checkpoint(s, ret))
                return 0;
        wait_for_news(s);
        return SUBSCRIPTION_WAIT;
}

/* ---- the room ---- */

int notification_open(const struct notification_options *options, struct notification **ret)
{
        struct notification *n = MEMORY_NEW(struct notification);
        struct supervised workers[] = {
                {"leader_tracker", leader_start, leader_stop, &n->leader},
                {"emitter", match_index_start, match_index_stop, &n->emitter},
        };
        struct supervisor_options supervision = {
                .subsystem = SUBSYSTEM_NOTIFICATION,
                .strategy = REST_FOR_ONE, /* emitters depend on the leader's duties */
                .restarts_max = 5,
                .period_us = 30 * 1000000ull,
        };
        int r;

        n->os = options->os;
        n->control = options->control;
        n->store = options->store;
        n->subscriptions_max = options->subscriptions_max ? options->subscriptions_max : 10000;
        list_init(&n->subscriptions);
        leader_init(&n->leader, n);
        n->emitter.notification = n;
        list_init(&n->emitter.waiting_all);
        for (unsigned i = 0; i < EMITTER_BUCKETS; i++)
                list_init(&n->emitter.waiting[i]);
        r = supervisor_start(n->control, &supervision, workers, COUNT_OF(workers), &n->supervisor);
        if (r) {
                notification_free(&n);
                return fault_fold(r);
        }
        *ret = n;
        return 0;
}

void notification_stop(struct notification *n)
{
        struct list due;

        if (n->is_stopping)
                return;
        n->is_stopping = true;
        list_init(&due);
        collect_everybody(&n->emitter, &due);
        supervisor_stop(&n->supervisor);
        wake(&due);
}

void notification_free(struct notification **notification)
{
        struct notification *n = *notification;

        if (!n)
                return;
        *notification = NULL;
        assert(list_is_empty(&n->subscriptions));
        supervisor_stop(&n->supervisor);
        leader_fini(&n->leader);
        free(n);
}

void notification_stats(const struct notification *n, struct notification_stats *ret)
{
        uint64_t next = store_next_position(n->store);

        *ret = (struct notification_stats){
                .subscriptions = n->subscription_count,
                .delivered = n->delivered,
                .has_duties = leader_has_duties(&n->leader),
        };
        LIST_EACH (at, &n->subscriptions) {
                const struct subscription *s = CONTAINER_OF(at, struct subscription, link);
                uint64_t at_position =
                        store_reader_examined(s->reader) ? store_reader_position(s->reader) + 1 : s->first;

                ret->subscriptions_live += s->is_live;
                if (is_all(s) && next > at_position)
                        ret->max_lag_events = MAX(ret->max_lag_events, next - at_position);
        }
}
