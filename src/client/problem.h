/* What the server refused and why: problem+json (RFC 9457) as a result and two lines for people. */
#ifndef CLIENT_PROBLEM_H
#define CLIENT_PROBLEM_H

#include "base/bytes.h"
#include "nilo/nilo.h"

/* Fills `detail` and `next` (NUL-terminated; `next` may be "") from a reply with a status outside 2xx. The body may be
 * anything; where it is no problem+json the status speaks. *ret_actual: the stream's revision after a conflict, -1 if
 * it has none or none was said. */
enum nilo_result problem_read(
        long status, struct bytes body, struct buffer *detail, struct buffer *next, int64_t *ret_actual);
void problem_text(struct buffer *to, const char *format, ...) PRINTF_LIKE(2, 3); /* replaces, NUL-terminated */

#endif
