/* What a machine is made of: small tables of functions behind the contract, and what all machines share. Private to the
 * room. A table's function has the duties of the contract function of the same name, unless it says otherwise. */
#ifndef OS_OS_MACHINE_H
#define OS_OS_MACHINE_H

#include "os/os.h"

/* Each queue has a limit. The users bound what they post and submit; to meet these is a bug. */
enum { OS_POSTS_MAX = 1 << 20, OS_WORKS_MAX = 1 << 20, OS_PATH_SIZE_MAX = 4096 };

/* Names of a directory: each with its NUL, behind a byte that tells a directory. */
struct os_names {
        struct buffer text;
        unsigned count;
};
void os_names_add(struct os_names *names, const char *name, bool is_dir);

struct os_clock_table {
        uint64_t (*monotonic_us)(struct os *os);
        uint64_t (*wall_us)(struct os *os);
        void (*random)(struct os *os, void *data, size_t size);
};

/* All of it may be called by any thread. Paths come without check. */
struct os_disk_table {
        int (*file_open)(struct os *os, const char *path, unsigned flags, struct os_file **ret);
        void (*file_close)(struct os_file *file);
        int (*file_size)(struct os_file *file, uint64_t *ret);
        int (*file_read)(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size);
        int (*file_read_warm)(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size);
        int (*file_write)(struct os_file *file, struct bytes bytes, uint64_t offset);
        int (*file_write_synced)(struct os_file *file, struct bytes bytes, uint64_t offset);
        int (*file_sync)(struct os_file *file);
        int (*file_truncate)(struct os_file *file, uint64_t size);
        /* One level: 0, OS_EXISTS if it is a directory already, OS_NOT_FOUND without the parent, OS_FULL or a fault. */
        int (*dir_make)(struct os *os, const char *path);
        int (*dir_sync)(struct os *os, const char *path);
        int (*dir_names)(struct os *os, const char *path, struct os_names *names); /* in any order */
        int (*rename)(struct os *os, const char *from, const char *to);
        int (*remove)(struct os *os, const char *path);
        int (*lock)(struct os *os, const char *path, struct os_file **ret);
        int (*space)(struct os *os, const char *path, struct os_space *ret);
};

struct os_loop_table {
        int (*run)(struct os *os);
        void (*stop)(struct os *os);
        void (*timer_start)(struct os *os, struct os_timer *timer, uint64_t after_us);
        void (*timer_stop)(struct os *os, struct os_timer *timer);
        void (*post)(struct os *os, void (*fn)(void *arg), void *arg);
        void (*work_submit)(struct os *os, enum os_lane lane, struct os_work *work);
        void (*on_stop_signal)(struct os *os, void (*fn)(void *arg), void *arg);
        void (*on_reload_signal)(struct os *os, void (*fn)(void *arg), void *arg);
        void (*free)(struct os *os);
};

struct os_net_table {
        int (*listen)(struct os *os, const char *address, uint16_t port, os_listener_accept *on_accept, void *arg,
                struct os_listener **ret, uint16_t *ret_port);
        void (*listener_close)(struct os_listener *listener);
        int (*connect)(struct os *os, const char *address, uint16_t port, const struct os_conn_handler *handler, void *arg,
                struct os_conn **ret);
        void (*conn_accept)(struct os_conn *conn, const struct os_conn_handler *handler, void *arg);
        void (*conn_watch)(struct os_conn *conn);
        void (*conn_send)(struct os_conn *conn, const struct bytes *pieces, unsigned n);
        size_t (*conn_queued)(const struct os_conn *conn);
        void (*conn_read_stop)(struct os_conn *conn);
        void (*conn_read_start)(struct os_conn *conn);
        void (*conn_close)(struct os_conn *conn);
        const char *(*conn_peer)(const struct os_conn *conn);
        const char *(*conn_problem)(const struct os_conn *conn);
        /* Finds addresses, else gives why there are none, valid for ever. On the CALL lane: may wait. */
        const char *(*look_up)(struct os *os, const char *host, struct os_addresses *ret);
        int (*udp_open)(struct os *os, const struct os_udp_options *options, os_udp_receive *on_datagram, void *arg,
                struct os_udp **ret, uint16_t *ret_port);
        int (*udp_send)(struct os_udp *udp, const char *address, uint16_t port, struct bytes datagram);
        void (*udp_close)(struct os_udp *udp);
};

/* Of a machine without sockets: the fault -ENOSYS. */
extern const struct os_net_table no_net_table;

/* The head of every machine. */
struct os {
        const struct os_clock_table *clock;
        const struct os_disk_table *disk;
        const struct os_loop_table *loop;
        const struct os_net_table *net;
        struct ram_disk *ram; /* of the machines whose disk is in memory, else NULL */
        /* loop */
        struct list hooks;
        struct list lookups; /* not yet done */
        struct os_time turn_time;
        bool has_turn_time; /* taken at the first question of a turn */
        bool wants_turn;    /* os_turn_again was called */
};

/* The heads of every open file, listener, connection and datagram socket. */
struct os_file {
        struct os *os;
};
struct os_listener {
        struct os *os;
};
struct os_conn {
        struct os *os;
};
struct os_udp {
        struct os *os;
};

/* Frees lookups whose works vanished with a simulated process. */
void os_lookups_lose(struct os *os);
/* Adds an address that is not there yet; false when there is no room. */
bool os_addresses_add(struct os_addresses *addresses, const char *text);

void os_machine_init(struct os *os);
/* Calls every hook. Hooks may add and remove hooks, themselves too. */
void os_run_hooks(struct os *os);

#endif
