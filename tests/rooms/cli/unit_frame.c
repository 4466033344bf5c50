/* Frames: what fits the terminal, and how it is written there. */
#include "cli/screen.h"

#include "test.h"

static struct frame frame;

static const char *bytes_of_frame(void)
{
        buffer_add_u8(&frame.out, 0);
        return (const char *)frame.out.data;
}

static void begin(unsigned width, unsigned height)
{
        frame_begin(&frame, width, height);
        frame.has_color = false;
        frame.has_utf8 = true;
}

TEST(frame, text_is_cut_and_aligned_by_columns)
{
        begin(10, 3);
        frame_text(&frame, FRAME_PLAIN, 4, "abcdef");
        frame_text(&frame, FRAME_PLAIN, -4, "xy");
        frame_text(&frame, FRAME_PLAIN, 0, "tail");
        assert_int_equal(frame.column, 10);
        assert_string_equal(bytes_of_frame(), "\033[Habcd  xyta");
}

TEST(frame, rows_are_placed_and_only_rests_are_cleared)
{
        begin(3, 3);
        frame_text(&frame, FRAME_PLAIN, 0, "ab");
        frame_next_row(&frame);
        /* Behind a full row the cursor stands on its last character, which clearing would take. */
        frame_text(&frame, FRAME_PLAIN, 0, "abc");
        frame_next_row(&frame);
        frame_text(&frame, FRAME_PLAIN, 0, "z");
        frame_end(&frame);
        assert_string_equal(bytes_of_frame(), "\033[Hab\033[K\033[2;1Habc\033[3;1Hz\033[J");
}

TEST(frame, what_is_below_the_last_row_is_left_out)
{
        begin(5, 1);
        frame_text(&frame, FRAME_PLAIN, 0, "a");
        frame_next_row(&frame);
        assert_int_equal(frame_rows_left(&frame), 0);
        frame_text(&frame, FRAME_PLAIN, 0, "b");
        frame_next_row(&frame);
        frame_grow(&frame, 2);
        frame_text(&frame, FRAME_PLAIN, 0, "keys");
        assert_string_equal(bytes_of_frame(), "\033[Ha\033[K\033[2;1Hkeys");
}

TEST(frame, wide_characters_take_two_columns_and_marks_none)
{
        begin(4, 1);
        /* A wide one that does not fit any more is left out, not cut in half. */
        frame_text(&frame, FRAME_PLAIN, 0, "e\xcc\x81\xe6\xb0\xb4\xe6\xb0\xb4");
        assert_int_equal(frame.column, 3);
        assert_string_equal(bytes_of_frame(), "\033[He\xcc\x81\xe6\xb0\xb4");
}

TEST(frame, data_cannot_drive_the_terminal)
{
        begin(20, 1);
        frame_text(&frame, FRAME_PLAIN, 0, "a\033[31m\x9b\xc2\x9b\xff\n");
        assert_string_equal(bytes_of_frame(), "\033[Ha.[31m....");
}

TEST(frame, without_utf8_there_is_nothing_but_ascii)
{
        struct curve curve = {0};

        begin(20, 1);
        frame.has_utf8 = false;
        curve_add(&curve, 1);
        curve_add(&curve, 8);
        frame_text(&frame, FRAME_PLAIN, 6, "gr\xc3\xbcn");
        frame_curve(&frame, FRAME_PLAIN, &curve, 3);
        for (const char *at = bytes_of_frame(); *at; at++)
                assert_true((uint8_t)*at < 0x80);
        assert_string_equal((const char *)frame.out.data, "\033[Hgr?n   .#");
}

TEST(frame, colours_only_where_they_are_wanted)
{
        begin(20, 1);
        frame.has_color = true;
        frame_text(&frame, FRAME_BAD, 5, "no");
        frame_text(&frame, FRAME_PLAIN, 0, "x");
        assert_string_equal(bytes_of_frame(), "\033[H\033[1;31mno\033[0m   x");
}

TEST(frame, a_page_is_lines)
{
        frame_begin_page(&frame, 4);
        frame_text(&frame, FRAME_PLAIN, 0, "abcdef");
        frame_next_row(&frame);
        frame_next_row(&frame);
        frame_text(&frame, FRAME_PLAIN, 0, "z");
        frame_next_row(&frame);
        frame_end(&frame);
        assert_string_equal(bytes_of_frame(), "abcd\n\nz\n");
}

TEST(curve, ends_at_the_right_and_is_as_high_as_its_highest)
{
        struct curve curve = {0};

        begin(10, 1);
        curve_add(&curve, 100); /* leaves the picture */
        for (unsigned i = 0; i < 4; i++)
                curve_add(&curve, i);
        assert_true(curve_max(&curve, 4) == 3);
        assert_true(curve_max(&curve, 100) == 100);
        frame_curve(&frame, FRAME_PLAIN, &curve, 4);
        assert_string_equal(bytes_of_frame(), "\033[H \xe2\x96\x83\xe2\x96\x85\xe2\x96\x88");
        begin(10, 1);
        frame_curve(&frame, FRAME_PLAIN, &(struct curve){0}, 4);
        assert_string_equal(bytes_of_frame(), "\033[H    ");
}

TEST(curve, forgets_what_is_older_than_its_ring)
{
        struct curve curve = {0};

        for (unsigned i = 0; i < CURVE_VALUES_MAX + 10; i++)
                curve_add(&curve, CURVE_VALUES_MAX + 10 - i);
        assert_true(curve_max(&curve, UINT32_MAX) == CURVE_VALUES_MAX);
}

static int forget(void **state)
{
        (void)state;
        frame_free(&frame);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(frame, text_is_cut_and_aligned_by_columns),
                TEST_ROW(frame, rows_are_placed_and_only_rests_are_cleared),
                TEST_ROW(frame, what_is_below_the_last_row_is_left_out),
                TEST_ROW(frame, wide_characters_take_two_columns_and_marks_none),
                TEST_ROW(frame, data_cannot_drive_the_terminal),
                TEST_ROW(frame, without_utf8_there_is_nothing_but_ascii),
                TEST_ROW(frame, colours_only_where_they_are_wanted),
                TEST_ROW(frame, a_page_is_lines),
                TEST_ROW(curve, ends_at_the_right_and_is_as_high_as_its_highest),
                TEST_ROW(curve, forgets_what_is_older_than_its_ring),
        };

        return cmocka_run_group_tests(tests, NULL, forget);
}
