/* The simulated machine's disk: the disk in memory that can crash, with faults on order and every call in the
 * hash. */
#include "os/sim.h"

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "os/ram_disk.h"

/* True when the call that is just made, the `n`-th, is the one that fails. */
static bool is_due(uint64_t fails_at, uint64_t n)
{
        return fails_at && n == fails_at;
}

static int sim_file_open(struct os *os, const char *path, unsigned flags, struct os_file **ret)
{
        int r = ram_disk_table.file_open(os, path, flags, ret);

        sim_note(sim_of(os), SIM_OPEN, crc32c(flags, path, strlen(path)), (uint64_t)r);
        return r;
}

static int sim_file_read(struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        struct sim *sim = sim_of(file->os);

        sim_note(sim, SIM_READ, offset, size);
        if (is_due(sim->faults.read_fails_at, ++sim->reads))
                return fault_raise(-EIO);
        return ram_disk_table.file_read(file, data, size, offset, ret_size);
}

static int sim_file_read_warm(
        struct os_file *file, void *data, size_t size, uint64_t offset, size_t *ret_size)
{
        struct sim *sim = sim_of(file->os);

        if (sim->faults.reads_are_cold && sim_choose(sim, 2))
                return OS_COLD;
        return sim_file_read(file, data, size, offset, ret_size);
}

/* A write that fails may have written some of it. */
static void write_some(struct sim *sim, struct os_file *file, struct bytes bytes, uint64_t offset)
{
        int r;

        bytes.size = sim_choose(sim, bytes.size + 1);
        r = ram_disk_table.file_write(file, bytes, offset);
        assert(r == 0 || r == OS_FULL);
}

/* 0: the write is to be made. */
static int begin_write(struct sim *sim, struct os_file *file, struct bytes bytes, uint64_t offset)
{
        sim->stats.writes++;
        sim->writes++;
        sim_note(sim, SIM_WRITE, offset, bytes.size << 32 ^ crc32c(0, bytes.data, bytes.size));
        if (is_due(sim->faults.write_fails_at, sim->writes)) {
                write_some(sim, file, bytes, offset);
                return fault_raise(-EIO);
        }
        if (sim->faults.full_at && sim->writes >= sim->faults.full_at) {
                write_some(sim, file, bytes, offset);
                return OS_FULL;
        }
        return 0;
}

/* 0: the sync is to be made. */
static int begin_sync(struct sim *sim)
{
        sim->stats.syncs++;
        sim_note(sim, SIM_SYNC, 0, 0);
        return is_due(sim->faults.sync_fails_at, ++sim->syncs) ? fault_raise(-EIO) : 0;
}

static int sim_file_write(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        int r = begin_write(sim_of(file->os), file, bytes, offset);

        return r ? r : ram_disk_table.file_write(file, bytes, offset);
}

/* A sync that fails has lost nothing that was written, but nobody may count on it. */
static int sim_file_write_synced(struct os_file *file, struct bytes bytes, uint64_t offset)
{
        struct sim *sim = sim_of(file->os);
        int r = begin_write(sim, file, bytes, offset);
        int problem;

        if (r)
                return r;
        problem = begin_sync(sim);
        if (!problem && !sim->faults.sync_lies)
                return ram_disk_table.file_write_synced(file, bytes, offset);
        r = ram_disk_table.file_write(file, bytes, offset);
        return r ? r : problem;
}

static int sim_file_sync(struct os_file *file)
{
        struct sim *sim = sim_of(file->os);
        int r = begin_sync(sim);

        if (r)
                return r;
        return sim->faults.sync_lies ? 0 : ram_disk_table.file_sync(file);
}

static int sim_file_truncate(struct os_file *file, uint64_t size)
{
        sim_note(sim_of(file->os), SIM_TRUNCATE, size, 0);
        return ram_disk_table.file_truncate(file, size);
}

/* A call that names something: its text and its result. */
static int noted(struct os *os, enum sim_kind kind, const char *path, const char *other, int result)
{
        sim_note(sim_of(os), kind, crc32c(crc32c(0, path, strlen(path)), other, strlen(other)),
                (uint64_t)result);
        return result;
}

static int sim_dir_make(struct os *os, const char *path)
{
        return noted(os, SIM_DIR_MAKE, path, "", ram_disk_table.dir_make(os, path));
}

static int sim_dir_sync(struct os *os, const char *path)
{
        struct sim *sim = sim_of(os);

        if (sim->faults.dir_sync_fails_at && --sim->faults.dir_sync_fails_at == 0)
                return fault_raise(-EIO);
        return noted(os, SIM_DIR_SYNC, path, "", ram_disk_table.dir_sync(os, path));
}

static int sim_rename(struct os *os, const char *from, const char *to)
{
        return noted(os, SIM_RENAME, from, to, ram_disk_table.rename(os, from, to));
}

static int sim_remove(struct os *os, const char *path)
{
        return noted(os, SIM_REMOVE, path, "", ram_disk_table.remove(os, path));
}

/* What changes nothing goes straight to the disk in memory. */
static void sim_file_close(struct os_file *file)
{
        ram_disk_table.file_close(file);
}

static int sim_file_size(struct os_file *file, uint64_t *ret)
{
        return ram_disk_table.file_size(file, ret);
}

static int sim_dir_names(struct os *os, const char *path, struct os_names *names)
{
        return ram_disk_table.dir_names(os, path, names);
}

static int sim_lock(struct os *os, const char *path, struct os_file **ret)
{
        return ram_disk_table.lock(os, path, ret);
}

static int sim_space(struct os *os, const char *path, struct os_space *ret)
{
        int r = ram_disk_table.space(os, path, ret);

        if (sim_of(os)->faults.free_bytes)
                ret->free_bytes = MIN(ret->free_bytes, sim_of(os)->faults.free_bytes);
        return r;
}

const struct os_disk_table sim_disk_table = {
        .file_open = sim_file_open,
        .file_close = sim_file_close,
        .file_size = sim_file_size,
        .file_read = sim_file_read,
        .file_read_warm = sim_file_read_warm,
        .file_write = sim_file_write,
        .file_write_synced = sim_file_write_synced,
        .file_sync = sim_file_sync,
        .file_truncate = sim_file_truncate,
        .dir_make = sim_dir_make,
        .dir_sync = sim_dir_sync,
        .dir_names = sim_dir_names,
        .rename = sim_rename,
        .remove = sim_remove,
        .lock = sim_lock,
        .space = sim_space,
};

void os_sim_set_faults(struct os *os, const struct os_sim_faults *faults)
{
        struct sim *sim = sim_of(os);

        sim->faults = *faults;
        sim->writes = sim->syncs = sim->reads = 0;
}

int os_sim_flip_bit(struct os *os, const char *path, uint64_t bit)
{
        return noted(os, SIM_FLIP, path, "", ram_disk_flip_bit(os->ram, path, bit));
}
