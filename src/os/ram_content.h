/* The bytes of a file in memory: pages that exist only where something else than zero was written, and that two contents
 * can share until one of them writes. Private to the room. */
#ifndef OS_RAM_CONTENT_H
#define OS_RAM_CONTENT_H

#include <stdatomic.h>

#include "base/bytes.h"

enum { RAM_PAGE_SIZE = 4096 };

struct ram_page;

/* The empty value is all zero but for `pages_used`, which counts the pages of a disk. One thread at a time; reading is
 * for any number. */
struct ram_content {
        atomic_uint_fast64_t *pages_used; /* borrowed */
        struct ram_page **pages;          /* NULL: zeros */
        size_t page_count;                /* of the array; what is behind it is zero */
        uint64_t size;
};

/* Gives how many bytes there were before the end of the file. */
size_t ram_content_read(const struct ram_content *c, void *data, size_t size, uint64_t offset);
void ram_content_write(struct ram_content *c, struct bytes bytes, uint64_t offset);
void ram_content_zero(struct ram_content *c, uint64_t offset, uint64_t size); /* as writing zeros */
void ram_content_truncate(struct ram_content *c, uint64_t size);
/* Makes `c` equal to `from` in every page that holds a byte of the range, by sharing the pages. */
void ram_content_share(struct ram_content *c, const struct ram_content *from, uint64_t offset, uint64_t size);
/* Makes `c` equal to `from`, size too. */
void ram_content_share_all(struct ram_content *c, const struct ram_content *from);
void ram_content_fini(struct ram_content *c);

bool ram_is_zero(struct bytes bytes);

#endif
