/* control (ControlSystem): publish and watch facts; say when every subsystem is ready; supervise workers; log.
 *
 * The bus: a fact is past tense, small, of fixed size, carries no payload of events and may be missed; who must not miss
 * anything reads the log. Facts go into one ring; each watcher has a cursor of its own, so a slow one costs the others
 * nothing and learns how many it missed. With no watcher a fact costs at most 25 ns (bench: facts).
 *
 * Threads: the loop thread only. Helpers report through their completions. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "base/bytes.h"
#include "base/fault.h"
#include "base/json_out.h"
#include "base/list.h"
#include "os/os.h"

struct control;

enum fact_category {
        CATEGORY_SYSTEM,
        CATEGORY_CLUSTER,
        CATEGORY_LEADERSHIP,
        CATEGORY_PERSISTENCE,
        CATEGORY_GATEWAY,
        CATEGORY_COORDINATION,
        CATEGORY_SUBSCRIPTIONS,
        CATEGORIES,
};

enum subsystem {
        SUBSYSTEM_CONTROL,
        SUBSYSTEM_PERSISTENCE,
        SUBSYSTEM_STORE,
        SUBSYSTEM_CLUSTER,
        SUBSYSTEM_NOTIFICATION,
        SUBSYSTEM_GATEWAY,
        SUBSYSTEM_SERVER,
        SUBSYSTEMS,
};

enum log_level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG, LEVEL_TRACE, LEVELS };

enum fact_field {
        FIELD_WRITE = 1,
        FIELD_STREAM = 2,
        FIELD_REVISION = 4,
        FIELD_POSITION = 8,
        FIELD_COUNT = 16,
        FIELD_TERM = 32,
        FIELD_NODE = 64,
        FIELD_SUBSYSTEM = 128,
        FIELD_DURATION = 256,
        FIELD_TEXT = 512,
};

enum fact_type {
#define FACT(name, category, level, publisher, fields, text) FACT_##name,
#include "control/facts.def"
#undef FACT
        FACTS,
};

enum { FACT_STREAM_SIZE = 64, FACT_TEXT_SIZE = 64, FACT_TYPE_WORDS = 2 };
static_assert(FACTS <= FACT_TYPE_WORDS * 64, "a bit for each type");

/* What the publisher fills in: the fields that facts.def names for the type. */
struct fact_payload {
        uint64_t write_id;
        uint64_t stream_hash;
        uint64_t revision;    /* of the last event */
        uint64_t position;    /* of the first event, or the place in the log */
        uint64_t duration_us;
        uint64_t node_id;     /* the node that the fact speaks of */
        uint32_t count;
        uint8_t subsystem;
        uint8_t stream_size;  /* bytes in `stream` */
        uint8_t text_size;
        char stream[FACT_STREAM_SIZE]; /* the first bytes of the name */
        char text[FACT_TEXT_SIZE];
};

struct fact {
        uint64_t sequence;     /* 0-based in this process; boot_id and sequence identify a fact */
        uint64_t monotonic_us;
        uint64_t wall_us;
        uint64_t term;
        uint16_t type;
        uint16_t store;        /* number of the store in this process; 0: none or the default store */
        struct fact_payload payload;
};
static_assert(sizeof(struct fact) <= 256, "a slot of the ring");

struct fact_description {
        const char *name;
        const char *text;
        enum fact_category category;
        enum log_level level;
        enum subsystem publisher;
        unsigned fields;
};
const struct fact_description *fact_describe(enum fact_type type);
const char *fact_category_name(enum fact_category category);
MUST_CHECK bool fact_category_parse(const char *name, enum fact_category *ret);
const char *subsystem_name(enum subsystem subsystem);
MUST_CHECK bool subsystem_parse(const char *name, enum subsystem *ret);
const char *log_level_name(enum log_level level);
MUST_CHECK bool log_level_parse(const char *name, enum log_level *ret);

/* Sets the stream name (cut to 64 bytes) or text of a payload. */
void fact_set_stream(struct fact_payload *p, struct bytes stream, uint64_t hash);
void fact_set_text(struct fact_payload *p, const char *format, ...) PRINTF_LIKE(2, 3);

/* A fact as one JSON object: id, sequence, type, category, store, node, term, time, text, and its fields under "data";
 * and as one line of text without line end. Bytes of names are escaped, so that no name can forge a line. */
void fact_to_json(struct control *control, const struct fact *fact, struct json_out *j);
void fact_to_text(struct control *control, const struct fact *fact, struct buffer *out);

struct control_options {
        struct os *os;
        const char *node_name;   /* shown in facts; copied */
        uint32_t ring_facts;     /* 0: 4096 */
        bool log_json;
        int log_fd;              /* where loggers write; -1: nowhere. Never blocks the loop: lines that the descriptor
                                    does not take at once are kept up to 1 MiB, then dropped and counted */
        enum log_level log_level; /* of every subsystem at the start */
};
MUST_CHECK int control_open(const struct control_options *options, struct control **ret);
void control_close(struct control **control); /* flushes loggers; NULL is fine */

/* ---- facts ---- */

/* Publishes a fact. `payload` may be NULL. Watchers run at the end of the turn. */
void control_publish(struct control *control, enum fact_type type, const struct fact_payload *payload);
void control_set_term(struct control *control, uint64_t term); /* stamped on facts from now on */
/* Random at start: with the sequence it identifies a fact. */
uint64_t control_boot_id(const struct control *control);
/* A number for the next write: unique in this process. */
uint64_t control_next_write_id(struct control *control);

/* Watches facts. Embedded in its user's struct; set the first four, the rest is control's. */
struct control_watcher {
        void (*on_facts)(struct control_watcher *watcher); /* there is something to take; at the end of a turn */
        void *arg;
        uint32_t categories; /* bit set of fact_category */
        enum log_level level; /* facts above this level are left out; LEVEL_TRACE: all */
        struct list link;
        struct control *control; /* NULL: not watching */
        uint64_t next_sequence;
        uint64_t wants[FACT_TYPE_WORDS]; /* a bit for each type of fact */
        uint64_t seen;    /* facts it wants that came before next_sequence */
        uint64_t missed;  /* of those, lost, and not told yet */
        uint64_t joined;  /* the delivery during which it began to watch, or 0 */
        bool is_told;     /* it is to be told at the end of the turn, news or not */
};
/* `from_oldest`: begin with what the ring still holds, for a late watcher; else with the next fact. */
void control_watch(struct control *control, struct control_watcher *watcher, bool from_oldest);
void control_unwatch(struct control_watcher *watcher); /* harmless when not watching */
/* The next fact that the watcher wants; false when there is none. *ret_missed: facts that it wanted and that were lost
 * before this one. When some were lost and nothing that it wants came after them, the fact is one of the type facts_dropped
 * that says so. During a delivery, facts that it has caused itself wait for the next one. */
bool control_take(struct control_watcher *watcher, struct fact *ret, uint64_t *ret_missed);

/* ---- readiness ---- */

/* The start of a subsystem: `start` begins it and returns at once; the subsystem reports by control_ready or
 * control_failed, later or from inside. All starts are called in one turn: they run in parallel. */
struct control_subsystem {
        enum subsystem subsystem;
        void (*start)(void *arg);
        void *arg;
};
/* Publishes the start-up chain and calls `on_end(arg, true)` when all are ready, `on_end(arg, false)` once when the
 * first fails. */
void control_start(struct control *control, const struct control_subsystem *subsystems, unsigned count,
        void (*on_end)(void *arg, bool is_ready), void *arg);
void control_ready(struct control *control, enum subsystem subsystem);
void control_failed(struct control *control, enum subsystem subsystem, const char *reason);
bool control_is_ready(const struct control *control); /* the whole system */
enum readiness { READINESS_ABSENT, READINESS_STARTING, READINESS_READY, READINESS_FAILED };
enum readiness control_readiness(const struct control *control, enum subsystem subsystem);
/* Names of what is missing, comma separated; "" when ready. Valid until the next call. */
const char *control_pending(struct control *control);

/* ---- supervision ---- */

enum supervision { ONE_FOR_ONE, REST_FOR_ONE, ONE_FOR_ALL };
struct supervisor;
struct supervised { /* one worker, in start order; copied */
        const char *name;
        int (*start)(void *arg); /* 0, or a fault: on a restart it counts as a failure */
        void (*stop)(void *arg); /* also of one that has failed, never of one that could not start */
        void *arg;
};
struct supervisor_options {
        enum subsystem subsystem;
        enum supervision strategy;
        unsigned restarts_max;   /* within the period; one more gives `on_exhausted` */
        uint64_t period_us;
        void (*on_exhausted)(void *arg);
        void *arg;
};
/* Makes a supervisor and starts its workers in order; if one cannot start, those before it are stopped and its fault is
 * given. Stops and restarts come by timer, never from inside the failing call: the first at once, then after 10 ms, doubled
 * up to 1 s. When there were too many, `on_exhausted` runs once and nothing is restarted any more; it must not stop the
 * supervisor from inside. */
MUST_CHECK int supervisor_start(struct control *control, const struct supervisor_options *options,
        const struct supervised *workers, unsigned count, struct supervisor **ret);
/* The worker `name` has failed: the strategy says who is stopped (in reverse order) and started again. */
void supervisor_failed(struct supervisor *supervisor, const char *name, const char *reason);
void supervisor_stop(struct supervisor **supervisor); /* stops workers in reverse order; NULL is fine */

/* ---- loggers: one LoggerWorker per subsystem ---- */

void control_set_log_level(struct control *control, enum subsystem subsystem, enum log_level level);
enum log_level control_log_level(const struct control *control, enum subsystem subsystem);

struct control_stats {
        uint64_t published;
        uint64_t published_by_type[FACTS];
        uint64_t missed_by_watchers;
        uint64_t log_lines_dropped;
        uint32_t watchers;
};
void control_stats(const struct control *control, struct control_stats *ret);

#endif
