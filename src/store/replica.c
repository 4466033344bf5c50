/* The replica of a store on this node: opens it, steps the engine, carries out its updates (ARCHITECTURE.md,
 * consensus).
 *
 * The order of one update: term and vote durable; entries to the log's group; the group written and synced,
 * by this thread or by the LOG lane; then the engine is told what is durable; what it commits is made
 * visible, heads follow, answers go out. A step never begins inside another.
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
        MEMORY_SIZE_DEFAULT = 128 * 1024 * 1024,
        IN_FLIGHT_SIZE_DEFAULT = 128 * 1024 * 1024,
        /* Handing a group to the lane and back costs some 70 us: worth it when what the loop does for a group
         * takes longer, so that gathering the next group is done while this one is synced. */
        LANE_APPENDS = 8,
        LANE_BYTES = 128 * 1024,
        /* A second group goes behind the one under way only if it is large: small ones are better one. */
        SECOND_GROUP_BYTES = 1024 * 1024,
};

static void settle(struct store *s);
static void post_close(struct store *s);
static void on_turn_end(struct os_turn_hook *hook);

/* ---- the end of it all ---- */

static void end_open(struct store *s, int result, const char *problem)
{
        if (s->has_open_ended)
                return;
        s->has_open_ended = true;
        if (s->options.on_open)
                s->options.on_open(s->options.arg, result, problem);
}

void store_fail(struct store *s, const char *what)
{
        char problem[256];

        if (s->state == STORE_FAILED)
                return;
        s->state = STORE_FAILED;
        snprintf(problem, sizeof(problem), "%s: %s", what, fault_last());
        if (!s->options.on_disk_fault)
                fault_exit(EXIT_CODE_DISK_FAULT, "store %s: %s", s->name, problem);
        pendings_give_up(s);
        end_open(s, fault_raise(-EIO), problem); /* whoever waits for the opening must not wait for ever */
        s->options.on_disk_fault(s->options.arg, problem);
}

static void tell_phase(struct store *s, enum subsystem phase)
{
        if (s->options.on_phase)
                s->options.on_phase(s->options.arg, phase);
}

/* ---- carrying out updates ---- */

static void on_engine_timer(struct os_timer *timer);

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

static enum cluster_entry_type type_of(enum record_kind kind)
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

static void store_entry(struct store *s, uint64_t index, const struct cluster_entry *e)
{
        struct persistence_entry entry = {
                .index = index,
                .term = e->term,
                .kind = kind_of(e->type),
                .payload = e->payload,
        };
        struct pending *p = e->cookie;

        if (e->type == CLUSTER_COMMAND) {
                assert(p);
                p->index = index;
                entry.first_position = p->first_position;
                entry.event_count = p->event_count;
                entry.write_id = p->write_id;
                entry.payload = bytes_of(s->group.data + p->payload_start, p->payload_size);
        } else {
                /* Only at a start, with no append gathered: the next position is the log's. */
                assert(list_is_empty(&s->gathering));
                entry.first_position = s->next_position;
        }
        if (e->type == CLUSTER_CHANGE) {
                s->configuration_index = index;
                buffer_clear(&s->configuration);
                buffer_add_bytes(&s->configuration, e->payload);
        }
        persistence_append(s->persistence, &entry);
}

static int store_entries(struct store *s, const struct cluster_update *u)
{
        if (u->first_index <= persistence_last_index(s->persistence)) {
                int r = persistence_truncate(s->persistence, u->first_index);

                if (r)
                        return fault_fold(r);
        }
        for (unsigned i = 0; i < u->entry_count; i++)
                store_entry(s, u->first_index + i, &u->entries[i]);
        return 0;
}

static void publish_leader(struct store *s, const struct cluster_update *u)
{
        struct fact_payload payload = {.node_id = u->leader_id};

        if (u->state != CLUSTER_LEADER && u->leader_id == 0)
                return;
        control_set_term(s->control, cluster_raft_term(s->raft));
        control_publish(s->control, FACT_leader_changed, &payload);
}

/* Nothing of the update may be used after the next step, so it is finished here. */
static int carry_out(struct store *s, const struct cluster_update *u)
{
        int r;

        if (u->has_term_or_vote) {
                r = persistence_save_vote(s->persistence, u->term, u->voted_for);
                if (r)
                        return fault_fold(r);
        }
        if (u->entry_count) {
                r = store_entries(s, u);
                if (r)
                        return fault_fold(r);
        }
        if (u->has_commit_index)
                s->commit_index = MAX(s->commit_index, u->commit_index);
        if (u->has_state)
                publish_leader(s, u);
        arm_engine(s, u->timeout_us);
        return 0;
}

static int step_configured(struct store *s)
{
        struct cluster_update u;
        uint64_t index = s->configuration_index;
        int r;

        s->configuration_index = 0;
        r = cluster_raft_configured(
                s->raft, os_monotonic_us(s->os), index, buffer_bytes(&s->configuration), &u);
        return r ? fault_fold(r) : carry_out(s, &u);
}

static void first_event_done(void *arg, const struct store_append_result *result);

/* A fresh store is not empty: its first event says what it is, and readers of everything find something. */
static void write_first_event(struct store *s)
{
        struct store_append_stream stream = {
                .stream = BYTES_LITERAL("$nilo-store"), .expected = {.kind = EXPECTED_ANY}};
        struct store_append_event event = {
                .draft = {.type = BYTES_LITERAL("$nilo-store-created"), .content_type = CONTENT_JSON}};
        struct store_append append = {
                .streams = &stream,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(s->control),
        };
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        json_object_begin(&j);
        json_field_string(&j, "store", s->name);
        json_field_string(&j, "uuid", persistence_store_uuid(s->persistence));
        json_field_string(&j, "version", NILO_VERSION);
        json_object_end(&j);
        event.draft.data = buffer_bytes(&body);
        os_random(s->os, event.draft.id.bytes, sizeof(event.draft.id.bytes));
        event_id_stamp_random(&event.draft.id);
        appends_take(s, &append, first_event_done, s);
        buffer_fini(&body);
}

static void become_ready(struct store *s)
{
        struct fact_payload payload = {
                .position = s->next_position, .duration_us = os_monotonic_us(s->os) - s->opened_at_us};

        assert(s->state == STORE_STARTING);
        s->state = STORE_READY;
        fact_set_text(&payload, "%s", s->name);
        control_publish(s->control, FACT_store_opened, &payload);
        tell_phase(s, SUBSYSTEM_STORE);
        end_open(s, 0, "");
}

static void first_event_done(void *arg, const struct store_append_result *result)
{
        struct store *s = arg;

        if (s->state != STORE_STARTING || s->wants_close)
                return;
        if (result->verdict == STORE_OK)
                become_ready(s);
        else
                end_open(s, result->verdict == STORE_FULL ? PERSISTENCE_FULL : fault_raise(-EIO),
                        result->problem);
}

/* An entry of the own term is committed: from here on it leads (G9). */
static void begin_leading(struct store *s)
{
        s->is_leading = true;
        tell_phase(s, SUBSYSTEM_CLUSTER);
        if (s->next_position == 0)
                write_first_event(s);
        else
                become_ready(s);
}

/* Makes visible what is committed and stored; then the answers. */
static void apply(struct store *s)
{
        uint64_t index = MIN(s->commit_index, persistence_synced_index(s->persistence));

        if (index <= s->applied_index)
                return;
        s->applied_index = index;
        persistence_commit(s->persistence, index);
        pendings_commit(s, index);
}

/* After each update: applies, and steps on as long as that gives the engine something to do. */
static void settle(struct store *s)
{
        int r = 0;

        if (s->is_settling || s->state == STORE_FAILED)
                return;
        s->is_settling = true;
        apply(s);
        while (!r && s->configuration_index && s->configuration_index <= s->applied_index) {
                r = step_configured(s);
                apply(s);
        }
        s->is_settling = false;
        if (r) {
                store_fail(s, "consensus");
                return;
        }
        if (s->state == STORE_STARTING && !s->wants_close && !s->is_leading &&
                cluster_raft_can_write(s->raft))
                begin_leading(s);
}

/* ---- group commit ---- */

static void on_written(void *arg, int result)
{
        struct store *s = arg;
        struct cluster_update u;
        int r;

        if (s->state == STORE_FAILED)
                return;
        if (result) {
                store_fail(s, "the log cannot be written");
                return;
        }
        r = cluster_raft_persisted(
                s->raft, os_monotonic_us(s->os), persistence_synced_index(s->persistence), &u);
        if (!r)
                r = carry_out(s, &u);
        if (r) {
                store_fail(s, "consensus");
                return;
        }
        settle(s);
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
        /* A sole voter cannot lose its office, so a refusal here is a fault. */
        r = cluster_raft_submit(s->raft, os_monotonic_us(s->os), s->entries, n, &u);
        if (!r)
                r = carry_out(s, &u);
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
static void flush(struct store *s)
{
        enum sync_choice choice;

        if (s->state == STORE_FAILED || !s->persistence || !s->raft)
                return;
        if (list_is_empty(&s->gathering) && !persistence_group_size(s->persistence))
                return;
        choice = choose_sync(s);
        if (choice == SYNC_LATER)
                return;
        if (s->gathered_count && submit_gathered(s)) {
                store_fail(s, "consensus");
                return;
        }
        note_group(s, choice == SYNC_BY_LANE);
        pendings_group_left(s);
        if (s->options.mutant_ack_before_sync)
                pendings_answer_gathered(s);
        persistence_write(s->persistence, choice == SYNC_BY_LOOP, on_written, s);
        settle(s);
}

static void on_engine_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        struct cluster_update u;
        int r = cluster_raft_timeout(s->raft, os_monotonic_us(s->os), &u);

        if (!r)
                r = carry_out(s, &u);
        if (r)
                store_fail(s, "consensus");
        else
                settle(s);
}

static void on_sealed(void *arg, const struct persistence_sealed *sealed)
{
        struct store *s = arg;
        struct cluster_update u;
        int r = cluster_raft_sealed(s->raft, os_monotonic_us(s->os), sealed->index, sealed->term,
                sealed->configuration, sealed->configuration_index, &u);

        if (!r)
                r = carry_out(s, &u);
        if (r)
                store_fail(s, "consensus");
        else
                settle(s);
}

/* ---- opening ---- */

/* What recovery found, as the engine wants it. `entries` is the caller's to free. */
static struct cluster_start start_of(
        const struct persistence_recovered *rec, struct cluster_entry **ret_entries)
{
        struct cluster_entry *entries = memory_new_array(rec->entry_count + 1, sizeof(*entries));

        for (uint64_t i = 0; i < rec->entry_count; i++)
                entries[i] = (struct cluster_entry){
                        .term = rec->entries[i].term,
                        .type = type_of(rec->entries[i].kind),
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

/* Adds the entry that makes this node the only voter of a new cluster. */
static int found_cluster(struct store *s, const struct cluster_options *engine, struct cluster_start *start,
        struct cluster_entry *entry)
{
        int r = cluster_configuration_single(engine->node_id, engine->address, &s->configuration);

        if (r)
                return fault_fold(r);
        start->term = MAX(start->term, 1);
        *entry = (struct cluster_entry){
                .term = 1, .type = CLUSTER_CHANGE, .payload = buffer_bytes(&s->configuration)};
        start->entry_count = 1;
        return 0;
}

static void ignore_written(void *arg, int result)
{
        *(int *)arg = result;
}

static int write_first_entry(struct store *s, const struct cluster_entry *entry)
{
        struct persistence_entry first = {
                .index = 1, .term = entry->term, .kind = RECORD_CONFIGURATION, .payload = entry->payload};
        int written = 0;

        persistence_append(s->persistence, &first);
        persistence_write(s->persistence, true, ignore_written, &written);
        return fault_fold(written);
}

static void note_last_configuration(struct store *s, const struct cluster_start *start)
{
        for (uint64_t i = start->entry_count; i > 0; i--) {
                if (start->entries[i - 1].type != CLUSTER_CHANGE)
                        continue;
                s->configuration_index = start->base_index + i;
                if (start->entries[i - 1].payload.data == s->configuration.data)
                        return;
                buffer_clear(&s->configuration);
                buffer_add_bytes(&s->configuration, start->entries[i - 1].payload);
                return;
        }
}

static int start_engine(struct store *s, const struct cluster_options *engine, struct cluster_start *start,
        struct cluster_entry *entries)
{
        bool is_new = start->base_index == 0 && start->entry_count == 0;
        struct cluster_update u;
        int r;

        if (is_new) {
                r = found_cluster(s, engine, start, &entries[0]);
                if (r)
                        return fault_fold(r);
        }
        if (cluster_start_needs_term(engine, start, &start->term, &start->voted_for)) {
                r = persistence_save_vote(s->persistence, start->term, start->voted_for);
                if (r)
                        return fault_fold(r);
        }
        note_last_configuration(s, start);
        r = cluster_raft_new(engine, &s->raft);
        if (r)
                return fault_fold(r);
        if (is_new) {
                r = write_first_entry(s, &entries[0]);
                if (r)
                        return fault_fold(r);
        }
        s->applied_index = start->base_index;
        s->commit_index = start->base_index;
        r = cluster_raft_start(s->raft, os_monotonic_us(s->os), start, &u);
        return r ? r : carry_out(s, &u);
}

static void start_on_loop(struct store *s)
{
        struct persistence_identity identity = persistence_node_identity(s->options.node);
        struct cluster_options engine = {.node_id = identity.node_id, .address = "localhost"};
        const struct persistence_recovered *rec;
        struct cluster_entry *entries;
        struct cluster_start start;
        int r;

        s->state = STORE_STARTING;
        s->heads.persistence = s->persistence;
        persistence_start(s->persistence);
        rec = persistence_recovered(s->persistence);
        s->next_position = rec->next_position;
        s->last_time_us = rec->last_time_us;
        os_random(s->os, &engine.seed, sizeof(engine.seed));
        tell_phase(s, SUBSYSTEM_PERSISTENCE);
        start = start_of(rec, &entries);
        r = start_engine(s, &engine, &start, entries);
        free(entries);
        persistence_recovered_free(s->persistence);
        if (r == CLUSTER_INVALID) {
                end_open(s, PERSISTENCE_CORRUPT, "the log makes no sense to the consensus engine");
                return;
        }
        if (r) {
                store_fail(s, "start");
                return;
        }
        persistence_on_sealed(s->persistence, on_sealed, s);
        flush(s);
        settle(s);
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
                .cache_size = s->options.memory_size - s->options.memory_size / 4,
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
        s->is_opening_on_lane = false;
        if (s->wants_close) {
                post_close(s);
                return;
        }
        if (s->open_result)
                end_open(s, s->open_result, s->problem);
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

int store_open(const struct store_options *options, struct store **ret)
{
        struct store *s = MEMORY_NEW(struct store);

        s->options = *options;
        s->name = memory_copy_string(options->name);
        s->options.name = s->name;
        s->os = options->os;
        s->control = options->control;
        if (!s->options.memory_size)
                s->options.memory_size = MEMORY_SIZE_DEFAULT;
        if (!s->options.in_flight_size_max)
                s->options.in_flight_size_max = IN_FLIGHT_SIZE_DEFAULT;
        s->opened_at_us = os_monotonic_us(s->os);
        head_map_init(&s->heads, s->options.memory_size / 4);
        pendings_init(s);
        s->engine_timer.fn = on_engine_timer;
        s->engine_timer.arg = s;
        s->hook.fn = on_turn_end;
        s->hook.arg = s;
        os_turn_hook_add(s->os, &s->hook);
        s->is_opening_on_lane = true;
        if (options->open_on_loop) {
                os_post(s->os, recover_on_loop, s);
        } else {
                s->open_work = (struct os_work){.work = work_recover, .done = work_recovered, .arg = s};
                os_work_submit(s->os, OS_LANE_BACKGROUND, &s->open_work);
        }
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
        return pendings_are_none(s) && !persistence_writes(s->persistence) &&
               !persistence_group_size(s->persistence);
}

static void post_close(struct store *s)
{
        if (!s->wants_close || s->is_close_posted || !can_close(s))
                return;
        s->is_close_posted = true;
        os_post(s->os, close_step, s);
}

static void on_turn_end(struct os_turn_hook *hook)
{
        struct store *s = hook->arg;

        if (s->is_opening_on_lane) /* the log is not the loop's yet */
                return;
        flush(s);
        pendings_at_turn_end(s);
        post_close(s);
        /* Answers may have appended again: that is the next turn's group. */
        if (s->state != STORE_FAILED && !list_is_empty(&s->gathering) && !persistence_writes(s->persistence))
                os_turn_again(s->os);
}

static void release(struct store *s)
{
        assert(s->reader_count == 0);
        os_timer_stop(&s->engine_timer);
        pendings_fini(s);
        head_map_fini(&s->heads);
        flying_ids_fini(&s->ids);
        cluster_raft_free(&s->raft);
        buffer_fini(&s->configuration);
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

        assert(can_close(s));
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
        post_close(s);
}
