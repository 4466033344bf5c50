#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"

enum { LARGE_PAGE_SIZE = 2 * 1024 * 1024 };

static void *or_exit(void *p, size_t size)
{
        if (!p)
                fault_exit(EXIT_CODE_BUG, "out of memory: %zu bytes were not to be had", size);
        return p;
}

void *memory_new(size_t size)
{
        return or_exit(calloc(1, size ? size : 1), size);
}

void *memory_new_array(size_t count, size_t size)
{
        return or_exit(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *memory_new_table(size_t count, size_t size)
{
        size_t whole;
        void *p;

        if (count < LARGE_PAGE_SIZE / size)
                return memory_new_array(count, size);
        whole = (count * size + LARGE_PAGE_SIZE - 1) / LARGE_PAGE_SIZE * LARGE_PAGE_SIZE;
        p = or_exit(aligned_alloc(LARGE_PAGE_SIZE, whole), whole);
        /* A machine without large pages refuses, and the table is as slow as any memory. */
        (void)madvise(p, whole, MADV_HUGEPAGE);
        return memset(p, 0, whole);
}

void *memory_resize(void *old, size_t size)
{
        return or_exit(realloc(old, size ? size : 1), size);
}

char *memory_copy_string(const char *s)
{
        size_t size = strlen(s) + 1;

        return memcpy(or_exit(malloc(size), size), s, size);
}
