/* Files of the kernel by plain system calls. Reads and writes go on until all is done, since the kernel may
 * do less. */
#include "os/real.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

struct real_file {
        struct os_file file;
        int fd;
        atomic_bool has_no_warm_reads; /* the filesystem refuses them, so every read is a plain one */
};

static struct real_file *file_of(struct os_file *file)
{
        return CONTAINER_OF(file, struct real_file, file);
}

/* What an error of a call means to callers. */
static int outcome_of(int error)
{
        switch (error) {
        case ENOENT:
                return OS_NOT_FOUND;
        case EEXIST:
                return OS_EXISTS;
        case ENOSPC:
        case EDQUOT:
                return OS_FULL;
        default:
                return fault_raise(-error);
        }
}

/* ---- clock and chance ---- */

static uint64_t clock_us(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t real_monotonic_us(struct os *os)
{
        (void)os;
        return clock_us(CLOCK_MONOTONIC);
}

static uint64_t real_wall_us(struct os *os)
{
        (void)os;
        return clock_us(CLOCK_REALTIME);
}

/* Ids are small and many: their bytes come from the kernel in larger pieces, each byte given once. */
enum { RANDOM_POOL_SIZE = 512, RANDOM_SMALL = 32 };
static _Thread_local struct {
        uint8_t bytes[RANDOM_POOL_SIZE];
        size_t left;
} random_pool;

static void random_from_kernel(void *data, size_t size)
{
        uint8_t *at = data;

        while (size) {
                ssize_t n = getrandom(at, size, 0);

                if (n < 0 && errno != EINTR)
                        fault_exit(EXIT_CODE_BUG, "the kernel gives no random bytes: %s", strerror(errno));
                if (n > 0) {
                        at += n;
                        size -= (size_t)n;
                }
        }
}

static void real_random(struct os *os, void *data, size_t size)
{
        (void)os;
        if (size > RANDOM_SMALL) {
                random_from_kernel(data, size);
                return;
        }
        if (random_pool.left < size) {
                random_from_kernel(random_pool.bytes, RANDOM_POOL_SIZE);
                random_pool.left = RANDOM_POOL_SIZE;
        }
        random_pool.left -= size;
        memcpy(data, random_pool.bytes + random_pool.left, size);
        memset(random_pool.bytes + random_pool.left, 0, size);
}

const struct os_clock_table real_clock_table = {
        .monotonic_us = real_monotonic_us,
        .wall_us = real_wall_us,
        .random = real_random,
};

/* ---- files ---- */

static struct os_file *file_new(struct os *os, int fd)
{
        struct real_file *f = MEMORY_NEW(struct real_file);

        f->file.os = os;
        f->fd = fd;
        return &f->file;
}

static int real_file_open(struct os *os, const char *path, unsigned flags, struct os_file **ret)
{
        int how = O_CLOEXEC | (flags & OS_OPEN_WRITE ? O_RDWR : O_RDONLY);
        int fd;

        if (flags & (OS_OPEN_CREATE | OS_OPEN_NEW))
                how |= O_CREAT;
        if (flags & OS_OPEN_NEW)
                how |= O_EXCL;
        do {
                fd = open(path, how, 0600);
        } while (fd < 0 && errno == EINTR);
        if (fd < 0)
                return outcome_of(errno);
        *ret = file_new(os, fd);
        return 0;
}

static void real_file_close(struct os_file *file)
{
        struct real_file *f = file_of(file);

        /* An error of close() says nothing that a sync would not have said, and the descriptor is gone either
         * way. */
        close(f->fd);
        free(f);
}

static int real_file_size(struct os_file *file, uint64_t *ret)
{
        struct stat s;

        if (fstat(file_of(file)->fd, &s))
                return fault_raise(-errno);
        *ret = (uint64_t)s.st_size;
        return 0;
}

static int real_file_read(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        size_t done = 0;

        while (done < size) {
                ssize_t n =
                        pread(file_of(file)->fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return fault_raise(-errno);
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        *ret_size = done;
        return 0;
}

static int real_file_read_warm(
        struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        struct real_file *f = file_of(file);
        size_t done = 0;

        if (atomic_load_explicit(&f->has_no_warm_reads, memory_order_relaxed))
                return real_file_read(file, data, size, offset, ret_size);
        while (done < size) {
                struct iovec rest = {(uint8_t *)data + done, size - done};
                ssize_t n = preadv2(f->fd, &rest, 1, (off_t)(offset + done), RWF_NOWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return OS_COLD;
                if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
                        atomic_store_explicit(&f->has_no_warm_reads, true, memory_order_relaxed);
                        return real_file_read(file, data, size, offset, ret_size);
                }
                if (n < 0)
                        return fault_raise(-errno);
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        *ret_size = done;
        return 0;
}

static int write_all(struct os_file *file, struct bytes bytes, uint64_t offset, int flags)
{
        while (bytes.size) {
                struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes.data, .iov_len = bytes.size};
                ssize_t n = pwritev2(file_of(file)->fd, &piece, 1, (off_t)offset, flags);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == ENOSPC || errno == EDQUOT ? OS_FULL : fault_raise(-errno);
                if (n == 0) /* never seen for a file; going on would not end */
                        return fault_raise(-EIO);
                bytes = bytes_of(bytes.data + n, bytes.size - (size_t)n);
                offset += (uint64_t)n;
        }
        return 0;
}

/* No repetition after an error, whatever it is: the kernel forgets which pages it could not write (G15). */
static int real_file_write(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return write_all(file, bytes, offset, 0);
}

/* One call, and it waits for these bytes only: fdatasync would wait for all that others have written to the
 * file. */
static int real_file_write_synced(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        return write_all(file, bytes, offset, RWF_DSYNC);
}

static int real_file_sync(struct os_file *file)
{
        return fdatasync(file_of(file)->fd) ? fault_raise(-errno) : 0;
}

static int real_file_truncate(struct os_file *file, uint64_t size)
{
        int r;

        do {
                r = ftruncate(file_of(file)->fd, (off_t)size);
        } while (r && errno == EINTR);
        if (r)
                return errno == ENOSPC || errno == EDQUOT ? OS_FULL : fault_raise(-errno);
        return 0;
}

/* ---- names ---- */

static int real_dir_make(struct os *os, const char *path)
{
        struct stat s;

        (void)os;
        if (mkdir(path, 0700) == 0)
                return 0;
        if (errno != EEXIST)
                return outcome_of(errno);
        if (stat(path, &s))
                return fault_raise(-errno);
        return S_ISDIR(s.st_mode) ? OS_EXISTS : fault_raise(-ENOTDIR);
}

static int real_dir_sync(struct os *os, const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = 0;

        (void)os;
        if (fd < 0)
                return fault_raise(-errno);
        if (fsync(fd))
                r = fault_raise(-errno);
        close(fd);
        return r;
}

static bool entry_is_dir(DIR *dir, const struct dirent *entry)
{
        struct stat s;

        if (entry->d_type != DT_UNKNOWN)
                return entry->d_type == DT_DIR;
        return fstatat(dirfd(dir), entry->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(s.st_mode);
}

static int real_dir_names(struct os *os, const char *path, struct os_names *names)
{
        struct dirent *entry;
        DIR *dir = opendir(path);
        int r;

        (void)os;
        if (!dir)
                return errno == ENOENT ? OS_NOT_FOUND : fault_raise(-errno);
        while (errno = 0, (entry = readdir(dir)))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        os_names_add(names, entry->d_name, entry_is_dir(dir, entry));
        r = errno ? fault_raise(-errno) : 0;
        closedir(dir);
        return r;
}

static int real_rename(struct os *os, const char *from, const char *to)
{
        (void)os;
        return rename(from, to) ? outcome_of(errno) : 0;
}

/* remove() takes files and empty directories alike. */
static int real_remove(struct os *os, const char *path)
{
        (void)os;
        if (remove(path) == 0)
                return 0;
        return errno == ENOENT ? OS_NOT_FOUND : fault_raise(-errno);
}

static int real_lock(struct os *os, const char *path, struct os_file **ret)
{
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        int error;

        if (fd < 0)
                return errno == ENOSPC || errno == EDQUOT ? OS_FULL : fault_raise(-errno);
        if (flock(fd, LOCK_EX | LOCK_NB)) {
                error = errno;
                close(fd);
                return error == EWOULDBLOCK ? OS_LOCKED : fault_raise(-error);
        }
        *ret = file_new(os, fd);
        return 0;
}

static int real_space(struct os *os, const char *path, struct os_space *ret)
{
        struct statvfs s;

        (void)os;
        if (statvfs(path, &s))
                return fault_raise(-errno);
        *ret = (struct os_space){
                .free_bytes = (uint64_t)s.f_bavail * s.f_frsize,
                .total_bytes = (uint64_t)s.f_blocks * s.f_frsize,
        };
        return 0;
}

const struct os_disk_table real_disk_table = {
        .file_open = real_file_open,
        .file_close = real_file_close,
        .file_size = real_file_size,
        .file_read = real_file_read,
        .file_read_warm = real_file_read_warm,
        .file_write = real_file_write,
        .file_write_synced = real_file_write_synced,
        .file_sync = real_file_sync,
        .file_truncate = real_file_truncate,
        .dir_make = real_dir_make,
        .dir_sync = real_dir_sync,
        .dir_names = real_dir_names,
        .rename = real_rename,
        .remove = real_remove,
        .lock = real_lock,
        .space = real_space,
};
