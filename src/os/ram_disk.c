/* Names and open files of a disk in memory. A name is kept with what it means now and what it will mean after
 * a crash; changes that are not durable are kept in their order, for files and for names, so that a crash can
 * keep or lose each. A disk that cannot crash keeps only what is now. */
#include "os/ram_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- nodes ---- */

static struct ram_node *node_new(struct ram_disk *disk, bool is_dir)
{
        struct ram_node *node = MEMORY_NEW(struct ram_node);

        node->is_dir = is_dir;
        node->current.pages_used = &disk->pages_used;
        node->durable.pages_used = &disk->pages_used;
        pthread_rwlock_init(&node->lock, NULL);
        return node;
}

void ram_changes_clear(struct ram_node *node)
{
        size_t i;

        for (i = 0; i < node->change_count; i++)
                free(node->changes[i].data);
        node->change_count = 0;
}

void ram_node_drop(struct ram_node **place)
{
        struct ram_node *node = *place;
        size_t i;

        *place = NULL;
        if (!node)
                return;
        assert(node->owners > 0);
        if (--node->owners > 0)
                return;
        for (i = 0; i < node->entry_count; i++) {
                ram_node_drop(&node->entries[i].current);
                ram_node_drop(&node->entries[i].durable);
                free(node->entries[i].name);
        }
        free(node->entries);
        ram_changes_clear(node);
        free(node->changes);
        ram_content_fini(&node->current);
        ram_content_fini(&node->durable);
        pthread_rwlock_destroy(&node->lock);
        free(node);
}

void ram_entry_set(struct ram_node **place, struct ram_node *node)
{
        struct ram_node *before = *place;

        if (node)
                node->owners++;
        *place = node;
        ram_node_drop(&before);
}

/* The place of a name in its directory, or where it belongs. */
static size_t entry_search(const struct ram_node *dir, const char *name, bool *ret_is_there)
{
        size_t low = 0, high = dir->entry_count;

        *ret_is_there = false;
        while (low < high) {
                size_t middle = (low + high) / 2;
                int order = strcmp(dir->entries[middle].name, name);

                if (order == 0) {
                        *ret_is_there = true;
                        return middle;
                }
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static struct ram_entry *entry_get(struct ram_node *dir, const char *name)
{
        bool is_there;
        size_t at = entry_search(dir, name, &is_there);

        if (is_there)
                return &dir->entries[at];
        if (dir->entry_count == dir->entry_capacity) {
                dir->entry_capacity = MAX((size_t)8, dir->entry_capacity * 2);
                dir->entries = memory_resize(dir->entries, dir->entry_capacity * sizeof dir->entries[0]);
        }
        memmove(dir->entries + at + 1, dir->entries + at, (dir->entry_count - at) * sizeof dir->entries[0]);
        dir->entry_count++;
        dir->entries[at] = (struct ram_entry){.name = memory_copy_string(name)};
        return &dir->entries[at];
}

void ram_entries_tidy(struct ram_node *dir)
{
        size_t i, kept = 0;

        for (i = 0; i < dir->entry_count; i++) {
                if (dir->entries[i].current || dir->entries[i].durable)
                        dir->entries[kept++] = dir->entries[i];
                else
                        free(dir->entries[i].name);
        }
        dir->entry_count = kept;
}

static struct ram_node *entry_current(const struct ram_node *dir, const char *name)
{
        bool is_there;
        size_t at = entry_search(dir, name, &is_there);

        return is_there ? dir->entries[at].current : NULL;
}

/* ---- paths ---- */

/* Takes the next name off a path; false at its end. A name that is too long is cut, and so names nothing. */
static bool next_name(const char **path, char name[RAM_NAME_SIZE_MAX + 1])
{
        size_t size;

        do {
                *path += strspn(*path, "/");
                size = strcspn(*path, "/");
                if (size == 0)
                        return false;
                memcpy(name, *path, MIN(size, (size_t)RAM_NAME_SIZE_MAX));
                name[MIN(size, (size_t)RAM_NAME_SIZE_MAX)] = '\0';
                *path += size;
        } while (strcmp(name, ".") == 0);
        return true;
}

struct ram_node *ram_find(struct ram_disk *disk, const char *path)
{
        char name[RAM_NAME_SIZE_MAX + 1];
        struct ram_node *node = disk->root;

        while (node && next_name(&path, name))
                node = node->is_dir ? entry_current(node, name) : NULL;
        return node;
}

/* The directory of a path's last name, NULL when it is missing or the path is the root. */
static struct ram_node *find_parent(struct ram_disk *disk, const char *path, char last[RAM_NAME_SIZE_MAX + 1])
{
        char name[RAM_NAME_SIZE_MAX + 1];
        struct ram_node *dir = disk->root;

        if (!next_name(&path, last))
                return NULL;
        while (next_name(&path, name)) {
                dir = entry_current(dir, last);
                if (!dir || !dir->is_dir)
                        return NULL;
                memcpy(last, name, sizeof name);
        }
        return dir;
}

/* ---- changes of names ---- */

static struct ram_node *owned(struct ram_node *node)
{
        if (node)
                node->owners++;
        return node;
}

static void renaming_fini(struct ram_renaming *change)
{
        ram_node_drop(&change->node);
        ram_node_drop(&change->from_dir);
        ram_node_drop(&change->to_dir);
        free(change->from);
        free(change->to);
}

static void renaming_apply(const struct ram_renaming *change)
{
        struct ram_entry *entry;

        if (change->from_dir) {
                entry = entry_get(change->from_dir, change->from);
                if (entry->durable == change->node)
                        ram_entry_set(&entry->durable, NULL);
                ram_entries_tidy(change->from_dir);
        }
        if (change->to_dir)
                ram_entry_set(&entry_get(change->to_dir, change->to)->durable, change->node);
}

void ram_renamings_keep(struct ram_disk *disk)
{
        size_t i, left = 0;

        for (i = 0; i < disk->renaming_count; i++) {
                struct ram_renaming change = disk->renamings[i];

                change.node->is_syncing = false;
                if (!change.is_kept) {
                        disk->renamings[left++] = change;
                        continue;
                }
                renaming_apply(&change);
                renaming_fini(&change);
        }
        disk->renaming_count = left;
}

void ram_renamings_forget(struct ram_disk *disk)
{
        size_t i;

        for (i = 0; i < disk->renaming_count; i++)
                renaming_fini(&disk->renamings[i]);
        disk->renaming_count = 0;
}

/* Changes what is now, and keeps in mind what a crash may undo. */
static void change_names(struct ram_disk *disk, const struct ram_renaming *change)
{
        struct ram_renaming *kept;

        if (disk->can_crash) {
                if (disk->renaming_count == disk->renaming_capacity) {
                        disk->renaming_capacity = MAX((size_t)16, disk->renaming_capacity * 2);
                        disk->renamings = memory_resize(
                                disk->renamings, disk->renaming_capacity * sizeof disk->renamings[0]);
                }
                kept = &disk->renamings[disk->renaming_count++];
                *kept = (struct ram_renaming){.node = owned(change->node),
                        .from_dir = owned(change->from_dir),
                        .to_dir = owned(change->to_dir),
                        .from = change->from ? memory_copy_string(change->from) : NULL,
                        .to = change->to ? memory_copy_string(change->to) : NULL};
        }
        if (change->to_dir)
                ram_entry_set(&entry_get(change->to_dir, change->to)->current, change->node);
        if (change->from_dir) {
                ram_entry_set(&entry_get(change->from_dir, change->from)->current, NULL);
                ram_entries_tidy(change->from_dir);
        }
}

/* What changed a node's name earlier becomes durable with it: in no file system does a later rename survive
 * without the earlier one. */
static void sync_names(struct ram_disk *disk, const struct ram_node *dir)
{
        size_t i;

        for (i = disk->renaming_count; i-- > 0;) {
                struct ram_renaming *change = &disk->renamings[i];

                change->is_kept =
                        change->from_dir == dir || change->to_dir == dir || change->node->is_syncing;
                change->node->is_syncing = change->is_kept;
        }
        ram_renamings_keep(disk);
}

/* ---- changes of bytes ---- */

static void note_change(
        struct ram_file *f, struct ram_disk *disk, struct ram_change change, const uint8_t *data)
{
        struct ram_node *node = f->node;

        if (!disk->can_crash)
                return;
        if (node->change_count == node->change_capacity) {
                node->change_capacity = MAX((size_t)16, node->change_capacity * 2);
                node->changes = memory_resize(node->changes, node->change_capacity * sizeof node->changes[0]);
        }
        change.size_before = node->current.size;
        if (data) {
                change.data = memory_resize(NULL, change.size);
                memcpy(change.data, data, change.size);
        }
        node->changes[node->change_count++] = change;
}

static void sync_bytes(struct ram_node *node)
{
        size_t i;

        for (i = 0; i < node->change_count; i++) {
                if (node->changes[i].is_truncation) {
                        ram_content_share_all(&node->durable, &node->current);
                        break;
                }
                ram_content_share(
                        &node->durable, &node->current, node->changes[i].offset, node->changes[i].size);
        }
        node->durable.size = node->current.size;
        ram_changes_clear(node);
}

/* What was written last becomes durable, and no more than that: unless older changes touch it, which must not
 * come back over it. */
static void sync_last(struct ram_node *node)
{
        struct ram_change *last = &node->changes[node->change_count - 1];
        uint64_t end = last->offset + last->size;
        size_t i;

        for (i = 0; i + 1 < node->change_count; i++) {
                const struct ram_change *c = &node->changes[i];

                if (c->is_truncation || (c->offset < end && c->offset + c->size > last->offset)) {
                        sync_bytes(node);
                        return;
                }
        }
        ram_content_share(&node->durable, &node->current, last->offset, last->size); /* in whole pages */
        end = MIN((end + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE * RAM_PAGE_SIZE, node->current.size);
        node->durable.size = MAX(node->durable.size, end);
        free(last->data);
        node->change_count--;
}

/* ---- files ---- */

static struct ram_file *file_of(struct os_file *file)
{
        return CONTAINER_OF(file, struct ram_file, file);
}

static struct os_file *file_new(struct os *os, struct ram_node *node, bool can_write)
{
        struct ram_file *f = MEMORY_NEW(struct ram_file);

        f->file.os = os;
        f->node = owned(node);
        f->can_write = can_write;
        list_add_last(&os->ram->files, &f->link);
        return &f->file;
}

static void file_free(struct ram_file *f)
{
        if (f->has_lock)
                f->node->is_locked = false;
        list_remove(&f->link);
        ram_node_drop(&f->node);
        free(f);
}

static int open_locked(struct os *os, const char *path, unsigned flags, struct os_file **ret)
{
        char name[RAM_NAME_SIZE_MAX + 1];
        struct ram_node *node = ram_find(os->ram, path), *dir;

        if (node && flags & OS_OPEN_NEW)
                return OS_EXISTS;
        if (node && node->is_dir)
                return fault_raise(-EISDIR);
        if (!node && !(flags & (OS_OPEN_CREATE | OS_OPEN_NEW)))
                return OS_NOT_FOUND;
        if (!node) {
                dir = find_parent(os->ram, path, name);
                if (!dir)
                        return OS_NOT_FOUND;
                node = node_new(os->ram, false);
                change_names(os->ram, &(struct ram_renaming){.node = node, .to_dir = dir, .to = name});
        }
        *ret = file_new(os, node, flags & OS_OPEN_WRITE);
        return 0;
}

static int ram_file_open(struct os *os, const char *path, unsigned flags, struct os_file **ret)
{
        int r;

        pthread_mutex_lock(&os->ram->lock);
        r = open_locked(os, path, flags, ret);
        pthread_mutex_unlock(&os->ram->lock);
        return r;
}

static void ram_file_close(struct os_file *file)
{
        struct ram_disk *disk = file->os->ram;

        pthread_mutex_lock(&disk->lock);
        file_free(file_of(file));
        pthread_mutex_unlock(&disk->lock);
}

static int ram_file_size(struct os_file *file, uint64_t *ret)
{
        struct ram_node *node = file_of(file)->node;

        pthread_rwlock_rdlock(&node->lock);
        *ret = node->current.size;
        pthread_rwlock_unlock(&node->lock);
        return 0;
}

static int ram_file_read(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        struct ram_node *node = file_of(file)->node;

        pthread_rwlock_rdlock(&node->lock);
        *ret_size = ram_content_read(&node->current, data, size, offset);
        pthread_rwlock_unlock(&node->lock);
        return 0;
}

static int write_bytes(struct os_file *file, struct bytes bytes, uint64_t offset, bool is_synced)
{
        struct ram_file *f = file_of(file);
        struct ram_disk *disk = file->os->ram;
        bool is_zero = ram_is_zero(bytes);
        struct ram_change change = {.offset = offset, .size = bytes.size};

        if (!f->can_write)
                return fault_raise(-EBADF);
        if (offset + bytes.size > (uint64_t)INT64_MAX || offset + bytes.size < offset)
                return fault_raise(-EFBIG);
        if (!is_zero && atomic_load(&disk->pages_used) + bytes.size / RAM_PAGE_SIZE + 2 > disk->pages_max)
                return OS_FULL;
        if (bytes.size == 0)
                return 0;
        pthread_rwlock_wrlock(&f->node->lock);
        note_change(f, disk, change, is_zero ? NULL : bytes.data);
        if (is_zero)
                ram_content_zero(&f->node->current, offset, bytes.size);
        else
                ram_content_write(&f->node->current, bytes, offset);
        if (is_synced && disk->can_crash)
                sync_last(f->node);
        pthread_rwlock_unlock(&f->node->lock);
        return 0;
}

static int ram_file_write(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return write_bytes(file, bytes, offset, false);
}

static int ram_file_write_synced(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return write_bytes(file, bytes, offset, true);
}

static int ram_file_sync(struct os_file *file)
{
        struct ram_node *node = file_of(file)->node;

        if (!file->os->ram->can_crash)
                return 0;
        pthread_rwlock_wrlock(&node->lock);
        sync_bytes(node);
        pthread_rwlock_unlock(&node->lock);
        return 0;
}

static int ram_file_truncate(struct os_file *file, uint64_t size)
{
        struct ram_file *f = file_of(file);
        struct ram_change change = {.is_truncation = true, .offset = size};

        if (!f->can_write)
                return fault_raise(-EINVAL);
        if (size > (uint64_t)INT64_MAX)
                return fault_raise(-EFBIG);
        pthread_rwlock_wrlock(&f->node->lock);
        if (size != f->node->current.size) {
                note_change(f, file->os->ram, change, NULL);
                ram_content_truncate(&f->node->current, size);
        }
        pthread_rwlock_unlock(&f->node->lock);
        return 0;
}

/* ---- names ---- */

static int ram_dir_make(struct os *os, const char *path)
{
        char name[RAM_NAME_SIZE_MAX + 1];
        struct ram_disk *disk = os->ram;
        struct ram_node *node, *dir;
        int r = 0;

        pthread_mutex_lock(&disk->lock);
        node = ram_find(disk, path);
        dir = node ? NULL : find_parent(disk, path, name);
        if (node)
                r = node->is_dir ? OS_EXISTS : fault_raise(-ENOTDIR);
        else if (!dir)
                r = OS_NOT_FOUND;
        else
                change_names(disk,
                        &(struct ram_renaming){.node = node_new(disk, true), .to_dir = dir, .to = name});
        pthread_mutex_unlock(&disk->lock);
        return r;
}

static int ram_dir_sync(struct os *os, const char *path)
{
        struct ram_node *dir;
        int r = 0;

        pthread_mutex_lock(&os->ram->lock);
        dir = ram_find(os->ram, path);
        if (!dir || !dir->is_dir)
                r = fault_raise(dir ? -ENOTDIR : -ENOENT);
        else
                sync_names(os->ram, dir);
        pthread_mutex_unlock(&os->ram->lock);
        return r;
}

static int ram_dir_names(struct os *os, const char *path, struct os_names *names)
{
        struct ram_node *dir;
        size_t i;
        int r = 0;

        pthread_mutex_lock(&os->ram->lock);
        dir = ram_find(os->ram, path);
        if (!dir)
                r = OS_NOT_FOUND;
        else if (!dir->is_dir)
                r = fault_raise(-ENOTDIR);
        for (i = 0; r == 0 && i < dir->entry_count; i++)
                if (dir->entries[i].current)
                        os_names_add(names, dir->entries[i].name, dir->entries[i].current->is_dir);
        pthread_mutex_unlock(&os->ram->lock);
        return r;
}

static bool dir_is_empty(const struct ram_node *dir)
{
        size_t i;

        for (i = 0; i < dir->entry_count; i++)
                if (dir->entries[i].current)
                        return false;
        return true;
}

static int rename_locked(struct ram_disk *disk, const char *from, const char *to)
{
        char from_name[RAM_NAME_SIZE_MAX + 1], to_name[RAM_NAME_SIZE_MAX + 1];
        struct ram_node *from_dir = find_parent(disk, from, from_name);
        struct ram_node *to_dir = find_parent(disk, to, to_name);
        struct ram_node *node = from_dir ? entry_current(from_dir, from_name) : NULL;
        struct ram_node *there = to_dir ? entry_current(to_dir, to_name) : NULL;

        if (!node || !to_dir)
                return OS_NOT_FOUND;
        if (node == there)
                return 0;
        if (there && there->is_dir != node->is_dir)
                return fault_raise(there->is_dir ? -EISDIR : -ENOTDIR);
        if (there && there->is_dir && !dir_is_empty(there))
                return fault_raise(-ENOTEMPTY);
        change_names(disk, &(struct ram_renaming){.node = node,
                                   .from_dir = from_dir,
                                   .from = from_name,
                                   .to_dir = to_dir,
                                   .to = to_name});
        return 0;
}

static int ram_rename(struct os *os, const char *from, const char *to)
{
        int r;

        pthread_mutex_lock(&os->ram->lock);
        r = rename_locked(os->ram, from, to);
        pthread_mutex_unlock(&os->ram->lock);
        return r;
}

static int ram_remove(struct os *os, const char *path)
{
        char name[RAM_NAME_SIZE_MAX + 1];
        struct ram_disk *disk = os->ram;
        struct ram_node *dir, *node;
        int r = 0;

        pthread_mutex_lock(&disk->lock);
        dir = find_parent(disk, path, name);
        node = dir ? entry_current(dir, name) : NULL;
        if (!node)
                r = OS_NOT_FOUND;
        else if (node->is_dir && !dir_is_empty(node))
                r = fault_raise(-ENOTEMPTY);
        else
                change_names(disk, &(struct ram_renaming){.node = node, .from_dir = dir, .from = name});
        pthread_mutex_unlock(&disk->lock);
        return r;
}

static int ram_lock(struct os *os, const char *path, struct os_file **ret)
{
        struct os_file *file;
        int r;

        pthread_mutex_lock(&os->ram->lock);
        r = open_locked(os, path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        if (r == OS_NOT_FOUND) {
                r = fault_raise(-ENOENT);
        } else if (!r && file_of(file)->node->is_locked) {
                file_free(file_of(file));
                r = OS_LOCKED;
        } else if (!r) {
                file_of(file)->has_lock = true;
                file_of(file)->node->is_locked = true;
                *ret = file;
        }
        pthread_mutex_unlock(&os->ram->lock);
        return r;
}

static int ram_space(struct os *os, const char *path, struct os_space *ret)
{
        uint64_t used = MIN((uint64_t)atomic_load(&os->ram->pages_used), os->ram->pages_max);

        (void)path;
        ret->total_bytes = os->ram->pages_max * RAM_PAGE_SIZE;
        ret->free_bytes = (os->ram->pages_max - used) * RAM_PAGE_SIZE;
        return 0;
}

/* ---- birth and end ---- */

const struct os_disk_table ram_disk_table = {
        .file_open = ram_file_open,
        .file_close = ram_file_close,
        .file_size = ram_file_size,
        .file_read = ram_file_read,
        .file_read_warm = ram_file_read,
        .file_write = ram_file_write,
        .file_write_synced = ram_file_write_synced,
        .file_sync = ram_file_sync,
        .file_truncate = ram_file_truncate,
        .dir_make = ram_dir_make,
        .dir_sync = ram_dir_sync,
        .dir_names = ram_dir_names,
        .rename = ram_rename,
        .remove = ram_remove,
        .lock = ram_lock,
        .space = ram_space,
};

struct ram_disk *ram_disk_new(uint64_t size_max, bool can_crash)
{
        struct ram_disk *disk = MEMORY_NEW(struct ram_disk);

        disk->can_crash = can_crash;
        disk->pages_max = size_max / RAM_PAGE_SIZE;
        pthread_mutex_init(&disk->lock, NULL);
        list_init(&disk->files);
        disk->root = owned(node_new(disk, true));
        return disk;
}

void ram_disk_drop_files(struct ram_disk *disk)
{
        while (!list_is_empty(&disk->files))
                file_free(CONTAINER_OF(disk->files.next, struct ram_file, link));
}

void ram_disk_free(struct ram_disk **place)
{
        struct ram_disk *disk = *place;

        *place = NULL;
        if (!disk)
                return;
        ram_disk_drop_files(disk);
        ram_renamings_forget(disk);
        free(disk->renamings);
        ram_node_drop(&disk->root);
        assert(atomic_load(&disk->pages_used) == 0);
        pthread_mutex_destroy(&disk->lock);
        free(disk);
}
