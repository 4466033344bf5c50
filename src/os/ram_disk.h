/* A disk in memory: for `--memory-only`, and, with what a crash would leave, for the simulator. Private to the room.
 *
 * Locks: one for all names, one for the bytes of each file; never both at once but names first. */
#ifndef OS_RAM_DISK_H
#define OS_RAM_DISK_H

#include <pthread.h>

#include "os/os_machine.h"
#include "os/ram_content.h"

enum { RAM_NAME_SIZE_MAX = 255 };

/* A name of a directory, now and after a crash. */
struct ram_entry {
        char *name;
        struct ram_node *current; /* NULL: not there */
        struct ram_node *durable; /* NULL: not there */
};

/* A change of a file's bytes that is not durable. */
struct ram_change {
        bool is_truncation;
        uint64_t offset; /* a truncation: the new size */
        uint64_t size;
        uint64_t size_before; /* of the file */
        uint8_t *data;        /* NULL: zeros */
};

/* A file or a directory. */
struct ram_node {
        unsigned owners; /* lock: names */
        bool is_dir;
        /* lock: names */
        struct ram_entry *entries; /* of a directory, in byte order */
        size_t entry_count;
        size_t entry_capacity;
        bool is_locked;  /* os_lock */
        bool is_syncing; /* within the sync of a directory */
        bool has_lost;   /* within a crash: a change of its name was lost */
        /* lock: its own */
        pthread_rwlock_t lock;
        struct ram_content current;
        struct ram_content durable;
        struct ram_change *changes; /* since the last sync, oldest first */
        size_t change_count;
        size_t change_capacity;
};

/* A change of names that is not durable. A creation has no `from`, a removal no `to`. */
struct ram_renaming {
        struct ram_node *node;
        struct ram_node *from_dir;
        char *from;
        struct ram_node *to_dir;
        char *to;
        bool is_kept; /* within a sync or a crash: becomes durable */
};

struct ram_disk {
        bool can_crash; /* keeps what a crash needs */
        uint64_t pages_max;
        atomic_uint_fast64_t pages_used;
        pthread_mutex_t lock;
        /* lock */
        struct ram_node *root;
        struct ram_renaming *renamings; /* since the last sync of their directory, oldest first */
        size_t renaming_count;
        size_t renaming_capacity;
        struct list files; /* every open struct ram_file */
};

struct ram_file {
        struct os_file file;
        struct ram_node *node;
        bool can_write;
        bool has_lock;
        struct list link;
};

struct ram_disk *ram_disk_new(uint64_t size_max, bool can_crash);
void ram_disk_free(struct ram_disk **disk);
/* The functions of a machine whose `ram` is set. */
extern const struct os_disk_table ram_disk_table;

/* The node of a path as it is now, NULL when there is none. With the lock of names. */
struct ram_node *ram_find(struct ram_disk *disk, const char *path);
void ram_node_drop(struct ram_node **node); /* gives up one ownership */
/* Makes the changes of names that are marked durable and forgets them. With the lock of names. */
void ram_renamings_keep(struct ram_disk *disk);
void ram_renamings_forget(struct ram_disk *disk); /* all of them */
void ram_changes_clear(struct ram_node *node);
void ram_entry_set(struct ram_node **place, struct ram_node *node);
void ram_entries_tidy(struct ram_node *dir); /* removes entries that name nothing, now and after a crash */

/* ---- what only the simulator does ---- */

/* A number below `below`. */
struct ram_chance {
        uint64_t (*choose)(void *arg, uint64_t below);
        void *arg;
};
struct ram_loss {
        uint64_t lost;
        uint64_t torn;
};
/* Every open file vanishes, locks too. */
void ram_disk_drop_files(struct ram_disk *disk);
/* Power cut: after ram_disk_drop_files. */
struct ram_loss ram_disk_crash(struct ram_disk *disk, const struct ram_chance *chance);
/* 0 or OS_NOT_FOUND. */
MUST_CHECK int ram_disk_flip_bit(struct ram_disk *disk, const char *path, uint64_t bit);

#endif
