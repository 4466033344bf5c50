/* The inside of the match index: what is forgotten is forgotten whole, and what has too many places is
 * matched all the same. */
#include "notification/groups.h"
#include "support.h"

enum { WAITS = 200 };

static unsigned told[WAITS];

static void on_match(struct notification_wait *wait, uint64_t position)
{
        (void)position;
        told[(uintptr_t)wait->arg]++;
}

static void wait_for(struct world *w, struct notification_wait *wait, unsigned i, const char *json)
{
        char why[256];

        *wait = (struct notification_wait){.on_match = on_match, .arg = (void *)(uintptr_t)i};
        told[i] = 0;
        if (selector_parse(bytes_of_string(json), &wait->selector, why, sizeof why) != 0)
                fail_msg("%s: %s", json, why);
        notification_wait(w->notification, wait, store_next_position(w->store));
}

static void assert_empty(const struct match_index *x)
{
        assert_int_equal(x->group_count, 0);
        assert_int_equal(x->key_count, 0);
        assert_int_equal(x->stream_lengths.count, 0);
        assert_int_equal(x->type_lengths.count, 0);
        assert_int_equal(x->place_count, 0);
        assert_int_equal(x->heap_count, 0);
        for (size_t i = 0; i < x->key_capacity / BUCKETS_PER_WORD; i++)
                assert_int_equal(x->key_filter[i], 0);
        for (unsigned i = 0; i < COUNT_OF(x->keys_of_kind); i++)
                assert_int_equal(x->keys_of_kind[i], 0);
        for (unsigned i = 0; i < COUNT_OF(x->waiting); i++)
                assert_int_equal(x->waiting[i], 0);
        assert_null(x->everything);
        assert_true(list_is_empty(&x->due));
}

/* The row with a number for each '%'. */
static void number_row(const char *row, unsigned n, char *ret)
{
        for (; *row; row++) {
                if (*row == '%')
                        ret += snprintf(ret, 11, "%u", n);
                else
                        *ret++ = *row;
        }
        *ret = 0;
}

TEST(index, is_empty_when_all_waits_have_ended)
{
        static const char *const kinds[] = {
                "{\"kind\":\"all\"}",
                "{\"kind\":\"stream\",\"stream\":\"s-%\"}",
                "{\"kind\":\"prefix\",\"prefixes\":[\"p%-\",\"q%\"]}",
                "{\"kind\":\"type\",\"types\":[\"T%\",\"U%\"]}",
                "{\"kind\":\"filter\",\"target\":\"type\",\"prefixes\":[\"V%\"]}",
                "{\"kind\":\"filter\",\"target\":\"stream\",\"regex\":\"x%$\"}",
                "{\"kind\":\"payload\",\"match\":{\"a\":%}}",
                "{\"kind\":\"pattern\",\"match\":{\"type\":\"T\",\"data\":{\"b%\":true}}}",
        };
        struct world w;
        struct notification_wait waits[WAITS];

        world_begin(&w, &(struct world_options){.seed = 61});
        for (unsigned i = 0; i < WAITS; i++) {
                char json[200];
                unsigned n = i / 16; /* some are equal */

                number_row(kinds[i % COUNT_OF(kinds)], n, json);
                wait_for(&w, &waits[i], i, json);
        }
        assert_true(w.notification->index.stream_lengths.count > 0);
        append(&w, "p3-x", "V1", 1);
        world_run(&w);
        for (unsigned i = 0; i < WAITS; i += 2)
                notification_wait_end(&waits[i]);
        append(&w, "p3-x", "V1", 1);
        world_run(&w);
        for (unsigned i = 1; i < WAITS; i += 2)
                notification_wait_end(&waits[i]);
        assert_empty(&w.notification->index);
        for (unsigned i = 0; i < WAITS; i++)
                selector_free(&waits[i].selector);
        world_end(&w);
}

TEST(index, of_more_places_than_it_holds_matches_the_others_one_by_one)
{
        struct world w;
        struct notification_wait waits[WAITS];
        unsigned places;

        world_begin(&w, &(struct world_options){.seed = 62});
        for (unsigned i = 0; i < WAITS; i++) {
                char json[200];

                snprintf(json, sizeof json, "{\"kind\":\"payload\",\"match\":{\"f%u\":7}}", i);
                wait_for(&w, &waits[i], i, json);
        }
        places = w.notification->index.place_count;
        assert_true(places > 0 && places < WAITS);
        assert_int_equal(w.notification->index.key_count, places);
        append_data(&w, "s", BYTES_LITERAL("T"), "{\"f0\":7,\"f199\":7.0,\"f100\":8}");
        world_run(&w);
        for (unsigned i = 0; i < WAITS; i++)
                assert_int_equal(told[i], i == 0 || i == 199);
        for (unsigned i = 0; i < WAITS; i++) {
                notification_wait_end(&waits[i]);
                selector_free(&waits[i].selector);
        }
        assert_empty(&w.notification->index);
        world_end(&w);
}

static bool may_be_there(const struct match_index *x, unsigned n)
{
        char type[20];

        snprintf(type, sizeof type, "T%u", n);
        return keys_find(x, key_hash(SELECT_KEY_TYPES, name_hash(bytes_of_string(type)))) != NULL;
}

/* G10 rests on the first half: a key that the filter does not know would never be told. The second half is
 * what an append costs beside ten thousand who wait for something else. */
TEST(index, filter_knows_every_key_and_hardly_any_other_name)
{
        enum { MANY = 8000, OTHERS = 100000 };
        struct notification_wait *waits = memory_new_array(MANY, sizeof *waits);
        struct world w;
        struct match_index *x;
        unsigned found = 0;

        world_begin(&w, &(struct world_options){.seed = 63});
        x = &w.notification->index;
        for (unsigned i = 0; i < MANY; i++) {
                char json[100];

                snprintf(json, sizeof json, "{\"kind\":\"type\",\"types\":[\"T%u\"]}", i);
                wait_for(&w, &waits[i], 0, json);
        }
        /* Every third goes: its bits may be a neighbour's too. */
        for (unsigned i = 0; i < MANY; i += 3)
                notification_wait_end(&waits[i]);
        for (unsigned i = 0; i < MANY; i++)
                if (i % 3)
                        assert_true(may_be_there(x, i));
        for (unsigned i = MANY; i < MANY + OTHERS; i++)
                found += may_be_there(x, i);
        assert_true(found < OTHERS / 100);
        for (unsigned i = 0; i < MANY; i++) {
                notification_wait_end(&waits[i]);
                selector_free(&waits[i].selector);
        }
        assert_empty(x);
        free(waits);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(index, is_empty_when_all_waits_have_ended),
                TEST_ROW(index, filter_knows_every_key_and_hardly_any_other_name),
                TEST_ROW(index, of_more_places_than_it_holds_matches_the_others_one_by_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
