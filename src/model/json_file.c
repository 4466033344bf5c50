#include "model/json_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "model/event.h"

void json_file_sum(json_t *object, char ret[JSON_FILE_SUM_SIZE])
{
        json_t *copy = json_copy(object);
        char *text;

        assert(copy);
        json_object_del(copy, "crc32c");
        text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
        assert(text);
        snprintf(ret, JSON_FILE_SUM_SIZE, "%08x", crc32c(0, text, strlen(text)));
        free(text);
        json_decref(copy);
}

void json_file_seal(json_t *object, struct buffer *out)
{
        char sum[JSON_FILE_SUM_SIZE];
        char *text;

        json_file_sum(object, sum);
        json_object_set_new(object, "crc32c", json_string(sum));
        text = json_dumps(object, JSON_INDENT(1) | JSON_SORT_KEYS);
        assert(text);
        buffer_add_string(out, text);
        free(text);
}

void json_file_set_uuid(json_t *object, const char *key, const uint8_t uuid[16])
{
        char text[EVENT_ID_TEXT_SIZE + 1];
        struct event_id id;

        memcpy(id.bytes, uuid, 16);
        event_id_format(&id, text);
        json_object_set_new(object, key, json_string(text));
}

bool json_file_get_uuid(json_t *object, const char *key, uint8_t ret[16])
{
        const char *text = json_string_value(json_object_get(object, key));
        struct event_id id;

        if (!text || !event_id_parse(bytes_of_string(text), &id))
                return false;
        memcpy(ret, id.bytes, 16);
        return true;
}
