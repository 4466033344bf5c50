/* Who sends an Authorization header.
 *
 * Clients send their password with every call. What was proved is remembered for some minutes, by a keyed
 * hash of the credentials whose key dies with the process: so neither passwords nor tokens are kept, and a
 * call costs that hash. What is remembered is compared with the user as he is now, so a change of him counts
 * at once.
 *
 * Calls with the same credentials that come while these are checked wait for the one check; otherwise the
 * start of a client with many calls would fill the queue. */
#include <stdlib.h>
#include <strings.h>

#include "access/room.h"
#include "base/base64.h"

enum {
        BASIC_SIZE_MAX = ACCESS_LOGIN_SIZE_MAX + 1 + ACCESS_PASSWORD_SIZE_MAX,
        AUTHORIZATION_SIZE_MAX = 2048,
};

struct credential {
        struct memo_entry entry;
        uint8_t key[TLS_HMAC_SIZE];
        struct principal *principal;
        uint64_t until_us; /* monotonic */
};

/* Credentials that are being checked. */
struct attempt {
        struct list link;
        struct access *access;
        struct list logins; /* who waits for it */
        struct hash_job *job;
        uint8_t key[TLS_HMAC_SIZE];
        char *login;
        char *peer;
        bool is_known; /* there is such a user, as he was then: */
        uint64_t generation;
};

void credential_free(struct memo_entry *entry)
{
        struct credential *c = CONTAINER_OF(entry, struct credential, entry);

        principal_release(&c->principal);
        free(c);
}

/* ---- what is remembered ---- */

static void remember(struct access *a, const uint8_t key[TLS_HMAC_SIZE], struct principal *p)
{
        struct credential *c = MEMORY_NEW(struct credential);

        memcpy(c->key, key, sizeof c->key);
        c->entry.key = bytes_of(c->key, sizeof c->key);
        c->entry.size = sizeof *c;
        c->principal = principal_hold(p);
        c->until_us = os_turn_time(a->os).monotonic_us + CREDENTIALS_US;
        memo_put(&a->credentials, &c->entry);
}

/* NULL: not remembered, or not true any more. */
static struct principal *remembered(struct access *a, const uint8_t key[TLS_HMAC_SIZE])
{
        struct memo_entry *entry = memo_get(&a->credentials, bytes_of(key, TLS_HMAC_SIZE));
        struct credential *c;

        if (!entry)
                return NULL;
        c = CONTAINER_OF(entry, struct credential, entry);
        if (os_turn_time(a->os).monotonic_us < c->until_us && access_is_current(a, c->principal))
                return principal_hold(c->principal);
        memo_drop(&a->credentials, entry);
        return NULL;
}

void logins_forget(struct access *a, struct bytes login)
{
        LIST_EACH_SAFE (at, &a->credentials.used) {
                struct credential *c = CONTAINER_OF(at, struct credential, entry.link);

                if (bytes_equal_string(login, c->principal->login))
                        memo_drop(&a->credentials, &c->entry);
        }
}

/* ---- checking ---- */

static void attempt_free(struct attempt *t)
{
        assert(list_is_empty(&t->logins));
        hash_job_drop(&t->job);
        list_remove(&t->link);
        free(t->login);
        free(t->peer);
        free(t);
}

/* Tells everybody who waits. They may end others of them, or ask again. */
static void attempt_settle(struct attempt *t, int outcome, struct principal *p)
{
        while (!list_is_empty(&t->logins)) {
                struct access_login *login = CONTAINER_OF(t->logins.next, struct access_login, link);

                list_remove(&login->link);
                login->attempt = NULL;
                login->done(login, outcome, principal_hold(p));
        }
}

static int judge(struct attempt *t, const struct hash_job *job, struct principal **ret)
{
        struct access *a = t->access;
        struct user *u;
        int r;

        if (job->has_failed)
                return ACCESS_BUSY;
        r = user_get(a, bytes_of_string(t->login), &u);
        if (r == USER_UNREADABLE)
                return ACCESS_NOT_READY;
        /* He may have been changed while the hash was computed. */
        if (r || !t->is_known || !job->is_match || u->is_disabled || u->generation != t->generation)
                return ACCESS_DENIED;
        *ret = principal_hold(u->principal);
        return 0;
}

static void checked(struct hash_job *job, void *arg)
{
        struct attempt *t = arg;
        struct access *a = t->access;
        struct principal *p = NULL;
        int outcome = judge(t, job, &p);

        t->job = NULL;
        list_remove(&t->link); /* who asks from now on begins anew */
        if (!outcome) {
                a->stats.logins++;
                slowing_forget(a, bytes_of_string(t->login), t->peer);
                remember(a, t->key, p);
        } else if (outcome == ACCESS_DENIED) {
                a->stats.denied++;
                access_note_denied(a, t->is_known ? bytes_of_string(t->login) : BYTES_EMPTY, t->peer,
                        "wrong credentials");
        } else if (outcome == ACCESS_BUSY) {
                a->stats.busy++;
        }
        attempt_settle(t, outcome, p);
        principal_release(&p);
        attempt_free(t);
}

static struct attempt *attempt_find(struct access *a, const uint8_t key[TLS_HMAC_SIZE])
{
        LIST_EACH (at, &a->attempts) {
                struct attempt *t = CONTAINER_OF(at, struct attempt, link);

                if (memcmp(t->key, key, sizeof t->key) == 0)
                        return t;
        }
        return NULL;
}

static bool has_too_many(struct access *a, const char *peer)
{
        unsigned count = 0;

        LIST_EACH (at, &a->attempts)
                count += slowing_is_same_address(CONTAINER_OF(at, struct attempt, link)->peer, peer);
        return count >= ATTEMPTS_OF_ADDRESS_MAX;
}

static int attempt_begin(struct access *a, const uint8_t key[TLS_HMAC_SIZE], struct bytes login,
        struct bytes password, const char *peer, struct attempt **ret)
{
        struct user *u = NULL;
        struct attempt *t;
        int r;

        if (hashes_are_full(a) || has_too_many(a, peer)) { /* before it counts as a try */
                a->stats.busy++;
                return ACCESS_BUSY;
        }
        if (!slowing_try(a, login, peer)) {
                a->stats.slowed++;
                return ACCESS_SLOWED;
        }
        r = user_get(a, login, &u);
        if (r == USER_UNREADABLE)
                return ACCESS_NOT_READY;
        t = MEMORY_NEW(struct attempt);
        list_init(&t->link);
        list_init(&t->logins);
        t->access = a;
        t->login = bytes_to_string(login);
        t->peer = memory_copy_string(peer);
        t->is_known = u != NULL;
        t->generation = u ? u->generation : 0;
        memcpy(t->key, key, sizeof t->key);
        /* An unknown user costs as much as a known one, and so does one who is disabled. */
        t->job = hash_compare(a, u ? u->hash : hash_of_nobody, password, checked, t);
        assert(t->job);
        list_add_last(&a->attempts, &t->link);
        *ret = t;
        return 0;
}

bool basic_parse(
        struct bytes value, struct buffer *memory, struct bytes *ret_login, struct bytes *ret_password)
{
        const uint8_t *colon;

        buffer_clear(memory);
        buffer_reserve(
                memory, value.size + 4); /* does not move while it is filled: there is one copy to wipe */
        if (!base64_decode(memory, value) || memory->size == 0 || memory->size > BASIC_SIZE_MAX)
                return false;
        colon = memchr(memory->data, ':', memory->size);
        if (!colon)
                return false;
        *ret_login = bytes_of(memory->data, (size_t)(colon - memory->data));
        *ret_password = bytes_of(colon + 1, memory->size - ret_login->size - 1);
        return !login_problem(*ret_login) && !password_problem(*ret_password, true);
}

/* Credentials that are not known yet: 0 and an attempt to wait for, or an outcome. */
static int check_password(struct access *a, const uint8_t key[TLS_HMAC_SIZE], struct bytes value,
        const char *peer, struct attempt **ret)
{
        struct buffer memory = {0};
        struct bytes name, password;
        int r = ACCESS_DENIED;

        if (basic_parse(value, &memory, &name, &password))
                r = attempt_begin(a, key, name, password, peer, ret);
        buffer_wipe(&memory);
        return r;
}

/* What was sent is looked up as it stands: it is only read when it is new. */
static int authenticate_basic(struct access *a, struct bytes value, const char *peer,
        struct access_login *login, struct principal **ret)
{
        uint8_t key[TLS_HMAC_SIZE];
        struct attempt *t;
        int r;

        secret_hash(a, 'B', &value, 1, key);
        *ret = remembered(a, key);
        if (*ret)
                return 0;
        t = attempt_find(a, key);
        if (!t) {
                r = check_password(a, key, value, peer, &t);
                if (r)
                        return r;
        }
        login->attempt = t;
        list_add_last(&t->logins, &login->link);
        return ACCESS_WAIT;
}

static int authenticate_bearer(struct access *a, struct bytes token, struct principal **ret)
{
        uint8_t key[TLS_HMAC_SIZE];
        int r;

        if (token.size > ACCESS_TOKEN_SIZE_MAX)
                return ACCESS_DENIED;
        secret_hash(a, 'T', &token, 1, key);
        *ret = remembered(a, key);
        if (*ret)
                return 0;
        r = token_authenticate(a, token, ret);
        if (r)
                return r == ACCESS_NOT_READY ? ACCESS_NOT_READY : ACCESS_DENIED;
        a->stats.logins++;
        remember(a, key, *ret);
        return 0;
}

static int authenticate_certificate(struct access *a, const char *certificate_login, struct principal **ret)
{
        struct user *u;
        int r = user_get(a, bytes_of_string(certificate_login), &u);

        if (r == USER_UNREADABLE)
                return ACCESS_NOT_READY;
        if (r || u->is_disabled)
                return ACCESS_DENIED;
        *ret = principal_hold(u->principal);
        return 0;
}

/* ---- contract ---- */

/* "Basic xyz": true, with what stands behind the scheme, which is compared without case (RFC 9110). */
static bool is_scheme(struct bytes authorization, const char *scheme, struct bytes *ret_value)
{
        size_t size = strlen(scheme);

        if (authorization.size <= size || authorization.data[size] != ' ' ||
                strncasecmp((const char *)authorization.data, scheme, size) != 0)
                return false;
        *ret_value = bytes_of(authorization.data + size, authorization.size - size);
        while (ret_value->size && ret_value->data[0] == ' ')
                *ret_value = bytes_of(ret_value->data + 1, ret_value->size - 1);
        return true;
}

int access_authenticate(struct access *a, struct bytes authorization, const char *certificate_login,
        const char *peer, struct access_login *login, struct principal **ret)
{
        struct bytes value;
        int r = ACCESS_DENIED;

        *ret = NULL;
        if (!a->is_enforced)
                return 0;
        if (authorization.size == 0 && !certificate_login[0])
                return 0;
        if (!a->store)
                return ACCESS_NOT_READY;
        if (authorization.size == 0)
                r = authenticate_certificate(a, certificate_login, ret);
        else if (authorization.size > AUTHORIZATION_SIZE_MAX)
                r = ACCESS_DENIED;
        else if (is_scheme(authorization, "Basic", &value))
                r = authenticate_basic(a, value, peer, login, ret);
        else if (is_scheme(authorization, "Bearer", &value))
                r = authenticate_bearer(a, value, ret);
        if (r == ACCESS_DENIED) {
                a->stats.denied++;
                access_note_denied(a, BYTES_EMPTY, peer, "an authorization that cannot be");
        }
        return r;
}

void access_login_end(struct access_login *login)
{
        struct attempt *t = login->attempt;

        if (!t)
                return;
        list_remove(&login->link);
        login->attempt = NULL;
        /* The check goes on where it has begun: it is remembered for the next call. Nobody waits for one that
         * has not. */
        if (list_is_empty(&t->logins) && t->job && !t->job->is_running)
                attempt_free(t);
}

void logins_stop(struct access *a)
{
        while (!list_is_empty(&a->attempts)) {
                struct attempt *t = CONTAINER_OF(a->attempts.next, struct attempt, link);

                list_remove(&t->link);
                hash_job_drop(&t->job);
                attempt_settle(t, ACCESS_NOT_READY, NULL);
                attempt_free(t);
        }
}
