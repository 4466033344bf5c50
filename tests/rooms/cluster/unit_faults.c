/* The faults of the library (F1 ..), each shown with its guard off, and gone with the guard on. A single
 * engine that hears what a test wants it to hear; the guards' bits are those of cluster_options.mutants. */
#include "support.h"

#include "cluster/room.h"

struct hearing {
        struct peers peers;
        struct peer *n; /* node 1 */
        struct kept sent[LOG_MAX];
        struct buffer three, four, five;
};

static void payload_of(struct buffer *ret, unsigned voters, unsigned standbys)
{
        struct cluster_configuration c = configuration_of(voters, standbys);

        assert_int_equal(cluster_configuration_encode(&c, ret), 0);
}

/* Node 1 of three voters, with only the first entry, in `term`; the others are not there. */
static void begin(struct hearing *h, unsigned guard_off, uint64_t term)
{
        h->peers.mutants = guard_off < 32 ? 1u << guard_off : 0;
        payload_of(&h->three, 3, 0);
        payload_of(&h->four, 3, 1);
        payload_of(&h->five, 3, 2);
        h->peers.now_us = 1000000;
        h->peers.count = 1;
        h->peers.queue = memory_new_array(QUEUE_MAX, sizeof(*h->peers.queue));
        h->n = &h->peers.peer[1];
        put(&h->n->log[1], 1, CLUSTER_CHANGE, buffer_bytes(&h->three));
        put(&h->sent[1], 1, CLUSTER_CHANGE, buffer_bytes(&h->three));
        h->n->last = 1;
        h->n->term = term;
        peer_start(&h->peers, 1);
}

static void end(struct hearing *h)
{
        peers_end(&h->peers);
        for (unsigned i = 0; i < LOG_MAX; i++)
                buffer_fini(&h->sent[i].payload);
        buffer_fini(&h->three);
        buffer_fini(&h->four);
        buffer_fini(&h->five);
}

enum { ALL_ON = 32 };

/* An append of sent[previous + 1 ..] by `from`. */
static int hear_append(
        struct hearing *h, uint64_t from, uint64_t term, uint64_t previous, unsigned count, uint64_t commit)
{
        struct cluster_message m = {.type = CLUSTER_APPEND,
                .node_id = from,
                .term = term,
                .append = {.previous_index = previous,
                        .previous_term = previous ? h->sent[previous].term : 0,
                        .commit_index = commit,
                        .entry_count = count}};

        return peer_hear(&h->peers, 1, &m, h->sent);
}

static void send_commands(struct hearing *h, uint64_t first, unsigned count, uint64_t term)
{
        for (unsigned i = 0; i < count; i++)
                put(&h->sent[first + i], term, CLUSTER_COMMAND, BYTES_LITERAL("c"));
}

/* ---- F1, F7: RG1 ---- */

/* 200 entries are committed and sealed; then an append from the beginning comes late. */
static void hear_late_append(struct hearing *h, struct cluster_update *ret)
{
        struct cluster_message m = {
                .type = CLUSTER_APPEND, .node_id = 2, .term = 2, .append = {.entry_count = 2}};
        struct cluster_entry two[2] = {
                {.term = 1, .type = CLUSTER_CHANGE, .payload = buffer_bytes(&h->three)},
                {.term = 2, .type = CLUSTER_COMMAND}};
        struct cluster_update u;

        send_commands(h, 2, 200, 2);
        assert_int_equal(hear_append(h, 2, 2, 1, 200, 201), 0);
        assert_int_equal(h->n->commit, 201);
        h->n->raft->trailing = 1;
        assert_int_equal(
                cluster_raft_sealed(h->n->raft, h->peers.now_us, 201, 2, buffer_bytes(&h->three), 1, &u), 0);
        m.append.entries = two;
        assert_int_equal(cluster_raft_receive(h->n->raft, h->peers.now_us, &m, ret), 0);
}

TEST(F1, late_entries_destroy_a_log_that_is_sealed)
{
        struct hearing h = {0};
        struct cluster_update u;

        begin(&h, 1, 1);
        hear_late_append(&h, &u);
        assert_int_equal(u.first_index, 1); /* two were received */
        assert_true(u.entry_count > 100);
        end(&h);
}

TEST(RG1, late_entries_are_cut_off)
{
        struct hearing h = {0};
        struct cluster_update u;

        begin(&h, ALL_ON, 1);
        hear_late_append(&h, &u);
        assert_int_equal(u.entry_count, 0);
        assert_int_equal(u.message_count, 1);
        assert_int_equal(u.messages[0].append_result.rejected, 0);
        assert_int_equal(u.messages[0].append_result.last_index, 201);
        assert_int_equal(cluster_raft_last_index(h.n->raft), 201);
        end(&h);
}

/* A part of a message may be old and the rest new. */
TEST(RG1, what_is_new_behind_what_is_old_is_taken)
{
        struct hearing h = {0};

        begin(&h, ALL_ON, 1);
        send_commands(&h, 2, 30, 2);
        assert_int_equal(hear_append(&h, 2, 2, 1, 10, 8), 0);
        assert_int_equal(h.n->commit, 8);
        assert_int_equal(hear_append(&h, 2, 2, 3, 20, 8), 0);
        assert_int_equal(h.n->last, 23);
        assert_int_equal(h.n->commit, 8);
        end(&h);
}

TEST(F7, a_commit_index_goes_back)
{
        struct hearing h = {0};

        begin(&h, 1, 1);
        h.n->raft->mutants |= 1; /* and its second half */
        send_commands(&h, 2, 30, 2);
        assert_int_equal(hear_append(&h, 2, 2, 1, 20, 15), 0);
        assert_int_equal(h.n->commit, 15);
        assert_int_equal(
                hear_append(&h, 2, 2, 5, 0, 18), 0); /* an old one that came with a newer commit index */
        assert_int_equal(h.n->commit, 5);
        end(&h);
}

TEST(RG1, a_commit_index_never_goes_back)
{
        struct hearing h = {0};

        begin(&h, ALL_ON, 1);
        send_commands(&h, 2, 30, 2);
        assert_int_equal(hear_append(&h, 2, 2, 1, 20, 15), 0);
        assert_int_equal(hear_append(&h, 2, 2, 5, 0, 18), 0);
        assert_int_equal(h.n->commit, 15);
        end(&h);
}

/* ---- F3: RG4 ---- */

static __attribute__((noinline)) void poison_stack(void)
{
        uint64_t garbage[2000];

        for (unsigned i = 0; i < COUNT_OF(garbage); i++)
                garbage[i] = 123456;
        __asm__ volatile("" : : "r"(garbage) : "memory");
}

static struct cluster_message answer_to_old_term(unsigned guard_off, uint64_t previous)
{
        struct hearing h = {0};
        struct cluster_message answer;

        begin(&h, guard_off, 5);
        send_commands(&h, 2, 3, 1);
        poison_stack();
        assert_int_equal(hear_append(&h, 2, 3, previous, 0, 0), 0);
        answer = h.peers.last_to[2];
        assert_int_equal(answer.type, CLUSTER_APPEND_RESULT);
        assert_int_equal(answer.term, 5); /* the sender may have been elected in it since */
        end(&h);
        return answer;
}

TEST(F3, an_answer_says_what_stood_on_the_stack)
{
        struct cluster_message answer = answer_to_old_term(4, 0);

        assert_int_equal(answer.append_result.rejected, 0); /* and calls it a success */
        assert_int_not_equal(answer.append_result.last_index, 0);
}

TEST(RG4, an_answer_to_an_old_term_promises_nothing)
{
        struct cluster_message answer = answer_to_old_term(ALL_ON, 0);

        assert_int_equal(answer.append_result.rejected, 0);
        assert_int_equal(answer.append_result.last_index, 0);
        answer = answer_to_old_term(ALL_ON, 4);
        assert_int_equal(answer.append_result.rejected, 4);
        assert_int_equal(answer.append_result.last_index, 3);
}

/* ---- F4: RG5; F5: RG6 ---- */

/* A command and a change in one message, then a leader that has neither. */
static uint64_t change_behind_a_command(unsigned guard_off, unsigned *ret_members_after)
{
        struct hearing h = {0};
        unsigned count;
        uint64_t index;

        begin(&h, guard_off, 1);
        send_commands(&h, 2, 1, 1);
        put(&h.sent[3], 1, CLUSTER_CHANGE, buffer_bytes(&h.four));
        send_commands(&h, 4, 2, 1);
        assert_int_equal(hear_append(&h, 2, 1, 1, 4, 1), 0);
        assert_int_equal(h.n->last, 5);
        index = configuration_index(h.n, &count);
        assert_int_equal(count, 4);
        send_commands(&h, 3, 1, 2);
        assert_int_equal(hear_append(&h, 3, 2, 2, 1, 1), 0);
        configuration_index(h.n, ret_members_after);
        end(&h);
        return index;
}

TEST(F4, a_change_is_noted_where_its_message_began)
{
        unsigned members;

        assert_int_equal(change_behind_a_command(5, &members), 2);
        assert_int_equal(members, 4); /* it was replaced, and its members are still in use */
}

TEST(RG5, a_change_is_noted_where_it_stands)
{
        unsigned members;

        assert_int_equal(change_behind_a_command(ALL_ON, &members), 3);
        assert_int_equal(members, 3);
}

/* Two changes before the first is known to be committed; the second is replaced. */
static unsigned members_after_two_changes(unsigned guard_off)
{
        struct hearing h = {0};
        unsigned count;

        begin(&h, guard_off, 1);
        put(&h.sent[2], 1, CLUSTER_CHANGE, buffer_bytes(&h.four));
        put(&h.sent[3], 1, CLUSTER_CHANGE, buffer_bytes(&h.five));
        assert_int_equal(hear_append(&h, 2, 1, 1, 2, 1), 0);
        configuration_index(h.n, &count);
        assert_int_equal(count, 5);
        send_commands(&h, 3, 1, 2);
        assert_int_equal(hear_append(&h, 3, 2, 2, 1, 1), 0);
        configuration_index(h.n, &count);
        end(&h);
        return count;
}

TEST(F5, a_rollback_goes_two_configurations_back)
{
        assert_int_equal(members_after_two_changes(6), 3);
}

TEST(RG6, a_rollback_goes_one_configuration_back)
{
        assert_int_equal(members_after_two_changes(ALL_ON), 4);
}

/* ---- as leader: RG7, RG8, RG12, RG16 ---- */

/* Node 1 wins the election of the next term with the vote of node 2. */
static void become_leader(struct hearing *h)
{
        struct cluster_message vote = {
                .type = CLUSTER_VOTE, .node_id = 2, .vote = {.is_granted = true, .is_pre_vote = true}};
        struct cluster_update u;

        while (cluster_raft_state(h->n->raft) != CLUSTER_CANDIDATE) {
                h->peers.now_us += 50000;
                assert_int_equal(cluster_raft_timeout(h->n->raft, h->peers.now_us, &u), 0);
                peers_carry_out(&h->peers, h->n, &u);
        }
        vote.term = cluster_raft_term(h->n->raft) + 1;
        assert_int_equal(peer_hear(&h->peers, 1, &vote, NULL), 0);
        vote.vote.is_pre_vote = false;
        assert_int_equal(peer_hear(&h->peers, 1, &vote, NULL), 0);
        assert_int_equal(cluster_raft_state(h->n->raft), CLUSTER_LEADER);
        assert_int_equal(cluster_raft_term(h->n->raft), vote.term);
}

static void hear_result(struct hearing *h, uint64_t from, uint64_t rejected, uint64_t last_index)
{
        struct cluster_message m = {.type = CLUSTER_APPEND_RESULT,
                .node_id = from,
                .term = cluster_raft_term(h->n->raft),
                .append_result = {.rejected = rejected, .last_index = last_index}};

        assert_int_equal(peer_hear(&h->peers, 1, &m, NULL), 0);
}

static int change_before_own_term(unsigned guard_off)
{
        struct hearing h = {0};
        struct cluster_update u;
        int r;

        begin(&h, guard_off, 1);
        become_leader(&h);
        r = cluster_raft_add(h.n->raft, h.peers.now_us, 4, "node4:1", &u);
        end(&h);
        return r;
}

TEST(F6, a_leader_changes_members_before_it_knows_of_the_last_change)
{
        assert_int_equal(change_before_own_term(7), 0);
}

TEST(RG7, a_change_waits_for_an_entry_of_the_own_term)
{
        assert_int_equal(change_before_own_term(ALL_ON), CLUSTER_NOT_NOW);
}

/* A member with five entries is silent for a while; then a rejection that is older than those five comes. */
static unsigned entries_after_late_rejection(unsigned guard_off)
{
        struct hearing h = {0};
        unsigned most = 0;

        begin(&h, guard_off, 1);
        become_leader(&h);
        peer_submit(&h.peers, h.n, 8);
        hear_result(&h, 2, 0, 10);
        hear_result(&h, 3, 0, 5);
        for (unsigned i = 0; i < 30; i++) {
                peers_wait(&h.peers, 50);
                hear_result(&h, 2, 0, 10);
        }
        hear_result(&h, 3, 5, 0);
        for (unsigned i = 0; i < 10; i++) {
                peers_wait(&h.peers, 50);
                hear_result(&h, 2, 0, 10);
                if (h.peers.last_to[3].type == CLUSTER_APPEND)
                        most = MAX(most, h.peers.last_to[3].append.entry_count);
        }
        end(&h);
        return most;
}

TEST(F8, a_late_rejection_ends_replication)
{
        assert_int_equal(entries_after_late_rejection(8), 0);
}

TEST(RG8, a_late_rejection_changes_nothing)
{
        assert_int_equal(entries_after_late_rejection(ALL_ON), 5);
}

static int transfer_to_who_lags(unsigned guard_off, bool *ret_takes_writes)
{
        struct cluster_entry entry = {.type = CLUSTER_COMMAND};
        struct hearing h = {0};
        struct cluster_update u;
        int r;

        begin(&h, guard_off, 1);
        become_leader(&h);
        hear_result(&h, 3, 0, 2);
        peer_submit(&h.peers, h.n, 8);
        r = cluster_raft_transfer(h.n->raft, h.peers.now_us, 2, &u);
        *ret_takes_writes = cluster_raft_submit(h.n->raft, h.peers.now_us, &entry, 1, &u) == 0;
        end(&h);
        return r;
}

TEST(F13, a_transfer_to_who_lags_stops_all_writes)
{
        bool takes_writes;

        assert_int_equal(transfer_to_who_lags(12, &takes_writes), 0);
        assert_false(takes_writes);
}

TEST(RG12, a_transfer_waits_for_who_lags)
{
        bool takes_writes;

        assert_int_equal(transfer_to_who_lags(ALL_ON, &takes_writes), CLUSTER_NOT_NOW);
        assert_true(takes_writes);
}

/* ---- F9: RG9 ---- */

static uint64_t term_of_pre_vote_answer(unsigned guard_off)
{
        struct cluster_message m = {.type = CLUSTER_REQUEST_VOTE,
                .node_id = 2,
                .term = 5,
                .request_vote = {.candidate_id = 2, .last_index = 9, .last_term = 4, .is_pre_vote = true}};
        struct hearing h = {0};
        uint64_t term;

        begin(&h, guard_off, 9);
        assert_int_equal(peer_hear(&h.peers, 1, &m, NULL), 0);
        assert_int_equal(h.peers.last_to[2].type, CLUSTER_VOTE);
        assert_false(h.peers.last_to[2].vote.is_granted);
        term = h.peers.last_to[2].term;
        end(&h);
        return term;
}

TEST(F9, who_asks_for_a_pre_vote_never_learns_the_higher_term)
{
        assert_int_equal(term_of_pre_vote_answer(9), 5);
}

TEST(RG9, who_asks_for_a_pre_vote_learns_the_higher_term)
{
        assert_int_equal(term_of_pre_vote_answer(ALL_ON), 9);
}

/* ---- F10: RG10 ---- */

TEST(RG10, who_is_no_candidate_takes_no_vote)
{
        struct cluster_message vote = {.type = CLUSTER_VOTE,
                .node_id = 2,
                .term = 50,
                .vote = {.is_granted = false, .is_pre_vote = true}};
        struct hearing h = {0};

        begin(&h, ALL_ON, 1);
        assert_int_equal(peer_hear(&h.peers, 1, &vote, NULL), 0);
        assert_int_equal(cluster_raft_term(h.n->raft), 1);
        become_leader(&h);
        assert_int_equal(peer_hear(&h.peers, 1, &vote, NULL), 0);
        assert_int_equal(cluster_raft_state(h.n->raft), CLUSTER_LEADER);
        assert_int_equal(cluster_raft_term(h.n->raft), 2);
        end(&h);
}

static void hear_install(struct hearing *h, uint64_t index, struct cluster_update *ret)
{
        struct cluster_message m = {.type = CLUSTER_INSTALL,
                .node_id = 2,
                .term = 3,
                .install = {.last_index = index,
                        .last_term = 2,
                        .configuration = buffer_bytes(&h->four),
                        .configuration_index = 40}};

        assert_int_equal(cluster_raft_receive(h->n->raft, h->peers.now_us, &m, ret), 0);
}

TEST(RG10, a_second_installation_waits_for_the_first)
{
        struct hearing h = {0};
        struct cluster_update u;
        unsigned count;

        begin(&h, ALL_ON, 1);
        hear_install(&h, 100, &u);
        assert_true(u.has_install);
        assert_int_equal(u.install_index, 100);
        assert_int_equal(u.install_configuration_index, 40);
        assert_true(bytes_equal(u.install_configuration, buffer_bytes(&h.four)));
        hear_install(&h, 120, &u);
        assert_false(u.has_install);
        assert_int_equal(u.message_count, 0);
        /* Meanwhile nothing is committed that is not here, and nothing is taken. */
        h.n->install_index = 100;
        put(&h.sent[100], 2, CLUSTER_COMMAND, BYTES_EMPTY);
        send_commands(&h, 101, 5, 3);
        assert_int_equal(hear_append(&h, 2, 3, 100, 5, 100), 0);
        assert_int_equal(h.n->last, 1);
        assert_int_equal(h.n->commit, 1);
        assert_int_equal(cluster_raft_persisted(h.n->raft, h.peers.now_us, 100, &u), 0); /* RG13 */
        assert_int_equal(cluster_raft_installed(h.n->raft, h.peers.now_us, &u), 0);
        assert_true(u.has_commit_index);
        assert_int_equal(u.commit_index, 100);
        assert_int_equal(configuration_index(h.n, &count), 40);
        assert_int_equal(count, 4);
        h.n->install_index = 0;
        h.n->last = 100;
        h.n->applied = 100;
        assert_int_equal(hear_append(&h, 2, 3, 100, 5, 100), 0);
        assert_int_equal(h.n->last, 105);
        end(&h);
}

/* ---- RG13: what no sound engine says ---- */

static int hear(struct hearing *h, const struct cluster_message *m)
{
        struct cluster_update u;

        return cluster_raft_receive(h->n->raft, h->peers.now_us, m, &u);
}

TEST(RG13, messages_that_make_no_sense_are_refused)
{
        struct hearing h = {0};
        struct cluster_entry entries[2] = {
                {.term = 2, .type = CLUSTER_COMMAND}, {.term = 2, .type = CLUSTER_COMMAND}};
        const struct cluster_message append = {.type = CLUSTER_APPEND,
                .node_id = 2,
                .term = 2,
                .append = {.previous_index = 1, .previous_term = 1, .entry_count = 2, .entries = entries}};
        struct cluster_message m = append;

        begin(&h, ALL_ON, 1);
        m.node_id = 0;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m.node_id = 1; /* itself */
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = append;
        m.term = 0;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m.term = 1; /* its entries are newer */
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = append;
        m.append.previous_term = 0;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m.append.previous_index = 0; /* and does not begin with a configuration */
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = append;
        m.append.entries = NULL;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = append;
        entries[1].term = 1; /* terms go down */
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        entries[1] = (struct cluster_entry){
                .term = 2, .type = CLUSTER_CHANGE, .payload = BYTES_LITERAL("nonsense")};
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        entries[1].type = (enum cluster_entry_type)9;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        entries[1].type = CLUSTER_BARRIER;
        m.type = (enum cluster_message_type)99;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = (struct cluster_message){
                .type = CLUSTER_REQUEST_VOTE, .node_id = 2, .term = 2, .request_vote = {.candidate_id = 3}};
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m = (struct cluster_message){.type = CLUSTER_INSTALL,
                .node_id = 2,
                .term = 2,
                .install = {.last_index = 5,
                        .last_term = 1,
                        .configuration = BYTES_LITERAL("nonsense"),
                        .configuration_index = 1}};
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        m.install.configuration = buffer_bytes(&h.three);
        m.install.configuration_index = 6;
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        assert_int_equal(cluster_raft_term(h.n->raft), 1); /* nothing was done */
        become_leader(&h);
        m = append; /* another leader in its own term */
        assert_int_equal(hear(&h, &m), CLUSTER_INVALID);
        end(&h);
}

TEST(RG11, who_does_not_vote_has_no_timer)
{
        struct hearing h = {0};

        begin(&h, ALL_ON, 1);
        assert_true(h.n->timeout_us != UINT64_MAX);
        buffer_clear(&h.four);
        payload_of(&h.four, 4, 0);
        put(&h.sent[2], 1, CLUSTER_CHANGE, buffer_bytes(&h.four));
        buffer_clear(&h.five);
        struct cluster_configuration without = configuration_of(4, 0);
        memmove(without.servers, without.servers + 1, 3 * sizeof(without.servers[0]));
        without.count = 3;
        assert_int_equal(cluster_configuration_encode(&without, &h.five), 0);
        put(&h.sent[3], 1, CLUSTER_CHANGE, buffer_bytes(&h.five));
        assert_int_equal(hear_append(&h, 2, 1, 1, 2, 3), 0);
        assert_true(h.n->timeout_us == UINT64_MAX); /* it was removed */
        end(&h);
}

/* ---- RG18: a member that has nothing, and a leader that has sealed just the first entry ---- */

static bool is_anything_sent_to_an_empty_member(unsigned guard_off)
{
        struct cluster_options options = {.node_id = 1, .address = "self", .mutants = 1u << guard_off};
        struct cluster_entry command = {.type = CLUSTER_COMMAND};
        struct cluster_raft *raft = NULL;
        struct buffer payload = {0};
        struct cluster_update u;
        uint64_t now_us = 1000000;
        bool is_sent = false;

        payload_of(&payload, 1, 1);
        struct cluster_start start = {.term = 3,
                .voted_for = 1,
                .base_index = 1,
                .base_term = 1,
                .base_configuration = buffer_bytes(&payload),
                .base_configuration_index = 1};
        struct cluster_message nothing = {
                .type = CLUSTER_APPEND_RESULT, .node_id = 2, .term = 3, .append_result = {.rejected = 1}};

        if (guard_off == ALL_ON)
                options.mutants = 0;
        assert_int_equal(cluster_raft_new(&options, &raft), 0);
        assert_int_equal(cluster_raft_start(raft, now_us, &start, &u), 0);
        assert_int_equal(u.commit_index, 1);
        assert_int_equal(u.first_index, 2);
        assert_int_equal(cluster_raft_persisted(raft, now_us, 2, &u), 0);
        assert_int_equal(cluster_raft_submit(raft, now_us, &command, 1, &u), 0);
        assert_int_equal(cluster_raft_receive(raft, now_us, &nothing, &u), 0);
        for (unsigned i = 0; i < 10; i++) {
                nothing.append_result.rejected = 0;
                for (unsigned j = 0; j < u.message_count; j++)
                        is_sent |=
                                u.messages[j].type == CLUSTER_INSTALL || u.messages[j].append.entry_count > 0;
                now_us += 110000;
                assert_int_equal(cluster_raft_receive(raft, now_us, &nothing, &u), 0);
                assert_int_equal(cluster_raft_timeout(raft, now_us, &u), 0);
        }
        cluster_raft_free(&raft);
        buffer_fini(&payload);
        return is_sent;
}

TEST(F15, who_has_nothing_gets_nothing_from_a_seal_of_one_entry)
{
        assert_false(is_anything_sent_to_an_empty_member(18));
}

TEST(RG18, one_entry_alone_is_never_sealed)
{
        assert_true(is_anything_sent_to_an_empty_member(ALL_ON));
}

/* A member that missed an installation, and whose leader has sealed more since, is told again soon. */
TEST(install, is_told_again_when_a_newer_seal_overtook_it)
{
        struct hearing h = {0};
        struct cluster_update u;
        uint64_t told = 0;

        begin(&h, ALL_ON, 1);
        h.n->raft->trailing = 1;
        become_leader(&h);
        peer_submit(&h.peers, h.n, 20);
        hear_result(&h, 2, 0, 22);
        assert_int_equal(
                cluster_raft_sealed(h.n->raft, h.peers.now_us, 10, 2, buffer_bytes(&h.three), 1, &u), 0);
        hear_result(&h, 3, 1, 0);
        for (unsigned i = 0; i < 40; i++) {
                peers_wait(&h.peers, 50);
                hear_result(&h, 2, 0, 22);
                if (h.peers.last_to[3].type == CLUSTER_INSTALL &&
                        h.peers.last_to[3].install.last_index > told) {
                        told = h.peers.last_to[3].install.last_index;
                        assert_int_equal(cluster_raft_sealed(h.n->raft, h.peers.now_us, told + 5, 2,
                                                 buffer_bytes(&h.three), 1, &u),
                                0);
                }
                hear_result(&h, 3, cluster_raft_last_index(h.n->raft), 0);
        }
        assert_true(told > 10); /* not only of the first seal */
        end(&h);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(F1, late_entries_destroy_a_log_that_is_sealed),
                TEST_ROW(RG1, late_entries_are_cut_off),
                TEST_ROW(RG1, what_is_new_behind_what_is_old_is_taken),
                TEST_ROW(F7, a_commit_index_goes_back),
                TEST_ROW(RG1, a_commit_index_never_goes_back),
                TEST_ROW(F3, an_answer_says_what_stood_on_the_stack),
                TEST_ROW(RG4, an_answer_to_an_old_term_promises_nothing),
                TEST_ROW(F4, a_change_is_noted_where_its_message_began),
                TEST_ROW(RG5, a_change_is_noted_where_it_stands),
                TEST_ROW(F5, a_rollback_goes_two_configurations_back),
                TEST_ROW(RG6, a_rollback_goes_one_configuration_back),
                TEST_ROW(F6, a_leader_changes_members_before_it_knows_of_the_last_change),
                TEST_ROW(RG7, a_change_waits_for_an_entry_of_the_own_term),
                TEST_ROW(F8, a_late_rejection_ends_replication),
                TEST_ROW(RG8, a_late_rejection_changes_nothing),
                TEST_ROW(F9, who_asks_for_a_pre_vote_never_learns_the_higher_term),
                TEST_ROW(RG9, who_asks_for_a_pre_vote_learns_the_higher_term),
                TEST_ROW(RG10, who_is_no_candidate_takes_no_vote),
                TEST_ROW(RG10, a_second_installation_waits_for_the_first),
                TEST_ROW(RG11, who_does_not_vote_has_no_timer),
                TEST_ROW(F13, a_transfer_to_who_lags_stops_all_writes),
                TEST_ROW(RG12, a_transfer_waits_for_who_lags),
                TEST_ROW(install, is_told_again_when_a_newer_seal_overtook_it),
                TEST_ROW(F15, who_has_nothing_gets_nothing_from_a_seal_of_one_entry),
                TEST_ROW(RG18, one_entry_alone_is_never_sealed),
                TEST_ROW(RG13, messages_that_make_no_sense_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
