/* The real machine: libuv's loop with our own timers, posts and lanes. Private to the room. */
#ifndef OS_REAL_H
#define OS_REAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#undef MIN /* libuv brings the system's; base/macros.h has its own */
#undef MAX

#include "os/os_machine.h"
#include "os/timers.h"

enum { REAL_READ_SIZE = 64 * 1024, REAL_READ_LANE_THREADS = 2, REAL_CALL_LANE_THREADS = 8, REAL_HASH_LANE_THREADS = 2 };

struct real_post {
        void (*fn)(void *arg);
        void *arg;
};

/* Posts in their order. The array is kept for the next turn. */
struct real_posts {
        struct real_post *posts;
        size_t count;
        size_t capacity;
};

/* One queue and the threads that empty it. */
struct real_lane {
        struct real *real;
        unsigned threads_max;
        pthread_mutex_t lock;
        pthread_cond_t wanted;
        /* lock */
        struct list queue; /* struct os_work */
        unsigned queued;
        unsigned idle;
        unsigned threads_started;
        pthread_t threads[REAL_CALL_LANE_THREADS];
        bool is_ending;
};

struct real_signal {
        uv_signal_t handle;
        void (*fn)(void *arg); /* NULL: not watched */
        void *arg;
};

struct real {
        struct os os;
        /* loop */
        uv_loop_t loop;
        uv_async_t wake;
        uv_poll_t timer_poll; /* of the kernel's timer, which bounds the wait in microseconds */
        int timer_fd;
        uint64_t armed_us; /* when the kernel's timer fires; UINT64_MAX: not at all */
        struct timers timers;
        uint64_t timer_sequence;
        bool is_ending; /* within os_free */
        bool has_run;   /* something ran in this turn */
        struct real_posts running;
        struct real_signal stop_signals[2];
        struct real_signal reload_signal;
        struct list conns;     /* every struct os_conn */
        uint64_t works_in_lanes; /* submitted, `done` not yet run */
        char read_buffer[REAL_READ_SIZE];
        /* any thread */
        atomic_bool is_stopping;
        struct real_lane lanes[OS_LANES];
        pthread_mutex_t lock;
        pthread_cond_t has_finished;
        /* lock */
        struct real_posts posts;
        struct list finished; /* struct os_work whose `done` is due */
        bool is_woken;
};

static inline struct real *real_of(struct os *os)
{
        return CONTAINER_OF(os, struct real, os);
}

/* Files and the clock of the kernel. */
extern const struct os_disk_table real_disk_table;
extern const struct os_clock_table real_clock_table;

/* Lanes. */
void real_lanes_init(struct real *real);
void real_work_submit(struct os *os, enum os_lane lane, struct os_work *work);
void real_lanes_fini(struct real *real); /* finishes what is queued and joins the threads */
/* Called by a lane when `work` has run: its `done` is due on the loop. Any thread. */
void real_work_finished(struct real *real, struct os_work *work);

/* Sockets. */
extern const struct os_net_table real_net_table;
void real_net_fini(struct real *real); /* closes what is still there; each gets its on_close */

/* Addresses, names, datagrams: for the table of sockets. */
bool real_address_parse(const char *text, uint16_t port, struct sockaddr_storage *ret);
/* Writes the IP literal; gives the port. */
uint16_t real_address_text(const struct sockaddr_storage *address, char text[static OS_ADDRESS_SIZE]);
int real_bind_result(int problem); /* of libuv, not 0: as an outcome or a fault */
const char *real_look_up(struct os *os, const char *host, struct os_addresses *ret);
int real_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port);
int real_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram);
void real_udp_close(struct os_udp *udp);

#endif
