/* Small texts of this room: paths made with a format, and the problem of this thread's last refused open. */
#ifndef PERSISTENCE_TEXT_H
#define PERSISTENCE_TEXT_H

#include "base/macros.h"

enum { PROBLEM_SIZE_MAX = 768 };

/* Gives a new string; free it, or let CLEANUP(text_freep) do so. */
char *text_format(const char *format, ...) PRINTF_LIKE(1, 2);
void text_freep(char **text);

/* Notes what is wrong, where, and what to do, for persistence_problem(). Gives `outcome` back, so that a
 * refusal is one line: `return problem_note(PERSISTENCE_CORRUPT, "...")`. */
int problem_note(int outcome, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
