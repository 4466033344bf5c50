/* What the files of the store share. Duties by file:
 *   replica.c   opens and closes; steps the engine and carries out its updates; group commit
 *   head_map.c  which stream stands where: committed and with what is in flight; bounded memory
 *   heads.c     decides expectations, idempotence and revisions; nobody else does
 *   ids.c       ids of events in flight
 *   appends.c   checks appends and deletes and gathers them
 *   pendings.c  appends on their way: gathered, in flight, decided, answered
 *   reads.c     readers: visibility, links, filters
 *   info.c      streams, lists, figures */
#ifndef STORE_ROOM_H
#define STORE_ROOM_H

#include "base/arena.h"
#include "cluster/cluster.h"
#include "store/store.h"

struct pending;

/* ---- head_map.c ---- */

/* Where a stream and its metastream stand. */
struct head_state {
        uint64_t next_revision;      /* one behind the last event; 0: no events */
        uint64_t next_meta_revision; /* the same of "$$" + name */
        struct stream_metadata metadata;
        bool is_tombstoned;
};

struct head {
        struct head *next; /* in its bucket */
        struct list lru;   /* lone while in flight */
        uint64_t hash;
        struct head_state committed;
        struct head_state latest; /* with everything in flight */
        struct pending *newest;   /* the last append in flight that changes it; NULL: none */
        uint64_t mark; /* the append that named the stream last; its metastream; and that put it in slot
                          `slot` */
        uint64_t meta_mark;
        uint64_t slot_mark;
        uint32_t slot;
        struct bytes soft_body; /* metadata of a soft-deleted stream (latest), for its revival; owned */
        uint32_t in_flight;     /* appends in flight that change it */
        uint32_t name_size;
        char name[];
};

struct head_map {
        struct persistence *persistence;
        struct head **buckets;
        uint64_t bucket_count; /* a power of two */
        struct list lru;       /* least recently used first */
        uint64_t count;
        uint64_t size;
        uint64_t size_max;
        struct buffer scratch; /* the name of a metastream */
};

void head_map_init(struct head_map *m, uint64_t size_max);
void head_map_fini(struct head_map *m);
/* The head of the stream `base` (never a metastream), loaded if need be. It stays until the next
 * head_map_trim, or longer while something in flight changes it. 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int head_map_get(struct head_map *m, struct bytes base, struct head **ret);
/* Forgets what was used longest ago until the map is within its limit. */
void head_map_trim(struct head_map *m);
void head_begin_change(
        struct head_map *m, struct head *h, struct pending *by, const struct head_state *after);
void head_end_change(struct head_map *m, struct head *h, struct pending *by, const struct head_state *after);
/* Keeps the body of the metadata that soft-deleted the stream; empty: forgets it. */
void head_keep_body(struct head_map *m, struct head *h, struct bytes body);

static inline struct bytes head_name(const struct head *h)
{
        return bytes_of(h->name, h->name_size);
}

static inline bool head_is_soft_deleted(const struct head_state *s)
{
        return s->metadata.truncate_before == REVISION_MAX;
}

/* ---- ids.c ---- */

/* The id of an event in flight. */
struct flying_id {
        struct flying_id *next; /* in its bucket, or free */
        struct flying_id *next_of_pending;
        struct pending *pending;
        struct event_id id;
        uint64_t stream_hash;
        uint64_t revision;
        uint64_t position;
};
struct flying_block;
struct flying_ids {
        struct flying_id **buckets;
        uint64_t bucket_count;
        uint64_t count;
        struct flying_id *free;
        struct flying_block *blocks;
};
void flying_ids_fini(struct flying_ids *f);
/* Adds the id of an event of `pending`, newest first in pending->ids. */
void flying_ids_add(struct flying_ids *f, struct pending *pending, const struct event_id *id,
        uint64_t stream_hash, uint64_t revision, uint64_t position);
void flying_ids_remove_all(struct flying_ids *f, struct pending *pending);
/* The newest event in flight with this id in this stream; with `revision`, only the one that has it. NULL:
 * none. */
const struct flying_id *flying_ids_find(const struct flying_ids *f, const struct event_id *id,
        uint64_t stream_hash, const uint64_t *revision);

/* ---- heads.c ---- */

/* One stream of an append as heads.c decides it. */
enum decision { DECIDED_WRITE, DECIDED_DUPLICATE, DECIDED_CONFLICT, DECIDED_DELETED };
struct target {
        struct head *head;
        struct bytes name;
        uint64_t hash; /* of the name */
        struct expected expected;
        bool is_meta;
        bool is_check_only;   /* others of the append are written, this one is not */
        unsigned event_count; /* to be written */
        uint32_t first_event; /* of those, among all of the append */
        const uint32_t *next_event; /* by event: the next one of the same stream; NULL: all are of one */
        enum decision decision;
        uint64_t next_revision; /* of the stream (or metastream) as decided: latest */
        uint64_t found_next;    /* of a duplicate: one behind its last event */
        uint64_t found_first_position;
        uint64_t found_position;
        struct pending *rests_on; /* the newest append in flight that the decision rests on */
};
enum heads_outcome { HEADS_CORRUPT = 1, HEADS_TWICE };
/* Decides all targets of an append and gives the whole: DECIDED_WRITE (with no events: checked and fine), a
 * duplicate, or the refusal of the target *ret_failed. 0, HEADS_CORRUPT, HEADS_TWICE (*ret_failed is named
 * twice) or a fault. */
MUST_CHECK int heads_decide(struct store *s, const struct store_append *append, struct target *targets,
        enum decision *ret, unsigned *ret_failed);

static inline bool target_is_soft_deleted(const struct target *t)
{
        return !t->is_meta && head_is_soft_deleted(&t->head->latest);
}

/* What an append does to a stream and its metastream. */
struct side_change {
        uint64_t first_position;
        uint64_t revision; /* of the last event */
        uint32_t event_count;
};
struct head_change {
        struct head *head;
        struct head_state after;
        struct side_change stream;
        struct side_change meta;
};
/* Gives the next event of a stream its revision and notes it, with what a metadata event says. */
uint64_t heads_add_event(struct head_change *c, bool is_meta, uint64_t position, const struct event_draft *e);
void heads_add_tombstone(struct head_change *c, uint64_t position);

/* ---- pendings.c ---- */

/* An append, or a delete, that is not decided yet. */
struct pending {
        struct list link; /* gathering, in flight, decided; or in the waiters of another */
        struct list waiters;
        store_append_done *done;
        void *arg;
        uint64_t write_id;
        uint64_t deadline_us; /* 0: none */
        uint64_t index;       /* in the log; 0: not submitted, or a waiter */
        uint64_t size;        /* counted in in_flight_size */
        size_t payload_start; /* in the group's buffer, until submitted */
        size_t payload_size;
        uint64_t first_position; /* of the record, which may begin with a revival */
        uint32_t event_count;
        bool is_waiter;
        bool is_answered;
        struct store_append_result result;
        struct head_change *changes; /* &change, or memory of its own */
        unsigned change_count;
        struct head_change change;
        struct store_stream_outcome outcome;
        struct flying_id *ids;
};

void pendings_init(struct store *s);
void pendings_fini(struct store *s); /* drops everything unanswered */
struct pending *pending_new(struct store *s, uint64_t write_id, uint64_t deadline_us, unsigned streams,
        store_append_done *done, void *arg);
/* Gives back one that nothing waits for; an answered one is given back by itself. */
void pending_release(struct store *s, struct pending *p);
/* Adds one that is to be written to the group; one that waits for another. Both count in in_flight_size. */
void pending_gather(struct store *s, struct pending *p);
void pending_wait_for(struct store *s, struct pending *p, struct pending *other);
void pending_answer_now(struct store *s, struct pending *p);
/* Everything up to the log index is committed and visible: heads follow, then the answers go out. */
void pendings_commit(struct store *s, uint64_t index);
/* Answers all with STORE_UNKNOWN. */
void pendings_give_up(struct store *s);
/* For the mutant that acknowledges before the sync. */
void pendings_answer_gathered(struct store *s);
/* The group's payloads were copied by the log. */
void pendings_group_left(struct store *s);
void pendings_at_turn_end(struct store *s);
bool pendings_are_none(const struct store *s);
void publish_write(struct store *s, enum fact_type type, uint64_t write_id, struct bytes stream,
        uint64_t hash, uint32_t count, const char *text);

/* ---- appends.c ---- */

/* Appends without asking whether the store takes appends yet: its own first event. */
void appends_take(struct store *s, const struct store_append *append, store_append_done *done, void *arg);

/* ---- info.c ---- */

/* What is visible of a stream or metastream, as committed. */
struct visibility {
        enum stream_state state;
        uint64_t next;      /* one behind the last event */
        uint64_t first;     /* by $tb and $maxCount; at most `next` */
        uint64_t oldest_us; /* by $maxAge, now; 0: no limit */
};
/* 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int stream_visibility(struct store *s, struct bytes name, struct visibility *ret);

/* ---- replica.c ---- */

enum store_state { STORE_OPENING, STORE_STARTING, STORE_READY, STORE_CLOSING, STORE_FAILED };

struct store {
        struct store_options options;
        char *name;
        struct os *os;
        struct control *control;
        enum store_state state;

        /* replica.c */
        struct persistence *persistence;
        struct cluster_raft *raft;
        struct os_work open_work;
        int open_result;
        char problem[512];
        uint64_t opened_at_us;
        struct os_turn_hook hook;
        struct os_timer engine_timer;
        uint64_t commit_index;
        uint64_t applied_index;
        uint64_t configuration_index; /* stored, not yet applied; 0: none */
        struct buffer configuration;
        struct cluster_entry *entries; /* of one submit */
        unsigned entry_capacity;
        bool is_leading;  /* can write */
        bool is_settling; /* no step begins inside another */
        bool wants_close;
        bool is_close_posted;
        bool has_open_ended;
        bool is_opening_on_lane;
        void (*on_closed)(void *arg);
        void *on_closed_arg;
        uint32_t recent_appends; /* in a group, smoothed, times 16 */
        uint64_t recent_bytes;   /* of a group, smoothed */
        bool prefers_lane;

        /* pendings.c */
        struct list gathering;
        struct list in_flight;
        struct list decided;
        struct list unused;
        unsigned unused_count;
        unsigned gathered_count;
        struct buffer group; /* payloads of the gathered appends */
        uint64_t next_position;
        uint64_t last_time_us;
        struct os_timer deadline_timer;
        unsigned deadlines; /* pending ones that have one and are not answered */

        /* appends.c */
        struct target *targets;
        unsigned target_capacity;
        uint64_t mark;        /* one more with each append that is decided */
        struct arena scratch; /* names and bodies of one append */

        struct head_map heads;
        struct flying_ids ids;
        unsigned reader_count;
        struct store_stats stats; /* the counters */
};

/* The disk failed (G15): everything stops here. */
void store_fail(struct store *s, const char *what);

#endif
