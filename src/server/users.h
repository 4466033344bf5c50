/* Users of this server: opened before the gateway, read once there is a store, made by the leader where there are none. */
#ifndef SERVER_USERS_H
#define SERVER_USERS_H

#include "access/access.h"
#include "server/config.h"

struct server_users {
        struct access *access;
        struct notification_duty duty;
        bool is_compatible; /* the first users have the password that test suites of clients expect */
        bool is_served;
        /* The first users are there, or were: `password` is that of "admin" if it was made now, else NULL. */
        void (*on_first)(void *arg, const char *password);
        void *arg;
};

/* `on_first` and `arg` are set. Rights are enforced where TLS is spoken, unless --insecure was said. */
MUST_CHECK int server_users_open(
        struct server_users *u, struct os *os, struct control *control, const struct config *config);
/* Before notification_lead. */
MUST_CHECK int server_users_serve(struct server_users *u, struct store *store, struct notification *notification);
/* Before notification and store go. */
void server_users_stop(struct server_users *u);
void server_users_close(struct server_users *u);

#endif
