/* notification (NotificationSystem): keeps subscribers fed from the committed log; knows who waits for which
 * events; takes up the leader's duties, those that rooms above have registered.
 *
 * A subscription is a cursor over the log that its consumer pulls: history first, then live, one cursor, so
 * there is no gap and no duplicate (G10), and a slow consumer costs its cursor and nothing else (G18). News
 * of commits comes as facts on the bus; when facts were missed, every waiting subscription looks at the log.
 *
 * Threads: the loop thread. */
#ifndef NOTIFICATION_NOTIFICATION_H
#define NOTIFICATION_NOTIFICATION_H

#include "control/control.h"
#include "model/event.h"
#include "model/filter.h"
#include "model/selector.h"
#include "store/store.h"

struct notification;
struct notification_options {
        struct os *os;
        struct control *control;
        struct store *store;
        unsigned subscriptions_max; /* 0: 10 000; more gives SUBSCRIPTION_LIMIT */
        bool duties_follow; /* no duty is taken up before notification_lead: rooms above will register some */
        bool mutant_live_gap;       /* for the tests of the tests */
};
/* Starts the leader tracker and the match index under a supervisor; the chain of leadership facts runs when a
 * leader is known. */
MUST_CHECK int notification_open(const struct notification_options *options, struct notification **ret);
/* Ends every subscription: their consumers get on_readable and then SUBSCRIPTION_STOPPED. Call
 * notification_free when they have closed. */
void notification_stop(struct notification *n);
void notification_free(struct notification **n); /* NULL is fine */

struct subscription;
struct subscription_options {
        struct bytes stream; /* empty: all streams. Copied */
        enum store_from
                from;    /* FROM_START: everything; FROM_END: only what comes; FROM_NUMBER: after `number` */
        uint64_t number; /* revision or position; exclusive */
        struct filter *filter;     /* taken in every case; only for all streams; NULL: none */
        uint64_t checkpoint_after; /* events examined between checkpoints; 0: none (protocol 3.8) */
        bool resolve_links;
        struct bytes name; /* of the connection, and where it comes from: for notification_each_subscription; may be empty. Copied */
        struct bytes peer;
        void (*on_readable)(
                void *arg); /* after SUBSCRIPTION_WAIT: ask again. Never from inside subscription_next */
        void *arg;
};
enum subscription_outcome {
        SUBSCRIPTION_WAIT = 1, /* nothing now; on_readable follows */
        SUBSCRIPTION_YIELD,    /* much was examined without a match: let others run, then ask again */
        SUBSCRIPTION_DELETED,  /* the stream was tombstoned: after its last event */
        SUBSCRIPTION_CORRUPT,
        SUBSCRIPTION_TOO_COSTLY, /* the filter exceeds the match limit */
        SUBSCRIPTION_STOPPED,    /* the server stops */
        SUBSCRIPTION_LIMIT,
        SUBSCRIPTION_INVALID, /* the position lies behind the end of the log */
};
enum subscription_item_kind { ITEM_EVENT, ITEM_CHECKPOINT, ITEM_CAUGHT_UP };
struct subscription_item {
        enum subscription_item_kind kind;
        struct store_read_item event; /* ITEM_EVENT; valid until the next call */
        uint64_t
                position; /* ITEM_CHECKPOINT, and ITEM_CAUGHT_UP of all streams: of the last examined event */
        bool has_position;
        uint64_t revision; /* ITEM_CAUGHT_UP of a stream: of its last event */
        bool has_revision;
        uint64_t time_us; /* wall clock, of checkpoint and caught up */
};
/* 0, SUBSCRIPTION_LIMIT, _INVALID, _DELETED, _CORRUPT, _STOPPED or a fault. */
MUST_CHECK int subscription_open(
        struct notification *n, struct subscription_options *options, struct subscription **ret);
/* The next item: 0, an outcome above, or a fault. ITEM_CAUGHT_UP comes exactly once for each move from
 * history to live; a consumer that falls behind goes on from the log silently, as KurrentDB does, and is not
 * told a second time (protocol 3.8). */
MUST_CHECK int subscription_next(struct subscription *s, struct subscription_item *ret);
/* The consumer rests: as store_reader_ease. */
void subscription_ease(struct subscription *s);
void subscription_close(struct subscription **s); /* NULL is fine */

/* What one subscription is at: for people who ask who is behind. Valid for the call. */
struct subscription_info {
        struct bytes stream;   /* "$all" for all streams */
        struct bytes filter;   /* as JSON (selector.h); empty: none */
        struct bytes name;
        struct bytes peer;
        bool is_live;          /* has caught up once */
        uint64_t delivered;
        bool has_position;     /* of a stream: the revision of the last event given; of all: the position of the last one looked at */
        uint64_t position;
        uint64_t lag_events;   /* that it has not looked at; some may be none of its own */
        uint64_t lag_us;       /* age of the oldest event that it has not looked at, or a little more; 0: none */
};
/* Every open catch-up subscription, the oldest first; without the first `skip`, until `each` gives false. Gives the number told. Looks up the heads of the
 * streams whose subscriptions do not wait. */
typedef bool notification_each_info(void *arg, const struct subscription_info *info);
unsigned notification_each_subscription(const struct notification *n, unsigned skip, notification_each_info *each, void *arg);

/* The time of the first event from `number` on, of a stream or (empty) of all, for whoever tells how old what he has not read is. False: there is
 * none, or it cannot be had without waiting; then it may be had soon. Some in each turn. */
MUST_CHECK bool notification_time_of(struct notification *n, struct bytes stream, uint64_t number, uint64_t *ret_us);

/* ---- duties of the leader ---- */

/* What a room above does while this node leads. Both steps may end later: by notification_duty_loaded and _started, with the
 * term that they were begun with. */
struct notification_duty {
        void (*load)(void *arg, uint64_t term);  /* read what is to be served: ends with notification_duty_loaded */
        void (*start)(void *arg, uint64_t term); /* begin to serve it: ends with notification_duty_started */
        void (*give_up)(void *arg);              /* stop at once; also between and during the two */
        void *arg;
        struct notification *notification; /* notification's own, as what follows */
        struct list link;
        int state;
        uint32_t count;
};
/* Adds a duty. Embedded; taken up at once where this node has the duties already. The chain of leadership facts runs once for each term, with the sums of
 * all duties: subscriptions_loaded after the last load, leadership_duties_assumed after the last start. A duty that was given up in between is loaded
 * again with the next term; what it says late, of an older term, is ignored. */
void notification_add_duty(struct notification *n, struct notification_duty *duty);
/* Whoever was to register a duty has done so: from now on they are taken up (notification_options.duties_follow). Harmless otherwise. */
void notification_lead(struct notification *n);
void notification_remove_duty(struct notification_duty *duty); /* gives it up first; harmless when it was not added */
void notification_duty_loaded(struct notification_duty *duty, uint64_t term, uint32_t count);
void notification_duty_started(struct notification_duty *duty, uint64_t term, uint32_t count);

/* ---- the match index: who waits for which events ---- */

struct match_index;
/* Embedded in whoever has read everything below `position` and waits. */
struct notification_wait {
        struct selector *selector; /* borrowed from notification_wait to notification_wait_end */
        /* Once, at the end of a turn: an event that may be selected is committed, at or above `position`; or the log has reached `look_at`; or it is not
         * known, and it must look for itself. It waits no more and may wait again. */
        void (*on_match)(struct notification_wait *wait, uint64_t position);
        void *arg;
        uint64_t look_at; /* told also when store_next_position has reached this, whatever was selected; 0: never */
        uint64_t position; /* notification's own, as what follows */
        struct list link;
        struct list member;
        struct match_index *index;
        void *key;
        unsigned heap_at;
        bool is_waiting;
};
/* Begins to wait; nothing below `position` concerns it. It has looked at the log's end in this turn, so `position` is
 * store_next_position; with less it is told to look at once. Costs no reader; equal selectors share one match. Who has been told stays known until
 * notification_wait_end, so that waiting again with the same selector costs next to nothing. */
void notification_wait(struct notification *n, struct notification_wait *wait, uint64_t position);
/* For whoever has read everything below `position`, is far behind, and expects little of what is between: the history is read once for all who wait
 * so. Told at the first event that may be selected, or at the end of the log as it is then; nothing below the position told concerns it. With the
 * selection of everything, or of one stream, it is told at once; `look_at` does not go with it. */
void notification_wait_behind(struct notification *n, struct notification_wait *wait, uint64_t position);
/* Waits no more and forgets the selector: before the memory of either goes. Harmless when it does not wait and never did (all zero). */
void notification_wait_end(struct notification_wait *wait);

struct notification_stats {
        uint64_t subscriptions;
        uint64_t subscriptions_live; /* have caught up */
        uint64_t delivered;
        uint64_t max_lag_events; /* of all subscriptions (subscription_info) */
        uint64_t max_lag_us;
        bool has_duties;         /* the leader's duties are carried out here */
};
void notification_stats(const struct notification *n, struct notification_stats *ret);

#endif
