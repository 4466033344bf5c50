/* The body of an HTTP/1.1 request: of a given size, or in chunks (RFC 9112 section 7.1). Knows no connection. */
#ifndef GATEWAY_H1_BODY_H
#define GATEWAY_H1_BODY_H

#include "base/bytes.h"

/* Bytes of chunk extensions and trailers that a body may have; nobody asks for any. */
enum { H1_BODY_LINES_SIZE_MAX = 16 * 1024 };

struct h1_body {
        int state;
        bool is_chunked;
        uint64_t left;       /* of the chunk, or of the body */
        unsigned digits;     /* of the chunk's size that have come */
        unsigned lines_size; /* of extensions and trailers so far */
        bool is_line_empty;  /* nothing of the trailer has come */
};

/* `size` is that of a body that is not chunked. */
void h1_body_begin(struct h1_body *body, bool is_chunked, uint64_t size);
/* Takes a part of the body: calls `on_content` for its content. *ret_used: bytes that belong to it; *ret_done: it is
 * complete. False: it is malformed. */
MUST_CHECK bool h1_body_take(struct h1_body *body, struct bytes data, void (*on_content)(void *arg, struct bytes piece),
        void *arg, size_t *ret_used, bool *ret_done);

#endif
