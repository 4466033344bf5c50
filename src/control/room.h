/* The control system's insides. Private to the room. */
#ifndef CONTROL_ROOM_H
#define CONTROL_ROOM_H

#include "control/control.h"

enum {
        RING_FACTS_DEFAULT = 4096,
        RING_FACTS_MIN = 64,
        SLOT_SIZE = 256,
        NODE_NAME_SIZE_MAX = 255,
        NAMES_SIZE_MAX = 128, /* every subsystem's name, with commas */
};

union slot {
        struct fact fact;
        uint8_t room[SLOT_SIZE];
};

/* ---- logger.c ---- */

/* The LoggerWorker of one subsystem. */
struct logger {
        struct control_watcher watcher;
        enum log_level level;
};

/* How bytes get into the descriptor without ever waiting. */
enum sink_way {
        SINK_NONE,   /* nothing is logged, or the descriptor is dead */
        SINK_WRITE,  /* a description of our own that does not block, or a regular file */
        SINK_SEND,   /* a socket: each call says that it does not wait */
        SINK_POLLED, /* a shared description: asked before each small write */
};

struct log_sink {
        enum sink_way way;
        int fd;
        bool owns_fd;
        bool is_json;
        struct buffer backlog;
        size_t sent;      /* bytes at the begin of `backlog` that are written already */
        uint64_t dropped; /* lines, since the last time that the log said so */
        uint64_t dropped_total;
        struct os_timer retry;
};

struct loggers {
        struct logger all[SUBSYSTEMS];
        struct log_sink sink;
        bool has_news;
};

void loggers_open(struct control *control, const struct control_options *options);
void loggers_close(struct control *control);
/* Renders all that loggers want up to the fact before `limit`, in the order of the facts. */
void loggers_drain(struct control *control, uint64_t limit);

/* ---- plane.c ---- */

struct plane {
        enum readiness readiness[SUBSYSTEMS];
        uint64_t started_us[SUBSYSTEMS];
        uint64_t begun_us;
        void (*on_end)(void *arg, bool is_ready);
        void *arg;
        bool is_begun;
        bool is_calling; /* starts are being called: the end waits until they have been */
        bool is_ended;   /* `on_end` has been called */
        char names[NAMES_SIZE_MAX];
};

/* ---- the whole ---- */

struct control {
        struct os *os;
        /* the ring */
        union slot *slots;
        uint8_t *types;    /* of the facts in the ring: what is not wanted is passed over without touching its
                              slot */
        uint64_t capacity; /* a power of two */
        uint64_t term;
        uint64_t wanted[FACT_TYPE_WORDS]; /* by any watcher */
        uint64_t news[FACT_TYPE_WORDS];   /* wanted types that were published since the last delivery */
        struct control_stats stats;       /* `published` is the sequence of the next fact */
        /* delivery */
        struct os_turn_hook hook;
        struct list watchers;
        struct list *next_to_tell;
        uint64_t deliveries;
        uint64_t horizon; /* facts from here on wait for the next delivery */
        bool is_delivering;
        bool has_told; /* somebody is to be told though nothing was published */
        /* misses that no fact has told of yet */
        uint64_t unsaid_misses;
        uint64_t unsaid_watchers;
        /* identity */
        uint64_t boot_id;
        uint64_t write_id;
        char node_name[NODE_NAME_SIZE_MAX + 1];
        struct plane plane;
        struct loggers loggers;
};

/* Sets which facts the watcher wants: by its categories and level, and by publisher unless that is
 * SUBSYSTEMS. */
void bus_set_wants(struct control_watcher *watcher, enum subsystem publisher);
/* Adds a watcher whose wants are set. */
void bus_join(struct control *control, struct control_watcher *watcher, bool from_oldest);
/* Moves the cursor to the first wanted fact below `limit`, which may be lost misses first; false if there is
 * none. */
bool bus_seek(struct control_watcher *watcher, uint64_t limit);
/* Counts and empties the misses of a watcher. */
uint64_t bus_take_missed(struct control_watcher *watcher);
/* The fact at the cursor, which bus_seek has just found; moves behind it. */
void bus_take_found(struct control_watcher *watcher, struct fact *ret);
/* A fact about facts that are gone: made here, never in the ring. */
void bus_make_dropped(struct control *control, uint64_t count, const char *what, struct fact *ret);

#endif
