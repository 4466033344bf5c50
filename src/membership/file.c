/* cluster.json, in the data directory: that this node is one of a cluster, and how it is reached.
 *
 *   {"format":1, "cluster_uuid", "node_id", "joining", "joined", "insecure", "request", "listen", "port",
 *    "advertise", "store_uuid", "epoch", "cluster_version", "voters_wanted",
 * "members":[{"node_id","address"}...], "crc32c"}
 *
 * "crc32c" as in node.json: of the object without it, written compactly with sorted keys. A file that is
 * damaged refuses the start: a member that begins without it would be a lone node with the same data. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"
#include "model/json_file.h"

enum { FILE_SIZE_MAX = 64 * 1024, FILE_FORMAT = 1, PATH_SIZE_MAX = 4096 };

static void path_of(const struct membership *m, char ret[PATH_SIZE_MAX])
{
        snprintf(ret, PATH_SIZE_MAX, "%s/cluster.json", m->options.directory);
}

static const char *text_at(json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void members_from_json(json_t *array, struct cluster_file *file)
{
        json_t *member;
        size_t i;

        json_array_foreach(array, i, member)
        {
                struct known_member *k = &file->members[file->member_count];
                json_int_t id = json_integer_value(json_object_get(member, "node_id"));

                if (id <= 0 || file->member_count == CLUSTER_MEMBERS_MAX)
                        continue;
                k->node_id = (uint64_t)id;
                text_copy(k->address, sizeof k->address, text_at(member, "address"));
                file->member_count++;
        }
}

static bool from_json(struct membership *m, json_t *object, char why[WHY_SIZE_MAX])
{
        struct cluster_file *file = &m->file;
        uint8_t cluster_uuid[16];
        json_int_t port = json_integer_value(json_object_get(object, "port"));
        json_int_t id = json_integer_value(json_object_get(object, "node_id"));

        *file = (struct cluster_file){
                .is_joining = json_is_true(json_object_get(object, "joining")),
                .has_joined = json_is_true(json_object_get(object, "joined")),
                .is_insecure = json_is_true(json_object_get(object, "insecure")),
                .port = (uint16_t)port,
                .epoch = (uint32_t)json_integer_value(json_object_get(object, "epoch")),
                .voters_wanted = (unsigned)json_integer_value(json_object_get(object, "voters_wanted")),
        };
        m->version = (unsigned)json_integer_value(json_object_get(object, "cluster_version"));
        text_copy(file->listen, sizeof file->listen, text_at(object, "listen"));
        text_copy(file->advertise, sizeof file->advertise, text_at(object, "advertise"));
        members_from_json(json_object_get(object, "members"), file);
        if (port < 1 || port > UINT16_MAX || !json_file_get_uuid(object, "request", file->request) ||
                !json_file_get_uuid(object, "store_uuid", file->store_uuid) ||
                !json_file_get_uuid(object, "cluster_uuid", cluster_uuid)) {
                snprintf(why, WHY_SIZE_MAX, "it lacks what it must have");
                return false;
        }
        /* A joiner has no identity yet; between its adoption and the next write of this file the two differ,
         * and the join is asked for again. */
        if (!file->is_joining && (memcmp(cluster_uuid, m->identity.cluster_uuid, 16) != 0 ||
                                         (uint64_t)id != m->identity.node_id)) {
                snprintf(why, WHY_SIZE_MAX,
                        "it is of another node than node.json; one of them was copied here");
                return false;
        }
        return true;
}

static bool parse(struct membership *m, struct bytes text, char why[WHY_SIZE_MAX])
{
        CLEANUP(json_freep)
        json_t *object = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
        const char *sum;
        char wanted[JSON_FILE_SUM_SIZE];

        if (!json_is_object(object)) {
                snprintf(why, WHY_SIZE_MAX, "it is damaged");
                return false;
        }
        sum = json_string_value(json_object_get(object, "crc32c"));
        json_file_sum(object, wanted);
        if (!sum || strcmp(sum, wanted) != 0) {
                snprintf(why, WHY_SIZE_MAX, "it is damaged: its sum is %.20s, its content has %s",
                        sum ? sum : "missing", wanted);
                return false;
        }
        if (json_integer_value(json_object_get(object, "format")) != FILE_FORMAT) {
                snprintf(why, WHY_SIZE_MAX, "it has a format that this version does not read");
                return false;
        }
        return from_json(m, object, why);
}

int cluster_file_read(struct membership *m, bool *ret_exists, char why[WHY_SIZE_MAX])
{
        CLEANUP(buffer_fini) struct buffer text = {0};
        char path[PATH_SIZE_MAX];
        char what[WHY_SIZE_MAX / 2] = "it is too large";
        int r;

        path_of(m, path);
        *ret_exists = false;
        r = os_read_whole(m->os, path, FILE_SIZE_MAX, &text);
        if (r == OS_NOT_FOUND)
                return 0;
        if (r && r != -EFBIG)
                return fault_fold(r);
        *ret_exists = true;
        if (!r) {
                char problem[WHY_SIZE_MAX] = "";

                if (parse(m, buffer_bytes(&text), problem))
                        return 0;
                snprintf(what, sizeof what, "%.200s", problem);
        }
        snprintf(why, WHY_SIZE_MAX, "%.200s cannot be used: %s. Restore it from a copy", path, what);
        return MEMBERSHIP_DAMAGED;
}

static json_t *to_json(const struct membership *m)
{
        const struct cluster_file *file = &m->file;
        json_t *object = json_object();
        json_t *members = json_array();

        json_object_set_new(object, "format", json_integer(FILE_FORMAT));
        json_file_set_uuid(object, "cluster_uuid", m->identity.cluster_uuid);
        json_object_set_new(object, "node_id", json_integer((json_int_t)m->identity.node_id));
        json_object_set_new(object, "joining", json_boolean(file->is_joining));
        json_object_set_new(object, "joined", json_boolean(file->has_joined));
        json_object_set_new(object, "insecure", json_boolean(file->is_insecure));
        json_file_set_uuid(object, "request", file->request);
        json_object_set_new(object, "listen", json_string(file->listen));
        json_object_set_new(object, "port", json_integer(file->port));
        json_object_set_new(object, "advertise", json_string(file->advertise));
        json_file_set_uuid(object, "store_uuid", file->store_uuid);
        json_object_set_new(object, "epoch", json_integer(file->epoch));
        json_object_set_new(object, "cluster_version", json_integer(m->version));
        json_object_set_new(object, "voters_wanted", json_integer(file->voters_wanted));
        for (unsigned i = 0; i < file->member_count; i++) {
                json_t *member = json_object();

                json_object_set_new(member, "node_id", json_integer((json_int_t)file->members[i].node_id));
                json_object_set_new(member, "address", json_string(file->members[i].address));
                json_array_append_new(members, member);
        }
        json_object_set_new(object, "members", members);
        return object;
}

int cluster_file_write(struct membership *m, char why[WHY_SIZE_MAX])
{
        CLEANUP(json_freep) json_t *object = to_json(m);
        CLEANUP(buffer_fini) struct buffer text = {0};
        char path[PATH_SIZE_MAX];
        int r;

        path_of(m, path);
        json_file_seal(object, &text);
        r = os_replace_whole(m->os, path, buffer_bytes(&text));
        if (r == OS_FULL) {
                snprintf(why, WHY_SIZE_MAX, "no space for %.200s", path);
                return MEMBERSHIP_DAMAGED;
        }
        return fault_fold(r);
}
