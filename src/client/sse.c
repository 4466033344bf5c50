/* Server-sent events: fields gather until an empty line ends their event. */
#include "client/sse.h"

static bool name_is(const char *line, size_t size, const char *name)
{
        return size == strlen(name) && memcmp(line, name, size) == 0;
}

/* What does not fit is no id or name of ours: the server's are short. */
static void copy_short(char to[SSE_NAME_SIZE], const char *value, size_t size)
{
        if (size >= SSE_NAME_SIZE)
                size = 0;
        memcpy(to, value, size);
        to[size] = 0;
}

enum sse_outcome sse_line(struct sse *s, const char *line, size_t size)
{
        const char *colon = size ? memchr(line, ':', size) : NULL;
        size_t name_size = colon ? (size_t)(colon - line) : size;
        const char *value = line + size;
        size_t value_size = 0;

        if (!size)
                return s->data.size || *s->id || *s->event ? SSE_EVENT : SSE_MORE;
        if (colon) {
                value = colon + 1;
                value_size = size - name_size - 1;
                if (value_size && *value == ' ') {
                        value++;
                        value_size--;
                }
        }
        if (name_is(line, name_size, "data")) {
                if (s->data.size + value_size + 1 > SSE_DATA_SIZE_MAX)
                        return SSE_TOO_LARGE;
                if (s->data.size)
                        buffer_add_u8(&s->data, '\n');
                buffer_add(&s->data, value, value_size);
        } else if (name_is(line, name_size, "id")) {
                copy_short(s->id, value, value_size);
        } else if (name_is(line, name_size, "event")) {
                copy_short(s->event, value, value_size);
        }
        return SSE_MORE;
}

void sse_next(struct sse *s)
{
        buffer_clear(&s->data);
        *s->id = 0;
        *s->event = 0;
}

void sse_fini(struct sse *s)
{
        buffer_fini(&s->data);
        sse_next(s);
}
