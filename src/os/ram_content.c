#include "os/ram_content.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Who shares a page holds its lock, so plain counting will do. */
struct ram_page {
        unsigned owners;
        uint8_t bytes[RAM_PAGE_SIZE];
};

bool ram_is_zero(struct bytes bytes)
{
        /* Equal to itself one byte on: as fast as comparing memory is. */
        return bytes.size == 0 ||
               (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.size - 1) == 0);
}

static void page_drop(struct ram_content *c, size_t at)
{
        struct ram_page *page = c->pages[at];

        c->pages[at] = NULL;
        if (!page || --page->owners > 0)
                return;
        atomic_fetch_sub_explicit(c->pages_used, 1, memory_order_relaxed);
        free(page);
}

static void reserve_pages(struct ram_content *c, size_t count)
{
        size_t wanted = MAX(count, c->page_count * 2);

        if (count <= c->page_count)
                return;
        c->pages = memory_resize(c->pages, wanted * sizeof c->pages[0]);
        memset(c->pages + c->page_count, 0, (wanted - c->page_count) * sizeof c->pages[0]);
        c->page_count = wanted;
}

/* The page as one that only `c` has. */
static struct ram_page *page_own(struct ram_content *c, size_t at)
{
        struct ram_page *page, *shared;

        reserve_pages(c, at + 1);
        page = c->pages[at];
        if (page && page->owners == 1)
                return page;
        shared = page;
        page = MEMORY_NEW(struct ram_page);
        atomic_fetch_add_explicit(c->pages_used, 1, memory_order_relaxed);
        page->owners = 1;
        if (shared) {
                memcpy(page->bytes, shared->bytes, RAM_PAGE_SIZE);
                page_drop(c, at);
        }
        c->pages[at] = page;
        return page;
}

size_t ram_content_read(const struct ram_content *c, void *data, size_t size, uint64_t offset)
{
        size_t done = 0;

        if (offset >= c->size)
                return 0;
        size = MIN(size, c->size - offset);
        while (done < size) {
                size_t at = (offset + done) / RAM_PAGE_SIZE, from = (offset + done) % RAM_PAGE_SIZE;
                size_t n = MIN(size - done, RAM_PAGE_SIZE - from);
                const struct ram_page *page = at < c->page_count ? c->pages[at] : NULL;

                if (page)
                        memcpy((uint8_t *)data + done, page->bytes + from, n);
                else
                        memset((uint8_t *)data + done, 0, n);
                done += n;
        }
        return done;
}

void ram_content_write(struct ram_content *c, struct bytes bytes, uint64_t offset)
{
        assert(bytes.size <= UINT64_MAX - offset);
        while (bytes.size) {
                size_t at = offset / RAM_PAGE_SIZE, from = offset % RAM_PAGE_SIZE;
                size_t n = MIN(bytes.size, RAM_PAGE_SIZE - from);
                bool is_there = at < c->page_count && c->pages[at];

                if (is_there || !ram_is_zero(bytes_of(bytes.data, n)))
                        memcpy(page_own(c, at)->bytes + from, bytes.data, n);
                bytes = bytes_of(bytes.data + n, bytes.size - n);
                offset += n;
                c->size = MAX(c->size, offset);
        }
}

static void zero_pages(struct ram_content *c, uint64_t offset, uint64_t end)
{
        end = MIN(end, (uint64_t)c->page_count * RAM_PAGE_SIZE);
        while (offset < end) {
                size_t at = offset / RAM_PAGE_SIZE, from = offset % RAM_PAGE_SIZE;
                size_t n = MIN(end - offset, RAM_PAGE_SIZE - from);

                if (n == RAM_PAGE_SIZE)
                        page_drop(c, at);
                else if (c->pages[at])
                        memset(page_own(c, at)->bytes + from, 0, n);
                offset += n;
        }
}

void ram_content_zero(struct ram_content *c, uint64_t offset, uint64_t size)
{
        if (size == 0)
                return;
        zero_pages(c, offset, offset + size);
        c->size = MAX(c->size, offset + size);
}

void ram_content_truncate(struct ram_content *c, uint64_t size)
{
        if (size < c->size)
                zero_pages(c, size, c->size);
        c->size = size;
}

void ram_content_share(struct ram_content *c, const struct ram_content *from, uint64_t offset, uint64_t size)
{
        size_t at, end;

        if (size == 0)
                return;
        end = MIN((offset + size - 1) / RAM_PAGE_SIZE + 1, MAX(c->page_count, from->page_count));
        reserve_pages(c, MIN(end, from->page_count));
        for (at = offset / RAM_PAGE_SIZE; at < end; at++) {
                struct ram_page *page = at < from->page_count ? from->pages[at] : NULL;

                if (at >= c->page_count || c->pages[at] == page)
                        continue;
                page_drop(c, at);
                c->pages[at] = page;
                if (page)
                        page->owners++;
        }
}

void ram_content_share_all(struct ram_content *c, const struct ram_content *from)
{
        ram_content_share(c, from, 0, (uint64_t)MAX(c->page_count, from->page_count) * RAM_PAGE_SIZE);
        c->size = from->size;
}

void ram_content_fini(struct ram_content *c)
{
        size_t at;

        for (at = 0; at < c->page_count; at++)
                page_drop(c, at);
        free(c->pages);
        c->pages = NULL;
        c->page_count = 0;
        c->size = 0;
}
