/* Catch-up subscriptions: they read their history and go on live with one cursor.
 *
 * A subscription is a forward reader that follows. While its reader has something the consumer pulls it; at
 * the end of the log the reader rests, and the subscription waits in the match index until something that it
 * may want was committed. Because the wait begins in the same turn in which the reader saw the end, no event
 * falls between (G10). What the index has passed over for a filter of all streams, the reader does not read
 * again: so a filter that seldom matches costs nothing in between. It looks all the same whenever a
 * checkpoint is due. */
#include <stdlib.h>

#include "base/memory.h"
#include "notification/room.h"

enum subscription_state { SUBSCRIPTION_READING, SUBSCRIPTION_WAITING };

struct subscription {
        struct notification *notification;
        struct list link; /* in notification.subscriptions */
        struct notification_wait wait;
        struct store_reader *reader;
        void (*on_readable)(void *arg);
        void *arg;
        struct buffer stream; /* empty: all */
        struct buffer origin; /* name and peer */
        size_t name_size;
        uint64_t stream_hash;
        uint64_t checkpoint_after;
        uint64_t examined_at_checkpoint;
        uint64_t checkpoint_position;
        uint64_t next; /* of a stream: revision behind the last one given; of all: position with which it
                          began */
        uint64_t delivered;
        uint64_t last_time_us;    /* wall clock, of the last event given; 0: none yet */
        uint64_t behind_since_us; /* monotonic: when it was told, or opened */
        uint64_t caught_up;       /* what ITEM_CAUGHT_UP will tell, as of the end that was seen */
        enum subscription_state state;
        bool is_filtered;
        bool has_checkpoint;
        bool has_caught_up_number;
        bool is_live; /* has told that it caught up */
        bool owes_checkpoint;
        bool owes_caught_up;
};

static bool is_all(const struct subscription *s)
{
        return s->stream.size == 0;
}

/* ---- waiting ---- */

static void on_match(struct notification_wait *wait, uint64_t position)
{
        struct subscription *s = wait->arg;

        s->state = SUBSCRIPTION_READING;
        s->behind_since_us = os_turn_time(s->notification->os).monotonic_us;
        if (s->notification->mutant_live_gap) /* a fault on order */
                position = store_next_position(s->notification->store);
        if (is_all(s))
                store_reader_rest(s->reader, position);
        s->on_readable(s->arg);
}

/* What to wait for: the stream; the filter's events; or everything, also where a filter is too long for a
 * selection, since a hint too many is harmless. */
static void make_wait(struct subscription *s, const struct filter *filter)
{
        struct filter_options options;
        struct bytes stream = buffer_bytes(&s->stream);
        char why[256];
        int r = FILTER_INVALID;

        s->wait = (struct notification_wait){.on_match = on_match, .arg = s};
        if (!is_all(s)) {
                r = selector_of_names(SELECT_STREAM, &stream, 1, &s->wait.selector, why, sizeof why);
        } else if (filter) {
                options = filter_describe(filter);
                r = selector_of_filter(&options, &s->wait.selector, why, sizeof why);
        }
        if (r)
                r = selector_of_names(SELECT_ALL, NULL, 0, &s->wait.selector, why, sizeof why);
        assert(r == 0);
}

static void wait_for_news(struct subscription *s)
{
        uint64_t end = store_next_position(s->notification->store);
        uint64_t since = store_reader_examined(s->reader) - s->examined_at_checkpoint;

        s->state = SUBSCRIPTION_WAITING;
        store_reader_rest(s->reader, 0);
        /* Of everything it looks at each event anyway. */
        s->wait.look_at = 0;
        if (s->is_filtered && s->checkpoint_after)
                s->wait.look_at = end + s->checkpoint_after - since;
        notification_wait(s->notification, &s->wait, end);
}

static void wait_no_more(struct subscription *s)
{
        if (s->state != SUBSCRIPTION_WAITING)
                return;
        match_index_leave(&s->wait);
        s->state = SUBSCRIPTION_READING;
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
        s->is_filtered = options->filter != NULL;
        s->behind_since_us = os_turn_time(n->os).monotonic_us;
        buffer_add_bytes(&s->stream, options->stream);
        buffer_add_bytes(&s->origin, options->name);
        buffer_add_bytes(&s->origin, options->peer);
        s->name_size = options->name.size;
        s->stream_hash = name_hash(options->stream);
        make_wait(s, options->filter);
        list_add_last(&n->subscriptions, &s->link);
        n->subscription_count++;
        r = first_number(s, options, &s->next);
        if (!r)
                r = open_reader(s, options, s->next);
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
        notification_wait_end(&s->wait);
        selector_free(&s->wait.selector);
        if (s->reader)
                publish_place(s, FACT_subscription_ended, "closed");
        list_remove(&s->link);
        s->notification->subscription_count--;
        store_reader_close(&s->reader);
        buffer_fini(&s->stream);
        buffer_fini(&s->origin);
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

static void note_given(struct subscription *s, const struct store_read_item *item)
{
        const struct event_view *e = item->has_link ? &item->link : &item->event;

        s->notification->delivered++;
        s->delivered++;
        s->last_time_us = e->time_us;
        if (!is_all(s))
                s->next = e->revision + 1;
}

void subscription_ease(struct subscription *s)
{
        store_reader_ease(s->reader);
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
                note_given(s, &ret->event);
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

/* ---- lag ---- */

/* Where it goes on: position or revision. */
static uint64_t place(const struct subscription *s)
{
        return is_all(s) && store_reader_examined(s->reader) ? store_reader_position(s->reader) + 1 : s->next;
}

static uint64_t lag_events(const struct subscription *s)
{
        uint64_t at = place(s);
        struct store_stream_info info;
        uint64_t end;

        if (s->state == SUBSCRIPTION_WAITING)
                return match_index_behind(&s->notification->index, &s->wait);
        if (is_all(s)) {
                end = store_next_position(s->notification->store);
        } else {
                if (store_stream_info(s->notification->store, buffer_bytes(&s->stream), &info) != 0 ||
                        !info.has_events)
                        return 0;
                at = MAX(at, info.first_revision);
                end = info.last_revision + 1;
        }
        return end > at ? end - at : 0;
}

/* What it has not read is not older than the last event given, nor, live, than the moment when it was told:
 * that is of the commit. Who was given nothing is told how old the first event is. */
static uint64_t lag_us(const struct subscription *s)
{
        struct os_time now = os_turn_time(s->notification->os);
        uint64_t told = now.monotonic_us - MIN(now.monotonic_us, s->behind_since_us);
        uint64_t since = s->last_time_us, age;

        if (!since && !s->is_live &&
                !notification_time_of(s->notification, buffer_bytes(&s->stream), place(s), &since))
                since = 0;
        if (!since)
                return MAX(told, 1u);
        age = now.wall_us - MIN(now.wall_us, since);
        return MAX(s->is_live ? MIN(age, told) : age, 1u);
}

static struct bytes filter_text(const struct subscription *s)
{
        if (!s->is_filtered)
                return BYTES_EMPTY;
        /* One that is too long for a selection waits for everything. */
        return selector_kind(s->wait.selector) == SELECT_FILTER ? selector_json(s->wait.selector)
                                                                : BYTES_LITERAL("{\"kind\":\"filter\"}");
}

unsigned notification_each_subscription(
        const struct notification *n, unsigned skip, notification_each_info *each, void *arg)
{
        unsigned count = 0;

        LIST_EACH (at, &n->subscriptions) {
                const struct subscription *s = CONTAINER_OF(at, struct subscription, link);
                struct subscription_info info;

                if (skip > 0) {
                        skip--;
                        continue;
                }
                info = (struct subscription_info){
                        .stream = is_all(s) ? BYTES_LITERAL("$all") : buffer_bytes(&s->stream),
                        .filter = filter_text(s),
                        .name = bytes_of(s->origin.data, s->name_size),
                        .is_live = s->is_live,
                        .delivered = s->delivered,
                        .has_position = is_all(s) ? store_reader_examined(s->reader) > 0 : s->delivered > 0,
                        .lag_events = lag_events(s),
                };
                if (s->origin.size > s->name_size)
                        info.peer = bytes_of(s->origin.data + s->name_size, s->origin.size - s->name_size);
                if (info.has_position)
                        info.position = place(s) - 1;
                if (info.lag_events)
                        info.lag_us = lag_us(s);
                count++;
                if (!each(arg, &info))
                        break;
        }
        return count;
}

/* ---- the room ---- */

int notification_open(const struct notification_options *options, struct notification **ret)
{
        struct notification *n = MEMORY_NEW(struct notification);
        struct supervised workers[] = {
                {"leader_tracker", leader_start, leader_stop, &n->leader},
                {"match_index", match_index_start, match_index_stop, &n->index},
                {"history_index", match_index_start, match_index_stop, &n->history},
        };
        struct supervisor_options supervision = {
                .subsystem = SUBSYSTEM_NOTIFICATION,
                .strategy = REST_FOR_ONE, /* who has duties waits in the index */
                .restarts_max = 5,
                .period_us = 30 * 1000000ull,
        };
        int r;

        n->os = options->os;
        n->control = options->control;
        n->store = options->store;
        n->mutant_live_gap = options->mutant_live_gap;
        n->subscriptions_max = options->subscriptions_max ? options->subscriptions_max : 10000;
        list_init(&n->subscriptions);
        leader_init(&n->leader, n);
        n->leader.is_held = options->duties_follow;
        match_index_init(&n->index, n);
        match_index_init(&n->history, n);
        n->history.is_of_history = true;
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
        if (n->is_stopping)
                return;
        n->is_stopping = true;
        supervisor_stop(&n->supervisor);
        match_index_tell_all(&n->index);
        match_index_tell_all(&n->history);
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
        match_index_fini(&n->index);
        match_index_fini(&n->history);
        free(n);
}

void notification_stats(const struct notification *n, struct notification_stats *ret)
{
        *ret = (struct notification_stats){
                .subscriptions = n->subscription_count,
                .delivered = n->delivered,
                .has_duties = leader_has_duties(&n->leader),
        };
        LIST_EACH (at, &n->subscriptions) {
                const struct subscription *s = CONTAINER_OF(at, struct subscription, link);
                uint64_t events = lag_events(s);

                ret->subscriptions_live += s->is_live;
                if (!events)
                        continue;
                ret->max_lag_events = MAX(ret->max_lag_events, events);
                ret->max_lag_us = MAX(ret->max_lag_us, lag_us(s));
        }
}
