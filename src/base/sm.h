/* Checked state machines (STYLE.md 7): the states and the moves between them are a table. */
#ifndef BASE_SM_H
#define BASE_SM_H

#include "base/macros.h"

#define TO(state) (1u << (state))

struct sm_state {
        const char *name;
        uint32_t to; /* TO() of each state that may follow */
};

/* Moves *state to `next`, which the table must allow: anything else is a bug and aborts. */
#define sm_move(states, state, next)                                                                         \
        sm_move_in((states), COUNT_OF(states), (int *)(state), (int)(next), __FILE__, __LINE__)
void sm_move_in(
        const struct sm_state *states, size_t count, int *state, int next, const char *file, int line);

#endif
