/* Users, tokens, and who asks (docs/security.md): under /v1 in our form, and under /users with KurrentDB's
 * paths and names. Both say the same things: a dialect is the names of the members, and the form of the
 * answer.
 *
 * Passwords and tokens come in and go out here and nowhere else: no problem repeats what was sent, and what
 * was read of passwords is wiped once it was handed on. */
#include "api/room.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum {
        USERS_PAGE_DEFAULT = 100,
        USERS_PAGE_MAX = 1000,
};

struct dialect {
        const char *login;
        const char *password;     /* of a new user */
        const char *new_password; /* of a change */
        const char *current_password;
        bool is_kurrent;
};
static const struct dialect ours = {"login", "password", "password", "current", false};
static const struct dialect kurrents = {"loginName", "password", "newPassword", "currentPassword", true};

static const struct gateway_header_field secret_headers[] = {{"cache-control", "no-store"}};

/* A change on its way. From the request's arena. */
struct changing {
        struct gateway_request *request;
        const struct dialect *dialect;
        enum access_change_kind kind;
        struct bytes login;
};

static void refuse(struct gateway_request *r, int status, const char *code, const char *title,
        const char *next, const char *detail)
{
        struct gateway_problem problem = {.status = status, .code = code, .title = title, .next = next};

        gateway_reply_problem(r, &problem, "%s", detail);
}

static void refuse_not_ready(struct gateway_request *r)
{
        refuse(r, 503, "not-ready", "The users cannot be read", "try again in a second",
                "the server is starting or stopping");
}

static void refuse_verdict(struct gateway_request *r, enum access_verdict verdict, const char *problem)
{
        switch (verdict) {
        case ACCESS_USER_NOT_FOUND:
                refuse(r, 404, "user-not-found", "There is no such user", "list them: GET /v1/users",
                        problem);
                break;
        case ACCESS_USER_EXISTS:
                refuse(r, 409, "user-exists", "The user exists already",
                        "change him, or choose another login", problem);
                break;
        case ACCESS_INVALID:
                refuse(r, 400, "invalid", "The request cannot be understood", NULL, problem);
                break;
        case ACCESS_WRONG_PASSWORD:
                refuse(r, 403, "wrong-password", "The password is wrong", "send the current password",
                        problem);
                break;
        case ACCESS_LAST_ADMIN:
                refuse(r, 409, "last-admin", "Somebody must be an administrator",
                        "give $admins to another user first", problem);
                break;
        case ACCESS_CONFLICT:
                refuse(r, 409, "conflict", "Somebody else changed the user",
                        "look at the user, and try again", problem);
                break;
        case ACCESS_UNAVAILABLE:
                refuse(r, 503, "unavailable", "Nothing was changed", "try again in a second", problem);
                break;
        case ACCESS_UNKNOWN:
        case ACCESS_CHANGED:
                refuse(r, 504, "unknown", "The outcome is unknown", "look at the user, then send it again",
                        "the change was not confirmed: it may or may not be in the log");
                break;
        }
}

/* ---- users as JSON ---- */

static void user_to_json(struct json_out *j, const struct access_user *u, const struct dialect *d)
{
        char updated[TIME_TEXT_SIZE];

        time_format(u->updated_us, updated);
        json_object_begin(j);
        json_field_string(j, d->login, u->login);
        json_field_string(j, "fullName", u->full_name);
        json_key(j, "groups");
        json_array_begin(j);
        for (unsigned i = 0; i < u->group_count; i++)
                json_text(j, u->groups[i]);
        json_array_end(j);
        json_field_bool(j, "disabled", u->is_disabled);
        json_field_string(j, d->is_kurrent ? "dateLastUpdated" : "updated", updated);
        json_object_end(j);
}

/* KurrentDB puts what it answers under "data". */
static void answer_begin(struct json_out *j, const struct dialect *d)
{
        if (!d->is_kurrent)
                return;
        json_object_begin(j);
        json_key(j, "data");
}

static void answer_end(struct json_out *j, const struct dialect *d)
{
        if (!d->is_kurrent)
                return;
        json_field_bool(j, "success", true);
        json_field_string(j, "error", "Success");
        json_object_end(j);
}

static void reply_body(struct gateway_request *r, int status, struct buffer *body,
        const struct gateway_header_field *headers, unsigned header_count)
{
        buffer_add_u8(body, '\n');
        gateway_reply(r, status, "application/json", buffer_bytes(body), headers, header_count);
        buffer_fini(body);
}

static void reply_user(
        struct api *api, struct gateway_request *r, struct bytes login, const struct dialect *d)
{
        struct access_user user;
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        int outcome = access_user(api->access, login, &user);

        if (outcome == ACCESS_NOT_READY) {
                refuse_not_ready(r);
                return;
        }
        if (outcome) {
                refuse_verdict(r, ACCESS_USER_NOT_FOUND, "there is no user of this login");
                return;
        }
        answer_begin(&j, d);
        user_to_json(&j, &user, d);
        answer_end(&j, d);
        reply_body(r, 200, &body, secret_headers, 1);
}

/* ---- lists ---- */

struct listing {
        const struct dialect *dialect;
        struct json_out j;
        struct buffer last;
        uint64_t limit;
        uint64_t told;
        bool has_more;
};

static bool tell(void *arg, const struct access_user *user)
{
        struct listing *l = arg;

        if (l->told == l->limit) {
                l->has_more = true;
                return false;
        }
        l->told++;
        buffer_clear(&l->last);
        buffer_add_string(&l->last, user->login);
        user_to_json(&l->j, user, l->dialect);
        return true;
}

static void list(struct api *api, struct gateway_request *r, const struct dialect *d, struct bytes after,
        uint64_t limit)
{
        struct buffer body = {0};
        struct listing l = {.dialect = d, .limit = limit, .j = {.out = &body}};

        if (d->is_kurrent)
                answer_begin(&l.j, d);
        else
                json_object_begin(&l.j);
        if (!d->is_kurrent)
                json_key(&l.j, "users");
        json_array_begin(&l.j);
        if (access_each_user(api->access, after, tell, &l)) {
                buffer_fini(&body);
                buffer_fini(&l.last);
                refuse_not_ready(r);
                return;
        }
        json_array_end(&l.j);
        if (d->is_kurrent) {
                answer_end(&l.j, d);
        } else {
                json_field_bool(&l.j, "at_end", !l.has_more);
                if (l.has_more)
                        json_field_bytes(&l.j, "after", buffer_bytes(&l.last));
                json_object_end(&l.j);
        }
        buffer_fini(&l.last);
        reply_body(r, 200, &body, secret_headers, 1);
}

static bool users_query(struct gateway_request *r, struct bytes *ret_after, uint64_t *ret_limit)
{
        struct bytes name, value;

        *ret_after = BYTES_EMPTY;
        *ret_limit = USERS_PAGE_DEFAULT;
        for (unsigned i = 0; gateway_query_at(r, i, &name, &value); i++) {
                if (bytes_equal_string(name, "after") && value.size <= ACCESS_LOGIN_SIZE_MAX) {
                        *ret_after = value;
                } else if (!bytes_equal_string(name, "limit") || !bytes_to_number(value, ret_limit) ||
                           *ret_limit < 1 || *ret_limit > USERS_PAGE_MAX) {
                        refuse(r, 400, "invalid", "The request cannot be understood",
                                "use after=LOGIN and limit=N, 1 to 1000",
                                "a parameter is not known, or has no value that it can have");
                        return false;
                }
        }
        return true;
}

static void get_users(void *arg, struct gateway_request *r)
{
        struct bytes after;
        uint64_t limit;

        if (users_query(r, &after, &limit))
                list(arg, r, &ours, after, limit);
}

static void get_users_kurrent(void *arg, struct gateway_request *r)
{
        list(arg, r, &kurrents, BYTES_EMPTY, USERS_PAGE_MAX);
}

/* ---- who may ---- */

/* Where nobody is asked for his name, everybody is an administrator. */
static bool is_admin(struct gateway_request *r)
{
        return !gateway_access(gateway_of(r)) || principal_is_in(gateway_principal(r), "$admins");
}

static bool is_self(struct gateway_request *r, struct bytes login)
{
        const struct principal *p = gateway_principal(r);

        return p && bytes_equal_string(login, principal_login(p));
}

static bool check_self_or_admin(struct gateway_request *r, struct bytes login)
{
        if (is_admin(r) || is_self(r, login))
                return true;
        refuse(r, 403, "access-denied", "Access denied", "ask a member of $admins",
                "only the user and members of $admins may do this");
        return false;
}

static void show(struct api *api, struct gateway_request *r, const struct dialect *d)
{
        struct bytes login = gateway_path_parameter(r, "login");

        if (d->is_kurrent && bytes_equal_string(login, "$current") && gateway_principal(r))
                login = bytes_of_string(principal_login(gateway_principal(r)));
        if (check_self_or_admin(r, login))
                reply_user(api, r, login, d);
}

static void get_user(void *arg, struct gateway_request *r)
{
        show(arg, r, &ours);
}

static void get_user_kurrent(void *arg, struct gateway_request *r)
{
        show(arg, r, &kurrents);
}

/* ---- bodies ---- */

/* The members that a body may have; NULL: it was refused. To be released. */
static json_t *body_of(struct gateway_request *r, const char *const *known, unsigned count)
{
        struct bytes text = gateway_body(r);
        json_t *body;
        const char *key;
        json_t *value;

        body = text.size ? json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL)
                         : json_object();
        if (!json_is_object(body)) {
                json_decref(body);
                refuse(r, 400, "invalid", "The request cannot be understood", "send a JSON object",
                        "the body is no JSON object, or names a member twice");
                return NULL;
        }
        json_object_foreach(body, key, value)
        {
                unsigned i = 0;

                while (i < count && strcmp(known[i], key) != 0)
                        i++;
                if (i == count) {
                        json_decref(body);
                        refuse(r, 400, "invalid", "The request cannot be understood", "see docs/security.md",
                                "the body has a member that is not known here");
                        return NULL;
                }
        }
        return body;
}

/* A string, copied to the request's memory; empty if it is absent. False: it is something else. */
static bool take_text(struct gateway_request *r, const json_t *body, const char *key, struct bytes *ret)
{
        const json_t *value = json_object_get(body, key);

        *ret = BYTES_EMPTY;
        if (!value || json_is_null(value))
                return true;
        if (!json_is_string(value))
                return false;
        *ret = arena_copy(gateway_arena(r), bytes_of(json_string_value(value), json_string_length(value)));
        return true;
}

static bool take_groups(
        struct gateway_request *r, const json_t *body, struct bytes **ret, unsigned *ret_count)
{
        const json_t *groups = json_object_get(body, "groups");
        size_t count = json_array_size(groups);

        *ret_count = 0;
        if (groups && !json_is_null(groups) && !json_is_array(groups))
                return false;
        /* One more than there may be is refused further down, with the limit. */
        count = MIN(count, (size_t)ACCESS_GROUPS_MAX + 1);
        *ret = arena_get(gateway_arena(r), (count + 1) * sizeof **ret);
        for (size_t i = 0; i < count; i++) {
                const json_t *group = json_array_get(groups, i);

                if (!json_is_string(group))
                        return false;
                (*ret)[(*ret_count)++] = arena_copy(
                        gateway_arena(r), bytes_of(json_string_value(group), json_string_length(group)));
        }
        return true;
}

static void refuse_types(struct gateway_request *r)
{
        refuse(r, 400, "invalid", "The request cannot be understood", "see docs/security.md",
                "a member of the body has a wrong type: texts are strings, groups an array of them");
}

/* ---- changes ---- */

/* What the user is then is not told: this node may see it a moment later than the leader. */
static void reply_change(
        struct changing *c, int status, const struct gateway_header_field *headers, unsigned header_count)
{
        const struct dialect *d = c->dialect;
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        json_object_begin(&j);
        json_field_bytes(&j, d->login, c->login);
        if (d->is_kurrent) {
                json_field_bool(&j, "success", true);
                json_field_string(&j, "error", "Success");
        }
        json_object_end(&j);
        reply_body(c->request, status, &body, headers, header_count);
}

static void reply_created(struct changing *c)
{
        struct gateway_header_field headers[] = {secret_headers[0], {"location", NULL}};
        struct buffer location = {0};

        buffer_add_string(&location, c->dialect->is_kurrent ? "/users/" : "/v1/users/");
        query_add_escaped(&location, c->login);
        buffer_add_u8(&location, 0);
        headers[1].value = (const char *)location.data;
        reply_change(c, 201, headers, 2);
        buffer_fini(&location);
}

static void changed(void *arg, enum access_verdict verdict, const char *problem)
{
        struct changing *c = arg;

        if (verdict != ACCESS_CHANGED)
                refuse_verdict(
                        c->request, verdict, problem && *problem ? problem : "the store refused the change");
        else if (c->kind == ACCESS_CREATE)
                reply_created(c);
        else
                reply_change(c, 200, secret_headers, 1);
}

static void wipe(struct bytes secret)
{
        if (secret.size)
                explicit_bzero((void *)(uintptr_t)secret.data, secret.size);
}

static void begin(
        struct api *api, struct gateway_request *r, const struct dialect *d, struct access_change *change)
{
        struct changing *c = arena_get(gateway_arena(r), sizeof *c);

        *c = (struct changing){.request = r, .dialect = d, .kind = change->kind};
        c->login = arena_copy(gateway_arena(r), change->login);
        change->by = gateway_principal(r);
        access_change(api->access, change, changed, c);
        /* The memory is the next request's. It is this one's until the handler returns, also when it was
         * answered. */
        wipe(change->password);
        wipe(change->current_password);
        wipe(gateway_body(r));
}

static void create(struct api *api, struct gateway_request *r, const struct dialect *d)
{
        const char *known[] = {d->login, "fullName", "groups", d->password};
        struct access_change change = {.kind = ACCESS_CREATE};
        struct bytes *groups = NULL;
        json_t *body = body_of(r, known, COUNT_OF(known));
        bool is_fine;

        if (!body)
                return;
        is_fine = take_text(r, body, d->login, &change.login) &&
                  take_text(r, body, "fullName", &change.full_name) &&
                  take_groups(r, body, &groups, &change.group_count) &&
                  take_text(r, body, d->password, &change.password);
        json_decref(body);
        change.groups = groups;
        if (is_fine)
                begin(api, r, d, &change);
        else
                refuse_types(r);
}

static void post_users(void *arg, struct gateway_request *r)
{
        create(arg, r, &ours);
}

static void post_users_kurrent(void *arg, struct gateway_request *r)
{
        create(arg, r, &kurrents);
}

static void update(struct api *api, struct gateway_request *r, const struct dialect *d)
{
        static const char *const known[] = {"fullName", "groups"};
        struct access_change change = {.kind = ACCESS_UPDATE, .login = gateway_path_parameter(r, "login")};
        struct bytes *groups = NULL;
        json_t *body = body_of(r, known, COUNT_OF(known));
        bool is_fine;

        if (!body)
                return;
        is_fine = json_object_get(body, "groups") && take_text(r, body, "fullName", &change.full_name) &&
                  take_groups(r, body, &groups, &change.group_count);
        json_decref(body);
        change.groups = groups;
        if (is_fine)
                begin(api, r, d, &change);
        else
                refuse_types(r);
}

static void put_user(void *arg, struct gateway_request *r)
{
        update(arg, r, &ours);
}

static void put_user_kurrent(void *arg, struct gateway_request *r)
{
        update(arg, r, &kurrents);
}

static void set_password(struct api *api, struct gateway_request *r, const struct dialect *d, bool must_know)
{
        const char *known[] = {d->new_password, d->current_password};
        struct access_change change = {
                .kind = ACCESS_RESET_PASSWORD, .login = gateway_path_parameter(r, "login")};
        json_t *body;
        bool is_fine, has_current;

        if (!check_self_or_admin(r, change.login))
                return;
        body = body_of(r, known, COUNT_OF(known));
        if (!body)
                return;
        has_current = json_object_get(body, d->current_password) != NULL;
        is_fine = take_text(r, body, d->new_password, &change.password) &&
                  take_text(r, body, d->current_password, &change.current_password);
        json_decref(body);
        if (has_current)
                change.kind = ACCESS_CHANGE_PASSWORD;
        if (!is_fine)
                refuse_types(r);
        else if (!has_current && (must_know || !is_admin(r)))
                refuse(r, 400, "invalid", "The current password is needed", "send it as well",
                        "who changes a password shows that he knows the current one; members of $admins may "
                        "reset it");
        else
                begin(api, r, d, &change);
}

static void post_password(void *arg, struct gateway_request *r)
{
        set_password(arg, r, &ours, false);
}

static void bare(
        struct api *api, struct gateway_request *r, const struct dialect *d, enum access_change_kind kind)
{
        struct access_change change = {.kind = kind, .login = gateway_path_parameter(r, "login")};

        begin(api, r, d, &change);
}

static void delete_user(void *arg, struct gateway_request *r)
{
        bare(arg, r, &ours, ACCESS_REMOVE);
}

static void delete_user_kurrent(void *arg, struct gateway_request *r)
{
        bare(arg, r, &kurrents, ACCESS_REMOVE);
}

static void post_enable(void *arg, struct gateway_request *r)
{
        bare(arg, r, &ours, ACCESS_ENABLE);
}

static void post_disable(void *arg, struct gateway_request *r)
{
        bare(arg, r, &ours, ACCESS_DISABLE);
}

static void post_command_kurrent(void *arg, struct gateway_request *r)
{
        struct bytes verb = gateway_path_parameter(r, "verb");
        bool is_own = bytes_equal_string(verb, "change-password");

        if (!is_own && !is_admin(r)) {
                refuse(r, 403, "access-denied", "Access denied", "ask a member of $admins",
                        "only members of $admins may do this");
                return;
        }
        if (bytes_equal_string(verb, "enable"))
                bare(arg, r, &kurrents, ACCESS_ENABLE);
        else if (bytes_equal_string(verb, "disable"))
                bare(arg, r, &kurrents, ACCESS_DISABLE);
        else if (is_own || bytes_equal_string(verb, "reset-password"))
                set_password(arg, r, &kurrents, is_own);
        else
                refuse(r, 404, "not-found", "There is no such command",
                        "use enable, disable, reset-password or change-password",
                        "a user has no command of this name");
}

/* ---- who asks ---- */

static void get_whoami(void *arg, struct gateway_request *r)
{
        const struct principal *p = gateway_principal(r);
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        (void)arg;
        json_object_begin(&j);
        json_key(&j, "login");
        if (p)
                json_text(&j, principal_login(p));
        else
                json_out_null(&j);
        json_key(&j, "groups");
        json_array_begin(&j);
        for (unsigned i = 0; p && i < principal_group_count(p); i++)
                json_text(&j, principal_group(p, i));
        json_array_end(&j);
        json_object_end(&j);
        reply_body(r, 200, &body, secret_headers, 1);
}

/* "seconds" of the body. False: the request was refused. */
static bool token_seconds(struct gateway_request *r, uint32_t *ret)
{
        static const char *const known[] = {"seconds"};
        json_t *body = body_of(r, known, COUNT_OF(known));
        const json_t *seconds = body ? json_object_get(body, "seconds") : NULL;
        bool is_fine = !seconds || (json_is_integer(seconds) && json_integer_value(seconds) >= 1 &&
                                           json_integer_value(seconds) <= ACCESS_TOKEN_SECONDS_MAX);

        if (!body)
                return false;
        *ret = seconds && is_fine ? (uint32_t)json_integer_value(seconds) : ACCESS_TOKEN_SECONDS_DEFAULT;
        json_decref(body);
        if (!is_fine)
                refuse(r, 400, "invalid", "The request cannot be understood",
                        "ask for less, and again before it ends",
                        "seconds is a whole number from 1 to 86400");
        return is_fine;
}

static void post_token(void *arg, struct gateway_request *r)
{
        struct api *api = arg;
        const struct principal *p = gateway_principal(r);
        struct buffer token = {0}, body = {0};
        struct json_out j = {.out = &body};
        char expires[TIME_TEXT_SIZE];
        uint64_t expires_us;
        uint32_t seconds;

        if (!token_seconds(r, &seconds))
                return;
        if (!p) {
                refuse(r, 409, "nobody", "There is nobody to make a token for", NULL,
                        "nobody is asked for a name here: everybody may do everything without a token");
                return;
        }
        if (access_token_make(api->access, p, seconds, &token, &expires_us)) {
                buffer_fini(&token);
                refuse(r, 503, "not-ready", "Tokens cannot be made yet", "try again in a second",
                        "the leader has not made the key of tokens yet, or it cannot be read");
                return;
        }
        time_format(expires_us, expires);
        json_object_begin(&j);
        json_field_bytes(&j, "token", buffer_bytes(&token));
        json_field_string(&j, "expiresAt", expires);
        json_object_end(&j);
        buffer_fini(&token);
        reply_body(r, 200, &body, secret_headers, 1);
}

/* ---- the routes ---- */

void users_open(struct api *api)
{
        static const struct gateway_route routes[] = {
                {"GET", "/v1/users", "users, by login", get_users, .access = ACCESS_ADMINS,
                        .queries = "after limit"},
                {"POST", "/v1/users", "make a user", post_users, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"GET", "/v1/users/{login}", "one user", get_user, .access = ACCESS_USER},
                {"PUT", "/v1/users/{login}", "change full name and groups of a user", put_user,
                        .access = ACCESS_ADMINS, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"DELETE", "/v1/users/{login}", "remove a user", delete_user, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/users/{login}/password", "set a password: one's own, or as an administrator",
                        post_password, .access = ACCESS_USER, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/users/{login}/enable", "let a user log in again", post_enable,
                        .access = ACCESS_ADMINS, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/users/{login}/disable", "end what a user has open, and let him log in no more",
                        post_disable, .access = ACCESS_ADMINS, .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/v1/token", "make a bearer token for who asks", post_token, .access = ACCESS_USER,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"GET", "/v1/whoami", "who asks", get_whoami, .access = ACCESS_USER},
                {"GET", "/users", "users, as KurrentDB tells of them", get_users_kurrent,
                        .access = ACCESS_ADMINS},
                {"POST", "/users", "make a user", post_users_kurrent, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"GET", "/users/{login}", "one user; $current is who asks", get_user_kurrent,
                        .access = ACCESS_USER},
                {"PUT", "/users/{login}", "change a user", put_user_kurrent, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"DELETE", "/users/{login}", "remove a user", delete_user_kurrent, .access = ACCESS_ADMINS,
                        .body_size_max = SMALL_BODY_SIZE_MAX},
                {"POST", "/users/{login}/command/{verb}",
                        "enable, disable, reset-password or change-password", post_command_kurrent,
                        .access = ACCESS_USER, .body_size_max = SMALL_BODY_SIZE_MAX},
        };

        if (!api->access)
                return;
        api->user_routes = memory_new_array(COUNT_OF(routes), sizeof routes[0]);
        for (unsigned i = 0; i < COUNT_OF(routes); i++) {
                api->user_routes[i] = routes[i];
                api->user_routes[i].arg = api;
        }
        gateway_add_routes(api->gateway, api->user_routes, COUNT_OF(routes));
}

void users_close(struct api *api)
{
        free(api->user_routes);
}
