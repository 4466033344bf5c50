/* Access control lists: what is said, what is not, and what cannot be read. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/acl.h"
#include "test.h"

static struct acl *of(const char *json)
{
        char *text = memory_copy_string(json);
        struct acl *acl = NULL;

        assert_int_equal(acl_of_metadata(bytes_of_string(text), &acl), 0);
        memset(text, '#', strlen(text)); /* nothing of the text is needed any more */
        free(text);
        return acl;
}

/* "r: ann $ops, w:, d -": the names of each right, "-" where nothing is said. */
static void expect(const struct acl *acl, const char *wanted)
{
        static const char *const names[ACL_RIGHTS] = {"r", "w", "d", "mr", "mw"};
        struct buffer got = {0};

        for (unsigned right = 0; right < ACL_RIGHTS; right++) {
                buffer_format(
                        &got, "%s%s%s", right ? ", " : "", names[right], acl_has(acl, right) ? ":" : " -");
                for (unsigned i = 0; acl_has(acl, right) && i < acl_count(acl, right); i++) {
                        struct bytes name = acl_name(acl, right, i);

                        buffer_format(&got, " %.*s", (int)name.size, (const char *)name.data);
                }
        }
        buffer_add_u8(&got, 0);
        assert_string_equal((char *)got.data, wanted);
        buffer_fini(&got);
}

static void expect_of(const char *json, const char *wanted)
{
        struct acl *acl = of(json);

        expect(acl, wanted);
        acl_free(&acl);
        assert_null(acl);
}

TEST(acl, strings_and_arrays_are_names_and_what_is_absent_is_not_said)
{
        expect_of("{\"$acl\":{\"$r\":\"ann\",\"$w\":[\"$ops\",\"readers\"],\"$d\":[],\"$mr\":null,\"x\":7}}",
                "r: ann, w: $ops readers, d:, mr -, mw -");
        expect_of("{\"$acl\":{}}", "r -, w -, d -, mr -, mw -");
        expect_of(" {\"other\":{\"$r\":7},\"\\u0024acl\":{\"\\u0024r\":[\"\\u0061nn\\n\"]}} ",
                "r: ann\n, w -, d -, mr -, mw -");
        /* Of what comes twice the last counts. */
        expect_of("{\"$acl\":{\"$r\":[\"a\",\"b\"],\"$r\":\"c\"}}", "r: c, w -, d -, mr -, mw -");
        expect_of("{\"$acl\":{\"$r\":\"a\"},\"$acl\":{\"$w\":\"b\"}}", "r -, w: b, d -, mr -, mw -");
}

TEST(acl, a_body_without_one_has_none)
{
        static const char *const bodies[] = {"", "{}", "{\"$maxCount\":5}", "{\"$acl\":null}"};

        for (unsigned i = 0; i < COUNT_OF(bodies); i++)
                assert_null(of(bodies[i]));
        assert_false(acl_has(NULL, ACL_READ));
        assert_int_equal(acl_size(NULL), 0);
}

TEST(acl, what_cannot_be_read_is_refused_as_a_whole)
{
        static const char *const bodies[] = {" ", "[]", "7", "{", "{\"$acl\":{\"$r\":\"ann\"}",
                "{\"$acl\":[]}", "{\"$acl\":\"ann\"}", "{\"$acl\":{\"$r\":7}}", "{\"$acl\":{\"$r\":true}}",
                "{\"$acl\":{\"$r\":{\"ann\":1}}}", "{\"$acl\":{\"$r\":[\"ann\",[\"bob\"]]}}",
                "{\"$acl\":{\"$r\":[null]}}", "{\"$acl\":{\"$r\":\"ann\",\"$mw\":1}}",
                "{\"$acl\":{\"$r\":\"ann\"}}x", "{\"$acl\":{\"$r\":\"\xff\"}}",
                "{\"$acl\":{\"$r\":\"\\ud800\"}}"};

        for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
                struct acl *acl = NULL;

                if (acl_of_metadata(bytes_of_string(bodies[i]), &acl) != ACL_UNREADABLE || acl)
                        fail_msg("%s was read", bodies[i]);
        }
}

static void expect_names(unsigned count, unsigned size, int wanted)
{
        struct buffer json = {0};
        struct acl *acl = NULL;

        buffer_add_string(&json, "{\"$acl\":{\"$r\":[");
        for (unsigned i = 0; i < count; i++) {
                buffer_add_string(&json, i ? ",\"" : "\"");
                for (unsigned k = 0; k < size; k++)
                        buffer_add_u8(&json, 'a');
                buffer_add_u8(&json, '"');
        }
        buffer_add_string(&json, "]}}");
        assert_int_equal(acl_of_metadata(buffer_bytes(&json), &acl), wanted);
        if (!wanted) {
                assert_int_equal(acl_count(acl, ACL_READ), count);
                assert_true(acl_size(acl) >= (size_t)count * size);
        }
        acl_free(&acl);
        buffer_fini(&json);
}

/* G17: L is read, L + 1 is not. */
TEST(acl, limits_hold)
{
        expect_names(ACL_NAMES_MAX, 1, 0);
        expect_names(ACL_NAMES_MAX + 1, 1, ACL_UNREADABLE);
        expect_names(1, ACL_NAME_SIZE_MAX, 0);
        expect_names(1, ACL_NAME_SIZE_MAX + 1, ACL_UNREADABLE);
        expect_names(500, 200, ACL_UNREADABLE); /* too large in all */
}

TEST(acl, settings_have_one_for_each_kind_of_stream)
{
        struct acl *user = NULL, *system = NULL;

        assert_int_equal(acl_of_settings(BYTES_LITERAL("{\"$userStreamAcl\":{\"$r\":\"$all\"},\"$"
                                                       "systemStreamAcl\":{\"$w\":\"$ops\"}}"),
                                 &user, &system),
                0);
        expect(user, "r: $all, w -, d -, mr -, mw -");
        expect(system, "r -, w: $ops, d -, mr -, mw -");
        acl_free(&user);
        acl_free(&system);
        assert_int_equal(
                acl_of_settings(BYTES_LITERAL("{\"$systemStreamAcl\":{\"$w\":\"$ops\"}}"), &user, &system),
                0);
        assert_null(user);
        acl_free(&system);
        assert_int_equal(
                acl_of_settings(
                        BYTES_LITERAL("{\"$userStreamAcl\":{\"$r\":\"$all\"},\"$systemStreamAcl\":7}"), &user,
                        &system),
                ACL_UNREADABLE);
        assert_null(user);
        assert_null(system);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(acl, strings_and_arrays_are_names_and_what_is_absent_is_not_said),
                TEST_ROW(acl, a_body_without_one_has_none),
                TEST_ROW(acl, what_cannot_be_read_is_refused_as_a_whole),
                TEST_ROW(acl, limits_hold),
                TEST_ROW(acl, settings_have_one_for_each_kind_of_stream),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
