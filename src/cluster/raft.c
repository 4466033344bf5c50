/* The engine behind the contract: events in, updates out, no I/O. Memory follows the ownership rules of
 * 0.22.1: arrays that are submitted stay ours until the update is handled, the automatic barrier of a new
 * leader is given to us, configurations that are passed in go to the library. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/room.h"

static_assert((int)CLUSTER_COMMAND == (int)RAFT_COMMAND, "types pass through");
static_assert((int)CLUSTER_BARRIER == (int)RAFT_BARRIER, "types pass through");
static_assert((int)CLUSTER_CHANGE == (int)RAFT_CHANGE, "types pass through");
static_assert((int)CLUSTER_LEADER == (int)RAFT_LEADER, "states pass through");
static_assert(RAFT_VERSION_NUMBER == CLUSTER_ENGINE_VERSION, "the header is of exactly 0.22.1 (RG17)");

enum {
        ELECTION_TIMEOUT_MS_DEFAULT = 500,
        HEARTBEAT_MS = 100,
        /* Who was told to install, missed it, and was overtaken by another seal answers in a way that the
         * library takes for stale, until this passes. To tell again costs a small message, which is dropped
         * where an installation is under way. */
        INSTALL_AGAIN_MS = 1000,
        IN_FLIGHT_MAX_DEFAULT = 4096,
        MESSAGES_AT_FIRST = 32,
};

/* The shared library does not export raft_version_number(), so the version is that of the header, which the
 * build takes from the very package whose library it links; packages depend on exactly that version. */
int cluster_engine_version(void)
{
        return RAFT_VERSION_NUMBER;
}

bool cluster_start_needs_term(const struct cluster_options *options, const struct cluster_start *start,
        uint64_t *ret_term, uint64_t *ret_voted_for)
{
        struct cluster_configuration configuration;
        struct bytes newest = start->base_configuration;

        for (uint64_t i = 0; i < start->entry_count; i++)
                if (start->entries[i].type == CLUSTER_CHANGE)
                        newest = start->entries[i].payload;
        if ((options->mutants & (1u << 2)) || cluster_configuration_decode(newest, &configuration) != 0 ||
                !guard_sole_voter(options->node_id, &configuration))
                return false;
        *ret_term = start->term + 1;
        *ret_voted_for = options->node_id;
        return true;
}

/* ---- life ---- */

int cluster_raft_new(const struct cluster_options *options, struct cluster_raft **ret)
{
        struct cluster_raft *c;

        assert(options->node_id > 0);
        if (!guard_version(cluster_engine_version()))
                return fault_raise(-ELIBBAD);
        c = MEMORY_NEW(struct cluster_raft);
        if (raft_init(&c->raft, NULL, NULL, options->node_id, options->address)) {
                free(c);
                return fault_raise(-ENOMEM);
        }
        /* Otherwise each step writes a line or two of text that nobody reads: five sixths of its time. */
        c->raft.tracer = NULL;
        raft_seed(&c->raft, (unsigned)options->seed);
        raft_set_election_timeout(&c->raft,
                options->election_timeout_ms ? options->election_timeout_ms : ELECTION_TIMEOUT_MS_DEFAULT);
        raft_set_heartbeat_timeout(&c->raft, HEARTBEAT_MS);
        raft_set_install_snapshot_timeout(&c->raft, INSTALL_AGAIN_MS);
        raft_set_pre_vote(&c->raft, true);
        raft_set_max_inflight_entries(
                &c->raft, options->in_flight_max ? options->in_flight_max : IN_FLIGHT_MAX_DEFAULT);
        c->trailing = options->trailing ? options->trailing : CLUSTER_TRAILING;
        c->mutants = options->mutants;
        c->state = CLUSTER_FOLLOWER;
        *ret = c;
        return 0;
}

void cluster_raft_free(struct cluster_raft **raft)
{
        struct cluster_raft *c = *raft;

        if (!c)
                return;
        *raft = NULL;
        raft_close(&c->raft, NULL);
        free(c->batch);
        free(c->submitted);
        free(c->messages);
        buffer_fini(&c->sealed.configuration);
        buffer_fini(&c->installing.configuration);
        buffer_fini(&c->change);
        free(c);
}

void cluster_reason(struct cluster_raft *c, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(c->reason, sizeof(c->reason), format, arguments);
        va_end(arguments);
}

const char *cluster_raft_reason(const struct cluster_raft *c)
{
        return c->reason;
}

void cluster_seal_set(struct cluster_seal *seal, uint64_t index, uint64_t term, struct bytes configuration,
        uint64_t configuration_index)
{
        seal->index = index;
        seal->term = term;
        seal->configuration_index = configuration_index;
        buffer_clear(&seal->configuration);
        buffer_add_bytes(&seal->configuration, configuration);
}

/* ---- messages ---- */

struct cluster_message *cluster_message_add(
        struct cluster_raft *c, enum cluster_message_type type, uint64_t to)
{
        struct cluster_message *m;

        if (c->message_count == c->message_capacity) {
                c->message_capacity = MAX(c->message_capacity * 2, MESSAGES_AT_FIRST);
                c->messages = memory_resize(c->messages, c->message_capacity * sizeof(*c->messages));
        }
        m = &c->messages[c->message_count++];
        *m = (struct cluster_message){.type = type, .node_id = to, .term = raft_current_term(&c->raft)};
        return m;
}

static void take_append(struct cluster_raft *c, const struct raft_message *from)
{
        const struct raft_append_entries *a = &from->append_entries;
        struct cluster_message *m = cluster_message_add(c, CLUSTER_APPEND, from->server_id);

        m->term = a->term;
        m->append.previous_index = a->prev_log_index;
        m->append.previous_term = a->prev_log_term;
        m->append.commit_index = a->leader_commit;
        m->append.entry_count = a->n_entries;
}

static void take_append_result(struct cluster_raft *c, const struct raft_message *from)
{
        const struct raft_append_entries_result *a = &from->append_entries_result;
        struct cluster_message *m = cluster_message_add(c, CLUSTER_APPEND_RESULT, from->server_id);

        m->term = a->term;
        m->append_result.rejected = a->rejected;
        m->append_result.last_index = a->last_log_index;
        if (c->is_old_term && cluster_has_guard(c, 4))
                m->append_result.last_index = guard_old_term_hint(a->rejected);
}

static void take_request_vote(struct cluster_raft *c, const struct raft_message *from)
{
        const struct raft_request_vote *v = &from->request_vote;
        struct cluster_message *m = cluster_message_add(c, CLUSTER_REQUEST_VOTE, from->server_id);

        m->term = v->term;
        m->request_vote.candidate_id = v->candidate_id;
        m->request_vote.last_index = v->last_log_index;
        m->request_vote.last_term = v->last_log_term;
        m->request_vote.disrupts_leader = v->disrupt_leader;
        m->request_vote.is_pre_vote = v->pre_vote;
}

static void take_vote(struct cluster_raft *c, const struct raft_message *from)
{
        const struct raft_request_vote_result *v = &from->request_vote_result;
        struct cluster_message *m = cluster_message_add(c, CLUSTER_VOTE, from->server_id);

        m->term = v->term;
        if (v->pre_vote && cluster_has_guard(c, 9))
                m->term = guard_pre_vote_term(v->term, raft_current_term(&c->raft));
        m->vote.is_granted = v->vote_granted;
        m->vote.is_pre_vote = v->pre_vote;
}

static void take_install(struct cluster_raft *c, const struct raft_message *from)
{
        const struct raft_install_snapshot *i = &from->install_snapshot;
        struct cluster_message *m;

        if (cluster_has_guard(c, 16) && !guard_install(c->sealed.index, c->sealed.term, i))
                return;
        m = cluster_message_add(c, CLUSTER_INSTALL, from->server_id);
        m->term = i->term;
        m->install.last_index = i->last_index;
        m->install.last_term = i->last_term;
        m->install.configuration = buffer_bytes(&c->sealed.configuration);
        m->install.configuration_index = c->sealed.configuration_index;
}

static void take_messages(struct cluster_raft *c, const struct raft_update *update)
{
        for (unsigned i = 0; i < update->messages.n; i++) {
                const struct raft_message *from = &update->messages.batch[i];

                switch (from->type) {
                case RAFT_APPEND_ENTRIES:
                        take_append(c, from);
                        break;
                case RAFT_APPEND_ENTRIES_RESULT:
                        take_append_result(c, from);
                        break;
                case RAFT_REQUEST_VOTE:
                        take_request_vote(c, from);
                        break;
                case RAFT_REQUEST_VOTE_RESULT:
                        take_vote(c, from);
                        break;
                case RAFT_INSTALL_SNAPSHOT:
                        take_install(c, from);
                        break;
                case RAFT_TIMEOUT_NOW:
                        cluster_message_add(c, CLUSTER_TIMEOUT_NOW, from->server_id)->timeout_now.last_index =
                                from->timeout_now.last_log_index;
                        c->messages[c->message_count - 1].timeout_now.last_term =
                                from->timeout_now.last_log_term;
                        break;
                }
        }
}

/* ---- updates ---- */

void cluster_begin(struct cluster_raft *c, struct cluster_update *ret)
{
        *ret = (struct cluster_update){.timeout_us = UINT64_MAX};
        c->message_count = 0;
        c->is_old_term = false;
}

static void take_entries(struct cluster_raft *c, const struct raft_update *update, struct cluster_update *ret)
{
        const struct raft_entry *batch = update->entries.batch;

        assert(!ret->entry_count);
        ret->first_index = update->entries.index;
        ret->entry_count = update->entries.n;
        if (c->batch && batch >= c->batch && batch < c->batch + c->batch_capacity) {
                ret->entries = c->given + (batch - c->batch);
                return;
        }
        /* A new leader's own: it says nothing but that it is there. */
        assert(update->entries.n == 1 && batch[0].type == RAFT_BARRIER);
        c->barrier = (struct cluster_entry){.term = batch[0].term, .type = CLUSTER_BARRIER};
        ret->entries = &c->barrier;
        raft_free(batch[0].batch);
}

/* The library does not say when only the leader changes. */
static void take_state(struct cluster_raft *c, struct cluster_update *ret)
{
        enum cluster_state state = (enum cluster_state)raft_state(&c->raft);
        const char *address;
        raft_id leader = 0;

        raft_leader(&c->raft, &leader, &address);
        if (state != CLUSTER_LEADER)
                c->own_term_index = 0;
        else if (c->state != CLUSTER_LEADER)
                cluster_peers_reset(c);
        if (state == c->state && leader == c->leader_id)
                return;
        c->state = state;
        c->leader_id = leader;
        ret->has_state = true;
        ret->state = state;
        ret->leader_id = leader;
}

/* What is installed is not here yet, so it is not said to be committed before it is. */
static void take_commit_index(struct cluster_raft *c, struct cluster_update *ret)
{
        uint64_t commit_index = raft_commit_index(&c->raft);

        if (cluster_has_guard(c, 0))
                commit_index = guard_commit(c->commit_index, commit_index);
        if (commit_index == c->commit_index || c->raft.snapshot.installing)
                return;
        c->commit_index = commit_index;
        ret->has_commit_index = true;
        ret->commit_index = commit_index;
}

static void take_installation(struct cluster_raft *c, struct raft_update *update, struct cluster_update *ret)
{
        const struct raft_snapshot_metadata *m = &update->snapshot.metadata;

        assert(m->index == c->incoming.install.last_index);
        cluster_seal_set(
                &c->installing, m->index, m->term, c->incoming.install.configuration, m->configuration_index);
        raft_configuration_close(&update->snapshot.metadata.configuration);
        ret->has_install = true;
        ret->install_index = c->installing.index;
        ret->install_term = c->installing.term;
        ret->install_configuration = buffer_bytes(&c->installing.configuration);
        ret->install_configuration_index = c->installing.configuration_index;
}

/* The library has memory of the whole process, and a process may have stores in several threads (libnilo), so
 * its steps take turns. */
static int step_alone(struct cluster_raft *c, struct raft_event *event, struct raft_update *ret)
{
        static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
        bool hides_install = cluster_has_guard(c, 21) && guard_hides_install(&c->raft, event);
        int r;

        pthread_mutex_lock(&turn);
        if (hides_install)
                c->raft.snapshot.installing = false;
        r = raft_step(&c->raft, event, ret);
        if (hides_install)
                c->raft.snapshot.installing = true;
        if (!r && (ret->flags & RAFT_UPDATE_MESSAGES))
                take_messages(c, ret);
        pthread_mutex_unlock(&turn);
        return r;
}

int cluster_step(
        struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret)
{
        uint64_t silent_since_ms = c->raft.election_timer_start;
        struct raft_update update = {0};
        int r;

        event->time = cluster_has_guard(c, 11) ? guard_time_ms(now_us, &c->last_ms) : now_us / 1000;
        r = step_alone(c, event, &update);
        if (r)
                return r;
        if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
                ret->has_term_or_vote = true;
                ret->term = raft_current_term(&c->raft);
                ret->voted_for = raft_voted_for(&c->raft);
        }
        if (cluster_has_guard(c, 21) && event->type == RAFT_TIMEOUT)
                guard_forget_leader(&c->raft, silent_since_ms, event->time);
        take_state(c, ret);
        if (update.flags & RAFT_UPDATE_ENTRIES) {
                take_entries(c, &update, ret);
                if (c->state == CLUSTER_LEADER && !c->own_term_index)
                        c->own_term_index = ret->first_index;
        }
        if (update.flags & RAFT_UPDATE_SNAPSHOT)
                take_installation(c, &update, ret);
        take_commit_index(c, ret);
        return 0;
}

/* A refusal that the contract has no word for is a bug of ours or of the engine. */
int cluster_step_or_fault(
        struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret)
{
        int r = cluster_step(c, now_us, event, ret);

        return r ? fault_raise(r == RAFT_NOMEM ? -ENOMEM : -EPROTO) : 0;
}

/* Who neither votes nor leads has nothing to do at any time, and a leader without others has nobody to hear
 * from and nobody to tell: an idle node of one does not wake up. */
static bool needs_timer(struct cluster_raft *c)
{
        if (c->state == CLUSTER_LEADER)
                return c->raft.configuration.n > 1;
        return c->is_started && raft_role(&c->raft) == RAFT_VOTER;
}

/* A leader takes up its office with an entry of its own, since nothing is answered before such a one is
 * committed (G9). The library appends one only when something is uncommitted, and never for a sole voter. */
int cluster_finish(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        int r;

        if (c->state == CLUSTER_LEADER && !c->own_term_index) {
                struct cluster_entry barrier = {.term = raft_current_term(&c->raft), .type = CLUSTER_BARRIER};

                r = cluster_submit(c, now_us, &barrier, 1, ret);
                if (r)
                        return fault_raise(-EPROTO);
        }
        ret->messages = c->messages;
        ret->message_count = c->message_count;
        ret->has_more = c->has_incoming;
        if (needs_timer(c)) {
                uint64_t due_ms = raft_timeout(&c->raft);

                ret->timeout_us =
                        1000 *
                        (cluster_has_guard(c, 11) ? guard_timeout_ms(due_ms, c->last_timeout_ms) : due_ms);
        }
        return 0;
}

/* ---- events ---- */

static struct raft_entry *start_entries(const struct cluster_start *start)
{
        struct raft_entry *entries = memory_new_array(start->entry_count, sizeof(*entries));

        for (uint64_t i = 0; i < start->entry_count; i++) {
                const struct cluster_entry *e = &start->entries[i];

                entries[i].term = e->term;
                entries[i].type = (enum raft_entry_type)e->type;
                if (e->type == CLUSTER_CHANGE)
                        entries[i].buf = (struct raft_buffer){(void *)e->payload.data, e->payload.size};
        }
        return entries;
}

/* The newest promotion that the log tells of, as a follower would have noted it (RG3). */
static void note_changes(struct cluster_raft *c, const struct cluster_start *start)
{
        struct cluster_configuration last = {0}, next;

        if (start->base_index && cluster_configuration_decode(start->base_configuration, &last))
                return;
        for (uint64_t i = 0; i < start->entry_count; i++) {
                unsigned promoted = 0, voters_before = 0, voters = 0;

                if (start->entries[i].type != CLUSTER_CHANGE ||
                        cluster_configuration_decode(start->entries[i].payload, &next))
                        continue;
                for (unsigned j = 0; j < next.count && last.count; j++) {
                        const struct cluster_server *before =
                                cluster_configuration_find(&last, next.servers[j].node_id);

                        if (next.servers[j].role != CLUSTER_VOTER ||
                                (before && before->role == CLUSTER_VOTER))
                                continue;
                        promoted++;
                        c->promoted_id = next.servers[j].node_id;
                        c->promotion_index = start->base_index + 1 + i;
                }
                if (promoted > 1)
                        c->promoted_id = 0; /* one voter became three */
                for (unsigned j = 0; j < last.count; j++)
                        voters_before += last.servers[j].role == CLUSTER_VOTER;
                for (unsigned j = 0; j < next.count; j++)
                        voters += next.servers[j].role == CLUSTER_VOTER;
                cluster_note_growth(c, voters_before, voters, start->base_index + 1 + i);
                last = next;
        }
}

static int start_library(struct cluster_raft *c, uint64_t now_us, const struct cluster_start *start,
        struct cluster_update *ret)
{
        struct raft_snapshot_metadata base = {.index = start->base_index,
                .term = start->base_term,
                .configuration_index = start->base_configuration_index};
        struct raft_event event = {.type = RAFT_START};
        struct cluster_configuration ignored;
        int r;

        assert(!c->is_started);
        if (!guard_start(start))
                return CLUSTER_INVALID;
        for (uint64_t i = 0; i < start->entry_count; i++)
                if (start->entries[i].type == CLUSTER_CHANGE &&
                        cluster_configuration_decode(start->entries[i].payload, &ignored))
                        return CLUSTER_INVALID;
        /* Last, since from here on it is the library's to free. */
        if (start->base_index &&
                cluster_configuration_for_library(start->base_configuration, &base.configuration))
                return CLUSTER_INVALID;
        cluster_begin(c, ret);
        event.start.term = start->term;
        event.start.voted_for = start->voted_for;
        event.start.metadata = start->base_index ? &base : NULL;
        event.start.start_index = start->base_index + 1;
        event.start.n_entries = (unsigned)start->entry_count;
        event.start.entries = start->entry_count ? start_entries(start) : NULL;
        c->commit_index = start->base_index;
        if (start->base_index)
                cluster_seal_set(&c->sealed, start->base_index, start->base_term, start->base_configuration,
                        start->base_configuration_index);
        r = cluster_step(c, now_us, &event, ret);
        if (r)
                return CLUSTER_INVALID; /* the library has freed the array */
        free(event.start.entries);
        c->is_started = true;
        note_changes(c, start);
        ret->has_state = true;
        ret->state = c->state;
        ret->leader_id = c->leader_id;
        /* What is sealed is committed. */
        ret->has_commit_index = c->commit_index > 0;
        ret->commit_index = c->commit_index;
        return fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_start(struct cluster_raft *c, uint64_t now_us, const struct cluster_start *start,
        struct cluster_update *ret)
{
        struct cluster_start unsealed = *start;
        struct cluster_entry *entries;
        int r;

        if (!start->base_index || guard_first_seal(start->base_index) || !cluster_has_guard(c, 18))
                return start_library(c, now_us, start, ret);
        /* What is sealed is entry 1, a configuration: it becomes an entry again (RG18). */
        entries = memory_new_array(start->entry_count + 1, sizeof(*entries));
        entries[0] = (struct cluster_entry){
                .term = start->base_term, .type = CLUSTER_CHANGE, .payload = start->base_configuration};
        if (start->entry_count)
                memcpy(entries + 1, start->entries, start->entry_count * sizeof(*entries));
        unsealed.base_index = 0;
        unsealed.base_term = 0;
        unsealed.base_configuration = BYTES_EMPTY;
        unsealed.base_configuration_index = 0;
        unsealed.entries = entries;
        unsealed.entry_count++;
        r = start_library(c, now_us, &unsealed, ret);
        free(entries);
        return r;
}

static void reserve_batch(struct cluster_raft *c, unsigned count)
{
        if (count <= c->batch_capacity)
                return;
        c->batch_capacity = count * 2;
        c->batch = memory_resize(c->batch, c->batch_capacity * sizeof(*c->batch));
}

void cluster_fill_batch(struct cluster_raft *c, const struct cluster_entry *entries, unsigned count)
{
        reserve_batch(c, count);
        c->given = entries;
        for (unsigned i = 0; i < count; i++) {
                c->batch[i] = (struct raft_entry){
                        .term = entries[i].term, .type = (enum raft_entry_type)entries[i].type};
                if (entries[i].type == CLUSTER_CHANGE)
                        c->batch[i].buf = (struct raft_buffer){
                                (void *)entries[i].payload.data, entries[i].payload.size};
        }
}

int cluster_submit(struct cluster_raft *c, uint64_t now_us, const struct cluster_entry *entries,
        unsigned count, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_SUBMIT};

        if (count > c->submitted_capacity) {
                c->submitted_capacity = count * 2;
                c->submitted = memory_resize(c->submitted, c->submitted_capacity * sizeof(*c->submitted));
        }
        memcpy(c->submitted, entries, count * sizeof(*entries));
        cluster_fill_batch(c, c->submitted, count);
        event.submit.entries = c->batch;
        event.submit.n = count;
        return cluster_step(c, now_us, &event, ret);
}

int cluster_raft_submit(struct cluster_raft *c, uint64_t now_us, struct cluster_entry *entries,
        unsigned count, struct cluster_update *ret)
{
        int r;

        assert(c->is_started && !c->has_incoming);
        assert(count > 0);
        cluster_begin(c, ret);
        for (unsigned i = 0; i < count; i++) {
                assert(entries[i].type !=
                        CLUSTER_CHANGE); /* those have calls of their own, which look at the envelope */
                entries[i].term = raft_current_term(&c->raft);
        }
        r = cluster_submit(c, now_us, entries, count, ret);
        if (r == RAFT_NOTLEADER)
                return CLUSTER_NOT_LEADER;
        return r ? fault_raise(-EPROTO) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_persisted(
        struct cluster_raft *c, uint64_t now_us, uint64_t index, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES, .persisted_entries.index = index};
        int r = 0;

        assert(!c->has_incoming);
        cluster_begin(c, ret);
        if (guard_persisted(&c->raft, index))
                r = cluster_step_or_fault(c, now_us, &event, ret);
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_timeout(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_TIMEOUT};
        int r;

        assert(!c->has_incoming);
        cluster_begin(c, ret);
        c->last_timeout_ms = MAX(c->last_ms, now_us / 1000);
        r = cluster_step_or_fault(c, now_us, &event, ret);
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_configured(struct cluster_raft *c, uint64_t now_us, uint64_t index,
        struct bytes configuration, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration.index = index};
        int r = 0;

        assert(!c->has_incoming);
        cluster_begin(c, ret);
        if (guard_configured(&c->raft, index)) {
                if (cluster_configuration_for_library(configuration, &event.configuration.conf))
                        return fault_raise(-EPROTO);
                r = cluster_step_or_fault(c, now_us, &event, ret);
        }
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_sealed(struct cluster_raft *c, uint64_t now_us, uint64_t index, uint64_t term,
        struct bytes configuration, uint64_t configuration_index, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_SNAPSHOT};
        int r = 0;

        assert(!c->has_incoming);
        assert(configuration_index <= index);
        cluster_begin(c, ret);
        if (guard_sealed(&c->raft, index, term) && (guard_first_seal(index) || !cluster_has_guard(c, 18))) {
                event.snapshot.metadata.index = index;
                event.snapshot.metadata.term = term;
                event.snapshot.metadata.configuration_index = configuration_index;
                event.snapshot.trailing = c->trailing;
                if (cluster_configuration_for_library(configuration, &event.snapshot.metadata.configuration))
                        return fault_raise(-EPROTO);
                r = cluster_step_or_fault(c, now_us, &event, ret);
                if (!r)
                        cluster_seal_set(&c->sealed, index, term, configuration, configuration_index);
        }
        return r ? fault_fold(r) : fault_fold(cluster_finish(c, now_us, ret));
}

int cluster_raft_installed(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
        const struct cluster_seal *i = &c->installing;
        int r;

        assert(!c->has_incoming);
        assert(c->raft.snapshot.installing);
        cluster_begin(c, ret);
        event.persisted_snapshot.metadata = (struct raft_snapshot_metadata){
                .index = i->index, .term = i->term, .configuration_index = i->configuration_index};
        event.persisted_snapshot.last = true;
        if (cluster_configuration_for_library(
                    buffer_bytes(&i->configuration), &event.persisted_snapshot.metadata.configuration))
                return fault_raise(-EPROTO);
        r = cluster_step_or_fault(c, now_us, &event, ret);
        if (r)
                return fault_fold(r);
        cluster_seal_set(
                &c->sealed, i->index, i->term, buffer_bytes(&i->configuration), i->configuration_index);
        c->promoted_id = 0;
        c->grown_index = 0;
        return fault_fold(cluster_finish(c, now_us, ret));
}

/* ---- what it knows ---- */

uint64_t cluster_raft_term(const struct cluster_raft *c)
{
        return raft_current_term(&c->raft);
}

uint64_t cluster_raft_commit_index(const struct cluster_raft *c)
{
        return c->commit_index;
}

enum cluster_state cluster_raft_state(const struct cluster_raft *c)
{
        return c->state;
}

bool cluster_raft_can_write(const struct cluster_raft *c)
{
        return c->state == CLUSTER_LEADER && c->own_term_index && c->commit_index >= c->own_term_index &&
               !raft_transferee(&c->raft);
}

uint64_t cluster_raft_leader(const struct cluster_raft *c)
{
        return c->leader_id;
}

uint64_t cluster_raft_last_index(const struct cluster_raft *c)
{
        return raft_last_index((struct raft *)&c->raft);
}

uint64_t cluster_raft_term_of(const struct cluster_raft *c, uint64_t index)
{
        return guard_term_of(&c->raft, index);
}
