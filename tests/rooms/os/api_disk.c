/* The disk's contract, the same stories on all three: the kernel's, the one in memory, the simulated one. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "os/os_sim.h"

enum { KINDS = 3, THREADS = 4, BLOCK = 3000, BLOCKS = 200 };

static const char *const kinds[KINDS] = {"real", "memory", "simulated"};

struct fixture {
        struct os *os;
        unsigned kind;
        char root[64];
        char path[4][128];
};

/* A machine with an empty directory, and four paths in it. */
static void fixture_init(struct fixture *f, unsigned kind)
{
        unsigned i;

        *f = (struct fixture){.kind = kind, .root = "/tmp/nilo-os-XXXXXX"};
        if (kind == 2)
                assert_int_equal(os_sim_new(1, &f->os), 0);
        else
                assert_int_equal(os_real_new(&f->os), 0);
        if (kind == 0)
                assert_non_null(mkdtemp(f->root));
        if (kind == 1)
                os_memory_disk(f->os);
        assert_int_equal(os_dir_make(f->os, f->root), 0);
        for (i = 0; i < COUNT_OF(f->path); i++)
                snprintf(f->path[i], sizeof f->path[i], "%s/%c", f->root, 'a' + i);
}

static int remove_below(void *arg, const char *name, bool is_dir);

struct below {
        struct os *os;
        const char *path;
};

static void remove_all(struct os *os, const char *path)
{
        struct below b = {os, path};

        assert_int_equal(os_dir_list(os, path, remove_below, &b), 0);
        assert_int_equal(os_remove(os, path), 0);
}

static int remove_below(void *arg, const char *name, bool is_dir)
{
        struct below *b = arg;
        char path[512];

        snprintf(path, sizeof path, "%s/%s", b->path, name);
        if (is_dir)
                remove_all(b->os, path);
        else
                assert_int_equal(os_remove(b->os, path), 0);
        return 0;
}

static void fixture_fini(struct fixture *f)
{
        remove_all(f->os, f->root);
        os_free(&f->os);
}

/* A story told on each of the machines. */
#define ON_ALL(noun, story)                                                                                  \
        static void on_##noun##_##story(struct fixture *f);                                                  \
        TEST(noun, story)                                                                                    \
        {                                                                                                    \
                struct fixture f;                                                                            \
                unsigned kind;                                                                               \
                                                                                                             \
                for (kind = 0; kind < KINDS; kind++) {                                                       \
                        print_message("%s\n", kinds[kind]);                                                  \
                        fixture_init(&f, kind);                                                              \
                        on_##noun##_##story(&f);                                                             \
                        fixture_fini(&f);                                                                    \
                }                                                                                            \
        }                                                                                                    \
        static void on_##noun##_##story(struct fixture *f)

static void expect_bytes(struct os_file *file, uint64_t offset, const char *expected)
{
        char got[256];
        size_t size;

        assert_int_equal(os_file_read(file, got, strlen(expected), offset, &size), 0);
        assert_int_equal(size, strlen(expected));
        assert_memory_equal(got, expected, size);
}

/* ---- opening ---- */

ON_ALL(open, tells_what_is_there_from_what_is_not)
{
        struct os_file *file = NULL;
        char below_missing[256];
        uint64_t size;

        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_READ, &file), OS_NOT_FOUND);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE, &file), OS_NOT_FOUND);
        snprintf(below_missing, sizeof below_missing, "%s/x", f->path[0]);
        assert_int_equal(
                os_file_open(f->os, below_missing, OS_OPEN_WRITE | OS_OPEN_CREATE, &file), OS_NOT_FOUND);
        assert_null(file);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_NEW, &file), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("kept"), 0), 0);
        os_file_close(&file);
        assert_null(file);
        os_file_close(&file); /* harmless */
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_NEW, &file), OS_EXISTS);
        assert_null(file);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        assert_int_equal(os_file_size(file, &size), 0);
        assert_int_equal(size, 4); /* creating does not empty it */
        os_file_close(&file);
}

ON_ALL(open, for_reading_only_refuses_writes)
{
        struct os_file *file;

        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_LITERAL("abc")), 0);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_READ, &file), 0);
        assert_true(os_file_write(file, BYTES_LITERAL("x"), 0) < 0);
        assert_true(os_file_truncate(file, 0) < 0);
        expect_bytes(file, 0, "abc");
        os_file_close(&file);
}

/* ---- bytes ---- */

ON_ALL(file, reads_what_was_written_and_zeros_between)
{
        struct os_file *file;
        char got[64];
        size_t size;
        uint64_t whole;

        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        assert_int_equal(os_file_read(file, got, sizeof got, 0, &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("end"), 100000), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("begin"), 0), 0);
        assert_int_equal(os_file_write(file, BYTES_EMPTY, 500000), 0); /* nothing, so no growth */
        assert_int_equal(os_file_size(file, &whole), 0);
        assert_int_equal(whole, 100003);
        expect_bytes(file, 0, "begin");
        expect_bytes(file, 100000, "end");
        assert_int_equal(os_file_read(file, got, 10, 50000, &size), 0);
        assert_int_equal(size, 10);
        assert_memory_equal(got, "\0\0\0\0\0\0\0\0\0\0", 10);
        /* Fewer only at the end; nothing behind it. */
        assert_int_equal(os_file_read(file, got, 10, 100001, &size), 0);
        assert_int_equal(size, 2);
        assert_int_equal(os_file_read_warm(file, got, 10, 100003, &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(os_file_read(file, got, 10, 1000000, &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("BEG"), 0), 0);
        assert_int_equal(os_file_sync(file), 0);
        assert_int_equal(os_file_write_synced(file, BYTES_LITERAL("BEGI"), 0), 0);
        expect_bytes(file, 0, "BEGIn");
        assert_int_equal(os_file_read_warm(file, got, 5, 0, &size), 0); /* just written, so in memory */
        assert_memory_equal(got, "BEGIn", 5);
        os_file_close(&file);
}

ON_ALL(file, truncated_bytes_never_come_back)
{
        struct os_file *file;
        char got[8];
        size_t size;
        uint64_t whole;

        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("0123456789"), 8188), 0);
        assert_int_equal(os_file_truncate(file, 8190), 0);
        assert_int_equal(os_file_size(file, &whole), 0);
        assert_int_equal(whole, 8190);
        assert_int_equal(os_file_truncate(file, 20000), 0);
        assert_int_equal(os_file_size(file, &whole), 0);
        assert_int_equal(whole, 20000);
        assert_int_equal(os_file_read(file, got, 8, 8188, &size), 0);
        assert_int_equal(size, 8);
        assert_memory_equal(got, "01\0\0\0\0\0\0", 8);
        os_file_close(&file);
}

ON_ALL(file, zeros_overwrite_and_cost_no_memory_where_there_was_nothing)
{
        static const uint8_t zeros[1 << 20];
        struct os_file *file;
        struct os_space before, after;
        uint64_t at, size;

        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("abcdef"), 4094), 0);
        assert_int_equal(os_file_write(file, bytes_of(zeros, 3), 4095), 0);
        assert_int_equal(os_file_sync(file), 0);
        expect_bytes(file, 4094, "a");
        expect_bytes(file, 4098, "ef");
        assert_int_equal(os_space(f->os, f->root, &before), 0);
        if (f->kind != 0) { /* a whole segment of zeros */
                for (at = 8192; at < 256 * MIB; at += sizeof zeros)
                        assert_int_equal(os_file_write(file, bytes_of(zeros, sizeof zeros), at), 0);
                assert_int_equal(os_file_size(file, &size), 0);
                assert_int_equal(size, 256 * MIB + 8192);
                assert_int_equal(os_space(f->os, f->root, &after), 0);
                assert_int_equal(before.free_bytes, after.free_bytes);
        }
        os_file_close(&file);
}

static unsigned next_number(unsigned *n)
{
        *n = *n * 1664525 + 1013904223;
        return *n / 128;
}

/* Random writes, cuts and reads against a plain array. */
ON_ALL(file, agrees_with_an_array)
{
        enum { SIZE = 60000 };
        static uint8_t model[SIZE], chunk[SIZE];
        struct os_file *file;
        uint64_t size = 0, whole;
        unsigned i, n = 12345;
        size_t got;

        memset(model, 0, sizeof model);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        for (i = 0; i < 2000; i++) {
                uint64_t offset = next_number(&n) % SIZE;
                size_t length = next_number(&n) % 9000;

                length = MIN(length, SIZE - offset);
                switch (n / 64 % 5) {
                case 0:
                        memset(chunk, 0, length);
                        break;
                case 1:
                        memset(model + offset, 0, SIZE - offset);
                        assert_int_equal(os_file_truncate(file, offset), 0);
                        size = offset;
                        continue;
                case 2:
                        assert_int_equal(os_file_sync(file), 0);
                        assert_int_equal(os_file_read(file, chunk, SIZE, 0, &got), 0);
                        assert_int_equal(got, size);
                        assert_memory_equal(chunk, model, size);
                        continue;
                default:
                        memset(chunk, (int)(1 + i % 250), length);
                }
                assert_int_equal((n / 512 % 16 ? os_file_write : os_file_write_synced)(
                                         file, bytes_of(chunk, length), offset),
                        0);
                memcpy(model + offset, chunk, length);
                if (length)
                        size = MAX(size, offset + length);
                assert_int_equal(os_file_size(file, &whole), 0);
                assert_int_equal(whole, size);
        }
        os_file_close(&file);
}

/* ---- names ---- */

static int gather(void *arg, const char *name, bool is_dir)
{
        strcat(strcat(strcat(arg, name), is_dir ? "/" : ""), " ");
        return strcmp(name, "stop") == 0 ? 42 : 0;
}

ON_ALL(directory, is_listed_in_byte_order)
{
        static const char *const names[] = {"b", "a", "10", "9", "a.tmp", "\xc3\xa4", "B"};
        char path[256], story[512] = "";
        unsigned i;

        assert_int_equal(os_dir_list(f->os, f->path[0], gather, story), OS_NOT_FOUND);
        assert_int_equal(os_dir_list(f->os, f->root, gather, story), 0);
        assert_string_equal(story, "");
        for (i = 0; i < COUNT_OF(names); i++) {
                snprintf(path, sizeof path, "%s/%s", f->root, names[i]);
                assert_int_equal(os_replace_whole(f->os, path, BYTES_EMPTY), 0);
        }
        snprintf(path, sizeof path, "%s/c/d/e", f->root);
        assert_int_equal(os_dir_make(f->os, path), 0);
        assert_int_equal(os_dir_make(f->os, path), 0); /* there already */
        assert_int_equal(os_dir_sync(f->os, f->root), 0);
        assert_int_equal(os_dir_list(f->os, f->root, gather, story), 0);
        assert_string_equal(story, "10 9 B a a.tmp b c/ \xc3\xa4 ");
        snprintf(path, sizeof path, "%s/stop", f->root);
        assert_int_equal(os_replace_whole(f->os, path, BYTES_EMPTY), 0);
        story[0] = '\0';
        assert_int_equal(os_dir_list(f->os, f->root, gather, story), 42);
        assert_string_equal(story, "10 9 B a a.tmp b c/ stop ");
        assert_true(os_dir_sync(f->os, f->path[3]) < 0);
}

ON_ALL(directory, can_be_changed_while_it_is_listed)
{
        struct below b = {f->os, f->path[0]};
        char path[256], story[64] = "";
        unsigned i;

        assert_int_equal(os_dir_make(f->os, f->path[0]), 0);
        for (i = 0; i < 50; i++) {
                snprintf(path, sizeof path, "%s/%u", f->path[0], i);
                assert_int_equal(os_replace_whole(f->os, path, BYTES_EMPTY), 0);
        }
        assert_true(os_remove(f->os, f->path[0]) < 0); /* not empty */
        assert_int_equal(os_dir_list(f->os, f->path[0], remove_below, &b), 0);
        assert_int_equal(os_dir_list(f->os, f->path[0], gather, story), 0);
        assert_string_equal(story, "");
        assert_int_equal(os_remove(f->os, f->path[0]), 0);
        assert_int_equal(os_remove(f->os, f->path[0]), OS_NOT_FOUND);
}

ON_ALL(directory, is_not_made_where_a_file_is)
{
        char path[256];

        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_EMPTY), 0);
        assert_int_equal(os_dir_make(f->os, f->path[0]), -ENOTDIR);
        snprintf(path, sizeof path, "%s/below", f->path[0]);
        assert_true(os_dir_make(f->os, path) < 0);
        assert_int_equal(os_dir_make(f->os, ""), -EINVAL);
}

ON_ALL(rename, replaces_and_an_open_file_keeps_its_bytes)
{
        struct os_file *old;
        struct buffer content = {0};

        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_LITERAL("old")), 0);
        assert_int_equal(os_replace_whole(f->os, f->path[1], BYTES_LITERAL("new")), 0);
        assert_int_equal(os_file_open(f->os, f->path[0], OS_OPEN_READ, &old), 0);
        assert_int_equal(os_rename(f->os, f->path[1], f->path[0]), 0);
        assert_int_equal(os_rename(f->os, f->path[1], f->path[0]), OS_NOT_FOUND);
        expect_bytes(old, 0, "old");
        assert_int_equal(os_read_whole(f->os, f->path[0], 3, &content), 0);
        assert_true(bytes_equal_string(buffer_bytes(&content), "new"));
        assert_int_equal(os_read_whole(f->os, f->path[1], 3, &content), OS_NOT_FOUND);
        assert_int_equal(os_remove(f->os, f->path[0]), 0);
        expect_bytes(old, 0, "old");
        os_file_close(&old);
        buffer_fini(&content);
}

/* ---- whole files ---- */

ON_ALL(whole, is_replaced_and_read_with_a_limit)
{
        struct buffer content = {0};
        char story[64] = "";

        assert_int_equal(os_read_whole(f->os, f->path[0], 100, &content), OS_NOT_FOUND);
        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_LITERAL("a long content")), 0);
        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_LITERAL("short")), 0);
        assert_int_equal(os_read_whole(f->os, f->path[0], 4, &content), -EFBIG);
        assert_int_equal(content.size, 0);
        buffer_add_string(&content, "before ");
        assert_int_equal(os_read_whole(f->os, f->path[0], 5, &content), 0);
        assert_true(bytes_equal_string(buffer_bytes(&content), "before short"));
        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_EMPTY), 0);
        assert_int_equal(os_read_whole(f->os, f->path[0], 5, &content), 0);
        assert_int_equal(content.size, 12);
        /* No temporary name stays. */
        assert_int_equal(os_dir_list(f->os, f->root, gather, story), 0);
        assert_string_equal(story, "a ");
        buffer_fini(&content);
}

ON_ALL(whole, replacing_overwrites_what_a_crash_left_under_the_temporary_name)
{
        struct os_file *file;
        struct buffer content = {0};
        char path[256];

        snprintf(path, sizeof path, "%s.tmp", f->path[0]);
        assert_int_equal(os_file_open(f->os, path, OS_OPEN_WRITE | OS_OPEN_NEW, &file), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("a long rest of another life"), 0), 0);
        os_file_close(&file);
        assert_int_equal(os_replace_whole(f->os, f->path[0], BYTES_LITERAL("new")), 0);
        assert_int_equal(os_read_whole(f->os, f->path[0], 100, &content), 0);
        assert_true(bytes_equal_string(buffer_bytes(&content), "new"));
        buffer_fini(&content);
}

/* ---- locks, space ---- */

ON_ALL(lock, is_held_until_the_file_is_closed)
{
        struct os_file *first, *second = NULL;
        char path[256];

        assert_int_equal(os_lock(f->os, f->path[0], &first), 0);
        assert_int_equal(os_lock(f->os, f->path[0], &second), OS_LOCKED);
        assert_null(second);
        assert_int_equal(os_lock(f->os, f->path[1], &second), 0); /* another file */
        os_file_close(&second);
        os_file_close(&first);
        assert_int_equal(os_lock(f->os, f->path[0], &second), 0);
        os_file_close(&second);
        snprintf(path, sizeof path, "%s/below/missing", f->path[2]);
        assert_true(os_lock(f->os, path, &second) < 0);
}

ON_ALL(space, is_told_and_smaller_than_the_whole)
{
        struct os_space space = {0};

        assert_int_equal(os_space(f->os, f->root, &space), 0);
        assert_true(space.total_bytes > 0);
        assert_true(space.free_bytes <= space.total_bytes);
}

/* ---- the disk in memory ---- */

struct reader {
        struct fixture *f;
        struct os_file *file;
        pthread_t thread;
        uint64_t seen;
};

static uint64_t end_of_writes;

/* Every block that the writer has announced is whole. */
static void *read_blocks(void *arg)
{
        struct reader *r = arg;
        uint8_t block[BLOCK];
        size_t size, i;

        while (r->seen < BLOCKS) {
                uint64_t end = __atomic_load_n(&end_of_writes, __ATOMIC_ACQUIRE);

                for (; r->seen < end; r->seen++) {
                        assert(os_file_read(r->file, block, BLOCK, r->seen * BLOCK, &size) == 0);
                        assert(size == BLOCK);
                        for (i = 0; i < BLOCK; i++)
                                assert(block[i] == (uint8_t)(r->seen + 1));
                }
        }
        return NULL;
}

TEST(memory, is_read_by_many_threads_while_one_writes)
{
        struct reader readers[THREADS];
        struct fixture f;
        struct os_file *file;
        uint8_t block[BLOCK];
        unsigned i;

        fixture_init(&f, 1);
        end_of_writes = 0;
        assert_int_equal(os_file_open(f.os, f.path[0], OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        for (i = 0; i < THREADS; i++) {
                readers[i] = (struct reader){.f = &f, .file = file};
                assert_int_equal(pthread_create(&readers[i].thread, NULL, read_blocks, &readers[i]), 0);
        }
        for (i = 0; i < BLOCKS; i++) {
                memset(block, (int)(i + 1), sizeof block);
                assert_int_equal(os_file_write(file, bytes_of(block, sizeof block), (uint64_t)i * BLOCK), 0);
                __atomic_store_n(&end_of_writes, i + 1, __ATOMIC_RELEASE);
        }
        for (i = 0; i < THREADS; i++)
                pthread_join(readers[i].thread, NULL);
        os_file_close(&file);
        fixture_fini(&f);
}

TEST(memory, leaves_nothing_on_the_real_disk_and_gives_its_pages_back)
{
        struct fixture f;
        struct os_space before, used, after;
        struct os_file *file;
        uint8_t block[BLOCK];
        unsigned i;

        fixture_init(&f, 1);
        assert_int_equal(os_space(f.os, "/", &before), 0);
        memset(block, 1, sizeof block);
        assert_int_equal(os_file_open(f.os, f.path[0], OS_OPEN_WRITE | OS_OPEN_NEW, &file), 0);
        for (i = 0; i < BLOCKS; i++)
                assert_int_equal(os_file_write(file, bytes_of(block, sizeof block), (uint64_t)i * BLOCK), 0);
        assert_int_equal(access(f.root, F_OK), -1);
        assert_int_equal(os_space(f.os, "/", &used), 0);
        assert_true(before.free_bytes - used.free_bytes >= (uint64_t)BLOCK * BLOCKS);
        assert_true(before.free_bytes - used.free_bytes <= (uint64_t)BLOCK * BLOCKS + 8192);
        assert_int_equal(os_remove(f.os, f.path[0]), 0);
        os_file_close(&file);
        assert_int_equal(os_space(f.os, "/", &after), 0);
        assert_int_equal(after.free_bytes, before.free_bytes);
        fixture_fini(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(open, tells_what_is_there_from_what_is_not),
                TEST_ROW(open, for_reading_only_refuses_writes),
                TEST_ROW(file, reads_what_was_written_and_zeros_between),
                TEST_ROW(file, truncated_bytes_never_come_back),
                TEST_ROW(file, zeros_overwrite_and_cost_no_memory_where_there_was_nothing),
                TEST_ROW(file, agrees_with_an_array),
                TEST_ROW(directory, is_listed_in_byte_order),
                TEST_ROW(directory, can_be_changed_while_it_is_listed),
                TEST_ROW(directory, is_not_made_where_a_file_is),
                TEST_ROW(rename, replaces_and_an_open_file_keeps_its_bytes),
                TEST_ROW(whole, is_replaced_and_read_with_a_limit),
                TEST_ROW(whole, replacing_overwrites_what_a_crash_left_under_the_temporary_name),
                TEST_ROW(lock, is_held_until_the_file_is_closed),
                TEST_ROW(space, is_told_and_smaller_than_the_whole),
                TEST_ROW(memory, is_read_by_many_threads_while_one_writes),
                TEST_ROW(memory, leaves_nothing_on_the_real_disk_and_gives_its_pages_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
