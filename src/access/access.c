/* Life, rules, and who was refused. */
#include "access/room.h"

#include <stdlib.h>

enum { DENIED_FACT_US = 1000 * 1000 };

/* ---- life ---- */

static void user_entry_free(struct memo_entry *entry)
{
        struct user *u = CONTAINER_OF(entry, struct user, entry);

        user_free(&u);
}

int access_open(const struct access_options *options, struct access **ret)
{
        struct access *a = MEMORY_NEW(struct access);

        a->os = options->os;
        a->control = options->control;
        a->is_enforced = options->is_enforced;
        a->generation = 1;
        secret_init(a);
        memo_init(&a->users, USERS_REMEMBERED_MAX, 0, user_entry_free);
        memo_init(&a->credentials, CREDENTIALS_REMEMBERED_MAX, 0, credential_free);
        memo_init(&a->rights, RIGHTS_REMEMBERED_MAX, RIGHTS_SIZE_MAX, rights_entry_free);
        memo_init(&a->slowed, SLOWED_MAX, 0, slowing_entry_free);
        list_init(&a->hashes);
        list_init(&a->attempts);
        list_init(&a->changes);
        *ret = a;
        return 0;
}

int access_serve(struct access *a, struct store *store, struct notification *notification)
{
        assert(!a->store);
        assert(store);
        a->store = store;
        a->notification = notification;
        if (a->is_enforced)
                follow_start(a);
        return 0;
}

void access_stop(struct access *a)
{
        first_stop(a);
        changes_stop(a);
        logins_stop(a);
        follow_stop(a);
        a->store = NULL;
        a->notification = NULL;
}

static void access_free(struct access *a)
{
        memo_fini(&a->users);
        memo_fini(&a->credentials);
        memo_fini(&a->rights);
        memo_fini(&a->slowed);
        rights_drop_settings(a);
        first_free(a);
        free(a->shown_groups);
        free(a->shown_strings);
        secret_fini(a);
        explicit_bzero(&a->key, sizeof a->key);
        free(a);
}

void access_close(struct access **access)
{
        struct access *a = *access;

        *access = NULL;
        if (!a)
                return;
        access_stop(a);
        changes_close(a);
        a->is_closed = true;
        if (a->jobs == 0)
                access_free(a);
}

void access_job_begun(struct access *a)
{
        a->jobs++;
}

void access_job_ended(struct access *a)
{
        assert(a->jobs > 0);
        if (--a->jobs == 0 && a->is_closed)
                access_free(a);
}

bool access_is_enforced(const struct access *a)
{
        return a->is_enforced;
}

/* ---- who ---- */

uint64_t access_generation(const struct access *a)
{
        return a->generation;
}

bool access_is_current(struct access *a, const struct principal *principal)
{
        struct principal *p = (struct principal *)principal; /* to note when it was found so */
        struct user *u;

        if (!p || !a->is_enforced)
                return true;
        if (p->until_us && os_turn_time(a->os).wall_us >= p->until_us)
                return false;
        if (p->checked_at == a->generation && a->is_following)
                return true;
        if (user_get(a, bytes_of_string(p->login), &u) || u->is_disabled ||
                u->generation != p->user_generation)
                return false;
        p->checked_at = a->generation;
        return true;
}

bool access_allows(struct access *a, const struct principal *p, enum access_rule rule)
{
        bool is_allowed = false;

        switch (rule) {
        case ACCESS_UNRULED:
                break;
        case ACCESS_ANYONE:
                is_allowed = true;
                break;
        case ACCESS_USER:
        case ACCESS_STREAM: /* no stream grants anything to strangers */
                is_allowed = p != NULL;
                break;
        case ACCESS_OPS:
                is_allowed = p && (p->is_ops || p->is_admin);
                break;
        case ACCESS_ADMINS:
                is_allowed = p && p->is_admin;
                break;
        }
        is_allowed |= !a->is_enforced && rule != ACCESS_UNRULED;
        a->stats.refused += !is_allowed;
        return is_allowed;
}

/* ---- facts and numbers ---- */

void access_note_denied(struct access *a, struct bytes known_login, const char *peer, const char *why)
{
        uint64_t now_us = os_turn_time(a->os).monotonic_us;
        struct fact_payload payload = {0};

        a->denied_untold++;
        if (a->denied_told_us && now_us - a->denied_told_us < DENIED_FACT_US)
                return;
        payload.count = a->denied_untold;
        /* The login of somebody unknown may be a password in the wrong field. */
        fact_set_text(&payload, "%.*s from %s: %s", known_login.size ? (int)known_login.size : 7,
                known_login.size ? (const char *)known_login.data : "unknown", peer, why);
        control_publish(a->control, FACT_login_denied, &payload);
        a->denied_told_us = now_us;
        a->denied_untold = 0;
}

void access_stats(const struct access *a, struct access_stats *ret)
{
        *ret = a->stats;
}

/* ---- users, shown ---- */

/* Strings of the user that live as long as `a->shown_strings`. */
static void show(struct access *a, const struct user *u, struct access_user *ret)
{
        size_t size = u->login.size + 1 + u->full_name.size + 1;
        char *at;

        for (unsigned i = 0; i < u->group_count; i++)
                size += u->groups[i].size + 1;
        a->shown_strings = memory_resize(a->shown_strings, size);
        a->shown_groups = memory_resize(a->shown_groups, (u->group_count + 1) * sizeof *a->shown_groups);
        at = a->shown_strings;
        for (unsigned i = 0; i < u->group_count + 2; i++) {
                struct bytes b = i == 0 ? u->login : i == 1 ? u->full_name : u->groups[i - 2];

                if (b.size)
                        memcpy(at, b.data, b.size);
                at[b.size] = 0;
                if (i >= 2)
                        a->shown_groups[i - 2] = at;
                at += b.size + 1;
        }
        *ret = (struct access_user){.login = a->shown_strings,
                .full_name = a->shown_strings + u->login.size + 1,
                .groups = a->shown_groups,
                .group_count = u->group_count,
                .is_disabled = u->is_disabled,
                .updated_us = u->updated_us};
}

int access_user(struct access *a, struct bytes login, struct access_user *ret)
{
        struct user *u;
        int r = user_get(a, login, &u);

        if (r)
                return r == USER_ABSENT ? ACCESS_DENIED : ACCESS_NOT_READY;
        show(a, u, ret);
        return 0;
}

struct showing {
        struct access *access;
        access_each_user_fn *each;
        void *arg;
};

static bool show_one(void *arg, struct user *u)
{
        struct showing *s = arg;
        struct access_user shown;

        show(s->access, u, &shown);
        return s->each(s->arg, &shown);
}

int access_each_user(struct access *a, struct bytes after, access_each_user_fn *each, void *arg)
{
        struct showing s = {a, each, arg};

        return users_each(a, after, show_one, &s) ? ACCESS_NOT_READY : 0;
}
