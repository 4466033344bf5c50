/* What the files of this room share. Duties by file:
 *   emitter.c          the room's life, its turns, the pools by key
 *   definition.c       definitions: owned copies, what is wrong with one, JSON both ways
 *   definitions_log.c  the system stream: read at the start of duties, written anew when it is long
 *   mutations.c        create, update, delete, pause, seek: one after the other for each key
 *   pool.c             one cursor over the log for each subscription: reads while there is work, else waits in the index
 *   loader.c           reads single events again
 *   checkpoint.c       the checkpoint: read once, written by policy
 *   parked.c           parked events: written, counted, delivered again
 *   consumer.c         consumers
 *   worker.c, topic.c, webhook.c  consumers inside the server
 *   monitor.c          repairs what is missing or orphaned
 *   info.c             what is going on
 * and the core, which knows none of this: delivery.h. */
#ifndef EMITTER_ROOM_H
#define EMITTER_ROOM_H

#include "base/arena.h"
#include "emitter/delivery.h"
#include "emitter/emitter.h"

enum {
        KEY_SIZE_MAX = LIMIT_STREAM_NAME_SIZE_MAX + 2 + 256,
        GROUP_SIZE_MAX = 256,
        URL_SIZE_MAX = 2048,
        LANE_KEY_SIZE_MAX = 256,
        POOL_SIZE_MAX = 64,          /* workers */
        WINDOW_MAX = 10000,
        BUFFER_MESSAGES_MAX = 10000, /* of one pool, whatever its settings say */
        LANED_MESSAGES_MAX = 16384,  /* of a pool with lanes while a consumer has nothing to do */
        BUFFER_SIZE_MAX = 1024 * 1024,
        SHORT_MESSAGES_MAX = 16,     /* of one pool while memory is short */
        /* Events that are finished above one that is not: what a restart may deliver twice. Above it nothing more is
         * read: a consumer that holds one event for ever holds the others up only then. */
        SPAN_MAX = 65536,
        REPLAYS_MAX = 100,           /* parked events being delivered again at one time */
        REPLAYED_MAX = 10000,        /* single numbers that are no longer parked, between those that are */
        PARK_BATCH_MAX = 100,
        MUTATIONS_MAX = 64,          /* that wait for each other, of one key */
        POOL_READS_PER_TURN = 512,
        READS_PER_TURN = 4096,
        EXAMINED_PER_TURN = 500,     /* of one pool, without a match */
        /* Who has so far to go, and has read so many in vain, lets the history be read for it. */
        SEARCH_FROM = 500, /* which is read in one turn: no readers are held that wait for the next */
        PASSED_MAX = 50000,
        LOADS_PER_TURN = 64,         /* checkpoints */
        LOADS_AT_ONCE = 16,
        STARTS_PER_TURN = 512,
        LAGS_PER_SWEEP = 512,        /* subscriptions whose lag is looked up in one second */
        /* Events that were only passed over, after which a checkpoint is worth an event of its own: so many, and so many
         * for each subscription, so that at most one event of a hundred is such a checkpoint. */
        PASSED_BEFORE_CHECKPOINT = 10000,
        PASSED_PER_SUBSCRIPTION = 100,
};
#define BUSY_US_MAX       500ull      /* of pools in one turn: writers wait meanwhile; at least one has its turn */
#define LINGER_US         1000000ull  /* how long an idle pool keeps its reader and buffers */
#define CHECKPOINT_MIN_US 100000ull   /* between two checkpoints by time */
#define PASSING_STEP_US   62500ull    /* between checkpoints of subscriptions that have only passed over events */
#define RETRY_APPEND_US   500000ull   /* after the store refused a checkpoint or a parked event */
#define MONITOR_US        60000000ull
#define SWEEP_US          1000000ull

static_assert(BUFFER_MESSAGES_MAX < SPAN_MAX && LANED_MESSAGES_MAX < SPAN_MAX, "what is buffered is in the span");

struct pool;
struct mutation;

/* ---- definition.c ---- */

/* An owned definition. The empty value is all zero. */
struct definition {
        struct emitter_definition d; /* its strings are in `text` */
        struct selector *selector;
        char *text;
};
void definition_copy(struct definition *to, const struct emitter_definition *from);
void definition_fini(struct definition *d);
/* NULL if it can be taken, else what is wrong. The stream must be filled in. */
const char *definition_problem(const struct emitter_definition *d);
/* The stream part of the key when none is given. */
struct bytes definition_default_stream(const struct selector *selector);

/* What the log keeps of a subscription beyond its definition. */
struct definition_extra {
        bool is_paused;
        bool has_start;
        uint64_t start; /* `from` as a number, inclusive */
};
void definition_to_log(const struct emitter_definition *d, const struct definition_extra *extra, struct buffer *out);
MUST_CHECK bool definition_from_log(struct bytes json, struct arena *arena, struct emitter_definition *ret,
        struct selector **ret_selector, struct definition_extra *ret_extra, char *why, size_t why_size);

/* The value of a member of a JSON object as it stands in the text; of a string the bytes between the quotes. False if it
 * has none or is no object. Looks at one level only, allocates nothing. */
bool json_member(struct bytes json, struct bytes key, struct bytes *ret_value, bool *ret_is_string);

/* ---- pool.c ---- */

enum pool_state {
        POOL_DOWN,    /* not defined yet, or no duties */
        POOL_LOADING, /* reads its checkpoint */
        POOL_IDLE,
        POOL_ACTIVE,  /* has work */
        POOL_FAILED,
};

/* What only a pool with something to do has. */
struct work {
        struct delivery delivery;
        struct store_reader *reader;
        bool reader_waits; /* for the disk */
        bool has_taken; /* something that is selected was read */
        bool is_at_end;    /* the reader has seen the end of the log */
        bool is_deleted;   /* the reader has seen the stream's tombstone */
        char *ending;      /* why there is no more to read; owned; it fails when what was read is finished */
        uint64_t quiet_since_us; /* monotonic; 0: there is something to do */

        /* loader.c: one message at a time is read again */
        struct store_reader *load_reader;
        bool is_loading;
        uint64_t loading; /* its number */
        bool load_waits;

        /* parked.c */
        struct store_reader *replay_links;  /* the parked stream */
        struct store_reader *replay_target; /* the event that the newest link names */
        uint64_t replay_parked;             /* the number of that link */
        uint64_t replay_revision;           /* the event's, of its stream */
        bool replay_waits;
        uint64_t replays[REPLAYS_MAX];      /* numbers of parked events that are being delivered again */
        unsigned replay_count;
        uint64_t serial;                    /* which work of the pool this is */
};

struct pool {
        struct emitter *emitter;
        struct definition definition;
        struct bytes key;    /* owned */
        struct bytes stream; /* its first part */
        struct bytes source; /* the stream that is read; empty: all */
        struct list mutations; /* the first is under way */
        bool is_sealed;        /* a mutation ends what the pool has written: it writes nothing meanwhile */
        bool is_defined;
        struct definition_extra extra;
        int state;
        char *problem; /* FAILED: why; owned */
        bool is_gone;  /* the stream was deleted for good */
        bool had_consumers;
        bool is_live; /* the end of the log was seen since the reading began */
        bool is_searching;  /* it waits for its next event in the history that all such pools read together */
        uint32_t passed;    /* events that it has read in vain since the last that was selected */

        struct list busy_link;   /* in emitter.busy */
        struct list load_link;   /* in emitter.loading */
        struct list holder_link; /* in emitter.holders */
        struct os_timer timer;
        struct notification_wait wait;
        struct work *work;
        struct list consumers;
        unsigned consumer_count;
        struct list workers;
        uint64_t held_size; /* of payloads, as counted in emitter.memory_used */
        uint64_t work_size; /* of messages and lanes, as counted in emitter.work_size */

        /* the cursor, checkpoint.c */
        uint64_t cursor;         /* everything below was read, or is of no concern */
        uint64_t written_resume; /* the checkpoint as written, plus one; or the start */
        uint64_t finished_since; /* events finished that it does not cover */
        uint64_t checkpoint_at_us; /* monotonic time of the newest */
        uint64_t checkpoint_again_us;
        uint64_t passing_at_us; /* when its turn is to say what it has passed over; 0: it has none */
        uint64_t flying_resume;
        bool has_checkpoint;
        bool has_checkpoint_stream;
        bool is_writing_checkpoint;
        bool wants_checkpoint; /* at once, whatever the policy says */
        struct load *load;

        /* parked.c: numbers in the parked stream */
        uint64_t parked_first; /* below, none is parked */
        uint64_t parked_next;
        uint64_t *replayed;    /* sorted; of those between, no longer parked */
        uint32_t replayed_count, replayed_capacity;
        bool is_replayed_dirty; /* not written yet */
        bool is_writing_replayed;
        uint64_t replayed_at_us;
        uint64_t replay_next, replay_end; /* to be delivered again */
        bool is_parking;                  /* an append is under way */
        uint64_t append_again_us;         /* of parked events and their metadata, after a refusal: not before */
        uint64_t work_serial;

        /* info.c */
        bool has_last;
        uint64_t last;
        uint64_t total;
        uint64_t measured_total, measured_at_us;
        uint64_t since_last;
        uint32_t per_second;
        uint64_t unread_since_us; /* wall clock; 0: not known */
        uint64_t unread_at;       /* the number whose event it is; UINT64_MAX: an estimate */
        uint64_t lag_events, lag_us; /* as of the last sweep */
};

/* Adds a pool without definition under `key`; NULL is never given. */
struct pool *pool_new(struct emitter *e, struct bytes stream, struct bytes group);
void pool_free(struct pool **pool); /* must have no consumers; what is under way forgets it */
/* Takes the definition and says where to begin; then it may go up. */
void pool_define(struct pool *p, struct definition *definition, const struct definition_extra *extra);
void pool_up(struct pool *p);
/* Drops the consumers, with this reason, and everything in flight; it goes on from where it was. */
void pool_drop_consumers(struct pool *p, const char *why, bool is_gone);
void pool_reset(struct pool *p);
void pool_fail(struct pool *p, const char *format, ...) PRINTF_LIKE(2, 3);
void pool_loaded(struct pool *p);
/* There is something to do for it: at the end of this turn. */
void pool_touch(struct pool *p);
void pool_run(struct pool *p, unsigned *budget);
/* The lowest number that is not finished. */
uint64_t pool_resume(const struct pool *p);
bool pool_is_all(const struct pool *p);
void pool_count_memory(struct pool *p);
uint64_t pool_lane_hash(const struct pool *p, const struct store_read_item *item);
/* The number by which the pool orders the event that was read, and which view has it. */
const struct event_view *item_source(const struct store_read_item *item);

/* ---- loader.c ---- */

void loader_run(struct pool *p);
void loader_end(struct pool *p);

/* ---- checkpoint.c ---- */

void checkpoint_load(struct pool *p); /* begins, or goes on; ends with pool_loaded or pool_fail */
void checkpoint_load_end(struct pool *p);
void checkpoint_run(struct pool *p);  /* writes it if it is time */
uint64_t checkpoint_due(struct pool *p); /* monotonic; UINT64_MAX: never */
bool checkpoint_has_moved(const struct pool *p);
void checkpoint_stream(const struct pool *p, struct buffer *out);
void parked_stream(const struct pool *p, struct buffer *out);
void meta_of(struct bytes stream, struct buffer *out);

/* ---- parked.c ---- */

void write_time(uint64_t wall_us, char *out, size_t size); /* as RFC 3339 */
void parked_run(struct pool *p);
void parked_end(struct pool *p); /* the work ends: what was not finished is still parked */
uint64_t parked_due(const struct pool *p);
uint64_t parked_count(const struct pool *p);
bool parked_has_replay(const struct pool *p);
/* Takes what the metastream of the parked stream says. */
void parked_read_metadata(struct pool *p, struct bytes json);

/* ---- mutations.c ---- */

/* Deletes a pool that nobody asked to delete: a transient one that is over. */
void mutations_delete(struct pool *p);
/* A mutation that waited for what was on its way to the pool's streams. */
void mutations_go_on(struct pool *p);
/* Ends them all: what is under way is unknown, what waits gets the verdict. */
void mutations_end(struct pool *p, enum emitter_verdict verdict, const char *problem);

/* ---- definitions_log.c ---- */

#define DEFINITIONS_STREAM  BYTES_LITERAL("$nilo-subscriptions")
#define SUBSCRIPTION_SET     BYTES_LITERAL("$nilo-subscription-set")
#define SUBSCRIPTION_REMOVED BYTES_LITERAL("$nilo-subscription-removed")

void definitions_load(struct emitter *e); /* begins, or goes on at the end of a turn */
void definitions_end(struct emitter *e);
/* A mutation was committed as this event of the stream. */
void definitions_note(struct emitter *e, uint64_t revision);
void definitions_compact(struct emitter *e); /* if it is worth it */

/* ---- worker.c ---- */

/* A consumer inside the server. A kind of worker takes messages with consumer_next when it is called, and acknowledges
 * with consumer_ack and consumer_nack at any time between `begin` and `end`. It cannot be lost without `end`, so its
 * messages have no time-out in the pool: how long it tries is its own affair. */
struct worker {
        struct list link; /* in pool.workers */
        struct pool *pool;
        unsigned number;
        struct consumer *consumer;
        const struct worker_kind *kind;
        void *own; /* the kind's */
};
struct worker_kind {
        uint32_t window;
        void (*begin)(struct worker *w); /* the consumer is open; NULL: nothing to do */
        /* There is something to take: takes until CONSUMER_WAIT. Anything else it answers with worker_lost. */
        void (*run)(struct worker *w);
        void (*end)(struct worker *w); /* the consumer is about to be closed; `own` is freed here */
};
extern const struct worker_kind topic_worker, webhook_worker;
/* NULL: clients connect by themselves, or this server has none for the target. */
const struct worker_kind *worker_kind_of(enum emitter_target target);
void workers_start(struct pool *p); /* those that are missing */
void workers_stop(struct pool *p);
/* Its consumer was dropped: closes it; it is opened again when the pool can, or by the monitor. */
void worker_lost(struct worker *w);

/* ---- consumer.c ---- */

enum consumer_state { CONSUMER_STATE_OPEN, CONSUMER_STATE_DROPPED, CONSUMER_STATE_GONE };

struct consumer {
        struct emitter *emitter;
        struct pool *pool; /* NULL: dropped */
        struct slot slot;
        struct list link;      /* in pool.consumers */
        struct list wake_link; /* in emitter.wakes */
        int state;
        void (*on_readable)(void *arg);
        void *arg;
        uint8_t *current; /* the payload of the newest message */
        uint32_t current_capacity;
        const char *problem;
        struct bytes name, peer, user; /* owned, one piece behind `text` */
        char *text;
        uint64_t measured_total, measured_at_us, since_last;
        uint32_t per_second;
        uint32_t *measures; /* extra statistics: a ring of the newest */
        uint32_t measure_count;
};
enum { MEASURES_MAX = 1000 };
void consumer_wake(struct consumer *c);
void consumer_drop(struct consumer *c, const char *why, bool is_gone); /* `why` is static, or lives as long as the room */

/* ---- emitter.c ---- */

enum emitter_state { EMITTER_OFF, EMITTER_LOADING, EMITTER_LOADED, EMITTER_STARTING, EMITTER_SERVING };

/* An append of the room's own, under way. */
struct flight {
        struct list link;
        struct emitter *emitter;
        struct pool *pool; /* NULL: nobody waits for it */
        void (*on_done)(struct flight *f, const struct store_append_result *result);
        void *arg;
        uint64_t number;
        uint32_t count;
};
/* Appends; `on_done` runs once with f->pool, if it still is what it was; the flight is gone behind it. */
void flight_start(struct emitter *e, struct pool *pool, const struct store_append *append,
        void (*on_done)(struct flight *f, const struct store_append_result *result), void *arg, uint64_t number,
        uint32_t count);
/* Whoever waits with this `arg` waits no more. */
void flights_forget(struct emitter *e, const struct pool *pool);

struct emitter {
        struct os *os;
        struct control *control;
        struct store *store;
        struct notification *notification;
        struct notification_duty duty;
        struct os_turn_hook hook;
        uint64_t memory_max;
        unsigned subscriptions_max;
        bool mutant_checkpoint_before_ack;
        bool mutant_checkpoint_before_parked;

        int state;
        uint64_t term;
        bool has_duty;
        bool is_stopping;
        void (*on_serving)(void *arg);
        void *serving_arg;
        void (*on_stopped)(void *arg);
        void *stopped_arg;

        struct pool **pools; /* by key */
        unsigned pool_count, pool_capacity;
        unsigned defined_count;
        unsigned consumer_count;
        unsigned start_next; /* STARTING: the next pool to go up */
        struct list busy;
        struct list wakes;
        struct list loading;
        unsigned loads_under_way;
        struct list holders; /* pools with payloads, the longest without use first */
        uint64_t memory_used; /* by payloads */
        uint64_t work_size;   /* by what tells where each event is */
        struct list flights;
        unsigned flight_count;
        uint64_t next_seed;

        /* definitions_log.c */
        struct store_reader *definitions;
        bool definitions_wait;
        bool has_definitions_work;
        bool is_catching_up; /* the monitor found events that nobody here wrote */
        uint64_t definitions_next;  /* revision behind the newest event that is known */
        uint64_t definitions_first; /* the first visible one */
        bool is_compacting;
        unsigned mutations_under_way;

        uint64_t passing_next_us; /* the newest turn that was given */
        struct os_timer monitor;
        struct os_timer sweep;
        unsigned sweep_next;
        struct emitter_stats stats; /* the counters */
};

static inline uint64_t emitter_now(const struct emitter *e)
{
        return os_turn_time(e->os).monotonic_us;
}
struct pool *emitter_find(struct emitter *e, struct bytes stream, struct bytes group);
/* Also one that is not defined yet; `ret_index`: where it is or would be. */
struct pool *emitter_find_any(struct emitter *e, struct bytes stream, struct bytes group, unsigned *ret_index);
/* Where the first key stands that is not before this one. */
unsigned emitter_index(const struct emitter *e, struct bytes key);
void emitter_add_pool(struct emitter *e, struct pool *p);
void emitter_remove_pool(struct emitter *e, struct pool *p);
void emitter_loaded(struct emitter *e); /* all definitions are known */
/* The end of this turn has something to do. */
void emitter_again(struct emitter *e);
void emitter_publish(struct emitter *e, enum fact_type type, struct bytes key, uint64_t position, uint32_t count,
        const char *text);
/* Frees payloads of others until `more` fits. */
void emitter_make_room(struct emitter *e, struct pool *p);
void emitter_new_id(struct emitter *e, struct event_id *ret);
void key_write(struct bytes stream, struct bytes group, struct buffer *out);

/* ---- monitor.c ---- */

void monitor_start(struct emitter *e);
void monitor_stop(struct emitter *e);
void monitor_look(struct emitter *e);

/* ---- info.c ---- */

/* Looks up the lag of some more subscriptions: the heads of their streams may have to come from the disk. */
void info_sweep(struct emitter *e);

#endif
