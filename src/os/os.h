/* os: the machine as replaceable functions: clock, randomness, disk, loop, network.
 *
 * All of time, chance, files and sockets go through a `struct os`, so that the simulator can run everything below the
 * gateway on one thread with a seed (ARCHITECTURE.md, determinism). There are three machines:
 *   os_real_new()      the kernel's clock and files, libuv's loop and sockets;
 *   os_memory_disk()   the same with a disk in memory (`--memory-only`: nothing survives a stop);
 *   os_sim_new()       seeded clock, disk with crashes, loop; everything on one thread; worlds of several such machines
 *                      have a network too (os_sim.h).
 *
 * Threads: a machine belongs to the thread that runs its loop; every function is for that thread unless it says "any
 * thread". The disk is for the lanes too: any thread may call what takes a path. A file is used by one thread at a time,
 * except os_file_read, which any number may call at once.
 *
 * Results: 0, an outcome of `enum os_outcome` where documented, or a fault (base/fault.h). */
#ifndef OS_OS_H
#define OS_OS_H

#include "base/bytes.h"
#include "base/fault.h"
#include "base/list.h"

struct os;
struct os_file;
struct os_listener;
struct os_conn;
struct os_lookup;
struct os_udp;

enum os_outcome {
        OS_NOT_FOUND = 1, /* no such file */
        OS_EXISTS,        /* the file is there already */
        OS_FULL,          /* no space on the device (ENOSPC, EDQUOT); what was written is unspecified, retry is allowed */
        OS_LOCKED,        /* another process holds the lock */
        OS_COLD,          /* the bytes are not in memory: read them on a helper lane */
        OS_ADDRESS_IN_USE,
        OS_ADDRESS_INVALID,
        OS_CLOSED,        /* the connection is gone */
};

/* ---- clock and chance ---- */

/* Microseconds from an arbitrary start, never back. Any thread. */
uint64_t os_monotonic_us(struct os *os);
/* Microseconds since 1970-01-01 UTC by the wall clock, which may jump (G19). Any thread. */
uint64_t os_wall_us(struct os *os);
/* Both clocks as of the start of this turn of the loop; costs a load. Loop thread. */
struct os_time {
        uint64_t monotonic_us;
        uint64_t wall_us;
};
struct os_time os_turn_time(struct os *os);

/* Fills with random bytes: the kernel's in the real machine, seeded in the simulated one. Any thread. */
void os_random(struct os *os, void *data, size_t size);

/* ---- disk ---- */

enum os_open_flags {
        OS_OPEN_READ = 1,
        OS_OPEN_WRITE = 2,  /* implies read */
        OS_OPEN_CREATE = 4, /* if absent, mode 0600 */
        OS_OPEN_NEW = 8,    /* must be absent: else OS_EXISTS */
};

/* Opens a file. Gives it in *ret; close with os_file_close. 0, OS_NOT_FOUND, OS_EXISTS, OS_FULL or a fault. */
MUST_CHECK int os_file_open(struct os *os, const char *path, unsigned flags, struct os_file **ret);
/* Closes and empties *file; NULL is fine. Never syncs. */
void os_file_close(struct os_file **file);
MUST_CHECK int os_file_size(struct os_file *file, uint64_t *ret);
/* Reads up to `size` bytes at `offset`; *ret_size is less only at the end of the file. Any thread. */
MUST_CHECK int os_file_read(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size);
/* As os_file_read, but OS_COLD (and nothing read) when the bytes would have to come from the device. Any thread. */
MUST_CHECK int os_file_read_warm(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size);
/* Writes all of it at `offset`. 0, OS_FULL or a fault. Not durable before os_file_sync. */
MUST_CHECK int os_file_write(struct os_file *file, struct bytes bytes, uint64_t offset);
/* The same, and durable when this gives 0: these bytes, not what was written before. A fault is final, as that of os_file_sync. */
MUST_CHECK int os_file_write_synced(struct os_file *file, struct bytes bytes, uint64_t offset);
/* fdatasync: everything written before is durable when this gives 0. A fault is final: never call it again (G15). */
MUST_CHECK int os_file_sync(struct os_file *file);
MUST_CHECK int os_file_truncate(struct os_file *file, uint64_t size);

MUST_CHECK int os_dir_make(struct os *os, const char *path);  /* 0700; with parents; 0 if it is there; OS_FULL */
/* Makes names in the directory durable: after a create, rename or remove. */
MUST_CHECK int os_dir_sync(struct os *os, const char *path);
/* Calls `each` for every entry but "." and "..", in byte order of names. Stops early when `each` gives non-zero and
 * returns that. 0, OS_NOT_FOUND or a fault. */
typedef int os_dir_each(void *arg, const char *name, bool is_dir);
MUST_CHECK int os_dir_list(struct os *os, const char *path, os_dir_each *each, void *arg);
MUST_CHECK int os_rename(struct os *os, const char *from, const char *to); /* replaces `to` atomically */
MUST_CHECK int os_remove(struct os *os, const char *path);                 /* 0, OS_NOT_FOUND or a fault */
/* Takes the advisory lock of a file, made if absent, for the life of the returned file. 0, OS_LOCKED or a fault. */
MUST_CHECK int os_lock(struct os *os, const char *path, struct os_file **ret);
/* Bytes that an unprivileged writer can still use on the device of `path`, and its size. Any thread. */
struct os_space {
        uint64_t free_bytes;
        uint64_t total_bytes;
};
MUST_CHECK int os_space(struct os *os, const char *path, struct os_space *ret);

/* Whole small files: adds at most `size_max` bytes to `out` (a larger file is the fault -EFBIG; OS_NOT_FOUND); replaces a
 * file so that after 0 the new content, and after a crash the old or the new, is there: temporary name (`path`.tmp), sync,
 * rename, directory sync. After OS_FULL the old content is there. */
MUST_CHECK int os_read_whole(struct os *os, const char *path, size_t size_max, struct buffer *out);
MUST_CHECK int os_replace_whole(struct os *os, const char *path, struct bytes content);

/* ---- loop ---- */

/* Runs until os_stop. One turn = everything that is ready to read or write, posts, finished work, timers due; then the
 * turn-end hooks in the order of their registration. */
MUST_CHECK int os_run(struct os *os);
/* Ends os_run after the current turn; before os_run, after its first. Any thread. */
void os_stop(struct os *os);

/* One-shot timer, embedded in its user's struct; the empty value is all zero. */
struct os_timer {
        void (*fn)(struct os_timer *timer);
        void *arg;
        /* os's own */
        struct os *os;
        uint64_t due_us; /* monotonic */
        void *impl;
        bool is_on;
};
/* (Re)starts the timer: `timer->fn` runs once on the loop, not before `after_us`. */
void os_timer_start(struct os *os, struct os_timer *timer, uint64_t after_us);
void os_timer_stop(struct os_timer *timer); /* harmless when off; must be off before its memory goes */

/* Runs `fn(arg)` on the loop, in the order of posting. Any thread; wakes the loop. */
void os_post(struct os *os, void (*fn)(void *arg), void *arg);

/* Called at the end of every turn in which anything ran. Embedded; the empty value is all zero. A hook that leaves work
 * for another turn says so by os_turn_again. */
struct os_turn_hook {
        void (*fn)(struct os_turn_hook *hook);
        void *arg;
        struct list link;
};
void os_turn_hook_add(struct os *os, struct os_turn_hook *hook);
void os_turn_hook_remove(struct os_turn_hook *hook);
/* The next turn does not wait for events: it polls what is ready and runs the hooks again. */
void os_turn_again(struct os *os);

/* Work away from the loop. Each lane is a first-in-first-out queue: LOG and BACKGROUND have one thread each, so their
 * work runs strictly in order; READ has two; CALL, for calls to other machines, eight; HASH, for passwords, two. Threads
 * start on first use.
 * `work` runs on the lane, then `done` on the loop. In the simulated machine both run on the one thread at seeded later
 * times, in lane order. */
enum os_lane { OS_LANE_LOG, OS_LANE_READ, OS_LANE_BACKGROUND, OS_LANE_CALL, OS_LANE_HASH, OS_LANES };
struct os_work {
        void (*work)(struct os_work *work);
        void (*done)(struct os_work *work);
        void *arg;
        struct list link; /* os's own */
        struct os *os;
};
void os_work_submit(struct os *os, enum os_lane lane, struct os_work *work);

/* ---- network: TCP ---- */

#define OS_CONNECT_US_MAX ((uint64_t)5000000)  /* a connection that is not established by then is given up */
#define OS_SILENCE_US_MAX ((uint64_t)10000000) /* of a watched peer (os_conn_watch) */

/* Receives what happens on a connection; `arg` is the user's. Loop thread. */
struct os_conn_handler {
        /* Bytes have come; borrowed for the call. */
        void (*on_data)(void *arg, struct bytes data);
        /* Queued bytes have fallen to zero after os_conn_send left some. */
        void (*on_drained)(void *arg);
        /* The peer closed its sending half, the connection broke or never came to be (os_conn_problem tells), or
         * os_conn_close was called; last call ever, never from inside another call of this contract. What is queued when
         * the peer closes its half is still sent before. */
        void (*on_close)(void *arg);
        /* What os_connect began is established; the first call, before any data. NULL is fine. */
        void (*on_open)(void *arg);
};

/* Listens on `address` (an IP literal) and `port` (0: the kernel chooses; *ret_port tells). `on_accept` must take the
 * connection by os_conn_accept or drop it with os_conn_close. 0, OS_ADDRESS_IN_USE, OS_ADDRESS_INVALID or a fault. */
typedef void os_listener_accept(void *arg, struct os_conn *conn);
MUST_CHECK int os_listen(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept, void *arg,
        struct os_listener **ret, uint16_t *ret_port);
void os_listener_close(struct os_listener **listener);

/* Begins a connection to `address` (an IP literal) and `port`, watched as by os_conn_watch. Gives it in *ret: sends are
 * queued from now on, on_open says that it is established. Refusal, no route, too many descriptors and OS_CONNECT_US_MAX
 * come as on_close. 0, OS_ADDRESS_INVALID or a fault. */
MUST_CHECK int os_connect(struct os *os, const char *address, uint16_t port, const struct os_conn_handler *handler, void *arg,
        struct os_conn **ret);

void os_conn_accept(struct os_conn *conn, const struct os_conn_handler *handler, void *arg);
/* Breaks the connection when the peer's machine was silent for OS_SILENCE_US_MAX and a few seconds more, or took nothing of
 * what is sent for so long: for peers that answer always, not for those that may be slow to read. */
void os_conn_watch(struct os_conn *conn);
/* Sends, in order: at once what the socket takes, the rest is copied and queued. Never blocks, never fails: a broken
 * connection comes as on_close. */
void os_conn_send(struct os_conn *conn, const struct bytes *pieces, unsigned n);
size_t os_conn_queued(const struct os_conn *conn); /* bytes that os_conn_send has queued and not yet sent */
void os_conn_read_stop(struct os_conn *conn);      /* on_data pauses: the peer meets TCP back-pressure */
void os_conn_read_start(struct os_conn *conn);
/* Sends what is queued (bounded by 5 s), then closes; what the peer still sends is dropped for at most 0.5 s, so that it can
 * read the last answer. One that is not yet established just ends. on_close follows; no other callback. Later sends are
 * dropped. */
void os_conn_close(struct os_conn *conn);
/* "127.0.0.1:53412"; lives as long as the connection. */
const char *os_conn_peer(const struct os_conn *conn);
/* Within on_close: why the connection broke or was not to be had ("connection refused"), NULL when it ended in order. */
const char *os_conn_problem(const struct os_conn *conn);

/* ---- network: names ---- */

enum { OS_ADDRESSES_MAX = 16, OS_ADDRESS_SIZE = 46, OS_HOST_SIZE_MAX = 253 };

/* IP literals, each once, in the resolver's order. */
struct os_addresses {
        unsigned count;
        char text[OS_ADDRESSES_MAX][OS_ADDRESS_SIZE];
};

/* Looks up the addresses of `host` (copied; a name or an IP literal) on the CALL lane. `done` runs once on the loop, never
 * from inside this call; `addresses` is borrowed for it, and with none `problem` says why, else it is NULL. The lookup in
 * *ret is the caller's to drop until `done` begins, and gone from then on. 0 or OS_ADDRESS_INVALID (an empty or too long
 * name). os_free finishes lookups as it does works. */
typedef void os_resolve_done(void *arg, const struct os_addresses *addresses, const char *problem);
MUST_CHECK int os_resolve(struct os *os, const char *host, os_resolve_done *done, void *arg, struct os_lookup **ret);
/* `done` will not run. Empties *lookup; NULL is fine. */
void os_lookup_drop(struct os_lookup **lookup);

/* ---- network: datagrams (UDP) ---- */

enum { OS_DATAGRAM_SIZE_MAX = 1200 };

struct os_udp_options {
        const char *address;   /* to bind: an IP literal, as "0.0.0.0" */
        uint16_t port;         /* 0: the kernel chooses */
        const char *group;     /* of multicast, to join; several sockets of a machine may share such a port. NULL: none */
        const char *interface; /* IP literal of the interface that joins and sends to groups; NULL: the kernel chooses */
};

/* A datagram has come, of at most OS_DATAGRAM_SIZE_MAX bytes (larger ones are dropped); all is borrowed for the call. */
typedef void os_udp_receive(void *arg, struct bytes datagram, const char *address, uint16_t port);
/* Opens a socket that calls `on_datagram` until os_udp_close. 0, OS_ADDRESS_IN_USE, OS_ADDRESS_INVALID or a fault. */
MUST_CHECK int os_udp_open(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
        struct os_udp **ret, uint16_t *ret_port);
/* Sends one datagram, whole or not at all: it may be lost, here too. Never blocks. 0 or OS_ADDRESS_INVALID. */
MUST_CHECK int os_udp_send(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram);
void os_udp_close(struct os_udp **udp); /* NULL is fine; `on_datagram` runs no more */

/* ---- the real machine ---- */

/* Gives a machine on the kernel's clock, files and sockets, with a libuv loop of its own. */
MUST_CHECK int os_real_new(struct os **ret);
/* Turns the machine's disk into one in memory, empty, of at most half the machine's memory (then OS_FULL). Zeros that were
 * never overwritten take none. Call before any file is opened. */
void os_memory_disk(struct os *os);
/* Ends lanes and loop. Connections that still close end now, with on_close; work that was submitted is finished, `done` too;
 * posts and timers are dropped. Everything else made with the machine must be closed. Empties *os; NULL is fine. */
void os_free(struct os **os);

/* Tells the service manager a state ("READY=1"), where one has said that it wants to know (NOTIFY_SOCKET); never waits. */
void os_service_notify(const char *state);

/* Runs `fn` on the loop when the process gets SIGINT or SIGTERM. Real machine only; one per process. */
void os_on_stop_signal(struct os *os, void (*fn)(void *arg), void *arg);
/* The same for SIGHUP, which asks for changed files to be read again; without this call it ends the process. */
void os_on_reload_signal(struct os *os, void (*fn)(void *arg), void *arg);

#endif
