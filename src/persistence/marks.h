/* JSON files of a data directory, and the marks in a store's. */
#ifndef PERSISTENCE_MARKS_H
#define PERSISTENCE_MARKS_H

#include "model/json_file.h"
#include "persistence/node.h"
#include "persistence/segment.h"

enum { JSON_FILE_FORMAT = 1 };

/* Replaces a file, durably. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int json_file_write(struct os *os, const char *path, json_t *object);
/* Reads and verifies. 0, PERSISTENCE_NOT_FOUND, _CORRUPT, _FORMAT or a fault. */
MUST_CHECK int json_file_read(struct os *os, const char *path, json_t **ret);

/* lost.json: entries through an index were durable and are cut off, or are to be. */
struct lost_mark {
        uint64_t through;
        bool has_cut;       /* the next start cuts the log behind `cut_after` */
        uint64_t cut_after; /* index */
        /* With an order: the members that have what was cut off; 0 bytes: the log itself names them. */
        uint64_t configuration_index;
        uint32_t configuration_size;
        uint8_t configuration[SEGMENT_CONFIGURATION_SIZE_MAX];
};
MUST_CHECK int lost_file_save(struct persistence_node *node, const char *store_path, const struct store_file *s,
        const struct lost_mark *mark);
/* 0, PERSISTENCE_NOT_FOUND, _CORRUPT, _FORMAT or a fault. */
MUST_CHECK int lost_file_load(struct persistence_node *node, const char *store_path, const struct store_file *s,
        struct lost_mark *ret);
MUST_CHECK int lost_file_remove(struct persistence_node *node, const char *store_path);

/* scrub.json: the pass under way, or the last one. */
struct scrub_mark {
        uint64_t passes;      /* finished */
        bool is_under_way;
        uint64_t next_index;  /* everything before it was read in this pass */
        uint64_t through;     /* the pass ends there */
        uint64_t done_bytes;
        uint64_t total_bytes; /* as of its begin */
        uint64_t elapsed_us;  /* since the last pass began, while the log was open */
        uint64_t found;       /* damaged places */
        uint64_t began_us;    /* wall clock, for people */
        uint64_t finished_us; /* of the last one that was; 0: none */
        uint64_t last_found;
};
/* 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int scrub_file_save(struct persistence_node *node, const char *store_path, const uint8_t store_uuid[16],
        const struct scrub_mark *mark);
/* 0, PERSISTENCE_NOT_FOUND, _CORRUPT, _FORMAT or a fault. */
MUST_CHECK int scrub_file_load(struct persistence_node *node, const char *store_path, const uint8_t store_uuid[16],
        struct scrub_mark *ret);

#endif
