/* What the files of this room share.
 *
 * access.c      life; rules; the generation; what is refused
 * principal.c   who somebody is
 * memo.c        bounded tables that drop what was used least lately
 * user.c        one user as an event, and users as they are read
 * names.c       which logins, names and passwords there may be
 * follow.c      changes of the log, which drop what is remembered of it
 * hashes.c      passwords, hashed and compared on a lane
 * logins.c      Authorization headers, certificates, and who is remembered
 * secret.c      hashes keyed by a secret of this process
 * slowing.c     who has tried too often
 * tokens.c      bearer tokens and their key
 * rights.c      rights to streams
 * changes.c     changes of users
 * first.c       the first users and the key, made by the leader */
#ifndef ACCESS_ROOM_H
#define ACCESS_ROOM_H

#include "access/access.h"
#include "base/arena.h"
#include "base/memory.h"
#include "model/acl.h"
#include "tls/tls.h"

enum {
        SECRET_SIZE = 32,
        SALT_SIZE = 16,
        HASH_SIZE = 32,
        PHC_SIZE = 160,              /* with its end; of what is made here */
        HASH_MEMORY_KIB = 19 * 1024, /* argon2id: m, t, p */
        HASH_PASSES = 2,
        HASH_LANES = 1,
        USERS_REMEMBERED_MAX = 1000,
        CREDENTIALS_REMEMBERED_MAX = 4096,
        RIGHTS_REMEMBERED_MAX = 8192,
        SLOWED_MAX = 4096,
        USER_RECORD_SIZE_MAX = 64 * 1024,
        ATTEMPTS_OF_ADDRESS_MAX = 16, /* so that one address does not take all of ACCESS_HASHES_WAITING_MAX */
        USERS_BATCH = 100,           /* names of one look at the list */
};
#define CREDENTIALS_US ((uint64_t)5 * 60 * 1000 * 1000)
#define RIGHTS_SIZE_MAX (8 * MIB)
#define CHANGE_US ((uint64_t)10 * 1000 * 1000)

#define USER_PREFIX     BYTES_LITERAL("$user-")
#define SETTINGS_STREAM BYTES_LITERAL("$settings")
#define KEY_STREAM      BYTES_LITERAL("$nilo-access")
#define CLUSTER_STREAM  BYTES_LITERAL("$nilo-cluster")
#define EVERY_USER      BYTES_LITERAL("$all")
#define GROUP_ADMINS    "$admins"
#define GROUP_OPS       "$ops"

/* Frees what held a secret. */
static inline void buffer_wipe(struct buffer *b)
{
        if (b->data)
                explicit_bzero(b->data, b->capacity);
        buffer_fini(b);
}

/* ---- bounded tables (memo.c) ---- */

/* Embedded in what is kept. */
struct memo_entry {
        struct bytes key; /* in the element's memory */
        size_t size;      /* of the element, about */
        struct memo_entry *next;
        struct list link;
        uint64_t hash;
};
struct memo {
        unsigned count_max;
        size_t size_max; /* 0: none */
        void (*free)(struct memo_entry *entry);
        struct memo_entry **buckets;
        unsigned bucket_count;
        unsigned count;
        size_t size;
        struct list used; /* the latest first */
};
void memo_init(struct memo *c, unsigned count_max, size_t size_max, void (*free)(struct memo_entry *entry));
struct memo_entry *memo_get(struct memo *c, struct bytes key); /* NULL: not there */
/* Takes the entry, in the place of one with the same key; what was used least lately goes. */
void memo_put(struct memo *c, struct memo_entry *entry);
void memo_drop(struct memo *c, struct memo_entry *entry);
void memo_clear(struct memo *c);
void memo_fini(struct memo *c);

/* ---- principals (principal.c) ---- */

struct principal {
        unsigned holders;
        char *login;
        char **groups;
        unsigned group_count;
        bool is_admin;
        bool is_ops;
        uint64_t user_generation; /* of the user, when it was proved */
        uint64_t until_us;        /* wall clock, of a token; 0: none */
        /* Not part of what it is: the access_generation at which it was found current. */
        uint64_t checked_at;
};
struct principal *principal_new(struct bytes login, const struct bytes *groups, unsigned count, uint64_t user_generation);
struct principal *principal_copy(const struct principal *p);

/* ---- users (user.c) ---- */

struct user {
        struct memo_entry entry;
        struct arena memory;
        struct bytes login;
        struct bytes full_name;
        struct bytes *groups;
        unsigned group_count;
        char *hash; /* PHC; "": none, so that nobody is he */
        bool is_disabled;
        uint64_t revision;
        /* The revision at which what others rely on changed last: password, groups, disabled. */
        uint64_t generation;
        uint64_t updated_us;
        struct principal *principal;
};
enum user_outcome { USER_ABSENT = 1, USER_UNREADABLE };
/* As it is now; valid until the next call or turn. */
MUST_CHECK int user_get(struct access *a, struct bytes login, struct user **ret);
bool user_is_in(const struct user *u, const char *group);
/* The body of an event of `$user-<login>`; `fields` are of the user that it describes. */
struct user_fields {
        struct bytes login;
        struct bytes full_name;
        const struct bytes *groups;
        unsigned group_count;
        const char *hash;
        bool is_disabled;
        bool has_generation; /* else the event's revision is it */
        uint64_t generation;
};
void user_to_json(const struct user_fields *fields, struct buffer *out);
/* Reads such a body. False: it is none. */
MUST_CHECK bool user_parse(struct bytes json, struct bytes login, uint64_t revision, uint64_t time_us, struct user **ret);
void user_free(struct user **user);
/* "$user-<login>", in place of what is in `out`. */
struct bytes user_stream(struct buffer *out, struct bytes login);
/* Calls `each` for every user behind `after`, by login, until it gives false; `user` is valid for the call. 0 or USER_UNREADABLE. */
typedef bool each_user(void *arg, struct user *user);
MUST_CHECK int users_each(struct access *a, struct bytes after, each_user *each, void *arg);
/* The newest event of a stream, copied into the arena. USER_ABSENT, USER_UNREADABLE. */
struct newest {
        struct bytes data;
        uint64_t revision;
        uint64_t time_us;
};
MUST_CHECK int newest_event(struct access *a, struct bytes stream, struct arena *memory, struct newest *ret);

/* ---- names (names.c) ---- */

/* NULL if it is fine, else what is wrong, in words for people. */
const char *login_problem(struct bytes login);
const char *full_name_problem(struct bytes name);
const char *group_problem(struct bytes group);
const char *password_problem(struct bytes password, bool is_compatible);

/* ---- hashes (hashes.c) ---- */

struct hash_job {
        struct os_work work;
        struct list link;
        struct access *access;
        struct buffer password; /* wiped when the job ends */
        char *compare_with;     /* a PHC string; NULL: a hash is to be made */
        uint8_t salt[SALT_SIZE];
        char phc[PHC_SIZE];     /* what was made */
        bool is_match;          /* of a comparison */
        bool has_failed;        /* no memory */
        bool is_running;
        /* On the loop, once; not after hash_job_drop. The job goes when it returns. */
        void (*done)(struct hash_job *job, void *arg);
        void *arg;
};
bool hashes_are_full(const struct access *a);
/* Begins to compare, or to make a hash. NULL: hashes_are_full. */
struct hash_job *hash_compare(struct access *a, const char *phc, struct bytes password,
        void (*done)(struct hash_job *job, void *arg), void *arg);
struct hash_job *hash_make(struct access *a, struct bytes password, void (*done)(struct hash_job *job, void *arg), void *arg);
void hash_job_drop(struct hash_job **job); /* `done` does not run; NULL is fine */
/* What nobody's password is, and as dear to compare with as any. */
extern const char hash_of_nobody[];
/* One that may be compared with here, at a bounded price. */
bool hash_is_usable(const char *phc);

/* ---- keyed hashes (secret.c) ---- */

void secret_init(struct access *a);
void secret_fini(struct access *a);
/* Of the pieces one behind the other; different kinds never agree. */
void secret_hash(struct access *a, char kind, const struct bytes *pieces, unsigned count, uint8_t ret[TLS_HMAC_SIZE]);

/* ---- slowing (slowing.c) ---- */

/* May somebody try now? Counts as a try. */
bool slowing_try(struct access *a, struct bytes login, const char *peer);
void slowing_forget(struct access *a, struct bytes login, const char *peer); /* the try was right */
bool slowing_is_same_address(const char *peer, const char *other);
void slowing_entry_free(struct memo_entry *entry);

/* ---- logins (logins.c) ---- */

/* What stands behind "Basic ": into `memory`, whose user wipes it. False: nothing that could be right. */
MUST_CHECK bool basic_parse(struct bytes value, struct buffer *memory, struct bytes *ret_login, struct bytes *ret_password);
void logins_stop(struct access *a);
void logins_forget(struct access *a, struct bytes login); /* what is remembered of this user */
void credential_free(struct memo_entry *entry);

/* ---- tokens (tokens.c) ---- */

enum { TOKEN_BODY_MIN = 1 + 8 + 8 + 1, TOKEN_BODY_MAX = 1 + 8 + 8 + ACCESS_LOGIN_SIZE_MAX };
struct token_claims {
        struct bytes login;
        uint64_t generation;
        uint64_t expires_s;
};
void token_format(const struct token_claims *claims, struct bytes key, struct buffer *out);
/* Whether it was made with this key; the login points into `memory`. */
MUST_CHECK bool token_parse(struct bytes token, struct bytes key, struct buffer *memory, struct token_claims *ret);
/* The key, read when it is not known yet. 0, USER_ABSENT or USER_UNREADABLE. */
MUST_CHECK int token_key(struct access *a, struct bytes *ret);
/* 0 and a principal of the token, held; or an outcome of access_authenticate. */
MUST_CHECK int token_authenticate(struct access *a, struct bytes token, struct principal **ret);

/* ---- rights (rights.c) ---- */

void rights_entry_free(struct memo_entry *entry);
void rights_drop(struct access *a, struct bytes stream);
void rights_drop_settings(struct access *a);
bool rights_are_said(struct access *a, struct bytes stream); /* it is remembered that its metadata says something about them */

/* ---- following (follow.c) ---- */

void follow_start(struct access *a);
void follow_stop(struct access *a);
/* A change of this user by this node: nothing waits for the log to tell. */
void follow_user_changed(struct access *a, struct bytes login);

/* ---- changes (changes.c) ---- */

void changes_stop(struct access *a);
void changes_close(struct access *a); /* those under way are carried out, and nobody is told */
/* As access_change; `is_compatible`: with whatever password. */
void change_begin(struct access *a, const struct access_change *change, bool is_compatible, access_change_done *done, void *arg);
enum access_verdict verdict_of(enum store_verdict verdict);
void access_new_id(struct access *a, struct event_id *ret);

/* ---- the first users (first.c) ---- */

void first_stop(struct access *a);
void first_free(struct access *a);

/* ---- access.c ---- */

struct first;

struct access {
        struct os *os;
        struct control *control;
        struct store *store; /* NULL: not serving */
        struct notification *notification;
        bool is_enforced;
        bool is_closed;      /* goes with the last job: */
        unsigned jobs;       /* hashes that are computed, appends without an answer */
        bool is_following;   /* what is remembered is true */
        uint64_t generation;
        struct hmac_ctx_st *secret; /* of this process: what is remembered is found by it */
        struct access_stats stats;
        /* follow.c */
        struct subscription *subscription;
        struct os_timer reopen;
        struct os_timer again;
        /* what is remembered */
        struct memo users;
        struct memo credentials;
        struct memo rights;
        struct memo slowed;
        struct {
                bool is_known;
                bool is_unreadable;
                struct acl *user;
                struct acl *system;
        } settings;
        struct {
                bool is_known;
                uint8_t bytes[SECRET_SIZE];
        } key;
        /* hashes.c */
        struct list hashes; /* that wait */
        unsigned hashes_waiting;
        unsigned hashes_running;
        /* logins.c */
        struct list attempts;
        uint64_t denied_told_us; /* monotonic, of the newest fact */
        uint32_t denied_untold;
        /* changes.c */
        struct list changes;
        char *shown_strings; /* of access_user */
        const char **shown_groups;
        struct first *first;
};
/* Somebody was not let in: a fact, at most one in a second. */
void access_note_denied(struct access *a, struct bytes known_login, const char *peer, const char *why);
/* A lane or the store will come back: the access stays until then, also when it was closed. */
void access_job_begun(struct access *a);
void access_job_ended(struct access *a);

#endif
