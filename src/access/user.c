/* Users as they are in the log. `$user-<login>` holds one user; its newest event says what he is:
 *
 *   type  $UserCreated, then $UserUpdated; metadata {"by": "admin", "change": "disable"}
 *   body  {"loginName": "ann", "fullName": "Ann", "groups": ["$ops"], "disabled": false,
 *          "hash": "$argon2id$v=19$m=19456,t=2,p=1$...", "generation": 4}
 *
 * "generation" is there when the event changed nothing that others rely on: it is the revision of the last
 * one that did, and what was proved since then stays proved. A user is removed by a soft deletion of his
 * stream, so that one of the same login who comes later has other revisions. A body that is none is a user
 * whom nobody can be. */
#include <stdlib.h>

#include "access/room.h"
#include "base/json_in.h"
#include "base/json_out.h"

struct bytes user_stream(struct buffer *out, struct bytes login)
{
        buffer_clear(out);
        buffer_add_bytes(out, USER_PREFIX);
        buffer_add_bytes(out, login);
        return buffer_bytes(out);
}

/* ---- the body ---- */

void user_to_json(const struct user_fields *f, struct buffer *out)
{
        struct json_out j = {.out = out};

        json_object_begin(&j);
        json_field_bytes(&j, "loginName", f->login);
        json_field_bytes(&j, "fullName", f->full_name);
        json_key(&j, "groups");
        json_array_begin(&j);
        for (unsigned i = 0; i < f->group_count; i++)
                json_bytes(&j, f->groups[i]);
        json_array_end(&j);
        json_field_bool(&j, "disabled", f->is_disabled);
        json_field_string(&j, "hash", f->hash);
        if (f->has_generation)
                json_field_u64(&j, "generation", f->generation);
        json_object_end(&j);
}

static bool read_groups(struct json_in *s, struct user *u)
{
        bool is_empty, has_more;

        u->groups = arena_get(&u->memory, ACCESS_GROUPS_MAX * sizeof *u->groups);
        if (json_in_kind(s) != JSON_ARRAY_IN || !json_in_open(s, '[', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct bytes group;

                if (json_in_kind(s) != JSON_STRING_IN || !json_in_string(s, &u->memory, &group) ||
                        u->group_count == ACCESS_GROUPS_MAX || group_problem(group) ||
                        !json_in_more(s, '[', &has_more))
                        return false;
                u->groups[u->group_count++] = group;
        }
        return true;
}

static bool read_bool(struct json_in *s, bool *ret)
{
        struct bytes word;

        if (json_in_kind(s) != JSON_WORD_IN || !json_in_value(s, &word))
                return false;
        *ret = bytes_equal(word, BYTES_LITERAL("true"));
        return *ret || bytes_equal(word, BYTES_LITERAL("false"));
}

static bool read_text(struct json_in *s, struct user *u, struct bytes *ret)
{
        return json_in_kind(s) == JSON_STRING_IN && json_in_string(s, &u->memory, ret);
}

/* One member; what is not known is passed over. */
static bool read_member(struct json_in *s, struct user *u, struct bytes key, struct bytes *ret_name)
{
        struct bytes value;

        if (bytes_equal(key, BYTES_LITERAL("loginName")))
                return read_text(s, u, ret_name);
        if (bytes_equal(key, BYTES_LITERAL("fullName")))
                return read_text(s, u, &u->full_name) && !full_name_problem(u->full_name);
        if (bytes_equal(key, BYTES_LITERAL("groups")))
                return u->group_count == 0 && read_groups(s, u);
        if (bytes_equal(key, BYTES_LITERAL("disabled")))
                return read_bool(s, &u->is_disabled);
        if (bytes_equal(key, BYTES_LITERAL("hash"))) {
                if (!read_text(s, u, &value) || memchr(value.data, 0, value.size))
                        return false;
                u->hash = arena_string(&u->memory, value);
                return true;
        }
        if (!json_in_value(s, &value))
                return false;
        if (bytes_equal(key, BYTES_LITERAL("generation")) && !bytes_to_number(value, &u->generation))
                return false;
        return true;
}

static bool read_body(struct bytes json, struct user *u, struct bytes *ret_name)
{
        struct json_in s;
        bool is_empty, has_more;

        if (!json_in_is_object(json))
                return false;
        json_in_begin(&s, json, 1);
        if (!json_in_open(&s, '{', &is_empty))
                return false;
        for (has_more = !is_empty; has_more;) {
                struct bytes key;

                if (!json_in_key(&s, &u->memory, &key) || !read_member(&s, u, key, ret_name) ||
                        !json_in_more(&s, '{', &has_more))
                        return false;
        }
        return true;
}

static struct user *user_new(struct bytes login, uint64_t revision, uint64_t time_us)
{
        struct user *u = MEMORY_NEW(struct user);

        u->memory.block_size = 1024;
        u->login = arena_copy(&u->memory, login);
        u->hash = arena_string(&u->memory, BYTES_EMPTY);
        u->revision = u->generation = revision;
        u->updated_us = time_us;
        return u;
}

bool user_parse(struct bytes json, struct bytes login, uint64_t revision, uint64_t time_us, struct user **ret)
{
        struct user *u = user_new(login, revision, time_us);
        struct bytes name = BYTES_EMPTY;

        if (json.size > USER_RECORD_SIZE_MAX)
                json = BYTES_EMPTY;
        json = arena_copy(&u->memory, json); /* what has no escapes is read where it stands */
        if (!read_body(json, u, &name) || !bytes_equal(name, login) || u->generation > revision) {
                user_free(&u);
                return false;
        }
        *ret = u;
        return true;
}

static struct user *user_nobody_can_be(struct bytes login, uint64_t revision, uint64_t time_us)
{
        struct user *u = user_new(login, revision, time_us);

        u->is_disabled = true;
        return u;
}

void user_free(struct user **user)
{
        struct user *u = *user;

        *user = NULL;
        if (!u)
                return;
        principal_release(&u->principal);
        arena_fini(&u->memory);
        free(u);
}

bool user_is_in(const struct user *u, const char *group)
{
        for (unsigned i = 0; i < u->group_count; i++)
                if (bytes_equal_string(u->groups[i], group))
                        return true;
        return false;
}

/* ---- reading ---- */

int newest_event(struct access *a, struct bytes stream, struct arena *memory, struct newest *ret)
{
        struct store_read_options options = {
                .stream = stream, .is_backward = true, .from = FROM_END, .limit = 1};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int r;

        if (!a->store || !store_is_ready(a->store))
                return USER_UNREADABLE;
        r = store_reader_open(a->store, &options, &reader);
        if (r == STORE_READ_NOT_FOUND || r == STORE_READ_DELETED)
                return USER_ABSENT;
        if (!r)
                r = store_reader_next(reader, &item);
        if (!r && item.has_event)
                *ret = (struct newest){.data = arena_copy(memory, item.event.data),
                        .revision = item.event.revision,
                        .time_us = item.event.time_us};
        else
                r = r == STORE_READ_END ? USER_ABSENT : USER_UNREADABLE;
        store_reader_close(&reader);
        return r;
}

/* From the log: 0, USER_ABSENT or USER_UNREADABLE. */
static int user_read(struct access *a, struct bytes login, struct user **ret)
{
        CLEANUP(arena_fini) struct arena memory = {0};
        CLEANUP(buffer_fini) struct buffer stream = {0};
        struct newest newest;
        int r = newest_event(a, user_stream(&stream, login), &memory, &newest);

        if (r)
                return r;
        if (!user_parse(newest.data, login, newest.revision, newest.time_us, ret))
                *ret = user_nobody_can_be(login, newest.revision, newest.time_us);
        return 0;
}

int user_get(struct access *a, struct bytes login, struct user **ret)
{
        struct memo_entry *entry;
        struct user *u;
        int r;

        if (login_problem(login))
                return USER_ABSENT;
        if (!a->is_following)
                memo_clear(&a->users);
        entry = memo_get(&a->users, login);
        if (entry) {
                *ret = CONTAINER_OF(entry, struct user, entry);
                return 0;
        }
        r = user_read(a, login, &u);
        if (r)
                return r == USER_ABSENT ? USER_ABSENT : USER_UNREADABLE;
        u->principal = principal_new(u->login, u->groups, u->group_count, u->generation);
        u->entry.key = u->login;
        u->entry.size = sizeof *u + u->memory.used;
        memo_put(&a->users, &u->entry);
        *ret = u;
        return 0;
}

/* ---- all of them ---- */

struct batch {
        struct buffer names[USERS_BATCH];
        unsigned count;
};

static bool take_name(void *arg, struct bytes name, uint64_t event_count)
{
        struct batch *b = arg;

        (void)event_count;
        buffer_clear(&b->names[b->count]);
        buffer_add_bytes(&b->names[b->count++], name);
        return b->count < USERS_BATCH;
}

static int batch_read(struct access *a, struct bytes after, struct batch *b)
{
        b->count = 0;
        if (!a->store || !store_is_ready(a->store))
                return USER_UNREADABLE;
        return store_list(a->store, NAMES_STREAMS, USER_PREFIX, after, USERS_BATCH, take_name, b)
                       ? USER_UNREADABLE
                       : 0;
}

/* The users of a batch; *ret_goes_on is false when `each` wants no more. */
static int batch_tell(struct access *a, struct batch *b, each_user *each, void *arg, bool *ret_goes_on)
{
        for (unsigned i = 0; i < b->count; i++) {
                struct bytes login = buffer_bytes(&b->names[i]);
                struct user *u;
                int r;

                login = bytes_of(login.data + USER_PREFIX.size, login.size - USER_PREFIX.size);
                r = user_get(a, login, &u);
                if (r == USER_UNREADABLE)
                        return USER_UNREADABLE;
                if (!r && !each(arg, u)) {
                        *ret_goes_on = false;
                        break;
                }
        }
        return 0;
}

int users_each(struct access *a, struct bytes after, each_user *each, void *arg)
{
        struct batch *b = MEMORY_NEW(struct batch);
        struct buffer last = {0};
        bool goes_on = true;
        int r;

        if (after.size)
                user_stream(&last, after);
        do {
                r = batch_read(a, buffer_bytes(&last), b);
                if (r || b->count == 0)
                        break;
                buffer_clear(&last);
                buffer_add_bytes(&last, buffer_bytes(&b->names[b->count - 1]));
                r = batch_tell(a, b, each, arg, &goes_on);
        } while (!r && goes_on && b->count == USERS_BATCH);
        for (unsigned i = 0; i < USERS_BATCH; i++)
                buffer_fini(&b->names[i]);
        buffer_fini(&last);
        free(b);
        return r ? USER_UNREADABLE : 0;
}
