/* The data directory of a node.
 *
 *   LOCK            held by flock for the life of the process
 *   node.json       {"format":1,"cluster_uuid":"...","node_id":1,"created_us":...,"crc32c":"89abcdef"}
 *   stores/<uuid>/  one directory per store:
 *     store.json    {"format":1,"cluster_uuid","node_id","store_uuid","name","epoch","created_us","crc32c"}
 *     vote          term and vote (vote.c)
 *     lost.json     only while entries that were durable are missing (lost.c)
 *     scrub.json    how far the scrub is (scrub.c)
 *     log/          segments (segment.c), index files (index_build.c), the id window's checkpoint (ids.c)
 *     quarantine/   suspicious files, never deleted (G12)
 *
 * "crc32c" is the CRC-32C, in hexadecimal, of the object without that key, written compactly with sorted
 * keys, so that layout may change but no value can (G14).
 *
 * A store is made from the inside out: directories, then vote, then store.json by an atomic rename. A crash
 * before the last step leaves a directory with a name that is a UUID, without store.json and without a
 * segment: it is taken again for the next store that is made. A directory with segments but without
 * store.json cannot come from a crash: that is damage, and the open is refused rather than starting an empty
 * store in its place. */
#include "persistence/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/marks.h"
#include "persistence/text.h"
#include "persistence/vote.h"

enum { LIST_STOPPED = 100 }; /* what a listing gives that we ended; none of enum os_outcome */

static void json_freep(json_t **json)
{
        json_decref(*json);
        *json = NULL;
}

static void uuid_random(struct os *os, uint8_t ret[16])
{
        struct event_id id;

        os_random(os, id.bytes, sizeof id.bytes);
        event_id_stamp_random(&id);
        memcpy(ret, id.bytes, 16);
}

/* ---- node.json ---- */

static int node_file_read(struct persistence_node *node, const char *path)
{
        CLEANUP(json_freep) json_t *object = NULL;
        json_int_t id;
        int r;

        r = json_file_read(node->os, path, &object);
        if (r)
                return r;
        id = json_integer_value(json_object_get(object, "node_id"));
        if (id <= 0 || !json_file_get_uuid(object, "cluster_uuid", node->identity.cluster_uuid))
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s lacks node_id or cluster_uuid; restore it from a copy", path);
        node->identity.node_id = (uint64_t)id;
        node->created_us = (uint64_t)json_integer_value(json_object_get(object, "created_us"));
        return 0;
}

static int node_file_write(
        struct persistence_node *node, const char *path, const struct persistence_identity *identity)
{
        CLEANUP(json_freep) json_t *object = json_object();

        json_object_set_new(object, "format", json_integer(JSON_FILE_FORMAT));
        json_file_set_uuid(object, "cluster_uuid", identity->cluster_uuid);
        json_object_set_new(object, "node_id", json_integer((json_int_t)identity->node_id));
        json_object_set_new(object, "created_us", json_integer((json_int_t)node->created_us));
        return json_file_write(node->os, path, object);
}

static int node_file_make(struct persistence_node *node, const char *path)
{
        uuid_random(node->os, node->identity.cluster_uuid);
        node->identity.node_id = 1;
        node->created_us = os_wall_us(node->os);
        return node_file_write(node, path, &node->identity);
}

struct strangers {
        const char *directory;
        char name[128];
};

/* What may stand in a directory that has no node.json yet. */
static int note_stranger(void *arg, const char *name, bool is_dir)
{
        struct strangers *s = arg;

        if (strcmp(name, "LOCK") == 0 || strncmp(name, "node.json", 9) == 0 ||
                (is_dir && strcmp(name, "stores") == 0) || strcmp(name, "lost+found") == 0)
                return 0;
        snprintf(s->name, sizeof s->name, "%s", name);
        return LIST_STOPPED;
}

static int note_any(void *arg, const char *name, bool is_dir)
{
        struct strangers *s = arg;

        (void)is_dir;
        snprintf(s->name, sizeof s->name, "%s", name);
        return LIST_STOPPED;
}

/* Before a node.json is made: refuses directories of other programs, and one whose node.json is lost. */
static int node_directory_check_new(struct persistence_node *node, const char *stores)
{
        struct strangers strangers = {.directory = node->path};
        int r;

        r = os_dir_list(node->os, node->path, note_stranger, &strangers);
        if (r == LIST_STOPPED)
                return problem_note(PERSISTENCE_FORMAT,
                        "%s is no data directory: it has %s but no node.json; choose an empty one",
                        node->path, strangers.name);
        if (r < 0)
                return r;
        r = os_dir_list(node->os, stores, note_any, &strangers);
        if (r == LIST_STOPPED)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s/node.json is missing but there are stores; restore it from a copy", node->path);
        return r < 0 ? r : 0;
}

/* Makes the names of the directory and of its parents durable: any of them may be new. */
static int node_sync_parents(struct persistence_node *node)
{
        CLEANUP(text_freep) char *path = text_format("%s", node->path);
        char *slash;
        int r = 0;

        while ((slash = strrchr(path, '/')) && slash != path && !r) {
                *slash = 0;
                r = os_dir_sync(node->os, path);
                /* One that we may not open was there before us. */
                r = r == -EACCES || r > 0 ? 0 : r;
        }
        if (!r)
                r = os_dir_sync(node->os, node->path[0] == '/' ? "/" : ".");
        return r == -EACCES || r > 0 ? 0 : r;
}

static int node_make(struct persistence_node *node, const char *file, const char *stores)
{
        int r;

        r = node_directory_check_new(node, stores);
        if (r)
                return r;
        r = os_dir_make(node->os, stores);
        if (r)
                return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        r = node_file_make(node, file);
        return r ? r : node_sync_parents(node);
}

/* Opens or makes what is in the directory, whose lock is held. */
static int node_load(struct persistence_node *node, bool must_exist)
{
        CLEANUP(text_freep) char *file = text_format("%s/node.json", node->path);
        CLEANUP(text_freep) char *stores = text_format("%s/stores", node->path);
        int r;

        r = node_file_read(node, file);
        if (r == PERSISTENCE_NOT_FOUND) {
                if (must_exist)
                        return problem_note(PERSISTENCE_FORMAT,
                                "%s is no data directory: it has no node.json", node->path);
                r = node_make(node, file, stores);
        }
        if (r)
                return r;
        /* A crash may have left any of this in memory only. */
        r = os_dir_make(node->os, stores);
        if (!r)
                r = os_dir_sync(node->os, stores);
        if (!r)
                r = os_dir_sync(node->os, node->path);
        return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
}

static int ignore_entry(void *arg, const char *name, bool is_dir)
{
        (void)arg;
        (void)name;
        (void)is_dir;
        return LIST_STOPPED;
}

int persistence_node_open(struct os *os, const char *path, bool must_exist, struct persistence_node **ret)
{
        struct persistence_node *node;
        CLEANUP(text_freep) char *lock = text_format("%s/LOCK", path);
        int r;

        if (must_exist) {
                r = os_dir_list(os, path, ignore_entry, NULL);
                if (r == OS_NOT_FOUND)
                        return problem_note(PERSISTENCE_NOT_FOUND, "%s does not exist", path);
                if (r == LIST_STOPPED)
                        r = 0;
        } else {
                r = os_dir_make(os, path);
        }
        if (r == -ENOTDIR)
                return problem_note(PERSISTENCE_FORMAT,
                        "%s is no directory, or stands below something that is none; choose another data "
                        "directory",
                        path);
        if (r)
                return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        node = MEMORY_NEW(struct persistence_node);
        node->os = os;
        node->path = memory_copy_string(path);
        r = os_lock(os, lock, &node->lock);
        if (r == OS_LOCKED)
                r = problem_note(PERSISTENCE_IN_USE, "%s is in use by another process", path);
        else if (r)
                r = r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        else
                r = node_load(node, must_exist);
        if (r) {
                persistence_node_close(&node);
                return r;
        }
        *ret = node;
        return 0;
}

void persistence_node_close(struct persistence_node **node)
{
        if (!*node)
                return;
        os_file_close(&(*node)->lock);
        free((*node)->path);
        free(*node);
        *node = NULL;
}

struct persistence_identity persistence_node_identity(const struct persistence_node *node)
{
        return node->identity;
}

int persistence_node_adopt(struct persistence_node *node, const struct persistence_identity *identity)
{
        CLEANUP(text_freep) char *file = text_format("%s/node.json", node->path);
        int r;

        assert(identity->node_id > 0 && identity->node_id <= INT64_MAX);
        if (persistence_node_has_stores(node))
                return PERSISTENCE_IN_USE;
        r = node_file_write(node, file, identity);
        if (!r)
                node->identity = *identity;
        return r;
}

/* ---- store directories ---- */

void store_file_fini(struct store_file *s)
{
        free(s->name);
        *s = (struct store_file){0};
}

static int store_file_read(struct persistence_node *node, const char *path, struct store_file *ret)
{
        CLEANUP(json_freep) json_t *object = NULL;
        uint8_t cluster_uuid[16];
        const char *name;
        json_int_t epoch;
        int r;

        r = json_file_read(node->os, path, &object);
        if (r)
                return r;
        name = json_string_value(json_object_get(object, "name"));
        if (!name || !json_file_get_uuid(object, "store_uuid", ret->uuid) ||
                !json_file_get_uuid(object, "cluster_uuid", cluster_uuid))
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s lacks name, store_uuid or cluster_uuid; restore it from a copy", path);
        if (memcmp(cluster_uuid, node->identity.cluster_uuid, 16) != 0)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s belongs to another cluster; it was copied here by mistake", path);
        epoch = json_integer_value(json_object_get(object, "epoch"));
        if (epoch < 1 || epoch > UINT32_MAX)
                return problem_note(PERSISTENCE_CORRUPT, "%s has no epoch; restore it from a copy", path);
        ret->epoch = (uint32_t)epoch;
        ret->created_us = (uint64_t)json_integer_value(json_object_get(object, "created_us"));
        ret->name = memory_copy_string(name);
        return 0;
}

static int store_file_write(struct persistence_node *node, const char *path, const struct store_file *s)
{
        CLEANUP(json_freep) json_t *object = json_object();

        json_object_set_new(object, "format", json_integer(JSON_FILE_FORMAT));
        json_file_set_uuid(object, "cluster_uuid", node->identity.cluster_uuid);
        json_object_set_new(object, "node_id", json_integer((json_int_t)node->identity.node_id));
        json_file_set_uuid(object, "store_uuid", s->uuid);
        json_object_set_new(object, "name", json_string(s->name));
        json_object_set_new(object, "epoch", json_integer(s->epoch));
        json_object_set_new(object, "created_us", json_integer((json_int_t)s->created_us));
        return json_file_write(node->os, path, object);
}

int store_file_set_epoch(
        struct persistence_node *node, const char *path, struct store_file *s, uint32_t epoch)
{
        CLEANUP(text_freep) char *file = text_format("%s/store.json", path);
        struct store_file next = *s;
        int r;

        next.epoch = epoch;
        r = store_file_write(node, file, &next);
        if (!r)
                s->epoch = epoch;
        return r;
}

struct store_search {
        struct persistence_node *node;
        const char *name;
        const uint8_t *uuid;     /* NULL: any */
        uint32_t epoch;          /* of one that is made */
        struct store_file found; /* its name is NULL until found */
        char *path;
        char *half_made; /* path of a directory that a crash left without store.json */
        int result;
};

static int note_segment(void *arg, const char *name, bool is_dir)
{
        size_t size = strlen(name);

        (void)is_dir;
        if (size > 4 && strcmp(name + size - 4, ".seg") == 0)
                *(bool *)arg = true;
        return 0;
}

static int store_search_half_made(struct store_search *s, char **path, const char *name)
{
        CLEANUP(text_freep) char *log = text_format("%s/log", *path);
        bool has_segment = false;
        struct event_id id;
        int r;

        if (!event_id_parse(bytes_of_string(name), &id))
                return 0;
        r = os_dir_list(s->node->os, log, note_segment, &has_segment);
        if (r < 0)
                return r;
        if (has_segment)
                return problem_note(PERSISTENCE_CORRUPT,
                        "%s has a log but no store.json; restore that file from a copy", *path);
        /* With a UUID that was given, only a directory that was begun for it. */
        if (s->uuid && memcmp(id.bytes, s->uuid, 16) != 0)
                return 0;
        free(s->half_made);
        s->half_made = *path;
        *path = NULL;
        return 0;
}

/* A store that was made apart from the cluster's of that name is not that store, and two cannot share a UUID.
 */
static int store_search_check_uuid(struct store_search *s, const char *path, const struct store_file *found)
{
        bool has_name = strcmp(found->name, s->name) == 0;

        if (!s->uuid || has_name == (memcmp(found->uuid, s->uuid, 16) == 0))
                return 0;
        if (has_name)
                return problem_note(PERSISTENCE_FORMAT,
                        "%s holds a store named %s that is not the cluster's store of that name; move the "
                        "directory away, or join with a node that has no stores",
                        path, found->name);
        return problem_note(PERSISTENCE_FORMAT,
                "%s holds the store %s with the UUID that the cluster gives to %s; move the directory away",
                path, found->name, s->name);
}

static int store_search_each(void *arg, const char *name, bool is_dir)
{
        struct store_search *s = arg;
        CLEANUP(text_freep) char *path = text_format("%s/stores/%s", s->node->path, name);
        CLEANUP(text_freep) char *file = text_format("%s/store.json", path);
        struct store_file found = {0};

        if (!is_dir)
                return 0;
        s->result = store_file_read(s->node, file, &found);
        if (s->result == PERSISTENCE_NOT_FOUND)
                s->result = store_search_half_made(s, &path, name);
        else if (!s->result)
                s->result = store_search_check_uuid(s, path, &found);
        if (!s->result && found.name && strcmp(found.name, s->name) == 0) {
                s->found = found;
                s->path = path;
                path = NULL;
                return LIST_STOPPED;
        }
        store_file_fini(&found);
        return s->result ? LIST_STOPPED : 0;
}

/* From the inside out, so that store.json is the last and makes it a store. */
static int store_directory_make(struct store_search *s)
{
        struct os *os = s->node->os;
        CLEANUP(text_freep) char *stores = text_format("%s/stores", s->node->path);
        CLEANUP(text_freep) char *log = NULL, *quarantine = NULL, *file = NULL;
        char text[EVENT_ID_TEXT_SIZE + 1];
        struct event_id id;
        int r;

        if (s->half_made) {
                s->path = s->half_made;
                s->half_made = NULL;
                if (!event_id_parse(bytes_of_string(strrchr(s->path, '/') + 1), &id))
                        return fault_raise(-EINVAL);
        } else {
                if (s->uuid)
                        memcpy(id.bytes, s->uuid, 16);
                else
                        uuid_random(os, id.bytes);
                event_id_format(&id, text);
                s->path = text_format("%s/%s", stores, text);
        }
        s->found = (struct store_file){
                .name = memory_copy_string(s->name), .epoch = s->epoch, .created_us = os_wall_us(os)};
        memcpy(s->found.uuid, id.bytes, 16);
        log = text_format("%s/log", s->path);
        quarantine = text_format("%s/quarantine", s->path);
        file = text_format("%s/store.json", s->path);
        r = os_dir_make(os, log);
        if (!r)
                r = os_dir_make(os, quarantine);
        if (!r)
                r = os_dir_sync(os, s->path);
        if (!r)
                r = os_dir_sync(os, stores);
        if (r)
                return r == OS_FULL ? PERSISTENCE_FULL : fault_fold(r);
        r = vote_file_make(os, s->path, &s->node->identity, s->found.uuid);
        return r ? r : store_file_write(s->node, file, &s->found);
}

static int note_store(void *arg, const char *name, bool is_dir)
{
        const struct persistence_node *node = arg;
        CLEANUP(text_freep) char *file = text_format("%s/stores/%s/store.json", node->path, name);
        CLEANUP(text_freep) char *log = text_format("%s/stores/%s/log", node->path, name);
        struct os_file *found = NULL;
        bool has_segment = false;
        int r;

        if (!is_dir)
                return 0;
        r = os_file_open(node->os, file, OS_OPEN_READ, &found);
        os_file_close(&found);
        if (r == OS_NOT_FOUND)
                r = os_dir_list(node->os, log, note_segment, &has_segment);
        else
                has_segment = true;
        return r < 0 || has_segment ? LIST_STOPPED : 0;
}

/* What cannot be read may be a store (G12). */
bool persistence_node_has_stores(const struct persistence_node *node)
{
        CLEANUP(text_freep) char *stores = text_format("%s/stores", node->path);
        int r = os_dir_list(node->os, stores, note_store, (void *)node);

        return r != 0 && r != OS_NOT_FOUND;
}

int store_directory_open(struct persistence_node *node, const struct persistence_options *o, char **ret_path,
        struct store_file *ret)
{
        CLEANUP(text_freep) char *stores = text_format("%s/stores", node->path);
        struct store_search s = {
                .node = node, .name = o->store_name, .uuid = o->store_uuid, .epoch = o->epoch ? o->epoch : 1};
        int r;

        r = os_dir_list(node->os, stores, store_search_each, &s);
        if (r == LIST_STOPPED)
                r = s.result;
        r = r == OS_NOT_FOUND ? 0 : r;
        if (!r && !s.path) {
                if (o->must_exist || o->read_only)
                        r = PERSISTENCE_NOT_FOUND;
                else
                        r = store_directory_make(&s);
        }
        free(s.half_made);
        if (r) {
                store_file_fini(&s.found);
                free(s.path);
                return r;
        }
        *ret_path = s.path;
        *ret = s.found;
        return 0;
}
