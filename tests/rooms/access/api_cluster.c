/* Users and rights on several nodes: each decides by its own log, and follows what another one has changed.
 */
#include "three.h"

#include "support.h"

enum { WAIT_US_MAX = 10 * 1000 * 1000, LOOK_US = 1000 };

struct place {
        struct notification *notification;
        struct access *access;
};

struct town {
        struct os *os;
        struct control *control;
        struct three three;
        struct place leader;
        struct place follower;
        bool is_up;
        bool is_closed;
        bool is_answered;
        enum access_verdict verdict;
        char password[64];
        /* waiting */
        bool (*is_reached)(struct town *t, void *arg);
        void *arg;
        bool has_come;
        uint64_t until_us;
        struct os_timer look;
};

static void on_up(void *arg)
{
        ((struct town *)arg)->is_up = true;
}

static void on_closed(void *arg)
{
        ((struct town *)arg)->is_closed = true;
}

static void on_look(struct os_timer *timer)
{
        struct town *t = timer->arg;

        t->has_come = t->is_reached(t, t->arg);
        if (t->has_come || os_monotonic_us(t->os) >= t->until_us)
                os_stop(t->os);
        else
                os_timer_start(t->os, timer, LOOK_US);
}

/* Runs until it holds; gives how long it took. */
static uint64_t until(struct town *t, bool (*is_reached)(struct town *t, void *arg), void *arg)
{
        uint64_t start_us = os_monotonic_us(t->os);

        t->is_reached = is_reached;
        t->arg = arg;
        t->until_us = start_us + WAIT_US_MAX;
        t->look = (struct os_timer){.fn = on_look, .arg = t};
        os_timer_start(t->os, &t->look, 0);
        assert_int_equal(os_run(t->os), 0);
        assert_true(t->has_come);
        return os_monotonic_us(t->os) - start_us;
}

static bool is_true(struct town *t, void *arg)
{
        (void)t;
        return *(bool *)arg;
}

static void place_open(struct town *t, struct place *p, enum seat seat)
{
        struct notification_options notification = {
                .os = t->os, .control = t->control, .store = three_seat(&t->three, seat)->store};
        struct access_options access = {.os = t->os, .control = t->control, .is_enforced = true};

        assert_int_equal(notification_open(&notification, &p->notification), 0);
        assert_int_equal(access_open(&access, &p->access), 0);
        assert_int_equal(access_serve(p->access, notification.store, p->notification), 0);
}

static void town_begin(struct town *t)
{
        struct control_options control = {.node_name = "n1", .log_fd = -1};

        *t = (struct town){0};
        assert_int_equal(os_real_new(&t->os), 0);
        os_memory_disk(t->os);
        control.os = t->os;
        assert_int_equal(control_open(&control, &t->control), 0);
        three_open(&t->three, t->os, t->control, on_up, t);
        until(t, is_true, &t->is_up);
        place_open(t, &t->leader, SEAT_LEADER);
        place_open(t, &t->follower, SEAT_FOLLOWER);
}

static bool has_passed(struct town *t, void *arg)
{
        return os_monotonic_us(t->os) >= *(uint64_t *)arg;
}

static void town_end(struct town *t)
{
        uint64_t later_us = os_monotonic_us(t->os) + 20 * 1000;

        access_stop(t->leader.access);
        access_stop(t->follower.access);
        notification_stop(t->leader.notification);
        notification_stop(t->follower.notification);
        until(t, has_passed, &later_us);
        notification_free(&t->leader.notification);
        notification_free(&t->follower.notification);
        access_close(&t->leader.access);
        access_close(&t->follower.access);
        t->three.arg = t;
        three_close(&t->three, on_closed);
        until(t, is_true, &t->is_closed);
        control_close(&t->control);
        os_free(&t->os);
}

static void on_change(void *arg, enum access_verdict verdict, const char *problem)
{
        struct town *t = arg;

        (void)problem;
        t->verdict = verdict;
        t->is_answered = true;
}

static enum access_verdict change(
        struct town *t, struct place *p, enum access_change_kind kind, const char *login, const char *groups)
{
        struct access_change wanted = change_of(kind, login, groups, "correct horse");

        t->is_answered = false;
        access_change(p->access, &wanted, on_change, t);
        until(t, is_true, &t->is_answered);
        return t->verdict;
}

static void on_first(void *arg, const char *new_password)
{
        struct town *t = arg;

        snprintf(t->password, sizeof t->password, "%s", new_password ? new_password : "");
        t->is_answered = true;
}

static bool has_user(struct town *t, void *arg)
{
        struct access_user user;

        return access_user(t->follower.access, bytes_of_string(arg), &user) == 0;
}

static bool is_stale(struct town *t, void *arg)
{
        return !access_is_current(t->follower.access, arg);
}

static struct principal *login(struct town *t, struct place *p, const char *authorization, int *ret_outcome)
{
        struct caller c = {.login = {.done = caller_done, .arg = &c}};

        *ret_outcome = access_authenticate(
                p->access, bytes_of_string(authorization), "", "10.0.0.1:1", &c.login, &c.principal);
        if (*ret_outcome != ACCESS_WAIT)
                return c.principal;
        until(t, is_true, &c.is_answered);
        *ret_outcome = c.outcome;
        return c.principal;
}

TEST(cluster, what_the_leader_made_lets_in_everywhere)
{
        struct town t;
        struct principal *p;
        struct buffer token = {0};
        char text[ACCESS_TOKEN_SIZE_MAX + 16];
        uint64_t expires_us;
        int outcome;

        town_begin(&t);
        /* Only who leads makes the first users. */
        access_make_first_users(t.follower.access, false, on_first, &t);
        until(&t, is_true, &t.is_answered);
        assert_string_equal(t.password, "");
        t.is_answered = false;
        access_make_first_users(t.leader.access, false, on_first, &t);
        until(&t, is_true, &t.is_answered);
        assert_int_equal(strlen(t.password), 26);
        until(&t, has_user, (char[]){"admin"});
        p = login(&t, &t.follower, basic("admin", t.password), &outcome);
        assert_int_equal(outcome, 0);
        assert_int_equal(access_token_make(t.follower.access, p, 60, &token, &expires_us), 0);
        principal_release(&p);
        snprintf(text, sizeof text, "Bearer %.*s", (int)token.size, (const char *)token.data);
        p = login(&t, &t.leader, text, &outcome);
        assert_int_equal(outcome, 0);
        assert_string_equal(principal_login(p), "admin");
        principal_release(&p);
        buffer_fini(&token);
        town_end(&t);
}

/* Revocation within a second, wherever he is. */
TEST(cluster, a_change_on_one_node_counts_on_the_others_within_a_second)
{
        struct town t;
        struct principal *p;
        uint64_t generation;
        int outcome;

        town_begin(&t);
        assert_int_equal(change(&t, &t.follower, ACCESS_CREATE, "ann", "readers"),
                ACCESS_CHANGED); /* the leader writes it */
        until(&t, has_user, (char[]){"ann"});
        p = login(&t, &t.follower, basic("ann", "correct horse"), &outcome);
        assert_int_equal(outcome, 0);
        generation = access_generation(t.follower.access);
        assert_int_equal(change(&t, &t.leader, ACCESS_DISABLE, "ann", NULL), ACCESS_CHANGED);
        assert_true(until(&t, is_stale, p) < SECOND);
        assert_true(access_generation(t.follower.access) > generation);
        principal_release(&p);
        p = login(&t, &t.follower, basic("ann", "correct horse"), &outcome);
        assert_int_equal(outcome, ACCESS_DENIED);
        assert_null(p);
        town_end(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(cluster, what_the_leader_made_lets_in_everywhere),
                TEST_ROW(cluster, a_change_on_one_node_counts_on_the_others_within_a_second),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
