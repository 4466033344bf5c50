#include "model.h"

#include <stdlib.h>

#include "base/memory.h"

void model_init(struct model *m, unsigned stream_count)
{
        assert(stream_count <= MODEL_STREAMS_MAX);
        *m = (struct model){.stream_count = stream_count};
}

void model_fini(struct model *m)
{
        for (unsigned i = 0; i < MODEL_STREAMS_MAX; i++) {
                free(m->streams[i].side[0].positions);
                free(m->streams[i].side[1].positions);
        }
        free(m->events);
        free(m->records);
        *m = (struct model){0};
}

/* ---- deciding ---- */

static const struct model_stream *stream_of(const struct model *m, uint32_t side)
{
        return &m->streams[side / 2];
}

static bool is_meta(uint32_t side)
{
        return side % 2;
}

static uint64_t next_of(const struct model *m, uint32_t side)
{
        return stream_of(m, side)->side[side % 2].count;
}

static const struct model_event *event_at(const struct model *m, uint32_t side, uint64_t revision)
{
        return &m->events[stream_of(m, side)->side[side % 2].positions[revision]];
}

static bool is_soft_deleted(const struct model *m, uint32_t side)
{
        return !is_meta(side) && stream_of(m, side)->limits.truncate_before == REVISION_MAX;
}

enum found { FOUND_WRITE, FOUND_DUPLICATE, FOUND_CONFLICT, FOUND_DELETED };

struct place {
        enum found found;
        uint64_t next; /* of a duplicate */
        uint64_t first_position;
        uint64_t position;
};

static bool same_id(const struct model_event *e, const struct model_draft *d)
{
        return e->has_id && event_id_equal(&e->id, &d->id);
}

static void note(struct place *place, unsigned seen, uint64_t revision, uint64_t position)
{
        if (seen == 0)
                place->first_position = position;
        place->next = revision + 1;
        place->position = position;
}

/* protocol 3.3, weak: the newest event with the id counts. */
static struct place by_memory(const struct model *m, const struct model_request *rq, unsigned target)
{
        const struct model_target *t = &rq->targets[target];
        struct place place = {.found = FOUND_DUPLICATE};
        unsigned seen = 0;

        for (unsigned i = 0; i < rq->event_count; i++) {
                uint64_t r = next_of(m, t->side);

                if (rq->events[i].target != target)
                        continue;
                while (r > 0 && !same_id(event_at(m, t->side, r - 1), &rq->events[i]))
                        r--;
                if (r == 0) {
                        place.found = seen ? FOUND_CONFLICT : FOUND_WRITE;
                        return place;
                }
                note(&place, seen++, r - 1, (uint64_t)(event_at(m, t->side, r - 1) - m->events));
        }
        return place;
}

/* protocol 3.3, strong: event i against the stored one at `first` + i. */
static struct place by_stored(
        const struct model *m, const struct model_request *rq, unsigned target, uint64_t first)
{
        const struct model_target *t = &rq->targets[target];
        struct place place = {.found = t->event_count ? FOUND_DUPLICATE : FOUND_CONFLICT};
        unsigned seen = 0;

        for (unsigned i = 0; i < rq->event_count; i++) {
                uint64_t r = first + seen;

                if (rq->events[i].target != target)
                        continue;
                if (r >= next_of(m, t->side) || !same_id(event_at(m, t->side, r), &rq->events[i])) {
                        place.found = FOUND_CONFLICT;
                        break;
                }
                note(&place, seen++, r, (uint64_t)(event_at(m, t->side, r) - m->events));
        }
        if (place.found == FOUND_CONFLICT && seen == 0 && t->expected.kind == EXPECTED_NONE &&
                is_soft_deleted(m, t->side))
                place.found = FOUND_WRITE;
        return place;
}

/* protocol 3.2 and, for what is only checked, 3.10. */
static struct place decide_target(const struct model *m, const struct model_request *rq, unsigned target)
{
        const struct model_target *t = &rq->targets[target];
        const struct model_stream *s = stream_of(m, t->side);
        uint64_t next = next_of(m, t->side);
        bool is_deleted = is_soft_deleted(m, t->side);
        bool has_metadata = !is_meta(t->side) && s->side[1].count > 0;
        bool is_check_only = rq->event_count > 0 && t->event_count == 0;
        struct place place = {.found = FOUND_WRITE};

        if (s->is_tombstoned) {
                place.found = t->expected.kind == EXPECTED_SOFT_DELETED            ? FOUND_CONFLICT
                              : t->expected.kind == EXPECTED_NONE && is_check_only ? FOUND_WRITE
                                                                                   : FOUND_DELETED;
                return place;
        }
        switch (t->expected.kind) {
        case EXPECTED_NONE:
                return next ? by_stored(m, rq, target, 0) : place;
        case EXPECTED_EXACT:
                if (t->expected.revision + 1 < next)
                        return by_stored(m, rq, target, t->expected.revision + 1);
                if (t->expected.revision + 1 > next)
                        place.found = FOUND_CONFLICT;
                return place;
        case EXPECTED_EXISTS:
                if (is_deleted) {
                        place.found = FOUND_DELETED;
                        return place;
                }
                if (!next && !has_metadata)
                        place.found = FOUND_CONFLICT;
                break;
        case EXPECTED_SOFT_DELETED:
                if (!is_deleted)
                        place.found = FOUND_CONFLICT;
                break;
        case EXPECTED_TOMBSTONED:
                place.found = FOUND_CONFLICT;
                break;
        case EXPECTED_ANY:
                break;
        }
        if (next && t->event_count) {
                struct place known = by_memory(m, rq, target);

                if (known.found != FOUND_WRITE)
                        return known;
        }
        return place;
}

static void note_rest(const struct model *m, const struct model_request *rq, struct model_answer *a)
{
        for (unsigned i = 0; i < rq->target_count; i++)
                a->rests_on = MAX(a->rests_on, stream_of(m, rq->targets[i].side)->changed);
}

struct model_answer model_decide(const struct model *m, const struct model_request *rq)
{
        struct place places[MODEL_TARGETS_MAX];
        struct model_answer a = {.verdict = STORE_OK};
        unsigned written = 0, duplicates = 0;

        for (unsigned i = 0; i < rq->target_count; i++) {
                places[i] = decide_target(m, rq, i);
                a.next[i] = next_of(m, rq->targets[i].side);
                written += rq->targets[i].event_count > 0;
                duplicates += rq->targets[i].event_count > 0 && places[i].found == FOUND_DUPLICATE;
        }
        if (written && written == duplicates) {
                a.is_duplicate = a.has_position = true;
                a.first_position = UINT64_MAX;
                for (unsigned i = 0; i < rq->target_count; i++) {
                        if (!rq->targets[i].event_count)
                                continue;
                        a.next[i] = places[i].next;
                        a.first_position = MIN(a.first_position, places[i].first_position);
                        a.position = MAX(a.position, places[i].position);
                }
                a.rests_on = a.position + 1;
                return a;
        }
        for (unsigned i = 0; i < rq->target_count; i++) {
                if (places[i].found == FOUND_WRITE)
                        continue;
                a.verdict = places[i].found == FOUND_DELETED ? STORE_STREAM_DELETED : STORE_CONFLICT;
                a.failed = i;
                a.is_soft_deleted = is_soft_deleted(m, rq->targets[i].side);
                note_rest(m, rq, &a);
                return a;
        }
        if (rq->kind == MODEL_DELETE && !next_of(m, rq->targets[0].side) &&
                !next_of(m, rq->targets[0].side + 1)) {
                a.verdict = STORE_CONFLICT;
                return a;
        }
        a.writes = rq->event_count > 0 || rq->kind != MODEL_APPEND;
        for (unsigned i = 0; i < rq->target_count; i++)
                a.writes |= is_soft_deleted(m, rq->targets[i].side);
        if (!a.writes)
                note_rest(m, rq, &a);
        return a;
}

/* ---- writing ---- */

static uint64_t add_event(struct model *m, const struct model_event *event)
{
        struct model_stream *s = &m->streams[event->side / 2];
        struct model_side *side = &s->side[event->side % 2];
        struct model_event *e;

        if (m->event_count == m->event_capacity) {
                m->event_capacity = MAX(m->event_capacity * 2, 1024);
                m->events = memory_resize(m->events, m->event_capacity * sizeof(*m->events));
        }
        e = &m->events[m->event_count];
        *e = *event;
        e->record = (uint32_t)m->record_count;
        s->changed = m->event_count + 1;
        if (e->revision == REVISION_MAX) {
                s->is_tombstoned = true;
                return m->event_count++;
        }
        if (side->count == side->capacity) {
                side->capacity = MAX(side->capacity * 2, 64);
                side->positions = memory_resize(side->positions, side->capacity * sizeof(*side->positions));
        }
        e->revision = side->count;
        side->positions[side->count++] = (uint32_t)m->event_count;
        if (is_meta(e->side))
                s->limits = e->limits;
        return m->event_count++;
}

static void add_record(struct model *m, uint64_t first_position, int64_t op)
{
        if (m->record_count == m->record_capacity) {
                m->record_capacity = MAX(m->record_capacity * 2, 1024);
                m->records = memory_resize(m->records, m->record_capacity * sizeof(*m->records));
        }
        m->records[m->record_count++] = (struct model_record){
                .first_position = first_position, .event_count = m->event_count - first_position, .op = op};
}

static uint64_t add_limits(struct model *m, uint32_t stream_side, struct stream_metadata limits)
{
        struct model_event e = {.side = stream_side + 1, .limits = limits};

        return add_event(m, &e);
}

/* The limits as they were, but with what was there before out of sight. */
static struct stream_metadata revived(struct stream_metadata limits, uint64_t next)
{
        limits.truncate_before = next;
        return limits;
}

static bool writes_side(const struct model_request *rq, uint32_t side)
{
        for (unsigned i = 0; i < rq->target_count; i++)
                if (rq->targets[i].side == side && rq->targets[i].event_count)
                        return true;
        return false;
}

static void write_append(struct model *m, const struct model_request *rq, struct model_answer *a)
{
        bool was_deleted[MODEL_TARGETS_MAX];
        uint64_t next_before[MODEL_TARGETS_MAX];

        for (unsigned i = 0; i < rq->target_count; i++) {
                uint32_t stream = rq->targets[i].side & ~1u;

                was_deleted[i] = is_soft_deleted(m, stream);
                next_before[i] = next_of(m, stream);
        }
        /* Writing to a deleted stream revives it, and so does an append of nothing (protocol 3.2). */
        for (unsigned i = 0; i < rq->target_count; i++) {
                const struct model_target *t = &rq->targets[i];
                bool is_written = t->event_count > 0 || rq->event_count == 0;

                if (is_written && is_soft_deleted(m, t->side) && !writes_side(rq, t->side + 1))
                        a->first_position = a->position = add_limits(
                                m, t->side, revived(stream_of(m, t->side)->limits, next_before[i]));
        }
        for (unsigned i = 0; i < rq->event_count; i++) {
                const struct model_draft *d = &rq->events[i];
                struct model_event e = {.id = d->id,
                        .has_id = true,
                        .content = d->content,
                        .side = rq->targets[d->target].side,
                        .limits = d->limits};

                a->position = add_event(m, &e);
                if (i == 0)
                        a->first_position = a->position;
        }
        for (unsigned i = 0; i < rq->target_count; i++)
                a->next[i] = next_of(m, rq->targets[i].side);
        /* Metadata of a deleted stream revives it as well. */
        for (unsigned i = 0; i < rq->target_count; i++) {
                const struct model_target *t = &rq->targets[i];

                if (is_meta(t->side) && t->event_count && was_deleted[i])
                        add_limits(m, t->side - 1, revived(stream_of(m, t->side)->limits, next_before[i]));
        }
}

void model_write(struct model *m, const struct model_request *rq, int64_t op, struct model_answer *a)
{
        uint64_t first = m->event_count;

        assert(a->writes);
        a->has_position = true;
        if (rq->kind == MODEL_APPEND) {
                write_append(m, rq, a);
        } else {
                uint32_t side = rq->targets[0].side;
                struct model_event tombstone = {.side = side, .revision = REVISION_MAX};

                a->first_position = a->position =
                        rq->kind == MODEL_TOMBSTONE
                                ? add_event(m, &tombstone)
                                : add_limits(
                                          m, side, (struct stream_metadata){.truncate_before = REVISION_MAX});
        }
        add_record(m, first, op);
        a->rests_on = m->event_count;
}

void model_write_first(struct model *m, unsigned stream)
{
        struct model_event e = {.side = stream * 2};

        add_event(m, &e);
        add_record(m, m->event_count - 1, -1);
}

bool model_is_boundary(const struct model *m, uint64_t position)
{
        if (position >= m->event_count)
                return position == m->event_count;
        return m->records[m->events[position].record].first_position == position;
}

/* By writing anew what stays. */
void model_truncate(struct model *m, uint64_t event_count)
{
        struct model old = *m;

        assert(model_is_boundary(m, event_count));
        for (unsigned i = 0; i < m->stream_count; i++) {
                m->streams[i].side[0].count = m->streams[i].side[1].count = 0;
                m->streams[i].is_tombstoned = false;
                m->streams[i].limits = STREAM_METADATA_NONE;
                m->streams[i].changed = 0;
        }
        m->events = NULL;
        m->event_count = m->event_capacity = m->record_count = 0;
        for (uint64_t i = 0; i < event_count; i++) {
                add_event(m, &old.events[i]);
                if (i + 1 == event_count || old.events[i + 1].record != old.events[i].record) {
                        uint64_t record = m->record_count;

                        add_record(m, old.records[record].first_position, old.records[record].op);
                }
        }
        free(old.events);
}

/* ---- reading ---- */

/* How many of a side's events are among the first `end`. */
static uint64_t count_below(const struct model *m, uint32_t side, uint64_t end)
{
        const struct model_side *s = &stream_of(m, side)->side[side % 2];
        uint64_t low = 0, high = s->count;

        while (low < high) {
                uint64_t middle = (low + high) / 2;

                if (s->positions[middle] < end)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* A tombstone is the last event of a stream and of its metastream. */
static bool is_tombstoned_below(const struct model *m, uint32_t side, uint64_t end)
{
        const struct model_stream *s = stream_of(m, side);

        return s->is_tombstoned && s->changed <= end;
}

struct model_view model_view(const struct model *m, uint32_t side, uint64_t end)
{
        struct model_view v = {.next = count_below(m, side, end)};
        struct stream_metadata limits = STREAM_METADATA_NONE;
        uint64_t metas = count_below(m, side | 1, end);

        if (is_meta(side)) {
                v.first = v.next ? v.next - 1 : 0;
                v.state = is_tombstoned_below(m, side, end) ? STREAM_TOMBSTONED
                          : v.next                          ? STREAM_LIVE
                                                            : STREAM_ABSENT;
                return v;
        }
        if (metas)
                limits = event_at(m, side | 1, metas - 1)->limits;
        if (limits.max_count && v.next > limits.max_count)
                v.first = v.next - limits.max_count;
        v.first = MIN(MAX(v.first, limits.truncate_before), v.next);
        v.state = is_tombstoned_below(m, side, end)        ? STREAM_TOMBSTONED
                  : limits.truncate_before == REVISION_MAX ? STREAM_SOFT_DELETED
                  : v.next                                 ? STREAM_LIVE
                  : metas                                  ? STREAM_METADATA_ONLY
                                                           : STREAM_ABSENT;
        return v;
}
