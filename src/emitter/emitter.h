/* emitter (EmitterSystem): durable subscriptions: definitions, emitter pools, consumers, acknowledgement, retry, parking,
 * checkpoints, lag (docs/decisions/0001-durable-subscriptions.md; G10, G11, G18; protocol 3.11).
 *
 * Definitions, checkpoints and parked events are events of the store. A mutation is answered when it is committed. The
 * pools run only while this node has the leader's duties; they are begun and ended by `notification`, fenced by the term.
 *
 * Threads: the loop thread. Results: 0, an outcome documented here, or a fault. */
#ifndef EMITTER_EMITTER_H
#define EMITTER_EMITTER_H

#include "base/arena.h"
#include "base/json_out.h"
#include "control/control.h"
#include "model/event.h"
#include "model/selector.h"
#include "notification/notification.h"
#include "os/os.h"
#include "store/store.h"

struct emitter;
struct emitter_options {
        struct os *os;
        struct control *control;
        struct store *store;
        struct notification *notification;
        uint64_t memory_size;        /* buffers of all pools; 0: 64 MiB */
        unsigned subscriptions_max;  /* definitions; 0: 20 000 */
        void (*on_serving)(void *arg); /* each time that duties have been taken up: now it answers; NULL: of no interest */
        void *arg;
        bool mutant_checkpoint_before_ack; /* for the tests of the tests */
        bool mutant_checkpoint_before_parked;
};
/* Registers its duties with `notification`, which begins them at once where this node leads. */
MUST_CHECK int emitter_open(const struct emitter_options *options, struct emitter **ret);
/* Drops consumers, writes checkpoints that have moved; `on_stopped` runs on the loop, while the store still takes appends. */
void emitter_stop(struct emitter *e, void (*on_stopped)(void *arg), void *arg);
void emitter_free(struct emitter **e); /* NULL is fine */

/* ---- definitions ---- */

enum emitter_strategy { STRATEGY_ROUND_ROBIN, STRATEGY_DISPATCH_TO_SINGLE, STRATEGY_PINNED, STRATEGY_PINNED_BY_CORRELATION, STRATEGY_PER_STREAM };
const char *emitter_strategy_name(enum emitter_strategy strategy); /* "RoundRobin", as KurrentDB spells it; "PerStream" */
MUST_CHECK bool emitter_strategy_parse(struct bytes name, enum emitter_strategy *ret);

/* Settings with KurrentDB's meanings and defaults (protocol 3.11). */
struct emitter_settings {
        bool resolve_links;
        bool extra_statistics;
        uint32_t message_timeout_ms;     /* from consumer_next, or from the call of a webhook; 0: never */
        uint32_t max_retry_count;        /* deliveries after the first, before parking */
        uint32_t checkpoint_after_ms;
        uint32_t min_checkpoint_count;
        uint32_t max_checkpoint_count;
        uint32_t max_subscriber_count;   /* consumers at one time; 0: any number */
        uint32_t live_buffer_size;
        uint32_t read_batch_size;
        uint32_t history_buffer_size;
        enum emitter_strategy strategy;
        struct bytes lane_key;           /* STRATEGY_PER_STREAM: empty: by stream; "tag:NAME" or "metadata:KEY" */
        uint32_t pool_size;              /* workers of a pool with a target of the server's own; 1 for clients */
};
extern const struct emitter_settings emitter_settings_default;

enum emitter_target { TARGET_CLIENT, TARGET_TOPIC, TARGET_WEBHOOK };
struct emitter_definition {
        struct bytes stream;             /* first part of the key; "$all" or the stream; empty: by the selector's kind */
        struct bytes group;              /* 1..256 bytes */
        const struct selector *selector; /* borrowed; copied by create */
        enum store_from from;            /* FROM_NUMBER: inclusive; a revision, or a position */
        uint64_t number;
        struct emitter_settings settings;
        enum emitter_target target;
        struct bytes url;                /* TARGET_WEBHOOK */
        struct bytes secret;             /* signs webhooks (HMAC-SHA256); never shown */
        bool is_transient;               /* not stored: ends with its last consumer, or with this term */
};

enum emitter_verdict {
        EMITTER_OK = 0,
        EMITTER_EXISTS,
        EMITTER_NOT_FOUND,
        EMITTER_INVALID,       /* `problem` says what */
        EMITTER_LIMIT,         /* too many definitions, or consumers (maximum subscribers) */
        EMITTER_NOT_LEADER,    /* no duties here now: try again, or another node */
        EMITTER_BUSY,          /* the store refused for now: nothing changed */
        EMITTER_UNKNOWN,       /* may or may not have been stored */
        EMITTER_GONE,          /* the subscription or its stream was deleted */
};
/* Runs once, on the loop, now or after the commit. `problem` is for people; "" if none. */
typedef void emitter_done(void *arg, enum emitter_verdict verdict, const char *problem);
/* Create: EMITTER_EXISTS if the key is taken (also by another selector). Update replaces the settings of what exists, keeps its selector and, if
 * `from` is not given by has_from, its start; its consumers are dropped; it goes on from its checkpoint, or from the new
 * start if it has none. Everything is copied. */
void emitter_create(struct emitter *e, const struct emitter_definition *definition, emitter_done *done, void *arg);
void emitter_update(struct emitter *e, const struct emitter_definition *definition, bool has_from, emitter_done *done, void *arg);
void emitter_delete(struct emitter *e, struct bytes stream, struct bytes group, emitter_done *done, void *arg);
/* Paused: nothing is given out; durable. Resume undoes it. */
void emitter_pause(struct emitter *e, struct bytes stream, struct bytes group, bool is_paused, emitter_done *done, void *arg);
/* Goes on from `number`, inclusive (FROM_START, FROM_END too): what is in flight is dropped, the checkpoint is set to it. */
void emitter_seek(struct emitter *e, struct bytes stream, struct bytes group, enum store_from from, uint64_t number, emitter_done *done, void *arg);
/* Delivers parked events again: those whose number in the parked stream is below `stop_at`, or all (UINT64_MAX), or the one with `only`
 * (UINT64_MAX: not one). Then they are no longer parked. */
void emitter_replay_parked(struct emitter *e, struct bytes stream, struct bytes group, uint64_t stop_at, uint64_t only, emitter_done *done, void *arg);
/* For whoever shows parked events: the name of the stream that holds them as links, whose revisions are their numbers, is added to
 * `ret`; and whether the one with this number is parked still: delivered again and finished, it is not. */
enum emitter_verdict emitter_parked_stream(struct emitter *e, struct bytes stream, struct bytes group, struct buffer *ret);
bool emitter_is_parked(struct emitter *e, struct bytes stream, struct bytes group, uint64_t number);
/* Ends and begins all pools (RestartSubsystem); consumers are dropped. EMITTER_NOT_LEADER without duties. */
enum emitter_verdict emitter_restart(struct emitter *e);

/* ---- consumers ---- */

struct consumer;
struct consumer_options {
        struct bytes stream;
        struct bytes group;
        uint32_t window;                 /* messages given and not yet finished; 1..10 000 */
        struct bytes name;               /* connection name; copied, as the next two */
        struct bytes peer;
        struct bytes user;
        void (*on_readable)(void *arg);  /* after CONSUMER_WAIT; never from inside consumer_next */
        void *arg;
};
/* EMITTER_OK, _NOT_FOUND, _LIMIT, _NOT_LEADER or _GONE. */
enum emitter_verdict consumer_open(struct emitter *e, const struct consumer_options *options, struct consumer **ret);
enum consumer_outcome {
        CONSUMER_WAIT = 1,               /* nothing now, or the window is full; on_readable follows */
        CONSUMER_DROPPED,                /* updated, deleted, restarted, or duties ended: consumer_problem says which; close it */
        CONSUMER_GONE,                   /* the subscription was deleted */
};
struct consumer_message {
        struct store_read_item item;     /* valid until the next call with the consumer */
        uint32_t retry_count;            /* 0 on the first delivery */
};
/* 0, an outcome above, or a fault. */
MUST_CHECK int consumer_next(struct consumer *c, struct consumer_message *ret);
/* The id to acknowledge by is that of the link where there is one, else of the event. Unknown ids are ignored, as late ones must be (the message
 * may have been given to another consumer). */
void consumer_ack(struct consumer *c, const struct event_id *ids, unsigned count);
enum nack_action { NACK_UNKNOWN, NACK_PARK, NACK_RETRY, NACK_SKIP, NACK_STOP };
void consumer_nack(struct consumer *c, const struct event_id *ids, unsigned count, enum nack_action action, struct bytes reason);
const char *consumer_problem(const struct consumer *c);
void consumer_close(struct consumer **c); /* what it had in flight goes to others, with one more retry; NULL is fine */

/* ---- what is going on ---- */

enum { EMITTER_MEASUREMENTS = 15 }; /* Mean, Median, Fastest, Quintile 1..5, 90 %, 95 %, 99 %, 99.5 %, 99.9 %, Highest, count */
struct consumer_info {
        struct bytes name, peer, user;
        uint64_t total;                  /* messages given */
        uint64_t since_last;             /* and since the last measurement */
        uint32_t per_second;
        uint32_t window, in_flight;
        bool has_measurements;
        uint32_t measured_us[EMITTER_MEASUREMENTS]; /* time to acknowledge; in the order above */
};
struct emitter_info {
        struct bytes stream, group;
        const struct emitter_definition *definition;
        const char *state;               /* "idle", "reading", "live", "paused", "failed" */
        const char *problem;             /* of "failed": why, and the next step */
        bool is_live, is_paused;
        bool has_checkpoint;
        uint64_t checkpoint;             /* as written: revision or position */
        bool has_last;
        uint64_t last;                   /* newest selected event that was read */
        uint64_t total, since_last;
        uint32_t per_second;
        uint32_t history_buffered, live_buffered, retries, in_flight;
        uint64_t parked;
        uint64_t lag_events;             /* behind the end of what it selects from: an upper bound for filters */
        uint64_t lag_us;                 /* age of the oldest event not finished; 0: none */
        unsigned consumer_count;
        const struct consumer_info *consumers;
};
/* Valid for the call. */
typedef void emitter_each_info(void *arg, const struct emitter_info *info);
enum emitter_verdict emitter_info(struct emitter *e, struct bytes stream, struct bytes group, emitter_each_info *each, void *arg);
/* All, in the order of their keys; of `stream` only, if it is not empty. `after`: "stream::group" to go on behind. Gives the number told. */
unsigned emitter_each(struct emitter *e, struct bytes stream, struct bytes after, unsigned limit, emitter_each_info *each, void *arg);

struct emitter_stats {
        uint64_t subscriptions, pools, consumers;
        uint64_t delivered, acked, nacked, retried, parked, timed_out;
        uint64_t checkpoints;
        uint64_t in_flight;
        uint64_t memory_size;            /* of buffers */
        uint64_t max_lag_events, max_lag_us; /* as looked up in the last second, of 512 subscriptions each second */
};
void emitter_stats(const struct emitter *e, struct emitter_stats *ret);

/* A definition as JSON, without its secret; and read from JSON (bodies of HTTP, events of the store): the strings borrow from `arena`. False:
 * `why` says what is wrong and where. Settings that are absent get their defaults. */
void emitter_definition_to_json(const struct emitter_definition *d, struct json_out *j);
MUST_CHECK bool emitter_definition_parse(struct bytes json, struct arena *arena, struct emitter_definition *ret, struct selector **ret_selector,
        char *why, size_t why_size);

#endif
