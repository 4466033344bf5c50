/* store (StoreSystem): open and close stores; append with expected revisions; read.
 *
 * One store is one log (persistence) ordered by one Raft group (cluster). Appends are checked here against heads that
 * include entries in flight (G5); the entries in the log are facts. replica.c steps the engine and carries out its
 * updates; heads.c alone decides expectations and revisions; positions are given before the write (G4).
 *
 * Group commit: appends of one turn of the loop are one Raft submit, one write, one sync; at the turn's end.
 *
 * Threads: the loop thread. Results: 0, an outcome documented here, or a fault. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "cluster/cluster.h"
#include "control/control.h"
#include "model/event.h"
#include "model/filter.h"
#include "model/stream_metadata.h"
#include "os/os.h"
#include "persistence/persistence.h"
#include "store/members.h"

struct store;

/* How the log is synced: by the loop thread itself, by the LOG lane while the loop gathers the next group, or whichever
 * suits the load (ARCHITECTURE.md, threads). */
enum store_sync { STORE_SYNC_AUTO, STORE_SYNC_INLINE, STORE_SYNC_LANE };

struct store_options {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        const char *name;             /* "default" */
        uint64_t segment_size;        /* 0: default */
        uint64_t segment_events_max;  /* 0: default */
        uint64_t space_reserve;       /* free disk space below which appends are refused (G16); 0: default */
        uint64_t scrub_us;            /* everything is read once in so much time (persistence_scrub); 0: never */
        uint64_t memory_size;         /* for heads, index and read caches; 0: 128 MiB */
        uint64_t in_flight_size_max;  /* bytes of appends not yet committed; 0: 128 MiB; more gives STORE_BUSY */
        enum store_sync sync;
        struct store_cluster cluster; /* all zero: a cluster of one */
        bool must_exist;
        bool open_on_loop;            /* recover on the calling thread instead of a lane (libnilo, tools, tests) */
        bool mutant_ack_before_sync;  /* for the tests of the tests */
        bool mutant_skip_sync;
        bool mutant_skip_crc;
        unsigned mutants;             /* tests only, 0 elsewhere: faults on order, which room.h names */
        /* A phase is done: SUBSYSTEM_PERSISTENCE (log recovered), _CLUSTER (a leader is known, which has an entry of its own
         * term committed when it is this node), _STORE (takes reads, and appends while there is a leader). A member that
         * finds no leader opens all the same after some seconds, for reads of what it has. */
        void (*on_phase)(void *arg, enum subsystem phase);
        /* The opening ended: 0 after the last phase, or why not (a persistence outcome or a fault; text in `problem`). */
        void (*on_open)(void *arg, int result, const char *problem);
        /* The disk failed under the store (G15): nothing more will be acknowledged; the process must stop with
         * EXIT_CODE_DISK_FAULT. NULL: the store calls fault_exit itself. */
        void (*on_disk_fault)(void *arg, const char *problem);
        /* The history of this node is not that of the majority of its cluster (G22): the process must stop with
         * EXIT_CODE_WRONG_HISTORY; the next start fetches theirs. NULL: the store calls fault_exit itself. */
        void (*on_wrong_history)(void *arg, const char *problem);
        void *arg;
};

/* Begins to open a store; `on_open` tells the end. 0 or a fault. */
MUST_CHECK int store_open(const struct store_options *options, struct store **ret);
/* Orderly stop: completes appends in flight, writes a watermark, closes; appends from now on are refused. `on_closed`
 * runs on the loop; the store is gone then. Readers must be closed before the loop runs again. */
void store_close(struct store **store, void (*on_closed)(void *arg), void *arg);
/* Drops everything without touching the disk, answers and readers included: after a simulated crash, which leaves the
 * log's memory behind. NULL is fine. */
void store_abandon(struct store **store);

bool store_is_ready(const struct store *store);
const char *store_name(const struct store *store);

/* ---- append ---- */

enum store_verdict {
        STORE_OK = 0,
        STORE_CONFLICT,         /* expected revision does not hold: definite, nothing written */
        STORE_STREAM_DELETED,   /* tombstoned: definite */
        STORE_INVALID,          /* bad input; `problem` says what: definite */
        STORE_TOO_LARGE,        /* an event, the append, or a name exceeds its limit; `limit`, `size`: definite */
        STORE_BUSY,             /* too much in flight: definite, try again */
        STORE_FULL,             /* the disk is full: definite (G16) */
        STORE_NOT_READY,        /* opening or closing, or no leader is known: definite */
        STORE_NOT_LEADER,       /* another node leads (`leader_id`), or was elected before this could be committed: definite,
                                   nothing was written */
        STORE_CORRUPT,          /* what the stream holds cannot be read, so nothing can be decided: definite (G13) */
        STORE_UNKNOWN,          /* the deadline passed, or the leader was lost, before the commit: it may or may not be in the
                                   log (G3); a retry with the same event ids is safe (G6) */
};

/* A stream of an append, named once. `is_written` is derived from the events; a stream without events is only checked. */
struct store_append_stream {
        struct bytes stream;
        struct expected expected;
};
struct store_append_event {
        unsigned stream; /* ordinal in `streams` */
        struct event_draft draft;
};
/* One atomic append: all of it or nothing, contiguous in the log, in the order of `events`. Everything is borrowed for
 * the call only. An append without events is checked and, on success, writes nothing (but revives a soft-deleted
 * stream, protocol 3.2). */
struct store_append {
        const struct store_append_stream *streams;
        unsigned stream_count;
        const struct store_append_event *events;
        unsigned event_count;
        uint64_t write_id;      /* control_next_write_id */
        uint64_t deadline_us;   /* monotonic; 0: none */
        bool requires_leader;   /* STORE_NOT_LEADER on another node, instead of being forwarded to the leader */
};

struct store_stream_outcome {
        bool has_revision;      /* false: no stream */
        bool has_failed;        /* STORE_CONFLICT and STORE_STREAM_DELETED tell of each stream whether it is one that fails, */
        bool is_soft_deleted;   /* and what else is so */
        bool is_tombstoned;
        uint64_t revision;      /* after success: of the last event written or found; after a conflict: the actual one */
};
struct store_append_result {
        enum store_verdict verdict;
        unsigned stream;        /* on failure: ordinal of the first stream that failed */
        unsigned event;         /* on STORE_TOO_LARGE of an event: its ordinal */
        bool is_soft_deleted;   /* on conflict: the stream is soft-deleted */
        bool is_duplicate;      /* success by idempotence (G6): nothing was written now */
        bool has_position;      /* false when nothing was written */
        uint64_t first_position;
        uint64_t position;      /* of the last event */
        uint64_t limit;
        uint64_t size;
        uint64_t leader_id;     /* STORE_NOT_LEADER: 0 if unknown */
        const struct store_stream_outcome *streams; /* stream_count of them; NULL on STORE_BUSY, _FULL, _NOT_READY */
        unsigned stream_count;
        const char *problem;    /* for people; "" if none */
};
/* Valid for the call. Runs exactly once for each store_append, on the loop: from inside store_append for what is known
 * at once, else after the commit (never before events_persisted). */
typedef void store_append_done(void *arg, const struct store_append_result *result);
void store_append(struct store *store, const struct store_append *append, store_append_done *done, void *arg);

/* Soft delete: appends {"$tb": 2^63-1} to the metastream. Tombstone: appends $streamDeleted; irreversible. Both check
 * `expected` against the stream itself (protocol 3.4). `stream` is borrowed for the call. */
struct store_delete {
        struct bytes stream;
        struct expected expected;
        bool is_tombstone;
        uint64_t write_id;
        uint64_t deadline_us;
        bool requires_leader;
};
void store_delete(struct store *store, const struct store_delete *del, store_append_done *done, void *arg);

/* ---- read (committed only, G9) ---- */

enum stream_state { STREAM_ABSENT, STREAM_METADATA_ONLY, STREAM_LIVE, STREAM_SOFT_DELETED, STREAM_TOMBSTONED };
struct store_stream_info {
        enum stream_state state;
        bool has_events;
        uint64_t last_revision;    /* if has_events; survives deletion */
        uint64_t first_revision;   /* first visible by $tb and $maxCount (not $maxAge) */
        uint64_t last_position;
        struct stream_metadata metadata;
        bool has_metadata;
        uint64_t metadata_revision;
};
/* The committed state of a stream. 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int store_stream_info(struct store *store, struct bytes stream, struct store_stream_info *ret);

enum store_from { FROM_START, FROM_END, FROM_NUMBER };
struct store_read_options {
        struct bytes stream;        /* empty: all streams. Copied */
        bool is_backward;
        enum store_from from;
        uint64_t number;            /* stream: revision, inclusive both ways. All: position, forward inclusive, backward
                                       exclusive (protocol 3.7) */
        uint64_t limit;             /* of matching events; UINT64_MAX: none */
        struct filter *filter;      /* taken; only for all streams; NULL: none */
        bool resolve_links;
        uint64_t examine_max;       /* STORE_READ_YIELD after so many events without a match; 0: what the loop can bear */
        bool is_follow;             /* forward: at the end STORE_READ_END means "for now": it may be asked again; absent
                                       and deleted streams are legal */
        void (*on_ready)(void *arg); /* after STORE_READ_WAIT; NULL: cold reads block */
        void *arg;
};
enum store_read_outcome {
        STORE_READ_END = 1,
        STORE_READ_WAIT,            /* from the disk; on_ready follows */
        STORE_READ_YIELD,           /* many events were examined without a match: let others run, then ask again */
        STORE_READ_NOT_FOUND,       /* the stream is absent, metadata only or soft-deleted */
        STORE_READ_DELETED,         /* the stream is tombstoned */
        STORE_READ_CORRUPT,         /* store_reader_problem says where */
        STORE_READ_TOO_COSTLY,      /* the filter's pattern exceeds the match limit */
};
/* What a reader gives: with resolve_links and a link event, `link` is the link and `event` its target (absent if it
 * cannot be had); else `event` alone. Views are valid until the next call with the reader. */
struct store_read_item {
        bool has_event;
        bool has_link;
        struct event_view event;
        struct event_view link;
};
struct store_reader;
/* 0, STORE_READ_NOT_FOUND, STORE_READ_DELETED, STORE_READ_CORRUPT or a fault. `options->filter` is taken in every case. */
MUST_CHECK int store_reader_open(struct store *store, struct store_read_options *options, struct store_reader **ret);
MUST_CHECK int store_reader_next(struct store_reader *r, struct store_read_item *ret);
void store_reader_close(struct store_reader **r); /* also while WAITing; NULL is fine */
/* A following reader that has met STORE_READ_END gives back the memory that it reads with, and goes on where it was when it is asked next; of all streams,
 * not below `position`: what lies before counts as examined. */
void store_reader_rest(struct store_reader *r, uint64_t position);
/* The consumer rests and looks at no view any more: when readers hold much memory, this one gives back what it can (G18). Harmless at
 * any time. */
void store_reader_ease(struct store_reader *r);
const char *store_reader_problem(const struct store_reader *r);
/* Events looked at so far, and the position of the last of them (valid if examined > 0): for checkpoints (G10). */
uint64_t store_reader_examined(const struct store_reader *r);
uint64_t store_reader_position(const struct store_reader *r);

uint64_t store_next_position(const struct store *store); /* one behind the last committed event */

/* As persistence_list. Streams that are tombstoned or soft-deleted are left out of NAMES_STREAMS. */
MUST_CHECK int store_list(struct store *store, enum persistence_names what, struct bytes prefix, struct bytes after,
        unsigned limit, persistence_each_name *each, void *arg);

/* ---- reads that wait (G7, G8) ---- */

/* Embedded in whoever waits; all zero is the empty value. `done` runs once, never from inside the call that began it, unless
 * store_wait_end comes before: STORE_OK, STORE_NOT_READY (closing; no leader) or STORE_UNKNOWN (the deadline passed). */
struct store_wait {
        void (*done)(struct store_wait *wait, enum store_verdict verdict);
        void *arg;
        struct list link; /* the store's own, as what follows */
        struct store *store;
        uint64_t deadline_us;
        uint64_t position;
        uint64_t index;
        uint64_t nonce;
        int state;
};
/* Until reads on this node see everything that was acknowledged anywhere before this call: the leader confirms by a
 * majority that it leads, another node asks the leader, then waits for its own log. Does not wait where this node is the only
 * voter: true is given, and `done` does not run. */
bool store_wait_linearizable(struct store *store, struct store_wait *wait, uint64_t deadline_us);
/* Until the event at `position` is visible here; true: it is, and `done` does not run. */
bool store_wait_position(struct store *store, struct store_wait *wait, uint64_t position, uint64_t deadline_us);
void store_wait_end(struct store_wait *wait); /* harmless when it does not wait */

/* ---- changes of members; who they are is in members.h ---- */

/* A change of members, at the leader: begins, waits until it is allowed (a change before it, a catch-up), and is done when it
 * is committed. STORE_OK; STORE_NOT_LEADER; STORE_INVALID (it would leave the envelope: `problem` says why); STORE_UNKNOWN
 * (the deadline passed: it may still come); STORE_BUSY (another change is waiting here). */
enum store_change { STORE_ADD, STORE_PROMOTE, STORE_DEMOTE, STORE_REMOVE, STORE_TRANSFER, STORE_GROW };
typedef void store_change_done(void *arg, enum store_verdict verdict, const char *problem);
void store_change_members(struct store *store, enum store_change change, uint64_t node_id, const char *address,
        uint64_t deadline_us, store_change_done *done, void *arg);
/* The only voter is joined by two or four stand-bys that have everything, in one step; appends wait for that moment. Answers
 * as above. */
void store_grow(struct store *store, const uint64_t *node_ids, unsigned count, uint64_t deadline_us, store_change_done *done,
        void *arg);

/* ---- figures ---- */

struct store_stats {
        uint64_t appends;           /* acknowledged */
        uint64_t events;            /* acknowledged */
        uint64_t events_read;       /* given to readers, subscriptions among them */
        uint64_t conflicts;
        uint64_t refused;           /* busy, full, not ready */
        uint64_t invalid;
        uint64_t duplicates;
        uint64_t unknown;
        uint64_t groups;            /* group commits */
        uint64_t groups_on_lane;
        uint64_t in_flight_size;
        uint64_t heads_cached;
        uint64_t heads_size;
        uint64_t commit_index;
        uint64_t term;
        uint64_t leader_id;
        struct persistence_stats persistence;
};
void store_stats(const struct store *store, struct store_stats *ret);
struct persistence *store_persistence(struct store *store); /* for verify and inspection */

#endif
