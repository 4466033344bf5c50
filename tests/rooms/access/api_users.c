/* Changes of users: who there may be, what is refused, and what the log and the facts say of it. */
#include "support.h"

TEST(user, each_change_does_what_it_says)
{
        struct house h;
        struct access_user user;

        house_begin(&h, true);
        house_first(&h, false);
        house_make(&h, "ann", "readers writers readers", "correct horse");
        assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), 0);
        assert_string_equal(user.login, "ann");
        assert_string_equal(user.full_name, "Somebody");
        assert_int_equal(user.group_count, 2);
        assert_string_equal(user.groups[0], "readers");
        assert_string_equal(user.groups[1], "writers");
        assert_false(user.is_disabled);
        assert_true(user.updated_us > 0);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), 0);
        assert_int_equal(user.group_count, 0);
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), 0);
        assert_true(user.is_disabled);
        assert_int_equal(house_user(&h, ACCESS_ENABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), 0);
        assert_false(user.is_disabled);
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), ACCESS_DENIED);
        house_end(&h);
}

TEST(user, who_is_there_or_is_not_is_said)
{
        static const enum access_change_kind kinds[] = {ACCESS_UPDATE, ACCESS_REMOVE, ACCESS_ENABLE,
                ACCESS_DISABLE, ACCESS_CHANGE_PASSWORD, ACCESS_RESET_PASSWORD};
        struct house h;

        house_begin(&h, true);
        for (unsigned i = 0; i < COUNT_OF(kinds); i++)
                assert_int_equal(
                        house_user(&h, kinds[i], "ann", NULL, "correct horse"), ACCESS_USER_NOT_FOUND);
        house_make(&h, "ann", NULL, "correct horse");
        assert_int_equal(house_user(&h, ACCESS_CREATE, "ann", NULL, "battery staple"), ACCESS_USER_EXISTS);
        assert_int_equal(house_try(&h, "ann", "correct horse"), 0);
        house_end(&h);
}

TEST(user, own_password_is_changed_by_who_knows_it)
{
        struct house h;
        struct access_change change = change_of(ACCESS_CHANGE_PASSWORD, "ann", NULL, "battery staple");
        unsigned wrong = 0;

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        change.current_password = BYTES_LITERAL("wrong");
        assert_int_equal(house_change(&h, &change), ACCESS_WRONG_PASSWORD);
        change.current_password = BYTES_LITERAL("correct horse");
        assert_int_equal(house_change(&h, &change), ACCESS_CHANGED);
        assert_int_equal(house_try(&h, "ann", "battery staple"), 0);
        assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
        /* Whoever has found an open session does not find the password by it. */
        for (unsigned i = 0; i < 50; i++) {
                wrong += house_change(&h, &change) == ACCESS_WRONG_PASSWORD;
                house_run(&h, SECOND / 50);
        }
        assert_in_range(wrong, 1, 10);
        house_end(&h);
}

TEST(user, somebody_stays_administrator)
{
        struct house h;

        house_begin(&h, true);
        house_first(&h, false);
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "admin", NULL, NULL), ACCESS_LAST_ADMIN);
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "admin", NULL, NULL), ACCESS_LAST_ADMIN);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "admin", "readers", NULL), ACCESS_LAST_ADMIN);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "admin", "readers $admins", NULL), ACCESS_CHANGED);
        house_make(&h, "ann", "$admins", "correct horse");
        assert_int_equal(house_user(&h, ACCESS_DISABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        /* One who cannot log in does not count. */
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "admin", NULL, NULL), ACCESS_LAST_ADMIN);
        assert_int_equal(house_user(&h, ACCESS_ENABLE, "ann", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "admin", NULL, NULL), ACCESS_CHANGED);
        assert_int_equal(house_user(&h, ACCESS_REMOVE, "ann", NULL, NULL), ACCESS_LAST_ADMIN);
        /* The first user is not made again. */
        assert_string_equal(house_first(&h, false), "");
        assert_int_equal(
                access_user(h.access, BYTES_LITERAL("admin"), &(struct access_user){0}), ACCESS_DENIED);
        house_end(&h);
}

struct answer {
        enum access_verdict verdict;
        bool is_given;
};

static void on_answer(void *arg, enum access_verdict verdict, const char *problem)
{
        struct answer *a = arg;

        (void)problem;
        assert_false(a->is_given);
        *a = (struct answer){verdict, true};
}

/* G5: of two changes at the same time one is told to look again. */
TEST(user, changes_at_the_same_time_do_not_overwrite_each_other)
{
        struct house h;
        struct answer answers[3] = {0};
        struct access_change disable[] = {
                change_of(ACCESS_DISABLE, "ann", NULL, NULL), change_of(ACCESS_DISABLE, "bob", NULL, NULL)};
        struct access_change reset = change_of(ACCESS_RESET_PASSWORD, "cid", NULL, "battery staple");
        unsigned changed;

        house_begin(&h, true);
        house_make(&h, "ann", "$admins", "correct horse");
        house_make(&h, "bob", "$admins", "correct horse");
        house_make(&h, "cid", NULL, "correct horse");
        /* Both look for another administrator before either has taken one away. */
        access_change(h.access, &disable[0], on_answer, &answers[0]);
        access_change(h.access, &disable[1], on_answer, &answers[1]);
        os_turn_again(h.os);
        house_until(&h, &answers[0].is_given);
        house_until(&h, &answers[1].is_given);
        changed = (answers[0].verdict == ACCESS_CHANGED) + (answers[1].verdict == ACCESS_CHANGED);
        assert_int_equal(changed, 1);
        assert_true(answers[0].verdict == ACCESS_CONFLICT || answers[1].verdict == ACCESS_CONFLICT);
        /* While the hash is computed somebody else is faster. */
        access_change(h.access, &reset, on_answer, &answers[2]);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "cid", "readers", NULL), ACCESS_CHANGED);
        house_until(&h, &answers[2].is_given);
        assert_int_equal(answers[2].verdict, ACCESS_CONFLICT);
        assert_int_equal(house_try(&h, "cid", "correct horse"), 0);
        house_end(&h);
}

TEST(user, logins_are_bytes_that_people_can_see)
{
        static const char *const fine[] = {"ann", "Ann", "\xc3\xa4nn\xc3\xa9", "a\xcc\x88nn", "\xe5\xad\x97",
                "ann@example.com", "a b", "-", "/", "..", "%41", "\xf0\x9f\x90\x8d", "a$"};
        static const char *const wrong[] = {"", "a:b", "a\nb", "a\x7f", "\xc2\x85x", "$admins", "$all", " a",
                "a ", "\xff", "\xc0\x80", "\xed\xa0\x80",
                "a\xe2\x80\xae"
                "b",
                "a\xe2\x80\x8b",
                "\xef\xbb\xbf"
                "a",
                "a\xe2\x81\xa6", "a\xc2\xad"};
        struct house h;
        struct access_change change;
        char long_login[ACCESS_LOGIN_SIZE_MAX + 2];

        house_begin(&h, true);
        for (unsigned i = 0; i < COUNT_OF(fine); i++)
                house_make(&h, fine[i], NULL, "correct horse"); /* none is another one */
        for (unsigned i = 0; i < COUNT_OF(fine); i++)
                assert_int_equal(house_try(&h, fine[i], "correct horse"), 0);
        for (unsigned i = 0; i < COUNT_OF(wrong); i++)
                if (house_user(&h, ACCESS_CREATE, wrong[i], NULL, "correct horse") != ACCESS_INVALID ||
                        !*h.problem)
                        fail_msg("\"%s\" may be a login", wrong[i]);
        change = change_of(ACCESS_CREATE, "", NULL, "correct horse");
        change.login = bytes_of("a\0b", 3);
        assert_int_equal(house_change(&h, &change), ACCESS_INVALID);
        memset(long_login, 'a', sizeof long_login);
        long_login[ACCESS_LOGIN_SIZE_MAX] = 0;
        house_make(&h, long_login, NULL, "correct horse");
        long_login[ACCESS_LOGIN_SIZE_MAX] = 'a';
        long_login[ACCESS_LOGIN_SIZE_MAX + 1] = 0;
        assert_int_equal(house_user(&h, ACCESS_CREATE, long_login, NULL, "correct horse"), ACCESS_INVALID);
        house_end(&h);
}

TEST(user, limits_are_said)
{
        struct house h;
        char password[ACCESS_PASSWORD_SIZE_MAX + 2];
        struct access_change change;
        struct bytes groups[ACCESS_GROUPS_MAX + 1];
        char names[ACCESS_GROUPS_MAX + 1][8];

        house_begin(&h, true);
        assert_int_equal(house_user(&h, ACCESS_CREATE, "ann", NULL, "1234567"), ACCESS_INVALID);
        assert_int_equal(house_user(&h, ACCESS_CREATE, "ann", NULL, "12345678\n"), ACCESS_INVALID);
        assert_int_equal(house_user(&h, ACCESS_CREATE, "ann", NULL, "12345678\xff"), ACCESS_INVALID);
        memset(password, 'p', sizeof password);
        password[sizeof password - 1] = 0;
        assert_int_equal(house_user(&h, ACCESS_CREATE, "ann", NULL, password), ACCESS_INVALID);
        assert_non_null(strstr(h.problem, "1024"));
        password[sizeof password - 2] = 0;
        for (unsigned i = 0; i < COUNT_OF(groups); i++) {
                snprintf(names[i], sizeof names[i], "g%u", i);
                groups[i] = bytes_of_string(names[i]);
        }
        change = change_of(ACCESS_CREATE, "ann", NULL, password);
        change.groups = groups;
        change.group_count = COUNT_OF(groups);
        assert_int_equal(house_change(&h, &change), ACCESS_INVALID);
        change.group_count = ACCESS_GROUPS_MAX;
        assert_int_equal(house_change(&h, &change), ACCESS_CHANGED);
        assert_int_equal(house_try(&h, "ann", password), 0);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "ann", "$all", NULL), ACCESS_INVALID);
        assert_int_equal(house_user(&h, ACCESS_UPDATE, "ann", "a\nb", NULL), ACCESS_INVALID);
        change = change_of(ACCESS_UPDATE, "ann", NULL, NULL);
        change.full_name = BYTES_LITERAL("Ann\x1b[2J");
        assert_int_equal(house_change(&h, &change), ACCESS_INVALID);
        house_end(&h);
}

struct walk {
        struct access *access;
        unsigned wanted;
        unsigned seen;
        char last[ACCESS_LOGIN_SIZE_MAX + 1];
};

static bool walk_each(void *arg, const struct access_user *user)
{
        struct walk *w = arg;

        assert_true(strcmp(user->login, w->last) > 0);
        snprintf(w->last, sizeof w->last, "%s", user->login);
        return ++w->seen % w->wanted != 0;
}

TEST(user, lists_are_in_order_and_go_on_behind_a_login)
{
        enum { USERS = 230 };
        struct house h;
        struct walk w = {.wanted = 100};
        char stream[32], body[128];

        house_begin(&h, true);
        for (unsigned i = 0; i < USERS; i++) { /* as another node writes them: without hashing */
                snprintf(stream, sizeof stream, "$user-u%03u", i);
                snprintf(body, sizeof body,
                        "{\"loginName\":\"u%03u\",\"fullName\":\"\",\"groups\":[],\"hash\":\"\"}", i);
                house_append(&h, stream, "$UserCreated", body);
        }
        house_user(&h, ACCESS_REMOVE, "u100", NULL, NULL);
        for (unsigned pages = 0; pages < 3; pages++)
                assert_int_equal(access_each_user(h.access, bytes_of_string(w.last), walk_each, &w), 0);
        assert_int_equal(w.seen, USERS - 1);
        house_end(&h);
}

/* What a body that is none leaves is a user whom nobody can be, and who can be removed. */
TEST(user, a_body_that_cannot_be_read_is_nobody)
{
        static const char *const bodies[] = {"", "{", "[]", "{}",
                "{\"loginName\":\"bob\",\"groups\":[],\"hash\":\"x\"}",
                "{\"loginName\":\"ann\",\"groups\":[\"$admins\\u0000x\"],\"hash\":\"x\"}",
                "{\"loginName\":\"ann\",\"groups\":[],\"groups\":[\"$admins\"],\"groups\":[\"x\"]}",
                "{\"loginName\":\"ann\",\"groups\":\"$admins\"}",
                "{\"loginName\":\"ann\",\"disabled\":\"no\"}", "{\"loginName\":\"ann\",\"hash\":7}",
                "{\"loginName\":\"ann\",\"generation\":99}"};
        struct house h;
        struct access_user user;

        house_begin(&h, true);
        house_first(&h, false);
        for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
                house_append(&h, "$user-ann", "$UserUpdated", bodies[i]);
                assert_int_equal(house_try(&h, "ann", "correct horse"), ACCESS_DENIED);
                assert_int_equal(access_user(h.access, BYTES_LITERAL("ann"), &user), 0);
                assert_true(user.is_disabled);
                assert_int_equal(user.group_count, 0);
                assert_int_equal(house_user(&h, ACCESS_REMOVE, "ann", NULL, NULL), ACCESS_CHANGED);
                house_run(&h, 10 * SECOND);
        }
        /* A hash that would cost too much is nobody's either. */
        house_append(&h, "$user-bob", "$UserCreated",
                "{\"loginName\":\"bob\",\"fullName\":\"\",\"groups\":[],\"disabled\":false,"
                "\"hash\":\"$argon2id$v=19$m=4194304,t=99,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo\"}");
        assert_int_equal(house_try(&h, "bob", "correct horse"), ACCESS_DENIED);
        house_end(&h);
}

/* ---- what is told ---- */

struct told {
        struct control_watcher watcher;
        struct control *control;
        struct buffer text;
};

static void on_facts(struct control_watcher *watcher)
{
        struct told *t = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed)) {
                fact_to_text(t->control, &fact, &t->text);
                buffer_add_u8(&t->text, '\n');
        }
}

/* S11: a secret is in no fact; who did it is in the log. */
TEST(user, facts_say_who_and_no_secret)
{
        struct house h;
        struct told told = {
                .watcher = {.on_facts = on_facts, .arg = &told, .categories = ~0u, .level = LEVEL_TRACE}};
        struct principal *root;
        struct access_change change = change_of(ACCESS_CREATE, "ann", "readers", "canary-password");
        struct store_read_options options = {.stream = BYTES_LITERAL("$user-ann"), .limit = 1};
        struct store_reader *reader;
        struct store_read_item item;
        struct buffer token = {0};
        uint64_t expires_us;
        const char *text;

        house_begin(&h, true);
        told.control = h.control;
        control_watch(h.control, &told.watcher, false);
        house_first(&h, false);
        root = house_principal(&h, "admin", h.password);
        change.by = root;
        assert_int_equal(house_change(&h, &change), ACCESS_CHANGED);
        assert_int_equal(house_try(&h, "ann", "canary-wrong"), ACCESS_DENIED);
        assert_int_equal(house_try(&h, "canary-as-login", "x"), ACCESS_DENIED);
        house_run(&h, 2 * SECOND);
        assert_int_equal(house_try(&h, "canary-as-login", "y"), ACCESS_DENIED);
        assert_int_equal(access_token_make(h.access, root, 60, &token, &expires_us), 0);
        house_append(&h, "$$order-1", "$metadata", "{\"$acl\":{\"$r\":\"ann\"}}");
        house_run(&h, SECOND);
        buffer_add_u8(&told.text, 0);
        buffer_add_u8(&token, 0);
        text = (const char *)told.text.data;
        assert_non_null(strstr(text, "created by admin"));
        assert_non_null(strstr(text, "$user-ann"));
        assert_non_null(strstr(text, "somebody was not let in"));
        assert_non_null(strstr(text, "rights to streams were changed"));
        assert_non_null(strstr(text, "order-1"));
        assert_null(strstr(text, "canary"));
        assert_null(strstr(text, "argon2"));
        assert_null(strstr(text, h.password));
        assert_null(strstr(text, (const char *)token.data));
        assert_int_equal(store_reader_open(h.store, &options, &reader), 0);
        assert_int_equal(store_reader_next(reader, &item), 0);
        assert_true(bytes_equal_string(item.event.type, "$UserCreated"));
        assert_true(bytes_equal_string(item.event.metadata, "{\"by\":\"admin\",\"change\":\"create\"}"));
        assert_non_null(
                memmem(item.event.data.data, item.event.data.size, "$argon2id$v=19$m=19456,t=2,p=1$", 31));
        assert_null(memmem(item.event.data.data, item.event.data.size, "canary", 6));
        store_reader_close(&reader);
        principal_release(&root);
        control_unwatch(&told.watcher);
        buffer_fini(&told.text);
        buffer_fini(&token);
        house_end(&h);
}

TEST(user, a_change_under_way_at_the_stop_is_answered_once)
{
        struct house h;
        struct answer answers[6] = {0};
        struct access_change reset = change_of(ACCESS_RESET_PASSWORD, "ann", NULL, "battery staple");
        struct access_change disable = change_of(ACCESS_DISABLE, "ann", NULL, NULL);

        house_begin(&h, true);
        house_make(&h, "ann", NULL, "correct horse");
        for (unsigned i = 0; i < 5; i++)
                access_change(h.access, &reset, on_answer, &answers[i]);
        access_change(h.access, &disable, on_answer, &answers[5]);
        access_stop(h.access);
        for (unsigned i = 0; i < 5; i++) {
                assert_true(answers[i].is_given);
                assert_int_equal(answers[i].verdict, ACCESS_UNAVAILABLE);
        }
        access_change(h.access, &disable, on_answer, &(struct answer){0});
        os_turn_again(h.os);
        house_end(&h);
        assert_true(answers[5].is_given);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(user, each_change_does_what_it_says),
                TEST_ROW(user, who_is_there_or_is_not_is_said),
                TEST_ROW(user, own_password_is_changed_by_who_knows_it),
                TEST_ROW(user, somebody_stays_administrator),
                TEST_ROW(user, changes_at_the_same_time_do_not_overwrite_each_other),
                TEST_ROW(user, logins_are_bytes_that_people_can_see),
                TEST_ROW(user, limits_are_said),
                TEST_ROW(user, lists_are_in_order_and_go_on_behind_a_login),
                TEST_ROW(user, a_body_that_cannot_be_read_is_nobody),
                TEST_ROW(user, facts_say_who_and_no_secret),
                TEST_ROW(user, a_change_under_way_at_the_stop_is_answered_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
