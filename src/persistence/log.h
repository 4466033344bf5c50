/* The inside of a store's log: what its files share. */
#ifndef PERSISTENCE_LOG_H
#define PERSISTENCE_LOG_H

#include <pthread.h>
#include <stdatomic.h>

#include "persistence/cache.h"
#include "persistence/entries.h"
#include "persistence/fetch.h"
#include "persistence/ids.h"
#include "persistence/index.h"
#include "persistence/job.h"
#include "persistence/marks.h"
#include "persistence/node.h"
#include "persistence/persistence.h"
#include "persistence/segment.h"
#include "persistence/tail.h"
#include "persistence/vote.h"

enum {
        LOG_OPEN_FILES_MAX = 64,              /* of sealed segments, beside pinned ones */
        LOG_GROUPS_RETAINED_MAX = 64,         /* written groups kept in memory for their commit and for other nodes */
        LOG_WATERMARK_AFTER_US = 1000 * 1000, /* of idle time */
        LOG_SPACE_LOOK_US = 1000 * 1000,
        LOG_RECORD_OVERHEAD_MAX = RECORD_HEADER_SIZE + RECORD_ALIGNMENT,
};
#define LOG_SEGMENT_SIZE_DEFAULT   (256 * MIB)
#define LOG_SEGMENT_EVENTS_DEFAULT 1000000
#define LOG_CACHE_SIZE_DEFAULT     (64 * MIB)
#define LOG_TAIL_SHARE             2 /* of the cache that the index of an unsealed segment may have */
#define LOG_TAIL_SIZE_MIN          (8 * MIB)
#define LOG_SPACE_RESERVE_DEFAULT  (64 * MIB)
#define LOG_RETAINED_BYTES_MAX     (8 * MIB)
#define LOG_SPACE_LOOK_BYTES       (4 * MIB)
#define LOG_ZEROS_FIRST            (1 * MIB)

/* Where a record stands: by index in an unsealed segment. */
struct log_record {
        uint32_t offset8;
        uint32_t events_before; /* in this segment */
};

struct log_segment {
        struct segment_header header;
        uint64_t found_size; /* of the file, as the start found it; 0: made since */
        /* loop */
        uint64_t end_offset;   /* behind the last appended record; of a sealed one: behind its last record */
        uint64_t record_count; /* with an index, so without watermarks */
        uint64_t event_count;
        uint64_t committed_end; /* offset behind the last committed record */
        uint64_t committed_records;
        uint64_t committed_events;
        struct log_record *records; /* unsealed: of every record with an index */
        size_t record_capacity;
        struct tail *tail;   /* unsealed: of committed events */
        struct index *index; /* sealed */
        bool is_sealing;
        bool is_beyond_repair; /* its index file is damaged, and so are its records */
        bool is_damaged;       /* sealed: some of its bytes are */
        bool is_retired;       /* another has its place; it waits for reads under way */
        struct os_file *file; /* NULL: not open */
        unsigned pins;        /* cold reads under way */
        uint64_t last_used;
        /* the thread that writes groups: the same file, from the moment it is made */
        struct os_file *writer;
};
static inline uint64_t log_segment_next_index(const struct log_segment *s)
{
        return s->header.first_index + s->record_count;
}

struct log_configuration {
        uint64_t index;
        uint32_t size;
        uint8_t bytes[SEGMENT_CONFIGURATION_SIZE_MAX];
};

struct log_group;
struct filler;
struct mend;
struct scrub;

enum log_space { SPACE_FINE, SPACE_LOW, SPACE_FULL };

struct persistence {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store_file store;
        char uuid_text[EVENT_ID_TEXT_SIZE + 1];
        char *path;
        char *log_path;
        uint64_t segment_size;
        uint64_t segment_events_max;
        uint64_t tail_size_max;
        uint64_t space_reserve;
        bool read_only;
        bool (*may_cut_damage)(void *arg, struct bytes configuration);
        void *may_cut_arg;
        bool skip_crc;
        bool skip_sync;
        uint64_t scrub_us; /* of a pass; 0: none */
        struct vote vote;

        /* loop: segments in order, the sealed ones first */
        struct log_segment **segments;
        size_t segment_count;
        size_t segment_capacity;
        size_t sealed_count;
        uint64_t use_clock;
        size_t open_files;

        /* loop: append */
        struct log_group *gathering; /* NULL: nothing waits */
        struct list in_flight;       /* groups, oldest first */
        unsigned writes;             /* of the user, under way */
        unsigned groups_in_flight;
        struct list retained; /* written groups that are not committed yet */
        unsigned retained_count;
        uint64_t retained_bytes;
        struct buffer spare_bytes; /* memory of a finished group for the next */
        uint64_t last_index;
        uint64_t last_term;
        uint64_t next_append_position;
        uint64_t last_time_us;
        uint64_t submitted_index; /* last index of the groups given to persistence_write */
        uint64_t synced_index;
        bool ends_with_watermark;
        struct log_configuration
                *configurations; /* the one before the first unsealed segment, then those behind */
        size_t configuration_count;
        size_t configuration_capacity;
        bool is_started;
        bool is_closing;
        struct os_timer timer; /* idle watermark and looks at the disk's space */
        uint64_t written_at_us;

        /* the thread that writes a group; on the loop only while no group is under way */
        struct record_chain chain;
        atomic_bool has_failed;

        /* loop: commit */
        uint64_t committed_index;
        uint64_t committed_position;
        struct ids ids;
        void (*on_sealed)(void *arg, const struct persistence_sealed *sealed);
        void *on_sealed_arg;
        struct job *sealing;
        struct job *rebuilding; /* an index file that a read found damaged */
        struct mend *mend;      /* a segment that is rebuilt; NULL: none */
        uint64_t mended_count;
        struct scrub *scrub; /* NULL: off */
        void (*on_damage)(void *arg);
        void *on_damage_arg;
        struct buffer commit_block;

        struct filler *filler;
        struct cache *cache;
        struct list cold_reads; /* under way */
        struct list readers;    /* open ones */
        uint64_t reader_bytes_max; /* held by all of them, before those whose consumers rest give theirs back */

        /* loop: entries for other nodes */
        struct entries_walk outgoing; /* what persistence_entries_read gave last */
        struct list fetches;          /* under way */
        unsigned fetch_count;
        struct fetch_end fetch_ends[FETCH_ENDS_MAX]; /* of the newest runs of sealed segments, in turn */
        unsigned fetch_end_at;

        /* loop: space */
        enum log_space space;
        uint64_t free_bytes;
        uint64_t space_looked_at_us;
        uint64_t bytes_since_look;

        /* recovery */
        struct persistence_recovered recovered;
        struct persistence_tail_entry *recovered_entries;
        struct buffer recovered_payloads;
        uint64_t cut_bytes; /* of a torn tail */
        bool is_lost;       /* entries that were durable are missing */
        bool was_lost_now;  /* this start found it */
        struct lost_mark lost; /* while is_lost */
        uint64_t open_us;
        unsigned quarantined;
        char quarantined_name[64];

        struct persistence_stats stats;
};

/* log.c */
struct log_segment *log_segment_add(struct persistence *p, const struct segment_header *h);
void log_segment_free(struct log_segment **s);
static inline struct log_segment *log_active(const struct persistence *p)
{
        return p->segments[p->segment_count - 1];
}
void log_segment_add_record(struct log_segment *s, uint64_t offset, uint32_t event_count);
/* The header of a segment that begins behind what has been appended. */
struct segment_header log_next_header(struct persistence *p);
void log_configuration_add(struct persistence *p, uint64_t index, struct bytes configuration);
const struct log_configuration *log_configuration_last(const struct persistence *p);
/* Notes a fault of the disk: nothing is written from now on (G15). */
void log_fail(struct persistence *p, int fault);
void log_publish_text(
        struct persistence *p, enum fact_type type, uint64_t position, uint64_t count, const char *text);
/* The number of the segment that holds the index or the position; the last one for a number behind the end.
 */
size_t log_segment_of_index(const struct persistence *p, uint64_t index);
size_t log_segment_of_position(const struct persistence *p, uint64_t position);
/* The open file of a segment. 0, PERSISTENCE_CORRUPT when it is gone, or a fault. */
MUST_CHECK int log_segment_file(struct persistence *p, struct log_segment *s, struct os_file **ret);
/* Before one more file of a sealed segment is open. */
void log_make_room_for_file(struct persistence *p);
void log_settle_writes(struct persistence *p);

/* commit.c: seals the oldest unsealed segment when it is committed through its end. */
void log_seal_next(struct persistence *p);
bool log_wants_seal(const struct persistence *p);
/* mend.c: bytes of the segment turned out to be damaged. */
void log_segment_damaged(struct persistence *p, struct log_segment *s);
/* A read of a segment's file that had pinned it has ended. */
void log_unpin(struct persistence *p, struct log_segment *s);
bool log_mends(const struct persistence *p, const struct log_segment *s);
void log_mend_close(struct persistence *p);
/* Moves a file of the log to quarantine/, durably. 0 (also when there is none), OS_FULL or a fault. Any thread. */
MUST_CHECK int log_quarantine(struct os *os, const char *store_path, const char *log_path, uint64_t first_index, const char *extension);
/* At a start: puts a segment in place that was rebuilt. 0, OS_FULL or a fault. */
MUST_CHECK int log_finish_mend(struct os *os, const char *store_path, const char *log_path, uint64_t first_index);
/* scrub.c */
void log_scrub_start(struct persistence *p);
void log_scrub_close(struct persistence *p); /* waits for what is under way, and keeps how far it is */
void log_scrub_stats(const struct persistence *p, struct persistence_scrub *ret);
/* reader.c: waits for cold reads, whose readers are told nothing; readers may only be closed from now on. */
void log_forget_readers(struct persistence *p);
/* space.c */
void log_space_look(struct persistence *p);
/* Looks whether so many bytes can be written that are no appends. */
bool log_space_has(struct persistence *p, uint64_t size);
/* open.c: the timer runs only while there is something to look after. */
void log_timer_arm(struct persistence *p);

#endif
