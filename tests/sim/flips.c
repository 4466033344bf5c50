/* Damage at rest (G13, G14): after an orderly stop a bit of a file flips. The start may be refused, a read
 * may say that bytes are damaged, or the damage is where nothing was, or is mended; but nothing wrong is ever
 * given, nothing known is silently gone, and with the bit flipped back everything is there. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "room.h"

enum { FLIPS = 3, FILES_MAX = 2000, PATH_SIZE = 200 };

struct saved {
        char path[PATH_SIZE];
        struct buffer bytes;
};
struct disk {
        struct world *w;
        struct saved files[FILES_MAX];
        unsigned count;
        char directory[PATH_SIZE];
};

static void save_directory(struct disk *d, const char *path);

static int save_entry(void *arg, const char *name, bool is_dir)
{
        struct disk *d = arg;
        struct saved *file = &d->files[d->count];
        char path[PATH_SIZE];

        if (snprintf(path, sizeof(path), "%s/%s", d->directory, name) >= PATH_SIZE || d->count == FILES_MAX)
                return -1;
        if (is_dir) {
                save_directory(d, path);
                return 0;
        }
        snprintf(file->path, sizeof(file->path), "%s", path);
        d->count++;
        return os_read_whole(d->w->os, path, 64 * MIB, &file->bytes);
}

static void save_directory(struct disk *d, const char *path)
{
        char before[PATH_SIZE];

        memcpy(before, d->directory, sizeof(before));
        snprintf(d->directory, sizeof(d->directory), "%s", path);
        if (os_dir_list(d->w->os, path, save_entry, d))
                world_fail(d->w, "the disk cannot be copied");
        memcpy(d->directory, before, sizeof(before));
}

static int remove_entry(void *arg, const char *name, bool is_dir)
{
        struct disk *d = arg;
        char path[PATH_SIZE];

        snprintf(path, sizeof(path), "%.100s/%.90s", d->directory, name);
        return is_dir ? 0 : os_remove(d->w->os, path);
}

/* Everything as it was. */
static void restore(struct disk *d)
{
        char seen[PATH_SIZE] = "";

        for (unsigned i = 0; i < d->count && !has_failed(d->w); i++) {
                char *slash = strrchr(d->files[i].path, '/');

                snprintf(d->directory, sizeof(d->directory), "%.*s", (int)(slash - d->files[i].path),
                        d->files[i].path);
                if (strcmp(seen, d->directory) != 0 &&
                        (os_dir_list(d->w->os, d->directory, remove_entry, d) ||
                                os_dir_sync(d->w->os, d->directory)))
                        world_fail(d->w, "the disk cannot be emptied");
                memcpy(seen, d->directory, sizeof(seen));
                if (os_replace_whole(d->w->os, d->files[i].path, buffer_bytes(&d->files[i].bytes)))
                        world_fail(d->w, "the disk cannot be restored");
        }
}

/* Most flips where bytes are: behind the end of a log there are only zeros. */
static uint64_t choose_bit(struct world *w, const struct buffer *bytes)
{
        uint64_t used = bytes->size;

        while (used > 1 && !bytes->data[used - 1])
                used--;
        if (one_in(w, 10))
                used = bytes->size;
        return choose(w, used * 8);
}

static void look(struct world *w)
{
        uint64_t end = store_next_position(w->asked);

        if (end != w->model.event_count) {
                world_fail(w, "lost: %llu of %llu events after a flip", (unsigned long long)end,
                        (unsigned long long)w->model.event_count);
                return;
        }
        reads_verify_log(w, false);
        if (!has_failed(w))
                reads_verify_streams(w);
        if (!has_failed(w))
                reads_verify_list(w);
        for (unsigned n = 0; n < 5 && !has_failed(w); n++)
                ops_issue(w);
        os_sim_run_for(w->os, 2 * 1000 * 1000);
}

static void flip(struct world *w, struct disk *d)
{
        struct saved *file = &d->files[choose(w, d->count)];
        uint64_t events = w->model.event_count, bit;
        int r;

        if (!file->bytes.size)
                return;
        bit = choose_bit(w, &file->bytes);
        if (os_sim_flip_bit(w->os, file->path, bit)) {
                world_fail(w, "no bit to flip");
                return;
        }
        world_tell(w, "flip of bit %llu of %s", (unsigned long long)bit, file->path);
        w->totals->flips++;
        w->allows_corrupt = true;
        w->corrupt_answers = 0;
        r = world_open(w);
        if (has_failed(w))
                return;
        if (r < 0)
                world_fail(w, "a flip gives the fault %d: %s", r, fault_last());
        else if (r)
                w->totals->flips_refused++;
        else
                look(w);
        if (has_failed(w))
                return;
        if (!r && w->corrupt_answers)
                w->totals->flips_found++;
        else if (!r)
                w->totals->flips_harmless++;
        world_tell(w, "%s", r ? w->open_problem : w->corrupt_answers ? "a read told of it" : "harmless");
        world_drop(w, false);
        w->allows_corrupt = false;
        model_truncate(&w->model, events);
        w->must_survive = events;
        restore(d);
}

void flips_run(struct world *w)
{
        struct disk *d = MEMORY_NEW(struct disk);
        int r;

        d->w = w;
        save_directory(d, "/data");
        for (unsigned n = 0; n < FLIPS && !has_failed(w); n++)
                flip(w, d);
        if (!has_failed(w)) {
                r = world_open(w);
                if (r)
                        world_fail(w, "flipped back, but opening gives %d: %s", r, w->open_problem);
        }
        if (!has_failed(w))
                look(w);
        if (!has_failed(w))
                world_stop(w);
        for (unsigned i = 0; i < d->count; i++)
                buffer_fini(&d->files[i].bytes);
        free(d);
}
