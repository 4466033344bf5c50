/* libnilo: a Nilometer store inside your own process. The same files as the server's; one process at a time.
 *
 * Every call blocks and may be made from any thread, a reader's by one thread at a time; the library has a thread of its
 * own. What an append returns as NILO_OK is on stable storage. Link with -lnilo (pkg-config nilo). */
#ifndef NILO_NILO_H
#define NILO_NILO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NILO_API __attribute__((visibility("default")))

struct nilo;        /* an open store */
struct nilo_reader; /* a cursor */

enum nilo_result {
        NILO_OK = 0,
        NILO_END,            /* no more events */
        NILO_CONFLICT,       /* the expected revision does not hold; nothing was written */
        NILO_NOT_FOUND,      /* no such stream */
        NILO_DELETED,        /* the stream is tombstoned */
        NILO_INVALID,        /* bad input; nothing was written */
        NILO_TOO_LARGE,      /* over a limit; nothing was written */
        NILO_BUSY,           /* too much under way; nothing was written, try again */
        NILO_FULL,           /* the disk is full; nothing was written */
        NILO_UNKNOWN,        /* it may or may not have been written: retry with the same event ids */
        NILO_IN_USE,         /* another process has the data directory */
        NILO_CORRUPT,        /* damaged bytes; nilo_problem says where */
        NILO_UNAVAILABLE,    /* closing, or the server cannot be reached */
        NILO_DISK_FAULT,     /* the disk failed: nothing more is written or read; close and look at the disk */
        NILO_ERROR,          /* anything else; nilo_problem says what */
        NILO_DENIED,         /* not allowed */
};
/* "conflict" ... Never NULL. */
NILO_API const char *nilo_result_name(enum nilo_result result);
/* One line about the last failure in this thread: what, where, the next step. Never NULL. */
NILO_API const char *nilo_problem(void);
NILO_API const char *nilo_version(void);

struct nilo_options {
        const char *data;        /* directory; made if absent unless must_exist; NULL with memory_only */
        bool must_exist;
        bool memory_only;        /* nothing survives nilo_close */
        uint64_t memory_size;    /* cap of caches and buffers in bytes; 0: 256 MiB; at least 1 MiB is used */
        uint64_t segment_size;   /* 64 KiB to 2 GiB; 0: 256 MiB */
};
NILO_API enum nilo_result nilo_open(const struct nilo_options *options, struct nilo **ret);
NILO_API void nilo_close(struct nilo **nilo); /* waits for what is under way; readers must be closed; NULL is fine */

/* Expected revision of a stream: a number from 0, or one of these. */
#define NILO_ANY    (-2)
#define NILO_NONE   (-1)
#define NILO_EXISTS (-4)

struct nilo_event {
        const char *type;
        const void *data;
        size_t data_size;
        const void *metadata;    /* may be NULL */
        size_t metadata_size;
        bool is_binary;          /* data is not JSON */
        const uint8_t *id;       /* 16 bytes (UUID); NULL: random. The same id makes a retry safe */
};

struct nilo_appended {
        int64_t last_revision;   /* -1: the stream has no events */
        uint64_t position;       /* of the last event, in the store's one order */
        bool is_duplicate;       /* these events were there already */
        int64_t actual_revision; /* after NILO_CONFLICT; -1: no such stream */
};
/* Appends events to one stream, all or none. `ret` may be NULL. */
NILO_API enum nilo_result nilo_append(struct nilo *nilo, const char *stream, int64_t expected, const struct nilo_event *events,
        unsigned count, struct nilo_appended *ret);

/* Appends to several streams in one atomic step. An entry without events only checks. ret[count] may be NULL; after
 * NILO_CONFLICT *ret_failed is the entry that failed. */
struct nilo_write {
        const char *stream;
        int64_t expected;
        const struct nilo_event *events;
        unsigned count;
};
NILO_API enum nilo_result nilo_append_all(struct nilo *nilo, const struct nilo_write *writes, unsigned count,
        struct nilo_appended *ret, unsigned *ret_failed);

NILO_API enum nilo_result nilo_delete(struct nilo *nilo, const char *stream, int64_t expected, bool is_tombstone);

/* An event as read. Everything points into the reader and is valid until its next call. */
struct nilo_recorded {
        const char *stream; /* NUL-terminated, as type */
        const char *type;
        const void *data;
        size_t data_size;
        const void *metadata;
        size_t metadata_size;
        bool is_binary;
        uint8_t id[16];
        int64_t revision;
        uint64_t position;
        uint64_t time_us;    /* since 1970-01-01 UTC */
};

/* What a read sees, of a server that is one of several nodes; an embedded store is always the newest. */
enum nilo_consistency {
        NILO_CONSISTENCY_DEFAULT = 0, /* at the leader as NILO_LINEARIZABLE, at other nodes as NILO_STALE */
        NILO_STALE,                   /* what the node has, at once */
        NILO_LINEARIZABLE,            /* everything that was acknowledged anywhere before the call */
        NILO_LEADER,                  /* the same, and given by the leader itself */
};

struct nilo_read_options {
        const char *stream;      /* NULL: all streams */
        bool is_backward;
        bool from_end;           /* begin at the newest event (backward) or behind it (forward, to follow) */
        uint64_t from;           /* revision or position, inclusive; ignored with from_end */
        uint64_t limit;          /* 0: none */
        const char *stream_prefix; /* of all streams: at most one of these four */
        const char *type_prefix;
        const char *stream_regex;
        const char *type_regex;
        bool has_after;          /* the event at position `after` must be visible, as what was appended with it as position:
                                    waited for, else NILO_UNAVAILABLE ("position 17 is not here yet") */
        uint64_t after;
        uint32_t wait_ms_max;    /* for that, and for who leads; 0: 5000 */
        enum nilo_consistency consistency;
};
NILO_API enum nilo_result nilo_read(struct nilo *nilo, const struct nilo_read_options *options, struct nilo_reader **ret);
/* The next event. NILO_END: no more now, or the limit is reached. NILO_NOT_FOUND: the stream does not exist (now). With
 * `wait_ms` above zero at the end of a forward read: waits for new events up to that long (-1: for ever), so a reader
 * follows: history first, then live, no gap; a stream that does not exist yet is waited for too. */
NILO_API enum nilo_result nilo_next(struct nilo_reader *reader, int wait_ms, struct nilo_recorded *ret);
NILO_API void nilo_reader_close(struct nilo_reader **reader); /* NULL is fine */

/* Reads every byte of the store in `data` and checks it: sums, hash chain, dense revisions and positions, index files.
 * Calls `finding` for each problem; changes nothing. NILO_OK, NILO_CORRUPT if there was any, NILO_IN_USE while a server or
 * another process has the directory, NILO_NOT_FOUND. Both functions may be NULL. */
NILO_API enum nilo_result nilo_verify(const char *data,
        void (*finding)(void *arg, const char *file, uint64_t offset, const char *what),
        void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes), void *arg);

#ifdef __cplusplus
}
#endif

#endif
