/* Term and vote of a store. */
#ifndef PERSISTENCE_VOTE_H
#define PERSISTENCE_VOTE_H

#include "persistence/persistence.h"

struct vote {
        struct os_file *file;
        uint8_t cluster_uuid[16];
        uint8_t store_uuid[16];
        uint64_t node_id;
        uint64_t sequence;
        uint64_t term;
        uint64_t voted_for;
        unsigned damaged_slots; /* found at the open: 0 or 1 */
        bool needs_save;        /* found at the open: the slots differ */
        unsigned first_slot;    /* to be written first: never the only one that is right */
};

/* Makes the file with term 0, durable with its name. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int vote_file_make(struct os *os, const char *store_path,
        const struct persistence_identity *identity, const uint8_t store_uuid[16]);
/* 0, PERSISTENCE_CORRUPT, _FORMAT or a fault. */
MUST_CHECK int vote_open(struct vote *v, struct os *os, const char *store_path,
        const struct persistence_identity *identity, const uint8_t store_uuid[16], bool read_only);
void vote_close(struct vote *v);
MUST_CHECK int vote_save(struct vote *v, uint64_t term, uint64_t voted_for);

#endif
