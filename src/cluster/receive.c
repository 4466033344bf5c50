/* A message from another engine, in as many steps as the guards want. */
#include <errno.h>

#include "cluster/room.h"

/* The library wants one with each message and does nothing with it that anybody sees. */
static const char peer_address[] = "peer";

/* The library's message of ours, but for entries. */
static struct raft_message translate(struct cluster_raft *c, const struct cluster_message *m)
{
        struct raft_message to = {.server_id = m->node_id, .server_address = peer_address};
        uint64_t rejected, last_index;

        switch (m->type) {
        case CLUSTER_REQUEST_VOTE:
                to.type = RAFT_REQUEST_VOTE;
                to.request_vote = (struct raft_request_vote){.version = 2,
                        .term = m->term,
                        .candidate_id = m->request_vote.candidate_id,
                        .last_log_index = m->request_vote.last_index,
                        .last_log_term = m->request_vote.last_term,
                        .disrupt_leader = m->request_vote.disrupts_leader,
                        .pre_vote = m->request_vote.is_pre_vote};
                break;
        case CLUSTER_VOTE:
                to.type = RAFT_REQUEST_VOTE_RESULT;
                to.request_vote_result = (struct raft_request_vote_result){.version = 3,
                        .term = m->term,
                        .vote_granted = m->vote.is_granted,
                        .pre_vote = m->vote.is_pre_vote};
                break;
        case CLUSTER_APPEND_RESULT:
                rejected = m->append_result.rejected;
                last_index = m->append_result.last_index;
                if (cluster_has_guard(c, 8) && m->term == raft_current_term(&c->raft))
                        guard_rejection(&c->raft, m->node_id, &rejected, &last_index);
                to.type = RAFT_APPEND_ENTRIES_RESULT;
                to.append_entries_result = (struct raft_append_entries_result){
                        .version = 1, .term = m->term, .rejected = rejected, .last_log_index = last_index};
                break;
        case CLUSTER_TIMEOUT_NOW:
                to.type = RAFT_TIMEOUT_NOW;
                to.timeout_now = (struct raft_timeout_now){.term = m->term,
                        .last_log_index = m->timeout_now.last_index,
                        .last_log_term = m->timeout_now.last_term};
                break;
        default:
                break;
        }
        return to;
}

/* The payloads of changes go to the library in one block of its own memory, of which the rule of 0.22.1 is:
 * if the update has entries the block is ours, else the library has freed it. Commands' payloads never go in.
 */
static void *copy_changes(struct raft_entry *entries, unsigned count)
{
        size_t size = 0, at = 0;
        uint8_t *block;

        for (unsigned i = 0; i < count; i++)
                size += entries[i].buf.len;
        if (!size)
                return NULL;
        block = raft_malloc(size);
        if (!block)
                return NULL;
        for (unsigned i = 0; i < count; i++) {
                if (entries[i].buf.len) {
                        memcpy(block + at, entries[i].buf.base, entries[i].buf.len);
                        entries[i].buf.base = block + at;
                        at += entries[i].buf.len;
                }
                entries[i].batch = block;
        }
        return block;
}

static bool was_rejected(const struct cluster_raft *c)
{
        for (unsigned i = 0; i < c->message_count; i++)
                if (c->messages[i].type == CLUSTER_APPEND_RESULT && c->messages[i].append_result.rejected)
                        return true;
        return false;
}

/* RG6: the configuration that waits for its commit is committed, since the leader appended another. */
static int confirm(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct raft_event event = {
                .type = RAFT_CONFIGURATION, .configuration.index = c->raft.configuration_uncommitted_index};
        struct cluster_configuration in_use;
        struct buffer payload = {0};
        int r;

        cluster_configuration_from_library(&c->raft.configuration, &in_use);
        r = cluster_configuration_encode(&in_use, &payload);
        if (!r && cluster_configuration_for_library(buffer_bytes(&payload), &event.configuration.conf))
                r = fault_raise(-EPROTO);
        buffer_fini(&payload);
        return r ? fault_fold(r) : fault_fold(cluster_step_or_fault(c, now_us, &event, ret));
}

/* One part of an append: `count` entries behind `previous`. */
static int receive_part(struct cluster_raft *c, uint64_t now_us, uint64_t previous_index,
        uint64_t previous_term, const struct cluster_entry *entries, unsigned count,
        struct cluster_update *ret)
{
        const struct cluster_message *m = &c->incoming;
        struct raft_message message = {
                .type = RAFT_APPEND_ENTRIES, .server_id = m->node_id, .server_address = peer_address};
        struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = &message};
        uint64_t changed_before = c->raft.configuration_uncommitted_index;
        struct raft_configuration before = {0};
        void *block;
        int r;

        if (count && entries[0].type == CLUSTER_CHANGE && !c->is_old_term) {
                if (cluster_has_guard(c, 6) &&
                        guard_must_confirm(&c->raft, previous_index, previous_term, entries[0].term)) {
                        r = confirm(c, now_us, ret);
                        if (r)
                                return fault_fold(r);
                }
                changed_before = c->raft.configuration_uncommitted_index;
                if (cluster_configuration_copy(&c->raft.configuration, &before))
                        return fault_raise(-ENOMEM);
        }
        cluster_fill_batch(c, entries, count);
        block = copy_changes(c->batch, count);
        message.append_entries = (struct raft_append_entries){.term = m->term,
                .prev_log_index = previous_index,
                .prev_log_term = previous_term,
                .leader_commit = m->append.commit_index,
                .entries = c->batch,
                .n_entries = count};
        r = cluster_step_or_fault(c, now_us, &event, ret);
        if (!r && ret->entry_count) {
                raft_free(block);
                if (c->promotion_index >= ret->first_index)
                        c->promoted_id = 0; /* it was replaced */
                if (before.n && c->raft.configuration_uncommitted_index != changed_before)
                        cluster_note_change(c, &before, c->raft.configuration_uncommitted_index);
        }
        raft_configuration_close(&before);
        return r;
}

static int receive_append(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct cluster_message *m = &c->incoming;
        const struct cluster_entry *entries = m->append.entries + c->incoming_done;
        unsigned left = m->append.entry_count - c->incoming_done, count = left;
        uint64_t previous_index = m->append.previous_index + c->incoming_done,
                 previous_term = m->append.previous_term;
        unsigned cut = 0;
        int r;

        if (c->incoming_done)
                previous_term = entries[-1].term;
        c->is_old_term = m->term < raft_current_term(&c->raft);
        if (cluster_has_guard(c, 1) && !c->is_old_term) {
                cut = guard_clip(&c->raft, c->commit_index, &previous_index, &previous_term, left);
                entries += cut;
                count = left - cut;
        }
        if (cluster_has_guard(c, 5))
                count = guard_split(entries, count);
        r = receive_part(c, now_us, previous_index, previous_term, entries, count, ret);
        if (r)
                return fault_fold(r);
        c->incoming_done += cut + count;
        c->has_incoming = c->incoming_done < m->append.entry_count && !c->is_old_term && !was_rejected(c) &&
                          !c->raft.snapshot.installing;
        return 0;
}

static int receive_install(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        const struct cluster_message *m = &c->incoming;
        struct raft_message message = {
                .type = RAFT_INSTALL_SNAPSHOT, .server_id = m->node_id, .server_address = peer_address};
        struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = &message};

        if (cluster_has_guard(c, 10) && !guard_takes_install(&c->raft))
                return 0;
        c->is_old_term = m->term < raft_current_term(&c->raft);
        message.install_snapshot = (struct raft_install_snapshot){.term = m->term,
                .last_index = m->install.last_index,
                .last_term = m->install.last_term,
                .conf_index = m->install.configuration_index};
        if (cluster_configuration_for_library(m->install.configuration, &message.install_snapshot.conf))
                return fault_raise(-EPROTO);
        return fault_fold(cluster_step_or_fault(c, now_us, &event, ret));
}

static int receive(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        const struct cluster_message *m = &c->incoming;
        struct raft_event event = {.type = RAFT_RECEIVE};
        struct raft_message message;

        switch (m->type) {
        case CLUSTER_APPEND:
                return fault_fold(receive_append(c, now_us, ret));
        case CLUSTER_INSTALL:
                return fault_fold(receive_install(c, now_us, ret));
        case CLUSTER_PROBE:
        case CLUSTER_PROBE_RESULT:
                cluster_probe_receive(c, m);
                return 0;
        case CLUSTER_VOTE:
                if (cluster_has_guard(c, 10) && !guard_takes_vote(&c->raft))
                        return 0;
                break;
        default:
                break;
        }
        message = translate(c, m);
        event.receive.message = &message;
        return fault_fold(cluster_step_or_fault(c, now_us, &event, ret));
}

int cluster_raft_receive(struct cluster_raft *c, uint64_t now_us, const struct cluster_message *message,
        struct cluster_update *ret)
{
        int r;

        assert(c->is_started && !c->has_incoming);
        if (!guard_message(&c->raft, message))
                return CLUSTER_INVALID;
        cluster_begin(c, ret);
        c->incoming = *message;
        c->incoming_done = 0;
        r = receive(c, now_us, ret);
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_more(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        int r;

        assert(c->has_incoming);
        cluster_begin(c, ret);
        r = receive_append(c, now_us, ret);
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}
