/* Users: what administrators do with users, and everybody with himself (protocol 1.7). Passwords come in here
 * and go out nowhere: what was unpacked of them is wiped once it was handed on, and no refusal repeats a text
 * that was sent, but the login. */
#include "kurrent/room.h"
#include "kurrent/users.pb-c.h"

struct changing {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct bytes login; /* in the call's arena */
};

/* ---- refusals ---- */

static void refuse_user(struct gateway_request *call, enum grpc_status status, const char *exception,
        struct bytes login, const char *text)
{
        if (exception)
                gateway_call_trailer(call, "exception", bytes_of_string(exception));
        gateway_call_trailer(call, "login-name", login);
        gateway_call_end(call, status, text);
}

static void refuse_missing(struct gateway_request *call, struct bytes login)
{
        refuse_user(call, GRPC_NOT_FOUND, "user-not-found", login, "there is no user of this login");
}

static void refuse_verdict(
        struct gateway_request *call, enum access_verdict verdict, struct bytes login, const char *problem)
{
        const char *text = problem && *problem ? problem : "the user was not changed";

        switch (verdict) {
        case ACCESS_USER_NOT_FOUND:
                refuse_missing(call, login);
                break;
        case ACCESS_USER_EXISTS:
                refuse_user(call, GRPC_FAILED_PRECONDITION, "user-conflict", login,
                        "a user of this login is there already");
                break;
        case ACCESS_INVALID:
                refuse_user(call, GRPC_INVALID_ARGUMENT, NULL, login, text);
                break;
        case ACCESS_WRONG_PASSWORD:
                refuse_user(call, GRPC_PERMISSION_DENIED, "access-denied", login,
                        "the current password is another");
                break;
        case ACCESS_LAST_ADMIN:
                refuse_user(call, GRPC_FAILED_PRECONDITION, NULL, login, text);
                break;
        case ACCESS_CONFLICT:
                refuse_user(call, GRPC_DEADLINE_EXCEEDED, "user-conflict", login,
                        "somebody else changed the user at the same time: look, and try again");
                break;
        case ACCESS_UNAVAILABLE:
                refuse_user(call, GRPC_UNAVAILABLE, NULL, login, text);
                break;
        case ACCESS_CHANGED:
        case ACCESS_UNKNOWN:
                refuse_user(call, GRPC_ABORTED, NULL, login,
                        "Operation timed out: the user may or may not have been changed; look at it");
                break;
        }
}

/* Users count only where somebody is asked who he is. `is_whole`: the request has all that it needs. NULL: it
 * was refused. */
static struct access *begin(struct kurrent *k, struct gateway_request *call, bool is_whole)
{
        struct access *a = gateway_access(k->gateway);
        struct refusal refusal = {.kind = REFUSAL_NOT_LEADER};

        if (!a || !access_is_enforced(a)) {
                gateway_call_end(call, GRPC_FAILED_PRECONDITION,
                        "this server asks nobody who he is, so it has no users; it has them when it listens "
                        "beyond loopback");
                return NULL;
        }
        if (call_requires_leader(call) && k->membership && !membership_is_leading(k->membership)) {
                refusal_end_call(k, call, &refusal);
                return NULL;
        }
        if (!is_whole) {
                refusal = refusal_invalid("the request is malformed or has no options");
                refusal_end_call(k, call, &refusal);
                return NULL;
        }
        return a;
}

static bool check_self_or_admin(struct gateway_request *call, struct bytes login)
{
        const struct principal *p = gateway_principal(call);

        if (p && (principal_is_in(p, "$admins") || bytes_equal_string(login, principal_login(p))))
                return true;
        refuse_user(call, GRPC_PERMISSION_DENIED, "access-denied", login,
                "Access denied: only the user and members of $admins may do this");
        return false;
}

/* ---- changes ---- */

static void on_changed(void *arg, enum access_verdict verdict, const char *problem)
{
        struct changing *c = arg;
        EventStore__Client__Users__CreateResp answer = EVENT_STORE__CLIENT__USERS__CREATE_RESP__INIT;

        /* All answers are empty. */
        if (verdict == ACCESS_CHANGED)
                message_answer(c->call, &answer.base);
        else if (!gateway_call_is_over(c->call))
                refuse_verdict(c->call, verdict, c->login, problem);
        gateway_call_release(c->call);
}

static void wipe(struct bytes secret)
{
        if (secret.size)
                explicit_bzero((void *)(uintptr_t)secret.data, secret.size);
}

/* Secrets lie in the call's arena. */
static void change(
        struct kurrent *k, struct gateway_request *call, struct access *a, struct access_change *wanted)
{
        struct changing *c = arena_get(gateway_arena(call), sizeof(*c));

        *c = (struct changing){.kurrent = k, .call = call, .login = wanted->login};
        wanted->by = gateway_principal(call);
        gateway_call_hold(call);
        access_change(a, wanted, on_changed, c);
        wipe(wanted->password);
        wipe(wanted->current_password);
}

static void set_groups(struct gateway_request *call, const ProtobufCBinaryData *groups, size_t count,
        struct access_change *ret)
{
        /* One more than there may be is refused further down, with the limit. */
        unsigned taken = (unsigned)MIN(count, (size_t)ACCESS_GROUPS_MAX + 1);
        struct bytes *all = arena_get(gateway_arena(call), (taken + 1) * sizeof(*all));

        for (unsigned i = 0; i < taken; i++)
                all[i] = bytes_of_message(groups[i]);
        ret->groups = all;
        ret->group_count = taken;
}

static void on_create(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Users__CreateReq *request = message_unpack(
                &event_store__client__users__create_req__descriptor, gateway_arena(call), message);
        struct access_change wanted = {.kind = ACCESS_CREATE};
        struct access *a = begin(k, call, request && request->options);

        if (!a)
                return;
        wanted.login = bytes_of_message(request->options->login_name);
        wanted.password = bytes_of_message(request->options->password);
        wanted.full_name = bytes_of_message(request->options->full_name);
        set_groups(call, request->options->groups, request->options->n_groups, &wanted);
        change(k, call, a, &wanted);
}

static void on_update(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Users__UpdateReq *request = message_unpack(
                &event_store__client__users__update_req__descriptor, gateway_arena(call), message);
        struct access_change wanted = {.kind = ACCESS_UPDATE};
        struct access *a = begin(k, call, request && request->options);

        if (!a)
                return;
        wipe(bytes_of_message(request->options->password));
        wanted.login = bytes_of_message(request->options->login_name);
        wanted.full_name = bytes_of_message(request->options->full_name);
        set_groups(call, request->options->groups, request->options->n_groups, &wanted);
        change(k, call, a, &wanted);
}

/* Delete, Enable and Disable have the same bytes. */
static void change_plainly(
        struct kurrent *k, struct gateway_request *call, struct bytes message, enum access_change_kind kind)
{
        const EventStore__Client__Users__DeleteReq *request = message_unpack(
                &event_store__client__users__delete_req__descriptor, gateway_arena(call), message);
        struct access_change wanted = {.kind = kind};
        struct access *a = begin(k, call, request && request->options);

        if (!a)
                return;
        wanted.login = bytes_of_message(request->options->login_name);
        change(k, call, a, &wanted);
}

static void on_delete(void *arg, struct gateway_request *call, struct bytes message)
{
        change_plainly(arg, call, message, ACCESS_REMOVE);
}

static void on_enable(void *arg, struct gateway_request *call, struct bytes message)
{
        change_plainly(arg, call, message, ACCESS_ENABLE);
}

static void on_disable(void *arg, struct gateway_request *call, struct bytes message)
{
        change_plainly(arg, call, message, ACCESS_DISABLE);
}

static void on_change_password(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Users__ChangePasswordReq *request = message_unpack(
                &event_store__client__users__change_password_req__descriptor, gateway_arena(call), message);
        struct access_change wanted = {.kind = ACCESS_CHANGE_PASSWORD};
        struct access *a = begin(k, call, request && request->options);

        if (!a)
                return;
        wanted.login = bytes_of_message(request->options->login_name);
        wanted.current_password = bytes_of_message(request->options->current_password);
        wanted.password = bytes_of_message(request->options->new_password);
        if (check_self_or_admin(call, wanted.login))
                change(k, call, a, &wanted);
}

static void on_reset_password(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Users__ResetPasswordReq *request = message_unpack(
                &event_store__client__users__reset_password_req__descriptor, gateway_arena(call), message);
        struct access_change wanted = {.kind = ACCESS_RESET_PASSWORD};
        struct access *a = begin(k, call, request && request->options);

        if (!a)
                return;
        wanted.login = bytes_of_message(request->options->login_name);
        wanted.password = bytes_of_message(request->options->new_password);
        change(k, call, a, &wanted);
}

/* ---- Details ---- */

/* All users on their way to a client that may read slowly. */
struct telling {
        struct kurrent *kurrent;
        struct gateway_request *call;
        struct buffer last; /* the login that was told last */
        bool has_more;
};

static void tell(struct gateway_request *call, const struct access_user *user)
{
        EventStore__Client__Users__DetailsResp answer = EVENT_STORE__CLIENT__USERS__DETAILS_RESP__INIT;
        EventStore__Client__Users__DetailsResp__UserDetails details =
                EVENT_STORE__CLIENT__USERS__DETAILS_RESP__USER_DETAILS__INIT;
        EventStore__Client__Users__DetailsResp__UserDetails__DateTime updated =
                EVENT_STORE__CLIENT__USERS__DETAILS_RESP__USER_DETAILS__DATE_TIME__INIT;
        ProtobufCBinaryData groups[ACCESS_GROUPS_MAX];

        updated.ticks_since_epoch = (int64_t)(user->updated_us * 10);
        details.login_name = message_bytes(bytes_of_string(user->login));
        details.full_name = message_bytes(bytes_of_string(user->full_name));
        details.n_groups = MIN(user->group_count, (unsigned)ACCESS_GROUPS_MAX);
        details.groups = groups;
        for (unsigned i = 0; i < details.n_groups; i++)
                groups[i] = message_bytes(bytes_of_string(user->groups[i]));
        details.last_updated = &updated;
        details.disabled = user->is_disabled;
        answer.user_details = &details;
        message_send(call, &answer.base);
}

static bool tell_next(void *arg, const struct access_user *user)
{
        struct telling *t = arg;

        t->has_more = !gateway_stream_room(t->call);
        if (t->has_more)
                return false;
        buffer_clear(&t->last);
        buffer_add_string(&t->last, user->login);
        tell(t->call, user);
        return true;
}

static void refuse_not_ready(struct gateway_request *call)
{
        gateway_call_end(call, GRPC_UNAVAILABLE, "the users cannot be read now; try again");
}

static void tell_all(struct telling *t)
{
        struct access *a = gateway_access(t->kurrent->gateway);

        t->has_more = false;
        if (access_each_user(a, buffer_bytes(&t->last), tell_next, t)) {
                buffer_fini(&t->last);
                refuse_not_ready(t->call);
        } else if (!t->has_more) {
                buffer_fini(&t->last);
                gateway_call_end(t->call, GRPC_OK, NULL);
        }
}

static void tell_one(struct gateway_request *call, struct access *a, struct bytes login)
{
        struct access_user user;
        int outcome = access_user(a, login, &user);

        if (outcome == ACCESS_NOT_READY) {
                refuse_not_ready(call);
        } else if (outcome) {
                refuse_missing(call, login);
        } else {
                tell(call, &user);
                gateway_call_end(call, GRPC_OK, NULL);
        }
}

static void on_details(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        const EventStore__Client__Users__DetailsReq *request = message_unpack(
                &event_store__client__users__details_req__descriptor, gateway_arena(call), message);
        struct access *a = begin(k, call, request);
        struct bytes login = BYTES_EMPTY;
        struct telling *t;

        if (!a)
                return;
        if (request->options)
                login = bytes_of_message(request->options->login_name);
        if (!check_self_or_admin(call, login))
                return;
        if (login.size) {
                tell_one(call, a, login);
                return;
        }
        t = arena_get(gateway_arena(call), sizeof(*t));
        *t = (struct telling){.kurrent = k, .call = call};
        gateway_call_set_state(call, t);
        tell_all(t);
}

static void on_details_writable(void *arg, struct gateway_request *call)
{
        struct telling *t = gateway_call_state(call);

        (void)arg;
        if (t && t->has_more)
                tell_all(t);
}

static void on_details_gone(void *arg, struct gateway_request *call)
{
        struct telling *t = gateway_call_state(call);

        (void)arg;
        if (t)
                buffer_fini(&t->last);
}

/* ---- methods ---- */

void users_methods(struct gateway_method ret[USERS_METHODS])
{
        static const struct {
                const char *name;
                enum access_rule rule;
                void (*on_message)(void *arg, struct gateway_request *call, struct bytes message);
        } methods[USERS_METHODS] = {
                {"Create", ACCESS_ADMINS, on_create},
                {"Update", ACCESS_ADMINS, on_update},
                {"Delete", ACCESS_ADMINS, on_delete},
                {"Enable", ACCESS_ADMINS, on_enable},
                {"Disable", ACCESS_ADMINS, on_disable},
                {"ResetPassword", ACCESS_ADMINS, on_reset_password},
                {"ChangePassword", ACCESS_USER, on_change_password},
                {"Details", ACCESS_USER, on_details},
        };

        for (unsigned i = 0; i < USERS_METHODS; i++)
                ret[i] = (struct gateway_method){
                        .service = "event_store.client.users.Users",
                        .name = methods[i].name,
                        .features = "",
                        .access = methods[i].rule,
                        .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                        .on_message = methods[i].on_message,
                };
        ret[USERS_METHODS - 1].on_writable = on_details_writable;
        ret[USERS_METHODS - 1].on_gone = on_details_gone;
}
