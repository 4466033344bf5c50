#include "base/sm.h"

#include "base/fault.h"

void sm_move_in(const struct sm_state *states, size_t count, int *state, int next, const char *file, int line)
{
        assert(*state >= 0 && (size_t)*state < count);
        assert(next >= 0 && (size_t)next < count);
        if (!(states[*state].to & TO(next)))
                fault_exit(EXIT_CODE_BUG, "bug at %s:%d: no move from %s to %s", file, line,
                        states[*state].name, states[next].name);
        *state = next;
}
