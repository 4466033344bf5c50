/* Opening a log: see recovery.c. */
#ifndef PERSISTENCE_RECOVERY_H
#define PERSISTENCE_RECOVERY_H

#include "persistence/log.h"

/* Loads the segments of the log directory and recovers its end. 0, PERSISTENCE_CORRUPT, _FORMAT, _FULL or a
 * fault. */
MUST_CHECK int log_recover(struct persistence *p);

/* ---- what the files of recovery share ---- */

struct recovery {
        struct persistence *p;
        uint64_t *first_indexes; /* of the segment files, rising */
        size_t segment_count;
        size_t segment_capacity;
        uint64_t *index_files;
        size_t index_count;
        size_t index_capacity;
        uint64_t *checkpoints; /* of the id window */
        size_t checkpoint_count;
        size_t checkpoint_capacity;
        uint64_t *mended; /* segments that were rebuilt and are not in place yet */
        size_t mended_count;
        size_t mended_capacity;
        char **leftovers; /* paths */
        size_t leftover_count;
        uint64_t entry_capacity;
        size_t files;          /* segment files that were there: those behind segment_count cannot be used */
        bool has_bad_header;   /* behind the last segment */
        bool has_lost_end;     /* what was durable behind the last segment is damaged, or gone */
        uint64_t lost_through; /* an index that was there */
};

/* ---- recovery_files.c ---- */

/* Notes that the segment is damaged. Gives PERSISTENCE_CORRUPT. */
int recovery_corrupt(struct persistence *p, uint64_t first_index, uint64_t offset, const char *what);
int recovery_note_file(void *arg, const char *name, bool is_dir); /* an os_dir_each */
MUST_CHECK int recovery_finish_mends(struct recovery *rec);
MUST_CHECK int recovery_remove_leftovers(struct recovery *rec);
MUST_CHECK int recovery_load_headers(struct recovery *rec);
MUST_CHECK int recovery_check_last(struct recovery *rec);
MUST_CHECK int recovery_load_sealed(struct persistence *p);

/* ---- recovery_ids.c ---- */

MUST_CHECK int recovery_load_ids(struct persistence *p);
MUST_CHECK int recovery_remove_old_ids(struct recovery *rec);

#endif
