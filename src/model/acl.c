/* Reads ACLs where they stand (json_in), into one arena each. */
#include "model/acl.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/json_in.h"
#include "base/memory.h"

enum { FIRST_BLOCK_SIZE = 256 };

struct acl {
        struct arena memory;
        struct {
                bool is_said;
                unsigned count;
                struct bytes *names;
        } rights[ACL_RIGHTS];
};

static const char *const keys[ACL_RIGHTS] = {
        [ACL_READ] = "$r",
        [ACL_WRITE] = "$w",
        [ACL_DELETE] = "$d",
        [ACL_META_READ] = "$mr",
        [ACL_META_WRITE] = "$mw",
};

static bool is_null(struct bytes value)
{
        return bytes_equal(value, BYTES_LITERAL("null"));
}

/* ---- one right ---- */

static bool read_name(struct json_in *s, struct acl *acl, enum acl_right right)
{
        struct bytes name;

        if (json_in_kind(s) != JSON_STRING_IN || !json_in_string(s, &acl->memory, &name))
                return false;
        if (name.size > ACL_NAME_SIZE_MAX || acl->rights[right].count == ACL_NAMES_MAX)
                return false;
        /* It may stand in the text, which goes away. */
        acl->rights[right].names[acl->rights[right].count++] = arena_copy(&acl->memory, name);
        return true;
}

/* No more names than quotes, so that memory follows what was sent. */
static unsigned names_at_most(struct bytes value)
{
        unsigned n = 0;

        for (size_t i = 0; i < value.size; i++)
                n += value.data[i] == '"';
        return MIN(n / 2, (unsigned)ACL_NAMES_MAX);
}

/* Of a key that comes twice the last counts. */
static bool read_right(struct bytes value, struct acl *acl, enum acl_right right)
{
        struct json_in s;
        bool is_empty, has_more = true;

        acl->rights[right].is_said = !is_null(value);
        acl->rights[right].count = 0;
        if (is_null(value))
                return true;
        acl->rights[right].names = arena_get(&acl->memory, (names_at_most(value) + 1) * sizeof(struct bytes));
        json_in_begin(&s, value, 1);
        if (json_in_kind(&s) == JSON_STRING_IN)
                return read_name(&s, acl, right);
        if (json_in_kind(&s) != JSON_ARRAY_IN || !json_in_open(&s, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;)
                if (!read_name(&s, acl, right) || !json_in_more(&s, '[', &has_more))
                        return false;
        return true;
}

/* ---- objects ---- */

/* Calls `each` for the members of an object; false when it is none, or `each` gave false. */
typedef bool each_member(void *arg, struct bytes key, struct bytes value);
static bool read_members(struct bytes object, each_member *each, void *arg)
{
        CLEANUP(arena_fini) struct arena memory = {.block_size = FIRST_BLOCK_SIZE};
        struct json_in s;
        bool is_empty, has_more;

        json_in_begin(&s, object, 1);
        if (json_in_kind(&s) != JSON_OBJECT_IN || !json_in_open(&s, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct bytes key, value;

                if (!json_in_key(&s, &memory, &key) || !json_in_value(&s, &value) || !each(arg, key, value) ||
                        !json_in_more(&s, '{', &has_more))
                        return false;
        }
        return true;
}

static bool take_right(void *arg, struct bytes key, struct bytes value)
{
        for (unsigned i = 0; i < ACL_RIGHTS; i++)
                if (bytes_equal_string(key, keys[i]))
                        return read_right(value, arg, i);
        return true;
}

/* NULL where the value cannot be read. */
static struct acl *acl_new(struct bytes value)
{
        struct acl *acl;

        if (value.size > ACL_SIZE_MAX)
                return NULL;
        acl = MEMORY_NEW(struct acl);
        acl->memory.block_size = FIRST_BLOCK_SIZE;
        value = arena_copy(&acl->memory, value); /* names without escapes are read where they stand */
        if (!read_members(value, take_right, acl))
                acl_free(&acl);
        return acl;
}

/* What is looked for in a body: the values of some members. */
struct wanted {
        const char *keys[2];
        struct bytes values[2];
};

static bool take_wanted(void *arg, struct bytes key, struct bytes value)
{
        struct wanted *w = arg;

        for (unsigned i = 0; i < COUNT_OF(w->keys); i++)
                if (w->keys[i] && bytes_equal_string(key, w->keys[i]))
                        w->values[i] = is_null(value) ? BYTES_EMPTY : value;
        return true;
}

static bool read_wanted(struct bytes json, struct wanted *w, struct acl **ret_first, struct acl **ret_second)
{
        struct acl **ret[] = {ret_first, ret_second};

        if (json.size == 0)
                return true;
        if (!json_in_is_object(json) || !read_members(json, take_wanted, w))
                return false;
        for (unsigned i = 0; i < COUNT_OF(ret); i++) {
                if (w->values[i].size == 0)
                        continue;
                *ret[i] = acl_new(w->values[i]);
                if (!*ret[i])
                        return false;
        }
        return true;
}

/* ---- contract ---- */

int acl_of_metadata(struct bytes json, struct acl **ret)
{
        struct wanted w = {.keys = {"$acl"}};
        struct acl *acl = NULL, *none = NULL;

        if (!read_wanted(json, &w, &acl, &none)) {
                acl_free(&acl);
                return ACL_UNREADABLE;
        }
        *ret = acl;
        return 0;
}

int acl_of_settings(struct bytes json, struct acl **ret_user, struct acl **ret_system)
{
        struct wanted w = {.keys = {"$userStreamAcl", "$systemStreamAcl"}};
        struct acl *user = NULL, *system = NULL;

        if (!read_wanted(json, &w, &user, &system)) {
                acl_free(&user);
                acl_free(&system);
                return ACL_UNREADABLE;
        }
        *ret_user = user;
        *ret_system = system;
        return 0;
}

bool acl_has(const struct acl *acl, enum acl_right right)
{
        return acl && acl->rights[right].is_said;
}

unsigned acl_count(const struct acl *acl, enum acl_right right)
{
        return acl->rights[right].count;
}

struct bytes acl_name(const struct acl *acl, enum acl_right right, unsigned i)
{
        assert(i < acl->rights[right].count);
        return acl->rights[right].names[i];
}

size_t acl_size(const struct acl *acl)
{
        return acl ? sizeof *acl + acl->memory.used : 0;
}

void acl_free(struct acl **acl)
{
        if (*acl)
                arena_fini(&(*acl)->memory);
        free(*acl);
        *acl = NULL;
}
