/* Reads on a node among three: what they see, and whom they are sent to (G7, G8, G10). */
#include "messages.h"

/* ---- what the methods are told of the others ---- */

struct membership {
        bool has_leader;
};

static struct membership others = {.has_leader = true};

bool membership_leader(struct membership *m, struct membership_node *ret)
{
        if (!m->has_leader)
                return false;
        *ret = (struct membership_node){
                .node_id = 9, .is_leader = true, .host = "leader.example", .port = 2113};
        return true;
}

bool membership_is_leading(const struct membership *m)
{
        return !m->has_leader;
}

unsigned membership_nodes(struct membership *m, struct membership_node *ret, unsigned max)
{
        return max && membership_leader(m, ret);
}

void membership_hand_over(struct membership *m, void (*done)(void *arg), void *arg)
{
        (void)m;
        done(arg);
}

/* ---- turns ---- */

struct look {
        struct world *world;
        unsigned turns;
        sem_t is_done;
};

static void look_on_loop(void *arg)
{
        struct look *l = arg;

        l->turns = l->world->open_turns;
        sem_post(&l->is_done);
}

static unsigned open_turns(struct world *w)
{
        struct look l = {.world = w};

        sem_init(&l.is_done, 0, 0);
        os_post(w->os, look_on_loop, &l);
        while (sem_wait(&l.is_done)) {
        }
        sem_destroy(&l.is_done);
        return l.turns;
}

/* Reads once, sent in one piece, and gives how many turns that took beyond the one that it came in. */
static unsigned turns_of_read(struct world *w, struct client *c)
{
        unsigned before = open_turns(w);
        struct rpc r;

        assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int)), 0);
        begin_read(&r, c, read_of("s-1", 10));
        assert_int_equal(setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int)), 0);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_OK);
        assert_int_equal(r.count, 1);
        rpc_close(&r);
        return open_turns(w) - before;
}

/* ---- the leader ---- */

TEST(reads, of_the_only_voter_wait_for_nothing_and_of_a_leader_for_the_others)
{
        struct world alone = {0};
        struct world leader = {.seat = SEAT_LEADER};
        struct client c;

        world_open(&alone);
        client_open(&c, alone.port);
        append(&c, "s-1", any, 1, 1);
        assert_int_equal(turns_of_read(&alone, &c), 0);
        client_close(&c);
        world_close(&alone);
        world_open(&leader);
        client_open(&c, leader.port);
        append(&c, "s-1", any, 1, 1);
        assert_true(turns_of_read(&leader, &c) > 0);
        client_close(&c);
        world_close(&leader);
}

/* A leader that cannot confirm itself gives nothing: somebody else may lead, and have written (G7). What
 * nobody waits for is told as well. */
TEST(reads, of_a_leader_that_is_cut_off_are_refused_and_can_be_asked_elsewhere)
{
        struct world w = {.seat = SEAT_LEADER};
        struct client c;
        struct rpc read, gone, follow;

        world_open(&w);
        client_open(&c, w.port);
        three_append(&w.three, "s-1");
        begin_read_with(&read, &c, read_of("s-1", 10), "requires-leader", "true");
        rpc_wait_end(&read);
        assert_int_equal(read.status, GRPC_OK);
        assert_int_equal(read.count, 1);
        rpc_close(&read);
        begin_read(&follow, &c, read_of("s-1", 0));
        rpc_wait(&follow, 3);
        three_cut(&w.three, SEAT_LEADER, true);
        begin_read(&read, &c, read_of("s-1", 10));
        begin_read(&gone, &c, read_of("s-1", 10));
        client_step(&c, 50);
        rpc_close(&gone);
        rpc_wait_end(&read);
        assert_int_equal(read.status, GRPC_UNAVAILABLE);
        assert_non_null(strstr(read.message, "majority"));
        assert_int_equal(read.count, 0);
        assert_false(follow.is_closed); /* it needs no confirmation */
        rpc_close(&read);
        rpc_close(&follow);
        client_close(&c);
        world_close(&w);
}

/* ---- a follower ---- */

TEST(reads, that_require_the_leader_are_sent_there_by_a_follower)
{
        static const char *const values[] = {"true", "True"};
        struct world w = {.seat = SEAT_FOLLOWER, .membership = &others};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < 2 * COUNT_OF(values); i++) {
                begin_read_with(&r, &c, read_of(NULL, i % 2 ? 10 : 0), "requires-leader", values[i / 2]);
                rpc_wait_end(&r);
                assert_int_equal(r.status, GRPC_NOT_FOUND);
                assert_string_equal(r.message, "Leader info available");
                assert_string_equal(rpc_trailer(&r, "exception"), "not-leader");
                assert_string_equal(rpc_trailer(&r, "leader-endpoint-host"), "leader.example");
                assert_string_equal(rpc_trailer(&r, "leader-endpoint-port"), "2113");
                rpc_close(&r);
        }
        begin_read_with(&r, &c, read_of(NULL, 10), "requires-leader", "false");
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_OK);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

TEST(reads, with_a_position_wait_until_the_follower_has_it)
{
        struct world w = {.seat = SEAT_FOLLOWER};
        struct client c;
        struct rpc stale, waiting, never, follow, bad;
        read_options *o = read_of(NULL, 0);
        char position[24], beyond[24];
        uint64_t first, second;

        world_open(&w);
        client_open(&c, w.port);
        first = three_append(&w.three, "s-1");
        snprintf(position, sizeof position, "%llu", (unsigned long long)first);
        begin_read_with(&stale, &c, read_of("s-1", 10), "nilo-after", position);
        rpc_wait_end(&stale);
        assert_int_equal(stale.count, 1);
        rpc_close(&stale);

        three_cut(&w.three, SEAT_FOLLOWER, true);
        second = three_append(&w.three, "s-1");
        snprintf(position, sizeof position, "%llu", (unsigned long long)second);
        snprintf(beyond, sizeof beyond, "%llu", (unsigned long long)second + 1000);
        begin_read_with(&never, &c, read_of("s-1", 10), "nilo-after", beyond);
        begin_read_with(&waiting, &c, read_of("s-1", 10), "nilo-after", position);
        /* From behind an event that another node has delivered (G10). */
        o->all->all_option_case =
                EVENT_STORE__CLIENT__STREAMS__READ_REQ__OPTIONS__ALL_OPTIONS__ALL_OPTION_POSITION;
        o->all->position = MESSAGE(streams__read_req__options__position);
        o->all->position->commit_position = o->all->position->prepare_position = second;
        begin_read(&follow, &c, o);
        begin_read(&stale, &c, read_of("s-1", 10));
        begin_read_with(&bad, &c, read_of("s-1", 10), "nilo-after", "-1");
        rpc_wait_end(&stale);
        assert_int_equal(stale.status, GRPC_OK);
        assert_int_equal(stale.count, 1); /* what is committed here */
        rpc_wait_end(&bad);
        assert_int_equal(bad.status, GRPC_INVALID_ARGUMENT);
        assert_false(waiting.is_closed);
        assert_int_equal(follow.count, 0);

        three_cut(&w.three, SEAT_FOLLOWER, false);
        rpc_wait_end(&waiting);
        assert_int_equal(waiting.status, GRPC_OK);
        assert_int_equal(waiting.count, 2);
        rpc_wait(&follow, 1);
        assert_false(follow.is_closed);
        rpc_wait_end(&never);
        assert_int_equal(never.status, GRPC_DEADLINE_EXCEEDED);
        assert_non_null(strstr(never.message, beyond));
        assert_non_null(strstr(never.message, "is not here yet"));
        rpc_close(&stale);
        rpc_close(&bad);
        rpc_close(&waiting);
        rpc_close(&follow);
        rpc_close(&never);
        client_close(&c);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(reads, of_the_only_voter_wait_for_nothing_and_of_a_leader_for_the_others),
                ROW(reads, of_a_leader_that_is_cut_off_are_refused_and_can_be_asked_elsewhere),
                ROW(reads, that_require_the_leader_are_sent_there_by_a_follower),
                ROW(reads, with_a_position_wait_until_the_follower_has_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
