/* Two kinds of failure (STYLE.md 4).
 *
 * A *fault* is below zero: a negative errno that nobody examines; it is passed up and ends the work at hand.
 * Where it was raised is kept in a small ring for the one who reports it. An *outcome* is above zero: a value
 * that the called function documents and its direct caller handles; it is never forwarded. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include "base/macros.h"

/* Notes where a fault arises and gives it back: `return fault_raise(-EIO);`. `fault` must be below zero. Any
 * thread. */
#define fault_raise(fault) fault_raise_at((fault), __FILE__, __LINE__)
int fault_raise_at(int fault, const char *file, int line);

/* A result that the caller does not expect to be an outcome: 0 and faults pass, an outcome becomes the fault
 * -EPROTO. */
#define fault_fold(result) fault_fold_at((result), __FILE__, __LINE__)
int fault_fold_at(int result, const char *file, int line);

/* One line for people about the newest fault of this thread: "Input/output error at os_linux.c:120". Never
 * NULL; valid until the next call in this thread. */
const char *fault_last(void);

/* Writes one line to standard error and ends the process with `exit_code`, for states in which going on could
 * lose data (G15). Does not return, runs no exit handler. */
_Noreturn void fault_exit(int exit_code, const char *format, ...) PRINTF_LIKE(2, 3);

/* The server's exit codes (docs: exit codes). */
enum exit_code {
        EXIT_CODE_CONFIGURATION = 64,
        EXIT_CODE_WRONG_LIBRARY = 65,
        EXIT_CODE_DATA_IN_USE = 66,
        EXIT_CODE_CORRUPT = 67,
        EXIT_CODE_DISK_FAULT = 68,
        EXIT_CODE_RESTARTS_EXHAUSTED = 69,
        EXIT_CODE_BUG = 70,
        EXIT_CODE_WRONG_HISTORY = 71, /* another one than the majority of the cluster has: the next start fetches theirs */
};

#endif
