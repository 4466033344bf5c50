/* persistence, the second half of its contract, which comes with persistence.h: what looks after bytes that are durable
 * already. The scrub finds damage before anybody reads, mending gets good bytes from another node, verify tells all. */
#ifndef PERSISTENCE_CARE_H
#define PERSISTENCE_CARE_H

#include "base/bytes.h"
#include "base/fault.h"
#include "os/os.h"

struct persistence;
struct persistence_entry;

/* ---- scrub (G22): everything is read in the background, again and again ---- */

/* With scrub_us in the options: what is committed at the begin of a pass, records and index files, is read and verified
 * within that time, which counts while the log is open; a restart goes on where it was, but for the last ten minutes. It
 * takes at most a tenth of the disk's and the lane's time, so a log that cannot be read within that takes longer; and it makes way
 * for appends and reads while it can. What it finds counts like damage that a read finds, and is said as scrub_found. */
struct persistence_scrub {
        bool is_on;
        bool is_under_way;
        uint64_t passes;      /* finished, over all starts */
        uint64_t done_bytes;  /* of the pass under way */
        uint64_t total_bytes; /* as of its begin */
        uint64_t found;       /* damaged places, in the pass under way */
        uint64_t found_total; /* since the log was opened */
        uint64_t began_us;    /* wall clock: the last pass; 0: none yet */
        uint64_t finished_us; /* the last whole one; 0: none yet */
        uint64_t last_found;  /* in that one */
};

/* ---- mending: a damaged sealed segment is rebuilt from another node's entries (G13) ---- */

struct persistence_range {
        uint64_t first; /* indexes */
        uint64_t last;
};
/* The first sealed segment that is known to be damaged: its entries. False: none is. */
MUST_CHECK bool persistence_damaged(const struct persistence *p, struct persistence_range *ret);
/* `on_damage` runs, from inside whatever call found it, when a sealed segment was found damaged: it may only take note. */
void persistence_on_damage(struct persistence *p, void (*on_damage)(void *arg), void *arg);
/* Begins to rebuild that segment; one at a time. Reads go on with the old file until the new one is whole, verified and in place;
 * then the old one lies in quarantine/. 0, PERSISTENCE_NOT_FOUND (nothing is damaged), PERSISTENCE_FULL or PERSISTENCE_IN_USE
 * (its index file is being built: later). */
MUST_CHECK int persistence_mend_begin(struct persistence *p, struct persistence_range *ret);
/* Adds the next entries of the range, in order; copied. `done` runs once, on the loop, never from inside this call: 0 (after the last
 * entry of the range: the segment is mended), PERSISTENCE_END (the log closes), or it was given up: PERSISTENCE_CORRUPT (they are
 * not the entries of this log), PERSISTENCE_FULL or a fault. One call at a time. */
typedef void persistence_mended(void *arg, int result);
void persistence_mend_add(struct persistence *p, const struct persistence_entry *entries, unsigned count, persistence_mended *done, void *arg);
void persistence_mend_stop(struct persistence *p); /* gives it up; not while an add is under way */
/* Entries that were durable here were cut off, now or at an earlier start: this node must take no part in consensus before it has
 * them again. *ret_through, for people: some index that was there. True until persistence_lost_found, which is durable (0 or a fault). */
MUST_CHECK bool persistence_lost(const struct persistence *p, uint64_t *ret_through);
MUST_CHECK int persistence_lost_found(struct persistence *p);
/* What stands behind `index` is not the history of the others, though its sums are right (G22): once this is durable, the next
 * open cuts the log there as if it were lost. Only among other nodes (may_cut_damage), which are those of the configuration; the
 * log should then be closed. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int persistence_lose_after(struct persistence *p, uint64_t index, struct bytes configuration, uint64_t configuration_index);
/* While entries are lost: the configuration, and its index, that the order was given with. False: the log's own counts. */
bool persistence_lost_members(const struct persistence *p, struct bytes *ret_configuration, uint64_t *ret_index);

/* ---- verify ---- */

/* Verifies everything: sums, chain, dense indexes, positions and revisions, index files against segments. Calls
 * `problem` for each finding and `progress` now and then; either may be NULL. 0 or a fault; *ret_problems counts. */
struct persistence_verify {
        void (*problem)(void *arg, const char *file, uint64_t offset, const char *what);
        void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
        void *arg;
};
MUST_CHECK int persistence_verify(struct persistence *p, const struct persistence_verify *verify, uint64_t *ret_problems);

#endif
