/* What the files of a run share: world.c lives, ops.c writes, reads.c reads, flips.c damages. */
#ifndef TESTS_SIM_ROOM_H
#define TESTS_SIM_ROOM_H

#include "history.h"
#include "model.h"
#include "os/os_sim.h"
#include "world.h"

enum {
        WORLD_STREAMS_MAX = 12, /* beside the store's own */
        WORLD_READERS = 4,
        OP_EVENTS_MAX = 12,
        CONTENT_SIZE_MAX = 3000,
        BIG_SIZE_MAX = 400 * 1000, /* some make a group that is written behind another */
};

struct world;

/* An append or delete, from its call on. */
struct op {
        struct world *world;
        struct model_request request;
        struct model_draft drafts[OP_EVENTS_MAX];
        struct model_answer expected;
        uint32_t number; /* in the history */
        uint64_t deadline_us;
        bool is_in_call;
        bool is_answered;
        bool is_written; /* by the model */
        enum store_verdict verdict;
};

struct sim_reader {
        struct world *world;
        struct store_reader *reader; /* NULL: free */
        bool is_all;
        uint32_t side;
        bool is_backward;
        bool is_follow;
        bool has_filter; /* of all: only streams whose names begin as filter_stream's */
        bool is_ready;
        bool is_waiting;
        bool is_over;
        uint64_t at;   /* the next number to come */
        uint64_t stop; /* forward: one behind the last; backward: the last */
        uint64_t left;
};

struct world {
        struct world_options options;
        struct world_result *result;
        struct world_totals *totals;
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct store *asked; /* the same, until it is closed */
        struct store_options store_options;
        struct os_sim_faults faults;
        struct model model;
        struct history history;
        struct op **ops;
        uint32_t op_count, op_capacity;
        struct sim_reader readers[WORLD_READERS];
        uint64_t last_term;
        uint64_t must_survive; /* length of the log that somebody knows of */
        uint64_t next_id;
        uint64_t next_content;
        unsigned stream_count; /* with the store's own, the last */
        char names[MODEL_STREAMS_MAX * 2][24];
        unsigned outstanding;
        bool has_opened;
        int open_result;
        char open_problem[512];
        bool is_closed;
        bool is_closing;
        bool has_disk_fault;
        bool gave_up; /* an answer was "unknown" within its deadline: a disk fault must be told */
        bool is_nearly_full;
        bool allows_corrupt; /* bits were flipped: a read may say so */
        uint64_t corrupt_answers;
        bool is_small; /* BUSY may come */
        bool is_big;   /* some events are large */
        unsigned nested;
};

/* Notes the first thing that is wrong; the run ends. */
void world_fail(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
void world_tell(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
static inline bool has_failed(const struct world *w)
{
        return w->result->has_failed;
}
static inline uint64_t choose(struct world *w, uint64_t below)
{
        return os_sim_choose(w->os, below);
}
static inline bool one_in(struct world *w, uint64_t n)
{
        return os_sim_choose(w->os, n) == 0;
}

/* ---- ops.c ---- */
void ops_issue(struct world *w);
void ops_lose_outstanding(struct world *w); /* the process is gone */
uint64_t content_hash(struct bytes type, enum content_type content_type, struct bytes data, struct bytes metadata);

/* ---- reads.c ---- */
void reads_begin(struct world *w);
void reads_pull(struct world *w);       /* one of the open readers */
void reads_end_all(struct world *w);    /* closes them */
void reads_forget_all(struct world *w); /* they are gone */
/* Reads everything from 0; with `rows` into the history. */
void reads_verify_log(struct world *w, bool rows);
void reads_verify_streams(struct world *w);
void reads_verify_info(struct world *w, uint32_t side);
void reads_verify_list(struct world *w);

/* ---- world.c ---- */
/* Opens the store: 0, an outcome of persistence, or a fault. */
int world_open(struct world *w);
void world_adopt(struct world *w); /* what is there after a start becomes the model */
void world_stop(struct world *w);  /* orderly */
void world_drop(struct world *w, bool is_power_cut);

/* ---- flips.c ---- */
void flips_run(struct world *w);

#endif
