/* The disk: what it is, whether it keeps what it says it has kept, how long that takes, and how much is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/doctor.h"

enum {
        PROBE_SIZE = 4096, /* of one write: about what a small append is */
        PROBE_FILE_SIZE =
                1 << 20, /* written before, as segments are: else a sync would also store the file's size */
        PROBES_MAX = 400,
        PROBES_MIN = 8,
        PROBE_US_MAX = 2000 * 1000,
        SLOW_MEDIAN_US = 20000,
        SLOW_P99_US = 200000,
        /* No device that is asked to make a write durable answers so fast; what does is memory. */
        HONEST_US_MIN = 12,
        INODES_MIN = 1000,
};

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- where it is ---- */

/* The nearest directory that exists: the data directory, or the one in which a start would make it. From
 * malloc. */
static char *existing_directory(const char *path)
{
        char *found = memory_copy_string(path);
        struct stat status;

        while (stat(found, &status) && errno == ENOENT) {
                char *slash = strrchr(found, '/');

                if (!slash || slash == found) {
                        free(found);
                        return memory_copy_string(slash ? "/" : ".");
                }
                *slash = 0;
        }
        return found;
}

static void look_at_directory(struct doctor *d, const char *where)
{
        struct stat status;
        char mode[8];

        if (stat(where, &status)) {
                doctor_say(d, "data directory", DOCTOR_FAIL, "", "%s: %s", where, strerror(errno));
                return;
        }
        snprintf(mode, sizeof mode, "%04o", (unsigned)(status.st_mode & 07777));
        if (!S_ISDIR(status.st_mode))
                doctor_say(d, "data directory", DOCTOR_FAIL, "Name a directory: --data DIRECTORY.",
                        "%s is none", where);
        else if (access(where, W_OK | X_OK))
                doctor_say(d, "data directory", DOCTOR_FAIL,
                        "Run as the server's user, or give that user the directory.", "%s: %s", where,
                        strerror(errno));
        else if (strcmp(where, d->data) != 0)
                doctor_say(d, "data directory", DOCTOR_OK, "", "%s is not there yet: a start makes it in %s",
                        d->data, where);
        else if (status.st_mode & 077)
                doctor_say(d, "data directory", DOCTOR_WARN,
                        "chmod 700: others on this machine can look into it.", "%s, mode %s", where, mode);
        else
                doctor_say(d, "data directory", DOCTOR_OK, "", "%s, mode %s, user %u", where, mode,
                        (unsigned)status.st_uid);
}

static void look_at_file_system(struct doctor *d, const char *where)
{
        static const struct {
                unsigned long type;
                const char *name;
                enum doctor_verdict verdict;
                const char *advice;
        } known[] = {
                {EXT4_SUPER_MAGIC, "ext4", DOCTOR_OK, ""},
                {XFS_SUPER_MAGIC, "xfs", DOCTOR_OK, ""},
                {BTRFS_SUPER_MAGIC, "btrfs", DOCTOR_WARN,
                        "Copy on write makes each sync dearer: chattr +C on the empty directory, or ext4 or "
                        "xfs."},
                {0x2fc12fc1, "zfs", DOCTOR_OK, ""},
                {F2FS_SUPER_MAGIC, "f2fs", DOCTOR_OK, ""},
                {TMPFS_MAGIC, "tmpfs", DOCTOR_FAIL,
                        "This is memory: nothing survives a power cut. Choose a directory on a disk."},
                {RAMFS_MAGIC, "ramfs", DOCTOR_FAIL,
                        "This is memory: nothing survives a power cut. Choose a directory on a disk."},
                {OVERLAYFS_SUPER_MAGIC, "overlay", DOCTOR_WARN,
                        "This is a container's own layer, gone with the container: mount a volume."},
                {NFS_SUPER_MAGIC, "nfs", DOCTOR_WARN,
                        "Syncs and locks depend on the file server: choose a local disk, and let the cluster "
                        "copy."},
                {0xff534d42, "cifs", DOCTOR_FAIL,
                        "This file system does not promise what a log needs: choose a local disk."},
                {0xfe534d42, "smb2", DOCTOR_FAIL,
                        "This file system does not promise what a log needs: choose a local disk."},
                {FUSE_SUPER_MAGIC, "fuse", DOCTOR_WARN,
                        "Whether a sync is one depends on the program behind it: choose a local disk."},
                {V9FS_MAGIC, "9p", DOCTOR_WARN,
                        "Syncs depend on the machine behind it: choose a local disk."},
        };
        struct statfs status;

        if (statfs(where, &status)) {
                doctor_say(d, "file system", DOCTOR_FAIL, "", "%s: %s", where, strerror(errno));
                return;
        }
        for (size_t i = 0; i < COUNT_OF(known); i++)
                if ((unsigned long)status.f_type == known[i].type) {
                        doctor_say(d, "file system", known[i].verdict, known[i].advice, "%s", known[i].name);
                        return;
                }
        doctor_say(d, "file system", DOCTOR_WARN, "Known to be good are ext4 and xfs.",
                "one that is not known here (0x%lx)", (unsigned long)status.f_type);
}

/* ---- how much is left ---- */

static void look_at_space(struct doctor *d, const char *where)
{
        struct statfs status;
        char free_text[CLI_SIZE_TEXT];
        char total_text[CLI_SIZE_TEXT];
        char reserve_text[CLI_SIZE_TEXT];
        uint64_t free_bytes;
        enum doctor_verdict verdict = DOCTOR_OK;
        const char *advice = "";

        if (statfs(where, &status))
                return; /* said of the file system already */
        free_bytes = (uint64_t)status.f_bavail * (uint64_t)status.f_bsize;
        cli_format_size(free_bytes, free_text);
        cli_format_size((uint64_t)status.f_blocks * (uint64_t)status.f_bsize, total_text);
        cli_format_size(d->settings.space_reserve, reserve_text);
        if (free_bytes < d->settings.space_reserve) {
                verdict = DOCTOR_FAIL;
                advice = "Writes are refused until there is more: make space, or set limits on streams.";
        } else if (free_bytes < d->settings.space_reserve + 4 * d->settings.segment_size) {
                verdict = DOCTOR_WARN;
                advice = "There is room for a few segments only.";
        } else if (status.f_files && status.f_ffree < INODES_MIN) {
                verdict = DOCTOR_WARN;
                advice = "The file system can hold hardly any more files.";
        }
        doctor_say(d, "disk space", verdict, advice, "%s free of %s; writes stop below %s", free_text,
                total_text, reserve_text);
}

/* ---- syncs ---- */

static int by_size(const void *a, const void *b)
{
        double x = *(const double *)a;
        double y = *(const double *)b;

        return (x > y) - (x < y);
}

double doctor_quantile(const double *sorted, size_t count, double quantile)
{
        size_t at = (size_t)(quantile * (double)count);

        assert(count > 0);
        return sorted[MIN(at, count - 1)];
}

enum doctor_verdict doctor_judge_sync(double median_us, double p99_us, const char **ret_advice)
{
        *ret_advice = "";
        if (median_us < HONEST_US_MIN) {
                *ret_advice =
                        "No disk is so fast: a sync here is not one, and a power cut loses acknowledged "
                        "events. Look at the "
                        "mount options, at the virtual machine's disk cache (unsafe), and at eatmydata.";
                return DOCTOR_FAIL;
        }
        if (median_us > SLOW_MEDIAN_US || p99_us > SLOW_P99_US) {
                *ret_advice =
                        "Each append waits for this: choose a faster disk, or one that others do not use.";
                return DOCTOR_WARN;
        }
        return DOCTOR_OK;
}

/* Times of write and sync together, in order. Gives how many; 0: `errno` says why. */
static size_t measure(int fd, double times_us[PROBES_MAX])
{
        static uint8_t block[PROBE_SIZE];
        uint64_t began = now_ns();
        size_t count = 0;

        for (size_t at = 0; at < PROBE_FILE_SIZE; at += PROBE_SIZE)
                if (pwrite(fd, block, sizeof block, (off_t)at) != (ssize_t)sizeof block)
                        return 0;
        if (fsync(fd))
                return 0;
        while (count < PROBES_MAX &&
                (count < PROBES_MIN || now_ns() - began < (uint64_t)PROBE_US_MAX * 1000)) {
                uint64_t from = now_ns();

                memset(block, (int)count + 1, sizeof block);
                if (pwrite(fd, block, sizeof block, (off_t)(count * PROBE_SIZE % PROBE_FILE_SIZE)) !=
                                (ssize_t)sizeof block ||
                        fdatasync(fd))
                        return 0;
                times_us[count++] = (double)(now_ns() - from) / 1000;
        }
        qsort(times_us, count, sizeof *times_us, by_size);
        return count;
}

static void look_at_syncs(struct doctor *d, const char *where)
{
        static double times_us[PROBES_MAX];
        char path[PATH_MAX];
        const char *advice;
        enum doctor_verdict verdict;
        double median;
        double p99;
        size_t count = 0;
        int fd;

        snprintf(path, sizeof path, "%s/.nilo-doctor-XXXXXX", where);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
                unlink(path);
                count = measure(fd, times_us);
        }
        if (!count)
                doctor_say(d, "sync", DOCTOR_FAIL, "A server cannot write there either.", "%s: %s", where,
                        strerror(errno));
        if (fd >= 0)
                close(fd);
        if (!count)
                return;
        median = doctor_quantile(times_us, count, 0.5);
        p99 = doctor_quantile(times_us, count, 0.99);
        verdict = doctor_judge_sync(median, p99, &advice);
        doctor_say(d, "sync", verdict, advice,
                "write and fdatasync of 4 KiB: median %.2f ms, 99 %% %.2f ms, longest %.2f ms (%zu times)%s",
                median / 1000, p99 / 1000, times_us[count - 1] / 1000, count,
                d->is_running && d->is_here ? ", beside the server" : "");
}

void doctor_disk(struct doctor *d)
{
        char *where = existing_directory(d->data);

        look_at_directory(d, where);
        look_at_file_system(d, where);
        look_at_space(d, where);
        look_at_syncs(d, where);
        free(where);
}
