/* Who is let in: by password, what is remembered of that, and what slows those who guess. */
#include "support.h"

TEST(login, first_users_are_made_once_and_the_password_is_told_once)
{
        struct house h;
        char password[64];

        house_begin(&h, true);
        snprintf(password, sizeof password, "%s", house_first(&h, false));
        assert_true(strlen(password) >= 26); /* 5 bits each: 128 and more */
        assert_int_equal(strspn(password, "abcdefghijkmnpqrstuvwxyz23456789"), strlen(password));
        assert_int_equal(house_try(&h, "admin", password), 0);
        assert_int_equal(house_try(&h, "admin", "changeit"), ACCESS_DENIED);
        assert_string_equal(house_first(&h, false), "");
        house_stop(&h);
        house_start(&h);
        assert_string_equal(house_first(&h, true), "");
        assert_int_equal(house_try(&h, "admin", password), 0);
        assert_int_equal(house_try(&h, "ops", "changeit"), ACCESS_DENIED);
        house_end(&h);
}

TEST(login, compatible_users_are_made_only_when_asked_for)
{
        struct house h;
        struct principal *p;

        house_begin(&h, true);
        assert_string_equal(house_first(&h, true), "changeit");
        p = house_principal(&h, "admin", "changeit");
        assert_true(principal_is_in(p, "$admins"));
        principal_release(&p);
        p = house_principal(&h, "ops", "changeit");
        assert_true(principal_is_in(p, "$ops"));
        assert_false(principal_is_in(p, "$admins"));
        principal_release(&p);
        house_end(&h);
}

/* G2: the users are in the log. */
TEST(login, users_survive_a_restart)
{
        struct house h;

        house_begin(&h, true);
        house_make(&h, "ann", "readers", "correct horse");
        house_stop(&h);
        house_start(&h);
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        assert_int_equal(house_try(&h, "ann", "battery staple"), ACCESS_DENIED);
        house_end(&h);
}

TEST(login, unknown_users_and_disabled_ones_cost_as_many_hashes_as_a_wrong_password)
{
        struct house h;
        uint64_t before;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        house_make(&h, "bob", NULL, "correct horse");
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "bob", NULL, NULL), ACCESS_CHANGED);
        before = house_hashes(&h);
        assert_int_equal(house_try(&h, "ann", "wrong"), ACCESS_DENIED);
        assert_int_equal(house_hashes(&h) - before, 1);
        assert_int_equal(house_try(&h, "nobody", "wrong"), ACCESS_DENIED);
        assert_int_equal(house_hashes(&h) - before, 2);
        assert_int_equal(house_try(&h, "bob", "correct horse"), ACCESS_DENIED);
        assert_int_equal(house_hashes(&h) - before, 3);
        house_end(&h);
}

TEST(login, what_was_proved_is_remembered_for_minutes)
{
        struct house h;
        uint64_t before;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        before = house_hashes(&h);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        house_run(&h, 4 * 60 * SECOND);
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        assert_int_equal(house_hashes(&h), before);
        house_run(&h, 2 * 60 * SECOND);
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        assert_int_equal(house_hashes(&h), before + 1);
        house_end(&h);
}

TEST(login, calls_of_one_client_at_once_cost_one_hash)
{
        enum { CALLS = 500 };
        static struct caller callers[CALLS];
        struct house h;
        uint64_t before;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        before = house_hashes(&h);
        for (unsigned i = 0; i < CALLS; i++)
                assert_int_equal(caller_ask(&h, &callers[i], basic("ann", "correct horse"), "10.0.0.1:1"),
                        ACCESS_WAIT);
        access_login_end(&callers[7].login);
        access_login_end(&callers[7].login);
        house_until(&h, &callers[CALLS - 1].is_answered);
        for (unsigned i = 0; i < CALLS; i++) {
                assert_int_equal(callers[i].is_answered, i != 7);
                assert_int_equal(callers[i].outcome, i == 7 ? ACCESS_WAIT : 0);
                principal_release(&callers[i].principal);
        }
        assert_int_equal(house_hashes(&h), before + 1);
        house_end(&h);
}

/* G18: a flood of passwords is refused, not queued without end. */
TEST(login, more_than_may_wait_are_refused_at_once)
{
        enum { CALLS = ACCESS_HASHES_MAX + ACCESS_HASHES_WAITING_MAX };
        static struct caller callers[CALLS + 1];
        struct house h;
        char password[32];

        house_begin(&h, true);
        for (unsigned i = 0; i <= CALLS; i++) {
                char peer[32];

                snprintf(password, sizeof password, "password %u", i);
                snprintf(peer, sizeof peer, "10.0.1.%u:7", i);
                assert_int_equal(caller_ask(&h, &callers[i], basic("ann", password), peer),
                        i < CALLS ? ACCESS_WAIT : ACCESS_BUSY);
        }
        /* Who goes away before his turn leaves no work behind. */
        for (unsigned i = ACCESS_HASHES_MAX; i < CALLS; i++)
                access_login_end(&callers[i].login);
        house_until(&h, &callers[1].is_answered);
        house_until(&h, &callers[0].is_answered);
        assert_int_equal(house_hashes(&h), ACCESS_HASHES_MAX);
        assert_int_equal(callers[0].outcome, ACCESS_DENIED);
        house_end(&h);
}

TEST(login, one_address_does_not_take_every_place)
{
        static struct caller callers[ACCESS_HASHES_WAITING_MAX], other;
        struct house h;
        char login[32];
        unsigned taken = 0;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        for (unsigned i = 0; i < COUNT_OF(callers); i++) {
                int outcome;

                snprintf(login, sizeof login, "user%u", i);
                outcome = caller_ask(&h, &callers[i], basic(login, "sprayed password"), "10.0.0.66:9");
                assert_true(outcome == ACCESS_WAIT || outcome == ACCESS_BUSY);
                taken += outcome == ACCESS_WAIT;
        }
        assert_in_range(taken, 1, ACCESS_HASHES_WAITING_MAX / 2);
        assert_int_equal(caller_ask(&h, &other, basic("ann", "correct horse"), "10.0.0.1:1"), ACCESS_WAIT);
        house_until(&h, &other.is_answered);
        assert_int_equal(other.outcome, 0);
        principal_release(&other.principal);
        house_end(&h);
}

/* S13. */
TEST(login, who_guesses_is_slowed_and_others_are_not)
{
        struct house h;
        struct principal *p;
        unsigned tried = 0, tried_in_second = 0;
        char password[32];

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        assert_int_equal(house_login(&h, basic("ann", "correct horse"), "10.0.0.2:1", &p), 0);
        principal_release(&p);
        for (unsigned i = 0; i < 600; i++) {
                int outcome;

                snprintf(password, sizeof password, "guess %u", i);
                outcome = house_login(&h, basic("ann", password), "10.0.0.66:9", &p);
                assert_true(outcome == ACCESS_DENIED || outcome == ACCESS_SLOWED);
                tried += outcome == ACCESS_DENIED;
                tried_in_second += outcome == ACCESS_DENIED && i < 10;
                house_run(&h, SECOND / 10);
        }
        assert_in_range(tried_in_second, 1, 10);
        assert_in_range(tried, 10, 30); /* in a minute: the delay has grown */
        /* Another port is the same guesser, even with the right password; another address, and what is
         * remembered, are not. */
        assert_int_equal(house_login(&h, basic("ann", "guess again"), "10.0.0.66:10", &p), ACCESS_SLOWED);
        assert_int_equal(house_login(&h, basic("ann", "guess again"), "10.0.0.67:10", &p), ACCESS_DENIED);
        assert_int_equal(house_login(&h, basic("ann", "correct horse"), "10.0.0.66:9", &p), 0);
        principal_release(&p);
        house_run(&h, 6 * 60 * SECOND);
        assert_int_equal(house_login(&h, basic("ann", "correct horse"), "10.0.0.66:9", &p), 0);
        principal_release(&p);
        house_end(&h);
}

TEST(login, a_burst_of_guesses_is_slowed_before_they_fail)
{
        static struct caller callers[40];
        struct house h;
        unsigned taken = 0;
        char password[32];

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        for (unsigned i = 0; i < COUNT_OF(callers); i++) {
                snprintf(password, sizeof password, "guess %u", i);
                taken +=
                        caller_ask(&h, &callers[i], basic("ann", password), "[2001:db8::1]:9") == ACCESS_WAIT;
        }
        assert_in_range(taken, 1, 10);
        /* Another address of the same network is the same guesser. */
        assert_int_equal(
                caller_ask(&h, &callers[39], basic("ann", "guess"), "[2001:db8::2]:9"), ACCESS_SLOWED);
        house_run(&h, SECOND);
        house_end(&h);
}

TEST(login, a_change_counts_at_once)
{
        struct house h;
        struct principal *p;
        uint64_t generation;

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", "readers", "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        assert_true(access_is_current(h.access, p));
        generation = access_generation(h.access);
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_true(access_generation(h.access) > generation);
        assert_false(access_is_current(h.access, p));
        assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
        /* What was proved before stays worthless. */
        assert_int_equal(house_user(&h, ACCESS_ENABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_false(access_is_current(h.access, p));
        principal_release(&p);
        p = house_principal(&h, "ann", "correct horse");
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "ann", "readers", NULL), ACCESS_CHANGED); /* nothing */
        assert_true(access_is_current(h.access, p));
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "ann", "writers", NULL), ACCESS_CHANGED);
        assert_false(access_is_current(h.access, p));
        principal_release(&p);
        p = house_principal(&h, "ann", "correct horse");
        assert_int_equal(
                house_user(&h, ACCESS_RESET_PASSWORD, "ann", NULL, "battery staple"), ACCESS_CHANGED);
        assert_false(access_is_current(h.access, p));
        principal_release(&p);
        assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
        p = house_principal(&h, "ann", "battery staple");
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_false(access_is_current(h.access, p));
        assert_int_equal(house_try(&h, "ann", "battery staple"), ACCESS_DENIED);
        house_make(&h, "ann", "writers", "battery staple");
        assert_false(access_is_current(h.access, p));
        principal_release(&p);
        house_end(&h);
}

/* As another node would: only the log tells. */
TEST(login, a_change_by_another_node_counts_within_a_second)
{
        struct house h;
        struct principal *p;
        uint64_t generation;

        house_begin(&h, true);
        house_make(&h, "ann", "readers", "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        generation = access_generation(h.access);
        house_append(&h, "$user-ann", "$UserUpdated",
                "{\"loginName\":\"ann\",\"fullName\":\"\",\"groups\":[],\"disabled\":true,\"hash\":\"\"}");
        assert_true(access_generation(h.access) > generation);
        assert_false(access_is_current(h.access, p));
        principal_release(&p);
        assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
        house_end(&h);
}

TEST(login, a_change_while_the_password_is_checked_counts)
{
        struct house h;
        struct caller c;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        assert_int_equal(caller_ask(&h, &c, basic("ann", "correct horse"), "10.0.0.1:1"), ACCESS_WAIT);
        house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL);
        house_until(&h, &c.is_answered);
        assert_true(c.outcome == ACCESS_DENIED || c.outcome == 0);
        if (c.principal)
                assert_false(access_is_current(h.access, c.principal));
        principal_release(&c.principal);
        assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
        house_end(&h);
}

TEST(login, what_is_no_authorization_is_denied)
{
        static const char *const wrong[] = {"Basic", "Basic ", "Basic !", "Basic YW5u", "basic", "Digest x",
                "Bearer", "Bearer ", "Bearer x", "BasicYW5uOmNvcnJlY3QgaG9yc2U=",
                "Basic OmNvcnJlY3QgaG9yc2U=", " Basic YW5uOg==", "Basic YW5uAA==", "Basic JGFkbWluczp4"};
        struct house h;
        struct principal *p;
        char *large = memory_new(100000);

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", NULL, "correct horse");
        for (unsigned i = 0; i < COUNT_OF(wrong); i++)
                if (house_login(&h, wrong[i], "10.0.0.1:1", &p) != ACCESS_DENIED)
                        fail_msg("\"%s\" was not denied", wrong[i]);
        memset(large, 'A', 99999);
        memcpy(large, "Basic ", 6);
        assert_int_equal(house_login(&h, large, "10.0.0.1:1", &p), ACCESS_DENIED);
        memcpy(large, "Bearer", 6);
        assert_int_equal(house_login(&h, large, "10.0.0.1:1", &p), ACCESS_DENIED);
        free(large);
        assert_int_equal(house_hashes(&h), 2); /* of the two who were made */
        assert_int_equal(house_login(&h, "", "10.0.0.1:1", &p), 0);
        assert_null(p);
        assert_int_equal(house_login(&h, "bAsIc YW5uOmNvcnJlY3QgaG9yc2U=", "10.0.0.1:1", &p), 0);
        principal_release(&p);
        house_end(&h);
}

TEST(login, a_certificate_names_a_user)
{
        struct house h;
        struct access_login login = {0};
        struct principal *p;

        house_begin(&h, true);
        house_make(&h, "ann", "readers", "correct horse");
        assert_int_equal(access_authenticate(h.access, BYTES_EMPTY, "ann", "10.0.0.1:1", &login, &p), 0);
        assert_string_equal(principal_login(p), "ann");
        principal_release(&p);
        assert_int_equal(
                access_authenticate(h.access, BYTES_EMPTY, "bob", "10.0.0.1:1", &login, &p), ACCESS_DENIED);
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(
                access_authenticate(h.access, BYTES_EMPTY, "ann", "10.0.0.1:1", &login, &p), ACCESS_DENIED);
        house_end(&h);
}

TEST(login, nobody_is_asked_where_rights_are_not_enforced)
{
        struct house h;
        struct principal *p;
        struct notification_stats stats;

        house_begin(&h, false);
        assert_int_equal(house_login(&h, basic("ann", "wrong"), "10.0.0.1:1", &p), 0);
        assert_null(p);
        assert_true(access_allows(h.access, NULL, ACCESS_ADMINS));
        assert_false(access_allows(h.access, NULL, ACCESS_UNRULED));
        assert_true(access_may(h.access, NULL, ACCESS_DELETE, BYTES_LITERAL("$user-ann")));
        assert_true(access_may_see(h.access, NULL, BYTES_LITERAL("$user-ann")));
        notification_stats(h.notification, &stats);
        assert_int_equal(stats.subscriptions, 0); /* it costs nothing */
        /* Users can be made all the same, for the day on which they are. */
        house_make(&h, "ann", "$admins", "correct horse");
        house_stop(&h);
        h.is_enforced = true;
        house_start(&h);
        assert_string_equal(house_first(&h, false), "");
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        house_end(&h);
}

TEST(login, who_waits_at_the_stop_is_told)
{
        struct house h;
        struct caller callers[5];
        struct principal *p;
        char password[32];

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        for (unsigned i = 0; i < 5; i++) {
                char peer[32];

                snprintf(password, sizeof password, "guess %u", i);
                snprintf(peer, sizeof peer, "10.0.0.%u:1", i);
                assert_int_equal(caller_ask(&h, &callers[i], basic("ann", password), peer), ACCESS_WAIT);
        }
        access_stop(h.access);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(callers[i].outcome, ACCESS_NOT_READY);
        assert_int_equal(house_login(&h, basic("ann", "correct horse"), "10.0.0.1:1", &p), ACCESS_NOT_READY);
        house_end(&h);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(login, first_users_are_made_once_and_the_password_is_told_once),
                TEST_ROW(login, compatible_users_are_made_only_when_asked_for),
                TEST_ROW(login, users_survive_a_restart),
                TEST_ROW(login, unknown_users_and_disabled_ones_cost_as_many_hashes_as_a_wrong_password),
                TEST_ROW(login, what_was_proved_is_remembered_for_minutes),
                TEST_ROW(login, calls_of_one_client_at_once_cost_one_hash),
                TEST_ROW(login, more_than_may_wait_are_refused_at_once),
                TEST_ROW(login, one_address_does_not_take_every_place),
                TEST_ROW(login, who_guesses_is_slowed_and_others_are_not),
                TEST_ROW(login, a_burst_of_guesses_is_slowed_before_they_fail),
                TEST_ROW(login, a_change_counts_at_once),
                TEST_ROW(login, a_change_by_another_node_counts_within_a_second),
                TEST_ROW(login, a_change_while_the_password_is_checked_counts),
                TEST_ROW(login, what_is_no_authorization_is_denied),
                TEST_ROW(login, a_certificate_names_a_user),
                TEST_ROW(login, nobody_is_asked_where_rights_are_not_enforced),
                TEST_ROW(login, who_waits_at_the_stop_is_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
