/* Slots are as wide as their distance from zero asks for: exact up to 128 us, then 64 for each doubling. */
#include "cli/latency.h"

enum { EXACT = 128, HALF = 64, EXACT_BITS = 7 };

static unsigned slot_of(uint64_t us)
{
        unsigned shift = us < EXACT ? 0 : 64 - EXACT_BITS - (unsigned)__builtin_clzll(us);

        /* Hours end in the last slot; the maximum is kept as it is. */
        return (unsigned)MIN((uint64_t)shift * HALF + (us >> shift), (uint64_t)LATENCY_SLOTS - 1);
}

/* The longest time of a slot. */
static uint64_t end_of(unsigned slot)
{
        unsigned shift = slot < EXACT ? 0 : slot / HALF - 1;

        return (((uint64_t)slot - (uint64_t)shift * HALF + 1) << shift) - 1;
}

void latency_add(struct latency *l, uint64_t us)
{
        l->slots[slot_of(us)]++;
        l->count++;
        l->sum_us += us;
        l->max_us = MAX(l->max_us, us);
}

void latency_merge(struct latency *l, const struct latency *more)
{
        for (unsigned i = 0; i < LATENCY_SLOTS; i++)
                l->slots[i] += more->slots[i];
        l->count += more->count;
        l->sum_us += more->sum_us;
        l->max_us = MAX(l->max_us, more->max_us);
}

uint64_t latency_at(const struct latency *l, double part)
{
        double wanted = part * (double)l->count;
        uint64_t seen = 0;

        for (unsigned i = 0; i < LATENCY_SLOTS; i++) {
                seen += l->slots[i];
                if (l->slots[i] && (double)seen >= wanted)
                        return i == LATENCY_SLOTS - 1 ? l->max_us : MIN(end_of(i), l->max_us);
        }
        return l->max_us;
}

double latency_mean(const struct latency *l)
{
        return l->count ? (double)l->sum_us / (double)l->count : 0;
}
