#include "server/users.h"

#include "server/tls.h"

int server_users_open(
        struct server_users *u, struct os *os, struct control *control, const struct config *config)
{
        const struct access_options options = {
                .os = os,
                .control = control,
                .is_enforced = server_tls_is_wanted(config) && !config->insecure,
        };

        u->is_compatible = config->compat_default_password;
        return access_open(&options, &u->access);
}

/* ---- the leader's duty: nobody else may make them, and one node must ---- */

static void on_made(void *arg, const char *password)
{
        struct server_users *u = arg;

        u->on_first(u->arg, password);
}

static void load(void *arg, uint64_t term)
{
        struct server_users *u = arg;

        notification_duty_loaded(&u->duty, term, 0);
}

/* Requests need not wait until it is done: who cannot be known yet is told so. */
static void start(void *arg, uint64_t term)
{
        struct server_users *u = arg;

        access_make_first_users(u->access, u->is_compatible, on_made, u);
        notification_duty_started(&u->duty, term, 0);
}

static void give_up(void *arg)
{
        (void)arg;
}

int server_users_serve(struct server_users *u, struct store *store, struct notification *notification)
{
        int r = access_serve(u->access, store, notification);

        if (r)
                return fault_fold(r);
        u->is_served = true;
        /* Where nobody is asked for his name users can be made, for the day when they are. */
        if (!access_is_enforced(u->access))
                return 0;
        u->duty = (struct notification_duty){.load = load, .start = start, .give_up = give_up, .arg = u};
        notification_add_duty(notification, &u->duty);
        return 0;
}

void server_users_stop(struct server_users *u)
{
        if (!u->is_served)
                return;
        u->is_served = false;
        notification_remove_duty(&u->duty);
        access_stop(u->access);
}

void server_users_close(struct server_users *u)
{
        access_close(&u->access);
}
