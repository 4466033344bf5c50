/* Texts of strangers: filters, stream metadata, links, ids, names. Nothing may crash, hang or contradict
 * itself. */
#include <stdlib.h>

#include "model/event.h"

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void try_names(struct bytes text)
{
        char again[EVENT_ID_TEXT_SIZE + 1];
        struct event_id id, same;
        struct bytes stream;
        uint64_t revision;

        if (event_id_parse(text, &id)) {
                event_id_format(&id, again);
                require(event_id_parse(bytes_of_string(again), &same) && event_id_equal(&id, &same));
        }
        if (event_link_parse(text, &revision, &stream))
                require(stream.size < text.size && stream_name_is_valid(stream));
        if (stream_name_is_valid(text)) {
                require(bytes_is_utf8(text));
                require(stream_category(text).size < text.size);
                if (stream_is_meta(text))
                        require(stream_is_system(text) && stream_of_meta(text).size + 2 == text.size);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        try_names(bytes_of(data, size));
        return 0;
}
