/* access (GatewaySystem): who asks, and what they may do.
 *
 * Users are events: `$user-<login>` holds one user, with an argon2id hash (PHC string) of the password; `$settings` the
 * default rights; `$$stream` the rights of a stream ("$acl", protocol 3.5); `$nilo-access` the key that signs tokens. So they
 * are replicated, kept and audited by the same path as everything else, and every node decides by its own log.
 *
 * Somebody is a `principal`: a login with groups, as they were when it was proved. Nobody (NULL) is a stranger without
 * credentials. Where rights are not enforced (a bare start on loopback, --insecure) everybody may do everything.
 *
 * Without a word about it in `$settings` or `$acl`: user streams are open to every user, streams whose names begin with "$"
 * (and "$all", the right to read everything) to $admins. `$user-*`, `$nilo-access` and `$nilo-cluster` are for $admins whatever
 * anything says.
 *
 * Threads: the loop thread; password hashes are computed on a lane, at most two at a time. */
#ifndef ACCESS_ACCESS_H
#define ACCESS_ACCESS_H

#include "base/bytes.h"
#include "base/fault.h"
#include "base/list.h"
#include "control/control.h"
#include "notification/notification.h"
#include "os/os.h"
#include "store/store.h"

enum {
        ACCESS_LOGIN_SIZE_MAX = 128,     /* bytes of UTF-8, no control characters, no ':' (RFC 7617) */
        ACCESS_PASSWORD_SIZE_MAX = 1024,
        ACCESS_PASSWORD_SIZE_MIN = 8,    /* of a password that is set; the compatible default is exempt */
        ACCESS_FULL_NAME_SIZE_MAX = 256,
        ACCESS_GROUPS_MAX = 32,
        ACCESS_TOKEN_SIZE_MAX = 1024,
        ACCESS_TOKEN_SECONDS_MAX = 24 * 3600,
        ACCESS_TOKEN_SECONDS_DEFAULT = 3600,
        ACCESS_HASHES_MAX = 2,           /* computed at a time; */
        ACCESS_HASHES_WAITING_MAX = 64,  /* and waiting: more gives ACCESS_BUSY */
};

/* ---- rules ---- */

/* What a route or a method asks of whoever calls it. Zero is no rule: a table without one cannot be registered. */
enum access_rule {
        ACCESS_UNRULED = 0,
        ACCESS_ANYONE,  /* strangers too */
        ACCESS_USER,    /* any user */
        ACCESS_OPS,     /* of $ops or $admins */
        ACCESS_ADMINS,  /* of $admins */
        ACCESS_STREAM,  /* a right to a stream that the handler names (gateway_may) before it answers with anything of it */
};
/* Rights to a stream, as "$acl" has them: $r, $w, $d, $mr, $mw. Those to "$$s" are the last two to "s", whichever is asked. */
enum access_right { ACCESS_READ, ACCESS_WRITE, ACCESS_DELETE, ACCESS_META_READ, ACCESS_META_WRITE, ACCESS_RIGHTS };
const char *access_right_name(enum access_right right); /* "read" */

/* ---- life ---- */

struct access;
struct access_options {
        struct os *os;
        struct control *control;
        bool is_enforced;
};
MUST_CHECK int access_open(const struct access_options *options, struct access **ret);
/* From now on users and rights are read there, and changes are followed; borrowed until access_stop. */
MUST_CHECK int access_serve(struct access *a, struct store *store, struct notification *notification);
/* Who waits is told ACCESS_NOT_READY; before `store` and `notification` go. Changes that the store was asked for end with its
 * answer. */
void access_stop(struct access *a);
void access_close(struct access **a); /* nobody is told anything any more; NULL is fine */
bool access_is_enforced(const struct access *a);

/* The first users, where there is none yet: "admin" of $admins (and with `is_compatible` "ops" of $ops, both with the password
 * "changeit" that test suites of clients expect; never otherwise). Asked once this node leads; `done` runs once on the loop, with the new password when
 * "admin" was made now, else NULL (it was there, or another node was faster). */
typedef void access_first_done(void *arg, const char *new_password);
void access_make_first_users(struct access *a, bool is_compatible, access_first_done *done, void *arg);

/* ---- who ---- */

struct principal; /* immutable */
const char *principal_login(const struct principal *p);
bool principal_is_in(const struct principal *p, const char *group); /* "$admins"; false for NULL */
unsigned principal_group_count(const struct principal *p);
const char *principal_group(const struct principal *p, unsigned i);
struct principal *principal_hold(struct principal *p); /* NULL is fine, in both */
void principal_release(struct principal **p);

enum access_outcome {
        ACCESS_WAIT = 1,     /* `done` of the login follows */
        ACCESS_DENIED,       /* wrong, malformed, expired, disabled: never says which */
        ACCESS_BUSY,         /* too many passwords are being checked: definite, try again in a second */
        ACCESS_SLOWED,       /* too many wrong passwords for this login from this address lately (ten a second at most) */
        ACCESS_NOT_READY,    /* opening, closing, or the log of users cannot be read */
};
/* Embedded in whoever waits; all zero is the empty value. */
struct access_login {
        /* Once, on the loop, never from inside access_authenticate: 0 and a principal that the callee holds, or an outcome. */
        void (*done)(struct access_login *login, int outcome, struct principal *principal);
        void *arg;
        struct list link; /* access's own, as what follows */
        void *attempt;
};
/* Who sends "Authorization: <authorization>" ("Basic ...", "Bearer ..."; empty: nobody) from `peer`, with a client
 * certificate of `certificate_login` ("" without). 0: *ret is the principal, held (NULL: nobody); it needs no hashing for minutes after the first
 * time. Unknown users cost what wrong passwords cost. */
MUST_CHECK int access_authenticate(struct access *a, struct bytes authorization, const char *certificate_login, const char *peer,
        struct access_login *login, struct principal **ret);
void access_login_end(struct access_login *login); /* waits no more; harmless when it does not wait */

/* Grows with each change of a user, of rights and of settings: who keeps something open asks again when it has. */
uint64_t access_generation(const struct access *a);
/* Still what it was: not deleted, disabled, given another password or other groups since. True for NULL. */
bool access_is_current(struct access *a, const struct principal *p);

/* ---- what ---- */

/* Of ACCESS_STREAM it says whether there may be such a stream at all: for every user. */
bool access_allows(struct access *a, const struct principal *p, enum access_rule rule);
/* `stream` is "$all" for all of them. */
bool access_may(struct access *a, const struct principal *p, enum access_right right, struct bytes stream);
/* May it see an event of this stream that `$all` or a link leads to, once it may read that? Reading everything leaves out
 * what is for $admins whatever anything says. */
bool access_may_see(struct access *a, const struct principal *p, struct bytes stream);

/* ---- tokens ---- */

/* Adds a bearer token of the principal to `out`: signed with a key that all nodes share, worthless when the user changes.
 * 0, or ACCESS_NOT_READY (no key yet: the leader makes one at its start). */
MUST_CHECK int access_token_make(struct access *a, const struct principal *p, uint32_t seconds, struct buffer *out,
        uint64_t *ret_expires_us);

/* ---- users ---- */

enum access_change_kind {
        ACCESS_CREATE,           /* login, full name, groups, password */
        ACCESS_UPDATE,           /* full name, groups */
        ACCESS_REMOVE,
        ACCESS_ENABLE,
        ACCESS_DISABLE,
        ACCESS_CHANGE_PASSWORD,  /* current, password: by the user */
        ACCESS_RESET_PASSWORD,   /* password: by an administrator */
};
enum access_verdict {
        ACCESS_CHANGED = 0,
        ACCESS_USER_NOT_FOUND,
        ACCESS_USER_EXISTS,
        ACCESS_INVALID,          /* `problem` says what */
        ACCESS_WRONG_PASSWORD,
        ACCESS_LAST_ADMIN,       /* it would leave no enabled user of $admins */
        ACCESS_CONFLICT,         /* somebody else changed this user at the same time: look and try again */
        ACCESS_UNAVAILABLE,      /* nothing was changed: no leader, a full disk, too much at once; `problem` says what */
        ACCESS_UNKNOWN,          /* it may have been changed */
};
struct access_change {
        enum access_change_kind kind;
        struct bytes login;      /* everything is borrowed for the call */
        struct bytes full_name;
        const struct bytes *groups;
        unsigned group_count;
        struct bytes password;
        struct bytes current_password;
        const struct principal *by; /* whose name the event bears; NULL: the server itself */
};
typedef void access_change_done(void *arg, enum access_verdict verdict, const char *problem);
/* Whether `by` may do so was asked before. `done` runs once, on the loop, also from inside. */
void access_change(struct access *a, const struct access_change *change, access_change_done *done, void *arg);

struct access_user {
        const char *login;
        const char *full_name;
        const char *const *groups;
        unsigned group_count;
        bool is_disabled;
        uint64_t updated_us;     /* wall clock */
};
/* 0, ACCESS_WAIT is not given: reads what is here. ACCESS_NOT_READY, or ACCESS_DENIED when there is no such user. Valid until the next call. */
MUST_CHECK int access_user(struct access *a, struct bytes login, struct access_user *ret);
/* Every user, by login, behind `after`, until `each` gives false. 0 or ACCESS_NOT_READY. */
typedef bool access_each_user_fn(void *arg, const struct access_user *user);
MUST_CHECK int access_each_user(struct access *a, struct bytes after, access_each_user_fn *each, void *arg);

struct access_stats {
        uint64_t logins;         /* proved, by hashing or by a token */
        uint64_t denied;         /* wrong credentials */
        uint64_t slowed;
        uint64_t busy;
        uint64_t hashes;
        uint64_t refused;        /* access_allows and access_may said no */
};
void access_stats(const struct access *a, struct access_stats *ret);

#endif
