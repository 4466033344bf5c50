/* The inside of the disk in memory: pages that are shared until they are written, and its limit. */
#include "test.h"

#include <string.h>

#include "os/ram_disk.h"

enum { SIZE = 40000, ROUNDS = 3000 };

static unsigned next_number(unsigned *n)
{
        *n = *n * 1664525 + 1013904223;
        return *n / 128;
}

static void expect_equal(const struct ram_content *c, const uint8_t *model, uint64_t size)
{
        static uint8_t got[SIZE];

        assert_int_equal(c->size, size);
        assert_int_equal(ram_content_read(c, got, SIZE, 0), size);
        assert_memory_equal(got, model, size);
}

/* What is written through one of the two never shows in the other. */
TEST(content, shares_pages_until_one_writes)
{
        static uint8_t model[2][SIZE], chunk[SIZE];
        uint64_t size[2] = {0, 0};
        atomic_uint_fast64_t pages_used = 0;
        struct ram_content c[2] = {{.pages_used = &pages_used}, {.pages_used = &pages_used}};
        unsigned i, n = 99;

        memset(model, 0, sizeof model);
        for (i = 0; i < ROUNDS; i++) {
                unsigned which = next_number(&n) % 2, kind = next_number(&n) % 6;
                uint64_t offset = next_number(&n) % SIZE;
                size_t length = next_number(&n) % 6000;

                length = MIN(length, SIZE - offset);
                memset(chunk, (int)(1 + i % 255), length);
                if (kind < 3) {
                        ram_content_write(&c[which], bytes_of(chunk, length), offset);
                        memcpy(model[which] + offset, chunk, length);
                } else if (kind == 3) {
                        ram_content_zero(&c[which], offset, length);
                        memset(model[which] + offset, 0, length);
                } else if (kind == 4) {
                        ram_content_truncate(&c[which], offset);
                        memset(model[which] + offset, 0, SIZE - offset);
                        size[which] = offset;
                } else {
                        ram_content_share_all(&c[which], &c[1 - which]);
                        memcpy(model[which], model[1 - which], SIZE);
                        size[which] = size[1 - which];
                        assert_true(pages_used <= SIZE / RAM_PAGE_SIZE + 1);
                }
                if (kind < 4 && length)
                        size[which] = MAX(size[which], offset + length);
                expect_equal(&c[0], model[0], size[0]);
                expect_equal(&c[1], model[1], size[1]);
        }
        ram_content_fini(&c[0]);
        ram_content_fini(&c[1]);
        assert_int_equal(pages_used, 0);
}

TEST(content, a_range_is_shared_in_whole_pages)
{
        static uint8_t ones[3 * RAM_PAGE_SIZE];
        atomic_uint_fast64_t pages_used = 0;
        struct ram_content from = {.pages_used = &pages_used}, to = {.pages_used = &pages_used};
        uint8_t byte;

        memset(ones, 1, sizeof ones);
        ram_content_write(&from, bytes_of(ones, sizeof ones), 0);
        ram_content_share(&to, &from, RAM_PAGE_SIZE + 5, 10);
        to.size = from.size;
        assert_int_equal(pages_used, 3);
        assert_int_equal(ram_content_read(&to, &byte, 1, RAM_PAGE_SIZE - 1), 1);
        assert_int_equal(byte, 0);
        assert_int_equal(ram_content_read(&to, &byte, 1, RAM_PAGE_SIZE), 1);
        assert_int_equal(byte, 1);
        assert_int_equal(ram_content_read(&to, &byte, 1, 2 * RAM_PAGE_SIZE), 1);
        assert_int_equal(byte, 0);
        ram_content_fini(&from);
        ram_content_fini(&to);
        assert_int_equal(pages_used, 0);
}

TEST(zero, is_told_at_any_place)
{
        uint8_t bytes[100] = {0};
        unsigned i;

        assert_true(ram_is_zero(bytes_of(bytes, 0)));
        assert_true(ram_is_zero(bytes_of(bytes, 1)));
        assert_true(ram_is_zero(bytes_of(bytes, sizeof bytes)));
        for (i = 0; i < sizeof bytes; i++) {
                bytes[i] = 1;
                assert_false(ram_is_zero(bytes_of(bytes, sizeof bytes)));
                bytes[i] = 0;
        }
}

TEST(disk, is_full_at_its_limit_and_has_space_again_after_a_removal_G16)
{
        static uint8_t block[16 * RAM_PAGE_SIZE];
        struct ram_disk *disk = ram_disk_new(MIB, false);
        struct os os = {.disk = &ram_disk_table, .ram = disk};
        struct os_file *file;
        uint64_t at = 0;
        int r;

        memset(block, 1, sizeof block);
        assert_int_equal(os_file_open(&os, "/a", OS_OPEN_WRITE | OS_OPEN_NEW, &file), 0);
        while ((r = os_file_write(file, bytes_of(block, sizeof block), at)) == 0)
                at += sizeof block;
        assert_int_equal(r, OS_FULL);
        assert_true(at >= MIB - 2 * sizeof block && at <= MIB);
        os_file_close(&file);
        assert_int_equal(os_replace_whole(&os, "/b", bytes_of(block, sizeof block)), OS_FULL);
        assert_int_equal(os_remove(&os, "/a"), 0);
        assert_int_equal(os_replace_whole(&os, "/b", bytes_of(block, sizeof block)), 0);
        ram_disk_free(&os.ram);
        assert_null(os.ram);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(content, shares_pages_until_one_writes),
                TEST_ROW(content, a_range_is_shared_in_whole_pages),
                TEST_ROW(zero, is_told_at_any_place),
                TEST_ROW(disk, is_full_at_its_limit_and_has_space_again_after_a_removal_G16),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
