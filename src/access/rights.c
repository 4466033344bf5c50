/* Rights to streams. What a stream's metadata says about them is remembered by its name, so that the
 * question, which is asked for every append and read, costs a look at a table; a stream without metadata is
 * remembered too.
 *
 * What cannot be read gives nobody a right but $admins: a damaged body, and one that is no JSON or no ACL. */
#include <stdlib.h>

#include "access/room.h"

struct stream_rights {
        struct memo_entry entry;
        struct acl *acl; /* NULL: its metadata says nothing about rights */
        bool is_unreadable;
        bool is_lost; /* it could not even be read: perhaps it can be next time */
        uint8_t name[];
};

void rights_entry_free(struct memo_entry *entry)
{
        struct stream_rights *s = CONTAINER_OF(entry, struct stream_rights, entry);

        acl_free(&s->acl);
        free(s);
}

void rights_drop(struct access *a, struct bytes stream)
{
        struct memo_entry *entry = memo_get(&a->rights, stream);

        if (entry)
                memo_drop(&a->rights, entry);
}

bool rights_are_said(struct access *a, struct bytes stream)
{
        struct memo_entry *entry = memo_get(&a->rights, stream);

        return entry && (CONTAINER_OF(entry, struct stream_rights, entry)->acl ||
                                CONTAINER_OF(entry, struct stream_rights, entry)->is_unreadable);
}

void rights_drop_settings(struct access *a)
{
        acl_free(&a->settings.user);
        acl_free(&a->settings.system);
        a->settings.is_known = a->settings.is_unreadable = false;
}

/* ---- reading ---- */

static void read_rights(struct access *a, struct bytes stream, struct stream_rights *s)
{
        CLEANUP(arena_fini) struct arena memory = {0};
        CLEANUP(buffer_fini) struct buffer meta = {0};
        struct newest newest;
        int r;

        buffer_add_string(&meta, "$$");
        buffer_add_bytes(&meta, stream);
        r = newest_event(a, buffer_bytes(&meta), &memory, &newest);
        if (r == USER_ABSENT)
                return;
        s->is_lost = r != 0;
        s->is_unreadable = r || acl_of_metadata(newest.data, &s->acl);
}

static const struct stream_rights *rights_get(struct access *a, struct bytes stream)
{
        struct memo_entry *entry;
        struct stream_rights *s;

        if (!a->is_following)
                memo_clear(&a->rights);
        entry = memo_get(&a->rights, stream);
        if (entry && !CONTAINER_OF(entry, struct stream_rights, entry)->is_lost)
                return CONTAINER_OF(entry, struct stream_rights, entry);
        s = memory_new(sizeof *s + stream.size);
        memcpy(s->name, stream.data, stream.size);
        s->entry.key = bytes_of(s->name, stream.size);
        read_rights(a, stream, s);
        s->entry.size = sizeof *s + stream.size + acl_size(s->acl);
        memo_put(&a->rights, &s->entry);
        return s;
}

static void settings_get(struct access *a)
{
        CLEANUP(arena_fini) struct arena memory = {0};
        struct newest newest;
        int r;

        if (a->settings.is_known && a->is_following)
                return;
        rights_drop_settings(a);
        r = newest_event(a, SETTINGS_STREAM, &memory, &newest);
        a->settings.is_known = r == 0 || r == USER_ABSENT;
        if (r == USER_ABSENT)
                return;
        a->settings.is_unreadable = r || acl_of_settings(newest.data, &a->settings.user, &a->settings.system);
}

/* ---- deciding ---- */

static bool is_named(const struct principal *p, const struct acl *acl, enum acl_right right)
{
        for (unsigned i = 0; i < acl_count(acl, right); i++) {
                struct bytes name = acl_name(acl, right, i);

                if (bytes_equal(name, EVERY_USER) || bytes_equal_string(name, p->login))
                        return true;
                for (unsigned k = 0; k < p->group_count; k++)
                        if (bytes_equal_string(name, p->groups[k]))
                                return true;
        }
        return false;
}

/* Where the stream itself says nothing. */
static bool may_by_default(struct access *a, const struct principal *p, enum acl_right right, bool is_system)
{
        const struct acl *acl;

        settings_get(a);
        if (a->settings.is_unreadable)
                return false;
        acl = is_system ? a->settings.system : a->settings.user;
        return acl_has(acl, right) ? is_named(p, acl, right) : !is_system;
}

static bool may(struct access *a, const struct principal *p, enum acl_right right, struct bytes stream)
{
        const struct stream_rights *s;
        bool is_system;

        /* The rights to a metastream are those to the metadata of its stream. */
        if (stream_is_meta(stream)) {
                right = right == ACL_READ || right == ACL_META_READ ? ACL_META_READ : ACL_META_WRITE;
                stream = stream_of_meta(stream);
                if (stream.size == 0 || stream_is_meta(stream))
                        return false;
        }
        if (stream_is_guarded(stream))
                return false;
        is_system = stream_is_system(stream);
        /* There is no such stream, and whoever asked shall learn why. */
        if (!stream_name_is_valid(stream) && !bytes_equal(stream, EVERY_USER))
                return may_by_default(a, p, right, is_system);
        s = rights_get(a, stream);
        if (s->is_unreadable)
                return false;
        return acl_has(s->acl, right) ? is_named(p, s->acl, right) : may_by_default(a, p, right, is_system);
}

/* ---- contract ---- */

static_assert(ACCESS_READ == (int)ACL_READ && ACCESS_WRITE == (int)ACL_WRITE &&
                      ACCESS_DELETE == (int)ACL_DELETE && ACCESS_META_READ == (int)ACL_META_READ &&
                      ACCESS_META_WRITE == (int)ACL_META_WRITE,
        "the same rights");

bool access_may(struct access *a, const struct principal *p, enum access_right right, struct bytes stream)
{
        assert(right < ACCESS_RIGHTS);
        if (!a->is_enforced)
                return true;
        if (p && a->store && (p->is_admin || may(a, p, (enum acl_right)right, stream)))
                return true;
        a->stats.refused++;
        return false;
}

bool access_may_see(struct access *a, const struct principal *p, struct bytes stream)
{
        if (!a->is_enforced || (p && p->is_admin))
                return true;
        return p && !stream_is_guarded(stream);
}

const char *access_right_name(enum access_right right)
{
        static const char *const names[ACCESS_RIGHTS] = {
                [ACCESS_READ] = "read",
                [ACCESS_WRITE] = "write",
                [ACCESS_DELETE] = "delete",
                [ACCESS_META_READ] = "read the metadata",
                [ACCESS_META_WRITE] = "write the metadata",
        };

        return names[right];
}
