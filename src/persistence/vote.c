/* The file `vote`: two slots of 4096 bytes, at 0 and 4096, little-endian:
 *
 *     0  8  magic "NILOVOTE"
 *     8  4  format, 1
 *    12  4  zero
 *    16 16  cluster UUID
 *    32  8  node id
 *    40 16  store UUID
 *    56  8  sequence: the valid slot with the higher one counts
 *    64  8  term
 *    72  8  voted for (node id, 0: nobody)
 *    80     zero
 *  4092  4  CRC-32C of the bytes before
 *
 * A save writes and syncs one slot, then the other. So a save that a crash interrupts leaves the old or the
 * new vote, both right since nobody was told; and after a save that ended, damage to either slot costs
 * nothing: a stale slot alone would let this node vote twice in a term. What an interrupted save left is
 * mended at the open, the damaged or stale slot first: the other is all there is. */
#include "persistence/vote.h"

#include <errno.h>

#include "base/crc32c.h"
#include "persistence/text.h"

enum { VOTE_SLOT_SIZE = 4096, VOTE_SLOTS = 2, VOTE_FORMAT = 1 };

static const char vote_magic[8] = {'N', 'I', 'L', 'O', 'V', 'O', 'T', 'E'};

static void vote_encode(const struct vote *v, uint8_t to[VOTE_SLOT_SIZE])
{
        memset(to, 0, VOTE_SLOT_SIZE);
        memcpy(to, vote_magic, sizeof vote_magic);
        put_u32(to + 8, VOTE_FORMAT);
        memcpy(to + 16, v->cluster_uuid, 16);
        put_u64(to + 32, v->node_id);
        memcpy(to + 40, v->store_uuid, 16);
        put_u64(to + 56, v->sequence);
        put_u64(to + 64, v->term);
        put_u64(to + 72, v->voted_for);
        put_u32(to + VOTE_SLOT_SIZE - 4, crc32c(0, to, VOTE_SLOT_SIZE - 4));
}

static int vote_write_slots(struct vote *v, struct os_file *file)
{
        uint8_t slot[VOTE_SLOT_SIZE];
        unsigned i;
        int r;

        vote_encode(v, slot);
        for (i = 0; i < VOTE_SLOTS; i++) {
                unsigned at = (v->first_slot + i) % VOTE_SLOTS;

                r = os_file_write(file, bytes_of(slot, sizeof slot), (uint64_t)at * VOTE_SLOT_SIZE);
                if (!r)
                        r = os_file_sync(file);
                if (r)
                        return r;
        }
        v->first_slot = 0;
        return 0;
}

int vote_file_make(struct os *os, const char *store_path, const struct persistence_identity *identity,
        const uint8_t store_uuid[16])
{
        CLEANUP(text_freep) char *path = text_format("%s/vote", store_path);
        struct vote v = {.node_id = identity->node_id, .sequence = 1};
        struct os_file *file = NULL;
        int r;

        memcpy(v.cluster_uuid, identity->cluster_uuid, 16);
        memcpy(v.store_uuid, store_uuid, 16);
        r = os_file_open(os, path, OS_OPEN_WRITE | OS_OPEN_CREATE, &file);
        if (!r)
                r = vote_write_slots(&v, file);
        os_file_close(&file);
        if (!r)
                r = os_dir_sync(os, store_path);
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

enum slot_state { SLOT_VALID, SLOT_DAMAGED, SLOT_FOREIGN, SLOT_NEWER };

static enum slot_state vote_decode(const uint8_t *slot, struct vote *v)
{
        if (get_u32(slot + VOTE_SLOT_SIZE - 4) != crc32c(0, slot, VOTE_SLOT_SIZE - 4) ||
                memcmp(slot, vote_magic, sizeof vote_magic) != 0)
                return SLOT_DAMAGED;
        if (get_u32(slot + 8) != VOTE_FORMAT)
                return SLOT_NEWER;
        if (memcmp(slot + 16, v->cluster_uuid, 16) != 0 || get_u64(slot + 32) != v->node_id ||
                memcmp(slot + 40, v->store_uuid, 16) != 0)
                return SLOT_FOREIGN;
        if (get_u64(slot + 56) >= v->sequence) {
                v->sequence = get_u64(slot + 56);
                v->term = get_u64(slot + 64);
                v->voted_for = get_u64(slot + 72);
        }
        return SLOT_VALID;
}

static int vote_load(struct vote *v, const char *path)
{
        uint8_t slots[VOTE_SLOTS * VOTE_SLOT_SIZE] = {0};
        unsigned valid = 0, newer = 0, foreign = 0;
        bool is_valid[VOTE_SLOTS];
        size_t size;
        int i, r;

        r = os_file_read(v->file, slots, sizeof slots, 0, &size);
        if (r == -EIO)
                return problem_note(
                        PERSISTENCE_CORRUPT, "%s cannot be read; restore this node from its peers", path);
        if (r)
                return fault_fold(r);
        for (i = 0; i < VOTE_SLOTS; i++) {
                enum slot_state state = vote_decode(slots + i * VOTE_SLOT_SIZE, v);

                is_valid[i] = state == SLOT_VALID;
                valid += state == SLOT_VALID;
                newer += state == SLOT_NEWER;
                foreign += state == SLOT_FOREIGN;
                v->damaged_slots += state == SLOT_DAMAGED;
        }
        for (i = 0; i < VOTE_SLOTS; i++) {
                if (is_valid[i] && get_u64(slots + i * VOTE_SLOT_SIZE + 56) == v->sequence)
                        continue;
                v->needs_save = true;
                v->first_slot = (unsigned)i;
        }
        if (newer)
                return problem_note(
                        PERSISTENCE_FORMAT, "%s was made by a newer version; use that version", path);
        if (foreign)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s belongs to another node or store; it was copied here by mistake", path);
        if (!valid)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s is damaged at offset 0 in both slots; without it this node could vote twice: "
                        "replace the node",
                        path);
        return 0;
}

int vote_open(struct vote *v, struct os *os, const char *store_path,
        const struct persistence_identity *identity, const uint8_t store_uuid[16], bool read_only)
{
        CLEANUP(text_freep) char *path = text_format("%s/vote", store_path);
        int r;

        *v = (struct vote){.node_id = identity->node_id};
        memcpy(v->cluster_uuid, identity->cluster_uuid, 16);
        memcpy(v->store_uuid, store_uuid, 16);
        r = os_file_open(os, path, read_only ? OS_OPEN_READ : OS_OPEN_WRITE, &v->file);
        if (r == OS_NOT_FOUND)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s is missing; without it this node could vote twice: replace the node", path);
        if (r)
                return fault_fold(r);
        r = vote_load(v, path);
        /* What was read may be in memory only, written by a process that died before its sync. The only right
         * slot is durable before the other is touched. */
        if (!r && !read_only)
                r = fault_fold(os_file_sync(v->file));
        if (!r && !read_only && v->needs_save)
                r = vote_save(v, v->term, v->voted_for);
        if (r)
                vote_close(v);
        return r;
}

void vote_close(struct vote *v)
{
        os_file_close(&v->file);
}

int vote_save(struct vote *v, uint64_t term, uint64_t voted_for)
{
        assert(v->file);
        assert(term >= v->term);
        v->sequence++;
        v->term = term;
        v->voted_for = voted_for;
        return fault_fold(vote_write_slots(v, v->file));
}
