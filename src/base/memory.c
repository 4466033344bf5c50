#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

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

void *memory_resize(void *old, size_t size)
{
        return or_exit(realloc(old, size ? size : 1), size);
}

char *memory_copy_string(const char *s)
{
        size_t size = strlen(s) + 1;

        return memcpy(or_exit(malloc(size), size), s, size);
}
