/* What was durable here and is damaged: cut off, kept in quarantine/, and marked as missing. */
#ifndef PERSISTENCE_LOST_H
#define PERSISTENCE_LOST_H

#include "persistence/log.h"

/* Reads the mark of an earlier start. 0, PERSISTENCE_CORRUPT (this node may not go on with it), _FORMAT or a fault. */
MUST_CHECK int log_load_lost(struct persistence *p);

/* The log is good up to the end of the segment `number` as it was scanned. */
struct lost_end {
        size_t number;
        const uint64_t *first_indexes; /* of segment files behind it, rising */
        size_t count;
        uint64_t through; /* the highest index that is known to have been there */
};
/* Marks what is behind as lost, sets it aside and cuts the log there, if that is allowed; else PERSISTENCE_CORRUPT, and
 * nothing has changed. 0, PERSISTENCE_CORRUPT, _FULL or a fault. */
MUST_CHECK int log_lose(struct persistence *p, const struct lost_end *end);
/* The log ends where the mark has ordered it. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int log_cut_is_made(struct persistence *p);

#endif
