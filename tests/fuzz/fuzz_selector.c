/* Any bytes as a selection, on any bytes as an event: what is read has one form that reads again as the same;
 * a verdict comes twice the same; what is selected has one of the keys; and a payload is judged as a tree of
 * it would be.
 *
 * Input: the selection, a NUL, the event's data; stream and type are the beginnings of the data. */
#include <stdlib.h>

#include <jansson.h>

#include "base/json_in.h"
#include "model/selector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
        if (!is_true)
                abort();
}

/* The tree's numbers are doubles, which the selection is more exact than: where a number stands in both, and
 * in texts with what jansson reads in its own way, only the absence of damage is asked for. */
static bool is_comparable(struct bytes text)
{
        size_t opened = 0;

        for (size_t i = 0; i < text.size; i++) {
                uint8_t c = text.data[i];

                opened += c == '[' || c == '{';
                if (c == 0 || (c >= '0' && c <= '9'))
                        return false;
        }
        return opened < 200;
}

static bool is_equal(json_t *want, json_t *got, bool is_exact)
{
        const char *key;
        json_t *value;

        if (!got || json_typeof(want) != json_typeof(got))
                return false;
        if (json_is_array(want)) {
                if (json_array_size(want) != json_array_size(got))
                        return false;
                for (size_t i = 0; i < json_array_size(want); i++)
                        if (!is_equal(json_array_get(want, i), json_array_get(got, i), true))
                                return false;
                return true;
        }
        if (!json_is_object(want))
                return json_equal(want, got);
        if (is_exact && json_object_size(want) != json_object_size(got))
                return false;
        json_object_foreach(
                want, key, value) if (!is_equal(value, json_object_get(got, key), is_exact)) return false;
        return true;
}

static void compare_with_tree(struct selector *s, const struct event_view *event, enum filter_verdict verdict)
{
        struct bytes text = selector_json(s);
        json_t *tree, *got;

        if (selector_kind(s) != SELECT_PAYLOAD || !is_comparable(text) || !is_comparable(event->data))
                return;
        tree = json_loadb((const char *)text.data, text.size, 0, NULL);
        got = json_loadb((const char *)event->data.data, event->data.size, 0, NULL);
        if (tree && got)
                require((verdict == FILTER_MATCH) == is_equal(json_object_get(tree, "match"), got, false));
        else if (tree)
                require(verdict == FILTER_NO_MATCH || json_in_is_valid(event->data));
        json_decref(tree);
        json_decref(got);
}

static void check_keys(const struct selector *s, const struct event_view *event)
{
        const struct bytes *names;
        unsigned count;
        enum selector_key key = selector_keys(s, &names, &count);
        bool is_found = key == SELECT_KEY_NONE;
        struct buffer name = {0};

        if (key == SELECT_KEY_FIELD || key == SELECT_KEY_TYPED_FIELD) {
                is_found = selector_read_field(selector_field_place(s), event, &name);
                if (key == SELECT_KEY_TYPED_FIELD)
                        buffer_add_bytes(&name, event->type);
                is_found &= bytes_equal(buffer_bytes(&name), names[0]);
        }
        buffer_fini(&name);

        for (unsigned i = 0; i < count; i++) {
                is_found |= key == SELECT_KEY_STREAMS && bytes_equal(event->stream, names[i]);
                is_found |= key == SELECT_KEY_TYPES && bytes_equal(event->type, names[i]);
                is_found |= key == SELECT_KEY_STREAM_PREFIXES && bytes_starts_with(event->stream, names[i]);
                is_found |= key == SELECT_KEY_TYPE_PREFIXES && bytes_starts_with(event->type, names[i]);
        }
        require(is_found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *end = memchr(data, 0, size);
        struct bytes json = bytes_of(data, end ? (size_t)(end - data) : size);
        struct bytes rest = end ? bytes_of(end + 1, size - json.size - 1) : BYTES_EMPTY;
        struct event_view event = {
                .content_type = CONTENT_JSON, .data = rest, .metadata = rest, .revision = 1};
        struct selector *s = NULL, *again;
        struct filter *filter;
        enum filter_verdict verdict;
        char why[256] = "";

        if (selector_parse(json, &s, why, sizeof why) != 0) {
                require(why[0] && !s);
                return 0;
        }
        event.stream = bytes_of(rest.data, MIN(rest.size, (size_t)8));
        event.type = bytes_of(rest.data, MIN(rest.size, (size_t)5));
        again = selector_copy(s);
        require(bytes_equal(selector_json(s), selector_json(again)));
        verdict = selector_match(s, &event);
        require(selector_match(s, &event) == verdict && selector_match(again, &event) == verdict);
        if (verdict == FILTER_MATCH)
                check_keys(s, &event);
        compare_with_tree(s, &event, verdict);
        filter = selector_new_filter(s);
        if (filter)
                require(filter_match(filter, event.stream, event.type) == verdict);
        filter_free(&filter);
        selector_free(&again);
        selector_free(&s);
        return 0;
}
