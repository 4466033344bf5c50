/* The office of the leader: what begins when this node may write, and what ends when it leads no more. And
 * what the rest of the process is told of who leads. */
#include "store/room.h"

static void first_event_done(void *arg, const struct store_append_result *result);

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

static void first_event_done(void *arg, const struct store_append_result *result)
{
        struct store *s = arg;

        s->wrote_first = false;
        if (s->state != STORE_STARTING || s->wants_close)
                return;
        if (result->verdict == STORE_OK)
                opening_ready(s);
        else if (result->verdict == STORE_FULL)
                opening_end(s, PERSISTENCE_FULL, result->problem);
        /* Otherwise another node leads by now, and its log has such an event. */
}

/* ---- what others are told ---- */

static void publish_leader(struct store *s, uint64_t leader_id, uint64_t term)
{
        struct fact_payload payload = {.node_id = leader_id};

        if (leader_id == s->told_leader && term == s->told_term)
                return;
        control_set_term(s->control, term);
        if (leader_id)
                control_publish(s->control, FACT_leader_changed, &payload);
        else if (s->told_leader)
                control_publish(s->control, FACT_leader_lost, &payload);
        s->told_leader = leader_id;
        s->told_term = term;
}

static void tell_members(struct store *s)
{
        struct cluster_configuration configuration;
        uint64_t index;
        bool is_committed;

        /* After every step, so most often there is nothing to tell. */
        if (!s->options.cluster.is_member || cluster_raft_configuration_index(s->raft) == s->told_members)
                return;
        cluster_raft_configuration(s->raft, &configuration, &index, &is_committed);
        s->told_members = index;
        replication_follow_members(s, &configuration);
        if (s->options.cluster.on_members)
                s->options.cluster.on_members(s->options.cluster.arg, &configuration);
}

/* ---- the office ---- */

/* An entry of the own term is committed, and what came before it is visible: from here on it leads (G9). */
static void begin(struct store *s)
{
        s->is_leading = true;
        s->next_position = persistence_appended_position(s->persistence);
        opening_phase(s, SUBSYSTEM_CLUSTER);
        publish_leader(s, s->node_id, cluster_raft_term(s->raft));
        if (s->next_position == 0 && !s->wrote_first && !s->wants_close) {
                s->wrote_first = true;
                write_first_event(s);
        } else if (!s->wrote_first) {
                opening_ready(s);
        }
}

static void end(struct store *s)
{
        s->is_leading = false;
        s->is_held = false;
        pendings_office_lost(s);
        waits_office_lost(s);
        members_office_lost(s);
}

void office_look(struct store *s)
{
        bool may_lead = cluster_raft_can_write(s->raft) && s->applied_index >= s->foreign_through;
        uint64_t leader_id = cluster_raft_leader(s->raft);

        tell_members(s);
        if (s->is_leading && cluster_raft_state(s->raft) != CLUSTER_LEADER)
                end(s);
        if (!s->is_leading && may_lead)
                begin(s);
        /* Told when it may write; while it hands its office over the engine names nobody, and it may keep it.
         */
        if (leader_id == s->node_id || s->is_leading)
                return;
        publish_leader(s, leader_id, cluster_raft_term(s->raft));
        if (leader_id && s->state == STORE_STARTING && !s->catch_up.is_on && s->applied_index > 0 &&
                s->applied_index >= MIN(s->commit_index, persistence_last_index(s->persistence))) {
                opening_phase(s, SUBSYSTEM_CLUSTER);
                opening_ready(s);
        }
}
