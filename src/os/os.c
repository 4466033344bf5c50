/* The contract's functions: they check what must hold in every machine and pass on to the machine's tables.
 * What is the same in all machines is done here: turn-end hooks, whole files, directories with parents, lists
 * in order. */
#include "os/os_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- clock and chance ---- */

uint64_t os_monotonic_us(struct os *os)
{
        return os->clock->monotonic_us(os);
}

uint64_t os_wall_us(struct os *os)
{
        return os->clock->wall_us(os);
}

struct os_time os_turn_time(struct os *os)
{
        if (UNLIKELY(!os->has_turn_time)) {
                os->turn_time = (struct os_time){os_monotonic_us(os), os_wall_us(os)};
                os->has_turn_time = true;
        }
        return os->turn_time;
}

void os_random(struct os *os, void *data, size_t size)
{
        os->clock->random(os, data, size);
}

/* ---- files ---- */

int os_file_open(struct os *os, const char *path, unsigned flags, struct os_file **ret)
{
        assert(flags & (OS_OPEN_READ | OS_OPEN_WRITE));
        assert(!(flags & (OS_OPEN_CREATE | OS_OPEN_NEW)) || flags & OS_OPEN_WRITE);
        return os->disk->file_open(os, path, flags, ret);
}

void os_file_close(struct os_file **file)
{
        if (*file)
                (*file)->os->disk->file_close(*file);
        *file = NULL;
}

int os_file_size(struct os_file *file, uint64_t *ret)
{
        return file->os->disk->file_size(file, ret);
}

int os_file_read(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        return file->os->disk->file_read(file, data, size, offset, ret_size);
}

int os_file_read_warm(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        return file->os->disk->file_read_warm(file, data, size, offset, ret_size);
}

int os_file_write(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return file->os->disk->file_write(file, bytes, offset);
}

int os_file_write_synced(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return file->os->disk->file_write_synced(file, bytes, offset);
}

int os_file_sync(struct os_file *file)
{
        return file->os->disk->file_sync(file);
}

int os_file_truncate(struct os_file *file, uint64_t size)
{
        return file->os->disk->file_truncate(file, size);
}

/* ---- directories ---- */

/* Makes the missing ones from the top down: each prefix that ends before a slash, then the whole. */
int os_dir_make(struct os *os, const char *path)
{
        char prefix[OS_PATH_SIZE_MAX];
        size_t size = strlen(path), i;
        int r;

        if (size == 0 || size >= sizeof prefix)
                return fault_raise(size ? -ENAMETOOLONG : -EINVAL);
        r = os->disk->dir_make(os, path);
        if (r != OS_NOT_FOUND)
                return r == OS_EXISTS ? 0 : r;
        for (i = 1; i <= size; i++) {
                if (path[i] != '/' && path[i] != '\0')
                        continue;
                memcpy(prefix, path, i);
                prefix[i] = '\0';
                r = os->disk->dir_make(os, prefix);
                if (r && r != OS_EXISTS)
                        return r == OS_NOT_FOUND ? fault_raise(-ENOENT) : r;
        }
        return 0;
}

int os_dir_sync(struct os *os, const char *path)
{
        return os->disk->dir_sync(os, path);
}

void os_names_add(struct os_names *names, const char *name, bool is_dir)
{
        buffer_add_u8(&names->text, is_dir);
        buffer_add(&names->text, name, strlen(name) + 1);
        names->count++;
}

static int compare_names(const void *a, const void *b)
{
        const uint8_t *const *first = a, *const *second = b;

        return strcmp((const char *)*first + 1, (const char *)*second + 1);
}

/* The names are gathered before the first call, so `each` may change the directory. */
int os_dir_list(struct os *os, const char *path, os_dir_each *each, void *arg)
{
        struct os_names names = {0};
        const uint8_t **sorted = NULL, *at;
        unsigned i;
        int r;

        r = os->disk->dir_names(os, path, &names);
        if (!r && names.count) {
                sorted = memory_new_array(names.count, sizeof sorted[0]);
                at = names.text.data;
                for (i = 0; i < names.count; i++) {
                        sorted[i] = at;
                        at += 1 + strlen((const char *)at + 1) + 1;
                }
                qsort(sorted, names.count, sizeof sorted[0], compare_names);
                for (i = 0; i < names.count && !r; i++)
                        r = each(arg, (const char *)sorted[i] + 1, sorted[i][0]);
        }
        free(sorted);
        buffer_fini(&names.text);
        return r;
}

int os_rename(struct os *os, const char *from, const char *to)
{
        return os->disk->rename(os, from, to);
}

int os_remove(struct os *os, const char *path)
{
        return os->disk->remove(os, path);
}

int os_lock(struct os *os, const char *path, struct os_file **ret)
{
        return os->disk->lock(os, path, ret);
}

int os_space(struct os *os, const char *path, struct os_space *ret)
{
        return os->disk->space(os, path, ret);
}

/* ---- whole files ---- */

static void os_file_closep(struct os_file **file)
{
        os_file_close(file);
}

int os_read_whole(struct os *os, const char *path, size_t size_max, struct buffer *out)
{
        CLEANUP(os_file_closep) struct os_file *file = NULL;
        uint64_t size;
        size_t got;
        int r;

        r = os_file_open(os, path, OS_OPEN_READ, &file);
        if (r)
                return r == OS_NOT_FOUND ? r : fault_fold(r);
        r = os_file_size(file, &size);
        if (r)
                return fault_fold(r);
        if (size > size_max)
                return fault_raise(-EFBIG);
        if (size == 0)
                return 0;
        buffer_reserve(out, size);
        r = os_file_read(file, out->data + out->size, size, 0, &got);
        if (r)
                return fault_fold(r);
        out->size += got;
        return 0;
}

static int write_temporary(struct os *os, const char *path, struct bytes content)
{
        CLEANUP(os_file_closep) struct os_file *file = NULL;
        int r;

        r = os_file_open(os, path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        if (!r)
                r = os_file_truncate(file, 0); /* what a crash may have left under this name */
        if (!r)
                r = os_file_write(file, content, 0);
        if (!r)
                r = os_file_sync(file);
        return r;
}

int os_replace_whole(struct os *os, const char *path, struct bytes content)
{
        char temporary[OS_PATH_SIZE_MAX], parent[OS_PATH_SIZE_MAX];
        const char *slash = strrchr(path, '/');
        size_t parent_size = slash ? MAX((size_t)(slash - path), 1) : 1;
        int r;

        if (strlen(path) + sizeof ".tmp" > sizeof temporary)
                return fault_raise(-ENAMETOOLONG);
        snprintf(temporary, sizeof temporary, "%s.tmp", path);
        snprintf(parent, sizeof parent, "%.*s", (int)parent_size, slash ? path : ".");
        r = write_temporary(os, temporary, content);
        if (r) /* A half-written copy stays; the next replacement begins by emptying it. */
                return r == OS_FULL ? r : fault_fold(r);
        r = os_rename(os, temporary, path);
        if (r)
                return r == OS_FULL ? r : fault_fold(r);
        return fault_fold(os_dir_sync(os, parent));
}

/* ---- loop ---- */

void os_machine_init(struct os *os)
{
        assert(os->clock && os->disk);
        assert(os->loop && os->net);
        list_init(&os->hooks);
        list_init(&os->lookups);
}

int os_run(struct os *os)
{
        return os->loop->run(os);
}

void os_stop(struct os *os)
{
        os->loop->stop(os);
}

void os_timer_start(struct os *os, struct os_timer *timer, uint64_t after_us)
{
        assert(timer->fn);
        assert(!timer->is_on || timer->os == os);
        os->loop->timer_start(os, timer, after_us);
        assert(timer->is_on);
}

void os_timer_stop(struct os_timer *timer)
{
        if (timer->is_on)
                timer->os->loop->timer_stop(timer->os, timer);
        assert(!timer->is_on);
}

void os_post(struct os *os, void (*fn)(void *arg), void *arg)
{
        assert(fn);
        os->loop->post(os, fn, arg);
}

void os_turn_hook_add(struct os *os, struct os_turn_hook *hook)
{
        assert(hook->fn);
        assert(!hook->link.next || list_is_empty(&hook->link)); /* not in a list */
        list_add_last(&os->hooks, &hook->link);
}

void os_turn_hook_remove(struct os_turn_hook *hook)
{
        if (hook->link.next)
                list_remove(&hook->link);
}

void os_turn_again(struct os *os)
{
        os->wants_turn = true;
}

/* A marker of our own walks through the list, so that it does not matter what a hook removes. A hook that
 * crashes a simulated machine removes all, the marker too. */
void os_run_hooks(struct os *os)
{
        struct list marker;

        list_add_first(&os->hooks, &marker);
        while (marker.next != &os->hooks && marker.next != &marker) {
                struct list *at = marker.next;
                struct os_turn_hook *hook = CONTAINER_OF(at, struct os_turn_hook, link);

                list_remove(&marker);
                list_add_first(at, &marker);
                hook->fn(hook);
        }
        list_remove(&marker);
}

void os_work_submit(struct os *os, enum os_lane lane, struct os_work *work)
{
        assert(lane < OS_LANES);
        assert(work->work && work->done);
        work->os = os;
        os->loop->work_submit(os, lane, work);
}

void os_on_stop_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        assert(fn);
        os->loop->on_stop_signal(os, fn, arg);
}

void os_on_reload_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        assert(fn);
        os->loop->on_reload_signal(os, fn, arg);
}

void os_free(struct os **os)
{
        if (*os)
                (*os)->loop->free(*os);
        *os = NULL;
}
