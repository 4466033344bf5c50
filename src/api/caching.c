/* What may be kept of an answer (RFC 9110, 8.8; RFC 9111). Everything that was read has an entity tag, and
 * who comes back with it is told that nothing has changed (304).
 *
 * A page of all streams that begins at a position and is full stays as it is: positions never change their
 * meaning (G4), so it may be kept for good. Whatever a truncation, a deletion, an age or somebody's rights
 * can change has to be asked for again each time. Where rights count, only the asker himself may keep it. */
#include "api/room.h"

#include <stdio.h>

#define FOR_GOOD "public, max-age=31536000, immutable"

const struct gateway_header_field lines_headers[2] = {{"cache-control", "no-store"}, {"vary", "accept"}};

/* Does a list of entity tags have this one? By weak comparison. */
static bool has_tag(struct bytes list, const char *tag)
{
        size_t size = strlen(tag);

        if (bytes_equal_string(list, "*"))
                return true;
        for (size_t i = 0; i + size <= list.size; i++)
                if (memcmp(list.data + i, tag, size) == 0)
                        return true;
        return false;
}

void call_reply_read(struct call *c, struct buffer *body, const struct read_answer *answer)
{
        struct gateway_header_field headers[READ_HEADERS_MAX + 4];
        struct bytes known;
        char made[48];
        unsigned count = 0;
        bool is_known;

        if (!answer->tag) {
                snprintf(made, sizeof made, "\"p-%016llx-%zx\"",
                        (unsigned long long)name_hash(buffer_bytes(body)), body->size);
        } else {
                snprintf(made, sizeof made, "\"%s\"", answer->tag);
        }
        headers[count++] = (struct gateway_header_field){"etag", made};
        headers[count++] = (struct gateway_header_field){"cache-control", c->has_rights ? "private, no-cache"
                                                                          : answer->is_for_good ? FOR_GOOD
                                                                                                : "no-cache"};
        headers[count++] = (struct gateway_header_field){"vary", "accept"};
        if (*c->preference)
                headers[count++] = (struct gateway_header_field){"preference-applied", c->preference};
        assert(answer->header_count <= READ_HEADERS_MAX);
        for (unsigned i = 0; i < answer->header_count; i++)
                headers[count++] = answer->headers[i];
        is_known = gateway_header(c->request, "if-none-match", &known) && has_tag(known, made);
        if (is_known)
                buffer_clear(body);
        else if (!answer->is_exact)
                buffer_add_u8(body, '\n');
        call_reply_exactly(c, is_known ? 304 : 200, body, headers, count);
}
