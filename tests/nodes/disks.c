/* What goes wrong with disks and clocks: slow ones, full ones, calls that fail, bits that flip while a node
 * is down; wall clocks that jump, clocks that go too fast or too slow. */
#include "room.h"

enum {
        FILES_MAX = 256,
        PATH_SIZE = 200,
        SLOW_US = 60 * 1000,
        SEGMENT_HEADER = 4096,
        SEGMENT_AT_UUID = 48,
        SEGMENT_AT_GENERATION = 72
};
#define JUMP_US ((uint64_t)10 * 365 * 24 * 3600 * 1000 * 1000)

static void apply(struct node *n)
{
        os_sim_set_faults(n->os, &n->disk);
}

void disks_begin(struct node *n)
{
        n->may_fail = false;
        n->disk = (struct os_sim_faults){
                .work_us_max = n->world->rates.has_slow_disks && !n->world->is_healing ? SLOW_US : 0};
        apply(n);
        if (!n->life && one_in(n->world, 4))
                os_sim_set_rate(n->os, 500000 + (uint32_t)choose(n->world, 1500000));
}

static void on_fast_again(void *arg)
{
        struct node *n = arg;

        n->disk.work_us_max = n->world->rates.has_slow_disks && !n->world->is_healing ? SLOW_US : 0;
        apply(n);
}

static void stall(struct node *n)
{
        struct world *w = n->world;

        world_tell(w, "node %u has a slow disk", n->number + 1);
        w->totals->stalls++;
        n->disk.work_us_max = 1000 + choose(w, one_in(w, 3) ? 2000 * 1000 : 100 * 1000);
        apply(n);
        os_sim_world_call(w->sim, 100 * 1000 + choose(w, 2000 * 1000), on_fast_again, n);
}

static void on_space(void *arg)
{
        struct node *n = arg;

        n->disk.free_bytes = 0;
        apply(n);
}

static void fill(struct node *n)
{
        struct world *w = n->world;

        world_tell(w, "node %u has a full disk", n->number + 1);
        w->totals->full_disks++;
        n->may_fail |= !n->has_opened;
        n->disk.free_bytes = 1;
        apply(n);
        os_sim_world_call(w->sim, 100 * 1000 + choose(w, 2000 * 1000), on_space, n);
}

static void fail_soon(struct node *n)
{
        struct world *w = n->world;

        world_tell(w, "node %u has a bad disk", n->number + 1);
        w->totals->disk_errors++;
        n->may_fail = true;
        switch (choose(w, 3)) {
        case 0:
                n->disk.write_fails_at = 1 + choose(w, 20);
                break;
        case 1:
                n->disk.sync_fails_at = 1 + choose(w, 20);
                break;
        default:
                n->disk.read_fails_at = 1 + choose(w, 20);
        }
        apply(n);
}

static void jump(struct node *n)
{
        struct world *w = n->world;
        int64_t us = (int64_t)choose(w, one_in(w, 2) ? JUMP_US : 5 * 1000 * 1000);

        w->totals->jumps++;
        os_sim_shift_wall(n->os, one_in(w, 2) ? us : -us);
}

void disks_chance(struct world *w)
{
        struct node *n = &w->nodes[choose(w, w->count)];

        if (!n->store || n->is_doomed)
                return;
        if (in_1000(w, w->rates.stall))
                stall(n);
        if (in_1000(w, w->rates.full))
                fill(n);
        if (in_1000(w, w->rates.disk_error))
                fail_soon(n);
        if (in_1000(w, w->rates.jump))
                jump(n);
}

void disks_heal(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++) {
                w->nodes[i].disk = (struct os_sim_faults){0};
                apply(&w->nodes[i]);
                os_sim_set_rate(w->nodes[i].os, 1000000);
        }
}

/* ---- flipped bits ---- */

struct files {
        struct node *node;
        char directory[PATH_SIZE];
        char paths[FILES_MAX][PATH_SIZE];
        unsigned count;
};

static void list_files(struct files *f, const char *path);

static int take_entry(void *arg, const char *name, bool is_dir)
{
        struct files *f = arg;
        char path[PATH_SIZE];

        if (f->count == FILES_MAX || snprintf(path, sizeof path, "%s/%s", f->directory, name) >= PATH_SIZE)
                return 0;
        if (is_dir)
                list_files(f, path);
        else
                memcpy(f->paths[f->count++], path, PATH_SIZE);
        return 0;
}

static void list_files(struct files *f, const char *path)
{
        char before[PATH_SIZE];

        memcpy(before, f->directory, sizeof before);
        snprintf(f->directory, sizeof f->directory, "%s", path);
        if (os_dir_list(f->node->os, path, take_entry, f))
                world_fail(f->node->world, "the disk cannot be listed");
        memcpy(f->directory, before, sizeof before);
}

/* Through where a segment's own records say that it was durable. What stands behind that after a crash is not
 * told from a torn end, whose loss G13 states, so nothing flips there. */
static uint64_t proven_size(const struct buffer *bytes)
{
        uint32_t seed =
                record_seed(bytes->data + SEGMENT_AT_UUID, get_u32(bytes->data + SEGMENT_AT_GENERATION));
        struct record_header h;
        uint64_t synced = 0, size = SEGMENT_HEADER, at;

        for (unsigned pass = 0; pass < 2; pass++) {
                for (at = SEGMENT_HEADER; at + RECORD_HEADER_SIZE <= bytes->size &&
                                          record_header_decode(bytes->data + at, seed, &h) == 0;
                        at += record_size(h.payload_size)) {
                        if (pass && h.index <= synced)
                                size = at + record_size(h.payload_size);
                        synced = MAX(synced, h.synced_through);
                }
        }
        return MIN(size, bytes->size);
}

/* Where bytes are: behind the end of a log there are only zeros. */
static uint64_t some_bit(struct world *w, const struct buffer *bytes, bool is_newest_segment)
{
        uint64_t used = bytes->size;

        while (used > 1 && !bytes->data[used - 1])
                used--;
        if (is_newest_segment && bytes->size > SEGMENT_HEADER)
                used = MIN(used, proven_size(bytes));
        return choose(w, used * 8);
}

static bool is_segment(const char *path)
{
        size_t size = strlen(path);

        return size > 24 && strcmp(path + size - 4, ".seg") == 0 && path[size - 25] == '/';
}

static bool is_newest_segment(const struct files *f, const char *path)
{
        if (!is_segment(path))
                return false;
        for (unsigned i = 0; i < f->count; i++)
                if (is_segment(f->paths[i]) && strcmp(f->paths[i], path) > 0)
                        return false;
        return true;
}

void disks_flip(struct node *n)
{
        struct world *w = n->world;
        struct buffer bytes = {0};
        struct files *f;
        const char *path;

        if (w->is_healing || w->founders == 1 || (w->has_lost && !n->is_flipped) || n->is_lost ||
                n->is_broken)
                return;
        f = MEMORY_NEW(struct files);
        f->node = n;
        list_files(f, "/data/stores");
        path = f->count ? f->paths[choose(w, f->count)] : NULL;
        if (path && os_read_whole(n->os, path, 64 * MIB, &bytes) == 0 && bytes.size) {
                uint64_t bit = some_bit(w, &bytes, is_newest_segment(f, path));

                if (os_sim_flip_bit(n->os, path, bit) == 0) {
                        world_tell(w, "node %u: bit %llu of %s flips", n->number + 1, (unsigned long long)bit,
                                path);
                        w->has_lost = n->is_flipped = true;
                        w->totals->flips++;
                }
        }
        buffer_fini(&bytes);
        free(f);
}
