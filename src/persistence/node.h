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
};

/* What store.json says. */
struct store_file {
        char *name;
        uint8_t uuid[16];
        uint32_t epoch;
};
void store_file_fini(struct store_file *s);

/* Finds the store's directory by name, or makes one. Gives its path (to be freed) and what store.json says.
 * *ret_is_new: it was made by this call or by one that a crash ended before its first segment was there. 0,
 * PERSISTENCE_NOT_FOUND, _CORRUPT, _FORMAT, _FULL or a fault. */
MUST_CHECK int store_directory_open(struct persistence_node *node, const char *name, bool must_exist,
        char **ret_path, struct store_file *ret);

#endif
