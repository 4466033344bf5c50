/* Base64 (RFC 4648 section 4). */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/bytes.h"

void base64_encode(struct buffer *out, struct bytes binary); /* padded */

/* Appends the decoded bytes; padding may be missing. False, and `out` unchanged, if the text is no base64. */
MUST_CHECK bool base64_decode(struct buffer *out, struct bytes text);

#endif
