/* Changes of users. Each is one append that expects the user as he was looked at, so of two at the same time
 * one is told to look again. Whatever takes an administrator away expects another one too, in the same
 * append: two nodes cannot take the last two. */
#include <stdlib.h>

#include "access/room.h"
#include "base/json_out.h"

enum { CHANGES_MAX = 256 };

struct change {
        struct list link;
        struct access *access;
        enum access_change_kind kind;
        struct arena memory;
        struct bytes login;
        struct bytes full_name;
        struct bytes *groups;
        unsigned group_count;
        struct bytes by;        /* empty: the server */
        struct buffer password; /* wiped when it ends */
        struct hash_job *job;
        uint64_t revision; /* of the user who was looked at */
        bool is_appending;
        access_change_done *done;
        void *arg;
};

static const struct {
        const char *name; /* in the event's metadata */
        const char *told; /* in the fact */
} kinds[] = {
        [ACCESS_CREATE] = {"create", "created"},
        [ACCESS_UPDATE] = {"update", "updated"},
        [ACCESS_REMOVE] = {"remove", "removed"},
        [ACCESS_ENABLE] = {"enable", "enabled"},
        [ACCESS_DISABLE] = {"disable", "disabled"},
        [ACCESS_CHANGE_PASSWORD] = {"change-password", "password changed"},
        [ACCESS_RESET_PASSWORD] = {"reset-password", "password reset"},
};

static void change_free(struct change *c)
{
        hash_job_drop(&c->job);
        list_remove(&c->link);
        buffer_wipe(&c->password);
        arena_fini(&c->memory);
        free(c);
}

static void change_end(struct change *c, enum access_verdict verdict, const char *problem)
{
        access_change_done *done = c->done;
        void *arg = c->arg;

        change_free(c);
        if (done)
                done(arg, verdict, problem);
}

static bool sets_password(enum access_change_kind kind)
{
        return kind == ACCESS_CREATE || kind == ACCESS_CHANGE_PASSWORD || kind == ACCESS_RESET_PASSWORD;
}

/* ---- the append ---- */

static void publish(const struct change *c)
{
        CLEANUP(buffer_fini) struct buffer stream = {0};
        struct fact_payload payload = {0};
        struct bytes name = user_stream(&stream, c->login);

        fact_set_stream(&payload, name, name_hash(name));
        fact_set_text(&payload, "%s by %.*s", kinds[c->kind].told, c->by.size ? (int)c->by.size : 10,
                c->by.size ? (const char *)c->by.data : "the server");
        control_publish(c->access->control, FACT_user_changed, &payload);
}

enum access_verdict verdict_of(enum store_verdict verdict)
{
        switch (verdict) {
        case STORE_OK:
                return ACCESS_CHANGED;
        case STORE_CONFLICT:
                return ACCESS_CONFLICT;
        case STORE_STREAM_DELETED:
        case STORE_INVALID:
        case STORE_TOO_LARGE:
                return ACCESS_INVALID;
        case STORE_UNKNOWN:
                return ACCESS_UNKNOWN;
        case STORE_BUSY:
        case STORE_FULL:
        case STORE_NOT_READY:
        case STORE_NOT_LEADER:
        case STORE_CORRUPT:
                break;
        }
        return ACCESS_UNAVAILABLE;
}

static void appended(void *arg, const struct store_append_result *result)
{
        struct change *c = arg;
        struct access *a = c->access;
        enum access_verdict verdict = verdict_of(result->verdict);
        const char *problem = result->problem;

        if (verdict == ACCESS_CONFLICT && c->kind == ACCESS_CREATE)
                verdict = ACCESS_USER_EXISTS;
        if (result->verdict == STORE_STREAM_DELETED)
                problem = "the stream of this user was tombstoned: the login cannot be used again";
        if (verdict == ACCESS_CHANGED || verdict == ACCESS_UNKNOWN)
                follow_user_changed(c->access, c->login);
        if (verdict == ACCESS_CHANGED)
                publish(c);
        change_end(c, verdict, problem);
        access_job_ended(a);
}

void access_new_id(struct access *a, struct event_id *ret)
{
        os_random(a->os, ret->bytes, sizeof ret->bytes);
        event_id_stamp_random(ret);
}

/* The user's event, with who asked for it. `guard`: the other administrator, NULL: none is needed. */
static void append(struct change *c, struct bytes type, struct bytes body, struct expected expected,
        const struct user *guard)
{
        CLEANUP(buffer_fini) struct buffer name = {0};
        CLEANUP(buffer_fini) struct buffer guard_name = {0};
        CLEANUP(buffer_fini) struct buffer meta_name = {0};
        CLEANUP(buffer_fini) struct buffer metadata = {0};
        struct json_out j = {.out = &metadata};
        struct store_append_stream streams[3] = {
                {.stream = user_stream(&name, c->login), .expected = expected}};
        struct store_append_event event = {
                .draft = {.type = type, .content_type = CONTENT_JSON, .data = body}};
        struct store_append append = {
                .streams = streams, .stream_count = 1, .events = &event, .event_count = 1};
        struct access *a = c->access;

        json_object_begin(&j);
        if (c->by.size)
                json_field_bytes(&j, "by", c->by);
        json_field_string(&j, "change", kinds[c->kind].name);
        json_object_end(&j);
        event.draft.metadata = buffer_bytes(&metadata);
        access_new_id(a, &event.draft.id);
        if (guard)
                streams[append.stream_count++] =
                        (struct store_append_stream){.stream = user_stream(&guard_name, guard->login),
                                .expected = {.kind = EXPECTED_EXACT, .revision = guard->revision}};
        if (c->kind == ACCESS_REMOVE) {
                buffer_add_string(&meta_name, "$$");
                buffer_add_bytes(&meta_name, buffer_bytes(&name));
                event.stream = append.stream_count;
                streams[append.stream_count++] = (struct store_append_stream){
                        .stream = buffer_bytes(&meta_name), .expected = {.kind = EXPECTED_ANY}};
        }
        append.write_id = control_next_write_id(a->control);
        append.deadline_us = os_monotonic_us(a->os) + CHANGE_US;
        c->is_appending = true;
        access_job_begun(a);
        store_append(a->store, &append, appended, c);
}

/* ---- administrators ---- */

struct other_admin {
        struct bytes than;
        struct bytes login; /* of the one found */
        struct arena memory;
};

static bool is_other_admin(void *arg, struct user *u)
{
        struct other_admin *o = arg;

        if (u->is_disabled || !u->hash[0] || !user_is_in(u, GROUP_ADMINS) || bytes_equal(u->login, o->than))
                return true;
        o->login = arena_copy(&o->memory, u->login);
        return false;
}

/* Another administrator than this one. 0, USER_ABSENT or USER_UNREADABLE. */
static int find_other_admin(struct access *a, struct bytes than, struct user **ret)
{
        struct other_admin o = {.than = than};
        int r = users_each(a, BYTES_EMPTY, is_other_admin, &o);

        if (!r)
                r = o.login.size ? user_get(a, o.login, ret) : USER_ABSENT;
        arena_fini(&o.memory);
        return r;
}

static bool is_acting_admin(const struct user *u)
{
        return !u->is_disabled && user_is_in(u, GROUP_ADMINS);
}

static bool names_admins(const struct change *c)
{
        for (unsigned i = 0; i < c->group_count; i++)
                if (bytes_equal_string(c->groups[i], GROUP_ADMINS))
                        return true;
        return false;
}

/* ---- what changes ---- */

static bool has_same_groups(const struct change *c, const struct user *u)
{
        if (c->group_count != u->group_count)
                return false;
        for (unsigned i = 0; i < c->group_count; i++)
                if (!bytes_equal(c->groups[i], u->groups[i]))
                        return false;
        return true;
}

/* The change as it would leave the user; false where nothing changes. */
static bool apply(const struct change *c, const struct user *u, const char *phc, struct user_fields *f)
{
        *f = (struct user_fields){.login = c->login,
                .full_name = u->full_name,
                .groups = u->groups,
                .group_count = u->group_count,
                .hash = phc ? phc : u->hash,
                .is_disabled = u->is_disabled};
        switch (c->kind) {
        case ACCESS_UPDATE:
                f->full_name = c->full_name;
                f->groups = c->groups;
                f->group_count = c->group_count;
                f->has_generation = has_same_groups(c, u);
                f->generation = u->generation;
                return !f->has_generation || !bytes_equal(c->full_name, u->full_name);
        case ACCESS_ENABLE:
        case ACCESS_DISABLE:
                f->is_disabled = c->kind == ACCESS_DISABLE;
                return f->is_disabled != u->is_disabled;
        case ACCESS_CREATE:
        case ACCESS_REMOVE:
        case ACCESS_CHANGE_PASSWORD:
        case ACCESS_RESET_PASSWORD:
                break;
        }
        return true;
}

static bool takes_admin(const struct change *c, const struct user *u)
{
        return is_acting_admin(u) && (c->kind == ACCESS_REMOVE || c->kind == ACCESS_DISABLE ||
                                             (c->kind == ACCESS_UPDATE && !names_admins(c)));
}

static void create(struct change *c, const char *phc)
{
        CLEANUP(buffer_fini) struct buffer body = {0};
        struct user_fields f = {.login = c->login,
                .full_name = c->full_name,
                .groups = c->groups,
                .group_count = c->group_count,
                .hash = phc};

        user_to_json(&f, &body);
        append(c, BYTES_LITERAL("$UserCreated"), buffer_bytes(&body),
                (struct expected){.kind = EXPECTED_NONE}, NULL);
}

/* Of a user who is there and is as he was looked at. */
static void change_user(struct change *c, const struct user *u, const char *phc)
{
        CLEANUP(buffer_fini) struct buffer body = {0};
        struct expected expected = {.kind = EXPECTED_EXACT, .revision = u->revision};
        struct bytes type = BYTES_LITERAL("$UserUpdated");
        struct user_fields f;
        struct user *guard = NULL;
        bool needs_guard = takes_admin(c, u);
        int r = 0;

        if (!apply(c, u, phc, &f)) {
                change_end(c, ACCESS_CHANGED, "");
                return;
        }
        user_to_json(&f, &body); /* before another user is looked up: this one may have to go from memory */
        if (needs_guard)
                r = find_other_admin(c->access, c->login, &guard);
        if (r) {
                if (r == USER_ABSENT)
                        change_end(c, ACCESS_LAST_ADMIN, "it would leave no enabled user of $admins");
                else
                        change_end(c, ACCESS_UNAVAILABLE, "the users cannot be read");
                return;
        }
        if (c->kind == ACCESS_REMOVE) {
                buffer_clear(&body);
                buffer_add_string(&body, "{\"$tb\":9223372036854775807}");
                type = EVENT_TYPE_METADATA;
        }
        append(c, type, buffer_bytes(&body), expected, guard);
}

/* With the hash where there is one. */
static void carry_out(struct change *c, const char *phc)
{
        struct user *u;
        int r = user_get(c->access, c->login, &u);

        if (r == USER_UNREADABLE)
                change_end(c, ACCESS_UNAVAILABLE, "the user cannot be read");
        else if (c->kind == ACCESS_CREATE)
                create(c, phc);
        else if (r || u->revision != c->revision)
                change_end(c, ACCESS_CONFLICT, "the user was changed meanwhile");
        else
                change_user(c, u, phc);
}

/* ---- passwords ---- */

static void made(struct hash_job *job, void *arg)
{
        struct change *c = arg;

        c->job = NULL;
        if (job->has_failed)
                change_end(c, ACCESS_UNAVAILABLE, "there is no memory to hash the password");
        else
                carry_out(c, job->phc);
}

static void begin_hash(struct change *c)
{
        c->job = hash_make(c->access, buffer_bytes(&c->password), made, c);
        if (!c->job)
                change_end(c, ACCESS_UNAVAILABLE, "too many passwords are being checked");
}

/* Tries of the current password are slowed as logins are, all addresses together: who tries is a user
 * already. */
#define CHANGE_PEER "its user"

static void compared(struct hash_job *job, void *arg)
{
        struct change *c = arg;

        c->job = NULL;
        if (job->has_failed) {
                change_end(c, ACCESS_UNAVAILABLE, "there is no memory to check the password");
        } else if (!job->is_match) {
                c->access->stats.denied++;
                change_end(c, ACCESS_WRONG_PASSWORD, "the current password is wrong");
        } else {
                slowing_forget(c->access, c->login, CHANGE_PEER);
                begin_hash(c);
        }
}

static void begin_compare(struct change *c, const struct user *u, struct bytes current)
{
        if (current.size > ACCESS_PASSWORD_SIZE_MAX) {
                change_end(c, ACCESS_WRONG_PASSWORD, "the current password is wrong");
                return;
        }
        if (hashes_are_full(c->access)) {
                change_end(c, ACCESS_UNAVAILABLE, "too many passwords are being checked");
                return;
        }
        if (!slowing_try(c->access, c->login, CHANGE_PEER)) {
                c->access->stats.slowed++;
                change_end(c, ACCESS_UNAVAILABLE, "too many wrong passwords: wait some seconds");
                return;
        }
        c->job = hash_compare(c->access, u->hash, current, compared, c);
}

/* ---- contract ---- */

static const char *problem_of(const struct access_change *change, bool is_compatible)
{
        const char *problem = login_problem(change->login);
        bool has_names = change->kind == ACCESS_CREATE || change->kind == ACCESS_UPDATE;

        if (!problem && has_names)
                problem = full_name_problem(change->full_name);
        if (!problem && has_names && change->group_count > ACCESS_GROUPS_MAX)
                problem = "a user has at most 32 groups";
        for (unsigned i = 0; !problem && has_names && i < change->group_count; i++)
                problem = group_problem(change->groups[i]);
        if (!problem && sets_password(change->kind))
                problem = password_problem(change->password, is_compatible);
        return problem;
}

static bool is_among(struct bytes group, const struct bytes *groups, unsigned count)
{
        for (unsigned i = 0; i < count; i++)
                if (bytes_equal(group, groups[i]))
                        return true;
        return false;
}

static struct change *change_new(
        struct access *a, const struct access_change *change, access_change_done *done, void *arg)
{
        struct change *c = MEMORY_NEW(struct change);

        c->access = a;
        c->kind = change->kind;
        c->memory.block_size = 1024;
        c->login = arena_copy(&c->memory, change->login);
        c->full_name = arena_copy(&c->memory, change->full_name);
        if (change->by)
                c->by = arena_copy(&c->memory, bytes_of_string(change->by->login));
        c->groups = arena_get(&c->memory, (change->group_count + 1) * sizeof *c->groups);
        for (unsigned i = 0; i < change->group_count; i++)
                if (!is_among(change->groups[i], c->groups, c->group_count))
                        c->groups[c->group_count++] = arena_copy(&c->memory, change->groups[i]);
        if (sets_password(change->kind)) {
                buffer_reserve(&c->password, change->password.size + 1);
                buffer_add_bytes(&c->password, change->password);
        }
        c->done = done;
        c->arg = arg;
        list_add_last(&a->changes, &c->link);
        return c;
}

static unsigned change_count(const struct access *a)
{
        unsigned n = 0;

        LIST_EACH (at, &a->changes)
                n++;
        return n;
}

void access_change(struct access *a, const struct access_change *change, access_change_done *done, void *arg)
{
        change_begin(a, change, false, done, arg);
}

void change_begin(struct access *a, const struct access_change *change, bool is_compatible,
        access_change_done *done, void *arg)
{
        const char *problem = problem_of(change, is_compatible);
        struct user *u = NULL;
        struct change *c;
        int r;

        if (problem) {
                done(arg, ACCESS_INVALID, problem);
                return;
        }
        r = user_get(a, change->login, &u);
        if (r == USER_UNREADABLE) {
                done(arg, ACCESS_UNAVAILABLE,
                        a->store ? "the user cannot be read" : "the server is starting or stopping");
        } else if (change_count(a) >= CHANGES_MAX) {
                done(arg, ACCESS_UNAVAILABLE, "too many users are being changed");
        } else if (u && change->kind == ACCESS_CREATE) {
                done(arg, ACCESS_USER_EXISTS, "there is a user of this login");
        } else if (!u && change->kind != ACCESS_CREATE) {
                done(arg, ACCESS_USER_NOT_FOUND, "there is no user of this login");
        } else {
                c = change_new(a, change, done, arg);
                c->revision = u ? u->revision : 0;
                if (change->kind == ACCESS_CHANGE_PASSWORD)
                        begin_compare(c, u, change->current_password);
                else if (sets_password(change->kind))
                        begin_hash(c);
                else
                        carry_out(c, NULL);
        }
}

void changes_stop(struct access *a)
{
        struct list waiting;

        list_init(&waiting);
        LIST_EACH_SAFE (at, &a->changes) {
                struct change *c = CONTAINER_OF(at, struct change, link);

                if (!c->is_appending) {
                        list_remove(&c->link);
                        list_add_last(&waiting, &c->link);
                }
        }
        while (!list_is_empty(&waiting))
                change_end(CONTAINER_OF(waiting.next, struct change, link), ACCESS_UNAVAILABLE,
                        "the server is stopping");
}

void changes_close(struct access *a)
{
        LIST_EACH (at, &a->changes)
                CONTAINER_OF(at, struct change, link)->done = NULL;
}
