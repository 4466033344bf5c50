/* HTTP/1.1 heads and bodies from strangers: whole or in pieces the outcome is the same, and every view stays
 * inside. */
#include <stdlib.h>

#include "base/memory.h"
#include "gateway/h1_body.h"
#include "gateway/h1_head.h"

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void count(void *arg, struct bytes piece)
{
        *(size_t *)arg += piece.size;
}

/* Content of a body that is fed in pieces of `step`; -1 if it was refused or is not complete. */
static long long content_size(struct h1_body state, struct bytes body, size_t step)
{
        size_t content = 0, at = 0, used;
        bool is_done = false;

        while (at < body.size && !is_done) {
                size_t n = MIN(step, body.size - at);

                if (!h1_body_take(&state, bytes_of(body.data + at, n), count, &content, &used, &is_done))
                        return -1;
                require(used <= n);
                at += used;
                if (used < n)
                        break;
        }
        return is_done ? (long long)content : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct h1_head head;
        uint8_t *copy;
        size_t end;
        int status = 0;

        end = h1_head_end(bytes_of(data, size), &status);
        require(end <= size);
        if (end == 0 || status)
                return 0;
        copy = memory_new(size);
        memcpy(copy, data, size);
        if (h1_head_parse(copy, end, &head)) {
                struct bytes body = bytes_of(copy + end, size - end);
                struct h1_body state;

                require(head.field_count <= H1_HEADERS_MAX);
                require(head.target.size > 0 && (head.target.data[0] == '/' || head.target.data[0] == '*'));
                for (unsigned i = 0; i < head.field_count; i++)
                        require(head.fields[i].name.data >= copy &&
                                head.fields[i].name.data + head.fields[i].name.size <= copy + end);
                require(head.has_body || !head.body_size);
                h1_body_begin(&state, head.is_chunked, head.body_size);
                if (body.size)
                        require(content_size(state, body, body.size) == content_size(state, body, 1));
        } else {
                require(head.status >= 400 && head.problem);
        }
        free(copy);
        return 0;
}
