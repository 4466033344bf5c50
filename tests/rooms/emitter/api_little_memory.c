/* Many pools and hardly any memory for their buffers: what one reads again must reach its consumer, although
 * others make room for themselves meanwhile (G18). */
#include "support.h"

enum { POOLS = 4, EVENTS = 40 };

TEST(little_memory, pools_that_take_turns_at_the_memory_all_go_on)
{
        static const char *const streams[POOLS] = {"a", "b", "c", "d"};
        struct world w = {.memory_size = 1};
        struct client clients[POOLS];
        bool is_done = false;

        world_begin(&w, 77);
        for (unsigned i = 0; i < POOLS; i++) {
                struct emitter_definition d = definition_of(streams[i], "g");

                append(&w, streams[i], EVENTS);
                assert_int_equal(create(&w, d), EMITTER_OK);
                client_open(&w, &clients[i], streams[i], "g", 20, true);
        }
        /* They ask a while after they were told, as over a slow connection; and there is always more for the
         * others. */
        for (unsigned round = 0; round < 100 && !is_done; round++) {
                is_done = true;
                for (unsigned i = 0; i < POOLS; i++) {
                        client_pull(&clients[i], 100);
                        is_done &= clients[i].count >= EVENTS;
                        append(&w, streams[i], 16);
                }
                world_run_for(&w, 5000);
        }
        assert_true(is_done);
        for (unsigned i = 0; i < POOLS; i++)
                client_close(&clients[i]);
        world_end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(little_memory, pools_that_take_turns_at_the_memory_all_go_on),
        };

        return cmocka_run_group_tests_name("little_memory", tests, NULL, NULL);
}
