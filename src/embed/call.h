/* What the files of this room share: the open store, and how a thread asks its loop for something and waits.
 */
#ifndef EMBED_CALL_H
#define EMBED_CALL_H

#include <pthread.h>

#include "control/control.h"
#include "nilo/nilo.h"
#include "os/os.h"
#include "persistence/persistence.h"
#include "store/store.h"

struct nilo {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        pthread_t thread;
        /* loop */
        struct control_watcher watcher; /* on while a reader waits for news */
        struct list waiting;            /* of nilo_reader.waiting */
        struct call *opening;           /* until the store is open */
        bool is_watching;
        char disk_fault[256]; /* not empty: the disk failed, and every call says so */
};

/* One question of a caller's thread to the loop; lives on the caller's stack. */
struct call {
        void (*fn)(struct call *call); /* on the loop; ends, now or later, with call_end */
        struct nilo *nilo;
        enum nilo_result result;
        char problem[512];
        pthread_mutex_t mutex;
        pthread_cond_t changed; /* on the monotonic clock (G19) */
        bool has_ended;
};

void call_init(struct call *call, struct nilo *nilo, void (*fn)(struct call *call));
/* Asks and waits for the end. Gives the result, and makes the problem this thread's newest. */
enum nilo_result call_run(struct call *call);
/* The two halves of it. */
void call_post(struct call *call);
enum nilo_result call_wait(struct call *call);
/* On the loop, exactly once for each call; the call must not be touched after it. */
void call_end(struct call *call, enum nilo_result result);
/* NILO_DISK_FAULT with its text once the disk has failed; else `result`. */
enum nilo_result call_result(struct call *call, enum nilo_result result);
void call_problem(struct call *call, const char *format, ...) PRINTF_LIKE(2, 3);

/* On the loop: whoever waits for news looks again. */
void readers_wake(struct nilo *nilo);

/* The result of this thread with its text. */
enum nilo_result problem_set(enum nilo_result result, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
