/* Rights to streams: every kind of principal, right and stream, with and without ACLs and settings. */
#include "support.h"

enum kind { STRANGER, USER, NAMED, GROUPED, OPS, ADMIN, KINDS };
static const char *const logins[KINDS] = {NULL, "user", "ann", "gil", "olga", "root"};
static const char *const groups[KINDS] = {NULL, NULL, "others", "readers more", "$ops", "$admins"};

struct crowd {
        struct house house;
        struct principal *principals[KINDS];
};

static void crowd_begin(struct crowd *c)
{
        house_begin(&c->house, true);
        for (unsigned i = USER; i < KINDS; i++) {
                house_make(&c->house, logins[i], groups[i], "correct horse");
                c->principals[i] = house_principal(&c->house, logins[i], "correct horse");
        }
        c->principals[STRANGER] = NULL;
}

static void crowd_end(struct crowd *c)
{
        for (unsigned i = 0; i < KINDS; i++)
                principal_release(&c->principals[i]);
        house_end(&c->house);
}

/* One letter for each kind of principal who may: u n g o a, and s for a stranger; "-" where not. For all
 * rights, apart by spaces. */
static void expect(struct crowd *c, const char *stream, const char *wanted)
{
        static const char letters[KINDS] = "sungoa";
        char got[128];
        size_t size = 0;

        for (unsigned right = 0; right < ACCESS_RIGHTS; right++) {
                for (unsigned k = 0; k < KINDS; k++) {
                        bool may = access_may(c->house.access, c->principals[k], (enum access_right)right,
                                bytes_of_string(stream));

                        /* What is remembered says the same. */
                        assert_int_equal(may, access_may(c->house.access, c->principals[k],
                                                      (enum access_right)right, bytes_of_string(stream)));
                        got[size++] = may ? letters[k] : '-';
                }
                got[size++] = ' ';
        }
        got[size - 1] = 0;
        if (strcmp(got, wanted) != 0)
                fail_msg("%s: rwd mr mw are \"%s\", not \"%s\"", stream, got, wanted);
}

#define EVERY      "-ungoa"
#define ADMINS     "-----a"
#define ALL_EVERY  EVERY " " EVERY " " EVERY " " EVERY " " EVERY
#define ALL_ADMINS ADMINS " " ADMINS " " ADMINS " " ADMINS " " ADMINS

TEST(rights, without_a_word_user_streams_are_for_users_and_system_streams_for_admins)
{
        static const char *const user[] = {"order-1", "$$order-1", "-", "a:b"};
        static const char *const system[] = {"$all", "$$$all", "$settings", "$$$settings", "$ce-order",
                "$nilo-subscriptions", "$user-ann", "$$$user-ann", "$nilo-access", "$$$nilo-access",
                "$nilo-cluster", "$$$nilo-cluster", "$$", "$$$$x", "$$$$$user-ann"};
        struct crowd c;

        crowd_begin(&c);
        for (unsigned i = 0; i < COUNT_OF(user); i++)
                expect(&c, user[i], ALL_EVERY);
        for (unsigned i = 0; i < COUNT_OF(system); i++)
                expect(&c, system[i], ALL_ADMINS);
        expect(&c, "", ALL_EVERY); /* there is none: the answer shall be that it is no name */
        crowd_end(&c);
}

TEST(rights, an_acl_says_who)
{
        struct crowd c;

        crowd_begin(&c);
        house_append(&c.house, "$$order-1", "$metadata",
                "{\"$acl\":{\"$r\":[\"ann\",\"readers\"],\"$w\":\"ann\",\"$d\":[],\"$mr\":\"$all\",\"$mw\":"
                "\"$ops\"}}");
        expect(&c, "order-1", "--ng-a --n--a " ADMINS " " EVERY " ----oa");
        /* The rights to a metastream are those to the metadata. */
        expect(&c, "$$order-1", EVERY " ----oa ----oa " EVERY " ----oa");
        expect(&c, "order-2", ALL_EVERY);
        /* What is not said is as it was. */
        house_append(&c.house, "$$order-1", "$metadata",
                "{\"$maxCount\":5,\"$acl\":{\"$w\":null,\"$r\":\"$admins\"}}");
        expect(&c, "order-1", ADMINS " " EVERY " " EVERY " " EVERY " " EVERY);
        house_append(&c.house, "$$order-1", "$metadata", "{\"$acl\":null}");
        expect(&c, "order-1", ALL_EVERY);
        /* A system stream can be opened. */
        house_append(&c.house, "$$$ce-order", "$metadata", "{\"$acl\":{\"$r\":\"readers\"}}");
        expect(&c, "$ce-order", "---g-a " ADMINS " " ADMINS " " ADMINS " " ADMINS);
        crowd_end(&c);
}

TEST(rights, everything_is_read_by_the_rights_of_all)
{
        struct crowd c;

        crowd_begin(&c);
        house_append(&c.house, "$$$all", "$metadata", "{\"$acl\":{\"$r\":[\"readers\",\"$ops\"]}}");
        expect(&c, "$all", "---goa " ADMINS " " ADMINS " " ADMINS " " ADMINS);
        crowd_end(&c);
}

TEST(rights, some_streams_are_for_admins_whatever_anything_says)
{
        static const char *const streams[] = {"$user-ann", "$nilo-access", "$nilo-cluster"};
        struct crowd c;
        char meta[64];

        crowd_begin(&c);
        house_append(&c.house, "$settings", "$settings",
                "{\"$systemStreamAcl\":{\"$r\":\"$all\",\"$w\":\"$all\",\"$d\":\"$all\",\"$mr\":\"$all\",\"$"
                "mw\":\"$all\"}}");
        expect(&c, "$ce-order", ALL_EVERY);
        expect(&c, "$all", ALL_EVERY);
        for (unsigned i = 0; i < COUNT_OF(streams); i++) {
                snprintf(meta, sizeof meta, "$$%s", streams[i]);
                if (i) /* the metadata of a user's stream would be a change of him */
                        house_append(&c.house, meta, "$metadata",
                                "{\"$acl\":{\"$r\":\"$all\",\"$w\":\"$all\",\"$mw\":\"$all\"}}");
                expect(&c, streams[i], ALL_ADMINS);
                expect(&c, meta, ALL_ADMINS);
                for (unsigned k = 0; k < KINDS; k++) {
                        assert_int_equal(
                                access_may_see(c.house.access, c.principals[k], bytes_of_string(streams[i])),
                                k == ADMIN);
                        assert_int_equal(
                                access_may_see(c.house.access, c.principals[k], bytes_of_string(meta)),
                                k == ADMIN);
                }
        }
        assert_true(access_may_see(c.house.access, c.principals[USER], BYTES_LITERAL("order-1")));
        assert_true(access_may_see(c.house.access, c.principals[USER], BYTES_LITERAL("$settings")));
        assert_false(access_may_see(c.house.access, NULL, BYTES_LITERAL("order-1")));
        crowd_end(&c);
}

TEST(rights, settings_say_what_streams_say_nothing_about)
{
        struct crowd c;

        crowd_begin(&c);
        house_append(&c.house, "$$order-1", "$metadata", "{\"$acl\":{\"$w\":\"$all\"}}");
        house_append(&c.house, "$settings", "$settings",
                "{\"$userStreamAcl\":{\"$r\":[\"readers\"],\"$w\":[\"ann\"]},\"$systemStreamAcl\":{\"$r\":\"$"
                "ops\"}}");
        expect(&c, "order-2", "---g-a --n--a " EVERY " " EVERY " " EVERY);
        expect(&c, "order-1", "---g-a " EVERY " " EVERY " " EVERY " " EVERY);
        expect(&c, "$ce-order", "----oa " ADMINS " " ADMINS " " ADMINS " " ADMINS);
        house_append(&c.house, "$settings", "$settings", "{}");
        expect(&c, "order-2", ALL_EVERY);
        expect(&c, "$ce-order", ALL_ADMINS);
        crowd_end(&c);
}

/* Who wanted to close something and made a mistake has closed it. */
TEST(rights, what_cannot_be_read_closes)
{
        static const char *const bodies[] = {"{", "[]", "{\"$acl\":[]}", "{\"$acl\":\"ann\"}",
                "{\"$acl\":{\"$r\":7}}", "{\"$acl\":{\"$r\":[\"ann\",7]}}", "{\"$acl\":{\"$w\":{}}}",
                "{\"$acl\":{\"$r\":\"\xff\"}}", "nonsense"};
        struct crowd c;

        crowd_begin(&c);
        for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
                house_append(&c.house, "$$order-1", "$metadata", "{}");
                expect(&c, "order-1", ALL_EVERY);
                house_append(&c.house, "$$order-1", "$metadata", bodies[i]);
                expect(&c, "order-1", ALL_ADMINS);
        }
        house_append(&c.house, "$settings", "$settings", "{\"$userStreamAcl\":7}");
        expect(&c, "order-2", ALL_ADMINS);
        crowd_end(&c);
}

TEST(rights, a_change_counts_at_once_and_is_told)
{
        struct crowd c;
        uint64_t generation;

        crowd_begin(&c);
        expect(&c, "order-1", ALL_EVERY);
        generation = access_generation(c.house.access);
        house_append(&c.house, "$$order-1", "$metadata", "{\"$acl\":{\"$r\":\"$admins\"}}");
        assert_true(access_generation(c.house.access) > generation);
        expect(&c, "order-1", ADMINS " " EVERY " " EVERY " " EVERY " " EVERY);
        generation = access_generation(c.house.access);
        house_append(&c.house, "$$order-9", "$metadata", "{\"$maxCount\":3}");
        assert_int_equal(access_generation(c.house.access), generation); /* no right is concerned */
        house_append(&c.house, "$$order-1", "$metadata", "{}");
        assert_true(access_generation(c.house.access) > generation);
        expect(&c, "order-1", ALL_EVERY);
        crowd_end(&c);
}

/* The subscription that tells of changes may end under it. */
TEST(rights, changes_count_also_after_the_subscription_broke)
{
        struct crowd c;

        crowd_begin(&c);
        expect(&c, "order-1", ALL_EVERY);
        notification_stop(c.house.notification);
        house_run(&c.house, SECOND);
        house_append(&c.house, "$$order-1", "$metadata", "{\"$acl\":{\"$r\":\"$admins\"}}");
        expect(&c, "order-1", ADMINS " " EVERY " " EVERY " " EVERY " " EVERY);
        assert_int_equal(house_try(&c.house, "ann", "correct horse"), 0);
        assert_true(access_is_current(c.house.access, c.principals[NAMED]));
        crowd_end(&c);
}

TEST(rights, rules_are_by_group)
{
        static const struct {
                enum access_rule rule;
                const char *who;
        } rules[] = {{ACCESS_UNRULED, "------"}, {ACCESS_ANYONE, "sungoa"}, {ACCESS_USER, "-ungoa"},
                {ACCESS_OPS, "----oa"}, {ACCESS_ADMINS, "-----a"}, {ACCESS_STREAM, "-ungoa"}};
        struct crowd c;

        crowd_begin(&c);
        for (unsigned i = 0; i < COUNT_OF(rules); i++)
                for (unsigned k = 0; k < KINDS; k++)
                        assert_int_equal(access_allows(c.house.access, c.principals[k], rules[i].rule),
                                rules[i].who[k] != '-');
        crowd_end(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(rights, without_a_word_user_streams_are_for_users_and_system_streams_for_admins),
                TEST_ROW(rights, an_acl_says_who),
                TEST_ROW(rights, everything_is_read_by_the_rights_of_all),
                TEST_ROW(rights, some_streams_are_for_admins_whatever_anything_says),
                TEST_ROW(rights, settings_say_what_streams_say_nothing_about),
                TEST_ROW(rights, what_cannot_be_read_closes),
                TEST_ROW(rights, a_change_counts_at_once_and_is_told),
                TEST_ROW(rights, changes_count_also_after_the_subscription_broke),
                TEST_ROW(rights, rules_are_by_group),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
