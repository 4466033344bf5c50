#include "os/timers.h"

#include <stdlib.h>

#include "base/memory.h"

enum { TIMERS_COUNT_MIN = 64 };

static bool is_before(const struct timers_entry *a, const struct timers_entry *b)
{
        return a->due_us < b->due_us || (a->due_us == b->due_us && a->sequence < b->sequence);
}

/* A timer knows its place in the heap by `impl`, so that stopping it needs no search. */
static void place(struct timers *t, size_t at, struct timers_entry entry)
{
        t->heap[at] = entry;
        entry.timer->impl = (void *)(uintptr_t)at;
}

static size_t place_of(const struct timers *t, const struct os_timer *timer)
{
        size_t at = (uintptr_t)timer->impl;

        assert(timer->is_on);
        assert(at < t->count && t->heap[at].timer == timer);
        return at;
}

/* Moves an entry from the free place `at` to where it belongs. */
static void settle(struct timers *t, size_t at, struct timers_entry entry)
{
        while (at > 0 && is_before(&entry, &t->heap[(at - 1) / 2])) {
                place(t, at, t->heap[(at - 1) / 2]);
                at = (at - 1) / 2;
        }
        for (;;) {
                size_t child = 2 * at + 1;

                if (child + 1 < t->count && is_before(&t->heap[child + 1], &t->heap[child]))
                        child++;
                if (child >= t->count || !is_before(&t->heap[child], &entry))
                        break;
                place(t, at, t->heap[child]);
                at = child;
        }
        place(t, at, entry);
}

void timers_start(struct timers *t, struct os_timer *timer, uint64_t due_us, uint64_t sequence)
{
        size_t at;

        if (timer->is_on) {
                at = place_of(t, timer);
        } else {
                if (t->count == t->capacity) {
                        t->capacity = MAX((size_t)TIMERS_COUNT_MIN, t->capacity * 2);
                        t->heap = memory_resize(t->heap, t->capacity * sizeof t->heap[0]);
                }
                at = t->count++;
                timer->is_on = true;
        }
        timer->due_us = due_us;
        settle(t, at, (struct timers_entry){due_us, sequence, timer});
}

void timers_stop(struct timers *t, struct os_timer *timer)
{
        size_t at = place_of(t, timer);
        struct timers_entry last = t->heap[--t->count];

        timer->is_on = false;
        timer->impl = NULL;
        if (at < t->count)
                settle(t, at, last);
}

void timers_fini(struct timers *t)
{
        while (t->count)
                timers_stop(t, t->heap[t->count - 1].timer);
        free(t->heap);
        *t = (struct timers){0};
}
