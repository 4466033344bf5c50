/* Opening a log: see recovery.c. */
#ifndef PERSISTENCE_RECOVERY_H
#define PERSISTENCE_RECOVERY_H

#include "persistence/log.h"

/* Loads the segments of the log directory and recovers its end. 0, PERSISTENCE_CORRUPT, _FORMAT, _FULL or a
 * fault. */
MUST_CHECK int log_recover(struct persistence *p);

#endif
