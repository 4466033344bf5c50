/* What the files of this room share. */
#ifndef NOTIFICATION_ROOM_H
#define NOTIFICATION_ROOM_H

#include "notification/notification.h"

/* ---- leader.c: LeaderSystem ---- */

enum leader_state { LEADER_NONE, LEADER_LOADING, LEADER_STARTING, LEADER_ASSUMED };

/* Follows the leadership facts; on this node's leadership it takes up the duties in the order of the chain,
 * fenced by the term: news of an older term changes nothing. */
struct leader {
        struct notification *notification;
        struct control_watcher watcher;
        struct list duties; /* of rooms above */
        uint64_t term;
        int state; /* enum leader_state */
        bool is_held; /* until notification_lead */
        bool is_stepping;
        bool is_watching;
};

void leader_init(struct leader *l, struct notification *n);
void leader_fini(struct leader *l); /* duties that are still there are no longer known */
bool leader_has_duties(const struct leader *l);
int leader_start(void *arg); /* struct leader; a worker's start and stop */
void leader_stop(void *arg);

/* ---- index.c: the match index ---- */

struct match_key;
struct match_group;

/* The lengths of the prefixes of one kind, rising. */
struct match_lengths {
        uint32_t *counts; /* of prefixes, by length */
        uint16_t *lengths;
        unsigned count;
};

/* Where fields stand that groups are found by. */
struct match_place {
        struct buffer place;
        unsigned count; /* of groups */
};

struct match_index {
        struct notification *notification;
        struct control_watcher watcher;
        struct os_turn_hook hook;

        struct match_group **groups; /* by canonical JSON */
        size_t group_capacity;
        size_t group_count;
        struct match_group *everything; /* that of SELECT_ALL */
        struct list ways[3];            /* groups, by how they are found */
        unsigned waiting[3];            /* waits in them */
        struct match_key **keys;
        uint64_t *key_filter; /* what may be among the keys */
        size_t key_capacity;
        size_t key_count;
        unsigned keys_of_kind[SELECT_KEY_TYPED_FIELD + 1]; /* that events are looked up by */
        struct match_lengths stream_lengths;
        struct match_lengths type_lengths;
        struct match_place *places;
        unsigned place_count;
        struct buffer field; /* of the event at hand */
        struct notification_wait **heap; /* by look_at, lowest first */
        unsigned heap_count;
        unsigned heap_capacity;
        struct list due; /* waits to be told */

        /* the event at hand, and the place in the log */
        struct store_reader *reader;
        struct event_view event;
        struct list matched; /* groups */
        struct list mark;    /* in the rest: those before it have been asked */
        uint64_t next;
        unsigned woken; /* by the event at hand */
        bool has_event;
        bool is_running;
        bool is_watching;
        bool is_of_history;
        bool is_cold; /* history: on_ready will come */
};

void match_index_init(struct match_index *x, struct notification *n);
void match_index_fini(struct match_index *x); /* waits that are still there are no longer known */
int match_index_start(void *arg);             /* struct match_index; a worker's start and stop */
void match_index_stop(void *arg);
/* Waits no more, is told no more, and stays known. */
void match_index_leave(struct notification_wait *wait);
/* Tells everybody who waits, at once. */
void match_index_tell_all(struct match_index *x);
/* Events that may concern the wait and that neither the index nor its owner has looked at. */
uint64_t match_index_behind(const struct match_index *x, const struct notification_wait *wait);

/* ---- the room ---- */

struct notification {
        struct os *os;
        struct control *control;
        struct store *store;
        struct supervisor *supervisor;
        struct leader leader;
        struct match_index index;
        struct match_index history;
        struct list subscriptions; /* all that are open */
        unsigned subscription_count;
        unsigned subscriptions_max;
        bool mutant_live_gap;
        uint64_t delivered;
        uint64_t ages_at_us; /* monotonic, of the turn in which so many ages were looked up: */
        unsigned ages;
        bool is_stopping;
};

#endif
