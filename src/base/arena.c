#include "base/arena.h"

#include <stdlib.h>

#include "base/memory.h"

struct arena_block {
        struct arena_block *older;
        size_t size;
        size_t used;
        _Alignas(16) uint8_t data[];
};

enum { ARENA_BLOCK_SIZE_DEFAULT = 4096, ARENA_BLOCK_SIZE_MAX = 1 << 20 };

void *arena_get(struct arena *a, size_t size)
{
        struct arena_block *b = a->newest;
        void *p;

        size = align_up(size ? size : 1, 16);
        if (!b || b->size - b->used < size) {
                size_t want = b ? MIN(b->size * 2, (size_t)ARENA_BLOCK_SIZE_MAX)
                                : (a->block_size ? a->block_size : (size_t)ARENA_BLOCK_SIZE_DEFAULT);

                want = align_up(MAX(want, size), 16);
                b = memory_resize(NULL, sizeof *b + want);
                b->older = a->newest;
                b->size = want;
                b->used = 0;
                a->newest = b;
        }
        p = b->data + b->used;
        b->used += size;
        a->used += size;
        return p;
}

struct bytes arena_copy(struct arena *a, struct bytes b)
{
        uint8_t *p;

        if (!b.size)
                return BYTES_EMPTY;
        p = arena_get(a, b.size);
        memcpy(p, b.data, b.size);
        return bytes_of(p, b.size);
}

char *arena_string(struct arena *a, struct bytes b)
{
        char *s = arena_get(a, b.size + 1);

        if (b.size)
                memcpy(s, b.data, b.size);
        s[b.size] = 0;
        return s;
}

void arena_reset(struct arena *a)
{
        struct arena_block *keep = a->newest;

        if (!keep)
                return;
        while (keep->older) {
                struct arena_block *older = keep->older;

                keep->older = older->older;
                free(older);
        }
        if (keep->size > ARENA_BLOCK_SIZE_MAX) {
                free(keep);
                a->newest = NULL;
        } else {
                keep->used = 0;
        }
        a->used = 0;
}

void arena_fini(struct arena *a)
{
        while (a->newest) {
                struct arena_block *b = a->newest;

                a->newest = b->older;
                free(b);
        }
        a->used = 0;
}
