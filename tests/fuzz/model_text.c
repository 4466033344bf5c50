/* Texts of strangers: filters, stream metadata, links, ids, names. Nothing may crash, hang or contradict
 * itself. */
#include <stdlib.h>

#include "model/event.h"
#include "model/filter.h"
#include "model/stream_metadata.h"

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void try_filter(struct bytes pattern, struct bytes subject, bool is_regex)
{
        struct filter_options options = {.target = FILTER_STREAM};
        struct filter *filter = NULL;
        char why[256];

        if (is_regex)
                options.regex = pattern;
        else
                options.prefixes = &pattern, options.prefix_count = 1;
        if (filter_new(&options, &filter, why, sizeof why))
                return;
        require(filter_match(filter, subject, BYTES_EMPTY) == filter_match(filter, subject, BYTES_EMPTY));
        if (!is_regex)
                require((filter_match(filter, subject, BYTES_EMPTY) == FILTER_MATCH) ==
                        bytes_starts_with(subject, pattern));
        filter_free(&filter);
}

static void try_metadata(struct bytes json)
{
        struct stream_metadata before = stream_metadata_parse(json);
        struct stream_metadata after;
        struct buffer out = {0};

        stream_metadata_check(json);
        stream_metadata_with_truncate_before(json, REVISION_MAX, &out);
        after = stream_metadata_parse(bytes_of(out.data, out.size));
        require(after.truncate_before == REVISION_MAX);
        require(after.max_count == before.max_count && after.max_age_seconds == before.max_age_seconds);
        buffer_fini(&out);
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
        size_t split;

        if (size < 2)
                return 0;
        split = data[1] % (size - 1);
        switch (data[0] % 4) {
        case 0:
                try_metadata(bytes_of(data + 1, size - 1));
                break;
        case 1:
                try_names(bytes_of(data + 1, size - 1));
                break;
        default:
                try_filter(bytes_of(data + 2, split), bytes_of(data + 2 + split, size - 2 - split),
                        data[0] % 4 == 2);
        }
        return 0;
}
