/* JSON files of a data directory, and the marks in a store's: `lost.json` and `scrub.json`. A mark belongs to
 * its store: one with another UUID was copied here by mistake. */
#include "persistence/marks.h"

#include <errno.h>

#include "persistence/text.h"

enum { JSON_FILE_SIZE_MAX = 64 * 1024 };

static void json_freep(json_t **json)
{
        json_decref(*json);
        *json = NULL;
}

static void buffer_freep(struct buffer *b)
{
        buffer_fini(b);
}

int json_file_write(struct os *os, const char *path, json_t *object)
{
        CLEANUP(buffer_freep) struct buffer text = {0};
        int r;

        json_file_seal(object, &text);
        r = os_replace_whole(os, path, buffer_bytes(&text));
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

int json_file_read(struct os *os, const char *path, json_t **ret)
{
        CLEANUP(buffer_freep) struct buffer text = {0};
        CLEANUP(json_freep) json_t *object = NULL;
        const char *sum;
        json_error_t error;
        char expected[JSON_FILE_SUM_SIZE];
        int r;

        r = os_read_whole(os, path, JSON_FILE_SIZE_MAX, &text);
        if (r == OS_NOT_FOUND)
                return PERSISTENCE_NOT_FOUND;
        if (r == -EFBIG)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s is larger than any such file can be; restore it from a copy", path);
        if (r)
                return fault_fold(r);
        object = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &error);
        if (!object || !json_is_object(object))
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s is damaged at byte %d (%s); restore it from a copy", path,
                        object ? 0 : error.position, object ? "no object" : error.text);
        sum = json_string_value(json_object_get(object, "crc32c"));
        json_file_sum(object, expected);
        if (!sum || strcmp(sum, expected) != 0)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s is damaged: its sum is %s, its content has %s; restore it from a copy", path,
                        sum ? sum : "missing", expected);
        if (json_integer_value(json_object_get(object, "format")) != JSON_FILE_FORMAT)
                return problem_note(PERSISTENCE_FORMAT,
                        "%s has format %lld, this version reads %d; use the version that made it", path,
                        (long long)json_integer_value(json_object_get(object, "format")), JSON_FILE_FORMAT);
        *ret = object;
        object = NULL;
        return 0;
}

/* ---- marks ---- */

static json_t *mark_new(struct persistence_node *node, const uint8_t store_uuid[16])
{
        json_t *object = json_object();

        json_object_set_new(object, "format", json_integer(JSON_FILE_FORMAT));
        json_file_set_uuid(object, "cluster_uuid", node->identity.cluster_uuid);
        json_object_set_new(object, "node_id", json_integer((json_int_t)node->identity.node_id));
        json_file_set_uuid(object, "store_uuid", store_uuid);
        return object;
}

static int mark_load(
        struct persistence_node *node, const char *file, const uint8_t store_uuid[16], json_t **ret)
{
        uint8_t uuid[16];
        int r = json_file_read(node->os, file, ret);

        if (r)
                return r;
        if (!json_file_get_uuid(*ret, "store_uuid", uuid) || memcmp(uuid, store_uuid, 16) != 0)
                return problem_note(
                        PERSISTENCE_CORRUPT, "%s is of another store; restore it from a copy", file);
        return 0;
}

static void set_u64(json_t *object, const char *key, uint64_t n)
{
        json_object_set_new(object, key, json_integer((json_int_t)n));
}

static uint64_t get_u64_of(const json_t *object, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(object, key));

        return n > 0 ? (uint64_t)n : 0;
}

/* ---- lost.json ---- */

static void hex_encode(const uint8_t *bytes, uint32_t size, char *ret)
{
        static const char digits[] = "0123456789abcdef";

        for (uint32_t i = 0; i < size; i++) {
                ret[2 * i] = digits[bytes[i] >> 4];
                ret[2 * i + 1] = digits[bytes[i] & 15];
        }
        ret[2 * size] = 0;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_decode(const char *hex, uint8_t *ret, uint32_t *ret_size)
{
        size_t size = strlen(hex) / 2;

        if (strlen(hex) % 2 || size > SEGMENT_CONFIGURATION_SIZE_MAX)
                return false;
        for (size_t i = 0; i < size; i++) {
                int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

                if (high < 0 || low < 0)
                        return false;
                ret[i] = (uint8_t)(high << 4 | low);
        }
        *ret_size = (uint32_t)size;
        return true;
}

int lost_file_save(struct persistence_node *node, const char *store_path, const struct store_file *s,
        const struct lost_mark *mark)
{
        CLEANUP(json_freep) json_t *object = mark_new(node, s->uuid);
        CLEANUP(text_freep) char *file = text_format("%s/lost.json", store_path);
        char hex[2 * SEGMENT_CONFIGURATION_SIZE_MAX + 1];

        set_u64(object, "through", mark->through);
        if (mark->has_cut)
                set_u64(object, "cut_after", mark->cut_after);
        if (mark->configuration_size) {
                hex_encode(mark->configuration, mark->configuration_size, hex);
                json_object_set_new(object, "configuration", json_string(hex));
                set_u64(object, "configuration_index", mark->configuration_index);
        }
        set_u64(object, "found_us", os_wall_us(node->os));
        return json_file_write(node->os, file, object);
}

int lost_file_load(struct persistence_node *node, const char *store_path, const struct store_file *s,
        struct lost_mark *ret)
{
        CLEANUP(json_freep) json_t *object = NULL;
        CLEANUP(text_freep) char *file = text_format("%s/lost.json", store_path);
        const char *hex;
        int r = mark_load(node, file, s->uuid, &object);

        if (r)
                return r;
        *ret = (struct lost_mark){.through = get_u64_of(object, "through"),
                .has_cut = json_is_integer(json_object_get(object, "cut_after")),
                .cut_after = get_u64_of(object, "cut_after"),
                .configuration_index = get_u64_of(object, "configuration_index")};
        hex = json_string_value(json_object_get(object, "configuration"));
        if (hex && !hex_decode(hex, ret->configuration, &ret->configuration_size))
                return problem_note(PERSISTENCE_CORRUPT, "%s names no members; restore it from a copy", file);
        return 0;
}

int lost_file_remove(struct persistence_node *node, const char *store_path)
{
        CLEANUP(text_freep) char *file = text_format("%s/lost.json", store_path);
        int r = os_remove(node->os, file);

        r = r == OS_NOT_FOUND ? 0 : r;
        return r ? fault_fold(r) : fault_fold(os_dir_sync(node->os, store_path));
}

/* ---- scrub.json ---- */

/* Its numbers by name. */
static const struct {
        const char *key;
        size_t at;
} scrub_numbers[] = {
        {"passes", offsetof(struct scrub_mark, passes)},
        {"next_index", offsetof(struct scrub_mark, next_index)},
        {"through", offsetof(struct scrub_mark, through)},
        {"done_bytes", offsetof(struct scrub_mark, done_bytes)},
        {"total_bytes", offsetof(struct scrub_mark, total_bytes)},
        {"elapsed_us", offsetof(struct scrub_mark, elapsed_us)},
        {"found", offsetof(struct scrub_mark, found)},
        {"began_us", offsetof(struct scrub_mark, began_us)},
        {"finished_us", offsetof(struct scrub_mark, finished_us)},
        {"last_found", offsetof(struct scrub_mark, last_found)},
};

int scrub_file_save(struct persistence_node *node, const char *store_path, const uint8_t store_uuid[16],
        const struct scrub_mark *mark)
{
        CLEANUP(json_freep) json_t *object = mark_new(node, store_uuid);
        CLEANUP(text_freep) char *file = text_format("%s/scrub.json", store_path);
        uint64_t n;

        for (size_t i = 0; i < COUNT_OF(scrub_numbers); i++) {
                memcpy(&n, (const uint8_t *)mark + scrub_numbers[i].at, sizeof n);
                set_u64(object, scrub_numbers[i].key, n);
        }
        json_object_set_new(object, "under_way", json_boolean(mark->is_under_way));
        return json_file_write(node->os, file, object);
}

int scrub_file_load(struct persistence_node *node, const char *store_path, const uint8_t store_uuid[16],
        struct scrub_mark *ret)
{
        CLEANUP(json_freep) json_t *object = NULL;
        CLEANUP(text_freep) char *file = text_format("%s/scrub.json", store_path);
        int r = mark_load(node, file, store_uuid, &object);

        if (r)
                return r;
        *ret = (struct scrub_mark){.is_under_way = json_is_true(json_object_get(object, "under_way"))};
        for (size_t i = 0; i < COUNT_OF(scrub_numbers); i++) {
                uint64_t n = get_u64_of(object, scrub_numbers[i].key);

                memcpy((uint8_t *)ret + scrub_numbers[i].at, &n, sizeof n);
        }
        return 0;
}
