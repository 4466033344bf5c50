/* http_parser as it is installed takes any byte for the line feed after a chunk's size and for the line end
 * after its content, so a proxy in front could see another end of the body than we do (request smuggling).
 * Here every line ends with CR LF, a size is hexadecimal digits only, and extensions and trailers are bounded
 * and free of control characters. */
#include "gateway/h1_body.h"

#include "base/sm.h"

enum body_state {
        BODY_CONTENT, /* of a body of a given size */
        BODY_CHUNK_SIZE,
        BODY_CHUNK_EXTENSION,
        BODY_CHUNK_SIZE_END, /* its line feed is due */
        BODY_CHUNK_CONTENT,
        BODY_CHUNK_END,      /* a carriage return is due */
        BODY_CHUNK_END_LINE, /* and its line feed */
        BODY_TRAILER,
        BODY_TRAILER_END, /* a line feed is due */
        BODY_DONE,
};

static const struct sm_state body_states[] = {
        [BODY_CONTENT] = {"content", TO(BODY_DONE)},
        [BODY_CHUNK_SIZE] = {"chunk size", TO(BODY_CHUNK_EXTENSION) | TO(BODY_CHUNK_SIZE_END)},
        [BODY_CHUNK_EXTENSION] = {"chunk extension", TO(BODY_CHUNK_SIZE_END)},
        [BODY_CHUNK_SIZE_END] = {"end of chunk size", TO(BODY_CHUNK_CONTENT) | TO(BODY_TRAILER)},
        [BODY_CHUNK_CONTENT] = {"chunk content", TO(BODY_CHUNK_END)},
        [BODY_CHUNK_END] = {"end of chunk", TO(BODY_CHUNK_END_LINE)},
        [BODY_CHUNK_END_LINE] = {"line end of chunk", TO(BODY_CHUNK_SIZE)},
        [BODY_TRAILER] = {"trailer", TO(BODY_TRAILER_END)},
        [BODY_TRAILER_END] = {"end of trailer line", TO(BODY_TRAILER) | TO(BODY_DONE)},
        [BODY_DONE] = {"done", 0},
};

enum { CHUNK_SIZE_DIGITS_MAX = 15 };

static void move(struct h1_body *body, enum body_state to)
{
        sm_move(body_states, &body->state, to);
}

void h1_body_begin(struct h1_body *body, bool is_chunked, uint64_t size)
{
        *body = (struct h1_body){
                .state = is_chunked ? BODY_CHUNK_SIZE : BODY_CONTENT,
                .is_chunked = is_chunked,
                .left = is_chunked ? 0 : size,
        };
        if (!is_chunked && !size)
                body->state = BODY_DONE;
}

static int hex_digit(uint8_t c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_line_character(uint8_t c)
{
        return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static bool take_size(struct h1_body *body, uint8_t c)
{
        int digit = hex_digit(c);

        if (digit >= 0) {
                if (++body->digits > CHUNK_SIZE_DIGITS_MAX)
                        return false;
                body->left = body->left << 4 | (unsigned)digit;
                return true;
        }
        if (!body->digits || (c != ';' && c != '\r'))
                return false;
        move(body, c == ';' ? BODY_CHUNK_EXTENSION : BODY_CHUNK_SIZE_END);
        return true;
}

static bool take_line(struct h1_body *body, uint8_t c, enum body_state end)
{
        if (c == '\r') {
                move(body, end);
                return true;
        }
        body->is_line_empty = false;
        return is_line_character(c) && ++body->lines_size <= H1_BODY_LINES_SIZE_MAX;
}

/* One byte that is no content. */
static bool take_byte(struct h1_body *body, uint8_t c)
{
        switch (body->state) {
        case BODY_CHUNK_SIZE:
                return take_size(body, c);
        case BODY_CHUNK_EXTENSION:
                return take_line(body, c, BODY_CHUNK_SIZE_END);
        case BODY_CHUNK_SIZE_END:
                move(body, body->left ? BODY_CHUNK_CONTENT : BODY_TRAILER);
                body->is_line_empty = true;
                return c == '\n';
        case BODY_CHUNK_END:
                move(body, BODY_CHUNK_END_LINE);
                return c == '\r';
        case BODY_CHUNK_END_LINE:
                move(body, BODY_CHUNK_SIZE);
                body->digits = 0;
                return c == '\n';
        case BODY_TRAILER:
                return take_line(body, c, BODY_TRAILER_END);
        default:
                assert(body->state == BODY_TRAILER_END);
                move(body, body->is_line_empty ? BODY_DONE : BODY_TRAILER);
                body->is_line_empty = true;
                return c == '\n';
        }
}

bool h1_body_take(struct h1_body *body, struct bytes data, void (*on_content)(void *arg, struct bytes piece),
        void *arg, size_t *ret_used, bool *ret_done)
{
        size_t at = 0;

        while (at < data.size && body->state != BODY_DONE) {
                if (body->state == BODY_CONTENT || body->state == BODY_CHUNK_CONTENT) {
                        size_t size = MIN(data.size - at, body->left);

                        on_content(arg, bytes_of(data.data + at, size));
                        at += size;
                        body->left -= size;
                        if (!body->left)
                                move(body, body->is_chunked ? BODY_CHUNK_END : BODY_DONE);
                } else if (!take_byte(body, data.data[at++])) {
                        return false;
                }
        }
        *ret_used = at;
        *ret_done = body->state == BODY_DONE;
        return true;
}
