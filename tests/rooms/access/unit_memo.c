/* The bounded tables: what was used least lately goes, by number and by size. */
#include <stdio.h>
#include <stdlib.h>

#include "access/room.h"
#include "test.h"

struct thing {
        struct memo_entry entry;
        unsigned number;
};

static unsigned freed;

static void thing_free(struct memo_entry *entry)
{
        freed++;
        free(CONTAINER_OF(entry, struct thing, entry));
}

static struct bytes key_of(const unsigned *number)
{
        return bytes_of(number, sizeof *number);
}

static void put(struct memo *m, unsigned number, size_t size)
{
        struct thing *t = MEMORY_NEW(struct thing);

        t->number = number;
        t->entry.key = key_of(&t->number);
        t->entry.size = size;
        memo_put(m, &t->entry);
}

static bool has(struct memo *m, unsigned number)
{
        struct memo_entry *e = memo_get(m, key_of(&number));

        assert_true(!e || CONTAINER_OF(e, struct thing, entry)->number == number);
        return e != NULL;
}

TEST(memo, what_was_used_least_lately_makes_room)
{
        struct memo m;

        freed = 0;
        memo_init(&m, 100, 0, thing_free);
        assert_false(has(&m, 1));
        for (unsigned i = 0; i < 100; i++)
                put(&m, i, 1);
        assert_true(has(&m, 0));
        for (unsigned i = 100; i < 150; i++)
                put(&m, i, 1);
        assert_int_equal(m.count, 100);
        assert_int_equal(freed, 50);
        assert_true(has(&m, 0)); /* it had been used */
        for (unsigned i = 1; i <= 50; i++)
                assert_false(has(&m, i));
        for (unsigned i = 51; i < 150; i++)
                assert_true(has(&m, i));
        memo_fini(&m);
        assert_int_equal(freed, 150);
}

TEST(memo, sizes_are_bounded_and_a_key_is_there_once)
{
        struct memo m;

        freed = 0;
        memo_init(&m, 1000, 100, thing_free);
        for (unsigned i = 0; i < 10; i++)
                put(&m, i, 10);
        assert_int_equal(m.count, 10);
        put(&m, 5, 10);
        assert_int_equal(m.count, 10);
        assert_int_equal(freed, 1);
        put(&m, 10, 60);
        assert_true(m.size <= 100);
        assert_true(has(&m, 10) && has(&m, 5) && !has(&m, 0));
        put(&m, 11, 1000); /* larger than all: alone */
        assert_int_equal(m.count, 1);
        assert_true(has(&m, 11));
        memo_clear(&m);
        assert_int_equal(m.count, 0);
        assert_int_equal(m.size, 0);
        put(&m, 1, 1);
        assert_true(has(&m, 1));
        memo_fini(&m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(memo, what_was_used_least_lately_makes_room),
                TEST_ROW(memo, sizes_are_bounded_and_a_key_is_there_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
