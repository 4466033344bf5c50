/* What a store must do, as plain as can be: one list of events, every question answered by looking through it.
 * Written from the protocol (protocol 3.2 to 3.5), not from the store, so that the two can disagree. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "model/stream_metadata.h"
#include "store/store.h"

enum { MODEL_STREAMS_MAX = 24, MODEL_TARGETS_MAX = 6 };

/* A side is a stream (even) or its metastream (odd). */
struct model_event {
        struct event_id id;
        uint64_t content;  /* hash of what was asked to be written; 0: the store makes it */
        uint64_t seen;     /* hash of what was read of it; 0: never read */
        uint64_t revision; /* REVISION_MAX: a tombstone */
        uint32_t side;
        uint32_t record;
        bool has_id;
        struct stream_metadata limits; /* of a metadata event */
};
struct model_side {
        uint32_t *positions; /* by revision */
        uint32_t count;
        uint32_t capacity;
};
struct model_stream {
        struct model_side side[2];
        bool is_tombstoned;
        struct stream_metadata limits;
        uint64_t changed; /* one behind the last event of both sides */
};
struct model_record {
        uint64_t first_position;
        uint64_t event_count;
        int64_t op; /* that wrote it; -1: the store itself */
};
struct model {
        unsigned stream_count;
        struct model_stream streams[MODEL_STREAMS_MAX];
        struct model_event *events;
        uint64_t event_count;
        uint64_t event_capacity;
        struct model_record *records;
        uint64_t record_count;
        uint64_t record_capacity;
};

enum model_kind { MODEL_APPEND, MODEL_DELETE, MODEL_TOMBSTONE };
struct model_target {
        uint32_t side;
        struct expected expected;
        unsigned event_count;
};
struct model_draft {
        unsigned target;
        struct event_id id;
        uint64_t content;
        struct stream_metadata limits; /* if it goes to a metastream */
};
struct model_request {
        enum model_kind kind;
        unsigned target_count;
        struct model_target targets[MODEL_TARGETS_MAX];
        unsigned event_count;
        struct model_draft *events;
};
struct model_answer {
        enum store_verdict verdict; /* STORE_OK, _CONFLICT or _STREAM_DELETED */
        bool writes;
        bool is_duplicate;
        bool is_soft_deleted;
        unsigned failed;
        bool has_position;
        uint64_t first_position;
        uint64_t position;
        uint64_t next[MODEL_TARGETS_MAX]; /* one behind the revision that the answer names for each stream */
        uint64_t rests_on; /* the log's length that the answer needs */
};

void model_init(struct model *m, unsigned stream_count);
void model_fini(struct model *m);
/* What the answer to a request must be now; nothing changes. Positions and revisions of a write are those that
 * model_write will give. */
struct model_answer model_decide(const struct model *m, const struct model_request *request);
/* Writes what model_decide said would be written. */
void model_write(struct model *m, const struct model_request *request, int64_t op, struct model_answer *answer);
/* The store's own first event, into the stream `stream`. */
void model_write_first(struct model *m, unsigned stream);
/* Forgets everything from an event on, which must begin a record. */
void model_truncate(struct model *m, uint64_t event_count);
/* True: a record begins there, or the log ends. */
bool model_is_boundary(const struct model *m, uint64_t position);

/* What a reader of a side sees of the first `end` events. */
struct model_view {
        enum stream_state state;
        uint64_t next;  /* one behind the last revision */
        uint64_t first; /* visible */
};
struct model_view model_view(const struct model *m, uint32_t side, uint64_t end);

#endif
