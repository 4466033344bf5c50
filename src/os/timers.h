/* The timers of a machine that are on: a heap by (due time, order of starting). Private to the room. */
#ifndef OS_TIMERS_H
#define OS_TIMERS_H

#include "os/os.h"

struct timers_entry {
        uint64_t due_us;
        uint64_t sequence;
        struct os_timer *timer;
};

/* The empty value is all zero. */
struct timers {
        struct timers_entry *heap;
        size_t count;
        size_t capacity;
};

/* (Re)starts a timer; the heap grows now and then, so starting costs no memory call in the long run. `sequence` grows
 * with each call. */
void timers_start(struct timers *t, struct os_timer *timer, uint64_t due_us, uint64_t sequence);
void timers_stop(struct timers *t, struct os_timer *timer);
void timers_fini(struct timers *t); /* all that are on become off */

/* The one that is due first, NULL when none is on. */
static inline const struct timers_entry *timers_first(const struct timers *t)
{
        return t->count ? t->heap : NULL;
}

#endif
