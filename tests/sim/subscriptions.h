/* What the files of a run of subscriptions share: subscriptions.c lives, book.c keeps the book of events, groups.c has the durable
 * subscriptions and their consumers, judging.c what is held against them, sessions.c the catch-up subscriptions.
 *
 * Each event that is appended carries a serial number in its data, and by that the book knows what it is and, from its
 * acknowledgement, its delivery or the log, where it stands. What everybody was given is held against the book and the log
 * (C8, C9, C10). */
#ifndef TESTS_SIM_SUBSCRIPTIONS_H
#define TESTS_SIM_SUBSCRIPTIONS_H

#include "emitter/emitter.h"
#include "os/os_sim.h"
#include "world.h"

enum {
        SUBS_STREAMS = 6,
        SUBS_TYPES = 3,
        SUBS_FIELDS = 4,
        SERIALS_MAX = 1200,
        GROUPS_MAX = 4,
        CONSUMERS_MAX = 8,
        HELD_MAX = 200,
        SESSIONS_MAX = 4,
        SERIAL_NONE = -1,
};

struct noted { /* an event of the book */
        uint8_t stream, type, field;
        bool has_place; /* somebody was told of it: it must stay there */
        bool is_in_log;
        bool is_hidden; /* its stream was deleted behind it, or may have been: what reads the stream may pass over it */
        bool is_link;   /* to `target`, a serial number */
        int target;
        uint64_t position, revision;
        struct event_id id;
};

enum selection {
        SELECTION_STREAM,
        SELECTION_ALL,
        SELECTION_PREFIX,
        SELECTION_TYPE,
        SELECTION_REGEX,
        SELECTION_PAYLOAD,
        SELECTION_PATTERN,
        SELECTIONS,
};
struct selecting {
        enum selection kind;
        unsigned of; /* stream, type or field */
};

enum { /* of an event, for a group */
        WAS_GIVEN = 1,
        WAS_FINISHED = 2, /* acknowledged or skipped */
        PARK_ASKED = 4,   /* by a consumer */
        PARK_MAYBE = 8,   /* too many retries */
        IS_PARKED = 16,   /* its link was seen in the log */
        IS_EXCUSED = 32,  /* a seek went over it */
};

enum mutation_asked { ASKED_NOTHING, ASKED_CREATE, ASKED_UPDATE, ASKED_DELETE, ASKED_PAUSE, ASKED_SEEK };

struct parked_link {
        uint64_t number;
        int serial;
};

struct group {
        struct subs *subs;
        struct selecting selecting;
        char name[8];
        char stream[24];
        bool exists;
        bool is_paused;
        struct emitter_settings settings;
        uint64_t start_low, start_high; /* it begins between: FROM_END is decided later */
        uint64_t floor;                 /* nothing below is given but what was parked: the checkpoint found at the start, and
                                           since then the lowest unfinished event that was told of */
        bool has_replayed;              /* in this life: parked events come out of order */
        bool has_checkpoint;
        uint64_t checkpoint; /* the highest that was told */
        uint8_t flags[SERIALS_MAX];
        int8_t holder[SERIALS_MAX]; /* the consumer that has it; -1: nobody */
        uint32_t retry[SERIALS_MAX];
        uint64_t passed_us[SERIALS_MAX]; /* monotonic: when everything up to it was told to be finished, in this life; 0: not yet */
        struct parked_link *parked;
        unsigned parked_count, parked_capacity;

        /* the change under way */
        enum mutation_asked asked;
        bool is_lost; /* the process went with it */
        bool wanted_pause;
        enum store_from wanted_from;
        uint64_t wanted_low;
        struct emitter_settings wanted;
};

struct held {
        int serial;
        struct event_id id;
        uint64_t given_us;
        uint32_t retry;
};
struct taker { /* a consumer */
        struct subs *subs;
        struct group *group;
        struct consumer *consumer; /* NULL: free */
        enum { TAKER_NORMAL, TAKER_SLOW, TAKER_STOPPED } mode;
        uint32_t window;
        bool is_waiting;
        struct held held[HELD_MAX];
        unsigned held_count;
};

struct mark {
        uint64_t position;
        unsigned count; /* events delivered before */
};
struct session { /* a catch-up subscription */
        struct subs *subs;
        struct subscription *subscription;
        bool is_used;
        bool is_waiting;
        bool was_caught_up;
        bool resolves_links;
        struct selecting selecting;
        uint64_t start; /* inclusive */
        int *serials;
        unsigned count, capacity;
        struct mark *marks;
        unsigned mark_count, mark_capacity;
};

struct subs {
        struct world_options options;
        struct world_result *result;
        struct world_totals *totals;
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        struct os_sim_faults faults;
        uint64_t memory_size, in_flight_size_max, segment_size;
        bool has_opened, is_stopped, is_closed, has_disk_fault;
        bool is_deleting; /* a deletion is under way */
        bool is_short;         /* of space on the disk, now */
        uint64_t was_short_us; /* when that ended */
        int open_result;
        unsigned appends_outstanding;
        struct noted book[SERIALS_MAX];
        int serial_count;
        int log[SERIALS_MAX];
        int log_count;
        int *by_revision[SUBS_STREAMS]; /* serial of each revision, SERIALS_MAX long */
        struct group groups[GROUPS_MAX];
        unsigned group_count;
        struct taker takers[CONSUMERS_MAX];
        struct session sessions[SESSIONS_MAX];
};

/* ---- subscriptions.c ---- */
void subs_fail(struct subs *s, const char *format, ...) PRINTF_LIKE(2, 3);
void subs_tell(struct subs *s, const char *format, ...) PRINTF_LIKE(2, 3);
bool subs_has_failed(const struct subs *s);
uint64_t subs_choose(struct subs *s, uint64_t below);
static inline bool subs_one_in(struct subs *s, uint64_t n)
{
        return subs_choose(s, n) == 0;
}

/* ---- book.c ---- */
extern const char *const subs_streams[SUBS_STREAMS];
extern const char *const subs_types[SUBS_TYPES];
/* Whose event this is, after everything of it was held against the book; SERIAL_NONE: not of the book (or the run failed). */
int subs_identify(struct subs *s, const struct event_view *v);
/* The same of what a reader gave: of the link where there is one, whose target is held against the book too. `is_resolved`: links were to
 * be followed. */
int subs_identify_item(struct subs *s, const struct store_read_item *item, bool is_resolved);
bool selects(const struct selecting *by, const struct noted *e);
uint64_t number_of(const struct selecting *by, const struct noted *e);
/* Where the end of what it selects from is now. */
uint64_t end_of(struct subs *s, const struct selecting *by);
/* {"kind":...} of the selection. */
void selecting_write(const struct selecting *by, char *ret, size_t size);

/* The whole log: what anybody was told of is there, where it was (C9). */
void subs_read_log(struct subs *s);
void subs_append(struct subs *s);
void subs_delete_stream(struct subs *s); /* for now: what comes later is there again */

/* ---- groups.c ---- */
static inline struct bytes group_stream(const struct group *g)
{
        return bytes_of_string(g->stream);
}
static inline struct bytes group_name(const struct group *g)
{
        return bytes_of_string(g->name);
}
static inline bool group_selects(const struct group *g, int serial)
{
        return selects(&g->selecting, &g->subs->book[serial]);
}
static inline uint64_t group_number(const struct group *g, int serial)
{
        return number_of(&g->selecting, &g->subs->book[serial]);
}
void groups_choose(struct subs *s);
void group_mutate(struct group *g);
void group_replay(struct group *g, bool is_all);
/* After a start: what was under way has taken place or not. */
void groups_adopt(struct subs *s);
void groups_lose(struct subs *s); /* the process is gone */
void group_resume(struct group *g);
struct taker *taker_open(struct group *g, uint32_t window);
void taker_take(struct taker *t, unsigned most);
void taker_answer(struct taker *t, bool is_good);
void taker_close(struct taker *t);

/* ---- judging.c ---- */
bool group_read_info(struct group *g, struct emitter_info *ret); /* false: there is none */
/* The checkpoint against what is finished, and the parked events against the log (C10). */
void group_verify(struct group *g);
bool group_is_done(struct group *g);
/* After healing: fails if something was not finished; if something is parked or in flight still, or the checkpoint behind. */
void group_fail_undone(struct group *g);
void group_verify_end(struct group *g);
void group_verify_stopped(struct group *g);

/* ---- sessions.c ---- */
void session_open(struct subs *s);
void session_pull(struct session *i, unsigned most);
void session_close(struct session *i);
void sessions_lose(struct subs *s);
/* Holds each against the log that was just read, and forgets those that are closed. `is_complete`: they have had all. */
void sessions_verify(struct subs *s, bool is_complete);

#endif
