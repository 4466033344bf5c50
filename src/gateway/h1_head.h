/* The head of an HTTP/1.1 request: an adapter around http_parser in its strict mode, with the checks that it leaves to
 * its user. Knows no connection, so that a fuzzer can drive it. */
#ifndef GATEWAY_H1_HEAD_H
#define GATEWAY_H1_HEAD_H

#include "base/bytes.h"

enum h1_head_limits { H1_HEADERS_MAX = 100, H1_HEAD_SIZE_MAX = 16 * 1024, H1_LINE_SIZE_MAX = 8 * 1024 };

struct h1_field {
        struct bytes name; /* lower case */
        struct bytes value;
};

struct h1_head {
        struct bytes method;
        struct bytes target; /* always begins with '/', or is "*" */
        struct bytes host;
        struct h1_field fields[H1_HEADERS_MAX];
        unsigned field_count;
        bool is_keep_alive;
        bool is_http10;
        bool expects_continue;
        bool is_chunked;
        bool has_body;
        uint64_t body_size; /* of a body that is not chunked */
        /* why it is refused */
        int status;
        const char *problem;
};

/* Where a head ends: bytes to and with its empty line. 0: not yet. A head that can be refused already (a line without
 * carriage return, too large) gives the number of bytes seen and sets *ret_status. */
size_t h1_head_end(struct bytes data, int *ret_status);

/* Reads a whole head as found by h1_head_end; lower-cases names in place. False: refused, `status` and `problem` say
 * why. Views point into `data`. */
MUST_CHECK bool h1_head_parse(uint8_t *data, size_t size, struct h1_head *ret);

#endif
