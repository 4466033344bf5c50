/* What ten thousand who wait cost an append that concerns none of them, and in memory (G18). Bounds are
 * generous: they are to catch what grows with the number of waits, on any machine. */
#include <malloc.h>
#include <time.h>

#include "support.h"

enum { WAITS = 10000, APPENDS = 1000, COST_US_MAX = 50, MEMORY_MAX = 6 * 1024 };

static unsigned told;

static void on_match(struct notification_wait *wait, uint64_t position)
{
        (void)wait;
        (void)position;
        told++;
}

static double cpu_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds for each append. */
static double append_thousand(struct world *w)
{
        double begun = cpu_us();

        for (unsigned i = 0; i < APPENDS; i++)
                append(w, "order-7", "OrderPlaced", 1);
        world_run(w);
        return (cpu_us() - begun) / APPENDS;
}

typedef void make_selection(unsigned i, char *ret, size_t size);

static void check_cost(const char *what, make_selection *make)
{
        struct notification_wait *waits = memory_new_array(WAITS, sizeof *waits);
        struct world w;
        double without, with;
        size_t used;

        world_begin(&w, &(struct world_options){.seed = 51});
        append_thousand(&w);
        without = append_thousand(&w);
        used = mallinfo2().uordblks;
        for (unsigned i = 0; i < WAITS; i++) {
                char json[200], why[256];

                make(i, json, sizeof json);
                if (selector_parse(bytes_of_string(json), &waits[i].selector, why, sizeof why) != 0)
                        fail_msg("%s: %s", json, why);
                waits[i].on_match = on_match;
                notification_wait(w.notification, &waits[i], store_next_position(w.store));
        }
        used = mallinfo2().uordblks - used;
        told = 0;
        with = append_thousand(&w);
        print_message("10000 waits for %s: %.1f us for each append more than %.1f us, %zu bytes each\n", what,
                with - without, without, used / WAITS);
        assert_int_equal(told, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_true(with - without < COST_US_MAX);
#endif
        if (used) /* a sanitizer's allocator does not count */
                assert_true(used / WAITS < MEMORY_MAX);
        for (unsigned i = 0; i < WAITS; i++) {
                notification_wait_end(&waits[i]);
                selector_free(&waits[i].selector);
        }
        free(waits);
        world_end(&w);
}

static void stream_prefix_or_type(unsigned i, char *ret, size_t size)
{
        if (i % 3 == 0)
                snprintf(ret, size, "{\"kind\":\"stream\",\"stream\":\"order-%u\"}", i + 10);
        else if (i % 3 == 1)
                snprintf(ret, size, "{\"kind\":\"prefix\",\"prefixes\":[\"order-7%u\",\"cart-%u-\"]}", i, i);
        else
                snprintf(
                        ret, size, "{\"kind\":\"type\",\"types\":[\"OrderPlaced%u\",\"OrderPaid%u\"]}", i, i);
}

TEST(idle, streams_prefixes_and_types_cost_an_append_little)
{
        check_cost("streams, prefixes, types", stream_prefix_or_type);
}

static void narrowed_pattern(unsigned i, char *ret, size_t size)
{
        if (i % 2)
                snprintf(ret, size,
                        "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"^order-7%u-[0-9]+$\"}", i);
        else
                snprintf(ret, size,
                        "{\"kind\":\"pattern\",\"match\":{\"type\":\"OrderPlaced%u\",\"data\":{\"n\":%u}}}",
                        i, i);
}

TEST(idle, patterns_with_a_plain_beginning_or_a_type_are_not_matched_at_all)
{
        check_cost("patterns with a key", narrowed_pattern);
}

static void few_different_ones(unsigned i, char *ret, size_t size)
{
        if (i % 2)
                snprintf(
                        ret, size, "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"-x%u$\"}", i % 10);
        else
                snprintf(ret, size, "{\"kind\":\"payload\",\"match\":{\"customer\":{\"id\":%u}}}", i % 10);
}

TEST(idle, equal_selections_without_a_key_are_matched_once)
{
        check_cost("ten different selections without a key", few_different_ones);
}

static void different_payloads(unsigned i, char *ret, size_t size)
{
        if (i % 2)
                snprintf(ret, size,
                        "{\"kind\":\"payload\",\"match\":{\"customer\":{\"id\":%u,\"is_new\":true}}}", i);
        else
                snprintf(ret, size,
                        "{\"kind\":\"pattern\",\"match\":{\"type\":\"OrderPlaced\",\"data\":{\"n\":%u}}}",
                        i + 2);
}

TEST(idle, different_payloads_are_found_by_a_field)
{
        check_cost("payloads of different customers", different_payloads);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(idle, streams_prefixes_and_types_cost_an_append_little),
                TEST_ROW(idle, patterns_with_a_plain_beginning_or_a_type_are_not_matched_at_all),
                TEST_ROW(idle, equal_selections_without_a_key_are_matched_once),
                TEST_ROW(idle, different_payloads_are_found_by_a_field),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
