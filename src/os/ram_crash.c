/* What a power cut leaves. Each change since the last sync is kept, lost or torn by itself; how likely each
 * is, is chosen anew at every crash, so that "all is kept" and "all is lost" come up too when there are many
 * changes. A lost write may still have made the file longer: the size is metadata and may reach the disk
 * before the bytes. */
#include "os/ram_disk.h"

#include <stdlib.h>

enum { CHANCE_PARTS = 4, SECTOR_SIZE = 512 };

struct crash {
        const struct ram_chance *chance;
        uint64_t keep_parts; /* of CHANCE_PARTS: how likely a change is kept */
        struct ram_loss loss;
};

static uint64_t choose(const struct crash *c, uint64_t below)
{
        return c->chance->choose(c->chance->arg, below);
}

static bool is_kept(const struct crash *c)
{
        return choose(c, CHANCE_PARTS) < c->keep_parts;
}

static void apply(struct ram_content *to, const struct ram_change *change, uint64_t from, uint64_t end)
{
        if (from >= end)
                return;
        if (change->data)
                ram_content_write(to, bytes_of(change->data + from, end - from), change->offset + from);
        else
                ram_content_zero(to, change->offset + from, end - from);
}

/* Where a write is cut, counted from its beginning: at a sector of the disk or at any byte. */
static uint64_t choose_cut(const struct crash *c, const struct ram_change *change)
{
        uint64_t cut = choose(c, change->size + 1), at;

        if (choose(c, 2)) {
                at = (change->offset + cut) / SECTOR_SIZE * SECTOR_SIZE;
                cut = at > change->offset ? at - change->offset : 0;
        }
        return cut;
}

static void crash_write(struct crash *c, struct ram_content *durable, const struct ram_change *change)
{
        uint64_t end = change->offset + change->size, cut;

        if (is_kept(c)) {
                apply(durable, change, 0, change->size);
                return;
        }
        if (choose(c, 2)) {
                c->loss.torn++;
                cut = choose_cut(c, change);
                if (choose(c, 4))
                        apply(durable, change, 0, cut);
                else
                        apply(durable, change, cut, change->size);
        } else {
                c->loss.lost++;
        }
        if (end > change->size_before && end > durable->size && choose(c, 4) == 0)
                ram_content_truncate(durable, end);
}

static void crash_file(struct crash *c, struct ram_node *node)
{
        size_t i;

        for (i = 0; i < node->change_count; i++) {
                const struct ram_change *change = &node->changes[i];

                if (!change->is_truncation)
                        crash_write(c, &node->durable, change);
                else if (is_kept(c))
                        ram_content_truncate(&node->durable, change->offset);
        }
        ram_changes_clear(node);
        ram_content_share_all(&node->current, &node->durable);
}

/* In the order of names, so that the seed decides all. */
static void crash_dir(struct crash *c, struct ram_node *dir)
{
        size_t i;

        for (i = 0; i < dir->entry_count; i++) {
                struct ram_entry *entry = &dir->entries[i];

                ram_entry_set(&entry->current, entry->durable);
                if (!entry->current)
                        continue;
                if (entry->current->is_dir)
                        crash_dir(c, entry->current);
                else
                        crash_file(c, entry->current);
        }
        ram_entries_tidy(dir);
}

/* A change of a node's name needs those before it: what a lost one would have moved cannot be moved on. */
static void crash_names(struct crash *c, struct ram_disk *disk)
{
        size_t i;

        for (i = 0; i < disk->renaming_count; i++) {
                struct ram_renaming *change = &disk->renamings[i];

                change->is_kept = is_kept(c) && !change->node->has_lost;
                change->node->has_lost = !change->is_kept;
        }
        for (i = 0; i < disk->renaming_count; i++)
                disk->renamings[i].node->has_lost = false;
        ram_renamings_keep(disk);
}

struct ram_loss ram_disk_crash(struct ram_disk *disk, const struct ram_chance *chance)
{
        struct crash c = {.chance = chance};

        assert(disk->can_crash);
        assert(list_is_empty(&disk->files));
        c.keep_parts = choose(&c, CHANCE_PARTS + 1);
        crash_names(&c, disk);
        ram_renamings_forget(disk);
        c.keep_parts = choose(&c, CHANCE_PARTS + 1);
        crash_dir(&c, disk->root);
        return c.loss;
}

static void flip(struct ram_content *content, uint64_t bit)
{
        uint8_t byte;

        if (ram_content_read(content, &byte, 1, bit / 8) == 0)
                return;
        byte ^= (uint8_t)(1u << bit % 8);
        ram_content_write(content, bytes_of(&byte, 1), bit / 8);
}

/* What is on the disk changes under everybody's hands: now, and after a crash. */
int ram_disk_flip_bit(struct ram_disk *disk, const char *path, uint64_t bit)
{
        struct ram_node *node = ram_find(disk, path);

        if (!node || node->is_dir)
                return OS_NOT_FOUND;
        assert(bit / 8 < node->current.size);
        flip(&node->current, bit);
        flip(&node->durable, bit);
        return 0;
}
