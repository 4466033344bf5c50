/* What is made of the table of commands: the man page, and completion for shells. */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include "cli/command.h"

void manual_write(struct buffer *out); /* roff */

enum completion_shell { COMPLETION_BASH, COMPLETION_ZSH, COMPLETION_FISH };
void completion_write(enum completion_shell shell, struct buffer *out);

#endif
