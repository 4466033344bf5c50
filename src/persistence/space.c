/* Space on the device (G16). Appends are refused before they reach the log while less than the reserve is
 * free: what is left then lets term and vote, truncation and an orderly stop finish. The device is asked now
 * and then, and between two looks what was written since is taken off, so that the reserve holds within one
 * look's bytes. */
#include "persistence/log.h"

#include "persistence/filler.h"

enum log_space_margin {
        SPACE_LOW_FACTOR = 4, /* warn below four times the reserve */
        SPACE_RECOVER_DIVISOR =
                8, /* writes are taken again at an eighth above the reserve, so that it does not flap */
};

static uint64_t space_free(const struct persistence *p)
{
        return p->free_bytes > p->bytes_since_look ? p->free_bytes - p->bytes_since_look : 0;
}

static void space_move(struct persistence *p, enum log_space space)
{
        static const enum fact_type facts[] = {[SPACE_FINE] = FACT_disk_space_recovered,
                [SPACE_LOW] = FACT_disk_space_low,
                [SPACE_FULL] = FACT_disk_full};
        enum log_space before = p->space;

        if (space == before)
                return;
        p->space = space;
        if (space == SPACE_LOW && before == SPACE_FULL)
                log_publish_text(p, FACT_disk_space_recovered, 0, space_free(p) / MIB, NULL);
        else if (space != SPACE_FINE || before == SPACE_FULL)
                log_publish_text(p, facts[space], 0, space_free(p) / MIB, NULL);
}

static void space_judge(struct persistence *p, uint64_t size)
{
        uint64_t free_bytes = space_free(p);
        uint64_t enough =
                p->space_reserve + (p->space == SPACE_FULL ? p->space_reserve / SPACE_RECOVER_DIVISOR : 0);

        if (free_bytes < enough + size)
                space_move(p, SPACE_FULL);
        else
                space_move(p, free_bytes < p->space_reserve * SPACE_LOW_FACTOR ? SPACE_LOW : SPACE_FINE);
}

void log_space_look(struct persistence *p)
{
        struct os_space space;

        /* A device that cannot be asked counts as it last did: the writes themselves will tell. */
        if (os_space(p->os, p->log_path, &space) == 0) {
                p->free_bytes = space.free_bytes;
                p->bytes_since_look = 0;
        }
        p->space_looked_at_us = os_monotonic_us(p->os);
        space_judge(p, 0);
}

bool log_space_has(struct persistence *p, uint64_t size)
{
        log_space_look(p);
        return p->space == SPACE_FINE && space_free(p) >= p->space_reserve &&
               space_free(p) - p->space_reserve >= size;
}

int persistence_has_room(struct persistence *p, uint64_t size, unsigned entries)
{
        uint64_t need = size + (uint64_t)entries * LOG_RECORD_OVERHEAD_MAX + persistence_group_size(p);

        if (p->space != SPACE_FINE || p->bytes_since_look >= LOG_SPACE_LOOK_BYTES ||
                space_free(p) < p->space_reserve * SPACE_LOW_FACTOR + need)
                log_space_look(p);
        space_judge(p, need);
        return p->space == SPACE_FULL ? PERSISTENCE_FULL : 0;
}
