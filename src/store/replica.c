/* The replica of a store on this node: steps the engine and carries out its updates (ARCHITECTURE.md,
 * consensus).
 *
 * The order of one update: term and vote durable; entries to the log's group; messages to the other nodes,
 * which may leave before the entries are written here; the group written and synced, by this thread or by the
 * LOG lane; then the engine is told what is durable; what it commits is made visible, heads follow, answers
 * go out. A step never begins inside another, nor while an update is carried out (RG14).
 *
 * Group commit: all appends of a turn of the loop are one submit, one write, one sync, at the end of the
 * turn. While the lane syncs one group the next one gathers. Any fault of a write, a sync or a vote ends
 * everything (G15). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum {
        /* Handing a group to the lane and back costs some 70 us: worth it when what the loop does for a group
         * takes longer, so that gathering the next group is done while this one is synced. */
        LANE_APPENDS = 8,
        LANE_BYTES = 128 * 1024,
        /* A second group goes behind the one under way only if it is large: small ones are better one. */
        SECOND_GROUP_BYTES = 1024 * 1024,
};

static void stop(
        struct store *s, const char *problem, int exit_code, void (*tell)(void *arg, const char *problem))
{
        if (s->state == STORE_FAILED)
                return;
        s->state = STORE_FAILED;
        if (!tell)
                fault_exit(exit_code, "store %s: %s", s->name, problem);
        pendings_give_up(s);
        opening_end(s, fault_raise(-EIO), problem); /* whoever waits for the opening must not wait for ever */
        tell(s->options.arg, problem);
}

void store_fail(struct store *s, const char *what)
{
        char problem[256];

        snprintf(problem, sizeof(problem), "%s: %s", what, fault_last());
        stop(s, problem, EXIT_CODE_DISK_FAULT, s->options.on_disk_fault);
}

void store_distrust(struct store *s, const char *problem)
{
        stop(s, problem, EXIT_CODE_WRONG_HISTORY, s->options.on_wrong_history);
}

/* ---- carrying out updates ---- */

static void arm_engine(struct store *s, uint64_t timeout_us)
{
        uint64_t now = os_monotonic_us(s->os);

        if (timeout_us == UINT64_MAX) {
                os_timer_stop(&s->engine_timer);
                return;
        }
        if (s->engine_timer.is_on && s->engine_timer.due_us == timeout_us)
                return;
        os_timer_stop(&s->engine_timer);
        os_timer_start(s->os, &s->engine_timer, timeout_us > now ? timeout_us - now : 0);
}

static enum record_kind kind_of(enum cluster_entry_type type)
{
        switch (type) {
        case CLUSTER_BARRIER:
                return RECORD_BARRIER;
        case CLUSTER_CHANGE:
                return RECORD_CONFIGURATION;
        case CLUSTER_COMMAND:
                break;
        }
        return RECORD_EVENTS;
}

enum cluster_entry_type entry_type_of(enum record_kind kind)
{
        switch (kind) {
        case RECORD_BARRIER:
                return CLUSTER_BARRIER;
        case RECORD_CONFIGURATION:
                return CLUSTER_CHANGE;
        default:
                return CLUSTER_COMMAND;
        }
}

void replica_note_change(struct store *s, uint64_t index, struct bytes payload)
{
        struct stored_change *c;

        if (s->change_count == s->change_capacity) {
                s->change_capacity = s->change_capacity ? s->change_capacity * 2 : 4;
                s->changes = memory_resize(s->changes, s->change_capacity * sizeof(*s->changes));
        }
        c = &s->changes[s->change_count++];
        *c = (struct stored_change){.index = index};
        buffer_add_bytes(&c->payload, payload);
}

static void drop_changes_from(struct store *s, uint64_t index)
{
        while (s->change_count && s->changes[s->change_count - 1].index >= index)
                buffer_fini(&s->changes[--s->change_count].payload);
}

static void drop_first_change(struct store *s)
{
        buffer_fini(&s->changes[0].payload);
        s->change_count--;
        memmove(s->changes, s->changes + 1, s->change_count * sizeof(*s->changes));
}

/* 0 or a fault: positions that do not follow would be another history. */
static int store_entry(struct store *s, uint64_t index, const struct cluster_entry *e)
{
        struct persistence_entry entry = {
                .index = index,
                .term = e->term,
                .kind = kind_of(e->type),
                .payload = e->payload,
                .first_position = persistence_appended_position(s->persistence),
        };

        /* What comes by a message may also make this node leader, whose barrier is its own. */
        if (s->is_receiving && e->cookie) {
                const struct incoming *in = e->cookie;

                if (in->first_position != entry.first_position)
                        return fault_raise(-EPROTO);
                entry.event_count = in->event_count;
                s->foreign_through = index;
                follow_time(s, &entry);
        } else if (e->type == CLUSTER_COMMAND) {
                struct pending *p = e->cookie;

                assert(p);
                assert(p->first_position == entry.first_position);
                p->index = index;
                p->term = e->term;
                entry.event_count = p->event_count;
                entry.write_id = p->write_id;
                entry.payload = bytes_of(s->group.data + p->payload_start, p->payload_size);
        }
        if (e->type == CLUSTER_CHANGE)
                replica_note_change(s, index, e->payload);
        persistence_append(s->persistence, &entry);
        return 0;
}

int replica_store(struct store *s, uint64_t first, const struct cluster_entry *entries, unsigned count)
{
        int r = 0;

        if (first <= persistence_last_index(s->persistence)) {
                if (!store_is_mutant(s, STORE_MUTANT_CHANGES_KEPT))
                        drop_changes_from(s, first);
                /* A configuration that comes into the place of one that was told is to be told as well. */
                if (s->told_members >= first)
                        s->told_members = 0;
                r = persistence_truncate(s->persistence, first);
        }
        for (unsigned i = 0; i < count && !r; i++)
                r = store_entry(s, first + i, &entries[i]);
        return fault_fold(r);
}

static int carry_out(struct store *s, const struct cluster_update *u)
{
        int r;

        if (u->has_term_or_vote && !store_is_mutant(s, STORE_MUTANT_TERM_LOST)) {
                r = persistence_save_vote(s->persistence, u->term,
                        store_is_mutant(s, STORE_MUTANT_VOTE_LOST) ? 0 : u->voted_for);
                if (r)
                        return fault_fold(r);
        }
        if (u->entry_count) {
                r = replica_store(s, u->first_index, u->entries, u->entry_count);
                if (r)
                        return fault_fold(r);
        }
        if (u->has_install) {
                r = catch_up_begin(s, u);
                if (r)
                        return fault_fold(r);
        }
        if (u->message_count)
                replication_send(s, u);
        if (u->has_commit_index)
                s->commit_index = MAX(s->commit_index, u->commit_index);
        arm_engine(s, u->timeout_us);
        return 0;
}

int replica_carry_out(struct store *s, const struct cluster_update *u)
{
        int r;

        assert(!s->is_carrying);
        s->is_carrying = true;
        r = carry_out(s, u);
        s->is_carrying = false;
        return r;
}

static int step_configured(struct store *s)
{
        struct cluster_update u;
        int r = cluster_raft_configured(s->raft, os_monotonic_us(s->os), s->changes[0].index,
                buffer_bytes(&s->changes[0].payload), &u);

        if (!r)
                r = replica_carry_out(s, &u);
        if (!r)
                drop_first_change(s);
        return fault_fold(r);
}

static int step_written(struct store *s)
{
        struct cluster_update u;
        int r;

        s->has_written = false;
        if (s->catch_up.is_on)
                return 0; /* the engine asks for nothing but the end of it */
        r = cluster_raft_persisted(s->raft, os_monotonic_us(s->os),
                store_is_mutant(s, STORE_MUTANT_EARLY_PERSISTED) ? persistence_last_index(s->persistence)
                                                                 : persistence_synced_index(s->persistence),
                &u);
        return r ? fault_fold(r) : replica_carry_out(s, &u);
}

/* Makes visible what is committed and stored; then the answers. */
static int apply(struct store *s)
{
        uint64_t index = MIN(s->commit_index, persistence_synced_index(s->persistence));
        int r;

        if (store_is_mutant(s, STORE_MUTANT_PAST_STORED))
                index = s->commit_index;
        if (s->catch_up.is_on)
                index = MIN(index, s->catch_up.verified_index);
        if (index <= s->applied_index)
                return 0;
        if (s->applied_index < s->foreign_through) {
                r = follow_entries(s, s->applied_index + 1, MIN(index, s->foreign_through));
                if (r)
                        return r > 0 ? fault_raise(-EBADMSG) : fault_fold(r);
        }
        s->applied_index = index;
        persistence_commit(s->persistence, index);
        pendings_commit(s, index);
        return 0;
}

static void push_commit(struct store *s)
{
        struct cluster_update u;

        if (!s->is_leading || !s->replication.count)
                return;
        cluster_raft_push_commit(s->raft, &u);
        if (u.message_count)
                replication_send(s, &u);
}

static int go_on(struct store *s)
{
        bool has_moved = false;
        int r = 0;

        do {
                if (s->has_written)
                        r = step_written(s);
                if (!r)
                        r = apply(s);
                if (!r && s->change_count && s->changes[0].index <= s->applied_index)
                        r = step_configured(s);
                if (!r)
                        r = catch_up_go_on(s, &has_moved);
        } while (!r && (has_moved || s->has_written ||
                               (s->change_count && s->changes[0].index <= s->applied_index)));
        return r;
}

void replica_stepped(struct store *s, int r)
{
        if (s->state == STORE_FAILED)
                return;
        if (r) {
                store_fail(s, "consensus");
                return;
        }
        if (s->is_settling)
                return;
        s->is_settling = true;
        r = go_on(s);
        s->is_settling = false;
        if (r) {
                store_fail(s, "consensus");
                return;
        }
        replication_open_dam(s);
        push_commit(s);
        office_look(s);
        grow_look(s);
        waits_go_on(s);
        members_go_on(s);
}

/* ---- group commit ---- */

static void on_written(void *arg, int result)
{
        struct store *s = arg;

        if (s->state == STORE_FAILED)
                return;
        if (result) {
                store_fail(s, "the log cannot be written");
                return;
        }
        s->has_written = true;
        if (!s->is_carrying)
                replica_stepped(s, 0);
}
enum sync_choice { SYNC_BY_LOOP, SYNC_BY_LANE, SYNC_LATER };

/* The one decision of how a group is synced. Light load: by the loop itself, since handing over costs half a
 * sync. When the last groups were large: by the lane, so that the next group gathers meanwhile. */
static enum sync_choice choose_sync(struct store *s)
{
        unsigned under_way = persistence_writes(s->persistence);
        uint64_t bytes = s->group.size + persistence_group_size(s->persistence);

        if (under_way)
                return under_way < PERSISTENCE_WRITES_MAX && bytes >= SECOND_GROUP_BYTES ? SYNC_BY_LANE
                                                                                         : SYNC_LATER;
        if (s->options.sync != STORE_SYNC_AUTO)
                return s->options.sync == STORE_SYNC_LANE ? SYNC_BY_LANE : SYNC_BY_LOOP;
        /* There and back at different loads, so that it does not change with every group. */
        if (s->recent_appends >= LANE_APPENDS * 16 || s->recent_bytes >= LANE_BYTES)
                s->prefers_lane = true;
        else if (s->recent_appends < LANE_APPENDS * 8 && s->recent_bytes < LANE_BYTES / 2)
                s->prefers_lane = false;
        return s->prefers_lane ? SYNC_BY_LANE : SYNC_BY_LOOP;
}

static void note_group(struct store *s, bool on_lane)
{
        s->stats.groups++;
        s->stats.groups_on_lane += on_lane;
        s->recent_appends = (s->recent_appends * 7 + s->gathered_count * 16) / 8;
        s->recent_bytes = (s->recent_bytes * 7 + s->group.size) / 8;
}

static int submit_gathered(struct store *s)
{
        struct cluster_update u;
        unsigned n = 0;
        int r;

        if (s->gathered_count > s->entry_capacity) {
                s->entry_capacity = MAX(s->gathered_count, 64);
                s->entries = memory_resize(s->entries, s->entry_capacity * sizeof(*s->entries));
        }
        LIST_EACH (at, &s->gathering)
                s->entries[n++] = (struct cluster_entry){
                        .type = CLUSTER_COMMAND, .cookie = CONTAINER_OF(at, struct pending, link)};
        assert(n == s->gathered_count);
        r = cluster_raft_submit(s->raft, os_monotonic_us(s->os), s->entries, n, &u);
        if (r == CLUSTER_NOT_LEADER)
                return CLUSTER_NOT_LEADER;
        if (!r)
                r = replica_carry_out(s, &u);
        if (r)
                return fault_fold(r);
        while (!list_is_empty(&s->gathering)) {
                struct list *at = s->gathering.next;

                list_remove(at);
                list_add_last(&s->in_flight, at);
        }
        return 0;
}

/* Gives the gathered appends to the engine and writes what it wants written. Once in a turn: what the answers
 * append is left to the next, or one client could keep the loop from all others. */
void replica_flush(struct store *s)
{
        enum sync_choice choice;

        if (s->state == STORE_FAILED || !s->persistence || !s->raft)
                return;
        if (list_is_empty(&s->gathering) && !persistence_group_size(s->persistence)) {
                persistence_rest(s->persistence);
                return;
        }
        choice = choose_sync(s);
        if (choice == SYNC_LATER)
                return;
        if (s->gathered_count && !s->grow.is_holding) {
                int r = submit_gathered(s);

                /* Leadership is being handed over: until it is, or until that has failed, appends wait. */
                s->is_held = r == CLUSTER_NOT_LEADER;
                if (s->is_held && !persistence_group_size(s->persistence))
                        return;
                if (r && r != CLUSTER_NOT_LEADER) {
                        store_fail(s, "consensus");
                        return;
                }
                if (!r) {
                        note_group(s, choice == SYNC_BY_LANE);
                        pendings_group_left(s);
                }
        }
        if (s->options.mutant_ack_before_sync)
                pendings_answer_gathered(s);
        if (choice == SYNC_BY_LOOP)
                replication_flush(s); /* the other nodes write while this one does */
        persistence_write(s->persistence, choice == SYNC_BY_LOOP, on_written, s);
        replica_stepped(s, 0);
}

void replica_on_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        struct cluster_update u;
        int r = cluster_raft_timeout(s->raft, os_monotonic_us(s->os), &u);

        replica_stepped(s, r ? r : replica_carry_out(s, &u));
}

void replica_on_sealed(void *arg, const struct persistence_sealed *sealed)
{
        struct store *s = arg;
        struct cluster_update u;
        int r = cluster_raft_sealed(s->raft, os_monotonic_us(s->os), sealed->index, sealed->term,
                sealed->configuration, sealed->configuration_index, &u);

        replica_stepped(s, r ? r : replica_carry_out(s, &u));
}

/* ---- turns ---- */

void replica_on_turn_end(struct os_turn_hook *hook)
{
        struct store *s = hook->arg;

        if (s->is_opening_on_lane) /* the log is not the loop's yet */
                return;
        replica_flush(s);
        pendings_at_turn_end(s);
        waits_at_turn_end(s);
        replication_flush(s);
        opening_post_close(s);
        /* Answers may have appended again: that is the next turn's group. */
        if (s->state != STORE_FAILED && !s->is_held && !s->grow.is_holding && !list_is_empty(&s->gathering) &&
                !persistence_writes(s->persistence))
                os_turn_again(s->os);
}
