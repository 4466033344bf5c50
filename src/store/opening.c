/* Opening and closing. The log is recovered on a lane, or at once; then the engine starts from what is there.
 * A store that is new begins with the configuration of its cluster: this node alone, or its founders, the
 * same entry on each; or with nothing, when it joins one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum {
        MEMORY_SIZE_DEFAULT = 128 * 1024 * 1024,
        IN_FLIGHT_SIZE_DEFAULT = 128 * 1024 * 1024,
        /* A member that finds no leader for so long opens for reads of what it has. */
        PATIENCE_US = 3 * 1000 * 1000,
};

void opening_end(struct store *s, int result, const char *problem)
{
        if (s->has_open_ended)
                return;
        s->has_open_ended = true;
        if (s->options.on_open)
                s->options.on_open(s->options.arg, result, problem);
}

void opening_phase(struct store *s, enum subsystem phase)
{
        if (s->options.on_phase)
                s->options.on_phase(s->options.arg, phase);
}

void opening_ready(struct store *s)
{
        struct fact_payload payload = {
                .position = s->next_position, .duration_us = os_monotonic_us(s->os) - s->opened_at_us};

        if (s->state != STORE_STARTING || s->wants_close)
                return;
        os_timer_stop(&s->patience);
        s->state = STORE_READY;
        fact_set_text(&payload, "%s", s->name);
        control_publish(s->control, FACT_store_opened, &payload);
        opening_phase(s, SUBSYSTEM_STORE);
        opening_end(s, 0, "");
}

static void on_patience_ended(struct os_timer *timer)
{
        struct store *s = timer->arg;

        /* For those who wait for the whole start: there is no leader, and reads are worth having all the
         * same. */
        opening_phase(s, SUBSYSTEM_CLUSTER);
        opening_ready(s);
}

/* What recovery found, as the engine wants it. `entries` is the caller's to free. */
static struct cluster_start start_of(
        const struct persistence_recovered *rec, struct cluster_entry **ret_entries)
{
        struct cluster_entry *entries = memory_new_array(rec->entry_count + 1, sizeof(*entries));

        for (uint64_t i = 0; i < rec->entry_count; i++)
                entries[i] = (struct cluster_entry){
                        .term = rec->entries[i].term,
                        .type = entry_type_of(rec->entries[i].kind),
                        .payload = rec->entries[i].payload,
                };
        *ret_entries = entries;
        return (struct cluster_start){
                .term = rec->term,
                .voted_for = rec->voted_for,
                .base_index = rec->base_index,
                .base_term = rec->base_term,
                .base_configuration = rec->base_configuration,
                .base_configuration_index = rec->base_configuration_index,
                .entries = entries,
                .entry_count = rec->entry_count,
        };
}

/* The first entry of a new cluster, in `payload`. */
static int found_cluster(const struct store *s, const struct cluster_options *engine, struct buffer *payload)
{
        const struct cluster_configuration *founders = s->options.cluster.founders;
        int r = founders ? cluster_configuration_encode(founders, payload)
                         : cluster_configuration_single(engine->node_id, engine->address, payload);

        return fault_fold(r);
}

static void ignore_written(void *arg, int result)
{
        *(int *)arg = result;
}

static int write_first_entry(struct store *s, struct bytes payload)
{
        struct persistence_entry first = {
                .index = 1, .term = 1, .kind = RECORD_CONFIGURATION, .payload = payload};
        int written = 0;

        persistence_append(s->persistence, &first);
        persistence_write(s->persistence, true, ignore_written, &written);
        return fault_fold(written);
}

static int found(struct store *s, const struct cluster_options *engine, struct cluster_start *start,
        struct cluster_entry *entry, struct buffer *payload)
{
        int r = found_cluster(s, engine, payload);

        start->term = MAX(start->term, 1);
        /* Before the entry, which must not be of a term that the vote has not seen. */
        if (!r)
                r = persistence_save_vote(s->persistence, start->term, start->voted_for);
        if (!r)
                r = write_first_entry(s, buffer_bytes(payload));
        if (r)
                return fault_fold(r);
        *entry = (struct cluster_entry){.term = 1, .type = CLUSTER_CHANGE, .payload = buffer_bytes(payload)};
        start->entry_count = 1;
        return 0;
}

static void note_changes(struct store *s, const struct cluster_start *start)
{
        for (uint64_t i = 0; i < start->entry_count; i++)
                if (start->entries[i].type == CLUSTER_CHANGE)
                        replica_note_change(s, start->base_index + 1 + i, start->entries[i].payload);
}

static int start_engine(struct store *s, const struct cluster_options *engine, struct cluster_start *start,
        struct cluster_entry *entries)
{
        bool is_new = start->base_index == 0 && start->entry_count == 0;
        struct buffer payload = {0};
        struct cluster_update u;
        int r = 0;

        if (is_new && !s->options.cluster.joins)
                r = found(s, engine, start, &entries[0], &payload);
        if (!r && cluster_start_needs_term(engine, start, &start->term, &start->voted_for))
                r = persistence_save_vote(s->persistence, start->term, start->voted_for);
        if (!r)
                r = cluster_raft_new(engine, &s->raft);
        if (!r) {
                note_changes(s, start);
                s->applied_index = start->base_index;
                s->commit_index = start->base_index;
                s->foreign_through = persistence_last_index(s->persistence);
                r = cluster_raft_start(s->raft, os_monotonic_us(s->os), start, &u);
        }
        buffer_fini(&payload);
        return r ? r : replica_carry_out(s, &u);
}

static void start_on_loop(struct store *s)
{
        struct persistence_identity identity = persistence_node_identity(s->options.node);
        const struct store_cluster *cluster = &s->options.cluster;
        struct cluster_options engine = {.node_id = identity.node_id,
                .address = cluster->address ? cluster->address : "localhost",
                .election_timeout_ms = cluster->election_timeout_ms,
                .trailing = cluster->trailing,
                .mutants = store_is_mutant(s, STORE_MUTANT_INSTALLING_MUTE) ? 1u << 21 : 0};
        const struct persistence_recovered *rec;
        struct cluster_entry *entries;
        struct cluster_start start;
        int r;

        s->state = STORE_STARTING;
        s->node_id = identity.node_id;
        s->heads.persistence = s->persistence;
        persistence_start(s->persistence);
        rec = persistence_recovered(s->persistence);
        s->next_position = rec->next_position;
        s->last_time_us = rec->last_time_us;
        os_random(s->os, &engine.seed, sizeof(engine.seed));
        opening_phase(s, SUBSYSTEM_PERSISTENCE);
        start = start_of(rec, &entries);
        r = start_engine(s, &engine, &start, entries);
        free(entries);
        persistence_recovered_free(s->persistence);
        if (r == CLUSTER_INVALID) {
                cluster_raft_free(&s->raft); /* messages may come to this node all the same */
                opening_end(s, PERSISTENCE_CORRUPT, "the log makes no sense to the consensus engine");
                return;
        }
        if (r) {
                store_fail(s, "start");
                return;
        }
        persistence_on_sealed(s->persistence, replica_on_sealed, s);
        mend_start(s);
        compare_start(s);
        if (cluster->is_member) {
                s->patience = (struct os_timer){.fn = on_patience_ended, .arg = s};
                os_timer_start(s->os, &s->patience, PATIENCE_US);
        }
        replica_flush(s);
        replica_stepped(s, 0);
}

/* Why the log did not open, for people. */
static const char *problem_of(int result)
{
        switch (result) {
        case PERSISTENCE_NOT_FOUND:
                return "there is no such store";
        case PERSISTENCE_FULL:
                return "the disk is full";
        default:
                return result > 0 ? persistence_problem() : fault_last();
        }
}

static void recover(struct store *s)
{
        struct persistence_options options = {
                .os = s->os,
                .control = s->control,
                .node = s->options.node,
                .store_name = s->name,
                .segment_size = s->options.segment_size,
                .segment_events_max = s->options.segment_events_max,
                .space_reserve = s->options.space_reserve,
                .scrub_us = s->options.scrub_us,
                .cache_size = s->options.memory_size - s->options.memory_size / 4,
                .store_uuid = s->options.cluster.store_uuid,
                .epoch = s->options.cluster.epoch,
                .may_cut_damage = s->options.cluster.is_member ? refetch_is_possible : NULL,
                .may_cut_arg = s,
                .must_exist = s->options.must_exist,
                .skip_crc = s->options.mutant_skip_crc,
                .skip_sync = s->options.mutant_skip_sync,
        };

        s->open_result = persistence_open(&options, &s->persistence);
        if (s->open_result)
                snprintf(s->problem, sizeof(s->problem), "%s", problem_of(s->open_result));
}

static void close_step(void *arg);

static void recovered(struct store *s)
{
        uint64_t lost_through;

        s->is_opening_on_lane = false;
        if (s->wants_close) {
                opening_post_close(s);
                return;
        }
        if (s->open_result)
                opening_end(s, s->open_result, s->problem);
        else if (persistence_lost(s->persistence, &lost_through))
                refetch_start(s);
        else
                start_on_loop(s);
}

static void work_recover(struct os_work *work)
{
        recover(work->arg);
}

static void work_recovered(struct os_work *work)
{
        recovered(work->arg);
}

static void recover_on_loop(void *arg)
{
        recover(arg);
        recovered(arg);
}

static void begin_to_open(struct store *s)
{
        s->is_opening_on_lane = true;
        if (s->options.open_on_loop) {
                os_post(s->os, recover_on_loop, s);
        } else {
                s->open_work = (struct os_work){.work = work_recover, .done = work_recovered, .arg = s};
                os_work_submit(s->os, OS_LANE_BACKGROUND, &s->open_work);
        }
}

void opening_again(struct store *s)
{
        assert(!s->raft && !s->is_close_posted);
        persistence_close(&s->persistence);
        begin_to_open(s);
}

/* What the caller's options borrow is kept. */
static void keep_cluster_options(struct store *s, const struct store_cluster *given)
{
        struct store_cluster *kept = &s->options.cluster;

        if (given->store_uuid)
                kept->store_uuid = memcpy(memory_new(16), given->store_uuid, 16);
        if (given->founders)
                kept->founders = memcpy(
                        memory_new(sizeof(*given->founders)), given->founders, sizeof(*given->founders));
        if (given->address)
                kept->address = memory_copy_string(given->address);
}

int store_open(const struct store_options *options, struct store **ret)
{
        struct store *s = MEMORY_NEW(struct store);

        s->options = *options;
        s->name = memory_copy_string(options->name);
        s->options.name = s->name;
        keep_cluster_options(s, &options->cluster);
        s->os = options->os;
        s->control = options->control;
        if (!s->options.memory_size)
                s->options.memory_size = MEMORY_SIZE_DEFAULT;
        if (!s->options.in_flight_size_max)
                s->options.in_flight_size_max = IN_FLIGHT_SIZE_DEFAULT;
        s->opened_at_us = os_monotonic_us(s->os);
        head_map_init(&s->heads, s->options.memory_size / 4);
        pendings_init(s);
        catch_up_init(s);
        mend_init(s);
        compare_init(s);
        refetch_init(s);
        grow_init(s);
        waits_init(s);
        s->engine_timer.fn = replica_on_timer;
        s->engine_timer.arg = s;
        s->hook.fn = replica_on_turn_end;
        s->hook.arg = s;
        os_turn_hook_add(s->os, &s->hook);
        begin_to_open(s);
        *ret = s;
        return 0;
}

/* ---- turns and the end ---- */

/* Nothing is under way any more, or never will be finished. */
static bool can_close(const struct store *s)
{
        if (s->is_opening_on_lane)
                return false;
        if (!s->persistence || s->state == STORE_FAILED)
                return true;
        return pendings_can_be_left(s) && !persistence_writes(s->persistence) &&
               !persistence_group_size(s->persistence);
}

void opening_post_close(struct store *s)
{
        if (!s->wants_close || s->is_close_posted || !can_close(s))
                return;
        s->is_close_posted = true;
        os_post(s->os, close_step, s);
}

static void release(struct store *s)
{
        assert(s->reader_count == 0);
        os_timer_stop(&s->engine_timer);
        os_timer_stop(&s->patience);
        waits_end_all(s);
        members_fini(s);
        forward_fini(s);
        catch_up_fini(s);
        mend_fini(s);
        compare_fini(s);
        refetch_fini(s);
        grow_fini(s);
        pendings_fini(s);
        head_map_fini(&s->heads);
        flying_ids_fini(&s->ids);
        cluster_raft_free(&s->raft);
        replication_fini(s);
        while (s->change_count)
                buffer_fini(&s->changes[--s->change_count].payload);
        free(s->changes);
        free((void *)s->options.cluster.store_uuid);
        free((void *)s->options.cluster.founders);
        free((void *)s->options.cluster.address);
        arena_fini(&s->scratch);
        free(s->entries);
        free(s->targets);
        free(s->name);
        free(s);
}

static void close_step(void *arg)
{
        struct store *s = arg;
        void (*on_closed)(void *) = s->on_closed;
        void *on_closed_arg = s->on_closed_arg;
        struct fact_payload payload = {.position = s->next_position};

        /* A timer may have submitted something since this was posted: that is finished first. */
        if (!can_close(s)) {
                s->is_close_posted = false;
                return;
        }
        fact_set_text(&payload, "%s", s->name);
        os_turn_hook_remove(&s->hook);
        persistence_close(&s->persistence);
        control_publish(s->control, FACT_store_closed, &payload);
        release(s);
        if (on_closed)
                on_closed(on_closed_arg);
}

void store_abandon(struct store **store)
{
        struct store *s = *store;

        *store = NULL;
        if (!s)
                return;
        /* Readers and the log go with the machine: to free them would close files that are gone. */
        s->reader_count = 0;
        os_turn_hook_remove(&s->hook);
        release(s);
}

void store_close(struct store **store, void (*on_closed)(void *arg), void *arg)
{
        struct store *s = *store;

        assert(s && !s->wants_close);
        *store = NULL;
        s->wants_close = true;
        s->on_closed = on_closed;
        s->on_closed_arg = arg;
        if (s->state == STORE_READY)
                s->state = STORE_CLOSING;
        if (s->options.cluster.is_member)
                pendings_bound(s);
        opening_post_close(s);
}
