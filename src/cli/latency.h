/* Times of many calls in little memory: how many took how long, to one in sixty-four. */
#ifndef CLI_LATENCY_H
#define CLI_LATENCY_H

#include "base/bytes.h"

enum { LATENCY_SLOTS = 2048 };

struct latency {
        uint64_t slots[LATENCY_SLOTS];
        uint64_t count;
        uint64_t sum_us;
        uint64_t max_us;
};
void latency_add(struct latency *l, uint64_t us);
void latency_merge(struct latency *l, const struct latency *more);
/* The time that this part of all calls (0.99) did not exceed; rounded up by at most 1.6 %. 0 if there was none. */
uint64_t latency_at(const struct latency *l, double part);
double latency_mean(const struct latency *l);

#endif
