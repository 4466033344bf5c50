/* Writes zeros ahead of the log's end, away from the loop, and makes the next segment's file ready. */
#ifndef PERSISTENCE_FILLER_H
#define PERSISTENCE_FILLER_H

#include "persistence/persistence.h"

struct filler;

struct filler *filler_new(struct os *os, const char *log_path, uint64_t segment_size);
/* Waits for what is under way. Removes nothing: a spare file is taken up or emptied by the next start. */
void filler_free(struct filler **filler);

/* A segment has become the active one: its file ends at `filled_end`, records at `used_end`. Any thread that
 * writes. */
void filler_begin(struct filler *f, const char *segment_path, uint64_t used_end, uint64_t filled_end);
/* Bytes below `end` belong to the log from now on: zeros go only behind. Before each write. Any thread. */
void filler_claim(struct filler *f, uint64_t end);
/* Bytes that are zero-filled ahead of the claims. */
uint64_t filler_ahead(struct filler *f);
/* True once after a spare file has been made; the caller then owns it. Any thread. */
MUST_CHECK bool filler_take_spare(struct filler *f);
/* Starts what is due, on the BACKGROUND lane. Loop. */
void filler_kick(struct filler *f);
/* A fault of its writes, or 0. The disk being full is none: it fills no further then. */
int filler_fault(struct filler *f);

#endif
