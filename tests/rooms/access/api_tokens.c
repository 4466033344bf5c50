/* Bearer tokens: made for who was proved, worthless when he changes, and not to be forged. */
#include "support.h"

static const char *bearer(struct bytes token)
{
        static char text[4096];

        snprintf(text, sizeof text, "Bearer %.*s", (int)token.size, (const char *)token.data);
        return text;
}

static uint64_t make(struct house *h, struct principal *p, uint32_t seconds, struct buffer *ret)
{
        uint64_t expires_us;

        buffer_clear(ret);
        assert_int_equal(access_token_make(h->access, p, seconds, ret, &expires_us), 0);
        return expires_us;
}

static int try(struct house *h, struct bytes token)
{
        struct principal *p;
        int outcome = house_login(h, bearer(token), "10.0.0.1:1", &p);

        principal_release(&p);
        return outcome;
}

TEST(token, none_are_made_before_the_leader_has_made_a_key)
{
        struct house h;
        struct principal *p;
        struct buffer token = {0};
        uint64_t expires_us;

        house_begin(&h, true);
        house_make(&h, "ann", "readers", "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        assert_int_equal(access_token_make(h.access, p, 60, &token, &expires_us), ACCESS_NOT_READY);
        assert_int_equal(try(&h, BYTES_LITERAL("AAAA")), ACCESS_NOT_READY);
        house_first(&h, false);
        make(&h, p, 60, &token);
        assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        principal_release(&p);
        buffer_fini(&token);
        house_end(&h);
}

TEST(token, it_lets_in_without_a_hash_until_it_expires)
{
        struct house h;
        struct principal *p, *again;
        struct buffer token = {0}, longer = {0};
        uint64_t before, first;

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", "readers", "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        first = make(&h, p, 60, &token);
        assert_true(token.size <= ACCESS_TOKEN_SIZE_MAX);
        before = house_hashes(&h);
        assert_int_equal(house_login(&h, bearer(buffer_bytes(&token)), "10.0.0.1:1", &again), 0);
        assert_string_equal(principal_login(again), "ann");
        assert_true(principal_is_in(again, "readers"));
        assert_int_equal(house_hashes(&h), before);
        /* A token does not beget a longer life than its own. */
        assert_true(make(&h, again, 3600, &longer) <= first);
        assert_true(access_is_current(h.access, again));
        house_run(&h, 58 * SECOND);
        assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        house_run(&h, 3 * SECOND);
        assert_int_equal(try(&h, buffer_bytes(&token)), ACCESS_DENIED);
        assert_int_equal(try(&h, buffer_bytes(&longer)), ACCESS_DENIED);
        assert_false(access_is_current(h.access, again));
        assert_true(access_is_current(h.access, p));
        principal_release(&again);
        principal_release(&p);
        buffer_fini(&token);
        buffer_fini(&longer);
        house_end(&h);
}

TEST(token, it_survives_a_restart_but_no_change_of_its_user)
{
        static const struct {
                enum access_change_kind kind;
                const char *groups;
                const char *password;
        } changes[] = {
                {ACCESS_UPDATE, "writers", NULL},
                {ACCESS_RESET_PASSWORD, NULL, "battery staple"},
                {ACCESS_DISABLE, NULL, NULL},
                {ACCESS_REMOVE, NULL, NULL},
        };
        struct house h;
        struct principal *p;
        struct buffer token = {0};
        char login[16];

        house_begin(&h, true);
        house_first(&h, false);
        for (unsigned i = 0; i < COUNT_OF(changes); i++) {
                snprintf(login, sizeof login, "ann%u", i);
                house_make(&h, login, "readers", "correct horse");
                p = house_principal(&h, login, "correct horse");
                make(&h, p, 3600, &token);
                principal_release(&p);
                house_stop(&h);
                house_start(&h);
                assert_int_equal(try(&h, buffer_bytes(&token)), 0);
                assert_int_equal(
                        house_user(&h, changes[i].kind, login, changes[i].groups, changes[i].password),
                        ACCESS_CHANGED);
                assert_int_equal(try(&h, buffer_bytes(&token)), ACCESS_DENIED);
        }
        /* Who comes back by the same login, or is let in again, is another one. */
        assert_int_equal(house_user(&h, ACCESS_CREATE, login, "readers", "correct horse"), ACCESS_CHANGED);
        assert_int_equal(try(&h, buffer_bytes(&token)), ACCESS_DENIED);
        buffer_fini(&token);
        house_end(&h);
}

TEST(token, a_name_is_no_change_that_ends_it)
{
        struct house h;
        struct principal *p;
        struct buffer token = {0};
        struct access_change change = change_of(ACCESS_UPDATE, "ann", "readers", NULL);

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", "readers", "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        make(&h, p, 3600, &token);
        for (unsigned i = 0; i < 3; i++) {
                change = change_of(ACCESS_UPDATE, "ann", "readers", NULL);
                change.full_name = i & 1 ? BYTES_LITERAL("Anne") : BYTES_LITERAL("Ann");
                assert_int_equal(house_change(&h, &change), ACCESS_CHANGED);
                assert_true(access_is_current(h.access, p));
                assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        }
        principal_release(&p);
        buffer_fini(&token);
        house_end(&h);
}

/* S8: no text but the one that was given. */
TEST(token, whatever_is_not_exactly_it_is_denied)
{
        struct house h;
        struct principal *p;
        struct buffer token = {0}, other = {0};

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", NULL, "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        make(&h, p, 3600, &token);
        for (size_t i = 0; i < token.size * 8; i++) {
                buffer_clear(&other);
                buffer_add_bytes(&other, buffer_bytes(&token));
                other.data[i / 8] ^= (uint8_t)(1u << i % 8);
                if (!other.data[i / 8])
                        continue; /* ends the test's own text */
                if (try(&h, buffer_bytes(&other)) != ACCESS_DENIED)
                        fail_msg("bit %zu may be flipped", i);
        }
        for (size_t size = 1; size < token.size; size++)
                assert_int_equal(try(&h, bytes_of(token.data, size)), ACCESS_DENIED);
        for (const char *more = "A=.-_"; *more; more++) {
                buffer_clear(&other);
                buffer_add_bytes(&other, buffer_bytes(&token));
                buffer_add_u8(&other, (uint8_t)*more);
                assert_int_equal(try(&h, buffer_bytes(&other)), ACCESS_DENIED);
        }
        assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        principal_release(&p);
        buffer_fini(&token);
        buffer_fini(&other);
        house_end(&h);
}

TEST(token, one_of_another_key_is_denied_and_a_new_key_ends_all)
{
        struct house h, elsewhere;
        struct principal *p;
        struct buffer token = {0}, foreign = {0};

        house_begin(&elsewhere, true);
        house_run(&elsewhere, 1234567); /* other chance */
        house_make(&elsewhere, "ann", NULL, "correct horse");
        house_first(&elsewhere, false);
        p = house_principal(&elsewhere, "ann", "correct horse");
        make(&elsewhere, p, 3600, &foreign);
        principal_release(&p);
        house_end(&elsewhere);

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", NULL, "correct horse");
        p = house_principal(&h, "ann", "correct horse");
        make(&h, p, 3600, &token);
        assert_int_equal(try(&h, buffer_bytes(&foreign)), ACCESS_DENIED);
        assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        house_append(&h, "$nilo-access", "$nilo-access-key",
                "{\"key\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"}");
        assert_int_equal(try(&h, buffer_bytes(&token)), ACCESS_DENIED);
        make(&h, p, 3600, &token);
        assert_int_equal(try(&h, buffer_bytes(&token)), 0);
        /* A key that cannot be read is none. */
        house_append(&h, "$nilo-access", "$nilo-access-key", "{\"key\":\"AAEC\"}");
        assert_int_equal(try(&h, buffer_bytes(&token)), ACCESS_NOT_READY);
        principal_release(&p);
        buffer_fini(&token);
        buffer_fini(&foreign);
        house_end(&h);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(token, none_are_made_before_the_leader_has_made_a_key),
                TEST_ROW(token, it_lets_in_without_a_hash_until_it_expires),
                TEST_ROW(token, it_survives_a_restart_but_no_change_of_its_user),
                TEST_ROW(token, a_name_is_no_change_that_ends_it),
                TEST_ROW(token, whatever_is_not_exactly_it_is_denied),
                TEST_ROW(token, one_of_another_key_is_denied_and_a_new_key_ends_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
