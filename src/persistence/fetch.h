/* Runs of entries read on the READ lane: what truncation and close must know of them. */
#ifndef PERSISTENCE_FETCH_H
#define PERSISTENCE_FETCH_H

#include "persistence/persistence.h"

enum { FETCH_ENDS_MAX = PERSISTENCE_FETCHES_MAX };

/* Where a run of a sealed segment ended: the next one begins there. */
struct fetch_end {
        uint64_t next_index;
        uint64_t offset;
};

/* Before entries from `index` on are cut off: no read holds them any more. Their fetches begin anew by fetches_resume. */
void fetches_hold(struct persistence *p, uint64_t index);
void fetches_resume(struct persistence *p);
/* Ends all with PERSISTENCE_END. */
void fetches_end(struct persistence *p);

#endif
