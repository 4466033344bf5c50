/* What the leader makes at its first start: the key of tokens, and the first administrator where nobody could
 * be one. Each step looks at the log first, so that it can be done again after whatever went wrong, on
 * whichever node leads then. */
#include <stdlib.h>

#include "access/room.h"
#include "base/base64.h"
#include "base/json_out.h"

/* 26 characters of 5 bits: 130 bits, of letters and digits that are not taken for each other. */
enum { PASSWORD_LENGTH = 26 };
static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";
static_assert(sizeof alphabet - 1 == 32, "5 bits each");
#define RETRY_US ((uint64_t)300 * 1000)

struct first {
        struct access *access;
        struct os_timer retry;
        char password[PASSWORD_LENGTH + 1]; /* of the administrator who is being made; "": none */
        struct hash_job *job;
        bool is_compatible;
        bool is_busy; /* an answer or the timer will go on */
        bool is_stopped;
        access_first_done *done; /* NULL: nobody asks */
        void *arg;
};

static void step(struct first *f);

static void end(struct first *f, bool is_made)
{
        access_first_done *done = f->done;

        f->done = NULL;
        if (done)
                done(f->arg, is_made ? f->password : NULL);
        explicit_bzero(f->password, sizeof f->password);
}

/* What failed may go well later, as long as this node leads. */
static void again(struct first *f, uint64_t after_us)
{
        f->is_busy = !f->is_stopped;
        if (!f->is_stopped)
                os_timer_start(f->access->os, &f->retry, after_us);
}

static void on_retry(struct os_timer *timer)
{
        struct first *f = timer->arg;

        f->is_busy = false;
        step(f);
}

/* ---- the key ---- */

static void key_made(void *arg, const struct store_append_result *result)
{
        struct first *f = arg;

        again(f, result->verdict == STORE_OK ? 0 : RETRY_US); /* looks whether it is there, whoever made it */
        access_job_ended(f->access);
}

static void make_key(struct first *f)
{
        struct access *a = f->access;
        uint8_t key[SECRET_SIZE];
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        struct store_append_stream stream = {.stream = KEY_STREAM, .expected = {.kind = EXPECTED_NONE}};
        struct store_append_event event = {
                .draft = {.type = BYTES_LITERAL("$nilo-access-key"), .content_type = CONTENT_JSON}};
        struct store_append append = {
                .streams = &stream, .stream_count = 1, .events = &event, .event_count = 1};

        os_random(a->os, key, sizeof key);
        json_object_begin(&j);
        json_key(&j, "key");
        json_base64(&j, bytes_of(key, sizeof key));
        json_object_end(&j);
        event.draft.data = buffer_bytes(&body);
        access_new_id(a, &event.draft.id);
        append.write_id = control_next_write_id(a->control);
        append.deadline_us = os_monotonic_us(a->os) + CHANGE_US;
        append.requires_leader = true;
        f->is_busy = true;
        access_job_begun(a);
        store_append(a->store, &append, key_made, f);
        explicit_bzero(key, sizeof key);
        buffer_wipe(&body);
}

/* ---- the administrator ---- */

static bool is_admin(void *arg, struct user *u)
{
        bool *found = arg;

        *found = !u->is_disabled && hash_is_usable(u->hash) && user_is_in(u, GROUP_ADMINS);
        return !*found;
}

static void make_user(struct first *f, const char *login, const char *full_name, const char *group,
        access_change_done *done)
{
        struct bytes groups[] = {bytes_of_string(group)};
        struct access_change change = {.kind = ACCESS_CREATE,
                .login = bytes_of_string(login),
                .full_name = bytes_of_string(full_name),
                .groups = groups,
                .group_count = 1,
                .password = bytes_of_string(f->password)};

        f->is_busy = true;
        change_begin(f->access, &change, true, done, f);
}

static void ops_made(void *arg, enum access_verdict verdict, const char *problem)
{
        struct first *f = arg;

        (void)problem;
        f->is_busy = false;
        if (verdict == ACCESS_UNAVAILABLE && f->done && f->access->store &&
                store_is_leading(f->access->store))
                again(f, RETRY_US);
        else
                end(f, true);
}

static void admin_is_made(struct first *f)
{
        struct user *u;

        f->is_busy = false;
        if (f->is_compatible && user_get(f->access, BYTES_LITERAL("ops"), &u) == USER_ABSENT)
                make_user(f, "ops", "KurrentDB Operations", GROUP_OPS, ops_made);
        else
                end(f, true);
}

static void admin_made(void *arg, enum access_verdict verdict, const char *problem)
{
        struct first *f = arg;

        (void)problem;
        if (verdict == ACCESS_CHANGED)
                admin_is_made(f);
        else
                again(f, RETRY_US); /* another node was faster, or it cannot be had yet, or it is not known */
}

/* Is the administrator who is there the one of this password, of whom no answer came? */
static void compared(struct hash_job *job, void *arg)
{
        struct first *f = arg;

        f->job = NULL;
        f->is_busy = false;
        if (job->is_match)
                admin_is_made(f);
        else
                end(f, false);
}

static void make_password(struct first *f)
{
        uint8_t chance[PASSWORD_LENGTH];

        if (f->is_compatible) {
                memcpy(f->password, "changeit", sizeof "changeit");
                return;
        }
        os_random(f->access->os, chance, sizeof chance);
        for (unsigned i = 0; i < PASSWORD_LENGTH; i++)
                f->password[i] = alphabet[chance[i] & 31];
        f->password[PASSWORD_LENGTH] = 0;
        explicit_bzero(chance, sizeof chance);
}

static void step_admin(struct first *f)
{
        struct access *a = f->access;
        struct user *u;
        bool is_found = false;
        int r = users_each(a, BYTES_EMPTY, is_admin, &is_found);

        if (!r)
                r = user_get(a, BYTES_LITERAL("admin"), &u);
        if (r == USER_UNREADABLE) {
                again(f, RETRY_US);
                return;
        }
        if (!r && f->password[0]) {
                f->job = hash_compare(a, u->hash, bytes_of_string(f->password), compared, f);
                f->is_busy = f->job != NULL;
                if (!f->job)
                        again(f, RETRY_US);
        } else if (!r || is_found) {
                end(f, false);
        } else {
                if (!f->password[0])
                        make_password(f);
                make_user(f, "admin", "KurrentDB Administrator", GROUP_ADMINS, admin_made);
        }
}

static void step(struct first *f)
{
        CLEANUP(arena_fini) struct arena memory = {0};
        struct access *a = f->access;
        struct newest newest;
        int r;

        if (!f->done || !a->store || !store_is_leading(a->store)) {
                end(f, false);
                return;
        }
        r = newest_event(a, KEY_STREAM, &memory, &newest);
        if (r == USER_ABSENT)
                make_key(f);
        else if (r)
                again(f, RETRY_US);
        else
                step_admin(f);
}

/* ---- contract ---- */

void access_make_first_users(struct access *a, bool is_compatible, access_first_done *done, void *arg)
{
        struct first *f = a->first;

        if (!f) {
                f = a->first = MEMORY_NEW(struct first);
                f->access = a;
                f->retry = (struct os_timer){.fn = on_retry, .arg = f};
        }
        if (f->done) /* its answer is given by this one */
                f->done(f->arg, NULL);
        f->is_compatible = is_compatible;
        f->done = done;
        f->arg = arg;
        if (!f->is_busy)
                again(f, 0);
}

void first_stop(struct access *a)
{
        struct first *f = a->first;

        if (!f)
                return;
        f->is_stopped = true;
        os_timer_stop(&f->retry);
        hash_job_drop(&f->job);
        end(f, false);
}

void first_free(struct access *a)
{
        free(a->first);
        a->first = NULL;
}
