/* What the kernel knows of this process and this machine. */
#ifndef SERVER_PROCESS_H
#define SERVER_PROCESS_H

#include "ops/ops.h"

/* Whatever cannot be had is 0. */
void process_look(struct ops_process *ret);

#endif
