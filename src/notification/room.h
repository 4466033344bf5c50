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
        bool is_stepping;
        bool is_watching;
};

void leader_init(struct leader *l, struct notification *n);
void leader_fini(struct leader *l); /* duties that are still there are no longer known */
bool leader_has_duties(const struct leader *l);
int leader_start(void *arg); /* struct leader; a worker's start and stop */
void leader_stop(void *arg);

/* ---- catch_up.c: EmitterSystem ---- */

enum { EMITTER_BUCKETS = 1024 };

/* Subscriptions that wait for news, found by the hash of their stream; those of all streams apart. The bus is
 * watched only while somebody waits, so that an append without subscribers pays nothing. */
struct match_index {
        struct notification *notification;
        struct control_watcher watcher;
        struct list waiting_all;
        struct list waiting[EMITTER_BUCKETS];
        uint64_t waiting_count;
        bool is_running;
        bool is_watching;
};

int match_index_start(void *arg);
void match_index_stop(void *arg);

struct notification {
        struct os *os;
        struct control *control;
        struct store *store;
        struct supervisor *supervisor;
        struct leader leader;
        struct match_index emitter;
        struct list subscriptions; /* all that are open */
        unsigned subscription_count;
        unsigned subscriptions_max;
        uint64_t delivered;
        bool is_stopping;
};

#endif
