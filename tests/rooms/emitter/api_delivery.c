/* What a group gets: everything once, in order, again after a restart no more than the bound (G11). */
#include "support.h"

TEST(delivery, a_group_gets_its_stream_from_the_start_and_then_live)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 1);
        append(&w, "a,b", 20);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 10);
        append(&w, "a,b", 6);
        client_drain(&w, &c);
        assert_int_equal(c.count, 13);
        for (unsigned i = 0; i < c.count; i++) {
                assert_int_equal(c.items[i].revision, i);
                assert_int_equal(c.items[i].retry_count, 0);
                assert_string_equal(c.items[i].stream, "a");
        }
        assert_string_equal(info_of(&w, "a", "g").state, "live");
        assert_int_equal(info_of(&w, "a", "g").info.lag_events, 0);
        client_close(&c);
        world_end(&w);
}

TEST(delivery, after_a_restart_it_goes_on_behind_the_checkpoint)
{
        struct world w = {0};
        struct client c;

        world_begin(&w, 2);
        append(&w, "a", 30);
        assert_int_equal(create(&w, definition_of("a", "g")), EMITTER_OK);
        client_open(&w, &c, "a", "g", 10, false);
        client_drain(&w, &c);
        assert_int_equal(c.count, 10);
        for (unsigned i = 0; i < 7; i++)
                client_ack(&c, i);
        client_close(&c);
        world_stop(&w);
        world_close(&w);
        world_open(&w);
        client_open(&w, &c, "a", "g", 10, true);
        client_drain(&w, &c);
        assert_int_equal(c.count, 23);
        assert_int_equal(c.items[0].revision, 7);
        assert_int_equal(c.items[22].revision, 29);
        assert_true(info_of(&w, "a", "g").info.has_checkpoint);
        assert_int_equal(info_of(&w, "a", "g").info.checkpoint, 6);
        client_close(&c);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(delivery, a_group_gets_its_stream_from_the_start_and_then_live),
                TEST_ROW(delivery, after_a_restart_it_goes_on_behind_the_checkpoint),
        };
        int failed = cmocka_run_group_tests_name("delivery, simulated", tests, NULL, NULL);

        is_on_memory_machine = true;
        return failed + cmocka_run_group_tests_name("delivery, in memory", tests, NULL, NULL);
}
