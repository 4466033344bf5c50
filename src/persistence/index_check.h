/* Reads all of an index file, slice by slice, apart from what readers do with it. Any thread, one at a time. */
#ifndef PERSISTENCE_INDEX_CHECK_H
#define PERSISTENCE_INDEX_CHECK_H

#include "persistence/index.h"

struct index_check {
        struct index *index; /* its own: readers have theirs */
        struct os_file *file;
        unsigned section;
        uint64_t offset; /* in the section */
        uint32_t part;   /* of a dictionary */
        uint32_t crc;    /* so far, of a section that has one sum */
        struct buffer directory;
        struct buffer block;
        uint64_t read_bytes;
};

/* Opens the file and verifies header and footer. 0, INDEX_ABSENT, INDEX_CORRUPT or a fault. */
MUST_CHECK int index_check_begin(
        struct index_check *c, struct os *os, const char *log_path, const struct segment_header *header);
/* Verifies the next blocks, of about size_max bytes. 0, INDEX_CORRUPT or a fault; *ret_ends: that was all. */
MUST_CHECK int index_check_next(struct index_check *c, uint64_t size_max, bool *ret_ends);
void index_check_end(struct index_check *c);

#endif
