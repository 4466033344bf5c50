/* api: the HTTP API for people, scripts and browsers: append, read, follow, list, delete, and durable subscriptions under
 * /v1 (docs/http.md, docs/subscriptions.md).
 *
 * Each route stands twice: under /v1 for the default store, and under /v1/stores/{store}. Bodies are read where they
 * stand, so data is stored byte for byte as it was sent; answers that may be long are pulled by the connection's room,
 * one reader or subscription each (G18).
 *
 * Threads: the loop thread. */
#ifndef API_API_H
#define API_API_H

#include "access/access.h"
#include "control/control.h"
#include "emitter/emitter.h"
#include "gateway/gateway.h"
#include "membership/membership.h"
#include "os/os.h"

struct api;
struct api_options {
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        struct access *access; /* users are served by this; borrowed until the gateway has closed. NULL: there are none */
        /* An operator asks for an orderly stop: it begins in a later turn, so that the answer leaves first. NULL: nobody may. */
        void (*shut_down)(void *arg);
        void *arg;
};
/* Adds the routes to the gateway; everything is borrowed. */
void api_open(const struct api_options *options, struct api **ret);
/* From now on durable subscriptions are served by this, until it is NULL again; borrowed. Their consumers still hold it
 * until the gateway has closed. */
void api_serve(struct api *api, struct emitter *emitter);
/* From now on this says which nodes there are; borrowed until the gateway has closed. */
void api_join(struct api *api, struct membership *membership);
/* After the gateway has closed: its routes point here. NULL is fine. */
void api_close(struct api **api);

/* For tests and docs: the largest body of an append over HTTP, the largest page, and the most events of a page. */
enum {
        API_BODY_SIZE_MAX = 64 * 1024 * 1024,
        API_PAGE_SIZE_MAX = 8 * 1024 * 1024,
        API_PAGE_EVENTS_MAX = 10000,
        API_PAGE_EVENTS_DEFAULT = 100,
};

#endif
