/* Which commands of other nodes are passed on, and to whom not; on a node without store and links. */
#include "test.h"

#include <stdlib.h>

#include "membership/room.h"
#include "os/os_sim.h"

static void begin(struct membership *m)
{
        *m = (struct membership){.identity = {.node_id = 1}};
        assert_int_equal(os_sim_new(1, &m->os), 0);
        m->configuration = (struct cluster_configuration){.count = 4};
        for (unsigned i = 0; i < 4; i++)
                m->configuration.servers[i] = (struct cluster_server){
                        .node_id = i + 1, .role = i < 3 ? CLUSTER_VOTER : CLUSTER_STANDBY};
        m->has_configuration = true;
        list_init(&m->commands);
}

static void end(struct membership *m)
{
        commands_end_all(m);
        os_free(&m->os);
}

static void hear(struct membership *m, uint64_t from, const char *text)
{
        struct buffer message = {0};
        uint8_t number[8];

        put_u64(number, 1);
        buffer_add_bytes(&message, bytes_of(number, sizeof number));
        buffer_add_bytes(&message, bytes_of_string(text));
        commands_on_message(m, from, buffer_bytes(&message));
        buffer_fini(&message);
}

/* The CA's key goes to voters only. A voter that has it not must not fetch it for a stand-by: who has it
 * would see a voter ask. */
TEST(commands, nobody_asks_for_the_key_of_the_ca_in_the_name_of_another)
{
        struct membership m;

        begin(&m);
        hear(&m, 4, "{\"do\":\"authority\",\"timeout_ms\":5000}");
        assert_int_equal(m.command_count, 0); /* refused, and not waiting for one that has it */
        hear(&m, 4, "{\"do\":\"sign\",\"node\":4,\"timeout_ms\":5000}");
        assert_int_equal(m.command_count, 0);
        /* What is the leader's waits for a leader. */
        hear(&m, 4, "{\"do\":\"promote\",\"node\":4,\"timeout_ms\":5000}");
        assert_int_equal(m.command_count, 1);
        os_sim_run_for(m.os, 6 * 1000 * 1000);
        assert_int_equal(m.command_count, 0);
        end(&m);
}

static void on_answer(void *arg, const struct membership_answer *said)
{
        *(int *)arg = said->status;
}

/* Without a leader an ask waits, also for who has gone away: that must not keep operators out (G17). */
TEST(commands, strangers_leave_room_for_operators)
{
        struct membership m;
        int status = 0;

        begin(&m);
        for (unsigned i = 1; i <= 2 * MEMBERSHIP_COMMANDS_MAX; i++)
                commands_on_ask(&m, i, "10.0.0.9:1", NULL, BYTES_LITERAL("{\"do\":\"join\"}"));
        assert_in_range(m.command_count, 1, MEMBERSHIP_COMMANDS_MAX / 4);
        membership_command(&m, BYTES_LITERAL("{\"do\":\"tokens\"}"), 0, on_answer, &status);
        assert_int_equal(status, 0); /* it is under way */
        os_sim_run_for(m.os, 11 * 1000 * 1000);
        assert_int_equal(m.command_count, 1); /* and the others are not for ever */
        assert_int_equal(m.ask_count, 0);
        end(&m);
        assert_int_equal(status, 503);
}

TEST(commands, an_address_is_fit_for_the_log_and_for_a_terminal)
{
        static const char *const good[] = {
                "a:1", "10.0.0.1:65535", "[fd00::2]:2112", "node-1.example.org:2112"};
        static const char *const bad[] = {
                "", "a", "a:", ":1", "a:0", "a:65536", "a b:1", "a\n:1", "a\x7f:1", "\xc3\xa4:1", "a:1 "};
        char long_one[CLUSTER_ADDRESS_SIZE + 1];

        for (unsigned i = 0; i < COUNT_OF(good); i++)
                assert_true(address_is_fit(good[i]));
        for (unsigned i = 0; i < COUNT_OF(bad); i++)
                assert_false(address_is_fit(bad[i]));
        memset(long_one, 'a', sizeof long_one);
        memcpy(long_one + CLUSTER_ADDRESS_SIZE - 5, ":2112", 6);
        assert_int_equal(strlen(long_one), CLUSTER_ADDRESS_SIZE);
        assert_false(address_is_fit(long_one));
        assert_true(address_is_fit(long_one + 3));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(commands, nobody_asks_for_the_key_of_the_ca_in_the_name_of_another),
                TEST_ROW(commands, strangers_leave_room_for_operators),
                TEST_ROW(commands, an_address_is_fit_for_the_log_and_for_a_terminal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
