/* What must be true at every moment, and at the end.
 *
 * While it runs: one leader in a term; what is applied at an index is the same on every node (chain hashes:
 * equal at one index means equal up to there); what a node shows never becomes less while it lives. At the
 * end, when all is healed: every node has the same events; what was acknowledged is there, once, where it was
 * said to be; what was refused is not; revisions have no gap. */
#include "room.h"

enum { MEND_TRIES_MAX = 200, MEND_TRY_US = 100 * 1000 };

/* By index, as first seen applied. What a run leaves behind is of an earlier run. */
struct seen_entry {
        uint64_t run;
        struct record_chain chain;
};
static struct seen_entry seen_entries[LOG_MAX];

/* By position, as first shown. */
enum { POSITIONS_MAX = 1 << 16 };
struct shown {
        uint64_t run;
        struct event_id id;
        uint64_t revision;
};
static struct shown shown[POSITIONS_MAX];
static uint64_t shown_end;
static uint64_t run_number;

void oracles_init(void)
{
        run_number++;
        shown_end = 0;
}

const char *const stream_names[STREAMS] = {"a-1", "a-2", "b-1", "b-2", "c", "d-x"};

unsigned oracles_find_stream(struct bytes name)
{
        unsigned i = 0;

        while (i < STREAMS && !bytes_equal(name, bytes_of_string(stream_names[i])))
                i++;
        return i;
}

void oracles_note_event(struct world *w, const struct node *n, const struct event_view *e)
{
        struct shown *s;

        if (e->position >= POSITIONS_MAX)
                return;
        s = &shown[e->position];
        shown_end = MAX(shown_end, e->position + 1);
        if (s->run != run_number)
                *s = (struct shown){run_number, e->id, e->revision};
        else if (memcmp(&s->id, &e->id, sizeof e->id) != 0 || s->revision != e->revision)
                world_fail(w, "node %u shows another event at position %llu than was shown before",
                        n->number + 1, (unsigned long long)e->position);
}

static void look_at_leader(struct world *w, const struct node *n, const struct store_cluster_status *status)
{
        uint64_t *leader;

        if (status->state != CLUSTER_LEADER || status->term >= TERMS_MAX)
                return;
        leader = &w->leader_of_term[status->term];
        if (*leader && *leader != n->node_id)
                world_fail(w, "nodes %llu and %llu lead in term %llu", (unsigned long long)*leader,
                        (unsigned long long)n->node_id, (unsigned long long)status->term);
        if (!*leader)
                w->totals->leaders++;
        *leader = n->node_id;
}

static void look_at_log(struct world *w, struct node *n, uint64_t index)
{
        struct record_chain chain;
        struct seen_entry *seen;
        uint64_t term;

        if (index == 0 || index >= LOG_MAX || index == n->looked_at || n->has_other_history ||
                persistence_entry_mark(store_persistence(n->store), index, &term, &chain))
                return;
        n->looked_at = index;
        seen = &seen_entries[index];
        if (seen->run != run_number) {
                *seen = (struct seen_entry){run_number, chain};
        } else if (memcmp(&chain, &seen->chain, sizeof chain) != 0) {
                world_fail(w,
                        "node %u has applied another log than others: it differs at or before entry %llu",
                        n->number + 1, (unsigned long long)index);
        }
}

void oracles_look(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++) {
                struct node *n = &w->nodes[i];
                struct store_cluster_status status;
                uint64_t next;

                if (!n->store || !n->has_opened || n->is_paused || n->is_doomed)
                        continue;
                subscribers_look(w, n);
                store_cluster_status(n->store, &status);
                look_at_leader(w, n, &status);
                look_at_log(w, n, status.applied_index);
                next = store_next_position(n->store);
                if (next < n->next_position)
                        world_fail(w, "node %u shows less than it did", n->number + 1);
                n->next_position = next;
                if (status.is_catching_up && n->catch_up_seen != status.catch_up_index) {
                        n->catch_up_seen = status.catch_up_index;
                        w->totals->catch_ups++;
                }
        }
}

static bool is_member(const struct store_cluster_status *status, uint64_t node_id)
{
        for (unsigned i = 0; i < status->count; i++)
                if (status->members[i].server.node_id == node_id)
                        return true;
        return false;
}

static bool has_same_members(const struct store_cluster_status *a, const struct store_cluster_status *b)
{
        if (a->count != b->count)
                return false;
        for (unsigned i = 0; i < a->count; i++)
                if (a->members[i].server.node_id != b->members[i].server.node_id ||
                        a->members[i].server.role != b->members[i].server.role)
                        return false;
        return true;
}

void oracles_tell(struct world *w)
{
        for (unsigned i = 0; i < w->count; i++) {
                const struct node *n = &w->nodes[i];
                struct store_cluster_status s;
                char members[100] = "";

                if (!n->store) {
                        world_tell(w, "node %u is down%s", i + 1, n->is_lost ? " for ever" : "");
                        continue;
                }
                store_cluster_status(n->store, &s);
                for (unsigned k = 0; k < s.count; k++)
                        snprintf(members + strlen(members), sizeof members - strlen(members), " %llu%s",
                                (unsigned long long)s.members[k].server.node_id,
                                s.members[k].server.role == CLUSTER_VOTER ? "" : "s");
                world_tell(w,
                        "node %u: state %d term %llu leader %llu, log to %llu, committed %llu, applied "
                        "%llu%s, "
                        "members%s%s",
                        i + 1, s.state, (unsigned long long)s.term, (unsigned long long)s.leader_id,
                        (unsigned long long)s.last_index, (unsigned long long)s.commit_index,
                        (unsigned long long)s.applied_index, s.is_catching_up ? ", catching up" : "", members,
                        n->is_flipped ? "; its disk was damaged" : "");
        }
}

bool oracles_have_converged(struct world *w)
{
        struct node *leader = find_leader(w);
        struct store_cluster_status status;

        if (!leader || !store_is_ready(leader->store))
                return false;
        store_cluster_status(leader->store, &status);
        if (status.applied_index != status.last_index)
                return false;
        for (unsigned i = 0; i < w->count; i++) {
                struct store_cluster_status other;

                if (!is_member(&status, w->nodes[i].node_id) || w->nodes[i].is_lost || w->nodes[i].is_broken)
                        continue;
                if (!w->nodes[i].store || !store_is_ready(w->nodes[i].store))
                        return false;
                store_cluster_status(w->nodes[i].store, &other);
                if (other.applied_index != status.applied_index || other.leader_id != leader->node_id ||
                        !has_same_members(&other, &status))
                        return false;
        }
        return true;
}

/* ---- the end ---- */

struct seen {
        uint64_t position;
        uint64_t revision;
        unsigned times;
};

/* By revision, at the end. */
static uint64_t position_of[STREAMS][POSITIONS_MAX];

struct reader {
        struct world *world;
        struct node *node;
        struct seen *seen; /* by id */
        bool is_first, is_whole;
        uint64_t next; /* position */
        uint64_t revisions[STREAMS];
        int64_t time_us; /* of the last event */
        struct store_reader *reader;
};

static void take_event(struct reader *r, const struct event_view *e)
{
        unsigned i = oracles_find_stream(e->stream);
        uint64_t id = get_u32(e->id.bytes);

        if (e->position != r->next)
                world_fail(r->world, "node %u: position %llu comes where %llu should", r->node->number + 1,
                        (unsigned long long)e->position, (unsigned long long)r->next);
        r->next = e->position + 1;
        oracles_note_event(r->world, r->node, e);
        if ((int64_t)e->time_us < r->time_us)
                world_fail(r->world, "node %u: the time of position %llu is before that of the one before it",
                        r->node->number + 1, (unsigned long long)e->position);
        r->time_us = (int64_t)e->time_us;
        if (i == STREAMS)
                return;
        if (e->revision != r->revisions[i]++)
                world_fail(r->world, "node %u: revision %llu of %s comes out of order", r->node->number + 1,
                        (unsigned long long)e->revision, stream_names[i]);
        if (r->is_first && id < r->world->next_id) {
                r->seen[id].position = e->position;
                r->seen[id].revision = e->revision;
                r->seen[id].times++;
        }
        if (r->is_first && e->revision < POSITIONS_MAX)
                position_of[i][e->revision] = e->position;
}

/* Blocks for cold reads: nothing else needs to run here. */
static void read_all(struct reader *r)
{
        struct store_read_options options = {.limit = UINT64_MAX};
        struct store_read_item item;
        int result = store_reader_open(r->node->store, &options, &r->reader);

        while (!result || result == STORE_READ_YIELD) {
                result = store_reader_next(r->reader, &item);
                if (!result)
                        take_event(r, &item.event);
        }
        r->is_whole = result == STORE_READ_END;
        if (!r->is_whole)
                world_fail(r->world, "node %u: reading everything gave %d", r->node->number + 1, result);
        store_reader_close(&r->reader);
}

static bool is_readable(struct node *n)
{
        struct store_read_options options = {.limit = UINT64_MAX};
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int result = STORE_READ_CORRUPT;

        if (n->store && store_is_ready(n->store))
                result = store_reader_open(n->store, &options, &reader);
        while (!result || result == STORE_READ_YIELD)
                result = store_reader_next(reader, &item);
        store_reader_close(&reader);
        return result == STORE_READ_END;
}

/* What a read finds damaged is fetched from the others, who have it. */
void oracles_mend(struct world *w)
{
        struct node *leader = find_leader(w);
        struct store_cluster_status status;

        if (!leader)
                return;
        store_cluster_status(leader->store, &status);
        for (unsigned i = 0; i < w->count && !w->result->has_failed; i++) {
                struct node *n = &w->nodes[i];
                unsigned tries = 0;

                if (!n->is_flipped || n->is_broken || n->is_lost || !is_member(&status, n->node_id))
                        continue;
                if (!is_readable(n))
                        w->totals->mended++;
                while (!is_readable(n) && ++tries < MEND_TRIES_MAX)
                        os_sim_world_run_for(w->sim, MEND_TRY_US);
                if (tries == MEND_TRIES_MAX)
                        world_fail(w, "node %u was damaged and does not mend itself", i + 1);
        }
}

/* What it said was so at some moment between question and answer. */
static void judge_conflict(struct world *w, const struct conflict *c, const uint64_t *ends)
{
        uint64_t next = c->has_revision ? c->revision + 1 : 0;

        if (next > ends[c->stream])
                world_fail(w, "a refusal named revision %llu of %s, which there never was",
                        (unsigned long long)c->revision, stream_names[c->stream]);
        else if (next < ends[c->stream] && position_of[c->stream][next] < c->must_see)
                world_fail(w, "a refusal named revision %lld of %s, when more was acknowledged before",
                        (long long)next - 1, stream_names[c->stream]);
        if ((c->expected.kind == EXPECTED_EXACT && next == c->expected.revision + 1) ||
                (c->expected.kind == EXPECTED_NONE && !next))
                world_fail(w, "a refusal named the revision that was expected");
}

static void judge_op(struct world *w, const struct op *op, const struct seen *seen)
{
        for (unsigned i = 0; i < op->event_count; i++) {
                const struct seen *s = &seen[op->first_id + i];

                if (s->times > 1)
                        world_fail(w, "append %llu: an event of it is there %u times",
                                (unsigned long long)op->number, s->times);
                if (op->is_acknowledged && s->times == 0)
                        world_fail(w, "append %llu was acknowledged at %llu and is lost",
                                (unsigned long long)op->number, (unsigned long long)op->first_position);
                if (op->is_acknowledged && s->times && s->position != op->first_position + i)
                        world_fail(w, "append %llu was acknowledged at %llu and stands at %llu",
                                (unsigned long long)op->number, (unsigned long long)op->first_position,
                                (unsigned long long)s->position - i);
                if (s->times && s->position < op->must_follow)
                        world_fail(w, "append %llu stands before what was acknowledged before it was asked",
                                (unsigned long long)op->number);
                if (!op->is_acknowledged && !op->may_be_there && !op->open && s->times)
                        world_fail(w, "append %llu was refused and is there", (unsigned long long)op->number);
                if (s->times != seen[op->first_id].times)
                        world_fail(w, "append %llu is there in part", (unsigned long long)op->number);
                if (s->times && op->expected.kind == EXPECTED_EXACT &&
                        s->revision != op->expected.revision + 1 + i)
                        world_fail(w, "append %llu stands at a revision that it did not expect",
                                (unsigned long long)op->number);
                if (s->times && op->expected.kind == EXPECTED_NONE && s->revision != i)
                        world_fail(w, "append %llu expected no stream", (unsigned long long)op->number);
        }
}

void oracles_judge(struct world *w)
{
        struct seen *seen = memory_new_array(w->next_id + 1, sizeof *seen);
        struct node *leader = find_leader(w);
        struct store_cluster_status status;
        uint64_t next = 0, ends[STREAMS] = {0};
        bool is_first = true;

        if (!leader) {
                world_fail(w, "no leader at the end");
                free(seen);
                return;
        }
        store_cluster_status(leader->store, &status);
        for (unsigned i = 0; i < w->count && !w->result->has_failed; i++) {
                struct reader r = {.world = w, .node = &w->nodes[i], .seen = seen, .is_first = is_first};

                if (!is_member(&status, w->nodes[i].node_id) || !w->nodes[i].store)
                        continue;
                read_all(&r);
                if (!r.is_whole) {
                        if (is_first)
                                memset(seen, 0, (w->next_id + 1) * sizeof *seen);
                        continue;
                }
                if (is_first)
                        memcpy(ends, r.revisions, sizeof ends);
                if (!is_first && r.next != next)
                        world_fail(w, "node %u has %llu events, others %llu", i + 1,
                                (unsigned long long)r.next, (unsigned long long)next);
                next = r.next;
                is_first = false;
        }
        if (shown_end > next)
                world_fail(w, "position %llu was shown, and the log ends at %llu",
                        (unsigned long long)shown_end - 1, (unsigned long long)next);
        if (is_first)
                world_fail(w, "nobody has all events any more");
        LIST_EACH (at, &w->ops)
                judge_op(w, CONTAINER_OF(at, struct op, link), seen);
        subscribers_judge(w);
        LIST_EACH (at, &w->conflicts)
                judge_conflict(w, CONTAINER_OF(at, struct conflict, link), ends);
        free(seen);
}
