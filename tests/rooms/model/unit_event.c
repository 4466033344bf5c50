#include <ctype.h>

#include "test.h"

#include "model/event.h"

static struct bytes text(const char *s)
{
        return bytes_of_string(s);
}

TEST(event_id, text_comes_back_in_lower_case)
{
        static const char *const forms[] = {
                "0fa1c2d3-E4f5-4678-9aBC-def012345678",
                "0fa1c2d3-e4f5-4678-9abc-def012345678",
                "0FA1C2D3E4F546789ABCDEF012345678",
        };

        for (unsigned i = 0; i < COUNT_OF(forms); i++) {
                struct event_id id;
                char got[EVENT_ID_TEXT_SIZE + 1];

                assert_true(event_id_parse(text(forms[i]), &id));
                assert_int_equal(id.bytes[0], 0x0f);
                assert_int_equal(id.bytes[15], 0x78);
                event_id_format(&id, got);
                assert_string_equal(got, "0fa1c2d3-e4f5-4678-9abc-def012345678");
        }
}

TEST(event_id, what_is_no_uuid_is_refused)
{
        static const char *const forms[] = {
                "",
                "0fa1c2d3-e4f5-4678-9abc-def01234567",
                "0fa1c2d3-e4f5-4678-9abc-def0123456789",
                "0fa1c2d3-e4f5-4678-9abc-def01234567g",
                "0fa1c2d3-e4f5-4678-9abcd-ef012345678",
                "0fa1c2d3e-4f5-4678-9abc-def012345678",
                "0fa1c2d3-e4f5-46789-abc-def012345678",
                "-fa1c2d3e4f546789abcdef012345678",
                "{0fa1c2d3-e4f5-4678-9abc-def01234567",
                "0fa1c2d3e4f546789abcdef0123456780fa1",
        };
        struct event_id id = {{0}};

        for (unsigned i = 0; i < COUNT_OF(forms); i++)
                assert_false(event_id_parse(text(forms[i]), &id));
        assert_false(event_id_parse(BYTES_EMPTY, &id));
        assert_int_equal(id.bytes[0], 0);
}

TEST(event_id, every_byte_at_every_place_is_a_digit_or_refused)
{
        static const char *const forms[] = {
                "0fa1c2d3-e4f5-4678-9abc-def012345678", "0fa1c2d3e4f546789abcdef012345678"};

        for (unsigned i = 0; i < COUNT_OF(forms); i++) {
                for (size_t at = 0; at < strlen(forms[i]); at++) {
                        for (unsigned c = 1; c < 256; c++) {
                                char changed[64];
                                struct event_id id;
                                bool is_good = forms[i][at] == '-' ? c == '-' : isxdigit((int)c);

                                strcpy(changed, forms[i]);
                                changed[at] = (char)c;
                                assert_int_equal(event_id_parse(text(changed), &id), is_good);
                        }
                }
        }
}

TEST(event_id, halves_are_big_endian_and_signed)
{
        struct event_id id;
        struct event_id same;
        int64_t most;
        int64_t least;

        assert_true(event_id_parse(text("fedcba98-7654-4210-8123-456789abcdef"), &id));
        event_id_to_halves(&id, &most, &least);
        assert_true(most == (int64_t)0xfedcba9876544210u);
        assert_true(least == (int64_t)0x8123456789abcdefu);
        event_id_from_halves(most, least, &same);
        assert_true(event_id_equal(&id, &same));
        same.bytes[15] ^= 1;
        assert_false(event_id_equal(&id, &same));
}

TEST(event_id, random_stamp_leaves_122_bits)
{
        for (int fill = 0; fill < 256; fill += 255) {
                struct event_id id;
                unsigned kept = 0;

                memset(id.bytes, fill, sizeof id.bytes);
                event_id_stamp_random(&id);
                assert_int_equal(id.bytes[6] >> 4, 4);
                assert_int_equal(id.bytes[8] >> 6, 2);
                for (unsigned i = 0; i < 128; i++)
                        kept += (id.bytes[i / 8] >> i % 8 & 1) == (fill & 1);
                assert_in_range(kept, 122, 127);
        }
}

TEST(event_draft, size_is_kurrentdbs_formula_and_tags)
{
        struct bytes tags[] = {BYTES_LITERAL("a=1"), BYTES_LITERAL("long-tag")};
        struct event_draft e = {.type = BYTES_LITERAL("placed"),
                .data = BYTES_LITERAL("12345"),
                .metadata = BYTES_LITERAL("{}")};

        assert_int_equal(event_draft_size(&e), 5 + 2 + 2 * 6);
        e.tags = tags;
        e.tag_count = 2;
        assert_int_equal(event_draft_size(&e), 5 + 2 + 2 * 6 + 3 + 2 + 8 + 2);
}

TEST(stream_name, valid_and_invalid_ones)
{
        static const struct {
                const char *name;
                bool is_valid;
        } table[] = {
                {"a", true},
                {"order-1", true},
                {"with space", true},
                {"käse-\xe2\x82\xac", true},
                {"$", true},
                {"$ce-order", true},
                {"$$order-1", true},
                {"$$$settings", true},
                {"$$$all", true},
                {"$all-1", true},
                {"$ALL", true},
                {"", false},
                {"$all", false},
                {"$$", false},
                {"$$$$", false},
                {"$$$$order-1", false},
                {"\xff", false},
                {"a\xed\xa0\x80", false},
                {"$$\xc0\x80", false},
        };

        for (unsigned i = 0; i < COUNT_OF(table); i++)
                if (stream_name_is_valid(text(table[i].name)) != table[i].is_valid)
                        fail_msg("\"%s\"", table[i].name);
        assert_false(stream_name_is_valid(BYTES_EMPTY));
        assert_false(stream_name_is_valid(bytes_of("a\0b", 3)));
}

TEST(stream_name, may_be_1024_bytes_and_two_more_for_a_metastream)
{
        char name[LIMIT_STREAM_NAME_SIZE_MAX + 3];

        memset(name, 'x', sizeof name);
        assert_true(stream_name_is_valid(bytes_of(name, LIMIT_STREAM_NAME_SIZE_MAX)));
        assert_false(stream_name_is_valid(bytes_of(name, LIMIT_STREAM_NAME_SIZE_MAX + 1)));
        name[0] = '$';
        name[1] = '$';
        assert_true(stream_name_is_valid(bytes_of(name, LIMIT_STREAM_NAME_SIZE_MAX + 2)));
        assert_false(stream_name_is_valid(bytes_of(name, LIMIT_STREAM_NAME_SIZE_MAX + 3)));
}

TEST(stream_name, kinds_and_categories)
{
        assert_true(stream_is_system(text("$x")));
        assert_true(stream_is_system(text("$$x")));
        assert_false(stream_is_system(text("x$")));
        assert_false(stream_is_system(BYTES_EMPTY));
        assert_true(stream_is_meta(text("$$x")));
        assert_false(stream_is_meta(text("$x")));
        assert_true(bytes_equal(stream_of_meta(text("$$order-1")), text("order-1")));
        assert_true(bytes_equal(stream_of_meta(text("$$$x")), text("$x")));

        assert_true(bytes_equal(stream_category(text("order-1-2")), text("order")));
        assert_true(bytes_equal(stream_category(text("$ce-order")), text("$ce")));
        assert_int_equal(stream_category(text("order")).size, 0);
        assert_int_equal(stream_category(text("-order")).size, 0);
        assert_int_equal(stream_category(BYTES_EMPTY).size, 0);
}

TEST(stream_name, those_with_secrets_of_the_server_are_guarded_and_so_are_their_metastreams)
{
        assert_true(stream_is_guarded(text("$user-admin")));
        assert_true(stream_is_guarded(text("$$$user-admin")));
        assert_true(stream_is_guarded(text("$nilo-access")));
        assert_true(stream_is_guarded(text("$$$nilo-access")));
        assert_true(stream_is_guarded(text("$nilo-cluster")));
        assert_false(stream_is_guarded(text("$nilo-accessible")));
        assert_false(stream_is_guarded(text("$users")));
        assert_false(stream_is_guarded(text("$$user-admin"))); /* of a stream of people */
        assert_false(stream_is_guarded(text("user-admin")));
        assert_false(stream_is_guarded(text("$settings")));
        assert_false(stream_is_guarded(BYTES_EMPTY));
}

/* The numbers are in index files, so they must never change. */
TEST(name_hash, is_xxh3_with_seed_0)
{
        assert_true(name_hash(BYTES_EMPTY) == 0x2d06800538d394c2u);
        assert_true(name_hash(text("order-1")) == name_hash(text("order-1")));
        assert_true(name_hash(text("order-1")) != name_hash(text("order-2")));
        assert_true(name_hash(text("a")) == 0xe6c632b61e964e1fu);
}

TEST(link, revision_and_stream_are_read)
{
        uint64_t revision = 0;
        struct bytes stream;

        assert_true(event_link_parse(text("12@order-1"), &revision, &stream));
        assert_int_equal(revision, 12);
        assert_true(bytes_equal(stream, text("order-1")));
        assert_true(event_link_parse(text("0@a@b"), &revision, &stream));
        assert_int_equal(revision, 0);
        assert_true(bytes_equal(stream, text("a@b")));
        assert_true(event_link_parse(text("9223372036854775807@$$x"), &revision, &stream));
        assert_true(revision == REVISION_MAX);
}

TEST(link, what_is_none_is_refused)
{
        static const char *const forms[] = {
                "",
                "@",
                "1@",
                "@order-1",
                "order-1",
                "12",
                "-1@order-1",
                "+1@order-1",
                " 1@order-1",
                "1 @order-1",
                "0x1@order-1",
                "9223372036854775808@order-1",
                "18446744073709551617@order-1",
                "1@$all",
                "1@\xff",
        };
        uint64_t revision = 7;
        struct bytes stream;

        for (unsigned i = 0; i < COUNT_OF(forms); i++)
                if (event_link_parse(text(forms[i]), &revision, &stream))
                        fail_msg("\"%s\"", forms[i]);
        assert_false(event_link_parse(BYTES_EMPTY, &revision, &stream));
        assert_int_equal(revision, 7);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(event_id, text_comes_back_in_lower_case),
                TEST_ROW(event_id, what_is_no_uuid_is_refused),
                TEST_ROW(event_id, every_byte_at_every_place_is_a_digit_or_refused),
                TEST_ROW(event_id, halves_are_big_endian_and_signed),
                TEST_ROW(event_id, random_stamp_leaves_122_bits),
                TEST_ROW(event_draft, size_is_kurrentdbs_formula_and_tags),
                TEST_ROW(stream_name, valid_and_invalid_ones),
                TEST_ROW(stream_name, may_be_1024_bytes_and_two_more_for_a_metastream),
                TEST_ROW(stream_name, kinds_and_categories),
                TEST_ROW(stream_name,
                        those_with_secrets_of_the_server_are_guarded_and_so_are_their_metastreams),
                TEST_ROW(name_hash, is_xxh3_with_seed_0),
                TEST_ROW(link, revision_and_stream_are_read),
                TEST_ROW(link, what_is_none_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
