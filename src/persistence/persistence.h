/* persistence (PersistenceSystem): one data directory; per store one log in segment files that serves reads, with its
 * index; term and vote.
 *
 * The Raft log is the event log: an entry is stored once. Layout of the directory, segments, recovery and index: at the
 * head of the files that own them, and in docs/formats/.
 *
 * Threads: the loop thread; sealing, zero-filling and cold reads run on lanes of os and come back by completion.
 * Every result is 0, an outcome documented here, or a fault. A fault of a write or sync means: stop the process (G15). */
#ifndef PERSISTENCE_PERSISTENCE_H
#define PERSISTENCE_PERSISTENCE_H

#include "base/bytes.h"
#include "base/fault.h"
#include "control/control.h"
#include "model/event.h"
#include "model/record.h"
#include "os/os.h"
#include "persistence/care.h"

enum persistence_outcome {
        PERSISTENCE_IN_USE = 1, /* another process has the directory */
        PERSISTENCE_CORRUPT,    /* damaged bytes; persistence_problem() says file, offset and next step */
        PERSISTENCE_FULL,       /* no space for it: nothing was written (G16) */
        PERSISTENCE_NOT_FOUND,
        PERSISTENCE_END,        /* no more events now */
        PERSISTENCE_WAIT,       /* bytes come from the disk: `on_ready` follows */
        PERSISTENCE_FORMAT,     /* made by a newer version, or no data directory of ours */
        PERSISTENCE_COLD,       /* not in memory: persistence_fetch */
};

/* ---- the data directory of a node ---- */

struct persistence_node;
struct persistence_identity {
        uint8_t cluster_uuid[16];
        uint64_t node_id; /* > 0 */
};
/* Opens or makes a data directory and takes its lock: LOCK, node.json, stores/. 0, PERSISTENCE_IN_USE, _CORRUPT,
 * _FORMAT, _FULL, _NOT_FOUND (must_exist) or a fault. */
MUST_CHECK int persistence_node_open(struct os *os, const char *path, bool must_exist, struct persistence_node **ret);
void persistence_node_close(struct persistence_node **node);
struct persistence_identity persistence_node_identity(const struct persistence_node *node);

/* Makes this node a member of another cluster: its UUID and the node id that it gave us become durable. Only for a node that
 * has no store yet (G12): else PERSISTENCE_IN_USE, and nothing changes. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int persistence_node_adopt(struct persistence_node *node, const struct persistence_identity *identity);
bool persistence_node_has_stores(const struct persistence_node *node);

/* ---- one store's log ---- */

struct persistence;
struct persistence_options {
        struct os *os;
        struct control *control;        /* NULL: publishes nothing (offline tools) */
        struct persistence_node *node;
        const char *store_name;         /* "default": found by its store.json or made */
        uint64_t segment_size;          /* 0: 256 MiB */
        uint64_t segment_events_max;    /* 0: 1 000 000; a segment is also sealed at this many events */
        uint64_t cache_size;            /* bytes for cached index blocks and read blocks; 0: 64 MiB. A segment is also
                                           sealed when its index in memory has half of it (8 MiB at least) */
        uint64_t space_reserve;         /* 0: 64 MiB; below this much free space appends are refused (G16) */
        const uint8_t *store_uuid;      /* 16 bytes: a store that is made gets this UUID (a joiner has that of the cluster's);
                                           one that exists must have it, else PERSISTENCE_FORMAT. NULL: any. Copied */
        uint32_t epoch;                 /* of a store that is made; 0: 1 */
        /* Asked when records that were durable are damaged, with the newest configuration before them: may they be cut off, because
         * other nodes have them? See persistence_lost. May run on a lane. NULL: never, such a log does not open. */
        bool (*may_cut_damage)(void *arg, struct bytes configuration);
        void *may_cut_arg;
        bool must_exist;
        bool read_only;                 /* offline tools: changes nothing on disk, no torn tail is cut */
        uint64_t scrub_us;              /* everything is read once in so much time (persistence_scrub); 0: never */
        bool skip_crc;                  /* a mutant for the tests of the tests: recovery and reads verify nothing */
        bool skip_sync;                 /* the same: groups are reported durable without a sync */
};
/* Opens a log and recovers it (G13): reads only the unsealed tail, cuts a torn end, refuses corruption. May take long:
 * may be called on a lane, before the object is used by the loop; publishes its facts only from persistence_start.
 * 0, PERSISTENCE_CORRUPT, _FORMAT, _FULL, _NOT_FOUND (must_exist) or a fault. */
MUST_CHECK int persistence_open(const struct persistence_options *options, struct persistence **ret);
/* What the last PERSISTENCE_CORRUPT or _FORMAT of this thread's open was about: file, offset, what to do. */
const char *persistence_problem(void);
/* On the loop, once, after open: publishes log_opened (and torn_tail_cut), starts background work. */
void persistence_start(struct persistence *p);
/* Writes a watermark so that the next start knows everything was durable, waits for background work, closes.
 * Writes under way are finished first: their `done` runs from inside. Readers must not be used after it, only closed.
 * NULL is fine. After a fault of a write: closes without writing. */
void persistence_close(struct persistence **p);

/* What recovery found, for the start of the consensus engine. Valid until the first append. */
struct persistence_tail_entry {
        uint64_t term;
        enum record_kind kind;
        struct bytes payload; /* of configurations; else empty */
};
struct persistence_recovered {
        uint64_t term;           /* of the vote file */
        uint64_t voted_for;
        uint64_t base_index;     /* last index of the newest sealed segment; 0: none */
        uint64_t base_term;
        struct bytes base_configuration;
        uint64_t base_configuration_index;
        const struct persistence_tail_entry *entries; /* base_index + 1 ...: durable, but nothing says that they are committed */
        uint64_t entry_count;
        uint64_t next_position;  /* behind the last entry, committed or not */
        uint64_t last_time_us;   /* not below the time of any event in the log, committed or not */
};
const struct persistence_recovered *persistence_recovered(const struct persistence *p);
void persistence_recovered_free(struct persistence *p); /* the entries are no longer needed */

/* Makes term and vote durable before it returns. Blocks for one sync; only at elections and starts. 0 or a fault. */
MUST_CHECK int persistence_save_vote(struct persistence *p, uint64_t term, uint64_t voted_for);

/* ---- append ---- */

struct persistence_entry {
        uint64_t index; /* last + 1 */
        uint64_t term;
        enum record_kind kind; /* not RECORD_WATERMARK */
        uint64_t first_position;
        uint32_t event_count;
        uint64_t write_id;     /* for facts; 0: none */
        struct bytes payload;  /* copied */
};
/* Says whether `size` more bytes of payloads in `entries` records fit: 0 or PERSISTENCE_FULL. Ask before an entry is
 * given to the engine, since persistence_append cannot refuse. */
MUST_CHECK int persistence_has_room(struct persistence *p, uint64_t size, unsigned entries);
/* Adds an entry to the group that the next persistence_write writes. */
void persistence_append(struct persistence *p, const struct persistence_entry *entry);
/* Writes the group: one write and one sync for all of it. `done(arg, result)` runs when it is durable: from inside this
 * call when `on_this_thread` (behind that of writes still under way), else on the loop after the LOG lane has done it. `result` is 0 or a fault, after which
 * the process must stop. At most PERSISTENCE_WRITES_MAX may be under way; they finish in order. */
enum { PERSISTENCE_WRITES_MAX = 2 };
typedef void persistence_written(void *arg, int result);
void persistence_write(struct persistence *p, bool on_this_thread, persistence_written *done, void *arg);
uint64_t persistence_group_size(const struct persistence *p);  /* bytes waiting for persistence_write */
unsigned persistence_writes(const struct persistence *p);      /* under way */
uint64_t persistence_last_index(const struct persistence *p);  /* appended */
uint64_t persistence_synced_index(const struct persistence *p);

/* Everything up to `index` is committed: its events become visible to reads and enter the index, in order. */
void persistence_commit(struct persistence *p, uint64_t index);
/* There is nothing to write: does now what a commit has left for later, so that no answer waits for it. Harmless at any time;
 * without it the next call that needs it does it. */
void persistence_rest(struct persistence *p);
/* Removes entries from `index` on, durably; they must not be committed. Writes under way are finished first: their `done`
 * runs from inside. 0 or a fault. */
MUST_CHECK int persistence_truncate(struct persistence *p, uint64_t index);
/* Called when the newest segment boundary is fully committed and sealed: `on_sealed` gets what the engine needs. */
struct persistence_sealed {
        uint64_t index;
        uint64_t term;
        struct bytes configuration;
        uint64_t configuration_index;
};
void persistence_on_sealed(struct persistence *p, void (*on_sealed)(void *arg, const struct persistence_sealed *sealed), void *arg);

/* ---- entries for other nodes ---- */

/* A run of entries, committed or not; watermarks are none. Payloads and `entries` are borrowed. */
struct persistence_entries {
        const struct persistence_entry *entries;
        unsigned count;
        uint64_t payload_size;     /* of all */
        bool has_chain;            /* false: the last one is not written yet */
        struct record_chain chain; /* of the last one */
};
/* The entries `first` ... `last`, but not more than count_max and about size_max bytes of payload (the first one comes
 * however large it is), from memory or from files that are not sealed; appended ones that are not written yet are there too
 * (they go to other nodes while they are written here). A run may be shorter: it ends where a file ends, where memory begins,
 * and before a damaged entry. Borrowed until the next call with this log. 0, PERSISTENCE_COLD (the first one lies in a sealed
 * segment: use persistence_fetch), PERSISTENCE_NOT_FOUND (index 0, or behind the end), _CORRUPT (the first one is damaged) or a
 * fault: after one of a write or truncation always, since the process must stop. */
MUST_CHECK int persistence_entries_read(struct persistence *p, uint64_t first, uint64_t last, unsigned count_max,
        uint64_t size_max, struct persistence_entries *ret);
/* The same from anywhere, read and verified (sums; the chain from the first one on, whose own is taken as given) on the READ
 * lane. `done` runs once, on the loop, never from inside this call: also when the log closes meanwhile (PERSISTENCE_END then,
 * without entries). Entries that are truncated meanwhile are not given; those that stand there then may be, else
 * PERSISTENCE_NOT_FOUND. `entries` are borrowed for the call. At most PERSISTENCE_FETCHES_MAX may be under way. */
enum { PERSISTENCE_FETCHES_MAX = 8 };
typedef void persistence_fetched(void *arg, int result, const struct persistence_entries *entries);
void persistence_fetch(struct persistence *p, uint64_t first, uint64_t last, uint64_t size_max, persistence_fetched *done, void *arg);
/* Term and chain hash of an entry that is written: equal chains mean equal logs up to there (G22). Index 0, before the first:
 * zeros. 0, PERSISTENCE_NOT_FOUND (not written), _CORRUPT or a fault. May read blocks of a file. */
MUST_CHECK int persistence_entry_mark(struct persistence *p, uint64_t index, uint64_t *ret_term, struct record_chain *ret_chain);
/* The position of the next event, behind all that have been appended, committed or not. */
uint64_t persistence_appended_position(const struct persistence *p);
/* Records from now on carry this epoch; store.json too, durable when it returns. Never lower than before. 0,
 * PERSISTENCE_FULL or a fault. */
MUST_CHECK int persistence_set_epoch(struct persistence *p, uint32_t epoch);
uint32_t persistence_epoch(const struct persistence *p);
const uint8_t *persistence_store_id(const struct persistence *p); /* 16 bytes */

/* ---- read (committed events only) ---- */

uint64_t persistence_next_position(const struct persistence *p); /* one behind the last committed event */

struct persistence_head {
        uint64_t revision;       /* of the last event that is no tombstone */
        bool has_events;         /* false: only a tombstone */
        bool is_tombstoned;
        uint64_t last_position;
};
/* The committed head of a stream. 0, PERSISTENCE_NOT_FOUND, _CORRUPT or a fault. May read an index block. */
MUST_CHECK int persistence_stream_head(struct persistence *p, struct bytes stream, struct persistence_head *ret);

/* A cursor over the log or over one stream. It sees events that are committed when it gets there: after
 * PERSISTENCE_END it may be asked again later. Views are valid until the next call with the same reader. */
struct persistence_reader;
struct persistence_reader_options {
        bool is_backward;
        struct bytes stream;      /* empty: the whole log in position order. Copied */
        uint64_t from;            /* first revision or position, inclusive in both directions. For the log backward:
                                     the position to begin with; UINT64_MAX: the newest */
        void (*on_ready)(void *arg); /* after PERSISTENCE_WAIT; NULL: cold reads block (libnilo's and tools' choice) */
        void *arg;
};
MUST_CHECK int persistence_reader_open(struct persistence *p, const struct persistence_reader_options *options,
        struct persistence_reader **ret);
/* 0, PERSISTENCE_END, PERSISTENCE_WAIT, PERSISTENCE_CORRUPT (persistence_reader_problem says where; the range stays
 * refused, other readers go on), or a fault. A stream's tombstone comes as its last event (revision REVISION_MAX). */
MUST_CHECK int persistence_reader_next(struct persistence_reader *r, struct event_view *ret);
/* The consumer rests and looks at no view any more: when all readers together hold more than half of the cache's size, this one
 * gives its bytes back and fetches them again when it is asked next (G18). Harmless at any time. */
void persistence_reader_ease(struct persistence_reader *r);
const char *persistence_reader_problem(const struct persistence_reader *r);
void persistence_reader_close(struct persistence_reader **r); /* also while WAITing; NULL is fine */

/* Names in order, with the number of events, as of the last commit. Walks the dictionaries of the sealed segments and
 * the tail; streams whose newest event is in no segment do not exist. `after`: begin behind this name (paging).
 * Calls `each` until it gives false or `limit` names were given. 0, PERSISTENCE_CORRUPT or a fault. */
enum persistence_names { NAMES_STREAMS, NAMES_CATEGORIES, NAMES_TYPES };
typedef bool persistence_each_name(void *arg, struct bytes name, uint64_t event_count);
MUST_CHECK int persistence_list(struct persistence *p, enum persistence_names what, struct bytes prefix, struct bytes after,
        unsigned limit, persistence_each_name *each, void *arg);

/* ---- the window of recent event ids (G6) ---- */

struct persistence_id {
        struct event_id id;
        uint64_t stream_hash;
        uint64_t revision;
        uint64_t position;
};
/* The newest committed event with this id in this stream, within the last LIMIT_IDEMPOTENCY_WINDOW_IDS committed ids of
 * the store. 0 or PERSISTENCE_NOT_FOUND. Rebuilt at start from a checkpoint written at each seal plus the tail. */
MUST_CHECK int persistence_find_id(struct persistence *p, const struct event_id *id, uint64_t stream_hash,
        struct persistence_id *ret);

/* ---- what is going on; what looks after the log itself is in care.h ---- */

struct persistence_stats {
        uint64_t events;
        uint64_t records;
        uint64_t segments;        /* with the active one */
        uint64_t log_bytes;       /* written in segments */
        uint64_t index_bytes;     /* of index files */
        uint64_t syncs;
        uint64_t sync_us_total;
        uint64_t sync_us_max;
        uint64_t written_bytes;
        uint64_t read_bytes;
        uint64_t reader_bytes;    /* held by open readers */
        uint64_t cache_bytes;
        uint64_t cache_hits;
        uint64_t cache_misses;
        uint64_t free_bytes;      /* of the device, as of the last look */
        bool is_full;             /* appends are refused */
        struct persistence_scrub scrub;
};
void persistence_stats(const struct persistence *p, struct persistence_stats *ret);
const char *persistence_store_uuid(const struct persistence *p); /* text */
const char *persistence_store_path(const struct persistence *p);

#endif
