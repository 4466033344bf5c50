/* What opening a log shares with committing and sealing. */
#ifndef PERSISTENCE_COMMIT_H
#define PERSISTENCE_COMMIT_H

#include "persistence/log.h"

/* Reads the checkpoint that stands for the end of that segment. 0, IDS_INVALID or a fault. Any thread. */
MUST_CHECK int log_load_ids(struct os *os, const char *log_path, const struct segment_header *of,
        uint64_t last_index, struct ids *ids);
/* Builds and saves a segment's index file; adds its ids to `ids` (may be NULL). 0, INDEX_CORRUPT, INDEX_FULL
 * or a fault. Any thread. */
MUST_CHECK int log_build_index(struct os *os, const char *log_path, const struct segment_header *header,
        uint64_t last_index, struct ids *ids);
/* A read found the index file of this segment damaged: builds it anew in the background. */
void log_index_damaged(struct persistence *p, size_t number);

#endif
