/* What the tests of this room share: a server's users and rights over a store of a simulated machine, and what is asked of
 * them, waited for. */
#ifndef TESTS_ACCESS_SUPPORT_H
#define TESTS_ACCESS_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>

#include "access/access.h"
#include "base/base64.h"
#include "base/memory.h"
#include "os/os_sim.h"
#include "test.h"

#define SECOND ((uint64_t)1000 * 1000)

struct house {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct access *access;
        bool is_enforced;
        bool is_open;
        bool is_closed;
        /* answers */
        bool is_answered;
        enum access_verdict verdict;
        char problem[256];
        enum store_verdict appended;
        uint64_t revision;
        char password[64]; /* of the first user; "": none was made */
};

static inline void house_on_open(void *arg, int result, const char *problem)
{
        if (result)
                fail_msg("the store does not open: %s", problem);
        ((struct house *)arg)->is_open = true;
}

static inline void house_on_closed(void *arg)
{
        ((struct house *)arg)->is_closed = true;
}

static inline void house_run(struct house *h, uint64_t us)
{
        os_sim_run_for(h->os, us);
}

static inline void house_until(struct house *h, const bool *flag)
{
        for (unsigned i = 0; !*flag && i < 1000000; i++)
                os_sim_step(h->os);
        assert_true(*flag);
}

/* The process starts, on what the machine's disk has. */
static inline void house_start(struct house *h)
{
        struct control_options control = {.os = h->os, .node_name = "n1", .log_fd = -1};
        struct store_options store = {
                .os = h->os, .name = "default", .open_on_loop = true, .on_open = house_on_open, .arg = h};
        struct notification_options notification = {.os = h->os};
        struct access_options access = {.os = h->os, .is_enforced = h->is_enforced};

        h->is_open = h->is_closed = false;
        assert_int_equal(control_open(&control, &h->control), 0);
        assert_int_equal(persistence_node_open(h->os, "data", false, &h->node), 0);
        store.control = notification.control = access.control = h->control;
        store.node = h->node;
        assert_int_equal(store_open(&store, &h->store), 0);
        notification.store = h->store;
        assert_int_equal(notification_open(&notification, &h->notification), 0);
        assert_int_equal(access_open(&access, &h->access), 0);
        house_until(h, &h->is_open);
        assert_int_equal(access_serve(h->access, h->store, h->notification), 0);
}

static inline void house_stop(struct house *h)
{
        access_stop(h->access);
        notification_stop(h->notification);
        house_run(h, 1000);
        notification_free(&h->notification);
        store_close(&h->store, house_on_closed, h);
        house_until(h, &h->is_closed);
        access_close(&h->access);
        persistence_node_close(&h->node);
        control_close(&h->control);
}

static inline void house_begin(struct house *h, bool is_enforced)
{
        *h = (struct house){.is_enforced = is_enforced};
        assert_int_equal(os_sim_new(1, &h->os), 0);
        house_start(h);
}

static inline void house_end(struct house *h)
{
        house_stop(h);
        os_free(&h->os);
}

/* ---- the log ---- */

static inline void house_appended(void *arg, const struct store_append_result *result)
{
        struct house *h = arg;

        h->appended = result->verdict;
        h->revision = result->verdict == STORE_OK ? result->streams[0].revision : 0;
        h->is_answered = true;
}

static inline void house_append(struct house *h, const char *stream, const char *type, const char *data)
{
        struct store_append_stream to = {bytes_of_string(stream), {.kind = EXPECTED_ANY}};
        struct store_append_event event = {.draft = {.type = bytes_of_string(type),
                                                   .content_type = CONTENT_JSON,
                                                   .data = bytes_of_string(data)}};
        struct store_append append = {.streams = &to,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(h->control)};

        os_random(h->os, event.draft.id.bytes, sizeof event.draft.id.bytes);
        event_id_stamp_random(&event.draft.id);
        h->is_answered = false;
        store_append(h->store, &append, house_appended, h);
        os_turn_again(h->os);
        house_until(h, &h->is_answered);
        assert_int_equal(h->appended, STORE_OK);
        house_run(h, 1000); /* the turn's end tells who follows */
}

/* ---- users ---- */

static inline void house_changed(void *arg, enum access_verdict verdict, const char *problem)
{
        struct house *h = arg;

        h->verdict = verdict;
        snprintf(h->problem, sizeof h->problem, "%s", problem ? problem : "");
        h->is_answered = true;
}

static inline enum access_verdict house_change(struct house *h, const struct access_change *change)
{
        h->is_answered = false;
        access_change(h->access, change, house_changed, h);
        os_turn_again(h->os);
        house_until(h, &h->is_answered);
        return h->verdict;
}

/* `groups` are separated by spaces; NULL: none. */
static inline struct access_change change_of(enum access_change_kind kind, const char *login, const char *groups, const char *password)
{
        static struct bytes names[64];
        struct access_change change = {.kind = kind,
                .login = bytes_of_string(login),
                .full_name = BYTES_LITERAL("Somebody"),
                .groups = names,
                .password = bytes_of_string(password ? password : "")};

        while (groups && *groups) {
                size_t size = strcspn(groups, " ");

                assert_true(change.group_count < COUNT_OF(names));
                names[change.group_count++] = bytes_of(groups, size);
                groups += size + (groups[size] == ' ');
        }
        return change;
}

static inline enum access_verdict house_user(struct house *h, enum access_change_kind kind, const char *login, const char *groups,
        const char *password)
{
        struct access_change change = change_of(kind, login, groups, password);

        return house_change(h, &change);
}

static inline void house_make(struct house *h, const char *login, const char *groups, const char *password)
{
        assert_int_equal(house_user(h, ACCESS_CREATE, login, groups, password), ACCESS_CHANGED);
}

static inline void house_on_first(void *arg, const char *new_password)
{
        struct house *h = arg;

        snprintf(h->password, sizeof h->password, "%s", new_password ? new_password : "");
        h->is_answered = true;
}

static inline const char *house_first(struct house *h, bool is_compatible)
{
        h->is_answered = false;
        access_make_first_users(h->access, is_compatible, house_on_first, h);
        house_until(h, &h->is_answered);
        return h->password;
}

/* ---- logins ---- */

struct caller {
        struct access_login login;
        int outcome;
        struct principal *principal;
        bool is_answered;
};

static inline void caller_done(struct access_login *login, int outcome, struct principal *principal)
{
        struct caller *c = login->arg;

        assert_false(c->is_answered);
        c->outcome = outcome;
        c->principal = principal;
        c->is_answered = true;
}

static inline const char *basic(const char *login, const char *password)
{
        static char text[4096];
        struct buffer plain = {0}, encoded = {0};

        buffer_format(&plain, "%s:%s", login, password);
        base64_encode(&encoded, buffer_bytes(&plain));
        snprintf(text, sizeof text, "Basic %.*s", (int)encoded.size, (const char *)encoded.data);
        buffer_fini(&plain);
        buffer_fini(&encoded);
        return text;
}

/* Asks; what is not answered at once is answered to the caller. */
static inline int caller_ask(struct house *h, struct caller *c, const char *authorization, const char *peer)
{
        *c = (struct caller){.login = {.done = caller_done, .arg = c}};
        c->outcome = access_authenticate(
                h->access, bytes_of_string(authorization), "", peer, &c->login, &c->principal);
        c->is_answered = false;
        return c->outcome;
}

/* Asks and waits; the principal is the caller's to release. */
static inline int house_login(struct house *h, const char *authorization, const char *peer, struct principal **ret)
{
        struct caller c;

        if (caller_ask(h, &c, authorization, peer) == ACCESS_WAIT)
                house_until(h, &c.is_answered);
        *ret = c.principal;
        return c.outcome;
}

static inline int house_try(struct house *h, const char *login, const char *password)
{
        struct principal *p;
        int outcome = house_login(h, basic(login, password), "10.0.0.1:40000", &p);

        if (!outcome) {
                assert_non_null(p);
                assert_string_equal(principal_login(p), login);
        } else {
                assert_null(p);
        }
        principal_release(&p);
        return outcome;
}

static inline struct principal *house_principal(struct house *h, const char *login, const char *password)
{
        struct principal *p;

        assert_int_equal(house_login(h, basic(login, password), "10.0.0.1:40000", &p), 0);
        return p;
}

static inline uint64_t house_hashes(struct house *h)
{
        struct access_stats stats;

        access_stats(h->access, &stats);
        return stats.hashes;
}

#endif
