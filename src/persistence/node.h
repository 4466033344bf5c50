/* The data directory and the JSON files in it. */
#ifndef PERSISTENCE_NODE_H
#define PERSISTENCE_NODE_H

#include <jansson.h>

#include "persistence/persistence.h"

struct persistence_node {
        struct os *os;
        char *path;
        struct os_file *lock;
        struct persistence_identity identity;
        uint64_t created_us;
};

/* What store.json says. */
struct store_file {
        char *name;
        uint8_t uuid[16];
        uint32_t epoch;
        uint64_t created_us;
};
void store_file_fini(struct store_file *s);

/* Finds the store's directory by name, or makes one with the given UUID and epoch. Gives its path (to be freed) and what
 * store.json says. 0, PERSISTENCE_NOT_FOUND, _CORRUPT, _FORMAT, _FULL or a fault. */
MUST_CHECK int store_directory_open(struct persistence_node *node, const struct persistence_options *o, char **ret_path,
        struct store_file *ret);
/* Replaces store.json, durably; `s` has the new epoch after 0. 0, PERSISTENCE_FULL or a fault. */
MUST_CHECK int store_file_set_epoch(struct persistence_node *node, const char *path, struct store_file *s, uint32_t epoch);

#endif
